//! Markers that WriteTxnMarkers brings, with three replicas: who may write them, when they are
//! answered, and what becomes of transactions that cannot have their own.
//!
//! Virtual time, frames by hand; what one broker answers is judged on real Kafka too, by the
//! conformance suite.

mod consumers;
mod frames;
mod txns;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use consumers::{committed, log_of, txn_commit};
use frames::{Batch, flexible, put_compact};
use kafka_mockbroker::engine::effect::{BrokerId, Effect};
use kafka_mockbroker::engine::txn_state::TxnState;
use kafka_mockbroker::engine::{Move, TopicSpec};
use txns::Who;
use world::{LEADER, SECOND, THIRD, World, only_answer};

const ID: &str = "payments";
const GROUP: &str = "ab";

/// A marker of one partition, of a transaction of version 0, that commits.
#[derive(Clone, Copy)]
struct Written<'a> {
    who: Who,
    coordinator_epoch: i32,
    topic: &'a str,
    partition: i32,
}

fn of(who: Who) -> Written<'static> {
    Written {
        who,
        coordinator_epoch: 0,
        topic: "orders",
        partition: 0,
    }
}

/// WriteTxnMarkers, version 1.
fn frame(marker: Written<'_>) -> Bytes {
    let mut frame = flexible(27, 1);
    frame.put_u8(2);
    frame.put_i64(marker.who.id);
    frame.put_i16(marker.who.epoch);
    frame.put_slice(&[1, 2]);
    put_compact(&mut frame, marker.topic);
    frame.put_u8(2);
    frame.put_i32(marker.partition);
    frame.put_u8(0);
    frame.put_i32(marker.coordinator_epoch);
    frame.put_slice(&[0, 0]);
    frame.freeze()
}

/// The code of its one row.
fn code(mut answer: Bytes) -> i16 {
    answer.advance(5);
    assert_eq!(answer.get_u8(), 2, "one producer");
    answer.advance(8);
    assert_eq!(answer.get_u8(), 2, "one topic");
    let name = answer.get_u8();
    answer.advance(usize::from(name) - 1);
    assert_eq!(answer.get_u8(), 2, "one partition");
    answer.advance(4);
    answer.get_i16()
}

fn only_code(effects: Vec<Effect>) -> i16 {
    code(only_answer(effects))
}

impl World {
    fn mark(&mut self, broker: BrokerId, marker: Written<'_>) -> Vec<Effect> {
        let connection = self.connect(broker);
        self.send(connection, frame(marker))
    }

    fn state(&self) -> TxnState {
        let known = self.engine.cluster().transaction(ID, self.now);
        known.map_or(TxnState::Dead, |known| known.state)
    }

    /// Somebody whose transaction is open in partition 0, one record long.
    fn open(&mut self) -> Who {
        let who = self.producer(ID);
        assert_eq!(self.write(ID, who, 0).0, 0);
        who
    }
}

const NEW: Who = Who { id: 700, epoch: 3 };

#[test]
fn answer_waits_until_the_marker_is_replicated() {
    let mut world = World::new();
    let who = world.open();
    world.hold(SECOND);
    assert_eq!(world.mark(LEADER, of(who)), []);
    assert_eq!(world.read_committed(0).last_stable_offset, 0);
    let effects = world.release(SECOND);
    assert_eq!(only_code(effects), 0);
    assert_eq!(world.read_committed(0).last_stable_offset, 2);
}

#[test]
fn answer_that_waits_for_too_long_says_so() {
    let mut world = World::of_brokers(&[("replica.lag.time.max.ms", "600000")], &[]);
    world.hold(SECOND);
    assert_eq!(world.mark(LEADER, of(NEW)), []);
    assert_eq!(world.pass(Duration::from_millis(29_999)), []);
    assert_eq!(only_code(world.pass(Duration::from_millis(1))), 7);
}

#[test]
fn marker_that_a_new_leader_may_lack_is_answered_with_6() {
    let mut world = World::new();
    world.hold(SECOND);
    assert_eq!(world.mark(LEADER, of(NEW)), []);
    let effects = world.replica(|topic, partition| Move::MoveLeader {
        topic,
        partition,
        broker: THIRD,
    });
    assert_eq!(only_code(effects), 6);
}

#[test]
fn only_a_leader_with_enough_in_sync_writes() {
    let mut world = World::new();
    assert_eq!(only_code(world.mark(SECOND, of(NEW))), 6);
    let lonely = TopicSpec {
        name: "lonely".into(),
        partitions: 1,
        replication_factor: 1,
        overrides: Vec::new(),
    };
    world.engine.create_topic(lonely).unwrap();
    let elsewhere = Written {
        topic: "lonely",
        ..of(NEW)
    };
    let codes = [LEADER, SECOND, THIRD].map(|broker| only_code(world.mark(broker, elsewhere)));
    let mut sorted = codes;
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 3, 3], "who has no replica knows no partition");
    world.hold(SECOND);
    world.hold(THIRD);
    world.shrink(SECOND);
    world.shrink(THIRD);
    assert_eq!(only_code(world.mark(LEADER, of(NEW))), 19);
    assert_eq!(world.log_end(0), 0);
}

#[test]
fn who_coordinates_next_writes_what_was_refused() {
    let mut world = World::new();
    let who = world.open();
    let foreign = Written {
        coordinator_epoch: 1,
        ..of(who)
    };
    assert_eq!(only_code(world.mark(LEADER, foreign)), 0);
    assert_eq!(world.end(ID, who, true).0, 0);
    assert_eq!(world.state(), TxnState::PrepareCommit);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.init(ID).0, 51, "its coordinator has epoch 0");
    let coordinator = world.coordinator(ID);
    let other = [LEADER, SECOND, THIRD]
        .into_iter()
        .find(|broker| *broker != coordinator);
    world.make(&Move::MoveCoordinator {
        transactional_id: ID.into(),
        broker: other.unwrap(),
    });
    assert_eq!(world.state(), TxnState::CompleteCommit, "the next has 1");
    assert_eq!(world.read_committed(0).last_stable_offset, 3);
}

#[test]
fn pending_offsets_end_once_the_marker_is_replicated() {
    let mut world = World::new();
    let who = world.producer(ID);
    let (partition, coordinator) = log_of(&mut world, GROUP);
    let frame = txn_commit(5, (ID, GROUP), (who.id, who.epoch), &[(0, 42)]);
    assert_eq!(committed(world.ask_group(GROUP, frame)), [0]);
    let follower = [LEADER, SECOND, THIRD]
        .into_iter()
        .find(|broker| *broker != coordinator);
    let hold = Move::HoldFollower {
        topic: "__consumer_offsets".into(),
        partition,
        broker: follower.unwrap(),
    };
    world.make(&hold);
    let marker = Written {
        topic: "__consumer_offsets",
        partition,
        ..of(who)
    };
    assert_eq!(world.mark(coordinator, marker), []);
    assert_eq!(world.offsets(GROUP)[0], (-1, 88));
    let Move::HoldFollower {
        topic,
        partition,
        broker,
    } = hold
    else {
        unreachable!("it was made above")
    };
    let effects = world.make(&Move::ReleaseFollower {
        topic,
        partition,
        broker,
    });
    assert_eq!(only_code(effects), 0);
    assert_eq!(world.offsets(GROUP)[0], (42, 0));
}

#[test]
fn markers_of_anybody_are_let_in_as_batches_are() {
    let mut world = World::new();
    world.engine.bound_producers(1);
    assert_eq!(only_code(world.mark(LEADER, of(NEW))), 0);
    assert_eq!(only_code(world.mark(LEADER, of(NEW))), 0, "it is known");
    let other = Who { id: 701, epoch: 0 };
    assert_eq!(only_code(world.mark(LEADER, of(other))), -1);
    world.engine.bound_log_bytes(0);
    assert_eq!(only_code(world.mark(LEADER, of(NEW))), 56);
    assert_eq!(world.log_end(0), 2);
    let refused = world.append(1, Batch::idempotent(702, 0, 1));
    assert_eq!(world::outcome(refused).0, -1);
}
