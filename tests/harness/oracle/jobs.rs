//! What is promised to jobs that are made of transactions: a copy is complete and single, what a
//! group has read counts with what was made of it, and no money is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Case, Law, Verdict};
use crate::history::Partition;
use crate::history::transactions::{GroupOffset, OffsetSeen, TransactionOp, TransactionOutcome};

pub(super) fn offsets_count_with_their_transaction(case: &Case<'_>, verdict: &mut Verdict) {
    let counting = case.transactions().filter(|(number, one)| {
        let told = one.outcome == TransactionOutcome::Committed;
        told || case.sends_of(*number).any(|send| case.counts(send))
    });
    let counting: Vec<&TransactionOp> = counting.map(|(_, one)| one).collect();
    let seen = &case.history.transactions.offsets_seen;
    for one in seen.iter().filter(|one| one.offset.offset > 0) {
        let asked = counting
            .iter()
            .filter(|of| of.offsets.contains(&one.offset));
        let mut asked = asked.filter_map(|of| of.commit_asked_at);
        if !asked.any(|at| at <= one.at) {
            let says = format!("{one:?} is of no transaction that counts");
            verdict.witness(Law::T7OffsetsAtomic, says);
        }
    }
    for last in last_seen(seen).into_values() {
        let committed = counting.iter().flat_map(|of| &of.offsets);
        let committed = committed.filter(|of| is_same_place(of, &last.offset));
        let highest = committed.map(|of| of.offset).max().unwrap_or_default();
        if last.offset.offset < highest {
            let says = format!("{last:?} in the end, a transaction that counts has {highest}");
            verdict.witness(Law::T7OffsetsAtomic, says);
        }
    }
}

fn is_same_place(one: &GroupOffset, other: &GroupOffset) -> bool {
    (&one.group, &one.partition) == (&other.group, &other.partition)
}

fn last_seen(seen: &[OffsetSeen]) -> BTreeMap<(&Arc<str>, &Partition), &OffsetSeen> {
    let mut last: BTreeMap<(&Arc<str>, &Partition), &OffsetSeen> = BTreeMap::new();
    for one in seen {
        let key = (&one.offset.group, &one.offset.partition);
        let newest = last.entry(key).or_insert(one);
        if newest.at <= one.at {
            *newest = one;
        }
    }
    last
}

pub(super) fn a_copy_is_equal(case: &Case<'_>, verdict: &mut Verdict) {
    let transactions = &case.history.transactions;
    let Some(copying) = &transactions.copying else {
        return;
    };
    let last = last_seen(&transactions.offsets_seen);
    let inputs = case.history.logs.keys();
    for input in inputs.filter(|one| one.topic == copying.from) {
        let read_to = last.get(&(&copying.group, input));
        let read_to = read_to.map_or(0, |seen| seen.offset.offset);
        let originals = case.visible.get(input).into_iter().flatten();
        let originals = originals.filter(|entry| entry.offset < read_to);
        let originals: Vec<_> = originals.map(|entry| Some(&entry.content.value)).collect();
        let output = Partition {
            topic: Arc::clone(&copying.to),
            number: input.number,
        };
        let copies = case.visible.get(&output).into_iter().flatten();
        let copies: Vec<_> = copies.map(|entry| entry.content.key.as_ref()).collect();
        if copies != originals {
            let says = format!("read to {read_to} of {input} is {originals:?}, copied {copies:?}");
            verdict.witness(Law::T8CopyEqual, says);
        }
    }
}

pub(super) fn sums_stay(case: &Case<'_>, verdict: &mut Verdict) {
    let sums = &case.history.transactions.sums;
    for sum in sums.iter().filter(|sum| sum.found != sum.right) {
        verdict.witness(Law::B1SumConstant, format!("{sum:?}"));
    }
}
