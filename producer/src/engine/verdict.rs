//! What an answer means for a batch, given what its earlier attempts may have left behind.
//!
//! *State*: none; a table.
//! ```text
//!   code × history × place in line ──▶ then (acknowledge, retry, restart, split, fail, ask)
//!                                      history afterwards
//!                                      whether leaders must be asked for
//! ```
//!
//! *Invariants*
//! 1. A batch fails as "not written" only if no attempt of it can be in a log.
//! 2. An unknown code after a send is "possibly written".
//! 3. Only a batch that is certainly in no log is renumbered: to the broker it is a new one.
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
    /// What may still arrive ahead of this batch.
    pub(crate) ahead: Ahead,
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

/// What may still arrive ahead of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// Nothing: all before it is answered.
    Settled,
    /// A batch that ended as unknown, whose request may still be on its way.
    PossiblyMore,
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
    /// Send its records in two batches; a single record ends here.
    Split,
    /// It ends here.
    Fail,
    /// It ends here, unless its outcome is asked for: sending the same bytes again may tell.
    Ask,
}

/// What the answer says of the partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaders {
    /// Nothing.
    Unquestioned,
    /// It may be another: ask.
    Questioned,
}

/// What a code says of the partition's leader, whatever became of the batch.
pub(crate) fn leaders(code: ErrorCode) -> Leaders {
    match classify(code) {
        Class::WrongPlace | Class::NotLeader | Class::BrokerFailed => Leaders::Questioned,
        Class::InTheLog
        | Class::NotNow
        | Class::NotReplicated
        | Class::Passing
        | Class::OutOfOrder
        | Class::Forgotten
        | Class::TooLarge
        | Class::Never
        | Class::Unclear => Leaders::Unquestioned,
    }
}

/// What the answer means for the batch. What is `known` is asked for where it matters: never for a
/// batch that is in the log.
pub(crate) fn judge(code: ErrorCode, known: impl FnOnce() -> Circumstances) -> Verdict {
    let refused = |known: Circumstances| known.history.max(History::Refused);
    let possibly = History::PossiblyWritten;
    match classify(code) {
        Class::InTheLog => verdict(Then::Acknowledge, possibly),
        Class::WrongPlace | Class::NotNow => verdict(Then::Retry, refused(known())),
        Class::NotLeader => {
            let known = known();
            // With its offset told, leadership was lost while the append waited for replicas
            // (`Partition.checkEnoughReplicasReachOffset`): the next leader may have it.
            match known.offset {
                Offset::Told => verdict(Then::Retry, possibly),
                Offset::Untold => verdict(Then::Retry, refused(known)),
            }
        }
        Class::BrokerFailed | Class::NotReplicated | Class::Passing => {
            verdict(Then::Retry, possibly)
        }
        Class::OutOfOrder => out_of_order(known()),
        // The broker forgot us, and with us whether an earlier attempt was appended (KIP-360).
        Class::Forgotten => unless_possibly_written(Then::Restart, known()),
        // An earlier attempt may be in the log: a part of it would not be recognised there.
        Class::TooLarge => unless_possibly_written(Then::Split, known()),
        Class::Never => verdict(Then::Fail, refused(known())),
        Class::Unclear => verdict(Then::Ask, possibly),
    }
}

/// What is done with a batch that is in no log; one that may be in a log ends.
fn unless_possibly_written(then: Then, known: Circumstances) -> Verdict {
    match known.history {
        History::PossiblyWritten => verdict(Then::Fail, History::PossiblyWritten),
        History::NeverLeft | History::Refused => verdict(then, History::Refused),
    }
}

/// What a code says, whatever the batch's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Appended, now or before.
    InTheLog,
    /// Refused before the append, because our metadata is wrong.
    WrongPlace,
    /// Refused for another leader: before the append, or after it.
    NotLeader,
    /// The broker failed around its log or its own network: no word on what was appended.
    BrokerFailed,
    /// Refused before the append, for a reason that passes.
    NotNow,
    /// Appended on the leader, not on all that it takes.
    NotReplicated,
    /// It passes, and nothing says how far the broker got.
    Passing,
    /// The broker expects another sequence.
    OutOfOrder,
    /// The broker has no state of this producer.
    Forgotten,
    /// Refused before the append, for its size.
    TooLarge,
    /// Refused before the append, for good.
    Never,
    /// Nothing says how far the broker got.
    Unclear,
}

fn classify(code: ErrorCode) -> Class {
    match code {
        // 46 comes from brokers other than Apache's; `Sender.completeBatch` takes it as success.
        ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Class::InTheLog,
        // `InvalidMetadataException`; `ReplicaManager.getPartitionOrException`.
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::LISTENER_NOT_FOUND
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => Class::WrongPlace,
        ErrorCode::NOT_LEADER_OR_FOLLOWER => Class::NotLeader,
        // With the three below, `InvalidMetadataException`s that say nothing of the log.
        ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE
        | ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE
        | ErrorCode::ELECTION_NOT_NEEDED => Class::BrokerFailed,
        // `UnifiedLog.analyzeAndValidateRecords`, `Partition.appendRecordsToLeader`; 51 and 89
        // before the log is reached.
        ErrorCode::CORRUPT_MESSAGE
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => Class::NotNow,
        // `RetriableException`s that no broker of Apache's answers Produce with.
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::NOT_CONTROLLER
        | ErrorCode::FETCH_SESSION_ID_NOT_FOUND
        | ErrorCode::INVALID_FETCH_SESSION_EPOCH
        | ErrorCode::OFFSET_NOT_AVAILABLE
        | ErrorCode::UNSTABLE_OFFSET_COMMIT
        | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
        | ErrorCode::SHARE_SESSION_NOT_FOUND
        | ErrorCode::INVALID_SHARE_SESSION_EPOCH
        | ErrorCode::SHARE_SESSION_LIMIT_REACHED => Class::Passing,
        // `DelayedProduce`.
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            Class::NotReplicated
        }
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Class::OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID => Class::Forgotten,
        // `Sender.completeBatch`, `RecordAccumulator.splitAndReenqueue`.
        ErrorCode::MESSAGE_TOO_LARGE => Class::TooLarge,
        // 47: somebody uses our id with a later epoch; the run restarts above it.
        ErrorCode::INVALID_TOPIC
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
        | ErrorCode::TRANSACTION_ABORTABLE => Class::Never,
        // UNKNOWN_SERVER_ERROR, and codes newer than this table (`Errors.forCode`): not retriable.
        _ => Class::Unclear,
    }
}

/// 45: the broker expects another sequence. This attempt was not appended.
///
/// Behind an open batch that is no surprise: the batch waits for its turn. First in line, the
/// broker's state differs from ours: the run restarts (KIP-360). An earlier attempt that got no
/// answer was not appended either, for a broker recognises at least the last batch it appended.
///
/// With two exceptions: a later batch may have taken that place; or an unknown batch before it may
/// still arrive, and let the earlier attempt in that arrives behind it.
///
/// *Source*: `ProducerAppendInfo.checkSequence`; the duplicate window is one batch after a restart.
fn out_of_order(known: Circumstances) -> Verdict {
    let settled = known.behind == Behind::Nothing && known.ahead == Ahead::Settled;
    let then = match (known.history, known.line) {
        (History::PossiblyWritten, _) if !settled => {
            return verdict(Then::Fail, History::PossiblyWritten);
        }
        (_, Line::First) => Then::Restart,
        (_, Line::Later) => Then::Retry,
    };
    verdict(then, History::Refused)
}

fn verdict(then: Then, history: History) -> Verdict {
    Verdict { then, history }
}

/// A batch that nothing stands before or behind, whose answer tells no offset.
#[cfg(test)]
pub(crate) fn first_in_line(history: History) -> Circumstances {
    Circumstances {
        history,
        line: Line::First,
        ahead: Ahead::Settled,
        behind: Behind::Nothing,
        offset: Offset::Untold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    use History::{NeverLeft, PossiblyWritten, Refused};
    use Then::{Acknowledge, Ask, Fail, Restart, Retry, Split};

    #[rstest]
    #[case::appended(0, NeverLeft, Acknowledge, PossiblyWritten)]
    #[case::duplicate_untold(46, PossiblyWritten, Acknowledge, PossiblyWritten)]
    #[case::not_leader(6, NeverLeft, Retry, Refused)]
    #[case::not_leader_after_a_loss(6, PossiblyWritten, Retry, PossiblyWritten)]
    #[case::not_enough_replicas(19, NeverLeft, Retry, Refused)]
    #[case::not_enough_after_append(20, NeverLeft, Retry, PossiblyWritten)]
    #[case::timed_out_in_the_log(7, Refused, Retry, PossiblyWritten)]
    #[case::storage_error(56, NeverLeft, Retry, PossiblyWritten)]
    #[case::corrupt(2, NeverLeft, Retry, Refused)]
    #[case::out_of_order(45, NeverLeft, Restart, Refused)]
    #[case::out_of_order_proves_a_lost_attempt_unwritten(45, PossiblyWritten, Restart, Refused)]
    #[case::forgotten(59, Refused, Restart, Refused)]
    #[case::forgotten_after_a_loss(59, PossiblyWritten, Fail, PossiblyWritten)]
    #[case::invalid_record(87, NeverLeft, Fail, Refused)]
    #[case::invalid_record_after_a_loss(87, PossiblyWritten, Fail, PossiblyWritten)]
    #[case::too_large(10, NeverLeft, Split, Refused)]
    #[case::too_large_after_a_refusal(10, Refused, Split, Refused)]
    #[case::too_large_after_a_loss(10, PossiblyWritten, Fail, PossiblyWritten)]
    #[case::stale_epoch(47, NeverLeft, Fail, Refused)]
    #[case::server_error(-1, NeverLeft, Ask, PossiblyWritten)]
    #[case::newer_than_we(9999, NeverLeft, Ask, PossiblyWritten)]
    fn an_answer_means(
        #[case] code: i16,
        #[case] history: History,
        #[case] then: Then,
        #[case] afterwards: History,
    ) {
        let verdict = judge(ErrorCode(code), || first_in_line(history));
        assert_eq!((verdict.then, verdict.history), (then, afterwards));
    }

    #[test]
    fn a_refusal_that_tells_the_offset_came_after_the_append() {
        let known = Circumstances {
            offset: Offset::Told,
            ..first_in_line(NeverLeft)
        };
        let verdict = judge(ErrorCode::NOT_LEADER_OR_FOLLOWER, || known);
        assert_eq!((verdict.then, verdict.history), (Retry, PossiblyWritten));
    }

    #[test]
    fn out_of_order_behind_an_open_batch_waits_for_its_turn() {
        let known = Circumstances {
            line: Line::Later,
            ..first_in_line(NeverLeft)
        };
        let verdict = judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, || known);
        assert_eq!((verdict.then, verdict.history), (Retry, Refused));
    }

    /// The later batch may have pushed this one out of the broker's memory: sending it again under
    /// a new number could write it twice.
    #[test]
    fn out_of_order_settles_nothing_when_a_later_batch_may_be_written() {
        let known = Circumstances {
            behind: Behind::PossiblyMore,
            ..first_in_line(PossiblyWritten)
        };
        let verdict = judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, || known);
        assert_eq!((verdict.then, verdict.history), (Fail, PossiblyWritten));
    }

    /// The batch before may still arrive, and this one's first attempt behind it.
    #[test]
    fn out_of_order_settles_nothing_behind_an_unknown_batch() {
        let known = Circumstances {
            ahead: Ahead::PossiblyMore,
            ..first_in_line(PossiblyWritten)
        };
        let verdict = judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, || known);
        assert_eq!((verdict.then, verdict.history), (Fail, PossiblyWritten));
    }

    #[test]
    fn only_a_batch_that_is_in_no_log_is_renumbered() {
        for code in i16::MIN..=i16::MAX {
            for history in [NeverLeft, Refused, PossiblyWritten] {
                for behind in [Behind::Nothing, Behind::PossiblyMore] {
                    let known = Circumstances {
                        behind,
                        ..first_in_line(history)
                    };
                    let verdict = judge(ErrorCode(code), || known);
                    let written = verdict.history == PossiblyWritten;
                    assert!(
                        verdict.then != Restart || !written,
                        "code {code}: {known:?}"
                    );
                }
            }
        }
    }
}
