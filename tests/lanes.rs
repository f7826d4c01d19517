//! Transactions over several lanes: in order, without gaps, each whole.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use kafka_producer::{
    LaneCommit, LaneCommitError, Lanes, LanesError, Misuse, Remedy, TransactionErrorKind,
};
use promises::shell::{Shell, timed};
use promises::transactional::{committed, pass, requests, settle, to, transactional};
use rstest::rstest;

const SECOND: Duration = Duration::from_secs(1);

async fn lanes(shell: &Shell, count: usize) -> Lanes {
    Lanes::start(&transactional(shell), count).await.unwrap()
}

/// One transaction of a record for each of two partitions.
async fn write(lanes: &mut Lanes, value: &str) -> LaneCommit {
    let transaction = lanes.begin().await.unwrap();
    transaction.send(to(0, value)).await.unwrap();
    transaction.send(to(1, value)).await.unwrap();
    transaction.commit()
}

fn earlier(outcome: Result<(), LaneCommitError>) -> bool {
    let Err(LaneCommitError::NotCommitted(error)) = outcome else {
        return false;
    };
    error.kind() == TransactionErrorKind::EarlierNotCommitted && error.remedy() == Remedy::BeginAnew
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn transactions_over_lanes_stand_in_order_and_count(
    #[values(1, 3, 16)] count: usize,
    #[values(1, 2)] level: i16,
) {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(level).unwrap();
    let mut lanes = lanes(&shell, count).await;
    let values: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let mut commits = Vec::new();
    for value in &values {
        commits.push(write(&mut lanes, value).await);
    }
    for commit in &mut commits {
        commit.wait().await.unwrap();
    }
    lanes.close().await.unwrap();
    settle().await;
    for partition in 0..2 {
        assert_eq!(committed(&shell.cluster, partition), values);
    }
    let records = shell.cluster.records("orders", 0);
    let ids: BTreeSet<i64> = records.iter().map(|one| one.producer.unwrap().id).collect();
    assert_eq!(ids.len(), count);
}

/// EndTxn takes a second, writing nothing: four transactions would take four, one by one.
#[tokio::test(start_paused = true)]
async fn the_next_is_written_while_the_one_before_is_committed() {
    let shell = Shell::start();
    let mut lanes = lanes(&shell, 4).await;
    write(&mut lanes, "first").await.wait().await.unwrap();
    let slow = Rule::on(Api::EndTxn).always().then(Verdict::Delay(SECOND));
    let slow = shell.cluster.inject(slow);
    let (mut commits, took) = timed(async {
        let mut commits = Vec::new();
        for value in ["a", "b", "c"] {
            commits.push(write(&mut lanes, value).await);
        }
        pass(SECOND / 10).await;
        commits
    })
    .await;
    assert!(took < SECOND, "{took:?}");
    assert_eq!(shell.log("orders", 0), ["first", "a", "b", "c"]);
    assert_eq!(
        slow.hits(),
        1,
        "the second is not asked for before the first is answered"
    );
    for commit in &mut commits {
        commit.wait().await.unwrap();
    }
    assert_eq!(slow.hits(), 3);
}

/// The first is refused for a moment; sent again it would stand behind the second.
#[tokio::test(start_paused = true)]
async fn the_next_is_not_written_before_the_one_before_is() {
    let shell = Shell::start();
    let mut lanes = lanes(&shell, 2).await;
    write(&mut lanes, "first").await.wait().await.unwrap();
    write(&mut lanes, "second").await.wait().await.unwrap();
    let moment = Rule::on(Api::Produce).partition(0).count(1);
    let moment = moment.then(Verdict::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let moment = shell.cluster.inject(moment);
    let mut commits = Vec::new();
    for value in ["a", "b"] {
        commits.push(write(&mut lanes, value).await);
    }
    for commit in &mut commits {
        commit.wait().await.unwrap();
    }
    assert_eq!(moment.hits(), 1);
    assert_eq!(shell.log("orders", 0), ["first", "second", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn behind_one_that_is_not_committed_none_is() {
    let shell = Shell::start();
    let mut lanes = lanes(&shell, 4).await;
    let slow = Rule::on(Api::EndTxn).count(1).then(Verdict::Delay(SECOND));
    let _slow = shell.cluster.inject(slow);
    let mut first = write(&mut lanes, "a").await;
    let refused = Rule::on(Api::EndTxn)
        .transactional_id("transfers-lane-1")
        .count(1);
    let refused = refused.then(Verdict::Answer(ErrorCode(120)));
    let refused = shell.cluster.inject(refused);
    let mut second = write(&mut lanes, "b").await;
    let mut third = write(&mut lanes, "c").await;
    let mut fourth = write(&mut lanes, "d").await;
    first.wait().await.unwrap();
    let Err(LaneCommitError::NotCommitted(error)) = second.wait().await else {
        panic!("it was refused")
    };
    assert_eq!((error.remedy(), refused.hits()), (Remedy::BeginAnew, 1));
    assert!(earlier(third.wait().await));
    assert!(earlier(fourth.wait().await));
    // Until it is known which, nothing may close the gap.
    let begun = lanes.begin().await.unwrap_err();
    assert_eq!(begun.kind(), TransactionErrorKind::EarlierNotCommitted);
    lanes.go_on().await.unwrap();
    for value in ["b", "c", "d"] {
        write(&mut lanes, value).await.wait().await.unwrap();
    }
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b", "c", "d"]);
    assert_eq!(shell.log("orders", 0), ["a", "b", "c", "d", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_has_its_transaction_fail_and_nothing_begin() {
    let shell = Shell::start();
    let mut lanes = lanes(&shell, 2).await;
    let fails = Rule::on(Api::Produce)
        .count(1)
        .then(Verdict::Answer(ErrorCode(87)));
    let _fails = shell.cluster.inject(fails);
    let mut first = write(&mut lanes, "a").await;
    let begun = lanes.begin().await.unwrap_err();
    assert_eq!(begun.kind(), TransactionErrorKind::EarlierNotCommitted);
    let outcome = first.wait().await;
    assert!(
        matches!(outcome, Err(LaneCommitError::NotCommitted(_))),
        "{outcome:?}"
    );
    assert!(!earlier(outcome));
    lanes.go_on().await.unwrap();
    write(&mut lanes, "a").await.wait().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 1), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_gets_no_answer_holds_those_behind_it_until_it_does() {
    let shell = Shell::start();
    let builder = transactional(&shell).request_timeout(2 * SECOND);
    let builder = builder.max_block(5 * SECOND).delivery_timeout(5 * SECOND);
    let mut lanes = Lanes::start(&builder, 3).await.unwrap();
    let lost = Rule::on(Api::EndTxn).count(6).then(Verdict::ApplyThenLose);
    let lost = shell.cluster.inject(lost);
    let mut first = write(&mut lanes, "a").await;
    let mut second = write(&mut lanes, "b").await;
    for commit in [&mut second, &mut first] {
        let outcome = commit.wait().await;
        assert!(
            matches!(outcome, Err(LaneCommitError::Unanswered { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(
        committed(&shell.cluster, 0),
        ["a"],
        "as its answer would have said"
    );
    let mut outcome = second.wait().await;
    while let Err(LaneCommitError::Unanswered { .. }) = outcome {
        outcome = second.wait().await;
    }
    outcome.unwrap();
    first.wait().await.unwrap();
    assert_eq!(lost.hits(), 6);
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_aborted_or_dropped_is_left_out_and_the_others_go_on() {
    let shell = Shell::start();
    let mut lanes = lanes(&shell, 2).await;
    let mut first = write(&mut lanes, "a").await;
    let aborted = lanes.begin().await.unwrap();
    aborted.deliver(to(0, "aborted")).await.unwrap();
    aborted.abort().await.unwrap();
    let dropped = lanes.begin().await.unwrap();
    dropped.deliver(to(0, "dropped")).await.unwrap();
    drop(dropped);
    let mut last = write(&mut lanes, "b").await;
    first.wait().await.unwrap();
    last.wait().await.unwrap();
    settle().await;
    assert_eq!(committed(&shell.cluster, 0), ["a", "b"]);
}

/// Whatever the count of lanes was, and is.
#[rstest]
#[tokio::test(start_paused = true)]
async fn nothing_of_older_lanes_is_committed_once_others_have_started(
    #[values(1, 4)] before: usize,
    #[values(1, 2)] after: usize,
) {
    let shell = Shell::start();
    let mut older = lanes(&shell, before).await;
    // The end of the first is held up, so the others wait for it.
    let slow = Rule::on(Api::EndTxn)
        .count(1)
        .then(Verdict::Delay(20 * SECOND));
    let _slow = shell.cluster.inject(slow);
    let mut commits = Vec::new();
    for value in ["a", "b", "c", "d"].into_iter().take(before) {
        commits.push(write(&mut older, value).await);
    }
    pass(SECOND).await;
    let mut younger = lanes(&shell, after).await;
    let counts = committed(&shell.cluster, 0);
    write(&mut younger, "younger").await.wait().await.unwrap();
    for commit in &mut commits {
        let _told = commit.wait().await;
    }
    settle().await;
    assert_eq!(
        committed(&shell.cluster, 0),
        [counts, vec!["younger".to_owned()]].concat()
    );
    if before > 1 {
        let fenced = older.go_on().await.unwrap_err();
        assert_eq!(fenced.remedy(), Remedy::NewProducer);
    }
}

#[tokio::test(start_paused = true)]
async fn lanes_that_cannot_be_are_refused() {
    let shell = Shell::start();
    for count in [0, 17] {
        let refused = Lanes::start(&transactional(&shell), count).await;
        assert!(matches!(refused, Err(LanesError::Count(refused)) if refused == count));
    }
    let Err(LanesError::Transaction(error)) = Lanes::start(&shell.producer(), 2).await else {
        panic!("it has no id")
    };
    let misuse = TransactionErrorKind::Misuse(Misuse::NotTransactional);
    assert_eq!(error.kind(), misuse);
    assert_eq!(requests(&shell.cluster, Api::EndTxn).0, 0);
}
