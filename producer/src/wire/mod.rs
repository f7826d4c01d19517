//! Bytes to values and back, pure; and the one table of APIs and versions this producer speaks.
//!
//! | File | Holds |
//! |---|---|
//! | `primitives` | varints, the bounded reader |
//! | `frame` | request and response headers |
//! | `record_batch` | the v2 record batch, written in place |
//! | `batch_split` | a batch cut in two |
//! | `compression` | the codecs of a batch's records |
//! | `produce_request`, `produce_response` | Produce, written and read by hand: the record path |
//! | `message` | the other questions' answers, as our own values |
//! | `control` | the other questions, through `kafka_protocol` |
//! | `shape` | the check that comes before `kafka_protocol` reads a frame |
//!
//! *Invariants*
//! 1. Nothing else decides a version: the highest that both sides have, or none.
//!
//! *Source*: KIP-35 (ApiVersions), KIP-482 (flexible versions), KIP-511 (ApiVersions headers).

pub mod batch_buffer;
pub(crate) mod batch_split;
pub mod compression;
pub mod control;
pub mod error;
pub mod frame;
#[cfg(test)]
mod golden;
pub mod message;
pub mod primitives;
pub mod produce_request;
pub mod produce_response;
#[cfg(test)]
pub(crate) mod read_back;
pub mod record_batch;
mod shape;

use crate::types::TopicId;
use crate::wire::message::ApiRange;
use crate::wire::primitives::Encoding;

/// The APIs of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// Append batches.
    Produce,
    /// Brokers, topics, leaders.
    Metadata,
    /// What a broker speaks.
    ApiVersions,
    /// A producer id for idempotence.
    InitProducerId,
}

impl Api {
    /// The API's key on the wire.
    #[must_use]
    pub fn key(self) -> i16 {
        self.row().key
    }

    /// The lowest and the highest version this producer speaks.
    #[must_use]
    pub fn versions(self) -> (i16, i16) {
        (self.row().min, self.row().max)
    }

    /// The encoding of a body of this version.
    #[must_use]
    pub fn encoding(self, version: i16) -> Encoding {
        if version >= self.row().flexible_from {
            Encoding::Flexible
        } else {
            Encoding::Classic
        }
    }

    /// The encoding of a response's header. ApiVersions answers without tagged fields whatever its
    /// version, so that a client may ask before it knows what the broker speaks (KIP-511).
    #[must_use]
    pub fn response_header_encoding(self, version: i16) -> Encoding {
        match self {
            Self::ApiVersions => Encoding::Classic,
            Self::Produce | Self::Metadata | Self::InitProducerId => self.encoding(version),
        }
    }

    fn row(self) -> Row {
        match self {
            Self::Produce => Row {
                key: 0,
                min: 3,
                max: 13,
                flexible_from: 9,
            },
            // From v4 on a client may say whether topics are created.
            Self::Metadata => Row {
                key: 3,
                min: 4,
                max: 13,
                flexible_from: 9,
            },
            Self::ApiVersions => Row {
                key: 18,
                min: 0,
                max: 4,
                flexible_from: 3,
            },
            Self::InitProducerId => Row {
                key: 22,
                min: 0,
                max: 5,
                flexible_from: 2,
            },
        }
    }
}

struct Row {
    key: i16,
    min: i16,
    max: i16,
    flexible_from: i16,
}

/// The version to use for each API on one connection; `None` where the two sides share none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Produce.
    pub produce: Option<i16>,
    /// Metadata.
    pub metadata: Option<i16>,
    /// InitProducerId.
    pub init_producer_id: Option<i16>,
}

impl Versions {
    /// The highest versions that both sides have.
    #[must_use]
    pub fn negotiate(advertised: &[ApiRange]) -> Self {
        Self {
            produce: highest_common(Api::Produce, advertised),
            metadata: highest_common(Api::Metadata, advertised),
            init_producer_id: highest_common(Api::InitProducerId, advertised),
        }
    }
}

/// The highest version of an API that both sides have.
#[must_use]
pub fn highest_common(api: Api, advertised: &[ApiRange]) -> Option<i16> {
    let (min, max) = api.versions();
    let theirs = advertised.iter().find(|range| range.api_key == api.key())?;
    let version = max.min(theirs.max_version);
    (version >= min && version >= theirs.min_version).then_some(version)
}

/// How a message names a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef<'a> {
    /// By name, up to Produce v12.
    Name(&'a str),
    /// By id, from Produce v13 on (KIP-516).
    Id(TopicId),
}
