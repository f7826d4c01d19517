//! Room for what is stored in one answer.
//!
//! *Invariants*
//! 1. What is copied into an answer however often the request names it is counted here, so that
//!    no answer reaches the 2 GiB that its size can tell.
//!
//! *Deviations* Kafka has no such bound, and fails on what it cannot allocate.

use super::{Answer, Context};
use crate::engine::Cluster;

/// Bytes of stored things that one answer may repeat. More than any request needs that names each
/// thing once: a million rows of offsets without metadata fit.
const BYTES_MAX: usize = 100 << 20;

/// Bytes of a row beside what it tells.
pub(super) const ROW_BYTES: usize = 64;

/// What is left of it.
#[derive(Debug)]
pub(super) struct AnswerRoom {
    left: usize,
}

/// There is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl AnswerRoom {
    pub(super) const fn new() -> Self {
        Self { left: BYTES_MAX }
    }

    /// Takes some of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Full> {
        self.left = self.left.checked_sub(bytes).ok_or(Full)?;
        Ok(())
    }
}

impl Full {
    /// The connection closes: part of an answer would be taken for all of it.
    pub(super) fn answer(self, cluster: &mut Cluster, context: &Context) -> Answer {
        let api = context.header.api;
        let reason = format!("an answer to {api} is refused: it would repeat {BYTES_MAX} bytes");
        cluster.note(reason.clone());
        Answer::Close(reason.into())
    }
}
