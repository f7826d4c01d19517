//! Flush and close: what was accepted is settled, whatever the network does, and nothing stays.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::time::Duration;

use kafka_mockbroker::{Api, Rule, Verdict};
use kafka_producer::{Outcome, ProduceErrorKind, Producer, Record};
use promises::shell::{Shell, timed};

fn producer(shell: &Shell) -> Producer {
    shell
        .producer()
        .linger(Duration::from_secs(60))
        .build()
        .unwrap()
}

fn lose_every_answer() -> Rule {
    Rule::on(Api::Produce).always().then(Verdict::ApplyThenLose)
}

fn order(value: &str) -> Record<'_, &'static str> {
    Record::to("orders").partition(0).value(value)
}

#[tokio::test(start_paused = true)]
async fn flush_sends_what_lingers_and_returns_when_it_is_written() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let _delivery = producer.send(order("a")).await.unwrap();
    let (flushed, took) = timed(producer.flush()).await;
    flushed.unwrap();
    assert!(
        took < Duration::from_secs(1),
        "linger would have been a minute, it took {took:?}"
    );
    assert_eq!(shell.log("orders", 0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn close_settles_what_was_accepted() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let delivery = producer.send(order("a")).await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}

#[tokio::test(start_paused = true)]
async fn close_refuses_what_comes_after_it() {
    let shell = Shell::start();
    let producer = producer(&shell);
    producer.topic("orders").await.unwrap();
    producer.close().await.unwrap();
    let refused = producer.send(order("late")).await.err().unwrap();
    assert_eq!(refused.kind(), ProduceErrorKind::Closed);
    assert!(!refused.possibly_written());
}

#[tokio::test(start_paused = true)]
async fn close_in_time_reports_an_unanswered_record_as_unknown() {
    let shell = Shell::start();
    let _lossy = shell.cluster.inject(lose_every_answer());
    let producer = producer(&shell);
    let delivery = producer.send(order("a")).await.unwrap();
    let (closed, took) = timed(producer.close_timeout(Duration::from_secs(5))).await;
    assert!(closed.unwrap_err().possibly_written());
    assert_eq!(took.as_secs(), 5);
    assert!(
        matches!(delivery.outcome().await, Outcome::Unknown(_)),
        "it is in the log"
    );
    assert_eq!(shell.log("orders", 0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_producer_dropped_with_records_still_writes_them() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let delivery = producer.send(order("a")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_delivery_changes_nothing_for_the_record() {
    let shell = Shell::start();
    let producer = producer(&shell);
    drop(producer.send(order("a")).await.unwrap());
    producer.flush().await.unwrap();
    assert_eq!(shell.log("orders", 0), ["a"]);
}
