//! Moves of a running cluster: what an operator, a controller or a failing machine would do.
//!
//! Replies that waited for what a move changes leave at once.
//!
//! *Not here*: what follows from a move (`engine/`), faults of single requests (`fault/`).

use core::time::Duration;
use std::sync::Arc;

use crate::api::Api;
use crate::cluster::MockCluster;
use crate::config::ConfigError;

use crate::engine::effect::BrokerId;
use crate::engine::partition::DeleteTo;
use crate::engine::quotas::QuotaEntity;
use crate::engine::{Move, MoveError, TopicSpec};
use crate::handlers::{OtherBrokers, Snapshot};

impl MockCluster {
    /// Makes a topic, as CreateTopics would; it is there at once.
    ///
    /// # Errors
    ///
    /// A name that Kafka refuses or that is taken; a number of partitions or replicas that cannot
    /// be.
    pub fn create_topic(
        &self,
        name: impl Into<Arc<str>>,
        partitions: i32,
        replicas: i16,
    ) -> Result<(), ConfigError> {
        let topic = TopicSpec {
            name: name.into(),
            partitions,
            replication_factor: replicas,
            overrides: Vec::new(),
        };
        self.driver().with(|engine, _| engine.create_topic(topic))
    }

    /// Deletes a topic with its records.
    ///
    /// # Errors
    ///
    /// No such topic.
    pub fn delete_topic(&self, name: &str) -> Result<(), MoveError> {
        self.driver()
            .with(|engine, now| engine.delete_topic(name, now))
    }

    /// A broker stops: its connections close, others are refused, what it led is led by the next
    /// replica in sync. Its port is kept for its return.
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn crash_broker(&self, broker: BrokerId) -> Result<(), MoveError> {
        self.make(&Move::CrashBroker { broker })
    }

    /// A stopped broker starts: its replicas catch up; what nobody led, it may lead.
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn restart_broker(&self, broker: BrokerId) -> Result<(), MoveError> {
        self.make(&Move::RestartBroker { broker })
    }

    /// A broker stands still, as after SIGSTOP: it fetches and answers nothing, its connections
    /// stay. After `broker.session.timeout.ms` (9 s) what it led is led by the next in sync.
    ///
    /// To cut off one replica alone there is [`hold_follower`](Self::hold_follower).
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn pause_broker(&self, broker: BrokerId) -> Result<(), MoveError> {
        self.make(&Move::PauseBroker { broker })
    }

    /// A paused broker goes on: it answers what was asked meanwhile, and its replicas catch up.
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn resume_broker(&self, broker: BrokerId) -> Result<(), MoveError> {
        self.make(&Move::ResumeBroker { broker })
    }

    /// A broker reaches no other broker and no controller; clients reach it. It goes on to lead
    /// what it led, takes records, and acknowledges none with acks=all unless it was alone in sync;
    /// it tells what it knew. After `broker.session.timeout.ms` (9 s) the others have leaders of
    /// their own.
    ///
    /// To cut off one replica alone there is [`hold_follower`](Self::hold_follower).
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn isolate_broker(&self, broker: BrokerId) -> Result<(), MoveError> {
        self.make(&Move::IsolateBroker { broker })
    }

    /// A broker that was cut off reaches the others again: it hears who leads, drops what they do
    /// not have, and catches up. What waited at it for replication is answered with 6 if another
    /// leads.
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn heal_broker(&self, broker: BrokerId) -> Result<(), MoveError> {
        self.make(&Move::HealBroker { broker })
    }

    /// Records take this long from one broker to another, in every partition that `from` leads.
    /// Default 0, at once. With `replica.lag.time.max.ms` (30 s) or more the follower is out of
    /// sync.
    ///
    /// # Errors
    ///
    /// No such broker.
    pub fn delay_replication(
        &self,
        from: BrokerId,
        to: BrokerId,
        delay: Duration,
    ) -> Result<(), MoveError> {
        self.make(&Move::DelayReplication { from, to, delay })
    }

    /// Another replica that is in sync becomes the leader, with a new leader epoch.
    ///
    /// # Errors
    ///
    /// No such partition; a broker that cannot lead it.
    pub fn move_leader(
        &self,
        topic: &str,
        partition: i32,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        self.make(&Move::MoveLeader {
            topic: topic.into(),
            partition,
            broker,
        })
    }

    /// A follower stands still: with acks=all nothing is answered until it is released, or leaves
    /// the ISR after `replica.lag.time.max.ms`.
    ///
    /// # Errors
    ///
    /// No such partition; a broker that does not follow it.
    pub fn hold_follower(
        &self,
        topic: &str,
        partition: i32,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        self.make(&Move::HoldFollower {
            topic: topic.into(),
            partition,
            broker,
        })
    }

    /// A held follower goes on: it catches up, and joins the ISR if it had left it.
    ///
    /// # Errors
    ///
    /// No such partition; a broker that does not follow it.
    pub fn release_follower(
        &self,
        topic: &str,
        partition: i32,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        self.make(&Move::ReleaseFollower {
            topic: topic.into(),
            partition,
            broker,
        })
    }

    /// A follower leaves the ISR at once and stands still; releasing it brings it back.
    ///
    /// # Errors
    ///
    /// No such partition; a broker that does not follow it.
    pub fn shrink_isr(
        &self,
        topic: &str,
        partition: i32,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        self.make(&Move::ShrinkIsr {
            topic: topic.into(),
            partition,
            broker,
        })
    }

    /// A follower has at once all that the leader has, whatever its link, and is in the ISR; it is
    /// held no longer.
    ///
    /// # Errors
    ///
    /// No such partition; a broker that does not follow it, or cannot reach who leads it.
    pub fn expand_isr(
        &self,
        topic: &str,
        partition: i32,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        self.make(&Move::ExpandIsr {
            topic: topic.into(),
            partition,
            broker,
        })
    }

    /// The controller answers no AlterPartition of a partition. A leader that wants another ISR
    /// waits: who is to join counts for the watermark already, not for `min.insync.replicas`; who
    /// is to leave counts for both still (KIP-497).
    ///
    /// # Errors
    ///
    /// No such partition.
    pub fn hold_isr_changes(&self, topic: &str, partition: i32) -> Result<(), MoveError> {
        let topic = topic.into();
        self.make(&Move::HoldIsrChanges { topic, partition })
    }

    /// The controller answers again, and grants what was asked meanwhile if it still can.
    ///
    /// # Errors
    ///
    /// No such partition.
    pub fn release_isr_changes(&self, topic: &str, partition: i32) -> Result<(), MoveError> {
        let topic = topic.into();
        self.make(&Move::ReleaseIsrChanges { topic, partition })
    }

    /// A replica becomes the leader whatever it lacks, with a new leader epoch; what it lacks is
    /// lost. If it was not in the ISR, it is alone there now.
    ///
    /// # Errors
    ///
    /// No such partition; a broker without a replica of it, or one that does not run.
    pub fn elect_unclean(
        &self,
        topic: &str,
        partition: i32,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        self.make(&Move::ElectUnclean {
            topic: topic.into(),
            partition,
            broker,
        })
    }

    /// A broker offers an API in the versions from `min` to `max` only, as far as it knows them, as
    /// an older or newer release would: ApiVersions names no others, and a request in another one
    /// closes its connection. A wider range later gives versions back.
    ///
    /// # Errors
    ///
    /// No such broker; none of these versions is served.
    pub fn restrict_versions(
        &self,
        broker: BrokerId,
        api: Api,
        min: i16,
        max: i16,
    ) -> Result<(), MoveError> {
        self.make(&Move::RestrictVersions {
            broker,
            api,
            min,
            max,
        })
    }

    /// Deletes the records before `offset`, as DeleteRecords would: the log starts there, and what
    /// producers wrote stays known. An offset at or before the log's start deletes nothing.
    ///
    /// # Errors
    ///
    /// No such partition, or nobody who leads it; an offset below 0 or above the high watermark; a
    /// topic that is compacted alone.
    pub fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), MoveError> {
        self.make(&Move::DeleteRecords {
            topic: topic.into(),
            partition,
            to: DeleteTo::Offset(offset),
        })
    }

    /// Every partition forgets a producer, as after `producer.id.expiration.ms`: what it sends next
    /// may begin at any sequence, and a batch sent again is appended again.
    ///
    /// # Errors
    ///
    /// No partition knows the producer.
    pub fn expire_producer(&self, producer_id: i64) -> Result<(), MoveError> {
        self.make(&Move::ExpireProducer { producer_id })
    }

    /// Markers that end transactions do not get to a partition until they are
    /// [released](Self::release_markers): what is to be committed or aborted stays open there, and
    /// its transactional id answers 51.
    ///
    /// # Errors
    ///
    /// No such partition.
    pub fn hold_markers(&self, topic: &str, partition: i32) -> Result<(), MoveError> {
        let topic = topic.into();
        self.make(&Move::HoldMarkers { topic, partition })
    }

    /// Markers get to a partition again, those that were held at once.
    ///
    /// # Errors
    ///
    /// No such partition.
    pub fn release_markers(&self, topic: &str, partition: i32) -> Result<(), MoveError> {
        let topic = topic.into();
        self.make(&Move::ReleaseMarkers { topic, partition })
    }

    /// Another broker coordinates a transactional id, and those that share its shard.
    ///
    /// # Errors
    ///
    /// No such broker, or it does not live.
    pub fn move_coordinator(
        &self,
        transactional_id: impl Into<Arc<str>>,
        broker: BrokerId,
    ) -> Result<(), MoveError> {
        let transactional_id = transactional_id.into();
        self.make(&Move::MoveCoordinator {
            transactional_id,
            broker,
        })
    }

    /// The brokers agree on another level of `transaction.version`: from 2, the default, on each
    /// transaction has its own epoch (KIP-890).
    ///
    /// # Errors
    ///
    /// A level that is not 0, 1 or 2.
    pub fn set_transaction_version(&self, level: i16) -> Result<(), MoveError> {
        self.make(&Move::SetTransactionVersion { level })
    }

    /// The cluster as it is now: brokers, topics, configuration, logs, producers, in-sync replicas,
    /// planned moves. Connections and what waits on them are not in it.
    ///
    /// A cluster of its own goes on from it with
    /// [`from_snapshot`](crate::MockClusterBuilder::from_snapshot), as often as one likes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.driver().with(|engine, now| engine.snapshot(now))
    }

    /// Goes back to a snapshot of this or another cluster with the same broker ids. Every
    /// connection is closed, as when all brokers start again. Addresses, fault rules and the
    /// journal stay; time is not turned back, so that what was due meanwhile (a session's end, a
    /// planned move) happens at once.
    ///
    /// # Errors
    ///
    /// The snapshot is of other brokers; nothing has changed then.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), OtherBrokers> {
        self.driver()
            .with(|engine, now| engine.restore(snapshot, now))
    }

    /// Limits clients from now on, as AlterClientQuotas would: `producer_byte_rate` and
    /// `consumer_byte_rate` in bytes a second, above 0, at each broker.
    ///
    /// A client that exceeds its quota is answered at once and told for how long it is throttled;
    /// its connection is not read for as long (KIP-219). The rate is that of the last eleven
    /// seconds, so ten seconds' worth is free after a pause. Kafka's other keys are kept and
    /// throttle nobody; a diagnostic says so.
    ///
    /// # Errors
    ///
    /// An entity, a key or a value that Kafka would refuse; more than 1,000 entities.
    pub fn set_quota(
        &self,
        entity: &QuotaEntity,
        key: &str,
        value: f64,
    ) -> Result<(), ConfigError> {
        self.driver()
            .with(|engine, now| engine.set_quota(entity, key, Some(value), now))
    }

    /// Limits clients no longer; who is silent stays so until its time is over.
    ///
    /// # Errors
    ///
    /// An entity or a key that does not exist in Kafka; a quota that is not set is none.
    pub fn remove_quota(&self, entity: &QuotaEntity, key: &str) -> Result<(), ConfigError> {
        self.driver()
            .with(|engine, now| engine.set_quota(entity, key, None, now))
    }

    /// Makes a move that is at hand as a value; the other methods name each.
    ///
    /// # Errors
    ///
    /// What the cluster does not have or cannot do; nothing has changed then.
    pub fn make(&self, to_make: &Move) -> Result<(), MoveError> {
        self.driver()
            .with(|engine, now| engine.make_move(to_make, now))
    }
}
