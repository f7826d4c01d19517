//! IncrementalAlterConfigs (key 44), versions 0 and 1; 1 is flexible (KIP-339).
//!
//! *State* of a resource:
//!
//! ```text
//! Asked ─ once (42) ─ each key once (42) ─ values there (42) ─ kind (42)
//!   │        broker: this one (42) ─ dynamic keys (42) ─ lists (40) ─ values (42)
//!   ├─ operations (-1, all that are left)
//!   │        topic: name (42 17) ─ lists (40) ─ keys, values (40) ─ there (3)
//!   │        broker: min.insync.replicas (40)
//!   └─▶ Altered, unless it was only to be checked
//! ```
//!
//! *Invariants*
//! 1. A resource is altered as a whole or not at all; resources are judged apart.
//! 2. What is altered holds for the next request.
//! 3. What is only to be checked leaves no trace.
//!
//! *Source* apache/kafka `core/…/server/ConfigAdminManager.scala`,
//! `metadata/…/controller/ConfigurationControlManager.java`; texts observed on 4.3.1.
//!
//! *Deviations* topics and brokers only: loggers, client metrics and groups (kinds 8, 16 and 32)
//! are refused as unknown kinds. A key of topics that the mock does not model is refused too.
//! Whoever is asked alters at once, where Kafka's controller tells the brokers a little later.

use std::collections::BTreeMap;

use super::describe_configs::{BROKER, TOPIC, mutability};
use super::{Context, config_faults};
use crate::config::{self, BrokerConfig, TopicConfig};
use crate::engine::Cluster;
use crate::engine::dynamic_config::{AlterScope, ISR_MIN, Settings};
use crate::engine::effect::BrokerId;
use crate::engine::time::Instant;
use crate::engine::topology::{TopicKey, name_fault};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{self, AdminReply, Mutability};
use crate::wire::admin_request::{AlteredResource, ConfigChange, IncrementalAlterConfigs};
use crate::wire::request::CreateMode;

type Refused = (ErrorCode, Option<String>);

fn refused(error: ErrorCode, message: impl Into<String>) -> Refused {
    (error, Some(message.into()))
}

/// What a resource becomes.
enum Plan {
    Topic(TopicKey, Box<TopicConfig>),
    Brokers(AlterScope, Settings),
}

/// Alters what can be altered, or checks whether it can.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &IncrementalAlterConfigs,
    now: Instant,
) -> AdminReply {
    let mut named: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for resource in &request.resources {
        *named.entry((resource.kind, &resource.name)).or_default() += 1;
    }
    let checked = request.resources.iter().map(|resource| {
        if named.get(&(resource.kind, resource.name.as_str())) == Some(&1) {
            check(cluster, context, resource)
        } else {
            let message = "Each resource must appear at most once.";
            Err(refused(ErrorCode::INVALID_REQUEST, message))
        }
    });
    let checked: Vec<Result<(), Refused>> = checked.collect();
    let whole = checked
        .iter()
        .zip(&request.resources)
        .all(|(checked, resource)| {
            let mut changes = resource.changes.iter();
            checked.is_err() || changes.all(|change| (SET..=SUBTRACT).contains(&change.operation))
        });
    let mut rows = Vec::with_capacity(request.resources.len());
    for (resource, checked) in request.resources.iter().zip(checked) {
        let plan = match checked {
            Err(refused) => Err(refused),
            // An operation that does not exist fails whatever was not refused before (observed).
            Ok(()) if !whole => Err((ErrorCode::UNKNOWN_SERVER_ERROR, None)),
            Ok(()) => plan(cluster, context, resource),
        };
        let (error, message) = match plan {
            Err(refused) => refused,
            Ok(plan) => {
                if request.mode == CreateMode::Create {
                    carry_out(cluster, plan, now);
                }
                (ErrorCode::NONE, None)
            }
        };
        let overwriting = context.injection.topic_overwriting(&resource.name);
        rows.push(admin_reply::AlteredResource {
            kind: resource.kind,
            name: resource.name.clone(),
            error: overwriting.unwrap_or(error),
            message,
        });
    }
    AdminReply::IncrementalAlterConfigs(rows)
}

fn carry_out(cluster: &mut Cluster, plan: Plan, now: Instant) {
    match plan {
        Plan::Topic(topic, config) => cluster.alter_topic(topic, &config, now),
        Plan::Brokers(scope, settings) => cluster.alter_brokers(scope, settings, now),
    }
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What the asked broker sees, before the controller (`ConfigAdminManager.preprocess`).
fn check(
    cluster: &mut Cluster,
    context: &Context,
    resource: &AlteredResource,
) -> Result<(), Refused> {
    let wrong = |message: String| refused(ErrorCode::INVALID_REQUEST, message);
    let injection = &context.injection;
    let refusal = match resource.kind {
        TOPIC => injection.topic_refusal(&resource.name),
        _ => injection.refusal(),
    };
    if let Some(code) = refusal {
        return Err((code, None));
    }
    let mut keys: Vec<&str> = resource.changes.iter().map(|of| of.key.as_str()).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(wrong("Error due to duplicate config keys".into()));
    }
    let changes = resource.changes.iter();
    let null = changes.filter(|of| of.operation != DELETE && of.value.is_none());
    let null: Vec<&str> = null.map(|of| of.key.as_str()).collect();
    if !null.is_empty() {
        let keys = null.join(", ");
        return Err(wrong(format!("Null value not supported for : {keys}")));
    }
    match resource.kind {
        TOPIC => Ok(()),
        BROKER => {
            let scope = scope(context.broker, &resource.name)?;
            altered(cluster, scope, resource)?;
            for change in resource
                .changes
                .iter()
                .filter(|change| !is_known(&change.key))
            {
                // Kafka takes keys that it does not know (observed).
                let key = &change.key;
                cluster.note(format!("a broker's {key} is altered, without effect"));
            }
            Ok(())
        }
        kind => Err(wrong(format!("Unknown resource type {kind}"))),
    }
}

fn scope(this: BrokerId, name: &str) -> Result<AlterScope, Refused> {
    let wrong = |message: String| refused(ErrorCode::INVALID_REQUEST, message);
    if name.is_empty() {
        return Ok(AlterScope::AllBrokers);
    }
    match name.parse::<i32>() {
        Ok(id) if id == this.0 => Ok(AlterScope::Broker(this)),
        Ok(_) => Err(wrong(format!(
            "Unexpected broker id, expected {}, but received {name}",
            this.0
        ))),
        Err(_) => Err(wrong(format!(
            "Node id must be an integer, but it is: {name}"
        ))),
    }
}

fn is_known(key: &str) -> bool {
    BrokerConfig::KEYS.contains(&key)
}

/// What is altered for these brokers when the changes are made.
fn altered(
    cluster: &Cluster,
    scope: AlterScope,
    resource: &AlteredResource,
) -> Result<Settings, Refused> {
    let known = |change: &&ConfigChange| is_known(&change.key);
    let changes: Vec<&ConfigChange> = resource.changes.iter().filter(known).collect();
    let fixed = changes.iter().filter(|change| {
        change.operation != DELETE && mutability(&change.key) == Mutability::ReadOnly
    });
    let fixed: Vec<&str> = fixed.map(|change| change.key.as_str()).collect();
    if !fixed.is_empty() {
        let keys = fixed.join(", ");
        let message = format!("Cannot update these configs dynamically: [{keys}]");
        return Err(refused(ErrorCode::INVALID_REQUEST, message));
    }
    let dynamic = cluster.dynamic_config();
    let mut settings = dynamic.altered(scope).cloned().unwrap_or_default();
    let mut tried = dynamic.started().clone();
    for change in changes {
        let key = BrokerConfig::KEYS
            .iter()
            .copied()
            .find(|key| *key == change.key);
        let Some(key) = key else {
            continue;
        };
        let current = settings.get(key).cloned();
        let current = current.or_else(|| dynamic.started().value(key));
        let listed = config::topic_key(key) == Some(LIST);
        match changed(change, current.unwrap_or_default(), listed) {
            Err(verb) => {
                let verb = verb.to_lowercase();
                let message = format!("Config value {verb} is not allowed for config key: {key}");
                return Err(refused(ErrorCode::INVALID_CONFIG, message));
            }
            Ok(None) => {
                settings.remove(key);
            }
            Ok(Some(value)) => {
                tried.set(key, &value).map_err(|_| {
                    let message = config_faults::of_value(key, &value);
                    refused(ErrorCode::INVALID_REQUEST, message)
                })?;
                settings.insert(key, tried.value(key).unwrap_or(value));
            }
        }
    }
    Ok(settings)
}

/// The only key whose value is a list.
const LIST: &str = "cleanup.policy";

/// The value after a change, `None` for none of its own; the operation's name where the key is no
/// list.
fn changed(
    change: &ConfigChange,
    current: String,
    is_list: bool,
) -> Result<Option<String>, &'static str> {
    let value = change.value.clone().unwrap_or_default();
    let mut words: Vec<&str> = current.split(',').filter(|word| !word.is_empty()).collect();
    match change.operation {
        SET => return Ok(Some(value)),
        DELETE => return Ok(None),
        APPEND if !is_list => return Err("APPEND"),
        SUBTRACT if !is_list => return Err("SUBTRACT"),
        APPEND => {
            for word in value.split(',') {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        _ => words.retain(|word| !value.split(',').any(|gone| gone == *word)),
    }
    Ok(Some(words.join(",")))
}

/// What the controller makes of a resource.
fn plan(cluster: &Cluster, context: &Context, resource: &AlteredResource) -> Result<Plan, Refused> {
    if resource.kind == TOPIC {
        let (topic, config) = topic(cluster, resource)?;
        return Ok(Plan::Topic(topic, Box::new(config)));
    }
    let scope = scope(context.broker, &resource.name)?;
    let change = resource.changes.iter().find(|change| change.key == ISR_MIN);
    let message = match (scope, change.map(|change| change.operation)) {
        (AlterScope::Broker(_), Some(_)) => {
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
        }
        (AlterScope::AllBrokers, Some(DELETE)) => {
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."
        }
        _ => return Ok(Plan::Brokers(scope, altered(cluster, scope, resource)?)),
    };
    Err(refused(ErrorCode::INVALID_CONFIG, message))
}

fn topic(
    cluster: &Cluster,
    resource: &AlteredResource,
) -> Result<(TopicKey, TopicConfig), Refused> {
    let name = &resource.name;
    if name.is_empty() {
        let message = "Default topic resources are not allowed.";
        return Err(refused(ErrorCode::INVALID_REQUEST, message));
    }
    let topic = cluster.topology().topic_by_name(name);
    let defaults = &cluster.config().topic;
    let mut config = match topic {
        Some(topic) => topic.config.clone(),
        None => defaults.inherited(),
    };
    let mut values = Vec::new();
    for change in &resource.changes {
        let current = config.value(&change.key).unwrap_or_default();
        let value = changed(change, current, change.key == LIST).map_err(|verb| {
            let key = &change.key;
            let message = format!("Can't {verb} to key {key} because its type is not LIST.");
            refused(ErrorCode::INVALID_CONFIG, message)
        })?;
        values.push((change.key.as_str(), value));
    }
    if let Some(message) = name_fault(name) {
        return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    // An unknown key is told before a bad value, wherever it stands (observed).
    values.sort_by_key(|(key, _)| TopicConfig::KEYS.contains(key));
    for (key, value) in values {
        match value {
            None => config.unset(key, defaults),
            Some(value) => config.set(key, &value).map_err(|error| {
                refused(ErrorCode::INVALID_CONFIG, config_faults::of_topic(&error))
            })?,
        }
    }
    let message = || format!("The topic '{name}' does not exist.");
    let topic = topic.ok_or_else(|| refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message()))?;
    Ok((topic.key, config))
}
