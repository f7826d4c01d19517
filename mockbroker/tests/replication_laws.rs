//! What replication promises, whatever comes in whatever order.

mod frames;
mod world;

use core::time::Duration;

use frames::{Batch, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use kafka_mockbroker::engine::log::StoredBatch;
use proptest::prelude::*;
use world::{World, to_orders};

#[derive(Clone, Debug)]
enum Step {
    Append { acks: i16 },
    Move(Move),
    Pass(Duration),
}

/// What was sent, and what is known of it.
#[derive(Default)]
struct Sent {
    /// The connection of a request, and the sequence that it carried.
    asked: Vec<(ConnectionId, i32)>,
    /// Offset and sequence of what was acknowledged with acks=all.
    kept: Vec<(i64, i32)>,
}

impl Sent {
    fn hear(&mut self, effects: &[Effect]) {
        for effect in effects {
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

fn step() -> impl Strategy<Value = Step> {
    let broker = (1..=3i32).prop_map(BrokerId);
    let to_make = (0..8u8, broker).prop_map(|(kind, broker)| {
        let (topic, partition) = ("orders".into(), 0);
        match kind {
            0 => Move::CrashBroker { broker },
            1 => Move::RestartBroker { broker },
            2 => Move::PauseBroker { broker },
            3 => Move::ResumeBroker { broker },
            4 => Move::HoldFollower {
                topic,
                partition,
                broker,
            },
            5 => Move::ReleaseFollower {
                topic,
                partition,
                broker,
            },
            6 => Move::ShrinkIsr {
                topic,
                partition,
                broker,
            },
            _ => Move::MoveLeader {
                topic,
                partition,
                broker,
            },
        }
    });
    prop_oneof![
        3 => prop_oneof![Just(-1i16), Just(1)].prop_map(|acks| Step::Append { acks }),
        4 => to_make.prop_map(Step::Move),
        1 => (1..12_000u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ]
}

/// One step; whatever is answered to acks=all with 0 counts as kept.
fn take(world: &mut World, sent: &mut Sent, (number, step): (i32, &Step)) {
    let effects = match step {
        Step::Append { acks } => {
            let cluster = world.engine.cluster();
            let leader = cluster
                .key("orders", 0)
                .ok()
                .and_then(|key| cluster.leader(key));
            let connection = world.connect(leader.unwrap_or(world::LEADER));
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
    sent.hear(&effects);
}

proptest! {
    /// Every invariant of every machine is checked after every step, as `World` does: the ISR is
    /// a subset of the replicas and holds the leader, nobody is ahead of the leader.
    #[test]
    fn what_all_acknowledged_survives_every_sequence_of_clean_moves(
        steps in proptest::collection::vec(step(), 1..60),
        isr_min in prop_oneof![Just("1"), Just("2"), Just("3")],
    ) {
        let mut world = World::configured(&[("min.insync.replicas", isr_min)]);
        let mut sent = Sent::default();
        let (mut watermark, mut epoch) = (0, 0);
        for numbered in (0..).zip(&steps) {
            take(&mut world, &mut sent, numbered);
            let cluster = world.engine.cluster();
            let key = cluster.key("orders", 0).unwrap();
            let log = cluster.partition(key).unwrap().log();
            prop_assert!(log.high_watermark() >= watermark, "the watermark fell");
            watermark = log.high_watermark();
            let leadership = cluster.topology().placement(key).unwrap().leadership;
            prop_assert!(leadership.epoch >= epoch, "the leader epoch fell");
            epoch = leadership.epoch;
            for (offset, sequence) in &sent.kept {
                let batch = log.batches().iter().find(|b| b.header.base_offset == *offset);
                let stands = batch.map(|batch| batch.header.base_sequence);
                prop_assert_eq!(stands, Some(*sequence), "lost at offset {}", offset);
                prop_assert!(*offset < watermark, "acknowledged, and not visible");
            }
        }
    }

    #[test]
    fn nothing_is_lost_without_an_election_even_where_it_may_be_unclean(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::configured(&[("unclean.leader.election.enable", "true")]);
        let (mut before, mut epoch): (Vec<StoredBatch>, i32) = (Vec::new(), 0);
        for numbered in (0..).zip(&steps) {
            take(&mut world, &mut Sent::default(), numbered);
            let cluster = world.engine.cluster();
            let key = cluster.key("orders", 0).unwrap();
            let now = cluster.partition(key).unwrap().log().batches().to_vec();
            // A broker that is resumed may be elected and append in one step.
            let kept = before.iter().zip(&now).take_while(|(before, now)| before == now);
            let elected = cluster.topology().placement(key).unwrap().leadership.epoch > epoch;
            prop_assert!(kept.count() == before.len() || elected, "lost without an election");
            epoch = cluster.topology().placement(key).unwrap().leadership.epoch;
            before = now;
        }
    }
}
