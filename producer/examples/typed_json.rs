//! Sends values of a type of one's own as JSON, with text as keys.
//!
//! `cargo run --example typed_json -- --bootstrap 127.0.0.1:9092 --topic orders`

use std::error::Error;
use std::io::Write;

use clap::Parser;
use kafka_producer::serializer::{self, Plain};
use kafka_producer::{Producer, TypedRecord, TypedTopic};
use serde::Serialize;

/// Sends values of a type of one's own as JSON, with text as keys.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
}

#[derive(Serialize)]
struct Order<'a> {
    fruit: &'a str,
    count: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { bootstrap, topic } = Arguments::parse();
    let producer = Producer::builder().bootstrap_servers(bootstrap).build()?;
    let json = serializer::from_fn(|order: &Order<'_>, buffer: &mut Vec<u8>| {
        serde_json::to_writer(buffer, order)
    });
    let orders: TypedTopic<str, Order<'_>> = producer.topic(&topic).await?.typed(Plain, json);

    let mut deliveries = Vec::new();
    for (fruit, count) in [("apples", 3), ("pears", 5), ("plums", 8)] {
        let order = Order { fruit, count };
        deliveries.push(orders.send(TypedRecord::new("customer-7", &order)).await?);
    }
    // The last value of the key is deleted when the topic is compacted.
    deliveries.push(orders.send(TypedRecord::tombstone("customer-7")).await?);
    for delivery in deliveries {
        writeln!(std::io::stdout(), "{:?}", delivery.await?)?;
    }
    producer.close().await?;
    Ok(())
}
