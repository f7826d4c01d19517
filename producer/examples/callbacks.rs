//! Sends records with a function to call for each, in place of a delivery to await.
//!
//! `cargo run --example callbacks -- --bootstrap 127.0.0.1:9092 --topic orders`

use std::error::Error;
use std::sync::mpsc;

use clap::Parser;
use kafka_producer::{Producer, Record};

/// Sends records with a function to call for each, in place of a delivery to await.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { bootstrap, topic } = Arguments::parse();
    let producer = Producer::builder().bootstrap_servers(bootstrap).build()?;
    // Callbacks run on the producer's own task: they hand on what they are told, and do no more.
    let (tell, told) = mpsc::channel();
    for value in ["3 apples", "5 pears", "8 plums"] {
        let tell = tell.clone();
        let record = Record::to(&topic).key("customer-7").value(value);
        producer
            .send_with(record, move |result| {
                let _ = tell.send((value, result));
            })
            .await?;
    }
    drop(tell);
    producer.close().await?;
    // One key, one partition: they were called in the order of the records.
    for (value, result) in told {
        println(&format!("{value}: {:?}", result?))?;
    }
    Ok(())
}

/// Says it on standard output; a closed one is an error, not a panic.
fn println(words: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{words}")
}
