//! Memory is bounded: a sender waits, is refused, or gives up, and nothing else grows.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::time::Duration;

use kafka_mockbroker::{Api, Rule, Verdict};
use kafka_producer::{ProduceErrorKind, Producer, Record};
use promises::shell::{Shell, timed};

const BATCH_BYTES: usize = 1_000;

/// Room for two batches with their state, each filled by one of these records.
fn small(shell: &Shell) -> Producer {
    let builder = shell
        .producer()
        .batch_size(BATCH_BYTES)
        .buffer_memory(5 * BATCH_BYTES);
    builder.max_block(Duration::from_secs(30)).build().unwrap()
}

fn filling(value: &[u8]) -> Record<'_, &'static str> {
    Record::to("orders").partition(0).value(value)
}

fn answers_late(delay: Duration) -> Rule {
    Rule::on(Api::Produce).always().then(Verdict::Delay(delay))
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_room_and_goes_on_when_an_answer_frees_it() {
    let shell = Shell::start();
    let producer = small(&shell);
    producer.topic("orders").await.unwrap();
    let _late = shell.cluster.inject(answers_late(Duration::from_secs(10)));
    let value = vec![b'x'; 900];
    let mut deliveries = Vec::new();
    for _ in 0..2 {
        deliveries.push(producer.send(filling(&value)).await.unwrap());
    }
    let (third, took) = timed(producer.send(filling(&value))).await;
    deliveries.push(third.unwrap());
    assert!(
        took >= Duration::from_secs(10),
        "the first answer frees room, it took {took:?}"
    );
    for (offset, delivery) in (0..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(offset));
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_room_ends_at_max_block() {
    let shell = Shell::start();
    let producer = small(&shell);
    producer.topic("orders").await.unwrap();
    let _late = shell.cluster.inject(answers_late(Duration::from_secs(100)));
    let value = vec![b'x'; 900];
    let _first = producer.send(filling(&value)).await.unwrap();
    let _second = producer.send(filling(&value)).await.unwrap();
    let (refused, took) = timed(producer.send(filling(&value))).await;
    let refused = refused.err().unwrap();
    assert!(
        matches!(refused.kind(), ProduceErrorKind::MemoryTimedOut { .. }),
        "{refused}"
    );
    assert!(!refused.possibly_written());
    assert_eq!(took.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_does_not_want_to_wait_is_refused() {
    let shell = Shell::start();
    let producer = small(&shell);
    producer.topic("orders").await.unwrap();
    let _late = shell.cluster.inject(answers_late(Duration::from_secs(10)));
    let value = vec![b'x'; 900];
    let _first = producer.try_send(filling(&value)).unwrap();
    let _second = producer.try_send(filling(&value)).unwrap();
    let refused = producer.try_send(filling(&value)).err().unwrap();
    assert_eq!(refused.kind(), ProduceErrorKind::MemoryFull);
}

#[tokio::test(start_paused = true)]
async fn a_send_given_up_while_waiting_holds_nothing_back() {
    let shell = Shell::start();
    let producer = small(&shell);
    producer.topic("orders").await.unwrap();
    let _late = shell.cluster.inject(answers_late(Duration::from_secs(10)));
    let value = vec![b'x'; 900];
    let first = producer.send(filling(&value)).await.unwrap();
    let _second = producer.send(filling(&value)).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_secs(1), producer.send(filling(&value)));
    assert!(given_up.await.is_err(), "it waits for room");
    first.await.unwrap();
    producer.try_send(filling(&value)).unwrap().await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(
        shell.log("orders", 0).len(),
        3,
        "the record given up was not written"
    );
}
