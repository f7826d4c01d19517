//! Transactions whose markers are held up, and whose coordinators go: 51 meanwhile, then the end
//! that was decided, everywhere.

mod frames;
mod txns;
mod world;

use core::time::Duration;

use kafka_mockbroker::engine::effect::{BrokerId, Effect};
use kafka_mockbroker::engine::txn_state::TxnState;
use kafka_mockbroker::engine::{Move, MoveError};
use txns::{Who, batch};
use world::{LEADER, SECOND, THIRD, World, only_answer};

const ID: &str = "payments";

fn next(who: Who) -> Who {
    Who {
        epoch: who.epoch + 1,
        ..who
    }
}

impl World {
    fn hold_markers(&mut self) {
        self.replica(|topic, partition| Move::HoldMarkers { topic, partition });
    }

    fn release_markers(&mut self) -> Vec<Effect> {
        self.replica(|topic, partition| Move::ReleaseMarkers { topic, partition })
    }

    fn state(&self) -> TxnState {
        let known = self.engine.cluster().transaction(ID, self.now);
        known.map_or(TxnState::Dead, |known| known.state)
    }

    /// Somebody who wrote to both partitions, and committed while markers for one are held.
    fn committing(&mut self) -> Who {
        let who = self.producer(ID);
        self.add(3, ID, who, &[0, 1]);
        assert_eq!(self.write(ID, who, 0).0, 0);
        self.hold_markers();
        assert_eq!(self.end(ID, who, true), (0, next(who)), "answered at once");
        assert_eq!(self.state(), TxnState::PrepareCommit);
        who
    }
}

#[test]
fn what_is_ending_answers_51_to_everything() {
    let mut world = World::new();
    let who = world.committing();
    for producer in [
        who,
        next(who),
        Who {
            id: who.id + 1,
            ..who
        },
    ] {
        assert_eq!(world.end(ID, producer, true).0, 51, "{producer:?}");
        assert_eq!(world.end(ID, producer, false).0, 51, "{producer:?}");
        assert_eq!(world.add(3, ID, producer, &[0]), [51], "{producer:?}");
        assert_eq!(world.init_as(ID, producer).0, 51, "{producer:?}");
    }
    assert_eq!(
        world.end_at(4, ID, who, true).0,
        90,
        "an older client's epoch is over"
    );
    assert_eq!(world.end_at(1, ID, who, true).0, 47);
    assert_eq!(world.init(ID).0, 51);
}

#[test]
fn a_marker_gets_to_each_partition_by_itself() {
    let mut world = World::new();
    let who = world.committing();
    assert_eq!([world.log_end(0), world.log_end(1)], [1, 1], "one is held");
    assert_eq!(world.read_committed(0).last_stable_offset, 0);
    world.release_markers();
    assert_eq!(world.state(), TxnState::CompleteCommit);
    assert_eq!([world.log_end(0), world.log_end(1)], [2, 1]);
    assert_eq!(world.read_committed(0).last_stable_offset, 2);
    assert_eq!(
        world.end(ID, who, true),
        (0, next(who)),
        "the answer was lost"
    );
}

#[test]
fn a_batch_behind_an_end_waits_for_its_markers() {
    let mut world = World::new();
    let who = world.committing();
    let connection = world.connect(LEADER);
    let frame = txns::produce(12, ID, &[(0, batch(next(who), 0, 1))]);
    assert_eq!(world.send(connection, frame), []);
    assert_eq!(world.pass(Duration::from_millis(19)), []);
    assert_eq!(
        world.pass(Duration::from_millis(1)),
        [],
        "asked again in vain"
    );
    world.release_markers();
    assert_eq!(world.pass(Duration::from_millis(19)), []);
    let answer = only_answer(world.pass(Duration::from_millis(1)));
    assert_eq!(txns::produced(12, answer), [(0, 2, 0, None)]);
}

#[test]
fn a_batch_that_waits_for_markers_in_vain_is_51() {
    let mut world = World::new();
    let who = world.committing();
    let connection = world.connect(LEADER);
    let frame = txns::produce(12, ID, &[(0, batch(next(who), 0, 1))]);
    assert_eq!(world.send(connection, frame), []);
    for _ in 0..4 {
        assert_eq!(world.pass(Duration::from_millis(20)), []);
    }
    let answer = only_answer(world.pass(Duration::from_millis(20)));
    assert_eq!(txns::produced(12, answer), [(51, -1, -1, None)]);
    let text = "Unable to verify the partition has been added to the transaction. Underlying \
                error: CONCURRENT_TRANSACTIONS";
    let older = world.write_at(11, ID, batch(next(who), 0, 1));
    assert_eq!(older, (19, -1, -1, Some(text.into())), "at once");
    assert_eq!(world.state(), TxnState::PrepareCommit);
}

#[test]
fn another_coordinator_ends_what_was_decided() {
    let mut world = World::new();
    let who = world.committing();
    let first = world.coordinator(ID);
    world.make(&Move::CrashBroker { broker: first });
    let second = world.coordinator(ID);
    assert_ne!(first, second);
    assert_eq!(world.end(ID, who, true).0, 51, "it knows of it");
    world.release_markers();
    assert_eq!(world.state(), TxnState::CompleteCommit);
    assert_eq!(world.end(ID, who, true), (0, next(who)));
    assert_eq!(world.init(ID), (0, Who { epoch: 2, ..who }));
}

#[test]
fn nothing_is_sent_while_the_coordinator_stands_still() {
    let mut world = World::new();
    world.committing();
    let coordinator = world.coordinator(ID);
    world.pause(coordinator);
    world.release_markers();
    assert_eq!(world.state(), TxnState::PrepareCommit);
    world.resume(coordinator);
    assert_eq!(world.state(), TxnState::CompleteCommit);
}

#[test]
fn a_marker_waits_for_enough_replicas() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    world.shrink(SECOND);
    world.shrink(THIRD);
    assert_eq!(world.end(ID, who, false), (0, next(who)));
    assert_eq!(world.state(), TxnState::PrepareAbort);
    assert_eq!(world.log_end(0), 1);
    world.release(SECOND);
    assert_eq!(world.state(), TxnState::CompleteAbort);
    assert_eq!(world.log_end(0), 2);
}

#[test]
fn a_marker_waits_for_the_watermark() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    world.hold(SECOND);
    world.hold(THIRD);
    world.end(ID, who, true);
    assert_eq!(world.state(), TxnState::PrepareCommit);
    assert_eq!((world.log_end(0), world.watermark()), (2, 1));
    assert_eq!(world.read_committed(0).last_stable_offset, 0);
    world.release(SECOND);
    world.release(THIRD);
    assert_eq!(world.state(), TxnState::CompleteCommit);
    assert_eq!(world.read_committed(0).last_stable_offset, 2);
}

#[test]
fn a_marker_that_a_leader_took_along_is_sent_to_the_next() {
    let mut world = World::new();
    let who = world.producer(ID);
    world.write(ID, who, 0);
    world.hold(SECOND);
    world.hold(THIRD);
    world.end(ID, who, false);
    assert_eq!(world.ends(), [2, 1, 1]);
    world.make(&Move::CrashBroker { broker: LEADER });
    assert_eq!(world.placement().leadership.leader, Some(SECOND));
    world.release(THIRD);
    assert_eq!(world.state(), TxnState::CompleteAbort);
    assert_eq!(
        world.ends()[1..],
        [2, 2],
        "the new leader has one of its own"
    );
}

#[test]
fn a_partition_that_is_gone_needs_no_marker() {
    let mut world = World::new();
    let who = world.committing();
    world.recreate_orders();
    assert_eq!(world.state(), TxnState::CompleteCommit);
    assert_eq!(world.end(ID, who, true), (0, next(who)));
}

#[test]
fn a_coordinator_is_moved() {
    let mut world = World::new();
    let who = world.producer(ID);
    let before = world.coordinator(ID);
    let broker = [LEADER, SECOND, THIRD]
        .into_iter()
        .find(|id| *id != before)
        .unwrap();
    let transactional_id = ID.into();
    world.make(&Move::MoveCoordinator {
        transactional_id,
        broker,
    });
    assert_eq!(world.coordinator(ID), broker);
    assert_eq!(world.write(ID, who, 0).0, 0);
    assert_eq!(world.end(ID, who, true), (0, next(who)));
    let connection = world.connect(before);
    let answer = only_answer(world.send(connection, txns::end(5, ID, next(who), true)));
    assert_eq!(txns::ended(5, answer).0, 16);
}

#[test]
fn a_broker_that_is_away_coordinates_nothing() {
    let mut world = World::new();
    world.producer(ID);
    let mut move_to = |broker| {
        let transactional_id = ID.into();
        let to_make = Move::MoveCoordinator {
            transactional_id,
            broker,
        };
        world.engine.make_move(&to_make, world.now)
    };
    assert_eq!(move_to(BrokerId(9)), Err(MoveError::UnknownBroker));
    world.make(&Move::CrashBroker { broker: THIRD });
    let transactional_id = ID.into();
    let to_make = Move::MoveCoordinator {
        transactional_id,
        broker: THIRD,
    };
    let moved = world.engine.make_move(&to_make, world.now);
    assert_eq!(moved, Err(MoveError::CannotCoordinate));
}

#[test]
fn a_coordinator_that_is_cut_off_decides_nothing() {
    let mut world = World::new();
    let who = world.producer(ID);
    let coordinator = world.coordinator(ID);
    let connection = world.connect(coordinator);
    world.make(&Move::IsolateBroker {
        broker: coordinator,
    });
    let answer = only_answer(world.send(connection, txns::end(5, ID, who, false)));
    assert_eq!(txns::ended(5, answer).0, 15);
    let frame = txns::init(4, ID, 60_000, txns::NOBODY);
    let answer = only_answer(world.send(connection, frame));
    assert_eq!(txns::inited(4, answer).0, 15);
}

#[test]
fn a_fork_goes_on_by_itself() {
    let mut world = World::new();
    let who = world.committing();
    let mut fork = world.clone();
    world.release_markers();
    assert_eq!(world.state(), TxnState::CompleteCommit);
    assert_eq!(fork.state(), TxnState::PrepareCommit);
    assert_eq!(fork.end(ID, who, true).0, 51);
    fork.release_markers();
    assert_eq!(fork.log_end(0), world.log_end(0));
}
