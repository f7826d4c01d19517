//! The composition of the machines: what handlers read and change.
//!
//! *State* lies in the machines; of a partition this file knows what is still to be told:
//!
//! ```text
//!        append, move, deletion            taken
//! quiet ────────────────────────▶ touched ───────▶ quiet
//! ```
//!
//! *Invariants*
//! 1. Every partition of the topology has a replica set here, and the other way round; both name
//!    the same leader.
//! 2. A partition whose log, watermark or leadership changed is in `touched` until it is taken.
//! 3. A partition with an in-sync follower that lags is in `lagging`.
//! 4. A broker has an entry in `sessions` exactly while it is paused and not fenced.
//!
//! *Source* apache/kafka `metadata/…/controller/ReplicationControlManager.java`.
//!
//! *Not here* moves (`moves.rs`); connections and requests (`handlers/cluster_engine.rs`).

use core::time::Duration;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::api_limits::ApiLimits;
use super::dynamic_config::DynamicConfig;
use super::effect::BrokerId;
use super::moves::MoveError;
use super::partition::{Acks, Append, AppendError, Appended, DeleteError, DeleteTo, Partition};
use super::producer_ids::ProducerIds;
use super::producer_state::Expiry;
use super::replication::{Host, ReplicaSet};
use super::time::Instant;
use super::topology::{
    BrokerEndpoint, BrokerState, CLUSTER_PARTITIONS_MAX, PARTITIONS_MAX, PartitionKey, Topic,
    TopicKey, Topology, is_valid_name,
};
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

/// The state of a cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(super) topology: Topology,
    pub(super) partitions: BTreeMap<PartitionKey, Partition>,
    pub(super) producer_ids: ProducerIds,
    /// When the controller will fence a paused broker.
    pub(super) sessions: BTreeMap<BrokerId, Instant>,
    pub(super) api_limits: ApiLimits,
    pub(super) dynamic: DynamicConfig,
    /// Of a broker for which nothing was altered.
    pub(super) config: BrokerConfig,
    cluster_id: Arc<str>,
    wall_clock_origin_ms: i64,
    pub(super) expiry: Expiry,
    random: fastrand::Rng,
    touched: Vec<PartitionKey>,
    lagging: BTreeSet<PartitionKey>,
    notes: Vec<String>,
}

impl Cluster {
    /// A cluster with its topics, all brokers alive.
    ///
    /// # Errors
    ///
    /// No broker, an id twice or negative, a topic that Kafka would refuse.
    pub fn new(config: ClusterConfig, now: Instant) -> Result<Self, ConfigError> {
        check_brokers(&config.brokers)?;
        let mut random = fastrand::Rng::with_seed(config.seed);
        let cluster_id = config.cluster_id.unwrap_or_else(|| cluster_id(&mut random));
        let origin_ms = wall_clock_ms(config.wall_clock_origin_ms, now);
        let expiry = Expiry {
            idle_ms: i64::from(config.broker.producer_id_expiration_ms),
            sweep_ms: i64::from(config.broker.producer_id_expiration_check_interval_ms),
            origin_ms,
        };
        let mut cluster = Self {
            topology: Topology::new(config.brokers),
            partitions: BTreeMap::new(),
            producer_ids: ProducerIds::default(),
            sessions: BTreeMap::new(),
            api_limits: ApiLimits::default(),
            dynamic: DynamicConfig::new(config.broker.clone()),
            config: config.broker,
            cluster_id,
            wall_clock_origin_ms: config.wall_clock_origin_ms,
            expiry,
            random,
            touched: Vec::new(),
            lagging: BTreeSet::new(),
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
        if let Some(other) = self.topology.collision(&spec.name) {
            let allowed = format!(
                "a name that differs from {} in more than . and _",
                other.name
            );
            return Err(bad(spec.name.to_string(), &allowed));
        }
        let brokers = self.topology.brokers().count();
        let partitions = match usize::try_from(spec.partitions) {
            Ok(partitions)
                if (1..=PARTITIONS_MAX).contains(&spec.partitions)
                    && partitions <= self.topology.partition_room() =>
            {
                partitions
            }
            _ => {
                let value = format!("{} with {} partitions", spec.name, spec.partitions);
                let allowed = format!(
                    "1 to {PARTITIONS_MAX} partitions, {CLUSTER_PARTITIONS_MAX} in the cluster"
                );
                return Err(bad(value, &allowed));
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
        let mut config = self.config.topic.inherited();
        for (key, value) in &spec.overrides {
            config.set(key, value)?;
        }
        let replicas = self.topology.place(partitions, replication_factor);
        self.add_topic(spec.name, config, replicas);
        Ok(())
    }

    /// Adds a topic whose name, configuration and placement were checked; returns its id.
    pub fn add_topic(
        &mut self,
        name: Arc<str>,
        config: TopicConfig,
        replicas: Vec<Vec<BrokerId>>,
    ) -> Uuid {
        // The lower half is never 0, so no topic has the zero id, which stands for "none".
        let id = Uuid::from_u64_pair(self.random.u64(..), self.random.u64(1..));
        let topic = self.topology.add_topic(name, id, config, replicas);
        self.make_replica_sets(topic);
        id
    }

    /// Adds partitions to a topic; their placements were checked.
    pub fn add_partitions(&mut self, topic: TopicKey, replicas: Vec<Vec<BrokerId>>) {
        self.topology.add_partitions(topic, replicas);
        self.make_replica_sets(topic);
    }

    /// An empty log for every partition of a topic that has none yet.
    fn make_replica_sets(&mut self, topic: TopicKey) {
        let Some(known) = self.topology.topic(topic) else {
            return;
        };
        for (placement, partition) in known.partitions.iter().zip(known.indexes()) {
            let host = |broker| match self.topology.broker_state(broker) {
                Some(BrokerState::Alive) => Host::Up,
                Some(BrokerState::Paused) => Host::Paused,
                Some(BrokerState::Fenced | BrokerState::Crashed) | None => Host::Down,
            };
            let leader = placement.leadership.leader;
            let key = PartitionKey { topic, partition };
            self.partitions.entry(key).or_insert_with(|| {
                Partition::new(ReplicaSet::new(&placement.replicas, leader, host))
            });
        }
    }

    /// Removes a topic with everything in it.
    pub fn delete_topic(&mut self, topic: TopicKey) {
        if let Some(removed) = self.topology.remove_topic(topic) {
            for partition in removed.indexes() {
                let key = PartitionKey { topic, partition };
                self.partitions.remove(&key);
                self.lagging.remove(&key);
                self.touched.push(key);
            }
        }
    }

    /// A broker that leads it appends the batch in `records` to a partition that exists.
    ///
    /// # Errors
    ///
    /// Why it is not appended; `None` when there is no such partition.
    pub fn append(
        &mut self,
        (key, broker): (PartitionKey, BrokerId),
        records: &Bytes,
        acks: Acks,
        now: Instant,
    ) -> Result<Appended, Option<AppendError>> {
        let expiry = self.expiry(broker);
        let (Some(topic), Some(partition)) = (
            self.topology.topic(key.topic),
            self.partitions.get_mut(&key),
        ) else {
            return Err(None);
        };
        let config = self.dynamic.of_topic(&topic.config, broker, &self.config);
        let append = Append {
            acks,
            leader_epoch: topic
                .placement(key.partition)
                .map_or(0, |p| p.leadership.epoch),
            config: &config,
            expiry,
            wall_clock_ms: wall_clock_ms(self.wall_clock_origin_ms, now),
        };
        let appended = partition.append(records, &append, now).map_err(Some)?;
        if matches!(appended, Appended::Stored { .. }) {
            self.touched.push(key);
            if partition
                .replicas()
                .next_deadline(lag_max(&self.config))
                .is_some()
            {
                self.lagging.insert(key);
            }
        }
        Ok(appended)
    }

    /// Deletes what lies before an offset of a partition that exists; returns the offset meant.
    ///
    /// # Errors
    ///
    /// Why nothing is deleted; `None` when there is no such partition.
    pub fn delete_records(
        &mut self,
        key: PartitionKey,
        to: DeleteTo,
    ) -> Result<i64, Option<DeleteError>> {
        let (Some(topic), Some(partition)) = (
            self.topology.topic(key.topic),
            self.partitions.get_mut(&key),
        ) else {
            return Err(None);
        };
        let leader = topic.placement(key.partition);
        let leader = leader.and_then(|placement| placement.leadership.leader);
        let config = leader.map_or(Cow::Borrowed(&topic.config), |leader| {
            self.dynamic.of_topic(&topic.config, leader, &self.config)
        });
        let deleted = partition.delete_records(to, &config).map_err(Some)?;
        self.touched.push(key);
        Ok(deleted)
    }

    /// A fresh producer id from the block of `broker`.
    pub fn next_producer_id(&mut self, broker: BrokerId) -> i64 {
        self.producer_ids.next_id(broker)
    }

    /// Time has come to [`next_deadline`](Self::next_deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_sessions(now);
        let lag_max = lag_max(&self.config);
        for key in self.lagging.clone() {
            let Some(partition) = self.partitions.get_mut(&key) else {
                continue;
            };
            if partition.replicas_mut().expel_lagging(lag_max, now) {
                self.on_replicas_changed(key);
            }
        }
    }

    /// When an in-sync follower will have lagged for `replica.lag.time.max.ms`, or the session of
    /// a paused broker is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let lag_max = lag_max(&self.config);
        let lagging = self
            .lagging
            .iter()
            .filter_map(|key| self.partitions.get(key));
        let lag_ends = lagging
            .filter_map(|partition| partition.replicas().next_deadline(lag_max))
            .min();
        let session_ends = self.sessions.values().min().copied();
        lag_ends.into_iter().chain(session_ends).min()
    }

    /// Replicas or leader of a partition changed.
    pub(super) fn on_replicas_changed(&mut self, key: PartitionKey) {
        if let (Some(topic), Some(partition)) = (
            self.topology.topic(key.topic),
            self.partitions.get_mut(&key),
        ) {
            partition.advance_watermark(&topic.config);
            self.touched.push(key);
            match partition.replicas().next_deadline(lag_max(&self.config)) {
                Some(_) => self.lagging.insert(key),
                None => self.lagging.remove(&key),
            };
        }
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

    /// Brokers and topics.
    #[must_use]
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A replica set with its log.
    #[must_use]
    pub fn partition(&self, key: PartitionKey) -> Option<&Partition> {
        self.partitions.get(&key)
    }

    /// The key of a partition by the topic's name.
    ///
    /// # Errors
    ///
    /// No such topic or partition.
    pub fn key(&self, topic: &str, partition: i32) -> Result<PartitionKey, MoveError> {
        let topic = self
            .topology
            .topic_by_name(topic)
            .ok_or(MoveError::UnknownTopic)?;
        topic
            .placement(partition)
            .ok_or(MoveError::UnknownPartition)?;
        Ok(PartitionKey {
            topic: topic.key,
            partition,
        })
    }

    /// Brokers and topics as a broker knows them; what it answers with comes from here.
    #[must_use]
    pub const fn known_to(&self, _broker: BrokerId) -> &Topology {
        &self.topology
    }

    /// Whether a broker leads a partition, as far as it knows.
    #[must_use]
    pub fn leads(&self, key: PartitionKey, broker: BrokerId) -> bool {
        self.leader(key) == Some(broker)
    }

    /// Who leads a partition.
    #[must_use]
    pub fn leader(&self, key: PartitionKey) -> Option<BrokerId> {
        self.topology.placement(key)?.leadership.leader
    }

    /// The configuration of every broker for which nothing else was altered.
    #[must_use]
    pub const fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// The id that Metadata tells.
    #[must_use]
    pub const fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// Milliseconds since 1970 at `now`.
    #[must_use]
    pub fn wall_clock_ms(&self, now: Instant) -> i64 {
        wall_clock_ms(self.wall_clock_origin_ms, now)
    }

    /// Which versions the brokers offer.
    #[must_use]
    pub const fn api_limits(&self) -> &ApiLimits {
        &self.api_limits
    }

    /// Panics when an invariant of a machine does not hold.
    pub fn check_invariants(&self) {
        self.api_limits.check_invariants();
        self.topology.check_invariants();
        let placed: usize = self
            .topology
            .topics()
            .map(|topic| topic.partitions.len())
            .sum();
        assert_eq!(placed, self.partitions.len(), "cluster 1");
        for broker in self.topology.brokers() {
            let in_session = self.sessions.contains_key(&broker.endpoint.id);
            let paused = broker.state == BrokerState::Paused;
            assert_eq!(in_session, paused, "cluster 4: {broker:?}");
        }
        for (key, partition) in &self.partitions {
            partition.check_invariants();
            let lags = partition
                .replicas()
                .next_deadline(lag_max(&self.config))
                .is_some();
            assert!(!lags || self.lagging.contains(key), "cluster 3: {key:?}");
        }
    }

    /// The topics, in the order of their making.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topology.topics()
    }
}

fn lag_max(config: &BrokerConfig) -> Duration {
    Duration::from_millis(u64::try_from(config.replica_lag_time_max_ms).unwrap_or(0))
}

fn wall_clock_ms(origin_ms: i64, now: Instant) -> i64 {
    let elapsed_ms = i64::try_from(now.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
    origin_ms.saturating_add(elapsed_ms)
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
