//! ListTransactions (key 66), versions 0 to 2 (KIP-664).
//!
//! | Version | |
//! |---|---|
//! | 1 | only what is open for longer than a time (KIP-994) |
//! | 2 | only ids that look like a pattern as a whole (KIP-1152) |
//!
//! *Invariants*
//! 1. A broker tells only of what it coordinates.
//!
//! *Source* apache/kafka `core/…/coordinator/transaction/TransactionStateManager.scala`
//! listTransactionStates; observed on 4.3.1: what is not open passes every time, an empty pattern
//! is none.
//!
//! *Deviations* ids come in their order, where Kafka has a hash order; a pattern follows the syntax
//! of `regex-lite` without Unicode classes, where Kafka's follows RE2.

use regex_lite::{Regex, RegexBuilder};

use super::Context;
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::engine::txn_coordinator::Transaction;
use crate::engine::txn_state::TxnState;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::AdminReply;
use crate::wire::listed_transactions::{ListTransactions, ListedTransaction, ListedTransactions};

/// What a pattern may take when it is compiled: some thousands of characters.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Answers with the transactions that pass all filters.
#[must_use]
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &ListTransactions,
    now: Instant,
) -> AdminReply {
    let named = |name: &String| TxnState::ALL.into_iter().find(|state| state.name() == name);
    let unknown = request.states.iter().filter(|name| named(name).is_none());
    let unknown = unknown.cloned().collect();
    let (error, unknown_states, rows) = match rows(cluster, context, request, now) {
        Ok(rows) => (ErrorCode::NONE, unknown, rows),
        Err(error) => (error, Vec::new(), Vec::new()),
    };
    AdminReply::ListTransactions(ListedTransactions {
        error: context.injection.overwriting().unwrap_or(error),
        unknown_states,
        rows,
    })
}

fn rows(
    cluster: &mut Cluster,
    context: &Context,
    request: &ListTransactions,
    now: Instant,
) -> Result<Vec<ListedTransaction>, ErrorCode> {
    if let Some(code) = context.injection.refusal() {
        return Err(code);
    }
    let pattern = pattern(request.pattern.as_deref().unwrap_or_default())?;
    let now_ms = cluster.wall_clock_ms(now);
    let coordinated = cluster.transactions_of(context.broker, now);
    let passes = |(id, transaction): &(&str, &Transaction)| {
        filters(request, transaction, now_ms)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    };
    let told = coordinated.filter(passes);
    let told = told.map(|(id, transaction)| ListedTransaction {
        id: id.into(),
        producer_id: transaction.producer_id,
        state: transaction.state.name(),
    });
    Ok(told.collect())
}

fn filters(request: &ListTransactions, transaction: &Transaction, now_ms: i64) -> bool {
    let ListTransactions {
        states,
        producer_ids,
        duration_ms,
        ..
    } = request;
    let name = transaction.state.name();
    // What is not open counts as open since before 1970.
    let open_ms = now_ms.saturating_sub(transaction.started_at_ms);
    (states.is_empty() || states.iter().any(|state| state == name))
        && (producer_ids.is_empty() || producer_ids.contains(&transaction.producer_id))
        && (*duration_ms < 0 || open_ms > *duration_ms)
}

fn pattern(text: &str) -> Result<Option<Regex>, ErrorCode> {
    if text.is_empty() {
        return Ok(None);
    }
    let compiled = |text: &str| {
        let pattern = RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        pattern.map_err(|_| ErrorCode::INVALID_REGULAR_EXPRESSION)
    };
    // By itself first: one that closes a group it did not open would fit into the whole.
    compiled(text)?;
    compiled(&format!("^(?:{text})$")).map(Some)
}
