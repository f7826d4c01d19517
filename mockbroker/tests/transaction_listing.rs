//! What admin clients are told of transactions: each by its id, and all that pass filters.
//!
//! Frames by hand; what is told of ids that are not known is among the goldens.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod txns;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use frames::{flexible, put_compact};
use kafka_mockbroker::engine::effect::BrokerId;
use txns::Who;
use world::{World, only_answer};

const ID: &str = "payments";

fn text(answer: &mut Bytes) -> String {
    let length = usize::from(answer.get_u8()) - 1;
    String::from_utf8(answer.split_to(length).to_vec()).unwrap()
}

#[derive(Debug, PartialEq, Eq)]
struct Described {
    code: i16,
    state: String,
    timeout_ms: i32,
    started_at_ms: i64,
    who: (i64, i16),
    partitions: Vec<(String, Vec<i32>)>,
}

/// DescribeTransactions of the one id.
fn described(world: &mut World, broker: BrokerId) -> Described {
    let mut frame = flexible(65, 0);
    frame.put_u8(2);
    put_compact(&mut frame, ID);
    frame.put_u8(0);
    let connection = world.connect(broker);
    let mut answer = only_answer(world.send(connection, frame.freeze()));
    answer.advance(4 + 1 + 4 + 1);
    let code = answer.get_i16();
    assert_eq!(text(&mut answer), ID);
    let state = text(&mut answer);
    let timeout_ms = answer.get_i32();
    let started_at_ms = answer.get_i64();
    let who = (answer.get_i64(), answer.get_i16());
    let topics = answer.get_u8() - 1;
    let partitions = (0..topics).map(|_| {
        let topic = text(&mut answer);
        let count = answer.get_u8() - 1;
        let partitions = (0..count).map(|_| answer.get_i32()).collect();
        assert_eq!(answer.get_u8(), 0);
        (topic, partitions)
    });
    Described {
        code,
        state,
        timeout_ms,
        started_at_ms,
        who,
        partitions: partitions.collect(),
    }
}

#[derive(Clone, Copy, Default)]
struct Filters<'a> {
    state: Option<&'a str>,
    producer_id: Option<i64>,
    duration_ms: Option<i64>,
    pattern: Option<&'a str>,
}

/// ListTransactions, version 2: names that are no state, and ids with their states.
fn listed(world: &mut World, broker: BrokerId, filters: Filters<'_>) -> (Vec<String>, Vec<String>) {
    let mut frame = flexible(66, 2);
    frame.put_u8(if filters.state.is_some() { 2 } else { 1 });
    filters
        .state
        .iter()
        .for_each(|state| put_compact(&mut frame, state));
    frame.put_u8(if filters.producer_id.is_some() { 2 } else { 1 });
    filters.producer_id.iter().for_each(|id| frame.put_i64(*id));
    frame.put_i64(filters.duration_ms.unwrap_or(-1));
    match filters.pattern {
        Some(pattern) => put_compact(&mut frame, pattern),
        None => frame.put_u8(0),
    }
    frame.put_u8(0);
    let connection = world.connect(broker);
    let mut answer = only_answer(world.send(connection, frame.freeze()));
    answer.advance(4 + 1 + 4);
    assert_eq!(answer.get_i16(), 0);
    let unknown = (1..answer.get_u8()).map(|_| text(&mut answer)).collect();
    let rows = (1..answer.get_u8()).map(|_| {
        let id = text(&mut answer);
        answer.advance(8);
        let row = format!("{id} {}", text(&mut answer));
        assert_eq!(answer.get_u8(), 0);
        row
    });
    let rows = rows.collect();
    (unknown, rows)
}

fn rows(world: &mut World, filters: Filters<'_>) -> Vec<String> {
    let coordinator = world.coordinator(ID);
    listed(world, coordinator, filters).1
}

#[test]
fn a_transaction_is_described_by_whoever_coordinates_it() {
    let mut world = World::new();
    let who = world.producer(ID);
    let coordinator = world.coordinator(ID);
    let empty = Described {
        code: 0,
        state: "Empty".into(),
        timeout_ms: 60_000,
        started_at_ms: -1,
        who: (who.id, 0),
        partitions: vec![],
    };
    assert_eq!(described(&mut world, coordinator), empty);
    world.pass(Duration::from_millis(7));
    let now_ms = world.engine.cluster().wall_clock_ms(world.now);
    assert_eq!(world.add(3, ID, who, &[1, 0]), [0, 0]);
    world.pass(Duration::from_millis(7));
    let open = Described {
        state: "Ongoing".into(),
        started_at_ms: now_ms,
        partitions: vec![("orders".into(), vec![0, 1])],
        ..empty
    };
    assert_eq!(described(&mut world, coordinator), open);
    assert_eq!(world.end(ID, who, false).0, 0);
    let ended = described(&mut world, coordinator);
    assert_eq!(
        (ended.state.as_str(), ended.who),
        ("CompleteAbort", (who.id, 1))
    );
    assert_eq!(ended.partitions, []);
    let other = (1..=3).map(BrokerId).find(|broker| *broker != coordinator);
    assert_eq!(described(&mut world, other.unwrap()).code, 16);
}

#[test]
fn transactions_are_listed_that_pass_every_filter() {
    let mut world = World::new();
    let who: Who = world.producer(ID);
    world.add(3, ID, who, &[0]);
    world.pass(Duration::from_millis(10));
    let all = Filters::default();
    let open = vec!["payments Ongoing".to_owned()];
    assert_eq!(rows(&mut world, all), open);
    let state = |state| Filters {
        state: Some(state),
        ..all
    };
    assert_eq!(rows(&mut world, state("Ongoing")), open);
    assert_eq!(rows(&mut world, state("Empty")), [""; 0]);
    let coordinator = world.coordinator(ID);
    let unknown = listed(&mut world, coordinator, state("ongoing"));
    assert_eq!(unknown, (vec!["ongoing".to_owned()], vec![]));
    let producer = |id| Filters {
        producer_id: Some(id),
        ..all
    };
    assert_eq!(rows(&mut world, producer(who.id)), open);
    assert_eq!(rows(&mut world, producer(who.id + 1)), [""; 0]);
    let longer = |ms| Filters {
        duration_ms: Some(ms),
        ..all
    };
    assert_eq!(rows(&mut world, longer(9)), open);
    assert_eq!(rows(&mut world, longer(10)), [""; 0], "longer, not as long");
    let pattern = |pattern| Filters {
        pattern: Some(pattern),
        ..all
    };
    assert_eq!(rows(&mut world, pattern("pay.*")), open);
    assert_eq!(rows(&mut world, pattern("pay")), [""; 0], "as a whole");
    assert_eq!(rows(&mut world, pattern("nothing|payments")), open);
}

#[test]
fn a_broker_lists_what_it_coordinates_and_what_is_not_open_however_long() {
    let mut world = World::new();
    let ids: Vec<String> = (0..12).map(|number| format!("id-{number}")).collect();
    for id in &ids {
        world.producer(id);
    }
    let now_ms = world.engine.cluster().wall_clock_ms(world.now);
    let mut told = Vec::new();
    for broker in (1..=3).map(BrokerId) {
        let filters = Filters {
            duration_ms: Some(now_ms),
            ..Filters::default()
        };
        let (_, rows) = listed(&mut world, broker, filters);
        let of_broker = |id: &&String| world.coordinator(id) == broker;
        let mut expected: Vec<String> = ids
            .iter()
            .filter(of_broker)
            .map(|id| format!("{id} Empty"))
            .collect();
        expected.sort();
        assert_eq!(rows, expected);
        told.extend(rows);
    }
    assert_eq!(told.len(), ids.len());
}
