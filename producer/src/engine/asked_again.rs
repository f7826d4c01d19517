//! The batches of one partition whose time is over and whose outcome is asked for: they may be in
//! the log, and the same bytes with the same sequence are sent until a broker tells.
//!
//! *State* of a batch
//! ```text
//!                would end as unknown           written, or certainly not
//!   (not asked) ─────────────────────▶ asked ─────────────────────────────▶ (ended)
//!                                        └──── until its own time is over ──▶ (ended: unknown)
//! ```
//!
//! *Invariants*
//! 1. Only batches with a sequence are asked about: a broker recognises those that it has, so
//!    asking never writes a second copy.
//! 2. A batch that is asked about is open; it ends once, by an answer or by its own time.
//! 3. While a batch is asked about, no new one of its partition goes: it would only add to what is
//!    unknown.
//! 4. Nothing is concluded here: an answer means what it means for any other batch (`verdict.rs`).
//!
//! *Source*: ours; KIP-98 for the sequences by which brokers recognise a batch.
//!
//! *Not here*: when a batch would end as unknown (`delivery.rs`, `settlement.rs`).

use crate::engine::ledger::BatchNumber;
use crate::engine::time::Instant;
use crate::error::FailureKind;

/// The batches asked about; a handful at most, as many as were on the way at once.
#[derive(Debug, Default)]
pub(crate) struct AskedAgain(Vec<Asked>);

#[derive(Debug)]
struct Asked {
    number: BatchNumber,
    /// When it ends as unknown, if nothing settles it.
    until: Instant,
    /// Why it would have ended.
    cause: FailureKind,
}

impl AskedAgain {
    /// Asks about a batch until then.
    pub(crate) fn enter(&mut self, number: BatchNumber, until: Instant, cause: FailureKind) {
        self.0.push(Asked {
            number,
            until,
            cause,
        });
    }

    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Until when a batch is asked about, if it is.
    pub(crate) fn until(&self, number: BatchNumber) -> Option<Instant> {
        self.find(number).map(|one| one.until)
    }

    /// Why a batch that is asked about would have ended.
    pub(crate) fn cause(&self, number: BatchNumber) -> Option<FailureKind> {
        self.find(number).map(|one| one.cause)
    }

    /// A batch ended.
    pub(crate) fn leave(&mut self, number: BatchNumber) {
        self.0.retain(|one| one.number != number);
    }

    /// The batches asked about.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = BatchNumber> {
        self.0.iter().map(|one| one.number)
    }

    fn find(&self, number: BatchNumber) -> Option<&Asked> {
        self.0.iter().find(|one| one.number == number)
    }
}
