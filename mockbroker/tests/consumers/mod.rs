//! A consumer that knows frames, written by hand from the protocol guide.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(clippy::expect_used, reason = "a failing helper fails its test")]

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_mockbroker::engine::effect::BrokerId;

use crate::frames::{self, flexible, put_compact};
use crate::world::{World, only_answer};

fn put_orders(frame: &mut BytesMut, offsets: &[(i32, i64)]) {
    frame.put_u8(2);
    put_compact(frame, "orders");
    frame.put_u8(u8::try_from(offsets.len() + 1).expect("few partitions"));
    for (index, offset) in offsets {
        frame.put_i32(*index);
        frame.put_i64(*offset);
        frame.put_i32(-1);
        put_compact(frame, "");
        frame.put_u8(0);
    }
    frame.put_slice(&[0, 0]);
}

/// OffsetCommit of `orders`, version 8.
pub(crate) fn commit(group: &str, (generation, member): (i32, &str), rows: &[(i32, i64)]) -> Bytes {
    let mut frame = flexible(8, 8);
    put_compact(&mut frame, group);
    frame.put_i32(generation);
    put_compact(&mut frame, member);
    frame.put_u8(0);
    put_orders(&mut frame, rows);
    frame.freeze()
}

/// TxnOffsetCommit of `orders`, version 3 to 5.
pub(crate) fn txn_commit(
    version: i16,
    (id, group): (&str, &str),
    (producer_id, epoch): (i64, i16),
    rows: &[(i32, i64)],
) -> Bytes {
    let mut frame = flexible(28, version);
    put_compact(&mut frame, id);
    put_compact(&mut frame, group);
    frame.put_i64(producer_id);
    frame.put_i16(epoch);
    frame.put_i32(-1);
    put_compact(&mut frame, "");
    frame.put_u8(0);
    put_orders(&mut frame, rows);
    frame.freeze()
}

/// The codes of an answer to one of them.
pub(crate) fn committed(mut answer: Bytes) -> Vec<i16> {
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

/// OffsetFetch of two partitions of `orders`, version 8, stable offsets only.
pub(crate) fn fetch(group: &str) -> Bytes {
    let mut frame = flexible(9, 8);
    frame.put_u8(2);
    put_compact(&mut frame, group);
    frame.put_u8(2);
    put_compact(&mut frame, "orders");
    frame.put_u8(3);
    frame.put_i32(0);
    frame.put_i32(1);
    frame.put_slice(&[0, 0, 1, 0]);
    frame.freeze()
}

/// Its answer: offsets and codes of both partitions, or the code of the group.
pub(crate) fn fetched(mut answer: Bytes) -> Result<[(i64, i16); 2], i16> {
    answer.advance(9);
    assert_eq!(answer.get_u8(), 2, "one group");
    let name = answer.get_u8();
    answer.advance(usize::from(name) - 1);
    let topics = answer.get_u8();
    if topics == 1 {
        return Err(answer.get_i16());
    }
    let name = answer.get_u8();
    answer.advance(usize::from(name) - 1);
    assert_eq!(answer.get_u8(), 3, "two partitions");
    Ok([0, 1].map(|_| {
        answer.advance(4);
        let offset = answer.get_i64();
        answer.advance(4);
        let metadata = answer.get_u8();
        answer.advance(usize::from(metadata) - 1);
        let code = answer.get_i16();
        answer.advance(1);
        (offset, code)
    }))
}

/// AddOffsetsToTxn, version 3.
pub(crate) fn add_offsets(id: &str, (producer_id, epoch): (i64, i16), group: &str) -> Bytes {
    let mut frame = flexible(25, 3);
    put_compact(&mut frame, id);
    frame.put_i64(producer_id);
    frame.put_i16(epoch);
    put_compact(&mut frame, group);
    frame.put_u8(0);
    frame.freeze()
}

/// Code of an answer to it.
pub(crate) fn added(mut answer: Bytes) -> i16 {
    answer.advance(9);
    answer.get_i16()
}

/// The partition of `__consumer_offsets` that is the group's, and who leads it; the topic is made.
pub(crate) fn log_of(world: &mut World, group: &str) -> (i32, BrokerId) {
    let [a, b, ..] = group.as_bytes() else {
        panic!("a group of two letters")
    };
    let partition = (i32::from(*a) * 31 + i32::from(*b)) % 50;
    // Whoever is asked makes the topic.
    let connection = world.connect(BrokerId(1));
    world.send(connection, fetch(group));
    let cluster = world.engine.cluster();
    let key = cluster.key("__consumer_offsets", partition);
    let leader = cluster.leader(key.expect("it is there"));
    (partition, leader.expect("somebody leads it"))
}

impl World {
    /// Asks whoever coordinates the group.
    pub(crate) fn ask_group(&mut self, group: &str, frame: Bytes) -> Bytes {
        let (_, coordinator) = log_of(self, group);
        let connection = self.connect(coordinator);
        only_answer(self.send(connection, frame))
    }

    pub(crate) fn offsets(&mut self, group: &str) -> [(i64, i16); 2] {
        fetched(self.ask_group(group, fetch(group))).expect("no code for the group")
    }
}

/// JoinGroup, version 5, as a consumer of ten seconds' session that knows one protocol.
pub(crate) fn join(group: &str, member: &str, instance: Option<&str>) -> Bytes {
    let mut frame = frames::header(11, 5, 1);
    frames::put_text(&mut frame, group);
    frame.put_i32(10_000);
    frame.put_i32(3_000);
    frames::put_text(&mut frame, member);
    match instance {
        Some(instance) => frames::put_text(&mut frame, instance),
        None => frame.put_i16(-1),
    }
    frames::put_text(&mut frame, "consumer");
    frame.put_i32(1);
    frames::put_text(&mut frame, "range");
    frame.put_i32(1);
    frame.put_u8(9);
    frame.freeze()
}

/// JoinGroup, version 5, of a member with these protocols.
pub(crate) fn join_with(group: &str, member: &str, protocols: &[(String, Vec<u8>)]) -> Bytes {
    let mut frame = frames::header(11, 5, 1);
    frames::put_text(&mut frame, group);
    frame.put_i32(10_000);
    frame.put_i32(3_000);
    frames::put_text(&mut frame, member);
    frame.put_i16(-1);
    frames::put_text(&mut frame, "consumer");
    frame.put_i32(i32::try_from(protocols.len()).expect("a legal count"));
    for (name, metadata) in protocols {
        frames::put_text(&mut frame, name);
        frame.put_i32(i32::try_from(metadata.len()).expect("a legal length"));
        frame.put_slice(metadata);
    }
    frame.freeze()
}

/// Its answer.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) code: i16,
    pub(crate) generation: i32,
    pub(crate) leader: String,
    pub(crate) member: String,
    pub(crate) members: i32,
}

fn text(answer: &mut Bytes) -> String {
    let bytes = usize::try_from(answer.get_i16()).expect("a text");
    String::from_utf8(answer.split_to(bytes).to_vec()).expect("UTF-8")
}

pub(crate) fn joined(mut answer: Bytes) -> Joined {
    answer.advance(8);
    let code = answer.get_i16();
    let generation = answer.get_i32();
    text(&mut answer);
    Joined {
        code,
        generation,
        leader: text(&mut answer),
        member: text(&mut answer),
        members: answer.get_i32(),
    }
}

/// SyncGroup, version 1; an assignment is one byte.
pub(crate) fn sync(
    group: &str,
    (generation, member): (i32, &str),
    assignments: &[(&str, u8)],
) -> Bytes {
    let mut frame = frames::header(14, 1, 1);
    frames::put_text(&mut frame, group);
    frame.put_i32(generation);
    frames::put_text(&mut frame, member);
    frame.put_i32(i32::try_from(assignments.len()).expect("few members"));
    for (member, assignment) in assignments {
        frames::put_text(&mut frame, member);
        frame.put_i32(1);
        frame.put_u8(*assignment);
    }
    frame.freeze()
}

/// Code and assignment of an answer to it.
pub(crate) fn synced(mut answer: Bytes) -> (i16, Vec<u8>) {
    answer.advance(8);
    let code = answer.get_i16();
    answer.advance(4);
    (code, answer.to_vec())
}

/// Heartbeat, version 1.
pub(crate) fn heartbeat(group: &str, (generation, member): (i32, &str)) -> Bytes {
    let mut frame = frames::header(12, 1, 1);
    frames::put_text(&mut frame, group);
    frame.put_i32(generation);
    frames::put_text(&mut frame, member);
    frame.freeze()
}

/// LeaveGroup, version 1.
pub(crate) fn leave(group: &str, member: &str) -> Bytes {
    let mut frame = frames::header(13, 1, 1);
    frames::put_text(&mut frame, group);
    frames::put_text(&mut frame, member);
    frame.freeze()
}

/// Code of an answer to one of the two.
pub(crate) fn code(mut answer: Bytes) -> i16 {
    answer.advance(8);
    answer.get_i16()
}
