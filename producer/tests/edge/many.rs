//! Many records at once: order, refusals, waits, and what a dropped future leaves.

use std::sync::{Arc, Mutex};

use kafka_producer::{
    Delivery, InterceptedRecord, Interceptor, ProduceError, ProduceErrorKind, Record,
};
use tokio::time::Instant;

use crate::peer::{PRODUCE, Peer};
use crate::{MINUTE, MS, is_ready, joined, orders, settle, tight, to_first};

type Sent = Result<Delivery, ProduceError>;

fn kinds(sent: &[Sent]) -> Vec<Option<ProduceErrorKind>> {
    sent.iter()
        .map(|sent| sent.as_ref().err().map(ProduceError::kind))
        .collect()
}

/// Partition and offset of each record.
async fn places(sent: Vec<Sent>) -> Vec<(i32, Option<i64>)> {
    let mut places = Vec::new();
    for delivery in sent {
        let written = delivery.expect("accepted").await.expect("written");
        places.push((written.partition, written.offset));
    }
    places
}

/// The values that arrived in a topic's partition, in order.
fn values(peer: &Peer, topic: &str, partition: i32) -> Vec<String> {
    let seen = peer.seen().into_iter();
    let there = seen.filter(|seen| seen.topic == topic && seen.partition == partition);
    there
        .map(|seen| String::from_utf8(seen.record.value.expect("a value")).expect("text"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_has_its_result_in_the_order_given_and_partitions_keep_theirs() {
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let texts: Vec<_> = (0..6).map(|number| number.to_string()).collect();
    let record = |(partition, text)| Record::new().partition(partition).value(text);
    let sent = topic
        .send_all([1, 0, 1, 1, 0, 1].into_iter().zip(&texts).map(record))
        .await;
    let expected = [(1, 0), (0, 0), (1, 1), (1, 2), (0, 1), (1, 3)];
    let expected = expected.map(|(partition, offset)| (partition, Some(offset)));
    assert_eq!(places(sent).await, expected);
    assert_eq!(values(&peer, "orders", 0), ["1", "4"]);
    assert_eq!(values(&peer, "orders", 1), ["0", "2", "3", "5"]);
    assert!(
        peer.arrived(PRODUCE).len() <= 2,
        "a batch for each partition"
    );
    assert!(topic.send_all([]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_for_topics_not_known_yet_go_in_the_order_of_each_topic() {
    let peer = Peer::new(&[("orders", 1), ("returns", 1)]);
    let producer = joined(&peer).build().expect("allowed");
    let records = [
        ("orders", "a"),
        ("returns", "b"),
        ("orders", "c"),
        ("returns", "d"),
    ];
    let records = records.map(|(topic, value)| Record::to(topic).value(value));
    let sent = producer.send_all(records).await;
    let offsets: Vec<_> = places(sent).await.iter().map(|place| place.1).collect();
    assert_eq!(offsets, [Some(0), Some(0), Some(1), Some(1)]);
    assert_eq!(values(&peer, "orders", 0), ["a", "c"]);
    assert_eq!(values(&peer, "returns", 0), ["b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_with_a_fault_of_its_own_is_refused_alone() {
    let peer = orders();
    let producer = joined(&peer)
        .max_request_size(1_000)
        .build()
        .expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let huge = [0; 1_000];
    let sent = topic.send_all([
        Record::new().partition(0).value("a"),
        Record::new().partition(2).value("b"),
        Record::new().partition(0).value(&huge),
        Record::new().partition(0).value("c").timestamp_ms(-1),
        Record::new().partition(0).value("d"),
    ]);
    let sent = sent.await;
    let kinds = kinds(&sent);
    let partition_count = 2;
    assert_eq!(kinds[0], None);
    assert_eq!(
        kinds[1],
        Some(ProduceErrorKind::UnknownPartition { partition_count })
    );
    assert!(matches!(
        kinds[2],
        Some(ProduceErrorKind::RecordTooLarge { .. })
    ));
    assert_eq!(kinds[3], Some(ProduceErrorKind::InvalidTimestamp));
    assert_eq!(kinds[4], None);
    settle().await;
    assert_eq!(values(&peer, "orders", 0), ["a", "d"]);
}

#[tokio::test(start_paused = true)]
async fn they_wait_for_room_as_often_as_they_must() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let texts: Vec<_> = (0..20).map(|number| format!("{number:400}")).collect();
    let sent = producer
        .send_all(texts.iter().map(|text| to_first(text)))
        .await;
    let offsets: Vec<_> = places(sent).await.iter().map(|place| place.1).collect();
    assert_eq!(offsets, (0..20).map(Some).collect::<Vec<_>>());
    assert_eq!(values(&peer, "orders", 0), texts);
}

#[tokio::test(start_paused = true)]
async fn once_time_ran_out_all_behind_are_refused_and_none_overtakes() {
    let peer = orders();
    let producer = tight(&peer).max_block(MINUTE).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let large = "v".repeat(400);
    let mut records = vec![Record::new().partition(0).value(&large); 4];
    // Small enough for the open batch's rest, and late all the same.
    records.push(Record::new().partition(0).value("small"));
    let before = Instant::now();
    let sent = topic.send_all(records).await;
    let waited = before.elapsed();
    assert!(
        (MINUTE..MINUTE + 5 * MS).contains(&waited),
        "once: {waited:?}"
    );
    let timed_out = Some(ProduceErrorKind::MemoryTimedOut { waited: MINUTE });
    assert_eq!(kinds(&sent), [None, None, timed_out, timed_out, timed_out]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_leaves_unsent_what_was_not_accepted() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let large = "v".repeat(400);
    let mut sending = Box::pin(topic.send_all(vec![Record::new().partition(0).value(&large); 9]));
    assert!(!is_ready(&mut sending), "there is room for two");
    drop(sending);
    peer.release(PRODUCE);
    producer.flush().await.expect("two were written");
    assert_eq!(peer.records(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closed_producer_refuses_all() {
    let producer = joined(&orders()).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    producer.close().await.expect("closed");
    let sent = topic.send_all(vec![Record::new().value("v"); 3]).await;
    assert_eq!(kinds(&sent), [Some(ProduceErrorKind::Closed); 3]);
}

/// Writes down the values it sees.
struct Watching(Arc<Mutex<Vec<Vec<u8>>>>);

impl Interceptor for Watching {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        let value = record.value().expect("a value").to_vec();
        self.0.lock().expect("not poisoned").push(value);
        record.add_header("seen", "1");
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_one_after_the_other() {
    let (peer, seen) = (orders(), Arc::default());
    let producer = joined(&peer).interceptor(Watching(Arc::clone(&seen)));
    let producer = producer.build().expect("allowed");
    let records = ["a", "b", "c"].map(|value| Record::to("orders").partition(1).value(value));
    places(producer.send_all(records).await).await;
    assert_eq!(*seen.lock().expect("not poisoned"), [b"a", b"b", b"c"]);
    assert!(
        peer.seen()
            .iter()
            .all(|seen| seen.record.headers.len() == 1)
    );
    assert_eq!(values(&peer, "orders", 1), ["a", "b", "c"]);
}
