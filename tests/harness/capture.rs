//! What passes on the wire and what stands in the logs, read with the cluster's own eyes.
//!
//! The cluster's reader was written apart from the producer's writer, so what is captured here is
//! what another program understands.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kafka_mockbroker::Api;
use kafka_mockbroker::engine::log::{Log, StoredBatch};
use kafka_mockbroker::engine::marker;
use kafka_mockbroker::engine::open_transactions::Ending;
use kafka_mockbroker::engine::topology::PartitionKey;
use kafka_mockbroker::engine::txn_state::TxnState;
use kafka_mockbroker::handlers::ClusterEngine;
use kafka_mockbroker::wire::batch_view::{BatchView, CONTROL, TRANSACTIONAL};
use kafka_mockbroker::wire::records::{DecodedRecord, decode};
use kafka_mockbroker::wire::request::{RequestBody, TopicRef, parse};
use kafka_producer::engine::effect::Input;

use crate::history::transactions::{LogEnd, Marker, MarkerKind, Stamp};
use crate::history::{Content, LogEntry, Partition, WireBatch};

/// Whose request a frame is.
#[must_use]
pub fn api(frame: &[u8]) -> Api {
    Api::from_key(
        frame
            .first_chunk()
            .map_or(-1, |key| i16::from_be_bytes(*key)),
    )
}

/// A request's version.
#[must_use]
pub fn version(frame: &[u8]) -> i16 {
    match frame {
        [_, _, v0, v1, ..] => i16::from_be_bytes([*v0, *v1]),
        _ => -1,
    }
}

/// A request frame as the trace names it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a>(pub &'a [u8]);

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        let bytes = frame.len();
        match frame {
            [k0, k1, v0, v1, c0, c1, c2, c3, ..] => {
                let api = Api::from_key(i16::from_be_bytes([*k0, *k1]));
                let version = i16::from_be_bytes([*v0, *v1]);
                let correlation_id = i32::from_be_bytes([*c0, *c1, *c2, *c3]);
                write!(f, "{api} v{version} #{correlation_id}, {bytes} bytes")
            }
            _ => write!(f, "{bytes} bytes that are no request"),
        }
    }
}

/// An input as the trace names it.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a>(pub &'a Input);

impl fmt::Display for Heard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Input::Received { connection, frame } => {
                let correlation_id = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
                let bytes = frame.len();
                write!(
                    f,
                    "answer to {correlation_id:?} on {connection:?}, {bytes} bytes"
                )
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// A value as the trace names it: its first word says whose it is.
#[derive(Clone, Copy)]
pub struct Short<'a>(pub &'a [u8]);

impl fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0);
        let more = text.len().saturating_sub(SHORT_CHARS);
        match more {
            0 => write!(f, "{text:?}"),
            _ => {
                let start: String = text.chars().take(SHORT_CHARS).collect();
                write!(f, "{start:?} and {more} bytes")
            }
        }
    }
}

const SHORT_CHARS: usize = 24;

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

/// A topic's id and name.
pub type TopicName = ([u8; 16], Arc<str>);

/// The ids and names of the cluster's topics.
#[must_use]
pub fn topics(cluster: &ClusterEngine) -> Vec<TopicName> {
    let topics = cluster.cluster().topology().topics();
    topics
        .map(|topic| (topic.id.into_bytes(), Arc::clone(&topic.name)))
        .collect()
}

/// The log of every partition.
///
/// # Panics
///
/// When the topology names a partition that is not there.
pub fn every_log(cluster: &ClusterEngine) -> impl Iterator<Item = (Partition, &Log)> {
    let topics = cluster.cluster().topology().topics();
    topics.flat_map(move |topic| {
        let numbers = (0..).zip(&topic.partitions);
        numbers.map(move |(number, _)| {
            let name = Partition {
                topic: Arc::clone(&topic.name),
                number,
            };
            let key = PartitionKey {
                topic: topic.key,
                partition: number,
            };
            let partition = cluster.cluster().partition(key).expect("it was listed");
            (name, partition.log())
        })
    })
}

/// The records of every log.
#[must_use]
pub fn logs(cluster: &ClusterEngine) -> BTreeMap<Partition, Vec<LogEntry>> {
    every_log(cluster)
        .map(|(name, log)| (name, data_in(log.batches()).collect()))
        .collect()
}

/// The records of batches, without those of markers.
///
/// # Panics
///
/// When the cluster cannot read its own log.
pub fn data_in(batches: &[StoredBatch]) -> impl Iterator<Item = LogEntry> {
    let data = batches.iter().filter(|batch| !batch.header.has(CONTROL));
    data.flat_map(|batch| {
        let stamp = batch.header.has(TRANSACTIONAL).then_some(Stamp {
            producer_id: batch.header.producer_id,
            epoch: batch.header.producer_epoch,
        });
        let records = batch.records().expect("a readable log").into_iter();
        records.map(move |record| LogEntry {
            stamp,
            ..entry(record)
        })
    })
}

/// The markers of every log.
#[must_use]
pub fn markers(cluster: &ClusterEngine) -> BTreeMap<Partition, Vec<Marker>> {
    let of_batch = |batch: &StoredBatch| {
        let marker = marker::Marker::of(batch)?;
        Some(Marker {
            offset: batch.header.base_offset,
            stamp: Stamp {
                producer_id: marker.producer_id,
                epoch: marker.epoch,
            },
            kind: match marker.ending {
                Ending::Commit => MarkerKind::Commit,
                Ending::Abort => MarkerKind::Abort,
            },
        })
    };
    every_log(cluster)
        .map(|(name, log)| (name, log.batches().iter().filter_map(of_batch).collect()))
        .collect()
}

/// How far every log is to be read.
#[must_use]
pub fn ends(cluster: &ClusterEngine) -> BTreeMap<Partition, LogEnd> {
    let end = |log: &Log| LogEnd {
        last_stable_offset: log.last_stable_offset(),
        high_watermark: log.high_watermark(),
    };
    every_log(cluster)
        .map(|(name, log)| (name, end(log)))
        .collect()
}

/// Transactional ids with a transaction that has not ended, and offsets that wait for a marker.
#[must_use]
pub fn unfinished(cluster: &ClusterEngine) -> Vec<String> {
    let all = cluster.cluster().transactions().coordinator().all();
    let open = all
        .filter(|(_, known)| known.state == TxnState::Ongoing || known.state.preparing().is_some());
    let open = open.map(|(id, known)| format!("{id} is {:?}", known.state));
    let groups = cluster.cluster().groups();
    let pending = groups.all().flat_map(|(group, _)| {
        let partitions = groups.offsets().pending(group);
        partitions.map(move |partition| format!("{group} waits for {partition:?}"))
    });
    open.chain(pending).collect()
}

/// The offsets and values of a log's records from one offset to another.
///
/// # Panics
///
/// When the cluster cannot read its own log.
#[must_use]
pub fn values(log: &Log, range: Range<i64>) -> Vec<(i64, Bytes)> {
    let batches = log.batches();
    let first = batches.partition_point(|batch| batch.header.last_offset() < range.start);
    let among = batches[first..].iter();
    let among = among.take_while(|batch| batch.header.base_offset < range.end);
    let among = among.filter(|batch| !batch.header.has(CONTROL));
    let records = among.flat_map(|batch| batch.records().expect("a readable log"));
    records
        .filter(|record| range.contains(&record.offset))
        .map(|record| (record.offset, record.value.unwrap_or_default()))
        .collect()
}

/// The records of a batch on the wire; nothing if they cannot be read.
#[must_use]
pub fn contents(batch: &WireBatch) -> Option<Vec<Content>> {
    let (view, _) = BatchView::first(&batch.bytes).ok()??;
    let (header, payload) = view.split()?;
    let records = decode(&header, &Bytes::copy_from_slice(payload)).ok()?;
    Some(records.into_iter().map(|one| entry(one).content).collect())
}

fn entry(record: DecodedRecord) -> LogEntry {
    let named = |(name, value): (Bytes, Option<Bytes>)| {
        (String::from_utf8_lossy(&name).into_owned(), value)
    };
    LogEntry {
        offset: record.offset,
        content: Content {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value.unwrap_or_default(),
            headers: record.headers.into_iter().map(named).collect(),
        },
        stamp: None,
    }
}

/// A batch and where in its frame it stands.
#[derive(Clone, Debug)]
pub struct BatchInFrame {
    /// The first byte.
    pub at: usize,
    /// The batch.
    pub batch: WireBatch,
}

/// The batches of a Produce request, without the producer's number; none in any other request. A
/// topic that is named by an id that is not among `topics` keeps the id for a name.
#[must_use]
pub fn batches(frame: &Bytes, topics: &[TopicName]) -> Vec<BatchInFrame> {
    if !frame.starts_with(&Api::Produce.key().to_be_bytes()) {
        return Vec::new();
    }
    let Ok(request) = parse(frame.clone()) else {
        return Vec::new();
    };
    let RequestBody::Produce(produce) = request.body else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for topic in produce.topics {
        let name = name_of(&topic.topic, topics);
        for partition in topic.partitions {
            let place = Partition {
                topic: Arc::clone(&name),
                number: partition.index,
            };
            found.extend(
                partition
                    .records
                    .and_then(|bytes| batch(frame, place, bytes)),
            );
        }
    }
    found
}

fn batch(frame: &Bytes, partition: Partition, bytes: Bytes) -> Option<BatchInFrame> {
    let (header, _) = BatchView::first(&bytes).ok()??.0.split()?;
    // The reader hands out slices of the frame, so addresses tell the place.
    let at = bytes.as_ptr() as usize - frame.as_ptr() as usize;
    let batch = WireBatch {
        producer: 0,
        partition,
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        record_count: header.record_count,
        bytes,
    };
    Some(BatchInFrame { at, batch })
}

fn name_of(topic: &TopicRef, topics: &[TopicName]) -> Arc<str> {
    match topic {
        TopicRef::Name(name) => {
            let known = topics.iter().find(|(_, known)| **known == **name);
            known.map_or_else(|| Arc::from(name.as_str()), |(_, name)| Arc::clone(name))
        }
        TopicRef::Id(id) => {
            let known = topics.iter().find(|(known, _)| known == id.as_bytes());
            known.map_or_else(|| id.to_string().into(), |(_, name)| Arc::clone(name))
        }
    }
}
