//! What becomes of a record: a future over its batch's completion.
//!
//! *Invariants*
//! 1. A delivery is its batch's completion and the record's place in it: no allocation of its own.
//! 2. Dropping one changes nothing for the record.
//!
//! *Not here*: waking and settling (`io/completion.rs`), what an outcome is (`engine/effect.rs`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::effect::BatchOutcome;
use crate::error::{Failure, FailureKind};
use crate::io::blocking::block_on;
use crate::io::completion::{BatchCompletion, Callback, RecordInBatch, WakerSlot};
use crate::produce_error::{Certainty, ProduceError};

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The partition, from 0.
    pub partition: i32,
    /// The offset in the partition; `None` with `acks=0`, or when the broker recognised a duplicate
    /// without telling the offset.
    pub offset: Option<i64>,
    /// The record's timestamp in milliseconds since 1970: its own, or the broker's if the topic
    /// says so; `None` when the broker did not tell (as with the offset).
    pub timestamp_ms: Option<i64>,
}

/// What became of a record.
#[derive(Clone, Debug)]
#[must_use]
pub enum Outcome {
    /// It is in the log.
    Written(Written),
    /// It is certainly in no log.
    NotWritten(ProduceError),
    /// It left for a broker, and no answer settles whether it was appended.
    Unknown(ProduceError),
}

/// A record accepted by the producer: resolves when its fate is known, within
/// `delivery.timeout.ms` (and `outcome.resolve.timeout.ms`, if that is used).
///
/// As a future it gives `Result<Written, ProduceError>`; [`Delivery::outcome`] tells the three
/// cases apart by type; [`Delivery::wait`] blocks a plain thread.
///
/// Dropping it changes nothing for the record: it is neither withdrawn nor lost.
#[must_use = "whether the record arrives is known only to its delivery"]
pub struct Delivery {
    batch: Arc<BatchCompletion>,
    timestamp_ms: i64,
    place: Place,
}

/// A window of many deliveries should stay in the processor's cache.
const _: () = assert!(size_of::<Delivery>() <= 24);

/// A record's index in its batch and the place of its waker there, in one word: two halves that are
/// written one by one and then moved as a whole hold up the processor.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    #[inline]
    fn new(index: u32, waker_slot: WakerSlot) -> Self {
        Self(u64::from(index) | u64::from(waker_slot.number()) << 32)
    }

    #[inline]
    fn index(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }

    fn waker_slot(self) -> WakerSlot {
        WakerSlot::from_number((self.0 >> 32) as u32)
    }
}

impl Delivery {
    #[inline]
    pub(crate) fn new(batch: Arc<BatchCompletion>, record: RecordInBatch) -> Self {
        Self {
            batch,
            timestamp_ms: record.timestamp_ms,
            place: Place::new(record.index, WakerSlot::NONE),
        }
    }

    /// Itself.
    #[inline]
    pub(crate) fn rebuilt(self) -> Self {
        let Self {
            batch,
            timestamp_ms,
            place,
        } = self;
        Self {
            batch,
            timestamp_ms,
            place,
        }
    }

    /// The partition that the record went to, from 0.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.batch.partition()
    }

    /// Waits for the record's fate, told apart by type.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up waiting, and with it this delivery; the record is neither
    /// withdrawn nor lost.
    pub async fn outcome(self) -> Outcome {
        match self.await {
            Ok(written) => Outcome::Written(written),
            Err(error) if error.possibly_written() => Outcome::Unknown(error),
            Err(error) => Outcome::NotWritten(error),
        }
    }

    /// Waits for the record's fate by blocking the thread: for threads that run no async code.
    ///
    /// In an async task it would hold up the runtime's thread, and with it maybe the producer: use
    /// `.await` there.
    ///
    /// # Errors
    ///
    /// Why the record was not written, or may not have been.
    pub fn wait(self) -> Result<Written, ProduceError> {
        block_on(self)
    }
}

impl Future for Delivery {
    type Output = Result<Written, ProduceError>;

    // All that is not the good end stands apart, so that this is small where it is awaited.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.batch.outcome().is_none() && self.poll_unsettled(cx).is_pending() {
            return Poll::Pending;
        }
        match self.batch.outcome() {
            Some(outcome) => Poll::Ready(result_of(&self.batch, outcome, self.record())),
            None => Poll::Pending,
        }
    }
}

impl Delivery {
    #[inline]
    fn record(&self) -> RecordInBatch {
        RecordInBatch {
            index: self.place.index(),
            timestamp_ms: self.timestamp_ms,
        }
    }

    #[cold]
    fn poll_unsettled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker_slot = self.place.waker_slot();
        if waker_slot.is_none() {
            self.batch.hurry();
            if self.batch.look() {
                return Poll::Ready(());
            }
        }
        let settled = self.batch.poll_settled(&mut waker_slot, cx).map(drop);
        self.place = Place::new(self.place.index(), waker_slot);
        settled
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("batch", &self.batch)
            .field("index", &self.place.index())
            .finish_non_exhaustive()
    }
}

/// A user's callback as the batch calls it.
pub(crate) fn callback<F>(call: F) -> Callback
where
    F: FnOnce(Result<Written, ProduceError>) + Send + 'static,
{
    Box::new(|batch, outcome, record| call(result_of(batch, outcome, record)))
}

/// The first failure among a batch's records; `None` when they were written.
pub(crate) fn failure_of(batch: &BatchCompletion, outcome: &BatchOutcome) -> Option<ProduceError> {
    let mut failed = outcome.ends().filter(|end| !end.is_written());
    failed.next().map(|end| error_of(batch, end, None))
}

/// What a batch's outcome means for one of its records.
#[inline]
pub(crate) fn result_of(
    batch: &BatchCompletion,
    outcome: &BatchOutcome,
    record: RecordInBatch,
) -> Result<Written, ProduceError> {
    let (end, index) = outcome.of_record(record.index);
    let BatchOutcome::Written {
        base_offset,
        log_append_time_ms,
    } = *end
    else {
        return Err(error_of(batch, end, Some(index)));
    };
    let offset = base_offset.map(|base| base.saturating_add(i64::from(index)));
    Ok(Written {
        partition: batch.partition(),
        offset,
        timestamp_ms: log_append_time_ms.or_else(|| offset.map(|_| record.timestamp_ms)),
    })
}

/// Why a batch, or the record of this index in it, was not written.
#[cold]
fn error_of(batch: &BatchCompletion, end: &BatchOutcome, index: Option<u32>) -> ProduceError {
    let (failure, certainty) = match end {
        BatchOutcome::NotWritten(failure) => (failure, Certainty::NotWritten),
        BatchOutcome::Unknown(failure) => (failure, Certainty::Unknown),
        // Not asked of what was written, and a part is never in parts; if it were, nothing would
        // be known of it.
        BatchOutcome::Written { .. } | BatchOutcome::Parts(_) => {
            (&NOTHING_KNOWN, Certainty::Unknown)
        }
    };
    let told = match index {
        Some(index) => failure.of_record(index),
        None => failure.clone(),
    };
    ProduceError::failed(told, certainty, batch.topic(), Some(batch.partition()))
}

const NOTHING_KNOWN: Failure = Failure::new(FailureKind::BadAnswer);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, RefusedRecord};
    use rstest::rstest;

    fn pending() -> (Arc<BatchCompletion>, Delivery) {
        let batch = Arc::new(BatchCompletion::new(Arc::from("orders"), 3, 0, 0));
        let record = RecordInBatch {
            index: 2,
            timestamp_ms: 7,
        };
        (Arc::clone(&batch), Delivery::new(batch, record))
    }

    fn written(base_offset: Option<i64>, log_append_time_ms: Option<i64>) -> BatchOutcome {
        BatchOutcome::Written {
            base_offset,
            log_append_time_ms,
        }
    }

    fn failure() -> Failure {
        Failure {
            attempts: 1,
            ..Failure::new(FailureKind::Disconnected)
        }
    }

    #[rstest]
    #[case(Some(100), None, Some(102), Some(7))]
    #[case(Some(100), Some(9), Some(102), Some(9))]
    #[case(None, None, None, None)]
    fn a_record_has_its_batchs_offset_plus_its_index(
        #[case] base_offset: Option<i64>,
        #[case] log_append_time_ms: Option<i64>,
        #[case] offset: Option<i64>,
        #[case] timestamp_ms: Option<i64>,
    ) {
        let (batch, delivery) = pending();
        batch.settle(written(base_offset, log_append_time_ms));
        let expected = Written {
            partition: 3,
            offset,
            timestamp_ms,
        };
        assert_eq!(delivery.wait().expect("written"), expected);
    }

    #[test]
    fn the_three_outcomes_are_told_apart() {
        let outcome_of = |outcome| {
            let (batch, delivery) = pending();
            batch.settle(outcome);
            block_on(delivery.outcome())
        };
        let outcome = outcome_of(written(Some(0), None));
        assert!(matches!(outcome, Outcome::Written(_)));
        let outcome = outcome_of(BatchOutcome::NotWritten(failure()));
        assert!(matches!(&outcome, Outcome::NotWritten(e) if !e.possibly_written()));
        let outcome = outcome_of(BatchOutcome::Unknown(failure()));
        assert!(matches!(&outcome, Outcome::Unknown(e) if e.possibly_written()));
    }

    #[test]
    fn a_blocked_thread_goes_on_when_the_batch_is_announced() {
        let (batch, delivery) = pending();
        let waiter = std::thread::spawn(move || delivery.wait());
        batch.settle(written(Some(4), None));
        batch.announce();
        let result = waiter.join().expect("no panic");
        assert_eq!(result.expect("written").offset, Some(6));
    }

    /// A batch of three records, refused for those at these places.
    fn refused_for(code: i16, places: &[u32]) -> BatchOutcome {
        let refused = places.iter().map(|&index| RefusedRecord {
            index,
            message: (index != 2).then(|| format!("record {index} is bad").into()),
        });
        BatchOutcome::NotWritten(Failure {
            message: Some("the batch is bad".into()),
            refused_records: (!places.is_empty()).then(|| refused.collect()),
            ..Failure::new(FailureKind::Refused(ErrorCode(code)))
        })
    }

    const BAD_0: Option<(i16, &str)> = Some((87, "record 0 is bad"));
    const WITH_BATCH: Option<(i16, &str)> = None;

    #[rstest]
    #[case::one_has_the_batchs_code(
        refused_for(32, &[1]),
        [WITH_BATCH, Some((32, "record 1 is bad")), WITH_BATCH],
    )]
    #[case::of_several_each_is_invalid(
        refused_for(32, &[0, 2]),
        [BAD_0, WITH_BATCH, Some((87, "the batch is bad"))],
    )]
    #[case::none_named_all_alike(refused_for(32, &[]), [Some((32, "the batch is bad")); 3])]
    fn records_of_a_refused_batch_end_each_in_its_way(
        #[case] outcome: BatchOutcome,
        #[case] expected: [Option<(i16, &str)>; 3],
    ) {
        let (batch, _delivery) = pending();
        for (index, expected) in (0..).zip(expected) {
            let timestamp_ms = 0;
            let record = RecordInBatch {
                index,
                timestamp_ms,
            };
            let error = result_of(&batch, &outcome, record).expect_err("refused");
            let failure = error.failure().expect("a broker's");
            assert!(!error.possibly_written());
            match expected {
                Some((code, words)) => {
                    assert_eq!(failure.kind, FailureKind::Refused(ErrorCode(code)));
                    assert_eq!(failure.message.as_deref(), Some(words));
                    assert!(!error.may_retry(), "it is bad for ever");
                }
                None => {
                    let kind = FailureKind::RefusedWithBatch(ErrorCode(32));
                    assert_eq!(failure.kind, kind);
                    assert!(error.may_retry(), "{error}");
                }
            }
        }
    }
}
