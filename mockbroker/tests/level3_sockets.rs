//! Level 3: clusters on loopback sockets, by the machine's clock.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;
use std::io::Write;
use std::net::TcpListener;

use kafka_mockbroker::{Api, BrokerId, MockCluster, Move, Rule, StartErrorKind, Verdict};
use raw::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a machine under load; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn client(cluster: &MockCluster) -> Client<TcpStream> {
    let address = cluster.address(BrokerId(1)).unwrap();
    Client::new(TcpStream::connect(address).await.unwrap(), PATIENCE)
}

#[tokio::test]
async fn malformed_frame_closes_its_connection_only() {
    let cluster = MockCluster::builder().start().unwrap();
    let (mut bad, mut good) = (client(&cluster).await, client(&cluster).await);
    bad.send_bytes(&[0, 0, 0, 3, 1, 2, 3]).await;
    assert_eq!(bad.answer().await, None);
    good.ask(1).await;
    assert_eq!(good.answer().await, Some(1));
    assert_eq!(cluster.diagnostics().len(), 1, "a test can read why");
}

#[tokio::test]
async fn dropping_the_handle_while_a_request_waits_frees_its_ports() {
    let cluster = MockCluster::builder().brokers(3).start().unwrap();
    let addresses: Vec<String> = cluster
        .brokers()
        .filter_map(|id| cluster.address(id))
        .collect();
    let swallowed = cluster.inject(Rule::on(Api::ApiVersions).then(Verdict::Swallow));
    let mut waiting = client(&cluster).await;
    waiting.ask(1).await;
    swallowed.wait_for_hits(1).await;
    drop(cluster);
    assert_eq!(waiting.answer().await, None);
    for address in addresses {
        let refused = TcpStream::connect(&address).await.unwrap_err();
        assert_eq!(
            refused.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{address}"
        );
    }
}

/// What the peer reads when a rule ends its connection: bytes, then how.
async fn read_under(verdict: Verdict) -> (usize, std::io::Result<usize>) {
    let cluster = MockCluster::builder().start().unwrap();
    let _rule = cluster.inject(Rule::on(Api::ApiVersions).then(verdict));
    let mut stream = TcpStream::connect(cluster.bootstrap_servers())
        .await
        .unwrap();
    stream.write_all(&raw::api_versions(1)).await.unwrap();
    let mut bytes = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut bytes));
    let ended = ended.await.unwrap();
    (bytes.len(), ended)
}

#[tokio::test]
async fn reset_is_seen_as_a_reset_and_a_close_as_an_end() {
    for verdict in [Verdict::ResetBefore, Verdict::ResetAfter] {
        let (_, ended) = read_under(verdict).await;
        let kind = ended.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "{verdict}");
    }
    for verdict in [Verdict::CloseBefore, Verdict::CloseAfter] {
        let (bytes, ended) = read_under(verdict).await;
        assert_eq!((bytes, ended.unwrap()), (0, 0), "{verdict}");
    }
}

#[tokio::test]
async fn cut_reply_ends_after_its_bytes() {
    let (bytes, ended) = read_under(Verdict::CutAfter(7)).await;
    assert_eq!((bytes, ended.unwrap()), (7, 7));
}

#[tokio::test]
async fn clusters_side_by_side_do_not_meet() {
    let (left, right) = (
        MockCluster::builder().start().unwrap(),
        MockCluster::builder().start().unwrap(),
    );
    let fault = left.inject(Rule::on_any().always().then(Verdict::CloseBefore));
    let (mut to_left, mut to_right) = (client(&left).await, client(&right).await);
    to_left.ask(1).await;
    to_right.ask(2).await;
    assert_eq!(to_left.answer().await, None);
    assert_eq!(to_right.answer().await, Some(2));
    assert_eq!(fault.hits(), 1);
    drop(left);
    to_right.ask(3).await;
    assert_eq!(to_right.answer().await, Some(3));
}

#[test]
fn taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = MockCluster::builder()
        .listen(address.to_string())
        .start()
        .unwrap_err();
    assert_eq!(error.kind(), StartErrorKind::Listen);
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}

#[test]
fn handle_is_shared_between_threads() {
    let cluster = MockCluster::builder()
        .topic("orders", 2, 1)
        .start()
        .unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let cluster = &cluster;
            scope.spawn(move || {
                cluster
                    .create_topic(format!("topic-{number}"), 1, 1)
                    .unwrap()
            });
        }
    });
    assert_eq!(cluster.topics().len(), 5);
    assert_eq!(cluster.topic("orders").unwrap().partitions.len(), 2);
}

#[test]
fn hit_of_a_rule_can_be_awaited_by_a_plain_thread() {
    let cluster = MockCluster::builder().start().unwrap();
    let spy = cluster.inject(Rule::on(Api::ApiVersions).count(2).then(Verdict::Pass));
    let moment = Duration::from_millis(1);
    assert!(!spy.wait_for_hits_blocking(1, moment), "nobody asked");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = std::net::TcpStream::connect(cluster.bootstrap_servers()).unwrap();
            stream.write_all(&raw::api_versions(7)).unwrap();
        });
        assert!(spy.wait_for_hits_blocking(1, PATIENCE));
    });
    let asked = spy.requests();
    assert_eq!((asked.len(), asked[0].correlation_id), (1, 7));
    assert!(
        !spy.wait_for_hits_blocking(2, moment),
        "one request, one hit"
    );
}

/// Whether a connection to `address` is made, and how not.
async fn reached(address: &str) -> Result<TcpStream, std::io::ErrorKind> {
    TcpStream::connect(address)
        .await
        .map_err(|error| error.kind())
}

#[tokio::test]
async fn crashed_broker_refuses_and_its_port_is_kept_until_it_is_back() {
    use std::io::ErrorKind::{AddrInUse, ConnectionRefused};

    let cluster = MockCluster::builder().brokers(2).start().unwrap();
    let address = cluster.address(BrokerId(1)).unwrap();
    for round in 1..=3 {
        let mut open = client(&cluster).await;
        open.ask(round).await;
        assert_eq!(open.answer().await, Some(round), "{address}");
        cluster.crash_broker(BrokerId(1)).unwrap();
        assert_eq!(reached(&address).await.err(), Some(ConnectionRefused));
        assert_eq!(open.answer().await, None);
        let taken = TcpListener::bind(&address).unwrap_err();
        assert_eq!(taken.kind(), AddrInUse, "it is kept for the broker");
        let other = cluster.address(BrokerId(2)).unwrap();
        reached(&other).await.unwrap();
        cluster.restart_broker(BrokerId(1)).unwrap();
    }
    cluster.crash_broker(BrokerId(1)).unwrap();
    assert_eq!(cluster.diagnostics(), []);
    drop(cluster);
    TcpListener::bind(&address).expect("a port that was kept is free afterwards");
}

#[tokio::test]
async fn broker_that_has_crashed_from_the_start_refuses_and_a_paused_one_does_not() {
    let broker = BrokerId(1);
    let crashed = MockCluster::builder().at(Duration::ZERO, Move::CrashBroker { broker });
    let crashed = crashed.start().unwrap();
    let address = crashed.address(broker).unwrap();
    assert_eq!(
        reached(&address).await.err(),
        Some(std::io::ErrorKind::ConnectionRefused)
    );
    let paused = MockCluster::builder().start().unwrap();
    paused.pause_broker(broker).unwrap();
    reached(&paused.address(broker).unwrap()).await.unwrap();
}

/// Whether the cluster's thread has run by then or not.
#[tokio::test]
async fn broker_that_crashes_as_soon_as_it_has_started_refuses_and_comes_back() {
    for round in 1..=32 {
        let cluster = MockCluster::builder().start().unwrap();
        let address = cluster.address(BrokerId(1)).unwrap();
        cluster.crash_broker(BrokerId(1)).unwrap();
        let refused = reached(&address).await.err();
        assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused));
        cluster.restart_broker(BrokerId(1)).unwrap();
        let mut client = client(&cluster).await;
        client.ask(round).await;
        assert_eq!(client.answer().await, Some(round));
        assert_eq!(cluster.diagnostics(), []);
    }
}

#[test]
fn unspecified_address_needs_an_advertised_host() {
    let everywhere = MockCluster::builder().listen("0.0.0.0:0");
    let error = everywhere.clone().start().unwrap_err();
    assert_eq!(
        error.config().map(kafka_mockbroker::ConfigError::key),
        Some("listen")
    );
    let cluster = everywhere.advertised_host("broker.test").start().unwrap();
    assert!(cluster.bootstrap_servers().starts_with("broker.test:"));
}
