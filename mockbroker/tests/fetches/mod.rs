//! Fetch by hand: version 11 and by topic id; what an answer of version 11 says.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing helper fails its test"
)]

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frames::{Batch, header, produce, put_text};
use crate::world::{LEADER, SECOND, World, only_answer, only_row};

/// A topic with its partitions: index, leader epoch, offset, bytes at most.
pub(crate) type Asked<'a> = (&'a str, &'a [(i32, i32, i64, i32)]);

/// A Fetch request, version 11.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) wait_ms: i32,
    pub(crate) bytes_min: i32,
    pub(crate) bytes_max: i32,
    pub(crate) session: (i32, i32),
    pub(crate) topics: &'a [Asked<'a>],
    pub(crate) forgotten: &'a [(&'a str, i32)],
}

/// Answered at once, and as much as there is.
pub(crate) const AT_ONCE: Ask<'_> = Ask {
    wait_ms: 0,
    bytes_min: 1,
    bytes_max: 1 << 20,
    session: (0, -1),
    topics: &[],
    forgotten: &[],
};

pub(crate) fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap()
}

impl Ask<'_> {
    pub(crate) fn encode(&self) -> Bytes {
        let mut frame = header(1, 11, 1);
        frame.put_i32(-1);
        frame.put_i32(self.wait_ms);
        frame.put_i32(self.bytes_min);
        frame.put_i32(self.bytes_max);
        frame.put_u8(0);
        frame.put_i32(self.session.0);
        frame.put_i32(self.session.1);
        frame.put_i32(count(self.topics.len()));
        for (topic, partitions) in self.topics {
            put_text(&mut frame, topic);
            frame.put_i32(count(partitions.len()));
            for (index, epoch, offset, bytes_max) in *partitions {
                frame.put_i32(*index);
                frame.put_i32(*epoch);
                frame.put_i64(*offset);
                frame.put_i64(-1);
                frame.put_i32(*bytes_max);
            }
        }
        frame.put_i32(count(self.forgotten.len()));
        for (topic, partition) in self.forgotten {
            put_text(&mut frame, topic);
            frame.put_i32(1);
            frame.put_i32(*partition);
        }
        put_text(&mut frame, "");
        frame.freeze()
    }
}

/// A row: topic, partition, code, high watermark, bytes of records.
pub(crate) type Row = (String, i32, i16, i64, usize);

pub(crate) fn text(answer: &mut Bytes) -> String {
    let bytes = usize::try_from(answer.get_i16()).unwrap();
    String::from_utf8(answer.split_to(bytes).to_vec()).unwrap()
}

/// The code of the whole, the session, and the rows of an answer, version 11.
pub(crate) fn answered(mut answer: Bytes) -> (i16, i32, Vec<Row>) {
    answer.advance(4 + 4);
    let (code, session) = (answer.get_i16(), answer.get_i32());
    let mut rows = Vec::new();
    for _ in 0..answer.get_i32() {
        let topic = text(&mut answer);
        for _ in 0..answer.get_i32() {
            let (index, code, watermark) = (answer.get_i32(), answer.get_i16(), answer.get_i64());
            assert_eq!(answer.get_i64(), watermark, "nothing is unstable");
            answer.advance(8);
            assert!(answer.get_i32() < 1, "no aborted transactions");
            assert_eq!(answer.get_i32(), -1, "no preferred replica");
            let bytes = usize::try_from(answer.get_i32()).unwrap();
            answer.advance(bytes);
            rows.push((topic.clone(), index, code, watermark, bytes));
        }
    }
    assert!(answer.is_empty());
    (code, session, rows)
}

pub(crate) const fn asking<'a>(topics: &'a [Asked<'a>]) -> Ask<'a> {
    Ask { topics, ..AT_ONCE }
}

pub(crate) fn ask(world: &mut World, asked: &Ask<'_>) -> (i16, i32, Vec<Row>) {
    let connection = world.connect(LEADER);
    answered(only_answer(world.send(connection, asked.encode())))
}

pub(crate) fn row(partition: i32, code: i16, watermark: i64, bytes: usize) -> Row {
    ("orders".into(), partition, code, watermark, bytes)
}

/// Three equal batches of two records in partition 0.
pub(crate) fn written() -> World {
    let mut world = World::new();
    for _ in 0..3 {
        append(&mut world, 0);
    }
    world
}

pub(crate) fn append(world: &mut World, partition: i32) {
    let connection = world.connect(if partition == 0 { LEADER } else { SECOND });
    let batch = Batch::plain(2).encode();
    let sent = produce(-1, 0, "orders", &[(partition, Some(batch))]);
    assert_eq!(only_row(world.send(connection, sent)).code, 0);
}

/// Bytes of such a batch.
pub(crate) fn batch() -> usize {
    Batch::plain(2).encode().len()
}

/// Fetch of partition 0 from its start, by id, in a flexible version; the partition's epoch.
pub(crate) fn by_id(world: &World, version: i16, epoch: i32) -> Bytes {
    let topic = world.engine.cluster().topology().topic_by_name("orders");
    let mut frame: BytesMut = header(1, version, 1);
    frame.put_u8(0);
    if version < 15 {
        frame.put_i32(-1);
    }
    for number in [0, 0, 1 << 20] {
        frame.put_i32(number);
    }
    frame.put_u8(0);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_u8(2);
    frame.put_slice(topic.expect("it is there").id.as_bytes());
    frame.put_slice(&[2, 0, 0, 0, 0]);
    frame.put_i32(epoch);
    frame.put_i64(0);
    frame.put_i32(-1);
    frame.put_i64(-1);
    frame.put_i32(1 << 20);
    frame.put_slice(&[0, 0, 1, 1, 0]);
    frame.freeze()
}
