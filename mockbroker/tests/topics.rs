//! Topics that are made, refused, deleted, and made because somebody asked for them.

mod frames;
mod world;

use frames::{Batch, NewTopic, create_topics, delete_topics, produce, produce_rows, topic_codes};
use kafka_mockbroker::engine::effect::ConnectionId;
use rstest::rstest;
use world::{LEADER, World, only_answer};

fn create(world: &mut World, topics: &[NewTopic]) -> Vec<i16> {
    let connection = world.connect(LEADER);
    topic_codes(
        only_answer(world.send(connection, create_topics(topics, 0))),
        1,
    )
}

fn partitions(world: &World, topic: &str) -> Option<usize> {
    let topic = world.engine.cluster().topology().topic_by_name(topic);
    topic.map(|topic| topic.partitions.len())
}

#[rstest]
#[case::made(NewTopic::new("new", 4, 3), 0)]
#[case::with_defaults(NewTopic::new("new", -1, -1), 0)]
#[case::configured(NewTopic::new("new", 1, 1).with("cleanup.policy", "compact"), 0)]
#[case::exists(NewTopic::new("orders", 1, 1), 36)]
#[case::name(NewTopic::new("a b", 1, 1), 17)]
#[case::no_partitions(NewTopic::new("new", 0, 1), 37)]
#[case::partitions_below_default(NewTopic::new("new", -2, 1), 37)]
#[case::too_many_partitions(NewTopic::new("new", 10_001, 1), 44)]
#[case::no_replicas(NewTopic::new("new", 1, 0), 38)]
#[case::more_replicas_than_brokers(NewTopic::new("new", 1, 4), 38)]
#[case::unknown_key(NewTopic::new("new", 1, 1).with("nope", "1"), 40)]
#[case::bad_value(NewTopic::new("new", 1, 1).with("segment.bytes", "1000"), 40)]
fn a_topic_is_made_or_refused_as_by_kafka(#[case] asked: NewTopic, #[case] code: i16) {
    let mut world = World::new();
    assert_eq!(create(&mut world, &[asked]), [code]);
    world.engine.check_invariants();
    let made = code == 0;
    assert_eq!(partitions(&world, "new").is_some(), made);
}

#[test]
fn names_that_collide_or_repeat_are_refused_and_the_others_made() {
    let mut world = World::new();
    let asked = [
        NewTopic::new("a.b", 1, 1),
        NewTopic::new("a_b", 1, 1),
        NewTopic::new("twice", 1, 1),
        NewTopic::new("twice", 1, 1),
        NewTopic::new("c", 1, 1),
    ];
    assert_eq!(create(&mut world, &asked), [0, 17, 42, 42, 0]);
}

#[test]
fn a_request_makes_a_bounded_number_of_partitions() {
    let mut world = World::new();
    let asked = [
        NewTopic::new("a", 9_000, 1),
        NewTopic::new("b", 1_001, 1),
        NewTopic::new("c", 1_000, 1),
    ];
    assert_eq!(create(&mut world, &asked), [0, 44, 0]);
}

#[test]
fn what_is_only_checked_is_not_made() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let frame = create_topics(&[NewTopic::new("new", 4, 3)], 1);
    assert_eq!(
        topic_codes(only_answer(world.send(connection, frame)), 1),
        [0]
    );
    assert_eq!(partitions(&world, "new"), None);
}

fn append(world: &mut World, connection: ConnectionId, batch: Batch) -> (i16, i64) {
    let frame = produce(-1, 1_000, "orders", &[(0, Some(batch.encode()))]);
    let row = produce_rows(only_answer(world.send(connection, frame)))[0];
    (row.code, row.base_offset)
}

#[test]
fn a_topic_made_again_is_empty_and_knows_no_producer() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    assert_eq!(
        append(&mut world, connection, Batch::idempotent(9, 0, 2)),
        (0, 0)
    );
    let deleted = world.send(connection, delete_topics(&["orders", "nope"]));
    assert_eq!(topic_codes(only_answer(deleted), 0), [0, 3]);
    assert_eq!(
        append(&mut world, connection, Batch::idempotent(9, 2, 1)),
        (3, -1)
    );
    assert_eq!(create(&mut world, &[NewTopic::new("orders", 2, 3)]), [0]);
    // Any sequence is taken: nobody remembers the producer.
    assert_eq!(
        append(&mut world, connection, Batch::idempotent(9, 7, 1)),
        (0, 0)
    );
}
