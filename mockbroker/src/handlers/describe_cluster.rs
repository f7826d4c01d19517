//! DescribeCluster (key 60), versions 0 to 2.
//!
//! | Version | |
//! |---|---|
//! | 1 | what kind of listener the client means to ask (KIP-919) |
//! | 2 | brokers that do not run, if asked for (KIP-1073) |
//!
//! *Source* apache/kafka `core/…/server/{KafkaApis,AuthHelper}.scala`
//! computeDescribeClusterResponse.
//!
//! *Deviations* the controller is the first broker that runs, Kafka's a random one.

use std::sync::Arc;

use super::metadata::{CLUSTER_OPERATIONS, live_brokers};
use super::{Context, endpoint};
use crate::engine::Cluster;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{self, AdminReply, Fencing};
use crate::wire::admin_request::{DescribeCluster, FencedBrokers};
use crate::wire::request::Operations;

/// Answers with the brokers.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &DescribeCluster) -> AdminReply {
    let injection = &context.injection;
    AdminReply::DescribeCluster(match check(context, request.endpoint_type) {
        Err((error, message)) => refused(error, message),
        Ok(()) => admin_reply::DescribeCluster {
            error: injection.overwriting().unwrap_or_default(),
            ..described(cluster, context, request)
        },
    })
}

fn check(context: &Context, endpoint_type: i8) -> Result<(), (ErrorCode, Option<String>)> {
    if let Some(code) = context.injection.refusal() {
        return Err((code, None));
    }
    match endpoint_type {
        _ if context.header.version == 0 => Ok(()),
        BROKER => Ok(()),
        CONTROLLER => {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an \
                           endpoint of type CONTROLLER";
            Err((ErrorCode::MISMATCHED_ENDPOINT_TYPE, Some(message.into())))
        }
        unknown => {
            let message = format!("Unsupported endpoint type {unknown}");
            Err((ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, Some(message)))
        }
    }
}

fn described(
    cluster: &Cluster,
    context: &Context,
    request: &DescribeCluster,
) -> admin_reply::DescribeCluster {
    let known = cluster.known_to(context.broker);
    let brokers = known.brokers().map(|broker| {
        let fencing = if known.is_alive(broker.endpoint.id) {
            Fencing::Active
        } else {
            Fencing::Fenced
        };
        (endpoint(&broker.endpoint), fencing)
    });
    let shown = brokers.filter(|(_, fencing)| {
        request.fenced == FencedBrokers::Asked || *fencing == Fencing::Active
    });
    admin_reply::DescribeCluster {
        error: ErrorCode::NONE,
        message: None,
        endpoint_type: BROKER,
        cluster_id: Arc::clone(cluster.cluster_id()),
        controller_id: live_brokers(known).first().map_or(-1, |broker| broker.id),
        brokers: shown.collect(),
        operations: match request.operations {
            Operations::Asked => CLUSTER_OPERATIONS,
            Operations::NotAsked => i32::MIN,
        },
    }
}

fn refused(error: ErrorCode, message: Option<String>) -> admin_reply::DescribeCluster {
    admin_reply::DescribeCluster {
        error,
        message,
        endpoint_type: BROKER,
        cluster_id: "".into(),
        controller_id: -1,
        brokers: Vec::new(),
        operations: i32::MIN,
    }
}

/// `EndpointType.BROKER`.
const BROKER: i8 = 1;

/// `EndpointType.CONTROLLER`.
const CONTROLLER: i8 = 2;
