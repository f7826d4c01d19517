//! What happened in transactions: who worked under which id, what each transaction had, how it was
//! said to end; markers, ends of logs, offsets of groups, sums.
//!
//! *Invariants*
//! 1. A transaction whose caller was told nothing, or "unknown", has no outcome here that speaks
//!    for either end.
//! 2. Two processes under one id are two instances, whoever of them is the zombie.
//!
//! *Not here*: whether it was right (`oracle/transactions.rs`, `oracle/isolation.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Partition;

/// All that transactions add to a history; nothing, where nobody had a transactional id.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// Every process that had a transactional id.
    pub instances: Vec<Instance>,
    /// Every transaction that was begun, in that order.
    pub all: Vec<TransactionOp>,
    /// Whether each transaction has an epoch of its own: `transaction.version` 2 from start to end.
    pub epochs: Epochs,
    /// The markers of each log.
    pub markers: BTreeMap<Partition, Vec<Marker>>,
    /// How far each log is to be read, in the end.
    pub ends: BTreeMap<Partition, LogEnd>,
    /// Transactional ids that a coordinator still has open in the end, and partitions of groups
    /// that wait for a marker.
    pub unfinished: Vec<String>,
    /// What was seen of groups' offsets.
    pub offsets_seen: Vec<OffsetSeen>,
    /// What is copied to where, if something is.
    pub copying: Option<Copying>,
    /// What all accounts hold together, whenever somebody added it up.
    pub sums: Vec<Sum>,
}

/// A process with a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its producer.
    pub producer: u32,
    /// Its `transactional.id`.
    pub id: Arc<str>,
    /// When it asked for its producer id.
    pub asked_at: Duration,
    /// When it had it; nothing if it never did.
    pub initialised_at: Option<Duration>,
}

/// A transaction, as its caller saw it. Its sends name it by its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOp {
    /// Whose.
    pub producer: u32,
    /// When it had begun.
    pub begun_at: Duration,
    /// Values that it read and did not write itself.
    pub reads: Vec<Bytes>,
    /// Values that were refused before they were accepted.
    pub refused: Vec<Bytes>,
    /// Offsets that were sent with it, and taken.
    pub offsets: Vec<GroupOffset>,
    /// When its commit was asked for, if it was.
    pub commit_asked_at: Option<Duration>,
    /// What its caller was told.
    pub outcome: TransactionOutcome,
    /// When.
    pub told_at: Option<Duration>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// It was committed.
    Committed,
    /// It certainly was not.
    NotCommitted,
    /// Nobody was told.
    #[default]
    Unknown,
}

/// How far a group has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The group.
    pub group: Arc<str>,
    /// What it read.
    pub partition: Partition,
    /// What it reads next.
    pub offset: i64,
}

/// An offset of a group that somebody saw as committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetSeen {
    /// When.
    pub at: Duration,
    /// What; 0 where nothing is committed.
    pub offset: GroupOffset,
}

/// Whether every transaction of a producer id has an epoch of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Epochs {
    /// It has.
    OnePerTransaction,
    /// Several may share one.
    #[default]
    Shared,
}

/// A marker in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its offset.
    pub offset: i64,
    /// Whose transaction it ends.
    pub stamp: Stamp,
    /// How.
    pub kind: MarkerKind,
}

/// How a marker ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkerKind {
    /// Its records count.
    Commit,
    /// They do not.
    Abort,
}

/// Producer id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The id.
    pub producer_id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// How far a log is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// By those who read committed records alone.
    pub last_stable_offset: i64,
    /// By those who read all.
    pub high_watermark: i64,
}

/// Records read from one topic and written to the partition of the same number of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copying {
    /// Who reads.
    pub group: Arc<str>,
    /// From where.
    pub from: Arc<str>,
    /// To where; a copy has its original's value as its key.
    pub to: Arc<str>,
}

/// What all accounts held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// When it was added up.
    pub at: Duration,
    /// To what.
    pub found: i64,
    /// What it has to be.
    pub right: i64,
}
