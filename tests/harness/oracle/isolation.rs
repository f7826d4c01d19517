//! Who sees what of transactions, and when; and that a newer process fences the older.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Case, Law, Named, Verdict};
use crate::history::transactions::Instance;
use crate::history::{Partition, Read, Seen, SendOp};

pub(super) fn nothing_counts_before_its_commit(case: &Case<'_>, verdict: &mut Verdict) {
    for read in stable_reads(case) {
        let send = case.senders.get(&read.value);
        let Some(number) = send.and_then(|send| send.transaction) else {
            continue;
        };
        let transaction = &case.history.transactions.all[number];
        if transaction.commit_asked_at.is_none_or(|at| at > read.at) {
            let says = format!("{read:?} of transaction {number}: {transaction:?}");
            verdict.witness(Law::T4NotBeforeCommit, says);
        }
    }
    for (number, transaction) in case.transactions() {
        for value in &transaction.reads {
            if case.writer(value) == Some(number) {
                let says = format!("transaction {number} read {value:?}, which it wrote");
                verdict.witness(Law::T4NotBeforeCommit, says);
            }
        }
    }
}

/// No transaction has read what depends on itself: among those that are left, one is left that
/// read of none of them.
pub(super) fn nobody_reads_in_a_circle(case: &Case<'_>, verdict: &mut Verdict) {
    let mut reads: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (number, transaction) in case.transactions() {
        let writers = transaction.reads.iter().filter_map(|one| case.writer(one));
        reads.insert(number, writers.filter(|writer| *writer != number).collect());
    }
    loop {
        let of_none = |read: &BTreeSet<usize>| read.iter().all(|one| !reads.contains_key(one));
        let ready = reads.iter().filter(|(_, read)| of_none(read));
        let ready: Vec<usize> = ready.map(|(number, _)| *number).collect();
        if ready.is_empty() {
            break;
        }
        for number in ready {
            reads.remove(&number);
        }
    }
    if !reads.is_empty() {
        verdict.witness(Law::T5NoCircle, format!("who read of whom: {reads:?}"));
    }
}

/// Pairs of processes under one id of which the first had begun before the second did: those that
/// began at the same time may have come in either order.
fn successions<'a>(case: &Case<'a>) -> Vec<(&'a Instance, &'a Instance)> {
    let instances = &case.history.transactions.instances;
    let mut pairs = Vec::new();
    for older in instances {
        let followed = |newer: &&Instance| {
            let before = older.initialised_at.is_some_and(|at| at <= newer.asked_at);
            older.id == newer.id && older.producer != newer.producer && before
        };
        pairs.extend(instances.iter().filter(followed).map(|one| (older, one)));
    }
    pairs
}

pub(super) fn the_newer_fences_the_older(case: &Case<'_>, verdict: &mut Verdict) {
    for (older, newer) in successions(case) {
        let Some(fenced_at) = newer.initialised_at else {
            continue;
        };
        let late = |send: &&SendOp| send.producer == older.producer && send.at > fenced_at;
        let late = case.history.sends.iter().filter(late);
        for send in late.filter(|send| case.counts(send)) {
            let says = format!("{} counts, sent by {older:?} after {newer:?}", Named(send));
            verdict.witness(Law::T6Fenced, says);
        }
    }
}

pub(super) fn the_older_comes_first(case: &Case<'_>, verdict: &mut Verdict) {
    let places = |producer: u32| {
        let own = move |send: &&SendOp| send.producer == producer && send.transaction.is_some();
        let own = case.history.sends.iter().filter(own);
        let mut places: BTreeMap<&Partition, Vec<i64>> = BTreeMap::new();
        for send in own.filter(|send| case.counts(send)) {
            for (partition, offset) in case.places_of(send) {
                places.entry(partition).or_default().push(*offset);
            }
        }
        places
    };
    for (older, newer) in successions(case) {
        let after = places(newer.producer);
        for (partition, offsets) in places(older.producer) {
            let last = offsets.iter().max();
            let first = after
                .get(partition)
                .and_then(|offsets| offsets.iter().min());
            if first.is_some_and(|first| Some(first) < last) {
                let says = format!(
                    "{partition}: {newer:?} stands at {first:?}, {older:?} still at {last:?}"
                );
                verdict.witness(Law::O5InstanceOrder, says);
            }
        }
    }
}

/// What a consumer was given on the way is what the records and markers of the log say in the end.
pub(super) fn readers_get_what_counts(case: &Case<'_>, verdict: &mut Verdict) {
    let mut given: BTreeMap<&Partition, BTreeSet<(i64, &Bytes)>> = BTreeMap::new();
    for read in stable_reads(case) {
        let to = given.entry(&read.partition).or_default();
        to.insert((read.offset, &read.value));
    }
    for (partition, end) in &case.history.transactions.ends {
        let counts = case.visible.get(partition).into_iter().flatten();
        let counts = counts.filter(|entry| entry.offset < end.last_stable_offset);
        let counts: BTreeSet<_> = counts
            .map(|entry| (entry.offset, &entry.content.value))
            .collect();
        let given = given.remove(partition).unwrap_or_default();
        if let Some(differs) = counts.symmetric_difference(&given).next() {
            let says = format!("{partition}: {differs:?} was given or counts, not both");
            verdict.witness(Law::C1ReaderHonest, says);
        }
    }
}

fn stable_reads<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a Read> + use<'a> {
    let reads = case.history.reads.iter();
    reads.filter(|read| read.seen == Seen::Stable)
}
