//! A replica set: who follows, how far, who is in sync, and how far the watermark may go.
//!
//! *State* of a replica:
//!
//! ```text
//!   link:                          membership:
//!            hold                             shrink, lags for replica.lag.time.max.ms, host down
//!  Following ─────▶ Held            InSync ──────────────────────────────────▶ OutOfSync
//!      ▲             │                ▲                                            │
//!      └─────────────┘                └────────────────────────────────────────────┘
//!      release, restart                caught up with the leader (release, resume, restart)
//!
//!   host:
//!        pause              session over, crash
//!    Up ───────▶ Paused    Up, Paused ─────────▶ Down
//!     ▲            │                              │
//!     └────────────┴──────────────────────────────┘ resume, restart
//! ```
//!
//! *Invariants*
//! 1. The leader is a replica, in sync, and has everything.
//! 2. Somebody is in sync: the last one that was stays so when it crashes, so that only it can lead
//!    again, unless an unclean election is allowed.
//! 3. No replica is ahead of the leader.
//! 4. The watermark follows the slowest in-sync replica, and stands still while fewer than the
//!    effective `min.insync.replicas` are in sync.
//! 5. While the leader is paused nothing moves: nobody catches up, lags, or raises the watermark.
//! 6. A replica had started with no more than it has.
//! 7. A replica's log starts at or before its end; the leader's starts with the log.
//!
//! *Source* apache/kafka `core/…/cluster/Partition.scala`: maybeIncrementLeaderHW (isUnderMinIsr,
//! KAFKA-15583), effectiveMinIsr, isFollowerOutOfSync.
//!
//! *Not here* batches: a follower's log is the leader's up to its end offset.
//!
//! *Deviations* a follower that is not held has every append at once; a caught-up one joins the ISR
//! at once. The lag of a held follower counts from the first append that it misses.

use core::time::Duration;

use super::effect::BrokerId;
use super::time::Instant;

/// Whether a replica would fetch from its leader, if both brokers ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It has everything at once.
    Following,
    /// It stands still, though its broker runs.
    Held,
}

/// Who may lead where no replica in sync can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// Nobody.
    Clean,
    /// Any replica (`unclean.leader.election.enable`); what it lacks is lost.
    Unclean,
}

/// How a replica's broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// It runs.
    Up,
    /// It does nothing, and the controller does not know yet.
    Paused,
    /// It is gone in the eyes of the controller: crashed, or paused for longer than its session.
    Down,
}

/// Whether a replica is in the ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is.
    InSync,
    /// It is not.
    OutOfSync,
}

/// A replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its broker.
    pub broker: BrokerId,
    /// The offset of its first record.
    pub start_offset: i64,
    /// The offset behind its last record.
    pub end_offset: i64,
    /// Whether it fetches.
    pub link: Link,
    /// How its broker is.
    pub host: Host,
    /// Whether it is in the ISR.
    pub membership: Membership,
    /// Since when it lacks something that the leader has.
    lagging_since: Option<Instant>,
    /// Its log's end when its broker started last.
    started_at: i64,
}

impl Replica {
    /// Below this offset it knows the batches of producers from a snapshot: each one's last.
    #[must_use]
    pub const fn started_at(&self) -> i64 {
        self.started_at
    }

    fn follows(&self) -> bool {
        self.link == Link::Following && self.host == Host::Up
    }
}

/// The replicas of a partition.
#[derive(Debug)]
pub struct ReplicaSet {
    replicas: Vec<Replica>,
    leader: Option<BrokerId>,
}

impl ReplicaSet {
    /// Empty replicas on these brokers, all in sync but those that are down.
    #[must_use]
    pub fn new(
        brokers: &[BrokerId],
        leader: Option<BrokerId>,
        host: impl Fn(BrokerId) -> Host,
    ) -> Self {
        let fresh = |broker: &BrokerId| Replica {
            broker: *broker,
            start_offset: 0,
            end_offset: 0,
            link: Link::Following,
            host: host(*broker),
            membership: match host(*broker) != Host::Down || leader.is_none() {
                true => Membership::InSync,
                false => Membership::OutOfSync,
            },
            lagging_since: None,
            started_at: 0,
        };
        Self {
            replicas: brokers.iter().map(fresh).collect(),
            leader,
        }
    }

    /// The leader appended up to `end`.
    pub fn on_append(&mut self, end: i64, now: Instant) {
        let leader = self.leader;
        for replica in &mut self.replicas {
            if Some(replica.broker) == leader || replica.follows() {
                replica.end_offset = end;
            } else {
                replica.lagging_since = replica.lagging_since.or(Some(now));
            }
        }
    }

    /// The leader deleted what lies before `start`; whoever follows does so too.
    pub fn on_delete(&mut self, start: i64) {
        let (leader, leader_runs) = (self.leader, self.leader_runs());
        for replica in &mut self.replicas {
            if Some(replica.broker) == leader || leader_runs && replica.follows() {
                replica.start_offset = replica.start_offset.max(start);
            }
        }
    }

    /// The smallest first offset of the replicas whose brokers are not down: what lies before it
    /// is deleted everywhere (`Partition.lowWatermarkIfLeader`). `None` without a leader.
    #[must_use]
    pub fn low_watermark(&self) -> Option<i64> {
        self.leader?;
        let live = self.replicas.iter().filter(|r| r.host != Host::Down);
        live.map(|replica| replica.start_offset).min()
    }

    /// Another leader, or none; the followers take over what it has. It counts their lag from now
    /// (`Partition.makeLeader` resets `lastCaughtUpTimeMs`).
    pub fn on_leader(&mut self, leader: Option<BrokerId>, now: Instant) {
        self.leader = leader;
        let Some((start, end)) = leader
            .and_then(|leader| self.replica(leader))
            .map(|r| (r.start_offset, r.end_offset))
        else {
            return;
        };
        let leader_runs = self.leader_runs();
        let in_sync = |replica: &Replica| replica.membership == Membership::InSync;
        let clean = leader
            .and_then(|leader| self.replica(leader))
            .is_some_and(in_sync);
        for replica in &mut self.replicas {
            replica.end_offset = replica.end_offset.min(end);
            replica.started_at = replica.started_at.min(replica.end_offset);
            replica.start_offset = replica.start_offset.min(replica.end_offset);
            if Some(replica.broker) == leader {
                replica.membership = Membership::InSync;
            } else if leader_runs && replica.follows() {
                replica.start_offset = replica.start_offset.max(start);
                replica.end_offset = end;
                replica.membership = Membership::InSync;
            } else if !clean {
                replica.membership = Membership::OutOfSync;
            }
            replica.lagging_since = (replica.end_offset < end).then_some(now);
        }
    }

    /// Makes a follower stand still.
    pub fn hold(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker) {
            replica.link = Link::Held;
        }
    }

    /// Lets a held follower go on: it catches up and joins the ISR.
    pub fn release(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker) {
            replica.link = Link::Following;
            self.catch_up();
        }
    }

    /// Takes a follower out of the ISR and makes it stand still, or it would be back at once.
    /// The leader stays.
    pub fn shrink(&mut self, broker: BrokerId) {
        if Some(broker) != self.leader
            && self.isr_count() > 1
            && let Some(replica) = self.replica_mut(broker)
        {
            replica.membership = Membership::OutOfSync;
            replica.link = Link::Held;
        }
    }

    /// Its broker does nothing any more; the controller has not noticed, so it stays in the ISR.
    pub fn on_broker_paused(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker)
            && replica.host == Host::Up
        {
            replica.host = Host::Paused;
        }
    }

    /// Its broker goes on with what it was at: a follower that was held stays so.
    pub fn on_broker_resumed(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker) {
            replica.host = Host::Up;
            self.catch_up();
        }
    }

    /// The controller has seen its broker go: it leaves the ISR, unless it is the last one there.
    pub fn on_broker_down(&mut self, broker: BrokerId) {
        let last = self.isr_count() == 1;
        if let Some(replica) = self.replica_mut(broker) {
            replica.host = Host::Down;
            if !last {
                replica.membership = Membership::OutOfSync;
            }
        }
    }

    /// Its broker has started again: with a leader, it catches up.
    pub fn on_broker_up(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker)
            && replica.host == Host::Down
        {
            replica.host = Host::Up;
            replica.link = Link::Following;
            replica.started_at = replica.end_offset;
            self.catch_up();
        }
    }

    /// Whoever follows has what a running leader has, and is in sync.
    fn catch_up(&mut self) {
        if !self.leader_runs() {
            return;
        }
        let leader = self.leader.and_then(|leader| self.replica(leader));
        let Some((start, end)) = leader.map(|r| (r.start_offset, r.end_offset)) else {
            return;
        };
        for replica in self.replicas.iter_mut().filter(|r| r.follows()) {
            replica.start_offset = replica.start_offset.max(start);
            replica.end_offset = end;
            replica.membership = Membership::InSync;
            replica.lagging_since = None;
        }
    }

    fn leader_runs(&self) -> bool {
        let leader = self.leader.and_then(|leader| self.replica(leader));
        leader.is_some_and(|leader| leader.host == Host::Up)
    }

    /// Takes out of the ISR who has lagged for `lag_max`; says whether that was anybody.
    pub fn expel_lagging(&mut self, lag_max: Duration, now: Instant) -> bool {
        let mut expelled = false;
        if !self.leader_runs() {
            return expelled;
        }
        for replica in &mut self.replicas {
            let due = replica
                .lagging_since
                .is_some_and(|since| since + lag_max <= now);
            if due && replica.membership == Membership::InSync {
                replica.membership = Membership::OutOfSync;
                expelled = true;
            }
        }
        expelled
    }

    /// When somebody has lagged for `lag_max`.
    #[must_use]
    pub fn next_deadline(&self, lag_max: Duration) -> Option<Instant> {
        if !self.leader_runs() {
            return None;
        }
        let in_sync = self
            .replicas
            .iter()
            .filter(|r| r.membership == Membership::InSync);
        in_sync
            .filter_map(|replica| replica.lagging_since)
            .min()
            .map(|since| since + lag_max)
    }

    /// How far the watermark may go from `current`.
    #[must_use]
    pub fn high_watermark(&self, isr_min: usize, current: i64) -> i64 {
        if !self.leader_runs() || self.isr_count() < isr_min {
            return current;
        }
        let in_sync = self
            .replicas
            .iter()
            .filter(|r| r.membership == Membership::InSync);
        in_sync
            .map(|replica| replica.end_offset)
            .min()
            .unwrap_or(current)
            .max(current)
    }

    /// The first replica, in the order of preference, that may lead: in sync, and its broker not
    /// down; failing that, and if the election may be unclean, one that is not in sync. The
    /// controller may choose one that is paused, which it does not know.
    #[must_use]
    pub fn electable(&self, election: Election) -> Option<BrokerId> {
        let live = || self.replicas.iter().filter(|r| r.host != Host::Down);
        let in_sync = live().find(|r| r.membership == Membership::InSync);
        let chosen = match election {
            Election::Clean => in_sync,
            Election::Unclean => in_sync.or_else(|| live().next()),
        };
        chosen.map(|replica| replica.broker)
    }

    /// The replicas, in the order of preference.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The in-sync replicas whose brokers are not down, in the order of preference.
    ///
    /// The last in-sync replica is not shown while its broker is down (KIP-966: it is an eligible
    /// leader then; observed on 4.3.1).
    #[must_use]
    pub fn isr(&self) -> Vec<BrokerId> {
        let in_sync = self
            .replicas
            .iter()
            .filter(|r| r.membership == Membership::InSync);
        in_sync
            .filter(|r| r.host != Host::Down)
            .map(|replica| replica.broker)
            .collect()
    }

    /// How many are in sync.
    #[must_use]
    pub fn isr_count(&self) -> usize {
        self.replicas
            .iter()
            .filter(|r| r.membership == Membership::InSync)
            .count()
    }

    /// The replica on this broker.
    #[must_use]
    pub fn replica(&self, broker: BrokerId) -> Option<&Replica> {
        self.replicas
            .iter()
            .find(|replica| replica.broker == broker)
    }

    fn replica_mut(&mut self, broker: BrokerId) -> Option<&mut Replica> {
        self.replicas
            .iter_mut()
            .find(|replica| replica.broker == broker)
    }

    /// Panics when an invariant of this file does not hold for a log of these offsets.
    pub fn check_invariants(&self, (log_start, log_end): (i64, i64), high_watermark: i64) {
        assert!(self.isr_count() > 0, "replication 2");
        if let Some(leader) = self.leader {
            let leader = self.replica(leader);
            assert!(
                leader.is_some_and(|l| l.membership == Membership::InSync),
                "replication 1"
            );
            assert_eq!(leader.map(|l| l.end_offset), Some(log_end), "replication 1");
            let start = leader.map(|leader| leader.start_offset);
            assert_eq!(start, Some(log_start), "replication 7");
        }
        for replica in &self.replicas {
            assert!(replica.end_offset <= log_end, "replication 3: {replica:?}");
            assert!(
                replica.start_offset <= replica.end_offset,
                "replication 7: {replica:?}"
            );
            assert!(
                replica.started_at <= replica.end_offset,
                "replication 6: {replica:?}"
            );
            if replica.membership == Membership::InSync {
                assert!(
                    replica.end_offset >= high_watermark,
                    "replication 4: {replica:?}"
                );
            }
        }
    }
}

/// `min.insync.replicas`, but never more than there are replicas (`Partition.effectiveMinIsr`).
#[must_use]
pub fn effective_isr_min(configured: i32, replicas: usize) -> usize {
    usize::try_from(configured).unwrap_or(0).min(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);
    const THREE: BrokerId = BrokerId(3);
    const LAG: Duration = Duration::from_secs(30);

    fn three() -> ReplicaSet {
        ReplicaSet::new(&[ONE, TWO, THREE], Some(ONE), |_| Host::Up)
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn followers_have_every_append_at_once() {
        let mut set = three();
        set.on_append(5, at(0));
        assert_eq!(set.high_watermark(2, 0), 5);
        set.check_invariants((0, 5), 5);
    }

    #[test]
    fn a_held_follower_holds_the_watermark_until_it_is_released() {
        let mut set = three();
        set.hold(THREE);
        set.on_append(5, at(0));
        assert_eq!(set.high_watermark(2, 0), 0, "it is still in sync");
        set.release(THREE);
        assert_eq!(set.high_watermark(2, 0), 5);
    }

    #[test]
    fn a_held_follower_leaves_the_isr_after_its_lag() {
        let mut set = three();
        set.hold(THREE);
        assert_eq!(set.next_deadline(LAG), None, "it lacks nothing yet");
        set.on_append(5, at(10));
        assert_eq!(set.next_deadline(LAG), Some(at(40)));
        assert!(!set.expel_lagging(LAG, at(39)));
        assert!(set.expel_lagging(LAG, at(40)));
        assert_eq!(set.isr(), [ONE, TWO]);
        assert_eq!(set.high_watermark(2, 0), 5);
        assert_eq!(set.next_deadline(LAG), None);
    }

    #[test]
    fn the_watermark_stands_still_below_min_isr() {
        // KAFKA-15583: it must not advance with a shrunk ISR, or acknowledged data could be lost.
        let mut set = three();
        set.shrink(TWO);
        set.shrink(THREE);
        set.on_append(5, at(0));
        assert_eq!(set.high_watermark(2, 0), 0);
        assert_eq!(set.high_watermark(1, 0), 5);
    }

    #[test]
    fn the_last_in_sync_replica_stays_when_it_crashes() {
        let mut set = three();
        set.shrink(TWO);
        set.shrink(THREE);
        set.on_broker_down(ONE);
        set.on_leader(None, at(0));
        assert_eq!(
            set.electable(Election::Clean),
            None,
            "an out-of-sync replica may not lead"
        );
        assert_eq!(set.electable(Election::Unclean), Some(TWO));
        assert_eq!(set.isr(), [], "it is not shown while it is down");
        set.on_broker_up(ONE);
        assert_eq!(set.electable(Election::Clean), Some(ONE));
        assert_eq!(
            set.electable(Election::Unclean),
            Some(ONE),
            "in sync comes first"
        );
    }

    #[test]
    fn a_new_leader_sets_the_end_for_all() {
        let mut set = three();
        set.hold(TWO);
        set.on_append(5, at(0));
        set.on_broker_down(ONE);
        set.on_leader(Some(TWO), at(0));
        assert_eq!(set.replica(TWO).unwrap().end_offset, 0);
        assert_eq!(
            set.replica(THREE).unwrap().end_offset,
            0,
            "what the leader lacks is dropped"
        );
        set.check_invariants((0, 0), 0);
    }

    #[test]
    fn a_new_leader_counts_the_lag_from_its_election() {
        let mut set = three();
        set.hold(THREE);
        set.on_append(5, at(0));
        set.on_broker_down(ONE);
        set.on_leader(Some(TWO), at(29));
        assert_eq!(set.next_deadline(LAG), Some(at(59)));
    }

    #[test]
    fn nothing_moves_while_the_leader_is_paused() {
        let mut set = three();
        set.hold(THREE);
        set.on_append(5, at(0));
        set.on_broker_paused(ONE);
        set.release(THREE);
        assert!(!set.expel_lagging(LAG, at(60)), "nobody counts the lag");
        assert_eq!(set.next_deadline(LAG), None);
        set.on_broker_down(THREE);
        assert_eq!(set.high_watermark(2, 0), 0, "nobody raises it");
        set.on_broker_resumed(ONE);
        assert_eq!(set.high_watermark(2, 0), 5);
    }

    #[rstest]
    #[case::shrinking_the_leader(ONE)]
    #[case::shrinking_a_stranger(BrokerId(9))]
    fn illegal_moves_change_nothing(#[case] broker: BrokerId) {
        let mut set = three();
        set.shrink(broker);
        set.release(broker);
        assert_eq!(set.isr(), [ONE, TWO, THREE]);
    }

    #[rstest]
    #[case(2, 3, 2)]
    #[case(2, 1, 1)]
    #[case(1, 3, 1)]
    fn min_isr_never_exceeds_the_replicas(
        #[case] configured: i32,
        #[case] replicas: usize,
        #[case] effective: usize,
    ) {
        assert_eq!(effective_isr_min(configured, replicas), effective);
    }
}
