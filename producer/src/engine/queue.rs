//! One partition's queue: the open batch and the sealed ones before it.
//!
//! *State*
//! ```text
//!                 append_opening                    append: full
//!   empty ───────────────────────▶ open ───────────────────────────▶ sealed only
//!     ▲                             │  ▲    append_opening              │
//!     │          take (seals)       │  └────────────────────────────────┘
//!     └─────────────────────────────┘        take: oldest sealed first
//! ```
//!
//! *Invariants*
//! 1. Batches leave in the order in which they were opened; records keep the order of their calls.
//! 2. At most one batch is open, and it is the youngest.
//! 3. [`PartitionQueue::append`] allocates nothing and reads no clock.
//! 4. Each batch is noticed when it opens or fills: at most twice.
//!
//! *Source*: Kafka's `RecordAccumulator.append` (KIP-480, KIP-794 change who calls, not this).
//!
//! *Not here*: locks, memory, waking (`io/accumulator.rs`); when a batch is due (`drain.rs`).

use std::collections::VecDeque;

use crate::engine::batch::OpenBatch;
pub use crate::engine::batch::{NewBatch, SealedBatch};
use crate::engine::effect::QueueState;
pub use crate::wire::record_batch::{HeaderView, RecordView, single_record_batch_bytes};

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// `batch.size`: a batch's largest size on the wire in bytes, unless its first record alone is
    /// larger. At 0 every record is a batch of its own.
    pub batch_bytes: usize,
}

/// Where a record went, and what the driver must hear of it.
#[derive(Clone, Debug)]
pub struct Appended<C> {
    /// The handle of the batch.
    pub completion: C,
    /// The record's index in the batch.
    pub index: u32,
    /// What changed for the driver.
    pub notice: Notice,
}

/// What the driver must hear of an append, as [`crate::engine::effect::Input::Queued`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing: the batch was known and has room left.
    None,
    /// A batch was opened, and the one before it sealed if there was one open.
    Opened,
    /// The record filled its batch, which is sealed now.
    Filled,
}

/// No batch is open, or the record does not fit into it: open one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The records of one partition that were not taken yet.
#[derive(Debug)]
pub struct PartitionQueue<C> {
    limits: QueueLimits,
    open: Option<OpenBatch<C>>,
    sealed: VecDeque<SealedBatch<C>>,
}

impl<C: Clone> PartitionQueue<C> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            open: None,
            sealed: VecDeque::new(),
        }
    }

    /// Encodes the record into the open batch.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when no batch is open or the record does not fit; the queue is unchanged.
    pub fn append(&mut self, record: &RecordView<'_>) -> Result<Appended<C>, NoRoom> {
        let open = self.open.as_mut().ok_or(NoRoom)?;
        let index = open.append(record).ok_or(NoRoom)?;
        let completion = open.completion().clone();
        let notice = if self.seal_if_full() {
            Notice::Filled
        } else {
            Notice::None
        };
        Ok(Appended {
            completion,
            index,
            notice,
        })
    }

    /// Seals what is open, opens a batch in the given buffer and appends the record to it.
    pub fn append_opening(&mut self, record: &RecordView<'_>, batch: NewBatch<C>) -> Appended<C> {
        self.seal_open();
        let completion = batch.completion.clone();
        self.open = Some(OpenBatch::open(batch, record, self.limits.batch_bytes));
        let notice = if self.seal_if_full() {
            Notice::Filled
        } else {
            Notice::Opened
        };
        Appended {
            completion,
            index: 0,
            notice,
        }
    }

    /// Seals what is open, so that the next record opens a batch; [`Notice::Filled`] if there was
    /// any.
    pub fn seal(&mut self) -> Notice {
        let was_open = self.open.is_some();
        self.seal_open();
        if was_open {
            Notice::Filled
        } else {
            Notice::None
        }
    }

    /// What waits here.
    #[must_use]
    pub fn state(&self) -> QueueState {
        let sealed = self
            .sealed
            .front()
            .map(|batch| (batch.opened_at(), batch.bytes()));
        let oldest = sealed.or_else(|| {
            self.open
                .as_ref()
                .map(|open| (open.opened_at(), open.bytes()))
        });
        QueueState {
            oldest_opened_at: oldest.map(|(opened_at, _)| opened_at),
            oldest_bytes: oldest.map_or(0, |(_, bytes)| bytes),
            sealed_count: self.sealed.len(),
        }
    }

    /// Takes the oldest batch; the open one is sealed for it when none is sealed.
    pub fn take(&mut self) -> Option<SealedBatch<C>> {
        self.sealed
            .pop_front()
            .or_else(|| self.open.take().map(OpenBatch::seal))
    }

    fn seal_if_full(&mut self) -> bool {
        let full = self.open.as_ref().is_some_and(OpenBatch::is_full);
        if full {
            self.seal_open();
        }
        full
    }

    fn seal_open(&mut self) {
        if let Some(open) = self.open.take() {
            self.sealed.push_back(open.seal());
        }
    }
}
