//! The driver: inputs in, actions out, sleep until the next deadline.
//!
//! One task per producer owns the engine and all connections, and is the only one to read the clock
//! for the engine; a caller may stand in for it (`shared_driver.rs`). Callers reach it through the
//! inbox; it reaches their records through the partitions' locks.
//!
//! *State*
//! ```text
//!   running ──(closed, or last handle dropped)──▶ settling ──(nothing incomplete)──▶ ended
//!      └──────────────(runtime shut down, or a bug's panic)──────────────────────────▲
//! ```
//!
//! *Invariants*
//! 1. All inputs at hand are handled before an action is polled; all actions before it sleeps.
//! 2. All batches of one round are settled before anyone is woken, and woken in order.
//! 3. However it ends, no batch stays unsettled, and nobody waits for ever.
//!
//! *Not here*: every decision about batches, brokers and time-outs (the engine).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time;

use crate::engine::Engine;
use crate::engine::effect::{
    Action, BatchOutcome, ConnectionId, Input, PartitionView, QueueState, Queues, TopicView,
};
use crate::engine::queue::SealedBatch;
use crate::engine::ratio::Ratio;
use crate::engine::report::Report;
use crate::engine::time::Instant;
use crate::engine::transaction::{AskId, Certainty, Denied, Doors};
use crate::error::{Failure, FailureKind};
use crate::io::accumulator::{Accumulator, Ticket};
use crate::io::clock::TICK;
use crate::io::codec_room::CodecRoom;
use crate::io::compression_pool::CompressionPool;
use crate::io::connection::Connection;
use crate::io::desk::{Desk, Order, Reply};
use crate::io::inbox::{Drain, End, Posted, Sleep};
use crate::io::narration::{self, Narrator};
use crate::io::phase::Phase;
use crate::io::slot::{Gate, Slot};
use crate::io::sticky::Standing;
use crate::io::topics::{Partitions, Route, Site, Wanted};
use crate::io::transport::Connector;
use crate::types::{TopicIndex, TopicPartition};

/// A producer's task.
pub(crate) struct Driver {
    accumulator: Arc<Accumulator>,
    engine: Engine<Ticket>,
    slots: Slots,
    compression: CompressionPool,
    connector: Arc<dyn Connector>,
    connections: BTreeMap<ConnectionId, Connection>,
    timer: Pin<Box<time::Sleep>>,
    /// Swapped with the inbox, so that both keep their room.
    posted: Posted,
    inputs: Vec<Input>,
    /// Settled in this round and not yet announced.
    settled: Vec<Ticket>,
    /// What the engine told in this round.
    reports: Vec<Report>,
    narrator: Narrator,
    desk: Option<Arc<Desk>>,
    /// Asks that the engine has not answered.
    replies: BTreeMap<AskId, Arc<Reply>>,
    at_end: Option<AtEnd>,
    /// Whether a caller polls it, who must not run callbacks.
    in_place: bool,
    /// When it ticks next.
    tick_at: Instant,
}

/// What is called when a driver has ended, after the last batch was announced.
type AtEnd = Box<dyn FnOnce() + Send>;

/// What a look at the world brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

impl Driver {
    /// A driver that knows nothing yet; `timer` is any timer of the runtime it will run on.
    pub(crate) fn new(
        accumulator: Arc<Accumulator>,
        engine: Engine<Ticket>,
        codecs: CodecRoom,
        connector: Arc<dyn Connector>,
        timer: time::Sleep,
    ) -> Self {
        let memory = Arc::clone(&accumulator.memory);
        let reported = Arc::clone(&accumulator);
        let compression = CompressionPool::new(
            codecs.threads,
            Box::new(move || codecs.compress(&memory)),
            Box::new(move |id, batch| reported.inbox.post_compressed(id, batch)),
        );
        Self {
            compression,
            slots: Slots {
                accumulator: Arc::clone(&accumulator),
                topics: Vec::new(),
                gate: Gate::Open,
            },
            accumulator,
            engine,
            connector,
            connections: BTreeMap::new(),
            timer: Box::pin(timer),
            posted: Posted::default(),
            inputs: Vec::new(),
            settled: Vec::new(),
            reports: Vec::new(),
            narrator: Narrator::nameless(),
            desk: None,
            replies: BTreeMap::new(),
            at_end: None,
            in_place: false,
            tick_at: Instant::ZERO,
        }
    }

    /// Polls it for a caller: all but callbacks, and its end, for which its task is woken.
    pub(crate) fn poll_in_place(&mut self, cx: &mut Context<'_>) {
        self.in_place = true;
        let polled = Pin::new(&mut *self).poll(cx);
        self.in_place = false;
        if polled.is_ready() || !self.settled.is_empty() {
            cx.waker().wake_by_ref();
        }
    }

    /// Polls it for a caller if an answer has arrived, whether or not the runtime knows of it yet.
    pub(crate) fn poll_arrived(&mut self, cx: &mut Context<'_>) {
        for connection in self.connections.values_mut() {
            connection.look(&mut self.inputs);
        }
        if !self.inputs.is_empty() {
            self.poll_in_place(cx);
        }
    }

    /// Whether one answer is on its way, over a socket that [`Driver::poll_arrived`] looks at.
    pub(crate) fn awaits_one_answer(&self) -> bool {
        self.engine.requests_in_flight() == 1 && self.can_look()
    }

    fn can_look(&self) -> bool {
        let mut connections = self.connections.values();
        !self.connections.is_empty() && connections.all(Connection::can_look)
    }

    /// Tells what happens as the producer of this `client.id`.
    pub(crate) fn tell_as(&mut self, client_id: &str) {
        self.narrator = Narrator::new(client_id);
    }

    /// Answers for transactions here; until one is open, no records are taken.
    pub(crate) fn serve_transactions(&mut self, desk: Arc<Desk>) {
        self.slots.gate = Gate::Shut;
        self.desk = Some(desk);
    }

    /// Has this called when all is settled, however it ends. It must not panic.
    pub(crate) fn call_at_end(&mut self, call: AtEnd) {
        self.at_end = Some(call);
    }

    fn drive_inbox(&mut self, now: Instant, cx: &mut Context<'_>) -> Progress {
        self.accumulator.inbox.take(&mut self.posted, cx);
        if self.posted.is_empty() {
            return Progress::None;
        }
        for (topic, name) in self.posted.wanted.drain(..) {
            self.engine
                .handle_input(Input::TopicWanted { topic, name }, now);
        }
        for partition in self.posted.queued.drain(..) {
            self.engine.handle_input(Input::Queued { partition }, now);
        }
        for (id, batch) in self.posted.compressed.drain(..) {
            self.engine
                .handle_input(Input::Compressed { id, batch }, now);
        }
        for order in self.posted.orders.drain(..) {
            let input = match order {
                Order::RecordRefused(reason) => Input::RecordRefused { reason },
                Order::Ask(id, ask, reply) => {
                    self.replies.extend(reply.map(|reply| (id, reply)));
                    Input::Asked { id, ask }
                }
            };
            self.engine.handle_input(input, now);
        }
        if self.posted.end != End::No {
            self.slots.close();
            self.accumulator.turn_away();
            self.engine.handle_input(Input::Closing, now);
        }
        // Memory is released by sending: while somebody waits for it, nothing lingers.
        let all = self.accumulator.memory.has_waiting() || self.slots.gate == Gate::Closed;
        let drain = if all { Drain::All } else { self.posted.drain };
        match drain {
            Drain::All => self.engine.handle_input(Input::DrainRequested, now),
            Drain::Sealed => self.engine.handle_input(Input::Awaited, now),
            Drain::WhenDue => {}
        }
        if self.posted.end == End::Now {
            self.engine.handle_input(Input::AbortRequested, now);
        }
        Progress::Some
    }

    /// Goes on with these connections as far as their sockets let it.
    fn drive_connections(
        &mut self,
        which: impl Fn(&&mut Connection) -> bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Progress {
        let connections = self.connections.values_mut();
        connections
            .filter(which)
            .for_each(|connection| connection.poll(cx, &mut self.inputs));
        if self.inputs.is_empty() {
            return Progress::None;
        }
        self.connections
            .retain(|_, connection| !connection.is_lost());
        for input in self.inputs.drain(..) {
            self.engine.handle_input(input, now);
        }
        Progress::Some
    }

    fn drive_actions(&mut self, now: Instant) {
        while let Some(action) = self.engine.poll_action(&mut self.slots, now) {
            self.act(action, now);
        }
        #[cfg(debug_assertions)]
        self.engine.check_invariants();
        self.publish_reports(now);
        self.announce_settled();
    }

    fn act(&mut self, action: Action<Ticket>, now: Instant) {
        match action {
            Action::Connect {
                connection,
                address,
            } => {
                self.narrator.on_connect(connection, &address);
                let connecting = self.connector.connect(address.clone());
                let made = Connection::new(connection, address, connecting);
                self.connections.insert(connection, made);
            }
            Action::Send {
                connection,
                correlation_id,
                frame,
            } => {
                // A connection that was lost meanwhile: its end is told, and answers for the frame.
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.send(correlation_id, frame);
                }
            }
            Action::Compress { id, plain } => self.compression.submit(id, plain),
            Action::Disconnect { connection } => {
                self.connections.remove(&connection);
            }
            Action::Complete {
                completion,
                outcome,
                ..
            } => {
                completion.settle(outcome);
                self.settled.push(completion);
            }
            Action::TopicChanged { topic } => {
                self.slots.publish(topic, self.engine.topic(topic));
            }
            Action::Answered { id, answer } => {
                if let Some(reply) = self.replies.remove(&id) {
                    reply.settle(answer);
                }
            }
            Action::Doors(doors) => self.set_doors(doors, now),
            Action::Report(report) => self.reports.push(report),
        }
    }

    /// Lets slots take records, or none.
    fn set_doors(&mut self, doors: Doors, now: Instant) {
        let gate = match doors {
            Doors::Open => Gate::Open,
            Doors::Shut(_) => Gate::Shut,
        };
        if let Some(desk) = &self.desk {
            desk.set_doors(doors);
        }
        for partition in self.slots.turn(gate) {
            self.engine.handle_input(Input::Queued { partition }, now);
        }
    }

    /// Counts what happened, before anyone hears of it.
    fn publish_reports(&mut self, now: Instant) {
        if self.reports.is_empty() {
            return;
        }
        let accumulator = &self.accumulator;
        let name_of = |topic| Some(Arc::clone(&accumulator.topics.at(topic)?.name));
        let meters = &accumulator.meters;
        meters.record(&self.reports, name_of, now);
        meters.set_requests_in_flight(self.engine.requests_in_flight());
        for report in self.reports.drain(..) {
            self.narrator.tell(&report, &accumulator.topics);
        }
    }

    /// Releases what settled batches held, then wakes who waits for them.
    fn announce_settled(&mut self) {
        let mut settled = self.settled.iter();
        if self.settled.is_empty() || self.in_place && settled.any(|batch| batch.has_callbacks()) {
            return;
        }
        let bytes = self.settled.iter().map(|batch| batch.memory_bytes()).sum();
        let batches = self.settled.iter().map(|batch| &**batch);
        self.accumulator.incomplete.remove(batches);
        self.accumulator.memory.release(bytes);
        #[cfg(feature = "metrics")]
        self.accumulator.meters.publish(self.accumulator.gauges());
        for batch in self.settled.drain(..) {
            batch.announce();
        }
    }

    /// Sleeps until the engine's next deadline, or the clock's next tick while records wait; the
    /// next round looks at what is due then.
    fn drive_timer(&mut self, cx: &mut Context<'_>) -> Progress {
        let clock = &self.accumulator.clock;
        let tick = self.accumulator.has_queued().then_some(self.tick_at);
        let until = self.engine.next_deadline().into_iter().chain(tick).min();
        let sleep = Sleep {
            until,
            lacking_bytes: self.engine.lacking_bytes(),
            lends_itself: self.engine.requests_in_flight() == 0 && self.can_look(),
        };
        let Some(wake_at) = until.and_then(|at| clock.timer_at(at)) else {
            self.accumulator.inbox.fall_asleep(sleep);
            return Progress::None;
        };
        if self.timer.deadline() != wake_at {
            self.timer.as_mut().reset(wake_at);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            self.accumulator.inbox.fall_asleep(sleep);
            return Progress::None;
        }
        Progress::Some
    }

    /// Reads the wall clock, and ends the pauses that the queues did not end by being taken from.
    fn tick(&mut self, now: Instant) {
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            self.accumulator.clock.refresh_wall();
            self.accumulator.pauses.tick();
        }
    }

    fn is_done(&self) -> bool {
        self.slots.gate == Gate::Closed
            && self.accumulator.incomplete.is_empty()
            && self.engine.is_settled()
    }

    /// Settles what a driver that ends early leaves behind.
    fn give_up(&mut self) {
        self.slots.close();
        self.accumulator.turn_away();
        // An engine that panicked is not asked again.
        if !std::thread::panicking() {
            let now = self.accumulator.clock.now();
            self.engine.handle_input(Input::AbortRequested, now);
            self.drive_actions(now);
        }
        for batch in self.slots.take_all() {
            batch.settle(BatchOutcome::NotWritten(lost()));
        }
        for batch in self.accumulator.incomplete.snapshot() {
            if batch.outcome().is_none() {
                batch.settle(BatchOutcome::Unknown(lost()));
            }
            self.settled.push(batch);
        }
        self.announce_settled();
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let _entered = this.narrator.span().clone().entered();
        for _ in 0..ROUNDS_MAX {
            let now = this.accumulator.clock.now();
            this.tick(now);
            // However busy the others are.
            this.engine.handle_timeout(now);
            let posted = this.drive_inbox(now, cx);
            let answered = this.drive_connections(|_| true, now, cx);
            this.drive_actions(now);
            // What was just sent or opened, so that nobody has to come back for it.
            this.drive_connections(|one| one.has_work(), now, cx);
            if this.is_done() {
                return Poll::Ready(());
            }
            // Whoever posts wakes it only if it found nothing; and to sleep at once when an answer
            // has come costs more than one look for what its waiter sends next.
            let is_quiet = [posted, answered] == [Progress::None; 2] && !this.engine.is_stirred();
            if is_quiet && this.drive_timer(cx) == Progress::None {
                return Poll::Pending;
            }
        }
        // Others want the thread too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.is_done() {
            let _entered = self.narrator.span().clone().entered();
            self.give_up();
        }
        // Asks that an engine which panicked never answers.
        for reply in core::mem::take(&mut self.replies).into_values() {
            reply.settle(Err(Denied::Fatal(lost(), Certainty::Unknown)));
        }
        if let Some(call) = self.at_end.take() {
            call();
        }
        self.accumulator.phase.advance(Phase::Ended);
    }
}

impl Accumulator {
    /// Refuses who waits to send, and who comes.
    pub(crate) fn turn_away(&self) {
        self.phase.advance(Phase::Closing);
        self.memory.close();
        self.topics.notify_all();
        self.pauses.end();
    }
}

/// The engine's way to the queues.
struct Slots {
    accumulator: Arc<Accumulator>,
    /// By topic, then by partition.
    topics: Vec<Vec<Arc<Slot>>>,
    /// That of every slot.
    gate: Gate,
}

impl Slots {
    /// Lets appends see what is known of a topic now.
    fn publish(&mut self, topic: TopicIndex, view: TopicView) {
        let Some(entry) = self.accumulator.topics.at(topic) else {
            return;
        };
        entry.publish(match view {
            TopicView::Pending { last_failure } => Route::Pending(last_failure),
            TopicView::Refused(failure) => Route::Refused(failure, Wanted::default()),
            TopicView::Forgotten => Route::Forgotten(Wanted::default()),
            TopicView::Known { partitions } => {
                let known = Partitions {
                    slots: self.slots(topic, partitions.len()),
                    sites: partitions.iter().map(|one| self.site(one)).collect(),
                };
                entry.heard.store(Arc::new(partitions));
                Route::Known(known)
            }
        });
        narration::tell_topic(&entry);
    }

    fn site(&self, partition: &PartitionView) -> Site {
        let wanted = &self.accumulator.spreading.rack;
        let near = wanted.is_some() && partition.leader_rack == *wanted;
        Site {
            leader: partition.leader,
            standing: match near {
                true => Standing::Near,
                false => Standing::Anywhere,
            },
        }
    }

    /// The slots of a topic's first `count` partitions, made where they are missing.
    fn slots(&mut self, topic: TopicIndex, count: usize) -> Vec<Arc<Slot>> {
        let place = usize::try_from(topic.0).unwrap_or(usize::MAX);
        if self.topics.len() <= place {
            self.topics.resize_with(place + 1, Vec::new);
        }
        let limits = self.accumulator.queue_limits();
        let slots = &mut self.topics[place];
        let made = i32::try_from(slots.len()).unwrap_or(i32::MAX);
        let wanted = i32::try_from(count).unwrap_or(i32::MAX);
        for partition in made..wanted {
            let partition = TopicPartition { topic, partition };
            slots.push(Arc::new(Slot::new(partition, limits, self.gate)));
        }
        slots.iter().take(count).cloned().collect()
    }

    /// From here on no slot takes a record.
    fn close(&mut self) {
        self.gate = Gate::Closed;
        for slot in self.topics.iter().flatten() {
            slot.turn(Gate::Closed);
        }
    }

    /// Opens or shuts the slots of a producer that is not closing; those that are shut with
    /// something in them.
    fn turn(&mut self, gate: Gate) -> Vec<TopicPartition> {
        if self.gate == Gate::Closed || self.gate == gate {
            return Vec::new();
        }
        self.gate = gate;
        let mut left = Vec::new();
        for slot in self.topics.iter().flatten() {
            if slot.turn(gate) && gate == Gate::Shut {
                left.push(slot.partition);
            }
        }
        left
    }

    /// The completions of all batches that no driver will take any more.
    fn take_all(&self) -> Vec<Ticket> {
        let slots = self.topics.iter().flatten();
        let left = slots.flat_map(|slot| {
            std::iter::from_fn(|| self.accumulator.take(slot)).map(SealedBatch::into_completion)
        });
        left.collect()
    }

    fn slot(&self, partition: TopicPartition) -> Option<&Slot> {
        let topic = usize::try_from(partition.topic.0).ok()?;
        let place = usize::try_from(partition.partition).ok()?;
        self.topics.get(topic)?.get(place).map(|slot| &**slot)
    }
}

impl Queues for Slots {
    type Completion = Ticket;

    fn state(&mut self, partition: TopicPartition) -> QueueState {
        self.slot(partition).map(Slot::state).unwrap_or_default()
    }

    fn open_bytes(&mut self, partition: TopicPartition) -> usize {
        self.slot(partition).map_or(0, Slot::open_bytes)
    }

    fn seal(&mut self, partition: TopicPartition) {
        if let Some(slot) = self.slot(partition) {
            slot.seal();
        }
    }

    fn take(&mut self, partition: TopicPartition) -> Option<SealedBatch<Ticket>> {
        let slot = self.slot(partition)?;
        self.accumulator.take(slot)
    }

    fn expect_ratio(&mut self, topic: TopicIndex, ratio: Ratio) {
        if let Some(entry) = self.accumulator.topics.at(topic) {
            entry.expect_ratio(ratio);
        }
    }
}

/// What is said of batches whose driver was lost.
fn lost() -> Failure {
    Failure {
        message: Some(Arc::from("the producer's task ended early")),
        ..Failure::new(FailureKind::Closed)
    }
}

/// Rounds before the thread is left to others.
const ROUNDS_MAX: usize = 32;
