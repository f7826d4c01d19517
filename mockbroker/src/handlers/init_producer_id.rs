//! InitProducerId (key 22), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 2 | flexible |
//! | 3 | the producer may name its id and epoch (KIP-360) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleInitProducerIdRequest,
//! `core/…/coordinator/transaction/TransactionCoordinator.scala`; observed on 4.3.1.
//!
//! *Deviations* no transactions yet: a transactional id is refused with 35, which every client
//! takes as final, and noted. The first calls after a start are answered at once, where Kafka says
//! 14 until its block of ids is there; so does the mock where momentary answers are shown.

use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, Reply};
use crate::wire::request::InitProducerId;

/// Gives out a fresh producer id.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &InitProducerId,
    now: Instant,
) -> Answer {
    let error = context
        .injection
        .refusal()
        .or_else(|| refusal(cluster, request))
        .or_else(|| {
            let there = cluster.has_ids(context.broker, now);
            (!there).then_some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        });
    let mut reply = match error {
        Some(error) => reply::InitProducerId {
            error,
            producer_id: -1,
            producer_epoch: -1,
        },
        None => reply::InitProducerId {
            error: ErrorCode::NONE,
            producer_id: cluster.next_producer_id(context.broker),
            producer_epoch: 0,
        },
    };
    if let Some(error) = context.injection.overwriting() {
        reply = reply::InitProducerId {
            error,
            producer_id: -1,
            producer_epoch: -1,
        };
    }
    Answer::Reply(Reply::InitProducerId(reply))
}

fn refusal(cluster: &mut Cluster, request: &InitProducerId) -> Option<ErrorCode> {
    // One of the two without the other says nothing; both are ignored without a transactional id.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Some(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_deref() {
        None => None,
        Some("") => Some(ErrorCode::INVALID_REQUEST),
        Some(id) => {
            cluster.note(format!(
                "transactions are not modelled: transactional id {id} is refused"
            ));
            Some(ErrorCode::UNSUPPORTED_VERSION)
        }
    }
}
