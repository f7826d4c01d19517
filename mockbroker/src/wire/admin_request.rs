//! Requests of admin clients, and the rarer ones of consumers: what they ask, and how it is read
//! from the generated messages.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//!
//! *Source* the request schemas of apache/kafka 4.3.1.

use bytes::Bytes;
use kafka_protocol::messages as kp;

use super::request::{CreateMode, Malformed, Operations, decoded};
use super::{features, listed_transactions, quotas};
use crate::api::Api;

/// The body of an admin client's request, one variant for each API.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminRequest {
    /// See [`DeleteRecords`].
    DeleteRecords(DeleteRecords),
    /// See [`OffsetForLeaderEpoch`].
    OffsetForLeaderEpoch(OffsetForLeaderEpoch),
    /// See [`DescribeConfigs`].
    DescribeConfigs(DescribeConfigs),
    /// See [`IncrementalAlterConfigs`].
    IncrementalAlterConfigs(IncrementalAlterConfigs),
    /// See [`DescribeProducers`].
    DescribeProducers(DescribeProducers),
    /// See [`DescribeCluster`].
    DescribeCluster(DescribeCluster),
    /// See [`DescribeTopicPartitions`].
    DescribeTopicPartitions(DescribeTopicPartitions),
    /// See [`CreatePartitions`].
    CreatePartitions(CreatePartitions),
    /// See [`DescribeClientQuotas`](quotas::DescribeClientQuotas).
    DescribeClientQuotas(quotas::DescribeClientQuotas),
    /// See [`AlterClientQuotas`](quotas::AlterClientQuotas).
    AlterClientQuotas(quotas::AlterClientQuotas),
    /// See [`UpdateFeatures`](features::UpdateFeatures).
    UpdateFeatures(features::UpdateFeatures),
    /// DescribeTransactions: these ids.
    DescribeTransactions(Vec<String>),
    /// See [`ListTransactions`](listed_transactions::ListTransactions).
    ListTransactions(listed_transactions::ListTransactions),
}

/// DeleteRecords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRecords {
    /// Topics by name, of each the partitions, and before which offset to delete: -1 is the high
    /// watermark.
    pub topics: Vec<(String, Vec<(i32, i64)>)>,
    /// How long to wait for the other replicas.
    pub timeout_ms: i32,
}

/// OffsetForLeaderEpoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetForLeaderEpoch {
    /// Topics by name, with what is asked of their partitions.
    pub topics: Vec<(String, Vec<EpochAsked>)>,
}

/// A partition of [`OffsetForLeaderEpoch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochAsked {
    /// Which.
    pub index: i32,
    /// The leader epoch that the client takes for today's; -1 for none.
    pub current_epoch: i32,
    /// The epoch whose end is asked for.
    pub epoch: i32,
}

/// DescribeProducers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeProducers {
    /// Topics by name, with their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeConfigs {
    /// Whose configuration.
    pub resources: Vec<ConfigResource>,
    /// Whether the answer tells where else a value could come from.
    pub synonyms: Synonyms,
}

/// Whether DescribeConfigs lists synonyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synonyms {
    /// It was asked to.
    Asked,
    /// It was not.
    NotAsked,
}

/// A resource of [`DescribeConfigs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigResource {
    /// What kind: 2 topic, 4 broker; others are not modelled.
    pub kind: i8,
    /// A topic's name, or a broker's id in digits.
    pub name: String,
    /// Which keys; `None` is all of them, and so is an empty list.
    pub keys: Option<Vec<String>>,
}

/// IncrementalAlterConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementalAlterConfigs {
    /// What to alter.
    pub resources: Vec<AlteredResource>,
    /// Whether to alter it, or only to check.
    pub mode: CreateMode,
}

/// A resource of [`IncrementalAlterConfigs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredResource {
    /// What kind: 2 topic, 4 broker; others are not modelled.
    pub kind: i8,
    /// A topic's name; a broker's id in digits, or nothing for all brokers.
    pub name: String,
    /// What to do with which keys.
    pub changes: Vec<ConfigChange>,
}

/// A key of [`AlteredResource`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// What to do: 0 set, 1 delete, 2 append, 3 subtract; other numbers are refused later.
    pub operation: i8,
    /// With which value.
    pub value: Option<String>,
}

/// DescribeCluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescribeCluster {
    /// Whether the answer tells what the client may do with the cluster.
    pub operations: Operations,
    /// What kind of listener the client wants to have asked: 1 broker, 2 controller.
    pub endpoint_type: i8,
    /// Whether the answer lists brokers that do not run.
    pub fenced: FencedBrokers,
}

/// Whether DescribeCluster lists brokers that do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FencedBrokers {
    /// It was asked to.
    Asked,
    /// It was not.
    NotAsked,
}

/// DescribeTopicPartitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeTopicPartitions {
    /// Which topics; none is all of them.
    pub topics: Vec<String>,
    /// How many partitions the answer holds at most.
    pub partitions_max: i32,
    /// Where to go on: a topic and a partition of it.
    pub cursor: Option<(String, i32)>,
}

/// CreatePartitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topics.
    pub topics: Vec<GrownTopic>,
    /// Whether to make them, or only to check.
    pub mode: CreateMode,
}

/// A topic of [`CreatePartitions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it is to have.
    pub count: i32,
    /// The brokers of each new partition, where the client chooses.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Reads the body of an admin client's request; `None` when `api` is none of theirs.
///
/// # Errors
///
/// When a field does not follow the schema.
pub(super) fn decode(
    api: Api,
    version: i16,
    body: &mut Bytes,
) -> Result<Option<AdminRequest>, Malformed> {
    Ok(Some(match api {
        Api::DeleteRecords => AdminRequest::DeleteRecords(delete_records(decoded(body, version)?)),
        Api::OffsetForLeaderEpoch => {
            AdminRequest::OffsetForLeaderEpoch(offset_for_leader_epoch(decoded(body, version)?))
        }
        Api::DescribeProducers => {
            AdminRequest::DescribeProducers(describe_producers(decoded(body, version)?))
        }
        Api::DescribeConfigs => {
            AdminRequest::DescribeConfigs(describe_configs(decoded(body, version)?))
        }
        Api::IncrementalAlterConfigs => AdminRequest::IncrementalAlterConfigs(
            incremental_alter_configs(decoded(body, version)?),
        ),
        Api::DescribeCluster => {
            AdminRequest::DescribeCluster(describe_cluster(&decoded(body, version)?))
        }
        Api::DescribeTopicPartitions => AdminRequest::DescribeTopicPartitions(
            describe_topic_partitions(decoded(body, version)?),
        ),
        Api::CreatePartitions => {
            AdminRequest::CreatePartitions(create_partitions(decoded(body, version)?))
        }
        Api::DescribeClientQuotas => {
            AdminRequest::DescribeClientQuotas(quotas::describe(decoded(body, version)?))
        }
        Api::AlterClientQuotas => {
            AdminRequest::AlterClientQuotas(quotas::alter(decoded(body, version)?))
        }
        Api::UpdateFeatures => {
            AdminRequest::UpdateFeatures(features::update(decoded(body, version)?, version))
        }
        Api::DescribeTransactions => AdminRequest::DescribeTransactions(
            listed_transactions::describe(decoded(body, version)?),
        ),
        Api::ListTransactions => {
            AdminRequest::ListTransactions(listed_transactions::list(decoded(body, version)?))
        }
        _ => return Ok(None),
    }))
}

fn delete_records(message: kp::DeleteRecordsRequest) -> DeleteRecords {
    let topics = message.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter();
        let partitions = partitions.map(|of| (of.partition_index, of.offset));
        (topic.name.to_string(), partitions.collect())
    });
    DeleteRecords {
        topics: topics.collect(),
        timeout_ms: message.timeout_ms,
    }
}

fn offset_for_leader_epoch(message: kp::OffsetForLeaderEpochRequest) -> OffsetForLeaderEpoch {
    let topics = message.topics.into_iter().map(|topic| {
        let asked = topic.partitions.into_iter().map(|of| EpochAsked {
            index: of.partition,
            current_epoch: of.current_leader_epoch,
            epoch: of.leader_epoch,
        });
        (topic.topic.to_string(), asked.collect())
    });
    OffsetForLeaderEpoch {
        topics: topics.collect(),
    }
}

fn describe_producers(message: kp::DescribeProducersRequest) -> DescribeProducers {
    let topics = message.topics.into_iter();
    DescribeProducers {
        topics: topics
            .map(|topic| (topic.name.to_string(), topic.partition_indexes))
            .collect(),
    }
}

fn describe_configs(message: kp::DescribeConfigsRequest) -> DescribeConfigs {
    let resources = message
        .resources
        .into_iter()
        .map(|resource| ConfigResource {
            kind: resource.resource_type,
            name: resource.resource_name.to_string(),
            keys: resource
                .configuration_keys
                .map(|keys| keys.into_iter().map(|key| key.to_string()).collect()),
        });
    DescribeConfigs {
        resources: resources.collect(),
        synonyms: if message.include_synonyms {
            Synonyms::Asked
        } else {
            Synonyms::NotAsked
        },
    }
}

fn incremental_alter_configs(
    message: kp::IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigs {
    let resources = message.resources.into_iter().map(|resource| {
        let changes = resource.configs.into_iter().map(|config| ConfigChange {
            key: config.name.to_string(),
            operation: config.config_operation,
            value: config.value.map(|value| value.to_string()),
        });
        AlteredResource {
            kind: resource.resource_type,
            name: resource.resource_name.to_string(),
            changes: changes.collect(),
        }
    });
    IncrementalAlterConfigs {
        resources: resources.collect(),
        mode: if message.validate_only {
            CreateMode::ValidateOnly
        } else {
            CreateMode::Create
        },
    }
}

fn describe_cluster(message: &kp::DescribeClusterRequest) -> DescribeCluster {
    DescribeCluster {
        operations: if message.include_cluster_authorized_operations {
            Operations::Asked
        } else {
            Operations::NotAsked
        },
        endpoint_type: message.endpoint_type,
        fenced: if message.include_fenced_brokers {
            FencedBrokers::Asked
        } else {
            FencedBrokers::NotAsked
        },
    }
}

fn describe_topic_partitions(
    message: kp::DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitions {
    let topics = message.topics.into_iter();
    DescribeTopicPartitions {
        topics: topics.map(|topic| topic.name.to_string()).collect(),
        partitions_max: message.response_partition_limit,
        cursor: message
            .cursor
            .map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)),
    }
}

fn create_partitions(message: kp::CreatePartitionsRequest) -> CreatePartitions {
    let topics = message.topics.into_iter().map(|topic| GrownTopic {
        name: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.map(|assignments| {
            let brokers = assignments.into_iter().map(|assignment| {
                let brokers = assignment.broker_ids.into_iter();
                brokers.map(|broker| broker.0).collect()
            });
            brokers.collect()
        }),
    });
    CreatePartitions {
        topics: topics.collect(),
        mode: if message.validate_only {
            CreateMode::ValidateOnly
        } else {
            CreateMode::Create
        },
    }
}
