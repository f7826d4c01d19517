//! One batch's end, shared by all who wait for one of its records.
//!
//! *State*
//! ```text
//!            settle(outcome)                 announce
//!   pending ────────────────▶ settled, quiet ────────▶ settled, waiters woken
//! ```
//!
//! *Invariants*
//! 1. A completion is settled once; the first outcome stands.
//! 2. Whoever looks after `settle` sees the outcome; whoever looked before is woken by `announce`.
//! 3. Callbacks of a batch run in the order of its records, each exactly once.
//!
//! *Source*: Kafka's `ProducerBatch.done`, `ProduceRequestResult`.
//!
//! *Not here*: what an outcome is (`engine/effect.rs`), when batches are settled (`driver.rs`),
//! what a waiter is told (`delivery.rs` at the crate's root).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

use crate::engine::effect::BatchOutcome;
use crate::io::inbox::{Drain, Inbox};

/// One batch's completion: the handle that travels with the batch.
pub(crate) struct BatchCompletion {
    topic: Arc<str>,
    partition: i32,
    number: u64,
    memory_bytes: AtomicUsize,
    /// Where it stands among those that are not settled.
    place: AtomicUsize,
    outcome: OnceLock<BatchOutcome>,
    waiting: Mutex<Waiting>,
    /// Whom to tell that somebody waits, while the batch is in its queue.
    inbox: Option<Arc<Inbox>>,
    taken: AtomicBool,
}

/// A record within its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordInBatch {
    /// Its place, from 0.
    pub(crate) index: u32,
    /// Its own timestamp, in milliseconds since 1970.
    pub(crate) timestamp_ms: i64,
}

/// What is called when a record's batch is settled.
pub(crate) type Callback = Box<dyn FnOnce(&BatchCompletion, &BatchOutcome, RecordInBatch) + Send>;

/// Where in a batch's list of wakers a waiter's is; small, as there is one with each record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WakerSlot(u32);

impl WakerSlot {
    /// It has none there yet.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    /// Itself as a number, to be kept with others.
    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// What [`WakerSlot::number`] told.
    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What a callback takes of memory: its place in a list that may just have grown, and what it
/// holds.
pub(crate) fn callback_bytes(callback: &Callback) -> usize {
    2 * size_of::<(RecordInBatch, Callback)>() + size_of_val(&**callback)
}

#[derive(Default)]
struct Waiting {
    wakers: Vec<SharedWaker>,
    callbacks: Vec<(RecordInBatch, Callback)>,
}

/// One task that waits, for some of the batch's records: it is woken once for all of them.
struct SharedWaker {
    waker: Waker,
    /// How many of the records have their place here.
    records: u32,
}

impl Waiting {
    /// A place for a record's waker: that of the one before, if it is the same.
    fn place_for(&mut self, waker: &Waker) -> WakerSlot {
        match self.wakers.last_mut() {
            Some(last) if last.waker.will_wake(waker) => last.records += 1,
            _ => self.wakers.push(SharedWaker {
                waker: waker.clone(),
                records: 1,
            }),
        }
        u32::try_from(self.wakers.len() - 1).map_or(WakerSlot::NONE, WakerSlot)
    }
}

impl BatchCompletion {
    /// The completion of the producer's batch of this number, whose state holds `memory_bytes` of
    /// `buffer.memory`.
    pub(crate) fn new(topic: Arc<str>, partition: i32, number: u64, memory_bytes: usize) -> Self {
        Self {
            topic,
            partition,
            number,
            memory_bytes: AtomicUsize::new(memory_bytes),
            place: AtomicUsize::new(usize::MAX),
            outcome: OnceLock::new(),
            waiting: Mutex::default(),
            inbox: None,
            taken: AtomicBool::new(false),
        }
    }

    /// It stands in a queue whose driver has this inbox.
    pub(crate) fn queued(self, inbox: Arc<Inbox>) -> Self {
        Self {
            inbox: Some(inbox),
            ..self
        }
    }

    /// It has left its queue.
    pub(crate) fn on_taken(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// Somebody awaits it: if it is full it need not stand in its queue any longer.
    pub(crate) fn hurry(&self) {
        if let Some(inbox) = &self.inbox
            && !self.taken.load(Ordering::Relaxed)
        {
            inbox.post_drain(Drain::Sealed);
        }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    #[inline]
    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// It stands there among those that are not settled. Told before it can be taken.
    pub(crate) fn stand_at(&self, place: usize) {
        self.place.store(place, Ordering::Relaxed);
    }

    pub(crate) fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn outcome(&self) -> Option<&BatchOutcome> {
        self.outcome.get()
    }

    /// Whether somebody is called when it is settled.
    pub(crate) fn has_callbacks(&self) -> bool {
        !self.lock_waiting().callbacks.is_empty()
    }

    /// Looks for its outcome at the socket, for a moment and if it is the only one on its way; says
    /// whether it came.
    pub(crate) fn look(&self) -> bool {
        let inbox = self.inbox.as_ref();
        inbox.is_some_and(|inbox| inbox.look_until(|| self.outcome.get().is_some()))
    }

    /// Fixes the outcome, and wakes nobody yet.
    pub(crate) fn settle(&self, outcome: BatchOutcome) {
        // A second outcome would be a bug of the engine's; the first was maybe told already.
        let first = self.outcome.set(outcome).is_ok();
        debug_assert!(first, "a batch is settled once");
    }

    /// Runs the callbacks and wakes who waits.
    pub(crate) fn announce(&self) {
        let Some(outcome) = self.outcome.get() else {
            return;
        };
        let Waiting { wakers, callbacks } = std::mem::take(&mut *self.lock_waiting());
        for (record, callback) in callbacks {
            // A callback is the user's code on the driver's task: its panic must not end the
            // producer.
            if catch_unwind(AssertUnwindSafe(|| callback(self, outcome, record))).is_err() {
                tracing::error!(topic = &*self.topic, "a delivery callback panicked");
            }
        }
        for shared in wakers {
            shared.waker.wake();
        }
    }

    /// Has a callback run for a record. Call it in the order of the records, before the batch can
    /// be settled. It adds [`callback_bytes`] to what the batch holds of memory.
    pub(crate) fn call_back(&self, record: RecordInBatch, callback: Callback) {
        let bytes = callback_bytes(&callback);
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.lock_waiting().callbacks.push((record, callback));
    }

    /// The outcome, or a place for the waker: the one in `waker_slot` if there is one already.
    pub(crate) fn poll_settled(
        &self,
        waker_slot: &mut WakerSlot,
        cx: &mut Context<'_>,
    ) -> Poll<&BatchOutcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut waiting = self.lock_waiting();
        // Settled in between? Then it may have been announced too: nobody would wake us.
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        match waiting.wakers.get_mut(waker_slot.place()) {
            Some(own) if own.waker.will_wake(cx.waker()) => {}
            Some(own) if own.records == 1 => own.waker.clone_from(cx.waker()),
            shared => {
                if let Some(shared) = shared {
                    shared.records -= 1;
                }
                *waker_slot = waiting.place_for(cx.waker());
            }
        }
        Poll::Pending
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Waiting> {
        // Pushing and taking leave the lists whole, whoever panics meanwhile.
        self.waiting.lock()
    }
}

impl fmt::Debug for BatchCompletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchCompletion")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("number", &self.number)
            .field("outcome", &self.outcome.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn batch() -> BatchCompletion {
        BatchCompletion::new(Arc::from("orders"), 3, 0, 0)
    }

    fn written(base_offset: i64) -> BatchOutcome {
        BatchOutcome::Written {
            base_offset: Some(base_offset),
            log_append_time_ms: None,
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn value(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn settling_wakes_nobody_and_announcing_wakes_each_task_once() {
        let (batch, count) = (batch(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut slots = [WakerSlot::NONE; 2];
        for _ in 0..3 {
            for slot in &mut slots {
                assert!(batch.poll_settled(slot, &mut cx).is_pending());
            }
        }
        batch.settle(written(0));
        assert_eq!(count.value(), 0);
        batch.announce();
        assert_eq!(count.value(), 1);
        for slot in &mut slots {
            assert!(batch.poll_settled(slot, &mut cx).is_ready());
        }
    }

    #[test]
    fn a_waiter_that_moved_to_another_task_is_woken_there() {
        let (batch, mut slot) = (batch(), WakerSlot::NONE);
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        for count in &counts {
            let waker = Waker::from(Arc::clone(count));
            let mut cx = Context::from_waker(&waker);
            assert!(batch.poll_settled(&mut slot, &mut cx).is_pending());
        }
        batch.settle(written(0));
        batch.announce();
        assert_eq!(counts.map(|count| count.value()), [0, 1]);
    }

    /// They are polled by one task; then the second moves to another.
    #[test]
    fn waiters_of_one_task_share_a_place_until_one_moves() {
        let (batch, mut slots) = (batch(), [WakerSlot::NONE; 3]);
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        let wakers = [0, 1].map(|task| Waker::from(Arc::clone(&counts[task])));
        let mut poll = |slot: usize, task: usize| {
            let mut cx = Context::from_waker(&wakers[task]);
            assert!(batch.poll_settled(&mut slots[slot], &mut cx).is_pending());
            batch.lock_waiting().wakers.len()
        };
        let places = [(0, 0), (1, 0), (2, 0), (0, 0), (1, 1), (1, 1), (1, 0)];
        let places = places.map(|(slot, task)| poll(slot, task));
        assert_eq!(places, [1, 1, 1, 1, 2, 2, 2]);
        poll(1, 1);
        batch.settle(written(0));
        batch.announce();
        assert_eq!(counts.map(|count| count.value()), [1, 1]);
    }

    #[test]
    fn callbacks_run_in_order_and_a_panic_stops_neither_them_nor_the_caller() {
        let (batch, ran) = (batch(), Arc::new(Mutex::new(Vec::new())));
        for index in 0..4 {
            let ran = Arc::clone(&ran);
            let callback = move |_: &BatchCompletion, _: &BatchOutcome, record: RecordInBatch| {
                ran.lock().push(record.index);
                assert_ne!(record.index, 1, "the second one panics");
            };
            let timestamp_ms = 0;
            let record = RecordInBatch {
                index,
                timestamp_ms,
            };
            batch.call_back(record, Box::new(callback));
        }
        batch.settle(written(5));
        batch.announce();
        batch.announce();
        assert_eq!(*ran.lock(), [0, 1, 2, 3]);
    }
}
