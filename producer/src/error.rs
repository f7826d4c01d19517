//! Why a record failed, in one value that answers three questions: whose fault, may it be sent
//! again, was it possibly written.
//!
//! *Invariants*
//! 1. [`Failure`] alone does not say whether the record may be in the log: that is the outcome it
//!    stands in ([`crate::engine::effect::BatchOutcome`]), and the public error carries both.
//! 2. A broker's code is kept as its number; an unknown code is carried, never mapped away.
//!
//! *Source*: Kafka's `Errors` table.

use std::fmt;
use std::sync::Arc;

use crate::types::BrokerId;

/// Who has to act for the next attempt to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The caller: the record or a setting is wrong; sending it again fails again.
    Caller,
    /// The broker or the cluster refused or failed.
    Broker,
    /// The connection was lost, or nobody answered in time.
    Network,
    /// This crate: a broken promise of ours, worth a bug report.
    Client,
}

/// A broker's error code, as its number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// A broker answered with an error code.
    Refused(ErrorCode),
    /// `delivery.timeout.ms` passed.
    DeliveryTimedOut,
    /// The connection was lost with the request on it, and no retry was left.
    Disconnected,
    /// The producer was closed before an answer came.
    Closed,
    /// No broker offers a version of an API that this producer speaks.
    UnsupportedVersion,
    /// A broker's answer could not be read, or contradicts what was asked.
    BadAnswer,
}

/// A failure with its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The broker that was asked last, if one was.
    pub broker: Option<BrokerId>,
    /// How many times the batch was sent, 0 when it never left.
    pub attempts: u32,
    /// The broker's own words, if it sent any, or the reason a connection was lost.
    pub message: Option<Arc<str>>,
}

macro_rules! error_codes {
    ($($number:literal $name:ident)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("`", stringify!($name), "` (", stringify!($number), ").")]
                pub const $name: Self = Self($number);
            )*

            /// Kafka's name of the code; `None` if it is newer than this table.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR
    0 NONE
    2 CORRUPT_MESSAGE
    3 UNKNOWN_TOPIC_OR_PARTITION
    5 LEADER_NOT_AVAILABLE
    6 NOT_LEADER_OR_FOLLOWER
    7 REQUEST_TIMED_OUT
    9 REPLICA_NOT_AVAILABLE
    10 MESSAGE_TOO_LARGE
    13 NETWORK_EXCEPTION
    14 COORDINATOR_LOAD_IN_PROGRESS
    15 COORDINATOR_NOT_AVAILABLE
    16 NOT_COORDINATOR
    17 INVALID_TOPIC
    18 RECORD_LIST_TOO_LARGE
    19 NOT_ENOUGH_REPLICAS
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND
    21 INVALID_REQUIRED_ACKS
    29 TOPIC_AUTHORIZATION_FAILED
    31 CLUSTER_AUTHORIZATION_FAILED
    32 INVALID_TIMESTAMP
    35 UNSUPPORTED_VERSION
    42 INVALID_REQUEST
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT
    44 POLICY_VIOLATION
    45 OUT_OF_ORDER_SEQUENCE_NUMBER
    46 DUPLICATE_SEQUENCE_NUMBER
    47 INVALID_PRODUCER_EPOCH
    48 INVALID_TXN_STATE
    49 INVALID_PRODUCER_ID_MAPPING
    51 CONCURRENT_TRANSACTIONS
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    56 KAFKA_STORAGE_ERROR
    59 UNKNOWN_PRODUCER_ID
    72 LISTENER_NOT_FOUND
    74 FENCED_LEADER_EPOCH
    75 UNKNOWN_LEADER_EPOCH
    76 UNSUPPORTED_COMPRESSION_TYPE
    87 INVALID_RECORD
    89 THROTTLING_QUOTA_EXCEEDED
    90 PRODUCER_FENCED
    100 UNKNOWN_TOPIC_ID
    103 INCONSISTENT_TOPIC_ID
    120 TRANSACTION_ABORTABLE
    129 REBOOTSTRAP_REQUIRED
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({self})")
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} {name}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}
