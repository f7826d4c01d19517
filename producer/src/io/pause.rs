//! The pause of who fills a queue faster than it empties.
//!
//! What waits to be sent is fetched by the processor once more when its turn comes: from a cache
//! while there is little of it, from memory once a fast caller has filled all of `buffer.memory`,
//! and then a record costs a third more. So a send that would open a batch in a *deep* queue waits
//! until half of it was taken. Nobody is refused for it, and nobody waits for a broker.
//!
//! *Invariants*
//! 1. A send pauses once at most, before it waits for anything else, and until the driver's next
//!    tick at the latest.
//! 2. Only where batches are taken does it pause: a queue of which none was since the tick before
//!    the last takes records at once, up to `buffer.memory`.
//!
//! *Source*: ours.
//!
//! *Not here*: waiting for memory (`memory.rs`), which may take as long as the broker does.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use crate::io::load::Load;

/// Who pauses, and the driver's ticks.
#[derive(Debug)]
pub(crate) struct Pauses {
    over: Notify,
    tick: AtomicU32,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            over: Notify::new(),
            // A queue that was never taken from says 0, and that was not just now.
            tick: AtomicU32::new(2),
        }
    }
}

impl Pauses {
    /// From how many batches on a queue is deep, where its topic has so many of them.
    pub(crate) fn deep(batch_bytes: usize, partitions: usize) -> u32 {
        let queue_bytes = DEEP_TOPIC_BYTES / partitions.max(1);
        let batches = u32::try_from(queue_bytes / batch_bytes.max(1)).unwrap_or(u32::MAX);
        batches.max(DEEP_BATCHES_MIN)
    }

    /// Whether a send that would open a batch in this queue has to pause.
    pub(crate) fn is_due(&self, load: &Load, deep: u32) -> bool {
        load.batches() >= deep && load.is_emptied(self.tick.load(Ordering::Relaxed))
    }

    /// Waits until half of a deep queue was taken, or the driver ticks.
    pub(crate) async fn pause(&self, load: &Load, deep: u32) {
        let mut over = pin!(self.over.notified());
        over.as_mut().enable();
        load.await_batches(deep / 2);
        // Said before this looks, so that whoever takes the last of that half sees that somebody
        // waits; what two threads miss of each other here, the tick ends.
        if self.is_due(load, deep) {
            over.await;
        }
    }

    /// A batch was taken from this queue.
    pub(crate) fn on_taken(&self, load: &Load) {
        if load.on_emptied(self.tick.load(Ordering::Relaxed)) {
            self.end();
        }
    }

    /// A millisecond or more has passed: whoever pauses looks again.
    pub(crate) fn tick(&self) {
        self.tick.fetch_add(1, Ordering::Relaxed);
        self.end();
    }

    /// Lets all go on.
    pub(crate) fn end(&self) {
        self.over.notify_waiters();
    }
}

/// What the queues of a topic hold together when all of them are deep, in bytes.
const DEEP_TOPIC_BYTES: usize = 4 << 20;

/// However large batches are: one is taken, one waits its turn, one fills.
const DEEP_BATCHES_MIN: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    const DEEP: u32 = 8;

    fn poll<F: Future>(pause: Pin<&mut F>) -> Poll<F::Output> {
        pause.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A queue of so many batches, one of which was taken just now.
    fn moving(pauses: &Pauses, batches: usize) -> Load {
        let load = Load::default();
        pauses.on_taken(&load);
        load.set(batches, None);
        load
    }

    #[rstest]
    #[case::default(16_384, 6, 42)]
    #[case::one_partition(16_384, 1, 256)]
    #[case::large_batches(1 << 20, 6, 3)]
    #[case::many_partitions(16_384, 1_000, 3)]
    #[case::batch_size_0(0, 1, 4 << 20)]
    fn a_queue_is_deep_by_its_share_of_the_topic(
        #[case] batch_bytes: usize,
        #[case] partitions: usize,
        #[case] batches: u32,
    ) {
        assert_eq!(Pauses::deep(batch_bytes, partitions), batches);
    }

    #[test]
    fn only_a_deep_queue_from_which_batches_are_taken_has_a_send_pause() {
        let pauses = Pauses::default();
        let load = moving(&pauses, 8);
        assert!(pauses.is_due(&load, DEEP));
        load.set(7, None);
        assert!(!pauses.is_due(&load, DEEP), "not deep");
        load.set(8, None);
        pauses.tick();
        assert!(pauses.is_due(&load, DEEP), "taken from in the tick before");
        pauses.tick();
        assert!(!pauses.is_due(&load, DEEP), "nobody takes");
        let never_taken = Load::default();
        never_taken.set(8, None);
        assert!(!Pauses::default().is_due(&never_taken, DEEP));
    }

    #[test]
    fn a_pause_is_over_when_half_of_the_queue_was_taken() {
        let pauses = Pauses::default();
        let load = moving(&pauses, 8);
        let mut pause = pin!(pauses.pause(&load, DEEP));
        assert_eq!(poll(pause.as_mut()), Poll::Pending);
        load.set(5, None);
        pauses.on_taken(&load);
        assert_eq!(poll(pause.as_mut()), Poll::Pending);
        load.set(4, None);
        pauses.on_taken(&load);
        assert_eq!(poll(pause.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn a_pause_is_over_at_the_next_tick_whatever_was_taken() {
        let pauses = Pauses::default();
        let load = moving(&pauses, 8);
        let mut pause = pin!(pauses.pause(&load, DEEP));
        assert_eq!(poll(pause.as_mut()), Poll::Pending);
        pauses.tick();
        assert_eq!(poll(pause.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn who_finds_the_queue_emptied_meanwhile_goes_on() {
        let pauses = Pauses::default();
        let load = moving(&pauses, 4);
        let pause = pin!(pauses.pause(&load, DEEP));
        assert_eq!(poll(pause), Poll::Ready(()));
    }
}
