//! The answers to the control plane's questions, as our own values.
//!
//! *Invariants*
//! 1. No foreign type: what reads them (`control.rs`) may be replaced without anyone noticing.
//!
//! *Source*: Kafka's `ApiVersionsResponse.json`, `MetadataResponse.json`,
//! `InitProducerIdResponse.json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ErrorCode;
use crate::types::{BrokerId, LeaderEpoch, ProducerEpoch, ProducerId, TopicId};

/// The versions of one API that a broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API's key.
    pub api_key: i16,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

/// What a broker speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsAnswer {
    /// 0, or 35 when the version of the question was unknown: then only the row of ApiVersions
    /// itself can be relied upon.
    pub error: ErrorCode,
    /// One row per API.
    pub ranges: Vec<ApiRange>,
    /// What the cluster has agreed on, if the broker tells (v3 and later).
    pub finalized: Option<FinalizedFeatures>,
}

/// What a cluster has agreed on (KIP-584), as far as a producer asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalizedFeatures {
    /// Grows with each agreement.
    pub epoch: i64,
    /// `transaction.version`; 0 when there is none.
    pub transaction_version: i16,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// Its node id.
    pub id: BrokerId,
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// Brokers and the topics asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataAnswer {
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// The code for the whole answer (v13), else 0.
    pub error: ErrorCode,
    /// The brokers alive.
    pub brokers: Vec<BrokerEndpoint>,
    /// The racks of those that have one (`broker.rack`).
    pub racks: BTreeMap<BrokerId, Arc<str>>,
    /// The topics, in no order.
    pub topics: Vec<TopicAnswer>,
}

/// One topic of a [`MetadataAnswer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicAnswer {
    /// 0, or why there are no partitions.
    pub error: ErrorCode,
    /// The topic's name.
    pub name: Option<Arc<str>>,
    /// Its id; zero before v10.
    pub id: TopicId,
    /// Its partitions, in no order.
    pub partitions: Vec<PartitionAnswer>,
}

/// One partition of a [`TopicAnswer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// The partition's number.
    pub index: i32,
    /// Who leads it, if anyone does.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; `None` before v7.
    pub epoch: Option<LeaderEpoch>,
    /// Who keeps it.
    pub replicas: Replicas,
}

/// The brokers that keep a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// All that do, the preferred leader first.
    pub all: Vec<BrokerId>,
    /// Those that have all that is written.
    pub in_sync: Vec<BrokerId>,
    /// Those that are offline; none before v5.
    pub offline: Vec<BrokerId>,
}

/// A producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdAnswer {
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// 0, or why there is no id.
    pub error: ErrorCode,
    /// The id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}
