//! What a small request lets an answer repeat is bounded.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod consumers;
mod frames;
mod txns;
mod world;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use consumers::{join_with, joined, log_of, sync};
use frames::{Batch, NewTopic, create_topics, flexible, header, put_compact, put_text};
use kafka_mockbroker::engine::effect::BrokerId;
use world::{LEADER, World, is_closed, only_answer};

const GROUP: &str = "ab";
const MEBIBYTE: usize = 1 << 20;

/// A stable group whose one member says as much as this.
fn group_with(world: &mut World, metadata: usize) -> BrokerId {
    let (_, coordinator) = log_of(world, GROUP);
    let connection = world.connect(coordinator);
    let protocols = vec![("range".to_owned(), vec![0; metadata])];
    let asked = |member: &str| join_with(GROUP, member, &protocols);
    let member = joined(only_answer(world.send(connection, asked("")))).member;
    let told = joined(only_answer(world.send(connection, asked(&member))));
    assert_eq!((told.code, told.generation), (0, 1));
    world.send(connection, sync(GROUP, (1, &member), &[(&member, 7)]));
    coordinator
}

/// An unsigned number of a compact array's count.
fn put_count(frame: &mut BytesMut, elements: u32) {
    let mut left = elements + 1;
    while left > 0x7f {
        frame.put_u8(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    frame.put_u8(u8::try_from(left).unwrap());
}

/// DescribeGroups, version 0, of one group several times.
fn describe_groups(times: i32) -> Bytes {
    let mut frame = header(15, 0, 1);
    frame.put_i32(times);
    for _ in 0..times {
        put_text(&mut frame, GROUP);
    }
    frame.freeze()
}

/// OffsetFetch, version 8, of all that a group has, several times.
fn fetch_offsets(times: u32) -> Bytes {
    let mut frame = flexible(9, 8);
    put_count(&mut frame, times);
    for _ in 0..times {
        put_compact(&mut frame, GROUP);
        frame.put_slice(&[0, 0]);
    }
    frame.put_slice(&[0, 0]);
    frame.freeze()
}

/// DescribeTransactions of one id several times.
fn describe_transactions(times: u32) -> Bytes {
    let mut frame = flexible(65, 0);
    put_count(&mut frame, times);
    for _ in 0..times {
        put_compact(&mut frame, "t");
    }
    frame.put_u8(0);
    frame.freeze()
}

fn ask(world: &mut World, broker: BrokerId, frame: Bytes) -> Bytes {
    let connection = world.connect(broker);
    only_answer(world.send(connection, frame))
}

fn assert_refused(world: &mut World, broker: BrokerId, frame: Bytes) {
    let connection = world.connect(broker);
    assert!(is_closed(&world.send(connection, frame)));
    let diagnostics = world.engine.journal().diagnostics();
    let told = &diagnostics.last().unwrap().text;
    assert!(told.contains("would repeat 104857600 bytes"), "{told}");
}

#[test]
fn a_group_is_described_again_and_again_within_bounds() {
    let mut world = World::new();
    let coordinator = group_with(&mut world, MEBIBYTE);
    let mut answer = ask(&mut world, coordinator, describe_groups(3));
    assert!(answer.len() > 3 * MEBIBYTE, "each has its row");
    answer.advance(4);
    assert_eq!(answer.get_i32(), 3);
    assert_refused(&mut world, coordinator, describe_groups(100));
}

#[test]
fn offsets_are_told_again_and_again_within_bounds() {
    let mut world = World::new();
    let (_, coordinator) = log_of(&mut world, GROUP);
    let mut commit = header(8, 2, 1);
    put_text(&mut commit, GROUP);
    commit.put_i32(-1);
    put_text(&mut commit, "");
    commit.put_i64(-1);
    commit.put_i32(1);
    put_text(&mut commit, "orders");
    commit.put_i32(1);
    commit.put_i32(0);
    commit.put_i64(5);
    put_text(&mut commit, &"m".repeat(4_096));
    ask(&mut world, coordinator, commit.freeze());
    let answer = ask(&mut world, coordinator, fetch_offsets(3));
    assert!(answer.len() > 3 * 4_096, "each has its row");
    assert_refused(&mut world, coordinator, fetch_offsets(26_000));
}

#[test]
fn a_transaction_is_described_again_and_again_within_bounds() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    // Long names make few of them enough.
    let names: Vec<&'static str> = (0..40)
        .map(|index| &*format!("{index:0>249}").leak())
        .collect();
    let topics = names.iter().map(|name| NewTopic::new(name, 1, 1));
    let topics: Vec<NewTopic> = topics.collect();
    world.send(connection, create_topics(&topics, 0));
    let who = world.producer("t");
    let mut add = header(24, 1, 1);
    put_text(&mut add, "t");
    add.put_i64(who.id);
    add.put_i16(who.epoch);
    add.put_i32(40);
    for name in names {
        put_text(&mut add, name);
        add.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    }
    world.ask_coordinator("t", add.freeze());
    let coordinator = world.coordinator("t");
    let answer = ask(&mut world, coordinator, describe_transactions(3));
    assert!(answer.len() > 3 * 40 * 249, "each has its row");
    assert_refused(&mut world, coordinator, describe_transactions(8_400));
}

/// DescribeProducers of one partition several times.
fn describe_producers(times: u32) -> Bytes {
    let mut frame = flexible(61, 0);
    frame.put_u8(2);
    put_compact(&mut frame, "orders");
    put_count(&mut frame, times);
    for _ in 0..times {
        frame.put_i32(0);
    }
    frame.put_slice(&[0, 0]);
    frame.freeze()
}

/// DescribeConfigs, version 1, of one topic several times, with synonyms.
fn describe_configs(times: i32) -> Bytes {
    let mut frame = header(32, 1, 1);
    frame.put_i32(times);
    for _ in 0..times {
        frame.put_u8(2);
        put_text(&mut frame, "orders");
        frame.put_i32(-1);
    }
    frame.put_u8(1);
    frame.freeze()
}

#[test]
fn producers_are_described_again_and_again_within_bounds() {
    let mut world = World::new();
    for id in 0..300 {
        world.append(-1, Batch::idempotent(id, 0, 1));
    }
    let answer = ask(&mut world, LEADER, describe_producers(3));
    assert!(answer.len() > 3 * 300 * 30, "each has its row");
    assert_refused(&mut world, LEADER, describe_producers(8_000));
}

#[test]
fn configs_are_described_again_and_again_within_bounds() {
    let mut world = World::new();
    let once = ask(&mut world, LEADER, describe_configs(1)).len();
    let thrice = ask(&mut world, LEADER, describe_configs(3)).len();
    assert!(thrice > 2 * once, "each has its row");
    assert_refused(&mut world, LEADER, describe_configs(150_000));
}
