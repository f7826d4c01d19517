//! The machines of a cluster, pure: requests become changes of these values, time is an argument.
//!
//! | File | Owns |
//! |---|---|
//! | [`cluster`] | the composition that the handlers act on |
//! | [`moves`] | what a test does to a cluster: followers, leaders, versions, producers |
//! | [`plan`] | moves that have their times |
//! | [`chance`] | moves by chance, for simulations |
//! | [`brokers`] | how brokers go and come back |
//! | [`upkeep`] | what follows when a partition changes |
//! | [`topology`] | brokers alive, topics, where replicas live |
//! | [`elections`] | who is in sync, who may lead, who leads: what the controller knows |
//! | [`partition`] | one replica set: validate, make a candidate, commit |
//! | [`validator`] | what a topic demands of a batch, and what a broker changes in it |
//! | [`record_rules`] | what a topic demands of single records |
//! | [`producer_state`] | epochs and sequences, window of five |
//! | [`producer_room`] | how many producers the partitions may know |
//! | [`log_room`] | how many bytes the logs may hold |
//! | [`log`] | batches as received, offsets, high watermark |
//! | [`open_transactions`] | what a log knows of transactions: open, aborted, stable |
//! | [`marker`] | the control batches that end transactions |
//! | [`txn_state`] | the states of a transaction and what may precede each |
//! | [`txn_coordinator`] | who may do what with a transaction: decide, log, apply |
//! | [`txn_markers`] | markers in flight, one for each partition of a transaction |
//! | [`written_markers`] | markers that requests bring |
//! | [`transactions`] | coordinators among the brokers: who they are, and what they drive |
//! | [`groups`] | groups among the brokers: who coordinates which |
//! | [`group`] | one group of consumers: members, generations, assignments |
//! | [`memberships`] | groups as their coordinators drive them |
//! | [`group_offsets`] | what groups have committed, and what transactions would commit |
//! | [`replication`] | who leads and knows it, ISR changes, the watermark rule |
//! | [`replica`] | one replica: its log, its producers, its link |
//! | [`api_limits`] | versions that a broker no longer offers |
//! | [`dynamic_config`] | configuration that is altered while the cluster runs |
//! | [`producer_ids`] | producer ids |
//! | [`fetch_sessions`] | what readers asked for last |
//! | [`moments`] | answers that are given for a moment only |
//! | [`connections`] | one request in progress per connection, the ones behind it |
//! | [`idle`] | connections without traffic |
//! | [`quotas`] | who may move how many bytes a second |
//! | [`rate`] | how many bytes a second it was |
//! | [`purgatory`] | requests that wait |
//! | [`journal`] | every request and reply, diagnostics |
//! | [`effect`] | the seam to the driver |
//! | [`time`] | what an instant is |
//!
//! `handlers::ClusterEngine` drives them.

pub mod api_limits;
pub mod brokers;
pub mod chance;
pub mod cluster;
pub mod connections;
pub mod dynamic_config;
pub mod effect;
pub mod elections;
pub mod features;
pub mod fetch_sessions;
pub mod group;
pub mod group_offsets;
pub mod groups;
pub mod idle;
pub mod journal;
pub mod log;
pub mod log_room;
pub mod marker;
pub mod memberships;
pub mod moments;
pub mod moves;
pub mod open_transactions;
pub mod partition;
pub mod plan;
pub mod producer_ids;
pub mod producer_room;
pub mod producer_state;
pub mod purgatory;
pub mod quotas;
pub mod rate;
pub mod record_rules;
pub mod replica;
pub mod replication;
pub mod time;
pub mod topology;
pub mod transactions;
pub mod txn_coordinator;
pub mod txn_markers;
pub mod txn_state;
pub mod upkeep;
pub mod validator;
pub mod written_markers;

pub use cluster::{Cluster, ClusterConfig, TopicSpec};
pub use moves::{Move, MoveError};
