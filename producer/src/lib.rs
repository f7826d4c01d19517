//! A Kafka producer for tokio that says of each record whether it was written, not written, or
//! possibly written.
//!
//! ```no_run
//! use kafka_producer::{Outcome, Producer, Record};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder().bootstrap_servers("127.0.0.1:9092").build()?;
//!
//! // Waits for room and metadata, not for the broker: many records are on their way at once.
//! let apples = Record::to("orders").key("customer-7").value("3 apples").header("trace", "1");
//! let delivery = producer.send(apples).await?;
//! let written = delivery.await?;
//! println!("partition {}, offset {:?}", written.partition, written.offset);
//!
//! // The three fates of a record, told apart by type.
//! let pears = Record::to("orders").key("customer-7").value("5 pears");
//! match producer.send(pears).await?.outcome().await {
//!     Outcome::Written(written) => println!("at {:?}", written.offset),
//!     Outcome::NotWritten(error) => println!("safe to send again: {error}"),
//!     Outcome::Unknown(error) => println!("sending again may duplicate: {error}"),
//! }
//!
//! producer.close().await?;
//! # Ok(()) }
//! ```
//!
//! Keys and values may be of any type, through serializers ([`TypedTopic`]):
//!
//! ```no_run
//! use kafka_producer::TypedRecord;
//! use kafka_producer::serializer::Plain;
//! # use kafka_producer::Producer;
//!
//! # async fn example(producer: Producer) -> Result<(), Box<dyn std::error::Error>> {
//! let readings = producer.topic("readings").await?.typed::<str, f64>(Plain, Plain);
//! readings.send(TypedRecord::new("sensor-7", &21.5)).await?;
//! # Ok(()) }
//! ```
//!
//! Idempotence and `acks=all` are on by default: retries neither lose, duplicate nor reorder.
//!
//! | To | See |
//! |---|---|
//! | configure by Kafka's names, with methods, pairs or Java's properties files | [`ProducerBuilder`] |
//! | see what a producer runs with, and why | [`Producer::config`] |
//! | send often to one topic | [`Topic`] |
//! | send many records at once | [`Producer::send_all`] |
//! | know who leads and who keeps a topic's partitions | [`Producer::partitions_for`] |
//! | have a function called in place of awaiting | [`Producer::send_with`], [`Producer::send_all_with`] |
//! | send from threads without async code | [`Producer::send_blocking`], [`Delivery::wait`], [`Producer::init_transactions_blocking`] |
//! | never wait | [`Producer::try_send`] |
//! | have records count together or not at all | [`Producer::init_transactions`] |
//! | write a transaction while those before it are committed | [`Lanes`] |
//! | choose partitions otherwise | [`partitioner`] |
//! | see and change each record, and learn its fate | [`Interceptor`] |
//! | have brokers asked before a record ends as possibly written | [`ProducerBuilder::outcome_resolve_timeout`] |
//! | see how it does, by Kafka's metrics | [`Producer::metrics`] |
//! | name schemas of a registry | the module `schema_registry`, with the feature of that name |
//!
//! # Map
//!
//! | Layer | Holds | Knows of |
//! |---|---|---|
//! | root files | the public API; `types` and `error`, plain values, serve every layer | all |
//! | [`io`] | sockets, tasks, locks, the clock, randomness | `engine`, `wire`, values |
//! | [`engine`] | state machines: input in, actions out, time as an argument | `wire`, values |
//! | [`wire`] | bytes to values and back | values |
//!
//! The modules `io`, `engine` and `wire` are open so that a simulation can drive them; they are not
//! covered by the promise of stable names.

#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod io;
pub mod partitioner;
#[cfg(feature = "schema-registry")]
pub mod schema_registry;
pub mod serializer;
#[doc(hidden)]
pub mod wire;

mod blocking_transactions;
mod config;
mod delivery;
mod error;
#[cfg(test)]
mod error_table;
mod group_offsets;
mod handle;
mod interceptor;
mod lanes;
mod produce_error;
mod producer;
mod record;
mod scratch;
mod send_all;
mod sending;
mod topic;
mod transaction_error;
mod transactions;
mod typed_topic;
mod types;

pub use config::{
    ConfigEntry, ConfigError, ConfigErrorKind, Configuration, KeyUse, MetadataRecovery,
    ProducerBuilder,
};
pub use delivery::{Delivery, Outcome, Written};
pub use engine::Idempotence;
pub use engine::transaction::Misuse;
pub use error::{ErrorCode, Failure, FailureKind, Fault, RefusedRecord};
pub use group_offsets::{ConsumedOffset, ConsumerGroup};
pub use interceptor::{Acknowledgement, InterceptedRecord, Interceptor};
pub use io::meters::snapshot::{Metric, MetricScope, Metrics};
pub use io::meters::stages::{Spread, StageTimes};
pub use io::names::DnsLookup;
pub use io::sticky::Weighting;
pub use lanes::{LaneCommit, LaneCommitError, LaneTransaction, Lanes, LanesError};
pub use produce_error::{ProduceError, ProduceErrorKind};
pub use producer::Producer;
pub use record::{Header, Record};
pub use topic::{PartitionInfo, Topic};
pub use transaction_error::{
    AbortError, CommitError, Remedy, TransactionError, TransactionErrorKind,
};
pub use transactions::{PendingAbort, PendingCommit, Transaction, Transactions};
pub use typed_topic::{TypedRecord, TypedTopic};
pub use types::{
    Acks, BrokerId, CompressionType, LeaderEpoch, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicIndex, TopicPartition,
};
