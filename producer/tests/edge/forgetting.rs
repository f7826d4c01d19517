//! Topics that nobody used for a while: forgotten, and learnt about again on need.

use std::time::Duration;

use kafka_producer::{ProduceErrorKind, Producer, Record, Topic};

use crate::peer::{METADATA, Peer};
use crate::{MINUTE, joined, orders, pass, settle};

const SECOND: Duration = Duration::from_secs(1);

fn record() -> Record<'static> {
    Record::new().partition(0).value("v")
}

/// A topic's handle, and so long without a record that nobody asks about the topic any more.
async fn forgotten(peer: &Peer) -> (Producer, Topic) {
    let producer = joined(peer)
        .metadata_max_age(5 * SECOND)
        .metadata_max_idle(5 * SECOND)
        .build()
        .expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    topic.deliver(record()).await.expect("written");
    pass(MINUTE).await;
    let questions = peer.arrived(METADATA).len();
    assert!(questions < 4, "{questions}");
    (producer, topic)
}

#[tokio::test(start_paused = true)]
async fn a_topics_handle_works_when_the_topic_was_forgotten() {
    let peer = orders();
    let (_producer, topic) = forgotten(&peer).await;
    let questions = peer.arrived(METADATA).len();
    assert_eq!(topic.partition_count(), 2, "as last heard");
    assert_eq!(topic.partition_leaders().len(), 2);
    let written = topic.deliver(record()).await.expect("written");
    assert_eq!(written.offset, Some(1));
    assert_eq!(peer.arrived(METADATA).len(), questions + 1);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_topic_can_be_looked_up_again() {
    let peer = orders();
    let (producer, _topic) = forgotten(&peer).await;
    let again = producer.topic("orders").await.expect("known again");
    again.deliver(record()).await.expect("written");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_finds_a_forgotten_topic_known_the_next_time() {
    let peer = orders();
    let (_producer, topic) = forgotten(&peer).await;
    let questions = peer.arrived(METADATA).len();
    for _ in 0..3 {
        let error = topic.try_send(record()).expect_err("not known now");
        assert_eq!(error.kind(), ProduceErrorKind::TopicNotReady);
    }
    settle().await;
    drop(topic.try_send(record()).expect("known again"));
    assert_eq!(peer.arrived(METADATA).len(), questions + 1, "asked once");
}

#[tokio::test(start_paused = true)]
async fn many_records_to_a_forgotten_topic_are_all_written() {
    let peer = orders();
    let (_producer, topic) = forgotten(&peer).await;
    for sent in topic.send_all([record(), record()]).await {
        sent.expect("accepted").await.expect("written");
    }
}
