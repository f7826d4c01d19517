//! Transactions as 4.3.1 has them: who may begin, join and end one, and who sees what of it.
//!
//! Virtual time, frames by hand; the codes are those observed on 4.3.1.

mod frames;
mod txns;
mod world;

use core::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use txns::{Read, Row, Who, batch};
use world::{LEADER, World, only_answer};

const ID: &str = "payments";
const PLAIN: i16 = 0;
const DATA: i16 = 0x10;
const MARKER: i16 = 0x30;

fn next(who: Who) -> Who {
    raised(who, 1)
}

fn raised(who: Who, by: i16) -> Who {
    Who {
        epoch: who.epoch + by,
        ..who
    }
}

fn written(base_offset: i64) -> Row {
    (0, base_offset, 0, None)
}

const fn refused(code: i16) -> Row {
    (code, -1, -1, None)
}

#[test]
fn a_commit_makes_records_visible_and_raises_the_epoch() {
    let mut world = World::new();
    let who = world.producer(ID);
    assert_eq!(world.write(ID, who, 0), written(0));
    assert_eq!(world.write(ID, who, 1), written(1));
    let open = world.read_committed(0);
    assert_eq!((open.high_watermark, open.last_stable_offset), (2, 0));
    assert_eq!(open.batches, []);
    assert_eq!(world.end(ID, who, true), (0, next(who)));
    let expected = Read {
        high_watermark: 3,
        last_stable_offset: 3,
        aborted: vec![],
        batches: vec![(0, DATA), (1, DATA), (2, MARKER)],
    };
    assert_eq!(world.read_committed(0), expected);
    assert_eq!(
        world.write(ID, next(who), 0),
        written(3),
        "the next begins at 0"
    );
}

#[test]
fn an_abort_is_told_beside_its_records() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    assert_eq!(world.end(ID, who, false), (0, next(who)));
    let expected = Read {
        high_watermark: 2,
        last_stable_offset: 2,
        aborted: vec![(who.id, 0)],
        batches: vec![(0, DATA), (1, MARKER)],
    };
    assert_eq!(world.read_committed(0), expected);
    let other = world.producer("other");
    world.write("other", other, 0);
    assert_eq!(world.read_committed(2).aborted, [], "it has nothing there");
}

#[test]
fn what_is_open_hides_what_was_committed_behind_it() {
    let mut world = World::new();
    let (one, other) = (world.producer(ID), world.producer("other"));
    world.write(ID, one, 0);
    world.write("other", other, 0);
    assert_eq!(world.end("other", other, true).0, 0);
    let plain = frames::Batch::plain(1);
    assert_eq!(world::outcome(world.append(-1, plain)), (0, 3));
    let read = world.read_committed(0);
    assert_eq!((read.high_watermark, read.last_stable_offset), (4, 0));
    assert_eq!(read.batches, []);
    assert_eq!(world.end(ID, one, true).0, 0);
    let batches = [(0, DATA), (1, DATA), (2, MARKER), (3, PLAIN), (4, MARKER)];
    assert_eq!(world.read_committed(0).batches, batches);
}

#[test]
fn a_partition_joins_only_with_its_first_batch_from_version_12_on() {
    let mut world = World::new();
    let who = world.producer(ID);
    let first = || batch(who, 0, 1);
    assert_eq!(world.write_at(11, ID, first()), refused(120));
    let told = Some("Partition was not added to the transaction".into());
    assert_eq!(world.write_at(10, ID, first()), (48, -1, -1, told));
    assert_eq!(world.write_at(7, ID, first()), refused(48));
    assert_eq!(world.add(3, ID, who, &[0]), [0]);
    assert_eq!(world.write_at(11, ID, first()), written(0));
    assert_eq!(
        world.write_at(7, ID, batch(who, 1, 1)),
        written(1),
        "it is open"
    );
}

#[test]
fn a_first_batch_from_the_middle_is_refused_from_version_12_on() {
    let mut world = World::new();
    let who = world.producer(ID);
    assert_eq!(world.write(ID, who, 41), (45, -1, 0, None));
    assert_eq!(world.write(ID, who, 0), written(0));

    let older = world.producer("older");
    world.add(3, "older", older, &[0]);
    assert_eq!(world.write_at(11, "older", batch(older, 41, 1)), written(1));
}

#[rstest]
#[case::unknown("nobody", 0, 0, 49)]
#[case::of_another_id(ID, 1, 0, 49)]
#[case::lower(ID, 0, -1, 47)]
#[case::higher(ID, 0, 1, 47)]
fn a_batch_of_a_stranger_is_refused(
    #[case] id: &str,
    #[case] producer: i64,
    #[case] epoch: i16,
    #[case] code: i16,
    #[values(7, 11, 12)] version: i16,
) {
    let mut world = World::new();
    let who = world.producer(ID);
    world.init(ID);
    let who = Who {
        id: who.id + producer,
        epoch: 1 + epoch,
    };
    assert_eq!(world.write_at(version, id, batch(who, 0, 1)), refused(code));
}

#[test]
fn batches_of_two_producers_refuse_the_whole_request() {
    let mut world = World::new();
    let (one, other) = (world.producer(ID), world.producer("other"));
    let connection = world.connect(LEADER);
    let entries = [(0, batch(one, 0, 1)), (1, batch(other, 0, 1))];
    let answer = only_answer(world.send(connection, txns::produce(12, ID, &entries)));
    let message = "Transactional records contained more than one producer ID";
    let row = (49, -1, -1, Some(message.to_owned()));
    assert_eq!(txns::produced(12, answer), [row.clone(), row]);
}

#[test]
fn a_plain_batch_of_whoever_has_a_transaction_open_is_refused() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    let plain = frames::Batch::idempotent(who.id, 1, 1);
    assert_eq!(world::outcome(world.append(-1, plain)), (48, -1));
    world.end(ID, who, true);
    let raised = frames::Batch {
        epoch: 1,
        ..frames::Batch::idempotent(who.id, 0, 1)
    };
    assert_eq!(world::outcome(world.append(-1, raised)), (0, 2));
}

#[test]
fn a_batch_of_the_transaction_before_is_refused() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    world.end(ID, who, true);
    assert_eq!(world.write(ID, who, 1), refused(47));
    assert_eq!(world.write_at(11, ID, batch(who, 1, 1)), refused(47));
}

#[test]
fn sequences_go_on_where_the_epoch_stays() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.add(3, ID, who, &[0]);
    assert_eq!(world.write_at(11, ID, batch(who, 0, 1)), written(0));
    assert_eq!(world.end_at(4, ID, who, true).0, 0);
    assert_eq!(
        world.write_at(11, ID, batch(who, 1, 1)),
        refused(120),
        "it ended"
    );
    world.add(3, ID, who, &[0]);
    assert_eq!(world.write_at(11, ID, batch(who, 1, 1)), written(2));
    let again = world.write_at(11, ID, batch(who, 0, 1));
    assert_eq!(again, written(0), "a duplicate of the transaction before");
}

#[test]
fn a_producer_that_begins_again_has_the_next_epoch() {
    let mut world = World::new();
    let first = world.producer(ID);
    assert_eq!(world.init(ID), (0, next(first)));
    assert_eq!(world.init(ID), (0, raised(first, 2)));
    assert_eq!(world.init("other").1.epoch, 0);
}

#[test]
fn a_producer_may_name_who_it_is() {
    let mut world = World::new();
    let first = world.producer(ID);
    assert_eq!(world.init_as(ID, first), (0, next(first)));
    assert_eq!(
        world.init_as(ID, first),
        (0, next(first)),
        "the answer was lost"
    );
    assert_eq!(world.init_as(ID, next(first)), (0, raised(first, 2)));
    let stale = [
        first,
        raised(first, 3),
        Who {
            id: first.id + 1,
            ..first
        },
    ];
    for who in stale {
        assert_eq!(world.init_as(ID, who), (90, txns::NOBODY), "{who:?}");
    }
    let frame = txns::init(3, ID, 60_000, first);
    let answer = world.ask_coordinator(ID, frame);
    assert_eq!(txns::inited(3, answer), (47, txns::NOBODY));
    let unknown = world.init_as("new", first);
    assert_eq!((unknown.0, unknown.1.epoch), (0, 0));
    assert_ne!(unknown.1.id, first.id);
}

#[rstest]
#[case::empty("", 60_000, 42)]
#[case::no_time(ID, 0, 50)]
#[case::negative(ID, -1, 50)]
#[case::too_long(ID, 900_001, 50)]
#[case::longest(ID, 900_000, 0)]
#[case::shortest(ID, 1, 0)]
fn a_time_out_is_bounded(#[case] id: &str, #[case] timeout_ms: i32, #[case] code: i16) {
    let mut world = World::new();
    let answer = world.ask_coordinator(id, txns::init(4, id, timeout_ms, txns::NOBODY));
    assert_eq!(txns::inited(4, answer).0, code);
}

#[test]
fn a_producer_that_begins_again_aborts_what_is_open() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    assert_eq!(world.init(ID), (51, txns::NOBODY));
    assert_eq!(world.read_committed(0).aborted, [(who.id, 0)]);
    assert_eq!(world.init(ID), (0, raised(who, 2)));
    assert_eq!(world.write(ID, who, 1), refused(47), "it is fenced");
    assert_eq!(world.end(ID, who, true), (90, txns::NOBODY));
    assert_eq!(world.end_at(1, ID, who, true).0, 47);
}

#[test]
fn a_producer_that_names_itself_keeps_the_epoch_of_the_abort() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    assert_eq!(world.init_as(ID, who), (51, txns::NOBODY));
    assert_eq!(world.init_as(ID, who), (0, next(who)));
}

/// Code of a commit and of an abort, in each state and by each epoch, counted from the producer's
/// first; -1 where the state would change.
#[rstest]
#[case::empty(&[], 0, (48, 0))]
#[case::ongoing_lower(&["write"], -1, (90, 90))]
#[case::ongoing_higher(&["write"], 1, (90, 90))]
#[case::ongoing(&["write"], 0, (0, 0))]
#[case::committed_before(&["write", "commit"], 0, (0, 48))]
#[case::committed_now(&["write", "commit"], 1, (48, 0))]
#[case::aborted_before(&["write", "abort"], 0, (48, 0))]
#[case::aborted_now(&["write", "abort"], 1, (48, 0))]
#[case::committed_long_ago(&["write", "commit", "again"], 0, (90, 90))]
fn an_end_is_judged_by_state_and_epoch(
    #[case] before: &[&str],
    #[case] epoch: i16,
    #[case] (commit, abort): (i16, i16),
) {
    let mut world = World::new();
    let who = world.producer(ID);
    for step in before {
        match *step {
            "write" => assert_eq!(world.write(ID, who, 0).0, 0),
            "again" => assert_eq!(world.write(ID, next(who), 0).0, 0),
            decision => assert_eq!(world.end(ID, who, decision == "commit").0, 0),
        }
    }
    for (commits, code) in [(true, commit), (false, abort)] {
        let mut world = world.clone();
        let ended = world.end(ID, raised(who, epoch), commits);
        assert_eq!(ended.0, code, "commit {commits}");
        if code != 0 {
            assert_eq!(ended.1, txns::NOBODY);
        }
    }
}

#[test]
fn an_end_that_is_repeated_has_the_same_answer() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    assert_eq!(world.end(ID, who, true), (0, next(who)));
    let end = world.log_end(0);
    assert_eq!(world.end(ID, who, true), (0, next(who)));
    assert_eq!(world.log_end(0), end, "no second marker");
}

#[rstest]
#[case::empty_commit(&[], true, 48)]
#[case::empty_abort(&[], false, 48)]
#[case::ongoing(&["write"], true, 0)]
#[case::committed(&["write", "commit"], true, 0)]
#[case::committed_then_abort(&["write", "commit"], false, 48)]
#[case::aborted(&["write", "abort"], false, 0)]
#[case::aborted_then_commit(&["write", "abort"], true, 48)]
fn an_older_client_ends_without_another_epoch(
    #[case] before: &[&str],
    #[case] commits: bool,
    #[case] code: i16,
    #[values(1, 2, 4)] version: i16,
) {
    let mut world = World::new();
    let who = world.producer(ID);
    for step in before {
        match *step {
            "write" => {
                world.add(3, ID, who, &[0]);
                assert_eq!(world.write_at(11, ID, batch(who, 0, 1)).0, 0);
            }
            decision => assert_eq!(world.end_at(version, ID, who, decision == "commit").0, 0),
        }
    }
    assert_eq!(world.end_at(version, ID, who, commits).0, code);
}

#[test]
fn an_end_of_a_stranger_is_refused() {
    let mut world = World::new();
    let who = world.producer(ID);
    let stranger = Who {
        id: who.id + 1,
        ..who
    };
    assert_eq!(world.end("nobody", who, true).0, 49);
    assert_eq!(world.end(ID, stranger, true).0, 49);
    assert_eq!(world.end("", who, true).0, 42);
    assert_eq!(world.end_at(4, ID, next(who), true).0, 90);
    assert_eq!(world.end_at(1, ID, next(who), true).0, 47);
}

#[test]
fn partitions_join_all_or_none() {
    let mut world = World::new();
    let who = world.producer(ID);
    assert_eq!(world.add(3, ID, who, &[0, 9, 1]), [55, 3, 55]);
    assert_eq!(world.end(ID, who, true).0, 48, "nothing joined");
    assert_eq!(world.add(3, ID, who, &[0, 1]), [0, 0]);
    assert_eq!(world.add(3, ID, who, &[0, 1]), [0, 0]);
    assert_eq!(world.end(ID, who, true).0, 0);
    assert_eq!(
        [world.log_end(0), world.log_end(1)],
        [1, 1],
        "one marker each"
    );
    assert_eq!(world.read_committed(0).last_stable_offset, 1);
}

#[test]
fn a_stranger_lets_nothing_join() {
    let mut world = World::new();
    let who = world.producer(ID);
    let stranger = Who {
        id: who.id + 1,
        ..who
    };
    assert_eq!(world.add(3, "nobody", who, &[0]), [49]);
    assert_eq!(world.add(3, ID, stranger, &[0]), [49]);
    assert_eq!(world.add(3, ID, next(who), &[0]), [90]);
    assert_eq!(world.add(1, ID, next(who), &[0]), [47]);
    assert_eq!(world.add(3, "", who, &[0]), [42]);
}

#[test]
fn whoever_does_not_coordinate_says_so() {
    let mut world = World::new();
    let who = world.producer(ID);
    let coordinator = world.coordinator(ID);
    let other = [1, 2, 3]
        .into_iter()
        .find(|id| *id != coordinator.0)
        .unwrap();
    let connection = world.connect(kafka_mockbroker::engine::effect::BrokerId(other));
    let mut ask = |frame: Bytes| only_answer(world.send(connection, frame));
    let init = ask(txns::init(4, ID, 60_000, txns::NOBODY));
    assert_eq!(txns::inited(4, init).0, 16);
    assert_eq!(txns::ended(5, ask(txns::end(5, ID, who, true))).0, 16);
    assert_eq!(txns::added(3, ask(txns::add(3, ID, who, &[0]))), [16]);
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_at_the_next_look() {
    let mut world = World::new();
    let answer = world.ask_coordinator(ID, txns::init(4, ID, 1_000, txns::NOBODY));
    let (_, who) = txns::inited(4, answer);
    world.pass(Duration::from_millis(500));
    world.write(ID, who, 0);
    let due = Duration::from_nanos(world.engine.next_deadline().unwrap().as_nanos());
    assert_eq!(due, Duration::from_secs(10), "every ten seconds");
    world.pass(Duration::from_millis(9_500 - 1));
    assert_eq!(world.read_committed(0).last_stable_offset, 0);
    world.pass(Duration::from_millis(1));
    let read = world.read_committed(0);
    assert_eq!(
        (read.last_stable_offset, read.aborted),
        (2, vec![(who.id, 0)])
    );
    assert_eq!(world.write(ID, who, 1), refused(47));
    assert_eq!(world.add(3, ID, who, &[0]), [90]);
    assert_eq!(world.end(ID, who, true).0, 48);
    assert_eq!(world.end_at(4, ID, who, true).0, 90);
    assert_eq!(world.end_at(1, ID, who, true).0, 47);
    assert_eq!(world.end(ID, who, false), (0, next(who)));
    assert_eq!(world.init_as(ID, who), (0, next(who)));
}

#[test]
fn an_idle_id_is_forgotten() {
    let settings = [("transactional.id.expiration.ms", "3600000")];
    let mut world = World::of_brokers(&settings, &[("min.insync.replicas", "2")]);
    let who = world.producer(ID);
    world.pass(Duration::from_secs(3_599));
    assert_eq!(world.add(3, ID, who, &[0]), [0], "not yet");
    assert_eq!(world.end(ID, who, true).0, 0);
    world.pass(Duration::from_secs(2 * 3_600));
    assert_eq!(world.add(3, ID, next(who), &[0]), [49]);
    let (code, other) = world.init(ID);
    assert_eq!((code, other.epoch), (0, 0));
    assert_ne!(other.id, who.id);
}

/// A marker is appended whatever the disk holds; so nothing joins that would get one.
#[test]
fn nothing_joins_a_transaction_when_the_disk_is_full() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.engine.bound_log_bytes(1);
    assert_eq!(
        world.write(ID, who, 0),
        refused(56),
        "it has joined all the same"
    );
    assert_eq!(world.end(ID, who, true), (0, next(who)));
    assert_eq!(world.log_end(0), 1, "the marker");
    assert_eq!(world.add(3, ID, next(who), &[0]), [16]);
    let text = "Unable to verify the partition has been added to the transaction. Underlying \
                error: NOT_COORDINATOR";
    assert_eq!(
        world.write(ID, next(who), 0),
        (19, -1, -1, Some(text.into()))
    );
    world.recreate_orders();
    assert_eq!(world.add(3, ID, next(who), &[0]), [0]);
}
