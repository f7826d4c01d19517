//! What a record costs of the heap on its whole way, to the broker and back: nothing.
//!
//! Batches allocate: a completion, places in lists, a request. Records do not, nor do bytes, for
//! buffers are lent again and again. So ten times the records in a batch, or ten times the bytes
//! in a record, leave what is allocated as it was, to the allocation. Caller and driver share one
//! thread, and all that they allocate counts; the broker and the pipes to it are left out.
//!
//! *Not here*: how much memory is held (`memory.rs`); what senders alone allocate, with headers,
//! serializers and partitioners (`edge/allocating.rs`).

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "edge/peer.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod peer;
/// The reader of batches that the unit tests use too.
#[path = "../src/wire/read_back.rs"]
mod read_back;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure, opt_out};
use kafka_producer::engine::effect::Address;
use kafka_producer::io::transport::{Connecting, Connector, Transport};
use kafka_producer::{Delivery, Producer, Record, Topic};
use peer::{PRODUCE, Peer};
use rstest::rstest;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::runtime::Runtime;

/// Rounds that are counted.
const ROUNDS: usize = 50;

/// Rounds before, until lists and buffers have the size that they keep.
const WARM_UP: usize = 20;

/// What a batch may cost that goes alone: its completion, its request, the answer, and their places
/// in lists; in a debug build also the engine's look at itself.
const ALLOCATIONS_PER_BATCH_MAX: u64 = 24;

/// What a pipe takes at once: more than a round's request, as a write may have to be tried again.
const PIPE_BYTES: usize = 8 << 20;

/// How a record finds its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// It is the only one: a round is a batch.
    None,
    /// By its key: a round is a batch of each partition.
    Numbers,
}

impl Keys {
    /// How many partitions there are, and so batches in a round.
    fn partitions(self) -> usize {
        match self {
            Self::None => 1,
            Self::Numbers => 6,
        }
    }
}

/// What is sent and awaited in a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    keys: Keys,
    records: usize,
    value_bytes: usize,
}

/// A producer and its broker, on one thread.
struct World {
    runtime: Runtime,
    peer: Peer,
    topic: Topic,
    value: Vec<u8>,
    deliveries: Vec<Delivery>,
}

impl World {
    fn new(keys: Keys) -> Self {
        let partitions = i32::try_from(keys.partitions()).expect("few");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let entered = runtime.enter();
        let peer = Peer::new(&[("orders", partitions)]);
        let producer = Producer::builder()
            .bootstrap_servers("broker:9092")
            .linger(Duration::ZERO)
            .batch_size(1 << 20)
            .connector(Uncounted(peer.clone()))
            .build()
            .expect("allowed");
        drop(entered);
        let topic = runtime.block_on(producer.topic("orders")).expect("known");
        Self {
            runtime,
            peer,
            topic,
            value: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    /// What so many rounds allocate once as many as warm up went before.
    fn counted(&mut self, round: Round) -> AllocationInfo {
        self.value.resize(round.value_bytes, 7);
        (0..WARM_UP).for_each(|_| self.play(round));
        let before = self.batches();
        let counted = measure(|| (0..ROUNDS).for_each(|_| self.play(round)));
        let batches = self.batches() - before;
        assert_eq!(batches, ROUNDS * round.keys.partitions(), "{round:?}");
        counted
    }

    fn play(&mut self, round: Round) {
        let (topic, value) = (&self.topic, &self.value);
        let deliveries = &mut self.deliveries;
        self.runtime.block_on(async {
            for number in 0..round.records {
                let key = number.to_be_bytes();
                let record = match round.keys {
                    Keys::None => Record::new().value(value),
                    Keys::Numbers => Record::new().key(&key).value(value),
                };
                deliveries.push(topic.send(record).await.expect("room"));
            }
            for delivery in deliveries.drain(..) {
                delivery.await.expect("written");
            }
        });
    }

    /// How many batches arrived.
    fn batches(&self) -> usize {
        let produced = self.peer.arrived(PRODUCE);
        produced.iter().map(|arrived| arrived.batches.len()).sum()
    }
}

#[rstest]
fn ten_times_the_records_allocate_as_much(#[values(Keys::None, Keys::Numbers)] keys: Keys) {
    let few = Round {
        keys,
        records: 400,
        value_bytes: 100,
    };
    let many = Round {
        records: 4_000,
        ..few
    };
    let [few, many] = [few, many].map(|round| World::new(keys).counted(round));
    assert_eq!(few.count_total, many.count_total);
    let batches = u64::try_from(ROUNDS * keys.partitions()).expect("few");
    assert!(few.count_total >= batches, "batches are counted: {few:?}");
    assert!(
        few.count_total <= batches * ALLOCATIONS_PER_BATCH_MAX,
        "{few:?} for {batches} batches"
    );
}

#[rstest]
fn ten_times_the_bytes_allocate_as_much(#[values(Keys::None, Keys::Numbers)] keys: Keys) {
    let small = Round {
        keys,
        records: 500,
        value_bytes: 100,
    };
    let large = Round {
        value_bytes: 1_000,
        ..small
    };
    let [small, large] = [small, large].map(|round| World::new(keys).counted(round));
    assert_eq!(small.count_total, large.count_total);
    assert_eq!(small.bytes_total, large.bytes_total);
}

/// The broker's side of it all: what it allocates counts for nobody.
#[derive(Debug)]
struct Uncounted<T>(T);

impl Transport for Uncounted<DuplexStream> {}

impl Connector for Uncounted<Peer> {
    fn connect(&self, _: Address) -> Connecting {
        let peer = self.0.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            tokio::spawn(Uncounted(Box::pin(peer.serve(theirs))));
            let transport: Box<dyn Transport> = Box::new(Uncounted(ours));
            Ok(transport)
        })
    }
}

/// What it gives, of which nothing is counted.
fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let mut done = None;
    opt_out(|| done = Some(work()));
    done.expect("it was called")
}

impl<F: Future + Unpin> Future for Uncounted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        uncounted(|| Pin::new(&mut self.0).poll(cx))
    }
}

impl AsyncRead for Uncounted<DuplexStream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        uncounted(|| Pin::new(&mut self.0).poll_read(cx, into))
    }
}

impl AsyncWrite for Uncounted<DuplexStream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        uncounted(|| Pin::new(&mut self.0).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        uncounted(|| Pin::new(&mut self.0).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        uncounted(|| Pin::new(&mut self.0).poll_shutdown(cx))
    }
}
