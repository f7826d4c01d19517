//! How far a producer's life is.
//!
//! *State*
//! ```text
//!   open ──▶ closing ──▶ ended
//!     └────────────────────▲   (its runtime ended, or its task was lost)
//! ```
//!
//! *Invariants*
//! 1. It never goes back.
//! 2. Who waits for a phase is woken when it, or a later one, is reached.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Records are accepted.
    Open,
    /// No more records are accepted; those that were are being settled.
    Closing,
    /// All is settled, and nothing runs any more.
    Ended,
}

/// The phase, shared.
#[derive(Debug)]
pub(crate) struct PhaseCell {
    phase: AtomicU8,
    changed: Notify,
}

impl PhaseCell {
    /// An open producer's.
    pub(crate) fn open() -> Self {
        Self {
            phase: AtomicU8::new(code(Phase::Open)),
            changed: Notify::new(),
        }
    }

    /// Whether records are accepted.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == code(Phase::Open)
    }

    /// Goes on to a phase; stays when it is there or further.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.fetch_max(code(to), Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Waits until the end.
    pub(crate) async fn ended(&self) {
        let ended = || self.phase.load(Ordering::Acquire) == code(Phase::Ended);
        while !ended() {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            // Ended in between? Then nobody notifies any more.
            if !ended() {
                changed.await;
            }
        }
    }
}

const fn code(phase: Phase) -> u8 {
    match phase {
        Phase::Open => 0,
        Phase::Closing => 1,
        Phase::Ended => 2,
    }
}
