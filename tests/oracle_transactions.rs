//! The judge of transactions is judged: an honest history passes, and for each law one history
//! breaks it alone.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use promises::history::transactions::{
    Copying, Epochs, GroupOffset, Instance, LogEnd, Marker, MarkerKind, OffsetSeen, Stamp, Sum,
    TransactionOp, TransactionOutcome, Transactions,
};
use promises::history::{
    Content, Durability, Ending, History, Leftovers, Liveness, LogEntry, Partition, Placed,
    Promises, Read, Resolution, Seen, SendOp,
};
use promises::oracle::{Law, judge};
use rstest::rstest;

type Run<'a> = &'a mut History;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn place(topic: &str, number: i32) -> Partition {
    Partition {
        topic: topic.into(),
        number,
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn content(key: Option<&str>, value: &str) -> Content {
    Content {
        timestamp_ms: 7,
        key: key.map(bytes),
        value: bytes(value),
        headers: vec![],
    }
}

fn stamp(epoch: i16) -> Stamp {
    Stamp {
        producer_id: 7,
        epoch,
    }
}

fn marker(offset: i64, epoch: i16, kind: MarkerKind) -> Marker {
    Marker {
        offset,
        stamp: stamp(epoch),
        kind,
    }
}

fn instance(producer: u32, asked_at: u64) -> Instance {
    Instance {
        producer,
        id: "transfers".into(),
        asked_at: ms(asked_at),
        initialised_at: Some(ms(asked_at + 1)),
    }
}

fn transaction(producer: u32, begun_at: u64, outcome: TransactionOutcome) -> TransactionOp {
    let commit_asked_at = Some(ms(begun_at + 5));
    TransactionOp {
        producer,
        begun_at: ms(begun_at),
        reads: vec![],
        refused: vec![],
        offsets: vec![],
        commit_asked_at: commit_asked_at.filter(|_| outcome == TransactionOutcome::Committed),
        outcome,
        told_at: Some(ms(begun_at + 9)),
    }
}

/// Of whom, in which transaction, in which partition, when, at which offset.
type Sent<'a> = (u32, usize, &'a Partition, u64, i64);

fn send(order: usize, sent: Sent<'_>, content: Content) -> SendOp {
    let (producer, transaction, partition, at, offset) = sent;
    SendOp {
        producer,
        partition: partition.clone(),
        placed: Placed::BySender,
        content,
        transaction: Some(transaction),
        at: ms(at),
        resolutions: vec![Resolution {
            ending: Ending::Written(Some(offset)),
            at: ms(at + 1),
            order,
        }],
    }
}

fn entry(offset: i64, epoch: i16, content: Content) -> LogEntry {
    LogEntry {
        offset,
        content,
        stamp: Some(stamp(epoch)),
    }
}

fn stable(at: u64, (partition, offset): (&Partition, i64), value: &str) -> Read {
    Read {
        at: ms(at),
        partition: partition.clone(),
        offset,
        value: bytes(value),
        seen: Seen::Stable,
    }
}

fn read_to(offset: i64) -> GroupOffset {
    GroupOffset {
        group: "copiers".into(),
        partition: place("orders", 0),
        offset,
    }
}

/// Two processes, one after the other: the first commits `a` and `b` in two partitions and aborts
/// `c`, the second copies `a` as `d` and commits `e`.
fn honest() -> History {
    let (zero, one, copies) = (place("orders", 0), place("orders", 1), place("copies", 0));
    let copy = content(Some("a"), "d");
    let plain = |value| content(None, value);
    History {
        promises: Promises {
            durability: Durability::Kept,
            idempotent: true,
            ordered: true,
            in_flight_max: 2,
            resolved_within: Duration::from_secs(1),
            liveness: None,
        },
        sends: vec![
            send(0, (1, 0, &zero, 3, 0), plain("a")),
            send(1, (1, 0, &one, 3, 0), plain("b")),
            send(2, (1, 1, &zero, 13, 2), plain("c")),
            send(3, (2, 2, &copies, 24, 0), copy.clone()),
            send(4, (2, 3, &one, 36, 2), plain("e")),
        ],
        visible: vec![],
        reads: vec![
            stable(10, (&zero, 0), "a"),
            stable(10, (&one, 0), "b"),
            stable(30, (&copies, 0), "d"),
            stable(43, (&one, 2), "e"),
        ],
        logs: BTreeMap::from([
            (zero, vec![entry(0, 0, plain("a")), entry(2, 1, plain("c"))]),
            (one, vec![entry(0, 0, plain("b")), entry(2, 4, plain("e"))]),
            (copies, vec![entry(0, 3, copy)]),
        ]),
        wire: vec![],
        in_flight_most: 1,
        flushes: vec![],
        events: vec![],
        transactions: honest_transactions(),
        left: Some(Leftovers::default()),
    }
}

fn honest_transactions() -> Transactions {
    use TransactionOutcome::{Committed, NotCommitted};
    let mut copying = transaction(2, 22, Committed);
    copying.reads.push(bytes("a"));
    copying.offsets.push(read_to(1));
    let seen = |at, offset| OffsetSeen {
        at: ms(at),
        offset: read_to(offset),
    };
    let (markers, ends) = honest_ends();
    Transactions {
        instances: vec![instance(1, 0), instance(2, 20)],
        all: vec![
            transaction(1, 2, Committed),
            transaction(1, 12, NotCommitted),
            copying,
            transaction(2, 35, Committed),
        ],
        epochs: Epochs::OnePerTransaction,
        markers,
        ends,
        unfinished: vec![],
        offsets_seen: vec![seen(21, 0), seen(50, 1)],
        copying: Some(Copying {
            group: "copiers".into(),
            from: "orders".into(),
            to: "copies".into(),
        }),
        sums: vec![Sum {
            at: ms(50),
            found: 700,
            right: 700,
        }],
    }
}

type Ends = (
    BTreeMap<Partition, Vec<Marker>>,
    BTreeMap<Partition, LogEnd>,
);

fn honest_ends() -> Ends {
    use MarkerKind::{Abort, Commit};
    let markers = [
        (
            place("orders", 0),
            vec![marker(1, 1, Commit), marker(3, 2, Abort)],
        ),
        (
            place("orders", 1),
            vec![marker(1, 1, Commit), marker(3, 5, Commit)],
        ),
        (place("copies", 0), vec![marker(1, 4, Commit)]),
    ];
    let end = |(at, markers): &(Partition, Vec<Marker>)| {
        let last = markers.last().map_or(0, |marker| marker.offset);
        let end = LogEnd {
            last_stable_offset: last + 1,
            high_watermark: last + 1,
        };
        (at.clone(), end)
    };
    let ends = markers.iter().map(end).collect();
    (markers.into(), ends)
}

fn transactions(history: &mut History) -> &mut [TransactionOp] {
    &mut history.transactions.all
}

fn log<'a>(history: &'a mut History, at: &Partition) -> &'a mut Vec<LogEntry> {
    history.logs.entry(at.clone()).or_default()
}

fn markers<'a>(history: &'a mut History, at: &Partition) -> &'a mut Vec<Marker> {
    let markers = &mut history.transactions.markers;
    markers.entry(at.clone()).or_default()
}

/// The marker behind `b` says the other end than that behind `a`.
fn split(h: Run<'_>) {
    h.transactions.epochs = Epochs::Shared;
    markers(h, &place("orders", 1))[0].kind = MarkerKind::Abort;
    h.reads.remove(1);
    transactions(h)[0].outcome = TransactionOutcome::Unknown;
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
#[case::aborted_and_visible(Law::T1AbortedInvisible, |h: Run<'_>| {
    transactions(h)[0].outcome = TransactionOutcome::NotCommitted;
})]
#[case::aborted_and_read(Law::T1AbortedInvisible, |h: Run<'_>| {
    transactions(h)[2].reads.push(bytes("c"));
})]
#[case::committed_without_a_refused_record(Law::T2CommittedVisible, |h: Run<'_>| {
    transactions(h)[0].refused.push(bytes("x"));
})]
#[case::committed_without_an_answer(Law::T2CommittedVisible, |h: Run<'_>| {
    h.sends[0].resolutions[0].ending = Ending::Unknown("request timed out".into());
})]
#[case::half_of_it(Law::T3Atomic, split)]
#[case::before_its_commit(Law::T4NotBeforeCommit, |h: Run<'_>| {
    transactions(h)[0].commit_asked_at = Some(ms(11));
})]
#[case::without_a_commit(Law::T4NotBeforeCommit, |h: Run<'_>| {
    transactions(h)[0].commit_asked_at = None;
    transactions(h)[0].outcome = TransactionOutcome::Unknown;
})]
#[case::its_own_record(Law::T4NotBeforeCommit, |h: Run<'_>| {
    transactions(h)[3].reads.push(bytes("e"));
})]
#[case::each_read_of_the_other(Law::T5NoCircle, |h: Run<'_>| {
    transactions(h)[0].reads.push(bytes("e"));
    transactions(h)[3].reads.push(bytes("a"));
})]
#[case::a_zombie_that_counts(Law::T6Fenced, |h: Run<'_>| h.sends[0].at = ms(25))]
#[case::an_older_one_behind_a_newer(Law::O5InstanceOrder, |h: Run<'_>| {
    let one = place("orders", 1);
    let log = log(h, &one);
    log.swap(0, 1);
    (log[0].offset, log[1].offset) = (0, 2);
    for (send, offset) in [(1, 2), (4, 0)] {
        h.sends[send].resolutions[0].ending = Ending::Written(Some(offset));
    }
    h.reads[1] = stable(10, (&one, 2), "b");
    h.reads[3] = stable(43, (&one, 0), "e");
})]
#[case::an_offset_of_nobody(Law::T7OffsetsAtomic, |h: Run<'_>| {
    h.transactions.offsets_seen[1].offset.offset = 2;
})]
#[case::an_offset_that_is_lost(Law::T7OffsetsAtomic, |h: Run<'_>| {
    h.transactions.offsets_seen.pop();
    h.transactions.copying = None;
})]
#[case::an_offset_of_what_was_aborted(Law::T7OffsetsAtomic, |h: Run<'_>| {
    transactions(h)[1].offsets.push(read_to(1));
    transactions(h)[2].offsets.clear();
})]
#[case::an_offset_before_its_commit(Law::T7OffsetsAtomic, |h: Run<'_>| {
    h.transactions.offsets_seen[0].offset.offset = 1;
})]
#[case::a_copy_of_another(Law::T8CopyEqual, |h: Run<'_>| {
    h.sends[3].content.key = Some(bytes("b"));
    log(h, &place("copies", 0))[0].content.key = Some(bytes("b"));
})]
#[case::a_copy_that_is_missing(Law::T8CopyEqual, |h: Run<'_>| {
    // Of another partition the group has read one more, and copied nothing.
    let mut offset = read_to(1);
    offset.partition = place("orders", 1);
    transactions(h)[3].offsets.push(offset.clone());
    h.transactions.offsets_seen.push(OffsetSeen { at: ms(50), offset });
})]
#[case::an_open_transaction(Law::T9NothingHangs, |h: Run<'_>| {
    let end = h.transactions.ends.get_mut(&place("orders", 0));
    end.into_iter().for_each(|end| end.last_stable_offset = 3);
})]
#[case::an_open_id(Law::T9NothingHangs, |h: Run<'_>| {
    h.transactions.unfinished.push("transfers".into());
})]
#[case::two_transactions_in_an_epoch(Law::T10EpochPerTransaction, |h: Run<'_>| {
    log(h, &place("orders", 0))[1].stamp = Some(stamp(0));
})]
#[case::no_marker(Law::T11MarkersSane, |h: Run<'_>| {
    markers(h, &place("orders", 0)).pop();
})]
#[case::another_marker_elsewhere(Law::T11MarkersSane, |h: Run<'_>| {
    markers(h, &place("orders", 2)).push(marker(0, 1, MarkerKind::Abort));
})]
#[case::not_given_to_a_reader(Law::C1ReaderHonest, |h: Run<'_>| drop(h.reads.remove(1)))]
#[case::money_lost(Law::B1SumConstant, |h: Run<'_>| h.transactions.sums[0].found = 690)]
#[case::a_hole_beside_markers(Law::D8Contiguity, |h: Run<'_>| {
    let zero = place("orders", 0);
    log(h, &zero)[1].offset = 3;
    markers(h, &zero)[1].offset = 4;
    h.sends[2].resolutions[0].ending = Ending::Written(Some(3));
})]
#[case::slow_though_sound(Law::P5Liveness, |h: Run<'_>| {
    h.promises.liveness = Some(Liveness { from: ms(33), within: ms(5) });
})]
#[case::not_committed_though_sound(Law::P5Liveness, |h: Run<'_>| {
    h.promises.liveness = Some(Liveness { from: ms(33), within: ms(50) });
    transactions(h)[3].outcome = TransactionOutcome::Unknown;
})]
fn a_broken_law_is_found_alone(#[case] law: Law, #[case] corrupt: fn(&mut History)) {
    let mut history = honest();
    corrupt(&mut history);
    let verdict = judge(&history);
    assert_eq!(verdict.laws(), [law], "{verdict}");
}

#[rstest]
#[case::nobody_was_told_and_it_was_committed(|h: Run<'_>| {
    transactions(h)[0].outcome = TransactionOutcome::Unknown;
})]
#[case::nobody_was_told_and_it_was_not(|h: Run<'_>| {
    split(h);
    markers(h, &place("orders", 0))[0].kind = MarkerKind::Abort;
    h.reads.remove(0);
    h.transactions.copying = None;
    transactions(h)[2].reads.clear();
})]
#[case::both_began_at_the_same_time(|h: Run<'_>| {
    h.transactions.instances[1].asked_at = ms(0);
    h.sends[0].at = ms(25);
})]
#[case::two_transactions_in_a_shared_epoch(|h: Run<'_>| {
    h.transactions.epochs = Epochs::Shared;
    log(h, &place("orders", 0))[1].stamp = Some(stamp(0));
})]
#[case::one_read_of_the_other(|h: Run<'_>| transactions(h)[3].reads.push(bytes("a")))]
#[case::in_time(|h: Run<'_>| {
    h.promises.liveness = Some(Liveness { from: ms(33), within: ms(50) });
})]
fn an_honest_misfortune_passes(#[case] change: fn(&mut History)) {
    let mut history = honest();
    change(&mut history);
    let verdict = judge(&history);
    assert!(verdict.holds(), "{verdict}");
}
