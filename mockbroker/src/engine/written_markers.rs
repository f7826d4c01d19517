//! Markers that requests bring: WriteTxnMarkers, by which brokers that coordinate transactions tell
//! those that lead partitions how they end, and by which an admin client ends what hangs.
//!
//! *State* of such a marker in a partition of `__consumer_offsets`:
//!
//! ```text
//!           its leader appends it                   the watermark passes it
//! brought ────────────────────────▶ appended ─┬────────────────────────────▶ what was pending ends
//!                                             └─ truncated ─▶ nothing ends
//! ```
//!
//! *Invariants*
//! 1. No coordinator of transactions is asked, and none hears of it.
//! 2. Markers that anybody may send are let in as batches are: within the rooms of logs and of
//!    producers.
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleWriteTxnMarkersRequest,
//! `storage/…/internals/log/ProducerAppendInfo.java` appendEndTxnMarker; observed on 4.3.1.
//!
//! *Not here* the markers of this cluster's own coordinators (`txn_markers.rs`).

use super::cluster::{Cluster, wall_clock_ms};
use super::effect::BrokerId;
use super::groups::OFFSETS_TOPIC;
use super::log::Log;
use super::marker::{EpochRule, Marker};
use super::partition::AppendError;
use super::producer_state::OpenHere;
use super::time::Instant;
use super::topology::PartitionKey;

/// A marker in a partition of the log of offsets, which the watermark has not passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenMarker {
    partition: PartitionKey,
    offset: i64,
    marker: Marker,
}

impl Cluster {
    /// A broker that leads a partition appends a marker; returns its offset.
    ///
    /// # Errors
    ///
    /// See [`Partition::append_marker`](super::partition::Partition::append_marker); no room;
    /// `None` when there is no such partition.
    pub fn write_marker(
        &mut self,
        (key, broker): (PartitionKey, BrokerId),
        (marker, rule): (&Marker, EpochRule),
        now: Instant,
    ) -> Result<i64, Option<AppendError>> {
        if self.partition(key).is_none() {
            return Err(None);
        }
        if !self.leads(key, broker) {
            return Err(Some(AppendError::NotLeader));
        }
        self.check_marker_room((key, broker), marker, now)?;
        let log_of_offsets = self.is_log_of_offsets(key);
        let offsets = self.groups.offsets();
        let pending = offsets.open_epoch(key.partition, marker.producer_id);
        let pending = pending.filter(|_| log_of_offsets);
        if pending.is_some_and(|epoch| rule.is_late(marker.epoch, epoch, OpenHere::Open)) {
            return Err(Some(AppendError::StaleEpoch));
        }
        let known = self.producers_on(key, broker);
        let topology = self.views.get(&broker).unwrap_or(&self.topology);
        let (Some(topic), Some(partition)) =
            (topology.topic(key.topic), self.partitions.get_mut(&key))
        else {
            return Err(None);
        };
        let config = self.dynamic.of_topic(&topic.config, broker, &self.config);
        let now_ms = wall_clock_ms(self.wall_clock_origin_ms, now);
        let appended = partition.append_marker(broker, (marker, rule), &config, now_ms);
        let offset = appended.map_err(Some)?;
        self.on_appended(key, broker, known);
        if log_of_offsets {
            self.groups.written.push(WrittenMarker {
                partition: key,
                offset,
                marker: *marker,
            });
        }
        self.on_replicas_changed(key, now);
        Ok(offset)
    }

    fn check_marker_room(
        &mut self,
        (key, broker): (PartitionKey, BrokerId),
        marker: &Marker,
        now: Instant,
    ) -> Result<(), Option<AppendError>> {
        if self.log_room() == 0 && !self.regain_log_room() {
            self.on_log_room_missed();
            return Err(Some(AppendError::NoRoom));
        }
        let replicas = self.partition(key).map(|partition| partition.replicas());
        let replica = replicas.and_then(|replicas| replicas.replica(broker));
        let knows = replica.is_some_and(|of| of.producers().knows(marker.producer_id));
        if !knows && !self.has_producer_room() && !self.regain_producer_room(now) {
            self.on_producer_room_missed();
            return Err(Some(AppendError::TooManyProducers));
        }
        Ok(())
    }

    fn is_log_of_offsets(&self, key: PartitionKey) -> bool {
        let topic = self.topology.topic(key.topic);
        topic.is_some_and(|topic| topic.name.as_ref() == OFFSETS_TOPIC)
    }

    /// A partition has changed: where the watermark has passed markers that requests brought, what
    /// was pending ends.
    pub(super) fn settle_written_markers(&mut self, key: PartitionKey) {
        let of_key = |written: &WrittenMarker| written.partition == key;
        if !self.groups.written.iter().any(of_key) {
            return;
        }
        let leader = self.leader(key);
        let log = leader.and_then(|leader| self.partition(key)?.log_on(leader));
        let mut passed = Vec::new();
        let left = self.groups.written.iter().copied().filter(|written| {
            let is_passed = |log: &Log| log.high_watermark() > written.offset;
            if !of_key(written) || !log.is_some_and(is_passed) {
                return true;
            }
            passed.extend(log.filter(|log| holds(log, written)).map(|_| *written));
            false
        });
        self.groups.written = left.collect();
        for WrittenMarker { marker, .. } in passed {
            self.end_pending_offsets(key, marker.producer_id, marker.ending);
        }
    }
}

/// Whether a log has the marker where it was appended, and not something else.
fn holds(log: &Log, written: &WrittenMarker) -> bool {
    let batches = log.batches();
    let place = batches.partition_point(|batch| batch.header.last_offset() < written.offset);
    batches.get(place).and_then(Marker::of) == Some(written.marker)
}
