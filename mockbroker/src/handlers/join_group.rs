//! JoinGroup (key 11), versions 0 to 9.
//!
//! | Version | |
//! |---|---|
//! | 1 | a time-out for joining again |
//! | 4 | who has no id gets one with 79, and comes again with it (KIP-394) |
//! | 5 | static members (KIP-345) |
//! | 6 | flexible |
//! | 7 | the answer tells the type of protocols |
//! | 9 | a static leader that comes back need not assign again (KIP-814) |
//!
//! *State* of the request:
//!
//! ```text
//!       no group: 24   session: 26   not the coordinator: 16   the group: 23 25 79 81 82
//! asked ─────────────────────────────────────────────────────▶ joins ─▶ waits ─▶ all have joined
//! ```
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleJoinGroupRequest,
//! `group-coordinator/…/group/GroupCoordinatorService.java` joinGroup.
//!
//! *Deviations* a member that names more than [`PROTOCOLS_MAX`] protocols is refused with 42.

use core::time::Duration;

use super::group_wait::{self, Pending, Question};
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::group::{Joined, Joining, Refused};
use crate::engine::memberships::PROTOCOLS_MAX;
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;
use crate::wire::groups::{self, GroupReply, JoinGroup};
use crate::wire::reply::Reply;

/// Lets a member join.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &JoinGroup,
    now: Instant,
) -> Answer {
    let checked = match context.injection.refusal() {
        Some(code) => Err(code),
        None => check(cluster, context, request),
    };
    let log = match checked {
        Ok(log) => log,
        Err(code) => return told(context, Joined::refused(code, request.member.clone())),
    };
    let ticket = cluster.next_ticket();
    let joining = joining(cluster, context, request, ticket);
    match cluster.join_group(log, &request.group, joining, now) {
        Err(Refused { code, member }) => told(context, Joined::refused(code, member)),
        Ok(()) => {
            let pending = Pending {
                ticket,
                log,
                question: Question::Join {
                    member: request.member.clone(),
                },
            };
            group_wait::wait(cluster, context, pending, now)
        }
    }
}

fn check(
    cluster: &mut Cluster,
    context: &Context,
    request: &JoinGroup,
) -> Result<PartitionKey, ErrorCode> {
    if request.group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let config = &cluster.config().groups;
    let allowed = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if !allowed.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    let named = request.protocols.len();
    if named > PROTOCOLS_MAX {
        cluster.note(format!(
            "a member is refused: it names {named} protocols, {PROTOCOLS_MAX} may be"
        ));
        return Err(ErrorCode::INVALID_REQUEST);
    }
    cluster.check_group_coordinator(context.broker, &request.group)
}

fn joining(cluster: &mut Cluster, context: &Context, request: &JoinGroup, ticket: u64) -> Joining {
    let version = context.header.version;
    let client = context.header.client_id.clone().unwrap_or_default();
    let named = request.instance.as_deref().unwrap_or(&client);
    let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    Joining {
        id: request.member.clone(),
        fresh: format!("{named}-{}", cluster.random_id()),
        instance: request.instance.clone(),
        session: millis(request.session_timeout_ms),
        rebalance: millis(request.rebalance_timeout_ms),
        protocol_type: request.protocol_type.clone(),
        protocols: request.protocols.clone(),
        knows_ids: version >= 4,
        knows_skipping: version >= 9,
        ticket,
        client,
    }
}

/// The answer, as a rule leaves it.
pub(super) fn told(context: &Context, mut joined: Joined) -> Answer {
    if let Some(code) = context.injection.overwriting() {
        joined = Joined::refused(code, joined.member);
    }
    Answer::Reply(Reply::Groups(GroupReply::JoinGroup(groups::Joined {
        error: joined.error,
        generation: joined.generation,
        protocol_type: joined.protocol_type,
        protocol: joined.protocol,
        leader: joined.leader,
        skip: joined.skip,
        member: joined.member,
        members: joined.members,
    })))
}
