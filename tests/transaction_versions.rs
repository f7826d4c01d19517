//! Transactions with each `transaction.version`, the offsets of groups in them, and their measures.

use std::time::Duration;

use kafka_mockbroker::{Api, Rule, Verdict};
use kafka_producer::{CommitError, ConsumedOffset, ConsumerGroup, Remedy};
use promises::shell::Shell;
use promises::transactional::{committed, pass, producer, requests, settle, to, transactional};
use rstest::rstest;

const SECOND: Duration = Duration::from_secs(1);

/// Whatever the brokers have agreed on, and also when they agree on something else.
#[rstest]
#[tokio::test(start_paused = true)]
async fn transactions_of_each_version_count_whole_or_not_at_all(#[values(0, 1, 2)] level: i16) {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(level).unwrap();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    for value in ["a", "b", "c"] {
        let dropped = transactions.begin().await.unwrap();
        dropped.deliver(to(0, "dropped")).await.unwrap();
        drop(dropped);
        let transaction = transactions.begin().await.unwrap();
        transaction.send(to(0, value)).await.unwrap();
        transaction.send(to(1, value)).await.unwrap();
        transaction.commit().await.unwrap();
    }
    settle().await;
    for partition in 0..2 {
        assert_eq!(committed(&shell.cluster, partition), ["a", "b", "c"]);
    }
    let (end, add) = match level {
        0 | 1 => (4, true),
        _ => (5, false),
    };
    assert_eq!(requests(&shell.cluster, Api::EndTxn), (6, Some(end)));
    assert_eq!(requests(&shell.cluster, Api::AddPartitionsToTxn).0 > 0, add);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_lost_batch_is_not_taken_for_the_next_transaction(#[values(0, 1, 2)] level: i16) {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(level).unwrap();
    let builder = transactional(&shell).request_timeout(SECOND);
    let producer = builder.delivery_timeout(2 * SECOND).build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "before")).await.unwrap();
    let lose = Rule::on(Api::Produce).count(1).then(Verdict::ApplyThenLose);
    let rule = shell.cluster.inject(lose);
    let lost = transfer.deliver(to(0, "lost"));
    let lost = tokio::time::timeout(SECOND / 2, lost).await;
    assert!(lost.is_err(), "no answer yet");
    assert_eq!(rule.hits(), 1);
    transfer.abort().await.unwrap();
    let transfer = transactions.begin().await.unwrap();
    transfer.deliver(to(0, "after")).await.unwrap();
    transfer.commit().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["after"]);
}

/// Whatever got no answer may arrive later; with the epoch of the next transaction it would be
/// taken for its end, or for its partition.
#[rstest]
#[case::end(Api::EndTxn)]
#[case::partitions(Api::AddPartitionsToTxn)]
#[case::offsets(Api::AddOffsetsToTxn)]
#[tokio::test(start_paused = true)]
async fn an_epoch_in_which_something_got_no_answer_has_one_transaction(
    #[values(0, 1)] level: i16,
    #[case] api: Api,
) {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(level).unwrap();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    for value in ["a", "b", "c"] {
        let lost = Rule::on(api).count(1).then(Verdict::CloseBefore);
        let rule = (value == "b").then(|| shell.cluster.inject(lost));
        let copy = transactions.begin().await.unwrap();
        copy.deliver(to(0, value)).await.unwrap();
        let read = [ConsumedOffset::next("orders", 1, 42)];
        let group = ConsumerGroup::new("copiers");
        copy.send_offsets(read, &group).await.unwrap();
        copy.commit().await.unwrap();
        assert!(rule.is_none_or(|rule| rule.hits() == 1));
    }
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b", "c"]);
    let log = shell.cluster.records("orders", 0);
    let epochs: Vec<i16> = log.iter().map(|one| one.producer.unwrap().epoch).collect();
    assert_eq!(epochs, [0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_may_be_raised_to_version_2_under_a_producer() {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(1).unwrap();
    let builder = transactional(&shell).connections_max_idle(Some(10 * SECOND));
    let producer = builder.build().unwrap();
    let mut transactions = producer.init_transactions().await.unwrap();
    for value in ["a", "b", "c"] {
        let transfer = transactions.begin().await.unwrap();
        transfer.deliver(to(0, value)).await.unwrap();
        transfer.commit().await.unwrap();
        shell.cluster.set_transaction_version(2).unwrap();
        pass(20 * SECOND).await;
    }
    assert_eq!(committed(&shell.cluster, 0), ["a", "b", "c"]);
    assert_eq!(requests(&shell.cluster, Api::EndTxn), (3, Some(5)));
}

/// What a group has committed.
fn offsets_of(shell: &Shell, group: &str) -> Vec<(String, i32, i64)> {
    let views = shell.cluster.group_offsets(group).unwrap_or_default();
    let committed = views
        .iter()
        .filter_map(|view| Some((view.topic.to_string(), view.partition, view.offset?)));
    committed.collect()
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn offsets_count_with_their_transaction(#[values(0, 1, 2)] level: i16) {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(level).unwrap();
    let producer = producer(&shell);
    let mut transactions = producer.init_transactions().await.unwrap();
    let group = ConsumerGroup::new("copiers");
    let copy = transactions.begin().await.unwrap();
    copy.send(to(0, "copied")).await.unwrap();
    let read = [
        ConsumedOffset::next("orders", 1, 42),
        ConsumedOffset::next("orders", 2, 7),
    ];
    copy.send_offsets(read, &group).await.unwrap();
    assert_eq!(
        offsets_of(&shell, "copiers").len(),
        0,
        "not before its commit"
    );
    copy.commit().await.unwrap();
    settle().await;
    let expected = [("orders".to_owned(), 1, 42), ("orders".to_owned(), 2, 7)];
    assert_eq!(offsets_of(&shell, "copiers"), expected);
    let copy = transactions.begin().await.unwrap();
    copy.send_offsets([ConsumedOffset::next("orders", 1, 99)], &group)
        .await
        .unwrap();
    copy.abort().await.unwrap();
    settle().await;
    assert_eq!(offsets_of(&shell, "copiers"), expected);
    // A member that nobody knows cannot commit, and the transaction only be aborted.
    let copy = transactions.begin().await.unwrap();
    let zombie = ConsumerGroup::new("copiers").member("nobody", 3);
    let error = copy
        .send_offsets([ConsumedOffset::next("orders", 1, 99)], &zombie)
        .await;
    assert_eq!(error.unwrap_err().remedy(), Remedy::Abort);
    assert!(matches!(
        copy.commit().await,
        Err(CommitError::NotCommitted(_))
    ));
    transactions.begin().await.unwrap().commit().await.unwrap();
}

/// What waiting costs is measured under Kafka's names.
#[tokio::test(start_paused = true)]
async fn waits_for_coordinators_are_measured() {
    let shell = Shell::start();
    let producer = producer(&shell);
    let names = ["init", "begin", "send-offsets", "commit", "abort"];
    let measured = || {
        names.map(|name| {
            let name = format!("txn-{name}-time-ns-total");
            producer.metrics().value(&name).unwrap()
        })
    };
    let late = |api| Rule::on(api).count(1).then(Verdict::Delay(SECOND));
    let apis = [Api::InitProducerId, Api::TxnOffsetCommit, Api::EndTxn];
    let _rules = apis.map(|api| shell.cluster.inject(late(api)));
    let mut transactions = producer.init_transactions().await.unwrap();
    let copy = transactions.begin().await.unwrap();
    let read = [ConsumedOffset::next("orders", 1, 42)];
    copy.send_offsets(read, &ConsumerGroup::new("copiers"))
        .await
        .unwrap();
    copy.commit().await.unwrap();
    let seconds = measured().map(|nanos| (nanos / 1e9).floor());
    assert_eq!(seconds, [1.0, 0.0, 1.0, 1.0, 0.0]);
}
