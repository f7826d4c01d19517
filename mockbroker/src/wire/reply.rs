//! Replies to frames. Only `request.rs` and `admin_*.rs` beside it know the `kafka-protocol` crate.
//!
//! *Invariants*
//! 1. A reply is encoded in the version of its request, and a field that the version lacks is left
//!    out here, so that encoding cannot fail on what a handler decided.
//! 2. Rows leave in the order in which the handler gave them.
//!
//! *Source* the response schemas of apache/kafka 4.3.1.

use core::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Encodable, StrBytes};

pub use super::admin_reply::AdminReply;
pub use super::reply_body::*;
use super::request::RequestHeader;
use super::versions;
use crate::api::Api;
use crate::error_code::ErrorCode;

/// A reply that cannot be written in the version of its request; a defect of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{api} version {version} reply does not encode: {reason}")]
pub struct Unencodable {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// What the encoder says.
    pub reason: String,
}

impl Reply {
    /// The frame to send, without the four bytes of size before it. Produce and Fetch tell for how
    /// long their connection is throttled.
    ///
    /// # Errors
    ///
    /// When a value does not fit its field, such as a name of more than 32,767 bytes.
    pub fn encode(
        &self,
        request: &RequestHeader,
        throttle: Duration,
    ) -> Result<Bytes, Unencodable> {
        let throttle_ms = i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX);
        let (api, version) = (request.api, request.version);
        let served = versions::of(api);
        let mut frame = BytesMut::new();
        frame.put_i32(request.correlation_id);
        // ApiVersions answers with header version 0 always, so that an old client can read that
        // its version is unknown (KIP-511).
        if served.is_some_and(|served| served.is_flexible(version)) && api != Api::ApiVersions {
            frame.put_u8(0);
        }
        let encoded = match self {
            Self::Produce(body) => encode_produce(body, throttle_ms, version, &mut frame),
            Self::Fetch(body) => encode_fetch(body, throttle_ms, version, &mut frame),
            Self::ListOffsets(body) => encode_list_offsets(body, version, &mut frame),
            Self::Metadata(body) => encode_metadata(body, version, &mut frame),
            Self::FindCoordinator(body) => encode_find_coordinator(body, version, &mut frame),
            Self::ApiVersions(body) => {
                // An unknown version is answered in the layout of version 0 (KIP-511).
                let known = served.is_some_and(|served| served.served.contains(version))
                    && body.error != ErrorCode::UNSUPPORTED_VERSION;
                encode_api_versions(body, if known { version } else { 0 }, &mut frame)
            }
            Self::CreateTopics(body) => encode_create_topics(body, version, &mut frame),
            Self::DeleteTopics(body) => encode_delete_topics(body, version, &mut frame),
            Self::InitProducerId(body) => encode_init_producer_id(body, version, &mut frame),
            Self::Txn(body) => body.encode(version, &mut frame),
            Self::Offsets(body) => body.encode(version, &mut frame),
            Self::Groups(body) => body.encode(version, &mut frame),
            Self::Admin(body) => body.encode(version, &mut frame),
        };
        match encoded {
            Ok(()) => Ok(frame.freeze()),
            Err(reason) => Err(Unencodable {
                api,
                version,
                reason,
            }),
        }
    }
}

pub(super) type Encoded = Result<(), String>;

pub(super) fn put(message: &impl Encodable, version: i16, frame: &mut BytesMut) -> Encoded {
    message
        .encode(frame, version)
        .map_err(|error| error.to_string())
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn name(name: &str) -> kp::TopicName {
    kp::TopicName(text(name))
}

pub(super) fn ids(ids: &[i32]) -> Vec<kp::BrokerId> {
    ids.iter().copied().map(kp::BrokerId).collect()
}

/// Bytes of the size before a frame.
pub const SIZE_BYTES: usize = 4;

/// A frame behind its size, as it is on the wire.
#[must_use]
pub fn sized(frame: &Bytes) -> Bytes {
    // No reply reaches 2 GiB: requests are bounded, and Fetch by what it asks for as an i32.
    let size = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    [&size.to_be_bytes()[..], frame].concat().into()
}

fn encode_produce(body: &Produce, throttle_ms: i32, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
        TopicProduceResponse,
    };
    let row = |row: &ProduceRow| {
        let mut encoded = PartitionProduceResponse::default()
            .with_index(row.index)
            .with_error_code(row.error.0)
            .with_base_offset(row.base_offset)
            .with_log_append_time_ms(row.log_append_time_ms)
            .with_log_start_offset(if version >= 5 {
                row.log_start_offset
            } else {
                -1
            });
        if version >= 8 {
            encoded.error_message = row.message.as_deref().map(text);
            let errors = row.record_errors.iter().map(|(index, message)| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(*index)
                    .with_batch_index_error_message(Some(text(message)))
            });
            encoded.record_errors = errors.collect();
        }
        if version >= 10
            && let Some(hint) = row.leader_hint
        {
            encoded.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(kp::BrokerId(hint.id))
                .with_leader_epoch(hint.epoch);
        }
        encoded
    };
    let topics = body.topics.iter().map(|(label, rows)| {
        let encoded = TopicProduceResponse::default()
            .with_partition_responses(rows.iter().map(row).collect());
        if version >= 13 {
            encoded.with_topic_id(label.id)
        } else {
            encoded.with_name(name(&label.name))
        }
    });
    let mut encoded = kp::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(throttle_ms);
    if version >= 10 {
        let endpoints = body.endpoints.iter().map(|endpoint| {
            NodeEndpoint::default()
                .with_node_id(kp::BrokerId(endpoint.id))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        });
        encoded.node_endpoints = endpoints.collect();
    }
    put(&encoded, version, frame)
}

fn encode_fetch(body: &Fetch, throttle_ms: i32, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::fetch_response::{
        FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
    };
    let row = |row: &FetchRow| {
        let mut encoded = PartitionData::default()
            .with_partition_index(row.index)
            .with_error_code(row.error.0)
            .with_high_watermark(row.high_watermark)
            .with_last_stable_offset(row.last_stable_offset)
            .with_log_start_offset(if version >= 5 {
                row.log_start_offset
            } else {
                -1
            })
            .with_aborted_transactions(row.aborted.as_deref().map(aborted))
            .with_records(Some(row.records.clone()));
        if version >= 16
            && let Some(hint) = row.leader_hint
        {
            encoded.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(kp::BrokerId(hint.id))
                .with_leader_epoch(hint.epoch);
        }
        encoded
    };
    let topics = body.topics.iter().map(|(label, rows)| {
        let encoded =
            FetchableTopicResponse::default().with_partitions(rows.iter().map(row).collect());
        if version >= 13 {
            encoded.with_topic_id(label.id)
        } else {
            encoded.with_topic(name(&label.name))
        }
    });
    let mut encoded = kp::FetchResponse::default()
        .with_throttle_time_ms(throttle_ms)
        .with_error_code(body.error.0)
        .with_session_id(if version >= 7 { body.session_id } else { 0 })
        .with_responses(topics.collect());
    if version >= 16 {
        let endpoints = body.endpoints.iter().map(|endpoint| {
            NodeEndpoint::default()
                .with_node_id(kp::BrokerId(endpoint.id))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        });
        encoded.node_endpoints = endpoints.collect();
    }
    put(&encoded, version, frame)
}

fn aborted(list: &[(i64, i64)]) -> Vec<kp::fetch_response::AbortedTransaction> {
    let entry = |(id, first): &(i64, i64)| {
        kp::fetch_response::AbortedTransaction::default()
            .with_producer_id(kp::ProducerId(*id))
            .with_first_offset(*first)
    };
    list.iter().map(entry).collect()
}

fn encode_list_offsets(body: &ListOffsets, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let row = |row: &ListOffsetsRow| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(row.index)
            .with_error_code(row.error.0)
            .with_timestamp(row.timestamp)
            .with_offset(row.offset)
            .with_leader_epoch(if version >= 4 { row.leader_epoch } else { -1 })
    };
    let topics = body.topics.iter().map(|(topic, rows)| {
        ListOffsetsTopicResponse::default()
            .with_name(name(topic))
            .with_partitions(rows.iter().map(row).collect())
    });
    // Version 11 has the layout of 10.
    let message = kp::ListOffsetsResponse::default().with_topics(topics.collect());
    put(&message, version.min(10), frame)
}

fn encode_metadata(body: &Metadata, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    let partition = |partition: &MetadataPartition| {
        MetadataResponsePartition::default()
            .with_error_code(partition.error.0)
            .with_partition_index(partition.index)
            .with_leader_id(kp::BrokerId(partition.leader.id))
            .with_leader_epoch(if version >= 7 {
                partition.leader.epoch
            } else {
                -1
            })
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_offline_replicas(if version >= 5 {
                ids(&partition.offline)
            } else {
                vec![]
            })
    };
    let topic = |topic: &MetadataTopic| {
        // Names are nullable since version 12 only.
        let named = topic.name.as_deref().map(name);
        let mut encoded = MetadataResponseTopic::default()
            .with_error_code(topic.error.0)
            .with_name(if version >= 12 {
                named
            } else {
                Some(named.unwrap_or_default())
            })
            .with_is_internal(version >= 1 && topic.internal == Ownership::Internal)
            .with_partitions(topic.partitions.iter().map(partition).collect());
        if version >= 10 {
            encoded.topic_id = topic.id;
        }
        if version >= 8 {
            encoded.topic_authorized_operations = topic.operations;
        }
        encoded
    };
    let brokers = body.brokers.iter().map(|endpoint| {
        MetadataResponseBroker::default()
            .with_node_id(kp::BrokerId(endpoint.id))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
    });
    let mut encoded = kp::MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_topics(body.topics.iter().map(topic).collect());
    if version >= 1 {
        encoded.controller_id = kp::BrokerId(body.controller_id);
    }
    if version >= 2 {
        encoded.cluster_id = body.cluster_id.as_deref().map(text);
    }
    if (8..=10).contains(&version) {
        encoded.cluster_authorized_operations = body.cluster_operations;
    }
    put(&encoded, version, frame)
}

fn encode_find_coordinator(body: &FindCoordinator, version: i16, frame: &mut BytesMut) -> Encoded {
    let of = |endpoint: &Option<Endpoint>| match endpoint {
        Some(endpoint) => (
            kp::BrokerId(endpoint.id),
            text(&endpoint.host),
            endpoint.port,
        ),
        None => (kp::BrokerId(-1), StrBytes::new(), -1),
    };
    let mut encoded = kp::FindCoordinatorResponse::default();
    if version >= 4 {
        let rows = body.coordinators.iter().map(|row| {
            let (id, host, port) = of(&row.endpoint);
            kp::find_coordinator_response::Coordinator::default()
                .with_key(text(&row.key))
                .with_node_id(id)
                .with_host(host)
                .with_port(port)
                .with_error_code(row.error.0)
                .with_error_message(Some(text(row.message.as_deref().unwrap_or_default())))
        });
        encoded.coordinators = rows.collect();
    } else if let Some(row) = body.coordinators.first() {
        let (id, host, port) = of(&row.endpoint);
        encoded = encoded
            .with_error_code(row.error.0)
            .with_node_id(id)
            .with_host(host);
        encoded.port = port;
        if version >= 1 {
            encoded.error_message = Some(text(row.message.as_deref().unwrap_or("NONE")));
        }
    }
    put(&encoded, version, frame)
}

fn encode_api_versions(body: &ApiVersions, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
    let apis = body.apis.iter().map(|&(key, range)| {
        ApiVersion::default()
            .with_api_key(key)
            .with_min_version(range.min)
            .with_max_version(range.max)
    });
    let mut encoded = kp::ApiVersionsResponse::default()
        .with_error_code(body.error.0)
        .with_api_keys(apis.collect());
    if version >= 3 {
        let supported = body.supported_features.iter().map(|&(feature, range)| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_static_str(feature))
                .with_min_version(range.min)
                .with_max_version(range.max)
        });
        encoded.supported_features = supported.collect();
        encoded.finalized_features_epoch = body.finalized_features_epoch;
        let finalized = body.finalized_features.iter().map(|&(feature, level)| {
            FinalizedFeatureKey::default()
                .with_name(StrBytes::from_static_str(feature))
                .with_max_version_level(level)
                .with_min_version_level(level)
        });
        encoded.finalized_features = finalized.collect();
    }
    put(&encoded, version, frame)
}

fn encode_create_topics(body: &CreateTopics, version: i16, frame: &mut BytesMut) -> Encoded {
    let topics = body.topics.iter().map(|topic| {
        let mut encoded = kp::create_topics_response::CreatableTopicResult::default()
            .with_name(name(&topic.name))
            .with_error_code(topic.error.0)
            .with_error_message(topic.message.as_deref().map(text));
        if version >= 5 {
            encoded.num_partitions = topic.partitions;
            encoded.replication_factor = topic.replication_factor;
            let configs = topic.configs.iter().map(|(key, value, source)| {
                kp::create_topics_response::CreatableTopicConfigs::default()
                    .with_name(StrBytes::from_static_str(key))
                    .with_value(Some(text(value)))
                    .with_config_source(source.id())
            });
            encoded.configs = Some(configs.collect());
        }
        if version >= 7 {
            encoded.topic_id = topic.id;
        }
        encoded
    });
    put(
        &kp::CreateTopicsResponse::default().with_topics(topics.collect()),
        version,
        frame,
    )
}

fn encode_delete_topics(body: &DeleteTopics, version: i16, frame: &mut BytesMut) -> Encoded {
    let topics = body.topics.iter().map(|topic| {
        // Names are nullable since version 6 only.
        let named = topic.name.as_deref().map(name);
        let mut encoded = kp::delete_topics_response::DeletableTopicResult::default()
            .with_name(if version >= 6 {
                named
            } else {
                Some(named.unwrap_or_default())
            })
            .with_error_code(topic.error.0);
        if version >= 5 {
            encoded.error_message = topic.message.as_deref().map(text);
        }
        if version >= 6 {
            encoded.topic_id = topic.id;
        }
        encoded
    });
    put(
        &kp::DeleteTopicsResponse::default().with_responses(topics.collect()),
        version,
        frame,
    )
}

fn encode_init_producer_id(body: &InitProducerId, version: i16, frame: &mut BytesMut) -> Encoded {
    let message = kp::InitProducerIdResponse::default()
        .with_error_code(body.error.0)
        .with_producer_id(kp::ProducerId(body.producer_id))
        .with_producer_epoch(body.producer_epoch);
    put(&message, version, frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply_body::tests::everything;
    use crate::wire::versions::SERVED;
    use kafka_protocol::protocol::Decodable;

    /// Bytes left behind the body, read by the same crate's reader.
    fn left_over(api: Api, version: i16, mut body: Bytes) -> usize {
        let layout = if api == Api::ListOffsets {
            version.min(10)
        } else {
            version
        };
        macro_rules! read {
            ($message:ident) => {
                drop(kp::$message::decode(&mut body, layout).unwrap())
            };
        }
        match api {
            Api::Produce => read!(ProduceResponse),
            Api::Fetch => read!(FetchResponse),
            Api::ListOffsets => read!(ListOffsetsResponse),
            Api::Metadata => read!(MetadataResponse),
            Api::FindCoordinator => read!(FindCoordinatorResponse),
            Api::ApiVersions => read!(ApiVersionsResponse),
            Api::CreateTopics => read!(CreateTopicsResponse),
            Api::DeleteTopics => read!(DeleteTopicsResponse),
            Api::DeleteRecords => read!(DeleteRecordsResponse),
            Api::InitProducerId => read!(InitProducerIdResponse),
            Api::AddPartitionsToTxn => read!(AddPartitionsToTxnResponse),
            Api::EndTxn => read!(EndTxnResponse),
            Api::WriteTxnMarkers => {
                drop(kp::WriteTxnMarkersResponse::decode(&mut body, 1).unwrap());
            }
            Api::OffsetCommit => read!(OffsetCommitResponse),
            Api::OffsetFetch => read!(OffsetFetchResponse),
            Api::AddOffsetsToTxn => read!(AddOffsetsToTxnResponse),
            Api::TxnOffsetCommit => read!(TxnOffsetCommitResponse),
            Api::IncrementalAlterConfigs => read!(IncrementalAlterConfigsResponse),
            Api::OffsetForLeaderEpoch => read!(OffsetForLeaderEpochResponse),
            Api::DescribeProducers => read!(DescribeProducersResponse),
            Api::DescribeConfigs => read!(DescribeConfigsResponse),
            Api::DescribeCluster => read!(DescribeClusterResponse),
            Api::DescribeTopicPartitions => read!(DescribeTopicPartitionsResponse),
            Api::CreatePartitions => read!(CreatePartitionsResponse),
            Api::DescribeClientQuotas => read!(DescribeClientQuotasResponse),
            Api::AlterClientQuotas => read!(AlterClientQuotasResponse),
            Api::UpdateFeatures => read!(UpdateFeaturesResponse),
            Api::DescribeTransactions => read!(DescribeTransactionsResponse),
            Api::ListTransactions => read!(ListTransactionsResponse),
            Api::ListGroups => read!(ListGroupsResponse),
            Api::JoinGroup => read!(JoinGroupResponse),
            Api::SyncGroup => read!(SyncGroupResponse),
            Api::Heartbeat => read!(HeartbeatResponse),
            Api::LeaveGroup => read!(LeaveGroupResponse),
            Api::DescribeGroups => read!(DescribeGroupsResponse),
            Api::DeleteGroups => read!(DeleteGroupsResponse),
            Api::OffsetDelete => read!(OffsetDeleteResponse),
            other => panic!("{other} is not read here"),
        }
        body.len()
    }

    #[test]
    fn produce_and_fetch_tell_the_throttle_in_every_version() {
        for api in [Api::Produce, Api::Fetch] {
            let served = versions::of(api).unwrap();
            for version in served.served.min..=served.served.max {
                let request = RequestHeader {
                    api,
                    version,
                    correlation_id: 9,
                    client_id: None,
                };
                let throttle = Duration::from_millis(1_234);
                let mut frame = everything(api).encode(&request, throttle).unwrap();
                let mut body = frame.split_off(if served.is_flexible(version) { 5 } else { 4 });
                let told = match api {
                    Api::Produce => {
                        let read = kp::ProduceResponse::decode(&mut body, version);
                        read.unwrap().throttle_time_ms
                    }
                    _ => {
                        kp::FetchResponse::decode(&mut body, version)
                            .unwrap()
                            .throttle_time_ms
                    }
                };
                assert_eq!(told, 1_234, "{api} {version}");
            }
        }
    }

    #[test]
    fn whatever_a_handler_says_is_encoded_in_every_version() {
        for served in SERVED {
            let api = served.api;
            for version in served.served.min..=served.served.max {
                let request = RequestHeader {
                    api,
                    version,
                    correlation_id: 9,
                    client_id: None,
                };
                let mut frame = everything(api)
                    .encode(&request, Duration::from_secs(1))
                    .unwrap();
                let tagged = served.is_flexible(version) && api != Api::ApiVersions;
                let body = frame.split_off(if tagged { 5 } else { 4 });
                assert_eq!(frame[..4], 9i32.to_be_bytes(), "{api} {version}");
                assert_eq!(left_over(api, version, body), 0, "{api} {version}");
            }
        }
    }
}
