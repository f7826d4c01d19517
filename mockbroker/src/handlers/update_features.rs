//! UpdateFeatures (key 57), versions 0 to 2 (KIP-584).
//!
//! | Version | |
//! |---|---|
//! | 0 | a level can only go up, whatever is allowed (observed) |
//! | 1 | which way it may go; checking only |
//! | 2 | no row for each feature |
//!
//! *Invariants*
//! 1. All of a request is done, or nothing; the first that is refused names the reason.
//!
//! *Source* apache/kafka `metadata/…/controller/FeatureControlManager.java`; observed on 4.3.1.

use super::Context;
use crate::engine::Cluster;
use crate::engine::features::{FeatureUpdate, Upgrade};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::AdminReply;
use crate::wire::features::{UpdateFeatures, UpdatedFeature, UpdatedFeatures};
use crate::wire::request::CreateMode;

/// Updates the levels of features.
#[must_use]
pub fn handle(cluster: &mut Cluster, context: &Context, request: &UpdateFeatures) -> AdminReply {
    let updates: Vec<FeatureUpdate> = request.updates.iter().map(update).collect();
    let outcome = match context.injection.refusal() {
        Some(code) => Err((code, None)),
        None => cluster.check_features(&updates).map_err(|reason| {
            let text = format!(
                "The update failed for all features since the following feature had an error: \
                 {reason}"
            );
            (ErrorCode::INVALID_UPDATE_VERSION, Some(text))
        }),
    };
    if outcome.is_ok() && request.mode == CreateMode::Create {
        cluster.set_features(&updates);
    }
    let (error, message) = outcome.clone().err().unwrap_or_default();
    let features = updates.into_iter().map(|update| update.feature);
    AdminReply::UpdateFeatures(UpdatedFeatures {
        error: context.injection.overwriting().unwrap_or(error),
        message,
        features: match outcome {
            Ok(()) => features.collect(),
            Err(_) => Vec::new(),
        },
    })
}

fn update(asked: &UpdatedFeature) -> FeatureUpdate {
    FeatureUpdate {
        feature: asked.feature.clone(),
        level: asked.level,
        upgrade: match asked.upgrade_type {
            1 => Upgrade::Upgrade,
            2 => Upgrade::SafeDowngrade,
            3 => Upgrade::UnsafeDowngrade,
            _ => Upgrade::Unknown,
        },
    }
}
