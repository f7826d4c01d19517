//! What a partition knows of idempotent producers: epoch, sequences, the last five batches.
//!
//! *State* of a producer id in a partition:
//!
//! ```text
//!          any sequence              next sequence, window slides (five)
//! Unknown ─────────────▶ Known(epoch) ─────────────────────────────────▶ Known(epoch)
//!    ▲                      │   │ higher epoch and sequence 0: window cleared ▲
//!    │      expired         │   └────────────────────────────────────────────┘
//!    └──────────────────────┘
//!
//! Known, five remembered ─ the broker starts: loaded from a snapshot ─▶ Known, the last remembered
//!
//! Known(epoch) ─ a marker of a higher epoch ─▶ Known(higher), none remembered: 0 is next
//! ```
//!
//! *Invariants*
//! 1. A check changes nothing; only a batch that was appended is committed.
//! 2. At most [`WINDOW`] batches are remembered per producer, all of its current epoch.
//! 3. Of what lies before the start of the broker, at most one batch is remembered per producer
//!    (IDM-16: observed after a clean stop and after a kill).
//! 4. Each remembered batch begins one behind the end of the one before it, modulo 2³¹.
//! 5. Who has a transaction open in the log does not expire.
//!
//! *Source* apache/kafka `storage/…/internals/log/{ProducerAppendInfo,ProducerStateEntry,
//! ProducerStateManager}.java`; verdicts observed on 4.3.1.
//!
//! *Not here* which transactions are open (`open_transactions.rs`); whether a coordinator knows of
//! them (`txn_coordinator.rs`).
//!
//! *Deviations* the sweep of idle producers is not a timer: whether one has happened is computed
//! when the producer is next heard of.

use std::collections::{BTreeMap, VecDeque};

use super::marker::Marker;
use super::open_transactions::LogTransactions;
use crate::wire::batch_view::BatchHeader;

/// Batches that are recognised when they come again.
pub const WINDOW: usize = 5;

/// A producer's batch as far as its state goes; a candidate until it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer's id; not negative.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The first record's sequence; not negative.
    pub first_sequence: i32,
    /// The last record's.
    pub last_sequence: i32,
    /// The largest timestamp, which is also the producer's clock for expiry.
    pub timestamp_ms: i64,
}

impl ProducerBatch {
    /// What the header says; `None` without a producer id.
    #[must_use]
    pub fn of(header: &BatchHeader) -> Option<Self> {
        header.has_producer_id().then(|| Self {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: sequence_after(
                header.base_sequence,
                header.record_count.saturating_sub(1),
            ),
            timestamp_ms: header.max_timestamp,
        })
    }
}

/// Whether a batch is part of a transaction, and may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is of none.
    Plain,
    /// It is, and its coordinator has just said that the partition is too.
    Verified,
    /// It is, and nobody was asked: it has to be open in the log.
    Unverified,
}

/// What surrounds a check.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// When idle producers are forgotten.
    pub expiry: Expiry,
    /// The broker's clock.
    pub now_ms: i64,
    /// Whether the batch is of a transaction.
    pub membership: Membership,
    /// Whether the producer has a transaction open in this log.
    pub transaction: OpenHere,
}

/// Whether a producer has a transaction open in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHere {
    /// It has.
    Open,
    /// It has not.
    None,
}

/// Whether the marker of a transaction raises the epoch, as those of version 2 do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochBump {
    /// Each transaction has an epoch of its own (KIP-890).
    EachTransaction,
    /// The epoch stays.
    Never,
}

/// A first batch of a transaction whose coordinator was asked, and which was not appended yet
/// (`VerificationStateEntry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    epoch: i16,
    lowest_sequence: i32,
    bump: EpochBump,
}

/// The sequence `increment` behind another, modulo 2³¹ (`DefaultRecordBatch.incrementSequence`).
#[must_use]
pub fn sequence_after(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    i32::try_from(sum & i64::from(i32::MAX)).unwrap_or(0)
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceVerdict {
    /// The next one: append it.
    Next,
    /// One of the last five: answer with the original.
    Duplicate(Remembered),
    /// Its epoch is over: code 47.
    StaleEpoch,
    /// It does not follow on: code 45.
    OutOfOrder,
    /// It is of a transaction that is not open, or it is of none although one is.
    WrongTransaction,
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The first record's sequence.
    pub first_sequence: i32,
    /// The last record's.
    pub last_sequence: i32,
    /// The first record's offset.
    pub base_offset: i64,
    /// The last record's offset.
    pub last_offset: i64,
    /// The batch's largest timestamp.
    pub timestamp_ms: i64,
}

/// What is told of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp_ms: i64,
    /// The epoch of the coordinator that wrote its last marker; -1 for none.
    pub coordinator_epoch: i32,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    window: VecDeque<Remembered>,
    coordinator_epoch: i32,
    /// By the producer's clock: the largest timestamp of its last batch.
    last_timestamp_ms: i64,
    /// By the broker's clock.
    written_at_ms: i64,
}

/// When idle producers are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// `producer.id.expiration.ms`.
    pub idle_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub sweep_ms: i64,
    /// When the broker started to sweep, by its clock.
    pub origin_ms: i64,
}

impl Expiry {
    /// Whether a sweep has found idle what was last heard of then.
    #[must_use]
    pub fn has_swept(self, heard_of_at_ms: i64, now_ms: i64) -> bool {
        let sweep_ms = self.last_sweep_ms(now_ms);
        sweep_ms.saturating_sub(heard_of_at_ms) >= self.idle_ms
    }

    /// The time of the last sweep by `now_ms`.
    fn last_sweep_ms(self, now_ms: i64) -> i64 {
        let elapsed = now_ms.saturating_sub(self.origin_ms);
        now_ms.saturating_sub(elapsed.rem_euclid(self.sweep_ms.max(1)))
    }
}

/// The producers that a partition knows.
#[derive(Clone, Debug, Default)]
pub struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
    asked: BTreeMap<i64, Asked>,
}

impl ProducerStates {
    /// What `batch` is; changes nothing.
    #[must_use]
    pub fn check(&self, batch: &ProducerBatch, around: &Surroundings) -> SequenceVerdict {
        let producer = self.producers.get(&batch.producer_id);
        let producer = producer.filter(|known| {
            around.transaction == OpenHere::Open || !known.is_expired(around.expiry, around.now_ms)
        });
        // The duplicate is looked for first: UnifiedLog.analyzeAndValidateProducerState.
        if let Some(remembered) = producer.and_then(|known| known.duplicate(batch)) {
            return SequenceVerdict::Duplicate(remembered);
        }
        let goes_on = around.transaction == OpenHere::Open
            && producer.is_some_and(|known| known.epoch == batch.epoch);
        if producer.is_some_and(|known| batch.epoch < known.epoch) {
            return SequenceVerdict::StaleEpoch;
        }
        if around.membership == Membership::Unverified && !goes_on {
            return SequenceVerdict::WrongTransaction;
        }
        if self.is_behind_asked(batch, producer) {
            return SequenceVerdict::OutOfOrder;
        }
        let follows = producer.is_none_or(|known| known.is_followed_by(batch));
        if !follows {
            SequenceVerdict::OutOfOrder
        } else if around.membership == Membership::Plain && around.transaction == OpenHere::Open {
            SequenceVerdict::WrongTransaction
        } else {
            // Whoever is unknown may begin anywhere (KIP-360), but for a transaction of version 2.
            SequenceVerdict::Next
        }
    }

    /// Whether a first batch of a transaction leaves out what was, or should have been, before it
    /// (`ProducerAppendInfo.checkSequence`).
    fn is_behind_asked(&self, batch: &ProducerBatch, known: Option<&Producer>) -> bool {
        let Some(asked) = self.asked.get(&batch.producer_id) else {
            return false;
        };
        let is_new = known.is_none_or(|known| known.window.is_empty());
        let from_the_middle =
            asked.bump == EpochBump::EachTransaction && batch.first_sequence != 0 && is_new;
        from_the_middle || batch.first_sequence > asked.lowest_sequence
    }

    /// The coordinator is asked whether a batch is of a transaction; the lowest sequence of those
    /// that ask before one is appended is kept (`VerificationStateEntry`).
    pub fn on_asked(&mut self, batch: &ProducerBatch, bump: EpochBump) {
        let fresh = Asked {
            epoch: batch.epoch,
            lowest_sequence: batch.first_sequence,
            bump,
        };
        let asked = self.asked.entry(batch.producer_id).or_insert(fresh);
        if batch.epoch > asked.epoch {
            *asked = fresh;
        } else if batch.epoch == asked.epoch {
            asked.lowest_sequence = asked.lowest_sequence.min(batch.first_sequence);
        }
    }

    /// A batch of a transaction, or its marker, was appended: what is open in the log counts.
    pub fn on_transaction_moved(&mut self, producer_id: i64) {
        self.asked.remove(&producer_id);
    }

    /// The epoch of a producer, be it expired; `None` when it is not known.
    #[must_use]
    pub fn epoch(&self, producer_id: i64) -> Option<i16> {
        self.producers.get(&producer_id).map(|known| known.epoch)
    }

    /// The epoch of who wrote a producer's last marker, be it expired; `None` where there is none.
    #[must_use]
    pub fn coordinator_epoch(&self, producer_id: i64) -> Option<i32> {
        let known = self.producers.get(&producer_id)?;
        Some(known.coordinator_epoch)
    }

    /// Remembers a marker that was appended: a higher epoch begins anew
    /// (`ProducerAppendInfo.appendEndTxnMarker`).
    pub fn commit_marker(&mut self, marker: &Marker, now_ms: i64) {
        let fresh = || Producer {
            epoch: marker.epoch,
            window: VecDeque::new(),
            coordinator_epoch: marker.coordinator_epoch,
            last_timestamp_ms: now_ms,
            written_at_ms: now_ms,
        };
        let producer = self
            .producers
            .entry(marker.producer_id)
            .or_insert_with(fresh);
        if producer.epoch != marker.epoch {
            producer.epoch = marker.epoch;
            producer.window.clear();
        }
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp_ms = now_ms;
        producer.written_at_ms = now_ms;
        self.on_transaction_moved(marker.producer_id);
    }

    /// Remembers a batch that was appended.
    pub fn commit(
        &mut self,
        batch: &ProducerBatch,
        base_offset: i64,
        last_offset: i64,
        now_ms: i64,
    ) {
        let fresh = || Producer {
            epoch: batch.epoch,
            window: VecDeque::with_capacity(WINDOW),
            coordinator_epoch: -1,
            last_timestamp_ms: batch.timestamp_ms,
            written_at_ms: now_ms,
        };
        let producer = self
            .producers
            .entry(batch.producer_id)
            .or_insert_with(fresh);
        if producer.epoch != batch.epoch || producer.next_sequence() != batch.first_sequence {
            producer.epoch = batch.epoch;
            producer.window.clear();
        }
        if producer.window.len() == WINDOW {
            producer.window.pop_front();
        }
        producer.window.push_back(Remembered {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            base_offset,
            last_offset,
            timestamp_ms: batch.timestamp_ms,
        });
        producer.last_timestamp_ms = batch.timestamp_ms;
        producer.written_at_ms = now_ms;
    }

    /// What a snapshot keeps: of each producer the last batch (`ProducerStateManager.
    /// readSnapshot`).
    pub fn reload(&mut self) {
        for producer in self.producers.values_mut() {
            producer
                .window
                .drain(..producer.window.len().saturating_sub(1));
        }
        self.asked.clear();
    }

    /// The producers that no sweep has found idle, by id; whoever has a transaction open is none.
    pub fn active<'a>(
        &'a self,
        transactions: &'a LogTransactions,
        expiry: Expiry,
        now_ms: i64,
    ) -> impl Iterator<Item = ActiveProducer> + 'a {
        let known = self.producers.iter();
        let active = known.filter(move |(id, producer)| {
            transactions.open_since(**id).is_some() || !producer.is_expired(expiry, now_ms)
        });
        active.map(|(id, producer)| producer.told(*id))
    }

    /// All that are known, by id, the expired ones included, with the batches that are remembered.
    pub fn all(&self) -> impl Iterator<Item = (ActiveProducer, impl Iterator<Item = &Remembered>)> {
        let known = self.producers.iter();
        known.map(|(id, producer)| (producer.told(*id), producer.window.iter()))
    }

    /// Forgets whoever is not known to `others`: what was forgotten stays so.
    pub fn retain_known_to(&mut self, others: &Self) {
        self.producers
            .retain(|producer_id, _| others.producers.contains_key(producer_id));
    }

    /// Forgets a producer, as when it was idle for too long; `false` when it is not known.
    pub fn forget(&mut self, producer_id: i64) -> bool {
        self.producers.remove(&producer_id).is_some()
    }

    /// Forgets whom a sweep has found idle; nothing but [`count`](Self::count) and
    /// [`all`](Self::all) tells.
    pub fn forget_expired(&mut self, transactions: &LogTransactions, expiry: Expiry, now_ms: i64) {
        self.producers.retain(|id, producer| {
            transactions.open_since(*id).is_some() || !producer.is_expired(expiry, now_ms)
        });
    }

    /// Whether a producer is known, be it expired.
    #[must_use]
    pub fn knows(&self, producer_id: i64) -> bool {
        self.producers.contains_key(&producer_id)
    }

    /// How many producers are known, the expired ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.producers.len()
    }

    /// Panics when an invariant of this file does not hold; the broker started when the log ended
    /// at `started_at`.
    pub fn check_invariants(&self, started_at: i64) {
        for (id, producer) in &self.producers {
            let window = producer.window.iter();
            let loaded = window.filter(|batch| batch.last_offset < started_at);
            assert!(loaded.count() <= 1, "producer state 3: {id}");
            assert!(producer.window.len() <= WINDOW, "producer state 2: {id}");
            for (left, right) in producer.window.iter().zip(producer.window.iter().skip(1)) {
                let next = sequence_after(left.last_sequence, 1);
                assert_eq!(next, right.first_sequence, "producer state 4: {id}");
            }
        }
    }
}

impl Producer {
    fn told(&self, id: i64) -> ActiveProducer {
        ActiveProducer {
            id,
            epoch: self.epoch,
            last_sequence: self.window.back().map_or(-1, |last| last.last_sequence),
            last_timestamp_ms: self.last_timestamp_ms,
            coordinator_epoch: self.coordinator_epoch,
        }
    }

    /// Whether a batch of an epoch that is not lower may come next.
    fn is_followed_by(&self, batch: &ProducerBatch) -> bool {
        if self.epoch == NO_EPOCH {
            true
        } else if batch.epoch > self.epoch {
            batch.first_sequence == 0
        } else {
            self.next_sequence() == batch.first_sequence
        }
    }

    fn duplicate(&self, batch: &ProducerBatch) -> Option<Remembered> {
        let same = |known: &&Remembered| {
            known.first_sequence == batch.first_sequence
                && known.last_sequence == batch.last_sequence
        };
        if batch.epoch == self.epoch {
            self.window.iter().find(same).copied()
        } else {
            None
        }
    }

    /// 0 where nothing is remembered of its epoch.
    fn next_sequence(&self) -> i32 {
        let last = self.window.back();
        last.map_or(0, |last| sequence_after(last.last_sequence, 1))
    }

    /// Whether a sweep since its last write found it idle (`isProducerExpired`).
    fn is_expired(&self, expiry: Expiry, now_ms: i64) -> bool {
        let sweep_ms = expiry.last_sweep_ms(now_ms);
        sweep_ms > self.written_at_ms
            && sweep_ms.saturating_sub(self.last_timestamp_ms) >= expiry.idle_ms
    }
}

/// A producer may send this epoch; from it on any sequence follows (`ProducerAppendInfo.
/// checkSequence`).
const NO_EPOCH: i16 = -1;

#[cfg(test)]
mod tests {
    use super::SequenceVerdict::{Duplicate, Next, OutOfOrder, StaleEpoch, WrongTransaction};
    use super::*;
    use crate::engine::open_transactions::Ending;
    use proptest::prelude::*;
    use rstest::rstest;

    const NEVER: Expiry = Expiry {
        idle_ms: i64::MAX,
        sweep_ms: 1_000,
        origin_ms: 0,
    };

    const PLAIN: Surroundings = Surroundings {
        expiry: NEVER,
        now_ms: 0,
        membership: Membership::Plain,
        transaction: OpenHere::None,
    };

    fn batch(epoch: i16, first_sequence: i32, count: i32) -> ProducerBatch {
        ProducerBatch {
            producer_id: 7,
            epoch,
            first_sequence,
            last_sequence: sequence_after(first_sequence, count - 1),
            timestamp_ms: 100,
        }
    }

    /// Checks, and commits what is next; a duplicate shows as its base offset.
    fn send(
        states: &mut ProducerStates,
        batch: ProducerBatch,
        offset: &mut i64,
    ) -> SequenceVerdict {
        let verdict = states.check(&batch, &PLAIN);
        if verdict == Next {
            let count = i64::from(sequence_after(batch.last_sequence, 1) - batch.first_sequence);
            let count = count.rem_euclid(1 << 31);
            states.commit(&batch, *offset, *offset + count - 1, 0);
            *offset += count;
        }
        states.check_invariants(0);
        verdict
    }

    fn verdicts(batches: &[ProducerBatch]) -> Vec<SequenceVerdict> {
        let (mut states, mut offset) = (ProducerStates::default(), 0);
        batches
            .iter()
            .map(|batch| send(&mut states, *batch, &mut offset))
            .collect()
    }

    #[rstest]
    #[case::first_contact_anywhere(&[batch(0, 41, 1)], Next)]
    #[case::next(&[batch(0, 0, 3), batch(0, 3, 1)], Next)]
    #[case::gap(&[batch(0, 0, 3), batch(0, 4, 1)], OutOfOrder)]
    #[case::inside(&[batch(0, 0, 3), batch(0, 1, 1)], OutOfOrder)]
    #[case::same_first_other_count(&[batch(0, 0, 3), batch(0, 0, 2)], OutOfOrder)]
    #[case::stale_epoch(&[batch(3, 0, 1), batch(2, 0, 1)], StaleEpoch)]
    #[case::stale_duplicate(&[batch(2, 0, 1), batch(3, 0, 1), batch(2, 0, 1)], StaleEpoch)]
    #[case::higher_epoch_from_0(&[batch(0, 5, 1), batch(1, 0, 1)], Next)]
    #[case::higher_epoch_from_5(&[batch(0, 4, 1), batch(1, 5, 1)], OutOfOrder)]
    #[case::largest_epoch(&[batch(0, 4, 1), batch(32_767, 0, 1)], Next)]
    #[case::wrap(&[batch(0, i32::MAX, 1), batch(0, 0, 1)], Next)]
    #[case::no_wrap_to_1(&[batch(0, i32::MAX, 1), batch(0, 1, 1)], OutOfOrder)]
    #[case::straddling(&[batch(0, i32::MAX, 5), batch(0, 4, 1)], Next)]
    #[case::epoch_minus_1_is_lower(&[batch(-1, 0, 1), batch(0, 0, 1)], Next)]
    fn the_last_batch_is_judged_as_kafka_does(
        #[case] batches: &[ProducerBatch],
        #[case] expected: SequenceVerdict,
    ) {
        assert_eq!(verdicts(batches).last(), Some(&expected));
    }

    #[test]
    fn the_last_five_are_duplicates_and_the_sixth_is_out_of_order() {
        let (mut states, mut offset) = (ProducerStates::default(), 0);
        for sequence in 0..6 {
            assert_eq!(send(&mut states, batch(0, sequence, 1), &mut offset), Next);
        }
        for sequence in [5, 1, 3, 2, 4] {
            match send(&mut states, batch(0, sequence, 1), &mut offset) {
                Duplicate(original) => {
                    assert_eq!(original.base_offset, i64::from(sequence));
                    assert_eq!(original.timestamp_ms, 100);
                }
                other => panic!("sequence {sequence}: {other:?}"),
            }
        }
        assert_eq!(send(&mut states, batch(0, 0, 1), &mut offset), OutOfOrder);
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch_and_what_follows_it() {
        let (mut states, mut offset) = (ProducerStates::default(), 0);
        for sequence in 0..5 {
            send(&mut states, batch(0, sequence, 1), &mut offset);
        }
        states.reload();
        states.check_invariants(offset);
        for sequence in 0..4 {
            let verdict = send(&mut states, batch(0, sequence, 1), &mut offset);
            assert_eq!(verdict, OutOfOrder, "{sequence}");
        }
        let last = send(&mut states, batch(0, 4, 1), &mut offset);
        assert!(matches!(last, Duplicate(original) if original.base_offset == 4));
        assert_eq!(send(&mut states, batch(0, 5, 1), &mut offset), Next);
    }

    #[rstest]
    #[case::not_idle_for_long_enough(2_999)]
    #[case::idle_but_not_swept_since(3_049)]
    fn a_producer_stays_known_until_a_sweep_finds_it_idle(#[case] now_ms: i64) {
        let verdict = after_idling(50, 1, now_ms);
        assert!(matches!(verdict, Duplicate(_)), "{verdict:?}");
    }

    #[test]
    fn an_idle_producer_is_forgotten_at_the_next_sweep() {
        assert_eq!(after_idling(0, 1, 3_000), Next);
        // A record dated an hour back is idle at once: the clock is the client's timestamp.
        assert_eq!(after_idling(-3_600_000, 1, 1_000), Next);
    }

    fn after_idling(timestamp_ms: i64, written_at_ms: i64, now_ms: i64) -> SequenceVerdict {
        let expiry = Expiry {
            idle_ms: 3_000,
            sweep_ms: 1_000,
            origin_ms: 0,
        };
        let mut states = ProducerStates::default();
        let batch = ProducerBatch {
            timestamp_ms,
            ..batch(0, 9, 1)
        };
        states.commit(&batch, 0, 0, written_at_ms);
        let around = Surroundings {
            expiry,
            now_ms,
            ..PLAIN
        };
        states.check(&batch, &around)
    }

    fn around(membership: Membership, transaction: OpenHere) -> Surroundings {
        Surroundings {
            membership,
            transaction,
            ..PLAIN
        }
    }

    #[rstest]
    #[case::plain(Membership::Plain, OpenHere::None, Next)]
    #[case::plain_while_one_is_open(Membership::Plain, OpenHere::Open, WrongTransaction)]
    #[case::first_of_it(Membership::Verified, OpenHere::None, Next)]
    #[case::first_that_nobody_asked_for(Membership::Unverified, OpenHere::None, WrongTransaction)]
    #[case::goes_on(Membership::Unverified, OpenHere::Open, Next)]
    fn a_batch_is_of_the_transaction_that_is_open(
        #[case] membership: Membership,
        #[case] transaction: OpenHere,
        #[case] expected: SequenceVerdict,
    ) {
        let mut states = ProducerStates::default();
        send(&mut states, batch(0, 0, 1), &mut 0);
        let around = around(membership, transaction);
        assert_eq!(states.check(&batch(0, 1, 1), &around), expected);
    }

    #[test]
    fn a_transaction_of_version_2_begins_at_0_where_nothing_is_known() {
        let verified = around(Membership::Verified, OpenHere::None);
        let mut states = ProducerStates::default();
        states.on_asked(&batch(0, 41, 1), EpochBump::EachTransaction);
        assert_eq!(states.check(&batch(0, 41, 1), &verified), OutOfOrder);
        states.on_asked(&batch(0, 0, 1), EpochBump::EachTransaction);
        assert_eq!(states.check(&batch(0, 0, 1), &verified), Next);

        let mut older = ProducerStates::default();
        older.on_asked(&batch(0, 41, 1), EpochBump::Never);
        assert_eq!(older.check(&batch(0, 41, 1), &verified), Next);
        older.on_asked(&batch(0, 45, 1), EpochBump::Never);
        assert_eq!(
            older.check(&batch(0, 45, 1), &verified),
            OutOfOrder,
            "41 was first"
        );
    }

    #[rstest]
    #[case::raised(1, 0, Next)]
    #[case::raised_and_not_from_0(1, 1, OutOfOrder)]
    #[case::the_epoch_before(0, 1, StaleEpoch)]
    fn a_marker_of_a_higher_epoch_begins_anew(
        #[case] epoch: i16,
        #[case] sequence: i32,
        #[case] expected: SequenceVerdict,
    ) {
        let mut states = ProducerStates::default();
        send(&mut states, batch(0, 0, 1), &mut 0);
        states.commit_marker(&marker(1), 0);
        states.check_invariants(0);
        assert_eq!(states.check(&batch(epoch, sequence, 1), &PLAIN), expected);
    }

    #[test]
    fn a_marker_of_the_same_epoch_keeps_the_sequence() {
        let mut states = ProducerStates::default();
        send(&mut states, batch(1, 0, 1), &mut 0);
        states.commit_marker(&marker(1), 0);
        assert_eq!(states.check(&batch(1, 1, 1), &PLAIN), Next);
        let again = states.check(&batch(1, 0, 1), &PLAIN);
        assert!(matches!(again, Duplicate(_)), "{again:?}");
    }

    fn marker(epoch: i16) -> Marker {
        Marker {
            producer_id: 7,
            epoch,
            ending: Ending::Commit,
            coordinator_epoch: 0,
        }
    }

    proptest! {
        /// Whatever is sent, in whatever order, each sequence of an epoch is appended at most once
        /// after first contact, and in order.
        #[test]
        fn sequences_are_appended_once_and_in_order(
            start in prop_oneof![Just(0), Just(i32::MAX - 20), 0..100i32],
            sends in proptest::collection::vec((0..30i32, 1..4i32), 1..60),
        ) {
            let (mut states, mut offset) = (ProducerStates::default(), 0);
            let mut expected = start;
            prop_assert_eq!(send(&mut states, batch(0, start, 1), &mut offset), Next);
            expected = sequence_after(expected, 1);
            for (ahead, count) in sends {
                let first = sequence_after(start, ahead);
                let candidate = batch(0, first, count);
                if send(&mut states, candidate, &mut offset) == Next {
                    prop_assert_eq!(first, expected, "appended out of order");
                    expected = sequence_after(candidate.last_sequence, 1);
                }
            }
        }

        #[test]
        fn a_duplicate_answers_with_the_original_offset(
            counts in proptest::collection::vec(1..5i32, 1..20),
        ) {
            let (mut states, mut offset) = (ProducerStates::default(), 0);
            let mut sent = Vec::new();
            let mut sequence = i32::MAX - 10;
            for count in counts {
                let candidate = batch(0, sequence, count);
                sent.push((candidate, offset));
                prop_assert_eq!(send(&mut states, candidate, &mut offset), Next);
                sequence = sequence_after(candidate.last_sequence, 1);
            }
            for (candidate, base_offset) in sent.iter().rev().take(WINDOW) {
                match send(&mut states, *candidate, &mut offset) {
                    Duplicate(original) => prop_assert_eq!(original.base_offset, *base_offset),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
