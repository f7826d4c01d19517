//! What a reader of committed records makes of a Fetch answer.
//!
//! *Invariants*
//! 1. A transactional batch is left out from the first offset that the broker tells of its
//!    producer's aborted transaction up to that transaction's marker.
//!
//! *Source*: Kafka's `CompletedFetch` (`consumeAbortedTransactionsUpTo`, `containsAbortMarker`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::case::{Objection, expect_eq};
use crate::context::Context;
use crate::topic::Topic;
use crate::wire::batch::TRANSACTIONAL_BIT;
use crate::wire::error_code::ErrorCode;
use crate::wire::records::{Fetch, FetchCommitted, StoredBatch, StoredRecord, read_batches};

/// A partition as a reader of committed records sees it.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// What counts, in order.
    pub records: Vec<StoredRecord>,
    /// Producer id and first offset of each transaction that was aborted.
    pub aborted: BTreeSet<(i64, i64)>,
}

impl Context {
    /// All of `partition` that counts, once no transaction is open there.
    ///
    /// # Errors
    ///
    /// When one stays open, or the log cannot be fetched or does not read.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn committed(&self, topic: &Topic, partition: i32) -> Result<Committed, Objection> {
        const FETCH_BYTES_MAX: i32 = 8 * 1024 * 1024;
        let mut leader = self.leader(topic, partition).await?;
        let patience = self.patience(format!("no transaction is open in partition {partition}"));
        let mut found = Committed::default();
        let mut offset = 0;
        loop {
            let request = FetchCommitted(Fetch {
                topic: topic.name.clone(),
                partition,
                offset,
                wait_ms_max: 100,
                bytes_max: FETCH_BYTES_MAX,
            });
            let step = format!("Fetch at offset {offset}");
            let version = self.version::<FetchCommitted>();
            let answer = leader.ask(&request, version).await?;
            expect_eq(&step, ErrorCode::NONE, answer.error)?;
            let batches = read_batches(&answer.records)
                .map_err(|error| Objection::new(&step, "sound record batches", error))?;
            let end = batches.last().map_or(offset, StoredBatch::next_offset);
            let records = committed_records(batches, &answer.aborted).into_iter();
            found
                .records
                .extend(records.filter(|record| record.offset >= offset));
            found.aborted.extend(answer.aborted);
            if end >= answer.high_watermark {
                return Ok(found);
            }
            if end == offset {
                patience.wait(format!("it is up to offset {end}")).await?;
            }
            offset = end;
        }
    }
}

/// The records that count among `batches`, where the transactions `aborted` (producer and first
/// offset) do not. All batches lie before the last stable offset.
pub fn committed_records(batches: Vec<StoredBatch>, aborted: &[(i64, i64)]) -> Vec<StoredRecord> {
    let mut coming: BTreeMap<i64, VecDeque<i64>> = BTreeMap::new();
    let mut sorted = aborted.to_vec();
    sorted.sort_by_key(|(_, first)| *first);
    for (producer, first) in sorted {
        coming.entry(producer).or_default().push_back(first);
    }
    let mut aborting: BTreeSet<i64> = BTreeSet::new();
    let mut counts = Vec::new();
    for batch in batches {
        let producer = batch.stamp.id;
        if batch.is_control() {
            aborting.remove(&producer);
            continue;
        }
        if batch.attributes & TRANSACTIONAL_BIT != 0 {
            let firsts = coming.entry(producer).or_default();
            while firsts
                .pop_front_if(|first| *first < batch.next_offset())
                .is_some()
            {
                aborting.insert(producer);
            }
            if aborting.contains(&producer) {
                continue;
            }
        }
        counts.extend(batch.records);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{CONTROL_BIT, RecordSpec, Stamp};

    /// A batch of one record at an offset.
    fn batch(base_offset: i64, id: i64, attributes: i16) -> StoredBatch {
        StoredBatch {
            base_offset,
            leader_epoch: 0,
            attributes,
            last_offset_delta: 0,
            stamp: Stamp {
                id,
                epoch: 0,
                sequence: 0,
            },
            records: vec![StoredRecord {
                offset: base_offset,
                timestamp_ms: 0,
                content: RecordSpec::of("v"),
            }],
        }
    }

    fn offsets(batches: Vec<StoredBatch>, aborted: &[(i64, i64)]) -> Vec<i64> {
        let records = committed_records(batches, aborted);
        records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn aborted_transactions_are_left_out_from_their_first_offset_to_their_marker() {
        let (data, marker) = (TRANSACTIONAL_BIT, TRANSACTIONAL_BIT | CONTROL_BIT);
        let log = || {
            vec![
                batch(0, 7, data),
                batch(1, 7, marker),
                batch(2, 7, data),
                batch(3, 8, data),
                batch(4, -1, 0),
                batch(5, 7, marker),
                batch(6, 7, data),
                batch(7, 8, marker),
                batch(8, 7, marker),
            ]
        };
        assert_eq!(offsets(log(), &[]), [0, 2, 3, 4, 6]);
        assert_eq!(offsets(log(), &[(7, 2)]), [0, 3, 4, 6]);
        assert_eq!(offsets(log(), &[(7, 6), (7, 0)]), [2, 3, 4]);
        assert_eq!(offsets(log(), &[(8, 3), (7, 2)]), [0, 4, 6]);
    }
}
