//! Produce: a request whose records are any bytes, and the rows of its answer.
//!
//! *Source*: `ProduceRequest.json` and `ProduceResponse.json` of Kafka 4.3; which fields a row has
//! by version: append time from v2, log start from v5, record errors and message from v8, leader
//! hint from v10, topic id instead of name from v13.

use std::fmt;

use bytes::Bytes;

use super::Request;
use super::answer::{Broker, read_broker};
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader, Tag};
use super::request::{self, EncodeError};

/// First version that names topics by id (KIP-516).
pub const TOPIC_ID_FROM: i16 = 13;
/// First version whose rows carry the log start offset.
pub const LOG_START_FROM: i16 = 5;
/// First version whose rows carry record errors and a message (KIP-467).
pub const RECORD_ERRORS_FROM: i16 = 8;

/// How long a broker may take with acks=all, unless a case says otherwise.
pub const TIMEOUT_MS: i32 = 10_000;

/// Writes record batches.
#[derive(Clone, Debug)]
pub struct Produce {
    /// Not checked by Kafka unless a batch is transactional.
    pub transactional_id: Option<String>,
    /// −1 all in-sync replicas, 0 none, 1 the leader; anything else is refused by Kafka.
    pub acks: i16,
    /// How long the broker may wait for its replicas.
    pub timeout_ms: i32,
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
    /// Node id and epoch of the leader, told from v10 with code 6.
    pub leader: Option<(i32, i32)>,
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
            leader: None,
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

    /// The same with the broker's words, which rows have from v8.
    pub fn saying(mut self, message: &str, version: i16) -> Self {
        self.message = (version >= RECORD_ERRORS_FROM).then(|| message.to_owned());
        self
    }

    /// The same with the records that were refused one by one, and the words that go with them;
    /// before v8 a row has neither.
    pub fn because_of(mut self, records: &[(i32, String)], version: i16) -> Self {
        if version < RECORD_ERRORS_FROM {
            return self;
        }
        self.record_errors = records
            .iter()
            .map(|(index, message)| RecordError {
                index: *index,
                message: Some(message.clone()),
            })
            .collect();
        self.message = Some(match self.code {
            ErrorCode(32) => {
                "One or more records have been rejected due to invalid timestamp".into()
            }
            _ => refused_records(records),
        });
        self
    }
}

/// Kafka's words for records that were refused for anything but their timestamp: it names three.
fn refused_records(records: &[(i32, String)]) -> String {
    const SHOWN_MAX: usize = 3;
    let count = records.len();
    let shown: Vec<String> = records
        .iter()
        .take(SHOWN_MAX)
        .map(|(index, message)| format!("RecordError(batchIndex={index}, message='{message}')"))
        .collect();
    format!(
        "One or more records have been rejected due to {count} record errors in total, and only \
         showing the first three errors at most: [{}]",
        shown.join(", ")
    )
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
        write!(f, "message {:?}", self.message)?;
        match self.leader {
            Some((id, epoch)) => write!(f, ", led by {id} at epoch {epoch}"),
            None => Ok(()),
        }
    }
}

/// The answer to [`Produce`]: rows in the broker's order, with what names their topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProduceAnswer {
    /// One per topic of the answer.
    pub topics: Vec<TopicRows>,
    /// Brokers that lead what was refused with 6, told from v10.
    pub nodes: Vec<Broker>,
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
        let topics = read_topics(reader, version)?;
        reader.i32("throttle time")?;
        let mut nodes = Vec::new();
        reader.tags_with("body tags", |tag, reader| {
            if tag != 0 {
                return Ok(Tag::Unknown);
            }
            // The fields of a node are those of a broker in Metadata.
            nodes = reader.list("node endpoints", |reader| read_broker(reader, 9))?;
            Ok(Tag::Known)
        })?;
        Ok(ProduceAnswer { topics, nodes })
    }
}

/// What comes before the throttle time.
pub(super) fn read_topics(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<Vec<TopicRows>, DecodeError> {
    reader.list("topics", |reader| {
        let (name, id) = if version >= TOPIC_ID_FROM {
            (String::new(), reader.uuid("topic id")?)
        } else {
            (reader.string("topic name")?, [0; 16])
        };
        let rows = reader.list("partitions", |reader| read_row(reader, version))?;
        reader.tags("topic tags")?;
        Ok(TopicRows { name, id, rows })
    })
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
    let mut leader = None;
    reader.tags_with("partition tags", |tag, reader| {
        if tag != 0 {
            return Ok(Tag::Unknown);
        }
        leader = Some((reader.i32("leader id")?, reader.i32("leader epoch")?));
        // A structure in a tag has tags of its own.
        reader.tags("leader tags")?;
        Ok(Tag::Known)
    })?;
    Ok(Row {
        partition,
        code,
        base_offset,
        append_time_ms,
        log_start,
        record_errors,
        message,
        leader,
    })
}
