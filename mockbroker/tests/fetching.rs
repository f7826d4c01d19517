//! What a reader gets: how much of it, what is wrong, and what is waited for.

mod fetches;
mod frames;
mod world;

use core::time::Duration;

use bytes::{Buf, Bytes};
use fetches::{AT_ONCE, Ask, Asked, answered, append, ask, asking, batch, by_id, row, written};
use frames::{Batch, NewTopic, create_topics, fetch_in_epoch, produce};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use rstest::rstest;
use world::{LEADER, SECOND, World, answer_on, only_answer};

#[rstest]
#[case::nothing_asked(0, 0, 77)]
#[case::one_byte(1, 1, 77)]
#[case::partition_allows_nothing(0, 1_000, 77)]
#[case::less_than_a_batch(76, 1_000, 77)]
#[case::a_batch(77, 1_000, 77)]
#[case::a_batch_and_a_part(100, 1_000, 100)]
#[case::the_whole_allows_a_part(1_000, 80, 80)]
#[case::two(154, 1_000, 154)]
#[case::all(1_000, 1_000, 231)]
fn as_much_is_answered_as_fits_and_at_least_a_batch(
    #[case] of_partition: i32,
    #[case] of_all: i32,
    #[case] expected: usize,
) {
    assert_eq!(batch(), 77, "the cases count on it");
    let mut world = written();
    let asked = Ask {
        bytes_max: of_all,
        topics: &[("orders", &[(0, -1, 0, of_partition)])],
        ..AT_ONCE
    };
    assert_eq!(
        ask(&mut world, &asked),
        (0, 0, vec![row(0, 0, 6, expected)])
    );
}

#[rstest]
#[case::both(1 << 20, &[77, 231])]
#[case::the_first_alone_for_the_others_batch_does_not_fit(140, &[77, 0])]
#[case::a_part_behind_a_whole_batch(77 + 80, &[77, 80])]
#[case::the_first_whatever_its_size(1, &[77, 0])]
fn what_the_first_partition_takes_the_next_does_not_have(
    #[case] bytes_max: i32,
    #[case] expected: &[usize],
) {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let topics = [NewTopic::new("other", 1, 1)];
    only_answer(world.send(connection, create_topics(&topics, 0)));
    let one = Some(Batch::plain(2).encode());
    only_answer(world.send(connection, produce(1, 0, "other", &[(0, one)])));
    for _ in 0..3 {
        append(&mut world, 0);
    }
    let all = &[(0, -1, 0, 1 << 20)][..];
    let asked = Ask {
        bytes_max,
        topics: &[("other", all), ("orders", all)],
        ..AT_ONCE
    };
    let (_, _, rows) = ask(&mut world, &asked);
    let bytes: Vec<usize> = rows.iter().map(|row| row.4).collect();
    assert_eq!(bytes, expected);
}

#[test]
fn less_than_no_bytes_fail_where_there_is_something_to_read() {
    let mut world = written();
    let of = |offset| [(0, -1, offset, -1)];
    let (there, behind) = (of(0), of(6));
    let (_, _, rows) = ask(&mut world, &asking(&[("orders", &there)]));
    assert_eq!(rows, [row(0, -1, -1, 0)]);
    let (_, _, rows) = ask(&mut world, &asking(&[("orders", &behind)]));
    assert_eq!(rows, [row(0, 0, 6, 0)]);
}

#[test]
fn what_does_not_exist_is_told_last_and_a_partition_named_twice_once() {
    let mut world = written();
    let asked = Ask {
        topics: &[
            ("nope", &[(0, -1, 0, 1)]),
            (
                "orders",
                &[(9, -1, 0, 1), (0, -1, 0, 1_000), (0, -1, 4, 1_000)],
            ),
        ],
        ..AT_ONCE
    };
    let (_, _, rows) = ask(&mut world, &asked);
    let nope = ("nope".into(), 0, 3, -1, 0);
    assert_eq!(rows, [row(0, 0, 6, 77), nope, row(9, 3, -1, 0)]);
}

#[test]
fn what_does_not_exist_is_not_waited_for_and_does_not_end_a_wait() {
    let mut world = written();
    let unknown: Asked<'_> = ("nope", &[(0, -1, 0, 1_000)]);
    let alone = Ask {
        wait_ms: 500,
        topics: &[unknown],
        ..AT_ONCE
    };
    assert_eq!(ask(&mut world, &alone).2.len(), 1);
    let connection = world.connect(LEADER);
    let nothing_new: Asked<'_> = ("orders", &[(0, -1, 6, 1_000)]);
    let both = Ask {
        wait_ms: 500,
        topics: &[unknown, nothing_new],
        ..AT_ONCE
    };
    assert_eq!(world.send(connection, both.encode()), []);
    let (_, _, rows) = answered(only_answer(world.pass(Duration::from_millis(500))));
    assert_eq!(rows.len(), 2);
}

#[test]
fn an_error_of_the_log_ends_a_wait() {
    let mut world = written();
    let connection = world.connect(LEADER);
    let asked = Ask {
        wait_ms: 60_000,
        topics: &[("orders", &[(0, -1, 6, 1_000)])],
        ..AT_ONCE
    };
    assert_eq!(world.send(connection, asked.encode()), []);
    let moved = world.make(&Move::MoveLeader {
        topic: "orders".into(),
        partition: 0,
        broker: SECOND,
    });
    let (_, _, rows) = answered(answer_on(&moved, connection));
    assert_eq!(rows, [row(0, 6, -1, 0)]);
}

#[test]
fn no_more_is_waited_for_than_may_be_answered() {
    let mut world = written();
    let asked = Ask {
        wait_ms: 60_000,
        bytes_min: 1_000,
        bytes_max: 100,
        topics: &[("orders", &[(0, -1, 0, 1_000)])],
        ..AT_ONCE
    };
    assert_eq!(ask(&mut world, &asked).2, [row(0, 0, 6, 100)]);
}

#[rstest]
#[case::behind(1, 74)]
#[case::right(2, 0)]
#[case::ahead(3, 75)]
#[case::none(-1, 0)]
#[case::below_none(-2, 0)]
fn the_epoch_that_a_reader_knows_is_checked(#[case] epoch: i32, #[case] code: i16) {
    let mut world = written();
    for broker in [SECOND, LEADER] {
        world.make(&Move::MoveLeader {
            topic: "orders".into(),
            partition: 0,
            broker,
        });
    }
    let asked = [(0, epoch, 0, 1)];
    assert_eq!(ask(&mut world, &asking(&[("orders", &asked)])).2[0].2, code);
}

#[rstest]
#[case::gzip("gzip", 9, 0)]
#[case::zstd_too_early("zstd", 9, 76)]
#[case::zstd("zstd", 10, 0)]
fn a_topic_in_zstd_is_read_from_version_10_on(
    #[case] codec: &'static str,
    #[case] version: i16,
    #[case] code: i16,
) {
    let mut world = World::configured(&[("compression.type", codec)]);
    append(&mut world, 0);
    let connection = world.connect(LEADER);
    let mut answer = only_answer(world.send(connection, fetch_in_epoch(version, -1)));
    answer.advance(4 + 4 + 2 + 4 + 4 + 8 + 4 + 4);
    assert_eq!(answer.get_i16(), code);
}

/// Code, hinted leader with its epoch, and hinted nodes of an answer by id.
fn hinted(mut answer: Bytes) -> (i16, Option<(i32, i32)>, Vec<i32>) {
    answer.advance(5 + 4 + 2 + 4 + 1 + 16 + 1 + 4);
    let code = answer.get_i16();
    answer.advance(8 + 8 + 8);
    assert_eq!(answer.get_u8(), 0, "no list of aborted transactions");
    answer.advance(4);
    assert_eq!(answer.get_u8(), 1, "no records");
    let leader = (answer.get_u8() == 1).then(|| {
        assert_eq!((answer.get_u8(), answer.get_u8()), (1, 9), "tag 1");
        let leader = (answer.get_i32(), answer.get_i32());
        answer.advance(1);
        leader
    });
    answer.advance(1);
    let mut nodes = Vec::new();
    if answer.get_u8() == 1 {
        assert_eq!(answer.get_u8(), 0, "tag 0");
        let _size = answer.get_u8();
        for _ in 1..answer.get_u8() {
            nodes.push(answer.get_i32());
            let host = usize::from(answer.get_u8()) - 1;
            answer.advance(host + 4 + 1 + 1);
        }
    }
    assert!(answer.is_empty());
    (code, leader, nodes)
}

#[rstest]
#[case::leader_elsewhere(16, SECOND, -1, 6, true)]
#[case::leader_elsewhere_newest(18, SECOND, -1, 6, true)]
#[case::leader_elsewhere_too_early(15, SECOND, -1, 6, false)]
#[case::epoch_is_over(16, LEADER, 0, 74, true)]
#[case::epoch_is_over_too_early(13, LEADER, 0, 74, false)]
#[case::epoch_to_come(16, LEADER, 9, 75, false)]
fn who_leads_is_told_from_version_16_on(
    #[case] version: i16,
    #[case] broker: BrokerId,
    #[case] epoch: i32,
    #[case] code: i16,
    #[case] told: bool,
) {
    let mut world = World::new();
    for leader in [SECOND, LEADER] {
        world.make(&Move::MoveLeader {
            topic: "orders".into(),
            partition: 0,
            broker: leader,
        });
    }
    let connection = world.connect(broker);
    let asked = by_id(&world, version, epoch);
    let answer = hinted(only_answer(world.send(connection, asked)));
    let expected = if told {
        (code, Some((1, 2)), vec![1])
    } else {
        (code, None, vec![])
    };
    assert_eq!(answer, expected);
}
