//! Each metric by Kafka's name, with what it says and how it is read.
//!
//! *Invariants*
//! 1. A name that Kafka's producer has means here what it means there; the few that Kafka lacks say
//!    so.
//!
//! *Source*: `SenderMetricsRegistry`, `Selector.SelectorMetrics`, `BufferPool`, `RecordAccumulator`
//! and `KafkaProducerMetrics` of Kafka 4.3.1.
//!
//! *Not here*: what is recorded when (`mod.rs`).

use super::meter::{Meter, Windows};
use super::{Node, Topic, Whole, number};
use crate::engine::time::Instant;

/// One metric.
pub(super) struct Definition<T> {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) read: fn(&Reading<'_, T>) -> f64,
}

/// What metrics are read from.
pub(super) struct Reading<'a, T> {
    pub(super) of: &'a T,
    pub(super) now: Instant,
    pub(super) windows: Windows,
    pub(super) gauges: Gauges,
    pub(super) requests_in_flight: usize,
}

/// What is not recorded, but stands somewhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) memory_bytes: usize,
    pub(crate) memory_bytes_free: usize,
    pub(crate) memory_waiting: usize,
}

impl<T> Reading<'_, T> {
    fn avg(&self, meter: &Meter) -> f64 {
        meter.avg(self.windows, self.now)
    }

    fn max(&self, meter: &Meter) -> f64 {
        meter.max(self.windows, self.now)
    }

    fn rate(&self, meter: &Meter) -> f64 {
        meter.rate(self.windows, self.now)
    }

    fn count_rate(&self, meter: &Meter) -> f64 {
        meter.count_rate(self.windows, self.now)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric bears it beyond 2^53")]
fn count(meter: &Meter) -> f64 {
    meter.count() as f64
}

macro_rules! metrics {
    ($($name:literal $about:literal $read:expr;)*) => {
        &[$(Definition { name: $name, about: $about, read: $read }),*]
    };
}

/// Of the producer as a whole: group `producer-metrics`.
pub(super) const WHOLE: &[Definition<Whole>] = metrics! {
    "batch-size-avg" "mean size of a batch sent, bytes"
        |r| r.avg(&r.of.batches);
    "batch-size-max" "largest size of a batch sent, bytes"
        |r| r.max(&r.of.batches);
    "batch-split-rate" "batches split because they were too large, per second"
        |r| r.rate(&r.of.split);
    "batch-split-total" "batches split because they were too large"
        |r| r.of.split.total();
    "buffer-available-bytes" "what is free of `buffer.memory`, bytes"
        |r| number(r.gauges.memory_bytes_free);
    "buffer-exhausted-rate" "sends that waited for memory in vain, per second"
        |r| r.rate(&r.of.memory_exhausted);
    "buffer-exhausted-total" "sends that waited for memory in vain"
        |r| r.of.memory_exhausted.total();
    "buffer-total-bytes" "`buffer.memory`, bytes"
        |r| number(r.gauges.memory_bytes);
    "bufferpool-wait-ratio" "seconds that sends waited for memory, per second"
        |r| r.rate(&r.of.memory_waits) / 1e9;
    "bufferpool-wait-time-ns-total" "time that sends waited for memory, ns"
        |r| r.of.memory_waits.total();
    "compression-rate-avg" "mean of what is left of a batch's bytes when it is compressed; 1 is all"
        |r| r.avg(&r.of.compressed);
    "connection-close-rate" "connections ended by either side, per second"
        |r| r.rate(&r.of.connections_ended);
    "connection-close-total" "connections ended by either side"
        |r| r.of.connections_ended.total();
    "connection-count" "connections that stand"
        |r| r.of.connections_made.total() - r.of.connections_ended.total();
    "connection-creation-rate" "connections made, per second"
        |r| r.rate(&r.of.connections_made);
    "connection-creation-total" "connections made"
        |r| r.of.connections_made.total();
    "epoch-bump-total" "partitions whose sequences started anew (not of Kafka's)"
        |r| r.of.epochs_bumped.total();
    "flush-time-ns-total" "time that flushing took, ns"
        |r| r.of.flushes.total();
    "incoming-byte-rate" "bytes of answers, per second"
        |r| r.rate(&r.of.answered);
    "incoming-byte-total" "bytes of answers"
        |r| r.of.answered.total();
    "metadata-age" "time since metadata was last learnt, s"
        |r| r.of.metadata_learnt_at.map_or(f64::NAN, |at| r.now.since(at).as_secs_f64());
    "metadata-wait-time-ns-total" "time that sends waited to know their topic, ns"
        |r| r.of.metadata_waits.total();
    "network-io-rate" "requests and answers, per second"
        |r| r.count_rate(&r.of.asked) + r.count_rate(&r.of.answered);
    "network-io-total" "requests and answers"
        |r| count(&r.of.asked) + count(&r.of.answered);
    "outgoing-byte-rate" "bytes of requests, per second"
        |r| r.rate(&r.of.asked);
    "outgoing-byte-total" "bytes of requests"
        |r| r.of.asked.total();
    "produce-throttle-time-avg" "mean time for which an answer throttled, ms"
        |r| r.avg(&r.of.throttled);
    "produce-throttle-time-max" "longest time for which an answer throttled, ms"
        |r| r.max(&r.of.throttled);
    "record-error-rate" "records refused or failed, per second"
        |r| r.rate(&r.of.failed);
    "record-error-total" "records refused or failed"
        |r| r.of.failed.total();
    "record-queue-time-avg" "mean time from a batch's opening to its sending, ms"
        |r| r.avg(&r.of.queued);
    "record-queue-time-max" "longest time from a batch's opening to its sending, ms"
        |r| r.max(&r.of.queued);
    "record-retry-rate" "records to be sent again, per second"
        |r| r.rate(&r.of.retried);
    "record-retry-total" "records to be sent again"
        |r| r.of.retried.total();
    "record-send-rate" "records sent, again or not, per second"
        |r| r.rate(&r.of.sent);
    "record-send-total" "records sent, again or not"
        |r| r.of.sent.total();
    "record-size-avg" "mean size of a record, plain, with its share of the header, bytes"
        |r| r.avg(&r.of.record_bytes);
    "record-unknown-total" "failed records that may be written (not of Kafka's)"
        |r| r.of.unsettled.total();
    "records-per-request-avg" "mean count of records in a Produce request"
        |r| r.avg(&r.of.sent);
    "request-latency-avg" "mean time from a Produce request to its answer, ms"
        |r| r.avg(&r.of.latency);
    "request-latency-max" "longest time from a Produce request to its answer, ms"
        |r| r.max(&r.of.latency);
    "request-rate" "requests, per second"
        |r| r.count_rate(&r.of.asked);
    "request-size-avg" "mean size of a request, bytes"
        |r| r.avg(&r.of.asked);
    "request-size-max" "largest size of a request, bytes"
        |r| r.max(&r.of.asked);
    "request-total" "requests"
        |r| count(&r.of.asked);
    "requests-in-flight" "requests not answered yet"
        |r| number(r.requests_in_flight);
    "response-rate" "answers, per second"
        |r| r.count_rate(&r.of.answered);
    "response-total" "answers"
        |r| count(&r.of.answered);
    "txn-abort-time-ns-total" "time that aborting took, ns"
        |r| r.of.txn_aborts.total();
    "txn-begin-time-ns-total" "time that beginning took, ns"
        |r| r.of.txn_begins.total();
    "txn-commit-time-ns-total" "time that committing took, ns"
        |r| r.of.txn_commits.total();
    "txn-init-time-ns-total" "time that `init_transactions` took, ns"
        |r| r.of.txn_inits.total();
    "txn-send-offsets-time-ns-total" "time that committing offsets took, ns"
        |r| r.of.txn_offsets.total();
    "waiting-threads" "sends that wait for memory"
        |r| number(r.gauges.memory_waiting);
};

/// Of one topic: group `producer-topic-metrics`.
pub(super) const TOPIC: &[Definition<Topic>] = metrics! {
    "byte-rate" "bytes of batches sent, again or not, per second"
        |r| r.rate(&r.of.batches);
    "byte-total" "bytes of batches sent, again or not"
        |r| r.of.batches.total();
    "compression-rate" "mean of what is left of a batch's bytes when it is compressed; 1 is all"
        |r| r.avg(&r.of.compressed);
    "record-error-rate" "records that failed, per second"
        |r| r.rate(&r.of.failed);
    "record-error-total" "records that failed"
        |r| r.of.failed.total();
    "record-retry-rate" "records to be sent again, per second"
        |r| r.rate(&r.of.retried);
    "record-retry-total" "records to be sent again"
        |r| r.of.retried.total();
    "record-send-rate" "records sent, again or not, per second"
        |r| r.rate(&r.of.sent);
    "record-send-total" "records sent, again or not"
        |r| r.of.sent.total();
};

/// Of one node: group `producer-node-metrics`.
pub(super) const NODE: &[Definition<Node>] = metrics! {
    "incoming-byte-rate" "bytes of answers, per second"
        |r| r.rate(&r.of.answered);
    "incoming-byte-total" "bytes of answers"
        |r| r.of.answered.total();
    "outgoing-byte-rate" "bytes of requests, per second"
        |r| r.rate(&r.of.asked);
    "outgoing-byte-total" "bytes of requests"
        |r| r.of.asked.total();
    "request-latency-avg" "mean time from a Produce request to its answer, ms"
        |r| r.avg(&r.of.latency);
    "request-latency-max" "longest time from a Produce request to its answer, ms"
        |r| r.max(&r.of.latency);
    "request-rate" "requests, per second"
        |r| r.count_rate(&r.of.asked);
    "request-size-avg" "mean size of a request, bytes"
        |r| r.avg(&r.of.asked);
    "request-size-max" "largest size of a request, bytes"
        |r| r.max(&r.of.asked);
    "request-total" "requests"
        |r| count(&r.of.asked);
    "response-rate" "answers, per second"
        |r| r.count_rate(&r.of.answered);
    "response-total" "answers"
        |r| count(&r.of.answered);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Group, name and tags of every metric of Kafka's producer, as its
    /// `kafka-producer-perf-test --print-metrics` shows them.
    const KAFKA: &str = include_str!("kafka-4.3.1.tsv");

    /// Why one of Kafka's is left out.
    fn why_not(group: &str, name: &str) -> &'static str {
        match name {
            _ if group == "app-info" => "the version is fixed when a program is built",
            "count" => "`Metrics::iter` can be counted",
            "txn-prepare-time-ns-total" => "no public API of Kafka's prepares a transaction",
            _ if name.contains("authentication") => "connections are not authenticated",
            _ if name.starts_with("io-") || name.starts_with("select-") => {
                "tokio polls the sockets, for all of a program's tasks; tokio counts that"
            }
            "record-size-max" => "nothing is measured per record",
            _ => panic!("{group} {name}: neither here nor explained"),
        }
    }

    fn ours() -> Vec<(&'static str, &'static str, &'static str)> {
        let whole = WHOLE.iter().map(|m| ("producer-metrics", m.name, m.about));
        let topic = TOPIC
            .iter()
            .map(|m| ("producer-topic-metrics", m.name, m.about));
        let node = NODE
            .iter()
            .map(|m| ("producer-node-metrics", m.name, m.about));
        whole.chain(topic).chain(node).collect()
    }

    fn kafkas() -> BTreeSet<(&'static str, &'static str)> {
        let columns = KAFKA
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        columns.map(|columns| (columns[0], columns[1])).collect()
    }

    /// `PARITY.md` says of each metric what is measured. Its table is made by this test: after a
    /// change, take the one that a failure prints.
    #[test]
    fn the_table_of_metrics_is_true() {
        let mut rows = BTreeSet::new();
        for (group, name, about) in ours() {
            rows.insert((group, name, format!("yes: {about}")));
        }
        for (group, name) in kafkas() {
            if !ours().iter().any(|one| (one.0, one.1) == (group, name)) {
                rows.insert((group, name, format!("no: {}", why_not(group, name))));
            }
        }
        let line = |(group, name, here)| format!("| `{group}` | `{name}` | {here} |\n");
        let table: String = rows.into_iter().map(line).collect();
        let parity = include_str!("../../../PARITY.md");
        assert!(parity.contains(&table), "the table must be:\n{table}");
    }

    #[test]
    fn what_kafka_lacks_says_so() {
        for (group, name, about) in ours() {
            let lacked = !kafkas().contains(&(group, name));
            assert_eq!(lacked, about.contains("not of Kafka's"), "{group} {name}");
        }
    }
}
