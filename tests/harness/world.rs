//! Level 1: producers and a cluster as pure engines, joined by simulated links, under virtual time.
//!
//! *Invariants*
//! 1. One call of [`World::step`] handles one event and lets everything that follows at once
//!    happen; then time jumps to the next event.
//! 2. After every step the invariants are checked of each engine that did something in it.
//! 3. The seed decides everything: equal seeds and equal calls give equal traces.
//!
//! *Not here*: what must hold in the end (`oracle.rs`), which faults come when (`faults.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::engine::effect as broker;
use kafka_mockbroker::engine::journal::Event;
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::engine::time::Instant as BrokerInstant;
use kafka_mockbroker::handlers::ClusterEngine;
use kafka_mockbroker::{Api, RuleId};
use kafka_producer::Acks;
use kafka_producer::engine::effect::Input;
use kafka_producer::engine::time::Instant;

use crate::acting::Flushes;
use crate::capture;
use crate::client::{Client, Outgoing, SendNumber};
use crate::driving::Mailbox;
use crate::history::transactions::{Epochs, Transactions};
use crate::history::{
    Content, Durability, History, Leftovers, Liveness, LogEntry, Partition, Placed, Promises,
    SendOp,
};
use crate::link::{Arrival, Arriving, End, LinkId, Links};
use crate::readers::Readers;
use crate::setting::Setting;
use crate::tap::{Tap, Wire};
use crate::trace::Trace;
use crate::traps::{Traps, When};
use crate::worker::Upgrade;
use crate::working::Workshop;

/// A producer's number in its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientNumber(pub usize);

/// Whether any partition has lost its leader in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaders {
    /// No broker crashed and no leader was moved.
    Kept,
    /// One of that happened.
    Lost,
}

/// The engines that did something since their invariants were checked.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) cluster: bool,
    pub(crate) clients: BTreeSet<ClientNumber>,
}

/// Producers, links and a cluster at one instant.
#[derive(Debug)]
pub struct World {
    pub(crate) setting: Setting,
    pub(crate) now: Duration,
    pub(crate) cluster: ClusterEngine,
    pub(crate) links: Links,
    pub(crate) clients: Vec<Client>,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) owners: BTreeMap<LinkId, ClientNumber>,
    /// What has left of replies that leave in pieces, their size included.
    pub(crate) pieces: BTreeMap<LinkId, Vec<u8>>,
    /// Brokers that refuse connections, and until when.
    pub(crate) refusing: BTreeMap<i32, Duration>,
    /// Brokers to which no byte leaves, and until when.
    pub(crate) clogged: BTreeMap<i32, Duration>,
    pub(crate) sends: Vec<SendOp>,
    pub(crate) open_count: usize,
    pub(crate) flushes: Flushes,
    pub(crate) readers: Readers,
    pub(crate) tap: Tap,
    pub(crate) leaders: Leaders,
    pub(crate) resolved_count: usize,
    steps_at_now: usize,
    pub(crate) touched: Touched,
    pub(crate) rules: Vec<RuleId>,
    pub(crate) liveness: Option<Liveness>,
    pub(crate) workshop: Workshop,
    pub(crate) traps: Traps,
    trace: Trace,
}

impl World {
    /// A world at its start: nothing is connected, nothing sent.
    ///
    /// # Panics
    ///
    /// When the cluster refuses its configuration.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let cluster = ClusterEngine::new(setting.cluster_config(), BrokerInstant::ZERO)
            .expect("the cluster's configuration is allowed");
        let client = |number| {
            Client::new(
                setting.engine_config(number),
                setting.batch_bytes,
                setting.memory_bytes,
                Instant::ZERO,
            )
        };
        let mut world = Self {
            clients: (0..setting.producers).map(client).collect(),
            mailboxes: (0..setting.producers).map(|_| Mailbox::default()).collect(),
            links: Links::new(setting.latency, setting.seed),
            now: Duration::ZERO,
            owners: BTreeMap::new(),
            pieces: BTreeMap::new(),
            refusing: BTreeMap::new(),
            clogged: BTreeMap::new(),
            sends: Vec::new(),
            open_count: 0,
            flushes: Flushes::default(),
            readers: Readers::default(),
            tap: Tap::new(capture::topics(&cluster), &setting),
            leaders: Leaders::Kept,
            resolved_count: 0,
            steps_at_now: 0,
            touched: Touched::default(),
            rules: Vec::new(),
            liveness: None,
            workshop: Workshop::default(),
            traps: Traps::default(),
            trace: Trace::new(setting.tracing),
            cluster,
            setting,
        };
        let level = world.setting.transactions.as_ref().map(|one| one.level);
        if let Some(level) = level.filter(|level| *level < FRESH_LEVEL) {
            world.make_move(Move::SetTransactionVersion { level });
        }
        world.open_workshop();
        world
    }

    /// The time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What happened, line by line.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, says: impl fmt::Display) {
        self.trace.note(says, self.now);
    }

    /// Hands a record to a producer.
    pub fn send_from(&mut self, client: ClientNumber, record: Outgoing) {
        let now = self.producer_now();
        self.clients[client.0].offer(record, now);
        self.touched.clients.insert(client);
        self.call(client);
    }

    /// Milliseconds since 1970, as this world's clocks tell.
    #[must_use]
    pub fn wall_clock_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.now.as_millis()).expect("a run is short");
        Setting::WALL_CLOCK_ORIGIN_MS + elapsed
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterEngine {
        &self.cluster
    }

    /// How many requests of an API brokers have taken up.
    #[must_use]
    pub fn requests(&self, api: Api) -> usize {
        let entries = self.cluster.journal().entries();
        let of_api = |event: &Event| matches!(event, Event::Request { id, .. } if id.api == api);
        entries.filter(|entry| of_api(&entry.event)).count()
    }

    /// Asks a producer to send all it holds now, as its flush does, and notes when all of it has
    /// ended.
    pub fn flush(&mut self, client: ClientNumber) {
        self.flush_called(client);
        self.hear(client, Input::DrainRequested);
        self.call(client);
    }

    /// Sends that were accepted and are not resolved, and those that wait to be accepted.
    #[must_use]
    pub fn open_count(&self) -> usize {
        let waiting: usize = self.clients.iter().map(Client::waiting_count).sum();
        waiting + self.open_count
    }

    /// When the last throttle ends that a producer was told.
    #[must_use]
    pub fn muted_until(&self) -> Duration {
        self.tap.muted_until()
    }

    /// Every accepted send so far.
    #[must_use]
    pub fn sends(&self) -> &[SendOp] {
        &self.sends
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        let clients = self.numbers().filter_map(|client| self.looks_at(client));
        let cluster = self.cluster.next_deadline();
        let cluster = cluster.map(|at| Duration::from_nanos(at.as_nanos()));
        let unclog = self.clogged.values().min().copied();
        clients
            .chain(cluster)
            .chain(self.links.next_at())
            .chain(unclog)
            .chain(self.workshop.next_at())
            .chain(self.traps.next_at())
            .min()
    }

    /// Handles the next event; `false` when there is none.
    ///
    /// # Panics
    ///
    /// When an engine's invariant breaks, or one keeps asking for the same instant.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_at() else {
            return false;
        };
        self.advance(at);
        if let Some(arrival) = self.links.poll(self.now) {
            self.arrive(arrival);
        } else {
            self.unclog();
            let now = self.broker_now();
            if self.cluster.next_deadline().is_some_and(|due| due <= now) {
                self.cluster.handle_timeout(now);
                self.drive_cluster();
            }
            self.numbers()
                .for_each(|client| self.look_if_called(client));
            self.revive();
            self.work_if_due();
        }
        self.check_invariants();
        true
    }

    /// Handles every event up to `until`, and moves the clock there.
    pub fn run_until(&mut self, until: Duration) {
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// The whole run, for the judge.
    #[must_use]
    pub fn history(&self) -> History {
        let durability = match (self.setting.acks, self.leaders) {
            (Acks::All, _) | (Acks::Leader, Leaders::Kept) => Durability::Kept,
            (Acks::Leader, Leaders::Lost) | (Acks::None, _) => Durability::MayBeLost,
        };
        History {
            promises: Promises {
                durability,
                idempotent: self.setting.is_idempotent(),
                ordered: self.setting.is_ordered(),
                in_flight_max: self.setting.in_flight_max,
                // The delivery time-out and that of a question behind it may each be seen late.
                resolved_within: self.setting.resolved_within()
                    + self.setting.lateness.max * 2
                    + SCHEDULER_TICK,
                liveness: self.liveness,
            },
            sends: self.sends.clone(),
            logs: self.logs(),
            wire: self.tap.batches().to_vec(),
            in_flight_most: self.tap.in_flight_most(),
            flushes: self.flushes.all(),
            reads: self.readers.reads().to_vec(),
            visible: self.readers.visible().to_vec(),
            events: self.tap.events().to_vec(),
            transactions: self.transactions(),
            left: (self.open_count() == 0).then(|| self.left()),
        }
    }

    /// What happened in transactions; nothing, where nobody has a transactional id.
    fn transactions(&self) -> Transactions {
        let Some(bracketing) = &self.setting.transactions else {
            return Transactions::default();
        };
        let one_each = bracketing.level == FRESH_LEVEL && bracketing.upgrade == Upgrade::Never;
        Transactions {
            instances: self.workshop.instances.clone(),
            all: self.workshop.all.clone(),
            epochs: match one_each {
                true => Epochs::OnePerTransaction,
                false => Epochs::Shared,
            },
            markers: capture::markers(&self.cluster),
            ends: capture::ends(&self.cluster),
            unfinished: capture::unfinished(&self.cluster),
            offsets_seen: self.workshop.offsets_seen.clone(),
            copying: self.copying().cloned(),
            sums: self.workshop.sums.clone(),
        }
    }

    /// What settled batches still hold; connections and tasks are the shell's.
    fn left(&self) -> Leftovers {
        let used = self.clients.iter().map(Client::memory_used_bytes);
        Leftovers {
            memory_bytes: used.sum(),
            ..Leftovers::default()
        }
    }

    fn logs(&self) -> BTreeMap<Partition, Vec<LogEntry>> {
        let mut logs = capture::logs(&self.cluster);
        if let Some(defect) = self.setting.defect {
            logs.values_mut().for_each(|log| defect.on_log(log));
        }
        logs
    }

    fn numbers(&self) -> impl Iterator<Item = ClientNumber> + use<> {
        (0..self.clients.len()).map(ClientNumber)
    }

    fn advance(&mut self, at: Duration) {
        self.steps_at_now = if at > self.now {
            0
        } else {
            self.steps_at_now + 1
        };
        self.now = self.now.max(at);
        let stuck = self.steps_at_now > STEPS_AT_ONE_INSTANT_MAX;
        assert!(
            !stuck,
            "time stands still at {:?}\n{}",
            self.now, self.trace
        );
    }

    fn check_invariants(&mut self) {
        let Touched { cluster, clients } = std::mem::take(&mut self.touched);
        if cluster {
            self.cluster.check_invariants();
        }
        for client in clients {
            self.clients[client.0].engine.check_invariants();
        }
    }

    pub(crate) fn producer_now(&self) -> Instant {
        Instant::from_nanos(nanos(self.now))
    }

    pub(crate) fn broker_now(&self) -> BrokerInstant {
        BrokerInstant::from_nanos(nanos(self.now))
    }

    fn arrive(&mut self, Arrival { link, end, what }: Arrival) {
        match end {
            End::Broker => self.arrive_at_broker(link, what),
            End::Client => {
                if let Some(owner) = self.owners.get(&link).copied() {
                    self.post(owner, link, what);
                }
            }
        }
    }

    fn arrive_at_broker(&mut self, link: LinkId, what: Arriving) {
        let connection = broker::ConnectionId(link.0);
        let now = self.broker_now();
        match what {
            Arriving::Opened => {
                let broker = broker::BrokerId(self.links.broker(link));
                self.cluster.handle_connect(broker, connection, now);
            }
            Arriving::Frame(frame) => {
                self.note(format_args!(
                    "{} <- {}",
                    self.named(link),
                    capture::Request(&frame)
                ));
                if self.spring(link, &frame, When::Before) {
                    return;
                }
                self.cluster.handle_request(connection, frame.clone(), now);
                self.drive_cluster();
                self.spring(link, &frame, When::After);
            }
            Arriving::Closed | Arriving::Refused => {
                self.cluster.handle_disconnect(connection, now);
            }
        }
        self.drive_cluster();
    }

    /// A producer's driver finds what has arrived.
    pub(crate) fn hear_of_arrival(&mut self, owner: ClientNumber, link: LinkId, what: Arriving) {
        let Some(connection) = self.clients[owner.0].connection_on(link) else {
            return;
        };
        let input = match what {
            Arriving::Opened => Some(Input::Connected { connection }),
            Arriving::Frame(frame) => {
                let wire = self.wire(owner, link);
                let frame = self.tap.answered(wire, frame, self.now);
                Some(Input::Received { connection, frame })
            }
            Arriving::Refused => {
                self.clients[owner.0].connections.remove(&connection);
                Some(Input::ConnectFailed {
                    connection,
                    reason: "connection refused".into(),
                })
            }
            Arriving::Closed => self.clients[owner.0].lose(connection, "connection reset".into()),
        };
        if let Some(input) = input {
            self.hear(owner, input);
        }
    }

    pub(crate) fn hear(&mut self, client: ClientNumber, input: Input) {
        self.note(format_args!(
            "producer {} <- {}",
            client.0,
            capture::Heard(&input)
        ));
        let now = self.producer_now();
        self.clients[client.0].engine.handle_input(input, now);
    }

    /// Lets a producer do all it wants, and accept all it can.
    pub(crate) fn drive_client(&mut self, client: ClientNumber) {
        self.touched.clients.insert(client);
        if !self.clients[client.0].lives() {
            return;
        }
        loop {
            let now = self.producer_now();
            if let Some(action) = self.clients[client.0].poll_action(now) {
                self.act(client, action);
                continue;
            }
            let number = SendNumber(self.sends.len());
            if let Some(record) = self.clients[client.0].accept_next(number, now) {
                self.accepted(client, record);
            } else if !self.work(client) {
                return;
            }
        }
    }

    /// A link as the trace names it.
    pub(crate) fn named(&self, link: LinkId) -> impl fmt::Display + use<> {
        NamedLink {
            link,
            owner: self.owners.get(&link).map_or(0, |owner| owner.0),
            broker: self.links.broker(link),
        }
    }

    pub(crate) fn wire(&self, producer: ClientNumber, link: LinkId) -> Wire {
        Wire {
            producer: u32::try_from(producer.0).expect("a handful of producers"),
            link,
            broker: self.links.broker(link),
        }
    }
}

struct NamedLink {
    link: LinkId,
    owner: usize,
    broker: i32,
}

impl fmt::Display for NamedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            link,
            owner,
            broker,
        } = self;
        write!(f, "link {} (producer {owner}, broker {broker})", link.0)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a run is shorter than centuries")
}

/// A record of a test: its value says who it is.
#[must_use]
pub fn record(topic: &str, partition: i32, value: &str, timestamp_ms: i64) -> Outgoing {
    let content = Content {
        timestamp_ms,
        key: None,
        value: Bytes::from(value.to_owned()),
        headers: Vec::new(),
    };
    Outgoing {
        topic: Arc::from(topic),
        partition,
        placed: Placed::BySender,
        content,
    }
}

/// `transaction.version` of a fresh cluster.
const FRESH_LEVEL: i16 = 2;

/// How late a deadline may be kept: events of one instant are handled one after the other.
const SCHEDULER_TICK: Duration = Duration::from_millis(1);

/// More events at one instant mean that an engine asks for time that has come, for ever.
const STEPS_AT_ONE_INSTANT_MAX: usize = 10_000;
