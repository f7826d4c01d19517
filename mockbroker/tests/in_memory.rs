//! Level 2: a whole cluster on the caller's runtime, whose clock stands still unless all wait.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;

use kafka_mockbroker::inspect::Event;
use kafka_mockbroker::wire::versions::SERVED;
use kafka_mockbroker::{Api, BrokerId, FaultGuard, MockCluster, MoveError, Rule, Verdict};
use raw::{Client, api_versions};
use rstest::rstest;
use tokio::io::DuplexStream;
use tokio::time::{Instant, timeout};

/// Longer than anything takes here, shorter than a connection may be without traffic.
const LONG: Duration = Duration::from_secs(540);

/// Costs nothing: the clock jumps.
const PATIENCE: Duration = Duration::from_secs(7_200);

fn cluster() -> MockCluster {
    MockCluster::builder().brokers(2).start_in_memory().unwrap()
}

fn client(cluster: &MockCluster) -> Client<DuplexStream> {
    Client::new(cluster.connect(9092).unwrap(), PATIENCE)
}

fn inject(cluster: &MockCluster, verdict: Verdict) -> FaultGuard {
    cluster.inject(Rule::on(Api::ApiVersions).then(verdict))
}

fn events(cluster: &MockCluster) -> Vec<Event> {
    cluster
        .journal()
        .into_iter()
        .map(|entry| entry.event)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let cluster = cluster();
    let mut client = client(&cluster);
    let requests: Vec<u8> = (0..50).flat_map(api_versions).collect();
    client.send_bytes(&requests).await;
    for correlation_id in 0..50 {
        assert_eq!(client.answer().await, Some(correlation_id));
    }
}

#[tokio::test(start_paused = true)]
async fn dripping_reply_is_whole_when_its_last_piece_is_there() {
    let cluster = cluster();
    let (piece_bytes, pause) = (10, Duration::from_millis(5));
    let drip = inject(&cluster, Verdict::Drip { piece_bytes, pause });
    let mut client = client(&cluster);
    let begun = Instant::now();
    client.ask(7).await;
    client.ask(8).await;
    assert_eq!(client.answer().await, Some(7));
    // Four bytes of size, then 10 of header and count, and 6 for each of the APIs.
    let served = u32::try_from(SERVED.len()).unwrap();
    let pieces = (4 + 10 + served * 6).div_ceil(10);
    assert_eq!(begun.elapsed(), pause * (pieces - 1));
    assert_eq!(client.answer().await, Some(8));
    assert_eq!(drip.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn guard_and_journal_show_the_request_as_received() {
    let cluster = MockCluster::builder()
        .journal_bytes(1_000)
        .start_in_memory()
        .unwrap();
    let spy = inject(&cluster, Verdict::Pass);
    let mut client = client(&cluster);
    client.ask(7).await;
    client.ask(8).await;
    assert_eq!(client.answer().await, Some(7));
    assert_eq!(client.answer().await, Some(8));
    let [seen] = &spy.requests()[..] else {
        panic!("one hit: {:?}", spy.requests())
    };
    assert_eq!(
        seen.to_string(),
        "ApiVersions v0 at broker 1 on connection 0"
    );
    assert_eq!(seen.frame.as_deref(), Some(&api_versions(7)[4..]));
    let carried: Vec<Vec<u8>> = events(&cluster)
        .into_iter()
        .filter_map(|event| match event {
            Event::Request { frame, .. } => Some(frame.unwrap().to_vec()),
            _ => None,
        })
        .collect();
    assert_eq!(carried, [7, 8].map(|id| api_versions(id)[4..].to_vec()));
}

#[tokio::test(start_paused = true)]
async fn restricted_broker_refuses_other_versions_and_its_neighbour_does_not() {
    let cluster = cluster();
    let metadata_v1 = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 9, 255, 255, 0, 0, 0, 0];
    let broker = BrokerId(1);
    cluster
        .restrict_versions(broker, Api::Metadata, 4, 9)
        .unwrap();
    for (port, expected) in [(9092, None), (9093, Some(9))] {
        let mut client = Client::new(cluster.connect(port).unwrap(), PATIENCE);
        client.send_bytes(&metadata_v1).await;
        assert_eq!(client.answer().await, expected, "port {port}");
    }
    let nothing = cluster.restrict_versions(broker, Api::Metadata, 14, 20);
    assert_eq!(nothing, Err(MoveError::NoSuchVersion));
    let nobody = cluster.restrict_versions(BrokerId(9), Api::Metadata, 0, 1);
    assert_eq!(nobody, Err(MoveError::UnknownBroker));
}

#[tokio::test(start_paused = true)]
async fn reset_in_memory_ends_the_pipe() {
    let cluster = cluster();
    let _reset = inject(&cluster, Verdict::ResetAfter);
    let mut client = client(&cluster);
    client.ask(7).await;
    assert_eq!(client.answer().await, None);
}

#[tokio::test(start_paused = true)]
async fn request_may_arrive_byte_by_byte() {
    let cluster = cluster();
    let mut client = client(&cluster);
    for byte in api_versions(7) {
        client.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn ports_lead_to_their_brokers_and_no_other_port_does() {
    let cluster = cluster();
    assert_eq!(cluster.bootstrap_servers(), "127.0.0.1:9092,127.0.0.1:9093");
    let mut second = Client::new(cluster.connect(9093).unwrap(), PATIENCE);
    second.ask(1).await;
    assert_eq!(second.answer().await, Some(1));
    assert!(
        cluster
            .journal()
            .iter()
            .all(|entry| entry.broker == BrokerId(2))
    );
    let refused = cluster.connect(9094).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn delayed_reply_holds_back_its_connection_and_no_other() {
    let cluster = cluster();
    let _slow = inject(&cluster, Verdict::Delay(LONG));
    let (mut slow, mut quick) = (client(&cluster), client(&cluster));
    let start = Instant::now();
    slow.ask(1).await;
    slow.ask(2).await;
    tokio::task::yield_now().await;
    quick.ask(3).await;
    assert_eq!(quick.answer().await, Some(3));
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "the other connection does not wait"
    );
    assert_eq!(slow.answer().await, Some(1));
    assert_eq!(slow.answer().await, Some(2));
    // Tokio's timers count whole milliseconds.
    assert!((LONG..LONG + Duration::from_millis(2)).contains(&start.elapsed()));
}

#[rstest]
#[case::not_applied(Verdict::Swallow)]
#[case::applied(Verdict::ApplyThenLose)]
#[tokio::test(start_paused = true)]
async fn silenced_connection_stays_open_and_answers_nothing(#[case] verdict: Verdict) {
    let cluster = cluster();
    let _silence = inject(&cluster, verdict);
    let mut client = client(&cluster);
    client.ask(1).await;
    client.ask(2).await;
    assert!(
        timeout(LONG, client.answer()).await.is_err(),
        "neither an answer nor an end"
    );
    drop(client);
    // Long after, when everything else has run, the cluster has noticed.
    let _ = timeout(LONG, core::future::pending::<()>()).await;
    assert_eq!(events(&cluster).last(), Some(&Event::Disconnected));
}

#[rstest]
#[case::not_applied(Verdict::CloseBefore)]
#[case::applied(Verdict::CloseAfter)]
#[tokio::test(start_paused = true)]
async fn closing_fault_ends_the_connection_in_place_of_the_reply(#[case] verdict: Verdict) {
    let cluster = cluster();
    let _close = inject(&cluster, verdict);
    let mut client = client(&cluster);
    client.ask(1).await;
    assert_eq!(client.answer().await, None);
    assert!(
        !events(&cluster)
            .iter()
            .any(|event| matches!(event, Event::Reply { .. }))
    );
}

#[rstest]
#[case::negative(-1)]
#[case::above_the_bound(105)]
#[tokio::test(start_paused = true)]
async fn bad_size_closes_its_connection_after_the_replies_before_it(#[case] size: i32) {
    let builder = MockCluster::builder().set("socket.request.max.bytes", "104");
    let cluster = builder.start_in_memory().unwrap();
    let (mut bad, mut good) = (client(&cluster), client(&cluster));
    let mut bytes = api_versions(1);
    bytes.extend(size.to_be_bytes());
    bad.send_bytes(&bytes).await;
    assert_eq!(bad.answer().await, Some(1));
    assert_eq!(bad.answer().await, None);
    let expected = format!("a frame declares {size} bytes, allowed is 0 to 104");
    assert_eq!(cluster.diagnostics()[0].text, expected);
    good.ask(2).await;
    assert_eq!(good.answer().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn largest_size_waits_for_its_body() {
    let builder = MockCluster::builder().set("socket.request.max.bytes", "104");
    let cluster = builder.start_in_memory().unwrap();
    let mut client = client(&cluster);
    client.send_bytes(&104_i32.to_be_bytes()).await;
    assert!(
        timeout(LONG, client.answer()).await.is_err(),
        "neither an answer nor an end"
    );
}

#[tokio::test(start_paused = true)]
async fn peer_of_a_waiting_request_cannot_send_without_bound() {
    let cluster = cluster();
    let _silence = inject(&cluster, Verdict::Swallow);
    let mut client = client(&cluster);
    client.ask(1).await;
    let flood = vec![0; 1_000_000];
    assert!(
        timeout(LONG, client.send_bytes(&flood)).await.is_err(),
        "it feels the wait"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_goes_with_its_guard_unless_kept() {
    let cluster = cluster();
    let rule = Rule::on(Api::ApiVersions)
        .always()
        .then(Verdict::CloseBefore);
    drop(cluster.inject(rule.clone()));
    let mut spared = client(&cluster);
    spared.ask(1).await;
    assert_eq!(spared.answer().await, Some(1));
    assert_eq!(cluster.unfired_rules(), core::slice::from_ref(&rule));
    cluster.inject(rule).keep();
    spared.ask(2).await;
    assert_eq!(spared.answer().await, None);
}

#[tokio::test(start_paused = true)]
async fn hit_of_a_rule_can_be_awaited() {
    let cluster = cluster();
    let spy = cluster.inject(Rule::on(Api::ApiVersions).count(2).then(Verdict::Pass));
    let mut client = client(&cluster);
    client.ask(1).await;
    assert!(
        timeout(LONG, spy.wait_for_hits(2)).await.is_err(),
        "one request, one hit"
    );
    client.ask(2).await;
    spy.wait_for_hits(2).await;
    assert_eq!(spy.hits(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_ends_every_connection() {
    let cluster = cluster();
    let _silence = inject(&cluster, Verdict::Swallow);
    let (mut idle, mut waiting) = (client(&cluster), client(&cluster));
    waiting.ask(1).await;
    tokio::task::yield_now().await;
    drop(cluster);
    assert_eq!(idle.answer().await, None);
    assert_eq!(waiting.answer().await, None);
}

#[tokio::test(start_paused = true)]
async fn ports_beyond_the_last_are_refused_at_the_start() {
    let error = MockCluster::builder()
        .brokers(2)
        .port(65_535)
        .start_in_memory()
        .unwrap_err();
    let expected = "port cannot be `65535`: allowed is 1 to 65534 for 2 brokers";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_arrived_in_part_is_bounded_over_all_connections() {
    let builder = MockCluster::builder().request_bytes_max(3_000);
    let cluster = builder.start_in_memory().unwrap();
    // A frame of 100,000 bytes, of which so many have arrived.
    let begun = |bytes: usize| [&100_000_i32.to_be_bytes()[..], &vec![0; bytes]].concat();
    let (mut first, mut second) = (client(&cluster), client(&cluster));
    first.send_bytes(&begun(2_000)).await;
    first.nothing_arrives(Duration::from_secs(1)).await;
    second.send_bytes(&begun(2_000)).await;
    assert_eq!(second.answer().await, None, "together they are too many");
    let told = "what arrived of requests on all connections has 3000 bytes";
    assert_eq!(cluster.diagnostics()[0].text, told);
    let mut third = client(&cluster);
    third.ask(1).await;
    assert_eq!(third.answer().await, Some(1), "small ones fit");
    drop(first);
    let mut fourth = client(&cluster);
    fourth.send_bytes(&begun(2_000)).await;
    fourth.nothing_arrives(Duration::from_secs(1)).await;
    assert_eq!(cluster.diagnostics().len(), 1, "the room is given back");
}

#[tokio::test(start_paused = true)]
async fn one_rule_too_many_is_not_installed_and_told() {
    let cluster = cluster();
    let guards: Vec<FaultGuard> = (0..10_000)
        .map(|_| inject(&cluster, Verdict::Pass))
        .collect();
    let refused = inject(&cluster, Verdict::CloseBefore);
    let mut client = client(&cluster);
    client.ask(1).await;
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(refused.hits(), 0);
    let told = &cluster.diagnostics()[0].text;
    assert!(
        told.starts_with("10000 fault rules are installed, this one is not: "),
        "{told}"
    );
    drop(guards);
    let installed = inject(&cluster, Verdict::CloseBefore);
    client.ask(2).await;
    assert_eq!((client.answer().await, installed.hits()), (None, 1));
}

#[tokio::test]
async fn too_many_rules_are_an_error_of_the_start() {
    let rules = (0..10_001).map(|_| Rule::on_any());
    let builder = rules.fold(
        MockCluster::builder(),
        kafka_mockbroker::MockClusterBuilder::fault,
    );
    let error = builder.start_in_memory().unwrap_err();
    assert_eq!(
        error.config().map(kafka_mockbroker::ConfigError::key),
        Some("faults")
    );
}
