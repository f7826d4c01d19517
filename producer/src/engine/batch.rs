//! A batch's three lives: open, sealed, stamped. Each is moved into the next.
//!
//! *State*
//! ```text
//!            append*          seal              stamp            restamp*
//! NewBatch ──────────▶ Open ─────────▶ Sealed ─────────▶ Stamped ─────────▶ Stamped
//!                                       │  ▲
//!                            take_plain │  │ put_back: compressed, at most once
//!                                       ▼  │
//!                                     lent out        Stamped ──split──▶ two Stamped
//! ```
//!
//! *Invariants*
//! 1. An open batch's bytes, as its records are expected to be compressed, stay within its limit,
//!    unless its first record alone is larger. They never outgrow its buffer: it is exchanged for
//!    a larger one before.
//! 2. A sealed batch takes no records; a stamped one keeps its bytes on every retry.
//! 3. Only a batch that is certainly in no log is stamped again (`sequence.rs` decides).
//!
//! *Source*: Kafka's `ProducerBatch`, `MemoryRecordsBuilder`.
//!
//! *Not here*: encoding (`wire/record_batch.rs`), which batch goes when (`drain.rs`).

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::ratio::Ratio;
use crate::engine::time::Instant;
use crate::types::CompressionType;
use crate::wire::batch_buffer::BatchBuffer;
use crate::wire::batch_split::halve;
use crate::wire::compression::{Codec, CompressedBatch, Compressor, decompress};
use crate::wire::record_batch::{
    BatchHeader, HEADER_BYTES, Place, PlacedRecord, ProducerStamp, RecordView, complete_header,
    reserve_header,
};

/// What a new batch starts from.
#[derive(Debug)]
pub struct NewBatch<C> {
    /// Empty, with room for header and first record at least.
    pub buffer: BatchBuffer,
    /// What its buffer may be exchanged for; more records than fit in so many bytes are not taken.
    pub buffer_bytes_max: usize,
    /// How small its records are expected to become.
    pub ratio: Ratio,
    /// The handle by which all records of the batch are resolved.
    pub completion: C,
    /// When the batch is opened: linger and delivery time-out count from here.
    pub now: Instant,
}

/// Why an open batch does not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// No batch is open, or the record would make it too large: open another one.
    Batch,
    /// The batch may become as large, but its buffer does not hold so much: give it one of so many
    /// bytes, or open another batch.
    Buffer {
        /// At least twice what it has, where it may have that.
        bytes: usize,
    },
}

/// Where a record went in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) index: u32,
    /// What it takes there.
    pub(crate) bytes: usize,
}

/// When a batch went on, as far as it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) opened_at: Instant,
    /// When it is known to take no more records: what fills a batch reads no clock, what opens the
    /// next one does.
    pub(crate) sealed_at: Option<Instant>,
    /// When its bytes were back from being compressed.
    pub(crate) compressed_at: Option<Instant>,
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct OpenBatch<C> {
    buffer: BatchBuffer,
    completion: C,
    opened_at: Instant,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    record_count: u32,
    ratio: Ratio,
    /// What its records, as they are expected to be compressed, may come to with the header.
    bytes_max: usize,
    /// What its buffer holds.
    room: usize,
    /// What a larger one may hold.
    room_max: usize,
}

impl<C> OpenBatch<C> {
    /// Opens a batch with its first record, which always fits.
    pub(crate) fn open(batch: NewBatch<C>, record: &RecordView<'_>, bytes_max: usize) -> Self {
        let NewBatch {
            mut buffer,
            buffer_bytes_max,
            ratio,
            completion,
            now,
        } = batch;
        let bytes = buffer.as_mut_vec();
        bytes.clear();
        reserve_header(bytes);
        PlacedRecord::new(record, Place::FIRST).append_to(bytes);
        let room = buffer.capacity().min(BATCH_BYTES_MAX);
        Self {
            buffer,
            ratio,
            completion,
            opened_at: now,
            base_timestamp_ms: record.timestamp_ms,
            max_timestamp_ms: record.timestamp_ms,
            record_count: 1,
            bytes_max,
            room,
            room_max: buffer_bytes_max.clamp(room, BATCH_BYTES_MAX),
        }
    }

    /// Appends a record and says where, if it fits.
    #[inline(always)]
    pub(crate) fn append(&mut self, record: &RecordView<'_>) -> Result<Placed, NoRoom> {
        let place = Place {
            // Wraps for timestamps more than half the range apart, as Kafka's readers do.
            timestamp_delta_ms: record.timestamp_ms.wrapping_sub(self.base_timestamp_ms),
            offset_delta: self.record_count,
        };
        let placed = PlacedRecord::new(record, place);
        let bytes = placed.bytes();
        let end = self.buffer.len() + bytes;
        if end > self.room || !self.may_take(bytes) {
            return Err(self.no_room(bytes));
        }
        placed.append_to(self.buffer.as_mut_vec());
        self.buffer.fetch_ahead(bytes);
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        self.record_count += 1;
        Ok(Placed {
            index: place.offset_delta,
            bytes,
        })
    }

    /// Why so many bytes more do not fit.
    #[cold]
    fn no_room(&self, bytes: usize) -> NoRoom {
        if !self.may_take(bytes) {
            return NoRoom::Batch;
        }
        let end = self.buffer.len() + bytes;
        let bytes = self.room.saturating_mul(2).max(end).min(self.room_max);
        NoRoom::Buffer { bytes }
    }

    /// Takes a larger buffer for its own; gives back the one that is not needed.
    pub(crate) fn exchange(&mut self, mut buffer: BatchBuffer) -> BatchBuffer {
        if buffer.capacity() <= self.room {
            return buffer;
        }
        let bytes = buffer.as_mut_vec();
        bytes.clear();
        bytes.extend_from_slice(&self.buffer);
        self.room = buffer.capacity().min(self.room_max);
        core::mem::replace(&mut self.buffer, buffer)
    }

    /// Whether not even the smallest record fits.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        !self.may_take(RECORD_BYTES_MIN)
    }

    /// Whether it may become so many bytes larger; they themselves count as they are.
    #[inline]
    fn may_take(&self, bytes: usize) -> bool {
        let records = self.buffer.len().saturating_sub(HEADER_BYTES);
        let expected = HEADER_BYTES + self.ratio.compressed(records);
        expected + bytes <= self.bytes_max && self.buffer.len() + bytes <= self.room_max
    }

    #[inline]
    pub(crate) fn completion(&self) -> &C {
        &self.completion
    }

    pub(crate) fn opened_at(&self) -> Instant {
        self.opened_at
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    pub(crate) fn seal(self) -> SealedBatch<C> {
        SealedBatch {
            plain_bytes: self.buffer.len(),
            buffer: self.buffer,
            completion: self.completion,
            times: Times {
                opened_at: self.opened_at,
                sealed_at: None,
                compressed_at: None,
            },
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            record_count: self.record_count,
            compression: CompressionType::None,
        }
    }
}

/// A batch that takes no more records and has no sequence yet.
#[derive(Debug)]
pub struct SealedBatch<C> {
    buffer: BatchBuffer,
    completion: C,
    times: Times,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    record_count: u32,
    compression: CompressionType,
    /// Its size before it was compressed.
    plain_bytes: usize,
}

impl<C> SealedBatch<C> {
    /// When its first record came.
    #[must_use]
    pub fn opened_at(&self) -> Instant {
        self.times.opened_at
    }

    /// It is known to take no more records.
    pub(crate) fn note_sealed(&mut self, now: Instant) {
        self.times.sealed_at.get_or_insert(now);
    }

    /// Its size on the wire in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// How many records it holds, at least 1.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Lends out header room and records, to be compressed.
    pub(crate) fn take_plain(&mut self) -> BatchBuffer {
        core::mem::replace(&mut self.buffer, BatchBuffer::with_capacity(0))
    }

    /// Takes back what was lent out.
    pub(crate) fn put_back(&mut self, batch: CompressedBatch, now: Instant) {
        self.times.compressed_at = Some(now);
        self.buffer = batch.buffer;
        self.compression = batch.compression;
    }

    /// Completes header and checksum.
    pub(crate) fn stamp(self, producer: Option<ProducerStamp>) -> StampedBatch<C> {
        let header = BatchHeader {
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            record_count: self.record_count,
            compression: self.compression,
            producer,
        };
        let mut buffer = self.buffer;
        complete_header(&mut buffer, &header);
        StampedBatch {
            buffer: Arc::new(buffer),
            completion: Some(self.completion),
            header,
            times: self.times,
            plain_bytes: self.plain_bytes,
        }
    }

    /// The handle by which its records are resolved.
    #[must_use]
    pub fn completion(&self) -> &C {
        &self.completion
    }

    /// Gives up the batch for its handle.
    pub(crate) fn into_completion(self) -> C {
        self.completion
    }
}

/// A batch with its final header: what goes on the wire, as often as needed.
#[derive(Debug)]
pub(crate) struct StampedBatch<C> {
    buffer: Arc<BatchBuffer>,
    /// A part of a batch that was split has none: its partition's ledger keeps it.
    completion: Option<C>,
    header: BatchHeader,
    times: Times,
    plain_bytes: usize,
}

impl<C> StampedBatch<C> {
    /// Its bytes, for a request.
    pub(crate) fn share(&self) -> Bytes {
        self.buffer.share()
    }

    /// Its size on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.header.record_count
    }

    pub(crate) fn stamp(&self) -> Option<ProducerStamp> {
        self.header.producer
    }

    pub(crate) fn times(&self) -> Times {
        self.times
    }

    /// Its size before it was compressed.
    pub(crate) fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// Stamps again after an epoch bump (KIP-360). Copies only if the old bytes are still held.
    pub(crate) fn restamp(self, producer: Option<ProducerStamp>) -> Self {
        let header = BatchHeader {
            producer,
            ..self.header
        };
        let mut buffer = Arc::try_unwrap(self.buffer).unwrap_or_else(|held| {
            let mut copy = held.another(held.len());
            copy.as_mut_vec().extend_from_slice(&held);
            copy
        });
        complete_header(&mut buffer, &header);
        Self {
            buffer: Arc::new(buffer),
            header,
            ..self
        }
    }

    /// Cuts it in two, each with the sequences of its records and compressed as it was; gives it
    /// back if it cannot be cut.
    pub(crate) fn split(self, codec: Codec) -> Result<Halves<C>, Self> {
        let payload = self.buffer.get(HEADER_BYTES..).unwrap_or_default();
        let lend = |bytes| self.buffer.another(bytes);
        let halves = decompress(self.header.compression, payload)
            .and_then(|records| halve(&records, &self.header, lend));
        let Some(halves) = halves else {
            return Err(self);
        };
        let codec = match self.header.compression {
            CompressionType::None => Codec::NONE,
            _ => codec,
        };
        let mut compressor = Compressor::new(codec);
        let halves = halves.map(|(plain, header)| {
            let plain_bytes = plain.len();
            let CompressedBatch {
                compression,
                mut buffer,
            } = compressor.compress(plain);
            let header = BatchHeader {
                compression,
                ..header
            };
            complete_header(&mut buffer, &header);
            Self {
                buffer: Arc::new(buffer),
                completion: None,
                times: self.times,
                plain_bytes,
                header,
            }
        });
        let completion = self.completion;
        Ok(Halves { completion, halves })
    }

    /// How it is compressed.
    pub(crate) fn compression(&self) -> CompressionType {
        self.header.compression
    }

    pub(crate) fn into_completion(self) -> Option<C> {
        self.completion
    }
}

/// What a batch was split into.
#[derive(Debug)]
pub(crate) struct Halves<C> {
    /// The whole batch's handle, if it had one: it was not itself such a half.
    pub(crate) completion: Option<C>,
    /// In the order of their records.
    pub(crate) halves: [StampedBatch<C>; 2],
}

/// A batch's length field is an `i32`.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// Length, attributes, two deltas, null key, null value, no headers: one byte each.
const RECORD_BYTES_MIN: usize = 7;

const _: () = assert!(HEADER_BYTES == 61);
