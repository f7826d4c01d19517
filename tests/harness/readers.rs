//! Readers of the logs while a run goes on: what they saw has to stay.
//!
//! *Invariants*
//! 1. An entry is read once as committed and once as lying below an acknowledged one, the first
//!    time that it can be; the judge holds it against the final log.
//!
//! *Not here*: what must hold (`oracle/logs.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use kafka_mockbroker::engine::log::Log;
use kafka_mockbroker::engine::replica::Replica;
use kafka_mockbroker::engine::topology::PartitionKey;
use kafka_mockbroker::wire::batch_view::{CONTROL, TRANSACTIONAL};
use kafka_producer::Acks;

use crate::capture;
use crate::client::SendNumber;
use crate::defect::Defect;
use crate::history::{LogEntry, Partition, Read, Seen, Visible};
use crate::world::World;

/// What was read in a run.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    reads: Vec<Read>,
    visible: Vec<Visible>,
    /// By partition: the first offset that was not read yet.
    committed_to: BTreeMap<Partition, i64>,
    acknowledged_to: BTreeMap<Partition, i64>,
    /// By partition: what a consumer of committed records was given.
    stable: BTreeMap<Partition, Vec<LogEntry>>,
    /// The same consumer's places, by partition and with their keys; looked up once.
    stable_to: Vec<(Partition, PartitionKey, i64)>,
}

impl Readers {
    pub(crate) fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// How far consumers could read, each time that it was further than before.
    pub(crate) fn visible(&self) -> &[Visible] {
        &self.visible
    }

    /// What a consumer of committed records was given, by partition.
    pub(crate) fn stable(&self) -> impl Iterator<Item = (&Partition, &Vec<LogEntry>)> {
        self.stable.iter()
    }

    /// The same of one partition, from an offset on.
    pub(crate) fn stable_from(
        &self,
        partition: &Partition,
        offset: i64,
    ) -> impl Iterator<Item = &LogEntry> {
        let entries = self.stable.get(partition).map_or(&[][..], Vec::as_slice);
        let first = entries.partition_point(|entry| entry.offset < offset);
        entries[first..].iter()
    }
}

/// What a consumer of committed records makes of batches, as Kafka's does: of the transactions that
/// it is told are aborted it skips what stands between their first record and their marker.
///
/// *Source*: Kafka's `CompletedFetch.nextFetchedRecord`.
fn committed_in(log: &Log, range: Range<i64>) -> Vec<LogEntry> {
    let batches = log.batches();
    let first = batches.partition_point(|batch| batch.header.last_offset() < range.start);
    let among = batches[first..].iter();
    let among = among.take_while(|batch| batch.header.base_offset < range.end);
    let aborted = log.transactions().aborted(range.start, range.end);
    let mut aborted: Vec<(i64, i64)> = aborted.map(|(id, first)| (first, id)).collect();
    aborted.sort_unstable();
    let mut aborted = aborted.into_iter().peekable();
    let mut skipped = BTreeSet::new();
    let mut given = Vec::new();
    for batch in among {
        let header = &batch.header;
        while let Some((_, id)) = aborted.next_if(|(first, _)| *first <= header.last_offset()) {
            skipped.insert(id);
        }
        if header.has(CONTROL) {
            skipped.remove(&header.producer_id);
        } else if !header.has(TRANSACTIONAL) || !skipped.contains(&header.producer_id) {
            given.extend(capture::data_in(std::slice::from_ref(batch)));
        }
    }
    given
}

impl World {
    /// Reads what consumers can read and nobody has read yet.
    pub fn read_committed(&mut self) {
        let topics = self.cluster.cluster().topology().topics();
        let partitions = topics.flat_map(|topic| {
            let numbers = (0..).zip(&topic.partitions);
            numbers.map(|(number, _)| (Arc::clone(&topic.name), topic.key, number))
        });
        let partitions: Vec<_> = partitions.collect();
        for (topic, key, number) in partitions {
            let key = PartitionKey {
                topic: key,
                partition: number,
            };
            let end = self.cluster.cluster().partition(key);
            let end = end.map_or(0, |partition| partition.log().high_watermark());
            let partition = Partition { topic, number };
            let from = self.readers.committed_to.get(&partition);
            let from = from.copied().unwrap_or_default();
            if from < end {
                self.read((key, &partition), from..end, Seen::Committed);
                self.see((key, &partition), end);
                self.readers.committed_to.insert(partition, end);
            }
        }
    }

    /// Counts who has all that is visible.
    fn see(&mut self, (key, name): (PartitionKey, &Partition), end: i64) {
        let partition = self.cluster.cluster().partition(key);
        let replicas = partition.expect("it was found").replicas().replicas();
        let holds = |replica: &&Replica| replica.log().end_offset() >= end;
        let visible = Visible {
            at: self.now,
            partition: name.clone(),
            end,
            holders: replicas.iter().filter(holds).count(),
            holders_min: self.setting.holders_min(&name.topic),
        };
        self.readers.visible.push(visible);
    }

    /// Gives a consumer of committed records what it can have and does not have yet; in a world
    /// without transactional ids there is none.
    pub(crate) fn read_stable(&mut self) {
        if self.setting.transactions.is_none() {
            return;
        }
        if self.readers.stable_to.is_empty() {
            let places = self.setting.partitions().filter_map(|(topic, number)| {
                let key = self.cluster.cluster().key(&topic, number).ok()?;
                Some((Partition { topic, number }, key, 0))
            });
            self.readers.stable_to = places.collect();
        }
        for at in 0..self.readers.stable_to.len() {
            let (_, key, from) = &self.readers.stable_to[at];
            let (key, from) = (*key, *from);
            let partition = self.cluster.cluster().partition(key);
            let log = partition.expect("it was found").log();
            let end = match self.setting.defect {
                Some(Defect::StableOffsetIgnored) => log.high_watermark(),
                _ => log.last_stable_offset(),
            };
            if from < end {
                let given = committed_in(log, from..end);
                self.readers.stable_to[at].2 = end;
                self.give(at, given);
            }
        }
    }

    fn give(&mut self, at: usize, given: Vec<LogEntry>) {
        let partition = self.readers.stable_to[at].0.clone();
        let now = self.now;
        self.readers.reads.extend(given.iter().map(|entry| Read {
            at: now,
            partition: partition.clone(),
            offset: entry.offset,
            value: entry.content.value.clone(),
            seen: Seen::Stable,
        }));
        self.readers
            .stable
            .entry(partition)
            .or_default()
            .extend(given);
    }

    /// Reads what lies before a record that was acknowledged just now.
    pub(crate) fn read_below_acknowledged(&mut self, send: Option<SendNumber>, offset: i64) {
        let Some(send) = send.filter(|_| self.setting.acks == Acks::All) else {
            return;
        };
        let partition = self.sends[send.0].partition.clone();
        let from = self.readers.acknowledged_to.get(&partition);
        let from = from.copied().unwrap_or_default();
        if from >= offset {
            return;
        }
        let mut topics = self.cluster.cluster().topology().topics();
        let topic = topics.find(|topic| topic.name == partition.topic);
        let topic = topic.map(|topic| topic.key);
        drop(topics);
        if let Some(key) = topic {
            let key = PartitionKey {
                topic: key,
                partition: partition.number,
            };
            self.read((key, &partition), from..offset, Seen::BelowAcknowledged);
            self.readers.acknowledged_to.insert(partition, offset);
        }
    }

    fn read(&mut self, (key, name): (PartitionKey, &Partition), range: Range<i64>, seen: Seen) {
        let partition = self.cluster.cluster().partition(key);
        let log = partition.expect("it was found").log();
        let values = capture::values(log, range).into_iter();
        let at = self.now;
        self.readers
            .reads
            .extend(values.map(|(offset, value)| Read {
                at,
                partition: name.clone(),
                offset,
                value,
                seen,
            }));
    }
}
