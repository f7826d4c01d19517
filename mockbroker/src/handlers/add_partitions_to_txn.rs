//! AddPartitionsToTxn (key 24), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 2 | fencing is told with 90, before with 47 |
//! | 3 | flexible |
//! | 4 | several transactions, of which some may only be asked about (KIP-890); for brokers |
//!
//! *State* of the partitions of a transaction:
//!
//! ```text
//!        internal: 29, unknown: 3          the coordinator
//! asked ─┬───────────────────────▶ all others 55: nothing joins
//!        └──────────────────────────────▶ one code for all, or one each if only asked about
//! ```
//!
//! *Invariants*
//! 1. Partitions join all or none.
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleAddPartitionsToTxnRequest; observed
//! on 4.3.1.

use std::collections::BTreeSet;

use super::hosting;
use super::txn_codes::fencing_as_told;
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::producer_state::EpochBump;
use crate::engine::time::Instant;
use crate::engine::topology::{PartitionKey, is_internal};
use crate::engine::transactions::Join;
use crate::engine::txn_coordinator::Identity;
use crate::engine::txn_coordinator::TxnCoordinator;
use crate::error_code::ErrorCode;
use crate::wire::reply::Reply;
use crate::wire::transactions::{
    AddPartitionsToTxn, AddedPartitions, JoinMode, JoinedTopic, JoiningTransaction, TxnReply,
};

/// Lets partitions join, or tells whether they have.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &AddPartitionsToTxn,
    now: Instant,
) -> Answer {
    let mut transactions = Vec::new();
    for joining in &request.transactions {
        match join(cluster, context, joining, now) {
            Ok(topics) => transactions.push((joining.id.clone(), topics)),
            Err(error) => {
                transactions.clear();
                let whole = AddedPartitions {
                    error,
                    transactions,
                };
                return Answer::Reply(Reply::Txn(TxnReply::AddPartitionsToTxn(whole)));
            }
        }
    }
    Answer::Reply(Reply::Txn(TxnReply::AddPartitionsToTxn(AddedPartitions {
        error: ErrorCode::NONE,
        transactions,
    })))
}

/// A partition that is named, and what speaks against it.
type Named = Result<PartitionKey, ErrorCode>;

fn join(
    cluster: &mut Cluster,
    context: &Context,
    joining: &JoiningTransaction,
    now: Instant,
) -> Result<Vec<JoinedTopic>, ErrorCode> {
    let named: Vec<(&String, Vec<(i32, Named)>)> = joining
        .topics
        .iter()
        .filter(|(_, indexes)| !indexes.is_empty())
        .map(|(topic, indexes)| {
            let rows = indexes
                .iter()
                .map(|index| (*index, name(cluster, context, topic, *index)));
            (topic, rows.collect())
        })
        .collect();
    let rows = || named.iter().flat_map(|(_, rows)| rows);
    let outcome: Result<Vec<Result<(), ErrorCode>>, ErrorCode> =
        if rows().any(|(_, named)| named.is_err()) {
            Err(ErrorCode::OPERATION_NOT_ATTEMPTED)
        } else {
            let keys: Vec<PartitionKey> = rows().filter_map(|(_, named)| named.ok()).collect();
            ask(cluster, context, joining, &keys, now)
        };
    let mut outcomes = match outcome {
        Ok(each) => each,
        // What cannot be written is an error of the whole request (observed).
        Err(code @ ErrorCode::UNSUPPORTED_VERSION) => return Err(code),
        Err(code) => rows().map(|_| Err(code)).collect(),
    }
    .into_iter();
    let told = |topic: &str, (index, named): (i32, Named), outcome: Result<(), ErrorCode>| {
        let code = named.err().or(outcome.err()).unwrap_or_default();
        let overwriting = context.injection.partition_overwriting(topic, index);
        (index, overwriting.unwrap_or(code))
    };
    let topics = named.iter().map(|(topic, rows)| {
        let rows = rows
            .iter()
            .map(|row| told(topic, *row, outcomes.next().unwrap_or(Ok(()))));
        ((*topic).clone(), rows.collect())
    });
    Ok(topics.collect())
}

/// What speaks against a partition before its coordinator is asked.
fn name(cluster: &Cluster, context: &Context, topic: &str, index: i32) -> Named {
    if let Some(code) = context.injection.partition_refusal(topic, index) {
        return Err(code);
    }
    if is_internal(topic) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    hosting::key(cluster, context, topic, index)
}

/// What the coordinator says: one outcome for each partition.
fn ask(
    cluster: &mut Cluster,
    context: &Context,
    joining: &JoiningTransaction,
    keys: &[PartitionKey],
    now: Instant,
) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
    if joining.id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    cluster.check_coordinator(context.broker, &joining.id, now)?;
    let producer = Identity {
        id: joining.producer_id,
        epoch: joining.producer_epoch,
    };
    let version = context.header.version;
    let as_told = |code| fencing_as_told(code, version >= 2);
    match joining.mode {
        JoinMode::Add => {
            let partitions: BTreeSet<PartitionKey> = keys.iter().copied().collect();
            let join = Join {
                id: &joining.id,
                producer,
                partitions: &partitions,
                client: match version {
                    ..4 => EpochBump::Never,
                    _ => EpochBump::EachTransaction,
                },
            };
            cluster.join_transaction(&join, now).map_err(as_told)?;
            Ok(keys.iter().map(|_| Ok(())).collect())
        }
        JoinMode::VerifyOnly => {
            let known = cluster.transaction(&joining.id, now);
            let each = keys
                .iter()
                .map(|key| TxnCoordinator::verify(known, producer, *key).map_err(as_told));
            Ok(each.collect())
        }
    }
}
