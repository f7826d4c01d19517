//! The engine's steps on batches that are compressed: sealed ones ahead of their turn, an open one
//! when it could go.
//!
//! *Source*: ours. Kafka's producer compresses at the append, in the caller's thread and under the
//! partition's lock; its rule of when an open batch is closed, not before its broker could take it,
//! is kept (`RecordAccumulator.drainBatchesForOneNode`).
//!
//! *Not here*: the codecs (`wire/compression.rs`), a batch's place in its partition
//! (`partition.rs`), the estimate (`ratio.rs`).

use crate::engine::Engine;
use crate::engine::effect::{Action, CompressionId, Queues};
use crate::engine::partition::{History, Tracked};
use crate::engine::ratio::RatioEstimate;
use crate::engine::time::Instant;
use crate::types::{CompressionType, TopicIndex, TopicPartition};
use crate::wire::compression::CompressedBatch;
use crate::wire::record_batch::HEADER_BYTES;

/// Batches of one partition that are compressed ahead of their turn: enough for the requests in
/// flight and the next ones, and what waits longer is not touched early.
const AHEAD_MAX: usize = 8;

impl<C> Engine<C> {
    /// Whether batches are compressed.
    pub(super) fn compresses(&self) -> bool {
        self.config.codec.compression != CompressionType::None
    }

    /// Has a partition's sealed batches compressed, as far ahead as is of use.
    pub(super) fn compress_ahead(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let ahead = |one: &Self| one.partitions.get(&at).map_or(0, |p| p.preparing_count());
        while self.compresses() && ahead(self) < AHEAD_MAX && queues.state(at).sealed_bytes > 0 {
            self.compress_next(at, queues, now);
        }
    }

    /// Has the queue's oldest batch compressed; the open one is sealed for it.
    pub(super) fn compress_next(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let Some(mut batch) = queues.take(at) else {
            return;
        };
        batch.note_sealed(now);
        let id = CompressionId(self.next_compression);
        self.next_compression += 1;
        let plain = batch.take_plain();
        let deadline = batch.opened_at() + self.config.delivery_timeout;
        self.compressing.insert(id, (at, plain.len()));
        self.partition(at).prepare(batch, id, deadline);
        self.actions.push_back(Action::Compress { id, plain });
    }

    /// Takes back a batch that was compressed; one that ended meanwhile changes nothing.
    pub(super) fn on_compressed(
        &mut self,
        id: CompressionId,
        batch: CompressedBatch,
        now: Instant,
    ) {
        let Some((at, plain_bytes)) = self.compressing.remove(&id) else {
            return;
        };
        let plain_bytes = plain_bytes.saturating_sub(HEADER_BYTES);
        let compressed_bytes = batch.buffer.len().saturating_sub(HEADER_BYTES);
        self.ratios
            .entry(at.topic)
            .or_insert(RatioEstimate::INITIAL)
            .on_compressed(plain_bytes, compressed_bytes);
        self.ratios_changed.insert(at.topic);
        self.partition(at).on_prepared(id, batch, now);
        self.touched.insert(at);
    }

    /// Batches of a topic turned out too large: until it is learnt anew, count with no compression.
    pub(super) fn expect_no_compression(&mut self, topic: TopicIndex) {
        if let Some(estimate) = self.ratios.get_mut(&topic) {
            estimate.on_too_large();
            self.ratios_changed.insert(topic);
        }
    }

    /// Tells the queues what topics are expected to come to.
    pub(super) fn tell_ratios(&mut self, queues: &mut impl Queues<Completion = C>) {
        while let Some(topic) = self.ratios_changed.pop_first() {
            if let Some(estimate) = self.ratios.get(&topic) {
                queues.expect_ratio(topic, estimate.with_margin());
            }
        }
    }

    /// Takes the batches of a partition that were taken to be compressed and never sent, oldest
    /// first.
    pub(super) fn take_prepared_unsent(&mut self, at: TopicPartition) -> Option<Tracked<C>> {
        let batch = self.partitions.get_mut(&at)?.take_preparing()?;
        debug_assert_eq!(batch.history, History::NeverLeft);
        Some(batch)
    }
}
