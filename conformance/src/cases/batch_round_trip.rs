//! Record batches, the client's side: what this project's producer writes, read and built by others.

use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::Verdict;
use kafka_producer::Record;

use super::driven::Driven;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::Capability;
use crate::wire::batch::{BatchSpec, RecordSpec};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "RBV-29",
        level: Level::Client,
        sentence: "records of any shape are read back by another decoder as they were sent",
        source: "DefaultRecordBatch.java, DefaultRecord.java",
        needs: &[],
        run: |c| Box::pin(any_shape(c)),
    },
    Case {
        id: "RBV-30",
        level: Level::Client,
        sentence: "the records of a batch are byte for byte those of another encoder",
        source: "DefaultRecord.java writeTo",
        needs: &[Capability::Injection],
        run: |c| Box::pin(same_bytes(c)),
    },
];

/// A shape drawn from a seed: nulls, empty ones, headers that repeat, all sizes.
fn draw(random: &mut fastrand::Rng) -> RecordSpec {
    let mut bytes = |most: usize| match random.u8(..4) {
        0 => None,
        1 => Some(Bytes::new()),
        _ => {
            let length = random.usize(1..most);
            Some((0..length).map(|_| random.u8(..)).collect::<Bytes>())
        }
    };
    let (key, value) = (bytes(40), bytes(2_000));
    let headers = (0..3).map(|_| bytes(30)).collect::<Vec<_>>();
    let names = ["a", "", "a", "ä"];
    let headers = headers.into_iter().enumerate();
    let headers = headers
        .map(|(at, value)| (names[at].to_owned(), value))
        .collect();
    RecordSpec {
        key,
        value,
        headers,
    }
}

fn record<'a>(topic: &'a str, spec: &'a RecordSpec, timestamp_ms: i64) -> Record<'a, &'a str> {
    let mut record = Record::to(topic).partition(0).timestamp_ms(timestamp_ms);
    if let Some(key) = &spec.key {
        record = record.key(key);
    }
    if let Some(value) = &spec.value {
        record = record.value(value);
    }
    for (name, value) in &spec.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.nullable_header(name, None),
        };
    }
    record
}

async fn any_shape(c: Context) -> Result<(), Objection> {
    const MANY: usize = 300;
    let topic = c.topic(1).await?;
    let producer = client::build(c.client())?;
    let mut random = fastrand::Rng::with_seed(29);
    let specs: Vec<RecordSpec> = (0..MANY).map(|_| draw(&mut random)).collect();
    let started = c.now_ms();
    let mut deliveries = Vec::new();
    for (spec, at) in specs.iter().zip(started..) {
        let sent = client::send(&producer, record(&topic.name, spec, at)).await?;
        deliveries.push(sent);
    }
    for (offset, delivery) in (0..).zip(deliveries) {
        client::expect_delivery("a record", delivery, Some(offset)).await?;
    }
    let stored = c.records(&topic, 0).await?;
    expect_eq("records", MANY, stored.len())?;
    for ((spec, at), stored) in specs.iter().zip(started..).zip(stored) {
        let sent = format!("{at} {spec:?}");
        let found = stored.content;
        expect_eq(
            "a record",
            sent,
            format!("{} {found:?}", stored.timestamp_ms),
        )?;
    }
    Ok(())
}

async fn same_bytes(c: Context) -> Result<(), Objection> {
    const MANY: usize = 20;
    let configure = |builder: kafka_producer::ProducerBuilder| {
        builder.batch_size(1 << 20).linger(Duration::from_secs(20))
    };
    let configure = |builder| configure(builder).delivery_timeout(Duration::from_secs(60));
    let driven = Driven::start(&c, configure).await?;
    let same = Verdict::Delay(Duration::ZERO);
    let guard = driven.inject(driven.produce().count(1).then(same))?;
    let mut random = fastrand::Rng::with_seed(30);
    let specs: Vec<RecordSpec> = (0..MANY).map(|_| draw(&mut random)).collect();
    let at = c.now_ms();
    for spec in &specs {
        drop(client::send(&driven.producer, record(&driven.topic.name, spec, at)).await?);
    }
    let flushed = driven.producer.flush().await;
    flushed.map_err(|error| Objection::new("flush", "done", error))?;
    let stored = driven.stored().await?;
    let stamp = match stored.as_slice() {
        [batch] => batch.stamp,
        other => return Err(Objection::new("batches", 1, other.len())),
    };
    let sent = guard
        .requests()
        .into_iter()
        .find_map(|request| request.frame);
    let sent = sent.map(|frame| frame.to_vec()).unwrap_or_default();
    let expected = BatchSpec::of(specs, at).stamped(stamp).encode();
    let found = sent.windows(expected.len()).any(|part| part == expected);
    expect_eq("the request holds the other encoder's batch", true, found)
}
