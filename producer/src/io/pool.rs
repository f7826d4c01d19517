//! Buffers of batches that are settled, kept for those to come.
//!
//! A buffer that was used before has its pages in memory and maybe in the processor's cache; one
//! that is fresh from the system has neither, which large batches pay for dearly.
//!
//! *Invariants*
//! 1. A kept buffer has a size of [`size_class`], and is given for exactly that size.
//!
//! *Source*: Kafka's `BufferPool`, which keeps buffers of `batch.size` only.
//!
//! *Not here*: how many bytes may be kept (`memory.rs`).

use std::collections::BTreeMap;

/// The buffers that are kept, by size.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: BTreeMap<usize, Vec<Vec<u8>>>,
    bytes: usize,
}

impl Pool {
    /// The buffer of this size that was kept last, if there is one.
    pub(crate) fn take(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let buffer = self.kept.get_mut(&capacity)?.pop()?;
        self.bytes -= capacity;
        Some(buffer)
    }

    /// Keeps a buffer, unless it is too small to be worth it, or of an odd size.
    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity < KEPT_BYTES_MIN || capacity != size_class(capacity) {
            return;
        }
        buffer.clear();
        self.bytes += capacity;
        self.kept.entry(capacity).or_default().push(buffer);
    }

    /// Lets buffers go, large ones first, until those kept come to so many bytes at most.
    #[inline]
    pub(crate) fn shrink_to(&mut self, bytes_max: usize) {
        if self.bytes > bytes_max {
            self.let_go(bytes_max);
        }
    }

    #[cold]
    fn let_go(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(mut largest) = self.kept.last_entry()
        {
            match largest.get_mut().pop() {
                Some(buffer) => self.bytes -= buffer.capacity(),
                None => drop(largest.remove()),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The size that a buffer for so many bytes gets: at most a quarter more. Doubled, it is a size
/// again.
pub(crate) fn size_class(bytes: usize) -> usize {
    let unit = 1 << bytes.max(4).ilog2().saturating_sub(2);
    bytes.checked_next_multiple_of(unit).unwrap_or(bytes)
}

/// Of smaller buffers their places in the pool would be a good part. These are kept also because
/// one thread makes them and another one frees them, which the system's allocator does under a lock
/// that both sleep on.
const KEPT_BYTES_MIN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(capacities: &[usize]) -> Pool {
        let mut pool = Pool::default();
        for &capacity in capacities {
            pool.keep(Vec::with_capacity(capacity));
        }
        pool
    }

    #[test]
    fn a_buffer_is_given_for_its_own_size_and_empty() {
        let mut pool = Pool::default();
        let mut buffer = Vec::with_capacity(8 << 10);
        buffer.push(7);
        let place = buffer.as_ptr();
        pool.keep(buffer);
        assert!(pool.take(4 << 10).is_none());
        let again = pool.take(8 << 10).expect("kept");
        assert_eq!((again.as_ptr(), again.len(), pool.bytes()), (place, 0, 0));
        assert!(pool.take(8 << 10).is_none());
    }

    #[test]
    fn small_and_odd_buffers_are_not_kept() {
        assert_eq!(filled(&[448, 5_001, 777_777]).bytes(), 0);
        assert_eq!(filled(&[448, 512, 640]).bytes(), 512 + 640);
    }

    #[test]
    fn shrinking_lets_the_large_ones_go_and_stops_in_time() {
        let mut pool = filled(&[4 << 10, 16 << 10, 4 << 10, 64 << 10]);
        pool.shrink_to(30_000);
        assert_eq!(pool.bytes(), 24 << 10);
        pool.shrink_to(10_000);
        assert_eq!(pool.bytes(), 8 << 10);
        pool.shrink_to(0);
        assert_eq!(pool.bytes(), 0);
        pool.keep(Vec::with_capacity(64 << 10));
        assert!(pool.take(64 << 10).is_some());
    }

    proptest! {
        #[test]
        fn a_size_holds_what_it_is_for_and_wastes_a_quarter_at_most(bytes in 1_usize..1 << 40) {
            let size = size_class(bytes);
            prop_assert!(size >= bytes && size - bytes <= bytes / 4);
            prop_assert_eq!(size_class(size), size);
            prop_assert_eq!(size_class(2 * size), 2 * size);
        }
    }
}
