//! What comes before what: in the logs, in answers, around flushes; and where a key belongs.

use std::collections::BTreeMap;

use super::{Case, Law, Named, Verdict, is_unknown};
use crate::history::{FlushReturn, Partition, Placed, SendOp};

pub(super) fn logs_keep_send_order(case: &Case<'_>, verdict: &mut Verdict) {
    // Without idempotence a record that was given up may arrive behind later ones after all.
    let idempotent = case.history.promises.idempotent;
    let stands = |send| {
        let judged = idempotent || !is_unknown(send);
        let place = case.places_of(send).first().filter(|_| judged);
        place.map(|(_, offset)| *offset)
    };
    for [(first, first_at), (second, second_at)] in case.neighbours(stands) {
        if first_at >= second_at {
            verdict.witness(
                Law::O1SendOrder,
                format!(
                    "{} stands at {first_at}, {} at {second_at}",
                    Named(first),
                    Named(second)
                ),
            );
        }
    }
}

pub(super) fn told_offsets_grow(case: &Case<'_>, verdict: &mut Verdict) {
    for [(first, first_at), (second, second_at)] in case.neighbours(SendOp::told_offset) {
        if first_at >= second_at {
            verdict.witness(
                Law::O2AckOrder,
                format!("{} before {}", Named(first), Named(second)),
            );
        }
    }
}

pub(super) fn sends_end_in_order(case: &Case<'_>, verdict: &mut Verdict) {
    let ended = |send: &SendOp| send.resolutions.first().map(|resolution| resolution.order);
    for [(first, first_order), (second, second_order)] in case.neighbours(ended) {
        if first_order > second_order {
            verdict.witness(
                Law::O3CompletionOrder,
                format!("{} ended after {}", Named(first), Named(second)),
            );
        }
    }
}

pub(super) fn flushes_are_barriers(case: &Case<'_>, verdict: &mut Verdict) {
    for flush in &case.history.flushes {
        let Some(returned) = flush.returned else {
            continue;
        };
        for (partition, sides) in sides_of(flush.producer, returned, case) {
            if let (Some(last), Some(first)) = (sides.last_before, sides.first_after)
                && first <= last
            {
                verdict.witness(
                    Law::O4BarrierOrder,
                    format!(
                        "{flush:?}: in {partition} an earlier record stands at {last}, \
                         a later one at {first}"
                    ),
                );
            }
        }
    }
}

/// Where a partition's records stand that belong before and behind a flush.
#[derive(Clone, Copy, Default)]
struct Sides {
    last_before: Option<i64>,
    first_after: Option<i64>,
}

fn sides_of<'a>(
    producer: u32,
    returned: FlushReturn,
    case: &Case<'a>,
) -> BTreeMap<&'a Partition, Sides> {
    // Without idempotence only an answer of the broker says that a record has its place.
    let idempotent = case.history.promises.idempotent;
    let mut sides: BTreeMap<&Partition, Sides> = BTreeMap::new();
    for (number, send) in case.history.sends.iter().enumerate() {
        let judged = send.producer == producer && (idempotent || !is_unknown(send));
        let Some((_, place)) = case.places_of(send).first().filter(|_| judged) else {
            continue;
        };
        let sides = sides.entry(&send.partition).or_default();
        let ended = send.resolutions.first().map(|one| one.order);
        let has_place = idempotent || send.told_offset().is_some();
        if has_place && ended.is_some_and(|order| order < returned.resolved_before) {
            sides.last_before = sides.last_before.max(Some(*place));
        }
        if number >= returned.accepted_before {
            let first = sides.first_after.map_or(*place, |first| first.min(*place));
            sides.first_after = Some(first);
        }
    }
    sides
}

pub(super) fn keys_have_their_partition(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let (Placed::ByKey { partitions }, Some(key)) = (send.placed, &send.content.key) else {
            continue;
        };
        let belongs = reference_partition(key, partitions);
        if send.partition.number != belongs {
            verdict.witness(
                Law::O6KeyPlacement,
                format!("{} has the key {key:?} of partition {belongs}", Named(send)),
            );
        }
    }
}

/// Where Kafka's own producer sends a key: murmur2, as its `Utils` and `BuiltInPartitioner` have.
fn reference_partition(key: &[u8], partitions: i32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let words = key.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut k = word
            .iter()
            .rev()
            .fold(0, |k, byte| (k << 8) | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0, |k, byte| (k << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from(hash & 0x7fff_ffff).unwrap_or_default() % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_agrees_with_vectors_of_kafka() {
        // Hashes of UtilsTest.testMurmur2.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
        ] {
            let positive: i32 = hash & i32::MAX;
            assert_eq!(
                reference_partition(key.as_bytes(), i32::MAX),
                positive % i32::MAX,
                "{key}"
            );
        }
    }
}
