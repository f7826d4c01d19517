//! FindCoordinator (key 10), versions 0 to 6.
//!
//! | Version | |
//! |---|---|
//! | 1 | kinds of keys, a message |
//! | 3 | flexible |
//! | 4 | several keys (KIP-699) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleFindCoordinatorRequest; observed on
//! 4.3.1.
//!
//! *Deviations* a broker is named at once, Kafka answers 15 until its internal topic is made; so
//! does the mock for a moment where momentary answers are shown. Share groups (kind 2) are refused.

use super::{Answer, Context, endpoint};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, Coordinator, Reply};
use crate::wire::request::FindCoordinator;

/// Names a broker for each key.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &FindCoordinator,
    now: Instant,
) -> Answer {
    let kind = request.key_type;
    let there = !matches!(kind, 0 | 1) || cluster.has_coordinators(kind, now);
    let named = |cluster: &mut Cluster, key: &str| {
        let broker = match kind {
            0 => cluster.group_coordinator(key),
            1 => cluster.transaction_coordinator(key),
            _ => None,
        };
        let known = cluster.known_to(context.broker);
        broker.and_then(|broker| known.live_endpoint(broker).cloned())
    };
    let coordinators = request.keys.iter().map(|key| {
        let refused = |error, message: &str| Coordinator {
            key: key.clone(),
            error,
            message: Some(message.into()),
            endpoint: None,
        };
        if let Some(code) = context.injection.refusal() {
            return refused(code, "");
        }
        if !there {
            let message = match context.header.version {
                ..4 => "The coordinator is not available.",
                _ => "",
            };
            return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, message);
        }
        match (kind, named(cluster, key)) {
            (0 | 1, Some(broker)) => Coordinator {
                key: key.clone(),
                error: context.injection.overwriting().unwrap_or_default(),
                message: None,
                endpoint: Some(endpoint(&broker)),
            },
            (0 | 1, None) => refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, ""),
            (2, _) => refused(ErrorCode::INVALID_REQUEST, ""),
            _ => refused(ErrorCode::INVALID_REQUEST, UNKNOWN_KIND),
        }
    });
    let coordinators = coordinators.collect();
    Answer::Reply(Reply::FindCoordinator(reply::FindCoordinator {
        coordinators,
    }))
}

/// Kafka's text for a kind of key that it does not know (observed).
pub(super) const UNKNOWN_KIND: &str = "This most likely occurs because of a request being \
    malformed by the client library or the message was sent to an incompatible broker. See the \
    broker logs for more details.";
