//! Sends many records as fast as they go, awaits and checks each of them, and says the rate.
//!
//! `cargo run --release --example send_many -- --bootstrap 127.0.0.1:9092`
//!
//! Each value begins with the record's number, 8 bytes big-endian, so that a reader can check order
//! and count. The records have no key: they stay with one partition for about a batch.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

use clap::Parser;
use kafka_producer::{Delivery, ProduceError, Producer, Record, Topic};

/// Sends many records as fast as they go, awaits and checks each of them, and says the rate.
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
    records: u64,
    /// The size of each value in bytes, at least 8 for the number it begins with.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(8..))]
    record_bytes: u32,
    /// Any key of Kafka's producer, as KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let builder = Producer::builder().bootstrap_servers(&arguments.bootstrap);
    let settings = arguments.settings.iter();
    let producer = settings
        .fold(builder, |builder, (key, value)| builder.set(key, value))
        .build()?;
    let topic = producer.topic(&arguments.topic).await?;

    let started = Instant::now();
    let tally = send_all(&topic, &arguments).await;
    let seconds = started.elapsed().as_secs_f64();
    let closed = producer.close().await;

    report(&tally, &arguments, seconds)?;
    if let Some(error) = tally.first_failure {
        return Err(format!("{} records failed, the first: {error}", tally.failed).into());
    }
    closed?;
    Ok(())
}

/// What became of the records.
#[derive(Default)]
struct Tally {
    written: u64,
    failed: u64,
    first_failure: Option<ProduceError>,
}

impl Tally {
    fn count<T>(&mut self, result: Result<T, ProduceError>) {
        match result {
            Ok(_) => self.written += 1,
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(error);
            }
        }
    }
}

/// Sends with a bounded window of records not yet settled; awaits every one.
async fn send_all(topic: &Topic, arguments: &Arguments) -> Tally {
    let mut tally = Tally::default();
    let mut window: VecDeque<Delivery> = VecDeque::with_capacity(WINDOW);
    let bytes = usize::try_from(arguments.record_bytes).unwrap_or(usize::MAX);
    let mut value = vec![b'.'; bytes];
    for number in 0..arguments.records {
        if window.len() == WINDOW
            && let Some(oldest) = window.pop_front()
        {
            tally.count(oldest.await);
        }
        value[..8].copy_from_slice(&number.to_be_bytes());
        match topic.send(Record::new().value(&value)).await {
            Ok(delivery) => window.push_back(delivery),
            Err(error) => tally.count::<()>(Err(error)),
        }
    }
    for delivery in window {
        tally.count(delivery.await);
    }
    tally
}

fn report(tally: &Tally, arguments: &Arguments, seconds: f64) -> Result<(), Box<dyn Error>> {
    let per_second = f64::from(u32::try_from(tally.written)?) / seconds;
    let megabytes_per_second = per_second * f64::from(arguments.record_bytes) / 1e6;
    writeln!(
        std::io::stdout(),
        "{} records of {} B written in {seconds:.3} s: {per_second:.0} records/s, \
         {megabytes_per_second:.1} MB/s",
        tally.written,
        arguments.record_bytes,
    )?;
    Ok(())
}

fn key_and_value(pair: &str) -> Result<(String, String), String> {
    let (key, value) = pair
        .split_once('=')
        .ok_or_else(|| format!("{pair} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Records sent and not yet awaited.
const WINDOW: usize = 100_000;
