//! Acks, in-sync replicas, the watermark, and leaders that change.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use core::time::Duration;

use bytes::Bytes;
use frames::{Batch, fetch, fetched, produce, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::{BrokerId, Effect};
use kafka_mockbroker::engine::time::Instant;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, is_closed, only_answer, only_row, outcome, to_orders};

#[test]
fn acks_all_is_answered_when_the_slowest_in_sync_replica_has_it() {
    let mut world = World::new();
    world.hold(THIRD);
    assert_eq!(world.append(-1, Batch::plain(2)), [], "it waits");
    assert_eq!(outcome(world.release(THIRD)), (0, 0));
}

#[test]
fn acks_all_times_out_with_the_offset_at_which_it_was_appended() {
    let mut world = World::new();
    world.append(-1, Batch::plain(2));
    world.hold(THIRD);
    world.append(-1, Batch::plain(1));
    assert_eq!(world.pass(Duration::from_millis(999)), []);
    let row = only_row(world.pass(Duration::from_millis(1)));
    // 7 says "possibly written": offset and log start are told (observed on 4.3.1).
    assert_eq!((row.code, row.base_offset, row.log_start_offset), (7, 2, 0));
    assert_eq!(world.log_end(0), 3);
}

#[rstest]
#[case(0)]
#[case(-1)]
fn a_timeout_of_nothing_is_over_at_once(#[case] timeout_ms: i32) {
    let mut world = World::new();
    world.hold(THIRD);
    let connection = world.connect(LEADER);
    let entries = [(0, Some(Batch::plain(1).encode()))];
    let effects = world.send(connection, produce(-1, timeout_ms, "orders", &entries));
    assert_eq!(outcome(effects), (7, 0));
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_before_the_batch_is_looked_at() {
    let mut world = World::new();
    world.shrink(SECOND);
    world.shrink(THIRD);
    let mut broken = Batch::plain(1).encode().to_vec();
    broken[20] ^= 1;
    let connection = world.connect(LEADER);
    let frame = produce(-1, 1_000, "orders", &[(0, Some(broken.into()))]);
    let row = only_row(world.send(connection, frame));
    assert_eq!(
        (row.code, row.base_offset, row.log_start_offset),
        (19, -1, 0),
        "19 wins over 2"
    );
    assert_eq!(world.log_end(0), 0);
}

#[test]
fn acks_1_is_taken_below_min_isr_and_stays_invisible_until_enough_are_in_sync() {
    let mut world = World::new();
    world.shrink(SECOND);
    world.shrink(THIRD);
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 0));
    let reader = world.connect(LEADER);
    let empty = fetched(only_answer(
        world.send(reader, fetch("orders", 0, 0, (0, 1))),
    ));
    assert_eq!(empty, (0, 0, Bytes::new()));
    world.release(SECOND);
    let (code, watermark, records) = fetched(only_answer(
        world.send(reader, fetch("orders", 0, 0, (0, 1))),
    ));
    assert_eq!((code, watermark, records.is_empty()), (0, 1, false));
}

#[test]
fn an_isr_that_shrinks_below_min_leaves_the_parked_request_to_its_timeout() {
    // The watermark stands still (KAFKA-15583), so the answer is 7 and not 20.
    let mut world = World::new();
    world.hold(SECOND);
    world.hold(THIRD);
    world.append(-1, Batch::plain(1));
    assert_eq!(world.shrink(SECOND), []);
    assert_eq!(world.shrink(THIRD), []);
    assert_eq!(outcome(world.pass(Duration::from_secs(1))), (7, 0));
}

/// The link to the second broker takes a second, the third is out of sync; a batch is appended, and
/// after as long as is said the second leaves the ISR too. What the batch is answered with.
fn answered_where_the_isr_shrinks_after(shrinks: Duration, acks: i16) -> Vec<(i16, i64)> {
    let mut world = World::new();
    world.shrink(THIRD);
    world.make(&Move::DelayReplication {
        from: LEADER,
        to: SECOND,
        delay: Duration::from_secs(1),
    });
    let shrink = Move::ShrinkIsr {
        topic: "orders".into(),
        partition: 0,
        broker: SECOND,
    };
    let at = world.now + shrinks;
    world.engine.plan_move(shrink, at).unwrap();
    let connection = world.connect(LEADER);
    let entries = [(0, Some(Batch::plain(1).encode()))];
    let mut effects = world.send(connection, produce(acks, 3_000, "orders", &entries));
    for ms in [999, 1, 1, 1_999] {
        effects.extend(world.pass(Duration::from_millis(ms)));
    }
    let answers = effects.into_iter().map(|effect| outcome(vec![effect]));
    answers.collect()
}

/// `Partition.checkEnoughReplicasReachOffset`: the watermark passes, the ISR shrinks, and then it
/// is looked whether the request is complete.
#[test]
fn an_isr_that_shrinks_as_the_watermark_passes_gives_20_and_the_offset() {
    let after = |ms| answered_where_the_isr_shrinks_after(Duration::from_millis(ms), -1);
    assert_eq!(after(999), [(7, 0)], "before: it never passes");
    assert_eq!(after(1_000), [(20, 0)]);
    assert_eq!(after(1_001), [(0, 0)], "after: it was answered");
    let unasked = answered_where_the_isr_shrinks_after(Duration::from_secs(1), 1);
    assert_eq!(unasked, [(0, 0)], "acks=1 waits for no replica");
}

#[test]
fn a_follower_that_lags_for_too_long_leaves_the_isr_and_frees_who_waited() {
    let mut world = World::new();
    world.hold(THIRD);
    let connection = world.connect(LEADER);
    let entries = [(0, Some(Batch::plain(1).encode()))];
    assert_eq!(
        world.send(connection, produce(-1, 60_000, "orders", &entries)),
        []
    );
    assert_eq!(world.pass(Duration::from_millis(29_999)), []);
    assert_eq!(
        world.engine.next_deadline(),
        Some(Instant::ZERO + Duration::from_secs(30))
    );
    assert_eq!(outcome(world.pass(Duration::from_millis(1))), (0, 0));
}

#[test]
fn leadership_lost_while_waiting_is_told_with_the_offset() {
    let mut world = World::new();
    world.hold(THIRD);
    world.append(-1, Batch::plain(1));
    let to_second = Move::MoveLeader {
        topic: "orders".into(),
        partition: 0,
        broker: SECOND,
    };
    let row = only_row(world.make(&to_second));
    assert_eq!((row.code, row.base_offset, row.log_start_offset), (6, 0, 0));
}

#[test]
fn a_duplicate_waits_for_the_watermark_too() {
    let mut world = World::new();
    world.hold(THIRD);
    let batch = Batch::idempotent(9, 0, 3);
    world.append(1, batch);
    assert_eq!(world.append(-1, batch), []);
    let row = only_row(world.pass(Duration::from_secs(1)));
    assert_eq!(
        (row.code, row.base_offset, row.log_append_time_ms),
        (7, 0, 1_000)
    );
}

#[test]
fn a_follower_refuses_what_only_the_leader_may_append() {
    let mut world = World::new();
    let connection = world.connect(SECOND);
    let row = only_row(world.send(connection, to_orders(-1, Batch::plain(1))));
    assert_eq!(
        (row.code, row.base_offset, row.log_start_offset),
        (6, -1, -1)
    );
}

#[test]
fn a_crash_closes_connections_and_the_next_in_sync_leads() {
    let mut world = World::new();
    world.append(-1, Batch::idempotent(9, 0, 1));
    let connection = world.connect(LEADER);
    let closed = world.make(&Move::CrashBroker { broker: LEADER });
    assert!(closed.contains(&Effect::Close { connection }));
    let there = world.connect(SECOND);
    // The new leader has followed, so it knows the producer: the next sequence is taken.
    let next = to_orders(-1, Batch::idempotent(9, 1, 1));
    assert_eq!(outcome(world.send(there, next)), (0, 1));
    let again = to_orders(-1, Batch::idempotent(9, 0, 1));
    assert_eq!(
        outcome(world.send(there, again)),
        (0, 0),
        "and the one before is a duplicate"
    );
    world.make(&Move::RestartBroker { broker: LEADER });
    let back = world.connect(LEADER);
    let refused = only_row(world.send(back, to_orders(-1, Batch::plain(1))));
    assert_eq!(refused.code, 6, "it follows now");
}

#[test]
fn what_a_new_leader_lacks_is_lost_unless_it_was_acknowledged_by_all() {
    let mut world = World::configured(&[("min.insync.replicas", "1")]);
    world.append(-1, Batch::plain(1));
    world.hold(SECOND);
    world.hold(THIRD);
    assert_eq!(outcome(world.append(1, Batch::plain(4))), (0, 1));
    world.make(&Move::CrashBroker { broker: LEADER });
    assert_eq!(world.log_end(0), 1);
}

#[test]
fn a_crashed_broker_is_not_connected_to() {
    let mut world = World::new();
    world.make(&Move::CrashBroker { broker: LEADER });
    world.connect(LEADER);
    assert!(is_closed(&world.effects()));
}

/// What becomes of the batches with these sequences, sent again to `broker`.
fn sent_again(world: &mut World, broker: BrokerId, sequences: &[i32]) -> Vec<(i16, i64)> {
    let connection = world.connect(broker);
    let again = |sequence| to_orders(-1, Batch::idempotent(9, sequence, 1));
    let sent = sequences.iter().copied();
    sent.map(|sequence| outcome(world.send(connection, again(sequence))))
        .collect()
}

#[test]
fn after_a_restart_only_the_last_batch_of_a_producer_is_recognised() {
    let mut world = World::new();
    sent_again(&mut world, LEADER, &[0, 1, 2, 3, 4]);
    for broker in [SECOND, THIRD, LEADER] {
        world.make(&Move::CrashBroker { broker });
    }
    // The last leader leads when nobody is left who might have more.
    world.make(&Move::RestartBroker { broker: LEADER });
    world.make(&Move::RestartBroker { broker: THIRD });
    assert_eq!(
        sent_again(&mut world, LEADER, &[4, 3, 0, 5]),
        [(0, 4), (45, -1), (45, -1), (0, 5)]
    );
    assert_eq!(
        sent_again(&mut world, LEADER, &[5, 4, 3]),
        [(0, 5), (0, 4), (45, -1)],
        "the window fills again"
    );
}

#[test]
fn a_follower_knows_in_full_what_it_followed_since_it_started() {
    let mut world = World::new();
    sent_again(&mut world, LEADER, &[0, 1, 2]);
    world.make(&Move::CrashBroker { broker: SECOND });
    world.make(&Move::RestartBroker { broker: SECOND });
    sent_again(&mut world, LEADER, &[3, 4]);
    world.make(&Move::CrashBroker { broker: LEADER });
    assert_eq!(
        sent_again(&mut world, SECOND, &[4, 3, 2, 1]),
        [(0, 4), (0, 3), (0, 2), (45, -1)]
    );
    // The third was never stopped.
    world.make(&Move::CrashBroker { broker: SECOND });
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(
        sent_again(&mut world, THIRD, &[4, 3, 2, 1, 0]),
        [0, 1, 2, 3, 4].map(|at| (0, 4 - at))
    );
}

/// A leader with a record that no other replica has, though acks=all acknowledged it.
fn leader_ahead(unclean: &str) -> World {
    let mut world = World::configured(&[("unclean.leader.election.enable", unclean)]);
    world.append(-1, Batch::plain(2));
    world.shrink(SECOND);
    world.shrink(THIRD);
    assert_eq!(outcome(world.append(-1, Batch::plain(3))), (0, 2));
    world
}

#[test]
fn an_unclean_leader_loses_what_it_lacks_and_no_more() {
    let mut world = leader_ahead("true");
    world.make(&Move::CrashBroker { broker: LEADER });
    assert_eq!(world.log_end(0), 2);
    let reader = world.connect(SECOND);
    let seen = world.send(reader, fetch("orders", 0, 0, (0, 1)));
    assert_eq!(fetched(only_answer(seen)).1, 2, "the watermark fell");
    world.make(&Move::RestartBroker { broker: LEADER });
    let there = world.connect(SECOND);
    let next = to_orders(-1, Batch::plain(1));
    assert_eq!(
        outcome(world.send(there, next)),
        (0, 2),
        "the one that returned has dropped what the others lack"
    );
}

#[test]
fn nobody_leads_rather_than_an_unclean_leader_unless_that_is_allowed() {
    let mut world = leader_ahead("false");
    world.make(&Move::CrashBroker { broker: LEADER });
    let there = world.connect(SECOND);
    let next = to_orders(-1, Batch::plain(1));
    assert_eq!(outcome(world.send(there, next)), (6, -1));
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(world.log_end(0), 5, "nothing is lost");
    assert_eq!(outcome(world.append(-1, Batch::plain(1))), (0, 5));
}

/// Rows of a request to both partitions of `orders`, of which the second waits for the third broker
/// while something happens to the first.
fn rows_when(happens: impl Fn(&mut World)) -> Vec<(i16, i64)> {
    let mut world = World::new();
    let to_second = |partition| Move::MoveLeader {
        topic: "orders".into(),
        partition,
        broker: LEADER,
    };
    world.make(&to_second(1));
    world.make(&Move::HoldFollower {
        topic: "orders".into(),
        partition: 1,
        broker: THIRD,
    });
    let connection = world.connect(LEADER);
    let batch = || Some(Batch::plain(1).encode());
    let frame = produce(-1, 1_000, "orders", &[(0, batch()), (1, batch())]);
    assert_eq!(world.send(connection, frame), [], "the second waits");
    happens(&mut world);
    let answers = world.make(&Move::ReleaseFollower {
        topic: "orders".into(),
        partition: 1,
        broker: THIRD,
    });
    let rows = produce_rows(only_answer(answers)).into_iter();
    rows.map(|row| (row.code, row.base_offset)).collect()
}

#[test]
fn what_was_replicated_stays_so_whatever_happens_while_another_row_waits() {
    let shrinks = |world: &mut World| {
        world.shrink(SECOND);
        world.shrink(THIRD);
    };
    assert_eq!(rows_when(shrinks), [(0, 0), (0, 0)], "neither 20");
    let moves = |world: &mut World| {
        world.make(&Move::MoveLeader {
            topic: "orders".into(),
            partition: 0,
            broker: SECOND,
        });
    };
    assert_eq!(rows_when(moves), [(0, 0), (0, 0)], "nor 6");
}
