//! `buffer.memory` bounds what is allocated: counted by the allocator, against a stalled broker.
//!
//! Each story fills the memory of a producer whose requests are not read, until sends are refused.
//! What was allocated for that, at its highest, is the bound and a tenth of it at most, plus a base
//! that does not depend on traffic. Then the broker goes on, and everything arrives.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "edge/peer.rs"]
#[expect(dead_code, reason = "these stories need a part of it")]
mod peer;
/// The reader of batches that the unit tests use too.
#[path = "../src/wire/read_back.rs"]
mod read_back;

use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use kafka_producer::{CompressionType, Delivery, ProduceErrorKind, Producer, ProducerBuilder};
use kafka_producer::{Record, Topic};
use peak_alloc::PeakAlloc;
use peer::{ANYTHING, Peer};
use rstest::rstest;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// `buffer.memory` of all stories.
const MEMORY: usize = 8 << 20;

/// What does not depend on how much waits: lists of what is told to the driver, its timers, one
/// answer.
const BASE: usize = 256 << 10;

/// One story: its producer and what is sent.
struct Story {
    partitions: i32,
    with: fn(ProducerBuilder) -> ProducerBuilder,
    value: fn(usize) -> Vec<u8>,
    sending: Sending,
}

/// How records are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Forgotten,
    CalledBack,
    /// Each delivery is polled, by one task.
    Awaited,
}

/// What came of a story.
#[derive(Debug)]
struct Filled {
    records: usize,
    peak: usize,
}

fn kilobyte(_: usize) -> Vec<u8> {
    vec![7; 1_000]
}

fn tiny(_: usize) -> Vec<u8> {
    vec![7; 3]
}

fn text(number: usize) -> Vec<u8> {
    let customer = number % 97;
    let line = format!("{{\"order\":{number},\"customer\":{customer},\"state\":\"paid\"}};");
    line.repeat(20).into_bytes()
}

const PLAIN: Story = Story {
    partitions: 3,
    with: |builder| builder,
    value: kilobyte,
    sending: Sending::Forgotten,
};

const COMPRESSED: Story = Story {
    value: text,
    ..PLAIN
};

async fn send(topic: &Topic, record: Record<'_>, sending: Sending) -> Result<(), ProduceErrorKind> {
    let sent = match sending {
        Sending::CalledBack => topic.send_with(record, |_| {}).await,
        Sending::Forgotten => topic.send(record).await.map(drop),
        Sending::Awaited => topic.send(record).await.map(poll_once),
    };
    sent.map_err(|error| error.kind())
}

fn poll_once(delivery: Delivery) {
    let waker = Waker::from(Arc::clone(&ASLEEP));
    let polled = pin!(delivery).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending(), "nobody answers");
}

/// A task that is never polled again.
struct Asleep;

impl Wake for Asleep {
    fn wake(self: Arc<Self>) {}
}

static ASLEEP: LazyLock<Arc<Asleep>> = LazyLock::new(|| Arc::new(Asleep));

impl Story {
    async fn told(&self) {
        let peer = Peer::new(&[("orders", self.partitions)]);
        let builder = Producer::builder()
            .bootstrap_servers("broker:9092")
            .buffer_memory(MEMORY)
            .max_block(Duration::from_millis(200))
            .connector(peer.clone());
        let producer = (self.with)(builder).build().expect("allowed");
        let topic = producer.topic("orders").await.expect("known");
        // Whatever is made once for each partition is there before it is counted.
        for partition in 0..self.partitions {
            let first = Record::new().partition(partition).value(b"first");
            drop(topic.send(first).await.expect("room"));
        }
        producer.flush().await.expect("written");
        peer.hold(ANYTHING);
        let before = peer.records();
        let filled = self.fill(&topic).await;
        let bounds = MEMORY / 4..=MEMORY + MEMORY / 10 + BASE;
        assert!(
            bounds.contains(&filled.peak),
            "{filled:?}, allowed {bounds:?}"
        );
        peer.release(ANYTHING);
        producer.flush().await.expect("written");
        let arrived = usize::try_from(peer.records() - before).expect("few");
        assert_eq!(arrived, filled.records, "what was accepted arrives");
        producer.close().await.expect("nothing is left");
    }

    /// Sends until memory was used up for a while, on all partitions by turns.
    async fn fill(&self, topic: &Topic) -> Filled {
        let base = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let (mut records, mut refused) = (0, 0);
        for (number, partition) in (0..).zip((0..self.partitions).cycle()) {
            let value = (self.value)(number);
            let record = Record::new().partition(partition).value(&value);
            match send(topic, record, self.sending).await {
                Ok(()) => records += 1,
                Err(ProduceErrorKind::MemoryTimedOut { .. }) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            if refused == 3 {
                break;
            }
        }
        let peak = ALLOCATOR.peak_usage() - base;
        Filled { records, peak }
    }
}

#[rstest]
#[case::full_batches(PLAIN)]
#[case::large_batches(Story { with: |builder| builder.batch_size(1 << 20), ..PLAIN })]
#[case::many_partitions_with_little_traffic(Story {
    partitions: 1_000,
    with: |builder| builder.linger(Duration::from_secs(60)),
    value: |_| vec![7; 20],
    ..PLAIN
})]
#[case::each_record_a_batch(Story {
    with: |builder| builder.batch_size(0),
    value: tiny,
    ..PLAIN
})]
#[case::tiny_records_with_callbacks(Story {
    value: tiny,
    sending: Sending::CalledBack,
    ..PLAIN
})]
#[case::tiny_records_each_awaited(Story { value: tiny, sending: Sending::Awaited, ..PLAIN })]
#[case::gzip(Story {
    with: |builder| builder.compression_type(CompressionType::Gzip),
    ..COMPRESSED
})]
#[case::snappy(Story {
    with: |builder| builder.compression_type(CompressionType::Snappy),
    ..COMPRESSED
})]
#[case::lz4(Story {
    with: |builder| builder.compression_type(CompressionType::Lz4),
    ..COMPRESSED
})]
#[case::zstd(Story {
    with: |builder| builder.compression_type(CompressionType::Zstd),
    ..COMPRESSED
})]
#[case::zstd_at_a_high_level_with_large_batches(Story {
    with: |builder| {
        let builder = builder.compression_type(CompressionType::Zstd);
        builder.compression_zstd_level(19).batch_size(64 << 10)
    },
    ..COMPRESSED
})]
fn what_is_allocated_stays_within_buffer_memory(#[case] story: Story) {
    // The allocator counts for all threads; those of the story before may not have ended.
    let alone = FIRST_BYTES.lock();
    let mut first_bytes = alone.unwrap_or_else(PoisonError::into_inner);
    let bytes = *first_bytes.get_or_insert_with(|| ALLOCATOR.current_usage());
    let started = Instant::now();
    while ALLOCATOR.current_usage() > bytes + (64 << 10) && started.elapsed() < SECOND {
        std::thread::yield_now();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(story.told());
}

const SECOND: Duration = Duration::from_secs(1);

/// What was allocated before the first story; held by the one that is told.
static FIRST_BYTES: Mutex<Option<usize>> = Mutex::new(None);
