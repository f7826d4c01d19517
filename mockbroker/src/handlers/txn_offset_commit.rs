//! TxnOffsetCommit (key 28), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 2 | the leader epoch of the record before |
//! | 3 | flexible; the member whose offsets they are (KIP-447) |
//! | 4 | offsets that have not joined the transaction are told with 120, before with 48 |
//! | 5 | they join now (KIP-890) |
//!
//! *State* of the request:
//!
//! ```text
//!          unknown: 3     no group: 24   not the coordinator: 16   the transaction's coordinator
//! asked ─▶ no good row? ─▶ named? ──────▶ asked here? ───────────▶ knows of it? 47 48 49 51 120
//!                                                                   │ yes
//!                          pending ◀── too much metadata? 12 ◀── the member? 22 25 82
//! ```
//!
//! *Invariants*
//! 1. What is pending is part of a transaction, so that its marker comes.
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleTxnOffsetCommitRequest,
//! `group-coordinator/…/group/{GroupCoordinatorService,OffsetMetadataManager}.java`; codes observed
//! on 4.3.1.

use super::offset_rows::{Rows, claim, committed};
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::groups::{CommitKind, OffsetsJoin};
use crate::engine::time::Instant;
use crate::engine::txn_coordinator::Identity;
use crate::error_code::ErrorCode;
use crate::wire::offsets::{OffsetReply, TxnOffsetCommit};
use crate::wire::reply::Reply;

/// Commits offsets for a group as a part of a transaction.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &TxnOffsetCommit,
    now: Instant,
) -> Answer {
    let told = committed(cluster, context, &request.topics, |cluster, rows| {
        commit(cluster, context, (request, rows), now)
    });
    Answer::Reply(Reply::Offsets(OffsetReply::TxnOffsetCommit(told)))
}

fn commit(
    cluster: &mut Cluster,
    context: &Context,
    (request, rows): (&TxnOffsetCommit, &Rows<'_>),
    now: Instant,
) -> Result<(), ErrorCode> {
    let version = context.header.version;
    let group = &request.group;
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let log = cluster.check_group_coordinator(context.broker, group)?;
    let producer = Identity {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let joins = match version {
        ..5 => OffsetsJoin::Before,
        _ => OffsetsJoin::Now,
    };
    cluster
        .verify_offsets((&request.id, producer), log, joins, now)
        .map_err(|code| as_told(code, version))?;
    let by = claim(&request.by);
    let kind = CommitKind::Transactional;
    let checked = cluster.groups().check_commit(group, &by, kind);
    checked.map_err(|code| match code {
        ErrorCode::GROUP_ID_NOT_FOUND => ErrorCode::ILLEGAL_GENERATION,
        code => code,
    })?;
    cluster.commit_pending_offsets(group, (log, producer), rows.commits())
}

/// What the coordinator of the transaction said, as the version of the request knows it.
const fn as_told(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if version < 4 => ErrorCode::INVALID_TXN_STATE,
        ErrorCode::CONCURRENT_TRANSACTIONS if version >= 5 => code,
        // Asked again by clients that know nothing of it.
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::NOT_COORDINATOR => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        code => code,
    }
}
