//! Brokers that stand still, as after SIGSTOP, and what the others make of it.
//!
//! Codes, offsets and their order were observed on Apache Kafka 4.3.1: three brokers, three
//! replicas, `min.insync.replicas` 2, `replica.lag.time.max.ms` 4000, a session of 6 s.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use core::time::Duration;

use bytes::Bytes;
use frames::{Batch, fetch, fetched, produce, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use world::{
    LEADER, SECOND, THIRD, World, answer_on, is_closed, only_answer, only_row, outcome, to_orders,
};

const OBSERVED: [(&str, &str); 2] = [
    ("replica.lag.time.max.ms", "4000"),
    ("broker.session.timeout.ms", "6000"),
];

fn observed_cluster() -> World {
    World::of_brokers(&OBSERVED, &[("min.insync.replicas", "2")])
}

/// A request with acks=all that gives up after `timeout_ms`.
fn patient(timeout_ms: i32) -> Bytes {
    produce(
        -1,
        timeout_ms,
        "orders",
        &[(0, Some(Batch::plain(1).encode()))],
    )
}

/// Watermark and number of bytes that a consumer of partition 0 is given.
fn consumed(world: &mut World, reader: ConnectionId) -> (i64, usize) {
    let answer = world.send(reader, fetch("orders", 0, 0, (0, 1)));
    let (code, watermark, records) = fetched(only_answer(answer));
    assert_eq!(code, 0);
    (watermark, records.len())
}

fn isr(world: &World) -> Vec<BrokerId> {
    let cluster = world.engine.cluster();
    let key = cluster.key("orders", 0).unwrap();
    cluster.topology().placement(key).unwrap().isr.clone()
}

fn leadership(world: &World) -> (Option<BrokerId>, i32) {
    let cluster = world.engine.cluster();
    let key = cluster.key("orders", 0).unwrap();
    let leadership = cluster.topology().placement(key).unwrap().leadership;
    (leadership.leader, leadership.epoch)
}

#[test]
fn two_paused_followers_cost_acks_all_and_hide_acks_1_until_one_is_back() {
    let mut world = observed_cluster();
    let reader = world.connect(LEADER);
    world.pause(SECOND);
    world.pause(THIRD);

    let waiting = world.connect(LEADER);
    assert_eq!(world.send(waiting, patient(200)), [], "both are in sync");
    assert_eq!(outcome(world.pass(Duration::from_millis(200))), (7, 0));
    assert_eq!(world.log_end(0), 1, "7 says possibly written, and it is");
    assert_eq!(consumed(&mut world, reader), (0, 0));

    world.pass(Duration::from_millis(3_799));
    assert_eq!(isr(&world), [LEADER, SECOND, THIRD]);
    world.pass(Duration::from_millis(1));
    assert_eq!(isr(&world), [LEADER], "they lagged for 4 s");
    let refused = only_row(world.send(waiting, patient(200)));
    let fields = (refused.code, refused.base_offset, refused.log_start_offset);
    assert_eq!(fields, (19, -1, 0));
    assert_eq!(world.log_end(0), 1, "19 says not written");

    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 1));
    assert_eq!(consumed(&mut world, reader), (0, 0), "accepted, unseen");

    world.resume(SECOND);
    assert_eq!(isr(&world), [LEADER, SECOND]);
    let (watermark, bytes) = consumed(&mut world, reader);
    assert_eq!((watermark, bytes > 0), (2, true), "seen");
    assert_eq!(outcome(world.send(waiting, patient(200))), (0, 2));
}

#[test]
fn a_follower_that_returns_in_time_ends_the_wait() {
    let mut world = observed_cluster();
    world.pause(SECOND);
    world.pause(THIRD);
    let waiting = world.connect(LEADER);
    assert_eq!(world.send(waiting, patient(25_000)), []);
    assert_eq!(world.pass(Duration::from_secs(13)), []);
    assert_eq!(isr(&world), [LEADER]);
    assert_eq!(outcome(world.resume(THIRD)), (0, 0));
}

#[test]
fn an_isr_that_shrinks_below_min_ends_no_wait_before_its_time() {
    let mut world = observed_cluster();
    world.pause(SECOND);
    world.pause(THIRD);
    let waiting = world.connect(LEADER);
    world.send(waiting, patient(25_000));
    for _ in 0..24 {
        assert_eq!(world.pass(Duration::from_secs(1)), []);
    }
    assert_eq!(outcome(world.pass(Duration::from_secs(1))), (7, 0), "no 20");
}

#[test]
fn a_follower_that_lacks_nothing_leaves_the_isr_with_its_session() {
    let mut world = observed_cluster();
    world.pause(THIRD);
    world.pass(Duration::from_millis(5_999));
    assert_eq!(isr(&world), [LEADER, SECOND, THIRD]);
    world.pass(Duration::from_millis(1));
    assert_eq!(isr(&world), [LEADER, SECOND]);
    assert_eq!(world.engine.next_deadline(), None);
    assert!(!world.engine.cluster().topology().is_alive(THIRD));
}

#[test]
fn a_paused_leader_answers_nothing_and_another_leads_after_its_session() {
    let mut world = observed_cluster();
    world.hold(THIRD);
    let (waiting, late) = (world.connect(LEADER), world.connect(LEADER));
    assert_eq!(world.send(waiting, patient(1_000)), []);
    assert_eq!(world.pause(LEADER), [], "its connections stay");
    assert_eq!(world.send(late, patient(1_000)), []);
    assert_eq!(world.pass(Duration::from_millis(5_999)), []);
    assert_eq!(leadership(&world), (Some(LEADER), 0));
    assert_eq!(isr(&world), [LEADER, SECOND, THIRD], "nobody shrinks it");
    assert_eq!(world.pass(Duration::from_millis(1)), []);
    assert_eq!(leadership(&world), (Some(SECOND), 1));
    assert_eq!(isr(&world), [SECOND, THIRD]);

    let answers = world.resume(LEADER);
    let row = |connection| produce_rows(answer_on(&answers, connection))[0];
    assert_eq!((row(waiting).code, row(waiting).base_offset), (6, 0));
    assert_eq!((row(late).code, row(late).base_offset), (6, -1));
    assert_eq!(answers.len(), 2);
    assert_eq!(leadership(&world), (Some(SECOND), 1), "it follows now");
    assert_eq!(isr(&world), [LEADER, SECOND, THIRD]);
}

#[test]
fn a_leader_that_resumes_in_time_answers_what_was_asked_meanwhile() {
    let mut world = observed_cluster();
    world.hold(THIRD);
    let waiting = world.connect(LEADER);
    world.send(waiting, patient(1_000));
    world.pause(LEADER);
    let late = world.connect(LEADER);
    assert_eq!(world.send(late, to_orders(1, Batch::plain(1))), []);
    assert_eq!(world.send(late, fetch("orders", 0, 0, (0, 0))), []);
    world.pass(Duration::from_secs(5));
    let answers = world.resume(LEADER);
    assert_eq!(answers.len(), 3);
    let timed_out = produce_rows(answer_on(&answers, waiting))[0];
    assert_eq!((timed_out.code, timed_out.base_offset), (7, 0));
    let stored = produce_rows(answer_on(&answers, late))[0];
    assert_eq!((stored.code, stored.base_offset), (0, 1));
    assert_eq!(leadership(&world), (Some(LEADER), 0));
}

#[test]
fn a_held_follower_stays_held_through_a_pause() {
    let mut world = observed_cluster();
    world.hold(THIRD);
    world.pause(THIRD);
    world.resume(THIRD);
    let waiting = world.connect(LEADER);
    assert_eq!(world.send(waiting, patient(60_000)), []);
    assert_eq!(outcome(world.release(THIRD)), (0, 0));
}

#[test]
fn nobody_leads_while_the_last_in_sync_replica_is_paused() {
    let mut world = World::of_brokers(&OBSERVED, &[("min.insync.replicas", "1")]);
    world.shrink(SECOND);
    world.shrink(THIRD);
    world.pause(LEADER);
    world.pass(Duration::from_secs(6));
    assert_eq!(leadership(&world), (None, 1));
    let there = world.connect(SECOND);
    let refused = only_row(world.send(there, to_orders(1, Batch::plain(1))));
    assert_eq!(refused.code, 6);
    world.resume(LEADER);
    assert_eq!(leadership(&world), (Some(LEADER), 2));
}

#[test]
fn who_left_the_isr_below_its_minimum_leads_when_the_last_one_is_paused() {
    let mut world = observed_cluster();
    world.append(-1, Batch::plain(2));
    world.shrink(SECOND);
    world.shrink(THIRD);
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 2));
    world.pause(LEADER);
    world.pass(Duration::from_secs(6));
    assert_eq!(leadership(&world), (Some(THIRD), 1));
    assert_eq!(world.log_end(0), 2, "it has what was acknowledged by all");
}

#[test]
fn a_paused_broker_may_crash_and_start_again() {
    let mut world = observed_cluster();
    let waiting = world.connect(LEADER);
    world.pause(LEADER);
    world.send(waiting, patient(1_000));
    let closed = world.make(&Move::CrashBroker { broker: LEADER });
    assert!(is_closed(&closed), "{closed:?}");
    assert_eq!(world.resume(LEADER), [], "there is nothing to resume");
    assert_eq!(leadership(&world), (Some(SECOND), 1));
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(isr(&world), [LEADER, SECOND, THIRD]);
    assert_eq!(world.engine.next_deadline(), None);
    assert_eq!(world.log_end(0), 0, "what it had not read is gone");
}

#[test]
fn a_client_that_leaves_a_paused_broker_leaves_nothing_behind() {
    let mut world = observed_cluster();
    world.pause(LEADER);
    let waiting = world.connect(LEADER);
    world.send(waiting, patient(1_000));
    world.engine.handle_disconnect(waiting, world.now);
    let effects: Vec<Effect> = world.resume(LEADER);
    assert_eq!(effects, []);
    assert_eq!(world.log_end(0), 0);
}
