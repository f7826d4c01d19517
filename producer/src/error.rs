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

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({})", self.0)
    }
}
