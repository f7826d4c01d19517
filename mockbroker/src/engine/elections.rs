//! What the controller knows of a partition: who is in sync, who may lead, who leads.
//!
//! *State* of a replica in the eyes of the controller:
//!
//! ```text
//!            the ISR falls below min ISR            the ISR reaches min ISR again
//!  InSync ───────────────────────────────▶ Eligible ─────────────────────────────▶ Out
//!    ▲ │                                      │  │ its broker stopped uncleanly ▲  ▲
//!    │ │                                      │  └──────────────────────────────┘  │
//!    │ │ leaves while min ISR are in sync     │ elected, when nobody is in sync    │
//!    │ └──────────────────────────────────────┼────────────────────────────────────┘
//!    └────────────────────────────────────────┘
//!      caught up, or elected
//! ```
//!
//! *Invariants*
//! 1. A leader is in sync; a partition without anybody in sync has no leader.
//! 2. Every change of leadership, to nobody included, raises the leader epoch by one.
//! 3. In sync, eligible: both are replicas, in their order, and none is both.
//! 4. There are eligible ones only below min ISR (KIP-966): they have all that was visible, for the
//!    watermark stands still there.
//! 5. The last known leader is remembered only while nobody leads.
//!
//! *Source* apache/kafka `metadata/…/controller/PartitionChangeBuilder.java`; KIP-966, which is on
//! in a cluster that 4.3.1 has formatted (`eligible.leader.replicas.version` 1; observed).
//!
//! *Not here* when a follower is in sync (`replication.rs`), whether a broker runs (`topology.rs`).

use super::effect::BrokerId;

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; `None` while there is none.
    pub leader: Option<BrokerId>,
    /// Raised by one with every change; starts at 0.
    pub epoch: i32,
}

/// Who may lead where no replica in sync or eligible can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// Nobody but the last leader.
    Clean,
    /// Any replica (`unclean.leader.election.enable`); what it lacks is lost.
    Unclean,
}

/// What a topic's configuration says about elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The effective `min.insync.replicas`.
    pub isr_min: usize,
    /// Whether an election may be unclean.
    pub election: Election,
}

/// Why the controller looks at a partition again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A broker is gone: it crashed, or its session is over.
    Fenced(BrokerId),
    /// A broker started that had stopped without saying so: what it wrote last may be gone.
    UncleanShutdown(BrokerId),
    /// Nothing of the partition: a broker is back that may lead, or the topic's rules are others.
    None,
    /// The leader says who is in sync (AlterPartition).
    Isr(Vec<BrokerId>),
    /// An operator names a leader that is in sync.
    Lead(BrokerId),
    /// An operator names a leader, whatever it lacks.
    LeadUnclean(BrokerId),
}

/// A partition as the controller has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The brokers, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Who leads.
    pub leadership: Leadership,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// Those that left the ISR below min ISR and may lead when it is empty.
    pub eligible: Vec<BrokerId>,
    /// Who led last, while nobody leads.
    pub last_known_leader: Option<BrokerId>,
}

impl Placement {
    /// A new partition: every replica whose broker lives is in sync, and the first of them leads.
    #[must_use]
    pub fn new(replicas: Vec<BrokerId>, is_alive: impl Fn(BrokerId) -> bool) -> Self {
        let alive = replicas.iter().copied().filter(|broker| is_alive(*broker));
        let isr: Vec<BrokerId> = alive.collect();
        Self {
            leadership: Leadership {
                leader: isr.first().copied(),
                epoch: 0,
            },
            // All are empty alike, so each may lead.
            eligible: match isr.is_empty() {
                true => replicas.clone(),
                false => Vec::new(),
            },
            isr,
            replicas,
            last_known_leader: None,
        }
    }

    /// Makes a change and what follows from it; a broker that is not alive is not elected.
    pub fn apply(&mut self, change: &Change, rules: Rules, is_alive: impl Fn(BrokerId) -> bool) {
        let without =
            |gone: BrokerId| self.only(|broker| broker != gone && self.isr.contains(&broker));
        match change {
            Change::Fenced(broker) => self.settle(without(*broker), None, rules, is_alive),
            Change::UncleanShutdown(broker) => {
                self.settle(without(*broker), Some(*broker), rules, is_alive);
            }
            Change::None => self.settle(self.isr.clone(), None, rules, is_alive),
            Change::Isr(isr) => {
                let isr = self.only(|broker| isr.contains(&broker));
                self.settle(isr, None, rules, is_alive);
            }
            Change::Lead(broker) => self.lead(Some(*broker)),
            Change::LeadUnclean(broker) => {
                if !self.isr.contains(broker) {
                    self.isr = vec![*broker];
                    self.eligible.clear();
                }
                self.lead(Some(*broker));
            }
        }
    }

    fn only(&self, wanted: impl Fn(BrokerId) -> bool) -> Vec<BrokerId> {
        let replicas = self.replicas.iter().copied();
        replicas.filter(|broker| wanted(*broker)).collect()
    }

    fn settle(
        &mut self,
        isr: Vec<BrokerId>,
        unclean: Option<BrokerId>,
        rules: Rules,
        is_alive: impl Fn(BrokerId) -> bool,
    ) {
        let known = |broker| self.isr.contains(&broker) || self.eligible.contains(&broker);
        let eligible = match isr.len() >= rules.isr_min {
            true => Vec::new(),
            false => self
                .only(|broker| known(broker) && !isr.contains(&broker) && unclean != Some(broker)),
        };
        let became_empty = isr.is_empty() && !self.isr.is_empty();
        (self.isr, self.eligible) = (isr, eligible);
        let before = self.leadership.leader;
        match self.elected(rules.election, is_alive) {
            Elected::Clean(leader) => {
                if self.isr.is_empty() {
                    self.isr.push(leader);
                    self.eligible.retain(|broker| *broker != leader);
                }
                self.lead(Some(leader));
            }
            Elected::Unclean(leader) => {
                self.isr = vec![leader];
                self.eligible.clear();
                self.lead(Some(leader));
            }
            Elected::Nobody => {
                self.lead(None);
                if became_empty {
                    self.last_known_leader = before;
                }
            }
        }
    }

    /// `PartitionChangeBuilder.electAnyLeader`.
    fn elected(&self, election: Election, is_alive: impl Fn(BrokerId) -> bool) -> Elected {
        let among = match self.isr.is_empty() {
            true => &self.eligible,
            false => &self.isr,
        };
        let valid = |broker: &BrokerId| among.contains(broker) && is_alive(*broker);
        let leader = self.leadership.leader.filter(valid);
        if let Some(leader) = leader.or_else(|| self.replicas.iter().copied().find(valid)) {
            return Elected::Clean(leader);
        }
        let nobody_left = self.isr.is_empty() && self.eligible.is_empty();
        let last_known = self.last_known_leader.filter(|_| nobody_left);
        let mut anybody = match election {
            Election::Unclean => self.replicas.iter().copied(),
            Election::Clean => [].iter().copied(),
        };
        let unclean = last_known.filter(|broker| is_alive(*broker));
        match unclean.or_else(|| anybody.find(|broker| is_alive(*broker))) {
            Some(leader) => Elected::Unclean(leader),
            None => Elected::Nobody,
        }
    }

    fn lead(&mut self, leader: Option<BrokerId>) {
        if self.leadership.leader != leader {
            self.leadership.leader = leader;
            self.leadership.epoch += 1;
        }
        if leader.is_some() {
            self.last_known_leader = None;
        }
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        match self.leadership.leader {
            Some(leader) => assert!(self.isr.contains(&leader), "elections 1: {self:?}"),
            None => assert!(self.isr.is_empty(), "elections 1: {self:?}"),
        }
        assert_eq!(
            self.isr,
            self.only(|broker| self.isr.contains(&broker)),
            "elections 3"
        );
        let eligible = |broker| self.eligible.contains(&broker) && !self.isr.contains(&broker);
        assert_eq!(self.eligible, self.only(eligible), "elections 3: {self:?}");
        let led = self.leadership.leader.is_some();
        assert!(!led || self.last_known_leader.is_none(), "elections 5");
    }
}

enum Elected {
    /// In sync, or eligible.
    Clean(BrokerId),
    /// Neither.
    Unclean(BrokerId),
    Nobody,
}

/// `min.insync.replicas`, but never more than there are replicas (`Partition.effectiveMinIsr`).
#[must_use]
pub fn effective_isr_min(configured: i32, replicas: usize) -> usize {
    usize::try_from(configured)
        .unwrap_or(1)
        .clamp(1, replicas.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);
    const THREE: BrokerId = BrokerId(3);
    const ALL: [BrokerId; 3] = [ONE, TWO, THREE];

    /// What kafka-topics.sh shows: leader, ISR, eligible, last known leader.
    type Shown<'a> = (Option<i32>, &'a [i32], &'a [i32], Option<i32>);

    /// A partition and its brokers; two must be in sync.
    struct Controller {
        placement: Placement,
        alive: Vec<BrokerId>,
        rules: Rules,
    }

    impl Controller {
        fn new(election: Election) -> Self {
            Self {
                placement: Placement::new(ALL.to_vec(), |_| true),
                alive: ALL.to_vec(),
                rules: Rules {
                    isr_min: 2,
                    election,
                },
            }
        }

        fn change(&mut self, change: &Change) {
            let alive = self.alive.clone();
            self.placement
                .apply(change, self.rules, |broker| alive.contains(&broker));
            self.placement.check_invariants();
        }

        fn gone(&mut self, broker: BrokerId) {
            self.alive.retain(|alive| *alive != broker);
            self.change(&Change::Fenced(broker));
        }

        fn back(&mut self, broker: BrokerId) {
            self.alive.push(broker);
            self.change(&Change::None);
        }

        fn started(&mut self, broker: BrokerId) {
            self.change(&Change::UncleanShutdown(broker));
            self.back(broker);
        }

        #[track_caller]
        fn shows(&self, expected: Shown<'_>) {
            let ids = |brokers: &[BrokerId]| brokers.iter().map(|b| b.0).collect::<Vec<_>>();
            let Placement {
                leadership,
                isr,
                eligible,
                last_known_leader,
                ..
            } = &self.placement;
            let leader = leadership.leader.map(|leader| leader.0);
            let last = last_known_leader.map(|leader| leader.0);
            let (leads, in_sync, may_lead, led) = expected;
            assert_eq!((leader, ids(isr)), (leads, in_sync.to_vec()));
            assert_eq!((ids(eligible), last), (may_lead.to_vec(), led));
        }
    }

    /// Observed on three brokers of 4.3.1: docker pause and kill, kafka-topics.sh --describe.
    #[test]
    fn who_left_below_min_isr_leads_when_nobody_is_in_sync() {
        let mut controller = Controller::new(Election::Clean);
        controller.gone(TWO);
        controller.shows((Some(1), &[1, 3], &[], None));
        controller.gone(THREE);
        controller.shows((Some(1), &[1], &[3], None));
        controller.gone(ONE);
        controller.shows((None, &[], &[1, 3], Some(1)));
        controller.back(TWO);
        controller.shows((None, &[], &[1, 3], Some(1)));
        controller.started(ONE);
        controller.shows((None, &[], &[3], Some(1)));
        controller.back(THREE);
        controller.shows((Some(3), &[3], &[], None));
        assert_eq!(controller.placement.leadership.epoch, 2);
    }

    /// Observed on three brokers of 4.3.1.
    #[test]
    fn the_last_leader_leads_when_all_eligible_ones_stopped_uncleanly() {
        let mut controller = Controller::new(Election::Clean);
        for broker in [THREE, TWO] {
            controller.gone(broker);
        }
        controller.shows((Some(1), &[1], &[2], None));
        controller.gone(ONE);
        controller.started(ONE);
        controller.shows((None, &[], &[2], Some(1)));
        controller.started(THREE);
        controller.shows((None, &[], &[2], Some(1)));
        controller.started(TWO);
        controller.shows((Some(1), &[1], &[], None));
    }

    #[test]
    fn an_eligible_replica_leads_at_once_if_it_lives() {
        let mut controller = Controller::new(Election::Clean);
        controller.change(&Change::Isr(vec![ONE, TWO]));
        controller.change(&Change::Isr(vec![ONE]));
        controller.shows((Some(1), &[1], &[2], None));
        controller.gone(ONE);
        controller.shows((Some(2), &[2], &[1], None));
    }

    #[test]
    fn nobody_is_eligible_when_enough_are_in_sync_again() {
        let mut controller = Controller::new(Election::Clean);
        controller.change(&Change::Isr(vec![ONE]));
        controller.shows((Some(1), &[1], &[2, 3], None));
        controller.change(&Change::Isr(vec![ONE, THREE]));
        controller.shows((Some(1), &[1, 3], &[], None));
    }

    #[rstest]
    #[case::clean(Election::Clean, (None, &[][..], &[1][..], Some(1)))]
    #[case::unclean(Election::Unclean, (Some(2), &[2][..], &[][..], None))]
    fn whoever_lives_leads_only_if_an_election_may_be_unclean(
        #[case] election: Election,
        #[case] expected: Shown<'_>,
    ) {
        let mut controller = Controller::new(election);
        controller.rules.isr_min = 1;
        controller.change(&Change::Isr(vec![ONE]));
        controller.gone(ONE);
        controller.shows(expected);
    }

    #[test]
    fn every_change_of_leader_raises_the_epoch() {
        let mut controller = Controller::new(Election::Clean);
        let mut seen = Vec::new();
        for change in [
            Change::Lead(TWO),
            Change::Lead(TWO),
            Change::Fenced(THREE),
            Change::LeadUnclean(THREE),
        ] {
            controller.change(&change);
            seen.push(controller.placement.leadership.epoch);
        }
        assert_eq!(
            seen,
            [1, 1, 1, 2],
            "naming the leader again changes nothing"
        );
        controller.shows((Some(3), &[3], &[], None));
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

    proptest! {
        /// Whoever left before enough were in sync without it never leads by a clean election.
        #[test]
        fn a_clean_leader_was_in_sync_or_eligible(
            steps in proptest::collection::vec((0..3u8, 0..3usize), 1..40),
        ) {
            let mut controller = Controller::new(Election::Clean);
            for (kind, broker) in steps {
                let before = controller.placement.clone();
                let broker = ALL[broker];
                match kind {
                    0 => controller.gone(broker),
                    1 if !controller.alive.contains(&broker) => controller.back(broker),
                    _ if !controller.alive.contains(&broker) => controller.started(broker),
                    _ => {}
                }
                let after = controller.placement.leadership;
                if let Some(leader) = after.leader.filter(|_| before.leadership != after) {
                    let known = [before.isr, before.eligible].concat().contains(&leader);
                    prop_assert!(known || before.last_known_leader == Some(leader));
                }
            }
        }
    }
}
