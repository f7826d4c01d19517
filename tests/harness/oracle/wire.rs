//! What passes on the wire: sequences and epochs, and where and when requests go.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::{Case, Law, Verdict};
use crate::capture::contents;
use crate::history::{Partition, Passed, WireBatch, WireEvent};

/// The batches of one producer id, epoch and partition, in the order of their first leaving.
type WireLine<'a> = Vec<&'a WireBatch>;

fn wire_lines<'a>(case: &Case<'a>) -> Vec<WireLine<'a>> {
    let mut lines: BTreeMap<_, WireLine<'a>> = BTreeMap::new();
    for batch in &case.history.wire {
        let line = (batch.producer_id, batch.epoch, &batch.partition);
        lines.entry(line).or_default().push(batch);
    }
    lines.into_values().collect()
}

/// Sequences of a batch on a line without wrap.
fn sequences(batch: &WireBatch) -> Range<i64> {
    let first = i64::from(batch.base_sequence);
    first..first + i64::from(batch.record_count)
}

fn intersects(first: &WireBatch, second: &WireBatch) -> bool {
    let (first, second) = (sequences(first), sequences(second));
    first.start < second.end && second.start < first.end
}

/// The batch without the leader epoch, the one field that a retry may change.
fn lasting_bytes(batch: &WireBatch) -> (&[u8], &[u8]) {
    let bytes = batch.bytes.as_ref();
    let (epoch_start, epoch_end) = (12.min(bytes.len()), 16.min(bytes.len()));
    (&bytes[..epoch_start], &bytes[epoch_end..])
}

/// Whether a batch holds some of the records of a larger one under the sequences they had there:
/// what is sent of a batch that its broker refused as too large.
fn is_part(part: &WireBatch, whole: &WireBatch) -> bool {
    let (range, around) = (sequences(part), sequences(whole));
    let inside = around.start <= range.start && range.end <= around.end;
    if !inside || part.record_count >= whole.record_count {
        return false;
    }
    let (Some(part), Some(whole)) = (contents(part), contents(whole)) else {
        return false;
    };
    let first = usize::try_from(range.start - around.start).unwrap_or(usize::MAX);
    whole
        .get(first..)
        .is_some_and(|rest| rest.starts_with(&part))
}

pub(super) fn sequences_are_unique(case: &Case<'_>, verdict: &mut Verdict) {
    for line in wire_lines(case) {
        let mut seen: Vec<&WireBatch> = Vec::new();
        for batch in line {
            let same = |earlier: &&WireBatch| lasting_bytes(earlier) == lasting_bytes(batch);
            if seen.iter().any(same) {
                continue;
            }
            let differs =
                |earlier: &&&WireBatch| intersects(earlier, batch) && !is_part(batch, earlier);
            match seen.iter().find(differs) {
                None => seen.push(batch),
                Some(earlier) => verdict.witness(
                    Law::Q1SequenceUnique,
                    format!("{earlier:?} and {batch:?} share sequences and differ"),
                ),
            }
        }
    }
}

pub(super) fn sequences_continue(case: &Case<'_>, verdict: &mut Verdict) {
    const WRAP: i64 = 1 << 31;
    for line in wire_lines(case) {
        parts_keep_their_sequences(&line, verdict);
        let mut seen: Vec<&WireBatch> = Vec::new();
        let mut next = 0;
        for batch in line {
            if seen.iter().any(|earlier| intersects(earlier, batch)) {
                continue; // sent again: Q1 judges it
            }
            if sequences(batch).start != next {
                verdict.witness(
                    Law::Q2SequenceContinuous,
                    format!("{batch:?} starts elsewhere than at {next}"),
                );
            }
            next = sequences(batch).end % WRAP;
            seen.push(batch);
        }
    }
}

/// Where a batch was split, each record has the sequence that it had in the whole.
fn parts_keep_their_sequences(line: &WireLine<'_>, verdict: &mut Verdict) {
    let is_split = line.iter().enumerate().any(|(at, batch)| {
        let earlier = line[..at].iter();
        let mut others = earlier.filter(|earlier| sequences(earlier) != sequences(batch));
        others.any(|earlier| intersects(earlier, batch))
    });
    if !is_split {
        return;
    }
    let mut numbers: BTreeMap<Bytes, i64> = BTreeMap::new();
    for batch in line {
        let records = contents(batch).unwrap_or_default();
        for (number, record) in (sequences(batch).start..).zip(records) {
            let first = *numbers.entry(record.value.clone()).or_insert(number);
            if first != number {
                verdict.witness(
                    Law::Q2SequenceContinuous,
                    format!("{:?} had sequence {first}, then {number}", record.value),
                );
            }
        }
    }
}

pub(super) fn epochs_never_fall(case: &Case<'_>, verdict: &mut Verdict) {
    let mut newest: BTreeMap<(u32, i64, &Partition), i16> = BTreeMap::new();
    for batch in &case.history.wire {
        let epoch = newest
            .entry((batch.producer, batch.producer_id, &batch.partition))
            .or_insert(batch.epoch);
        if batch.epoch < *epoch {
            let witness = format!("{batch:?} comes after epoch {epoch}");
            verdict.witness(Law::Q3EpochMonotone, witness);
        }
        *epoch = batch.epoch.max(*epoch);
    }
}

pub(super) fn few_requests_are_in_flight(case: &Case<'_>, verdict: &mut Verdict) {
    let (most, allowed) = (
        case.history.in_flight_most,
        case.history.promises.in_flight_max,
    );
    if most > allowed {
        let witness = format!("{most} requests were unanswered on one connection, not {allowed}");
        verdict.witness(Law::Q4InFlightBound, witness);
    }
}

pub(super) fn batches_go_to_leaders(case: &Case<'_>, verdict: &mut Verdict) {
    let mut known: BTreeMap<(u32, &Partition), (i32, Option<i32>)> = BTreeMap::new();
    for event in &case.history.events {
        match &event.what {
            Passed::Told(told) => {
                for one in &told.leaders {
                    let newest = known.entry((event.producer, &one.partition));
                    let newest = newest.or_insert((one.epoch, one.leader));
                    if one.epoch >= newest.0 || one.epoch < 0 {
                        *newest = (one.epoch, one.leader);
                    }
                }
            }
            Passed::Sent { partitions, .. } => {
                for partition in partitions {
                    let newest = known.get(&(event.producer, partition));
                    if newest.is_none_or(|(_, leader)| *leader != Some(event.broker)) {
                        verdict.witness(
                            Law::Q5Routing,
                            format!(
                                "a batch for {partition} goes to broker {} at {:?}, \
                                 the newest leader told is {newest:?}",
                                event.broker, event.at
                            ),
                        );
                    }
                }
            }
        }
    }
}

pub(super) fn throttles_are_kept(case: &Case<'_>, verdict: &mut Verdict) {
    let mut muted: BTreeMap<u64, Duration> = BTreeMap::new();
    for event in &case.history.events {
        let until = muted.entry(event.connection).or_default();
        match &event.what {
            Passed::Told(told) => *until = (event.at + told.throttle).max(*until),
            Passed::Sent { api, .. } if event.at < *until => {
                let witness = format!("{} sends API {api}, throttled until {until:?}", Who(event));
                verdict.witness(Law::Q6Mute, witness);
            }
            Passed::Sent { .. } => {}
        }
    }
}

pub(super) fn versions_are_offered(case: &Case<'_>, verdict: &mut Verdict) {
    let mut offered: BTreeMap<u64, &[(i16, i16, i16)]> = BTreeMap::new();
    for event in &case.history.events {
        match &event.what {
            Passed::Told(told) if !told.versions.is_empty() => {
                offered.insert(event.connection, &told.versions);
            }
            // ApiVersions is how they are found out.
            Passed::Sent { api, version, .. } if *api != API_VERSIONS => {
                let rows = offered.get(&event.connection).copied().unwrap_or(&[]);
                let row = rows.iter().find(|(key, _, _)| key == api);
                let is_legal = row.is_some_and(|(_, min, max)| (min..=max).contains(&version));
                if !is_legal {
                    let witness = format!("{} sends API {api} v{version} of {row:?}", Who(event));
                    verdict.witness(Law::Q7VersionLegal, witness);
                }
            }
            _ => {}
        }
    }
}

/// Whose event, as a witness names it.
struct Who<'a>(&'a WireEvent);

impl std::fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WireEvent {
            at,
            producer,
            connection,
            broker,
            ..
        } = self.0;
        write!(
            f,
            "producer {producer} on connection {connection} to broker {broker} at {at:?}"
        )
    }
}

const API_VERSIONS: i16 = 18;
