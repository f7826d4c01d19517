//! OffsetCommit (key 8), versions 2 to 10.
//!
//! | Version | |
//! |---|---|
//! | 2 to 4 | a retention time, which is not modelled |
//! | 6 | the leader epoch of the record before |
//! | 7 | static members |
//! | 8 | flexible |
//! | 9 | a group that is unknown is told with 69, before with 22 |
//! | 10 | topics by id |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleOffsetCommitRequest,
//! `group-coordinator/…/group/OffsetMetadataManager.java` commitOffset.

use super::offset_rows::{Rows, claim, committed};
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::groups::CommitKind;
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;
use crate::wire::offsets::{OffsetCommit, OffsetReply};
use crate::wire::reply::Reply;

/// Commits offsets for a group.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &OffsetCommit,
    now: Instant,
) -> Answer {
    let told = committed(cluster, context, &request.topics, |cluster, rows| {
        commit(cluster, context, (request, rows), now)
    });
    Answer::Reply(Reply::Offsets(OffsetReply::OffsetCommit(told)))
}

fn commit(
    cluster: &mut Cluster,
    context: &Context,
    (request, rows): (&OffsetCommit, &Rows<'_>),
    now: Instant,
) -> Result<(), ErrorCode> {
    let group = &request.group;
    let log = cluster.check_group_coordinator(context.broker, group)?;
    let by = claim(&request.by);
    let checked = cluster.groups().check_commit(group, &by, CommitKind::Plain);
    checked.map_err(|code| match code {
        ErrorCode::GROUP_ID_NOT_FOUND if context.header.version < 9 => {
            ErrorCode::ILLEGAL_GENERATION
        }
        code => code,
    })?;
    cluster.on_member_commits(log, group, &request.by.member, now);
    cluster.commit_offsets(group, rows.commits())
}
