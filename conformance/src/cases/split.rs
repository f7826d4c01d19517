//! A batch that its broker refuses for its size, and what becomes of its records.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_producer::{Producer, Record};

use crate::case::Objection;
use crate::client;
use crate::context::Context;
use crate::topic::Topic;

/// What the topic takes in one batch, in bytes.
const MESSAGE_BYTES_MAX: &str = "2000";
/// Ten of them make a batch that is too large.
const VALUE_BYTES: usize = 180;
const RECORDS: usize = 60;

/// The places of records and the offsets told of them, in the order of their callbacks.
type Called = Vec<(usize, Option<i64>)>;

/// Records whose first batches were refused with 10.
pub(super) struct Split {
    pub(super) topic: Topic,
    pub(super) values: Vec<String>,
    pub(super) called: Called,
    /// Which batches were split, as the producer counts them.
    pub(super) splits: f64,
}

/// Sends batches that are larger than their topic takes, and awaits the end of their records.
pub(super) async fn split(c: &Context) -> Result<Split, Objection> {
    let topic = c
        .topic_with(1, &[("max.message.bytes", MESSAGE_BYTES_MAX)])
        .await?;
    let builder = c.client().batch_size(16_384);
    let producer = client::build(builder.linger(Duration::from_millis(200)))?;
    let called = Arc::new(Mutex::new(Vec::new()));
    let mut values = Vec::new();
    for index in 0..RECORDS {
        let value = format!("{index:03}-{}", "x".repeat(VALUE_BYTES));
        send(&producer, &topic, (index, &value), &called).await?;
        values.push(value);
    }
    let flushed = producer.flush().await;
    flushed.map_err(|error| Objection::new("flush", "all written", error))?;
    let splits = producer.metrics().value("batch-split-total");
    let called = called.lock().map(|called| called.clone());
    Ok(Split {
        topic,
        values,
        called: called.unwrap_or_default(),
        splits: splits.unwrap_or_default(),
    })
}

async fn send(
    producer: &Producer,
    topic: &Topic,
    (index, value): (usize, &str),
    called: &Arc<Mutex<Called>>,
) -> Result<(), Objection> {
    let record = Record::to(topic.name.as_str()).partition(0).value(value);
    let called = Arc::clone(called);
    let sent = producer.send_with(record, move |result| {
        let offset = result.ok().and_then(|written| written.offset);
        if let Ok(mut called) = called.lock() {
            called.push((index, offset));
        }
    });
    let sent = sent.await;
    sent.map_err(|error| Objection::new("send", "accepted", error))
}
