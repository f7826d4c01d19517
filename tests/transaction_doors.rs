//! What goes into a transaction and what does not: its doors, epochs that are not raised, and plain
//! threads.

use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, MockCluster, MockClusterBuilder, Rule, Verdict};
use kafka_producer::{
    CommitError, ConsumedOffset, ConsumerGroup, ProduceErrorKind, Producer, ProducerBuilder,
    Record, Remedy, TransactionErrorKind,
};
use promises::shell::Shell;
use promises::transactional::{committed, pass, producer, requests, settle, to};
use rstest::rstest;
use tokio::runtime::Runtime;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum How {
    Commits,
    Aborts,
}

/// The slot is known and was open a moment ago, so a record would go there at once.
#[rstest]
#[case::commit(How::Commits)]
#[case::abort(How::Aborts)]
#[tokio::test(start_paused = true)]
async fn no_record_slips_into_a_transaction_that_is_ending(#[case] how: How) {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transaction = transactions.begin().await.unwrap();
    transaction.deliver(to(0, "known")).await.unwrap();
    let slow = Rule::on(Api::Produce).count(1);
    let _slow = shell.cluster.inject(slow.then(Verdict::Delay(10 * SECOND)));
    transaction.send(to(0, "in time")).await.unwrap();
    pass(SECOND).await;
    let ends = async {
        match how {
            How::Commits => transaction.commit().await.unwrap(),
            How::Aborts => transaction.abort().await.unwrap(),
        }
    };
    let sends = async {
        pass(SECOND).await;
        let waits = producer.send(to(0, "late")).await.map(drop);
        let at_once = producer.try_send(to(0, "late")).map(drop);
        let together = producer.send_all([to(0, "late")]).await;
        let together = together.into_iter().map(|sent| sent.map(drop));
        together.chain([waits, at_once]).collect::<Vec<_>>()
    };
    let (late, ()) = tokio::join!(sends, ends);
    for refused in late {
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ProduceErrorKind::NoTransaction));
    }
    let next = transactions.begin().await.unwrap();
    next.deliver(to(0, "next")).await.unwrap();
    next.commit().await.unwrap();
    settle().await;
    assert_eq!(shell.log("orders", 0), ["known", "in time", "next"]);
}

/// A failed batch leaves a gap, so the epoch has to be raised before the next transaction.
#[rstest]
#[case::id_forbidden(53)]
#[case::cluster_forbidden(31)]
#[case::abortable(120)]
#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_not_raised_is_asked_for_by_the_next_begin(#[case] code: i16) {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(1).unwrap();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transaction = transactions.begin().await.unwrap();
    transaction.deliver(to(0, "before")).await.unwrap();
    let fails = Rule::on(Api::Produce).count(1);
    let _fails = shell
        .cluster
        .inject(fails.then(Verdict::Answer(ErrorCode(87))));
    transaction.deliver(to(0, "refused")).await.unwrap_err();
    let refusal = Rule::on(Api::InitProducerId).count(2);
    let refusal = shell
        .cluster
        .inject(refusal.then(Verdict::Answer(ErrorCode(code))));
    transaction.abort().await.unwrap();
    // One is asked for at once; this begin may wait for it, or ask itself.
    let mut told = Vec::new();
    while refusal.hits() < 2 {
        let error = transactions.begin().await.unwrap_err();
        told.push((error.kind(), error.remedy(), error.broker_code()));
    }
    let code = Some(kafka_producer::ErrorCode(code));
    let expected = (TransactionErrorKind::Refused, Remedy::CallAgain, code);
    assert!(
        !told.is_empty() && told.iter().all(|one| *one == expected),
        "{told:?}"
    );
    let transaction = transactions.begin().await.unwrap();
    transaction.deliver(to(0, "after")).await.unwrap();
    transaction.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["after"]);
}

/// Behind sockets, once it is started.
fn orders() -> MockClusterBuilder {
    MockCluster::builder().topic("orders", 1, 1)
}

/// A producer of transactions whose task runs elsewhere.
fn plain(cluster: &MockCluster, runtime: &Runtime) -> ProducerBuilder {
    Producer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .runtime(runtime.handle().clone())
        .transactional_id("plain")
}

/// A thread without a runtime: nothing but the blocking forms.
#[test]
fn plain_threads_commit_abort_and_copy() {
    let (cluster, runtime) = (orders().start().unwrap(), Runtime::new().unwrap());
    let builder = plain(&cluster, &runtime);
    let producer = builder.build().unwrap();
    let record = |value: &'static str| Record::to("orders").partition(0).value(value);
    let group = ConsumerGroup::new("copiers");
    let mut transactions = producer.init_transactions_blocking().unwrap();
    let transaction = transactions.begin_blocking().unwrap();
    transaction.send_blocking(record("aborted")).unwrap();
    transaction.abort_blocking().unwrap();
    let transaction = transactions.begin_blocking().unwrap();
    transaction.send_blocking(record("by value")).unwrap();
    let offset = || [ConsumedOffset::next("orders", 0, 7)];
    transaction.send_offsets_blocking(offset(), &group).unwrap();
    let committed_ = transaction.commit_blocking();
    assert!(committed_.is_ok(), "{committed_:?}");
    producer.begin_transaction_blocking().unwrap();
    let delivery = producer.send_blocking(record("by name")).unwrap();
    producer
        .send_offsets_to_transaction_blocking(offset(), &group)
        .unwrap();
    producer.commit_transaction_blocking().unwrap();
    delivery.wait().unwrap();
    producer.begin_transaction_blocking().unwrap();
    producer.abort_transaction_blocking().unwrap();
    producer.close_blocking().unwrap();
    assert_eq!(requests(&cluster, Api::TxnOffsetCommit).0, 2);
    // Version 2 of transactions: each end is of one that left something.
    assert_eq!(requests(&cluster, Api::EndTxn).0, 2);
    let values = committed(&cluster, 0);
    assert_eq!(
        values.first().map(String::as_str),
        Some("by value"),
        "{values:?}"
    );
}

#[test]
fn plain_threads_wait_on_for_what_is_not_answered() {
    let (cluster, runtime) = (orders().start().unwrap(), Runtime::new().unwrap());
    let builder = plain(&cluster, &runtime).max_block(SECOND / 4);
    let producer = builder.build().unwrap();
    let mut transactions = producer.init_transactions_blocking().unwrap();
    let slow = Rule::on(Api::EndTxn).count(1).then(Verdict::Delay(SECOND));
    let _slow = cluster.inject(slow);
    let transaction = transactions.begin_blocking().unwrap();
    transaction
        .send_blocking(Record::to("orders").value("slow"))
        .unwrap();
    let mut answer = transaction.commit_blocking();
    let mut resumed = 0;
    while let Err(CommitError::Unanswered(commit)) = answer {
        answer = commit.resume_blocking();
        resumed += 1;
    }
    assert!(answer.is_ok() && resumed > 0, "{answer:?} after {resumed}");
    producer.close_blocking().unwrap();
}
