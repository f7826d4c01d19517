//! ApiVersions (key 18), versions 0 to 4.
//!
//! | Version | |
//! |---|---|
//! | 0 | keys and versions |
//! | 1 | throttle time |
//! | 3 | flexible, client software name and version, features (KIP-511, KIP-584) |
//! | 4 | features whose minimum is 0 are listed (KIP-1022 follow-up, KAFKA-17011) |
//! | other | code 35 in the layout of version 0 with one entry: ApiVersions itself (KIP-511) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleApiVersionsRequest,
//! `clients/…/requests/ApiVersionsRequest.java` isValid; observed on 4.3.1.
//!
//! *Deviations* only the APIs that are served here are listed; the features are those of 4.3.1,
//! whether or not the mock models them (`engine/features.rs`).

use super::{Answer, Context};
use crate::api::Api;
use crate::engine::Cluster;
use crate::engine::api_limits::ApiLimits;
use crate::engine::effect::BrokerId;
use crate::error_code::ErrorCode;
use crate::wire::refusal::Refusal;
use crate::wire::reply::{self, Reply};
use crate::wire::request::{ApiVersions, Request};
use crate::wire::versions::{SERVED, Served, VersionRange};

/// Answers with what is served.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &ApiVersions) -> Answer {
    let version = context.header.version;
    let advertised = |served: &Served| cluster.api_limits().advertised(context.broker, served);
    let this = cluster
        .api_limits()
        .allow(context.broker, Api::ApiVersions, version);
    let refused = |error| refused(error, advertised);
    Answer::Reply(Reply::ApiVersions(match request {
        ApiVersions::Unknown => refused(ErrorCode::UNSUPPORTED_VERSION),
        ApiVersions::Known { .. } if !this => refused(ErrorCode::UNSUPPORTED_VERSION),
        ApiVersions::Known { .. } if context.injection.refusal().is_some() => {
            refused(context.injection.refusal().unwrap_or_default())
        }
        ApiVersions::Known {
            software: Some((name, software_version)),
        } if !is_word(name) || !is_word(software_version) => refused(ErrorCode::INVALID_REQUEST),
        ApiVersions::Known { .. } => reply::ApiVersions {
            error: context.injection.overwriting().unwrap_or_default(),
            apis: SERVED
                .iter()
                .map(|served| (served.api.key(), advertised(served)))
                .collect(),
            supported_features: supported_features(version),
            finalized_features: cluster.finalized_features().collect(),
            finalized_features_epoch: cluster.features_epoch(),
        },
    }))
}

/// The request, if its broker offers its version.
///
/// # Errors
///
/// A version that a move has taken from the broker. ApiVersions is never refused here: it answers
/// a version that it does not know (KIP-511).
pub fn offered(limits: &ApiLimits, broker: BrokerId, request: Request) -> Result<Request, Refusal> {
    let (api, version) = (request.header.api, request.header.version);
    if limits.allow(broker, api, version) || api == Api::ApiVersions {
        Ok(request)
    } else {
        Err(Refusal::UnsupportedVersion { api, version })
    }
}

/// An unknown version is told which versions of ApiVersions there are; other refusals name none.
fn refused(error: ErrorCode, advertised: impl Fn(&Served) -> VersionRange) -> reply::ApiVersions {
    let this = SERVED
        .iter()
        .filter(|served| error == ErrorCode::UNSUPPORTED_VERSION && served.api == Api::ApiVersions);
    reply::ApiVersions {
        error,
        apis: this
            .map(|served| (served.api.key(), advertised(served)))
            .collect(),
        supported_features: Vec::new(),
        finalized_features: Vec::new(),
        finalized_features_epoch: -1,
    }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`: ApiVersionsRequest.isValid, KIP-511.
fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// Version 3 omits features whose minimum is 0: older clients refuse them (observed).
fn supported_features(version: i16) -> Vec<(&'static str, VersionRange)> {
    let shown = |feature: &(&str, VersionRange)| version > 3 || feature.1.min > 0;
    Cluster::supported_features().filter(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("librdkafka", true)]
    #[case("a.b-c", true)]
    #[case("1.0-x", true)]
    #[case("x", true)]
    #[case("", false)]
    #[case("a b", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("a_b", false)]
    #[case(".", false)]
    #[case("ä", false)]
    #[case("1.", false)]
    fn software_names_follow_kafkas_pattern(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(is_word(name), valid);
    }

    #[test]
    fn version_3_omits_features_with_minimum_0() {
        assert_eq!(
            supported_features(3),
            [("metadata.version", VersionRange::new(7, 30))]
        );
        assert_eq!(supported_features(4).len(), 7);
    }
}
