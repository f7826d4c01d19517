//! Configuration that is not altered, why, and what is altered beside it.

mod configs;
mod frames;
mod world;

use configs::{
    APPEND, BROKER, DELETE, FIRST_BROKER, ORDERS, SET, SUBTRACT, TOPIC, alter, altered, ask, set,
    told,
};
use frames::Batch;
use rstest::rstest;
use world::{LEADER, World, only_answer, outcome};

fn code(world: &mut World, batch: Batch) -> i16 {
    outcome(world.append(1, batch)).0
}

#[rstest]
#[case::null(
    "orders",
    "min.insync.replicas",
    SET,
    None,
    (42, "Null value not supported for : min.insync.replicas")
)]
#[case::empty(
    "orders",
    "min.insync.replicas",
    SET,
    Some(""),
    (40, "Invalid value  for configuration min.insync.replicas: Not a number of type INT")
)]
#[case::no_number(
    "orders",
    "min.insync.replicas",
    SET,
    Some("x"),
    (40, "Invalid value x for configuration min.insync.replicas: Not a number of type INT")
)]
#[case::too_small(
    "orders",
    "min.insync.replicas",
    SET,
    Some("0"),
    (40, "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1")
)]
#[case::too_large(
    "orders",
    "max.message.bytes",
    SET,
    Some("3000000000"),
    (40, "Invalid value 3000000000 for configuration max.message.bytes: Not a number of type INT")
)]
#[case::segment(
    "orders",
    "segment.bytes",
    SET,
    Some("10"),
    (40, "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576")
)]
#[case::long(
    "orders",
    "message.timestamp.after.max.ms",
    SET,
    Some("x"),
    (40, "Invalid value x for configuration message.timestamp.after.max.ms: Not \
     a number of type LONG")
)]
#[case::codec(
    "orders",
    "compression.type",
    SET,
    Some("x"),
    (40, "Invalid value x for configuration compression.type: String must be one of: uncompressed, \
     zstd, lz4, snappy, gzip, producer")
)]
#[case::clock(
    "orders",
    "message.timestamp.type",
    SET,
    Some("x"),
    (40, "Invalid value x for configuration message.timestamp.type: String must \
     be one of: CreateTime, \
     LogAppendTime")
)]
#[case::boolean(
    "orders",
    "unclean.leader.election.enable",
    SET,
    Some("x"),
    (40, "Invalid value x for configuration unclean.leader.election.enable: Expected value to be \
     either true or false")
)]
#[case::word(
    "orders",
    "cleanup.policy",
    SET,
    Some("delete,x"),
    (40, "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete")
)]
#[case::appended_word(
    "orders",
    "cleanup.policy",
    APPEND,
    Some("x"),
    (40, "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete")
)]
#[case::empty_word(
    "orders",
    "cleanup.policy",
    SET,
    Some("compact,"),
    (40, "Configuration 'cleanup.policy' values must not be empty.")
)]
#[case::append_to_a_number(
    "orders",
    "min.insync.replicas",
    APPEND,
    Some("2"),
    (40, "Can't APPEND to key min.insync.replicas because its type is not LIST.")
)]
#[case::subtract_from_a_number(
    "orders",
    "min.insync.replicas",
    SUBTRACT,
    Some("2"),
    (40, "Can't SUBTRACT to key min.insync.replicas because its type is not LIST.")
)]
#[case::unknown_key(
    "orders",
    "nope",
    SET,
    Some("1"),
    (40, "Unknown topic config name: nope")
)]
#[case::unknown_topic(
    "nope",
    "segment.bytes",
    DELETE,
    None,
    (3, "The topic 'nope' does not exist.")
)]
#[case::bad_value_of_an_unknown_topic(
    "nope",
    "nope",
    SET,
    Some("1"),
    (40, "Unknown topic config name: nope")
)]
#[case::no_name(
    "",
    "segment.bytes",
    DELETE,
    None,
    (42, "Default topic resources are not allowed.")
)]
#[case::bad_name(
    "..",
    "nope",
    SET,
    Some("1"),
    (17, "Topic name is invalid: '..' is not allowed")
)]
fn a_topic_is_not_altered_for_kafkas_reasons(
    #[case] topic: &str,
    #[case] key: &str,
    #[case] operation: i8,
    #[case] value: Option<&str>,
    #[case] (code, message): (i16, &str),
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
    (42, "Cannot update these configs dynamically: [num.partitions]")
)]
#[case::bad_value(
    "1",
    "log.segment.bytes",
    SET,
    Some("5"),
    (42, "Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576")
)]
#[case::bad_expiry(
    "1",
    "producer.id.expiration.ms",
    SET,
    Some("0"),
    (42, "Invalid value 0 for configuration producer.id.expiration.ms: Value must be at least 1")
)]
#[case::append_to_a_number(
    "1",
    "message.max.bytes",
    APPEND,
    Some("5"),
    (40, "Config value append is not allowed for config key: message.max.bytes")
)]
#[case::other_broker(
    "2",
    "message.max.bytes",
    SET,
    Some("5"),
    (42, "Unexpected broker id, expected 1, but received 2")
)]
#[case::no_broker(
    "x",
    "message.max.bytes",
    SET,
    Some("5"),
    (42, "Node id must be an integer, but it is: x")
)]
#[case::isr_of_one(
    "1",
    "min.insync.replicas",
    SET,
    Some("1"),
    (40, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
)]
#[case::isr_of_all(
    "",
    "min.insync.replicas",
    DELETE,
    None,
    (40, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
)]
fn a_broker_is_not_altered_for_kafkas_reasons(
    #[case] broker: &str,
    #[case] key: &str,
    #[case] operation: i8,
    #[case] value: Option<&str>,
    #[case] (code, message): (i16, &str),
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
