//! A partition's batches in the order of its queue, until each is completed.
//!
//! *State* of a row
//! ```text
//!          enter             finish                      poll: the first row
//!   (none) ─────▶ open ───────────────────▶ finished ─────────────────────────▶ (none)
//!                  │                            ▲
//!            split │                            │ finish: the last record
//!                  ▼                            │
//!               in parts ───────────────────────┘
//!                  └─▶ split, finish: a part
//! ```
//!
//! *Invariants*
//! 1. Rows are completed in the order in which they were entered.
//! 2. A row in parts is finished when all its records are; its parts are in their order.
//!
//! *Source*: ours; Kafka's `ProducerBatch.split` chains each record's future to its part's.
//!
//! *Not here*: where batches are meanwhile (`partition.rs`).

use std::collections::VecDeque;

use crate::engine::effect::{BatchOutcome, BatchPart};
use crate::engine::time::Instant;

/// A batch's number within its partition, in the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchNumber {
    row: u64,
    /// Of a part: the index of its first record in the whole batch.
    first: u32,
}

impl BatchNumber {
    /// The part of this batch that begins so many records later.
    pub(crate) fn part(self, records: u32) -> Self {
        Self {
            first: self.first + records,
            ..self
        }
    }

    /// Whether two are of the same row.
    pub(crate) fn is_beside(self, other: Self) -> bool {
        self.row == other.row
    }
}

/// The rows that are not completed.
#[derive(Debug)]
pub(crate) struct Ledger<C> {
    rows: VecDeque<Row<C>>,
    start: u64,
}

#[derive(Debug)]
enum Row<C> {
    Open {
        deadline: Instant,
    },
    InParts {
        deadline: Instant,
        completion: C,
        ended: Vec<BatchPart>,
        records_left: u32,
    },
    Finished {
        completion: C,
        outcome: BatchOutcome,
    },
}

impl<C> Row<C> {
    fn is_finished(&self) -> bool {
        matches!(self, Self::Finished { .. })
    }
}

/// A batch, or a part, that ends.
#[derive(Debug)]
pub(crate) struct Ended<C> {
    pub(crate) number: BatchNumber,
    /// The whole batch's handle; parts have none.
    pub(crate) completion: Option<C>,
    pub(crate) record_count: u32,
    pub(crate) outcome: BatchOutcome,
}

impl<C> Ledger<C> {
    pub(crate) fn new() -> Self {
        Self {
            rows: VecDeque::new(),
            start: 0,
        }
    }

    /// Enters a batch that must end by then.
    pub(crate) fn enter(&mut self, deadline: Instant) -> BatchNumber {
        let row = self.start + self.rows.len() as u64;
        self.rows.push_back(Row::Open { deadline });
        BatchNumber { row, first: 0 }
    }

    /// Enters a batch that has ended.
    pub(crate) fn enter_finished(&mut self, completion: C, outcome: BatchOutcome) {
        self.rows.push_back(Row::Finished {
            completion,
            outcome,
        });
    }

    /// From here on a batch of so many records ends in parts; one that is in parts already says so
    /// by having no handle.
    pub(crate) fn split(&mut self, number: BatchNumber, completion: Option<C>, records: u32) {
        let (Some(row), Some(completion)) = (self.row(number), completion) else {
            return;
        };
        if let Row::Open { deadline } = *row {
            *row = Row::InParts {
                deadline,
                completion,
                ended: Vec::new(),
                records_left: records,
            };
        }
    }

    /// Ends a batch or a part.
    pub(crate) fn finish(&mut self, end: Ended<C>) {
        let Ended {
            number,
            completion,
            record_count,
            outcome,
        } = end;
        let Some(row) = self.row(number) else { return };
        match row {
            Row::Open { .. } => {
                if let Some(completion) = completion {
                    *row = Row::Finished {
                        completion,
                        outcome,
                    };
                }
            }
            Row::InParts {
                deadline,
                ended,
                records_left,
                ..
            } => {
                let first = number.first;
                let place = ended.partition_point(|part| part.first < first);
                ended.insert(place, BatchPart { first, outcome });
                *records_left = records_left.saturating_sub(record_count);
                if *records_left == 0 {
                    let open = Row::Open {
                        deadline: *deadline,
                    };
                    let whole = core::mem::replace(row, open);
                    *row = whole.all_parts_ended();
                }
            }
            Row::Finished { .. } => {}
        }
    }

    /// The next completion in order.
    pub(crate) fn poll(&mut self) -> Option<(C, BatchOutcome)> {
        if !self.is_front_finished() {
            return None;
        }
        self.start += 1;
        match self.rows.pop_front() {
            Some(Row::Finished {
                completion,
                outcome,
            }) => Some((completion, outcome)),
            Some(Row::Open { .. } | Row::InParts { .. }) | None => None,
        }
    }

    /// Whether the first row waits to be completed.
    pub(crate) fn is_front_finished(&self) -> bool {
        self.rows.front().is_some_and(Row::is_finished)
    }

    /// When the first row must have ended. Batches are opened in order, so it is the earliest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.rows.iter().find_map(|row| match row {
            Row::Open { deadline } | Row::InParts { deadline, .. } => Some(*deadline),
            Row::Finished { .. } => None,
        })
    }

    /// When this batch, or the whole one of this part, must have ended.
    pub(crate) fn deadline_of(&self, number: BatchNumber) -> Option<Instant> {
        let index = number.row.checked_sub(self.start)?;
        match self.rows.get(usize::try_from(index).ok()?)? {
            Row::Open { deadline } | Row::InParts { deadline, .. } => Some(*deadline),
            Row::Finished { .. } => None,
        }
    }

    /// Whether what ended behind this batch may be in a log.
    pub(crate) fn is_behind_possibly_written(&self, number: BatchNumber) -> bool {
        let possibly = |end: &BatchOutcome| !matches!(end, BatchOutcome::NotWritten(_));
        let (from, rest) = (self.start, self.rows.iter());
        (from..).zip(rest).any(|(at, row)| match row {
            _ if at < number.row => false,
            Row::Open { .. } => false,
            Row::InParts { ended, .. } => ended.iter().any(|part| {
                let behind = at > number.row || part.first > number.first;
                behind && possibly(&part.outcome)
            }),
            Row::Finished { outcome, .. } => at > number.row && outcome.ends().any(possibly),
        })
    }

    /// How many rows have not ended.
    pub(crate) fn open_count(&self) -> usize {
        self.rows.iter().filter(|row| !row.is_finished()).count()
    }

    fn row(&mut self, number: BatchNumber) -> Option<&mut Row<C>> {
        let index = number.row.checked_sub(self.start)?;
        self.rows.get_mut(usize::try_from(index).ok()?)
    }
}

impl<C> Row<C> {
    fn all_parts_ended(self) -> Self {
        match self {
            Self::InParts {
                completion, ended, ..
            } => Self::Finished {
                completion,
                outcome: BatchOutcome::Parts(ended.into()),
            },
            other => other,
        }
    }
}

#[cfg(test)]
impl BatchNumber {
    /// A whole batch's.
    pub(crate) fn of_row(row: u64) -> Self {
        Self { row, first: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, FailureKind};

    const DEADLINE: Instant = Instant::from_nanos(100);

    fn written(base_offset: i64) -> BatchOutcome {
        BatchOutcome::Written {
            base_offset: Some(base_offset),
            log_append_time_ms: None,
        }
    }

    fn not_written() -> BatchOutcome {
        BatchOutcome::NotWritten(Failure::new(FailureKind::DeliveryTimedOut))
    }

    fn finish(ledger: &mut Ledger<u32>, number: BatchNumber, records: u32, outcome: BatchOutcome) {
        ledger.finish(Ended {
            number,
            completion: None,
            record_count: records,
            outcome,
        });
    }

    #[test]
    fn a_batch_in_parts_ends_with_its_last_record_and_keeps_their_order() {
        let mut ledger = Ledger::new();
        let whole = ledger.enter(DEADLINE);
        ledger.split(whole, Some(7), 5);
        let second = whole.part(2);
        ledger.split(second, None, 3);
        finish(&mut ledger, second.part(1), 2, written(13));
        finish(&mut ledger, whole, 2, written(10));
        assert_eq!((ledger.poll(), ledger.open_count()), (None, 1));
        assert_eq!(ledger.deadline(), Some(DEADLINE));
        finish(&mut ledger, second, 1, not_written());
        let Some((7, outcome)) = ledger.poll() else {
            panic!("all five records ended");
        };
        assert_eq!(outcome.of_record(1), (&written(10), 1));
        assert_eq!(outcome.of_record(2), (&not_written(), 0));
        assert_eq!(outcome.of_record(4), (&written(13), 1));
        assert_eq!(outcome.ends().count(), 3);
    }

    #[test]
    fn a_part_behind_counts_as_what_is_behind() {
        let mut ledger = Ledger::new();
        let whole = ledger.enter(DEADLINE);
        ledger.split(whole, Some(7), 2);
        assert!(!ledger.is_behind_possibly_written(whole));
        finish(&mut ledger, whole.part(1), 1, not_written());
        assert!(!ledger.is_behind_possibly_written(whole));
        let mut ledger = Ledger::new();
        let whole = ledger.enter(DEADLINE);
        ledger.split(whole, Some(7), 2);
        finish(&mut ledger, whole.part(1), 1, written(3));
        assert!(ledger.is_behind_possibly_written(whole));
        assert!(!ledger.is_behind_possibly_written(whole.part(1)));
    }
}
