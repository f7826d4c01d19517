//! Answers that Kafka gives for a moment only, where a test wants them.
//!
//! *State* of a topic that a request made:
//!
//! ```text
//!       made            30 ms                      60 ms
//! none ──────▶ unknown ──────▶ known, led by nobody ──────▶ led
//!              to brokers (3)   as its leader sees it (6)
//! ```
//!
//! and of a broker's first block of producer ids, and of the coordinators of a kind:
//!
//! ```text
//!          asked first            100 ms
//! nothing ────────────▶ on its way ──────▶ there
//!                       (14, 15)
//! ```
//!
//! and of a shard of transactions, once their coordinators are there:
//!
//! ```text
//!           200 ms                     asked first           150 ms
//! unelected ──────▶ elected, not loaded ────────▶ loading ──────────▶ loaded
//!    (16)                ▲                          (14)                │
//!                        └────── its broker restarts, or another takes over
//! ```
//!
//! *Invariants*
//! 1. Nothing is momentary unless [`Moments::Shown`] was chosen.
//! 2. What brokers knew before, the oldest first, ends in the order in which it was put here.
//!
//! *Source* observed on 4.3.1: 3 for 28 to 34 ms after a creation, then 6 with this very broker as
//! the leader for as long or longer; 6 for 28 ms after CreatePartitions; 14 for about 100 ms after
//! the first request for an id since a start; 15 for 100 ms until an internal topic is there, then
//! 16 for 200 ms to who asks its coordinator, then 14 for 130 to 170 ms; after a restart only the
//! 14, for 130 to 360 ms, one shard after the other.
//!
//! *Not here* topics that the handle makes: they are there at once.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::time::Instant;
use super::topology::{PartitionKey, Topology};
use super::transactions::Shard;
use crate::error_code::ErrorCode;

/// Whether answers that Kafka gives for a moment only are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moments {
    /// They are not: everything is there at once.
    #[default]
    Skipped,
    /// They are.
    Shown,
}

/// From a creation until the brokers know of it.
const KNOWN_AFTER: Duration = Duration::from_millis(30);
/// From then on until the leader leads.
const LED_AFTER: Duration = Duration::from_millis(30);
/// From the first request for an id until a broker has its block of them.
const IDS_AFTER: Duration = Duration::from_millis(100);
/// From the first request for a coordinator until it is there.
const COORDINATOR_AFTER: Duration = Duration::from_millis(100);
/// From then on until each coordinator of transactions knows what it is.
const ELECTED_AFTER: Duration = Duration::from_millis(200);
/// From the first request to the coordinator of a shard until it has read the shard.
const LOADED_AFTER: Duration = Duration::from_millis(150);
/// The kind of coordinator that transactions have, as FindCoordinator numbers it.
const OF_TRANSACTIONS: i8 = 1;
/// Creations that brokers learn of one by one; beyond that several at a time.
const BEFORE_MAX: usize = 64;

/// What will have been only for a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Momentary {
    moments: Moments,
    /// What brokers know until a time: the cluster without what was made since.
    before: VecDeque<(Instant, Topology)>,
    /// Partitions whose leaders do not lead yet.
    unled: BTreeMap<PartitionKey, Instant>,
    ids: BTreeMap<BrokerId, Instant>,
    coordinators: BTreeMap<i8, Instant>,
    loads: BTreeMap<i32, Load>,
}

/// A shard of transactions that its coordinator reads, or has read.
#[derive(Clone, Copy, Debug)]
struct Load {
    by: Shard,
    done_at: Instant,
}

impl Momentary {
    /// What brokers know that know the cluster of before.
    pub(super) fn before(&self) -> Option<&Topology> {
        self.before.front().map(|(_, topology)| topology)
    }

    pub(super) fn is_led(&self, key: PartitionKey) -> bool {
        !self.unled.contains_key(&key)
    }

    /// A broker starts: its block of ids is to be fetched, and what it coordinates to be read.
    pub(super) fn on_restart(&mut self, broker: BrokerId) {
        self.ids.remove(&broker);
        self.loads.retain(|_, load| load.by.broker != broker);
    }

    /// Whether the coordinator of a shard is ready; the first who asks lets it read the shard.
    ///
    /// # Errors
    ///
    /// 16 while it does not know that it coordinates, 14 while it reads.
    pub(super) fn check_loaded(
        &mut self,
        number: i32,
        by: Shard,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        if self.moments == Moments::Skipped {
            return Ok(());
        }
        let there = self.coordinators.get(&OF_TRANSACTIONS);
        if there.is_none_or(|there| *there + ELECTED_AFTER > now) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let done_at = now + LOADED_AFTER;
        let load = self.loads.entry(number).or_insert(Load { by, done_at });
        if load.by != by {
            *load = Load { by, done_at };
        }
        if load.done_at > now {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        Ok(())
    }

    /// What was deleted is gone for all brokers at once.
    pub(super) fn on_deletion(&mut self) {
        self.before.clear();
    }

    fn end(&mut self, now: Instant) {
        while self.before.front().is_some_and(|(until, _)| *until <= now) {
            self.before.pop_front();
        }
        self.unled.retain(|_, until| *until > now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let known = self.before.front().map(|(until, _)| *until);
        let led = self.unled.values().min().copied();
        known.into_iter().chain(led).min()
    }

    pub(super) fn check_invariants(&self) {
        if self.moments == Moments::Skipped {
            assert!(self.next_deadline().is_none(), "moments 1");
        }
        let times = self.before.iter().map(|(until, _)| until);
        assert!(times.is_sorted(), "moments 2");
    }
}

impl Cluster {
    /// Chooses whether answers that Kafka gives for a moment only are given from now on.
    pub fn show_moments(&mut self, moments: Moments) {
        self.momentary = Momentary {
            moments,
            ..Momentary::default()
        };
    }

    /// Makes topics or partitions as a request does: brokers know of them and lead them a little
    /// later, if moments are shown.
    pub fn make_by_request<T>(&mut self, make: impl FnOnce(&mut Self) -> T, now: Instant) -> T {
        if self.momentary.moments == Moments::Skipped {
            return make(self);
        }
        let before = self.topology.clone();
        let made = make(self);
        let mut known_at = now;
        for topic in self.topology.topics() {
            let old = before.topic(topic.key);
            if old.is_none() {
                known_at = now + KNOWN_AFTER;
            }
            let there = old.map_or(0, |topic| topic.partitions.len());
            for partition in topic.indexes().skip(there) {
                let key = PartitionKey {
                    topic: topic.key,
                    partition,
                };
                self.momentary.unled.insert(key, known_at + LED_AFTER);
            }
        }
        if known_at > now {
            let full = self.momentary.before.len() >= BEFORE_MAX;
            match self.momentary.before.back_mut() {
                Some(last) if full => last.0 = known_at,
                _ => self.momentary.before.push_back((known_at, before)),
            }
        }
        made
    }

    /// Whether a broker has its block of producer ids; the first who asks lets it be fetched.
    pub fn has_ids(&mut self, broker: BrokerId, now: Instant) -> bool {
        match self.momentary.moments {
            Moments::Skipped => true,
            Moments::Shown => {
                let there = self.momentary.ids.entry(broker);
                *there.or_insert(now + IDS_AFTER) <= now
            }
        }
    }

    /// Whether the coordinators of this kind are there; the first who asks lets them be made.
    pub fn has_coordinators(&mut self, kind: i8, now: Instant) -> bool {
        match self.momentary.moments {
            Moments::Skipped => true,
            Moments::Shown => {
                let there = self.momentary.coordinators.entry(kind);
                *there.or_insert(now + COORDINATOR_AFTER) <= now
            }
        }
    }

    /// Ends what was for a moment only.
    pub(super) fn end_moments(&mut self, now: Instant) {
        self.momentary.end(now);
    }
}
