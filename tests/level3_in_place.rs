//! Over loopback TCP, in real time: callers who go the driver's round for it.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::future::{Future, poll_fn};
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use kafka_mockbroker::MockCluster;
use kafka_producer::{Producer, Record, Topic};
use tokio::runtime::{Builder, Runtime};

const MINUTE: Duration = Duration::from_secs(60);

fn start() -> MockCluster {
    MockCluster::builder()
        .brokers(1)
        .topic("orders", 1, 1)
        .start()
        .unwrap()
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

/// A topic whose connection is there, of a producer with this linger.
fn topic(cluster: &MockCluster, runtime: &Runtime, linger: Duration) -> (Producer, Topic) {
    let producer = Producer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .runtime(runtime.handle().clone())
        .linger(linger)
        .build()
        .unwrap();
    let topic = runtime.block_on(producer.topic("orders")).unwrap();
    let first = topic.send_blocking(Record::new().value("first")).unwrap();
    producer.flush_blocking().unwrap();
    first.wait().unwrap();
    (producer, topic)
}

/// Keeps the only worker of a runtime busy until what is returned is dropped.
fn block(runtime: &Runtime) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (blocks, blocked) = mpsc::channel();
    runtime.spawn(async move {
        blocks.send(()).unwrap();
        let _ = released.recv();
    });
    blocked.recv().unwrap();
    release
}

#[test]
fn a_record_leaves_though_the_drivers_task_has_no_thread() {
    let (cluster, runtime) = (start(), runtime(1));
    let (_producer, topic) = topic(&cluster, &runtime, Duration::ZERO);
    // The driver is asleep, with nothing on its way, once its task had a turn after the answer.
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    let worker = block(&runtime);
    let delivery = topic.send_blocking(Record::new().value("second")).unwrap();
    let waiting = Instant::now();
    while cluster.records("orders", 0).len() < 2 {
        assert!(waiting.elapsed() < MINUTE, "nobody sent it");
        thread::yield_now();
    }
    drop(worker);
    assert_eq!(delivery.wait().unwrap().offset, Some(1));
}

#[test]
fn a_caller_who_waits_runs_no_callback() {
    let (cluster, runtime) = (start(), runtime(2));
    // Nothing goes before it is flushed: both records are in one batch.
    let (producer, topic) = topic(&cluster, &runtime, MINUTE);
    let (ran, threads) = mpsc::channel();
    for _ in 0..300 {
        let delivery = topic.send_blocking(Record::new().value("a")).unwrap();
        let ran = ran.clone();
        let callback = move |_| ran.send(thread::current().id()).unwrap();
        runtime
            .block_on(topic.send_with(Record::new().value("b"), callback))
            .unwrap();
        runtime.block_on(async {
            // One poll asks for both to be sent, and sends them; the delivery looks for the answer.
            let mut flush = Box::pin(producer.flush());
            let asked = poll_fn(|cx| Poll::Ready(flush.as_mut().poll(cx)));
            drop(asked.await);
            delivery.await.unwrap();
        });
        let thread = threads.recv_timeout(MINUTE).unwrap();
        assert_ne!(thread, thread::current().id());
    }
}

#[test]
fn all_who_wait_for_each_of_their_records_hear_of_it() {
    const TASKS: usize = 6;
    const RECORDS: usize = 300;
    let (cluster, runtime) = (start(), runtime(2));
    let (producer, topic) = topic(&cluster, &runtime, Duration::ZERO);
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..TASKS {
            let topic = topic.clone();
            tasks.spawn(async move {
                for _ in 0..RECORDS {
                    topic.deliver(Record::new().value("v")).await.unwrap();
                }
            });
        }
        let all = tokio::time::timeout(MINUTE, tasks.join_all());
        all.await.expect("somebody waits for ever");
        producer.close().await.unwrap();
    });
    let written = cluster.records("orders", 0).len();
    assert_eq!(written, 1 + TASKS * RECORDS);
}
