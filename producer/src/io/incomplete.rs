//! The batches accepted and not yet settled: what a flush waits for, and what must be settled
//! should the driver be lost.
//!
//! *Invariants*
//! 1. A batch is here from before its first record can be taken until it is settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::io::completion::BatchCompletion;

/// All batches accepted and not yet settled, by number.
#[derive(Debug, Default)]
pub(crate) struct Incomplete(Mutex<BTreeMap<u64, Arc<BatchCompletion>>>);

impl Incomplete {
    /// Takes a batch in.
    pub(crate) fn insert(&self, batch: Arc<BatchCompletion>) {
        self.lock().insert(batch.number(), batch);
    }

    /// Lets settled batches go.
    pub(crate) fn remove<'a>(&self, batches: impl IntoIterator<Item = &'a BatchCompletion>) {
        let mut incomplete = self.lock();
        for batch in batches {
            incomplete.remove(&batch.number());
        }
    }

    /// All that are here now, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<Arc<BatchCompletion>> {
        self.lock().values().cloned().collect()
    }

    /// Whether none is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<BatchCompletion>>> {
        // Each change is one call into the map: a panic elsewhere leaves it whole.
        self.0.lock()
    }
}
