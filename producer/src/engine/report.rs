//! What happened, told to whoever counts and logs.
//!
//! Reports leave as [`Action::Report`](crate::engine::effect::Action), in order with all else that
//! the engine does: nothing is counted, logged or timed in here.
//!
//! *Invariants*
//! 1. Nothing follows from a report: an engine whose reports are dropped does the same.
//! 2. Reports are made per batch, per request and per connection; never per record.
//!
//! *Source*: what Kafka's `SenderMetrics` and `Selector` count, and what its client logs.
//!
//! *Not here*: averages and rates (`io/meters/`), words and levels (`io/narration.rs`).

use core::time::Duration;
use std::sync::Arc;

use crate::engine::batch::{SealedBatch, Times};
pub use crate::engine::brokers::NodeKey;
use crate::engine::effect::{BatchOutcome, ConnectionId};
use crate::engine::partition::Tracked;
use crate::engine::time::Instant;
use crate::error::{Failure, FailureKind};
use crate::types::{BrokerId, ProducerEpoch, ProducerId, TopicPartition};
use crate::wire::Api;
use crate::wire::record_batch::ProducerStamp;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A connection's life went on.
    Connection {
        /// Which.
        connection: ConnectionId,
        /// To whom.
        node: NodeKey,
        /// How.
        event: ConnectionEvent,
    },
    /// A request was handed to its connection.
    Asked {
        /// On which connection.
        connection: ConnectionId,
        /// Whom.
        node: NodeKey,
        /// What.
        api: Api,
        /// Its size on the wire in bytes.
        bytes: usize,
        /// The records in it; 0 for all but Produce.
        records: u32,
    },
    /// An answer came to a request that expected it; it may prove unreadable yet.
    Answered {
        /// On which connection.
        connection: ConnectionId,
        /// Who.
        node: NodeKey,
        /// To what.
        api: Api,
        /// Its size on the wire in bytes.
        bytes: usize,
        /// How long after the request.
        after: Duration,
    },
    /// A Produce answer was read.
    Produced {
        /// Who answered.
        node: NodeKey,
        /// How long after the request.
        after: Duration,
        /// How long the broker wants nothing more; zero when it is content.
        throttle: Duration,
    },
    /// A broker wants nothing more for a while (KIP-219).
    Throttled {
        /// Who.
        node: NodeKey,
        /// For how long.
        wait: Duration,
    },
    /// Metadata was learnt.
    MetadataLearnt {
        /// From whom.
        node: NodeKey,
        /// How many brokers it names.
        brokers: usize,
        /// How many topics it tells of.
        topics: usize,
    },
    /// A producer id was given.
    ProducerIdGiven {
        /// By whom.
        node: NodeKey,
        /// The id.
        id: ProducerId,
        /// Its first epoch.
        epoch: ProducerEpoch,
    },
    /// No producer id will be given.
    ProducerIdRefused {
        /// Why.
        failure: Failure,
    },
    /// A partition's sequences start anew, under the next epoch or a new id (KIP-360).
    EpochBumped {
        /// Which.
        partition: TopicPartition,
        /// The id from here on.
        id: ProducerId,
        /// The epoch from here on.
        epoch: ProducerEpoch,
    },
    /// The time of a batch that may be in the log is over: what became of it is asked.
    OutcomeAsked {
        /// Of which partition.
        partition: TopicPartition,
        /// Why it would have ended.
        cause: FailureKind,
        /// For how long it is asked.
        within: Duration,
    },
    /// A batch went on.
    Batch {
        /// Which.
        batch: BatchFacts,
        /// How.
        event: BatchEvent,
    },
}

/// How a connection's life went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// It stands; versions are negotiated next.
    Made,
    /// Requests may go.
    Ready,
    /// It could not be made, or was lost.
    Lost {
        /// Whether it stood before.
        stood: Stood,
        /// The address and why.
        reason: Arc<str>,
        /// How long its node is left alone.
        back_off: Duration,
    },
    /// It was ended because nobody needs it.
    Retired,
}

/// Whether a connection stood before it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stood {
    /// It was never made.
    Never,
    /// It was.
    Once,
}

/// A batch as it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Whose.
    pub partition: TopicPartition,
    /// Who was asked last, if anyone was.
    pub broker: Option<BrokerId>,
    /// How often it was sent.
    pub attempts: u32,
    /// How many records it holds.
    pub records: u32,
    /// Its size on the wire in bytes.
    pub bytes: usize,
    /// Its size in bytes before it was compressed.
    pub plain_bytes: usize,
    /// Id, epoch and first sequence, if it has them.
    pub stamp: Option<ProducerStamp>,
}

/// How a batch went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchEvent {
    /// It was handed to a connection.
    Sent {
        /// How long after it was opened.
        waited: Duration,
        /// How it spent that time.
        before: BeforeSent,
    },
    /// It is in the log.
    Written {
        /// How long after it was last sent; `None` with `acks=0`.
        after: Option<Duration>,
    },
    /// It waits for another attempt.
    Retried {
        /// Why.
        failure: Failure,
        /// How long it waits, unless there is a new leader sooner.
        back_off: Duration,
    },
    /// Its broker refused it as too large: its halves go in its place.
    Split,
    /// It is in no log.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It may be in a log.
    Unsettled {
        /// Why nobody knows.
        failure: Failure,
    },
}

/// A batch's way from its opening to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeforeSent {
    /// From its opening until it took no more records.
    pub filling: Duration,
    /// From there until its bytes were compressed; `None` without compression.
    pub compressing: Option<Duration>,
    /// From there until it was handed to a connection.
    pub ready: Duration,
}

impl Report {
    /// A batch was handed to a connection.
    pub(super) fn sent<C>(batch: &Tracked<C>, now: Instant) -> Self {
        let Times {
            opened_at,
            sealed_at,
            compressed_at,
        } = batch.batch.times();
        let sealed_at = sealed_at.unwrap_or(now);
        let before = BeforeSent {
            filling: sealed_at.since(opened_at),
            compressing: compressed_at.map(|at| at.since(sealed_at)),
            ready: now.since(compressed_at.unwrap_or(sealed_at)),
        };
        let waited = now.since(opened_at);
        Self::of(batch, BatchEvent::Sent { waited, before })
    }

    /// A batch that was taken went on.
    pub(super) fn of<C>(batch: &Tracked<C>, event: BatchEvent) -> Self {
        let batch = BatchFacts {
            partition: batch.partition,
            broker: batch.broker,
            attempts: batch.attempts,
            records: batch.batch.record_count(),
            bytes: batch.batch.bytes(),
            plain_bytes: batch.batch.plain_bytes(),
            stamp: batch.batch.stamp(),
        };
        Self::Batch { batch, event }
    }

    /// A batch ended that was never sent.
    pub(super) fn unsent<C>(
        partition: TopicPartition,
        batch: &SealedBatch<C>,
        outcome: &BatchOutcome,
    ) -> Self {
        let batch = BatchFacts {
            partition,
            broker: None,
            attempts: 0,
            records: batch.record_count(),
            bytes: batch.bytes(),
            plain_bytes: batch.bytes(),
            stamp: None,
        };
        let event = BatchEvent::ended(outcome, None);
        Self::Batch { batch, event }
    }
}

impl BatchEvent {
    /// The end of a batch, so long after it was last sent.
    pub(super) fn ended(outcome: &BatchOutcome, after: Option<Duration>) -> Self {
        match outcome {
            BatchOutcome::Written { .. } => Self::Written { after },
            BatchOutcome::NotWritten(failure) => Self::Failed {
                failure: failure.clone(),
            },
            BatchOutcome::Unknown(failure) => Self::Unsettled {
                failure: failure.clone(),
            },
            // Parts are told of one by one.
            BatchOutcome::Parts(_) => Self::Split,
        }
    }
}
