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
//! ```
//!
//! *Invariants*
//! 1. A check changes nothing; only a batch that was appended is committed.
//! 2. At most [`WINDOW`] batches are remembered per producer, all of its current epoch.
//! 3. Of what lies before the start of the broker, at most one batch is remembered per producer
//!    (IDM-16: observed after a clean stop and after a kill).
//! 4. Each remembered batch begins one behind the end of the one before it, modulo 2³¹.
//!
//! *Source* apache/kafka `storage/…/internals/log/{ProducerAppendInfo,ProducerStateEntry,
//! ProducerStateManager}.java`; verdicts observed on 4.3.1.
//!
//! *Not here* transactions.
//!
//! *Deviations* the sweep of idle producers is not a timer: whether one has happened is computed
//! when the producer is next heard of.

use std::collections::{BTreeMap, VecDeque};

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
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    window: VecDeque<Remembered>,
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
}

impl ProducerStates {
    /// What `batch` is; changes nothing.
    #[must_use]
    pub fn check(&self, batch: &ProducerBatch, expiry: Expiry, now_ms: i64) -> SequenceVerdict {
        let producer = self.producers.get(&batch.producer_id);
        let Some(producer) = producer.filter(|known| !known.is_expired(expiry, now_ms)) else {
            // Whoever is unknown may begin anywhere (KIP-360).
            return SequenceVerdict::Next;
        };
        // The duplicate is looked for first: UnifiedLog.analyzeAndValidateProducerState.
        if let Some(remembered) = producer.duplicate(batch) {
            return SequenceVerdict::Duplicate(remembered);
        }
        if batch.epoch < producer.epoch {
            return SequenceVerdict::StaleEpoch;
        }
        let follows = if batch.epoch > producer.epoch {
            batch.first_sequence == 0 || producer.epoch == NO_EPOCH
        } else {
            producer.epoch == NO_EPOCH || producer.next_sequence() == Some(batch.first_sequence)
        };
        if follows {
            SequenceVerdict::Next
        } else {
            SequenceVerdict::OutOfOrder
        }
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
            last_timestamp_ms: batch.timestamp_ms,
            written_at_ms: now_ms,
        };
        let producer = self
            .producers
            .entry(batch.producer_id)
            .or_insert_with(fresh);
        if producer.epoch != batch.epoch || producer.next_sequence() != Some(batch.first_sequence) {
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
            producer.window.drain(..producer.window.len() - 1);
        }
    }

    /// The producers that no sweep has found idle, by id.
    pub fn active(&self, expiry: Expiry, now_ms: i64) -> impl Iterator<Item = ActiveProducer> + '_ {
        let known = self.producers.iter();
        let active = known.filter(move |(_, producer)| !producer.is_expired(expiry, now_ms));
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
    pub fn forget_expired(&mut self, expiry: Expiry, now_ms: i64) {
        self.producers
            .retain(|_, producer| !producer.is_expired(expiry, now_ms));
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
            assert!(
                (1..=WINDOW).contains(&producer.window.len()),
                "producer state 2: {id}"
            );
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

    fn next_sequence(&self) -> Option<i32> {
        self.window
            .back()
            .map(|last| sequence_after(last.last_sequence, 1))
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
    use super::SequenceVerdict::{Duplicate, Next, OutOfOrder, StaleEpoch};
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const NEVER: Expiry = Expiry {
        idle_ms: i64::MAX,
        sweep_ms: 1_000,
        origin_ms: 0,
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
        let verdict = states.check(&batch, NEVER, 0);
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
        states.check(&batch, expiry, now_ms)
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
