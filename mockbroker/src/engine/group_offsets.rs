//! Offsets that groups have committed, and those that open transactions would commit.
//!
//! *State* of an offset of a group:
//!
//! ```text
//!           OffsetCommit
//! none ───────────────────────────────────────▶ committed ─ a newer one ─▶ committed
//!   │       TxnOffsetCommit            commit marker ▲     ─ it, group, topic deleted ─▶ none
//!   └──────────────────────▶ pending ────────────────┘
//!                               │ abort marker
//!                               └──────────────▶ as before
//! ```
//!
//! *Invariants*
//! 1. Of what is committed the newest commit counts, not the newest marker: a pending offset that
//!    is older than what was committed beside it is dropped (KAFKA-17635).
//! 2. An offset is unstable as long as a transaction has one pending for its partition.
//! 3. `bytes` is what all offsets take.
//!
//! *Source* apache/kafka `group-coordinator/…/group/OffsetMetadataManager.java`.
//!
//! *Not here* who may commit (`groups.rs`).
//!
//! *Deviations* offsets do not expire: `offsets.retention.minutes` is not modelled, nor is the
//! retention time that OffsetCommit up to version 4 may ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::open_transactions::Ending;
use super::txn_coordinator::Identity;

/// A partition by its topic's name.
pub type TopicPartition = (Arc<str>, i32);

/// An offset with what was committed beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// From where the group reads on.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 for none.
    pub leader_epoch: i32,
    /// Whatever the client added.
    pub metadata: Arc<str>,
}

/// Offsets of one request.
pub type Commits = Vec<(TopicPartition, Committed)>;

/// Bytes of an offset beside its metadata: two maps' entries and the numbers.
const OFFSET_BYTES: usize = 256;

impl Committed {
    fn bytes(&self) -> usize {
        OFFSET_BYTES + self.metadata.len()
    }
}

/// How many bytes the offsets of a request take.
#[must_use]
pub fn bytes_of(commits: &Commits) -> usize {
    let bytes = commits.iter().map(|(_, committed)| committed.bytes());
    bytes.fold(0, usize::saturating_add)
}

/// A committed offset with its place in the order of all commits.
#[derive(Clone, Debug)]
struct Stored {
    order: u64,
    committed: Committed,
}

/// What one producer would commit, in a partition of the log of offsets.
#[derive(Clone, Debug)]
struct Open {
    epoch: i16,
    offsets: BTreeMap<(Arc<str>, TopicPartition), Stored>,
}

/// The offsets of a group.
#[derive(Clone, Debug, Default)]
struct OfGroup {
    committed: BTreeMap<TopicPartition, Stored>,
    /// How many transactions have one pending.
    unstable: BTreeMap<TopicPartition, usize>,
}

/// The offsets of all groups.
#[derive(Clone, Debug, Default)]
pub struct GroupOffsets {
    groups: BTreeMap<Arc<str>, OfGroup>,
    /// By the partition of the log of offsets and the producer's id.
    open: BTreeMap<(i32, i64), Open>,
    commits: u64,
    bytes: usize,
}

impl GroupOffsets {
    /// What all offsets take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a group has committed, by partition.
    pub fn committed(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&TopicPartition, &Committed)> + use<'_> {
        let known = self.groups.get(group).into_iter();
        let stored = known.flat_map(|of| &of.committed);
        stored.map(|(partition, stored)| (partition, &stored.committed))
    }

    /// What a group has committed for a partition.
    #[must_use]
    pub fn find(&self, group: &str, partition: &TopicPartition) -> Option<&Committed> {
        let stored = self.groups.get(group)?.committed.get(partition)?;
        Some(&stored.committed)
    }

    /// The partitions for which transactions would commit something.
    pub fn pending(&self, group: &str) -> impl Iterator<Item = &TopicPartition> + use<'_> {
        let known = self.groups.get(group).into_iter();
        known.flat_map(|of| of.unstable.keys())
    }

    /// Whether a transaction would commit something for a partition.
    #[must_use]
    pub fn is_unstable(&self, group: &str, partition: &TopicPartition) -> bool {
        let known = self.groups.get(group);
        known.is_some_and(|of| of.unstable.contains_key(partition))
    }

    /// Whether a producer has something pending in a partition of the log of offsets, at this
    /// epoch.
    #[must_use]
    pub fn is_open(&self, log: i32, producer: Identity) -> bool {
        let open = self.open.get(&(log, producer.id));
        open.is_some_and(|open| open.epoch == producer.epoch)
    }

    /// The epoch with which a producer has something pending in a partition of the log of offsets.
    #[must_use]
    pub fn open_epoch(&self, log: i32, producer_id: i64) -> Option<i16> {
        let open = self.open.get(&(log, producer_id));
        open.map(|open| open.epoch)
    }

    /// A group commits offsets.
    pub fn commit(&mut self, group: &Arc<str>, commits: Commits) {
        for (partition, committed) in commits {
            let stored = self.stored(committed);
            self.put(group, partition, stored);
        }
    }

    /// A transaction would commit offsets; `log` is the group's partition of the log of offsets.
    pub fn commit_pending(
        &mut self,
        group: &Arc<str>,
        (log, producer): (i32, Identity),
        commits: Commits,
    ) {
        for (partition, committed) in commits {
            let stored = self.stored(committed);
            self.bytes = self.bytes.saturating_add(stored.committed.bytes());
            let open = self.open.entry((log, producer.id)).or_insert(Open {
                epoch: producer.epoch,
                offsets: BTreeMap::new(),
            });
            open.epoch = producer.epoch;
            let key = (Arc::clone(group), partition.clone());
            match open.offsets.insert(key, stored) {
                Some(before) => self.bytes = self.bytes.saturating_sub(before.committed.bytes()),
                None => {
                    let of_group = self.groups.entry(Arc::clone(group)).or_default();
                    *of_group.unstable.entry(partition).or_insert(0) += 1;
                }
            }
        }
    }

    /// The marker of a producer's transaction is in a partition of the log of offsets.
    pub fn end(&mut self, log: i32, producer_id: i64, ending: Ending) {
        let Some(open) = self.open.remove(&(log, producer_id)) else {
            return;
        };
        for ((group, partition), stored) in open.offsets {
            self.bytes = self.bytes.saturating_sub(stored.committed.bytes());
            self.settle(&group, &partition);
            let known = self.groups.get(&group);
            let newest = known.and_then(|of| of.committed.get(&partition));
            let counts = newest.is_none_or(|newest| newest.order < stored.order);
            if ending == Ending::Commit && counts {
                self.put(&group, partition, stored);
            }
            self.forget_if_empty(&group);
        }
    }

    /// A group was deleted: nothing of it is kept (`OffsetMetadataManager.deleteAllOffsets`).
    pub fn forget_group(&mut self, group: &str) {
        self.drop_pending(|name, _| name == group);
        if let Some(of) = self.groups.remove(group) {
            let bytes = of.committed.values().map(|stored| stored.committed.bytes());
            self.bytes = bytes.fold(self.bytes, usize::saturating_sub);
        }
    }

    /// An offset was deleted, also what transactions would commit in its place
    /// (`OffsetMetadataManager.deleteOffsets`).
    pub fn delete(&mut self, group: &str, partition: &TopicPartition) {
        self.drop_pending(|name, of| name == group && of == partition);
        if let Some(of) = self.groups.get_mut(group) {
            of.unstable.remove(partition);
            if let Some(stored) = of.committed.remove(partition) {
                self.bytes = self.bytes.saturating_sub(stored.committed.bytes());
            }
        }
        self.forget_if_empty(group);
    }

    /// Of what is pending, drops what is named so.
    fn drop_pending(&mut self, is_dropped: impl Fn(&str, &TopicPartition) -> bool) {
        for open in self.open.values_mut() {
            open.offsets.retain(|(group, partition), stored| {
                let kept = !is_dropped(group, partition);
                if !kept {
                    self.bytes = self.bytes.saturating_sub(stored.committed.bytes());
                }
                kept
            });
        }
    }

    /// A topic was deleted: nothing of it is kept.
    pub fn forget_topic(&mut self, topic: &str) {
        let groups: BTreeSet<Arc<str>> = self.groups.keys().cloned().collect();
        self.drop_pending(|_, (name, _)| name.as_ref() == topic);
        for of in self.groups.values_mut() {
            of.unstable.retain(|(name, _), _| name.as_ref() != topic);
            of.committed.retain(|(name, _), stored| {
                let kept = name.as_ref() != topic;
                if !kept {
                    self.bytes = self.bytes.saturating_sub(stored.committed.bytes());
                }
                kept
            });
        }
        for group in groups {
            self.forget_if_empty(&group);
        }
    }

    fn stored(&mut self, committed: Committed) -> Stored {
        self.commits = self.commits.saturating_add(1);
        Stored {
            order: self.commits,
            committed,
        }
    }

    fn put(&mut self, group: &Arc<str>, partition: TopicPartition, stored: Stored) {
        self.bytes = self.bytes.saturating_add(stored.committed.bytes());
        let of_group = self.groups.entry(Arc::clone(group)).or_default();
        if let Some(before) = of_group.committed.insert(partition, stored) {
            self.bytes = self.bytes.saturating_sub(before.committed.bytes());
        }
    }

    /// One transaction less has something pending.
    fn settle(&mut self, group: &str, partition: &TopicPartition) {
        let Some(of) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(count) = of.unstable.get_mut(partition) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                of.unstable.remove(partition);
            }
        }
    }

    fn forget_if_empty(&mut self, group: &str) {
        let known = self.groups.get(group);
        if known.is_some_and(|of| of.committed.is_empty() && of.unstable.is_empty()) {
            self.groups.remove(group);
        }
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        let mut unstable: BTreeMap<(&Arc<str>, &TopicPartition), usize> = BTreeMap::new();
        let mut bytes = 0_usize;
        for ((group, partition), stored) in self.open.values().flat_map(|open| &open.offsets) {
            *unstable.entry((group, partition)).or_insert(0) += 1;
            bytes = bytes.saturating_add(stored.committed.bytes());
        }
        for (group, of) in &self.groups {
            for (partition, count) in &of.unstable {
                let counted = unstable.remove(&(group, partition));
                assert_eq!(counted, Some(*count), "group offsets 2: {partition:?}");
            }
            let stored = of.committed.values().map(|stored| stored.committed.bytes());
            bytes = stored.fold(bytes, usize::saturating_add);
        }
        assert!(unstable.is_empty(), "group offsets 2: {unstable:?}");
        assert_eq!(bytes, self.bytes, "group offsets 3");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: i32 = 7;
    const A: Identity = Identity { id: 4, epoch: 0 };
    const B: Identity = Identity { id: 5, epoch: 0 };

    fn group() -> Arc<str> {
        "readers".into()
    }

    fn orders(index: i32) -> TopicPartition {
        ("orders".into(), index)
    }

    fn at(offset: i64) -> Commits {
        let committed = Committed {
            offset,
            leader_epoch: -1,
            metadata: "mine".into(),
        };
        vec![(orders(0), committed)]
    }

    fn offset(offsets: &GroupOffsets) -> Option<i64> {
        offsets.check_invariants();
        let committed = offsets.find("readers", &orders(0))?;
        Some(committed.offset)
    }

    #[test]
    fn what_is_pending_counts_once_its_transaction_is_committed() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(&group(), at(3));
        offsets.commit_pending(&group(), (LOG, A), at(5));
        assert_eq!(offset(&offsets), Some(3));
        assert!(offsets.is_unstable("readers", &orders(0)));
        assert!(offsets.is_open(LOG, A));
        offsets.end(LOG, B.id, Ending::Commit);
        offsets.end(LOG + 1, A.id, Ending::Commit);
        assert_eq!(offset(&offsets), Some(3), "those ended nothing of it");
        offsets.end(LOG, A.id, Ending::Commit);
        assert_eq!(offset(&offsets), Some(5));
        assert!(!offsets.is_unstable("readers", &orders(0)));
        assert!(!offsets.is_open(LOG, A));
    }

    #[test]
    fn an_abort_leaves_what_was_there() {
        let mut offsets = GroupOffsets::default();
        offsets.commit_pending(&group(), (LOG, A), at(5));
        offsets.end(LOG, A.id, Ending::Abort);
        assert_eq!(offset(&offsets), None);
        assert_eq!(offsets.bytes(), 0);
        offsets.commit(&group(), at(3));
        offsets.commit_pending(&group(), (LOG, A), at(5));
        offsets.end(LOG, A.id, Ending::Abort);
        assert_eq!(offset(&offsets), Some(3));
    }

    #[test]
    fn the_newest_commit_counts_whenever_its_marker_comes() {
        let mut offsets = GroupOffsets::default();
        offsets.commit_pending(&group(), (LOG, A), at(5));
        offsets.commit_pending(&group(), (LOG, B), at(6));
        offsets.commit(&group(), at(4));
        offsets.end(LOG, B.id, Ending::Commit);
        assert_eq!(offset(&offsets), Some(4), "it came after both");
        offsets.commit_pending(&group(), (LOG, B), at(8));
        offsets.end(LOG, B.id, Ending::Commit);
        assert_eq!(offset(&offsets), Some(8));
        assert!(
            offsets.is_unstable("readers", &orders(0)),
            "the other is open"
        );
        offsets.end(LOG, A.id, Ending::Commit);
        assert_eq!(offset(&offsets), Some(8));
    }

    #[test]
    fn a_deleted_topic_takes_its_offsets_with_it() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(&group(), at(3));
        offsets.commit_pending(&group(), (LOG, A), at(5));
        offsets.forget_topic("others");
        assert_eq!(offset(&offsets), Some(3));
        offsets.forget_topic("orders");
        assert_eq!(offset(&offsets), None);
        assert_eq!(offsets.bytes(), 0);
        offsets.end(LOG, A.id, Ending::Commit);
        assert_eq!(offset(&offsets), None);
    }

    #[test]
    fn bytes_follow_what_is_replaced() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(&group(), at(3));
        let once = offsets.bytes();
        offsets.commit(&group(), at(4));
        assert_eq!(offsets.bytes(), once);
        offsets.commit_pending(&group(), (LOG, A), at(5));
        offsets.commit_pending(&group(), (LOG, A), at(6));
        assert_eq!(offsets.bytes(), 2 * once);
        assert_eq!(bytes_of(&at(6)), once);
    }
}
