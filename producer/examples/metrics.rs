//! Sends a few records, and shows what was measured meanwhile: Kafka's metrics by Kafka's names,
//! and how long batches took.
//!
//! `cargo run --example metrics -- --bootstrap 127.0.0.1:9092`
//!
//! With the feature `metrics` of the crate the same goes to whichever recorder of the crate
//! `metrics` is installed, an exporter for Prometheus for one.

use std::error::Error;
use std::io::Write;

use clap::Parser;
use kafka_producer::{Producer, Record};

/// Sends a few records, and shows what was measured meanwhile.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// How many records.
    #[arg(long, default_value_t = 100)]
    records: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments {
        bootstrap,
        topic,
        records,
    } = Arguments::parse();
    let producer = Producer::builder().bootstrap_servers(&bootstrap).build()?;
    let sends = (0..records).map(|_| Record::to(&topic).value("3 apples"));
    for sent in producer.send_all(sends).await {
        drop(sent?);
    }
    producer.flush().await?;

    let metrics = producer.metrics();
    let mut out = std::io::stdout();
    for metric in metrics.iter() {
        writeln!(out, "{metric} ({})", metric.about())?;
    }
    // Or one by one.
    let sent = metrics.of_topic(&topic, "record-send-total");
    writeln!(out, "sent to {topic}: {}", sent.unwrap_or_default())?;
    let stages = metrics.stages();
    writeln!(
        out,
        "half of the batches were sent within {:?}",
        stages.queued.p50
    )?;
    writeln!(
        out,
        "99 of a hundred were answered within {:?}",
        stages.answered.p99
    )?;
    producer.close().await?;
    Ok(())
}
