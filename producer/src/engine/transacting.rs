//! The engine's steps on transactions: what callers ask, and what becomes of batches.
//!
//! *Invariants*
//! 1. Batches go only within a transaction; outside, and once it failed, what is queued or waits to
//!    be sent again fails, and what is on the wire is waited for.
//!
//! *Source*: Kafka's `TransactionManager`, `RecordAccumulator.abortUndrainedBatches`; KIP-890.
//!
//! *Not here*: states (`transaction.rs`), what coordinators are asked (`transaction_questions.rs`)
//! and answer (`transaction_answers.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::brokers::ReadyNode;
use crate::engine::config::TransactionsConfig;
use crate::engine::coordinators::Coordinator;
use crate::engine::effect::{Action, BatchOutcome, Queues};
use crate::engine::participants::{Joined, Participants};
use crate::engine::sequence::Level;
use crate::engine::time::Instant;
use crate::engine::transaction::{Ask, AskId, Output, Severity, State, Transaction};
use crate::engine::transaction_codes::{Question, severity_of_batch};
use crate::error::{Failure, FailureKind};
use crate::group_offsets::{ConsumedOffset, GroupOffsets};
use crate::types::{BrokerId, TopicPartition};
use crate::wire::transactional::Coordinated;

/// All that is known of our transactions.
#[derive(Debug)]
pub(super) struct Transacting {
    pub(super) config: TransactionsConfig,
    pub(super) machine: Transaction,
    pub(super) coordinator: Coordinator,
    pub(super) groups: BTreeMap<Arc<str>, Coordinator>,
    /// To be committed with the transaction, one after the other.
    pub(super) offsets: VecDeque<Offsets>,
    pub(super) participants: Participants,
    /// How the open transaction is done, or the next one.
    pub(super) level: Level,
    pub(super) errand: Errand,
    /// Answers to the present question that asked for another try.
    pub(super) failures: u32,
    /// Partitions, offsets and their commits that got no answer: they may still arrive.
    pub(super) questions_lost: u32,
    /// When a producer that is closing gives up.
    pub(super) closes_by: Option<Instant>,
}

/// Offsets on their way into the transaction.
#[derive(Debug)]
pub(super) struct Offsets {
    pub(super) id: AskId,
    pub(super) asked: Arc<GroupOffsets>,
    /// Those that the group's coordinator does not have yet.
    pub(super) left: Vec<ConsumedOffset>,
    pub(super) stage: Stage,
}

/// How far offsets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The transaction's coordinator does not know of them yet.
    Unknown,
    /// They go to the group's coordinator.
    Joined,
}

/// Whether a question is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// None.
    None,
    /// One is.
    Under,
    /// None before then.
    Waiting(Instant),
}

impl Transacting {
    pub(super) fn new(config: TransactionsConfig) -> Self {
        Self {
            config,
            machine: Transaction::new(),
            coordinator: Coordinator::new(),
            groups: BTreeMap::new(),
            offsets: VecDeque::new(),
            participants: Participants::default(),
            level: Level::Explicit,
            errand: Errand::None,
            failures: 0,
            questions_lost: 0,
            closes_by: None,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.machine.is_settled()
    }

    /// When to look again, if nothing happens.
    pub(super) fn due(
        &self,
        now: Instant,
        nothing_open: impl FnOnce() -> NothingOpen,
    ) -> Option<Instant> {
        let errand = match self.errand {
            Errand::Waiting(until) => Some(until),
            Errand::Under => None,
            Errand::None => self.coordinator(self.whom(nothing_open)).ask_at(),
        };
        let closes_by = self.closes_by.filter(|_| !self.is_settled());
        let dues = errand.into_iter().chain(closes_by);
        dues.filter(|at| *at > now).min()
    }

    /// Who is asked next, by what that one coordinates.
    fn whom(&self, nothing_open: impl FnOnce() -> NothingOpen) -> Coordinated {
        let question = self.question(nothing_open);
        question.map_or(Coordinated::Transaction, Question::asks)
    }

    /// Who coordinates the transactional id, or the group whose offsets come next.
    pub(super) fn coordinator(&self, what: Coordinated) -> Coordinator {
        let unknown = Coordinator::new();
        match (what, self.offsets.front()) {
            (Coordinated::Transaction, _) => self.coordinator,
            (Coordinated::Group, Some(offsets)) => {
                let known = self.groups.get(&offsets.asked.group.id);
                known.copied().unwrap_or(unknown)
            }
            (Coordinated::Group, None) => unknown,
        }
    }

    /// The same, to be changed; `None` if no offsets come next any more.
    pub(super) fn coordinator_mut(&mut self, what: Coordinated) -> Option<&mut Coordinator> {
        match what {
            Coordinated::Transaction => Some(&mut self.coordinator),
            Coordinated::Group => {
                let group = Arc::clone(&self.offsets.front()?.asked.group.id);
                Some(self.groups.entry(group).or_insert_with(Coordinator::new))
            }
        }
    }

    /// No answer comes any more to who coordinates a group.
    pub(super) fn forget_asked_groups(&mut self) {
        self.groups
            .retain(|_, coordinator| !matches!(coordinator, Coordinator::Asked { .. }));
    }

    /// What is to be asked next, once somebody takes it. Whether anything is open costs a look at
    /// each of the transaction's partitions, so it is found out only where an end depends on it.
    pub(super) fn question(&self, nothing_open: impl FnOnce() -> NothingOpen) -> Option<Question> {
        let machine = &self.machine;
        if machine.state() == State::Initialising {
            return Some(Question::Identity);
        }
        let wanted = self.participants.that_are(Joined::Wanted).next().is_some();
        if wanted && machine.lets_batches_go() {
            return Some(Question::Partitions);
        }
        if let Some(offsets) = self.offsets.front() {
            return Some(match offsets.stage {
                Stage::Unknown => Question::Offsets,
                Stage::Joined => Question::OffsetCommit,
            });
        }
        let decision = machine.decision()?;
        let ends = machine.left_traces() && nothing_open() == NothingOpen::True;
        ends.then_some(Question::End(decision))
    }
}

/// Whether all that was accepted in the transaction has come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NothingOpen {
    True,
    False,
}
impl<C> Engine<C> {
    /// Takes in what somebody asks.
    pub(super) fn on_asked(&mut self, id: AskId, ask: Ask, now: Instant) {
        let Some(transacting) = &mut self.transacting else {
            return;
        };
        transacting.machine.handle_ask(id, ask);
        // What ends is due now, and what failed is looked at.
        if !self.machine_is_open() {
            self.urging.drain_requested_at = Some(now);
            self.touch_transaction();
        }
        self.follow_transaction();
    }

    /// A record never got as far as its queue. Who ends a transaction says so after all its records
    /// were refused or not: one that is refused later is not part of it.
    pub(super) fn on_record_refused(&mut self, reason: Arc<str>) {
        if !self.machine_is_open() {
            return;
        }
        let failure = Failure {
            message: Some(reason),
            ..Failure::new(FailureKind::RecordRefused)
        };
        self.spoil(&failure, Severity::Abortable);
    }

    /// No more records come.
    pub(super) fn on_closing(&mut self, now: Instant) {
        let closes_by = now + self.config.delivery_timeout;
        if let Some(transacting) = &mut self.transacting {
            transacting.closes_by.get_or_insert(closes_by);
            transacting.machine.on_closing();
            self.touch_transaction();
            self.follow_transaction();
        }
    }

    /// Nobody waits any more.
    pub(super) fn on_given_up(&mut self) {
        if let Some(transacting) = &mut self.transacting {
            transacting.machine.on_given_up();
            self.follow_transaction();
        }
    }

    /// A batch was opened for this partition.
    pub(super) fn on_used_in_transaction(&mut self, partition: TopicPartition) {
        if let Some(transacting) = &mut self.transacting
            && transacting.machine.lets_batches_go()
        {
            let level = transacting.level;
            transacting.participants.on_used(partition, level);
        }
    }

    /// A batch has ended; one that is not written spoils its transaction.
    pub(super) fn on_batch_ended(&mut self, outcome: &BatchOutcome) {
        if self.transacting.is_none() {
            return;
        }
        if let BatchOutcome::NotWritten(failure) | BatchOutcome::Unknown(failure) = outcome
            && failure.kind != FailureKind::TransactionAborted
        {
            self.spoil(&failure.clone(), severity_of_batch(failure));
        }
    }

    /// Batches went.
    pub(super) fn on_batches_sent(&mut self) {
        if let Some(transacting) = &mut self.transacting {
            transacting.machine.on_traces();
        }
    }

    /// How far a partition is part of the open transaction; all of it without transactions.
    pub(super) fn joins_transaction(&self, at: TopicPartition) -> Joined {
        match &self.transacting {
            None => Joined::Added,
            Some(transacting) => transacting.participants.joined(at),
        }
    }

    pub(super) fn transactional_id(&self) -> Option<&str> {
        let transactions = self.config.transactions.as_ref()?;
        Some(&transactions.id)
    }

    /// The version of Produce for a node.
    pub(super) fn produce_version(&self, node: &ReadyNode) -> Option<i16> {
        let version = node.versions.produce?;
        match self.transacting.as_ref().map(|one| one.level) {
            None => Some(version),
            Some(Level::Explicit) => Some(version.min(FIRST_PRODUCE_THAT_ADDS - 1)),
            Some(Level::Implicit) => Some(version).filter(|one| *one >= FIRST_PRODUCE_THAT_ADDS),
        }
    }

    /// What may not go, as no transaction takes it, ends.
    pub(super) fn fail_outside_transaction(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
    ) {
        let Some(transacting) = &self.transacting else {
            return;
        };
        if transacting.machine.lets_batches_go() {
            return;
        }
        let words = match transacting.machine.failure() {
            Some(failure) => format!("the transaction failed before: {}", failure.words()),
            None => "the transaction is aborted".to_owned(),
        };
        let failure = Failure {
            message: Some(Arc::from(words)),
            ..Failure::new(FailureKind::TransactionAborted)
        };
        while let Some(batch) = self
            .partitions
            .get_mut(&at)
            .and_then(|partition| partition.take_waiting(0))
        {
            let failure = Failure {
                broker: batch.broker,
                attempts: batch.attempts,
                ..failure.clone()
            };
            self.fail(batch, failure);
        }
        self.fail_queued(at, queues, &BatchOutcome::NotWritten(failure));
    }

    /// A broker cannot be reached: if it coordinates, another may soon.
    pub(super) fn on_coordinator_lost(&mut self, broker: Option<BrokerId>) {
        if let Some(transacting) = &mut self.transacting
            && broker.is_some()
        {
            let groups = transacting.groups.values_mut();
            for coordinator in groups.chain([&mut transacting.coordinator]) {
                if coordinator.broker() == broker {
                    coordinator.on_lost();
                }
            }
        }
    }

    /// The transaction failed.
    pub(super) fn spoil(&mut self, failure: &Failure, severity: Severity) {
        if let Some(transacting) = &mut self.transacting {
            transacting.machine.on_failed(failure, severity);
            self.touch_transaction();
            self.follow_transaction();
        }
    }

    pub(super) fn next_try(&mut self, now: Instant) -> Instant {
        let failures = self
            .transacting
            .as_ref()
            .map_or(0, |one| one.failures.max(one.coordinator.failures()));
        now + self.retry_delay(failures)
    }

    fn machine_is_open(&self) -> bool {
        let state = self.transacting.as_ref().map(|one| one.machine.state());
        state == Some(State::InTransaction)
    }

    pub(super) fn touch_transaction(&mut self) {
        if let Some(transacting) = &self.transacting {
            self.touched.extend(transacting.participants.all());
            self.touched.extend(self.queued.iter());
        }
    }

    /// Whether nothing of the transaction is queued or on its way.
    pub(super) fn nothing_open(&self) -> NothingOpen {
        let Some(transacting) = &self.transacting else {
            return NothingOpen::True;
        };
        let open = |at| {
            let partition = self.partitions.get(&at);
            partition.is_some_and(|partition| partition.first_open().is_some())
        };
        match self.queued.is_empty() && !transacting.participants.all().any(open) {
            true => NothingOpen::True,
            false => NothingOpen::False,
        }
    }

    /// Does what follows from the machine's last events.
    pub(super) fn follow_transaction(&mut self) {
        let Some(transacting) = &mut self.transacting else {
            return;
        };
        if !transacting.machine.lets_batches_go() {
            transacting.offsets.clear();
        }
        while let Some(output) = transacting.machine.poll_output() {
            self.actions.push_back(match output {
                Output::Answer(id, answer) => Action::Answered { id, answer },
                Output::Doors(doors) => Action::Doors(doors),
                Output::Offsets(id, asked) => {
                    let stage = match transacting.level {
                        Level::Explicit => Stage::Unknown,
                        Level::Implicit => Stage::Joined,
                    };
                    let left = asked.offsets.clone();
                    let offsets = Offsets {
                        id,
                        asked,
                        left,
                        stage,
                    };
                    transacting.offsets.push_back(offsets);
                    continue;
                }
            });
        }
    }
}

/// From here on a write adds its partition to the transaction (KIP-890).
const FIRST_PRODUCE_THAT_ADDS: i16 = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_offsets::ConsumerGroup;
    use crate::types::TopicIndex;

    /// Offsets wait for partitions to be added: whom those wait for is when to look again.
    #[test]
    fn who_is_asked_next_says_when_to_look_again() {
        let config = TransactionsConfig {
            id: "transfers".into(),
            timeout_ms: 60_000,
        };
        let mut transacting = Transacting::new(config);
        transacting.machine.handle_ask(AskId(1), Ask::Initialise);
        transacting.machine.on_initialised();
        transacting.machine.handle_ask(AskId(2), Ask::Begin);
        let partition = TopicPartition {
            topic: TopicIndex(0),
            partition: 0,
        };
        transacting.participants.on_used(partition, Level::Explicit);
        let group = ConsumerGroup::new("copiers");
        transacting.offsets.push_back(Offsets {
            id: AskId(3),
            asked: Arc::new(GroupOffsets::new(group, Vec::new())),
            left: Vec::new(),
            stage: Stage::Joined,
        });
        let known = Coordinator::Known(BrokerId(1));
        transacting.groups.insert("copiers".into(), known);
        let now = Instant::ZERO;
        let until = now + core::time::Duration::from_secs(1);
        transacting.coordinator = Coordinator::Waiting { until, failures: 1 };
        let asked = transacting.question(|| NothingOpen::False);
        assert_eq!(asked, Some(Question::Partitions));
        assert_eq!(transacting.due(now, || NothingOpen::False), Some(until));
    }
}
