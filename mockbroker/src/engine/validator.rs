//! What a topic demands of a batch, and what a broker changes in it before it appends.
//!
//! *State* of a batch on its way into a log:
//!
//! ```text
//!  bytes ─▶ Analysed ─▶ Validated ─▶ Candidate (base offset still open)
//!    │ 87 10 2 -1  │ 87 -1    │ 32 87 -1 10 18
//!    ▼             ▼          ▼
//!  Refused ◀───────◀──────────
//! ```
//!
//! *Invariants*
//! 1. The order of checks is Kafka's: base offset, size, checksum, codec, header, records, size
//!    again, segment.
//! 2. No memory is taken per record of a good uncompressed batch, and its checksum is read once.
//! 3. A candidate's payload is a slice of what was received, unless the topic's codec differs.
//!
//! *Source* apache/kafka `storage/…/internals/log/{UnifiedLog,LogValidator}.java`; verdicts
//! observed on 4.3.1.
//!
//! *Not here* single records (`record_rules.rs`); sequences (`producer_state.rs`); how a refusal
//! reads in a reply (`handlers/produce_row.rs`).

use bytes::Bytes;

use super::record_rules::{NO_TIMESTAMP, RecordError, RecordRefusal, RecordRules};
use crate::config::{CompressionType, TimestampType, TopicConfig};
use crate::wire::batch_view::{
    BatchHeader, BatchView, CONTROL, HEADER_BYTES, LOG_APPEND_TIME, codec, codec_bits,
};
use crate::wire::compression::{self, Undecodable};
use crate::wire::record_writer::RecordWriter;
use crate::wire::records::{self, Fault, Lengths, Records};

/// Why a batch is not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The base offset is not 0.
    BaseOffset,
    /// It is larger than `max.message.bytes`.
    TooLarge,
    /// The checksum is wrong, or it is shorter than a header.
    Corrupt,
    /// Kafka fails with an exception that it maps to no code.
    Failed,
    /// The header, or the records' form, is wrong.
    Invalid,
    /// Some records are not what the topic wants.
    Records(Vec<RecordError>),
    /// It is larger than `segment.bytes`.
    LargerThanSegment,
}

/// A batch that may be appended; its base offset and leader epoch are still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The header as it will be stored, but for base offset and leader epoch.
    pub header: BatchHeader,
    /// The bytes behind the header.
    pub payload: Bytes,
    /// The batch as it was received.
    pub received: Bytes,
}

/// Judges the first batch in `records` by a topic's configuration; bytes behind it are dropped.
///
/// # Errors
///
/// Why it is not appended.
pub fn validate(
    records: &Bytes,
    config: &TopicConfig,
    wall_clock_ms: i64,
) -> Result<Candidate, Refusal> {
    // The bounds were found before: whoever has no whole batch was refused as having none.
    let Ok(Some((batch, _))) = BatchView::first(records) else {
        return Err(Refusal::Invalid);
    };
    let header = analyse(batch, config)?;
    let source = codec(header.attributes).ok_or(Refusal::Failed)?;
    check_header(&header)?;
    let target = match config.compression_type {
        CompressionType::Producer => source,
        configured => configured,
    };
    let received = records.slice(..batch.bytes().len());
    let payload = received.slice(HEADER_BYTES..);
    let rules = RecordRules {
        header: &header,
        config,
        now_ms: wall_clock_ms,
    };
    let candidate = if source == target {
        let max_timestamp = rules.check_records(source, &payload)?;
        Candidate {
            header: stamp(header, &payload, &rules, max_timestamp),
            payload,
            received,
        }
    } else {
        rules.recompress(source, target, received)?
    };
    let bytes = HEADER_BYTES + candidate.payload.len();
    if source != target && exceeds(bytes, config.max_message_bytes) {
        return Err(Refusal::TooLarge);
    }
    if exceeds(bytes, config.segment_bytes) {
        return Err(Refusal::LargerThanSegment);
    }
    Ok(candidate)
}

fn exceeds(bytes: usize, limit: i32) -> bool {
    usize::try_from(limit).is_ok_and(|limit| bytes > limit)
}

/// `UnifiedLog.analyzeAndValidateRecords`.
fn analyse(batch: BatchView<'_>, config: &TopicConfig) -> Result<BatchHeader, Refusal> {
    let bytes = batch.bytes();
    // The base offset is checked first, before it is known that there is a whole header.
    if bytes.first_chunk::<8>() != Some(&[0; 8]) {
        return Err(Refusal::BaseOffset);
    }
    if exceeds(bytes.len(), config.max_message_bytes) {
        return Err(Refusal::TooLarge);
    }
    let (header, _) = batch.split().ok_or(Refusal::Corrupt)?;
    if header.crc != batch.checksum() {
        return Err(Refusal::Corrupt);
    }
    Ok(header)
}

/// `LogValidator.validateBatch`.
fn check_header(header: &BatchHeader) -> Result<(), Refusal> {
    let count_by_offsets = i64::from(header.last_offset_delta) + 1;
    let well_formed = count_by_offsets > 0
        && header.record_count > 0
        && count_by_offsets == i64::from(header.record_count)
        && !header.has(CONTROL)
        && (!header.has_producer_id() || header.base_sequence >= 0);
    if well_formed {
        Ok(())
    } else {
        Err(Refusal::Invalid)
    }
}

/// Sets timestamp type and largest timestamp; the checksum is made anew only if they differ
/// (`DefaultRecordBatch.setMaxTimestamp`).
fn stamp(
    header: BatchHeader,
    payload: &[u8],
    rules: &RecordRules<'_>,
    max_timestamp: i64,
) -> BatchHeader {
    let (attributes, max_timestamp) = match rules.config.message_timestamp_type {
        TimestampType::CreateTime => (header.attributes & !LOG_APPEND_TIME, max_timestamp),
        TimestampType::LogAppendTime => (header.attributes | LOG_APPEND_TIME, rules.now_ms),
    };
    let mut stamped = BatchHeader {
        attributes,
        max_timestamp,
        ..header
    };
    if stamped != header {
        stamped.crc = stamped.checksum(payload);
    }
    stamped
}

impl RecordRules<'_> {
    /// Checks every record of a batch that keeps its codec; returns the largest timestamp.
    fn check_records(&self, source: CompressionType, payload: &Bytes) -> Result<i64, Refusal> {
        if !compression::is_compressed(source) {
            let walk = Records::new(payload, self.header.record_count, Lengths::Checked);
            return Ok(self.judge(walk, |_, _| {})?);
        }
        let plain = compression::decompress(source, payload).map_err(undecodable)?;
        let walk = Records::new(&plain, self.header.record_count, Lengths::Ignored);
        let mut out_of_order = 0;
        let max_timestamp = self.judge(walk, |index, record| {
            out_of_order += i32::from(record.offset_delta != index);
        })?;
        // Kafka would rebuild a batch whose offsets are not 0, 1, 2, … and fails at it, because it
        // skipped keys and values (observed: -1).
        if out_of_order == 0 {
            Ok(max_timestamp)
        } else {
            Err(Refusal::Failed)
        }
    }

    /// Checks every record and builds the batch anew in the topic's codec, offsets 0, 1, 2, …
    /// (`LogValidator.buildRecordsAndAssignOffsets`).
    fn recompress(
        &self,
        source: CompressionType,
        target: CompressionType,
        received: Bytes,
    ) -> Result<Candidate, Refusal> {
        let payload = received.slice(HEADER_BYTES..);
        let plain = compression::decompress(source, &payload).map_err(undecodable)?;
        let walk = Records::new(&plain, self.header.record_count, Lengths::Checked);
        let mut rebuilt = RecordWriter::default();
        let max_timestamp = self.judge(walk, |_, record| {
            rebuilt.push(records::timestamp_ms(self.header, record), record);
        })?;
        let payload = compression::compress(target, rebuilt.records()).map_err(undecodable)?;
        let length = i32::try_from(HEADER_BYTES - 12 + payload.len());
        let header = BatchHeader {
            batch_length: length.map_err(|_| Refusal::TooLarge)?,
            attributes: self.header.attributes & !7 | codec_bits(target),
            base_timestamp: rebuilt.base_timestamp().unwrap_or(NO_TIMESTAMP),
            ..*self.header
        };
        let mut header = stamp(header, &payload, self, max_timestamp);
        header.crc = header.checksum(&payload);
        Ok(Candidate {
            header,
            payload,
            received,
        })
    }
}

impl From<RecordRefusal> for Refusal {
    fn from(refusal: RecordRefusal) -> Self {
        match refusal {
            RecordRefusal::Fault(Fault::Invalid) => Self::Invalid,
            RecordRefusal::Fault(Fault::Failed) => Self::Failed,
            RecordRefusal::Records(errors) => Self::Records(errors),
        }
    }
}

/// Kafka finds an early end invalid and fails at everything else (observed; the middle of a stream
/// may go either way).
const fn undecodable(reason: Undecodable) -> Refusal {
    match reason {
        Undecodable::Empty => Refusal::Invalid,
        Undecodable::Broken | Undecodable::TooLarge => Refusal::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CleanupPolicy, CompressionType};
    use crate::wire::batch_view::encoded;
    use proptest::prelude::*;
    use rstest::rstest;

    const NOW: i64 = 1_000_000;
    const HOUR: i64 = 3_600_000;

    fn header(count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: NOW,
            max_timestamp: NOW,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: count,
        }
    }

    /// Records with these offset deltas, timestamp delta 0, key `k` and no value.
    fn records(deltas: &[u8]) -> Vec<u8> {
        deltas
            .iter()
            .flat_map(|delta| [0x0e, 0, 0, delta * 2, 2, b'k', 1, 0])
            .collect()
    }

    fn plain(count: u8) -> Bytes {
        let deltas: Vec<u8> = (0..count).collect();
        encoded(header(i32::from(count)), &records(&deltas))
    }

    /// Two good records under a header that a case changes.
    fn changed(change: impl Fn(&mut BatchHeader)) -> Bytes {
        let mut header = header(2);
        change(&mut header);
        encoded(header, &records(&[0, 1]))
    }

    fn judged(batch: &Bytes, config: &TopicConfig) -> Result<Candidate, Refusal> {
        let judged = validate(batch, config, NOW);
        if let Ok(candidate) = &judged {
            let crc = candidate.header.checksum(&candidate.payload);
            assert_eq!(
                candidate.header.crc, crc,
                "what is stored has a right checksum"
            );
            assert_eq!(candidate.received, batch.slice(..candidate.received.len()));
        }
        judged
    }

    fn on_plain_topic(batch: &Bytes) -> Result<Candidate, Refusal> {
        judged(batch, &TopicConfig::default())
    }

    /// Two good records lie under each header.
    #[rstest]
    #[case::base_offset(BatchHeader { base_offset: 7, ..header(2) }, Some(Refusal::BaseOffset))]
    #[case::below_0(BatchHeader { base_offset: -1, ..header(2) }, Some(Refusal::BaseOffset))]
    #[case::codec_5(BatchHeader { attributes: 5, ..header(2) }, Some(Refusal::Failed))]
    #[case::codec_7(BatchHeader { attributes: 7, ..header(2) }, Some(Refusal::Failed))]
    #[case::last_delta(BatchHeader { last_offset_delta: 5, ..header(2) }, Some(Refusal::Invalid))]
    #[case::no_records(BatchHeader { record_count: 0, ..header(2) }, Some(Refusal::Invalid))]
    #[case::count_below_0(BatchHeader { record_count: -1, ..header(2) }, Some(Refusal::Invalid))]
    #[case::count(BatchHeader { record_count: i32::MAX, ..header(2) }, Some(Refusal::Invalid))]
    #[case::more_than_there_are(header(3), Some(Refusal::Invalid))]
    #[case::fewer_than_there_are(header(1), Some(Refusal::Invalid))]
    #[case::control(BatchHeader { attributes: CONTROL, ..header(2) }, Some(Refusal::Invalid))]
    #[case::no_sequence(BatchHeader { producer_id: 4, ..header(2) }, Some(Refusal::Invalid))]
    #[case::producer_below_none(BatchHeader { producer_id: -2, ..header(2) }, None)]
    #[case::epoch_without_producer(BatchHeader { producer_epoch: 5, ..header(2) }, None)]
    #[case::meaningless_attributes(BatchHeader { attributes: !0x3f, ..header(2) }, None)]
    #[case::an_hour_ahead(BatchHeader { base_timestamp: NOW + HOUR, ..header(2) }, None)]
    #[case::long_ago(BatchHeader { base_timestamp: 0, ..header(2) }, None)]
    #[case::no_timestamp(BatchHeader { base_timestamp: -1, ..header(2) }, None)]
    fn headers_are_judged_as_kafka_does(
        #[case] header: BatchHeader,
        #[case] refused: Option<Refusal>,
    ) {
        let batch = encoded(header, &records(&[0, 1]));
        assert_eq!(on_plain_topic(&batch).err(), refused);
    }

    #[test]
    fn size_comes_before_the_checksum_and_the_base_offset_before_both() {
        let batch = plain(2);
        let limit = i32::try_from(batch.len()).unwrap();
        let config = |max| TopicConfig {
            max_message_bytes: max,
            ..TopicConfig::default()
        };
        assert!(
            judged(&batch, &config(limit)).is_ok(),
            "exactly the limit is taken"
        );
        let mut broken = batch.to_vec();
        broken[20] ^= 1;
        let broken = Bytes::from(broken);
        assert_eq!(judged(&broken, &config(limit)), Err(Refusal::Corrupt));
        assert_eq!(judged(&broken, &config(limit - 1)), Err(Refusal::TooLarge));
        let mut shifted = broken.to_vec();
        shifted[7] = 7;
        assert_eq!(
            judged(&shifted.into(), &config(limit - 1)),
            Err(Refusal::BaseOffset)
        );
    }

    #[test]
    fn a_batch_shorter_than_a_header_is_corrupt() {
        let short = Bytes::from([&[0; 8][..], &[0, 0, 0, 14], &[0; 4], &[2], &[0; 9]].concat());
        assert_eq!(on_plain_topic(&short), Err(Refusal::Corrupt));
    }

    #[test]
    fn bytes_behind_the_batch_are_dropped() {
        let batch = plain(2);
        let tail = Bytes::from([&batch[..], &[9; 10]].concat());
        assert_eq!(on_plain_topic(&tail).unwrap().received, batch);
    }

    #[test]
    fn the_largest_timestamp_is_corrected() {
        let candidate = on_plain_topic(&changed(|h| h.max_timestamp = 5)).unwrap();
        assert_eq!(candidate.header.max_timestamp, NOW);
        let negative = on_plain_topic(&changed(|h| h.base_timestamp = -2)).unwrap();
        assert_eq!(negative.header.max_timestamp, -1, "nothing is below none");
    }

    #[test]
    fn a_topic_of_the_brokers_time_takes_any_timestamp_and_stores_its_own() {
        let config = TopicConfig {
            message_timestamp_type: TimestampType::LogAppendTime,
            ..TopicConfig::default()
        };
        let far_ahead = changed(|h| h.base_timestamp = NOW + 2 * HOUR);
        let header = judged(&far_ahead, &config).unwrap().header;
        assert_eq!(
            (header.attributes, header.max_timestamp),
            (LOG_APPEND_TIME, NOW)
        );
        assert_eq!(
            header.base_timestamp,
            NOW + 2 * HOUR,
            "readers use the largest"
        );
    }

    #[rstest]
    #[case::consecutive(&[0, 1, 2], true)]
    #[case::swapped(&[0, 2, 1], false)]
    #[case::all_the_same(&[0, 0, 0], false)]
    fn odd_offsets_are_kept_plain_and_fail_compressed(#[case] deltas: &[u8], #[case] even: bool) {
        let plain = records(deltas);
        let kept = on_plain_topic(&encoded(header(3), &plain)).unwrap();
        assert_eq!(kept.payload, plain, "kept as sent");
        for codec in [
            CompressionType::Gzip,
            CompressionType::Lz4,
            CompressionType::Zstd,
        ] {
            let compressed = BatchHeader {
                attributes: codec_bits(codec),
                ..header(3)
            };
            let payload = compression::compress(codec, &plain).unwrap();
            let judged = on_plain_topic(&encoded(compressed, &payload));
            assert_eq!(judged.is_ok(), even, "{codec:?}");
            assert!(even || judged == Err(Refusal::Failed));
        }
    }

    #[rstest]
    #[case::from_plain(CompressionType::Uncompressed)]
    #[case::from_lz4(CompressionType::Lz4)]
    fn a_topic_with_a_codec_stores_in_it_with_offsets_in_order(#[case] source: CompressionType) {
        let config = TopicConfig {
            compression_type: CompressionType::Gzip,
            ..TopicConfig::default()
        };
        let payload = compression::compress(source, &records(&[0, 2, 1])).unwrap();
        let sent = BatchHeader {
            attributes: codec_bits(source),
            ..header(3)
        };
        let candidate = judged(&encoded(sent, &payload), &config).unwrap();
        assert_eq!(
            codec(candidate.header.attributes),
            Some(CompressionType::Gzip)
        );
        let stored = records::decode(&candidate.header, &candidate.payload).unwrap();
        let offsets: Vec<i64> = stored.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
        assert!(
            stored
                .iter()
                .all(|r| r.key.as_deref() == Some(b"k") && r.timestamp_ms == NOW)
        );
    }

    #[test]
    fn a_batch_that_grows_beyond_the_limit_when_stored_is_too_large() {
        let config = TopicConfig {
            compression_type: CompressionType::Uncompressed,
            ..TopicConfig::default()
        };
        // 2 MiB of zeros in one value.
        let head = [0x92, 0x80, 0x80, 2, 0, 0, 0, 1, 0x80, 0x80, 0x80, 2];
        let plain = [&head[..], &vec![0; 2 << 20], &[0]].concat();
        let payload = compression::compress(CompressionType::Gzip, &plain).unwrap();
        let sent = encoded(
            BatchHeader {
                attributes: 1,
                ..header(1)
            },
            &payload,
        );
        assert_eq!(judged(&sent, &config), Err(Refusal::TooLarge));
        assert!(
            on_plain_topic(&sent).is_ok(),
            "kept compressed, it is small"
        );
    }

    #[test]
    fn a_batch_larger_than_a_segment_is_refused() {
        let config = TopicConfig {
            segment_bytes: 70,
            ..TopicConfig::default()
        };
        assert_eq!(judged(&plain(2), &config), Err(Refusal::LargerThanSegment));
    }

    proptest! {
        /// Whatever a batch holds, it is refused or stored with a right checksum, never a panic.
        #[test]
        fn any_batch_is_judged(
            attributes in 0..8i16,
            count in -1..5i32,
            payload in proptest::collection::vec(any::<u8>(), 0..80),
            compacted in any::<bool>(),
        ) {
            let policy = if compacted { CleanupPolicy::Compact } else { CleanupPolicy::Delete };
            let config = TopicConfig { cleanup_policy: policy, ..TopicConfig::default() };
            let batch = encoded(BatchHeader { attributes, ..header(count) }, &payload);
            let _ = judged(&batch, &config);
        }
    }
}
