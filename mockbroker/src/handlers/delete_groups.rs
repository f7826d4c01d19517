//! DeleteGroups (key 42), versions 0 to 2; 2 is flexible.
//!
//! *Invariants*
//! 1. A group that is named twice has one row (observed).
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleDeleteGroupsRequest,
//! `group-coordinator/…/group/GroupCoordinatorShard.java` deleteGroups; observed on 4.3.1.
//!
//! *Deviations* rows keep the order of the request; Kafka's is that of a hash over partitions.

use std::collections::BTreeSet;

use super::{Answer, Context};
use crate::engine::Cluster;
use crate::error_code::ErrorCode;
use crate::wire::groups::GroupReply;
use crate::wire::reply::Reply;

/// Deletes groups without members, each for itself.
pub fn handle(cluster: &mut Cluster, context: &Context, groups: &[String]) -> Answer {
    let mut told = BTreeSet::new();
    let distinct = groups.iter().filter(|group| told.insert(*group));
    let rows = distinct.map(|group| {
        let deleted = delete(cluster, context, group);
        let code = context.injection.overwriting().or(deleted.err());
        (group.clone(), code.unwrap_or_default())
    });
    Answer::Reply(Reply::Groups(GroupReply::DeleteGroups(rows.collect())))
}

fn delete(cluster: &mut Cluster, context: &Context, group: &str) -> Result<(), ErrorCode> {
    if let Some(code) = context.injection.refusal() {
        return Err(code);
    }
    cluster.check_group_coordinator(context.broker, group)?;
    cluster.delete_group(group)
}
