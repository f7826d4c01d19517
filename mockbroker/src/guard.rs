//! The guard of an installed fault rule: what it did, waiting for it, its end.
//!
//! *Invariants*
//! 1. The rule goes when the guard is dropped, unless it was kept or is another's.
//! 2. A guard outlives the cluster without harm: nothing happens any more, so a wait for more hits
//!    ends by its time-out alone.
//!
//! *Not here*: what a rule means (`fault.rs`).

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, Thread};
use std::time::Instant;

use crate::fault::{RuleId, SeenRequest};
use crate::io::driver::Driver;

/// An installed fault rule: it goes when this is dropped.
#[derive(Debug)]
pub struct FaultGuard {
    driver: Arc<Driver>,
    id: RuleId,
    kept: bool,
}

impl FaultGuard {
    pub(crate) const fn new(driver: Arc<Driver>, id: RuleId) -> Self {
        Self {
            driver,
            id,
            kept: false,
        }
    }

    /// A guard whose drop leaves the rule.
    pub(crate) const fn lasting(driver: Arc<Driver>, id: RuleId) -> Self {
        Self {
            driver,
            id,
            kept: true,
        }
    }

    /// The rule's number: in the journal, and where the cluster is controlled over HTTP.
    #[must_use]
    pub const fn id(&self) -> RuleId {
        self.id
    }

    /// How many requests the rule has acted on.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.driver.with(|engine, _| engine.rules().hits(self.id))
    }

    /// The requests that the rule has acted on, oldest first: the first 100 of them, and of their
    /// bytes the first 16 MiB. What [`hits`](Self::hits) counts beyond is not shown.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.driver
            .with(|engine, _| engine.rules().seen(self.id).to_vec())
    }

    /// Waits until the rule has acted on at least this many requests.
    ///
    /// # Cancellation
    ///
    /// Safe: it only looks.
    pub async fn wait_for_hits(&self, hits: u64) {
        let mut news = self.driver.hits();
        while self.hits() < hits {
            // The sender lives in the driver that this guard holds.
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// [`wait_for_hits`](Self::wait_for_hits) for a plain thread: blocks it, for `timeout` at most,
    /// by the clock of the machine, and says whether the rule has acted so often.
    ///
    /// A cluster in memory needs its runtime to go on meanwhile, so it must be another thread's.
    #[must_use]
    pub fn wait_for_hits_blocking(&self, hits: u64, timeout: Duration) -> bool {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut wait = pin!(self.wait_for_hits(hits));
        let start = Instant::now();
        loop {
            if let Poll::Ready(()) = wait.as_mut().poll(&mut context) {
                return self.hits() >= hits;
            }
            match timeout.checked_sub(start.elapsed()) {
                Some(rest) if !rest.is_zero() => thread::park_timeout(rest),
                _ => return false,
            }
        }
    }

    /// Leaves the rule installed for the life of the cluster.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        if !self.kept {
            self.driver
                .with(|engine, _| engine.rules_mut().remove(self.id));
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
