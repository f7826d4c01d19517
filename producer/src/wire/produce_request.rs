//! The Produce request, framed as slices: what we write around the batches, and the batches as
//! they are.
//!
//! ```text
//! [size, header, transactional id, acks, timeout, topic, partition, length] [batch]
//! [tags, partition, length] [batch] [tags, …] … [tags]
//! ```
//!
//! *Invariants*
//! 1. A batch's bytes are not copied: each is a slice of its own.
//! 2. Partitions of one topic stand in one topic entry: brokers keep only the last entry of a
//!    topic that is named twice.
//! 3. [`FrameBudget`] never counts less than [`encode`] writes.
//!
//! *Source*: Kafka's `ProduceRequest.json`; KIP-516 for topic ids (v13).
//!
//! *Not here*: which batches go together (`engine/drain.rs`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::Acks;
use crate::wire::frame::{RequestHeader, complete_size};
use crate::wire::primitives::{Encoding, put_count, put_no_tags, put_null_text, put_text};
use crate::wire::{Api, TopicRef};

/// What the request says before its topics.
#[derive(Clone, Copy, Debug)]
pub struct ProduceHeader<'a> {
    /// Version, number and client; its API is [`Api::Produce`].
    pub request: RequestHeader<'a>,
    /// `transactional.id`, for batches that are part of a transaction.
    pub transactional_id: Option<&'a str>,
    /// Who must have the batches before the broker answers.
    pub acks: Acks,
    /// How long the broker may wait for them, in milliseconds.
    pub timeout_ms: i32,
}

/// One partition's batch.
#[derive(Clone, Debug)]
pub struct PartitionBatch<'a> {
    /// The topic, by id from v13 on and by name before.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub partition: i32,
    /// One whole record batch.
    pub records: Bytes,
}

/// A finished request: slices in order, size prefix included.
///
/// Batches of one topic must be adjacent.
#[must_use]
pub fn encode(header: &ProduceHeader<'_>, batches: &[PartitionBatch<'_>]) -> Vec<Bytes> {
    let encoding = Api::Produce.encoding(header.request.version);
    let topics: Vec<_> = batches
        .chunk_by(|one, next| one.topic == next.topic)
        .collect();
    let mut buffer = BytesMut::with_capacity(framing_bytes_max(header, batches));
    let mut cuts = Vec::with_capacity(batches.len());
    header.request.put(&mut buffer);
    match header.transactional_id {
        Some(id) => put_text(&mut buffer, encoding, id),
        None => put_null_text(&mut buffer, encoding),
    }
    buffer.put_i16(header.acks.wire());
    buffer.put_i32(header.timeout_ms);
    put_count(&mut buffer, encoding, topics.len());
    for topic in topics {
        put_topic(&mut buffer, encoding, topic[0].topic);
        put_count(&mut buffer, encoding, topic.len());
        for batch in topic {
            buffer.put_i32(batch.partition);
            put_count(&mut buffer, encoding, batch.records.len());
            cuts.push(buffer.len());
            put_no_tags(&mut buffer, encoding);
        }
        put_no_tags(&mut buffer, encoding);
    }
    put_no_tags(&mut buffer, encoding);
    let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
    let total = buffer.len() + records;
    complete_size(&mut buffer, total);
    interleave(&buffer.freeze(), &cuts, batches)
}

/// What a request costs, counted while batches are chosen for it.
#[derive(Clone, Copy, Debug)]
pub struct FrameBudget {
    bytes: usize,
}

impl FrameBudget {
    /// The request without topics.
    #[must_use]
    pub fn new(client_id: &str, transactional_id: Option<&str>) -> Self {
        let names = client_id.len() + transactional_id.map_or(0, str::len);
        Self {
            bytes: REQUEST_FRAMING_BYTES_MAX + names,
        }
    }

    /// What the request would cost with this batch too.
    #[must_use]
    pub fn with(self, topic_name: &str, records_bytes: usize) -> Self {
        let framing = PARTITION_FRAMING_BYTES_MAX + topic_name.len();
        Self {
            bytes: self.bytes + framing + records_bytes,
        }
    }

    /// The cost so far in bytes, at least what is written.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

fn put_topic(buffer: &mut BytesMut, encoding: Encoding, topic: TopicRef<'_>) {
    match topic {
        TopicRef::Name(name) => put_text(buffer, encoding, name),
        TopicRef::Id(id) => buffer.put_slice(&id.0),
    }
}

fn interleave(framing: &Bytes, cuts: &[usize], batches: &[PartitionBatch<'_>]) -> Vec<Bytes> {
    let mut slices = Vec::with_capacity(2 * batches.len() + 1);
    let mut from = 0;
    for (cut, batch) in cuts.iter().zip(batches) {
        slices.push(framing.slice(from..*cut));
        slices.push(batch.records.clone());
        from = *cut;
    }
    slices.push(framing.slice(from..));
    slices.retain(|slice| !slice.is_empty());
    slices
}

fn framing_bytes_max(header: &ProduceHeader<'_>, batches: &[PartitionBatch<'_>]) -> usize {
    let start = FrameBudget::new(header.request.client_id, header.transactional_id);
    let budget = batches
        .iter()
        .fold(start, |budget, batch| match batch.topic {
            TopicRef::Name(name) => budget.with(name, 0),
            TopicRef::Id(_) => budget.with("", 0),
        });
    budget.bytes()
}

/// Size 4, key 2, version 2, correlation 4, client length 2, tags 1; transactional id's length 3,
/// acks 2, timeout 4, topic count 5, tags 1.
const REQUEST_FRAMING_BYTES_MAX: usize = 30;

/// Topic id 16 or name length 3, partition count 5, tags 1; partition 4, length 5, tags 1.
const PARTITION_FRAMING_BYTES_MAX: usize = 32;
