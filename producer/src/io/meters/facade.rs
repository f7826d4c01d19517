//! The same measurements through the facade of the crate `metrics`, for whichever recorder the
//! program has installed.
//!
//! Names are Kafka's with underscores, behind `kafka_producer_`. What Kafka gives as average,
//! maximum and rate is one histogram here, in seconds or bytes. Each has the label `client_id`;
//! those of a topic `topic`, those of a node `node_id`, counting as
//! [`MetricScope::Node`](super::snapshot::MetricScope) does.
//!
//! *Invariants*
//! 1. A handle is asked of the recorder once, at its first use; recording costs no look-up by name.
//!
//! *Not here*: what is read by `Producer::metrics` (`catalogue.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Unit};

use super::catalogue::Gauges;
use super::snapshot::node_id;
use super::waits::Wait;
use crate::engine::report::{BatchEvent, BatchFacts, ConnectionEvent, NodeKey, Report, Stood};
use crate::types::TopicIndex;

/// A producer's handles.
pub(super) struct Facade {
    client_id: Arc<str>,
    whole: Whole,
    topics: BTreeMap<TopicIndex, Topic>,
    nodes: BTreeMap<NodeKey, Node>,
}

macro_rules! handles {
    (
        $(#[$doc:meta])*
        $scope:ident { $($field:ident: $kind:ident $name:literal $unit:ident $about:literal;)* }
    ) => {
        $(#[$doc])*
        struct $scope { $($field: $kind,)* }

        impl $scope {
            fn new(labels: &[Label]) -> Self {
                Self { $($field: $kind::asked(
                    concat!("kafka_producer_", $name), labels, (Unit::$unit, $about),
                ),)* }
            }
        }

        impl $scope {
            /// Name, unit and meaning of each.
            #[cfg(test)]
            const ROWS: &[(&str, &str, &str, &str)] = &[$(
                (concat!("kafka_producer_", $name), stringify!($kind), stringify!($unit), $about),
            )*];
        }
    };
}

handles! {
    /// Of the producer as a whole.
    Whole {
        records_per_request: Histogram "records_per_request" Count "records in a Produce request";
        connections_made: Counter "connection_creation_total" Count "connections made";
        connections_ended: Counter "connection_close_total" Count "connections ended";
        connections: Gauge "connection_count" Count "connections that stand";
        requests_in_flight: Gauge "requests_in_flight" Count "requests not answered yet";
        memory: Gauge "buffer_total_bytes" Bytes "`buffer.memory`";
        memory_free: Gauge "buffer_available_bytes" Bytes "what is free of `buffer.memory`";
        waiting: Gauge "waiting_threads" Count "sends that wait for memory";
        memory_exhausted: Counter "buffer_exhausted_total" Count
            "sends that waited for memory in vain";
        memory_waits: Histogram "bufferpool_wait_time_seconds" Seconds "waits of sends for memory";
        metadata_waits: Histogram "metadata_wait_time_seconds" Seconds
            "waits of sends for their topic";
        flushes: Histogram "flush_time_seconds" Seconds "flushes";
        txn_inits: Histogram "txn_init_time_seconds" Seconds "waits for `init_transactions`";
        txn_begins: Histogram "txn_begin_time_seconds" Seconds "waits for transactions to begin";
        txn_offsets: Histogram "txn_send_offsets_time_seconds" Seconds
            "waits for offsets of transactions";
        txn_commits: Histogram "txn_commit_time_seconds" Seconds "waits for commits";
        txn_aborts: Histogram "txn_abort_time_seconds" Seconds "waits for aborts";
        refused: Counter "record_refused_total" Count "records refused before they were accepted";
        epochs_bumped: Counter "epoch_bump_total" Count "partitions whose sequences started anew";
        filling: Histogram "batch_filling_time_seconds" Seconds
            "from a batch's opening until it took no more records";
        compressing: Histogram "batch_compressing_time_seconds" Seconds
            "from there until it was compressed";
        ready: Histogram "batch_ready_time_seconds" Seconds "from there to its first sending";
        answered: Histogram "batch_answer_time_seconds" Seconds
            "from a batch's last sending to its answer";
    }
}

handles! {
    /// Of one topic.
    Topic {
        sent: Counter "record_send_total" Count "records sent, again or not";
        bytes: Counter "byte_total" Bytes "batches sent, again or not";
        retried: Counter "record_retry_total" Count "records to be sent again";
        failed: Counter "record_error_total" Count "records that failed";
        unsettled: Counter "record_unknown_total" Count "failed records that may be written";
        batches: Histogram "batch_size_bytes" Bytes "batches sent";
        queued: Histogram "record_queue_time_seconds" Seconds
            "from a batch's opening to its sending";
    }
}

handles! {
    /// Of one node.
    Node {
        requests: Counter "request_total" Count "requests";
        responses: Counter "response_total" Count "answers";
        asked_bytes: Counter "outgoing_byte_total" Bytes "requests";
        answered_bytes: Counter "incoming_byte_total" Bytes "answers";
        asked: Histogram "request_size_bytes" Bytes "requests";
        latency: Histogram "request_latency_seconds" Seconds "from a Produce request to its answer";
        throttled: Histogram "produce_throttle_time_seconds" Seconds
            "for how long answers throttled";
    }
}

/// A handle that is asked of the recorder.
trait Asked {
    fn asked(name: &'static str, labels: &[Label], described: (Unit, &'static str)) -> Self;
}

macro_rules! asked {
    ($kind:ident, $make:ident, $describe:ident) => {
        impl Asked for $kind {
            fn asked(
                name: &'static str,
                labels: &[Label],
                (unit, about): (Unit, &'static str),
            ) -> Self {
                metrics::$describe!(name, unit, about);
                metrics::$make!(name, labels.iter())
            }
        }
    };
}

asked!(Counter, counter, describe_counter);
asked!(Gauge, gauge, describe_gauge);
asked!(Histogram, histogram, describe_histogram);

impl Facade {
    pub(super) fn new(client_id: Arc<str>) -> Self {
        let labels = [label("client_id", &client_id)];
        Self {
            whole: Whole::new(&labels),
            topics: BTreeMap::new(),
            nodes: BTreeMap::new(),
            client_id,
        }
    }

    pub(super) fn record(
        &mut self,
        report: &Report,
        name_of: &impl Fn(TopicIndex) -> Option<Arc<str>>,
    ) {
        match report {
            Report::Connection { event, .. } => self.whole.on_connection(event),
            Report::Asked {
                node,
                bytes,
                records,
                ..
            } => {
                if *records > 0 {
                    self.whole.records_per_request.record(f64::from(*records));
                }
                let node = self.node(*node);
                node.requests.increment(1);
                node.asked_bytes.increment(wide(*bytes));
                node.asked.record(super::number(*bytes));
            }
            Report::Answered { node, bytes, .. } => {
                let node = self.node(*node);
                node.responses.increment(1);
                node.answered_bytes.increment(wide(*bytes));
            }
            Report::Produced {
                node,
                after,
                throttle,
            } => {
                let node = self.node(*node);
                node.latency.record(after.as_secs_f64());
                node.throttled.record(throttle.as_secs_f64());
            }
            Report::EpochBumped { .. } => self.whole.epochs_bumped.increment(1),
            Report::Batch { batch, event } => {
                self.whole.on_batch(batch, event);
                self.topic(batch.partition.topic, name_of)
                    .on_batch(batch, event);
            }
            Report::MetadataLearnt { .. }
            | Report::Throttled { .. }
            | Report::ProducerIdGiven { .. }
            | Report::ProducerIdRefused { .. }
            | Report::OutcomeAsked { .. } => {}
        }
    }

    pub(super) fn on_refused(&self) {
        self.whole.refused.increment(1);
    }

    pub(super) fn on_exhausted(&self) {
        self.whole.memory_exhausted.increment(1);
    }

    pub(super) fn on_waited(&self, wait: Wait, waited: Duration) {
        let waits = match wait {
            Wait::Memory => &self.whole.memory_waits,
            Wait::Metadata => &self.whole.metadata_waits,
            Wait::Flush => &self.whole.flushes,
            Wait::TxnInit => &self.whole.txn_inits,
            Wait::TxnBegin => &self.whole.txn_begins,
            Wait::TxnSendOffsets => &self.whole.txn_offsets,
            Wait::TxnCommit => &self.whole.txn_commits,
            Wait::TxnAbort => &self.whole.txn_aborts,
        };
        waits.record(waited.as_secs_f64());
    }

    pub(super) fn stand(&self, gauges: Gauges, requests_in_flight: usize) {
        let whole = &self.whole;
        whole.memory.set(super::number(gauges.memory_bytes));
        whole
            .memory_free
            .set(super::number(gauges.memory_bytes_free));
        whole.waiting.set(super::number(gauges.memory_waiting));
        let in_flight = super::number(requests_in_flight);
        whole.requests_in_flight.set(in_flight);
    }

    fn node(&mut self, node: NodeKey) -> &Node {
        let client_id = &self.client_id;
        self.nodes.entry(node).or_insert_with(|| {
            let id = node_id(node).to_string();
            Node::new(&[label("client_id", client_id), Label::new("node_id", id)])
        })
    }

    fn topic(
        &mut self,
        index: TopicIndex,
        name_of: &impl Fn(TopicIndex) -> Option<Arc<str>>,
    ) -> &Topic {
        let client_id = &self.client_id;
        self.topics.entry(index).or_insert_with(|| {
            let name = name_of(index).unwrap_or_default();
            Topic::new(&[label("client_id", client_id), label("topic", &name)])
        })
    }
}

impl Whole {
    fn on_connection(&self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Made => {
                self.connections_made.increment(1);
                self.connections.increment(1.0);
            }
            ConnectionEvent::Lost {
                stood: Stood::Once, ..
            }
            | ConnectionEvent::Retired => {
                self.connections_ended.increment(1);
                self.connections.decrement(1.0);
            }
            ConnectionEvent::Lost {
                stood: Stood::Never,
                ..
            }
            | ConnectionEvent::Ready => {}
        }
    }
}

impl Whole {
    fn on_batch(&self, batch: &BatchFacts, event: &BatchEvent) {
        match event {
            BatchEvent::Sent { before, .. } if batch.attempts == 1 => {
                self.filling.record(before.filling.as_secs_f64());
                if let Some(compressing) = before.compressing {
                    self.compressing.record(compressing.as_secs_f64());
                }
                self.ready.record(before.ready.as_secs_f64());
            }
            BatchEvent::Written { after: Some(after) } => {
                self.answered.record(after.as_secs_f64());
            }
            _ => {}
        }
    }
}

impl Topic {
    fn on_batch(&self, batch: &BatchFacts, event: &BatchEvent) {
        let records = u64::from(batch.records);
        match event {
            BatchEvent::Sent { waited, .. } => {
                self.sent.increment(records);
                self.bytes.increment(wide(batch.bytes));
                self.batches.record(super::number(batch.bytes));
                if batch.attempts == 1 {
                    self.queued.record(waited.as_secs_f64());
                }
            }
            BatchEvent::Written { .. } | BatchEvent::Split => {}
            BatchEvent::Retried { .. } => self.retried.increment(records),
            BatchEvent::Failed { .. } => self.failed.increment(records),
            BatchEvent::Unsettled { .. } => {
                self.failed.increment(records);
                self.unsettled.increment(records);
            }
        }
    }
}

impl std::fmt::Debug for Facade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facade").finish_non_exhaustive()
    }
}

fn label(key: &'static str, value: &Arc<str>) -> Label {
    Label::new(key, Arc::clone(value))
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PARITY.md` lists what is told. Its table is made by this test: after a change, take the one
    /// that a failure prints.
    #[test]
    fn the_table_of_what_is_told_is_true() {
        let scopes = [
            (Whole::ROWS, "`client_id`"),
            (Topic::ROWS, "`client_id`, `topic`"),
            (Node::ROWS, "`client_id`, `node_id`"),
        ];
        let mut table = String::new();
        for (rows, labels) in scopes {
            for (name, kind, unit, about) in rows {
                let (kind, unit) = (kind.to_lowercase(), unit.to_lowercase());
                table += &format!("| `{name}` | {kind}, {unit} | {labels} | {about} |\n");
            }
        }
        let parity = include_str!("../../../PARITY.md");
        assert!(parity.contains(&table), "the table must be:\n{table}");
    }
}
