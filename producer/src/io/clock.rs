//! The clock, read at the edge and handed inwards as a number.
//!
//! Two clocks: the engine's, which never goes back, and the wall clock that timestamps records.
//! Reading either costs more than appending a record, so records read the *coarse* wall clock: an
//! atomic that whoever opens a batch and the driver keep fresh.
//!
//! *Invariants*
//! 1. The record that opens a batch bears the exact time; a later one is at most
//!    [`TICK`] late, as the driver ticks while records wait in a queue.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::time::Instant;

/// How often the driver refreshes the coarse clock while records wait.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// A producer's clocks.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
    wall_ms: AtomicI64,
}

impl Clock {
    /// Clocks whose engine time starts now.
    pub(crate) fn start() -> Self {
        let clock = Self {
            origin: tokio::time::Instant::now(),
            wall_ms: AtomicI64::new(0),
        };
        clock.refresh_wall();
        clock
    }

    /// The engine's time.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// When an engine time is, for a timer; `None` when it is beyond the end of time.
    pub(crate) fn timer_at(&self, at: Instant) -> Option<tokio::time::Instant> {
        let since_origin = Duration::from_nanos(at.as_nanos());
        self.origin.checked_add(since_origin)
    }

    /// The wall clock as last read, in milliseconds since 1970.
    pub(crate) fn coarse_wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    /// Reads the wall clock, in milliseconds since 1970; 0 for a clock set before.
    pub(crate) fn refresh_wall(&self) -> i64 {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
        wall_ms
    }
}
