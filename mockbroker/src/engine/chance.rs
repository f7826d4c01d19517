//! Moves by chance, for simulations: the same seed draws the same moves.
//!
//! *Invariants*
//! 1. Drawn moves lose nothing that Kafka promises to keep; an unclean election is drawn only where
//!    that is asked for.
//! 2. A move may be one that the cluster cannot make at that moment: it is refused then.
//!
//! *Not here* moves that change what is promised: records deleted, producers forgotten, versions
//! restricted.

use core::time::Duration;
use std::sync::Arc;

use super::effect::BrokerId;
use super::moves::Move;

/// What drawn moves may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Nothing that all in-sync replicas have acknowledged.
    None,
    /// What an elected replica lacks.
    Unclean,
}

/// What moves are drawn for.
#[derive(Clone, Debug)]
pub struct Field {
    /// The brokers; at least one.
    pub brokers: Vec<BrokerId>,
    /// Topics and partitions; at least one.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// What may be lost.
    pub losses: Losses,
    /// The longest delay of a link.
    pub delay_max: Duration,
}

impl Field {
    /// A move. What ends a fault is drawn as often as what begins one.
    #[must_use]
    pub fn draw(&self, random: &mut fastrand::Rng) -> Move {
        let broker = self.broker(random);
        match random.u8(..16) {
            0 => Move::CrashBroker { broker },
            1 | 2 => Move::RestartBroker { broker },
            3 => Move::PauseBroker { broker },
            4 | 5 => Move::ResumeBroker { broker },
            6 => Move::IsolateBroker { broker },
            7 | 8 => Move::HealBroker { broker },
            9 => Move::DelayReplication {
                from: broker,
                to: self.broker(random),
                delay: self.delay(random),
            },
            _ => self.draw_of_partition(broker, random),
        }
    }

    fn draw_of_partition(&self, broker: BrokerId, random: &mut fastrand::Rng) -> Move {
        let at = random.usize(..self.partitions.len().max(1));
        let (topic, partition) = match self.partitions.get(at) {
            Some((topic, partition)) => (Arc::clone(topic), *partition),
            None => ("".into(), 0),
        };
        match random.u8(..11) {
            0 => Move::HoldFollower {
                topic,
                partition,
                broker,
            },
            1 | 2 => Move::ReleaseFollower {
                topic,
                partition,
                broker,
            },
            3 => Move::ShrinkIsr {
                topic,
                partition,
                broker,
            },
            4 => Move::ExpandIsr {
                topic,
                partition,
                broker,
            },
            5 => Move::HoldIsrChanges { topic, partition },
            6 | 7 => Move::ReleaseIsrChanges { topic, partition },
            8 if self.losses == Losses::Unclean => Move::ElectUnclean {
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
    }

    fn broker(&self, random: &mut fastrand::Rng) -> BrokerId {
        let at = random.usize(..self.brokers.len().max(1));
        self.brokers.get(at).copied().unwrap_or(BrokerId(0))
    }

    /// Half of the time none.
    fn delay(&self, random: &mut fastrand::Rng) -> Duration {
        let max = u64::try_from(self.delay_max.as_micros()).unwrap_or(u64::MAX);
        match random.bool() {
            true => Duration::ZERO,
            false => Duration::from_micros(random.u64(..=max)),
        }
    }
}
