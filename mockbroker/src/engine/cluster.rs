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
//! 3. A partition whose replicas wait for a time is in `timed`.
//! 4. A broker has an entry in `sessions` exactly while it is active and not sound, and one in
//!    `views` exactly while it is cut off.
//!
//! *Source* apache/kafka `metadata/…/controller/ReplicationControlManager.java`.
//!
//! *Not here* moves (`moves.rs`), what follows from a change (`upkeep.rs`); connections and
//! requests (`handlers/cluster_engine.rs`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::api_limits::ApiLimits;
use super::dynamic_config::DynamicConfig;
use super::effect::BrokerId;
use super::features::Features;
use super::fetch_sessions::FetchSessions;
use super::groups::Groups;
use super::log_room::LogRoom;
use super::moments::Momentary;
use super::moves::MoveError;
use super::partition::Partition;
use super::producer_ids::ProducerIds;
use super::producer_room::ProducerRoom;
use super::producer_state::Expiry;
use super::quotas::Quotas;
use super::rate::Window;
use super::replication::ReplicaSet;
use super::time::Instant;
use super::topology::{
    BrokerEndpoint, CLUSTER_PARTITIONS_MAX, Network, PARTITIONS_MAX, PartitionKey, Process,
    Registration, Topic, TopicKey, Topology, is_valid_name,
};
use super::transactions::Transactions;
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
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) topology: Topology,
    pub(super) partitions: BTreeMap<PartitionKey, Partition>,
    pub(super) producer_ids: ProducerIds,
    /// When the controller will fence a broker that it does not hear of.
    pub(super) sessions: BTreeMap<BrokerId, Instant>,
    /// What the brokers that are cut off last knew.
    pub(super) views: BTreeMap<BrokerId, Topology>,
    /// How long records take from one broker to another, where they are not there at once.
    pub(super) delays: BTreeMap<(BrokerId, BrokerId), Duration>,
    pub(super) api_limits: ApiLimits,
    pub(super) dynamic: DynamicConfig,
    /// What is for a moment only.
    pub(super) momentary: Momentary,
    /// What readers asked for last.
    pub(super) fetch_sessions: FetchSessions,
    /// Of a broker for which nothing was altered.
    pub(super) config: BrokerConfig,
    pub(super) quotas: Quotas,
    pub(super) log_room: LogRoom,
    pub(super) producer_room: ProducerRoom,
    pub(super) transactions: Transactions,
    pub(super) groups: Groups,
    pub(super) features: Features,
    cluster_id: Arc<str>,
    pub(super) wall_clock_origin_ms: i64,
    pub(super) expiry: Expiry,
    random: fastrand::Rng,
    pub(super) touched: Vec<PartitionKey>,
    pub(super) timed: BTreeSet<PartitionKey>,
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
            views: BTreeMap::new(),
            delays: BTreeMap::new(),
            api_limits: ApiLimits::default(),
            momentary: Momentary::default(),
            fetch_sessions: FetchSessions::with_seed(config.seed),
            dynamic: DynamicConfig::new(config.broker.clone()),
            log_room: LogRoom::default(),
            producer_room: ProducerRoom::default(),
            transactions: Transactions::default(),
            groups: Groups::default(),
            features: Features::default(),
            quotas: Quotas::new(Window::of(&config.broker)),
            config: config.broker,
            cluster_id,
            wall_clock_origin_ms: config.wall_clock_origin_ms,
            expiry,
            random,
            touched: Vec::new(),
            timed: BTreeSet::new(),
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
        let state = |broker| match self.topology.broker(broker) {
            Some(broker) => (broker.process, broker.network),
            None => (Process::Crashed, Network::Connected),
        };
        for (placement, partition) in known.partitions.iter().zip(known.indexes()) {
            let key = PartitionKey { topic, partition };
            self.partitions.entry(key).or_insert_with(|| {
                let mut replicas = ReplicaSet::new(placement, state);
                for ((from, to), delay) in &self.delays {
                    replicas.set_delay(*from, *to, *delay);
                }
                Partition::new(replicas)
            });
        }
    }

    /// Removes a topic with everything in it.
    pub fn delete_topic(&mut self, topic: TopicKey) {
        self.momentary.on_deletion();
        if let Some(removed) = self.topology.remove_topic(topic) {
            self.forget_offsets_of(&removed.name);
            for partition in removed.indexes() {
                let key = PartitionKey { topic, partition };
                self.partitions.remove(&key);
                self.timed.remove(&key);
                self.touched.push(key);
            }
        }
    }

    /// An id that nothing else has, made of the seed.
    pub fn random_id(&mut self) -> Uuid {
        let bytes = (self.random.u64(..), self.random.u64(..));
        let bytes = Uuid::from_u64_pair(bytes.0, bytes.1).into_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A fresh producer id from the block of `broker`.
    pub fn next_producer_id(&mut self, broker: BrokerId) -> i64 {
        self.producer_ids.next_id(broker)
    }

    /// What readers asked for last.
    pub const fn fetch_sessions_mut(&mut self) -> &mut FetchSessions {
        &mut self.fetch_sessions
    }

    /// The brokers are reached by these addresses from now on, also in what those know that are cut
    /// off.
    pub fn readdress(&mut self, brokers: &[BrokerEndpoint]) {
        self.topology.readdress(brokers);
        for view in self.views.values_mut() {
            view.readdress(brokers);
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
        self.fetch_sessions.check_invariants();
        self.quotas.check_invariants();
        self.check_log_room();
        self.check_transactions();
        self.check_groups();
        self.momentary.check_invariants();
        self.topology.check_invariants();
        let placed: usize = self
            .topology
            .topics()
            .map(|topic| topic.partitions.len())
            .sum();
        assert_eq!(placed, self.partitions.len(), "cluster 1");
        for broker in self.topology.brokers() {
            let id = broker.endpoint.id;
            let heard_of = broker.is_sound() || broker.registration == Registration::Fenced;
            assert_eq!(
                self.sessions.contains_key(&id),
                !heard_of,
                "cluster 4: {broker:?}"
            );
            let isolated = broker.network == Network::Isolated;
            assert_eq!(
                self.views.contains_key(&id),
                isolated,
                "cluster 4: {broker:?}"
            );
        }
        let lag_max = self.lag_max();
        for (key, partition) in &self.partitions {
            let placement = self.topology.placement(*key);
            placement
                .into_iter()
                .for_each(|placement| partition.check_invariants(placement));
            let waits = partition.replicas().next_deadline(lag_max).is_some();
            assert!(!waits || self.timed.contains(key), "cluster 3: {key:?}");
        }
    }

    /// The topics, in the order of their making.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topology.topics()
    }
}

pub(super) fn wall_clock_ms(origin_ms: i64, now: Instant) -> i64 {
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
