//! What is kept by partition, close together: a thousand partitions that are looked at for a few
//! records each cost what the processor waits for memory, and a tree of them is many places.
//!
//! ```text
//!   pages:  (topic 0, partitions 0..64) ──▶ taken 0b…1011, values [v0, v1, v3]
//!           (topic 0, partitions 64..128) ─▶ …
//! ```
//!
//! *Invariants*
//! 1. All is in the order of topics and their partitions.
//! 2. A page has a value for each bit that is set, in the order of the bits; none is empty.
//! 3. Room grows with what is kept, not with the numbers of partitions, which brokers name.
//!
//! *Source*: ours; the pages are those of a hash array mapped trie.

use std::collections::BTreeMap;

use crate::types::{TopicIndex, TopicPartition};

/// Values by partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionMap<V> {
    pages: BTreeMap<PageKey, Page<V>>,
    count: usize,
}

/// Partitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionSet(PartitionMap<()>);

/// Which 64 partitions of which topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PageKey {
    topic: TopicIndex,
    page: i32,
}

#[derive(Clone, Debug)]
struct Page<V> {
    taken: u64,
    values: Vec<V>,
}

/// How many partitions share a page: the bits of a word.
const PAGE_BITS: u32 = u64::BITS.ilog2();

#[inline]
fn place_of(at: TopicPartition) -> (PageKey, u32) {
    let page = at.partition >> PAGE_BITS;
    let bit = at.partition & (i32::MAX >> (i32::BITS - 1 - PAGE_BITS));
    let key = PageKey {
        topic: at.topic,
        page,
    };
    (key, bit.unsigned_abs())
}

impl PageKey {
    fn partition(self, bit: u32) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition: (self.page << PAGE_BITS) | bit.cast_signed(),
        }
    }
}

impl<V> Page<V> {
    #[inline]
    fn has(&self, bit: u32) -> bool {
        self.taken >> bit & 1 == 1
    }

    /// How many values stand before that of a bit.
    #[inline]
    fn rank(&self, bit: u32) -> usize {
        let below = self.taken & ((1 << bit) - 1);
        below.count_ones() as usize
    }

    #[inline]
    fn index_of(&self, bit: u32) -> Option<usize> {
        self.has(bit).then(|| self.rank(bit))
    }

    /// What is kept from this bit on.
    fn iter_from(&self, key: PageKey, bit: u32) -> impl Iterator<Item = (TopicPartition, &V)> {
        let mut left = self.taken & (u64::MAX << bit);
        let bits = std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (bit < u64::BITS).then_some(bit)
        });
        let values = self.values.iter().skip(self.rank(bit));
        bits.map(move |bit| key.partition(bit)).zip(values)
    }
}

impl<V> Default for Page<V> {
    fn default() -> Self {
        Self {
            taken: 0,
            values: Vec::new(),
        }
    }
}

impl<V> Default for PartitionMap<V> {
    fn default() -> Self {
        Self {
            pages: BTreeMap::new(),
            count: 0,
        }
    }
}

impl<V> PartitionMap<V> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn get(&self, at: &TopicPartition) -> Option<&V> {
        let (key, bit) = place_of(*at);
        let page = self.pages.get(&key)?;
        page.values.get(page.index_of(bit)?)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: &TopicPartition) -> Option<&mut V> {
        let (key, bit) = place_of(*at);
        let page = self.pages.get_mut(&key)?;
        let index = page.index_of(bit)?;
        page.values.get_mut(index)
    }

    pub(crate) fn get_or_insert_with(
        &mut self,
        at: TopicPartition,
        value: impl FnOnce() -> V,
    ) -> &mut V {
        let (key, bit) = place_of(at);
        let page = self.pages.entry(key).or_default();
        let index = page.rank(bit);
        if !page.has(bit) {
            page.taken |= 1 << bit;
            page.values.insert(index, value());
            self.count += 1;
        }
        &mut page.values[index]
    }

    /// Gives a partition this value; the one it had is returned.
    pub(crate) fn insert(&mut self, at: TopicPartition, value: V) -> Option<V> {
        if let Some(standing) = self.get_mut(&at) {
            return Some(core::mem::replace(standing, value));
        }
        self.get_or_insert_with(at, || value);
        None
    }

    pub(crate) fn remove(&mut self, at: &TopicPartition) -> Option<V> {
        let (key, bit) = place_of(*at);
        let page = self.pages.get_mut(&key)?;
        let index = page.index_of(bit)?;
        page.taken &= !(1 << bit);
        let value = page.values.remove(index);
        if page.taken == 0 {
            self.pages.remove(&key);
        }
        self.count -= 1;
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &V)> {
        self.pages
            .iter()
            .flat_map(|(key, page)| page.iter_from(*key, 0))
    }

    /// Those of this partition and all that come after it.
    pub(crate) fn iter_from(
        &self,
        at: TopicPartition,
    ) -> impl Iterator<Item = (TopicPartition, &V)> {
        let (first, bit) = place_of(at);
        self.pages.range(first..).flat_map(move |(key, page)| {
            let bit = if *key == first { bit } else { 0 };
            page.iter_from(*key, bit)
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = TopicPartition> {
        self.iter().map(|(at, _)| at)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages.values().flat_map(|page| &page.values)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.pages.values_mut().flat_map(|page| &mut page.values)
    }

    /// Those of one topic.
    pub(crate) fn of_topic(&self, topic: TopicIndex) -> impl Iterator<Item = (TopicPartition, &V)> {
        let first = TopicPartition {
            topic,
            partition: i32::MIN,
        };
        self.iter_from(first)
            .take_while(move |(at, _)| at.topic == topic)
    }

    /// Those of one topic, to be changed.
    pub(crate) fn of_topic_mut(&mut self, topic: TopicIndex) -> impl Iterator<Item = &mut V> {
        let key = |page| PageKey { topic, page };
        let pages = self.pages.range_mut(key(i32::MIN)..=key(i32::MAX));
        pages.flat_map(|(_, page)| &mut page.values)
    }
}

impl PartitionSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Says whether it was not there.
    pub(crate) fn insert(&mut self, at: TopicPartition) -> bool {
        self.0.insert(at, ()).is_none()
    }

    /// Says whether it was there.
    pub(crate) fn remove(&mut self, at: &TopicPartition) -> bool {
        self.0.remove(at).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = TopicPartition> {
        self.0.keys()
    }

    /// This one, if it is there, and all that come after it.
    pub(crate) fn iter_from(&self, at: TopicPartition) -> impl Iterator<Item = TopicPartition> {
        self.0.iter_from(at).map(|(at, ())| at)
    }

    /// Those of one topic.
    pub(crate) fn of_topic(&self, topic: TopicIndex) -> impl Iterator<Item = TopicPartition> {
        self.0.of_topic(topic).map(|(at, ())| at)
    }

    /// Takes the first in order.
    pub(crate) fn pop_first(&mut self) -> Option<TopicPartition> {
        let mut first = self.0.pages.first_entry()?;
        let at = first.key().partition(first.get().taken.trailing_zeros());
        let page = first.get_mut();
        page.taken &= page.taken.wrapping_sub(1);
        page.values.pop();
        if page.taken == 0 {
            first.remove();
        }
        self.0.count -= 1;
        Some(at)
    }

    /// Takes all, in order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = TopicPartition> + use<> {
        let mut all = core::mem::take(self);
        std::iter::from_fn(move || all.pop_first())
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Extend<TopicPartition> for PartitionSet {
    fn extend<T: IntoIterator<Item = TopicPartition>>(&mut self, those: T) {
        those.into_iter().for_each(|at| {
            self.insert(at);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition() -> impl Strategy<Value = TopicPartition> {
        let number = prop_oneof![0..200, Just(i32::MAX), Just(-1), Just(i32::MIN)];
        (0..3_u32, number).prop_map(|(topic, partition)| TopicPartition {
            topic: TopicIndex(topic),
            partition,
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(TopicPartition, u8),
        GetOrInsert(TopicPartition, u8),
        Change(TopicPartition),
        Remove(TopicPartition),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (partition(), any::<u8>()).prop_map(|(at, value)| Step::Insert(at, value)),
            (partition(), any::<u8>()).prop_map(|(at, value)| Step::GetOrInsert(at, value)),
            partition().prop_map(Step::Change),
            partition().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn map_is_an_ordered_one(
            steps in prop::collection::vec(step(), 1..300),
            from in partition(),
        ) {
            let (mut map, mut model) = (PartitionMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(at, value) => {
                        prop_assert_eq!(map.insert(at, value), model.insert(at, value));
                    }
                    Step::GetOrInsert(at, value) => {
                        let expected = model.entry(at).or_insert(value);
                        prop_assert_eq!(map.get_or_insert_with(at, || value), expected);
                    }
                    Step::Change(at) => {
                        let (one, other) = (map.get_mut(&at), model.get_mut(&at));
                        prop_assert_eq!(&one, &other);
                        for value in one.into_iter().chain(other) {
                            *value = value.wrapping_add(1);
                        }
                    }
                    Step::Remove(at) => prop_assert_eq!(map.remove(&at), model.remove(&at)),
                }
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(map.get(&from), model.get(&from));
            let all: Vec<_> = model.iter().map(|(at, value)| (*at, value)).collect();
            prop_assert_eq!(map.iter().collect::<Vec<_>>(), all.clone());
            prop_assert!(map.values().eq(model.values()));
            let behind = model.range(from..).map(|(at, value)| (*at, value));
            prop_assert!(map.iter_from(from).eq(behind));
            let of_topic = all.iter().filter(|(at, _)| at.topic == from.topic);
            prop_assert!(map.of_topic(from.topic).eq(of_topic.copied()));
            map.of_topic_mut(from.topic).for_each(|value| *value = 0);
            map.values_mut().for_each(|value| *value |= 1);
            let changed = map.iter().filter(|(_, value)| **value == 1);
            prop_assert!(changed.count() >= map.of_topic(from.topic).count());
            prop_assert!(map.of_topic(from.topic).all(|(_, value)| *value == 1));
        }

        #[test]
        fn set_gives_its_partitions_in_order(
            steps in prop::collection::vec((partition(), any::<bool>()), 1..300),
            from in partition(),
        ) {
            let (mut set, mut model) = (PartitionSet::default(), std::collections::BTreeSet::new());
            for (at, is_added) in steps {
                match is_added {
                    true => prop_assert_eq!(set.insert(at), model.insert(at)),
                    false => prop_assert_eq!(set.remove(&at), model.remove(&at)),
                }
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert!(set.iter_from(from).eq(model.range(from..).copied()));
            let of_topic = model.iter().filter(|at| at.topic == from.topic);
            prop_assert!(set.of_topic(from.topic).eq(of_topic.copied()));
            let mut emptied = set.clone();
            prop_assert_eq!(emptied.pop_first(), model.first().copied());
            prop_assert_eq!(emptied.iter().count(), model.len().saturating_sub(1));
            let taken: Vec<_> = set.take_all().collect();
            prop_assert!(set.is_empty() && taken.into_iter().eq(model));
        }
    }
}
