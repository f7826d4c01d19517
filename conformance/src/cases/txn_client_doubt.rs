//! Transactions, the client's side: answers that do not come, and calls that are made again.
//!
//! *Source*: `TransactionManager.java` pendingTransition, `KafkaProducer.java`; KIP-890.

use std::time::Duration;

use kafka_mockbroker::{Api, Rule, Verdict};
use kafka_producer::{
    CommitError, Misuse, Producer, Remedy, TransactionError, TransactionErrorKind,
};

use super::driven::{mock, requests};
use super::txn_stage::{Stage, done, expect_same, initialised, misused};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::target::{Capability, OwnBrokers, TransactionVersion};
use crate::wire::Request;
use crate::wire::answer::InitProducerId;
use crate::wire::transactional::EndTxn;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-45",
        level: Level::Client,
        sentence: "a commit that gets no answer is in doubt: it can be asked for again, and \
                   nothing else can, until it is known to be done",
        source: "TransactionManager.java handlePendingTransition; KafkaProducer.java \
                 commitTransaction",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(commit_in_doubt(c)),
    },
    Case {
        id: "TXN-56",
        level: Level::Client,
        sentence: "before transaction.version 2 a transaction whose end got no answer at first is \
                   followed by a higher epoch",
        source: "KIP-890 (a late EndTxn); TransactionManager.java epochBumpRequired",
        needs: &[
            Capability::Transactions,
            Capability::Injection,
            Capability::OwnBrokers,
        ],
        run: |c| Box::pin(raises_its_epoch(c)),
    },
    Case {
        id: "TXN-58",
        level: Level::Client,
        sentence: "an initialisation, a commit and an abort that took longer than max.block.ms go \
                   on where they stand when they are called again",
        source: "TransactionManager.java pendingTransition (KAFKA-14831)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(called_again(c)),
    },
];

/// `max.block.ms` of calls that are to give up.
const SOON: Duration = Duration::from_millis(1_500);
/// More than are asked before the trouble ends.
const MANY: u64 = 1_000;

/// A stage whose producer is behind a proxy and gives up soon.
async fn behind_a_path(c: &Context) -> Result<(Stage, Proxy, Producer), Objection> {
    let stage = Stage::set(c).await?;
    let path = c.path(Trouble::None).await?;
    let builder = stage.builder_on(path.client()).max_block(SOON);
    let builder = builder.request_timeout(Duration::from_secs(1));
    Ok((stage, path, client::build(builder)?))
}

fn unanswered(api_key: i16) -> Trouble {
    Trouble::Unanswered {
        api_key,
        count: MANY,
    }
}

/// Objects unless the call gave up, and may be made again.
fn expect_timed_out(step: &str, result: Result<(), TransactionError>) -> Result<(), Objection> {
    let told = result.err().map(|error| (error.kind(), error.remedy()));
    let kind = TransactionErrorKind::TimedOut { waited: SOON };
    expect_same(step, Some((kind, Remedy::CallAgain)), told)
}

/// A call by name.
#[derive(Clone, Copy, Debug)]
enum Call {
    Init,
    Commit,
    Abort,
}

/// Makes a call again until it is answered: what hangs has to be given up first.
async fn again(producer: &Producer, call: Call) -> Result<(), Objection> {
    let step = format!("{call:?} again");
    for _ in 0..20 {
        let called = match call {
            Call::Init => producer.init_transactions().await.map(drop),
            Call::Commit => producer.commit_transaction().await,
            Call::Abort => producer.abort_transaction().await,
        };
        match called {
            Err(error) if error.remedy() == Remedy::CallAgain => {}
            other => return done(&step, other),
        }
    }
    Err(Objection::new(step, "done", "no answer in 20 calls"))
}

async fn commit_in_doubt(c: Context) -> Result<(), Objection> {
    let (stage, path, producer) = behind_a_path(&c).await?;
    let (producer, mut transactions) = initialised(producer).await?;
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "by name").await?;
    path.begin(unanswered(EndTxn::API_KEY));
    expect_timed_out("the commit", producer.commit_transaction().await)?;
    misused(producer.abort_transaction().await, Misuse::Committing)?;
    misused(producer.begin_transaction().await, Misuse::Committing)?;
    expect_timed_out("the commit again", producer.commit_transaction().await)?;
    path.end_trouble();
    again(&producer, Call::Commit).await?;
    drop(transaction);

    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "by value").await?;
    path.begin(unanswered(EndTxn::API_KEY));
    let pending = match transaction.commit().await {
        Err(CommitError::Unanswered(pending)) => pending,
        other => return Err(Objection::new("commit", "unanswered", format!("{other:?}"))),
    };
    path.end_trouble();
    let mut resumed = pending.resume().await;
    for _ in 0..20 {
        let Err(CommitError::Unanswered(pending)) = resumed else {
            break;
        };
        resumed = pending.resume().await;
    }
    done("resume", resumed)?;
    stage.expect_committed(&["by name", "by value"]).await
}

async fn raises_its_epoch(c: Context) -> Result<(), Objection> {
    let own = c.beside_as(&OwnBrokers {
        count: 1,
        settings: &[],
        transactions: TransactionVersion::One,
    });
    let own = own.await?;
    let stage = Stage::set(&own).await?;
    let builder = stage.builder().request_timeout(Duration::from_secs(1));
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    for value in ["kept its epoch", "also", "raised it"] {
        let transaction = done("begin", transactions.begin().await)?;
        stage.write(&transaction, value).await?;
        let lost = Rule::on(Api::EndTxn).count(u64::from(value == "also"));
        let _fault = mock(&own)?.inject(lost.then(Verdict::ApplyThenLose));
        done("commit", transaction.commit().await)?;
    }
    let all = ["kept its epoch", "also", "raised it"];
    stage.expect_committed(&all).await?;
    let batches = own.batches(&stage.topic, 0).await?;
    let data = batches.iter().filter(|batch| !batch.is_control());
    let epochs: Vec<i16> = data.map(|batch| batch.stamp.epoch).collect();
    expect_same("epochs", vec![0, 0, 1], epochs)?;
    let asked = requests(&own, Api::InitProducerId)?.len();
    expect_eq("InitProducerId requests", 2, asked)
}

async fn called_again(c: Context) -> Result<(), Objection> {
    let (stage, path, producer) = behind_a_path(&c).await?;
    path.begin(unanswered(InitProducerId::API_KEY));
    let first = producer.init_transactions().await.map(drop);
    expect_timed_out("init_transactions", first)?;
    misused(producer.begin_transaction().await, Misuse::NotInitialised)?;
    path.end_trouble();
    again(&producer, Call::Init).await?;

    let record = |value| stage.record(0, value);
    done("begin", producer.begin_transaction().await)?;
    let kept = client::send(&producer, record("kept")).await?;
    path.begin(unanswered(EndTxn::API_KEY));
    expect_timed_out("commit", producer.commit_transaction().await)?;
    path.end_trouble();
    again(&producer, Call::Commit).await?;
    client::expect_delivery("kept", kept, Some(0)).await?;

    done("begin", producer.begin_transaction().await)?;
    let dropped = client::send(&producer, record("dropped")).await?;
    client::expect_delivery("dropped", dropped, Some(2)).await?;
    path.begin(unanswered(EndTxn::API_KEY));
    expect_timed_out("abort", producer.abort_transaction().await)?;
    misused(producer.commit_transaction().await, Misuse::Aborting)?;
    path.end_trouble();
    again(&producer, Call::Abort).await?;
    stage.expect_committed_of(0, &["kept"]).await
}
