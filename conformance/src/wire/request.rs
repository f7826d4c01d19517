//! Requests as bytes; with `transaction_request.rs` and `group_request.rs` the only file here that
//! imports `kafka_protocol`.
//!
//! Bodies are laid out by that crate, headers by hand, since cases send headers that no client
//! would (null client id, unknown keys, versions out of range).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterPartitionReassignmentsRequest, ApiVersionsRequest, BrokerId,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, ElectLeadersRequest,
    FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    ProducerId, TopicName, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::reader::Layout;

/// A request that cannot be put into bytes at the version asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} v{version} cannot be encoded: {reason}")]
pub struct EncodeError {
    name: &'static str,
    version: i16,
    reason: String,
}

/// The fields before a request's body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header<'a> {
    /// The API's number.
    pub api_key: i16,
    /// Version of the request.
    pub version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
    /// Who asks; `None` is sent as null.
    pub client_id: Option<&'a str>,
    /// Whether tagged fields follow.
    pub layout: Layout,
}

impl Header<'_> {
    /// Header and `body` as one frame, without the four bytes of size.
    pub fn frame(&self, body: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i16(self.api_key);
        frame.put_i16(self.version);
        frame.put_i32(self.correlation_id);
        // The client id keeps its two-byte length in flexible headers too (KIP-482).
        match self.client_id {
            None => frame.put_i16(-1),
            Some(id) => {
                let id = &id.as_bytes()[..id.len().min(CLIENT_ID_BYTES_MAX)];
                frame.put_i16(i16::try_from(id.len()).unwrap_or(i16::MAX));
                frame.put_slice(id);
            }
        }
        if self.layout == Layout::Flexible {
            frame.put_u8(0);
        }
        frame.put_slice(body);
        frame.freeze()
    }
}

const CLIENT_ID_BYTES_MAX: usize = 32_767;

/// The body of ApiVersions.
pub(super) fn api_versions(version: i16) -> Result<Bytes, EncodeError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("kafka-conformance"))
        .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
    encode("ApiVersions", &request, version)
}

/// The body of Metadata.
pub(super) fn metadata(
    question: &super::answer::Metadata,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topics = question.names.as_deref().map(|names| {
        names
            .iter()
            .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
            .collect()
    });
    // The field exists from version 4; before, a broker creates as its configuration says.
    let create = version < 4 || question.missing == super::answer::Missing::Create;
    let request = MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(create);
    encode("Metadata", &request, version)
}

/// The body of Metadata that asks by topic id (version 12 and later).
pub(super) fn metadata_by_id(ids: &[[u8; 16]], version: i16) -> Result<Bytes, EncodeError> {
    let topics = ids
        .iter()
        .map(|id| {
            MetadataRequestTopic::default()
                .with_topic_id(uuid::Uuid::from_bytes(*id))
                .with_name(None)
        })
        .collect();
    let request = MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(false);
    encode("Metadata", &request, version)
}

/// The body of CreateTopics for one topic with replication factor `replicas`.
pub(super) fn create_topic(
    question: &super::answer::CreateTopic,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let configs = question
        .configs
        .iter()
        .map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        })
        .collect();
    let topic = CreatableTopic::default()
        .with_name(topic_name(&question.name))
        .with_num_partitions(question.partitions)
        .with_replication_factor(question.replicas)
        .with_configs(configs);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    encode("CreateTopics", &request, version)
}

/// The body of DeleteTopics for one topic.
pub(super) fn delete_topic(
    question: &super::admin::DeleteTopic,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(&question.name)])
        .with_timeout_ms(TIMEOUT_MS);
    encode("DeleteTopics", &request, version)
}

/// The body of CreatePartitions for one topic.
pub(super) fn create_partitions(
    question: &super::admin::GrowTopic,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(&question.name))
        .with_count(question.partitions)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    encode("CreatePartitions", &request, version)
}

/// The body of AlterClientQuotas for one quota of one client id.
pub(super) fn alter_client_quotas(
    question: &super::admin::SetQuota,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let entity = EntityData::default()
        .with_entity_type(text("client-id"))
        .with_entity_name(Some(text(&question.client_id)));
    let op = OpData::default()
        .with_key(text(question.key))
        .with_value(question.value);
    let entry = EntryData::default()
        .with_entity(vec![entity])
        .with_ops(vec![op]);
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    encode("AlterClientQuotas", &request, version)
}

/// The body of UpdateFeatures for one feature.
pub(super) fn raise_feature(
    question: &super::admin::RaiseFeature,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let update = FeatureUpdateKey::default()
        .with_feature(text(question.feature))
        .with_max_version_level(question.level);
    let request = UpdateFeaturesRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_feature_updates(vec![update]);
    encode("UpdateFeatures", &request, version)
}

/// The body of InitProducerId.
pub(super) fn reassign(
    change: &super::admin::Reassign,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let replicas = change.replicas.iter().copied().map(BrokerId).collect();
    let partition = ReassignablePartition::default()
        .with_partition_index(change.partition)
        .with_replicas(Some(replicas));
    let topic = ReassignableTopic::default()
        .with_name(topic_name(&change.topic))
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(vec![topic]);
    encode("AlterPartitionReassignments", &request, version)
}

pub(super) fn elect_preferred(
    change: &super::admin::ElectPreferred,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topic = TopicPartitions::default()
        .with_topic(topic_name(&change.topic))
        .with_partitions(vec![change.partition]);
    let request = ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![topic]))
        .with_timeout_ms(TIMEOUT_MS);
    encode("ElectLeaders", &request, version)
}

pub(super) fn init_producer_id(
    transactional: Option<(&str, i32)>,
    question: super::answer::InitProducerId,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transactional.map(|(id, _)| text(id).into()))
        .with_transaction_timeout_ms(transactional.map_or(TIMEOUT_MS, |(_, timeout_ms)| timeout_ms))
        .with_producer_id(ProducerId(question.producer_id))
        .with_producer_epoch(question.epoch);
    encode("InitProducerId", &request, version)
}

/// The body of ListOffsets for the partitions of one topic.
pub(super) fn list_offsets(
    question: &super::answer::ListOffsets,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let partitions = question
        .partitions
        .iter()
        .map(|&index| {
            ListOffsetsPartition::default()
                .with_partition_index(index)
                .with_current_leader_epoch(-1)
                .with_timestamp(question.timestamp)
        })
        .collect();
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(&question.topic))
        .with_partitions(partitions);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    // Version 11 has the layout of 10 (KIP-1023).
    encode("ListOffsets", &request, version.min(10))
}

/// The body of Fetch for one partition, by topic name.
pub(super) fn fetch(question: &super::records::Fetch, version: i16) -> Result<Bytes, EncodeError> {
    let topic = FetchTopic::default().with_topic(topic_name(&question.topic));
    encode("Fetch", &fetch_request(question, topic), version)
}

/// The same as one who reads what is committed.
pub(super) fn fetch_committed(
    question: &super::records::Fetch,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topic = FetchTopic::default().with_topic(topic_name(&question.topic));
    let request = fetch_request(question, topic).with_isolation_level(1);
    encode("Fetch", &request, version)
}

/// The body of Fetch for one partition, by topic id.
pub(super) fn fetch_by_id(
    question: &super::records::FetchById,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topic = FetchTopic::default().with_topic_id(uuid::Uuid::from_bytes(question.id));
    encode("Fetch", &fetch_request(&question.fetch, topic), version)
}

fn fetch_request(question: &super::records::Fetch, topic: FetchTopic) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(question.partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(question.offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(question.bytes_max);
    let topic = topic.with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(question.wait_ms_max)
        .with_min_bytes(1)
        .with_max_bytes(question.bytes_max)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// The body of Produce.
pub(super) fn produce(
    question: &super::produce::Produce,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topics = question
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|(index, records)| {
                    PartitionProduceData::default()
                        .with_index(*index)
                        .with_records(records.clone())
                })
                .collect();
            let data = TopicProduceData::default().with_partition_data(partitions);
            if version >= super::produce::TOPIC_ID_FROM {
                data.with_topic_id(uuid::Uuid::from_bytes(topic.id))
            } else {
                data.with_name(topic_name(&topic.name))
            }
        })
        .collect();
    let request = ProduceRequest::default()
        .with_acks(question.acks)
        .with_transactional_id(
            question
                .transactional_id
                .as_deref()
                .map(|id| text(id).into()),
        )
        .with_timeout_ms(question.timeout_ms)
        .with_topic_data(topics);
    encode("Produce", &request, version)
}

pub(super) fn encode<T: Encodable>(
    name: &'static str,
    request: &T,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut body = BytesMut::new();
    match request.encode(&mut body, version) {
        Ok(()) => Ok(body.freeze()),
        Err(error) => Err(EncodeError {
            name,
            version,
            reason: error.to_string(),
        }),
    }
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// How long a broker may take for anything asked here, in milliseconds.
pub(super) const TIMEOUT_MS: i32 = 10_000;
