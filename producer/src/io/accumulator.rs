//! Where records wait to be sent: each is encoded once, into its partition's open batch.
//!
//! A record costs its encoding, one lock that nobody else is likely to hold, and a ticket. Memory,
//! clock, allocation and the driver's wake-up are paid per batch.
//!
//! *State* of an append
//! ```text
//!                 fits                               room in memory
//!   open batch? ───────▶ accepted      no batch, ─────────────────▶ batch opened, accepted
//!        │ no                          or full   └─ none ─▶ refused: NeedsRoom
//!        └──────────────────────────────▲
//! ```
//!
//! *Invariants*
//! 1. Records of a partition are sent in the order in which they were accepted.
//! 2. The lock is never held while a buffer is allocated, memory waited for, or the driver woken.
//! 3. Each batch is told to the driver when it opens and when it fills, by whoever did it.
//! 4. A batch's bytes are set aside before it exists: those of its buffer until that is dropped,
//!    those of its state until it is settled.
//!
//! *Source*: Kafka's `RecordAccumulator.append`.
//!
//! *Not here*: waiting (`producer.rs`), who takes batches and when (`driver.rs`, the engine).

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::engine::queue::{
    Appended, NewBatch, NoRoom, Notice, QueueLimits, RecordView, SealedBatch,
};
use crate::error::{ErrorCode, FailureKind};
use crate::io::clock::Clock;
use crate::io::completion::{BatchCompletion, RecordInBatch};
use crate::io::inbox::{Inbox, News};
use crate::io::incomplete::Incomplete;
use crate::io::memory::{Memory, Reservation};
use crate::io::meters::Meters;
use crate::io::outgoing::{Accepted, Choice, Haste, Outgoing, Refused, Timestamp};
use crate::io::pause::Pauses;
use crate::io::phase::PhaseCell;
use crate::io::room::Need;
use crate::io::slot::{Filling, Gate, Slot, SlotQueue};
use crate::io::sticky::{self, Batch, Chosen, Circumstances, Spreading};
use crate::io::topics::{Partitions, Route, TopicEntry, Topics};

/// The handle that travels with a batch.
pub(crate) type Ticket = Arc<BatchCompletion>;

/// The bounds of what waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A batch's largest size in bytes, at most `request_bytes`.
    pub(crate) batch_bytes: usize,
    /// The largest record's, in bytes (`max.request.size`).
    pub(crate) request_bytes: usize,
    /// All memory, in bytes (`buffer.memory`).
    pub(crate) memory_bytes: usize,
    /// What of it belongs to threads that compress.
    pub(crate) codec_bytes: usize,
    /// A batch's largest size before it is compressed, in bytes; at least `batch_bytes`.
    pub(crate) plain_bytes_max: usize,
}

/// What producers share with their driver.
#[derive(Debug)]
pub(crate) struct Accumulator {
    pub(crate) limits: Limits,
    pub(crate) spreading: Spreading,
    seed: u64,
    batch_numbers: AtomicU64,
    batches_queued: AtomicUsize,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) incomplete: Incomplete,
    pub(crate) memory: Arc<Memory>,
    /// On the heap: what the driver writes shares no cache line with what each send reads.
    pub(crate) meters: Box<Meters>,
    pub(crate) phase: PhaseCell,
    pub(crate) topics: Topics,
    pub(crate) pauses: Pauses,
}

/// One partition of one topic as an append sees it.
#[derive(Clone, Copy)]
struct Target<'a> {
    topic: &'a TopicEntry,
    slot: &'a Slot,
    /// The sticky choice that led here, if one did.
    sticky: Option<Chosen>,
}

/// What an append leaves to do when the lock is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct After {
    notice: Notice,
    /// How often threads collided while the sticky choice was here, if it leaves the partition.
    turn_ended: Option<u32>,
}

impl After {
    const NOTHING: Self = Self {
        notice: Notice::None,
        turn_ended: None,
    };
}

/// Why a record did not go into a slot.
enum Missed {
    Closed,
    /// The sticky choice went elsewhere.
    Moved,
    /// No batch is open that has room for it.
    Full {
        /// What the next one is expected to come to.
        expected_bytes: usize,
    },
    /// The open batch needs a buffer of so many bytes.
    Outgrown {
        bytes: usize,
    },
}

impl Accumulator {
    pub(crate) fn new(limits: Limits, spreading: Spreading, meters: Meters, seed: u64) -> Self {
        Self {
            limits,
            spreading,
            seed,
            batch_numbers: AtomicU64::new(0),
            batches_queued: AtomicUsize::new(0),
            clock: Clock::start(),
            inbox: Arc::default(),
            incomplete: Incomplete::default(),
            memory: Memory::new(limits.memory_bytes - limits.codec_bytes),
            meters: Box::new(meters),
            phase: PhaseCell::open(),
            topics: Topics::default(),
            pauses: Pauses::default(),
        }
    }

    /// The topic of this name; its first use asks the driver to learn about it.
    pub(crate) fn topic(&self, name: &str) -> Arc<TopicEntry> {
        self.topics.add(name, self.seed, |entry| {
            self.inbox.post_wanted(entry.index, Arc::clone(&entry.name));
        })
    }

    /// Asks the driver to learn about a topic again, if it was forgotten and nobody did.
    pub(crate) fn want_again(&self, topic: &TopicEntry) {
        if let Route::Forgotten(wanted) = &**topic.route.load()
            && wanted.is_first()
        {
            self.inbox.post_wanted(topic.index, Arc::clone(&topic.name));
        }
    }

    /// Asks the driver about a topic that was refused, unless somebody did; says whether another
    /// answer can come: a permission may be given, a name stays invalid.
    ///
    /// *Source*: Kafka's `KafkaProducer.waitOnMetadata`.
    pub(crate) fn ask_again(&self, topic: &TopicEntry) -> bool {
        let route = topic.route.load();
        let Route::Refused(failure, wanted) = &**route else {
            return true;
        };
        let may_change =
            failure.kind == FailureKind::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        if may_change && wanted.is_first() {
            self.inbox.post_wanted(topic.index, Arc::clone(&topic.name));
        }
        may_change
    }

    /// The bounds of each partition's queue.
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        QueueLimits {
            batch_bytes: self.limits.batch_bytes,
        }
    }

    /// Whether batches wait that the driver has not taken.
    pub(crate) fn has_queued(&self) -> bool {
        self.batches_queued.load(Ordering::Relaxed) > 0
    }

    /// Appends a record if its batch is open and has room: what nearly every record does.
    /// `None` changes nothing and says nothing; [`Accumulator::append`] finds out.
    #[inline(always)]
    pub(crate) fn append_now(
        &self,
        topic: &TopicEntry,
        mut view: RecordView<'_>,
        (timestamp, choice): (Timestamp, Choice),
    ) -> Option<Accepted> {
        let sticky = || topic.sticky.chosen_before(topic.slots.count());
        let (partition, sticky) = choice.among(sticky)?;
        let slot = topic.slots.slot(partition)?;
        if timestamp == Timestamp::Clock {
            view.timestamp_ms = self.clock.coarse_wall_ms();
        }
        let target = Target {
            topic,
            slot,
            sticky,
        };
        let mut queue = target.lock().ok()?;
        let appended = queue.records.append(&view).ok()?;
        let (accepted, after) = self.register(target, &mut queue, appended, view.timestamp_ms);
        drop(queue);
        self.unlocked(target, after);
        Some(accepted)
    }

    /// Appends a record, into a new batch if there is `room` for one, or memory is free.
    pub(crate) fn append<'a>(
        &'a self,
        topic: &TopicEntry,
        partitions: &Partitions,
        outgoing: &mut Outgoing<'_>,
        mut room: Option<Reservation<'a>>,
    ) -> Result<Accepted, Refused> {
        if outgoing.timestamp == Timestamp::Clock {
            outgoing.view.timestamp_ms = self.clock.coarse_wall_ms();
        }
        // Apart from the batch's, since a batch that is open already has room for the record alone.
        let callback_room = self.callback_room(outgoing, &mut room)?;
        let callback_bytes = callback_room.as_ref().map_or(0, Reservation::bytes);
        let accepted = |accepted| {
            callback_room.map(Reservation::keep);
            Ok(accepted)
        };
        loop {
            let target = self
                .target(topic, partitions, outgoing.choice)
                .ok_or(Refused::NoPartition)?;
            let expected_bytes = match self.append_to_open(target, outgoing) {
                Ok(one) => return accepted(one),
                Err(Missed::Closed) => return Err(Refused::Closed),
                Err(Missed::Moved) => continue,
                Err(Missed::Outgrown { bytes }) => {
                    if !self.grow(target.slot, bytes) {
                        self.seal(target);
                    }
                    continue;
                }
                Err(Missed::Full { expected_bytes }) => expected_bytes,
            };
            if outgoing.haste == Haste::MayPause
                && self.pauses.is_due(target.slot.load(), self.deep(topic))
            {
                let partition = target.slot.partition.partition;
                return Err(Refused::Deep { partition });
            }
            let need = self
                .need_of(topic, &outgoing.view, expected_bytes)
                .map_err(Refused::TooLarge)?;
            let taken = match room.take() {
                Some(room) => need.within(room),
                None => self.memory.try_reserve(need.all).map(|room| (need, room)),
            };
            let taken = taken.ok_or(Refused::NeedsRoom {
                bytes: (need.all + callback_bytes).min(self.memory.bytes_max()),
            })?;
            match self.append_to_new(target, outgoing, taken) {
                Ok(one) => return accepted(one),
                Err((Missed::Closed, _)) => return Err(Refused::Closed),
                Err((_, unused)) => room = Some(unused),
            }
        }
    }

    /// Waits for a moment, if the queue of a partition is still deep.
    pub(crate) async fn pause(&self, topic: &TopicEntry, partition: i32) {
        let place = usize::try_from(partition);
        if let Some(slot) = place.ok().and_then(|place| topic.slots.slot(place)) {
            self.pauses.pause(slot.load(), self.deep(topic)).await;
        }
    }

    /// From how many batches on a queue of this topic is deep.
    fn deep(&self, topic: &TopicEntry) -> u32 {
        Pauses::deep(self.limits.batch_bytes, topic.slots.count())
    }

    /// Takes the oldest batch of a slot.
    pub(crate) fn take(&self, slot: &Slot) -> Option<SealedBatch<Ticket>> {
        let taken = slot.take()?;
        taken.completion().on_taken();
        self.batches_queued.fetch_sub(1, Ordering::Relaxed);
        self.pauses.on_taken(slot.load());
        if self.spreading.availability_timeout.is_some() {
            slot.load().on_taken(self.clock.now());
        }
        Some(taken)
    }

    #[inline]
    fn target<'a>(
        &'a self,
        topic: &'a TopicEntry,
        partitions: &'a Partitions,
        choice: Choice,
    ) -> Option<Target<'a>> {
        let sticky = || topic.sticky.current(self.circumstances(partitions));
        let (partition, sticky) = choice.among(sticky)?;
        Some(Target {
            topic,
            slot: partitions.slots.get(partition)?,
            sticky,
        })
    }

    fn circumstances<'a>(&'a self, partitions: &'a Partitions) -> Circumstances<'a> {
        Circumstances {
            partitions,
            spreading: &self.spreading,
            clock: &self.clock,
        }
    }

    /// The sticky choice leaves its partition, where threads collided so often.
    fn move_on(&self, target: Target<'_>, collisions: u32) {
        // Of a topic that nothing is known of any more nothing can be chosen.
        if let Route::Known(partitions) = &**target.topic.route.load()
            && let Some(chosen) = target.sticky
        {
            let circumstances = self.circumstances(partitions);
            let sticky = &target.topic.sticky;
            sticky.move_on(chosen, collisions, circumstances);
        }
    }

    #[inline]
    fn append_to_open(
        &self,
        target: Target<'_>,
        outgoing: &mut Outgoing<'_>,
    ) -> Result<Accepted, Missed> {
        let mut queue = target.lock()?;
        match queue.records.append(&outgoing.view) {
            Ok(appended) => Ok(self.accept(target, queue, appended, outgoing)),
            Err(NoRoom::Buffer { bytes }) => Err(Missed::Outgrown { bytes }),
            Err(NoRoom::Batch) => Err(self.leave_full(target, queue)),
        }
    }

    /// A batch that cannot grow is full.
    #[cold]
    fn seal(&self, target: Target<'_>) {
        let notice = target.slot.seal();
        let after = After {
            notice,
            ..After::NOTHING
        };
        self.unlocked(target, after);
    }

    /// Between two batches the sticky choice may move on, rather than open another one here.
    #[cold]
    fn leave_full(&self, target: Target<'_>, mut queue: Filling<'_>) -> Missed {
        let moves_on = target.sticky.is_some()
            && sticky::moves_on(queue.sticky_bytes, self.limits.batch_bytes, Batch::Full);
        if !moves_on {
            let expected_bytes = queue.records.expected_bytes();
            return Missed::Full { expected_bytes };
        }
        let collisions = queue.end_turn();
        let notice = queue.records.seal();
        target.slot.hand_over(&mut queue);
        drop(queue);
        let after = After {
            notice,
            turn_ended: Some(collisions),
        };
        self.unlocked(target, after);
        Missed::Moved
    }

    #[cold]
    fn append_to_new<'a>(
        &self,
        target: Target<'_>,
        outgoing: &mut Outgoing<'_>,
        (need, mut reservation): (Need, Reservation<'a>),
    ) -> Result<Accepted, (Missed, Reservation<'a>)> {
        if outgoing.timestamp == Timestamp::Clock {
            outgoing.view.timestamp_ms = self.clock.refresh_wall();
        }
        let buffer = reservation.lend(need.buffer);
        let number = self.batch_numbers.fetch_add(1, Ordering::Relaxed);
        let topic = Arc::clone(&target.topic.name);
        let partition = target.slot.partition.partition;
        let inbox = Arc::clone(&self.inbox);
        let completion = BatchCompletion::new(topic, partition, number, reservation.bytes());
        let completion = Arc::new(completion.queued(inbox));
        let now = self.clock.now();
        let mut queue = match target.lock() {
            Ok(queue) => queue,
            Err(missed) => {
                reservation.reclaim(buffer);
                return Err((missed, reservation));
            }
        };
        // Somebody else may have opened one meanwhile.
        let appended = queue
            .records
            .append(&outgoing.view)
            .unwrap_or_else(|_no_room| {
                let _ = reservation.keep();
                self.batches_queued.fetch_add(1, Ordering::Relaxed);
                self.incomplete.insert(Arc::clone(&completion));
                let batch = NewBatch {
                    ratio: target.topic.ratio(),
                    buffer,
                    buffer_bytes_max: need.buffer_max,
                    completion,
                    now,
                };
                queue.records.append_opening(&outgoing.view, batch)
            });
        Ok(self.accept(target, queue, appended, outgoing))
    }

    /// The record is in its batch: all that depends on the lock, then what must not hold it.
    #[inline]
    fn accept(
        &self,
        target: Target<'_>,
        mut queue: Filling<'_>,
        appended: Appended<Ticket>,
        outgoing: &mut Outgoing<'_>,
    ) -> Accepted {
        let (accepted, after) = self.register_with(target, &mut queue, appended, outgoing);
        drop(queue);
        self.unlocked(target, after);
        accepted
    }

    /// All that depends on the lock, the callback too.
    #[inline]
    fn register_with(
        &self,
        target: Target<'_>,
        queue: &mut SlotQueue,
        appended: Appended<Ticket>,
        outgoing: &mut Outgoing<'_>,
    ) -> (Accepted, After) {
        let timestamp_ms = outgoing.view.timestamp_ms;
        let (accepted, after) = self.register(target, queue, appended, timestamp_ms);
        if let Some(callback) = outgoing.callback.take() {
            accepted.ticket.call_back(accepted.record, callback);
        }
        (accepted, after)
    }

    #[inline(always)]
    fn register(
        &self,
        target: Target<'_>,
        queue: &mut SlotQueue,
        appended: Appended<Ticket>,
        timestamp_ms: i64,
    ) -> (Accepted, After) {
        let Appended {
            completion,
            index,
            bytes,
            notice,
        } = appended;
        if notice != Notice::None {
            target.slot.hand_over(queue);
        }
        let record = RecordInBatch {
            index,
            timestamp_ms,
        };
        let moves_on = target.sticky.is_some()
            && self.counts_on(queue, target.topic.ratio().compressed(bytes), notice);
        let turn_ended = moves_on.then(|| queue.end_turn());
        let accepted = Accepted {
            ticket: completion,
            record,
        };
        (accepted, After { notice, turn_ended })
    }

    /// All that must not hold the lock.
    #[inline]
    fn unlocked(&self, target: Target<'_>, after: After) {
        if after != After::NOTHING {
            self.follow(target, after);
        }
    }

    /// Once or twice per batch.
    #[cold]
    fn follow(&self, target: Target<'_>, after: After) {
        if let Some(collisions) = after.turn_ended {
            self.move_on(target, collisions);
        }
        let (Notice::Opened { sealed_bytes } | Notice::Filled { sealed_bytes }) = after.notice
        else {
            return;
        };
        self.inbox.post_queued(News {
            partition: target.slot.partition,
            sealed_bytes,
            // A batch that was opened before was told in time then.
            due_at: self.clock.now() + self.spreading.linger,
        });
    }

    /// Appends as many records as go without waiting, in order; the lock is taken a few
    /// times per batch. They all have one choice.
    pub(crate) fn append_run<'r>(
        &self,
        topic: &TopicEntry,
        partitions: &Partitions,
        records: impl Iterator<Item = Outgoing<'r>>,
        accepted: &mut Vec<Accepted>,
    ) {
        let mut records = records.peekable();
        while let Some(choice) = records.peek().map(|outgoing| outgoing.choice) {
            if let Some(target) = self.target(topic, partitions, choice) {
                self.fill_open(target, &mut records, accepted);
            }
            // What did not fit opens the next batch, elsewhere if the sticky choice moves on.
            let Some(outgoing) = records.peek_mut() else {
                return;
            };
            match self.append(topic, partitions, outgoing, None) {
                Ok(one) => accepted.push(one),
                Err(_refused) => return,
            }
            records.next();
        }
    }

    /// Appends records while they fit into the open batch, under one lock.
    fn fill_open<'r>(
        &self,
        target: Target<'_>,
        records: &mut Peekable<impl Iterator<Item = Outgoing<'r>>>,
        accepted: &mut Vec<Accepted>,
    ) {
        let wall_ms = self.clock.coarse_wall_ms();
        let Ok(mut queue) = target.lock() else {
            return;
        };
        let mut after = After::NOTHING;
        while let Some(outgoing) = records.peek_mut() {
            // It takes memory of its own.
            if outgoing.callback.is_some() {
                break;
            }
            if outgoing.timestamp == Timestamp::Clock {
                outgoing.view.timestamp_ms = wall_ms;
            }
            let Ok(appended) = queue.records.append(&outgoing.view) else {
                break;
            };
            let (one, then) = self.register_with(target, &mut queue, appended, outgoing);
            accepted.push(one);
            records.next();
            if then != After::NOTHING {
                after = then;
                break;
            }
        }
        drop(queue);
        self.unlocked(target, after);
    }

    /// Counts what the sticky choice brought; says whether it is enough here.
    #[inline]
    fn counts_on(&self, queue: &mut SlotQueue, bytes: usize, notice: Notice) -> bool {
        queue.sticky_bytes = queue.sticky_bytes.saturating_add(bytes);
        let batch = match notice {
            Notice::Filled { .. } => Batch::Full,
            Notice::None | Notice::Opened { .. } => Batch::Open,
        };
        sticky::moves_on(queue.sticky_bytes, self.limits.batch_bytes, batch)
    }
}

impl<'a> Target<'a> {
    /// The queue, if it takes the record.
    #[inline(always)]
    fn lock(self) -> Result<Filling<'a>, Missed> {
        let queue = self.slot.lock();
        if queue.gate != Gate::Open {
            return Err(Missed::Closed);
        }
        // The choice may have moved between looking and locking.
        if let Some(chosen) = self.sticky
            && !self.topic.sticky.is(chosen)
        {
            return Err(Missed::Moved);
        }
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::inbox::Posted;
    use crate::io::room::STATE_BYTES;
    use crate::io::sticky::Standing;
    use crate::io::topics::{Route, Site};
    use crate::types::{BrokerId, TopicPartition};
    use rstest::rstest;
    use std::task::{Context, Waker};

    const LIMITS: Limits = Limits {
        batch_bytes: 1_000,
        request_bytes: 2_000,
        memory_bytes: 4 * ONE_BATCH,
        codec_bytes: 0,
        plain_bytes_max: 1 << 20,
    };

    /// A batch's buffer and state.
    const ONE_BATCH: usize = 1_024 + STATE_BYTES;

    const SITE: Site = Site {
        leader: Some(BrokerId(1)),
        standing: Standing::Anywhere,
    };

    /// An accumulator with one topic of so many partitions, all led, and no driver.
    fn accumulator(limits: Limits, partition_count: i32) -> (Accumulator, Arc<TopicEntry>) {
        let accumulator = Accumulator::new(limits, Spreading::default(), Meters::for_test(), 1);
        let topic = accumulator.topic("orders");
        let slots = (0..partition_count).map(|partition| {
            let partition = TopicPartition {
                topic: topic.index,
                partition,
            };
            Arc::new(Slot::new(partition, accumulator.queue_limits(), Gate::Open))
        });
        topic.publish(Route::Known(Partitions {
            slots: slots.collect(),
            sites: (0..partition_count).map(|_| SITE).collect(),
        }));
        posted(&accumulator);
        (accumulator, topic)
    }

    fn append_to(
        accumulator: &Accumulator,
        topic: &TopicEntry,
        choice: Choice,
        value: &[u8],
    ) -> Result<Accepted, Refused> {
        let outgoing = Outgoing {
            choice,
            ..outgoing(value)
        };
        append_one(accumulator, topic, outgoing)
    }

    fn append_one(
        accumulator: &Accumulator,
        topic: &TopicEntry,
        mut outgoing: Outgoing<'_>,
    ) -> Result<Accepted, Refused> {
        let route = topic.route.load();
        let Route::Known(partitions) = &**route else {
            panic!("published");
        };
        accumulator.append(topic, partitions, &mut outgoing, None)
    }

    /// The partitions that the driver was told of, in order.
    fn posted(accumulator: &Accumulator) -> Vec<i32> {
        let mut posted = Posted::default();
        let mut cx = Context::from_waker(Waker::noop());
        accumulator.inbox.take(&mut posted, &mut cx);
        posted
            .queued
            .iter()
            .map(|queued| queued.partition)
            .collect()
    }

    fn slot(topic: &TopicEntry, partition: usize) -> Arc<Slot> {
        match &**topic.route.load() {
            Route::Known(partitions) => Arc::clone(&partitions.slots[partition]),
            other => panic!("published, and now {other:?}"),
        }
    }

    #[test]
    fn records_of_one_batch_share_a_ticket_and_tell_the_driver_once() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        let accepted: Vec<_> = (0..4)
            .map(|_| append_to(&accumulator, &topic, Choice::Fixed(0), b"v").expect("room"))
            .collect();
        let indexes: Vec<_> = accepted.iter().map(|a| a.record.index).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
        assert!(
            accepted
                .iter()
                .all(|a| Arc::ptr_eq(&a.ticket, &accepted[0].ticket))
        );
        assert_eq!(posted(&accumulator), [0]);
        assert!(accumulator.has_queued());
        let taken = accumulator.take(&slot(&topic, 0)).expect("one batch");
        assert_eq!(taken.record_count(), 4);
        assert!(!accumulator.has_queued());
    }

    #[test]
    fn a_record_that_does_not_fit_opens_the_next_batch_in_its_own_memory() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        let value = [0; 600];
        let send = || append_to(&accumulator, &topic, Choice::Fixed(0), &value);
        let batches: Vec<_> = (0..4)
            .map(|_| send().expect("room").ticket.number())
            .collect();
        assert_eq!(batches, [0, 1, 2, 3]);
        assert_eq!(
            send().expect_err("used up"),
            Refused::NeedsRoom {
                bytes: 768 + STATE_BYTES
            },
            "as much as the last ones took"
        );
        assert_eq!(accumulator.incomplete.snapshot().len(), 4);
    }

    #[rstest]
    #[case(LIMITS, 2_000, "max.request.size", 2_000)]
    #[case(Limits { memory_bytes: 1_500, ..LIMITS }, 1_600, "buffer.memory", 1_500)]
    fn a_record_larger_than_a_limit_is_refused_with_size_and_limit(
        #[case] limits: Limits,
        #[case] value_bytes: usize,
        #[case] limit: &str,
        #[case] limit_bytes: usize,
    ) {
        let (accumulator, topic) = accumulator(limits, 1);
        let value = vec![0; value_bytes];
        let refused = append_to(&accumulator, &topic, Choice::Fixed(0), &value);
        let Err(Refused::TooLarge(too_large)) = refused else {
            panic!("must be too large: {refused:?}");
        };
        assert_eq!(
            (too_large.limit, too_large.limit_bytes),
            (limit, limit_bytes)
        );
        assert!(too_large.record_bytes > value_bytes);
        assert!(posted(&accumulator).is_empty(), "nothing is sent of it");
    }

    #[test]
    fn a_large_record_gets_a_batch_of_its_size() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        let accepted = append_to(&accumulator, &topic, Choice::Fixed(0), &[0; 1_500]);
        let ticket = accepted.expect("below max.request.size").ticket;
        let taken = || LIMITS.memory_bytes - accumulator.memory.bytes_free();
        let state = ticket.memory_bytes();
        assert_eq!((state, taken()), (STATE_BYTES, 1_792 + STATE_BYTES));
        let batch = accumulator.take(&slot(&topic, 0)).expect("a batch");
        assert!((1_561..1_600).contains(&batch.bytes()));
        drop(batch);
        assert_eq!(taken(), state, "its buffer is free again");
    }

    #[test]
    fn partitions_with_little_traffic_hold_little() {
        let limits = Limits {
            batch_bytes: 16 << 10,
            request_bytes: 1 << 20,
            memory_bytes: 4 << 20,
            codec_bytes: 0,
            plain_bytes_max: 1 << 20,
        };
        let (accumulator, topic) = accumulator(limits, 1_000);
        for partition in 0..1_000 {
            append_to(&accumulator, &topic, Choice::Fixed(partition), b"v").expect("room");
        }
        let taken = limits.memory_bytes - accumulator.memory.bytes_free();
        assert!(taken <= 1_000 * (512 + STATE_BYTES), "{taken}");
    }

    #[test]
    fn a_batch_grows_as_its_records_come_and_the_next_one_starts_at_its_size() {
        let limits = Limits {
            batch_bytes: 16 << 10,
            request_bytes: 1 << 20,
            memory_bytes: 1 << 20,
            codec_bytes: 0,
            plain_bytes_max: 1 << 20,
        };
        let (accumulator, topic) = accumulator(limits, 1);
        let taken = || limits.memory_bytes - accumulator.memory.bytes_free();
        let mut sizes = Vec::new();
        let mut first = 0;
        for number in 0..400 {
            let accepted = append_to(&accumulator, &topic, Choice::Fixed(0), &[0; 100]);
            match accepted.expect("room").ticket.number() {
                0 => first = number + 1,
                _ => break,
            }
            sizes.push(taken() - STATE_BYTES);
        }
        sizes.dedup();
        assert_eq!(sizes, [512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10]);
        assert!((140..160).contains(&first), "a full batch: {first} records");
        // Both batches have their buffers at full size, and their state.
        assert_eq!(taken(), 2 * ((16 << 10) + STATE_BYTES));
    }

    #[test]
    fn a_batch_that_cannot_grow_is_full() {
        // While a batch has 1 KiB there are 2 more for it; while it has those, only 1.
        let memory_bytes = 2 * (1_024 + STATE_BYTES);
        let limits = Limits {
            batch_bytes: 16 << 10,
            request_bytes: 1 << 20,
            memory_bytes,
            codec_bytes: 0,
            plain_bytes_max: 1 << 20,
        };
        let (accumulator, topic) = accumulator(limits, 1);
        let mut records = 0;
        let refused = loop {
            match append_to(&accumulator, &topic, Choice::Fixed(0), &[0; 100]) {
                Ok(_) => records += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, Refused::NeedsRoom { bytes } if bytes <= memory_bytes));
        assert_eq!(records, 18, "what 2 KiB hold");
        let batches: Vec<_> = std::iter::from_fn(|| accumulator.take(&slot(&topic, 0))).collect();
        let counted: u32 = batches.iter().map(|batch| batch.record_count()).sum();
        assert_eq!(counted, records);
        for batch in batches {
            accumulator
                .memory
                .release(batch.completion().memory_bytes());
        }
        assert_eq!(accumulator.memory.bytes_free(), memory_bytes);
    }

    /// Room was waited for while less was expected of the partition.
    #[test]
    fn room_that_is_less_than_a_batch_is_used_as_it_is() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        let route = topic.route.load();
        let Route::Known(partitions) = &**route else {
            panic!("published");
        };
        let value = [0; 700];
        let send = |bytes| {
            let room = accumulator.memory.try_reserve(bytes).expect("free");
            accumulator.append(&topic, partitions, &mut outgoing(&value), Some(room))
        };
        let before = accumulator.memory.bytes_free();
        send(STATE_BYTES + 800).expect("its record has room");
        assert_eq!(before - accumulator.memory.bytes_free(), STATE_BYTES + 800);
        let refused = send(STATE_BYTES + 700).expect_err("not with the header");
        let bytes = 896 + STATE_BYTES;
        assert_eq!(refused, Refused::NeedsRoom { bytes });
        send(STATE_BYTES + 5_000).expect("more than needed");
        let taken = before - accumulator.memory.bytes_free();
        assert_eq!(taken, STATE_BYTES + 800 + bytes);
    }

    #[test]
    fn a_record_that_all_memory_just_holds_is_accepted() {
        let memory_bytes = 1_600;
        let (accumulator, topic) = accumulator(
            Limits {
                memory_bytes,
                ..LIMITS
            },
            1,
        );
        let value = [0; 1_530];
        let accepted = append_to(&accumulator, &topic, Choice::Fixed(0), &value);
        accepted.expect("it fits, if nothing else does");
        assert!(accumulator.memory.bytes_free() < 10);
        drop(accumulator.take(&slot(&topic, 0)));
        assert!(accumulator.memory.bytes_free() >= 1_590);
    }

    #[test]
    fn a_closed_slot_takes_nothing_and_keeps_what_it_has() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        append_to(&accumulator, &topic, Choice::Fixed(0), b"v").expect("open");
        slot(&topic, 0).lock().gate = Gate::Closed;
        let refused = append_to(&accumulator, &topic, Choice::Fixed(0), b"v");
        assert_eq!(refused.expect_err("closed"), Refused::Closed);
        assert!(accumulator.take(&slot(&topic, 0)).is_some());
    }

    #[test]
    fn the_sticky_choice_leaves_full_batches_behind() {
        let limits = Limits {
            memory_bytes: 1_000_000,
            ..LIMITS
        };
        let (accumulator, topic) = accumulator(limits, 8);
        for _ in 0..2_000 {
            append_to(&accumulator, &topic, Choice::Sticky, &[0; 50]).expect("room");
        }
        let batches: Vec<usize> = (0..8)
            .flat_map(|partition| {
                let slot = slot(&topic, partition);
                std::iter::from_fn(move || slot.take())
            })
            .map(|batch| batch.bytes())
            .collect();
        // 1,000 bytes hold 16 records of 58: a batch is small only if the choice left it early.
        let small = batches.iter().filter(|&&bytes| bytes < 900).count();
        assert!(small <= 1, "only the last batch may be small: {batches:?}");
        assert!(batches.len() > 100);
    }

    fn outgoing(value: &[u8]) -> Outgoing<'_> {
        Outgoing {
            view: RecordView {
                timestamp_ms: 0,
                key: None,
                value: Some(value),
                headers: &[],
            },
            timestamp: Timestamp::Clock,
            choice: Choice::Fixed(0),
            callback: None,
            haste: Haste::Now,
        }
    }

    #[rstest]
    #[case(Choice::Fixed(0), 1)]
    #[case(Choice::Sticky, 4)]
    fn a_run_takes_the_lock_a_few_times_per_batch(
        #[case] choice: Choice,
        #[case] partition_count: i32,
    ) {
        let limits = Limits {
            memory_bytes: 10_000_000,
            ..LIMITS
        };
        let (accumulator, topic) = accumulator(limits, partition_count);
        let route = topic.route.load();
        let Route::Known(partitions) = &**route else {
            panic!("published");
        };
        let value = [0; 20];
        let records = (0..3_000).map(|_| Outgoing {
            choice,
            ..outgoing(&value)
        });
        let mut accepted = Vec::new();
        accumulator.append_run(&topic, partitions, records, &mut accepted);
        assert_eq!(accepted.len(), 3_000);
        assert!(accepted.iter().all(|one| one.record.timestamp_ms > 0));
        let locked: u32 = partitions.slots.iter().map(|slot| slot.lock_count()).sum();
        let batches = accumulator.incomplete.snapshot().len();
        assert!(batches > 50, "{batches} batches");
        let locked = usize::try_from(locked).expect("few");
        assert!(
            locked <= 4 * batches,
            "{locked} times for {batches} batches"
        );
        let told = posted(&accumulator).len();
        assert!((batches..=2 * batches).contains(&told), "told {told} times");
    }

    #[test]
    fn who_may_pause_is_told_to_where_a_queue_is_deep_and_others_go_on() {
        let limits = Limits {
            memory_bytes: 1 << 20,
            ..LIMITS
        };
        // So many that three batches of one are deep.
        let (accumulator, topic) = accumulator(limits, 5_000);
        let append = |haste| {
            // One is more than half a batch.
            let outgoing = Outgoing {
                haste,
                ..outgoing(&[0; 600])
            };
            append_one(&accumulator, &topic, outgoing)
        };
        for _ in 0..4 {
            append(Haste::MayPause).expect("nothing was taken yet");
        }
        accumulator.take(&slot(&topic, 0)).expect("four");
        let told = append(Haste::MayPause).map(drop);
        assert_eq!(told, Err(Refused::Deep { partition: 0 }));
        append(Haste::Now).expect("there is memory");
        accumulator.pauses.tick();
        accumulator.pauses.tick();
        append(Haste::MayPause).expect("nothing was taken lately");
    }

    #[test]
    fn a_run_stops_where_a_record_would_have_to_wait_or_is_too_large() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        let route = topic.route.load();
        let Route::Known(partitions) = &**route else {
            panic!("published");
        };
        let [small, half, huge] = [&[0; 10][..], &[0; 600], &[0; 2_000]];
        let run = |values: &[&'static [u8]]| {
            let records = values.iter().map(|value| outgoing(value));
            let mut accepted = Vec::new();
            accumulator.append_run(&topic, partitions, records, &mut accepted);
            accepted
                .iter()
                .map(|one| one.record.index)
                .collect::<Vec<_>>()
        };
        let [small, half, huge] = [small, half, huge].map(|value| &*value.to_vec().leak());
        assert_eq!(run(&[small, small, huge, small]), [0, 1]);
        assert_eq!(run(&[small, half, half, half, half]), [2, 3, 0, 0, 0]);
        assert!(
            run(&[half]).is_empty(),
            "memory for four batches is used up"
        );
        assert_eq!(run(&[small]), [1]);
        slot(&topic, 0).lock().gate = Gate::Closed;
        assert!(run(&[small]).is_empty());
    }

    /// Partition 0 is never drained: its share shrinks, where an even one would be a half.
    #[test]
    fn a_partition_whose_queue_grows_gets_less() {
        let limits = Limits {
            memory_bytes: 10_000_000,
            ..LIMITS
        };
        let (accumulator, topic) = accumulator(limits, 2);
        for _ in 0..4_000 {
            append_to(&accumulator, &topic, Choice::Sticky, &[0; 50]).expect("room");
            while accumulator.take(&slot(&topic, 1)).is_some() {}
        }
        let stuck = slot(&topic, 0).load().batches();
        assert!((3..=40).contains(&stuck), "{stuck} of about 250 batches");
        while accumulator.take(&slot(&topic, 0)).is_some() {}
        assert_eq!(slot(&topic, 0).load().batches(), 0);
    }

    #[test]
    fn records_without_own_timestamp_get_the_clocks() {
        let (accumulator, topic) = accumulator(LIMITS, 1);
        let before = accumulator.clock.refresh_wall();
        let accepted = append_to(&accumulator, &topic, Choice::Fixed(0), b"v").expect("room");
        let after = accumulator.clock.refresh_wall();
        assert!((before..=after).contains(&accepted.record.timestamp_ms));
    }

    #[test]
    fn threads_lose_nothing_and_each_keeps_its_order() {
        let limits = Limits {
            memory_bytes: 10_000_000,
            ..LIMITS
        };
        let (accumulator, topic) = accumulator(limits, 1);
        let (accumulator, topic) = (&accumulator, &topic);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut last = None;
                    for _ in 0..5_000 {
                        let accepted = append_to(accumulator, topic, Choice::Fixed(0), b"value");
                        let Accepted { ticket, record } = accepted.expect("room");
                        // Batches are opened in the order of the queue, not of their numbers.
                        let place = (Arc::as_ptr(&ticket), record.index);
                        if let Some((batch, index)) = last.replace(place) {
                            assert!(batch != place.0 || index < place.1);
                        }
                    }
                });
            }
        });
        let slot = slot(topic, 0);
        let taken = std::iter::from_fn(|| accumulator.take(&slot));
        let count: u32 = taken.map(|batch| batch.record_count()).sum();
        assert_eq!(count, 20_000);
        assert!(!accumulator.has_queued());
    }
}
