//! Conformance suites for Kafka brokers and producers: the same cases against the mock cluster,
//! Apache Kafka in a container, or any address.

pub mod target;
pub mod wire;
