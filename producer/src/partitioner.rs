//! Which partition a record goes to.
//!
//! A record that names its partition goes there. For others the producer's partitioner decides; the
//! built-in one sends a key where its hash says, as Kafka's own producer, and spreads records
//! without a key over the partitions, a batch at a time, less to those whose queues are long
//! ([`Weighting`](crate::Weighting)).
//!
//! | Partitioner | Keys | Null keys |
//! |---|---|---|
//! | built in | murmur2, as Kafka's producer | spread, a batch at a time |
//! | [`Crc32`] | CRC-32, as librdkafka by default | spread, a batch at a time |
//! | [`RoundRobin`] | ignored | the next partition each time |
//! | your own [`Partitioner`] | as you like | as you like |
//!
//! *Invariants*
//! 1. The same key and partition count give the same partition as Kafka's own producer, or as
//!    librdkafka.
//! 2. An empty key is a key; a null key is none. (To librdkafka an empty key is none.)
//!
//! *Source*: Kafka's `Utils.murmur2`, `BuiltInPartitioner.partitionForKey`,
//! `RoundRobinPartitioner`; librdkafka's `rd_kafka_msg_partitioner_consistent_random`.
//!
//! *Not here*: how records without a key are spread (`io/sticky.rs`).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::io::topics::Site;

/// Chooses partitions for records that name none.
///
/// It runs for each record, in the task that sends it. A panic in it is the sender's.
///
/// ```
/// use kafka_producer::Producer;
/// use kafka_producer::partitioner::{Partitioner, Unplaced};
///
/// /// Large orders have partition 0 for themselves.
/// struct LargeOrdersFirst;
///
/// impl Partitioner for LargeOrdersFirst {
///     fn partition(&self, record: &Unplaced<'_>) -> Option<i32> {
///         let is_large = record.value().is_some_and(|value| value.len() > 10_000);
///         is_large.then_some(0) // others: wherever the built-in choice is
///     }
/// }
///
/// let builder = Producer::builder().partitioner(LargeOrdersFirst);
/// # let _ = builder;
/// ```
pub trait Partitioner: Send + Sync + 'static {
    /// The partition, from 0; `None` leaves it to the built-in choice for records without a key.
    ///
    /// One that the topic does not have refuses the record, as if it had named it itself.
    fn partition(&self, record: &Unplaced<'_>) -> Option<i32>;
}

/// A record that names no partition, and the partitions there are.
#[derive(Clone, Copy)]
pub struct Unplaced<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    leaders: Leaders<'a>,
}

/// Which partitions have a leader.
#[derive(Clone, Copy)]
enum Leaders<'a> {
    Known(&'a [Site]),
    Given(&'a [bool]),
}

impl<'a> Unplaced<'a> {
    /// A record for the tests of a partitioner; `has_leader` says of each partition whether it has
    /// one.
    #[must_use]
    pub fn new(
        topic: &'a str,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        has_leader: &'a [bool],
    ) -> Self {
        Self {
            topic,
            key,
            value,
            leaders: Leaders::Given(has_leader),
        }
    }

    pub(crate) fn of(
        topic: &'a str,
        (key, value): (Option<&'a [u8]>, Option<&'a [u8]>),
        sites: &'a [Site],
    ) -> Self {
        Self {
            topic,
            key,
            value,
            leaders: Leaders::Known(sites),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// The key's bytes; `None` is null.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key
    }

    /// The value's bytes; `None` is null.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value
    }

    /// How many partitions the topic has, as last heard.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        match self.leaders {
            Leaders::Known(sites) => sites.len(),
            Leaders::Given(flags) => flags.len(),
        }
    }

    /// Whether a partition has a leader: one without waits until it has.
    #[must_use]
    pub fn has_leader(&self, partition: i32) -> bool {
        usize::try_from(partition).is_ok_and(|partition| self.is_led(partition))
    }

    /// The partitions that have a leader, in order.
    pub fn led(&self) -> impl Iterator<Item = i32> {
        (0..)
            .zip(0..self.partition_count())
            .filter(|(_, place)| self.is_led(*place))
            .map(|(partition, _)| partition)
    }

    fn is_led(&self, place: usize) -> bool {
        match self.leaders {
            Leaders::Known(sites) => sites.get(place).is_some_and(|site| site.leader.is_some()),
            Leaders::Given(flags) => flags.get(place).is_some_and(|led| *led),
        }
    }
}

impl fmt::Debug for Unplaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unplaced")
            .field("topic", &self.topic)
            .field("partition_count", &self.partition_count())
            .finish_non_exhaustive()
    }
}

/// Keys go to their CRC-32 modulo the number of partitions; null and empty keys are spread by the
/// built-in choice. What librdkafka, and so most clients beside Java's, do by default
/// (`consistent_random`): for topics that both write to.
///
/// ```
/// use kafka_producer::partitioner::{Crc32, Partitioner, Unplaced};
///
/// let record = Unplaced::new("orders", Some(b"customer-7"), None, &[true; 12]);
/// assert_eq!(Crc32.partition(&record), Some(8));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Crc32;

impl Partitioner for Crc32 {
    fn partition(&self, record: &Unplaced<'_>) -> Option<i32> {
        let key = record.key.filter(|key| !key.is_empty())?;
        let count = u32::try_from(record.partition_count()).ok()?;
        i32::try_from(crc32fast::hash(key).checked_rem(count)?).ok()
    }
}

/// Each record goes to the next partition that has a leader, whatever its key. Each topic has its
/// own turn.
///
/// Every record is then a batch's first more often: batches are as many as partitions, and smaller.
#[derive(Debug, Default)]
pub struct RoundRobin {
    turns: RwLock<HashMap<String, AtomicUsize>>,
}

impl RoundRobin {
    fn turn(&self, topic: &str) -> usize {
        // A turn is added whole or not at all, whoever panics meanwhile.
        let turns = self.turns.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(topic) {
            return turn.fetch_add(1, Ordering::Relaxed);
        }
        drop(turns);
        let mut turns = self.turns.write().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(topic.to_owned()).or_default();
        turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl Partitioner for RoundRobin {
    fn partition(&self, record: &Unplaced<'_>) -> Option<i32> {
        let turn = self.turn(record.topic);
        match record.led().count() {
            0 => i32::try_from(turn.checked_rem(record.partition_count())?).ok(),
            led => record.led().nth(turn % led),
        }
    }
}

/// Kafka's murmur2 of a key.
///
/// ```
/// assert_eq!(kafka_producer::partitioner::murmur2(b"21"), -973932308);
/// ```
#[must_use]
pub fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    // Kafka hashes the length as an `int`: beyond its range only the low bits count.
    let length = u32::try_from(key.len() & 0xffff_ffff).unwrap_or_default();
    let (words, tail) = key.as_chunks::<4>();
    let mut hash = SEED ^ length;
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let rest = tail
            .iter()
            .rev()
            .fold(0, |rest, &byte| (rest << 8) | u32::from(byte));
        hash = (hash ^ rest).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of a key among `partition_count` partitions; `None` when there is none.
///
/// All partitions count, with or without a leader: a key does not move because a broker is down.
#[must_use]
pub fn partition_of_key(key: &[u8], partition_count: usize) -> Option<usize> {
    let positive = murmur2(key) & i32::MAX;
    usize::try_from(positive).ok()?.checked_rem(partition_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The vectors of Kafka's `UtilsTest.testMurmur2`, and what Kafka 4.3.1 makes of others.
    #[rstest]
    #[case("", 275_646_681)]
    #[case("a", -1_563_381_124)]
    #[case("ab", 316_155_434)]
    #[case("abcd", -1_323_649_548)]
    #[case("customer-7", -1_283_830_537)]
    #[case("é", 186_971_271)]
    #[case("21", -973_932_308)]
    #[case("foobar", -790_332_482)]
    #[case("a-little-bit-long-string", -985_981_536)]
    #[case("a-little-bit-longer-string", -1_486_304_829)]
    #[case("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971)]
    #[case("abc", 479_470_107)]
    fn murmur2_is_kafkas(#[case] key: &str, #[case] hash: i32) {
        assert_eq!(murmur2(key.as_bytes()), hash);
    }

    #[test]
    fn murmur2_is_kafkas_for_bytes_of_any_value() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(murmur2(&all), -1_948_347_274);
        assert_eq!(murmur2(&[255, 254, 253]), 998_637_092);
    }

    /// What Kafka 4.3.1 makes of these keys with 7 and with 12 partitions.
    #[rstest]
    #[case(b"", 2, 9)]
    #[case(b"a", 5, 4)]
    #[case(b"ab", 0, 2)]
    #[case(b"abc", 4, 3)]
    #[case(b"abcd", 5, 8)]
    #[case(b"21", 3, 0)]
    #[case(b"foobar", 0, 6)]
    #[case(b"customer-7", 6, 7)]
    fn a_key_goes_where_kafkas_producer_sends_it(
        #[case] key: &[u8],
        #[case] of_7: usize,
        #[case] of_12: usize,
    ) {
        assert_eq!(partition_of_key(key, 7), Some(of_7));
        assert_eq!(partition_of_key(key, 12), Some(of_12));
    }

    fn keyed<'a>(key: Option<&'a [u8]>, has_leader: &'a [bool]) -> Unplaced<'a> {
        Unplaced::new("orders", key, None, has_leader)
    }

    /// Where librdkafka 2.16.0 sent these keys, with 7 partitions.
    #[test]
    fn crc_32_agrees_with_librdkafka() {
        for (number, expected) in [6, 0, 3, 5, 1, 4, 3, 0].into_iter().enumerate() {
            let key = format!("key-{number}");
            let unplaced = keyed(Some(key.as_bytes()), &[true; 7]);
            assert_eq!(Crc32.partition(&unplaced), Some(expected), "{key}");
        }
    }

    /// CRC-32 as zlib has it; the last is its check value, 0xcbf43926.
    #[rstest]
    #[case(b"a", 4, 3)]
    #[case(b"abc", 5, 6)]
    #[case(b"customer-7", 5, 8)]
    #[case(b"123456789", 5, 2)]
    fn crc_32_sends_a_key_to_its_check_sum(
        #[case] key: &[u8],
        #[case] of_7: i32,
        #[case] of_12: i32,
    ) {
        // Leaders do not count.
        assert_eq!(Crc32.partition(&keyed(Some(key), &[false; 7])), Some(of_7));
        assert_eq!(Crc32.partition(&keyed(Some(key), &[true; 12])), Some(of_12));
    }

    #[test]
    fn crc_32_leaves_null_and_empty_keys_to_the_built_in_choice() {
        assert_eq!(Crc32.partition(&keyed(None, &[true; 3])), None);
        assert_eq!(Crc32.partition(&keyed(Some(b""), &[true; 3])), None);
    }

    #[rstest]
    #[case(&[true, true, true], &[0, 1, 2, 0, 1])]
    #[case(&[true, false, true], &[0, 2, 0, 2, 0])]
    #[case(&[false, false], &[0, 1, 0, 1, 0])]
    fn round_robin_goes_through_the_partitions_with_leaders(
        #[case] has_leader: &[bool],
        #[case] expected: &[i32],
    ) {
        let turns = RoundRobin::default();
        let choose = |_| turns.partition(&keyed(Some(b"the same"), has_leader));
        let chosen: Vec<_> = (0..5).filter_map(choose).collect();
        assert_eq!(chosen, expected);
    }

    /// With one turn for both topics each would reach every other partition only.
    #[test]
    fn each_topic_has_its_own_turn() {
        let turns = RoundRobin::default();
        let mut chosen = [Vec::new(), Vec::new()];
        for _ in 0..4 {
            for (topic, chosen) in ["a", "b"].into_iter().zip(&mut chosen) {
                chosen.extend(turns.partition(&Unplaced::new(topic, None, None, &[true; 2])));
            }
        }
        assert_eq!(chosen, [[0, 1, 0, 1], [0, 1, 0, 1]]);
    }

    #[test]
    fn a_topic_without_partitions_gives_no_choice() {
        assert_eq!(Crc32.partition(&keyed(Some(b"a"), &[])), None);
        assert_eq!(RoundRobin::default().partition(&keyed(None, &[])), None);
    }

    #[test]
    fn no_partitions_give_no_choice() {
        assert_eq!(partition_of_key(b"abc", 0), None);
    }
}
