//! What happened in a run: the sends with their outcomes, flushes, what was read on the way, the
//! final logs, the batches on the wire and what brokers told.
//!
//! *Invariants*
//! 1. Every send has a value of its own: by it a record is known wherever it turns up.
//! 2. A send that was never resolved has no resolution here; it counts as unknown.
//! 3. Whoever made the history does not matter: the judge sees no engine.
//!
//! *Not here*: whether it was right (`oracle.rs`).

pub mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use transactions::{Stamp, Transactions};

/// A partition by its topic's name and its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
}

/// A record as its sender means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value, different in every send.
    pub value: Bytes,
    /// The headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// How a send ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Written; the offset where it was told.
    Written(Option<i64>),
    /// Certainly in no log.
    NotWritten(String),
    /// No answer settled it.
    Unknown(String),
}

/// A send's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// What the producer said.
    pub ending: Ending,
    /// When, since the run's start.
    pub at: Duration,
    /// How many resolutions came before it in the run.
    pub order: usize,
}

/// Who chose a record's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The sender.
    BySender,
    /// The producer, by the record's key.
    ByKey {
        /// How many partitions the topic had.
        partitions: i32,
    },
}

/// A record that a producer accepted, in the order of acceptance.
#[derive(Clone, Debug)]
pub struct SendOp {
    /// Which producer.
    pub producer: u32,
    /// Where it goes.
    pub partition: Partition,
    /// Who chose the partition.
    pub placed: Placed,
    /// What was sent.
    pub content: Content,
    /// In which transaction, by its place in [`Transactions::all`]; nothing outside of one.
    pub transaction: Option<usize>,
    /// When it was accepted, since the run's start.
    pub at: Duration,
    /// What the producer answered; one entry if it keeps its promise.
    pub resolutions: Vec<Resolution>,
}

impl SendOp {
    /// How the send ended, by its first answer.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        self.resolutions
            .first()
            .map(|resolution| &resolution.ending)
    }

    /// The offset that the producer told.
    #[must_use]
    pub fn told_offset(&self) -> Option<i64> {
        match self.ending() {
            Some(Ending::Written(offset)) => *offset,
            _ => None,
        }
    }
}

/// A record in a final log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its offset.
    pub offset: i64,
    /// The record; a null value is told as empty here.
    pub content: Content,
    /// Whose transaction it belongs to, if it belongs to one.
    pub stamp: Option<Stamp>,
}

/// A batch as a producer put it on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireBatch {
    /// Whose it is.
    pub producer: u32,
    /// Where it goes.
    pub partition: Partition,
    /// −1 without idempotence.
    pub producer_id: i64,
    /// The id's epoch.
    pub epoch: i16,
    /// The first record's sequence.
    pub base_sequence: i32,
    /// How many records.
    pub record_count: i32,
    /// The whole batch.
    pub bytes: Bytes,
}

/// A flush, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushOp {
    /// Of which producer.
    pub producer: u32,
    /// Sends of the run that were accepted before it was called.
    pub accepted_before: usize,
    /// When it returned; nothing if it never did.
    pub returned: Option<FlushReturn>,
}

/// The return of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushReturn {
    /// Sends of the run that were accepted by then.
    pub accepted_before: usize,
    /// Resolutions of the run that came before it.
    pub resolved_before: usize,
}

/// An entry that somebody saw in a leader's log during the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// When.
    pub at: Duration,
    /// Where.
    pub partition: Partition,
    /// At which offset.
    pub offset: i64,
    /// The value that stood there.
    pub value: Bytes,
    /// What it stands for.
    pub seen: Seen,
}

/// Why an entry that was seen has to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was below the high watermark: consumers have it.
    Committed,
    /// It was before a record that `acks=all` acknowledged.
    BelowAcknowledged,
    /// A consumer that reads committed records alone got it.
    Stable,
}

/// How far consumers could read at one instant, and who had all of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// When, since the run's start.
    pub at: Duration,
    /// Where.
    pub partition: Partition,
    /// The high watermark.
    pub end: i64,
    /// Replicas whose logs reach it.
    pub holders: usize,
    /// By `min.insync.replicas`: how many there have to be.
    pub holders_min: usize,
}

/// Something that passed a producer's end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEvent {
    /// When, since the run's start.
    pub at: Duration,
    /// Whose connection.
    pub producer: u32,
    /// Which connection; numbers are never used twice.
    pub connection: u64,
    /// The broker at its other end.
    pub broker: i32,
    /// What passed.
    pub what: Passed,
}

/// What passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// A request left.
    Sent {
        /// The key of its API.
        api: i16,
        /// Its version.
        version: i16,
        /// The partitions of a Produce request.
        partitions: Vec<Partition>,
    },
    /// An answer arrived.
    Told(Told),
}

/// What an answer told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// For how long nothing must be sent on this connection.
    pub throttle: Duration,
    /// API key, lowest and highest version, where the answer was to ApiVersions.
    pub versions: Vec<(i16, i16, i16)>,
    /// Who leads what.
    pub leaders: Vec<LeaderTold>,
}

/// A partition's leader, as a broker told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderTold {
    /// Of which partition.
    pub partition: Partition,
    /// The leader; nobody, where the broker knew none.
    pub leader: Option<i32>,
    /// The leader's epoch, −1 where the answer has no room for it.
    pub epoch: i32,
}

/// What a producer left behind after its close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Connections that are still open.
    pub connections: usize,
    /// Tasks that still live.
    pub tasks: usize,
    /// Bytes of `buffer.memory` that are still taken.
    pub memory_bytes: usize,
}

/// What is promised of records that are accepted once everything is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// When everything was sound, since the run's start.
    pub from: Duration,
    /// Within which time such a record is written.
    pub within: Duration,
}

/// Whether what was acknowledged stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `acks=all`, or `acks=1` while no leader was lost: an answer means that the record stays, at
    /// its offset.
    Kept,
    /// `acks=0`, or `acks=1` with a leader lost: the record may be gone, and its offset another's.
    MayBeLost,
}

/// What the producer promised by its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// By `acks`.
    pub durability: Durability,
    /// By `enable.idempotence`: one copy, and sequences on the wire.
    pub idempotent: bool,
    /// Send order is kept: idempotence, or one request in flight that is waited for.
    pub ordered: bool,
    /// By `max.in.flight.requests.per.connection`.
    pub in_flight_max: usize,
    /// By `delivery.timeout.ms`, and one tick of the scheduler.
    pub resolved_within: Duration,
    /// What holds after the last fault; nothing if the run did not wait for that.
    pub liveness: Option<Liveness>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct History {
    /// What was promised.
    pub promises: Promises,
    /// Every accepted record, in the order of acceptance.
    pub sends: Vec<SendOp>,
    /// The final log of each partition.
    pub logs: BTreeMap<Partition, Vec<LogEntry>>,
    /// Every batch that left a producer, in order.
    pub wire: Vec<WireBatch>,
    /// The most Produce requests that were unanswered on one connection at one time.
    pub in_flight_most: usize,
    /// Every flush, in the order of calls.
    pub flushes: Vec<FlushOp>,
    /// What was seen in leaders' logs on the way.
    pub reads: Vec<Read>,
    /// How far consumers could read on the way.
    pub visible: Vec<Visible>,
    /// What passed the producers' ends of their connections, in order.
    pub events: Vec<WireEvent>,
    /// What happened in transactions.
    pub transactions: Transactions,
    /// What stayed behind when all producers were closed; nothing if they were not.
    pub left: Option<Leftovers>,
}
