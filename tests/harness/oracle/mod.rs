//! The judge: what must hold in every history, whatever went wrong on the way.
//!
//! *Invariants*
//! 1. Every law here can fail: `tests/oracle.rs` holds a history for each that breaks it alone.
//! 2. A law that the configuration does not promise is named in the verdict as not judged.
//! 3. Counts are full, witnesses are the first [`WITNESSES_MAX`] of each law.
//!
//! *Source*: Kyle Kingsbury's histories of ok, fail and info; Kafka's KIP-98 and KIP-360.
//!
//! *Not here*: transactions, what the history is made from (`world.rs`).

mod logs;
mod order;
mod promises;
mod wire;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::history::{Durability, Ending, History, LogEntry, Partition, SendOp};

/// The most witnesses that a verdict shows of one law.
pub const WITNESSES_MAX: usize = 32;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// What was acknowledged by all in-sync replicas is in the log.
    D1AckedDurable,
    /// At the offset that was told stands the record.
    D2OffsetTruth,
    /// A record is in the logs at most once; of records with unknown outcome see D6.
    D3SingleCopy,
    /// Everything in a log was sent, there and as it stands.
    D4NoPhantom,
    /// What was reported as not written is in no log.
    D5FailureAbsent,
    /// A record with unknown outcome is in the logs at most once.
    D6UnknownOnce,
    /// What a consumer could read stays where it was.
    D7StableLog,
    /// A log's offsets follow one another.
    D8Contiguity,
    /// What lay before an acknowledged record stays.
    D9PrefixDurable,
    /// Records of one producer and partition stand in the log in the order of their sends.
    O1SendOrder,
    /// The offsets told grow in the order of sends.
    O2AckOrder,
    /// Sends of one producer and partition end in their order.
    O3CompletionOrder,
    /// What ended before a flush returned stands before what was accepted after it.
    O4BarrierOrder,
    /// A key's records are in the partition that Kafka's own producer would choose.
    O6KeyPlacement,
    /// Every send ends exactly once.
    P1SingleResolution,
    /// Every send ends within the delivery time-out.
    P2Deadline,
    /// When a flush returns, all that was accepted before it has ended.
    P3FlushComplete,
    /// When a producer is closed, nothing of it stays.
    P4CloseComplete,
    /// Once everything is sound, records are written soon.
    P5Liveness,
    /// The same sequence numbers always carry the same bytes.
    Q1SequenceUnique,
    /// Sequence numbers start at 0 and leave no gap.
    Q2SequenceContinuous,
    /// The epoch of a producer id never falls.
    Q3EpochMonotone,
    /// No connection has more unanswered Produce requests than allowed.
    Q4InFlightBound,
    /// A batch goes to the leader of the highest epoch that its producer was told.
    Q5Routing,
    /// Nothing is sent on a connection while it is throttled.
    Q6Mute,
    /// Every request has a version that its broker offered on that connection.
    Q7VersionLegal,
}

/// The judgement of a history.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Broken laws with how often, and the first witnesses.
    pub broken: BTreeMap<Law, Witnesses>,
    /// Laws that the configuration does not promise.
    pub not_judged: Vec<Law>,
}

/// What speaks against a law.
#[derive(Debug, Default)]
pub struct Witnesses {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub shown: Vec<String>,
}

impl Verdict {
    /// Whether every law held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// The broken laws.
    #[must_use]
    pub fn laws(&self) -> Vec<Law> {
        self.broken.keys().copied().collect()
    }

    fn witness(&mut self, law: Law, says: impl fmt::Display) {
        let witnesses = self.broken.entry(law).or_default();
        witnesses.count += 1;
        if witnesses.shown.len() < WITNESSES_MAX {
            witnesses.shown.push(says.to_string());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (law, witnesses) in &self.broken {
            writeln!(f, "{law:?} is broken {} times:", witnesses.count)?;
            for witness in &witnesses.shown {
                writeln!(f, "    {witness}")?;
            }
        }
        if !self.not_judged.is_empty() {
            writeln!(f, "not promised and not judged: {:?}", self.not_judged)?;
        }
        Ok(())
    }
}

type Check = fn(&Case<'_>, &mut Verdict);

/// Judges a history by every law that its configuration promises.
///
/// # Panics
///
/// When two sends have the same value: then nothing can be told apart.
#[must_use]
pub fn judge(history: &History) -> Verdict {
    let case = Case::open(history);
    let mut verdict = Verdict::default();
    let History { promises, .. } = history;
    // Where records may be lost their offsets are given again.
    let kept = promises.durability == Durability::Kept;
    let idempotent = promises.idempotent;
    let ordered = promises.ordered;
    let told_in_order = ordered && kept;
    let judged: [(Law, bool, Check); 26] = [
        (Law::D1AckedDurable, kept, logs::acked_is_durable),
        (Law::D2OffsetTruth, kept, logs::told_offset_is_true),
        (Law::D3SingleCopy, idempotent, logs::copy_is_single),
        (Law::D4NoPhantom, true, logs::nothing_is_made_up),
        (Law::D5FailureAbsent, true, logs::failure_is_absent),
        (
            Law::D6UnknownOnce,
            idempotent,
            logs::unknown_is_there_at_most_once,
        ),
        (Law::D7StableLog, true, logs::what_was_read_stays),
        (Law::D8Contiguity, true, logs::offsets_follow_one_another),
        (Law::D9PrefixDurable, kept, logs::what_lies_before_stays),
        (Law::O1SendOrder, ordered, order::logs_keep_send_order),
        (Law::O2AckOrder, told_in_order, order::told_offsets_grow),
        (Law::O3CompletionOrder, true, order::sends_end_in_order),
        (Law::O4BarrierOrder, true, order::flushes_are_barriers),
        (Law::O6KeyPlacement, true, order::keys_have_their_partition),
        (Law::P1SingleResolution, true, promises::each_send_ends_once),
        (Law::P2Deadline, true, promises::each_send_ends_in_time),
        (Law::P3FlushComplete, true, promises::flushes_are_complete),
        (Law::P4CloseComplete, true, promises::nothing_stays_behind),
        (Law::P5Liveness, true, promises::what_is_sound_works),
        (
            Law::Q1SequenceUnique,
            idempotent,
            wire::sequences_are_unique,
        ),
        (
            Law::Q2SequenceContinuous,
            idempotent,
            wire::sequences_are_continuous,
        ),
        (Law::Q3EpochMonotone, idempotent, wire::epochs_never_fall),
        (Law::Q4InFlightBound, true, wire::few_requests_are_in_flight),
        (Law::Q5Routing, true, wire::batches_go_to_leaders),
        (Law::Q6Mute, true, wire::throttles_are_kept),
        (Law::Q7VersionLegal, true, wire::versions_are_offered),
    ];
    for (law, promised, check) in judged {
        if promised {
            check(&case, &mut verdict);
        } else {
            verdict.not_judged.push(law);
        }
    }
    verdict
}

/// A history with what is looked up often.
struct Case<'a> {
    history: &'a History,
    /// By value: where it stands.
    places: BTreeMap<&'a Bytes, Vec<(&'a Partition, i64)>>,
    /// By value: who sent it.
    senders: BTreeMap<&'a Bytes, &'a SendOp>,
    /// Per producer and partition the sends in order.
    lines: BTreeMap<(u32, &'a Partition), Vec<&'a SendOp>>,
}

impl<'a> Case<'a> {
    fn open(history: &'a History) -> Self {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (partition, entry) in entries(history) {
            places
                .entry(&entry.content.value)
                .or_default()
                .push((partition, entry.offset));
        }
        let mut senders = BTreeMap::new();
        let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for send in &history.sends {
            let earlier = senders.insert(&send.content.value, send);
            assert!(
                earlier.is_none(),
                "two sends have the value {:?}",
                send.content.value
            );
            lines
                .entry((send.producer, &send.partition))
                .or_default()
                .push(send);
        }
        Self {
            history,
            places,
            senders,
            lines,
        }
    }

    fn places_of(&self, send: &SendOp) -> &[(&'a Partition, i64)] {
        self.places
            .get(&send.content.value)
            .map_or(&[], Vec::as_slice)
    }

    /// The value that stands in a log.
    fn value_at(&self, partition: &Partition, offset: i64) -> Option<&'a Bytes> {
        let log = self.history.logs.get(partition)?;
        let at = log.binary_search_by_key(&offset, |entry| entry.offset);
        Some(&log[at.ok()?].content.value)
    }

    /// Neighbours in send order among those that pass.
    fn neighbours<T: Copy>(
        &self,
        pass: impl Fn(&'a SendOp) -> Option<T>,
    ) -> Vec<[(&'a SendOp, T); 2]> {
        let mut pairs = Vec::new();
        for line in self.lines.values() {
            let passed: Vec<(&SendOp, T)> = line
                .iter()
                .filter_map(|send| pass(send).map(|fact| (*send, fact)))
                .collect();
            pairs.extend(passed.windows(2).map(|pair| [pair[0], pair[1]]));
        }
        pairs
    }
}

fn entries(history: &History) -> impl Iterator<Item = (&Partition, &LogEntry)> {
    history
        .logs
        .iter()
        .flat_map(|(partition, log)| log.iter().map(move |entry| (partition, entry)))
}

/// A send as a witness names it.
struct Named<'a>(&'a SendOp);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(send) = self;
        let (topic, number) = (&send.partition.topic, send.partition.number);
        write!(
            f,
            "{:?} to {topic}-{number} at {:?}",
            send.content.value, send.at
        )?;
        match send.ending() {
            Some(ending) => write!(f, " ({ending:?})"),
            None => write!(f, " (never resolved)"),
        }
    }
}

fn is_unknown(send: &SendOp) -> bool {
    matches!(send.ending(), None | Some(Ending::Unknown(_)))
}
