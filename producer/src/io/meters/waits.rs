//! What callers wait for, measured however a wait ends.
//!
//! *Invariants*
//! 1. A wait that was given up is measured too.

use super::Meters;
use crate::engine::time::Instant;
use crate::io::clock::Clock;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Room in `buffer.memory`.
    Memory,
    /// To know a topic.
    Metadata,
    /// The end of what was accepted.
    Flush,
    /// A producer id for transactions.
    TxnInit,
    /// The end of the transaction before.
    TxnBegin,
    /// That offsets are committed with the transaction.
    TxnSendOffsets,
    /// That a transaction is committed.
    TxnCommit,
    /// That a transaction is aborted.
    TxnAbort,
}

/// A wait that is measured when this is dropped.
pub(crate) struct Measured<'a> {
    meters: &'a Meters,
    clock: &'a Clock,
    wait: Wait,
    since: Instant,
}

impl<'a> Measured<'a> {
    pub(crate) fn start(meters: &'a Meters, clock: &'a Clock, wait: Wait) -> Self {
        let since = clock.now();
        Self {
            meters,
            clock,
            wait,
            since,
        }
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.meters.on_waited(self.wait, now.since(self.since), now);
    }
}
