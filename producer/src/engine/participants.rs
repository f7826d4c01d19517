//! The partitions of the open transaction.
//!
//! *State* of one
//! ```text
//!            used                       asked              answered
//!   (none) ───────▶ Wanted ───────────────────────▶ Asked ──────────▶ Added
//!              │      ▲─────────────────────────────  │                ▲
//!              │                     not now, no answer                │
//!              └───────── implicit: the write adds it ─────────────────┘
//! ```
//!
//! *Invariants*
//! 1. Where partitions are added by request, no batch goes before its partition is `Added`.
//!
//! *Source*: Kafka's `TransactionManager.maybeAddPartition`, KIP-890.
//!
//! *Not here*: the request (`transacting.rs`).

use std::collections::BTreeMap;

use crate::engine::sequence::Level;
use crate::types::TopicPartition;

/// How far a partition is part of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// To be asked for.
    Wanted,
    /// Asked for.
    Asked,
    /// Batches may go.
    Added,
}

/// The partitions of the open transaction.
#[derive(Debug, Default)]
pub(crate) struct Participants(BTreeMap<TopicPartition, Joined>);

impl Participants {
    /// A record of the transaction goes to this partition.
    pub(crate) fn on_used(&mut self, partition: TopicPartition, level: Level) {
        let joined = match level {
            Level::Explicit => Joined::Wanted,
            Level::Implicit => Joined::Added,
        };
        self.0.entry(partition).or_insert(joined);
    }

    /// How far this one is part of the transaction.
    pub(crate) fn joined(&self, partition: TopicPartition) -> Joined {
        self.0.get(&partition).copied().unwrap_or(Joined::Wanted)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = TopicPartition> {
        self.0.keys().copied()
    }

    /// Those that are so far.
    pub(crate) fn that_are(&self, joined: Joined) -> impl Iterator<Item = TopicPartition> {
        let those = self.0.iter().filter(move |(_, one)| **one == joined);
        those.map(|(partition, _)| *partition)
    }

    /// All that are wanted are asked for.
    pub(crate) fn on_asked(&mut self) {
        self.change(Joined::Wanted, Joined::Asked);
    }

    /// All that were asked for were added.
    pub(crate) fn on_added(&mut self) {
        self.change(Joined::Asked, Joined::Added);
    }

    /// None that was asked for was added; they still are wanted.
    pub(crate) fn on_not_added(&mut self) {
        self.change(Joined::Asked, Joined::Wanted);
    }

    /// The transaction has ended.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn change(&mut self, from: Joined, to: Joined) {
        for joined in self.0.values_mut().filter(|joined| **joined == from) {
            *joined = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicIndex;
    use rstest::rstest;

    const PARTITION: TopicPartition = TopicPartition {
        topic: TopicIndex(0),
        partition: 3,
    };

    #[rstest]
    #[case::wanted(Joined::Wanted, [Joined::Wanted, Joined::Asked, Joined::Wanted, Joined::Wanted])]
    #[case::asked(Joined::Asked, [Joined::Asked, Joined::Asked, Joined::Added, Joined::Wanted])]
    #[case::added(Joined::Added, [Joined::Added; 4])]
    fn a_partition_moves_as_drawn(#[case] start: Joined, #[case] ends: [Joined; 4]) {
        let events: [fn(&mut Participants); 4] = [
            |all| all.on_used(PARTITION, Level::Implicit),
            Participants::on_asked,
            Participants::on_added,
            Participants::on_not_added,
        ];
        for (event, end) in events.into_iter().zip(ends) {
            let mut participants = Participants(BTreeMap::from([(PARTITION, start)]));
            event(&mut participants);
            assert_eq!(participants.joined(PARTITION), end, "from {start:?}");
        }
    }

    #[rstest]
    #[case::explicit(Level::Explicit, Joined::Wanted)]
    #[case::implicit(Level::Implicit, Joined::Added)]
    fn the_first_use_asks_where_asking_is_needed(#[case] level: Level, #[case] joined: Joined) {
        let mut participants = Participants::default();
        participants.on_used(PARTITION, level);
        assert_eq!(participants.joined(PARTITION), joined);
        participants.clear();
        assert_eq!(participants.all().count(), 0);
    }
}
