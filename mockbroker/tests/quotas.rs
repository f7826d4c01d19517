//! Client quotas: who is throttled, what he is told, and what waits meanwhile.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod raw;
mod world;

use core::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use frames::{Batch, fetch, fetched, metadata, produce, produce_rows};
use kafka_mockbroker::engine::effect::{ConnectionId, Effect};
use kafka_mockbroker::engine::journal::Event;
use kafka_mockbroker::{Api, MockCluster, QuotaEntity, Rule, Verdict};
use raw::Client;
use rstest::rstest;
use tokio::time::Instant;
use world::{LEADER, World, only_answer, to_orders};

/// The client id of all frames.
const TEST: &str = "test";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A world in which each client may move 10,000 bytes a second.
fn limited(key: &str) -> World {
    let mut world = World::configured(&[]);
    let entity = QuotaEntity::client_id(TEST);
    world
        .engine
        .set_quota(&entity, key, Some(10_000.0), world.now)
        .unwrap();
    world
}

/// The frame of so many bytes: what lies behind the last field is ignored, and weighs.
fn padded(frame: &Bytes, bytes: usize) -> Bytes {
    let mut padded = BytesMut::from(&frame[..]);
    padded.resize(bytes, 0);
    padded.freeze()
}

/// A Produce of one batch, in a frame of so many bytes.
fn burst(acks: i16, bytes: usize) -> Bytes {
    padded(&to_orders(acks, Batch::plain(1)), bytes)
}

/// Code, base offset and throttle time of a Produce answer.
fn told(answer: Bytes) -> (i16, i64, i32) {
    let throttle_ms = (&answer[answer.len() - 4..]).get_i32();
    let row = produce_rows(answer)[0];
    (row.code, row.base_offset, throttle_ms)
}

fn sent(world: &mut World, connection: ConnectionId, acks: i16, bytes: usize) -> (i16, i64, i32) {
    told(only_answer(world.send(connection, burst(acks, bytes))))
}

fn answers(effects: &[Effect]) -> usize {
    let answer = |effect: &&Effect| matches!(effect, Effect::Reply { .. });
    effects.iter().filter(answer).count()
}

/// Observed on 4.3.1 with the same frame: 11 ms, and the next request waited for as long.
#[rstest]
#[case::leader(1)]
#[case::all(-1)]
fn burst_is_stored_and_answered_at_once_and_its_connection_is_muted(#[case] acks: i16) {
    let mut world = limited("producer_byte_rate");
    let connection = world.connect(LEADER);
    assert_eq!(sent(&mut world, connection, acks, 100_114), (0, 0, 11));
    assert_eq!(world.log_end(0), 1);
    assert_eq!(world.send(connection, metadata("orders")), []);
    assert_eq!(world.pass(ms(10)), []);
    assert_eq!(answers(&world.pass(ms(1))), 1);
    let throttles = world
        .engine
        .journal()
        .entries()
        .filter_map(|entry| match &entry.event {
            Event::Throttled { id, throttle } => Some((id.api, *throttle)),
            _ => None,
        });
    assert_eq!(throttles.collect::<Vec<_>>(), [(Api::Produce, ms(11))]);
}

/// Observed on 4.3.1.
#[test]
fn without_acks_nothing_is_answered_and_the_connection_is_muted() {
    let mut world = limited("producer_byte_rate");
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, burst(0, 100_114)), []);
    assert_eq!(world.log_end(0), 1);
    assert_eq!(world.send(connection, metadata("orders")), []);
    assert_eq!(world.pass(ms(10)), []);
    assert_eq!(answers(&world.pass(ms(1))), 1);
}

#[test]
fn throttled_client_is_answered_at_once_on_another_connection_and_pays_for_both() {
    let mut world = limited("producer_byte_rate");
    let (first, second) = (world.connect(LEADER), world.connect(LEADER));
    assert_eq!(sent(&mut world, first, 1, 90_114).2, 0);
    assert_eq!(sent(&mut world, second, 1, 30_114).2, 2_023);
    assert_eq!(sent(&mut world, first, 1, 1_000).2, 2_123);
    assert_eq!(answers(&world.send(first, metadata("orders"))), 0);
    let other = world.connect(LEADER);
    assert_eq!(answers(&world.send(other, metadata("orders"))), 1);
}

/// Observed on 4.3.1.
#[rstest]
#[case::unknown_topic("nowhere", 1, 3)]
#[case::bad_acks("orders", 5, 21)]
fn rows_with_errors_weigh_too(#[case] topic: &str, #[case] acks: i16, #[case] code: i16) {
    let mut world = limited("producer_byte_rate");
    let connection = world.connect(LEADER);
    let frame = produce(acks, 1_000, topic, &[(0, Some(Batch::plain(1).encode()))]);
    let answer = only_answer(world.send(connection, padded(&frame, 150_110)));
    assert_eq!(told(answer), (code, -1, 5_011));
}

#[test]
fn pieces_of_a_reply_come_before_the_silence() {
    let mut world = limited("producer_byte_rate");
    let drip = Verdict::Drip {
        piece_bytes: 40,
        pause: ms(5),
    };
    world
        .engine
        .rules_mut()
        .install(Rule::on(Api::Produce).then(drip));
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, burst(1, 100_114)).len(), 1);
    assert_eq!(world.send(connection, metadata("orders")), []);
    assert!(
        matches!(world.pass(ms(5))[..], [Effect::Piece { .. }]),
        "the second and last"
    );
    assert_eq!(world.pass(ms(10)), []);
    assert_eq!(answers(&world.pass(ms(1))), 1);
}

#[test]
fn lifted_quota_throttles_nobody_more() {
    let mut world = limited("producer_byte_rate");
    let connection = world.connect(LEADER);
    let entity = QuotaEntity::client_id(TEST);
    world
        .engine
        .set_quota(&entity, "producer_byte_rate", None, world.now)
        .unwrap();
    assert_eq!(sent(&mut world, connection, 1, 1_000_000).2, 0);
}

/// Throttle time and record bytes of a Fetch answer, version 4.
fn brought(answer: Bytes) -> (i32, usize) {
    let (throttle_ms, topics) = ((&answer[4..]).get_i32(), (&answer[8..]).get_i32());
    let bytes = if topics == 0 {
        0
    } else {
        fetched(answer).2.len()
    };
    (throttle_ms, bytes)
}

/// Observed on 4.3.1: an answer of 100,125 bytes was held back for 13 ms, then sent with 0.
#[test]
fn throttled_fetch_brings_no_records_and_they_do_not_weigh() {
    let mut world = World::configured(&[]);
    let entity = QuotaEntity::client_id(TEST);
    world
        .engine
        .set_quota(&entity, "consumer_byte_rate", Some(12.0), world.now)
        .unwrap();
    world.append(1, Batch::plain(1));
    let connection = world.connect(LEADER);
    let ask = |world: &mut World| {
        let answer = world.send(connection, fetch("orders", 0, 0, (0, 1)));
        brought(only_answer(answer))
    };
    // The answer has 123 bytes, and as many weigh: the body, and four for its size.
    assert_eq!(ask(&mut world), (250, 0));
    world.pass(ms(250));
    assert_eq!(
        ask(&mut world),
        (0, 69),
        "the time is over, and only this weighs"
    );
}

#[test]
fn fetch_is_cut_to_what_the_quota_lets_through_at_once() {
    let mut world = World::configured(&[]);
    for _ in 0..50 {
        world.append(1, Batch::plain(1));
    }
    let entity = QuotaEntity::client_id(TEST);
    world
        .engine
        .set_quota(&entity, "consumer_byte_rate", Some(100.0), world.now)
        .unwrap();
    let connection = world.connect(LEADER);
    let answer = only_answer(world.send(connection, fetch("orders", 0, 0, (0, 1))));
    // Ten seconds' worth of batches, the last one in part. With what is around them they exceed
    // it, by 54 bytes, and come once that is made good.
    assert_eq!(brought(answer), (540, 0));
    world.pass(ms(540));
    let answer = only_answer(world.send(connection, fetch("orders", 0, 0, (0, 1))));
    assert_eq!(brought(answer), (0, 1_000));
}

#[tokio::test(start_paused = true)]
async fn builder_and_handle_set_quotas() {
    let entity = QuotaEntity::default_client_id();
    let cluster = MockCluster::builder()
        .topic("orders", 1, 1)
        .quota(QuotaEntity::user("ANONYMOUS"), "producer_byte_rate", 1.0)
        .start_in_memory()
        .unwrap();
    let mut client = Client::new(cluster.connect(9092).unwrap(), ms(3_600_000));
    let request = raw::produce(1, "orders", &[(0, raw::batch(0, &["a"]))]);
    // A client without an id is limited by its user.
    let begun = Instant::now();
    client.send_bytes(&request).await;
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // Read ahead while the connection is muted.
    client.ask(2).await;
    assert_eq!(client.answer().await, Some(2));
    let bytes = u64::try_from(request.len()).unwrap() - 4;
    assert_eq!(begun.elapsed(), ms((bytes - 10) * 1_000));
    let user = QuotaEntity::user("ANONYMOUS");
    cluster.remove_quota(&user, "producer_byte_rate").unwrap();
    cluster
        .set_quota(&entity, "producer_byte_rate", 1.0)
        .unwrap();
    client.send_bytes(&raw::produce(3, "orders", &[])).await;
    client.ask(4).await;
    let begun = Instant::now();
    assert_eq!(client.answer().await, Some(3));
    assert_eq!(client.answer().await, Some(4));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(cluster.diagnostics(), []);
    cluster
        .set_quota(&entity, "request_percentage", 1.0)
        .unwrap();
    let told = "request_percentage is kept and throttles nobody";
    assert!(
        cluster
            .diagnostics()
            .iter()
            .any(|diagnostic| diagnostic.text == told)
    );
}

/// What arrived meanwhile was read ahead, and no reply tells its task to go on.
#[tokio::test(start_paused = true)]
async fn connection_without_acks_goes_on_after_its_silence() {
    let cluster = MockCluster::builder()
        .topic("orders", 1, 1)
        .quota(QuotaEntity::default_user(), "producer_byte_rate", 1.0)
        .start_in_memory()
        .unwrap();
    let mut client = Client::new(cluster.connect(9092).unwrap(), ms(3_600_000));
    let mut request = raw::produce(1, "orders", &[(0, raw::batch(0, &["a"]))]);
    // Behind size, key, version, correlation id and two absent ids: acks.
    request[16..18].copy_from_slice(&[0, 0]);
    client.send_bytes(&request).await;
    tokio::task::yield_now().await;
    client.ask(2).await;
    assert_eq!(client.answer().await, Some(2));
    assert_eq!(cluster.records("orders", 0).len(), 1);
}

#[rstest]
#[case(
    QuotaEntity::client_id("a"),
    "producer_byte_rate",
    0.0,
    "producer_byte_rate cannot be `0`"
)]
#[case(
    QuotaEntity::client_id(""),
    "producer_byte_rate",
    1.0,
    "quota cannot be `ClientQuotaEntity"
)]
#[case(
    QuotaEntity::client_id("a"),
    "producer_byte_rates",
    1.0,
    "the nearest is producer_byte_rate"
)]
fn bad_quota_is_an_error_of_the_start(
    #[case] entity: QuotaEntity,
    #[case] key: &str,
    #[case] value: f64,
    #[case] expected: &str,
) {
    let error = MockCluster::builder()
        .quota(entity, key, value)
        .start()
        .unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}
