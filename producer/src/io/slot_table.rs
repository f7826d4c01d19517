//! The slots of a topic's partitions, found by number without a lock and without writing anything.
//!
//! Looking up what is known of a topic (`Route`) counts its readers, in an atomic that all threads
//! write; per record that is a large part of an append. A slot, once made, stays; so the table only
//! grows, and a record that needs nothing but its slot finds it with two reads.
//!
//! *State*
//! ```text
//!             publish(slots)                  publish(fewer or more)
//!   closed ─────────────────▶ open (count) ─────────────────────────▶ open (count)
//!     ▲                           │ close
//!     └───────────────────────────┘   the slots stay
//! ```
//!
//! *Invariants*
//! 1. A number's slot never changes once it is there.
//! 2. Below the count every number has its slot.
//!
//! *Not here*: who leads a partition, and why a topic has none (`topics.rs`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::io::slot::Slot;

/// A topic's slots.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    /// How many there are now; 0 while nothing is known.
    count: AtomicUsize,
    /// Each twice as long as the one before, so that none ever moves.
    blocks: [OnceLock<Block>; BLOCKS],
}

/// Numbers in a row, each with its slot once it has one.
type Block = Box<[OnceLock<Arc<Slot>>]>;

impl SlotTable {
    /// How many partitions there are; 0 while nobody knows.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// A partition's slot.
    #[inline]
    pub(crate) fn slot(&self, partition: usize) -> Option<&Slot> {
        let (block, place) = place_of(partition);
        let slot = self.blocks.get(block)?.get()?.get(place)?.get()?;
        Some(slot)
    }

    /// From here on these are the topic's; those that were there before are the same.
    pub(crate) fn publish(&self, slots: &[Arc<Slot>]) {
        for (partition, slot) in slots.iter().enumerate() {
            let (block, place) = place_of(partition);
            let Some(block_cell) = self.blocks.get(block) else {
                break;
            };
            let block = block_cell.get_or_init(|| {
                std::iter::repeat_with(OnceLock::new)
                    .take(FIRST_BLOCK << block)
                    .collect()
            });
            if let Some(cell) = block.get(place) {
                cell.get_or_init(|| Arc::clone(slot));
            }
        }
        self.count.store(slots.len(), Ordering::Release);
    }

    /// Nothing is known any more.
    pub(crate) fn close(&self) {
        self.count.store(0, Ordering::Release);
    }
}

/// Block `n` holds `FIRST_BLOCK << n` numbers.
#[inline]
fn place_of(partition: usize) -> (usize, usize) {
    let number = partition.saturating_add(FIRST_BLOCK);
    let block = number.ilog2() - FIRST_BLOCK.ilog2();
    (block as usize, number - (FIRST_BLOCK << block))
}

const FIRST_BLOCK: usize = 8;

/// Room for all numbers that are positive 32-bit integers.
const BLOCKS: usize = 29;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::QueueLimits;
    use crate::io::slot::Gate;
    use crate::types::{TopicIndex, TopicPartition};

    fn slots(count: i32) -> Vec<Arc<Slot>> {
        let limits = QueueLimits { batch_bytes: 100 };
        let topic = TopicIndex(0);
        (0..count)
            .map(|partition| TopicPartition { topic, partition })
            .map(|partition| Arc::new(Slot::new(partition, limits, Gate::Open)))
            .collect()
    }

    fn is(found: Option<&Slot>, slot: &Arc<Slot>) -> bool {
        found.is_some_and(|found| std::ptr::eq(found, &raw const **slot))
    }

    #[test]
    fn every_number_has_its_slot_whatever_comes_later() {
        let table = SlotTable::default();
        let all = slots(1_000);
        assert_eq!((table.count(), table.slot(0).is_none()), (0, true));
        for count in [1, 7, 8, 9, 24, 25, 1_000] {
            table.publish(&all[..count]);
            assert_eq!(table.count(), count);
            let found = (0..count).filter(|&one| is(table.slot(one), &all[one]));
            assert_eq!(found.count(), count);
            assert!(table.slot(count).is_none(), "{count} was not published");
        }
        table.publish(&slots(3));
        assert_eq!(table.count(), 3);
        assert!(is(table.slot(0), &all[0]), "a slot stays the same");
    }

    #[test]
    fn a_closed_table_counts_none_and_forgets_none() {
        let table = SlotTable::default();
        let all = slots(9);
        table.publish(&all);
        table.close();
        assert_eq!(table.count(), 0);
        assert!(is(table.slot(8), &all[8]));
    }

    #[test]
    fn the_highest_number_has_a_place() {
        let (block, place) = place_of(i32::MAX as usize);
        assert!(block < BLOCKS && place < FIRST_BLOCK << block);
    }
}
