//! An Apache Kafka cluster inside the process, for tests.
//!
//! # Map
//!
//! | Layer | Holds | Knows of |
//! |---|---|---|
//! | root files | the public API: builder, handle, fault rules, views for assertions | all |
//! | [`io`] | listeners, connections, the clock, on tokio | `handlers`, `engine`, `wire` |
//! | [`handlers`] | one file per API: parse, act, answer | `engine`, `wire` |
//! | [`engine`] | the cluster as one value: topology, logs, replication, producers | `wire` |
//! | [`wire`] | bytes to values and back | nothing |
//!
//! Root files: `builder` (what is to start), `cluster` (the handle), [`inspect`] (what a test can
//! read). Pure values that every layer may use: `api`, `error_code`, `config` and `fault`.
//!
//! The modules `io`, `handlers`, `engine` and `wire` are open so that a simulation can drive them;
//! they are not covered by the promise of stable names.

mod api;
mod builder;
mod cluster;
mod config;
#[doc(hidden)]
pub mod engine;
mod error_code;
mod fault;
#[doc(hidden)]
pub mod handlers;
pub mod inspect;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod wire;

pub use api::Api;
pub use builder::{MockClusterBuilder, StartError, StartErrorKind};
pub use cluster::{FaultGuard, MockCluster};
pub use config::{
    BrokerConfig, CleanupPolicy, CompressionType, ConfigError, TimestampType, TopicConfig,
};
pub use engine::effect::{BrokerId, ConnectionId};
pub use error_code::ErrorCode;
pub use fault::{Judgement, RequestFacts, Rule, RuleId, Rules, Scope, Target, Verdict};
