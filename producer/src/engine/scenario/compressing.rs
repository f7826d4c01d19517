//! Batches that are compressed on their way: in order, once, and never lost.

use super::*;
use crate::engine::report::{BatchEvent, BeforeSent};
use crate::error::FailureKind;
use crate::types::CompressionType;
use crate::wire::compression::CompressedBatch;

fn compressing() -> EngineConfig {
    EngineConfig {
        codec: Codec {
            compression: CompressionType::Snappy,
            level: 0,
        },
        ..settings()
    }
}

/// A world whose partition 0 has had its first batch acknowledged.
fn flowing() -> World {
    let mut world = World::ready(compressing(), script());
    world.append(0);
    world.bring_back(0);
    world.acknowledge(0);
    world.done.clear();
    world
}

impl World {
    /// Brings back the batch at this place among those that are compressed, as it was.
    fn bring_back(&mut self, index: usize) {
        let (id, plain) = self.compressing.remove(index);
        let batch = CompressedBatch::plain(plain);
        self.input(Input::Compressed { id, batch });
    }

    /// Brings back a batch of which so many bytes are left.
    fn bring_back_bytes(&mut self, bytes: usize) {
        let (id, mut buffer) = self.compressing.remove(0);
        buffer.as_mut_vec().truncate(bytes);
        let compression = CompressionType::Snappy;
        let batch = CompressedBatch {
            compression,
            buffer,
        };
        self.input(Input::Compressed { id, batch });
    }

    fn sent_sequences(&mut self) -> Vec<i32> {
        let sent = self.take_all_sent();
        sent.iter()
            .flat_map(Sent::stamps)
            .map(|(_, _, sequence)| sequence)
            .collect()
    }
}

/// The batches' attributes, base offset to leader epoch, magic and checksum skipped.
fn attributes(sent: &Sent) -> Vec<i16> {
    let of = |batch: &peer::SeenBatch| i16::from_be_bytes([batch.bytes[21], batch.bytes[22]]);
    sent.batches.iter().map(of).collect()
}

/// Or it would be compressed only once there is room, by which time it should be ready.
#[test]
fn what_is_sealed_is_told_however_many_requests_are_on_their_way() {
    let mut config = compressing();
    config.in_flight_max = 1;
    let mut world = World::ready(config, script());
    world.append(0);
    world.bring_back(0);
    assert_eq!(world.produced.len(), 1);
    assert_eq!(world.engine.lacking_bytes(), 0);
}

#[test]
fn a_batch_goes_when_it_is_compressed_and_says_its_codec() {
    let mut world = World::ready(compressing(), script());
    let batch = world.append(0);
    assert!(world.produced.is_empty(), "nothing goes before");
    world.bring_back_bytes(64);
    let sent = world.take_sent();
    assert_eq!(attributes(&sent), [2]);
    assert_eq!(sent.batches[0].bytes.len(), 64);
    world.answer(&sent, 0, 41);
    assert_eq!(world.done, [(batch, written(41))]);
}

#[test]
fn a_batch_that_did_not_become_smaller_says_so() {
    let mut world = World::ready(compressing(), script());
    world.append(0);
    world.bring_back(0);
    assert_eq!(attributes(&world.take_sent()), [0]);
}

#[test]
fn sealed_batches_are_compressed_at_once_and_sent_in_the_order_of_the_queue() {
    let mut world = flowing();
    for _ in 0..3 {
        world.append_quietly(0);
    }
    world.input(Input::Queued { partition: at(0) });
    // Two are sealed; the third is open, and waits behind them.
    assert_eq!(world.compressing.len(), 2);
    world.bring_back(1);
    assert!(world.sent_sequences().is_empty(), "the first is not back");
    world.bring_back(0);
    assert_eq!(world.sent_sequences(), [1, 2]);
    world.bring_back(0);
    assert_eq!(world.sent_sequences(), [3]);
}

#[test]
fn an_open_batch_is_not_sealed_before_its_broker_takes_it() {
    let mut world = flowing();
    for _ in 0..5 {
        world.append(0);
        world.bring_back(0);
    }
    world.append(0);
    assert!(world.compressing.is_empty(), "five requests are in flight");
    let sent = world.take_all_sent();
    world.answer(&sent[0], 0, 1);
    assert_eq!(world.compressing.len(), 1);
}

#[test]
fn a_retry_has_the_same_bytes_and_is_not_compressed_again() {
    let mut world = flowing();
    let batch = world.append(0);
    world.bring_back_bytes(64);
    let first = world.take_sent();
    world.lose_from(first.connection, None);
    world.pass_ms(500);
    let again = world.take_sent();
    assert_eq!(again.batches[0].bytes, first.batches[0].bytes);
    assert!(world.compressing.is_empty());
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[test]
fn a_batch_that_times_out_while_it_is_compressed_was_not_written() {
    let mut world = flowing();
    let batch = world.append(0);
    world.pass_ms(120_000);
    let [(completed, BatchOutcome::NotWritten(failure))] = &world.done[..] else {
        panic!("{:?}", world.done);
    };
    assert_eq!(
        (*completed, failure.kind),
        (batch, FailureKind::DeliveryTimedOut)
    );
    world.bring_back(0);
    assert!(world.produced.is_empty(), "it came back too late");
    // The next one has the sequence that this one never took.
    world.append(0);
    world.bring_back(0);
    assert_eq!(world.sent_sequences(), [1]);
}

#[test]
fn giving_up_ends_what_is_compressed_in_order() {
    let mut world = flowing();
    let first = world.append(0);
    let second = world.append(0);
    world.input(Input::AbortRequested);
    let ended: Vec<u32> = world.done.iter().map(|(batch, _)| *batch).collect();
    assert_eq!(ended, [first, second]);
    let not_written = |(_, outcome): &_| matches!(outcome, BatchOutcome::NotWritten(_));
    assert!(world.done.iter().all(not_written));
    world.bring_back(0);
    assert!(world.produced.is_empty());
}

#[test]
fn a_refused_producer_id_ends_what_is_compressed() {
    let mut script = script();
    script.producer_id_codes = VecDeque::from([31, 31]);
    // The first refusal finds nothing queued; the second one comes a second later.
    let mut world = World::ready(compressing(), script);
    let batches: Vec<u32> = (0..2).map(|_| world.append(0)).collect();
    assert_eq!(
        world.compressing.len(),
        1,
        "the sealed one is compressed ahead"
    );
    world.pass_ms(1_000);
    let ended: Vec<u32> = world.done.iter().map(|(batch, _)| *batch).collect();
    assert_eq!(ended, batches);
}

#[test]
fn queues_hear_how_small_records_become() {
    let mut world = flowing();
    let before = world.queues.1;
    world.append(0);
    world.bring_back_bytes(62);
    let after = world.queues.1;
    assert!(after.per_mille() < before.per_mille(), "{after:?}");
}

#[test]
fn a_compressed_batch_tells_its_time_in_each_stage() {
    let mut world = World::ready(compressing(), script());
    world.append(0);
    world.bring_back(0);
    let probe = world.take_sent();
    world.append_quietly(0);
    world.pass_ms(8);
    world.append_quietly(0); // seals the one before
    world.input(Input::Queued { partition: at(0) });
    world.pass_ms(3);
    world.bring_back(0);
    world.pass_ms(4);
    world.reports.clear();
    world.answer(&probe, 0, 0);
    let way = world.reports.iter().find_map(|report| match report {
        Report::Batch {
            event: BatchEvent::Sent { before, .. },
            ..
        } => Some(*before),
        _ => None,
    });
    let ms = Duration::from_millis;
    let expected = BeforeSent {
        filling: ms(8),
        compressing: Some(ms(3)),
        ready: ms(4),
    };
    assert_eq!(way, Some(expected));
}
