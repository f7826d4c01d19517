//! Where callers ask for what transactions do, and the driver answers.
//!
//! *State* of an ask
//! ```text
//!   posted ──▶ answered: by the driver, once         (or never, when the producer has ended)
//! ```
//!
//! *Invariants*
//! 1. An answer stands: whoever gave up waiting may look again, and finds the same.
//! 2. Whether records are taken is decided by the slots' gates; what stands here says why not.
//!
//! *Not here*: what may be asked when (`engine/transaction.rs`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::engine::transaction::{Ask, AskId, Denied, Doors};
use crate::error::Failure;

/// What is shared about the transactions of a producer.
#[derive(Debug)]
pub(crate) struct Desk {
    next_ask: AtomicU64,
    doors: Mutex<Doors>,
}

/// An ask's answer, once it has come.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    answer: OnceLock<Result<(), Denied>>,
    answered: Notify,
}

/// What a caller posts.
#[derive(Debug)]
pub(crate) enum Order {
    /// An ask, and where its answer goes, if anyone waits for one.
    Ask(AskId, Ask, Option<Arc<Reply>>),
    /// A record was refused before it was queued, with the reason.
    RecordRefused(Arc<str>),
}

impl Desk {
    /// A new producer's.
    pub(crate) fn new() -> Self {
        Self {
            next_ask: AtomicU64::new(1),
            doors: Mutex::new(Doors::Shut(None)),
        }
    }

    /// A number that no ask has had.
    pub(crate) fn number(&self) -> AskId {
        AskId(self.next_ask.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn set_doors(&self, doors: Doors) {
        // One assignment: a panic elsewhere leaves it whole.
        *self.doors.lock().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    /// Why no records are taken, if none are; the reason is what failed the open transaction.
    pub(crate) fn why_shut(&self) -> Option<Option<Failure>> {
        match &*self.doors.lock().unwrap_or_else(PoisonError::into_inner) {
            Doors::Open => None,
            Doors::Shut(failure) => Some(failure.clone()),
        }
    }
}

impl Reply {
    /// Fixes the answer and wakes who waits; the first one stands.
    pub(crate) fn settle(&self, answer: Result<(), Denied>) {
        let _first = self.answer.set(answer);
        self.answered.notify_waiters();
    }

    /// The answer, if it has come.
    pub(crate) fn peek(&self) -> Option<Result<(), Denied>> {
        self.answer.get().cloned()
    }

    /// Waits for the answer.
    pub(crate) async fn wait(&self) -> Result<(), Denied> {
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            // Answered in between? Then nobody notifies any more.
            if let Some(answer) = self.peek() {
                return answer;
            }
            answered.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn an_answer_stands_and_wakes_who_waits() {
        let reply = Reply::default();
        let mut waiting = std::pin::pin!(reply.wait());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Pending);
        reply.settle(Ok(()));
        reply.settle(Err(Denied::Misuse(
            crate::engine::transaction::Misuse::NotInitialised,
        )));
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        assert_eq!(reply.peek(), Some(Ok(())));
    }

    #[test]
    fn no_two_asks_have_one_number() {
        let desk = Desk::new();
        assert_ne!(desk.number(), desk.number());
    }
}
