//! Conformance suites for Kafka brokers and producers: the same cases against the mock cluster,
//! Apache Kafka in a container, or any address.
//!
//! # Map
//!
//! | Part | Holds |
//! |---|---|
//! | [`cases`], [`case`] | the registry of promises: data and one small function each |
//! | [`context`], [`lane`], [`log`], [`committed`], [`transactor`], [`client`] | what cases use |
//! | [`target`] | what is judged, and how it is started |
//! | [`runner`], [`verdict`], [`divergence`], [`probe`] | from a case's end to its verdict |
//! | [`fidelity`] | recordings of a real broker, and other targets held against them |
//! | [`report`], [`progress`], [`cli`], [`read`], [`copy`] | what people and programs see |
//! | [`wire`], [`io`] | the judge's own bytes and sockets |

pub mod case;
pub mod cases;
pub mod cli;
pub mod client;
pub mod committed;
pub mod context;
pub mod copy;
pub mod divergence;
pub mod fidelity;
pub mod filter;
pub mod io;
pub mod lane;
pub mod log;
pub mod probe;
pub mod progress;
pub mod read;
pub mod report;
pub mod runner;
pub mod target;
pub mod topic;
pub mod transactor;
pub mod verdict;
pub mod wire;
