//! What the engine does with answers about transactions, and with those that never come.
//!
//! *Source*: the handlers in Kafka's `TransactionManager`; KIP-360, KIP-890.
//!
//! *Not here*: what codes mean (`transaction_codes.rs`), states (`transaction.rs`).

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::effect::ConnectionId;
use crate::engine::participants::Joined;
use crate::engine::report::Report;
use crate::engine::sequence::{Grant, Identity, Level};
use crate::engine::time::Instant;
use crate::engine::transacting::{Errand, Stage};
use crate::engine::transaction::{Raise, Severity, State};
use crate::engine::transaction_codes::{
    Question, Reply, proves_how_it_ended, proves_that_nothing_joined, reply,
};
use crate::error::{ErrorCode, Failure, FailureKind};
use crate::types::{ProducerEpoch, ProducerId};
use crate::wire::control;
use crate::wire::error::DecodeError;
use crate::wire::transactional::{self, Coordinated};

/// An answer's frame with the version of its request.
type Answered<'a> = (i16, &'a Bytes);

impl<C> Engine<C> {
    /// A question got no answer.
    pub(super) fn on_transactional_lost(&mut self, question: Question, now: Instant) {
        let until = self.next_try(now);
        let Some(transacting) = &mut self.transacting else {
            return;
        };
        transacting.errand = Errand::None;
        match question {
            Question::Coordinator(what) => match transacting.coordinator_mut(what) {
                Some(coordinator) => coordinator.on_failed(until),
                None => transacting.forget_asked_groups(),
            },
            Question::Offsets | Question::OffsetCommit => {
                transacting.questions_lost += 1;
                transacting.machine.on_traces();
            }
            Question::Partitions => {
                transacting.questions_lost += 1;
                transacting.machine.on_traces();
                transacting.participants.on_not_added();
            }
            // An end that got no answer stays counted as such.
            Question::Identity | Question::End(_) => {}
        }
    }

    /// A question was answered.
    pub(super) fn on_transactional_answer(
        &mut self,
        connection: ConnectionId,
        question: Question,
        answered: Answered<'_>,
        now: Instant,
    ) {
        let read = match question {
            Question::Coordinator(what) => self.on_coordinator(what, (connection, answered), now),
            Question::Identity => self.on_identity(connection, answered, now),
            Question::Partitions => self.on_partitions(connection, answered, now),
            Question::Offsets => self.on_offsets_joined(connection, answered, now),
            Question::OffsetCommit => self.on_offset_commit(connection, answered, now),
            Question::End(_) => self.on_end(connection, question, answered, now),
        };
        if let Err(error) = read {
            self.on_transactional_lost(question, now);
            self.on_bad_answer(connection, &error, now);
        }
        self.follow_transaction();
    }

    fn on_coordinator(
        &mut self,
        what: Coordinated,
        (connection, (version, frame)): (ConnectionId, Answered<'_>),
        now: Instant,
    ) -> Result<(), DecodeError> {
        let answer = transactional::find_coordinator_answer(version, frame)?;
        self.throttle(connection, answer.throttle_ms, now);
        let until = self.next_try(now);
        let failure = self.refusal(connection, answer.error, answer.message);
        let Some(transacting) = &mut self.transacting else {
            return Ok(());
        };
        transacting.errand = Errand::None;
        let Some(known) = transacting.coordinator_mut(what) else {
            // Nobody wants it any more; who asks next must not wait for it.
            transacting.forget_asked_groups();
            return Ok(());
        };
        let question = Question::Coordinator(what);
        match (reply(question, answer.error), answer.coordinator) {
            (Reply::Done, Some(coordinator)) => {
                known.on_named(coordinator.id);
                self.learn_endpoints(&[coordinator], now);
            }
            (Reply::Failed(severity), _) => {
                known.on_failed(until);
                self.spoil_question(&failure, severity);
            }
            _ => known.on_failed(until),
        }
        Ok(())
    }

    fn on_identity(
        &mut self,
        connection: ConnectionId,
        (version, frame): Answered<'_>,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let answer = control::init_producer_id_answer(version, frame)?;
        self.throttle(connection, answer.throttle_ms, now);
        if self.settled(Question::Identity, (connection, answer.error), now) {
            // The level of what begins next, as the cluster has it now.
            let level = self.brokers.transaction_level();
            if let Some(transacting) = &mut self.transacting {
                transacting.level = level;
            }
            self.grant(connection, (answer.id, answer.epoch));
            for partition in self.partitions.values_mut() {
                partition.run.on_epoch_raised();
            }
            if let Some(transacting) = &mut self.transacting {
                transacting.machine.on_initialised();
            }
        }
        Ok(())
    }

    fn on_partitions(
        &mut self,
        connection: ConnectionId,
        (version, frame): Answered<'_>,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let answer = transactional::add_partitions_answer(version, frame)?;
        self.throttle(connection, answer.throttle_ms, now);
        // One that fails has the others answered with 55: it is the one that tells.
        let telling = answer.rows.iter().map(|(_, _, code)| *code);
        let telling = telling.max_by_key(|code| match *code {
            ErrorCode::NONE => 0,
            ErrorCode::OPERATION_NOT_ATTEMPTED => 1,
            _ => 2,
        });
        let code = telling.unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
        self.on_join_answered(code);
        if self.settled(Question::Partitions, (connection, code), now) {
            if let Some(transacting) = &mut self.transacting {
                transacting.participants.on_added();
            }
            self.touch_transaction();
        } else if let Some(transacting) = &mut self.transacting {
            transacting.participants.on_not_added();
        }
        Ok(())
    }

    /// A coordinator said whether something has joined.
    fn on_join_answered(&mut self, code: ErrorCode) {
        if let Some(transacting) = &mut self.transacting {
            match proves_that_nothing_joined(code) {
                true => transacting.machine.on_not_joined(),
                false => transacting.machine.on_traces(),
            }
        }
    }

    fn on_offsets_joined(
        &mut self,
        connection: ConnectionId,
        (version, frame): Answered<'_>,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let answer = transactional::add_offsets_answer(version, frame)?;
        self.throttle(connection, answer.throttle_ms, now);
        self.on_join_answered(answer.error);
        if self.settled(Question::Offsets, (connection, answer.error), now)
            && let Some(transacting) = &mut self.transacting
            && let Some(offsets) = transacting.offsets.front_mut()
        {
            offsets.stage = Stage::Joined;
        }
        Ok(())
    }

    fn on_offset_commit(
        &mut self,
        connection: ConnectionId,
        (version, frame): Answered<'_>,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let answer = transactional::offset_commit_answer(version, frame)?;
        self.throttle(connection, answer.throttle_ms, now);
        let mut left = 0;
        if let Some(transacting) = &mut self.transacting
            && let Some(offsets) = transacting.offsets.front_mut()
        {
            offsets.left.retain(|offset| {
                !answer.rows.iter().any(|(topic, partition, code)| {
                    let same = *topic == offset.topic && *partition == offset.partition;
                    same && *code == ErrorCode::NONE
                })
            });
            left = offsets.left.len();
        }
        // The worst counts; one that is not told of is not committed.
        let codes = answer.rows.iter().map(|(_, _, code)| *code);
        let worst = codes.max_by_key(|code| badness(reply(Question::OffsetCommit, *code)));
        let code = match worst.unwrap_or(ErrorCode::NONE) {
            ErrorCode::NONE if left > 0 => ErrorCode::UNKNOWN_SERVER_ERROR,
            code => code,
        };
        if self.settled(Question::OffsetCommit, (connection, code), now)
            && let Some(transacting) = &mut self.transacting
            && let Some(offsets) = transacting.offsets.pop_front()
        {
            transacting.machine.on_offsets_committed(offsets.id);
        }
        Ok(())
    }

    fn on_end(
        &mut self,
        connection: ConnectionId,
        question: Question,
        (version, frame): Answered<'_>,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let answer = transactional::end_answer(version, frame)?;
        self.throttle(connection, answer.throttle_ms, now);
        if proves_how_it_ended(answer.error)
            && let Some(transacting) = &mut self.transacting
        {
            transacting.machine.on_end_answered();
        }
        if self.settled(question, (connection, answer.error), now) {
            if let Some(next) = answer.next {
                self.grant(connection, next);
            }
            self.on_transaction_ended(answer.next);
        }
        Ok(())
    }

    /// Takes in a code; whether it says that what was asked is done.
    fn settled(
        &mut self,
        question: Question,
        (connection, code): (ConnectionId, ErrorCode),
        now: Instant,
    ) -> bool {
        let mut until = self.next_try(now);
        let failure = self.refusal(connection, code, None);
        let Some(transacting) = &mut self.transacting else {
            return false;
        };
        transacting.errand = Errand::None;
        match reply(question, code) {
            Reply::Done => {
                transacting.failures = 0;
                return true;
            }
            Reply::Retry => {
                // The transaction before may not be complete yet, which takes a few milliseconds.
                let added = transacting.participants.that_are(Joined::Added).next();
                if code == ErrorCode::CONCURRENT_TRANSACTIONS
                    && question == Question::Partitions
                    && added.is_none()
                {
                    until = until.min(now + ADD_RETRY_BACKOFF);
                }
                transacting.failures = transacting.failures.saturating_add(1);
                transacting.errand = Errand::Waiting(until);
            }
            Reply::FindAgain => {
                transacting.failures = transacting.failures.saturating_add(1);
                transacting.errand = Errand::Waiting(until);
                if let Some(coordinator) = transacting.coordinator_mut(question.asks()) {
                    coordinator.on_lost();
                }
            }
            Reply::Failed(severity) => self.spoil_question(&failure, severity),
        }
        false
    }

    /// The coordinator gave an id and an epoch for what comes next.
    fn grant(&mut self, connection: ConnectionId, (id, epoch): (ProducerId, ProducerEpoch)) {
        let Some(transacting) = &self.transacting else {
            return;
        };
        let level = transacting.level;
        self.identity = Identity::Coordinated(Some(Grant { id, epoch, level }));
        if let Some(node) = self.brokers.node_of(connection) {
            self.report(Report::ProducerIdGiven { node, id, epoch });
        }
    }

    /// The transaction is over, on the coordinator's side too; `next` is what it gave for the next.
    pub(super) fn on_transaction_ended(&mut self, next: Option<(ProducerId, ProducerEpoch)>) {
        let level = self.brokers.transaction_level();
        let Some(transacting) = &mut self.transacting else {
            return;
        };
        // What may still arrive must not find the same epoch: an end would be the next one's.
        let unanswered = transacting.machine.ends_unanswered() > 0;
        let mut broken = unanswered || transacting.questions_lost > 0;
        transacting.questions_lost = 0;
        for at in transacting.participants.all() {
            let Some(partition) = self.partitions.get_mut(&at) else {
                continue;
            };
            broken |= partition.run.gap().is_some();
            if next.is_some() {
                partition.run.on_epoch_raised();
            }
        }
        // An epoch has the transactions of one level: what is late of the others is refused by it.
        let risen = transacting.level == Level::Explicit && level == Level::Implicit;
        let unraised = transacting.machine.left_traces() && next.is_none();
        let raise = match transacting.level {
            Level::Implicit if unraised => Raise::Needed,
            Level::Explicit if broken || risen => Raise::Needed,
            Level::Implicit | Level::Explicit => Raise::NotNeeded,
        };
        transacting.participants.clear();
        transacting.machine.on_ended(raise);
        if raise == Raise::NotNeeded {
            transacting.level = level;
            if let Identity::Coordinated(Some(grant)) = &mut self.identity {
                grant.level = level;
            }
        }
    }

    /// A question was refused: in an initialisation, it may be asked for again.
    fn spoil_question(&mut self, failure: &Failure, severity: Severity) {
        if let Some(transacting) = &mut self.transacting {
            transacting.failures = 0;
            let state = transacting.machine.state();
            if state == State::Initialising && severity == Severity::Abortable {
                transacting.machine.on_not_initialised(failure);
            }
        }
        self.spoil(failure, severity);
    }

    fn refusal(
        &self,
        connection: ConnectionId,
        code: ErrorCode,
        message: Option<Arc<str>>,
    ) -> Failure {
        Failure {
            broker: self.broker_of(connection),
            message,
            ..Failure::new(FailureKind::Refused(code))
        }
    }
}

/// The worse a reply, the higher.
fn badness(reply: Reply) -> u8 {
    match reply {
        Reply::Done => 0,
        Reply::Retry => 1,
        Reply::FindAgain => 2,
        Reply::Failed(Severity::Abortable) => 3,
        Reply::Failed(Severity::Fatal) => 4,
    }
}

/// `TransactionManager.ADD_PARTITIONS_RETRY_BACKOFF_MS`.
const ADD_RETRY_BACKOFF: Duration = Duration::from_millis(20);
