//! What a test can read of groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::MockCluster;
use crate::engine::Cluster;

/// An offset that a group has committed, or that a transaction would commit for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsetView {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// From where the group reads on; `None` while it has committed nothing.
    pub offset: Option<i64>,
    /// The leader epoch that was committed beside it.
    pub leader_epoch: Option<i32>,
    /// The text that was committed beside it.
    pub metadata: Arc<str>,
    /// Whether an open transaction would commit another.
    pub unstable: bool,
}

/// A group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its state, by Kafka's name: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: &'static str,
    /// The generation.
    pub generation: i32,
    /// The type of its protocols, `consumer` for consumers; `None` while nobody has joined.
    pub protocol_type: Option<String>,
    /// The protocol that all members know.
    pub protocol: Option<String>,
    /// Its members, by id.
    pub members: Vec<GroupMemberView>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMemberView {
    /// Its id.
    pub id: String,
    /// The id that a static member gave itself.
    pub instance: Option<String>,
    /// The client id that it joined with.
    pub client_id: String,
    /// What the leader has assigned to it, as it is on the wire.
    pub assignment: Bytes,
}

impl MockCluster {
    /// A group with its members; `None` when there is no such group.
    #[must_use]
    pub fn group(&self, group: &str) -> Option<GroupView> {
        self.driver().with(|engine, _| {
            let known = engine.cluster().groups().find(group)?;
            let members = known.members().map(|(id, member, _)| GroupMemberView {
                id: id.clone(),
                instance: member.instance.clone(),
                client_id: member.client.clone(),
                assignment: member.assignment.clone(),
            });
            Some(GroupView {
                state: known.state().name(),
                generation: known.generation(),
                protocol_type: known.protocol_type().map(Into::into),
                protocol: known.protocol().map(Into::into),
                members: members.collect(),
            })
        })
    }

    /// What a group has committed, and for which partitions transactions would commit something, by
    /// topic and partition; `None` when there is no such group.
    #[must_use]
    pub fn group_offsets(&self, group: &str) -> Option<Vec<GroupOffsetView>> {
        self.driver().with(|engine, _| {
            let cluster = engine.cluster();
            let known = cluster.groups().exists(group);
            known.then(|| offset_views(cluster, group))
        })
    }
}

fn offset_views(cluster: &Cluster, group: &str) -> Vec<GroupOffsetView> {
    let offsets = cluster.groups().offsets();
    let committed = offsets.committed(group).map(|(partition, _)| partition);
    let named: BTreeSet<_> = committed.chain(offsets.pending(group)).collect();
    let views = named.into_iter().map(|partition| {
        let committed = offsets.find(group, partition);
        let epoch = committed.map(|of| of.leader_epoch);
        GroupOffsetView {
            topic: Arc::clone(&partition.0),
            partition: partition.1,
            offset: committed.map(|of| of.offset),
            leader_epoch: epoch.filter(|epoch| *epoch >= 0),
            metadata: committed.map_or_else(|| "".into(), |of| Arc::clone(&of.metadata)),
            unstable: offsets.is_unstable(group, partition),
        }
    });
    views.collect()
}
