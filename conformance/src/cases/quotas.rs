//! Throttling, the client's side.
//!
//! *Source*: `NetworkClient.java` maybeThrottle; KIP-219.

use std::time::{Duration, Instant};

use kafka_mockbroker::engine::journal::Event;
use kafka_mockbroker::{Api, QuotaEntity};
use kafka_producer::{ProducerBuilder, Record};

use super::driven::{Driven, expect_within, mock};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::Capability;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "QTA-05",
        level: Level::Client,
        sentence: "a producer that is throttled sends nothing to that broker meanwhile, and \
                   goes on at another",
        source: "KIP-219; ClusterConnectionStates.java throttle",
        needs: &[
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(throttled(c)),
    },
    Case {
        id: "QTA-06",
        level: Level::Client,
        sentence: "a throttle that is longer than the request time-out ends no connection and \
                   sends nothing twice",
        source: "KIP-219; NetworkClient.java handleTimedOutRequests",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(longer_than_a_request(c)),
    },
];

const CLIENT: &str = "throttled";

fn limit(c: &Context, bytes_per_second: f64) -> Result<(), Objection> {
    let entity = QuotaEntity::client_id(CLIENT);
    let set = mock(c)?.set_quota(&entity, "producer_byte_rate", bytes_per_second);
    set.map_err(|error| Objection::new("a quota", "set", error))
}

fn named(builder: ProducerBuilder) -> ProducerBuilder {
    builder.client_id(CLIENT)
}

async fn throttled(c: Context) -> Result<(), Objection> {
    let own = c.beside(3, &[]).await?;
    let topic = own.topic(3).await?;
    let driven = Driven::on(&own, topic, named).await?;
    limit(&own, 5_000.0)?;
    // More than ten seconds' worth, so that the broker wants a pause of two seconds or so.
    let large = "x".repeat(60_000);
    client::expect_delivery("the large record", driven.send(&large).await?, Some(1)).await?;
    let leader = |partition| mock(&own).map(|it| it.partition(&driven.topic.name, partition));
    let (busy, free) = (
        leader(0)?.and_then(|it| it.leader),
        leader(1)?.and_then(|it| it.leader),
    );
    expect_eq("leaders differ", true, busy != free)?;
    let started = Instant::now();
    let record = Record::to(driven.topic.name.as_str())
        .partition(1)
        .value("free");
    let elsewhere = client::send(&driven.producer, record).await?;
    let held = driven.send("held").await?;
    client::expect_delivery("at another broker", elsewhere, Some(0)).await?;
    let soon = Duration::from_secs(1);
    expect_within(
        "at another broker",
        started.elapsed(),
        (Duration::ZERO, soon),
    )?;
    client::expect_delivery("held", held, Some(2)).await?;
    let bounds = (Duration::from_millis(1_500), Duration::from_secs(15));
    expect_within("at the broker that throttles", started.elapsed(), bounds)
}

async fn longer_than_a_request(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    let configure = |builder| named(builder).request_timeout(Duration::from_millis(500));
    let driven = Driven::on(&own, topic, configure).await?;
    limit(&own, 5_000.0)?;
    let large = "x".repeat(60_000);
    client::expect_delivery("the large record", driven.send(&large).await?, Some(1)).await?;
    let started = Instant::now();
    client::expect_delivery("held", driven.send("held").await?, Some(2)).await?;
    let bounds = (Duration::from_millis(1_500), Duration::from_secs(15));
    expect_within("the pause", started.elapsed(), bounds)?;
    let journal = mock(&own)?.journal();
    let sent = |event: &Event| matches!(event, Event::Request { id, .. } if id.api == Api::Produce);
    expect_eq(
        "requests",
        3,
        journal.iter().filter(|entry| sent(&entry.event)).count(),
    )?;
    let asked = journal.iter().filter(|entry| sent(&entry.event));
    let mut connections: Vec<_> = asked.map(|entry| entry.connection).collect();
    connections.dedup();
    expect_eq("connections", 1, connections.len())
}
