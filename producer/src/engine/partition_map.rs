//! What is kept by partition, close together: a thousand partitions that are looked at for a few
//! records each cost what the processor waits for memory, and a tree of them is many places.
//!
//! ```text
//!   pages:  (topic 0, partitions 0..64) ──▶ [v0, v1, none, v3]
//!           (topic 0, partitions 64..128) ─▶ …
//! ```
//!
//! *Invariants*
//! 1. All is in the order of topics and their partitions.
//! 2. Room grows with the partitions that were ever kept, at most 64 times, not with the numbers of
//!    partitions, which brokers name.
//! 3. A page stays when it is empty: what comes and goes with each batch allocates nothing.
//!
//! *Source*: ours.

use core::ops::Range;

use crate::types::{TopicIndex, TopicPartition};

/// Values by partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionMap<V> {
    /// In order; the page of each is at the same place of `pages`.
    keys: Vec<PageKey>,
    /// By the numbers of partitions within their page.
    pages: Vec<Vec<Option<V>>>,
    count: usize,
}

/// Partitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionSet {
    /// In order.
    pages: Vec<(PageKey, u64)>,
    count: usize,
    /// No page before this one has any.
    first: usize,
}

/// Which 64 partitions of which topic; in the order of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PageKey(u64);

/// How many partitions share a page: the bits of a word.
const PAGE_BITS: u32 = u64::BITS.ilog2();

#[inline]
fn place_of(at: TopicPartition) -> (PageKey, u32) {
    let bit = at.partition & (i32::MAX >> (i32::BITS - 1 - PAGE_BITS));
    let page = at.partition >> PAGE_BITS;
    (PageKey::new(at.topic, page), bit.unsigned_abs())
}

impl PageKey {
    #[inline]
    fn new(topic: TopicIndex, page: i32) -> Self {
        let page = page.cast_unsigned() ^ SIGN;
        Self(u64::from(topic.0) << u32::BITS | u64::from(page))
    }

    fn partition(self, bit: u32) -> TopicPartition {
        let [topic, page] = [self.0 >> u32::BITS, self.0 & u64::from(u32::MAX)];
        let page = (page as u32 ^ SIGN).cast_signed();
        TopicPartition {
            topic: TopicIndex(topic as u32),
            partition: (page << PAGE_BITS) | bit.cast_signed(),
        }
    }
}

/// What makes signed numbers compare as unsigned ones.
const SIGN: u32 = 1 << (u32::BITS - 1);

impl<V> Default for PartitionMap<V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            pages: Vec::new(),
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
        let page = self.keys.binary_search(&key).ok()?;
        self.pages.get(page)?.get(bit as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: &TopicPartition) -> Option<&mut V> {
        let (key, bit) = place_of(*at);
        let page = self.keys.binary_search(&key).ok()?;
        self.pages.get_mut(page)?.get_mut(bit as usize)?.as_mut()
    }

    #[inline]
    pub(crate) fn get_or_insert_with(
        &mut self,
        at: TopicPartition,
        value: impl FnOnce() -> V,
    ) -> &mut V {
        let (place, count) = self.place(at);
        *count += usize::from(place.is_none());
        place.get_or_insert_with(value)
    }

    /// Gives a partition this value; the one it had is returned.
    #[inline]
    pub(crate) fn insert(&mut self, at: TopicPartition, value: V) -> Option<V> {
        let (place, count) = self.place(at);
        *count += usize::from(place.is_none());
        place.replace(value)
    }

    #[inline]
    pub(crate) fn remove(&mut self, at: &TopicPartition) -> Option<V> {
        let (key, bit) = place_of(*at);
        let page = self.keys.binary_search(&key).ok()?;
        let value = self.pages.get_mut(page)?.get_mut(bit as usize)?.take()?;
        self.count -= 1;
        Some(value)
    }

    /// Where a partition's value is, or would be; and how many there are.
    #[inline]
    fn place(&mut self, at: TopicPartition) -> (&mut Option<V>, &mut usize) {
        let (key, bit) = place_of(at);
        let page = match self.keys.binary_search(&key) {
            Ok(page) => page,
            Err(page) => {
                self.keys.insert(page, key);
                self.pages.insert(page, Vec::new());
                page
            }
        };
        let (page, index) = (&mut self.pages[page], bit as usize);
        if page.len() <= index {
            page.resize_with(index + 1, || None);
        }
        (&mut page[index], &mut self.count)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &V)> {
        self.of_pages(0..self.keys.len())
    }

    /// Those of one topic.
    pub(crate) fn of_topic(&self, topic: TopicIndex) -> impl Iterator<Item = (TopicPartition, &V)> {
        self.of_pages(self.pages_of(topic))
    }

    fn of_pages(&self, pages: Range<usize>) -> impl Iterator<Item = (TopicPartition, &V)> {
        let keys = self.keys[pages.clone()].iter();
        keys.zip(&self.pages[pages]).flat_map(|(key, page)| {
            let values = (0..).zip(page);
            values.filter_map(|(bit, value)| Some((key.partition(bit), value.as_ref()?)))
        })
    }

    /// Where a topic's pages are.
    fn pages_of(&self, topic: TopicIndex) -> Range<usize> {
        let [first, last] = [i32::MIN, i32::MAX].map(|page| PageKey::new(topic, page));
        let from = self.keys.partition_point(|key| *key < first);
        from..self.keys.partition_point(|key| *key <= last)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = TopicPartition> {
        self.iter().map(|(at, _)| at)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages.iter().flatten().flatten()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.pages.iter_mut().flatten().flatten()
    }

    /// Those of one topic, to be changed.
    pub(crate) fn of_topic_mut(&mut self, topic: TopicIndex) -> impl Iterator<Item = &mut V> {
        let pages = self.pages_of(topic);
        self.pages[pages].iter_mut().flatten().flatten()
    }
}

impl PartitionSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    fn find(&self, key: PageKey) -> Result<usize, usize> {
        self.pages.binary_search_by_key(&key, |(key, _)| *key)
    }

    /// Says whether it was not there.
    #[inline]
    pub(crate) fn insert(&mut self, at: TopicPartition) -> bool {
        let (key, bit) = place_of(at);
        let page = match self.find(key) {
            Ok(page) => page,
            Err(page) => {
                self.pages.insert(page, (key, 0));
                page
            }
        };
        self.first = self.first.min(page);
        let (_, taken) = &mut self.pages[page];
        let is_new = *taken >> bit & 1 == 0;
        *taken |= 1 << bit;
        self.count += usize::from(is_new);
        is_new
    }

    /// Says whether it was there.
    #[inline]
    pub(crate) fn remove(&mut self, at: &TopicPartition) -> bool {
        let (key, bit) = place_of(*at);
        let Ok(page) = self.find(key) else {
            return false;
        };
        let (_, taken) = &mut self.pages[page];
        let was_there = *taken >> bit & 1 == 1;
        *taken &= !(1 << bit);
        self.count -= usize::from(was_there);
        was_there
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = TopicPartition> {
        self.pages.iter().flat_map(|page| bits_of(*page))
    }

    /// This one, if it is there, and all that come after it.
    pub(crate) fn iter_from(&self, at: TopicPartition) -> impl Iterator<Item = TopicPartition> {
        let (first, bit) = place_of(at);
        let from = self.pages.partition_point(|(key, _)| *key < first);
        self.pages[from..].iter().flat_map(move |&(key, taken)| {
            let behind = if key == first {
                u64::MAX << bit
            } else {
                u64::MAX
            };
            bits_of((key, taken & behind))
        })
    }

    /// Those of one topic.
    pub(crate) fn of_topic(&self, topic: TopicIndex) -> impl Iterator<Item = TopicPartition> {
        let first = TopicPartition {
            topic,
            partition: i32::MIN,
        };
        self.iter_from(first)
            .take_while(move |at| at.topic == topic)
    }

    /// Takes the first in order.
    #[inline]
    pub(crate) fn pop_first(&mut self) -> Option<TopicPartition> {
        if self.count == 0 {
            return None;
        }
        loop {
            let (key, taken) = self.pages.get_mut(self.first)?;
            if *taken != 0 {
                let at = key.partition(taken.trailing_zeros());
                *taken &= taken.wrapping_sub(1);
                self.count -= 1;
                return Some(at);
            }
            self.first += 1;
        }
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

/// The partitions of a page.
fn bits_of((key, taken): (PageKey, u64)) -> impl Iterator<Item = TopicPartition> {
    let mut left = taken;
    std::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (bit < u64::BITS).then(|| key.partition(bit))
    })
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
    use std::collections::BTreeMap;

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
