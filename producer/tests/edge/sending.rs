//! What a send waits for, what it refuses, and whom it wakes.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_producer::{ErrorCode, Fault, ProduceErrorKind, Record};
use rstest::rstest;
use tokio::time::{Instant, timeout};

use crate::peer::{Arrived, METADATA, PRODUCE, Peer};
use crate::read_back::ReadRecord;
use crate::{MINUTE, MS, is_ready, joined, offset, orders, pass, settle, tight, to_first};

#[tokio::test(start_paused = true)]
async fn records_of_a_partition_are_written_in_the_order_of_their_sends() {
    let producer = joined(&orders()).build().expect("allowed");
    let mut deliveries = Vec::new();
    for _ in 0..100 {
        deliveries.push(producer.send(to_first("v")).await.expect("accepted"));
    }
    for (index, delivery) in (0..).zip(deliveries) {
        assert_eq!(offset(delivery).await, Some(index));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_its_linger_and_a_full_one_does_not() {
    let peer = orders();
    let producer = joined(&peer)
        .linger(50 * MS)
        .batch_size(200)
        .build()
        .expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let before = Instant::now();
    let small = Record::new().partition(0).value("small");
    topic.deliver(small).await.expect("written");
    let lingered = before.elapsed();
    assert!((50 * MS..53 * MS).contains(&lingered), "{lingered:?}");

    let before = Instant::now();
    let large = [0; 300];
    let full = Record::new().partition(1).value(&large);
    topic.deliver(full).await.expect("written");
    assert!(before.elapsed() < 2 * MS, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_send_that_would_wait_for_metadata_fails_at_once_when_it_may_not() {
    let peer = orders();
    let producer = joined(&peer)
        .max_block(Duration::ZERO)
        .build()
        .expect("allowed");
    let before = Instant::now();
    let error = producer
        .send(to_first("v"))
        .await
        .expect_err("not known yet");
    assert_eq!(error.kind(), ProduceErrorKind::TopicNotReady);
    assert_eq!(before.elapsed(), Duration::ZERO);
    settle().await;
    drop(producer.send(to_first("v")).await.expect("known by now"));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_cluster_is_told_after_max_block_with_address_and_reason() {
    let peer = orders().unreachable();
    let producer = joined(&peer)
        .max_block(3 * MINUTE)
        .build()
        .expect("allowed");
    let before = Instant::now();
    let error = producer.send(to_first("v")).await.expect_err("unreachable");
    let waited = before.elapsed();
    assert!(
        (3 * MINUTE..3 * MINUTE + 5 * MS).contains(&waited),
        "{waited:?}"
    );
    let text = error.to_string();
    assert!(text.contains("broker:9092: refused"), "{text}");
    assert!(text.contains("180s"), "{text}");
    assert_eq!(error.fault(), Fault::Network);
    assert!(error.may_retry() && !error.possibly_written());
}

/// Somebody may have given the permission.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_forbidden_is_asked_about_by_each_send_and_found_allowed() {
    let peer = orders();
    peer.forbid("orders");
    let producer = joined(&peer).build().expect("allowed");
    for questions in 1..=3 {
        let refused = producer.send(to_first("v")).await.expect_err("forbidden");
        assert_eq!(refused.broker_code(), Some(ErrorCode(29)));
        assert_eq!(peer.arrived(METADATA).len(), questions, "each asks once");
    }
    peer.allow("orders");
    let delivery = producer.send(to_first("v")).await.expect("allowed");
    assert_eq!(offset(delivery).await, Some(0));
    let questions: Vec<Duration> = peer.arrived(METADATA).iter().map(|a| a.at).collect();
    let pauses = questions.windows(2).map(|two| two[1] - two[0]);
    for pause in pauses {
        assert!(
            pause >= 80 * MS,
            "retry.backoff.ms lies between them: {pause:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_a_topic_that_was_forbidden_is_given_once_it_is_allowed() {
    let peer = orders();
    peer.forbid("orders");
    let producer = joined(&peer).build().expect("allowed");
    producer.topic("orders").await.expect_err("forbidden");
    peer.allow("orders");
    producer.topic("orders").await.expect("allowed");
}

/// Who never waits has the question asked, and finds its answer with a later try.
#[rstest]
#[case::by_try_send(MINUTE)]
#[case::by_no_time_to_block(Duration::ZERO)]
#[tokio::test(start_paused = true)]
async fn who_does_not_wait_finds_a_topic_allowed_later(#[case] max_block: Duration) {
    let peer = orders();
    peer.forbid("orders");
    let producer = joined(&peer).max_block(max_block).build();
    let producer = producer.expect("allowed");
    producer.try_send(to_first("v")).expect_err("not known");
    settle().await;
    peer.allow("orders");
    let refused = match max_block.is_zero() {
        true => producer.send(to_first("v")).await,
        false => producer.try_send(to_first("v")),
    };
    let refused = refused.expect_err("forbidden as last heard");
    assert_eq!(refused.broker_code(), Some(ErrorCode(29)));
    pass(200 * MS).await;
    drop(producer.try_send(to_first("v")).expect("known by now"));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_name_is_asked_about_once() {
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    for _ in 0..3 {
        producer
            .send(Record::to("bad name"))
            .await
            .expect_err("invalid");
        pass(200 * MS).await;
    }
    assert_eq!(peer.arrived(METADATA).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_refused_for_good_is_told_at_once() {
    let producer = joined(&orders()).build().expect("allowed");
    let before = Instant::now();
    let error = producer
        .send(Record::to("bad name"))
        .await
        .expect_err("invalid");
    assert_eq!(error.broker_code(), Some(ErrorCode(17)));
    assert_eq!(error.fault(), Fault::Caller);
    assert!(before.elapsed() < MINUTE);
    let error = producer.topic("bad name").await.expect_err("invalid");
    assert_eq!(error.topic(), "bad name");
}

#[tokio::test(start_paused = true)]
async fn a_record_too_large_is_refused_before_a_broker_is_asked() {
    let peer = orders();
    let producer = joined(&peer)
        .max_request_size(1_000)
        .build()
        .expect("allowed");
    let large = "v".repeat(1_000);
    let error = producer
        .send(to_first(&large))
        .await
        .expect_err("too large");
    let ProduceErrorKind::RecordTooLarge {
        record_bytes,
        limit_bytes,
        limit,
    } = error.kind()
    else {
        panic!("{error}");
    };
    assert!((1_061..1_100).contains(&record_bytes), "{record_bytes}");
    assert_eq!((limit_bytes, limit), (1_000, "max.request.size"));
    assert!(
        error.to_string().contains("max.request.size=1000"),
        "{error}"
    );
    settle().await;
    assert_eq!(peer.arrived(METADATA), []);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_partition_and_a_negative_timestamp_are_refused() {
    let producer = joined(&orders()).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    assert_eq!(topic.partition_count(), 2);
    for partition in [-1, 2, i32::MAX] {
        let record = Record::new().partition(partition).value("v");
        let error = topic.try_send(record).expect_err("unknown");
        let expected = ProduceErrorKind::UnknownPartition { partition_count: 2 };
        assert_eq!(
            (error.kind(), error.partition()),
            (expected, Some(partition))
        );
    }
    let error = topic
        .try_send(Record::new().timestamp_ms(-1))
        .expect_err("negative");
    assert_eq!(error.kind(), ProduceErrorKind::InvalidTimestamp);
}

#[tokio::test(start_paused = true)]
async fn a_send_without_room_waits_until_an_answer_makes_room() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let value = "v".repeat(400);
    let topic = producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let record = || Record::new().partition(0).value(&value);
    for _ in 0..2 {
        drop(topic.try_send(record()).expect("room"));
    }
    let error = topic.try_send(record()).expect_err("no room");
    assert_eq!(error.kind(), ProduceErrorKind::MemoryFull);
    let mut waiting = pin!(topic.send(record()));
    assert!(
        timeout(30 * MS, waiting.as_mut()).await.is_err(),
        "no room yet"
    );
    peer.release(PRODUCE);
    let delivery = timeout(MS, waiting).await.expect("room").expect("accepted");
    assert_eq!(offset(delivery).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_room_ends_the_linger_of_what_is_queued() {
    let peer = orders();
    let producer = tight(&peer).linger(MINUTE).build().expect("allowed");
    let value = "v".repeat(400);
    let topic = producer.topic("orders").await.expect("known");
    let before = Instant::now();
    // By turns, so that each batch is still open when memory is used up.
    for number in 0..10 {
        let record = Record::new().partition(number % 2).value(&value);
        drop(topic.send(record).await.expect("room in time"));
    }
    assert!(before.elapsed() < 100 * MS, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn senders_who_wait_are_served_in_order_of_arrival() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    peer.hold(PRODUCE);
    // The first ones wait for the topic, the later ones for memory too: one batch each.
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let producer = producer.clone();
        let send = async move {
            let value = "v".repeat(400);
            producer.deliver(to_first(&value)).await.expect("written")
        };
        tasks.push(tokio::spawn(send));
    }
    settle().await;
    peer.release(PRODUCE);
    for (index, task) in (0..).zip(tasks) {
        let written = task.await.expect("no panic");
        assert_eq!(written.offset, Some(index));
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_without_room_fails_after_max_block() {
    let peer = orders();
    let producer = tight(&peer).max_block(200 * MS).build().expect("allowed");
    let value = "v".repeat(400);
    let topic = producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    let record = || Record::new().partition(0).value(&value);
    for _ in 0..2 {
        drop(topic.send(record()).await.expect("room"));
    }
    let before = Instant::now();
    let error = topic.send(record()).await.expect_err("no room in time");
    let waited = 200 * MS;
    assert_eq!(error.kind(), ProduceErrorKind::MemoryTimedOut { waited });
    assert!((waited..waited + 3 * MS).contains(&before.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn callbacks_run_in_order_and_a_panic_in_one_ends_nothing() {
    let peer = orders();
    let producer = joined(&peer).batch_size(200).build().expect("allowed");
    let called = Arc::new(Mutex::new(Vec::new()));
    for number in 0..20 {
        let called = Arc::clone(&called);
        let on_settled = move |result: Result<kafka_producer::Written, _>| {
            let offset = result.expect("written").offset;
            called.lock().expect("not poisoned").push(offset);
            assert_ne!(number, 5, "this callback panics");
        };
        let sent = producer.send_with(to_first("value"), on_settled).await;
        sent.expect("accepted");
    }
    producer.flush().await.expect("written");
    let expected: Vec<_> = (0..20).map(Some).collect();
    assert_eq!(*called.lock().expect("not poisoned"), expected);
    producer.deliver(to_first("v")).await.expect("still alive");
}

#[tokio::test(start_paused = true)]
async fn all_batches_of_an_answer_are_settled_before_anyone_hears_of_one() {
    let peer = orders();
    let producer = joined(&peer).linger(10 * MS).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let second = Record::new().partition(1).value("v");
    let mut second = topic.send(second).await.expect("accepted");
    let (tell, told) = tokio::sync::oneshot::channel();
    let first = Record::new().partition(0).value("v");
    let on_settled = move |_| {
        let _ = tell.send(is_ready(&mut second));
    };
    topic.send_with(first, on_settled).await.expect("accepted");
    assert!(
        told.await.expect("called"),
        "the other batch is settled too"
    );
    let produced = peer.arrived(PRODUCE);
    assert_eq!(
        produced.len(),
        1,
        "one request, so one answer: {produced:?}"
    );
    assert_eq!(produced[0].batches.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_acks_a_record_resolves_unanswered_and_without_offset() {
    let peer = orders();
    let producer = joined(&peer).set("acks", "0").build().expect("allowed");
    peer.hold(PRODUCE);
    let written = producer.deliver(to_first("v")).await.expect("handed over");
    assert_eq!((written.offset, written.timestamp_ms), (None, None));
    producer.close().await.expect("written");
}

#[tokio::test(start_paused = true)]
async fn records_with_one_key_go_to_the_partition_of_its_hash() {
    let peer = Peer::new(&[("orders", 5)]);
    let producer = joined(&peer).build().expect("allowed");
    for key in ["21", "foobar", "abc", ""] {
        let record = Record::to("orders").key(key).value("v");
        let written = producer.deliver(record).await.expect("written");
        let expected = kafka_producer::partitioner::partition_of_key(key.as_bytes(), 5);
        assert_eq!(usize::try_from(written.partition).ok(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_producer_sets_no_timer_below_its_metadata_age() {
    let peer = orders();
    let producer = joined(&peer)
        .metadata_max_age(10 * MINUTE)
        .metadata_max_idle(60 * MINUTE)
        .build()
        .expect("allowed");
    producer.deliver(to_first("v")).await.expect("written");
    let asked = peer.arrived(METADATA).len();
    pass(9 * MINUTE).await;
    assert_eq!(peer.arrived(METADATA).len(), asked);
    pass(2 * MINUTE).await;
    let asked: Vec<Arrived> = peer.arrived(METADATA).split_off(asked);
    assert!(
        !asked.is_empty(),
        "metadata is asked for again when it is old"
    );
}

#[tokio::test(start_paused = true)]
async fn many_tasks_share_a_producer() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    producer.deliver(to_first("value")).await.expect("written");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(peer.records(), 16 * 50);
}

/// Null and empty differ; header names repeat and their values may be null; a timestamp is any that
/// is not negative, and need not grow.
#[tokio::test(start_paused = true)]
async fn a_record_arrives_as_it_was_given() {
    let peer = orders();
    let producer = joined(&peer).linger(5 * MS).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let record = || Record::new().partition(0);
    let full = record()
        .key("")
        .value("")
        .header("a", "1")
        .nullable_header("a", None)
        .header("", "")
        .timestamp_ms(i64::MAX);
    let tombstone = record().key("k").timestamp_ms(0);
    let neither = record().timestamp_ms(1);
    for sent in topic.send_all([full, tombstone, neither]).await {
        let written = sent.expect("accepted").await.expect("written");
        assert_eq!(written.partition, 0);
    }
    let read = |timestamp_ms, key: Option<&str>, value: Option<&str>| ReadRecord {
        timestamp_ms,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: Vec::new(),
    };
    let mut full = read(i64::MAX, Some(""), Some(""));
    let headers = [("a", Some("1")), ("a", None), ("", Some(""))];
    let headers = headers.map(|(name, value): (&str, Option<&str>)| {
        (
            name.to_owned(),
            value.map(|value| value.as_bytes().to_vec()),
        )
    });
    full.headers = headers.to_vec();
    let arrived: Vec<_> = peer.seen().into_iter().map(|seen| seen.record).collect();
    assert_eq!(
        arrived,
        [full, read(0, Some("k"), None), read(1, None, None)]
    );
    assert_eq!(peer.arrived(PRODUCE).len(), 1, "in one batch");
}

/// The broker answers nothing. The second record waits behind the first, and the third comes when
/// the second has had half of its time.
#[tokio::test(start_paused = true)]
async fn a_record_has_its_own_delivery_time_and_not_that_of_the_batch_before() {
    let time = Duration::from_secs(16);
    let peer = orders();
    let producer = joined(&peer)
        .linger(Duration::ZERO)
        .request_timeout(time)
        .delivery_timeout(time)
        .build()
        .expect("allowed");
    producer.topic("orders").await.expect("known");
    peer.hold(PRODUCE);
    drop(producer.send(to_first("sent")).await.expect("accepted"));
    settle().await;
    let mut ends = Vec::new();
    for value in ["early", "late"] {
        let delivery = producer.send(to_first(value)).await.expect("accepted");
        let sent_at = Instant::now();
        ends.push(tokio::spawn(async move {
            let error = delivery.await.expect_err("nobody answers");
            assert_eq!(error.kind(), ProduceErrorKind::DeliveryTimedOut);
            sent_at.elapsed()
        }));
        pass(time / 2).await;
    }
    for end in ends {
        let took = end.await.expect("no panic");
        assert!((time - 2 * MS..time + 5 * MS).contains(&took), "{took:?}");
    }
}
