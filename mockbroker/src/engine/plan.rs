//! Moves that are to be made at their times.
//!
//! *State* of a planned move:
//!
//! ```text
//!          its time comes        ┌─▶ Made
//! Waiting ─────────────────▶ due ┤
//!                                └─▶ Refused   the cluster could not make it then
//! ```
//!
//! *Invariants*
//! 1. Moves are made in the order of their times; at the same time, in the order in which they were
//!    planned.
//! 2. What was made or refused stands before what waits.
//! 3. At most [`PLANNED_MAX`] moves are planned in the life of a cluster, and none is forgotten.
//!
//! *Source* none in Kafka; this is the mock's own.
//!
//! *Not here* what a move does (`moves.rs`).

use thiserror::Error;

use super::moves::{Move, MoveError};
use super::time::Instant;

/// Moves that can be planned in the life of a cluster.
pub const PLANNED_MAX: usize = 10_000;

/// A move with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it is due.
    pub at: Instant,
    /// What is to be done.
    pub to_make: Move,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a planned move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its time has not come.
    Waiting,
    /// It was made.
    Made,
    /// The cluster could not make it.
    Refused(MoveError),
}

/// No more moves can be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{PLANNED_MAX} moves are planned already, and no more can be")]
pub struct PlanFull;

/// The moves of a cluster that have their times.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    moves: Vec<Planned>,
    /// The first that waits.
    next: usize,
}

impl Plan {
    /// Adds a move.
    ///
    /// # Errors
    ///
    /// Too many are planned.
    pub fn add(&mut self, to_make: Move, at: Instant) -> Result<(), PlanFull> {
        if self.moves.len() >= PLANNED_MAX {
            return Err(PlanFull);
        }
        let waiting = self.moves.get(self.next..).unwrap_or_default();
        let index = self.next + waiting.partition_point(|planned| planned.at <= at);
        let outcome = Outcome::Waiting;
        self.moves.insert(
            index,
            Planned {
                at,
                to_make,
                outcome,
            },
        );
        Ok(())
    }

    /// When the next move is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.moves.get(self.next).map(|planned| planned.at)
    }

    /// The next move, if its time has come; it stays the next until [`settle`](Self::settle).
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<&Planned> {
        let next = self.moves.get(self.next)?;
        (next.at <= now).then_some(next)
    }

    /// The move that was due was made, or could not be.
    pub fn settle(&mut self, made: Result<(), MoveError>) {
        if let Some(next) = self.moves.get_mut(self.next) {
            next.outcome = match made {
                Ok(()) => Outcome::Made,
                Err(error) => Outcome::Refused(error),
            };
            self.next += 1;
        }
    }

    /// Every move, in the order in which they were or will be made.
    #[must_use]
    pub fn moves(&self) -> &[Planned] {
        &self.moves
    }

    /// The moves that were made or could not be.
    #[must_use]
    pub fn settled(&self) -> &[Planned] {
        self.moves.get(..self.next).unwrap_or_default()
    }

    /// Panics when an invariant does not hold.
    pub fn check_invariants(&self) {
        for (index, planned) in self.moves.iter().enumerate() {
            let waits = planned.outcome == Outcome::Waiting;
            assert_eq!(waits, index >= self.next, "plan 2");
        }
        let waiting = self.moves.get(self.next..).unwrap_or_default();
        assert!(waiting.is_sorted_by_key(|planned| planned.at), "plan 1");
        assert!(self.moves.len() <= PLANNED_MAX, "plan 3");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::effect::BrokerId;

    fn crash(broker: i32) -> Move {
        Move::CrashBroker {
            broker: BrokerId(broker),
        }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// The brokers of the moves that are due, as they come; all are made.
    fn made(plan: &mut Plan, now: Instant) -> Vec<Move> {
        let mut moves = Vec::new();
        while let Some(planned) = plan.due(now) {
            moves.push(planned.to_make.clone());
            plan.settle(Ok(()));
            plan.check_invariants();
        }
        moves
    }

    #[test]
    fn moves_are_due_by_time_and_then_by_their_order() {
        let mut plan = Plan::default();
        for (broker, nanos) in [(1, 20), (2, 10), (3, 20), (4, 30)] {
            plan.add(crash(broker), at(nanos)).unwrap();
            plan.check_invariants();
        }
        assert_eq!(plan.next_deadline(), Some(at(10)));
        assert_eq!(made(&mut plan, at(9)), []);
        assert_eq!(made(&mut plan, at(20)), [crash(2), crash(1), crash(3)]);
        plan.add(crash(5), at(5)).unwrap();
        assert_eq!(plan.next_deadline(), Some(at(5)), "late, so at once");
        assert_eq!(made(&mut plan, at(30)), [crash(5), crash(4)]);
        assert_eq!(plan.next_deadline(), None);
    }

    #[test]
    fn what_could_not_be_made_is_kept_with_its_reason() {
        let mut plan = Plan::default();
        plan.add(crash(9), at(1)).unwrap();
        assert!(plan.due(at(1)).is_some());
        plan.settle(Err(MoveError::UnknownBroker));
        let refused = Outcome::Refused(MoveError::UnknownBroker);
        assert_eq!(plan.moves()[0].outcome, refused);
    }

    #[test]
    fn a_plan_has_an_end() {
        let mut plan = Plan::default();
        for _ in 0..PLANNED_MAX {
            plan.add(crash(1), at(1)).unwrap();
        }
        assert_eq!(plan.add(crash(1), at(1)), Err(PlanFull));
    }
}
