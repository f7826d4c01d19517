//! Ordering: records of one partition stand in the order in which they were sent.

use std::collections::BTreeMap;

use kafka_producer::{Delivery, Record};

use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;

pub(super) const CASES: &[Case] = &[Case {
    id: "ORD-01",
    level: Level::Client,
    sentence: "100,000 records over 8 partitions are written once each, in the order of sending",
    source: "KafkaProducer.java (enable.idempotence); KIP-98",
    needs: &[],
    run: |c| Box::pin(order_of_sending(c)),
}];

const RECORDS: usize = 100_000;
const PARTITIONS: i32 = 8;
const KEYS: usize = 97;

async fn order_of_sending(c: Context) -> Result<(), Objection> {
    let topic = c.topic(PARTITIONS).await?;
    let producer = client::build(c.client())?;
    // By partition: what was sent, in that order.
    let mut sent: BTreeMap<i32, Vec<(String, Delivery)>> = BTreeMap::new();
    for index in 0..RECORDS {
        let (key, value) = (format!("key-{}", index % KEYS), format!("v-{index}"));
        let record = Record::to(topic.name.as_str()).key(&key).value(&value);
        let delivery = client::send(&producer, record).await?;
        sent.entry(delivery.partition())
            .or_default()
            .push((value, delivery));
    }
    let used: Vec<i32> = sent.keys().copied().collect();
    let all: Vec<i32> = (0..PARTITIONS).collect();
    expect_eq(
        "partitions of 97 keys",
        format!("{all:?}"),
        format!("{used:?}"),
    )?;
    for (partition, records) in sent {
        let mut values = Vec::with_capacity(records.len());
        for (offset, (value, delivery)) in (0..).zip(records) {
            let step = format!("{value} in partition {partition}");
            client::expect_delivery(&step, delivery, Some(offset)).await?;
            values.push(value);
        }
        c.expect_values(&topic, partition, &values).await?;
    }
    Ok(())
}
