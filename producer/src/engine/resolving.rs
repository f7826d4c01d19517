//! The engine's steps on batches whose outcome is asked for (`outcome.resolve.timeout.ms`).
//!
//! *Source*: ours; Kafka's client ends such a batch with a `TimeoutException`, whatever became of
//! it.
//!
//! *Not here*: which batches those are (`asked_again.rs`), sending and answers: a batch that is
//! asked about goes and comes back as any retry does (`delivery.rs`, `settlement.rs`).

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::config::Idempotence;
use crate::engine::ledger::BatchNumber;
use crate::engine::partition::{History, Tracked};
use crate::engine::report::Report;
use crate::engine::time::Instant;
use crate::error::{Failure, FailureKind};
use crate::types::TopicPartition;

impl<C> Engine<C> {
    /// Whether a batch that would end as unknown for this cause is asked about instead, from now on
    /// or already.
    pub(super) fn asks_about(
        &mut self,
        batch: &Tracked<C>,
        cause: FailureKind,
        now: Instant,
    ) -> bool {
        let possibly = batch.history == History::PossiblyWritten;
        let asked = self.asked_cause(batch.partition, batch.number).is_some();
        possibly && (asked || self.ask_about(batch.partition, batch.number, cause, now))
    }

    /// The delivery time-out of a batch has come: whether it is asked about from now on.
    pub(super) fn asks_about_overdue(
        &mut self,
        at: TopicPartition,
        number: BatchNumber,
        now: Instant,
    ) -> bool {
        let Some(partition) = self.partitions.get(&at) else {
            return false;
        };
        let asked = self.asked_cause(at, number).is_some();
        let possibly = partition.is_possibly_written(number);
        possibly && !asked && self.ask_about(at, number, FailureKind::DeliveryTimedOut, now)
    }

    /// The failure of a batch that ends without success: by the cause for which it was asked about,
    /// if it was.
    pub(super) fn failure_of_overdue(&self, batch: &Tracked<C>) -> Failure {
        let reason = batch.last_reason.clone();
        match self.asked_cause(batch.partition, batch.number) {
            None => batch.failure(FailureKind::DeliveryTimedOut, reason),
            Some(cause) => {
                let reason = reason.as_deref().unwrap_or("no answer yet");
                let words = format!("{reason}; not settled within outcome.resolve.timeout.ms");
                batch.failure(cause, Some(Arc::from(words)))
            }
        }
    }

    /// Whether a batch is asked about no longer, because it turned out to be in no log.
    pub(super) fn is_settled_as_unwritten(&self, batch: &Tracked<C>) -> bool {
        batch.history != History::PossiblyWritten
            && self.asked_cause(batch.partition, batch.number).is_some()
    }

    /// Ends a batch that turned out to be in no log: its time is over, it does not go again.
    pub(super) fn fail_as_unwritten(&mut self, batch: Tracked<C>) {
        let cause = self.asked_cause(batch.partition, batch.number);
        let cause = cause.unwrap_or(FailureKind::DeliveryTimedOut);
        let failure = batch.failure(cause, batch.last_reason.clone());
        self.fail(batch, failure);
    }

    /// Why this batch is asked about, if it is.
    pub(super) fn asked_cause(
        &self,
        at: TopicPartition,
        number: BatchNumber,
    ) -> Option<FailureKind> {
        self.partitions.get(&at)?.asked_again.cause(number)
    }

    fn ask_about(
        &mut self,
        at: TopicPartition,
        number: BatchNumber,
        cause: FailureKind,
        now: Instant,
    ) -> bool {
        let recognised = self.config.idempotence == Idempotence::Enabled;
        let Some(within) = self.config.resolve_within.filter(|_| recognised) else {
            return false;
        };
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.asked_again.enter(number, now + within, cause);
        }
        self.report(Report::OutcomeAsked {
            partition: at,
            cause,
            within,
        });
        true
    }
}
