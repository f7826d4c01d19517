//! The bytes of records accepted and not yet settled, bounded by `buffer.memory`.
//!
//! *State*
//! ```text
//!            try_reserve / reserve (in order of arrival)         keep
//!   free ─────────────────────────────────────────────▶ reserved ─────▶ kept by a batch
//!     ▲                                                     │ drop         │ release
//!     └─────────────────────────────────────────────────────┴──────────────┘
//! ```
//!
//! *Invariants*
//! 1. Free, reserved and kept bytes add up to the bound.
//! 2. Who waits is served in order of arrival; a newcomer takes nothing while somebody waits.
//! 3. Giving up (a dropped future) returns what was set aside.
//!
//! *Source*: Kafka's `BufferPool`.
//!
//! *Not here*: how long to wait (`producer.rs`); that waiting makes queued records due
//! (`driver.rs`).

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// The bound and who waits for room below it.
#[derive(Debug)]
pub(crate) struct Memory {
    /// One permit per byte; the semaphore is what keeps the order of arrival.
    free: Semaphore,
    bytes_max: usize,
    waiting: AtomicUsize,
}

/// Bytes set aside; returned when dropped, unless a batch keeps them.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reservation<'a> {
    memory: &'a Memory,
    bytes: u32,
}

/// No record may be accepted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        // A larger bound cannot be told from this one.
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            free: Semaphore::new(bytes_max),
            bytes_max,
            waiting: AtomicUsize::new(0),
        }
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
    pub(crate) fn try_reserve(&self, bytes: u32) -> Option<Reservation<'_>> {
        let permit = self.free.try_acquire_many(bytes).ok()?;
        permit.forget();
        Some(Reservation {
            memory: self,
            bytes,
        })
    }

    /// Waits its turn for bytes; `on_wait` is told once, if it has to wait.
    pub(crate) async fn reserve(
        &self,
        bytes: u32,
        on_wait: impl FnOnce(),
    ) -> Result<Reservation<'_>, Closed> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Ok(reservation);
        }
        let _waiting = Waiting::new(&self.waiting);
        on_wait();
        let permit = self.free.acquire_many(bytes).await.map_err(|_| Closed)?;
        permit.forget();
        Ok(Reservation {
            memory: self,
            bytes,
        })
    }

    /// Returns the bytes of settled batches.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.free.add_permits(bytes);
        }
    }

    /// Turns away who waits and who comes.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

impl Reservation<'_> {
    /// Leaves the bytes with a batch, to be released when it is settled.
    pub(crate) fn keep(self) -> u32 {
        let bytes = self.bytes;
        std::mem::forget(self);
        bytes
    }

    /// How many bytes are set aside.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.memory
            .release(usize::try_from(self.bytes).unwrap_or_default());
    }
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
        memory.release(usize::try_from(held).expect("small") - 4);
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
}
