//! The judge is judged: an honest history passes, and for each law one history breaks it alone.

use std::time::Duration;

use bytes::Bytes;
use kafka_producer::CompressionType;
use kafka_producer::wire::record_batch::{
    BatchHeader, Place, PlacedRecord, RecordView, complete_header, reserve_header,
};
use promises::history::transactions::{Epochs, Transactions};
use promises::history::{
    Content, Durability, Ending, FlushOp, FlushReturn, History, LeaderTold, Leftovers, Liveness,
    LogEntry, Partition, Passed, Placed, Promises, Read, Resolution, Seen, SendOp, Told, Visible,
    WireBatch, WireEvent,
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

fn entry(offset: i64, value: &str) -> LogEntry {
    LogEntry {
        offset,
        content: content(value),
        stamp: None,
    }
}

/// Three sends `a`, `b`, `c` of one producer, all written in one batch each, all told.
fn honest() -> History {
    let values = ["a", "b", "c"];
    let send = |(order, value): (usize, &&str)| SendOp {
        producer: 1,
        partition: orders(),
        placed: Placed::BySender,
        content: content(value),
        transaction: None,
        at: Duration::from_millis(order as u64),
        resolutions: vec![Resolution {
            ending: Ending::Written(Some(order as i64)),
            at: Duration::from_millis(10 + order as u64),
            order,
        }],
    };
    let logged = |(at, value): (usize, &&str)| entry(at as i64, value);
    let batch = |(at, value): (usize, &&str)| wire_batch(at as i32, value);
    History {
        promises: Promises {
            durability: Durability::Kept,
            idempotent: true,
            ordered: true,
            in_flight_max: 2,
            resolved_within: Duration::from_secs(1),
            liveness: None,
        },
        sends: values.iter().enumerate().map(send).collect(),
        logs: [(orders(), values.iter().enumerate().map(logged).collect())].into(),
        wire: values.iter().enumerate().map(batch).collect(),
        in_flight_most: 2,
        flushes: vec![FlushOp {
            producer: 1,
            accepted_before: 2,
            returned: Some(FlushReturn {
                accepted_before: 2,
                resolved_before: 2,
            }),
        }],
        reads: vec![
            read(0, "a", Seen::Committed),
            read(1, "b", Seen::BelowAcknowledged),
        ],
        visible: vec![visible(2, 2)],
        events: vec![
            event(0, Passed::Told(offers())),
            event(1, Passed::Told(leads(Some(7), 3))),
            event(2, produce(13)),
        ],
        transactions: Transactions {
            epochs: Epochs::OnePerTransaction,
            ..Transactions::default()
        },
        left: Some(Leftovers::default()),
    }
}

fn read(offset: i64, value: &str, seen: Seen) -> Read {
    Read {
        at: Duration::from_millis(9),
        partition: orders(),
        offset,
        value: content(value).value,
        seen,
    }
}

/// All of it, of two replicas that there have to be.
fn visible(end: i64, holders: usize) -> Visible {
    Visible {
        at: Duration::from_millis(9),
        partition: orders(),
        end,
        holders,
        holders_min: 2,
    }
}

/// On the connection to broker 7.
fn event(at_ms: u64, what: Passed) -> WireEvent {
    WireEvent {
        at: Duration::from_millis(at_ms),
        producer: 1,
        connection: 5,
        broker: 7,
        what,
    }
}

fn offers() -> Told {
    Told {
        versions: vec![(0, 3, 13), (3, 4, 13)],
        ..Told::default()
    }
}

fn leads(leader: Option<i32>, epoch: i32) -> Told {
    let told = LeaderTold {
        partition: orders(),
        leader,
        epoch,
    };
    Told {
        leaders: vec![told],
        ..Told::default()
    }
}

fn throttles(throttle_ms: u64) -> Told {
    Told {
        throttle: Duration::from_millis(throttle_ms),
        ..Told::default()
    }
}

fn produce(version: i16) -> Passed {
    Passed::Sent {
        api: 0,
        version,
        partitions: vec![orders()],
    }
}

fn wire_batch(base_sequence: i32, bytes: &str) -> WireBatch {
    WireBatch {
        producer: 1,
        partition: orders(),
        producer_id: 4000,
        epoch: 0,
        base_sequence,
        record_count: 1,
        bytes: Bytes::from(bytes.repeat(20)),
    }
}

/// A batch that can be read.
fn readable_batch(base_sequence: i32, values: &[&str]) -> WireBatch {
    let mut buffer = Vec::new();
    reserve_header(&mut buffer);
    for (offset_delta, value) in (0..).zip(values) {
        let view = RecordView {
            timestamp_ms: 0,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        let place = Place {
            timestamp_delta_ms: 0,
            offset_delta,
        };
        PlacedRecord::new(&view, place).append_to(&mut buffer);
    }
    let record_count = u32::try_from(values.len()).unwrap_or_default();
    let header = BatchHeader {
        compression: CompressionType::None,
        base_timestamp_ms: 0,
        max_timestamp_ms: 0,
        record_count,
        producer: None,
    };
    complete_header(&mut buffer, &header);
    WireBatch {
        record_count: record_count.cast_signed(),
        bytes: buffer.into(),
        ..wire_batch(base_sequence, "")
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
    log(h).push(entry(3, "c"));
})]
#[case::made_up(Law::D4NoPhantom, |h: Run<'_>| {
    log(h).push(entry(3, "nobody's"));
})]
#[case::changed_key(Law::D4NoPhantom, |h: Run<'_>| log(h)[1].content.key = Some(Bytes::new()))]
#[case::changed_timestamp(Law::D4NoPhantom, |h: Run<'_>| log(h)[1].content.timestamp_ms += 1)]
#[case::failed_but_written(Law::D5FailureAbsent, |h: Run<'_>| {
    end(h, 1, Ending::NotWritten("delivery timed out".into()));
})]
#[case::unknown_twice(Law::D6UnknownOnce, |h: Run<'_>| {
    end(h, 2, unknown());
    log(h).push(entry(3, "c"));
})]
#[case::hole_in_the_log(Law::D8Contiguity, |h: Run<'_>| {
    end(h, 2, Ending::Written(Some(5)));
    log(h)[2].offset = 5;
})]
#[case::overtaken_in_the_log(Law::O1SendOrder, |h: Run<'_>| {
    h.reads.clear();
    h.flushes.clear();
    end(h, 0, Ending::Written(None));
    end(h, 1, Ending::Written(None));
    log(h)[0].content = content("b");
    log(h)[1].content = content("a");
})]
#[case::told_in_another_order(Law::O2AckOrder, |h: Run<'_>| {
    // Each told offset is true, of one copy or the other: duplicates are allowed here.
    h.promises.idempotent = false;
    end(h, 0, Ending::Written(Some(3)));
    log(h).push(entry(3, "a"));
})]
#[case::ended_in_another_order(Law::O3CompletionOrder, |h: Run<'_>| {
    h.sends[0].resolutions[0].order = 1;
    h.sends[1].resolutions[0].order = 0;
})]
#[case::never_ended(Law::P1SingleResolution, |h: Run<'_>| {
    h.flushes.clear();
    h.sends[1].resolutions.clear();
})]
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
#[case::part_numbered_anew(Law::Q2SequenceContinuous, |h: Run<'_>| {
    h.wire = vec![
        readable_batch(0, &["a", "b"]),
        readable_batch(0, &["a"]),
        readable_batch(2, &["b"]),
    ];
})]
#[case::epoch_fell(Law::Q3EpochMonotone, |h: Run<'_>| {
    let newer = WireBatch { epoch: 1, ..wire_batch(0, "d") };
    h.wire.splice(0..0, [newer]);
})]
#[case::too_many_in_flight(Law::Q4InFlightBound, |h: Run<'_>| h.in_flight_most = 3)]
#[case::read_and_gone(Law::D7StableLog, |h: Run<'_>| h.reads.push(read(3, "d", Seen::Committed)))]
#[case::read_and_changed(Law::D7StableLog, |h: Run<'_>| {
    h.reads.push(read(2, "d", Seen::Committed));
})]
#[case::gone_below_an_acknowledged_one(Law::D9PrefixDurable, |h: Run<'_>| {
    h.reads.push(read(0, "d", Seen::BelowAcknowledged));
})]
#[case::visible_and_held_by_one(Law::D10VisibleHeld, |h: Run<'_>| h.visible.push(visible(3, 1)))]
#[case::passed_a_flush(Law::O4BarrierOrder, |h: Run<'_>| {
    // The first record has two copies, which nobody promised not to happen, and the later counts.
    h.promises.idempotent = false;
    h.promises.ordered = false;
    h.sends.swap(1, 2);
    h.sends[1].resolutions[0].order = 1;
    h.sends[2].resolutions[0].order = 2;
})]
#[case::key_in_another_partition(Law::O6KeyPlacement, |h: Run<'_>| {
    // Kafka's hash of 21 is -973932308.
    h.sends[0].content.key = Some(Bytes::from("21"));
    log(h)[0].content.key = Some(Bytes::from("21"));
    h.sends[0].placed = Placed::ByKey { partitions: 7 };
})]
#[case::flush_too_early(Law::P3FlushComplete, |h: Run<'_>| {
    h.flushes[0].returned = Some(FlushReturn { accepted_before: 3, resolved_before: 1 });
})]
#[case::socket_left(Law::P4CloseComplete, |h: Run<'_>| {
    h.left = Some(Leftovers { connections: 1, ..Leftovers::default() });
})]
#[case::memory_left(Law::P4CloseComplete, |h: Run<'_>| {
    h.left = Some(Leftovers { memory_bytes: 1, ..Leftovers::default() });
})]
#[case::slow_though_sound(Law::P5Liveness, |h: Run<'_>| {
    h.promises.liveness = Some(Liveness { from: Duration::from_millis(2), within: Duration::ZERO });
})]
#[case::to_another_than_the_leader(Law::Q5Routing, |h: Run<'_>| {
    h.events.insert(2, event(1, Passed::Told(leads(Some(8), 4))));
})]
#[case::to_a_leader_of_an_older_epoch(Law::Q5Routing, |h: Run<'_>| {
    h.events.insert(1, event(1, Passed::Told(leads(Some(8), 4))));
})]
#[case::to_nobody(Law::Q5Routing, |h: Run<'_>| {
    h.events[1].what = Passed::Told(leads(None, 3));
})]
#[case::while_throttled(Law::Q6Mute, |h: Run<'_>| {
    h.events.insert(2, event(1, Passed::Told(throttles(2))));
})]
#[case::in_a_version_not_offered(Law::Q7VersionLegal, |h: Run<'_>| {
    h.events.push(event(3, produce(2)));
})]
#[case::before_versions_are_known(Law::Q7VersionLegal, |h: Run<'_>| drop(h.events.remove(0)))]
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
#[case::to_the_new_leader_on_another_connection(|h: Run<'_>| {
    h.events.insert(2, event(1, Passed::Told(leads(Some(8), 4))));
    let mut offered = event(1, Passed::Told(offers()));
    let mut sent = event(2, produce(12));
    for one in [&mut offered, &mut sent] {
        (one.connection, one.broker) = (6, 8);
    }
    h.events.splice(3.., [offered, sent]);
})]
#[case::at_the_end_of_a_throttle(|h: Run<'_>| {
    h.events.insert(2, event(1, Passed::Told(throttles(1))));
})]
#[case::split_in_parts(|h: Run<'_>| {
    h.wire = vec![
        readable_batch(0, &["a", "b"]),
        readable_batch(2, &["c"]),
        readable_batch(0, &["a"]),
        readable_batch(1, &["b"]),
        readable_batch(2, &["c"]),
    ];
})]
#[case::sent_again_byte_for_byte(|h: Run<'_>| h.wire.push(wire_batch(1, "b")))]
#[case::given_up_and_late_without_idempotence(|h: Run<'_>| {
    h.reads.clear();
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
    history.reads.clear();
    let verdict = judge(&history);
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.not_judged.len(), 10, "{verdict}");
}

#[test]
fn witnesses_are_bounded_and_counts_are_full() {
    let mut history = honest();
    let phantoms = 3..100;
    let phantom = |offset| entry(offset, &format!("phantom {offset}"));
    log(&mut history).extend(phantoms.map(phantom));
    let verdict = judge(&history);
    let witnesses = &verdict.broken[&Law::D4NoPhantom];
    assert_eq!(
        (witnesses.count, witnesses.shown.len()),
        (97, WITNESSES_MAX)
    );
}
