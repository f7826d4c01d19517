//! Registers a schema, and sends records that name it: the wire format of schema registries, here
//! with JSON and JSON Schema. Avro and Protobuf differ in the inner serializer alone.
//!
//! `cargo run --features schema-registry --example schema_registry -- --bootstrap 127.0.0.1:9092
//! --registry http://127.0.0.1:8081`

use std::error::Error;
use std::io::Write;

use clap::Parser;
use kafka_producer::schema_registry::{Framed, Schema, SchemaRegistry, SubjectName};
use kafka_producer::serializer::{self, Part, Plain};
use kafka_producer::{Producer, TypedRecord};
use serde::Serialize;

/// Registers a schema, and sends records that name it.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// Where the registry is, several separated by commas.
    #[arg(long)]
    registry: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
}

#[derive(Serialize)]
struct Order {
    fruit: &'static str,
    count: u32,
}

const SCHEMA: &str = r#"{
    "title": "Order",
    "type": "object",
    "properties": {"fruit": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["fruit", "count"]
}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let registry = SchemaRegistry::new(&arguments.registry)?;
    let subject = SubjectName::Topic.of(&arguments.topic, Part::Value);
    let id = registry.register(&subject, &Schema::json(SCHEMA)).await?;
    writeln!(std::io::stdout(), "{subject} has the schema {}", id.0)?;

    let producer = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .build()?;
    let json = serializer::from_fn(|order: &Order, buffer: &mut Vec<u8>| {
        serde_json::to_writer(buffer, order)
    });
    let topic = producer.topic(&arguments.topic).await?;
    let orders = topic.typed::<str, Order>(Plain, Framed::new(id, json));
    for (fruit, count) in [("apples", 3), ("pears", 5)] {
        let order = Order { fruit, count };
        orders
            .deliver(TypedRecord::new("customer-7", &order))
            .await?;
        writeln!(std::io::stdout(), "{count} {fruit}: written")?;
    }
    producer.close().await?;
    Ok(())
}
