//! One measured quantity: totals for ever, and what the last samples say.
//!
//! *Invariants*
//! 1. A reading covers the samples whose last value is younger than all of them are long.
//! 2. At most [`SAMPLES_MAX`] samples are kept, whatever is configured.
//!
//! *Source*: Kafka's `SampledStat`, `Rate`, `Avg`, `Max` and `CumulativeSum`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::time::Instant;

/// How readings look back: `metrics.num.samples` of `metrics.sample.window.ms` each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    count: usize,
    length: Duration,
}

impl Windows {
    /// Kafka's default.
    #[cfg(test)]
    pub(crate) const DEFAULT: Self = Self {
        count: 2,
        length: Duration::from_secs(30),
    };

    /// So many samples, each so long.
    pub(crate) fn new(count: usize, length: Duration) -> Self {
        Self {
            count: count.clamp(1, SAMPLES_MAX),
            // No time at all cannot be looked back on.
            length: length.max(Duration::from_nanos(1)),
        }
    }

    fn all(self) -> Duration {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        self.length.saturating_mul(count)
    }
}

/// A quantity that is recorded value by value.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sum: f64,
    count: u64,
    /// Those that are complete.
    samples: VecDeque<Sample>,
    /// The one that is not; empty before the first value.
    open: Sample,
    /// When that one is complete.
    complete_at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    started: Instant,
    last: Instant,
    sum: f64,
    count: f64,
    max: f64,
}

/// What the samples of a reading add up to.
struct Seen {
    sum: f64,
    count: f64,
    max: f64,
    /// How long they took, in seconds.
    seconds: f64,
}

impl Meter {
    #[inline]
    pub(crate) fn record(&mut self, value: f64, windows: Windows, now: Instant) {
        if now >= self.complete_at {
            self.open_sample(windows, now);
        }
        self.sum += value;
        self.count += 1;
        let open = &mut self.open;
        open.last = now;
        open.sum += value;
        open.count += 1.0;
        if value > open.max {
            open.max = value;
        }
    }

    #[cold]
    fn open_sample(&mut self, windows: Windows, now: Instant) {
        if self.open.count > 0.0 {
            // One more than is asked for, with the open one: the oldest overlaps the time that is
            // looked back on.
            if self.samples.len() >= windows.count {
                self.samples.pop_front();
            }
            self.samples.push_back(self.open);
        }
        self.open = Sample {
            started: now,
            last: now,
            sum: 0.0,
            count: 0.0,
            max: f64::NEG_INFINITY,
        };
        self.complete_at = now + windows.length;
    }

    /// Everything ever recorded, added up.
    pub(crate) fn total(&self) -> f64 {
        self.sum
    }

    /// How often something was recorded.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The mean of the last values; not a number when there were none.
    pub(crate) fn avg(&self, windows: Windows, now: Instant) -> f64 {
        let seen = self.seen(windows, now);
        seen.sum / seen.count
    }

    /// The largest of the last values; not a number when there were none.
    pub(crate) fn max(&self, windows: Windows, now: Instant) -> f64 {
        let seen = self.seen(windows, now);
        if seen.count > 0.0 { seen.max } else { f64::NAN }
    }

    /// What was added lately, per second.
    pub(crate) fn rate(&self, windows: Windows, now: Instant) -> f64 {
        let seen = self.seen(windows, now);
        seen.sum / seen.seconds
    }

    /// How often something was recorded lately, per second.
    pub(crate) fn count_rate(&self, windows: Windows, now: Instant) -> f64 {
        let seen = self.seen(windows, now);
        seen.count / seen.seconds
    }

    fn seen(&self, windows: Windows, now: Instant) -> Seen {
        let mut seen = Seen {
            sum: 0.0,
            count: 0.0,
            max: f64::NEG_INFINITY,
            seconds: 0.0,
        };
        let mut oldest = now;
        let open = (self.open.count > 0.0).then_some(&self.open);
        for sample in self.samples.iter().chain(open) {
            if now.since(sample.last) < windows.all() {
                seen.sum += sample.sum;
                seen.count += sample.count;
                seen.max = seen.max.max(sample.max);
                oldest = oldest.min(sample.started);
            }
        }
        // A rate right after the start would be far too high: all windows but the last count whole.
        let elapsed = now.since(oldest).as_secs_f64();
        let length = windows.length.as_secs_f64();
        let whole = (elapsed / length).floor();
        let missing = f64::from(u32::try_from(windows.count).unwrap_or(u32::MAX)) - 1.0 - whole;
        seen.seconds = (elapsed + missing.max(0.0) * length).max(0.001);
        seen
    }
}

/// More samples than anybody looks at one by one.
const SAMPLES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// Two samples of ten seconds.
    fn windows() -> Windows {
        Windows::new(2, Duration::from_secs(10))
    }

    fn recorded(values: &[(u64, f64)]) -> Meter {
        let mut meter = Meter::default();
        for &(second, value) in values {
            meter.record(value, windows(), at(second));
        }
        meter
    }

    #[test]
    fn totals_are_for_ever_and_readings_look_back() {
        let meter = recorded(&[(0, 100.0), (15, 2.0), (16, 4.0)]);
        assert_eq!((meter.total(), meter.count()), (106.0, 3));
        assert_eq!(meter.max(windows(), at(17)), 100.0);
        // The first sample is 20 s old: only the second counts.
        assert_eq!(meter.max(windows(), at(20)), 4.0);
        assert_eq!(meter.avg(windows(), at(20)), 3.0);
        assert!(meter.avg(windows(), at(36)).is_nan());
        assert!(meter.max(windows(), at(36)).is_nan());
    }

    #[test]
    fn a_rate_counts_at_least_all_windows_but_the_last() {
        let meter = recorded(&[(0, 30.0)]);
        assert_eq!(meter.rate(windows(), at(0)), 3.0);
        assert_eq!(meter.rate(windows(), at(5)), 2.0);
        let meter = recorded(&[(0, 30.0), (12, 15.0)]);
        assert_eq!(meter.rate(windows(), at(15)), 3.0);
        assert_eq!(meter.count_rate(windows(), at(20)), 1.0 / 18.0);
        assert_eq!(Meter::default().rate(windows(), at(9)), 0.0);
    }

    #[test]
    fn an_overlapping_sample_counts_whole() {
        // It began 25 s ago and got its last value 16 s ago.
        let meter = recorded(&[(0, 1.0), (9, 1.0), (10, 1.0), (20, 1.0)]);
        assert_eq!(meter.avg(windows(), at(25)), 1.0);
        assert_eq!(meter.rate(windows(), at(25)), 4.0 / 25.0);
    }

    #[test]
    fn few_samples_are_kept_however_many_are_wanted() {
        let greedy = Windows::new(usize::MAX, Duration::ZERO);
        let mut meter = Meter::default();
        for second in 0..2 * SAMPLES_MAX as u64 {
            meter.record(1.0, greedy, at(second));
        }
        assert_eq!(meter.samples.len(), SAMPLES_MAX);
    }
}
