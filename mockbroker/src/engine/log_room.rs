//! How many bytes the logs of a cluster may hold: its disk.
//!
//! *State*
//!
//! ```text
//!        append, within the bound                      append beyond it
//! room ─────────────────────────▶ less room   no room ─────────────────▶ refused with 56
//!   ▲                                                    │ counted anew
//!   └─────────── a topic was deleted, a log truncated ◀──┘
//! ```
//!
//! *Invariants*
//! 1. The count is never below what the logs hold. It is above it until it is taken anew, which
//!    happens when an append would not fit: what was freed is found then.
//!
//! *Source* none in Kafka, whose disk is as large as it is; the answer is that of a log directory
//! that failed.
//!
//! *Not here* the bytes of followers, which share their leader's; what a batch costs each replica
//! beside its bytes is counted.
//!
//! *Deviations* a broker whose disk is full takes the log directory offline and leads nothing more.

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::log::Log;
use super::partition::Partition;
use super::replica::Replica;
use super::topology::PartitionKey;

/// The bound and the count.
#[derive(Clone, Copy, Debug)]
pub struct LogRoom {
    bytes_max: u64,
    bytes: u64,
}

impl Default for LogRoom {
    fn default() -> Self {
        Self {
            bytes_max: BYTES_MAX,
            bytes: 0,
        }
    }
}

/// Unless another bound is set: 4 GiB.
const BYTES_MAX: u64 = 4 << 30;

impl Cluster {
    /// Bounds the bytes of all logs together.
    pub const fn bound_log_bytes(&mut self, bytes_max: u64) {
        self.log_room.bytes_max = bytes_max;
    }

    /// How many bytes the logs may still take.
    pub(super) const fn log_room(&self) -> u64 {
        let LogRoom { bytes_max, bytes } = self.log_room;
        bytes_max.saturating_sub(bytes)
    }

    /// A batch was appended to a log on `broker`.
    pub(super) fn on_log_grown(&mut self, key: PartitionKey, broker: BrokerId) {
        let bytes = self.partitions.get(&key).map_or(0, |partition| {
            let replicas = partition.replicas().replicas().len();
            let batches = partition.log_on(broker).map(Log::batches);
            let batch = batches.and_then(<[_]>::last);
            batch.map_or(0, |batch| as_u64(batch.held_bytes(replicas)))
        });
        self.log_room.bytes = self.log_room.bytes.saturating_add(bytes);
    }

    /// Counts anew; `true` when there is more room then.
    pub(super) fn regain_log_room(&mut self) -> bool {
        let before = self.log_room.bytes;
        self.log_room.bytes = self.log_bytes();
        self.log_room.bytes < before
    }

    /// An append did not fit.
    pub(super) fn on_log_room_missed(&mut self) {
        let LogRoom { bytes_max, bytes } = self.log_room;
        self.note(format!(
            "a batch is refused with 56: the logs hold {bytes} bytes, allowed are {bytes_max}"
        ));
    }

    /// What the logs hold: of each partition the largest, since any may come to lead.
    fn log_bytes(&self) -> u64 {
        let largest = |partition: &Partition| {
            let replicas = partition.replicas().replicas();
            let held = |replica: &Replica| as_u64(replica.log().held_bytes(replicas.len()));
            replicas.iter().map(held).max()
        };
        self.partitions.values().filter_map(largest).sum()
    }

    pub(super) fn check_log_room(&self) {
        assert!(self.log_room.bytes >= self.log_bytes(), "log room 1");
    }
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
