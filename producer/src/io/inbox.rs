//! What producers and threads that compress tell the driver, and how it is woken.
//!
//! Callers post under one short lock, once per batch; the driver takes everything at once. It
//! leaves its waker only when it goes to sleep, so that a busy driver is never woken.
//!
//! *Invariants*
//! 1. Nothing posted is lost: what comes after the driver looked finds its waker.
//! 2. Posting wakes at most once per sleep.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::engine::effect::CompressionId;
use crate::types::{TopicIndex, TopicPartition};
use crate::wire::compression::CompressedBatch;

/// The driver's post box.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    posted: Posted,
    sleeper: Option<Waker>,
}

/// What was posted since the driver last looked.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    /// Topics used for the first time.
    pub(crate) wanted: Vec<(TopicIndex, Arc<str>)>,
    /// Queues in which a batch was opened or filled.
    pub(crate) queued: Vec<TopicPartition>,
    /// Batches that were compressed.
    pub(crate) compressed: Vec<(CompressionId, CompressedBatch)>,
    /// Whether all that is queued is due now.
    pub(crate) drain: Drain,
    /// Whether the producer is to end.
    pub(crate) end: End,
}

/// Whether all that is queued is due now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Each batch when it is due.
    #[default]
    WhenDue,
    /// Somebody flushes or waits for memory.
    Now,
}

/// Whether the producer is to end; a later variant overrules an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It goes on.
    #[default]
    No,
    /// When all that was accepted is settled.
    WhenSettled,
    /// At once: what is not settled is given up.
    Now,
}

impl Posted {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            wanted,
            queued,
            compressed,
            drain,
            end,
        } = self;
        let nothing = wanted.is_empty() && queued.is_empty() && compressed.is_empty();
        nothing && *drain == Drain::WhenDue && *end == End::No
    }

    fn clear(&mut self) {
        self.wanted.clear();
        self.queued.clear();
        self.compressed.clear();
        self.drain = Drain::WhenDue;
        self.end = End::No;
    }
}

impl Inbox {
    /// Asks to learn about a topic.
    pub(crate) fn post_wanted(&self, topic: TopicIndex, name: Arc<str>) {
        self.post(|posted| posted.wanted.push((topic, name)));
    }

    /// Tells of a batch opened or filled.
    pub(crate) fn post_queued(&self, partition: TopicPartition) {
        self.post(|posted| posted.queued.push(partition));
    }

    /// Brings back a batch that was compressed.
    pub(crate) fn post_compressed(&self, id: CompressionId, batch: CompressedBatch) {
        self.post(|posted| posted.compressed.push((id, batch)));
    }

    /// Asks to send what is queued, due or not.
    pub(crate) fn post_drain(&self) {
        self.post(|posted| posted.drain = Drain::Now);
    }

    /// Asks to end.
    pub(crate) fn post_end(&self, end: End) {
        self.post(|posted| posted.end = posted.end.max(end));
    }

    /// Swaps what was posted for `taken`, emptied; leaves the waker when nothing was.
    pub(crate) fn take(&self, taken: &mut Posted, cx: &mut Context<'_>) {
        taken.clear();
        let mut state = self.lock();
        mem::swap(&mut state.posted, taken);
        if taken.is_empty() {
            match &mut state.sleeper {
                Some(sleeper) => sleeper.clone_from(cx.waker()),
                None => state.sleeper = Some(cx.waker().clone()),
            }
        }
    }

    fn post(&self, put: impl FnOnce(&mut Posted)) {
        let mut state = self.lock();
        put(&mut state.posted);
        let sleeper = state.sleeper.take();
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each post is whole or absent: a panic in between leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const PARTITION: TopicPartition = TopicPartition {
        topic: TopicIndex(0),
        partition: 3,
    };

    #[test]
    fn a_sleeping_driver_is_woken_once_and_a_busy_one_never() {
        let (inbox, count) = (Inbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut taken = Posted::default();
        let mut look = || inbox.take(&mut taken, &mut Context::from_waker(&waker));
        look();
        inbox.post_queued(PARTITION);
        inbox.post_queued(PARTITION);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        look();
        inbox.post_drain();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "it was not asleep");
        look();
        assert_eq!(taken.drain, Drain::Now);
        assert!(taken.queued.is_empty(), "each post is taken once");
    }

    #[test]
    fn giving_up_overrules_waiting() {
        let inbox = Inbox::default();
        inbox.post_end(End::Now);
        inbox.post_end(End::WhenSettled);
        let mut taken = Posted::default();
        inbox.take(&mut taken, &mut Context::from_waker(Waker::noop()));
        assert_eq!(taken.end, End::Now);
    }
}
