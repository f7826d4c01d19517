//! How long batches stay in each stage of their way, as histograms since the start.
//!
//! *Invariants*
//! 1. A stage counts each batch at most once, but for the answers of batches that were sent again:
//!    what counts is the attempt that succeeded.
//!
//! *Not here*: when a stage begins and ends (`engine/`).

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::report::BeforeSent;

/// The stages of a batch's way.
#[derive(Debug)]
pub(super) struct Stages {
    filling: Histogram<u64>,
    compressing: Histogram<u64>,
    ready: Histogram<u64>,
    queued: Histogram<u64>,
    answered: Histogram<u64>,
}

/// How long batches stay in each stage of their way, since the producer's start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageTimes {
    /// From the opening of a batch until it took no more records, because it was full, had
    /// lingered, or was flushed. One that was full and had no other behind it counts until it went
    /// on.
    pub filling: Spread,
    /// From there until its records were compressed, the wait for a thread included; nothing
    /// without compression.
    pub compressing: Spread,
    /// From there to its first sending: it waits for its turn, its broker, or a producer id.
    pub ready: Spread,
    /// From the opening of a batch to its first sending: the three above together.
    pub queued: Spread,
    /// From the last sending to the answer that it is written; nothing with `acks=0`.
    pub answered: Spread,
}

/// How times are spread. Each is exact to one percent, or a microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spread {
    /// How many there were.
    pub count: u64,
    /// Their mean; zero when there were none, as all below.
    pub mean: Duration,
    /// Half of them are at most this.
    pub p50: Duration,
    /// Nine of ten are at most this.
    pub p90: Duration,
    /// 99 of a hundred are at most this.
    pub p99: Duration,
    /// 999 of a thousand are at most this.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            filling: empty(),
            compressing: empty(),
            ready: empty(),
            queued: empty(),
            answered: empty(),
        }
    }
}

impl Stages {
    pub(super) fn on_sent(&mut self, waited: Duration, before: &BeforeSent) {
        record(&mut self.filling, before.filling);
        if let Some(compressing) = before.compressing {
            record(&mut self.compressing, compressing);
        }
        record(&mut self.ready, before.ready);
        record(&mut self.queued, waited);
    }

    pub(super) fn on_answered(&mut self, after: Duration) {
        record(&mut self.answered, after);
    }

    pub(super) fn times(&self) -> StageTimes {
        StageTimes {
            filling: spread(&self.filling),
            compressing: spread(&self.compressing),
            ready: spread(&self.ready),
            queued: spread(&self.queued),
            answered: spread(&self.answered),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "these bounds are constants of which the crate says that they are allowed"
)]
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, SIGNIFICANT_DIGITS).expect("allowed bounds")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(micros);
}

fn spread(histogram: &Histogram<u64>) -> Spread {
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    if histogram.is_empty() {
        return Spread::default();
    }
    Spread {
        count: histogram.len(),
        mean: Duration::from_secs_f64(histogram.mean() / 1e6),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: Duration::from_micros(histogram.max()),
    }
}

/// A quarter of an hour; what takes longer counts as this long.
const MICROS_MAX: u64 = 900_000_000;

const SIGNIFICANT_DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: BeforeSent = BeforeSent {
        filling: Duration::ZERO,
        compressing: None,
        ready: Duration::ZERO,
    };

    #[test]
    fn times_are_spread_to_one_percent() {
        let mut stages = Stages::default();
        for milli in 1..=1_000 {
            stages.on_sent(Duration::from_millis(milli), &BEFORE);
        }
        let Spread {
            count, p50, p99, ..
        } = stages.times().queued;
        assert_eq!(count, 1_000);
        for (found, expected) in [(p50, 500), (p99, 990)] {
            let off = found.as_millis().abs_diff(expected);
            assert!(off * 100 <= expected, "{found:?}, not {expected} ms");
        }
    }

    #[test]
    fn no_time_at_all_and_more_than_fits_are_counted_too() {
        let mut stages = Stages::default();
        assert_eq!(stages.times().answered, Spread::default());
        stages.on_answered(Duration::ZERO);
        stages.on_answered(Duration::MAX);
        let answered = stages.times().answered;
        assert_eq!(answered.count, 2);
        assert!(answered.max >= Duration::from_micros(MICROS_MAX));
    }
}
