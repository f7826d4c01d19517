//! What a test can read of a running cluster: copies, taken under the cluster's lock.
//!
//! *Not here*: the machines that own the facts (`engine/`).

use std::sync::Arc;

use crate::cluster::MockCluster;
use crate::engine::effect::BrokerId;
pub use crate::engine::journal::{Diagnostic, Entry, Event, RequestId, Silence};
pub use crate::engine::time::Instant;
pub use crate::wire::reply::RowCode;

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: Arc<str>,
    /// Its id (KIP-516): another one each time that a topic of this name is made.
    pub id: [u8; 16],
    /// Its partitions, by index.
    pub partitions: Vec<PartitionView>,
}

/// A partition as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Who leads; `None` while nobody does.
    pub leader: Option<BrokerId>,
    /// Raised by one with every change of leader; starts at 0.
    pub leader_epoch: i32,
    /// The brokers with a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
}

impl MockCluster {
    /// Every topic, in the order in which they were made.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicView> {
        self.driver()
            .with(|engine, _| engine.cluster().topology().topics().map(view).collect())
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<TopicView> {
        self.driver()
            .with(|engine, _| engine.cluster().topology().topic_by_name(name).map(view))
    }

    /// What happened, oldest first: connections, requests, replies. The last 65,536 entries are
    /// kept.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.driver()
            .with(|engine, _| engine.journal().entries().cloned().collect())
    }

    /// What clients asked that is not modelled or not allowed, oldest first: every connection that
    /// was closed for a bad frame has its reason here. The first 1,000 are kept.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.driver()
            .with(|engine, _| engine.journal().diagnostics().to_vec())
    }
}

fn view(topic: &crate::engine::topology::Topic) -> TopicView {
    let partitions = topic.partitions.iter().map(|placement| PartitionView {
        leader: placement.leadership.leader,
        leader_epoch: placement.leadership.epoch,
        replicas: placement.replicas.clone(),
    });
    TopicView {
        name: Arc::clone(&topic.name),
        id: *topic.id.as_bytes(),
        partitions: partitions.collect(),
    }
}
