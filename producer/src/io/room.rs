//! How much memory a batch gets, and when it gets more.
//!
//! A batch starts with as much as its partition's last batches came to, and grows by doubling: a
//! partition with little traffic holds little, one with much pays for growing once.
//!
//! *State* of a batch's buffer
//! ```text
//!            opened                   full, and memory is free: a larger one
//!   (none) ──────────▶ as expected ───────────────────────────────────────────▶ twice that, …
//!                         │ full, and no memory is free, or it is `batch.size`
//!                         └──────────────────────────────────────────────────▶ sealed
//! ```
//!
//! *Invariants*
//! 1. Whatever is set aside is at most all memory, so that nobody waits for more than there is.
//! 2. Nobody waits to grow: a batch that cannot is full.
//!
//! *Source*: KIP-1332; Kafka's `RecordAccumulator.append` for the size of a batch.
//!
//! *Not here*: who waits and for how long (`memory.rs`, `handle.rs`).

use crate::engine::queue::{RecordView, single_record_batch_bytes};
use crate::engine::ratio::Ratio;
use crate::io::accumulator::Accumulator;
use crate::io::completion::callback_bytes;
use crate::io::memory::Reservation;
use crate::io::outgoing::{Outgoing, Refused, TooLarge};
use crate::io::pool::size_class;
use crate::io::slot::Slot;
use crate::io::topics::TopicEntry;
use crate::wire::record_batch::HEADER_BYTES;

/// What a batch takes of memory when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// Its buffer, in bytes.
    pub(crate) buffer: usize,
    /// Its buffer and its state.
    pub(crate) all: usize,
    /// What its buffer may grow to.
    pub(crate) buffer_max: usize,
    /// What its buffer holds at least: its first record.
    buffer_min: usize,
}

impl Need {
    /// What it takes of this room, if that is enough for its first record at least.
    pub(crate) fn within(self, mut room: Reservation<'_>) -> Option<(Self, Reservation<'_>)> {
        room.shrink_to(self.all);
        let all = room.bytes();
        if all >= self.all {
            return Some((self, room));
        }
        let buffer = all.checked_sub(STATE_BYTES)?;
        (buffer >= self.buffer_min).then_some((
            Self {
                buffer,
                all,
                ..self
            },
            room,
        ))
    }
}

impl Accumulator {
    /// What a batch takes of memory that this record opens, where batches are expected to come to
    /// so many bytes.
    pub(crate) fn need_of(
        &self,
        topic: &TopicEntry,
        record: &RecordView<'_>,
        expected: usize,
    ) -> Result<Need, TooLarge> {
        let record_bytes = self.check_size(record)?;
        let memory_bytes = self.memory.bytes_max();
        let room_bytes = memory_bytes.saturating_sub(STATE_BYTES);
        let buffer_max = self.plain_bytes(topic.ratio()).min(room_bytes);
        let wanted = expected.max(START_BYTES).min(buffer_max).max(record_bytes);
        let buffer = size_class(wanted).min(room_bytes.max(record_bytes));
        Ok(Need {
            buffer,
            all: (buffer + STATE_BYTES).min(memory_bytes),
            buffer_max,
            buffer_min: record_bytes,
        })
    }

    /// What a record's callback takes, if it has one: of the room that was waited for, or of what
    /// is free.
    pub(crate) fn callback_room<'a>(
        &'a self,
        outgoing: &Outgoing<'_>,
        room: &mut Option<Reservation<'a>>,
    ) -> Result<Option<Reservation<'a>>, Refused> {
        let Some(callback) = &outgoing.callback else {
            return Ok(None);
        };
        let bytes = callback_bytes(callback).min(self.memory.bytes_max());
        let taken = match room {
            Some(room) => room.split(bytes),
            None => self.memory.try_reserve(bytes),
        };
        taken.map(Some).ok_or(Refused::NeedsRoom { bytes })
    }

    /// The smallest batch that holds a record, in bytes, if no limit is below.
    pub(crate) fn check_size(&self, record: &RecordView<'_>) -> Result<usize, TooLarge> {
        let record_bytes = single_record_batch_bytes(record);
        let limits = [
            (self.limits.request_bytes, "max.request.size"),
            (self.memory.bytes_max(), "buffer.memory"),
        ];
        for (limit_bytes, limit) in limits {
            if record_bytes > limit_bytes {
                return Err(TooLarge {
                    record_bytes,
                    limit_bytes,
                    limit,
                });
            }
        }
        Ok(record_bytes)
    }

    /// Gives the open batch of a slot a buffer of so many bytes, if they are free.
    #[cold]
    pub(crate) fn grow(&self, slot: &Slot, bytes: usize) -> bool {
        let bytes = size_class(bytes);
        let Some(mut reservation) = self.memory.try_reserve(bytes) else {
            return false;
        };
        let larger = reservation.lend(bytes);
        let smaller = slot.lock().records.exchange(larger);
        drop(smaller);
        true
    }

    /// How many bytes a batch takes before it is compressed, so that it fills when it is.
    fn plain_bytes(&self, ratio: Ratio) -> usize {
        let batch_bytes = self.limits.batch_bytes;
        if ratio == Ratio::PLAIN {
            return batch_bytes;
        }
        let records = ratio.plain(batch_bytes.saturating_sub(HEADER_BYTES));
        let plain_bytes = records.saturating_add(HEADER_BYTES);
        plain_bytes.min(self.limits.plain_bytes_max)
    }
}

/// What a partition's first batch starts with, where its first record is not larger.
const START_BYTES: usize = 512;

/// What a batch takes beside its buffer, wherever it is: its completion, its places in lists that
/// may have just grown to twice their length, its share of a request.
pub(crate) const STATE_BYTES: usize = 1_024;
