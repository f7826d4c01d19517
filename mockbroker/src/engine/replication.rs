//! A replica set: who leads and knows it, who is in sync, how far the watermark may go.
//!
//! *State* of the ISR, as a leader has it:
//!
//! ```text
//!           a follower lags for replica.lag.time.max.ms
//! Committed ──────────────────────────────────────────▶ Shrinking: the ISR as it was counts
//!    ▲  │                                                   │
//!    │  └───────────────────────────────────────────────────┼─▶ Expanding: the new one counts for
//!    │     a follower has what was visible, and what there  │   the watermark, not for min ISR
//!    │     was when the leader was elected                  │            │
//!    └──────────────────────────────────────────────────────┴────────────┘
//!      the controller has answered, at once unless a test holds that; or it changed the ISR itself
//! ```
//!
//! *Invariants*
//! 1. Who leads in the eyes of the controller has a [`Lead`] of that epoch; whoever else has one is
//!    cut off and has not heard that it leads no more.
//! 2. Who is in contact with the leader has a prefix of its log.
//! 3. Who is in sync, or eligible to lead, has all that is visible.
//! 4. The watermark follows the slowest of the maximal ISR (KIP-497), and of those that are about
//!    to join it; it stands still while fewer than the effective `min.insync.replicas` are
//!    committed.
//! 5. While a leader is paused nothing moves. While it is cut off it hears of nobody: its ISR
//!    stays, and its watermark too, unless it was alone in sync.
//!
//! *Source* apache/kafka `core/…/cluster/Partition.scala`: PendingShrinkIsr, PendingExpandIsr,
//! maybeIncrementLeaderHW (isUnderMinIsr, KAFKA-15583), needsExpandIsr, isFollowerOutOfSync.
//!
//! *Not here* one replica's log (`replica.rs`); what the controller decides (`elections.rs`).
//!
//! *Deviations* a follower has every append at once, unless its link has a delay; it hears of the
//! watermark at once, so that a new leader knows it; a caught-up one joins the ISR at once. The lag
//! of a follower counts from the first append that it misses.

use core::time::Duration;
use std::collections::BTreeMap;

use super::effect::BrokerId;
use super::elections::Placement;
use super::log::{Log, StoredBatch};
use super::replica::{Link, Replica};
use super::time::Instant;
use super::topology::{Network, Process};

/// What a leader has asked the controller to make of the ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsrChange {
    /// Nothing: the ISR is committed.
    None,
    /// To take these out.
    Shrink(Vec<BrokerId>),
    /// To take this one in.
    Expand(BrokerId),
}

/// Whether the controller answers what leaders ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// At once.
    Answers,
    /// Not before a test says so.
    IsHeld,
}

/// What a broker knows that leads a partition, or takes itself for the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The epoch in which it was elected.
    pub epoch: i32,
    /// Where its log ended then.
    epoch_start: i64,
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
    /// What is to become of it.
    pub pending: IsrChange,
}

impl Lead {
    /// Whether a replica counts for the watermark (KIP-497: the maximal ISR).
    fn counts(&self, broker: BrokerId) -> bool {
        self.isr.contains(&broker) || self.pending == IsrChange::Expand(broker)
    }

    /// How many are in the maximal ISR.
    #[must_use]
    pub fn maximal_isr_count(&self) -> usize {
        let joining = usize::from(matches!(self.pending, IsrChange::Expand(_)));
        self.isr.len() + joining
    }

    /// The ISR that it asks for.
    fn proposal(&self) -> Option<Vec<BrokerId>> {
        let mut isr = self.isr.clone();
        match &self.pending {
            IsrChange::None => return None,
            IsrChange::Shrink(gone) => isr.retain(|broker| !gone.contains(broker)),
            IsrChange::Expand(new) => isr.push(*new),
        }
        Some(isr)
    }
}

/// The bounds that a topic and the brokers set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The effective `min.insync.replicas`.
    pub isr_min: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_max: Duration,
}

/// The replicas of a partition.
#[derive(Clone, Debug)]
pub struct ReplicaSet {
    replicas: Vec<Replica>,
    leads: BTreeMap<BrokerId, Lead>,
    leader: Option<BrokerId>,
    epoch: i32,
    last_leader: Option<BrokerId>,
    /// Whether the controller answers AlterPartition of this partition.
    pub controller: Controller,
}

impl ReplicaSet {
    /// Empty replicas, in contact with the leader if they can be.
    #[must_use]
    pub fn new(placement: &Placement, state: impl Fn(BrokerId) -> (Process, Network)) -> Self {
        let fresh = |broker: &BrokerId| {
            let (process, network) = state(*broker);
            Replica::new(*broker, process, network)
        };
        let leadership = placement.leadership;
        let lead = |leader| {
            let lead = Lead {
                epoch: leadership.epoch,
                epoch_start: 0,
                isr: placement.isr.clone(),
                pending: IsrChange::None,
            };
            (leader, lead)
        };
        let mut set = Self {
            replicas: placement.replicas.iter().map(fresh).collect(),
            leads: leadership.leader.map(lead).into_iter().collect(),
            leader: leadership.leader,
            epoch: leadership.epoch,
            last_leader: leadership.leader,
            controller: Controller::Answers,
        };
        // Nobody lacks anything yet, so nothing counts the time.
        set.spread(Instant::ZERO);
        set
    }

    /// What the controller has decided reaches the brokers that it can reach.
    pub fn hear(&mut self, placement: &Placement, now: Instant) {
        let leadership = placement.leadership;
        if (self.leader, self.epoch) != (leadership.leader, leadership.epoch) {
            self.on_election(placement, now);
        } else if let Some(leader) = self.leader
            && self.replica(leader).is_some_and(Replica::runs)
            && let Some(lead) = self.leads.get_mut(&leader)
            && lead.isr != placement.isr
        {
            lead.isr.clone_from(&placement.isr);
            lead.pending = IsrChange::None;
        }
    }

    fn on_election(&mut self, placement: &Placement, now: Instant) {
        let watermark = self.log().high_watermark();
        if let Some(before) = self.leader
            && self.network(before) == Some(Network::Connected)
        {
            self.leads.remove(&before);
        }
        self.leader = placement.leadership.leader;
        self.epoch = placement.leadership.epoch;
        self.replicas.iter_mut().for_each(Replica::lose_contact);
        let Some(leader) = self.leader else {
            return;
        };
        self.last_leader = Some(leader);
        let Some(elected) = self.replica_mut(leader) else {
            return;
        };
        elected.on_elected();
        elected.log_mut().raise_high_watermark(watermark);
        let (watermark, end) = (elected.log().high_watermark(), elected.log().end_offset());
        let lead = Lead {
            epoch: placement.leadership.epoch,
            epoch_start: end,
            isr: placement.isr.clone(),
            pending: IsrChange::None,
        };
        self.leads.insert(leader, lead);
        for follower in self.followers_mut(leader) {
            follower.on_election(watermark, now);
        }
    }

    /// A leader appends.
    pub fn append(&mut self, leader: BrokerId, batch: StoredBatch) {
        if let Some(replica) = self.replica_mut(leader) {
            replica.append(batch);
        }
    }

    /// What a running leader has goes to those who follow.
    pub fn spread(&mut self, now: Instant) {
        let Some((leader, at)) = self.running_leader() else {
            return;
        };
        for index in (0..self.replicas.len()).filter(|index| *index != at) {
            let Ok([follower, from]) = self.replicas.get_disjoint_mut([index, at]) else {
                continue;
            };
            let end = from.log().end_offset();
            if !follower.follows() {
                follower.miss(end, now);
            } else if follower.delay_from(leader).is_zero() {
                follower.adopt(from.log(), end);
            } else {
                follower.expect(end, now);
            }
        }
    }

    /// What was on the way arrives.
    pub fn receive(&mut self, now: Instant) {
        let Some((leader, at)) = self.running_leader() else {
            return;
        };
        for index in (0..self.replicas.len()).filter(|index| *index != at) {
            if let Ok([follower, from]) = self.replicas.get_disjoint_mut([index, at]) {
                follower.receive(leader, from.log(), now);
            }
        }
    }

    /// A follower has at once all that a running leader has, whatever its link; `false` when it
    /// cannot.
    pub fn catch_up(&mut self, broker: BrokerId) -> bool {
        let Some((_, at)) = self.running_leader() else {
            return false;
        };
        let index = self.replicas.iter().position(|r| r.broker == broker);
        let Some(index) = index.filter(|index| *index != at) else {
            return false;
        };
        match self.replicas.get_disjoint_mut([index, at]) {
            Ok([follower, from]) if follower.runs() => {
                follower.link = Link::Following;
                follower.adopt(from.log(), from.log().end_offset());
                true
            }
            _ => false,
        }
    }

    /// Makes a follower stand still.
    pub fn hold(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker) {
            replica.link = Link::Held;
            replica.lose_contact();
        }
    }

    /// Lets a held follower go on.
    pub fn release(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replica_mut(broker) {
            replica.link = Link::Following;
        }
    }

    /// Records take this long from one broker to another from now on.
    pub fn set_delay(&mut self, from: BrokerId, to: BrokerId, delay: Duration) {
        if let Some(replica) = self.replica_mut(to) {
            replica.set_delay(from, delay);
        }
    }

    /// A broker runs or not, reaches the others or not, from now on.
    pub fn set_state(&mut self, broker: BrokerId, process: Process, network: Network) {
        let Some(replica) = self.replica_mut(broker) else {
            return;
        };
        let started = replica.process == Process::Crashed && process != Process::Crashed;
        (replica.process, replica.network) = (process, network);
        if started {
            replica.on_start();
        }
        let runs = replica.runs();
        if self.leader == Some(broker) {
            if !runs {
                self.replicas.iter_mut().for_each(Replica::lose_contact);
            }
        } else {
            if let Some(replica) = self.replica_mut(broker) {
                replica.lose_contact();
            }
            // It hears now that it leads no more, or has forgotten that it did.
            if network == Network::Connected {
                self.leads.remove(&broker);
            }
        }
    }

    /// Raises the watermarks as far as they may go.
    pub fn advance_watermarks(&mut self, bounds: Bounds) {
        let may_go = |(broker, lead): (&BrokerId, &Lead)| {
            Some((*broker, self.watermark(*broker, lead, bounds)?))
        };
        let may_go: Vec<(BrokerId, i64)> = self.leads.iter().filter_map(may_go).collect();
        for (broker, watermark) in may_go {
            if let Some(replica) = self.replica_mut(broker) {
                replica.log_mut().raise_high_watermark(watermark);
            }
        }
        if let Some((leader, _)) = self.running_leader() {
            let watermark = self.log().high_watermark();
            for follower in self.followers_mut(leader).filter(|r| r.is_in_contact()) {
                follower.log_mut().raise_high_watermark(watermark);
            }
        }
    }

    fn watermark(&self, leader: BrokerId, lead: &Lead, bounds: Bounds) -> Option<i64> {
        let leading = self.replica(leader)?;
        if leading.process != Process::Running || lead.isr.len() < bounds.isr_min {
            return None;
        }
        let end = leading.log().end_offset();
        let mut others = self.replicas.iter().filter(|r| r.broker != leader);
        if leading.network == Network::Isolated {
            return (!others.any(|r| lead.counts(r.broker))).then_some(end);
        }
        let joins = |r: &Replica| {
            let in_time = r.delay_from(leader) < bounds.lag_max;
            r.follows() && r.is_in_contact() && in_time
        };
        let counted = others.filter(|r| lead.counts(r.broker) || joins(r));
        let ends = counted.map(Replica::known_end);
        Some(ends.fold(end, i64::min))
    }

    /// A running leader looks who has lagged for `lag_max`, and wants them out of the ISR.
    pub fn expel_lagging(&mut self, lag_max: Duration, now: Instant) {
        let Some((leader, _)) = self.running_leader() else {
            return;
        };
        let Some(lead) = self.leads.get_mut(&leader) else {
            return;
        };
        let others = self.replicas.iter().filter(|r| r.broker != leader);
        let in_sync = others.filter(|replica| lead.isr.contains(&replica.broker));
        let lagging = in_sync.filter(|replica| replica.has_lagged(lag_max, now));
        let out: Vec<BrokerId> = lagging.map(|replica| replica.broker).collect();
        if lead.pending == IsrChange::None && !out.is_empty() {
            lead.pending = IsrChange::Shrink(out);
        }
    }

    /// What a running leader wants the ISR to be, if the committed one is not that.
    pub fn propose(&mut self, bounds: Bounds, now: Instant) -> Option<Vec<BrokerId>> {
        let (leader, _) = self.running_leader()?;
        let lead = self.leads.get(&leader)?;
        if lead.pending == IsrChange::None
            && let Some(joins) = self.caught_up(leader, lead, bounds, now)
        {
            self.leads.get_mut(&leader)?.pending = IsrChange::Expand(joins);
        }
        self.leads.get(&leader)?.proposal()
    }

    /// The controller has refused: the ISR is what it was.
    pub fn withdraw(&mut self) {
        if let Some(lead) = self.leader.and_then(|leader| self.leads.get_mut(&leader)) {
            lead.pending = IsrChange::None;
        }
    }

    /// A follower outside the ISR that has what was visible, and what there was when the leader was
    /// elected.
    fn caught_up(
        &self,
        leader: BrokerId,
        lead: &Lead,
        Bounds { lag_max, .. }: Bounds,
        now: Instant,
    ) -> Option<BrokerId> {
        let least = self.log().high_watermark().max(lead.epoch_start);
        let others = self.replicas.iter().filter(|r| r.broker != leader);
        let mut outside = others.filter(|replica| !lead.isr.contains(&replica.broker));
        let joins = outside.find(|replica| {
            // A slower one would be taken out again at once.
            let in_time = replica.delay_from(leader) < lag_max && !replica.has_lagged(lag_max, now);
            replica.follows() && replica.is_in_contact() && replica.known_end() >= least && in_time
        });
        joins.map(|replica| replica.broker)
    }

    /// When something arrives, or somebody has lagged for too long.
    #[must_use]
    pub fn next_deadline(&self, lag_max: Duration) -> Option<Instant> {
        let (leader, _) = self.running_leader()?;
        let lead = self.leads.get(&leader)?;
        let followers = || self.replicas.iter().filter(|r| r.broker != leader);
        let following = followers().filter(|replica| replica.follows());
        let arrivals = following.filter_map(|replica| replica.next_arrival(leader));
        let counted =
            followers().filter(|r| lead.pending == IsrChange::None && lead.isr.contains(&r.broker));
        let lagging = counted.filter_map(Replica::lagging_since);
        let expulsions = lagging.map(|since| since + lag_max);
        arrivals.chain(expulsions).min()
    }

    /// A leader deleted what lies before `start`; whoever follows it does so too.
    pub fn on_delete(&mut self, leader: BrokerId, start: i64) {
        let spreads = self.running_leader().map(|(leader, _)| leader) == Some(leader);
        for replica in &mut self.replicas {
            let follows = spreads && replica.follows() && replica.is_in_contact();
            if replica.broker == leader || follows {
                replica.log_mut().raise_start_offset(start);
            }
        }
    }

    fn running_leader(&self) -> Option<(BrokerId, usize)> {
        let leader = self.leader?;
        let at = self.replicas.iter().position(|r| r.broker == leader)?;
        self.replicas.get(at)?.runs().then_some((leader, at))
    }

    fn network(&self, broker: BrokerId) -> Option<Network> {
        self.replica(broker).map(|replica| replica.network)
    }

    /// The log of who leads, or led last, in the eyes of the controller.
    #[must_use]
    pub fn log(&self) -> &Log {
        let last = self.last_leader.and_then(|leader| self.replica(leader));
        last.map_or(const { &Log::EMPTY }, Replica::log)
    }

    /// Who leads, in the eyes of the controller.
    #[must_use]
    pub const fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    /// What a broker knows that leads, or takes itself for the leader.
    #[must_use]
    pub fn lead(&self, broker: BrokerId) -> Option<&Lead> {
        self.leads.get(&broker)
    }

    /// The replicas, in the order of preference.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The replica on this broker.
    #[must_use]
    pub fn replica(&self, broker: BrokerId) -> Option<&Replica> {
        self.replicas
            .iter()
            .find(|replica| replica.broker == broker)
    }

    pub(super) fn replica_mut(&mut self, broker: BrokerId) -> Option<&mut Replica> {
        self.replicas
            .iter_mut()
            .find(|replica| replica.broker == broker)
    }

    fn followers_mut(&mut self, leader: BrokerId) -> impl Iterator<Item = &mut Replica> {
        let replicas = self.replicas.iter_mut();
        replicas.filter(move |replica| replica.broker != leader)
    }

    pub(super) fn all_mut(&mut self) -> &mut [Replica] {
        &mut self.replicas
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self, placement: &Placement) {
        placement.check_invariants();
        self.replicas.iter().for_each(Replica::check_invariants);
        assert_eq!(self.leader, placement.leadership.leader, "replication 1");
        for (broker, lead) in &self.leads {
            let leads = self.leader == Some(*broker) && lead.epoch == self.epoch;
            let cut_off = self.network(*broker) == Some(Network::Isolated);
            assert!(leads || cut_off, "replication 1: {broker:?} {lead:?}");
        }
        let led = self
            .leader
            .is_none_or(|leader| self.leads.contains_key(&leader));
        assert!(led, "replication 1: {:?}", self.leader);
        for replica in &self.replicas {
            let (broker, log) = (replica.broker, replica.log());
            let common = log.common_end(self.log());
            if replica.is_in_contact() {
                assert_eq!(common, log.end_offset(), "replication 2: {broker:?}");
            }
            let may_lead = placement.isr.contains(&broker) || placement.eligible.contains(&broker);
            let visible = self.log().high_watermark();
            assert!(!may_lead || common >= visible, "replication 3: {broker:?}");
        }
    }
}
