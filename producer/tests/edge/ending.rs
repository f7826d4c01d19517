//! Flushing, closing, dropping, and runtimes that end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_producer::engine::effect::Address;
use kafka_producer::io::transport::{Connecting, Connector};
use kafka_producer::{ErrorCode, Fault, Outcome, ProduceErrorKind, Record};
use tokio::time::{Instant, timeout};

use crate::peer::{METADATA, PRODUCE};
use crate::{MINUTE, MS, is_ready, joined, offset, orders, settle, tight, to_first};

#[tokio::test(start_paused = true)]
async fn dropping_the_producer_settles_what_it_accepted_and_hangs_up() {
    let peer = orders();
    let producer = joined(&peer).linger(MINUTE).build().expect("allowed");
    let delivery = producer.send(to_first("v")).await.expect("accepted");
    assert_eq!(peer.connections(), 1);
    drop(producer);
    let before = Instant::now();
    assert_eq!(offset(delivery).await, Some(0));
    assert!(before.elapsed() < 10 * MS, "nothing lingers at the end");
    settle().await;
    assert_eq!(peer.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_settles_what_was_accepted_and_refuses_the_rest() {
    let peer = orders();
    let producer = joined(&peer).linger(MINUTE).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let mut delivery = producer.send(to_first("v")).await.expect("accepted");
    producer.clone().close().await.expect("written");
    assert!(is_ready(&mut delivery));
    let error = producer.send(to_first("v")).await.expect_err("closed");
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
    let error = topic.try_send(Record::new()).expect_err("closed");
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
    let error = producer.topic("others").await.expect_err("closed");
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
    settle().await;
    assert_eq!(peer.connections(), 0);
    producer.close().await.expect("closed before");
    producer.flush().await.expect("nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn closing_turns_away_who_waits_to_send() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let value = "v".repeat(400);
    peer.hold(PRODUCE);
    for _ in 0..2 {
        drop(producer.send(to_first(&value)).await.expect("room"));
    }
    let mut for_room = pin!(producer.send(to_first(&value)));
    let mut for_topic = pin!(producer.send(Record::to("others")));
    peer.hold(METADATA);
    assert!(timeout(5 * MS, for_room.as_mut()).await.is_err());
    assert!(timeout(5 * MS, for_topic.as_mut()).await.is_err());
    let closing = producer.close_timeout(MINUTE);
    let (for_room, for_topic, _) = tokio::join!(for_room, for_topic, closing);
    for refused in [for_room, for_topic] {
        assert_eq!(
            refused.expect_err("closed").kind(),
            ProduceErrorKind::Closed
        );
    }
}

#[tokio::test(start_paused = true)]
async fn closing_with_a_bound_says_of_each_record_whether_it_left() {
    let peer = orders();
    let producer = joined(&peer)
        .max_in_flight_requests_per_connection(1)
        .batch_size(100)
        .build()
        .expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    topic
        .deliver(Record::new().partition(0))
        .await
        .expect("the producer is set up");
    peer.hold(PRODUCE);
    let value = "v".repeat(90);
    let record = || Record::new().partition(0).value(&value);
    let left = topic.send(record()).await.expect("accepted");
    settle().await;
    let stayed = topic.send(record()).await.expect("accepted");
    let before = Instant::now();
    let error = producer.close_timeout(20 * MS).await.expect_err("given up");
    assert!((20 * MS..23 * MS).contains(&before.elapsed()));
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
    let Outcome::Unknown(error) = left.outcome().await else {
        panic!("it left, and no answer came");
    };
    assert!(error.possibly_written());
    let Outcome::NotWritten(error) = stayed.outcome().await else {
        panic!("it never left");
    };
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn flushing_ends_lingering_and_waits_for_all_that_came_before() {
    let peer = orders();
    let producer = joined(&peer).linger(MINUTE).build().expect("allowed");
    let mut deliveries = Vec::new();
    for partition in [0, 1] {
        let record = Record::to("orders").partition(partition).value("v");
        deliveries.push(producer.send(record).await.expect("accepted"));
    }
    let before = Instant::now();
    producer.flush().await.expect("written");
    assert!(before.elapsed() < 5 * MS, "{:?}", before.elapsed());
    assert!(deliveries.iter_mut().all(is_ready));
    // The clock stands still: without this, what follows would come at the time of the flush.
    settle().await;
    let mut later = producer.send(to_first("v")).await.expect("accepted");
    settle().await;
    assert!(!is_ready(&mut later), "what comes later lingers again");
}

#[tokio::test(start_paused = true)]
async fn flushing_tells_the_first_failure_among_what_it_waited_for() {
    let peer = orders();
    let producer = joined(&peer).linger(MINUTE).build().expect("allowed");
    let delivery = producer.send(to_first("v")).await.expect("accepted");
    peer.refuse_produce(87);
    let error = producer.flush().await.expect_err("refused");
    assert_eq!(error.broker_code(), Some(ErrorCode(87)));
    let error = delivery.await.expect_err("refused");
    assert_eq!(
        (error.fault(), error.possibly_written()),
        (Fault::Caller, false)
    );
    producer.flush().await.expect("told once");
}

#[test]
fn a_runtime_that_ends_leaves_no_delivery_unsettled() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (in_flight, queued, producer) = runtime.block_on(async {
        let peer = orders();
        let producer = joined(&peer).linger(MINUTE).build().expect("allowed");
        let topic = producer.topic("orders").await.expect("known");
        drop(
            topic
                .send(Record::new().partition(0))
                .await
                .expect("accepted"),
        );
        producer.flush().await.expect("the producer is set up");
        peer.hold(PRODUCE);
        let in_flight = topic
            .send(Record::new().partition(0))
            .await
            .expect("accepted");
        let mut flush = pin!(producer.flush());
        let held = timeout(20 * MS, flush.as_mut()).await;
        assert!(held.is_err(), "its answer is held");
        let queued = topic
            .send(Record::new().partition(0))
            .await
            .expect("accepted");
        (in_flight, queued, producer.clone())
    });
    drop(runtime);
    let error = in_flight.wait().expect_err("no answer");
    assert!(error.possibly_written(), "{error}");
    let error = queued.wait().expect_err("never left");
    assert!(!error.possibly_written(), "{error}");
    let error = producer.try_send(to_first("v")).expect_err("ended");
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_producers_task_leaves_nobody_waiting() {
    let peer = orders();
    let connected = AtomicBool::new(false);
    let connector = {
        let peer = peer.clone();
        move |address: Address| -> Connecting {
            assert!(!connected.swap(true, Ordering::Relaxed), "a bug, staged");
            peer.connect(address)
        }
    };
    let producer = joined(&peer).connector(connector).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let record = || Record::new().partition(0).value("v");
    let called = Arc::new(AtomicBool::new(false));
    let on_settled = {
        let called = Arc::clone(&called);
        move |_| {
            called.store(true, Ordering::Relaxed);
            panic!("a panic while the task unwinds");
        }
    };
    topic
        .send_with(record(), on_settled)
        .await
        .expect("accepted");
    let delivery = topic.send(record()).await.expect("accepted");
    let mut for_topic = pin!(producer.send(Record::to("others")));
    peer.hold(METADATA);
    assert!(timeout(5 * MS, for_topic.as_mut()).await.is_err());
    // The next attempt to connect panics.
    peer.hang_up();
    assert!(delivery.await.expect_err("lost").possibly_written());
    assert!(called.load(Ordering::Relaxed));
    let error = for_topic.await.expect_err("closed");
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
    producer.close().await.expect("nothing is left to wait for");
}

#[test]
fn a_plain_thread_sends_and_waits_without_async_code() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let builder = {
        let _entered = runtime.enter();
        joined(&orders())
    };
    let producer = builder
        .runtime(runtime.handle().clone())
        .build()
        .expect("allowed");
    for index in 0..10 {
        let delivery = producer.send_blocking(to_first("v")).expect("accepted");
        assert_eq!(delivery.wait().expect("written").offset, Some(index));
    }
    let topic = producer.topic_blocking("orders").expect("known");
    let record = || Record::new().partition(0).value("v");
    let delivery = topic.send_blocking(record()).expect("accepted");
    producer.flush_blocking().expect("written");
    assert_eq!(delivery.wait().expect("written").offset, Some(10));
    producer.close_blocking().expect("nothing failed");
    let error = topic.send_blocking(record()).expect_err("closed");
    assert_eq!(error.kind(), ProduceErrorKind::Closed);
}
