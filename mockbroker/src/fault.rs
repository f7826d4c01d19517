//! Faults by rule: which requests, and what happens to them instead.
//!
//! A [`Rule`] names requests (API, version, broker, connection, topic, partition, producer id,
//! transactional id, the nth of them, how many, which share of them) and a [`Verdict`]. [`Rules`]
//! is the table of those installed; the cluster asks it once per request.
//!
//! | File | Holds |
//! |---|---|
//! | `rule.rs` | which requests, and what of them |
//! | `verdict.rs` | what happens |
//! | `form.rs` | how a rule is written in YAML and JSON |
//! | `request.rs` | what a rule sees of a request, and shows of it |
//! | `table.rs` | the rules that are installed: their counts, their judgement |
//!
//! *Not here*: carrying a verdict out (the handlers), and the guard that uninstalls (`guard.rs`).

#[cfg(test)]
pub(crate) mod drawn;
mod form;
mod request;
mod rule;
mod table;
mod verdict;

pub use request::{RequestFacts, SeenRequest, Target};
pub use rule::{Rule, Scope};
pub(crate) use table::RULES_MAX;
pub use table::{Installed, Judgement, RuleId, Rules};
pub use verdict::Verdict;
