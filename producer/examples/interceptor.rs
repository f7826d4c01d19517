//! An interceptor that gives each record a trace header and counts what became of the records.
//!
//! `cargo run --example interceptor -- --bootstrap 127.0.0.1:9092 --topic orders`

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use kafka_producer::{Acknowledgement, InterceptedRecord, Interceptor, Producer, Record};

/// An interceptor that gives each record a trace header and counts what became of the records.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
}

struct Tracing(Arc<Counts>);

impl Interceptor for Tracing {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        let number = self.0.sent.fetch_add(1, Ordering::Relaxed);
        record.add_header("trace", number.to_string());
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let count = match acknowledgement.result() {
            Ok(_) => &self.0.written,
            Err(_) => &self.0.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { bootstrap, topic } = Arguments::parse();
    let counts = Arc::new(Counts::default());
    let producer = Producer::builder()
        .bootstrap_servers(bootstrap)
        .interceptor(Tracing(Arc::clone(&counts)))
        .build()?;
    for value in ["3 apples", "5 pears"] {
        drop(producer.send(Record::to(&topic).value(value)).await?);
    }
    // Refused before it is queued, and counted all the same.
    let nowhere = producer.send(Record::to(&topic).partition(i32::MAX)).await;
    let refused = nowhere.is_err();
    producer.close().await?;
    let [sent, written, failed] =
        [&counts.sent, &counts.written, &counts.failed].map(|one| one.load(Ordering::Relaxed));
    writeln!(
        std::io::stdout(),
        "sent {sent}, written {written}, failed {failed}, refused one: {refused}"
    )?;
    Ok(())
}
