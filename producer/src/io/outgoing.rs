//! A record on its way into its partition's queue, and what becomes of it there.
//!
//! *Not here*: the way itself (`accumulator.rs`), what a caller is told (`handle.rs`).

use crate::io::accumulator::Ticket;
use crate::io::completion::{Callback, RecordInBatch};
use crate::io::sticky::Chosen;
use crate::wire::record_batch::RecordView;

/// A record to append.
pub(crate) struct Outgoing<'a> {
    /// Its bytes; the timestamp is filled in if the record has none of its own.
    pub(crate) view: RecordView<'a>,
    /// Where its timestamp comes from.
    pub(crate) timestamp: Timestamp,
    /// Which partition it goes to.
    pub(crate) choice: Choice,
    /// Whom to call with its fate.
    pub(crate) callback: Option<Callback>,
    /// Whether it may wait for a deep queue to empty.
    pub(crate) haste: Haste,
}

/// Whether a send may pause at a deep queue (`pause.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// It may.
    MayPause,
    /// It may not wait, or did.
    Now,
}

/// Where a record's timestamp comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timestamp {
    /// The record.
    Own,
    /// The clock, when it is accepted.
    Clock,
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    /// Nobody has chosen yet.
    Undecided,
    /// This one.
    Fixed(usize),
    /// Whichever the topic's sticky choice is.
    Sticky,
}

impl Choice {
    /// The partition, with the topic's sticky choice where that is asked for; `None` where nothing
    /// is chosen.
    #[inline(always)]
    pub(crate) fn among(
        self,
        sticky: impl FnOnce() -> Option<Chosen>,
    ) -> Option<(usize, Option<Chosen>)> {
        match self {
            Self::Undecided => None,
            Self::Fixed(partition) => Some((partition, None)),
            Self::Sticky => sticky().map(|chosen| (chosen.partition, Some(chosen))),
        }
    }
}

/// A record that waits in its partition's queue.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Its batch.
    pub(crate) ticket: Ticket,
    /// Its place there.
    pub(crate) record: RecordInBatch,
}

/// Why a record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The producer is closing, or no transaction is open.
    Closed,
    /// A new batch is needed, and so many bytes of memory for it.
    NeedsRoom { bytes: usize },
    /// The queue of this partition is deep.
    Deep { partition: i32 },
    /// It is larger than a limit.
    TooLarge(TooLarge),
    /// The topic has no partition.
    NoPartition,
}

/// How much too large a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The smallest batch that holds it, in bytes.
    pub(crate) record_bytes: usize,
    /// The limit in bytes.
    pub(crate) limit_bytes: usize,
    /// The key that sets it.
    pub(crate) limit: &'static str,
}
