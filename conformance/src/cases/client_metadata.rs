//! Metadata, the client's side.
//!
//! *Source*: `Metadata.java`, `ProducerMetadata.java`, `KafkaProducer.java` waitOnMetadata of
//! Kafka's clients; KIP-899, KIP-1102.

use std::time::{Duration, Instant};

use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use kafka_producer::{Producer, ProducerBuilder, Record};

use super::client_ordering::PLACES;
use super::driven::{Driven, expect_within, requests};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::{Action, Capability};
use crate::topic::Topic;
use crate::wire::Request;
use crate::wire::admin::GrowTopic;
use crate::wire::answer::Metadata;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "MD-12",
        level: Level::Client,
        sentence: "partitions that are added are used after the next refresh, and a key then goes \
                   where the new count sends it",
        source: "ProducerMetadata.java; BuiltInPartitioner.java partitionForKey",
        needs: &[],
        run: |c| Box::pin(added_partitions(c)),
    },
    Case {
        id: "MD-14",
        level: Level::Client,
        sentence: "a thousand sends to a topic that is not known yet ask for it once at a \
                   time",
        source: "ProducerMetadata.java (one request in flight)",
        needs: &[],
        run: |c| Box::pin(many_ask_once(c)),
    },
    Case {
        id: "MD-15",
        level: Level::Client,
        sentence: "a send to a topic that never appears fails after max.block.ms",
        source: "KafkaProducer.java waitOnMetadata",
        needs: &[],
        run: |c| Box::pin(never_appears(c)),
    },
    Case {
        id: "MD-16",
        level: Level::Client,
        sentence: "with all bootstrap addresses dead a send fails in time; when they live \
                   again the same producer works",
        source: "bootstrap.servers; NetworkClient.java",
        needs: &[Capability::OwnBrokers, Capability::Restart],
        run: |c| Box::pin(dead_bootstrap(c)),
    },
    Case {
        id: "MD-20",
        level: Level::Client,
        sentence: "a topic that vanishes from metadata for a while goes on where it was",
        source: "ProducerMetadata.java; KIP-516",
        needs: &[Capability::Injection],
        run: |c| Box::pin(vanishes(c)),
    },
    Case {
        id: "MD-21",
        level: Level::Client,
        sentence: "metadata is refreshed when it is metadata.max.age.ms old, also by a \
                   producer that is idle",
        source: "Metadata.java timeToNextUpdate",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(refreshed_when_old(c)),
    },
];

async fn added_partitions(c: Context) -> Result<(), Objection> {
    let (few, many) = (2, 5);
    let topic = c.topic(few).await?;
    let builder = c.client().metadata_max_age(Duration::from_millis(200));
    // Small, so that records without a key change their partition often.
    let builder = builder.batch_size(100);
    let producer = client::build(builder)?;
    expect_places(&c, &producer, (&topic, few)).await?;
    let name = topic.name.clone();
    let grown = GrowTopic {
        name,
        partitions: many,
    };
    c.change(&grown).await?;
    let topic = c.served(&topic.name, many).await?;
    let patience = c.patience("a record without a key goes to a new partition".to_owned());
    loop {
        let record = Record::to(topic.name.as_str()).value("without a key");
        let delivery = client::send(&producer, record).await?;
        let written = delivery.await;
        let written = written.map_err(|error| Objection::new("a record", "written", error))?;
        if written.partition >= few {
            break;
        }
        patience.wait(format!("{written:?}")).await?;
    }
    expect_places(&c, &producer, (&topic, many)).await
}

/// Objects unless each key's record is written to the partition that its hash names among so many.
async fn expect_places(
    c: &Context,
    producer: &Producer,
    (topic, partitions): (&Topic, i32),
) -> Result<(), Objection> {
    for (key, hash) in PLACES {
        let record = Record::to(topic.name.as_str()).key(key).value(key);
        let written = client::send(producer, record).await?.await;
        let written = written.map_err(|error| Objection::new(key, "written", error))?;
        let expected = (hash & i32::MAX) % partitions;
        let step = format!("partition of {key} among {partitions}");
        expect_eq(step, expected, written.partition)?;
        let stored = c.records(topic, expected).await?;
        let there = stored.iter().any(|record| record.value_text() == key);
        expect_eq(format!("{key} is in the log there"), true, there)?;
    }
    Ok(())
}

async fn many_ask_once(c: Context) -> Result<(), Objection> {
    const SENDS: usize = 1_000;
    // A path of its own: no other producer is counted.
    let path = c.path(Trouble::None).await?;
    let asked = || path.asked(Metadata::API_KEY);
    let name = c.topic_name();
    let producer = client::build(path.client().max_block(Duration::from_secs(20)))?;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..SENDS {
        let (producer, name) = (producer.clone(), name.clone());
        tasks.spawn(async move {
            let value = format!("v-{index}");
            let record = Record::to(name.as_str()).partition(0).value(&value);
            producer.deliver(record).await.map(drop)
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = asked();
    c.create(&name, 1).await?;
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error| Objection::new("a send", "an end", error))?;
        ended.map_err(|error| Objection::new("a send", "written", error))?;
    }
    // Not one for each of them: about four in half a second, by the retry back-off.
    let after = asked() - before;
    let few = (1..=8).contains(&before) && after <= 12;
    expect_eq(
        format!("{before} questions and {after} more are few"),
        true,
        few,
    )?;
    let topic = c.served(&name, 1).await?;
    expect_eq("records", SENDS, c.records(&topic, 0).await?.len())
}

async fn never_appears(c: Context) -> Result<(), Objection> {
    const PATIENCE: Duration = Duration::from_millis(1_200);
    let producer = client::build(c.client().max_block(PATIENCE))?;
    let name = c.topic_name();
    let started = Instant::now();
    let sent = producer.send(Record::to(name.as_str()).value("a")).await;
    let bounds = (PATIENCE, PATIENCE + Duration::from_secs(4));
    expect_within("the wait", started.elapsed(), bounds)?;
    match sent {
        Ok(_) => Err(Objection::new(
            "a topic that is not there",
            "an error",
            "accepted",
        )),
        Err(error) => {
            let words = error.to_string();
            expect_eq(
                format!("it names the topic: {words}"),
                true,
                words.contains(&name),
            )?;
            expect_eq("possibly written", false, error.possibly_written())
        }
    }
}

async fn dead_bootstrap(c: Context) -> Result<(), Objection> {
    const PATIENCE: Duration = Duration::from_millis(1_200);
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    let producer = client::build(own.client().max_block(PATIENCE))?;
    own.act(1, Action::Kill).await?;
    let record = || Record::to(topic.name.as_str()).partition(0).value("a");
    let started = Instant::now();
    let sent = producer.send(record()).await.map(drop);
    let bounds = (PATIENCE, PATIENCE + Duration::from_secs(4));
    expect_within("the wait", started.elapsed(), bounds)?;
    expect_eq("nobody is there", true, sent.is_err())?;
    own.act(1, Action::Start).await?;
    own.await_served(&topic).await?;
    let patience = own.patience("the producer finds the broker".to_owned());
    let delivery = loop {
        match producer.send(record()).await {
            Ok(delivery) => break delivery,
            Err(error) => patience.wait(error.to_string()).await?,
        }
    };
    client::expect_delivery("a", delivery, Some(0)).await?;
    own.expect_values(&topic, 0, &["a"]).await
}

async fn vanishes(c: Context) -> Result<(), Objection> {
    let often = |builder: ProducerBuilder| builder.metadata_max_age(Duration::from_millis(50));
    let driven = Driven::start(&c, often).await?;
    let gone = Rule::on(Api::Metadata)
        .topic(driven.topic.name.as_str())
        .count(5);
    let gone = driven.inject(gone.then(Verdict::Answer(ErrorCode(3))))?;
    let mut values = Vec::new();
    for (offset, index) in (1..).zip(0..40) {
        let value = format!("v-{index}");
        let delivery = driven.send(&value).await?;
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    expect_eq("times that it was not there", 5, gone.hits())?;
    driven.expect_log(&values).await?;
    let epochs = driven
        .stored()
        .await?
        .iter()
        .filter(|one| one.stamp.epoch > 0)
        .count();
    expect_eq("batches of another epoch", 0, epochs)
}

async fn refreshed_when_old(c: Context) -> Result<(), Objection> {
    // Brokers of its own: no other producer is counted.
    let c = c.beside(1, &[]).await?;
    let age = |builder: ProducerBuilder| builder.metadata_max_age(Duration::from_millis(300));
    let driven = Driven::start(&c, age).await?;
    let before = requests(&c, Api::Metadata)?.len();
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    let asked = requests(&c, Api::Metadata)?.len() - before;
    driven.expect_log::<&str>(&[]).await?;
    expect_eq(
        format!("{asked} questions in 1.7 s"),
        true,
        (2..=6).contains(&asked),
    )
}
