//! The cluster behind its seam: frames in, effects out.
//!
//! *State* of a request:
//!
//! ```text
//!  frame ─▶ Waiting behind another ─▶ Judged by the rules ─▶ Handled ─▶ Parked ─▶ Answered
//!              │ refused: closed         │ swallowed: muted      └──────────────────▲   │
//!              ▼                         ▼ closed before                          reply │
//!                                  lost, closed or reset after, cut, late, in pieces ◀─┘
//! ```
//!
//! *Invariants*
//! 1. A connection with a request in progress has exactly one entry in `in_progress`.
//! 2. After [`Effect::Close`] or [`Effect::Reset`] no effect names that connection again.
//! 3. When a call returns, every request that could end has ended: nothing waits for another call
//!    but time, a frame or a command.
//! 4. What stands still is of a paused broker, and nothing of a paused broker is in the purgatory:
//!    it neither answers nor times out before it is resumed.
//!
//! *Source* apache/kafka `core/…/network/SocketServer.scala` for muting and closing.
//!
//! *Not here* what requests do: one file per API beside this one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Context, Injection, Pending, Wait, api_versions, handle, targets};
use crate::config::ConfigError;
use crate::engine::connections::{Connections, Offer};
use crate::engine::effect::{BrokerId, ConnectionId, Effect};
use crate::engine::journal::{Entry, Event, Journal, RequestId, Silence};
use crate::engine::purgatory::{Parked, Purgatory};
use crate::engine::time::Instant;
use crate::engine::topology::BrokerState;
use crate::engine::{Cluster, ClusterConfig, Move, MoveError, TopicSpec};
use crate::fault::{Judgement, RequestFacts, Rules, Target, Verdict};
use crate::wire::reply::{Reply, SIZE_BYTES, sized};
use crate::wire::request::{self, Request, RequestBody};

/// A whole cluster as one value: requests in, effects out, time as an argument.
///
/// Events come in through `handle_*`; after each, [`poll_effect`](Self::poll_effect) is called
/// until it has nothing more, and [`handle_timeout`](Self::handle_timeout) is due at
/// [`next_deadline`](Self::next_deadline). `now` never falls.
#[derive(Debug)]
pub struct ClusterEngine {
    cluster: Cluster,
    rules: Rules,
    journal: Journal,
    connections: Connections,
    in_progress: BTreeMap<ConnectionId, InProgress>,
    purgatory: Purgatory<Waiting>,
    still: BTreeMap<ConnectionId, Still>,
    ready: VecDeque<(ConnectionId, Bytes)>,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
struct InProgress {
    context: Context,
    verdict: Verdict,
    arrived: Instant,
}

#[derive(Debug)]
enum Waiting {
    /// For its condition.
    Pending(Pending),
    /// For a delay that a rule put on the answer.
    Delayed(Answer),
    /// For the pause before the next piece of the reply that a rule takes apart.
    Dripping(Bytes),
}

/// A request at a paused broker.
#[derive(Debug)]
enum Still {
    /// It was not looked at yet.
    Unread(Bytes),
    /// It waited already.
    Parked(Parked<Waiting>),
}

impl ClusterEngine {
    /// A cluster with its topics, all brokers alive.
    ///
    /// # Errors
    ///
    /// No broker, an id twice or negative, a topic that Kafka would refuse.
    pub fn new(config: ClusterConfig, now: Instant) -> Result<Self, ConfigError> {
        let rules = Rules::with_seed(config.seed);
        Ok(Self {
            cluster: Cluster::new(config, now)?,
            rules,
            journal: Journal::default(),
            connections: Connections::default(),
            in_progress: BTreeMap::new(),
            purgatory: Purgatory::default(),
            still: BTreeMap::new(),
            ready: VecDeque::new(),
            effects: VecDeque::new(),
        })
    }

    /// A client connected to a broker. A broker that is down closes the connection at once; a
    /// paused one leaves it open, as its kernel would.
    pub fn handle_connect(&mut self, broker: BrokerId, connection: ConnectionId, now: Instant) {
        self.connections.open(connection, broker);
        self.record(broker, connection, Event::Connected, now);
        let state = self.cluster.topology().broker_state(broker);
        if matches!(state, None | Some(BrokerState::Crashed)) {
            self.close(connection, "the broker is down".into(), now);
        }
    }

    /// The client, or the network, ended a connection.
    pub fn handle_disconnect(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(broker) = self.connections.broker(connection) {
            self.forget(connection);
            self.record(broker, connection, Event::Disconnected, now);
        }
    }

    /// A frame arrived, without the four bytes of size before it.
    pub fn handle_request(&mut self, connection: ConnectionId, frame: Bytes, now: Instant) {
        match self.connections.offer(connection, frame) {
            Offer::Start(frame) => self.ready.push_back((connection, frame)),
            Offer::Waits | Offer::Dropped | Offer::Unknown => {}
            Offer::Full => {
                let reason = "too many bytes wait behind the request in progress";
                self.diagnose(connection, reason.into(), now);
                self.close(connection, reason.into(), now);
            }
        }
        self.settle(now);
    }

    /// Bytes arrived that are no frame: why is told, and the connection closed.
    pub fn handle_bad_frame(&mut self, connection: ConnectionId, reason: String, now: Instant) {
        self.diagnose(connection, reason.clone(), now);
        self.close(connection, reason.into(), now);
    }

    /// Time has come to [`next_deadline`](Self::next_deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cluster.handle_timeout(now);
        self.settle(now);
        self.expire(now);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(connection) = self.purgatory.expired(now) {
            match self.purgatory.take(connection) {
                Some(Waiting::Pending(pending)) => self.end_wait(connection, pending, now),
                Some(Waiting::Delayed(answer)) => self.emit(connection, answer, now),
                Some(Waiting::Dripping(rest)) => self.drip(connection, rest, now),
                None => {}
            }
            self.settle(now);
        }
    }

    /// The next effect, until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.purgatory.next_deadline(), self.cluster.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Makes a topic; it is there at once.
    ///
    /// # Errors
    ///
    /// A name, a number of partitions or replicas, or a configuration that Kafka would refuse; a
    /// name that is taken.
    pub fn create_topic(&mut self, topic: TopicSpec) -> Result<(), ConfigError> {
        self.cluster.create_topic(topic)
    }

    /// Deletes a topic; requests that wait for it are answered.
    ///
    /// # Errors
    ///
    /// No such topic.
    pub fn delete_topic(&mut self, topic: &str, now: Instant) -> Result<(), MoveError> {
        let known = self
            .cluster
            .topology()
            .topic_by_name(topic)
            .ok_or(MoveError::UnknownTopic)?;
        let key = known.key;
        self.cluster.delete_topic(key);
        self.settle(now);
        Ok(())
    }

    /// Makes a move of the cluster, and answers the requests that waited for it.
    ///
    /// # Errors
    ///
    /// What the cluster does not have or cannot do; nothing has changed then.
    pub fn make_move(&mut self, to_make: &Move, now: Instant) -> Result<(), MoveError> {
        self.cluster.make_move(to_make, now)?;
        match to_make {
            Move::CrashBroker { broker } => {
                for connection in self.connections.of_broker(*broker) {
                    self.close(connection, "the broker crashed".into(), now);
                }
            }
            Move::PauseBroker { broker } => {
                for connection in self.connections.of_broker(*broker) {
                    if let Some(parked) = self.purgatory.lift(connection) {
                        self.still.insert(connection, Still::Parked(parked));
                    }
                }
            }
            Move::ResumeBroker { broker } => self.resume(*broker, now),
            _ => {}
        }
        self.settle(now);
        Ok(())
    }

    /// A broker goes on with what stood still: waits whose time has passed end, requests are read.
    fn resume(&mut self, broker: BrokerId, now: Instant) {
        for connection in self.connections.of_broker(broker) {
            match self.still.remove(&connection) {
                Some(Still::Unread(frame)) => self.ready.push_back((connection, frame)),
                Some(Still::Parked(parked)) => {
                    self.purgatory.restore(connection, parked);
                    self.end_wait_if_complete(connection, now);
                }
                None => {}
            }
        }
        self.settle(now);
        self.expire(now);
    }

    /// The state of the cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What happened.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Lets the journal carry the bytes of requests, at most this many together.
    pub const fn keep_request_bytes(&mut self, bytes_max: usize) {
        self.journal.keep_request_bytes(bytes_max);
    }

    /// The fault rules.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The fault rules, to install or remove some.
    pub const fn rules_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// Whether a frame on this connection would be served at once; a driver reads on only then.
    #[must_use]
    pub fn is_idle(&self, connection: ConnectionId) -> bool {
        self.connections.is_idle(connection)
    }

    /// Panics when an invariant of a machine does not hold.
    pub fn check_invariants(&self) {
        self.cluster.check_invariants();
        self.connections.check_invariants();
        self.purgatory.check_invariants();
        let topology = self.cluster.topology();
        let paused = |connection: &ConnectionId| {
            let broker = self.connections.broker(*connection);
            broker.is_some_and(|broker| topology.is_paused(broker))
        };
        assert!(self.still.keys().all(paused), "cluster engine 4");
        for broker in topology.brokers().map(|broker| broker.endpoint.id) {
            let mut connections = self.connections.of_broker(broker).into_iter();
            let waits = connections.any(|connection| self.purgatory.waiting(connection).is_some());
            assert!(!waits || !topology.is_paused(broker), "cluster engine 4");
        }
        assert!(
            self.ready.is_empty(),
            "cluster engine 3: a frame waits for another call"
        );
    }

    /// Serves what can be served, ends what can end, until nothing changes.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(partition) = self.cluster.take_touched() {
                for connection in self.purgatory.watchers(partition) {
                    self.end_wait_if_complete(connection, now);
                }
            } else if let Some((connection, frame)) = self.ready.pop_front() {
                self.serve(connection, frame, now);
            } else {
                return;
            }
        }
    }

    fn serve(&mut self, connection: ConnectionId, frame: Bytes, now: Instant) {
        let Some(broker) = self.connections.broker(connection) else {
            return;
        };
        if self.cluster.topology().is_paused(broker) {
            self.still.insert(connection, Still::Unread(frame));
            return;
        }
        let offered = |request| api_versions::offered(self.cluster.api_limits(), broker, request);
        match request::parse(frame.clone()).and_then(offered) {
            Ok(request) => {
                let judgement = self.judge(broker, connection, &request, &frame);
                let event = Event::Request {
                    id: request_id(&request.header),
                    client_id: request.header.client_id.as_deref().map(Arc::from),
                    bytes: frame.len(),
                    verdict: judgement.verdict,
                    rule: judgement.rule,
                    frame: self.journal.request_bytes(&frame),
                };
                self.record(broker, connection, event, now);
                let Judgement { verdict, scope, .. } = judgement;
                let injection = Injection::new(verdict, scope);
                let context = Context {
                    header: request.header,
                    broker,
                    injection,
                };
                let in_progress = InProgress {
                    context,
                    verdict,
                    arrived: now,
                };
                self.start(connection, in_progress, request.body, now);
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                self.diagnose(connection, reason.clone(), now);
                self.close(connection, reason.into(), now);
            }
        }
    }

    fn judge(
        &mut self,
        broker: BrokerId,
        connection: ConnectionId,
        request: &Request,
        frame: &Bytes,
    ) -> Judgement {
        let (topics, producer_ids) = if self.rules.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            let topics = targets::of(&self.cluster, request);
            (topics, targets::producer_ids(request))
        };
        let targets: Vec<Target<'_>> = topics
            .iter()
            .map(|(topic, partition)| Target {
                topic,
                partition: *partition,
            })
            .collect();
        self.rules.judge(&RequestFacts {
            api: request.header.api,
            version: request.header.version,
            broker,
            connection,
            correlation_id: request.header.correlation_id,
            client_id: request.header.client_id.as_deref(),
            targets: &targets,
            producer_ids: &producer_ids,
            transactional_id: targets::transactional_id(request),
            frame,
        })
    }

    fn start(
        &mut self,
        connection: ConnectionId,
        in_progress: InProgress,
        body: RequestBody,
        now: Instant,
    ) {
        let verdict = in_progress.verdict;
        let context = in_progress.context.clone();
        self.in_progress.insert(connection, in_progress);
        match verdict {
            Verdict::Swallow => self.silence(connection, Silence::Swallowed, now),
            Verdict::CloseBefore => self.close(connection, "a fault rule".into(), now),
            Verdict::ResetBefore => self.reset(connection, now),
            _ => {
                let answer = handle(&mut self.cluster, &context, body, now);
                self.take_notes(connection, now);
                self.deliver(connection, answer, now);
            }
        }
    }

    fn end_wait_if_complete(&mut self, connection: ConnectionId, now: Instant) {
        let Some(Waiting::Pending(pending)) = self.purgatory.waiting(connection) else {
            return;
        };
        let in_progress = self.in_progress.get(&connection);
        let complete = in_progress
            .is_some_and(|in_progress| pending.is_complete(&self.cluster, &in_progress.context));
        if complete && let Some(Waiting::Pending(pending)) = self.purgatory.take(connection) {
            self.end_wait(connection, pending, now);
        }
    }

    fn end_wait(&mut self, connection: ConnectionId, pending: Pending, now: Instant) {
        if let Some(in_progress) = self.in_progress.get(&connection) {
            let answer = pending.answer(&self.cluster, &in_progress.context);
            self.deliver(connection, answer, now);
        }
    }

    /// A wait whose time has come already ends at once.
    fn park(&mut self, connection: ConnectionId, wait: Wait, now: Instant) {
        if wait.deadline <= now {
            self.end_wait(connection, wait.pending, now);
        } else {
            let waiting = Waiting::Pending(wait.pending);
            self.purgatory
                .park(connection, waiting, wait.watched, wait.deadline);
        }
    }

    /// An answer is there; the rule's verdict decides what becomes of it.
    fn deliver(&mut self, connection: ConnectionId, answer: Answer, now: Instant) {
        let Some(in_progress) = self.in_progress.get(&connection) else {
            return;
        };
        match (answer, in_progress.verdict) {
            (Answer::Wait(wait), _) => self.park(connection, wait, now),
            (_, Verdict::ApplyThenLose) => self.silence(connection, Silence::Lost, now),
            (_, Verdict::CloseAfter) => self.close(connection, "a fault rule".into(), now),
            (_, Verdict::ResetAfter) => self.reset(connection, now),
            // There is no reply that could be cut.
            (Answer::Silent, Verdict::CutAfter(_)) => {
                self.close(connection, "a fault rule".into(), now);
            }
            (answer, Verdict::Delay(delay)) if in_progress.arrived + delay > now => {
                let due = in_progress.arrived + delay;
                self.purgatory
                    .park(connection, Waiting::Delayed(answer), Vec::new(), due);
            }
            (answer, _) => self.emit(connection, answer, now),
        }
    }

    fn emit(&mut self, connection: ConnectionId, answer: Answer, now: Instant) {
        match answer {
            Answer::Reply(reply) => self.emit_reply(connection, &reply, now),
            Answer::Silent => {
                if let Some(in_progress) = self.in_progress.remove(&connection) {
                    let Context { header, broker, .. } = in_progress.context;
                    let (id, reason) = (request_id(&header), Silence::NotAsked);
                    self.record(broker, connection, Event::NoReply { id, reason }, now);
                    self.finish(connection);
                }
            }
            Answer::Stuck => self.silence(connection, Silence::Stuck, now),
            Answer::Close(reason) => self.close(connection, reason, now),
            Answer::Wait(wait) => self.park(connection, wait, now),
        }
    }

    fn emit_reply(&mut self, connection: ConnectionId, reply: &Reply, now: Instant) {
        let Some(in_progress) = self.in_progress.get(&connection) else {
            return;
        };
        let Context { header, broker, .. } = &in_progress.context;
        let (id, broker, verdict) = (request_id(header), *broker, in_progress.verdict);
        let frame = match reply.encode(header) {
            Ok(frame) => frame,
            Err(error) => {
                self.diagnose(connection, error.to_string(), now);
                return self.close(connection, error.to_string().into(), now);
            }
        };
        if let Verdict::CutAfter(bytes) = verdict
            && bytes < SIZE_BYTES + frame.len()
        {
            let reason = Silence::Cut;
            self.record(broker, connection, Event::NoReply { id, reason }, now);
            let bytes = sized(&frame).split_to(bytes);
            if !bytes.is_empty() {
                self.effects.push_back(Effect::Piece { connection, bytes });
            }
            return self.close(connection, "a fault rule".into(), now);
        }
        let event = Event::Reply {
            id,
            bytes: frame.len(),
            codes: reply.codes(),
        };
        self.record(broker, connection, event, now);
        if let Verdict::Drip { .. } = verdict {
            return self.drip(connection, sized(&frame), now);
        }
        self.effects.push_back(Effect::Reply { connection, frame });
        match verdict {
            Verdict::CutAfter(_) => self.close(connection, "a fault rule".into(), now),
            _ => self.end(connection),
        }
    }

    /// The next piece of a reply; the last one ends the request.
    fn drip(&mut self, connection: ConnectionId, mut rest: Bytes, now: Instant) {
        let in_progress = self.in_progress.get(&connection);
        let Some(Verdict::Drip { piece_bytes, pause }) = in_progress.map(|request| request.verdict)
        else {
            return;
        };
        let bytes = rest.split_to(piece_bytes.clamp(1, rest.len()));
        self.effects.push_back(Effect::Piece { connection, bytes });
        if rest.is_empty() {
            self.end(connection);
        } else {
            self.purgatory
                .park(connection, Waiting::Dripping(rest), Vec::new(), now + pause);
        }
    }

    fn end(&mut self, connection: ConnectionId) {
        self.in_progress.remove(&connection);
        self.finish(connection);
    }

    fn finish(&mut self, connection: ConnectionId) {
        if let Some(frame) = self.connections.finish(connection) {
            self.ready.push_back((connection, frame));
        }
    }

    /// Leaves the request without an end: the connection answers nothing more.
    fn silence(&mut self, connection: ConnectionId, reason: Silence, now: Instant) {
        if let Some(in_progress) = self.in_progress.remove(&connection) {
            let Context { header, broker, .. } = in_progress.context;
            let id = request_id(&header);
            self.record(broker, connection, Event::NoReply { id, reason }, now);
        }
        self.connections.mute(connection);
    }

    fn close(&mut self, connection: ConnectionId, reason: Arc<str>, now: Instant) {
        self.break_off(Effect::Close { connection }, reason, now);
    }

    fn reset(&mut self, connection: ConnectionId, now: Instant) {
        let reason = "a fault rule resets it".into();
        self.break_off(Effect::Reset { connection }, reason, now);
    }

    fn break_off(&mut self, end: Effect, reason: Arc<str>, now: Instant) {
        let connection = end.connection();
        if let Some(broker) = self.connections.broker(connection) {
            self.forget(connection);
            self.record(broker, connection, Event::Closed { reason }, now);
            self.effects.push_back(end);
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.connections.close(connection);
        self.in_progress.remove(&connection);
        self.purgatory.take(connection);
        self.still.remove(&connection);
        self.ready.retain(|(other, _)| *other != connection);
    }

    fn take_notes(&mut self, connection: ConnectionId, now: Instant) {
        for note in self.cluster.take_notes() {
            self.diagnose(connection, note, now);
        }
    }

    fn diagnose(&mut self, connection: ConnectionId, text: String, now: Instant) {
        self.journal.diagnose(text, Some(connection), now);
    }

    fn record(&mut self, broker: BrokerId, connection: ConnectionId, event: Event, now: Instant) {
        self.journal.record(Entry {
            at: now,
            broker,
            connection,
            event,
        });
    }
}

const fn request_id(header: &request::RequestHeader) -> RequestId {
    RequestId {
        api: header.api,
        version: header.version,
        correlation_id: header.correlation_id,
    }
}
