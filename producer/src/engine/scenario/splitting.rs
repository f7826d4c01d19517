//! Batches that are too large for their broker: sent in halves, in order, each record with its end.

use super::*;
use crate::error::FailureKind;
use crate::types::CompressionType;
use crate::wire::compression::Compressor;

const TOO_LARGE: i16 = 10;
const OUT_OF_ORDER: i16 = 45;

impl World {
    /// Appends a batch of so many records, and says its number.
    fn append_records(&mut self, count: usize) -> u32 {
        let completion = self.append_quietly(0);
        let record = RecordView {
            timestamp_ms: 1000,
            key: None,
            value: Some(b"none"),
            headers: &[],
        };
        let queue = self.queues.0.get_mut(&at(0)).expect("appended to");
        for _ in 1..count {
            queue.append(&record).expect("room");
        }
        self.input(Input::Queued { partition: at(0) });
        completion
    }

    /// Takes the only request that waits, which holds so many records from this sequence on.
    #[track_caller]
    fn take_part(&mut self, (epoch, sequence): (i16, i32), records: i32) -> Sent {
        let sent = self.take_sent();
        let batch = &sent.batches[0];
        let found = (batch.epoch, batch.sequence, batch.count);
        assert_eq!(found, (epoch, sequence, records));
        sent
    }

    /// How the records of the only batch that ended did.
    #[track_caller]
    fn ends(&self, records: u32) -> Vec<(BatchOutcome, u32)> {
        let [(_, outcome)] = &self.done[..] else {
            panic!("one batch ended, not {:?}", self.done);
        };
        let end = |index| {
            let (outcome, index) = outcome.of_record(index);
            (outcome.clone(), index)
        };
        (0..records).map(end).collect()
    }
}

#[test]
fn a_batch_that_is_too_large_goes_in_halves_with_its_sequences() {
    let mut world = World::flowing(settings(), script());
    world.append_records(4);
    let whole = world.take_part((0, 1), 4);
    world.answer(&whole, TOO_LARGE, -1);
    let first = world.take_part((0, 1), 2);
    world.answer(&first, 0, 10);
    assert!(world.done.is_empty(), "the batch ends with its last record");
    let second = world.take_part((0, 3), 2);
    world.answer(&second, 0, 20);
    let expected = [(10, 0), (10, 1), (20, 0), (20, 1)].map(|(base, at)| (written(base), at));
    assert_eq!(world.ends(4), expected);
    // What follows has the next sequence.
    world.append(0);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 5)]);
}

#[test]
fn halves_are_split_until_they_fit_and_a_record_alone_fails_with_its_size() {
    let mut world = World::flowing(settings(), script());
    world.append_records(3);
    for records in [3, 1] {
        let refused = world.take_part((0, 1), records);
        world.answer(&refused, TOO_LARGE, -1);
    }
    // Its sequence is spent: the rest goes in the next epoch.
    let rest = world.take_part((1, 0), 2);
    world.answer(&rest, 0, 10);
    let ends = world.ends(3);
    let (BatchOutcome::NotWritten(failure), 0) = &ends[0] else {
        panic!("{ends:?}");
    };
    let words = failure.message.as_deref().expect("words");
    assert!(
        words.contains("a record that makes a batch of 72 bytes"),
        "{words}"
    );
    assert_eq!(ends[1..], [(written(10), 0), (written(10), 1)]);
}

#[test]
fn what_is_in_flight_behind_a_split_batch_goes_behind_its_halves() {
    let mut world = World::flowing(settings(), script());
    let large = world.append_records(2);
    let behind = world.append(0);
    let sent = world.take_all_sent();
    world.answer(&sent[0], TOO_LARGE, -1);
    world.answer(&sent[1], OUT_OF_ORDER, -1);
    world.pass_ms(2_000);
    let first = world.take_part((0, 1), 1);
    world.answer(&first, 0, 10);
    let second = world.take_part((0, 2), 1);
    world.answer(&second, 0, 11);
    let last = world.take_part((0, 3), 1);
    assert_eq!(last.batches[0].bytes, sent[1].batches[0].bytes);
    world.answer(&last, 0, 12);
    let ended: Vec<u32> = world.done.iter().map(|(batch, _)| *batch).collect();
    assert_eq!(ended, [large, behind]);
}

/// A broker recognises whole batches: parts of one that is in its log would be 45 for ever.
#[test]
fn a_batch_that_is_possibly_written_is_not_split() {
    let mut world = World::flowing(settings(), script());
    world.append_records(2);
    let lost = world.take_sent();
    world.lose_from(lost.connection, None);
    world.pass_ms(500);
    let again = world.take_sent();
    world.answer(&again, TOO_LARGE, -1);
    assert!(world.produced.is_empty());
    let [(_, BatchOutcome::Unknown(_))] = &world.done[..] else {
        panic!("{:?}", world.done);
    };
}

#[test]
fn a_half_without_an_answer_is_sent_again_with_the_same_bytes() {
    let mut world = World::flowing(settings(), script());
    world.append_records(2);
    let whole = world.take_sent();
    world.answer(&whole, TOO_LARGE, -1);
    let first = world.take_part((0, 1), 1);
    world.lose_from(first.connection, None);
    world.pass_ms(500);
    let again = world.take_part((0, 1), 1);
    assert_eq!(again.batches[0].bytes, first.batches[0].bytes);
    world.answer(&again, 0, 10);
    let second = world.take_part((0, 2), 1);
    world.answer(&second, 0, 11);
    assert_eq!(world.ends(2), [(written(10), 0), (written(11), 0)]);
}

#[test]
fn halves_that_time_out_tell_apart_what_was_sent() {
    let mut world = World::flowing(settings(), script());
    world.append_records(2);
    let whole = world.take_sent();
    world.answer(&whole, TOO_LARGE, -1);
    world.take_part((0, 1), 1);
    world.pass_ms(120_000);
    let ends = world.ends(2);
    let timed_out = |failure: &crate::error::Failure| failure.kind == FailureKind::DeliveryTimedOut;
    assert!(matches!(&ends[0].0, BatchOutcome::Unknown(failure) if timed_out(failure)));
    assert!(matches!(&ends[1].0, BatchOutcome::NotWritten(failure) if timed_out(failure)));
}

#[test]
fn giving_up_ends_each_half() {
    let mut world = World::flowing(settings(), script());
    world.append_records(2);
    let whole = world.take_sent();
    world.answer(&whole, TOO_LARGE, -1);
    world.input(Input::AbortRequested);
    let ends = world.ends(2);
    assert!(matches!(&ends[0].0, BatchOutcome::Unknown(_)));
    assert!(matches!(&ends[1].0, BatchOutcome::NotWritten(_)));
}

#[test]
fn without_idempotence_halves_go_too() {
    let config = EngineConfig {
        idempotence: Idempotence::Disabled,
        ..settings()
    };
    let mut world = World::ready(config, script());
    world.append_records(2);
    let whole = world.take_sent();
    world.answer(&whole, TOO_LARGE, -1);
    let halves = world.take_all_sent();
    for (half, offset) in halves.iter().zip(10..) {
        world.answer(half, 0, offset);
    }
    assert_eq!(world.ends(2), [(written(10), 0), (written(11), 0)]);
}

#[test]
fn a_compressed_batch_goes_in_compressed_halves_and_less_is_expected_of_compression() {
    let codec = Codec {
        compression: CompressionType::Gzip,
        level: -1,
    };
    let config = EngineConfig {
        codec,
        ..settings()
    };
    let mut world = World::ready(config, script());
    world.append_records(11);
    let (id, plain) = world.compressing.remove(0);
    let batch = Compressor::new(codec).compress(plain);
    assert_eq!(batch.compression, CompressionType::Gzip);
    world.input(Input::Compressed { id, batch });
    assert!(world.queues.1.per_mille() < 1_050);
    let whole = world.take_part((0, 0), 11);
    world.answer(&whole, TOO_LARGE, -1);
    assert_eq!(world.queues.1.per_mille(), 1_050);
    assert!(world.compressing.is_empty());
    let mut sequence = 0;
    for records in [5, 6] {
        let half = world.take_part((0, sequence), records);
        let attributes = [half.batches[0].bytes[21], half.batches[0].bytes[22]];
        assert_eq!(attributes, [0, 1], "gzip");
        world.answer(&half, 0, 0);
        sequence += records;
    }
    assert_eq!(world.done.len(), 1);
}
