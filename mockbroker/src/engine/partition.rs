//! One replica set: validate, make a candidate, commit.
//!
//! *State* of an append:
//!
//! ```text
//!        too few in sync    validator        duplicate
//! Asked ─┬────────────────┬───────────────┬─────────────▶ Duplicate (nothing changes)
//!        │ 19             │ 2 10 18 32 87 │ next
//!        ▼                ▼ -1            ├─────────────▶ Appended (log, producers, replicas)
//!     Refused ◀───────────┘               │ 45 47
//!        ▲────────────────────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A refused or duplicate batch leaves log, producers and replicas as they were.
//! 2. What the producers remember is in the log, and as much as the leader may know of it: they
//!    change together.
//! 3. Too few in-sync replicas are seen before the batch is looked at (observed: 19 wins over a bad
//!    checksum, size, timestamp and a duplicate).
//! 4. A leader that was in sync has all that was visible: in an unclean election alone the
//!    watermark falls, and records are lost that all had acknowledged.
//!
//! *Source* apache/kafka `core/…/cluster/Partition.scala` appendRecordsToLeader;
//! `storage/…/internals/log/UnifiedLog.java` append.
//!
//! *Not here* who leads (`topology.rs`); waiting for the watermark (`purgatory.rs`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::effect::BrokerId;
use super::log::{Log, StoredBatch};
use super::producer_state::{
    ActiveProducer, Expiry, ProducerBatch, ProducerStates, SequenceVerdict,
};
use super::replication::{Election, Membership, ReplicaSet, effective_isr_min};
use super::time::Instant;
use super::validator::{self, Refusal};
use crate::config::{CleanupPolicy, TimestampType, TopicConfig};

/// Who must have the batch before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// The leader, or nobody who would tell.
    Leader,
    /// All in-sync replicas, and enough of them.
    All,
}

/// What surrounds an append.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Who must have it.
    pub acks: Acks,
    /// The leader epoch.
    pub leader_epoch: i32,
    /// The topic's configuration.
    pub config: &'a TopicConfig,
    /// When idle producers are forgotten.
    pub expiry: Expiry,
    /// The broker's clock.
    pub wall_clock_ms: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log now.
    Stored {
        /// Its first record's offset.
        base_offset: i64,
        /// Its last record's offset.
        last_offset: i64,
        /// When the broker appended it, if the broker's time counts.
        log_append_time_ms: Option<i64>,
    },
    /// It was in the log before.
    Duplicate {
        /// The original's first offset.
        base_offset: i64,
        /// The original's last offset.
        last_offset: i64,
        /// The original's largest timestamp; Kafka answers it as the append time on every topic.
        timestamp_ms: i64,
    },
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Fewer in sync than `min.insync.replicas`.
    NotEnoughReplicas,
    /// The batch itself.
    Batch(Refusal),
    /// The producer's epoch is over.
    StaleEpoch,
    /// The sequence does not follow on.
    OutOfOrder,
}

/// Before which offset records are to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteTo {
    /// Everything that is visible.
    HighWatermark,
    /// Before this offset.
    Offset(i64),
}

/// Why no records are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteError {
    /// The topic's `cleanup.policy` does not delete.
    NotByPolicy,
    /// The offset is below 0 or above the high watermark.
    OutOfRange,
}

/// A replica set with its log.
#[derive(Debug)]
pub struct Partition {
    log: Log,
    producers: ProducerStates,
    /// The end of the log that the leader had when it started; of what lies before, its producers
    /// come from a snapshot.
    started_at: i64,
    replicas: ReplicaSet,
}

impl Partition {
    /// An empty log on these replicas.
    #[must_use]
    pub fn new(replicas: ReplicaSet) -> Self {
        Self {
            log: Log::default(),
            producers: ProducerStates::default(),
            started_at: 0,
            replicas,
        }
    }

    /// Appends the batch in `records`, unless something speaks against it.
    ///
    /// # Errors
    ///
    /// What speaks against it; nothing has changed then.
    pub fn append(
        &mut self,
        records: &Bytes,
        append: &Append<'_>,
        now: Instant,
    ) -> Result<Appended, AppendError> {
        let isr_min = self.isr_min(append.config);
        if append.acks == Acks::All && self.replicas.isr_count() < isr_min {
            return Err(AppendError::NotEnoughReplicas);
        }
        let now_ms = append.wall_clock_ms;
        let candidate =
            validator::validate(records, append.config, now_ms).map_err(AppendError::Batch)?;
        let producer = ProducerBatch::of(&candidate.header);
        if let Some(batch) = &producer {
            match self.producers.check(batch, append.expiry, now_ms) {
                SequenceVerdict::Next => {}
                SequenceVerdict::Duplicate(original) => {
                    return Ok(Appended::Duplicate {
                        base_offset: original.base_offset,
                        last_offset: original.last_offset,
                        timestamp_ms: original.timestamp_ms,
                    });
                }
                SequenceVerdict::StaleEpoch => return Err(AppendError::StaleEpoch),
                SequenceVerdict::OutOfOrder => return Err(AppendError::OutOfOrder),
            }
        }
        let mut header = candidate.header;
        header.base_offset = self.log.end_offset();
        header.leader_epoch = append.leader_epoch;
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        if let Some(batch) = &producer {
            self.producers
                .commit(batch, base_offset, last_offset, now_ms);
        }
        self.log.append(StoredBatch {
            header,
            payload: candidate.payload,
            received: candidate.received,
        });
        self.replicas.on_append(self.log.end_offset(), now);
        self.advance_watermark(append.config);
        let by_broker = append.config.message_timestamp_type == TimestampType::LogAppendTime;
        let log_append_time_ms = by_broker.then_some(now_ms);
        Ok(Appended::Stored {
            base_offset,
            last_offset,
            log_append_time_ms,
        })
    }

    /// Deletes what lies before `to` and returns the offset meant; records stay in memory, and so
    /// does what producers wrote (`Partition.deleteRecordsOnLeader`).
    ///
    /// # Errors
    ///
    /// A topic that is compacted alone; an offset that nothing visible has.
    pub fn delete_records(
        &mut self,
        to: DeleteTo,
        config: &TopicConfig,
    ) -> Result<i64, DeleteError> {
        if config.cleanup_policy == CleanupPolicy::Compact {
            return Err(DeleteError::NotByPolicy);
        }
        let to = match to {
            DeleteTo::HighWatermark => self.log.high_watermark(),
            DeleteTo::Offset(offset) => offset,
        };
        if !(0..=self.log.high_watermark()).contains(&to) {
            return Err(DeleteError::OutOfRange);
        }
        if to > self.log.start_offset() {
            self.log.set_start_offset(to);
            self.replicas.on_delete(to);
        }
        Ok(to)
    }

    /// Raises the watermark as far as the replicas allow.
    pub fn advance_watermark(&mut self, config: &TopicConfig) {
        let isr_min = self.isr_min(config);
        let to = self
            .replicas
            .high_watermark(isr_min, self.log.high_watermark());
        self.log.raise_high_watermark(to);
    }

    /// The producers that no sweep has found idle, by id.
    pub fn active_producers(
        &self,
        expiry: Expiry,
        now_ms: i64,
    ) -> impl Iterator<Item = ActiveProducer> + '_ {
        self.producers.active(expiry, now_ms)
    }

    /// Forgets what a producer wrote; `false` when nothing is known of it.
    pub fn forget_producer(&mut self, producer_id: i64) -> bool {
        self.producers.forget(producer_id)
    }

    /// Another leader, or none: what it lacks is dropped, and what producers had there with it.
    pub fn change_leader(
        &mut self,
        leader: Option<BrokerId>,
        config: &TopicConfig,
        now_ms: i64,
        now: Instant,
    ) {
        let clean = leader
            .and_then(|leader| self.replicas.replica(leader))
            .is_some_and(|leader| leader.membership == Membership::InSync);
        self.replicas.on_leader(leader, now);
        let leader = leader.and_then(|leader| self.replicas.replica(leader));
        if let Some(leader) = leader {
            let (start, end) = (leader.start_offset, leader.end_offset);
            let started_at = leader.started_at();
            if end < self.log.end_offset() || started_at != self.started_at {
                assert!(
                    !clean || end >= self.log.high_watermark(),
                    "partition 4: a clean election loses what was visible"
                );
                self.log.truncate(end);
                self.started_at = started_at;
                self.rebuild_producers(now_ms);
            }
            self.log.set_start_offset(start);
            self.advance_watermark(config);
        }
    }

    /// A replica that has followed the log knows what the log tells since its broker started, and
    /// of the time before what a snapshot keeps.
    fn rebuild_producers(&mut self, now_ms: i64) {
        let before = core::mem::take(&mut self.producers);
        let batches = self.log.batches();
        let loaded = batches.partition_point(|batch| batch.header.last_offset() < self.started_at);
        let (loaded, followed) = batches.split_at(loaded);
        let replay = |producers: &mut ProducerStates, batches: &[StoredBatch]| {
            for header in batches.iter().map(|batch| &batch.header) {
                if let Some(batch) = ProducerBatch::of(header) {
                    let written_at_ms = before.written_at_ms(batch.producer_id);
                    producers.commit(
                        &batch,
                        header.base_offset,
                        header.last_offset(),
                        written_at_ms.unwrap_or(now_ms),
                    );
                }
            }
        };
        replay(&mut self.producers, loaded);
        self.producers.reload();
        replay(&mut self.producers, followed);
    }

    /// The replica that may lead next.
    #[must_use]
    pub fn electable(&self, config: &TopicConfig) -> Option<BrokerId> {
        self.replicas
            .electable(match config.unclean_leader_election_enable {
                true => Election::Unclean,
                false => Election::Clean,
            })
    }

    fn isr_min(&self, config: &TopicConfig) -> usize {
        effective_isr_min(config.min_insync_replicas, self.replicas.replicas().len())
    }

    /// Whether enough replicas are in sync for acks=all, as far as a leader knows.
    #[must_use]
    pub fn has_enough_replicas(&self, _leader: BrokerId, config: &TopicConfig) -> bool {
        self.replicas.isr_count() >= self.isr_min(config)
    }

    /// The log of the replica on a broker.
    #[must_use]
    pub fn log_on(&self, broker: BrokerId) -> Option<&Log> {
        self.replicas.replica(broker).map(|_| &self.log)
    }

    /// The leader's log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The replicas.
    #[must_use]
    pub const fn replicas(&self) -> &ReplicaSet {
        &self.replicas
    }

    /// The replicas, for the cluster's commands.
    pub(super) const fn replicas_mut(&mut self) -> &mut ReplicaSet {
        &mut self.replicas
    }

    /// Panics when an invariant of a machine of this partition does not hold.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        self.producers.check_invariants(self.started_at);
        let ends = (self.log.start_offset(), self.log.end_offset());
        self.replicas
            .check_invariants(ends, self.log.high_watermark());
    }
}
