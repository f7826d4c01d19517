//! Produce, the client's side.
//!
//! *Source*: `Sender.java`, `ProducerBatch.java` of Kafka's clients.

use kafka_mockbroker::{ErrorCode, Verdict};
use kafka_producer::Record;

use super::driven::{Certainty, failure, outlive};
use super::split::split;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::Capability;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "PRD-10",
        level: Level::Client,
        sentence: "20 after the append is retried by an idempotent producer, and one copy \
                   stands at the offset of the first append",
        source: "Sender.java canRetry; ReplicaManager.scala (NOT_ENOUGH_REPLICAS_AFTER_APPEND)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(too_few_after_the_append(c)),
    },
    Case {
        id: "PRD-31",
        level: Level::Client,
        sentence: "a batch of many records that the broker refuses with 10 is split until its \
                   parts fit, and all of them are stored in order",
        source: "Sender.java completeBatch; RecordAccumulator.java splitAndReenqueue; \
                 max.message.bytes",
        needs: &[],
        run: |c| Box::pin(many_records_too_large(c)),
    },
    Case {
        id: "PRD-32",
        level: Level::Client,
        sentence: "a single record that the broker refuses with 10 fails alone; what was sent \
                   around it is written",
        source: "Sender.java completeBatch (MESSAGE_TOO_LARGE); max.message.bytes",
        needs: &[],
        run: |c| Box::pin(single_record_too_large(c)),
    },
];

async fn too_few_after_the_append(c: Context) -> Result<(), Objection> {
    let fault = Verdict::ApplyThenAnswer(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    outlive(&c, fault, 2).await?.expect_offsets()
}

async fn many_records_too_large(c: Context) -> Result<(), Objection> {
    let split = split(&c).await?;
    let seen = format!("{} batches were split", split.splits);
    expect_eq(seen, true, split.splits >= 1.0)?;
    let mut told: Vec<_> = split.called.clone();
    told.sort_unstable();
    let expected: Vec<_> = (0..split.values.len()).zip((0..).map(Some)).collect();
    expect_eq("offsets told", format!("{expected:?}"), format!("{told:?}"))?;
    c.expect_values(&split.topic, 0, &split.values).await
}

async fn single_record_too_large(c: Context) -> Result<(), Objection> {
    let topic = c.topic_with(1, &[("max.message.bytes", "2000")]).await?;
    let producer = client::build(c.client().batch_size(0))?;
    let large = "x".repeat(5_000);
    let mut sent = Vec::new();
    for value in ["before", &large, "after"] {
        let record = Record::to(topic.name.as_str()).partition(0).value(value);
        sent.push(client::send(&producer, record).await?);
    }
    let [before, refused, after] =
        <[_; 3]>::try_from(sent).map_err(|sent| Objection::new("sends", 3, sent.len()))?;
    client::expect_delivery("before", before, Some(0)).await?;
    let (certainty, error) = failure("the large record", refused).await?;
    expect_eq("it is in no log", true, certainty == Certainty::NotWritten)?;
    let code = error.broker_code().map(|code| code.0);
    expect_eq("code", "Some(10)".to_owned(), format!("{code:?}"))?;
    client::expect_delivery("after", after, Some(1)).await?;
    c.expect_values(&topic, 0, &["before", "after"]).await
}
