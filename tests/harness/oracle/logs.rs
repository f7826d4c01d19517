//! What stands in the logs: durable, true, single, and as it was sent.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Case, Law, Named, Verdict, entries, is_unknown};
use crate::history::{Ending, Partition, Read, Seen, SendOp};

pub(super) fn acked_is_durable(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        if matches!(send.ending(), Some(Ending::Written(_))) && case.places_of(send).is_empty() {
            verdict.witness(Law::D1AckedDurable, format!("{} is in no log", Named(send)));
        }
    }
}

pub(super) fn told_offset_is_true(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let Some(offset) = send.told_offset() else {
            continue;
        };
        let found = case.value_at(&send.partition, offset);
        if found != Some(&send.content.value) {
            verdict.witness(
                Law::D2OffsetTruth,
                format!("{}, there stands {found:?}", Named(send)),
            );
        }
    }
}

pub(super) fn copy_is_single(case: &Case<'_>, verdict: &mut Verdict) {
    let settled = |send: &&SendOp| !is_unknown(send);
    for send in case.history.sends.iter().filter(settled) {
        count_copies(case, send, Law::D3SingleCopy, verdict);
    }
}

pub(super) fn unknown_is_there_once(case: &Case<'_>, verdict: &mut Verdict) {
    for send in case.history.sends.iter().filter(|send| is_unknown(send)) {
        count_copies(case, send, Law::D6UnknownOnce, verdict);
    }
}

fn count_copies(case: &Case<'_>, send: &SendOp, law: Law, verdict: &mut Verdict) {
    let places = case.places_of(send);
    if places.len() > 1 {
        verdict.witness(law, format!("{} stands at {places:?}", Named(send)));
    }
}

pub(super) fn nothing_is_made_up(case: &Case<'_>, verdict: &mut Verdict) {
    for (partition, entry) in entries(case.history) {
        let send = case.senders.get(&entry.content.value);
        let sent =
            send.is_some_and(|send| send.partition == *partition && send.content == entry.content);
        if !sent {
            let sent = send.map(|send| (&send.partition, &send.content));
            verdict.witness(
                Law::D4NoPhantom,
                format!("{partition:?} holds {entry:?}, sent was {sent:?}"),
            );
        }
    }
}

pub(super) fn failure_is_absent(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let places = case.places_of(send);
        if matches!(send.ending(), Some(Ending::NotWritten(_))) && !places.is_empty() {
            verdict.witness(
                Law::D5FailureAbsent,
                format!("{} stands at {places:?}", Named(send)),
            );
        }
    }
}

pub(super) fn offsets_follow_one_another(case: &Case<'_>, verdict: &mut Verdict) {
    for (partition, log) in &case.history.logs {
        let markers = case.history.transactions.markers.get(partition);
        let markers = markers.into_iter().flatten().map(|marker| marker.offset);
        let mut offsets: Vec<i64> = log.iter().map(|entry| entry.offset).collect();
        offsets.extend(markers);
        offsets.sort_unstable();
        for pair in offsets.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            if later != earlier + 1 {
                verdict.witness(
                    Law::D8Contiguity,
                    format!("{partition:?}: after offset {earlier} comes {later}"),
                );
            }
        }
    }
}

pub(super) fn what_was_read_stays(case: &Case<'_>, verdict: &mut Verdict) {
    let mut first: BTreeMap<(&Partition, i64), &Bytes> = BTreeMap::new();
    let committed = |read: &&Read| matches!(read.seen, Seen::Committed | Seen::Stable);
    for read in case.history.reads.iter().filter(committed) {
        let place = (&read.partition, read.offset);
        let seen = *first.entry(place).or_insert(&read.value);
        let stands = case.value_at(&read.partition, read.offset);
        if *seen != read.value || stands != Some(&read.value) {
            verdict.witness(
                Law::D7StableLog,
                format!("{read:?}, first seen was {seen:?}, there stands {stands:?}"),
            );
        }
    }
}

pub(super) fn what_lies_before_stays(case: &Case<'_>, verdict: &mut Verdict) {
    let below = |read: &&Read| read.seen == Seen::BelowAcknowledged;
    for read in case.history.reads.iter().filter(below) {
        let stands = case.value_at(&read.partition, read.offset);
        if stands != Some(&read.value) {
            verdict.witness(
                Law::D9PrefixDurable,
                format!("{read:?}, there stands {stands:?}"),
            );
        }
    }
}

pub(super) fn enough_hold_what_is_visible(case: &Case<'_>, verdict: &mut Verdict) {
    for visible in &case.history.visible {
        if visible.holders < visible.holders_min {
            verdict.witness(Law::D10VisibleHeld, format!("{visible:?}"));
        }
    }
}
