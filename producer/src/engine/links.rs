//! The engine's steps on connections: making, negotiating, reading, losing.
//!
//! *Source*: Kafka's `NetworkClient`.
//!
//! *Not here*: a node's phases (`brokers.rs`), what answers mean (`asking.rs`, `delivery.rs`).

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::brokers::{Negotiation, NodeKey, Phase, ReadyNode};
use crate::engine::effect::{Action, Address, ConnectionId, CorrelationId, Frame};
use crate::engine::in_flight::{Content, Request};
use crate::engine::report::{ConnectionEvent, Report};
use crate::engine::time::{Deadline, Instant};
use crate::error::{Failure, FailureKind};
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::frame::{self, RequestHeader};
use crate::wire::{Api, control, produce_response};

/// Why a connection is given up.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub(super) kind: FailureKind,
    pub(super) reason: Arc<str>,
    /// The first request of which no byte left.
    pub(super) untouched_from: Option<CorrelationId>,
}

/// A request ready to be registered and sent.
pub(super) struct Outgoing<C> {
    pub(super) content: Content<C>,
    pub(super) frame: Frame,
    pub(super) version: i16,
}

impl<C> Outgoing<C> {
    /// A request of one slice.
    pub(super) fn one(content: Content<C>, bytes: Bytes, version: i16) -> Self {
        Self {
            content,
            frame: Frame(vec![bytes]),
            version,
        }
    }
}

impl<C> Engine<C> {
    /// Connects to a node if it is idle.
    pub(super) fn connect(&mut self, node: NodeKey, now: Instant) {
        let failures = self.brokers.node_failures(node);
        let until = now + self.setup_timeout.delay(failures, &mut self.rng);
        if let Some((connection, address)) = self.brokers.connect(node, until) {
            self.deadlines.set(Deadline::Node(node), Some(until));
            self.actions.push_back(Action::Connect {
                connection,
                address,
            });
        }
    }

    pub(super) fn on_connected(&mut self, connection: ConnectionId, now: Instant) {
        let Some(version) = self.brokers.on_connected(connection) else {
            return;
        };
        if let Some(node) = self.brokers.node_of(connection) {
            self.deadlines.set(Deadline::Node(node), None);
            self.report_connection(connection, node, ConnectionEvent::Made);
        }
        self.ask_versions(connection, version, now);
    }

    pub(super) fn on_connect_failed(
        &mut self,
        connection: ConnectionId,
        reason: &Arc<str>,
        now: Instant,
    ) {
        let reason = Arc::clone(reason);
        let loss = Loss {
            kind: FailureKind::Disconnected,
            reason,
            untouched_from: None,
        };
        self.lose(connection, &loss, now);
    }

    fn report_connection(
        &mut self,
        connection: ConnectionId,
        node: NodeKey,
        event: ConnectionEvent,
    ) {
        self.report(Report::Connection {
            connection,
            node,
            event,
        });
    }

    pub(super) fn on_disconnected(
        &mut self,
        connection: ConnectionId,
        untouched_from: Option<CorrelationId>,
        reason: Arc<str>,
        now: Instant,
    ) {
        let loss = Loss {
            kind: FailureKind::Disconnected,
            reason,
            untouched_from,
        };
        self.lose(connection, &loss, now);
    }

    /// The end of a node's connection set-up, back-off or throttle.
    pub(super) fn on_node_deadline(&mut self, node: NodeKey, now: Instant) {
        if let Some(connection) = self.brokers.on_deadline(node, now) {
            let reason = "no connection in time (socket.connection.setup.timeout.ms)";
            self.give_up(connection, FailureKind::Disconnected, reason, now);
        }
    }

    /// The oldest request may be too old: then the connection is wedged (`request.timeout.ms`).
    pub(super) fn on_request_deadline(&mut self, connection: ConnectionId, now: Instant) {
        let deadline = self
            .in_flight
            .deadline(connection, self.config.request_timeout);
        match deadline {
            Some(at) if at <= now => {
                let waited = self.config.request_timeout;
                let reason = format!("no answer within {waited:?}");
                self.give_up(connection, FailureKind::Disconnected, &reason, now);
            }
            later => self.deadlines.set(Deadline::Request(connection), later),
        }
    }

    /// A connection may have had nothing on the way for too long (`connections.max.idle.ms`).
    pub(super) fn on_idle_deadline(&mut self, connection: ConnectionId, now: Instant) {
        match self.idle_at(connection) {
            Some(at) if at <= now => self.retire(connection),
            later => self.deadlines.set(Deadline::Idle(connection), later),
        }
    }

    /// Something was answered or left: the connection may be idle from now on.
    fn watch_idle(&mut self, connection: ConnectionId) {
        if let Some(at) = self.idle_at(connection) {
            // One that stands is earlier: whoever it wakes looks again.
            self.deadlines.set_by(Deadline::Idle(connection), at);
        }
    }

    /// When the connection has been idle for too long, if nothing happens; `None` while something
    /// is on the way.
    fn idle_at(&self, connection: ConnectionId) -> Option<Instant> {
        let idle_max = self.config.connections_idle_max?;
        Some(self.in_flight.idle_since(connection)? + idle_max)
    }

    /// The last byte of a request left: with `acks=0` that is all there will be.
    pub(super) fn on_written(
        &mut self,
        connection: ConnectionId,
        correlation_id: CorrelationId,
        now: Instant,
    ) {
        if let Some(request) = self.in_flight.on_written(connection, correlation_id, now)
            && let Content::ProduceUnanswered(entries) = request.content
        {
            self.on_unanswered(entries);
            self.stirred = true;
        }
        self.watch_idle(connection);
    }

    /// A response: to the oldest request that expects one, or the connection is broken.
    pub(super) fn on_received(&mut self, connection: ConnectionId, frame: &Bytes, now: Instant) {
        if self.brokers.node_of(connection).is_none() {
            return; // what a connection that we ended had still to say
        }
        let correlation_id = match frame::correlation_id(frame) {
            Ok(number) => CorrelationId(number),
            Err(error) => return self.on_bad_answer(connection, &error, now),
        };
        match self.in_flight.on_answer(connection, correlation_id, now) {
            Ok(request) => {
                self.on_answer(connection, request, frame, now);
                self.watch_idle(connection);
            }
            Err(unexpected) => {
                let expected = unexpected.expected.map(|one| one.0);
                let reason = format!(
                    "bad answer: to request {}, expected to {expected:?}",
                    correlation_id.0
                );
                self.give_up(connection, FailureKind::BadAnswer, &reason, now);
            }
        }
    }

    fn on_answer(
        &mut self,
        connection: ConnectionId,
        request: Request<C>,
        frame: &Bytes,
        now: Instant,
    ) {
        let version = request.version;
        let after = now.since(request.sent_at);
        self.report_answer(connection, request.content.api(), frame, after);
        match request.content {
            Content::ApiVersions => match control::api_versions_answer(version, frame) {
                Ok(answer) => {
                    let next = self.brokers.on_versions(connection, &answer);
                    self.on_negotiated(connection, next, now);
                }
                Err(error) => self.on_bad_answer(connection, &error, now),
            },
            Content::Metadata => match control::metadata_answer(version, frame) {
                Ok(answer) => self.on_metadata(connection, &answer, now),
                Err(error) => {
                    self.on_question_lost(&Content::Metadata, now);
                    self.on_bad_answer(connection, &error, now);
                }
            },
            Content::InitProducerId => match control::init_producer_id_answer(version, frame) {
                Ok(answer) => self.on_producer_id(connection, &answer, now),
                Err(error) => {
                    self.on_question_lost(&Content::InitProducerId, now);
                    self.on_bad_answer(connection, &error, now);
                }
            },
            Content::Transactional(question) => {
                self.on_transactional_answer(connection, question, (version, frame), now);
            }
            Content::Produce(entries) => match produce_response::decode(version, frame) {
                Ok(answer) => {
                    self.report_produced(connection, after, answer.throttle_ms);
                    self.throttle(connection, answer.throttle_ms, now);
                    self.on_produced(entries, version, &answer, now);
                }
                Err(error) => {
                    let reason = format!("bad answer: {error}");
                    let loss = self.loss(connection, FailureKind::BadAnswer, &reason);
                    self.on_batches_lost(entries, &loss, now);
                    self.give_up(connection, FailureKind::BadAnswer, &reason, now);
                }
            },
            // Never handed out as answered.
            Content::ProduceUnanswered(entries) => self.on_unanswered(entries),
        }
    }

    fn report_answer(
        &mut self,
        connection: ConnectionId,
        api: Api,
        frame: &Bytes,
        after: Duration,
    ) {
        if let Some(node) = self.brokers.node_of(connection) {
            self.report(Report::Answered {
                connection,
                node,
                api,
                bytes: frame.len() + SIZE_PREFIX_BYTES,
                after,
            });
        }
    }

    fn report_produced(&mut self, connection: ConnectionId, after: Duration, throttle_ms: u32) {
        if let Some(node) = self.brokers.node_of(connection) {
            let throttle = Duration::from_millis(u64::from(throttle_ms));
            self.report(Report::Produced {
                node,
                after,
                throttle,
            });
        }
    }

    fn on_negotiated(&mut self, connection: ConnectionId, next: Negotiation, now: Instant) {
        match next {
            Negotiation::Ready => {
                if let Some(node) = self.brokers.node_of(connection) {
                    self.report_connection(connection, node, ConnectionEvent::Ready);
                }
            }
            Negotiation::NotExpected => {}
            Negotiation::AskAgain(version) => self.ask_versions(connection, version, now),
            Negotiation::Unusable(reason) => {
                self.give_up(connection, FailureKind::UnsupportedVersion, &reason, now);
            }
        }
    }

    pub(super) fn on_bad_answer(
        &mut self,
        connection: ConnectionId,
        error: &DecodeError,
        now: Instant,
    ) {
        let reason = format!("bad answer: {error}");
        self.give_up(connection, FailureKind::BadAnswer, &reason, now);
    }

    fn ask_versions(&mut self, connection: ConnectionId, version: i16, now: Instant) {
        let header = self.header(connection, Api::ApiVersions, version);
        let frame = control::api_versions_request(&header);
        let question = frame.map(|frame| Outgoing::one(Content::ApiVersions, frame, version));
        self.send_question(connection, question, now);
    }

    /// Registers and sends a question; one that cannot be written is a bug of this crate.
    pub(super) fn send_question(
        &mut self,
        connection: ConnectionId,
        question: Result<Outgoing<C>, EncodeError>,
        now: Instant,
    ) {
        match question {
            Ok(request) => self.send(connection, request, now),
            Err(error) => {
                let kind = FailureKind::UnsupportedVersion;
                self.give_up(connection, kind, &error.to_string(), now);
            }
        }
    }

    /// Registers and sends a request that was made for [`Engine::header`].
    pub(super) fn send(&mut self, connection: ConnectionId, request: Outgoing<C>, now: Instant) {
        let Outgoing {
            content,
            frame,
            version,
        } = request;
        if let Some(node) = self.brokers.node_of(connection) {
            self.report(Report::Asked {
                connection,
                node,
                api: content.api(),
                bytes: frame.0.iter().map(Bytes::len).sum(),
                records: content.record_count(),
            });
        }
        let correlation_id = self.in_flight.push(connection, content, version, now);
        self.deadlines.set_by(
            Deadline::Request(connection),
            now + self.config.request_timeout,
        );
        self.actions.push_back(Action::Send {
            connection,
            correlation_id,
            frame,
        });
    }

    /// The header of the connection's next request.
    pub(super) fn header(
        &self,
        connection: ConnectionId,
        api: Api,
        version: i16,
    ) -> RequestHeader<'_> {
        let correlation_id = self.in_flight.next_correlation(connection).0;
        RequestHeader {
            api,
            version,
            correlation_id,
            client_id: &self.config.client_id,
        }
    }

    /// Ends a connection from our side.
    pub(super) fn give_up(
        &mut self,
        connection: ConnectionId,
        kind: FailureKind,
        reason: &str,
        now: Instant,
    ) {
        if self.brokers.node_of(connection).is_some() {
            let loss = self.loss(connection, kind, reason);
            self.actions.push_back(Action::Disconnect { connection });
            self.lose(connection, &loss, now);
        }
    }

    /// A loss of our own choice, worded like those of the edge: the address first.
    pub(super) fn loss(&self, connection: ConnectionId, kind: FailureKind, reason: &str) -> Loss {
        let reason = match self.brokers.address(connection) {
            Some(Address { host, port }) => format!("{host}:{port}: {reason}").into(),
            None => Arc::from(reason),
        };
        Loss {
            kind,
            reason,
            untouched_from: None,
        }
    }

    /// A connection is gone: its node backs off, and all that was on it is told.
    fn lose(&mut self, connection: ConnectionId, loss: &Loss, now: Instant) {
        let broker = self.broker_of(connection);
        let failures = self.brokers.failures(connection);
        let back_off = self.reconnect_backoff.delay(failures, &mut self.rng);
        let until = now + back_off;
        let stood = self.brokers.stood(connection);
        let Some(node) = self
            .brokers
            .on_lost(connection, until, Arc::clone(&loss.reason))
        else {
            return;
        };
        let event = ConnectionEvent::Lost {
            stood,
            reason: Arc::clone(&loss.reason),
            back_off,
        };
        self.report_connection(connection, node, event);
        self.deadlines.set(Deadline::Node(node), Some(until));
        self.deadlines.set(Deadline::Request(connection), None);
        self.deadlines.set(Deadline::Idle(connection), None);
        for request in self.in_flight.close(connection) {
            let untouched = loss
                .untouched_from
                .is_some_and(|from| request.correlation_id >= from);
            match request.content {
                Content::Produce(entries) | Content::ProduceUnanswered(entries) => {
                    if untouched {
                        self.on_batches_untouched(entries);
                    } else {
                        self.on_batches_lost(entries, loss, now);
                    }
                }
                question => self.on_question_lost(&question, now),
            }
        }
        self.on_coordinator_lost(broker);
        // The leader may have moved; Kafka's client asks after every broken connection.
        self.metadata.request_refresh();
        let failure = Failure {
            broker,
            message: self.brokers.last_failures(),
            ..Failure::new(loss.kind)
        };
        for topic in self.metadata.on_unreachable(&failure) {
            self.actions.push_back(Action::TopicChanged { topic });
        }
    }

    /// Ends the bootstrap connections that brokers' own connections have replaced.
    pub(super) fn retire_bootstrap(&mut self) {
        let is_brokers_own = |one: &ReadyNode| one.node.broker().is_some();
        if !self.brokers.all_ready().any(|one| is_brokers_own(&one)) {
            return;
        }
        let replaced = self
            .brokers
            .all_ready()
            .filter(|one| !is_brokers_own(one) && self.in_flight.count(one.connection) == 0);
        // Nearly always none, and then nothing is allocated.
        let replaced: Vec<ConnectionId> = replaced.map(|one| one.connection).collect();
        for connection in replaced {
            self.retire(connection);
        }
    }

    /// Ends a connection with nothing on the way: no failure, so its node need not back off.
    fn retire(&mut self, connection: ConnectionId) {
        let Some(node) = self.brokers.on_retired(connection) else {
            return;
        };
        self.in_flight.close(connection);
        self.deadlines.set(Deadline::Node(node), None);
        self.deadlines.set(Deadline::Request(connection), None);
        self.deadlines.set(Deadline::Idle(connection), None);
        self.actions.push_back(Action::Disconnect { connection });
        self.report_connection(connection, node, ConnectionEvent::Retired);
    }

    /// Sends nothing on this connection for so long (KIP-219).
    pub(super) fn throttle(&mut self, connection: ConnectionId, delay_ms: u32, now: Instant) {
        if delay_ms == 0 {
            return;
        }
        let wait = Duration::from_millis(u64::from(delay_ms));
        let until = now + wait;
        self.brokers.on_throttled(connection, until);
        if let Some(node) = self.brokers.node_of(connection) {
            self.deadlines.set(Deadline::Node(node), Some(until));
            self.report(Report::Throttled { node, wait });
        }
    }

    pub(super) fn broker_of(&self, connection: ConnectionId) -> Option<crate::types::BrokerId> {
        self.brokers.node_of(connection)?.broker()
    }

    /// Whether a node can be connected to.
    pub(super) fn is_idle(&self, node: NodeKey) -> bool {
        self.brokers.phase(node) == Some(Phase::Idle)
    }
}

/// What stands before each frame on the wire: its size.
const SIZE_PREFIX_BYTES: usize = 4;
