//! One partition's queue: the open batch and the sealed ones before it.
//!
//! *State*
//! ```text
//!                 append_opening                    append: full
//!   empty ───────────────────────▶ open ───────────────────────────▶ sealed only
//!     ▲                             │  ▲    append_opening              │
//!     │          take (seals)       │  └────────────────────────────────┘
//!     └─────────────────────────────┘        take: oldest sealed first
//! ```
//!
//! *Invariants*
//! 1. Batches leave in the order in which they were opened; records keep the order of their calls.
//! 2. At most one batch is open, and it is the youngest.
//! 3. [`PartitionQueue::append`] allocates nothing and reads no clock.
//! 4. Each batch is noticed when it opens or fills: at most twice.
//!
//! *Source*: Kafka's `RecordAccumulator.append` (KIP-480, KIP-794 change who calls, not this).
//!
//! *Not here*: locks, memory, waking (`io/accumulator.rs`); when a batch is due (`drain.rs`).

use std::collections::VecDeque;

pub use crate::engine::batch::{NewBatch, NoRoom, SealedBatch};
use crate::engine::batch::{OpenBatch, Placed};
use crate::engine::effect::QueueState;
use crate::engine::time::Instant;
use crate::wire::batch_buffer::BatchBuffer;
use crate::wire::record_batch::HEADER_BYTES;
pub use crate::wire::record_batch::{HeaderView, RecordView, single_record_batch_bytes};

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// `batch.size`: a batch's largest size on the wire in bytes, as it is expected to be
    /// compressed, unless its first record alone is larger. At 0 every record is a batch of its
    /// own.
    pub batch_bytes: usize,
}

/// Where a record went, and what the driver must hear of it.
#[derive(Clone, Debug)]
pub struct Appended<C> {
    /// The handle of the batch.
    pub completion: C,
    /// The record's index in the batch.
    pub index: u32,
    /// How many bytes it takes there.
    pub bytes: usize,
    /// What changed for the driver.
    pub notice: Notice,
}

/// What the driver must hear of an append, as [`crate::engine::effect::Input::Queued`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing: the batch was known and has room left.
    None,
    /// A batch was opened, and the one before it sealed if there was one open.
    Opened {
        /// That one's size on the wire, 0 if there was none.
        sealed_bytes: usize,
    },
    /// The record filled its batch, which is sealed now.
    Filled {
        /// What was sealed.
        sealed_bytes: usize,
    },
}

/// The records of one partition that were not taken yet.
#[derive(Debug)]
pub struct PartitionQueue<C> {
    limits: QueueLimits,
    open: Option<OpenBatch<C>>,
    sealed: SealedBatches<C>,
    /// What batches come to here, lately.
    expected_bytes: usize,
}

/// Batches that take no more records, oldest first.
#[derive(Debug)]
pub(crate) struct SealedBatches<C> {
    batches: VecDeque<SealedBatch<C>>,
    /// The size of all of them.
    bytes: usize,
}

impl<C> Default for SealedBatches<C> {
    fn default() -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<C> SealedBatches<C> {
    /// Puts one behind them.
    pub(crate) fn push(&mut self, batch: SealedBatch<C>) {
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<SealedBatch<C>> {
        let oldest = self.batches.pop_front()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }

    /// A batch was opened behind them, so the youngest was full by then.
    pub(crate) fn note_opened(&mut self, now: Instant) {
        if let Some(youngest) = self.batches.back_mut() {
            youngest.note_sealed(now);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.batches.len()
    }

    /// What waits, with a batch behind them that takes records since then.
    pub(crate) fn state(&self, open_since: Option<Instant>) -> QueueState {
        let oldest = self.batches.front();
        QueueState {
            oldest_opened_at: oldest.map(SealedBatch::opened_at).or(open_since),
            open_since,
            oldest_bytes: oldest.map_or(0, SealedBatch::bytes),
            sealed_bytes: self.bytes,
        }
    }
}

impl<C: Clone> PartitionQueue<C> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            open: None,
            sealed: SealedBatches::default(),
            expected_bytes: 0,
        }
    }

    /// Encodes the record into the open batch.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when no batch is open or the record does not fit; the queue is unchanged.
    #[inline(always)]
    pub fn append(&mut self, record: &RecordView<'_>) -> Result<Appended<C>, NoRoom> {
        let open = self.open.as_mut().ok_or(NoRoom::Batch)?;
        let Placed { index, bytes } = open.append(record)?;
        let completion = open.completion().clone();
        let notice = match open.is_full() {
            false => Notice::None,
            true => Notice::Filled {
                sealed_bytes: self.seal_open(),
            },
        };
        Ok(Appended {
            completion,
            index,
            bytes,
            notice,
        })
    }

    /// Gives the open batch a larger buffer; gives back the one that is not needed.
    #[must_use]
    pub fn exchange(&mut self, buffer: BatchBuffer) -> BatchBuffer {
        match &mut self.open {
            Some(open) => open.exchange(buffer),
            None => buffer,
        }
    }

    /// Seals what is open, opens a batch in the given buffer and appends the record to it.
    pub fn append_opening(&mut self, record: &RecordView<'_>, batch: NewBatch<C>) -> Appended<C> {
        let sealed_bytes = self.seal_open();
        self.sealed.note_opened(batch.now);
        let completion = batch.completion.clone();
        let open = OpenBatch::open(batch, record, self.limits.batch_bytes);
        let (is_full, bytes) = (open.is_full(), open.bytes() - HEADER_BYTES);
        self.open = Some(open);
        let notice = match is_full {
            false => Notice::Opened { sealed_bytes },
            true => Notice::Filled {
                sealed_bytes: sealed_bytes + self.seal_open(),
            },
        };
        Appended {
            completion,
            index: 0,
            bytes,
            notice,
        }
    }

    /// Seals what is open, so that the next record opens a batch; [`Notice::Filled`] if there was
    /// any.
    pub fn seal(&mut self) -> Notice {
        match self.seal_open() {
            0 => Notice::None,
            sealed_bytes => Notice::Filled { sealed_bytes },
        }
    }

    /// What waits here.
    #[must_use]
    pub fn state(&self) -> QueueState {
        self.sealed.state(self.open_since())
    }

    /// When the batch that takes records was opened; `None` when there is none.
    #[must_use]
    pub fn open_since(&self) -> Option<Instant> {
        self.open.as_ref().map(OpenBatch::opened_at)
    }

    /// The size so far of the batch that takes records, 0 when there is none.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, OpenBatch::bytes)
    }

    /// Takes the oldest batch; the open one is sealed for it when none is sealed.
    pub fn take(&mut self) -> Option<SealedBatch<C>> {
        self.take_sealed().or_else(|| self.close_open())
    }

    /// Takes the oldest batch that takes no more records.
    pub fn take_sealed(&mut self) -> Option<SealedBatch<C>> {
        self.sealed.pop()
    }

    /// Says how many bytes it sealed; a batch has some.
    fn seal_open(&mut self) -> usize {
        let Some(sealed) = self.close_open() else {
            return 0;
        };
        let bytes = sealed.bytes();
        self.sealed.push(sealed);
        bytes
    }

    /// What the next batch is expected to come to, in bytes, from those before: more at once, less
    /// by and by.
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        match &self.open {
            None => self.expected_bytes,
            Some(open) => open.bytes().max(self.expected_bytes / 2),
        }
    }

    fn close_open(&mut self) -> Option<SealedBatch<C>> {
        self.expected_bytes = self.expected_bytes();
        self.open.take().map(OpenBatch::seal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ratio::Ratio;
    use crate::engine::time::Instant;
    use crate::types::{ProducerEpoch, ProducerId, Sequence};
    use crate::wire::read_back::{ReadRecord, read_batch};
    use crate::wire::record_batch::{ProducerStamp, Scope};
    use proptest::prelude::*;

    fn record(value: &[u8]) -> RecordView<'_> {
        RecordView {
            timestamp_ms: 7,
            key: None,
            value: Some(value),
            headers: &[],
        }
    }

    fn new_batch(completion: u32, room: usize) -> NewBatch<u32> {
        let now = Instant::from_nanos(u64::from(completion));
        NewBatch {
            ratio: Ratio::PLAIN,
            buffer: BatchBuffer::with_capacity(room),
            buffer_bytes_max: room,
            completion,
            now,
        }
    }

    fn queue(batch_bytes: usize) -> PartitionQueue<u32> {
        PartitionQueue::new(QueueLimits { batch_bytes })
    }

    /// 61 bytes of header, and 8 per record of one byte.
    const HEADER_AND_TWO: usize = 61 + 2 * 8;
    const FILLED: Notice = Notice::Filled {
        sealed_bytes: HEADER_AND_TWO,
    };

    #[test]
    fn a_record_without_an_open_batch_has_no_room() {
        assert_eq!(
            queue(100).append(&record(b"a")).map(|_| ()),
            Err(NoRoom::Batch)
        );
        assert_eq!(queue(100).state(), QueueState::default());
    }

    #[test]
    fn a_batch_that_takes_no_more_is_noticed_as_filled() {
        let mut queue = queue(HEADER_AND_TWO);
        let first = queue.append_opening(&record(b"a"), new_batch(1, 100));
        assert_eq!(first.index, 0);
        assert_eq!(first.notice, Notice::Opened { sealed_bytes: 0 });
        assert_eq!(queue.state().sealed_bytes, 0);
        let second = queue.append(&record(b"b")).expect("room");
        assert_eq!(
            (second.completion, second.index, second.notice),
            (1, 1, FILLED)
        );
        assert_eq!(queue.state().sealed_bytes, HEADER_AND_TWO);
        assert_eq!(queue.append(&record(b"c")).map(|_| ()), Err(NoRoom::Batch));
    }

    #[test]
    fn opening_a_batch_seals_the_one_before() {
        let mut queue = queue(100);
        queue.append_opening(&record(b"a"), new_batch(1, 100));
        let second = queue.append_opening(&record(b"b"), new_batch(2, 100));
        assert_eq!(second.notice, Notice::Opened { sealed_bytes: 69 });
        let expected = QueueState {
            oldest_opened_at: Some(Instant::from_nanos(1)),
            open_since: Some(Instant::from_nanos(2)),
            oldest_bytes: 69,
            sealed_bytes: 69,
        };
        assert_eq!(queue.state(), expected);
    }

    #[test]
    fn batches_leave_in_the_order_of_their_opening() {
        let mut queue = queue(100);
        for completion in 1..=3 {
            queue.append_opening(&record(b"a"), new_batch(completion, 100));
        }
        let taken: Vec<u32> = std::iter::from_fn(|| queue.take())
            .map(SealedBatch::into_completion)
            .collect();
        assert_eq!(taken, [1, 2, 3]);
        assert_eq!(queue.state(), QueueState::default());
    }

    #[test]
    fn a_first_record_larger_than_a_batch_goes_alone() {
        let mut queue = queue(100);
        let big = [7; 500];
        let appended = queue.append_opening(&record(&big), new_batch(1, 600));
        assert!(matches!(appended.notice, Notice::Filled { .. }));
        let batch = queue.take().expect("a batch");
        assert_eq!(
            (batch.record_count(), batch.bytes()),
            (1, 61 + 2 + 6 + 1 + 500)
        );
    }

    #[test]
    fn a_batch_outgrows_its_buffer_by_doubling_until_it_is_full() {
        let mut queue = queue(400);
        let batch = NewBatch {
            buffer_bytes_max: 400,
            ..new_batch(1, 70)
        };
        queue.append_opening(&record(b"a"), batch);
        let mut wanted = Vec::new();
        loop {
            match queue.append(&record(b"b")) {
                Ok(_) => {}
                Err(NoRoom::Buffer { bytes }) => {
                    wanted.push(bytes);
                    let before = queue.exchange(BatchBuffer::with_capacity(bytes));
                    assert!(before.capacity() < bytes);
                }
                Err(NoRoom::Batch) => break,
            }
        }
        assert_eq!(wanted, [140, 280, 400]);
        let not_needed = queue.exchange(BatchBuffer::with_capacity(300));
        assert_eq!(not_needed.capacity(), 300, "it has a larger one");
        let batch = queue.take().expect("a batch");
        assert_eq!((batch.record_count(), batch.bytes()), (42, 61 + 42 * 8));
        let not_needed = queue.exchange(not_needed);
        assert_eq!(not_needed.capacity(), 300, "nothing is open");
    }

    #[test]
    fn what_batches_come_to_is_expected_of_the_next_one_for_a_while() {
        let mut queue = queue(1_000);
        let mut expected = Vec::new();
        for bytes in [100, 500, 10, 10, 700] {
            queue.append_opening(&record(&vec![0; bytes]), new_batch(1, 1_000));
            let open = queue.expected_bytes();
            drop(queue.take());
            assert_eq!(queue.expected_bytes(), open, "as if it had been closed");
            expected.push(open);
        }
        let size = |bytes: usize| 61 + 9 + bytes;
        assert_eq!(expected[..2], [size(100), size(500)]);
        assert_eq!(expected[2..], [size(500) / 2, size(500) / 4, size(700)]);
    }

    #[test]
    fn appending_allocates_nothing() {
        let mut queue = queue(400);
        queue.append_opening(&record(b"a"), new_batch(1, 400));
        let room = |queue: &PartitionQueue<u32>| queue.open.as_ref().map(|open| open.capacity());
        let before = room(&queue);
        while queue.append(&record(b"some value")).is_ok() {}
        assert!(queue.open.is_some(), "the last record did not fit exactly");
        assert_eq!(room(&queue), before);
    }

    prop_compose! {
        fn any_record()(
            timestamp_ms in prop_oneof![any::<i64>(), 0_i64..10_000],
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            headers in proptest::collection::vec(
                (".{0,10}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10))),
                0..4,
            ),
        ) -> ReadRecord {
            ReadRecord { timestamp_ms, key, value, headers }
        }
    }

    fn append(queue: &mut PartitionQueue<u32>, record: &ReadRecord, completion: u32) -> u32 {
        let headers: Vec<HeaderView<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| HeaderView {
                key,
                value: value.as_deref(),
            })
            .collect();
        let view = RecordView {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let appended = queue.append(&view).or_else(|no_room| {
            // Buffers have no more room than needed, so that they grow as often as they may.
            if let NoRoom::Buffer { bytes } = no_room {
                drop(queue.exchange(BatchBuffer::with_capacity(bytes)));
            }
            queue.append(&view)
        });
        let appended = appended.unwrap_or_else(|no_room| {
            assert_eq!(no_room, NoRoom::Batch, "it has the buffer it wanted");
            let first_bytes = single_record_batch_bytes(&view);
            let batch = NewBatch {
                buffer_bytes_max: first_bytes.max(queue.limits.batch_bytes),
                ..new_batch(completion, first_bytes)
            };
            queue.append_opening(&view, batch)
        });
        appended.index
    }

    proptest! {
        /// Whatever is appended is what a reader sees: all records, in order, in whole batches
        /// within their size.
        #[test]
        fn any_records_read_back_from_their_batches(
            records in proptest::collection::vec(any_record(), 1..60),
            batch_bytes in 0_usize..2000,
            sequence in prop_oneof![0_i32..100, (i32::MAX - 30)..=i32::MAX],
        ) {
            let mut queue = queue(batch_bytes);
            let mut indexes = Vec::new();
            for (record, completion) in records.iter().zip(0..) {
                indexes.push(append(&mut queue, record, completion));
            }
            let mut next = Sequence::new(sequence).expect("not negative");
            let mut read = Vec::new();
            let mut read_indexes = Vec::new();
            while let Some(batch) = queue.take() {
                let count = batch.record_count();
                prop_assert!(batch.bytes() <= batch_bytes || count == 1);
                let (id, epoch) = (ProducerId(9), ProducerEpoch(3));
                let stamped = batch.stamp(Some(ProducerStamp {
                    id, epoch, base_sequence: next, scope: Scope::Alone,
                }));
                let seen = read_batch(&stamped.share());
                prop_assert_eq!(seen.producer, (9, 3, next.value()));
                let latest = seen.records.iter().map(|one| one.timestamp_ms).max();
                prop_assert_eq!(Some(seen.max_timestamp_ms), latest);
                prop_assert_eq!(seen.records.len(), count as usize);
                read_indexes.extend(0..count);
                read.extend(seen.records);
                next = next.plus(count);
            }
            prop_assert_eq!(read, records);
            prop_assert_eq!(read_indexes, indexes);
        }

        #[test]
        fn a_restamped_batch_differs_in_its_stamp_alone(
            record in any_record(),
            held: bool,
        ) {
            let mut queue = queue(0);
            append(&mut queue, &record, 0);
            let stamp = |epoch, sequence| Some(ProducerStamp {
                id: ProducerId(1),
                epoch: ProducerEpoch(epoch),
                base_sequence: Sequence::ZERO.plus(sequence),
                scope: Scope::Alone,
            });
            let batch = queue.take().expect("a batch").stamp(stamp(0, 40));
            let before = read_batch(&batch.share());
            let hold = held.then(|| batch.share());
            let after = read_batch(&batch.restamp(stamp(1, 0)).share());
            prop_assert_eq!(after.producer, (1, 1, 0));
            prop_assert_eq!(&after.records, &before.records);
            if let Some(hold) = hold {
                prop_assert_eq!(read_batch(&hold), before, "what is on the wire stays as it was");
            }
        }
    }
}
