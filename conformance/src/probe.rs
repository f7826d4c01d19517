//! The first question to a target: which APIs, and from that, which release it may be.
//!
//! Kafka does not tell its release over the wire. What a release offers grows, so the ranges in
//! ApiVersions give a lower bound; the words of the report say that it is no more than that.

use std::fmt;

use crate::case::Objection;
use crate::io::connection::Connection;
use crate::io::transcript::Transcript;
use crate::target::{Target, TransactionVersion, Unavailable};
use crate::wire::Request;
use crate::wire::answer::{ApiVersions, ApiVersionsAnswer};

/// What a target answered first.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The APIs that it offers.
    pub apis: ApiVersionsAnswer,
    /// The release that answered.
    pub version: BrokerVersion,
    /// The level of `transaction.version` that the cluster has settled on; 0 where none is told.
    pub transaction_version: i16,
}

/// The release that answered, as far as it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BrokerVersion {
    /// The target knows it, e.g. from the container's image.
    Told(String),
    /// This release or a later one, by the ranges offered.
    AtLeast {
        /// The release.
        release: &'static str,
        /// The API whose range says so.
        api: &'static str,
        /// Its highest version.
        max: i16,
    },
    /// Older than any release in the table.
    Unknown,
}

impl fmt::Display for BrokerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(version) => f.write_str(version),
            Self::AtLeast { release, api, max } => {
                write!(
                    f,
                    "a release like {release} or later, as {api} goes up to v{max}"
                )
            }
            Self::Unknown => f.write_str("a release older than 2.8, by its ranges"),
        }
    }
}

/// Asks `target` which APIs it offers.
///
/// # Errors
///
/// [`Unavailable`] when no broker of it answers.
///
/// # Cancellation
///
/// Safe.
pub async fn probe(target: &dyn Target) -> Result<Probe, Unavailable> {
    let (apis, transaction_version) = ask(target).await.map_err(|objection| {
        let reason = format!("{}: {}", objection.step, objection.observed);
        Unavailable::new(
            reason,
            "start a broker at that address, or use --target docker",
        )
    })?;
    if target.transactions() == TransactionVersion::One && transaction_version != 1 {
        let reason = format!("it has level {transaction_version} of transaction.version, not 1");
        return Err(Unavailable::new(reason, "make kafka-image"));
    }
    let version = match target.broker_version() {
        Some(version) => BrokerVersion::Told(version),
        None => release_by_ranges(&apis),
    };
    Ok(Probe {
        apis,
        version,
        transaction_version,
    })
}

async fn ask(target: &dyn Target) -> Result<(ApiVersionsAnswer, i16), Objection> {
    let mut last = Objection::new("connect", "an address", "the target names none");
    for address in target.bootstrap() {
        let asked = async {
            let mut connection = Connection::open(&address, &Transcript::default()).await?;
            // Version 0 is the one that every broker must answer.
            let apis = connection.ask(&ApiVersions, 0).await?;
            let level = level(&mut connection, &apis).await;
            level.map(|level| (apis, level))
        };
        match asked.await {
            Ok(told) => return Ok(told),
            Err(objection) => last = objection.within(&address),
        }
    }
    Err(last)
}

/// The level of `transaction.version`, told from version 3 of ApiVersions on (KIP-584).
async fn level(connection: &mut Connection, apis: &ApiVersionsAnswer) -> Result<i16, Objection> {
    const TOLD_FROM: i16 = 3;
    let range = apis.range(ApiVersions::API_KEY);
    let max = range.map_or(0, |range| range.max.min(ApiVersions::VERSION_MAX));
    if max < TOLD_FROM {
        return Ok(0);
    }
    let told = connection.ask(&ApiVersions, max).await?;
    let features = told.finalized.map(|finalized| finalized.features);
    let mut features = features.unwrap_or_default().into_iter();
    let level = features.find(|(name, _)| name == "transaction.version");
    Ok(level.map_or(0, |(_, level)| level))
}

/// The newest release whose mark `apis` shows.
fn release_by_ranges(apis: &ApiVersionsAnswer) -> BrokerVersion {
    for &(release, api, api_key, max) in RELEASES {
        if apis.range(api_key).is_some_and(|range| range.max >= max) {
            return BrokerVersion::AtLeast { release, api, max };
        }
    }
    BrokerVersion::Unknown
}

/// Newest first: a release, and the range by which it differs from the one before it.
const RELEASES: &[(&str, &str, i16, i16)] = &[
    ("4.2", "ListOffsets", 2, 11),
    ("4.1", "Produce", 0, 13),
    ("4.0", "Produce", 0, 12),
    ("3.9", "Fetch", 1, 17),
    ("3.8", "Produce", 0, 11),
    ("3.7", "Produce", 0, 10),
    ("3.5", "Fetch", 1, 15),
    ("3.1", "Fetch", 1, 13),
    ("2.8", "Produce", 0, 9),
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::wire::answer::ApiRange;
    use crate::wire::error_code::ErrorCode;

    #[rstest]
    #[case(
        13,
        18,
        11,
        "a release like 4.2 or later, as ListOffsets goes up to v11"
    )]
    #[case(13, 18, 10, "a release like 4.1 or later, as Produce goes up to v13")]
    #[case(11, 17, 9, "a release like 3.9 or later, as Fetch goes up to v17")]
    #[case(9, 12, 6, "a release like 2.8 or later, as Produce goes up to v9")]
    #[case(7, 10, 4, "a release older than 2.8, by its ranges")]
    fn release_follows_from_the_ranges(
        #[case] produce: i16,
        #[case] fetch: i16,
        #[case] list_offsets: i16,
        #[case] words: &str,
    ) {
        let range = |api_key, max| ApiRange {
            api_key,
            min: 0,
            max,
        };
        let apis = vec![range(0, produce), range(1, fetch), range(2, list_offsets)];
        let answer = ApiVersionsAnswer {
            error: ErrorCode::NONE,
            apis,
            finalized: None,
        };
        assert_eq!(release_by_ranges(&answer).to_string(), words);
    }
}
