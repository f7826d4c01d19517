//! Transactions whose markers cannot be written yet: a partition that is to have three replicas in
//! sync has two, which is enough for the log of transactions.
//!
//! *Source*: KIP-98, KIP-890; `TransactionCoordinator.scala`, `Partition.scala`; the codes are
//! those observed on 4.3.1.

use super::cluster::{ALL_IN_SYNC, TestCluster};
use super::transaction_ends::{committed, open};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::target::Capability;
use crate::transactor::{END, NEVER_GIVEN, OWN_EPOCHS, Transactor, expect_codes};
use crate::wire::answer::InitProducerId;
use crate::wire::batch::Stamp;
use crate::wire::transactional::{AddPartitions, Decision, EndTxn};

pub(super) const CASES: &[Case] = &[Case {
    id: "TXN-27",
    level: Level::Wire,
    sentence: "while markers are on their way 51 is the answer to every end, to whoever begins \
               and to what is to join; an older end at the epoch before is 90",
    source: "TransactionCoordinator.scala endTransaction, prepareInitProducerIdTransit",
    needs: &[
        Capability::OwnBrokers,
        Capability::Pause,
        Capability::Restart,
        Capability::ThreeNodes,
    ],
    run: |c| Box::pin(markers_on_their_way(c)),
}];

async fn markers_on_their_way(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::alike(&c).await?;
    let own = &cluster.context;
    let topic = own.replicated_topic((1, 3), &ALL_IN_SYNC).await?;
    let mut transactor = own.transactor().await?;
    transactor.begin().await?;
    open(&mut transactor, &topic, ("a", 1)).await?;
    let away = cluster.without(1, &topic, &transactor.id).await?;
    expect_busy(own, &mut transactor, &topic.name).await?;
    cluster.with(&topic, away).await?;
    committed(own, (&topic, 0), 2).await?;
    transactor.begin().await.map(drop)
}

/// Ends the transaction, and objects unless its coordinator is busy with that.
async fn expect_busy(
    c: &Context,
    transactor: &mut Transactor,
    topic: &str,
) -> Result<(), Objection> {
    let version = match c.transaction_version() {
        OWN_EPOCHS.. => c.version::<EndTxn>(),
        _ => END,
    };
    let before = transactor.stamp;
    let end = transactor.end_txn(before, Decision::Commit);
    let answer = transactor.coordinator.ask(&end, version).await?;
    expect_eq("the end", 0, answer.error.0)?;
    if let Some(next) = answer.next {
        transactor.go_on_as(next);
    }
    let other = Stamp {
        id: NEVER_GIVEN,
        ..before
    };
    for (what, stamp) in [
        ("the epoch before", before),
        ("the next epoch", transactor.stamp),
        ("another producer", other),
    ] {
        for decision in [Decision::Commit, Decision::Abort] {
            let end = transactor.end_txn(stamp, decision);
            let answer = transactor.coordinator.ask(&end, version).await?;
            let step = format!("EndTxn v{version}, {what}, {decision:?}");
            let code = match (version, what) {
                // Older ends look at the producer first.
                (..=END, "another producer") => 49,
                _ => 51,
            };
            expect_eq(step, code, answer.error.0)?;
        }
    }
    if version > END {
        let end = transactor.end_txn(before, Decision::Commit);
        let answer = transactor.coordinator.ask(&end, END).await?;
        expect_eq("EndTxn v4, the epoch before", 90, answer.error.0)?;
    }
    let begins = transactor.init(c.version::<InitProducerId>(), InitProducerId::NEW);
    expect_eq("InitProducerId", 51, begins.await?.error.0)?;
    let joins = AddPartitions {
        id: transactor.id.clone(),
        stamp: transactor.stamp,
        topics: vec![(topic.to_owned(), vec![0])],
    };
    let joined = transactor.coordinator.ask(&joins, 3).await?;
    let codes: Vec<i16> = joined.rows.iter().map(|row| row.2.0).collect();
    expect_codes("AddPartitionsToTxn", &[51], &codes)
}
