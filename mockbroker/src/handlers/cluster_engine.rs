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
//! *Not here* what requests do: one file per API beside this one; how they end
//! (`cluster_engine/answering.rs`); how connections come and go (`cluster_engine/connecting.rs`);
//! planned moves (`cluster_engine/planning.rs`); snapshots (`cluster_engine/snapshots.rs`).

mod answering;
mod connecting;
mod planning;
mod snapshots;
mod throttling;

pub use snapshots::{OtherBrokers, Snapshot};

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Context, Injection, Pending, api_versions, handle, targets};
use crate::config::ConfigError;
use crate::engine::connections::{Connections, Offer};
use crate::engine::effect::{BrokerId, ConnectionId, Effect};
use crate::engine::idle::IdleWatch;
use crate::engine::journal::{Event, Journal, RequestId, Silence};
use crate::engine::moments::Moments;
use crate::engine::plan::Plan;
use crate::engine::purgatory::{Parked, Purgatory};
use crate::engine::time::Instant;
use crate::engine::{Cluster, ClusterConfig, Move, MoveError, TopicSpec};
use crate::fault::{Judgement, RequestFacts, Rules, Target, Verdict};
use crate::wire::request::{self, Request, RequestBody};

/// A whole cluster as one value: requests in, effects out, time as an argument. A clone of it goes
/// on by itself, connections and waiting requests included.
///
/// Events come in through `handle_*`; after each, [`poll_effect`](Self::poll_effect) is called
/// until it has nothing more, and [`handle_timeout`](Self::handle_timeout) is due at
/// [`next_deadline`](Self::next_deadline). `now` never falls.
#[derive(Clone, Debug)]
pub struct ClusterEngine {
    cluster: Cluster,
    rules: Rules,
    journal: Journal,
    connections: Connections,
    idle: IdleWatch,
    in_progress: BTreeMap<ConnectionId, InProgress>,
    purgatory: Purgatory<Waiting>,
    still: BTreeMap<ConnectionId, Still>,
    ready: VecDeque<(ConnectionId, Bytes)>,
    effects: VecDeque<Effect>,
    plan: Plan,
}

#[derive(Clone, Debug)]
struct InProgress {
    context: Context,
    verdict: Verdict,
    arrived: Instant,
    frame_bytes: usize,
    /// For how long the connection is silent once the answer is there.
    throttle: Duration,
}

#[derive(Clone, Debug)]
enum Waiting {
    /// For its condition.
    Pending(Pending),
    /// For a delay that a rule put on the answer.
    Delayed(Answer),
    /// For the pause before the next piece of the reply that a rule takes apart.
    Dripping(Bytes),
    /// For the end of a throttle: it is answered.
    Throttled,
}

/// A request at a paused broker.
#[derive(Clone, Debug)]
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
        let seed = config.seed;
        Ok(Self::around(Cluster::new(config, now)?, seed))
    }

    /// A cluster that nobody is connected to, with fault rules that draw from `seed`.
    fn around(cluster: Cluster, seed: u64) -> Self {
        Self {
            idle: IdleWatch::new(cluster.config().connections_max_idle()),
            cluster,
            rules: Rules::with_seed(seed),
            journal: Journal::default(),
            connections: Connections::default(),
            in_progress: BTreeMap::new(),
            purgatory: Purgatory::default(),
            still: BTreeMap::new(),
            ready: VecDeque::new(),
            effects: VecDeque::new(),
            plan: Plan::default(),
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
            Offer::FullInAll => {
                let bytes_max = self.connections.held_bytes_max();
                let reason = format!("the requests of all connections have {bytes_max} bytes");
                self.diagnose(connection, reason.clone(), now);
                self.close(connection, reason.into(), now);
            }
        }
        self.settle(now);
    }

    /// Time has come to [`next_deadline`](Self::next_deadline).
    ///
    /// What replicas learn and what the plan does to them at the same instant are threads of a
    /// broker in Kafka, and so is who looks whether a request is complete: it may look last, and
    /// find the watermark passed and the ISR too small since (20). Here it does.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cluster.handle_timeout(now);
        self.make_due_moves(now);
        self.settle(now);
        self.expire(now);
        self.close_idle(now);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(connection) = self.purgatory.expired(now) {
            let waiting = self.purgatory.take(connection);
            let silent = matches!(
                waiting,
                Some(Waiting::Throttled | Waiting::Delayed(Answer::Silent))
            );
            match waiting {
                Some(Waiting::Pending(pending)) => self.end_wait(connection, pending, now),
                Some(Waiting::Delayed(answer)) => self.emit(connection, answer, now),
                Some(Waiting::Dripping(rest)) => self.drip(connection, rest, now),
                Some(Waiting::Throttled) => self.end(connection, now),
                None => {}
            }
            if silent && self.connections.is_idle(connection) {
                self.effects.push_back(Effect::ReadOn { connection });
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
        let deadlines = [
            self.purgatory.next_deadline(),
            self.cluster.next_deadline(),
            self.idle.next_deadline(),
            self.plan.next_deadline(),
        ];
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
        for note in self.cluster.take_notes() {
            self.journal.diagnose(note, None, now);
        }
        match to_make {
            Move::CrashBroker { broker } => {
                for connection in self.connections.of_broker(*broker) {
                    self.close(connection, "the broker crashed".into(), now);
                }
            }
            Move::PauseBroker { broker } => {
                for connection in self.connections.of_broker(*broker) {
                    self.idle.hold(connection);
                    if let Some(parked) = self.purgatory.lift(connection) {
                        self.still.insert(connection, Still::Parked(parked));
                    }
                }
            }
            Move::ResumeBroker { broker } => self.resume(*broker, now),
            _ => {}
        }
        self.cluster.advance_transactions(now);
        self.settle(now);
        Ok(())
    }

    /// A broker goes on with what stood still: waits whose time has passed end, requests are read.
    fn resume(&mut self, broker: BrokerId, now: Instant) {
        for connection in self.connections.of_broker(broker) {
            self.idle.release(connection);
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

    /// Who coordinates a transactional id; `None` while no broker lives.
    pub fn coordinator_of(&mut self, transactional_id: &str) -> Option<BrokerId> {
        self.cluster.transaction_coordinator(transactional_id)
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

    /// Chooses whether answers that Kafka gives for a moment only are given from now on.
    pub fn show_moments(&mut self, moments: Moments) {
        self.cluster.show_moments(moments);
    }

    /// Bounds the bytes of all logs together; a batch beyond it is answered with 56.
    pub const fn bound_log_bytes(&mut self, bytes_max: u64) {
        self.cluster.bound_log_bytes(bytes_max);
    }

    /// Bounds the producers of all partitions together; the batch of a new one beyond it is
    /// answered with -1.
    pub const fn bound_producers(&mut self, count_max: usize) {
        self.cluster.bound_producers(count_max);
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
        self.check_idle();
        self.purgatory.check_invariants();
        self.plan.check_invariants();
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
                self.cluster.advance_markers_for(partition, now);
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
        self.idle.on_traffic(connection, now);
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
                    frame_bytes: frame.len(),
                    injection,
                };
                let in_progress = InProgress {
                    context,
                    verdict,
                    arrived: now,
                    frame_bytes: frame.len(),
                    throttle: Duration::ZERO,
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
            let topics = targets::of(self.cluster.known_to(broker), request);
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
}

const fn request_id(header: &request::RequestHeader) -> RequestId {
    RequestId {
        api: header.api,
        version: header.version,
        correlation_id: header.correlation_id,
    }
}
