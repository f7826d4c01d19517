//! ApiVersions, the client's side: what it speaks with brokers that offer less.
//!
//! *Source*: `NetworkClient.java`, `NodeApiVersions.java` of Kafka's clients; KIP-35, KIP-511.

use std::time::{Duration, Instant};

use kafka_mockbroker::{Api, BrokerId};
use kafka_producer::Record;
use tokio::net::TcpListener;

use super::driven::{Driven, expect_within, mock, requests};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::Capability;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "APV-09",
        level: Level::Client,
        sentence: "a broker that offers Produce up to 7 gets 7, with the current record batch",
        source: "NodeApiVersions.java latestUsableVersion",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(older_produce(c)),
    },
    Case {
        id: "APV-10",
        level: Level::Client,
        sentence: "a broker without a Produce version in common gets no Produce, and the \
                   record fails with words that say so",
        source: "NodeApiVersions.java (UnsupportedVersionException)",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(no_common_produce(c)),
    },
    Case {
        id: "APV-11",
        level: Level::Client,
        sentence: "a broker that answers 35 to ApiVersions is asked again in a version that \
                   it named",
        source: "KIP-511; NetworkClient.java handleApiVersionsResponse",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(older_api_versions(c)),
    },
    Case {
        id: "APV-14",
        level: Level::Client,
        sentence: "two brokers with different ranges are each spoken to in their own",
        source: "NodeApiVersions.java (per connection)",
        needs: &[
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(two_ranges(c)),
    },
    Case {
        id: "APV-16",
        level: Level::Client,
        sentence: "a bootstrap address that never answers ApiVersions is given up for the \
                   next one",
        source: "NetworkClient.java handleTimedOutRequests; bootstrap.servers",
        needs: &[],
        run: |c| Box::pin(mute_bootstrap(c)),
    },
];

/// What the first broker of `c` is made to offer.
fn restrict(c: &Context, api: Api, (min, max): (i16, i16)) -> Result<(), Objection> {
    let restricted = mock(c)?.restrict_versions(BrokerId(1), api, min, max);
    restricted.map_err(|error| Objection::new("restrict versions", "done", error))
}

/// The versions of an API that broker `id` was asked in, each once.
fn versions(c: &Context, api: Api, id: i32) -> Result<String, Objection> {
    let asked = requests(c, api)?
        .into_iter()
        .filter(|(_, broker, _)| *broker == id);
    let mut versions: Vec<i16> = asked.map(|(_, _, version)| version).collect();
    versions.sort_unstable();
    versions.dedup();
    Ok(format!("{versions:?}"))
}

async fn older_produce(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    restrict(&own, Api::Produce, (3, 7))?;
    let driven = Driven::on(&own, topic, |builder| builder).await?;
    client::expect_delivery("a", driven.send("a").await?, Some(1)).await?;
    driven.expect_log(&["a"]).await?;
    expect_eq(
        "versions",
        "[7]".to_owned(),
        versions(&own, Api::Produce, 1)?,
    )
}

async fn no_common_produce(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    restrict(&own, Api::Produce, (0, 2))?;
    let builder = own.client().max_block(Duration::from_secs(2));
    let builder = builder.request_timeout(Duration::from_secs(1));
    let producer = client::build(builder.delivery_timeout(Duration::from_secs(3)))?;
    let record = Record::to(topic.name.as_str()).partition(0).value("a");
    let error = match producer.deliver(record).await {
        Ok(written) => return Err(Objection::new("a", "an error", format!("{written:?}"))),
        Err(error) => error,
    };
    expect_eq("Produce requests", 0, requests(&own, Api::Produce)?.len())?;
    expect_eq("possibly written", false, error.possibly_written())?;
    let words = format!("{error} {:?}", error.failure()).to_lowercase();
    expect_eq(
        format!("it says why: {words}"),
        true,
        words.contains("version"),
    )
}

async fn older_api_versions(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    restrict(&own, Api::ApiVersions, (0, 2))?;
    let before = requests(&own, Api::ApiVersions)?.len();
    let driven = Driven::on(&own, topic, |builder| builder).await?;
    driven.expect_log::<&str>(&[]).await?;
    let asked = requests(&own, Api::ApiVersions)?;
    let asked: Vec<i16> = asked[before..]
        .iter()
        .map(|(_, _, version)| *version)
        .collect();
    let older = asked
        .iter()
        .filter(|version| (0..=2).contains(*version))
        .count();
    expect_eq(
        format!("asked again in one of 0 to 2: {asked:?}"),
        true,
        older > 0,
    )
}

async fn two_ranges(c: Context) -> Result<(), Objection> {
    let own = c.beside(3, &[]).await?;
    let topic = own.topic(3).await?;
    restrict(&own, Api::Produce, (3, 8))?;
    let driven = Driven::on(&own, topic, |builder| builder).await?;
    for partition in 0..3 {
        let record = Record::to(driven.topic.name.as_str())
            .partition(partition)
            .value("a");
        let delivery = client::send(&driven.producer, record).await?;
        let offset = Some(i64::from(partition == 0));
        client::expect_delivery("a", delivery, offset).await?;
    }
    expect_eq(
        "the first broker",
        "[8]".to_owned(),
        versions(&own, Api::Produce, 1)?,
    )?;
    for id in [2, 3] {
        let seen = versions(&own, Api::Produce, id)?;
        expect_eq(format!("broker {id}"), "[13]".to_owned(), seen)?;
    }
    Ok(())
}

async fn mute_bootstrap(c: Context) -> Result<(), Objection> {
    let nobody = |error: std::io::Error| Objection::new("listen", "a port", error);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(nobody)?;
    let mute = listener.local_addr().map_err(nobody)?.to_string();
    let topic = c.topic(1).await?;
    let mut addresses = vec![mute];
    addresses.extend(c.target().bootstrap());
    let builder = c.client().bootstrap_servers(addresses.join(","));
    let builder = builder.request_timeout(Duration::from_secs(1));
    let producer = client::build(builder.max_block(Duration::from_secs(20)))?;
    let started = Instant::now();
    let record = Record::to(topic.name.as_str()).partition(0).value("a");
    let delivery = client::send(&producer, record).await?;
    client::expect_delivery("a", delivery, Some(0)).await?;
    let at_most = Duration::from_secs(15);
    expect_within("its way", started.elapsed(), (Duration::ZERO, at_most))?;
    c.expect_values(&topic, 0, &["a"]).await
}
