//! The engine's steps on batches that come back from the wire: answered, lost, unsent.
//!
//! *Source*: Kafka's `Sender.handleProduceResponse`, `Sender.completeBatch`.
//!
//! *Not here*: the table of codes (`verdict.rs`), sending (`delivery.rs`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::batch::StampedBatch;
use crate::engine::effect::{Action, BatchOutcome, ConnectionId};
use crate::engine::in_flight::Entry;
use crate::engine::links::Loss;
use crate::engine::metadata::Leadership;
use crate::engine::partition::{History, Partition, RetryWait, Tracked};
use crate::engine::report::{BatchEvent, Report};
use crate::engine::sequence::Gap;
use crate::engine::time::Instant;
use crate::engine::verdict::{
    Ahead, Behind, Circumstances, Leaders, Line, Offset, Then, judge, leaders,
};
use crate::error::{ErrorCode, Failure, FailureKind, RefusedRecord};
use crate::types::{CompressionType, TopicPartition};
use crate::wire::message::BrokerEndpoint;
use crate::wire::produce_response::{ProduceAnswer, ProduceRow};

impl<C> Engine<C> {
    /// Takes in an answer, of this version, to batches.
    pub(super) fn on_produced(
        &mut self,
        entries: Vec<Entry<C>>,
        version: i16,
        answer: &ProduceAnswer<'_>,
        now: Instant,
    ) {
        let rows = &answer.rows;
        let mut by_name = None;
        for (place, entry) in entries.into_iter().enumerate() {
            let name = (entry.names.reference(version), entry.partition.partition);
            // Brokers answer in the order of the request, though nothing says that they must.
            let in_place = rows.get(place).filter(|row| row.name() == name);
            let row = in_place.or_else(|| {
                let named = || rows.iter().map(|row| (row.name(), row)).collect();
                let by_name: &BTreeMap<_, _> = by_name.get_or_insert_with(named);
                by_name.get(&name).copied()
            });
            let Some(batch) = entry.batch else {
                // Taken back: nobody waits, but what is said of the leader holds.
                row.into_iter()
                    .for_each(|row| self.hear_of_leader(entry.partition, row));
                continue;
            };
            self.on_returned(&batch);
            match row {
                Some(row) => self.settle(batch, row, now),
                None => {
                    let loss = Loss {
                        kind: FailureKind::BadAnswer,
                        reason: "bad answer: nothing said of this partition".into(),
                        untouched_from: None,
                    };
                    self.lose_batch(batch, &loss, now);
                }
            }
            self.complete(entry.partition);
        }
        self.learn_endpoints(&answer.endpoints, now);
    }

    /// With `acks=0` a batch ends when its last byte is handed to the socket.
    pub(super) fn on_unanswered(&mut self, entries: Vec<Entry<C>>) {
        for entry in entries {
            let Some(batch) = entry.batch else { continue };
            self.on_returned(&batch);
            let outcome = BatchOutcome::Written {
                base_offset: None,
                log_append_time_ms: None,
            };
            self.finish(batch, outcome, None);
            self.complete(entry.partition);
        }
    }

    /// A connection was lost with these batches on it.
    pub(super) fn on_batches_lost(&mut self, entries: Vec<Entry<C>>, loss: &Loss, now: Instant) {
        for entry in entries {
            let Some(batch) = entry.batch else { continue };
            self.on_returned(&batch);
            self.lose_batch(batch, loss, now);
            self.complete(entry.partition);
        }
    }

    /// A connection was lost before any byte of these batches left: they were never sent.
    pub(super) fn on_batches_untouched(&mut self, entries: Vec<Entry<C>>) {
        for entry in entries {
            let Some(mut batch) = entry.batch else {
                continue;
            };
            self.on_returned(&batch);
            batch.attempts = batch.attempts.saturating_sub(1);
            if self.is_settled_as_unwritten(&batch) {
                self.fail_as_unwritten(batch);
                self.complete(entry.partition);
            } else if let Some(partition) = self.partitions.get_mut(&entry.partition) {
                partition.await_retry(batch);
            }
        }
    }

    /// Takes in where brokers listen.
    pub(super) fn learn_endpoints(&mut self, endpoints: &[BrokerEndpoint], now: Instant) {
        let moved: Vec<ConnectionId> = self.brokers.learn(endpoints);
        for connection in moved {
            let reason = "the broker listens elsewhere now";
            self.give_up(connection, FailureKind::Disconnected, reason, now);
        }
    }

    /// Ends a batch without success. Its sequences are spent: the run restarts behind it.
    pub(super) fn fail(&mut self, batch: Tracked<C>, failure: Failure) {
        if let Some(partition) = self.partitions.get_mut(&batch.partition) {
            let gap = match batch.history {
                History::NeverLeft | History::Refused => Gap::Certain,
                History::PossiblyWritten => Gap::Possible,
            };
            partition.run.on_gap(batch.batch.stamp(), gap);
        }
        let outcome = match batch.history {
            History::NeverLeft | History::Refused => BatchOutcome::NotWritten(failure),
            History::PossiblyWritten => BatchOutcome::Unknown(failure),
        };
        self.finish(batch, outcome, None);
    }

    /// Hands out a partition's completions, as far as its order allows.
    pub(super) fn complete(&mut self, at: TopicPartition) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        while let Some((completion, outcome)) = partition.poll_completion() {
            self.actions.push_back(Action::Complete {
                completion,
                partition: at,
                outcome,
            });
        }
    }

    fn settle(&mut self, mut batch: Tracked<C>, row: &ProduceRow<'_>, now: Instant) {
        let at = batch.partition;
        let Some(partition) = self.partitions.get(&at) else {
            return;
        };
        let verdict = judge(row.error, || circumstances(partition, &batch, row));
        batch.history = verdict.history;
        let tried = self.metadata.leadership(at);
        self.hear_of_leader(at, row);
        match verdict.then {
            Then::Acknowledge => self.acknowledge(batch, row, now),
            Then::Split if !self.is_settled_as_unwritten(&batch) => self.split(batch, row),
            // What is renumbered takes another epoch, and that is another transaction's.
            Then::Restart if self.transacting.is_some() => {
                let failure = refusal(&batch, row);
                self.fail(batch, failure);
            }
            Then::Ask if self.asks_about(&batch, FailureKind::Refused(row.error), now) => {
                self.retry_refused(batch, row, tried, now);
            }
            Then::Fail | Then::Ask | Then::Split => {
                let failure = refusal(&batch, row);
                self.fail(batch, failure);
            }
            Then::Restart => {
                if let Some(partition) = self.partitions.get_mut(&at) {
                    partition.run.on_gap(batch.batch.stamp(), Gap::Certain);
                }
                self.retry_refused(batch, row, tried, now);
            }
            Then::Retry => self.retry_refused(batch, row, tried, now),
        }
    }

    /// The broker refused a batch for its size: its halves go in its place, with its sequences.
    fn split(&mut self, batch: Tracked<C>, row: &ProduceRow<'_>) {
        let at = batch.partition;
        let failure = refusal(&batch, row);
        if batch.batch.compression() != CompressionType::None {
            self.expect_no_compression(at.topic);
        }
        let codec = self.config.codec;
        let report = Report::of(&batch, BatchEvent::Split);
        match self.partition(at).split(batch, codec) {
            Ok(()) => self.report(report),
            Err(whole) => self.fail(*whole, failure),
        }
    }

    fn acknowledge(&mut self, batch: Tracked<C>, row: &ProduceRow<'_>, now: Instant) {
        if let Some(partition) = self.partitions.get_mut(&batch.partition) {
            partition.run.on_acked(batch.batch.stamp());
        }
        let base_offset = match row.error {
            ErrorCode::NONE => row.base_offset,
            _ => None,
        };
        let log_append_time_ms = row.log_append_time_ms;
        let after = batch.sent_at.map(|sent_at| now.since(sent_at));
        let outcome = BatchOutcome::Written {
            base_offset,
            log_append_time_ms,
        };
        self.finish(batch, outcome, after);
    }

    fn retry_refused(
        &mut self,
        mut batch: Tracked<C>,
        row: &ProduceRow<'_>,
        tried: Leadership,
        now: Instant,
    ) {
        let failure = refusal(&batch, row);
        batch.last_reason = Some(format!("last refused with {}", row.error).into());
        self.retry(batch, failure, tried, now);
    }

    /// No answer settles this attempt.
    fn lose_batch(&mut self, mut batch: Tracked<C>, loss: &Loss, now: Instant) {
        batch.history = History::PossiblyWritten;
        batch.last_reason = Some(Arc::clone(&loss.reason));
        let failure = batch.failure(loss.kind, batch.last_reason.clone());
        let tried = self.metadata.leadership(batch.partition);
        self.retry(batch, failure, tried, now);
    }

    /// Lets a batch wait for another attempt, or fails it if none is left.
    fn retry(&mut self, batch: Tracked<C>, failure: Failure, tried: Leadership, now: Instant) {
        if self.is_settled_as_unwritten(&batch) {
            return self.fail_as_unwritten(batch);
        }
        let exhausted = batch.attempts > self.config.retries_max;
        if exhausted && !self.asks_about(&batch, failure.kind, now) {
            return self.fail(batch, failure);
        }
        let back_off = self.retry_delay(batch.attempts.saturating_sub(1));
        let until = now + back_off;
        let event = BatchEvent::Retried { failure, back_off };
        self.report(Report::of(&batch, event));
        if let Some(partition) = self.partitions.get_mut(&batch.partition) {
            partition.retry_wait = Some(RetryWait { until, tried });
            partition.await_retry(batch);
        }
    }

    /// If the leader refused to lead: takes its hint if it is news, or asks (KIP-951).
    fn hear_of_leader(&mut self, at: TopicPartition, row: &ProduceRow<'_>) {
        if leaders(row.error) == Leaders::Unquestioned {
            return;
        }
        let hint = row.leader.map(|hint| Leadership {
            leader: Some(hint.leader),
            epoch: Some(hint.epoch),
        });
        if hint.is_some_and(|hint| self.metadata.on_hint(at, hint)) {
            self.on_topic_changed(at.topic);
        } else {
            self.metadata.request_refresh();
        }
    }

    /// Ends a batch, so long after it was last sent where that was answered.
    pub(super) fn finish(
        &mut self,
        batch: Tracked<C>,
        outcome: BatchOutcome,
        after: Option<Duration>,
    ) {
        self.on_batch_ended(&outcome);
        let event = BatchEvent::ended(&outcome, after);
        self.report(Report::of(&batch, event));
        if let Some(partition) = self.partitions.get_mut(&batch.partition) {
            partition.finish(batch, outcome);
        }
    }

    fn on_returned(&mut self, batch: &Tracked<C>) {
        self.touched.insert(batch.partition);
        if let Some(partition) = self.partitions.get_mut(&batch.partition) {
            partition.on_returned(batch.number);
        }
    }
}

fn circumstances<C>(
    partition: &Partition<C>,
    batch: &Tracked<C>,
    row: &ProduceRow<'_>,
) -> Circumstances {
    // It is in nobody's hands now: all that are open are others.
    let first = partition.first_open();
    let is_first = first.is_none_or(|first| batch.number < first);
    let more = partition.later_possibly_written(batch.number);
    Circumstances {
        history: batch.history,
        line: if is_first { Line::First } else { Line::Later },
        ahead: match partition.run.gap() {
            Some(Gap::Possible) => Ahead::PossiblyMore,
            Some(Gap::Certain) | None => Ahead::Settled,
        },
        behind: if more {
            Behind::PossiblyMore
        } else {
            Behind::Nothing
        },
        offset: if row.base_offset.is_some() {
            Offset::Told
        } else {
            Offset::Untold
        },
    }
}

fn refusal<C>(batch: &Tracked<C>, row: &ProduceRow<'_>) -> Failure {
    let message = words(row, &batch.batch);
    Failure {
        refused_records: refused_records(row, batch.batch.record_count()),
        ..batch.failure(FailureKind::Refused(row.error), message)
    }
}

/// The records that the broker names, by their places; those that the batch does not have are left
/// out.
fn refused_records(row: &ProduceRow<'_>, record_count: u32) -> Option<Arc<[RefusedRecord]>> {
    let named = row.record_errors.iter().filter_map(|error| {
        let index = u32::try_from(error.index).ok()?;
        let message = error.message.map(Arc::from);
        (index < record_count).then_some(RefusedRecord { index, message })
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|one| one.index);
    named.dedup_by_key(|one| one.index);
    (!named.is_empty()).then(|| named.into())
}

/// The broker's words: its message, and what it said of single records.
fn words<C>(row: &ProduceRow<'_>, batch: &StampedBatch<C>) -> Option<Arc<str>> {
    let mut words = Vec::new();
    words.extend(row.message.map(str::to_owned));
    words.extend(
        row.record_errors
            .iter()
            .take(RECORD_ERRORS_TOLD_MAX)
            .map(|error| {
                format!(
                    "record {}: {}",
                    error.index,
                    error.message.unwrap_or("refused")
                )
            }),
    );
    if row.error == ErrorCode::MESSAGE_TOO_LARGE {
        let bytes = batch.bytes();
        words.push(match batch.record_count() {
            1 => format!("a record that makes a batch of {bytes} bytes"),
            count => format!("a batch of {count} records and {bytes} bytes"),
        });
        words.push("max.message.bytes of the topic is less".to_owned());
    }
    (!words.is_empty()).then(|| words.join("; ").into())
}

/// A batch may hold thousands of refused records; an error message holds the first.
const RECORD_ERRORS_TOLD_MAX: usize = 3;
