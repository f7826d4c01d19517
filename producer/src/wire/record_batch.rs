//! The record batch of format 2, written in place: header room first, records behind it, and the
//! header completed and checksummed once producer id and sequence are known.
//!
//! ```text
//! base_offset i64 | length i32 | leader_epoch i32 | magic i8 | crc u32 |
//! attributes i16 | last_offset_delta i32 | base_timestamp i64 | max_timestamp i64 |
//! producer_id i64 | producer_epoch i16 | base_sequence i32 | count i32 | records …
//! ```
//!
//! *Invariants*
//! 1. [`PlacedRecord::bytes`] is exactly what [`PlacedRecord::append_to`] appends; it is measured
//!    once.
//! 2. The checksum covers everything from `attributes` to the end; what precedes it may change.
//! 3. Completing a header twice with the same values leaves the same bytes.
//!
//! *Source*: Kafka's `DefaultRecordBatch` and `DefaultRecord`.
//!
//! *Not here*: when a batch is full or sealed (`engine/queue.rs`), compression
//! (`compression.rs`).

use bytes::BufMut;

use crate::types::{CompressionType, ProducerEpoch, ProducerId, Sequence};
use crate::wire::primitives::{length_value, put_varints, varint_bytes};

/// The header's size in bytes.
pub const HEADER_BYTES: usize = 61;

/// A record as it is appended: borrowed, nothing copied before the wire buffer.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; `None` is null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null (a tombstone on compacted topics).
    pub value: Option<&'a [u8]>,
    /// Headers in order; names may repeat.
    pub headers: &'a [HeaderView<'a>],
}

/// One header of a record.
#[derive(Clone, Copy, Debug)]
pub struct HeaderView<'a> {
    /// The name, never null.
    pub key: &'a str,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// Where in its batch a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The record's timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta_ms: i64,
    /// The record's index in the batch.
    pub offset_delta: u32,
}

impl Place {
    /// The first record's place.
    pub const FIRST: Self = Self {
        timestamp_delta_ms: 0,
        offset_delta: 0,
    };
}

/// What the header says of a finished batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Timestamp of the first record, milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// The latest timestamp of all records, milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// How many records follow, at least 1.
    pub record_count: u32,
    /// How what follows is compressed.
    pub compression: CompressionType,
    /// Who wrote it, for idempotent producers.
    pub producer: Option<ProducerStamp>,
}

/// Producer id, epoch and the sequence of a batch's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id.
    pub id: ProducerId,
    /// The id's epoch.
    pub epoch: ProducerEpoch,
    /// The first record's sequence.
    pub base_sequence: Sequence,
    /// Whether the batch is part of a transaction.
    pub scope: Scope,
}

/// Whether a batch is part of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// It counts once it is written.
    #[default]
    Alone,
    /// It counts once its transaction is committed.
    Transaction,
}

/// The exact size of a batch that holds this record alone: what a buffer for it must have room for.
#[must_use]
pub fn single_record_batch_bytes(record: &RecordView<'_>) -> usize {
    HEADER_BYTES + PlacedRecord::new(record, Place::FIRST).bytes()
}

/// A record at its place in a batch, measured.
#[derive(Clone, Copy, Debug)]
pub struct PlacedRecord<'a> {
    record: &'a RecordView<'a>,
    place: Place,
    body_bytes: usize,
}

impl<'a> PlacedRecord<'a> {
    /// Measures a record.
    #[must_use]
    #[inline]
    pub fn new(record: &'a RecordView<'a>, place: Place) -> Self {
        Self {
            record,
            place,
            body_bytes: body_bytes(record, place),
        }
    }

    /// The exact size, length prefix included.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        varint_bytes(length_value(self.body_bytes)) + self.body_bytes
    }

    /// Appends the record; the buffer grows only when the caller left no room.
    #[inline(always)]
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        let record = self.record;
        let length = length_value(self.body_bytes);
        // The record's attributes, of which none are defined: a byte, and as a varint the same.
        let attributes = 0;
        let value_length = length_of(record.value);
        let [delta_ms, offset_delta] = [
            self.place.timestamp_delta_ms,
            i64::from(self.place.offset_delta),
        ];
        match record.key {
            Some(key) => {
                let key_length = length_value(key.len());
                put_varints(
                    buffer,
                    [length, attributes, delta_ms, offset_delta, key_length],
                );
                buffer.extend_from_slice(key);
                put_varints(buffer, [value_length]);
            }
            None => {
                let null = -1;
                let place = [
                    length,
                    attributes,
                    delta_ms,
                    offset_delta,
                    null,
                    value_length,
                ];
                put_varints(buffer, place);
            }
        }
        if let Some(value) = record.value {
            buffer.extend_from_slice(value);
        }
        if record.headers.is_empty() {
            return buffer.push(0);
        }
        put_headers(buffer, record.headers);
    }
}

fn put_headers(buffer: &mut Vec<u8>, headers: &[HeaderView<'_>]) {
    put_varints(buffer, [length_value(headers.len())]);
    for header in headers {
        for field in [Some(header.key.as_bytes()), header.value] {
            put_varints(buffer, [length_of(field)]);
            buffer.extend_from_slice(field.unwrap_or_default());
        }
    }
}

/// Reserves the header's room in an empty buffer.
pub fn reserve_header(buffer: &mut Vec<u8>) {
    buffer.resize(HEADER_BYTES, 0);
}

/// Writes the header over its room at the buffer's start, checksum last.
///
/// A buffer without room for a header is left alone: it never was a batch.
pub fn complete_header(buffer: &mut [u8], header: &BatchHeader) {
    let (id, epoch, sequence) = header.producer.map_or((-1, -1, -1), |stamp| {
        (stamp.id.0, stamp.epoch.0, stamp.base_sequence.value())
    });
    let length = i32::try_from(buffer.len().saturating_sub(LENGTH_END)).unwrap_or(i32::MAX);
    let count = i32::try_from(header.record_count).unwrap_or(i32::MAX);
    let Some(mut room) = buffer.get_mut(..HEADER_BYTES) else {
        return;
    };
    room.put_i64(0); // base offset: the broker assigns it
    room.put_i32(length);
    room.put_i32(-1); // partition leader epoch: the broker assigns it
    room.put_i8(MAGIC);
    room.put_u32(0);
    // Create time, no control batch.
    let transactional = match header.producer.map(|stamp| stamp.scope) {
        Some(Scope::Transaction) => TRANSACTIONAL,
        Some(Scope::Alone) | None => 0,
    };
    room.put_i16(header.compression.wire() | transactional);
    room.put_i32(count - 1);
    room.put_i64(header.base_timestamp_ms);
    room.put_i64(header.max_timestamp_ms);
    room.put_i64(id);
    room.put_i16(epoch);
    room.put_i32(sequence);
    room.put_i32(count);
    let crc = crc_fast::crc32_iscsi(&buffer[CRC_END..]);
    buffer[CRC_AT..CRC_END].copy_from_slice(&crc.to_be_bytes());
}

/// A field's length as it stands before it; −1 is null.
#[inline]
fn length_of(field: Option<&[u8]>) -> i64 {
    field.map_or(-1, |bytes| length_value(bytes.len()))
}

#[inline(always)]
fn body_bytes(record: &RecordView<'_>, place: Place) -> usize {
    let headers_bytes = match record.headers {
        [] => 1,
        headers => headers_bytes(headers),
    };
    1 + varint_bytes(place.timestamp_delta_ms)
        + varint_bytes(i64::from(place.offset_delta))
        + field_bytes(record.key)
        + field_bytes(record.value)
        + headers_bytes
}

/// Their count and themselves.
fn headers_bytes(headers: &[HeaderView<'_>]) -> usize {
    let each = headers
        .iter()
        .map(|header| field_bytes(Some(header.key.as_bytes())) + field_bytes(header.value));
    varint_bytes(length_value(headers.len())) + each.sum::<usize>()
}

#[inline]
fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| {
        varint_bytes(length_value(bytes.len())) + bytes.len()
    })
}

const MAGIC: i8 = 2;
/// The bit of the attributes.
const TRANSACTIONAL: i16 = 0x10;
const LENGTH_END: usize = 12;
const CRC_AT: usize = 17;
const CRC_END: usize = 21;
