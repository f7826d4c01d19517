//! The judge: what must hold in every history, whatever went wrong on the way.
//!
//! *Invariants*
//! 1. Every law here can fail: `tests/oracle.rs` holds a history for each that breaks it alone.
//! 2. A law that the configuration does not promise is named in the verdict as not judged.
//! 3. Counts are full, witnesses are the first [`WITNESSES_MAX`] of each law.
//!
//! *Source*: Kyle Kingsbury's histories of ok, fail and info; Kafka's KIP-98 and KIP-360.
//!
//! *Not here*: what the history is made from (`world.rs`, `working.rs`).

mod isolation;
mod jobs;
mod logs;
mod order;
mod promises;
mod transactions;
mod wire;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::history::transactions::{Epochs, Marker, MarkerKind, TransactionOp};
use crate::history::{Durability, Ending, History, LogEntry, Partition, Promises, SendOp};

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
    /// What a consumer could read stood in as many replicas as `min.insync.replicas` asks for.
    D10VisibleHeld,
    /// Records of one producer and partition stand in the log in the order of their sends.
    O1SendOrder,
    /// The offsets told grow in the order of sends.
    O2AckOrder,
    /// Sends of one producer and partition end in their order.
    O3CompletionOrder,
    /// What ended before a flush returned stands before what was accepted after it.
    O4BarrierOrder,
    /// Under one transactional id what counts of an older process stands before that of a newer.
    O5InstanceOrder,
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
    /// What was aborted, or certainly not committed, counts for nobody.
    T1AbortedInvisible,
    /// What was committed was written and counts, all of it, once.
    T2CommittedVisible,
    /// Of a transaction all records count or none, whatever its caller was told.
    T3Atomic,
    /// No record counts before its commit was asked for, and nobody reads what they write.
    T4NotBeforeCommit,
    /// No transaction has read what depends on itself.
    T5NoCircle,
    /// What a process sends after a newer one of its id has begun never counts.
    T6Fenced,
    /// What a group has read counts exactly if its transaction does.
    T7OffsetsAtomic,
    /// What was copied is what was read, once and in order.
    T8CopyEqual,
    /// In the end no transaction is open anywhere.
    T9NothingHangs,
    /// In a partition an epoch has the records of one transaction.
    T10EpochPerTransaction,
    /// Records of a transaction have a marker behind them, and the same everywhere.
    T11MarkersSane,
    /// Who reads committed records is given what counts, and nothing else.
    C1ReaderHonest,
    /// All accounts together hold what they held.
    B1SumConstant,
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
    let judged = LAWS_OF_RECORDS.iter().chain(&LAWS_OF_WIRES);
    for (law, condition, check) in judged.chain(&LAWS_OF_TRANSACTIONS) {
        if condition.holds(history) {
            check(&case, &mut verdict);
        } else {
            verdict.not_judged.push(*law);
        }
    }
    verdict
}

/// What a configuration has to promise for a law to count.
#[derive(Clone, Copy, Debug)]
enum If {
    Always,
    /// Where records may be lost their offsets are given again.
    Kept,
    Idempotent,
    Ordered,
    OrderedAndKept,
    OneEpochEach,
}

impl If {
    fn holds(self, history: &History) -> bool {
        let Promises {
            idempotent,
            ordered,
            ..
        } = history.promises;
        let kept = history.promises.durability == Durability::Kept;
        match self {
            Self::Always => true,
            Self::Kept => kept,
            Self::Idempotent => idempotent,
            Self::Ordered => ordered,
            Self::OrderedAndKept => ordered && kept,
            Self::OneEpochEach => history.transactions.epochs == Epochs::OnePerTransaction,
        }
    }
}

use If::{Always, Idempotent, Kept, OneEpochEach, Ordered, OrderedAndKept};

const LAWS_OF_RECORDS: [(Law, If, Check); 21] = [
    (Law::D1AckedDurable, Kept, logs::acked_is_durable),
    (Law::D2OffsetTruth, Kept, logs::told_offset_is_true),
    (Law::D3SingleCopy, Idempotent, logs::copy_is_single),
    (Law::D4NoPhantom, Always, logs::nothing_is_made_up),
    (Law::D5FailureAbsent, Always, logs::failure_is_absent),
    (Law::D6UnknownOnce, Idempotent, logs::unknown_is_there_once),
    (Law::D7StableLog, Always, logs::what_was_read_stays),
    (Law::D8Contiguity, Always, logs::offsets_follow_one_another),
    (Law::D9PrefixDurable, Kept, logs::what_lies_before_stays),
    (
        Law::D10VisibleHeld,
        Always,
        logs::enough_hold_what_is_visible,
    ),
    (Law::O1SendOrder, Ordered, order::logs_keep_send_order),
    (Law::O2AckOrder, OrderedAndKept, order::told_offsets_grow),
    (Law::O3CompletionOrder, Always, order::sends_end_in_order),
    (Law::O4BarrierOrder, Always, order::flushes_are_barriers),
    (
        Law::O5InstanceOrder,
        Always,
        isolation::the_older_comes_first,
    ),
    (
        Law::O6KeyPlacement,
        Always,
        order::keys_have_their_partition,
    ),
    (
        Law::P1SingleResolution,
        Always,
        promises::each_send_ends_once,
    ),
    (Law::P2Deadline, Always, promises::each_send_ends_in_time),
    (Law::P3FlushComplete, Always, promises::flushes_are_complete),
    (Law::P4CloseComplete, Always, promises::nothing_stays_behind),
    (Law::P5Liveness, Always, promises::what_is_sound_works),
];

const LAWS_OF_WIRES: [(Law, If, Check); 7] = [
    (
        Law::Q1SequenceUnique,
        Idempotent,
        wire::sequences_are_unique,
    ),
    (
        Law::Q2SequenceContinuous,
        Idempotent,
        wire::sequences_continue,
    ),
    (Law::Q3EpochMonotone, Idempotent, wire::epochs_never_fall),
    (
        Law::Q4InFlightBound,
        Always,
        wire::few_requests_are_in_flight,
    ),
    (Law::Q5Routing, Always, wire::batches_go_to_leaders),
    (Law::Q6Mute, Always, wire::throttles_are_kept),
    (Law::Q7VersionLegal, Always, wire::versions_are_offered),
];

const LAWS_OF_TRANSACTIONS: [(Law, If, Check); 13] = [
    (
        Law::T1AbortedInvisible,
        Always,
        transactions::aborted_is_invisible,
    ),
    (
        Law::T2CommittedVisible,
        Always,
        transactions::committed_is_visible,
    ),
    (Law::T3Atomic, Always, transactions::transactions_are_atomic),
    (
        Law::T4NotBeforeCommit,
        Always,
        isolation::nothing_counts_before_its_commit,
    ),
    (Law::T5NoCircle, Always, isolation::nobody_reads_in_a_circle),
    (Law::T6Fenced, Always, isolation::the_newer_fences_the_older),
    (
        Law::T7OffsetsAtomic,
        Always,
        jobs::offsets_count_with_their_transaction,
    ),
    (Law::T8CopyEqual, Always, jobs::a_copy_is_equal),
    (Law::T9NothingHangs, Always, transactions::nothing_hangs),
    (
        Law::T10EpochPerTransaction,
        OneEpochEach,
        transactions::an_epoch_has_one_transaction,
    ),
    (
        Law::T11MarkersSane,
        Always,
        transactions::markers_end_what_they_should,
    ),
    (
        Law::C1ReaderHonest,
        Always,
        isolation::readers_get_what_counts,
    ),
    (Law::B1SumConstant, Always, jobs::sums_stay),
];

/// A history with what is looked up often.
struct Case<'a> {
    history: &'a History,
    /// By value: where it stands.
    places: BTreeMap<&'a Bytes, Vec<(&'a Partition, i64)>>,
    /// By value: who sent it.
    senders: BTreeMap<&'a Bytes, &'a SendOp>,
    /// Per producer and partition the sends in order.
    lines: BTreeMap<(u32, &'a Partition), Vec<&'a SendOp>>,
    /// What counts for those who read committed records, in the order of the logs; nothing where
    /// there are no transactions.
    visible: BTreeMap<&'a Partition, Vec<&'a LogEntry>>,
    /// By value: how often it counts.
    visible_values: BTreeMap<&'a Bytes, usize>,
    /// By transaction: its sends.
    bracketed: BTreeMap<usize, Vec<&'a SendOp>>,
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
        let mut visible = BTreeMap::new();
        let transactional = !history.transactions.instances.is_empty();
        for (partition, log) in history.logs.iter().filter(|_| transactional) {
            let markers = history.transactions.markers.get(partition);
            let markers = markers.map_or(&[][..], Vec::as_slice);
            visible.insert(partition, that_counts(log, markers));
        }
        let mut visible_values = BTreeMap::new();
        for entry in visible.values().flatten() {
            *visible_values.entry(&entry.content.value).or_default() += 1;
        }
        let mut bracketed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for send in &history.sends {
            if let Some(transaction) = send.transaction {
                bracketed.entry(transaction).or_default().push(send);
            }
        }
        Self {
            history,
            places,
            senders,
            lines,
            visible,
            visible_values,
            bracketed,
        }
    }

    /// Every transaction with its number.
    fn transactions(&self) -> impl Iterator<Item = (usize, &'a TransactionOp)> + use<'a> {
        self.history.transactions.all.iter().enumerate()
    }

    /// A transaction's sends, in their order.
    fn sends_of(&self, transaction: usize) -> impl Iterator<Item = &'a SendOp> + '_ {
        let sends = self.bracketed.get(&transaction);
        sends.into_iter().flatten().copied()
    }

    /// Whether who reads committed records alone gets this one.
    fn counts(&self, send: &SendOp) -> bool {
        self.visible_values.contains_key(&send.content.value)
    }

    /// The transaction that wrote a value.
    fn writer(&self, value: &Bytes) -> Option<usize> {
        self.senders.get(value)?.transaction
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

/// The records of a log that count: those outside of transactions, and those whose transaction is
/// committed by the next marker of its producer.
fn that_counts<'a>(log: &'a [LogEntry], markers: &[Marker]) -> Vec<&'a LogEntry> {
    let mut counting = Vec::new();
    for entry in log {
        let Some(stamp) = entry.stamp else {
            counting.push(entry);
            continue;
        };
        let first = markers.partition_point(|marker| marker.offset < entry.offset);
        let mut behind = markers[first..].iter();
        let end = behind.find(|marker| marker.stamp.producer_id == stamp.producer_id);
        if end.is_some_and(|end| end.kind == MarkerKind::Commit) {
            counting.push(entry);
        }
    }
    counting
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
