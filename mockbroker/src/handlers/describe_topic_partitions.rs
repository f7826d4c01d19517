//! DescribeTopicPartitions (key 75), version 0 (KIP-966).
//!
//! *Invariants*
//! 1. Topics come by name, each once, from the cursor on.
//! 2. An answer holds as many partitions as were asked for, at least 1 and at most 2,000; what is
//!    left begins at the next cursor.
//! 3. An unknown topic is told where it was named, and left out where all were asked for.
//!
//! *Source* apache/kafka `core/…/server/handlers/DescribeTopicPartitionsRequestHandler.java`,
//! `core/…/server/metadata/KRaftMetadataCache.scala` describeTopicResponse.
//!
//! *Deviations* no eligible leader replicas are modelled: their lists are empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::Context;
use super::metadata::{TOPIC_OPERATIONS, ownership, partition};
use crate::engine::Cluster;
use crate::engine::topology::{Topic, Topology, is_valid_name};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{self, AdminReply, DescribedPartition, DescribedTopic};
use crate::wire::admin_request::DescribeTopicPartitions;

/// Answers with the partitions of the topics, page by page.
#[must_use]
pub fn handle(
    cluster: &Cluster,
    context: &Context,
    request: &DescribeTopicPartitions,
) -> AdminReply {
    AdminReply::DescribeTopicPartitions(match names(cluster.known_to(context.broker), request) {
        Ok(names) => page(cluster, context, request, names),
        Err(error) => admin_reply::DescribeTopicPartitions {
            topics: request
                .topics
                .iter()
                .map(|name| DescribedTopic {
                    operations: i32::MIN,
                    ..absent(name, error)
                })
                .collect(),
            next_cursor: None,
        },
    })
}

fn names<'a>(
    known: &'a Topology,
    request: &'a DescribeTopicPartitions,
) -> Result<BTreeSet<&'a str>, ErrorCode> {
    let cursor = request.cursor.as_ref();
    let from = cursor.map_or("", |(topic, _)| topic);
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        known.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(String::as_str).collect()
    };
    let names: BTreeSet<&str> = names.into_iter().filter(|name| *name >= from).collect();
    let lost = !request.topics.is_empty() && !names.contains(from);
    match cursor {
        Some((_, partition)) if lost || *partition < 0 => Err(ErrorCode::INVALID_REQUEST),
        _ => Ok(names),
    }
}

fn page(
    cluster: &Cluster,
    context: &Context,
    request: &DescribeTopicPartitions,
    names: BTreeSet<&str>,
) -> admin_reply::DescribeTopicPartitions {
    let mut left = usize::try_from(request.partitions_max).unwrap_or(0);
    left = left.clamp(1, PARTITIONS_MAX);
    let known = cluster.known_to(context.broker);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names {
        if left == 0 {
            next_cursor = Some((name.into(), 0));
            break;
        }
        let mut row = if let Some(code) = context.injection.topic_refusal(name) {
            absent(name, code)
        } else if let Some(topic) = known.topic_by_name(name) {
            let from = match &request.cursor {
                Some((cursor, partition)) if cursor == name => *partition,
                _ => 0,
            };
            let (row, next) = described(known, topic, from, left);
            left -= row.partitions.len();
            next_cursor = next.map(|partition| (Arc::clone(&topic.name), partition));
            row
        } else if is_valid_name(name) {
            absent(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        } else {
            absent(name, ErrorCode::INVALID_TOPIC_EXCEPTION)
        };
        row.error = context
            .injection
            .topic_overwriting(name)
            .unwrap_or(row.error);
        topics.push(row);
        if next_cursor.is_some() {
            break;
        }
    }
    admin_reply::DescribeTopicPartitions {
        topics,
        next_cursor,
    }
}

/// At most `count` partitions from `from` on, and where the next page begins.
fn described(
    known: &Topology,
    topic: &Topic,
    from: i32,
    count: usize,
) -> (DescribedTopic, Option<i32>) {
    let placed = topic.partitions.iter().zip(topic.indexes());
    let mut rest = placed.skip_while(|(_, index)| *index < from);
    let rows = rest.by_ref().take(count);
    let rows = rows.map(|(placement, index)| DescribedPartition {
        partition: partition(known, placement, index),
        eligible: placement.eligible.iter().map(|broker| broker.0).collect(),
        last_known: placement
            .last_known_leader
            .iter()
            .map(|broker| broker.0)
            .collect(),
    });
    let partitions = rows.collect();
    let row = DescribedTopic {
        error: ErrorCode::NONE,
        name: Arc::clone(&topic.name),
        id: topic.id,
        internal: ownership(&topic.name),
        partitions,
        operations: TOPIC_OPERATIONS,
    };
    (row, rest.next().map(|(_, index)| index))
}

fn absent(name: &str, error: ErrorCode) -> DescribedTopic {
    DescribedTopic {
        error,
        name: name.into(),
        id: Uuid::nil(),
        internal: ownership(name),
        partitions: Vec::new(),
        operations: TOPIC_OPERATIONS,
    }
}

/// Partitions of one answer: the broker's default `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2_000;
