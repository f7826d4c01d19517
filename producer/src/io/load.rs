//! What waits in a partition's queue, counted so that whoever chooses a partition need not lock it.
//!
//! *Invariants*
//! 1. What waits is written under the lock of the slot's driver's half only; it is read at any
//!    time, and then maybe a moment old.
//!
//! *Not here*: what is made of it (`sticky.rs`, `pause.rs`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::engine::time::Instant;

/// One queue's load.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Batches in the queue, open or sealed.
    batches: AtomicU32,
    /// When the oldest of them was opened, in nanoseconds of the engine's time; 0 when there is
    /// none.
    oldest_opened_ns: AtomicU64,
    /// When a batch was last taken, in the same; 0 for never, or when nobody asks.
    last_taken_ns: AtomicU64,
    /// In which tick of the driver a batch was last taken.
    taken_in: AtomicU32,
    /// Somebody waits until no more batches than these are left; 0: nobody does.
    awaited: AtomicU32,
}

impl Load {
    /// This many batches are there now, the oldest opened then.
    pub(crate) fn set(&self, batches: usize, oldest_opened_at: Option<Instant>) {
        let batches = u32::try_from(batches).unwrap_or(u32::MAX);
        self.batches.store(batches, Ordering::Relaxed);
        let oldest = oldest_opened_at.map_or(0, ns);
        self.oldest_opened_ns.store(oldest, Ordering::Relaxed);
    }

    /// A batch was taken.
    pub(crate) fn on_taken(&self, now: Instant) {
        self.last_taken_ns.store(ns(now), Ordering::Relaxed);
    }

    /// A batch was taken in this tick; says whether as many are left as somebody waits for.
    pub(crate) fn on_emptied(&self, tick: u32) -> bool {
        self.taken_in.store(tick, Ordering::Relaxed);
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited == 0 || self.batches() > awaited {
            return false;
        }
        self.awaited.store(0, Ordering::Relaxed);
        true
    }

    /// Whether a batch was taken in this tick or the one before.
    pub(crate) fn is_emptied(&self, tick: u32) -> bool {
        tick.wrapping_sub(self.taken_in.load(Ordering::Relaxed)) <= 1
    }

    /// Somebody waits until no more than so many are left.
    pub(crate) fn await_batches(&self, count: u32) {
        self.awaited.store(count, Ordering::Relaxed);
    }

    pub(crate) fn batches(&self) -> u32 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(crate) fn oldest_opened(&self) -> Option<Instant> {
        instant(&self.oldest_opened_ns)
    }

    pub(crate) fn last_taken(&self) -> Option<Instant> {
        instant(&self.last_taken_ns)
    }
}

/// 0 is "none": a producer's first nanosecond counts as its second.
fn ns(at: Instant) -> u64 {
    at.as_nanos().max(1)
}

fn instant(ns: &AtomicU64) -> Option<Instant> {
    let ns = ns.load(Ordering::Relaxed);
    (ns > 0).then(|| Instant::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_with_the_opening_of_the_oldest() {
        let load = Load::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert_eq!((load.batches(), load.oldest_opened()), (0, None));
        load.set(2, Some(at(1)));
        assert_eq!((load.batches(), load.oldest_opened()), (2, Some(at(1))));
        assert_eq!(load.last_taken(), None);
        load.set(0, None);
        load.on_taken(at(5));
        assert_eq!((load.batches(), load.oldest_opened()), (0, None));
        assert_eq!(load.last_taken(), Some(at(5)));
    }
}
