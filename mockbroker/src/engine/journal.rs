//! What happened: every request and reply, and everything that is not modelled.
//!
//! *Invariants*
//! 1. Entries stand in the order in which the cluster saw them; times do not fall.
//! 2. At most [`ENTRIES_MAX`] entries and [`DIAGNOSTICS_MAX`] diagnostics are kept; what is
//!    forgotten is counted, never silently lost.
//!
//! *Source* none in Kafka; this is the mock's own record, for assertions.
//!
//! *Not here* record bytes: those are in the logs.

use std::collections::VecDeque;
use std::sync::Arc;

use super::effect::{BrokerId, ConnectionId};
use super::time::Instant;
use crate::api::Api;
use crate::fault::{RuleId, Verdict};
use crate::wire::reply::RowCode;

/// Entries that are kept; the oldest go first.
pub const ENTRIES_MAX: usize = 65_536;

/// Diagnostics that are kept; the oldest stay.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// At which broker.
    pub broker: BrokerId,
    /// On which connection.
    pub connection: ConnectionId,
    /// What.
    pub event: Event,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The client connected.
    Connected,
    /// The client, or the network, ended the connection.
    Disconnected,
    /// A request was taken up.
    Request {
        /// Its API, version and number.
        id: RequestId,
        /// The client's name, if it gave one.
        client_id: Option<Arc<str>>,
        /// Bytes of its frame.
        bytes: usize,
        /// What the fault rules decided.
        verdict: Verdict,
        /// The rule that decided, if one did.
        rule: Option<RuleId>,
    },
    /// A reply left.
    Reply {
        /// The request that it answers.
        id: RequestId,
        /// Bytes of its frame.
        bytes: usize,
        /// The code of every row.
        codes: Vec<RowCode>,
    },
    /// A request ended without a reply.
    NoReply {
        /// The request.
        id: RequestId,
        /// Why.
        reason: Silence,
    },
    /// The cluster closed the connection.
    Closed {
        /// Why.
        reason: Arc<str>,
    },
}

/// A request, as the journal names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// The client's number.
    pub correlation_id: i32,
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Silence {
    /// Produce with acks=0.
    NotAsked,
    /// A fault rule swallowed it.
    Swallowed,
    /// It was applied, and a fault rule lost the reply.
    Lost,
    /// It was applied, and a fault rule cut the reply.
    Cut,
    /// The broker failed inside the request, as Kafka does on null records.
    Stuck,
}

/// Something that the cluster does not model, or that only a defect explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// When.
    pub at: Instant,
    /// On which connection, where there was one.
    pub connection: Option<ConnectionId>,
    /// What, in a sentence.
    pub text: String,
}

/// The record of a cluster.
#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    entries_dropped: u64,
    diagnostics: Vec<Diagnostic>,
    diagnostics_dropped: u64,
}

impl Journal {
    /// Adds an entry.
    pub fn record(&mut self, entry: Entry) {
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
            self.entries_dropped += 1;
        }
        self.entries.push_back(entry);
    }

    /// Adds a diagnostic.
    pub fn diagnose(&mut self, text: String, connection: Option<ConnectionId>, at: Instant) {
        if self.diagnostics.len() == DIAGNOSTICS_MAX {
            self.diagnostics_dropped += 1;
            return;
        }
        self.diagnostics.push(Diagnostic {
            at,
            connection,
            text,
        });
    }

    /// The entries that are kept, oldest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many entries were forgotten.
    #[must_use]
    pub const fn entries_dropped(&self) -> u64 {
        self.entries_dropped
    }

    /// The diagnostics, oldest first.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many diagnostics were not kept.
    #[must_use]
    pub const fn diagnostics_dropped(&self) -> u64 {
        self.diagnostics_dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(nanos: u64) -> Entry {
        Entry {
            at: Instant::from_nanos(nanos),
            broker: BrokerId(1),
            connection: ConnectionId(1),
            event: Event::Connected,
        }
    }

    #[test]
    fn the_oldest_entries_are_forgotten_and_counted() {
        let mut journal = Journal::default();
        for nanos in 0..u64::try_from(ENTRIES_MAX).unwrap() + 3 {
            journal.record(entry(nanos));
        }
        assert_eq!(journal.entries().len(), ENTRIES_MAX);
        assert_eq!(journal.entries_dropped(), 3);
        assert_eq!(journal.entries().next(), Some(&entry(3)));
    }

    #[test]
    fn the_first_diagnostics_stay_and_the_rest_is_counted() {
        let mut journal = Journal::default();
        for number in 0..DIAGNOSTICS_MAX + 2 {
            journal.diagnose(number.to_string(), None, Instant::ZERO);
        }
        assert_eq!(journal.diagnostics().len(), DIAGNOSTICS_MAX);
        assert_eq!(journal.diagnostics_dropped(), 2);
        assert_eq!(journal.diagnostics()[0].text, "0");
    }
}
