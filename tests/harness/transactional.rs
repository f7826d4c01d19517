//! What tests of transactions do again and again, in the cluster of a [`Shell`].
//!
//! *Not here*: simulation (`world.rs`).

use std::time::Duration;

use kafka_mockbroker::inspect::Event;
use kafka_mockbroker::{Api, MockCluster};
use kafka_producer::{Producer, ProducerBuilder, Record};

use crate::shell::Shell;

/// A producer's builder with the transactional id `transfers`.
pub fn transactional(shell: &Shell) -> ProducerBuilder {
    shell.producer().transactional_id("transfers")
}

/// A producer with that id.
///
/// # Panics
///
/// Outside a tokio runtime.
#[must_use]
pub fn producer(shell: &Shell) -> Producer {
    transactional(shell)
        .build()
        .expect("nothing contradicts itself")
}

/// A record for a partition of `orders`.
pub fn to(partition: i32, value: &str) -> Record<'_, &'static str> {
    Record::to("orders").partition(partition).value(value)
}

/// What somebody reads of `orders` who reads committed records only.
///
/// # Panics
///
/// When there is no such partition.
#[must_use]
pub fn committed(cluster: &MockCluster, partition: i32) -> Vec<String> {
    let view = cluster.partition("orders", partition);
    let view = view.expect("a partition of `orders`");
    let stable = cluster
        .records("orders", partition)
        .into_iter()
        .filter(|record| record.offset < view.last_stable_offset);
    let counts = stable.filter(|record| {
        !view.aborted_transactions.iter().any(|aborted| {
            record.producer.map(|stamp| stamp.id) == Some(aborted.producer_id)
                && (aborted.first_offset..aborted.marker_offset).contains(&record.offset)
        })
    });
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    counts
        .map(|record| record.value.as_deref().map_or("null".into(), text))
        .collect()
}

/// How many requests of an API came, and the highest version.
#[must_use]
pub fn requests(cluster: &MockCluster, api: Api) -> (usize, Option<i16>) {
    let journal = cluster.journal();
    let asked = journal.iter().filter_map(|entry| match &entry.event {
        Event::Request { id, .. } if id.api == api => Some(id.version),
        _ => None,
    });
    let versions: Vec<i16> = asked.collect();
    (versions.len(), versions.iter().max().copied())
}

/// Lets markers arrive, which are written after an end is answered.
pub async fn settle() {
    pass(Duration::from_secs(1)).await;
}

/// Lets so much (paused) time pass.
pub async fn pass(time: Duration) {
    let nothing = std::future::pending::<()>();
    let _passed = tokio::time::timeout(time, nothing).await;
}
