//! Markers of transactions: the control batches that end them, written and read.
//!
//! *Invariants*
//! 1. A marker is one record in a batch with the transactional and the control bit, without a
//!    sequence: key `version 0, kind`, value `version 0, coordinator epoch`.
//!
//! *Source* apache/kafka `clients/…/common/record/{EndTransactionMarker,ControlRecordType}.java`;
//! observed on 4.3.1: attributes 0x30, sequence -1, key of 4 bytes, value of 6.
//!
//! *Not here* when one is written (`txn_markers.rs`, `written_markers.rs`).

use bytes::Bytes;

use super::log::StoredBatch;
use super::open_transactions::Ending;
use super::producer_state::OpenHere;
use crate::wire::batch_view::{BatchHeader, CONTROL, HEADER_BYTES, TRANSACTIONAL};

/// What ends a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer's id.
    pub producer_id: i64,
    /// The epoch with which it may go on.
    pub epoch: i16,
    /// How the transaction ends.
    pub ending: Ending,
    /// The epoch of who decided that.
    pub coordinator_epoch: i32,
}

/// Which epochs a marker may have beside that of its producer in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochRule {
    /// Not a lower one: those of transactions below version 2, and of whoever does not say.
    NotLower,
    /// A higher one: each transaction has its own (KIP-890). The same is a marker that comes again,
    /// once the transaction has ended (KAFKA-19999).
    Higher,
}

impl EpochRule {
    /// Whether a marker comes too late (`ProducerAppendInfo.checkProducerEpoch`).
    #[must_use]
    pub fn is_late(self, marker: i16, known: i16, transaction: OpenHere) -> bool {
        let again = marker == known && transaction == OpenHere::Open;
        marker < known || (self == Self::Higher && again)
    }
}

const ABORT: u8 = 0;
const COMMIT: u8 = 1;

/// Bytes of the one record: its length, five fields of one byte, key, value.
const RECORD_BYTES: u8 = 16;
/// Where the kind stands in it.
const KIND_AT: usize = 8;
/// Where the coordinator's epoch stands in it.
const EPOCH_AT: usize = 12;

impl Marker {
    /// What a control batch says; `None` for other batches.
    #[must_use]
    pub fn of(batch: &StoredBatch) -> Option<Self> {
        let ending = ending_of(batch)?;
        let epoch = batch.payload.get(EPOCH_AT..)?.first_chunk()?;
        Some(Self {
            producer_id: batch.header.producer_id,
            epoch: batch.header.producer_epoch,
            ending,
            coordinator_epoch: i32::from_be_bytes(*epoch),
        })
    }

    /// The batch, for an offset and in a leader epoch.
    #[must_use]
    pub fn batch(&self, base_offset: i64, leader_epoch: i32, now_ms: i64) -> StoredBatch {
        let kind = match self.ending {
            Ending::Commit => COMMIT,
            Ending::Abort => ABORT,
        };
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        // Lengths are zigzag varints: twice their value.
        let record = [
            2 * RECORD_BYTES,
            0,
            0,
            0,
            8,
            0,
            0,
            0,
            kind,
            12,
            0,
            0,
            a,
            b,
            c,
            d,
            0,
        ];
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch,
            crc: 0,
            attributes: TRANSACTIONAL | CONTROL,
            last_offset_delta: 0,
            base_timestamp: now_ms,
            max_timestamp: now_ms,
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: -1,
            record_count: 1,
        };
        header.batch_length = LENGTH;
        header.crc = header.checksum(&record);
        let received: Bytes = [&header.write()[..], &record].concat().into();
        header.base_offset = base_offset;
        StoredBatch {
            header,
            payload: received.slice(HEADER_BYTES..),
            received,
            appended_at_ms: now_ms,
        }
    }
}

/// What the length of a marker's batch says: all behind it.
const LENGTH: i32 = 61 - 12 + 17;

/// How a control batch ends its transaction; `None` for other batches.
#[must_use]
pub fn ending_of(batch: &StoredBatch) -> Option<Ending> {
    if !batch.header.has(CONTROL) {
        return None;
    }
    match batch.payload.get(KIND_AT) {
        Some(&COMMIT) => Some(Ending::Commit),
        Some(&ABORT) => Some(Ending::Abort),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch_view::BatchView;

    #[test]
    fn a_marker_is_a_batch_that_reads_back() {
        for ending in [Ending::Commit, Ending::Abort] {
            let marker = Marker {
                producer_id: 4_000,
                epoch: 3,
                ending,
                coordinator_epoch: 17,
            };
            let batch = marker.batch(40, 5, 1_000);
            assert_eq!(Marker::of(&batch), Some(marker));
            let stored = batch.stored();
            let (view, rest) = BatchView::first(&stored).unwrap().unwrap();
            let (header, payload) = view.split().unwrap();
            assert!(rest.is_empty());
            assert_eq!(header, batch.header);
            assert_eq!(header.crc, view.checksum());
            assert_eq!(header.attributes, 0x30);
            assert_eq!((header.base_sequence, header.last_offset()), (-1, 40));
            let records = batch.records().unwrap();
            let kind = u8::from(ending == Ending::Commit);
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, kind][..]));
            assert_eq!(records[0].value.as_deref(), Some(&[0, 0, 0, 0, 0, 17][..]));
            assert_eq!(payload.len(), 17);
        }
    }
}
