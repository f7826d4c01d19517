//! Configuration that is altered while the cluster runs: what it does, what is told of it, and what
//! is refused.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod configs;
mod frames;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use configs::{BROKER, TOPIC, ask_configs, put_text, text};
use frames::{Batch, header, produce, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, answer_on, only_answer, only_row, outcome, to_orders};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);
type Resource<'a> = (i8, &'a str, &'a [Change<'a>]);

/// IncrementalAlterConfigs, version 0.
fn alter(resources: &[Resource<'_>], validate_only: u8) -> Bytes {
    let count = |length: usize| i32::try_from(length).unwrap();
    let mut frame = header(44, 0, 1);
    frame.put_i32(count(resources.len()));
    for (kind, name, changes) in resources {
        frame.put_i8(*kind);
        put_text(&mut frame, name);
        frame.put_i32(count(changes.len()));
        for (key, operation, value) in *changes {
            put_text(&mut frame, key);
            frame.put_i8(*operation);
            match value {
                Some(value) => put_text(&mut frame, value),
                None => frame.put_i16(-1),
            }
        }
    }
    frame.put_u8(validate_only);
    frame.freeze()
}

/// Code and message of each resource.
fn altered(mut answer: Bytes) -> Vec<(i16, Option<String>)> {
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    let rows = (0..answer.get_i32()).map(|_| {
        let code = answer.get_i16();
        let message = if answer.starts_with(&[0xff, 0xff]) {
            answer.advance(2);
            None
        } else {
            Some(text(&mut answer))
        };
        answer.advance(1);
        let _name = text(&mut answer);
        (code, message)
    });
    let rows = rows.collect();
    assert!(answer.is_empty());
    rows
}

/// Asks broker 1.
fn ask(world: &mut World, resources: &[Resource<'_>]) -> Vec<(i16, Option<String>)> {
    let connection = world.connect(LEADER);
    altered(only_answer(world.send(connection, alter(resources, 0))))
}

fn set(world: &mut World, (kind, name): (i8, &str), key: &str, value: &str) {
    let changes = [(key, SET, Some(value))];
    assert_eq!(ask(world, &[(kind, name, &changes)]), [(0, None)]);
}

const ORDERS: (i8, &str) = (TOPIC, "orders");
const ALL_BROKERS: (i8, &str) = (BROKER, "");
const FIRST_BROKER: (i8, &str) = (BROKER, "1");

fn code(world: &mut World, batch: Batch) -> i16 {
    outcome(world.append(1, batch)).0
}

/// Value and source of a key.
fn told(world: &mut World, (kind, name): (i8, &str), key: &str) -> (String, i8) {
    let (code, mut entries) = ask_configs(world, kind, name, &[key]);
    assert_eq!((code, entries.len()), (0, 1));
    let entry = entries.remove(0);
    (entry.value, entry.source)
}

#[rstest]
#[case::size("max.message.bytes", "60", 10)]
#[case::future("message.timestamp.after.max.ms", "1000", 32)]
#[case::past("message.timestamp.before.max.ms", "0", 32)]
#[case::keys("cleanup.policy", "compact", 87)]
#[case::keys_of_both("cleanup.policy", "compact,delete", 87)]
fn what_is_altered_holds_for_the_next_batch_until_it_is_taken_back(
    #[case] key: &str,
    #[case] value: &str,
    #[case] expected: i16,
) {
    let mut world = World::new();
    let off_by_two_seconds = Batch {
        timestamp_ms: match key {
            "message.timestamp.after.max.ms" => 3_000,
            _ => 0,
        },
        ..Batch::plain(2)
    };
    assert_eq!(code(&mut world, off_by_two_seconds), 0);
    set(&mut world, ORDERS, key, value);
    assert_eq!(code(&mut world, off_by_two_seconds), expected);
    let undone = [(key, DELETE, None)];
    assert_eq!(ask(&mut world, &[(TOPIC, "orders", &undone)]), [(0, None)]);
    assert_eq!(code(&mut world, off_by_two_seconds), 0);
}

#[test]
fn codec_and_clock_hold_for_the_next_batch() {
    let mut world = World::new();
    set(&mut world, ORDERS, "compression.type", "gzip");
    set(
        &mut world,
        ORDERS,
        "message.timestamp.type",
        "LogAppendTime",
    );
    world.pass(Duration::from_secs(9));
    let row = only_row(world.append(-1, Batch::plain(1)));
    assert_eq!((row.code, row.log_append_time_ms), (0, 10_000));
    let key = world.engine.cluster().key("orders", 0).unwrap();
    let log = world.engine.cluster().partition(key).unwrap().log();
    let header = log.batches()[0].header;
    assert_eq!((header.attributes, header.max_timestamp), (0b1001, 10_000));
}

#[test]
fn who_waits_for_replicas_is_answered_when_fewer_are_enough() {
    let mut world = World::new();
    world.hold(SECOND);
    world.hold(THIRD);
    let connection = world.connect(LEADER);
    let batch = Batch::plain(1);
    let waiting = produce(-1, 60_000, "orders", &[(0, Some(batch.encode()))]);
    assert_eq!(world.send(connection, waiting), []);
    world.shrink(SECOND);
    world.shrink(THIRD);
    assert_eq!(outcome(world.append(-1, batch)).0, 19);
    let other = world.connect(LEADER);
    let changes = [("min.insync.replicas", SET, Some("1"))];
    let effects = world.send(other, alter(&[(TOPIC, "orders", &changes)], 0));
    let rows = produce_rows(answer_on(&effects, connection));
    assert_eq!((rows[0].code, rows[0].base_offset), (0, 0));
    assert_eq!(outcome(world.append(-1, batch)), (0, 1));
}

#[test]
fn a_partition_that_nobody_leads_is_led_when_anybody_may() {
    let mut world = World::configured(&[("min.insync.replicas", "1")]);
    for broker in [THIRD, SECOND] {
        world.shrink(broker);
    }
    world.make(&Move::CrashBroker { broker: LEADER });
    let leader = |world: &World| {
        let cluster = world.engine.cluster();
        cluster.leader(cluster.key("orders", 0).unwrap())
    };
    assert_eq!(leader(&world), None);
    let connection = world.connect(SECOND);
    let changes = [("unclean.leader.election.enable", SET, Some("true"))];
    let answer = world.send(connection, alter(&[(TOPIC, "orders", &changes)], 0));
    assert_eq!(altered(only_answer(answer)), [(0, None)]);
    assert_eq!(leader(&world), Some(SECOND));
}

#[test]
fn what_all_brokers_have_is_what_a_topic_has_that_says_nothing() {
    let mut world = World::new();
    set(&mut world, ALL_BROKERS, "message.max.bytes", "60");
    assert_eq!(code(&mut world, Batch::plain(1)), 10);
    assert_eq!(
        told(&mut world, ORDERS, "max.message.bytes"),
        ("60".into(), 3)
    );
    assert_eq!(
        told(&mut world, FIRST_BROKER, "message.max.bytes"),
        ("60".into(), 3)
    );
    set(&mut world, ORDERS, "max.message.bytes", "1000");
    assert_eq!(code(&mut world, Batch::plain(1)), 0);
    set(&mut world, ALL_BROKERS, "message.max.bytes", "90");
    assert_eq!(
        told(&mut world, ORDERS, "max.message.bytes"),
        ("1000".into(), 1)
    );
    let undone = [("max.message.bytes", DELETE, Some("ignored"))];
    assert_eq!(ask(&mut world, &[(TOPIC, "orders", &undone)]), [(0, None)]);
    assert_eq!(
        told(&mut world, ORDERS, "max.message.bytes"),
        ("90".into(), 3)
    );
    let (_, entries) = ask_configs(&mut world, BROKER, "", &[]);
    let listed: Vec<_> = entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.as_str(), entry.source))
        .collect();
    let expected = [
        ("message.max.bytes", "90", 3),
        ("min.insync.replicas", "1", 3),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn what_one_broker_has_holds_for_what_it_leads() {
    let mut world = World::new();
    set(&mut world, ALL_BROKERS, "message.max.bytes", "90");
    set(&mut world, FIRST_BROKER, "message.max.bytes", "60");
    assert_eq!(code(&mut world, Batch::plain(1)), 10);
    let connection = world.connect(SECOND);
    let batch = Batch::plain(1).encode();
    let rows = world.send(connection, produce(1, 0, "orders", &[(1, Some(batch))]));
    assert_eq!(
        only_row(rows).code,
        0,
        "the second broker leads partition 1"
    );
    let (_, entries) = ask_configs(&mut world, TOPIC, "orders", &["max.message.bytes"]);
    let synonym = |value: &str, source| ("message.max.bytes".to_owned(), value.to_owned(), source);
    let all = [synonym("60", 2), synonym("90", 3), synonym("1048588", 5)];
    assert_eq!((entries[0].value.as_str(), entries[0].source), ("60", 2));
    assert_eq!(entries[0].synonyms, all);
    let undone = [("message.max.bytes", DELETE, None)];
    assert_eq!(ask(&mut world, &[(BROKER, "1", &undone)]), [(0, None)]);
    assert_eq!(code(&mut world, Batch::plain(1)), 0);
}

#[test]
fn idle_producers_are_forgotten_as_the_broker_says_now() {
    let settings = [("producer.id.expiration.check.interval.ms", "1000")];
    let mut world = World::of_brokers(&settings, &[]);
    let batch = Batch::idempotent(7, 5, 1);
    assert_eq!(outcome(world.append(-1, batch)), (0, 0));
    set(
        &mut world,
        FIRST_BROKER,
        "producer.id.expiration.ms",
        "2000",
    );
    world.pass(Duration::from_millis(1_999));
    assert_eq!(outcome(world.append(-1, batch)), (0, 0), "a duplicate");
    world.pass(Duration::from_millis(2_001));
    assert_eq!(outcome(world.append(-1, batch)), (0, 1), "nobody knows it");
}

#[rstest]
#[case::append("compact", APPEND, "delete,compact")]
#[case::append_what_is_there("delete", APPEND, "delete")]
#[case::append_both("delete,compact", APPEND, "delete,compact")]
#[case::subtract("delete", SUBTRACT, "")]
#[case::subtract_what_is_not_there("compact", SUBTRACT, "delete")]
#[case::set("compact , delete,compact", SET, "compact,delete")]
#[case::set_to_nothing("", SET, "")]
fn lists_are_altered_by_their_words(
    #[case] value: &str,
    #[case] operation: i8,
    #[case] expected: &str,
) {
    let mut world = World::new();
    let changes = [("cleanup.policy", operation, Some(value))];
    assert_eq!(ask(&mut world, &[(TOPIC, "orders", &changes)]), [(0, None)]);
    let told_now = told(&mut world, ORDERS, "cleanup.policy");
    assert_eq!(told_now, (expected.into(), 1));
    let changes = [("log.cleanup.policy", operation, Some(value))];
    assert_eq!(ask(&mut world, &[(BROKER, "", &changes)]), [(0, None)]);
    assert_eq!(
        told(&mut world, FIRST_BROKER, "log.cleanup.policy").0,
        expected
    );
}

#[rstest]
#[case::null(
    "orders",
    "min.insync.replicas",
    SET,
    None,
    42,
    "Null value not supported for : min.insync.replicas"
)]
#[case::empty(
    "orders",
    "min.insync.replicas",
    SET,
    Some(""),
    40,
    "Invalid value  for configuration min.insync.replicas: Not a number of type INT"
)]
#[case::no_number(
    "orders",
    "min.insync.replicas",
    SET,
    Some("x"),
    40,
    "Invalid value x for configuration min.insync.replicas: Not a number of type INT"
)]
#[case::too_small(
    "orders",
    "min.insync.replicas",
    SET,
    Some("0"),
    40,
    "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"
)]
#[case::too_large(
    "orders",
    "max.message.bytes",
    SET,
    Some("3000000000"),
    40,
    "Invalid value 3000000000 for configuration max.message.bytes: Not a number of type INT"
)]
#[case::segment(
    "orders",
    "segment.bytes",
    SET,
    Some("10"),
    40,
    "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576"
)]
#[case::long(
    "orders",
    "message.timestamp.after.max.ms",
    SET,
    Some("x"),
    40,
    "Invalid value x for configuration message.timestamp.after.max.ms: Not a number of type LONG"
)]
#[case::codec(
    "orders",
    "compression.type",
    SET,
    Some("x"),
    40,
    "Invalid value x for configuration compression.type: String must be one of: uncompressed, \
     zstd, lz4, snappy, gzip, producer"
)]
#[case::clock(
    "orders",
    "message.timestamp.type",
    SET,
    Some("x"),
    40,
    "Invalid value x for configuration message.timestamp.type: String must be one of: CreateTime, \
     LogAppendTime"
)]
#[case::boolean(
    "orders",
    "unclean.leader.election.enable",
    SET,
    Some("x"),
    40,
    "Invalid value x for configuration unclean.leader.election.enable: Expected value to be \
     either true or false"
)]
#[case::word(
    "orders",
    "cleanup.policy",
    SET,
    Some("delete,x"),
    40,
    "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete"
)]
#[case::appended_word(
    "orders",
    "cleanup.policy",
    APPEND,
    Some("x"),
    40,
    "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete"
)]
#[case::empty_word(
    "orders",
    "cleanup.policy",
    SET,
    Some("compact,"),
    40,
    "Configuration 'cleanup.policy' values must not be empty."
)]
#[case::append_to_a_number(
    "orders",
    "min.insync.replicas",
    APPEND,
    Some("2"),
    40,
    "Can't APPEND to key min.insync.replicas because its type is not LIST."
)]
#[case::subtract_from_a_number(
    "orders",
    "min.insync.replicas",
    SUBTRACT,
    Some("2"),
    40,
    "Can't SUBTRACT to key min.insync.replicas because its type is not LIST."
)]
#[case::unknown_key(
    "orders",
    "nope",
    SET,
    Some("1"),
    40,
    "Unknown topic config name: nope"
)]
#[case::unknown_topic(
    "nope",
    "segment.bytes",
    DELETE,
    None,
    3,
    "The topic 'nope' does not exist."
)]
#[case::bad_value_of_an_unknown_topic(
    "nope",
    "nope",
    SET,
    Some("1"),
    40,
    "Unknown topic config name: nope"
)]
#[case::no_name(
    "",
    "segment.bytes",
    DELETE,
    None,
    42,
    "Default topic resources are not allowed."
)]
#[case::bad_name(
    "..",
    "nope",
    SET,
    Some("1"),
    17,
    "Topic name is invalid: '..' is not allowed"
)]
fn a_topic_is_not_altered_for_kafkas_reasons(
    #[case] topic: &str,
    #[case] key: &str,
    #[case] operation: i8,
    #[case] value: Option<&str>,
    #[case] code: i16,
    #[case] message: &str,
) {
    let mut world = World::new();
    let changes = [
        ("max.message.bytes", SET, Some("1")),
        (key, operation, value),
    ];
    let changes = if key == "max.message.bytes" {
        &changes[1..]
    } else {
        &changes[..]
    };
    let refused = [(code, Some(message.to_owned()))];
    assert_eq!(ask(&mut world, &[(TOPIC, topic, changes)]), refused);
    let untouched = told(&mut world, ORDERS, "max.message.bytes");
    assert_eq!(untouched, ("1048588".into(), 5));
}

#[rstest]
#[case::fixed(
    "1",
    "num.partitions",
    SET,
    Some("4"),
    42,
    "Cannot update these configs dynamically: [num.partitions]"
)]
#[case::bad_value(
    "1",
    "log.segment.bytes",
    SET,
    Some("5"),
    42,
    "Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576"
)]
#[case::bad_expiry(
    "1",
    "producer.id.expiration.ms",
    SET,
    Some("0"),
    42,
    "Invalid value 0 for configuration producer.id.expiration.ms: Value must be at least 1"
)]
#[case::append_to_a_number(
    "1",
    "message.max.bytes",
    APPEND,
    Some("5"),
    40,
    "Config value append is not allowed for config key: message.max.bytes"
)]
#[case::other_broker(
    "2",
    "message.max.bytes",
    SET,
    Some("5"),
    42,
    "Unexpected broker id, expected 1, but received 2"
)]
#[case::no_broker(
    "x",
    "message.max.bytes",
    SET,
    Some("5"),
    42,
    "Node id must be an integer, but it is: x"
)]
#[case::isr_of_one(
    "1",
    "min.insync.replicas",
    SET,
    Some("1"),
    40,
    "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
)]
#[case::isr_of_all(
    "",
    "min.insync.replicas",
    DELETE,
    None,
    40,
    "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."
)]
fn a_broker_is_not_altered_for_kafkas_reasons(
    #[case] broker: &str,
    #[case] key: &str,
    #[case] operation: i8,
    #[case] value: Option<&str>,
    #[case] code: i16,
    #[case] message: &str,
) {
    let mut world = World::new();
    let changes = [
        (key, operation, value),
        ("compression.type", SET, Some("gzip")),
    ];
    let refused = [(code, Some(message.to_owned()))];
    assert_eq!(ask(&mut world, &[(BROKER, broker, &changes)]), refused);
    let untouched = told(&mut world, FIRST_BROKER, "compression.type");
    assert_eq!(untouched, ("producer".into(), 5));
}

#[test]
fn a_key_of_brokers_that_nobody_knows_is_taken_and_noted() {
    let mut world = World::new();
    set(&mut world, FIRST_BROKER, "nope", "1");
    let noted = world.engine.journal().diagnostics().iter();
    let noted = noted.filter(|of| of.text.contains("nope"));
    assert_eq!(noted.count(), 1);
}

#[test]
fn what_is_named_twice_is_refused_and_the_others_are_altered() {
    let mut world = World::new();
    let small = [("max.message.bytes", SET, Some("60"))];
    let twice = [small[0], ("max.message.bytes", DELETE, None)];
    let unknown = [(9, "x", &small[..])];
    let answers = ask(
        &mut world,
        &[
            (TOPIC, "nope", &small),
            (TOPIC, "nope", &small),
            (TOPIC, "orders", &small),
            (TOPIC, "other", &twice),
            unknown[0],
        ],
    );
    let refused = |message: &str| (42, Some(message.to_owned()));
    let expected = [
        refused("Each resource must appear at most once."),
        refused("Each resource must appear at most once."),
        (0, None),
        refused("Error due to duplicate config keys"),
        refused("Unknown resource type 9"),
    ];
    assert_eq!(answers, expected);
    assert_eq!(code(&mut world, Batch::plain(1)), 10);
}

#[test]
fn an_operation_that_does_not_exist_fails_all_that_would_be_altered() {
    let mut world = World::new();
    let small = [("max.message.bytes", SET, Some("60"))];
    let odd = [("max.message.bytes", 4, Some("60"))];
    let resources = [
        (TOPIC, "orders", &small[..]),
        (TOPIC, "nope", &odd),
        (9, "x", &small),
    ];
    let codes: Vec<i16> = ask(&mut world, &resources)
        .iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(codes, [-1, -1, 42]);
    assert_eq!(code(&mut world, Batch::plain(1)), 0);
}

#[test]
fn what_is_only_checked_leaves_no_trace() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let small = [("max.message.bytes", SET, Some("60"))];
    let broker = [("message.max.bytes", SET, Some("60"))];
    let bad = [("max.message.bytes", SET, Some("x"))];
    let resources = [(TOPIC, "orders", &small[..]), (BROKER, "", &broker)];
    let answer = only_answer(world.send(connection, alter(&resources, 1)));
    assert_eq!(altered(answer), [(0, None), (0, None)]);
    let answer = only_answer(world.send(connection, alter(&[(TOPIC, "orders", &bad)], 1)));
    assert_eq!(altered(answer)[0].0, 40);
    assert_eq!(
        told(&mut world, ORDERS, "max.message.bytes"),
        ("1048588".into(), 5)
    );
}

#[test]
fn a_topic_made_later_has_what_all_brokers_have() {
    let mut world = World::new();
    set(&mut world, ALL_BROKERS, "message.max.bytes", "60");
    let connection = world.connect(LEADER);
    let later = [frames::NewTopic::new("later", 1, 1)];
    only_answer(world.send(connection, frames::create_topics(&later, 0)));
    let batch = Batch::plain(1).encode();
    let rows = world.send(connection, produce(1, 0, "later", &[(0, Some(batch))]));
    assert_eq!(only_row(rows).code, 10);
    let to_third = BrokerId(3);
    let connection = world.connect(to_third);
    let refused = world.send(connection, to_orders(1, Batch::plain(1)));
    assert_eq!(
        only_row(refused).code,
        6,
        "who does not lead does not look at it"
    );
}
