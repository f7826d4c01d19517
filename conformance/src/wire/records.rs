//! Fetch, and the reading of record batches that a broker holds.
//!
//! *Invariants*
//! 1. Every batch returned had the right checksum, magic 2, and as many records as it says.
//! 2. A record's offset is its batch's base offset plus its delta, whatever the broker says else.
//! 3. An incomplete batch at the end of an answer is dropped, as any consumer does: a broker cuts
//!    an answer at the size asked for.
//!
//! *Source*: Kafka's `DefaultRecordBatch`, `DefaultRecord`; `FetchResponse.json`.

use bytes::Bytes;

use super::Request;
use super::batch::{CONTROL_BIT, CRC_COVERS_FROM, RecordSpec, Stamp};
use super::codec::Codec;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Layout, Reader};
use super::request::{self, EncodeError};

/// Reads one partition by topic name (versions up to 12).
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First offset wanted.
    pub offset: i64,
    /// Longest wait for a record, milliseconds.
    pub wait_ms_max: i32,
    /// Largest answer.
    pub bytes_max: i32,
}

/// The answer to [`Fetch`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchAnswer {
    /// Of the partition, or of the request when that failed as a whole.
    pub error: ErrorCode,
    /// Offset after the last record that readers may see.
    pub high_watermark: i64,
    /// The first offset of an open transaction, or the high watermark.
    pub last_stable: i64,
    /// First offset of the log.
    pub log_start: i64,
    /// Producer ids and first offsets of transactions that were aborted.
    pub aborted: Vec<(i64, i64)>,
    /// Whole batches and perhaps a cut one.
    pub records: Bytes,
}

impl Request for Fetch {
    type Answer = FetchAnswer;
    const API_KEY: i16 = 1;
    const NAME: &'static str = "Fetch";
    /// Later versions name topics by id.
    const VERSION_MAX: i16 = 12;
    const FLEXIBLE_FROM: i16 = 12;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::fetch(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        read_fetched(reader, version)
    }
}

/// The same as one who reads only what is committed.
#[derive(Clone, Debug)]
pub struct FetchCommitted(pub Fetch);

impl Request for FetchCommitted {
    type Answer = FetchAnswer;
    const API_KEY: i16 = Fetch::API_KEY;
    const NAME: &'static str = Fetch::NAME;
    const VERSION_MAX: i16 = Fetch::VERSION_MAX;
    const FLEXIBLE_FROM: i16 = Fetch::FLEXIBLE_FROM;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::fetch_committed(&self.0, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        read_fetched(reader, version)
    }
}

/// First version that names topics by id (KIP-516).
pub const FETCH_BY_ID_FROM: i16 = 13;

/// The same by topic id (versions from 13 on).
#[derive(Clone, Debug)]
pub struct FetchById {
    /// Topic id.
    pub id: [u8; 16],
    /// The rest; its topic name is not sent.
    pub fetch: Fetch,
}

impl Request for FetchById {
    type Answer = FetchAnswer;
    const API_KEY: i16 = Fetch::API_KEY;
    const NAME: &'static str = Fetch::NAME;
    const VERSION_MAX: i16 = 18;
    const FLEXIBLE_FROM: i16 = Fetch::FLEXIBLE_FROM;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::fetch_by_id(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        read_fetched(reader, version)
    }
}

fn read_fetched(reader: &mut Reader<'_>, version: i16) -> Result<FetchAnswer, DecodeError> {
    reader.i32("throttle time")?;
    let error = match version >= 7 {
        true => ErrorCode(reader.i16("error code")?),
        false => ErrorCode::NONE,
    };
    if version >= 7 {
        reader.i32("session id")?;
    }
    let topics = reader.list("topics", |reader| {
        if version >= FETCH_BY_ID_FROM {
            reader.uuid("topic id")?;
        } else {
            reader.string("topic name")?;
        }
        let rows = reader.list("partitions", |reader| read_partition(reader, version))?;
        reader.tags("topic tags")?;
        Ok(rows)
    })?;
    reader.tags("body tags")?;
    let mut rows = topics.into_iter().flatten();
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        (None, _) if error != ErrorCode::NONE => Ok(FetchAnswer {
            error,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            aborted: Vec::new(),
            records: Bytes::new(),
        }),
        _ => Err(reader.error("not exactly one partition")),
    }
}

fn read_partition(reader: &mut Reader<'_>, version: i16) -> Result<FetchAnswer, DecodeError> {
    reader.i32("partition index")?;
    let error = ErrorCode(reader.i16("error code")?);
    let high_watermark = reader.i64("high watermark")?;
    let last_stable = reader.i64("last stable offset")?;
    let log_start = if version >= 5 {
        reader.i64("log start offset")?
    } else {
        -1
    };
    let aborted = reader.nullable_list("aborted transactions", |reader| {
        let producer_id = reader.i64("producer id")?;
        let first_offset = reader.i64("first offset")?;
        reader.tags("aborted transaction tags")?;
        Ok((producer_id, first_offset))
    })?;
    if version >= 11 {
        reader.i32("preferred read replica")?;
    }
    let records = reader.nullable_bytes("records")?.unwrap_or_default();
    let records = Bytes::copy_from_slice(records);
    reader.tags("partition tags")?;
    Ok(FetchAnswer {
        error,
        high_watermark,
        last_stable,
        log_start,
        aborted: aborted.unwrap_or_default(),
        records,
    })
}

/// A batch as a broker holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredBatch {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The leader's epoch when it was appended.
    pub leader_epoch: i32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record less the base offset.
    pub last_offset_delta: i32,
    /// Who wrote it.
    pub stamp: Stamp,
    /// In order.
    pub records: Vec<StoredRecord>,
}

impl StoredBatch {
    /// Whether it holds a transaction marker instead of data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// The offset after its last record.
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
            .saturating_add(1)
    }
}

/// A record as a broker holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredRecord {
    /// Where it stands in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, value, headers.
    pub content: RecordSpec,
}

impl StoredRecord {
    /// The value as text; empty for null.
    pub fn value_text(&self) -> String {
        let value = self.content.value.as_deref().unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }
}

/// All whole batches in `bytes`.
///
/// # Errors
///
/// When a batch breaks an invariant of this module; offsets are those within `bytes`, or within
/// the batch's unpacked records.
pub fn read_batches(bytes: &[u8]) -> Result<Vec<StoredBatch>, DecodeError> {
    let mut reader = Reader::new(bytes, Layout::Plain);
    let mut batches = Vec::new();
    while reader.left() >= SIZE_FIELD_END {
        let mut ahead = reader.clone();
        let base_offset = ahead.i64("base offset")?;
        let length = ahead.i32("batch length")?;
        let length = usize::try_from(length)
            .map_err(|_| ahead.error(format!("batch length {length} is below 0")))?;
        if length > ahead.left() {
            break;
        }
        let body = ahead.take(length, "batch")?;
        batches.push(read_batch(base_offset, body)?);
        reader = ahead;
    }
    Ok(batches)
}

/// Base offset and length: what must be there to know where a batch ends.
const SIZE_FIELD_END: usize = 12;

fn read_batch(base_offset: i64, body: &[u8]) -> Result<StoredBatch, DecodeError> {
    let mut reader = Reader::new(body, Layout::Plain);
    let leader_epoch = reader.i32("partition leader epoch")?;
    let magic = reader.i8("magic")?;
    if magic != 2 {
        return Err(reader.error(format!("magic is {magic}, not 2")));
    }
    let checksum = reader.u32("checksum")?;
    let actual = crc32c::crc32c(
        body.get(CRC_COVERS_FROM - SIZE_FIELD_END..)
            .unwrap_or_default(),
    );
    if checksum != actual {
        return Err(reader.error(format!(
            "checksum is {checksum:08x}, bytes give {actual:08x}"
        )));
    }
    let attributes = reader.i16("attributes")?;
    let last_offset_delta = reader.i32("last offset delta")?;
    let base_timestamp = reader.i64("base timestamp")?;
    let max_timestamp = reader.i64("max timestamp")?;
    let stamp = Stamp {
        id: reader.i64("producer id")?,
        epoch: reader.i16("producer epoch")?,
        sequence: reader.i32("base sequence")?,
    };
    let count = reader.i32("record count")?;
    let codec = Codec::of_attributes(attributes)
        .ok_or_else(|| reader.error(format!("unknown codec in attributes {attributes:#x}")))?;
    let packed = reader.take(reader.left(), "records")?;
    let plain = codec.unpack(packed)?;
    let mut records = read_records(&plain, count, base_offset, base_timestamp)?;
    if attributes & LOG_APPEND_TIME_BIT != 0 {
        // With log append time all records have the batch's maximum (KIP-32).
        records
            .iter_mut()
            .for_each(|record| record.timestamp_ms = max_timestamp);
    }
    Ok(StoredBatch {
        base_offset,
        leader_epoch,
        attributes,
        last_offset_delta,
        stamp,
        records,
    })
}

const LOG_APPEND_TIME_BIT: i16 = 0x08;

fn read_records(
    plain: &[u8],
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
) -> Result<Vec<StoredRecord>, DecodeError> {
    let mut reader = Reader::new(plain, Layout::Plain);
    let mut records = Vec::new();
    for _ in 0..count {
        let length = reader.varint("record length")?;
        let length = usize::try_from(length).map_err(|_| reader.error("record length below 0"))?;
        let mut record = Reader::new(reader.take(length, "record")?, Layout::Plain);
        record.i8("record attributes")?;
        let timestamp_delta = record.varlong("timestamp delta")?;
        let offset_delta = record.varint("offset delta")?;
        let key = read_bytes(&mut record, "key")?;
        let value = read_bytes(&mut record, "value")?;
        let mut headers = Vec::new();
        for _ in 0..record.varint("header count")? {
            let key = read_bytes(&mut record, "header key")?;
            let key = key.and_then(|key| String::from_utf8(key.to_vec()).ok());
            let key = key.ok_or_else(|| record.error("header key is null or not UTF-8"))?;
            headers.push((key, read_bytes(&mut record, "header value")?));
        }
        record.finish()?;
        records.push(StoredRecord {
            offset: base_offset.saturating_add(i64::from(offset_delta)),
            timestamp_ms: base_timestamp.saturating_add(timestamp_delta),
            content: RecordSpec {
                key,
                value,
                headers,
            },
        });
    }
    reader.finish()?;
    Ok(records)
}

fn read_bytes(reader: &mut Reader<'_>, field: &str) -> Result<Option<Bytes>, DecodeError> {
    match usize::try_from(reader.varint(field)?) {
        Err(_) => Ok(None),
        Ok(length) => Ok(Some(Bytes::copy_from_slice(reader.take(length, field)?))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::{BatchSpec, HEADER_BYTES, flip_bit};
    use super::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
    }

    fn record() -> impl Strategy<Value = RecordSpec> {
        let headers = proptest::collection::vec(("[a-zä]{0,5}", bytes()), 0..4);
        (bytes(), bytes(), headers).prop_map(|(key, value, headers)| RecordSpec {
            key,
            value,
            headers,
        })
    }

    fn codec() -> impl Strategy<Value = Codec> {
        proptest::sample::select(Codec::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn what_the_builder_writes_the_reader_reads(
            records in proptest::collection::vec(record(), 1..20),
            codec in codec(),
            (base_offset, timestamp_ms) in (0_i64..1_000_000, 0_i64..4_000_000_000_000),
            (id, epoch, sequence) in (0_i64.., 0_i16.., 0_i32..),
        ) {
            let stamp = Stamp { id, epoch, sequence };
            let spec = BatchSpec { base_offset, codec, ..BatchSpec::of(records, timestamp_ms) }
                .stamped(stamp);
            let read = read_batches(&spec.encode()).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(read[0].stamp, stamp);
            prop_assert_eq!(read[0].next_offset(), base_offset + spec.records.len() as i64);
            for (index, (stored, sent)) in read[0].records.iter().zip(&spec.records).enumerate() {
                prop_assert_eq!(stored.offset, base_offset + index as i64);
                prop_assert_eq!(stored.timestamp_ms, timestamp_ms);
                prop_assert_eq!(&stored.content, sent);
            }
        }

        #[test]
        fn no_single_bit_can_turn_unseen(
            records in proptest::collection::vec(record(), 1..4),
            codec in codec(),
            (at, bit) in (CRC_COVERS_FROM..200, 0_u8..8),
        ) {
            let batch = BatchSpec { codec, ..BatchSpec::of(records, 1) }.encode();
            let at = CRC_COVERS_FROM + (at - CRC_COVERS_FROM) % (batch.len() - CRC_COVERS_FROM);
            prop_assert!(read_batches(&flip_bit(&batch, at, bit)).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read_batches(&bytes);
        }
    }

    #[test]
    fn cut_batch_at_the_end_is_dropped() {
        let batch = BatchSpec::numbered("v", 3, 1).encode();
        let mut two = batch.to_vec();
        two.extend_from_slice(&batch[..HEADER_BYTES + 1]);
        assert_eq!(read_batches(&two).unwrap().len(), 1);
    }

    #[test]
    fn record_count_that_lies_is_an_error() {
        for count in [1, 3] {
            let spec = BatchSpec {
                count: Some(count),
                ..BatchSpec::numbered("v", 2, 1)
            };
            assert!(
                read_batches(&spec.encode()).is_err(),
                "count {count} of 2 records"
            );
        }
    }
}
