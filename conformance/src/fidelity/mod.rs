//! Recordings of what a real broker answered, and how they are held against another target.
//!
//! The cases judge by what they expect; a recording judges by everything that came back. Both run
//! the same cases: [`run::play`] keeps what went over their connections, [`exchange`] pairs
//! requests with answers, [`normal`] puts placeholders where a [`rule`] allows a difference, and
//! [`compare`] looks at every field.
//!
//! *Not here*: how messages become trees of fields (`wire/tree.rs`).

pub mod command;
pub mod compare;
pub mod exchange;
pub mod normal;
pub mod recording;
pub mod report;
pub mod rule;
pub mod run;
