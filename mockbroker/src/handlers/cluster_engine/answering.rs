//! How a request ends: its answer, what the rule's verdict makes of it, and the effects.
//!
//! *State* of an answer:
//!
//! ```text
//!        wait                      Delay                      Drip
//! there ─────▶ parked ─▶ there ─┬───────▶ parked ─▶ emitted ─┬──────▶ piece ─▶ parked ─▶ piece …
//!                               ├─ lost: muted               ├─ reply ─▶ the next frame
//!                               └─ closed or reset           └─ cut ─▶ closed
//! ```
//!
//! *Invariants*
//! 1. A request that ends has left `in_progress`, or waits in the purgatory for its next piece.
//! 2. Whoever is broken off is forgotten everywhere, before the effect that says so.
//!
//! *Source* apache/kafka `core/…/network/SocketServer.scala` for muting and closing.
//!
//! *Not here* the turn of a connection and the judgement (`cluster_engine.rs`).

use std::sync::Arc;

use bytes::Bytes;

use super::{ClusterEngine, Waiting, request_id};
use crate::engine::effect::{BrokerId, ConnectionId, Effect};
use crate::engine::journal::{Entry, Event, Silence};
use crate::engine::time::Instant;
use crate::fault::Verdict;
use crate::handlers::{Answer, Context, Pending, Wait};
use crate::wire::reply::{Reply, SIZE_BYTES, sized};

impl ClusterEngine {
    pub(super) fn end_wait_if_complete(&mut self, connection: ConnectionId, now: Instant) {
        let Some(Waiting::Pending(pending)) = self.purgatory.waiting_mut(connection) else {
            return;
        };
        let in_progress = self.in_progress.get(&connection);
        let complete = in_progress
            .is_some_and(|in_progress| pending.settle(&self.cluster, &in_progress.context));
        if complete && let Some(Waiting::Pending(pending)) = self.purgatory.take(connection) {
            self.end_wait(connection, pending, now);
        }
    }

    pub(super) fn end_wait(&mut self, connection: ConnectionId, pending: Pending, now: Instant) {
        if let Some(in_progress) = self.in_progress.get(&connection) {
            let answer = pending.answer(&mut self.cluster, &in_progress.context, now);
            self.deliver(connection, answer, now);
        }
    }

    /// A wait whose time has come already ends at once.
    fn park(&mut self, connection: ConnectionId, wait: Wait, now: Instant) {
        if wait.deadline <= now {
            self.end_wait(connection, wait.pending, now);
        } else {
            let waiting = Waiting::Pending(wait.pending);
            self.purgatory
                .park(connection, waiting, wait.watched, wait.deadline);
        }
    }

    /// An answer is there; the rule's verdict decides what becomes of it.
    pub(super) fn deliver(&mut self, connection: ConnectionId, answer: Answer, now: Instant) {
        let Some(in_progress) = self.in_progress.get(&connection) else {
            return;
        };
        match (answer, in_progress.verdict) {
            (Answer::Wait(wait), _) => self.park(connection, wait, now),
            (_, Verdict::ApplyThenLose) => self.silence(connection, Silence::Lost, now),
            (_, Verdict::CloseAfter) => self.close(connection, "a fault rule".into(), now),
            (_, Verdict::ResetAfter) => self.reset(connection, now),
            // There is no reply that could be cut.
            (Answer::Silent, Verdict::CutAfter(_)) => {
                self.close(connection, "a fault rule".into(), now);
            }
            (answer, Verdict::Delay(delay)) if in_progress.arrived + delay > now => {
                let due = in_progress.arrived + delay;
                self.purgatory
                    .park(connection, Waiting::Delayed(answer), Vec::new(), due);
            }
            (answer, _) => self.emit(connection, answer, now),
        }
    }

    pub(super) fn emit(&mut self, connection: ConnectionId, answer: Answer, now: Instant) {
        match answer {
            Answer::Reply(reply) => self.emit_reply(connection, &reply, now),
            Answer::Silent => {
                if let Some(in_progress) = self.in_progress.get(&connection) {
                    let Context { header, broker, .. } = &in_progress.context;
                    let (id, broker) = (request_id(header), *broker);
                    let reason = Silence::NotAsked;
                    self.record(broker, connection, Event::NoReply { id, reason }, now);
                    self.weigh_request(connection, now);
                    self.end(connection, now);
                }
            }
            Answer::Stuck => self.silence(connection, Silence::Stuck, now),
            Answer::Close(reason) => self.close(connection, reason, now),
            Answer::Wait(wait) => self.park(connection, wait, now),
        }
    }

    fn emit_reply(&mut self, connection: ConnectionId, reply: &Reply, now: Instant) {
        let Some(in_progress) = self.in_progress.get(&connection) else {
            return;
        };
        let Context { header, broker, .. } = &in_progress.context;
        let (id, broker, verdict) = (request_id(header), *broker, in_progress.verdict);
        let frame = match self.weigh_and_encode(connection, reply, now) {
            None => return,
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.diagnose(connection, error.to_string(), now);
                return self.close(connection, error.to_string().into(), now);
            }
        };
        if let Verdict::CutAfter(bytes) = verdict
            && bytes < SIZE_BYTES + frame.len()
        {
            let reason = Silence::Cut;
            self.record(broker, connection, Event::NoReply { id, reason }, now);
            let bytes = sized(&frame).split_to(bytes);
            if !bytes.is_empty() {
                self.write(Effect::Piece { connection, bytes }, now);
            }
            return self.close(connection, "a fault rule".into(), now);
        }
        let event = Event::Reply {
            id,
            bytes: frame.len(),
            codes: reply.codes(),
        };
        self.record(broker, connection, event, now);
        if let Verdict::Drip { .. } = verdict {
            return self.drip(connection, sized(&frame), now);
        }
        self.write(Effect::Reply { connection, frame }, now);
        match verdict {
            Verdict::CutAfter(_) => self.close(connection, "a fault rule".into(), now),
            _ => self.end(connection, now),
        }
    }

    /// The next piece of a reply; the last one ends the request.
    pub(super) fn drip(&mut self, connection: ConnectionId, mut rest: Bytes, now: Instant) {
        let in_progress = self.in_progress.get(&connection);
        let Some(Verdict::Drip { piece_bytes, pause }) = in_progress.map(|request| request.verdict)
        else {
            return;
        };
        let bytes = rest.split_to(piece_bytes.clamp(1, rest.len()));
        self.write(Effect::Piece { connection, bytes }, now);
        if rest.is_empty() {
            self.end(connection, now);
        } else {
            self.purgatory
                .park(connection, Waiting::Dripping(rest), Vec::new(), now + pause);
        }
    }

    fn write(&mut self, effect: Effect, now: Instant) {
        self.idle.on_traffic(effect.connection(), now);
        self.effects.push_back(effect);
    }

    pub(super) fn finish(&mut self, connection: ConnectionId) {
        if let Some(frame) = self.connections.finish(connection) {
            self.ready.push_back((connection, frame));
        }
    }

    /// Leaves the request without an end: the connection answers nothing more.
    pub(super) fn silence(&mut self, connection: ConnectionId, reason: Silence, now: Instant) {
        if let Some(in_progress) = self.in_progress.remove(&connection) {
            let Context { header, broker, .. } = in_progress.context;
            let id = request_id(&header);
            self.record(broker, connection, Event::NoReply { id, reason }, now);
        }
        self.connections.mute(connection);
    }

    pub(super) fn close(&mut self, connection: ConnectionId, reason: Arc<str>, now: Instant) {
        self.break_off(Effect::Close { connection }, reason, now);
    }

    pub(super) fn reset(&mut self, connection: ConnectionId, now: Instant) {
        let reason = "a fault rule resets it".into();
        self.break_off(Effect::Reset { connection }, reason, now);
    }

    fn break_off(&mut self, end: Effect, reason: Arc<str>, now: Instant) {
        let connection = end.connection();
        if let Some(broker) = self.connections.broker(connection) {
            self.forget(connection);
            self.record(broker, connection, Event::Closed { reason }, now);
            self.effects.push_back(end);
        }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.connections.close(connection);
        self.idle.close(connection);
        self.in_progress.remove(&connection);
        self.purgatory.take(connection);
        self.still.remove(&connection);
        self.ready.retain(|(other, _)| *other != connection);
    }

    pub(super) fn take_notes(&mut self, connection: ConnectionId, now: Instant) {
        for note in self.cluster.take_notes() {
            self.diagnose(connection, note, now);
        }
    }

    pub(super) fn diagnose(&mut self, connection: ConnectionId, text: String, now: Instant) {
        self.journal.diagnose(text, Some(connection), now);
    }

    pub(super) fn record(
        &mut self,
        broker: BrokerId,
        connection: ConnectionId,
        event: Event,
        now: Instant,
    ) {
        self.journal.record(Entry {
            at: now,
            broker,
            connection,
            event,
        });
    }
}
