//! Cuts the records of a batch in two, for a broker that refuses it as too large.
//!
//! *Invariants*
//! 1. Both halves hold at least one record; together they hold the same records in the same order,
//!    with the same timestamps.
//! 2. Their sequences are those that the records had before.
//!
//! *Source*: Kafka's `ProducerBatch.split`.
//!
//! *Not here*: whether a batch is split (`engine/verdict.rs`), compression.

use crate::types::CompressionType;
use crate::wire::batch_buffer::BatchBuffer;
use crate::wire::primitives::{length_value, put_varints, varint_bytes};
use crate::wire::record_batch::{BatchHeader, HEADER_BYTES, ProducerStamp, reserve_header};

/// One half: its header's room with the records behind it, and what its header says.
pub(crate) type Half = (BatchBuffer, BatchHeader);

/// Cuts plain records about in the middle of their bytes, into buffers that `lend` gives; `None` if
/// there is only one, or they are not what the header says.
pub(crate) fn halve(
    records: &[u8],
    header: &BatchHeader,
    lend: impl Fn(usize) -> BatchBuffer,
) -> Option<[Half; 2]> {
    let count = usize::try_from(header.record_count).ok()?;
    let records = read_all(records, header.base_timestamp_ms)?;
    if count < 2 || records.len() != count {
        return None;
    }
    let bytes: usize = records.iter().map(|record| record.rest.len()).sum();
    let mut before = 0;
    let middle = records.iter().take_while(|record| {
        before += record.rest.len();
        before <= bytes / 2
    });
    let middle = middle.count().clamp(1, count - 1);
    let (first, second) = records.split_at(middle);
    let second_producer = header.producer.map(|stamp| ProducerStamp {
        base_sequence: stamp
            .base_sequence
            .plus(u32::try_from(middle).unwrap_or_default()),
        ..stamp
    });
    Some([
        write(first, header.producer, &lend)?,
        write(second, second_producer, &lend)?,
    ])
}

/// A record without what depends on its place.
struct Loose<'a> {
    timestamp_ms: i64,
    /// Key, value and headers, as they are encoded.
    rest: &'a [u8],
}

fn read_all(mut records: &[u8], base_timestamp_ms: i64) -> Option<Vec<Loose<'_>>> {
    let mut all = Vec::new();
    while !records.is_empty() {
        let length = usize::try_from(take_varint(&mut records)?).ok()?;
        let (mut record, behind) = records.split_at_checked(length)?;
        records = behind;
        record = record.get(1..)?; // attributes: none are defined
        let timestamp_delta_ms = take_varint(&mut record)?;
        let _offset_delta = take_varint(&mut record)?;
        all.push(Loose {
            timestamp_ms: base_timestamp_ms.wrapping_add(timestamp_delta_ms),
            rest: record,
        });
    }
    Some(all)
}

fn write(
    records: &[Loose<'_>],
    producer: Option<ProducerStamp>,
    lend: &impl Fn(usize) -> BatchBuffer,
) -> Option<Half> {
    let base_timestamp_ms = records.first()?.timestamp_ms;
    let parts = || {
        (0..).zip(records).map(|(offset_delta, record)| {
            let delta_ms = record.timestamp_ms.wrapping_sub(base_timestamp_ms);
            let body_bytes =
                1 + varint_bytes(delta_ms) + varint_bytes(offset_delta) + record.rest.len();
            (body_bytes, delta_ms, offset_delta, record.rest)
        })
    };
    let bytes: usize = parts()
        .map(|(body_bytes, ..)| varint_bytes(length_value(body_bytes)) + body_bytes)
        .sum();
    let mut buffer = lend(HEADER_BYTES + bytes);
    let room = buffer.as_mut_vec();
    reserve_header(room);
    for (body_bytes, delta_ms, offset_delta, rest) in parts() {
        let attributes = 0;
        put_varints(
            room,
            [length_value(body_bytes), attributes, delta_ms, offset_delta],
        );
        room.extend_from_slice(rest);
    }
    let header = BatchHeader {
        base_timestamp_ms,
        max_timestamp_ms: records.iter().map(|one| one.timestamp_ms).max()?,
        record_count: u32::try_from(records.len()).ok()?,
        compression: CompressionType::None,
        producer,
    };
    Some((buffer, header))
}

/// A zigzag varint of at most ten bytes.
fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        raw |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ProducerEpoch, ProducerId, Sequence};
    use crate::wire::read_back::{ReadBatch, read_batch};
    use crate::wire::record_batch::{
        HeaderView, Place, PlacedRecord, RecordView, Scope, complete_header,
    };
    use proptest::prelude::*;

    /// A record: its timestamp and the length of its value.
    type Given = (i64, usize);

    fn batch(given: &[Given]) -> (Vec<u8>, BatchHeader) {
        let mut buffer = Vec::new();
        reserve_header(&mut buffer);
        let base_timestamp_ms = given[0].0;
        for (index, (timestamp_ms, bytes)) in (0..).zip(given) {
            let value = vec![b'v'; *bytes];
            let record = RecordView {
                timestamp_ms: *timestamp_ms,
                key: (index % 2 == 0).then_some(b"k"),
                value: Some(&value),
                headers: &[HeaderView {
                    key: "trace",
                    value: None,
                }],
            };
            let place = Place {
                timestamp_delta_ms: timestamp_ms.wrapping_sub(base_timestamp_ms),
                offset_delta: index,
            };
            PlacedRecord::new(&record, place).append_to(&mut buffer);
        }
        let header = BatchHeader {
            base_timestamp_ms,
            max_timestamp_ms: given.iter().map(|one| one.0).max().expect("one at least"),
            record_count: u32::try_from(given.len()).expect("few"),
            compression: CompressionType::None,
            producer: Some(ProducerStamp {
                id: ProducerId(7),
                epoch: ProducerEpoch(1),
                base_sequence: Sequence::new(i32::MAX).expect("positive"),
                scope: Scope::Alone,
            }),
        };
        (buffer, header)
    }

    fn halved(records: &[u8], header: &BatchHeader) -> Option<[Half; 2]> {
        halve(records, header, BatchBuffer::with_capacity)
    }

    fn read((mut buffer, header): Half) -> ReadBatch {
        complete_header(&mut buffer, &header);
        read_batch(&buffer)
    }

    #[test]
    fn a_single_record_is_not_split() {
        let (buffer, header) = batch(&[(7, 100)]);
        assert!(halved(&buffer[HEADER_BYTES..], &header).is_none());
    }

    #[test]
    fn the_cut_is_in_the_middle_of_the_bytes_and_sequences_go_on_behind_it() {
        let (buffer, header) = batch(&[(7, 900), (8, 300), (6, 300), (9, 300)]);
        let [first, second] = halved(&buffer[HEADER_BYTES..], &header).expect("four records");
        let (first, second) = (read(first), read(second));
        assert_eq!((first.records.len(), second.records.len()), (1, 3));
        assert_eq!(first.producer, (7, 1, i32::MAX));
        // Behind the largest sequence comes 0.
        assert_eq!(second.producer, (7, 1, 0));
        assert_eq!((first.max_timestamp_ms, second.max_timestamp_ms), (7, 9));
    }

    #[test]
    fn records_that_are_not_what_the_header_says_are_left_alone() {
        let (buffer, header) = batch(&[(7, 10), (8, 10)]);
        let records = &buffer[HEADER_BYTES..];
        assert!(halved(&records[..records.len() - 1], &header).is_none());
        let three = BatchHeader {
            record_count: 3,
            ..header
        };
        assert!(halved(records, &three).is_none());
    }

    proptest! {
        #[test]
        fn both_halves_together_are_the_whole(
            given in proptest::collection::vec((any::<i64>(), 0_usize..300), 2..40),
        ) {
            let (buffer, header) = batch(&given);
            let whole = read((buffer.clone().into(), header));
            let halves = halved(&buffer[HEADER_BYTES..], &header).expect("two at least");
            for (half, _) in &halves {
                prop_assert_eq!(half.len(), half.capacity(), "measured before it is lent");
            }
            let [first, second] = halves.map(read);
            prop_assert!(!first.records.is_empty() && !second.records.is_empty());
            let together = [first.records, second.records].concat();
            prop_assert_eq!(together, whole.records);
        }

        #[test]
        fn any_bytes_are_split_or_left_alone(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            record_count in 0_u32..5,
        ) {
            let (_, header) = batch(&[(7, 1)]);
            let _ = halved(&bytes, &BatchHeader { record_count, ..header });
        }
    }
}
