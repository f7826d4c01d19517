//! WriteTxnMarkers (key 27), versions 1 and 2, both flexible.
//!
//! | Version | |
//! |---|---|
//! | 2 | tells the version of the transaction, which decides what epochs are late (KIP-1228) |
//!
//! *State* of a row:
//!
//! ```text
//!       no replica here: 3         leader 6 ─ too few in sync 19 ─ epochs 47 52
//! row ─┬───────────────────▶ told ┌──────────────────────────────────────────────▶ told
//!      └──────────────────────────┴─▶ appended ─ the watermark passes it: 0 ─────▶ told
//!                                        lost 6, gone 3, too few then 20, time-out 7 ▲
//! ```
//!
//! *Invariants*
//! 1. Markers are appended in the order of the request, and answered together.
//! 2. A producer has one row for each partition, and the last counts (observed).
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleWriteTxnMarkersRequest,
//! `clients/…/requests/WriteTxnMarkersRequest.java` getErrorResponse; observed on 4.3.1.
//!
//! *Deviations* rows keep the order of the request; Kafka's is a hash order.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::produce::replicated;
use super::produce_row::Outcome;
use super::{Answer, Context, Pending as AnyPending, Wait, hosting};
use crate::engine::Cluster;
use crate::engine::groups::OFFSETS_TOPIC;
use crate::engine::marker::{EpochRule, Marker};
use crate::engine::open_transactions::Ending;
use crate::engine::partition::{AppendError, Appended};
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;
use crate::wire::reply::Reply;
use crate::wire::transactions::{Decision, JoinedTopic, TxnReply};
use crate::wire::txn_markers::{WritableMarker, WriteTxnMarkers};

/// `request.timeout.ms` of brokers.
const WAITS_FOR: Duration = Duration::from_secs(30);
/// The version of a transaction that a broker takes for "not said", and fails on.
const UNKNOWN_VERSION: i8 = -1;
/// From here on each transaction has its own epoch.
const EPOCH_EACH_SINCE: i8 = 2;

/// A row in the making.
#[derive(Clone, Copy, Debug)]
enum Line {
    Known(ErrorCode),
    /// Appended at that offset.
    Appended(PartitionKey, i64),
}

/// Rows in the order in which they came up: producer, topic, partition.
#[derive(Clone, Debug, Default)]
struct Lines {
    lines: Vec<(i64, Arc<str>, i32, Line)>,
    places: BTreeMap<(i64, Arc<str>, i32), usize>,
}

impl Lines {
    fn set(&mut self, (producer, topic, index): (i64, &Arc<str>, i32), line: Line) {
        let next = self.lines.len();
        let key = (producer, Arc::clone(topic), index);
        let place = *self.places.entry(key).or_insert(next);
        match self.lines.get_mut(place) {
            Some(known) => known.3 = line,
            None => self.lines.push((producer, Arc::clone(topic), index, line)),
        }
    }
}

/// Why a request has no answer of its own.
enum Failed {
    /// What cannot be a marker: all of the request is answered with -1.
    Whole,
    /// A partition that is named twice: the broker waits for an append that it never made.
    Stuck,
}

/// A request that waits for replication.
#[derive(Clone, Debug)]
pub struct Pending {
    lines: Lines,
}

/// Appends markers.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &WriteTxnMarkers,
    now: Instant,
) -> Answer {
    let mut lines = Lines::default();
    let mut is_stuck = false;
    for marker in &request.markers {
        match write(cluster, context, (marker, &mut lines), now) {
            Ok(()) => {}
            Err(Failed::Stuck) => is_stuck = true,
            Err(Failed::Whole) => return failed(context, request),
        }
    }
    if is_stuck {
        cluster.note("WriteTxnMarkers is stuck: a marker names a partition twice".into());
        return Answer::Stuck;
    }
    let mut pending = Pending { lines };
    if pending.settle(cluster, context) {
        return pending.answer(context);
    }
    Answer::Wait(Wait {
        watched: pending.keys(),
        pending: AnyPending::Markers(pending),
        deadline: now + WAITS_FOR,
    })
}

/// Appends one marker to its partitions.
fn write(
    cluster: &mut Cluster,
    context: &Context,
    (asked, lines): (&WritableMarker, &mut Lines),
    now: Instant,
) -> Result<(), Failed> {
    let (mut appended_to, mut is_stuck) = (BTreeSet::new(), false);
    for (topic, indexes) in &asked.topics {
        let name: Arc<str> = topic.as_str().into();
        for index in indexes {
            let row = (asked.producer_id, &name, *index);
            let refusal = context.injection.partition_refusal(topic, *index);
            let key = match (refusal, hosted(cluster, context, topic, *index)) {
                (Some(code), _) | (None, Err(code)) => {
                    lines.set(row, Line::Known(code));
                    continue;
                }
                (None, Ok(key)) => key,
            };
            // An id or an epoch of -1 stands for none, of which no marker is made.
            if asked.producer_id == -1 || asked.producer_epoch == -1 {
                return Err(Failed::Whole);
            }
            let is_again = !appended_to.insert(key);
            if is_again && topic != OFFSETS_TOPIC {
                is_stuck = true;
                continue;
            }
            lines.set(row, append(cluster, context, (key, asked), now));
        }
    }
    match is_stuck {
        true => Err(Failed::Stuck),
        false => Ok(()),
    }
}

/// A partition of which this broker has a replica; what it has none of it does not know.
fn hosted(
    cluster: &Cluster,
    context: &Context,
    topic: &str,
    index: i32,
) -> Result<PartitionKey, ErrorCode> {
    let key = hosting::key(cluster, context, topic, index)?;
    let hosted = hosting::hosted(cluster, context, key);
    hosted.map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    Ok(key)
}

fn append(
    cluster: &mut Cluster,
    context: &Context,
    (key, asked): (PartitionKey, &WritableMarker),
    now: Instant,
) -> Line {
    if asked.transaction_version == UNKNOWN_VERSION {
        return Line::Known(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    let marker = Marker {
        producer_id: asked.producer_id,
        epoch: asked.producer_epoch,
        ending: match asked.decision {
            Decision::Commit => Ending::Commit,
            Decision::Abort => Ending::Abort,
        },
        coordinator_epoch: asked.coordinator_epoch,
    };
    let rule = match asked.transaction_version {
        ..EPOCH_EACH_SINCE => EpochRule::NotLower,
        _ => EpochRule::Higher,
    };
    match cluster.write_marker((key, context.broker), (&marker, rule), now) {
        Ok(offset) => Line::Appended(key, offset),
        Err(refused) => Line::Known(code(refused.as_ref())),
    }
}

const fn code(refused: Option<&AppendError>) -> ErrorCode {
    match refused {
        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Some(AppendError::NotLeader) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Some(AppendError::NotEnoughReplicas) => ErrorCode::NOT_ENOUGH_REPLICAS,
        Some(AppendError::StaleEpoch) => ErrorCode::INVALID_PRODUCER_EPOCH,
        Some(AppendError::StaleCoordinator) => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        Some(AppendError::NoRoom) => ErrorCode::KAFKA_STORAGE_ERROR,
        Some(
            AppendError::TooManyProducers
            | AppendError::Batch(_)
            | AppendError::OutOfOrder
            | AppendError::WrongTransaction,
        ) => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// What a broker answers that has failed on a marker: -1 for everything, also for what it wrote
/// before. Of a producer that is named twice the last marker is told.
fn failed(context: &Context, request: &WriteTxnMarkers) -> Answer {
    let mut last = BTreeMap::new();
    for (place, marker) in request.markers.iter().enumerate() {
        last.insert(marker.producer_id, place);
    }
    let mut lines = Lines::default();
    for (place, marker) in request.markers.iter().enumerate() {
        if last.get(&marker.producer_id) != Some(&place) {
            continue;
        }
        for (topic, indexes) in &marker.topics {
            let name: Arc<str> = topic.as_str().into();
            for index in indexes {
                let row = (marker.producer_id, &name, *index);
                lines.set(row, Line::Known(ErrorCode::UNKNOWN_SERVER_ERROR));
            }
        }
    }
    Pending { lines }.answer(context)
}

impl Pending {
    fn keys(&self) -> Vec<PartitionKey> {
        let keys = self.lines.lines.iter().filter_map(|of| match of.3 {
            Line::Appended(key, _) => Some(key),
            Line::Known(_) => None,
        });
        keys.collect()
    }

    /// Settles the rows whose outcome can be known now; `true` when that is all of them.
    pub fn settle(&mut self, cluster: &Cluster, context: &Context) -> bool {
        let mut all = true;
        for (_, _, _, line) in &mut self.lines.lines {
            if let Line::Appended(key, offset) = *line {
                match settled(cluster, context, key, offset) {
                    Some(code) => *line = Line::Known(code),
                    None => all = false,
                }
            }
        }
        all
    }

    /// The answer; 7 for what is not replicated.
    #[must_use]
    pub fn answer(self, context: &Context) -> Answer {
        let mut producers: Vec<(i64, Vec<JoinedTopic>)> = Vec::new();
        let (mut by_id, mut by_topic) = (BTreeMap::new(), BTreeMap::new());
        for (producer, topic, index, line) in self.lines.lines {
            let code = match line {
                Line::Known(code) => code,
                Line::Appended(..) => ErrorCode::REQUEST_TIMED_OUT,
            };
            let overwriting = context.injection.partition_overwriting(&topic, index);
            let row = (index, overwriting.unwrap_or(code));
            let place = *by_id.entry(producer).or_insert_with(|| {
                producers.push((producer, Vec::new()));
                producers.len() - 1
            });
            let Some((_, topics)) = producers.get_mut(place) else {
                continue;
            };
            let place = *by_topic.entry((producer, topic)).or_insert_with_key(|key| {
                topics.push((key.1.to_string(), Vec::new()));
                topics.len() - 1
            });
            if let Some((_, rows)) = topics.get_mut(place) {
                rows.push(row);
            }
        }
        Answer::Reply(Reply::Txn(TxnReply::WriteTxnMarkers(producers)))
    }
}

/// What has become of a marker; `None` while it is not replicated.
fn settled(
    cluster: &Cluster,
    context: &Context,
    key: PartitionKey,
    offset: i64,
) -> Option<ErrorCode> {
    let appended = Appended::Stored {
        base_offset: offset,
        last_offset: offset,
        log_append_time_ms: None,
    };
    match replicated(cluster, context, Some(key), &appended) {
        Outcome::TimedOut { .. } => None,
        Outcome::NotLeader { .. } => Some(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Outcome::TopicGone { .. } => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Outcome::TooFewAfterAppend { .. } => Some(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        _ => Some(ErrorCode::NONE),
    }
}
