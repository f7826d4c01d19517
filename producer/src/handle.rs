//! What all clones and topics of a producer share: the way of a record from call to queue.
//!
//! *State* of a send
//! ```text
//!              known, room                       known
//!   call ───────────────────▶ accepted  ◀──────────────────── waits for topic ──▶ refused
//!     │                           ▲              room                 ▲             ▲
//!     ├── not known ──────────────┼───────────────────────────────────┘             │
//!     └── no room ────────────────┴───────────────── waits for memory ──────────────┘
//! ```
//!
//! *Invariants*
//! 1. Both waits share one `max.block.ms`; the clock is read only by who has to wait.
//! 2. A record is looked at in one order: producer open, timestamp, topic, partition, size, room.
//!
//! *Source*: Kafka's `KafkaProducer.doSend`, `waitOnMetadata`.
//!
//! *Not here*: the public methods (`producer.rs`, `topic.rs`).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::config::{Configuration, KeyUse};
use crate::delivery::{Delivery, failure_of};
use crate::error::Failure;
use crate::interceptor::{Interceptors, Underway};
use crate::io::accumulator::Accumulator;
use crate::io::completion::{Callback, WakerSlot};
use crate::io::desk::Order;
use crate::io::inbox::{Drain, End};
use crate::io::memory::Reservation;
use crate::io::meters::waits::{Measured, Wait};
use crate::io::outgoing::{Choice, Haste, Outgoing, Refused, Timestamp, TooLarge};
use crate::io::phase::Phase;
use crate::io::topics::{Partitions, Route, TopicEntry};
use crate::io::waiting::Patience;
use crate::partitioner::{Partitioner, Unplaced, partition_of_key};
use crate::produce_error::{Certainty, ProduceError, ProduceErrorKind};
use crate::record::Record;
use crate::transactions::Transactional;
use crate::wire::record_batch::RecordView;

/// What all clones and topics of a producer share; the last one dropped closes it.
pub(crate) struct ProducerHandle {
    pub(crate) accumulator: Arc<Accumulator>,
    pub(crate) runtime: Handle,
    pub(crate) block_max: Duration,
    pub(crate) placing: Placing,
    pub(crate) configuration: Configuration,
    /// `None` if there are none.
    pub(crate) interceptors: Option<Arc<Interceptors>>,
    /// `None` without a `transactional.id`.
    pub(crate) transactional: Option<Transactional>,
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.accumulator.inbox.post_end(End::WhenSettled);
    }
}

impl ProducerHandle {
    /// Accepts a record at once if nothing stands in the way: what nearly every record does. `None`
    /// changes nothing and says nothing; [`ProducerHandle::send`] finds out.
    #[inline(always)]
    pub(crate) fn accept_now(&self, topic: &TopicEntry, record: &Record<'_>) -> Option<Delivery> {
        let timestamp = match record.timestamp_ms {
            None => Timestamp::Clock,
            Some(0..) => Timestamp::Own,
            Some(_) => return None,
        };
        // Interceptors and partitioners of the user's are asked once for each record.
        let Placing::BuiltIn(key_use) = self.placing else {
            return None;
        };
        if self.interceptors.is_some() || !self.accumulator.phase.is_open() {
            return None;
        }
        let choice = choose_built_in(record, key_use, topic.slots.count())?;
        let how = (timestamp, choice);
        let accepted = self.accumulator.append_now(topic, view(record), how)?;
        Some(Delivery::new(accepted.ticket, accepted.record))
    }

    /// The topic of a name. A record too large for any topic is refused before a broker is asked
    /// for one.
    fn topic_of(&self, name: &str, record: &Record<'_>) -> Result<Arc<TopicEntry>, ProduceError> {
        if let Some(entry) = self.accumulator.topics.find(name) {
            return Ok(entry);
        }
        let topic = Arc::from(name);
        self.check_size(&topic, record)?;
        if !self.accumulator.phase.is_open() {
            let kind = ProduceErrorKind::Closed;
            return Err(ProduceError::refused_here(kind, &topic, record.partition));
        }
        Ok(self.accumulator.topic(name))
    }

    /// Hands a record over, through the interceptors if there are any.
    pub(crate) async fn send(
        &self,
        to: Destination<'_>,
        record: &Record<'_>,
        callback: Option<Callback>,
    ) -> Result<Delivery, ProduceError> {
        match &self.interceptors {
            None => self.accept(to, record, callback, Choice::Undecided).await,
            Some(chain) => Box::pin(self.send_through(chain, to, record, callback)).await,
        }
    }

    async fn send_through(
        &self,
        chain: &Arc<Interceptors>,
        to: Destination<'_>,
        record: &Record<'_>,
        callback: Option<Callback>,
    ) -> Result<Delivery, ProduceError> {
        let intercepted = chain.on_send(to.name(), record);
        let underway = Underway::new(chain, &intercepted);
        let callback = Some(chain.callback(&intercepted, callback));
        let record = intercepted.record();
        let sent = self.accept(to, &record, callback, Choice::Undecided).await;
        underway.end(sent)
    }

    /// Hands a record over if that takes no waiting, through the interceptors if there are any.
    pub(crate) fn try_send(
        &self,
        to: Destination<'_>,
        record: &Record<'_>,
    ) -> Result<Delivery, ProduceError> {
        let Some(chain) = &self.interceptors else {
            return self.try_accept(to, record, None);
        };
        let intercepted = chain.on_send(to.name(), record);
        let underway = Underway::new(chain, &intercepted);
        let sent = self.try_accept(
            to,
            &intercepted.record(),
            Some(chain.callback(&intercepted, None)),
        );
        underway.end(sent)
    }

    /// For what may take `max.block.ms`.
    pub(crate) fn patience(&self) -> Patience {
        Patience::start(&self.runtime, self.block_max)
    }

    /// A record that never gets as far as its bytes.
    pub(crate) fn refuse(&self, error: ProduceError) -> ProduceError {
        let error = self.counted(error);
        if let Some(chain) = &self.interceptors {
            chain.on_refused(&error);
        }
        error
    }

    /// Hands a record over past the interceptors.
    pub(crate) async fn accept(
        &self,
        to: Destination<'_>,
        record: &Record<'_>,
        callback: Option<Callback>,
        choice: Choice,
    ) -> Result<Delivery, ProduceError> {
        let named;
        let topic = match to {
            Destination::Known(topic) => topic,
            Destination::Named(name) => {
                named = self.topic_of(name, record).map_err(|e| self.counted(e))?;
                &named
            }
        };
        let mut outgoing = outgoing(record, callback);
        outgoing.choice = choice;
        outgoing.haste = Haste::MayPause;
        match self.append(topic, record, &mut outgoing, None) {
            Ok(delivery) => Ok(delivery),
            Err(NotNow::Error(error)) => Err(self.counted(error)),
            // On the heap, so that the future of a send that need not wait stays small.
            Err(wait) => {
                let sent = Box::pin(self.send_waiting(topic, record, &mut outgoing, wait)).await;
                sent.map_err(|error| self.counted(error))
            }
        }
    }

    /// Counts a record that was refused for good.
    #[cold]
    fn counted(&self, error: ProduceError) -> ProduceError {
        let accumulator = &self.accumulator;
        accumulator.meters.on_refused(accumulator.clock.now());
        if self.transactional.is_some() && error.kind().spoils_transaction() {
            let reason = Arc::from(error.to_string());
            accumulator.inbox.post_order(Order::RecordRefused(reason));
        }
        error
    }

    /// Measures a wait, from here until what is returned is dropped.
    pub(crate) fn measured(&self, wait: Wait) -> Measured<'_> {
        let accumulator = &self.accumulator;
        Measured::start(&accumulator.meters, &accumulator.clock, wait)
    }

    fn try_accept(
        &self,
        to: Destination<'_>,
        record: &Record<'_>,
        callback: Option<Callback>,
    ) -> Result<Delivery, ProduceError> {
        let named;
        let topic = match to {
            Destination::Known(topic) => topic,
            Destination::Named(name) => {
                named = self.topic_of(name, record).map_err(|e| self.counted(e))?;
                &named
            }
        };
        let mut outgoing = outgoing(record, callback);
        self.append(topic, record, &mut outgoing, None)
            .map_err(|not_now| match not_now {
                NotNow::Error(error) => self.counted(error),
                NotNow::TopicRefused(error) => {
                    // Its next try may find it known.
                    self.accumulator.ask_again(topic);
                    self.counted(error)
                }
                // The others are not refused for good: they would have to wait.
                NotNow::Topic => {
                    let failure = topic.last_failure();
                    ProduceError::topic_timed_out(&topic.name, Duration::ZERO, failure)
                }
                NotNow::Room { .. } | NotNow::Deep { .. } => {
                    let kind = ProduceErrorKind::MemoryFull;
                    ProduceError::refused_here(kind, &topic.name, record.partition)
                }
            })
    }

    async fn send_waiting(
        &self,
        topic: &TopicEntry,
        record: &Record<'_>,
        outgoing: &mut Outgoing<'_>,
        mut wait: NotNow,
    ) -> Result<Delivery, ProduceError> {
        let mut patience = self.patience();
        // One answer that it waited for is enough.
        let mut is_told = false;
        // Whatever it waits for, then it goes on: a pause would give up the memory it was given.
        outgoing.haste = Haste::Now;
        loop {
            let room = match wait {
                NotNow::Error(error) => return Err(error),
                NotNow::TopicRefused(error) if is_told => return Err(error),
                NotNow::TopicRefused(error)
                    if !self.accumulator.ask_again(topic) || self.block_max.is_zero() =>
                {
                    return Err(error);
                }
                NotNow::Topic | NotNow::TopicRefused(_) => {
                    is_told = true;
                    // Known or not, the record itself may be why it never goes.
                    self.check_size(&topic.name, record)?;
                    self.known(topic, &mut patience).await?;
                    None
                }
                NotNow::Deep { partition } => {
                    let pause = self.accumulator.pause(topic, partition);
                    let _ = patience.wait(pause).await;
                    None
                }
                NotNow::Room { bytes } => {
                    let room = self.room(topic, record.partition, bytes, &mut patience);
                    Some(room.await?)
                }
            };
            match self.append(topic, record, outgoing, room) {
                Ok(delivery) => return Ok(delivery),
                Err(again) => wait = again,
            }
        }
    }

    /// Waits until there is something to know of a topic, good or bad.
    async fn known(&self, topic: &TopicEntry, patience: &mut Patience) -> Result<(), ProduceError> {
        let _measured = self.measured(Wait::Metadata);
        loop {
            let mut changed = pin!(topic.changed.notified());
            changed.as_mut().enable();
            if !self.accumulator.phase.is_open() {
                let kind = ProduceErrorKind::Closed;
                return Err(ProduceError::refused_here(kind, &topic.name, None));
            }
            self.accumulator.want_again(topic);
            if topic.is_told() {
                return Ok(());
            }
            let in_time = patience.allowed() > Duration::ZERO;
            if !in_time || patience.wait(changed).await.is_none() {
                if topic.is_told() {
                    return Ok(());
                }
                let failure = topic.last_failure();
                let waited = patience.allowed();
                return Err(ProduceError::topic_timed_out(&topic.name, waited, failure));
            }
        }
    }

    /// Waits its turn for memory.
    async fn room(
        &self,
        topic: &TopicEntry,
        partition: Option<i32>,
        bytes: usize,
        patience: &mut Patience,
    ) -> Result<Reservation<'_>, ProduceError> {
        let _measured = self.measured(Wait::Memory);
        let waited = patience.allowed();
        let kind = if waited.is_zero() {
            ProduceErrorKind::MemoryFull
        } else {
            let drain = || self.accumulator.inbox.post_drain(Drain::All);
            match patience
                .wait(self.accumulator.memory.reserve(bytes, drain))
                .await
            {
                Some(Ok(room)) => return Ok(room),
                Some(Err(_closed)) => ProduceErrorKind::Closed,
                None => ProduceErrorKind::MemoryTimedOut { waited },
            }
        };
        if kind != ProduceErrorKind::Closed {
            let accumulator = &self.accumulator;
            accumulator.meters.on_exhausted(accumulator.clock.now());
        }
        Err(ProduceError::refused_here(kind, &topic.name, partition))
    }

    /// Appends, if that takes no waiting.
    fn append<'a>(
        &'a self,
        topic: &TopicEntry,
        record: &Record<'_>,
        outgoing: &mut Outgoing<'_>,
        room: Option<Reservation<'a>>,
    ) -> Result<Delivery, NotNow> {
        let refused = |kind| {
            let error = ProduceError::refused_here(kind, &topic.name, record.partition);
            Err(NotNow::Error(error))
        };
        if !self.accumulator.phase.is_open() {
            return refused(ProduceErrorKind::Closed);
        }
        if let Some(failure) = self
            .transactional
            .as_ref()
            .and_then(|one| one.desk.why_shut())
        {
            let error = ProduceError::no_transaction(failure, &topic.name, record.partition);
            return Err(NotNow::Error(error));
        }
        if record
            .timestamp_ms
            .is_some_and(|timestamp_ms| timestamp_ms < 0)
        {
            return refused(ProduceErrorKind::InvalidTimestamp);
        }
        let route = topic.route.load();
        let partitions = match &**route {
            Route::Known(partitions) => partitions,
            Route::Pending(_) => return Err(NotNow::Topic),
            Route::Forgotten(_) => {
                // Also for who does not wait: its next try may find it known.
                self.accumulator.want_again(topic);
                return Err(NotNow::Topic);
            }
            Route::Refused(failure, _) => {
                let error = self.topic_refused(topic, failure.clone());
                return Err(NotNow::TopicRefused(error));
            }
        };
        let partition_count = partitions.slots.len();
        // Once chosen it stays, however long the record waits; but a topic may be made anew with
        // fewer partitions.
        let chosen = match outgoing.choice {
            Choice::Undecided => false,
            Choice::Fixed(partition) => partition < partition_count,
            Choice::Sticky => true,
        };
        if !chosen {
            let Some(choice) = self.choose(topic, record, partitions) else {
                return refused(ProduceErrorKind::UnknownPartition { partition_count });
            };
            outgoing.choice = choice;
        }
        let accumulator = &self.accumulator;
        match accumulator.append(topic, partitions, outgoing, room) {
            Ok(accepted) => Ok(Delivery::new(accepted.ticket, accepted.record)),
            Err(Refused::NeedsRoom { bytes }) => Err(NotNow::Room { bytes }),
            Err(Refused::Deep { partition }) => Err(NotNow::Deep { partition }),
            // Shut between looking and locking.
            Err(Refused::Closed) if self.accumulator.phase.is_open() => {
                refused(ProduceErrorKind::NoTransaction)
            }
            Err(Refused::Closed) => refused(ProduceErrorKind::Closed),
            Err(Refused::TooLarge(too_large)) => refused(kind_of(too_large)),
            Err(Refused::NoPartition) => Err(NotNow::Topic),
        }
    }

    /// Where a record goes; `None` if it, or the partitioner, names a partition there is not.
    #[inline]
    pub(crate) fn choose(
        &self,
        topic: &TopicEntry,
        record: &Record<'_>,
        partitions: &Partitions,
    ) -> Option<Choice> {
        let count = partitions.slots.len();
        match (record.partition, &self.placing) {
            (None, Placing::Own(partitioner)) => {
                let data = (record.key, record.value);
                let unplaced = Unplaced::of(&topic.name, data, &partitions.sites);
                match partitioner.partition(&unplaced) {
                    Some(partition) => numbered(partition, count),
                    None => Some(Choice::Sticky),
                }
            }
            (Some(partition), Placing::Own(_)) => numbered(partition, count),
            (_, Placing::BuiltIn(key_use)) => choose_built_in(record, *key_use, count),
        }
    }

    fn check_size(&self, topic: &Arc<str>, record: &Record<'_>) -> Result<(), ProduceError> {
        match self.accumulator.check_size(&view(record)) {
            Ok(_) => Ok(()),
            Err(too_large) => {
                let kind = kind_of(too_large);
                Err(ProduceError::refused_here(kind, topic, record.partition))
            }
        }
    }

    fn topic_refused(&self, topic: &TopicEntry, failure: Failure) -> ProduceError {
        ProduceError::failed(failure, Certainty::NotWritten, &topic.name, None)
    }

    /// The topic of this name, once there is something good to know of it.
    pub(crate) async fn known_topic(&self, name: &str) -> Result<Arc<TopicEntry>, ProduceError> {
        let entry = self.accumulator.topic(name);
        self.accumulator.ask_again(&entry);
        let mut patience = self.patience();
        self.known(&entry, &mut patience).await?;
        let refused = match &**entry.route.load() {
            Route::Refused(failure, _) => Some(failure.clone()),
            Route::Pending(_) | Route::Known(_) | Route::Forgotten(_) => None,
        };
        match refused {
            Some(failure) => Err(self.topic_refused(&entry, failure)),
            None => Ok(entry),
        }
    }

    /// Sends what is queued and waits for what is not settled; the first failure among it.
    pub(crate) async fn flush(&self) -> Result<(), ProduceError> {
        let incomplete = self.accumulator.incomplete.snapshot();
        if incomplete.is_empty() {
            return Ok(());
        }
        let _measured = self.measured(Wait::Flush);
        self.accumulator.inbox.post_drain(Drain::All);
        let mut flushed = Ok(());
        for batch in incomplete {
            let mut waker_slot = WakerSlot::NONE;
            let settled = poll_fn(|cx| {
                let settled = batch.poll_settled(&mut waker_slot, cx);
                settled.map(|outcome| failure_of(&batch, outcome))
            });
            if let Some(failure) = settled.await {
                flushed = flushed.and(Err(failure));
            }
        }
        flushed
    }

    /// Refuses records from here on, and has the driver end.
    pub(crate) fn start_to_end(&self, end: End) {
        self.accumulator.phase.advance(Phase::Closing);
        self.accumulator.inbox.post_end(end);
    }
}

/// Who chooses partitions for records that name none.
#[derive(Clone)]
pub(crate) enum Placing {
    /// The producer.
    BuiltIn(KeyUse),
    /// A partitioner.
    Own(Arc<dyn Partitioner>),
}

/// Where a record goes.
#[derive(Clone, Copy)]
pub(crate) enum Destination<'a> {
    /// To the topic of this name.
    Named(&'a str),
    /// To this topic.
    Known(&'a Arc<TopicEntry>),
}

impl<'a> Destination<'a> {
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Named(name) => name,
            Self::Known(topic) => &topic.name,
        }
    }
}

/// Why a record was not accepted at once.
enum NotNow {
    /// Nothing is known of its topic.
    Topic,
    /// Its topic was refused; another question may be answered otherwise.
    TopicRefused(ProduceError),
    /// So many bytes of memory are needed for a batch.
    Room { bytes: usize },
    /// The queue of its partition is deep.
    Deep { partition: i32 },
    /// It never will be.
    Error(ProduceError),
}

pub(crate) fn outgoing<'a>(record: &'a Record<'_>, callback: Option<Callback>) -> Outgoing<'a> {
    Outgoing {
        view: view(record),
        timestamp: match record.timestamp_ms {
            Some(_) => Timestamp::Own,
            None => Timestamp::Clock,
        },
        choice: Choice::Undecided,
        callback,
        haste: Haste::Now,
    }
}

/// [`ProducerHandle::choose`] without a partitioner of the user's, among so many partitions.
#[inline]
fn choose_built_in(record: &Record<'_>, key_use: KeyUse, count: usize) -> Option<Choice> {
    match (record.partition, record.key) {
        (Some(partition), _) => numbered(partition, count),
        (None, Some(key)) if key_use == KeyUse::Hashed => {
            partition_of_key(key, count).map(Choice::Fixed)
        }
        (None, _) => Some(Choice::Sticky),
    }
}

/// The partition of this number, if there are so many.
#[inline]
fn numbered(partition: i32, count: usize) -> Option<Choice> {
    let place = usize::try_from(partition).ok();
    place.filter(|&place| place < count).map(Choice::Fixed)
}

#[inline]
fn view<'a>(record: &'a Record<'_>) -> RecordView<'a> {
    RecordView {
        timestamp_ms: record.timestamp_ms.unwrap_or_default(),
        key: record.key,
        value: record.value,
        headers: record.all_headers(),
    }
}

fn kind_of(too_large: TooLarge) -> ProduceErrorKind {
    let TooLarge {
        record_bytes,
        limit_bytes,
        limit,
    } = too_large;
    ProduceErrorKind::RecordTooLarge {
        record_bytes,
        limit_bytes,
        limit,
    }
}
