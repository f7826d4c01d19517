//! Transactions, the client's side: calls that meet, what a commit waits for, coordinators that
//! move, members that are gone.
//!
//! *Source*: `TransactionManager.java`, `KafkaProducer.java`; KIP-98, KIP-447.

use std::time::Duration;

use kafka_producer::{
    ConsumedOffset, ConsumerGroup, ErrorCode, Misuse, Producer, Record, Remedy, TransactionError,
    TransactionErrorKind,
};

use super::cluster::TestCluster;
use super::txn_offsets;
use super::txn_stage::{Stage, done, expect_same, initialised, not_committed};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::wire::transactional::Decision;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-52",
        level: Level::Client,
        sentence: "of calls that meet one wins: one begin, one decision, and the others are \
                   refused by name",
        source: "KafkaProducer.java (synchronized TransactionManager)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(calls_meet(c)),
    },
    Case {
        id: "TXN-55",
        level: Level::Client,
        sentence: "a commit waits until every record is written, those included whose answers were \
                   lost, and each counts once",
        source: "TransactionManager.java (EndTxn waits for incomplete batches)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(commit_waits(c)),
    },
    Case {
        id: "TXN-59",
        level: Level::Client,
        sentence: "a coordinator that moves at any step of a transaction is found again",
        source: "TransactionManager.java lookupCoordinator",
        needs: &[
            Capability::Transactions,
            Capability::LeaderMoves,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(coordinator_moves(c)),
    },
    Case {
        id: "TXN-60",
        level: Level::Client,
        sentence: "offsets of a member that its group no longer has are refused, the commit with \
                   them, and the next transaction works",
        source: "KIP-447; TransactionManager.java TxnOffsetCommitHandler (CommitFailedException)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(member_is_gone(c)),
    },
];

/// Callers at one time.
const CALLERS: usize = 8;
const ROUNDS: usize = 20;

/// Who was refused for this.
fn refused_for(result: &Result<(), TransactionError>) -> Option<Misuse> {
    match result.as_ref().err()?.kind() {
        TransactionErrorKind::Misuse(misuse) => Some(misuse),
        _ => None,
    }
}

async fn calls_meet(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let (producer, _transactions) = stage.start().await?;
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let begun = at_once(&producer, |_| None).await?;
        let won = begun.iter().filter(|(_, begun)| begun.is_ok()).count();
        expect_eq("transactions begun", 1, won)?;
        let others = begun.iter().filter_map(|(_, begun)| refused_for(begun));
        let open = others.filter(|misuse| *misuse == Misuse::AlreadyInTransaction);
        expect_eq("callers told so", CALLERS - 1, open.count())?;

        let value = format!("v-{round}");
        for partition in 0..2 {
            let record = stage.record(partition, &value);
            done("a record", producer.deliver(record).await)?;
        }
        let decision = |index: usize| match (index + round).is_multiple_of(2) {
            true => Some(Decision::Commit),
            false => Some(Decision::Abort),
        };
        let ended = at_once(&producer, decision).await?;
        let mut won: Option<Decision> = None;
        for (decision, result) in &ended {
            if result.is_ok() {
                // The same call made twice is answered together.
                expect_same("who wins", won.or(*decision), *decision)?;
                won = *decision;
            } else if refused_for(result).is_none() {
                let observed = format!("{result:?}");
                return Err(Objection::new(
                    "an end",
                    "done, or refused by name",
                    observed,
                ));
            }
        }
        match won {
            Some(Decision::Commit) => kept.push(value),
            Some(Decision::Abort) => {}
            None => return Err(Objection::new("ends", "one", format!("{ended:?}"))),
        }
    }
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    stage.expect_committed(&kept).await
}

type Called = Vec<(Option<Decision>, Result<(), TransactionError>)>;

/// Begins, or ends as each is to, in tasks that start together.
async fn at_once(
    producer: &Producer,
    decision: impl Fn(usize) -> Option<Decision>,
) -> Result<Called, Objection> {
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(CALLERS));
    let calls: Vec<_> = (0..CALLERS)
        .map(|index| {
            let (producer, barrier) = (producer.clone(), barrier.clone());
            let decision = decision(index);
            tokio::spawn(async move {
                barrier.wait().await;
                let called = match decision {
                    None => producer.begin_transaction().await,
                    Some(Decision::Commit) => producer.commit_transaction().await,
                    Some(Decision::Abort) => producer.abort_transaction().await,
                };
                (decision, called)
            })
        })
        .collect();
    let mut ended = Vec::new();
    for call in calls {
        let call = call.await;
        ended.push(call.map_err(|error| Objection::new("a call", "it ends", error))?);
    }
    Ok(ended)
}

async fn commit_waits(c: Context) -> Result<(), Objection> {
    const RECORDS: usize = 30;
    let stage = Stage::set(&c).await?;
    let path = c.path(Trouble::None).await?;
    let builder = stage.builder_on(path.client()).batch_size(0);
    let builder = builder.linger(Duration::ZERO);
    let builder = builder.request_timeout(Duration::from_secs(1));
    let (producer, mut transactions) = initialised(client::build(builder)?).await?;
    let transaction = done("begin", transactions.begin().await)?;
    path.begin(Trouble::RepliesLost {
        percent: 30,
        seed: 11,
    });
    let values: Vec<String> = (0..RECORDS).map(|index| format!("v-{index:02}")).collect();
    let mut deliveries = Vec::new();
    for value in &values {
        let record = stage.record(0, value);
        deliveries.push(client::send(&producer, record).await?);
    }
    done("commit", transaction.commit().await)?;
    expect_eq("answers were lost", true, path.hits() > 0)?;
    path.end_trouble();
    for (offset, delivery) in (0..).zip(deliveries) {
        client::expect_delivery("a record", delivery, Some(offset)).await?;
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    stage.expect_committed_of(0, &values).await
}

/// When the coordinator moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    BeforeInit,
    BeforeWrite,
    BeforeOffsets,
    BeforeEnd,
    Never,
}

async fn coordinator_moves(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::of(c).await?;
    for step in [
        Step::BeforeInit,
        Step::BeforeWrite,
        Step::BeforeOffsets,
        Step::BeforeEnd,
        Step::Never,
    ] {
        let moved = moves_at(&cluster, step).await;
        moved.map_err(|objection| objection.within(format!("{step:?}")))?;
    }
    Ok(())
}

async fn moves_at(cluster: &TestCluster, step: Step) -> Result<(), Objection> {
    let stage = Stage::set(&cluster.context).await?;
    let id = stage.topic.name.as_str();
    let group = ConsumerGroup::new(id);
    let move_at = async |now: Step| {
        if now == step {
            cluster.move_coordinator(id).await?;
        }
        Ok::<(), Objection>(())
    };
    let producer = client::build(stage.builder())?;
    move_at(Step::BeforeInit).await?;
    let (_producer, mut transactions) = initialised(producer).await?;
    let mut kept = Vec::new();
    for value in ["first", "second"] {
        let transaction = done("begin", transactions.begin().await)?;
        move_at(Step::BeforeWrite).await?;
        stage.write(&transaction, value).await?;
        move_at(Step::BeforeOffsets).await?;
        let offset = ConsumedOffset::next(id, 1, 5);
        done(
            "send_offsets",
            transaction.send_offsets([offset], &group).await,
        )?;
        move_at(Step::BeforeEnd).await?;
        done("commit", transaction.commit().await)?;
        kept.push(value);
    }
    stage.expect_committed(&kept).await
}

async fn member_is_gone(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let group = c.topic_name();
    let member = txn_offsets::join(&c, &group, None).await?;
    let (_producer, mut transactions) = stage.start().await?;
    let offset = || ConsumedOffset::next(stage.topic.name.as_str(), 0, 5);
    let older =
        ConsumerGroup::new(group.as_str()).member(member.member.as_str(), member.generation - 1);
    let stranger = ConsumerGroup::new(group.as_str()).member("stranger", member.generation);
    for (what, claimed, code) in [
        ("an older generation", older, ErrorCode::ILLEGAL_GENERATION),
        ("a stranger", stranger, ErrorCode::UNKNOWN_MEMBER_ID),
    ] {
        let transaction = done("begin", transactions.begin().await)?;
        let record = Record::to(stage.topic.name.as_str()).partition(0);
        done(
            "a record",
            transaction.deliver(record.value("dropped")).await,
        )?;
        let refused = transaction.send_offsets([offset()], &claimed).await;
        let told = refused
            .err()
            .map(|error| (error.remedy(), error.broker_code()));
        expect_same(what, Some((Remedy::Abort, Some(code))), told)?;
        let error = not_committed(transaction.commit().await)?;
        expect_same(what, Some(code), error.broker_code())?;
        let fetched = txn_offsets::offset(&c, &group, &stage.topic).await?;
        expect_eq(format!("the offset after {what}"), -1, fetched)?;
    }
    let claimed =
        ConsumerGroup::new(group.as_str()).member(member.member.as_str(), member.generation);
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "kept").await?;
    done(
        "send_offsets",
        transaction.send_offsets([offset()], &claimed).await,
    )?;
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["kept"]).await?;
    txn_offsets::await_offset(&c, (&group, &stage.topic), 5).await
}
