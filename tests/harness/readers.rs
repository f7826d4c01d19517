//! Readers of the logs while a run goes on: what they saw has to stay.
//!
//! *Invariants*
//! 1. An entry is read once as committed and once as lying below an acknowledged one, the first
//!    time that it can be; the judge holds it against the final log.
//!
//! *Not here*: what must hold (`oracle/logs.rs`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kafka_mockbroker::engine::topology::PartitionKey;
use kafka_producer::Acks;

use crate::capture;
use crate::client::SendNumber;
use crate::history::{Partition, Read, Seen};
use crate::world::World;

/// What was read in a run.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    reads: Vec<Read>,
    /// By partition: the first offset that was not read yet.
    committed_to: BTreeMap<Partition, i64>,
    acknowledged_to: BTreeMap<Partition, i64>,
}

impl Readers {
    pub(crate) fn reads(&self) -> &[Read] {
        &self.reads
    }
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
                self.readers.committed_to.insert(partition, end);
            }
        }
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
