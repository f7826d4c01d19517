//! Leaders that are not there yet, or not any more, and paths to them that break.
//!
//! *Source*: `Sender.java`, `Metadata.java`, `NetworkClient.java` of Kafka's clients.

use std::time::{Duration, Instant};

use kafka_producer::{ProducerBuilder, Record};

use super::driven::{Driven, expect_within, failure, outlive_trouble};
use super::leader_changes::passing;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::topic::Topic;
use crate::wire::admin::DeleteTopic;
use crate::wire::answer::Metadata;
use crate::wire::error_code::ErrorCode;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "LDR-06",
        level: Level::Client,
        sentence: "3 in the first moments of a topic is retried",
        source: "Sender.java completeBatch (UNKNOWN_TOPIC_OR_PARTITION)",
        needs: &[],
        run: |c| Box::pin(new_topics(c)),
    },
    Case {
        id: "LDR-13",
        level: Level::Client,
        sentence: "a connection that is reset with half a Produce request on it is replaced, and \
                   what was on it sent again",
        source: "NetworkClient.java processDisconnection",
        needs: &[],
        run: |c| Box::pin(reset(c)),
    },
    Case {
        id: "LDR-14",
        level: Level::Client,
        sentence: "a connection that swallows what is sent is given up at the request time-out \
                   and replaced",
        source: "NetworkClient.java handleTimedOutRequests",
        needs: &[],
        run: |c| Box::pin(half_open(c)),
    },
    Case {
        id: "LDR-19",
        level: Level::Client,
        sentence: "a topic that is deleted under load fails with its delivery time-out, and \
                   another goes on",
        source: "Sender.java failBatch; Metadata.java",
        needs: &[],
        run: |c| Box::pin(deleted_topic(c)),
    },
];

/// Topics that are sent to as soon as they were asked for: brokers do not know all of them yet.
async fn new_topics(c: Context) -> Result<(), Objection> {
    const TOPICS: usize = 10;
    let producer = client::build(c.client())?;
    let mut sent = Vec::new();
    for _ in 0..TOPICS {
        let name = c.topic_name();
        c.create(&name, 1).await?;
        let record = Record::to(name.as_str()).partition(0).value("first");
        let delivery = client::send(&producer, record).await?;
        sent.push((name, delivery));
    }
    for (name, delivery) in sent {
        client::expect_delivery(&name, delivery, Some(0)).await?;
        let topic = c.served(&name, 1).await?;
        c.expect_values(&topic, 0, &["first"]).await?;
    }
    let injection = c.target().capabilities();
    match injection.first_missing(&[Capability::Injection]) {
        None => passing(c, (3, 3)).await,
        Some(_) => Ok(()),
    }
}

async fn reset(c: Context) -> Result<(), Objection> {
    let path = outlive_trouble(&c, Trouble::RequestsCut(2)).await?;
    expect_eq("resets", 2, path.hits())
}

async fn half_open(c: Context) -> Result<(), Objection> {
    let started = Instant::now();
    let path = outlive_trouble(&c, Trouble::RequestsSwallowed(1)).await?;
    expect_eq("connections that swallow", 1, path.hits())?;
    // The request time-out is a second here.
    let bounds = (Duration::from_secs(1), Duration::from_secs(15));
    expect_within("with one time-out", started.elapsed(), bounds)
}

async fn deleted_topic(c: Context) -> Result<(), Objection> {
    let configure = |builder: ProducerBuilder| builder.delivery_timeout(Duration::from_secs(5));
    let other = c.topic(1).await?;
    let driven = Driven::start(&c, configure).await?;
    let name = driven.topic.name.clone();
    c.change(&DeleteTopic { name }).await?;
    await_gone(&c, &driven.topic).await?;
    let lost = driven.send("lost").await?;
    for offset in 0..3 {
        let record = Record::to(other.name.as_str()).partition(0).value("free");
        let delivery = client::send(&driven.producer, record).await?;
        client::expect_delivery("another topic", delivery, Some(offset)).await?;
    }
    let (_, error) = failure("to the deleted topic", lost).await?;
    expect_eq(
        "whose record it was",
        driven.topic.name.as_str(),
        error.topic(),
    )?;
    c.expect_values(&other, 0, &["free", "free", "free"]).await
}

/// Waits until brokers do not know a topic any more; for a moment they still take its records.
async fn await_gone(c: &Context, topic: &Topic) -> Result<(), Objection> {
    let patience = c.patience(format!("{} is gone", topic.name));
    loop {
        let answer = c.metadata(&Metadata::of(&[&topic.name])).await?;
        let code = answer.topic(&topic.name).map(|row| row.error);
        if code == Some(ErrorCode(3)) {
            return Ok(());
        }
        patience.wait(format!("Metadata: code {code:?}")).await?;
    }
}
