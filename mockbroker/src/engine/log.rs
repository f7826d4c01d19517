//! A partition's log: batches as they were received, an index over them, the high watermark.
//!
//! *State* of an offset:
//!
//! ```text
//!         append              watermark passes it
//! beyond ───────▶ appended ──────────────────────▶ visible, lost by an unclean election alone
//!   ▲                │                                │ the start passes it
//!   └────────────────┘ truncate, on a change of       ▼
//!     leader; below the watermark on an unclean one   deleted: unread, though its batch stays
//! ```
//!
//! *Invariants*
//! 1. Batches stand in offset order without gaps between a last and the next base offset.
//! 2. start offset ≤ high watermark ≤ end offset.
//! 3. What was received is kept untouched beside what is stored; only header fields may differ, or
//!    the payload where the topic's codec does.
//! 4. The index of bytes has an entry for every batch.
//!
//! *Source* apache/kafka `storage/…/internals/log/{UnifiedLog,LocalLog}.java`.
//!
//! *Not here* when the watermark may move (`replication.rs`).
//!
//! *Deviations* nothing is deleted by time, size or compaction: the start moves by DeleteRecords
//! alone, and what lies before it stays in memory, as in Kafka until its segment goes.

use core::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::marker;
use super::open_transactions::LogTransactions;
use crate::wire::batch_view::{BatchHeader, HEADER_BYTES};
use crate::wire::records::{self, DecodedRecord, Unreadable};

/// A batch in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// The header as it is stored.
    pub header: BatchHeader,
    /// The bytes behind the header, as they are stored.
    pub payload: Bytes,
    /// The whole batch as it was received.
    pub received: Bytes,
    /// When the leader appended it, by its clock, in milliseconds since 1970.
    pub appended_at_ms: i64,
}

impl StoredBatch {
    /// Bytes of the batch as it is stored.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Bytes of memory that the batch costs, if so many replicas share it: what was received, what
    /// is stored where that is something else, and [`BESIDE_BYTES`].
    #[must_use]
    pub fn held_bytes(&self, replicas: usize) -> usize {
        self.data_bytes() + replicas * BESIDE_BYTES
    }

    fn data_bytes(&self) -> usize {
        let sent = self.received.get(HEADER_BYTES..).unwrap_or_default();
        if core::ptr::eq(sent, &raw const *self.payload) {
            self.received.len()
        } else {
            self.received.len() + self.payload.len()
        }
    }

    /// The records.
    ///
    /// # Errors
    ///
    /// When the payload does not decode: see [`records::decode`].
    pub fn records(&self) -> Result<Vec<DecodedRecord>, Unreadable> {
        records::decode(&self.header, &self.payload)
    }

    /// The whole batch as it is stored.
    #[must_use]
    pub fn stored(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes());
        self.write(&mut out);
        out.freeze()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.header.write());
        out.put_slice(&self.payload);
    }
}

/// Bytes of memory that a batch costs in each replica beside what it holds: twice its entries in
/// the two lists of a log, which grow by doubling, and what the allocator adds.
pub const BESIDE_BYTES: usize = 384;

/// Where a batch ends, counted in bytes from the start of the log.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// As the batches are stored.
    stored: usize,
    /// As they are received and stored.
    data: usize,
}

/// The log of a partition.
#[derive(Clone, Debug, Default)]
pub struct Log {
    batches: Vec<StoredBatch>,
    /// The end of the batch of the same index.
    ends: Vec<End>,
    transactions: LogTransactions,
    start_offset: i64,
    high_watermark: i64,
}

impl Log {
    /// The log of nobody.
    pub const EMPTY: Self = Self {
        batches: Vec::new(),
        ends: Vec::new(),
        transactions: LogTransactions::NONE,
        start_offset: 0,
        high_watermark: 0,
    };

    /// Appends a batch whose base offset is [`end_offset`](Self::end_offset).
    pub fn append(&mut self, batch: StoredBatch) {
        debug_assert_eq!(batch.header.base_offset, self.end_offset(), "log 1");
        let before = self.end_before(self.batches.len());
        self.ends.push(End {
            stored: before.stored + batch.bytes(),
            data: before.data + batch.data_bytes(),
        });
        self.transactions
            .on_append(&batch.header, marker::ending_of(&batch));
        self.batches.push(batch);
    }

    /// Raises the high watermark; it falls by truncation alone.
    pub fn raise_high_watermark(&mut self, to: i64) {
        self.high_watermark = self.high_watermark.max(to.min(self.end_offset()));
    }

    /// Raises the first offset, to the high watermark at most; it falls by truncation alone.
    pub fn raise_start_offset(&mut self, to: i64) {
        self.start_offset = self.start_offset.max(to.min(self.high_watermark));
    }

    /// Drops every batch that reaches beyond `end`. That is below the high watermark only after an
    /// unclean election; the watermark falls then.
    pub fn truncate(&mut self, end: i64) {
        self.high_watermark = self.high_watermark.min(end);
        self.start_offset = self.start_offset.min(end);
        let kept = self
            .batches
            .partition_point(|batch| batch.header.last_offset() < end);
        self.batches.truncate(kept);
        self.ends.truncate(kept);
        self.transactions.truncate(self.end_offset());
    }

    /// The end of what it has in common with another log: up to the last batch that both have at
    /// the same offsets from the same leader epoch. What stands before it is the same too, since in
    /// an epoch one leader alone appends.
    #[must_use]
    pub fn common_end(&self, other: &Self) -> i64 {
        let pairs = self.batches.iter().zip(&other.batches);
        let same = |(mine, theirs): &(&StoredBatch, &StoredBatch)| {
            let (mine, theirs) = (&mine.header, &theirs.header);
            let offsets = (mine.base_offset, mine.last_offset());
            mine.leader_epoch == theirs.leader_epoch
                && offsets == (theirs.base_offset, theirs.last_offset())
        };
        let last = pairs.rev().find(same);
        last.map_or(0, |(mine, _)| mine.header.last_offset().saturating_add(1))
    }

    /// The first offset.
    #[must_use]
    pub const fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset of the next batch.
    #[must_use]
    pub fn end_offset(&self) -> i64 {
        self.batches
            .last()
            .map_or(0, |batch| batch.header.last_offset().saturating_add(1))
    }

    /// The offset below which every record is replicated and visible.
    #[must_use]
    pub const fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The offset below which no transaction is open; the high watermark at most.
    #[must_use]
    pub fn last_stable_offset(&self) -> i64 {
        self.transactions.last_stable_offset(self.high_watermark)
    }

    /// Its transactions.
    #[must_use]
    pub const fn transactions(&self) -> &LogTransactions {
        &self.transactions
    }

    /// How far a reader sees.
    #[must_use]
    pub fn end_for(&self, reader: Reader) -> i64 {
        match reader {
            Reader::OfAll => self.high_watermark,
            Reader::OfCommitted => self.last_stable_offset(),
        }
    }

    /// Bytes of memory that the batches cost, if so many replicas share them.
    #[must_use]
    pub fn held_bytes(&self, replicas: usize) -> usize {
        let count = self.batches.len();
        self.end_before(count).data + count * replicas * BESIDE_BYTES
    }

    /// Every batch, in offset order.
    #[must_use]
    pub fn batches(&self) -> &[StoredBatch] {
        &self.batches
    }

    /// The batches from the one that holds `from`, as far as the reader sees: `bytes_max` of them,
    /// so that the last may be cut, but at least the first as a whole, if `first` says so, or else
    /// nothing (`LogSegment.read`, `ReplicaManager.readFromLog`; observed).
    #[must_use]
    pub fn read(&self, from: ReadFrom, bytes_max: usize, first: FirstBatch) -> Bytes {
        let bytes = self.readable_within(from, bytes_max, first);
        let mut out = BytesMut::with_capacity(bytes);
        for batch in self
            .batches
            .get(self.visible_from(from))
            .unwrap_or_default()
        {
            if out.len() >= bytes {
                break;
            }
            batch.write(&mut out);
        }
        out.truncate(bytes);
        out.freeze()
    }

    /// Bytes of what [`read`](Self::read) returns.
    #[must_use]
    pub fn readable_within(&self, from: ReadFrom, bytes_max: usize, first: FirstBatch) -> usize {
        let visible = self.visible_from(from);
        let Some(batch) = self.batches.get(visible.clone()).and_then(<[_]>::first) else {
            return 0;
        };
        let bytes_max = match first {
            FirstBatch::WhateverItsSize => bytes_max.max(batch.bytes()),
            FirstBatch::IfItFits if bytes_max < batch.bytes() => 0,
            FirstBatch::IfItFits => bytes_max,
        };
        bytes_max.min(self.readable_bytes(from))
    }

    /// The offset behind the last batch of which so many bytes have something.
    #[must_use]
    pub fn end_of_read(&self, from: ReadFrom, bytes: usize) -> i64 {
        let visible = self.visible_from(from);
        let begin = self.end_before(visible.start).stored;
        let ends = self.ends.get(visible.clone()).unwrap_or_default();
        let whole = ends.partition_point(|end| end.stored < begin + bytes);
        let last = self.batches.get(visible.start + whole);
        last.map_or_else(|| self.end_offset(), |batch| batch.header.last_offset() + 1)
    }

    /// Bytes of the batches that [`read`](Self::read) could return.
    #[must_use]
    pub fn readable_bytes(&self, from: ReadFrom) -> usize {
        let visible = self.visible_from(from);
        let end = self.end_before(visible.end).stored;
        end.saturating_sub(self.end_before(visible.start).stored)
    }

    /// The batches from the one that holds the offset to where the reader's sight ends.
    fn visible_from(&self, from: ReadFrom) -> Range<usize> {
        let end = self.end_for(from.reader);
        let start = self
            .batches
            .partition_point(|batch| batch.header.last_offset() < from.offset);
        let end = self
            .batches
            .partition_point(|batch| batch.header.last_offset() < end);
        start..end.max(start)
    }

    fn end_before(&self, index: usize) -> End {
        index
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .copied()
            .unwrap_or_default()
    }

    /// The first record whose timestamp is not below `timestamp`, visible or not: its timestamp,
    /// its offset, and the leader epoch of its batch.
    #[must_use]
    pub fn offset_for(&self, timestamp: i64) -> Option<(i64, i64, i32)> {
        self.first_not_older(self.start_offset, timestamp)
    }

    /// The record with the largest timestamp, the first of equals: its timestamp, its offset, and
    /// the leader epoch of its batch. It may be a deleted one (observed), or not visible yet.
    #[must_use]
    pub fn offset_of_max_timestamp(&self) -> Option<(i64, i64, i32)> {
        let timestamps = self.batches.iter().map(|batch| batch.header.max_timestamp);
        self.first_not_older(0, timestamps.max()?)
    }

    fn first_not_older(&self, from: i64, timestamp: i64) -> Option<(i64, i64, i32)> {
        let wanted =
            |record: &&DecodedRecord| record.timestamp_ms >= timestamp && record.offset >= from;
        let since = |batch: &&StoredBatch| {
            batch.header.last_offset() >= from && batch.header.max_timestamp >= timestamp
        };
        self.batches.iter().filter(since).find_map(|batch| {
            let records = batch.records().ok()?;
            let record = records.iter().find(wanted)?;
            Some((
                record.timestamp_ms,
                record.offset,
                batch.header.leader_epoch,
            ))
        })
    }

    /// The leader epoch of the last batch; `None` when the log is empty.
    #[must_use]
    pub fn last_epoch(&self) -> Option<i32> {
        self.batches.last().map(|batch| batch.header.leader_epoch)
    }

    /// The leader epochs of the log, each with its first offset, for a leader of epoch `current`
    /// (`LeaderEpochFileCache`): it has begun where the log ends, if it has not written yet. What
    /// was deleted leaves one epoch, which begins at the start of the log.
    fn epochs(&self, current: i32) -> Vec<(i32, i64)> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        for header in self.batches.iter().map(|batch| &batch.header) {
            if epochs
                .last()
                .is_none_or(|last| last.0 < header.leader_epoch)
            {
                epochs.push((header.leader_epoch, header.base_offset));
            }
        }
        if epochs.last().is_none_or(|last| last.0 < current) {
            epochs.push((current, self.end_offset()));
        }
        let begun = epochs.partition_point(|epoch| epoch.1 <= self.start_offset);
        let mut epochs = epochs.split_off(begun.saturating_sub(1));
        if let Some(first) = epochs.first_mut() {
            first.1 = first.1.max(self.start_offset);
        }
        epochs
    }

    /// The first epoch of the log, for a leader of epoch `current`.
    #[must_use]
    pub fn first_epoch(&self, current: i32) -> i32 {
        let first = self.epochs(current).first().map(|epoch| epoch.0);
        first.unwrap_or(current)
    }

    /// Where the leader's epoch begins.
    #[must_use]
    pub fn start_of_epoch(&self, current: i32) -> i64 {
        let last = self.epochs(current).last().map(|epoch| epoch.1);
        last.unwrap_or_else(|| self.end_offset())
    }

    /// The largest epoch that is not above `epoch`, and where it ends, for a leader of epoch
    /// `current`; `None` for -1 and for an epoch above it (`LeaderEpochFileCache.endOffsetFor`).
    #[must_use]
    pub fn end_of_epoch(&self, epoch: i32, current: i32) -> Option<(i32, i64)> {
        let epochs = self.epochs(current);
        let above = epochs.partition_point(|known| known.0 <= epoch);
        let floor = above.checked_sub(1).and_then(|last| epochs.get(last));
        match epochs.get(above) {
            _ if epoch == -1 => None,
            // An epoch below all that are known is told with where they begin.
            Some(next) => Some((floor.map_or(epoch, |floor| floor.0), next.1)),
            None if floor.is_some_and(|floor| floor.0 == epoch) => Some((epoch, self.end_offset())),
            None => None,
        }
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        assert!(self.start_offset >= 0, "log 2");
        assert!(self.high_watermark >= self.start_offset, "log 2");
        assert!(self.high_watermark <= self.end_offset(), "log 2");
        self.transactions.check_invariants();
        assert_eq!(self.ends.len(), self.batches.len(), "log 4");
        let bytes: usize = self.batches.iter().map(StoredBatch::bytes).sum();
        let end = self.end_before(self.batches.len());
        assert_eq!(end.stored, bytes, "log 4");
        let data: usize = self.batches.iter().map(StoredBatch::data_bytes).sum();
        assert_eq!(end.data, data, "log 4");
        for pair in self.batches.windows(2) {
            let (left, right) = (&pair[0].header, &pair[1].header);
            assert_eq!(left.last_offset() + 1, right.base_offset, "log 1");
        }
    }
}

/// From where who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// The first offset.
    pub offset: i64,
    /// What the reader sees.
    pub reader: Reader,
}

/// Which records a reader sees (`FetchIsolation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// All that are replicated.
    OfAll,
    /// Those before the first transaction that is open; aborted ones are told beside them.
    OfCommitted,
}

/// Whether a read returns a first batch that is larger than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    /// Yes, so that a reader gets on (KIP-74).
    WhateverItsSize,
    /// No.
    IfItFits,
}

/// A stored batch of plain records, for tests of this and other machines.
#[cfg(test)]
pub(crate) fn batch_for_tests(base_offset: i64, count: i32, max_timestamp: i64) -> StoredBatch {
    let record = |delta: i32| {
        // Deltas of tests stay below 64, so that a zigzag varint is one byte.
        let delta = u8::try_from(delta * 2).unwrap();
        [0x0c, 0, 0, delta, 1, 1, 0]
    };
    let payload: Vec<u8> = (0..count).flat_map(record).collect();
    let header = BatchHeader {
        base_offset,
        batch_length: i32::try_from(49 + payload.len()).unwrap(),
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: max_timestamp,
        max_timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: count,
    };
    StoredBatch {
        header,
        payload: payload.into(),
        received: Bytes::new(),
        appended_at_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(timestamps: &[i64]) -> Log {
        let mut log = Log::default();
        for timestamp in timestamps {
            log.append(batch_for_tests(log.end_offset(), 2, *timestamp));
        }
        log
    }

    const ALL: ReadFrom = ReadFrom {
        offset: 0,
        reader: Reader::OfAll,
    };

    const fn from(offset: i64) -> ReadFrom {
        ReadFrom { offset, ..ALL }
    }

    #[test]
    fn what_is_not_replicated_is_not_read() {
        let mut log = log(&[10, 20, 30]);
        assert!(
            log.read(ALL, usize::MAX, FirstBatch::WhateverItsSize)
                .is_empty()
        );
        log.raise_high_watermark(4);
        let read = log.read(ALL, usize::MAX, FirstBatch::WhateverItsSize);
        assert_eq!(
            read.len(),
            log.batches()[..2]
                .iter()
                .map(StoredBatch::bytes)
                .sum::<usize>()
        );
        log.check_invariants();
    }

    #[test]
    fn a_read_begins_with_the_batch_that_holds_the_offset() {
        let mut log = log(&[10, 20, 30]);
        log.raise_high_watermark(6);
        let one = log.batches()[0].bytes();
        let read = |offset, max, first| log.read(from(offset), max, first).len() / one;
        assert_eq!(
            read(3, usize::MAX, FirstBatch::IfItFits),
            2,
            "offset 3 lies in the second"
        );
        assert_eq!(read(6, usize::MAX, FirstBatch::IfItFits), 0);
        assert_eq!(read(0, 2 * one, FirstBatch::IfItFits), 2);
        assert_eq!(read(0, one - 1, FirstBatch::IfItFits), 0);
        assert_eq!(read(0, one - 1, FirstBatch::WhateverItsSize), 1);
        let cut = log.read(ALL, 2 * one - 1, FirstBatch::IfItFits);
        assert_eq!(cut.len(), 2 * one - 1, "the part that fits");
        assert_eq!(log.readable_bytes(from(2)), 2 * one);
    }

    #[test]
    fn truncation_takes_the_watermark_along() {
        let mut log = log(&[10, 20, 30]);
        log.raise_high_watermark(4);
        log.truncate(4);
        assert_eq!((log.end_offset(), log.high_watermark()), (4, 4));
        log.truncate(2);
        assert_eq!((log.end_offset(), log.high_watermark()), (2, 2));
        log.check_invariants();
    }

    #[test]
    fn deleted_records_are_not_found_by_time_but_as_the_newest() {
        let mut log = log(&[10, 30, 20]);
        log.raise_high_watermark(6);
        log.raise_start_offset(3);
        assert_eq!(log.offset_for(5), Some((30, 3, 0)), "inside a batch");
        log.raise_start_offset(4);
        assert_eq!(log.offset_for(5), Some((20, 4, 0)));
        assert_eq!(log.offset_for(25), None);
        assert_eq!(log.offset_of_max_timestamp(), Some((30, 2, 0)));
        log.raise_start_offset(9);
        assert_eq!(
            log.start_offset(),
            6,
            "nothing above the watermark is deleted"
        );
        log.truncate(4);
        assert_eq!(log.start_offset(), 4);
        log.check_invariants();
    }

    #[test]
    fn records_are_found_by_time() {
        let mut log = log(&[10, 30, 20]);
        log.raise_high_watermark(6);
        assert_eq!(log.offset_for(5), Some((10, 0, 0)));
        assert_eq!(log.offset_for(11), Some((30, 2, 0)));
        assert_eq!(log.offset_for(31), None);
        assert_eq!(log.offset_of_max_timestamp(), Some((30, 2, 0)));
    }
}
