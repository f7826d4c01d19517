//! How the outcome of a partition's append reads in a Produce reply.
//!
//! *Invariants*
//! 1. [`render`] is a function of the outcome alone; it decides nothing.
//! 2. The log's start offset is told for what the log said, and -1 for what was decided before it
//!    or is one of 2, 3, 6, 10, 18 (`ReplicaManager.appendToLocalLog`; observed).
//! 3. The base offset is told only where the batch is in the log: 0, 7, 20, and 6 after the append.
//!
//! *Source* apache/kafka `core/…/server/ReplicaManager.scala`; texts observed on 4.3.1.
//!
//! *Not here* what an older version cannot say (`wire/reply.rs`).

use super::produce_verification::{self, Unverified};
use crate::engine::partition::{AppendError, Appended};
use crate::engine::record_rules::{Problem, RecordError};
use crate::engine::validator::Refusal;
use crate::error_code::ErrorCode;
use crate::wire::batch_view::Malformed;
use crate::wire::reply::{LeaderHint, ProduceRow};

/// What became of a partition's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole request: a first batch's header cannot be one.
    UnreadableHeader(Malformed),
    /// The whole request: a transactional batch, and no transactional id.
    TransactionalIdMissing,
    /// The whole request: a transactional batch, and an empty transactional id.
    TransactionalIdEmpty,
    /// A fault rule refuses it.
    Injected(ErrorCode),
    /// No topic of this id.
    UnknownTopicId,
    /// No topic of this name, or it has no such partition.
    UnknownTopicOrPartition,
    /// No whole batch.
    NoBatch,
    /// A batch of message format 0 or 1.
    OldFormat,
    /// More than one batch.
    TwoBatches,
    /// Bytes behind the batch that cannot begin another.
    MalformedTail,
    /// zstd before version 7.
    ZstdTooEarly,
    /// The whole request: transactional batches of more than one producer, or epoch.
    TwoProducers,
    /// Its coordinator does not know of it.
    Unverified(Unverified),
    /// acks is none of -1, 0, 1.
    InvalidAcks,
    /// Kafka keeps the topic for itself.
    InternalTopic,
    /// Another broker leads, or none.
    NotLeader {
        /// Who leads.
        hint: Option<LeaderHint>,
        /// Where the batch was appended, when leadership was lost after that.
        base_offset: Option<i64>,
    },
    /// The log refused it.
    Refused(AppendError),
    /// It is in the log, and replicated if that was asked for.
    Appended(Appended),
    /// It is in the log, and was not replicated in time.
    TimedOut {
        /// What was appended.
        appended: Appended,
    },
    /// It is in the log and was replicated, but then too few were in sync.
    TooFewAfterAppend {
        /// Where it was appended.
        base_offset: i64,
    },
    /// The topic was deleted while the request waited.
    TopicGone {
        /// Where it was appended.
        base_offset: i64,
    },
}

/// The row of a partition: topic name and index, and the log's start offset if the log is asked.
#[must_use]
pub fn render(outcome: &Outcome, (topic, index): (&str, i32), log_start: i64) -> ProduceRow {
    let row = |error| ProduceRow {
        index,
        error,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: Vec::new(),
        message: None,
        leader_hint: None,
    };
    let told = |base_offset: i64, error| ProduceRow {
        base_offset,
        log_start_offset: log_start,
        ..row(error)
    };
    match outcome {
        Outcome::UnreadableHeader(malformed) => ProduceRow {
            message: Some(malformed.to_string()),
            ..row(ErrorCode::CORRUPT_MESSAGE)
        },
        Outcome::TransactionalIdMissing => row(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        Outcome::TransactionalIdEmpty => row(ErrorCode::INVALID_REQUEST),
        Outcome::Injected(code) => row(*code),
        Outcome::UnknownTopicId => row(ErrorCode::UNKNOWN_TOPIC_ID),
        Outcome::UnknownTopicOrPartition => row(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Outcome::NoBatch | Outcome::OldFormat | Outcome::TwoBatches => {
            row(ErrorCode::INVALID_RECORD)
        }
        Outcome::MalformedTail => row(ErrorCode::CORRUPT_MESSAGE),
        Outcome::ZstdTooEarly => row(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        Outcome::TwoProducers => ProduceRow {
            message: Some("Transactional records contained more than one producer ID".into()),
            ..row(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        },
        Outcome::Unverified(unverified) => ProduceRow {
            message: produce_verification::message(unverified),
            ..row(unverified.code)
        },
        Outcome::InvalidAcks => row(ErrorCode::INVALID_REQUIRED_ACKS),
        Outcome::InternalTopic => row(ErrorCode::INVALID_TOPIC_EXCEPTION),
        Outcome::NotLeader {
            hint,
            base_offset: None,
        } => ProduceRow {
            leader_hint: *hint,
            ..row(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        },
        Outcome::NotLeader {
            hint,
            base_offset: Some(base_offset),
        } => ProduceRow {
            leader_hint: *hint,
            ..told(*base_offset, ErrorCode::NOT_LEADER_OR_FOLLOWER)
        },
        Outcome::Refused(error) => refused(error, topic, row, log_start, index),
        Outcome::Appended(appended) => appended_row(appended, ErrorCode::NONE, told),
        Outcome::TimedOut { appended } => {
            appended_row(appended, ErrorCode::REQUEST_TIMED_OUT, told)
        }
        Outcome::TooFewAfterAppend { base_offset } => {
            told(*base_offset, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        }
        Outcome::TopicGone { base_offset } => {
            told(*base_offset, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
    }
}

fn appended_row(
    appended: &Appended,
    error: ErrorCode,
    told: impl Fn(i64, ErrorCode) -> ProduceRow,
) -> ProduceRow {
    match appended {
        Appended::Stored {
            base_offset,
            log_append_time_ms,
            ..
        } => ProduceRow {
            log_append_time_ms: log_append_time_ms.unwrap_or(-1),
            ..told(*base_offset, error)
        },
        // Kafka answers the cached largest timestamp, on CreateTime topics too (observed).
        Appended::Duplicate {
            base_offset,
            timestamp_ms,
            ..
        } => ProduceRow {
            log_append_time_ms: *timestamp_ms,
            ..told(*base_offset, error)
        },
    }
}

fn refused(
    error: &AppendError,
    topic: &str,
    row: impl Fn(ErrorCode) -> ProduceRow,
    log_start: i64,
    index: i32,
) -> ProduceRow {
    let told = |code| ProduceRow {
        log_start_offset: log_start,
        ..row(code)
    };
    match error {
        AppendError::NotLeader => row(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        AppendError::NotEnoughReplicas => told(ErrorCode::NOT_ENOUGH_REPLICAS),
        AppendError::StaleEpoch => told(ErrorCode::INVALID_PRODUCER_EPOCH),
        AppendError::StaleCoordinator => told(ErrorCode::TRANSACTION_COORDINATOR_FENCED),
        AppendError::NoRoom => row(ErrorCode::KAFKA_STORAGE_ERROR),
        AppendError::TooManyProducers => told(ErrorCode::UNKNOWN_SERVER_ERROR),
        AppendError::WrongTransaction => told(ErrorCode::INVALID_TXN_STATE),
        AppendError::OutOfOrder => told(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        AppendError::Batch(refusal) => match refusal {
            Refusal::BaseOffset | Refusal::Invalid => told(ErrorCode::INVALID_RECORD),
            Refusal::TooLarge => row(ErrorCode::MESSAGE_TOO_LARGE),
            Refusal::Corrupt => row(ErrorCode::CORRUPT_MESSAGE),
            Refusal::Failed => told(ErrorCode::UNKNOWN_SERVER_ERROR),
            Refusal::LargerThanSegment => row(ErrorCode::RECORD_LIST_TOO_LARGE),
            Refusal::Records(errors) => {
                let texts: Vec<(i32, String)> = errors
                    .iter()
                    .map(|error| (error.index, record_error_text(error, topic, index)))
                    .collect();
                let (code, message) = records_message(errors, &texts);
                ProduceRow {
                    record_errors: texts,
                    message: Some(message),
                    ..told(code)
                }
            }
        },
    }
}

/// One wrong timestamp makes the whole row 32 (`LogValidator.processRecordErrors`).
fn records_message(errors: &[RecordError], texts: &[(i32, String)]) -> (ErrorCode, String) {
    if errors.iter().any(|error| error.problem != Problem::NoKey) {
        let message = "One or more records have been rejected due to invalid timestamp";
        return (ErrorCode::INVALID_TIMESTAMP, message.into());
    }
    let shown: Vec<String> = texts
        .iter()
        .take(3)
        .map(|(index, text)| format!("RecordError(batchIndex={index}, message='{text}')"))
        .collect();
    let message = format!(
        "One or more records have been rejected due to {} record errors in total, and only \
         showing the first three errors at most: [{}]",
        texts.len(),
        shown.join(", ")
    );
    (ErrorCode::INVALID_RECORD, message)
}

fn record_error_text(error: &RecordError, topic: &str, partition: i32) -> String {
    match &error.problem {
        Problem::NoKey => format!(
            "Compacted topic cannot accept message without key in topic partition \
             {topic}-{partition}"
        ),
        Problem::OutOfRange {
            timestamp,
            offset,
            earliest,
            latest,
        } => format!(
            "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp \
             should be within [{earliest}, {latest}]"
        ),
        Problem::ClaimsLogAppendTime {
            offset,
            timestamp,
            key_bytes,
            value_bytes,
        } => {
            let bytes = |bytes: &Option<usize>| bytes.unwrap_or(0);
            format!(
                "Invalid timestamp type in message DefaultRecord(offset={offset}, \
                 timestamp={timestamp}, key={} bytes, value={} bytes). Producer should not set \
                 timestamp type to LogAppendTime.",
                bytes(key_bytes),
                bytes(value_bytes)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HINT: LeaderHint = LeaderHint { id: 2, epoch: 5 };

    fn stored(log_append_time_ms: Option<i64>) -> Appended {
        Appended::Stored {
            base_offset: 40,
            last_offset: 42,
            log_append_time_ms,
        }
    }

    fn duplicate() -> Appended {
        Appended::Duplicate {
            base_offset: 40,
            last_offset: 42,
            timestamp_ms: 99,
        }
    }

    fn batch(refusal: Refusal) -> Outcome {
        Outcome::Refused(AppendError::Batch(refusal))
    }

    /// Code, base offset, append time, log start: section 3 of the observations.
    #[rstest]
    #[case::unreadable(Outcome::UnreadableHeader(Malformed::Length(5)), (2, -1, -1, -1))]
    #[case::no_transactional_id(Outcome::TransactionalIdMissing, (53, -1, -1, -1))]
    #[case::empty_transactional_id(Outcome::TransactionalIdEmpty, (42, -1, -1, -1))]
    #[case::injected(Outcome::Injected(ErrorCode(4)), (4, -1, -1, -1))]
    #[case::unknown_id(Outcome::UnknownTopicId, (100, -1, -1, -1))]
    #[case::unknown_name(Outcome::UnknownTopicOrPartition, (3, -1, -1, -1))]
    #[case::no_batch(Outcome::NoBatch, (87, -1, -1, -1))]
    #[case::old_format(Outcome::OldFormat, (87, -1, -1, -1))]
    #[case::two_batches(Outcome::TwoBatches, (87, -1, -1, -1))]
    #[case::malformed_tail(Outcome::MalformedTail, (2, -1, -1, -1))]
    #[case::zstd_too_early(Outcome::ZstdTooEarly, (76, -1, -1, -1))]
    #[case::two_producers(Outcome::TwoProducers, (49, -1, -1, -1))]
    #[case::unverified(Outcome::Unverified(Unverified::CONCURRENT), (51, -1, -1, -1))]
    #[case::wrong_transaction(Outcome::Refused(AppendError::WrongTransaction), (48, -1, -1, 3))]
    #[case::acks(Outcome::InvalidAcks, (21, -1, -1, -1))]
    #[case::internal(Outcome::InternalTopic, (17, -1, -1, -1))]
    #[case::not_leader(Outcome::NotLeader { hint: None, base_offset: None }, (6, -1, -1, -1))]
    #[case::no_more_leader(
        Outcome::NotLeader { hint: None, base_offset: Some(40) }, (6, 40, -1, 3)
    )]
    #[case::leader_elsewhere(Outcome::Refused(AppendError::NotLeader), (6, -1, -1, -1))]
    #[case::min_isr(Outcome::Refused(AppendError::NotEnoughReplicas), (19, -1, -1, 3))]
    #[case::epoch(Outcome::Refused(AppendError::StaleEpoch), (47, -1, -1, 3))]
    #[case::full_disk(Outcome::Refused(AppendError::NoRoom), (56, -1, -1, -1))]
    #[case::producers(Outcome::Refused(AppendError::TooManyProducers), (-1, -1, -1, 3))]
    #[case::sequence(Outcome::Refused(AppendError::OutOfOrder), (45, -1, -1, 3))]
    #[case::base_offset(batch(Refusal::BaseOffset), (87, -1, -1, 3))]
    #[case::invalid(batch(Refusal::Invalid), (87, -1, -1, 3))]
    #[case::failed(batch(Refusal::Failed), (-1, -1, -1, 3))]
    #[case::too_large(batch(Refusal::TooLarge), (10, -1, -1, -1))]
    #[case::corrupt(batch(Refusal::Corrupt), (2, -1, -1, -1))]
    #[case::segment(batch(Refusal::LargerThanSegment), (18, -1, -1, -1))]
    #[case::stored(Outcome::Appended(stored(None)), (0, 40, -1, 3))]
    #[case::stored_by_brokers_time(Outcome::Appended(stored(Some(7))), (0, 40, 7, 3))]
    #[case::duplicate(Outcome::Appended(duplicate()), (0, 40, 99, 3))]
    #[case::timed_out(Outcome::TimedOut { appended: stored(None) }, (7, 40, -1, 3))]
    #[case::duplicate_timed_out(Outcome::TimedOut { appended: duplicate() }, (7, 40, 99, 3))]
    #[case::too_few_after(Outcome::TooFewAfterAppend { base_offset: 40 }, (20, 40, -1, 3))]
    #[case::gone(Outcome::TopicGone { base_offset: 40 }, (3, 40, -1, 3))]
    fn an_outcome_reads_as_kafkas(
        #[case] outcome: Outcome,
        #[case] expected: (i16, i64, i64, i64),
    ) {
        let row = render(&outcome, ("orders", 0), 3);
        let read = (
            row.error.0,
            row.base_offset,
            row.log_append_time_ms,
            row.log_start_offset,
        );
        assert_eq!(read, expected);
        let says_more = matches!(
            outcome,
            Outcome::UnreadableHeader(_) | Outcome::TwoProducers
        );
        assert_eq!(row.message.is_some(), says_more, "texts are the exception");
    }

    #[test]
    fn who_leads_is_told_with_6_only() {
        let outcome = Outcome::NotLeader {
            hint: Some(HINT),
            base_offset: None,
        };
        assert_eq!(render(&outcome, ("orders", 0), 0).leader_hint, Some(HINT));
        let outcome = Outcome::UnknownTopicOrPartition;
        assert_eq!(render(&outcome, ("orders", 0), 0).leader_hint, None);
    }

    fn no_key(index: i32) -> RecordError {
        RecordError {
            index,
            problem: Problem::NoKey,
        }
    }

    #[test]
    fn the_text_shows_three_records_and_the_list_all() {
        let outcome = batch(Refusal::Records((0..5).map(no_key).collect()));
        let row = render(&outcome, ("orders", 2), 0);
        assert_eq!((row.error.0, row.record_errors.len()), (87, 5));
        let message = row.message.unwrap();
        assert!(message.starts_with(
            "One or more records have been rejected due to 5 record errors in total, and only \
             showing the first three errors at most: [RecordError(batchIndex=0, message='Compacted \
             topic cannot accept message without key in topic partition orders-2'), "
        ));
        assert_eq!(message.matches("RecordError").count(), 3);
    }

    #[test]
    fn one_wrong_timestamp_makes_the_row_32() {
        let late = Problem::OutOfRange {
            timestamp: 9,
            offset: 1,
            earliest: -5,
            latest: 7,
        };
        let errors = vec![
            no_key(0),
            RecordError {
                index: 1,
                problem: late,
            },
        ];
        let row = render(&batch(Refusal::Records(errors)), ("orders", 2), 0);
        assert_eq!(row.error.0, 32);
        assert_eq!(
            row.message.as_deref(),
            Some("One or more records have been rejected due to invalid timestamp")
        );
        assert_eq!(
            row.record_errors[1].1,
            "Timestamp 9 of message with offset 1 is out of range. The timestamp should be within \
             [-5, 7]"
        );
    }
}
