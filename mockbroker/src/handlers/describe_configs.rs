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
//! and 32) are refused.

use super::answer_room::{AnswerRoom, Full, ROW_BYTES};
use super::find_coordinator::UNKNOWN_KIND;
use super::{Answer, Context};
use crate::config::{self, BrokerConfig, TopicConfig};
use crate::engine::Cluster;
use crate::engine::dynamic_config::AlterScope;
use crate::engine::effect::BrokerId;
use crate::engine::topology::name_fault;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{
    self, AdminReply, ConfigEntry, ConfigResult, ConfigSource, ConfigType, Mutability,
};
use crate::wire::admin_request::{ConfigResource, DescribeConfigs, Synonyms};
use crate::wire::reply::Reply;

/// `ConfigResource.Type.TOPIC`.
pub(super) const TOPIC: i8 = 2;

/// `ConfigResource.Type.BROKER`.
pub(super) const BROKER: i8 = 4;

/// Answers with the configuration of topics and of this broker.
pub fn handle(cluster: &mut Cluster, context: &Context, request: &DescribeConfigs) -> Answer {
    let known = |resource: &ConfigResource| matches!(resource.kind, TOPIC | BROKER);
    // Kafka fails at the whole request, not at one resource, and then has no text of its own.
    let whole = request.resources.iter().all(known);
    let mut room = AnswerRoom::new();
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
        room.take(
            configs
                .iter()
                .map(bytes_of)
                .fold(ROW_BYTES, usize::saturating_add),
        )?;
        let overwriting = context.injection.topic_overwriting(&resource.name);
        Ok(ConfigResult {
            kind: resource.kind,
            name: resource.name.clone(),
            error: overwriting.unwrap_or(error),
            message,
            configs,
        })
    });
    let results: Result<Vec<_>, Full> = results.collect();
    match results {
        Ok(results) => {
            let told = admin_reply::DescribeConfigs { results };
            Answer::Reply(Reply::Admin(AdminReply::DescribeConfigs(told)))
        }
        Err(full) => full.answer(cluster, context),
    }
}

/// What an entry takes in an answer.
fn bytes_of(entry: &ConfigEntry) -> usize {
    let synonyms = entry.synonyms.iter();
    let synonyms = synonyms.map(|(key, value, _)| ROW_BYTES + key.len() + value.len());
    let own = ROW_BYTES + entry.key.len() + entry.value.len();
    synonyms.fold(own, usize::saturating_add)
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
        return of_topic(cluster, context.broker, name);
    }
    if let Some(code) = context.injection.refusal() {
        return Err((code, None));
    }
    let this = context.broker;
    // The empty name stands for what is altered for all brokers.
    if name.is_empty() {
        return Ok(of_all_brokers(cluster));
    }
    match name.parse::<i32>() {
        Ok(id) if id == this.0 => Ok(of_broker(cluster, this)),
        Ok(_) => {
            let message = format!(
                "Unexpected broker id, expected {} or empty string, but received {name}",
                this.0
            );
            Err(refused(ErrorCode::INVALID_REQUEST, message))
        }
        Err(_) => {
            let message = format!("Broker id must be an integer, but it is: {name}");
            Err(refused(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

fn of_topic(cluster: &Cluster, broker: BrokerId, name: &str) -> Result<Vec<ConfigEntry>, Refused> {
    if let Some(message) = name_fault(name) {
        return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    let Some(topic) = cluster.known_to(broker).topic_by_name(name) else {
        return Err(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ""));
    };
    let config = cluster.topic_config(topic, broker);
    let entry = |&key: &&'static str| {
        let value = config.value(key).unwrap_or_default();
        let mut synonyms = sources(cluster, Some(broker), key);
        if config.assigned.contains(key) {
            synonyms.insert(0, (key, value.clone(), ConfigSource::Topic));
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

fn of_broker(cluster: &Cluster, broker: BrokerId) -> Vec<ConfigEntry> {
    let config = cluster.config_of(broker);
    let shown = |key: &&&'static str| **key != INTERNAL || config.is_assigned(key);
    let entries = BrokerConfig::KEYS.iter().filter(shown).map(|&key| {
        let synonyms = sources(cluster, Some(broker), key);
        ConfigEntry {
            key,
            value: config.value(key).unwrap_or_default(),
            mutability: mutability(key),
            source: first_source(&synonyms),
            synonyms,
            value_type: value_type(config::topic_key(key).unwrap_or(key)),
        }
    });
    entries.collect()
}

/// What is altered for all brokers, and nothing else.
fn of_all_brokers(cluster: &Cluster) -> Vec<ConfigEntry> {
    let altered = cluster.dynamic_config().altered(AlterScope::AllBrokers);
    let entries = altered.into_iter().flatten().map(|(&key, value)| {
        let source = ConfigSource::DynamicDefault;
        ConfigEntry {
            key,
            value: value.clone(),
            mutability: mutability(key),
            source,
            synonyms: vec![(key, value.clone(), source)],
            value_type: value_type(config::topic_key(key).unwrap_or(key)),
        }
    });
    entries.collect()
}

/// Whether a running broker takes another value of one of its keys.
pub(super) fn mutability(key: &str) -> Mutability {
    if config::topic_key(key).is_some() || DYNAMIC.contains(&key) {
        Mutability::Dynamic
    } else {
        Mutability::ReadOnly
    }
}

/// A key, its value, and where that comes from.
type Source = (&'static str, String, ConfigSource);

/// Where the brokers have a value of a key, the first counts: altered for this broker, for all of
/// them, the file's, Kafka's default. A topic's key is told by its name at the brokers.
pub(super) fn sources(cluster: &Cluster, broker: Option<BrokerId>, key: &str) -> Vec<Source> {
    let key = config::broker_key(key).unwrap_or(key);
    let Some(key) = BrokerConfig::KEYS.iter().copied().find(|of| *of == key) else {
        return Vec::new();
    };
    let dynamic = cluster.dynamic_config();
    let altered = |scope| dynamic.altered(scope)?.get(key).cloned();
    let started = dynamic.started();
    let values = [
        (
            broker.and_then(|broker| altered(AlterScope::Broker(broker))),
            ConfigSource::DynamicBroker,
        ),
        (
            altered(AlterScope::AllBrokers),
            ConfigSource::DynamicDefault,
        ),
        (
            started.value(key).filter(|_| started.is_assigned(key)),
            ConfigSource::StaticBroker,
        ),
        (BrokerConfig::default().value(key), ConfigSource::Default),
    ];
    let known = values.into_iter();
    known
        .filter_map(|(value, source)| Some((key, value?, source)))
        .collect()
}

/// Where the value that counts comes from.
pub(super) fn first_source(sources: &[Source]) -> ConfigSource {
    let first = sources.first();
    first.map_or(ConfigSource::Default, |(_, _, source)| *source)
}

/// Of what type the values of a topic's key are, or of a key that brokers alone have.
pub(super) fn value_type(key: &str) -> ConfigType {
    match key {
        "auto.create.topics.enable"
        | "transaction.partition.verification.enable"
        | "unclean.leader.election.enable" => ConfigType::Boolean,
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
const DYNAMIC: [&str; 3] = [
    "max.connections.per.ip",
    "producer.id.expiration.ms",
    "transaction.partition.verification.enable",
];

/// Kafka defines it for its own tests, and lists it only where it is set.
const INTERNAL: &str = "producer.id.expiration.check.interval.ms";
