//! Groups and offsets that are deleted: DeleteGroups, OffsetDelete.
//!
//! *Source*: Kafka's message definitions; KIP-229, KIP-496.

use bytes::Bytes;

use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::EncodeError;
use super::transactional::read_rows;
use super::{Request, group_request};

/// Deletes groups.
#[derive(Clone, Debug)]
pub struct DeleteGroups {
    /// Their ids.
    pub groups: Vec<String>,
}

impl Request for DeleteGroups {
    /// In the broker's order.
    type Answer = Vec<(String, ErrorCode)>;
    const API_KEY: i16 = 42;
    const NAME: &'static str = "DeleteGroups";
    const VERSION_MAX: i16 = 2;
    const FLEXIBLE_FROM: i16 = 2;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::delete_groups(&self.groups, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let rows = reader.list("groups", |reader| {
            let group = reader.string("group id")?;
            let error = ErrorCode(reader.i16("error code")?);
            reader.tags("group tags")?;
            Ok((group, error))
        })?;
        reader.tags("body tags")?;
        Ok(rows)
    }
}

/// Deletes offsets of a group.
#[derive(Clone, Debug)]
pub struct OffsetDelete {
    /// The group.
    pub group: String,
    /// Topics and their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// The answer to [`OffsetDelete`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OffsetDeleteAnswer {
    /// Of the whole request.
    pub error: ErrorCode,
    /// Topic, partition, and whether it is deleted; in the broker's order.
    pub rows: Vec<(String, i32, ErrorCode)>,
}

impl Request for OffsetDelete {
    type Answer = OffsetDeleteAnswer;
    const API_KEY: i16 = 47;
    const NAME: &'static str = "OffsetDelete";
    const VERSION_MAX: i16 = 0;
    const FLEXIBLE_FROM: i16 = 1;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::offset_delete(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        let error = ErrorCode(reader.i16("error code")?);
        reader.i32("throttle time")?;
        let rows = read_rows(reader)?;
        Ok(OffsetDeleteAnswer { error, rows })
    }
}

/// The fields of DeleteGroups by their names, for recordings.
pub(super) fn walk_groups(reader: &mut Reader<'_>, _: i16) -> Result<(), DecodeError> {
    reader.list("groups", |reader| reader.string("group id"))?;
    Ok(())
}

/// The fields of OffsetDelete by their names, for recordings.
pub(super) fn walk_offsets(reader: &mut Reader<'_>, _: i16) -> Result<(), DecodeError> {
    reader.string("group id")?;
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        reader.list("partitions", |reader| reader.i32("partition index"))?;
        Ok(())
    })?;
    Ok(())
}
