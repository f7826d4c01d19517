//! The producer's plain values: identifiers and counters from the protocol, as newtypes.
//!
//! *Invariants*
//! 1. A [`Sequence`] is never negative; its arithmetic wraps from 2³¹−1 to 0 and lives here alone.
//! 2. A value of these types carries no behaviour of a layer: each layer may use them.
//!
//! *Source*: Kafka's `DefaultRecordBatch.incrementSequence`, `ProducerIdAndEpoch`.

use std::fmt;

/// How many replicas must have a record before the broker answers (`acks`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// `acks=0`: the broker never answers; offsets stay unknown and losses unseen.
    None,
    /// `acks=1`: the leader answers after its own append; a record dies with the leader.
    Leader,
    /// `acks=all` (`-1`): the leader answers when every in-sync replica has the record.
    #[default]
    All,
}

impl Acks {
    /// The value on the wire: 0, 1 or −1.
    #[must_use]
    pub fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a batch's records are compressed (`compression.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// Not at all.
    #[default]
    None,
    /// gzip: small, and slow to make.
    Gzip,
    /// Snappy: fast, and not so small.
    Snappy,
    /// LZ4: fast, and not so small.
    Lz4,
    /// Zstandard: about as small as gzip, and several times as fast to make.
    Zstd,
}

impl CompressionType {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The value in a batch's attributes.
    #[must_use]
    pub fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

/// The epoch of a partition's leader; grows with each election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

/// The id that a broker hands to an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

/// The epoch of a producer id; a newer one fences the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

/// The number of a record within one producer id, epoch and partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sequence(i32);

impl Sequence {
    /// The first sequence of an epoch.
    pub const ZERO: Self = Self(0);

    /// The sequence with this wire value; `None` when it is negative.
    #[must_use]
    pub fn new(value: i32) -> Option<Self> {
        (value >= 0).then_some(Self(value))
    }

    /// The value on the wire.
    #[must_use]
    pub fn value(self) -> i32 {
        self.0
    }

    /// The sequence `count` records later; 2³¹−1 is followed by 0.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        let sum = (i64::from(self.0) + i64::from(count)) % (1_i64 << 31);
        Self(i32::try_from(sum).unwrap_or_default())
    }
}

/// A topic's id (a UUID, big-endian); all zero means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id of no topic.
    pub const ZERO: Self = Self([0; 16]);
}

/// A topic's number within one producer, given at its first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(pub u32);

/// One partition of one topic, as the layers below the API name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's number within this producer.
    pub topic: TopicIndex,
    /// The partition's number within the topic, from 0.
    pub partition: i32,
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 1, 1)]
    #[case(i32::MAX, 1, 0)]
    #[case(i32::MAX - 1, 3, 1)]
    #[case(5, 0, 5)]
    fn sequence_wraps_from_its_maximum_to_zero(
        #[case] start: i32,
        #[case] count: u32,
        #[case] end: i32,
    ) {
        let start = Sequence::new(start).expect("not negative");
        assert_eq!(start.plus(count).value(), end);
    }

    #[test]
    fn a_negative_sequence_is_refused() {
        assert_eq!(Sequence::new(-1), None);
    }
}
