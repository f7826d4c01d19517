//! Who coordinates our transactional id, and the groups whose offsets are part of transactions.
//!
//! *State* of one
//! ```text
//!            asked              named                 lost, or says that it is not
//!   Unknown ──────▶ Asked ─────────────▶ Known ───────────────────────────────────▶ Unknown
//!      ▲              │ nobody yet, no answer
//!      │ back-off     ▼
//!      └─────────── Waiting
//! ```
//!
//! *Invariants*
//! 1. A coordinator is asked for only while none is known.
//!
//! *Source*: Kafka's `TransactionManager.lookupCoordinator`, `FindCoordinatorHandler`.
//!
//! *Not here*: where brokers listen (`brokers.rs`), requests (`transacting.rs`).

use crate::engine::time::Instant;
use crate::types::BrokerId;

/// Who coordinates one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coordinator {
    /// To be asked for, after so many failures.
    Unknown { failures: u32 },
    /// A question is on its way.
    Asked { failures: u32 },
    /// The last question failed; ask again later.
    Waiting { until: Instant, failures: u32 },
    /// This broker.
    Known(BrokerId),
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        Self::Unknown { failures: 0 }
    }

    /// When to ask, if it is to be asked.
    pub(crate) fn ask_at(self) -> Option<Instant> {
        match self {
            Self::Unknown { .. } => Some(Instant::ZERO),
            Self::Waiting { until, .. } => Some(until),
            Self::Asked { .. } | Self::Known(_) => None,
        }
    }

    /// Who it is, if that is known.
    pub(crate) fn broker(self) -> Option<BrokerId> {
        match self {
            Self::Known(broker) => Some(broker),
            Self::Unknown { .. } | Self::Asked { .. } | Self::Waiting { .. } => None,
        }
    }

    /// How many questions failed in a row.
    pub(crate) fn failures(self) -> u32 {
        match self {
            Self::Unknown { failures } | Self::Asked { failures } => failures,
            Self::Waiting { failures, .. } => failures,
            Self::Known(_) => 0,
        }
    }

    pub(crate) fn on_asked(&mut self) {
        if self.ask_at().is_some() {
            *self = Self::Asked {
                failures: self.failures(),
            };
        }
    }

    pub(crate) fn on_named(&mut self, broker: BrokerId) {
        if matches!(self, Self::Asked { .. }) {
            *self = Self::Known(broker);
        }
    }

    /// The question failed; not again before `until`.
    pub(crate) fn on_failed(&mut self, until: Instant) {
        if let Self::Asked { failures } = *self {
            *self = Self::Waiting {
                until,
                failures: failures.saturating_add(1),
            };
        }
    }

    /// The one that is known does not coordinate any more, or cannot be reached.
    pub(crate) fn on_lost(&mut self) {
        if matches!(self, Self::Known(_)) {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const LATER: Instant = Instant::from_nanos(9);
    const BROKER: BrokerId = BrokerId(3);

    /// Each event in each state: only what is drawn happens.
    #[rstest]
    #[case::unknown(
        Coordinator::Unknown { failures: 1 },
        ["Asked", "Unknown", "Unknown", "Unknown"],
    )]
    #[case::asked(Coordinator::Asked { failures: 1 }, ["Asked", "Known", "Waiting", "Asked"])]
    #[case::waiting(
        Coordinator::Waiting { until: LATER, failures: 1 },
        ["Asked", "Waiting", "Waiting", "Waiting"],
    )]
    #[case::known(Coordinator::Known(BROKER), ["Known", "Known", "Known", "Unknown"])]
    fn a_coordinator_moves_as_drawn(#[case] start: Coordinator, #[case] ends: [&str; 4]) {
        let events: [fn(&mut Coordinator); 4] = [
            Coordinator::on_asked,
            |one| one.on_named(BROKER),
            |one| one.on_failed(LATER),
            Coordinator::on_lost,
        ];
        for (event, end) in events.into_iter().zip(ends) {
            let mut coordinator = start;
            event(&mut coordinator);
            let name = format!("{coordinator:?}");
            assert!(name.starts_with(end), "{start:?} became {name}, not {end}");
        }
    }

    #[test]
    fn failures_add_up_until_somebody_is_named() {
        let mut coordinator = Coordinator::new();
        for failures in 1..=3 {
            coordinator.on_asked();
            coordinator.on_failed(LATER);
            assert_eq!(coordinator.failures(), failures);
        }
        coordinator.on_asked();
        coordinator.on_named(BROKER);
        assert_eq!(
            (coordinator.failures(), coordinator.broker()),
            (0, Some(BROKER))
        );
    }
}
