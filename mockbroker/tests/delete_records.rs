//! Records that are deleted before an offset: what is gone, what stays, and who is waited for.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use frames::{Batch, NewTopic, fetch, fetched, header, list_offsets, listed, put_text, skip_text};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::Effect;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, answer_on, only_answer, only_row, to_orders};

/// DeleteRecords, version 1, of one topic.
fn delete_records(topic: &str, offsets: &[(i32, i64)], timeout_ms: i32) -> Bytes {
    let mut frame = header(21, 1, 1);
    frame.put_i32(1);
    put_text(&mut frame, topic);
    frame.put_i32(i32::try_from(offsets.len()).expect("few partitions"));
    for (partition, offset) in offsets {
        frame.put_i32(*partition);
        frame.put_i64(*offset);
    }
    frame.put_i32(timeout_ms);
    frame.freeze()
}

/// Partition, low watermark and code of each row.
fn rows(mut answer: Bytes) -> Vec<(i32, i64, i16)> {
    answer.advance(4 + 4);
    assert_eq!(answer.get_i32(), 1, "one topic was sent");
    skip_text(&mut answer);
    let count = answer.get_i32();
    let row = |answer: &mut Bytes| (answer.get_i32(), answer.get_i64(), answer.get_i16());
    let rows = (0..count).map(|_| row(&mut answer)).collect();
    assert!(answer.is_empty());
    rows
}

/// Asks the leader with a time-out of a second.
fn ask(world: &mut World, topic: &str, offsets: &[(i32, i64)]) -> Vec<Effect> {
    let connection = world.connect(LEADER);
    world.send(connection, delete_records(topic, offsets, 1_000))
}

fn deleted(world: &mut World, offset: i64) -> (i64, i16) {
    let rows = rows(only_answer(ask(world, "orders", &[(0, offset)])));
    (rows[0].1, rows[0].2)
}

/// Six records in three batches of producer 7, all acknowledged.
fn written() -> World {
    let mut world = World::new();
    for sequence in [0, 2, 4] {
        assert_eq!(
            only_row(world.append(-1, Batch::idempotent(7, sequence, 2))).code,
            0
        );
    }
    world
}

fn fetched_from(world: &mut World, offset: i64) -> (i16, i64, usize) {
    let connection = world.connect(LEADER);
    let answer = only_answer(world.send(connection, fetch("orders", 0, offset, (0, 0))));
    let (code, high_watermark, records) = fetched(answer);
    (code, high_watermark, records.len())
}

fn offset_at(world: &mut World, timestamp: i64) -> i64 {
    let connection = world.connect(LEADER);
    listed(only_answer(
        world.send(connection, list_offsets("orders", 0, timestamp)),
    ))
    .2
}

#[test]
fn deleted_records_are_no_longer_read_and_the_others_keep_their_offsets() {
    let mut world = written();
    let batch = Batch::idempotent(7, 0, 2).encode().len();
    assert_eq!(deleted(&mut world, 3), (3, 0));
    assert_eq!(fetched_from(&mut world, 2), (1, -1, 0));
    let rest = (0, 6, 2 * batch);
    assert_eq!(
        fetched_from(&mut world, 3),
        rest,
        "with the batch that holds it"
    );
    assert_eq!(
        (offset_at(&mut world, -2), offset_at(&mut world, -1)),
        (3, 6)
    );
    assert_eq!(
        offset_at(&mut world, 0),
        3,
        "nothing before it is found by time"
    );
    let row = only_row(world.append(-1, Batch::idempotent(7, 6, 2)));
    assert_eq!((row.code, row.base_offset, row.log_start_offset), (0, 6, 3));
}

#[test]
fn what_producers_wrote_stays_known() {
    let mut world = written();
    assert_eq!(deleted(&mut world, -1), (6, 0), "-1 is the high watermark");
    assert_eq!(fetched_from(&mut world, 6), (0, 6, 0));
    let row = only_row(world.append(-1, Batch::idempotent(7, 2, 2)));
    assert_eq!(
        (row.code, row.base_offset),
        (0, 2),
        "a deleted batch that comes again"
    );
    let row = only_row(world.append(-1, Batch::idempotent(7, 5, 1)));
    assert_eq!((row.code, row.log_start_offset), (45, 6));
}

#[rstest]
#[case::all(0, 6, (6, 0))]
#[case::behind_the_watermark(0, 7, (-1, 1))]
#[case::below_the_watermarks_name(0, -2, (-1, 1))]
#[case::unknown_partition(9, 1, (-1, 3))]
#[case::partition_below_0(-1, 1, (-1, 3))]
fn an_offset_is_deleted_to_or_refused_as_by_kafka(
    #[case] partition: i32,
    #[case] offset: i64,
    #[case] expected: (i64, i16),
) {
    let mut world = written();
    let answer = only_answer(ask(&mut world, "orders", &[(partition, offset)]));
    assert_eq!(rows(answer), [(partition, expected.0, expected.1)]);
}

#[test]
fn an_offset_that_is_gone_already_deletes_nothing() {
    let mut world = written();
    assert_eq!(deleted(&mut world, 4), (4, 0));
    assert_eq!(deleted(&mut world, 2), (4, 0));
    assert_eq!(offset_at(&mut world, -2), 4);
}

#[test]
fn a_topic_that_is_compacted_alone_keeps_its_records() {
    let mut world = World::configured(&[("cleanup.policy", "compact")]);
    assert_eq!(deleted(&mut world, 0), (-1, 44));
    assert_eq!(
        deleted(&mut world, 99),
        (-1, 44),
        "the offset is not looked at"
    );
    let mut world = World::configured(&[("cleanup.policy", "compact,delete")]);
    assert_eq!(deleted(&mut world, 0), (0, 0));
}

#[test]
fn a_topic_of_kafkas_own_keeps_its_records() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let internal = [NewTopic::new("__consumer_offsets", 1, 1)];
    only_answer(world.send(connection, frames::create_topics(&internal, 0)));
    let answer = only_answer(ask(&mut world, "__consumer_offsets", &[(0, 0), (1, 0)]));
    assert_eq!(rows(answer), [(0, -1, 17), (1, -1, 3)]);
}

#[test]
fn a_follower_refuses() {
    let mut world = written();
    let connection = world.connect(SECOND);
    let answer = world.send(connection, delete_records("orders", &[(0, 1)], 0));
    assert_eq!(rows(only_answer(answer)), [(0, -1, 6)]);
}

#[test]
fn the_last_offset_of_a_partition_named_twice_counts() {
    let mut world = written();
    let answer = only_answer(ask(&mut world, "orders", &[(0, 2), (1, 0), (0, 3)]));
    assert_eq!(rows(answer), [(0, 3, 0), (1, -1, 6)]);
}

#[test]
fn a_follower_that_stands_still_is_waited_for() {
    let mut world = written();
    world.hold(SECOND);
    let connection = world.connect(LEADER);
    let asked = delete_records("orders", &[(0, 3), (1, 9)], 1_000);
    assert_eq!(world.send(connection, asked), []);
    let other = world.connect(LEADER);
    let row = world.send(other, to_orders(1, Batch::idempotent(7, 6, 1)));
    assert_eq!(only_row(row).log_start_offset, 3, "the leader has deleted");
    let answer = answer_on(&world.release(SECOND), connection);
    assert_eq!(rows(answer), [(0, 3, 0), (1, -1, 6)]);
}

#[test]
fn a_follower_that_stands_still_for_too_long_is_told_with_how_far_all_are() {
    let mut world = written();
    world.hold(SECOND);
    assert_eq!(ask(&mut world, "orders", &[(0, 3)]), []);
    assert_eq!(world.pass(Duration::from_millis(999)), []);
    let answer = only_answer(world.pass(Duration::from_millis(1)));
    assert_eq!(rows(answer), [(0, 0, 7)]);
    assert_eq!(offset_at(&mut world, -2), 3, "the leader has deleted");
}

#[test]
fn a_follower_that_is_down_is_not_waited_for() {
    let mut world = written();
    world.make(&Move::CrashBroker { broker: THIRD });
    assert_eq!(deleted(&mut world, 3), (3, 0));
}

#[test]
fn a_leader_that_is_deposed_while_it_waits_says_so() {
    let mut world = written();
    world.hold(SECOND);
    let connection = world.connect(LEADER);
    assert_eq!(
        world.send(connection, delete_records("orders", &[(0, 3)], 1_000)),
        []
    );
    let to_second = Move::MoveLeader {
        topic: "orders".into(),
        partition: 0,
        broker: SECOND,
    };
    let answer = answer_on(&world.make(&to_second), connection);
    assert_eq!(rows(answer), [(0, -1, 6)]);
    let connection = world.connect(SECOND);
    let first = world.send(connection, list_offsets("orders", 0, -2));
    assert_eq!(listed(only_answer(first)).2, 0, "it had not deleted");
}
