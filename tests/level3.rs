//! Over loopback TCP, in real time: the few promises that sockets could break.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::time::Duration;

use kafka_mockbroker::{Api, MockCluster, Rule, Verdict};
use kafka_producer::{Producer, ProducerBuilder, Record};

fn start() -> MockCluster {
    MockCluster::builder()
        .brokers(3)
        .topic("orders", 3, 3)
        .start()
        .unwrap()
}

fn producer(cluster: &MockCluster) -> ProducerBuilder {
    Producer::builder().bootstrap_servers(cluster.bootstrap_servers())
}

#[tokio::test]
async fn records_travel_over_tcp_to_every_broker() {
    let cluster = start();
    let producer = producer(&cluster).build().unwrap();
    for partition in 0..3 {
        let record = Record::to("orders")
            .partition(partition)
            .value("a")
            .header("h", "v");
        let written = producer.deliver(record).await.unwrap();
        assert_eq!((written.partition, written.offset), (partition, Some(0)));
        let log = cluster.records("orders", partition);
        assert_eq!(log[0].value.as_deref(), Some(&b"a"[..]));
    }
    producer.close().await.unwrap();
}

#[tokio::test]
async fn an_ack_lost_with_its_connection_leaves_one_copy() {
    let cluster = start();
    let lost = cluster.inject(Rule::on(Api::Produce).then(Verdict::CloseAfter));
    let producer = producer(&cluster).build().unwrap();
    let written = producer
        .deliver(Record::to("orders").partition(0).value("a"))
        .await
        .unwrap();
    assert_eq!((written.offset, lost.hits()), (Some(0), 1));
    assert_eq!(cluster.records("orders", 0).len(), 1);
}

/// The delivery time-out and the request's come together: no retry is left.
#[tokio::test]
async fn an_outcome_nobody_told_is_unknown_or_asked_for() {
    for (resolve_timeout, told) in [(0, None), (30, Some(Some(0)))] {
        let cluster = start();
        let lost = cluster.inject(Rule::on(Api::Produce).then(Verdict::ApplyThenLose));
        let time = Duration::from_millis(300);
        let producer = producer(&cluster)
            .linger(Duration::ZERO)
            .request_timeout(time)
            .delivery_timeout(time)
            .outcome_resolve_timeout(Duration::from_secs(resolve_timeout))
            .build()
            .unwrap();
        let record = Record::to("orders").partition(0).value("a");
        let outcome = producer.deliver(record).await;
        match told {
            Some(offset) => assert_eq!(outcome.unwrap().offset, offset),
            None => assert!(outcome.unwrap_err().possibly_written()),
        }
        let copies = cluster.records("orders", 0).len();
        assert_eq!((copies, lost.hits()), (1, 1));
    }
}

#[test]
fn a_plain_thread_sends_and_waits_without_async_code() {
    let cluster = start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let producer = producer(&cluster)
        .runtime(runtime.handle().clone())
        .build()
        .unwrap();
    let delivery = producer
        .send_blocking(Record::to("orders").partition(0).value("a"))
        .unwrap();
    assert_eq!(delivery.wait().unwrap().offset, Some(0));
}

#[tokio::test]
async fn an_unreachable_bootstrap_says_which_address_failed_how() {
    // Port 9 of the loopback address is privileged and nobody's.
    let builder = Producer::builder().bootstrap_servers("127.0.0.1:9");
    let producer = builder
        .max_block(Duration::from_millis(300))
        .build()
        .unwrap();
    let refused = producer
        .send(Record::to("orders").value("a"))
        .await
        .err()
        .unwrap();
    let words = format!("{refused} {:?}", refused.failure());
    assert!(words.contains("127.0.0.1:9"), "{words}");
    assert!(words.to_lowercase().contains("refused"), "{words}");
}

#[tokio::test]
async fn many_records_from_many_tasks_are_all_there_in_order() {
    const TASKS: usize = 4;
    const RECORDS: usize = 500;
    let cluster = start();
    let producer = producer(&cluster).build().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let producer = producer.clone();
        tasks.spawn(async move {
            for number in 0..RECORDS {
                let value = format!("{task} {number}");
                let record = Record::to("orders").partition(0).value(&value);
                drop(producer.send(record).await.unwrap());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    producer.flush().await.unwrap();
    let mut next = [0; TASKS];
    for record in cluster.records("orders", 0) {
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        let (task, number) = value.split_once(' ').unwrap();
        let task: usize = task.parse().unwrap();
        assert_eq!(
            number,
            next[task].to_string(),
            "the records of a task keep their order"
        );
        next[task] += 1;
    }
    assert_eq!(next, [RECORDS; TASKS]);
}
