//! How long to wait before the next attempt: exponential with jitter.
//!
//! *Invariants*
//! 1. A delay is never longer than the maximum.
//! 2. The same seed gives the same delays.
//!
//! *Source*: KIP-580 and Kafka's `ExponentialBackoff`: `min(max, initial × 2^failures × U[0.8,
//! 1.2))`; an initial delay not below the maximum is used as it is, cut to the maximum, without
//! jitter.

use core::time::Duration;

/// The law of one kind of retry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackOff {
    initial: Duration,
    max: Duration,
}

impl BackOff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max }
    }

    /// The wait after this many failures before the present one.
    pub(crate) fn delay(self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        if self.initial >= self.max {
            return self.max;
        }
        let doubled = self
            .initial
            .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let jitter_permille = rng.u32(JITTER_PERMILLE);
        (doubled.min(self.max).saturating_mul(jitter_permille) / 1000).min(self.max)
    }
}

const JITTER_PERMILLE: core::ops::Range<u32> = 800..1200;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 80, 120)]
    #[case(1, 160, 240)]
    #[case(3, 640, 960)]
    #[case(4, 800, 1000)]
    #[case(u32::MAX, 800, 1000)]
    fn delays_double_within_jitter_up_to_the_maximum(
        #[case] failures: u32,
        #[case] low_ms: u64,
        #[case] high_ms: u64,
    ) {
        let law = BackOff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let delay = law.delay(failures, &mut rng);
            let allowed = Duration::from_millis(low_ms)..=Duration::from_millis(high_ms);
            assert!(
                allowed.contains(&delay),
                "{delay:?} after {failures} failures"
            );
        }
    }

    #[test]
    fn an_initial_delay_above_the_maximum_is_the_maximum() {
        let law = BackOff::new(Duration::from_secs(5), Duration::from_secs(1));
        assert_eq!(
            law.delay(0, &mut fastrand::Rng::with_seed(1)),
            Duration::from_secs(1)
        );
    }
}
