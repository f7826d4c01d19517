//! The engine's steps on batches that go: look at a partition, send what is ready, expire what is
//! too old.
//!
//! *Source*: Kafka's `Sender` and `RecordAccumulator`.
//!
//! *Not here*: the rules themselves (`partition.rs`, `sequence.rs`, `drain.rs`), what comes back
//! (`settlement.rs`).

use core::time::Duration;

use crate::engine::Engine;
use crate::engine::batch::SealedBatch;
use crate::engine::brokers::{NodeKey, ReadyNode};
use crate::engine::drain::{Due, Hurry, Offer, due};
use crate::engine::effect::{Action, BatchOutcome, ConnectionId, Frame, QueueState, Queues};
use crate::engine::in_flight::{Content, Entry};
use crate::engine::ledger::BatchNumber;
use crate::engine::links::Outgoing;
use crate::engine::metadata::{FIRST_PRODUCE_WITH_IDS, Leadership};
use crate::engine::participants::Joined;
use crate::engine::partition::{Candidate, History, Partition, Tracked};
use crate::engine::report::Report;
use crate::engine::sequence::Run;
use crate::engine::time::{Deadline, Instant};
use crate::error::{Failure, FailureKind};
use crate::types::{Acks, BrokerId, TopicId, TopicIndex, TopicPartition};
use crate::wire::Api;
use crate::wire::produce_request::{self, FrameBudget, PartitionBatch, ProduceHeader};

impl<C> Engine<C> {
    /// Looks at a partition again: expires, fails, restarts, and says where it is ready and when to
    /// look next.
    pub(super) fn evaluate(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let mut queue = queues.state(at);
        let is_overdue_or_broken = self.partition(at).needs_care(now);
        if is_overdue_or_broken || self.needs_care(at.topic, queue, now) {
            self.care_for(at, queues, now);
            queue = queues.state(at);
        }
        self.schedule(at, queue, queues, now);
    }

    /// Whether a look at a partition has more to do than to say where it is ready, though none of
    /// its batches that left the queue needs care.
    fn needs_care(&self, topic: TopicIndex, queue: QueueState, now: Instant) -> bool {
        self.transacting.is_some()
            || self.compresses()
            || queue.oldest_opened_at.is_some_and(self.overdue(now))
            || queue.open_since.is_some_and(self.too_long_open(now))
            || self.metadata.refusal(topic).is_some()
    }

    /// Expires, fails, restarts and compresses what has to be.
    fn care_for(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        self.expire_taken(at, now);
        self.expire_queued(at, queues, now);
        if let Some(refusal) = self.metadata.refusal(at.topic).cloned() {
            self.fail_queued(at, queues, &BatchOutcome::NotWritten(refusal));
        }
        self.fail_outside_transaction(at, queues);
        self.restart_if_settled(at);
        self.compress_ahead(at, queues, now);
        self.close_old(at, queues, now);
        self.complete(at);
    }

    /// Whether the time of a batch that was opened then, and never left its queue, is over.
    fn overdue(&self, now: Instant) -> impl Fn(Instant) -> bool + use<C> {
        let timeout = self.config.delivery_timeout;
        move |opened_at| opened_at + timeout <= now
    }

    /// Whether a batch that was opened then takes no more records.
    ///
    /// The delivery time-out counts from a batch's opening: a record has all of it but what its
    /// batch was open before it came.
    fn too_long_open(&self, now: Instant) -> impl Fn(Instant) -> bool + use<C> {
        let open_max = self.open_max();
        move |opened_at| opened_at + open_max <= now
    }

    /// For how long a batch takes records.
    fn open_max(&self) -> Duration {
        let share = self.config.delivery_timeout / FILL_SHARE;
        self.config.linger.max(share)
    }

    /// The partition of this number, made at its first use.
    pub(super) fn partition(&mut self, at: TopicPartition) -> &mut Partition<C> {
        let idempotence = self.config.idempotence;
        let fresh = || Partition::new(at, Run::new(idempotence));
        self.partitions.get_or_insert_with(at, fresh)
    }

    /// Starts a broken run of sequences anew, once nothing of it can still be on its way.
    fn restart_if_settled(&mut self, at: TopicPartition) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let was_broken = partition.run.gap().is_some();
        partition.restart_if_settled(&mut self.identity);
        if was_broken && let Some((id, epoch)) = partition.run.probing() {
            self.report(Report::EpochBumped {
                partition: at,
                id,
                epoch,
            });
        }
    }

    /// Sends one request to each broker that has something ready and room; says whether any went.
    pub(super) fn send_ready(
        &mut self,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) -> bool {
        let mut sent = false;
        let busy = |broker| {
            let node = self.brokers.ready(NodeKey::Broker(broker));
            node.is_some_and(|node| self.in_flight.count(node.connection) > 0)
        };
        for broker in self.drain.brokers(busy) {
            let key = NodeKey::Broker(broker);
            if let Some(node) = self.brokers.ready(key) {
                if self.has_room(&node) && node.throttled_until <= now {
                    sent |= self.send_batches(node, broker, queues, now);
                }
            } else if self.is_idle(key) {
                self.connect(key, now);
            } else if self.brokers.phase(key).is_none() {
                // A leader without an address: the answer that named it was incomplete.
                self.metadata.request_refresh();
            }
        }
        sent
    }

    /// Whether one more request may be on its way to this node.
    pub(super) fn has_room(&self, node: &ReadyNode) -> bool {
        self.in_flight.count(node.connection) < self.config.in_flight_max
    }

    /// The user gave up: everything ends now.
    pub(super) fn abort(&mut self, queues: &mut impl Queues<Completion = C>) {
        let kind = FailureKind::Closed;
        let taken: Vec<TopicPartition> = self.partitions.keys().collect();
        for at in taken {
            while let Some(number) = self.partition(at).first_open()
                && let Some(batch) = self.take_open(at, number)
            {
                let failure = batch.failure(kind, batch.last_reason.clone());
                self.fail(batch, failure);
            }
            self.drain.set(at, None);
            self.complete(at);
        }
        for at in self.queued.take_all() {
            let failure = Failure::new(kind);
            self.fail_queued(at, queues, &BatchOutcome::NotWritten(failure));
        }
        self.touched.clear();
        self.stirred = false;
    }

    /// Ends all that is queued for a partition, unsent.
    pub(super) fn fail_queued(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        outcome: &BatchOutcome,
    ) {
        while let Some(batch) = self.take_prepared_unsent(at) {
            self.finish(batch, outcome.clone(), None);
        }
        while let Some(batch) = queues.take(at) {
            self.finish_unsent(at, batch, outcome.clone());
        }
        self.complete(at);
    }

    /// Says where a partition is ready, or when to look again.
    fn schedule(
        &mut self,
        at: TopicPartition,
        queue: QueueState,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let joined = self.joins_transaction(at);
        let Some(partition) = self.partitions.get(&at) else {
            return;
        };
        match queue.oldest_opened_at.is_some() || partition.preparing_count() > 0 {
            true => self.queued.insert(at),
            false => self.queued.remove(&at),
        };
        let leadership = self.metadata.leadership(at);
        let expiry = queue
            .oldest_opened_at
            .map(|opened| opened + self.config.delivery_timeout);
        let mut wake = earliest(partition.delivery_deadline(), expiry);
        wake = earliest(wake, queue.open_since.map(|since| since + self.open_max()));
        let mut offer = None;
        let now_with = |bytes| Offer {
            bytes,
            hurry: Hurry::Now,
        };
        let candidate = match joined {
            Joined::Added => partition.candidate(&self.identity),
            Joined::Wanted | Joined::Asked => Candidate::Blocked,
        };
        match candidate {
            Candidate::Blocked => {}
            Candidate::Retry { bytes, .. } => match partition.retry_wait {
                Some(wait) if wait.until > now && wait.tried == leadership => {
                    wake = earliest(wake, Some(wait.until));
                }
                _ => offer = Some(now_with(bytes)),
            },
            Candidate::Prepared { bytes } => offer = Some(now_with(bytes)),
            Candidate::New => match due(queue, self.config.linger, self.urging, now) {
                Due::Empty => {}
                Due::Now => {
                    let bytes = match queue.oldest_bytes {
                        0 => queues.open_bytes(at),
                        sealed => sealed,
                    };
                    offer = Some(now_with(bytes));
                }
                Due::Held(lingered_at) => {
                    wake = earliest(wake, Some(lingered_at));
                    let bytes = queue.sealed_bytes;
                    offer = Some(Offer {
                        bytes: queue.oldest_bytes,
                        hurry: Hurry::Held { bytes },
                    });
                }
                Due::At(lingered_at) => wake = earliest(wake, Some(lingered_at)),
            },
        }
        let on_wire = partition.wire_connection();
        let offered = offer.and_then(|offer| self.offer(leadership, on_wire, offer));
        self.drain.set(at, offered);
        match wake {
            Some(wake) => self.deadlines.set_by(Deadline::Partition(at), wake),
            None => self.deadlines.set(Deadline::Partition(at), None),
        }
    }

    /// Seals the open batch if it is old.
    fn close_old(
        &self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let open_since = queues.state(at).open_since;
        if open_since.is_some_and(self.too_long_open(now)) {
            queues.seal(at);
        }
    }

    /// Whom a partition offers its next batch: its leader, unless its batches are still on another
    /// connection.
    fn offer(
        &mut self,
        leadership: Leadership,
        on_wire: Option<ConnectionId>,
        offer: Offer,
    ) -> Option<(BrokerId, Offer)> {
        let Some(leader) = leadership.leader else {
            self.metadata.request_refresh();
            return None;
        };
        let current = || self.brokers.phase(NodeKey::Broker(leader))?.connection();
        (on_wire.is_none() || on_wire == current()).then_some((leader, offer))
    }

    fn send_batches(
        &mut self,
        node: ReadyNode,
        broker: BrokerId,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) -> bool {
        let chosen = self.choose(broker);
        self.touched.extend(chosen.iter().copied());
        let Some(version) = self.produce_version(&node) else {
            self.fail_unsupported(&chosen, broker, queues, now);
            return !chosen.is_empty();
        };
        let correlation_id = self.in_flight.next_correlation(node.connection);
        let mut entries = Vec::with_capacity(chosen.len());
        for at in chosen {
            let Some(names) = self.metadata.names_of(at.topic).cloned() else {
                continue;
            };
            let Some(batch) = self.take_next(at, queues, now) else {
                continue;
            };
            if let Some(partition) = self.partitions.get_mut(&at) {
                partition.on_sent(&batch, node.connection, correlation_id);
            }
            entries.push(Entry {
                partition: at,
                names,
                batch: Some(batch),
            });
        }
        if entries.is_empty() {
            return false;
        }
        for batch in entries.iter_mut().filter_map(|entry| entry.batch.as_mut()) {
            batch.attempts += 1;
            batch.broker = Some(broker);
            batch.sent_at = Some(now);
            self.actions
                .push_back(Action::Report(Report::sent(batch, now)));
        }
        self.on_batches_sent();
        let (version, frame) = self.produce_frame(node.connection, version, &entries);
        let content = match self.config.acks {
            Acks::None => Content::ProduceUnanswered(entries),
            Acks::Leader | Acks::All => Content::Produce(entries),
        };
        let request = Outgoing {
            content,
            frame,
            version,
        };
        self.send(node.connection, request, now);
        true
    }

    fn choose(&mut self, broker: BrokerId) -> Vec<TopicPartition> {
        let mut budget = FrameBudget::new(&self.config.client_id, self.transactional_id());
        let metadata = &self.metadata;
        let bytes_max = self.config.request_bytes_max;
        let mut batches = 0;
        self.drain.choose(broker, |at, bytes| {
            let name = metadata.names_of(at.topic).map_or("", |names| &*names.name);
            budget = budget.with(name, bytes);
            batches += 1;
            budget.bytes() <= bytes_max && batches <= REQUEST_BATCHES_MAX
        })
    }

    /// Takes a partition's next batch: one that waits for its retry, or the queue's oldest.
    fn take_next(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) -> Option<Tracked<C>> {
        let compresses = self.compresses();
        let partition = self.partitions.get_mut(&at)?;
        match partition.candidate(&self.identity) {
            Candidate::Retry { index, .. } => partition.take_waiting(index),
            Candidate::Prepared { .. } => partition.take_prepared(&self.identity),
            Candidate::New if compresses => {
                self.compress_next(at, queues, now);
                None
            }
            Candidate::New => {
                let mut batch = queues.take(at)?;
                batch.note_sealed(now);
                let deadline = batch.opened_at() + self.config.delivery_timeout;
                let stamp = partition.run.assign(batch.record_count(), &self.identity);
                Some(partition.track(batch.stamp(stamp), deadline))
            }
            Candidate::Blocked => None,
        }
    }

    fn produce_frame(
        &self,
        connection: ConnectionId,
        version: i16,
        entries: &[Entry<C>],
    ) -> (i16, Frame) {
        let nameless = entries.iter().any(|entry| entry.names.id == TopicId::ZERO);
        let version = if nameless {
            version.min(FIRST_PRODUCE_WITH_IDS - 1)
        } else {
            version
        };
        let timeout = self.config.request_timeout.as_millis();
        let header = ProduceHeader {
            request: self.header(connection, Api::Produce, version),
            transactional_id: self.transactional_id(),
            acks: self.config.acks,
            timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
        };
        let batches: Vec<_> = entries
            .iter()
            .filter_map(|entry| {
                Some(PartitionBatch {
                    topic: entry.names.reference(version),
                    partition: entry.partition.partition,
                    records: entry.batch.as_ref()?.batch.share(),
                })
            })
            .collect();
        (version, Frame(produce_request::encode(&header, &batches)))
    }

    fn finish_unsent(&mut self, at: TopicPartition, batch: SealedBatch<C>, outcome: BatchOutcome) {
        let report = Report::unsent(at, &batch, &outcome);
        self.on_batch_ended(&outcome);
        self.partition(at)
            .finish_unsent(batch.into_completion(), outcome);
        self.report(report);
    }

    /// `delivery.timeout.ms` for batches that were taken.
    fn expire_taken(&mut self, at: TopicPartition, now: Instant) {
        let overdue = |one: &Self| one.partitions.get(&at).and_then(|p| p.overdue(now));
        while let Some(number) = overdue(self) {
            if self.asks_about_overdue(at, number, now) {
                continue;
            }
            let Some(batch) = self.take_open(at, number) else {
                return;
            };
            let failure = match batch.attempts {
                0 => self.never_sent(at),
                _ => self.failure_of_overdue(&batch),
            };
            self.fail(batch, failure);
        }
    }

    /// `delivery.timeout.ms` for batches that never left the queue.
    fn expire_queued(
        &mut self,
        at: TopicPartition,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        let overdue = self.overdue(now);
        while queues.state(at).oldest_opened_at.is_some_and(&overdue) {
            let Some(batch) = queues.take(at) else { return };
            let failure = self.never_sent(at);
            self.finish_unsent(at, batch, BatchOutcome::NotWritten(failure));
        }
    }

    /// Why a batch of this partition was never sent in its time.
    fn never_sent(&self, at: TopicPartition) -> Failure {
        let leader = self.metadata.leadership(at).leader;
        let message = match leader {
            Some(leader) => self.brokers.last_failure(leader),
            None => Some(
                self.brokers
                    .last_failures()
                    .unwrap_or_else(|| "no leader is known".into()),
            ),
        };
        Failure {
            broker: leader,
            message,
            ..Failure::new(FailureKind::DeliveryTimedOut)
        }
    }

    /// Takes an open batch from wherever it is; on the wire it is possibly written.
    fn take_open(&mut self, at: TopicPartition, number: BatchNumber) -> Option<Tracked<C>> {
        let partition = self.partitions.get_mut(&at)?;
        let Some(place) = partition.wire_place(number) else {
            let waiting = partition.take_waiting_number(number);
            return waiting.or_else(|| partition.take_preparing());
        };
        partition.on_returned(number);
        let connection = place.connection;
        let correlation_id = place.correlation_id;
        let mut batch = self.in_flight.take_back(connection, correlation_id, at)?;
        batch.history = History::PossiblyWritten;
        batch
            .last_reason
            .get_or_insert_with(|| "no answer yet".into());
        Some(batch)
    }

    fn fail_unsupported(
        &mut self,
        chosen: &[TopicPartition],
        broker: BrokerId,
        queues: &mut impl Queues<Completion = C>,
        now: Instant,
    ) {
        for at in chosen {
            let message = "no common version of the Produce api";
            while let Some(mut batch) = self.take_next(*at, queues, now) {
                batch.broker = Some(broker);
                let kind = FailureKind::UnsupportedVersion;
                let failure = batch.failure(kind, Some(message.into()));
                self.fail(batch, failure);
            }
            self.complete(*at);
        }
    }
}

/// The most batches in one request, which Kafka's producer does not bound. Each step of a request
/// is taken for all of its batches before the next step is, so what is known of thousands has left
/// the processor's caches by then, and each costs twice as much.
const REQUEST_BATCHES_MAX: usize = 256;

/// The part of the delivery time-out for which a batch takes records: where nothing can be sent, a
/// record has nearly all of its time, and there are no more than so many batches for it.
const FILL_SHARE: u32 = 16;

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
