//! Produce: a request whose records are any bytes, and the rows of its answer.
//!
//! *Source*: `ProduceRequest.json` and `ProduceResponse.json` of Kafka 4.3; which fields a row has
//! by version: append time from v2, log start from v5, record errors and message from v8, leader
//! hint from v10, topic id instead of name from v13.

use std::fmt;

use bytes::Bytes;

use super::Request;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::{self, EncodeError};

/// First version that names topics by id (KIP-516).
pub const TOPIC_ID_FROM: i16 = 13;
/// First version whose rows carry the log start offset.
pub const LOG_START_FROM: i16 = 5;
/// First version whose rows carry record errors and a message (KIP-467).
pub const RECORD_ERRORS_FROM: i16 = 8;

/// Writes record batches.
#[derive(Clone, Debug)]
pub struct Produce {
    /// −1 all in-sync replicas, 0 none, 1 the leader; anything else is refused by Kafka.
    pub acks: i16,
    /// Data by topic.
    pub topics: Vec<TopicData>,
}

/// What goes to one topic.
#[derive(Clone, Debug)]
pub struct TopicData {
    /// Used up to version 12.
    pub name: String,
    /// Used from version 13.
    pub id: [u8; 16],
    /// Partition and its records field.
    pub partitions: Vec<(i32, Option<Bytes>)>,
}

/// How one partition was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Partition number.
    pub partition: i32,
    /// The verdict.
    pub code: ErrorCode,
    /// Offset of the first record; −1 on errors.
    pub base_offset: i64,
    /// Milliseconds since 1970 when the broker stamps the records; −1 otherwise.
    pub append_time_ms: i64,
    /// First offset of the log; absent before v5.
    pub log_start: Option<i64>,
    /// Records that were refused one by one; empty before v8.
    pub record_errors: Vec<RecordError>,
    /// The broker's words.
    pub message: Option<String>,
}

/// One record that a broker refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordError {
    /// Index in the batch.
    pub index: i32,
    /// The broker's words.
    pub message: Option<String>,
}

impl Row {
    /// The row of a batch that was appended at `base_offset` of a log that begins at 0, on a topic
    /// whose records keep the producer's timestamps.
    pub fn written(partition: i32, base_offset: i64, version: i16) -> Self {
        Self {
            partition,
            code: ErrorCode::NONE,
            base_offset,
            append_time_ms: -1,
            log_start: (version >= LOG_START_FROM).then_some(0),
            record_errors: Vec::new(),
            message: None,
        }
    }

    /// The row of a refusal that came before the log was looked at: log start −1.
    pub fn refused(partition: i32, code: i16, version: i16) -> Self {
        Self {
            code: ErrorCode(code),
            log_start: (version >= LOG_START_FROM).then_some(-1),
            ..Self::written(partition, -1, version)
        }
    }

    /// The row of a refusal by the log: it tells the real log start.
    pub fn refused_by_log(partition: i32, code: i16, version: i16) -> Self {
        Self {
            code: ErrorCode(code),
            ..Self::written(partition, -1, version)
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            code,
            base_offset,
            append_time_ms,
            ..
        } = self;
        write!(
            f,
            "partition {partition}: code {code}, base offset {base_offset}, "
        )?;
        write!(f, "append time {append_time_ms}, ")?;
        match self.log_start {
            Some(log_start) => write!(f, "log start {log_start}, ")?,
            None => write!(f, "no log start, ")?,
        }
        for error in &self.record_errors {
            write!(
                f,
                "record {} refused with {:?}, ",
                error.index, error.message
            )?;
        }
        write!(f, "message {:?}", self.message)
    }
}

/// The answer to [`Produce`]: rows in the broker's order, with what names their topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProduceAnswer {
    /// One per topic of the answer.
    pub topics: Vec<TopicRows>,
}

/// The rows of one topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicRows {
    /// Empty from version 13.
    pub name: String,
    /// All zero before version 13.
    pub id: [u8; 16],
    /// One per partition; Kafka's order is that of a hash table.
    pub rows: Vec<Row>,
}

impl Request for Produce {
    type Answer = ProduceAnswer;
    const API_KEY: i16 = 0;
    const NAME: &'static str = "Produce";
    const VERSION_MAX: i16 = 13;
    const FLEXIBLE_FROM: i16 = 9;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::produce(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        let topics = reader.list("topics", |reader| {
            let (name, id) = if version >= TOPIC_ID_FROM {
                (String::new(), reader.uuid("topic id")?)
            } else {
                (reader.string("topic name")?, [0; 16])
            };
            let rows = reader.list("partitions", |reader| read_row(reader, version))?;
            reader.tags("topic tags")?;
            Ok(TopicRows { name, id, rows })
        })?;
        reader.i32("throttle time")?;
        reader.tags("body tags")?;
        Ok(ProduceAnswer { topics })
    }
}

fn read_row(reader: &mut Reader<'_>, version: i16) -> Result<Row, DecodeError> {
    let partition = reader.i32("partition index")?;
    let code = ErrorCode(reader.i16("error code")?);
    let base_offset = reader.i64("base offset")?;
    let append_time_ms = reader.i64("log append time")?;
    let log_start = match version >= LOG_START_FROM {
        true => Some(reader.i64("log start offset")?),
        false => None,
    };
    let mut record_errors = Vec::new();
    let mut message = None;
    if version >= RECORD_ERRORS_FROM {
        record_errors = reader.list("record errors", |reader| {
            let index = reader.i32("batch index")?;
            let message = reader.nullable_string("record error message")?;
            reader.tags("record error tags")?;
            Ok(RecordError { index, message })
        })?;
        message = reader.nullable_string("error message")?;
    }
    reader.tags("partition tags")?;
    Ok(Row {
        partition,
        code,
        base_offset,
        append_time_ms,
        log_start,
        record_errors,
        message,
    })
}
