//! The machines of a cluster, pure: requests become changes of these values, time is an argument.
//!
//! | File | Owns |
//! |---|---|
//! | [`topology`] | brokers alive, topics, replica placement, leader and epoch |
//! | [`connections`] | one request in progress per connection, the ones behind it |
//! | [`purgatory`] | requests that wait |
//! | [`journal`] | every request and reply, diagnostics |
//! | [`effect`] | the seam to the driver |
//! | [`time`] | what an instant is |
//!
//! [`Cluster`] composes what the handlers act on; `handlers::ClusterEngine` drives it.

pub mod connections;
pub mod effect;
pub mod journal;
pub mod purgatory;
pub mod time;
pub mod topology;

use std::sync::Arc;

use uuid::Uuid;

use self::effect::BrokerId;
use self::time::Instant;
use self::topology::{BrokerEndpoint, PARTITIONS_MAX, PartitionKey, Topology, is_valid_name};
use crate::config::{BrokerConfig, ConfigError, TopicConfig};

/// A topic that is there from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions, from 1 to 10,000.
    pub partitions: i32,
    /// How many replicas of each, from 1 to the number of brokers.
    pub replication_factor: i16,
    /// Its configuration where it differs from the brokers', by Kafka's topic keys.
    pub overrides: Vec<(String, String)>,
}

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The brokers; at least one, their ids distinct and not negative.
    pub brokers: Vec<BrokerEndpoint>,
    /// The topics that are there from the start.
    pub topics: Vec<TopicSpec>,
    /// The configuration of every broker.
    pub broker: BrokerConfig,
    /// The id that Metadata tells; made from the seed when `None`.
    pub cluster_id: Option<Arc<str>>,
    /// Milliseconds since 1970 at [`Instant::ZERO`].
    pub wall_clock_origin_ms: i64,
    /// What topic ids and the cluster id are made from.
    pub seed: u64,
}

/// The state of a cluster: what the handlers read and change.
#[derive(Debug)]
pub struct Cluster {
    /// Brokers and topics.
    pub topology: Topology,
    /// The configuration of every broker.
    pub config: BrokerConfig,
    cluster_id: Arc<str>,
    wall_clock_origin_ms: i64,
    random: fastrand::Rng,
    touched: Vec<PartitionKey>,
    notes: Vec<String>,
}

impl Cluster {
    /// A cluster with its topics, all brokers alive.
    ///
    /// # Errors
    ///
    /// No broker, an id twice or negative, a topic that Kafka would refuse.
    pub fn new(config: ClusterConfig, _now: Instant) -> Result<Self, ConfigError> {
        check_brokers(&config.brokers)?;
        let mut random = fastrand::Rng::with_seed(config.seed);
        let cluster_id = config.cluster_id.unwrap_or_else(|| cluster_id(&mut random));
        let mut cluster = Self {
            topology: Topology::new(config.brokers),
            config: config.broker,
            cluster_id,
            wall_clock_origin_ms: config.wall_clock_origin_ms,
            random,
            touched: Vec::new(),
            notes: Vec::new(),
        };
        for topic in config.topics {
            cluster.create_topic(topic)?;
        }
        Ok(cluster)
    }

    /// Makes a topic; it is there at once.
    ///
    /// # Errors
    ///
    /// A name, a number of partitions or replicas, or a configuration that Kafka would refuse; a
    /// name that is taken.
    pub fn create_topic(&mut self, spec: TopicSpec) -> Result<(), ConfigError> {
        let bad = |value: String, allowed: &str| ConfigError::bad_value("topic", value, allowed);
        if !is_valid_name(&spec.name) {
            let allowed = "a name of 1 to 249 of a-z A-Z 0-9 . _ - that is not . or ..";
            return Err(bad(spec.name.to_string(), allowed));
        }
        if self.topology.topic_by_name(&spec.name).is_some() {
            return Err(bad(spec.name.to_string(), "a name that no other topic has"));
        }
        let brokers = self.topology.brokers().count();
        let partitions = match usize::try_from(spec.partitions) {
            Ok(partitions) if (1..=PARTITIONS_MAX).contains(&spec.partitions) => partitions,
            _ => {
                let value = format!("{} with {} partitions", spec.name, spec.partitions);
                return Err(bad(value, &format!("1 to {PARTITIONS_MAX} partitions")));
            }
        };
        let replication_factor = match usize::try_from(spec.replication_factor) {
            Ok(replicas) if (1..=brokers).contains(&replicas) => replicas,
            _ => {
                let value = format!("{} with {} replicas", spec.name, spec.replication_factor);
                return Err(bad(
                    value,
                    &format!("1 to {brokers} replicas, one a broker"),
                ));
            }
        };
        let mut config = self.config.topic.clone();
        for (key, value) in &spec.overrides {
            config.set(key, value)?;
        }
        let replicas = self.topology.place(partitions, replication_factor);
        self.add_topic(spec.name, config, replicas);
        Ok(())
    }

    fn add_topic(&mut self, name: Arc<str>, config: TopicConfig, replicas: Vec<Vec<BrokerId>>) {
        let id = Uuid::from_u64_pair(self.random.u64(..), self.random.u64(1..));
        self.topology.add_topic(name, id, config, replicas);
    }

    /// The id that Metadata tells.
    #[must_use]
    pub const fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// Milliseconds since 1970 at `now`.
    #[must_use]
    pub fn wall_clock_ms(&self, now: Instant) -> i64 {
        let elapsed = i64::try_from(now.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        self.wall_clock_origin_ms.saturating_add(elapsed)
    }

    /// Notes something that is not modelled; it becomes a diagnostic.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Takes the notes that came up since they were taken last.
    pub fn take_notes(&mut self) -> Vec<String> {
        core::mem::take(&mut self.notes)
    }

    /// A partition whose log, watermark or leadership changed, and was not taken yet.
    pub fn take_touched(&mut self) -> Option<PartitionKey> {
        self.touched.pop()
    }

    /// Panics when an invariant of a machine does not hold.
    pub fn check_invariants(&self) {
        self.topology.check_invariants();
    }
}

fn check_brokers(brokers: &[BrokerEndpoint]) -> Result<(), ConfigError> {
    let bad = |value: String, allowed| ConfigError::bad_value("brokers", value, allowed);
    if brokers.is_empty() {
        return Err(bad("0".into(), "at least one broker"));
    }
    let mut ids: Vec<i32> = brokers.iter().map(|broker| broker.id.0).collect();
    ids.sort_unstable();
    if let Some(negative) = ids.first().filter(|id| **id < 0) {
        return Err(bad(negative.to_string(), "broker ids of 0 or more"));
    }
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(bad(pair[0].to_string(), "broker ids that differ")),
        None => Ok(()),
    }
}

/// Twenty-two characters, as Kafka writes a random id.
fn cluster_id(random: &mut fastrand::Rng) -> Arc<str> {
    core::iter::repeat_with(|| random.alphanumeric())
        .take(22)
        .collect::<String>()
        .into()
}
