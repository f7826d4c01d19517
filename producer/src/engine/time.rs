//! The engine's clock reading and its deadlines: a number that comes in, a table that says when to
//! come again.
//!
//! *Invariants*
//! 1. Nothing here reads a clock; an [`Instant`] counts from an origin that the driver chose.
//! 2. Arithmetic saturates: a deadline beyond the end of time is the end of time.
//! 3. Every deadline of the engine has a name in `Deadline` and at most one time.
//! 4. A deadline may come early, never late: whoever it wakes looks again and sets the next one.
//!
//! *Not here*: what a deadline means when it comes (the machine it is named for).

use core::ops::Add;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::brokers::NodeKey;
use crate::engine::effect::ConnectionId;
use crate::types::TopicPartition;

/// A point in time: nanoseconds since the driver's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The driver's origin.
    pub const ZERO: Self = Self(0);

    /// The instant this many nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Everything that the engine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// A node's connection set-up, reconnect back-off or throttle ends; its phase says which.
    Node(NodeKey),
    /// The oldest request of a connection runs out of `request.timeout.ms`.
    Request(ConnectionId),
    /// A connection may have had nothing to do for `connections.max.idle.ms`.
    Idle(ConnectionId),
    /// A partition's linger, retry back-off or `delivery.timeout.ms` ends, whichever is first.
    Partition(TopicPartition),
    /// Metadata is too old, or its back-off ends.
    Metadata,
    /// Metadata was asked for in vain for so long that the cluster may be another one.
    Rebootstrap,
    /// The back-off before the next question for a producer id ends.
    ProducerId,
    /// The back-off before the next question about transactions ends.
    Transaction,
}

/// The table of deadlines.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(Instant, Deadline)>,
    by_name: BTreeMap<Deadline, Instant>,
}

impl Deadlines {
    /// Sets, moves or (with `None`) clears a deadline.
    pub(crate) fn set(&mut self, deadline: Deadline, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_name.insert(deadline, at),
            None => self.by_name.remove(&deadline),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, deadline));
        }
        if let Some(at) = at {
            self.by_time.insert((at, deadline));
        }
    }

    /// Sets a deadline unless an earlier one of this name stands. Saves two tree operations where
    /// deadlines mostly move later.
    pub(crate) fn set_by(&mut self, deadline: Deadline, at: Instant) {
        if self
            .by_name
            .get(&deadline)
            .is_none_or(|standing| *standing > at)
        {
            self.set(deadline, Some(at));
        }
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Deadline> {
        let (at, deadline) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.set(deadline, None);
        Some(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn deadlines_come_in_the_order_of_their_times() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Deadline::Metadata, Some(at(20)));
        deadlines.set(Deadline::ProducerId, Some(at(10)));
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert_eq!(deadlines.pop_due(at(30)), Some(Deadline::ProducerId));
        assert_eq!(deadlines.pop_due(at(30)), Some(Deadline::Metadata));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_deadline_has_one_time() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Deadline::Metadata, Some(at(20)));
        deadlines.set(Deadline::Metadata, Some(at(40)));
        assert_eq!(deadlines.next(), Some(at(40)));
        deadlines.set_by(Deadline::Metadata, at(50));
        assert_eq!(deadlines.next(), Some(at(40)), "an earlier one stands");
        deadlines.set_by(Deadline::Metadata, at(30));
        assert_eq!(deadlines.next(), Some(at(30)));
        deadlines.set(Deadline::Metadata, None);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn the_end_of_time_is_never_passed() {
        assert_eq!(at(u64::MAX - 1) + Duration::MAX, at(u64::MAX));
        assert_eq!(at(3).since(at(5)), Duration::ZERO);
    }
}
