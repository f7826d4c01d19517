//! Metadata that is old, and brokers that are elsewhere than it said.
//!
//! *Source*: `Metadata.java`, `NetworkClient.java` of Kafka's clients; KIP-320, KIP-1102.

use std::time::Duration;

use kafka_mockbroker::Api;
use kafka_producer::{ProducerBuilder, Record};

use super::driven::{Driven, requests};
use super::leader_changes::move_leader;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::topic::Topic;
use crate::wire::Request;
use crate::wire::answer::{ApiVersions, Metadata};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "MD-11",
        level: Level::Client,
        sentence: "metadata with an older leader epoch that comes after newer one is not followed",
        source: "Metadata.java updateLatestMetadata (leader epochs); KIP-320",
        needs: &[
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(older_epoch(c)),
    },
    Case {
        id: "MD-17",
        level: Level::Client,
        sentence: "REBOOTSTRAP_REQUIRED makes a client give up its connections and begin with its \
                   bootstrap addresses again; nothing is lost",
        source: "KIP-1102; NetworkClient.java handleCompletedMetadataResponse",
        needs: &[],
        run: |c| Box::pin(told_to_begin_anew(c)),
    },
    Case {
        id: "MD-18",
        level: Level::Client,
        sentence: "a broker that keeps its id and listens elsewhere is found there",
        source: "NetworkClient.java initiateConnect (node by id)",
        needs: &[Capability::ThreeNodes],
        run: |c| Box::pin(other_port(c)),
    },
    Case {
        id: "MD-19",
        level: Level::Client,
        sentence: "two brokers that exchange their addresses are not taken for one another",
        source: "NetworkClient.java (connections by node id); MetadataSnapshot.java",
        needs: &[Capability::ThreeNodes],
        run: |c| Box::pin(exchanged_ports(c)),
    },
];

const OFTEN: Duration = Duration::from_millis(50);

fn often(builder: ProducerBuilder) -> ProducerBuilder {
    builder.metadata_max_age(OFTEN)
}

/// Waits until so many more questions about metadata came by.
async fn await_questions(c: &Context, path: &Proxy, count: u64) -> Result<(), Objection> {
    let asked = || path.asked(Metadata::API_KEY);
    let enough = asked() + count;
    let patience = c.patience(format!("{count} questions about metadata"));
    while asked() < enough {
        patience.wait(format!("{} of {enough}", asked())).await?;
    }
    Ok(())
}

async fn older_epoch(c: Context) -> Result<(), Objection> {
    let own = c.beside(3, &[]).await?;
    let path = own.path(Trouble::None).await?;
    let topic = own.replicated_topic((1, 3), &[]).await?;
    let bootstrap = path.bootstrap().join(",");
    let driven = Driven::on(&own, topic, |builder| {
        often(builder.bootstrap_servers(bootstrap))
    });
    let driven = driven.await?;
    await_questions(&own, &path, 1).await?;
    path.remember_metadata();
    let old = leader_of(&own, &driven.topic).await?;
    let new = move_leader(&own, &driven.topic)?.0;
    // Idle, so that it learns of the new leader by metadata and by nothing else.
    await_questions(&own, &path, 3).await?;
    path.replay_metadata();
    await_questions(&own, &path, 3).await?;
    let before = requests(&own, Api::Produce)?.len();
    let mut values = Vec::new();
    for (offset, index) in (1..).zip(0..10) {
        let value = format!("v-{index}");
        client::expect_delivery(&value, driven.send(&value).await?, Some(offset)).await?;
        values.push(value);
        tokio::time::sleep(OFTEN / 2).await;
    }
    expect_eq("old metadata was told", true, path.replays() >= 3)?;
    let sent = requests(&own, Api::Produce)?;
    let brokers: Vec<i32> = sent[before..]
        .iter()
        .map(|(_, broker, _)| *broker)
        .collect();
    let expected = vec![new; values.len()];
    expect_eq(
        format!("where the batches went, once led by {old}"),
        format!("{expected:?}"),
        format!("{brokers:?}"),
    )?;
    let driven = Driven {
        topic: own.led_now(&driven.topic).await?,
        ..driven
    };
    driven.expect_log(&values).await
}

async fn told_to_begin_anew(c: Context) -> Result<(), Objection> {
    let path = c.path(Trouble::None).await?;
    let driven = Driven::behind(&c, &path, often).await?;
    let connected = || path.asked(ApiVersions::API_KEY);
    let before = connected();
    path.begin(Trouble::Rebootstraps(1));
    let patience = c.patience("new connections".to_owned());
    while path.hits() < 1 || connected() <= before {
        let seen = format!("{} told, {} connections", path.hits(), connected() - before);
        patience.wait(seen).await?;
    }
    let mut values = Vec::new();
    for (offset, (value, delivery)) in (1..).zip(driven.send_many().await?) {
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
    }
    driven.expect_log(&values).await
}

async fn other_port(c: Context) -> Result<(), Objection> {
    let path = c.path(Trouble::None).await?;
    let driven = Driven::behind(&c, &path, |builder| builder).await?;
    let leader = leader_of(&c, &driven.topic).await?;
    path.relocate(leader).await?;
    let mut values = Vec::new();
    for (offset, (value, delivery)) in (1..).zip(driven.send_many().await?) {
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
    }
    driven.expect_log(&values).await
}

async fn exchanged_ports(c: Context) -> Result<(), Objection> {
    let path = c.path(Trouble::None).await?;
    let topic = c.topic(3).await?;
    let leaders = leaders_of(&c, &topic).await?;
    let producer = client::build(path.client().batch_size(0))?;
    expect_round(&producer, &topic, 0).await?;
    let (one, other) = match leaders[..] {
        [one, other, ..] if one != other => (one, other),
        _ => {
            let seen = format!("{leaders:?}");
            return Err(Objection::new("leaders", "different ones", seen));
        }
    };
    path.exchange(one, other)?;
    for round in 1..4 {
        expect_round(&producer, &topic, round).await?;
    }
    for partition in 0..3 {
        let values: Vec<String> = (0..4).map(|round| format!("{round}-{partition}")).collect();
        c.expect_values(&topic, partition, &values).await?;
    }
    Ok(())
}

/// A record to each of three partitions is written there.
async fn expect_round(
    producer: &kafka_producer::Producer,
    topic: &Topic,
    round: i64,
) -> Result<(), Objection> {
    let mut sent = Vec::new();
    for partition in 0..3 {
        let value = format!("{round}-{partition}");
        let record = Record::to(topic.name.as_str()).partition(partition);
        sent.push((
            value.clone(),
            client::send(producer, record.value(&value)).await?,
        ));
    }
    for (value, delivery) in sent {
        client::expect_delivery(&value, delivery, Some(round)).await?;
    }
    Ok(())
}

async fn leader_of(c: &Context, topic: &Topic) -> Result<i32, Objection> {
    let leaders = leaders_of(c, topic).await?;
    let first = leaders.first().copied();
    first.ok_or_else(|| Objection::new("partition 0", "a leader", "none"))
}

/// The leaders of a topic's partitions, by partition.
async fn leaders_of(c: &Context, topic: &Topic) -> Result<Vec<i32>, Objection> {
    let answer = c.metadata(&Metadata::of(&[&topic.name])).await?;
    let rows = answer.topic(&topic.name).map(|row| row.partitions.clone());
    let mut rows = rows.unwrap_or_default();
    rows.sort_by_key(|row| row.index);
    Ok(rows.iter().map(|row| row.leader).collect())
}
