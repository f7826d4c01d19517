//! Whether the broker that was asked can answer for a partition.
//!
//! *Source* apache/kafka `core/…/server/ReplicaManager.scala` getPartitionOrError, `core/…/cluster/
//! Partition.scala` getLocalLog; KIP-320.

use super::Context;
use crate::engine::Cluster;
use crate::engine::log::Log;
use crate::engine::partition::Partition;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;

/// The log of a partition that this broker leads, and its epoch there, which the client may know
/// (-1 if not).
///
/// # Errors
///
/// 3 when there is none; 6 when the broker has no replica of it; 74 when the client is behind, 75
/// when it is ahead; 6 when another broker leads it.
pub(super) fn led<'a>(
    cluster: &'a Cluster,
    context: &Context,
    key: PartitionKey,
    known_epoch: i32,
) -> Result<(&'a Log, i32), ErrorCode> {
    let partition = hosted(cluster, context, key)?;
    let placement = cluster.known_to(context.broker).placement(key);
    let placement = placement.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let epoch = placement.leadership.epoch;
    match known_epoch {
        -1 => {}
        _ if known_epoch < epoch => return Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ if known_epoch > epoch => return Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => {}
    }
    match partition.log_on(context.broker) {
        Some(log) if cluster.leads(key, context.broker) => Ok((log, epoch)),
        _ => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    }
}

/// The key of a partition, as far as this broker knows of it.
///
/// # Errors
///
/// 3 when there is none.
pub(super) fn key(
    cluster: &Cluster,
    context: &Context,
    topic: &str,
    partition: i32,
) -> Result<PartitionKey, ErrorCode> {
    let topic = cluster.known_to(context.broker).topic_by_name(topic);
    let topic = topic.filter(|topic| topic.placement(partition).is_some());
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.key;
    Ok(PartitionKey { topic, partition })
}

/// The partition, of which this broker has a replica.
///
/// # Errors
///
/// 3 when there is none, 6 when the broker has no replica of it.
pub(super) fn hosted<'a>(
    cluster: &'a Cluster,
    context: &Context,
    key: PartitionKey,
) -> Result<&'a Partition, ErrorCode> {
    let partition = cluster.partition(key);
    let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    match partition.replicas().replica(context.broker) {
        Some(_) => Ok(partition),
        None => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    }
}
