//! The moves of a cluster: followers that stand still, leaders that change, brokers that stop.
//!
//! *State* of a broker:
//!
//! ```text
//! Alive ─ crash: what it led is led by the next in sync, or by nobody ─▶ Crashed
//!   ▲                                                                       │
//!   └── restart: its replicas catch up; what nobody led, it may lead ───────┘
//! ```
//!
//! *Invariants*
//! 1. A move that fails has changed nothing.
//! 2. A move that touches a partition says so, so that whoever waits for it is answered.
//!
//! *Source* apache/kafka `metadata/…/controller/ReplicationControlManager.java`.
//!
//! *Not here* connections to a broker that stops (`handlers/cluster_engine.rs`).
//!
//! *Deviations* what a controller decides reaches every broker at once.

use std::sync::Arc;

use thiserror::Error;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::replication::{Membership, ReplicaSet};
use super::time::Instant;
use super::topology::{BrokerState, PartitionKey};

/// A move of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Move {
    /// A follower stands still; it leaves the ISR after `replica.lag.time.max.ms` of lag.
    HoldFollower {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The follower's broker.
        broker: BrokerId,
    },
    /// A held follower goes on: it catches up, and joins the ISR if it had left it.
    ReleaseFollower {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The follower's broker.
        broker: BrokerId,
    },
    /// A follower leaves the ISR at once and stands still; releasing it brings it back.
    ShrinkIsr {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The follower's broker.
        broker: BrokerId,
    },
    /// An in-sync replica becomes the leader, with a new leader epoch.
    MoveLeader {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The new leader.
        broker: BrokerId,
    },
    /// A broker stops: its connections close, what it led is led by the next in sync.
    CrashBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A stopped broker starts: its replicas catch up; what nobody led, it may lead.
    RestartBroker {
        /// The broker.
        broker: BrokerId,
    },
}

/// A move that the cluster cannot make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MoveError {
    /// No topic of this name.
    #[error("no such topic")]
    UnknownTopic,
    /// The topic has no such partition.
    #[error("the topic has no such partition")]
    UnknownPartition,
    /// No broker of this id.
    #[error("no such broker")]
    UnknownBroker,
    /// The broker has no replica of the partition, or leads it.
    #[error("the broker is no follower of the partition")]
    NotAFollower,
    /// The broker's replica is not in sync, or the broker does not run.
    #[error("the broker cannot lead the partition: its replica is not in sync, or it does not run")]
    CannotLead,
}

impl Cluster {
    /// Makes a move.
    ///
    /// # Errors
    ///
    /// What the cluster does not have or cannot do; nothing has changed then.
    pub fn make_move(&mut self, to_make: &Move, now: Instant) -> Result<(), MoveError> {
        match to_make {
            Move::HoldFollower {
                topic,
                partition,
                broker,
            } => {
                let key = self.key(topic, *partition)?;
                self.follower(key, *broker)?.hold(*broker);
                self.on_replicas_changed(key);
            }
            Move::ReleaseFollower {
                topic,
                partition,
                broker,
            } => {
                let key = self.key(topic, *partition)?;
                self.follower(key, *broker)?.release(*broker);
                self.on_replicas_changed(key);
            }
            Move::ShrinkIsr {
                topic,
                partition,
                broker,
            } => {
                let key = self.key(topic, *partition)?;
                self.follower(key, *broker)?.shrink(*broker);
                self.on_replicas_changed(key);
            }
            Move::MoveLeader {
                topic,
                partition,
                broker,
            } => {
                let key = self.key(topic, *partition)?;
                self.move_leader(key, *broker, now)?;
            }
            Move::CrashBroker { broker } => self.crash(*broker, now)?,
            Move::RestartBroker { broker } => self.restart(*broker, now)?,
        }
        Ok(())
    }

    fn follower(
        &mut self,
        key: PartitionKey,
        broker: BrokerId,
    ) -> Result<&mut ReplicaSet, MoveError> {
        let leads = self.leader(key) == Some(broker);
        let partition = self
            .partitions
            .get_mut(&key)
            .ok_or(MoveError::UnknownPartition)?;
        if leads || partition.replicas().replica(broker).is_none() {
            return Err(MoveError::NotAFollower);
        }
        Ok(partition.replicas_mut())
    }

    fn move_leader(
        &mut self,
        key: PartitionKey,
        broker: BrokerId,
        now: Instant,
    ) -> Result<(), MoveError> {
        let partition = self
            .partitions
            .get(&key)
            .ok_or(MoveError::UnknownPartition)?;
        let replica = partition.replicas().replica(broker);
        let in_sync = replica.is_some_and(|replica| replica.membership == Membership::InSync);
        if !in_sync || !self.topology.is_alive(broker) {
            return Err(MoveError::CannotLead);
        }
        self.elect(key, Some(broker), now);
        self.on_replicas_changed(key);
        Ok(())
    }

    fn crash(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if !self.topology.has_broker(broker) {
            return Err(MoveError::UnknownBroker);
        }
        self.topology.set_broker_state(broker, BrokerState::Crashed);
        for key in self.hosted_by(broker) {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.replicas_mut().on_broker_down(broker);
                let electable = partition.replicas().electable();
                if self.leader(key) == Some(broker) {
                    self.elect(key, electable, now);
                }
                self.on_replicas_changed(key);
            }
        }
        Ok(())
    }

    fn restart(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if !self.topology.has_broker(broker) {
            return Err(MoveError::UnknownBroker);
        }
        self.topology.set_broker_state(broker, BrokerState::Alive);
        self.producer_ids.on_restart(broker);
        for key in self.hosted_by(broker) {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.replicas_mut().on_broker_up(broker);
                let electable = partition.replicas().electable();
                if self.leader(key).is_none() {
                    self.elect(key, electable, now);
                }
                self.on_replicas_changed(key);
            }
        }
        Ok(())
    }

    fn hosted_by(&self, broker: BrokerId) -> Vec<PartitionKey> {
        let hosted = self.partitions.iter();
        let hosted = hosted.filter(|(_, partition)| partition.replicas().replica(broker).is_some());
        hosted.map(|(key, _)| *key).collect()
    }

    fn elect(&mut self, key: PartitionKey, leader: Option<BrokerId>, now: Instant) {
        self.topology.elect(key, leader);
        let now_ms = self.wall_clock_ms(now);
        if let (Some(topic), Some(partition)) = (
            self.topology.topic(key.topic),
            self.partitions.get_mut(&key),
        ) {
            partition.change_leader(leader, &topic.config, now_ms);
        }
    }
}
