//! A rate over the last seconds, and for how long whoever exceeded it must be silent.
//!
//! *State* of the samples, eleven of a second by default:
//!
//! ```text
//!            ┌────────────┬─ … ─┬─────────┐
//!            │ complete   │     │ current │ ◀── record, while it is younger than a second
//!            └────────────┴─ … ─┴─────────┘
//!                  │                └──────── else the next becomes current, in a ring of twelve
//!                  └─ without an event for eleven seconds: emptied, and begins anew
//! ```
//!
//! *Invariants*
//! 1. There is at most one sample more than the window has.
//! 2. The window that a rate is told over is never shorter than all samples but one; a sample that
//!    reaches into it counts as a whole. So a first burst is not taken for ten times its rate.
//! 3. Nothing that is older than the window is remembered.
//!
//! *Source* apache/kafka `clients/…/common/metrics/stats/{Rate,SampledStat}.java`,
//! `server-common/…/server/quota/QuotaUtils.java`; throttle times observed on 4.3.1.
//!
//! *Not here* whose rate it is (`quotas.rs`).

use core::time::Duration;

use crate::config::BrokerConfig;

/// Over which time a rate is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many samples; at least 1 (`quota.window.num`).
    pub samples: i64,
    /// How long one is, in milliseconds; at least 1 (`quota.window.size.seconds`).
    pub sample_ms: i64,
}

impl Window {
    /// The window that the brokers are configured with.
    #[must_use]
    pub fn of(config: &BrokerConfig) -> Self {
        Self {
            samples: i64::from(config.quota_window_num),
            sample_ms: i64::from(config.quota_window_size_seconds) * 1_000,
        }
    }

    const fn less_one_ms(self) -> i64 {
        (self.samples - 1).saturating_mul(self.sample_ms)
    }

    /// The shortest time that a rate is told over, in seconds.
    #[must_use]
    pub const fn seconds_min(self) -> f64 {
        self.less_one_ms() as f64 / 1_000.0
    }

    const fn length_ms(self) -> i64 {
        self.samples.saturating_mul(self.sample_ms)
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    started_ms: i64,
    last_event_ms: i64,
    sum: f64,
}

impl Sample {
    const fn starting(now_ms: i64) -> Self {
        Self {
            started_ms: now_ms,
            last_event_ms: now_ms,
            sum: 0.0,
        }
    }
}

/// What was recorded within a window.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    samples: Vec<Sample>,
    current: usize,
}

impl Rate {
    /// Adds to what happened; a negative value takes back.
    pub fn record(&mut self, value: f64, window: Window, now_ms: i64) {
        let ring = usize::try_from(window.samples).unwrap_or(usize::MAX);
        match self.samples.get(self.current) {
            Some(sample) if now_ms - sample.started_ms < window.sample_ms => {}
            Some(_) => {
                self.current = if self.current < ring {
                    self.current + 1
                } else {
                    0
                };
                match self.samples.get_mut(self.current) {
                    Some(sample) => *sample = Sample::starting(now_ms),
                    None => self.samples.push(Sample::starting(now_ms)),
                }
            }
            None => self.samples.push(Sample::starting(now_ms)),
        }
        if let Some(sample) = self.samples.get_mut(self.current) {
            sample.sum += value;
            sample.last_event_ms = now_ms;
        }
    }

    /// For how long nothing may happen until the rate is `bound` a second again; zero when it is no
    /// more than that.
    #[must_use]
    pub fn excess(&mut self, bound: f64, window: Window, now_ms: i64) -> Duration {
        self.forget_old(window, now_ms);
        let sum: f64 = self.samples.iter().map(|sample| sample.sum).sum();
        let window_ms = self.window_ms(window, now_ms);
        let rate = sum / (window_ms / 1_000.0);
        if rate <= bound {
            return Duration::ZERO;
        }
        let excess_ms = ((rate - bound) / bound * window_ms).round();
        if excess_ms.is_nan() {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(excess_ms / 1_000.0)
            .map_or(THROTTLE_MAX, |excess| excess.min(THROTTLE_MAX))
    }

    /// Whether everything is too old to count, so that a fresh rate says the same.
    #[must_use]
    pub fn is_obsolete(&self, window: Window, now_ms: i64) -> bool {
        let old = |sample: &Sample| now_ms - sample.last_event_ms >= window.length_ms();
        self.samples.iter().all(old)
    }

    fn forget_old(&mut self, window: Window, now_ms: i64) {
        for sample in &mut self.samples {
            if now_ms - sample.last_event_ms >= window.length_ms() {
                *sample = Sample::starting(now_ms);
            }
        }
    }

    fn window_ms(&self, window: Window, now_ms: i64) -> f64 {
        let started = self.samples.iter().map(|sample| sample.started_ms).min();
        let elapsed_ms = now_ms - started.unwrap_or(now_ms);
        let missing = (window.samples - 1 - elapsed_ms / window.sample_ms).max(0);
        let window_ms = elapsed_ms.saturating_add(missing.saturating_mul(window.sample_ms));
        window_ms.max(1) as f64
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self, window: Window) {
        let samples = i64::try_from(self.samples.len()).unwrap_or(i64::MAX);
        assert!(samples <= window.samples + 1, "rate 1");
        assert!(self.current <= self.samples.len(), "rate 1");
    }
}

/// What the answers' field of 32 bits can say.
const THROTTLE_MAX: Duration = Duration::from_millis(2_147_483_647);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const KAFKAS: Window = Window {
        samples: 11,
        sample_ms: 1_000,
    };

    fn ms(duration: Duration) -> u128 {
        duration.as_millis()
    }

    /// Records each of `(time, bytes)` and tells the last excess over `bound`.
    fn excess_ms(bound: f64, events: &[(i64, u32)]) -> u128 {
        let mut rate = Rate::default();
        let mut excess = Duration::ZERO;
        for (now_ms, bytes) in events {
            rate.record(f64::from(*bytes), KAFKAS, *now_ms);
            excess = rate.excess(bound, KAFKAS, *now_ms);
            rate.check_invariants(KAFKAS);
        }
        ms(excess)
    }

    /// By hand, with bound B, sum S and window W: S / B - W, in milliseconds where it is positive.
    #[rstest]
    #[case::exactly_the_bound(&[(0, 100_000)], 0)]
    #[case::a_little_more(&[(0, 100_114)], 11)]
    #[case::rounded_half_up(&[(0, 100_125)], 13)]
    #[case::twice_the_bound(&[(0, 200_000)], 10_000)]
    #[case::second_of_a_kind(&[(0, 60_000), (0, 60_000)], 2_000)]
    // 700 ms into the first second: the window is ten seconds and that part.
    #[case::part_of_a_second_counts(&[(0, 60_000), (700, 60_000)], 1_300)]
    // After 2,500 ms two whole seconds are there, eight are supposed.
    #[case::whole_seconds_replace_supposed_ones(&[(0, 60_000), (2_500, 60_000)], 1_500)]
    #[case::old_sample_counts_to_its_end(&[(0, 60_000), (10_999, 60_000)], 1_001)]
    #[case::old_sample_is_forgotten(&[(0, 60_000), (11_000, 100_114)], 11)]
    #[case::sample_lives_from_its_last_event(
        &[(0, 30_000), (900, 30_000), (11_800, 60_000)], 200
    )]
    fn excess_is_as_by_hand(#[case] events: &[(i64, u32)], #[case] expected_ms: u128) {
        assert_eq!(excess_ms(10_000.0, events), expected_ms);
    }

    /// Bursts of 12,114 bytes against 10,000 a second: when each was answered after the first, and
    /// the throttle time that Kafka 4.3.1 told. Its clock read a few milliseconds earlier.
    const OBSERVED: [(i64, i64); 14] = [
        (0, 0),
        (253, 0),
        (513, 0),
        (769, 0),
        (1_025, 0),
        (1_279, 0),
        (1_534, 0),
        (1_797, 0),
        (2_054, 850),
        (2_306, 1_808),
        (2_559, 2_766),
        (2_814, 3_723),
        (3_083, 5_665),
        (3_336, 6_625),
    ];

    #[test]
    fn throttle_times_are_those_of_kafka() {
        let mut rate = Rate::default();
        for (now_ms, expected_ms) in OBSERVED {
            rate.record(12_114.0, KAFKAS, now_ms);
            let excess_ms = i64::try_from(ms(rate.excess(10_000.0, KAFKAS, now_ms))).unwrap();
            assert!(
                (excess_ms - expected_ms).abs() <= 8,
                "{now_ms}: {excess_ms} not {expected_ms}"
            );
        }
    }

    #[rstest]
    #[case::nothing(&[], true)]
    #[case::just_now(&[0], false)]
    #[case::one_of_two(&[-11_000, -10_999], false)]
    #[case::all(&[-12_000, -11_000], true)]
    fn rate_is_obsolete_when_nothing_counts(#[case] events: &[i64], #[case] obsolete: bool) {
        let mut rate = Rate::default();
        for now_ms in events {
            rate.record(1.0, KAFKAS, *now_ms);
        }
        assert_eq!(rate.is_obsolete(KAFKAS, 0), obsolete);
    }

    #[test]
    fn what_was_taken_back_was_never_there() {
        let mut rate = Rate::default();
        for value in [200_000.0, -200_000.0, 100_114.0] {
            rate.record(value, KAFKAS, 5);
        }
        assert_eq!(ms(rate.excess(10_000.0, KAFKAS, 5)), 11);
    }

    #[rstest]
    #[case::no_number(f64::NAN, 0)]
    #[case::without_end(f64::MIN_POSITIVE, 2_147_483_647)]
    fn bound_that_makes_no_sense_does_no_harm(#[case] bound: f64, #[case] expected_ms: u128) {
        assert_eq!(excess_ms(bound, &[(0, 1_000)]), expected_ms);
    }
}
