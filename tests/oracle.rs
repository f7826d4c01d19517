//! The judge is judged: an honest history passes, and for each law one history breaks it alone.

use std::time::Duration;

use bytes::Bytes;
use promises::history::{
    Content, Durability, Ending, History, LogEntry, Partition, Promises, Resolution, SendOp,
    WireBatch,
};
use promises::oracle::{Law, WITNESSES_MAX, judge};
use rstest::rstest;

type Run<'a> = &'a mut History;

fn orders() -> Partition {
    Partition {
        topic: "orders".into(),
        number: 0,
    }
}

fn content(value: &str) -> Content {
    Content {
        timestamp_ms: 7,
        key: None,
        value: Bytes::from(value.to_owned()),
        headers: vec![],
    }
}

/// Three sends `a`, `b`, `c` of one producer, all written in one batch each, all told.
fn honest() -> History {
    let values = ["a", "b", "c"];
    let send = |(order, value): (usize, &&str)| SendOp {
        producer: 1,
        partition: orders(),
        content: content(value),
        at: Duration::from_millis(order as u64),
        resolutions: vec![Resolution {
            ending: Ending::Written(Some(order as i64)),
            at: Duration::from_millis(10 + order as u64),
            order,
        }],
    };
    let entry = |(at, value): (usize, &&str)| LogEntry {
        offset: at as i64,
        content: content(value),
    };
    let batch = |(at, value): (usize, &&str)| wire_batch(at as i32, value);
    History {
        promises: Promises {
            durability: Durability::Kept,
            idempotent: true,
            ordered: true,
            in_flight_max: 2,
            resolved_within: Duration::from_secs(1),
        },
        sends: values.iter().enumerate().map(send).collect(),
        logs: [(orders(), values.iter().enumerate().map(entry).collect())].into(),
        wire: values.iter().enumerate().map(batch).collect(),
        in_flight_most: 2,
    }
}

fn wire_batch(base_sequence: i32, bytes: &str) -> WireBatch {
    WireBatch {
        partition: orders(),
        producer_id: 4000,
        epoch: 0,
        base_sequence,
        record_count: 1,
        bytes: Bytes::from(bytes.repeat(20)),
    }
}

fn log(history: &mut History) -> &mut Vec<LogEntry> {
    history.logs.entry(orders()).or_default()
}

fn end(history: &mut History, send: usize, ending: Ending) {
    history.sends[send].resolutions[0].ending = ending;
}

fn unknown() -> Ending {
    Ending::Unknown("request timed out".into())
}

#[test]
fn an_honest_history_passes_by_every_law() {
    let verdict = judge(&honest());
    assert!(
        verdict.holds() && verdict.not_judged.is_empty(),
        "{verdict}"
    );
}

#[rstest]
#[case::acked_but_lost(Law::D1AckedDurable, |h: Run<'_>| {
    end(h, 2, Ending::Written(None));
    log(h).pop();
})]
#[case::offset_of_nobody(Law::D2OffsetTruth, |h: Run<'_>| end(h, 2, Ending::Written(Some(9))))]
#[case::second_copy(Law::D3SingleCopy, |h: Run<'_>| {
    log(h).push(LogEntry { offset: 3, content: content("c") });
})]
#[case::made_up(Law::D4NoPhantom, |h: Run<'_>| {
    log(h).push(LogEntry { offset: 3, content: content("nobody's") });
})]
#[case::changed_key(Law::D4NoPhantom, |h: Run<'_>| log(h)[1].content.key = Some(Bytes::new()))]
#[case::changed_timestamp(Law::D4NoPhantom, |h: Run<'_>| log(h)[1].content.timestamp_ms += 1)]
#[case::failed_but_written(Law::D5FailureAbsent, |h: Run<'_>| {
    end(h, 1, Ending::NotWritten("delivery timed out".into()));
})]
#[case::unknown_twice(Law::D6UnknownOnce, |h: Run<'_>| {
    end(h, 2, unknown());
    log(h).push(LogEntry { offset: 3, content: content("c") });
})]
#[case::hole_in_the_log(Law::D8Contiguity, |h: Run<'_>| {
    end(h, 2, Ending::Written(Some(5)));
    log(h)[2].offset = 5;
})]
#[case::overtaken_in_the_log(Law::O1SendOrder, |h: Run<'_>| {
    end(h, 0, Ending::Written(None));
    end(h, 1, Ending::Written(None));
    log(h)[0].content = content("b");
    log(h)[1].content = content("a");
})]
#[case::told_in_another_order(Law::O2AckOrder, |h: Run<'_>| {
    // Each told offset is true, of one copy or the other: duplicates are allowed here.
    h.promises.idempotent = false;
    end(h, 0, Ending::Written(Some(3)));
    log(h).push(LogEntry { offset: 3, content: content("a") });
})]
#[case::ended_in_another_order(Law::O3CompletionOrder, |h: Run<'_>| {
    h.sends[0].resolutions[0].order = 1;
    h.sends[1].resolutions[0].order = 0;
})]
#[case::never_ended(Law::P1SingleResolution, |h: Run<'_>| h.sends[1].resolutions.clear())]
#[case::ended_twice(Law::P1SingleResolution, |h: Run<'_>| {
    let again = h.sends[2].resolutions[0].clone();
    h.sends[2].resolutions.push(again);
})]
#[case::ended_late(Law::P2Deadline, |h: Run<'_>| {
    h.sends[2].resolutions[0].at = Duration::from_secs(2);
})]
#[case::sequence_used_again(Law::Q1SequenceUnique, |h: Run<'_>| h.wire.push(wire_batch(2, "d")))]
#[case::sequence_left_out(Law::Q2SequenceContinuous, |h: Run<'_>| h.wire[2].base_sequence = 3)]
#[case::first_sequence_not_zero(Law::Q2SequenceContinuous, |h: Run<'_>| drop(h.wire.remove(0)))]
#[case::epoch_fell(Law::Q3EpochMonotone, |h: Run<'_>| {
    let newer = WireBatch { epoch: 1, ..wire_batch(0, "d") };
    h.wire.splice(0..0, [newer]);
})]
#[case::too_many_in_flight(Law::Q4InFlightBound, |h: Run<'_>| h.in_flight_most = 3)]
fn a_broken_law_is_found_alone(#[case] law: Law, #[case] corrupt: fn(&mut History)) {
    let mut history = honest();
    corrupt(&mut history);
    let verdict = judge(&history);
    assert_eq!(verdict.laws(), [law], "{verdict}");
}

#[rstest]
#[case::unknown_and_written(|h: Run<'_>| end(h, 1, unknown()))]
#[case::unknown_and_absent(|h: Run<'_>| {
    end(h, 2, unknown());
    log(h).pop();
})]
#[case::failed_and_absent(|h: Run<'_>| {
    end(h, 2, Ending::NotWritten("too large".into()));
    log(h).pop();
})]
#[case::sent_again_byte_for_byte(|h: Run<'_>| h.wire.push(wire_batch(1, "b")))]
#[case::given_up_and_late_without_idempotence(|h: Run<'_>| {
    h.promises.idempotent = false;
    end(h, 0, unknown());
    end(h, 1, Ending::Written(None));
    log(h)[0].content = content("b");
    log(h)[1].content = content("a");
})]
#[case::wrapped_sequence(|h: Run<'_>| {
    h.wire = vec![wire_batch(0, "a"), wire_batch(0, "a")];
    h.wire[0].record_count = i32::MAX;
    h.wire[1].base_sequence = i32::MAX;
    h.wire.push(WireBatch { partition: Partition { number: 1, ..orders() }, ..wire_batch(0, "x") });
})]
fn an_honest_misfortune_passes(#[case] change: fn(&mut History)) {
    let mut history = honest();
    change(&mut history);
    let verdict = judge(&history);
    assert!(verdict.holds(), "{verdict}");
}

#[test]
fn what_is_not_promised_is_said_and_not_judged() {
    let mut history = honest();
    history.promises = Promises {
        durability: Durability::MayBeLost,
        idempotent: false,
        ordered: false,
        ..history.promises
    };
    log(&mut history).clear();
    let verdict = judge(&history);
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.not_judged.len(), 9, "{verdict}");
}

#[test]
fn witnesses_are_bounded_and_counts_are_full() {
    let mut history = honest();
    let phantoms = 3..100;
    let phantom = |offset| LogEntry {
        offset,
        content: content(&format!("phantom {offset}")),
    };
    log(&mut history).extend(phantoms.map(phantom));
    let verdict = judge(&history);
    let witnesses = &verdict.broken[&Law::D4NoPhantom];
    assert_eq!(
        (witnesses.count, witnesses.shown.len()),
        (97, WITNESSES_MAX)
    );
}
