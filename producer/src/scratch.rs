//! Buffers for serializers, used again from record to record.
//!
//! Each thread keeps a few: taking and returning one is a pop and a push without a lock. A send
//! that waits may return its buffer to another thread than it came from; that is as good.
//!
//! *Invariants*
//! 1. A buffer comes empty.
//! 2. A thread keeps at most [`KEPT_MAX`] buffers of at most [`KEPT_BYTES_MAX`] each: a single huge
//!    record does not hold its memory for ever.

use std::cell::RefCell;
use std::mem;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// How many buffers a thread keeps: a send takes two, and a few may wait at once.
const KEPT_MAX: usize = 16;

/// The largest buffer kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A buffer that returns to its thread's store when dropped.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    /// An empty buffer, with the room that an earlier record left.
    pub(crate) fn take() -> Self {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.pop());
        Self(spare.ok().flatten().unwrap_or_default())
    }

    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut buffer = mem::take(&mut self.0);
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        buffer.clear();
        // A thread that ends has no store any more; then the buffer goes too.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < KEPT_MAX
            {
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_empty_and_keeps_its_room() {
        let mut first = Scratch::take();
        first.buffer().extend_from_slice(&[1; 1000]);
        let at = first.buffer().as_ptr();
        drop(first);
        let mut second = Scratch::take();
        assert!(second.buffer().is_empty());
        assert_eq!(second.buffer().as_ptr(), at);
    }

    #[test]
    fn a_huge_buffer_and_one_too_many_are_not_kept() {
        let mut huge = Scratch::take();
        huge.buffer().reserve(KEPT_BYTES_MAX + 1);
        drop(huge);
        let mut many: Vec<_> = (0..2 * KEPT_MAX).map(|_| Scratch::take()).collect();
        for one in &mut many {
            assert_eq!(one.buffer().capacity(), 0, "all stores are empty");
            one.buffer().push(1);
        }
        drop(many);
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT_MAX);
    }
}
