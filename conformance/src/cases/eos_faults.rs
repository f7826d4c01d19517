//! Exactly once under faults, without transactions: what is acknowledged is in the log once and in
//! order, whatever the network and the brokers do.
//!
//! *Source*: KIP-98, KIP-951; Kafka's `ReplicaManager`, `ProducerStateManager`.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_producer::ProducerBuilder;

use super::cluster::{SAFE, TestCluster, await_leader};
use super::driven::Driven;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::{Action, Capability};
use crate::topic::Topic;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "EOS-01",
        level: Level::Client,
        sentence: "with a tenth of the answers and a twentieth of the requests lost, ten thousand \
                   records are written once each, in order",
        source: "KIP-98; ProducerStateManager.java",
        needs: &[],
        run: |c| Box::pin(lossy_network(c)),
    },
    Case {
        id: "EOS-02",
        level: Level::Client,
        sentence: "a leader that is killed five times loses no acknowledged record and copies none",
        source: "KIP-98; acks=all with min.insync.replicas 2",
        needs: &[
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(leader_killed(c)),
    },
    Case {
        id: "EOS-03",
        level: Level::Client,
        sentence: "a leader that stands still for longer than its session loses no acknowledged \
                   record and copies none",
        source: "KIP-98; BrokerHeartbeatManager.java",
        needs: &[
            Capability::OwnBrokers,
            Capability::Pause,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(leader_paused(c)),
    },
    Case {
        id: "EOS-04",
        level: Level::Client,
        sentence: "a network that lets nothing through to the leader, nothing back, or neither, \
                   loses no record and copies none",
        source: "KIP-98; NetworkClient.java handleTimedOutRequests",
        needs: &[],
        run: |c| Box::pin(cut_off_from_the_leader(c)),
    },
    Case {
        id: "EOS-05",
        level: Level::Client,
        sentence: "a leader that is cut off from its followers and not from the client \
                   acknowledges nothing that is then lost",
        source: "ReplicaManager.scala (acks=all waits for the in-sync set)",
        needs: &[
            Capability::Isolation,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(cut_off_from_followers(c)),
    },
];

async fn lossy_network(c: Context) -> Result<(), Objection> {
    const RECORDS: usize = 10_000;
    let soon = Duration::from_millis(5);
    let path = c.path(Trouble::None).await?;
    let bootstrap = path.bootstrap().join(",");
    let configure = |builder: ProducerBuilder| {
        let builder = builder.bootstrap_servers(bootstrap).batch_size(300);
        let builder = builder.retry_backoff(soon).retry_backoff_max(soon);
        let builder = builder.reconnect_backoff(soon).reconnect_backoff_max(soon);
        builder.delivery_timeout(Duration::from_secs(60))
    };
    let driven = Driven::start(&c, configure).await?;
    path.begin(Trouble::Lossy {
        replies: 10,
        requests: 5,
        seed: 29,
    });
    let mut values = Vec::new();
    let mut deliveries = Vec::new();
    for index in 0..RECORDS {
        let value = format!("v-{index}");
        deliveries.push(driven.send(&value).await?);
        values.push(value);
    }
    for (offset, delivery) in (1..).zip(deliveries) {
        client::expect_delivery("a record", delivery, Some(offset)).await?;
    }
    expect_eq("requests and answers were lost", true, path.hits() > 20)?;
    path.end_trouble();
    driven.expect_log(&values).await
}

/// Sends a record every few milliseconds for as long as something happens; all are written once
/// and in order.
pub(super) async fn load_while(
    c: &Context,
    topic: &Topic,
    configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    happens: impl Future<Output = Result<(), Objection>>,
) -> Result<(), Objection> {
    let configure = |builder: ProducerBuilder| {
        let builder = builder.delivery_timeout(Duration::from_secs(60));
        configure(builder)
    };
    let driven = Driven::on(c, topic.clone(), configure).await?;
    let over = AtomicBool::new(false);
    let sending = async {
        let mut sent = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let value = format!("v-{}", sent.len());
            let delivery = driven.send(&value).await?;
            sent.push((value, delivery));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Objection>(sent)
    };
    let happening = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let happened = happens.await;
        over.store(true, Ordering::Relaxed);
        happened
    };
    let (sent, happened) = tokio::join!(sending, happening);
    happened?;
    let mut values = vec!["known".to_owned()];
    for (offset, (value, delivery)) in (1..).zip(sent?) {
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
    }
    let topic = c.led_now(topic).await?;
    c.await_served(&topic).await?;
    c.expect_values(&topic, 0, &values).await
}

/// Does something to the leader, waits until another leads, takes it back, and waits until all
/// are in sync.
async fn another_leads(
    cluster: &TestCluster,
    topic: &Topic,
    (action, back): (Action, Action),
) -> Result<(), Objection> {
    let (leader, _) = cluster.leadership(topic, &[]).await?;
    cluster.context.act(leader, action).await?;
    let is_another = |other| other >= 0 && other != leader;
    let down = [leader];
    let another = await_leader(cluster, topic, &down, is_another);
    let moment = Duration::from_millis(300);
    if back == Action::Start {
        // While it starts another leads: it is another process.
        let back = async {
            tokio::time::sleep(moment).await;
            cluster.context.act(leader, back).await
        };
        let (another, back) = tokio::join!(another, back);
        another?;
        back?;
    } else {
        another.await?;
        // For whoever still writes to the one that leads no more.
        tokio::time::sleep(moment).await;
        cluster.context.act(leader, back).await?;
    }
    cluster.await_agreed(topic).await?;
    Ok(())
}

async fn leader_killed(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let happens = async {
        for _ in 0..5 {
            another_leads(&cluster, &topic, (Action::Kill, Action::Start)).await?;
        }
        Ok(())
    };
    load_while(&cluster.context, &topic, |builder| builder, happens).await
}

async fn leader_paused(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let happens = another_leads(&cluster, &topic, (Action::Pause, Action::Resume));
    load_while(&cluster.context, &topic, |builder| builder, happens).await
}

async fn cut_off_from_the_leader(c: Context) -> Result<(), Objection> {
    const ALL: u64 = 1_000_000;
    for trouble in [Trouble::RequestsSwallowed(ALL), Trouble::RepliesKept(ALL)] {
        let path = c.path(Trouble::None).await?;
        let topic = c.topic(1).await?;
        let happens = async {
            path.begin(trouble);
            tokio::time::sleep(Duration::from_secs(3)).await;
            expect_eq("something was lost", true, path.hits() > 0)?;
            path.end_trouble();
            Ok(())
        };
        let bootstrap = path.bootstrap().join(",");
        let configure = |builder: ProducerBuilder| builder.bootstrap_servers(bootstrap);
        load_while(&c, &topic, configure, happens).await?;
    }
    Ok(())
}

async fn cut_off_from_followers(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let happens = another_leads(&cluster, &topic, (Action::Isolate, Action::Rejoin));
    load_while(&cluster.context, &topic, |builder| builder, happens).await
}
