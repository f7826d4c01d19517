//! The bodies of requests about groups and what is known of transactions, laid out by
//! `kafka_protocol`.
//!
//! *Not here*: answers (`groups.rs`, `group_deletion.rs`, `described.rs`).

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, DeleteGroupsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, JoinGroupRequest, ListTransactionsRequest, OffsetDeleteRequest,
    OffsetFetchRequest, ProducerId, TxnOffsetCommitRequest,
};

use super::described::{DescribeProducers, ListTransactions};
use super::group_deletion::OffsetDelete;
use super::groups::{AddOffsets, JoinGroup, OffsetFetch, TxnOffsetCommit};
use super::request::{EncodeError, encode, text, topic_name};

/// JoinGroup with one protocol.
pub(super) fn join_group(question: &JoinGroup, version: i16) -> Result<Bytes, EncodeError> {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(question.metadata.clone());
    let request = JoinGroupRequest::default()
        .with_group_id(text(&question.group).into())
        .with_session_timeout_ms(question.session_ms)
        .with_rebalance_timeout_ms(question.session_ms)
        .with_member_id(text(&question.member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let request = match &question.instance {
        Some(instance) => request.with_group_instance_id(Some(text(instance))),
        None => request,
    };
    encode("JoinGroup", &request, version)
}

/// DeleteGroups.
pub(super) fn delete_groups(groups: &[String], version: i16) -> Result<Bytes, EncodeError> {
    let groups = groups.iter().map(|group| text(group).into()).collect();
    let request = DeleteGroupsRequest::default().with_groups_names(groups);
    encode("DeleteGroups", &request, version)
}

/// OffsetDelete.
pub(super) fn offset_delete(question: &OffsetDelete, version: i16) -> Result<Bytes, EncodeError> {
    let topics = question.topics.iter().map(|(topic, partitions)| {
        let partitions = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect())
    });
    let request = OffsetDeleteRequest::default()
        .with_group_id(text(&question.group).into())
        .with_topics(topics.collect());
    encode("OffsetDelete", &request, version)
}

/// AddOffsetsToTxn.
pub(super) fn add_offsets(question: &AddOffsets, version: i16) -> Result<Bytes, EncodeError> {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(text(&question.id).into())
        .with_producer_id(ProducerId(question.stamp.id))
        .with_producer_epoch(question.stamp.epoch)
        .with_group_id(text(&question.group).into());
    encode("AddOffsetsToTxn", &request, version)
}

/// TxnOffsetCommit of one partition.
pub(super) fn txn_offset_commit(
    question: &TxnOffsetCommit,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(question.offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text("")));
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name(&question.topic))
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(text(&question.id).into())
        .with_group_id(text(&question.group).into())
        .with_producer_id(ProducerId(question.stamp.id))
        .with_producer_epoch(question.stamp.epoch)
        .with_topics(vec![topic]);
    let claim = &question.claim;
    let request = match version {
        // The older ones say nothing of members.
        ..3 => request,
        _ => request
            .with_generation_id(claim.generation)
            .with_member_id(text(&claim.member))
            .with_group_instance_id(claim.instance.as_deref().map(text)),
    };
    encode("TxnOffsetCommit", &request, version)
}

/// OffsetFetch of one partition of one group.
pub(super) fn offset_fetch(question: &OffsetFetch, version: i16) -> Result<Bytes, EncodeError> {
    let topic = topic_name(&question.topic);
    let request = match version {
        ..8 => {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(topic)
                .with_partition_indexes(vec![0]);
            OffsetFetchRequest::default()
                .with_group_id(text(&question.group).into())
                .with_topics(Some(vec![topic]))
        }
        _ => {
            let topic = OffsetFetchRequestTopics::default()
                .with_name(topic)
                .with_partition_indexes(vec![0]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(text(&question.group).into())
                .with_topics(Some(vec![topic]));
            OffsetFetchRequest::default().with_groups(vec![group])
        }
    };
    encode(
        "OffsetFetch",
        &request.with_require_stable(question.stable),
        version,
    )
}

/// DescribeTransactions.
pub(super) fn describe_transactions(ids: &[String], version: i16) -> Result<Bytes, EncodeError> {
    let ids = ids.iter().map(|id| text(id).into()).collect();
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
    encode("DescribeTransactions", &request, version)
}

/// ListTransactions of some producers.
pub(super) fn list_transactions(
    question: &ListTransactions,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let states = question.states.iter().map(|state| text(state)).collect();
    let producers = question.producers.iter().copied().map(ProducerId).collect();
    let request = ListTransactionsRequest::default()
        .with_state_filters(states)
        .with_producer_id_filters(producers);
    encode("ListTransactions", &request, version)
}

/// DescribeProducers of one partition.
pub(super) fn describe_producers(
    question: &DescribeProducers,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let topic = TopicRequest::default()
        .with_name(topic_name(&question.topic))
        .with_partition_indexes(vec![question.partition]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    encode("DescribeProducers", &request, version)
}
