//! Level 2: what a test sees of replicas, producers and brokers, and the moves that bear on them.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;
use std::io::ErrorKind;

use kafka_mockbroker::inspect::{IsrChange, Network, Process, ProducerView, Registration};
use kafka_mockbroker::{BrokerId, MockCluster, MoveError};
use raw::{Client, batch, pass, produce};
use tokio::io::DuplexStream;

const ONE: BrokerId = BrokerId(1);
const TWO: BrokerId = BrokerId(2);
const THREE: BrokerId = BrokerId(3);

/// Three brokers with a replica each of `orders-0`, led by the first.
fn cluster(overrides: &[(&str, &str)]) -> MockCluster {
    let builder = MockCluster::builder().brokers(3);
    let builder = builder.topic_with("orders", 1, 3, overrides);
    builder
        .wall_clock_origin_ms(1_000)
        .start_in_memory()
        .unwrap()
}

fn client(cluster: &MockCluster, broker: i32) -> Client<DuplexStream> {
    let port = 9091 + u16::try_from(broker).unwrap();
    Client::new(cluster.connect(port).unwrap(), Duration::from_secs(60))
}

fn ends(cluster: &MockCluster) -> Vec<i64> {
    let partition = cluster.partition("orders", 0).unwrap();
    partition
        .logs
        .iter()
        .map(|log| log.log_end_offset)
        .collect()
}

fn values_on(cluster: &MockCluster, broker: BrokerId) -> Vec<Vec<u8>> {
    let records = cluster.records_on(broker, "orders", 0).into_iter();
    records
        .map(|record| record.value.unwrap().to_vec())
        .collect()
}

fn first_sequences(producer: &ProducerView) -> Vec<i32> {
    let window = producer.window.iter();
    window.map(|batch| batch.first_sequence).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_seen_as_it_was_received_and_as_it_is_stored() {
    let cluster = cluster(&[("message.timestamp.type", "LogAppendTime")]);
    let mut client = client(&cluster, 1);
    client.write(0, "a").await;
    client.write(1, "b").await;
    let batches = cluster.batches("orders", 0);
    let [_, second] = &batches[..] else {
        panic!("{batches:?}")
    };
    assert_eq!(
        (second.base_offset, second.last_offset, second.leader_epoch),
        (1, 1, 0)
    );
    assert_eq!(second.appended_at_ms, 1_000);
    assert_eq!(second.received[..], batch(1, &["b"])[..]);
    assert_eq!(
        second.stored[..8],
        1_i64.to_be_bytes(),
        "the offset is the broker's"
    );
    assert_eq!(second.stored[22] & 8, 8, "and so is the timestamp");
    assert_eq!(batches, cluster.batches_on(THREE, "orders", 0));
}

#[tokio::test(start_paused = true)]
async fn every_replica_shows_its_own_log() {
    let cluster = cluster(&[]);
    let mut client = client(&cluster, 1);
    cluster
        .delay_replication(ONE, TWO, Duration::from_millis(50))
        .unwrap();
    cluster.hold_follower("orders", 0, THREE).unwrap();
    client
        .send_bytes(&produce(1, "orders", &[(0, batch(0, &["a"]))]))
        .await;
    pass(Duration::from_millis(10)).await;
    assert_eq!(ends(&cluster), [1, 0, 0]);
    pass(Duration::from_millis(50)).await;
    assert_eq!(ends(&cluster), [1, 1, 0]);
    assert_eq!(
        cluster.expand_isr("orders", 0, ONE),
        Err(MoveError::NotAFollower)
    );
    cluster.expand_isr("orders", 0, THREE).unwrap();
    assert_eq!(ends(&cluster), [1, 1, 1]);
    assert_eq!(client.answer().await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_shows_what_it_knows_until_it_heals() {
    let cluster = cluster(&[]);
    let mut old = client(&cluster, 1);
    old.write(0, "kept").await;
    cluster.isolate_broker(ONE).unwrap();
    old.send_bytes(&produce(2, "orders", &[(0, batch(1, &["lost"]))]))
        .await;
    pass(Duration::from_secs(10)).await;
    let one = cluster.broker(ONE).unwrap();
    assert_eq!(
        (one.process, one.network),
        (Process::Running, Network::Isolated)
    );
    assert_eq!(one.registration, Registration::Fenced);
    let partition = cluster.partition("orders", 0).unwrap();
    assert_eq!(
        (partition.leader, partition.isr),
        (Some(TWO), vec![TWO, THREE])
    );
    let leads = |at: usize| {
        partition.logs[at]
            .leads
            .clone()
            .map(|lead| (lead.epoch, lead.isr))
    };
    assert_eq!(leads(0), Some((0, vec![ONE, TWO, THREE])));
    assert_eq!((leads(1), leads(2)), (Some((1, vec![TWO, THREE])), None));
    assert_eq!(values_on(&cluster, ONE), [&b"kept"[..], b"lost"]);
    let mut new = client(&cluster, 2);
    new.write(1, "again").await;
    cluster.heal_broker(ONE).unwrap();
    for broker in [ONE, TWO, THREE] {
        assert_eq!(values_on(&cluster, broker), [&b"kept"[..], b"again"]);
    }
    assert_eq!(cluster.partition("orders", 0).unwrap().isr.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_controller_has_not_answered_is_seen() {
    let cluster = cluster(&[]);
    cluster.shrink_isr("orders", 0, THREE).unwrap();
    cluster.hold_isr_changes("orders", 0).unwrap();
    cluster.release_follower("orders", 0, THREE).unwrap();
    let lead = || {
        cluster.partition("orders", 0).unwrap().logs[0]
            .leads
            .clone()
            .unwrap()
    };
    assert_eq!(
        (lead().isr, lead().pending),
        (vec![ONE, TWO], IsrChange::Expand(THREE))
    );
    cluster.release_isr_changes("orders", 0).unwrap();
    assert_eq!(
        (lead().isr, lead().pending),
        (vec![ONE, TWO, THREE], IsrChange::None)
    );
}

#[tokio::test(start_paused = true)]
async fn who_may_lead_is_seen_and_an_unclean_election_ends_it() {
    let cluster = cluster(&[("min.insync.replicas", "2")]);
    cluster.shrink_isr("orders", 0, TWO).unwrap();
    cluster.shrink_isr("orders", 0, THREE).unwrap();
    cluster.crash_broker(THREE).unwrap();
    cluster.crash_broker(ONE).unwrap();
    let view = || cluster.partition("orders", 0).unwrap();
    assert_eq!((view().leader, view().isr), (None, vec![]));
    assert_eq!(view().eligible_leaders, [ONE, THREE]);
    assert_eq!(view().last_known_leader, Some(ONE));
    assert_eq!(
        cluster.elect_unclean("orders", 0, THREE),
        Err(MoveError::CannotLead)
    );
    cluster.elect_unclean("orders", 0, TWO).unwrap();
    assert_eq!(
        (view().leader, view().leader_epoch, view().isr),
        (Some(TWO), 2, vec![TWO])
    );
    assert_eq!(
        (view().eligible_leaders, view().last_known_leader),
        (vec![], None)
    );
}

#[tokio::test(start_paused = true)]
async fn the_window_of_a_producer_is_seen_on_every_replica() {
    let cluster = cluster(&[]);
    let mut client = client(&cluster, 1);
    for sequence in 0..6 {
        client.write(sequence, "x").await;
    }
    let producers = cluster.producers("orders", 0);
    assert_eq!(producers.len(), 1);
    let producer = &producers[0];
    assert_eq!(
        (producer.id, producer.epoch, producer.last_sequence),
        (7, 0, 5)
    );
    assert_eq!(first_sequences(producer), [1, 2, 3, 4, 5]);
    assert_eq!(producer.window[0].base_offset, 1);
    cluster.crash_broker(TWO).unwrap();
    cluster.restart_broker(TWO).unwrap();
    let restarted = cluster.producers_on(TWO, "orders", 0);
    assert_eq!(first_sequences(&restarted[0]), [5], "from a snapshot");
    cluster.expire_producer(7).unwrap();
    assert_eq!(cluster.producers_on(THREE, "orders", 0), []);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_broker_refuses_connections() {
    let cluster = cluster(&[]);
    cluster.crash_broker(ONE).unwrap();
    let refused = cluster.connect(9092).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(cluster.connect(9093).is_ok());
    cluster.restart_broker(ONE).unwrap();
    assert!(cluster.connect(9092).is_ok());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "no partition order-0")]
async fn a_name_that_does_not_exist_is_no_empty_log() {
    let _ = cluster(&[]).batches("order", 0);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "no partition orders-0, or none there")]
async fn a_broker_without_a_replica_has_no_empty_log() {
    let _ = cluster(&[]).records_on(BrokerId(9), "orders", 0);
}
