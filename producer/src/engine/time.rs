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

use core::cmp::Reverse;
use core::ops::Add;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};

use crate::engine::brokers::NodeKey;
use crate::engine::effect::ConnectionId;
use crate::engine::partition_map::PartitionMap;
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

/// How a deadline is kept.
enum Kind {
    /// There is one of it; its place.
    Question(usize),
    Partition(TopicPartition),
    /// Of a node or a connection.
    Link,
}

impl Deadline {
    #[inline]
    fn kind(self) -> Kind {
        match self {
            Self::Metadata => Kind::Question(0),
            Self::Rebootstrap => Kind::Question(1),
            Self::ProducerId => Kind::Question(2),
            Self::Transaction => Kind::Question(3),
            Self::Partition(partition) => Kind::Partition(partition),
            Self::Node(_) | Self::Request(_) | Self::Idle(_) => Kind::Link,
        }
    }
}

/// How many that do not stand are kept, beside one for each that does.
const PASSED_OVER_MAX: usize = 64;

/// The table of deadlines.
///
/// *Invariant*: the first in order of time stands; behind it may be some that were moved or cleared
/// since, which are passed over once they are first.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BinaryHeap<Reverse<(Instant, Deadline)>>,
    of_partitions: PartitionMap<Instant>,
    of_links: BTreeMap<Deadline, Instant>,
    /// Of those there is one of, which are set at each look.
    of_questions: [Option<Instant>; 4],
}

impl Deadlines {
    /// Sets, moves or (with `None`) clears a deadline.
    pub(crate) fn set(&mut self, deadline: Deadline, at: Option<Instant>) {
        let before = match (deadline.kind(), at) {
            (Kind::Question(place), at) => core::mem::replace(&mut self.of_questions[place], at),
            (Kind::Partition(partition), Some(at)) => self.of_partitions.insert(partition, at),
            (Kind::Partition(partition), None) => self.of_partitions.remove(&partition),
            (Kind::Link, Some(at)) => self.of_links.insert(deadline, at),
            (Kind::Link, None) => self.of_links.remove(&deadline),
        };
        if before == at {
            return;
        }
        if let Some(at) = at {
            self.by_time.push(Reverse((at, deadline)));
        }
        self.pass_over();
    }

    /// When this one is.
    fn at(&self, deadline: Deadline) -> Option<Instant> {
        match deadline.kind() {
            Kind::Question(place) => self.of_questions[place],
            Kind::Partition(partition) => self.of_partitions.get(&partition).copied(),
            Kind::Link => self.of_links.get(&deadline).copied(),
        }
    }

    /// Restores the invariant, and lets go of those that do not stand once they are the most.
    fn pass_over(&mut self) {
        while let Some(Reverse((at, deadline))) = self.by_time.peek()
            && self.at(*deadline) != Some(*at)
        {
            self.by_time.pop();
        }
        let standing = self.of_partitions.len() + self.of_links.len();
        if self.by_time.len() > 2 * standing + PASSED_OVER_MAX {
            let mut all = core::mem::take(&mut self.by_time).into_vec();
            all.retain(|Reverse((at, deadline))| self.at(*deadline) == Some(*at));
            self.by_time = all.into();
        }
    }

    /// Sets a deadline unless an earlier one of this name stands. Saves two tree operations where
    /// deadlines mostly move later.
    pub(crate) fn set_by(&mut self, deadline: Deadline, at: Instant) {
        if self.at(deadline).is_none_or(|standing| standing > at) {
            self.set(deadline, Some(at));
        }
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Deadline> {
        let Reverse((at, deadline)) = *self.by_time.peek()?;
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
    use crate::types::TopicIndex;
    use proptest::prelude::*;

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

    #[test]
    fn a_deadline_that_is_moved_again_and_again_leaves_little_behind() {
        let mut deadlines = Deadlines::default();
        deadlines.set(deadline(1), Some(at(5)));
        for time in 1_000..3_000 {
            deadlines.set(deadline(2), Some(at(time)));
        }
        assert!(deadlines.by_time.len() <= 2 * 2 + PASSED_OVER_MAX);
        assert_eq!(deadlines.pop_due(at(10_000)), Some(deadline(1)));
        assert_eq!(deadlines.next(), Some(at(2_999)));
    }

    fn deadline(number: u8) -> Deadline {
        match number {
            0 => Deadline::Metadata,
            number => Deadline::Partition(TopicPartition {
                topic: TopicIndex(0),
                partition: number.into(),
            }),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, Option<u64>),
        SetBy(u8, u64),
        PopDue(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u8, prop::option::of(0..20_u64)).prop_map(|(one, at)| Step::Set(one, at)),
            (0..4_u8, 0..20_u64).prop_map(|(one, at)| Step::SetBy(one, at)),
            (0..20_u64).prop_map(Step::PopDue),
        ]
    }

    proptest! {
        #[test]
        fn deadlines_are_what_a_table_says(steps in prop::collection::vec(step(), 1..400)) {
            let (mut deadlines, mut table) = (Deadlines::default(), BTreeMap::new());
            let first = |table: &BTreeMap<Deadline, Instant>| {
                table.iter().map(|(one, at)| (*at, *one)).min()
            };
            for step in steps {
                match step {
                    Step::Set(one, time) => {
                        let (one, time) = (deadline(one), time.map(at));
                        deadlines.set(one, time);
                        match time {
                            Some(time) => table.insert(one, time),
                            None => table.remove(&one),
                        };
                    }
                    Step::SetBy(one, time) => {
                        let (one, time) = (deadline(one), at(time));
                        deadlines.set_by(one, time);
                        let standing = table.entry(one).or_insert(time);
                        *standing = time.min(*standing);
                    }
                    Step::PopDue(now) => {
                        let due = first(&table).filter(|(time, _)| *time <= at(now));
                        let due = due.map(|(_, one)| one);
                        prop_assert_eq!(deadlines.pop_due(at(now)), due);
                        due.and_then(|one| table.remove(&one));
                    }
                }
                prop_assert_eq!(deadlines.next(), first(&table).map(|(time, _)| time));
            }
        }
    }
}
