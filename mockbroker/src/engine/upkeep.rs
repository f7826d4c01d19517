//! What follows when a partition changes: replication, the watermark, the ISR, deadlines.
//!
//! *State* of a partition after a change:
//!
//! ```text
//!             ┌──────────────────────── the controller answers ◀────────────┐
//!             ▼                                                             │
//! changed ─▶ heard ─▶ spread ─▶ watermark ─▶ does the leader want another ISR? ─ no ─▶ settled
//!                                               └─ yes, but held or cut off ─────────▶ settled
//! ```
//!
//! *Invariants*
//! 1. A settled partition wants nothing that it could have at once.
//! 2. A partition whose replicas wait for a time is in `timed`.
//!
//! *Source* apache/kafka `core/…/cluster/Partition.scala`, `core/…/server/AlterPartitionManager`.
//!
//! *Not here* the steps (`replication.rs`, `elections.rs`), what begins them (`moves.rs`).

use core::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, wall_clock_ms};
use super::effect::BrokerId;
use super::elections::Change;
use super::partition::{Acks, Append, AppendError, Appended, DeleteError, DeleteTo, Verified};
use super::producer_state::{EpochBump, ProducerBatch};
use super::replication::Controller;
use super::time::Instant;
use super::topology::{PartitionKey, Topology};

impl Cluster {
    /// A broker that leads a partition appends the batch in `records`.
    ///
    /// # Errors
    ///
    /// Why it is not appended; `None` when there is no such partition.
    pub fn append(
        &mut self,
        (key, broker): (PartitionKey, BrokerId),
        records: &Bytes,
        (acks, verified): (Acks, Verified),
        now: Instant,
    ) -> Result<Appended, Option<AppendError>> {
        let room = self.log_room();
        let may_be_new = self.has_producer_room();
        let producers = self.producers_on(key, broker);
        let expiry = self.expiry(broker);
        let topology = self.views.get(&broker).unwrap_or(&self.topology);
        let (Some(topic), Some(partition)) =
            (topology.topic(key.topic), self.partitions.get_mut(&key))
        else {
            return Err(None);
        };
        let config = self.dynamic.of_topic(&topic.config, broker, &self.config);
        let append = Append {
            acks,
            leader: broker,
            config: &config,
            expiry,
            wall_clock_ms: wall_clock_ms(self.wall_clock_origin_ms, now),
            room,
            may_be_new,
            verified,
        };
        let appended = partition.append(records, &append);
        match appended {
            Ok(Appended::Stored { .. }) => {
                self.on_appended(key, broker, producers);
                self.on_replicas_changed(key, now);
            }
            Err(AppendError::TooManyProducers) if self.regain_producer_room(now) => {
                return self.append((key, broker), records, (acks, verified), now);
            }
            Err(AppendError::TooManyProducers) => self.on_producer_room_missed(),
            Err(AppendError::NoRoom) if self.regain_log_room() => {
                return self.append((key, broker), records, (acks, verified), now);
            }
            Err(AppendError::NoRoom) => self.on_log_room_missed(),
            Ok(Appended::Duplicate { .. }) | Err(_) => {}
        }
        appended.map_err(Some)
    }

    /// A batch or a marker was appended to a log on `broker`, where so many producers were known
    /// before: both are counted.
    pub(super) fn on_appended(&mut self, key: PartitionKey, broker: BrokerId, producers: usize) {
        self.on_log_grown(key, broker);
        self.on_producer_appended(key, broker, producers);
    }

    /// Whether a leader has heard of a later epoch of a batch's producer.
    #[must_use]
    pub fn is_fenced(
        &self,
        (key, broker): (PartitionKey, BrokerId),
        batch: &ProducerBatch,
    ) -> bool {
        let partition = self.partitions.get(&key);
        partition.is_some_and(|partition| partition.is_fenced(broker, batch))
    }

    /// A leader is about to ask a coordinator whether a batch is of a transaction; `false` when it
    /// need not, because the transaction is open in its log.
    pub fn must_ask(
        &mut self,
        (key, broker): (PartitionKey, BrokerId),
        batch: &ProducerBatch,
        bump: EpochBump,
    ) -> bool {
        let partition = self.partitions.get_mut(&key);
        partition.is_none_or(|partition| partition.must_ask(broker, batch, bump))
    }

    /// A broker that leads a partition deletes what lies before an offset; returns the one meant.
    ///
    /// # Errors
    ///
    /// Why nothing is deleted; `None` when there is no such partition.
    pub fn delete_records(
        &mut self,
        (key, broker): (PartitionKey, BrokerId),
        to: DeleteTo,
    ) -> Result<i64, Option<DeleteError>> {
        let topology = self.views.get(&broker).unwrap_or(&self.topology);
        let (Some(topic), Some(partition)) =
            (topology.topic(key.topic), self.partitions.get_mut(&key))
        else {
            return Err(None);
        };
        let config = self.dynamic.of_topic(&topic.config, broker, &self.config);
        let deleted = partition
            .delete_records(broker, to, &config)
            .map_err(Some)?;
        self.touched.push(key);
        Ok(deleted)
    }

    /// The smallest first offset of the replicas that the leader takes for alive: what lies before
    /// it is deleted everywhere (`Partition.lowWatermarkIfLeader`). `None` where `leader` does not
    /// lead.
    #[must_use]
    pub fn low_watermark(&self, key: PartitionKey, leader: BrokerId) -> Option<i64> {
        let partition = self.partitions.get(&key)?;
        partition.replicas().lead(leader)?;
        let known = self.known_to(leader);
        let replicas = partition.replicas().replicas().iter();
        let alive = replicas.filter(|replica| known.is_alive(replica.broker));
        alive.map(|replica| replica.log().start_offset()).min()
    }

    /// Replicas or leader of a partition changed.
    pub(super) fn on_replicas_changed(&mut self, key: PartitionKey, now: Instant) {
        let lag_max = self.lag_max();
        while let (Some(topic), Some(partition)) = (
            self.topology.topic(key.topic),
            self.partitions.get_mut(&key),
        ) {
            let Some(placement) = topic.placement(key.partition) else {
                break;
            };
            let bounds = partition.bounds(&topic.config, lag_max);
            let replicas = partition.replicas_mut();
            replicas.hear(placement, now);
            replicas.spread(now);
            replicas.advance_watermarks(bounds);
            match replicas.propose(bounds, now) {
                Some(isr) if replicas.controller == Controller::Answers => {
                    // INELIGIBLE_REPLICA: somebody went while the answer was held.
                    if isr.iter().all(|broker| self.topology.is_alive(*broker)) {
                        self.topology.change(key, &Change::Isr(isr));
                    } else {
                        replicas.withdraw();
                    }
                }
                _ => break,
            }
        }
        self.touched.push(key);
        let replicas = self.partitions.get(&key).map(|known| known.replicas());
        match replicas.and_then(|replicas| replicas.next_deadline(lag_max)) {
            Some(_) => self.timed.insert(key),
            None => self.timed.remove(&key),
        };
    }

    /// Time has come to [`next_deadline`](Self::next_deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_moments(now);
        self.end_sessions(now);
        let lag_max = self.lag_max();
        for key in self.timed.clone() {
            let Some(partition) = self.partitions.get_mut(&key) else {
                continue;
            };
            let due = partition.replicas().next_deadline(lag_max);
            if due.is_some_and(|due| due <= now) {
                let replicas = partition.replicas_mut();
                replicas.receive(now);
                replicas.expel_lagging(lag_max, now);
                self.on_replicas_changed(key, now);
            }
        }
        self.advance_transactions(now);
        self.advance_groups(now);
    }

    /// When something arrives at a follower, an in-sync one will have lagged for
    /// `replica.lag.time.max.ms`, or the session of a broker is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let lag_max = self.lag_max();
        let timed = self.timed.iter().filter_map(|key| self.partitions.get(key));
        let due = timed.filter_map(|partition| partition.replicas().next_deadline(lag_max));
        let session_ends = self.sessions.values().copied();
        let moments_end = self.momentary.next_deadline();
        let scan = self.next_transaction_deadline();
        let group = self.next_group_deadline();
        let by_time = session_ends.chain(moments_end).chain(scan).chain(group);
        due.chain(by_time).min()
    }

    pub(super) fn lag_max(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.config().replica_lag_time_max_ms).unwrap_or(0))
    }

    /// Brokers and topics as a broker knows them; what it answers with comes from here. One that is
    /// cut off knows what it knew when that began.
    #[must_use]
    pub fn known_to(&self, broker: BrokerId) -> &Topology {
        let view = self.views.get(&broker);
        view.or_else(|| self.momentary.before())
            .unwrap_or(&self.topology)
    }

    /// Whether a broker runs and reaches neither the others nor the controller.
    #[must_use]
    pub fn is_cut_off(&self, broker: BrokerId) -> bool {
        self.views.contains_key(&broker)
    }

    /// Whether a broker leads a partition, as far as it knows.
    #[must_use]
    pub fn leads(&self, key: PartitionKey, broker: BrokerId) -> bool {
        let partition = self.partitions.get(&key);
        let leads = partition.is_some_and(|of| of.replicas().lead(broker).is_some());
        leads && self.momentary.is_led(key)
    }

    /// Who leads a partition, in the eyes of the controller.
    #[must_use]
    pub fn leader(&self, key: PartitionKey) -> Option<BrokerId> {
        self.topology.placement(key)?.leadership.leader
    }
}
