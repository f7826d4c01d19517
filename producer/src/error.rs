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
    /// A broker refused the whole batch with this code, for other records in it (KIP-467). This one
    /// may be sent again.
    RefusedWithBatch(ErrorCode),
    /// The connection was lost with the request on it, and no retry was left.
    Disconnected,
    /// The producer was closed before an answer came.
    Closed,
    /// No broker offers a version of an API that this producer speaks.
    UnsupportedVersion,
    /// A broker's answer could not be read, or contradicts what was asked.
    BadAnswer,
    /// Its transaction had failed, or was aborted, before it was sent, or before a broker had it
    /// for certain.
    TransactionAborted,
    /// A record was refused before it was part of its transaction, which can only be aborted now.
    RecordRefused,
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
    /// Of a whole batch: the records for which a broker refused it, by their places in it, if it
    /// named any. Of a record: none.
    pub refused_records: Option<Arc<[RefusedRecord]>>,
}

/// A record for which a broker refused its batch (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its place in the batch, from 0.
    pub index: u32,
    /// The broker's words, if it had any for it.
    pub message: Option<Arc<str>>,
}

impl Failure {
    /// One of this kind, of which nothing else is known.
    #[must_use]
    pub const fn new(kind: FailureKind) -> Self {
        Self {
            kind,
            broker: None,
            attempts: 0,
            message: None,
            refused_records: None,
        }
    }

    /// It in words, as part of a message.
    pub(crate) fn words(&self) -> String {
        let mut words = match self.kind {
            FailureKind::Refused(code) => format!("refused with {code}"),
            FailureKind::RefusedWithBatch(code) => format!("refused with its batch, {code}"),
            FailureKind::DeliveryTimedOut => "delivery.timeout.ms passed".to_owned(),
            FailureKind::Disconnected => "connection lost".to_owned(),
            FailureKind::Closed => "the producer is closed".to_owned(),
            FailureKind::UnsupportedVersion => "no common version of an API".to_owned(),
            FailureKind::BadAnswer => "unreadable answer from the broker".to_owned(),
            FailureKind::TransactionAborted => "the transaction is aborted".to_owned(),
            FailureKind::RecordRefused => "a record was refused".to_owned(),
        };
        if let Some(broker) = self.broker {
            words += &format!(", broker {broker}");
        }
        if let Some(message) = &self.message {
            words += &format!(": {message}");
        }
        words
    }

    /// What the failure of a batch means for the record at this place in it.
    ///
    /// As in Kafka's client (`Sender.failBatch`): a record that is named alone has the code of the
    /// batch, as it can be meant for no other; of several each is invalid, and its words tell how;
    /// the others were refused with their batch.
    pub(crate) fn of_record(&self, index: u32) -> Self {
        let (FailureKind::Refused(code), Some(refused)) = (self.kind, &self.refused_records) else {
            return self.clone();
        };
        let (kind, message) = match refused.binary_search_by_key(&index, |one| one.index) {
            Ok(place) => {
                let code = match refused.len() {
                    1 => code,
                    _ => ErrorCode::INVALID_RECORD,
                };
                let own = refused[place].message.clone();
                (
                    FailureKind::Refused(code),
                    own.or_else(|| self.message.clone()),
                )
            }
            Err(_) => {
                let words = format!("{} records of its batch are invalid", refused.len());
                (FailureKind::RefusedWithBatch(code), Some(words.into()))
            }
        };
        Self {
            kind,
            broker: self.broker,
            attempts: self.attempts,
            message,
            refused_records: None,
        }
    }
}

impl ErrorCode {
    /// Whether it passes by itself: what Kafka's `Errors` have as a `RetriableException`.
    pub(crate) fn is_retriable(self) -> bool {
        RETRIABLE.contains(&self)
    }
}

const RETRIABLE: [ErrorCode; 32] = [
    ErrorCode::CORRUPT_MESSAGE,
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::LEADER_NOT_AVAILABLE,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::REQUEST_TIMED_OUT,
    ErrorCode::REPLICA_NOT_AVAILABLE,
    ErrorCode::NETWORK_EXCEPTION,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::NOT_ENOUGH_REPLICAS,
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode::NOT_CONTROLLER,
    ErrorCode::CONCURRENT_TRANSACTIONS,
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
    ErrorCode::INVALID_FETCH_SESSION_EPOCH,
    ErrorCode::LISTENER_NOT_FOUND,
    ErrorCode::FENCED_LEADER_EPOCH,
    ErrorCode::UNKNOWN_LEADER_EPOCH,
    ErrorCode::OFFSET_NOT_AVAILABLE,
    ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
    ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
    ErrorCode::ELECTION_NOT_NEEDED,
    ErrorCode::UNSTABLE_OFFSET_COMMIT,
    ErrorCode::THROTTLING_QUOTA_EXCEEDED,
    ErrorCode::UNKNOWN_TOPIC_ID,
    ErrorCode::INCONSISTENT_TOPIC_ID,
    ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    ErrorCode::SHARE_SESSION_NOT_FOUND,
    ErrorCode::INVALID_SHARE_SESSION_EPOCH,
    ErrorCode::SHARE_SESSION_LIMIT_REACHED,
];

macro_rules! error_codes {
    ($($number:literal $name:ident)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("`", stringify!($name), "` (", stringify!($number), ").")]
                pub const $name: Self = Self($number);
            )*

            /// Every code of Apache Kafka 4.3.1.
            pub const KNOWN: &[Self] = &[$(Self($number)),*];

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
    1 OFFSET_OUT_OF_RANGE
    2 CORRUPT_MESSAGE
    3 UNKNOWN_TOPIC_OR_PARTITION
    4 INVALID_FETCH_SIZE
    5 LEADER_NOT_AVAILABLE
    6 NOT_LEADER_OR_FOLLOWER
    7 REQUEST_TIMED_OUT
    8 BROKER_NOT_AVAILABLE
    9 REPLICA_NOT_AVAILABLE
    10 MESSAGE_TOO_LARGE
    11 STALE_CONTROLLER_EPOCH
    12 OFFSET_METADATA_TOO_LARGE
    13 NETWORK_EXCEPTION
    14 COORDINATOR_LOAD_IN_PROGRESS
    15 COORDINATOR_NOT_AVAILABLE
    16 NOT_COORDINATOR
    17 INVALID_TOPIC
    18 RECORD_LIST_TOO_LARGE
    19 NOT_ENOUGH_REPLICAS
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND
    21 INVALID_REQUIRED_ACKS
    22 ILLEGAL_GENERATION
    23 INCONSISTENT_GROUP_PROTOCOL
    24 INVALID_GROUP_ID
    25 UNKNOWN_MEMBER_ID
    26 INVALID_SESSION_TIMEOUT
    27 REBALANCE_IN_PROGRESS
    28 INVALID_COMMIT_OFFSET_SIZE
    29 TOPIC_AUTHORIZATION_FAILED
    30 GROUP_AUTHORIZATION_FAILED
    31 CLUSTER_AUTHORIZATION_FAILED
    32 INVALID_TIMESTAMP
    33 UNSUPPORTED_SASL_MECHANISM
    34 ILLEGAL_SASL_STATE
    35 UNSUPPORTED_VERSION
    36 TOPIC_ALREADY_EXISTS
    37 INVALID_PARTITIONS
    38 INVALID_REPLICATION_FACTOR
    39 INVALID_REPLICA_ASSIGNMENT
    40 INVALID_CONFIG
    41 NOT_CONTROLLER
    42 INVALID_REQUEST
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT
    44 POLICY_VIOLATION
    45 OUT_OF_ORDER_SEQUENCE_NUMBER
    46 DUPLICATE_SEQUENCE_NUMBER
    47 INVALID_PRODUCER_EPOCH
    48 INVALID_TXN_STATE
    49 INVALID_PRODUCER_ID_MAPPING
    50 INVALID_TRANSACTION_TIMEOUT
    51 CONCURRENT_TRANSACTIONS
    52 TRANSACTION_COORDINATOR_FENCED
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    54 SECURITY_DISABLED
    55 OPERATION_NOT_ATTEMPTED
    56 KAFKA_STORAGE_ERROR
    57 LOG_DIR_NOT_FOUND
    58 SASL_AUTHENTICATION_FAILED
    59 UNKNOWN_PRODUCER_ID
    60 REASSIGNMENT_IN_PROGRESS
    61 DELEGATION_TOKEN_AUTH_DISABLED
    62 DELEGATION_TOKEN_NOT_FOUND
    63 DELEGATION_TOKEN_OWNER_MISMATCH
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED
    66 DELEGATION_TOKEN_EXPIRED
    67 INVALID_PRINCIPAL_TYPE
    68 NON_EMPTY_GROUP
    69 GROUP_ID_NOT_FOUND
    70 FETCH_SESSION_ID_NOT_FOUND
    71 INVALID_FETCH_SESSION_EPOCH
    72 LISTENER_NOT_FOUND
    73 TOPIC_DELETION_DISABLED
    74 FENCED_LEADER_EPOCH
    75 UNKNOWN_LEADER_EPOCH
    76 UNSUPPORTED_COMPRESSION_TYPE
    77 STALE_BROKER_EPOCH
    78 OFFSET_NOT_AVAILABLE
    79 MEMBER_ID_REQUIRED
    80 PREFERRED_LEADER_NOT_AVAILABLE
    81 GROUP_MAX_SIZE_REACHED
    82 FENCED_INSTANCE_ID
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE
    84 ELECTION_NOT_NEEDED
    85 NO_REASSIGNMENT_IN_PROGRESS
    86 GROUP_SUBSCRIBED_TO_TOPIC
    87 INVALID_RECORD
    88 UNSTABLE_OFFSET_COMMIT
    89 THROTTLING_QUOTA_EXCEEDED
    90 PRODUCER_FENCED
    91 RESOURCE_NOT_FOUND
    92 DUPLICATE_RESOURCE
    93 UNACCEPTABLE_CREDENTIAL
    94 INCONSISTENT_VOTER_SET
    95 INVALID_UPDATE_VERSION
    96 FEATURE_UPDATE_FAILED
    97 PRINCIPAL_DESERIALIZATION_FAILURE
    98 SNAPSHOT_NOT_FOUND
    99 POSITION_OUT_OF_RANGE
    100 UNKNOWN_TOPIC_ID
    101 DUPLICATE_BROKER_REGISTRATION
    102 BROKER_ID_NOT_REGISTERED
    103 INCONSISTENT_TOPIC_ID
    104 INCONSISTENT_CLUSTER_ID
    105 TRANSACTIONAL_ID_NOT_FOUND
    106 FETCH_SESSION_TOPIC_ID_ERROR
    107 INELIGIBLE_REPLICA
    108 NEW_LEADER_ELECTED
    109 OFFSET_MOVED_TO_TIERED_STORAGE
    110 FENCED_MEMBER_EPOCH
    111 UNRELEASED_INSTANCE_ID
    112 UNSUPPORTED_ASSIGNOR
    113 STALE_MEMBER_EPOCH
    114 MISMATCHED_ENDPOINT_TYPE
    115 UNSUPPORTED_ENDPOINT_TYPE
    116 UNKNOWN_CONTROLLER_ID
    117 UNKNOWN_SUBSCRIPTION_ID
    118 TELEMETRY_TOO_LARGE
    119 INVALID_REGISTRATION
    120 TRANSACTION_ABORTABLE
    121 INVALID_RECORD_STATE
    122 SHARE_SESSION_NOT_FOUND
    123 INVALID_SHARE_SESSION_EPOCH
    124 FENCED_STATE_EPOCH
    125 INVALID_VOTER_KEY
    126 DUPLICATE_VOTER
    127 VOTER_NOT_FOUND
    128 INVALID_REGULAR_EXPRESSION
    129 REBOOTSTRAP_REQUIRED
    130 STREAMS_INVALID_TOPOLOGY
    131 STREAMS_INVALID_TOPOLOGY_EPOCH
    132 STREAMS_TOPOLOGY_FENCED
    133 SHARE_SESSION_LIMIT_REACHED
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
