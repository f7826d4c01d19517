//! A planted defect: a producer that keeps its epoch where it should raise it.
//!
//! The engine asks for a higher epoch and is told that it has one; on the wire it goes on with the
//! one before, and with its sequences.
//!
//! *State* of an epoch of the engine
//! ```text
//!                 asked to be raised                     what leaves with it
//! the wire's own ───────────────────▶ (told) raised ──────────────────────────▶ rewritten
//! ```
//!
//! *Not here*: which law has to notice (`tests/negative_controls.rs`).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_mockbroker::Api;

use crate::history::{Partition, WireBatch};

/// What the engine believes, and what leaves.
#[derive(Debug, Default)]
pub(crate) struct Unraised {
    /// By producer id and the engine's epoch: the wire's.
    epochs: BTreeMap<(i64, i16), i16>,
    /// By producer id, the engine's epoch and partition: where its sequences begin on the wire.
    bases: BTreeMap<(i64, i16, Partition), i32>,
}

impl Unraised {
    /// The answer to a question for a higher epoch, which then never leaves; nothing for others.
    ///
    /// *Source*: Kafka's `InitProducerIdRequest.json` and its response, versions 3 to 5.
    pub(crate) fn answer(&mut self, request: &Bytes) -> Option<Bytes> {
        let (head, producer) = request.split_last_chunk::<11>()?;
        let is_init = head.starts_with(&Api::InitProducerId.key().to_be_bytes());
        let [p0, p1, p2, p3, p4, p5, p6, p7, e0, e1, _] = *producer;
        let id = i64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let epoch = i16::from_be_bytes([e0, e1]);
        if !is_init || id < 0 {
            return None;
        }
        let raised = epoch.checked_add(1)?;
        self.epochs.insert((id, raised), self.epoch(id, epoch));
        let mut answer = BytesMut::new();
        answer.put_slice(head.get(4..8)?);
        answer.put_u8(0);
        answer.put_i32(0);
        answer.put_i16(0);
        answer.put_i64(id);
        answer.put_i16(raised);
        answer.put_u8(0);
        Some(answer.freeze())
    }

    fn epoch(&self, id: i64, epoch: i16) -> i16 {
        self.epochs.get(&(id, epoch)).copied().unwrap_or(epoch)
    }

    /// What leaves in place of a request about transactions.
    pub(crate) fn on_question(&self, request: &mut [u8]) {
        for ((id, epoch), wires) in &self.epochs {
            let named = [&id.to_be_bytes()[..], &epoch.to_be_bytes()].concat();
            let at = request.windows(named.len()).position(|at| at == named);
            if let Some(at) = at {
                request[at + 8..at + 10].copy_from_slice(&wires.to_be_bytes());
                return;
            }
        }
    }

    /// Epoch and sequence that a batch leaves with, if not its own.
    pub(crate) fn on_batch(&mut self, batch: &WireBatch, sent: &[WireBatch]) -> Option<(i16, i32)> {
        let id = batch.producer_id;
        let epoch = *self.epochs.get(&(id, batch.epoch))?;
        let line = (id, batch.epoch, batch.partition.clone());
        let base = *self.bases.entry(line).or_insert_with(|| {
            let same = |earlier: &&WireBatch| {
                (earlier.producer_id, earlier.epoch, &earlier.partition)
                    == (id, epoch, &batch.partition)
            };
            let before = sent.iter().filter(same);
            let ends = before.map(|one| one.base_sequence.wrapping_add(one.record_count));
            ends.max().unwrap_or_default()
        });
        Some((epoch, base.wrapping_add(batch.base_sequence)))
    }
}
