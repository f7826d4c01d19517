//! Exactly once with transactions while brokers go and come back.
//!
//! *Source*: KIP-98, KIP-447, KIP-890.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use kafka_producer::{ConsumedOffset, ConsumerGroup, ProducerBuilder};
use tokio::task::JoinHandle;

use super::cluster::{SAFE, TestCluster};
use super::eos_faults::load_while;
use super::txn_offsets;
use super::txn_stage::{Stage, done, expect_same, initialised};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::{Action, Capability};
use crate::topic::Topic;
use crate::wire::transactional::FindCoordinator;

/// Three brokers of a case's own, to be killed.
const NEEDS: &[Capability] = &[
    Capability::Transactions,
    Capability::OwnBrokers,
    Capability::Restart,
    Capability::Pause,
    Capability::Isolation,
    Capability::ThreeNodes,
];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "EOS-07",
        level: Level::Client,
        sentence: "a copy job whose brokers are killed and stopped in turn copies each record \
                   once, in order",
        source: "KIP-447; GroupCoordinatorService.java",
        needs: NEEDS,
        run: |c| Box::pin(copy_while_brokers_bounce(c)),
    },
    Case {
        id: "EOS-11",
        level: Level::Client,
        sentence: "a coordinator that is killed at any step of a transaction leaves all of it or \
                   nothing, and nothing open",
        source: "TransactionStateManager.scala loadTransactionsForTxnTopicPartition",
        needs: NEEDS,
        run: |c| Box::pin(coordinator_killed_at_each_step(c)),
    },
    Case {
        id: "EOS-13",
        level: Level::Client,
        sentence: "while brokers are killed, stopped, paused and cut off, what is acknowledged is \
                   there once, and transactions are atomic and in order",
        source: "KIP-98, KIP-890",
        needs: NEEDS,
        run: |c| Box::pin(mixed(c)),
    },
];

fn patient(builder: ProducerBuilder) -> ProducerBuilder {
    let builder = builder.request_timeout(Duration::from_secs(1));
    let builder = builder.delivery_timeout(Duration::from_secs(60));
    builder.max_block(Duration::from_secs(60))
}

/// A stage on a topic of two partitions with three replicas each.
async fn safe_stage(cluster: &TestCluster) -> Result<Stage, Objection> {
    let topic = cluster.topic(2, &SAFE).await?;
    let context = cluster.context.clone();
    Ok(Stage { context, topic })
}

/// What a reader of committed records sees once brokers are back.
async fn visible(c: &Context, topic: &Topic, partition: i32) -> Result<Vec<String>, Objection> {
    let topic = c.led_now(topic).await?;
    c.await_served(&topic).await?;
    let committed = c.committed(&topic, partition).await?;
    let values = committed.records.iter().map(|record| record.value_text());
    Ok(values.collect())
}

/// Each broker in turn ends, stays away for a moment, and comes back in sync; where that takes
/// long, one of them, another at each turn.
async fn bounce(
    cluster: &TestCluster,
    topic: &Topic,
    (turn, action): (usize, Action),
) -> Result<(), Objection> {
    let one = turn % cluster.brokers.len();
    let brokers = match cluster.is_quick() {
        true => cluster.brokers.as_slice(),
        false => &cluster.brokers[one..=one],
    };
    for broker in brokers {
        cluster.context.act(broker.id, action).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let back = match action {
            Action::Pause => Action::Resume,
            Action::Isolate => Action::Rejoin,
            _ => Action::Start,
        };
        cluster.context.act(broker.id, back).await?;
        cluster.await_agreed(topic).await?;
    }
    Ok(())
}

async fn copy_while_brokers_bounce(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let stage = safe_stage(&cluster).await?;
    let own = &cluster.context;
    let group = own.topic_name();
    let over = AtomicBool::new(false);
    let happens = async {
        let happened = async {
            for turn in [Action::Kill, Action::Stop].into_iter().enumerate() {
                bounce(&cluster, &stage.topic, turn).await?;
            }
            Ok(())
        };
        let happened = happened.await;
        over.store(true, Ordering::Relaxed);
        happened
    };
    let (copied, happened) = tokio::join!(copy(&stage, &group, &over), happens);
    happened?;
    let copied = copied?;
    let expected: Vec<String> = (0..copied).map(|number| number.to_string()).collect();
    let seen = visible(own, &stage.topic, 0).await?;
    expect_same("what was copied", expected, seen)?;
    let read = txn_offsets::stable_offset(own, &group, &stage.topic).await?;
    expect_eq("how far the group is", copied, read)
}

/// Copies numbers, five a transaction, with how far it is, until it is over; how many there were.
async fn copy(stage: &Stage, group: &str, over: &AtomicBool) -> Result<i64, Objection> {
    let builder = patient(stage.builder_on(stage.context.client()));
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let consumers = ConsumerGroup::new(group);
    let mut next = 0_i64;
    while !over.load(Ordering::Relaxed) {
        let transaction = done("begin", transactions.begin().await)?;
        for number in next..next + 5 {
            let value = number.to_string();
            let sent = transaction.send(stage.record(0, &value)).await;
            done("a record", sent)?;
        }
        next += 5;
        let read = ConsumedOffset::next(stage.topic.name.as_str(), 0, next);
        let sent = transaction.send_offsets([read], &consumers).await;
        done("send_offsets", sent)?;
        done("commit", transaction.commit().await)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(next)
}

/// When the coordinator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begun,
    Written,
    OffsetsSent,
    Ended,
}

/// Each transaction, and the step of it at which the coordinator is killed where that takes long;
/// elsewhere it is killed at one step of each.
const TRANSACTIONS: [(&str, Step); 4] = [
    ("first", Step::Begun),
    ("dropped", Step::Written),
    ("second", Step::OffsetsSent),
    ("third", Step::Ended),
];

async fn coordinator_killed_at_each_step(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    if !cluster.is_quick() {
        return coordinator_killed(&cluster, |value, step| {
            TRANSACTIONS.contains(&(value, step))
        })
        .await;
    }
    for (_, now) in TRANSACTIONS {
        let cluster = TestCluster::start(&c, &[]).await?;
        let killed = coordinator_killed(&cluster, |_, step| step == now).await;
        killed.map_err(|objection| objection.within(format!("{now:?}")))?;
    }
    Ok(())
}

async fn coordinator_killed(
    cluster: &TestCluster,
    is_time: impl Fn(&str, Step) -> bool,
) -> Result<(), Objection> {
    let stage = safe_stage(cluster).await?;
    let own = &cluster.context;
    let id = stage.topic.name.as_str();
    let group = ConsumerGroup::new(id);
    let builder = patient(stage.builder_on(own.client()));
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let mut kept = Vec::new();
    for (value, _) in TRANSACTIONS {
        let mut killing = None;
        let mut at = async |step| {
            if is_time(value, step) {
                killing = Some(kill(cluster, id).await?);
            }
            Ok::<(), Objection>(())
        };
        let transaction = done("begin", transactions.begin().await)?;
        at(Step::Begun).await?;
        stage.write(&transaction, value).await?;
        at(Step::Written).await?;
        let read = ConsumedOffset::next(id, 1, 5);
        let sent = transaction.send_offsets([read], &group).await;
        done("send_offsets", sent)?;
        at(Step::OffsetsSent).await?;
        if value == "dropped" {
            done("abort", transaction.abort().await)?;
        } else {
            done("commit", transaction.commit().await)?;
            kept.push(value.to_owned());
        }
        at(Step::Ended).await?;
        if let Some(killing) = killing {
            let back = killing.await;
            back.map_err(|error| Objection::new("the coordinator", "is back", error))??;
            cluster.await_agreed(&stage.topic).await?;
        }
    }
    for partition in 0..2 {
        let seen = visible(own, &stage.topic, partition).await?;
        expect_same("what counts", kept.clone(), seen)?;
    }
    Ok(())
}

/// Kills the coordinator, which is started again while the transaction goes on.
async fn kill(
    cluster: &TestCluster,
    id: &str,
) -> Result<JoinHandle<Result<(), Objection>>, Objection> {
    let own = cluster.context.clone();
    let find = FindCoordinator { id: id.to_owned() };
    let mut connection = own.connect().await?;
    let version = own.version::<FindCoordinator>();
    let coordinator = connection.ask(&find, version).await?.node;
    own.act(coordinator, Action::Kill).await?;
    Ok(tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        own.act(coordinator, Action::Start).await
    }))
}

async fn mixed(c: Context) -> Result<(), Objection> {
    const KEPT_MIN: usize = 5;
    let cluster = TestCluster::start(&c, &[]).await?;
    let stage = safe_stage(&cluster).await?;
    let own = &cluster.context;
    let plain = cluster.topic(1, &SAFE).await?;
    let builder = patient(stage.builder_on(own.client()));
    let (_producer, mut transactions) = initialised(client::build(builder)?).await?;
    let over = AtomicBool::new(false);
    let transacting = async {
        let mut rng = Rng::with_seed(61);
        let mut kept = Vec::new();
        for number in 0.. {
            // A fault may hold up all others until it is over.
            if over.load(Ordering::Relaxed) && kept.len() >= KEPT_MIN {
                break;
            }
            let value = format!("v-{number:04}");
            let transaction = done("begin", transactions.begin().await)?;
            stage.write(&transaction, &value).await?;
            if rng.u8(..100) < 30 {
                done("abort", transaction.abort().await)?;
            } else {
                done("commit", transaction.commit().await)?;
                kept.push(value);
            }
        }
        Ok::<_, Objection>(kept)
    };
    let happens = async {
        let happened = async {
            let actions = [Action::Kill, Action::Pause, Action::Stop, Action::Isolate];
            for turn in actions.into_iter().enumerate() {
                bounce(&cluster, &plain, turn).await?;
                cluster.await_agreed(&stage.topic).await?;
            }
            Ok(())
        };
        let happened = happened.await;
        over.store(true, Ordering::Relaxed);
        happened
    };
    let loaded = load_while(own, &plain, |builder| builder, happens);
    let (kept, loaded) = tokio::join!(transacting, loaded);
    loaded?;
    let kept = kept?;
    for partition in 0..2 {
        let seen = visible(own, &stage.topic, partition).await?;
        expect_same("what counts", kept.clone(), seen)?;
    }
    Ok(())
}
