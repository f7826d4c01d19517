//! One file per API: parse, act, answer; and the engine that serves requests with them.
//!
//! | Key | File |
//! |---|---|
//! | 0 | [`produce`], with [`produce_row`] for how an outcome reads, `produce_verification` for transactions |
//! | 1 | [`fetch`] |
//! | 2 | [`list_offsets`] |
//! | 3 | [`metadata`] |
//! | 8 | [`offset_commit`], with `offset_rows` for its rows |
//! | 9 | [`offset_fetch`] |
//! | 10 | [`find_coordinator`] |
//! | 11 | [`join_group`], with `group_wait` for how it waits |
//! | 12 | [`heartbeat`] |
//! | 13 | [`leave_group`] |
//! | 14 | [`sync_group`] |
//! | 15 | [`describe_groups`] |
//! | 16 | [`list_groups`] |
//! | 18 | [`api_versions`] |
//! | 19 | [`create_topics`] |
//! | 20 | [`delete_topics`] |
//! | 21 | [`delete_records`] |
//! | 22 | [`init_producer_id`] |
//! | 23 | [`offset_for_leader_epoch`] |
//! | 24 | [`add_partitions_to_txn`] |
//! | 25 | [`add_offsets_to_txn`] |
//! | 26 | [`end_txn`] |
//! | 27 | [`write_txn_markers`] |
//! | 28 | [`txn_offset_commit`] |
//! | 32 | [`describe_configs`] |
//! | 37 | [`create_partitions`] |
//! | 42 | [`delete_groups`] |
//! | 44 | [`incremental_alter_configs`] |
//! | 47 | [`offset_delete`] |
//! | 48 | [`describe_client_quotas`] |
//! | 49 | [`alter_client_quotas`] |
//! | 57 | [`update_features`] |
//! | 60 | [`describe_cluster`] |
//! | 61 | [`describe_producers`] |
//! | 65 | [`describe_transactions`] |
//! | 66 | [`list_transactions`] |
//! | 75 | [`describe_topic_partitions`] |
//!
//! What each API advertises is the table in `wire/versions.rs`.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_client_quotas;
mod answer_room;
pub mod api_versions;
mod cluster_engine;
mod config_faults;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
mod group_wait;
pub mod heartbeat;
mod hosting;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
mod offset_rows;
pub mod produce;
pub mod produce_row;
mod produce_verification;
pub mod sync_group;
mod targets;
mod txn_codes;
pub mod txn_offset_commit;
pub mod update_features;
pub mod write_txn_markers;

pub use cluster_engine::{ClusterEngine, OtherBrokers, Snapshot};

use std::sync::Arc;

use uuid::Uuid;

use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
use crate::engine::time::Instant;
use crate::engine::topology::{BrokerEndpoint, PartitionKey, Topic, Topology};
use crate::error_code::ErrorCode;
use crate::fault::{Scope, Verdict};
use crate::wire::admin_request::AdminRequest;
use crate::wire::groups::GroupRequest;
use crate::wire::offsets::OffsetRequest;
use crate::wire::reply::{Endpoint, LeaderHint, Reply, TopicLabel};
use crate::wire::request::{RequestBody, RequestHeader, TopicRef};
use crate::wire::transactions::TxnRequest;

/// What surrounds a request while it is handled.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its header.
    pub header: RequestHeader,
    /// The broker that was asked.
    pub broker: BrokerId,
    /// Bytes of its frame.
    pub frame_bytes: usize,
    /// The code that a fault rule puts into the answer, if one does.
    pub injection: Injection,
}

/// A code that a fault rule puts into an answer.
#[derive(Clone, Debug)]
pub enum Injection {
    /// None.
    None,
    /// In place of what is covered, which is not applied.
    Refuse(ErrorCode, Scope),
    /// In the answer for what is covered, which is applied.
    Overwrite(ErrorCode, Scope),
}

impl Injection {
    /// What a verdict puts into the answer.
    #[must_use]
    pub fn new(verdict: Verdict, scope: Scope) -> Self {
        match verdict {
            Verdict::Answer(code) => Self::Refuse(code, scope),
            Verdict::ApplyThenAnswer(code) => Self::Overwrite(code, scope),
            _ => Self::None,
        }
    }

    /// The code with which the whole request is refused, if any.
    #[must_use]
    pub fn refusal(&self) -> Option<ErrorCode> {
        self.refusal_of(|_| true)
    }

    /// The code with which a topic is refused, if any.
    #[must_use]
    pub fn topic_refusal(&self, topic: &str) -> Option<ErrorCode> {
        self.refusal_of(|scope| scope.covers_topic(topic))
    }

    /// The code with which a partition is refused, if any.
    #[must_use]
    pub fn partition_refusal(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        self.refusal_of(|scope| scope.covers(topic, partition))
    }

    /// The code that overwrites the outcome of the whole request, if any.
    #[must_use]
    pub fn overwriting(&self) -> Option<ErrorCode> {
        self.overwriting_of(|_| true)
    }

    /// The code that overwrites the outcome of a topic, if any.
    #[must_use]
    pub fn topic_overwriting(&self, topic: &str) -> Option<ErrorCode> {
        self.overwriting_of(|scope| scope.covers_topic(topic))
    }

    /// The code that overwrites the outcome of a partition, if any.
    #[must_use]
    pub fn partition_overwriting(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        self.overwriting_of(|scope| scope.covers(topic, partition))
    }

    fn refusal_of(&self, covers: impl Fn(&Scope) -> bool) -> Option<ErrorCode> {
        match self {
            Self::Refuse(code, scope) if covers(scope) => Some(*code),
            _ => None,
        }
    }

    fn overwriting_of(&self, covers: impl Fn(&Scope) -> bool) -> Option<ErrorCode> {
        match self {
            Self::Overwrite(code, scope) if covers(scope) => Some(*code),
            _ => None,
        }
    }
}

/// How a request ends.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With a reply.
    Reply(Reply),
    /// Without one, and the next request of the connection is served (Produce with acks=0).
    Silent,
    /// Never: the connection is muted.
    Stuck,
    /// By closing the connection, for this reason.
    Close(Arc<str>),
    /// Later.
    Wait(Wait),
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What it waits with.
    pub pending: Pending,
    /// The partitions whose changes may end the wait.
    pub watched: Vec<PartitionKey>,
    /// When the wait ends whatever happened; a time that has come ends it at once.
    pub deadline: Instant,
}

/// What a request waits with, one variant for each API that may wait.
#[derive(Clone, Debug)]
pub enum Pending {
    /// For the markers of the transaction before.
    Joining(produce::Attempt),
    /// For replication.
    Produce(produce::Pending),
    /// For data.
    Fetch(fetch::Pending),
    /// For the other replicas to delete too.
    DeleteRecords(delete_records::Pending),
    /// For other members of a group.
    Group(group_wait::Pending),
    /// For the replication of markers.
    Markers(write_txn_markers::Pending),
}

impl Pending {
    /// Whether the wait is over.
    #[must_use]
    pub fn settle(&mut self, cluster: &Cluster, context: &Context) -> bool {
        match self {
            // The coordinator is asked again at the end of the wait.
            Self::Joining(_) => false,
            Self::Produce(pending) => pending.settle(cluster, context),
            Self::Fetch(pending) => pending.is_complete(cluster, context),
            Self::DeleteRecords(pending) => pending.is_complete(cluster, context),
            Self::Group(pending) => pending.settle(cluster, context),
            Self::Markers(pending) => pending.settle(cluster, context),
        }
    }

    /// The answer at the end of the wait, in time or at the deadline.
    #[must_use]
    pub fn answer(self, cluster: &mut Cluster, context: &Context, now: Instant) -> Answer {
        match self {
            Self::Joining(attempt) => attempt.answer(cluster, context, now),
            Self::Produce(pending) => pending.answer(cluster, context),
            Self::Fetch(pending) => pending.answer(cluster, context),
            Self::DeleteRecords(pending) => pending.answer(cluster, context),
            Self::Group(pending) => pending.answer(cluster, context),
            Self::Markers(pending) => pending.answer(context),
        }
    }
}

/// Whether a broker forwards the request to the controller (`KafkaApis.forwardToController`). One
/// that is cut off answers 7 after a minute; here it does not answer.
const fn needs_controller(body: &RequestBody) -> bool {
    matches!(
        body,
        RequestBody::CreateTopics(_)
            | RequestBody::DeleteTopics(_)
            | RequestBody::Admin(
                AdminRequest::CreatePartitions(_)
                    | AdminRequest::IncrementalAlterConfigs(_)
                    | AdminRequest::UpdateFeatures(_)
            )
    )
}

/// Serves one request.
pub fn handle(cluster: &mut Cluster, context: &Context, body: RequestBody, now: Instant) -> Answer {
    if needs_controller(&body) && cluster.is_cut_off(context.broker) {
        let api = context.header.api;
        cluster.note(format!(
            "{api} is stuck: its broker is cut off from the controller"
        ));
        return Answer::Stuck;
    }
    match body {
        RequestBody::Produce(request) => produce::handle(cluster, context, request, now),
        RequestBody::Fetch(request) => fetch::handle(cluster, context, request, now),
        RequestBody::ListOffsets(request) => list_offsets::handle(cluster, context, &request),
        RequestBody::Metadata(request) => metadata::handle(cluster, context, &request, now),
        RequestBody::FindCoordinator(request) => {
            find_coordinator::handle(cluster, context, &request, now)
        }
        RequestBody::ApiVersions(request) => api_versions::handle(cluster, context, &request),
        RequestBody::CreateTopics(request) => cluster.make_by_request(
            |cluster| create_topics::handle(cluster, context, &request),
            now,
        ),
        RequestBody::DeleteTopics(request) => delete_topics::handle(cluster, context, &request),
        RequestBody::InitProducerId(request) => {
            init_producer_id::handle(cluster, context, &request, now)
        }
        RequestBody::Txn(TxnRequest::AddPartitionsToTxn(request)) => {
            add_partitions_to_txn::handle(cluster, context, &request, now)
        }
        RequestBody::Txn(TxnRequest::EndTxn(request)) => {
            end_txn::handle(cluster, context, &request, now)
        }
        RequestBody::Txn(TxnRequest::WriteTxnMarkers(request)) => {
            write_txn_markers::handle(cluster, context, &request, now)
        }
        RequestBody::Offsets(request) => handle_offsets(cluster, context, &request, now),
        RequestBody::Groups(request) => handle_group(cluster, context, &request, now),
        RequestBody::Admin(request) => handle_admin(cluster, context, &request, now),
    }
}

fn handle_offsets(
    cluster: &mut Cluster,
    context: &Context,
    request: &OffsetRequest,
    now: Instant,
) -> Answer {
    match request {
        OffsetRequest::OffsetCommit(request) => {
            offset_commit::handle(cluster, context, request, now)
        }
        OffsetRequest::OffsetFetch(request) => offset_fetch::handle(cluster, context, request),
        OffsetRequest::AddOffsetsToTxn(request) => {
            add_offsets_to_txn::handle(cluster, context, request, now)
        }
        OffsetRequest::TxnOffsetCommit(request) => {
            txn_offset_commit::handle(cluster, context, request, now)
        }
        OffsetRequest::OffsetDelete(group, topics) => {
            offset_delete::handle(cluster, context, (group, topics))
        }
    }
}

fn handle_group(
    cluster: &mut Cluster,
    context: &Context,
    request: &GroupRequest,
    now: Instant,
) -> Answer {
    match request {
        GroupRequest::JoinGroup(request) => join_group::handle(cluster, context, request, now),
        GroupRequest::SyncGroup(request) => sync_group::handle(cluster, context, request, now),
        GroupRequest::Heartbeat(group, by) => heartbeat::handle(cluster, context, (group, by), now),
        GroupRequest::LeaveGroup(group, members) => {
            leave_group::handle(cluster, context, (group, members), now)
        }
        GroupRequest::DescribeGroups(groups, operations) => {
            describe_groups::handle(cluster, context, groups, *operations)
        }
        GroupRequest::ListGroups(states, kinds) => {
            list_groups::handle(cluster, context, (states, kinds))
        }
        GroupRequest::DeleteGroups(groups) => delete_groups::handle(cluster, context, groups),
    }
}

fn handle_admin(
    cluster: &mut Cluster,
    context: &Context,
    request: &AdminRequest,
    now: Instant,
) -> Answer {
    let reply = match request {
        AdminRequest::DeleteRecords(request) => {
            return delete_records::handle(cluster, context, request, now);
        }
        AdminRequest::OffsetForLeaderEpoch(request) => {
            offset_for_leader_epoch::handle(cluster, context, request)
        }
        AdminRequest::DescribeProducers(request) => {
            return describe_producers::handle(cluster, context, request, now);
        }
        AdminRequest::DescribeConfigs(request) => {
            return describe_configs::handle(cluster, context, request);
        }
        AdminRequest::IncrementalAlterConfigs(request) => {
            incremental_alter_configs::handle(cluster, context, request, now)
        }
        AdminRequest::DescribeCluster(request) => {
            describe_cluster::handle(cluster, context, request)
        }
        AdminRequest::DescribeTopicPartitions(request) => {
            describe_topic_partitions::handle(cluster, context, request)
        }
        AdminRequest::CreatePartitions(request) => cluster.make_by_request(
            |cluster| create_partitions::handle(cluster, context, request),
            now,
        ),
        AdminRequest::DescribeClientQuotas(request) => {
            describe_client_quotas::handle(cluster, context, request)
        }
        AdminRequest::AlterClientQuotas(request) => {
            alter_client_quotas::handle(cluster, context, request)
        }
        AdminRequest::UpdateFeatures(request) => update_features::handle(cluster, context, request),
        AdminRequest::DescribeTransactions(ids) => {
            return describe_transactions::handle(cluster, context, ids, now);
        }
        AdminRequest::ListTransactions(request) => {
            list_transactions::handle(cluster, context, request, now)
        }
    };
    Answer::Reply(Reply::Admin(reply))
}

fn endpoint(broker: &BrokerEndpoint) -> Endpoint {
    Endpoint {
        id: broker.id.0,
        host: Arc::clone(&broker.host),
        port: i32::from(broker.port),
    }
}

/// Who leads a partition, for rows with code 6 (KIP-951).
fn leader_hint(known: &Topology, key: PartitionKey) -> Option<LeaderHint> {
    let leadership = known.placement(key)?.leadership;
    let id = leadership.leader.map_or(-1, |broker| broker.0);
    Some(LeaderHint {
        id,
        epoch: leadership.epoch,
    })
}

/// How to reach the brokers that hints name, each once (observed), only those that run.
fn hinted_endpoints(known: &Topology, hints: impl Iterator<Item = LeaderHint>) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for hint in hints {
        if !endpoints.iter().any(|told| told.id == hint.id)
            && let Some(broker) = known.live_endpoint(BrokerId(hint.id))
        {
            endpoints.push(endpoint(broker));
        }
    }
    endpoints
}

/// The topic that a request names.
fn find<'a>(known: &'a Topology, topic: &TopicRef) -> Option<&'a Topic> {
    match topic {
        TopicRef::Name(name) => known.topic_by_name(name),
        TopicRef::Id(id) => known.topic_by_id(*id),
    }
}

/// A topic as its rows are headed: what is not known of it stays empty.
fn label(known: &Topology, topic: &TopicRef) -> TopicLabel {
    match topic {
        TopicRef::Name(name) => TopicLabel {
            name: name.as_str().into(),
            id: Uuid::nil(),
        },
        TopicRef::Id(id) => {
            let name =
                find(known, topic).map_or_else(|| "".into(), |topic| Arc::clone(&topic.name));
            TopicLabel { name, id: *id }
        }
    }
}
