//! Configuration that is altered while the cluster runs: for all brokers, for one, for a topic.
//!
//! *State* of a key, the first that is there counts:
//!
//! ```text
//! the topic's own ─▶ the broker's own ─▶ that of all brokers ─▶ the file's ─▶ Kafka's default
//!   alter_topic        alter_brokers       alter_brokers          never alters
//! ```
//!
//! *Invariants*
//! 1. `Cluster::config` is what a broker has that has nothing of its own.
//! 2. A topic's configuration is that broker's, but for the keys that it sets itself.
//! 3. What is kept here was checked: it can be set.
//!
//! *Source* apache/kafka `metadata/…/controller/ConfigurationControlManager.java`,
//! `core/…/server/DynamicBrokerConfig.scala`.
//!
//! *Not here* what may be altered (`handlers/incremental_alter_configs.rs`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::elections::Change;
use super::producer_state::Expiry;
use super::time::Instant;
use super::topology::{PartitionKey, Topic, TopicKey};
use crate::config::{self, BrokerConfig, TopicConfig};

/// Keys with their values.
pub type Settings = BTreeMap<&'static str, String>;

/// For which brokers a key is altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterScope {
    /// For all.
    AllBrokers,
    /// For one.
    Broker(BrokerId),
}

/// What was altered of the brokers' configuration.
#[derive(Clone, Debug)]
pub struct DynamicConfig {
    started: BrokerConfig,
    of_all: Settings,
    of_broker: BTreeMap<BrokerId, Settings>,
}

impl DynamicConfig {
    /// What a cluster has that was started with this configuration. One with eligible leader
    /// replicas (KIP-966) keeps `min.insync.replicas` for all brokers from its first day.
    #[must_use]
    pub fn new(started: BrokerConfig) -> Self {
        let isr_min = started.value(ISR_MIN).unwrap_or_default();
        Self {
            of_all: BTreeMap::from([(ISR_MIN, isr_min)]),
            of_broker: BTreeMap::new(),
            started,
        }
    }

    /// The configuration of the file.
    #[must_use]
    pub const fn started(&self) -> &BrokerConfig {
        &self.started
    }

    /// What was altered for these brokers.
    #[must_use]
    pub fn altered(&self, scope: AlterScope) -> Option<&Settings> {
        match scope {
            AlterScope::AllBrokers => Some(&self.of_all),
            AlterScope::Broker(broker) => self.of_broker.get(&broker),
        }
    }

    fn alter(&mut self, scope: AlterScope, settings: Settings) {
        match scope {
            AlterScope::AllBrokers => self.of_all = settings,
            AlterScope::Broker(broker) if settings.is_empty() => {
                self.of_broker.remove(&broker);
            }
            AlterScope::Broker(broker) => {
                self.of_broker.insert(broker, settings);
            }
        }
    }

    fn of_all_brokers(&self) -> BrokerConfig {
        with(self.started.clone(), &self.of_all)
    }

    /// The configuration of a broker, where `all` is that of those with nothing of their own.
    fn of<'a>(&self, broker: BrokerId, all: &'a BrokerConfig) -> Cow<'a, BrokerConfig> {
        match self.of_broker.get(&broker) {
            Some(own) => Cow::Owned(with(all.clone(), own)),
            None => Cow::Borrowed(all),
        }
    }

    /// The configuration of a topic on a broker, likewise.
    pub(super) fn of_topic<'a>(
        &self,
        topic: &'a TopicConfig,
        broker: BrokerId,
        all: &BrokerConfig,
    ) -> Cow<'a, TopicConfig> {
        let own = self.of_broker.get(&broker);
        let mut keys = own.into_iter().flat_map(|own| own.keys());
        if keys.any(|key| config::topic_key(key).is_some()) {
            Cow::Owned(self.of(broker, all).topic.overridden_by(topic))
        } else {
            Cow::Borrowed(topic)
        }
    }
}

/// A configuration with settings that were checked.
fn with(mut config: BrokerConfig, settings: &Settings) -> BrokerConfig {
    for (key, value) in settings {
        let set = config.set(key, value);
        debug_assert!(set.is_ok(), "dynamic config 3: {key}");
    }
    config
}

impl Cluster {
    /// What was altered of the brokers' configuration.
    #[must_use]
    pub const fn dynamic_config(&self) -> &DynamicConfig {
        &self.dynamic
    }

    /// Replaces what is altered for these brokers; the settings were checked.
    pub fn alter_brokers(&mut self, scope: AlterScope, settings: Settings, now: Instant) {
        self.dynamic.alter(scope, settings);
        self.config = self.dynamic.of_all_brokers();
        let topics: Vec<TopicKey> = self.topology.topics().map(|topic| topic.key).collect();
        for topic in topics {
            self.reconfigure(topic, None, now);
        }
    }

    /// Gives a topic another configuration: of `own` the keys count that it assigns.
    pub fn alter_topic(&mut self, topic: TopicKey, own: &TopicConfig, now: Instant) {
        self.reconfigure(topic, Some(own), now);
    }

    fn reconfigure(&mut self, topic: TopicKey, own: Option<&TopicConfig>, now: Instant) {
        let Some(known) = self.topology.topic(topic) else {
            return;
        };
        let config = self
            .config
            .topic
            .overridden_by(own.unwrap_or(&known.config));
        let indexes = known.indexes();
        self.topology.set_topic_config(topic, config);
        // Who waits may be done: fewer replicas are enough, or any of them may lead.
        for partition in indexes {
            let key = PartitionKey { topic, partition };
            self.topology.change(key, &Change::None);
            self.on_replicas_changed(key, now);
        }
    }

    /// The configuration of a broker.
    #[must_use]
    pub fn config_of(&self, broker: BrokerId) -> Cow<'_, BrokerConfig> {
        self.dynamic.of(broker, &self.config)
    }

    /// The configuration of a topic on a broker.
    #[must_use]
    pub fn topic_config<'a>(&'a self, topic: &'a Topic, broker: BrokerId) -> Cow<'a, TopicConfig> {
        self.dynamic.of_topic(&topic.config, broker, &self.config)
    }

    /// When a broker forgets idle producers.
    #[must_use]
    pub fn expiry(&self, broker: BrokerId) -> Expiry {
        Expiry {
            idle_ms: i64::from(self.config_of(broker).producer_id_expiration_ms),
            ..self.expiry
        }
    }
}

/// The key that a cluster with eligible leader replicas keeps for all brokers.
pub const ISR_MIN: &str = "min.insync.replicas";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&'static str, &str)]) -> Settings {
        let owned = |(key, value): &(&'static str, &str)| (*key, (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn the_nearest_setting_counts() {
        let mut started = BrokerConfig::default();
        started.set("message.max.bytes", "100").unwrap();
        let mut dynamic = DynamicConfig::new(started);
        assert_eq!(dynamic.of_all_brokers().topic.max_message_bytes, 100);
        dynamic.alter(
            AlterScope::AllBrokers,
            settings(&[("message.max.bytes", "200")]),
        );
        assert_eq!(dynamic.of_all_brokers().topic.max_message_bytes, 200);
        let own = settings(&[("message.max.bytes", "300")]);
        let of_one = with(dynamic.of_all_brokers(), &own);
        assert_eq!(of_one.topic.max_message_bytes, 300);
        let mut topic = TopicConfig::default();
        topic.set("segment.bytes", "2000000").unwrap();
        let topic = of_one.topic.overridden_by(&topic);
        assert_eq!(
            (topic.max_message_bytes, topic.segment_bytes),
            (300, 2_000_000)
        );
        assert_eq!(
            topic.assigned.into_iter().collect::<Vec<_>>(),
            ["segment.bytes"]
        );
    }

    #[test]
    fn what_is_no_longer_altered_is_as_the_file_says() {
        let mut dynamic = DynamicConfig::new(BrokerConfig::default());
        let one = AlterScope::Broker(BrokerId(1));
        dynamic.alter(one, settings(&[("compression.type", "gzip")]));
        assert!(dynamic.altered(one).is_some());
        dynamic.alter(one, settings(&[]));
        assert_eq!(dynamic.altered(one), None);
        dynamic.alter(AlterScope::AllBrokers, settings(&[]));
        assert_eq!(dynamic.of_all_brokers(), BrokerConfig::default());
    }
}
