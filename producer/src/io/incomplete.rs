//! The batches accepted and not yet settled: what a flush waits for, and what must be settled
//! should the driver be lost.
//!
//! *Invariants*
//! 1. A batch is here from before its first record can be taken until it is settled.
//! 2. A batch knows its place here, so that nothing is searched for.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

use crate::io::completion::BatchCompletion;

/// All batches accepted and not yet settled.
#[derive(Debug, Default)]
pub(crate) struct Incomplete(Mutex<Slab<Arc<BatchCompletion>>>);

impl Incomplete {
    /// Takes a batch in.
    pub(crate) fn insert(&self, batch: Arc<BatchCompletion>) {
        let mut incomplete = self.lock();
        let place = incomplete.vacant_entry();
        batch.stand_at(place.key());
        place.insert(batch);
    }

    /// Lets settled batches go.
    pub(crate) fn remove<'a>(&self, batches: impl IntoIterator<Item = &'a BatchCompletion>) {
        let mut incomplete = self.lock();
        for batch in batches {
            incomplete.try_remove(batch.place());
        }
    }

    /// All that are here now, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<Arc<BatchCompletion>> {
        let incomplete = self.lock();
        let mut all: Vec<_> = incomplete
            .iter()
            .map(|(_, batch)| Arc::clone(batch))
            .collect();
        drop(incomplete);
        all.sort_unstable_by_key(|batch| batch.number());
        all
    }

    /// Whether none is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<BatchCompletion>>> {
        // Each change is one call into the slab: a panic elsewhere leaves it whole.
        self.0.lock()
    }
}
