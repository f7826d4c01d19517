//! Conformance suites for Kafka brokers and producers.
