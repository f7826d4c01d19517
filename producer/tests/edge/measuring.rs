//! What is measured, by Kafka's names.

use std::time::Duration;

use kafka_producer::{Acks, Metrics, Producer, ProducerBuilder, Record};
use rstest::rstest;

use crate::peer::{PRODUCE, Peer};
use crate::{MS, joined, orders, pass, settle, tight, to_first};

fn built(builder: ProducerBuilder) -> Producer {
    builder.build().expect("allowed")
}

#[track_caller]
fn assert_values(metrics: &Metrics, expected: &[(&str, f64)]) {
    for &(name, value) in expected {
        assert_eq!(metrics.value(name), Some(value), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_brought_is_measured_before_its_delivery_is_ready() {
    let producer = built(joined(&orders()).linger(20 * MS));
    let topic = producer.topic("orders").await.expect("known");
    let sends = ["one", "two", "three"].map(|value| Record::new().partition(1).value(value));
    let sent = topic.send_all(sends).await;
    for delivery in sent {
        delivery.expect("accepted").await.expect("written");
    }
    let metrics = producer.metrics();
    assert_values(
        &metrics,
        &[
            ("record-send-total", 3.0),
            ("records-per-request-avg", 3.0),
            ("record-error-total", 0.0),
            ("record-retry-total", 0.0),
            ("compression-rate-avg", 1.0),
            ("requests-in-flight", 0.0),
            ("connection-count", 1.0),
            ("connection-creation-total", 1.0),
            ("produce-throttle-time-max", 0.0),
            ("waiting-threads", 0.0),
            ("buffer-total-bytes", 33_554_432.0),
            ("buffer-available-bytes", 33_554_432.0),
        ],
    );
    let queued = metrics.value("record-queue-time-max").expect("a metric");
    assert!((20.0..22.0).contains(&queued), "{queued} ms");
    assert_eq!(metrics.of_topic("orders", "record-send-total"), Some(3.0));
    let batch = metrics.value("batch-size-max").expect("a metric");
    assert_eq!(metrics.of_topic("orders", "byte-total"), Some(batch));
    assert_eq!(metrics.of_topic("pears", "byte-total"), None);
    // ApiVersions, Metadata, InitProducerId and Produce, on a connection that is the broker's by
    // then.
    assert_eq!(metrics.value("request-total"), Some(4.0));
    assert_eq!(metrics.value("network-io-total"), Some(8.0));
    let of_nodes = [-1, 1].map(|node| metrics.of_node(node, "request-total"));
    let sum: f64 = of_nodes.into_iter().flatten().sum();
    assert_eq!(sum, 4.0, "{of_nodes:?}");
    let stages = metrics.stages();
    let counts = [stages.filling, stages.ready, stages.queued, stages.answered].map(|s| s.count);
    assert_eq!(counts, [1; 4]);
    assert_eq!(stages.compressing.count, 0, "nothing was compressed");
}

#[tokio::test(start_paused = true)]
async fn a_batch_sent_again_counts_as_a_retry_and_is_sent_twice() {
    let peer = orders();
    let producer = built(joined(&peer));
    peer.refuse_produce(19);
    producer.deliver(to_first("v")).await.expect("written");
    let metrics = producer.metrics();
    let expected = [("record-retry-total", 1.0), ("record-send-total", 2.0)];
    assert_values(&metrics, &expected);
    assert_eq!(metrics.of_topic("orders", "record-retry-total"), Some(1.0));
    assert_eq!(metrics.stages().queued.count, 1, "its first sending counts");
}

#[tokio::test(start_paused = true)]
async fn failed_refused_and_unknown_records_are_errors() {
    let peer = orders();
    let producer = built(joined(&peer).retries(0));
    peer.refuse_produce(42);
    producer.deliver(to_first("v")).await.expect_err("refused");
    let metrics = producer.metrics();
    let expected = [("record-error-total", 1.0), ("record-unknown-total", 0.0)];
    assert_values(&metrics, &expected);
    assert_eq!(metrics.of_topic("orders", "record-error-total"), Some(1.0));

    let nowhere = Record::to("orders").partition(9).value("v");
    producer.send(nowhere).await.expect_err("no such partition");
    let expected = [("record-error-total", 2.0), ("record-unknown-total", 0.0)];
    assert_values(&producer.metrics(), &expected);

    peer.hold(PRODUCE);
    let delivery = producer.send(to_first("v")).await.expect("accepted");
    settle().await;
    assert_values(&producer.metrics(), &[("requests-in-flight", 1.0)]);
    peer.hang_up();
    delivery.await.expect_err("lost");
    let expected = [
        ("record-error-total", 3.0),
        ("record-unknown-total", 1.0),
        ("connection-close-total", 1.0),
        ("requests-in-flight", 0.0),
    ];
    assert_values(&producer.metrics(), &expected);
}

#[tokio::test(start_paused = true)]
async fn waits_for_memory_are_measured_however_they_end() {
    let peer = orders();
    let producer = built(tight(&peer).max_block(100 * MS));
    producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let value = "v".repeat(400);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(producer.send(to_first(&value)).await.expect("room"));
    }
    producer.send(to_first(&value)).await.expect_err("no room");
    let metrics = producer.metrics();
    let expected = [("buffer-exhausted-total", 1.0), ("record-error-total", 1.0)];
    assert_values(&metrics, &expected);
    let waited = metrics
        .value("bufferpool-wait-time-ns-total")
        .expect("a metric");
    assert!((100e6..102e6).contains(&waited), "{waited} ns");

    let mut given_up = Box::pin(producer.send(to_first(&value)));
    assert!(!crate::is_ready(&mut given_up));
    assert_values(&producer.metrics(), &[("waiting-threads", 1.0)]);
    pass(50 * MS).await;
    drop(given_up);
    let metrics = producer.metrics();
    assert_values(
        &metrics,
        &[("waiting-threads", 0.0), ("record-error-total", 1.0)],
    );
    let waited = metrics
        .value("bufferpool-wait-time-ns-total")
        .expect("a metric");
    assert!((150e6..154e6).contains(&waited), "{waited} ns");
}

#[tokio::test(start_paused = true)]
async fn waits_for_metadata_and_flushes_are_measured() {
    let peer = orders();
    peer.hold(crate::peer::METADATA);
    let producer = built(joined(&peer).linger(MS));
    assert!(
        producer
            .metrics()
            .value("metadata-age")
            .expect("one")
            .is_nan()
    );
    let (sent, ()) = tokio::join!(producer.send(to_first("v")), async {
        pass(30 * MS).await;
        peer.release(crate::peer::METADATA);
    });
    drop(sent.expect("accepted"));
    peer.hold(PRODUCE);
    let (flushed, ()) = tokio::join!(producer.flush(), async {
        pass(40 * MS).await;
        peer.release(PRODUCE);
    });
    flushed.expect("written");
    let metrics = producer.metrics();
    let waited = metrics
        .value("metadata-wait-time-ns-total")
        .expect("a metric");
    assert!((30e6..33e6).contains(&waited), "{waited} ns");
    let flushed = metrics.value("flush-time-ns-total").expect("a metric");
    assert!((40e6..43e6).contains(&flushed), "{flushed} ns");
    pass(Duration::from_secs(7)).await;
    let age = producer.metrics().value("metadata-age").expect("one");
    assert!((7.0..7.1).contains(&age), "{age} s");
}

#[rstest]
#[case::default_windows(None, 3.0)]
#[case::short_windows(Some(Duration::from_millis(10)), f64::NAN)]
#[tokio::test(start_paused = true)]
async fn averages_look_back_as_far_as_configured(
    #[case] window: Option<Duration>,
    #[case] expected: f64,
) {
    let mut builder = joined(&orders()).linger(5 * MS);
    if let Some(window) = window {
        builder = builder.metrics_sample_window(window);
    }
    let producer = built(builder);
    let topic = producer.topic("orders").await.expect("known");
    let sends = [(); 3].map(|()| Record::new().partition(0).value("v"));
    drop(topic.send_all(sends).await);
    producer.flush().await.expect("written");
    pass(Duration::from_secs(1)).await;
    let found = producer.metrics().value("records-per-request-avg");
    let found = found.expect("a metric");
    assert!(
        found == expected || (found.is_nan() && expected.is_nan()),
        "{found}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgements_no_answer_is_measured() {
    let producer = built(joined(&orders()).acks(Acks::None));
    producer.deliver(to_first("v")).await.expect("handed over");
    let metrics = producer.metrics();
    let expected = [("record-send-total", 1.0), ("requests-in-flight", 0.0)];
    assert_values(&metrics, &expected);
    assert_eq!(metrics.stages().answered.count, 0);
    assert!(metrics.value("request-latency-avg").expect("one").is_nan());
}

#[tokio::test(start_paused = true)]
async fn a_metric_is_shown_with_group_name_and_value() {
    let producer = built(joined(&Peer::new(&[("orders", 1)])));
    producer.deliver(to_first("v")).await.expect("written");
    let lines: Vec<String> = producer.metrics().iter().map(ToString::to_string).collect();
    for expected in [
        "producer-metrics:record-send-total = 1",
        "producer-topic-metrics:record-send-total{topic=orders} = 1",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }
}
