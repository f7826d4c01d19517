//! Heartbeat (key 12), versions 0 to 4.
//!
//! | Version | |
//! |---|---|
//! | 3 | static members (KIP-345) |
//! | 4 | flexible |
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupMetadataManager.java`
//! classicGroupHeartbeat.

use super::offset_rows::claim;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;
use crate::wire::groups::GroupReply;
use crate::wire::offsets::Membership;
use crate::wire::reply::Reply;

/// A member shows that it lives.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    (group, by): (&str, &Membership),
    now: Instant,
) -> Answer {
    let heard = match context.injection.refusal() {
        Some(code) => Err(code),
        None => hear(cluster, context, (group, by), now),
    };
    let code = context.injection.overwriting().or(heard.err());
    let reply = GroupReply::Heartbeat(code.unwrap_or_default());
    Answer::Reply(Reply::Groups(reply))
}

fn hear(
    cluster: &mut Cluster,
    context: &Context,
    (group, by): (&str, &Membership),
    now: Instant,
) -> Result<(), ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let log = cluster.check_group_coordinator(context.broker, group)?;
    cluster.heartbeat((log, group), &claim(by), now)
}
