//! Sends one record and says what became of it.
//!
//! `cargo run --example send_one -- --bootstrap 127.0.0.1:9092 --topic orders --value "3 apples"`

use std::error::Error;

use clap::Parser;
use kafka_producer::{Outcome, Producer, Record};

/// Sends one record and says what became of it.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// The key; without it the key is null.
    #[arg(long)]
    key: Option<String>,
    /// The value; without it the value is null.
    #[arg(long)]
    value: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments {
        bootstrap,
        topic,
        key,
        value,
    } = Arguments::parse();
    let producer = Producer::builder().bootstrap_servers(bootstrap).build()?;
    let record = Record::to(&topic)
        .nullable_key(key.as_deref().map(str::as_bytes))
        .nullable_value(value.as_deref().map(str::as_bytes))
        .header("sent-by", "send_one");
    let outcome = producer.send(record).await?.outcome().await;
    producer.close().await?;
    match outcome {
        Outcome::Written(written) => tell(&format!("written: {written:?}")),
        Outcome::NotWritten(error) => Err(format!("not written: {error}").into()),
        Outcome::Unknown(error) => Err(format!("possibly written: {error}").into()),
    }
}

/// Says it on standard output; a closed one is an error, not a panic.
fn tell(words: &str) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{words}")?;
    Ok(())
}
