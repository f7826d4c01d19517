//! What a topic demands of a batch, and what a broker changes in it before it appends.
//!
//! *State* of a batch on its way into a log:
//!
//! ```text
//!  bytes ─▶ Analysed ─▶ Validated ─▶ Candidate (base offset still open)
//!    │ 87 10 2 -1  │ 87 -1    │ 32 87 -1 10 18
//!    ▼             ▼          ▼
//!  Refused ◀───────◀──────────
//! ```
//!
//! *Invariants*
//! 1. The order of checks is Kafka's: base offset, size, checksum, codec, header, records, size
//!    again, segment.
//! 2. No memory is taken per record of a good uncompressed batch, and its checksum is read once.
//! 3. A candidate's payload is a slice of what was received, unless the topic's codec differs.
//!
//! *Source* apache/kafka `storage/…/internals/log/{UnifiedLog,LogValidator}.java`; verdicts
//! observed on 4.3.1.
//!
//! *Not here* sequences (`producer_state.rs`); how a refusal reads in a reply
//! (`handlers/produce_row.rs`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::config::{CompressionType, TimestampType, TopicConfig};
use crate::wire::batch_view::{
    BatchHeader, BatchView, CONTROL, HEADER_BYTES, LOG_APPEND_TIME, codec, codec_bits,
};
use crate::wire::compression::{self, Undecodable};
use crate::wire::records::{self, Fault, Lengths, RecordView, Records};

/// Why a batch is not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The base offset is not 0.
    BaseOffset,
    /// It is larger than `max.message.bytes`.
    TooLarge,
    /// The checksum is wrong, or it is shorter than a header.
    Corrupt,
    /// Kafka fails with an exception that it maps to no code.
    Failed,
    /// The header, or the records' form, is wrong.
    Invalid,
    /// Some records are not what the topic wants.
    Records(Vec<RecordError>),
    /// It is larger than `segment.bytes`.
    LargerThanSegment,
}

/// What is wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub index: i32,
    /// What.
    pub problem: Problem,
}

/// What may be wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A compacted topic needs keys.
    NoKey,
    /// The timestamp is too far from the broker's time.
    OutOfRange {
        /// The timestamp.
        timestamp: i64,
        /// The record's offset in the batch.
        offset: i64,
        /// The earliest allowed.
        earliest: i64,
        /// The latest allowed.
        latest: i64,
    },
    /// The batch claims the broker's time.
    ClaimsLogAppendTime {
        /// The record's offset in the batch.
        offset: i64,
        /// The timestamp.
        timestamp: i64,
        /// Bytes of the key; `None` is null.
        key_bytes: Option<usize>,
        /// Bytes of the value; `None` is null.
        value_bytes: Option<usize>,
    },
}

/// A batch that may be appended; its base offset and leader epoch are still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The header as it will be stored, but for base offset and leader epoch.
    pub header: BatchHeader,
    /// The bytes behind the header.
    pub payload: Bytes,
    /// The batch as it was received.
    pub received: Bytes,
}

/// Judges the first batch in `records` by a topic's configuration; bytes behind it are dropped.
///
/// # Errors
///
/// Why it is not appended.
pub fn validate(
    records: &Bytes,
    config: &TopicConfig,
    wall_clock_ms: i64,
) -> Result<Candidate, Refusal> {
    // The bounds were found before: whoever has no whole batch was refused as having none.
    let Ok(Some((batch, _))) = BatchView::first(records) else {
        return Err(Refusal::Invalid);
    };
    let header = analyse(batch, config)?;
    let source = codec(header.attributes).ok_or(Refusal::Failed)?;
    check_header(&header)?;
    let target = match config.compression_type {
        CompressionType::Producer => source,
        configured => configured,
    };
    let received = records.slice(..batch.bytes().len());
    let payload = received.slice(HEADER_BYTES..);
    let rules = Rules {
        header: &header,
        config,
        now_ms: wall_clock_ms,
    };
    let candidate = if source == target {
        let max_timestamp = rules.check_records(source, &payload)?;
        Candidate {
            header: stamp(header, &payload, &rules, max_timestamp),
            payload,
            received,
        }
    } else {
        rules.recompress(source, target, received)?
    };
    let bytes = HEADER_BYTES + candidate.payload.len();
    if source != target && exceeds(bytes, config.max_message_bytes) {
        return Err(Refusal::TooLarge);
    }
    if exceeds(bytes, config.segment_bytes) {
        return Err(Refusal::LargerThanSegment);
    }
    Ok(candidate)
}

fn exceeds(bytes: usize, limit: i32) -> bool {
    usize::try_from(limit).is_ok_and(|limit| bytes > limit)
}

/// `UnifiedLog.analyzeAndValidateRecords`.
fn analyse(batch: BatchView<'_>, config: &TopicConfig) -> Result<BatchHeader, Refusal> {
    let bytes = batch.bytes();
    // The base offset is checked first, before it is known that there is a whole header.
    if bytes.first_chunk::<8>() != Some(&[0; 8]) {
        return Err(Refusal::BaseOffset);
    }
    if exceeds(bytes.len(), config.max_message_bytes) {
        return Err(Refusal::TooLarge);
    }
    let (header, _) = batch.split().ok_or(Refusal::Corrupt)?;
    if header.crc != batch.checksum() {
        return Err(Refusal::Corrupt);
    }
    Ok(header)
}

/// `LogValidator.validateBatch`.
fn check_header(header: &BatchHeader) -> Result<(), Refusal> {
    let count_by_offsets = i64::from(header.last_offset_delta) + 1;
    let well_formed = count_by_offsets > 0
        && header.record_count > 0
        && count_by_offsets == i64::from(header.record_count)
        && !header.has(CONTROL)
        && (!header.has_producer_id() || header.base_sequence >= 0);
    if well_formed {
        Ok(())
    } else {
        Err(Refusal::Invalid)
    }
}

/// Sets timestamp type and largest timestamp; the checksum is made anew only if they differ
/// (`DefaultRecordBatch.setMaxTimestamp`).
fn stamp(
    header: BatchHeader,
    payload: &[u8],
    rules: &Rules<'_>,
    max_timestamp: i64,
) -> BatchHeader {
    let (attributes, max_timestamp) = match rules.config.message_timestamp_type {
        TimestampType::CreateTime => (header.attributes & !LOG_APPEND_TIME, max_timestamp),
        TimestampType::LogAppendTime => (header.attributes | LOG_APPEND_TIME, rules.now_ms),
    };
    let mut stamped = BatchHeader {
        attributes,
        max_timestamp,
        ..header
    };
    if stamped != header {
        stamped.crc = stamped.checksum(payload);
    }
    stamped
}

struct Rules<'a> {
    header: &'a BatchHeader,
    config: &'a TopicConfig,
    now_ms: i64,
}

impl Rules<'_> {
    /// Checks every record of a batch that keeps its codec; returns the largest timestamp.
    fn check_records(&self, source: CompressionType, payload: &Bytes) -> Result<i64, Refusal> {
        if !compression::is_compressed(source) {
            let walk = Records::new(payload, self.header.record_count, Lengths::Checked);
            return self.walk(walk, |_, _| Ok(()));
        }
        let plain = compression::decompress(source, payload).map_err(undecodable)?;
        let walk = Records::new(&plain, self.header.record_count, Lengths::Ignored);
        // Kafka would rebuild a batch whose offsets are not 0, 1, 2, … and fails at it, because it
        // skipped keys and values (observed: -1).
        self.walk(walk, |index, record| match record.offset_delta == index {
            true => Ok(()),
            false => Err(Refusal::Failed),
        })
    }

    fn walk(
        &self,
        mut walk: Records<'_>,
        mut each: impl FnMut(i32, &RecordView<'_>) -> Result<(), Refusal>,
    ) -> Result<i64, Refusal> {
        let mut max_timestamp = NO_TIMESTAMP;
        let mut errors = Vec::new();
        let mut strayed = Ok(());
        let mut index = 0;
        while let Some(record) = walk.next_record().map_err(faulty)? {
            match self.problem(&record) {
                Some(problem) => errors.push(RecordError { index, problem }),
                None => {
                    let timestamp = records::timestamp_ms(self.header, &record);
                    max_timestamp = max_timestamp.max(timestamp);
                }
            }
            if strayed.is_ok() {
                strayed = each(index, &record);
            }
            index += 1;
        }
        if !errors.is_empty() {
            return Err(Refusal::Records(errors));
        }
        strayed.map(|()| max_timestamp)
    }

    /// `LogValidator.validateRecord`: the key comes before the timestamp.
    fn problem(&self, record: &RecordView<'_>) -> Option<Problem> {
        if record.key.is_none() && self.config.cleanup_policy.is_compacted() {
            return Some(Problem::NoKey);
        }
        let timestamp = records::timestamp_ms(self.header, record);
        let offset = self
            .header
            .base_offset
            .wrapping_add(i64::from(record.offset_delta));
        let by_client = self.config.message_timestamp_type == TimestampType::CreateTime;
        if by_client && timestamp != NO_TIMESTAMP {
            let age = self.now_ms.wrapping_sub(timestamp);
            let (before, after) = (
                self.config.message_timestamp_before_max_ms,
                self.config.message_timestamp_after_max_ms,
            );
            return (age > before || age.wrapping_neg() > after).then(|| Problem::OutOfRange {
                timestamp,
                offset,
                earliest: self.now_ms.wrapping_sub(before),
                latest: self.now_ms.wrapping_add(after),
            });
        }
        self.header
            .has(LOG_APPEND_TIME)
            .then(|| Problem::ClaimsLogAppendTime {
                offset,
                timestamp,
                key_bytes: record.key.map(<[u8]>::len),
                value_bytes: record.value.map(<[u8]>::len),
            })
    }

    /// Checks every record and builds the batch anew in the topic's codec, offsets 0, 1, 2, …
    /// (`LogValidator.buildRecordsAndAssignOffsets`).
    fn recompress(
        &self,
        source: CompressionType,
        target: CompressionType,
        received: Bytes,
    ) -> Result<Candidate, Refusal> {
        let payload = received.slice(HEADER_BYTES..);
        let plain = compression::decompress(source, &payload).map_err(undecodable)?;
        let walk = Records::new(&plain, self.header.record_count, Lengths::Checked);
        let mut rebuilt = Rebuilt {
            base_timestamp: None,
            records: BytesMut::new(),
        };
        let max_timestamp = self.walk(walk, |index, record| {
            rebuilt.push(index, records::timestamp_ms(self.header, record), record);
            Ok(())
        })?;
        let payload = compression::compress(target, &rebuilt.records).map_err(undecodable)?;
        let length = i32::try_from(HEADER_BYTES - 12 + payload.len());
        let header = BatchHeader {
            batch_length: length.map_err(|_| Refusal::TooLarge)?,
            attributes: self.header.attributes & !7 | codec_bits(target),
            base_timestamp: rebuilt.base_timestamp.unwrap_or(NO_TIMESTAMP),
            ..*self.header
        };
        let mut header = stamp(header, &payload, self, max_timestamp);
        header.crc = header.checksum(&payload);
        Ok(Candidate {
            header,
            payload,
            received,
        })
    }
}

struct Rebuilt {
    base_timestamp: Option<i64>,
    records: BytesMut,
}

impl Rebuilt {
    fn push(&mut self, index: i32, timestamp: i64, record: &RecordView<'_>) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let mut body = BytesMut::new();
        body.put_u8(0);
        put_varlong(&mut body, timestamp.wrapping_sub(base));
        put_varlong(&mut body, i64::from(index));
        put_nullable(&mut body, record.key);
        put_nullable(&mut body, record.value);
        let headers = record.headers();
        put_length(&mut body, headers.count());
        for (name, value) in record.headers() {
            put_nullable(&mut body, Some(name));
            put_nullable(&mut body, value);
        }
        put_length(&mut self.records, body.len());
        self.records.put_slice(&body);
    }
}

fn put_nullable(out: &mut BytesMut, part: Option<&[u8]>) {
    match part {
        None => put_varlong(out, -1),
        Some(part) => {
            put_length(out, part.len());
            out.put_slice(part);
        }
    }
}

fn put_length(out: &mut BytesMut, length: usize) {
    put_varlong(out, i64::try_from(length).unwrap_or(i64::MAX));
}

/// A zigzag varint; of a value that fits 32 bits it has the same bytes as the shorter type's.
fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        // The mask leaves seven bits.
        out.put_u8(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.put_u8(u8::try_from(rest).unwrap_or(0));
}

const fn faulty(fault: Fault) -> Refusal {
    match fault {
        Fault::Invalid => Refusal::Invalid,
        Fault::Failed => Refusal::Failed,
    }
}

/// Kafka finds an early end invalid and fails at everything else (observed; the middle of a stream
/// may go either way).
const fn undecodable(reason: Undecodable) -> Refusal {
    match reason {
        Undecodable::Empty => Refusal::Invalid,
        Undecodable::Broken | Undecodable::TooLarge => Refusal::Failed,
    }
}

/// `RecordBatch.NO_TIMESTAMP`.
const NO_TIMESTAMP: i64 = -1;
