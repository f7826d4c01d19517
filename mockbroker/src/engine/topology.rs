//! Brokers, topics, where replicas live, and who leads.
//!
//! *State* of a broker: whether it runs, whether it reaches the others, and what the controller
//! makes of that.
//!
//! ```text
//!          pause             crash, from any
//! Running ───────▶ Paused    ───────────────▶ Crashed        Connected ─ isolate ─▶ Isolated
//!    ▲               │                           │               ▲                     │
//!    └── resume ─────┴──────────── restart ──────┘               └── heal, crash ──────┘
//!
//!        crash, at once; paused or isolated for broker.session.timeout.ms
//! Active ─────────────────────────────────────────────────────────────────▶ Fenced
//!    ▲                                                                        │
//!    └────────────────── running and connected again ─────────────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A leader's broker is active: in the eyes of the controller it is alive.
//! 2. A broker that runs and reaches the others is active; one that has crashed is fenced.
//! 3. Names, metric names, ids and keys of topics are unique; a key is never used twice, so a
//!    topic that was deleted and made again is another one.
//! 4. Replicas of a partition are distinct brokers.
//! 5. There are at most [`CLUSTER_PARTITIONS_MAX`] partitions.
//!
//! *Source* apache/kafka `metadata/…/controller/{ReplicationControlManager,
//! BrokerHeartbeatManager}.java`; `clients/…/common/internals/Topic.java` for names.
//!
//! *Not here* who leads (`elections.rs`); replicas and logs (`replication.rs`, `log.rs`).
//!
//! *Deviations* placement starts at the first broker for every topic, where Kafka starts at a
//! random one, so that a test can tell where a partition is; one controller is assumed, which
//! nothing happens to.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::effect::BrokerId;
use super::elections::{Change, Election, Rules, effective_isr_min};
pub use super::elections::{Leadership, Placement};
use crate::config::TopicConfig;

/// How clients reach a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// Its node id; not negative.
    pub id: BrokerId,
    /// The host name or address that Metadata tells.
    pub host: Arc<str>,
    /// The port that Metadata tells.
    pub port: u16,
}

/// Whether a broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It does.
    Running,
    /// It does nothing and answers nothing, but its connections stay open.
    Paused,
    /// It does not; its replicas stand still.
    Crashed,
}

/// Whether a broker reaches the other brokers and the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It does.
    Connected,
    /// It does not; clients still reach it.
    Isolated,
}

/// What the controller takes a broker for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Alive.
    Active,
    /// Gone: nothing was heard of it for the time of its session.
    Fenced,
}

/// A broker.
#[derive(Clone, Debug)]
pub struct Broker {
    /// How to reach it.
    pub endpoint: BrokerEndpoint,
    /// Whether it runs.
    pub process: Process,
    /// Whether it reaches the others.
    pub network: Network,
    /// What the controller takes it for.
    pub registration: Registration,
}

impl Broker {
    /// Whether it runs and reaches the others.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.process == Process::Running && self.network == Network::Connected
    }
}

/// A topic's number inside this cluster; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicKey(u32);

#[cfg(test)]
impl TopicKey {
    /// A key for tests of other machines.
    pub(crate) const fn for_tests(number: u32) -> Self {
        Self(number)
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// The topic.
    pub topic: TopicKey,
    /// The partition's index.
    pub partition: i32,
}

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its number here.
    pub key: TopicKey,
    /// Its name.
    pub name: Arc<str>,
    /// Its id (KIP-516).
    pub id: Uuid,
    /// Its configuration.
    pub config: TopicConfig,
    /// Its partitions, by index.
    pub partitions: Vec<Placement>,
}

impl Topic {
    /// The placement of a partition, if the topic has it.
    #[must_use]
    pub fn placement(&self, partition: i32) -> Option<&Placement> {
        usize::try_from(partition)
            .ok()
            .and_then(|index| self.partitions.get(index))
    }

    /// Whether the name is one of Kafka's own topics.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// The indexes of its partitions.
    pub fn indexes(&self) -> impl Iterator<Item = i32> + use<> {
        // Bounded by PARTITIONS_MAX, so every index fits.
        0..i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

/// Brokers and topics of the cluster, or what a broker that is cut off last knew of them.
#[derive(Clone, Debug)]
pub struct Topology {
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<TopicKey, Topic>,
    by_name: BTreeMap<Arc<str>, TopicKey>,
    by_id: BTreeMap<Uuid, TopicKey>,
    by_metric_name: BTreeMap<String, TopicKey>,
    partition_count: usize,
    next_key: u32,
}

impl Topology {
    /// A cluster of these brokers, all alive, without topics.
    #[must_use]
    pub fn new(brokers: impl IntoIterator<Item = BrokerEndpoint>) -> Self {
        let brokers = brokers
            .into_iter()
            .map(|endpoint| {
                (
                    endpoint.id,
                    Broker {
                        endpoint,
                        process: Process::Running,
                        network: Network::Connected,
                        registration: Registration::Active,
                    },
                )
            })
            .collect();
        Self {
            brokers,
            topics: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_metric_name: BTreeMap::new(),
            partition_count: 0,
            next_key: 0,
        }
    }

    /// Adds a topic whose placements are already decided; returns its key.
    pub fn add_topic(
        &mut self,
        name: Arc<str>,
        id: Uuid,
        config: TopicConfig,
        replicas: Vec<Vec<BrokerId>>,
    ) -> TopicKey {
        let key = TopicKey(self.next_key);
        self.next_key += 1;
        self.partition_count += replicas.len();
        let partitions = self.placements(replicas);
        self.by_name.insert(Arc::clone(&name), key);
        self.by_id.insert(id, key);
        self.by_metric_name.insert(metric_name(&name), key);
        self.topics.insert(
            key,
            Topic {
                key,
                name,
                id,
                config,
                partitions,
            },
        );
        key
    }

    /// Gives a topic another configuration.
    pub fn set_topic_config(&mut self, key: TopicKey, config: TopicConfig) {
        if let Some(topic) = self.topics.get_mut(&key) {
            topic.config = config;
        }
    }

    /// Adds partitions to a topic; their placements are already decided.
    pub fn add_partitions(&mut self, key: TopicKey, replicas: Vec<Vec<BrokerId>>) {
        let added = self.placements(replicas);
        if let Some(topic) = self.topics.get_mut(&key) {
            self.partition_count += added.len();
            topic.partitions.extend(added);
        }
    }

    fn placements(&self, replicas: Vec<Vec<BrokerId>>) -> Vec<Placement> {
        let placed = replicas.into_iter();
        placed
            .map(|replicas| Placement::new(replicas, |broker| self.is_alive(broker)))
            .collect()
    }

    /// Removes a topic.
    pub fn remove_topic(&mut self, key: TopicKey) -> Option<Topic> {
        let topic = self.topics.remove(&key)?;
        self.by_name.remove(&topic.name);
        self.by_id.remove(&topic.id);
        self.by_metric_name.remove(&metric_name(&topic.name));
        self.partition_count -= topic.partitions.len();
        Some(topic)
    }

    /// The controller makes a change to a partition, and what follows from it.
    pub fn change(&mut self, partition: PartitionKey, change: &Change) {
        let (brokers, topics) = (&self.brokers, &mut self.topics);
        let index = usize::try_from(partition.partition).ok();
        if let Some(topic) = topics.get_mut(&partition.topic)
            && let Some(placement) = index.and_then(|index| topic.partitions.get_mut(index))
        {
            let is_alive = |broker| {
                let broker: Option<&Broker> = brokers.get(&broker);
                broker.is_some_and(|broker| broker.registration == Registration::Active)
            };
            let isr_min = topic.config.min_insync_replicas;
            let rules = Rules {
                isr_min: effective_isr_min(isr_min, placement.replicas.len()),
                election: match topic.config.unclean_leader_election_enable {
                    true => Election::Unclean,
                    false => Election::Clean,
                },
            };
            placement.apply(change, rules, is_alive);
        }
    }

    /// Brokers for each partition: round robin from the first, `replication_factor` of them.
    ///
    /// Brokers that do not run are used too, as Kafka uses fenced ones (observed on 4.3.1).
    #[must_use]
    pub fn place(&self, partitions: usize, replication_factor: usize) -> Vec<Vec<BrokerId>> {
        let brokers: Vec<BrokerId> = self.brokers.keys().copied().collect();
        (0..partitions)
            .map(|partition| {
                let from = brokers
                    .iter()
                    .cycle()
                    .skip(partition % brokers.len().max(1));
                from.take(replication_factor.min(brokers.len()))
                    .copied()
                    .collect()
            })
            .collect()
    }

    /// Every broker, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The endpoint of a broker that the controller takes for alive.
    #[must_use]
    pub fn live_endpoint(&self, broker: BrokerId) -> Option<&BrokerEndpoint> {
        let broker = self.brokers.get(&broker)?;
        (broker.registration == Registration::Active).then_some(&broker.endpoint)
    }

    /// Whether a broker of this id exists and the controller takes it for alive.
    #[must_use]
    pub fn is_alive(&self, broker: BrokerId) -> bool {
        self.live_endpoint(broker).is_some()
    }

    /// The brokers that are named are reached by these addresses from now on.
    pub fn readdress(&mut self, brokers: &[BrokerEndpoint]) {
        for endpoint in brokers {
            if let Some(broker) = self.brokers.get_mut(&endpoint.id) {
                broker.endpoint.clone_from(endpoint);
            }
        }
    }

    /// The broker of this id.
    #[must_use]
    pub fn broker(&self, broker: BrokerId) -> Option<&Broker> {
        self.brokers.get(&broker)
    }

    pub(super) fn broker_mut(&mut self, broker: BrokerId) -> Option<&mut Broker> {
        self.brokers.get_mut(&broker)
    }

    /// Whether a broker is paused, whatever the controller knows.
    #[must_use]
    pub fn is_paused(&self, broker: BrokerId) -> bool {
        self.broker(broker)
            .is_some_and(|broker| broker.process == Process::Paused)
    }

    /// Whether a broker of this id exists.
    #[must_use]
    pub fn has_broker(&self, broker: BrokerId) -> bool {
        self.brokers.contains_key(&broker)
    }

    /// Every topic, in the order of their making.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// The topic of this key.
    #[must_use]
    pub fn topic(&self, key: TopicKey) -> Option<&Topic> {
        self.topics.get(&key)
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name).and_then(|key| self.topics.get(key))
    }

    /// Another topic whose name differs from this one in `.` and `_` only.
    #[must_use]
    pub fn collision(&self, name: &str) -> Option<&Topic> {
        let key = self.by_metric_name.get(&metric_name(name))?;
        self.topics.get(key).filter(|topic| *topic.name != *name)
    }

    /// How many partitions there may still be: the bound of the cluster less those there are.
    #[must_use]
    pub const fn partition_room(&self) -> usize {
        CLUSTER_PARTITIONS_MAX.saturating_sub(self.partition_count)
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.by_id.get(&id).and_then(|key| self.topics.get(key))
    }

    /// The placement of a partition.
    #[must_use]
    pub fn placement(&self, partition: PartitionKey) -> Option<&Placement> {
        self.topics
            .get(&partition.topic)?
            .placement(partition.partition)
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(self.topics.len(), self.by_name.len(), "topology 3: names");
        assert_eq!(self.topics.len(), self.by_id.len(), "topology 3: ids");
        assert_eq!(
            self.topics.len(),
            self.by_metric_name.len(),
            "topology 3: metric names"
        );
        let partitions: usize = self
            .topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum();
        assert_eq!(partitions, self.partition_count, "topology 5");
        for topic in self.topics.values() {
            for placement in &topic.partitions {
                let mut distinct = placement.replicas.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(
                    distinct.len(),
                    placement.replicas.len(),
                    "topology 4: {}",
                    topic.name
                );
                if let Some(leader) = placement.leadership.leader {
                    assert!(
                        placement.replicas.contains(&leader),
                        "topology 1: {}",
                        topic.name
                    );
                    assert!(
                        self.is_alive(leader),
                        "topology 1: {} led by the dead",
                        topic.name
                    );
                }
            }
        }
    }
}

/// Whether a topic may have this name: 1 to 249 of `a-z A-Z 0-9 . _ -`, but not `.` or `..`.
///
/// apache/kafka `clients/…/common/internals/Topic.java`, `validate`.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    name_fault(name).is_none()
}

/// What is wrong with a topic's name, in Kafka's words; `None` when nothing is.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fault = match name {
        "" => "the empty string is not allowed".into(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > NAME_BYTES_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {NAME_BYTES_MAX}")
        }
        _ if !name.bytes().all(legal) => format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        ),
        _ => return None,
    };
    Some(format!("Topic name is invalid: {fault}"))
}

/// Whether Kafka keeps this topic for itself.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    matches!(
        name,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

/// The name under which a topic's metrics stand: two topics may not share it
/// (`Topic.java`, `hasCollision`).
fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// Bytes of a topic name; Kafka's bound.
pub const NAME_BYTES_MAX: usize = 249;

/// Partitions of one topic; Kafka creates at most as many in one request.
pub const PARTITIONS_MAX: i32 = 10_000;

/// Partitions of all topics: what bounds the memory that requests can take by making topics.
pub const CLUSTER_PARTITIONS_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);
    const THREE: BrokerId = BrokerId(3);

    fn three_brokers() -> Topology {
        Topology::new([ONE, TWO, THREE].map(|id| BrokerEndpoint {
            id,
            host: "localhost".into(),
            port: 9092,
        }))
    }

    fn with_topic(topology: &mut Topology, name: &str) -> PartitionKey {
        let replicas = topology.place(1, 3);
        let id = Uuid::from_u128(u128::from(topology.next_key) + 1);
        let topic = topology.add_topic(name.into(), id, TopicConfig::default(), replicas);
        PartitionKey {
            topic,
            partition: 0,
        }
    }

    #[rstest]
    #[case("orders", true)]
    #[case("a.b_c-D9", true)]
    #[case("__x", true)]
    #[case("", false)]
    #[case(".", false)]
    #[case("..", false)]
    #[case("a b", false)]
    #[case("a/b", false)]
    #[case("ä", false)]
    #[case("a\0", false)]
    fn names_follow_kafkas_rule(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(is_valid_name(name), valid);
    }

    #[test]
    fn names_end_at_249_bytes() {
        assert!(is_valid_name(&"x".repeat(249)));
        assert!(!is_valid_name(&"x".repeat(250)));
    }

    #[rstest]
    #[case("a_b", true)]
    #[case("a.b", false)]
    #[case("a-b", false)]
    fn names_that_differ_in_dots_collide(#[case] name: &str, #[case] collides: bool) {
        let mut topology = three_brokers();
        let first = with_topic(&mut topology, "a.b");
        assert_eq!(topology.collision(name).is_some(), collides);
        topology.remove_topic(first.topic);
        assert!(topology.collision(name).is_none());
        topology.check_invariants();
    }

    #[test]
    fn leaders_are_spread_over_the_brokers() {
        let placed = three_brokers().place(4, 2);
        assert_eq!(placed, [[ONE, TWO], [TWO, THREE], [THREE, ONE], [ONE, TWO]]);
    }

    #[test]
    fn a_topic_made_again_is_another_one() {
        let mut topology = three_brokers();
        let first = with_topic(&mut topology, "orders");
        topology.remove_topic(first.topic);
        assert!(topology.topic_by_name("orders").is_none());
        let second = with_topic(&mut topology, "orders");
        assert_ne!(first.topic, second.topic);
        topology.check_invariants();
    }
}
