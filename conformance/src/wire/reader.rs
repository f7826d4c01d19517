//! A cursor over bytes that a peer sent.
//!
//! *Invariants*
//! 1. No read goes past the end; an error names the offset and the field.
//! 2. No count read from the bytes can make anybody allocate: a count is refused when it exceeds
//!    the bytes that are left, as every element takes at least one.
//!
//! A reader that is [`traced`](Reader::traced) also keeps what it reads, by the fields' names.
//!
//! *Source*: Kafka's protocol guide, "Protocol Primitive Types"; KIP-482 for compact lengths and
//! tagged fields.

use std::fmt;

use serde_json::Value;

use super::hex;
use super::trace::Trace;

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
    trace: Option<Trace>,
}

impl<'a> Reader<'a> {
    /// A cursor at the first of `bytes`.
    pub fn new(bytes: &'a [u8], layout: Layout) -> Self {
        Self {
            bytes,
            at: 0,
            layout,
            trace: None,
        }
    }

    /// The same, which keeps what it reads for [`Self::into_tree`].
    pub fn traced(bytes: &'a [u8], layout: Layout) -> Self {
        Self {
            trace: Some(Trace::new()),
            ..Self::new(bytes, layout)
        }
    }

    /// What was read, as a tree of named fields; null of a reader that is not traced.
    pub fn into_tree(self) -> Value {
        self.trace.map_or(Value::Null, Trace::finish)
    }

    fn note(&mut self, field: &str, value: impl Into<Value>) {
        if let Some(trace) = &mut self.trace {
            trace.note(field, value);
        }
    }

    /// Reads `bytes`, which belong to `field`, to their end by `read`; what it reads is kept here.
    fn within<'b, T>(
        &mut self,
        field: &str,
        (bytes, layout): (&'b [u8], Layout),
        read: impl FnOnce(&mut Reader<'b>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut inner = Reader::new(bytes, layout);
        inner.trace = self.trace.take();
        if let Some(trace) = &mut inner.trace {
            trace.open();
        }
        let read = read(&mut inner);
        let finished = inner.finish();
        self.trace = inner.trace;
        if let Some(trace) = &mut self.trace {
            let value = trace.close_whole();
            trace.note(field, value);
        }
        let value = read?;
        finished.map(|()| value)
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
        let value = i8::from_be_bytes(self.array(field)?);
        self.note(field, value);
        Ok(value)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn i16(&mut self, field: &str) -> Result<i16, DecodeError> {
        let value = i16::from_be_bytes(self.array(field)?);
        self.note(field, value);
        Ok(value)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn i32(&mut self, field: &str) -> Result<i32, DecodeError> {
        let value = i32::from_be_bytes(self.array(field)?);
        self.note(field, value);
        Ok(value)
    }

    /// Four bytes, big-endian, unsigned.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn u32(&mut self, field: &str) -> Result<u32, DecodeError> {
        let value = u32::from_be_bytes(self.array(field)?);
        self.note(field, value);
        Ok(value)
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn i64(&mut self, field: &str) -> Result<i64, DecodeError> {
        let value = i64::from_be_bytes(self.array(field)?);
        self.note(field, value);
        Ok(value)
    }

    /// Sixteen bytes: a topic id.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn uuid(&mut self, field: &str) -> Result<[u8; 16], DecodeError> {
        let value: [u8; 16] = self.array(field)?;
        self.note(field, hex::digits(&value));
        Ok(value)
    }

    /// An unsigned varint of at most 32 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end or the value does not fit.
    pub fn uvarint(&mut self, field: &str) -> Result<u32, DecodeError> {
        let value = self.varint_32(field)?;
        self.note(field, value);
        Ok(value)
    }

    fn varint_32(&mut self, field: &str) -> Result<u32, DecodeError> {
        let wide = self.varint_bits(field, 5)?;
        u32::try_from(wide).map_err(|_| self.error(format!("{field} is a varint over 32 bits")))
    }

    /// A signed (zig-zag) varint of at most 32 bits, as record fields use.
    ///
    /// # Errors
    ///
    /// When the bytes end or the value does not fit.
    pub fn varint(&mut self, field: &str) -> Result<i32, DecodeError> {
        let raw = self.varint_32(field)?;
        let value = (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed());
        self.note(field, value);
        Ok(value)
    }

    /// A signed (zig-zag) varint of at most 64 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end or the value does not fit.
    pub fn varlong(&mut self, field: &str) -> Result<i64, DecodeError> {
        let raw = self.varint_bits(field, 10)?;
        let value = (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed());
        self.note(field, value);
        Ok(value)
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
            (Layout::Flexible, _) => i64::from(self.varint_32(field)?) - 1,
            (Layout::Plain, Width::Two) => i64::from(i16::from_be_bytes(self.array(field)?)),
            (Layout::Plain, Width::Four) => i64::from(i32::from_be_bytes(self.array(field)?)),
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
            self.note(field, Value::Null);
            return Ok(None);
        };
        let bytes = self.take(length, field)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                self.note(field, text);
                Ok(Some(text.to_owned()))
            }
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
            self.note(field, Value::Null);
            return Ok(None);
        };
        let taken = self.take(length, field)?;
        if self.trace.is_some() {
            self.note(field, hex::digits(taken));
        }
        Ok(Some(taken))
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
            self.note(field, Value::Null);
            return Ok(None);
        };
        // Grown by what is really there: the count is the peer's claim.
        let (mut list, mut traced) = (Vec::new(), Vec::new());
        for _ in 0..count {
            if let Some(trace) = &mut self.trace {
                trace.open();
            }
            list.push(element(self)?);
            if let Some(trace) = &mut self.trace {
                traced.push(trace.close());
            }
        }
        self.note(field, traced);
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

    /// Tagged fields that are not looked at; none in the plain layout.
    ///
    /// # Errors
    ///
    /// When the bytes end or the count exceeds them.
    pub fn tags(&mut self, field: &str) -> Result<(), DecodeError> {
        self.tags_with(field, |_, _| Ok(Tag::Unknown))
    }

    /// Tagged fields, each read by `read`, which is given its number; none in the plain layout.
    ///
    /// # Errors
    ///
    /// When the bytes end or the count exceeds them; when a known field does not read to its end.
    pub fn tags_with(
        &mut self,
        field: &str,
        mut read: impl FnMut(u32, &mut Reader<'a>) -> Result<Tag, DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.layout == Layout::Plain {
            return Ok(());
        }
        for _ in 0..self.varint_32(field)? {
            let tag = self.varint_32(field)?;
            let size = self.varint_32(field)?;
            let size = usize::try_from(size).map_err(|_| self.error("tag size"))?;
            let bytes = self.take(size, field)?;
            let name = format!("{field} {tag}");
            self.within(&name, (bytes, self.layout), |reader| {
                match read(tag, reader)? {
                    Tag::Known => {}
                    Tag::Unknown => {
                        let rest = reader.take(reader.left(), &name)?;
                        reader.note("not known", hex::digits(rest));
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// What the reader of a tagged field makes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tag {
    /// It has read the field to its end.
    Known,
    /// It does not know the field and has read nothing of it.
    Unknown,
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

    #[test]
    fn tree_holds_every_field_by_name_and_unknown_tags_too() {
        let bytes = [
            2, 0x00, 0x05, 0x03, b'o', b'k', 3, 7, 0, 9, 2, 0xab, 0xcd, 8, 1, 6,
        ];
        let mut reader = Reader::traced(&bytes, Layout::Flexible);
        let rows = reader.list("rows", |reader| {
            reader.i16("code")?;
            let text = reader.string("text")?;
            let known = |tag, reader: &mut Reader<'_>| match tag {
                8 => reader.i8("leader").map(|_| Tag::Known),
                _ => Ok(Tag::Unknown),
            };
            reader.tags_with("tags", known)?;
            Ok(text)
        });
        assert_eq!(rows, Ok(vec!["ok".to_owned()]));
        let expected = serde_json::json!({"rows": [
            {"code": 5, "text": "ok", "tags 7": {"not known": ""},
             "tags 9": {"not known": "abcd"}, "tags 8": {"leader": 6}}
        ]});
        assert_eq!(reader.into_tree(), expected);
        assert_eq!(plain(&bytes).into_tree(), Value::Null, "not traced");
    }

    #[test]
    fn known_tag_must_be_read_to_its_end() {
        let mut reader = flexible(&[1, 0, 2, 6, 6]);
        let read = |_, reader: &mut Reader<'_>| reader.i8("leader").map(|_| Tag::Known);
        let error = reader.tags_with("tags", read).unwrap_err();
        assert_eq!(error.what, "1 bytes after the last field");
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
