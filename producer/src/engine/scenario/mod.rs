//! The engine against a scripted peer: a world of one engine, plain queues and virtual time.
//!
//! The peer answers the control plane by itself, from [`Script`]; Produce requests are kept for the
//! scenario to answer, lose or ignore. After every step the engine's invariants are checked.

mod chaos;
mod compressing;
mod connections;
mod coordinator;
mod peer;
mod reports;
mod resolving;
mod retries;
mod sending;
mod splitting;
mod time_outs;
mod transactions;
mod upkeep;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::batch::{NewBatch, SealedBatch};
use crate::engine::effect::{
    Action, Address, BatchOutcome, CompressionId, ConnectionId, CorrelationId, Input, QueueState,
    Queues,
};
use crate::engine::queue::{Notice, PartitionQueue, QueueLimits, RecordView};
use crate::engine::ratio::Ratio;
use crate::engine::report::Report;
use crate::engine::time::Instant;
use crate::engine::transaction::{AskId, Denied, Doors};
use crate::engine::{Engine, EngineConfig, Idempotence};
use crate::types::{Acks, TopicIndex, TopicPartition};
use crate::wire::batch_buffer::BatchBuffer;
use crate::wire::compression::Codec;
use coordinator::Coordinator;
use peer::{Node, Request, Row, SeenBatch, SeenProduce, Topic};

/// What the peer answers by itself.
#[derive(Clone, Debug)]
struct Script {
    /// Key, lowest, highest.
    versions: Vec<(i16, i16, i16)>,
    nodes: Vec<Node>,
    topics: Vec<Topic>,
    /// What Metadata says as a whole.
    metadata_code: i16,
    /// Whether Metadata is answered at all.
    metadata_answered: bool,
    /// Codes for the next questions for a producer id; 0 when used up.
    producer_id_codes: VecDeque<i16>,
    next_producer_id: i64,
    coordinator: Coordinator,
    /// Ports at which nobody listens.
    closed_ports: Vec<u16>,
    /// Ports to which connecting takes for ever.
    silent_ports: Vec<u16>,
}

/// A Produce request that waits for the scenario's answer.
#[derive(Clone, Debug)]
struct Sent {
    connection: ConnectionId,
    port: u16,
    request: Request,
    transactional_id: Option<String>,
    acks: i16,
    batches: Vec<SeenBatch>,
}

impl Sent {
    /// Its batches as (partition, epoch, sequence).
    fn stamps(&self) -> Vec<(i32, i16, i32)> {
        self.batches
            .iter()
            .map(|one| (one.partition, one.epoch, one.sequence))
            .collect()
    }

    fn correlation_id(&self) -> CorrelationId {
        CorrelationId(self.request.correlation_id)
    }
}

/// The world.
struct World {
    engine: Engine<u32>,
    now: Instant,
    script: Script,
    /// Produce requests not taken by the scenario yet.
    produced: VecDeque<Sent>,
    /// Control requests as (api key, version), oldest first.
    asked: Vec<(i16, i16)>,
    /// Ends of batches, in order.
    done: Vec<(u32, BatchOutcome)>,
    reports: Vec<Report>,
    /// Answers to asks, in order.
    answered: Vec<(AskId, Result<(), Denied>)>,
    doors: Option<Doors>,
    connects: Vec<u16>,
    disconnects: Vec<ConnectionId>,
    queues: PlainQueues,
    ports: BTreeMap<ConnectionId, u16>,
    /// Per connection the requests in order, each with its answer once there is one: a broker
    /// answers a connection's requests one after the other.
    pipelines: BTreeMap<ConnectionId, VecDeque<Exchange>>,
    /// Batches that are to be compressed.
    compressing: Vec<(CompressionId, BatchBuffer)>,
    next_completion: u32,
    /// Whether the engine has a transactional id.
    transactional: bool,
}

/// A request's number and its answer.
type Exchange = (i32, Option<Vec<u8>>);

struct PlainQueues(BTreeMap<TopicPartition, PartitionQueue<u32>>, Ratio);

impl Queues for PlainQueues {
    type Completion = u32;

    fn state(&mut self, partition: TopicPartition) -> QueueState {
        self.0
            .get(&partition)
            .map(PartitionQueue::state)
            .unwrap_or_default()
    }

    fn open_bytes(&mut self, partition: TopicPartition) -> usize {
        self.0.get(&partition).map_or(0, PartitionQueue::open_bytes)
    }

    fn seal(&mut self, partition: TopicPartition) {
        if let Some(queue) = self.0.get_mut(&partition) {
            queue.seal();
        }
    }

    fn take(&mut self, partition: TopicPartition) -> Option<SealedBatch<u32>> {
        self.0.get_mut(&partition)?.take()
    }

    fn expect_ratio(&mut self, _topic: TopicIndex, ratio: Ratio) {
        self.1 = ratio;
    }
}

/// Settings with round numbers; linger 0, so that each append is a batch that goes at once.
fn settings() -> EngineConfig {
    EngineConfig {
        codec: Codec::NONE,
        client_id: "scenario".into(),
        bootstrap: vec![Address {
            host: "bootstrap".into(),
            port: 9000,
        }],
        acks: Acks::All,
        idempotence: Idempotence::Enabled,
        in_flight_max: 5,
        request_timeout: Duration::from_secs(30),
        delivery_timeout: Duration::from_secs(120),
        resolve_within: None,
        linger: Duration::ZERO,
        hold_bytes: 0,
        retries_max: u32::MAX,
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
        reconnect_backoff: Duration::from_millis(50),
        reconnect_backoff_max: Duration::from_secs(1),
        connection_setup_timeout: Duration::from_secs(10),
        connection_setup_timeout_max: Duration::from_secs(30),
        connections_idle_max: Some(Duration::from_secs(540)),
        request_bytes_max: 1 << 20,
        metadata_age_max: Duration::from_secs(300),
        rebootstrap_after: Some(Duration::from_secs(300)),
        metadata_idle_max: Duration::from_secs(300),
        transactions: None,
        seed: 1,
    }
}

/// One broker that leads both partitions of `orders`.
fn script() -> Script {
    Script {
        versions: vec![(0, 0, 12), (3, 0, 12), (18, 0, 4), (22, 0, 4)],
        nodes: vec![Node { id: 1, port: 9001 }, Node { id: 2, port: 9002 }],
        topics: vec![Topic {
            name: "orders".into(),
            id: 0,
            code: 0,
            partitions: vec![(1, 0), (1, 0)],
        }],
        metadata_code: 0,
        metadata_answered: true,
        producer_id_codes: VecDeque::new(),
        next_producer_id: 7,
        coordinator: Coordinator::new(),
        closed_ports: Vec::new(),
        silent_ports: Vec::new(),
    }
}

impl World {
    /// A world where nothing was wanted yet.
    fn new(config: EngineConfig, script: Script) -> Self {
        let transactional = config.transactions.is_some();
        Self {
            engine: Engine::new(config, Instant::ZERO),
            now: Instant::ZERO,
            script,
            produced: VecDeque::new(),
            asked: Vec::new(),
            done: Vec::new(),
            reports: Vec::new(),
            answered: Vec::new(),
            doors: None,
            connects: Vec::new(),
            disconnects: Vec::new(),
            queues: PlainQueues(BTreeMap::new(), Ratio::PLAIN),
            ports: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            compressing: Vec::new(),
            next_completion: 0,
            transactional,
        }
    }

    /// A world that knows `orders`.
    fn ready(config: EngineConfig, script: Script) -> Self {
        let mut world = Self::new(config, script);
        world.want_orders();
        world
    }

    /// A world whose partition 0 has had its first batch acknowledged, at offset 0.
    fn flowing(config: EngineConfig, script: Script) -> Self {
        let mut world = Self::ready(config, script);
        world.append(0);
        world.acknowledge(0);
        world.done.clear();
        world
    }

    fn want_orders(&mut self) {
        self.input(Input::TopicWanted {
            topic: TopicIndex(0),
            name: "orders".into(),
        });
    }

    /// Appends a record that becomes a batch of its own, and says the batch's number.
    fn append(&mut self, partition: i32) -> u32 {
        let completion = self.append_quietly(partition);
        self.input(Input::Queued {
            partition: at(partition),
        });
        completion
    }

    /// Appends a batch of which the engine hears, and for which it does nothing yet.
    fn append_heard(&mut self, partition: i32) -> u32 {
        let completion = self.append_quietly(partition);
        let partition = at(partition);
        self.engine
            .handle_input(Input::Queued { partition }, self.now);
        completion
    }

    /// Appends a batch of which the engine hears nothing yet.
    fn append_quietly(&mut self, partition: i32) -> u32 {
        let completion = self.next_completion;
        self.next_completion += 1;
        let value = completion.to_be_bytes();
        let record = RecordView {
            timestamp_ms: 1000,
            key: None,
            value: Some(&value),
            headers: &[],
        };
        let batch = NewBatch {
            ratio: Ratio::PLAIN,
            buffer: BatchBuffer::with_capacity(200),
            buffer_bytes_max: 200,
            completion,
            now: self.now,
        };
        let limits = QueueLimits { batch_bytes: 200 };
        let queue = self
            .queues
            .0
            .entry(at(partition))
            .or_insert_with(|| PartitionQueue::new(limits));
        let notice = queue.append_opening(&record, batch).notice;
        assert!(matches!(notice, Notice::Opened { .. }));
        completion
    }

    /// Feeds an input and does what the engine wants.
    fn input(&mut self, input: Input) {
        self.engine.handle_input(input, self.now);
        self.drive();
    }

    /// Lets time pass while the driver does something else: what comes next comes before what has
    /// become due.
    fn be_late_ms(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Lets time pass, stopping at each deadline.
    fn pass_ms(&mut self, ms: u64) {
        if self.engine.next_deadline().is_some_and(|at| at < self.now) {
            self.engine.handle_timeout(self.now);
            self.drive();
        }
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            assert!(
                at >= self.now,
                "a deadline in the past makes the driver spin"
            );
            self.now = at;
            self.engine.handle_timeout(self.now);
            self.drive();
            let next = self.engine.next_deadline();
            assert!(next.is_none_or(|next| next > at), "what was due is done");
        }
        self.now = end;
    }

    /// Takes the only Produce request that waits.
    #[track_caller]
    fn take_sent(&mut self) -> Sent {
        let sent = self
            .produced
            .pop_front()
            .expect("a produce request was sent");
        assert!(
            self.produced.is_empty(),
            "one request, not also {:?}",
            self.produced
        );
        sent
    }

    /// Takes all Produce requests that wait.
    fn take_all_sent(&mut self) -> Vec<Sent> {
        self.produced.drain(..).collect()
    }

    /// Answers the only Produce request that waits with success from this offset on.
    #[track_caller]
    fn acknowledge(&mut self, base_offset: i64) {
        let sent = self.take_sent();
        self.answer(&sent, 0, base_offset);
    }

    /// Answers every partition of a request with this code and offset.
    fn answer(&mut self, sent: &Sent, code: i16, base_offset: i64) {
        let rows = sent.batches.iter().map(|batch| Row {
            partition: batch.partition,
            code,
            base_offset,
            leader: None,
        });
        let rows: Vec<_> = rows.collect();
        self.answer_with(sent, &rows, 0, &[]);
    }

    fn answer_with(&mut self, sent: &Sent, rows: &[Row], throttle_ms: i32, endpoints: &[Node]) {
        let frame = peer::produced(&sent.request, "orders", rows, throttle_ms, endpoints);
        let correlation_id = sent.request.correlation_id;
        self.put_answer(sent.connection, correlation_id, frame);
        self.drive();
    }

    fn put_answer(&mut self, connection: ConnectionId, correlation_id: i32, frame: Vec<u8>) {
        let pipeline = self.pipelines.get_mut(&connection).expect("a request came");
        let place = pipeline
            .iter_mut()
            .find(|(number, _)| *number == correlation_id);
        place.expect("not answered yet").1 = Some(frame);
        while let Some((_, Some(frame))) = pipeline.front_mut() {
            let frame = Bytes::from(core::mem::take(frame));
            pipeline.pop_front();
            self.engine
                .handle_input(Input::Received { connection, frame }, self.now);
        }
    }

    fn receive(&mut self, connection: ConnectionId, frame: Vec<u8>) {
        self.input(Input::Received {
            connection,
            frame: Bytes::from(frame),
        });
    }

    /// Breaks a connection; everything on it left.
    fn lose(&mut self, connection: ConnectionId) {
        self.lose_from(connection, None);
    }

    /// Breaks a connection before any byte of this request left.
    fn lose_from(&mut self, connection: ConnectionId, untouched_from: Option<CorrelationId>) {
        let reason = Arc::from("connection reset");
        self.input(Input::Disconnected {
            connection,
            untouched_from,
            reason,
        });
    }

    fn drive(&mut self) {
        while let Some(action) = self.engine.poll_action(&mut self.queues, self.now) {
            self.engine.check_invariants();
            match action {
                Action::Connect {
                    connection,
                    address,
                } => self.connect(connection, &address),
                Action::Compress { id, plain } => self.compressing.push((id, plain)),
                Action::Send {
                    connection,
                    correlation_id,
                    frame,
                } => {
                    let bytes = frame.0.concat();
                    self.serve(connection, correlation_id, &bytes);
                }
                Action::Disconnect { connection } => self.disconnects.push(connection),
                Action::Complete {
                    completion,
                    outcome,
                    ..
                } => {
                    self.done.push((completion, outcome));
                }
                Action::Answered { id, answer } => self.answered.push((id, answer)),
                Action::Doors(doors) => self.doors = Some(doors),
                Action::TopicChanged { .. } => {}
                Action::Report(report) => self.reports.push(report),
            }
        }
        self.engine.check_invariants();
        // Where nothing is looked at nothing is to be done.
        self.engine.stirred = true;
        let more = self.engine.poll_action(&mut self.queues, self.now);
        assert!(more.is_none(), "left undone: {more:?}");
    }

    fn connect(&mut self, connection: ConnectionId, address: &Address) {
        self.connects.push(address.port);
        self.ports.insert(connection, address.port);
        if self.script.silent_ports.contains(&address.port) {
            return;
        }
        let input = if self.script.closed_ports.contains(&address.port) {
            let reason = format!("{}:{}: connection refused", address.host, address.port);
            Input::ConnectFailed {
                connection,
                reason: reason.into(),
            }
        } else {
            Input::Connected { connection }
        };
        self.engine.handle_input(input, self.now);
    }

    fn serve(&mut self, connection: ConnectionId, correlation_id: CorrelationId, frame: &[u8]) {
        let request = peer::read_request(frame);
        assert_eq!(
            request.correlation_id, correlation_id.0,
            "the frame carries its number"
        );
        self.engine.handle_input(
            Input::Written {
                connection,
                correlation_id,
            },
            self.now,
        );
        let pipeline = self.pipelines.entry(connection).or_default();
        if request.api_key != 0 {
            pipeline.push_back((request.correlation_id, None));
            self.asked.push((request.api_key, request.version));
            if request.api_key == 3 && !self.script.metadata_answered {
                return;
            }
            if let Some(answer) = self.answer_control(&request) {
                self.put_answer(connection, request.correlation_id, answer);
            }
            return;
        }
        let SeenProduce {
            transactional_id,
            acks,
            batches,
        } = peer::read_produce(&request);
        if acks != 0 {
            pipeline.push_back((request.correlation_id, None));
        }
        let port = self.ports[&connection];
        let sent = Sent {
            connection,
            port,
            request,
            transactional_id,
            acks,
            batches,
        };
        self.produced.push_back(sent);
    }

    fn answer_control(&mut self, request: &Request) -> Option<Vec<u8>> {
        Some(match request.api_key {
            3 => {
                let Script { nodes, topics, .. } = &self.script;
                peer::metadata(request, nodes, topics, self.script.metadata_code)
            }
            18 => {
                let row = self.script.versions.iter().find(|row| row.0 == 18);
                let known = row.is_some_and(|row| request.version <= row.2);
                peer::api_versions(
                    request,
                    if known { 0 } else { 35 },
                    &self.script.versions,
                    self.script.coordinator.features,
                )
            }
            10 | 24.. => return self.script.coordinator.answer(request),
            22 if self.transactional => return self.script.coordinator.answer(request),
            22 => {
                let code = self.script.producer_id_codes.pop_front().unwrap_or(0);
                let id = self.script.next_producer_id;
                self.script.next_producer_id += 1;
                peer::producer_id(request, code, id)
            }
            other => panic!("the script does not know api {other}"),
        })
    }
}

/// A partition of `orders`.
fn at(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicIndex(0),
        partition,
    }
}

/// Success at this offset.
fn written(base_offset: i64) -> BatchOutcome {
    BatchOutcome::Written {
        base_offset: Some(base_offset),
        log_append_time_ms: None,
    }
}
