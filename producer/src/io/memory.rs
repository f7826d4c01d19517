//! The bytes of what is accepted and not yet settled, bounded by `buffer.memory`.
//!
//! Bytes are set aside for a batch before it exists: for its buffer, and for the state that goes
//! with it. A buffer brings its bytes back when its last holder drops it, wherever that is; the
//! driver returns those of the state when the batch is settled.
//!
//! *State*
//! ```text
//!            try_reserve / reserve (in order of arrival)         lend, keep
//!   free ─────────────────────────────────────────────▶ reserved ──────────▶ a batch's
//!     ▲                                                     │ drop         │ take_back, release
//!     └─────────────────────────────────────────────────────┴──────────────┘
//! ```
//!
//! *Invariants*
//! 1. Free, reserved and a batch's bytes add up to the bound; what had to be lent beyond it is
//!    owed, and paid by what is returned before any of that is free.
//! 2. Who waits is served in order of arrival; a newcomer takes nothing while somebody waits.
//! 3. Giving up (a dropped future) returns what was set aside.
//! 4. Buffers that are kept for later batches stand in what is free: when a buffer is lent, those
//!    beyond it are let go first.
//!
//! *Source*: Kafka's `BufferPool`.
//!
//! *Not here*: how long to wait (`handle.rs`); that waiting makes queued records due
//! (`driver.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use crate::io::pool::Pool;
use crate::wire::batch_buffer::{BatchBuffer, Lender};

/// The bound and who waits for room below it.
#[derive(Debug)]
pub(crate) struct Memory {
    /// One permit per byte; the semaphore is what keeps the order of arrival.
    free: Semaphore,
    bytes_max: usize,
    waiting: AtomicUsize,
    /// What was lent though it was not free.
    owed: AtomicUsize,
    pool: Mutex<Pool>,
}

/// Bytes set aside; returned when dropped, unless a batch has them.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reservation<'a> {
    memory: &'a Arc<Memory>,
    bytes: usize,
}

/// No record may be accepted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        // A larger bound cannot be told from this one.
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Semaphore::new(bytes_max),
            bytes_max,
            waiting: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            pool: Mutex::default(),
        })
    }

    /// The bound in bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What is free, in bytes.
    pub(crate) fn bytes_free(&self) -> usize {
        self.free.available_permits()
    }

    /// How many wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Whether somebody waits for room.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Sets bytes aside if they are free and nobody waits.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation<'_>> {
        let permit = self.free.try_acquire_many(permits(bytes)).ok()?;
        permit.forget();
        Some(self.reserved(bytes))
    }

    /// Waits its turn for bytes; `on_wait` is told once, if it has to wait.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        on_wait: impl FnOnce(),
    ) -> Result<Reservation<'_>, Closed> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Ok(reservation);
        }
        let _waiting = Waiting::new(&self.waiting);
        on_wait();
        let permit = self.free.acquire_many(permits(bytes)).await;
        permit.map_err(|_| Closed)?.forget();
        Ok(self.reserved(bytes))
    }

    /// Returns the bytes of settled batches.
    pub(crate) fn release(&self, bytes: usize) {
        let mut paid = 0;
        if self.owed.load(Ordering::Relaxed) > 0 {
            let pay = |owed: usize| {
                paid = owed.min(bytes);
                Some(owed - paid)
            };
            let _ = self
                .owed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        }
        if bytes > paid {
            self.free.add_permits(bytes - paid);
        }
    }

    /// Turns away who waits and who comes.
    pub(crate) fn close(&self) {
        self.free.close();
    }

    fn reserved(self: &Arc<Self>, bytes: usize) -> Reservation<'_> {
        Reservation {
            memory: self,
            bytes: usize::try_from(permits(bytes)).unwrap_or(bytes),
        }
    }

    /// Takes bytes, free or not.
    pub(crate) fn take_anyway(&self, bytes: usize) {
        let taken = self.free.forget_permits(bytes);
        self.owed.fetch_add(bytes - taken, Ordering::Relaxed);
    }

    /// A buffer for which bytes were taken.
    fn buffer(&self, capacity: usize) -> Vec<u8> {
        let mut pool = self.pool();
        let kept = pool.take(capacity);
        pool.shrink_to(self.bytes_free());
        drop(pool);
        kept.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Its counts follow each change at once.
        self.pool.lock()
    }
}

impl Lender for Memory {
    fn take_back(&self, bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        // It is kept before its bytes are free, so that they are never counted as less.
        self.pool().keep(bytes);
        self.release(capacity);
    }

    fn lend_anyway(&self, capacity: usize) -> Vec<u8> {
        self.take_anyway(capacity);
        self.buffer(capacity)
    }
}

impl Reservation<'_> {
    /// Lends a buffer of these bytes.
    pub(crate) fn lend(&mut self, capacity: usize) -> BatchBuffer {
        let own = self.bytes.min(capacity);
        self.bytes -= own;
        if own < capacity {
            self.memory.take_anyway(capacity - own);
        }
        let lender: Arc<dyn Lender> = Arc::clone(self.memory) as _;
        BatchBuffer::lent(self.memory.buffer(capacity), lender)
    }

    /// Sets the bytes of a buffer that was not used aside again.
    pub(crate) fn reclaim(&mut self, buffer: BatchBuffer) {
        let bytes = buffer.into_lent();
        self.bytes += bytes.capacity();
        self.memory.pool().keep(bytes);
    }

    /// Takes so many of its bytes apart, if it has them; where it is all memory, beside it, since
    /// nobody can wait for more.
    pub(crate) fn split(&mut self, bytes: usize) -> Option<Self> {
        if self.bytes >= self.memory.bytes_max() {
            self.memory.take_anyway(bytes);
        } else {
            self.bytes = self.bytes.checked_sub(bytes)?;
        }
        Some(Self { bytes, ..*self })
    }

    /// Returns what is more than so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.memory.release(surplus);
    }

    /// Leaves the bytes with a batch, to be released when it is settled.
    pub(crate) fn keep(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// How many bytes are set aside.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

/// The semaphore counts in 32 bits; nothing that is set aside at once is larger.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Counts one who waits, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn polled<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_dropped_reservation_is_free_again_and_a_kept_one_is_not() {
        let memory = Memory::new(10);
        drop(memory.try_reserve(10).expect("free"));
        assert_eq!(memory.try_reserve(10).expect("free again").keep(), 10);
        assert!(memory.try_reserve(1).is_none());
        memory.release(10);
        assert!(memory.try_reserve(10).is_some());
    }

    #[test]
    fn what_is_split_from_all_memory_comes_on_top_and_is_paid_back_first() {
        let memory = Memory::new(10);
        let mut some = memory.try_reserve(9).expect("free");
        let part = some.split(4).expect("it has them");
        assert_eq!((some.bytes(), part.bytes()), (5, 4));
        assert!(some.split(6).is_none());
        drop((some, part));
        let mut all = memory.try_reserve(10).expect("free again");
        let part = all.split(4).expect("on top");
        assert_eq!((all.bytes(), part.bytes()), (10, 4));
        drop(all);
        assert_eq!(memory.bytes_free(), 6);
        drop(part);
        assert_eq!(memory.bytes_free(), 10);
    }

    #[test]
    fn who_waits_is_served_in_order_of_arrival() {
        let memory = Memory::new(10);
        let held = memory.try_reserve(10).expect("free").keep();
        let mut large = pin!(memory.reserve(8, || {}));
        let mut small = pin!(memory.reserve(2, || {}));
        assert!(polled(large.as_mut()).is_pending());
        assert!(polled(small.as_mut()).is_pending());
        assert!(memory.has_waiting());
        // 4 free bytes would do for the small one; it came later.
        memory.release(4);
        assert!(polled(small.as_mut()).is_pending());
        assert!(memory.try_reserve(1).is_none(), "a newcomer takes nothing");
        memory.release(held - 4);
        assert!(polled(large.as_mut()).is_ready());
        assert!(polled(small.as_mut()).is_ready());
        assert!(!memory.has_waiting());
    }

    #[test]
    fn giving_up_returns_what_was_set_aside() {
        let memory = Memory::new(10);
        let _ = memory.try_reserve(10).expect("free").keep();
        {
            let mut waiter = pin!(memory.reserve(10, || {}));
            assert!(polled(waiter.as_mut()).is_pending());
            memory.release(6);
            assert!(polled(waiter.as_mut()).is_pending());
        }
        assert!(!memory.has_waiting());
        assert!(memory.try_reserve(6).is_some());
    }

    #[test]
    fn only_who_has_to_wait_says_so() {
        let memory = Memory::new(10);
        let told = Cell::new(0);
        let mut first = pin!(memory.reserve(10, || told.set(told.get() + 1)));
        let Poll::Ready(Ok(first)) = polled(first.as_mut()) else {
            panic!("free memory is given at once");
        };
        assert_eq!(told.get(), 0);
        let mut second = pin!(memory.reserve(1, || told.set(told.get() + 1)));
        assert!(polled(second.as_mut()).is_pending());
        assert!(polled(second.as_mut()).is_pending());
        assert_eq!(told.get(), 1);
        drop(first);
    }

    #[test]
    fn closing_turns_away_who_waits() {
        let memory = Memory::new(1);
        let _ = memory.try_reserve(1).expect("free").keep();
        let mut waiter = pin!(memory.reserve(1, || {}));
        assert!(polled(waiter.as_mut()).is_pending());
        memory.close();
        let Poll::Ready(Err(Closed)) = polled(waiter.as_mut()) else {
            panic!("must be turned away");
        };
    }

    #[test]
    fn a_buffer_brings_its_bytes_back_and_is_lent_again() {
        let memory = Memory::new(20_000);
        let mut reservation = memory.try_reserve(9_000).expect("free");
        let buffer = reservation.lend(8 << 10);
        let place = buffer.as_ptr();
        let state = reservation.keep();
        assert_eq!((state, memory.bytes_free()), (9_000 - (8 << 10), 11_000));
        drop(buffer);
        assert_eq!(memory.bytes_free(), 20_000 - state);
        let mut again = memory.try_reserve(8 << 10).expect("free");
        assert_eq!(again.lend(8 << 10).as_ptr(), place);
    }

    #[test]
    fn a_buffer_is_returned_when_its_last_holder_lets_go() {
        let memory = Memory::new(200);
        let mut buffer = memory.try_reserve(100).expect("free").lend(100);
        buffer.as_mut_vec().extend_from_slice(b"abc");
        let another = buffer.another(50);
        let buffer = Arc::new(buffer);
        let (whole, part) = (buffer.share(), buffer.share().slice(1..));
        drop((buffer, whole));
        assert_eq!((&part[..], memory.bytes_free()), (&b"bc"[..], 50));
        drop(part);
        assert_eq!(memory.bytes_free(), 150);
        drop(another);
        assert_eq!(memory.bytes_free(), 200);
    }

    #[test]
    fn a_buffer_that_was_not_used_is_set_aside_again() {
        let memory = Memory::new(20_000);
        let mut reservation = memory.try_reserve(9_000).expect("free");
        let buffer = reservation.lend(8 << 10);
        reservation.reclaim(buffer);
        assert_eq!((reservation.bytes(), memory.bytes_free()), (9_000, 11_000));
        drop(reservation);
        assert_eq!(memory.bytes_free(), 20_000);
    }

    #[test]
    fn kept_buffers_stand_in_what_is_free() {
        let memory = Memory::new(20_000);
        let lend = |bytes| memory.try_reserve(bytes).expect("free").lend(bytes);
        let both = (lend(8 << 10), lend(8 << 10));
        drop(both);
        assert_eq!(memory.pool().bytes(), 16 << 10);
        // Of another size: one of the kept ones has to go.
        let other = lend(10 << 10);
        assert_eq!(memory.pool().bytes(), 8 << 10);
        drop(other);
    }

    #[test]
    fn what_is_lent_beyond_the_bound_is_paid_before_anything_is_free() {
        let memory = Memory::new(10);
        let held = memory.try_reserve(8).expect("free").keep();
        let beyond = memory.lend_anyway(7);
        assert_eq!(memory.bytes_free(), 0);
        memory.release(held);
        assert_eq!(memory.bytes_free(), 3, "5 of the 8 were owed");
        memory.take_back(beyond);
        assert_eq!(memory.bytes_free(), 10);
    }
}
