//! Exactly once while the level of transactions is raised.
//!
//! *Source*: KIP-584, KIP-890.

use super::txn_stage::{Stage, done, initialised};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::{Capability, OwnBrokers, TransactionVersion};
use crate::wire::admin::RaiseFeature;

pub(super) const CASES: &[Case] = &[Case {
    id: "EOS-19",
    level: Level::Client,
    sentence: "transaction.version is raised from 1 to 2 under load: all that was committed \
                   counts, nothing else does, and afterwards each transaction has its own epoch",
    source: "KIP-584, KIP-890 (upgrade during the producer's life)",
    needs: &[Capability::Transactions, Capability::OwnBrokers],
    run: |c| Box::pin(raised_under_load(c)),
}];

async fn raised_under_load(c: Context) -> Result<(), Objection> {
    const TRANSACTIONS: usize = 90;
    const RAISED_AT: usize = 30;
    let own = c.beside_as(&OwnBrokers {
        count: 1,
        settings: &[],
        transactions: TransactionVersion::One,
    });
    let own = own.await?;
    let stage = Stage::set(&own).await?;
    // Levels are told once a connection: every so often a client has new ones.
    let path = own.path(Trouble::EveryReplyCut(25)).await?;
    let builder = stage.builder_on(path.client());
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let mut kept = Vec::new();
    for number in 0..TRANSACTIONS {
        if number == RAISED_AT {
            let raise = RaiseFeature {
                feature: "transaction.version",
                level: 2,
            };
            own.change(&raise).await?;
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
