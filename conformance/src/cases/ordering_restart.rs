//! Order over a restart under one transactional id.

use super::txn_stage::{Stage, done, expect_same};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::target::Capability;

pub(super) const CASES: &[Case] = &[Case {
    id: "ORD-10",
    level: Level::Client,
    sentence: "what an instance wrote under a transactional id lies before all that the next one \
               writes under it",
    source: "KIP-98 (InitProducerId fences and aborts)",
    needs: &[Capability::Transactions],
    run: |c| Box::pin(restarted(c)),
}];

async fn restarted(c: Context) -> Result<(), Objection> {
    const EACH: usize = 10;
    let stage = Stage::set(&c).await?;
    let mut kept = Vec::new();
    for instance in ["first", "second", "third"] {
        let (producer, mut transactions) = stage.start().await?;
        for number in 0..EACH {
            let value = format!("{instance}-{number}");
            let transaction = done("begin", transactions.begin().await)?;
            stage.write(&transaction, &value).await?;
            done("commit", transaction.commit().await)?;
            kept.push(value);
        }
        // It ends with a transaction open.
        let open = done("begin", transactions.begin().await)?;
        stage.write(&open, "left open").await?;
        drop((open, producer));
    }
    let (_last, _transactions) = stage.start().await?;
    for partition in 0..2 {
        let committed = c.committed(&stage.topic, partition).await?;
        let values = committed.records.iter().map(|record| record.value_text());
        expect_same("what counts", kept.clone(), values.collect())?;
        let aborted = committed.aborted.len();
        expect_eq("transactions left open", 3, aborted)?;
    }
    Ok(())
}
