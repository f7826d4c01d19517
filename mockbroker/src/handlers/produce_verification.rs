//! The coordinator's word on batches of transactions, before they are appended (KIP-890).
//!
//! | Version | |
//! |---|---|
//! | to 10 | the partition has to have joined, or 48 |
//! | 11 | the same, or 120 |
//! | 12 | the partition joins now |
//!
//! *State* of a partition's entry:
//!
//! ```text
//!  open in the log at this epoch ───────────────────────────────────▶ to the log
//!  a later epoch in the log ───────────────────────────────────────▶ refused: 47
//!  first of its transaction here ─▶ the coordinator is asked ─ yes ─▶ to the log
//!                                    │ 51, from v12 on: asked again,  │ no: its code, or what the
//!                                    │ every 20 ms for 100 ms         ▼ version knows instead
//!                                    └──────────────────────────▶ refused
//! ```
//!
//! *Invariants*
//! 1. A batch of a transaction reaches the log only if its coordinator knows of the partition, so
//!    that its markers come to all of them.
//! 2. Partitions of one request join together, whatever becomes of their batches (observed).
//!
//! *Source* apache/kafka `core/…/server/{ReplicaManager,AddPartitionsToTxnManager}.scala`; codes
//! and texts observed on 4.3.1.
//!
//! *Deviations* a coordinator that does not run, or is cut off, is not asked: 19 at once.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use crate::engine::Cluster;
use crate::engine::partition::Verified;
use crate::engine::producer_state::{EpochBump, ProducerBatch};
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::engine::transactions::Join;
use crate::engine::txn_coordinator::Identity;
use crate::error_code::ErrorCode;
use crate::wire::batch_view::{BatchHeader, BatchView, TRANSACTIONAL};

/// `add.partitions.to.txn.retry.backoff.ms`.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// `add.partitions.to.txn.retry.backoff.max.ms`.
pub(super) const ASK_FOR: Duration = Duration::from_millis(100);

/// What is known of a batch before it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The log may look at it.
    ToTheLog(Verified),
    /// Its coordinator refuses it.
    Refused(Unverified),
    /// Its coordinator is busy with the markers of the transaction before: 51, unless it is asked
    /// again.
    AskAgain,
}

/// Why a batch does not reach the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// The code of the row.
    pub code: ErrorCode,
    /// What the coordinator said, where the row's code is another.
    pub reason: Option<ErrorCode>,
}

/// What is known of the batches of transactions, by partition.
pub(super) type Words = BTreeMap<PartitionKey, Word>;

impl Unverified {
    /// The partition has a later epoch of its producer.
    const FENCED: Self = Self {
        code: ErrorCode::INVALID_PRODUCER_EPOCH,
        reason: None,
    };
    /// The coordinator was busy for as long as it was asked.
    pub(super) const CONCURRENT: Self = Self {
        code: ErrorCode::CONCURRENT_TRANSACTIONS,
        reason: None,
    };
}

/// The batches of transactions in a request, by partition.
pub(super) type Batches = Vec<(PartitionKey, ProducerBatch)>;

/// The first batch, if it is of a transaction and has a producer.
pub(super) fn transactional(records: &[u8]) -> Option<BatchHeader> {
    let (batch, _) = BatchView::first(records).ok()??;
    let (header, _) = batch.split()?;
    (batch.magic() == 2 && header.has(TRANSACTIONAL) && header.has_producer_id()).then_some(header)
}

/// Whose the batches are; `None` where they are of more than one producer.
pub(super) fn producer_of(batches: &Batches) -> Option<Identity> {
    let identity = |batch: &ProducerBatch| Identity {
        id: batch.producer_id,
        epoch: batch.epoch,
    };
    let first = batches.first().map(|(_, batch)| identity(batch))?;
    let same = batches.iter().all(|(_, batch)| identity(batch) == first);
    same.then_some(first)
}

/// Asks for every batch that needs it.
pub(super) fn verify(
    cluster: &mut Cluster,
    context: &Context,
    (id, producer): (&str, Identity),
    batches: &Batches,
    now: Instant,
) -> Words {
    let joins = context.header.version >= 12;
    let bump = match joins {
        true => EpochBump::EachTransaction,
        false => EpochBump::Never,
    };
    let mut words = Words::new();
    let mut asks: BTreeSet<PartitionKey> = BTreeSet::new();
    for (key, batch) in batches {
        // Who does not lead says so at the append.
        let leads = cluster.leads(*key, context.broker);
        let at = (*key, context.broker);
        if leads && cluster.is_fenced(at, batch) {
            words.insert(*key, Word::Refused(Unverified::FENCED));
        } else if leads && cluster.must_ask(at, batch, bump) {
            asks.insert(*key);
        } else {
            words.insert(*key, Word::ToTheLog(Verified::No));
        }
    }
    if joins && !asks.is_empty() {
        let join = Join {
            id,
            producer,
            partitions: &asks,
            client: bump,
        };
        let joined = cluster.ask_to_join(&join, now);
        words.extend(asks.iter().map(|key| (*key, word(joined, context))));
    } else {
        let asked = cluster.config_of(context.broker);
        let asked = asked.transactions.partition_verification_enable;
        for key in asks {
            let word = match asked {
                true => word(cluster.ask_whether_joined(id, producer, key, now), context),
                false => Word::ToTheLog(Verified::Yes),
            };
            words.insert(key, word);
        }
    }
    words
}

/// What the coordinator said, as the version of the request knows it.
fn word(said: Result<(), ErrorCode>, context: &Context) -> Word {
    let version = context.header.version;
    let refused = |code, reason| Word::Refused(Unverified { code, reason });
    match said {
        Ok(()) => Word::ToTheLog(Verified::Yes),
        Err(ErrorCode::PRODUCER_FENCED) => refused(ErrorCode::INVALID_PRODUCER_EPOCH, None),
        Err(ErrorCode::TRANSACTION_ABORTABLE) if version < 11 => {
            let code = ErrorCode::INVALID_TXN_STATE;
            refused(code, Some(code))
        }
        // Older clients take it for final; 19 lets them try again without new metadata.
        Err(code @ ErrorCode::CONCURRENT_TRANSACTIONS) if version < 12 => {
            refused(ErrorCode::NOT_ENOUGH_REPLICAS, Some(code))
        }
        Err(ErrorCode::CONCURRENT_TRANSACTIONS) => Word::AskAgain,
        Err(
            code @ (ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR),
        ) => refused(ErrorCode::NOT_ENOUGH_REPLICAS, Some(code)),
        Err(code) => refused(code, None),
    }
}

/// The text of a row that was refused like this, if it has one.
#[must_use]
pub(super) fn message(unverified: &Unverified) -> Option<String> {
    match unverified {
        Unverified {
            code: ErrorCode::NOT_ENOUGH_REPLICAS,
            reason: Some(reason),
        } => Some(format!(
            "Unable to verify the partition has been added to the transaction. Underlying error: \
             {}",
            reason.name().unwrap_or_default()
        )),
        Unverified {
            code: ErrorCode::INVALID_TXN_STATE,
            reason: Some(_),
        } => Some("Partition was not added to the transaction".into()),
        _ => None,
    }
}
