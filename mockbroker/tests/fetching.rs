//! What a reader gets: how much of it, what is wrong, and only what changed where a session is kept.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing helper fails its test"
)]

mod frames;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use frames::{Batch, NewTopic, create_topics, header, produce, put_text};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use rstest::rstest;
use world::{LEADER, SECOND, World, answer_on, only_answer, only_row};

/// A topic with its partitions: index, leader epoch, offset, bytes at most.
type Asked<'a> = (&'a str, &'a [(i32, i32, i64, i32)]);

/// A Fetch request, version 11.
#[derive(Clone, Copy)]
struct Ask<'a> {
    wait_ms: i32,
    bytes_min: i32,
    bytes_max: i32,
    session: (i32, i32),
    topics: &'a [Asked<'a>],
    forgotten: &'a [(&'a str, i32)],
}

/// Answered at once, and as much as there is.
const AT_ONCE: Ask<'_> = Ask {
    wait_ms: 0,
    bytes_min: 1,
    bytes_max: 1 << 20,
    session: (0, -1),
    topics: &[],
    forgotten: &[],
};

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap()
}

impl Ask<'_> {
    fn encode(&self) -> Bytes {
        let mut frame = header(1, 11, 1);
        frame.put_i32(-1);
        frame.put_i32(self.wait_ms);
        frame.put_i32(self.bytes_min);
        frame.put_i32(self.bytes_max);
        frame.put_u8(0);
        frame.put_i32(self.session.0);
        frame.put_i32(self.session.1);
        frame.put_i32(count(self.topics.len()));
        for (topic, partitions) in self.topics {
            put_text(&mut frame, topic);
            frame.put_i32(count(partitions.len()));
            for (index, epoch, offset, bytes_max) in *partitions {
                frame.put_i32(*index);
                frame.put_i32(*epoch);
                frame.put_i64(*offset);
                frame.put_i64(-1);
                frame.put_i32(*bytes_max);
            }
        }
        frame.put_i32(count(self.forgotten.len()));
        for (topic, partition) in self.forgotten {
            put_text(&mut frame, topic);
            frame.put_i32(1);
            frame.put_i32(*partition);
        }
        put_text(&mut frame, "");
        frame.freeze()
    }
}

/// A row: topic, partition, code, high watermark, bytes of records.
type Row = (String, i32, i16, i64, usize);

fn text(answer: &mut Bytes) -> String {
    let bytes = usize::try_from(answer.get_i16()).unwrap();
    String::from_utf8(answer.split_to(bytes).to_vec()).unwrap()
}

/// The code of the whole, the session, and the rows of an answer, version 11.
fn answered(mut answer: Bytes) -> (i16, i32, Vec<Row>) {
    answer.advance(4 + 4);
    let (code, session) = (answer.get_i16(), answer.get_i32());
    let mut rows = Vec::new();
    for _ in 0..answer.get_i32() {
        let topic = text(&mut answer);
        for _ in 0..answer.get_i32() {
            let (index, code, watermark) = (answer.get_i32(), answer.get_i16(), answer.get_i64());
            assert_eq!(answer.get_i64(), watermark, "nothing is unstable");
            answer.advance(8);
            assert!(answer.get_i32() < 1, "no aborted transactions");
            assert_eq!(answer.get_i32(), -1, "no preferred replica");
            let bytes = usize::try_from(answer.get_i32()).unwrap();
            answer.advance(bytes);
            rows.push((topic.clone(), index, code, watermark, bytes));
        }
    }
    assert!(answer.is_empty());
    (code, session, rows)
}

const fn asking<'a>(topics: &'a [Asked<'a>]) -> Ask<'a> {
    Ask { topics, ..AT_ONCE }
}

fn ask(world: &mut World, asked: &Ask<'_>) -> (i16, i32, Vec<Row>) {
    let connection = world.connect(LEADER);
    answered(only_answer(world.send(connection, asked.encode())))
}

fn row(partition: i32, code: i16, watermark: i64, bytes: usize) -> Row {
    ("orders".into(), partition, code, watermark, bytes)
}

/// Three equal batches of two records in partition 0.
fn written() -> World {
    let mut world = World::new();
    for _ in 0..3 {
        append(&mut world, 0);
    }
    world
}

fn append(world: &mut World, partition: i32) {
    let connection = world.connect(if partition == 0 { LEADER } else { SECOND });
    let batch = Batch::plain(2).encode();
    let sent = produce(-1, 0, "orders", &[(partition, Some(batch))]);
    assert_eq!(only_row(world.send(connection, sent)).code, 0);
}

/// Bytes of such a batch.
fn batch() -> usize {
    Batch::plain(2).encode().len()
}

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
    let mut frame = header(1, version, 1);
    for number in [-1, 0, 0, 1 << 20] {
        frame.put_i32(number);
    }
    frame.put_u8(0);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_i32(1);
    put_text(&mut frame, "orders");
    frame.put_i32(1);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_i64(0);
    frame.put_i64(0);
    frame.put_i32(1 << 20);
    frame.put_i32(0);
    let connection = world.connect(LEADER);
    let mut answer = only_answer(world.send(connection, frame.freeze()));
    answer.advance(4 + 4 + 2 + 4 + 4 + 8 + 4 + 4);
    assert_eq!(answer.get_i16(), code);
}

/// Fetch of partition 0 from its start, by id, in a flexible version; the partition's epoch.
fn by_id(world: &World, version: i16, epoch: i32) -> Bytes {
    let topic = world.engine.cluster().topology().topic_by_name("orders");
    let mut frame: BytesMut = header(1, version, 1);
    frame.put_u8(0);
    if version < 15 {
        frame.put_i32(-1);
    }
    for number in [0, 0, 1 << 20] {
        frame.put_i32(number);
    }
    frame.put_u8(0);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_u8(2);
    frame.put_slice(topic.expect("it is there").id.as_bytes());
    frame.put_slice(&[2, 0, 0, 0, 0]);
    frame.put_i32(epoch);
    frame.put_i64(0);
    frame.put_i32(-1);
    frame.put_i64(-1);
    frame.put_i32(1 << 20);
    frame.put_slice(&[0, 0, 1, 1, 0]);
    frame.freeze()
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

/// A reader that keeps a session.
struct Reader {
    connection: ConnectionId,
    session: (i32, i32),
}

impl Reader {
    /// Begins with both partitions of `orders`, from these offsets on.
    fn begin(world: &mut World, offsets: [i64; 2]) -> (Self, Vec<Row>) {
        let connection = world.connect(LEADER);
        let partitions = [(0, -1, offsets[0], 1_000), (1, -1, offsets[1], 1_000)];
        let asked = Ask {
            session: (0, 0),
            topics: &[("orders", &partitions)],
            ..AT_ONCE
        };
        let effects = world.send(connection, asked.encode());
        let (code, session, rows) = answered(only_answer(effects));
        assert_eq!(code, 0);
        let session = (session, 1);
        (
            Self {
                connection,
                session,
            },
            rows,
        )
    }

    fn send(&mut self, world: &mut World, asked: &Ask<'_>) -> Vec<Effect> {
        let asked = Ask {
            session: self.session,
            ..*asked
        };
        self.session.1 += 1;
        world.send(self.connection, asked.encode())
    }

    /// The rows of the answer, in which the session goes on.
    fn go_on(&mut self, world: &mut World, asked: &Ask<'_>) -> Vec<Row> {
        let effects = self.send(world, asked);
        let (code, session, rows) = answered(only_answer(effects));
        assert_eq!((code, session), (0, self.session.0));
        rows
    }

    fn refused(&mut self, world: &mut World, session: (i32, i32)) -> (i16, i32) {
        let asked = Ask { session, ..AT_ONCE };
        let effects = world.send(self.connection, asked.encode());
        let (code, session, rows) = answered(only_answer(effects));
        assert_eq!(rows, []);
        (code, session)
    }
}

#[test]
fn a_session_is_told_of_what_changed() {
    let mut world = written();
    let (mut reader, rows) = Reader::begin(&mut world, [0, 0]);
    assert!(reader.session.0 > 0);
    assert_eq!(rows, [row(0, 0, 6, 231), row(1, 6, -1, 0)]);
    let again = reader.go_on(&mut world, &AT_ONCE);
    assert_eq!(
        again,
        [row(0, 0, 6, 231), row(1, 6, -1, 0)],
        "records and errors, always"
    );
    let forward = Ask {
        topics: &[("orders", &[(0, -1, 6, 1_000)])],
        forgotten: &[("orders", 1)],
        ..AT_ONCE
    };
    assert_eq!(reader.go_on(&mut world, &forward), []);
    append(&mut world, 0);
    assert_eq!(reader.go_on(&mut world, &AT_ONCE), [row(0, 0, 8, 77)]);
    let forward = Ask {
        topics: &[("orders", &[(0, -1, 8, 1_000)])],
        ..AT_ONCE
    };
    assert_eq!(reader.go_on(&mut world, &forward), []);
    world.hold(SECOND);
    world.append(1, Batch::plain(2));
    assert_eq!(
        reader.go_on(&mut world, &AT_ONCE),
        [],
        "it is not replicated"
    );
    world.release(SECOND);
    assert_eq!(reader.go_on(&mut world, &AT_ONCE), [row(0, 0, 10, 77)]);
    let beyond = Ask {
        topics: &[("orders", &[(0, -1, 99, 1_000)])],
        ..AT_ONCE
    };
    assert_eq!(reader.go_on(&mut world, &beyond), [row(0, 1, -1, 0)]);
    let back = Ask {
        topics: &[("orders", &[(0, -1, 10, 1_000)])],
        ..AT_ONCE
    };
    let right_again = reader.go_on(&mut world, &back);
    assert_eq!(
        right_again,
        [row(0, 0, 10, 0)],
        "what was wrong is right again"
    );
    assert_eq!(reader.go_on(&mut world, &AT_ONCE), []);
    world.make(&Move::DeleteRecords {
        topic: "orders".into(),
        partition: 0,
        to: kafka_mockbroker::engine::partition::DeleteTo::Offset(3),
    });
    let start_moved = reader.go_on(&mut world, &AT_ONCE);
    assert_eq!(start_moved, [row(0, 0, 10, 0)]);
}

#[test]
fn a_session_waits_for_what_it_holds() {
    let mut world = written();
    let (mut reader, _) = Reader::begin(&mut world, [6, 0]);
    let waiting = Ask {
        wait_ms: 60_000,
        forgotten: &[("orders", 1)],
        ..AT_ONCE
    };
    assert_eq!(reader.send(&mut world, &waiting), []);
    let other = world.connect(LEADER);
    let sent = produce(1, 0, "orders", &[(0, Some(Batch::plain(2).encode()))]);
    let effects = world.send(other, sent);
    let (_, session, rows) = answered(answer_on(&effects, reader.connection));
    assert_eq!((session, rows), (reader.session.0, vec![row(0, 0, 8, 77)]));
}

#[test]
fn what_was_read_goes_behind_what_was_not() {
    let mut world = written();
    let connection = world.connect(LEADER);
    let topics = [NewTopic::new("other", 1, 1)];
    only_answer(world.send(connection, create_topics(&topics, 0)));
    let one = Some(Batch::plain(2).encode());
    only_answer(world.send(connection, produce(1, 0, "other", &[(0, one)])));
    let (mut reader, _) = Reader::begin(&mut world, [0, 0]);
    let scarce = Ask {
        bytes_max: 1,
        topics: &[("other", &[(0, -1, 0, 1_000)])],
        forgotten: &[("orders", 1)],
        ..AT_ONCE
    };
    let other = |bytes| ("other".to_owned(), 0, 0, 2, bytes);
    let first = reader.go_on(&mut world, &scarce);
    assert_eq!(first, [row(0, 0, 6, 77), other(0)]);
    let scarce = Ask {
        bytes_max: 1,
        ..AT_ONCE
    };
    assert_eq!(reader.go_on(&mut world, &scarce), [other(77)]);
    assert_eq!(reader.go_on(&mut world, &scarce), [row(0, 0, 6, 77)]);
}

#[test]
fn a_session_is_refused_as_by_kafka_and_goes_on() {
    let mut world = written();
    let (mut reader, _) = Reader::begin(&mut world, [6, 0]);
    let (id, _) = reader.session;
    assert_eq!(
        reader.refused(&mut world, (id, 2)),
        (71, 0),
        "an epoch too far"
    );
    let other = if id == 1 { 2 } else { id - 1 };
    assert_eq!(reader.refused(&mut world, (other, 1)), (70, 0));
    assert_eq!(reader.refused(&mut world, (0, 1)), (70, 0));
    assert_eq!(reader.refused(&mut world, (-5, 7)), (70, 0));
    assert_eq!(reader.go_on(&mut world, &AT_ONCE), [row(1, 6, -1, 0)]);
    assert_eq!(
        reader.refused(&mut world, (id, 1)),
        (71, 0),
        "the same epoch again"
    );
    let mut by_id = by_id(&world, 13, -1).to_vec();
    // Session and epoch stand behind the sizes and the isolation level.
    let at = 8 + 2 + 4 + 1 + 4 * 4 + 1;
    by_id[at..at + 4].copy_from_slice(&id.to_be_bytes());
    by_id[at + 4..at + 8].copy_from_slice(&2_i32.to_be_bytes());
    let mut answer = only_answer(world.send(reader.connection, by_id.into()));
    answer.advance(4 + 1 + 4);
    assert_eq!((answer.get_i16(), answer.get_i32()), (106, 0));
    assert_eq!(reader.go_on(&mut world, &AT_ONCE), [row(1, 6, -1, 0)]);
}

#[test]
fn a_session_ends_when_it_is_ended_replaced_or_empty() {
    let mut world = written();
    let whole = |session| Ask {
        session,
        topics: &[("orders", &[(0, -1, 6, 1_000)])],
        ..AT_ONCE
    };
    let (mut reader, _) = Reader::begin(&mut world, [6, 0]);
    let id = reader.session.0;
    assert_eq!(ask(&mut world, &whole((id, -1))).1, 0, "ended");
    assert_eq!(reader.refused(&mut world, (id, 1)), (70, 0));
    let (mut reader, _) = Reader::begin(&mut world, [6, 0]);
    let id = reader.session.0;
    let next = ask(&mut world, &whole((id, 0))).1;
    assert!(next > 0 && next != id, "replaced");
    assert_eq!(reader.refused(&mut world, (id, 1)), (70, 0));
    let empty = Ask {
        session: (next, 1),
        forgotten: &[("orders", 0)],
        ..AT_ONCE
    };
    assert_eq!(ask(&mut world, &empty), (0, 0, vec![]), "empty");
    assert_eq!(reader.refused(&mut world, (next, 2)), (70, 0));
}

#[test]
fn a_broker_that_was_started_again_knows_no_session() {
    let mut world = written();
    let (reader, _) = Reader::begin(&mut world, [6, 0]);
    world.make(&Move::CrashBroker { broker: LEADER });
    world.make(&Move::RestartBroker { broker: LEADER });
    let asked = Ask {
        session: reader.session,
        ..AT_ONCE
    };
    assert_eq!(ask(&mut world, &asked), (70, 0, vec![]));
}

#[test]
fn a_full_cache_gives_no_session_but_to_who_asks_more_than_an_old_one() {
    let slots = [("max.incremental.fetch.session.cache.slots", "1")];
    let mut world = World::of_brokers(&slots, &[]);
    let one = Ask {
        session: (0, 0),
        topics: &[("orders", &[(0, -1, 0, 1_000)])],
        ..AT_ONCE
    };
    let two = Ask {
        topics: &[("orders", &[(0, -1, 0, 1_000), (1, -1, 0, 1_000)])],
        ..one
    };
    let first = ask(&mut world, &one).1;
    assert!(first > 0);
    assert_eq!(ask(&mut world, &two).1, 0, "the first is too young");
    world.pass(Duration::from_secs(120));
    let goes_on = Ask {
        session: (first, 1),
        ..AT_ONCE
    };
    assert_eq!(ask(&mut world, &goes_on).0, 0);
    world.pass(Duration::from_millis(1));
    assert_eq!(ask(&mut world, &one).1, 0, "the first has as many");
    let second = ask(&mut world, &two).1;
    assert!(second > 0, "the first has fewer, and is old");
    world.pass(Duration::from_secs(121));
    assert!(
        ask(&mut world, &one).1 > 0,
        "the second was not used for long"
    );
    let none = [("max.incremental.fetch.session.cache.slots", "0")];
    assert_eq!(ask(&mut World::of_brokers(&none, &[]), &one).1, 0);
}
