//! Where leader epochs end, and what a new leader tells of its log.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use bytes::{Buf, BufMut, Bytes};
use frames::{Batch, header, list_offsets, listed, put_text, skip_text};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::engine::partition::DeleteTo;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, only_answer, only_row, to_orders};

/// OffsetForLeaderEpoch, version 2, of one partition: the client's epoch, the one asked for.
fn ask_epoch(partition: i32, (current, asked): (i32, i32)) -> Bytes {
    let mut frame = header(23, 2, 1);
    frame.put_i32(1);
    put_text(&mut frame, "orders");
    frame.put_i32(1);
    frame.put_i32(partition);
    frame.put_i32(current);
    frame.put_i32(asked);
    frame.freeze()
}

/// Code, epoch and end offset.
fn end(world: &mut World, broker: BrokerId, epochs: (i32, i32)) -> (i16, i32, i64) {
    let connection = world.connect(broker);
    let mut answer = only_answer(world.send(connection, ask_epoch(0, epochs)));
    answer.advance(4 + 4);
    assert_eq!(answer.get_i32(), 1, "one topic was sent");
    skip_text(&mut answer);
    assert_eq!(answer.get_i32(), 1, "one partition was sent");
    let code = answer.get_i16();
    assert_eq!(answer.get_i32(), 0, "the partition");
    let told = (code, answer.get_i32(), answer.get_i64());
    assert!(answer.is_empty());
    told
}

fn lead(world: &mut World, broker: BrokerId) {
    world.make(&Move::MoveLeader {
        topic: "orders".into(),
        partition: 0,
        broker,
    });
}

fn append(world: &mut World, broker: BrokerId, count: i32) {
    let connection = world.connect(broker);
    let row = world.send(connection, to_orders(1, Batch::plain(count)));
    assert_eq!(only_row(row).code, 0);
}

/// Three records of epoch 0, two of epoch 2, led in epoch 4 by the third broker, which has not
/// written yet.
fn led_five_times() -> World {
    let mut world = World::new();
    append(&mut world, LEADER, 3);
    lead(&mut world, SECOND);
    lead(&mut world, LEADER);
    append(&mut world, LEADER, 2);
    lead(&mut world, SECOND);
    lead(&mut world, THIRD);
    world
}

#[rstest]
#[case::none(-1, (-1, -1))]
#[case::first(0, (0, 3))]
#[case::without_records(1, (0, 3))]
#[case::second(2, (2, 5))]
#[case::also_without_records(3, (2, 5))]
#[case::the_leaders(4, (4, 5))]
#[case::to_come(5, (-1, -1))]
#[case::below_all(-2, (-2, 0))]
fn an_epoch_ends_where_the_next_one_with_records_begins(
    #[case] asked: i32,
    #[case] expected: (i32, i64),
) {
    let mut world = led_five_times();
    let told = end(&mut world, THIRD, (-1, asked));
    assert_eq!(told, (0, expected.0, expected.1));
}

#[test]
fn the_leaders_epoch_ends_with_the_log_replicated_or_not() {
    let mut world = led_five_times();
    world.hold(LEADER);
    append(&mut world, THIRD, 2);
    assert_eq!(end(&mut world, THIRD, (4, 4)), (0, 4, 7));
    assert_eq!(end(&mut world, THIRD, (4, 2)), (0, 2, 5));
}

#[test]
fn epochs_whose_records_are_deleted_are_unknown() {
    let mut world = led_five_times();
    let delete = |to| Move::DeleteRecords {
        topic: "orders".into(),
        partition: 0,
        to,
    };
    world.make(&delete(DeleteTo::Offset(4)));
    assert_eq!(
        end(&mut world, THIRD, (-1, 0)),
        (0, 0, 4),
        "the next one's start"
    );
    assert_eq!(end(&mut world, THIRD, (-1, 2)), (0, 2, 5));
    world.make(&delete(DeleteTo::HighWatermark));
    assert_eq!(end(&mut world, THIRD, (-1, 2)), (0, 2, 5));
    assert_eq!(end(&mut world, THIRD, (-1, 4)), (0, 4, 5));
}

#[rstest]
#[case::behind(THIRD, 3, 74)]
#[case::ahead(THIRD, 5, 75)]
#[case::right(THIRD, 4, 0)]
#[case::at_a_follower(SECOND, 4, 6)]
#[case::behind_at_a_follower(SECOND, 0, 74)]
fn who_has_another_epoch_is_told_before_who_leads(
    #[case] broker: BrokerId,
    #[case] current: i32,
    #[case] code: i16,
) {
    let mut world = led_five_times();
    assert_eq!(end(&mut world, broker, (current, 0)).0, code);
}

#[test]
fn a_new_leader_tells_no_end_before_its_watermark_has_come_to_its_epoch() {
    let mut world = World::new();
    append(&mut world, LEADER, 1);
    world.hold(THIRD);
    append(&mut world, LEADER, 1);
    lead(&mut world, SECOND);
    let mut tell = |timestamp| {
        let connection = world.connect(SECOND);
        let answer = world.send(connection, list_offsets("orders", 0, timestamp));
        let (code, _, offset) = listed(only_answer(answer));
        (code, offset)
    };
    assert_eq!(tell(-1), (5, -1), "as version 1 says it");
    assert_eq!(
        tell(2_000),
        (5, -1),
        "nothing is so young, as far as it is known"
    );
    assert_eq!(tell(1_000), (0, 0));
    assert_eq!(tell(-2), (0, 0));
    world.release(THIRD);
    let connection = world.connect(SECOND);
    let answer = world.send(connection, list_offsets("orders", 0, -1));
    assert_eq!(listed(only_answer(answer)), (0, -1, 2));
}

/// ListOffsets, version 5, of these partitions and timestamps.
fn look_up(rows: &[(i32, i64)]) -> Bytes {
    let mut frame = header(2, 5, 1);
    frame.put_i32(-1);
    frame.put_u8(0);
    frame.put_i32(1);
    put_text(&mut frame, "orders");
    frame.put_i32(i32::try_from(rows.len()).expect("few rows"));
    for (partition, timestamp) in rows {
        frame.put_i32(*partition);
        frame.put_i32(-1);
        frame.put_i64(*timestamp);
    }
    frame.freeze()
}

/// Partition, code, offset and epoch of each row.
fn found(mut answer: Bytes) -> Vec<(i32, i16, i64, i32)> {
    answer.advance(4 + 4);
    assert_eq!(answer.get_i32(), 1, "one topic was sent");
    skip_text(&mut answer);
    let rows = (0..answer.get_i32()).map(|_| {
        let (partition, code) = (answer.get_i32(), answer.get_i16());
        answer.advance(8);
        (partition, code, answer.get_i64(), answer.get_i32())
    });
    rows.collect()
}

#[test]
fn offsets_are_told_with_the_epoch_of_their_records() {
    let mut world = led_five_times();
    let mut tell = |timestamp| {
        let connection = world.connect(THIRD);
        found(only_answer(
            world.send(connection, look_up(&[(0, timestamp)])),
        ))
    };
    assert_eq!(tell(-1), [(0, 0, 5, 4)]);
    assert_eq!(tell(-2), [(0, 0, 0, 0)]);
    assert_eq!(tell(0), [(0, 0, 0, 0)]);
    let to = DeleteTo::Offset(4);
    world.make(&Move::DeleteRecords {
        topic: "orders".into(),
        partition: 0,
        to,
    });
    let connection = world.connect(THIRD);
    let first = world.send(connection, look_up(&[(0, -2)]));
    assert_eq!(found(only_answer(first)), [(0, 0, 4, 2)]);
}

#[rstest]
#[case::largest_timestamp_of_v7(&[(0, -3)], &[(0, 35, -1, -1)])]
#[case::unknown_partition_too(&[(9, -3)], &[(9, 35, -1, -1)])]
#[case::no_meaning_at_all(&[(0, -9)], &[(0, 35, -1, -1)])]
#[case::twice(&[(0, -1), (0, -2)], &[(0, 42, -1, -1)])]
#[case::twice_comes_first(&[(9, -3), (9, -1)], &[(9, 42, -1, -1)])]
#[case::unknown(&[(9, -1)], &[(9, 3, -1, -1)])]
fn timestamps_are_refused_as_by_kafka(
    #[case] asked: &[(i32, i64)],
    #[case] expected: &[(i32, i16, i64, i32)],
) {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    assert_eq!(
        found(only_answer(world.send(connection, look_up(asked)))),
        expected
    );
}

/// ListOffsets, version 8, of one timestamp.
fn look_up_flexible(timestamp: i64) -> Bytes {
    let mut frame = header(2, 8, 1);
    frame.put_u8(0);
    frame.put_i32(-1);
    frame.put_slice(&[0, 2, 7]);
    frame.put_slice(b"orders");
    frame.put_slice(&[2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    frame.put_i64(timestamp);
    frame.put_slice(&[0, 0, 0]);
    frame.freeze()
}

/// Code, timestamp, offset and epoch.
fn found_flexible(mut answer: Bytes) -> (i16, i64, i64, i32) {
    answer.advance(5 + 4 + 1 + 7 + 1 + 4);
    let code = answer.get_i16();
    (code, answer.get_i64(), answer.get_i64(), answer.get_i32())
}

#[test]
fn the_newest_record_is_told_once_it_is_visible() {
    let mut world = World::new();
    let tell = |world: &mut World, timestamp| {
        let connection = world.connect(LEADER);
        found_flexible(only_answer(
            world.send(connection, look_up_flexible(timestamp)),
        ))
    };
    assert_eq!(tell(&mut world, -3), (0, -1, -1, -1), "the log is empty");
    append(&mut world, LEADER, 1);
    assert_eq!(tell(&mut world, -3), (0, 1_000, 0, 0));
    world.hold(THIRD);
    let newer = Batch {
        timestamp_ms: 2_000,
        ..Batch::plain(1)
    };
    world.append(1, newer);
    assert_eq!(
        tell(&mut world, -3),
        (0, -1, -1, -1),
        "the newest is not replicated"
    );
    assert_eq!(tell(&mut world, 1_500), (0, -1, -1, -1));
    world.release(THIRD);
    assert_eq!(tell(&mut world, -3), (0, 2_000, 1, 0));
    world.make(&Move::DeleteRecords {
        topic: "orders".into(),
        partition: 0,
        to: DeleteTo::HighWatermark,
    });
    assert_eq!(
        tell(&mut world, -3),
        (0, 2_000, 1, 0),
        "though it is deleted"
    );
    assert_eq!(tell(&mut world, -4), (0, -1, 2, 0), "nothing is tiered");
    assert_eq!(tell(&mut world, -5), (35, -1, -1, -1));
}
