//! What becomes of a record when its caller gives up, before and after it was accepted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_producer::Record;
use tokio::time::timeout;

use crate::peer::PRODUCE;
use crate::{MS, is_ready, joined, orders, pass, tight, to_first};

#[tokio::test(start_paused = true)]
async fn a_send_given_up_while_waiting_sends_nothing_and_holds_nothing_back() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let value = "v".repeat(400);
    let topic = producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let record = || Record::new().partition(0).value(&value);
    for _ in 0..2 {
        drop(topic.send(record()).await.expect("room"));
    }
    let given_up = timeout(10 * MS, topic.send(record())).await;
    assert!(given_up.is_err(), "must have waited");
    peer.release(PRODUCE);
    producer.flush().await.expect("written");
    assert_eq!(peer.records(), 2);
    // All memory is free again: two batches fit at once.
    for _ in 0..2 {
        drop(topic.try_send(record()).expect("room"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_never_polled_sends_nothing() {
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    topic
        .deliver(Record::new().partition(0).value("first"))
        .await
        .expect("written");
    drop(topic.send(Record::new().partition(0).value("never")));
    producer.flush().await.expect("nothing is left");
    assert_eq!(peer.records(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_send_polled_after_it_was_ready_panics_and_sends_nothing_more() {
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    // The first record opens a batch, the second finds it open.
    for _ in 0..2 {
        let mut sending = Box::pin(topic.send(Record::new().partition(0).value("once")));
        drop(sending.as_mut().await.expect("accepted"));
        let again = AssertUnwindSafe(|| is_ready(&mut sending));
        catch_unwind(again).expect_err("it was ready");
    }
    producer.flush().await.expect("written");
    assert_eq!(peer.records(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_delivery_neither_withdraws_nor_loses_its_record() {
    let peer = orders();
    let producer = joined(&peer).linger(10 * MS).build().expect("allowed");
    drop(producer.send(to_first("v")).await.expect("accepted"));
    pass(20 * MS).await;
    assert_eq!(peer.records(), 1);
}
