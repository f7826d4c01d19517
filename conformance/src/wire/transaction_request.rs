//! The bodies of what producers of transactions ask, and readers in groups, laid out by
//! `kafka_protocol`.
//!
//! *Not here*: InitProducerId (`request.rs`), answers (`transactional.rs`, `group_offsets.rs`).

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, OffsetFetchRequest,
    ProducerId,
};

use super::request::{EncodeError, encode, text, topic_name};
use super::transactional::{AddPartitions, Decision, EndTxn};

/// FindCoordinator for a transactional id.
pub(super) fn find_coordinator(id: &str, version: i16) -> Result<Bytes, EncodeError> {
    const OF_TRANSACTIONS: i8 = 1;
    find_coordinator_of(OF_TRANSACTIONS, id, version)
}

/// FindCoordinator for a consumer group.
pub(super) fn find_group_coordinator(group: &str, version: i16) -> Result<Bytes, EncodeError> {
    const OF_GROUPS: i8 = 0;
    find_coordinator_of(OF_GROUPS, group, version)
}

fn find_coordinator_of(key_type: i8, id: &str, version: i16) -> Result<Bytes, EncodeError> {
    let request = FindCoordinatorRequest::default();
    let request = match version {
        0 => request,
        _ => request.with_key_type(key_type),
    };
    let request = match version {
        ..4 => request.with_key(text(id)),
        _ => request.with_coordinator_keys(vec![text(id)]),
    };
    encode("FindCoordinator", &request, version)
}

/// OffsetFetch for one group that wants no offset of an open transaction passed over.
pub(super) fn stable_offsets(
    question: &super::group_offsets::StableOffsets,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name(&question.topic))
        .with_partition_indexes(question.partitions.clone());
    let request = OffsetFetchRequest::default()
        .with_group_id(text(&question.group).into())
        .with_topics(Some(vec![topic]))
        .with_require_stable(version >= 7);
    encode("OffsetFetch", &request, version)
}

/// AddPartitionsToTxn for one transaction.
pub(super) fn add_partitions(question: &AddPartitions, version: i16) -> Result<Bytes, EncodeError> {
    let topics = question.topics.iter().map(|(topic, partitions)| {
        AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.clone())
    });
    let (id, epoch) = (ProducerId(question.stamp.id), question.stamp.epoch);
    let request = AddPartitionsToTxnRequest::default();
    let request = match version {
        ..4 => request
            .with_v3_and_below_transactional_id(text(&question.id).into())
            .with_v3_and_below_producer_id(id)
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(topics.collect()),
        _ => {
            let transaction = AddPartitionsToTxnTransaction::default()
                .with_transactional_id(text(&question.id).into())
                .with_producer_id(id)
                .with_producer_epoch(epoch)
                .with_topics(topics.collect());
            request.with_transactions(vec![transaction])
        }
    };
    encode("AddPartitionsToTxn", &request, version)
}

/// EndTxn.
pub(super) fn end_txn(question: &EndTxn, version: i16) -> Result<Bytes, EncodeError> {
    let request = EndTxnRequest::default()
        .with_transactional_id(text(&question.id).into())
        .with_producer_id(ProducerId(question.stamp.id))
        .with_producer_epoch(question.stamp.epoch)
        .with_committed(question.decision == Decision::Commit);
    encode("EndTxn", &request, version)
}
