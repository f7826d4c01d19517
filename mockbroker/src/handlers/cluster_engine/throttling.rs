//! What requests and answers weigh, and the silence of who exceeds a quota.
//!
//! *State* of an answer:
//!
//! ```text
//!              within the quota
//! there ─▶ weighed ────────────▶ sent ─▶ the next frame
//!             │ beyond it
//!             └─▶ sent at once, saying for how long ─▶ muted for as long ─▶ the next frame
//!                 (Fetch: without records; acks=0: nothing is sent)
//! ```
//!
//! *Invariants*
//! 1. A throttled connection has its request in progress until the time is over, so what comes
//!    behind it waits.
//! 2. Records that a throttled Fetch does not bring do not weigh.
//!
//! *Source* KIP-219; apache/kafka `core/…/server/KafkaApis.scala` handleProduceRequest and
//! handleFetchRequest; observed on 4.3.1: rows with errors weigh like others.
//!
//! *Not here* rates (`engine/quotas.rs`).
//!
//! *Deviations* a Produce that is refused as a whole weighs too. A throttled Fetch that begins a
//! session has its id at once, where Kafka begins it with the next Fetch.

use core::time::Duration;

use bytes::Bytes;

use super::{ClusterEngine, Waiting, request_id};
use crate::config::ConfigError;
use crate::engine::effect::ConnectionId;
use crate::engine::journal::Event;
use crate::engine::quotas::{QuotaEntity, QuotaKey, check_entity, check_value};
use crate::engine::time::Instant;
use crate::handlers::Context;
use crate::wire::reply::{Reply, Unencodable};

impl ClusterEngine {
    /// Sets a quota, or removes it, as AlterClientQuotas would.
    ///
    /// # Errors
    ///
    /// An entity, a key or a value that Kafka would refuse.
    pub fn set_quota(
        &mut self,
        entity: &QuotaEntity,
        key: &str,
        value: Option<f64>,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let nobody = |fault: String| ConfigError::bad_value("quota", entity.to_string(), fault);
        check_entity(entity).map_err(|fault| nobody(fault.to_string()))?;
        let known = QuotaKey::of(key);
        let known = known.ok_or_else(|| ConfigError::unknown_key(key, "", QuotaKey::NAMES))?;
        if let Some(value) = value {
            let bad = |fault: String| ConfigError::bad_value(key, value.to_string(), fault);
            check_value(entity, key, value).map_err(|fault| bad(fault.to_string()))?;
        }
        let set = self.cluster.set_quota(entity, known, value);
        for note in self.cluster.take_notes() {
            self.journal.diagnose(note, None, now);
        }
        set.map_err(|fault| nobody(fault.to_string()))
    }

    /// The frame of a reply, which tells for how long its connection is throttled.
    pub(super) fn weigh_and_encode(
        &mut self,
        connection: ConnectionId,
        reply: &Reply,
        now: Instant,
    ) -> Option<Result<Bytes, Unencodable>> {
        let throttle = match reply {
            Reply::Produce(_) => self.weigh_request(connection, now),
            _ => Duration::ZERO,
        };
        let in_progress = self.in_progress.get(&connection)?;
        let header = in_progress.context.header.clone();
        let encoded = reply.encode(&header, throttle);
        match (reply, encoded) {
            (Reply::Fetch(body), Ok(frame)) => {
                // What Kafka weighs is the body with the four bytes of its size before it.
                let header_bytes = if header.version >= 12 { 5 } else { 4 };
                let bytes = frame.len() - header_bytes + 4;
                let throttle = self.weigh(connection, QuotaKey::ConsumerByteRate, bytes, now);
                if throttle.is_zero() {
                    return Some(Ok(frame));
                }
                self.take_back(connection, QuotaKey::ConsumerByteRate, bytes, now);
                Some(Reply::Fetch(body.throttled()).encode(&header, throttle))
            }
            (_, encoded) => Some(encoded),
        }
    }

    /// Weighs the request in progress, a Produce.
    pub(super) fn weigh_request(&mut self, connection: ConnectionId, now: Instant) -> Duration {
        let in_progress = self.in_progress.get(&connection);
        let bytes = in_progress.map_or(0, |in_progress| in_progress.frame_bytes);
        self.weigh(connection, QuotaKey::ProducerByteRate, bytes, now)
    }

    fn weigh(
        &mut self,
        connection: ConnectionId,
        key: QuotaKey,
        bytes: usize,
        now: Instant,
    ) -> Duration {
        let Some(in_progress) = self.in_progress.get_mut(&connection) else {
            return Duration::ZERO;
        };
        let Context { header, broker, .. } = &in_progress.context;
        let who = (*broker, header.client_id.as_deref().unwrap_or_default());
        let throttle = self.cluster.weigh(key, who, bytes, now);
        in_progress.throttle = throttle;
        self.take_notes(connection, now);
        throttle
    }

    fn take_back(&mut self, connection: ConnectionId, key: QuotaKey, bytes: usize, now: Instant) {
        if let Some(in_progress) = self.in_progress.get(&connection) {
            let Context { header, broker, .. } = &in_progress.context;
            let who = (*broker, header.client_id.as_deref().unwrap_or_default());
            self.cluster.take_back(key, who, bytes, now);
        }
    }

    /// The request in progress has its answer: the next one follows, or the silence before it.
    pub(super) fn end(&mut self, connection: ConnectionId, now: Instant) {
        let Some(in_progress) = self.in_progress.get_mut(&connection) else {
            return;
        };
        let throttle = core::mem::take(&mut in_progress.throttle);
        let Context { header, broker, .. } = &in_progress.context;
        if throttle.is_zero() {
            self.in_progress.remove(&connection);
            self.finish(connection);
        } else {
            let (id, broker) = (request_id(header), *broker);
            let event = Event::Throttled { id, throttle };
            self.record(broker, connection, event, now);
            self.purgatory
                .park(connection, Waiting::Throttled, Vec::new(), now + throttle);
        }
    }
}
