//! DeleteRecords (key 21), versions 0 to 2; 2 is flexible.
//!
//! *State* of a row:
//!
//! ```text
//! Asked ─ topic, partition (3) ─ internal (17) ─ leader (6) ─ policy (44) ─ offset (1) ─▶ Refused
//!   │                                                    topic gone 3, leadership lost 6 ▲
//!   └─▶ the leader's log starts there ─▶ Waits for the replicas that run ────────────────┘
//!                                          │ all have deleted ─▶ 0   │ time-out ─▶ 7
//! ```
//!
//! *Invariants*
//! 1. A partition named twice has one row; the last offset counts (observed).
//! 2. A row that is not refused tells how far every replica that runs has deleted.
//!
//! *Source* apache/kafka `core/…/server/{KafkaApis,ReplicaManager,DelayedDeleteRecords}.scala`,
//! `core/…/cluster/Partition.scala` deleteRecordsOnLeader; observed on 4.3.1.
//!
//! *Deviations* rows keep the order of the request; Kafka's is a hash order.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::hosting;
use super::{Answer, Context, Pending as AnyPending, Wait};
use crate::engine::Cluster;
use crate::engine::partition::{DeleteError, DeleteTo};
use crate::engine::time::Instant;
use crate::engine::topology::{PartitionKey, is_internal};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{AdminReply, DeletedRow};
use crate::wire::admin_request::DeleteRecords;
use crate::wire::reply::Reply;

/// `DeleteRecordsRequest.HIGH_WATERMARK`.
const HIGH_WATERMARK: i64 = -1;

/// A row in the making.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// Its code, and how far every replica has deleted.
    Known(ErrorCode, i64),
    /// The leader has deleted up to `wanted`, every replica up to `low_watermark`.
    Waits {
        key: PartitionKey,
        low_watermark: i64,
        wanted: i64,
    },
}

/// A topic with its partitions.
type Lines = (Arc<str>, Vec<(i32, Line)>);

/// A request that waits for replicas: `DelayedDeleteRecords`.
#[derive(Clone, Debug)]
pub struct Pending {
    topics: Vec<Lines>,
}

/// Deletes on the leaders, and answers at once or when the other replicas have followed.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &DeleteRecords,
    now: Instant,
) -> Answer {
    let mut topics: Vec<Lines> = Vec::new();
    for (topic, offsets) in distinct(request) {
        let lines = offsets.into_iter().map(|(partition, offset)| {
            let line = delete(cluster, context, (topic, partition), offset);
            (partition, line)
        });
        let lines: Vec<_> = lines.collect();
        if !lines.is_empty() {
            topics.push((topic.into(), lines));
        }
    }
    let pending = Pending { topics };
    if pending.is_complete(cluster, context) {
        return pending.answer(cluster, context);
    }
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
    Answer::Wait(Wait {
        watched: pending.keys(),
        pending: AnyPending::DeleteRecords(pending),
        deadline: now + Duration::from_millis(timeout_ms),
    })
}

/// Topics and their partitions, each once, in the order of the request.
fn distinct(request: &DeleteRecords) -> Vec<(&str, Vec<(i32, i64)>)> {
    let mut topics: Vec<(&str, Vec<(i32, i64)>)> = Vec::new();
    let (mut topic_places, mut places) = (BTreeMap::new(), BTreeMap::new());
    for (topic, offsets) in &request.topics {
        let at = *topic_places.entry(topic).or_insert_with(|| {
            topics.push((topic, Vec::new()));
            topics.len() - 1
        });
        let Some((_, rows)) = topics.get_mut(at) else {
            continue;
        };
        for &(partition, offset) in offsets {
            let place = *places.entry((at, partition)).or_insert(rows.len());
            match rows.get_mut(place) {
                Some(row) => row.1 = offset,
                None => rows.push((partition, offset)),
            }
        }
    }
    topics
}

fn delete(
    cluster: &mut Cluster,
    context: &Context,
    (topic, partition): (&str, i32),
    offset: i64,
) -> Line {
    let refused = |code| Line::Known(code, -1);
    if let Some(code) = context.injection.partition_refusal(topic, partition) {
        return refused(code);
    }
    let key = match hosting::key(cluster, context, topic, partition) {
        Ok(key) => key,
        Err(code) => return refused(code),
    };
    if is_internal(topic) {
        return refused(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if !cluster.leads(key, context.broker) {
        return refused(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let to = match offset {
        HIGH_WATERMARK => DeleteTo::HighWatermark,
        _ => DeleteTo::Offset(offset),
    };
    match cluster.delete_records((key, context.broker), to) {
        Ok(wanted) => match low_watermark(cluster, context, key) {
            reached if reached >= wanted => Line::Known(ErrorCode::NONE, reached),
            low_watermark => Line::Waits {
                key,
                low_watermark,
                wanted,
            },
        },
        Err(Some(DeleteError::NotByPolicy)) => refused(ErrorCode::POLICY_VIOLATION),
        Err(Some(DeleteError::NotLeader)) => refused(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Err(Some(DeleteError::OutOfRange)) => refused(ErrorCode::OFFSET_OUT_OF_RANGE),
        Err(None) => refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn low_watermark(cluster: &Cluster, context: &Context, key: PartitionKey) -> i64 {
    cluster.low_watermark(key, context.broker).unwrap_or(-1)
}

/// How a row stands; `None` while a replica has not followed.
fn settled(cluster: &Cluster, context: &Context, line: Line) -> Option<(ErrorCode, i64)> {
    match line {
        Line::Known(code, low_watermark) => Some((code, low_watermark)),
        Line::Waits { key, .. } if cluster.partition(key).is_none() => {
            Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1))
        }
        Line::Waits { key, .. } if !cluster.leads(key, context.broker) => {
            Some((ErrorCode::NOT_LEADER_OR_FOLLOWER, -1))
        }
        Line::Waits { key, wanted, .. } => {
            let low_watermark = low_watermark(cluster, context, key);
            (low_watermark >= wanted).then_some((ErrorCode::NONE, low_watermark))
        }
    }
}

impl Pending {
    fn keys(&self) -> Vec<PartitionKey> {
        let lines = self.topics.iter().flat_map(|(_, lines)| lines);
        let keys = lines.filter_map(|(_, line)| match line {
            Line::Waits { key, .. } => Some(*key),
            Line::Known(..) => None,
        });
        keys.collect()
    }

    /// Whether every row's outcome is known.
    #[must_use]
    pub fn is_complete(&self, cluster: &Cluster, context: &Context) -> bool {
        let mut lines = self.topics.iter().flat_map(|(_, lines)| lines);
        lines.all(|(_, line)| settled(cluster, context, *line).is_some())
    }

    /// The answer; 7 for what a replica has not followed.
    #[must_use]
    pub fn answer(self, cluster: &Cluster, context: &Context) -> Answer {
        let topics = self.topics.into_iter().map(|(topic, lines)| {
            let rows = lines.into_iter().map(|(index, line)| {
                let late = match line {
                    Line::Known(_, low_watermark) | Line::Waits { low_watermark, .. } => {
                        (ErrorCode::REQUEST_TIMED_OUT, low_watermark)
                    }
                };
                let (error, low_watermark) = settled(cluster, context, line).unwrap_or(late);
                let overwriting = context.injection.partition_overwriting(&topic, index);
                DeletedRow {
                    index,
                    error: overwriting.unwrap_or(error),
                    low_watermark,
                }
            });
            let rows = rows.collect();
            (topic, rows)
        });
        let topics = topics.collect();
        Answer::Reply(Reply::Admin(AdminReply::DeleteRecords(topics)))
    }
}
