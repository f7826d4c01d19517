//! Planted defects: what a broken producer or broker would do, to see that the oracle notices.
//!
//! A defect is put between the engines, never into them: a frame is changed on its way out, an
//! outcome on its way up, a log when it is read. Each stands for a mistake that an implementation
//! can make.
//!
//! *Not here*: which law has to catch which (`tests/negative_controls.rs`).

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_mockbroker::Api;
use kafka_mockbroker::wire::batch_view::{BatchHeader, BatchView, HEADER_BYTES};
use kafka_producer::engine::effect::BatchOutcome;
use kafka_producer::{ErrorCode, Failure, FailureKind};

use crate::answer::Answer;
use crate::capture::{BatchInFrame, TopicName, batches};
use crate::history::{LogEntry, Partition, WireBatch};
use crate::link::LinkId;
use crate::unraised::Unraised;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The producer gives a batch new sequences when it sends it again.
    RetryRenumbered,
    /// The producer gives a batch that may be written a new epoch when it sends it again.
    RetryInNewEpoch,
    /// The producer gives the later half of a batch that was split the sequences behind it.
    PartRenumbered,
    /// The producer does not start a new epoch after a failed batch, and uses its sequences again.
    SequencesReused,
    /// The producer lets newer batches pass a failed one: more in flight than it may have.
    RetryOvertaken,
    /// The broker does not know a batch again: the retry arrives without its producer id.
    RetryForgotten,
    /// The producer calls a time-out a definite failure.
    TimeOutIsFailure,
    /// The producer calls the broker's "I have it already" a failure.
    DuplicateIsFailure,
    /// The producer tells the offset of the record behind.
    OffsetOffByOne,
    /// The producer tells the offset that a batch sent again would have got.
    OffsetOfRetry,
    /// The producer takes each answer for that to the request before.
    AnswerOfAnother,
    /// The producer forgets to resolve the last record of a batch.
    RecordForgotten,
    /// The producer resolves a batch twice.
    BatchResolvedTwice,
    /// A flush returns when it is called.
    FlushReturnsEarly,
    /// The producer follows the leader it knew before.
    OldLeaderFollowed,
    /// The producer does not read how long it is throttled.
    ThrottleIgnored,
    /// The producer sends in the newest version it knows, whatever the broker offers.
    VersionsIgnored,
    /// The hash of keys takes bytes for signed numbers.
    KeyHashSigned,
    /// The producer keeps the memory of every batch that failed.
    MemoryKept,
    /// The broker acknowledges a record and loses it.
    LogForgets,
    /// The broker acknowledges before the replicas in sync have a record.
    ReplicasNotAwaited,
    /// The broker does not heed `min.insync.replicas`: its watermark goes on without them.
    MinIsrIgnored,
    /// The broker loses a record that a consumer has read.
    LogRewritten,
    /// The network or a writer changes a record and nobody notices.
    RecordChanged,
    /// The producer does not keep in mind that a record of its transaction was refused.
    RefusalNotTold,
    /// The producer commits a transaction of which a record failed.
    CommitAfterFailure,
    /// The producer calls a commit that nobody answered a failure.
    UnansweredIsFailure,
    /// The producer keeps its epoch after an end that nobody answered, in transactions that share
    /// one.
    EpochNotRaised,
    /// The broker lets older processes write with the epoch of the newest.
    NobodyIsFenced,
    /// The broker gives readers of committed records what is not stable yet.
    StableOffsetIgnored,
    /// The broker loses markers.
    MarkersLost,
}

/// A mistake at work in one run.
#[derive(Debug)]
pub struct Planted {
    defect: Defect,
    /// By producer id, new epoch and partition: the epoch and the first sequence that go on.
    reused: BTreeMap<(i64, i16, Partition), (i16, i32)>,
    /// The answer before the last, by link.
    earlier: BTreeMap<LinkId, Bytes>,
    unraised: Unraised,
}

impl Planted {
    /// A mistake that has not been made yet.
    #[must_use]
    pub fn new(defect: Defect) -> Self {
        Self {
            defect,
            reused: BTreeMap::new(),
            earlier: BTreeMap::new(),
            unraised: Unraised::default(),
        }
    }

    /// What leaves in place of a request.
    pub fn on_frame(&mut self, frame: Bytes, sent: &[WireBatch], topics: &[TopicName]) -> Bytes {
        let mut changed = BytesMut::from(&frame[..]);
        for BatchInFrame { at, batch } in batches(&frame, topics) {
            let bytes = &mut changed[at..at + batch.bytes.len()];
            self.on_batch(bytes, &batch, sent);
        }
        if self.defect == Defect::EpochNotRaised {
            self.unraised.on_question(&mut changed);
        }
        if self.defect == Defect::ReplicasNotAwaited
            && let Some(at) = acks_at(&frame)
            && changed[at..at + 2] == ACKS_ALL
        {
            changed[at..at + 2].copy_from_slice(&ACKS_LEADER);
        }
        if self.defect == Defect::VersionsIgnored
            && let [0, 3, 0, version @ 9..13, ..] = &mut changed[..]
        {
            *version = 13; // Metadata, whose layout did not change since version 12
        }
        changed.freeze()
    }

    fn on_batch(&mut self, bytes: &mut [u8], batch: &WireBatch, sent: &[WireBatch]) {
        let again = sent.iter().any(|earlier| is_same(earlier, batch));
        match self.defect {
            Defect::RetryRenumbered if again => {
                let line = sent.iter().filter(|earlier| is_same_line(earlier, batch));
                let next = line.map(|b| b.base_sequence.wrapping_add(b.record_count));
                let base_sequence = next.max().unwrap_or_default();
                rewrite(bytes, |header| header.base_sequence = base_sequence);
            }
            Defect::RetryInNewEpoch if again => rewrite(bytes, |header| {
                header.producer_epoch += 1;
                header.base_sequence = 0;
            }),
            Defect::PartRenumbered => {
                if let Some(whole) = sent.iter().find(|whole| is_later_part(batch, whole)) {
                    let behind = whole.base_sequence.wrapping_add(whole.record_count);
                    rewrite(bytes, |header| header.base_sequence = behind);
                }
            }
            Defect::RetryForgotten if again => rewrite(bytes, |header| {
                header.producer_id = -1;
                header.producer_epoch = -1;
                header.base_sequence = -1;
            }),
            Defect::SequencesReused if batch.epoch > 0 => {
                let line = (batch.producer_id, batch.epoch, batch.partition.clone());
                let goes_on = self.reused.get(&line).copied();
                let goes_on = goes_on.or_else(|| failed_before(batch, sent));
                if let Some((epoch, base)) = goes_on {
                    self.reused.insert(line, (epoch, base));
                    rewrite(bytes, |header| {
                        header.producer_epoch = epoch;
                        header.base_sequence += base;
                    });
                }
            }
            Defect::EpochNotRaised => {
                if let Some((epoch, sequence)) = self.unraised.on_batch(batch, sent) {
                    rewrite(bytes, |header| {
                        header.producer_epoch = epoch;
                        header.base_sequence = sequence;
                    });
                }
            }
            Defect::NobodyIsFenced => {
                if let Some((epoch, sequence)) = as_newest(batch, sent) {
                    rewrite(bytes, |header| {
                        header.producer_epoch = epoch;
                        header.base_sequence = sequence;
                    });
                }
            }
            Defect::RecordChanged => {
                // The last byte of a record without headers is their count; before it stands the
                // value's end.
                if let [.., value_end, _] = bytes {
                    *value_end ^= 1;
                }
                rewrite(bytes, |_| {});
            }
            _ => {}
        }
    }

    /// What answers a request in place of its broker, which never gets it.
    pub fn on_question(&mut self, request: &Bytes) -> Option<Bytes> {
        match self.defect {
            Defect::EpochNotRaised => self.unraised.answer(request),
            _ => None,
        }
    }

    /// What the producer gets in place of an answer.
    pub fn on_answer(&mut self, (link, api): (LinkId, Api), frame: Bytes, read: &Answer) -> Bytes {
        match (self.defect, &read.throttle_at) {
            (Defect::ThrottleIgnored, Some(at)) => {
                let mut changed = BytesMut::from(&frame[..]);
                changed[at.clone()].fill(0);
                changed.freeze()
            }
            (Defect::AnswerOfAnother, _) if api == Api::Produce => {
                let earlier = self.earlier.insert(link, frame.clone());
                let earlier = earlier.unwrap_or_else(|| frame.clone());
                // The number is this request's, the rest another's.
                [&frame[..4], &earlier[4..]].concat().into()
            }
            _ => frame,
        }
    }
}

/// The epoch and the first sequence of the last batch that a partition got before its new epoch.
fn failed_before(batch: &WireBatch, sent: &[WireBatch]) -> Option<(i16, i32)> {
    let same = |earlier: &&WireBatch| {
        earlier.producer_id == batch.producer_id && earlier.partition == batch.partition
    };
    let earlier = sent.iter().rev().filter(same);
    let failed = earlier
        .into_iter()
        .find(|earlier| earlier.epoch < batch.epoch)?;
    Some((failed.epoch, failed.base_sequence))
}

impl Defect {
    /// The outcomes that arrive in place of one.
    #[must_use]
    pub fn on_outcome(self, outcome: BatchOutcome) -> Vec<BatchOutcome> {
        match (self, outcome) {
            (Self::TimeOutIsFailure, BatchOutcome::Unknown(failure)) => {
                vec![BatchOutcome::NotWritten(failure)]
            }
            (
                Self::DuplicateIsFailure,
                BatchOutcome::Written {
                    base_offset: None, ..
                },
            ) => vec![BatchOutcome::NotWritten(Failure {
                attempts: 1,
                ..Failure::new(FailureKind::Refused(ErrorCode::DUPLICATE_SEQUENCE_NUMBER))
            })],
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
        match self {
            Self::LogForgets => drop(log.pop()),
            Self::LogRewritten => {
                if let [first, second, ..] = &mut log[..] {
                    std::mem::swap(&mut first.content, &mut second.content);
                }
            }
            _ => {}
        }
    }

    /// The partition of a key in place of the right one.
    #[must_use]
    pub fn on_partition(self, right: i32, key: &[u8], partitions: i32) -> i32 {
        let signed = self == Self::KeyHashSigned && key.iter().any(|byte| *byte >= 0x80);
        if signed {
            (right + 1) % partitions
        } else {
            right
        }
    }
}

/// What a batch of an older process would have to carry to be taken for one of the newest.
fn as_newest(batch: &WireBatch, sent: &[WireBatch]) -> Option<(i16, i32)> {
    let of_id = sent
        .iter()
        .filter(|one| one.producer_id == batch.producer_id);
    let newest = of_id.max_by_key(|one| one.epoch)?.epoch;
    let same = |one: &&WireBatch| {
        (one.producer_id, one.epoch, &one.partition)
            == (batch.producer_id, newest, &batch.partition)
    };
    let ends = sent.iter().filter(same);
    let ends = ends.map(|one| one.base_sequence.wrapping_add(one.record_count));
    (newest > batch.epoch).then(|| (newest, ends.max().unwrap_or_default()))
}

/// An EndTxn that commits in place of one that aborts.
///
/// *Source*: Kafka's `EndTxnRequest.json`: the decision is the last byte, before tags.
#[must_use]
pub fn as_commit(request: &Bytes) -> Bytes {
    let mut changed = BytesMut::from(&request[..]);
    let tags = usize::from(crate::capture::version(request) >= 3);
    if let Some(at) = changed.len().checked_sub(1 + tags) {
        changed[at] = 1;
    }
    changed.freeze()
}

const ACKS_ALL: [u8; 2] = (-1i16).to_be_bytes();
const ACKS_LEADER: [u8; 2] = 1i16.to_be_bytes();

/// Where a Produce request says who has to have its records.
///
/// *Source*: Kafka's `RequestHeader.json` and `ProduceRequest.json`: after the client's name stands
/// the transactional id, with one byte of tags and a compact length from version 9 on.
fn acks_at(request: &[u8]) -> Option<usize> {
    if !request.starts_with(&Api::Produce.key().to_be_bytes()) {
        return None;
    }
    let number = |at: usize| Some(i16::from_be_bytes(*request.get(at..)?.first_chunk()?));
    // A length of -1 is nothing.
    let end = |at: usize, bytes: i16| at + usize::try_from(bytes).unwrap_or_default();
    let named = end(10, number(8)?);
    let at = match crate::capture::version(request) {
        9.. => {
            let id = named + 1;
            let length = i16::from(*request.get(id)?);
            end(id + 1, length - 1)
        }
        _ => end(named + 2, number(named)?),
    };
    (at + 2 <= request.len()).then_some(at)
}

fn is_same_line(first: &WireBatch, second: &WireBatch) -> bool {
    (first.producer_id, first.epoch, &first.partition)
        == (second.producer_id, second.epoch, &second.partition)
}

fn is_same(first: &WireBatch, second: &WireBatch) -> bool {
    is_same_line(first, second) && first.base_sequence == second.base_sequence
}

/// Whether a batch lies in a larger one and does not begin where that does.
fn is_later_part(part: &WireBatch, whole: &WireBatch) -> bool {
    let end = |batch: &WireBatch| batch.base_sequence.wrapping_add(batch.record_count);
    is_same_line(part, whole) && whole.base_sequence < part.base_sequence && end(part) <= end(whole)
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
