//! What a request names, for the fault rules to see: topics, partitions, producers.
//!
//! *Invariants*
//! 1. A topic that is named by an id is resolved to its name; an unknown id has the empty name.
//! 2. A partition's producer is that of its first batch; more than one is refused anyway. Bytes
//!    that are no batch of today's format have whatever stands at its place.
//!
//! *Source* none in Kafka; see `fault.rs`.

use std::sync::Arc;

use super::{describe_configs, label};
use crate::engine::topology::Topology;
use crate::wire::admin_request::AdminRequest;
use crate::wire::batch_view::BatchHeader;
use crate::wire::offsets::{CommitTopic, OffsetRequest};
use crate::wire::request::{Request, RequestBody, TopicRef};
use crate::wire::transactions::TxnRequest;

/// A topic's name, and a partition in requests about partitions.
pub(super) type Named = (Arc<str>, Option<i32>);

/// What `request` names, in its order.
pub(super) fn of(known: &Topology, request: &Request) -> Vec<Named> {
    match &request.body {
        RequestBody::Produce(body) => {
            let topics = body.topics.iter();
            let named = topics.flat_map(|topic| {
                let indexes = topic.partitions.iter().map(|partition| partition.index);
                partitions(label(known, &topic.topic).name, indexes)
            });
            named.collect()
        }
        RequestBody::Fetch(body) => {
            let topics = body.topics.iter();
            let named = topics.flat_map(|topic| {
                let indexes = topic.partitions.iter().map(|partition| partition.index);
                partitions(label(known, &topic.topic).name, indexes)
            });
            named.collect()
        }
        RequestBody::ListOffsets(body) => {
            let topics = body.topics.iter();
            let named = topics.flat_map(|topic| {
                let indexes = topic.partitions.iter().map(|partition| partition.index);
                partitions(topic.name.as_str().into(), indexes)
            });
            named.collect()
        }
        RequestBody::Metadata(body) => match &body.topics {
            None => known
                .topics()
                .map(|topic| (Arc::clone(&topic.name), None))
                .collect(),
            Some(topics) => {
                let named = topics.iter().map(|topic| match &topic.name {
                    Some(name) if topic.id.is_nil() => name.as_str().into(),
                    _ => label(known, &TopicRef::Id(topic.id)).name,
                });
                named.map(|name| (name, None)).collect()
            }
        },
        RequestBody::CreateTopics(body) => body
            .topics
            .iter()
            .map(|topic| (topic.name.as_str().into(), None))
            .collect(),
        RequestBody::DeleteTopics(body) => body
            .topics
            .iter()
            .map(|topic| (label(known, topic).name, None))
            .collect(),
        RequestBody::Txn(TxnRequest::AddPartitionsToTxn(body)) => {
            by_name(body.transactions.iter().flat_map(|of| &of.topics))
        }
        RequestBody::Txn(TxnRequest::WriteTxnMarkers(body)) => {
            by_name(body.markers.iter().flat_map(|marker| &marker.topics))
        }
        RequestBody::Offsets(body) => offsets(known, body),
        RequestBody::Admin(body) => admin(body),
        RequestBody::FindCoordinator(_)
        | RequestBody::ApiVersions(_)
        | RequestBody::Groups(_)
        | RequestBody::Txn(TxnRequest::EndTxn(_))
        | RequestBody::InitProducerId(_) => Vec::new(),
    }
}

/// The producer ids that `request` carries, in its order.
pub(super) fn producer_ids(request: &Request) -> Vec<i64> {
    match &request.body {
        RequestBody::Produce(body) => {
            let partitions = body.topics.iter().flat_map(|topic| &topic.partitions);
            let first_batches = partitions.filter_map(|partition| {
                let bytes = partition.records.as_ref()?.first_chunk()?;
                let header = BatchHeader::read(bytes);
                header.has_producer_id().then_some(header.producer_id)
            });
            first_batches.collect()
        }
        RequestBody::InitProducerId(body) if body.producer_id > -1 => vec![body.producer_id],
        RequestBody::Txn(TxnRequest::AddPartitionsToTxn(body)) => {
            body.transactions.iter().map(|of| of.producer_id).collect()
        }
        RequestBody::Txn(TxnRequest::EndTxn(body)) => vec![body.producer_id],
        RequestBody::Txn(TxnRequest::WriteTxnMarkers(body)) => {
            body.markers.iter().map(|of| of.producer_id).collect()
        }
        RequestBody::Offsets(OffsetRequest::AddOffsetsToTxn(body)) => vec![body.producer_id],
        RequestBody::Offsets(OffsetRequest::TxnOffsetCommit(body)) => vec![body.producer_id],
        _ => Vec::new(),
    }
}

/// The transactional id that `request` carries, if any.
pub(super) fn transactional_id(request: &Request) -> Option<&str> {
    match &request.body {
        RequestBody::Produce(body) => body.transactional_id.as_deref(),
        RequestBody::InitProducerId(body) => body.transactional_id.as_deref(),
        RequestBody::Txn(TxnRequest::AddPartitionsToTxn(body)) => {
            body.transactions.first().map(|of| of.id.as_str())
        }
        RequestBody::Txn(TxnRequest::EndTxn(body)) => Some(&body.id),
        RequestBody::Offsets(OffsetRequest::AddOffsetsToTxn(body)) => Some(&body.id),
        RequestBody::Offsets(OffsetRequest::TxnOffsetCommit(body)) => Some(&body.id),
        _ => None,
    }
}

fn offsets(known: &Topology, body: &OffsetRequest) -> Vec<Named> {
    let committed = |topics: &[CommitTopic]| {
        let named = topics.iter().flat_map(|(topic, rows)| {
            let indexes = rows.iter().map(|row| row.index);
            partitions(label(known, topic).name, indexes)
        });
        named.collect()
    };
    match body {
        OffsetRequest::OffsetCommit(body) => committed(&body.topics),
        OffsetRequest::TxnOffsetCommit(body) => committed(&body.topics),
        OffsetRequest::OffsetFetch(body) => {
            let topics = body.groups.iter().filter_map(|of| of.topics.as_ref());
            let named = topics.flatten().flat_map(|(topic, indexes)| {
                partitions(label(known, topic).name, indexes.iter().copied())
            });
            named.collect()
        }
        OffsetRequest::OffsetDelete(_, topics) => by_name(topics.iter()),
        OffsetRequest::AddOffsetsToTxn(_) => Vec::new(),
    }
}

fn admin(body: &AdminRequest) -> Vec<Named> {
    let named = |name: &String| (name.as_str().into(), None);
    match body {
        AdminRequest::DeleteRecords(body) => {
            let named = body.topics.iter().flat_map(|(topic, rows)| {
                let indexes = rows.iter().map(|(index, _)| *index);
                partitions(topic.as_str().into(), indexes)
            });
            named.collect()
        }
        AdminRequest::OffsetForLeaderEpoch(body) => {
            let named = body.topics.iter().flat_map(|(topic, asked)| {
                let indexes = asked.iter().map(|asked| asked.index);
                partitions(topic.as_str().into(), indexes)
            });
            named.collect()
        }
        AdminRequest::DescribeProducers(body) => {
            let named = body.topics.iter().flat_map(|(topic, indexes)| {
                partitions(topic.as_str().into(), indexes.iter().copied())
            });
            named.collect()
        }
        AdminRequest::DescribeConfigs(body) => {
            let topics = body.resources.iter();
            let topics = topics.filter(|resource| resource.kind == describe_configs::TOPIC);
            topics.map(|resource| named(&resource.name)).collect()
        }
        AdminRequest::IncrementalAlterConfigs(body) => {
            let topics = body.resources.iter();
            let topics = topics.filter(|resource| resource.kind == describe_configs::TOPIC);
            topics.map(|resource| named(&resource.name)).collect()
        }
        AdminRequest::DescribeTopicPartitions(body) => body.topics.iter().map(named).collect(),
        AdminRequest::CreatePartitions(body) => {
            body.topics.iter().map(|topic| named(&topic.name)).collect()
        }
        AdminRequest::DescribeCluster(_)
        | AdminRequest::DescribeClientQuotas(_)
        | AdminRequest::AlterClientQuotas(_)
        | AdminRequest::UpdateFeatures(_)
        | AdminRequest::DescribeTransactions(_)
        | AdminRequest::ListTransactions(_) => Vec::new(),
    }
}

fn by_name<'a>(topics: impl Iterator<Item = &'a (String, Vec<i32>)>) -> Vec<Named> {
    let named = topics
        .flat_map(|(topic, indexes)| partitions(topic.as_str().into(), indexes.iter().copied()));
    named.collect()
}

fn partitions(topic: Arc<str>, indexes: impl Iterator<Item = i32>) -> impl Iterator<Item = Named> {
    indexes.map(move |index| (Arc::clone(&topic), Some(index)))
}
