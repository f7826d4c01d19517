//! What consumers of a group and producers that commit for it ask.
//!
//! *Source*: Kafka's message definitions; KIP-98, KIP-345, KIP-447.
//!
//! *Not here*: who coordinates a group (`group_offsets.rs`).

use bytes::Bytes;

use super::batch::Stamp;
use super::error_code::ErrorCode;
use super::group_offsets::{CommittedOffset, committed_offsets};
use super::reader::{DecodeError, Reader};
use super::request::EncodeError;
use super::{Request, group_request};

/// Joins a group, with one protocol.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group: String,
    /// How long it may be silent, and others may take to join, in milliseconds.
    pub session_ms: i32,
    /// Its id; empty for a new one.
    pub member: String,
    /// The id that a static member gave itself; from version 5.
    pub instance: Option<String>,
    /// What it says to the leader.
    pub metadata: Bytes,
}

/// The answer to [`JoinGroup`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinGroupAnswer {
    /// Whether it has joined.
    pub error: ErrorCode,
    /// The group's generation.
    pub generation: i32,
    /// The member's id.
    pub member: String,
}

impl Request for JoinGroup {
    type Answer = JoinGroupAnswer;
    const API_KEY: i16 = 11;
    const NAME: &'static str = "JoinGroup";
    /// The last that is not flexible.
    const VERSION_MAX: i16 = 5;
    const FLEXIBLE_FROM: i16 = 6;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::join_group(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        if version >= 2 {
            reader.i32("throttle time")?;
        }
        let error = ErrorCode(reader.i16("error code")?);
        let generation = reader.i32("generation")?;
        reader.string("protocol")?;
        reader.string("leader member id")?;
        let member = reader.string("member id")?;
        reader.list("members", |reader| {
            reader.string("member id")?;
            if version >= 5 {
                reader.nullable_string("instance id")?;
            }
            reader.nullable_bytes("metadata").map(drop)
        })?;
        Ok(JoinGroupAnswer {
            error,
            generation,
            member,
        })
    }
}

/// Lets the offsets of a group join a transaction.
#[derive(Clone, Debug)]
pub struct AddOffsets {
    /// The transactional id.
    pub id: String,
    /// Whose transaction.
    pub stamp: Stamp,
    /// The group.
    pub group: String,
}

impl Request for AddOffsets {
    type Answer = ErrorCode;
    const API_KEY: i16 = 25;
    const NAME: &'static str = "AddOffsetsToTxn";
    const VERSION_MAX: i16 = 4;
    const FLEXIBLE_FROM: i16 = 3;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::add_offsets(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let error = ErrorCode(reader.i16("error code")?);
        reader.tags("body tags")?;
        Ok(error)
    }
}

/// What a committer says of its membership.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The generation; −1 for none.
    pub generation: i32,
    /// The member's id; empty for none.
    pub member: String,
    /// The id that a static member gave itself.
    pub instance: Option<String>,
}

impl Claim {
    /// Of one that is no member.
    pub fn none() -> Self {
        Self {
            generation: -1,
            member: String::new(),
            instance: None,
        }
    }
}

/// Commits an offset of partition 0 in a transaction.
#[derive(Clone, Debug)]
pub struct TxnOffsetCommit {
    /// The transactional id.
    pub id: String,
    /// Whose transaction.
    pub stamp: Stamp,
    /// The group.
    pub group: String,
    /// Sent from version 3.
    pub claim: Claim,
    /// The topic.
    pub topic: String,
    /// The offset.
    pub offset: i64,
}

impl Request for TxnOffsetCommit {
    type Answer = ErrorCode;
    const API_KEY: i16 = 28;
    const NAME: &'static str = "TxnOffsetCommit";
    const VERSION_MAX: i16 = 5;
    const FLEXIBLE_FROM: i16 = 3;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::txn_offset_commit(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let topics = reader.list("topics", |reader| {
            reader.string("topic name")?;
            let rows = reader.list("partitions", |reader| {
                reader.i32("partition index")?;
                let error = ErrorCode(reader.i16("error code")?);
                reader.tags("partition tags")?;
                Ok(error)
            })?;
            reader.tags("topic tags")?;
            Ok(rows)
        })?;
        reader.tags("body tags")?;
        only(reader, topics)
    }
}

/// Asks for a group's offset in partition 0.
#[derive(Clone, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Whether one that a transaction may change is refused; from version 7.
    pub stable: bool,
}

impl Request for OffsetFetch {
    type Answer = CommittedOffset;
    const API_KEY: i16 = 9;
    const NAME: &'static str = "OffsetFetch";
    /// The next one names topics by id.
    const VERSION_MAX: i16 = 9;
    const FLEXIBLE_FROM: i16 = 6;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::offset_fetch(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        if version >= 3 {
            reader.i32("throttle time")?;
        }
        let rows = match version {
            ..8 => {
                let rows = committed_offsets(reader, version)?;
                if version >= 2 {
                    reader.i16("error code")?;
                }
                rows
            }
            _ => {
                let groups = reader.list("groups", |reader| {
                    reader.string("group id")?;
                    let rows = committed_offsets(reader, version)?;
                    reader.i16("error code")?;
                    reader.tags("group tags")?;
                    Ok(rows)
                })?;
                groups.into_iter().flatten().collect()
            }
        };
        reader.tags("body tags")?;
        only(reader, rows)
    }
}

/// The one row of the one topic.
fn only<T>(reader: &Reader<'_>, topics: Vec<Vec<T>>) -> Result<T, DecodeError> {
    let mut rows = topics.into_iter().flatten();
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        _ => Err(reader.error("not exactly one partition")),
    }
}
