//! ListOffsets (key 2), versions 1 to 11.
//!
//! | Timestamp | Answer |
//! |---|---|
//! | 0 and above | the first record that is not older |
//! | -1 | the high watermark |
//! | -2, -4 | the log's first offset (KIP-405: nothing is tiered, so the local one is the same) |
//! | -3 | the record with the largest timestamp (KIP-734) |
//! | -5, -6 | none: nothing is tiered (KIP-1005, KIP-1023) |
//!
//! *Source* apache/kafka `core/…/cluster/Partition.scala` fetchOffsetForTimestamp.
//!
//! *Deviations* no transactions yet, so the last stable offset is the high watermark.

use std::sync::Arc;

use super::fetch::check_epoch;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::log::Log;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, ListOffsetsRow, Reply};
use crate::wire::request::{ListOffsets, ListOffsetsPartition};

/// Answers with the offset that each timestamp stands for.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &ListOffsets) -> Answer {
    let topics = request.topics.iter().map(|topic| {
        let rows = topic.partitions.iter().map(|asked| {
            let mut row = match check(cluster, context, &topic.name, asked) {
                Ok((log, epoch)) => look_up(log, epoch, asked),
                Err(error) => ListOffsetsRow {
                    error,
                    ..nothing(asked.index)
                },
            };
            let overwriting = context
                .injection
                .partition_overwriting(&topic.name, asked.index);
            row.error = overwriting.unwrap_or(row.error);
            row
        });
        (Arc::from(topic.name.as_str()), rows.collect())
    });
    Answer::Reply(Reply::ListOffsets(reply::ListOffsets {
        topics: topics.collect(),
    }))
}

fn check<'a>(
    cluster: &'a Cluster,
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<(&'a Log, i32), ErrorCode> {
    if let Some(code) = context.injection.partition_refusal(topic, asked.index) {
        return Err(code);
    }
    let known = cluster.known_to(context.broker).topic_by_name(topic);
    let known = known.and_then(|topic| Some((topic.key, topic.placement(asked.index)?)));
    let (topic, placement) = known.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let epoch = placement.leadership.epoch;
    check_epoch(asked.leader_epoch, epoch)?;
    if placement.leadership.leader != Some(context.broker) {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let key = PartitionKey {
        topic,
        partition: asked.index,
    };
    let partition = cluster
        .partition(key)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let log = partition.log_on(context.broker);
    Ok((log.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?, epoch))
}

fn look_up(log: &Log, epoch: i32, asked: &ListOffsetsPartition) -> ListOffsetsRow {
    let (timestamp, offset, leader_epoch) = match asked.timestamp {
        -1 => (-1, log.high_watermark(), epoch),
        -2 | -4 => {
            let first = log.batches().first().map(|batch| batch.header.leader_epoch);
            (-1, log.start_offset(), first.unwrap_or(epoch))
        }
        -3 => log.offset_of_max_timestamp().unwrap_or((-1, -1, -1)),
        timestamp if timestamp >= 0 => log.offset_for(timestamp).unwrap_or((-1, -1, -1)),
        _ => (-1, -1, -1),
    };
    ListOffsetsRow {
        timestamp,
        offset,
        leader_epoch,
        ..nothing(asked.index)
    }
}

const fn nothing(index: i32) -> ListOffsetsRow {
    ListOffsetsRow {
        index,
        error: ErrorCode::NONE,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    }
}
