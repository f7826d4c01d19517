//! Schemas in a registry, and the wire format that names them: for Avro, Protobuf and JSON Schema.
//!
//! [`SchemaRegistry`] registers a schema, or looks it up, and says its id; [`Framed`] puts the id
//! before what a serializer of your own writes. The registry is asked before records are sent,
//! never for one of them.
//!
//! ```no_run
//! use kafka_producer::schema_registry::{Framed, Schema, SchemaRegistry, SubjectName};
//! use kafka_producer::serializer::{Part, Plain};
//! use kafka_producer::{Producer, TypedRecord};
//!
//! # async fn example(producer: Producer) -> Result<(), Box<dyn std::error::Error>> {
//! let registry = SchemaRegistry::new("http://127.0.0.1:8081")?;
//! let schema = Schema::json(r#"{"type": "object"}"#);
//! let subject = SubjectName::Topic.of("orders", Part::Value);
//! let id = registry.register(&subject, &schema).await?;
//!
//! let orders = producer.topic("orders").await?;
//! let orders = orders.typed::<str, str>(Plain, Framed::new(id, Plain));
//! orders.send(TypedRecord::new("customer-7", r#"{"fruit": "apples"}"#)).await?;
//! # Ok(()) }
//! ```
//!
//! | File | Holds |
//! |---|---|
//! | `mod` | schemas, subjects |
//! | `client` | what is asked of a registry, and remembered |
//! | `http` | one request over HTTP |
//! | `framed` | the wire format |
//! | `error` | what goes wrong |
//!
//! *Source*: the REST API and wire format of Confluent's schema registry, which others speak too.
//!
//! *Not here*: encoding Avro, Protobuf or JSON (crates for it, within a
//! [`Serializer`](crate::serializer::Serializer); the example `schema_registry` has all three); TLS
//! and passwords.

mod client;
mod error;
mod framed;
mod http;

pub use client::SchemaRegistry;
pub use error::{RegistryError, RegistryErrorKind};
pub use framed::Framed;

use crate::serializer::Part;

/// A schema's number in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

/// A schema as a registry takes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Schema {
    format: SchemaFormat,
    text: String,
    references: Vec<SchemaReference>,
}

/// In what a schema is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SchemaFormat {
    /// Avro's JSON.
    Avro,
    /// A `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

/// Another registered schema that a schema refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaReference {
    /// The name that is used within the schema.
    pub name: String,
    /// The subject under which the other is registered.
    pub subject: String,
    /// Its version there, from 1.
    pub version: u32,
}

impl Schema {
    /// A schema of Avro.
    pub fn avro(text: impl Into<String>) -> Self {
        Self::new(SchemaFormat::Avro, text)
    }

    /// A schema of Protobuf.
    pub fn protobuf(text: impl Into<String>) -> Self {
        Self::new(SchemaFormat::Protobuf, text)
    }

    /// A schema of JSON Schema.
    pub fn json(text: impl Into<String>) -> Self {
        Self::new(SchemaFormat::Json, text)
    }

    /// One more schema that this one refers to.
    #[must_use]
    pub fn reference(mut self, reference: SchemaReference) -> Self {
        self.references.push(reference);
        self
    }

    fn new(format: SchemaFormat, text: impl Into<String>) -> Self {
        Self {
            format,
            text: text.into(),
            references: Vec::new(),
        }
    }
}

/// How the subject of a topic's schema is named (`value.subject.name.strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectName<'a> {
    /// By the topic: `orders-value`, `orders-key`. The topic has one schema for each part.
    #[default]
    Topic,
    /// By the full name of the record's type: it has one schema wherever it goes.
    Record(&'a str),
    /// By both: `orders-com.shop.Order`.
    TopicRecord(&'a str),
}

impl SubjectName<'_> {
    /// The subject for this part of a topic's records.
    #[must_use]
    pub fn of(&self, topic: &str, part: Part) -> String {
        match self {
            Self::Topic => format!("{topic}-{part}"),
            Self::Record(name) => (*name).to_owned(),
            Self::TopicRecord(name) => format!("{topic}-{name}"),
        }
    }
}
