//! What a seed means: the workload, its setting, its sends, its faults.
//!
//! *Not here*: how a plan is carried out (`faults.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::engine::chance::{Field, Losses};
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, Rule, Verdict};
use kafka_producer::engine::Idempotence;
use kafka_producer::wire::compression::Codec;
use kafka_producer::{Acks, CompressionType};

use crate::draw_transactions;
use crate::driving::{First, Lateness};
use crate::faults::{Fault, Place, Plan, PlannedSend, Step};
use crate::link::Latency;
use crate::setting::Setting;
use crate::trace::Tracing;
use crate::world::ClientNumber;

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Mostly what a producer promises by default, in all sizes.
    Mixed,
    /// Without idempotence.
    Plain,
    /// With idempotence, and more records.
    Idempotent,
    /// Dozens of partitions.
    ManyPartitions,
    /// Memory for a few batches only.
    SmallMemory,
    /// Every producer compresses, and batches are full more often.
    Compression,
    /// Producers on a busy machine: their drivers look late.
    LateDriver,
    /// Transactions with an epoch each, zombies, coordinators that crash over each step.
    Transactions,
    /// The same, of version 1 and below, some of them upgraded on the way.
    TransactionsOfVersionOne,
    /// Transactions that write what they read of other transactions.
    Copy,
    /// Transactions that move money between accounts.
    Bank,
}

impl Workload {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Mixed,
        Self::Plain,
        Self::Idempotent,
        Self::ManyPartitions,
        Self::SmallMemory,
        Self::Compression,
        Self::LateDriver,
        Self::Transactions,
        Self::TransactionsOfVersionOne,
        Self::Copy,
        Self::Bank,
    ];

    /// Whether its producers have transactional ids.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        use Workload::{Bank, Copy, Transactions, TransactionsOfVersionOne};
        matches!(self, Transactions | TransactionsOfVersionOne | Copy | Bank)
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name)
    }

    /// The plan of a seed; of what happens in it no lines are written.
    #[must_use]
    pub fn draw(self, seed: u64) -> Plan {
        if self.is_transactional() {
            return draw_transactions::draw(self, seed);
        }
        let mut workload = fastrand::Rng::with_seed(seed);
        let mut misfortune = fastrand::Rng::with_seed(seed ^ 0x5bd1_e995_cafe_f00d);
        let setting = self.draw_setting(seed, &mut workload);
        let mut steps = draw_faults(&setting, &mut misfortune);
        steps.extend(self.draw_sends(&setting, &mut workload));
        steps.extend(draw_flushes(&setting, &mut workload));
        // The sort keeps the order at one instant: the fault comes first, as a fault does.
        steps.sort_by_key(|(at, _)| *at);
        Plan { setting, steps }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mixed => "mixed",
            Self::Plain => "plain",
            Self::Idempotent => "idempotent",
            Self::ManyPartitions => "many-partitions",
            Self::SmallMemory => "small-memory",
            Self::Compression => "compression",
            Self::LateDriver => "late-driver",
            Self::Transactions => "transactions",
            Self::TransactionsOfVersionOne => "transactions-v1",
            Self::Copy => "copy",
            Self::Bank => "bank",
        })
    }
}

/// Half of the producers compress; drawn apart, so that it changes nothing else of a seed.
fn draw_codec(seed: u64, kinds: u8) -> Codec {
    let compression = match fastrand::Rng::with_seed(!seed).u8(..kinds) {
        0 => CompressionType::Gzip,
        1 => CompressionType::Snappy,
        2 => CompressionType::Lz4,
        3 => CompressionType::Zstd,
        _ => CompressionType::None,
    };
    let level = 1;
    Codec { compression, level }
}

/// From a hiccup to a machine that hardly gets to it; drawn apart, too.
pub(crate) fn draw_lateness(seed: u64) -> Lateness {
    let mut random = fastrand::Rng::with_seed(seed.rotate_left(40));
    let max_ms = random.choice([1, 20, 150, 400]).unwrap_or(1);
    Lateness {
        max: Duration::from_millis(random.u64(1..=max_ms)),
        first: match random.bool() {
            true => First::TimeOuts,
            false => First::Arrivals,
        },
    }
}

/// Some topics take less than a full batch, and not the largest records; drawn apart, too.
fn draw_message_bytes_max(seed: u64) -> Option<u32> {
    let random = fastrand::Rng::with_seed(seed.rotate_left(17)).u8(..4);
    (random == 0).then_some(300)
}

/// A quarter of the producers ask what became of a record, for as long as Kafka's default time of a
/// request or as long as a round trip; drawn apart too.
fn draw_resolve_timeout(seed: u64) -> Duration {
    match fastrand::Rng::with_seed(seed.rotate_left(31)).u8(..8) {
        0 => Duration::from_secs(30),
        1 => Duration::from_millis(50),
        _ => Duration::ZERO,
    }
}

impl Workload {
    pub(crate) fn draw_setting(self, seed: u64, random: &mut fastrand::Rng) -> Setting {
        let millis = |random: &mut fastrand::Rng, range| Duration::from_millis(random.u64(range));
        let (idempotence, acks) = self.draw_guarantee(random);
        let linger = millis(random, 0..=20);
        let request_timeout = millis(random, 300..=3_000);
        let rounds = random.u32(1..=8);
        let batch_bytes = random.choice([0, 200, 1_000, 16_384]).unwrap_or(16_384);
        let mut setting = Setting {
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
            batch_bytes,
            codec: draw_codec(seed, 8),
            message_bytes_max: draw_message_bytes_max(seed),
            resolve_timeout: draw_resolve_timeout(seed),
            acks,
            idempotence,
            linger,
            in_flight_max: random.usize(1..=5),
            request_timeout,
            // At least what Kafka's configuration demands, and often little more.
            session_ms: random.u32(1_000..=9_000),
            lag_ms: random.u32(2_000..=10_000),
            delivery_timeout: linger + Plan::HEALED_WITHIN.max(request_timeout * rounds),
            tracing: Tracing::Dropped,
            ..Setting::default()
        };
        match self {
            Self::Mixed | Self::Plain | Self::Idempotent => {}
            // Drawn as idempotent ones, and changed.
            Self::Transactions | Self::TransactionsOfVersionOne | Self::Copy | Self::Bank => {}
            Self::Compression => {
                setting.codec = draw_codec(seed, 4);
                setting.batch_bytes = batch_bytes.max(1_000);
            }
            Self::LateDriver => {
                setting.lateness = draw_lateness(seed);
                // Each step towards a broker that is well again may be late.
                setting.delivery_timeout += setting.lateness.margin();
            }
            Self::ManyPartitions => setting.topics[0].1 = random.i32(12..=48),
            Self::SmallMemory => {
                setting.batch_bytes = batch_bytes.min(1_000);
                let record_bytes = RECORD_BYTES_MAX.max(setting.batch_bytes);
                setting.memory_bytes = Some(record_bytes * random.usize(1..=3));
            }
        }
        setting
    }

    fn draw_guarantee(self, random: &mut fastrand::Rng) -> (Idempotence, Acks) {
        let plain = |random: &mut fastrand::Rng| {
            let acks = [Acks::All, Acks::Leader, Acks::None];
            (Idempotence::Disabled, acks[random.usize(..3)])
        };
        match self {
            Self::Plain => plain(random),
            Self::Idempotent => (Idempotence::Enabled, Acks::All),
            // Mostly what a producer promises by default.
            _ if random.u8(..4) == 0 => plain(random),
            _ => (Idempotence::Enabled, Acks::All),
        }
    }

    fn draw_sends(self, setting: &Setting, random: &mut fastrand::Rng) -> Vec<(Duration, Step)> {
        let sends_max = match self {
            Self::Idempotent | Self::ManyPartitions => SENDS_MAX * 3 / 2,
            Self::Compression => SENDS_MAX * 2,
            _ => SENDS_MAX,
        };
        let count = random.usize(1..=sends_max);
        let last = draw_duration(random, Duration::from_millis(1), Plan::FAULTS_END);
        let mut times: Vec<Duration> = (0..count)
            .map(|_| draw_duration(random, Duration::ZERO, last))
            .collect();
        times.sort();
        let names: Vec<Arc<str>> = setting.topics.iter().map(|one| Arc::from(one.0)).collect();
        let sends = times.into_iter().enumerate().map(|(number, at)| {
            let topic = random.usize(..setting.topics.len());
            let partitions = setting.topics[topic].1;
            let client = ClientNumber(random.usize(..setting.producers));
            let key = random.bool().then(|| draw_key(random));
            let place = match key {
                Some(_) if random.bool() => Place::ByKey(partitions),
                _ => Place::Named(random.i32(0..partitions)),
            };
            let send = PlannedSend {
                client,
                topic: Arc::clone(&names[topic]),
                place,
                key,
                value: self.draw_value(number, random),
                headers: draw_headers(random),
            };
            (at, Step::Send(send))
        });
        sends.collect()
    }

    /// Different for every number.
    fn draw_value(self, number: usize, random: &mut fastrand::Rng) -> Bytes {
        let padding = match self {
            // What does not become smaller is sent as it is, and spoils the estimate.
            Self::Compression if random.bool() => {
                let count = random.usize(0..600);
                (0..count).map(|_| random.alphanumeric()).collect()
            }
            _ => "x".repeat(random.usize(0..200)),
        };
        Bytes::from(format!("{number} {padding}"))
    }
}

/// A few flushes, at any time.
fn draw_flushes(setting: &Setting, random: &mut fastrand::Rng) -> Vec<(Duration, Step)> {
    let count = random.usize(0..=FLUSHES_MAX);
    let flush = |_| {
        let at = draw_duration(random, Duration::ZERO, Plan::FAULTS_END);
        (
            at,
            Step::Flush(ClientNumber(random.usize(..setting.producers))),
        )
    };
    (0..count).map(flush).collect()
}

fn draw_faults(setting: &Setting, random: &mut fastrand::Rng) -> Vec<(Duration, Step)> {
    let count = random.usize(0..=FAULTS_MAX);
    let fault = |_| {
        let at = draw_duration(random, Duration::ZERO, Plan::FAULTS_END);
        (at, Step::Fault(draw_fault(setting, random)))
    };
    (0..count).map(fault).collect()
}

/// One of a few, so that partitions are shared; half of them with bytes beyond ASCII.
pub(crate) fn draw_key(random: &mut fastrand::Rng) -> Bytes {
    let number = random.u8(..8);
    match random.bool() {
        true => Bytes::from(format!("key {number}")),
        false => Bytes::copy_from_slice(&[0x80 | number, 0xff, number]),
    }
}

pub(crate) fn draw_headers(random: &mut fastrand::Rng) -> Vec<(String, Option<Bytes>)> {
    let count = random.usize(0..=2);
    let header = |number| {
        (
            format!("header {number}"),
            random.bool().then(|| Bytes::from("v")),
        )
    };
    (0..count).map(header).collect()
}

pub(crate) fn draw_fault(setting: &Setting, random: &mut fastrand::Rng) -> Fault {
    let broker = random.i32(1..=setting.brokers);
    let lasts = draw_duration(random, Duration::from_millis(1), FAULT_LASTS_MAX);
    match random.u8(..14) {
        0 => Fault::Cut(broker),
        1 => Fault::Stall(broker, lasts),
        2 => Fault::Refuse(broker, lasts),
        3 => Fault::Clog(broker, lasts),
        4 => Fault::Quota(random.u32(100..800)),
        5 => Fault::Move(draw_restriction(BrokerId(broker), random)),
        6..9 => Fault::Move(draw_move(setting, random)),
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

/// A broker that speaks older versions only, as in a fleet that is half upgraded.
fn draw_restriction(broker: BrokerId, random: &mut fastrand::Rng) -> Move {
    let (api, oldest, newest) = match random.u8(..3) {
        0 => (Api::Produce, 3, 13),
        1 => (Api::Metadata, 4, 13),
        _ => (Api::InitProducerId, 0, 5),
    };
    Move::RestrictVersions {
        broker,
        api,
        min: 0,
        max: random.i16(oldest..=newest),
    }
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
pub(crate) fn draw_silence(random: &mut fastrand::Rng) -> Verdict {
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

pub(crate) fn choose(codes: &[ErrorCode], random: &mut fastrand::Rng) -> ErrorCode {
    codes[random.usize(..codes.len())]
}

pub(crate) fn draw_duration(random: &mut fastrand::Rng, min: Duration, max: Duration) -> Duration {
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
const FLUSHES_MAX: usize = 3;
pub(crate) const FAULTS_MAX: usize = 16;
/// More than a batch of one drawn record has.
const RECORD_BYTES_MAX: usize = 400;
/// No fault lasts longer.
pub const FAULT_LASTS_MAX: Duration = Duration::from_secs(8);
