//! EndTxn (key 26), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 2 | fencing is told with 90, before with 47 |
//! | 3 | flexible |
//! | 4 | 120 may be answered (KIP-890) |
//! | 5 | each transaction has an epoch of its own; the answer tells the next |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleEndTxnRequest; observed on 4.3.1.
//!
//! *Deviations* markers are there when the answer leaves, unless something holds them up.

use super::txn_codes::fencing_as_told;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::open_transactions::Ending;
use crate::engine::producer_state::EpochBump;
use crate::engine::time::Instant;
use crate::engine::txn_coordinator::{End, Identity};
use crate::error_code::ErrorCode;
use crate::wire::reply::Reply;
use crate::wire::transactions::{Decision, EndTxn, Ended, TxnReply};

/// Ends a transaction.
pub fn handle(cluster: &mut Cluster, context: &Context, request: &EndTxn, now: Instant) -> Answer {
    let ended = match context.injection.refusal() {
        Some(code) => Err(code),
        None => end(cluster, context, request, now),
    };
    let ended = match (ended, context.injection.overwriting()) {
        (_, Some(code)) | (Err(code), None) => Ended {
            error: code,
            producer_id: -1,
            producer_epoch: -1,
        },
        (Ok(producer), None) => Ended {
            error: ErrorCode::NONE,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
        },
    };
    Answer::Reply(Reply::Txn(TxnReply::EndTxn(ended)))
}

fn end(
    cluster: &mut Cluster,
    context: &Context,
    request: &EndTxn,
    now: Instant,
) -> Result<Identity, ErrorCode> {
    if request.id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let version = context.header.version;
    let end = End {
        producer: Identity {
            id: request.producer_id,
            epoch: request.producer_epoch,
        },
        ending: match request.decision {
            Decision::Commit => Ending::Commit,
            Decision::Abort => Ending::Abort,
        },
        bump: match version {
            ..5 => EpochBump::Never,
            _ => EpochBump::EachTransaction,
        },
    };
    cluster
        .end_transaction(context.broker, &request.id, &end, now)
        .map_err(|code| fencing_as_told(code, version >= 2))
}
