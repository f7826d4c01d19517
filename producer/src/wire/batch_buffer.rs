//! The bytes of one batch, lent by whoever has memory and returned by being dropped.
//!
//! ```text
//!            lent                                      dropped, wherever it is by then
//!   lender ────────▶ open batch ─▶ codec ─▶ request ──────────────────────────────────▶ lender
//! ```
//!
//! So the memory of a batch is free when its last holder lets go, be it the engine, a thread that
//! compresses or a connection that still writes it; and nobody has to remember to say so.
//!
//! *Invariants*
//! 1. What was lent is returned once.
//! 2. A buffer never grows beyond what was lent: whoever appends measures first.
//!
//! *Source*: ours.
//!
//! *Not here*: how much may be lent, and what becomes of returned buffers (`io/memory.rs`, where it
//! is tested with this).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use prefetch_index::prefetch_index;

/// Whoever lends room for batches.
pub trait Lender: fmt::Debug + Send + Sync {
    /// Takes back what it lent; of these bytes only the capacity matters.
    fn take_back(&self, bytes: Vec<u8>);

    /// Lends room for records that were accepted already, whether any is free or not: what is
    /// lent too much is free later.
    fn lend_anyway(&self, capacity: usize) -> Vec<u8>;
}

const CACHE_LINE_BYTES: usize = 64;

/// One batch's bytes.
pub struct BatchBuffer {
    bytes: Vec<u8>,
    lender: Option<Arc<dyn Lender>>,
}

impl BatchBuffer {
    /// An empty buffer of so many bytes that nobody lent.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from(Vec::with_capacity(capacity))
    }

    /// A lent buffer.
    #[must_use]
    pub fn lent(bytes: Vec<u8>, lender: Arc<dyn Lender>) -> Self {
        Self {
            bytes,
            lender: Some(lender),
        }
    }

    /// An empty buffer of so many bytes from the same lender, who has to lend it.
    #[must_use]
    pub fn another(&self, capacity: usize) -> Self {
        match &self.lender {
            None => Self::with_capacity(capacity),
            Some(lender) => {
                let bytes = lender.lend_anyway(capacity);
                Self::lent(bytes, Arc::clone(lender))
            }
        }
    }

    /// Whom to append to; see the invariants.
    #[inline]
    pub fn as_mut_vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// So many bytes will be appended later: has the processor fetch their places meanwhile.
    ///
    /// Who appends to a thousand batches by turns comes back to places that no cache holds any
    /// more, and waits for them with the partition's lock in hand.
    #[inline(always)]
    pub(crate) fn fetch_ahead(&self, bytes: usize) {
        let from = self.bytes.len();
        // What comes behind these the processor fetches by itself, as it does for copies.
        let upto = from + (bytes + CACHE_LINE_BYTES).min(4 * CACHE_LINE_BYTES);
        for place in (from..upto).step_by(CACHE_LINE_BYTES) {
            prefetch_index(&self.bytes[..], place);
        }
    }

    /// How many bytes it holds at most.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// What was lent, without returning it.
    pub(crate) fn into_lent(mut self) -> Vec<u8> {
        self.lender = None;
        std::mem::take(&mut self.bytes)
    }

    /// The bytes, shared with a request; the buffer is returned when all have let go.
    pub(crate) fn share(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Shared(Arc::clone(self)))
    }
}

impl From<Vec<u8>> for BatchBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            lender: None,
        }
    }
}

impl Drop for BatchBuffer {
    fn drop(&mut self) {
        if let Some(lender) = self.lender.take() {
            lender.take_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Deref for BatchBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for BatchBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// By their bytes, whoever lent them.
impl PartialEq for BatchBuffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for BatchBuffer {}

impl fmt::Debug for BatchBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.len(), self.capacity())
    }
}

/// One holder's share of a buffer.
struct Shared(Arc<BatchBuffer>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
