//! UpdateFeatures: what it asks and says, over the generated messages.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//!
//! *Source* the schema of apache/kafka 4.3.1; KIP-584.

use bytes::BytesMut;
use kafka_protocol::messages as kp;

use super::reply::{Encoded, put, text};
use super::request::CreateMode;
use crate::error_code::ErrorCode;

/// UpdateFeatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFeatures {
    /// What is to be updated.
    pub updates: Vec<UpdatedFeature>,
    /// Whether to do it, or only to check.
    pub mode: CreateMode,
}

/// A feature of [`UpdateFeatures`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatedFeature {
    /// Its name.
    pub feature: String,
    /// Its level to be.
    pub level: i16,
    /// 1 up, 2 down if it is safe, 3 down; version 0 knows only the first (observed).
    pub upgrade_type: i8,
}

/// The answer to UpdateFeatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatedFeatures {
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
    /// The features that were updated; until v1.
    pub features: Vec<String>,
}

pub(super) fn update(message: kp::UpdateFeaturesRequest, version: i16) -> UpdateFeatures {
    let updates = message.feature_updates.into_iter();
    let updates = updates.map(|update| UpdatedFeature {
        feature: update.feature.to_string(),
        level: update.max_version_level,
        upgrade_type: match version {
            0 => 1,
            _ => update.upgrade_type,
        },
    });
    UpdateFeatures {
        updates: updates.collect(),
        mode: if message.validate_only {
            CreateMode::ValidateOnly
        } else {
            CreateMode::Create
        },
    }
}

pub(super) fn encode(body: &UpdatedFeatures, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::update_features_response::UpdatableFeatureResult;
    let mut message = kp::UpdateFeaturesResponse::default()
        .with_error_code(body.error.0)
        .with_error_message(body.message.as_deref().map(text));
    if version < 2 {
        let results = body.features.iter().map(|feature| {
            UpdatableFeatureResult::default()
                .with_feature(text(feature))
                .with_error_message(Some(text("NONE")))
        });
        message.results = results.collect();
    }
    put(&message, version, frame)
}

/// A reply with every field filled, for tests of this and other files.
#[cfg(test)]
pub(super) fn everything(error: ErrorCode) -> UpdatedFeatures {
    UpdatedFeatures {
        error,
        message: Some("wrong".into()),
        features: vec!["a.version".into()],
    }
}
