//! Delivery: records survive a path that keeps failing.

use std::collections::VecDeque;
use std::env;
use std::time::Duration;

use kafka_producer::{Delivery, ProduceErrorKind, Producer, Record};

use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::read::{self, ReadArguments, ReadVerdict};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "DLV-01",
        level: Level::Client,
        sentence: "records survive a path that cuts every 50th reply and closes its connection: \
                   each is written once, in order",
        source: "KIP-98; Sender.java (disconnected requests are sent again with their sequences)",
        needs: &[],
        run: |c| Box::pin(every_50th_reply_is_cut(c)),
    },
    Case {
        id: "DLV-02",
        level: Level::Client,
        sentence: "of a batch with a record that a broker refuses, that one fails for good and the \
                   others may be sent again",
        source: "KIP-467; LogValidator.java (a compacted topic takes no record without a key)",
        needs: &[],
        run: |c| Box::pin(one_bad_record(c)),
    },
];

/// How many records, unless [`RECORDS_VARIABLE`] says otherwise.
const RECORDS: u64 = 100_000;
const RECORDS_VARIABLE: &str = "CONFORMANCE_SURVIVAL_RECORDS";
const PARTITIONS: i32 = 3;
const CUT_EVERY: u64 = 50;
/// Small, for many replies.
const BATCH_BYTES: usize = 2_048;
/// Records sent and not yet awaited.
const WINDOW: usize = 10_000;

async fn every_50th_reply_is_cut(c: Context) -> Result<(), Objection> {
    let records = record_count()?;
    let topic = c.topic(PARTITIONS).await?;
    let path = c.path(Trouble::EveryReplyCut(CUT_EVERY)).await?;
    let producer = client::build(path.client().batch_size(BATCH_BYTES))?;
    send_numbers(&producer, &topic.name, records).await?;
    let closed = producer.close().await;
    closed.map_err(|error| Objection::new("close", "everything settled", error))?;
    if path.hits() == 0 {
        return Err(Objection::new("the proxy", "replies that are cut", "none"));
    }
    read_back(&c, &topic.name, records).await
}

async fn one_bad_record(c: Context) -> Result<(), Objection> {
    let topic = c.topic_with(1, &[("cleanup.policy", "compact")]).await?;
    let builder = c.client().linger(Duration::from_secs(1));
    let producer = client::build(builder)?;
    let keys = [Some("a"), None, Some("b")];
    let mut deliveries = Vec::new();
    for key in keys {
        let record = Record::to(topic.name.as_str()).value("v");
        let record = match key {
            Some(key) => record.key(key),
            None => record,
        };
        deliveries.push(client::send(&producer, record).await?);
    }
    for (key, delivery) in keys.into_iter().zip(deliveries) {
        let expected = match key {
            Some(_) => (ProduceErrorKind::RefusedWithBatch, true),
            None => (ProduceErrorKind::Refused, false),
        };
        let step = format!("the record with key {key:?}");
        match delivery.await {
            Err(error) if (error.kind(), error.may_retry()) == expected => {
                expect_eq(
                    format!("{step}: possibly written"),
                    false,
                    error.possibly_written(),
                )?;
            }
            Err(error) => return Err(Objection::new(step, format!("{expected:?}"), error)),
            Ok(written) => {
                let written = format!("{written:?}");
                return Err(Objection::new(step, format!("{expected:?}"), written));
            }
        }
    }
    for (offset, key) in (0..).zip(keys.into_iter().flatten()) {
        let again = Record::to(topic.name.as_str()).key(key).value("again");
        let delivery = client::send(&producer, again).await?;
        client::expect_delivery("sent again", delivery, Some(offset)).await?;
    }
    Ok(())
}

fn record_count() -> Result<u64, Objection> {
    match env::var(RECORDS_VARIABLE) {
        Err(_) => Ok(RECORDS),
        Ok(given) => given
            .parse()
            .map_err(|_| Objection::new(RECORDS_VARIABLE, "a number of records", given)),
    }
}

/// Each value begins with its number, as the reader expects it.
async fn send_numbers(producer: &Producer, topic: &str, records: u64) -> Result<(), Objection> {
    let mut window: VecDeque<Delivery> = VecDeque::with_capacity(WINDOW);
    for number in 0..records {
        let value = number.to_be_bytes();
        let record = Record::to(topic).value(&value);
        window.push_back(client::send(producer, record).await?);
        if window.len() == WINDOW {
            expect_written(window.pop_front()).await?;
        }
    }
    while !window.is_empty() {
        expect_written(window.pop_front()).await?;
    }
    Ok(())
}

async fn expect_written(delivery: Option<Delivery>) -> Result<(), Objection> {
    let Some(delivery) = delivery else {
        return Ok(());
    };
    match delivery.await {
        Ok(_) => Ok(()),
        Err(error) => Err(Objection::new("a delivery", "written", error)),
    }
}

/// By a reader that is independent of the producer, past the proxy.
async fn read_back(c: &Context, topic: &str, records: u64) -> Result<(), Objection> {
    let bootstrap = c.target().bootstrap();
    let bootstrap = bootstrap.first().cloned().unwrap_or_default();
    let arguments = ReadArguments {
        bootstrap,
        topic: topic.to_owned(),
        expect_records: Some(records),
    };
    match read::read(&arguments).await {
        ReadVerdict::Good { records: found, .. } => expect_eq("records", records, found),
        ReadVerdict::Bad(objection) => Err(objection.within("reading back")),
    }
}
