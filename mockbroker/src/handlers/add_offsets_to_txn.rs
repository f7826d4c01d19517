//! AddOffsetsToTxn (key 25), versions 0 to 4.
//!
//! | Version | |
//! |---|---|
//! | 2 | fencing is told with 90, before with 47 |
//! | 3 | flexible |
//! | 4 | 120 may be answered (KIP-890) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleAddOffsetsToTxnRequest; observed on
//! 4.3.1.

use super::txn_codes::fencing_as_told;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::engine::txn_coordinator::Identity;
use crate::error_code::ErrorCode;
use crate::wire::offsets::{AddOffsetsToTxn, OffsetReply};
use crate::wire::reply::Reply;

/// Lets the offsets of a group join a transaction.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &AddOffsetsToTxn,
    now: Instant,
) -> Answer {
    let added = match context.injection.refusal() {
        Some(code) => Err(code),
        None => add(cluster, context, request, now),
    };
    let code = context.injection.overwriting().or(added.err());
    let reply = OffsetReply::AddOffsetsToTxn(code.unwrap_or_default());
    Answer::Reply(Reply::Offsets(reply))
}

fn add(
    cluster: &mut Cluster,
    context: &Context,
    request: &AddOffsetsToTxn,
    now: Instant,
) -> Result<(), ErrorCode> {
    if request.id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    cluster.check_coordinator(context.broker, &request.id, now)?;
    let producer = Identity {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let named = (request.id.as_str(), producer);
    let added = cluster.add_offsets_to_transaction(named, &request.group, now);
    added.map_err(|code| fencing_as_told(code, context.header.version >= 2))
}
