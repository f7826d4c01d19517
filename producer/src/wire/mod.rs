//! Bytes to values and back, pure; and the one table of APIs and versions this producer speaks.
//!
//! | File | Holds |
//! |---|---|
//! | `primitives` | varints, the bounded reader |
//! | `frame` | request and response headers |
//! | `record_batch` | the v2 record batch, written in place |
//! | `batch_split` | a batch cut in two |
//! | `compression` | the codecs of a batch's records |
//! | `lz4_frame`, `lz4_high` | LZ4: frames and the fast compressor, the high one |
//! | `produce_request`, `produce_response` | Produce, written and read by hand: the record path |
//! | `message` | the other questions' answers, as our own values |
//! | `control` | the other questions, through `kafka_protocol` |
//! | `transactional` | the questions of transactions, written and read by hand |
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
#[cfg(feature = "lz4")]
mod lz4_frame;
#[cfg(feature = "lz4")]
mod lz4_high;
pub mod message;
pub mod primitives;
pub mod produce_request;
pub mod produce_response;
#[cfg(test)]
pub(crate) mod read_back;
pub mod record_batch;
mod shape;
pub mod transactional;

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
    /// A producer id for idempotence, or an epoch for transactions.
    InitProducerId,
    /// Who coordinates a transactional id or a group.
    FindCoordinator,
    /// Make partitions part of a transaction, before they are written to.
    AddPartitionsToTxn,
    /// Make a group's offsets part of a transaction, before they are committed.
    AddOffsetsToTxn,
    /// Commit or abort.
    EndTxn,
    /// Commit a group's offsets with a transaction.
    TxnOffsetCommit,
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
            Self::Produce
            | Self::Metadata
            | Self::InitProducerId
            | Self::FindCoordinator
            | Self::AddPartitionsToTxn
            | Self::AddOffsetsToTxn
            | Self::EndTxn
            | Self::TxnOffsetCommit => self.encoding(version),
        }
    }

    fn row(self) -> Row {
        match self {
            Self::Produce => row(0, (3, 13), 9),
            // From v4 on a client may say whether topics are created.
            Self::Metadata => row(3, (4, 13), 9),
            // Version 0 knows groups alone.
            Self::FindCoordinator => row(10, (1, 6), 3),
            Self::ApiVersions => row(18, (0, 4), 3),
            Self::InitProducerId => row(22, (0, 5), 2),
            // From v4 on brokers ask each other.
            Self::AddPartitionsToTxn => row(24, (0, 3), 3),
            Self::AddOffsetsToTxn => row(25, (0, 4), 3),
            Self::EndTxn => row(26, (0, 5), 3),
            Self::TxnOffsetCommit => row(28, (0, 5), 3),
        }
    }
}

const fn row(key: i16, (min, max): (i16, i16), flexible_from: i16) -> Row {
    Row {
        key,
        min,
        max,
        flexible_from,
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
    /// FindCoordinator.
    pub find_coordinator: Option<i16>,
    /// AddPartitionsToTxn.
    pub add_partitions: Option<i16>,
    /// AddOffsetsToTxn.
    pub add_offsets: Option<i16>,
    /// EndTxn.
    pub end_txn: Option<i16>,
    /// TxnOffsetCommit.
    pub txn_offset_commit: Option<i16>,
}

impl Versions {
    /// The highest versions that both sides have.
    #[must_use]
    pub fn negotiate(advertised: &[ApiRange]) -> Self {
        Self {
            produce: highest_common(Api::Produce, advertised),
            metadata: highest_common(Api::Metadata, advertised),
            init_producer_id: highest_common(Api::InitProducerId, advertised),
            find_coordinator: highest_common(Api::FindCoordinator, advertised),
            add_partitions: highest_common(Api::AddPartitionsToTxn, advertised),
            add_offsets: highest_common(Api::AddOffsetsToTxn, advertised),
            end_txn: highest_common(Api::EndTxn, advertised),
            txn_offset_commit: highest_common(Api::TxnOffsetCommit, advertised),
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
