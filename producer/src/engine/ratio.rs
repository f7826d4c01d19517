//! How small a topic's records are expected to become, so that compressed batches fill.
//!
//! A batch is full when its *compressed* size is near `batch.size`, and that is known only after it
//! was sealed. So each topic has an estimate, learnt from the batches before.
//!
//! *State*
//! ```text
//!                   smaller than expected: down by 0.005, not below what was seen
//!   estimate (1.0) ◀──────────────────────────────────────────────────────────────┐
//!                   larger than expected: up by 0.05, at least to what was seen ───┘
//!                   refused as too large: to 1.0, unless it is more
//! ```
//!
//! *Invariants*
//! 1. An estimate is never better than the last batch that was better than it.
//! 2. What queues count with is a twentieth above the estimate.
//!
//! *Source*: Kafka's `CompressionRatioEstimator`; `MemoryRecordsBuilder` for the margin.
//!
//! *Not here*: the estimate's use (`batch.rs`), its sharing (`io/topics.rs`).

/// How many bytes stand for a thousand bytes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u32);

impl Ratio {
    /// Records stay as they are.
    pub const PLAIN: Self = Self(1_000);

    /// From bytes per thousand bytes.
    #[must_use]
    #[inline]
    pub fn from_per_mille(per_mille: u32) -> Self {
        Self(per_mille.max(1))
    }

    /// Bytes per thousand bytes, at least 1.
    #[must_use]
    pub fn per_mille(self) -> u32 {
        self.0
    }

    /// What so many bytes of records come to.
    #[must_use]
    #[inline]
    pub fn compressed(self, plain_bytes: usize) -> usize {
        if self == Self::PLAIN {
            return plain_bytes;
        }
        scaled(plain_bytes, u64::from(self.0), 1_000)
    }

    /// How many bytes of records come to so many.
    #[must_use]
    pub fn plain(self, compressed_bytes: usize) -> usize {
        scaled(compressed_bytes, 1_000, u64::from(self.0))
    }
}

fn scaled(bytes: usize, times: u64, by: u64) -> usize {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    usize::try_from(bytes.saturating_mul(times) / by).unwrap_or(usize::MAX)
}

/// One topic's estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RatioEstimate {
    per_mille: u32,
}

impl RatioEstimate {
    /// Nothing is known: records are not expected to become smaller.
    pub(crate) const INITIAL: Self = Self { per_mille: 1_000 };

    /// What queues count with.
    pub(crate) fn with_margin(self) -> Ratio {
        Ratio::from_per_mille(self.per_mille + self.per_mille / 20)
    }

    /// So many bytes of records came to so many.
    pub(crate) fn on_compressed(&mut self, plain_bytes: usize, compressed_bytes: usize) {
        let seen = per_mille(plain_bytes, compressed_bytes);
        self.per_mille = if seen > self.per_mille {
            seen.max(self.per_mille + WORSE_STEP)
        } else {
            seen.max(self.per_mille.saturating_sub(BETTER_STEP))
        };
    }

    /// A broker refused a batch of this size as too large: expect no more of compression.
    pub(crate) fn on_too_large(&mut self) {
        self.per_mille = self.per_mille.max(Self::INITIAL.per_mille);
    }
}

fn per_mille(plain_bytes: usize, compressed_bytes: usize) -> u32 {
    let plain = u64::try_from(plain_bytes.max(1)).unwrap_or(u64::MAX);
    let compressed = u64::try_from(compressed_bytes).unwrap_or(u64::MAX);
    let seen = compressed.saturating_mul(1_000).div_ceil(plain);
    u32::try_from(seen).unwrap_or(u32::MAX / 2)
}

const BETTER_STEP: u32 = 5;
const WORSE_STEP: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::better_goes_down_slowly(1_000, 300, 995)]
    #[case::never_below_what_was_seen(302, 300, 300)]
    #[case::worse_goes_up_fast(300, 310, 350)]
    #[case::at_least_to_what_was_seen(300, 900, 900)]
    #[case::as_expected_it_stays(300, 300, 300)]
    fn an_estimate_follows_what_is_seen(
        #[case] before: u32,
        #[case] seen: usize,
        #[case] after: u32,
    ) {
        let mut estimate = RatioEstimate { per_mille: before };
        estimate.on_compressed(1_000, seen);
        assert_eq!(estimate.per_mille, after);
    }

    #[test]
    fn queues_count_with_a_margin() {
        assert_eq!(RatioEstimate::INITIAL.with_margin().per_mille(), 1_050);
        let estimate = RatioEstimate { per_mille: 200 };
        assert_eq!(estimate.with_margin().compressed(10_000), 2_100);
        assert_eq!(estimate.with_margin().plain(2_100), 10_000);
    }

    #[test]
    fn plain_records_count_as_they_are() {
        assert_eq!(Ratio::PLAIN.compressed(usize::MAX), usize::MAX);
        assert_eq!(Ratio::PLAIN.plain(7), 7);
    }
}
