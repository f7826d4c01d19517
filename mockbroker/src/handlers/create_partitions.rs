//! CreatePartitions (key 37), versions 0 to 3.
//!
//! | Version | |
//! |---|---|
//! | 2 | flexible |
//! | 3 | may be refused for a quota (KIP-599); here it never is |
//!
//! *Invariants*
//! 1. A topic named twice is refused, in one row.
//! 2. What is only to be checked leaves no trace.
//!
//! *Source* apache/kafka `metadata/…/controller/ReplicationControlManager.java` createPartitions,
//! `core/…/server/ControllerApis.scala`.
//!
//! *Deviations* partitions are there at once, where Kafka answers 6 for a moment; they are made by
//! whichever broker is asked.

use std::collections::BTreeMap;

use super::Context;
use super::create_topics::PARTITIONS_PER_REQUEST_MAX;
use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
use crate::engine::topology::Topic;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{self, AdminReply};
use crate::wire::admin_request::{CreatePartitions, GrownTopic};
use crate::wire::request::CreateMode;

type Refused = (ErrorCode, Option<String>);

/// Makes the partitions that can be, or checks whether they can.
pub fn handle(cluster: &mut Cluster, context: &Context, request: &CreatePartitions) -> AdminReply {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *named.entry(&topic.name).or_default() += 1;
    }
    let mut room = PARTITIONS_PER_REQUEST_MAX;
    let mut rows = Vec::new();
    for topic in &request.topics {
        let Some(times) = named.remove(topic.name.as_str()) else {
            continue;
        };
        let grown = if let Some(code) = context.injection.topic_refusal(&topic.name) {
            Err((code, None))
        } else if times > 1 {
            Err(refused(ErrorCode::INVALID_REQUEST, "Duplicate topic name."))
        } else {
            grow(cluster, topic, request.mode, &mut room)
        };
        let (error, message) = grown.err().unwrap_or_default();
        let overwriting = context.injection.topic_overwriting(&topic.name);
        rows.push(admin_reply::GrownTopic {
            name: topic.name.clone(),
            error: overwriting.unwrap_or(error),
            message,
        });
    }
    AdminReply::CreatePartitions(rows)
}

fn refused(error: ErrorCode, message: impl Into<String>) -> Refused {
    (error, Some(message.into()))
}

fn grow(
    cluster: &mut Cluster,
    asked: &GrownTopic,
    mode: CreateMode,
    room: &mut usize,
) -> Result<(), Refused> {
    let topic = cluster.topology().topic_by_name(&asked.name);
    let topic = topic.ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None))?;
    let key = topic.key;
    let replicas = plan(cluster, topic, asked)?;
    if replicas.len() > *room || replicas.len() > cluster.topology().partition_room() {
        let message = "Excessively large number of partitions per request.";
        return Err(refused(ErrorCode::POLICY_VIOLATION, message));
    }
    *room -= replicas.len();
    if mode == CreateMode::Create {
        cluster.add_partitions(key, replicas);
    }
    Ok(())
}

/// The brokers of the partitions to add.
fn plan(
    cluster: &Cluster,
    topic: &Topic,
    asked: &GrownTopic,
) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let known = topic.partitions.len();
    let count = usize::try_from(asked.count).unwrap_or(0);
    if count == known {
        let message = format!("Topic already has {known} partition(s).");
        return Err(refused(ErrorCode::INVALID_PARTITIONS, message));
    }
    let Some(added) = count.checked_sub(known) else {
        let message = format!(
            "The topic {} currently has {known} partition(s); {} would not be an increase.",
            topic.name, asked.count
        );
        return Err(refused(ErrorCode::INVALID_PARTITIONS, message));
    };
    if added > PARTITIONS_PER_REQUEST_MAX {
        let message = "Excessively large number of partitions per request.";
        return Err(refused(ErrorCode::POLICY_VIOLATION, message));
    }
    let factor = topic.partitions.first();
    let factor = factor.map_or(1, |placement| placement.replicas.len());
    let Some(assignments) = &asked.assignments else {
        let placed = cluster.topology().place(count, factor);
        return Ok(placed.into_iter().skip(known).collect());
    };
    if assignments.len() != added {
        let message = format!(
            "Attempted to add {added} additional partition(s), but only {} assignment(s) were \
             specified.",
            assignments.len()
        );
        return Err(refused(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    let checked = assignments
        .iter()
        .map(|brokers| assigned(cluster, brokers, factor));
    checked.collect()
}

/// `ReplicationControlManager.validateManualPartitionAssignment`.
fn assigned(cluster: &Cluster, brokers: &[i32], factor: usize) -> Result<Vec<BrokerId>, Refused> {
    const START: &str = "The manual partition assignment includes";
    let wrong = |what: String| {
        let message = format!("{START} {what}");
        refused(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message)
    };
    let mut sorted = brokers.to_vec();
    sorted.sort_unstable();
    if sorted.is_empty() {
        return Err(wrong("an empty replica list.".into()));
    }
    let known = |broker: &&i32| cluster.topology().has_broker(BrokerId(**broker));
    if let Some(unknown) = sorted.iter().find(|broker| !known(broker)) {
        return Err(wrong(format!(
            "broker {unknown}, but no such broker is registered."
        )));
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        let twice = pair.first().copied().unwrap_or_default();
        return Err(wrong(format!("the broker {twice} more than once.")));
    }
    if sorted.len() != factor {
        return Err(wrong(format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, \
             which have {factor} replica(s).",
            sorted.len()
        )));
    }
    Ok(brokers.iter().copied().map(BrokerId).collect())
}
