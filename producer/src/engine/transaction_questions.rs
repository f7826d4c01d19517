//! The engine's questions about transactions: which, when, and whom.
//!
//! One is on its way at a time, in this order of need: who coordinates, an id, partitions, the end.
//! The end waits until nothing of the transaction is queued or on the wire.
//!
//! *Invariants*
//! 1. Nothing is asked for a transaction that left nothing with any broker: it ends here.
//!
//! *Source*: Kafka's `TransactionManager`, `Sender.maybeSendAndPollTransactionalRequest`; KIP-98,
//! KIP-360, KIP-890.
//!
//! *Not here*: answers (`transaction_answers.rs`), bytes (`wire/transactional.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::brokers::{NodeKey, Phase, ReadyNode};
use crate::engine::coordinators::Coordinator;
use crate::engine::effect::ConnectionId;
use crate::engine::in_flight::Content;
use crate::engine::links::Outgoing;
use crate::engine::participants::Joined;
use crate::engine::sequence::Level;
use crate::engine::time::{Deadline, Instant};
use crate::engine::transacting::{Errand, NothingOpen};
use crate::engine::transaction::Severity;
use crate::engine::transaction_codes::Question;
use crate::error::{Failure, FailureKind};
use crate::wire::Api;
use crate::wire::control::{self, Asking};
use crate::wire::transactional::{self, Coordinated, Decision, GroupMember, OffsetRow, Who};

impl<C> Engine<C> {
    /// Asks what is to be asked; ends what ends without asking.
    pub(super) fn transact(&mut self, now: Instant) {
        if self.transacting.is_none() {
            return;
        }
        self.end_without_traces();
        self.go_on_errand(now);
        self.give_up_closing(now);
        let transacting = self.transacting.as_ref();
        let due = transacting.and_then(|one| one.due(now, || self.nothing_open()));
        self.deadlines.set(Deadline::Transaction, due);
        self.follow_transaction();
    }

    /// A producer that closes does not ask for ever.
    fn give_up_closing(&mut self, now: Instant) {
        if let Some(transacting) = &mut self.transacting
            && transacting.closes_by.is_some_and(|at| at <= now)
        {
            transacting.machine.on_given_up();
        }
    }

    /// Whether somebody has to be asked who coordinates.
    pub(super) fn coordinator_is_due(&self, now: Instant) -> bool {
        let Some(transacting) = &self.transacting else {
            return false;
        };
        let question = transacting.question(|| self.nothing_open());
        let coordinator = question.map(|one| transacting.coordinator(one.asks()));
        let ask_at = coordinator.and_then(Coordinator::ask_at);
        ask_at.is_some_and(|at| at <= now)
    }

    fn end_without_traces(&mut self) {
        let Some(transacting) = &self.transacting else {
            return;
        };
        let machine = &transacting.machine;
        if machine.decision().is_some()
            && !machine.left_traces()
            && transacting.errand != Errand::Under
            && self.nothing_open() == NothingOpen::True
            // Offsets whose group was turned away for now are still to be committed.
            && transacting.question(|| NothingOpen::True).is_none()
        {
            self.on_transaction_ended(None);
            self.follow_transaction();
        }
    }

    /// Sends the question that is to be asked, if whom to ask is there.
    fn go_on_errand(&mut self, now: Instant) {
        let Some(transacting) = &self.transacting else {
            return;
        };
        match transacting.errand {
            Errand::Under => return,
            Errand::Waiting(until) if until > now => return,
            Errand::Waiting(_) | Errand::None => {}
        }
        let Some(question) = transacting.question(|| self.nothing_open()) else {
            return;
        };
        let whom = question.asks();
        let Some(broker) = transacting.coordinator(whom).broker() else {
            return self.ask_for_coordinator(whom, now);
        };
        let key = NodeKey::Broker(broker);
        match self.brokers.phase(key) {
            Some(Phase::Idle) => self.connect(key, now),
            // Its address went with what the cluster said last.
            None => {
                let transacting = self.transacting.as_mut();
                if let Some(lost) = transacting.and_then(|one| one.coordinator_mut(whom)) {
                    lost.on_lost();
                }
                self.ask_for_coordinator(whom, now);
            }
            Some(_) => {
                let ready = self.brokers.ready(key);
                if let Some(node) = ready.filter(|node| node.throttled_until <= now) {
                    self.ask_coordinator(node, question, now);
                }
            }
        }
    }

    fn ask_for_coordinator(&mut self, whom: Coordinated, now: Instant) {
        let Some(transacting) = &self.transacting else {
            return;
        };
        let ask_at = transacting.coordinator(whom).ask_at();
        if ask_at.is_none_or(|at| at > now) {
            return;
        }
        let Some((node, version)) = self.ready_for(now, |v| v.find_coordinator) else {
            return self.fail_without_coordinators();
        };
        let header = self.header(node.connection, Api::FindCoordinator, version);
        let name = match (whom, transacting.offsets.front()) {
            (Coordinated::Group, Some(offsets)) => &offsets.asked.group.id,
            _ => &transacting.config.id,
        };
        let frame = transactional::find_coordinator_request(&header, whom, name);
        self.send_errand(node, Question::Coordinator(whom), (version, frame), now);
    }

    /// Nobody to ask may be there yet; or nobody there knows what a coordinator is.
    fn fail_without_coordinators(&mut self) {
        let mut ready = self.brokers.all_ready().peekable();
        let nobody_knows =
            ready.peek().is_some() && ready.all(|one| one.versions.find_coordinator.is_none());
        drop(ready);
        if nobody_knows {
            let api = "no broker finds coordinators: there are no transactions without";
            self.fail_unsupported_question(api);
        }
    }

    fn ask_coordinator(&mut self, node: ReadyNode, question: Question, now: Instant) {
        let versions = &node.versions;
        let version = match question {
            Question::Coordinator(_) => versions.find_coordinator,
            Question::Identity => versions.init_producer_id,
            Question::Partitions => versions.add_partitions,
            Question::Offsets => versions.add_offsets,
            Question::OffsetCommit => versions.txn_offset_commit,
            Question::End(_) => versions.end_txn,
        };
        let Some(version) = version else {
            return self.fail_unsupported_question("the coordinator lacks an api of transactions");
        };
        let asked = match question {
            Question::Identity => self.identity_frame(node.connection, version),
            Question::Partitions => self.partitions_frame(node.connection, version),
            Question::End(decision) => self.end_frame(node.connection, version, decision),
            Question::Offsets => self.offsets_frame(node.connection, version),
            Question::OffsetCommit => self.offset_commit_frame(node.connection, version),
            Question::Coordinator(_) => None,
        };
        if let Some(asked) = asked {
            self.send_errand(node, question, asked, now);
        }
    }

    fn identity_frame(&mut self, connection: ConnectionId, version: i16) -> Option<(i16, Bytes)> {
        let held = self.identity.grant().map(|grant| (grant.id, grant.epoch));
        if held.is_some() && version < FIRST_INIT_WITH_PRODUCER {
            // Whoever cannot say which epoch it raises may raise that of a successor.
            let api = "the coordinator cannot raise an epoch: it lacks InitProducerId 3";
            self.fail_unsupported_question(api);
            return None;
        }
        let transactions = self.config.transactions.as_ref()?;
        let header = self.header(connection, Api::InitProducerId, version);
        let asking = Asking {
            transactional_id: &transactions.id,
            timeout_ms: transactions.timeout_ms,
            producer: held,
        };
        match control::init_producer_id_request(&header, Some(&asking)) {
            Ok(frame) => Some((version, frame)),
            Err(error) => {
                self.fail_unsupported_question(&error.to_string());
                None
            }
        }
    }

    fn partitions_frame(&self, connection: ConnectionId, version: i16) -> Option<(i16, Bytes)> {
        let transacting = self.transacting.as_ref()?;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for at in transacting.participants.that_are(Joined::Wanted) {
            if let Some(names) = self.metadata.names_of(at.topic) {
                topics.entry(&names.name).or_default().push(at.partition);
            }
        }
        let topics: Vec<_> = topics.into_iter().collect();
        let header = self.header(connection, Api::AddPartitionsToTxn, version);
        let frame = transactional::add_partitions_request(&header, &self.who()?, &topics);
        Some((version, frame))
    }

    fn offsets_frame(&self, connection: ConnectionId, version: i16) -> Option<(i16, Bytes)> {
        let offsets = self.transacting.as_ref()?.offsets.front()?;
        let header = self.header(connection, Api::AddOffsetsToTxn, version);
        let group = &offsets.asked.group.id;
        let frame = transactional::add_offsets_request(&header, &self.who()?, group);
        Some((version, frame))
    }

    fn offset_commit_frame(
        &mut self,
        connection: ConnectionId,
        version: i16,
    ) -> Option<(i16, Bytes)> {
        let transacting = self.transacting.as_ref()?;
        let version = match transacting.level {
            Level::Explicit => version.min(FIRST_OFFSET_COMMIT_THAT_ADDS - 1),
            Level::Implicit => version,
        };
        let offsets = transacting.offsets.front()?;
        let group = &offsets.asked.group;
        let named = !group.member_id.is_empty() || group.instance_id.is_some();
        if version < FIRST_OFFSET_COMMIT_WITH_MEMBER && named {
            let api = "the group's coordinator cannot tell members: it lacks TxnOffsetCommit 3";
            self.fail_unsupported_question(api);
            return None;
        }
        let member = GroupMember {
            group_id: &group.id,
            generation: group.generation,
            member_id: &group.member_id,
            instance_id: group.instance_id.as_deref(),
        };
        let rows = offsets.left.iter().map(|offset| OffsetRow {
            topic: &offset.topic,
            partition: offset.partition,
            offset: offset.offset,
            leader_epoch: offset.leader_epoch.unwrap_or(-1),
            metadata: offset.metadata.as_deref(),
        });
        let rows: Vec<_> = rows.collect();
        let header = self.header(connection, Api::TxnOffsetCommit, version);
        let frame = transactional::offset_commit_request(&header, &self.who()?, &member, &rows);
        Some((version, frame))
    }

    fn end_frame(
        &self,
        connection: ConnectionId,
        version: i16,
        decision: Decision,
    ) -> Option<(i16, Bytes)> {
        let version = match self.transacting.as_ref()?.level {
            Level::Explicit => version.min(FIRST_END_WITH_EPOCH - 1),
            Level::Implicit => version,
        };
        let header = self.header(connection, Api::EndTxn, version);
        let frame = transactional::end_request(&header, &self.who()?, decision);
        Some((version, frame))
    }

    fn who(&self) -> Option<Who<'_>> {
        let grant = self.identity.grant()?;
        Some(Who {
            transactional_id: self.transactional_id()?,
            producer: grant.id,
            epoch: grant.epoch,
        })
    }

    fn send_errand(
        &mut self,
        node: ReadyNode,
        question: Question,
        (version, frame): (i16, Bytes),
        now: Instant,
    ) {
        let Some(transacting) = &mut self.transacting else {
            return;
        };
        transacting.errand = Errand::Under;
        match question {
            Question::Coordinator(whom) => {
                if let Some(coordinator) = transacting.coordinator_mut(whom) {
                    coordinator.on_asked();
                }
            }
            Question::Partitions => {
                transacting.participants.on_asked();
                transacting.machine.on_joining();
            }
            Question::End(_) => transacting.machine.on_end_asked(),
            Question::Offsets => transacting.machine.on_joining(),
            Question::OffsetCommit => transacting.machine.on_traces(),
            Question::Identity => {}
        }
        let request = Outgoing::one(Content::Transactional(question), frame, version);
        self.send(node.connection, request, now);
    }

    fn fail_unsupported_question(&mut self, reason: &str) {
        let failure = Failure {
            message: Some(Arc::from(reason)),
            ..Failure::new(FailureKind::UnsupportedVersion)
        };
        self.spoil(&failure, Severity::Fatal);
    }
}

/// From here on each transaction has its own epoch (KIP-890).
const FIRST_END_WITH_EPOCH: i16 = 5;
/// From here on committing offsets adds them to the transaction (KIP-890).
const FIRST_OFFSET_COMMIT_THAT_ADDS: i16 = 5;
/// From here on the member that commits is named (KIP-447).
const FIRST_OFFSET_COMMIT_WITH_MEMBER: i16 = 3;
/// From here on an asker names the id and epoch that it holds (KIP-360).
const FIRST_INIT_WITH_PRODUCER: i16 = 3;
