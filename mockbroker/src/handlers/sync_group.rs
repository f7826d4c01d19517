//! SyncGroup (key 14), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 3 | static members (KIP-345) |
//! | 4 | flexible |
//! | 5 | type and name of the protocol, in request and answer (KIP-559) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleSyncGroupRequest,
//! `group-coordinator/…/group/GroupMetadataManager.java` classicGroupSync.

use bytes::Bytes;

use super::group_wait::{self, Pending, Question};
use super::offset_rows::claim;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::group::{Synced, Syncing};
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;
use crate::wire::groups::{self, GroupReply, SyncGroup};
use crate::wire::reply::Reply;

/// Tells a member what is its own.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &SyncGroup,
    now: Instant,
) -> Answer {
    let asked = match context.injection.refusal() {
        Some(code) => Err(code),
        None => ask(cluster, context, request, now),
    };
    match asked {
        Err(code) => told(context, Err(code)),
        Ok(pending) => group_wait::wait(cluster, context, pending, now),
    }
}

fn ask(
    cluster: &mut Cluster,
    context: &Context,
    request: &SyncGroup,
    now: Instant,
) -> Result<Pending, ErrorCode> {
    let named = request.protocol_type.is_some() && request.protocol.is_some();
    if context.header.version >= 5 && !named {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    if request.group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let log = cluster.check_group_coordinator(context.broker, &request.group)?;
    let ticket = cluster.next_ticket();
    let syncing = Syncing {
        protocol_type: request.protocol_type.clone(),
        protocol: request.protocol.clone(),
        assignments: request.assignments.iter().cloned().collect(),
        ticket,
    };
    let group = (log, request.group.as_str());
    cluster.sync_group(group, &claim(&request.by), syncing, now)?;
    Ok(Pending {
        ticket,
        log,
        question: Question::Sync,
    })
}

/// The answer, as a rule leaves it.
pub(super) fn told(context: &Context, synced: Result<Synced, ErrorCode>) -> Answer {
    let synced = match context.injection.overwriting() {
        Some(code) => Err(code),
        None => synced,
    };
    let body = match synced {
        Ok(synced) => groups::Synced {
            error: ErrorCode::NONE,
            protocol_type: synced.protocol_type,
            protocol: synced.protocol,
            assignment: synced.assignment,
        },
        Err(error) => groups::Synced {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        },
    };
    Answer::Reply(Reply::Groups(GroupReply::SyncGroup(body)))
}
