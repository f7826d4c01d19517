//! Transactions, the client's side: what counts, what does not, and what is left after a failure.
//!
//! *Source*: `TransactionManager.java`, `KafkaProducer.java` of Kafka's clients; KIP-98, KIP-890.

use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use kafka_producer::{
    ConsumedOffset, ConsumerGroup, Misuse, ProduceErrorKind, Remedy, TransactionErrorKind,
};

use super::driven::mock;
use super::txn_stage::{IN_TIME, Stage, done, expect_same, initialised, misused, not_committed};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::Capability;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-43",
        level: Level::Client,
        sentence: "a second producer of the same transactional id fences the first, whose open \
                   transaction never counts",
        source: "TransactionManager.java fatalError (ProducerFencedException); KIP-98",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(older_is_fenced(c)),
    },
    Case {
        id: "TXN-44",
        level: Level::Client,
        sentence: "a record that failed forbids the commit, and says why, until the transaction \
                   is aborted",
        source: "TransactionManager.java maybeFailWithError; KafkaProducer.java commitTransaction",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(failure_forbids_commit(c)),
    },
    Case {
        id: "TXN-46",
        level: Level::Client,
        sentence: "a transaction without records is committed and aborted without a trace",
        source: "TransactionManager.java beginCompletingTransaction (transactionStarted)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(empty_leaves_no_trace(c)),
    },
    Case {
        id: "TXN-50",
        level: Level::Client,
        sentence: "TRANSACTION_ABORTABLE from any API leaves the abort, and the next transaction \
                   works",
        source: "TransactionManager.java (TRANSACTION_ABORTABLE in each handler); KIP-890",
        needs: &[Capability::Transactions, Capability::Injection],
        run: |c| Box::pin(abortable_from_any(c)),
    },
    Case {
        id: "TXN-51",
        level: Level::Client,
        sentence: "begin twice, send, commit and abort outside, init twice: each is refused by \
                   name, and the producer goes on",
        source: "TransactionManager.java State.isTransitionValid; KAFKA-14831",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(out_of_turn(c)),
    },
    Case {
        id: "TXN-53",
        level: Level::Client,
        sentence: "records that wait when a transaction is aborted fail as aborted and are not \
                   sent",
        source: "RecordAccumulator.java abortUndrainedBatches (TransactionAbortedException)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(waiting_records_end(c)),
    },
    Case {
        id: "TXN-54",
        level: Level::Client,
        sentence: "a commit sends what waits at once, whatever linger.ms says",
        source: "RecordAccumulator.java ready (transactionCompleting)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(commit_does_not_linger(c)),
    },
];

async fn older_is_fenced(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let (_older, mut olders) = stage.start().await?;
    let lost = done("begin", olders.begin().await)?;
    stage.write(&lost, "of the older").await?;
    let (_newer, mut newers) = stage.start().await?;
    let kept = done("begin", newers.begin().await)?;
    stage.write(&kept, "of the newer").await?;
    let error = not_committed(lost.commit().await)?;
    expect_same(
        "the older's commit",
        TransactionErrorKind::Fenced,
        error.kind(),
    )?;
    let Err(error) = olders.begin().await else {
        return Err(Objection::new("the older's begin", "fenced", "begun"));
    };
    expect_same(
        "the older's begin",
        TransactionErrorKind::Fenced,
        error.kind(),
    )?;
    done("the newer's commit", kept.commit().await)?;
    stage.expect_committed(&["of the newer"]).await
}

async fn failure_forbids_commit(c: Context) -> Result<(), Objection> {
    let topic = c.topic_with(2, &[("max.message.bytes", "2000")]).await?;
    let stage = Stage { context: c, topic };
    let (producer, mut transactions) = stage.start().await?;
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "good").await?;
    let large = "x".repeat(3000);
    let failed = transaction.deliver(stage.record(0, &large)).await;
    let failed = failed.err().and_then(|error| error.broker_code());
    let too_large = Some(kafka_producer::ErrorCode::MESSAGE_TOO_LARGE);
    expect_eq(
        "the record",
        format!("{too_large:?}"),
        format!("{failed:?}"),
    )?;
    // By name, nobody aborts for us.
    for attempt in 1..=2 {
        let error = producer.commit_transaction().await.err();
        let told = error.map(|error| (error.remedy(), error.broker_code()));
        let expected = Some((Remedy::Abort, too_large));
        let step = format!("commit, attempt {attempt}");
        expect_same(step, expected, told)?;
    }
    done("abort", transaction.abort().await)?;
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "next").await?;
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["next"]).await
}

async fn empty_leaves_no_trace(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let (_producer, mut transactions) = stage.start().await?;
    for _ in 0..2 {
        let empty = done("begin", transactions.begin().await)?;
        done("commit of nothing", empty.commit().await)?;
        let empty = done("begin", transactions.begin().await)?;
        done("abort of nothing", empty.abort().await)?;
    }
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "something").await?;
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["something"]).await?;
    let batches = stage.context.batches(&stage.topic, 0).await?;
    expect_eq("batches and markers", 2, batches.len())?;
    // An end that was asked for raises the epoch, so this is the first that was.
    expect_eq("epoch", 0, batches[0].stamp.epoch)
}

async fn abortable_from_any(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let (_producer, mut transactions) = stage.start().await?;
    let group = ConsumerGroup::new(stage.topic.name.as_str());
    // Other cases have transactions on the same mock.
    let ours = |api| Rule::on(api).transactional_id(stage.topic.name.as_str());
    for api in [Api::Produce, Api::TxnOffsetCommit, Api::EndTxn] {
        let verdict = Verdict::Answer(ErrorCode::TRANSACTION_ABORTABLE);
        let transaction = done("begin", transactions.begin().await)?;
        // The abort of the transaction before is done, which must not meet it.
        let rule = mock(&stage.context)?.inject(ours(api).count(1).then(verdict));
        let sent = transaction.send(stage.record(0, "aborted")).await;
        done("send", sent)?;
        let offset = ConsumedOffset::next(stage.topic.name.as_str(), 1, 5);
        // One of these, or the commit, meets the code.
        let _ = transaction.send_offsets([offset], &group).await;
        let error = not_committed(transaction.commit().await)?;
        expect_same(format!("{api:?}"), Remedy::BeginAnew, error.remedy())?;
        expect_eq(format!("{api:?} met the fault"), 1, rule.hits())?;
    }
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "next").await?;
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["next"]).await
}

async fn out_of_turn(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let producer = client::build(stage.builder())?;
    misused(producer.begin_transaction().await, Misuse::NotInitialised)?;
    let (producer, _transactions) = initialised(producer).await?;
    let again = producer.init_transactions().await.map(drop);
    misused(again, Misuse::AlreadyInitialised)?;
    misused(
        producer.commit_transaction().await,
        Misuse::NotInTransaction,
    )?;
    misused(producer.abort_transaction().await, Misuse::NotInTransaction)?;
    let outside = producer.send(stage.record(0, "outside")).await.map(drop);
    let kind = outside.err().map(|error| error.kind());
    let expected = Some(ProduceErrorKind::NoTransaction);
    expect_same("send outside", expected, kind)?;
    done("begin", producer.begin_transaction().await)?;
    misused(
        producer.begin_transaction().await,
        Misuse::AlreadyInTransaction,
    )?;
    for partition in 0..2 {
        let sent = producer.send(stage.record(partition, "inside")).await;
        let _delivery = done("send", sent)?;
    }
    done("commit", producer.commit_transaction().await)?;
    stage.expect_committed(&["inside"]).await
}

async fn waiting_records_end(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let lingering = stage
        .builder()
        .linger(4 * IN_TIME)
        .delivery_timeout(8 * IN_TIME);
    let (producer, mut transactions) = initialised(client::build(lingering)?).await?;
    let transaction = done("begin", transactions.begin().await)?;
    let delivery = client::send(&producer, stage.record(0, "waits")).await?;
    done("abort", transaction.abort().await)?;
    let kind = delivery
        .await
        .err()
        .map(|error| (error.kind(), error.possibly_written()));
    let expected = Some((ProduceErrorKind::TransactionAborted, false));
    expect_same("the record", expected, kind)?;
    let batches = stage.context.batches(&stage.topic, 0).await?;
    // At level 1 the partition may have joined just before, and then has a marker.
    let data = batches.iter().filter(|batch| !batch.is_control());
    expect_eq("batches in the log", 0, data.count())
}

async fn commit_does_not_linger(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let lingering = stage
        .builder()
        .linger(4 * IN_TIME)
        .delivery_timeout(8 * IN_TIME);
    let (_producer, mut transactions) = initialised(client::build(lingering)?).await?;
    let transaction = done("begin", transactions.begin().await)?;
    for partition in 0..2 {
        done(
            "send",
            transaction.send(stage.record(partition, "waits")).await,
        )?;
    }
    // Its time is max.block.ms, a quarter of the linger.
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["waits"]).await
}
