//! What happened: every request and reply, and everything that is not modelled.
//!
//! *Invariants*
//! 1. Entries stand in the order in which the cluster saw them; times do not fall.
//! 2. At most [`ENTRIES_MAX`] entries and [`DIAGNOSTICS_MAX`] diagnostics are kept; what is
//!    forgotten is counted, never silently lost.
//!
//! 3. The bytes of requests are kept up to [`Journal::keep_request_bytes`], the newest first; when
//!    some are forgotten for the first time, a diagnostic says so, and all are counted.
//!
//! 4. Entries weigh at most [`ENTRY_BYTES_MAX`] together, unless there is but one, and a diagnostic
//!    has at most [`TEXT_BYTES_MAX`] bytes of its text; the first entry that goes for its weight is
//!    told by a diagnostic, and a text says itself that it was cut.
//!
//! *Source* none in Kafka; this is the mock's own record, for assertions.
//!
//! *Not here* what requests mean.

use core::fmt;
use core::ops::Deref;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::effect::{BrokerId, ConnectionId};
use super::time::Instant;
use crate::api::Api;
use crate::fault::{RuleId, Verdict};
use crate::wire::reply::RowCode;

/// Entries that are kept; the oldest go first.
pub const ENTRIES_MAX: usize = 65_536;

/// Diagnostics that are kept; the oldest stay.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// Bytes of the names and codes in all entries together; the oldest entries go first.
pub const ENTRY_BYTES_MAX: usize = 256 << 20;

/// Bytes of a diagnostic's text before it is cut: clients' names and ids come into it.
pub const TEXT_BYTES_MAX: usize = 2_048;

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
        /// The frame as received, without the four bytes of size, while the journal keeps it.
        frame: Option<RequestBytes>,
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
    /// The request was answered, as far as it asks for an answer, and its client exceeds a quota:
    /// until the time is over nothing more is read from the connection.
    Throttled {
        /// The request.
        id: RequestId,
        /// For how long.
        throttle: Duration,
    },
    /// The cluster closed the connection.
    Closed {
        /// Why.
        reason: Arc<str>,
    },
}

/// A frame as it was received.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestBytes(Bytes);

impl Deref for RequestBytes {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

/// How many, so that a journal that is printed can be read.
impl fmt::Debug for RequestBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.0.len())
    }
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
#[derive(Clone, Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    entries_dropped: u64,
    /// Of all entries, as [`weight`] has it.
    entry_bytes: usize,
    heavy_dropped: bool,
    diagnostics: Vec<Diagnostic>,
    diagnostics_dropped: u64,
    frames: Frames,
}

/// The account of the bytes that entries carry.
#[derive(Clone, Debug, Default)]
struct Frames {
    bytes_max: usize,
    bytes: usize,
    dropped: u64,
    /// No entry before this one, counted from the first ever, carries bytes.
    from: u64,
}

impl Journal {
    /// Keeps the bytes of requests from now on, at most this many; 0, the default, keeps none.
    pub const fn keep_request_bytes(&mut self, bytes_max: usize) {
        self.frames.bytes_max = bytes_max;
    }

    /// The bytes of a request, to be carried by its entry, if such are kept.
    #[must_use]
    pub fn request_bytes(&self, frame: &[u8]) -> Option<RequestBytes> {
        // A copy: a slice would keep alive whatever was read together with it.
        (self.frames.bytes_max > 0).then(|| RequestBytes(Bytes::copy_from_slice(frame)))
    }

    /// Adds an entry.
    pub fn record(&mut self, mut entry: Entry) {
        let (at, bytes) = (entry.at, frame_bytes(&entry));
        if bytes > self.frames.bytes_max {
            take_frame(&mut entry);
            self.note_dropped_frame(at);
        } else {
            while self.frames.bytes + bytes > self.frames.bytes_max && self.forget_a_frame() {
                self.note_dropped_frame(at);
            }
            self.frames.bytes += bytes;
        }
        if self.entries.len() == ENTRIES_MAX {
            self.forget_an_entry();
        }
        self.entry_bytes += weight(&entry);
        self.entries.push_back(entry);
        while self.entry_bytes > ENTRY_BYTES_MAX && self.entries.len() > 1 {
            self.forget_an_entry();
            if !core::mem::replace(&mut self.heavy_dropped, true) {
                let text = format!(
                    "the journal forgets entries: the newest weigh {ENTRY_BYTES_MAX} bytes"
                );
                self.diagnose(text, None, at);
            }
        }
    }

    fn forget_an_entry(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.frames.bytes -= frame_bytes(&oldest);
            self.entry_bytes -= weight(&oldest);
            self.entries_dropped += 1;
        }
    }

    /// Takes the bytes from the oldest entry that carries some; `false` when none does.
    fn forget_a_frame(&mut self) -> bool {
        loop {
            let number = self.frames.from.max(self.entries_dropped);
            let index = usize::try_from(number - self.entries_dropped).unwrap_or(usize::MAX);
            let Some(entry) = self.entries.get_mut(index) else {
                return false;
            };
            self.frames.from = number + 1;
            if let Some(frame) = take_frame(entry) {
                self.frames.bytes -= frame.len();
                return true;
            }
        }
    }

    fn note_dropped_frame(&mut self, at: Instant) {
        if self.frames.dropped == 0 {
            let text = format!(
                "bytes of requests are not kept any more: together they exceed {} bytes",
                self.frames.bytes_max
            );
            self.diagnose(text, None, at);
        }
        self.frames.dropped += 1;
    }

    /// Of how many requests the bytes were forgotten for lack of room.
    #[must_use]
    pub const fn frames_dropped(&self) -> u64 {
        self.frames.dropped
    }

    /// Adds a diagnostic.
    pub fn diagnose(&mut self, mut text: String, connection: Option<ConnectionId>, at: Instant) {
        if self.diagnostics.len() == DIAGNOSTICS_MAX {
            self.diagnostics_dropped += 1;
            return;
        }
        if text.len() > TEXT_BYTES_MAX {
            let kept = text.floor_char_boundary(TEXT_BYTES_MAX);
            let cut = text.len() - kept;
            text.truncate(kept);
            text.push_str(&format!("… and {cut} more bytes"));
            text.shrink_to_fit();
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

    /// How many entries there ever were.
    #[must_use]
    pub fn entries_written(&self) -> u64 {
        self.entries_dropped + u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
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

/// Bytes of what an entry tells, without the frame. A topic's name counts once for the rows that
/// share it.
fn weight(entry: &Entry) -> usize {
    match &entry.event {
        Event::Request { client_id, .. } => client_id.as_ref().map_or(0, |id| id.len()),
        Event::Reply { codes, .. } => {
            let names = codes.chunk_by(|one, other| match (&one.topic, &other.topic) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one == other,
            });
            let names = names.filter_map(|rows| rows.first()?.topic.as_ref());
            size_of_val(codes.as_slice()) + names.map(|name| name.len()).sum::<usize>()
        }
        Event::Closed { reason } => reason.len(),
        _ => 0,
    }
}

fn frame_bytes(entry: &Entry) -> usize {
    match &entry.event {
        Event::Request { frame, .. } => frame.as_ref().map_or(0, |frame| frame.len()),
        _ => 0,
    }
}

fn take_frame(entry: &mut Entry) -> Option<RequestBytes> {
    match &mut entry.event {
        Event::Request { frame, .. } => frame.take(),
        _ => None,
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

    fn record_request(journal: &mut Journal, bytes: usize) {
        let frame = journal.request_bytes(&vec![7; bytes]);
        let id = RequestId {
            api: Api::Metadata,
            version: 0,
            correlation_id: 0,
        };
        let event = Event::Request {
            id,
            client_id: None,
            bytes,
            verdict: Verdict::Pass,
            rule: None,
            frame,
        };
        journal.record(Entry { event, ..entry(0) });
    }

    /// How many bytes each entry carries.
    fn carried(journal: &Journal) -> Vec<usize> {
        journal.entries().map(frame_bytes).collect()
    }

    #[test]
    fn no_bytes_are_kept_unless_asked_for() {
        let mut journal = Journal::default();
        record_request(&mut journal, 10);
        assert_eq!(carried(&journal), [0]);
        assert_eq!(
            (journal.frames_dropped(), journal.diagnostics().len()),
            (0, 0)
        );
    }

    #[test]
    fn the_newest_bytes_are_kept_and_the_loss_is_told_once() {
        let mut journal = Journal::default();
        journal.keep_request_bytes(100);
        record_request(&mut journal, 60);
        journal.record(entry(0));
        record_request(&mut journal, 40);
        assert_eq!(carried(&journal), [60, 0, 40]);
        assert_eq!(journal.diagnostics(), []);
        record_request(&mut journal, 1);
        assert_eq!(carried(&journal), [0, 0, 40, 1]);
        record_request(&mut journal, 100);
        assert_eq!(carried(&journal), [0, 0, 0, 0, 100]);
        record_request(&mut journal, 101);
        assert_eq!(carried(&journal), [0, 0, 0, 0, 100, 0], "too large alone");
        assert_eq!(journal.frames_dropped(), 4);
        assert_eq!(journal.diagnostics().len(), 1);
    }

    #[test]
    fn a_forgotten_entry_gives_its_room_back() {
        let mut journal = Journal::default();
        journal.keep_request_bytes(100);
        record_request(&mut journal, 100);
        for nanos in 0..u64::try_from(ENTRIES_MAX).unwrap() {
            journal.record(entry(nanos));
        }
        record_request(&mut journal, 100);
        assert_eq!(carried(&journal).last(), Some(&100));
        assert_eq!(journal.frames_dropped(), 0);
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

    fn record_reply(journal: &mut Journal, rows: usize, name_bytes: usize) {
        let row = RowCode {
            topic: Some("a".repeat(name_bytes).into()),
            partition: Some(0),
            code: crate::ErrorCode::NONE,
        };
        let event = Event::Reply {
            id: RequestId {
                api: Api::Metadata,
                version: 0,
                correlation_id: 0,
            },
            bytes: 0,
            codes: vec![row; rows],
        };
        journal.record(Entry { event, ..entry(0) });
    }

    #[test]
    fn heavy_entries_are_forgotten_counted_and_told_once() {
        let mut journal = Journal::default();
        let third = ENTRY_BYTES_MAX / 3;
        let rows = third / 2 / size_of::<RowCode>();
        for _ in 0..5 {
            record_reply(&mut journal, rows, third / 2);
        }
        assert_eq!((journal.entries().len(), journal.entries_dropped()), (3, 2));
        let told = "the journal forgets entries: the newest weigh 268435456 bytes";
        assert_eq!(journal.diagnostics().len(), 1);
        assert_eq!(journal.diagnostics()[0].text, told);
    }

    #[test]
    fn an_entry_above_the_weight_is_kept_alone() {
        let mut journal = Journal::default();
        record_reply(&mut journal, 1, 1);
        record_reply(&mut journal, 1, ENTRY_BYTES_MAX + 1);
        assert_eq!((journal.entries().len(), journal.entries_dropped()), (1, 1));
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let mut journal = Journal::default();
        journal.diagnose("é".repeat(TEXT_BYTES_MAX), None, Instant::ZERO);
        let expected = format!(
            "{}… and {TEXT_BYTES_MAX} more bytes",
            "é".repeat(TEXT_BYTES_MAX / 2)
        );
        assert_eq!(journal.diagnostics()[0].text, expected);
    }
}
