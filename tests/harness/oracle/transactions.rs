//! What becomes of transactions: all or nothing, as told, each with its markers and its epoch, and
//! none for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Law, Named, Verdict, entries};
use crate::history::transactions::{Epochs, MarkerKind, Stamp, TransactionOutcome};
use crate::history::{Ending, Partition};

pub(super) fn aborted_is_invisible(case: &Case<'_>, verdict: &mut Verdict) {
    for (number, transaction) in case.transactions() {
        if transaction.outcome == TransactionOutcome::NotCommitted {
            for send in case.sends_of(number).filter(|send| case.counts(send)) {
                let says = format!("transaction {number} was not committed: {}", Named(send));
                verdict.witness(Law::T1AbortedInvisible, says);
            }
        }
        for value in &transaction.reads {
            if !case.visible_values.contains_key(value) {
                let says = format!("transaction {number} read {value:?}, which does not count");
                verdict.witness(Law::T1AbortedInvisible, says);
            }
        }
    }
}

pub(super) fn committed_is_visible(case: &Case<'_>, verdict: &mut Verdict) {
    for (number, transaction) in case.transactions() {
        if transaction.outcome != TransactionOutcome::Committed {
            continue;
        }
        for value in &transaction.refused {
            let says = format!("transaction {number} was committed without {value:?}");
            verdict.witness(Law::T2CommittedVisible, says);
        }
        for send in case.sends_of(number) {
            let written = matches!(send.ending(), Some(Ending::Written(_)));
            let count = case.visible_values.get(&send.content.value).copied();
            if !written || count != Some(1) {
                let says = format!(
                    "transaction {number} was committed: {} counts {} times",
                    Named(send),
                    count.unwrap_or_default()
                );
                verdict.witness(Law::T2CommittedVisible, says);
            }
        }
    }
}

pub(super) fn transactions_are_atomic(case: &Case<'_>, verdict: &mut Verdict) {
    for (number, _) in case.transactions() {
        let (counting, missing): (Vec<_>, Vec<_>) =
            case.sends_of(number).partition(|send| case.counts(send));
        if let (Some(one), Some(other)) = (counting.first(), missing.first()) {
            let says = format!(
                "of transaction {number} {} count, {} do not: {}, {}",
                counting.len(),
                missing.len(),
                Named(one),
                Named(other)
            );
            verdict.witness(Law::T3Atomic, says);
        }
    }
}

pub(super) fn nothing_hangs(case: &Case<'_>, verdict: &mut Verdict) {
    for (partition, end) in &case.history.transactions.ends {
        if end.last_stable_offset != end.high_watermark {
            verdict.witness(Law::T9NothingHangs, format!("{partition}: {end:?}"));
        }
    }
    for open in &case.history.transactions.unfinished {
        verdict.witness(Law::T9NothingHangs, format!("still open: {open}"));
    }
}

pub(super) fn an_epoch_has_one_transaction(case: &Case<'_>, verdict: &mut Verdict) {
    let mut first: BTreeMap<(&Partition, Stamp), usize> = BTreeMap::new();
    for (partition, entry) in entries(case.history) {
        let sender = case.senders.get(&entry.content.value);
        let number = sender.and_then(|send| send.transaction);
        if let (Some(stamp), Some(number)) = (entry.stamp, number) {
            let earlier = *first.entry((partition, stamp)).or_insert(number);
            if earlier != number {
                let says = format!(
                    "{partition}: {stamp:?} has records of transactions {earlier} and {number}"
                );
                verdict.witness(Law::T10EpochPerTransaction, says);
            }
        }
    }
}

pub(super) fn markers_end_what_they_should(case: &Case<'_>, verdict: &mut Verdict) {
    let markers = &case.history.transactions.markers;
    for (partition, entry) in entries(case.history) {
        let Some(stamp) = entry.stamp else {
            continue;
        };
        let markers = markers.get(partition).map_or(&[][..], Vec::as_slice);
        let first = markers.partition_point(|marker| marker.offset < entry.offset);
        let mut behind = markers[first..].iter();
        if !behind.any(|marker| marker.stamp.producer_id == stamp.producer_id) {
            let says = format!("{partition}: no marker behind {entry:?}");
            verdict.witness(Law::T11MarkersSane, says);
        }
    }
    if case.history.transactions.epochs == Epochs::Shared {
        return;
    }
    let mut kinds: BTreeMap<Stamp, BTreeSet<MarkerKind>> = BTreeMap::new();
    for marker in markers.values().flatten() {
        kinds.entry(marker.stamp).or_default().insert(marker.kind);
    }
    for (stamp, _) in kinds.iter().filter(|(_, kinds)| kinds.len() > 1) {
        verdict.witness(
            Law::T11MarkersSane,
            format!("{stamp:?} was committed here and aborted there"),
        );
    }
}
