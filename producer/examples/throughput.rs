//! What a record costs: its rate and its CPU time, or the time one takes alone, as a line of JSON.
//!
//! `cargo run --release --example throughput -- --bootstrap 127.0.0.1:9092 --topic orders
//! --records 20000000 --record-bytes 100 --batch-bytes 16384 --linger-ms 5`
//!
//! One application task, records without a key, idempotent with `acks=all`. A handle per record,
//! at most 100,000 of them held; each is awaited and looked at before the clocks stop. With
//! `--mode latency` each record is awaited before the next is sent. One record goes ahead of the
//! clocks, so that connections and metadata are there. With `--mode paced` so many records leave
//! per second (`--rate`), and how long each takes is told by its callback.
//!
//! With `--tasks` several tasks share the producer, the records and the handles; with `--keys` each
//! record has a key, of so many in turn, and goes to its key's partition. Then the offsets of each
//! task's records in a partition must rise in the order of its sends, or the program fails. With
//! `--own-runtime` the producer's task has a thread that no task of the application shares.
//!
//! CPU time is the whole process's, and counts from that first record on. The peak of the resident
//! memory is told where the system tells it (Linux), and is null elsewhere.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use kafka_producer::{Delivery, ProduceError, Producer, Record, Topic, Written};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// What a record costs: its rate and its CPU time, or the time one takes alone.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// How many records.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// The size of each value in bytes.
    #[arg(long, default_value_t = 100)]
    record_bytes: usize,
    /// `batch.size`.
    #[arg(long, default_value = "16384")]
    batch_bytes: String,
    /// `linger.ms`; 0 with `--mode latency`.
    #[arg(long, default_value = "5")]
    linger_ms: String,
    /// `acks`: all, 1 or 0. Idempotent with all of them only.
    #[arg(long, default_value = "all")]
    acks: String,
    /// `compression.type`.
    #[arg(long, default_value = "none")]
    compression: String,
    /// What the values hold.
    #[arg(long, value_enum, default_value_t = Payload::Constant)]
    payload: Payload,
    /// What is measured.
    #[arg(long, value_enum, default_value_t = Mode::Throughput)]
    mode: Mode,
    /// How many records leave per second with `--mode paced`.
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// How many tasks share the producer. With `--mode throughput` only, as are keys.
    #[arg(long, default_value = "1")]
    tasks: NonZeroUsize,
    /// Gives the producer a runtime of its own, with one thread.
    #[arg(long)]
    own_runtime: bool,
    /// How many different keys the records have; 0: none has a key.
    #[arg(long, default_value_t = 0)]
    keys: u32,
    /// Any other key of Kafka's producer, as KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Payload {
    /// One letter, again and again: it compresses to nothing.
    Constant,
    /// A thousand texts like the events of an application.
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// As many as go.
    Throughput,
    /// One after the other.
    Latency,
    /// So many per second.
    Paced,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // The application stays on this thread; the producer's task runs on the workers.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if !arguments.own_runtime {
        return runtime.block_on(measure(&arguments, runtime.handle()));
    }
    let own = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(measure(&arguments, own.handle()))
}

async fn measure(arguments: &Arguments, producers: &Handle) -> Result<(), Box<dyn Error>> {
    let is_plain = arguments.tasks.get() == 1 && arguments.keys == 0;
    if arguments.mode != Mode::Throughput && !is_plain {
        return Err("only --mode throughput has several tasks, and records with keys".into());
    }
    let producer = producer(arguments, producers)?;
    let topic = producer.topic(&arguments.topic).await?;
    let work = Arc::new(Work::new(arguments));
    topic
        .send(Record::new().value(&work.values[0]))
        .await?
        .await?;

    let started = Stopwatch::start();
    let latencies = match arguments.mode {
        Mode::Throughput => {
            send_all(&topic, &work).await?;
            Vec::new()
        }
        Mode::Latency => send_each(&topic, &work).await?,
        Mode::Paced => {
            let latencies = send_paced(&topic, &work, arguments.rate).await?;
            producer.flush().await?;
            latencies.finish()?
        }
    };
    let report = started.report(arguments, latencies);
    writeln!(std::io::stdout(), "{report}")?;
    producer.close().await?;
    Ok(())
}

fn producer(arguments: &Arguments, runtime: &Handle) -> Result<Producer, Box<dyn Error>> {
    let linger_ms = match arguments.mode {
        Mode::Throughput | Mode::Paced => &arguments.linger_ms,
        Mode::Latency => "0",
    };
    let idempotence = if arguments.acks == "all" {
        "true"
    } else {
        "false"
    };
    let mut pairs = vec![
        ("batch.size", arguments.batch_bytes.as_str()),
        ("linger.ms", linger_ms),
        ("acks", &arguments.acks),
        ("enable.idempotence", idempotence),
        ("compression.type", &arguments.compression),
    ];
    // A batch cannot be larger than its request.
    let request_bytes = arguments.batch_bytes.parse::<usize>()? + REQUEST_OVERHEAD_BYTES;
    let request_bytes = request_bytes.to_string();
    if arguments.batch_bytes.parse::<usize>()? >= REQUEST_BYTES_DEFAULT {
        pairs.push(("max.request.size", &request_bytes));
    }
    let set = arguments.settings.iter();
    pairs.extend(set.map(|(key, value)| (key.as_str(), value.as_str())));
    let builder = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .runtime(runtime.clone());
    let builder = pairs
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.set(key, value));
    Ok(builder.build()?)
}

/// What is sent; all of it made before the clocks start.
struct Work {
    /// Used in turn.
    values: Vec<Vec<u8>>,
    /// Used in turn; none: records have no key.
    keys: Vec<[u8; 4]>,
    records: usize,
    tasks: usize,
}

impl Work {
    fn new(arguments: &Arguments) -> Self {
        Self {
            values: values(arguments),
            keys: (0..arguments.keys).map(u32::to_be_bytes).collect(),
            records: arguments.records,
            tasks: arguments.tasks.get(),
        }
    }

    /// The numbers of one task's records.
    fn share(&self, task: usize) -> Range<usize> {
        let first =
            |task: usize| self.records / self.tasks * task + task.min(self.records % self.tasks);
        first(task)..first(task + 1)
    }
}

/// Sends all records, the only task's from here.
async fn send_all(topic: &Topic, work: &Arc<Work>) -> Result<(), Box<dyn Error>> {
    if work.tasks == 1 {
        return send_share(topic, work, 0).await;
    }
    let mut tasks = JoinSet::new();
    for task in 0..work.tasks {
        let (topic, work) = (topic.clone(), Arc::clone(work));
        tasks.spawn(async move {
            let sent = send_share(&topic, &work, task).await;
            sent.map_err(|error| error.to_string())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Sends with a bounded window of records not yet settled; awaits every one.
async fn send_share(topic: &Topic, work: &Work, task: usize) -> Result<(), Box<dyn Error>> {
    let window_max = (WINDOW / work.tasks).max(1);
    let mut window: VecDeque<Delivery> = VecDeque::with_capacity(window_max);
    let mut order = (work.tasks > 1 || !work.keys.is_empty()).then(Order::default);
    let share = work.share(task);
    let values = work.values.iter().cycle().take(share.len());
    let mut keys = work.keys.iter().cycle();
    let first_key = share.start % work.keys.len().max(1);
    if let Some(before) = first_key.checked_sub(1) {
        keys.nth(before);
    }
    for value in values {
        if window.len() == window_max
            && let Some(oldest) = window.pop_front()
        {
            let written = oldest.await?;
            if let Some(order) = &mut order {
                order.check(&written)?;
            }
        }
        let delivery = match keys.next() {
            None => topic.send(Record::new().value(value)).await?,
            Some(key) => topic.send(Record::new().key(key).value(value)).await?,
        };
        window.push_back(delivery);
    }
    for delivery in window {
        let written = delivery.await?;
        if let Some(order) = &mut order {
            order.check(&written)?;
        }
    }
    Ok(())
}

/// The last offset of a task's records in each partition.
#[derive(Default)]
struct Order(Vec<i64>);

impl Order {
    /// Takes the next record of the task.
    fn check(&mut self, written: &Written) -> Result<(), String> {
        let Some(offset) = written.offset else {
            return Ok(());
        };
        let partition = usize::try_from(written.partition).unwrap_or_default();
        if self.0.len() <= partition {
            self.0.resize(partition + 1, -1);
        }
        let last = std::mem::replace(&mut self.0[partition], offset);
        if offset > last {
            return Ok(());
        }
        Err(format!(
            "partition {partition}: offset {offset} after {last}"
        ))
    }
}

/// Sends each when the one before is written; says how long each took.
async fn send_each(topic: &Topic, work: &Work) -> Result<Vec<Duration>, ProduceError> {
    let mut latencies = Vec::with_capacity(work.records);
    for value in work.values.iter().cycle().take(work.records) {
        let started = Instant::now();
        topic.send(Record::new().value(value)).await?.await?;
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}

/// Sends so many per second, whatever becomes of those before.
async fn send_paced(topic: &Topic, work: &Work, rate: u32) -> Result<Latencies, ProduceError> {
    let latencies = Latencies::default();
    let started = Instant::now();
    let mut due_at = started;
    for value in work.values.iter().cycle().take(work.records) {
        if Instant::now() < due_at {
            tokio::time::sleep_until(due_at.into()).await;
        }
        due_at += Duration::from_secs(1) / rate.max(1);
        let (sent_at, settled) = (Instant::now(), latencies.clone());
        let on_settled = move |result| settled.add(result, sent_at.elapsed());
        topic
            .send_with(Record::new().value(value), on_settled)
            .await?;
    }
    Ok(latencies)
}

/// How long records took that are settled, or the last error.
#[derive(Clone, Default)]
struct Latencies(Arc<Mutex<Settled>>);

#[derive(Default)]
struct Settled {
    latencies: Vec<Duration>,
    failed: Option<ProduceError>,
}

impl Latencies {
    fn add(&self, result: Result<Written, ProduceError>, latency: Duration) {
        let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => settled.latencies.push(latency),
            Err(error) => settled.failed = Some(error),
        }
    }

    /// Once all are settled.
    fn finish(self) -> Result<Vec<Duration>, ProduceError> {
        let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match settled.failed.take() {
            None => Ok(std::mem::take(&mut settled.latencies)),
            Some(error) => Err(error),
        }
    }
}

/// The values.
fn values(arguments: &Arguments) -> Vec<Vec<u8>> {
    let bytes = arguments.record_bytes;
    match arguments.payload {
        Payload::Constant => vec![vec![b'x'; bytes]],
        Payload::Json => {
            let mut random = fastrand::Rng::with_seed(SEED);
            (0..1024).map(|_| event(&mut random, bytes)).collect()
        }
    }
}

/// A text of exactly so many bytes that compresses about as well as an application's events.
fn event(random: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let word = |random: &mut fastrand::Rng| WORDS[random.usize(..WORDS.len())];
    let mut text = format!(
        r#"{{"id":{},"user":"user-{}","event":"{}","amount":{},"text":""#,
        random.u32(..1_000_000_000),
        random.u32(..10_000),
        word(random),
        random.u32(..100_000),
    );
    while text.len() + 2 < bytes {
        text.push_str(word(random));
        text.push(' ');
    }
    text.truncate(bytes.saturating_sub(2));
    text.push_str("\"}");
    text.truncate(bytes);
    text.into_bytes()
}

/// Wall and CPU time since the warm-up.
struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu_time(),
        }
    }

    fn report(self, arguments: &Arguments, mut latencies: Vec<Duration>) -> serde_json::Value {
        let seconds = self.wall.elapsed().as_secs_f64();
        let cpu_seconds = (cpu_time() - self.cpu).as_secs_f64();
        let records = u32::try_from(arguments.records).map_or(f64::INFINITY, f64::from);
        let record_bytes = u32::try_from(arguments.record_bytes).map_or(f64::INFINITY, f64::from);
        let per_second = records / seconds;
        latencies.sort_unstable();
        json!({
            "client": "kafka-producer",
            "version": env!("CARGO_PKG_VERSION"),
            "mode": match arguments.mode {
                Mode::Throughput => "throughput",
                Mode::Latency => "latency",
                Mode::Paced => "paced",
            },
            "records": arguments.records,
            "record_bytes": arguments.record_bytes,
            "batch_bytes": arguments.batch_bytes.parse::<u64>().ok(),
            "linger_ms": arguments.linger_ms.parse::<u64>().ok(),
            "seconds": seconds,
            "records_per_second": per_second.round(),
            "megabytes_per_second": per_second * record_bytes / 1e6,
            "cpu_ns_per_record": cpu_seconds * 1e9 / records,
            "rss_mib": resident_mib_max(),
            "p50_us": percentile_us(&latencies, 50),
            "p99_us": percentile_us(&latencies, 99),
            "warmup_records": 1,
        })
    }
}

fn percentile_us(sorted: &[Duration], percent: usize) -> Option<f64> {
    let latency = sorted.get(sorted.len() * percent / 100)?;
    Some(latency.as_secs_f64() * 1e6)
}

/// User and system time of the whole process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The peak of the resident memory.
fn resident_mib_max() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

fn key_and_value(pair: &str) -> Result<(String, String), String> {
    let (key, value) = pair
        .split_once('=')
        .ok_or_else(|| format!("{pair} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Records sent and not yet awaited.
const WINDOW: usize = 100_000;

/// What a request holds beside one batch is less.
const REQUEST_OVERHEAD_BYTES: usize = 64 * 1024;

/// `max.request.size`, if it is not set.
const REQUEST_BYTES_DEFAULT: usize = 1_048_576;

/// The same texts in each run.
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

const WORDS: [&str; 12] = [
    "order", "payment", "shipped", "pending", "customer", "invoice", "refund", "north", "express",
    "priority", "carrier", "tracking",
];
