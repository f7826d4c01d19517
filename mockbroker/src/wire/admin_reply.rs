//! Replies to admin clients, and the rarer ones to consumers: what they say, and how it is put into
//! the generated messages.
//!
//! *Invariants*
//! 1. A value holds what the newest version can say; what an older one lacks is left out here.
//! 2. Rows leave in the order in which the handler gave them.
//!
//! *Source* the response schemas of apache/kafka 4.3.1.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages as kp;
use uuid::Uuid;

use super::reply::{Encoded, ids, name, put, text};
use super::reply_body::{Endpoint, MetadataPartition, Ownership, RowCode};
use super::{features, listed_transactions, quotas};
use crate::error_code::ErrorCode;

/// The body of a reply to an admin client, one variant for each API.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminReply {
    /// DeleteRecords: rows by topic.
    DeleteRecords(Vec<(Arc<str>, Vec<DeletedRow>)>),
    /// OffsetForLeaderEpoch: rows by topic.
    OffsetForLeaderEpoch(Vec<(String, Vec<EpochEnd>)>),
    /// DescribeProducers: rows by topic.
    DescribeProducers(Vec<(String, Vec<DescribedProducers>)>),
    /// See [`DescribeConfigs`].
    DescribeConfigs(DescribeConfigs),
    /// IncrementalAlterConfigs: one row a resource.
    IncrementalAlterConfigs(Vec<AlteredResource>),
    /// See [`DescribeCluster`].
    DescribeCluster(DescribeCluster),
    /// See [`DescribeTopicPartitions`].
    DescribeTopicPartitions(DescribeTopicPartitions),
    /// CreatePartitions: one row a topic.
    CreatePartitions(Vec<GrownTopic>),
    /// DescribeClientQuotas.
    DescribeClientQuotas(quotas::DescribedQuotas),
    /// AlterClientQuotas: one row an entity.
    AlterClientQuotas(Vec<quotas::AlteredRow>),
    /// UpdateFeatures.
    UpdateFeatures(features::UpdatedFeatures),
    /// DescribeTransactions: one row an id.
    DescribeTransactions(Vec<listed_transactions::DescribedTransaction>),
    /// ListTransactions.
    ListTransactions(listed_transactions::ListedTransactions),
}

/// A partition of DeleteRecords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedRow {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// What lies before is deleted on every replica that runs; -1 when unknown.
    pub low_watermark: i64,
}

/// A partition of OffsetForLeaderEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// The largest epoch that is not above the one asked for; -1 when unknown.
    pub epoch: i32,
    /// Where it ends; -1 when unknown.
    pub end_offset: i64,
}

/// A partition of DescribeProducers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedProducers {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
    /// The producers that are not forgotten yet.
    pub producers: Vec<DescribedProducer>,
}

/// A producer of [`DescribedProducers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescribedProducer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp_ms: i64,
    /// The epoch of the coordinator that ended its last transaction; -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins; `None` for none.
    pub transaction_start: Option<i64>,
}

/// DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeConfigs {
    /// One result a resource.
    pub results: Vec<ConfigResult>,
}

/// A resource of [`DescribeConfigs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigResult {
    /// What kind, as asked.
    pub kind: i8,
    /// Its name, as asked.
    pub name: String,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong; empty in good results.
    pub message: Option<String>,
    /// Its configuration.
    pub configs: Vec<ConfigEntry>,
}

/// A key of [`ConfigResult`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Whether a running broker takes another value.
    pub mutability: Mutability,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Where it comes from, and where it would come from otherwise; empty when not asked for.
    pub synonyms: Vec<(&'static str, String, ConfigSource)>,
    /// Of what type values are; from v3.
    pub value_type: ConfigType,
}

/// A resource of IncrementalAlterConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredResource {
    /// What kind, as asked.
    pub kind: i8,
    /// Its name, as asked.
    pub name: String,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
}

/// Whether a key may be changed while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// It may.
    Dynamic,
    /// It may not.
    ReadOnly,
}

/// Where a value comes from: `DescribeConfigsResponse.ConfigSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic's own configuration.
    Topic,
    /// What was altered for this broker.
    DynamicBroker,
    /// What was altered for all brokers.
    DynamicDefault,
    /// The file that the broker was started with.
    StaticBroker,
    /// Kafka's default.
    Default,
}

impl ConfigSource {
    pub(super) const fn id(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefault => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// Of what type a value is: `DescribeConfigsResponse.ConfigType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// Several, with commas between.
    List,
}

impl ConfigType {
    const fn id(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::List => 7,
        }
    }
}

/// DescribeCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeCluster {
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
    /// What kind of listener was asked: 1 broker; from v1.
    pub endpoint_type: i8,
    /// The cluster's id; empty on errors.
    pub cluster_id: Arc<str>,
    /// The controller; -1 for none.
    pub controller_id: i32,
    /// The brokers, and whether each runs; the latter from v2.
    pub brokers: Vec<(Endpoint, Fencing)>,
    /// What the client may do with the cluster.
    pub operations: i32,
}

/// Whether a broker takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// It does not run.
    Fenced,
    /// It runs.
    Active,
}

/// DescribeTopicPartitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeTopicPartitions {
    /// The topics.
    pub topics: Vec<DescribedTopic>,
    /// Where to go on, when something is left.
    pub next_cursor: Option<(Arc<str>, i32)>,
}

/// A topic of [`DescribeTopicPartitions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTopic {
    /// The outcome.
    pub error: ErrorCode,
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    /// Whether it is Kafka's own.
    pub internal: Ownership,
    /// Its partitions.
    pub partitions: Vec<DescribedPartition>,
    /// What the client may do with it.
    pub operations: i32,
}

/// A partition of [`DescribedTopic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedPartition {
    /// What Metadata says too.
    pub partition: MetadataPartition,
    /// Who may lead when nobody is in sync (KIP-966).
    pub eligible: Vec<i32>,
    /// Who led last, while nobody leads.
    pub last_known: Vec<i32>,
}

/// A topic of CreatePartitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownTopic {
    /// Its name.
    pub name: String,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
}

impl AdminReply {
    /// The code of every row, for the journal.
    #[must_use]
    pub fn codes(&self) -> Vec<RowCode> {
        match self {
            Self::DeleteRecords(topics) => {
                let rows = topics.iter().flat_map(|(topic, rows)| {
                    let row = |of: &DeletedRow| {
                        RowCode::of_partition(Arc::clone(topic), of.index, of.error)
                    };
                    rows.iter().map(row)
                });
                rows.collect()
            }
            Self::OffsetForLeaderEpoch(topics) => {
                let rows = topics.iter().flat_map(|(topic, rows)| {
                    rows.iter()
                        .map(|of| RowCode::of_partition(topic.as_str(), of.index, of.error))
                });
                rows.collect()
            }
            Self::DescribeProducers(topics) => {
                let rows = topics.iter().flat_map(|(topic, rows)| {
                    rows.iter()
                        .map(|of| RowCode::of_partition(topic.as_str(), of.index, of.error))
                });
                rows.collect()
            }
            Self::DescribeConfigs(body) => {
                let results = body.results.iter();
                results
                    .map(|of| RowCode::of_topic(of.name.as_str(), of.error))
                    .collect()
            }
            Self::IncrementalAlterConfigs(resources) => resources
                .iter()
                .map(|of| RowCode::of_topic(of.name.as_str(), of.error))
                .collect(),
            Self::DescribeCluster(body) => vec![RowCode::whole(body.error)],
            Self::DescribeTopicPartitions(body) => {
                let topics = body.topics.iter();
                topics
                    .map(|of| RowCode::of_topic(Arc::clone(&of.name), of.error))
                    .collect()
            }
            Self::CreatePartitions(topics) => topics
                .iter()
                .map(|of| RowCode::of_topic(of.name.as_str(), of.error))
                .collect(),
            Self::DescribeClientQuotas(body) => vec![RowCode::whole(body.error)],
            Self::AlterClientQuotas(rows) => {
                rows.iter().map(|of| RowCode::whole(of.error)).collect()
            }
            Self::UpdateFeatures(body) => vec![RowCode::whole(body.error)],
            Self::DescribeTransactions(rows) => {
                rows.iter().map(|of| RowCode::whole(of.error)).collect()
            }
            Self::ListTransactions(body) => vec![RowCode::whole(body.error)],
        }
    }

    pub(super) fn encode(&self, version: i16, frame: &mut BytesMut) -> Encoded {
        match self {
            Self::DeleteRecords(topics) => encode_delete_records(topics, version, frame),
            Self::OffsetForLeaderEpoch(topics) => encode_epoch_ends(topics, version, frame),
            Self::DescribeProducers(topics) => encode_producers(topics, version, frame),
            Self::DescribeConfigs(body) => encode_describe_configs(body, version, frame),
            Self::IncrementalAlterConfigs(resources) => {
                encode_altered_configs(resources, version, frame)
            }
            Self::DescribeCluster(body) => encode_describe_cluster(body, version, frame),
            Self::DescribeTopicPartitions(body) => {
                encode_describe_topic_partitions(body, version, frame)
            }
            Self::CreatePartitions(topics) => encode_create_partitions(topics, version, frame),
            Self::DescribeClientQuotas(body) => quotas::encode_described(body, version, frame),
            Self::AlterClientQuotas(rows) => quotas::encode_altered(rows, version, frame),
            Self::UpdateFeatures(body) => features::encode(body, version, frame),
            Self::DescribeTransactions(rows) => {
                listed_transactions::encode_described(rows, version, frame)
            }
            Self::ListTransactions(body) => {
                listed_transactions::encode_listed(body, version, frame)
            }
        }
    }
}

fn encode_delete_records(
    topics: &[(Arc<str>, Vec<DeletedRow>)],
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
    let topics = topics.iter().map(|(topic, rows)| {
        let rows = rows.iter().map(|row| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(row.index)
                .with_low_watermark(row.low_watermark)
                .with_error_code(row.error.0)
        });
        DeleteRecordsTopicResult::default()
            .with_name(name(topic))
            .with_partitions(rows.collect())
    });
    let message = kp::DeleteRecordsResponse::default().with_topics(topics.collect());
    put(&message, version, frame)
}

fn encode_epoch_ends(
    topics: &[(String, Vec<EpochEnd>)],
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
    let topics = topics.iter().map(|(topic, rows)| {
        let rows = rows.iter().map(|row| {
            EpochEndOffset::default()
                .with_partition(row.index)
                .with_error_code(row.error.0)
                .with_leader_epoch(row.epoch)
                .with_end_offset(row.end_offset)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(name(topic))
            .with_partitions(rows.collect())
    });
    let message = kp::OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    put(&message, version, frame)
}

fn encode_producers(
    topics: &[(String, Vec<DescribedProducers>)],
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
    let producer = |producer: &DescribedProducer| {
        ProducerState::default()
            .with_producer_id(kp::ProducerId(producer.id))
            .with_producer_epoch(i32::from(producer.epoch))
            .with_last_sequence(producer.last_sequence)
            .with_last_timestamp(producer.last_timestamp_ms)
            .with_coordinator_epoch(producer.coordinator_epoch)
            .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
    };
    let topics = topics.iter().map(|(topic, rows)| {
        let rows = rows.iter().map(|row| {
            PartitionResponse::default()
                .with_partition_index(row.index)
                .with_error_code(row.error.0)
                .with_error_message(row.message.as_deref().map(text))
                .with_active_producers(row.producers.iter().map(producer).collect())
        });
        TopicResponse::default()
            .with_name(name(topic))
            .with_partitions(rows.collect())
    });
    let message = kp::DescribeProducersResponse::default().with_topics(topics.collect());
    put(&message, version, frame)
}

fn encode_describe_configs(body: &DescribeConfigs, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::describe_configs_response::{
        DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    };
    let entry = |entry: &ConfigEntry| {
        let synonyms = entry.synonyms.iter().map(|(key, value, source)| {
            DescribeConfigsSynonym::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
                .with_source(source.id())
        });
        let mut encoded = DescribeConfigsResourceResult::default()
            .with_name(text(entry.key))
            .with_value(Some(text(&entry.value)))
            .with_read_only(entry.mutability == Mutability::ReadOnly)
            .with_config_source(entry.source.id())
            .with_synonyms(synonyms.collect())
            .with_documentation(None);
        if version >= 3 {
            encoded.config_type = entry.value_type.id();
        }
        encoded
    };
    let results = body.results.iter().map(|result| {
        DescribeConfigsResult::default()
            .with_error_code(result.error.0)
            .with_error_message(result.message.as_deref().map(text))
            .with_resource_type(result.kind)
            .with_resource_name(text(&result.name))
            .with_configs(result.configs.iter().map(entry).collect())
    });
    let message = kp::DescribeConfigsResponse::default().with_results(results.collect());
    put(&message, version, frame)
}

fn encode_altered_configs(
    resources: &[AlteredResource],
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    let responses = resources.iter().map(|resource| {
        kp::incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(resource.error.0)
            .with_error_message(resource.message.as_deref().map(text))
            .with_resource_type(resource.kind)
            .with_resource_name(text(&resource.name))
    });
    let message =
        kp::IncrementalAlterConfigsResponse::default().with_responses(responses.collect());
    put(&message, version, frame)
}

fn encode_describe_cluster(body: &DescribeCluster, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::describe_cluster_response::DescribeClusterBroker;
    let brokers = body.brokers.iter().map(|(endpoint, fencing)| {
        DescribeClusterBroker::default()
            .with_broker_id(kp::BrokerId(endpoint.id))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_is_fenced(version >= 2 && *fencing == Fencing::Fenced)
    });
    let mut message = kp::DescribeClusterResponse::default()
        .with_error_code(body.error.0)
        .with_error_message(body.message.as_deref().map(text))
        .with_cluster_id(text(&body.cluster_id))
        .with_controller_id(kp::BrokerId(body.controller_id))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(body.operations);
    if version >= 1 {
        message.endpoint_type = body.endpoint_type;
    }
    put(&message, version, frame)
}

fn encode_describe_topic_partitions(
    body: &DescribeTopicPartitions,
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    };
    let partition = |described: &DescribedPartition| {
        let partition = &described.partition;
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(partition.error.0)
            .with_partition_index(partition.index)
            .with_leader_id(kp::BrokerId(partition.leader.id))
            .with_leader_epoch(partition.leader.epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_eligible_leader_replicas(Some(ids(&described.eligible)))
            .with_last_known_elr(Some(ids(&described.last_known)))
            .with_offline_replicas(ids(&partition.offline))
    };
    let topics = body.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(topic.error.0)
            .with_name(Some(name(&topic.name)))
            .with_topic_id(topic.id)
            .with_is_internal(topic.internal == Ownership::Internal)
            .with_partitions(topic.partitions.iter().map(partition).collect())
            .with_topic_authorized_operations(topic.operations)
    });
    let cursor = body.next_cursor.as_ref().map(|(topic, partition)| {
        Cursor::default()
            .with_topic_name(name(topic))
            .with_partition_index(*partition)
    });
    let message = kp::DescribeTopicPartitionsResponse::default()
        .with_topics(topics.collect())
        .with_next_cursor(cursor);
    put(&message, version, frame)
}

fn encode_create_partitions(topics: &[GrownTopic], version: i16, frame: &mut BytesMut) -> Encoded {
    let results = topics.iter().map(|topic| {
        kp::create_partitions_response::CreatePartitionsTopicResult::default()
            .with_name(name(&topic.name))
            .with_error_code(topic.error.0)
            .with_error_message(topic.message.as_deref().map(text))
    });
    let message = kp::CreatePartitionsResponse::default().with_results(results.collect());
    put(&message, version, frame)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::Api;
    use crate::wire::reply_body::LeaderHint;

    fn endpoint() -> Endpoint {
        Endpoint {
            id: 2,
            host: "mock".into(),
            port: 9092,
        }
    }

    fn config() -> ConfigEntry {
        ConfigEntry {
            key: "segment.bytes",
            value: "1".into(),
            mutability: Mutability::ReadOnly,
            source: ConfigSource::Topic,
            synonyms: vec![("log.segment.bytes", "2".into(), ConfigSource::StaticBroker)],
            value_type: ConfigType::Int,
        }
    }

    fn topic(error: ErrorCode) -> DescribedTopic {
        let partition = MetadataPartition {
            error,
            index: 0,
            leader: LeaderHint { id: 2, epoch: 5 },
            replicas: vec![1, 2],
            isr: vec![2],
            offline: vec![1],
        };
        DescribedTopic {
            error,
            name: "orders".into(),
            id: Uuid::from_u128(7),
            internal: Ownership::Internal,
            partitions: vec![DescribedPartition {
                partition,
                eligible: vec![3],
                last_known: vec![4],
            }],
            operations: 9,
        }
    }

    /// A reply of the API in which everything is set that any version can say.
    pub(crate) fn everything(api: Api, error: ErrorCode) -> AdminReply {
        let message = Some("wrong".to_owned());
        match api {
            Api::DescribeConfigs => AdminReply::DescribeConfigs(DescribeConfigs {
                results: vec![ConfigResult {
                    kind: 2,
                    name: "orders".into(),
                    error,
                    message,
                    configs: vec![config()],
                }],
            }),
            Api::IncrementalAlterConfigs => {
                AdminReply::IncrementalAlterConfigs(vec![AlteredResource {
                    kind: 2,
                    name: "orders".into(),
                    error,
                    message,
                }])
            }
            Api::DescribeCluster => AdminReply::DescribeCluster(DescribeCluster {
                error,
                message,
                endpoint_type: 2,
                cluster_id: "cluster".into(),
                controller_id: 2,
                brokers: vec![(endpoint(), Fencing::Fenced)],
                operations: 9,
            }),
            Api::DescribeTopicPartitions => {
                AdminReply::DescribeTopicPartitions(DescribeTopicPartitions {
                    topics: vec![topic(error)],
                    next_cursor: Some(("orders".into(), 3)),
                })
            }
            Api::CreatePartitions => AdminReply::CreatePartitions(vec![GrownTopic {
                name: "orders".into(),
                error,
                message,
            }]),
            other => by_partition(other, error),
        }
    }

    /// The same for replies whose rows are partitions.
    fn by_partition(api: Api, error: ErrorCode) -> AdminReply {
        let message = Some("wrong".to_owned());
        match api {
            Api::DeleteRecords => {
                let row = DeletedRow {
                    index: 3,
                    error,
                    low_watermark: 4,
                };
                AdminReply::DeleteRecords(vec![("orders".into(), vec![row])])
            }
            Api::OffsetForLeaderEpoch => {
                let row = EpochEnd {
                    index: 3,
                    error,
                    epoch: 5,
                    end_offset: 4,
                };
                AdminReply::OffsetForLeaderEpoch(vec![("orders".into(), vec![row])])
            }
            Api::DescribeProducers => {
                let producer = DescribedProducer {
                    id: 4_000,
                    epoch: 1,
                    last_sequence: 9,
                    last_timestamp_ms: 5,
                    coordinator_epoch: 2,
                    transaction_start: Some(7),
                };
                let row = DescribedProducers {
                    index: 3,
                    error,
                    message,
                    producers: vec![producer],
                };
                AdminReply::DescribeProducers(vec![("orders".into(), vec![row])])
            }
            other => of_quotas(other, error),
        }
    }

    fn of_quotas(api: Api, error: ErrorCode) -> AdminReply {
        let message = Some("wrong".to_owned());
        match api {
            Api::DescribeClientQuotas => {
                AdminReply::DescribeClientQuotas(quotas::DescribedQuotas {
                    error,
                    message,
                    entries: Some(vec![quotas::DescribedEntity {
                        entity: vec![("user".into(), None)],
                        values: vec![("producer_byte_rate", 1.5)],
                    }]),
                })
            }
            Api::AlterClientQuotas => AdminReply::AlterClientQuotas(vec![quotas::AlteredRow {
                entity: vec![("client-id".into(), Some("app".into()))],
                error,
                message,
            }]),
            Api::UpdateFeatures => AdminReply::UpdateFeatures(features::everything(error)),
            Api::DescribeTransactions => {
                AdminReply::DescribeTransactions(listed_transactions::everything_described(error))
            }
            Api::ListTransactions => {
                AdminReply::ListTransactions(listed_transactions::everything_listed(error))
            }
            other => panic!("{other} has no reply here"),
        }
    }
}
