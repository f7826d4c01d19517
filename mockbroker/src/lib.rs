//! An Apache Kafka cluster inside the process, for tests.
//!
//! ```
//! use kafka_mockbroker::{Api, MockCluster, Rule, Verdict};
//!
//! // Three brokers on free ports of 127.0.0.1; they end when `cluster` is dropped.
//! let cluster = MockCluster::builder().brokers(3).topic("orders", 6, 3).start()?;
//!
//! // The first Produce to partition 0 is applied, and its answer never comes.
//! let rule = Rule::on(Api::Produce).topic("orders").partition(0);
//! let lost = cluster.inject(rule.then(Verdict::ApplyThenLose));
//!
//! // Here the client under test writes, told of `cluster.bootstrap_servers()`.
//!
//! assert_eq!(lost.hits(), 0, "no client, no request");
//! assert_eq!(cluster.unfired_rules().len(), 1, "a plan that did not come to pass is told");
//! # Ok::<(), kafka_mockbroker::StartError>(())
//! ```
//!
//! [`MockCluster`] is the handle, [`Rule`] the faults, [`inspect`] what a test can read. Replies
//! come from a model of the cluster, not from a script: brokers with replicas, in-sync replicas,
//! watermarks, leader epochs and producer sequences. A test whose clock is paused uses
//! [`start_in_memory`](MockClusterBuilder::start_in_memory).
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
//! Root files: `builder` (what is to start), `cluster` (the handle), `guard` (an installed fault
//! rule), `moves` (what can be done to a running cluster), `scenario` (all of that in YAML),
//! `control` (and over HTTP), [`inspect`] (what a test can read). Pure values that every layer may
//! use: `api`, `error_code`, `config`, `duration_form`, `nearest` and `fault`.
//!
//! The modules `io`, `handlers`, `engine` and `wire` are open so that a simulation can drive them;
//! they are not covered by the promise of stable names.

mod api;
mod builder;
mod cluster;
mod config;
mod control;
mod duration_form;
#[doc(hidden)]
pub mod engine;
mod error_code;
mod fault;
mod guard;
#[doc(hidden)]
pub mod handlers;
pub mod inspect;
#[doc(hidden)]
pub mod io;
mod moves;
mod nearest;
mod scenario;
#[doc(hidden)]
pub mod wire;

pub use api::Api;
pub use builder::{MockClusterBuilder, StartError, StartErrorKind};
pub use cluster::MockCluster;
pub use config::{
    BrokerConfig, CleanupPolicy, CompressionType, ConfigError, GroupConfig, TimestampType,
    TopicConfig, TransactionConfig,
};
pub use engine::effect::{BrokerId, ConnectionId};
pub use engine::quotas::QuotaEntity;
pub use engine::{Move, MoveError};
pub use error_code::ErrorCode;
pub use fault::{
    Installed, Judgement, RequestFacts, Rule, RuleId, Rules, Scope, SeenRequest, Target, Verdict,
};
pub use guard::FaultGuard;
pub use handlers::{OtherBrokers, Snapshot};
pub use scenario::ScenarioError;
