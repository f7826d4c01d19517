//! A partition's queue in two halves: what callers fill, and what the driver looks at.
//!
//! Whoever appends takes the lock of the first half again and again. Were it the driver's too, the
//! driver would sleep on it, and each unlocking would be a system call that wakes it: at full speed
//! that once made a record cost four times as much, for seconds on end.
//!
//! *State* of a batch
//! ```text
//!               append_opening            fills, or is sealed              take
//!   (no batch) ────────────────▶ filling ─────────────────────▶ waiting ─────────▶ (the driver's)
//!                                   └──────────────────────────────────────▲
//!                                            take, when none waits
//! ```
//!
//! *Invariants*
//! 1. A batch that takes no more records waits in the driver's half before the callers' lock is
//!    free: who changed the callers' half hands over.
//! 2. The driver takes the callers' lock only to take or measure a batch that still takes records,
//!    or to turn the gate.
//! 3. Who holds both locks took the callers' first.
//! 4. A closed or shut slot takes no record; what it took before stays for the driver to take.
//!
//! *Not here*: what is told to the driver, and when (`accumulator.rs`).

use parking_lot::{Mutex, MutexGuard};
use spin::Yield;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::engine::effect::QueueState;
use crate::engine::queue::{Notice, PartitionQueue, QueueLimits, SealedBatch, SealedBatches};
use crate::engine::time::Instant;
use crate::io::accumulator::Ticket;
use crate::io::load::Load;
use crate::types::TopicPartition;

/// Callers' half, locked.
pub(crate) type Filling<'a> = SpinMutexGuard<'a, SlotQueue, Yield>;

/// A partition's queue behind its locks.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) partition: TopicPartition,
    /// Freed with a plain store. A lock that lets others sleep is freed with an atomic operation,
    /// to see whether any do, and that waits until all bytes of the record have left the
    /// processor's store buffer. Who finds this one locked lets others run.
    filling: SpinMutex<SlotQueue, Yield>,
    /// How often that was locked.
    #[cfg(test)]
    locked: std::sync::atomic::AtomicU32,
    driver: DriversHalf,
}

/// On cache lines of its own: appends write the other half for each record.
#[derive(Debug, Default)]
#[repr(align(128))]
struct DriversHalf {
    /// What waits in the queue, for who does not lock it.
    load: Load,
    waiting: Mutex<Waiting>,
}

/// What callers fill.
#[derive(Debug)]
pub(crate) struct SlotQueue {
    pub(crate) records: PartitionQueue<Ticket>,
    pub(crate) gate: Gate,
    /// What the sticky choice brought since it came here, in bytes.
    pub(crate) sticky_bytes: usize,
    /// How often somebody found it locked during the sticky choice's turn.
    pub(crate) collisions: u32,
}

/// What the driver looks at.
#[derive(Debug, Default)]
struct Waiting {
    sealed: SealedBatches<Ticket>,
    /// When the batch that takes records was opened.
    open_since: Option<Instant>,
}

/// Whether a slot takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It does.
    Open,
    /// No transaction is open.
    Shut,
    /// The producer is closing.
    Closed,
}

impl Slot {
    /// A partition's empty queue.
    pub(crate) fn new(partition: TopicPartition, limits: QueueLimits, gate: Gate) -> Self {
        Self {
            partition,
            filling: SpinMutex::new(SlotQueue {
                records: PartitionQueue::new(limits),
                gate,
                sticky_bytes: 0,
                collisions: 0,
            }),
            #[cfg(test)]
            locked: std::sync::atomic::AtomicU32::new(0),
            driver: DriversHalf::default(),
        }
    }

    /// How often callers' half was locked.
    #[cfg(test)]
    pub(crate) fn lock_count(&self) -> u32 {
        self.locked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What waits in the queue, for who does not lock it.
    pub(crate) fn load(&self) -> &Load {
        &self.driver.load
    }

    /// Locks callers' half: for an append, never across anything slower.
    #[inline]
    pub(crate) fn lock(&self) -> Filling<'_> {
        #[cfg(test)]
        self.locked
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Only a bug of ours panics in an append; the batches before it are whole.
        self.filling
            .try_lock()
            .unwrap_or_else(|| self.lock_after_others())
    }

    #[cold]
    fn lock_after_others(&self) -> Filling<'_> {
        let mut queue = self.filling.lock();
        queue.collisions = queue.collisions.saturating_add(1);
        queue
    }

    /// Lets the driver see what was opened or sealed under this lock.
    pub(crate) fn hand_over(&self, queue: &mut SlotQueue) {
        let mut waiting = self.waiting();
        while let Some(batch) = queue.records.take_sealed() {
            waiting.sealed.push(batch);
        }
        waiting.open_since = queue.records.open_since();
        if let Some(opened_at) = waiting.open_since {
            waiting.sealed.note_opened(opened_at);
        }
        self.publish(&waiting);
    }

    /// Seals the batch that takes records, if there is one; [`Notice::Filled`] if there was.
    pub(crate) fn seal(&self) -> Notice {
        let mut queue = self.lock();
        let notice = queue.records.seal();
        self.hand_over(&mut queue);
        notice
    }

    /// What waits here.
    pub(crate) fn state(&self) -> QueueState {
        self.waiting().state()
    }

    /// The size so far of the batch that takes records, 0 if there is none.
    pub(crate) fn open_bytes(&self) -> usize {
        self.lock().records.open_bytes()
    }

    /// Takes the oldest batch; the one that takes records is sealed for it when no other waits.
    pub(crate) fn take(&self) -> Option<SealedBatch<Ticket>> {
        let mut waiting = self.waiting();
        if let Some(taken) = waiting.sealed.pop() {
            self.publish(&waiting);
            return Some(taken);
        }
        waiting.open_since?;
        drop(waiting);
        let mut queue = self.lock();
        let mut waiting = self.waiting();
        // It may have filled meanwhile.
        let taken = waiting.sealed.pop().or_else(|| queue.records.take());
        waiting.open_since = queue.records.open_since();
        self.publish(&waiting);
        taken
    }

    /// Opens, shuts or closes it; says whether something is in it.
    pub(crate) fn turn(&self, gate: Gate) -> bool {
        let mut queue = self.lock();
        queue.gate = gate;
        self.waiting().state().oldest_opened_at.is_some()
    }

    fn publish(&self, waiting: &Waiting) {
        let open = usize::from(waiting.open_since.is_some());
        let batches = waiting.sealed.count() + open;
        let oldest_opened_at = waiting.state().oldest_opened_at;
        self.driver.load.set(batches, oldest_opened_at);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panics meanwhile: each change is a push or a pop.
        self.driver.waiting.lock()
    }
}

impl SlotQueue {
    /// The sticky choice leaves: how often threads collided while it was here.
    pub(crate) fn end_turn(&mut self) -> u32 {
        self.sticky_bytes = 0;
        std::mem::take(&mut self.collisions)
    }
}

impl Waiting {
    fn state(&self) -> QueueState {
        self.sealed.state(self.open_since)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::engine::queue::{NewBatch, RecordView};
    use crate::engine::ratio::Ratio;
    use crate::io::completion::BatchCompletion;
    use crate::types::TopicIndex;
    use crate::wire::batch_buffer::BatchBuffer;

    const RECORD: RecordView<'_> = RecordView {
        timestamp_ms: 0,
        key: None,
        value: Some(&[0; 60]),
        headers: &[],
    };

    fn slot() -> Arc<Slot> {
        let partition = TopicPartition {
            topic: TopicIndex(0),
            partition: 0,
        };
        let limits = QueueLimits { batch_bytes: 200 };
        Arc::new(Slot::new(partition, limits, Gate::Open))
    }

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    /// Appends a record to a new batch, as the accumulator does.
    fn open(slot: &Slot, opened_at: Instant) {
        open_locked(slot, &mut slot.lock(), opened_at);
    }

    fn open_locked(slot: &Slot, queue: &mut SlotQueue, opened_at: Instant) {
        let batch = NewBatch {
            ratio: Ratio::PLAIN,
            buffer: BatchBuffer::with_capacity(200),
            buffer_bytes_max: 200,
            completion: Arc::new(BatchCompletion::new(Arc::from("topic"), 0, 0, 0)),
            now: opened_at,
        };
        queue.records.append_opening(&RECORD, batch);
        slot.hand_over(queue);
    }

    #[test]
    fn a_sealed_batch_is_seen_and_taken_while_somebody_appends() {
        let slot = slot();
        open(&slot, at(1));
        open(&slot, at(2));
        let appending = slot.lock();
        let (told, hears) = mpsc::channel();
        let driver = Arc::clone(&slot);
        std::thread::spawn(move || {
            let state = driver.state();
            told.send((state, driver.take().map(|batch| batch.opened_at())))
        });
        let (state, taken) = hears
            .recv_timeout(Duration::from_secs(10))
            .expect("nobody waits for who appends");
        assert_eq!(state.oldest_opened_at, Some(at(1)));
        assert_eq!(state.open_since, Some(at(2)));
        assert!(state.oldest_bytes > 60 && state.oldest_bytes == state.sealed_bytes);
        assert_eq!(taken, Some(at(1)));
        drop(appending);
    }

    #[test]
    fn a_batch_that_fills_while_the_driver_waits_for_the_lock_leaves_first() {
        let slot = slot();
        open(&slot, at(1));
        let mut appending = slot.lock();
        let locked = slot.lock_count();
        let driver = Arc::clone(&slot);
        let taking = std::thread::spawn(move || driver.take().map(|batch| batch.opened_at()));
        // It has seen no batch that waits, and asks for the lock.
        while slot.lock_count() == locked {
            std::thread::yield_now();
        }
        open_locked(&slot, &mut appending, at(2));
        drop(appending);
        assert_eq!(taking.join().expect("it does not panic"), Some(at(1)));
        assert_eq!(slot.take().map(|batch| batch.opened_at()), Some(at(2)));
    }

    #[test]
    fn batches_leave_in_the_order_in_which_they_were_opened() {
        let slot = slot();
        for opened_at in 1..=3 {
            open(&slot, at(opened_at));
        }
        assert_eq!(slot.load().batches(), 3);
        assert!(slot.open_bytes() > 60);
        let taken: Vec<_> = std::iter::from_fn(|| slot.take())
            .map(|batch| batch.opened_at())
            .collect();
        assert_eq!(taken, [at(1), at(2), at(3)]);
        assert_eq!(slot.state(), QueueState::default());
        assert_eq!((slot.load().batches(), slot.open_bytes()), (0, 0));
    }

    #[test]
    fn a_batch_that_takes_records_has_no_size_before_it_is_sealed() {
        let slot = slot();
        open(&slot, at(1));
        assert_eq!(slot.state().oldest_bytes, 0);
        assert_eq!(
            slot.seal(),
            Notice::Filled {
                sealed_bytes: slot.state().sealed_bytes
            }
        );
        assert_eq!(slot.state().oldest_bytes, slot.state().sealed_bytes);
        assert_eq!(slot.state().open_since, None);
        assert_eq!(slot.seal(), Notice::None);
    }
}
