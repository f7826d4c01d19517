//! Readers that keep a session are told what changed, and go on, end or begin anew (KIP-227).

mod fetches;
mod frames;
mod world;

use core::time::Duration;

use bytes::Buf;
use fetches::{AT_ONCE, Ask, Row, answered, append, ask, by_id, row, written};
use frames::{Batch, NewTopic, create_topics, produce};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::{ConnectionId, Effect};
use kafka_mockbroker::engine::partition::DeleteTo;
use world::{LEADER, SECOND, World, answer_on, only_answer};

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
        to: DeleteTo::Offset(3),
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
