//! Conformance suites for Kafka brokers and producers: the same cases against the mock cluster,
//! Apache Kafka in a container, or any address.

pub mod case;
pub mod cases;
pub mod cli;
pub mod client;
pub mod context;
pub mod divergence;
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
pub mod verdict;
pub mod wire;
