//! What a log knows of transactions: which are open in it, which were aborted, how far the stable
//! part reaches.
//!
//! *State* of a producer's transaction in a log:
//!
//! ```text
//!        first transactional batch        marker                 watermark passes it
//! none ───────────────────────────▶ open ────────▶ ended, not stable ────────────────▶ stable
//!   ▲                                │  ▲               │
//!   └────────────────────────────────┘  └───────────────┘ truncated: the marker is gone
//!      truncated: the first batch is gone
//! ```
//!
//! *Invariants*
//! 1. Of a producer at most one transaction is open, and it begins before the marker that ends it.
//! 2. What has ended stands in the order of the markers.
//! 3. The last stable offset is never above the high watermark, nor above the first record of a
//!    transaction that is open or whose marker the watermark has not passed.
//! 4. A marker without an open transaction leaves no trace here: it ended nothing in this log.
//!
//! *Source* apache/kafka `storage/…/internals/log/{ProducerStateManager,TransactionIndex}.java`:
//! `ongoingTxns`, `unreplicatedTxns`, `lastStableOffset`, `collectAbortedTxns`.
//!
//! *Not here* whether a batch may join a transaction (`producer_state.rs`), who decides that one
//! ends (`txn_coordinator.rs`).

use std::collections::BTreeMap;

use crate::wire::batch_view::{BatchHeader, CONTROL, TRANSACTIONAL};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its records count.
    Commit,
    /// Its records are to be skipped.
    Abort,
}

/// A transaction that has ended in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
    /// The offset of its marker.
    pub marker_offset: i64,
    /// How it ended.
    pub ending: Ending,
}

/// The transactions of a log.
#[derive(Clone, Debug, Default)]
pub struct LogTransactions {
    /// The first offset of what is open, by producer id.
    open: BTreeMap<i64, i64>,
    ended: Vec<EndedTransaction>,
}

impl LogTransactions {
    /// Of a log without any.
    pub const NONE: Self = Self {
        open: BTreeMap::new(),
        ended: Vec::new(),
    };

    /// A batch was appended; a marker says how its transaction ends.
    pub fn on_append(&mut self, header: &BatchHeader, marker: Option<Ending>) {
        if !header.has(TRANSACTIONAL) || !header.has_producer_id() {
            return;
        }
        match marker {
            Some(ending) if header.has(CONTROL) => {
                if let Some(first_offset) = self.open.remove(&header.producer_id) {
                    self.ended.push(EndedTransaction {
                        producer_id: header.producer_id,
                        first_offset,
                        marker_offset: header.base_offset,
                        ending,
                    });
                }
            }
            _ => {
                let open = self.open.entry(header.producer_id);
                open.or_insert(header.base_offset);
            }
        }
    }

    /// Everything from `end` on is gone.
    pub fn truncate(&mut self, end: i64) {
        self.open.retain(|_, first_offset| *first_offset < end);
        let kept = self
            .ended
            .partition_point(|ended| ended.marker_offset < end);
        for reopened in self.ended.split_off(kept) {
            // Of a producer the first of them is the one that was open at `end`.
            if reopened.first_offset < end {
                let open = self.open.entry(reopened.producer_id);
                open.or_insert(reopened.first_offset);
            }
        }
    }

    /// The first offset of what a producer has open.
    #[must_use]
    pub fn open_since(&self, producer_id: i64) -> Option<i64> {
        self.open.get(&producer_id).copied()
    }

    /// What is open: producer ids, and where each began.
    pub fn open(&self) -> impl Iterator<Item = (i64, i64)> {
        self.open.iter().map(|(id, first)| (*id, *first))
    }

    /// The offset below which every transaction has ended, for good.
    #[must_use]
    pub fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        let unstable = self.ended.iter().rev();
        let unstable = unstable.take_while(|ended| ended.marker_offset >= high_watermark);
        let firsts = unstable.map(|ended| ended.first_offset);
        let open = self.open.values().copied();
        firsts
            .chain(open)
            .min()
            .map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// The aborted transactions with records in `from..to`: producer ids and first offsets, by
    /// where they ended.
    pub fn aborted(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> {
        let since = self
            .ended
            .partition_point(|ended| ended.marker_offset < from);
        let since = self.ended.get(since..).unwrap_or_default().iter();
        let aborted =
            since.filter(move |ended| ended.ending == Ending::Abort && ended.first_offset < to);
        aborted.map(|ended| (ended.producer_id, ended.first_offset))
    }

    /// What has ended, by where it ended.
    #[must_use]
    pub fn ended(&self) -> &[EndedTransaction] {
        &self.ended
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        for ended in &self.ended {
            assert!(ended.first_offset < ended.marker_offset, "transactions 1");
        }
        let markers = self.ended.iter().map(|ended| ended.marker_offset);
        assert!(markers.is_sorted(), "transactions 2");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log::batch_for_tests;

    const A: i64 = 7;
    const B: i64 = 9;

    fn header(producer_id: i64, base_offset: i64, flags: i16) -> BatchHeader {
        let header = batch_for_tests(base_offset, 1, 0).header;
        BatchHeader {
            producer_id,
            attributes: flags,
            ..header
        }
    }

    fn data(log: &mut LogTransactions, producer_id: i64, offset: i64) {
        log.on_append(&header(producer_id, offset, TRANSACTIONAL), None);
        log.check_invariants();
    }

    fn end(log: &mut LogTransactions, producer_id: i64, offset: i64, ending: Ending) {
        let header = header(producer_id, offset, TRANSACTIONAL | CONTROL);
        log.on_append(&header, Some(ending));
        log.check_invariants();
    }

    /// A: 0 to 3, aborted; B: 1 to 4, committed; A again: 5, open.
    fn three() -> LogTransactions {
        let mut log = LogTransactions::default();
        data(&mut log, A, 0);
        data(&mut log, B, 1);
        data(&mut log, A, 2);
        end(&mut log, A, 3, Ending::Abort);
        end(&mut log, B, 4, Ending::Commit);
        data(&mut log, A, 5);
        log
    }

    #[test]
    fn what_is_open_holds_the_stable_offset() {
        let mut log = LogTransactions::default();
        assert_eq!(log.last_stable_offset(9), 9);
        data(&mut log, A, 3);
        data(&mut log, A, 4);
        assert_eq!(log.last_stable_offset(9), 3);
        assert_eq!(log.last_stable_offset(2), 2, "the watermark is below");
        end(&mut log, A, 8, Ending::Commit);
        assert_eq!(log.last_stable_offset(8), 3, "the marker is not replicated");
        assert_eq!(log.last_stable_offset(9), 9);
    }

    #[test]
    fn the_oldest_of_several_counts() {
        let log = three();
        assert_eq!(log.last_stable_offset(3), 0);
        assert_eq!(log.last_stable_offset(4), 1);
        assert_eq!(log.last_stable_offset(6), 5);
    }

    #[test]
    fn aborted_ones_are_told_where_they_have_records() {
        let log = three();
        let aborted = |from, to| log.aborted(from, to).collect::<Vec<_>>();
        assert_eq!(aborted(0, 6), [(A, 0)]);
        assert_eq!(aborted(3, 6), [(A, 0)], "its marker is at 3");
        assert_eq!(aborted(4, 6), []);
        assert_eq!(aborted(0, 0), []);
    }

    #[test]
    fn a_marker_that_is_truncated_opens_its_transaction_again() {
        let mut log = three();
        log.truncate(4);
        assert_eq!(log.open().collect::<Vec<_>>(), [(B, 1)]);
        log.truncate(3);
        assert_eq!(log.open().collect::<Vec<_>>(), [(A, 0), (B, 1)]);
        log.truncate(1);
        assert_eq!(log.open().collect::<Vec<_>>(), [(A, 0)]);
        log.truncate(0);
        assert_eq!(log.open().count(), 0);
        log.check_invariants();
    }

    #[test]
    fn a_marker_without_a_transaction_ends_nothing() {
        let mut log = LogTransactions::default();
        end(&mut log, A, 0, Ending::Abort);
        assert_eq!(log.ended(), []);
        assert_eq!(log.last_stable_offset(1), 1);
    }
}
