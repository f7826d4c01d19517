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
//! *Not here* followers: they share the bytes of their leader.
//!
//! *Deviations* a broker whose disk is full takes the log directory offline and leads nothing more.

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::partition::Partition;
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

    /// How many bytes a log may still take, for an append of about `wanted`.
    pub(super) fn log_room(&mut self, wanted: usize) -> u64 {
        let LogRoom { bytes_max, bytes } = self.log_room;
        let left = bytes_max.saturating_sub(bytes);
        if as_u64(wanted) <= left {
            return left;
        }
        self.log_room.bytes = self.log_bytes();
        bytes_max.saturating_sub(self.log_room.bytes)
    }

    /// A batch was appended to a log on `broker`.
    pub(super) fn on_log_grown(&mut self, key: PartitionKey, broker: BrokerId) {
        let partition = self.partitions.get(&key);
        let log = partition.and_then(|partition| partition.log_on(broker));
        let batch = log.and_then(|log| log.batches().last());
        let bytes = batch.map_or(0, |batch| as_u64(batch.bytes()));
        self.log_room.bytes = self.log_room.bytes.saturating_add(bytes);
    }

    /// An append did not fit.
    pub(super) fn on_log_room_missed(&mut self) {
        let LogRoom { bytes_max, bytes } = self.log_room;
        self.note(format!(
            "a batch is refused with 56: the logs hold {bytes} bytes, allowed are {bytes_max}"
        ));
    }

    /// What the logs hold: of each partition the longest, since any may come to lead.
    fn log_bytes(&self) -> u64 {
        let longest = |partition: &Partition| {
            let replicas = partition.replicas().replicas().iter();
            replicas.map(|replica| as_u64(replica.log().bytes())).max()
        };
        self.partitions.values().filter_map(longest).sum()
    }

    pub(super) fn check_log_room(&self) {
        assert!(self.log_room.bytes >= self.log_bytes(), "log room 1");
    }
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
