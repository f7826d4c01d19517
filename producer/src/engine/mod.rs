//! The producer's state machines, pure: inputs in, actions out, time as an argument.
pub mod batch;
pub mod config;
pub mod effect;
pub mod queue;
pub mod time;

use core::marker::PhantomData;

pub use config::{EngineConfig, Idempotence};
use effect::{Action, Input, Queues, TopicView};
use time::Instant;

use crate::types::TopicIndex;

/// The client's whole logic below the API, owned by the driver alone.
#[derive(Debug)]
pub struct Engine<C> {
    completions: PhantomData<C>,
}

impl<C> Engine<C> {
    /// An engine that knows no topic and no broker yet.
    #[must_use]
    pub fn new(_config: EngineConfig, _now: Instant) -> Self {
        Self {
            completions: PhantomData,
        }
    }

    /// Takes in what happened.
    pub fn handle_input(&mut self, _input: Input, _now: Instant) {}

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The next thing to do; ask until `None` after every input and time-out.
    pub fn poll_action(
        &mut self,
        _queues: &mut impl Queues<Completion = C>,
        _now: Instant,
    ) -> Option<Action<C>> {
        None
    }

    /// When [`Engine::handle_timeout`] must be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// What is known of a topic.
    #[must_use]
    pub fn topic(&self, _topic: TopicIndex) -> TopicView {
        TopicView::Pending { last_failure: None }
    }

    /// Panics if an invariant is broken: a bug of this crate.
    pub fn check_invariants(&self) {}
}
