//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! | Version | |
//! |---|---|
//! | 1 | where a value comes from, and where else it could (KIP-226) |
//! | 3 | the type of a value (KIP-569) |
//! | 4 | flexible |
//!
//! *Invariants*
//! 1. What was set is told with its source even when it is the default's value.
//! 2. The first synonym is the value itself, the last is Kafka's default.
//! 3. A key that does not exist is left out, without an error.
//!
//! *Source* apache/kafka `core/…/server/ConfigHelper.scala`, `DynamicBrokerConfig.scala` for what
//! is read-only.
//!
//! *Deviations* only the keys are listed that the mock models, by name, where Kafka lists all in a
//! hash order. No documentation of keys is given. Loggers, client metrics and groups (kinds 8, 16
//! and 32) are refused. `min.insync.replicas` is told as the file's or the default, where a cluster
//! with eligible leader replicas has it as a dynamic default.

use super::Context;
use super::find_coordinator::UNKNOWN_KIND;
use crate::config::{self, BrokerConfig, TopicConfig};
use crate::engine::Cluster;
use crate::engine::topology::name_fault;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{
    self, AdminReply, ConfigEntry, ConfigResult, ConfigSource, ConfigType, Mutability,
};
use crate::wire::admin_request::{ConfigResource, DescribeConfigs, Synonyms};

/// `ConfigResource.Type.TOPIC`.
pub(super) const TOPIC: i8 = 2;

/// `ConfigResource.Type.BROKER`.
pub(super) const BROKER: i8 = 4;

/// Answers with the configuration of topics and of this broker.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &DescribeConfigs) -> AdminReply {
    let known = |resource: &ConfigResource| matches!(resource.kind, TOPIC | BROKER);
    // Kafka fails at the whole request, not at one resource, and then has no text of its own.
    let whole = request.resources.iter().all(known);
    let results = request.resources.iter().map(|resource| {
        let result = if whole {
            entries(cluster, context, resource)
        } else {
            Err(refused(ErrorCode::INVALID_REQUEST, UNKNOWN_KIND))
        };
        let (error, message, mut configs) = match result {
            Ok(configs) => (ErrorCode::NONE, Some(String::new()), configs),
            Err((error, message)) => (error, message, Vec::new()),
        };
        let asked = resource.keys.as_deref().unwrap_or_default();
        configs.retain(|entry| asked.is_empty() || asked.iter().any(|key| key == entry.key));
        if request.synonyms == Synonyms::NotAsked {
            configs.iter_mut().for_each(|entry| entry.synonyms.clear());
        }
        let overwriting = context.injection.topic_overwriting(&resource.name);
        ConfigResult {
            kind: resource.kind,
            name: resource.name.clone(),
            error: overwriting.unwrap_or(error),
            message,
            configs,
        }
    });
    AdminReply::DescribeConfigs(admin_reply::DescribeConfigs {
        results: results.collect(),
    })
}

type Refused = (ErrorCode, Option<String>);

fn refused(error: ErrorCode, message: impl Into<String>) -> Refused {
    (error, Some(message.into()))
}

fn entries(
    cluster: &Cluster,
    context: &Context,
    resource: &ConfigResource,
) -> Result<Vec<ConfigEntry>, Refused> {
    let name = &resource.name;
    if resource.kind == TOPIC {
        if let Some(code) = context.injection.topic_refusal(name) {
            return Err((code, None));
        }
        return of_topic(cluster, name);
    }
    if let Some(code) = context.injection.refusal() {
        return Err((code, None));
    }
    let this = context.broker.0;
    // The empty name stands for what is set dynamically for all brokers: nothing is.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    match name.parse::<i32>() {
        Ok(id) if id == this => Ok(of_broker(cluster.config())),
        Ok(_) => {
            let message = format!(
                "Unexpected broker id, expected {this} or empty string, but received {name}"
            );
            Err(refused(ErrorCode::INVALID_REQUEST, message))
        }
        Err(_) => {
            let message = format!("Broker id must be an integer, but it is: {name}");
            Err(refused(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

fn of_topic(cluster: &Cluster, name: &str) -> Result<Vec<ConfigEntry>, Refused> {
    if let Some(message) = name_fault(name) {
        return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    let Some(topic) = cluster.topology().topic_by_name(name) else {
        return Err(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ""));
    };
    let entry = |key: &&'static str| {
        let value = topic.config.value(key).unwrap_or_default();
        let mut synonyms = Vec::new();
        if topic.config.assigned.contains(key) {
            synonyms.push((*key, value.clone(), ConfigSource::Topic));
        }
        if let Some(broker_key) = config::broker_key(key) {
            synonyms.append(&mut of_key(cluster.config(), broker_key));
        }
        ConfigEntry {
            key,
            value,
            mutability: Mutability::Dynamic,
            source: first_source(&synonyms),
            synonyms,
            value_type: value_type(key),
        }
    };
    Ok(TopicConfig::KEYS.iter().map(entry).collect())
}

fn of_broker(config: &BrokerConfig) -> Vec<ConfigEntry> {
    let shown = |key: &&&'static str| **key != INTERNAL || config.is_assigned(key);
    let entries = BrokerConfig::KEYS.iter().filter(shown).map(|key| {
        let synonyms = of_key(config, key);
        let topic_key = config::topic_key(key);
        ConfigEntry {
            key,
            value: config.value(key).unwrap_or_default(),
            mutability: if topic_key.is_some() || DYNAMIC.contains(key) {
                Mutability::Dynamic
            } else {
                Mutability::ReadOnly
            },
            source: first_source(&synonyms),
            synonyms,
            value_type: value_type(topic_key.unwrap_or(key)),
        }
    });
    entries.collect()
}

/// Where a broker's key has values: the file, if it is there, then the default.
fn of_key(config: &BrokerConfig, key: &'static str) -> Vec<(&'static str, String, ConfigSource)> {
    let set = config.value(key).filter(|_| config.is_assigned(key));
    let set = set.map(|value| (key, value, ConfigSource::StaticBroker));
    let default = BrokerConfig::default().value(key);
    let default = default.map(|value| (key, value, ConfigSource::Default));
    set.into_iter().chain(default).collect()
}

fn first_source(synonyms: &[(&str, String, ConfigSource)]) -> ConfigSource {
    let first = synonyms.first();
    first.map_or(ConfigSource::Default, |(_, _, source)| *source)
}

fn value_type(key: &str) -> ConfigType {
    match key {
        "auto.create.topics.enable" | "unclean.leader.election.enable" => ConfigType::Boolean,
        "cleanup.policy" => ConfigType::List,
        "compression.type" | "message.timestamp.type" => ConfigType::String,
        "connections.max.idle.ms"
        | "message.timestamp.after.max.ms"
        | "message.timestamp.before.max.ms"
        | "replica.lag.time.max.ms" => ConfigType::Long,
        _ => ConfigType::Int,
    }
}

/// Keys of brokers alone that a running broker takes: `DynamicBrokerConfig.AllDynamicConfigs`.
const DYNAMIC: [&str; 2] = ["max.connections.per.ip", "producer.id.expiration.ms"];

/// Kafka defines it for its own tests, and lists it only where it is set.
const INTERNAL: &str = "producer.id.expiration.check.interval.ms";
