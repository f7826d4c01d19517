//! What replication promises, whatever comes in whatever order.
//!
//! Every invariant of every machine is checked after every step, as `World` does: who leads is in
//! sync, who follows has a prefix of the leader's log, who is in sync or eligible has all that is
//! visible.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use core::time::Duration;

use frames::{Batch, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::chance::{Field, Losses};
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use kafka_mockbroker::engine::log::StoredBatch;
use kafka_mockbroker::engine::partition::Partition;
use kafka_mockbroker::handlers::ClusterEngine;
use proptest::prelude::*;
use world::{World, to_orders};

#[derive(Clone, Debug)]
enum Step {
    /// To whoever leads, or to whoever takes itself for the leader.
    Append {
        acks: i16,
        to: To,
    },
    Move(Move),
    Pass(Duration),
}

#[derive(Clone, Copy, Debug)]
enum To {
    Leader,
    Broker(BrokerId),
}

/// What was sent, and what is known of it.
#[derive(Default)]
struct Sent {
    /// The connection of a request, and the sequence that it carried.
    asked: Vec<(ConnectionId, i32)>,
    /// Offset and sequence of what was acknowledged with acks=all.
    kept: Vec<(i64, i32)>,
    /// What the last step was answered with.
    heard: Vec<Effect>,
}

impl Sent {
    fn hear(&mut self, effects: Vec<Effect>) {
        self.heard = effects;
        for effect in &self.heard {
            let Effect::Reply { connection, frame } = effect else {
                continue;
            };
            let row = produce_rows(frame.clone())[0];
            let asked = self.asked.iter().find(|(asked, _)| asked == connection);
            if let (Some((_, sequence)), 0) = (asked, row.code) {
                self.kept.push((row.base_offset, *sequence));
            }
        }
    }
}

fn append() -> impl Strategy<Value = Step> {
    let broker = (1..=3i32).prop_map(|id| To::Broker(BrokerId(id)));
    let to = prop_oneof![2 => Just(To::Leader), 1 => broker];
    let acks = prop_oneof![Just(-1i16), Just(1)];
    (acks, to).prop_map(|(acks, to)| Step::Append { acks, to })
}

fn step(losses: Losses) -> impl Strategy<Value = Step> {
    let field = Field {
        brokers: [1, 2, 3].map(BrokerId).to_vec(),
        partitions: vec![("orders".into(), 0)],
        losses,
        delay_max: Duration::from_secs(12),
    };
    prop_oneof![
        3 => append(),
        4 => any::<u64>().prop_map(move |seed| {
            Step::Move(field.draw(&mut fastrand::Rng::with_seed(seed)))
        }),
        1 => (1..12_000u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ]
}

/// One step; whatever is answered to acks=all with 0 counts as kept.
fn take(world: &mut World, sent: &mut Sent, (number, step): (i32, &Step)) {
    let effects = match step {
        Step::Append { acks, to } => {
            let cluster = world.engine.cluster();
            let key = cluster.key("orders", 0).unwrap();
            let broker = match to {
                To::Leader => cluster.leader(key).unwrap_or(world::LEADER),
                To::Broker(broker) => *broker,
            };
            let connection = world.connect(broker);
            if *acks == -1 {
                sent.asked.push((connection, number));
            }
            // The sequence tells one batch from another; each has a producer of its own.
            let batch = Batch::idempotent(i64::from(number), number, 1);
            world.send(connection, to_orders(*acks, batch))
        }
        Step::Move(to_make) => {
            // A move that the cluster cannot make changes nothing.
            let _refused = world.engine.make_move(to_make, world.now);
            world.effects()
        }
        Step::Pass(duration) => world.pass(*duration),
    };
    sent.hear(effects);
}

fn partition(world: &World) -> &Partition {
    let cluster = world.engine.cluster();
    let key = cluster.key("orders", 0).unwrap();
    cluster.partition(key).unwrap()
}

fn leadership(world: &World) -> (Option<BrokerId>, i32) {
    let cluster = world.engine.cluster();
    let key = cluster.key("orders", 0).unwrap();
    let leadership = cluster.topology().placement(key).unwrap().leadership;
    (leadership.leader, leadership.epoch)
}

fn logs(world: &World) -> Vec<(BrokerId, Vec<StoredBatch>)> {
    let replicas = partition(world).replicas().replicas().iter();
    replicas
        .map(|replica| (replica.broker, replica.log().batches().to_vec()))
        .collect()
}

/// Takes steps, whose batches are numbered from `first` on; returns what the world was told.
fn go_on(world: &mut World, first: i32, steps: &[Step]) -> Vec<String> {
    let mut sent = Sent::default();
    let told = (first..).zip(steps).map(|numbered| {
        take(world, &mut sent, numbered);
        format!(
            "{:?} {:?}",
            sent.heard,
            world.engine.cluster().next_deadline()
        )
    });
    told.collect()
}

/// Journal and logs.
fn everything(world: &World) -> (String, Vec<(BrokerId, Vec<StoredBatch>)>) {
    let journal: Vec<_> = world.engine.journal().entries().collect();
    (format!("{journal:?}"), logs(world))
}

fn settings(isr_min: &str) -> World {
    let brokers = [("replica.lag.time.max.ms", "10000")];
    World::of_brokers(&brokers, &[("min.insync.replicas", isr_min)])
}

proptest! {
    /// Leaders that are cut off and go on to serve clients included.
    #[test]
    fn what_all_acknowledged_survives_every_sequence_of_clean_moves(
        steps in proptest::collection::vec(step(Losses::None), 1..80),
        isr_min in prop_oneof![Just("1"), Just("2"), Just("3")],
    ) {
        let mut world = settings(isr_min);
        let mut sent = Sent::default();
        let (mut watermark, mut epoch) = (0, 0);
        for numbered in (0..).zip(&steps) {
            take(&mut world, &mut sent, numbered);
            let log = partition(&world).log();
            prop_assert!(log.high_watermark() >= watermark, "the watermark fell");
            watermark = log.high_watermark();
            prop_assert!(leadership(&world).1 >= epoch, "the leader epoch fell");
            epoch = leadership(&world).1;
            for (offset, sequence) in &sent.kept {
                let batch = log.batches().iter().find(|b| b.header.base_offset == *offset);
                let stands = batch.map(|batch| batch.header.base_sequence);
                prop_assert_eq!(stands, Some(*sequence), "lost at offset {}", offset);
                prop_assert!(*offset < watermark, "acknowledged, and not visible");
            }
        }
    }

    #[test]
    fn an_election_loses_what_the_new_leader_lacks_and_nothing_else(
        steps in proptest::collection::vec(step(Losses::Unclean), 1..80),
        unclean in prop_oneof![Just("true"), Just("false")],
    ) {
        let mut world = World::configured(&[("unclean.leader.election.enable", unclean)]);
        let mut before = logs(&world);
        for numbered in (0..).zip(&steps) {
            take(&mut world, &mut Sent::default(), numbered);
            let (now, before) = (logs(&world), std::mem::replace(&mut before, logs(&world)));
            let Some(leader) = leadership(&world).0 else {
                continue;
            };
            let of_leader = |logs: &[(BrokerId, Vec<StoredBatch>)]| {
                let log = logs.iter().find(|(broker, _)| *broker == leader);
                log.unwrap().1.clone()
            };
            // Its log only grows, and when it is elected it leads with all that it had.
            prop_assert!(of_leader(&now).starts_with(&of_leader(&before)), "{:?}", leader);
        }
    }

    /// Whatever the moves were: when all brokers are sound again, every replica has the same log.
    #[test]
    fn replicas_agree_when_everything_is_sound_again(
        steps in proptest::collection::vec(step(Losses::Unclean), 1..80),
    ) {
        let mut world = settings("2");
        for numbered in (0..).zip(&steps) {
            take(&mut world, &mut Sent::default(), numbered);
        }
        mend(&mut world);
        let logs = logs(&world);
        for (broker, log) in &logs[1..] {
            prop_assert_eq!(log.len(), logs[0].1.len(), "{:?}", broker);
            prop_assert!(*log == logs[0].1, "{:?} differs", broker);
        }
        let log = partition(&world).log();
        prop_assert_eq!(log.high_watermark(), log.end_offset(), "all is visible");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_seed_and_inputs_give_the_same_bytes(
        steps in proptest::collection::vec(step(Losses::Unclean), 1..60),
    ) {
        let (mut one, mut other) = (settings("2"), settings("2"));
        prop_assert_eq!(go_on(&mut one, 0, &steps), go_on(&mut other, 0, &steps));
        prop_assert_eq!(everything(&one), everything(&other));
    }

    #[test]
    fn a_fork_goes_on_as_the_original_does_and_neither_sees_the_other(
        before in proptest::collection::vec(step(Losses::Unclean), 1..40),
        elsewhere in proptest::collection::vec(step(Losses::Unclean), 1..20),
        after in proptest::collection::vec(step(Losses::Unclean), 1..40),
    ) {
        let mut original = settings("2");
        go_on(&mut original, 0, &before);
        let (mut fork, mut other) = (original.clone(), original.clone());
        go_on(&mut other, 100, &elsewhere);
        prop_assert_eq!(everything(&original), everything(&fork));
        prop_assert_eq!(go_on(&mut original, 100, &after), go_on(&mut fork, 100, &after));
        prop_assert_eq!(everything(&original), everything(&fork));
    }

    /// Back in the same engine, or on in another one: what follows is the same.
    #[test]
    fn what_goes_on_from_a_snapshot_is_the_same_wherever_it_does(
        before in proptest::collection::vec(step(Losses::Unclean), 1..40),
        undone in proptest::collection::vec(append(), 1..10),
        after in proptest::collection::vec(step(Losses::Unclean), 1..40),
    ) {
        let mut back = settings("2");
        go_on(&mut back, 0, &before);
        let snapshot = back.engine.snapshot(back.now);
        let mut on = back.clone();
        let brokers = on.engine.cluster().topology().brokers();
        let endpoints: Vec<_> = brokers.map(|broker| broker.endpoint.clone()).collect();
        on.engine = ClusterEngine::from_snapshot(&snapshot, &endpoints, 7).unwrap();
        let logs_then = logs(&on);
        go_on(&mut back, 100, &undone);
        back.engine.restore(&snapshot, back.now).unwrap();
        back.effects();
        prop_assert_eq!(logs(&back), logs_then);
        // Connections are numbered alike.
        for _ in &undone {
            let connection = on.connect(world::LEADER);
            on.engine.handle_disconnect(connection, on.now);
        }
        on.effects();
        prop_assert_eq!(go_on(&mut back, 200, &after), go_on(&mut on, 200, &after));
        prop_assert_eq!(logs(&back), logs(&on));
    }
}

/// A link that takes whole seconds, and moves planned for whole seconds: they meet. Returns the
/// rows of 20 that were heard, each checked to be what Kafka's window makes it.
fn twenties(seed: u64) -> usize {
    let random = &mut fastrand::Rng::with_seed(seed);
    let mut world = settings("2");
    let mut heard = 0;
    let (topic, partition) = (std::sync::Arc::<str>::from("orders"), 0);
    let second = |random: &mut fastrand::Rng| Duration::from_secs(random.u64(1..4));
    for number in 0..40 {
        let broker = BrokerId(random.i32(1..=3));
        let topic = topic.clone();
        let effects = match random.u8(..8) {
            0 => {
                let delay = Move::DelayReplication {
                    from: world.placement().leadership.leader.unwrap_or(broker),
                    to: broker,
                    delay: second(random),
                };
                let _refused = world.engine.make_move(&delay, world.now);
                world.effects()
            }
            kind @ 1..=3 => {
                let planned = match kind {
                    1 => Move::ExpandIsr {
                        topic,
                        partition,
                        broker,
                    },
                    _ => Move::ShrinkIsr {
                        topic,
                        partition,
                        broker,
                    },
                };
                let at = world.now + second(random);
                world.engine.plan_move(planned, at).unwrap();
                Vec::new()
            }
            4..=5 => {
                let leader = world.placement().leadership.leader.unwrap_or(broker);
                let batch = Batch::idempotent(i64::from(number), number, 1);
                let connection = world.connect(leader);
                let entries = [(0, Some(batch.encode()))];
                world.send(connection, frames::produce(-1, 10_000, "orders", &entries))
            }
            _ => world.pass(Duration::from_secs(1)),
        };
        for effect in effects {
            let Effect::Reply { frame, .. } = effect else {
                continue;
            };
            let row = produce_rows(frame)[0];
            assert!([0, 7, 19, 20].contains(&row.code), "seed {seed}: {row:?}");
            if row.code == 20 {
                heard += 1;
                assert!(row.base_offset >= 0, "seed {seed}: it is in the log");
                assert!(
                    row.base_offset < world.watermark(),
                    "seed {seed}: it is replicated"
                );
                let mut settled = world.engine.plan().settled().iter();
                let shrinks = settled.any(|planned| {
                    planned.at == world.now && matches!(planned.to_make, Move::ShrinkIsr { .. })
                });
                assert!(shrinks, "seed {seed}: the ISR shrank just now");
            }
        }
    }
    heard
}

#[test]
fn code_20_arises_by_itself_and_for_what_is_replicated_alone() {
    let heard: usize = (0..300).map(twenties).sum();
    assert!(heard > 0, "the window is narrow, and there");
}

/// Ends every fault.
fn mend(world: &mut World) {
    let brokers = [1, 2, 3].map(BrokerId);
    let (topic, partition) = (std::sync::Arc::<str>::from("orders"), 0);
    let mut moves = vec![Move::ReleaseIsrChanges {
        topic: topic.clone(),
        partition,
    }];
    for broker in brokers {
        moves.push(Move::RestartBroker { broker });
        moves.push(Move::ResumeBroker { broker });
        moves.push(Move::HealBroker { broker });
        moves.extend(brokers.map(|to| Move::DelayReplication {
            from: broker,
            to,
            delay: Duration::ZERO,
        }));
    }
    moves.extend(brokers.map(|broker| Move::ReleaseFollower {
        topic: topic.clone(),
        partition,
        broker,
    }));
    for to_make in &moves {
        // A leader cannot be released.
        let _refused = world.engine.make_move(to_make, world.now);
        world.effects();
    }
}
