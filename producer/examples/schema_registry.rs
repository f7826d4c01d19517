//! Registers a schema, and sends records that name it: the wire format of schema registries, with
//! JSON, Avro or Protobuf. The three differ in the schema and in how an order becomes bytes; only
//! Protobuf's records also say which message of their schema they are.
//!
//! `cargo run --features schema-registry --example schema_registry -- --bootstrap 127.0.0.1:9092
//! --registry http://127.0.0.1:8081 --format avro`

use std::error::Error;
use std::io::Write;

use clap::{Parser, ValueEnum};
use kafka_producer::schema_registry::{Framed, Schema, SchemaRegistry, SubjectName};
use kafka_producer::serializer::{self, BoxError, Part, Plain};
use kafka_producer::{Producer, TypedRecord};
use prost::Message;
use prost::encoding::encode_varint;
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
    /// In what records are written.
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Avro,
    Protobuf,
}

/// What is sent, whatever the format.
#[derive(Serialize, Message)]
struct Order {
    #[prost(string, tag = "1")]
    fruit: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

const JSON: &str = r#"{
    "title": "Order",
    "type": "object",
    "properties": {"fruit": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["fruit", "count"]
}"#;

const AVRO: &str = r#"{
    "type": "record",
    "name": "Order",
    "namespace": "com.shop",
    "fields": [{"name": "fruit", "type": "string"}, {"name": "count", "type": "long"}]
}"#;

/// Its second message is the one that is sent: its index is 1.
const PROTOBUF: &str = r#"syntax = "proto3";
package com.shop;

message Customer {
    string name = 1;
}

message Order {
    string fruit = 1;
    uint32 count = 2;
}
"#;

impl Format {
    fn schema(self) -> Schema {
        match self {
            Self::Json => Schema::json(JSON),
            Self::Avro => Schema::avro(AVRO),
            Self::Protobuf => Schema::protobuf(PROTOBUF),
        }
    }

    /// Writes an order, without its schema's id.
    fn write(self, order: &Order, buffer: &mut Vec<u8>) -> Result<(), BoxError> {
        match self {
            Self::Json => serde_json::to_writer(buffer, order)?,
            Self::Avro => write_avro(order, buffer),
            Self::Protobuf => order.encode(buffer)?,
        }
        Ok(())
    }
}

/// Avro has nothing between the fields of a record: the schema says what comes. A crate such as
/// `apache-avro` writes any type; two fields show what it writes.
fn write_avro(order: &Order, buffer: &mut Vec<u8>) {
    encode_varint(zigzag(order.fruit.len()), buffer);
    buffer.extend_from_slice(order.fruit.as_bytes());
    encode_varint(u64::from(order.count) << 1, buffer);
}

/// Avro's numbers are varints of zigzag, as Protobuf's `sint64`: positive ones are doubled.
fn zigzag(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX) << 1
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let registry = SchemaRegistry::new(&arguments.registry)?;
    let subject = SubjectName::Topic.of(&arguments.topic, Part::Value);
    let id = registry
        .register(&subject, &arguments.format.schema())
        .await?;
    writeln!(std::io::stdout(), "{subject} has the schema {}", id.0)?;

    let producer = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .build()?;
    let format = arguments.format;
    let write =
        serializer::from_fn(move |order: &Order, buffer: &mut Vec<u8>| format.write(order, buffer));
    let framed = match format {
        Format::Json | Format::Avro => Framed::new(id, write),
        Format::Protobuf => Framed::protobuf(id, &[1], write),
    };
    let topic = producer.topic(&arguments.topic).await?;
    let orders = topic.typed::<str, Order>(Plain, framed);
    for (fruit, count) in [("apples", 3), ("pears", 5)] {
        let fruit = fruit.to_owned();
        let order = Order { fruit, count };
        orders
            .deliver(TypedRecord::new("customer-7", &order))
            .await?;
        writeln!(std::io::stdout(), "{count} {}: written", order.fruit)?;
    }
    producer.close().await?;
    Ok(())
}
