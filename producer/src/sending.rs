//! A record on its way from the caller's hands: the future of `Topic::send`.
//!
//! Written by hand, since the compiler's own moves the record into itself and the result out of
//! itself, and these moves cost as much as appending.
//!
//! *State*
//! ```text
//!                     accepted at once
//!   new ─────────────────────────────────────────▶ done
//!    └── must wait, or is refused ──▶ waiting ──────▲
//! ```
//!
//! *Invariants*
//! 1. Nothing happens before the first poll.
//! 2. A record is handed over at most once, however often this is polled.
//!
//! *Not here*: how a record is accepted (`handle.rs`).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::delivery::Delivery;
use crate::produce_error::ProduceError;
use crate::record::Record;
use crate::topic::Topic;

/// What a caller awaits until its record is accepted.
pub(crate) struct Sending<'a> {
    topic: &'a Topic,
    record: Record<'a>,
    state: State<'a>,
}

enum State<'a> {
    New,
    /// On the heap, so that a send that need not wait stays small.
    Waiting(Waiting<'a>),
    Done,
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Accepted> + Send + 'a>>;
type Accepted = Result<Delivery, ProduceError>;

impl<'a> Sending<'a> {
    #[inline]
    pub(crate) fn new(topic: &'a Topic, record: Record<'a>) -> Self {
        Self {
            topic,
            record,
            state: State::New,
        }
    }

    /// Once per batch, and by whoever waits.
    #[cold]
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Accepted> {
        if let State::New = self.state {
            let record = std::mem::take(&mut self.record);
            self.state = State::Waiting(Box::pin(self.topic.accept(record)));
        }
        let State::Waiting(waiting) = &mut self.state else {
            // As every async function says it.
            panic!("a send was polled after it was ready");
        };
        let accepted = waiting.as_mut().poll(cx);
        if accepted.is_ready() {
            self.state = State::Done;
        }
        accepted
    }
}

impl Future for Sending<'_> {
    type Output = Accepted;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Accepted> {
        let this = self.get_mut();
        if let State::New = this.state
            && let Some(delivery) = this.topic.accept_now(&this.record)
        {
            this.state = State::Done;
            return Poll::Ready(Ok(delivery));
        }
        // Taken apart and put together again, so that a record accepted at once has its delivery in
        // registers.
        match this.poll_slowly(cx) {
            Poll::Ready(Ok(delivery)) => Poll::Ready(Ok(delivery.rebuilt())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}
