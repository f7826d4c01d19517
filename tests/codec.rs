//! What the producer writes, the cluster reads: two codecs that were written apart.

use kafka_mockbroker::wire::batch_view::{BatchView, TRANSACTIONAL};
use kafka_mockbroker::wire::records::{Lengths, Records};
use kafka_producer::wire::record_batch::{
    BatchHeader, HeaderView, Place, PlacedRecord, ProducerStamp, RecordView, Scope,
    complete_header, reserve_header,
};
use kafka_producer::{CompressionType, ProducerEpoch, ProducerId, Sequence};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

fn nullable() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..300))
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let headers = vec((".{0,20}", nullable()), 0..4);
    let record = (any::<i64>(), nullable(), nullable(), headers);
    let record = record.prop_map(|(timestamp_ms, key, value, headers)| Record {
        timestamp_ms,
        key,
        value,
        headers,
    });
    vec(record, 1..30)
}

fn stamp() -> impl Strategy<Value = Option<ProducerStamp>> {
    let scope = prop_oneof![Just(Scope::Alone), Just(Scope::Transaction)];
    let stamp = (0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX, scope);
    option::of(
        stamp.prop_map(|(id, epoch, sequence, scope)| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence::new(sequence).unwrap_or_default(),
            scope,
        }),
    )
}

/// The producer's hand.
fn write(records: &[Record], producer: Option<ProducerStamp>) -> Vec<u8> {
    let mut buffer = Vec::new();
    reserve_header(&mut buffer);
    let base_timestamp_ms = records[0].timestamp_ms;
    for (offset_delta, record) in (0..).zip(records) {
        let headers: Vec<HeaderView<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| HeaderView {
                key,
                value: value.as_deref(),
            })
            .collect();
        let view = RecordView {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let timestamp_delta_ms = record.timestamp_ms.wrapping_sub(base_timestamp_ms);
        let place = Place {
            timestamp_delta_ms,
            offset_delta,
        };
        PlacedRecord::new(&view, place).append_to(&mut buffer);
    }
    let max_timestamp_ms = records.iter().map(|record| record.timestamp_ms).max();
    let header = BatchHeader {
        compression: CompressionType::None,
        base_timestamp_ms,
        max_timestamp_ms: max_timestamp_ms.unwrap_or_default(),
        record_count: u32::try_from(records.len()).unwrap_or_default(),
        producer,
    };
    complete_header(&mut buffer, &header);
    buffer
}

/// The cluster's eye.
fn read(batch: &[u8]) -> Option<Vec<Record>> {
    let (view, rest) = BatchView::first(batch).ok()??;
    let (header, bytes) = view.split()?;
    if !rest.is_empty() || view.checksum() != header.crc {
        return None;
    }
    let mut walk = Records::new(bytes, header.record_count, Lengths::Checked);
    let mut records = Vec::new();
    while let Some(record) = walk.next_record().ok()? {
        let named = |(key, value): (&[u8], Option<&[u8]>)| {
            Some((
                String::from_utf8(key.to_vec()).ok()?,
                value.map(<[u8]>::to_vec),
            ))
        };
        records.push(Record {
            timestamp_ms: header.base_timestamp.wrapping_add(record.timestamp_delta),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers().map(named).collect::<Option<_>>()?,
        });
    }
    Some(records)
}

proptest! {
    #[test]
    fn any_list_of_records_survives_the_journey(records in records(), stamp in stamp()) {
        prop_assert_eq!(read(&write(&records, stamp)), Some(records));
    }

    #[test]
    fn a_batch_says_who_wrote_it_and_how_much(records in records(), stamp in stamp()) {
        let batch = write(&records, stamp);
        let (view, _) = BatchView::first(&batch).unwrap().unwrap();
        let (header, _) = view.split().unwrap();
        let written = stamp.map(|stamp| (stamp.id.0, stamp.epoch.0, stamp.base_sequence.value()));
        let read = (header.producer_id, header.producer_epoch, header.base_sequence);
        prop_assert_eq!(read, written.unwrap_or((-1, -1, -1)));
        let part = stamp.map(|stamp| stamp.scope) == Some(Scope::Transaction);
        prop_assert_eq!(header.has(TRANSACTIONAL), part);
        prop_assert_eq!(usize::try_from(header.record_count), Ok(records.len()));
        prop_assert_eq!(header.last_offset_delta + 1, header.record_count);
        let latest = records.iter().map(|record| record.timestamp_ms).max();
        prop_assert_eq!(Some(header.max_timestamp), latest);
    }

    #[test]
    fn a_damaged_batch_is_not_taken_for_a_whole_one(
        records in records(),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut batch = write(&records, None);
        // From the checksum on; what stands before it may change on the way.
        let at = CHECKSUM_AT + place.index(batch.len() - CHECKSUM_AT);
        batch[at] ^= 1 << bit;
        prop_assert_eq!(read(&batch), None);
    }

    #[test]
    fn a_torn_batch_is_not_taken_for_a_whole_one(
        records in records(),
        place in any::<prop::sample::Index>(),
    ) {
        let batch = write(&records, None);
        prop_assert_eq!(read(&batch[..place.index(batch.len())]), None);
    }
}

/// Behind base offset, length, leader epoch and magic.
const CHECKSUM_AT: usize = 17;
