//! How far a consumer group has read: who coordinates it, and what it has committed.
//!
//! *Source*: Kafka's `FindCoordinatorRequest.json`, `OffsetFetchRequest.json`; KIP-447.

use bytes::Bytes;

use super::Request;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::EncodeError;
use super::transaction_request;
use super::transactional::{FindCoordinator, FindCoordinatorAnswer};

/// Asks who coordinates a consumer group.
#[derive(Clone, Debug)]
pub struct FindGroupCoordinator {
    /// The group's id.
    pub group: String,
}

impl Request for FindGroupCoordinator {
    type Answer = FindCoordinatorAnswer;
    const API_KEY: i16 = FindCoordinator::API_KEY;
    const NAME: &'static str = FindCoordinator::NAME;
    const VERSION_MAX: i16 = FindCoordinator::VERSION_MAX;
    const FLEXIBLE_FROM: i16 = FindCoordinator::FLEXIBLE_FROM;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        transaction_request::find_group_coordinator(&self.group, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        FindCoordinator::read_answer(reader, version)
    }
}

/// What a group has committed of one topic; while a transaction is open that may change it, the
/// code is 88. From version 7 on, of one group (up to 7).
#[derive(Clone, Debug)]
pub struct StableOffsets {
    /// The group's id.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Of which partitions.
    pub partitions: Vec<i32>,
}

/// What a group has committed of one partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommittedOffset {
    /// Partition number.
    pub partition: i32,
    /// The next offset to read; −1 for none.
    pub offset: i64,
    /// Whether it is known.
    pub error: ErrorCode,
}

impl Request for StableOffsets {
    type Answer = (ErrorCode, Vec<CommittedOffset>);
    const API_KEY: i16 = 9;
    const NAME: &'static str = "OffsetFetch";
    /// Later versions ask about several groups.
    const VERSION_MAX: i16 = 7;
    const FLEXIBLE_FROM: i16 = 6;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        transaction_request::stable_offsets(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        if version >= 3 {
            reader.i32("throttle time")?;
        }
        let topics = committed_offsets(reader, version)?;
        let error = ErrorCode(reader.i16("error code")?);
        reader.tags("body tags")?;
        Ok((error, topics.into_iter().flatten().collect()))
    }
}

/// The topics of an answer to OffsetFetch, or of one group of it, each with its partitions.
pub(super) fn committed_offsets(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<Vec<Vec<CommittedOffset>>, DecodeError> {
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        let rows = reader.list("partitions", |reader| {
            let partition = reader.i32("partition index")?;
            let offset = reader.i64("committed offset")?;
            if version >= 5 {
                reader.i32("committed leader epoch")?;
            }
            reader.nullable_string("metadata")?;
            let error = ErrorCode(reader.i16("error code")?);
            reader.tags("partition tags")?;
            Ok(CommittedOffset {
                partition,
                offset,
                error,
            })
        })?;
        reader.tags("topic tags")?;
        Ok(rows)
    })
}
