//! The control plane's questions and answers on the wire; the only file that knows
//! `kafka_protocol`.
//!
//! *Invariants*
//! 1. Every frame passes the check of `shape.rs` before the library reads it: a count from
//!    the network never reserves memory that the frame does not back.
//! 2. No type and no error of the library leaves this file.
//!
//! *Source*: Kafka's message schemas; KIP-35 and KIP-511 for ApiVersions.
//!
//! *Not here*: when to ask what (`engine/`), Produce (`produce_request.rs`, `produce_response.rs`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
    MetadataRequest, MetadataResponse, TopicName, metadata_request::MetadataRequestTopic,
    metadata_response::MetadataResponseTopic,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::error::ErrorCode;
use crate::types::{BrokerId, LeaderEpoch, ProducerEpoch, ProducerId, TopicId};
use crate::wire::Api;
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::frame::{RequestHeader, complete_size, response_body};
use crate::wire::message::{
    ApiRange, ApiVersionsAnswer, BrokerEndpoint, FinalizedFeatures, MetadataAnswer,
    PartitionAnswer, ProducerIdAnswer, Replicas, TopicAnswer,
};
use crate::wire::shape::{self, Field, Layout, always, between, since};

/// A request for what the broker speaks, as a finished frame.
///
/// # Errors
///
/// The version is none of ours: a bug of this crate.
pub fn api_versions_request(header: &RequestHeader<'_>) -> Result<Bytes, EncodeError> {
    let request = if header.version >= 3 {
        ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
    } else {
        ApiVersionsRequest::default()
    };
    encode("api versions request", header, &request)
}

/// A request for brokers and these topics, which may be created by it; as a finished frame.
///
/// # Errors
///
/// The version is none of ours: a bug of this crate.
pub fn metadata_request<'a>(
    header: &RequestHeader<'_>,
    topics: impl Iterator<Item = &'a Arc<str>>,
) -> Result<Bytes, EncodeError> {
    let topics = topics
        .map(|name| {
            let name = TopicName(StrBytes::from_string(name.to_string()));
            MetadataRequestTopic::default().with_name(Some(name))
        })
        .collect();
    let request = MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(true);
    encode("metadata request", header, &request)
}

/// A request for a producer id, for idempotence alone without a transactional id; as a finished
/// frame.
///
/// # Errors
///
/// The version is none of ours: a bug of this crate.
pub fn init_producer_id_request(
    header: &RequestHeader<'_>,
    asking: Option<&Asking<'_>>,
) -> Result<Bytes, EncodeError> {
    let request = match asking {
        None => InitProducerIdRequest::default()
            .with_transactional_id(None)
            // Ignored without a transactional id; Kafka's own producer sends the largest value.
            .with_transaction_timeout_ms(i32::MAX),
        Some(asking) => {
            let id = StrBytes::from_string(asking.transactional_id.to_owned());
            let mut request = InitProducerIdRequest::default()
                .with_transactional_id(Some(id.into()))
                .with_transaction_timeout_ms(asking.timeout_ms);
            if let Some((id, epoch)) = asking.producer {
                request.producer_id = id.0.into();
                request.producer_epoch = epoch.0;
            }
            request
        }
    };
    encode("init producer id request", header, &request)
}

/// For whom a producer id is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// `transactional.id`.
    pub transactional_id: &'a str,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: i32,
    /// The id and epoch that the asker holds (v3 and later, KIP-360).
    pub producer: Option<(ProducerId, ProducerEpoch)>,
}

/// Reads an answer to [`api_versions_request`].
///
/// A broker that does not know the version answers 35 in the layout of version 0 (KIP-511).
///
/// # Errors
///
/// The frame is not such an answer.
pub fn api_versions_answer(version: i16, frame: &Bytes) -> Result<ApiVersionsAnswer, DecodeError> {
    let mut reader = response_body(Api::ApiVersions, version, frame)?;
    let version = match reader.i16("error code")? {
        UNSUPPORTED_VERSION => 0,
        _ => version,
    };
    let response: ApiVersionsResponse =
        decode("api versions response", Api::ApiVersions, version, frame)?;
    let ranges = response.api_keys.iter().map(|row| ApiRange {
        api_key: row.api_key,
        min_version: row.min_version,
        max_version: row.max_version,
    });
    Ok(ApiVersionsAnswer {
        error: ErrorCode(response.error_code),
        ranges: ranges.collect(),
        finalized: finalized_features(&response),
    })
}

/// A broker that knows of none says −1 for their epoch (KIP-584).
fn finalized_features(response: &ApiVersionsResponse) -> Option<FinalizedFeatures> {
    let mut finalized = response.finalized_features.iter();
    let transactions = finalized.find(|one| one.name.as_str() == "transaction.version");
    (response.finalized_features_epoch >= 0).then(|| FinalizedFeatures {
        epoch: response.finalized_features_epoch,
        transaction_version: transactions.map_or(0, |one| one.max_version_level),
    })
}

/// Reads an answer to [`metadata_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn metadata_answer(version: i16, frame: &Bytes) -> Result<MetadataAnswer, DecodeError> {
    let response: MetadataResponse = decode("metadata response", Api::Metadata, version, frame)?;
    let brokers = response.brokers.iter().map(|broker| {
        let port = u16::try_from(broker.port).map_err(|_| DecodeError::ImpossibleValue {
            field: "broker port",
            value: i64::from(broker.port),
        })?;
        Ok(BrokerEndpoint {
            id: BrokerId(broker.node_id.0),
            host: Arc::from(broker.host.as_str()),
            port,
        })
    });
    let racks = response.brokers.iter().filter_map(|broker| {
        let rack = broker.rack.as_ref().filter(|rack| !rack.is_empty())?;
        Some((BrokerId(broker.node_id.0), Arc::from(rack.as_str())))
    });
    Ok(MetadataAnswer {
        throttle_ms: throttle(response.throttle_time_ms),
        error: ErrorCode(response.error_code),
        brokers: brokers.collect::<Result<_, _>>()?,
        racks: racks.collect(),
        topics: response
            .topics
            .iter()
            .map(|topic| topic_answer(version, topic))
            .collect(),
    })
}

/// Reads an answer to [`init_producer_id_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn init_producer_id_answer(
    version: i16,
    frame: &Bytes,
) -> Result<ProducerIdAnswer, DecodeError> {
    let response: InitProducerIdResponse = decode(
        "init producer id response",
        Api::InitProducerId,
        version,
        frame,
    )?;
    Ok(ProducerIdAnswer {
        throttle_ms: throttle(response.throttle_time_ms),
        error: ErrorCode(response.error_code),
        id: ProducerId(response.producer_id.0),
        epoch: ProducerEpoch(response.producer_epoch),
    })
}

/// First version whose leader epochs are reliable: before, a broker may tell an old one while
/// replicas are reassigned (KAFKA-10027; `MetadataResponse.hasReliableLeaderEpochs`).
const RELIABLE_EPOCHS_FROM: i16 = 9;

fn topic_answer(version: i16, topic: &MetadataResponseTopic) -> TopicAnswer {
    let epoch = |told: i32| {
        let reliable = version >= RELIABLE_EPOCHS_FROM && told >= 0;
        reliable.then_some(LeaderEpoch(told))
    };
    let partitions = topic.partitions.iter().map(|partition| PartitionAnswer {
        index: partition.partition_index,
        leader: (partition.leader_id.0 >= 0).then_some(BrokerId(partition.leader_id.0)),
        epoch: epoch(partition.leader_epoch),
        replicas: Replicas {
            all: brokers(&partition.replica_nodes),
            in_sync: brokers(&partition.isr_nodes),
            offline: brokers(&partition.offline_replicas),
        },
    });
    TopicAnswer {
        error: ErrorCode(topic.error_code),
        name: topic.name.as_ref().map(|name| Arc::from(name.as_str())),
        id: TopicId(topic.topic_id.into_bytes()),
        partitions: partitions.collect(),
    }
}

fn brokers(nodes: &[kafka_protocol::messages::BrokerId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| BrokerId(node.0)).collect()
}

fn throttle(throttle_time_ms: i32) -> u32 {
    u32::try_from(throttle_time_ms).unwrap_or(0)
}

fn encode(
    message: &'static str,
    header: &RequestHeader<'_>,
    body: &impl Encodable,
) -> Result<Bytes, EncodeError> {
    let mut buffer = BytesMut::new();
    header.put(&mut buffer);
    body.encode(&mut buffer, header.version)
        .map_err(|error| EncodeError {
            message,
            reason: error.to_string(),
        })?;
    let total = buffer.len();
    complete_size(&mut buffer, total);
    Ok(buffer.freeze())
}

fn decode<M: Decodable>(
    message: &'static str,
    api: Api,
    version: i16,
    frame: &Bytes,
) -> Result<M, DecodeError> {
    let reader = response_body(api, version, frame)?;
    shape::check(
        layout(api),
        version,
        api.encoding(version),
        &mut reader.clone(),
    )?;
    let mut body = frame.slice_ref(reader.rest());
    M::decode(&mut body, version).map_err(|error| DecodeError::Refused {
        message,
        reason: error.to_string(),
    })
}

fn layout(api: Api) -> &'static Layout {
    match api {
        Api::ApiVersions => API_VERSIONS,
        Api::Metadata => METADATA,
        Api::InitProducerId => INIT_PRODUCER_ID,
        // Never read by the library.
        Api::Produce
        | Api::FindCoordinator
        | Api::AddPartitionsToTxn
        | Api::AddOffsetsToTxn
        | Api::EndTxn
        | Api::TxnOffsetCommit => &[],
    }
}

const UNSUPPORTED_VERSION: i16 = 35;

const NO_TAGS: Field = Field::Tags(&[]);
const NODES: Field = Field::Array(&[always(Field::Fixed(4))]);

const FEATURES: &Layout = &[always(Field::Array(&[
    always(Field::Text),
    always(Field::Fixed(4)),
    always(NO_TAGS),
]))];

const API_VERSIONS: &Layout = &[
    always(Field::Fixed(2)),
    always(Field::Array(&[always(Field::Fixed(6)), always(NO_TAGS)])),
    since(1, Field::Fixed(4)),
    always(Field::Tags(&[
        (0, FEATURES),
        (1, &[always(Field::Fixed(8))]),
        (2, FEATURES),
        (3, &[always(Field::Fixed(1))]),
    ])),
];

const METADATA: &Layout = &[
    since(3, Field::Fixed(4)),
    always(Field::Array(&[
        always(Field::Fixed(4)),
        always(Field::Text),
        always(Field::Fixed(4)),
        since(1, Field::Text),
        always(NO_TAGS),
    ])),
    since(2, Field::Text),
    since(1, Field::Fixed(4)),
    always(Field::Array(METADATA_TOPIC)),
    between(8, 10, Field::Fixed(4)),
    since(13, Field::Fixed(2)),
    always(NO_TAGS),
];

const METADATA_TOPIC: &Layout = &[
    always(Field::Fixed(2)),
    always(Field::Text),
    since(10, Field::Fixed(16)),
    since(1, Field::Fixed(1)),
    always(Field::Array(&[
        always(Field::Fixed(10)),
        since(7, Field::Fixed(4)),
        always(NODES),
        always(NODES),
        since(5, NODES),
        always(NO_TAGS),
    ])),
    since(8, Field::Fixed(4)),
    always(NO_TAGS),
];

const INIT_PRODUCER_ID: &Layout = &[always(Field::Fixed(16)), always(NO_TAGS)];
