//! The producer's state machines, pure: inputs in, actions out, time as an argument.
//!
//! | File | Owns |
//! |---|---|
//! | `effect` | the seam: inputs, actions, the port to the queues |
//! | `queue`, `batch` | records not yet sent; a batch's three lives |
//! | `partition` | a partition's batches after the queue, and their order of completion |
//! | `partition_map` | what is kept by partition |
//! | `ledger` | a partition's batches in the order of its queue, until each is completed |
//! | `sequence` | the producer id; each partition's run of sequences |
//! | `ratio` | how small a topic's records are expected to become |
//! | `drain` | which partitions are ready at which broker, and whose turn it is |
//! | `in_flight` | what is on which connection, in which order, since when |
//! | `verdict` | what an answer means |
//! | `asked_again` | a partition's batches whose outcome is asked for |
//! | `metadata`, `brokers` | topics and leaders; nodes and their connections |
//! | `transaction`, `participants` | one transaction after the other; what is part of the open one |
//! | `coordinators`, `transaction_codes` | whom to ask; what the answers mean |
//! | `backoff`, `time` | waits; every deadline |
//! | `report` | what happened, for whoever counts and logs |
//! | `links`, `asking` | the engine's own steps: connections, questions |
//! | `compressing` | the engine's own steps: batches that are compressed |
//! | `transacting` | the engine's own steps: batches within transactions |
//! | `transaction_questions`, `transaction_answers` | the engine's own steps: whom to ask, what follows |
//! | `delivery`, `settlement` | the engine's own steps: batches that go, batches that come back |
//! | `resolving` | the engine's own steps: batches whose outcome is asked for |
//!
//! How to drive it: [`Engine::handle_input`] for what happened, [`Engine::handle_timeout`] when
//! [`Engine::next_deadline`] has come, and after either [`Engine::poll_action`] until it says
//! `None`. Time never goes back.
//!
//! *Invariants*
//! 1. Between two polls that ended with `None`, nothing is due but what [`Engine::next_deadline`]
//!    says.
//! 2. The same inputs at the same times with the same seed give the same actions.

mod asked_again;
mod asking;
mod backoff;
pub mod batch;
mod brokers;
mod compressing;
pub mod config;
mod coordinators;
mod delivery;
mod drain;
pub mod effect;
mod in_flight;
mod ledger;
mod links;
mod metadata;
mod participants;
pub(crate) mod partition;
mod partition_map;
pub mod queue;
pub mod ratio;
pub mod report;
mod resolving;
mod sequence;
mod settlement;
pub mod time;
mod transacting;
pub mod transaction;
mod transaction_answers;
mod transaction_codes;
mod transaction_questions;
pub(crate) mod verdict;

#[cfg(test)]
mod scenario;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::backoff::BackOff;
use crate::engine::brokers::{Brokers, NodeKey};
pub use crate::engine::config::{EngineConfig, Idempotence, TransactionsConfig};
use crate::engine::drain::{Drain, Urging};
use crate::engine::effect::{Action, CompressionId, Input, Queues, TopicView};
use crate::engine::in_flight::InFlight;
use crate::engine::metadata::Metadata;
use crate::engine::partition::Partition;
use crate::engine::partition_map::{PartitionMap, PartitionSet};
use crate::engine::ratio::RatioEstimate;
use crate::engine::report::Report;
use crate::engine::sequence::Identity;
use crate::engine::time::{Deadline, Deadlines, Instant};
use crate::engine::transacting::Transacting;
use crate::types::{TopicIndex, TopicPartition};

/// The client's whole logic below the API, owned by the driver alone.
#[derive(Debug)]
pub struct Engine<C> {
    config: EngineConfig,
    rng: fastrand::Rng,
    retry_backoff: BackOff,
    reconnect_backoff: BackOff,
    /// How long connecting may take; grows by the same law (KIP-601).
    setup_timeout: BackOff,
    deadlines: Deadlines,
    metadata: Metadata,
    brokers: Brokers,
    in_flight: InFlight<C>,
    identity: Identity,
    /// With a transactional id only.
    transacting: Option<Box<Transacting>>,
    partitions: PartitionMap<Partition<C>>,
    drain: Drain,
    next_compression: u64,
    /// Batches that are compressed, with their bytes before.
    compressing: BTreeMap<CompressionId, (TopicPartition, usize)>,
    ratios: BTreeMap<TopicIndex, RatioEstimate>,
    /// Topics whose estimate the queues have not been told.
    ratios_changed: BTreeSet<TopicIndex>,
    /// Partitions whose queue may hold something.
    queued: PartitionSet,
    /// Partitions to look at again before anything is sent.
    touched: PartitionSet,
    urging: Urging,
    mode: Mode,
    /// Whether something happened since it was last looked at what is to be done.
    stirred: bool,
    actions: VecDeque<Action<C>>,
}

/// Whether batches are delivered or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Delivering,
    Aborting,
}

impl<C> Engine<C> {
    /// An engine that knows no topic and no broker yet.
    #[must_use]
    pub fn new(config: EngineConfig, _now: Instant) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(config.seed),
            retry_backoff: BackOff::new(config.retry_backoff, config.retry_backoff_max),
            reconnect_backoff: BackOff::new(config.reconnect_backoff, config.reconnect_backoff_max),
            setup_timeout: BackOff::new(
                config.connection_setup_timeout,
                config.connection_setup_timeout_max,
            ),
            deadlines: Deadlines::default(),
            metadata: Metadata::new(),
            brokers: Brokers::new(&config.bootstrap),
            in_flight: InFlight::new(),
            identity: match config.transactions {
                Some(_) => Identity::Coordinated(None),
                None => Identity::new(config.idempotence),
            },
            transacting: config
                .transactions
                .clone()
                .map(|transactions| Box::new(Transacting::new(transactions))),
            partitions: PartitionMap::default(),
            drain: Drain::new(config.hold_bytes),
            next_compression: 0,
            compressing: BTreeMap::new(),
            ratios: BTreeMap::new(),
            ratios_changed: BTreeSet::new(),
            queued: PartitionSet::default(),
            touched: PartitionSet::default(),
            urging: Urging::default(),
            mode: Mode::Delivering,
            stirred: true,
            actions: VecDeque::new(),
            config,
        }
    }

    /// Takes in what happened. An input about a connection that is gone changes nothing.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        // A request that expects an answer is not over when it is written.
        self.stirred |= !matches!(input, Input::Written { .. });
        match input {
            Input::TopicWanted { topic, name } => {
                if self.metadata.want(topic, name, now) {
                    self.actions.push_back(Action::TopicChanged { topic });
                }
            }
            Input::Queued { partition } => {
                let topic = partition.topic;
                if self.metadata.on_used(topic, now) {
                    self.actions.push_back(Action::TopicChanged { topic });
                }
                self.queued.insert(partition);
                self.touched.insert(partition);
                self.on_used_in_transaction(partition);
            }
            Input::Compressed { id, batch } => self.on_compressed(id, batch, now),
            Input::DrainRequested => {
                self.urging.drain_requested_at = Some(now);
                self.touched.extend(self.queued.iter());
            }
            Input::Awaited => {
                self.urging.awaited_at = Some(now);
                self.touched.extend(self.queued.iter());
            }
            Input::Asked { id, ask } => self.on_asked(id, ask, now),
            Input::RecordRefused { reason } => self.on_record_refused(reason),
            Input::Closing => self.on_closing(now),
            Input::AbortRequested => {
                self.mode = Mode::Aborting;
                self.on_given_up();
            }
            Input::Connected { connection } => self.on_connected(connection, now),
            Input::ConnectFailed { connection, reason } => {
                self.on_connect_failed(connection, &reason, now);
            }
            Input::Written {
                connection,
                correlation_id,
            } => {
                self.on_written(connection, correlation_id, now);
            }
            Input::Received { connection, frame } => self.on_received(connection, &frame, now),
            Input::Disconnected {
                connection,
                untouched_from,
                reason,
            } => {
                self.on_disconnected(connection, untouched_from, reason, now);
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(deadline) = self.deadlines.pop_due(now) {
            self.stirred = true;
            match deadline {
                Deadline::Node(key) => self.on_node_deadline(key, now),
                Deadline::Request(connection) => self.on_request_deadline(connection, now),
                Deadline::Idle(connection) => self.on_idle_deadline(connection, now),
                Deadline::Partition(partition) => {
                    self.touched.insert(partition);
                }
                // Whether to ask is looked at in each poll.
                Deadline::Metadata
                | Deadline::Rebootstrap
                | Deadline::ProducerId
                | Deadline::Transaction => {}
            }
        }
    }

    /// The next thing to do; ask until `None` after every input and time-out.
    pub fn poll_action(
        &mut self,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) -> Option<Action<C>> {
        if self.actions.is_empty() && self.stirred {
            match self.mode {
                Mode::Delivering => self.advance(queues, now),
                Mode::Aborting => self.abort(queues),
            }
        }
        self.actions.pop_front()
    }

    /// Whether [`Engine::poll_action`] may have something to do.
    #[must_use]
    pub fn is_stirred(&self) -> bool {
        self.stirred || !self.actions.is_empty()
    }

    /// When [`Engine::handle_timeout`] must be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// How many bytes must be sealed before anything goes that goes without one of the other
    /// inputs or a deadline; `usize::MAX` while no broker takes another request. Sealing less, or
    /// opening a batch, need not be told before then.
    #[must_use]
    pub fn lacking_bytes(&self) -> usize {
        let has_room = |broker| {
            let node = self.brokers.ready(NodeKey::Broker(broker));
            node.is_none_or(|node| self.has_room(&node))
        };
        match self.in_flight.total() {
            0 => 0,
            // Compressing needs no broker's room.
            _ if self.compresses() => 0,
            _ => self.drain.lacking_bytes(has_room),
        }
    }

    /// What is known of a topic.
    #[must_use]
    pub fn topic(&self, topic: TopicIndex) -> TopicView {
        self.metadata.view(topic)
    }

    /// Requests sent and not yet answered, on all connections.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.in_flight.total()
    }

    /// Panics if an invariant is broken: a bug of this crate.
    pub fn check_invariants(&self) {
        self.brokers.check_invariants();
        self.drain.check_invariants();
        for partition in self.partitions.values() {
            partition.check_invariants();
        }
        for (connection, entry) in self.in_flight.batches() {
            let Some(tracked) = &entry.batch else {
                continue;
            };
            let place = self
                .partitions
                .get(&entry.partition)
                .and_then(|partition| partition.wire_place(tracked.number));
            let known = place.map(|place| place.connection);
            assert_eq!(
                known,
                Some(connection),
                "in flight 3: each batch knows its connection"
            );
        }
    }

    /// Whether no transaction is open or ending.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.transacting.as_ref().is_none_or(|one| one.is_settled())
    }

    fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }

    fn advance(&mut self, queues: &mut impl Queues<Completion = C>, now: Instant) {
        self.fail_without_identity(queues, now);
        self.ask(now);
        self.tell_ratios(queues);
        loop {
            while let Some(partition) = self.touched.pop_first() {
                self.evaluate(partition, queues, now);
            }
            if !self.send_ready(queues, now) {
                break;
            }
        }
        self.transact(now);
        // Looking at partitions may have shown that leaders are missing.
        self.ask(now);
        self.retire_bootstrap();
        // What asking and transactions brought is looked at once more.
        let transacted = self.transacting.is_some() && !self.actions.is_empty();
        self.stirred = transacted || !self.touched.is_empty();
    }
}
