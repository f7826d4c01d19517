//! Waiting with a bound, on the producer's own runtime: the caller's executor need not be tokio's.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Sleep;

/// A bound on several waits together.
#[derive(Debug)]
pub(crate) struct Patience {
    allowed: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Starts to count.
    pub(crate) fn start(runtime: &Handle, allowed: Duration) -> Self {
        let _entered = runtime.enter();
        Self {
            allowed,
            timer: Box::pin(tokio::time::sleep(allowed)),
        }
    }

    /// How long it lasts in all.
    pub(crate) fn allowed(&self) -> Duration {
        self.allowed
    }

    /// The future's output, or `None` when patience ran out first.
    pub(crate) async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = &mut self.timer => None,
        }
    }
}
