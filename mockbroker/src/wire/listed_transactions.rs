//! DescribeTransactions and ListTransactions: what they ask and say, over the generated messages.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//! 2. Rows leave in the order in which the handler gave them.
//!
//! *Source* the schemas of apache/kafka 4.3.1; KIP-664, KIP-994, KIP-1152.

use bytes::BytesMut;
use kafka_protocol::messages as kp;

use super::reply::{Encoded, name, put, text};
use crate::error_code::ErrorCode;

/// ListTransactions; what is empty filters nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTransactions {
    /// Names of states.
    pub states: Vec<String>,
    /// Producer ids.
    pub producer_ids: Vec<i64>,
    /// For how many milliseconds they must be open, at least; below 0 for any time. From v1.
    pub duration_ms: i64,
    /// What the whole id must look like. From v2.
    pub pattern: Option<String>,
}

/// The answer to ListTransactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransactions {
    /// The outcome.
    pub error: ErrorCode,
    /// Names that are of no state.
    pub unknown_states: Vec<String>,
    /// The transactions.
    pub rows: Vec<ListedTransaction>,
}

/// A row of [`ListedTransactions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub id: String,
    /// The producer's id.
    pub producer_id: i64,
    /// The name of its state.
    pub state: &'static str,
}

/// A row of DescribeTransactions; all but the first two are zero and empty on errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedTransaction {
    /// The outcome.
    pub error: ErrorCode,
    /// The transactional id.
    pub id: String,
    /// The name of its state.
    pub state: &'static str,
    /// How long it may be open.
    pub timeout_ms: i32,
    /// Since when it is open, in milliseconds since 1970; -1 when it is not.
    pub started_at_ms: i64,
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Topics with the partitions that are part of it.
    pub topics: Vec<(String, Vec<i32>)>,
}

pub(super) fn list(message: kp::ListTransactionsRequest) -> ListTransactions {
    let states = message.state_filters.iter();
    let producer_ids = message.producer_id_filters.iter();
    ListTransactions {
        states: states.map(ToString::to_string).collect(),
        producer_ids: producer_ids.map(|id| id.0).collect(),
        duration_ms: message.duration_filter,
        pattern: message
            .transactional_id_pattern
            .map(|text| text.to_string()),
    }
}

pub(super) fn describe(message: kp::DescribeTransactionsRequest) -> Vec<String> {
    let ids = message.transactional_ids.iter();
    ids.map(|id| id.to_string()).collect()
}

pub(super) fn encode_listed(
    body: &ListedTransactions,
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::list_transactions_response::TransactionState;
    let rows = body.rows.iter().map(|row| {
        TransactionState::default()
            .with_transactional_id(kp::TransactionalId(text(&row.id)))
            .with_producer_id(kp::ProducerId(row.producer_id))
            .with_transaction_state(text(row.state))
    });
    let unknown = body.unknown_states.iter().map(|state| text(state));
    let message = kp::ListTransactionsResponse::default()
        .with_error_code(body.error.0)
        .with_unknown_state_filters(unknown.collect())
        .with_transaction_states(rows.collect());
    put(&message, version, frame)
}

pub(super) fn encode_described(
    rows: &[DescribedTransaction],
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::describe_transactions_response::{TopicData, TransactionState};
    let rows = rows.iter().map(|row| {
        let topics = row.topics.iter().map(|(topic, partitions)| {
            TopicData::default()
                .with_topic(name(topic))
                .with_partitions(partitions.clone())
        });
        TransactionState::default()
            .with_error_code(row.error.0)
            .with_transactional_id(kp::TransactionalId(text(&row.id)))
            .with_transaction_state(text(row.state))
            .with_transaction_timeout_ms(row.timeout_ms)
            .with_transaction_start_time_ms(row.started_at_ms)
            .with_producer_id(kp::ProducerId(row.producer_id))
            .with_producer_epoch(row.producer_epoch)
            .with_topics(topics.collect())
    });
    let message =
        kp::DescribeTransactionsResponse::default().with_transaction_states(rows.collect());
    put(&message, version, frame)
}

/// A reply with every field filled, for tests of this and other files.
#[cfg(test)]
pub(super) fn everything_listed(error: ErrorCode) -> ListedTransactions {
    ListedTransactions {
        error,
        unknown_states: vec!["Open".into()],
        rows: vec![ListedTransaction {
            id: "id".into(),
            producer_id: 4_000,
            state: "Ongoing",
        }],
    }
}

/// The same for DescribeTransactions.
#[cfg(test)]
pub(super) fn everything_described(error: ErrorCode) -> Vec<DescribedTransaction> {
    vec![DescribedTransaction {
        error,
        id: "id".into(),
        state: "Ongoing",
        timeout_ms: 60_000,
        started_at_ms: 5,
        producer_id: 4_000,
        producer_epoch: 1,
        topics: vec![("orders".into(), vec![3])],
    }]
}
