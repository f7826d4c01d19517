//! Configuration that is altered while the cluster runs: what it does, and what is told of it.

mod configs;
mod frames;
mod world;

use core::time::Duration;

use configs::{
    ALL_BROKERS, APPEND, BROKER, DELETE, FIRST_BROKER, ORDERS, SET, SUBTRACT, TOPIC, alter,
    altered, ask, ask_configs, set, told,
};
use frames::{Batch, produce, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, answer_on, only_answer, only_row, outcome, to_orders};

fn code(world: &mut World, batch: Batch) -> i16 {
    outcome(world.append(1, batch)).0
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
