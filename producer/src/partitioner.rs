//! Which partition a record goes to, as far as the record decides it: by number, or by its key.
//!
//! *Invariants*
//! 1. The same key and partition count give the same partition as Kafka's own producer.
//! 2. An empty key is a key; a null key is none.
//!
//! *Source*: Kafka's `Utils.murmur2`, `BuiltInPartitioner.partitionForKey`.
//!
//! *Not here*: the choice for records that leave it open (`io/sticky.rs`).

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

    /// The vectors of Kafka's `UtilsTest.testMurmur2`.
    #[rstest]
    #[case("21", -973_932_308)]
    #[case("foobar", -790_332_482)]
    #[case("a-little-bit-long-string", -985_981_536)]
    #[case("a-little-bit-longer-string", -1_486_304_829)]
    #[case("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971)]
    #[case("abc", 479_470_107)]
    fn murmur2_is_kafkas(#[case] key: &str, #[case] hash: i32) {
        assert_eq!(murmur2(key.as_bytes()), hash);
    }

    #[rstest]
    #[case(b"21", 10)]
    #[case(b"abc", 7)]
    #[case(b"", 3)]
    fn a_key_goes_to_its_positive_hash_modulo_count(#[case] key: &[u8], #[case] count: usize) {
        let hash = i64::from(murmur2(key)) & 0x7fff_ffff;
        let expected = usize::try_from(hash).expect("positive") % count;
        assert_eq!(partition_of_key(key, count), Some(expected));
    }

    #[test]
    fn no_partitions_give_no_choice() {
        assert_eq!(partition_of_key(b"abc", 0), None);
    }
}
