//! The sticky choice: records that leave their partition open stay with one for about a batch, so
//! that batches fill.
//!
//! *Invariants*
//! 1. The choice moves between two batches, or in the middle of one that began the turn.
//! 2. Each partition with a leader is as likely as every other; while none has a leader, any is.
//!
//! *Source*: Kafka's `BuiltInPartitioner` (KIP-794), without its weights by load.
//!
//! *Not here*: counting a partition's bytes, which happens under its lock (`accumulator.rs`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A topic's sticky partition.
///
/// Read with each record, so an atomic; the lock is taken only to move.
#[derive(Debug)]
pub(crate) struct Sticky {
    current: AtomicUsize,
    rng: Mutex<fastrand::Rng>,
}

impl Sticky {
    /// No choice yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            current: AtomicUsize::new(UNCHOSEN),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// The choice among these partitions; `None` when there are none.
    pub(crate) fn current(&self, partitions_led: &[bool]) -> Option<usize> {
        let current = self.current.load(Ordering::Relaxed);
        if current < partitions_led.len() {
            return Some(current);
        }
        self.move_on(current, partitions_led);
        let current = self.current.load(Ordering::Relaxed);
        (current < partitions_led.len()).then_some(current)
    }

    /// Whether the choice is still this partition.
    pub(crate) fn is(&self, partition: usize) -> bool {
        self.current.load(Ordering::Relaxed) == partition
    }

    /// Chooses again, unless somebody already moved on from this partition.
    pub(crate) fn move_on(&self, from: usize, partitions_led: &[bool]) {
        // The generator is valid whatever panicked while it was held.
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        if self.current.load(Ordering::Relaxed) == from {
            let next = next_sticky(partitions_led, &mut rng).unwrap_or(UNCHOSEN);
            self.current.store(next, Ordering::Relaxed);
        }
    }
}

/// The next sticky partition: any of those with a leader, any at all when none has one.
fn next_sticky(partitions_led: &[bool], rng: &mut fastrand::Rng) -> Option<usize> {
    if partitions_led.is_empty() {
        return None;
    }
    let led_count = partitions_led.iter().filter(|&&led| led).count();
    if led_count == 0 {
        return Some(rng.usize(..partitions_led.len()));
    }
    let wanted = rng.usize(..led_count);
    let mut led = partitions_led.iter().enumerate().filter(|&(_, &led)| led);
    led.nth(wanted).map(|(partition, _)| partition)
}

/// How far the sticky partition's current batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// It may take more records.
    Open,
    /// It takes no more.
    Full,
}

/// Whether the sticky choice moves on after `bytes` went to its partition: at `batch.size` between
/// two batches, at twice that in any case.
///
/// Moving in the middle of a batch would leave a small one behind with each move.
pub(crate) fn moves_on(bytes: usize, batch_bytes: usize, batch: Batch) -> bool {
    // Kafka counts `batch.size=0` as 1.
    let batch_bytes = batch_bytes.max(1);
    match batch {
        Batch::Full => bytes >= batch_bytes,
        Batch::Open => bytes >= batch_bytes.saturating_mul(2),
    }
}

const UNCHOSEN: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[false, true, false, true], &[1, 3])]
    #[case(&[false, false], &[0, 1])]
    #[case(&[true], &[0])]
    fn the_sticky_choice_reaches_every_partition_with_a_leader(
        #[case] led: &[bool],
        #[case] expected: &[usize],
    ) {
        let mut rng = fastrand::Rng::with_seed(7);
        let chosen: std::collections::BTreeSet<_> = (0..200)
            .filter_map(|_| next_sticky(led, &mut rng))
            .collect();
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case(99, Batch::Full, false)]
    #[case(100, Batch::Full, true)]
    #[case(199, Batch::Open, false)]
    #[case(200, Batch::Open, true)]
    fn the_sticky_choice_moves_between_batches_or_at_twice_the_size(
        #[case] bytes: usize,
        #[case] batch: Batch,
        #[case] expected: bool,
    ) {
        assert_eq!(moves_on(bytes, 100, batch), expected);
    }

    #[test]
    fn who_moves_on_late_does_not_move_twice() {
        let sticky = Sticky::new(3);
        let led = [true; 64];
        let first = sticky.current(&led).expect("chosen");
        sticky.move_on(first, &led);
        let second = sticky.current(&led).expect("chosen");
        sticky.move_on(first, &led);
        assert_eq!(sticky.current(&led), Some(second));
    }

    #[test]
    fn a_choice_beyond_the_partitions_is_made_anew() {
        let sticky = Sticky::new(3);
        assert_eq!(sticky.current(&[]), None);
        sticky.move_on(UNCHOSEN, &[false, false, true]);
        assert_eq!(sticky.current(&[true]), Some(0));
    }
}
