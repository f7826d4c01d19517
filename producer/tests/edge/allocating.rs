//! A record is appended without allocating: batches allocate, records do not.
//!
//! The driver does not run while a test counts: what is counted is what senders do.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use kafka_producer::partitioner::{Crc32, RoundRobin};
use kafka_producer::serializer::{self, Plain};
use kafka_producer::wire::batch_buffer::BatchBuffer;
use kafka_producer::wire::compression::{Codec, Compressor};
use kafka_producer::{CompressionType, Header, Record, Topic, TypedRecord};
use rstest::rstest;

use crate::joined;
use crate::peer::Peer;

/// Records sent in a count; they fill about eight batches.
const RECORDS: u64 = 1_000;

/// What eight batches, and lists that grow, may allocate: an eighth of one for each record.
const ALLOCATIONS_MAX: u64 = RECORDS / 8;

async fn topic(
    with: impl FnOnce(kafka_producer::ProducerBuilder) -> kafka_producer::ProducerBuilder,
) -> Topic {
    let peer = Peer::new(&[("orders", 4)]);
    let producer = with(joined(&peer)).build().expect("allowed");
    producer.topic("orders").await.expect("known")
}

#[track_caller]
fn assert_free(send: impl FnMut(u64)) {
    let mut send = send;
    // What is made once: lists, a thread's buffers.
    (0..10).for_each(&mut send);
    let counted = measure(|| (0..RECORDS).for_each(&mut send));
    let count = counted.count_total;
    assert!(
        count <= ALLOCATIONS_MAX,
        "{count} allocations for {RECORDS} records"
    );
    assert!(count > 0, "batches are counted");
}

/// A future that need not wait is ready when it is polled.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it would wait"),
    }
}

const VALUE: [u8; 100] = [7; 100];

#[tokio::test(start_paused = true)]
async fn a_record_costs_no_allocation() {
    let topic = topic(|builder| builder).await;
    let headers = [Header {
        key: "trace",
        value: Some(b"1"),
    }];
    assert_free(|number| {
        let key = number.to_be_bytes();
        let record = Record::new().key(&key).value(&VALUE).headers(&headers);
        drop(now(topic.send(record)).expect("room"));
    });
    assert_free(|_| drop(topic.try_send(Record::new().value(&VALUE)).expect("room")));
}

#[tokio::test(start_paused = true)]
async fn a_typed_record_costs_no_allocation() {
    let text = serializer::from_fn(|number: &u64, buffer: &mut Vec<u8>| {
        use std::io::Write;
        write!(buffer, "{number:0100}")
    });
    let topic = topic(|builder| builder)
        .await
        .typed::<i64, u64>(Plain, text);
    assert_free(|number| {
        let record = TypedRecord::new(&7, &number);
        drop(now(topic.send(record)).expect("room"));
    });
}

#[rstest]
#[case::crc_32("crc")]
#[case::round_robin("round robin")]
#[tokio::test(start_paused = true)]
async fn a_partitioner_costs_no_allocation(#[case] which: &str) {
    let topic = match which {
        "crc" => topic(|builder| builder.partitioner(Crc32)).await,
        _ => topic(|builder| builder.partitioner(RoundRobin::default())).await,
    };
    assert_free(|number| {
        let key = number.to_be_bytes();
        let record = Record::new().key(&key).value(&VALUE);
        drop(topic.try_send(record).expect("room"));
    });
}

/// What a codec's thread sets aside is what its compressor holds, and not much more.
#[rstest]
fn a_compressor_holds_what_it_says(
    #[values(
        (CompressionType::Gzip, 1),
        (CompressionType::Gzip, 9),
        (CompressionType::Snappy, 0),
        (CompressionType::Lz4, 9),
        (CompressionType::Lz4, 3),
        (CompressionType::Zstd, -5),
        (CompressionType::Zstd, 3),
        (CompressionType::Zstd, 7),
        (CompressionType::Zstd, 19)
    )]
    (compression, level): (CompressionType, i32),
    #[values(4 << 10, 16 << 10, 64 << 10, 128 << 10)] bytes: usize,
) {
    let codec = Codec { compression, level };
    let line = |number| format!("{{\"order\":{number},\"customer\":{}}};", number % 97);
    let text: String = (0..).map(line).take(bytes / 20).collect();
    let batch = |bytes| {
        let mut plain = text.clone().into_bytes();
        plain.resize(bytes, b'x');
        BatchBuffer::from(plain)
    };
    // They become larger, as a partition's first ones do.
    let mut batches = [bytes / 16, bytes / 4, bytes, bytes].map(batch);
    let counted = measure(|| {
        let mut compressor = Compressor::new(codec);
        for batch in &mut batches {
            assert_eq!(compressor.compress_in_place(batch), compression);
        }
    });
    let (held, said) = (counted.bytes_max, codec.compressor_bytes(bytes));
    let said = u64::try_from(said).expect("few");
    assert!(held <= said, "{held} of {said}");
    assert!(said <= 3 * held, "{held} of {said}");
}

/// Many at once take a few lists for all of them.
#[tokio::test(start_paused = true)]
async fn many_records_cost_a_few_lists() {
    let topic = topic(|builder| builder).await;
    let send = || {
        let records = (0..RECORDS).map(|_| Record::new().value(&VALUE));
        now(topic.send_all(records)).len()
    };
    send();
    let counted = measure(|| assert_eq!(send(), 1_000));
    assert!(
        counted.count_total <= ALLOCATIONS_MAX,
        "{}",
        counted.count_total
    );
}
