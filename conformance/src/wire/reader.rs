//! A cursor over bytes that a peer sent.
//!
//! *Invariants*
//! 1. No read goes past the end; an error names the offset and the field.
//! 2. No count read from the bytes can make anybody allocate: a count is refused when it exceeds
//!    the bytes that are left, as every element takes at least one.
//!
//! *Source*: Kafka's protocol guide, "Protocol Primitive Types"; KIP-482 for compact lengths and
//! tagged fields.

use std::fmt;

/// How lengths and tagged fields are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Fixed-width lengths, no tagged fields.
    Plain,
    /// Varint lengths plus one, tagged fields after every structure (KIP-482).
    Flexible,
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecodeError {
    /// Offset of the byte where reading stopped.
    pub at: usize,
    /// The field that was being read and what is wrong with it.
    pub what: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for DecodeError {}

/// A cursor; see the module's invariants.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    layout: Layout,
}

impl<'a> Reader<'a> {
    /// A cursor at the first of `bytes`.
    pub fn new(bytes: &'a [u8], layout: Layout) -> Self {
        Self {
            bytes,
            at: 0,
            layout,
        }
    }

    /// Reads on in another layout: a header's may differ from its body's.
    pub fn switch_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// An error at the current position.
    pub fn error(&self, what: impl Into<String>) -> DecodeError {
        DecodeError {
            at: self.at,
            what: what.into(),
        }
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// When bytes are left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(format!("{left} bytes after the last field"))),
        }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn take(&mut self, count: usize, field: &str) -> Result<&'a [u8], DecodeError> {
        if count > self.left() {
            let left = self.left();
            return Err(self.error(format!("{field} needs {count} bytes, {left} are left")));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    /// One byte as a number.
    ///
    /// # Errors
    ///
    /// When the bytes end, as for all reads below.
    pub fn i8(&mut self, field: &str) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array(field)?))
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn i16(&mut self, field: &str) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn i32(&mut self, field: &str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    /// Four bytes, big-endian, unsigned.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn u32(&mut self, field: &str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn i64(&mut self, field: &str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// Sixteen bytes: a topic id.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn uuid(&mut self, field: &str) -> Result<[u8; 16], DecodeError> {
        self.array(field)
    }

    /// An unsigned varint of at most 32 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end or the value does not fit.
    pub fn uvarint(&mut self, field: &str) -> Result<u32, DecodeError> {
        let wide = self.varint_bits(field, 5)?;
        u32::try_from(wide).map_err(|_| self.error(format!("{field} is a varint over 32 bits")))
    }

    /// A signed (zig-zag) varint of at most 32 bits, as record fields use.
    ///
    /// # Errors
    ///
    /// When the bytes end or the value does not fit.
    pub fn varint(&mut self, field: &str) -> Result<i32, DecodeError> {
        let raw = self.uvarint(field)?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A signed (zig-zag) varint of at most 64 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end or the value does not fit.
    pub fn varlong(&mut self, field: &str) -> Result<i64, DecodeError> {
        let raw = self.varint_bits(field, 10)?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    fn varint_bits(&mut self, field: &str, bytes_max: u32) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        for index in 0..bytes_max {
            let [byte] = self.array::<1>(field)?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index;
            if (bits << shift) >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(format!(
            "{field} is a varint of more than {bytes_max} bytes"
        )))
    }

    /// A length or count: `None` for null. Bounded by the bytes left.
    fn length(&mut self, field: &str, width: Width) -> Result<Option<usize>, DecodeError> {
        let length = match (self.layout, width) {
            (Layout::Flexible, _) => i64::from(self.uvarint(field)?) - 1,
            (Layout::Plain, Width::Two) => i64::from(self.i16(field)?),
            (Layout::Plain, Width::Four) => i64::from(self.i32(field)?),
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.left() => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => {
                let left = self.left();
                Err(self.error(format!(
                    "{field} has length {length}, {left} bytes are left"
                )))
            }
        }
    }

    /// A string that may be null.
    ///
    /// # Errors
    ///
    /// When the bytes end or are not UTF-8.
    pub fn nullable_string(&mut self, field: &str) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(field, Width::Two)? else {
            return Ok(None);
        };
        let bytes = self.take(length, field)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.error(format!("{field} is not UTF-8"))),
        }
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// When it is null, the bytes end or are not UTF-8.
    pub fn string(&mut self, field: &str) -> Result<String, DecodeError> {
        self.nullable_string(field)?
            .ok_or_else(|| self.error(format!("{field} is null")))
    }

    /// Bytes that may be null.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn nullable_bytes(&mut self, field: &str) -> Result<Option<&'a [u8]>, DecodeError> {
        let Some(length) = self.length(field, Width::Four)? else {
            return Ok(None);
        };
        Ok(Some(self.take(length, field)?))
    }

    /// An array that may be null; `element` reads one.
    ///
    /// # Errors
    ///
    /// When the count exceeds the bytes left, or an element does not read.
    pub fn nullable_list<T>(
        &mut self,
        field: &str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(field, Width::Four)? else {
            return Ok(None);
        };
        // Grown by what is really there: the count is the peer's claim.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(Some(list))
    }

    /// An array; `element` reads one.
    ///
    /// # Errors
    ///
    /// When it is null, the count exceeds the bytes left, or an element does not read.
    pub fn list<T>(
        &mut self,
        field: &str,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_list(field, element)?
            .ok_or_else(|| self.error(format!("{field} is null")))
    }

    /// Tagged fields, as (tag, bytes); none in the plain layout.
    ///
    /// # Errors
    ///
    /// When the bytes end or the count exceeds them.
    pub fn tags(&mut self, field: &str) -> Result<Vec<(u32, &'a [u8])>, DecodeError> {
        let mut tags = Vec::new();
        if self.layout == Layout::Plain {
            return Ok(tags);
        }
        let count = self.uvarint(field)?;
        for _ in 0..count {
            let tag = self.uvarint(field)?;
            let size = self.uvarint(field)?;
            let size = usize::try_from(size).map_err(|_| self.error("tag size"))?;
            tags.push((tag, self.take(size, field)?));
        }
        Ok(tags)
    }
}

/// Width of a length in the plain layout.
#[derive(Clone, Copy)]
enum Width {
    Two,
    Four,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn plain(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, Layout::Plain)
    }

    fn flexible(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, Layout::Flexible)
    }

    #[rstest]
    #[case(&[0x00], 0)]
    #[case(&[0x01], -1)]
    #[case(&[0x02], 1)]
    #[case(&[0xfe, 0xff, 0xff, 0xff, 0x0f], i32::MAX)]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0x0f], i32::MIN)]
    fn zigzag_varint_reads_its_value(#[case] bytes: &[u8], #[case] value: i32) {
        let mut reader = plain(bytes);
        assert_eq!(reader.varint("v"), Ok(value));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[rstest]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0x1f])]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01])]
    #[case(&[0x80])]
    fn varint_over_32_bits_or_cut_is_refused(#[case] bytes: &[u8]) {
        assert!(plain(bytes).varint("v").is_err());
    }

    #[test]
    fn count_beyond_the_bytes_is_refused_before_any_element() {
        let mut asked = 0;
        let mut element = |reader: &mut Reader<'_>| {
            asked += 1;
            reader.i8("e")
        };
        let bytes = [0x7f, 0xff, 0xff, 0xff, 1, 2];
        let error = plain(&bytes).list("rows", &mut element).unwrap_err();
        assert_eq!(error.what, "rows has length 2147483647, 2 bytes are left");
        assert!(
            flexible(&[0xff, 0xff, 0xff, 0x7f, 1])
                .list("rows", &mut element)
                .is_err()
        );
        assert_eq!(asked, 0);
    }

    #[test]
    fn null_differs_from_empty_in_both_layouts() {
        assert_eq!(plain(&[0xff, 0xff]).nullable_string("s"), Ok(None));
        assert_eq!(plain(&[0, 0]).nullable_string("s"), Ok(Some(String::new())));
        assert_eq!(flexible(&[0]).nullable_string("s"), Ok(None));
        assert_eq!(flexible(&[1]).nullable_string("s"), Ok(Some(String::new())));
        assert!(flexible(&[0]).string("s").is_err());
    }

    #[test]
    fn bytes_after_the_last_field_are_named() {
        let mut reader = plain(&[0, 1, 2]);
        assert_eq!(reader.i16("n"), Ok(1));
        assert_eq!(
            reader.finish().unwrap_err().to_string(),
            "at byte 2: 1 bytes after the last field"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, layout in prop_oneof![
            Just(Layout::Plain), Just(Layout::Flexible)
        ]) {
            let mut reader = Reader::new(&bytes, layout);
            let _ = reader.list("l", |r| r.nullable_string("s"));
            let _ = reader.tags("t");
            let _ = reader.varlong("v");
            let _ = reader.nullable_bytes("b");
            prop_assert!(reader.position() <= bytes.len());
        }
    }
}
