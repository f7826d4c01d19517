//! What producers of transactions ask: who coordinates, who they are, what joins, how it ends.
//!
//! *Source*: Kafka's message definitions; KIP-98, KIP-890.
//!
//! *Not here*: InitProducerId without a transactional id (`answer.rs`).

use bytes::Bytes;

use super::answer::{InitProducerId, InitProducerIdAnswer};
use super::batch::Stamp;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::{self, EncodeError};
use super::{Request, transaction_request};

/// Asks who coordinates a transactional id; from version 1 on.
#[derive(Clone, Debug)]
pub struct FindCoordinator {
    /// The transactional id.
    pub id: String,
}

/// The answer to [`FindCoordinator`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FindCoordinatorAnswer {
    /// Whether there is one.
    pub error: ErrorCode,
    /// Its node id; −1 on errors.
    pub node: i32,
    /// Host and port.
    pub address: String,
}

impl Request for FindCoordinator {
    type Answer = FindCoordinatorAnswer;
    const API_KEY: i16 = 10;
    const NAME: &'static str = "FindCoordinator";
    const VERSION_MAX: i16 = 6;
    const FLEXIBLE_FROM: i16 = 3;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        transaction_request::find_coordinator(&self.id, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        if version >= 1 {
            reader.i32("throttle time")?;
        }
        if version < 4 {
            let error = ErrorCode(reader.i16("error code")?);
            if version >= 1 {
                reader.nullable_string("error message")?;
            }
            let (node, address) = read_node(reader)?;
            reader.tags("body tags")?;
            return Ok(FindCoordinatorAnswer {
                error,
                node,
                address,
            });
        }
        let mut rows = reader.list("coordinators", |reader| {
            reader.string("key")?;
            let (node, address) = read_node(reader)?;
            let error = ErrorCode(reader.i16("error code")?);
            reader.nullable_string("error message")?;
            reader.tags("coordinator tags")?;
            Ok(FindCoordinatorAnswer {
                error,
                node,
                address,
            })
        })?;
        reader.tags("body tags")?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(reader.error("not exactly one coordinator")),
        }
    }
}

fn read_node(reader: &mut Reader<'_>) -> Result<(i32, String), DecodeError> {
    let node = reader.i32("broker id")?;
    let host = reader.string("broker host")?;
    let port = reader.i32("broker port")?;
    Ok((node, format!("{host}:{port}")))
}

/// Asks for the producer id of a transactional id; whatever it has open is aborted.
#[derive(Clone, Debug)]
pub struct InitTransactional {
    /// The transactional id.
    pub id: String,
    /// How long its transactions may be open.
    pub timeout_ms: i32,
    /// The producer to go on as, sent from version 3.
    pub producer: InitProducerId,
}

impl InitTransactional {
    /// Asks as one that begins, with a time-out of ten seconds.
    pub fn of(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            timeout_ms: request::TIMEOUT_MS,
            producer: InitProducerId::NEW,
        }
    }
}

impl Request for InitTransactional {
    type Answer = InitProducerIdAnswer;
    const API_KEY: i16 = InitProducerId::API_KEY;
    const NAME: &'static str = InitProducerId::NAME;
    const VERSION_MAX: i16 = InitProducerId::VERSION_MAX;
    const FLEXIBLE_FROM: i16 = InitProducerId::FLEXIBLE_FROM;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::init_producer_id(Some((&self.id, self.timeout_ms)), self.producer, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        InitProducerId::read_answer(reader, version)
    }
}

/// Lets partitions join a transaction.
#[derive(Clone, Debug)]
pub struct AddPartitions {
    /// The transactional id.
    pub id: String,
    /// Whose transaction.
    pub stamp: Stamp,
    /// Topics and their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// The answer to [`AddPartitions`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddPartitionsAnswer {
    /// Of the whole request; told from version 4.
    pub error: ErrorCode,
    /// Topic, partition, and whether it has joined; in the broker's order.
    pub rows: Vec<(String, i32, ErrorCode)>,
}

impl Request for AddPartitions {
    type Answer = AddPartitionsAnswer;
    const API_KEY: i16 = 24;
    const NAME: &'static str = "AddPartitionsToTxn";
    const VERSION_MAX: i16 = 5;
    const FLEXIBLE_FROM: i16 = 3;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        transaction_request::add_partitions(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let mut error = ErrorCode::NONE;
        let rows = if version < 4 {
            read_rows(reader)?
        } else {
            error = ErrorCode(reader.i16("error code")?);
            let transactions = reader.list("transactions", |reader| {
                reader.string("transactional id")?;
                let rows = read_rows(reader)?;
                reader.tags("transaction tags")?;
                Ok(rows)
            })?;
            transactions.into_iter().flatten().collect()
        };
        reader.tags("body tags")?;
        Ok(AddPartitionsAnswer { error, rows })
    }
}

/// Rows of topic, partition and code, as several answers have them.
pub(super) fn read_rows(
    reader: &mut Reader<'_>,
) -> Result<Vec<(String, i32, ErrorCode)>, DecodeError> {
    let topics = reader.list("topics", |reader| {
        let topic = reader.string("topic name")?;
        let rows = reader.list("partitions", |reader| {
            let index = reader.i32("partition index")?;
            let error = ErrorCode(reader.i16("error code")?);
            reader.tags("partition tags")?;
            Ok((topic.clone(), index, error))
        })?;
        reader.tags("topic tags")?;
        Ok(rows)
    })?;
    Ok(topics.into_iter().flatten().collect())
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Its records count.
    Commit,
    /// They do not.
    Abort,
}

/// Ends a transaction.
#[derive(Clone, Debug)]
pub struct EndTxn {
    /// The transactional id.
    pub id: String,
    /// Whose transaction.
    pub stamp: Stamp,
    /// How.
    pub decision: Decision,
}

/// The answer to [`EndTxn`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndTxnAnswer {
    /// Whether it ends so.
    pub error: ErrorCode,
    /// Id and epoch to go on with, told from version 5; −1 on errors.
    pub next: Option<(i64, i16)>,
}

impl Request for EndTxn {
    type Answer = EndTxnAnswer;
    const API_KEY: i16 = 26;
    const NAME: &'static str = "EndTxn";
    const VERSION_MAX: i16 = 5;
    const FLEXIBLE_FROM: i16 = 3;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        transaction_request::end_txn(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let error = ErrorCode(reader.i16("error code")?);
        let next = match version >= 5 {
            true => Some((reader.i64("producer id")?, reader.i16("producer epoch")?)),
            false => None,
        };
        reader.tags("body tags")?;
        Ok(EndTxnAnswer { error, next })
    }
}
