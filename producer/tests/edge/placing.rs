//! Which partition a record goes to: its own, its partitioner's, or the built-in choice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kafka_producer::partitioner::{Crc32, Partitioner, Unplaced};
use kafka_producer::{BrokerId, ProduceErrorKind, Producer, Record};
use rstest::rstest;

use crate::peer::{METADATA, PRODUCE, Peer};
use crate::{is_ready, joined, orders, settle, tight};

/// Says what it was asked, and always the same.
#[derive(Clone)]
struct Stubborn(Option<i32>, Arc<Mutex<Vec<String>>>);

impl Stubborn {
    fn new(partition: Option<i32>) -> Self {
        Self(partition, Arc::default())
    }
}

impl Partitioner for Stubborn {
    fn partition(&self, record: &Unplaced<'_>) -> Option<i32> {
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        let led: Vec<_> = record.led().collect();
        let (key, value) = (text(record.key()), text(record.value()));
        let words = format!("{} {key:?} {value:?} of {led:?}", record.topic());
        self.1.lock().expect("not poisoned").push(words);
        self.0
    }
}

async fn partition_of(producer: &Producer, record: Record<'_, &str>) -> i32 {
    producer.deliver(record).await.expect("written").partition
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_of_ones_own_sees_the_record_and_is_obeyed() {
    let stubborn = Stubborn::new(Some(1));
    let producer = joined(&orders()).partitioner(stubborn.clone());
    let producer = producer.build().expect("allowed");
    let keyed = || Record::to("orders").key("k").value("v");
    assert_eq!(partition_of(&producer, keyed()).await, 1);
    assert_eq!(partition_of(&producer, Record::to("orders")).await, 1);
    assert_eq!(
        partition_of(&producer, keyed().partition(0)).await,
        0,
        "its own"
    );
    let asked = stubborn.1.lock().expect("not poisoned");
    let expected = [
        r#"orders Some("k") Some("v") of [0, 1]"#,
        "orders None None of [0, 1]",
    ];
    assert_eq!(*asked, expected);
}

#[rstest]
#[case::negative(-1)]
#[case::beyond(2)]
#[tokio::test(start_paused = true)]
async fn a_partition_there_is_not_refuses_the_record(#[case] partition: i32) {
    let peer = orders();
    let producer = joined(&peer).partitioner(Stubborn::new(Some(partition)));
    let producer = producer.build().expect("allowed");
    let error = producer
        .send(Record::to("orders"))
        .await
        .expect_err("no such partition");
    let partition_count = 2;
    assert_eq!(
        error.kind(),
        ProduceErrorKind::UnknownPartition { partition_count }
    );
    settle().await;
    assert!(peer.arrived(PRODUCE).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_is_asked_once_however_long_the_record_waits() {
    let peer = orders();
    peer.hold(PRODUCE);
    let stubborn = Stubborn::new(Some(1));
    let producer = tight(&peer).partitioner(stubborn.clone());
    let producer = producer.build().expect("allowed");
    let value = [0; 400];
    let record = || Record::to("orders").value(&value);
    for _ in 0..2 {
        drop(producer.send(record()).await.expect("room"));
    }
    let mut third = Box::pin(producer.send(record()));
    assert!(!is_ready(&mut third), "there is no room");
    peer.release(PRODUCE);
    third.await.expect("room").await.expect("written");
    assert_eq!(stubborn.1.lock().expect("not poisoned").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_may_leave_it_to_the_built_in_choice() {
    let peer = Peer::new(&[("orders", 8)]);
    let producer = joined(&peer)
        .partitioner(Stubborn::new(None))
        .batch_size(100);
    let producer = producer.build().expect("allowed");
    let value = [0; 150];
    let mut chosen = BTreeSet::new();
    for _ in 0..200 {
        let record = Record::to("orders").key("the same").value(&value);
        chosen.insert(partition_of(&producer, record).await);
    }
    assert_eq!(chosen.len(), 8, "{chosen:?}");
}

#[tokio::test(start_paused = true)]
async fn crc_32_decides_in_place_of_murmur_2() {
    let peer = Peer::new(&[("orders", 12)]);
    let record = || Record::to("orders").key("customer-7");
    let java = joined(&peer).build().expect("allowed");
    assert_eq!(partition_of(&java, record()).await, 7);
    let librdkafka = joined(&peer).partitioner(Crc32).build().expect("allowed");
    assert_eq!(partition_of(&librdkafka, record()).await, 8);
}

#[tokio::test(start_paused = true)]
async fn kafkas_round_robin_goes_by_its_name() {
    let class = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
    let peer = Peer::new(&[("orders", 3)]);
    let producer = joined(&peer)
        .set("partitioner.class", class)
        .build()
        .expect("allowed");
    let mut chosen = Vec::new();
    for _ in 0..6 {
        chosen.push(partition_of(&producer, Record::to("orders").key("the same")).await);
    }
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
}

/// Brokers 1, 2 and 3 lead the partitions in turn.
#[rstest]
#[case::own_rack("east", &[1, 4, 7])]
#[case::two_brokers_there("west", &[0, 2, 3, 5, 6, 8])]
#[case::nobody_there("south", &[0, 1, 2, 3, 4, 5, 6, 7, 8])]
#[tokio::test(start_paused = true)]
async fn records_without_a_key_stay_in_the_own_rack(#[case] rack: &str, #[case] expected: &[i32]) {
    let peer = Peer::new(&[("orders", 9)]).in_racks(&["west", "east", "west"]);
    let producer = joined(&peer).partitioner_rack(rack).batch_size(100);
    let producer = producer.build().expect("allowed");
    let value = [0; 150];
    let mut chosen = BTreeSet::new();
    for _ in 0..200 {
        let record = Record::to("orders").value(&value);
        chosen.insert(partition_of(&producer, record).await);
    }
    assert_eq!(chosen.into_iter().collect::<Vec<_>>(), expected);
    let topic = producer.topic("orders").await.expect("known");
    let leaders = [1, 2, 3, 1, 2, 3, 1, 2, 3].map(|leader| Some(BrokerId(leader)));
    assert_eq!(topic.partition_leaders(), leaders);
    let keyed = Record::to("orders").key("abc");
    assert_eq!(
        partition_of(&producer, keyed).await,
        479_470_107 % 9,
        "a key stays"
    );
}

#[tokio::test(start_paused = true)]
async fn who_leads_and_who_keeps_each_partition_is_told() {
    let peer = Peer::new(&[("orders", 2)]).in_racks(&["", "", ""]);
    let producer = joined(&peer).build().expect("allowed");
    let told = producer.partitions_for("orders").await.expect("known");
    let told: Vec<_> = told
        .iter()
        .map(|one| {
            let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
            let leader = one.leader.map(|id| id.0);
            let sets = [&one.replicas, &one.in_sync_replicas, &one.offline_replicas];
            (one.partition, leader, sets.map(|set| ids(set)))
        })
        .collect();
    let first = (0, Some(1), [vec![1, 2, 3], vec![1], vec![2, 3]]);
    let second = (1, Some(2), [vec![2, 1, 3], vec![2], vec![1, 3]]);
    assert_eq!(told, [first, second]);
    let topic = producer.topic("orders").await.expect("known");
    assert_eq!(topic.partitions().len(), 2);
    assert_eq!(
        peer.arrived(METADATA).len(),
        1,
        "what is known is not asked for"
    );
    producer
        .partitions_for("bad name")
        .await
        .expect_err("invalid");
}
