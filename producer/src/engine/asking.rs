//! The engine's questions: metadata and the producer id, whom to ask, and their answers.
//!
//! *Source*: Kafka's `NetworkClient.leastLoadedNode`, `TransactionManager`'s `InitProducerId`.
//!
//! *Not here*: what is known (`metadata.rs`, `sequence.rs`), bytes (`wire/control.rs`).

use core::time::Duration;

use crate::engine::Engine;
use crate::engine::brokers::{Fallback, NodeKey, Phase, ReadyNode};
use crate::engine::effect::{Action, BatchOutcome, ConnectionId, Queues};
use crate::engine::in_flight::Content;
use crate::engine::links::Outgoing;
use crate::engine::report::Report;
use crate::engine::time::{Deadline, Instant};
use crate::error::{ErrorCode, Failure, FailureKind};
use crate::types::TopicIndex;
use crate::wire::message::{MetadataAnswer, ProducerIdAnswer};
use crate::wire::{Api, Versions, control};

impl<C> Engine<C> {
    /// Asks what is due to be asked, and connects to somebody if nobody can be asked.
    pub(super) fn ask(&mut self, now: Instant) {
        self.rebootstrap_if_due(now);
        let metadata_due = self.metadata.is_due(now);
        let identity_due = self.metadata.names().next().is_some()
            && self.identity.ask_at().is_some_and(|at| at <= now);
        if metadata_due && let Some((node, version)) = self.ready_for(now, |v| v.metadata) {
            self.forget_unused_topics(now);
            self.ask_metadata(node, version, now);
        }
        if identity_due {
            self.ask_producer_id(now);
        }
        let nobody = self.brokers.all_ready().next().is_none();
        let fallback = match self.config.rebootstrap_after {
            Some(_) => Fallback::Bootstrap,
            None => Fallback::None,
        };
        if (metadata_due || identity_due || self.coordinator_is_due(now))
            && nobody
            && let Some(node) = self.brokers.connect_candidate(fallback, &mut self.rng)
        {
            self.connect(node, now);
        }
        self.set_future(Deadline::Metadata, self.metadata.deadline(), now);
        self.set_future(Deadline::ProducerId, self.identity.ask_at(), now);
    }

    pub(super) fn on_metadata(
        &mut self,
        connection: ConnectionId,
        answer: &MetadataAnswer,
        now: Instant,
    ) {
        self.throttle(connection, answer.throttle_ms, now);
        if answer.error == ErrorCode::REBOOTSTRAP_REQUIRED
            && self.config.rebootstrap_after.is_some()
        {
            self.on_question_lost(&Content::Metadata, now);
            return self.rebootstrap("the broker asks to bootstrap anew", now);
        }
        // A broker that starts may name no brokers yet.
        if answer.error != ErrorCode::NONE || answer.brokers.is_empty() {
            return self.on_question_lost(&Content::Metadata, now);
        }
        let from = self.broker_of(connection);
        if let Some(node) = self.brokers.node_of(connection) {
            self.report(Report::MetadataLearnt {
                node,
                brokers: answer.brokers.len(),
                topics: answer.topics.len(),
            });
        }
        let retry_at = now + self.retry_delay(self.metadata.failures());
        let aged_at = now + self.config.metadata_age_max;
        self.brokers.retain(&answer.brokers);
        self.learn_endpoints(&answer.brokers, now);
        let changes = self.metadata.on_answer(answer, from, retry_at, aged_at);
        for topic in changes.made_anew {
            self.on_topic_made_anew(topic);
        }
        for topic in changes.topics {
            self.on_topic_changed(topic);
        }
        self.sync_node_deadlines(now);
    }

    pub(super) fn on_producer_id(
        &mut self,
        connection: ConnectionId,
        answer: &ProducerIdAnswer,
        now: Instant,
    ) {
        self.throttle(connection, answer.throttle_ms, now);
        match answer.error {
            ErrorCode::NONE => {
                self.identity.on_answer(answer.id, answer.epoch);
                if let Some(node) = self.brokers.node_of(connection) {
                    let (id, epoch) = (answer.id, answer.epoch);
                    self.report(Report::ProducerIdGiven { node, id, epoch });
                }
                self.touched.extend(self.partitions.keys());
            }
            // The first calls after a broker's start answer 14: its block of ids is on its way.
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::UNKNOWN_SERVER_ERROR
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED => {
                self.on_question_lost(&Content::InitProducerId, now);
            }
            code => self.on_producer_id_refused(Failure {
                broker: self.broker_of(connection),
                message: Some("no producer id was given".into()),
                ..Failure::new(FailureKind::Refused(code))
            }),
        }
    }

    fn on_producer_id_refused(&mut self, failure: Failure) {
        self.identity.on_refused(failure.clone());
        self.report(Report::ProducerIdRefused { failure });
    }

    /// A question got no answer that helps: ask again after a back-off.
    pub(super) fn on_question_lost(&mut self, question: &Content<C>, now: Instant) {
        match question {
            Content::Metadata => {
                let retry_at = now + self.retry_delay(self.metadata.failures());
                self.metadata.on_lost(retry_at);
            }
            Content::InitProducerId => {
                let until = now + self.retry_delay(self.identity.failures());
                self.identity.on_failed(until);
            }
            Content::Transactional(question) => self.on_transactional_lost(*question, now),
            Content::ApiVersions | Content::Produce(_) | Content::ProduceUnanswered(_) => {}
        }
    }

    /// No producer id will come: what is queued fails with the refusal.
    pub(super) fn fail_without_identity(
        &mut self,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let until = now + self.config.retry_backoff_max;
        let Some(failure) = self.identity.take_refusal(until) else {
            return;
        };
        for partition in self.queued.take_all() {
            self.fail_queued(
                partition,
                queues,
                &BatchOutcome::NotWritten(failure.clone()),
            );
        }
    }

    /// A wait before a retry after so many failures.
    pub(super) fn retry_delay(&mut self, failures: u32) -> Duration {
        self.retry_backoff.delay(failures, &mut self.rng)
    }

    /// The brokers know nothing of us in a log that is new.
    fn on_topic_made_anew(&mut self, topic: TopicIndex) {
        for partition in self.partitions.of_topic_mut(topic) {
            partition.run.on_new_log();
        }
    }

    pub(super) fn on_topic_changed(&mut self, topic: TopicIndex) {
        let of_topic = self.partitions.of_topic(topic);
        self.touched.extend(of_topic.map(|(at, _)| at));
        self.actions.push_back(Action::TopicChanged { topic });
    }

    /// Nobody answers for so long that the known brokers may be of the past (KIP-1102).
    fn rebootstrap_if_due(&mut self, now: Instant) {
        let since = self.metadata.unanswered_since(now);
        let due_at = match (self.config.rebootstrap_after, since) {
            (Some(after), Some(since)) if self.brokers.are_known() => Some(since + after),
            // Bootstrap addresses alone have their own time-outs.
            _ => None,
        };
        if due_at.is_some_and(|at| at <= now) {
            self.rebootstrap(
                "no metadata within metadata.recovery.rebootstrap.trigger.ms",
                now,
            );
        } else {
            self.set_future(Deadline::Rebootstrap, due_at, now);
        }
    }

    /// Gives up every connection that takes requests, forgets the brokers, and leaves the bootstrap
    /// addresses to be asked.
    fn rebootstrap(&mut self, reason: &str, now: Instant) {
        tracing::info!(reason, "bootstraps anew");
        for connection in self.brokers.known_connections() {
            self.give_up(connection, FailureKind::Disconnected, reason, now);
        }
        self.brokers.forget_brokers();
        self.metadata.on_rebootstrap(now);
    }

    /// Topics that nobody used for `metadata.max.idle.ms` are not asked for any more.
    fn forget_unused_topics(&mut self, now: Instant) {
        let idle_max = self.config.metadata_idle_max;
        let (queued, partitions) = (&self.queued, &self.partitions);
        let in_use = |topic| {
            let waits = queued.of_topic(topic).next().is_some();
            let mut of_topic = partitions.of_topic(topic);
            waits || of_topic.any(|(_, partition)| partition.first_open().is_some())
        };
        for topic in self.metadata.forget_unused(idle_max, in_use, now) {
            self.actions.push_back(Action::TopicChanged { topic });
        }
    }

    fn ask_metadata(&mut self, node: ReadyNode, version: i16, now: Instant) {
        if self.metadata.names().next().is_none() {
            return;
        }
        let header = self.header(node.connection, Api::Metadata, version);
        let frame = control::metadata_request(&header, self.metadata.names());
        let question = frame.map(|frame| Outgoing::one(Content::Metadata, frame, version));
        self.metadata.on_asked();
        self.send_question(node.connection, question, now);
    }

    fn ask_producer_id(&mut self, now: Instant) {
        if let Some((node, version)) = self.ready_for(now, |v| v.init_producer_id) {
            let header = self.header(node.connection, Api::InitProducerId, version);
            let frame = control::init_producer_id_request(&header, None);
            let question =
                frame.map(|frame| Outgoing::one(Content::InitProducerId, frame, version));
            self.identity.on_asked();
            self.send_question(node.connection, question, now);
            return;
        }
        let mut ready = self.brokers.all_ready().peekable();
        let nobody_gives =
            ready.peek().is_some() && ready.all(|one| one.versions.init_producer_id.is_none());
        drop(ready);
        if nobody_gives {
            self.identity.on_asked();
            self.on_producer_id_refused(Failure {
                message: Some("no broker gives producer ids: set enable.idempotence=false".into()),
                ..Failure::new(FailureKind::UnsupportedVersion)
            });
        }
    }

    /// The least loaded node that takes a request of this API now.
    pub(super) fn ready_for(
        &self,
        now: Instant,
        version: impl Fn(&Versions) -> Option<i16>,
    ) -> Option<(ReadyNode, i16)> {
        self.brokers
            .all_ready()
            .filter(|one| one.throttled_until <= now)
            .filter_map(|one| Some((one, version(&one.versions)?)))
            .map(|(one, version)| (self.in_flight.count(one.connection), one, version))
            .filter(|(count, ..)| *count < self.config.in_flight_max)
            .min_by_key(|(count, one, _)| (*count, one.node))
            .map(|(_, one, version)| (one, version))
    }

    /// Sets a deadline that lies ahead. What is due already waits for an event, not for time.
    pub(super) fn set_future(&mut self, deadline: Deadline, at: Option<Instant>, now: Instant) {
        self.deadlines.set(deadline, at.filter(|at| *at > now));
    }

    /// Connections may have found other owners.
    fn sync_node_deadlines(&mut self, now: Instant) {
        let nodes: Vec<NodeKey> = self.brokers.keys().collect();
        for node in nodes {
            match self.brokers.phase(node) {
                // What is due already is still to be looked at, or the node stays as it is.
                Some(Phase::BackingOff { until } | Phase::Connecting { until, .. }) => {
                    self.deadlines.set(Deadline::Node(node), Some(until));
                }
                _ => self.set_future(Deadline::Node(node), self.brokers.deadline(node), now),
            }
        }
    }
}
