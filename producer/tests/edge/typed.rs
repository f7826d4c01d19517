//! Keys and values of any type: what arrives, what is refused, and what is used again.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kafka_producer::serializer::{self, BoxError, Part, Plain, Serializer, Target};
use kafka_producer::{Fault, ProduceErrorKind, TypedRecord, TypedTopic};
use serde::Serialize;

use crate::peer::{PRODUCE, Peer};
use crate::read_back::ReadRecord;
use crate::{is_ready, joined, orders, settle, tight};

#[derive(Serialize)]
struct Order {
    apples: u32,
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

async fn topic(peer: &Peer) -> kafka_producer::Topic {
    let producer = joined(peer).build().expect("allowed");
    producer.topic("orders").await.expect("known")
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_arrive_as_their_serializers_wrote_them() {
    let peer = orders();
    let json = serializer::from_fn(|order: &Order, buffer: &mut Vec<u8>| {
        serde_json::to_writer(buffer, order)
    });
    let topic: TypedTopic<str, Order> = topic(&peer).await.typed(Plain, json);
    let order = Order { apples: 3 };
    let full = TypedRecord::new("customer-7", &order)
        .header("trace", "1")
        .nullable_header("trace", None)
        .partition(1)
        .timestamp_ms(7);
    let written = topic.deliver(full).await.expect("written");
    assert_eq!((written.partition, written.timestamp_ms), (1, Some(7)));
    let expected = ReadRecord {
        timestamp_ms: 7,
        key: bytes("customer-7"),
        value: bytes(r#"{"apples":3}"#),
        headers: vec![("trace".into(), bytes("1")), ("trace".into(), None)],
    };
    assert_eq!(peer.seen()[0].record, expected);
}

#[tokio::test(start_paused = true)]
async fn null_keys_and_values_reach_no_serializer() {
    let peer = orders();
    let never = || {
        serializer::from_fn(|_: &str, _: &mut Vec<u8>| Err::<(), _>(BoxError::from("was asked")))
    };
    let topic = topic(&peer).await;
    let no_value = topic.typed::<str, str>(Plain, never());
    drop(
        no_value
            .send(TypedRecord::tombstone("k").partition(0))
            .await
            .expect("accepted"),
    );
    let no_key = topic.typed::<str, str>(never(), Plain);
    drop(
        no_key
            .try_send(TypedRecord::keyless("v").partition(0))
            .expect("accepted"),
    );
    settle().await;
    let seen = peer.seen().into_iter();
    let seen: Vec<_> = seen
        .map(|seen| (seen.record.key, seen.record.value))
        .collect();
    assert_eq!(seen, [(bytes("k"), None), (None, bytes("v"))]);
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_where_its_bytes_hash() {
    let peer = Peer::new(&[("orders", 12)]);
    let topic = topic(&peer).await.typed::<i32, ()>(Plain, Plain);
    let typed = topic
        .deliver(TypedRecord::new(&7, &()))
        .await
        .expect("written");
    let bytes = 7_i32.to_be_bytes();
    let plain = kafka_producer::Record::new().key(&bytes);
    let plain = topic.topic().deliver(plain).await.expect("written");
    assert_eq!(typed.partition, plain.partition);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_serialized_is_refused_with_the_reason() {
    let peer = orders();
    let topic = topic(&peer).await;
    let picky = || {
        serializer::from_fn(|text: &str, buffer: &mut Vec<u8>| {
            let number: u8 = text.parse()?;
            buffer.push(number);
            Ok::<_, std::num::ParseIntError>(())
        })
    };
    let topic = topic.typed::<str, str>(picky(), picky());
    for (key, value, part) in [("x", "1", Part::Key), ("1", "x", Part::Value)] {
        let record = TypedRecord::new(key, value).partition(0);
        let error = topic.send(record).await.expect_err("no number");
        assert_eq!(error.kind(), ProduceErrorKind::SerializationFailed { part });
        assert_eq!((error.fault(), error.may_retry()), (Fault::Caller, false));
        assert!(!error.possibly_written());
        assert_eq!((error.topic(), error.partition()), ("orders", Some(0)));
        let source = error.source().expect("the serializer's error");
        assert!(source.is::<std::num::ParseIntError>(), "{source}");
        assert!(
            !error.to_string().contains("invalid digit"),
            "a source tells itself"
        );
        assert!(format!("{error:?}").contains("invalid digit"), "{error:?}");
    }
    settle().await;
    assert!(peer.arrived(PRODUCE).is_empty());
}

/// Keeps what it was asked, and where it wrote.
#[derive(Clone, Default)]
struct Watching {
    asked: Arc<AtomicUsize>,
    buffers: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Serializer<str> for Watching {
    fn serialize<'a>(
        &self,
        data: &'a str,
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        assert_eq!(target, Target::value_of("orders"));
        assert!(buffer.is_empty());
        self.asked.fetch_add(1, Ordering::Relaxed);
        buffer.extend_from_slice(data.as_bytes());
        let place = (buffer.as_ptr().addr(), buffer.capacity());
        self.buffers.lock().expect("not poisoned").push(place);
        Ok(Some(buffer))
    }
}

#[tokio::test(start_paused = true)]
async fn a_serializer_writes_into_the_same_buffer_again() {
    let peer = orders();
    let watching = Watching::default();
    let topic = topic(&peer)
        .await
        .typed::<str, str>(Plain, watching.clone());
    for _ in 0..10 {
        drop(
            topic
                .send(TypedRecord::keyless("3 apples"))
                .await
                .expect("accepted"),
        );
    }
    let buffers = watching.buffers.lock().expect("not poisoned");
    assert!(
        buffers.iter().all(|buffer| *buffer == buffers[0]),
        "{buffers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_for_memory_serializes_once() {
    let peer = orders();
    peer.hold(PRODUCE);
    let producer = tight(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let watching = Watching::default();
    let topic = topic.typed::<str, str>(Plain, watching.clone());
    let large = "v".repeat(400);
    let record = || TypedRecord::keyless(large.as_str()).partition(0);
    let first = topic.send(record()).await.expect("room");
    let second = topic.send(record()).await.expect("room");
    let mut third = Box::pin(topic.send(record()));
    assert!(!is_ready(&mut third), "there is no room");
    peer.release(PRODUCE);
    let third = third.await.expect("room");
    for delivery in [first, second, third] {
        delivery.await.expect("written");
    }
    assert_eq!(watching.asked.load(Ordering::Relaxed), 3);
    let seen = peer.seen();
    assert!(seen.iter().all(|seen| seen.record.value == bytes(&large)));
}

#[tokio::test(start_paused = true)]
async fn many_are_serialized_each_with_a_result_of_its_own() {
    let peer = orders();
    let even = serializer::from_fn(|number: &i32, buffer: &mut Vec<u8>| {
        buffer.push(u8::try_from(*number)?);
        Ok::<_, std::num::TryFromIntError>(())
    });
    let topic = topic(&peer).await.typed::<str, i32>(Plain, even);
    let values = [1, -1, 2];
    let records = values.iter().map(|value| TypedRecord::new("k", value));
    let records = records.chain([TypedRecord::tombstone("k"), TypedRecord::of(None, None)]);
    let records = records.map(|record| record.partition(1).header("a", "b"));
    let mut offsets = Vec::new();
    for sent in topic.send_all(records).await {
        offsets.push(match sent {
            Ok(delivery) => Ok(delivery.await.expect("written").offset),
            Err(error) => Err(error.kind()),
        });
    }
    let part = Part::Value;
    let refused = Err(ProduceErrorKind::SerializationFailed { part });
    assert_eq!(
        offsets,
        [Ok(Some(0)), refused, Ok(Some(1)), Ok(Some(2)), Ok(Some(3))]
    );
    let seen = peer.seen();
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| (&seen.record.key, &seen.record.value))
        .collect();
    let (key, null) = (bytes("k"), None);
    let [one, two] = [1, 2].map(|byte| Some(vec![byte]));
    assert_eq!(
        seen,
        [(&key, &one), (&key, &two), (&key, &null), (&null, &null)]
    );
    assert!(
        peer.seen()
            .iter()
            .all(|seen| seen.record.headers.len() == 1)
    );
}

/// The second cannot be serialized: the third is still the one at place 2.
#[tokio::test(start_paused = true)]
async fn a_function_is_told_the_place_of_each_among_those_given() {
    let peer = orders();
    let small = serializer::from_fn(|number: &i32, buffer: &mut Vec<u8>| {
        buffer.push(u8::try_from(*number)?);
        Ok::<_, std::num::TryFromIntError>(())
    });
    let topic = topic(&peer).await.typed::<str, i32>(Plain, small);
    let values = [1, -1, 2];
    let records = values.iter().map(|value| TypedRecord::new("k", value));
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let sent = topic
        .send_all_with(records, move |place, outcome| {
            let offset = outcome.expect("written").offset;
            told.send((place, offset)).expect("somebody listens");
        })
        .await;
    let accepted: Vec<bool> = sent.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true]);
    assert_eq!(heard.recv().await, Some((0, Some(0))));
    assert_eq!(heard.recv().await, Some((2, Some(1))));
    assert_eq!(
        heard.recv().await,
        None,
        "each once, and then the function is dropped"
    );
}
