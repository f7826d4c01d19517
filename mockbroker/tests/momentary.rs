//! Answers that Kafka gives for a moment only, where they are asked for.

mod frames;
mod txns;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use frames::{
    Batch, NewTopic, create_topics, delete_topics, header, metadata, produce, put_text, skip_text,
    topic_codes,
};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::engine::moments::Moments;
use rstest::rstest;
use world::{LEADER, SECOND, World, only_answer, only_row};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn shown() -> World {
    let mut world = World::new();
    world.engine.show_moments(Moments::Shown);
    world
}

/// The code of the one topic of a Metadata answer, version 1, and how many partitions it has.
fn topic(mut answer: Bytes) -> (i16, i32) {
    answer.advance(4);
    for _ in 0..answer.get_i32() {
        answer.advance(4);
        skip_text(&mut answer);
        answer.advance(4 + 2);
    }
    answer.advance(4);
    assert_eq!(answer.get_i32(), 1, "one topic was asked for");
    let code = answer.get_i16();
    skip_text(&mut answer);
    answer.advance(1);
    (code, answer.get_i32())
}

fn describe(world: &mut World, broker: BrokerId, name: &str) -> (i16, i32) {
    let connection = world.connect(broker);
    topic(only_answer(world.send(connection, metadata(name))))
}

fn write(world: &mut World, name: &str, partition: i32) -> i16 {
    let connection = world.connect(LEADER);
    let batch = Batch::plain(1).encode();
    let sent = produce(1, 0, name, &[(partition, Some(batch))]);
    only_row(world.send(connection, sent)).code
}

#[test]
fn a_topic_made_by_asking_for_it_is_unknown_then_without_a_leader_then_there() {
    let mut world = shown();
    assert_eq!(describe(&mut world, LEADER, "fresh"), (3, 0));
    for _ in 0..3 {
        assert_eq!(describe(&mut world, SECOND, "fresh"), (3, 0));
        assert_eq!(write(&mut world, "fresh", 0), 3);
        world.pass(ms(10));
    }
    assert_eq!(describe(&mut world, LEADER, "fresh"), (0, 1));
    assert_eq!(write(&mut world, "fresh", 0), 6);
    world.pass(ms(29));
    assert_eq!(write(&mut world, "fresh", 0), 6);
    world.pass(ms(1));
    assert_eq!(write(&mut world, "fresh", 0), 0);
    let left = world.engine.cluster().next_deadline();
    assert_eq!(left, None, "nothing is left of it");
    assert_eq!(
        write(&mut world, "orders", 0),
        0,
        "other topics are not concerned"
    );
    assert!(world.engine.journal().diagnostics().is_empty());
}

#[test]
fn a_created_topic_exists_before_it_is_known() {
    let mut world = shown();
    let connection = world.connect(LEADER);
    let create = |world: &mut World| {
        let asked = create_topics(&[NewTopic::new("fresh", 1, 1)], 0);
        topic_codes(only_answer(world.send(connection, asked)), 1)
    };
    assert_eq!(create(&mut world), [0]);
    assert_eq!(create(&mut world), [36]);
    assert_eq!(describe(&mut world, LEADER, "fresh"), (3, 0));
    world.pass(ms(30));
    assert_eq!(describe(&mut world, LEADER, "fresh"), (0, 1));
}

#[test]
fn topics_made_one_after_the_other_are_known_one_after_the_other() {
    let mut world = shown();
    let connection = world.connect(LEADER);
    let create = |world: &mut World, name| {
        let asked = create_topics(&[NewTopic::new(name, 1, 1)], 0);
        only_answer(world.send(connection, asked));
    };
    create(&mut world, "first");
    world.pass(ms(20));
    create(&mut world, "second");
    world.pass(ms(10));
    assert_eq!(describe(&mut world, LEADER, "first"), (0, 1));
    assert_eq!(describe(&mut world, LEADER, "second"), (3, 0));
    world.pass(ms(20));
    assert_eq!(describe(&mut world, LEADER, "second"), (0, 1));
}

#[test]
fn a_deletion_is_known_at_once_whatever_was_made_before() {
    let mut world = shown();
    let connection = world.connect(LEADER);
    let asked = create_topics(&[NewTopic::new("fresh", 1, 1)], 0);
    only_answer(world.send(connection, asked));
    only_answer(world.send(connection, delete_topics(&["orders", "fresh"])));
    assert_eq!(write(&mut world, "fresh", 0), 3);
    assert_eq!(describe(&mut world, LEADER, "orders"), (3, 0));
}

#[test]
fn a_new_partition_is_known_at_once_and_led_a_little_later() {
    let mut world = shown();
    let mut grow = header(37, 1, 1);
    grow.put_i32(1);
    put_text(&mut grow, "orders");
    grow.put_i32(4);
    grow.put_i32(-1);
    grow.put_i32(1_000);
    grow.put_u8(0);
    let connection = world.connect(LEADER);
    only_answer(world.send(connection, grow.freeze()));
    assert_eq!(describe(&mut world, LEADER, "orders"), (0, 4));
    assert_eq!(write(&mut world, "orders", 3), 6);
    assert_eq!(write(&mut world, "orders", 0), 0);
    world.pass(ms(30));
    assert_eq!(write(&mut world, "orders", 3), 0);
}

/// InitProducerId, version 0: code and id.
fn producer_id(world: &mut World, broker: BrokerId) -> (i16, i64) {
    let mut asked = header(22, 0, 1);
    asked.put_i16(-1);
    asked.put_i32(1_000);
    let connection = world.connect(broker);
    let mut answer = only_answer(world.send(connection, asked.freeze()));
    answer.advance(4 + 4);
    (answer.get_i16(), answer.get_i64())
}

#[test]
fn ids_are_there_a_little_after_the_first_request_since_a_start() {
    let mut world = shown();
    world.pass(ms(5_000));
    assert_eq!(producer_id(&mut world, LEADER), (14, -1));
    world.pass(ms(99));
    assert_eq!(producer_id(&mut world, LEADER), (14, -1));
    world.pass(ms(1));
    assert_eq!(producer_id(&mut world, LEADER), (0, 0));
    assert_eq!(
        producer_id(&mut world, SECOND),
        (14, -1),
        "each broker has its own"
    );
    world.make(&Move::CrashBroker { broker: LEADER });
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(producer_id(&mut world, LEADER), (14, -1));
    world.pass(ms(100));
    assert_eq!(producer_id(&mut world, LEADER), (0, 1_000));
}

/// The code of InitProducerId for the transactional id "key".
fn begun(world: &mut World, broker: BrokerId) -> i16 {
    let connection = world.connect(broker);
    let asked = txns::init(1, "key", 1_000, txns::NOBODY);
    txns::inited(1, only_answer(world.send(connection, asked))).0
}

/// The id is there too: that a coordinator's broker has none yet is another moment.
fn with_ids(world: &mut World, brokers: &[BrokerId]) {
    for broker in brokers {
        producer_id(world, *broker);
    }
    world.pass(ms(100));
}

#[test]
fn a_coordinator_is_elected_then_loads_then_answers() {
    let mut world = shown();
    let brokers: Vec<BrokerId> = (1..=3).map(BrokerId).collect();
    with_ids(&mut world, &brokers);
    assert_eq!(begun(&mut world, LEADER), 16, "nobody has asked who it is");
    coordinator(&mut world, 1);
    world.pass(ms(100));
    let (code, _, node) = coordinator(&mut world, 1);
    assert_eq!(code, 0);
    let node = BrokerId(node);
    assert_eq!(begun(&mut world, node), 16);
    world.pass(ms(199));
    assert_eq!(begun(&mut world, node), 16);
    world.pass(ms(1));
    assert_eq!(begun(&mut world, node), 14);
    world.pass(ms(149));
    assert_eq!(begun(&mut world, node), 14);
    world.pass(ms(1));
    assert_eq!(begun(&mut world, node), 0);

    // Nobody is left who could take over.
    let others = brokers.iter().copied().filter(|broker| *broker != node);
    for broker in others.clone().chain([node]) {
        world.make(&Move::CrashBroker { broker });
    }
    for broker in [node].into_iter().chain(others.clone()) {
        world.make(&Move::RestartBroker { broker });
    }
    with_ids(&mut world, &brokers);
    assert_eq!(begun(&mut world, node), 14);
    world.pass(ms(150));
    assert_eq!(begun(&mut world, node), 0);
    let other = others.clone().next();
    world.make(&Move::MoveCoordinator {
        transactional_id: "key".into(),
        broker: other.unwrap(),
    });
    assert_eq!(begun(&mut world, node), 16);
    assert_eq!(begun(&mut world, other.unwrap()), 14);
    world.pass(ms(150));
    assert_eq!(begun(&mut world, other.unwrap()), 0);
}

#[rstest]
#[case::that_joins(12)]
#[case::that_is_verified(11)]
fn a_write_in_a_transaction_waits_for_its_coordinator_too(#[case] version: i16) {
    let mut world = shown();
    let brokers: Vec<BrokerId> = (1..=3).map(BrokerId).collect();
    with_ids(&mut world, &brokers);
    coordinator(&mut world, 1);
    world.pass(ms(300));
    let (_, _, node) = coordinator(&mut world, 1);
    assert_eq!(begun(&mut world, BrokerId(node)), 14);
    world.pass(ms(150));
    let who = world.producer("key");
    if version < 12 {
        assert_eq!(world.add(3, "key", who, &[0]), [0]);
    }
    let other = brokers.iter().find(|broker| broker.0 != node);
    world.make(&Move::MoveCoordinator {
        transactional_id: "key".into(),
        broker: *other.unwrap(),
    });
    let write = |world: &mut World| world.write_at(version, "key", txns::batch(who, 0, 1));
    let (code, _, _, message) = write(&mut world);
    assert_eq!(code, 19, "who is asked loads");
    let told = message.unwrap_or_default();
    assert!(told.ends_with("COORDINATOR_LOAD_IN_PROGRESS"), "{told}");
    world.pass(ms(150));
    assert_eq!(write(&mut world).0, 0);
}

/// FindCoordinator, version 1: code, message, node.
fn coordinator(world: &mut World, kind: u8) -> (i16, String, i32) {
    let mut asked = header(10, 1, 1);
    put_text(&mut asked, "key");
    asked.put_u8(kind);
    let connection = world.connect(LEADER);
    let mut answer = only_answer(world.send(connection, asked.freeze()));
    answer.advance(4 + 4);
    let code = answer.get_i16();
    let bytes = usize::try_from(answer.get_i16()).unwrap_or(0);
    let message = String::from_utf8_lossy(&answer.split_to(bytes)).into_owned();
    (code, message, answer.get_i32())
}

#[rstest]
#[case::of_groups(0)]
#[case::of_transactions(1)]
fn coordinators_are_there_a_little_after_the_first_request(#[case] kind: u8) {
    let mut world = shown();
    let not_yet = (15, "The coordinator is not available.".to_owned(), -1);
    assert_eq!(coordinator(&mut world, kind), not_yet);
    world.pass(ms(99));
    assert_eq!(coordinator(&mut world, kind), not_yet);
    assert_eq!(coordinator(&mut world, 1 - kind), not_yet);
    world.pass(ms(1));
    assert_eq!(coordinator(&mut world, kind).0, 0);
    assert_eq!(coordinator(&mut world, 1 - kind), not_yet);
}

#[test]
fn nothing_is_momentary_unless_it_is_asked_for() {
    let mut world = World::new();
    assert_eq!(producer_id(&mut world, LEADER), (0, 0));
    assert_eq!(coordinator(&mut world, 0).0, 0);
    let (_, _, node) = coordinator(&mut world, 1);
    assert_eq!(begun(&mut world, BrokerId(node)), 0);
    assert_eq!(describe(&mut world, LEADER, "fresh"), (3, 0));
    assert_eq!(describe(&mut world, LEADER, "fresh"), (0, 1));
    assert_eq!(write(&mut world, "fresh", 0), 0);
}
