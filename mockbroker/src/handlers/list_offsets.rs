//! ListOffsets (key 2), versions 1 to 11.
//!
//! | Timestamp | Answer |
//! |---|---|
//! | 0 and above | the first record that is not older |
//! | -1 | the high watermark, or the last stable offset for readers of what is committed |
//! | -2, -4 | the log's first offset (KIP-405: nothing is tiered, so the local one is the same) |
//! | -3 | the record with the largest timestamp, if it is visible (KIP-734) |
//! | -5, -6 | none: nothing is tiered (KIP-1005, KIP-1023) |
//!
//! *Invariants*
//! 1. A partition named twice is refused, in one row (observed).
//! 2. A timestamp that the version does not know is refused before the partition is looked for
//!    (observed).
//! 3. A new leader whose watermark lies before its epoch does not tell where the log ends (78).
//!
//! *Source* apache/kafka `core/…/server/ReplicaManager.scala` fetchOffset, `core/…/cluster/
//! Partition.scala` fetchOffsetForTimestamp; observed on 4.3.1.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hosting;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::log::Reader;
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, ListOffsetsRow, Reply};
use crate::wire::request::{ListOffsets, ListOffsetsPartition};

/// Answers with the offset that each timestamp stands for.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &ListOffsets) -> Answer {
    let mut topics: Vec<(Arc<str>, Vec<ListOffsetsRow>)> = Vec::new();
    let reader = match request.isolation {
        READ_COMMITTED => Reader::OfCommitted,
        _ => Reader::OfAll,
    };
    for (topic, lines) in distinct(request) {
        let rows = lines.into_iter().map(|(asked, times)| {
            let found = match times {
                1 => look_up(cluster, context, (topic, reader), &asked),
                _ => Err(ErrorCode::INVALID_REQUEST),
            };
            let mut row = match found {
                Ok(Found(timestamp, offset, leader_epoch)) => ListOffsetsRow {
                    timestamp,
                    offset,
                    leader_epoch,
                    ..nothing(asked.index)
                },
                Err(error) => ListOffsetsRow {
                    error,
                    ..nothing(asked.index)
                },
            };
            let overwriting = context.injection.partition_overwriting(topic, asked.index);
            row.error = overwriting.unwrap_or(row.error);
            row
        });
        topics.push((topic.into(), rows.collect()));
    }
    Answer::Reply(Reply::ListOffsets(reply::ListOffsets { topics }))
}

/// A topic with its partitions, each once, and how often it is named.
type Named<'a> = (&'a str, Vec<(ListOffsetsPartition, usize)>);

fn distinct(request: &ListOffsets) -> Vec<Named<'_>> {
    let mut topics: Vec<Named<'_>> = Vec::new();
    let (mut topic_places, mut places) = (BTreeMap::new(), BTreeMap::new());
    for topic in request
        .topics
        .iter()
        .filter(|topic| !topic.partitions.is_empty())
    {
        let at = *topic_places.entry(&topic.name).or_insert_with(|| {
            topics.push((&topic.name, Vec::new()));
            topics.len() - 1
        });
        let Some((_, lines)) = topics.get_mut(at) else {
            continue;
        };
        for asked in &topic.partitions {
            let place = *places.entry((at, asked.index)).or_insert(lines.len());
            match lines.get_mut(place) {
                Some((_, times)) => *times += 1,
                None => lines.push((*asked, 1)),
            }
        }
    }
    topics
}

/// Timestamp, offset and leader epoch; -1 where there is none.
struct Found(i64, i64, i32);

const NOWHERE: Found = Found(-1, -1, -1);

fn look_up(
    cluster: &Cluster,
    context: &Context,
    (topic, reader): (&str, Reader),
    asked: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    if let Some(code) = context.injection.partition_refusal(topic, asked.index) {
        return Err(code);
    }
    let version = context.header.version;
    if version < since(asked.timestamp).ok_or(ErrorCode::UNSUPPORTED_VERSION)? {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let key = hosting::key(cluster, context, topic, asked.index)?;
    let (log, epoch) = hosting::led(cluster, context, key, asked.leader_epoch)?;
    // A new leader does not know yet how far the old one's watermark was.
    let lags = log.start_of_epoch(epoch) > log.high_watermark();
    let not_yet = || match version {
        _ if !lags => Ok(NOWHERE),
        ..5 => Err(ErrorCode::LEADER_NOT_AVAILABLE),
        _ => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
    };
    let visible = |found: Option<(i64, i64, i32)>| match found {
        Some((timestamp, offset, epoch)) if offset < log.end_for(reader) => {
            Ok(Found(timestamp, offset, epoch))
        }
        _ => not_yet(),
    };
    match asked.timestamp {
        LATEST if lags => not_yet(),
        LATEST => Ok(Found(-1, log.end_for(reader), epoch)),
        EARLIEST | EARLIEST_LOCAL => {
            let first = log.first_epoch(epoch);
            Ok(Found(-1, log.start_offset(), first))
        }
        MAX_TIMESTAMP => visible(log.offset_of_max_timestamp()),
        timestamp if timestamp >= 0 => visible(log.offset_for(timestamp)),
        _ => Ok(NOWHERE),
    }
}

const READ_COMMITTED: i8 = 1;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

/// The version in which a timestamp began to have its meaning; `None` for one without.
const fn since(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. | LATEST | EARLIEST => Some(0),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        -5 => Some(9),
        -6 => Some(11),
        _ => None,
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
