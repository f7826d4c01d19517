//! Broker and topic configuration by Kafka's names, with Kafka 4.3's defaults and ranges.
//!
//! Only keys whose effect is modelled exist: a key that the mock would ignore is refused, with the
//! nearest name that it knows.
//!
//! *Source*: `ServerLogConfigs`, `ReplicationConfigs`, `SocketServerConfigs`, `LogConfig` and
//! `TransactionLogConfig` of apache/kafka 4.3.
//!
//! *Deviations*: a broker ignores unknown keys with a warning, here they are errors; the ranges of
//! `default.replication.factor` and `replica.lag.time.max.ms` are narrower, where Kafka takes
//! values with which nothing works.

mod error;
mod groups;
mod transactions;

pub use error::ConfigError;
pub use groups::GroupConfig;
pub use transactions::TransactionConfig;

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeSet;

/// Which clock the timestamps of a topic follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's (`CreateTime`).
    #[default]
    CreateTime,
    /// The broker's, at the append (`LogAppendTime`).
    LogAppendTime,
}

/// The codec in which a topic keeps its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// The one that the producer chose.
    #[default]
    Producer,
    /// None.
    Uncompressed,
    /// Gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What becomes of old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Deleted by time and size.
    #[default]
    Delete,
    /// Compacted by key, so that a record without one is refused.
    Compact,
    /// Both.
    CompactAndDelete,
    /// Both, named the other way round.
    DeleteAndCompact,
    /// Neither: everything is kept.
    Neither,
}

impl CleanupPolicy {
    /// Whether records need a key.
    #[must_use]
    pub const fn is_compacted(self) -> bool {
        matches!(
            self,
            Self::Compact | Self::CompactAndDelete | Self::DeleteAndCompact
        )
    }
}

/// The configuration of every broker of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `auto.create.topics.enable`: whether Metadata creates a topic that it is asked for.
    pub auto_create_topics_enable: bool,
    /// `num.partitions`: of a topic that is created without saying how many; at least 1.
    pub num_partitions: i32,
    /// `default.replication.factor`: likewise; 1 to 32,767.
    pub default_replication_factor: i16,
    /// `connections.max.idle.ms`: a connection without traffic is closed after it; below 0 never.
    pub connections_max_idle_ms: i64,
    /// `max.incremental.fetch.session.cache.slots`: how many fetch sessions a broker keeps; at
    /// least 0.
    pub max_incremental_fetch_session_cache_slots: i32,
    /// `max.connections.per.ip`: the next connection of the same host to the same broker is closed;
    /// at least 0.
    pub max_connections_per_ip: i32,
    /// `quota.window.num`: over how many samples the rate of a client is told; at least 1.
    pub quota_window_num: i32,
    /// `quota.window.size.seconds`: of one sample; at least 1.
    pub quota_window_size_seconds: i32,
    /// `socket.request.max.bytes`: a frame above it closes its connection; at least 1.
    pub socket_request_max_bytes: i32,
    /// `broker.session.timeout.ms`: how long a paused broker leads what it led; at least 1.
    pub broker_session_timeout_ms: i32,
    /// `replica.lag.time.max.ms`: how long a follower may lag before it leaves the ISR; at least 1.
    pub replica_lag_time_max_ms: i64,
    /// `producer.id.expiration.ms`: how long an idle producer's sequences are known; at least 1.
    pub producer_id_expiration_ms: i32,
    /// `producer.id.expiration.check.interval.ms`: how often that is looked after; at least 1.
    pub producer_id_expiration_check_interval_ms: i32,
    /// How it coordinates groups.
    pub groups: GroupConfig,
    /// How it coordinates transactions.
    pub transactions: TransactionConfig,
    /// What holds for topics that do not say otherwise.
    pub topic: TopicConfig,
    /// The keys of brokers alone that [`set`](Self::set) was given; those of topics are in `topic`.
    pub assigned: BTreeSet<&'static str>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            auto_create_topics_enable: true,
            num_partitions: 1,
            default_replication_factor: 1,
            connections_max_idle_ms: 600_000,
            max_incremental_fetch_session_cache_slots: 1_000,
            max_connections_per_ip: i32::MAX,
            quota_window_num: 11,
            quota_window_size_seconds: 1,
            socket_request_max_bytes: 104_857_600,
            broker_session_timeout_ms: 9_000,
            replica_lag_time_max_ms: 30_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
            groups: GroupConfig::default(),
            transactions: TransactionConfig::default(),
            topic: TopicConfig::default(),
            assigned: BTreeSet::new(),
        }
    }
}

impl BrokerConfig {
    /// The keys that [`set`](Self::set) takes.
    pub const KEYS: &'static [&'static str] = &[
        "auto.create.topics.enable",
        "broker.session.timeout.ms",
        "compression.type",
        "connections.max.idle.ms",
        "default.replication.factor",
        "group.initial.rebalance.delay.ms",
        "group.max.session.timeout.ms",
        "group.min.session.timeout.ms",
        "log.cleanup.policy",
        "log.message.timestamp.after.max.ms",
        "log.message.timestamp.before.max.ms",
        "log.message.timestamp.type",
        "log.segment.bytes",
        "max.connections.per.ip",
        "max.incremental.fetch.session.cache.slots",
        "message.max.bytes",
        "min.insync.replicas",
        "num.partitions",
        "producer.id.expiration.check.interval.ms",
        "producer.id.expiration.ms",
        "quota.window.num",
        "quota.window.size.seconds",
        "replica.lag.time.max.ms",
        "socket.request.max.bytes",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "transaction.max.timeout.ms",
        "transaction.partition.verification.enable",
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "transactional.id.expiration.ms",
        "unclean.leader.election.enable",
    ];

    /// Sets one key of `server.properties`.
    ///
    /// # Errors
    ///
    /// An unknown key, with the nearest known one; a value that the key does not allow, with what
    /// it does.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if let Some(topic_key) = topic_key(key) {
            let set = self.topic.set(topic_key, value);
            return set.map_err(|error| error.of_key(key));
        }
        match key {
            "auto.create.topics.enable" => {
                self.auto_create_topics_enable = boolean(key, value)?;
            }
            "num.partitions" => assign(&mut self.num_partitions, key, value, 1..=i32::MAX)?,
            "default.replication.factor" => {
                let factor = &mut self.default_replication_factor;
                assign(factor, key, value, 1..=i16::MAX)?;
            }
            "connections.max.idle.ms" => {
                assign(&mut self.connections_max_idle_ms, key, value, -1..=i64::MAX)?;
            }
            "max.incremental.fetch.session.cache.slots" => {
                let slots = &mut self.max_incremental_fetch_session_cache_slots;
                assign(slots, key, value, 0..=i32::MAX)?;
            }
            "max.connections.per.ip" => {
                assign(&mut self.max_connections_per_ip, key, value, 0..=i32::MAX)?;
            }
            "quota.window.num" => assign(&mut self.quota_window_num, key, value, 1..=i32::MAX)?,
            "quota.window.size.seconds" => {
                assign(
                    &mut self.quota_window_size_seconds,
                    key,
                    value,
                    1..=i32::MAX,
                )?;
            }
            "socket.request.max.bytes" => {
                assign(&mut self.socket_request_max_bytes, key, value, 1..=i32::MAX)?;
            }
            "broker.session.timeout.ms" => {
                let timeout_ms = &mut self.broker_session_timeout_ms;
                assign(timeout_ms, key, value, 1..=i32::MAX)?;
            }
            "replica.lag.time.max.ms" => {
                assign(&mut self.replica_lag_time_max_ms, key, value, 1..=i64::MAX)?;
            }
            "producer.id.expiration.ms" => {
                let expiration_ms = &mut self.producer_id_expiration_ms;
                assign(expiration_ms, key, value, 1..=i32::MAX)?;
            }
            "producer.id.expiration.check.interval.ms" => {
                let interval_ms = &mut self.producer_id_expiration_check_interval_ms;
                assign(interval_ms, key, value, 1..=i32::MAX)?;
            }
            _ if key.starts_with("group.") => self.groups.set(key, value)?,
            _ if key.starts_with("transaction") => self.transactions.set(key, value)?,
            _ => return Err(ConfigError::unknown_key(key, value, Self::KEYS)),
        }
        self.assigned.extend(known(Self::KEYS, key));
        Ok(())
    }

    /// The value of a key as Kafka prints it; `None` for a key that is not one of
    /// [`KEYS`](Self::KEYS).
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        if let Some(topic_key) = topic_key(key) {
            return self.topic.value(topic_key);
        }
        Some(match key {
            "auto.create.topics.enable" => self.auto_create_topics_enable.to_string(),
            "num.partitions" => self.num_partitions.to_string(),
            "default.replication.factor" => self.default_replication_factor.to_string(),
            "connections.max.idle.ms" => self.connections_max_idle_ms.to_string(),
            "max.connections.per.ip" => self.max_connections_per_ip.to_string(),
            "max.incremental.fetch.session.cache.slots" => {
                self.max_incremental_fetch_session_cache_slots.to_string()
            }
            "quota.window.num" => self.quota_window_num.to_string(),
            "quota.window.size.seconds" => self.quota_window_size_seconds.to_string(),
            "socket.request.max.bytes" => self.socket_request_max_bytes.to_string(),
            "broker.session.timeout.ms" => self.broker_session_timeout_ms.to_string(),
            "replica.lag.time.max.ms" => self.replica_lag_time_max_ms.to_string(),
            "producer.id.expiration.ms" => self.producer_id_expiration_ms.to_string(),
            "producer.id.expiration.check.interval.ms" => {
                self.producer_id_expiration_check_interval_ms.to_string()
            }
            _ => {
                return self
                    .transactions
                    .value(key)
                    .or_else(|| self.groups.value(key));
            }
        })
    }

    /// How long a connection may be without traffic; `None` for ever.
    #[must_use]
    pub(crate) fn connections_max_idle(&self) -> Option<Duration> {
        let idle_ms = u64::try_from(self.connections_max_idle_ms).ok();
        idle_ms.map(Duration::from_millis)
    }

    /// Whether [`set`](Self::set) was given this key, even with the default's value.
    #[must_use]
    pub fn is_assigned(&self, key: &str) -> bool {
        match topic_key(key) {
            Some(topic_key) => self.topic.assigned.contains(topic_key),
            None => self.assigned.contains(key),
        }
    }
}

/// Keys of topics with the brokers' names of their defaults: apache/kafka
/// ServerTopicConfigSynonyms.
const SYNONYMS: [(&str, &str); 9] = [
    ("cleanup.policy", "log.cleanup.policy"),
    ("compression.type", "compression.type"),
    ("max.message.bytes", "message.max.bytes"),
    (
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
    ),
    (
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
    ),
    ("message.timestamp.type", "log.message.timestamp.type"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("segment.bytes", "log.segment.bytes"),
    (
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
    ),
];

/// The topics' name of a broker's key, if it is a default of topics.
#[must_use]
pub(crate) fn topic_key(broker_key: &str) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|(_, broker)| *broker == broker_key);
    synonym.map(|(topic, _)| *topic)
}

/// The brokers' name of a topic's key.
#[must_use]
pub(crate) fn broker_key(topic_key: &str) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|(topic, _)| *topic == topic_key);
    synonym.map(|(_, broker)| *broker)
}

fn known(keys: &'static [&'static str], key: &str) -> Option<&'static str> {
    keys.iter().copied().find(|known| *known == key)
}

/// The configuration of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `min.insync.replicas`: an append with acks=all needs this many in the ISR (or as many as
    /// there are replicas, if fewer); at least 1.
    pub min_insync_replicas: i32,
    /// `max.message.bytes`: of a batch as sent, with its offset and length; at least 0.
    pub max_message_bytes: i32,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record may lie in the past; at least 0.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a record may lie in the future; at least 0.
    pub message_timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub compression_type: CompressionType,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `segment.bytes`: a batch above it is refused; at least 1 MiB (KIP-1030).
    pub segment_bytes: i32,
    /// `unclean.leader.election.enable`: whether a replica that is not in sync may lead where no
    /// other can, which loses what it lacks.
    pub unclean_leader_election_enable: bool,
    /// The keys that [`set`](Self::set) was given; the others are as they were inherited.
    pub assigned: BTreeSet<&'static str>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            min_insync_replicas: 1,
            max_message_bytes: 1_048_588,
            message_timestamp_type: TimestampType::default(),
            message_timestamp_before_max_ms: i64::MAX,
            // One hour since 4.0: KIP-1030.
            message_timestamp_after_max_ms: 3_600_000,
            compression_type: CompressionType::default(),
            cleanup_policy: CleanupPolicy::default(),
            segment_bytes: 1_073_741_824,
            unclean_leader_election_enable: false,
            assigned: BTreeSet::new(),
        }
    }
}

impl TopicConfig {
    /// The keys that [`set`](Self::set) takes.
    pub const KEYS: &'static [&'static str] = &[
        "cleanup.policy",
        "compression.type",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.insync.replicas",
        "segment.bytes",
        "unclean.leader.election.enable",
    ];

    /// Sets one key of a topic's configuration, as CreateTopics carries them.
    ///
    /// # Errors
    ///
    /// An unknown key, with the nearest known one; a value that the key does not allow, with what
    /// it does.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "min.insync.replicas" => {
                assign(&mut self.min_insync_replicas, key, value, 1..=i32::MAX)?;
            }
            "max.message.bytes" => assign(&mut self.max_message_bytes, key, value, 0..=i32::MAX)?,
            "message.timestamp.before.max.ms" => {
                let before_ms = &mut self.message_timestamp_before_max_ms;
                assign(before_ms, key, value, 0..=i64::MAX)?;
            }
            "message.timestamp.after.max.ms" => {
                let after_ms = &mut self.message_timestamp_after_max_ms;
                assign(after_ms, key, value, 0..=i64::MAX)?;
            }
            "segment.bytes" => assign(&mut self.segment_bytes, key, value, 1_048_576..=i32::MAX)?,
            "unclean.leader.election.enable" => {
                self.unclean_leader_election_enable = boolean(key, value)?;
            }
            "message.timestamp.type" => {
                self.message_timestamp_type = choice(key, value, TIMESTAMP_TYPES)?;
            }
            "compression.type" => self.compression_type = choice(key, value, COMPRESSION_TYPES)?,
            "cleanup.policy" => {
                let words = listed(value);
                let policy = choice(key, &words.join(","), CLEANUP_POLICIES);
                self.cleanup_policy = policy.map_err(|error| error.of_value(value))?;
            }
            _ => return Err(ConfigError::unknown_key(key, value, Self::KEYS)),
        }
        self.assigned.extend(known(Self::KEYS, key));
        Ok(())
    }

    /// The value of a key as Kafka prints it; `None` for a key that is not one of
    /// [`KEYS`](Self::KEYS).
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        Some(match key {
            "min.insync.replicas" => self.min_insync_replicas.to_string(),
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "message.timestamp.before.max.ms" => self.message_timestamp_before_max_ms.to_string(),
            "message.timestamp.after.max.ms" => self.message_timestamp_after_max_ms.to_string(),
            "segment.bytes" => self.segment_bytes.to_string(),
            "unclean.leader.election.enable" => self.unclean_leader_election_enable.to_string(),
            "message.timestamp.type" => chosen(self.message_timestamp_type, TIMESTAMP_TYPES),
            "compression.type" => chosen(self.compression_type, COMPRESSION_TYPES),
            "cleanup.policy" => chosen(self.cleanup_policy, CLEANUP_POLICIES),
            _ => return None,
        })
    }

    /// What a topic has of this configuration that sets some keys itself: those that `own` assigns.
    #[must_use]
    pub(crate) fn overridden_by(&self, own: &Self) -> Self {
        let mut config = self.inherited();
        for key in &own.assigned {
            let set = config.set(key, &own.value(key).unwrap_or_default());
            debug_assert!(set.is_ok(), "what is set can be set again: {key}");
        }
        config
    }

    /// Takes back what was set for a key: it is as in `defaults`.
    pub(crate) fn unset(&mut self, key: &str, defaults: &Self) {
        let mut own = self.clone();
        own.assigned.remove(key);
        *self = defaults.overridden_by(&own);
    }

    /// What a topic has that says nothing itself.
    #[must_use]
    pub(crate) fn inherited(&self) -> Self {
        Self {
            assigned: BTreeSet::new(),
            ..self.clone()
        }
    }
}

fn assign<N>(
    field: &mut N,
    key: &str,
    value: &str,
    allowed: RangeInclusive<N>,
) -> Result<(), ConfigError>
where
    N: FromStr + PartialOrd + fmt::Display,
{
    match value.trim().parse() {
        Ok(number) if allowed.contains(&number) => {
            *field = number;
            Ok(())
        }
        _ => {
            let allowed = format!(
                "a whole number from {} to {}",
                allowed.start(),
                allowed.end()
            );
            Err(ConfigError::bad_value(key, value, allowed))
        }
    }
}

/// The words of a list, each once and without spaces around it; Kafka reads lists so.
pub(crate) fn listed(value: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in value.trim().split(',').map(str::trim) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

fn boolean(key: &str, value: &str) -> Result<bool, ConfigError> {
    // apache/kafka ConfigDef.parseType: trimmed, and in any case.
    match value.trim() {
        word if word.eq_ignore_ascii_case("true") => Ok(true),
        word if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(ConfigError::bad_value(key, value, "true or false")),
    }
}

fn choice<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
    match choices.iter().find(|(name, _)| *name == value.trim()) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let names = choices.iter().map(|(name, _)| *name);
            let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
            let allowed = format!("one of: {}", names.join(" | "));
            Err(ConfigError::bad_value(key, value, allowed))
        }
    }
}

/// The name of a choice; the tables name every one.
fn chosen<T: PartialEq>(value: T, choices: &[(&str, T)]) -> String {
    let named = choices.iter().find(|(_, choice)| *choice == value);
    named.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

const TIMESTAMP_TYPES: &[(&str, TimestampType)] = &[
    ("CreateTime", TimestampType::CreateTime),
    ("LogAppendTime", TimestampType::LogAppendTime),
];

const COMPRESSION_TYPES: &[(&str, CompressionType)] = &[
    ("producer", CompressionType::Producer),
    ("uncompressed", CompressionType::Uncompressed),
    ("gzip", CompressionType::Gzip),
    ("snappy", CompressionType::Snappy),
    ("lz4", CompressionType::Lz4),
    ("zstd", CompressionType::Zstd),
];

const CLEANUP_POLICIES: &[(&str, CleanupPolicy)] = &[
    ("delete", CleanupPolicy::Delete),
    ("compact", CleanupPolicy::Compact),
    ("compact,delete", CleanupPolicy::CompactAndDelete),
    ("delete,compact", CleanupPolicy::DeleteAndCompact),
    ("", CleanupPolicy::Neither),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Each key with Kafka 4.3.1's default as Kafka prints it.
    const DEFAULTS: &[(&str, &str)] = &[
        ("auto.create.topics.enable", "true"),
        ("broker.session.timeout.ms", "9000"),
        ("compression.type", "producer"),
        ("connections.max.idle.ms", "600000"),
        ("default.replication.factor", "1"),
        // Kafka's is 3000, its image's 0: nobody is waited for unless a test asks for it.
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.max.session.timeout.ms", "1800000"),
        ("group.min.session.timeout.ms", "6000"),
        ("log.cleanup.policy", "delete"),
        ("log.message.timestamp.after.max.ms", "3600000"),
        ("log.message.timestamp.before.max.ms", "9223372036854775807"),
        ("log.message.timestamp.type", "CreateTime"),
        ("log.segment.bytes", "1073741824"),
        ("max.connections.per.ip", "2147483647"),
        ("max.incremental.fetch.session.cache.slots", "1000"),
        ("message.max.bytes", "1048588"),
        ("min.insync.replicas", "1"),
        ("num.partitions", "1"),
        ("producer.id.expiration.check.interval.ms", "600000"),
        ("producer.id.expiration.ms", "86400000"),
        ("quota.window.num", "11"),
        ("quota.window.size.seconds", "1"),
        ("replica.lag.time.max.ms", "30000"),
        ("socket.request.max.bytes", "104857600"),
        (
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "10000",
        ),
        ("transaction.max.timeout.ms", "900000"),
        ("transaction.partition.verification.enable", "true"),
        (
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "3600000",
        ),
        ("transactional.id.expiration.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ];

    #[test]
    fn defaults_are_kafkas() {
        let keys: Vec<&str> = DEFAULTS.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, BrokerConfig::KEYS, "every key has its default listed");
        for (key, value) in DEFAULTS {
            let mut config = BrokerConfig::default();
            assert_eq!(config.value(key).as_deref(), Some(*value), "{key}");
            assert!(!config.is_assigned(key), "{key}");
            config.set(key, value).unwrap();
            assert_eq!(config.value(key).as_deref(), Some(*value), "{key}");
            assert!(config.is_assigned(key), "{key}");
        }
    }

    #[test]
    fn every_topic_key_has_a_default_of_the_brokers() {
        let named: Vec<&str> = SYNONYMS.iter().map(|(topic, _)| *topic).collect();
        assert_eq!(named, TopicConfig::KEYS);
        for key in TopicConfig::KEYS {
            let broker_key = broker_key(key).unwrap();
            assert!(BrokerConfig::KEYS.contains(&broker_key), "{key}");
            assert_eq!(topic_key(broker_key), Some(*key));
        }
    }

    #[rstest]
    #[case("auto.create.topics.enable", "false")]
    #[case("auto.create.topics.enable", " FALSE ")]
    #[case("broker.session.timeout.ms", "6000")]
    #[case("compression.type", "zstd")]
    #[case("default.replication.factor", "3")]
    #[case("log.cleanup.policy", "compact,delete")]
    #[case("log.message.timestamp.after.max.ms", "0")]
    #[case("log.message.timestamp.before.max.ms", "1000")]
    #[case("log.message.timestamp.type", "LogAppendTime")]
    #[case("log.segment.bytes", "1048576")]
    #[case("message.max.bytes", "0")]
    #[case("min.insync.replicas", "2")]
    #[case("num.partitions", "2147483647")]
    #[case("producer.id.expiration.check.interval.ms", "1")]
    #[case("producer.id.expiration.ms", "3000")]
    #[case("replica.lag.time.max.ms", "4000")]
    #[case("transaction.max.timeout.ms", "1000")]
    #[case("transaction.partition.verification.enable", "false")]
    #[case("transactional.id.expiration.ms", "1")]
    #[case("connections.max.idle.ms", "-1")]
    #[case("max.connections.per.ip", "0")]
    #[case("quota.window.num", "1")]
    #[case("quota.window.size.seconds", "2")]
    #[case("socket.request.max.bytes", "1")]
    fn good_value_changes_the_configuration(#[case] key: &str, #[case] value: &str) {
        let mut config = BrokerConfig::default();
        config.set(key, value).unwrap();
        assert_ne!(config.value(key), BrokerConfig::default().value(key));
    }

    #[rstest]
    #[case("num.partitions", "0", "a whole number from 1 to 2147483647")]
    #[case("num.partitions", "many", "a whole number from 1 to 2147483647")]
    #[case("num.partitions", "2147483648", "a whole number from 1 to 2147483647")]
    #[case("default.replication.factor", "0", "a whole number from 1 to 32767")]
    #[case("message.max.bytes", "-1", "a whole number from 0 to 2147483647")]
    #[case(
        "log.segment.bytes",
        "1048575",
        "a whole number from 1048576 to 2147483647"
    )]
    #[case("auto.create.topics.enable", "yes", "true or false")]
    #[case(
        "log.message.timestamp.type",
        "createtime",
        "one of: CreateTime | LogAppendTime"
    )]
    fn bad_value_names_key_value_and_what_is_allowed(
        #[case] key: &str,
        #[case] value: &str,
        #[case] allowed: &str,
    ) {
        let mut config = BrokerConfig::default();
        let error = config.set(key, value).unwrap_err();
        assert_eq!(
            (error.key(), error.value(), error.allowed()),
            (key, value, Some(allowed))
        );
        assert_eq!(
            error.to_string(),
            format!("{key} cannot be `{value}`: allowed is {allowed}")
        );
        assert_eq!(
            config,
            BrokerConfig::default(),
            "a refused value changes nothing"
        );
    }

    #[rstest]
    #[case("num.partition", Some("num.partitions"))]
    #[case("message.timestamp.type", Some("log.message.timestamp.type"))]
    #[case("min.insync.replica.count", Some("min.insync.replicas"))]
    #[case("zzzz", None)]
    fn unknown_key_names_the_nearest(#[case] key: &str, #[case] nearest: Option<&str>) {
        let error = BrokerConfig::default().set(key, "1").unwrap_err();
        assert_eq!(error.allowed(), None);
        match nearest {
            Some(nearest) => assert!(error.to_string().ends_with(nearest), "{error}"),
            None => assert!(error.to_string().ends_with("models"), "{error}"),
        }
    }

    #[test]
    fn every_topic_key_is_taken_and_no_other() {
        let mut config = TopicConfig::default();
        for key in TopicConfig::KEYS {
            let error = config.set(key, "\u{0}").unwrap_err();
            assert!(error.allowed().is_some(), "{error}");
        }
        assert!(
            config
                .set("num.partitions", "1")
                .unwrap_err()
                .allowed()
                .is_none()
        );
    }
}
