//! What clients see of requests: order, silence, reading back, and hostile bytes.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use frames::{
    Batch, fetch, fetched, header, list_offsets, listed, metadata, produce, produce_rows,
};
use kafka_mockbroker::Api;
use kafka_mockbroker::engine::effect::{ConnectionId, Effect};
use kafka_mockbroker::engine::journal::{Event, Silence};
use kafka_mockbroker::engine::{Move, MoveError};
use proptest::prelude::*;
use rstest::rstest;
use world::{LEADER, THIRD, World, answer_on, is_closed, only_answer, outcome, to_orders};

#[test]
fn a_topic_deleted_while_waiting_is_unknown() {
    let mut world = World::new();
    world.hold(THIRD);
    world.append(-1, Batch::plain(1));
    world
        .engine
        .delete_topic("orders", world.now)
        .expect("it is there");
    assert_eq!(outcome(world.effects()).0, 3);
}

#[test]
fn a_waiting_request_holds_back_its_connection_and_no_other() {
    let mut world = World::new();
    world.hold(THIRD);
    let (here, there) = (world.connect(LEADER), world.connect(LEADER));
    assert_eq!(world.send(here, to_orders(-1, Batch::plain(1))), []);
    assert_eq!(
        world.send(here, metadata("orders")),
        [],
        "it waits behind the first"
    );
    assert_eq!(world.send(there, metadata("orders")).len(), 1);
    let released = world.release(THIRD);
    let order: Vec<ConnectionId> = released.iter().map(Effect::connection).collect();
    assert_eq!(order, [here, here]);
    assert_eq!(
        outcome(released[..1].to_vec()),
        (0, 0),
        "the first request is answered first"
    );
}

#[test]
fn acks_0_is_silent_and_the_next_request_is_served() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, to_orders(0, Batch::plain(1))), []);
    assert_eq!(world.log_end(0), 1);
    assert_eq!(world.send(connection, metadata("orders")).len(), 1);
}

#[test]
fn acks_0_with_an_error_closes_and_keeps_what_was_good() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let good = Some(Batch::plain(1).encode());
    let frame = produce(0, 1_000, "orders", &[(0, good.clone()), (77, good)]);
    assert!(is_closed(&world.send(connection, frame)));
    assert_eq!(world.log_end(0), 1);
}

#[test]
fn null_records_mute_the_connection_and_append_nothing() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let good = Some(Batch::plain(1).encode());
    let frame = produce(-1, 1_000, "orders", &[(0, good), (1, None)]);
    assert_eq!(world.send(connection, frame), []);
    assert_eq!(world.send(connection, metadata("orders")), [], "muted");
    assert_eq!(world.log_end(0), 0, "not even the good partition");
    assert_eq!(world.engine.journal().diagnostics().len(), 1);
    let reasons = world
        .engine
        .journal()
        .entries()
        .filter_map(|entry| match &entry.event {
            Event::NoReply { reason, .. } => Some(*reason),
            _ => None,
        });
    assert_eq!(reasons.collect::<Vec<_>>(), [Silence::Stuck]);
}

#[rstest]
#[case::last_entry_is_stored(&[1, 2], (0, 0), 2)]
#[case::two_batches_show_though_the_other_is_stored(&[-2, 3], (87, -1), 3)]
fn a_partition_named_twice_has_one_row(
    #[case] entries: &[i32],
    #[case] row: (i16, i64),
    #[case] stored: i64,
) {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let records = |count: &i32| match *count {
        -2 => [Batch::plain(1).encode(), Batch::plain(1).encode()]
            .concat()
            .into(),
        count => Batch::plain(count).encode(),
    };
    let entries: Vec<(i32, Option<Bytes>)> = entries
        .iter()
        .map(|count| (0, Some(records(count))))
        .collect();
    let rows = produce_rows(only_answer(
        world.send(connection, produce(1, 1_000, "orders", &entries)),
    ));
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].code, rows[0].base_offset), row);
    assert_eq!(world.log_end(0), stored);
}

#[test]
fn a_reader_waits_for_enough_bytes_and_no_longer_than_it_said() {
    let mut world = World::new();
    let (modest, greedy) = (world.connect(LEADER), world.connect(LEADER));
    let bytes = i32::try_from(Batch::plain(1).encode().len()).expect("small");
    let both = usize::try_from(2 * bytes).expect("small");
    assert_eq!(
        world.send(modest, fetch("orders", 0, 0, (500, 2 * bytes))),
        []
    );
    assert_eq!(
        world.send(greedy, fetch("orders", 0, 0, (500, 3 * bytes))),
        []
    );
    assert_eq!(
        world.append(1, Batch::plain(1)).len(),
        1,
        "one batch is not enough"
    );
    let effects = world.append(1, Batch::plain(1));
    assert_eq!(effects.len(), 2, "the writer, and who wanted two batches");
    assert_eq!(fetched(answer_on(&effects, modest)).2.len(), both);
    let late = only_answer(world.pass(Duration::from_millis(500)));
    assert_eq!(
        fetched(late).2.len(),
        both,
        "what is there when the time is over"
    );
}

#[test]
fn stored_batches_carry_their_offset_and_read_back_as_sent() {
    let mut world = World::new();
    let batch = Batch::idempotent(9, 0, 3);
    world.append(-1, Batch::plain(1));
    world.append(-1, batch);
    let reader = world.connect(LEADER);
    let (_, _, records) = fetched(only_answer(
        world.send(reader, fetch("orders", 0, 1, (0, 1))),
    ));
    let sent = batch.encode();
    assert_eq!(
        records[..8],
        1i64.to_be_bytes(),
        "the base offset is the log's"
    );
    assert_eq!(records[8..12], sent[8..12]);
    assert_eq!(
        records[12..16],
        0i32.to_be_bytes(),
        "the leader epoch is the broker's"
    );
    assert_eq!(records[16..], sent[16..], "and nothing else changes");
}

#[rstest]
#[case::end(-1, (0, -1, 2))]
#[case::start(-2, (0, -1, 0))]
#[case::largest_timestamp_which_version_1_does_not_know(-3, (35, -1, -1))]
#[case::by_time(1_500, (0, 2_000, 1))]
#[case::beyond(9_000, (0, -1, -1))]
fn offsets_are_found_by_what_they_are_called(
    #[case] timestamp: i64,
    #[case] expected: (i16, i64, i64),
) {
    let mut world = World::new();
    world.append(-1, Batch::plain(1));
    world.append(
        -1,
        Batch {
            timestamp_ms: 2_000,
            ..Batch::plain(1)
        },
    );
    let reader = world.connect(LEADER);
    let answer = only_answer(world.send(reader, list_offsets("orders", 0, timestamp)));
    assert_eq!(listed(answer), expected);
}

#[test]
fn the_same_requests_give_the_same_answers() {
    let run = || {
        let mut world = World::new();
        let mut answers = vec![world.append(-1, Batch::idempotent(9, 0, 2))];
        let connection = world.connect(LEADER);
        answers.push(world.send(connection, metadata("payments")));
        answers.push(world.send(connection, metadata("payments")));
        answers
    };
    assert_eq!(run(), run());
}

/// Frames that are almost right: a recorded request, cut and with bytes changed.
fn almost_frame() -> impl Strategy<Value = Vec<u8>> {
    let recorded: Vec<Vec<u8>> = include_str!("goldens/kafka-4.3.1.txt")
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .map(|hex| {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            (0..hex.len()).step_by(2).map(byte).collect()
        })
        .collect();
    let frame = proptest::sample::select(recorded);
    let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    (frame, changes, any::<usize>()).prop_map(|(mut frame, changes, cut)| {
        for (at, byte) in changes {
            let at = at % frame.len();
            frame[at] = byte;
        }
        frame.truncate(frame.len() - cut % 4);
        frame
    })
}

proptest! {
    #[test]
    fn any_frame_ends_in_an_answer_silence_or_the_end_of_its_own_connection(
        frame in prop_oneof![proptest::collection::vec(any::<u8>(), 0..100), almost_frame()],
    ) {
        let mut world = World::new();
        let (hostile, honest) = (world.connect(LEADER), world.connect(LEADER));
        let effects = world.send(hostile, frame.into());
        for effect in effects {
            prop_assert_eq!(effect.connection(), hostile);
        }
        prop_assert_eq!(world.send(honest, metadata("orders")).len(), 1);
    }
}

fn api_versions(version: i16) -> Bytes {
    let mut frame = header(18, version, 1);
    if version >= 3 {
        // Name and version of the software, as compact strings; no tagged fields.
        frame.put_slice(&[0, 2, b'x', 2, b'1', 0]);
    }
    frame.freeze()
}

/// Code, then key, oldest and newest version of each API, in the layout of version 0.
fn offered(mut answer: Bytes) -> (i16, Vec<(i16, i16, i16)>) {
    answer.advance(4);
    let code = answer.get_i16();
    let count = answer.get_i32();
    let apis = (0..count).map(|_| (answer.get_i16(), answer.get_i16(), answer.get_i16()));
    (code, apis.collect())
}

fn restrict(world: &mut World, api: Api, min: i16, max: i16) {
    world.make(&Move::RestrictVersions {
        broker: LEADER,
        api,
        min,
        max,
    });
}

#[test]
fn a_restricted_broker_names_the_narrowed_range_and_a_wider_one_gives_it_back() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    restrict(&mut world, Api::Produce, 3, 9);
    let answer = only_answer(world.send(connection, api_versions(0)));
    let (code, apis) = offered(answer);
    assert_eq!((code, apis[0]), (0, (0, 3, 9)));
    restrict(&mut world, Api::Produce, 0, i16::MAX);
    let answer = only_answer(world.send(connection, api_versions(0)));
    assert_eq!(offered(answer).1[0], (0, 0, 13));
}

#[test]
fn a_restricted_api_versions_refuses_in_the_layout_of_version_0() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    restrict(&mut world, Api::ApiVersions, 0, 2);
    let answer = only_answer(world.send(connection, api_versions(3)));
    assert_eq!(offered(answer), (35, vec![(18, 0, 2)]));
    let answer = only_answer(world.send(connection, api_versions(0)));
    assert_eq!(offered(answer).0, 0);
}

#[test]
fn an_expired_producer_may_begin_anywhere_and_duplicates_are_not_known() {
    let mut world = World::new();
    let batch = Batch::idempotent(9, 0, 1);
    assert_eq!(outcome(world.append(-1, batch)), (0, 0));
    assert_eq!(outcome(world.append(-1, batch)), (0, 0), "a duplicate");
    let expire = Move::ExpireProducer { producer_id: 9 };
    world.make(&expire);
    assert_eq!(outcome(world.append(-1, batch)), (0, 1), "appended again");
    let nobody = Move::ExpireProducer { producer_id: 8 };
    assert_eq!(
        world.engine.make_move(&nobody, world.now),
        Err(MoveError::UnknownProducer)
    );
}
