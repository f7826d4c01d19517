//! The harness of the promises: worlds in which both engines run, links between them, the oracle
//! that judges what happened, and the reader of the source tree for `tidy`.
//!
//! | Module | Holds |
//! |---|---|
//! | [`history`] | what happened in a run |
//! | [`oracle`] | what must hold in every history |
//! | [`tree`] | the tracked files, parsed, and the rules they keep |
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the harness runs in tests alone: a broken premise ends the test with its message"
)]

pub mod history;
pub mod oracle;
pub mod tree;
