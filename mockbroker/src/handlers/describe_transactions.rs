//! DescribeTransactions (key 65), version 0 (KIP-664).
//!
//! *Source* apache/kafka `core/…/coordinator/transaction/TransactionCoordinator.scala`
//! handleDescribeTransactions; observed on 4.3.1: an id that is asked for twice has two rows.

use std::collections::BTreeMap;

use super::answer_room::{AnswerRoom, Full, ROW_BYTES};
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::engine::txn_coordinator::Transaction;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::AdminReply;
use crate::wire::listed_transactions::DescribedTransaction;
use crate::wire::reply::Reply;

/// Answers with what each transaction is, one row an id.
pub fn handle(cluster: &mut Cluster, context: &Context, ids: &[String], now: Instant) -> Answer {
    let mut room = AnswerRoom::new();
    let rows = ids.iter().map(|id| {
        let row = match find(cluster, context, id, now) {
            Ok(transaction) => told(cluster, id, &transaction),
            Err(error) => DescribedTransaction {
                error,
                id: id.clone(),
                ..DescribedTransaction::default()
            },
        };
        let topics = row.topics.iter();
        let topics = topics.map(|(name, of)| ROW_BYTES + name.len() + size_of_val(of.as_slice()));
        room.take(topics.fold(0, usize::saturating_add))?;
        Ok(DescribedTransaction {
            error: context.injection.overwriting().unwrap_or(row.error),
            ..row
        })
    });
    let rows: Result<Vec<_>, Full> = rows.collect();
    match rows {
        Ok(rows) => Answer::Reply(Reply::Admin(AdminReply::DescribeTransactions(rows))),
        Err(full) => full.answer(cluster, context),
    }
}

fn find(
    cluster: &mut Cluster,
    context: &Context,
    id: &str,
    now: Instant,
) -> Result<Transaction, ErrorCode> {
    if let Some(code) = context.injection.refusal() {
        return Err(code);
    }
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    cluster.check_coordinator(context.broker, id, now)?;
    let known = cluster.transaction(id, now).cloned();
    known.ok_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)
}

fn told(cluster: &Cluster, id: &str, transaction: &Transaction) -> DescribedTransaction {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for key in &transaction.partitions {
        if let Some(topic) = cluster.topology().topic(key.topic) {
            let partitions = topics.entry(topic.name.to_string()).or_default();
            partitions.push(key.partition);
        }
    }
    DescribedTransaction {
        error: ErrorCode::NONE,
        id: id.into(),
        state: transaction.state.name(),
        timeout_ms: transaction.timeout_ms,
        started_at_ms: transaction.started_at_ms,
        producer_id: transaction.producer_id,
        producer_epoch: transaction.epoch,
        topics: topics.into_iter().collect(),
    }
}
