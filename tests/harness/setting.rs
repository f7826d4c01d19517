//! What a world consists of: brokers, topics, producers and their configuration.
//!
//! *Not here*: what happens in it.

use std::sync::Arc;
use std::time::Duration;

use kafka_mockbroker::BrokerConfig;
use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::engine::topology::BrokerEndpoint;
use kafka_mockbroker::engine::{ClusterConfig, TopicSpec};
use kafka_producer::Acks;
use kafka_producer::engine::config::TransactionsConfig;
use kafka_producer::engine::effect::Address;
use kafka_producer::engine::{EngineConfig, Idempotence};
use kafka_producer::wire::compression::Codec;

use crate::defect::Defect;
use crate::driving::Lateness;
use crate::link::Latency;
use crate::trace::Tracing;
use crate::worker::Bracketing;

/// How often a coordinator looks for transactions that are open for too long.
const SCAN_INTERVAL: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms";

/// The parts of a world; the defaults are Kafka's where Kafka has one.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Decides latencies, jitter and ids.
    pub seed: u64,
    /// How many brokers, with the ids 1, 2, …
    pub brokers: i32,
    /// Topics: name, partitions, replicas.
    pub topics: Vec<(&'static str, i32, i16)>,
    /// `min.insync.replicas` of topics that have as many replicas.
    pub isr_min: i16,
    /// `broker.session.timeout.ms`.
    pub session_ms: u32,
    /// `replica.lag.time.max.ms`.
    pub lag_ms: u32,
    /// How many producers.
    pub producers: usize,
    /// How long a frame is on its way.
    pub latency: Latency,
    /// How late producers' drivers look.
    pub lateness: Lateness,
    /// `batch.size`, in bytes.
    pub batch_bytes: usize,
    /// `max.message.bytes` of every topic, where it is not the default.
    pub message_bytes_max: Option<u32>,
    /// `compression.type` and its level.
    pub codec: Codec,
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`.
    pub idempotence: Idempotence,
    /// `linger.ms`.
    pub linger: Duration,
    /// `max.in.flight.requests.per.connection`.
    pub in_flight_max: usize,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// `outcome.resolve.timeout.ms`; without idempotence it counts for nothing.
    pub resolve_timeout: Duration,
    /// `retries`.
    pub retries_max: u32,
    /// `buffer.memory`, in bytes; nothing is as much as wanted.
    pub memory_bytes: Option<usize>,
    /// What is done under transactional ids, if there are any.
    pub transactions: Option<Bracketing>,
    /// A mistake between the engines, to try the oracle.
    pub defect: Option<Defect>,
    /// Whether lines are written of what happens.
    pub tracing: Tracing,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            seed: 1,
            brokers: 3,
            topics: vec![("orders", 3, 3)],
            isr_min: 1,
            session_ms: 9_000,
            lag_ms: 30_000,
            producers: 1,
            latency: Latency {
                min: Duration::from_micros(100),
                max: Duration::from_millis(2),
            },
            lateness: Lateness::default(),
            batch_bytes: 16_384,
            message_bytes_max: None,
            codec: Codec::NONE,
            acks: Acks::All,
            idempotence: Idempotence::Enabled,
            linger: Duration::from_millis(5),
            in_flight_max: 5,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
            resolve_timeout: Duration::ZERO,
            retries_max: u32::try_from(i32::MAX).expect("positive"),
            memory_bytes: None,
            transactions: None,
            defect: None,
            tracing: Tracing::Kept,
        }
    }
}

impl Setting {
    /// The wall clock at a world's start, milliseconds since 1970.
    pub const WALL_CLOCK_ORIGIN_MS: i64 = 1_700_000_000_000;

    /// Whether producers are idempotent.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.idempotence == Idempotence::Enabled
    }

    /// Whether producers keep the order of sends.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        let one_at_a_time = self.in_flight_max == 1 && self.acks != Acks::None;
        self.is_idempotent() || one_at_a_time
    }

    /// The longest time from a record's batch to its end.
    #[must_use]
    pub fn resolved_within(&self) -> Duration {
        self.delivery_timeout + self.resolve_timeout
    }

    /// `min.insync.replicas` of a topic, whatever the cluster makes of it. Those that the cluster
    /// makes for itself have Kafka's default.
    pub(crate) fn holders_min(&self, topic: &str) -> usize {
        let wanted = self.topics.iter().find(|(name, ..)| *name == topic);
        let holders = wanted.map_or(1, |(_, _, replicas)| self.isr_min.min(*replicas));
        usize::try_from(holders).expect("a few")
    }

    /// Every partition of every topic.
    pub fn partitions(&self) -> impl Iterator<Item = (Arc<str>, i32)> {
        let topics = self.topics.iter();
        topics.flat_map(|&(topic, partitions, _)| {
            (0..partitions).map(move |partition| (Arc::from(topic), partition))
        })
    }

    fn topic_overrides(&self, replication_factor: i16) -> Vec<(String, String)> {
        let isr_min = match self.defect {
            Some(Defect::MinIsrIgnored) => 1,
            _ => self.isr_min.min(replication_factor),
        };
        let bytes_max = self.message_bytes_max;
        let bytes_max = bytes_max.map(|bytes| ("max.message.bytes".into(), bytes.to_string()));
        let isr_min = ("min.insync.replicas".into(), isr_min.to_string());
        [isr_min].into_iter().chain(bytes_max).collect()
    }

    fn broker_config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::default();
        let settings = [
            ("broker.session.timeout.ms", self.session_ms),
            ("replica.lag.time.max.ms", self.lag_ms),
        ];
        let scan = self.transactions.as_ref().map(|one| {
            let millis = one.scan_interval.as_millis();
            let interval = u32::try_from(millis).expect("a moment");
            (SCAN_INTERVAL, interval)
        });
        for (key, value) in settings.into_iter().chain(scan) {
            let set = config.set(key, &value.to_string());
            set.expect("the setting is allowed");
        }
        config
    }

    /// The cluster's part.
    #[must_use]
    pub fn cluster_config(&self) -> ClusterConfig {
        let endpoint = |id| {
            let Address { host, port } = address(id);
            BrokerEndpoint {
                id: BrokerId(id),
                host,
                port,
            }
        };
        let topic = |&(name, partitions, replication_factor)| TopicSpec {
            name: Arc::from(name),
            partitions,
            replication_factor,
            overrides: self.topic_overrides(replication_factor),
        };
        ClusterConfig {
            brokers: (1..=self.brokers).map(endpoint).collect(),
            topics: self.topics.iter().map(topic).collect(),
            broker: self.broker_config(),
            cluster_id: None,
            wall_clock_origin_ms: Self::WALL_CLOCK_ORIGIN_MS,
            seed: self.seed,
        }
    }

    /// A producer's part.
    #[must_use]
    pub fn engine_config(&self, producer: usize) -> EngineConfig {
        self.engine_config_for(producer, None)
    }

    /// The part of a producer with one of the transactional ids.
    ///
    /// # Panics
    ///
    /// When the time-out of transactions is longer than weeks.
    #[must_use]
    pub fn engine_config_for(&self, producer: usize, id: Option<usize>) -> EngineConfig {
        let transactions = self.transactions.as_ref().zip(id);
        let transactions = transactions.map(|(all, id)| TransactionsConfig {
            id: all.name(id),
            timeout_ms: i32::try_from(all.timeout.as_millis()).expect("a while"),
        });
        EngineConfig {
            client_id: Arc::from(format!("producer-{producer}")),
            bootstrap: (1..=self.brokers).map(address).collect(),
            acks: self.acks,
            idempotence: self.idempotence,
            in_flight_max: match self.defect {
                Some(Defect::RetryOvertaken) => 5,
                _ => self.in_flight_max,
            },
            request_timeout: self.request_timeout,
            delivery_timeout: self.delivery_timeout,
            resolve_within: Some(self.resolve_timeout).filter(|within| !within.is_zero()),
            codec: self.codec,
            linger: self.linger,
            // About three small batches.
            hold_bytes: self.batch_bytes.min(400) * 3,
            retries_max: self.retries_max,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            connection_setup_timeout: Duration::from_secs(10),
            connection_setup_timeout_max: Duration::from_secs(30),
            connections_idle_max: Some(Duration::from_secs(540)),
            request_bytes_max: 1_048_576,
            metadata_age_max: Duration::from_secs(300),
            rebootstrap_after: Some(Duration::from_secs(300)),
            metadata_idle_max: Duration::from_secs(300),
            transactions,
            seed: self.seed.wrapping_mul(31).wrapping_add(producer as u64),
        }
    }

    /// The broker that listens at an address.
    ///
    /// # Panics
    ///
    /// When none does: nobody told the producer such an address.
    #[must_use]
    pub fn broker_at(address: &Address) -> i32 {
        let id = address
            .host
            .strip_prefix("broker-")
            .and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("nobody told the address {address:?}"))
    }
}

fn address(broker: i32) -> Address {
    Address {
        host: Arc::from(format!("broker-{broker}")),
        port: 9092,
    }
}
