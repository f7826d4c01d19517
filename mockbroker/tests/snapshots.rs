//! Level 2: a cluster goes back to a snapshot, and others go on from it.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;

use kafka_mockbroker::{BrokerId, MockCluster, MockClusterBuilder, StartErrorKind};
use raw::{Client, pass};
use rstest::rstest;
use tokio::io::DuplexStream;

const ONE: BrokerId = BrokerId(1);
const TWO: BrokerId = BrokerId(2);

fn described() -> MockClusterBuilder {
    let builder = MockCluster::builder().brokers(2).topic("orders", 1, 2);
    builder.wall_clock_origin_ms(1_000)
}

fn client(cluster: &MockCluster) -> Client<DuplexStream> {
    Client::new(cluster.connect(9092).unwrap(), Duration::from_secs(60))
}

fn values(cluster: &MockCluster) -> Vec<Vec<u8>> {
    let records = cluster.records("orders", 0).into_iter();
    records
        .map(|record| record.value.unwrap().to_vec())
        .collect()
}

fn leader(cluster: &MockCluster) -> Option<BrokerId> {
    cluster.partition("orders", 0).unwrap().leader
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_back_and_its_connections_are_closed() {
    let cluster = described().start_in_memory().unwrap();
    let mut old = client(&cluster);
    old.write(0, "kept").await;
    let snapshot = cluster.snapshot();
    old.write(1, "undone").await;
    cluster.crash_broker(TWO).unwrap();
    cluster.create_topic("payments", 1, 1).unwrap();
    cluster.restore(&snapshot).unwrap();
    assert_eq!(old.answer().await, None);
    assert_eq!(values(&cluster), [b"kept"]);
    assert_eq!(cluster.partition("orders", 0).unwrap().isr, [ONE, TWO]);
    assert!(cluster.topic("payments").is_none());
    let mut new = client(&cluster);
    new.write(0, "kept").await;
    new.write(1, "again").await;
    assert_eq!(
        values(&cluster),
        [&b"kept"[..], b"again"],
        "the first was a duplicate"
    );
}

#[tokio::test(start_paused = true)]
async fn clusters_that_go_on_from_one_snapshot_do_not_see_each_other() {
    let first = described().start_in_memory().unwrap();
    client(&first).write(0, "common").await;
    let snapshot = first.snapshot();
    client(&first).write(1, "first").await;
    let second = MockCluster::builder().from_snapshot(&snapshot);
    let second = second.start_in_memory().unwrap();
    let mut writer = client(&second);
    writer.write(0, "common").await;
    writer.write(1, "second").await;
    drop(first);
    assert_eq!(values(&second), [&b"common"[..], b"second"]);
    assert_eq!(second.topic("orders").unwrap().partitions.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_where_the_snapshot_was_taken() {
    let first = described().start_in_memory().unwrap();
    pass(Duration::from_secs(100)).await;
    first.pause_broker(ONE).unwrap();
    pass(Duration::from_secs(5)).await;
    let snapshot = first.snapshot();
    let second = MockCluster::builder().from_snapshot(&snapshot);
    let second = second.start_in_memory().unwrap();
    pass(Duration::from_secs(3)).await;
    assert_eq!((leader(&first), leader(&second)), (Some(ONE), Some(ONE)));
    pass(Duration::from_secs(2)).await;
    assert_eq!((leader(&first), leader(&second)), (Some(TWO), Some(TWO)));
    first.resume_broker(ONE).unwrap();
    first.restore(&snapshot).unwrap();
    pass(Duration::from_millis(1)).await;
    assert_eq!(leader(&first), Some(TWO), "its session is over by now");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_other_brokers_is_refused() {
    let cluster = described().start_in_memory().unwrap();
    client(&cluster).write(0, "kept").await;
    let other = MockCluster::builder().start_in_memory().unwrap();
    let error = cluster.restore(&other.snapshot()).unwrap_err();
    assert_eq!((error.snapshot, error.cluster), (vec![1], vec![1, 2]));
    assert_eq!(values(&cluster), [b"kept"]);
}

#[rstest]
#[case::topic(|builder: MockClusterBuilder| builder.topic("more", 1, 1), "topic")]
#[case::settings(|builder: MockClusterBuilder| builder.set("num.partitions", "2"), "set")]
#[case::time(|builder: MockClusterBuilder| builder.wall_clock_origin_ms(1), "wall_clock_origin_ms")]
#[case::brokers(|builder: MockClusterBuilder| builder.brokers(3), "brokers")]
#[tokio::test(start_paused = true)]
async fn what_a_snapshot_has_is_not_given_beside_it(
    #[case] beside: fn(MockClusterBuilder) -> MockClusterBuilder,
    #[case] key: &str,
) {
    let snapshot = described().start_in_memory().unwrap().snapshot();
    let builder = beside(MockCluster::builder().from_snapshot(&snapshot));
    let error = builder.start_in_memory().unwrap_err();
    assert_eq!(error.kind(), StartErrorKind::Config);
    assert_eq!(error.config().unwrap().key(), key);
}
