//! Why a record was not written, or may not have been.
//!
//! *Invariants*
//! 1. An error answers from its type: whose fault, may it be sent again, was it possibly written.
//! 2. A record refused before it was queued, or known to have been refused by the broker, is never
//!    called possibly written; one that left without an answer always is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{ErrorCode, Failure, FailureKind, Fault};
use crate::serializer::{BoxError, Part};

/// Why sending a record failed.
#[derive(Clone)]
pub struct ProduceError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ProduceErrorKind,
    certainty: Certainty,
    topic: Arc<str>,
    partition: Option<i32>,
    failure: Option<Failure>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Whether a failed record may be in the log all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It is in no log.
    NotWritten,
    /// Nobody can tell.
    Unknown,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProduceErrorKind {
    /// The record is larger than a limit; nothing was sent. Kafka's `MESSAGE_TOO_LARGE`, found
    /// before a broker had to.
    RecordTooLarge {
        /// The size of the smallest batch that holds it, in bytes.
        record_bytes: usize,
        /// The limit in bytes.
        limit_bytes: usize,
        /// The key that sets the limit: `max.request.size` or `buffer.memory`.
        limit: &'static str,
    },
    /// The topic has no partition of this number.
    UnknownPartition {
        /// How many partitions the topic has, as last heard.
        partition_count: usize,
    },
    /// The timestamp is negative.
    InvalidTimestamp,
    /// A serializer failed; its error is the [`source`](std::error::Error::source).
    SerializationFailed {
        /// The part of the record that it failed on.
        part: Part,
    },
    /// Nothing is known of the topic yet, and the caller did not want to wait.
    TopicNotReady,
    /// `max.block.ms` passed and nothing is known of the topic.
    TopicTimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// `buffer.memory` is used up, and the caller did not want to wait.
    MemoryFull,
    /// `max.block.ms` passed and `buffer.memory` was used up all the while.
    MemoryTimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// A broker refused; [`ProduceError::broker_code`] says why.
    Refused,
    /// A broker refused the record's batch for other records in it (KIP-467). Sent again, it goes
    /// without them, if they are not sent again too.
    RefusedWithBatch,
    /// `delivery.timeout.ms` passed.
    DeliveryTimedOut,
    /// The connection was lost with the record on it, and no retry was left.
    Disconnected,
    /// The producer was closed, or its runtime ended.
    Closed,
    /// The producer has a `transactional.id`, and no transaction is open.
    NoTransaction,
    /// Its transaction failed or was aborted before a broker had the record for certain; nobody who
    /// reads committed records will see it. The failure says what came before.
    TransactionAborted,
    /// The future of its `send` was dropped before the record was accepted: what interceptors are
    /// told, as nobody waits for it any more.
    GivenUp,
    /// No broker offers a version of an API that this producer speaks.
    UnsupportedVersion,
    /// A broker's answer could not be read, or contradicts what was asked.
    BadAnswer,
}

impl ProduceError {
    /// A record that was refused before it was queued.
    pub(crate) fn refused_here(
        kind: ProduceErrorKind,
        topic: &Arc<str>,
        partition: Option<i32>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            certainty: Certainty::NotWritten,
            topic: Arc::clone(topic),
            partition,
            failure: None,
            source: None,
        }))
    }

    /// A record of which no bytes could be made.
    pub(crate) fn not_serialized(
        part: Part,
        source: BoxError,
        topic: &Arc<str>,
        partition: Option<i32>,
    ) -> Self {
        let kind = ProduceErrorKind::SerializationFailed { part };
        let mut error = Self::refused_here(kind, topic, partition);
        error.0.source = Some(Arc::from(source));
        error
    }

    /// A topic that did not become known in time, with the last reason why.
    pub(crate) fn topic_timed_out(
        topic: &Arc<str>,
        waited: Duration,
        failure: Option<Failure>,
    ) -> Self {
        Self(Box::new(Inner {
            kind: match waited.is_zero() {
                true => ProduceErrorKind::TopicNotReady,
                false => ProduceErrorKind::TopicTimedOut { waited },
            },
            certainty: Certainty::NotWritten,
            topic: Arc::clone(topic),
            partition: None,
            failure,
            source: None,
        }))
    }

    /// A record that no transaction takes, as none is open or the open one failed.
    pub(crate) fn no_transaction(
        failure: Option<Failure>,
        topic: &Arc<str>,
        partition: Option<i32>,
    ) -> Self {
        let kind = match failure {
            Some(_) => ProduceErrorKind::TransactionAborted,
            None => ProduceErrorKind::NoTransaction,
        };
        let mut error = Self::refused_here(kind, topic, partition);
        error.0.failure = failure;
        error
    }

    /// A failure that the engine reported.
    pub(crate) fn failed(
        failure: Failure,
        certainty: Certainty,
        topic: &Arc<str>,
        partition: Option<i32>,
    ) -> Self {
        Self(Box::new(Inner {
            kind: kind_of(failure.kind),
            certainty,
            topic: Arc::clone(topic),
            partition,
            failure: Some(failure),
            source: None,
        }))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ProduceErrorKind {
        self.0.kind
    }

    /// Who has to act for the next attempt to succeed.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let of_failure = || self.0.failure.as_ref().map(fault_of);
        match self.0.kind {
            ProduceErrorKind::RecordTooLarge { .. }
            | ProduceErrorKind::UnknownPartition { .. }
            | ProduceErrorKind::InvalidTimestamp
            | ProduceErrorKind::SerializationFailed { .. }
            | ProduceErrorKind::GivenUp
            | ProduceErrorKind::NoTransaction
            | ProduceErrorKind::TransactionAborted
            | ProduceErrorKind::Closed => Fault::Caller,
            ProduceErrorKind::MemoryFull | ProduceErrorKind::MemoryTimedOut { .. } => Fault::Broker,
            ProduceErrorKind::TopicNotReady
            | ProduceErrorKind::TopicTimedOut { .. }
            | ProduceErrorKind::Refused
            | ProduceErrorKind::RefusedWithBatch
            | ProduceErrorKind::DeliveryTimedOut
            | ProduceErrorKind::Disconnected
            | ProduceErrorKind::UnsupportedVersion
            | ProduceErrorKind::BadAnswer => of_failure().unwrap_or(Fault::Network),
        }
    }

    /// Whether sending the record again may succeed. When it was possibly written, that may also
    /// write it twice.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self.0.kind {
            ProduceErrorKind::RecordTooLarge { .. }
            | ProduceErrorKind::UnknownPartition { .. }
            | ProduceErrorKind::InvalidTimestamp
            | ProduceErrorKind::SerializationFailed { .. }
            | ProduceErrorKind::Closed
            | ProduceErrorKind::NoTransaction
            | ProduceErrorKind::UnsupportedVersion => false,
            ProduceErrorKind::TopicNotReady
            | ProduceErrorKind::TopicTimedOut { .. }
            | ProduceErrorKind::MemoryFull
            | ProduceErrorKind::MemoryTimedOut { .. }
            | ProduceErrorKind::GivenUp
            | ProduceErrorKind::TransactionAborted
            | ProduceErrorKind::RefusedWithBatch
            | ProduceErrorKind::DeliveryTimedOut
            | ProduceErrorKind::Disconnected
            | ProduceErrorKind::BadAnswer => true,
            ProduceErrorKind::Refused => {
                self.fault() != Fault::Caller
                    && self.broker_code() != Some(ErrorCode::UNSUPPORTED_VERSION)
            }
        }
    }

    /// Whether the record may be in the log all the same.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        self.0.certainty == Certainty::Unknown
    }

    /// The record's topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The record's partition, if it was already chosen.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        self.0.partition
    }

    /// The error code with which a broker answered, if one did.
    #[must_use]
    pub fn broker_code(&self) -> Option<ErrorCode> {
        match self.0.failure.as_ref()?.kind {
            FailureKind::Refused(code) | FailureKind::RefusedWithBatch(code) => Some(code),
            _ => None,
        }
    }

    /// The circumstances of a failure beyond this process: broker, attempts, the broker's words.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.0.failure.as_ref()
    }
}

fn kind_of(kind: FailureKind) -> ProduceErrorKind {
    match kind {
        FailureKind::Refused(_) => ProduceErrorKind::Refused,
        FailureKind::RefusedWithBatch(_) => ProduceErrorKind::RefusedWithBatch,
        FailureKind::DeliveryTimedOut => ProduceErrorKind::DeliveryTimedOut,
        FailureKind::Disconnected => ProduceErrorKind::Disconnected,
        FailureKind::Closed => ProduceErrorKind::Closed,
        FailureKind::UnsupportedVersion => ProduceErrorKind::UnsupportedVersion,
        FailureKind::BadAnswer => ProduceErrorKind::BadAnswer,
        FailureKind::TransactionAborted | FailureKind::RecordRefused => {
            ProduceErrorKind::TransactionAborted
        }
    }
}

fn fault_of(failure: &Failure) -> Fault {
    match failure.kind {
        FailureKind::Refused(code) if CALLERS_CODES.contains(&code) => Fault::Caller,
        FailureKind::Refused(_)
        | FailureKind::RefusedWithBatch(_)
        | FailureKind::UnsupportedVersion
        | FailureKind::BadAnswer => Fault::Broker,
        FailureKind::DeliveryTimedOut | FailureKind::Disconnected => Fault::Network,
        FailureKind::Closed | FailureKind::TransactionAborted | FailureKind::RecordRefused => {
            Fault::Caller
        }
    }
}

/// Refusals that come again for the same record from the same producer: its size, name, shape or
/// permission. *Source*: the codes of Kafka's `Errors` that are not retriable.
const CALLERS_CODES: [ErrorCode; 13] = [
    ErrorCode::MESSAGE_TOO_LARGE,
    ErrorCode::INVALID_TOPIC,
    ErrorCode::RECORD_LIST_TOO_LARGE,
    ErrorCode::INVALID_REQUIRED_ACKS,
    ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode::INVALID_TIMESTAMP,
    ErrorCode::INVALID_REQUEST,
    ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
    ErrorCode::POLICY_VIOLATION,
    ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
    ErrorCode::INVALID_RECORD,
];

impl fmt::Display for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "topic {}", inner.topic)?;
        if let Some(partition) = inner.partition {
            write!(f, ", partition {partition}")?;
        }
        write!(f, ": {}", inner.kind)?;
        if let Some(failure) = &inner.failure {
            write_circumstances(f, inner.kind, failure)?;
        }
        match inner.certainty {
            Certainty::NotWritten => f.write_str("; not written"),
            Certainty::Unknown => f.write_str("; possibly written"),
        }
    }
}

fn write_circumstances(
    f: &mut fmt::Formatter<'_>,
    kind: ProduceErrorKind,
    failure: &Failure,
) -> fmt::Result {
    if kind != kind_of(failure.kind) {
        write!(f, ": {}", kind_of(failure.kind))?;
    }
    if let FailureKind::Refused(code) | FailureKind::RefusedWithBatch(code) = failure.kind {
        write!(f, ", code {code}")?;
    }
    if let Some(broker) = failure.broker {
        write!(f, ", broker {broker}")?;
    }
    if failure.attempts > 0 {
        write!(f, ", sent {} times", failure.attempts)?;
    }
    match &failure.message {
        Some(message) => write!(f, ": {message}"),
        None => Ok(()),
    }
}

impl ProduceErrorKind {
    /// Whether the transaction that a refused record was for can only be aborted.
    pub(crate) fn spoils_transaction(self) -> bool {
        !matches!(
            self,
            Self::NoTransaction | Self::TransactionAborted | Self::GivenUp | Self::Closed
        )
    }
}

impl fmt::Display for ProduceErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordTooLarge {
                record_bytes,
                limit_bytes,
                limit,
            } => write!(
                f,
                "the record takes {record_bytes} bytes, more than {limit}={limit_bytes}"
            ),
            Self::UnknownPartition { partition_count } => write!(
                f,
                "no such partition; the topic has {partition_count}, counted from 0"
            ),
            Self::SerializationFailed { part } => write!(f, "the {part} could not be serialized"),
            Self::InvalidTimestamp => f.write_str("the timestamp is negative"),
            Self::TopicNotReady => f.write_str("nothing is known of the topic yet"),
            Self::TopicTimedOut { waited } => {
                write!(
                    f,
                    "nothing known of the topic after {waited:?} (max.block.ms)"
                )
            }
            Self::MemoryFull => f.write_str("buffer.memory is used up"),
            Self::MemoryTimedOut { waited } => {
                write!(f, "buffer.memory used up for {waited:?} (max.block.ms)")
            }
            Self::Refused => f.write_str("refused by the broker"),
            Self::RefusedWithBatch => f.write_str("refused with its batch"),
            Self::DeliveryTimedOut => f.write_str("delivery.timeout.ms passed"),
            Self::Disconnected => f.write_str("connection lost"),
            Self::GivenUp => f.write_str("its send was given up"),
            Self::Closed => f.write_str("the producer is closed"),
            Self::NoTransaction => f.write_str("no transaction is open"),
            Self::TransactionAborted => f.write_str("its transaction failed or was aborted"),
            Self::UnsupportedVersion => f.write_str("no common version of an API"),
            Self::BadAnswer => f.write_str("unreadable answer from the broker"),
        }
    }
}

/// The same words as [`fmt::Display`], and the source: what a `main` that returns the error prints.
impl fmt::Debug for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.source {
            Some(source) => write!(f, "ProduceError({self}: {source})"),
            None => write!(f, "ProduceError({self})"),
        }
    }
}

impl std::error::Error for ProduceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BrokerId;
    use rstest::rstest;

    fn failed(kind: FailureKind, certainty: Certainty) -> ProduceError {
        let failure = Failure {
            broker: Some(BrokerId(2)),
            attempts: 3,
            message: Some(Arc::from("words")),
            ..Failure::new(kind)
        };
        ProduceError::failed(failure, certainty, &Arc::from("orders"), Some(4))
    }

    #[rstest]
    #[case(FailureKind::Refused(ErrorCode(10)), Fault::Caller, false)]
    #[case(FailureKind::Refused(ErrorCode(29)), Fault::Caller, false)]
    #[case(FailureKind::Refused(ErrorCode(19)), Fault::Broker, true)]
    #[case(FailureKind::Refused(ErrorCode(9999)), Fault::Broker, true)]
    #[case(FailureKind::RefusedWithBatch(ErrorCode(87)), Fault::Broker, true)]
    #[case(FailureKind::DeliveryTimedOut, Fault::Network, true)]
    #[case(FailureKind::Disconnected, Fault::Network, true)]
    #[case(FailureKind::Closed, Fault::Caller, false)]
    #[case(FailureKind::UnsupportedVersion, Fault::Broker, false)]
    #[case(FailureKind::BadAnswer, Fault::Broker, true)]
    fn a_failure_answers_whose_fault_and_whether_to_retry(
        #[case] kind: FailureKind,
        #[case] fault: Fault,
        #[case] may_retry: bool,
    ) {
        let error = failed(kind, Certainty::NotWritten);
        assert_eq!((error.fault(), error.may_retry()), (fault, may_retry));
    }

    #[test]
    fn possibly_written_is_told_by_type_and_text() {
        let error = failed(FailureKind::Disconnected, Certainty::Unknown);
        assert!(error.possibly_written());
        let expected = "topic orders, partition 4: connection lost, broker 2, sent 3 times: words; \
                        possibly written";
        assert_eq!(error.to_string(), expected);
        let error = failed(FailureKind::Refused(ErrorCode(19)), Certainty::NotWritten);
        assert!(!error.possibly_written());
        assert_eq!(error.broker_code(), Some(ErrorCode(19)));
        assert!(
            error.to_string().contains("code 19 NOT_ENOUGH_REPLICAS"),
            "{error}"
        );
    }

    #[test]
    fn an_unreachable_cluster_is_told_with_the_last_address_and_its_failure() {
        let failure = Failure {
            message: Some(Arc::from("127.0.0.1:9: connection refused")),
            ..Failure::new(FailureKind::Disconnected)
        };
        let waited = Duration::from_secs(60);
        let error = ProduceError::topic_timed_out(&Arc::from("orders"), waited, Some(failure));
        assert_eq!(error.kind(), ProduceErrorKind::TopicTimedOut { waited });
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:9: connection refused"), "{text}");
        assert!(text.contains("60s"), "{text}");
        assert!(!error.possibly_written());
        assert_eq!(error.broker_code(), None);
    }
}
