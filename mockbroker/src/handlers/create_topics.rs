//! CreateTopics (key 19), versions 2 to 7.
//!
//! | Version | |
//! |---|---|
//! | 4 | -1 partitions or replicas: the broker's default (KIP-464) |
//! | 5 | flexible; partitions and replicas in the answer (KIP-525) |
//! | 7 | the topic's id in the answer |
//!
//! *Invariants*
//! 1. A topic named twice is refused in each place.
//! 2. What is only to be checked leaves no trace.
//! 3. The answer lists every key of a topic in the order of the alphabet, as Kafka's does.
//!
//! *Source* apache/kafka `metadata/…/controller/ReplicationControlManager.java` createTopics;
//! texts observed on 4.3.1.
//!
//! *Deviations* topics are made by whichever broker is asked. Of the configuration in the answer
//! only what the mock models can differ from the defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Context, config_faults, describe_configs};
use crate::config::TopicConfig;
use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
use crate::engine::topology::{PARTITIONS_MAX, name_fault};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::ConfigSource;
use crate::wire::reply::{self, CreatedTopic, Reply};
use crate::wire::request::{CreateMode, CreateTopics, NewTopic};

/// Makes the topics that can be, or checks whether they can.
pub fn handle(cluster: &mut Cluster, context: &Context, request: &CreateTopics) -> Answer {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *named.entry(&topic.name).or_default() += 1;
    }
    let mut room = PARTITIONS_PER_REQUEST_MAX;
    let topics = request.topics.iter().map(|topic| {
        if let Some(code) = context.injection.topic_refusal(&topic.name) {
            return failed(
                topic,
                Refused {
                    error: code,
                    message: None,
                },
            );
        }
        let once = named.get(topic.name.as_str()) == Some(&1);
        let plan = if once {
            plan(cluster, topic)
        } else {
            Err(named_twice())
        };
        let mut row = match plan.and_then(|plan| within(&mut room, cluster, plan)) {
            Ok(plan) => done(cluster, topic, plan, request.mode),
            Err(refused) => failed(topic, refused),
        };
        row.error = context
            .injection
            .topic_overwriting(&topic.name)
            .unwrap_or(row.error);
        row
    });
    let topics = topics.collect();
    Answer::Reply(Reply::CreateTopics(reply::CreateTopics { topics }))
}

fn named_twice() -> Refused {
    refused(ErrorCode::INVALID_REQUEST, "Duplicate topic name.")
}

/// Kafka makes a bounded number of partitions in one request.
fn within(room: &mut usize, cluster: &Cluster, plan: Plan) -> Result<Plan, Refused> {
    let partitions = plan.replicas.len();
    if partitions > *room || partitions > cluster.topology().partition_room() {
        let message = "Excessively large number of partitions per request.";
        return Err(refused(ErrorCode::POLICY_VIOLATION, message));
    }
    *room -= partitions;
    Ok(plan)
}

struct Plan {
    config: TopicConfig,
    replicas: Vec<Vec<BrokerId>>,
}

struct Refused {
    error: ErrorCode,
    message: Option<String>,
}

fn refused(error: ErrorCode, message: impl Into<String>) -> Refused {
    Refused {
        error,
        message: Some(message.into()),
    }
}

fn plan(cluster: &Cluster, topic: &NewTopic) -> Result<Plan, Refused> {
    let name = &topic.name;
    if let Some(message) = name_fault(name) {
        return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    if cluster.topology().topic_by_name(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(refused(ErrorCode::TOPIC_ALREADY_EXISTS, message));
    }
    if let Some(other) = cluster.topology().collision(name) {
        let message = format!(
            "Topic '{name}' collides with existing topic: {}",
            other.name
        );
        return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    let config = configured(cluster, topic)?;
    let replicas = if topic.assignments.is_empty() {
        placed(cluster, topic)?
    } else {
        assigned(cluster, topic)?
    };
    Ok(Plan { config, replicas })
}

fn configured(cluster: &Cluster, topic: &NewTopic) -> Result<TopicConfig, Refused> {
    let mut config = cluster.config().topic.inherited();
    for (key, value) in &topic.configs {
        let Some(value) = value else {
            let message = format!("Null value not supported for topic configs: {key}");
            return Err(refused(ErrorCode::INVALID_CONFIG, message));
        };
        config
            .set(key, value)
            .map_err(|error| refused(ErrorCode::INVALID_CONFIG, config_faults::of_topic(&error)))?;
    }
    Ok(config)
}

fn placed(cluster: &Cluster, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let partitions = match topic.partitions {
        -1 => cluster.config().num_partitions,
        asked => asked,
    };
    let partitions = usize::try_from(partitions)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| {
            let message = "Number of partitions was set to an invalid non-positive value.";
            refused(ErrorCode::INVALID_PARTITIONS, message)
        })?;
    if partitions > PARTITIONS_PER_REQUEST_MAX {
        let message = "Excessively large number of partitions per request.";
        return Err(refused(ErrorCode::POLICY_VIOLATION, message));
    }
    let replicas = match topic.replication_factor {
        -1 => cluster.config().default_replication_factor,
        asked => asked,
    };
    let replicas = usize::try_from(replicas)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| {
            let message = "Replication factor must be larger than 0.";
            refused(ErrorCode::INVALID_REPLICATION_FACTOR, message)
        })?;
    let brokers = cluster.topology().brokers().count();
    if replicas > brokers {
        let message = format!(
            "Unable to replicate the partition {replicas} time(s): The target replication factor \
             of {replicas} cannot be reached because only {brokers} broker(s) are registered."
        );
        return Err(refused(ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    Ok(cluster.topology().place(partitions, replicas))
}

/// Partitions 0, 1, 2, … each on brokers that exist, all on as many.
fn assigned(cluster: &Cluster, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let wrong = |message: &str| refused(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    if topic.partitions != -1 || topic.replication_factor != -1 {
        let message = "A manual partition assignment was specified, but numPartitions or \
                       replicationFactor was not set to -1.";
        return Err(refused(ErrorCode::INVALID_REQUEST, message));
    }
    let mut assignments = topic.assignments.clone();
    assignments.sort_by_key(|(partition, _)| *partition);
    let factor = assignments.first().map_or(0, |(_, brokers)| brokers.len());
    for ((partition, brokers), expected) in assignments.iter().zip(0i32..) {
        let mut distinct: Vec<i32> = brokers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if *partition != expected || expected >= PARTITIONS_MAX {
            return Err(wrong(
                "partitions should be a consecutive 0-based integer sequence",
            ));
        }
        if brokers.is_empty() || brokers.len() != factor || distinct.len() != brokers.len() {
            return Err(wrong(
                "every partition needs the same number of distinct brokers",
            ));
        }
        if !brokers
            .iter()
            .all(|broker| cluster.topology().has_broker(BrokerId(*broker)))
        {
            return Err(wrong(
                "The manual partition assignment includes an unregistered broker.",
            ));
        }
    }
    let brokers = assignments.into_iter().map(|(_, brokers)| brokers);
    Ok(brokers
        .map(|brokers| brokers.into_iter().map(BrokerId).collect())
        .collect())
}

fn done(cluster: &mut Cluster, topic: &NewTopic, plan: Plan, mode: CreateMode) -> CreatedTopic {
    let partitions = i32::try_from(plan.replicas.len()).unwrap_or(i32::MAX);
    let factor = plan.replicas.first().map_or(0, Vec::len);
    let configs = listed(cluster, &plan.config);
    let id = match mode {
        CreateMode::ValidateOnly => Uuid::nil(),
        CreateMode::Create => {
            cluster.add_topic(Arc::from(topic.name.as_str()), plan.config, plan.replicas)
        }
    };
    CreatedTopic {
        name: topic.name.clone(),
        id,
        error: ErrorCode::NONE,
        message: None,
        partitions,
        replication_factor: i16::try_from(factor).unwrap_or(i16::MAX),
        configs,
    }
}

/// Every key with its value and where that comes from.
fn listed(cluster: &Cluster, config: &TopicConfig) -> Vec<(&'static str, String, ConfigSource)> {
    let modelled = TopicConfig::KEYS.iter().map(|&key| {
        let value = config.value(key).unwrap_or_default();
        let own = config.assigned.contains(key).then_some(ConfigSource::Topic);
        // The controller is no broker of its own here: what one broker alone has does not count.
        let of_brokers = || describe_configs::sources(cluster, None, key);
        let source = own.unwrap_or_else(|| describe_configs::first_source(&of_brokers()));
        (key, value, source)
    });
    let rest = NOT_MODELLED.iter().map(|&(key, value)| {
        let value = value.to_owned();
        (key, value, ConfigSource::Default)
    });
    let mut listed: Vec<_> = modelled.chain(rest).collect();
    listed.sort_by_key(|(key, ..)| *key);
    listed
}

/// Keys of a topic that change nothing here, with Kafka's defaults (`LogConfig.java`).
const NOT_MODELLED: [(&str, &str); 24] = [
    ("compression.gzip.level", "-1"),
    ("compression.lz4.level", "9"),
    ("compression.zstd.level", "3"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("follower.replication.throttled.replicas", ""),
    ("index.interval.bytes", "4096"),
    ("leader.replication.throttled.replicas", ""),
    ("local.retention.bytes", "-2"),
    ("local.retention.ms", "-2"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("preallocate", "false"),
    ("remote.log.copy.disable", "false"),
    ("remote.log.delete.on.disable", "false"),
    ("remote.storage.enable", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
];

fn failed(topic: &NewTopic, refused: Refused) -> CreatedTopic {
    CreatedTopic {
        name: topic.name.clone(),
        id: Uuid::nil(),
        error: refused.error,
        message: refused.message,
        partitions: -1,
        replication_factor: -1,
        configs: Vec::new(),
    }
}

/// Partitions that one request may make: `ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`.
pub(super) const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;
