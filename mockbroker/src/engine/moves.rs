//! The moves of a cluster: followers that stand still, leaders that change, brokers that stop.
//!
//! *State* of a broker:
//!
//! ```text
//! Alive ─ crash: what it led is led by the next in sync, or by nobody ─▶ Crashed
//!   ▲                                                                       │
//!   ├── restart: its replicas catch up; what nobody led, it may lead ───────┘
//!   │
//!   │    pause: it fetches and answers nothing
//! Alive ──▶ Paused ─ broker.session.timeout.ms: as after a crash, but connections stay ─▶ Fenced
//!   ▲         │                                                                             │
//!   └─────────┴── resume: as after a restart, but held followers stay held ─────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A move that fails has changed nothing.
//! 2. A move that touches a partition says so, so that whoever waits for it is answered.
//!
//! *Source* apache/kafka `metadata/…/controller/{ReplicationControlManager,
//! BrokerHeartbeatManager}.java`.
//!
//! *Not here* connections to a broker that stops (`handlers/cluster_engine.rs`).
//!
//! *Deviations* what a controller decides reaches every broker at once. So a leader that was paused
//! for longer than its session knows at once that it follows: it refuses with 6 what reached it
//! meanwhile, where a real one appends it first, and answers 6 with the offset.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::partition::{DeleteError, DeleteTo};
use super::replication::{Membership, ReplicaSet};
use super::time::Instant;
use super::topology::{BrokerState, PartitionKey};
use crate::api::Api;
use crate::wire::versions::VersionRange;

/// A move of the cluster.
///
/// Serialised, it has the words of a scenario's `moves`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
    #[serde(rename = "crash")]
    CrashBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A stopped broker starts: its replicas catch up; what nobody led, it may lead.
    #[serde(rename = "restart")]
    RestartBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A broker stands still (SIGSTOP): it fetches and answers nothing, its connections stay. After
    /// `broker.session.timeout.ms` what it led is led by the next in sync.
    #[serde(rename = "pause")]
    PauseBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A paused broker goes on: it answers what was asked meanwhile, and its replicas catch up.
    #[serde(rename = "resume")]
    ResumeBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A broker offers an API in these versions only, as far as it knows them: ApiVersions names no
    /// others, and a request in another one closes its connection.
    RestrictVersions {
        /// The broker.
        broker: BrokerId,
        /// The API.
        api: Api,
        /// The oldest.
        min: i16,
        /// The newest.
        max: i16,
    },
    /// What lies before an offset is deleted, as DeleteRecords would.
    DeleteRecords {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Before which offset.
        to: DeleteTo,
    },
    /// Every partition forgets a producer, as after `producer.id.expiration.ms`.
    ExpireProducer {
        /// The producer's id.
        producer_id: i64,
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
    /// Nobody leads the partition.
    #[error("nobody leads the partition")]
    NoLeader,
    /// The offset is below 0 or above the high watermark.
    #[error("the offset is below 0 or above the high watermark")]
    OffsetOutOfRange,
    /// The topic is compacted and nothing else, so that its records are not deleted.
    #[error("the cleanup.policy of the topic does not delete")]
    NotByPolicy,
    /// Nothing is known of the producer, in any partition.
    #[error("no partition knows the producer")]
    UnknownProducer,
    /// The API is not served, or not in any of the versions.
    #[error("the API is not served in any of these versions")]
    NoSuchVersion,
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
            Move::PauseBroker { broker } => self.pause(*broker, now)?,
            Move::ResumeBroker { broker } => self.resume(*broker, now)?,
            Move::RestrictVersions {
                broker,
                api,
                min,
                max,
            } => self.restrict_versions(*broker, *api, VersionRange::new(*min, *max))?,
            Move::DeleteRecords {
                topic,
                partition,
                to,
            } => {
                let key = self.key(topic, *partition)?;
                self.leader(key).ok_or(MoveError::NoLeader)?;
                self.delete_records(key, *to).map_err(refused_deletion)?;
            }
            Move::ExpireProducer { producer_id } => self.expire_producer(*producer_id)?,
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
        if self.broker_state(broker)? != BrokerState::Crashed {
            self.sessions.remove(&broker);
            self.leave(broker, BrokerState::Crashed, now);
        }
        Ok(())
    }

    fn restart(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if self.broker_state(broker)? == BrokerState::Crashed {
            self.producer_ids.on_restart(broker);
            self.come_back(broker, ReplicaSet::on_broker_up, now);
        }
        Ok(())
    }

    fn pause(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if self.broker_state(broker)? != BrokerState::Alive {
            return Ok(());
        }
        let session_ms = self.config().broker_session_timeout_ms;
        let session = Duration::from_millis(u64::try_from(session_ms).unwrap_or(0));
        self.sessions.insert(broker, now + session);
        self.topology.set_broker_state(broker, BrokerState::Paused);
        for key in self.hosted_by(broker) {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.replicas_mut().on_broker_paused(broker);
                self.on_replicas_changed(key);
            }
        }
        Ok(())
    }

    fn resume(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if let BrokerState::Paused | BrokerState::Fenced = self.broker_state(broker)? {
            self.sessions.remove(&broker);
            self.come_back(broker, ReplicaSet::on_broker_resumed, now);
        }
        Ok(())
    }

    fn restrict_versions(
        &mut self,
        broker: BrokerId,
        api: Api,
        range: VersionRange,
    ) -> Result<(), MoveError> {
        self.broker_state(broker)?;
        if self.api_limits.restrict(broker, api, range) {
            Ok(())
        } else {
            Err(MoveError::NoSuchVersion)
        }
    }

    fn expire_producer(&mut self, producer_id: i64) -> Result<(), MoveError> {
        let mut known = false;
        for partition in self.partitions.values_mut() {
            known |= partition.forget_producer(producer_id);
        }
        if known {
            Ok(())
        } else {
            Err(MoveError::UnknownProducer)
        }
    }

    /// Fences the paused brokers whose sessions are over.
    pub(super) fn end_sessions(&mut self, now: Instant) {
        let over = |(broker, end): (&BrokerId, &Instant)| (*end <= now).then_some(*broker);
        let over: Vec<BrokerId> = self.sessions.iter().filter_map(over).collect();
        for broker in over {
            self.sessions.remove(&broker);
            self.leave(broker, BrokerState::Fenced, now);
        }
    }

    /// The controller sees a broker go.
    fn leave(&mut self, broker: BrokerId, state: BrokerState, now: Instant) {
        self.topology.set_broker_state(broker, state);
        for key in self.hosted_by(broker) {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.replicas_mut().on_broker_down(broker);
                if self.leader(key) == Some(broker) {
                    self.elect_any(key, now);
                }
                self.on_replicas_changed(key);
            }
        }
    }

    /// A broker runs again; `back` tells its replicas how.
    fn come_back(&mut self, broker: BrokerId, back: fn(&mut ReplicaSet, BrokerId), now: Instant) {
        self.topology.set_broker_state(broker, BrokerState::Alive);
        for key in self.hosted_by(broker) {
            if let Some(partition) = self.partitions.get_mut(&key) {
                back(partition.replicas_mut(), broker);
                if self.leader(key).is_none() {
                    self.elect_any(key, now);
                }
                self.on_replicas_changed(key);
            }
        }
    }

    fn broker_state(&self, broker: BrokerId) -> Result<BrokerState, MoveError> {
        self.topology
            .broker_state(broker)
            .ok_or(MoveError::UnknownBroker)
    }

    fn hosted_by(&self, broker: BrokerId) -> Vec<PartitionKey> {
        let hosted = self.partitions.iter();
        let hosted = hosted.filter(|(_, partition)| partition.replicas().replica(broker).is_some());
        hosted.map(|(key, _)| *key).collect()
    }

    /// Whoever may lead leads, or nobody.
    pub(super) fn elect_any(&mut self, key: PartitionKey, now: Instant) {
        if let (Some(topic), Some(partition)) =
            (self.topology.topic(key.topic), self.partitions.get(&key))
        {
            let electable = partition.electable(&topic.config);
            self.elect(key, electable, now);
        }
    }

    fn elect(&mut self, key: PartitionKey, leader: Option<BrokerId>, now: Instant) {
        self.topology.elect(key, leader);
        let now_ms = self.wall_clock_ms(now);
        if let (Some(topic), Some(partition)) = (
            self.topology.topic(key.topic),
            self.partitions.get_mut(&key),
        ) {
            partition.change_leader(leader, &topic.config, now_ms, now);
        }
    }
}

const fn refused_deletion(error: Option<DeleteError>) -> MoveError {
    match error {
        Some(DeleteError::OutOfRange) => MoveError::OffsetOutOfRange,
        Some(DeleteError::NotByPolicy) => MoveError::NotByPolicy,
        None => MoveError::UnknownPartition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::engine::topology::BrokerEndpoint;
    use crate::engine::{ClusterConfig, TopicSpec};
    use rstest::rstest;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);
    const THREE: BrokerId = BrokerId(3);
    const NOBODY: BrokerId = BrokerId(9);

    /// Three brokers; `orders` is on the first two, led by the first.
    fn cluster() -> Cluster {
        let config = ClusterConfig {
            brokers: [ONE, TWO, THREE]
                .map(|id| BrokerEndpoint {
                    id,
                    host: "mock".into(),
                    port: 9092,
                })
                .to_vec(),
            topics: vec![TopicSpec {
                name: "orders".into(),
                partitions: 1,
                replication_factor: 2,
                overrides: Vec::new(),
            }],
            broker: BrokerConfig::default(),
            cluster_id: None,
            wall_clock_origin_ms: 0,
            seed: 1,
        };
        Cluster::new(config, Instant::ZERO).unwrap()
    }

    fn make(cluster: &mut Cluster, to_make: &Move) -> Result<(), MoveError> {
        let made = cluster.make_move(to_make, Instant::ZERO);
        cluster.check_invariants();
        made
    }

    fn leadership(cluster: &Cluster) -> (Option<BrokerId>, i32) {
        let key = cluster.key("orders", 0).unwrap();
        let leadership = cluster.topology().placement(key).unwrap().leadership;
        (leadership.leader, leadership.epoch)
    }

    fn hold(topic: &str, partition: i32, broker: BrokerId) -> Move {
        Move::HoldFollower {
            topic: topic.into(),
            partition,
            broker,
        }
    }

    fn lead(broker: BrokerId) -> Move {
        Move::MoveLeader {
            topic: "orders".into(),
            partition: 0,
            broker,
        }
    }

    fn shrink(broker: BrokerId) -> Move {
        Move::ShrinkIsr {
            topic: "orders".into(),
            partition: 0,
            broker,
        }
    }

    #[rstest]
    #[case::topic(hold("nope", 0, TWO), MoveError::UnknownTopic)]
    #[case::partition(hold("orders", 1, TWO), MoveError::UnknownPartition)]
    #[case::partition_below_0(hold("orders", -1, TWO), MoveError::UnknownPartition)]
    #[case::leader_does_not_follow(hold("orders", 0, ONE), MoveError::NotAFollower)]
    #[case::no_replica(hold("orders", 0, THREE), MoveError::NotAFollower)]
    #[case::leader_in_the_isr(shrink(ONE), MoveError::NotAFollower)]
    #[case::leader_without_replica(lead(THREE), MoveError::CannotLead)]
    #[case::crash(Move::CrashBroker { broker: NOBODY }, MoveError::UnknownBroker)]
    #[case::restart(Move::RestartBroker { broker: NOBODY }, MoveError::UnknownBroker)]
    #[case::pause(Move::PauseBroker { broker: NOBODY }, MoveError::UnknownBroker)]
    #[case::resume(Move::ResumeBroker { broker: NOBODY }, MoveError::UnknownBroker)]
    fn illegal_moves_are_refused(#[case] to_make: Move, #[case] expected: MoveError) {
        let mut cluster = cluster();
        assert_eq!(make(&mut cluster, &to_make), Err(expected));
        assert_eq!(leadership(&cluster), (Some(ONE), 0), "nothing changed");
    }

    #[test]
    fn out_of_sync_replicas_do_not_lead() {
        let mut cluster = cluster();
        make(&mut cluster, &shrink(TWO)).unwrap();
        assert_eq!(make(&mut cluster, &lead(TWO)), Err(MoveError::CannotLead));
        make(&mut cluster, &Move::CrashBroker { broker: ONE }).unwrap();
        assert_eq!(
            leadership(&cluster),
            (None, 1),
            "rather nobody than unclean"
        );
        make(&mut cluster, &Move::RestartBroker { broker: ONE }).unwrap();
        assert_eq!(leadership(&cluster), (Some(ONE), 2));
    }

    #[test]
    fn leadership_moves_on_a_crash_and_stays_on_a_restart() {
        let mut cluster = cluster();
        make(&mut cluster, &Move::CrashBroker { broker: ONE }).unwrap();
        assert_eq!(leadership(&cluster), (Some(TWO), 1));
        make(&mut cluster, &Move::RestartBroker { broker: ONE }).unwrap();
        assert_eq!(leadership(&cluster), (Some(TWO), 1));
        let key = cluster.key("orders", 0).unwrap();
        assert_eq!(cluster.partition(key).unwrap().replicas().isr(), [ONE, TWO]);
        make(&mut cluster, &lead(ONE)).unwrap();
        assert_eq!(leadership(&cluster), (Some(ONE), 2));
    }

    #[test]
    fn crashing_twice_and_restarting_the_living_changes_nothing() {
        let mut cluster = cluster();
        make(&mut cluster, &Move::RestartBroker { broker: ONE }).unwrap();
        assert_eq!(leadership(&cluster), (Some(ONE), 0));
        for _ in 0..2 {
            make(&mut cluster, &Move::CrashBroker { broker: ONE }).unwrap();
            assert_eq!(leadership(&cluster), (Some(TWO), 1));
        }
    }
}
