//! Record batches as they lie in a request: their bounds, their headers, their checksum.
//!
//! *State* of the bytes of one partition, as Kafka looks for batches in them:
//!
//! ```text
//!                 < 17 bytes left, or fewer than the batch claims
//! bytes ─▶ Scan ─────────────────────────────────────────────────▶ no (further) batch
//!           │ length < 14, or magic outside 0 to 2
//!           ├──────────────────────────────────────▶ Malformed
//!           ▼
//!         a batch, then Scan behind it
//! ```
//!
//! *Invariants*
//! 1. A batch that is found lies whole inside the bytes; nothing here reads beyond them.
//! 2. Nothing is copied or reserved.
//!
//! *Source* apache/kafka `clients/…/common/record/{ByteBufferLogInputStream,
//! DefaultRecordBatch}.java`.
//!
//! *Not here* the records of a batch (`records.rs`).

use crate::config::CompressionType;

/// Bytes of a batch before its records (message format 2).
pub const HEADER_BYTES: usize = 61;

/// Bytes of offset and length, which a batch's length does not count.
const PREFIX_BYTES: usize = 12;

/// The least that a batch may claim: the overhead of message format 0.
const LENGTH_MIN: i32 = 14;

/// Where the bytes that the checksum covers begin: the attributes.
const CHECKED_FROM: usize = 21;

const MAGIC_AT: usize = 16;

/// A codec's number in the attributes; the other numbers are unknown to Kafka.
#[must_use]
pub const fn codec(attributes: i16) -> Option<CompressionType> {
    Some(match attributes & 7 {
        0 => CompressionType::Uncompressed,
        1 => CompressionType::Gzip,
        2 => CompressionType::Snappy,
        3 => CompressionType::Lz4,
        4 => CompressionType::Zstd,
        _ => return None,
    })
}

/// The codec's number; [`CompressionType::Producer`] has none and counts as uncompressed.
#[must_use]
pub const fn codec_bits(codec: CompressionType) -> i16 {
    match codec {
        CompressionType::Producer | CompressionType::Uncompressed => 0,
        CompressionType::Gzip => 1,
        CompressionType::Snappy => 2,
        CompressionType::Lz4 => 3,
        CompressionType::Zstd => 4,
    }
}

/// The attribute that says that the broker's time counts.
pub const LOG_APPEND_TIME: i16 = 1 << 3;
/// The attribute of a transactional batch.
pub const TRANSACTIONAL: i16 = 1 << 4;
/// The attribute of a control batch.
pub const CONTROL: i16 = 1 << 5;

/// The header of a batch of message format 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; 0 from a producer.
    pub base_offset: i64,
    /// Bytes behind this field.
    pub batch_length: i32,
    /// The leader epoch of the append.
    pub leader_epoch: i32,
    /// The checksum as it stands in the header.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// The last record's offset less the first's.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from.
    pub base_timestamp: i64,
    /// The largest timestamp, or the time of the append.
    pub max_timestamp: i64,
    /// The producer's id; -1 for none.
    pub producer_id: i64,
    /// The producer's epoch; -1 for none.
    pub producer_epoch: i16,
    /// The first record's sequence; -1 for none.
    pub base_sequence: i32,
    /// How many records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Whether all bits of `flag` are set.
    #[must_use]
    pub const fn has(&self, flag: i16) -> bool {
        self.attributes & flag == flag
    }

    /// Whether the batch has a producer id, so that its sequence counts.
    #[must_use]
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id > -1
    }

    /// The offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Reads a header; the magic byte is the caller's to check.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut at = Fields { bytes, at: 0 };
        let (base_offset, batch_length) = (at.int64(), at.int32());
        let leader_epoch = at.int32();
        at.at += 1;
        Self {
            base_offset,
            batch_length,
            leader_epoch,
            crc: at.uint32(),
            attributes: at.int16(),
            last_offset_delta: at.int32(),
            base_timestamp: at.int64(),
            max_timestamp: at.int64(),
            producer_id: at.int64(),
            producer_epoch: at.int16(),
            base_sequence: at.int32(),
            record_count: at.int32(),
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.batch_length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&[2]);
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        bytes
    }

    /// The checksum that this header and these records should have.
    #[must_use]
    pub fn checksum(&self, records: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.write()[CHECKED_FROM..]), records)
    }
}

/// Fields of a header, one after the other; the array's length makes every read safe.
struct Fields<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    at: usize,
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        field
    }

    fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    fn uint32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn int64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }
}

/// A batch inside the bytes of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
}

/// Bytes that cannot be a batch's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length is below the least possible.
    #[error("Record size {0} is less than the minimum record overhead (14)")]
    Length(i32),
    /// The magic byte is none of 0 to 2.
    #[error("Invalid magic found in record: {0}")]
    Magic(i8),
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`, and what lies behind it; `None` when no whole batch does.
    ///
    /// # Errors
    ///
    /// When the bytes cannot begin a batch (`ByteBufferLogInputStream.nextBatchSize`).
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Malformed> {
        let Some(length) = bytes.get(8..PREFIX_BYTES) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        if length < LENGTH_MIN {
            return Err(Malformed::Length(length));
        }
        let Some(magic) = bytes.get(MAGIC_AT) else {
            return Ok(None);
        };
        let magic = i8::from_be_bytes([*magic]);
        if !(0..=2).contains(&magic) {
            return Err(Malformed::Magic(magic));
        }
        let whole = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(PREFIX_BYTES));
        let split = whole.and_then(|whole| bytes.split_at_checked(whole));
        Ok(split.map(|(bytes, rest)| (Self { bytes }, rest)))
    }

    /// All its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The message format: 2 since Kafka 0.11.
    #[must_use]
    pub fn magic(self) -> i8 {
        self.bytes
            .get(MAGIC_AT)
            .map_or(-1, |magic| i8::from_be_bytes([*magic]))
    }

    /// The header and the bytes of the records; `None` when it is shorter than a header.
    #[must_use]
    pub fn split(self) -> Option<(BatchHeader, &'a [u8])> {
        let (header, records) = self.bytes.split_first_chunk::<HEADER_BYTES>()?;
        Some((BatchHeader::read(header), records))
    }

    /// The checksum over what it covers; call it once, it reads every byte.
    #[must_use]
    pub fn checksum(self) -> u32 {
        crc32c::crc32c(self.bytes.get(CHECKED_FROM..).unwrap_or_default())
    }

    /// Whether the attribute of a transactional batch is set; only format 2 has it.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.magic() == 2
            && self
                .split()
                .is_some_and(|(header, _)| header.has(TRANSACTIONAL))
    }
}

/// A batch with a right length and a right checksum, for tests of this and other files.
#[cfg(test)]
pub(crate) fn encoded(mut header: BatchHeader, payload: &[u8]) -> bytes::Bytes {
    let length = HEADER_BYTES - PREFIX_BYTES + payload.len();
    header.batch_length = i32::try_from(length).unwrap();
    header.crc = header.checksum(payload);
    [&header.write()[..], payload].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// One record, key `k`, value `v`: taken from a request that 4.3.1 accepted.
    const ONE_RECORD: &str = "00000000000000000000003affffffff023c8c470e00000000000000\
         0001a2003d3290000001a2003d3290ffffffffffffffffffffffffffff0000000110000000026b027600";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex
            .bytes()
            .filter_map(|digit| char::from(digit).to_digit(16))
            .map(|d| d as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    #[test]
    fn a_header_is_read_and_written_alike() {
        let bytes = bytes(ONE_RECORD);
        let (view, rest) = BatchView::first(&bytes).unwrap().unwrap();
        assert!(rest.is_empty());
        let (header, records) = view.split().unwrap();
        assert_eq!(
            (
                header.record_count,
                header.last_offset_delta,
                header.producer_id
            ),
            (1, 0, -1)
        );
        assert_eq!(header.write()[..], bytes[..HEADER_BYTES]);
        assert_eq!(header.crc, view.checksum());
        assert_eq!(header.crc, header.checksum(records));
    }

    #[rstest]
    #[case::nothing(&[], Ok(false))]
    #[case::five_bytes(&[0; 5], Ok(false))]
    #[case::zeros(&[0; 61], Err(Malformed::Length(0)))]
    #[case::length_too_small(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13], Err(Malformed::Length(13)))]
    #[case::no_magic_yet(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0], Ok(false))]
    #[case::magic_9(
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 0, 9],
        Err(Malformed::Magic(9))
    )]
    #[case::magic_below_0(
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 0, 0xff],
        Err(Malformed::Magic(-1))
    )]
    fn beginnings_are_judged_as_kafka_does(
        #[case] bytes: &[u8],
        #[case] expected: Result<bool, Malformed>,
    ) {
        assert_eq!(
            BatchView::first(bytes).map(|found| found.is_some()),
            expected
        );
    }

    #[test]
    fn a_batch_that_is_cut_is_none() {
        let bytes = bytes(ONE_RECORD);
        assert_eq!(BatchView::first(&bytes[..bytes.len() - 1]), Ok(None));
    }
}
