//! Many records at once: order, refusals, waits, and what a dropped future leaves.

use std::sync::{Arc, Mutex};

use kafka_producer::{
    Delivery, InterceptedRecord, Interceptor, ProduceError, ProduceErrorKind, Record, Written,
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

type Calls = Arc<Mutex<Vec<(usize, Option<i64>)>>>;

/// Notes each call, with the offset told.
fn noting(calls: &Calls) -> impl Fn(usize, Result<Written, ProduceError>) + Send + Sync + 'static {
    let calls = Arc::clone(calls);
    move |place, outcome| {
        let offset = outcome.expect("written").offset;
        calls.lock().expect("no panic").push((place, offset));
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_is_called_for_each_with_its_place_and_in_the_order_of_its_partition() {
    let peer = Peer::new(&[("orders", 2), ("returns", 1)]);
    let producer = joined(&peer).build().expect("allowed");
    let to = |(topic, partition)| Record::to(topic).partition(partition).value("v");
    let places = [("orders", 1), ("returns", 0), ("orders", 0), ("orders", 1)];
    let calls = Calls::default();
    let sent = producer.send_all_with(places.map(to), noting(&calls)).await;
    assert!(sent.iter().all(Result::is_ok) && sent.len() == 4);
    producer.flush().await.expect("written");
    let mut called = calls.lock().expect("no panic").clone();
    let of_first = called.iter().filter(|(place, _)| [0, 3].contains(place));
    assert_eq!(
        of_first.copied().collect::<Vec<_>>(),
        [(0, Some(0)), (3, Some(1))]
    );
    called.sort_unstable();
    let expected = [(0, Some(0)), (1, Some(0)), (2, Some(0)), (3, Some(1))];
    assert_eq!(called, expected, "each once");
}

#[tokio::test(start_paused = true)]
async fn for_a_record_that_is_refused_no_function_is_called() {
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let calls = Calls::default();
    let records = [0, 9, 1].map(|partition| Record::new().partition(partition).value("v"));
    let sent = topic.send_all_with(records, noting(&calls)).await;
    let refused: Vec<bool> = sent.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, false]);
    producer.flush().await.expect("written");
    let mut called = calls.lock().expect("no panic").clone();
    called.sort_unstable();
    assert_eq!(called, [(0, Some(0)), (2, Some(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_function_is_called_past_interceptors_too() {
    let peer = orders();
    let producer = joined(&peer).interceptor(Watching(Arc::default())).build();
    let producer = producer.expect("allowed");
    let calls = Calls::default();
    let sent = producer
        .send_all_with([to_first("a"), to_first("b")], noting(&calls))
        .await;
    assert_eq!(sent.len(), 2);
    producer.flush().await.expect("written");
    assert_eq!(
        *calls.lock().expect("no panic"),
        [(0, Some(0)), (1, Some(1))]
    );
}
