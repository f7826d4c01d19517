//! Moves that are made when their time has come.
//!
//! *Not here*: their order (`engine/plan.rs`), and what they do (`engine/moves.rs`).

use super::ClusterEngine;
use crate::engine::Move;
use crate::engine::plan::{Plan, PlanFull};
use crate::engine::time::Instant;

impl ClusterEngine {
    /// Makes a move at its time; a time that has passed is the next call of
    /// [`handle_timeout`](Self::handle_timeout). A move that cannot be made then leaves a
    /// diagnostic.
    ///
    /// # Errors
    ///
    /// Too many moves are planned.
    pub fn plan_move(&mut self, to_make: Move, at: Instant) -> Result<(), PlanFull> {
        self.plan.add(to_make, at)
    }

    /// The moves that have their times, made or not.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn make_due_moves(&mut self, now: Instant) {
        while let Some(planned) = self.plan.due(now) {
            let planned = planned.clone();
            let made = self.make_move(&planned.to_make, now);
            if let Err(error) = made {
                let text = format!("the planned {:?} was not made: {error}", planned.to_make);
                self.journal.diagnose(text, None, now);
            }
            self.plan.settle(made);
        }
    }
}
