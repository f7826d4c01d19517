//! Exactly once while the level of transactions is raised.
//!
//! *Source*: KIP-584, KIP-890.

use super::transaction_ends::{committed, open};
use super::txn_stage::{Stage, done, initialised};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::{Capability, OwnBrokers, TransactionVersion};
use crate::topic::Topic;
use crate::transactor::{Transactor, expect_codes};
use crate::wire::admin::RaiseFeature;
use crate::wire::answer::InitProducerId;
use crate::wire::batch::Stamp;
use crate::wire::transactional::Decision::{self, Abort, Commit};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "EOS-19",
        level: Level::Client,
        sentence: "transaction.version is raised from 1 to 2 under load: all that was committed \
                   counts, nothing else does, and afterwards each transaction has its own epoch",
        source: "KIP-584, KIP-890 (upgrade during the producer's life)",
        needs: &[Capability::Transactions, Capability::OwnBrokers],
        run: |c| Box::pin(raised_under_load(c)),
    },
    Case {
        id: "EOS-23",
        level: Level::Wire,
        sentence: "an older process that ends its transaction again once transaction.version was \
                   raised gets the epoch of the one that fenced it, if that has ended its first \
                   in the same way; otherwise it is refused",
        source: "TransactionCoordinator.scala endTxnEpochBumped (observed on 4.3.1)",
        needs: &[Capability::Transactions, Capability::OwnBrokers],
        run: |c| Box::pin(ended_again_once_raised(c)),
    },
];

/// A node at level 1.
async fn of_level_one(c: &Context) -> Result<Context, Objection> {
    let wanted = OwnBrokers {
        count: 1,
        settings: &[],
        transactions: TransactionVersion::One,
    };
    c.beside_as(&wanted).await
}

async fn raise(c: &Context) -> Result<(), Objection> {
    let raise = RaiseFeature {
        feature: "transaction.version",
        level: 2,
    };
    c.change(&raise).await
}

async fn raised_under_load(c: Context) -> Result<(), Objection> {
    const TRANSACTIONS: usize = 90;
    const RAISED_AT: usize = 30;
    let own = of_level_one(&c).await?;
    let stage = Stage::set(&own).await?;
    // Levels are told once a connection: every so often a client has new ones.
    let path = own.path(Trouble::EveryReplyCut(25)).await?;
    let builder = stage.builder_on(path.client());
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let mut kept = Vec::new();
    for number in 0..TRANSACTIONS {
        if number == RAISED_AT {
            raise(&own).await?;
        }
        let value = format!("v-{number:02}");
        let transaction = done("begin", transactions.begin().await)?;
        stage.write(&transaction, &value).await?;
        if number % 5 == 4 {
            done("abort", transaction.abort().await)?;
        } else {
            done("commit", transaction.commit().await)?;
            kept.push(value);
        }
    }
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    stage.expect_committed(&kept).await?;
    let batches = own.batches(&stage.topic, 0).await?;
    let data = batches.iter().filter(|batch| !batch.is_control());
    let epochs: Vec<i16> = data.map(|batch| batch.stamp.epoch).collect();
    let (before, after) = epochs.split_at(RAISED_AT.min(epochs.len()));
    let shared = before.windows(2).any(|pair| pair[0] == pair[1]);
    expect_eq(
        format!("epochs are shared at first: {before:?}"),
        true,
        shared,
    )?;
    let last = &after[after.len().saturating_sub(20)..];
    let own_epochs = last.windows(2).all(|pair| pair[0] < pair[1]);
    expect_eq(format!("and not in the end: {last:?}"), true, own_epochs)
}

/// The newest EndTxn with which a transaction keeps its epoch, and the first that gives it one of
/// its own.
const ENDS: [i16; 2] = [4, 5];

/// How the transaction of an older process ended, and that of the one that fenced it, both while
/// transactions shared an epoch; the code of the older one's end when it is asked for again later.
const ENDED_AGAIN: [(Decision, Option<Decision>, i16); 5] = [
    (Abort, Some(Abort), 0),
    (Commit, Some(Commit), 0),
    (Abort, Some(Commit), 48),
    (Commit, Some(Abort), 48),
    (Abort, None, 90),
];

/// Two processes under one transactional id.
struct Fenced {
    newer: Transactor,
    older: Stamp,
}

impl Fenced {
    /// Both have ended one transaction.
    async fn start(
        c: &Context,
        topic: &Topic,
        (first, second): (Decision, Option<Decision>),
    ) -> Result<Self, Objection> {
        let mut transactor = c.transactor().await?;
        open(&mut transactor, topic, ("older", 1)).await?;
        let end = transactor.end(ENDS[0], first).await?;
        expect_eq("the older one's end", 0, end.error.0)?;
        let older = transactor.stamp;
        transactor.begin().await?;
        expect_eq("the newer one's epoch", 1, transactor.stamp.epoch)?;
        if let Some(second) = second {
            let codes = transactor.join(3, topic, &[0]).await?;
            expect_codes("AddPartitionsToTxn v3", &[0], &codes)?;
            let end = transactor.end(ENDS[0], second).await?;
            expect_eq("the newer one's end", 0, end.error.0)?;
        }
        let newer = transactor;
        Ok(Self { newer, older })
    }
}

async fn ended_again_once_raised(c: Context) -> Result<(), Objection> {
    let own = of_level_one(&c).await?;
    let topic = own.topic(1).await?;
    let mut all = Vec::new();
    for (first, second, code) in ENDED_AGAIN {
        let fenced = Fenced::start(&own, &topic, (first, second)).await?;
        all.push((fenced, (first, second), code));
    }
    raise(&own).await?;
    let mut taken = None;
    for (Fenced { mut newer, older }, (first, second), code) in all {
        let again = newer.end_as(ENDS[1], older, first).await?;
        let step = format!("{first:?} again, the newer one: {second:?}");
        let next = match code {
            0 => (newer.stamp.id, newer.stamp.epoch),
            _ => (-1, -1),
        };
        let seen = format!("code {}, next {:?}", again.error.0, again.next);
        expect_eq(&step, format!("code {code}, next {:?}", Some(next)), seen)?;
        let older_end = newer.end_as(ENDS[0], older, first).await?;
        expect_eq(format!("{step}, v4"), 90, older_end.error.0)?;
        let named = InitProducerId {
            producer_id: older.id,
            epoch: older.epoch,
        };
        let asked = newer.init(own.version::<InitProducerId>(), named).await?;
        expect_eq(format!("{step}, InitProducerId"), 90, asked.error.0)?;
        if code == 0 {
            taken = Some(newer);
        }
    }
    let newer = taken.ok_or_else(|| Objection::new("an epoch", "shared", "not"))?;
    both_count(&own, newer).await
}

/// What two processes write with one epoch is one transaction: it ends as either says.
async fn both_count(c: &Context, mut shared: Transactor) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    open(&mut shared, &topic, ("by the older one", 1)).await?;
    let end = shared.end(ENDS[1], Commit).await?;
    expect_eq("the newer one commits", 0, end.error.0)?;
    let answer = committed(c, (&topic, 0), 2).await?;
    expect_eq("nothing is aborted", "[]", &format!("{:?}", answer.aborted))
}
