//! What a test can read of a running cluster: copies, taken under the cluster's lock.
//!
//! *Not here*: the machines that own the facts (`engine/`).

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::MockCluster;
use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
pub use crate::engine::journal::{Diagnostic, Entry, Event, RequestBytes, RequestId, Silence};
use crate::engine::log::StoredBatch;
pub use crate::engine::plan::{Outcome, Planned};
pub use crate::engine::time::Instant;
use crate::engine::topology::{PartitionKey, Topic};
use crate::wire::records::{DecodedRecord, Unreadable};
pub use crate::wire::reply::RowCode;

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: Arc<str>,
    /// Its id (KIP-516): another one each time that a topic of this name is made.
    pub id: [u8; 16],
    /// Its partitions, by index.
    pub partitions: Vec<PartitionView>,
}

/// A partition as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Who leads; `None` while nobody does.
    pub leader: Option<BrokerId>,
    /// Raised by one with every change of leader; starts at 0.
    pub leader_epoch: i32,
    /// The brokers with a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync.
    pub isr: Vec<BrokerId>,
    /// The offset of the first record.
    pub log_start_offset: i64,
    /// Records below it are visible to consumers and never lost again.
    pub high_watermark: i64,
    /// The offset behind the last record of the leader's log.
    pub log_end_offset: i64,
}

/// A record in the leader's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970: the client's, or the broker's where that counts.
    pub timestamp_ms: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// Names and values of the headers, in order; names need not be UTF-8.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// The leader epoch in which it was appended.
    pub leader_epoch: i32,
    /// The offset of the first record of its batch.
    pub batch_base_offset: i64,
    /// Who wrote it, if it was written with a producer id.
    pub producer: Option<Stamp>,
}

/// An idempotent producer's mark on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The record's sequence: one more than the record before it, 0 after 2,147,483,647.
    pub sequence: i32,
}

impl StoredRecord {
    /// The value of the last header of this name; `None` if there is none or its value is null.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let last = self
            .headers
            .iter()
            .rfind(|(header, _)| header == name.as_bytes());
        last.and_then(|(_, value)| value.as_deref())
    }
}

impl MockCluster {
    /// The records in a partition's log, visible or not, in the order of their offsets; deleted
    /// ones are not in it.
    ///
    /// # Panics
    ///
    /// When the topic has no such partition, so that a test does not count the records of a name
    /// that it misspelt; when a batch, though a real broker accepts it too, does not decode.
    #[must_use]
    #[track_caller]
    pub fn records(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        // The batches are shared, so nothing is decoded under the lock.
        let log: Option<(i64, Vec<StoredBatch>)> = self.driver().with(|engine, _| {
            let key = engine.cluster().key(topic, partition).ok()?;
            let log = engine.cluster().partition(key)?.log();
            Some((log.start_offset(), log.batches().to_vec()))
        });
        let Some((start, batches)) = log else {
            panic!("the cluster has no partition {topic}-{partition}");
        };
        let decoded: Result<Vec<Vec<StoredRecord>>, Unreadable> =
            batches.iter().map(decode).collect();
        match decoded {
            Ok(records) => {
                let records = records.into_iter().flatten();
                records.filter(|record| record.offset >= start).collect()
            }
            Err(error) => panic!("the log of {topic}-{partition} does not decode: {error}"),
        }
    }

    /// The partition as it is now; `None` if there is no such.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<PartitionView> {
        self.driver().with(|engine, _| {
            let key = engine.cluster().key(topic, partition).ok()?;
            partition_view(engine.cluster(), key)
        })
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<TopicView> {
        self.driver().with(|engine, _| {
            let cluster = engine.cluster();
            cluster
                .topology()
                .topic_by_name(name)
                .map(|topic| topic_view(cluster, topic))
        })
    }

    /// Every topic, in the order in which they were made.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicView> {
        self.driver().with(|engine, _| {
            let cluster = engine.cluster();
            cluster
                .topology()
                .topics()
                .map(|topic| topic_view(cluster, topic))
                .collect()
        })
    }

    /// What happened, oldest first: connections, requests, replies. The last 65,536 entries are
    /// kept. The requests carry their bytes if
    /// [`journal_bytes`](crate::MockClusterBuilder::journal_bytes) says so.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.driver()
            .with(|engine, _| engine.journal().entries().cloned().collect())
    }

    /// The moves that have their times, in the order in which they were or will be made.
    #[must_use]
    pub fn planned_moves(&self) -> Vec<Planned> {
        self.driver()
            .with(|engine, _| engine.plan().moves().to_vec())
    }

    /// What clients asked that is not modelled or not allowed, oldest first: every connection that
    /// was closed for a bad frame has its reason here. The first 1,000 are kept.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.driver()
            .with(|engine, _| engine.journal().diagnostics().to_vec())
    }
}

fn decode(batch: &StoredBatch) -> Result<Vec<StoredRecord>, Unreadable> {
    let stored = |(index, record): (i32, DecodedRecord)| StoredRecord {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
        headers: record.headers,
        leader_epoch: batch.header.leader_epoch,
        batch_base_offset: batch.header.base_offset,
        producer: batch.header.has_producer_id().then(|| Stamp {
            id: batch.header.producer_id,
            epoch: batch.header.producer_epoch,
            sequence: sequence_after(batch.header.base_sequence, index),
        }),
    };
    Ok((0..).zip(batch.records()?).map(stored).collect())
}

/// apache/kafka `DefaultRecordBatch.incrementSequence`: 0 follows 2,147,483,647.
const fn sequence_after(base: i32, increment: i32) -> i32 {
    base.wrapping_add(increment) & i32::MAX
}

fn topic_view(cluster: &Cluster, topic: &Topic) -> TopicView {
    let key = |partition| PartitionKey {
        topic: topic.key,
        partition,
    };
    let partitions = topic
        .indexes()
        .filter_map(|index| partition_view(cluster, key(index)));
    TopicView {
        name: Arc::clone(&topic.name),
        id: *topic.id.as_bytes(),
        partitions: partitions.collect(),
    }
}

fn partition_view(cluster: &Cluster, key: PartitionKey) -> Option<PartitionView> {
    let placement = cluster.topology().placement(key)?;
    let partition = cluster.partition(key)?;
    Some(PartitionView {
        leader: placement.leadership.leader,
        leader_epoch: placement.leadership.epoch,
        replicas: placement.replicas.clone(),
        isr: placement.isr.clone(),
        log_start_offset: partition.log().start_offset(),
        high_watermark: partition.log().high_watermark(),
        log_end_offset: partition.log().end_offset(),
    })
}
