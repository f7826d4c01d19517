//! Records written anew, for a topic that stores them in another codec than they came in.
//!
//! *Invariants*
//! 1. The first record's timestamp is what the others count from; offsets are 0, 1, 2, …
//! 2. What is written is read back by `records.rs` as the same keys, values, headers, timestamps.
//!
//! *Source* apache/kafka `clients/…/common/record/{MemoryRecordsBuilder,DefaultRecord}.java`.
//!
//! *Not here* headers of batches, compression.

use bytes::{BufMut, BytesMut};

use super::records::RecordView;

/// Collects the records of one batch.
#[derive(Debug, Default)]
pub struct RecordWriter {
    base_timestamp: Option<i64>,
    count: i64,
    records: BytesMut,
    body: BytesMut,
}

impl RecordWriter {
    /// Adds a record with this timestamp, at the next offset.
    pub fn push(&mut self, timestamp_ms: i64, record: &RecordView<'_>) {
        let base = *self.base_timestamp.get_or_insert(timestamp_ms);
        self.body.clear();
        self.body.put_u8(0);
        put_varlong(&mut self.body, timestamp_ms.wrapping_sub(base));
        put_varlong(&mut self.body, self.count);
        put_nullable(&mut self.body, record.key);
        put_nullable(&mut self.body, record.value);
        put_length(&mut self.body, record.headers().count());
        for (name, value) in record.headers() {
            put_nullable(&mut self.body, Some(name));
            put_nullable(&mut self.body, value);
        }
        put_length(&mut self.records, self.body.len());
        self.records.put_slice(&self.body);
        self.count += 1;
    }

    /// The records' bytes.
    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// What the timestamps count from; `None` without a record.
    #[must_use]
    pub const fn base_timestamp(&self) -> Option<i64> {
        self.base_timestamp
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::records::{Lengths, Records};
    use proptest::prelude::*;

    type Parts = (
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Vec<(Vec<u8>, Option<Vec<u8>>)>,
    );

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..200)
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let nullable = || proptest::option::of(bytes());
        let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4);
        (nullable(), nullable(), headers)
    }

    /// A record by hand, timestamp and offset delta 0; lengths as two-byte varints.
    fn by_hand((key, value, headers): &Parts) -> Vec<u8> {
        let varint = |number: usize| {
            let zigzag = u16::try_from(number * 2).unwrap();
            [
                u8::try_from(zigzag & 0x7f).unwrap() | 0x80,
                u8::try_from(zigzag >> 7).unwrap(),
            ]
        };
        let part = |part: &Option<Vec<u8>>| match part {
            None => vec![1],
            Some(part) => [&varint(part.len())[..], part].concat(),
        };
        let mut body = [vec![0, 0, 0], part(key), part(value)].concat();
        body.extend(varint(headers.len()));
        for (name, value) in headers {
            body.extend([part(&Some(name.clone())), part(value)].concat());
        }
        [&varint(body.len())[..], &body].concat()
    }

    fn read(record: &RecordView<'_>) -> Parts {
        let owned = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
        let headers = record
            .headers()
            .map(|(name, value)| (name.to_vec(), owned(value)));
        (owned(record.key), owned(record.value), headers.collect())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            sent in proptest::collection::vec((parts(), any::<i64>()), 1..10),
        ) {
            let mut writer = RecordWriter::default();
            for (parts, timestamp_ms) in &sent {
                let bytes = by_hand(parts);
                let mut one = Records::new(&bytes, 1, Lengths::Checked);
                let record = one.next_record().unwrap().unwrap();
                prop_assert_eq!(&read(&record), parts, "the hand wrote what the reader reads");
                writer.push(*timestamp_ms, &record);
            }
            let base = writer.base_timestamp().unwrap();
            let count = i32::try_from(sent.len()).unwrap();
            let mut walk = Records::new(writer.records(), count, Lengths::Checked);
            for (offset, (parts, timestamp_ms)) in (0i32..).zip(&sent) {
                let record = walk.next_record().unwrap().unwrap();
                prop_assert_eq!(&read(&record), parts);
                prop_assert_eq!(record.offset_delta, offset);
                prop_assert_eq!(base.wrapping_add(record.timestamp_delta), *timestamp_ms);
            }
            prop_assert_eq!(walk.next_record().unwrap(), None);
        }
    }
}
