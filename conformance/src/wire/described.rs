//! What brokers tell of transactions and producers: DescribeTransactions, ListTransactions,
//! DescribeProducers.
//!
//! *Source*: Kafka's message definitions; KIP-664.

use bytes::Bytes;

use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::EncodeError;
use super::{Request, group_request};

/// Asks what a transaction is.
#[derive(Clone, Debug)]
pub struct DescribeTransactions {
    /// The transactional ids.
    pub ids: Vec<String>,
}

/// A transaction, as its coordinator tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Whether it is known.
    pub error: ErrorCode,
    /// Its state.
    pub state: String,
    /// The producer's id and epoch.
    pub producer: (i64, i16),
    /// Topics and partitions that are part of it.
    pub partitions: Vec<(String, Vec<i32>)>,
}

impl Request for DescribeTransactions {
    type Answer = Vec<Described>;
    const API_KEY: i16 = 65;
    const NAME: &'static str = "DescribeTransactions";
    const VERSION_MAX: i16 = 0;
    const FLEXIBLE_FROM: i16 = 0;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::describe_transactions(&self.ids, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let rows = reader.list("transactions", |reader| {
            let error = ErrorCode(reader.i16("error code")?);
            reader.string("transactional id")?;
            let state = reader.string("state")?;
            reader.i32("transaction timeout")?;
            reader.i64("start time")?;
            let producer = (reader.i64("producer id")?, reader.i16("producer epoch")?);
            let partitions = reader.list("topics", |reader| {
                let topic = reader.string("topic name")?;
                let partitions = reader.list("partitions", |reader| reader.i32("index"))?;
                reader.tags("topic tags")?;
                Ok((topic, partitions))
            })?;
            reader.tags("transaction tags")?;
            Ok(Described {
                error,
                state,
                producer,
                partitions,
            })
        })?;
        reader.tags("body tags")?;
        Ok(rows)
    }
}

/// Asks a coordinator which transactions it has.
#[derive(Clone, Debug, Default)]
pub struct ListTransactions {
    /// Only in these states; any if there is none.
    pub states: Vec<String>,
    /// Only of these producers; any if there is none.
    pub producers: Vec<i64>,
}

/// The answer to [`ListTransactions`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Of the whole request.
    pub error: ErrorCode,
    /// Filters that are no states.
    pub unknown_states: Vec<String>,
    /// Transactional id, producer id, state.
    pub transactions: Vec<(String, i64, String)>,
}

impl Request for ListTransactions {
    type Answer = Listed;
    const API_KEY: i16 = 66;
    const NAME: &'static str = "ListTransactions";
    const VERSION_MAX: i16 = 2;
    const FLEXIBLE_FROM: i16 = 0;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::list_transactions(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let error = ErrorCode(reader.i16("error code")?);
        let unknown_states = reader.list("unknown states", |reader| reader.string("state"))?;
        let transactions = reader.list("transactions", |reader| {
            let id = reader.string("transactional id")?;
            let producer = reader.i64("producer id")?;
            let state = reader.string("state")?;
            reader.tags("transaction tags")?;
            Ok((id, producer, state))
        })?;
        reader.tags("body tags")?;
        Ok(Listed {
            error,
            unknown_states,
            transactions,
        })
    }
}

/// Asks a replica what it knows of the producers of a partition.
#[derive(Clone, Debug)]
pub struct DescribeProducers {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// A producer, as a partition knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i32,
    /// The last sequence that is stored; −1 for none.
    pub last_sequence: i32,
    /// The first offset of its open transaction; −1 for none.
    pub open_since: i64,
}

/// The answer to [`DescribeProducers`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribedProducers {
    /// Of the partition.
    pub error: ErrorCode,
    /// Its producers.
    pub producers: Vec<ActiveProducer>,
}

impl Request for DescribeProducers {
    type Answer = DescribedProducers;
    const API_KEY: i16 = 61;
    const NAME: &'static str = "DescribeProducers";
    const VERSION_MAX: i16 = 0;
    const FLEXIBLE_FROM: i16 = 0;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        group_request::describe_producers(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let topics = reader.list("topics", |reader| {
            reader.string("topic name")?;
            let rows = reader.list("partitions", read_producers)?;
            reader.tags("topic tags")?;
            Ok(rows)
        })?;
        reader.tags("body tags")?;
        let mut rows = topics.into_iter().flatten();
        match (rows.next(), rows.next()) {
            (Some(row), None) => Ok(row),
            _ => Err(reader.error("not exactly one partition")),
        }
    }
}

fn read_producers(reader: &mut Reader<'_>) -> Result<DescribedProducers, DecodeError> {
    reader.i32("partition index")?;
    let error = ErrorCode(reader.i16("error code")?);
    reader.nullable_string("error message")?;
    let producers = reader.list("active producers", |reader| {
        let id = reader.i64("producer id")?;
        let epoch = reader.i32("producer epoch")?;
        let last_sequence = reader.i32("last sequence")?;
        reader.i64("last timestamp")?;
        reader.i32("coordinator epoch")?;
        let open_since = reader.i64("current transaction start offset")?;
        reader.tags("producer tags")?;
        Ok(ActiveProducer {
            id,
            epoch,
            last_sequence,
            open_since,
        })
    })?;
    reader.tags("partition tags")?;
    Ok(DescribedProducers { error, producers })
}
