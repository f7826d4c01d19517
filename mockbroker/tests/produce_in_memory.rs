//! Level 2: what a test reads of a cluster that was written to, and how faults and moves bear on
//! it.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;

use kafka_mockbroker::inspect::{Event, Stamp};
use kafka_mockbroker::{
    Api, BrokerId, ErrorCode, MockCluster, MockClusterBuilder, MoveError, Rule, Verdict,
};
use raw::{Client, batch, produce};
use rstest::rstest;
use tokio::io::DuplexStream;
use tokio::time::{Instant, timeout};

/// Longer than anything takes here, shorter than a connection may be without traffic.
const LONG: Duration = Duration::from_secs(540);
const PATIENCE: Duration = Duration::from_secs(7_200);
const LEADER: BrokerId = BrokerId(1);
const FOLLOWER: BrokerId = BrokerId(2);

/// Two brokers; both partitions of `orders` on both, partition 0 led by the first.
fn described() -> MockClusterBuilder {
    MockCluster::builder()
        .brokers(2)
        .topic("orders", 2, 2)
        .wall_clock_origin_ms(1_000)
}

fn cluster() -> MockCluster {
    described().start_in_memory().unwrap()
}

/// A client of the broker that leads partition 0.
fn client(cluster: &MockCluster) -> Client<DuplexStream> {
    Client::new(cluster.connect(9092).unwrap(), PATIENCE)
}

async fn write(client: &mut Client<DuplexStream>, base_sequence: i32, values: &[&str]) {
    let batch = batch(base_sequence, values);
    client
        .send_bytes(&produce(1, "orders", &[(0, batch)]))
        .await;
}

/// The codes of every reply so far.
fn codes(cluster: &MockCluster) -> Vec<i16> {
    let rows = cluster
        .journal()
        .into_iter()
        .flat_map(|entry| match entry.event {
            Event::Reply { codes, .. } => codes,
            _ => Vec::new(),
        });
    rows.map(|row| row.code.0).collect()
}

fn values(cluster: &MockCluster, partition: i32) -> Vec<String> {
    let records = cluster.records("orders", partition).into_iter();
    let text = records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    text.collect()
}

#[tokio::test(start_paused = true)]
async fn records_are_read_as_they_were_written() {
    let cluster = cluster();
    let mut client = client(&cluster);
    write(&mut client, 2_147_483_647, &["a", "b"]).await;
    assert_eq!(client.answer().await, Some(1));
    let records = cluster.records("orders", 0);
    assert_eq!(records.len(), 2);
    let last = &records[1];
    assert_eq!(
        (last.offset, last.batch_base_offset, last.timestamp_ms),
        (1, 0, 0)
    );
    assert_eq!(last.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(last.value.as_deref(), Some(&b"b"[..]));
    assert_eq!(
        (last.header("h"), last.header("other")),
        (Some(&b"v"[..]), None)
    );
    let stamps = [&records[0], last].map(|record| record.producer);
    let stamp = |sequence| {
        Some(Stamp {
            id: 7,
            epoch: 0,
            sequence,
        })
    };
    assert_eq!(
        stamps,
        [stamp(2_147_483_647), stamp(0)],
        "0 follows the largest sequence"
    );
    let partition = cluster.partition("orders", 0).unwrap();
    assert_eq!((partition.high_watermark, partition.log_end_offset), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_not_in_the_log() {
    let cluster = cluster();
    let mut client = client(&cluster);
    write(&mut client, 0, &["a", "b", "c"]).await;
    assert_eq!(client.answer().await, Some(1));
    let delete = |offset| cluster.delete_records("orders", 0, offset);
    assert_eq!(delete(4), Err(MoveError::OffsetOutOfRange));
    assert_eq!(delete(-1), Err(MoveError::OffsetOutOfRange));
    assert_eq!(values(&cluster, 0), ["a", "b", "c"]);
    assert_eq!(delete(2), Ok(()));
    assert_eq!(values(&cluster, 0), ["c"]);
    assert_eq!(cluster.partition("orders", 0).unwrap().log_start_offset, 2);
    for broker in [LEADER, FOLLOWER] {
        cluster.crash_broker(broker).unwrap();
    }
    assert_eq!(delete(3), Err(MoveError::NoLeader));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the cluster has no partition order-0")]
async fn misspelt_partition_fails_the_test_that_reads_it() {
    let _ = cluster().records("order", 0);
}

#[tokio::test(start_paused = true)]
async fn refusal_covers_its_partition_and_the_others_are_written() {
    let cluster = cluster();
    cluster.move_leader("orders", 1, LEADER).unwrap();
    let answer = Verdict::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let fault = cluster.inject(
        Rule::on(Api::Produce)
            .topic("orders")
            .partition(0)
            .then(answer),
    );
    let mut client = client(&cluster);
    let partitions = [(0, batch(0, &["a"])), (1, batch(0, &["b"]))];
    client.send_bytes(&produce(1, "orders", &partitions)).await;
    assert_eq!(client.answer().await, Some(1));
    let mut codes = codes(&cluster);
    codes.sort_unstable();
    assert_eq!((codes, fault.hits()), (vec![0, 6], 1));
    assert!(values(&cluster, 0).is_empty());
    assert_eq!(values(&cluster, 1), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn applied_request_is_in_the_log_whatever_its_answer_says() {
    let cluster = cluster();
    let answer = Verdict::ApplyThenAnswer(ErrorCode::REQUEST_TIMED_OUT);
    let _fault = cluster.inject(Rule::on(Api::Produce).then(answer));
    let mut client = client(&cluster);
    write(&mut client, 0, &["a"]).await;
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(codes(&cluster), [7]);
    assert_eq!(values(&cluster, 0), ["a"]);
}

#[rstest]
#[case::by_silence(Verdict::ApplyThenLose)]
#[case::with_its_connection(Verdict::CloseAfter)]
#[tokio::test(start_paused = true)]
async fn batch_whose_answer_was_lost_is_stored_once(#[case] lost: Verdict) {
    let cluster = cluster();
    let _fault = cluster.inject(Rule::on(Api::Produce).then(lost));
    let (mut first, mut second) = (client(&cluster), client(&cluster));
    write(&mut first, 0, &["a"]).await;
    assert!(
        !matches!(timeout(LONG, first.answer()).await, Ok(Some(_))),
        "no answer comes"
    );
    write(&mut second, 0, &["a"]).await;
    assert_eq!(second.answer().await, Some(1));
    assert_eq!(codes(&cluster), [0]);
    assert_eq!(values(&cluster, 0), ["a"]);
}

#[rstest]
#[case(Verdict::Swallow)]
#[case(Verdict::CloseBefore)]
#[tokio::test(start_paused = true)]
async fn batch_that_was_not_applied_is_in_no_log(#[case] verdict: Verdict) {
    let cluster = cluster();
    let _fault = cluster.inject(Rule::on(Api::Produce).then(verdict));
    let mut client = client(&cluster);
    write(&mut client, 0, &["a"]).await;
    assert!(
        !matches!(timeout(LONG, client.answer()).await, Ok(Some(_))),
        "no answer comes"
    );
    assert!(values(&cluster, 0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn held_follower_holds_the_answer_until_it_is_released() {
    let cluster = described()
        .set("replica.lag.time.max.ms", "3600000")
        .start_in_memory()
        .unwrap();
    let mut client = client(&cluster);
    cluster.hold_follower("orders", 0, FOLLOWER).unwrap();
    write(&mut client, 0, &["a"]).await;
    let waited = timeout(Duration::from_secs(30), client.answer()).await;
    assert!(waited.is_err(), "acks=all waits for the follower");
    assert_eq!(cluster.partition("orders", 0).unwrap().high_watermark, 0);
    cluster.release_follower("orders", 0, FOLLOWER).unwrap();
    let released = Instant::now();
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(released.elapsed(), Duration::ZERO);
    assert_eq!(codes(&cluster), [0]);
}

#[tokio::test(start_paused = true)]
async fn lagging_follower_leaves_the_isr_after_its_time() {
    let cluster = described()
        .set("replica.lag.time.max.ms", "4000")
        .start_in_memory()
        .unwrap();
    let mut client = client(&cluster);
    cluster.hold_follower("orders", 0, FOLLOWER).unwrap();
    let start = Instant::now();
    write(&mut client, 0, &["a"]).await;
    assert_eq!(client.answer().await, Some(1));
    assert!(
        start.elapsed() >= Duration::from_millis(4_000),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(cluster.partition("orders", 0).unwrap().isr, [LEADER]);
}

#[tokio::test(start_paused = true)]
async fn crashed_broker_ends_its_connections_and_another_leads() {
    let cluster = cluster();
    let mut client = client(&cluster);
    write(&mut client, 0, &["a"]).await;
    assert_eq!(client.answer().await, Some(1));
    cluster.crash_broker(LEADER).unwrap();
    assert_eq!(client.answer().await, None);
    let partition = cluster.partition("orders", 0).unwrap();
    assert_eq!(
        (partition.leader, partition.leader_epoch),
        (Some(FOLLOWER), 1)
    );
    assert_eq!(values(&cluster, 0), ["a"], "what was answered is not lost");
    cluster.restart_broker(LEADER).unwrap();
    assert_eq!(cluster.partition("orders", 0).unwrap().isr.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn impossible_moves_are_refused() {
    let cluster = cluster();
    assert_eq!(
        cluster.crash_broker(BrokerId(9)),
        Err(MoveError::UnknownBroker)
    );
    assert_eq!(cluster.delete_topic("order"), Err(MoveError::UnknownTopic));
    assert_eq!(
        cluster.hold_follower("orders", 0, LEADER),
        Err(MoveError::NotAFollower)
    );
    assert_eq!(
        cluster.move_leader("orders", 7, LEADER),
        Err(MoveError::UnknownPartition)
    );
}

#[tokio::test(start_paused = true)]
async fn paused_broker_answers_when_it_is_resumed_and_keeps_its_connections() {
    let cluster = cluster();
    let mut client = client(&cluster);
    cluster.pause_broker(LEADER).unwrap();
    write(&mut client, 0, &["a"]).await;
    assert!(
        timeout(Duration::from_secs(8), client.answer())
            .await
            .is_err(),
        "it answers nothing"
    );
    assert_eq!(
        cluster.partition("orders", 0).unwrap().leader,
        Some(LEADER),
        "its session lasts 9 s"
    );
    cluster.resume_broker(LEADER).unwrap();
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(codes(&cluster), [0]);
    cluster.pause_broker(LEADER).unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    tokio::task::yield_now().await;
    assert_eq!(
        cluster.partition("orders", 0).unwrap().leader,
        Some(FOLLOWER)
    );
}
