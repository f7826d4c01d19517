//! A run drawn from a seed: what is sent, what goes wrong, and when, as data.
//!
//! *Invariants*
//! 1. Faults come from a stream of their own, so that a change of the workload leaves them alone.
//! 2. A plan can be run again without some of its faults: [`shrink`] finds those that matter.
//! 3. Faults end: after [`Plan::FAULTS_END`] the network and the cluster are sound, and then
//!    every send ends in its time and every new one is written within [`Plan::HEALED_WITHIN`].
//!
//! *Not here*: what must hold (`oracle.rs`).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::engine::chance::{Field, Losses};
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, Rule, Verdict};
use kafka_producer::Acks;
use kafka_producer::engine::Idempotence;

use crate::client::Outgoing;
use crate::history::{Content, Ending, History, SendOp};
use crate::link::Latency;
use crate::oracle::{self, Law};
use crate::setting::Setting;
use crate::world::{ClientNumber, World};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A rule in the cluster.
    Rule(Rule),
    /// The cluster moves: a crash, an election, a replica that lags.
    Move(Move),
    /// Links to a broker are lost with what is on them.
    Cut(i32),
    /// What is on the way to or from a broker is late.
    Stall(i32, Duration),
    /// A broker's port is shut for a while.
    Refuse(i32, Duration),
    /// No byte leaves for a broker for a while.
    Clog(i32, Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::Move(to_make) => write!(f, "{to_make:?}"),
            Self::Cut(broker) => write!(f, "links to broker {broker} are cut"),
            Self::Stall(broker, duration) => write!(f, "broker {broker} stalls {duration:?}"),
            Self::Refuse(broker, duration) => write!(f, "broker {broker} refuses {duration:?}"),
            Self::Clog(broker, duration) => write!(f, "broker {broker} is clogged {duration:?}"),
        }
    }
}

/// A send that is planned.
#[derive(Clone, Debug)]
pub struct PlannedSend {
    /// By which producer.
    pub client: ClientNumber,
    /// The topic, one of the setting's.
    pub topic: &'static str,
    /// The partition.
    pub partition: i32,
    /// The key.
    pub key: Option<Bytes>,
    /// The value, different in every send.
    pub value: Bytes,
    /// The headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// A whole run before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The world.
    pub setting: Setting,
    /// What is sent, and when.
    pub sends: Vec<(Duration, PlannedSend)>,
    /// What goes wrong, and when.
    pub faults: Vec<(Duration, Fault)>,
}

impl Plan {
    /// No fault starts later, and none lasts longer than this after it.
    pub const FAULTS_END: Duration = Duration::from_secs(20);
    /// More than the longest back-off: how long a producer may take to find a sound cluster again.
    pub const HEALED_WITHIN: Duration = Duration::from_secs(2);

    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut workload = fastrand::Rng::with_seed(seed);
        let mut misfortune = fastrand::Rng::with_seed(seed ^ 0x5bd1_e995_cafe_f00d);
        let setting = draw_setting(seed, &mut workload);
        let sends = draw_sends(&setting, &mut workload);
        let count = misfortune.usize(0..=FAULTS_MAX);
        let mut faults: Vec<(Duration, Fault)> = (0..count)
            .map(|_| {
                let at = draw_duration(&mut misfortune, Duration::ZERO, Self::FAULTS_END);
                (at, draw_fault(&setting, &mut misfortune))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self {
            setting,
            sends,
            faults,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.setting)?;
        writeln!(
            f,
            "{} sends, {} faults:",
            self.sends.len(),
            self.faults.len()
        )?;
        for (at, fault) in &self.faults {
            writeln!(f, "{:>12.3} ms  {fault}", at.as_secs_f64() * 1_000.0)?;
        }
        Ok(())
    }
}

/// What came of a plan.
#[derive(Debug)]
pub struct Run {
    /// The world at the end.
    pub world: World,
    /// What happened, for the judge.
    pub history: History,
    /// What was found wrong: the oracle's verdict, or a promise of liveness that was not kept.
    pub complaint: Option<String>,
}

/// Lets a plan happen.
#[must_use]
pub fn run(plan: &Plan) -> Run {
    let mut world = World::new(plan.setting.clone());
    let mut sends = plan.sends.iter().peekable();
    let mut faults = plan.faults.iter().peekable();
    while sends.peek().is_some() || faults.peek().is_some() {
        let send_at = sends.peek().map(|(at, _)| *at);
        let fault_at = faults.peek().map(|(at, _)| *at);
        // At one instant the fault comes first, as a fault does.
        if let (Some(at), true) = (fault_at, send_at.is_none_or(|at| fault_at <= Some(at))) {
            world.run_until(at);
            faults
                .next()
                .into_iter()
                .for_each(|(_, fault)| strike(&mut world, fault));
        } else if let Some(at) = send_at {
            world.run_until(at);
            sends
                .next()
                .into_iter()
                .for_each(|(_, send)| send_planned(&mut world, send));
        }
    }
    world.run_until(Plan::FAULTS_END + FAULT_LASTS_MAX);
    world.heal();
    let complaint = settle(&mut world, &plan.setting);
    let diagnostics = world.cluster().journal().diagnostics();
    let refused = diagnostics
        .first()
        .map(|refused| format!("the cluster refused: {refused:?}"));
    let complaint = complaint.or(refused);
    let history = world.history();
    let verdict = oracle::judge(&history);
    let complaint = if verdict.holds() {
        complaint
    } else {
        Some(verdict.to_string())
    };
    Run {
        world,
        history,
        complaint,
    }
}

/// After the last fault every send must end in its time; then, when connections on which nobody
/// answers any more have been given up, one more record to each partition must be written soon.
fn settle(world: &mut World, setting: &Setting) -> Option<String> {
    let within = setting.delivery_timeout + Plan::HEALED_WITHIN;
    let patience = world.now() + within;
    step_while_open(world, patience);
    if world.open_count() > 0 {
        let open = world.open_count();
        return Some(format!(
            "{open} sends are open {within:?} after the last fault"
        ));
    }
    let given_up = world.now() + setting.request_timeout * 2 + Plan::HEALED_WITHIN;
    world.run_until(given_up);
    if setting.acks == Acks::None {
        search(world, setting, within);
    }
    probe(world, setting, PROBE);
    // Without acks dead connections are found one by one, each by a question about metadata.
    let dead_most = match setting.acks {
        Acks::None => setting.brokers.unsigned_abs(),
        Acks::Leader | Acks::All => 1,
    };
    let within = setting.request_timeout * dead_most + Plan::HEALED_WITHIN;
    let patience = world.now() + within;
    step_while_open(world, patience);
    let is_written = |send: &&SendOp| matches!(send.ending(), Some(Ending::Written(_)));
    let is_probe = |send: &&SendOp| send.content.value.starts_with(PROBE);
    let probes: i32 = setting
        .topics
        .iter()
        .map(|(_, partitions, _)| partitions)
        .sum();
    let written = world
        .sends()
        .iter()
        .filter(is_probe)
        .filter(is_written)
        .count();
    let expected = usize::try_from(probes).unwrap_or_default();
    (written < expected).then(|| {
        format!("{written} of {expected} sends are written {within:?} after all is sound again")
    })
}

fn step_while_open(world: &mut World, patience: Duration) {
    while world.open_count() > 0 && world.next_at().is_some_and(|at| at <= patience) {
        world.step();
    }
}

/// Without acks a dead connection is found only by a question about metadata, and what waits for
/// the answer may be given up meanwhile. So there are sends before those that count.
fn search(world: &mut World, setting: &Setting, within: Duration) {
    for round in 0..setting.brokers {
        probe(world, setting, format!("search {round}").as_bytes());
        let patience = world.now() + within;
        step_while_open(world, patience);
    }
}

fn probe(world: &mut World, setting: &Setting, says: &[u8]) {
    for (topic, partitions, _) in &setting.topics {
        for partition in 0..*partitions {
            let value = [says, format!(" {topic}-{partition}").as_bytes()].concat();
            let content = content(None, value.into(), Vec::new(), world);
            let record = Outgoing {
                topic: (*topic).into(),
                partition,
                content,
            };
            world.send_from(ClientNumber(0), record);
        }
    }
}

const PROBE: &[u8] = b"probe";

fn strike(world: &mut World, fault: &Fault) {
    match fault {
        Fault::Rule(rule) => world.install(rule.clone()),
        Fault::Move(to_make) => world.make_move(to_make.clone()),
        Fault::Cut(broker) => world.cut(*broker),
        Fault::Stall(broker, duration) => world.stall(*broker, *duration),
        Fault::Refuse(broker, duration) => world.refuse(*broker, *duration),
        Fault::Clog(broker, duration) => world.clog(*broker, *duration),
    }
}

fn send_planned(world: &mut World, send: &PlannedSend) {
    let content = content(
        send.key.clone(),
        send.value.clone(),
        send.headers.clone(),
        world,
    );
    let record = Outgoing {
        topic: send.topic.into(),
        partition: send.partition,
        content,
    };
    world.send_from(send.client, record);
}

fn content(
    key: Option<Bytes>,
    value: Bytes,
    headers: Vec<(String, Option<Bytes>)>,
    world: &World,
) -> Content {
    Content {
        timestamp_ms: world.wall_clock_ms(),
        key,
        value,
        headers,
    }
}

/// Takes faults out of a plan as long as it still fails.
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let mut smallest = plan.clone();
    let mut at = 0;
    while at < smallest.faults.len() {
        let mut candidate = smallest.clone();
        candidate.faults.remove(at);
        if run(&candidate).complaint.is_some() {
            smallest = candidate;
        } else {
            at += 1;
        }
    }
    smallest
}

/// The laws that a run broke, for tests that plant a defect.
#[must_use]
pub fn broken_laws(run: &Run) -> Vec<Law> {
    oracle::judge(&run.history).laws()
}

fn draw_setting(seed: u64, random: &mut fastrand::Rng) -> Setting {
    let millis = |random: &mut fastrand::Rng, range| Duration::from_millis(random.u64(range));
    let (idempotence, acks) = draw_guarantee(random);
    let linger = millis(random, 0..=20);
    let request_timeout = millis(random, 300..=3_000);
    Setting {
        seed,
        brokers: 3,
        isr_min: random.i16(1..=2),
        topics: vec![
            ("orders", random.i32(1..=4), 3),
            ("payments", 1, random.i16(1..=3)),
        ],
        producers: random.usize(1..=2),
        latency: Latency {
            min: Duration::from_micros(100),
            max: Duration::from_micros(random.u64(200..20_000)),
        },
        batch_bytes: random.choice([0, 200, 1_000, 16_384]).unwrap_or(16_384),
        acks,
        idempotence,
        linger,
        in_flight_max: random.usize(1..=5),
        request_timeout,
        // At least what Kafka's configuration demands, and often little more.
        session_ms: random.u32(1_000..=9_000),
        lag_ms: random.u32(2_000..=10_000),
        delivery_timeout: linger + Plan::HEALED_WITHIN.max(request_timeout * random.u32(1..=8)),
        ..Setting::default()
    }
}

/// Mostly what a producer promises by default.
fn draw_guarantee(random: &mut fastrand::Rng) -> (Idempotence, Acks) {
    match random.u8(..12) {
        0 => (Idempotence::Disabled, Acks::All),
        1 => (Idempotence::Disabled, Acks::Leader),
        2 => (Idempotence::Disabled, Acks::None),
        _ => (Idempotence::Enabled, Acks::All),
    }
}

fn draw_sends(setting: &Setting, random: &mut fastrand::Rng) -> Vec<(Duration, PlannedSend)> {
    let count = random.usize(1..=SENDS_MAX);
    let last = draw_duration(random, Duration::from_millis(1), Plan::FAULTS_END);
    let mut times: Vec<Duration> = (0..count)
        .map(|_| draw_duration(random, Duration::ZERO, last))
        .collect();
    times.sort();
    let sends = times.into_iter().enumerate().map(|(number, at)| {
        let (topic, partitions, _) = setting.topics[random.usize(..setting.topics.len())];
        let padding = "x".repeat(random.usize(0..200));
        let send = PlannedSend {
            client: ClientNumber(random.usize(..setting.producers)),
            topic,
            partition: random.i32(0..partitions),
            key: random
                .bool()
                .then(|| Bytes::from(format!("key {}", random.u8(..8)))),
            value: Bytes::from(format!("{number} {padding}")),
            headers: draw_headers(random),
        };
        (at, send)
    });
    sends.collect()
}

fn draw_headers(random: &mut fastrand::Rng) -> Vec<(String, Option<Bytes>)> {
    let count = random.usize(0..=2);
    let header = |number| {
        (
            format!("header {number}"),
            random.bool().then(|| Bytes::from("v")),
        )
    };
    (0..count).map(header).collect()
}

fn draw_fault(setting: &Setting, random: &mut fastrand::Rng) -> Fault {
    let broker = random.i32(1..=setting.brokers);
    let lasts = draw_duration(random, Duration::from_millis(1), FAULT_LASTS_MAX);
    match random.u8(..12) {
        0 => Fault::Cut(broker),
        1 => Fault::Stall(broker, lasts),
        2 => Fault::Refuse(broker, lasts),
        3 => Fault::Clog(broker, lasts),
        4..7 => Fault::Move(draw_move(setting, random)),
        _ => Fault::Rule(draw_rule(random)),
    }
}

/// Moves that lose nothing that the cluster promises to keep.
fn draw_move(setting: &Setting, random: &mut fastrand::Rng) -> Move {
    let field = Field {
        brokers: (1..=setting.brokers).map(BrokerId).collect(),
        partitions: setting.partitions().collect(),
        losses: Losses::None,
        delay_max: FAULT_LASTS_MAX,
    };
    field.draw(random)
}

fn draw_rule(random: &mut fastrand::Rng) -> Rule {
    let (api, verdict) = match random.u8(..10) {
        0 => (Api::Metadata, draw_silence(random)),
        1 => (Api::InitProducerId, draw_silence(random)),
        2 => (Api::ApiVersions, draw_silence(random)),
        3 | 4 => (
            Api::Produce,
            Verdict::Answer(choose(&REFUSED_BEFORE_APPEND, random)),
        ),
        5 => (
            Api::Produce,
            Verdict::ApplyThenAnswer(choose(&REFUSED_AFTER_APPEND, random)),
        ),
        6 | 7 => (Api::Produce, Verdict::ApplyThenLose),
        _ => (Api::Produce, draw_silence(random)),
    };
    Rule::on(api)
        .nth(random.u64(1..=4))
        .count(random.u64(1..=3))
        .then(verdict)
}

/// What hides an answer, breaks it, or brings it late.
fn draw_silence(random: &mut fastrand::Rng) -> Verdict {
    let late = draw_duration(random, Duration::from_millis(1), FAULT_LASTS_MAX);
    match random.u8(..9) {
        0 => Verdict::Swallow,
        1 => Verdict::Delay(late),
        2 => Verdict::CloseBefore,
        3 => Verdict::CloseAfter,
        4 => Verdict::ResetBefore,
        5 => Verdict::ResetAfter,
        6 => Verdict::CutAfter(random.usize(..80)),
        7 => Verdict::Drip {
            piece_bytes: random.usize(1..40),
            pause: late / 20,
        },
        _ => Verdict::ApplyThenLose,
    }
}

fn choose(codes: &[ErrorCode], random: &mut fastrand::Rng) -> ErrorCode {
    codes[random.usize(..codes.len())]
}

fn draw_duration(random: &mut fastrand::Rng, min: Duration, max: Duration) -> Duration {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random.u64(micros(min)..=micros(max)))
}

/// Codes that a broker gives instead of an append, and that a producer retries.
const REFUSED_BEFORE_APPEND: [ErrorCode; 5] = [
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::LEADER_NOT_AVAILABLE,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::NOT_ENOUGH_REPLICAS,
    ErrorCode::KAFKA_STORAGE_ERROR,
];

/// Codes that a broker gives although it appended, and that a producer retries.
const REFUSED_AFTER_APPEND: [ErrorCode; 2] = [
    ErrorCode::REQUEST_TIMED_OUT,
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
];

const SENDS_MAX: usize = 60;
const FAULTS_MAX: usize = 16;
const FAULT_LASTS_MAX: Duration = Duration::from_secs(8);
