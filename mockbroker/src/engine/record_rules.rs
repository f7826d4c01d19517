//! What a topic demands of the records in a batch: keys, timestamps.
//!
//! *State* of a batch whose records are judged one after the other:
//!
//! ```text
//!          good or with a problem        the last was good, and all before
//! Judging ────────────────────────▶ Judging ──────────────────────────────▶ largest timestamp
//!    │ malformed                       │ some had a problem
//!    ▼                                 ▼
//!  Fault                            Records (every problem, by index)
//! ```
//!
//! *Invariants*
//! 1. A malformed record ends the walk whatever problems were found before it.
//! 2. A record has one problem at most: the key comes before the timestamp.
//! 3. The largest timestamp is that of good records, and not below -1.
//!
//! *Source* apache/kafka `storage/…/internals/log/LogValidator.java` validateRecord, validateKey,
//! validateTimestamp; observed on 4.3.1.
//!
//! *Not here* the batch around them (`validator.rs`).

use crate::config::{TimestampType, TopicConfig};
use crate::wire::batch_view::{BatchHeader, LOG_APPEND_TIME};
use crate::wire::records::{self, Fault, RecordView, Records};

/// What is wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub index: i32,
    /// What.
    pub problem: Problem,
}

/// What may be wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A compacted topic needs keys.
    NoKey,
    /// The timestamp is too far from the broker's time.
    OutOfRange {
        /// The timestamp.
        timestamp: i64,
        /// The record's offset in the batch.
        offset: i64,
        /// The earliest allowed.
        earliest: i64,
        /// The latest allowed.
        latest: i64,
    },
    /// The batch claims the broker's time.
    ClaimsLogAppendTime {
        /// The record's offset in the batch.
        offset: i64,
        /// The timestamp.
        timestamp: i64,
        /// Bytes of the key; `None` is null.
        key_bytes: Option<usize>,
        /// Bytes of the value; `None` is null.
        value_bytes: Option<usize>,
    },
}

/// Why the records of a batch are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordRefusal {
    /// One does not follow its format.
    Fault(Fault),
    /// Some are not what the topic wants.
    Records(Vec<RecordError>),
}

/// What the records of a batch are judged by.
#[derive(Clone, Copy, Debug)]
pub struct RecordRules<'a> {
    /// The header of the batch.
    pub header: &'a BatchHeader,
    /// The topic's configuration.
    pub config: &'a TopicConfig,
    /// The broker's time.
    pub now_ms: i64,
}

impl RecordRules<'_> {
    /// Judges every record, shows each to `each` with its index, and returns the largest timestamp.
    ///
    /// # Errors
    ///
    /// The first malformed record, or every record that has a problem.
    pub fn judge(
        &self,
        mut walk: Records<'_>,
        mut each: impl FnMut(i32, &RecordView<'_>),
    ) -> Result<i64, RecordRefusal> {
        let mut max_timestamp = NO_TIMESTAMP;
        let mut errors = Vec::new();
        let mut index = 0;
        while let Some(record) = walk.next_record().map_err(RecordRefusal::Fault)? {
            match self.problem(&record) {
                Some(problem) => errors.push(RecordError { index, problem }),
                None => {
                    let timestamp = records::timestamp_ms(self.header, &record);
                    max_timestamp = max_timestamp.max(timestamp);
                }
            }
            each(index, &record);
            index += 1;
        }
        if errors.is_empty() {
            Ok(max_timestamp)
        } else {
            Err(RecordRefusal::Records(errors))
        }
    }

    /// `LogValidator.validateRecord`: the key comes before the timestamp.
    fn problem(&self, record: &RecordView<'_>) -> Option<Problem> {
        if record.key.is_none() && self.config.cleanup_policy.is_compacted() {
            return Some(Problem::NoKey);
        }
        let timestamp = records::timestamp_ms(self.header, record);
        let offset = self
            .header
            .base_offset
            .wrapping_add(i64::from(record.offset_delta));
        let by_client = self.config.message_timestamp_type == TimestampType::CreateTime;
        if by_client && timestamp != NO_TIMESTAMP {
            let age = self.now_ms.wrapping_sub(timestamp);
            let (before, after) = (
                self.config.message_timestamp_before_max_ms,
                self.config.message_timestamp_after_max_ms,
            );
            return (age > before || age.wrapping_neg() > after).then(|| Problem::OutOfRange {
                timestamp,
                offset,
                earliest: self.now_ms.wrapping_sub(before),
                latest: self.now_ms.wrapping_add(after),
            });
        }
        self.header
            .has(LOG_APPEND_TIME)
            .then(|| Problem::ClaimsLogAppendTime {
                offset,
                timestamp,
                key_bytes: record.key.map(<[u8]>::len),
                value_bytes: record.value.map(<[u8]>::len),
            })
    }
}

/// `RecordBatch.NO_TIMESTAMP`.
pub const NO_TIMESTAMP: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CleanupPolicy;
    use crate::wire::records::Lengths;
    use rstest::rstest;

    const NOW: i64 = 1_000_000;
    const HOUR: i64 = 3_600_000;
    const KEYED: [u8; 8] = [0x0e, 0, 0, 0, 2, b'k', 1, 0];
    const KEYLESS: [u8; 7] = [0x0c, 0, 0, 0, 1, 1, 0];

    fn header(base_timestamp: i64) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp,
            max_timestamp: base_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        }
    }

    fn judged(
        header: &BatchHeader,
        records: &[&[u8]],
        config: &TopicConfig,
    ) -> Result<i64, RecordRefusal> {
        let bytes = records.concat();
        let count = i32::try_from(records.len()).unwrap();
        let rules = RecordRules {
            header,
            config,
            now_ms: NOW,
        };
        rules.judge(Records::new(&bytes, count, Lengths::Checked), |_, _| {})
    }

    fn problems(judged: Result<i64, RecordRefusal>) -> Vec<RecordError> {
        match judged {
            Err(RecordRefusal::Records(errors)) => errors,
            other => panic!("no record is named: {other:?}"),
        }
    }

    #[rstest]
    #[case::latest(NOW + HOUR, i64::MAX, true)]
    #[case::too_late(NOW + HOUR + 1, i64::MAX, false)]
    #[case::earliest(NOW - 1_000, 1_000, true)]
    #[case::too_early(NOW - 1_001, 1_000, false)]
    #[case::none_is_exempt(-1, 1_000, true)]
    fn timestamps_lie_within_what_the_topic_allows(
        #[case] timestamp: i64,
        #[case] before_max_ms: i64,
        #[case] good: bool,
    ) {
        let config = TopicConfig {
            message_timestamp_before_max_ms: before_max_ms,
            ..TopicConfig::default()
        };
        assert_eq!(judged(&header(timestamp), &[&KEYED], &config).is_ok(), good);
    }

    #[test]
    fn a_timestamp_out_of_range_names_its_record_and_the_range() {
        let late = header(NOW + HOUR + 1);
        let errors = problems(judged(&late, &[&KEYED, &KEYED], &TopicConfig::default()));
        assert_eq!(
            errors.iter().map(|error| error.index).collect::<Vec<_>>(),
            [0, 1]
        );
        let problem = Problem::OutOfRange {
            timestamp: NOW + HOUR + 1,
            offset: 0,
            earliest: NOW.wrapping_sub(i64::MAX),
            latest: NOW + HOUR,
        };
        assert_eq!(errors[0].problem, problem);
    }

    #[rstest]
    #[case::on_a_topic_of_the_clients_time(TimestampType::CreateTime, NOW, true)]
    #[case::without_a_timestamp(TimestampType::CreateTime, -1, false)]
    #[case::on_a_topic_of_the_brokers_time(TimestampType::LogAppendTime, NOW, false)]
    fn the_claim_of_the_brokers_time_is_judged_by_the_topic(
        #[case] of_topic: TimestampType,
        #[case] timestamp: i64,
        #[case] good: bool,
    ) {
        let config = TopicConfig {
            message_timestamp_type: of_topic,
            ..TopicConfig::default()
        };
        let claims = BatchHeader {
            attributes: LOG_APPEND_TIME,
            ..header(timestamp)
        };
        let judged = judged(&claims, &[&KEYED], &config);
        assert_eq!(judged.is_ok(), good);
        if !good {
            let problem = Problem::ClaimsLogAppendTime {
                offset: 0,
                timestamp,
                key_bytes: Some(1),
                value_bytes: None,
            };
            assert_eq!(problems(judged), [RecordError { index: 0, problem }]);
        }
    }

    #[test]
    fn a_compacted_topic_wants_keys_before_timestamps() {
        let config = TopicConfig {
            cleanup_policy: CleanupPolicy::Compact,
            ..TopicConfig::default()
        };
        let errors = problems(judged(
            &header(NOW + 2 * HOUR),
            &[&KEYLESS, &KEYED],
            &config,
        ));
        assert_eq!(errors[0].problem, Problem::NoKey);
        assert!(matches!(errors[1].problem, Problem::OutOfRange { .. }));
    }

    #[test]
    fn a_malformed_record_wins_over_every_problem_before_it() {
        let config = TopicConfig {
            cleanup_policy: CleanupPolicy::Compact,
            ..TopicConfig::default()
        };
        let judged = judged(&header(NOW), &[&KEYLESS, &[2, 0]], &config);
        assert_eq!(judged, Err(RecordRefusal::Fault(Fault::Invalid)));
    }
}
