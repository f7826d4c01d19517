//! Why bytes could not be read.
//!
//! *Invariants*
//! 1. Each error names the field that could not be read, so that a captured frame can be checked.
//!
//! *Not here*: what a broken answer means for its connection (`engine/`).

use thiserror::Error;

/// An answer that is not what its API and version promise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("frame ends inside {field}: {needed} bytes needed, {left} left")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
        /// Bytes the field needs.
        needed: usize,
        /// Bytes the frame has left.
        left: usize,
    },
    /// A length or count is negative, or larger than the frame can hold.
    #[error("{field} has the impossible length {length}")]
    ImpossibleLength {
        /// The field that was being read.
        field: &'static str,
        /// The length or count that the frame claims.
        length: i64,
    },
    /// A varint does not end within its width.
    #[error("{field} is a varint without an end")]
    EndlessVarint {
        /// The field that was being read.
        field: &'static str,
    },
    /// A text is not UTF-8.
    #[error("{field} is not utf-8")]
    NotUtf8 {
        /// The field that was being read.
        field: &'static str,
    },
    /// A tagged field is longer or shorter than its own length says.
    #[error("tagged field {tag} does not end where its length says")]
    TagLength {
        /// The field's tag.
        tag: u32,
    },
    /// A value that the field cannot have.
    #[error("{field} has the impossible value {value}")]
    ImpossibleValue {
        /// The field that was being read.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// The message library refused what passed our own check.
    #[error("{message} could not be read: {reason}")]
    Refused {
        /// The message that was being read.
        message: &'static str,
        /// The library's words.
        reason: String,
    },
}

/// A question that could not be written: a bug of this crate, since it fixes every field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} could not be written: {reason}")]
pub struct EncodeError {
    /// The message that was being written.
    pub message: &'static str,
    /// The library's words.
    pub reason: String,
}
