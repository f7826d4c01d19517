//! How many producers the partitions of a cluster may know.
//!
//! *State*
//!
//! ```text
//!        a new producer, within the bound              one beyond it
//! room ───────────────────────────────────▶ no room ─────────────────▶ refused with -1
//!   ▲                                          │ counted anew
//!   └── a topic was deleted, producers expired ◀┘
//! ```
//!
//! *Invariants*
//! 1. Nobody whom a partition does not know is let in beyond the bound. What a follower learns of
//!    batches that it lacked was let in before.
//!
//! *Source* none in Kafka, which takes producers until its memory is full: an append that fails
//! like that is answered with -1 (`ReplicaManager.appendToLocalLog`).
//!
//! *Not here* what is remembered of a producer (`producer_state.rs`).

use super::cluster::{Cluster, wall_clock_ms};
use super::effect::BrokerId;
use super::partition::Partition;
use super::time::Instant;
use super::topology::PartitionKey;

/// The bound and the count, which is never below what was let in.
#[derive(Clone, Copy, Debug)]
pub struct ProducerRoom {
    count_max: usize,
    count: usize,
}

impl Default for ProducerRoom {
    fn default() -> Self {
        Self {
            count_max: COUNT_MAX,
            count: 0,
        }
    }
}

/// Unless another bound is set; a producer takes some 300 bytes in each replica.
const COUNT_MAX: usize = 1_000_000;

impl Cluster {
    /// Bounds the producers of all partitions together; one that writes to two counts twice.
    pub const fn bound_producers(&mut self, count_max: usize) {
        self.producer_room.count_max = count_max;
    }

    /// Whether one more producer may become known.
    pub(super) const fn has_producer_room(&self) -> bool {
        self.producer_room.count < self.producer_room.count_max
    }

    /// How many producers a replica knows.
    pub(super) fn producers_on(&self, key: PartitionKey, broker: BrokerId) -> usize {
        let replicas = self.partitions.get(&key).map(Partition::replicas);
        let replica = replicas.and_then(|replicas| replicas.replica(broker));
        replica.map_or(0, |replica| replica.producers().count())
    }

    /// A batch was appended to a replica that knew `before` producers.
    pub(super) fn on_producer_appended(&mut self, key: PartitionKey, at: BrokerId, before: usize) {
        let fresh = self.producers_on(key, at).saturating_sub(before);
        self.producer_room.count = self.producer_room.count.saturating_add(fresh);
    }

    /// Counts anew, without those that expired; `true` when there is room then.
    pub(super) fn regain_producer_room(&mut self, now: Instant) -> bool {
        let now_ms = wall_clock_ms(self.wall_clock_origin_ms, now);
        let brokers = self.topology.brokers().map(|broker| broker.endpoint.id);
        for broker in brokers.collect::<Vec<_>>() {
            let expiry = self.expiry(broker);
            for partition in self.partitions.values_mut() {
                partition.forget_expired(broker, expiry, now_ms);
            }
        }
        let most = |partition: &Partition| {
            let replicas = partition.replicas().replicas().iter();
            replicas.map(|replica| replica.producers().count()).max()
        };
        self.producer_room.count = self.partitions.values().filter_map(most).sum();
        self.has_producer_room()
    }

    /// A producer was not let in.
    pub(super) fn on_producer_room_missed(&mut self) {
        let ProducerRoom { count_max, count } = self.producer_room;
        self.note(format!(
            "a batch is refused with -1: its producer is new, {count} are known, allowed are \
             {count_max}"
        ));
    }
}
