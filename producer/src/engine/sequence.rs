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
//!                          │ ▲                       │
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
use crate::wire::record_batch::ProducerStamp;

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
}

impl Identity {
    pub(crate) fn new(idempotence: Idempotence) -> Self {
        match idempotence {
            Idempotence::Enabled => Self::Absent,
            Idempotence::Disabled => Self::NotNeeded,
        }
    }

    /// When to ask, if it is to be asked at all.
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        match self {
            Self::Absent => Some(Instant::ZERO),
            Self::Waiting { until, .. } => Some(*until),
            Self::NotNeeded | Self::Asked { .. } | Self::Refused(_) | Self::Held(..) => None,
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
            Self::NotNeeded | Self::Asked { .. } | Self::Refused(_) | Self::Held(..) => {}
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
            Self::NotNeeded | Self::Absent | Self::Refused(_) | Self::Held(..) => 0,
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
    Broken(Position),
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
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
            Self::Unassigned => matches!(identity, Identity::Held(..)),
            Self::Probing(_) => on_wire == 0,
            Self::Broken(_) => false,
        }
    }

    /// Gives out the next `count` sequences. `None` when idempotence is off.
    pub(crate) fn assign(&mut self, count: u32, identity: &Identity) -> Option<ProducerStamp> {
        if let (Self::Unassigned, Identity::Held(id, epoch)) = (*self, identity) {
            let start = Position {
                id: *id,
                epoch: *epoch,
                next: Sequence::ZERO,
            };
            *self = Self::Probing(start);
        }
        match self {
            Self::Probing(position) | Self::Flowing(position) => Some(position.advance(count)),
            Self::Off | Self::Unassigned | Self::Broken(_) => None,
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

    /// The sequences of this stamp are not in the log, or may not be.
    pub(crate) fn on_gap(&mut self, stamp: Option<ProducerStamp>) {
        match *self {
            Self::Probing(position) | Self::Flowing(position) if position.owns(stamp) => {
                *self = Self::Broken(position);
            }
            // A stamp of an older run has been settled by the restart after it.
            Self::Off | Self::Unassigned | Self::Probing(_) | Self::Flowing(_) => {}
            Self::Broken(_) => {}
        }
    }

    /// Starts a broken run anew; `identity` is told when its epochs are used up.
    pub(crate) fn restart(&mut self, identity: &mut Identity) {
        let Self::Broken(old) = *self else { return };
        let next = Sequence::ZERO;
        *self = match *identity {
            Identity::Held(id, epoch) if id != old.id => {
                Self::Probing(Position { id, epoch, next })
            }
            _ => match old.epoch.0.checked_add(1) {
                Some(epoch) => Self::Probing(Position {
                    id: old.id,
                    epoch: ProducerEpoch(epoch),
                    next,
                }),
                None => {
                    identity.on_exhausted(old.id);
                    return;
                }
            },
        };
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(_))
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
        }
    }

    fn owns(&self, stamp: Option<ProducerStamp>) -> bool {
        stamp.is_some_and(|stamp| stamp.id == self.id && stamp.epoch == self.epoch)
    }
}
