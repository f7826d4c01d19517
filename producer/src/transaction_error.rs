//! Why something of a transaction was not done, and what is left to do.
//!
//! *Invariants*
//! 1. Of a commit the types say which it is: not committed, not answered yet, or never to be known.
//! 2. What is not answered yet can only be waited for again: no type offers the other decision.
//!
//! *Not here*: what leads there (`engine/transaction.rs`).

use std::fmt;
use std::time::Duration;

use crate::engine::transaction::{Certainty, Denied, Misuse};
use crate::error::{ErrorCode, Failure, FailureKind};
use crate::transactions::{PendingAbort, PendingCommit};

/// Why something of a transaction was not done.
#[derive(Clone)]
pub struct TransactionError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: TransactionErrorKind,
    remedy: Remedy,
    failure: Option<Failure>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionErrorKind {
    /// A call out of turn.
    Misuse(Misuse),
    /// Something of it failed: a record, or what a coordinator was asked;
    /// [`TransactionError::failure`] says what.
    Failed,
    /// A newer producer has the `transactional.id`, or the transaction took longer than
    /// `transaction.timeout.ms`.
    Fenced,
    /// A coordinator refused: for good, unless the remedy is to call again.
    Refused,
    /// `max.block.ms` passed.
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The producer was closed, or its runtime ended.
    Closed,
    /// One that was begun before it in the same [`Lanes`](crate::Lanes) was not committed, or
    /// nobody knows; [`Lanes::go_on`](crate::Lanes::go_on) comes next.
    EarlierNotCommitted,
}

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Correct the program.
    FixCode,
    /// The same call again, which goes on where it stands.
    CallAgain,
    /// Abort the transaction; what it did may be done in another one.
    Abort,
    /// Begin another transaction, for what this one should have done: it is aborted already, or
    /// will be before another begins.
    BeginAnew,
    /// Close this producer; another one with the same id may go on, where it was not fenced.
    NewProducer,
}

/// Why a transaction was not committed, or may not have been.
#[derive(Debug)]
pub enum CommitError {
    /// It was not: none of it counts.
    NotCommitted(TransactionError),
    /// No answer within `max.block.ms`. The producer goes on asking; whether it was is known once
    /// [`PendingCommit::resume`] says so.
    Unanswered(PendingCommit),
    /// Nobody will know from this producer: an answer was lost, and it may not ask again.
    Unknown(TransactionError),
}

/// Why it is not known yet that a transaction was aborted. None of it counts in any case.
#[derive(Debug)]
pub enum AbortError {
    /// The producer can do nothing more; the transaction is aborted by its time-out at the latest.
    Failed(TransactionError),
    /// No answer within `max.block.ms`. The producer goes on asking.
    Unanswered(PendingAbort),
}

impl TransactionError {
    pub(crate) fn new(kind: TransactionErrorKind, remedy: Remedy) -> Self {
        Self(Box::new(Inner {
            kind,
            remedy,
            failure: None,
        }))
    }

    pub(crate) fn misuse(misuse: Misuse) -> Self {
        Self::new(TransactionErrorKind::Misuse(misuse), Remedy::FixCode)
    }

    pub(crate) fn earlier() -> Self {
        Self::new(TransactionErrorKind::EarlierNotCommitted, Remedy::BeginAnew)
    }

    pub(crate) fn closed() -> Self {
        Self::new(TransactionErrorKind::Closed, Remedy::NewProducer)
    }

    pub(crate) fn timed_out(waited: Duration) -> Self {
        Self::new(TransactionErrorKind::TimedOut { waited }, Remedy::CallAgain)
    }

    /// What the engine denied; `abortable` is the remedy where the transaction can be aborted.
    pub(crate) fn denied(denied: Denied, abortable: Remedy) -> Self {
        match denied {
            Denied::Misuse(misuse) => Self::misuse(misuse),
            Denied::Abortable(failure) => {
                Self::failed(TransactionErrorKind::Failed, abortable, failure)
            }
            Denied::NotYet(failure) => {
                Self::failed(TransactionErrorKind::Refused, Remedy::CallAgain, failure)
            }
            Denied::Fatal(failure, _) => {
                let kind = match failure.kind {
                    FailureKind::Refused(
                        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED,
                    ) => TransactionErrorKind::Fenced,
                    FailureKind::Closed => TransactionErrorKind::Closed,
                    _ => TransactionErrorKind::Refused,
                };
                Self::failed(kind, Remedy::NewProducer, failure)
            }
        }
    }

    fn failed(kind: TransactionErrorKind, remedy: Remedy, failure: Failure) -> Self {
        let mut error = Self::new(kind, remedy);
        error.0.failure = Some(failure);
        error
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> TransactionErrorKind {
        self.0.kind
    }

    /// What is left to do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        self.0.remedy
    }

    /// What failed, and its circumstances, if it was not the call itself.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.0.failure.as_ref()
    }

    /// The error code with which a broker answered, if one did.
    #[must_use]
    pub fn broker_code(&self) -> Option<ErrorCode> {
        match self.failure()?.kind {
            FailureKind::Refused(code) | FailureKind::RefusedWithBatch(code) => Some(code),
            _ => None,
        }
    }
}

impl CommitError {
    /// What the engine denied of a commit.
    pub(crate) fn denied(denied: Denied) -> Self {
        let unknown = matches!(denied, Denied::Fatal(_, Certainty::Unknown));
        let error = TransactionError::denied(denied, Remedy::BeginAnew);
        match unknown {
            true => Self::Unknown(error),
            false => Self::NotCommitted(error),
        }
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            TransactionErrorKind::Misuse(misuse) => write!(f, "{misuse}")?,
            TransactionErrorKind::Failed => f.write_str("the transaction failed")?,
            TransactionErrorKind::Fenced => f.write_str(
                "fenced: a newer producer has the transactional id, or the transaction timed out",
            )?,
            TransactionErrorKind::Refused if self.0.remedy == Remedy::CallAgain => {
                f.write_str("refused")?;
            }
            TransactionErrorKind::Refused => f.write_str("refused for good")?,
            TransactionErrorKind::TimedOut { waited } => {
                write!(f, "no answer within {waited:?} (max.block.ms)")?;
            }
            TransactionErrorKind::Closed => f.write_str("the producer is closed")?,
            TransactionErrorKind::EarlierNotCommitted => {
                f.write_str("an earlier transaction of these lanes was not committed")?;
            }
        }
        if let Some(failure) = &self.0.failure {
            write!(f, ": {}", failure.words())?;
        }
        match self.0.remedy {
            Remedy::FixCode => Ok(()),
            Remedy::CallAgain => f.write_str("; call again"),
            Remedy::Abort => f.write_str("; abort it"),
            Remedy::BeginAnew => f.write_str("; begin another"),
            Remedy::NewProducer => f.write_str("; this producer can do nothing more"),
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTransactional => "the producer has no transactional.id",
            Self::NotInitialised => "init_transactions has not succeeded yet",
            Self::AlreadyInitialised => "init_transactions has succeeded before",
            Self::NotInTransaction => "no transaction is open",
            Self::AlreadyInTransaction => "a transaction is open",
            Self::Committing => "the transaction is being committed, which cannot be taken back",
            Self::Aborting => "the transaction is being aborted, which cannot be taken back",
        })
    }
}

/// The same words as [`fmt::Display`]: what a `main` that returns the error prints.
impl fmt::Debug for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionError({self})")
    }
}

impl std::error::Error for TransactionError {}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCommitted(error) => write!(f, "not committed: {error}"),
            Self::Unanswered(pending) => write!(
                f,
                "possibly committed: no answer within {:?} (max.block.ms); resume it",
                pending.waited()
            ),
            Self::Unknown(error) => write!(f, "possibly committed: {error}"),
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotCommitted(error) | Self::Unknown(error) => Some(error),
            Self::Unanswered(_) => None,
        }
    }
}

impl fmt::Display for AbortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "not aborted by this producer: {error}"),
            Self::Unanswered(pending) => write!(
                f,
                "not aborted yet: no answer within {:?} (max.block.ms); resume it",
                pending.waited()
            ),
        }
    }
}

impl std::error::Error for AbortError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Unanswered(_) => None,
        }
    }
}
