//! Frames to requests. Only `reply.rs` and `admin_*.rs` beside it know the `kafka-protocol` crate.
//!
//! *Invariants*
//! 1. No frame panics or reserves memory beyond its own size: [`super::guard`] walks it first.
//! 2. Record bytes are slices of the frame, never copies.
//!
//! *Source* the request schemas of apache/kafka 4.3.1; `RequestHeader.parse` for the header.

use bytes::Bytes;
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::Decodable;
use uuid::Uuid;

use super::admin_request::{self, AdminRequest};
use super::groups::{self, GroupRequest};
use super::guard::{self, Cursor};
use super::offsets::{self, OffsetRequest};
use super::refusal::Refusal;
use super::transactions::{self, TxnRequest};
use super::versions;
use crate::api::Api;

/// What comes before every body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api: Api,
    /// Which version of it.
    pub version: i16,
    /// The client's number for the request; the reply carries it.
    pub correlation_id: i32,
    /// The client's name, if it gave one; what is not UTF-8 is replaced.
    pub client_id: Option<String>,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its header.
    pub header: RequestHeader,
    /// Its body.
    pub body: RequestBody,
}

/// The body of a request, one variant for each API.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestBody {
    /// See [`Produce`].
    Produce(Produce),
    /// See [`Fetch`].
    Fetch(Fetch),
    /// See [`ListOffsets`].
    ListOffsets(ListOffsets),
    /// See [`Metadata`].
    Metadata(Metadata),
    /// See [`FindCoordinator`].
    FindCoordinator(FindCoordinator),
    /// See [`ApiVersions`].
    ApiVersions(ApiVersions),
    /// See [`CreateTopics`].
    CreateTopics(CreateTopics),
    /// See [`DeleteTopics`].
    DeleteTopics(DeleteTopics),
    /// See [`InitProducerId`].
    InitProducerId(InitProducerId),
    /// See [`TxnRequest`].
    Txn(TxnRequest),
    /// See [`OffsetRequest`].
    Offsets(OffsetRequest),
    /// See [`GroupRequest`].
    Groups(GroupRequest),
    /// See [`AdminRequest`].
    Admin(AdminRequest),
}

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id (KIP-516).
    Id(Uuid),
}

/// Produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produce {
    /// The transactional id, if any.
    pub transactional_id: Option<String>,
    /// Who must have a record before the answer: -1, 0 or 1; other numbers are refused later.
    pub acks: i16,
    /// How long to wait for them.
    pub timeout_ms: i32,
    /// What to append, by topic.
    pub topics: Vec<ProduceTopic>,
}

/// A topic of [`Produce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// Which.
    pub topic: TopicRef,
    /// What to append, by partition.
    pub partitions: Vec<ProducePartition>,
}

/// A partition of [`Produce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Which.
    pub index: i32,
    /// Bytes that should be one batch: a slice of the frame.
    pub records: Option<Bytes>,
}

/// Fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Who asks: -1 for a consumer, a broker id for a follower.
    pub replica_id: i32,
    /// How long to wait for `bytes_min`.
    pub wait_ms_max: i32,
    /// Below so many bytes the answer may wait.
    pub bytes_min: i32,
    /// Above so many bytes the answer holds no further batch.
    pub bytes_max: i32,
    /// What of open transactions may be read: 0 all, 1 nothing; other numbers are refused later.
    pub isolation: i8,
    /// The fetch session; 0 for none, and before version 7.
    pub session_id: i32,
    /// Its next epoch: 0 to begin one, -1 to end it or for none, and before version 7.
    pub session_epoch: i32,
    /// What to read, by topic; what a session holds need not be said again.
    pub topics: Vec<FetchTopic>,
    /// What the session is no longer to hold: topics and their partitions.
    pub forgotten: Vec<(TopicRef, Vec<i32>)>,
}

/// A topic of [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// Which.
    pub topic: TopicRef,
    /// What to read, by partition.
    pub partitions: Vec<FetchPartition>,
}

/// A partition of [`Fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which.
    pub index: i32,
    /// The leader epoch that the client knows; -1 for none.
    pub leader_epoch: i32,
    /// From which offset.
    pub offset: i64,
    /// Above so many bytes no further batch of this partition.
    pub bytes_max: i32,
}

/// ListOffsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsets {
    /// What of open transactions counts: 1 nothing, every other number all.
    pub isolation: i8,
    /// What to look up, by topic.
    pub topics: Vec<ListOffsetsTopic>,
}

/// A topic of [`ListOffsets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsetsTopic {
    /// Its name.
    pub name: String,
    /// What to look up, by partition.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// A partition of [`ListOffsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    /// Which.
    pub index: i32,
    /// The leader epoch that the client knows; -1 for none.
    pub leader_epoch: i32,
    /// A time, or one of the negative names such as -1 for the end.
    pub timestamp: i64,
}

/// Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Which topics; `None` is all of them.
    pub topics: Option<Vec<MetadataTopic>>,
    /// Whether an unknown topic may be made; always in versions that cannot say.
    pub auto_creation: AutoCreation,
    /// Whether the answer tells what the client may do with each topic.
    pub topic_operations: Operations,
    /// Whether the answer tells what the client may do with the cluster.
    pub cluster_operations: Operations,
}

/// Whether Metadata may make topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCreation {
    /// If the brokers are configured to.
    Allowed,
    /// Never.
    Forbidden,
}

/// Whether Metadata tells what the client is authorised to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operations {
    /// It was asked to.
    Asked,
    /// It was not.
    NotAsked,
}

/// A topic of [`Metadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataTopic {
    /// Its id; zero when it is named.
    pub id: Uuid,
    /// Its name.
    pub name: Option<String>,
}

/// FindCoordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinator {
    /// What kind of key: 0 group, 1 transaction, 2 share group.
    pub key_type: i8,
    /// The keys; exactly one before version 4.
    pub keys: Vec<String>,
}

/// ApiVersions; the one API that answers a version it does not know (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiVersions {
    /// A version that is served; name and version of the client's software since v3.
    Known {
        /// The software's name, `None` before v3.
        software: Option<(String, String)>,
    },
    /// A version that is not served; its body is not read.
    Unknown,
}

/// CreateTopics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    /// The topics.
    pub topics: Vec<NewTopic>,
    /// Whether to make them, or only to check.
    pub mode: CreateMode,
}

/// Whether [`CreateTopics`] makes topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// Makes them.
    Create,
    /// Checks only.
    ValidateOnly,
}

/// A topic of [`CreateTopics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the default, or when `assignments` tell.
    pub partitions: i32,
    /// How many replicas; -1 for the default, or when `assignments` tell.
    pub replication_factor: i16,
    /// Brokers by partition index, where the client chooses.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Configuration by Kafka's topic keys.
    pub configs: Vec<(String, Option<String>)>,
}

/// DeleteTopics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopics {
    /// The topics.
    pub topics: Vec<TopicRef>,
}

/// InitProducerId.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerId {
    /// The transactional id, if any.
    pub transactional_id: Option<String>,
    /// How long its transactions may be open, in milliseconds.
    pub timeout_ms: i32,
    /// The id that the producer has; -1 for none, and before version 3.
    pub producer_id: i64,
    /// The epoch that the producer has; -1 for none, and before version 3.
    pub producer_epoch: i16,
}

/// Reads a frame, without the four bytes of size before it.
///
/// # Errors
///
/// Whatever closes the connection: see [`Refusal`].
pub fn parse(frame: Bytes) -> Result<Request, Refusal> {
    let mut cursor = Cursor::new(&frame);
    let (key, version) = (
        cursor.int16().or(Err(Refusal::Header))?,
        cursor.int16().or(Err(Refusal::Header))?,
    );
    let api = Api::from_key(key);
    let served = versions::of(api).ok_or(Refusal::UnknownApi { api, version })?;
    let known = served.served.contains(version);
    if !known && api != Api::ApiVersions {
        return Err(Refusal::UnsupportedVersion { api, version });
    }
    let (correlation_id, client_id) =
        rest_of_header(&mut cursor, served.is_flexible(version)).map_err(|_| Refusal::Header)?;
    let header = RequestHeader {
        api,
        version,
        correlation_id,
        client_id,
    };
    if !known {
        return Ok(Request {
            header,
            body: RequestBody::ApiVersions(ApiVersions::Unknown),
        });
    }
    guard::check(served, version, cursor.rest()).map_err(|reason| Refusal::Body {
        api,
        version,
        reason,
    })?;
    let body = frame.slice(frame.len() - cursor.rest().len()..);
    let body = decode(api, version, body)?;
    Ok(Request { header, body })
}

fn rest_of_header(
    cursor: &mut Cursor<'_>,
    flexible: bool,
) -> Result<(i32, Option<String>), guard::Reason> {
    let correlation_id = cursor.int32()?;
    // The client id keeps its two-byte length in header version 2 (KIP-482).
    let client_id = match cursor.int16()? {
        -1 => None,
        bytes => {
            let bytes = usize::try_from(bytes).map_err(|_| "a length is below -1")?;
            Some(String::from_utf8_lossy(cursor.take(bytes)?).into_owned())
        }
    };
    if flexible {
        cursor.tagged_fields(&[])?;
    }
    Ok((correlation_id, client_id))
}

/// A field does not follow the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a body, whichever message is wanted.
///
/// # Errors
///
/// When a field does not follow the schema.
pub(super) fn decoded<M: Decodable>(body: &mut Bytes, version: i16) -> Result<M, Malformed> {
    M::decode(body, version).map_err(|_| Malformed)
}

fn decode(api: Api, version: i16, mut body: Bytes) -> Result<RequestBody, Refusal> {
    let malformed = || Refusal::Body {
        api,
        version,
        reason: "a field does not follow the schema",
    };
    macro_rules! decoded {
        ($message:ident, $convert:ident) => {
            $convert(
                kp::$message::decode(&mut body, version).map_err(|_| malformed())?,
                version,
            )
        };
    }
    Ok(match api {
        Api::Produce => RequestBody::Produce(decoded!(ProduceRequest, produce)),
        Api::Fetch => RequestBody::Fetch(decoded!(FetchRequest, fetch)),
        Api::ListOffsets => {
            // Version 11 has the layout of 10 (KIP-1023: one more negative timestamp).
            let layout = version.min(10);
            let message = kp::ListOffsetsRequest::decode(&mut body, layout);
            RequestBody::ListOffsets(list_offsets(message.map_err(|_| malformed())?))
        }
        Api::Metadata => RequestBody::Metadata(decoded!(MetadataRequest, metadata)),
        Api::FindCoordinator => {
            RequestBody::FindCoordinator(decoded!(FindCoordinatorRequest, find_coordinator))
        }
        Api::ApiVersions => RequestBody::ApiVersions(decoded!(ApiVersionsRequest, api_versions)),
        Api::CreateTopics => {
            RequestBody::CreateTopics(decoded!(CreateTopicsRequest, create_topics))
        }
        Api::DeleteTopics => {
            RequestBody::DeleteTopics(decoded!(DeleteTopicsRequest, delete_topics))
        }
        Api::InitProducerId => {
            RequestBody::InitProducerId(decoded!(InitProducerIdRequest, init_producer_id))
        }
        Api::AddPartitionsToTxn | Api::EndTxn | Api::WriteTxnMarkers => {
            let request = transactions::decode(api, version, &mut body);
            let request = request.map_err(|_| malformed())?;
            RequestBody::Txn(request.ok_or(Refusal::UnsupportedVersion { api, version })?)
        }
        Api::OffsetCommit
        | Api::OffsetFetch
        | Api::AddOffsetsToTxn
        | Api::TxnOffsetCommit
        | Api::OffsetDelete => {
            let request = offsets::decode(api, version, &mut body);
            let request = request.map_err(|_| malformed())?;
            RequestBody::Offsets(request.ok_or(Refusal::UnsupportedVersion { api, version })?)
        }
        Api::JoinGroup
        | Api::SyncGroup
        | Api::Heartbeat
        | Api::LeaveGroup
        | Api::DescribeGroups
        | Api::ListGroups
        | Api::DeleteGroups => {
            let request = groups::decode(api, version, &mut body).map_err(|_| malformed())?;
            RequestBody::Groups(request.ok_or(Refusal::UnsupportedVersion { api, version })?)
        }
        _ => {
            let admin = admin_request::decode(api, version, &mut body);
            let admin = admin.map_err(|_| malformed())?;
            RequestBody::Admin(admin.ok_or(Refusal::UnsupportedVersion { api, version })?)
        }
    })
}

fn topic_ref(name: &kp::TopicName, id: Uuid, by_id_since: i16, version: i16) -> TopicRef {
    if version >= by_id_since {
        TopicRef::Id(id)
    } else {
        TopicRef::Name(name.to_string())
    }
}

fn produce(message: kp::ProduceRequest, version: i16) -> Produce {
    Produce {
        transactional_id: message.transactional_id.map(|id| id.to_string()),
        acks: message.acks,
        timeout_ms: message.timeout_ms,
        topics: message
            .topic_data
            .into_iter()
            .map(|topic| ProduceTopic {
                topic: topic_ref(&topic.name, topic.topic_id, 13, version),
                partitions: topic
                    .partition_data
                    .into_iter()
                    .map(|partition| ProducePartition {
                        index: partition.index,
                        records: partition.records,
                    })
                    .collect(),
            })
            .collect(),
    }
}

fn fetch(message: kp::FetchRequest, version: i16) -> Fetch {
    let replica_id = if version >= 15 {
        message.replica_state.replica_id
    } else {
        message.replica_id
    };
    Fetch {
        replica_id: replica_id.0,
        wait_ms_max: message.max_wait_ms,
        bytes_min: message.min_bytes,
        bytes_max: message.max_bytes,
        isolation: message.isolation_level,
        session_id: message.session_id,
        session_epoch: message.session_epoch,
        forgotten: message
            .forgotten_topics_data
            .into_iter()
            .map(|topic| {
                let name = topic_ref(&topic.topic, topic.topic_id, 13, version);
                (name, topic.partitions)
            })
            .collect(),
        topics: message
            .topics
            .into_iter()
            .map(|topic| FetchTopic {
                topic: topic_ref(&topic.topic, topic.topic_id, 13, version),
                partitions: topic
                    .partitions
                    .into_iter()
                    .map(|partition| FetchPartition {
                        index: partition.partition,
                        leader_epoch: partition.current_leader_epoch,
                        offset: partition.fetch_offset,
                        bytes_max: partition.partition_max_bytes,
                    })
                    .collect(),
            })
            .collect(),
    }
}

fn list_offsets(message: kp::ListOffsetsRequest) -> ListOffsets {
    let topics = message.topics.into_iter().map(|topic| ListOffsetsTopic {
        name: topic.name.to_string(),
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| ListOffsetsPartition {
                index: partition.partition_index,
                leader_epoch: partition.current_leader_epoch,
                timestamp: partition.timestamp,
            })
            .collect(),
    });
    ListOffsets {
        isolation: message.isolation_level,
        topics: topics.collect(),
    }
}

fn metadata(message: kp::MetadataRequest, version: i16) -> Metadata {
    let asked = |asked| {
        if asked {
            Operations::Asked
        } else {
            Operations::NotAsked
        }
    };
    let topics: Option<Vec<MetadataTopic>> = message.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| MetadataTopic {
                id: topic.topic_id,
                name: topic.name.map(|name| name.to_string()),
            })
            .collect()
    });
    Metadata {
        // Version 0 has no null list: the empty one means all.
        topics: topics.filter(|topics| version > 0 || !topics.is_empty()),
        auto_creation: if version < 4 || message.allow_auto_topic_creation {
            AutoCreation::Allowed
        } else {
            AutoCreation::Forbidden
        },
        topic_operations: asked(message.include_topic_authorized_operations),
        cluster_operations: asked(message.include_cluster_authorized_operations),
    }
}

fn find_coordinator(message: kp::FindCoordinatorRequest, version: i16) -> FindCoordinator {
    let keys = if version >= 4 {
        message.coordinator_keys
    } else {
        vec![message.key]
    };
    FindCoordinator {
        key_type: message.key_type,
        keys: keys.into_iter().map(|key| key.to_string()).collect(),
    }
}

fn api_versions(message: kp::ApiVersionsRequest, version: i16) -> ApiVersions {
    let software = (version >= 3).then(|| {
        (
            message.client_software_name.to_string(),
            message.client_software_version.to_string(),
        )
    });
    ApiVersions::Known { software }
}

fn create_topics(message: kp::CreateTopicsRequest, _version: i16) -> CreateTopics {
    let topics = message.topics.into_iter().map(|topic| NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .into_iter()
            .map(|assignment| {
                let brokers = assignment.broker_ids.into_iter().map(|broker| broker.0);
                (assignment.partition_index, brokers.collect())
            })
            .collect(),
        configs: topic
            .configs
            .into_iter()
            .map(|config| {
                (
                    config.name.to_string(),
                    config.value.map(|value| value.to_string()),
                )
            })
            .collect(),
    });
    CreateTopics {
        topics: topics.collect(),
        mode: if message.validate_only {
            CreateMode::ValidateOnly
        } else {
            CreateMode::Create
        },
    }
}

fn delete_topics(message: kp::DeleteTopicsRequest, version: i16) -> DeleteTopics {
    let topics = if version >= 6 {
        let named = message.topics.into_iter().map(|topic| match topic.name {
            Some(name) => TopicRef::Name(name.to_string()),
            None => TopicRef::Id(topic.topic_id),
        });
        named.collect()
    } else {
        let named = message
            .topic_names
            .into_iter()
            .map(|name| TopicRef::Name(name.to_string()));
        named.collect()
    };
    DeleteTopics { topics }
}

fn init_producer_id(message: kp::InitProducerIdRequest, version: i16) -> InitProducerId {
    let (producer_id, producer_epoch) = if version >= 3 {
        (message.producer_id.0, message.producer_epoch)
    } else {
        (-1, -1)
    };
    InitProducerId {
        transactional_id: message.transactional_id.map(|id| id.to_string()),
        timeout_ms: message.transaction_timeout_ms,
        producer_id,
        producer_epoch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn frame(key: i16, version: i16, body: &[u8]) -> Bytes {
        let head = [
            &key.to_be_bytes()[..],
            &version.to_be_bytes(),
            &[0, 0, 0, 9],
            &[0xff; 2],
        ];
        [&head.concat()[..], body].concat().into()
    }

    #[test]
    fn a_hostile_count_is_refused_and_reserves_nothing() {
        // Decoded without the walk, this would ask for hundreds of gigabytes.
        let refused = parse(frame(3, 4, &[0x7f, 0xff, 0xff, 0xff, 1]));
        assert!(
            matches!(
                refused,
                Err(Refusal::Body {
                    api: Api::Metadata,
                    ..
                })
            ),
            "{refused:?}"
        );
    }

    #[rstest]
    #[case::empty(&[], Refusal::Header)]
    #[case::header_cut(&[0, 3, 0, 4, 0, 0], Refusal::Header)]
    #[case::client_id_beyond_the_frame(&[0, 3, 0, 4, 0, 0, 0, 9, 0, 5, b'a'], Refusal::Header)]
    #[case::client_id_length(&[0, 3, 0, 4, 0, 0, 0, 9, 0xff, 0xfe], Refusal::Header)]
    #[case::key(&[0x27, 0x0f, 0, 4], Refusal::UnknownApi { api: Api::from_key(9999), version: 4 })]
    #[case::not_served(&[0, 17, 0, 1], Refusal::UnknownApi { api: Api::SaslHandshake, version: 1 })]
    #[case::newer(&[0, 3, 0, 14], Refusal::UnsupportedVersion { api: Api::Metadata, version: 14 })]
    #[case::advertised_only(
        &[0, 0, 0, 2], Refusal::UnsupportedVersion { api: Api::Produce, version: 2 }
    )]
    fn what_is_no_request_says_why(#[case] bytes: &'static [u8], #[case] expected: Refusal) {
        assert_eq!(parse(Bytes::from_static(bytes)), Err(expected));
    }

    #[test]
    fn record_bytes_are_slices_of_the_frame() {
        // Produce v7: acks 1, one topic `t`, partition 0, three bytes.
        let body = [
            &[
                0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1,
            ][..],
            &[0, 0, 0, 0, 0, 0, 0, 3, 7, 8, 9],
        ];
        let frame = frame(0, 7, &body.concat());
        let RequestBody::Produce(produce) = parse(frame.clone()).unwrap().body else {
            panic!("it is Produce");
        };
        let records = produce.topics[0].partitions[0].records.clone().unwrap();
        assert_eq!(records, [7, 8, 9][..]);
        assert_eq!(records.as_ptr(), frame[frame.len() - 3..].as_ptr());
    }

    #[test]
    fn a_client_id_that_is_no_text_is_replaced() {
        let parsed = parse(
            [0, 18, 0, 0, 0, 0, 0, 9, 0, 2, b'a', 0xff][..]
                .to_vec()
                .into(),
        );
        assert_eq!(
            parsed.unwrap().header.client_id.as_deref(),
            Some("a\u{fffd}")
        );
    }
}
