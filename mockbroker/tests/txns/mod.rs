//! A producer of transactions that knows frames, written by hand from the protocol guide.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing helper fails its test"
)]

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_mockbroker::engine::effect::{BrokerId, Effect};

use crate::frames::{self, Batch, flexible, put_compact};
use crate::world::{LEADER, World, only_answer};

/// Who a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

pub(crate) const NOBODY: Who = Who { id: -1, epoch: -1 };

/// The attribute of a transactional batch, in the first byte of its low half.
const TRANSACTIONAL: u8 = 1 << 4;

fn put_count(frame: &mut BytesMut, count: usize) {
    frame.put_u8(u8::try_from(count + 1).expect("few elements"));
}

/// InitProducerId, version 1 or from 3 on.
pub(crate) fn init(version: i16, id: &str, timeout_ms: i32, expected: Who) -> Bytes {
    if version < 2 {
        let mut frame = frames::header(22, version, 1);
        frames::put_text(&mut frame, id);
        frame.put_i32(timeout_ms);
        return frame.freeze();
    }
    let mut frame = flexible(22, version);
    put_compact(&mut frame, id);
    frame.put_i32(timeout_ms);
    if version > 2 {
        frame.put_i64(expected.id);
        frame.put_i16(expected.epoch);
    }
    frame.put_u8(0);
    frame.freeze()
}

/// Code and identity of an answer to it.
pub(crate) fn inited(version: i16, mut answer: Bytes) -> (i16, Who) {
    answer.advance(if version < 2 { 8 } else { 9 });
    let code = answer.get_i16();
    let id = answer.get_i64();
    (
        code,
        Who {
            id,
            epoch: answer.get_i16(),
        },
    )
}

/// A batch of a transaction with one-byte records.
pub(crate) fn batch(who: Who, sequence: i32, count: i32) -> Bytes {
    with_attribute(
        Batch {
            epoch: who.epoch,
            ..Batch::idempotent(who.id, sequence, count)
        }
        .encode(),
    )
}

fn with_attribute(batch: Bytes) -> Bytes {
    let mut batch = batch.to_vec();
    batch[22] |= TRANSACTIONAL;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// Produce of one topic, version 7 or from 9 to 12.
pub(crate) fn produce(version: i16, id: &str, entries: &[(i32, Bytes)]) -> Bytes {
    if version < 9 {
        let mut frame = frames::header(0, version, 1);
        frames::put_text(&mut frame, id);
        frame.put_i16(-1);
        frame.put_i32(1_000);
        frame.put_i32(1);
        frames::put_text(&mut frame, "orders");
        frame.put_i32(i32::try_from(entries.len()).unwrap());
        for (partition, records) in entries {
            frame.put_i32(*partition);
            frame.put_i32(i32::try_from(records.len()).unwrap());
            frame.put_slice(records);
        }
        return frame.freeze();
    }
    let mut frame = flexible(0, version);
    put_compact(&mut frame, id);
    frame.put_i16(-1);
    frame.put_i32(1_000);
    put_count(&mut frame, 1);
    put_compact(&mut frame, "orders");
    put_count(&mut frame, entries.len());
    for (partition, records) in entries {
        frame.put_i32(*partition);
        put_count(&mut frame, records.len());
        frame.put_slice(records);
        frame.put_u8(0);
    }
    frame.put_slice(&[0, 0]);
    frame.freeze()
}

/// A row: code, base offset, log start offset, message.
pub(crate) type Row = (i16, i64, i64, Option<String>);

/// The rows of an answer to it, in the order of the request.
pub(crate) fn produced(version: i16, mut answer: Bytes) -> Vec<Row> {
    if version < 9 {
        let rows = frames::produce_rows(answer).into_iter();
        return rows
            .map(|row| (row.code, row.base_offset, row.log_start_offset, None))
            .collect();
    }
    answer.advance(5);
    assert_eq!(answer.get_u8(), 2, "one topic");
    let name = answer.get_u8();
    answer.advance(usize::from(name) - 1);
    let count = answer.get_u8() - 1;
    let row = |_| {
        answer.advance(4);
        let (code, base) = (answer.get_i16(), answer.get_i64());
        answer.advance(8);
        let start = answer.get_i64();
        assert_eq!(answer.get_u8(), 1, "no record errors");
        let message = match answer.get_u8() {
            0 => None,
            bytes => {
                let text = answer.split_to(usize::from(bytes) - 1);
                Some(String::from_utf8(text.to_vec()).unwrap())
            }
        };
        assert_eq!(answer.get_u8(), 0, "no leader hint");
        (code, base, start, message)
    };
    (0..count).map(row).collect()
}

/// EndTxn.
pub(crate) fn end(version: i16, id: &str, who: Who, commit: bool) -> Bytes {
    let mut frame = if version < 3 {
        let mut frame = frames::header(26, version, 1);
        frames::put_text(&mut frame, id);
        frame
    } else {
        let mut frame = flexible(26, version);
        put_compact(&mut frame, id);
        frame
    };
    frame.put_i64(who.id);
    frame.put_i16(who.epoch);
    frame.put_u8(u8::from(commit));
    if version >= 3 {
        frame.put_u8(0);
    }
    frame.freeze()
}

/// Code of an answer to it, and from version 5 on who may go on.
pub(crate) fn ended(version: i16, mut answer: Bytes) -> (i16, Who) {
    answer.advance(if version < 3 { 8 } else { 9 });
    let code = answer.get_i16();
    if version < 5 {
        return (code, NOBODY);
    }
    let id = answer.get_i64();
    (
        code,
        Who {
            id,
            epoch: answer.get_i16(),
        },
    )
}

/// AddPartitionsToTxn of `orders`, version 1 or 3.
pub(crate) fn add(version: i16, id: &str, who: Who, partitions: &[i32]) -> Bytes {
    if version < 3 {
        let mut frame = frames::header(24, version, 1);
        frames::put_text(&mut frame, id);
        frame.put_i64(who.id);
        frame.put_i16(who.epoch);
        frame.put_i32(1);
        frames::put_text(&mut frame, "orders");
        frame.put_i32(i32::try_from(partitions.len()).unwrap());
        partitions.iter().for_each(|index| frame.put_i32(*index));
        return frame.freeze();
    }
    let mut frame = flexible(24, version);
    put_compact(&mut frame, id);
    frame.put_i64(who.id);
    frame.put_i16(who.epoch);
    put_count(&mut frame, 1);
    put_compact(&mut frame, "orders");
    put_count(&mut frame, partitions.len());
    partitions.iter().for_each(|index| frame.put_i32(*index));
    frame.put_slice(&[0, 0]);
    frame.freeze()
}

/// The codes of an answer to it.
pub(crate) fn added(version: i16, mut answer: Bytes) -> Vec<i16> {
    if version < 3 {
        answer.advance(8 + 4);
        frames::skip_text(&mut answer);
        let count = answer.get_i32();
        let code = |_| {
            answer.advance(4);
            answer.get_i16()
        };
        return (0..count).map(code).collect();
    }
    answer.advance(9);
    assert_eq!(answer.get_u8(), 2, "one topic");
    let name = answer.get_u8();
    answer.advance(usize::from(name) - 1);
    let count = answer.get_u8() - 1;
    let code = |_| {
        answer.advance(4);
        let code = answer.get_i16();
        answer.advance(1);
        code
    };
    (0..count).map(code).collect()
}

/// Fetch of `orders-0` from an offset, version 11, as one who reads what is committed.
pub(crate) fn fetch_committed(offset: i64) -> Bytes {
    let mut frame = frames::header(1, 11, 1);
    for number in [-1, 0, 0, 1 << 20] {
        frame.put_i32(number);
    }
    frame.put_u8(1);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_i32(1);
    frames::put_text(&mut frame, "orders");
    frame.put_i32(1);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_i64(offset);
    frame.put_i64(-1);
    frame.put_i32(1 << 20);
    frame.put_i32(0);
    frames::put_text(&mut frame, "");
    frame.freeze()
}

/// What such a reader is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    /// Producer ids and first offsets.
    pub(crate) aborted: Vec<(i64, i64)>,
    /// Base offset and attributes of each batch.
    pub(crate) batches: Vec<(i64, i16)>,
}

pub(crate) fn fetched(mut answer: Bytes) -> Read {
    answer.advance(4 + 4 + 2 + 4 + 4);
    frames::skip_text(&mut answer);
    answer.advance(4 + 4);
    assert_eq!(answer.get_i16(), 0);
    let (high_watermark, last_stable_offset) = (answer.get_i64(), answer.get_i64());
    answer.advance(8);
    let count = answer.get_i32();
    let aborted = (0..count).map(|_| (answer.get_i64(), answer.get_i64()));
    let aborted = aborted.collect();
    answer.advance(4 + 4);
    let mut batches = Vec::new();
    while !answer.is_empty() {
        let base = answer.get_i64();
        let length = usize::try_from(answer.get_i32()).unwrap();
        let mut rest = answer.split_to(length);
        rest.advance(4 + 1 + 4);
        batches.push((base, rest.get_i16()));
    }
    Read {
        high_watermark,
        last_stable_offset,
        aborted,
        batches,
    }
}

/// The same world, as a producer of transactions meets it.
impl World {
    /// Asks whoever coordinates the id.
    pub(crate) fn ask_coordinator(&mut self, id: &str, frame: Bytes) -> Bytes {
        let coordinator = self.coordinator(id);
        let connection = self.connect(coordinator);
        only_answer(self.send(connection, frame))
    }

    pub(crate) fn coordinator(&self, id: &str) -> BrokerId {
        let mut engine = self.engine.clone();
        engine.coordinator_of(id).expect("brokers live")
    }

    pub(crate) fn init(&mut self, id: &str) -> (i16, Who) {
        self.init_as(id, NOBODY)
    }

    pub(crate) fn init_as(&mut self, id: &str, expected: Who) -> (i16, Who) {
        inited(4, self.ask_coordinator(id, init(4, id, 60_000, expected)))
    }

    /// A producer at its first epoch.
    pub(crate) fn producer(&mut self, id: &str) -> Who {
        let (code, who) = self.init(id);
        assert_eq!((code, who.epoch), (0, 0));
        who
    }

    /// Sends a batch to `orders-0`, at version 12.
    pub(crate) fn write(&mut self, id: &str, who: Who, sequence: i32) -> Row {
        self.write_at(12, id, batch(who, sequence, 1))
    }

    pub(crate) fn write_at(&mut self, version: i16, id: &str, batch: Bytes) -> Row {
        let rows = self.write_effects(version, id, batch);
        produced(version, only_answer(rows)).remove(0)
    }

    pub(crate) fn write_effects(&mut self, version: i16, id: &str, batch: Bytes) -> Vec<Effect> {
        let connection = self.connect(LEADER);
        self.send(connection, produce(version, id, &[(0, batch)]))
    }

    /// Ends at version 5.
    pub(crate) fn end(&mut self, id: &str, who: Who, commit: bool) -> (i16, Who) {
        self.end_at(5, id, who, commit)
    }

    pub(crate) fn end_at(&mut self, version: i16, id: &str, who: Who, commit: bool) -> (i16, Who) {
        let answer = self.ask_coordinator(id, end(version, id, who, commit));
        ended(version, answer)
    }

    pub(crate) fn add(&mut self, version: i16, id: &str, who: Who, partitions: &[i32]) -> Vec<i16> {
        let answer = self.ask_coordinator(id, add(version, id, who, partitions));
        added(version, answer)
    }

    pub(crate) fn read_committed(&mut self, offset: i64) -> Read {
        let connection = self.connect(LEADER);
        fetched(only_answer(self.send(connection, fetch_committed(offset))))
    }
}
