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
//!
//! *Source* apache/kafka `core/…/cluster/Partition.scala` appendRecordsToLeader;
//! `storage/…/internals/log/UnifiedLog.java` append.
//!
//! *Not here* who leads (`elections.rs`), where batches go then (`replication.rs`); waiting for the
//! watermark (`purgatory.rs`).

use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::effect::BrokerId;
use super::elections::{Placement, effective_isr_min};
use super::log::{Log, StoredBatch};
use super::marker::{EpochRule, Marker};
use super::producer_state::{
    ActiveProducer, EpochBump, Expiry, Membership, OpenHere, ProducerBatch, SequenceVerdict,
    Surroundings,
};
use super::replica::Replica;
use super::replication::{Bounds, ReplicaSet};
use super::validator::{self, Refusal};
use crate::config::{CleanupPolicy, TimestampType, TopicConfig};
use crate::wire::batch_view::{BatchHeader, TRANSACTIONAL};

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
    /// Who appends: it leads, or takes itself for the leader.
    pub leader: BrokerId,
    /// The topic's configuration.
    pub config: &'a TopicConfig,
    /// When idle producers are forgotten.
    pub expiry: Expiry,
    /// The broker's clock.
    pub wall_clock_ms: i64,
    /// Bytes that the disk still takes.
    pub room: u64,
    /// Whether one may write whom the partition does not know.
    pub may_be_new: bool,
    /// Whether the coordinator of its transaction has said that the batch belongs to it.
    pub verified: Verified,
}

/// Whether a coordinator has just said that a partition is part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It has, or need not be asked.
    Yes,
    /// It was not asked: the transaction has to be open in the log.
    No,
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
    /// The broker does not lead.
    NotLeader,
    /// Fewer in sync than `min.insync.replicas`.
    NotEnoughReplicas,
    /// The batch itself.
    Batch(Refusal),
    /// The producer's epoch is over.
    StaleEpoch,
    /// The epoch of who coordinates the producer is over.
    StaleCoordinator,
    /// The sequence does not follow on.
    OutOfOrder,
    /// The batch is of a transaction that is not open, or of none although one is.
    WrongTransaction,
    /// The disk is full.
    NoRoom,
    /// The producer is new, and too many are known.
    TooManyProducers,
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
    /// The broker has no replica.
    NotLeader,
    /// The topic's `cleanup.policy` does not delete.
    NotByPolicy,
    /// The offset is below 0 or above the high watermark.
    OutOfRange,
}

/// A replica set, and what its leaders do with batches.
#[derive(Clone, Debug)]
pub struct Partition {
    replicas: ReplicaSet,
}

impl Partition {
    /// These replicas.
    #[must_use]
    pub const fn new(replicas: ReplicaSet) -> Self {
        Self { replicas }
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
    ) -> Result<Appended, AppendError> {
        let isr_min = self.isr_min(append.config);
        let (Some(lead), Some(replica)) = (
            self.replicas.lead(append.leader),
            self.replicas.replica(append.leader),
        ) else {
            return Err(AppendError::NotLeader);
        };
        if append.acks == Acks::All && lead.isr.len() < isr_min {
            return Err(AppendError::NotEnoughReplicas);
        }
        let now_ms = append.wall_clock_ms;
        let candidate =
            validator::validate(records, append.config, now_ms).map_err(AppendError::Batch)?;
        match judge(replica, &candidate.header, append) {
            Ok(SequenceVerdict::Duplicate(original)) => {
                return Ok(Appended::Duplicate {
                    base_offset: original.base_offset,
                    last_offset: original.last_offset,
                    timestamp_ms: original.timestamp_ms,
                });
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let mut header = candidate.header;
        header.base_offset = replica.log().end_offset();
        header.leader_epoch = lead.epoch;
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        let stored = StoredBatch {
            header,
            payload: candidate.payload,
            received: candidate.received,
            appended_at_ms: now_ms,
        };
        if !self.has_room(&stored, append.room) {
            return Err(AppendError::NoRoom);
        }
        self.replicas.append(append.leader, stored);
        let by_broker = append.config.message_timestamp_type == TimestampType::LogAppendTime;
        let log_append_time_ms = by_broker.then_some(now_ms);
        Ok(Appended::Stored {
            base_offset,
            last_offset,
            log_append_time_ms,
        })
    }

    /// Appends the marker of a transaction, as its leader does with acks=all; returns its offset.
    /// A full disk does not hold it up: whoever waits for it would wait for ever.
    ///
    /// # Errors
    ///
    /// Another leads; too few are in sync; the producer, or who coordinates it, has a higher epoch
    /// here.
    pub fn append_marker(
        &mut self,
        leader: BrokerId,
        (marker, rule): (&Marker, EpochRule),
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<i64, AppendError> {
        let isr_min = self.isr_min(config);
        let (Some(lead), Some(replica)) =
            (self.replicas.lead(leader), self.replicas.replica(leader))
        else {
            return Err(AppendError::NotLeader);
        };
        if lead.isr.len() < isr_min {
            return Err(AppendError::NotEnoughReplicas);
        }
        let id = marker.producer_id;
        let open = match replica.log().transactions().open_since(id) {
            Some(_) => OpenHere::Open,
            None => OpenHere::None,
        };
        let producers = replica.producers();
        if rule.is_late(marker.epoch, producers.epoch(id).unwrap_or(-1), open) {
            return Err(AppendError::StaleEpoch);
        }
        if producers.coordinator_epoch(id) > Some(marker.coordinator_epoch) {
            return Err(AppendError::StaleCoordinator);
        }
        let offset = replica.log().end_offset();
        let batch = marker.batch(offset, lead.epoch, now_ms);
        self.replicas.append(leader, batch);
        Ok(offset)
    }

    /// Whether a leader has heard of a later epoch of a batch's producer: it is refused with 47,
    /// and no coordinator asked, which may not know that producer id any more (observed on 4.3.1).
    #[must_use]
    pub fn is_fenced(&self, leader: BrokerId, batch: &ProducerBatch) -> bool {
        let replica = self.replicas.replica(leader);
        let known = replica.and_then(|replica| replica.producers().epoch(batch.producer_id));
        known.is_some_and(|epoch| batch.epoch < epoch)
    }

    /// A leader is about to ask a coordinator whether a batch is of a transaction; `false` when it
    /// need not, because the transaction is open here (`UnifiedLog.
    /// maybeStartTransactionVerification`).
    pub fn must_ask(&mut self, leader: BrokerId, batch: &ProducerBatch, bump: EpochBump) -> bool {
        let Some(replica) = self.replicas.replica_mut(leader) else {
            return true;
        };
        let open = replica.log().transactions().open_since(batch.producer_id);
        if open.is_some() && replica.producers().epoch(batch.producer_id) == Some(batch.epoch) {
            return false;
        }
        replica.on_asked(batch, bump);
        true
    }

    /// Whether a batch fits into so many bytes of memory.
    fn has_room(&self, batch: &StoredBatch, room: u64) -> bool {
        let bytes = batch.held_bytes(self.replicas.replicas().len());
        u64::try_from(bytes).is_ok_and(|bytes| bytes <= room)
    }

    /// Deletes what lies before `to` and returns the offset meant; records stay in memory, and so
    /// does what producers wrote (`Partition.deleteRecordsOnLeader`).
    ///
    /// # Errors
    ///
    /// A topic that is compacted alone; an offset that nothing visible has.
    pub fn delete_records(
        &mut self,
        leader: BrokerId,
        to: DeleteTo,
        config: &TopicConfig,
    ) -> Result<i64, DeleteError> {
        if config.cleanup_policy == CleanupPolicy::Compact {
            return Err(DeleteError::NotByPolicy);
        }
        let Some(log) = self.log_on(leader) else {
            return Err(DeleteError::NotLeader);
        };
        let to = match to {
            DeleteTo::HighWatermark => log.high_watermark(),
            DeleteTo::Offset(offset) => offset,
        };
        if !(0..=log.high_watermark()).contains(&to) {
            return Err(DeleteError::OutOfRange);
        }
        if to > log.start_offset() {
            self.replicas.on_delete(leader, to);
        }
        Ok(to)
    }

    /// The producers that a replica knows and no sweep has found idle, by id.
    pub fn active_producers(
        &self,
        broker: BrokerId,
        expiry: Expiry,
        now_ms: i64,
    ) -> impl Iterator<Item = ActiveProducer> + '_ {
        let replica = self.replicas.replica(broker).into_iter();
        replica.flat_map(move |replica| {
            let transactions = replica.log().transactions();
            replica.producers().active(transactions, expiry, now_ms)
        })
    }

    /// Forgets what a producer wrote; `false` when nothing is known of it.
    pub fn forget_producer(&mut self, producer_id: i64) -> bool {
        let replicas = self.replicas.all_mut().iter_mut();
        let known = replicas.map(|replica| replica.forget_producer(producer_id));
        known.fold(false, |before, known| before | known)
    }

    /// Forgets the producers of a replica that a sweep has found idle.
    pub fn forget_expired(&mut self, broker: BrokerId, expiry: Expiry, now_ms: i64) {
        let replicas = self.replicas.all_mut().iter_mut();
        let of_broker = replicas.filter(|replica| replica.broker == broker);
        of_broker.for_each(|replica| replica.forget_expired(expiry, now_ms));
    }

    /// What this topic and these brokers bound.
    #[must_use]
    pub fn bounds(&self, config: &TopicConfig, lag_max: Duration) -> Bounds {
        Bounds {
            isr_min: self.isr_min(config),
            lag_max,
        }
    }

    fn isr_min(&self, config: &TopicConfig) -> usize {
        effective_isr_min(config.min_insync_replicas, self.replicas.replicas().len())
    }

    /// Whether enough replicas are in sync for what was appended with acks=all, as far as a leader
    /// knows; one that is about to join counts (`Partition.checkEnoughReplicasReachOffset`).
    #[must_use]
    pub fn has_enough_replicas(&self, leader: BrokerId, config: &TopicConfig) -> bool {
        let lead = self.replicas.lead(leader);
        lead.is_some_and(|lead| lead.maximal_isr_count() >= self.isr_min(config))
    }

    /// The log of the replica on a broker.
    #[must_use]
    pub fn log_on(&self, broker: BrokerId) -> Option<&Log> {
        self.replicas.replica(broker).map(Replica::log)
    }

    /// The log of who leads, or led last.
    #[must_use]
    pub fn log(&self) -> &Log {
        self.replicas.log()
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
    pub fn check_invariants(&self, placement: &Placement) {
        self.replicas.check_invariants(placement);
    }
}

/// What a replica's producers say of a batch; one without a producer id is the next.
fn judge(
    replica: &Replica,
    header: &BatchHeader,
    append: &Append<'_>,
) -> Result<SequenceVerdict, AppendError> {
    let Some(batch) = ProducerBatch::of(header) else {
        return Ok(SequenceVerdict::Next);
    };
    let open = replica.log().transactions().open_since(batch.producer_id);
    let around = Surroundings {
        expiry: append.expiry,
        now_ms: append.wall_clock_ms,
        membership: match append.verified {
            _ if !header.has(TRANSACTIONAL) => Membership::Plain,
            Verified::Yes => Membership::Verified,
            Verified::No => Membership::Unverified,
        },
        transaction: match open {
            Some(_) => OpenHere::Open,
            None => OpenHere::None,
        },
    };
    match replica.producers().check(&batch, &around) {
        SequenceVerdict::Next
            if !append.may_be_new && !replica.producers().knows(batch.producer_id) =>
        {
            Err(AppendError::TooManyProducers)
        }
        SequenceVerdict::StaleEpoch => Err(AppendError::StaleEpoch),
        SequenceVerdict::OutOfOrder => Err(AppendError::OutOfOrder),
        SequenceVerdict::WrongTransaction => Err(AppendError::WrongTransaction),
        verdict @ (SequenceVerdict::Next | SequenceVerdict::Duplicate(_)) => Ok(verdict),
    }
}
