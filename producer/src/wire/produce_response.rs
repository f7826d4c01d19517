//! The Produce response, read by hand: one typed outcome per partition.
//!
//! *Invariants*
//! 1. Reading allocates no more than the frame can back.
//! 2. A field that a version does not have reads as absent, never as zero.
//! 3. The rows keep the broker's order, which is none: a reader finds partitions by name or id.
//!
//! *Source*: Kafka's `ProduceResponse.json`; KIP-467 (record errors), KIP-951 (leader hints).
//!
//! *Not here*: what an outcome means (`engine/verdict.rs`).

use std::sync::Arc;

use crate::error::ErrorCode;
use crate::types::{BrokerId, LeaderEpoch};
use crate::wire::error::DecodeError;
use crate::wire::frame::response_body;
use crate::wire::message::BrokerEndpoint;
use crate::wire::primitives::{Encoding, Reader};
use crate::wire::{Api, TopicRef};

/// An answer to a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceAnswer<'a> {
    /// One row per partition.
    pub rows: Vec<ProduceRow<'a>>,
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// Where the leaders named in the rows listen (v10 on).
    pub endpoints: Vec<BrokerEndpoint>,
}

/// What became of one partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRow<'a> {
    /// The topic, as the request named it.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub partition: i32,
    /// 0, or what went wrong.
    pub error: ErrorCode,
    /// The offset of the batch's first record.
    pub base_offset: Option<i64>,
    /// The broker's time of append in milliseconds since 1970.
    pub log_append_time_ms: Option<i64>,
    /// The first offset of the partition's log (v5 on).
    pub log_start_offset: Option<i64>,
    /// The records that made the broker refuse the batch (v8 on).
    pub record_errors: Vec<RecordError<'a>>,
    /// The broker's words (v8 on).
    pub message: Option<&'a str>,
    /// Who leads the partition, when the answer says so (v10 on).
    pub leader: Option<LeaderHint>,
}

impl<'a> ProduceRow<'a> {
    /// The partition it speaks of.
    pub(crate) fn name(&self) -> (TopicRef<'a>, i32) {
        (self.topic, self.partition)
    }
}

/// One refused record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError<'a> {
    /// The record's index in its batch.
    pub index: i32,
    /// The broker's words.
    pub message: Option<&'a str>,
}

/// A newer leader, named in a refusal (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader.
    pub leader: BrokerId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
}

/// Reads an answer to a Produce request of this version.
///
/// # Errors
///
/// The frame is not such an answer.
pub fn decode(version: i16, frame: &[u8]) -> Result<ProduceAnswer<'_>, DecodeError> {
    let encoding = Api::Produce.encoding(version);
    let mut reader = response_body(Api::Produce, version, frame)?;
    let mut rows = Vec::new();
    for _ in 0..reader.count("topics", encoding)? {
        let topic = if version >= 13 {
            TopicRef::Id(reader.topic_id("topic id")?)
        } else {
            TopicRef::Name(reader.text("topic name", encoding)?.unwrap_or_default())
        };
        for _ in 0..reader.count("partitions", encoding)? {
            rows.push(read_row(&mut reader, topic, version, encoding)?);
        }
        reader.skip_tags(encoding)?;
    }
    let throttle_ms = u32::try_from(reader.i32("throttle time")?).unwrap_or(0);
    let mut endpoints = Vec::new();
    reader.tags(encoding, |tag, value| {
        if tag == NODE_ENDPOINTS_TAG {
            endpoints = read_endpoints(value, encoding)?;
        }
        Ok(())
    })?;
    Ok(ProduceAnswer {
        rows,
        throttle_ms,
        endpoints,
    })
}

fn read_row<'a>(
    reader: &mut Reader<'a>,
    topic: TopicRef<'a>,
    version: i16,
    encoding: Encoding,
) -> Result<ProduceRow<'a>, DecodeError> {
    let partition = reader.i32("partition")?;
    let error = ErrorCode(reader.i16("error code")?);
    let base_offset = not_negative(reader.i64("base offset")?);
    let log_append_time_ms = not_negative(reader.i64("log append time")?);
    let log_start_offset = if version >= 5 {
        not_negative(reader.i64("log start offset")?)
    } else {
        None
    };
    let mut record_errors = Vec::new();
    let mut message = None;
    if version >= 8 {
        for _ in 0..reader.count("record errors", encoding)? {
            let index = reader.i32("record index")?;
            record_errors.push(RecordError {
                index,
                message: reader.text("message", encoding)?,
            });
            reader.skip_tags(encoding)?;
        }
        message = reader.text("error message", encoding)?;
    }
    let mut leader = None;
    reader.tags(encoding, |tag, value| {
        if tag == CURRENT_LEADER_TAG {
            leader = read_leader(value)?;
        }
        Ok(())
    })?;
    Ok(ProduceRow {
        topic,
        partition,
        error,
        base_offset,
        log_append_time_ms,
        log_start_offset,
        record_errors,
        message,
        leader,
    })
}

fn read_leader(reader: &mut Reader<'_>) -> Result<Option<LeaderHint>, DecodeError> {
    let leader = reader.i32("leader id")?;
    let epoch = reader.i32("leader epoch")?;
    // A broker that knows of no leader says -1.
    let known = leader >= 0 && epoch >= 0;
    Ok(known.then_some(LeaderHint {
        leader: BrokerId(leader),
        epoch: LeaderEpoch(epoch),
    }))
}

fn read_endpoints(
    reader: &mut Reader<'_>,
    encoding: Encoding,
) -> Result<Vec<BrokerEndpoint>, DecodeError> {
    let mut endpoints = Vec::new();
    for _ in 0..reader.count("node endpoints", encoding)? {
        let id = BrokerId(reader.i32("node id")?);
        let host = Arc::from(reader.text("host", encoding)?.unwrap_or_default());
        let port = reader.i32("port")?;
        let port = u16::try_from(port).map_err(|_| DecodeError::ImpossibleValue {
            field: "port",
            value: i64::from(port),
        })?;
        reader.text("rack", encoding)?;
        reader.skip_tags(encoding)?;
        endpoints.push(BrokerEndpoint { id, host, port });
    }
    Ok(endpoints)
}

fn not_negative(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

const CURRENT_LEADER_TAG: u32 = 0;
const NODE_ENDPOINTS_TAG: u32 = 0;
