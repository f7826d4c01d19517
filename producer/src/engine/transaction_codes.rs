//! What a code means for a transaction, for each of the questions that may be answered with it.
//!
//! *State*: none; a table.
//!
//! *Invariants*
//! 1. A code that this table does not know is never taken for success.
//!
//! *Source*: Kafka's `TransactionManager` and the handlers in it, per arm below; KIP-588, KIP-890.
//!
//! *Not here*: batches that are sent again within a transaction (`verdict.rs`).

use crate::engine::transaction::Severity;
use crate::error::{ErrorCode, Failure, FailureKind};
use crate::wire::Api;
use crate::wire::transactional::{Coordinated, Decision};

/// A question of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// FindCoordinator, of the transactional id or a group.
    Coordinator(Coordinated),
    /// InitProducerId.
    Identity,
    /// AddPartitionsToTxn.
    Partitions,
    /// AddOffsetsToTxn.
    Offsets,
    /// TxnOffsetCommit.
    OffsetCommit,
    /// EndTxn.
    End(Decision),
}

impl Question {
    /// The API that asks it.
    pub(crate) fn api(self) -> Api {
        match self {
            Self::Coordinator(_) => Api::FindCoordinator,
            Self::Identity => Api::InitProducerId,
            Self::Partitions => Api::AddPartitionsToTxn,
            Self::Offsets => Api::AddOffsetsToTxn,
            Self::OffsetCommit => Api::TxnOffsetCommit,
            Self::End(_) => Api::EndTxn,
        }
    }
}

impl Question {
    /// Who is asked, by what that one coordinates; of a coordinator, whose it is.
    pub(crate) fn asks(self) -> Coordinated {
        match self {
            Self::Coordinator(what) => what,
            Self::OffsetCommit => Coordinated::Group,
            Self::Identity | Self::Partitions | Self::Offsets | Self::End(_) => {
                Coordinated::Transaction
            }
        }
    }
}

/// What an answer's code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// Ask the same again.
    Retry,
    /// Somebody else coordinates now: find out who, and ask again.
    FindAgain,
    /// It will not be done.
    Failed(Severity),
}

/// What a code says to a question.
pub(crate) fn reply(question: Question, code: ErrorCode) -> Reply {
    let abortable = Reply::Failed(Severity::Abortable);
    let fatal = Reply::Failed(Severity::Fatal);
    match (code, question) {
        (ErrorCode::NONE, _) => Reply::Done,
        // Whoever names a coordinator need not be one.
        (
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE,
            Question::Coordinator(_),
        ) => Reply::Retry,
        (ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE, _) => Reply::FindAgain,
        // A group's coordinator that waits for its replicas in vain.
        (ErrorCode::REQUEST_TIMED_OUT, Question::OffsetCommit) => Reply::FindAgain,
        // The broker could not even abort.
        (ErrorCode::TRANSACTION_ABORTABLE, Question::End(Decision::Abort)) => fatal,
        (ErrorCode::TRANSACTION_ABORTABLE, _) => abortable,
        // Our own id may be raised, so this is not the end.
        (
            ErrorCode::UNKNOWN_PRODUCER_ID,
            Question::Partitions | Question::Offsets | Question::End(_),
        ) => abortable,
        // May be allowed later: init may be asked for again.
        (
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            Question::Identity,
        ) => abortable,
        (
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Question::Coordinator(_) | Question::Offsets | Question::OffsetCommit,
        ) => abortable,
        (
            ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::GROUP_ID_NOT_FOUND
            | ErrorCode::STALE_MEMBER_EPOCH,
            Question::OffsetCommit,
        ) => abortable,
        (code, _) if code.is_retriable() => Reply::Retry,
        (
            ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::PRODUCER_FENCED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::INVALID_TXN_STATE
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            _,
        ) => fatal,
        // TOPIC_AUTHORIZATION_FAILED, OPERATION_NOT_ATTEMPTED and what is unknown: partitions that
        // are not part of it can still be left out by aborting.
        (_, Question::Partitions) => abortable,
        _ => fatal,
    }
}

/// Whether a coordinator that answers so to what is to join has let nothing join: it was turned
/// away before that was written down.
pub(crate) fn proves_that_nothing_joined(code: ErrorCode) -> bool {
    let left_out = matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::OPERATION_NOT_ATTEMPTED
    );
    left_out || (code != ErrorCode::NONE && proves_how_it_ended(code))
}

/// Whether an end's answer leaves no doubt of what that attempt did: it is done, or it was turned
/// away before the coordinator began to write it down. The others (`appendTransactionToLog` in
/// Kafka's `TransactionStateManager`), and those that we do not know, may come after it was.
pub(crate) fn proves_how_it_ended(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NONE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::PRODUCER_FENCED
            | ErrorCode::INVALID_TXN_STATE
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTION_ABORTABLE
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::INVALID_REQUEST
    )
}

/// How bad it is that a batch of a transaction failed (`Sender.failBatch`,
/// `TransactionManager.handleFailedBatch`).
pub(crate) fn severity_of_batch(failure: &Failure) -> Severity {
    match failure.kind {
        FailureKind::Refused(
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::PRODUCER_FENCED,
        )
        | FailureKind::UnsupportedVersion => Severity::Fatal,
        _ => Severity::Abortable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::transactional::Decision::{Abort, Commit};
    use Reply::{Done, FindAgain, Retry};
    use rstest::rstest;

    const ABORTABLE: Reply = Reply::Failed(Severity::Abortable);
    const FATAL: Reply = Reply::Failed(Severity::Fatal);

    const QUESTIONS: [Question; 7] = [
        Question::Coordinator(Coordinated::Group),
        Question::Identity,
        Question::Partitions,
        Question::Offsets,
        Question::OffsetCommit,
        Question::End(Commit),
        Question::End(Abort),
    ];

    /// In the order of the questions above.
    #[rstest]
    #[case(0, [Done; 7])]
    #[case(14, [Retry; 7])]
    #[case(51, [Retry; 7])]
    #[case(15, [Retry, FindAgain, FindAgain, FindAgain, FindAgain, FindAgain, FindAgain])]
    #[case(16, [Retry, FindAgain, FindAgain, FindAgain, FindAgain, FindAgain, FindAgain])]
    #[case(7, [Retry, Retry, Retry, Retry, FindAgain, Retry, Retry])]
    #[case(3, [Retry; 7])]
    #[case(120, [ABORTABLE, ABORTABLE, ABORTABLE, ABORTABLE, ABORTABLE, ABORTABLE, FATAL])]
    #[case(47, [FATAL; 7])]
    #[case(90, [FATAL; 7])]
    #[case(48, [FATAL; 7])]
    #[case(49, [FATAL; 7])]
    #[case(53, [FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL, FATAL])]
    #[case(31, [FATAL, ABORTABLE, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    #[case(59, [FATAL, FATAL, ABORTABLE, ABORTABLE, FATAL, ABORTABLE, ABORTABLE])]
    #[case(30, [ABORTABLE, FATAL, ABORTABLE, ABORTABLE, ABORTABLE, FATAL, FATAL])]
    #[case(29, [FATAL, FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    #[case(55, [FATAL, FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    #[case(22, [FATAL, FATAL, ABORTABLE, FATAL, ABORTABLE, FATAL, FATAL])]
    #[case(25, [FATAL, FATAL, ABORTABLE, FATAL, ABORTABLE, FATAL, FATAL])]
    #[case(82, [FATAL, FATAL, ABORTABLE, FATAL, ABORTABLE, FATAL, FATAL])]
    #[case(113, [FATAL, FATAL, ABORTABLE, FATAL, ABORTABLE, FATAL, FATAL])]
    #[case(43, [FATAL, FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    #[case(50, [FATAL, FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    #[case(-1, [FATAL, FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    #[case(999, [FATAL, FATAL, ABORTABLE, FATAL, FATAL, FATAL, FATAL])]
    fn a_code_means(#[case] code: i16, #[case] expected: [Reply; 7]) {
        for (question, expected) in QUESTIONS.into_iter().zip(expected) {
            let reply = reply(question, ErrorCode(code));
            assert_eq!(reply, expected, "{code} to {question:?}");
        }
    }

    #[test]
    fn only_zero_is_success() {
        for code in ErrorCode::KNOWN.iter().filter(|code| code.0 != 0) {
            for question in QUESTIONS {
                assert_ne!(reply(question, *code), Done, "{code} to {question:?}");
            }
        }
    }

    #[rstest]
    #[case::fenced(90, Severity::Fatal)]
    #[case::id_forbidden(53, Severity::Fatal)]
    #[case::cluster_forbidden(31, Severity::Fatal)]
    #[case::id_unknown(49, Severity::Fatal)]
    #[case::version(35, Severity::Fatal)]
    #[case::stale_epoch(47, Severity::Abortable)]
    #[case::not_in_transaction(48, Severity::Abortable)]
    #[case::abortable(120, Severity::Abortable)]
    #[case::too_large(10, Severity::Abortable)]
    #[case::topic_forbidden(29, Severity::Abortable)]
    #[case::out_of_order(45, Severity::Abortable)]
    fn a_failed_batch_is_as_bad_as(#[case] code: i16, #[case] expected: Severity) {
        let failure = Failure::new(FailureKind::Refused(ErrorCode(code)));
        assert_eq!(severity_of_batch(&failure), expected);
    }
}
