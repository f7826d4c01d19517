//! What producers and threads that compress tell the driver, and how it is woken.
//!
//! Callers post under one short lock, once per batch; the driver takes everything at once. It
//! leaves its waker only when it goes to sleep, so that a busy driver is never woken. What it
//! could do nothing about yet does not wake it either: it says how it sleeps.
//!
//! *State*
//! ```text
//!            take: nothing there         fall_asleep
//!   awake ────────────────────────▶ dozing ─────────▶ asleep
//!     ▲                               │ any post        │ a post that matters
//!     └───────────────────────────────┴─────────────────┘
//! ```
//!
//! *Invariants*
//! 1. Nothing posted is lost: what comes after the driver looked finds its waker.
//! 2. Posting wakes at most once per sleep.
//! 3. A post that does not wake is one that the driver wakes for in time by itself.

use std::mem;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Waker};

use parking_lot::{Mutex, MutexGuard};

use crate::engine::effect::CompressionId;
use crate::engine::time::Instant;
use crate::io::desk::Order;
use crate::io::shared_driver::SharedDriver;
use crate::types::{TopicIndex, TopicPartition};
use crate::wire::compression::CompressedBatch;

/// The driver's post box.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    driver: OnceLock<Weak<SharedDriver>>,
}

#[derive(Debug, Default)]
struct State {
    posted: Posted,
    /// What was sealed since the driver last looked, in bytes.
    sealed_bytes: usize,
    sleeper: Option<Waker>,
    sleep: Sleep,
}

/// How the driver sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleep {
    /// When it wakes by itself.
    pub(crate) until: Option<Instant>,
    /// How many bytes of sealed batches wake it.
    pub(crate) lacking_bytes: usize,
    /// Whether whoever would wake it may poll it instead.
    pub(crate) lends_itself: bool,
}

impl Sleep {
    /// Anything wakes it.
    const LIGHT: Self = Self {
        until: None,
        lacking_bytes: 0,
        lends_itself: false,
    };
}

impl Default for Sleep {
    fn default() -> Self {
        Self::LIGHT
    }
}

/// What happened to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// Whose queue.
    pub(crate) partition: TopicPartition,
    /// What was sealed, in bytes.
    pub(crate) sealed_bytes: usize,
    /// When the batch that was opened or filled is due, at the latest.
    pub(crate) due_at: Instant,
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
    /// What transactions are asked for, in order.
    pub(crate) orders: Vec<Order>,
    /// What of that which is queued is due now.
    pub(crate) drain: Drain,
    /// Whether the producer is to end.
    pub(crate) end: End,
}

/// What is due now; a later variant overrules an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Drain {
    /// Each batch when it is due.
    #[default]
    WhenDue,
    /// All that is sealed: somebody awaits a record.
    Sealed,
    /// Everything: somebody flushes or waits for memory.
    All,
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
            orders,
            drain,
            end,
        } = self;
        let nothing = wanted.is_empty() && queued.is_empty() && compressed.is_empty();
        nothing && orders.is_empty() && *drain == Drain::WhenDue && *end == End::No
    }

    fn clear(&mut self) {
        self.wanted.clear();
        self.queued.clear();
        self.compressed.clear();
        self.orders.clear();
        self.drain = Drain::WhenDue;
        self.end = End::No;
    }
}

impl Inbox {
    /// Lets callers reach the driver.
    pub(crate) fn lend(&self, driver: &Arc<SharedDriver>) {
        // There is one driver.
        let _ = self.driver.set(Arc::downgrade(driver));
    }

    /// Looks at the socket in the driver's place; see [`SharedDriver::look_until`].
    pub(crate) fn look_until(&self, is_settled: impl Fn() -> bool) -> bool {
        self.driver()
            .is_some_and(|driver| driver.look_until(is_settled))
    }

    /// Asks to learn about a topic.
    pub(crate) fn post_wanted(&self, topic: TopicIndex, name: Arc<str>) {
        self.post(|posted| posted.wanted.push((topic, name)));
    }

    /// Tells of a batch opened or filled; wakes the driver if it would sleep too long.
    pub(crate) fn post_queued(&self, news: News) {
        let mut state = self.lock();
        state.posted.queued.push(news.partition);
        state.sealed_bytes = state.sealed_bytes.saturating_add(news.sealed_bytes);
        let enough = news.sealed_bytes > 0 && state.sealed_bytes >= state.sleep.lacking_bytes;
        let in_time = state.sleep.until.is_some_and(|until| until <= news.due_at);
        if enough || !in_time {
            self.rouse(state);
        }
    }

    /// Brings back a batch that was compressed.
    pub(crate) fn post_compressed(&self, id: CompressionId, batch: CompressedBatch) {
        self.post(|posted| posted.compressed.push((id, batch)));
    }

    /// Asks something of transactions.
    pub(crate) fn post_order(&self, order: Order) {
        self.post(|posted| posted.orders.push(order));
    }

    /// Asks to send what is queued, due or not.
    pub(crate) fn post_drain(&self, drain: Drain) {
        let mut state = self.lock();
        state.posted.drain = state.posted.drain.max(drain);
        self.rouse(state);
    }

    /// Asks to end.
    pub(crate) fn post_end(&self, end: End) {
        self.post(|posted| posted.end = posted.end.max(end));
    }

    /// Swaps what was posted for `taken`, emptied; leaves the waker when nothing was, for anything
    /// to wake it.
    pub(crate) fn take(&self, taken: &mut Posted, cx: &mut Context<'_>) {
        taken.clear();
        let mut state = self.lock();
        mem::swap(&mut state.posted, taken);
        state.sealed_bytes = 0;
        state.sleep = Sleep::LIGHT;
        if taken.is_empty() {
            match &mut state.sleeper {
                Some(sleeper) => sleeper.clone_from(cx.waker()),
                None => state.sleeper = Some(cx.waker().clone()),
            }
        }
    }

    /// From here on only what matters wakes the driver. Whether it does already, it says itself.
    pub(crate) fn fall_asleep(&self, sleep: Sleep) {
        let mut state = self.lock();
        if state.sleeper.is_some() {
            state.sleep = sleep;
        }
    }

    fn post(&self, put: impl FnOnce(&mut Posted)) {
        let mut state = self.lock();
        put(&mut state.posted);
        Self::wake(state);
    }

    /// Wakes the driver, or goes its round for it: for callers, who wait anyway.
    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        let here = state.sleep.lends_itself && state.sealed_bytes <= HERE_BYTES_MAX;
        let sleeper = state.sleeper.take();
        drop(state);
        let Some(sleeper) = sleeper else {
            return;
        };
        let driver = self.driver().filter(|_| here);
        if !driver.is_some_and(|driver| driver.poll_here()) {
            sleeper.wake();
        }
    }

    fn driver(&self) -> Option<Arc<SharedDriver>> {
        self.driver.get()?.upgrade()
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let sleeper = state.sleeper.take();
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each post is whole or absent: a panic in between leaves nothing half done.
        self.state.lock()
    }
}

/// More is sent by the driver's own thread, while the caller goes on.
const HERE_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
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

    fn news(sealed_bytes: usize, due_at: u64) -> News {
        News {
            partition: PARTITION,
            sealed_bytes,
            due_at: Instant::from_nanos(due_at),
        }
    }

    #[test]
    fn a_sleeping_driver_is_woken_once_and_a_busy_one_never() {
        let (inbox, count) = (Inbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut taken = Posted::default();
        let mut look = || inbox.take(&mut taken, &mut Context::from_waker(&waker));
        look();
        inbox.post_queued(news(0, 9));
        inbox.post_queued(news(0, 9));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        look();
        inbox.post_drain(Drain::All);
        inbox.post_drain(Drain::Sealed);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "it was not asleep");
        look();
        assert_eq!(taken.drain, Drain::All);
        assert!(taken.queued.is_empty(), "each post is taken once");
    }

    #[rstest]
    #[case::opened_and_looked_at_in_time(&[(0, 9)], 0)]
    #[case::opened_and_due_before_it_looks(&[(0, 4)], 1)]
    #[case::sealed_too_little(&[(60, 9), (39, 9)], 0)]
    #[case::sealed_enough(&[(60, 9), (40, 9)], 1)]
    fn a_driver_asleep_is_woken_by_what_matters(
        #[case] posts: &[(usize, u64)],
        #[case] woken: usize,
    ) {
        let (inbox, count) = (Inbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut taken = Posted::default();
        inbox.take(&mut taken, &mut Context::from_waker(&waker));
        inbox.fall_asleep(Sleep {
            until: Some(Instant::from_nanos(5)),
            lacking_bytes: 100,
            lends_itself: false,
        });
        for (sealed_bytes, due_at) in posts {
            inbox.post_queued(news(*sealed_bytes, *due_at));
        }
        assert_eq!(count.0.load(Ordering::Relaxed), woken);
        inbox.take(&mut taken, &mut Context::from_waker(&waker));
        assert_eq!(taken.queued.len(), posts.len(), "nothing posted is lost");
    }

    #[test]
    fn a_driver_that_looked_again_is_woken_by_anything() {
        let (inbox, count) = (Inbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut taken = Posted::default();
        let mut look = || inbox.take(&mut taken, &mut Context::from_waker(&waker));
        look();
        inbox.fall_asleep(Sleep {
            until: Some(Instant::from_nanos(5)),
            lacking_bytes: 100,
            lends_itself: false,
        });
        look();
        inbox.post_queued(news(1, 9));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    /// What came between its last look and its sleep has woken it already.
    #[test]
    fn a_driver_that_does_not_sleep_soundly_yet_is_woken_by_anything() {
        let (inbox, count) = (Inbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut taken = Posted::default();
        inbox.take(&mut taken, &mut Context::from_waker(&waker));
        inbox.post_queued(news(0, 9));
        let until = Some(Instant::from_nanos(5));
        inbox.fall_asleep(Sleep {
            until,
            lacking_bytes: 100,
            lends_itself: false,
        });
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
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
