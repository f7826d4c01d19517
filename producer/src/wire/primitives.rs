//! The protocol's primitive encodings: varints, a bounded reader, and a small writer.
//!
//! *Invariants*
//! 1. A size function tells exactly what its writer writes.
//! 2. The reader never panics, never reads past its slice, and never trusts a count: a count that
//!    the bytes left cannot back is refused before anything is allocated for it.
//!
//! *Source*: Kafka's `ByteUtils` (zigzag varints), KIP-482 (unsigned varints, compact lengths,
//! tagged fields).

use bytes::{BufMut, BytesMut};

use crate::types::TopicId;
use crate::wire::error::DecodeError;

/// Which of the two encodings a message's version uses (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Fixed-width lengths, no tagged fields.
    Classic,
    /// Varint lengths plus one, tagged fields after each structure.
    Flexible,
}

/// How many bytes `value` takes as an unsigned varint (1 to 10).
#[must_use]
#[inline]
pub fn unsigned_varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    // Seven bits a byte, rounded up, without a division: right for 1 to 64.
    ((bits * 9 + 64) / 64) as usize
}

/// How many bytes `value` takes as a zigzag varint (1 to 10).
#[must_use]
#[inline]
pub fn varint_bytes(value: i64) -> usize {
    unsigned_varint_bytes(zigzag(value))
}

/// A length or count as a varint's value; lengths beyond 2⁶³ do not exist in memory.
#[must_use]
#[inline]
pub fn length_value(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Appends an unsigned varint.
pub fn put_unsigned_varint(buffer: &mut BytesMut, value: u64) {
    let mut rest = value;
    while rest >= 0x80 {
        buffer.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    buffer.put_u8((rest & 0x7f) as u8);
}

/// Appends a count in the encoding's width.
pub fn put_count(buffer: &mut BytesMut, encoding: Encoding, count: usize) {
    match encoding {
        Encoding::Classic => buffer.put_i32(i32::try_from(count).unwrap_or(i32::MAX)),
        Encoding::Flexible => put_unsigned_varint(buffer, count as u64 + 1),
    }
}

/// Appends a text that is not null.
pub fn put_text(buffer: &mut BytesMut, encoding: Encoding, text: &str) {
    match encoding {
        Encoding::Classic => buffer.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX)),
        Encoding::Flexible => put_unsigned_varint(buffer, text.len() as u64 + 1),
    }
    buffer.put_slice(text.as_bytes());
}

/// Appends a null text.
pub fn put_null_text(buffer: &mut BytesMut, encoding: Encoding) {
    match encoding {
        Encoding::Classic => buffer.put_i16(-1),
        Encoding::Flexible => buffer.put_u8(0),
    }
}

/// Appends "no tagged fields" where the encoding has them.
pub fn put_no_tags(buffer: &mut BytesMut, encoding: Encoding) {
    if encoding == Encoding::Flexible {
        buffer.put_u8(0);
    }
}

/// Appends varints: written where they stand if there is room for the widest, so that nothing is
/// copied.
#[inline(always)]
pub(crate) fn put_varints<const N: usize>(buffer: &mut Vec<u8>, values: [i64; N]) {
    const { assert!(N <= VARINTS_MAX) }
    let start = buffer.len();
    let is_short = values.iter().all(|&value| zigzag(value) < 1 << 14);
    if !is_short || buffer.capacity() - start < 2 * VARINTS_MAX {
        return put_varints_apart(buffer, &values);
    }
    // One or two bytes each, written without a branch between them.
    buffer.extend_from_slice(&[0; 2 * VARINTS_MAX]);
    let Some(room) = buffer.last_chunk_mut::<{ 2 * VARINTS_MAX }>() else {
        return;
    };
    let mut length = 0;
    for value in values {
        let bits = zigzag(value);
        let more = u8::from(bits >= 0x80);
        // The remainder changes nothing, and makes the bound plain to the compiler.
        room[length % (2 * VARINTS_MAX)] = (bits & 0x7f) as u8 | (more << 7);
        room[(length + 1) % (2 * VARINTS_MAX)] = (bits >> 7) as u8;
        length += 1 + usize::from(more);
    }
    buffer.truncate(start + length);
}

/// Long ones, or where little room is left.
#[cold]
fn put_varints_apart(buffer: &mut Vec<u8>, values: &[i64]) {
    for &value in values {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            buffer.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        buffer.push((rest & 0x7f) as u8);
    }
}

/// How many varints [`put_varints`] takes at once. A power of two.
const VARINTS_MAX: usize = 8;

/// Reads a frame field by field, within its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    ///
    /// The frame ends before.
    pub fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let truncated = DecodeError::Truncated {
            field,
            needed: count,
            left: self.rest.len(),
        };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a big-endian 16-bit integer.
    ///
    /// # Errors
    ///
    /// The frame ends before.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// Reads a big-endian 32-bit integer.
    ///
    /// # Errors
    ///
    /// The frame ends before.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Reads a big-endian 64-bit integer.
    ///
    /// # Errors
    ///
    /// The frame ends before.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Reads a topic id.
    ///
    /// # Errors
    ///
    /// The frame ends before.
    pub fn topic_id(&mut self, field: &'static str) -> Result<TopicId, DecodeError> {
        self.array(field).map(TopicId)
    }

    /// Reads an unsigned varint of at most 32 bits.
    ///
    /// # Errors
    ///
    /// The frame ends before the varint does, or the varint does not fit 32 bits.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::EndlessVarint { field });
            }
        }
        Err(DecodeError::EndlessVarint { field })
    }

    /// Reads a text; `None` is null.
    ///
    /// # Errors
    ///
    /// The frame ends before, the length is impossible, or the bytes are not UTF-8.
    pub fn text(
        &mut self,
        field: &'static str,
        encoding: Encoding,
    ) -> Result<Option<&'a str>, DecodeError> {
        let length = match encoding {
            Encoding::Classic => i64::from(self.i16(field)?),
            Encoding::Flexible => i64::from(self.unsigned_varint(field)?) - 1,
        };
        if length == -1 {
            return Ok(None);
        }
        let length =
            usize::try_from(length).map_err(|_| DecodeError::ImpossibleLength { field, length })?;
        let bytes = self.take(field, length)?;
        let text = core::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { field })?;
        Ok(Some(text))
    }

    /// Reads an array's count; a null array counts as empty.
    ///
    /// # Errors
    ///
    /// The frame ends before, or has fewer than one byte left for each element.
    pub fn count(&mut self, field: &'static str, encoding: Encoding) -> Result<usize, DecodeError> {
        let length = match encoding {
            Encoding::Classic => i64::from(self.i32(field)?),
            Encoding::Flexible => i64::from(self.unsigned_varint(field)?) - 1,
        };
        match usize::try_from(length) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            Err(_) if length == -1 => Ok(0),
            _ => Err(DecodeError::ImpossibleLength { field, length }),
        }
    }

    /// Reads the tagged fields of a structure, handing each its own bytes.
    ///
    /// # Errors
    ///
    /// The frame ends before, or `read` fails.
    pub fn tags(
        &mut self,
        encoding: Encoding,
        mut read: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if encoding == Encoding::Classic {
            return Ok(());
        }
        let count = self.unsigned_varint("tag count")?;
        for _ in 0..count {
            let tag = self.unsigned_varint("tag")?;
            let length = self.unsigned_varint("tag length")? as usize;
            let mut value = Reader::new(self.take("tagged field", length)?);
            read(tag, &mut value)?;
        }
        Ok(())
    }

    /// Steps over the tagged fields of a structure.
    ///
    /// # Errors
    ///
    /// The frame ends before.
    pub fn skip_tags(&mut self, encoding: Encoding) -> Result<(), DecodeError> {
        self.tags(encoding, |_, _| Ok(()))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let truncated = DecodeError::Truncated {
            field,
            needed: N,
            left: self.rest.len(),
        };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Maps small magnitudes of either sign to small unsigned values: 0, −1, 1, −2 to 0, 1, 2, 3.
#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, &[0])]
    #[case(-1, &[1])]
    #[case(1, &[2])]
    #[case(63, &[126])]
    #[case(-64, &[127])]
    #[case(64, &[128, 1])]
    #[case(300, &[216, 4])]
    #[case(i64::from(i32::MAX), &[254, 255, 255, 255, 15])]
    #[case(i64::from(i32::MIN), &[255, 255, 255, 255, 15])]
    #[case(i64::MAX, &[254, 255, 255, 255, 255, 255, 255, 255, 255, 1])]
    #[case(i64::MIN, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1])]
    fn a_varint_has_kafkas_bytes(#[case] value: i64, #[case] bytes: &[u8]) {
        for room in [0, 2 * VARINTS_MAX] {
            let mut buffer = Vec::with_capacity(room);
            put_varints(&mut buffer, [value]);
            assert_eq!(buffer, bytes);
        }
        assert_eq!(varint_bytes(value), bytes.len());
    }

    #[rstest]
    #[case::endless(&[255, 255, 255, 255, 255, 1])]
    #[case::wider_than_32_bits(&[255, 255, 255, 255, 31])]
    #[case::cut(&[128])]
    fn a_varint_that_is_none_is_refused(#[case] bytes: &[u8]) {
        assert!(Reader::new(bytes).unsigned_varint("test").is_err());
    }

    #[rstest]
    #[case::beyond_the_frame(&[0, 5, b'a'])]
    #[case::negative(&[255, 254])]
    #[case::not_utf8(&[0, 1, 255])]
    fn a_text_that_is_none_is_refused(#[case] bytes: &[u8]) {
        assert!(Reader::new(bytes).text("test", Encoding::Classic).is_err());
    }

    #[rstest]
    #[case::null(&[255, 255, 255, 255], Some(0))]
    #[case::backed(&[0, 0, 0, 2, 1, 1], Some(2))]
    #[case::unbacked(&[0, 0, 0, 3, 1, 1], None)]
    #[case::negative(&[255, 255, 255, 254, 1, 1], None)]
    fn a_count_is_backed_by_the_frame(#[case] bytes: &[u8], #[case] count: Option<usize>) {
        assert_eq!(
            Reader::new(bytes).count("test", Encoding::Classic).ok(),
            count
        );
    }

    proptest! {
        #[test]
        fn an_unsigned_varint_reads_back(value: u32) {
            let mut buffer = BytesMut::new();
            put_unsigned_varint(&mut buffer, u64::from(value));
            prop_assert_eq!(buffer.len(), unsigned_varint_bytes(u64::from(value)));
            let mut reader = Reader::new(&buffer);
            prop_assert_eq!(reader.unsigned_varint("test"), Ok(value));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn a_text_reads_back(text in ".{0,300}", flexible: bool) {
            let encoding = if flexible { Encoding::Flexible } else { Encoding::Classic };
            let mut buffer = BytesMut::new();
            put_text(&mut buffer, encoding, &text);
            prop_assert_eq!(Reader::new(&buffer).text("test", encoding), Ok(Some(&*text)));
        }
    }
}
