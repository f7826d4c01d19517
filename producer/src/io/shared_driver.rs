//! The driver where callers can reach it: its task polls it, or a caller does in the task's place.
//!
//! Waking an idle thread takes longer than a broker on the same machine takes to answer. So who
//! posts to a driver that sleeps, with nothing on its way, goes its round for it; and who awaits
//! the only answer that is on its way looks at the socket for a moment before it sleeps.
//!
//! *State*
//! ```text
//!            poll, poll_here*                     poll: ready, or the task is dropped
//!   shared ───────────────────▶ shared   shared ────────────────────────────────────▶ gone
//! ```
//!
//! *Invariants*
//! 1. One thread at a time is in the driver, and nobody waits for it: a caller goes away, and its
//!    task leaves word, so that whoever is there polls it once more.
//! 2. However a caller leaves the driver, what it waits for next wakes its task.
//! 3. A caller runs no code of the user's: callbacks are the task's.
//! 4. A driver that panics in a caller's hands ends there, as in its task's.
//!
//! *Source*: ours.
//!
//! *Not here*: when a driver may be polled by callers (`driver.rs` says so when it sleeps), who
//! tries to (`inbox.rs`).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use crate::io::driver::Driver;

/// A driver and who wakes it.
pub(crate) struct SharedDriver {
    running: Mutex<Option<Running>>,
    /// Whether its task came and found somebody there.
    wanted: AtomicBool,
    runtime: Handle,
    /// Whether one answer is on its way, on a socket that can be looked at.
    awaits_one: AtomicBool,
    patience: Patience,
}

struct Running {
    /// On the heap, since it is moved out while a caller polls it.
    driver: Box<Driver>,
    /// Wakes its task.
    waker: Waker,
}

/// The task of a driver: it ends with it.
pub(crate) struct DriverTask(Arc<SharedDriver>);

impl SharedDriver {
    /// A driver that runs when its task is spawned on this runtime.
    pub(crate) fn new(driver: Driver, runtime: Handle) -> (Arc<Self>, DriverTask) {
        let running = Running {
            driver: Box::new(driver),
            waker: Waker::noop().clone(),
        };
        let shared = Arc::new(Self {
            running: Mutex::new(Some(running)),
            wanted: AtomicBool::new(false),
            runtime,
            awaits_one: AtomicBool::new(false),
            patience: Patience::default(),
        });
        (Arc::clone(&shared), DriverTask(shared))
    }

    /// Polls the driver in its task's place; says whether nobody else was there.
    pub(crate) fn poll_here(&self) -> bool {
        self.in_place(|driver, cx| driver.poll_in_place(cx))
            .is_some()
    }

    /// Looks at the socket until `is_settled`, for a moment and if that has been worth it; says
    /// whether it is.
    pub(crate) fn look_until(&self, is_settled: impl Fn() -> bool) -> bool {
        if !self.awaits_one.load(Ordering::Relaxed) || !self.patience.is_left() {
            return false;
        }
        for look in 1..=LOOKS_MAX {
            let _ = self.in_place(Driver::poll_arrived);
            if is_settled() {
                self.patience.on_settled();
                return true;
            }
            match look % LOOKS_ALONE {
                0 => std::thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
        self.patience.on_missed();
        false
    }

    fn in_place<T>(&self, poll: impl FnOnce(&mut Driver, &mut Context<'_>) -> T) -> Option<T> {
        let mut place = self.try_lock()?;
        let Running { mut driver, waker } = place.take()?;
        let entered = self.runtime.enter();
        let cx = &mut Context::from_waker(&waker);
        let polled = poll(&mut driver, cx);
        while self.is_wanted() {
            driver.poll_in_place(cx);
        }
        drop(entered);
        self.note(&driver);
        let task = waker.clone();
        *place = Some(Running { driver, waker });
        drop(place);
        // Its task may have come between that look and the unlocking.
        fence(Ordering::SeqCst);
        if self.is_wanted() {
            task.wake();
        }
        Some(polled)
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed)
    }

    /// The driver for its task, unless a caller is there, who then polls it once more.
    fn enter(&self) -> Option<MutexGuard<'_, Option<Running>>> {
        self.try_lock().or_else(|| {
            self.wanted.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.try_lock()
        })
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Running>>> {
        match self.running.try_lock() {
            Ok(running) => Some(running),
            // Who panicked with it had taken the driver out.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn note(&self, driver: &Driver) {
        let awaits_one = driver.awaits_one_answer();
        self.awaits_one.store(awaits_one, Ordering::Relaxed);
    }
}

impl Future for DriverTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.get_mut().0;
        let Some(mut place) = shared.enter() else {
            return Poll::Pending;
        };
        let Some(running) = &mut *place else {
            return Poll::Ready(());
        };
        running.waker.clone_from(cx.waker());
        let polled = Pin::new(&mut *running.driver).poll(cx);
        shared.note(&running.driver);
        if polled.is_ready() {
            *place = None;
        }
        polled
    }
}

impl Drop for DriverTask {
    fn drop(&mut self) {
        // A caller that is in it is soon gone.
        let place = self.0.running.lock();
        let ended = place.unwrap_or_else(PoisonError::into_inner).take();
        // Not under the lock: what it leaves behind is announced.
        drop(ended);
    }
}

/// Whether looking has been worth it: after each time in a row that it was not, but the first,
/// twice as many waiters go to sleep at once.
#[derive(Debug, Default)]
struct Patience {
    missed: AtomicU32,
    to_skip: AtomicU32,
}

impl Patience {
    fn is_left(&self) -> bool {
        // What is lost when two threads write costs a look more or less.
        let to_skip = self.to_skip.load(Ordering::Relaxed);
        self.to_skip
            .store(to_skip.saturating_sub(1), Ordering::Relaxed);
        to_skip == 0
    }

    fn on_settled(&self) {
        self.missed.store(0, Ordering::Relaxed);
    }

    fn on_missed(&self) {
        let missed = self.missed.load(Ordering::Relaxed).min(MISSED_MAX);
        self.missed.store(missed + 1, Ordering::Relaxed);
        // One alone says nothing of the next: somebody had to wait for a core.
        let to_skip = if missed == 0 { 0 } else { 1 << missed };
        self.to_skip.store(to_skip, Ordering::Relaxed);
    }
}

/// A broker that takes longer is worth a sleep. Looks, which take less than a microsecond each, are
/// counted and not timed: who lost the core for a while would give up just when it is back.
const LOOKS_MAX: u32 = 200;

/// Looks before others may run: who is to answer may have been woken on this core, and waits for it
/// as long as it is looked.
const LOOKS_ALONE: u32 = 40;

/// One waiter in 2,048 looks, if none of them saw its answer come.
const MISSED_MAX: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_halved_by_each_miss_but_the_first_and_back_with_a_success() {
        let patience = Patience::default();
        let looks = |waiters: usize| (0..waiters).filter(|_| patience.is_left()).count();
        assert_eq!(looks(5), 5);
        patience.on_missed();
        assert_eq!(looks(5), 5, "one miss is none");
        patience.on_missed();
        assert_eq!(looks(5), 3, "two go to sleep");
        patience.on_missed();
        assert_eq!(looks(5), 1, "four go to sleep");
        for _ in 0..40 {
            patience.on_missed();
        }
        assert_eq!(looks(2_048), 0);
        assert_eq!(looks(1), 1);
        patience.on_settled();
        patience.on_missed();
        assert_eq!(looks(3), 3);
    }
}
