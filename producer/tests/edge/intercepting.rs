//! Interceptors: what they change, what they are told, and how they end.

use std::sync::{Arc, Mutex};

use kafka_producer::serializer::{self, BoxError, Plain};
use kafka_producer::{
    Acknowledgement, Fault, InterceptedRecord, Interceptor, ProduceError, ProduceErrorKind, Record,
    TypedRecord, Written,
};
use rstest::rstest;

use crate::peer::PRODUCE;
use crate::{is_ready, joined, orders, settle, tight, to_first};

/// What all interceptors of a test were told, in order.
type Told = Arc<Mutex<Vec<String>>>;

/// Writes down what it is told, under a name.
#[derive(Clone)]
struct Clerk(&'static str, Told);

impl Clerk {
    fn note(&self, what: &str) {
        let words = format!("{} {what}", self.0);
        self.1.lock().expect("not poisoned").push(words);
    }
}

impl Interceptor for Clerk {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        let value = String::from_utf8_lossy(record.value().unwrap_or(b"null")).into_owned();
        self.note(&format!("sends {value}"));
        record.set_value(Some(format!("{value}-{}", self.0)));
        record.add_header("by", self.0);
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let topic = acknowledgement.topic();
        match acknowledgement.result() {
            Ok(written) => self.note(&format!("{topic} written at {:?}", written.offset)),
            Err(error) => self.note(&format!("{topic} {:?}", error.kind())),
        }
    }

    fn close(&self) {
        self.note("closes");
    }
}

fn told(told: &Told) -> Vec<String> {
    std::mem::take(&mut *told.lock().expect("not poisoned"))
}

#[tokio::test(start_paused = true)]
async fn each_changes_what_the_one_before_left_and_all_are_told_in_order() {
    let (peer, notes) = (orders(), Told::default());
    let producer = joined(&peer)
        .interceptor(Clerk("a", notes.clone()))
        .interceptor(Clerk("b", notes.clone()));
    let producer = producer.build().expect("allowed");
    let record = Record::to("orders")
        .partition(1)
        .value("v")
        .header("by", "me");
    producer.deliver(record).await.expect("written");
    producer.close().await.expect("closed");
    let expected = [
        "a sends v",
        "b sends v-a",
        "a orders written at Some(0)",
        "b orders written at Some(0)",
        "a closes",
        "b closes",
    ];
    assert_eq!(told(&notes), expected);
    let seen = &peer.seen()[0].record;
    assert_eq!(seen.value.as_deref(), Some(&b"v-a-b"[..]));
    let by = seen.headers.iter().map(|(_, value)| value.clone());
    let expected = ["me", "a", "b"].map(|by| Some(by.as_bytes().to_vec()));
    assert_eq!(by.collect::<Vec<_>>(), expected);
    let config = producer.config();
    let classes = config.value("interceptor.classes").expect("known");
    assert_eq!(classes.matches("Clerk").count(), 2, "{classes}");
}

#[rstest]
#[case::unknown_partition(Record::to("orders").partition(2), "UnknownPartition")]
#[case::bad_timestamp(Record::to("orders").timestamp_ms(-1), "InvalidTimestamp")]
#[case::refused_topic(Record::to("nowhere"), "Refused")]
#[tokio::test(start_paused = true)]
async fn a_record_refused_before_its_queue_is_told_too(
    #[case] record: Record<'static, &'static str>,
    #[case] kind: &str,
) {
    let notes = Told::default();
    let producer = joined(&orders()).interceptor(Clerk("a", notes.clone()));
    let producer = producer.build().expect("allowed");
    producer.topic("orders").await.expect("known");
    producer.send(record).await.expect_err("refused");
    let told = told(&notes);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains(kind), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_would_have_to_wait_is_told_as_refused() {
    let (peer, notes) = (orders(), Told::default());
    let producer = joined(&peer).interceptor(Clerk("a", notes.clone()));
    let producer = producer.build().expect("allowed");
    producer.try_send(to_first("v")).expect_err("not known yet");
    assert_eq!(told(&notes), ["a sends v", "a orders TopicNotReady"]);
    let topic = producer.topic("orders").await.expect("known");
    let delivery = topic
        .try_send(Record::new().partition(0).value("v"))
        .expect("room");
    delivery.await.expect("written");
    assert_eq!(told(&notes), ["a sends v", "a orders written at Some(0)"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_broker_refused_is_told_before_its_callback() {
    let (peer, notes) = (orders(), Told::default());
    peer.refuse_produce(87);
    let clerk = Clerk("a", notes.clone());
    let producer = joined(&peer)
        .interceptor(clerk.clone())
        .build()
        .expect("allowed");
    let callback = move |result: Result<Written, ProduceError>| {
        clerk.note(&format!(
            "sees its callback told {:?}",
            result.map_err(|e| e.kind())
        ));
    };
    producer
        .send_with(to_first("v"), callback)
        .await
        .expect("accepted");
    producer.flush().await.expect_err("refused");
    let expected = [
        "a sends v",
        "a orders Refused",
        "a sees its callback told Err(Refused)",
    ];
    assert_eq!(told(&notes), expected);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_is_told_once() {
    let (peer, notes) = (orders(), Told::default());
    peer.hold(PRODUCE);
    let producer = tight(&peer).interceptor(Clerk("a", notes.clone()));
    let producer = producer.build().expect("allowed");
    let large = "v".repeat(400);
    for _ in 0..2 {
        drop(producer.send(to_first(&large)).await.expect("room"));
    }
    let mut third = Box::pin(producer.send(to_first(&large)));
    assert!(!is_ready(&mut third), "there is no room");
    told(&notes);
    drop(third);
    assert_eq!(told(&notes), ["a orders GivenUp"]);
    peer.release(PRODUCE);
    producer.close().await.expect("two were written");
    let told = told(&notes);
    assert_eq!(told.len(), 3, "two fates and the end: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_serialized_is_told_without_being_seen() {
    let notes = Told::default();
    let producer = joined(&orders()).interceptor(Clerk("a", notes.clone()));
    let producer = producer.build().expect("allowed");
    let broken = serializer::from_fn(|_: &str, _: &mut Vec<u8>| Err::<(), _>(BoxError::from("no")));
    let topic = producer
        .topic("orders")
        .await
        .expect("known")
        .typed::<str, str>(Plain, broken);
    topic
        .send(TypedRecord::keyless("v"))
        .await
        .expect_err("broken");
    assert_eq!(
        told(&notes),
        ["a orders SerializationFailed { part: Value }"]
    );
}

/// Writes down the headers it is told with a record's fate, and the partition.
struct HeaderClerk(Told);

impl Interceptor for HeaderClerk {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        if record.value() == Some(b"traced") {
            record.add_header("trace", "1");
        }
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let value = |value: Option<&[u8]>| value.map(|v| String::from_utf8_lossy(v).into_owned());
        let headers = acknowledgement.headers();
        let headers: Vec<_> = headers
            .map(|one| (one.key.to_owned(), value(one.value)))
            .collect();
        let words = format!("{:?} {headers:?}", acknowledgement.partition());
        self.0.lock().expect("not poisoned").push(words);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_are_told_with_a_records_fate() {
    let notes = Told::default();
    let producer = joined(&orders()).interceptor(HeaderClerk(notes.clone()));
    let producer = producer.build().expect("allowed");
    let record = |value| to_first(value).header("a", "b").nullable_header("n", None);
    producer.deliver(record("traced")).await.expect("written");
    producer.deliver(record("plain")).await.expect("written");
    producer.deliver(to_first("bare")).await.expect("written");
    let refused = record("traced").timestamp_ms(-1);
    producer.send(refused).await.expect_err("refused");
    let [traced, plain] = [r#", ("trace", Some("1"))"#, ""]
        .map(|more| format!(r#"Some(0) [("a", Some("b")), ("n", None){more}]"#));
    assert_eq!(
        told(&notes),
        [traced.clone(), plain, "Some(0) []".into(), traced]
    );
}

/// Panics wherever it can, after it changed the record.
struct Panicking;

impl Interceptor for Panicking {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        record.set_value(Some("half done"));
        record.set_partition(Some(1));
        panic!("on purpose");
    }

    fn on_acknowledgement(&self, _: &Acknowledgement<'_>) {
        panic!("on purpose");
    }

    fn close(&self) {
        panic!("on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_changes_nothing_and_stops_neither_the_others_nor_the_producer() {
    let (peer, notes) = (orders(), Told::default());
    let producer = joined(&peer)
        .interceptor(Clerk("a", notes.clone()))
        .interceptor(Panicking)
        .interceptor(Clerk("b", notes.clone()));
    let producer = producer.build().expect("allowed");
    for offset in 0..2 {
        let written = producer.deliver(to_first("v")).await.expect("written");
        assert_eq!((written.partition, written.offset), (0, Some(offset)));
    }
    assert_eq!(peer.seen()[1].record.value.as_deref(), Some(&b"v-a-b"[..]));
    producer.close().await.expect("closed");
    let told = told(&notes);
    assert_eq!(told.len(), 10, "two records and the end, twice: {told:?}");
    assert_eq!(told[8..], ["a closes", "b closes"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_last_and_once_however_a_producer_ends() {
    for closing in [true, false] {
        let (peer, notes) = (orders(), Told::default());
        let producer = joined(&peer).interceptor(Clerk("a", notes.clone()));
        let producer = producer.build().expect("allowed");
        drop(producer.send(to_first("v")).await.expect("accepted"));
        if closing {
            producer.close().await.expect("closed");
            producer.close().await.expect("closed already");
            let error = producer.send(to_first("late")).await.expect_err("closed");
            assert_eq!(
                (error.kind(), error.fault()),
                (ProduceErrorKind::Closed, Fault::Caller)
            );
        }
        drop(producer);
        settle().await;
        let expected = ["a sends v", "a orders written at Some(0)", "a closes"];
        assert_eq!(told(&notes), expected);
    }
}

/// Its callback has no room beside it, and nobody can wait for more than all memory.
#[tokio::test(start_paused = true)]
async fn a_record_that_fills_all_memory_may_have_a_callback() {
    let peer = orders();
    let producer = tight(&peer).build().expect("allowed");
    let value = "v".repeat(3_400);
    let (told, hears) = tokio::sync::oneshot::channel();
    let callback = move |result: Result<Written, ProduceError>| {
        told.send(result.is_ok()).expect("somebody listens");
    };
    let sent = producer.send_with(to_first(&value), callback).await;
    sent.expect("accepted");
    assert_eq!(hears.await, Ok(true));
    producer
        .deliver(to_first("v"))
        .await
        .expect("memory is free");
}
