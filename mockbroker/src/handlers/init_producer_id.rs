//! InitProducerId (key 22), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 2 | flexible |
//! | 3 | the producer may name its id and epoch (KIP-360) |
//! | 4 | fencing is told with 90, before with 47 (KIP-588) |
//!
//! *State* of a request with a transactional id, in Kafka's order of decisions:
//!
//! ```text
//! id and epoch both or none (42) ─ id not empty (42) ─ time-out (50) ─ it coordinates (16)
//!   ─ no markers on their way (51) ─ the producer may be this one (90)
//!   ─ open: aborted (51) ─ else its epoch, one higher, or a new id when epochs are used up
//! ```
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleInitProducerIdRequest,
//! `core/…/coordinator/transaction/TransactionCoordinator.scala`; observed on 4.3.1.
//!
//! *Deviations* the first calls after a start are answered at once, where Kafka says 14 until its
//! block of ids is there; so does the mock where momentary answers are shown. A block of ids that
//! is used up is followed by the next at once.

use super::txn_codes::fencing_as_told;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::engine::txn_coordinator::{Identity, Init};
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, Reply};
use crate::wire::request::InitProducerId;

/// Gives out a fresh producer id, or the next epoch of a transactional id.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &InitProducerId,
    now: Instant,
) -> Answer {
    let given = match context.injection.refusal() {
        Some(code) => Err(code),
        None => identity(cluster, context, request, now),
    };
    let given = match context.injection.overwriting() {
        Some(code) => Err(code),
        None => given,
    };
    Answer::Reply(Reply::InitProducerId(match given {
        Ok(producer) => reply::InitProducerId {
            error: ErrorCode::NONE,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
        },
        Err(error) => reply::InitProducerId {
            error,
            producer_id: -1,
            producer_epoch: -1,
        },
    }))
}

fn identity(
    cluster: &mut Cluster,
    context: &Context,
    request: &InitProducerId,
    now: Instant,
) -> Result<Identity, ErrorCode> {
    // One of the two without the other says nothing; both are ignored without a transactional id.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_deref() {
        None if !cluster.has_ids(context.broker, now) => {
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        }
        None => Ok(Identity {
            id: cluster.next_producer_id(context.broker),
            epoch: 0,
        }),
        Some("") => Err(ErrorCode::INVALID_REQUEST),
        Some(_) if !is_timeout(cluster, request.timeout_ms) => {
            Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT)
        }
        Some(id) => {
            let expected = Identity {
                id: request.producer_id,
                epoch: request.producer_epoch,
            };
            let init = Init {
                timeout_ms: request.timeout_ms,
                expected: (expected.id != -1).then_some(expected),
            };
            let version = context.header.version;
            cluster
                .init_transactions(context.broker, id, &init, now)
                .map_err(|code| fencing_as_told(code, version >= 4))
        }
    }
}

fn is_timeout(cluster: &Cluster, timeout_ms: i32) -> bool {
    (1..=cluster.config().transactions.max_timeout_ms).contains(&timeout_ms)
}
