//! LeaveGroup (key 13), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 3 | several members, static ones by their instance (KIP-345) |
//! | 4 | flexible |
//! | 5 | a reason, which is not kept |
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupMetadataManager.java` classicGroupLeave.

use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;
use crate::wire::groups::GroupReply;
use crate::wire::reply::Reply;

/// Members leave.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    (group, members): (&str, &[(String, Option<String>)]),
    now: Instant,
) -> Answer {
    let checked = match context.injection.refusal() {
        Some(code) => Err(code),
        None => check(cluster, context, group),
    };
    let (error, told) = match checked {
        Err(code) => (code, Vec::new()),
        Ok(log) => {
            let leaving = members.iter();
            let leaving = leaving.map(|(id, instance)| (id.as_str(), instance.as_deref()));
            let leaving: Vec<_> = leaving.collect();
            let left = cluster.leave_group((log, group), &leaving, now).into_iter();
            let told = members.iter().zip(left).map(|((id, instance), left)| {
                let code = left.err().unwrap_or_default();
                (id.clone(), instance.clone(), code)
            });
            (ErrorCode::NONE, told.collect())
        }
    };
    let error = context.injection.overwriting().unwrap_or(error);
    Answer::Reply(Reply::Groups(GroupReply::LeaveGroup(error, told)))
}

fn check(cluster: &mut Cluster, context: &Context, group: &str) -> Result<PartitionKey, ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    cluster.check_group_coordinator(context.broker, group)
}
