//! Connections that are ended by the broker's configuration: idle ones, and too many of one host.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod raw;
mod world;

use core::time::Duration;

use frames::{Batch, fetch};
use kafka_mockbroker::engine::effect::{ConnectionId, Effect};
use kafka_mockbroker::engine::journal::Event;
use kafka_mockbroker::{Api, MockCluster, MockClusterBuilder, Rule, Verdict};
use raw::{Client, api_versions, pass};
use rstest::rstest;
use tokio::io::DuplexStream;
use tokio::time::Instant;
use world::{LEADER, SECOND, World, is_closed, to_orders};

const IDLE: Duration = Duration::from_millis(4_000);

/// Longer than any connection lasts; costs nothing: the clock jumps.
const PATIENCE: Duration = Duration::from_secs(7_200);

fn idle_world() -> World {
    World::of_brokers(&[("connections.max.idle.ms", "4000")], &[])
}

fn client(builder: MockClusterBuilder) -> (MockCluster, Client<DuplexStream>) {
    let cluster = builder.start_in_memory().unwrap();
    let client = Client::new(cluster.connect(9092).unwrap(), PATIENCE);
    (cluster, client)
}

fn reasons(cluster: &MockCluster) -> Vec<String> {
    let events = cluster.journal().into_iter().map(|entry| entry.event);
    let reasons = events.filter_map(|event| match event {
        Event::Closed { reason } => Some(reason.to_string()),
        _ => None,
    });
    reasons.collect()
}

#[rstest]
#[case::by_default(None, Duration::from_secs(600))]
#[case::as_configured(Some("4000"), IDLE)]
#[tokio::test(start_paused = true)]
async fn connection_that_never_sends_is_closed_when_its_time_is_over(
    #[case] setting: Option<&str>,
    #[case] expected: Duration,
) {
    let builder = MockCluster::builder();
    let (cluster, mut client) = client(match setting {
        Some(idle_ms) => builder.set("connections.max.idle.ms", idle_ms),
        None => builder,
    });
    let begun = Instant::now();
    assert_eq!(client.answer().await, None);
    assert_eq!(begun.elapsed(), expected);
    assert_eq!(reasons(&cluster), ["connections.max.idle.ms"]);
}

#[tokio::test(start_paused = true)]
async fn every_byte_keeps_a_connection_open() {
    let (_cluster, mut client) =
        client(MockCluster::builder().set("connections.max.idle.ms", "4000"));
    for byte in api_versions(7) {
        pass(IDLE - Duration::from_millis(1)).await;
        client.send_bytes(&[byte]).await;
    }
    assert_eq!(client.answer().await, Some(7));
    let answered = Instant::now();
    assert_eq!(client.answer().await, None);
    assert_eq!(answered.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn below_zero_a_connection_may_be_idle_for_ever() {
    let (_cluster, mut client) =
        client(MockCluster::builder().set("connections.max.idle.ms", "-1"));
    pass(PATIENCE).await;
    client.ask(7).await;
    assert_eq!(client.answer().await, Some(7));
}

/// Observed on 4.3.1 for null records: what arrives on a muted channel is not read.
#[tokio::test(start_paused = true)]
async fn muted_connection_is_closed_whatever_it_sends() {
    let (cluster, mut client) =
        client(MockCluster::builder().set("connections.max.idle.ms", "4000"));
    cluster
        .inject(Rule::on(Api::ApiVersions).then(Verdict::Swallow))
        .keep();
    let begun = Instant::now();
    client.ask(1).await;
    for correlation_id in 2..=4 {
        pass(Duration::from_secs(1)).await;
        client.ask(correlation_id).await;
    }
    assert_eq!(client.answer().await, None);
    assert_eq!(begun.elapsed(), IDLE);
}

#[test]
fn answer_that_comes_late_counts_as_traffic() {
    let mut world = idle_world();
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, fetch_waiting(3_000)), []);
    assert!(matches!(
        world.pass(Duration::from_millis(3_000))[..],
        [Effect::Reply { .. }]
    ));
    assert_eq!(world.pass(Duration::from_millis(3_999)), []);
    assert!(is_closed(&world.pass(Duration::from_millis(1))));
}

#[test]
fn request_counts_as_traffic() {
    let mut world = idle_world();
    let connection = world.connect(LEADER);
    world.pass(Duration::from_millis(3_999));
    assert_eq!(world.send(connection, fetch_waiting(5_000)), []);
    assert_eq!(world.pass(Duration::from_millis(3_999)), []);
    assert!(is_closed(&world.pass(Duration::from_millis(1))));
}

#[test]
fn request_that_waits_for_longer_is_closed_unanswered() {
    let mut world = idle_world();
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, fetch_waiting(5_000)), []);
    assert!(is_closed(&world.pass(IDLE)));
    assert_eq!(world.pass(IDLE), []);
}

#[test]
fn paused_broker_closes_nothing_until_it_goes_on() {
    let mut world = idle_world();
    let (silent, asking) = (world.connect(LEADER), world.connect(LEADER));
    world.pause(LEADER);
    let late = world.connect(LEADER);
    assert_eq!(world.pass(IDLE * 10), []);
    assert_eq!(world.send(asking, to_orders(1, Batch::plain(1))), []);
    let mut effects = world.resume(LEADER);
    effects.extend(world.pass(Duration::ZERO));
    let closed: Vec<ConnectionId> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Close { .. }))
        .map(Effect::connection)
        .collect();
    assert_eq!(
        closed,
        [silent, late],
        "what was asked meanwhile is traffic"
    );
}

#[test]
fn clock_is_not_woken_by_traffic() {
    let mut world = idle_world();
    let connection = world.connect(LEADER);
    let first = world.engine.next_deadline();
    for _ in 0..100 {
        world.now = world.now + Duration::from_millis(30);
        world.send(connection, to_orders(1, Batch::plain(1)));
        assert_eq!(world.engine.next_deadline(), first);
    }
}

#[test]
fn next_connection_of_a_host_is_closed_and_of_another_host_or_broker_is_not() {
    let mut world = World::of_brokers(&[("max.connections.per.ip", "2")], &[]);
    let connect = |world: &mut World, peer: &str, broker, id| {
        let (peer, connection) = (peer.parse().unwrap(), ConnectionId(id));
        world
            .engine
            .handle_connect_from(peer, broker, connection, world.now);
        world.effects()
    };
    assert_eq!(connect(&mut world, "10.0.0.1", LEADER, 1), []);
    assert_eq!(connect(&mut world, "10.0.0.1", LEADER, 2), []);
    assert!(is_closed(&connect(&mut world, "10.0.0.1", LEADER, 3)));
    assert_eq!(connect(&mut world, "10.0.0.2", LEADER, 4), []);
    assert_eq!(connect(&mut world, "10.0.0.1", SECOND, 5), []);
    world.engine.handle_disconnect(ConnectionId(1), world.now);
    assert_eq!(connect(&mut world, "10.0.0.1", LEADER, 6), []);
}

fn fetch_waiting(wait_ms: i32) -> bytes::Bytes {
    fetch("orders", 0, 0, (wait_ms, 1))
}

#[test]
fn connection_beyond_the_bound_of_the_cluster_is_closed_and_noted() {
    let mut world = World::new();
    world.engine.bound_connections(2);
    let first = world.connect(LEADER);
    world.connect(SECOND);
    assert!(!is_closed(&world.effects()));
    world.connect(SECOND);
    assert!(is_closed(&world.effects()));
    let told = "2 connections are open, more are not allowed";
    let diagnostics = world.engine.journal().diagnostics();
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].text, told);
    world.engine.handle_disconnect(first, world.now);
    world.connect(SECOND);
    assert!(!is_closed(&world.effects()));
}

#[test]
fn bound_of_the_cluster_holds_at_a_paused_broker() {
    let mut world = World::new();
    world.engine.bound_connections(0);
    world.pause(LEADER);
    world.connect(LEADER);
    assert!(is_closed(&world.effects()));
}

#[test]
fn requests_of_all_connections_are_bounded_together() {
    let mut world = World::new();
    let frame = fetch_waiting(5_000);
    world.engine.bound_request_bytes(2 * frame.len());
    let (first, second, third) = (
        world.connect(LEADER),
        world.connect(LEADER),
        world.connect(LEADER),
    );
    // One is parked, one waits behind it: both are held.
    assert_eq!(world.send(first, frame.clone()), []);
    assert_eq!(world.send(first, frame.clone()), []);
    assert!(
        is_closed(&world.send(second, frame.clone())),
        "one too many"
    );
    let told = &world.engine.journal().diagnostics()[0].text;
    let words = format!(
        "the requests of all connections have {} bytes",
        2 * frame.len()
    );
    assert_eq!(*told, words);
    world.engine.handle_disconnect(first, world.now);
    assert_eq!(world.send(third, frame), [], "what was held is let go");
}
