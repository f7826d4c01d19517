//! Planted defects: what a broken producer or broker would do, to see that the oracle notices.
//!
//! A defect is put between the engines, never into them: a frame is changed on its way out, an
//! outcome on its way up, a log when it is read. Each stands for a mistake that an implementation
//! can make.
//!
//! *Not here*: which law has to catch which (`tests/negative_controls.rs`).

use bytes::{Bytes, BytesMut};
use kafka_mockbroker::wire::batch_view::{BatchHeader, BatchView, HEADER_BYTES};
use kafka_producer::engine::effect::BatchOutcome;

use crate::capture::{BatchInFrame, TopicName, batches};
use crate::history::{LogEntry, WireBatch};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The producer gives a batch new sequences when it sends it again.
    RetryRenumbered,
    /// The broker does not know a batch again: the retry arrives without its producer id.
    RetryForgotten,
    /// The producer calls a time-out a definite failure.
    TimeOutIsFailure,
    /// The producer tells the offset of the record behind.
    OffsetOffByOne,
    /// The producer forgets to resolve the last record of a batch.
    RecordForgotten,
    /// The producer resolves a batch twice.
    BatchResolvedTwice,
    /// The broker acknowledges a record and loses it.
    LogForgets,
    /// The network or a writer changes a record and nobody notices.
    RecordChanged,
}

impl Defect {
    /// What leaves in place of a request.
    #[must_use]
    pub fn on_frame(self, frame: Bytes, sent: &[WireBatch], topics: &[TopicName]) -> Bytes {
        let mut changed = BytesMut::from(&frame[..]);
        for BatchInFrame { at, batch } in batches(&frame, topics) {
            let bytes = &mut changed[at..at + batch.bytes.len()];
            let again = sent.iter().any(|earlier| is_same(earlier, &batch));
            match self {
                Self::RetryRenumbered if again => {
                    let line = sent.iter().filter(|earlier| is_same_line(earlier, &batch));
                    let next = line
                        .map(|b| b.base_sequence.wrapping_add(b.record_count))
                        .max();
                    let base_sequence = next.unwrap_or_default();
                    rewrite(bytes, |header| header.base_sequence = base_sequence);
                }
                Self::RetryForgotten if again => rewrite(bytes, |header| {
                    header.producer_id = -1;
                    header.producer_epoch = -1;
                    header.base_sequence = -1;
                }),
                Self::RecordChanged => {
                    // The last byte of a record without headers is their count; before it stands
                    // the value's end.
                    if let [.., value_end, _] = bytes {
                        *value_end ^= 1;
                    }
                    rewrite(bytes, |_| {});
                }
                _ => {}
            }
        }
        changed.freeze()
    }

    /// The outcomes that arrive in place of one.
    #[must_use]
    pub fn on_outcome(self, outcome: BatchOutcome) -> Vec<BatchOutcome> {
        match (self, outcome) {
            (Self::TimeOutIsFailure, BatchOutcome::Unknown(failure)) => {
                vec![BatchOutcome::NotWritten(failure)]
            }
            (
                Self::OffsetOffByOne,
                BatchOutcome::Written {
                    base_offset,
                    log_append_time_ms,
                },
            ) => {
                let base_offset = base_offset.map(|offset| offset + 1);
                vec![BatchOutcome::Written {
                    base_offset,
                    log_append_time_ms,
                }]
            }
            (Self::BatchResolvedTwice, outcome) => vec![outcome.clone(), outcome],
            (_, outcome) => vec![outcome],
        }
    }

    /// How many of a batch's records are resolved.
    #[must_use]
    pub fn on_resolved_count(self, count: usize) -> usize {
        if self == Self::RecordForgotten {
            count - 1
        } else {
            count
        }
    }

    /// The log that is read in place of one.
    pub fn on_log(self, log: &mut Vec<LogEntry>) {
        if self == Self::LogForgets {
            log.pop();
        }
    }
}

fn is_same_line(first: &WireBatch, second: &WireBatch) -> bool {
    (first.producer_id, first.epoch, &first.partition)
        == (second.producer_id, second.epoch, &second.partition)
}

fn is_same(first: &WireBatch, second: &WireBatch) -> bool {
    is_same_line(first, second) && first.base_sequence == second.base_sequence
}

/// Changes a batch's header and makes its checksum right again.
fn rewrite(batch: &mut [u8], change: impl FnOnce(&mut BatchHeader)) {
    let Some((head, records)) = batch.split_first_chunk_mut::<HEADER_BYTES>() else {
        return;
    };
    let mut header = BatchHeader::read(head);
    change(&mut header);
    header.crc = header.checksum(records);
    *head = header.write();
    debug_assert!(BatchView::first(batch).is_ok());
}
