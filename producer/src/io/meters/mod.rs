//! What is measured: counted per batch, per request and per connection, read at any time.
//!
//! | File | Holds |
//! |---|---|
//! | `mod` | the meters, and what each report does to them |
//! | `meter` | one quantity: totals, and samples that look back |
//! | `stages` | how long batches stay in each stage of their way |
//! | `waits` | what senders wait for |
//! | `catalogue` | each metric by Kafka's name, and how it is read |
//! | `snapshot` | all of them at one time, for the user |
//! | `facade` | the same through the crate `metrics`, with the feature of that name |
//!
//! *Invariants*
//! 1. Nothing is recorded per record that was accepted.
//! 2. What a batch brought is recorded before anyone hears of its end.
//! 3. Topics and nodes have meters from their first report on, and keep them.
//!
//! *Source*: Kafka's `SenderMetrics`, `Selector.SelectorMetrics`, `BufferPool`,
//! `KafkaProducerMetrics`.
//!
//! *Not here*: what happens (`engine/report.rs`); logs (`io/narration.rs`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::report::{BatchEvent, BatchFacts, ConnectionEvent, NodeKey, Report, Stood};
use crate::engine::time::Instant;
use crate::types::TopicIndex;
use crate::wire::Api;

pub(crate) mod catalogue;
#[cfg(feature = "metrics")]
pub(crate) mod facade;
pub(crate) mod meter;
pub(crate) mod snapshot;
pub(crate) mod stages;
pub(crate) mod waits;

use meter::{Meter, Windows};
use stages::Stages;
use waits::Wait;

/// A producer's meters. The driver records what the engine reports; senders record their waits.
#[derive(Debug)]
pub(crate) struct Meters {
    windows: Windows,
    requests_in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    whole: Whole,
    /// By number.
    topics: Vec<Topic>,
    nodes: BTreeMap<NodeKey, Node>,
    stages: Stages,
    #[cfg(feature = "metrics")]
    facade: facade::Facade,
}

/// What is measured of the producer as a whole.
#[derive(Debug, Default)]
struct Whole {
    connections_made: Meter,
    connections_ended: Meter,
    /// In bytes.
    asked: Meter,
    /// In bytes.
    answered: Meter,
    /// Records per request.
    sent: Meter,
    /// In bytes.
    batches: Meter,
    /// What is left of a batch's bytes when it is compressed.
    compressed: Meter,
    /// Bytes of a record, averaged over its batch.
    record_bytes: Meter,
    /// In milliseconds.
    queued: Meter,
    /// In milliseconds.
    latency: Meter,
    /// In milliseconds.
    throttled: Meter,
    retried: Meter,
    /// Batches.
    split: Meter,
    failed: Meter,
    unsettled: Meter,
    epochs_bumped: Meter,
    /// In nanoseconds.
    memory_waits: Meter,
    memory_exhausted: Meter,
    /// In nanoseconds.
    metadata_waits: Meter,
    /// In nanoseconds.
    flushes: Meter,
    /// In nanoseconds, as those below.
    txn_inits: Meter,
    txn_begins: Meter,
    txn_offsets: Meter,
    txn_commits: Meter,
    txn_aborts: Meter,
    metadata_learnt_at: Option<Instant>,
}

/// What is measured of a topic.
#[derive(Debug, Default)]
struct Topic {
    name: Option<Arc<str>>,
    sent: Meter,
    /// In bytes.
    batches: Meter,
    /// What is left of a batch's bytes when it is compressed.
    compressed: Meter,
    retried: Meter,
    failed: Meter,
}

/// What is measured of a node.
#[derive(Debug, Default)]
struct Node {
    /// In bytes.
    asked: Meter,
    /// In bytes.
    answered: Meter,
    /// In milliseconds.
    latency: Meter,
}

impl Meters {
    /// Meters that look back like this, of the producer of this `client.id`.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "a label"))]
    pub(crate) fn new(windows: Windows, client_id: &Arc<str>) -> Self {
        Self {
            windows,
            requests_in_flight: AtomicUsize::new(0),
            state: Mutex::new(State {
                whole: Whole::default(),
                topics: Vec::new(),
                nodes: BTreeMap::new(),
                stages: Stages::default(),
                #[cfg(feature = "metrics")]
                facade: facade::Facade::new(Arc::clone(client_id)),
            }),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::new(Windows::DEFAULT, &Arc::from("test"))
    }

    /// Records what happened by `now`; `name_of` names topics at their first report.
    pub(crate) fn record(
        &self,
        reports: &[Report],
        name_of: impl Fn(TopicIndex) -> Option<Arc<str>>,
        now: Instant,
    ) {
        let mut state = self.lock();
        for report in reports {
            state.record(report, &name_of, (self.windows, now));
            #[cfg(feature = "metrics")]
            state.facade.record(report, &name_of);
        }
    }

    pub(crate) fn set_requests_in_flight(&self, count: usize) {
        self.requests_in_flight.store(count, Ordering::Relaxed);
    }

    /// Tells the facade what stands.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish(&self, gauges: catalogue::Gauges) {
        let in_flight = self.requests_in_flight.load(Ordering::Relaxed);
        self.lock().facade.stand(gauges, in_flight);
    }

    /// A record was refused before it was accepted.
    pub(crate) fn on_refused(&self, now: Instant) {
        let mut state = self.lock();
        state.whole.failed.record(1.0, self.windows, now);
        #[cfg(feature = "metrics")]
        state.facade.on_refused();
    }

    /// Somebody waited for memory in vain.
    pub(crate) fn on_exhausted(&self, now: Instant) {
        let mut state = self.lock();
        state.whole.memory_exhausted.record(1.0, self.windows, now);
        #[cfg(feature = "metrics")]
        state.facade.on_exhausted();
    }

    /// Somebody waited.
    fn on_waited(&self, wait: Wait, waited: Duration, now: Instant) {
        let mut state = self.lock();
        let waits = match wait {
            Wait::Memory => &mut state.whole.memory_waits,
            Wait::Metadata => &mut state.whole.metadata_waits,
            Wait::Flush => &mut state.whole.flushes,
            Wait::TxnInit => &mut state.whole.txn_inits,
            Wait::TxnBegin => &mut state.whole.txn_begins,
            Wait::TxnSendOffsets => &mut state.whole.txn_offsets,
            Wait::TxnCommit => &mut state.whole.txn_commits,
            Wait::TxnAbort => &mut state.whole.txn_aborts,
        };
        waits.record(nanos(waited), self.windows, now);
        #[cfg(feature = "metrics")]
        state.facade.on_waited(wait, waited);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A meter is whole after each record, whoever panics between two.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(
        &mut self,
        report: &Report,
        name_of: &impl Fn(TopicIndex) -> Option<Arc<str>>,
        (windows, now): (Windows, Instant),
    ) {
        match report {
            Report::Connection { event, .. } => self.whole.on_connection(event, windows, now),
            Report::Asked {
                node,
                bytes,
                api,
                records,
                ..
            } => {
                let bytes = number(*bytes);
                self.whole.asked.record(bytes, windows, now);
                self.node(*node).asked.record(bytes, windows, now);
                if *api == Api::Produce {
                    let records = f64::from(*records);
                    self.whole.sent.record(records, windows, now);
                }
            }
            Report::Answered { node, bytes, .. } => {
                let bytes = number(*bytes);
                self.whole.answered.record(bytes, windows, now);
                self.node(*node).answered.record(bytes, windows, now);
            }
            Report::Produced {
                node,
                after,
                throttle,
            } => {
                let after = millis(*after);
                self.whole.latency.record(after, windows, now);
                self.whole.throttled.record(millis(*throttle), windows, now);
                self.node(*node).latency.record(after, windows, now);
            }
            Report::MetadataLearnt { .. } => self.whole.metadata_learnt_at = Some(now),
            Report::EpochBumped { .. } => self.whole.epochs_bumped.record(1.0, windows, now),
            Report::Batch { batch, event } => {
                self.on_batch(batch, event, (windows, now));
                let topic = self.topic(batch.partition.topic, name_of);
                topic.on_batch(batch, event, (windows, now));
            }
            Report::Throttled { .. }
            | Report::ProducerIdGiven { .. }
            | Report::ProducerIdRefused { .. }
            | Report::OutcomeAsked { .. } => {}
        }
    }

    fn on_batch(
        &mut self,
        batch: &BatchFacts,
        event: &BatchEvent,
        (windows, now): (Windows, Instant),
    ) {
        let records = f64::from(batch.records);
        let whole = &mut self.whole;
        match event {
            BatchEvent::Sent { waited, before } => {
                let bytes = number(batch.bytes);
                whole.batches.record(bytes, windows, now);
                whole.compressed.record(ratio(batch), windows, now);
                let plain = number(batch.plain_bytes);
                whole.record_bytes.record(plain / records, windows, now);
                whole.queued.record(millis(*waited), windows, now);
                if batch.attempts == 1 {
                    self.stages.on_sent(*waited, before);
                }
            }
            BatchEvent::Written { after } => {
                if let Some(after) = after {
                    self.stages.on_answered(*after);
                }
            }
            BatchEvent::Retried { .. } => whole.retried.record(records, windows, now),
            BatchEvent::Split => whole.split.record(1.0, windows, now),
            BatchEvent::Failed { .. } => whole.failed.record(records, windows, now),
            BatchEvent::Unsettled { .. } => {
                whole.failed.record(records, windows, now);
                whole.unsettled.record(records, windows, now);
            }
        }
    }

    fn node(&mut self, node: NodeKey) -> &mut Node {
        self.nodes.entry(node).or_default()
    }

    fn topic(
        &mut self,
        index: TopicIndex,
        name_of: &impl Fn(TopicIndex) -> Option<Arc<str>>,
    ) -> &mut Topic {
        let place = usize::try_from(index.0).unwrap_or(usize::MAX);
        if self.topics.len() <= place {
            self.topics.resize_with(place + 1, Topic::default);
        }
        let topic = &mut self.topics[place];
        if topic.name.is_none() {
            topic.name = name_of(index);
        }
        topic
    }
}

impl Whole {
    fn on_connection(&mut self, event: &ConnectionEvent, windows: Windows, now: Instant) {
        match event {
            ConnectionEvent::Made => self.connections_made.record(1.0, windows, now),
            ConnectionEvent::Lost {
                stood: Stood::Once, ..
            }
            | ConnectionEvent::Retired => self.connections_ended.record(1.0, windows, now),
            ConnectionEvent::Lost {
                stood: Stood::Never,
                ..
            }
            | ConnectionEvent::Ready => {}
        }
    }
}

impl Topic {
    fn on_batch(
        &mut self,
        batch: &BatchFacts,
        event: &BatchEvent,
        (windows, now): (Windows, Instant),
    ) {
        let records = f64::from(batch.records);
        match event {
            BatchEvent::Sent { .. } => {
                self.sent.record(records, windows, now);
                self.batches.record(number(batch.bytes), windows, now);
                self.compressed.record(ratio(batch), windows, now);
            }
            BatchEvent::Written { .. } | BatchEvent::Split => {}
            BatchEvent::Retried { .. } => self.retried.record(records, windows, now),
            BatchEvent::Failed { .. } | BatchEvent::Unsettled { .. } => {
                self.failed.record(records, windows, now);
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes beyond 2^53 bytes do not occur, and a metric would bear it"
)]
fn number(bytes: usize) -> f64 {
    bytes as f64
}

fn ratio(batch: &BatchFacts) -> f64 {
    number(batch.bytes) / number(batch.plain_bytes)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::report::BeforeSent;
    use crate::types::TopicPartition;

    #[test]
    fn what_compression_leaves_of_a_batch_is_measured() {
        let meters = Meters::for_test();
        let partition = TopicPartition {
            topic: TopicIndex(0),
            partition: 0,
        };
        let batch = BatchFacts {
            partition,
            broker: None,
            attempts: 1,
            records: 10,
            bytes: 250,
            plain_bytes: 1_000,
            stamp: None,
        };
        let event = BatchEvent::Sent {
            waited: Duration::ZERO,
            before: BeforeSent {
                filling: Duration::ZERO,
                compressing: None,
                ready: Duration::ZERO,
            },
        };
        let sent = Report::Batch { batch, event };
        meters.record(&[sent], |_| Some(Arc::from("orders")), Instant::ZERO);
        let metrics = meters.snapshot(catalogue::Gauges::default(), Instant::ZERO);
        assert_eq!(metrics.value("compression-rate-avg"), Some(0.25));
        assert_eq!(metrics.of_topic("orders", "compression-rate"), Some(0.25));
        assert_eq!(metrics.value("batch-size-max"), Some(250.0));
        assert_eq!(metrics.value("record-size-avg"), Some(100.0));
    }
}
