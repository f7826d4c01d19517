//! What happened in a run: the sends with their outcomes, the final logs, the batches on the wire.
//!
//! *Invariants*
//! 1. Every send has a value of its own: by it a record is known wherever it turns up.
//! 2. A send that was never resolved has no resolution here; it counts as unknown.
//!
//! *Not here*: whether it was right (`oracle.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

/// A partition by its topic's name and its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name.
    pub topic: String,
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

/// A record that a producer accepted, in the order of acceptance.
#[derive(Clone, Debug)]
pub struct SendOp {
    /// Which producer.
    pub producer: u32,
    /// Where it goes.
    pub partition: Partition,
    /// What was sent.
    pub content: Content,
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
}

/// A batch as a producer put it on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireBatch {
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
}
