//! What a test can read of a running cluster: copies, taken under the cluster's lock.
//!
//! | Question | Answer |
//! |---|---|
//! | what was written, decoded | [`records`](MockCluster::records), of one replica [`records_on`](MockCluster::records_on) |
//! | the same as bytes, as received and as stored | [`batches`](MockCluster::batches), [`batches_on`](MockCluster::batches_on) |
//! | who leads, who is in sync, how far every replica is | [`partition`](MockCluster::partition), [`topic`](MockCluster::topic), [`topics`](MockCluster::topics) |
//! | what is known of producers | [`producers`](MockCluster::producers), [`producers_on`](MockCluster::producers_on) |
//! | in which state a transactional id is, what its markers have not got to | [`transaction`](MockCluster::transaction) |
//! | in which state a group is, and who is a member | [`group`](MockCluster::group) |
//! | what a group has committed, and what transactions would commit | [`group_offsets`](MockCluster::group_offsets) |
//! | whether a broker runs, and is reached | [`broker`](MockCluster::broker) |
//! | what happened | [`journal`](MockCluster::journal), [`planned_moves`](MockCluster::planned_moves) |
//! | what was refused or is not modelled | [`diagnostics`](MockCluster::diagnostics) |
//! | which faults acted | [`FaultGuard`](crate::FaultGuard), [`unfired_rules`](MockCluster::unfired_rules) |
//!
//! *Invariants*
//! 1. A view is of one moment: nothing in it is older than the rest.
//! 2. A name that does not exist is told (`None`, or a panic where a test counts), never an empty
//!    view.
//!
//! *Not here*: the machines that own the facts (`engine/`).

mod groups;

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::MockCluster;
use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
pub use crate::engine::journal::{Diagnostic, Entry, Event, RequestBytes, RequestId, Silence};
use crate::engine::log::{Log, StoredBatch};
use crate::engine::open_transactions::Ending;
pub use crate::engine::plan::{Outcome, Planned};
use crate::engine::replica::Replica;
pub use crate::engine::replication::IsrChange;
use crate::engine::replication::ReplicaSet;
pub use crate::engine::time::Instant;
pub use crate::engine::topology::{Network, Process, Registration};
use crate::engine::topology::{PartitionKey, Topic};
use crate::engine::txn_coordinator::Transaction;
use crate::wire::batch_view::CONTROL;
use crate::wire::records::{DecodedRecord, Unreadable};
pub use crate::wire::reply::RowCode;
pub use groups::{GroupMemberView, GroupOffsetView, GroupView};

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
    /// Those of them that are in sync, as the controller knows.
    pub isr: Vec<BrokerId>,
    /// Those that may lead when nobody is in sync (KIP-966).
    pub eligible_leaders: Vec<BrokerId>,
    /// Who led last, while nobody leads.
    pub last_known_leader: Option<BrokerId>,
    /// The offset of the first record.
    pub log_start_offset: i64,
    /// Records below it are visible to consumers and never lost again.
    pub high_watermark: i64,
    /// As far as readers of what is committed see: below it no transaction is open.
    pub last_stable_offset: i64,
    /// The transactions that were aborted in it, by where they ended: producer ids, and the offsets
    /// of their first records and of their markers.
    pub aborted_transactions: Vec<AbortedView>,
    /// The offset behind the last record of the leader's log.
    pub log_end_offset: i64,
    /// Each replica's own log, in the order of `replicas`.
    pub logs: Vec<ReplicaView>,
}

/// A transaction that was aborted, in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedView {
    /// Whose it was.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
    /// The offset of its marker.
    pub marker_offset: i64,
}

/// A transactional id as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionView {
    /// The id.
    pub id: Arc<str>,
    /// Its state, by Kafka's name: `Empty`, `Ongoing`, `PrepareCommit`, …
    pub state: &'static str,
    /// The producer's id.
    pub producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: i32,
    /// When it was opened, in milliseconds since 1970; `None` before the first.
    pub started_at_ms: Option<i64>,
    /// Topics and partitions that are part of it.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// Those of them that its marker has not got to yet.
    pub without_marker: Vec<(Arc<str>, i32)>,
}

/// A replica as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its broker.
    pub broker: BrokerId,
    /// The offset of its first record.
    pub log_start_offset: i64,
    /// As far as it knows what is visible.
    pub high_watermark: i64,
    /// The offset behind its last record.
    pub log_end_offset: i64,
    /// What it knows as a leader, if it is one or takes itself for one.
    pub leads: Option<LeadView>,
}

/// What a broker knows that leads a partition, or takes itself for the leader since it is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadView {
    /// The epoch in which it was elected.
    pub epoch: i32,
    /// The ISR that the controller has committed, as far as it has heard.
    pub isr: Vec<BrokerId>,
    /// What it has asked the controller to make of it, without an answer yet.
    pub pending: IsrChange,
}

/// A batch in a log, in both its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchView {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// The leader epoch in which it was appended.
    pub leader_epoch: i32,
    /// When its leader appended it, by the broker's clock, in milliseconds since 1970.
    pub appended_at_ms: i64,
    /// As the client sent it.
    pub received: Bytes,
    /// As a consumer gets it: with its offset, its epoch, and what the topic changes.
    pub stored: Bytes,
}

/// What a replica knows of an idempotent producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch, in milliseconds since 1970.
    pub last_timestamp_ms: i64,
    /// The batches that are recognised when they come again, oldest first: five at most, and after
    /// a restart of the broker the last one alone.
    pub window: Vec<WindowView>,
}

/// A batch that is recognised when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowView {
    /// The sequence of its first record.
    pub first_sequence: i32,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
}

/// A broker as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// Whether it runs.
    pub process: Process,
    /// Whether it reaches the other brokers and the controller.
    pub network: Network,
    /// What the controller takes it for.
    pub registration: Registration,
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
    /// The records in the log of a partition's leader, visible or not, in the order of their
    /// offsets, those of aborted and open transactions included; deleted ones are not in it, nor
    /// are markers of transactions. Without a leader it is the log of the last one.
    ///
    /// # Panics
    ///
    /// When the topic has no such partition, so that a test does not count the records of a name
    /// that it misspelt; when a batch, though a real broker accepts it too, does not decode.
    #[must_use]
    #[track_caller]
    pub fn records(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let log = self.read(topic, partition, |replicas| Some(replicas.log().clone()));
        decoded(&log, topic, partition)
    }

    /// The same of the replica on a broker.
    ///
    /// # Panics
    ///
    /// As [`records`](Self::records), and when the broker has no replica.
    #[must_use]
    #[track_caller]
    pub fn records_on(&self, broker: BrokerId, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let log = self.read(topic, partition, |replicas| log_on(replicas, broker));
        decoded(&log, topic, partition)
    }

    /// The batches in the log of a partition's leader, visible or not, deleted or not.
    ///
    /// # Panics
    ///
    /// When the topic has no such partition.
    #[must_use]
    #[track_caller]
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<BatchView> {
        let log = self.read(topic, partition, |replicas| Some(replicas.log().clone()));
        log.batches().iter().map(batch_view).collect()
    }

    /// The same of the replica on a broker.
    ///
    /// # Panics
    ///
    /// When the topic has no such partition, or the broker no replica of it.
    #[must_use]
    #[track_caller]
    pub fn batches_on(&self, broker: BrokerId, topic: &str, partition: i32) -> Vec<BatchView> {
        let log = self.read(topic, partition, |replicas| log_on(replicas, broker));
        log.batches().iter().map(batch_view).collect()
    }

    /// What the leader of a partition knows of producers, by id; nothing without a leader. Those
    /// that are idle for too long are in it until they are heard of.
    ///
    /// # Panics
    ///
    /// When the topic has no such partition.
    #[must_use]
    #[track_caller]
    pub fn producers(&self, topic: &str, partition: i32) -> Vec<ProducerView> {
        self.read(topic, partition, |replicas| {
            let leader = replicas
                .leader()
                .and_then(|leader| replicas.replica(leader));
            Some(leader.map_or_else(Vec::new, producer_views))
        })
    }

    /// The same of the replica on a broker.
    ///
    /// # Panics
    ///
    /// When the topic has no such partition, or the broker no replica of it.
    #[must_use]
    #[track_caller]
    pub fn producers_on(&self, broker: BrokerId, topic: &str, partition: i32) -> Vec<ProducerView> {
        self.read(topic, partition, |replicas| {
            replicas.replica(broker).map(producer_views)
        })
    }

    /// Reads a partition's replicas, of which there must be what is asked for.
    #[track_caller]
    fn read<T>(
        &self,
        topic: &str,
        partition: i32,
        read: impl FnOnce(&ReplicaSet) -> Option<T>,
    ) -> T {
        let found = self.driver().with(|engine, _| {
            let key = engine.cluster().key(topic, partition).ok()?;
            read(engine.cluster().partition(key)?.replicas())
        });
        match found {
            Some(found) => found,
            None => panic!("the cluster has no partition {topic}-{partition}, or none there"),
        }
    }

    /// The broker of this id.
    #[must_use]
    pub fn broker(&self, broker: BrokerId) -> Option<BrokerView> {
        self.driver().with(|engine, _| {
            let broker = engine.cluster().topology().broker(broker)?;
            Some(BrokerView {
                process: broker.process,
                network: broker.network,
                registration: broker.registration,
            })
        })
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
        self.driver()
            .with(|engine, _| topic_views(engine.cluster()))
    }

    /// The transactional id as it is now; `None` when it is new, or was idle for too long.
    #[must_use]
    pub fn transaction(&self, id: &str) -> Option<TransactionView> {
        self.driver().with(|engine, now| {
            let cluster = engine.cluster();
            cluster.transaction(id, now)?;
            let known = cluster.transactions().coordinator().all();
            let (id, known) = known.into_iter().find(|(known, _)| known.as_ref() == id)?;
            Some(transaction_view(cluster, id, known))
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

fn log_on(replicas: &ReplicaSet, broker: BrokerId) -> Option<Log> {
    Some(replicas.replica(broker)?.log().clone())
}

/// The batches share their bytes, so nothing was decoded under the lock.
#[track_caller]
fn decoded(log: &Log, topic: &str, partition: i32) -> Vec<StoredRecord> {
    let batches = log.batches().iter();
    let batches = batches.filter(|batch| !batch.header.has(CONTROL));
    let decoded: Result<Vec<Vec<StoredRecord>>, Unreadable> = batches.map(decode).collect();
    match decoded {
        Ok(records) => {
            let records = records.into_iter().flatten();
            records
                .filter(|record| record.offset >= log.start_offset())
                .collect()
        }
        Err(error) => panic!("the log of {topic}-{partition} does not decode: {error}"),
    }
}

fn batch_view(batch: &StoredBatch) -> BatchView {
    BatchView {
        base_offset: batch.header.base_offset,
        last_offset: batch.header.last_offset(),
        leader_epoch: batch.header.leader_epoch,
        appended_at_ms: batch.appended_at_ms,
        received: batch.received.clone(),
        stored: batch.stored(),
    }
}

fn producer_views(replica: &Replica) -> Vec<ProducerView> {
    let known = replica.producers().all().map(|(producer, window)| {
        let window = window.map(|batch| WindowView {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
        });
        ProducerView {
            id: producer.id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence,
            last_timestamp_ms: producer.last_timestamp_ms,
            window: window.collect(),
        }
    });
    known.collect()
}

fn replica_view(replicas: &ReplicaSet, replica: &Replica) -> ReplicaView {
    let lead = replicas.lead(replica.broker);
    ReplicaView {
        broker: replica.broker,
        log_start_offset: replica.log().start_offset(),
        high_watermark: replica.log().high_watermark(),
        log_end_offset: replica.log().end_offset(),
        leads: lead.map(|lead| LeadView {
            epoch: lead.epoch,
            isr: lead.isr.clone(),
            pending: lead.pending.clone(),
        }),
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

pub(crate) fn topic_views(cluster: &Cluster) -> Vec<TopicView> {
    let topics = cluster.topology().topics();
    topics.map(|topic| topic_view(cluster, topic)).collect()
}

/// What the leader of a partition knows of producers.
pub(crate) fn producers_of(cluster: &Cluster, topic: &str, partition: i32) -> Vec<ProducerView> {
    let key = cluster.key(topic, partition).ok();
    let replicas = key
        .and_then(|key| cluster.partition(key))
        .map(|partition| partition.replicas());
    let leader = replicas.and_then(|replicas| replicas.replica(replicas.leader()?));
    leader.map_or_else(Vec::new, producer_views)
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

pub(crate) fn transaction_views(cluster: &Cluster) -> Vec<TransactionView> {
    let known = cluster.transactions().coordinator().all();
    let views = known.map(|(id, known)| transaction_view(cluster, id, known));
    views.collect()
}

fn transaction_view(cluster: &Cluster, id: &Arc<str>, known: &Transaction) -> TransactionView {
    let named = |key: &PartitionKey| {
        let topic = cluster.topology().topic(key.topic)?;
        Some((Arc::clone(&topic.name), key.partition))
    };
    let flight = cluster.transactions().markers().flight(id).into_iter();
    TransactionView {
        id: Arc::clone(id),
        state: known.state.name(),
        producer_id: known.producer_id,
        epoch: known.epoch,
        timeout_ms: known.timeout_ms,
        started_at_ms: (known.started_at_ms >= 0).then_some(known.started_at_ms),
        partitions: known.partitions.iter().filter_map(named).collect(),
        without_marker: flight
            .flat_map(|flight| flight.to.keys())
            .filter_map(named)
            .collect(),
    }
}

fn aborted_views(log: &Log) -> Vec<AbortedView> {
    let ended = log.transactions().ended().iter();
    let aborted = ended.filter(|ended| ended.ending == Ending::Abort);
    let views = aborted.map(|ended| AbortedView {
        producer_id: ended.producer_id,
        first_offset: ended.first_offset,
        marker_offset: ended.marker_offset,
    });
    views.collect()
}

fn partition_view(cluster: &Cluster, key: PartitionKey) -> Option<PartitionView> {
    let placement = cluster.topology().placement(key)?;
    let partition = cluster.partition(key)?;
    let replicas = partition.replicas();
    Some(PartitionView {
        leader: placement.leadership.leader,
        leader_epoch: placement.leadership.epoch,
        replicas: placement.replicas.clone(),
        isr: placement.isr.clone(),
        eligible_leaders: placement.eligible.clone(),
        last_known_leader: placement.last_known_leader,
        log_start_offset: partition.log().start_offset(),
        high_watermark: partition.log().high_watermark(),
        last_stable_offset: partition.log().last_stable_offset(),
        aborted_transactions: aborted_views(partition.log()),
        log_end_offset: partition.log().end_offset(),
        logs: replicas
            .replicas()
            .iter()
            .map(|replica| replica_view(replicas, replica))
            .collect(),
    })
}
