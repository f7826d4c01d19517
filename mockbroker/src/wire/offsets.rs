//! Offsets of groups: what consumers and producers of transactions commit and ask, and the answers.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//! 2. A value holds what the newest version can say; what an older one lacks is left out here.
//!
//! *Source* the schemas of apache/kafka 4.3.1; KIP-98, KIP-447, KIP-709, KIP-848.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as kp;
use uuid::Uuid;

use super::guard::{Cursor, Reason};
use super::reply::{Encoded, name, put, text};
use super::reply_body::{RowCode, TopicLabel};
use super::request::{Malformed, TopicRef, decoded};
use crate::api::Api;
use crate::error_code::ErrorCode;

/// The body of a request about offsets of groups, one variant for each API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetRequest {
    /// See [`OffsetCommit`].
    OffsetCommit(OffsetCommit),
    /// See [`OffsetFetch`].
    OffsetFetch(OffsetFetch),
    /// See [`AddOffsetsToTxn`].
    AddOffsetsToTxn(AddOffsetsToTxn),
    /// See [`TxnOffsetCommit`].
    TxnOffsetCommit(TxnOffsetCommit),
    /// OffsetDelete: a group, and topics by name with their partitions.
    OffsetDelete(String, Vec<(String, Vec<i32>)>),
}

/// What a client says of its membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The generation; -1 for none.
    pub generation: i32,
    /// The member's id; empty for none.
    pub member: String,
    /// The id that a static member gave itself.
    pub instance: Option<String>,
}

/// OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group.
    pub group: String,
    /// Who commits.
    pub by: Membership,
    /// What, by topic.
    pub topics: Vec<CommitTopic>,
}

/// Topics with what is committed for their partitions.
pub type CommitTopic = (TopicRef, Vec<CommitRow>);

/// A partition for which an offset is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRow {
    /// Which.
    pub index: i32,
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 for none.
    pub leader_epoch: i32,
    /// Whatever the client adds.
    pub metadata: Option<String>,
}

/// OffsetFetch; before version 8 there is one group in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetch {
    /// The groups.
    pub groups: Vec<FetchGroup>,
    /// Whether what a transaction would change is told.
    pub stability: Stability,
}

/// A group of [`OffsetFetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchGroup {
    /// Which.
    pub group: String,
    /// Topics and partitions; `None` is all that it has.
    pub topics: Option<Vec<(TopicRef, Vec<i32>)>>,
}

/// Whether offsets that transactions would change are told (KIP-447).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// They are not.
    Required,
    /// They are, as they were before.
    NotRequired,
}

/// AddOffsetsToTxn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddOffsetsToTxn {
    /// The transactional id.
    pub id: String,
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The group.
    pub group: String,
}

/// TxnOffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOffsetCommit {
    /// The transactional id.
    pub id: String,
    /// The group.
    pub group: String,
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Whose offsets they are.
    pub by: Membership,
    /// What, by topic.
    pub topics: Vec<CommitTopic>,
}

/// The body of a reply about offsets of groups, one variant for each API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetReply {
    /// OffsetCommit: the outcome for each partition.
    OffsetCommit(Vec<CommittedTopic>),
    /// OffsetFetch: by group.
    OffsetFetch(Vec<FetchedGroup>),
    /// AddOffsetsToTxn: the outcome.
    AddOffsetsToTxn(ErrorCode),
    /// TxnOffsetCommit: the outcome for each partition.
    TxnOffsetCommit(Vec<CommittedTopic>),
    /// OffsetDelete: the outcome for all, and for each partition.
    OffsetDelete(ErrorCode, Vec<DeletedTopic>),
}

/// A topic by its name with the outcome for each of its partitions.
pub type DeletedTopic = (String, Vec<(i32, ErrorCode)>);

/// A topic with the outcome for each of its partitions.
pub type CommittedTopic = (TopicLabel, Vec<(i32, ErrorCode)>);

/// A group of OffsetFetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedGroup {
    /// Which.
    pub group: String,
    /// The outcome for all of it.
    pub error: ErrorCode,
    /// Rows by topic.
    pub topics: Vec<(TopicLabel, Vec<FetchedRow>)>,
}

/// A partition of [`FetchedGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedRow {
    /// Which.
    pub index: i32,
    /// The outcome.
    pub error: ErrorCode,
    /// The offset; -1 for none.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 for none; from v5.
    pub leader_epoch: i32,
    /// Whatever was added to it.
    pub metadata: String,
}

impl FetchedRow {
    /// A partition without an offset.
    #[must_use]
    pub const fn none(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            offset: -1,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }
}

/// Reads the body of a request about offsets of groups; `None` when `api` is none of these.
///
/// # Errors
///
/// When a field does not follow the schema.
pub(super) fn decode(
    api: Api,
    version: i16,
    body: &mut Bytes,
) -> Result<Option<OffsetRequest>, Malformed> {
    Ok(Some(match api {
        // The schemas that decode a message end at version 9: 10 names topics by their ids.
        Api::OffsetCommit if version >= 10 => {
            OffsetRequest::OffsetCommit(commit_by_id(body).map_err(|_| Malformed)?)
        }
        Api::OffsetFetch if version >= 10 => {
            OffsetRequest::OffsetFetch(fetch_by_id(body).map_err(|_| Malformed)?)
        }
        Api::OffsetCommit => OffsetRequest::OffsetCommit(commit(decoded(body, version)?)),
        Api::OffsetFetch => OffsetRequest::OffsetFetch(fetch(decoded(body, version)?, version)),
        Api::AddOffsetsToTxn => {
            let message: kp::AddOffsetsToTxnRequest = decoded(body, version)?;
            OffsetRequest::AddOffsetsToTxn(AddOffsetsToTxn {
                id: message.transactional_id.to_string(),
                producer_id: message.producer_id.0,
                producer_epoch: message.producer_epoch,
                group: message.group_id.to_string(),
            })
        }
        Api::TxnOffsetCommit => OffsetRequest::TxnOffsetCommit(txn_commit(decoded(body, version)?)),
        Api::OffsetDelete => {
            let message: kp::OffsetDeleteRequest = decoded(body, version)?;
            let topics = message.topics.iter().map(|topic| {
                let indexes = topic.partitions.iter().map(|row| row.partition_index);
                (topic.name.to_string(), indexes.collect())
            });
            OffsetRequest::OffsetDelete(message.group_id.to_string(), topics.collect())
        }
        _ => return Ok(None),
    }))
}

fn commit(message: kp::OffsetCommitRequest) -> OffsetCommit {
    let topics = message.topics.into_iter().map(|topic| {
        let rows = topic.partitions.into_iter().map(|row| CommitRow {
            index: row.partition_index,
            offset: row.committed_offset,
            leader_epoch: row.committed_leader_epoch,
            metadata: row.committed_metadata.map(|text| text.to_string()),
        });
        (TopicRef::Name(topic.name.to_string()), rows.collect())
    });
    OffsetCommit {
        group: message.group_id.to_string(),
        by: Membership {
            generation: message.generation_id_or_member_epoch,
            member: message.member_id.to_string(),
            instance: message.group_instance_id.map(|id| id.to_string()),
        },
        topics: topics.collect(),
    }
}

fn txn_commit(message: kp::TxnOffsetCommitRequest) -> TxnOffsetCommit {
    let topics = message.topics.into_iter().map(|topic| {
        let rows = topic.partitions.into_iter().map(|row| CommitRow {
            index: row.partition_index,
            offset: row.committed_offset,
            leader_epoch: row.committed_leader_epoch,
            metadata: row.committed_metadata.map(|text| text.to_string()),
        });
        (TopicRef::Name(topic.name.to_string()), rows.collect())
    });
    TxnOffsetCommit {
        id: message.transactional_id.to_string(),
        group: message.group_id.to_string(),
        producer_id: message.producer_id.0,
        producer_epoch: message.producer_epoch,
        by: Membership {
            generation: message.generation_id,
            member: message.member_id.to_string(),
            instance: message.group_instance_id.map(|id| id.to_string()),
        },
        topics: topics.collect(),
    }
}

fn fetch(message: kp::OffsetFetchRequest, version: i16) -> OffsetFetch {
    let named = |name: kp::TopicName| TopicRef::Name(name.to_string());
    let groups = match version {
        ..8 => {
            let topics = message.topics.map(|topics| {
                let topics = topics.into_iter();
                let topics = topics.map(|topic| (named(topic.name), topic.partition_indexes));
                topics.collect()
            });
            vec![FetchGroup {
                group: message.group_id.to_string(),
                topics,
            }]
        }
        _ => {
            let groups = message.groups.into_iter().map(|of| FetchGroup {
                group: of.group_id.to_string(),
                topics: of.topics.map(|topics| {
                    let topics = topics.into_iter();
                    let topics = topics.map(|topic| (named(topic.name), topic.partition_indexes));
                    topics.collect()
                }),
            });
            groups.collect()
        }
    };
    OffsetFetch {
        groups,
        stability: match message.require_stable {
            true => Stability::Required,
            false => Stability::NotRequired,
        },
    }
}

/// OffsetCommit, version 10.
fn commit_by_id(body: &Bytes) -> Result<OffsetCommit, Reason> {
    let mut cursor = Cursor::new(body);
    let group = cursor.compact_text()?.ok_or(NULL)?;
    let by = Membership {
        generation: cursor.int32()?,
        member: cursor.compact_text()?.ok_or(NULL)?,
        instance: cursor.compact_text()?,
    };
    let topics = cursor.compact_items(|cursor| {
        let id = topic_id(cursor)?;
        let rows = cursor.compact_items(|cursor| {
            let row = CommitRow {
                index: cursor.int32()?,
                offset: cursor.int64()?,
                leader_epoch: cursor.int32()?,
                metadata: cursor.compact_text()?,
            };
            cursor.tagged_fields(&[])?;
            Ok(row)
        })?;
        cursor.tagged_fields(&[])?;
        Ok((id, rows.ok_or(NULL)?))
    })?;
    Ok(OffsetCommit {
        group,
        by,
        topics: topics.ok_or(NULL)?,
    })
}

/// OffsetFetch, version 10.
fn fetch_by_id(body: &Bytes) -> Result<OffsetFetch, Reason> {
    let mut cursor = Cursor::new(body);
    let groups = cursor.compact_items(|cursor| {
        let group = cursor.compact_text()?.ok_or(NULL)?;
        // Member and epoch, which are those of consumers of KIP-848.
        cursor.compact_text()?;
        cursor.int32()?;
        let topics = cursor.compact_items(|cursor| {
            let id = topic_id(cursor)?;
            let indexes = cursor.compact_items(Cursor::int32)?;
            cursor.tagged_fields(&[])?;
            Ok((id, indexes.ok_or(NULL)?))
        })?;
        cursor.tagged_fields(&[])?;
        Ok(FetchGroup { group, topics })
    })?;
    let stability = match cursor.take(1)? {
        [0] => Stability::NotRequired,
        _ => Stability::Required,
    };
    Ok(OffsetFetch {
        groups: groups.ok_or(NULL)?,
        stability,
    })
}

const NULL: Reason = "null where there is no null";

fn topic_id(cursor: &mut Cursor<'_>) -> Result<TopicRef, Reason> {
    let id = cursor.take(16)?.try_into();
    let id = id.map_err(|_| "an id of 16 bytes")?;
    Ok(TopicRef::Id(Uuid::from_bytes(id)))
}

impl OffsetReply {
    /// Writes it in `version`.
    ///
    /// # Errors
    ///
    /// What the encoder says of a value that does not fit its field.
    pub(super) fn encode(&self, version: i16, frame: &mut BytesMut) -> Encoded {
        match self {
            Self::OffsetCommit(topics) => encode_committed(topics, version, frame),
            Self::OffsetFetch(groups) => encode_fetched(groups, version, frame),
            Self::AddOffsetsToTxn(error) => {
                let message = kp::AddOffsetsToTxnResponse::default().with_error_code(error.0);
                put(&message, version, frame)
            }
            Self::TxnOffsetCommit(topics) => encode_txn_committed(topics, version, frame),
            Self::OffsetDelete(error, topics) => encode_deleted((*error, topics), version, frame),
        }
    }

    /// The code of every row, for the journal.
    #[must_use]
    pub fn codes(&self) -> Vec<RowCode> {
        match self {
            Self::AddOffsetsToTxn(error) => vec![RowCode::whole(*error)],
            Self::OffsetCommit(topics) | Self::TxnOffsetCommit(topics) => {
                let rows = topics.iter().flat_map(|(label, rows)| {
                    let row = |(index, code): &(i32, ErrorCode)| row_code(label, *index, *code);
                    rows.iter().map(row)
                });
                rows.collect()
            }
            Self::OffsetDelete(error, _) if *error != ErrorCode::NONE => {
                vec![RowCode::whole(*error)]
            }
            Self::OffsetDelete(_, topics) => {
                let rows = topics.iter().flat_map(|(topic, rows)| {
                    let topic: Arc<str> = topic.as_str().into();
                    let row = move |(index, code): &(i32, ErrorCode)| {
                        RowCode::of_partition(Arc::clone(&topic), *index, *code)
                    };
                    rows.iter().map(row)
                });
                rows.collect()
            }
            Self::OffsetFetch(groups) => {
                let rows = groups.iter().flat_map(|of| {
                    let refused = (of.error != ErrorCode::NONE).then(|| RowCode::whole(of.error));
                    let rows = of.topics.iter().flat_map(|(label, rows)| {
                        rows.iter().map(|row| row_code(label, row.index, row.error))
                    });
                    refused.into_iter().chain(rows)
                });
                rows.collect()
            }
        }
    }
}

fn row_code(label: &TopicLabel, index: i32, code: ErrorCode) -> RowCode {
    RowCode::of_partition(label.name.clone(), index, code)
}

fn encode_committed(topics: &[CommittedTopic], version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let topics = topics.iter().map(|(label, rows)| {
        let rows = rows.iter().map(|(index, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(*index)
                .with_error_code(code.0)
        });
        let topic = OffsetCommitResponseTopic::default().with_partitions(rows.collect());
        match version {
            ..10 => topic.with_name(name(&label.name)),
            _ => topic.with_topic_id(label.id),
        }
    });
    let message = kp::OffsetCommitResponse::default().with_topics(topics.collect());
    put(&message, version, frame)
}

fn encode_txn_committed(topics: &[CommittedTopic], version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::txn_offset_commit_response::{
        TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
    };
    let topics = topics.iter().map(|(label, rows)| {
        let rows = rows.iter().map(|(index, code)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(*index)
                .with_error_code(code.0)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(name(&label.name))
            .with_partitions(rows.collect())
    });
    let message = kp::TxnOffsetCommitResponse::default().with_topics(topics.collect());
    put(&message, version, frame)
}

fn encode_deleted(
    (error, topics): (ErrorCode, &[DeletedTopic]),
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
    let topics = topics.iter().map(|(topic, rows)| {
        let rows = rows.iter().map(|(index, code)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(*index)
                .with_error_code(code.0)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(name(topic))
            .with_partitions(rows.collect())
    });
    let message = kp::OffsetDeleteResponse::default()
        .with_error_code(error.0)
        .with_topics(topics.collect());
    put(&message, version, frame)
}

fn encode_fetched(groups: &[FetchedGroup], version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };
    let mut message = kp::OffsetFetchResponse::default();
    if version >= 8 {
        let row = |row: &FetchedRow| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(row.index)
                .with_error_code(row.error.0)
                .with_committed_offset(row.offset)
                .with_committed_leader_epoch(row.leader_epoch)
                .with_metadata(Some(text(&row.metadata)))
        };
        let topic = |(label, rows): &(TopicLabel, Vec<FetchedRow>)| {
            let rows = rows.iter().map(row).collect();
            let topic = OffsetFetchResponseTopics::default().with_partitions(rows);
            match version {
                ..10 => topic.with_name(name(&label.name)),
                _ => topic.with_topic_id(label.id),
            }
        };
        let groups = groups.iter().map(|of| {
            OffsetFetchResponseGroup::default()
                .with_group_id(kp::GroupId(text(&of.group)))
                .with_error_code(of.error.0)
                .with_topics(of.topics.iter().map(topic).collect())
        });
        message.groups = groups.collect();
    } else if let Some(of) = groups.first() {
        let row = |row: &FetchedRow| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(row.index)
                .with_error_code(row.error.0)
                .with_committed_offset(row.offset)
                .with_committed_leader_epoch(match version {
                    ..5 => -1,
                    _ => row.leader_epoch,
                })
                .with_metadata(Some(text(&row.metadata)))
        };
        let topics = of.topics.iter().map(|(label, rows)| {
            OffsetFetchResponseTopic::default()
                .with_name(name(&label.name))
                .with_partitions(rows.iter().map(row).collect())
        });
        message.topics = topics.collect();
        if version >= 2 {
            message.error_code = of.error.0;
        }
    }
    put(&message, version, frame)
}

/// A reply with every field filled, for tests of this and other files.
#[cfg(test)]
pub(super) fn everything(api: Api, error: ErrorCode) -> Option<OffsetReply> {
    let label = || TopicLabel {
        name: "orders".into(),
        id: Uuid::from_u128(7),
    };
    let committed = || vec![(label(), vec![(3, error)])];
    Some(match api {
        Api::OffsetCommit => OffsetReply::OffsetCommit(committed()),
        Api::TxnOffsetCommit => OffsetReply::TxnOffsetCommit(committed()),
        Api::AddOffsetsToTxn => OffsetReply::AddOffsetsToTxn(error),
        Api::OffsetFetch => {
            let row = FetchedRow {
                index: 3,
                error,
                offset: 9,
                leader_epoch: 2,
                metadata: "mine".into(),
            };
            OffsetReply::OffsetFetch(vec![FetchedGroup {
                group: "readers".into(),
                error,
                topics: vec![(label(), vec![row])],
            }])
        }
        Api::OffsetDelete => {
            OffsetReply::OffsetDelete(ErrorCode::NONE, vec![("orders".into(), vec![(3, error)])])
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    /// What the newest schema of the decoder reads of version 9 is what is read here of 10, but for
    /// the id.
    #[test]
    fn version_10_names_topics_by_id() {
        let id = Uuid::from_u128(0x0102_0304);
        let topic = |version: i16, frame: &mut BytesMut| match version {
            9 => frame.put_slice(&[7, b'o', b'r', b'd', b'e', b'r', b's']),
            _ => frame.put_slice(id.as_bytes()),
        };
        let body = |version: i16| {
            let mut frame = BytesMut::new();
            frame.put_slice(&[2, b'g', 0, 0, 0, 5, 2, b'm', 2, b'i', 2]);
            topic(version, &mut frame);
            frame.put_slice(&[2, 0, 0, 0, 1]);
            frame.put_i64(9);
            frame.put_slice(&[0, 0, 0, 4, 2, b'x', 0, 0, 0]);
            frame.freeze()
        };
        let read = |version| match decode(Api::OffsetCommit, version, &mut body(version)) {
            Ok(Some(OffsetRequest::OffsetCommit(request))) => request,
            other => panic!("{other:?}"),
        };
        let (mut old, new) = (read(9), read(10));
        assert_eq!(new.topics[0].0, TopicRef::Id(id));
        old.topics[0].0 = TopicRef::Id(id);
        assert_eq!(new, old);

        let body = |version: i16| {
            let mut frame = BytesMut::new();
            frame.put_slice(&[2, 2, b'g', 0, 0xff, 0xff, 0xff, 0xff, 2]);
            topic(version, &mut frame);
            frame.put_slice(&[3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 1, 0]);
            frame.freeze()
        };
        let read = |version| match decode(Api::OffsetFetch, version, &mut body(version)) {
            Ok(Some(OffsetRequest::OffsetFetch(request))) => request,
            other => panic!("{other:?}"),
        };
        let (mut old, new) = (read(9), read(10));
        assert_eq!(new.stability, Stability::Required);
        old.groups[0].topics.as_mut().unwrap()[0].0 = TopicRef::Id(id);
        assert_eq!(new, old);
    }
}
