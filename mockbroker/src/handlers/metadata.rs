//! Metadata (key 3), versions 0 to 13.
//!
//! | Version | |
//! |---|---|
//! | 0 | an empty list is all topics; offline replicas are left out |
//! | 1 | a null list is all topics, an empty one none |
//! | 4 | whether an unknown topic may be made (before: always) |
//! | 8 to 10 | what the client may do with the cluster |
//! | 9 | flexible |
//! | 12 | topics by id (KIP-516); the fields are there since 10, and refused with 42 |
//! | 13 | an outcome of the whole request |
//!
//! *Invariants*
//! 1. Existing topics come first, then unknown ones, then names that cannot be (observed).
//! 2. A topic that is made by a request is answered with 3 in it, and is there for the next one;
//!    5 is never answered for it (observed).
//!
//! *Source* apache/kafka `core/…/server/{KafkaApis,AutoTopicCreationManager}.scala`; observed on
//! 4.3.1.
//!
//! *Deviations* topics come in the order of their making or of the request, Kafka's is a hash
//! order; the controller is the first broker that runs, Kafka's a random one; a topic is made at
//! once, Kafka takes some 30 ms.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Context, endpoint};
use crate::engine::effect::BrokerId;
use crate::engine::time::Instant;
use crate::engine::topology::{Placement, Topic, Topology, is_internal, is_valid_name};
use crate::engine::{Cluster, TopicSpec};

use crate::error_code::ErrorCode;
use crate::wire::reply::{
    self, Endpoint, LeaderHint, MetadataPartition, MetadataTopic, Ownership, Reply,
};
use crate::wire::request::{self, AutoCreation, Metadata, Operations};

/// Answers with brokers and topics, and makes unknown ones if it may.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &Metadata,
    now: Instant,
) -> Answer {
    if let Some(error) = refusal(context, request) {
        return refuse(context, request, error);
    }
    let mut topics = match &request.topics {
        None => {
            let known: Vec<&Topic> = cluster.known_to(context.broker).topics().collect();
            known
                .into_iter()
                .map(|topic| existing(cluster, context, request, topic))
                .collect()
        }
        Some(asked) if asked.iter().any(|topic| !topic.id.is_nil()) => {
            by_id(cluster, context, request, asked)
        }
        Some(asked) => by_name(cluster, context, request, asked, now),
    };
    for topic in &mut topics {
        let name = topic.name.as_deref().unwrap_or_default();
        topic.error = context
            .injection
            .topic_overwriting(name)
            .unwrap_or(topic.error);
    }
    let brokers = live_brokers(cluster.known_to(context.broker));
    Answer::Reply(Reply::Metadata(reply::Metadata {
        controller_id: brokers.first().map_or(-1, |broker| broker.id),
        brokers,
        cluster_id: Some(Arc::clone(cluster.cluster_id())),
        topics,
        cluster_operations: match request.cluster_operations {
            Operations::Asked => CLUSTER_OPERATIONS,
            Operations::NotAsked => i32::MIN,
        },
    }))
}

/// The brokers that run; the first is the controller.
pub(super) fn live_brokers(known: &Topology) -> Vec<Endpoint> {
    let brokers = known.brokers().map(|broker| broker.endpoint.id);
    brokers
        .filter_map(|id| known.live_endpoint(id))
        .map(endpoint)
        .collect()
}

/// What makes Kafka fail at the request as a whole (observed).
fn refusal(context: &Context, request: &Metadata) -> Option<ErrorCode> {
    let mut topics = request.topics.iter().flatten();
    if context.header.version < 12 {
        let unsupported = topics.any(|topic| topic.name.is_none() || !topic.id.is_nil());
        unsupported.then_some(ErrorCode::INVALID_REQUEST)
    } else {
        let nameless = topics.any(|topic| topic.name.is_none() && topic.id.is_nil());
        nameless.then_some(ErrorCode::UNKNOWN_SERVER_ERROR)
    }
}

fn refuse(_context: &Context, request: &Metadata, error: ErrorCode) -> Answer {
    let topics = request.topics.iter().flatten().map(|topic| MetadataTopic {
        id: topic.id,
        ..absent(error, Some(topic.name.as_deref().unwrap_or_default()))
    });
    Answer::Reply(Reply::Metadata(reply::Metadata {
        brokers: Vec::new(),
        cluster_id: None,
        controller_id: -1,
        topics: topics.collect(),
        cluster_operations: i32::MIN,
    }))
}

/// As soon as one id is given, entries by name are dropped (observed).
fn by_id(
    cluster: &Cluster,
    context: &Context,
    request: &Metadata,
    asked: &[request::MetadataTopic],
) -> Vec<MetadataTopic> {
    let topology = cluster.known_to(context.broker);
    let mut seen = BTreeSet::new();
    let ids = asked.iter().map(|topic| topic.id).filter(|id| !id.is_nil());
    let ids: Vec<Uuid> = ids.filter(|id| seen.insert(*id)).collect();
    let (known, unknown): (Vec<Uuid>, Vec<Uuid>) = ids
        .into_iter()
        .partition(|id| topology.topic_by_id(*id).is_some());
    let known = known.into_iter().filter_map(|id| topology.topic_by_id(id));
    let known = known.map(|topic| existing(cluster, context, request, topic));
    let unknown = unknown.into_iter().map(|id| MetadataTopic {
        id,
        ..absent(ErrorCode::UNKNOWN_TOPIC_ID, None)
    });
    known.chain(unknown).collect()
}

fn by_name(
    cluster: &mut Cluster,
    context: &Context,
    request: &Metadata,
    asked: &[request::MetadataTopic],
    now: Instant,
) -> Vec<MetadataTopic> {
    let mut seen = BTreeSet::new();
    let names = asked.iter().filter_map(|topic| topic.name.as_deref());
    let names = names.filter(|name| seen.insert(*name));
    let (mut known, mut unknown, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        if let Some(code) = context.injection.topic_refusal(name) {
            known.push(absent(code, Some(name)));
        } else if !is_valid_name(name) {
            invalid.push(absent(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(name)));
        } else if let Some(topic) = cluster.known_to(context.broker).topic_by_name(name) {
            known.push(existing(cluster, context, request, topic));
        } else {
            unknown.push(absent(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(name)));
            let reached = !cluster.is_cut_off(context.broker);
            if request.auto_creation == AutoCreation::Allowed && reached {
                cluster.make_by_request(|cluster| auto_create(cluster, name), now);
            }
        }
    }
    known.append(&mut unknown);
    known.append(&mut invalid);
    known
}

fn auto_create(cluster: &mut Cluster, name: &str) {
    let is_being_made = cluster.topology().topic_by_name(name).is_some();
    if !cluster.config().auto_create_topics_enable || is_being_made {
        return;
    }
    // Metadata answers 3 for ever then (observed); CreateTopics would say 17.
    if cluster.topology().collision(name).is_some() {
        cluster.note(format!(
            "topic {name} is not made: it collides with another in . and _"
        ));
        return;
    }
    let spec = TopicSpec {
        name: name.into(),
        partitions: cluster.config().num_partitions,
        replication_factor: cluster.config().default_replication_factor,
        overrides: Vec::new(),
    };
    if let Err(error) = cluster.create_topic(spec) {
        cluster.note(format!("topic {name} is not made: {error}"));
    }
}

fn absent(error: ErrorCode, name: Option<&str>) -> MetadataTopic {
    MetadataTopic {
        error,
        name: name.map(Arc::from),
        id: Uuid::nil(),
        internal: ownership(name.unwrap_or_default()),
        partitions: Vec::new(),
        operations: i32::MIN,
    }
}

pub(super) fn ownership(name: &str) -> Ownership {
    if is_internal(name) {
        Ownership::Internal
    } else {
        Ownership::Ordinary
    }
}

fn existing(
    cluster: &Cluster,
    context: &Context,
    request: &Metadata,
    topic: &Topic,
) -> MetadataTopic {
    if let Some(code) = context.injection.topic_refusal(&topic.name) {
        return absent(code, Some(&topic.name));
    }
    let known = cluster.known_to(context.broker);
    let placed = topic.partitions.iter().zip(topic.indexes());
    let partitions = placed.map(|(placement, index)| {
        let mut row = partition(known, placement, index);
        // Version 0 leaves out what does not run (observed).
        if context.header.version == 0 {
            let offline = &row.offline;
            row.replicas.retain(|broker| !offline.contains(broker));
        }
        row
    });
    MetadataTopic {
        error: ErrorCode::NONE,
        name: Some(Arc::clone(&topic.name)),
        id: topic.id,
        internal: ownership(&topic.name),
        partitions: partitions.collect(),
        operations: match request.topic_operations {
            Operations::Asked => TOPIC_OPERATIONS,
            Operations::NotAsked => i32::MIN,
        },
    }
}

/// Where a partition lives and who leads it.
pub(super) fn partition(known: &Topology, placement: &Placement, index: i32) -> MetadataPartition {
    let dead = |broker: &&BrokerId| !known.is_alive(**broker);
    let offline: Vec<BrokerId> = placement.replicas.iter().filter(dead).copied().collect();
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let leadership = placement.leadership;
    MetadataPartition {
        error: match leadership.leader {
            Some(_) => ErrorCode::NONE,
            None => ErrorCode::LEADER_NOT_AVAILABLE,
        },
        index,
        leader: LeaderHint {
            id: leadership.leader.map_or(-1, |broker| broker.0),
            epoch: leadership.epoch,
        },
        replicas: ids(&placement.replicas),
        isr: ids(&placement.isr),
        offline: ids(&offline),
    }
}

/// Everything one may do with a topic, without an authorizer (observed).
pub(super) const TOPIC_OPERATIONS: i32 = 3_576;

/// Everything one may do with a cluster, without an authorizer (observed).
pub(super) const CLUSTER_OPERATIONS: i32 = 8_096;
