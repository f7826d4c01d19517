//! The seam between the engine and its driver: what comes in, what goes out, and the port through
//! which the engine reaches the queues.
//!
//! Bytes cross here, not structures: a request leaves as the slices of a finished frame, an answer
//! arrives as the frame that was read. So a simulation joins this engine to a broker's with nothing
//! between them but links.
//!
//! *Invariants*
//! 1. An [`Action::Send`] is written whole and in the order given, per connection.
//! 2. Each batch taken through [`Queues::take`] comes back in exactly one [`Action::Complete`].
//! 3. Completions of one partition leave in the order of its batches.
//!
//! *Not here*: what an input does (the machines), sockets and tasks (`io/`).

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::batch::SealedBatch;
use crate::engine::ratio::Ratio;
use crate::engine::report::Report;
use crate::engine::transaction::{Ask, AskId, Denied, Doors};
use crate::error::Failure;
use crate::types::{BrokerId, TopicIndex, TopicPartition};
use crate::wire::batch_buffer::BatchBuffer;
use crate::wire::compression::CompressedBatch;
use crate::wire::message::Replicas;

/// A host name or address with its port, as the user or a broker gave it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or IP address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// A connection's number; the engine gives a new one with every [`Action::Connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A request's number on its connection; grows by one with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CorrelationId(pub i32);

/// A batch's number while it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompressionId(pub u64);

/// A request ready for the socket, size prefix included, as slices in order.
///
/// Batches are slices of their own: nothing is copied between append and socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame(pub Vec<Bytes>);

/// What the world tells the engine.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants to send to a topic: learn about it and keep knowing it.
    TopicWanted {
        /// The number by which the queues know the topic.
        topic: TopicIndex,
        /// The topic's name.
        name: Arc<str>,
    },
    /// A partition's queue opened a batch, or sealed one because it was full.
    Queued {
        /// Whose queue.
        partition: TopicPartition,
    },
    /// A batch was compressed, or could not be and is as it was.
    Compressed {
        /// Which.
        id: CompressionId,
        /// What became of it.
        batch: CompressedBatch,
    },
    /// All that is queued now is due now: somebody flushes, or waits for memory.
    DrainRequested,
    /// Batches that take no more records need not wait for company: somebody awaits a record.
    Awaited,
    /// Somebody asks something of transactions; answered with `Action::Answered`, once. Only for an
    /// engine that has a transactional id.
    Asked {
        /// The ask's number, never used before.
        id: AskId,
        /// What.
        ask: Ask,
    },
    /// A record of the open transaction was refused before it was queued.
    RecordRefused {
        /// Why.
        reason: Arc<str>,
    },
    /// No more records come: an open transaction is aborted.
    Closing,
    /// The user gave up waiting for the rest: complete every batch, queued or in flight, at once.
    AbortRequested,
    /// A connection stands; nothing was sent on it yet.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// A connection could not be made.
    ConnectFailed {
        /// Which.
        connection: ConnectionId,
        /// The address and the system's words.
        reason: Arc<str>,
    },
    /// The last byte of a request was handed to the socket.
    Written {
        /// On which connection.
        connection: ConnectionId,
        /// Which request.
        correlation_id: CorrelationId,
    },
    /// A response arrived; the frame without its size prefix.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// Header and body.
        frame: Bytes,
    },
    /// A connection ended, by whichever side.
    Disconnected {
        /// Which.
        connection: ConnectionId,
        /// The first request of which no byte reached the socket, if there is one: it and all
        /// later ones certainly never left.
        untouched_from: Option<CorrelationId>,
        /// The system's words.
        reason: Arc<str>,
    },
}

/// What the engine wants of the world. `C` is the completion handle that travels with a batch.
#[derive(Debug)]
pub enum Action<C> {
    /// Connect, and answer `Connected` or `ConnectFailed`.
    Connect {
        /// The new connection's number.
        connection: ConnectionId,
        /// Where to.
        address: Address,
    },
    /// Compress this batch with the codec of the configuration
    /// ([`Compressor::compress`](crate::wire::compression::Compressor::compress)) and answer
    /// `Compressed`; several at once and in any order.
    Compress {
        /// Which.
        id: CompressionId,
        /// Its header's room and its records.
        plain: BatchBuffer,
    },
    /// Write this frame and answer `Written`.
    Send {
        /// On which connection.
        connection: ConnectionId,
        /// Which request.
        correlation_id: CorrelationId,
        /// Its bytes.
        frame: Frame,
    },
    /// End the connection at once and forget it; no `Disconnected` is expected.
    Disconnect {
        /// Which.
        connection: ConnectionId,
    },
    /// A batch reached its end.
    Complete {
        /// The handle that came with it.
        completion: C,
        /// Whose batch it was.
        partition: TopicPartition,
        /// How it ended.
        outcome: BatchOutcome,
    },
    /// What is known of a topic changed: read it again from `Engine::topic`.
    TopicChanged {
        /// Which.
        topic: TopicIndex,
    },
    /// What became of an ask.
    Answered {
        /// The ask's number.
        id: AskId,
        /// That it was done, or why not.
        answer: Result<(), Denied>,
    },
    /// From here on queues take records, or take none. Whoever shuts them says `Queued` of each
    /// that is not empty.
    Doors(Doors),
    /// Something happened that may be counted or logged; nothing follows from it.
    Report(Report),
}

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// In the log.
    Written {
        /// The offset of its first record; `None` with `acks=0`, or when a broker recognised a
        /// duplicate without telling the offset.
        base_offset: Option<i64>,
        /// The broker's time of append in milliseconds since 1970, for topics that use it.
        log_append_time_ms: Option<i64>,
    },
    /// Certainly in no log.
    NotWritten(Failure),
    /// It left for a broker, and no answer settles whether it was appended.
    Unknown(Failure),
    /// It was too large for its broker and went in parts, each with an end of its own.
    Parts(Arc<[BatchPart]>),
}

/// Consecutive records of a batch that went in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPart {
    /// The first record's index in the whole batch; parts are in this order, the first from 0.
    pub first: u32,
    /// How they ended; never `Parts`.
    pub outcome: BatchOutcome,
}

impl BatchOutcome {
    /// What counts for one record: the end of its batch or part, and its index there.
    #[must_use]
    #[inline]
    pub fn of_record(&self, index: u32) -> (&Self, u32) {
        match self {
            Self::Parts(parts) => self.of_record_in(parts, index),
            whole => (whole, index),
        }
    }

    /// Whether it is in the log, all of it.
    pub(crate) fn is_written(&self) -> bool {
        matches!(self, Self::Written { .. })
    }

    #[cold]
    fn of_record_in<'a>(&'a self, parts: &'a [BatchPart], index: u32) -> (&'a Self, u32) {
        let behind = parts.partition_point(|part| part.first <= index);
        match behind.checked_sub(1).and_then(|at| parts.get(at)) {
            Some(part) => (&part.outcome, index - part.first),
            None => (self, index),
        }
    }

    /// The end of the whole batch, or of each of its parts.
    pub fn ends(&self) -> impl Iterator<Item = &Self> {
        let (whole, parts) = match self {
            Self::Parts(parts) => (None, &parts[..]),
            whole => (Some(whole), &[][..]),
        };
        whole
            .into_iter()
            .chain(parts.iter().map(|part| &part.outcome))
    }
}

/// What is known of a topic, for whoever appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicView {
    /// Asked for, no answer yet (or the broker says it does not exist yet and is asked again).
    Pending {
        /// The last reason why there is no answer, for the error of whoever gives up waiting.
        last_failure: Option<Failure>,
    },
    /// The topic exists.
    Known {
        /// By number. Its length is the partition count.
        partitions: Vec<PartitionView>,
    },
    /// A broker refused for good (invalid name, no permission).
    Refused(Failure),
    /// Nothing is asked about it: it was never wanted, or not used for too long. Whoever needs it
    /// says so with [`Input::TopicWanted`].
    Forgotten,
}

/// What is known of a partition, for whoever chooses one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionView {
    /// Who leads it now, if anyone does.
    pub leader: Option<BrokerId>,
    /// Where its leader stands (`broker.rack`), if the broker said so.
    pub leader_rack: Option<Arc<str>>,
    /// Who keeps it.
    pub replicas: Arc<Replicas>,
}

/// The engine's port to the queues of records not yet sent.
///
/// In production this is the accumulator behind its locks; in a simulation plain queues.
pub trait Queues {
    /// The handle that travels with a batch.
    type Completion;

    /// What waits in this partition's queue.
    fn state(&mut self, partition: TopicPartition) -> QueueState;

    /// The size so far of the batch that takes records, on the wire in bytes; 0 when there is none.
    fn open_bytes(&mut self, partition: TopicPartition) -> usize;

    /// Seals the batch that takes records, if there is one: the next record opens another.
    fn seal(&mut self, partition: TopicPartition);

    /// Takes the oldest batch; the open one is sealed for it when none is sealed.
    fn take(&mut self, partition: TopicPartition) -> Option<SealedBatch<Self::Completion>>;

    /// From now on a topic's records are expected to become so small: for
    /// [`NewBatch::ratio`](crate::engine::batch::NewBatch::ratio). Told with compression only.
    fn expect_ratio(&mut self, topic: TopicIndex, ratio: Ratio);
}

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// When the oldest batch was opened; `None` when the queue is empty.
    pub oldest_opened_at: Option<crate::engine::time::Instant>,
    /// When the batch that takes records was opened; `None` when there is none.
    pub open_since: Option<crate::engine::time::Instant>,
    /// The size on the wire of the oldest batch that takes no more records, in bytes; 0 when there
    /// is none.
    pub oldest_bytes: usize,
    /// The size of all batches that take no more records, whatever their age.
    pub sealed_bytes: usize,
}
