//! The producer and the mock together: records sent, validated, acknowledged and awaited.
//!
//! ```sh
//! make bench          # figures, as a table
//! make bench-smoke    # each once, to see that it works
//! ```
//!
//! One task sends records with values of 100 bytes and no key, keeps a handle of each and awaits
//! them all; three brokers with six partitions, the producer idempotent with acks=all, batches of
//! 16 KiB and a linger of 5 ms. `memory` is one thread with pipes, `tcp` a cluster with a thread of
//! its own and loopback sockets. An iteration has a cluster of its own, whose start and end are not
//! counted, nor is the first record.
//!
//! *Not here*: other brokers than the mock; the example `throughput` takes any.

#![expect(missing_docs, reason = "what the macros of criterion make has none")]
#![expect(clippy::expect_used, reason = "a benchmark that fails ends")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_mockbroker::{MockCluster, MockClusterBuilder};
use kafka_producer::{Delivery, Producer, ProducerBuilder, Record};
use promises::shell::Shell;
use tokio::runtime::{Builder, Runtime};

const VALUE: [u8; 100] = [b'x'; 100];
const WINDOW: usize = 100_000;

fn in_memory(criterion: &mut Criterion) {
    const RECORDS: u32 = 30_000;
    let mut group = criterion.benchmark_group("end_to_end");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function("memory", |bencher| {
        bencher.iter_custom(|iterations| {
            let one = |_| {
                let runtime = Builder::new_current_thread().enable_time().build();
                let runtime = runtime.expect("a runtime");
                let shell = runtime.block_on(async { Shell::start_with(six_partitions) });
                let elapsed = measured(&runtime, shell.producer(), RECORDS);
                assert_eq!(records(&shell.cluster), i64::from(RECORDS) + 1);
                elapsed
            };
            (0..iterations).map(one).sum::<Duration>()
        });
    });
    group.finish();
}

fn over_tcp(criterion: &mut Criterion) {
    const RECORDS: u32 = 300_000;
    let mut group = criterion.benchmark_group("end_to_end");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function("tcp", |bencher| {
        bencher.iter_custom(|iterations| {
            let one = |_| {
                let mut runtime = Builder::new_multi_thread();
                let runtime = runtime.worker_threads(1).enable_all().build();
                let runtime = runtime.expect("a runtime");
                let cluster = six_partitions(MockCluster::builder()).start();
                let cluster = cluster.expect("there are free ports");
                let producer = Producer::builder().bootstrap_servers(cluster.bootstrap_servers());
                let elapsed = measured(&runtime, producer, RECORDS);
                assert_eq!(records(&cluster), i64::from(RECORDS) + 1);
                elapsed
            };
            (0..iterations).map(one).sum::<Duration>()
        });
    });
    group.finish();
}

fn six_partitions(builder: MockClusterBuilder) -> MockClusterBuilder {
    builder.brokers(3).topic("orders", 6, 3)
}

/// How long so many records took from the first send to the last acknowledgement.
fn measured(runtime: &Runtime, producer: ProducerBuilder, records: u32) -> Duration {
    runtime.block_on(async {
        let producer = producer.linger(Duration::from_millis(5)).build();
        let producer = producer.expect("allowed");
        let topic = producer.topic("orders").await.expect("it is there");
        let record = || Record::new().value(&VALUE);
        topic.deliver(record()).await.expect("it is taken");
        let started = Instant::now();
        let mut window: VecDeque<Delivery> = VecDeque::with_capacity(WINDOW);
        for _ in 0..records {
            if window.len() == WINDOW
                && let Some(oldest) = window.pop_front()
            {
                oldest.await.expect("it is taken");
            }
            window.push_back(topic.send(record()).await.expect("there is room"));
        }
        for delivery in window {
            delivery.await.expect("it is taken");
        }
        let elapsed = started.elapsed();
        producer.close().await.expect("nothing is left");
        elapsed
    })
}

/// How many records are in all partitions.
fn records(cluster: &MockCluster) -> i64 {
    let partitions = (0..6).filter_map(|index| cluster.partition("orders", index));
    partitions.map(|partition| partition.log_end_offset).sum()
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = in_memory, over_tcp
}
criterion_main!(benches);
