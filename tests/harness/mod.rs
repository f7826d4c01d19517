//! The harness of the promises: worlds in which both engines run, links between them, the oracle
//! that judges what happened, and the reader of the source tree for `tidy`.
//!
//! | Module | Holds |
//! |---|---|
//! | [`setting`] | what a world consists of |
//! | [`world`], [`client`], [`driving`], [`link`] | level 1: both engines, no runtime, virtual time |
//! | [`worker`] | processes that work in transactions, copy, and move money |
//! | [`scenario`], [`draw`], [`faults`] | a world told step by step, or drawn from a seed |
//! | [`shell`], [`transactional`] | level 2: the whole producer on a paused clock; its transactions |
//! | [`defect`] | mistakes between the engines, to try the oracle |
//! | [`capture`], [`answer`], [`tap`], [`trace`] | what passed on the wire, what stands in the logs, what happened |
//! | [`history`], [`oracle`] | a run as a value, and what must hold in it |
//! | [`tree`] | the tracked files, parsed, and the rules they keep |
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the harness runs in tests alone: a broken premise ends the test with its message"
)]

mod acting;
pub mod answer;
mod answers;
pub mod capture;
pub mod client;
pub mod defect;
pub mod draw;
mod draw_transactions;
pub mod driving;
mod epochs;
pub mod faults;
pub mod history;
mod jobs;
pub mod link;
pub mod misfortune;
pub mod oracle;
mod readers;
pub mod scenario;
pub mod setting;
pub mod shell;
pub mod tap;
pub mod trace;
pub mod transactional;
pub mod traps;
pub mod tree;
mod unraised;
pub mod worker;
mod working;
pub mod world;

/// The README's examples, compiled; the one that needs no broker is run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The guide's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../producer/GUARANTEES.md")]
struct Guarantees;
