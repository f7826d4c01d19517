//! Requests that change a cluster while a case runs: DeleteTopics, CreatePartitions,
//! AlterClientQuotas, UpdateFeatures, AlterPartitionReassignments, ElectLeaders.
//!
//! *Source*: Kafka's message definitions (`clients/src/main/resources/common/message`).

use bytes::Bytes;

use super::Request;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::{self, EncodeError};

/// What came of a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// Whether it was made.
    pub error: ErrorCode,
    /// The broker's words.
    pub message: Option<String>,
}

/// Deletes one topic.
#[derive(Clone, Debug)]
pub struct DeleteTopic {
    /// Its name.
    pub name: String,
}

impl Request for DeleteTopic {
    type Answer = Changed;
    const API_KEY: i16 = 20;
    const NAME: &'static str = "DeleteTopics";
    /// The next one names topics by their ids too.
    const VERSION_MAX: i16 = 5;
    const FLEXIBLE_FROM: i16 = 4;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::delete_topic(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let topics = reader.list("topics", |reader| {
            reader.string("topic name")?;
            let error = ErrorCode(reader.i16("error code")?);
            let message = match version {
                5.. => reader.nullable_string("error message")?,
                _ => None,
            };
            reader.tags("topic tags")?;
            Ok(Changed { error, message })
        })?;
        only(reader, topics)
    }
}

/// Gives one topic more partitions.
#[derive(Clone, Debug)]
pub struct GrowTopic {
    /// Its name.
    pub name: String,
    /// How many it then has.
    pub partitions: i32,
}

impl Request for GrowTopic {
    type Answer = Changed;
    const API_KEY: i16 = 37;
    const NAME: &'static str = "CreatePartitions";
    const VERSION_MAX: i16 = 3;
    const FLEXIBLE_FROM: i16 = 2;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::create_partitions(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let topics = reader.list("topics", |reader| {
            reader.string("topic name")?;
            let error = ErrorCode(reader.i16("error code")?);
            let message = reader.nullable_string("error message")?;
            reader.tags("topic tags")?;
            Ok(Changed { error, message })
        })?;
        only(reader, topics)
    }
}

/// Sets one quota of one client id.
#[derive(Clone, Debug)]
pub struct SetQuota {
    /// The client id.
    pub client_id: String,
    /// Kafka's name of the quota.
    pub key: &'static str,
    /// Its value.
    pub value: f64,
}

impl Request for SetQuota {
    type Answer = Changed;
    const API_KEY: i16 = 49;
    const NAME: &'static str = "AlterClientQuotas";
    const VERSION_MAX: i16 = 1;
    const FLEXIBLE_FROM: i16 = 1;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::alter_client_quotas(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let entries = reader.list("entries", |reader| {
            let error = ErrorCode(reader.i16("error code")?);
            let message = reader.nullable_string("error message")?;
            reader.list("entity", |reader| {
                reader.string("entity type")?;
                reader.nullable_string("entity name")?;
                reader.tags("entity tags")
            })?;
            reader.tags("entry tags")?;
            Ok(Changed { error, message })
        })?;
        only(reader, entries)
    }
}

/// Raises one feature.
#[derive(Clone, Debug)]
pub struct RaiseFeature {
    /// Its name.
    pub feature: &'static str,
    /// The level it then has.
    pub level: i16,
}

impl Request for RaiseFeature {
    type Answer = Changed;
    const API_KEY: i16 = 57;
    const NAME: &'static str = "UpdateFeatures";
    /// The next one tells nothing of each feature.
    const VERSION_MAX: i16 = 1;
    const FLEXIBLE_FROM: i16 = 0;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::raise_feature(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let error = ErrorCode(reader.i16("error code")?);
        let message = reader.nullable_string("error message")?;
        let rows = reader.list("features", |reader| {
            reader.string("feature")?;
            let error = ErrorCode(reader.i16("error code")?);
            let message = reader.nullable_string("error message")?;
            reader.tags("feature tags")?;
            Ok(Changed { error, message })
        })?;
        reader.tags("body tags")?;
        Ok(refused(rows.into_iter()).unwrap_or(Changed { error, message }))
    }
}

/// Gives one partition other replicas, or the same in another order.
#[derive(Clone, Debug)]
pub struct Reassign {
    /// Its topic.
    pub topic: String,
    /// Which one.
    pub partition: i32,
    /// Node ids, the preferred leader first.
    pub replicas: Vec<i32>,
}

impl Request for Reassign {
    type Answer = Changed;
    const API_KEY: i16 = 45;
    const NAME: &'static str = "AlterPartitionReassignments";
    const VERSION_MAX: i16 = 0;
    const FLEXIBLE_FROM: i16 = 0;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::reassign(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let error = ErrorCode(reader.i16("error code")?);
        let message = reader.nullable_string("error message")?;
        let rows = reader.list("topics", read_changed_partitions)?;
        reader.tags("body tags")?;
        let rows = rows.into_iter().flatten();
        Ok(refused(rows).unwrap_or(Changed { error, message }))
    }
}

/// Has the preferred replica of one partition lead it.
#[derive(Clone, Debug)]
pub struct ElectPreferred {
    /// Its topic.
    pub topic: String,
    /// Which one.
    pub partition: i32,
}

impl Request for ElectPreferred {
    type Answer = Changed;
    const API_KEY: i16 = 43;
    const NAME: &'static str = "ElectLeaders";
    const VERSION_MAX: i16 = 2;
    const FLEXIBLE_FROM: i16 = 2;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::elect_preferred(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let error = ErrorCode(match version {
            1.. => reader.i16("error code")?,
            _ => 0,
        });
        let rows = reader.list("topics", read_changed_partitions)?;
        reader.tags("body tags")?;
        let rows = rows.into_iter().flatten();
        let message = None;
        Ok(refused(rows).unwrap_or(Changed { error, message }))
    }
}

/// What became of a topic's partitions.
fn read_changed_partitions(reader: &mut Reader<'_>) -> Result<Vec<Changed>, DecodeError> {
    reader.string("topic name")?;
    let rows = reader.list("partitions", |reader| {
        reader.i32("partition index")?;
        let error = ErrorCode(reader.i16("error code")?);
        let message = reader.nullable_string("error message")?;
        reader.tags("partition tags")?;
        Ok(Changed { error, message })
    })?;
    reader.tags("topic tags")?;
    Ok(rows)
}

fn refused(mut rows: impl Iterator<Item = Changed>) -> Option<Changed> {
    rows.find(|row| row.error != ErrorCode::NONE)
}

/// The row that was asked for, and nothing behind it.
fn only(reader: &mut Reader<'_>, mut rows: Vec<Changed>) -> Result<Changed, DecodeError> {
    reader.tags("body tags")?;
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => Err(reader.error("not exactly one row")),
    }
}
