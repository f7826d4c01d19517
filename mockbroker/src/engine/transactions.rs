//! Coordinators of transactions among the brokers: who coordinates which id, and what they drive.
//!
//! *State* of a shard, a fiftieth of all ids:
//!
//! ```text
//!              asked for the first time           its broker is gone, as the controller sees
//! nobody's ──────────────────────────▶ a broker's ─────────────────────────────────▶ another's
//!                                                 or a test moves it  its epoch one higher
//! ```
//!
//! *Invariants*
//! 1. A shard that has changed hands has a higher epoch, and its markers are sent again.
//! 2. Nothing is sent, and nothing times out, while the coordinator of an id does not run.
//! 3. An id whose markers are on their way is in a state Prepare*, and the other way round.
//! 4. Time-outs are looked for at multiples of the scan's interval, and only while something is
//!    open.
//!
//! *Source* apache/kafka `core/…/coordinator/transaction/{TransactionCoordinator,
//! TransactionStateManager}.scala`: partitionFor, abortTimedOutTransactions, loading.
//!
//! *Not here* which step is allowed (`txn_coordinator.rs`), how far a marker is (`txn_markers.rs`).
//!
//! *Deviations* the log of transactions is no topic: a record is in it at once, unless its
//! coordinator is cut off. Whoever takes over knows it at once.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::{Cluster, wall_clock_ms};
use super::effect::BrokerId;
use super::marker::{EpochRule, Marker};
use super::moves::MoveError;
use super::partition::AppendError;
use super::producer_state::{EpochBump, Expiry};
use super::time::Instant;
use super::topology::{Network, PartitionKey, Process};
use super::txn_coordinator::{End, Identity, Init, InitStep, Step, Transaction, TxnCoordinator};
use super::txn_markers::{Delivery, Flight, TxnMarkers};
use crate::error_code::ErrorCode;

/// `transaction.state.log.num.partitions`.
const SHARDS: i32 = 50;
/// Transactional ids of a cluster.
pub const IDS_MAX: usize = 100_000;

/// Who coordinates a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) broker: BrokerId,
    epoch: i32,
}

/// What a cluster knows of transactions.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    coordinator: TxnCoordinator,
    markers: TxnMarkers,
    shards: BTreeMap<i32, Shard>,
    /// Ids whose next record cannot be written, and is waited for until another log is read.
    wedged: BTreeSet<Arc<str>>,
    last_scan: Instant,
}

/// Partitions that are to join a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// The transactional id.
    pub id: &'a str,
    /// Who lets them join.
    pub producer: Identity,
    /// The partitions.
    pub partitions: &'a BTreeSet<PartitionKey>,
    /// Whether the client knows that each transaction has its own epoch.
    pub client: EpochBump,
}

impl Transactions {
    /// What is known of the ids.
    #[must_use]
    pub const fn coordinator(&self) -> &TxnCoordinator {
        &self.coordinator
    }

    /// The markers on their way.
    #[must_use]
    pub const fn markers(&self) -> &TxnMarkers {
        &self.markers
    }
}

/// Java's hash of an id, without its sign.
pub(super) fn hash_of(id: &str) -> i32 {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = id.encode_utf16().fold(0, step);
    // `Utils.abs`: the one number without a positive counterpart becomes 0.
    hash.checked_abs().unwrap_or(0)
}

/// The shard of an id (`TransactionStateManager.partitionFor`).
fn shard_of(id: &str) -> i32 {
    hash_of(id) % SHARDS
}

impl Cluster {
    /// What is known of transactions.
    #[must_use]
    pub const fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// What is known of an id; `None` of one that is new, or was idle for too long.
    #[must_use]
    pub fn transaction(&self, id: &str, now: Instant) -> Option<&Transaction> {
        let (expiry, now_ms) = (self.id_expiry(), self.wall_clock_ms(now));
        self.transactions.coordinator.find(id, expiry, now_ms)
    }

    /// The ids that a broker coordinates, with what is known of them, ascending.
    pub fn transactions_of(
        &mut self,
        broker: BrokerId,
        now: Instant,
    ) -> impl Iterator<Item = (&str, &Transaction)> {
        let numbers: BTreeSet<i32> = (0..SHARDS)
            .filter(|number| self.shard(*number).is_some_and(|of| of.broker == broker))
            .collect();
        let (expiry, now_ms) = (self.id_expiry(), self.wall_clock_ms(now));
        let coordinator = &self.transactions.coordinator;
        coordinator.all().filter_map(move |(id, _)| {
            let mine = numbers.contains(&shard_of(id));
            let known = mine.then(|| coordinator.find(id, expiry, now_ms))??;
            Some((&**id, known))
        })
    }

    /// Who coordinates an id; `None` while no broker lives.
    pub fn transaction_coordinator(&mut self, id: &str) -> Option<BrokerId> {
        Some(self.shard(shard_of(id))?.broker)
    }

    fn shard(&mut self, number: i32) -> Option<Shard> {
        let known = self.transactions.shards.get(&number).copied();
        if let Some(known) = known.filter(|known| self.topology.is_alive(known.broker)) {
            return Some(known);
        }
        let broker = self.first_alive(number)?;
        let epoch = known.map_or(0, |known| known.epoch.saturating_add(1));
        self.take_over(number, Shard { broker, epoch });
        Some(Shard { broker, epoch })
    }

    /// The first broker that lives, from the one on whose turn it is.
    fn first_alive(&self, number: i32) -> Option<BrokerId> {
        let brokers: Vec<BrokerId> = self.topology.brokers().map(|of| of.endpoint.id).collect();
        let first = usize::try_from(number).ok()?.checked_rem(brokers.len())?;
        let (after, before) = (brokers.get(first..)?, brokers.get(..first)?);
        let mut order = after.iter().chain(before).copied();
        order.find(|broker| self.topology.is_alive(*broker))
    }

    fn take_over(&mut self, number: i32, shard: Shard) {
        self.transactions.shards.insert(number, shard);
        let wedged = &mut self.transactions.wedged;
        wedged.retain(|id| shard_of(id) != number);
        let ids = self.transactions.markers.ids().cloned();
        let of_shard: Vec<Arc<str>> = ids.filter(|id| shard_of(id) == number).collect();
        for id in of_shard {
            self.transactions.markers.send_again(&id);
        }
    }

    /// A broker starts, and reads what it coordinates: nothing waits to be written.
    pub(super) fn reload_transactions(&mut self, broker: BrokerId) {
        let Transactions {
            shards,
            wedged,
            markers,
            ..
        } = &mut self.transactions;
        let by = |id: &str| shards.get(&shard_of(id)).map(|shard| shard.broker);
        wedged.retain(|id| by(id) != Some(broker));
        let ids = markers.ids().filter(|id| by(id) == Some(broker));
        for id in ids.cloned().collect::<Vec<_>>() {
            markers.retry_refused(&id);
        }
    }

    /// Whether a step of a client can be written to the log, whose records have no room below
    /// level 1 for what clients of version 2 have to remember.
    ///
    /// # Errors
    ///
    /// 35, and from then on the id waits for a record that is never written: 51 to every step.
    fn check_writable(&mut self, id: &str, client: EpochBump) -> Result<(), ErrorCode> {
        if self.transaction_version() == 0 && client == EpochBump::EachTransaction {
            self.transactions.wedged.insert(id.into());
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        Ok(())
    }

    fn check_not_wedged(&self, id: &str) -> Result<(), ErrorCode> {
        match self.transactions.wedged.contains(id) {
            true => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            false => Ok(()),
        }
    }

    /// Markers for a partition are not sent from now on.
    pub(super) fn hold_markers(&mut self, key: PartitionKey) {
        self.transactions.markers.hold(key);
    }

    /// They are sent again, by [`advance_transactions`](Self::advance_transactions).
    pub(super) fn release_markers(&mut self, key: PartitionKey) {
        self.transactions.markers.release(key);
    }

    /// Another broker coordinates an id.
    pub(super) fn move_coordinator(&mut self, id: &str, broker: BrokerId) -> Result<(), MoveError> {
        self.known_broker(broker)?;
        if !self.topology.is_alive(broker) {
            return Err(MoveError::CannotCoordinate);
        }
        let number = shard_of(id);
        if let Some(before) = self.shard(number).filter(|shard| shard.broker != broker) {
            let epoch = before.epoch.saturating_add(1);
            self.take_over(number, Shard { broker, epoch });
        }
        Ok(())
    }

    /// Who coordinates an id, if its broker runs and reaches the others.
    fn running_coordinator(&mut self, id: &str) -> Option<Shard> {
        let shard = self.shard(shard_of(id))?;
        self.runs(shard.broker).then_some(shard)
    }

    pub(super) fn runs(&self, broker: BrokerId) -> bool {
        self.topology.broker(broker).is_some_and(|known| {
            known.process == Process::Running && known.network == Network::Connected
        })
    }

    /// Whether a broker may answer as the coordinator of an id.
    ///
    /// # Errors
    ///
    /// 16 when another is; 15 when it cannot write to the log of transactions; for a moment, 14 or
    /// 16 (`moments.rs`).
    pub fn check_coordinator(
        &mut self,
        broker: BrokerId,
        id: &str,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let number = shard_of(id);
        match self.shard(number) {
            Some(shard) if shard.broker != broker => Err(ErrorCode::NOT_COORDINATOR),
            Some(shard) if !self.is_cut_off(broker) => {
                self.momentary.check_loaded(number, shard, now)
            }
            _ => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    /// A producer begins: it gets the id's producer id with a higher epoch.
    ///
    /// # Errors
    ///
    /// See [`TxnCoordinator::decide_init`]; 51 when a transaction was open, which is aborted then.
    pub fn init_transactions(
        &mut self,
        broker: BrokerId,
        id: &str,
        init: &Init,
        now: Instant,
    ) -> Result<Identity, ErrorCode> {
        self.check_coordinator(broker, id, now)?;
        self.check_not_wedged(id)?;
        let (expiry, now_ms) = (self.id_expiry(), self.wall_clock_ms(now));
        if self.transactions.coordinator.count() >= IDS_MAX {
            self.transactions.coordinator.forget_expired(expiry, now_ms);
        }
        let bump = self.bump();
        let known = self.transactions.coordinator.find(id, expiry, now_ms);
        if known.is_none() && self.transactions.coordinator.count() >= IDS_MAX {
            self.note(format!(
                "a transactional id is refused: {IDS_MAX} are known"
            ));
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        let producer_ids = &mut self.producer_ids;
        let fresh = || producer_ids.next_id(broker);
        let id = Arc::from(id);
        match TxnCoordinator::decide_init(known, init, (now_ms, bump), fresh)? {
            InitStep::Log(record) => {
                let identity = record.identity();
                self.transactions.coordinator.apply(&id, record);
                Ok(identity)
            }
            InitStep::Fence(record) => {
                self.end(&id, record, now);
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
        }
    }

    /// Partitions join a transaction.
    ///
    /// # Errors
    ///
    /// See [`TxnCoordinator::decide_join`]; 16 when the disk is full, so that the log of
    /// transactions cannot be written.
    pub fn join_transaction(&mut self, join: &Join<'_>, now: Instant) -> Result<(), ErrorCode> {
        let Join { id, producer, .. } = *join;
        self.check_not_wedged(id)?;
        let now_ms = self.wall_clock_ms(now);
        let known = self.transaction(id, now);
        match TxnCoordinator::decide_join(known, producer, join.partitions, now_ms)? {
            Step::Known(_) => Ok(()),
            // Every partition that joins gets a marker, which no full disk holds up.
            Step::Log(_) if self.log_room() == 0 && !self.regain_log_room() => {
                self.on_log_room_missed();
                Err(ErrorCode::NOT_COORDINATOR)
            }
            Step::Log(record) => {
                self.check_writable(id, join.client)?;
                self.transactions.coordinator.apply(&Arc::from(id), record);
                Ok(())
            }
        }
    }

    /// Whether the coordinator of an id answers a broker that asks it.
    fn check_asked(&mut self, id: &str, now: Instant) -> Result<(), ErrorCode> {
        let shard = self.running_coordinator(id);
        let shard = shard.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        self.momentary.check_loaded(shard_of(id), shard, now)
    }

    /// A leader asks the coordinator of an id, wherever it is, to let partitions join.
    ///
    /// # Errors
    ///
    /// As [`join_transaction`](Self::join_transaction), 15 where none can be asked, and for a
    /// moment 14 or 16.
    pub fn ask_to_join(&mut self, join: &Join<'_>, now: Instant) -> Result<(), ErrorCode> {
        self.check_asked(join.id, now)?;
        self.join_transaction(join, now)
    }

    /// A leader asks the coordinator of an id, wherever it is, whether a partition has joined.
    ///
    /// # Errors
    ///
    /// See [`TxnCoordinator::verify`], 15 where none can be asked, and for a moment 14 or 16.
    pub fn ask_whether_joined(
        &mut self,
        id: &str,
        producer: Identity,
        partition: PartitionKey,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        self.check_asked(id, now)?;
        TxnCoordinator::verify(self.transaction(id, now), producer, partition)
    }

    /// A transaction ends; the answer is who may go on.
    ///
    /// # Errors
    ///
    /// See [`TxnCoordinator::decide_end`].
    pub fn end_transaction(
        &mut self,
        broker: BrokerId,
        id: &str,
        end: &End,
        now: Instant,
    ) -> Result<Identity, ErrorCode> {
        self.check_coordinator(broker, id, now)?;
        self.check_not_wedged(id)?;
        let (expiry, now_ms) = (self.id_expiry(), self.wall_clock_ms(now));
        let known = self.transactions.coordinator.find(id, expiry, now_ms);
        let producer_ids = &mut self.producer_ids;
        let fresh = || producer_ids.next_id(broker);
        match TxnCoordinator::decide_end(known, end, now_ms, fresh)? {
            Step::Known(identity) => Ok(identity),
            Step::Log(record) => {
                self.check_writable(id, end.bump)?;
                let identity = record.successor();
                self.end(&Arc::from(id), record, now);
                Ok(identity)
            }
        }
    }

    /// The end of a transaction is decided: its markers begin their way.
    fn end(&mut self, id: &Arc<str>, record: Transaction, now: Instant) {
        let Some(ending) = record.state.preparing() else {
            return;
        };
        let to = record.partitions.iter();
        let flight = Flight {
            producer: record.identity(),
            ending,
            to: to.map(|key| (*key, Delivery::ToBeSent)).collect(),
        };
        self.transactions.coordinator.apply(id, record);
        self.transactions.markers.send(id, flight);
        self.advance_markers(id, now);
    }

    /// Brings on the markers of a transaction as far as they get; it completes when all are there.
    fn advance_markers(&mut self, id: &Arc<str>, now: Instant) {
        let flight = self.transactions.markers.flight(id);
        let to: Vec<PartitionKey> =
            flight.map_or_else(Vec::new, |of| of.to.keys().copied().collect());
        for partition in to {
            self.advance_marker(id, partition, now);
        }
        let now_ms = self.wall_clock_ms(now);
        if self.running_coordinator(id).is_some()
            && self.transactions.markers.land(id)
            && let Some(record) = self.transactions.coordinator.decide_completion(id, now_ms)
        {
            self.transactions.coordinator.apply(id, record);
        }
    }

    fn advance_marker(&mut self, id: &Arc<str>, key: PartitionKey, now: Instant) {
        if self.topology.placement(key).is_none() {
            return self.transactions.markers.arrive(id, key);
        }
        let flight = self.transactions.markers.flight(id);
        let delivery = flight.and_then(|flight| flight.to.get(&key)).copied();
        if delivery == Some(Delivery::ToBeSent)
            && let Some(sent) = self.send_marker(id, key, now)
        {
            self.transactions.markers.note(id, key, sent);
            self.on_replicas_changed(key, now);
            self.settle_marker(id, key, sent);
        } else if let Some(delivery) = delivery {
            self.settle_marker(id, key, delivery);
        }
    }

    /// A marker that was appended is there, on its way, or lost.
    fn settle_marker(&mut self, id: &str, key: PartitionKey, delivery: Delivery) {
        let Delivery::Appended {
            leader,
            leader_epoch,
            offset,
        } = delivery
        else {
            return;
        };
        let replicas = self.partitions.get(&key).map(|of| of.replicas());
        let lead = replicas.and_then(|of| of.lead(leader));
        let log = self.partitions.get(&key).and_then(|of| of.log_on(leader));
        if lead.is_none_or(|lead| lead.epoch != leader_epoch) {
            self.transactions.markers.note(id, key, Delivery::ToBeSent);
        } else if log.is_some_and(|log| log.high_watermark() > offset) {
            if let Some(flight) = self.transactions.markers.flight(id) {
                let (producer_id, ending) = (flight.producer.id, flight.ending);
                self.end_pending_offsets(key, producer_id, ending);
            }
            self.transactions.markers.arrive(id, key);
        }
    }

    /// Lets the leader of a partition append a marker, if it can be reached.
    fn send_marker(&mut self, id: &Arc<str>, key: PartitionKey, now: Instant) -> Option<Delivery> {
        let coordinator = self.running_coordinator(id)?;
        let leader = self.leader(key).filter(|leader| self.runs(*leader))?;
        let flight = self.transactions.markers.flight(id)?;
        if self.transactions.markers.is_held(key) {
            return None;
        }
        let marker = Marker {
            producer_id: flight.producer.id,
            epoch: flight.producer.epoch,
            ending: flight.ending,
            coordinator_epoch: coordinator.epoch,
        };
        let topic = self.topology.topic(key.topic)?;
        let config = self.dynamic.of_topic(&topic.config, leader, &self.config);
        let now_ms = wall_clock_ms(self.wall_clock_origin_ms, now);
        let partition = self.partitions.get_mut(&key)?;
        let leader_epoch = partition.replicas().lead(leader)?.epoch;
        let before = partition.replicas().replica(leader)?.producers().count();
        match partition.append_marker(leader, (&marker, EpochRule::NotLower), &config, now_ms) {
            Ok(offset) => {
                self.on_appended(key, leader, before);
                Some(Delivery::Appended {
                    leader,
                    leader_epoch,
                    offset,
                })
            }
            Err(AppendError::StaleEpoch | AppendError::StaleCoordinator) => Some(Delivery::Refused),
            Err(_) => None,
        }
    }

    /// A partition has changed: markers for it may get there now.
    pub fn advance_markers_for(&mut self, partition: PartitionKey, now: Instant) {
        self.settle_written_markers(partition);
        for id in self.transactions.markers.bound_for(partition) {
            self.advance_markers(&id, now);
        }
    }

    /// Brokers or time have changed: others coordinate, markers go on, what is open for too long is
    /// aborted.
    pub fn advance_transactions(&mut self, now: Instant) {
        let numbers: Vec<i32> = self.transactions.shards.keys().copied().collect();
        for number in numbers {
            let _ = self.shard(number);
        }
        self.abort_timed_out(now);
        let ids: Vec<Arc<str>> = self.transactions.markers.ids().cloned().collect();
        for id in ids {
            self.advance_markers(&id, now);
        }
    }

    /// `abortTimedOutTransactions`, at its times.
    fn abort_timed_out(&mut self, now: Instant) {
        let due = self.next_transaction_deadline().filter(|scan| *scan <= now);
        if due.is_none() {
            return;
        }
        self.transactions.last_scan = now;
        let (now_ms, bump) = (self.wall_clock_ms(now), self.bump());
        for (id, record) in self.transactions.coordinator.decide_timeouts(now_ms, bump) {
            let wedged = self.transactions.wedged.contains(&id);
            if self.running_coordinator(&id).is_some() && !wedged {
                self.end(&id, record, now);
            }
        }
    }

    /// When time-outs are looked for next, while something is open.
    pub(super) fn next_transaction_deadline(&self) -> Option<Instant> {
        let due_ms = self.transactions.coordinator.next_timeout_ms()?;
        let due_ms = due_ms.saturating_sub(self.wall_clock_origin_ms);
        // A transaction is late when its time is over, not when it ends.
        let due_ms = u64::try_from(due_ms).unwrap_or(0).saturating_add(1);
        let due = Instant::ZERO + Duration::from_millis(due_ms);
        let interval_ms = self.config.transactions.abort_timed_out_interval_ms;
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(1).max(1));
        let not_before = due.max(self.transactions.last_scan + Duration::from_nanos(1));
        let elapsed = u128::from(not_before.as_nanos());
        let scans = elapsed.div_ceil(interval.as_nanos());
        let nanos = scans.saturating_mul(interval.as_nanos());
        u64::try_from(nanos).ok().map(Instant::from_nanos)
    }

    /// When ids that are idle are forgotten.
    fn id_expiry(&self) -> Expiry {
        Expiry {
            idle_ms: i64::from(self.config.transactions.id_expiration_ms),
            sweep_ms: i64::from(self.config.transactions.remove_expired_interval_ms),
            origin_ms: self.expiry.origin_ms,
        }
    }

    pub(super) fn check_transactions(&self) {
        let Transactions {
            coordinator,
            markers,
            ..
        } = &self.transactions;
        coordinator.check_invariants();
        for id in markers.arrived() {
            let shard = self.transactions.shards.get(&shard_of(id));
            let runs = shard.is_some_and(|shard| self.runs(shard.broker));
            assert!(!runs, "txn markers 1: {id}");
        }
        for (id, known) in coordinator.all() {
            let flies = markers.flight(id).is_some();
            let preparing = known.state.preparing().is_some();
            assert_eq!(flies, preparing, "transactions 3: {id}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", 0)]
    #[case("a", 47)]
    // 96354, and Java's only hash without a positive counterpart.
    #[case("abc", 4)]
    #[case("polygenelubricants", 0)]
    fn shards_are_kafkas(#[case] id: &str, #[case] shard: i32) {
        assert_eq!(shard_of(id), shard);
    }
}
