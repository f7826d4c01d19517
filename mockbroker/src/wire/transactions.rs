//! Transactions: what producers and brokers ask of coordinators, and what is answered.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//! 2. A value holds what the newest version can say; what an older one lacks is left out here.
//!
//! *Source* the schemas of apache/kafka 4.3.1; KIP-98, KIP-890.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as kp;

use super::reply::{Encoded, name, put, text};
use super::reply_body::RowCode;
use super::request::{Malformed, decoded};
use super::txn_markers::{self, WriteTxnMarkers};
use crate::api::Api;
use crate::error_code::ErrorCode;

/// The body of a request about transactions, one variant for each API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnRequest {
    /// See [`AddPartitionsToTxn`].
    AddPartitionsToTxn(AddPartitionsToTxn),
    /// See [`EndTxn`].
    EndTxn(EndTxn),
    /// See [`WriteTxnMarkers`].
    WriteTxnMarkers(WriteTxnMarkers),
}

/// AddPartitionsToTxn; before version 4 there is one transaction in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitionsToTxn {
    /// What is to join.
    pub transactions: Vec<JoiningTransaction>,
}

/// A transaction of [`AddPartitionsToTxn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoiningTransaction {
    /// The transactional id.
    pub id: String,
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Whether partitions join, or are looked for only.
    pub mode: JoinMode,
    /// Topics by name, with their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// Whether [`AddPartitionsToTxn`] adds partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinMode {
    /// It does.
    Add,
    /// It asks whether they are part of the transaction.
    VerifyOnly,
}

/// EndTxn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTxn {
    /// The transactional id.
    pub id: String,
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// How it ends.
    pub decision: Decision,
}

/// How a client ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its records are to count.
    Commit,
    /// They are not.
    Abort,
}

/// The body of a reply about transactions, one variant for each API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnReply {
    /// See [`AddedPartitions`].
    AddPartitionsToTxn(AddedPartitions),
    /// See [`Ended`].
    EndTxn(Ended),
    /// WriteTxnMarkers: by producer id, topics with rows.
    WriteTxnMarkers(Vec<(i64, Vec<JoinedTopic>)>),
}

/// AddPartitionsToTxn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedPartitions {
    /// The outcome of the request as a whole; from v4.
    pub error: ErrorCode,
    /// By transactional id, topics with rows.
    pub transactions: Vec<(String, Vec<JoinedTopic>)>,
}

/// A topic with the outcome for each of its partitions.
pub type JoinedTopic = (String, Vec<(i32, ErrorCode)>);

/// EndTxn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The outcome.
    pub error: ErrorCode,
    /// The producer's id from now on; -1 on errors; from v5.
    pub producer_id: i64,
    /// Its epoch from now on; -1 on errors; from v5.
    pub producer_epoch: i16,
}

/// Reads the body of a request about transactions; `None` when `api` is none of these.
///
/// # Errors
///
/// When a field does not follow the schema.
pub(super) fn decode(
    api: Api,
    version: i16,
    body: &mut Bytes,
) -> Result<Option<TxnRequest>, Malformed> {
    Ok(Some(match api {
        Api::AddPartitionsToTxn => {
            TxnRequest::AddPartitionsToTxn(add_partitions(decoded(body, version)?, version))
        }
        Api::EndTxn => {
            let message: kp::EndTxnRequest = decoded(body, version)?;
            TxnRequest::EndTxn(EndTxn {
                id: message.transactional_id.to_string(),
                producer_id: message.producer_id.0,
                producer_epoch: message.producer_epoch,
                decision: match message.committed {
                    true => Decision::Commit,
                    false => Decision::Abort,
                },
            })
        }
        Api::WriteTxnMarkers => {
            let request = txn_markers::decode(version, body).map_err(|_| Malformed)?;
            TxnRequest::WriteTxnMarkers(request)
        }
        _ => return Ok(None),
    }))
}

fn add_partitions(message: kp::AddPartitionsToTxnRequest, version: i16) -> AddPartitionsToTxn {
    use kp::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    let topics = |topics: Vec<AddPartitionsToTxnTopic>| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name.to_string(), topic.partitions))
            .collect()
    };
    let transactions = match version {
        ..4 => vec![JoiningTransaction {
            id: message.v3_and_below_transactional_id.to_string(),
            producer_id: message.v3_and_below_producer_id.0,
            producer_epoch: message.v3_and_below_producer_epoch,
            mode: JoinMode::Add,
            topics: topics(message.v3_and_below_topics),
        }],
        _ => {
            let transactions = message.transactions.into_iter();
            let transactions = transactions.map(|of| JoiningTransaction {
                id: of.transactional_id.to_string(),
                producer_id: of.producer_id.0,
                producer_epoch: of.producer_epoch,
                mode: match of.verify_only {
                    true => JoinMode::VerifyOnly,
                    false => JoinMode::Add,
                },
                topics: topics(of.topics),
            });
            transactions.collect()
        }
    };
    AddPartitionsToTxn { transactions }
}

impl TxnReply {
    /// Writes it in `version`.
    ///
    /// # Errors
    ///
    /// What the encoder says of a value that does not fit its field.
    pub(super) fn encode(&self, version: i16, frame: &mut BytesMut) -> Encoded {
        match self {
            Self::AddPartitionsToTxn(body) => encode_added(body, version, frame),
            Self::EndTxn(body) => {
                let mut message = kp::EndTxnResponse::default().with_error_code(body.error.0);
                if version >= 5 {
                    message.producer_id = kp::ProducerId(body.producer_id);
                    message.producer_epoch = body.producer_epoch;
                }
                put(&message, version, frame)
            }
            Self::WriteTxnMarkers(producers) => encode_marked(producers, frame),
        }
    }

    /// The code of every row, for the journal.
    #[must_use]
    pub fn codes(&self) -> Vec<RowCode> {
        match self {
            Self::AddPartitionsToTxn(body) if body.error != ErrorCode::NONE => {
                vec![RowCode::whole(body.error)]
            }
            Self::AddPartitionsToTxn(body) => {
                let topics = body.transactions.iter().flat_map(|(_, topics)| topics);
                topics.flat_map(row_codes).collect()
            }
            Self::EndTxn(body) => vec![RowCode::whole(body.error)],
            Self::WriteTxnMarkers(producers) => {
                let topics = producers.iter().flat_map(|(_, topics)| topics);
                topics.flat_map(row_codes).collect()
            }
        }
    }
}

fn row_codes((topic, rows): &JoinedTopic) -> impl Iterator<Item = RowCode> {
    let topic: Arc<str> = topic.as_str().into();
    let row = move |(index, code): &(i32, ErrorCode)| {
        RowCode::of_partition(Arc::clone(&topic), *index, *code)
    };
    rows.iter().map(row)
}

/// The newest layout that the generated messages have; version 2 is the same.
const MARKED_LAYOUT: i16 = 1;

fn encode_marked(producers: &[(i64, Vec<JoinedTopic>)], frame: &mut BytesMut) -> Encoded {
    use kp::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    };
    let topic = |(topic, rows): &JoinedTopic| {
        let rows = rows.iter().map(|(index, code)| {
            WritableTxnMarkerPartitionResult::default()
                .with_partition_index(*index)
                .with_error_code(code.0)
        });
        WritableTxnMarkerTopicResult::default()
            .with_name(name(topic))
            .with_partitions(rows.collect())
    };
    let markers = producers.iter().map(|(id, topics)| {
        WritableTxnMarkerResult::default()
            .with_producer_id(kp::ProducerId(*id))
            .with_topics(topics.iter().map(topic).collect())
    });
    let message = kp::WriteTxnMarkersResponse::default().with_markers(markers.collect());
    put(&message, MARKED_LAYOUT, frame)
}

fn encode_added(body: &AddedPartitions, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    };
    let topic = |(topic, rows): &JoinedTopic| {
        let rows = rows.iter().map(|(index, code)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code.0)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(name(topic))
            .with_results_by_partition(rows.collect())
    };
    let mut message = kp::AddPartitionsToTxnResponse::default();
    if version >= 4 {
        message.error_code = body.error.0;
        let results = body.transactions.iter().map(|(id, topics)| {
            AddPartitionsToTxnResult::default()
                .with_transactional_id(kp::TransactionalId(text(id)))
                .with_topic_results(topics.iter().map(topic).collect())
        });
        message.results_by_transaction = results.collect();
    } else if let Some((_, topics)) = body.transactions.first() {
        message.results_by_topic_v3_and_below = topics.iter().map(topic).collect();
    }
    put(&message, version, frame)
}

/// A reply with every field filled, for tests of this and other files.
#[cfg(test)]
pub(super) fn everything(api: Api, error: ErrorCode) -> Option<TxnReply> {
    Some(match api {
        Api::AddPartitionsToTxn => TxnReply::AddPartitionsToTxn(AddedPartitions {
            error: ErrorCode::NONE,
            transactions: vec![("id".into(), vec![("orders".into(), vec![(3, error)])])],
        }),
        Api::EndTxn => TxnReply::EndTxn(Ended {
            error,
            producer_id: 4_000,
            producer_epoch: 1,
        }),
        Api::WriteTxnMarkers => {
            let topics = vec![("orders".into(), vec![(3, error)])];
            TxnReply::WriteTxnMarkers(vec![(4_000, topics)])
        }
        _ => return None,
    })
}
