//! The moves of a cluster: what a test does to followers, leaders, brokers and producers.
//!
//! *State* of a follower, and of a leader:
//!
//! ```text
//!   hold, shrink: it stands still          move: one in sync          elect unclean: whoever
//! Following ─────────────▶ Held            Led by one ──────▶ Led by another, its epoch one higher
//!     ▲                     │
//!     └─────────────────────┘
//!       release, expand: it catches up, joins the ISR
//! ```
//!
//! *Invariants*
//! 1. A move that fails has changed nothing.
//! 2. A move that touches a partition says so, so that whoever waits for it is answered.
//!
//! *Source* apache/kafka `metadata/…/controller/ReplicationControlManager.java`.
//!
//! *Not here* how brokers go and come back (`brokers.rs`).
//!
//! *Deviations* what a controller decides reaches every broker at once that it can reach. So a
//! leader that was paused for longer than its session knows at once that it follows: it refuses
//! with 6 what reached it meanwhile, where a real one appends it first, and answers 6 with the
//! offset.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::elections::Change;
use super::partition::{DeleteError, DeleteTo};
use super::replication::{Controller, ReplicaSet};
use super::time::Instant;
use super::topology::PartitionKey;
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
    /// A follower that can reach the leader has at once all that the leader has, whatever its link,
    /// and is in the ISR; it is held no longer.
    ExpandIsr {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The follower's broker.
        broker: BrokerId,
    },
    /// The controller answers no AlterPartition of a partition: a leader that wants another ISR
    /// waits, with the maximal of both for the watermark and the old one for min ISR (KIP-497).
    HoldIsrChanges {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The controller answers again, and grants what was asked meanwhile.
    ReleaseIsrChanges {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// Records take this long from a leader to a follower, in every partition; 0 is at once, and
    /// the default.
    DelayReplication {
        /// The leader's broker.
        from: BrokerId,
        /// The follower's broker.
        to: BrokerId,
        /// How long.
        #[serde(with = "crate::duration_form")]
        delay: Duration,
    },
    /// A replica becomes the leader whatever it lacks, with a new leader epoch; what it lacks is
    /// lost. If it was not in the ISR, it is alone there now.
    ElectUnclean {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The new leader.
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
    /// A broker reaches no other broker and no controller; clients reach it. It goes on to lead
    /// what it led, though nobody follows, and tells what it knew. After
    /// `broker.session.timeout.ms` the others have elected leaders of their own.
    #[serde(rename = "isolate")]
    IsolateBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A broker that was cut off reaches the others again: it hears who leads, drops what they do
    /// not have, and catches up.
    #[serde(rename = "heal")]
    HealBroker {
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
    /// Markers that end transactions do not get to a partition: its transactions stay open there,
    /// and in a state Prepare*.
    HoldMarkers {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// They get there again, those that were held at once.
    ReleaseMarkers {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// Another broker coordinates a transactional id, and those of the same shard; markers that are
    /// not there yet are sent again.
    MoveCoordinator {
        /// The transactional id.
        transactional_id: Arc<str>,
        /// The new coordinator.
        broker: BrokerId,
    },
    /// The brokers agree on another level of `transaction.version`, as after UpdateFeatures: from 2
    /// on each transaction has its own epoch, and partitions join by themselves.
    SetTransactionVersion {
        /// 0, 1 or 2.
        level: i16,
    },
    /// Clients have a quota from now on, or have it no longer; at least one of the two names is
    /// given, `<default>` is whoever has no quota of its own.
    SetQuota {
        /// Clients with this id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<Arc<str>>,
        /// Clients of this user; all clients of the mock are `ANONYMOUS`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<Arc<str>>,
        /// Kafka's key, such as `producer_byte_rate`.
        key: Arc<str>,
        /// Its value, of a rate in bytes a second; without one the quota is removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<u32>,
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
    /// The broker has no replica of the partition, or one that is not in sync, or it does not run.
    #[error("the broker cannot lead the partition: its replica is not in sync, or it does not run")]
    CannotLead,
    /// The follower cannot reach a leader.
    #[error("the follower cannot reach a leader of the partition")]
    CannotFollow,
    /// Nobody leads the partition.
    #[error("nobody leads the partition")]
    NoLeader,
    /// The offset is below 0 or above the high watermark.
    #[error("the offset is below 0 or above the high watermark")]
    OffsetOutOfRange,
    /// The topic is compacted and nothing else, so that its records are not deleted.
    #[error("the cleanup.policy of the topic does not delete")]
    NotByPolicy,
    /// The broker does not live, so that it coordinates nothing.
    #[error("the broker cannot coordinate: it does not live")]
    CannotCoordinate,
    /// Nothing is known of the producer, in any partition.
    #[error("no partition knows the producer")]
    UnknownProducer,
    /// The quota has an entity, a key or a value that Kafka refuses, or there are too many.
    #[error("Kafka refuses such a quota, or there are too many: its names, key and value count")]
    BadQuota,
    /// There is no such level of the feature.
    #[error("transaction.version has the levels 0, 1 and 2")]
    NoSuchLevel,
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
            Move::CrashBroker { broker } => self.crash(*broker, now),
            Move::RestartBroker { broker } => self.restart(*broker, now),
            Move::PauseBroker { broker } => self.pause(*broker, now),
            Move::ResumeBroker { broker } => self.resume(*broker, now),
            Move::IsolateBroker { broker } => self.isolate(*broker, now),
            Move::HealBroker { broker } => self.heal(*broker, now),
            Move::RestrictVersions {
                broker,
                api,
                min,
                max,
            } => self.restrict_versions(*broker, *api, VersionRange::new(*min, *max)),
            Move::ExpireProducer { producer_id } => self.expire_producer(*producer_id),
            Move::HoldMarkers { topic, partition } => {
                let key = self.key(topic, *partition)?;
                self.hold_markers(key);
                Ok(())
            }
            Move::ReleaseMarkers { topic, partition } => {
                let key = self.key(topic, *partition)?;
                self.release_markers(key);
                Ok(())
            }
            Move::MoveCoordinator {
                transactional_id,
                broker,
            } => self.move_coordinator(transactional_id, *broker),
            Move::SetTransactionVersion { level } => self.set_transaction_version(*level),
            Move::SetQuota {
                client_id,
                user,
                key,
                value,
            } => self.quota_move(client_id.as_ref(), user.as_ref(), (key, *value)),
            Move::DelayReplication { from, to, delay } => {
                self.delay_replication((*from, *to), *delay, now)
            }
            Move::HoldIsrChanges { topic, partition } => {
                let key = self.key(topic, *partition)?;
                self.set_controller(key, Controller::IsHeld, now)
            }
            Move::ReleaseIsrChanges { topic, partition } => {
                let key = self.key(topic, *partition)?;
                self.set_controller(key, Controller::Answers, now)
            }
            Move::DeleteRecords {
                topic,
                partition,
                to,
            } => {
                let key = self.key(topic, *partition)?;
                let leader = self.leader(key).ok_or(MoveError::NoLeader)?;
                let deleted = self.delete_records((key, leader), *to);
                deleted.map(drop).map_err(refused_deletion)
            }
            _ => self.move_replica(to_make, now),
        }
    }

    /// Makes a move of one replica; the others are known.
    fn move_replica(&mut self, to_make: &Move, now: Instant) -> Result<(), MoveError> {
        let (Move::HoldFollower {
            topic,
            partition,
            broker,
        }
        | Move::ReleaseFollower {
            topic,
            partition,
            broker,
        }
        | Move::ShrinkIsr {
            topic,
            partition,
            broker,
        }
        | Move::ExpandIsr {
            topic,
            partition,
            broker,
        }
        | Move::ElectUnclean {
            topic,
            partition,
            broker,
        }
        | Move::MoveLeader {
            topic,
            partition,
            broker,
        }) = to_make
        else {
            return Ok(());
        };
        let (key, broker) = (self.key(topic, *partition)?, *broker);
        match to_make {
            Move::HoldFollower { .. } => self.follower(key, broker)?.hold(broker),
            Move::ReleaseFollower { .. } => self.follower(key, broker)?.release(broker),
            Move::ShrinkIsr { .. } => self.shrink_isr(key, broker)?,
            Move::ExpandIsr { .. } => self.expand_isr(key, broker)?,
            Move::ElectUnclean { .. } => self.elect_unclean(key, broker)?,
            _ => self.move_leader(key, broker)?,
        }
        self.on_replicas_changed(key, now);
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

    fn isr(&self, key: PartitionKey) -> Vec<BrokerId> {
        let placement = self.topology.placement(key);
        placement.map_or_else(Vec::new, |placement| placement.isr.clone())
    }

    /// It stands still, or it would be back at once.
    fn shrink_isr(&mut self, key: PartitionKey, broker: BrokerId) -> Result<(), MoveError> {
        self.follower(key, broker)?.hold(broker);
        let mut isr = self.isr(key);
        isr.retain(|member| *member != broker);
        if self.leader(key).is_some() {
            self.topology.change(key, &Change::Isr(isr));
        }
        Ok(())
    }

    fn expand_isr(&mut self, key: PartitionKey, broker: BrokerId) -> Result<(), MoveError> {
        if !self.follower(key, broker)?.catch_up(broker) {
            return Err(MoveError::CannotFollow);
        }
        let mut isr = self.isr(key);
        isr.push(broker);
        self.topology.change(key, &Change::Isr(isr));
        Ok(())
    }

    fn move_leader(&mut self, key: PartitionKey, broker: BrokerId) -> Result<(), MoveError> {
        if !self.isr(key).contains(&broker) || !self.topology.is_alive(broker) {
            return Err(MoveError::CannotLead);
        }
        self.topology.change(key, &Change::Lead(broker));
        Ok(())
    }

    fn elect_unclean(&mut self, key: PartitionKey, broker: BrokerId) -> Result<(), MoveError> {
        let partition = self.partitions.get(&key);
        let replica = partition.and_then(|partition| partition.replicas().replica(broker));
        if replica.is_none() || !self.topology.is_alive(broker) {
            return Err(MoveError::CannotLead);
        }
        self.topology.change(key, &Change::LeadUnclean(broker));
        Ok(())
    }

    fn set_controller(
        &mut self,
        key: PartitionKey,
        controller: Controller,
        now: Instant,
    ) -> Result<(), MoveError> {
        let partition = self.partitions.get_mut(&key);
        let partition = partition.ok_or(MoveError::UnknownPartition)?;
        partition.replicas_mut().controller = controller;
        self.on_replicas_changed(key, now);
        Ok(())
    }

    fn delay_replication(
        &mut self,
        (from, to): (BrokerId, BrokerId),
        delay: Duration,
        now: Instant,
    ) -> Result<(), MoveError> {
        self.known_broker(from)?;
        self.known_broker(to)?;
        self.delays.insert((from, to), delay);
        let keys: Vec<PartitionKey> = self.partitions.keys().copied().collect();
        for key in keys {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.replicas_mut().set_delay(from, to, delay);
                partition.replicas_mut().receive(now);
                self.on_replicas_changed(key, now);
            }
        }
        Ok(())
    }

    fn restrict_versions(
        &mut self,
        broker: BrokerId,
        api: Api,
        range: VersionRange,
    ) -> Result<(), MoveError> {
        self.known_broker(broker)?;
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
}

const fn refused_deletion(error: Option<DeleteError>) -> MoveError {
    match error {
        Some(DeleteError::OutOfRange) => MoveError::OffsetOutOfRange,
        Some(DeleteError::NotByPolicy) => MoveError::NotByPolicy,
        Some(DeleteError::NotLeader) => MoveError::NoLeader,
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

    fn of_replica(name: &str, broker: BrokerId) -> Move {
        let form = format!(
            r#"{{"{name}":{{"topic":"orders","partition":0,"broker":{}}}}}"#,
            broker.0
        );
        serde_json::from_str(&form).unwrap()
    }

    fn delay(from: BrokerId, to: BrokerId) -> Move {
        let delay = Duration::from_millis(5);
        Move::DelayReplication { from, to, delay }
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
    #[case::isolate(Move::IsolateBroker { broker: NOBODY }, MoveError::UnknownBroker)]
    #[case::heal(Move::HealBroker { broker: NOBODY }, MoveError::UnknownBroker)]
    #[case::expand(of_replica("expand_isr", ONE), MoveError::NotAFollower)]
    #[case::unclean(of_replica("elect_unclean", THREE), MoveError::CannotLead)]
    #[case::level(Move::SetTransactionVersion { level: 3 }, MoveError::NoSuchLevel)]
    #[case::delay_from(delay(NOBODY, ONE), MoveError::UnknownBroker)]
    #[case::delay_to(delay(ONE, NOBODY), MoveError::UnknownBroker)]
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
        assert_eq!(
            leadership(&cluster),
            (Some(ONE), 2),
            "the last known leader may"
        );
    }

    #[test]
    fn leadership_moves_on_a_crash_and_stays_on_a_restart() {
        let mut cluster = cluster();
        make(&mut cluster, &Move::CrashBroker { broker: ONE }).unwrap();
        assert_eq!(leadership(&cluster), (Some(TWO), 1));
        make(&mut cluster, &Move::RestartBroker { broker: ONE }).unwrap();
        assert_eq!(leadership(&cluster), (Some(TWO), 1));
        let key = cluster.key("orders", 0).unwrap();
        assert_eq!(cluster.topology().placement(key).unwrap().isr, [ONE, TWO]);
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
