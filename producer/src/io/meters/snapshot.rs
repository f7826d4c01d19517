//! All metrics at one time, for the user to look at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::catalogue::{Definition, Gauges, NODE, Reading, TOPIC, WHOLE};
use super::stages::StageTimes;
use super::{Meters, State};
use crate::engine::report::NodeKey;
use crate::engine::time::Instant;
use crate::io::accumulator::Accumulator;

/// What a producer has measured, at one time: Kafka's metrics by Kafka's names, and how long
/// batches stay in each stage of their way.
///
/// Averages, maxima and rates look back on the last `metrics.num.samples` samples of
/// `metrics.sample.window.ms` each; an average or maximum of nothing is not a number. Totals count
/// from the producer's start. Units are those of Kafka: what a metric says, with its unit, is told
/// by [`Metric::about`].
///
/// ```no_run
/// # fn example(producer: kafka_producer::Producer) {
/// let metrics = producer.metrics();
/// println!("sent: {:?}", metrics.value("record-send-total"));
/// println!("to orders: {:?}", metrics.of_topic("orders", "byte-total"));
/// println!("by broker 1: {:?} ms", metrics.of_node(1, "request-latency-avg"));
/// println!("of a hundred batches 99 are answered within {:?}", metrics.stages().answered.p99);
/// for metric in metrics.iter() {
///     println!("{metric}"); // producer-metrics:record-send-total = 3
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Metrics {
    values: Vec<Metric>,
    stages: StageTimes,
}

/// One metric with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    scope: MetricScope,
    name: &'static str,
    about: &'static str,
    value: f64,
}

/// What a metric is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricScope {
    /// The producer as a whole: Kafka's group `producer-metrics`.
    Producer,
    /// A topic: Kafka's group `producer-topic-metrics`.
    Topic(Arc<str>),
    /// A node: Kafka's group `producer-node-metrics`. Brokers have their ids, addresses of
    /// `bootstrap.servers` count down from -1.
    Node(i32),
}

impl Metrics {
    /// A metric of the producer as a whole; `None` if there is none of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.find(&MetricScope::Producer, name)
    }

    /// A metric of a topic; `None` if there is none of this name, or no batch of the topic yet.
    #[must_use]
    pub fn of_topic(&self, topic: &str, name: &str) -> Option<f64> {
        self.find(&MetricScope::Topic(Arc::from(topic)), name)
    }

    /// A metric of a node; `None` if there is none of this name, or nothing was asked of the node
    /// yet.
    #[must_use]
    pub fn of_node(&self, node: i32, name: &str) -> Option<f64> {
        self.find(&MetricScope::Node(node), name)
    }

    /// All metrics: those of the producer by name, then those of topics, then those of nodes.
    pub fn iter(&self) -> impl Iterator<Item = &Metric> {
        self.values.iter()
    }

    /// How long batches stay in each stage of their way.
    #[must_use]
    pub fn stages(&self) -> &StageTimes {
        &self.stages
    }

    fn find(&self, scope: &MetricScope, name: &str) -> Option<f64> {
        let mut values = self.values.iter();
        let found = values.find(|metric| metric.name == name && metric.scope == *scope);
        found.map(Metric::value)
    }
}

impl Metric {
    /// Kafka's name of the group.
    #[must_use]
    pub fn group(&self) -> &'static str {
        match self.scope {
            MetricScope::Producer => "producer-metrics",
            MetricScope::Topic(_) => "producer-topic-metrics",
            MetricScope::Node(_) => "producer-node-metrics",
        }
    }

    /// What it is about.
    #[must_use]
    pub fn scope(&self) -> &MetricScope {
        &self.scope
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it says, and in which unit.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Its value. Not a number for an average or maximum of nothing.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.group(), self.name)?;
        match &self.scope {
            MetricScope::Producer => {}
            MetricScope::Topic(topic) => write!(f, "{{topic={topic}}}")?,
            MetricScope::Node(node) => write!(f, "{{node-id={node}}}")?,
        }
        write!(f, " = {}", self.value)
    }
}

impl Meters {
    /// All of it, as it is at `now`; what stands elsewhere is in `gauges`.
    pub(crate) fn snapshot(&self, gauges: Gauges, now: Instant) -> Metrics {
        let state = self.lock();
        let mut read = Read {
            meters: self,
            gauges,
            now,
            values: Vec::new(),
        };
        read.all(&state);
        Metrics {
            values: read.values,
            stages: state.stages.times(),
        }
    }
}

impl Accumulator {
    /// What was measured up to now.
    pub(crate) fn metrics(&self) -> Metrics {
        self.meters.snapshot(self.gauges(), self.clock.now())
    }

    /// What stands, and is not recorded.
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            memory_bytes: self.limits.memory_bytes,
            memory_bytes_free: self.memory.bytes_free(),
            memory_waiting: self.memory.waiting(),
        }
    }
}

/// A snapshot in the making.
struct Read<'a> {
    meters: &'a Meters,
    gauges: Gauges,
    now: Instant,
    values: Vec<Metric>,
}

impl Read<'_> {
    fn all(&mut self, state: &State) {
        self.add(WHOLE, &state.whole, &MetricScope::Producer);
        for topic in &state.topics {
            if let Some(name) = &topic.name {
                self.add(TOPIC, topic, &MetricScope::Topic(Arc::clone(name)));
            }
        }
        for (key, node) in &state.nodes {
            self.add(NODE, node, &MetricScope::Node(node_id(*key)));
        }
    }

    fn add<T>(&mut self, definitions: &'static [Definition<T>], of: &T, scope: &MetricScope) {
        let reading = Reading {
            of,
            now: self.now,
            windows: self.meters.windows,
            gauges: self.gauges,
            requests_in_flight: self.meters.requests_in_flight.load(Ordering::Relaxed),
        };
        let metrics = definitions.iter().map(|definition| Metric {
            scope: scope.clone(),
            name: definition.name,
            about: definition.about,
            value: (definition.read)(&reading),
        });
        self.values.extend(metrics);
    }
}

/// Kafka's numbers of nodes: brokers have their own, bootstrap addresses count down from -1.
pub(crate) fn node_id(node: NodeKey) -> i32 {
    match node {
        NodeKey::Broker(id) => id.0,
        NodeKey::Bootstrap(place) => i32::try_from(place).map_or(i32::MIN, |place| -1 - place),
    }
}
