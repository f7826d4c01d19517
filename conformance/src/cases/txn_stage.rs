//! What cases about the client's transactions share: a topic, producers for it, and what counts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kafka_producer::{
    CommitError, Misuse, Producer, ProducerBuilder, Record, Transaction, TransactionError,
    TransactionErrorKind, Transactions,
};

use crate::case::{Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::topic::Topic;
use crate::wire::records::StoredBatch;

/// `max.block.ms` of producers that nothing is to hold up. A machine may stand still for a while:
/// a case ends before this time-out has a say in what a client is told, or hardly after it.
pub(super) const IN_TIME: Duration = Duration::from_secs(75);

/// A topic of two partitions, and what its producers are built from.
pub(super) struct Stage {
    pub(super) context: Context,
    pub(super) topic: Topic,
}

impl Stage {
    pub(super) async fn set(c: &Context) -> Result<Self, Objection> {
        let topic = c.topic(2).await?;
        let context = c.clone();
        Ok(Self { context, topic })
    }

    /// A builder whose transactional id is the topic's name.
    pub(super) fn builder(&self) -> ProducerBuilder {
        self.builder_on(self.context.client())
    }

    /// The same on another path.
    pub(super) fn builder_on(&self, path: ProducerBuilder) -> ProducerBuilder {
        path.max_block(IN_TIME).transactional_id(&self.topic.name)
    }

    pub(super) async fn start(&self) -> Result<(Producer, Transactions), Objection> {
        initialised(client::build(self.builder())?).await
    }

    pub(super) fn record<'a>(&'a self, partition: i32, value: &'a str) -> Record<'a, &'a str> {
        let record = Record::to(self.topic.name.as_str());
        record.partition(partition).value(value)
    }

    /// Writes one record to each partition.
    pub(super) async fn write(
        &self,
        transaction: &Transaction<'_>,
        value: &str,
    ) -> Result<(), Objection> {
        for partition in 0..2 {
            let written = transaction.deliver(self.record(partition, value)).await;
            written.map_err(|error| Objection::new("deliver", "written", error))?;
        }
        Ok(())
    }

    /// Objects unless both partitions hold these records that count, once all markers are there.
    pub(super) async fn expect_committed(&self, expected: &[&str]) -> Result<(), Objection> {
        for partition in 0..2 {
            self.expect_committed_of(partition, expected).await?;
        }
        Ok(())
    }

    /// The same of one partition.
    pub(super) async fn expect_committed_of(
        &self,
        partition: i32,
        expected: &[&str],
    ) -> Result<(), Objection> {
        let read = self.committed(partition).await?;
        let step = format!("committed in partition {partition}");
        expect_eq(step, format!("{expected:?}"), format!("{read:?}"))
    }

    /// The records of a partition that count, once all markers are there: they are written after
    /// the end is answered.
    pub(super) async fn committed(&self, partition: i32) -> Result<Vec<String>, Objection> {
        let context = &self.context;
        let patience = context.patience("every transaction has its marker".to_owned());
        loop {
            let batches = context.batches(&self.topic, partition).await?;
            if let Some(committed) = committed(&batches) {
                return Ok(committed);
            }
            let seen = format!("{} batches, some without", batches.len());
            patience.wait(seen).await?;
        }
    }
}

pub(super) async fn initialised(producer: Producer) -> Result<(Producer, Transactions), Objection> {
    let transactions = done("init_transactions", producer.init_transactions().await)?;
    Ok((producer, transactions))
}

pub(super) fn done<T, E: fmt::Display>(step: &str, result: Result<T, E>) -> Result<T, Objection> {
    result.map_err(|error| Objection::new(step, "done", error))
}

/// The values that count: those before a commit marker of their producer. `None` while some have
/// no marker.
pub(super) fn committed(batches: &[StoredBatch]) -> Option<Vec<String>> {
    let mut open: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    let mut counts = Vec::new();
    for batch in batches {
        let id = batch.stamp.id;
        if !batch.is_control() {
            let values = batch.records.iter();
            let values = values.map(|record| (record.offset, record.value_text()));
            open.entry(id).or_default().extend(values);
            continue;
        }
        let ended = open.remove(&id).unwrap_or_default();
        let key = batch
            .records
            .first()
            .and_then(|one| one.content.key.as_deref());
        if key == Some(COMMIT_KEY) {
            counts.extend(ended);
        }
    }
    counts.sort();
    let nothing_open = open.values().all(Vec::is_empty);
    nothing_open.then(|| counts.into_iter().map(|(_, value)| value).collect())
}

/// Version 0, type 1.
const COMMIT_KEY: &[u8] = &[0, 0, 0, 1];

/// [`expect_eq`] of what has no words of its own.
pub(super) fn expect_same<T: fmt::Debug + PartialEq>(
    step: impl fmt::Display,
    expected: T,
    observed: T,
) -> Result<(), Objection> {
    expect_eq(step, format!("{expected:?}"), format!("{observed:?}"))
}

pub(super) fn not_committed(
    result: Result<(), CommitError>,
) -> Result<TransactionError, Objection> {
    match result {
        Err(CommitError::NotCommitted(error)) => Ok(error),
        Err(other) => Err(Objection::new("commit", "not committed", other)),
        Ok(()) => Err(Objection::new("commit", "not committed", "committed")),
    }
}

/// Objects unless the call was refused as one out of turn.
pub(super) fn misused(
    result: Result<(), TransactionError>,
    misuse: Misuse,
) -> Result<(), Objection> {
    let kind = result.err().map(|error| error.kind());
    let expected = Some(TransactionErrorKind::Misuse(misuse));
    expect_same("a call out of turn", expected, kind)
}
