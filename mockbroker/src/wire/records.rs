//! The records of a batch: walked over without a copy, or decoded whole for a test to look at.
//!
//! *State* of a walk over `count` records:
//!
//! ```text
//!          next            count read, nothing left
//! Reading ──────▶ Reading ──────────────────────────▶ end
//!     │                   count read, bytes left
//!     ├──────────────────────────────────────────────▶ Fault::Invalid
//!     │ a field runs past its record or the batch, or is malformed
//!     └──────────────────────────────────────────────▶ Fault
//! ```
//!
//! *Invariants*
//! 1. Nothing is copied or reserved per record; a walk ends after `count` records or a fault.
//! 2. Every read is bounded by the bytes at hand.
//!
//! *Source* apache/kafka `clients/…/common/record/{DefaultRecord,DefaultRecordBatch}.java`,
//! `clients/…/common/utils/ByteUtils.java`; verdicts observed on 4.3.1.
//!
//! *Not here* what a topic demands of its records (`engine/validator.rs`).

use bytes::Bytes;

use super::batch_view::{BatchHeader, LOG_APPEND_TIME, codec};
use super::compression::{self, Undecodable};

/// Why records do not follow their format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Kafka finds the record invalid.
    #[error("a record does not follow its format")]
    Invalid,
    /// Kafka fails with an exception that it maps to no code: a record's length is no varint.
    #[error("a record's length is no varint")]
    Failed,
}

/// Whether a record's length is held against its content.
///
/// Kafka skips keys and values of a compressed batch that it need not recompress, and then does not
/// look at the length (`DefaultRecord.readPartiallyFrom`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Held against the content.
    Checked,
    /// Read and not used.
    Ignored,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its timestamp less the batch's base.
    pub timestamp_delta: i64,
    /// Its offset less the batch's base.
    pub offset_delta: i32,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    header_count: u32,
}

impl<'a> RecordView<'a> {
    /// Names and values of the headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut reader = Reader {
            bytes: self.headers,
        };
        (0..self.header_count).map_while(move |_| reader.header().ok())
    }
}

/// A walk over the records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    left: i32,
    lengths: Lengths,
}

impl<'a> Records<'a> {
    /// The records in `bytes`, `count` of them, decompressed.
    #[must_use]
    pub const fn new(bytes: &'a [u8], count: i32, lengths: Lengths) -> Self {
        Self {
            reader: Reader { bytes },
            left: count,
            lengths,
        }
    }

    /// The next record, `None` behind the last.
    ///
    /// # Errors
    ///
    /// When it does not follow its format, or bytes are left behind the last.
    pub fn next_record(&mut self) -> Result<Option<RecordView<'a>>, Fault> {
        if self.left <= 0 {
            return Ok(None);
        }
        let record = match self.lengths {
            Lengths::Checked => {
                let length = self.reader.varint().map_err(|bad| match bad {
                    Bad::Short => Fault::Invalid,
                    Bad::Overflow => Fault::Failed,
                })?;
                let mut body = self.reader.sub(length).map_err(|_| Fault::Invalid)?;
                let record = body.record().map_err(|_| Fault::Invalid)?;
                if !body.bytes.is_empty() {
                    return Err(Fault::Invalid);
                }
                record
            }
            Lengths::Ignored => {
                self.reader.varint().map_err(|_| Fault::Invalid)?;
                self.reader.record().map_err(|_| Fault::Invalid)?
            }
        };
        self.left -= 1;
        if self.left == 0 && !self.reader.bytes.is_empty() {
            return Err(Fault::Invalid);
        }
        Ok(Some(record))
    }
}

enum Bad {
    Short,
    Overflow,
}

#[derive(Clone, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A number of one byte, as nearly all are; its sign is in the last bit.
    #[inline]
    fn short(&mut self) -> Option<i8> {
        let (first, rest) = self.bytes.split_first()?;
        let byte = first.cast_signed();
        if byte < 0 {
            return None;
        }
        self.bytes = rest;
        Some((byte >> 1) ^ -(byte & 1))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Bad> {
        let (first, rest) = self.bytes.split_first().ok_or(Bad::Short)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// `ByteUtils.readVarint`: zigzag, at most five bytes, the overhanging bits are dropped.
    #[inline]
    fn varint(&mut self) -> Result<i32, Bad> {
        match self.short() {
            Some(short) => Ok(short.into()),
            None => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<i32, Bad> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let sign = (value & 1).wrapping_neg();
                return Ok(((value >> 1) ^ sign).cast_signed());
            }
        }
        Err(Bad::Overflow)
    }

    /// `ByteUtils.readVarlong`: the same in ten bytes.
    #[inline]
    fn varlong(&mut self) -> Result<i64, Bad> {
        match self.short() {
            Some(short) => Ok(short.into()),
            None => self.long_varlong(),
        }
    }

    fn long_varlong(&mut self) -> Result<i64, Bad> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let sign = (value & 1).wrapping_neg();
                return Ok(((value >> 1) ^ sign).cast_signed());
            }
        }
        Err(Bad::Overflow)
    }

    #[inline]
    fn sub(&mut self, length: i32) -> Result<Reader<'a>, Bad> {
        let length = usize::try_from(length).map_err(|_| Bad::Short)?;
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(Bad::Short)?;
        self.bytes = rest;
        Ok(Reader { bytes: head })
    }

    /// Any negative length reads as null (observed).
    #[inline]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, Bad> {
        let length = self.varint()?;
        if length < 0 {
            Ok(None)
        } else {
            self.sub(length).map(|sub| Some(sub.bytes))
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Bad> {
        let name = self.varint()?;
        let name = self.sub(name)?.bytes;
        Ok((name, self.nullable()?))
    }

    #[inline]
    fn record(&mut self) -> Result<RecordView<'a>, Bad> {
        self.byte()?;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let header_count = u32::try_from(self.varint()?).map_err(|_| Bad::Short)?;
        let headers = self.bytes;
        for _ in 0..header_count {
            self.header()?;
        }
        let used = headers.len() - self.bytes.len();
        let headers = headers.get(..used).unwrap_or_default();
        Ok(RecordView {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
            header_count,
        })
    }
}

/// A record, decoded whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedRecord {
    /// Its offset in the log.
    pub offset: i64,
    /// Its timestamp: the client's, or the broker's where that counts.
    pub timestamp_ms: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// Names and values of the headers, in order; names need not be UTF-8.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Why a batch cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The attributes name a codec that does not exist.
    #[error("the batch names an unknown codec")]
    Codec,
    /// The payload does not decompress.
    #[error(transparent)]
    Payload(#[from] Undecodable),
    /// A record does not follow its format.
    #[error(transparent)]
    Record(#[from] Fault),
}

/// The records of a stored batch: `payload` are the bytes behind its header.
///
/// # Errors
///
/// When the payload does not decompress or a record does not follow its format, which only a batch
/// that was accepted with [`Lengths::Ignored`] may show.
pub fn decode(header: &BatchHeader, payload: &Bytes) -> Result<Vec<DecodedRecord>, Unreadable> {
    let codec = codec(header.attributes).ok_or(Unreadable::Codec)?;
    let plain = compression::decompress(codec, payload)?;
    let lengths = match compression::is_compressed(codec) {
        true => Lengths::Ignored,
        false => Lengths::Checked,
    };
    let mut walk = Records::new(&plain, header.record_count, lengths);
    let mut records = Vec::new();
    while let Some(record) = walk.next_record()? {
        let owned = |part: &[u8]| plain.slice_ref(part);
        records.push(DecodedRecord {
            offset: header
                .base_offset
                .saturating_add(i64::from(record.offset_delta)),
            timestamp_ms: timestamp_ms(header, &record),
            key: record.key.map(owned),
            value: record.value.map(owned),
            headers: record
                .headers()
                .map(|(name, value)| (owned(name), value.map(owned)))
                .collect(),
        });
    }
    Ok(records)
}

/// A record's timestamp: with the attribute of the broker's time, the batch's largest one.
#[must_use]
pub fn timestamp_ms(header: &BatchHeader, record: &RecordView<'_>) -> i64 {
    if header.has(LOG_APPEND_TIME) {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(record.timestamp_delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn read(bytes: &[u8], count: i32, lengths: Lengths) -> Result<usize, Fault> {
        let mut walk = Records::new(bytes, count, lengths);
        let mut read = 0;
        while walk.next_record()?.is_some() {
            read += 1;
        }
        Ok(read)
    }

    // A record: length, attributes, timestamp delta, offset delta, key, value, headers.
    const K_V: &[u8] = &[0x10, 0, 0, 0, 2, b'k', 2, b'v', 0];

    #[rstest]
    #[case::whole(K_V, 1, Ok(1))]
    #[case::fewer_than_count(K_V, 2, Err(Fault::Invalid))]
    #[case::a_byte_behind(&[0x10, 0, 0, 0, 2, b'k', 2, b'v', 0, 0], 1, Err(Fault::Invalid))]
    #[case::length_no_varint(&[0xff; 10], 1, Err(Fault::Failed))]
    #[case::length_below_0(&[1, 0, 0, 0, 1, 1, 0], 1, Err(Fault::Invalid))]
    #[case::length_0(&[0, 0, 0, 0, 1, 1, 0], 1, Err(Fault::Invalid))]
    #[case::length_one_short(&[0x0e, 0, 0, 0, 2, b'k', 2, b'v', 0], 1, Err(Fault::Invalid))]
    #[case::length_one_long(&[0x12, 0, 0, 0, 2, b'k', 2, b'v', 0], 1, Err(Fault::Invalid))]
    #[case::key_length_minus_2(&[0x0c, 0, 0, 0, 3, 1, 0], 1, Ok(1))]
    #[case::key_beyond_the_record(&[0x10, 0, 0, 0, 40, b'k', 2, b'v', 0], 1, Err(Fault::Invalid))]
    #[case::header_count_below_0(&[0x0c, 0, 0, 0, 1, 1, 1], 1, Err(Fault::Invalid))]
    #[case::header_count_1000(&[0x0e, 0, 0, 0, 1, 1, 0xd0, 0x0f], 1, Err(Fault::Invalid))]
    #[case::header_name_null(&[0x10, 0, 0, 0, 1, 1, 2, 1, 1], 1, Err(Fault::Invalid))]
    #[case::header_value_null(&[0x12, 0, 0, 0, 1, 1, 2, 2, b'h', 1], 1, Ok(1))]
    #[case::offset_delta_overflow(
        &[0x14, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0], 1, Err(Fault::Invalid)
    )]
    fn records_are_judged_as_kafka_does(
        #[case] bytes: &[u8],
        #[case] count: i32,
        #[case] expected: Result<usize, Fault>,
    ) {
        assert_eq!(read(bytes, count, Lengths::Checked), expected);
    }

    #[rstest]
    #[case::one_short(&[0x0e, 0, 0, 0, 2, b'k', 2, b'v', 0])]
    #[case::far_too_long(&[0xd0, 0x0f, 0, 0, 0, 2, b'k', 2, b'v', 0])]
    fn lengths_inside_a_compressed_batch_are_not_looked_at(#[case] bytes: &[u8]) {
        assert_eq!(read(bytes, 1, Lengths::Ignored), Ok(1));
        assert_eq!(read(bytes, 1, Lengths::Checked), Err(Fault::Invalid));
    }

    #[rstest]
    #[case::zero(&[0], 0)]
    #[case::minus_one(&[1], -1)]
    #[case::most_of_one_byte(&[0x7e], 63)]
    #[case::least_of_one_byte(&[0x7f], -64)]
    #[case::least_of_two_bytes(&[0x80, 1], 64)]
    #[case::zero_in_two_bytes(&[0x80, 0], 0)]
    #[case::most(&[0xfe, 0xff, 0xff, 0xff, 0x0f], i32::MAX)]
    #[case::least(&[0xff, 0xff, 0xff, 0xff, 0x0f], i32::MIN)]
    fn varints_of_any_length_are_zigzag(#[case] bytes: &[u8], #[case] expected: i32) {
        let (mut narrow, mut wide) = (Reader { bytes }, Reader { bytes });
        assert_eq!(narrow.varint().ok(), Some(expected));
        assert_eq!(wide.varlong().ok(), Some(expected.into()));
        assert_eq!(
            (narrow.bytes, wide.bytes),
            (&[][..], &[][..]),
            "all is read"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_records_or_a_fault(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            count in any::<i32>(),
            ignored in any::<bool>(),
        ) {
            let lengths = if ignored { Lengths::Ignored } else { Lengths::Checked };
            // A record takes at least seven bytes, so the walk ends long before the count.
            if let Ok(read) = read(&bytes, count, lengths) {
                prop_assert!(read * 6 <= bytes.len());
            }
        }
    }
}
