//! Exactly once, when the end of a transaction is held up by the network and arrives in the next.
//!
//! A producer whose transactions share an epoch, as all do before `transaction.version` 2, cannot
//! be told by its coordinator from itself one transaction earlier: what is late ends what is open
//! now. From version 2 on each transaction has its own epoch, and what is late is refused.
//!
//! *Source*: KIP-890, "Motivation"; KAFKA-14402.

use std::time::Duration;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::connection::Connection;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::topic::Topic;
use crate::transactor::{OWN_EPOCHS, Transactor, expect_codes};
use crate::wire::Request;
use crate::wire::transactional::{Decision, EndTxn, EndTxnAnswer, FindCoordinator};

use super::txn_stage::{Stage, done, initialised};

pub(super) const CASES: &[Case] = &[Case {
    id: "EOS-15",
    level: Level::Client,
    sentence: "a commit that the network holds until the next transaction is open commits that \
               one where a client keeps its epoch, and is refused where each transaction has its \
               own, or the producer raised it",
    source: "KIP-890; TransactionCoordinator.scala endTransaction",
    needs: &[Capability::Transactions],
    run: |c| Box::pin(late_commit(c)),
}];

async fn late_commit(c: Context) -> Result<(), Objection> {
    let late = late_commit_of_plain_client(&c).await;
    let (answer, counts) = late.map_err(|objection| objection.within("a plain client"))?;
    let seen = format!("code {}, counts: {counts:?}", answer.error.0);
    let expected = match c.transaction_version() {
        OWN_EPOCHS.. => "code 90, counts: [\"first\"]",
        // The second was aborted, as far as its client knows.
        _ => "code 0, counts: [\"first\", \"second\"]",
    };
    expect_eq("a plain client, the late commit", expected, &seen)?;
    let ours = late_commit_of_our_producer(&c).await;
    ours.map_err(|objection| objection.within("this producer"))
}

/// What a client sees that does as its level asks, and no more: the answer to the late commit, and
/// what counts after the second transaction was aborted.
async fn late_commit_of_plain_client(
    c: &Context,
) -> Result<(EndTxnAnswer, Vec<String>), Objection> {
    let stage = Stage::set(c).await?;
    let mut client = Plain::start(c).await?;
    client.write(&stage.topic, "first").await?;
    let path = c.path(Trouble::Held(EndTxn::API_KEY)).await?;
    let mut held = coordinator_behind(c, &path, &client.transactor.id).await?;
    let commit = EndTxn {
        id: client.transactor.id.clone(),
        stamp: client.transactor.stamp,
        decision: Decision::Commit,
    };
    held.send(&commit, client.end_version()).await?;
    let patience = c.patience("the commit is held".to_owned());
    while path.hits() == 0 {
        patience.wait("it has not come by".to_owned()).await?;
    }
    // Without an answer it is asked for again, and then it is answered.
    client.end(Decision::Commit, 0).await?;
    stage.expect_committed_of(0, &["first-0"]).await?;
    client.write(&stage.topic, "second").await?;
    path.release();
    let answer = late_answer(c, &path).await?;
    let aborted = match c.transaction_version() {
        OWN_EPOCHS.. => 0,
        _ => 48,
    };
    client.end(Decision::Abort, aborted).await?;
    let counts = stage.committed(0).await?;
    let counts = counts.iter().map(|value| value.trim_end_matches("-0"));
    Ok((answer, counts.map(str::to_owned).collect()))
}

/// A connection to the coordinator, by way of the proxy.
async fn coordinator_behind(c: &Context, path: &Proxy, id: &str) -> Result<Connection, Objection> {
    let addresses = path.bootstrap();
    let first = addresses.first().map(String::as_str).unwrap_or_default();
    let request = FindCoordinator { id: id.to_owned() };
    let mut connection = c.connect_to(first).await?;
    let version = c.version::<FindCoordinator>();
    let answer = connection.ask(&request, version).await?;
    expect_eq("FindCoordinator", 0, answer.error.0)?;
    c.connect_to(&answer.address).await
}

async fn late_answer(c: &Context, path: &Proxy) -> Result<EndTxnAnswer, Objection> {
    let patience = c.patience("the late commit is answered".to_owned());
    loop {
        match path.late_answer::<EndTxn>() {
            // Markers of what it has ended may be on their way, or of what it has not.
            Some(answer) => return Ok(answer),
            None => patience.wait("it is not".to_owned()).await?,
        }
    }
}

/// A client that does as its level asks.
struct Plain {
    transactor: Transactor,
    own_epochs: bool,
}

impl Plain {
    async fn start(c: &Context) -> Result<Self, Objection> {
        Ok(Self {
            transactor: c.transactor().await?,
            own_epochs: c.transaction_version() >= OWN_EPOCHS,
        })
    }

    fn end_version(&self) -> i16 {
        if self.own_epochs { 5 } else { 4 }
    }

    /// Writes one record of the open transaction to partition 0.
    async fn write(&mut self, topic: &Topic, prefix: &str) -> Result<(), Objection> {
        let version = if self.own_epochs {
            12
        } else {
            let codes = self.transactor.join(3, topic, &[0]).await?;
            expect_codes("AddPartitionsToTxn v3", &[0], &codes)?;
            11
        };
        let batch = self.transactor.batch(prefix, 1);
        let row = self.transactor.write(version, (topic, 0), &batch).await?;
        expect_eq(format!("{prefix} is written"), 0, row.code.0)
    }

    /// Ends it, and goes on as the answer says.
    async fn end(&mut self, decision: Decision, code: i16) -> Result<(), Objection> {
        let version = self.end_version();
        let answer = self.transactor.end(version, decision).await?;
        expect_eq(format!("{decision:?}"), code, answer.error.0)?;
        if let Some(next) = answer.next {
            self.transactor.go_on_as(next);
        }
        Ok(())
    }
}

/// The same of this project's producer: the late commit is refused at any level, and the abort is
/// done.
async fn late_commit_of_our_producer(c: &Context) -> Result<(), Objection> {
    let stage = Stage::set(c).await?;
    let path = c.path(Trouble::Held(EndTxn::API_KEY)).await?;
    let builder = stage.builder_on(path.client());
    let builder = builder.request_timeout(Duration::from_secs(1));
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let first = done("begin", transactions.begin().await)?;
    stage.write(&first, "first").await?;
    done("the commit that is held once", first.commit().await)?;
    expect_eq("commits held", 1, path.hits())?;
    let second = done("begin", transactions.begin().await)?;
    stage.write(&second, "second").await?;
    path.release();
    let answer = late_answer(c, &path).await?;
    expect_eq("the late commit", 90, answer.error.0)?;
    done("the abort", second.abort().await)?;
    stage.expect_committed(&["first"]).await
}
