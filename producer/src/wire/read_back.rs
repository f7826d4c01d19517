//! A reader of record batches for tests, written apart from the writer: what a broker would see.
//!
//! It panics on anything that is not a batch of format 2 (Kafka's `DefaultRecordBatch`).

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A batch that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadBatch {
    pub(crate) max_timestamp_ms: i64,
    /// Id, epoch, base sequence.
    pub(crate) producer: (i64, i16, i32),
    pub(crate) records: Vec<ReadRecord>,
}

/// Reads one whole batch.
pub(crate) fn read_batch(bytes: &[u8]) -> ReadBatch {
    let mut at = Cursor { bytes, position: 0 };
    assert_eq!(at.int(8), 0, "base offset");
    let length = at.int(4);
    assert_eq!(length, bytes.len() as i64 - 12, "batch length");
    assert_eq!(at.int(4), -1, "partition leader epoch");
    assert_eq!(at.int(1), 2, "magic");
    let crc = at.int(4) as u32;
    assert_eq!(crc, crc32c::crc32c(&bytes[21..]), "checksum");
    assert_eq!(at.int(2), 0, "attributes");
    let last_offset_delta = at.int(4);
    let base_timestamp_ms = at.int(8);
    let max_timestamp_ms = at.int(8);
    let producer = (at.int(8), at.int(2) as i16, at.int(4) as i32);
    let count = at.int(4);
    assert_eq!(last_offset_delta, count - 1, "last offset delta");
    let records = (0..count)
        .map(|index| read_record(&mut at, index, base_timestamp_ms))
        .collect();
    assert_eq!(at.position, bytes.len(), "nothing behind the records");
    ReadBatch {
        max_timestamp_ms,
        producer,
        records,
    }
}

fn read_record(at: &mut Cursor<'_>, index: i64, base_timestamp_ms: i64) -> ReadRecord {
    let length = at.varint();
    let end = at.position + usize::try_from(length).expect("not negative");
    assert_eq!(at.int(1), 0, "record attributes");
    let timestamp_ms = base_timestamp_ms.wrapping_add(at.varint());
    assert_eq!(at.varint(), index, "offset delta");
    let (key, value) = (at.field(), at.field());
    let headers = (0..at.varint()).map(|_| {
        let name = at.field().expect("a header's name is never null");
        (String::from_utf8(name).expect("utf-8"), at.field())
    });
    let headers = headers.collect();
    assert_eq!(at.position, end, "record length");
    ReadRecord {
        timestamp_ms,
        key,
        value,
        headers,
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Cursor<'_> {
    fn int(&mut self, width: usize) -> i64 {
        let mut value = i64::from(self.bytes[self.position].cast_signed());
        for byte in &self.bytes[self.position + 1..self.position + width] {
            value = value << 8 | i64::from(*byte);
        }
        self.position += width;
        value
    }

    fn varint(&mut self) -> i64 {
        let mut raw = 0_u64;
        for shift in 0.. {
            let byte = self.bytes[self.position];
            self.position += 1;
            raw |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                break;
            }
        }
        if raw & 1 == 0 {
            (raw >> 1).cast_signed()
        } else {
            -(raw >> 1).cast_signed() - 1
        }
    }

    fn field(&mut self) -> Option<Vec<u8>> {
        let length = self.varint();
        if length == -1 {
            return None;
        }
        let end = self.position + usize::try_from(length).expect("not negative");
        let taken = self.bytes[self.position..end].to_vec();
        self.position = end;
        Some(taken)
    }
}
