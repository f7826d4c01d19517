//! The source of randomness: one seed per producer, from which everything random is drawn.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A seed that differs from producer to producer.
pub(crate) fn seed() -> u64 {
    // The standard library keys each `RandomState` from the system's randomness.
    RandomState::new().build_hasher().finish()
}
