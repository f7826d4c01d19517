//! What replies say, before a version decides how much of it is sent.
//!
//! *Invariants*
//! 1. A value holds what the newest version can say; `reply.rs` leaves out what an older one lacks.
//!
//! *Source* the response schemas of apache/kafka 4.3.1.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::admin_reply::{AdminReply, ConfigSource};
use super::groups::GroupReply;
use super::offsets::OffsetReply;
use super::transactions::TxnReply;
use super::versions::VersionRange;
use crate::error_code::ErrorCode;

/// The body of a reply, one variant for each API.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
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
    /// See [`TxnReply`].
    Txn(TxnReply),
    /// See [`OffsetReply`].
    Offsets(OffsetReply),
    /// See [`GroupReply`].
    Groups(GroupReply),
    /// See [`AdminReply`].
    Admin(AdminReply),
}

/// A topic as rows stand under it: by name or by id, as the version has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLabel {
    /// Its name; empty when only an unknown id is known of it.
    pub name: Arc<str>,
    /// Its id; zero when only an unknown name is known of it.
    pub id: Uuid,
}

/// How to reach a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its node id.
    pub id: i32,
    /// Its host.
    pub host: Arc<str>,
    /// Its port.
    pub port: i32,
}

/// Who leads a partition (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader; -1 for none.
    pub id: i32,
    /// The leader epoch.
    pub epoch: i32,
}

/// Produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Produce {
    /// Rows by topic.
    pub topics: Vec<(TopicLabel, Vec<ProduceRow>)>,
    /// The brokers that the rows' leader hints name; from v10.
    pub endpoints: Vec<Endpoint>,
}

/// A partition of [`Produce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRow {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// The first record's offset; -1 when unknown.
    pub base_offset: i64,
    /// When the broker appended it; -1 where the client's time counts.
    pub log_append_time_ms: i64,
    /// The log's first offset; -1 when unknown; from v5.
    pub log_start_offset: i64,
    /// Records at fault: index in the batch and why; from v8.
    pub record_errors: Vec<(i32, String)>,
    /// What is wrong; from v8.
    pub message: Option<String>,
    /// Who leads instead; from v10.
    pub leader_hint: Option<LeaderHint>,
}

/// Fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The outcome of the request as a whole; from v7.
    pub error: ErrorCode,
    /// The fetch session; 0 for none; from v7.
    pub session_id: i32,
    /// Rows by topic.
    pub topics: Vec<(TopicLabel, Vec<FetchRow>)>,
    /// The brokers that the rows' leader hints name; from v16.
    pub endpoints: Vec<Endpoint>,
}

impl Fetch {
    /// What is answered in its place while the client is throttled: the records come later.
    #[must_use]
    pub fn throttled(&self) -> Self {
        Self {
            topics: Vec::new(),
            endpoints: Vec::new(),
            ..self.clone()
        }
    }
}

/// A partition of [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRow {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// The end of what is replicated; -1 on errors.
    pub high_watermark: i64,
    /// The offset below which no transaction is open; -1 when unknown.
    pub last_stable_offset: i64,
    /// The log's first offset; -1 on errors.
    pub log_start_offset: i64,
    /// Which transactions were aborted that have records here: producer ids and first offsets;
    /// `None` where nobody asked.
    pub aborted: Option<Vec<(i64, i64)>>,
    /// Batches; the last may be cut.
    pub records: Bytes,
    /// Who leads instead; from v16, though the layout has a place for it from v12 on.
    pub leader_hint: Option<LeaderHint>,
}

/// ListOffsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsets {
    /// Rows by topic.
    pub topics: Vec<(Arc<str>, Vec<ListOffsetsRow>)>,
}

/// A partition of [`ListOffsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsRow {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// The time of the record found; -1 for none.
    pub timestamp: i64,
    /// Its offset; -1 for none.
    pub offset: i64,
    /// The leader epoch of its batch; -1 for none; from v4.
    pub leader_epoch: i32,
}

/// Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The brokers that run.
    pub brokers: Vec<Endpoint>,
    /// The cluster's id; from v2.
    pub cluster_id: Option<Arc<str>>,
    /// The controller; -1 for none; from v1.
    pub controller_id: i32,
    /// The topics.
    pub topics: Vec<MetadataTopic>,
    /// What the client may do with the cluster; v8 to v10.
    pub cluster_operations: i32,
}

/// A topic of [`Metadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataTopic {
    /// The outcome.
    pub error: ErrorCode,
    /// Its name; `None` when only an unknown id is known of it.
    pub name: Option<Arc<str>>,
    /// Its id; from v10.
    pub id: Uuid,
    /// Whether it is Kafka's own; from v1.
    pub internal: Ownership,
    /// Its partitions.
    pub partitions: Vec<MetadataPartition>,
    /// What the client may do with it; from v8.
    pub operations: i32,
}

/// Whose a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Kafka's own.
    Internal,
    /// Anybody's.
    Ordinary,
}

/// A partition of [`MetadataTopic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPartition {
    /// The outcome.
    pub error: ErrorCode,
    /// Which.
    pub index: i32,
    /// Who leads; the epoch from v7.
    pub leader: LeaderHint,
    /// The replicas.
    pub replicas: Vec<i32>,
    /// The replicas in sync.
    pub isr: Vec<i32>,
    /// The replicas that do not run; from v5.
    pub offline: Vec<i32>,
}

/// FindCoordinator: one answer a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinator {
    /// The answers; exactly one before v4.
    pub coordinators: Vec<Coordinator>,
}

/// A key of [`FindCoordinator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    /// The key.
    pub key: String,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong; `None` is Kafka's text for no error.
    pub message: Option<String>,
    /// The coordinator; `None` on errors.
    pub endpoint: Option<Endpoint>,
}

/// ApiVersions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersions {
    /// The outcome.
    pub error: ErrorCode,
    /// Keys with their versions, ascending.
    pub apis: Vec<(i16, VersionRange)>,
    /// Features the broker could turn on; from v3.
    pub supported_features: Vec<(&'static str, VersionRange)>,
    /// Features that are on, with their level; from v3.
    pub finalized_features: Vec<(&'static str, i16)>,
    /// The epoch of the finalized features; -1 when unknown.
    pub finalized_features_epoch: i64,
}

/// CreateTopics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    /// The topics.
    pub topics: Vec<CreatedTopic>,
}

/// A topic of [`CreateTopics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; zero on errors; from v7.
    pub id: Uuid,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
    /// How many partitions; -1 on errors; from v5.
    pub partitions: i32,
    /// How many replicas; -1 on errors; from v5.
    pub replication_factor: i16,
    /// Its configuration: key, value and where that comes from; empty on errors; from v5.
    pub configs: Vec<(&'static str, String, ConfigSource)>,
}

/// DeleteTopics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopics {
    /// The topics.
    pub topics: Vec<DeletedTopic>,
}

/// A topic of [`DeleteTopics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name; `None` when only an unknown id is known of it.
    pub name: Option<Arc<str>>,
    /// Its id; from v6.
    pub id: Uuid,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong; from v5.
    pub message: Option<String>,
}

/// InitProducerId.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitProducerId {
    /// The outcome.
    pub error: ErrorCode,
    /// The id; -1 on errors.
    pub producer_id: i64,
    /// Its epoch; -1 on errors.
    pub producer_epoch: i16,
}

/// The code of one row of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCode {
    /// The topic, where the row has one.
    pub topic: Option<Arc<str>>,
    /// The partition, where the row has one.
    pub partition: Option<i32>,
    /// The code.
    pub code: ErrorCode,
}

impl RowCode {
    /// Of what is about no topic.
    pub(super) const fn whole(code: ErrorCode) -> Self {
        Self {
            topic: None,
            partition: None,
            code,
        }
    }

    /// Of a topic.
    pub(super) fn of_topic(topic: impl Into<Arc<str>>, code: ErrorCode) -> Self {
        Self {
            topic: Some(topic.into()),
            ..Self::whole(code)
        }
    }

    /// Of a partition.
    pub(super) fn of_partition(topic: impl Into<Arc<str>>, index: i32, code: ErrorCode) -> Self {
        Self {
            partition: Some(index),
            ..Self::of_topic(topic, code)
        }
    }
}

impl Reply {
    /// The code of every row, for the journal.
    #[must_use]
    pub fn codes(&self) -> Vec<RowCode> {
        let whole = |code| vec![RowCode::whole(code)];
        let topic = |topic: &Arc<str>, code| RowCode::of_topic(Arc::clone(topic), code);
        let row =
            |topic: &Arc<str>, index, code| RowCode::of_partition(Arc::clone(topic), index, code);
        match self {
            Self::Produce(body) => {
                let rows = body.topics.iter().flat_map(|(label, rows)| {
                    rows.iter()
                        .map(move |of| row(&label.name, of.index, of.error))
                });
                rows.collect()
            }
            Self::Fetch(body) if body.error != ErrorCode::NONE => whole(body.error),
            Self::Fetch(body) => {
                let rows = body.topics.iter().flat_map(|(label, rows)| {
                    rows.iter()
                        .map(move |of| row(&label.name, of.index, of.error))
                });
                rows.collect()
            }
            Self::ListOffsets(body) => {
                let rows = body.topics.iter().flat_map(|(name, rows)| {
                    rows.iter().map(move |of| row(name, of.index, of.error))
                });
                rows.collect()
            }
            Self::Metadata(body) => {
                let none: Arc<str> = "".into();
                let rows = body.topics.iter();
                rows.map(|of| topic(of.name.as_ref().unwrap_or(&none), of.error))
                    .collect()
            }
            Self::FindCoordinator(body) => body
                .coordinators
                .iter()
                .flat_map(|of| whole(of.error))
                .collect(),
            Self::ApiVersions(body) => whole(body.error),
            Self::CreateTopics(body) => body
                .topics
                .iter()
                .map(|of| topic(&of.name.as_str().into(), of.error))
                .collect(),
            Self::DeleteTopics(body) => {
                let none: Arc<str> = "".into();
                let rows = body.topics.iter();
                rows.map(|of| topic(of.name.as_ref().unwrap_or(&none), of.error))
                    .collect()
            }
            Self::InitProducerId(body) => whole(body.error),
            Self::Txn(body) => body.codes(),
            Self::Offsets(body) => body.codes(),
            Self::Groups(body) => body.codes(),
            Self::Admin(body) => body.codes(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::Api;
    use crate::wire::admin_reply;
    use crate::wire::groups;
    use crate::wire::offsets;
    use crate::wire::transactions;
    use crate::wire::versions::SERVED;

    const CODE: ErrorCode = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    const HINT: LeaderHint = LeaderHint { id: 2, epoch: 5 };
    const ID: Uuid = Uuid::from_u128(7);

    fn endpoint() -> Endpoint {
        Endpoint {
            id: 2,
            host: "mock".into(),
            port: 9092,
        }
    }

    fn label() -> TopicLabel {
        TopicLabel {
            name: "orders".into(),
            id: ID,
        }
    }

    fn produce() -> Reply {
        let row = ProduceRow {
            index: 3,
            error: CODE,
            base_offset: 40,
            log_append_time_ms: 5,
            log_start_offset: 1,
            record_errors: vec![(0, "wrong".into())],
            message: Some("all wrong".into()),
            leader_hint: Some(HINT),
        };
        let topics = vec![(label(), vec![row])];
        Reply::Produce(Produce {
            topics,
            endpoints: vec![endpoint()],
        })
    }

    fn fetch() -> Reply {
        let row = FetchRow {
            index: 3,
            error: CODE,
            high_watermark: 8,
            last_stable_offset: 7,
            log_start_offset: 1,
            aborted: Some(vec![(4_000, 5)]),
            records: Bytes::from_static(&[1, 2, 3]),
            leader_hint: Some(HINT),
        };
        let topics = vec![(label(), vec![row])];
        Reply::Fetch(Fetch {
            error: CODE,
            session_id: 6,
            topics,
            endpoints: vec![endpoint()],
        })
    }

    fn metadata() -> Reply {
        let partition = MetadataPartition {
            error: CODE,
            index: 0,
            leader: HINT,
            replicas: vec![1, 2],
            isr: vec![2],
            offline: vec![1],
        };
        let topic = |name: Option<&str>| MetadataTopic {
            error: CODE,
            name: name.map(Into::into),
            id: ID,
            internal: Ownership::Internal,
            partitions: vec![partition.clone()],
            operations: 9,
        };
        Reply::Metadata(Metadata {
            brokers: vec![endpoint()],
            cluster_id: Some("cluster".into()),
            controller_id: 2,
            topics: vec![topic(Some("orders")), topic(None)],
            cluster_operations: 9,
        })
    }

    /// A reply of the API in which everything is set that any version can say.
    pub(crate) fn everything(api: Api) -> Reply {
        match api {
            Api::Produce => produce(),
            Api::Fetch => fetch(),
            Api::Metadata => metadata(),
            Api::ListOffsets => {
                let (error, timestamp) = (CODE, 5);
                let row = ListOffsetsRow {
                    index: 3,
                    error,
                    timestamp,
                    offset: 4,
                    leader_epoch: 5,
                };
                Reply::ListOffsets(ListOffsets {
                    topics: vec![("orders".into(), vec![row])],
                })
            }
            Api::FindCoordinator => {
                let message = Some("wrong".to_owned());
                let endpoint = Some(endpoint());
                let row = Coordinator {
                    key: "group".into(),
                    error: CODE,
                    message,
                    endpoint,
                };
                Reply::FindCoordinator(FindCoordinator {
                    coordinators: vec![row],
                })
            }
            Api::ApiVersions => Reply::ApiVersions(ApiVersions {
                error: CODE,
                apis: vec![(0, VersionRange::new(3, 13))],
                supported_features: vec![("a.version", VersionRange::new(1, 2))],
                finalized_features: vec![("a.version", 2)],
                finalized_features_epoch: 6,
            }),
            Api::CreateTopics => Reply::CreateTopics(CreateTopics {
                topics: vec![CreatedTopic {
                    name: "orders".into(),
                    id: ID,
                    error: CODE,
                    message: Some("wrong".into()),
                    partitions: 3,
                    replication_factor: 2,
                    configs: vec![("segment.bytes", "5".into(), ConfigSource::Topic)],
                }],
            }),
            Api::DeleteTopics => Reply::DeleteTopics(DeleteTopics {
                topics: vec![DeletedTopic {
                    name: None,
                    id: ID,
                    error: CODE,
                    message: Some("wrong".into()),
                }],
            }),
            Api::InitProducerId => Reply::InitProducerId(InitProducerId {
                error: CODE,
                producer_id: 4_000,
                producer_epoch: 1,
            }),
            other => match transactions::everything(other, CODE) {
                Some(reply) => Reply::Txn(reply),
                None => of_groups_or_admin(other),
            },
        }
    }

    fn of_groups_or_admin(api: Api) -> Reply {
        let of_group = groups::everything(api, CODE);
        match (of_group, offsets::everything(api, CODE)) {
            (Some(reply), _) => Reply::Groups(reply),
            (None, Some(reply)) => Reply::Offsets(reply),
            (None, None) => Reply::Admin(admin_reply::tests::everything(api, CODE)),
        }
    }

    #[test]
    fn every_row_shows_its_code() {
        for served in SERVED {
            let codes = everything(served.api).codes();
            assert!(
                !codes.is_empty() && codes.iter().all(|row| row.code == CODE),
                "{codes:?}"
            );
        }
    }
}
