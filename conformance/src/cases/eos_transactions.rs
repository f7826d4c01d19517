//! Exactly once with transactions: atomic, fenced, and never half of one.
//!
//! *Source*: KIP-98, KIP-588, KIP-890.

use std::time::Duration;

use fastrand::Rng;
use kafka_producer::{
    CommitError, ErrorCode, Producer, Record, TransactionErrorKind, Transactions,
};

use super::txn_stage::{Stage, done, expect_same, initialised, not_committed};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::topic::Topic;
use crate::wire::Request;
use crate::wire::produce::Produce;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "EOS-08",
        level: Level::Client,
        sentence: "of an instance that was held up while another took over, nothing counts that \
                   arrives afterwards, and its commit says so",
        source: "KIP-98 (zombie fencing); TransactionCoordinator.scala",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(zombie(c)),
    },
    Case {
        id: "EOS-09",
        level: Level::Client,
        sentence: "transfers between ten accounts, some aborted, with answers lost, leave the sum \
                   as it was whenever nothing is open",
        source: "KIP-98 (atomic writes to several partitions)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(bank(c)),
    },
    Case {
        id: "EOS-10",
        level: Level::Client,
        sentence: "of a hundred transactions those that are aborted, or dropped, are never seen, \
                   and the others are, in order",
        source: "KIP-98; UnifiedLog.java collectAbortedTransactions",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(random_aborts(c)),
    },
    Case {
        id: "EOS-12",
        level: Level::Client,
        sentence: "a commit that races the transaction's time-out counts if it says so, and does \
                   not if it does not",
        source: "TransactionCoordinator.scala abortTimedOutTransactions, endTransaction",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(time_out_races_commit(c)),
    },
    Case {
        id: "EOS-16",
        level: Level::Client,
        sentence: "what a task left open that panicked is aborted by the next instance, and \
                   readers of what is committed go on",
        source: "KIP-98 (InitProducerId aborts what is open)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(panics_inside(c)),
    },
    Case {
        id: "EOS-21",
        level: Level::Client,
        sentence: "transactions of two producers in the same partitions at the same time are \
                   atomic each, and in order each",
        source: "KIP-98 (aborted transactions are told by producer)",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(interleaved(c)),
    },
];

/// The values that a reader of what is committed sees in a partition where nothing is open.
async fn visible(c: &Context, topic: &Topic, partition: i32) -> Result<Vec<String>, Objection> {
    let committed = c.committed(topic, partition).await?;
    let values = committed.records.iter().map(|record| record.value_text());
    Ok(values.collect())
}

async fn zombie(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let path = c.path(Trouble::None).await?;
    let builder = stage.builder_on(path.client()).linger(Duration::ZERO);
    let builder = builder.request_timeout(Duration::from_secs(1));
    let (_zombie, mut zombies) = initialised(client::build(builder)?).await?;
    let lost = done("begin", zombies.begin().await)?;
    stage.write(&lost, "of the zombie").await?;
    path.begin(Trouble::Held(Produce::API_KEY));
    done("send", lost.send(stage.record(0, "late")).await)?;
    let patience = c.patience("the zombie's record is held".to_owned());
    while path.hits() == 0 {
        patience.wait("it has not come by".to_owned()).await?;
    }
    let (_heir, mut heirs) = stage.start().await?;
    let kept = done("begin", heirs.begin().await)?;
    stage.write(&kept, "of the heir").await?;
    path.release();
    let patience = c.patience("the zombie's record is answered".to_owned());
    while path.late_answer::<Produce>().is_none() {
        patience.wait("it is not".to_owned()).await?;
    }
    // Its record was refused, which leaves the abort; that it is fenced, its coordinator says.
    let error = not_committed(lost.commit().await)?;
    let code = error.broker_code();
    expect_same(
        "the zombie's commit",
        Some(ErrorCode::INVALID_PRODUCER_EPOCH),
        code,
    )?;
    let next = zombies.begin().await.err().map(|error| error.kind());
    expect_same("the zombie", Some(TransactionErrorKind::Fenced), next)?;
    done("the heir's commit", kept.commit().await)?;
    for partition in 0..2 {
        let seen = visible(&c, &stage.topic, partition).await?;
        expect_same("what counts", vec!["of the heir".to_owned()], seen)?;
    }
    Ok(())
}

const ACCOUNTS: i32 = 10;
const TELLERS: usize = 3;
const TRANSFERS: usize = 10;
const ROUNDS: u64 = 4;

async fn bank(c: Context) -> Result<(), Objection> {
    let topic = c.topic(ACCOUNTS).await?;
    let path = c.path(Trouble::None).await?;
    let mut tellers = Vec::new();
    for teller in 0..TELLERS {
        let id = format!("{}-teller-{teller}", topic.name);
        let builder = path.client().transactional_id(id);
        let builder = builder.request_timeout(Duration::from_secs(1));
        tellers.push(initialised(client::build(builder)?).await?);
    }
    let mut rng = Rng::with_seed(41);
    let mut done_by_now = 0;
    for round in 0..ROUNDS {
        path.begin(Trouble::RepliesLost {
            percent: 10,
            seed: round,
        });
        let mut working = Vec::new();
        for (producer, transactions) in tellers.drain(..) {
            let (name, rng) = (topic.name.clone(), rng.fork());
            working.push(tokio::spawn(async move {
                transfer((producer, transactions), &name, rng).await
            }));
        }
        for teller in working {
            let teller = teller.await;
            let teller = teller.map_err(|error| Objection::new("a teller", "it ends", error))?;
            let (transferred, teller) = teller?;
            done_by_now += transferred;
            tellers.push(teller);
        }
        path.end_trouble();
        let (mut sum, mut count) = (0_i64, 0);
        for account in 0..ACCOUNTS {
            for value in visible(&c, &topic, account).await? {
                let value: Result<i64, _> = value.parse();
                sum += value.map_err(|error| Objection::new("a record", "a number", error))?;
                count += 1;
            }
        }
        expect_eq(format!("the sum after round {round}"), 0, sum)?;
        expect_eq(
            format!("records after round {round}"),
            2 * done_by_now,
            count,
        )?;
    }
    expect_eq("some transfers were done", true, done_by_now > 0)
}

/// What a teller has.
type Teller = (Producer, Transactions);

/// Transfers from one account to another, again and again; how often it was done.
async fn transfer(
    (producer, mut transactions): Teller,
    topic: &str,
    mut rng: Rng,
) -> Result<(usize, Teller), Objection> {
    let mut transferred = 0;
    for _ in 0..TRANSFERS {
        let (from, amount) = (rng.i32(0..ACCOUNTS), rng.i32(1..100));
        let to = (from + rng.i32(1..ACCOUNTS)) % ACCOUNTS;
        let transaction = done("begin", transactions.begin().await)?;
        for (account, delta) in [(from, -amount), (to, amount)] {
            let delta = delta.to_string();
            let record = Record::to(topic).partition(account).value(delta.as_str());
            done("a record", transaction.send(record).await)?;
        }
        if rng.u8(..100) < 30 {
            done("abort", transaction.abort().await)?;
        } else {
            done("commit", transaction.commit().await)?;
            transferred += 1;
        }
    }
    Ok((transferred, (producer, transactions)))
}

async fn random_aborts(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let (_producer, mut transactions) = stage.start().await?;
    let mut rng = Rng::with_seed(43);
    let (mut kept, mut aborted) = (Vec::new(), 0);
    for number in 0..100 {
        let value = format!("v-{number:03}");
        let transaction = done("begin", transactions.begin().await)?;
        stage.write(&transaction, &value).await?;
        match rng.u8(..100) {
            ..15 => done("abort", transaction.abort().await)?,
            15..30 => drop(transaction),
            _ => {
                done("commit", transaction.commit().await)?;
                kept.push(value);
                continue;
            }
        }
        aborted += 1;
    }
    expect_eq("some were aborted", true, aborted > 10)?;
    // The last may have been dropped, which is aborted before another begins.
    let last = done("begin", transactions.begin().await)?;
    done("commit", last.commit().await)?;
    for partition in 0..2 {
        let seen = visible(&c, &stage.topic, partition).await?;
        expect_same("what counts", kept.clone(), seen)?;
        let log = c.committed(&stage.topic, partition).await?;
        expect_eq("told as aborted", aborted, log.aborted.len())?;
    }
    Ok(())
}

/// How long a transaction may be open.
const OPEN_MAX: Duration = Duration::from_millis(500);

async fn time_out_races_commit(c: Context) -> Result<(), Objection> {
    // Kafka looks for what is late every 200 ms here.
    let delays_ms = [100, 300, 450, 500, 550, 600, 650, 700, 750, 800, 1_500];
    let partitions = i32::try_from(delays_ms.len()).unwrap_or_default();
    let topic = c.topic(partitions).await?;
    let mut racing = Vec::new();
    for (partition, delay_ms) in (0..).zip(delays_ms) {
        let id = format!("{}-{partition}", topic.name);
        let builder = c.client().transactional_id(id);
        let builder = builder.transaction_timeout(OPEN_MAX);
        let (name, producer) = (topic.name.clone(), client::build(builder)?);
        racing.push(tokio::spawn(async move {
            let (_producer, mut transactions) = initialised(producer).await?;
            let transaction = done("begin", transactions.begin().await)?;
            let record = Record::to(name.as_str()).partition(partition);
            let written = transaction.deliver(record.value("in time")).await;
            done("a record", written)?;
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            match transaction.commit().await {
                Ok(()) => Ok(1),
                Err(CommitError::NotCommitted(_)) => Ok(0),
                Err(other) => Err(Objection::new("commit", "done or not", other)),
            }
        }));
    }
    let mut committed = 0;
    for (partition, race) in (0..).zip(racing) {
        let race = race.await;
        let race = race.map_err(|error| Objection::new("a race", "it ends", error))?;
        let counts: usize = race?;
        committed += counts;
        let seen = visible(&c, &topic, partition).await?.len();
        expect_eq(format!("records of partition {partition}"), counts, seen)?;
    }
    let both = committed > 0 && committed < delays_ms.len();
    expect_eq(
        format!("some of {committed} commits won, some lost"),
        true,
        both,
    )
}

#[expect(clippy::panic, reason = "a panic is what the case is about")]
async fn panics_inside(c: Context) -> Result<(), Objection> {
    let stage = Stage::set(&c).await?;
    let (producer, name) = (client::build(stage.builder())?, stage.topic.name.clone());
    let task = tokio::spawn(async move {
        let (_producer, mut transactions) = initialised(producer).await?;
        let transaction = done("begin", transactions.begin().await)?;
        for partition in 0..2 {
            let record = Record::to(name.as_str()).partition(partition);
            let written = transaction.deliver(record.value("left open")).await;
            done("a record", written)?;
        }
        if name.is_empty() {
            return Ok::<(), Objection>(());
        }
        panic!("a task of EOS-16 panics in a transaction, as it is to");
    });
    let panicked = task.await.is_err_and(|error| error.is_panic());
    expect_eq("the task panicked", true, panicked)?;
    let (_next, mut transactions) = stage.start().await?;
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "next").await?;
    done("commit", transaction.commit().await)?;
    for partition in 0..2 {
        let seen = visible(&c, &stage.topic, partition).await?;
        expect_same("what counts", vec!["next".to_owned()], seen)?;
    }
    Ok(())
}

async fn interleaved(c: Context) -> Result<(), Objection> {
    const EACH: usize = 25;
    let topic = c.topic(2).await?;
    let mut working = Vec::new();
    for (who, seed) in [("a", 47), ("b", 53)] {
        let id = format!("{}-{who}", topic.name);
        let producer = client::build(c.client().transactional_id(id))?;
        let name = topic.name.clone();
        working.push(tokio::spawn(async move {
            let (_producer, mut transactions) = initialised(producer).await?;
            let mut rng = Rng::with_seed(seed);
            let mut kept = Vec::new();
            for number in 0..EACH {
                let value = format!("{who}-{number:02}");
                let transaction = done("begin", transactions.begin().await)?;
                for partition in 0..2 {
                    let record = Record::to(name.as_str()).partition(partition);
                    let written = transaction.deliver(record.value(value.as_str())).await;
                    done("a record", written)?;
                }
                if rng.u8(..100) < 30 {
                    done("abort", transaction.abort().await)?;
                } else {
                    done("commit", transaction.commit().await)?;
                    kept.push(value);
                }
            }
            Ok::<_, Objection>((who, kept))
        }));
    }
    for task in working {
        let task = task.await;
        let task = task.map_err(|error| Objection::new("a producer", "it ends", error))?;
        let (who, kept) = task?;
        for partition in 0..2 {
            let seen = visible(&c, &topic, partition).await?.into_iter();
            let own: Vec<String> = seen.filter(|value| value.starts_with(who)).collect();
            expect_same(format!("what counts of {who}"), kept.clone(), own)?;
        }
    }
    Ok(())
}
