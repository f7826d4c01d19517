//! Replies to frames. With `request.rs` the only file that knows the `kafka-protocol` crate.
//!
//! *Invariants*
//! 1. A reply is encoded in the version of its request, and a field that the version lacks is left
//!    out here, so that encoding cannot fail on what a handler decided.
//!
//! *Source* the response schemas of apache/kafka 4.3.1.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::request::RequestHeader;
use super::versions::{self, VersionRange};
use crate::api::Api;
use crate::error_code::ErrorCode;

/// The body of a reply, one variant for each API.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// See [`ApiVersions`].
    ApiVersions(ApiVersions),
}

/// ApiVersions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersions {
    /// The outcome.
    pub error: ErrorCode,
    /// Keys with their versions, ascending.
    pub apis: Vec<(i16, VersionRange)>,
    /// Features the broker could turn on; from v3.
    pub supported_features: Vec<(&'static str, VersionRange)>,
    /// Features that are on, with their level; from v3.
    pub finalized_features: Vec<(&'static str, i16)>,
    /// The epoch of the finalized features; -1 when unknown.
    pub finalized_features_epoch: i64,
}

/// A reply that cannot be written in the version of its request; a defect of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{api} version {version} reply does not encode: {reason}")]
pub struct Unencodable {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// What the encoder says.
    pub reason: String,
}

impl Reply {
    /// The frame to send, without the four bytes of size before it.
    ///
    /// # Errors
    ///
    /// When a value does not fit its field, such as a name of more than 32,767 bytes.
    pub fn encode(&self, request: &RequestHeader) -> Result<Bytes, Unencodable> {
        let (api, version) = (request.api, request.version);
        let served = versions::of(api);
        let flexible = served.is_some_and(|served| served.is_flexible(version));
        let mut frame = BytesMut::new();
        frame.put_i32(request.correlation_id);
        // ApiVersions answers with header version 0 always, so that an old client can read that
        // its version is unknown (KIP-511).
        if flexible && api != Api::ApiVersions {
            frame.put_u8(0);
        }
        let encoded = match self {
            Self::ApiVersions(body) => {
                // An unknown version is answered in the layout of version 0 (KIP-511).
                let known = served.is_some_and(|served| served.served.contains(version));
                let layout = if known { version } else { 0 };
                api_versions(body, layout).encode(&mut frame, layout)
            }
        };
        match encoded {
            Ok(()) => Ok(frame.freeze()),
            Err(error) => Err(Unencodable {
                api,
                version,
                reason: error.to_string(),
            }),
        }
    }
}

impl Reply {
    /// The code of every row, for the journal.
    #[must_use]
    pub fn codes(&self) -> Vec<RowCode> {
        match self {
            Self::ApiVersions(body) => vec![RowCode::of_request(body.error)],
        }
    }
}

/// The code of one row of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCode {
    /// The topic, where the row has one.
    pub topic: Option<Arc<str>>,
    /// The partition, where the row has one.
    pub partition: Option<i32>,
    /// The code.
    pub code: ErrorCode,
}

impl RowCode {
    /// The code of a reply as a whole.
    #[must_use]
    pub const fn of_request(code: ErrorCode) -> Self {
        Self {
            topic: None,
            partition: None,
            code,
        }
    }
}

fn api_versions(body: &ApiVersions, version: i16) -> kp::ApiVersionsResponse {
    use kp::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
    let mut encoded = kp::ApiVersionsResponse::default()
        .with_error_code(body.error.0)
        .with_api_keys(
            body.apis
                .iter()
                .map(|&(key, range)| {
                    ApiVersion::default()
                        .with_api_key(key)
                        .with_min_version(range.min)
                        .with_max_version(range.max)
                })
                .collect(),
        );
    if version >= 3 {
        encoded.supported_features = body
            .supported_features
            .iter()
            .map(|&(name, range)| {
                SupportedFeatureKey::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_min_version(range.min)
                    .with_max_version(range.max)
            })
            .collect();
        encoded.finalized_features_epoch = body.finalized_features_epoch;
        encoded.finalized_features = body
            .finalized_features
            .iter()
            .map(|&(name, level)| {
                FinalizedFeatureKey::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_max_version_level(level)
                    .with_min_version_level(level)
            })
            .collect();
    }
    encoded
}
