//! Produces increasing numbers and says of each on standard output, as a line of JSON, whether it
//! was acknowledged: the options and the lines of Kafka's own `kafka-verifiable-producer.sh`, so
//! that Kafka's system tests can drive this producer.
//!
//! `cargo run --example verifiable_producer -- --bootstrap-server 127.0.0.1:9092 --topic orders
//! --max-messages 10`
//!
//! It ends after `--max-messages`, or when it is interrupted or terminated; what was sent by then
//! is still settled and told.
//!
//! *Source*: Kafka's `org.apache.kafka.tools.VerifiableProducer`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use kafka_producer::{ProduceError, Producer, Record, Written};
use serde::Serialize;

/// Produces increasing numbers and says of each, as a line of JSON, whether it was acknowledged.
#[derive(Parser)]
struct Arguments {
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap_server: String,
    /// How many records; without end if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i64,
    /// About how many records a second, none after the first at 0; as fast as they go if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    throughput: i64,
    /// Who must have a record before it is acknowledged: 0, 1 or -1.
    #[arg(long, default_value = "-1", allow_negative_numbers = true)]
    acks: String,
    /// A properties file with more keys; it overrules the options.
    #[arg(long = "producer.config", alias = "command-config")]
    producer_config: Option<PathBuf>,
    /// The first record's timestamp in milliseconds since 1970; the time of sending if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    message_create_time: i64,
    /// Put before each value, with a dot.
    #[arg(long)]
    value_prefix: Option<i32>,
    /// Keys count from 0 up to this number, and begin again.
    #[arg(long)]
    repeating_keys: Option<u64>,
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: u64,
    name: &'a str,
    #[serde(flatten)]
    event: Event<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Event<'a> {
    Nothing {},
    Success {
        key: Option<&'a str>,
        value: &'a str,
        offset: i64,
        topic: &'a str,
        partition: i32,
    },
    Failure {
        topic: &'a str,
        key: Option<&'a str>,
        value: &'a str,
        exception: String,
        message: String,
    },
    Summary {
        sent: u64,
        acked: u64,
        target_throughput: i64,
        avg_throughput: f64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut builder = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap_server)
        .set("acks", &arguments.acks)
        .retries(0);
    if let Some(file) = &arguments.producer_config {
        builder = builder.properties_file(file)?;
    }
    let producer = builder.build()?;
    say("startup_complete", Event::Nothing {})?;
    let started = Instant::now();
    let acked = Arc::new(AtomicU64::new(0));
    let mut sent = 0;
    let mut signal = std::pin::pin!(terminated());
    while arguments.max_messages < 0 || i64::try_from(sent)? < arguments.max_messages {
        let turn = async {
            wait_turn(sent, arguments.throughput, started).await;
            send(&producer, &arguments, sent, (started, &acked)).await;
        };
        tokio::select! {
            biased;
            () = &mut signal => break,
            () = turn => sent += 1,
        }
    }
    // What failed was told record by record.
    let _ = producer.close().await;
    say("shutdown_complete", Event::Nothing {})?;
    let acked = acked.load(Ordering::Relaxed);
    let seconds = started.elapsed().as_secs_f64();
    let summary = Event::Summary {
        sent,
        acked,
        target_throughput: arguments.throughput,
        avg_throughput: f64::from(u32::try_from(acked)?) / seconds,
    };
    say("tool_data", summary)?;
    Ok(())
}

/// Until the program is interrupted or terminated.
#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Until the program is interrupted.
#[cfg(not(unix))]
async fn terminated() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

async fn wait_turn(number: u64, throughput: i64, started: Instant) {
    match u64::try_from(throughput) {
        Ok(0) if number > 0 => std::future::pending().await,
        Ok(per_second @ 1..) => {
            let at = Duration::from_nanos(number.saturating_mul(1_000_000_000) / per_second);
            tokio::time::sleep_until((started + at).into()).await;
        }
        Ok(0) | Err(_) => {}
    }
}

async fn send(
    producer: &Producer,
    arguments: &Arguments,
    number: u64,
    (started, acked): (Instant, &Arc<AtomicU64>),
) {
    let key = arguments
        .repeating_keys
        .and_then(|keys| number.checked_rem(keys));
    let key = key.map(|key| key.to_string());
    let value = match arguments.value_prefix {
        Some(prefix) => format!("{prefix}.{number}"),
        None => number.to_string(),
    };
    let mut record = Record::to(&arguments.topic)
        .nullable_key(key.as_ref().map(String::as_bytes))
        .value(&value);
    if arguments.message_create_time >= 0 {
        let passed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        record = record.timestamp_ms(arguments.message_create_time.saturating_add(passed));
    }
    let told = Told {
        topic: arguments.topic.clone(),
        key: key.clone(),
        value: value.clone(),
    };
    let at_end = {
        let (told, acked) = (told.clone(), Arc::clone(acked));
        move |result: Result<Written, ProduceError>| {
            if result.is_ok() {
                acked.fetch_add(1, Ordering::Relaxed);
            }
            told.say(&result);
        }
    };
    if let Err(error) = producer.send_with(record, at_end).await {
        told.say(&Err(error));
    }
}

/// What is told of a record.
#[derive(Clone)]
struct Told {
    topic: String,
    key: Option<String>,
    value: String,
}

impl Told {
    fn say(&self, result: &Result<Written, ProduceError>) {
        let (key, value, topic) = (self.key.as_deref(), &*self.value, &*self.topic);
        // Who reads the lines may be gone; the records go all the same.
        let _ = match result {
            Ok(written) => {
                let success = Event::Success {
                    key,
                    value,
                    offset: written.offset.unwrap_or(-1),
                    topic,
                    partition: written.partition,
                };
                say("producer_send_success", success)
            }
            Err(error) => {
                let failure = Event::Failure {
                    topic,
                    key,
                    value,
                    exception: format!("{:?}", error.kind()),
                    message: error.to_string(),
                };
                say("producer_send_error", failure)
            }
        };
    }
}

fn say(name: &str, event: Event<'_>) -> std::io::Result<()> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let timestamp = since_1970.unwrap_or_default().as_millis();
    let line = Line {
        timestamp: u64::try_from(timestamp).unwrap_or(u64::MAX),
        name,
        event,
    };
    let line = serde_json::to_string(&line)?;
    writeln!(std::io::stdout(), "{line}")
}
