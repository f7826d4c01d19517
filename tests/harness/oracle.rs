//! The judge: what must hold in every history, whatever went wrong on the way.
//!
//! *Invariants*
//! 1. Every law here can fail: `tests/oracle.rs` holds a history for each that breaks it alone.
//! 2. A law that the configuration does not promise is named in the verdict as not judged.
//! 3. Counts are full, witnesses are the first [`WITNESSES_MAX`] of each law.
//!
//! *Source*: Kyle Kingsbury's histories of ok, fail and info; Kafka's KIP-98 and KIP-360.
//!
//! *Not here*: transactions, reads over time, what the history is made from (`world.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::history::{Durability, Ending, History, LogEntry, Partition, SendOp, WireBatch};

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
    /// A log's offsets follow one another.
    D8Contiguity,
    /// Records of one producer and partition stand in the log in the order of their sends.
    O1SendOrder,
    /// The offsets told grow in the order of sends.
    O2AckOrder,
    /// Sends of one producer and partition end in their order.
    O3CompletionOrder,
    /// Every send ends exactly once.
    P1SingleResolution,
    /// Every send ends within the delivery time-out.
    P2Deadline,
    /// The same sequence numbers always carry the same bytes.
    Q1SequenceUnique,
    /// Sequence numbers start at 0 and leave no gap.
    Q2SequenceContinuous,
    /// The epoch of a producer id never falls.
    Q3EpochMonotone,
    /// No connection has more unanswered Produce requests than allowed.
    Q4InFlightBound,
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
    let promises = history.promises;
    // Where records may be lost their offsets are given again.
    let kept = promises.durability == Durability::Kept;
    let judged: [(Law, bool, Check); 16] = [
        (Law::D1AckedDurable, kept, acked_is_durable),
        (Law::D2OffsetTruth, kept, told_offset_is_true),
        (Law::D3SingleCopy, promises.idempotent, copy_is_single),
        (Law::D4NoPhantom, true, nothing_is_made_up),
        (Law::D5FailureAbsent, true, failure_is_absent),
        (
            Law::D6UnknownOnce,
            promises.idempotent,
            unknown_is_there_at_most_once,
        ),
        (Law::D8Contiguity, true, offsets_follow_one_another),
        (Law::O1SendOrder, promises.ordered, logs_keep_send_order),
        (Law::O2AckOrder, promises.ordered && kept, told_offsets_grow),
        (Law::O3CompletionOrder, true, sends_end_in_order),
        (Law::P1SingleResolution, true, each_send_ends_once),
        (Law::P2Deadline, true, each_send_ends_in_time),
        (
            Law::Q1SequenceUnique,
            promises.idempotent,
            sequences_are_unique,
        ),
        (
            Law::Q2SequenceContinuous,
            promises.idempotent,
            sequences_are_continuous,
        ),
        (Law::Q3EpochMonotone, promises.idempotent, epochs_never_fall),
        (Law::Q4InFlightBound, true, few_requests_are_in_flight),
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

fn acked_is_durable(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        if matches!(send.ending(), Some(Ending::Written(_))) && case.places_of(send).is_empty() {
            verdict.witness(Law::D1AckedDurable, format!("{} is in no log", Named(send)));
        }
    }
}

fn told_offset_is_true(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let Some(offset) = send.told_offset() else {
            continue;
        };
        let log = case
            .history
            .logs
            .get(&send.partition)
            .map_or(&[][..], Vec::as_slice);
        let found = log.iter().find(|entry| entry.offset == offset);
        let found = found.map(|entry| &entry.content.value);
        if found != Some(&send.content.value) {
            verdict.witness(
                Law::D2OffsetTruth,
                format!("{}, there stands {found:?}", Named(send)),
            );
        }
    }
}

fn copy_is_single(case: &Case<'_>, verdict: &mut Verdict) {
    let settled = |send: &&SendOp| !is_unknown(send);
    for send in case.history.sends.iter().filter(settled) {
        count_copies(case, send, Law::D3SingleCopy, verdict);
    }
}

fn unknown_is_there_at_most_once(case: &Case<'_>, verdict: &mut Verdict) {
    for send in case.history.sends.iter().filter(|send| is_unknown(send)) {
        count_copies(case, send, Law::D6UnknownOnce, verdict);
    }
}

fn is_unknown(send: &SendOp) -> bool {
    matches!(send.ending(), None | Some(Ending::Unknown(_)))
}

fn count_copies(case: &Case<'_>, send: &SendOp, law: Law, verdict: &mut Verdict) {
    let places = case.places_of(send);
    if places.len() > 1 {
        verdict.witness(law, format!("{} stands at {places:?}", Named(send)));
    }
}

fn nothing_is_made_up(case: &Case<'_>, verdict: &mut Verdict) {
    for (partition, entry) in entries(case.history) {
        let send = case.senders.get(&entry.content.value);
        let sent =
            send.is_some_and(|send| send.partition == *partition && send.content == entry.content);
        if !sent {
            let sent = send.map(|send| (&send.partition, &send.content));
            verdict.witness(
                Law::D4NoPhantom,
                format!("{partition:?} holds {entry:?}, sent was {sent:?}"),
            );
        }
    }
}

fn failure_is_absent(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let places = case.places_of(send);
        if matches!(send.ending(), Some(Ending::NotWritten(_))) && !places.is_empty() {
            verdict.witness(
                Law::D5FailureAbsent,
                format!("{} stands at {places:?}", Named(send)),
            );
        }
    }
}

fn offsets_follow_one_another(case: &Case<'_>, verdict: &mut Verdict) {
    for (partition, log) in &case.history.logs {
        for pair in log.windows(2) {
            let (earlier, later) = (pair[0].offset, pair[1].offset);
            if later != earlier + 1 {
                verdict.witness(
                    Law::D8Contiguity,
                    format!("{partition:?}: after offset {earlier} comes {later}"),
                );
            }
        }
    }
}

fn logs_keep_send_order(case: &Case<'_>, verdict: &mut Verdict) {
    // Without idempotence a record that was given up may arrive behind later ones after all.
    let idempotent = case.history.promises.idempotent;
    let stands = |send| {
        let judged = idempotent || !is_unknown(send);
        let place = case.places_of(send).first().filter(|_| judged);
        place.map(|(_, offset)| *offset)
    };
    for [(first, first_at), (second, second_at)] in case.neighbours(stands) {
        if first_at >= second_at {
            verdict.witness(
                Law::O1SendOrder,
                format!(
                    "{} stands at {first_at}, {} at {second_at}",
                    Named(first),
                    Named(second)
                ),
            );
        }
    }
}

fn told_offsets_grow(case: &Case<'_>, verdict: &mut Verdict) {
    for [(first, first_at), (second, second_at)] in case.neighbours(SendOp::told_offset) {
        if first_at >= second_at {
            verdict.witness(
                Law::O2AckOrder,
                format!("{} before {}", Named(first), Named(second)),
            );
        }
    }
}

fn sends_end_in_order(case: &Case<'_>, verdict: &mut Verdict) {
    let ended = |send: &SendOp| send.resolutions.first().map(|resolution| resolution.order);
    for [(first, first_order), (second, second_order)] in case.neighbours(ended) {
        if first_order > second_order {
            verdict.witness(
                Law::O3CompletionOrder,
                format!("{} ended after {}", Named(first), Named(second)),
            );
        }
    }
}

fn each_send_ends_once(case: &Case<'_>, verdict: &mut Verdict) {
    for send in case
        .history
        .sends
        .iter()
        .filter(|send| send.resolutions.len() != 1)
    {
        let endings = &send.resolutions;
        verdict.witness(
            Law::P1SingleResolution,
            format!("{}: {endings:?}", Named(send)),
        );
    }
}

fn each_send_ends_in_time(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let Some(resolution) = send.resolutions.first() else {
            continue;
        };
        let took = resolution.at.saturating_sub(send.at);
        if took > case.history.promises.resolved_within {
            verdict.witness(Law::P2Deadline, format!("{} took {took:?}", Named(send)));
        }
    }
}

/// The batches of one producer id, epoch and partition, in the order of their first leaving.
type WireLine<'a> = Vec<&'a WireBatch>;

fn wire_lines<'a>(case: &Case<'a>) -> Vec<WireLine<'a>> {
    let mut lines: BTreeMap<_, WireLine<'a>> = BTreeMap::new();
    for batch in &case.history.wire {
        let line = (batch.producer_id, batch.epoch, &batch.partition);
        lines.entry(line).or_default().push(batch);
    }
    lines.into_values().collect()
}

/// Sequences of a batch on a line without wrap.
fn sequences(batch: &WireBatch) -> Range<i64> {
    let first = i64::from(batch.base_sequence);
    first..first + i64::from(batch.record_count)
}

fn intersects(first: &WireBatch, second: &WireBatch) -> bool {
    let (first, second) = (sequences(first), sequences(second));
    first.start < second.end && second.start < first.end
}

/// The batch without the leader epoch, the one field that a retry may change.
fn lasting_bytes(batch: &WireBatch) -> (&[u8], &[u8]) {
    let bytes = batch.bytes.as_ref();
    let (epoch_start, epoch_end) = (12.min(bytes.len()), 16.min(bytes.len()));
    (&bytes[..epoch_start], &bytes[epoch_end..])
}

fn sequences_are_unique(case: &Case<'_>, verdict: &mut Verdict) {
    for line in wire_lines(case) {
        let mut seen: Vec<&WireBatch> = Vec::new();
        for batch in line {
            let earlier = seen.iter().find(|earlier| intersects(earlier, batch));
            match earlier {
                None => seen.push(batch),
                Some(earlier) if lasting_bytes(earlier) == lasting_bytes(batch) => {}
                Some(earlier) => verdict.witness(
                    Law::Q1SequenceUnique,
                    format!("{earlier:?} and {batch:?} share sequences and differ"),
                ),
            }
        }
    }
}

fn sequences_are_continuous(case: &Case<'_>, verdict: &mut Verdict) {
    const WRAP: i64 = 1 << 31;
    for line in wire_lines(case) {
        let mut seen: Vec<&WireBatch> = Vec::new();
        let mut next = 0;
        for batch in line {
            if seen.iter().any(|earlier| intersects(earlier, batch)) {
                continue; // sent again: Q1 judges it
            }
            if sequences(batch).start != next {
                verdict.witness(
                    Law::Q2SequenceContinuous,
                    format!("{batch:?} starts elsewhere than at {next}"),
                );
            }
            next = sequences(batch).end % WRAP;
            seen.push(batch);
        }
    }
}

fn epochs_never_fall(case: &Case<'_>, verdict: &mut Verdict) {
    let mut newest: BTreeMap<(i64, &Partition), i16> = BTreeMap::new();
    for batch in &case.history.wire {
        let epoch = newest
            .entry((batch.producer_id, &batch.partition))
            .or_insert(batch.epoch);
        if batch.epoch < *epoch {
            let witness = format!("{batch:?} comes after epoch {epoch}");
            verdict.witness(Law::Q3EpochMonotone, witness);
        }
        *epoch = batch.epoch.max(*epoch);
    }
}

fn few_requests_are_in_flight(case: &Case<'_>, verdict: &mut Verdict) {
    let (most, allowed) = (
        case.history.in_flight_most,
        case.history.promises.in_flight_max,
    );
    if most > allowed {
        let witness = format!("{most} requests were unanswered on one connection, not {allowed}");
        verdict.witness(Law::Q4InFlightBound, witness);
    }
}
