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
use crate::wire::admin::SetQuota;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "QTA-05",
        level: Level::Client,
        sentence: "a producer that is throttled sends nothing to that broker meanwhile, and \
                   goes on at another",
        source: "KIP-219; ClusterConnectionStates.java throttle",
        needs: &[],
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
    Case {
        id: "QTA-07",
        level: Level::Client,
        sentence: "for how long a broker throttles a producer stands in its metrics",
        source: "SenderMetricsRegistry.java (produce-throttle-time-avg, -max)",
        needs: &[],
        run: |c| Box::pin(throttle_in_metrics(c)),
    },
];

const CLIENT: &str = "throttled";
/// More than ten seconds' worth, so that the broker wants a pause of two seconds or so.
const BYTES_PER_SECOND: f64 = 5_000.0;
const LARGE_BYTES: usize = 60_000;

fn limit(c: &Context, bytes_per_second: f64) -> Result<(), Objection> {
    let entity = QuotaEntity::client_id(CLIENT);
    let set = mock(c)?.set_quota(&entity, "producer_byte_rate", bytes_per_second);
    set.map_err(|error| Objection::new("a quota", "set", error))
}

fn named(builder: ProducerBuilder) -> ProducerBuilder {
    builder.client_id(CLIENT)
}

/// A producer that is throttled now, and since when; partition 0 is led by the broker that does it.
async fn throttled_producer(c: &Context) -> Result<(Driven, i64, Instant), Objection> {
    let topic = c.topic(3).await?;
    // No other run or case has it.
    let client_id = topic.name.clone();
    let quota = SetQuota {
        client_id: client_id.clone(),
        key: "producer_byte_rate",
        value: BYTES_PER_SECOND,
    };
    c.change(&quota).await?;
    let driven = Driven::on(c, topic, |builder| builder.client_id(client_id)).await?;
    let large = "x".repeat(LARGE_BYTES);
    // Brokers hear of a quota a moment after it was set.
    let patience = c.patience("a throttle".to_owned());
    let mut offset = 1;
    loop {
        let sent = driven.send(&large).await?;
        client::expect_delivery("a large record", sent, Some(offset)).await?;
        offset += 1;
        if throttle_ms_max(&driven) > 0.0 {
            return Ok((driven, offset, Instant::now()));
        }
        patience.wait("none".to_owned()).await?;
    }
}

fn throttle_ms_max(driven: &Driven) -> f64 {
    let told = driven.producer.metrics().value("produce-throttle-time-max");
    told.filter(|value| value.is_finite()).unwrap_or_default()
}

async fn throttled(c: Context) -> Result<(), Objection> {
    let (driven, offset, since) = throttled_producer(&c).await?;
    let throttle = Duration::from_secs_f64(throttle_ms_max(&driven) / 1_000.0);
    let topic = &driven.topic;
    let others = (1..3).filter(|&other| topic.leader_of(other) != topic.leader_of(0));
    let elsewhere = match others.into_iter().next() {
        Some(other) => {
            let record = Record::to(topic.name.as_str()).partition(other);
            Some(client::send(&driven.producer, record.value("free")).await?)
        }
        None => None,
    };
    let held = driven.send("held").await?;
    if let Some(elsewhere) = elsewhere {
        client::expect_delivery("at another broker", elsewhere, Some(0)).await?;
        let soon = throttle / 2;
        expect_within("at another broker", since.elapsed(), (Duration::ZERO, soon))?;
    }
    client::expect_delivery("held", held, Some(offset)).await?;
    let bounds = (throttle.mul_f64(0.95), throttle + Duration::from_secs(15));
    expect_within("at the broker that throttles", since.elapsed(), bounds)?;
    let stored = c.records(&driven.topic, 0).await?;
    expect_eq(
        "records",
        offset + 1,
        i64::try_from(stored.len()).unwrap_or_default(),
    )
}

async fn throttle_in_metrics(c: Context) -> Result<(), Objection> {
    let (driven, offset, since) = throttled_producer(&c).await?;
    let told = |name: &'static str| {
        let value = driven.producer.metrics().value(name);
        value.ok_or_else(|| Objection::new(name, "a metric of this name", "none"))
    };
    let (average, longest) = (
        told("produce-throttle-time-avg")?,
        told("produce-throttle-time-max")?,
    );
    expect_eq(
        format!("the mean, {average} ms, is at most the longest, {longest} ms"),
        true,
        0.0 < average && average <= longest,
    )?;
    client::expect_delivery("held", driven.send("held").await?, Some(offset)).await?;
    let waited = since.elapsed();
    let least = Duration::from_secs_f64(longest / 1_000.0).mul_f64(0.95);
    expect_within(
        "what was told was waited",
        waited,
        (least, Duration::from_secs(30)),
    )?;
    let stored = c.records(&driven.topic, 0).await?;
    expect_eq(
        "records",
        offset + 1,
        i64::try_from(stored.len()).unwrap_or_default(),
    )
}

async fn longer_than_a_request(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    let configure = |builder| named(builder).request_timeout(Duration::from_millis(500));
    let driven = Driven::on(&own, topic, configure).await?;
    limit(&own, BYTES_PER_SECOND)?;
    let large = "x".repeat(LARGE_BYTES);
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
