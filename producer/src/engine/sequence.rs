//! Who writes, and with which number: the producer id, and each partition's run of sequences.
//!
//! *State* of the producer id
//! ```text
//!               on_asked               on_answer
//!   Absent ──────────────────▶ Asked ─────────────▶ Held
//!     ▲                        ▲ │ │                  │
//!     │             it is over │ │ │ refused for good │
//!     │                        │ │ ▼                  │
//!     │                        │ │ Refused            │
//!     │       retriable, lost  │ ▼ ▼ what waits failed│
//!     │                       Waiting                 │
//!     └───────────────────────────────────────────────┘ an epoch ran out
//! ```
//! *State* of a partition's run
//! ```text
//!               assign               on_acked
//!   Unassigned ────────▶ Probing ───────────────▶ Flowing
//!                          │ ▲ ▲ ◀── on_new_log ─────┤
//!                   on_gap │ │ restart (epoch + 1)   │ on_gap
//!                          ▼ │                       │
//!                        Broken ◀────────────────────┘
//! ```
//!
//! *Invariants*
//! 1. Within one id and epoch a partition's sequences are consecutive, wrapping at 2³¹−1.
//! 2. Until a run's first batch is acknowledged, no second batch is on the way: a broker that has
//!    no state of a producer takes any sequence first, so an overtaking batch would be let in.
//! 3. A broken run gives out nothing; it restarts only when no batch of it can still be in the log
//!    without our knowing.
//! 4. A restarted run has a higher epoch or another id, so what is left of the old one is refused.
//!
//! *Source*: KIP-98, KIP-360 (epoch bump by the client); `ProducerAppendInfo.checkSequence` for 2.
//!
//! *Not here*: when a gap arises (`verdict.rs`, `delivery.rs`).

use crate::engine::config::Idempotence;
use crate::engine::time::Instant;
use crate::error::Failure;
use crate::types::{ProducerEpoch, ProducerId, Sequence};
use crate::wire::record_batch::{ProducerStamp, Scope};

/// The producer's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Idempotence is off.
    NotNeeded,
    /// To be asked for.
    Absent,
    /// A question is on its way.
    Asked {
        /// Questions that failed before this one.
        failures: u32,
    },
    /// The last question failed; ask again later.
    Waiting {
        /// When.
        until: Instant,
        /// Questions that failed so far.
        failures: u32,
    },
    /// A broker refused for good: what waits now fails with this.
    Refused(Failure),
    /// Given.
    Held(ProducerId, ProducerEpoch),
    /// The business of transactions: what their coordinator gave last, if it did.
    Coordinated(Option<Grant>),
}

/// What the coordinator of transactions gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    /// How brokers take the first batch of an epoch.
    pub(crate) level: Level,
}

/// How transactions are done (`transaction.version`, KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Versions 0 and 1: partitions are added by request, and an epoch has many transactions.
    Explicit,
    /// From version 2 on: a write adds its partition, and each transaction has an epoch of its own,
    /// whose first sequence brokers insist on.
    Implicit,
}

impl Identity {
    pub(crate) fn new(idempotence: Idempotence) -> Self {
        match idempotence {
            Idempotence::Enabled => Self::Absent,
            Idempotence::Disabled => Self::NotNeeded,
        }
    }

    /// What the coordinator of transactions gave.
    pub(crate) fn grant(&self) -> Option<Grant> {
        match self {
            Self::Coordinated(grant) => *grant,
            _ => None,
        }
    }

    /// When to ask, if it is to be asked at all.
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        match self {
            Self::Absent => Some(Instant::ZERO),
            Self::Waiting { until, .. } => Some(*until),
            Self::NotNeeded
            | Self::Asked { .. }
            | Self::Refused(_)
            | Self::Held(..)
            | Self::Coordinated(_) => None,
        }
    }

    pub(crate) fn on_asked(&mut self) {
        match self {
            Self::Absent => *self = Self::Asked { failures: 0 },
            Self::Waiting { failures, .. } => {
                *self = Self::Asked {
                    failures: *failures,
                }
            }
            Self::NotNeeded
            | Self::Asked { .. }
            | Self::Refused(_)
            | Self::Held(..)
            | Self::Coordinated(_) => {}
        }
    }

    pub(crate) fn on_answer(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        if matches!(self, Self::Asked { .. }) {
            *self = Self::Held(id, epoch);
        }
    }

    /// The question failed; `delay` says how long to wait after so many failures.
    pub(crate) fn on_failed(&mut self, until: Instant) {
        if let Self::Asked { failures } = self {
            *self = Self::Waiting {
                until,
                failures: *failures + 1,
            };
        }
    }

    pub(crate) fn on_refused(&mut self, failure: Failure) {
        if matches!(self, Self::Asked { .. }) {
            *self = Self::Refused(failure);
        }
    }

    /// How often the present question failed before.
    pub(crate) fn failures(&self) -> u32 {
        match self {
            Self::Asked { failures } | Self::Waiting { failures, .. } => *failures,
            Self::NotNeeded
            | Self::Absent
            | Self::Refused(_)
            | Self::Held(..)
            | Self::Coordinated(_) => 0,
        }
    }

    /// Takes the refusal, for everything that waits to fail with it; later batches ask again, not
    /// before `until`.
    pub(crate) fn take_refusal(&mut self, until: Instant) -> Option<Failure> {
        let Self::Refused(failure) = self else {
            return None;
        };
        let failure = failure.clone();
        *self = Self::Waiting { until, failures: 0 };
        Some(failure)
    }

    /// This id has no epochs left.
    fn on_exhausted(&mut self, exhausted: ProducerId) {
        if matches!(self, Self::Held(id, _) if *id == exhausted) {
            *self = Self::Absent;
        }
    }
}

/// One partition's run of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Idempotence is off: batches carry no sequence.
    Off,
    /// No batch was stamped yet.
    Unassigned,
    /// No batch of this run was acknowledged yet.
    Probing(Position),
    /// The broker knows this run.
    Flowing(Position),
    /// A sequence of this run is missing in the log, or may be.
    Broken(Position, Gap),
}

/// What is known of the sequences that broke a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    /// They are in no log and on no way to one.
    Certain,
    /// They may be in the log, or may still arrive there.
    Possible,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
    scope: Scope,
}

impl Run {
    pub(crate) fn new(idempotence: Idempotence) -> Self {
        match idempotence {
            Idempotence::Enabled => Self::Unassigned,
            Idempotence::Disabled => Self::Off,
        }
    }

    /// Whether a batch that has no stamp yet may be stamped and sent, with so many on the way.
    pub(crate) fn admits(&self, on_wire: usize, identity: &Identity) -> bool {
        match self {
            Self::Off | Self::Flowing(_) => true,
            Self::Unassigned => {
                matches!(
                    identity,
                    Identity::Held(..) | Identity::Coordinated(Some(_))
                )
            }
            Self::Probing(_) => on_wire == 0,
            Self::Broken(..) => false,
        }
    }

    /// Gives out the next `count` sequences. `None` when idempotence is off.
    pub(crate) fn assign(&mut self, count: u32, identity: &Identity) -> Option<ProducerStamp> {
        if *self == Self::Unassigned {
            *self = Self::start(identity);
        }
        match self {
            Self::Probing(position) | Self::Flowing(position) => Some(position.advance(count)),
            Self::Off | Self::Unassigned | Self::Broken(..) => None,
        }
    }

    /// The first run under an id.
    fn start(identity: &Identity) -> Self {
        let next = Sequence::ZERO;
        match *identity {
            Identity::Held(id, epoch) => Self::Probing(Position {
                id,
                epoch,
                next,
                scope: Scope::Alone,
            }),
            Identity::Coordinated(Some(Grant { id, epoch, level })) => {
                let position = Position {
                    id,
                    epoch,
                    next,
                    scope: Scope::Transaction,
                };
                match level {
                    Level::Explicit => Self::Probing(position),
                    // Whatever overtakes the first batch is refused: nothing has to go alone.
                    Level::Implicit => Self::Flowing(position),
                }
            }
            _ => Self::Unassigned,
        }
    }

    /// The transaction that had the epoch is over: the next one has another.
    pub(crate) fn on_epoch_raised(&mut self) {
        if *self != Self::Off {
            *self = Self::Unassigned;
        }
    }

    /// A batch with this stamp is in the log.
    pub(crate) fn on_acked(&mut self, stamp: Option<ProducerStamp>) {
        if let Self::Probing(position) = *self
            && position.owns(stamp)
        {
            *self = Self::Flowing(position);
        }
    }

    /// The log is another one: no broker knows this run, so it goes alone again until it does.
    pub(crate) fn on_new_log(&mut self) {
        if let Self::Flowing(position) = *self {
            *self = Self::Probing(position);
        }
    }

    /// The sequences of this stamp are not in the log, or may not be.
    pub(crate) fn on_gap(&mut self, stamp: Option<ProducerStamp>, gap: Gap) {
        match self {
            Self::Probing(position) | Self::Flowing(position) if position.owns(stamp) => {
                *self = Self::Broken(*position, gap);
            }
            Self::Broken(position, known) if position.owns(stamp) => *known = gap.max(*known),
            // A stamp of an older run has been settled by the restart after it.
            Self::Off
            | Self::Unassigned
            | Self::Probing(_)
            | Self::Flowing(_)
            | Self::Broken(..) => {}
        }
    }

    /// Starts a broken run anew; `identity` is told when its epochs are used up.
    pub(crate) fn restart(&mut self, identity: &mut Identity) {
        let Self::Broken(old, _) = *self else { return };
        let next = Sequence::ZERO;
        *self = match *identity {
            Identity::Held(id, epoch) if id != old.id => Self::Probing(Position {
                id,
                epoch,
                next,
                ..old
            }),
            // An epoch of transactions is their coordinator's to raise.
            Identity::Coordinated(_) => return,
            _ => match old.epoch.0.checked_add(1) {
                Some(epoch) => Self::Probing(Position {
                    epoch: ProducerEpoch(epoch),
                    next,
                    ..old
                }),
                None => {
                    identity.on_exhausted(old.id);
                    return;
                }
            },
        };
    }

    /// Id and epoch of a run that has just started.
    pub(crate) fn probing(&self) -> Option<(ProducerId, ProducerEpoch)> {
        match self {
            Self::Probing(position) => Some((position.id, position.epoch)),
            Self::Off | Self::Unassigned | Self::Flowing(_) | Self::Broken(..) => None,
        }
    }

    /// What broke the run, if it is broken.
    pub(crate) fn gap(&self) -> Option<Gap> {
        match self {
            Self::Broken(_, gap) => Some(*gap),
            Self::Off | Self::Unassigned | Self::Probing(_) | Self::Flowing(_) => None,
        }
    }
}

impl Position {
    fn advance(&mut self, count: u32) -> ProducerStamp {
        let base_sequence = self.next;
        self.next = base_sequence.plus(count);
        ProducerStamp {
            id: self.id,
            epoch: self.epoch,
            base_sequence,
            scope: self.scope,
        }
    }

    fn owns(&self, stamp: Option<ProducerStamp>) -> bool {
        stamp.is_some_and(|stamp| stamp.id == self.id && stamp.epoch == self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, FailureKind};
    use rstest::rstest;

    const ID: ProducerId = ProducerId(7);

    fn held(id: i64) -> Identity {
        Identity::Held(ProducerId(id), ProducerEpoch(0))
    }

    fn stamp(epoch: i16, sequence: u32) -> ProducerStamp {
        let base_sequence = Sequence::ZERO.plus(sequence);
        ProducerStamp {
            id: ID,
            epoch: ProducerEpoch(epoch),
            base_sequence,
            scope: Scope::Alone,
        }
    }

    /// A run that gave out its first two sequences, and had them acknowledged.
    fn flowing() -> Run {
        let mut run = Run::new(Idempotence::Enabled);
        run.assign(2, &held(7));
        run.on_acked(Some(stamp(0, 0)));
        run
    }

    #[test]
    fn sequences_follow_each_other() {
        let mut run = flowing();
        assert_eq!(run.assign(3, &held(7)), Some(stamp(0, 2)));
        assert_eq!(run.assign(1, &held(7)), Some(stamp(0, 5)));
    }

    #[test]
    fn nothing_is_given_out_before_there_is_an_id() {
        let mut run = Run::new(Idempotence::Enabled);
        assert!(!run.admits(0, &Identity::Absent));
        assert_eq!(run.assign(1, &Identity::Absent), None);
        assert_eq!(run, Run::Unassigned);
    }

    #[test]
    fn a_run_probes_with_one_batch_until_it_is_acknowledged() {
        let mut run = Run::new(Idempotence::Enabled);
        run.assign(1, &held(7));
        assert!(run.admits(0, &held(7)) && !run.admits(1, &held(7)));
        run.on_acked(Some(stamp(0, 0)));
        assert!(run.admits(4, &held(7)));
    }

    #[test]
    fn a_broken_run_gives_out_nothing_until_it_restarts_with_the_next_epoch() {
        let mut run = flowing();
        run.on_gap(Some(stamp(0, 0)), Gap::Certain);
        assert!(!run.admits(0, &held(7)));
        assert_eq!(run.assign(1, &held(7)), None);
        run.restart(&mut held(7));
        assert_eq!(run.assign(1, &held(7)), Some(stamp(1, 0)));
    }

    #[rstest]
    #[case::certain_then_possible(Gap::Certain, Gap::Possible)]
    #[case::possible_then_certain(Gap::Possible, Gap::Certain)]
    fn the_worst_gap_counts(#[case] first: Gap, #[case] second: Gap) {
        let mut run = flowing();
        run.on_gap(Some(stamp(0, 0)), first);
        run.on_gap(Some(stamp(0, 1)), second);
        assert_eq!(run.gap(), Some(Gap::Possible));
    }

    #[test]
    fn what_belongs_to_an_older_run_changes_nothing() {
        let mut run = flowing();
        run.on_gap(Some(stamp(0, 0)), Gap::Certain);
        run.restart(&mut held(7));
        let restarted = run;
        run.on_gap(Some(stamp(0, 1)), Gap::Possible);
        run.on_acked(Some(stamp(0, 1)));
        assert_eq!(run, restarted);
    }

    #[test]
    fn a_run_that_is_not_broken_does_not_restart() {
        let mut run = flowing();
        run.restart(&mut held(7));
        assert_eq!(run, flowing());
    }

    #[test]
    fn after_the_last_epoch_a_new_id_is_wanted_and_used() {
        let mut identity = held(7);
        let last = Position {
            id: ID,
            epoch: ProducerEpoch(i16::MAX),
            next: Sequence::ZERO,
            scope: Scope::Alone,
        };
        let mut run = Run::Broken(last, Gap::Certain);
        run.restart(&mut identity);
        assert_eq!(
            (run.gap(), &identity),
            (Some(Gap::Certain), &Identity::Absent)
        );
        let mut identity = held(8);
        run.restart(&mut identity);
        let given = run.assign(1, &identity).expect("a stamp");
        assert_eq!((given.id, given.epoch), (ProducerId(8), ProducerEpoch(0)));
    }

    #[test]
    fn without_idempotence_everything_goes_unnumbered() {
        let mut run = Run::new(Idempotence::Disabled);
        assert!(run.admits(100, &Identity::NotNeeded));
        assert_eq!(run.assign(1, &Identity::NotNeeded), None);
        run.on_gap(None, Gap::Possible);
        assert_eq!(run, Run::Off);
    }

    fn refusal() -> Failure {
        let kind = FailureKind::Refused(ErrorCode(31));
        Failure::new(kind)
    }

    /// Each event in each state: only what is drawn happens.
    #[rstest]
    #[case::not_needed(Identity::NotNeeded, ["NotNeeded"; 4])]
    #[case::absent(Identity::Absent, ["Asked", "Absent", "Absent", "Absent"])]
    #[case::asked(Identity::Asked { failures: 2 }, ["Asked", "Held", "Waiting", "Refused"])]
    #[case::waiting(
        Identity::Waiting { until: Instant::ZERO, failures: 1 },
        ["Asked", "Waiting", "Waiting", "Waiting"],
    )]
    #[case::held(held(7), ["Held"; 4])]
    #[case::refused(Identity::Refused(refusal()), ["Refused"; 4])]
    #[case::coordinated(Identity::Coordinated(None), ["Coordinated"; 4])]
    fn an_identity_moves_as_drawn(#[case] start: Identity, #[case] ends: [&str; 4]) {
        let events: [fn(&mut Identity); 4] = [
            Identity::on_asked,
            |one| one.on_answer(ID, ProducerEpoch(0)),
            |one| one.on_failed(Instant::ZERO),
            |one| one.on_refused(refusal()),
        ];
        for (event, end) in events.into_iter().zip(ends) {
            let mut identity = start.clone();
            event(&mut identity);
            let name = format!("{identity:?}");
            assert!(name.starts_with(end), "{start:?} became {name}, not {end}");
        }
    }

    #[test]
    fn failures_of_a_question_add_up_until_it_is_answered() {
        let mut identity = Identity::Absent;
        for failures in 1..=3 {
            identity.on_asked();
            identity.on_failed(Instant::ZERO);
            assert_eq!(identity.failures(), failures);
        }
        identity.on_asked();
        identity.on_answer(ID, ProducerEpoch(0));
        assert_eq!(identity.failures(), 0);
    }
}
