//! Transactions, the client's side: which failures leave the abort, and which nothing.
//!
//! *Source*: `TransactionManager.java` (the handlers), `Sender.java` failBatch; KIP-588, KIP-890.

use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, FaultGuard, Rule, Verdict};
use kafka_producer::{
    ConsumedOffset, ConsumerGroup, ErrorCode as Code, Record, Remedy, Transaction,
    TransactionError, Transactions,
};

use super::driven::mock;
use super::txn_stage::{Stage, done, expect_same, initialised, not_committed};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::wire::Request;
use crate::wire::transactional::EndTxn;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-47",
        level: Level::Client,
        sentence: "a record that is refused, or not written in time, and offsets that are refused \
                   leave the abort, and the next transaction works",
        source: "Sender.java failBatch; TransactionManager.java transitionToAbortableError",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(abortable(c)),
    },
    Case {
        id: "TXN-48",
        level: Level::Client,
        sentence: "who is fenced, or refused for good, can do nothing more, and every later call \
                   has the same cause",
        source: "TransactionManager.java fatalError",
        needs: &[Capability::Transactions, Capability::Injection],
        run: |c| Box::pin(fatal(c)),
    },
    Case {
        id: "TXN-57",
        level: Level::Client,
        sentence: "a transaction of which no record was written is ended with its coordinator all \
                   the same",
        source: "KIP-890; TransactionManager.java beginCompletingTransaction (transactionStarted)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(nothing_was_written(c)),
    },
];

fn group_of(stage: &Stage) -> ConsumerGroup {
    ConsumerGroup::new(stage.topic.name.as_str())
}

fn offset_of(stage: &Stage) -> ConsumedOffset {
    ConsumedOffset::next(stage.topic.name.as_str(), 1, 5)
}

/// The commit is refused, and says that another transaction may be begun.
async fn refused(step: &str, transaction: Transaction<'_>) -> Result<(), Objection> {
    let commit = not_committed(transaction.commit().await);
    let error = commit.map_err(|objection| objection.within(step))?;
    expect_same(step, Remedy::BeginAnew, error.remedy())
}

/// One transaction that works.
async fn next(
    stage: &Stage,
    transactions: &mut Transactions,
    value: &str,
) -> Result<(), Objection> {
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, value).await?;
    done("commit", transaction.commit().await)
}

async fn abortable(c: Context) -> Result<(), Objection> {
    let configs = [("max.message.bytes", "2000"), ("cleanup.policy", "compact")];
    let topic = c.topic_with(2, &configs).await?;
    let context = c.clone();
    let stage = Stage { context, topic };
    let path = c.path(Trouble::None).await?;
    let builder = stage.builder_on(path.client()).linger(Duration::ZERO);
    let builder = builder.request_timeout(Duration::from_secs(1));
    let builder = builder.delivery_timeout(Duration::from_secs(2));
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let mut kept = Vec::new();
    let large = "x".repeat(3_000);
    let name = stage.topic.name.as_str();
    let to = || Record::to(name).partition(0).key("key");
    let bad: [(&str, Record<'_, &str>, Option<Code>); 3] = [
        (
            "too large",
            to().value(large.as_str()),
            Some(Code::MESSAGE_TOO_LARGE),
        ),
        (
            "without a key",
            stage.record(0, "no key"),
            Some(Code::INVALID_RECORD),
        ),
        ("not in time", to().value("late"), None),
    ];
    for (what, record, code) in bad {
        let transaction = done("begin", transactions.begin().await)?;
        let good = transaction.deliver(to().value("dropped")).await;
        done("a good record", good)?;
        if code.is_none() {
            path.begin(Trouble::RequestsSwallowed(1_000));
        }
        let failed = transaction.deliver(record).await;
        let seen = failed.err().map(|error| error.broker_code());
        expect_same(what, Some(code), seen)?;
        path.end_trouble();
        refused(what, transaction).await?;
        let transaction = done("begin", transactions.begin().await)?;
        done("the next", transaction.deliver(to().value(what)).await)?;
        done("the next commit", transaction.commit().await)?;
        kept.push(what);
    }
    stage.expect_committed_of(0, &kept).await?;
    if c.target().mock().is_some() {
        abortable_by_injection(&c).await?;
    }
    Ok(())
}

/// The codes that only a mock can be made to give.
async fn abortable_by_injection(c: &Context) -> Result<(), Objection> {
    let stage = Stage::set(c).await?;
    let (_producer, mut transactions) = stage.start().await?;
    let mut kept = Vec::new();
    for (api, code) in [
        (Api::Produce, 29),
        (Api::Produce, 48),
        (Api::Produce, 87),
        (Api::Produce, 120),
        (Api::TxnOffsetCommit, 30),
    ] {
        let transaction = done("begin", transactions.begin().await)?;
        let fault = once(c, api, Verdict::Answer(ErrorCode(code)))?;
        let _ = transaction.deliver(stage.record(0, "dropped")).await;
        let _ = transaction
            .send_offsets([offset_of(&stage)], &group_of(&stage))
            .await;
        let what = format!("{api:?} {code}");
        refused(&what, transaction).await?;
        expect_eq(format!("{what} was met"), 1, fault.hits())?;
        next(&stage, &mut transactions, &what).await?;
        kept.push(what);
    }
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    stage.expect_committed(&kept).await
}

fn once(c: &Context, api: Api, verdict: Verdict) -> Result<FaultGuard, Objection> {
    Ok(mock(c)?.inject(Rule::on(api).count(1).then(verdict)))
}

async fn fatal(c: Context) -> Result<(), Objection> {
    for (api, code) in [
        (Api::EndTxn, 90),
        (Api::EndTxn, 53),
        (Api::EndTxn, 35),
        (Api::EndTxn, 31),
        (Api::TxnOffsetCommit, 53),
        (Api::TxnOffsetCommit, 47),
    ] {
        let stage = Stage::set(&c).await?;
        let (producer, mut transactions) = stage.start().await?;
        let transaction = done("begin", transactions.begin().await)?;
        stage.write(&transaction, "dropped").await?;
        let fault = once(&c, api, Verdict::Answer(ErrorCode(code)))?;
        let _ = transaction
            .send_offsets([offset_of(&stage)], &group_of(&stage))
            .await;
        let what = format!("{api:?} {code}");
        let first = not_committed(transaction.commit().await);
        let first = first.map_err(|objection| objection.within(&what))?;
        expect_eq(format!("{what} was met"), 1, fault.hits())?;
        let cause = |error: &TransactionError| (error.remedy(), error.broker_code());
        let expected = (Remedy::NewProducer, Some(Code(code)));
        expect_same(&what, expected, cause(&first))?;
        let later = [
            producer.begin_transaction().await.err(),
            transactions.begin().await.err(),
            producer.abort_transaction().await.err(),
            producer.commit_transaction().await.err(),
        ];
        for error in later {
            let step = format!("{what}, a later call");
            expect_same(step, Some(expected), error.as_ref().map(cause))?;
        }
        let sent = producer.send(stage.record(0, "later")).await;
        expect_eq(format!("{what}, a later record"), true, sent.is_err())?;
        drop(producer);
        // What is left open is aborted by who comes next.
        let (_next, mut transactions) = stage.start().await?;
        next(&stage, &mut transactions, "next").await?;
        stage.expect_committed(&["next"]).await?;
    }
    Ok(())
}

async fn nothing_was_written(c: Context) -> Result<(), Objection> {
    let topic = c.topic_with(2, &[("max.message.bytes", "2000")]).await?;
    let context = c.clone();
    let stage = Stage { context, topic };
    let path = c.path(Trouble::None).await?;
    let builder = stage.builder_on(path.client());
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let large = "x".repeat(3_000);
    let transaction = done("begin", transactions.begin().await)?;
    for partition in 0..2 {
        let failed = transaction.deliver(stage.record(partition, &large)).await;
        let code = failed.err().and_then(|error| error.broker_code());
        // The second may not leave any more.
        if partition == 0 {
            expect_same("the record", Some(Code::MESSAGE_TOO_LARGE), code)?;
        }
    }
    done("abort", transaction.abort().await)?;
    expect_eq("ends asked for", 1, path.asked(EndTxn::API_KEY))?;
    next(&stage, &mut transactions, "next").await?;
    stage.expect_committed(&["next"]).await
}
