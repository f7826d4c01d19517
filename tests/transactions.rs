//! Records that count together or not at all, whatever was lost on the way.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::time::Duration;

use kafka_mockbroker::inspect::Event;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, MockCluster, Rule, Verdict};
use kafka_producer::{
    CommitError, Misuse, Outcome, ProduceErrorKind, Record, Remedy, TransactionErrorKind,
};
use promises::shell::{Shell, timed};
use promises::transactional::{committed, pass, producer, requests, settle, to, transactional};
use rstest::rstest;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_read_together() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "-10")).await.unwrap();
    transfer.send(to(1, "+10")).await.unwrap();
    assert_eq!(
        committed(&shell.cluster, 0),
        [""; 0],
        "not before its commit"
    );
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["-10"]);
    assert_eq!(committed(&shell.cluster, 1), ["+10"]);
    // Version 2 of transactions: a write adds its partition, each transaction has its own epoch.
    assert_eq!(requests(&shell.cluster, Api::AddPartitionsToTxn), (0, None));
    assert_eq!(requests(&shell.cluster, Api::EndTxn), (1, Some(5)));
}

#[tokio::test(start_paused = true)]
async fn one_transaction_follows_another_with_an_epoch_of_its_own() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    for value in ["a", "b", "c"] {
        let transaction = transactions.begin().await.unwrap();
        transaction.send(to(0, value)).await.unwrap();
        transaction.commit().await.unwrap();
    }
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b", "c"]);
    let log = shell.cluster.records("orders", 0);
    let stamps = log.iter().map(|record| record.producer.unwrap());
    let stamps: Vec<_> = stamps.map(|one| (one.epoch, one.sequence)).collect();
    assert_eq!(stamps, [(0, 0), (1, 0), (2, 0)]);
    producer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_aborted_is_not_read() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "aborted")).await.unwrap();
    transfer.abort().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "committed")).await.unwrap();
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(shell.log("orders", 0), ["aborted", "committed"]);
    assert_eq!(committed(&shell.cluster, 0), ["committed"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_dropped_is_aborted_before_the_next_begins() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "dropped")).await.unwrap();
    drop(transfer);
    let transfer = transactions.begin().await.unwrap();
    assert_eq!(requests(&shell.cluster, Api::EndTxn).0, 1);
    transfer.deliver(to(0, "kept")).await.unwrap();
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["kept"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_without_records_asks_no_broker_for_its_end() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    transactions.begin().await.unwrap().commit().await.unwrap();
    transactions.begin().await.unwrap().abort().await.unwrap();
    drop(transactions.begin().await.unwrap());
    transactions.begin().await.unwrap().commit().await.unwrap();
    assert_eq!(requests(&shell.cluster, Api::EndTxn), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_commit_does_not_linger() {
    let shell = Shell::start();
    let producer = transactional(&shell).linger(60 * SECOND).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.send(to(0, "a")).await.unwrap();
    let (committed_, took) = timed(transfer.commit()).await;
    committed_.unwrap();
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn records_not_sent_yet_end_with_an_abort() {
    let shell = Shell::start();
    let producer = transactional(&shell).linger(60 * SECOND).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    let delivery = producer.send(to(0, "a")).await.unwrap();
    transfer.abort().await.unwrap();
    let Outcome::NotWritten(error) = delivery.outcome().await else {
        panic!("it never left");
    };
    assert_eq!(
        error.kind(),
        ProduceErrorKind::TransactionAborted,
        "{error}"
    );
    assert_eq!(shell.log("orders", 0), [""; 0]);
    assert_eq!(requests(&shell.cluster, Api::EndTxn), (0, None));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_outside_a_transaction() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let outside = |error: kafka_producer::ProduceError| {
        assert_eq!(error.kind(), ProduceErrorKind::NoTransaction, "{error}");
    };
    outside(producer.send(to(0, "too early")).await.err().unwrap());
    let mut transactions = producer.init_transactions().await.unwrap();
    outside(producer.send(to(0, "between")).await.err().unwrap());
    let topic = producer.topic("orders").await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "within")).await.unwrap();
    topic
        .deliver(Record::new().partition(0).value("too"))
        .await
        .unwrap();
    transfer.commit().await.unwrap();
    outside(producer.send(to(0, "too late")).await.err().unwrap());
    let late = topic.send(Record::new().partition(0).value("late")).await;
    outside(late.err().unwrap());
    assert_eq!(shell.log("orders", 0), ["within", "too"]);
}

/// A misuse is told by name, and the producer is as good as before.
#[tokio::test(start_paused = true)]
async fn calls_out_of_turn_are_named_and_change_nothing() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let misuse = |result: Result<(), kafka_producer::TransactionError>| {
        let error = result.unwrap_err();
        assert_eq!(error.remedy(), Remedy::FixCode);
        match error.kind() {
            TransactionErrorKind::Misuse(misuse) => misuse,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        misuse(producer.begin_transaction().await),
        Misuse::NotInitialised
    );
    assert_eq!(
        misuse(producer.commit_transaction().await),
        Misuse::NotInitialised
    );
    let _transactions = producer.init_transactions().await.unwrap();
    let again = producer.init_transactions().await.map(drop);
    assert_eq!(misuse(again), Misuse::AlreadyInitialised);
    assert_eq!(
        misuse(producer.commit_transaction().await),
        Misuse::NotInTransaction
    );
    assert_eq!(
        misuse(producer.abort_transaction().await),
        Misuse::NotInTransaction
    );
    producer.begin_transaction().await.unwrap();
    assert_eq!(
        misuse(producer.begin_transaction().await),
        Misuse::AlreadyInTransaction
    );
    producer.deliver(to(0, "a")).await.unwrap();
    producer.commit_transaction().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a"]);
    let plain = shell.producer().build().unwrap();
    let not = plain.init_transactions().await.map(drop);
    assert_eq!(misuse(not), Misuse::NotTransactional);
}

#[tokio::test(start_paused = true)]
async fn a_newer_producer_of_the_same_id_fences_the_older() {
    let shell = Shell::start();
    let older = producer(&shell);
    let mut transactions = older.init_transactions().await.unwrap();
    let lost = transactions.begin().await.unwrap();
    lost.deliver(to(0, "of the older")).await.unwrap();
    let newer = producer(&shell);
    let mut newers = newer.init_transactions().await.unwrap();
    let error = match lost.commit().await.unwrap_err() {
        CommitError::NotCommitted(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(error.kind(), TransactionErrorKind::Fenced, "{error}");
    assert_eq!(error.remedy(), Remedy::NewProducer);
    let error = transactions.begin().await.unwrap_err();
    assert_eq!(
        error.kind(),
        TransactionErrorKind::Fenced,
        "the cause stays: {error}"
    );
    let kept = newers.begin().await.unwrap();
    kept.deliver(to(0, "of the newer")).await.unwrap();
    kept.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["of the newer"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_forbids_the_commit_and_the_next_transaction_works() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "good")).await.unwrap();
    let refuse = Rule::on(Api::Produce).count(1);
    let _rule = shell
        .cluster
        .inject(refuse.then(Verdict::Answer(ErrorCode::INVALID_RECORD)));
    transfer.send(to(1, "refused")).await.unwrap();
    let error = match transfer.commit().await.unwrap_err() {
        CommitError::NotCommitted(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(error.remedy(), Remedy::BeginAnew, "{error}");
    assert_eq!(error.broker_code().map(|code| code.0), Some(87), "{error}");
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "next")).await.unwrap();
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_refused_before_it_is_queued_forbids_the_commit_too() {
    let shell = Shell::start();
    let producer = transactional(&shell).max_request_size(500).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    let large = "x".repeat(600);
    transfer.send(to(0, &large)).await.err().unwrap();
    let error = transfer.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::NotCommitted(_)), "{error}");
    assert!(error.to_string().contains("max.request.size"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_only_tried_forbids_the_commit_if_it_is_refused_for_good() {
    let shell = Shell::start();
    let producer = transactional(&shell).max_request_size(500).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    producer.topic("orders").await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    let large = "x".repeat(600);
    producer.try_send(to(0, &large)).err().unwrap();
    let error = transfer.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::NotCommitted(_)), "{error}");
}

/// It would have had to wait; whoever tried sends it otherwise.
#[tokio::test(start_paused = true)]
async fn a_record_that_would_have_to_wait_does_not_forbid_the_commit() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    let error = producer.try_send(to(0, "a")).err().unwrap();
    assert!(
        matches!(error.kind(), ProduceErrorKind::TopicNotReady),
        "{error}"
    );
    transfer.send(to(0, "a")).await.unwrap();
    transfer.commit().await.unwrap();
}

#[rstest]
#[case::lost_with_its_connection(Verdict::CloseAfter)]
#[case::never_arrived(Verdict::CloseBefore)]
#[case::not_coordinator(Verdict::Answer(ErrorCode::NOT_COORDINATOR))]
#[case::not_available(Verdict::Answer(ErrorCode::COORDINATOR_NOT_AVAILABLE))]
#[case::loading(Verdict::Answer(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS))]
#[case::concurrent(Verdict::Answer(ErrorCode::CONCURRENT_TRANSACTIONS))]
#[case::applied_and_not_told(Verdict::ApplyThenAnswer(ErrorCode::NOT_COORDINATOR))]
#[tokio::test(start_paused = true)]
async fn a_commit_is_asked_for_until_it_is_answered(#[case] verdict: Verdict) {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let _rule = shell
        .cluster
        .inject(Rule::on(Api::EndTxn).count(2).then(verdict));
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "a")).await.unwrap();
    transfer.commit().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "b")).await.unwrap();
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_commit_can_only_be_resumed() {
    let shell = Shell::start();
    let builder = transactional(&shell).max_block(5 * SECOND);
    let producer = builder.build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let _rule = shell
        .cluster
        .inject(Rule::on(Api::EndTxn).count(1).then(Verdict::ApplyThenLose));
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "a")).await.unwrap();
    let (unanswered, took) = timed(transfer.commit()).await;
    assert_eq!(took.as_secs(), 5);
    let CommitError::Unanswered(commit) = unanswered.unwrap_err() else {
        panic!("no answer came");
    };
    // The connection is given up after request.timeout.ms, and the coordinator asked again.
    let mut commit = commit;
    loop {
        match commit.resume().await {
            Ok(()) => break,
            Err(CommitError::Unanswered(again)) => commit = again,
            Err(other) => panic!("{other}"),
        }
    }
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_transaction_waits_for_a_commit_that_nobody_awaits_any_more() {
    let shell = Shell::start();
    let producer = transactional(&shell).max_block(5 * SECOND).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let _rule = shell
        .cluster
        .inject(Rule::on(Api::EndTxn).count(1).then(Verdict::Swallow));
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "a")).await.unwrap();
    drop(transfer.commit().await.unwrap_err());
    let error = transactions.begin().await.unwrap_err();
    assert!(
        matches!(error.kind(), TransactionErrorKind::TimedOut { .. }),
        "{error}"
    );
    pass(60 * SECOND).await;
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "b")).await.unwrap();
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_before_the_producer_was_fenced_is_unknown() {
    let shell = Shell::start();
    let producer = transactional(&shell).max_block(5 * SECOND).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let lost = Rule::on(Api::EndTxn).count(1).then(Verdict::CloseAfter);
    let refused = Rule::on(Api::EndTxn).then(Verdict::Answer(ErrorCode::PRODUCER_FENCED));
    let _rules = (shell.cluster.inject(lost), shell.cluster.inject(refused));
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "a")).await.unwrap();
    let error = transfer.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown(_)), "{error}");
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a"], "as it happens, it was");
}

#[tokio::test(start_paused = true)]
async fn initialising_may_be_called_again_after_it_timed_out() {
    let shell = Shell::start();
    let producer = transactional(&shell).max_block(5 * SECOND).build().unwrap();
    let rule = Rule::on(Api::InitProducerId)
        .always()
        .then(Verdict::Answer(ErrorCode::CONCURRENT_TRANSACTIONS));
    let rule = shell.cluster.inject(rule);
    let error = producer.init_transactions().await.err().unwrap();
    assert!(
        matches!(error.kind(), TransactionErrorKind::TimedOut { .. }),
        "{error}"
    );
    assert_eq!(error.remedy(), Remedy::CallAgain);
    drop(rule);
    let mut transactions = producer.init_transactions().await.unwrap();
    transactions.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_aborts_an_open_transaction() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let _transactions = producer.init_transactions().await.unwrap();
    producer.begin_transaction().await.unwrap();
    producer.deliver(to(0, "a")).await.unwrap();
    producer.close().await.unwrap();
    settle().await;
    let state = shell.cluster.transaction("transfers").unwrap().state;
    assert_eq!(state, "CompleteAbort");
    assert_eq!(committed(&shell.cluster, 0), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn closing_with_a_bound_does_not_wait_for_an_abort_that_takes_longer() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let _transactions = producer.init_transactions().await.unwrap();
    producer.begin_transaction().await.unwrap();
    producer.deliver(to(0, "a")).await.unwrap();
    let busy = Verdict::Answer(ErrorCode::CONCURRENT_TRANSACTIONS);
    let _rule = shell
        .cluster
        .inject(Rule::on(Api::EndTxn).always().then(busy));
    let (closed, took) = timed(producer.close_timeout(3 * SECOND)).await;
    closed.unwrap();
    assert_eq!(took.as_secs(), 3, "{took:?}");
}

/// The coordinator crashes, with the commit on its way or without; another takes over.
#[tokio::test(start_paused = true)]
async fn a_commit_survives_the_crash_of_its_coordinator() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "a")).await.unwrap();
    transfer.deliver(to(1, "b")).await.unwrap();
    let coordinator = asked_last(&shell.cluster, Api::InitProducerId);
    shell.cluster.crash_broker(coordinator).unwrap();
    transfer.commit().await.unwrap();
    shell.cluster.restart_broker(coordinator).unwrap();
    pass(60 * SECOND).await;
    assert_eq!(committed(&shell.cluster, 0), ["a"]);
    assert_eq!(committed(&shell.cluster, 1), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_is_found_again() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    for value in ["a", "b", "c"] {
        let transfer = transactions.begin().await.unwrap();
        transfer.deliver(to(0, value)).await.unwrap();
        let before = asked_last(&shell.cluster, Api::InitProducerId);
        let next = shell.cluster.brokers().find(|one| *one != before).unwrap();
        shell.cluster.move_coordinator("transfers", next).unwrap();
        transfer.commit().await.unwrap();
    }
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b", "c"]);
}

fn asked_last(cluster: &MockCluster, api: Api) -> BrokerId {
    let journal = cluster.journal();
    let asked = journal
        .iter()
        .rev()
        .find(|entry| matches!(&entry.event, Event::Request { id, .. } if id.api == api));
    asked.unwrap().broker
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_took_too_long_is_not_committed() {
    let shell = Shell::start();
    let producer = transactional(&shell)
        .transaction_timeout(SECOND)
        .build()
        .unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "late")).await.unwrap();
    pass(30 * SECOND).await;
    let error = transfer.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::NotCommitted(_)), "{error}");
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), [""; 0]);
}
