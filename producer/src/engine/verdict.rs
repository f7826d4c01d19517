//! What an answer means for a batch, given what its earlier attempts may have left behind.
//!
//! *State*: none; a table.
//! ```text
//!   code × history × place in line ──▶ then (acknowledge, retry, restart, fail)
//!                                      history afterwards
//!                                      whether leaders must be asked for
//! ```
//!
//! *Invariants*
//! 1. A batch fails as "not written" only if no attempt of it can be in a log.
//! 2. An unknown code after a send is "possibly written".
//! 3. Only a batch that is certainly in no log is renumbered: a renumbered one is new to the broker.
//!
//! *Source*: Kafka's `Errors`, `Sender.completeBatch`, `TransactionManager.canRetry`, KIP-360; per
//! arm below. Which codes leave the batch in the log: observed on Kafka 4.3.1 (7, and 6 with its
//! offset told), `ReplicaManager` and `Partition` for the others.
//!
//! *Not here*: how many retries are left and when they go (`delivery.rs`).

use crate::engine::partition::History;
use crate::error::ErrorCode;

/// What is known when an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// What the earlier attempts may have left.
    pub(crate) history: History,
    /// Whether an earlier batch of the partition is still open.
    pub(crate) line: Line,
    /// What the log may hold behind this batch.
    pub(crate) behind: Behind,
    /// Whether the refusal told an offset: then it came after the append.
    pub(crate) offset: Offset,
}

/// A batch's place among the open ones of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing before it is open.
    First,
    /// Something before it is open.
    Later,
}

/// What the log may hold behind a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Nothing of this producer.
    Nothing,
    /// A later batch, possibly.
    PossiblyMore,
}

/// Whether an answer tells the batch's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// It does.
    Told,
    /// It says −1.
    Untold,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) then: Then,
    /// The batch's history from now on.
    pub(crate) history: History,
    pub(crate) leaders: Leaders,
}

/// The next step of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is in the log.
    Acknowledge,
    /// Send the same bytes again.
    Retry,
    /// The run of sequences is broken here: restart it, then send again with a new number.
    Restart,
    /// It ends here.
    Fail,
}

/// What the answer says of the partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaders {
    /// Nothing.
    Unquestioned,
    /// It may be another: ask.
    Questioned,
}

/// The table.
pub(crate) fn judge(code: ErrorCode, known: Circumstances) -> Verdict {
    use Leaders::{Questioned, Unquestioned};
    let refused = known.history.max(History::Refused);
    let possibly = History::PossiblyWritten;
    match code {
        // Appended, or a duplicate of what was (`ProducerStateEntry.findDuplicateBatch`).
        ErrorCode::NONE => verdict(Then::Acknowledge, possibly, Unquestioned),
        // Written before, offset unknown (`Sender.completeBatch`; brokers other than Apache's).
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => verdict(Then::Acknowledge, possibly, Unquestioned),

        // Refused before the append, and the metadata we acted on is wrong
        // (`InvalidMetadataException`; `ReplicaManager.getPartitionOrException`).
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::LISTENER_NOT_FOUND
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => verdict(Then::Retry, refused, Questioned),
        // With its offset told, leadership was lost while the append waited for replicas
        // (`Partition.checkEnoughReplicasReachOffset`): the next leader may have it.
        ErrorCode::NOT_LEADER_OR_FOLLOWER => {
            let history = match known.offset {
                Offset::Told => possibly,
                Offset::Untold => refused,
            };
            verdict(Then::Retry, history, Questioned)
        }
        // The broker failed around its log or its own network: no word on what was appended.
        ErrorCode::NETWORK_EXCEPTION | ErrorCode::KAFKA_STORAGE_ERROR => {
            verdict(Then::Retry, possibly, Questioned)
        }

        // Refused before the append (`UnifiedLog.analyzeAndValidateRecords`,
        // `Partition.appendRecordsToLeader`; 51 and 89 before the log is reached).
        ErrorCode::CORRUPT_MESSAGE
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => verdict(Then::Retry, refused, Unquestioned),
        // Appended on the leader, not on all it takes (`DelayedProduce`).
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            verdict(Then::Retry, possibly, Unquestioned)
        }

        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => out_of_order(known),
        // The broker forgot us, and so whether an earlier attempt was appended (KIP-360).
        ErrorCode::UNKNOWN_PRODUCER_ID => match known.history {
            History::PossiblyWritten => verdict(Then::Fail, possibly, Unquestioned),
            History::NeverLeft | History::Refused => {
                verdict(Then::Restart, History::Refused, Unquestioned)
            }
        },

        // Refused for good, before the append. 47: somebody uses our id with a later epoch; the
        // run restarts above it. 10 with several records: splitting belongs here.
        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::INVALID_TOPIC
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_REQUIRED_ACKS
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::INVALID_TIMESTAMP
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::INVALID_TXN_STATE
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        | ErrorCode::INVALID_RECORD
        | ErrorCode::PRODUCER_FENCED
        | ErrorCode::TRANSACTION_ABORTABLE => verdict(Then::Fail, refused, Unquestioned),

        // UNKNOWN_SERVER_ERROR and codes that are newer than this table: not retriable
        // (`Errors.forCode`), and nothing says how far the broker got.
        _ => verdict(Then::Fail, possibly, Unquestioned),
    }
}

/// 45: the broker expects another sequence. This attempt was not appended.
///
/// Behind an open batch that is no surprise: the batch waits for its turn. First in line, the
/// broker's state differs from ours: the run restarts (KIP-360). An earlier attempt that got no
/// answer was not appended either, for a broker recognises at least the last batch it appended;
/// unless a later batch may have taken that place.
///
/// *Source*: `ProducerAppendInfo.checkSequence`; the duplicate window is one batch after a restart.
fn out_of_order(known: Circumstances) -> Verdict {
    match (known.history, known.behind, known.line) {
        (History::PossiblyWritten, Behind::PossiblyMore, _) => {
            verdict(Then::Fail, History::PossiblyWritten, Leaders::Unquestioned)
        }
        (_, _, Line::First) => verdict(Then::Restart, History::Refused, Leaders::Unquestioned),
        (_, _, Line::Later) => verdict(Then::Retry, History::Refused, Leaders::Unquestioned),
    }
}

fn verdict(then: Then, history: History, leaders: Leaders) -> Verdict {
    Verdict {
        then,
        history,
        leaders,
    }
}
