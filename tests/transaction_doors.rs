//! What goes into a transaction and what does not: its doors, and epochs that are not raised.

use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use kafka_producer::{ProduceErrorKind, Remedy, TransactionErrorKind};
use promises::shell::Shell;
use promises::transactional::{committed, pass, producer, settle, to};
use rstest::rstest;

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
