//! A producer without its shell: the engine, plain queues, and the ends of its links.
//!
//! *Invariants*
//! 1. Records of one partition are accepted in the order of their sends; those of a topic that is
//!    not known yet wait, as a caller of `send` does.
//! 2. A frame that no byte of has left is kept here, so that a lost connection can say so.
//!
//! *Not here*: memory bounds, choosing a partition, wake-ups (level 2 has them).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_producer::TopicIndex;
use kafka_producer::TopicPartition;
use kafka_producer::engine::effect::{
    Action, ConnectionId, CorrelationId, Frame, Input, QueueState, Queues, TopicView,
};
use kafka_producer::engine::queue::{
    HeaderView, NewBatch, PartitionQueue, QueueLimits, RecordView, SealedBatch,
    single_record_batch_bytes,
};
use kafka_producer::engine::time::Instant;
use kafka_producer::engine::{Engine, EngineConfig};

use crate::history::Content;
use crate::link::LinkId;

/// A batch's number within its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchNumber(pub usize);

/// A send's number within its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendNumber(pub usize);

/// A record that is to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition, chosen by whoever sends.
    pub partition: i32,
    /// The record.
    pub content: Content,
}

/// The queues of a producer, without locks.
#[derive(Debug)]
pub struct PlainQueues {
    limits: QueueLimits,
    queues: BTreeMap<TopicPartition, PartitionQueue<BatchNumber>>,
}

impl PlainQueues {
    fn queue(&mut self, partition: TopicPartition) -> &mut PartitionQueue<BatchNumber> {
        let limits = self.limits;
        self.queues
            .entry(partition)
            .or_insert_with(|| PartitionQueue::new(limits))
    }
}

impl Queues for PlainQueues {
    type Completion = BatchNumber;

    fn state(&mut self, partition: TopicPartition) -> QueueState {
        self.queue(partition).state()
    }

    fn take(&mut self, partition: TopicPartition) -> Option<SealedBatch<BatchNumber>> {
        self.queue(partition).take()
    }
}

/// The client's end of a link.
#[derive(Debug)]
pub struct Connection {
    /// The link.
    pub link: LinkId,
    /// Whether its bytes leave.
    pub outlet: Outlet,
}

/// Whether what is written to a connection leaves the client.
#[derive(Debug)]
pub enum Outlet {
    /// At once.
    Open,
    /// Not at all: these wait, no byte of them has left.
    Clogged(VecDeque<(CorrelationId, Bytes)>),
}

/// A producer's pure part and what surrounds it.
#[derive(Debug)]
pub struct Client {
    /// The producer.
    pub engine: Engine<BatchNumber>,
    /// Its connections.
    pub connections: BTreeMap<ConnectionId, Connection>,
    queues: PlainQueues,
    topics: Vec<Arc<str>>,
    waiting: VecDeque<Outgoing>,
    batches: Vec<Vec<SendNumber>>,
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: EngineConfig, batch_bytes: usize, now: Instant) -> Self {
        Self {
            engine: Engine::new(config, now),
            connections: BTreeMap::new(),
            queues: PlainQueues {
                limits: QueueLimits { batch_bytes },
                queues: BTreeMap::new(),
            },
            topics: Vec::new(),
            waiting: VecDeque::new(),
            batches: Vec::new(),
        }
    }

    /// Takes a record to be sent; it is accepted by [`accept_next`](Self::accept_next).
    pub fn offer(&mut self, record: Outgoing, now: Instant) {
        if !self.topics.contains(&record.topic) {
            let topic = self.index(&record.topic);
            self.topics.push(record.topic.clone());
            let name = record.topic.clone();
            self.engine
                .handle_input(Input::TopicWanted { topic, name }, now);
        }
        self.waiting.push_back(record);
    }

    /// Appends the next record whose topic is known, under the given number.
    pub fn accept_next(&mut self, number: SendNumber, now: Instant) -> Option<Outgoing> {
        let known = |record: &Outgoing| {
            let view = self.engine.topic(self.index(&record.topic));
            matches!(view, TopicView::Known { .. })
        };
        let at = self.waiting.iter().position(known)?;
        let record = self.waiting.remove(at)?;
        let topic = self.index(&record.topic);
        let partition = TopicPartition {
            topic,
            partition: record.partition,
        };
        self.append(partition, &record.content, number, now);
        Some(record)
    }

    /// How many records wait for their topic to be known.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// The engine's next action.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action<BatchNumber>> {
        self.engine.poll_action(&mut self.queues, now)
    }

    /// The sends of a batch, in the order of their records.
    #[must_use]
    pub fn sends_of(&self, batch: BatchNumber) -> &[SendNumber] {
        &self.batches[batch.0]
    }

    /// The connection that stands on a link.
    #[must_use]
    pub fn connection_on(&self, link: LinkId) -> Option<ConnectionId> {
        let found = self
            .connections
            .iter()
            .find(|(_, connection)| connection.link == link);
        found.map(|(id, _)| *id)
    }

    /// The link of a connection that stands.
    #[must_use]
    pub fn link_of(&self, connection: ConnectionId) -> Option<LinkId> {
        self.connections.get(&connection).map(|end| end.link)
    }

    /// Takes bytes for the socket, and gives them back if they leave.
    pub fn write(
        &mut self,
        connection: ConnectionId,
        correlation_id: CorrelationId,
        bytes: Bytes,
    ) -> Option<Bytes> {
        match &mut self.connections.get_mut(&connection)?.outlet {
            Outlet::Open => Some(bytes),
            Outlet::Clogged(kept) => {
                kept.push_back((correlation_id, bytes));
                None
            }
        }
    }

    /// Forgets a connection and says what the world knows of its loss.
    pub fn lose(&mut self, connection: ConnectionId, reason: Arc<str>) -> Option<Input> {
        let end = self.connections.remove(&connection)?;
        let untouched_from = match end.outlet {
            Outlet::Open => None,
            Outlet::Clogged(kept) => kept.front().map(|(correlation_id, _)| *correlation_id),
        };
        Some(Input::Disconnected {
            connection,
            untouched_from,
            reason,
        })
    }

    fn index(&self, topic: &Arc<str>) -> TopicIndex {
        let at = self.topics.iter().position(|known| known == topic);
        let at = at.unwrap_or(self.topics.len());
        TopicIndex(u32::try_from(at).expect("a handful of topics"))
    }

    fn append(
        &mut self,
        partition: TopicPartition,
        content: &Content,
        number: SendNumber,
        now: Instant,
    ) {
        let headers: Vec<HeaderView<'_>> = content
            .headers
            .iter()
            .map(|(key, value)| HeaderView {
                key,
                value: value.as_deref(),
            })
            .collect();
        let record = RecordView {
            timestamp_ms: content.timestamp_ms,
            key: content.key.as_deref(),
            value: Some(&content.value),
            headers: &headers,
        };
        let limits = self.queues.limits;
        let queue = self.queues.queue(partition);
        let appended = queue.append(&record).unwrap_or_else(|_| {
            let completion = BatchNumber(self.batches.len());
            self.batches.push(Vec::new());
            let room = limits.batch_bytes.max(single_record_batch_bytes(&record));
            let buffer = BytesMut::with_capacity(room);
            queue.append_opening(
                &record,
                NewBatch {
                    buffer,
                    completion,
                    now,
                },
            )
        });
        let batch = &mut self.batches[appended.completion.0];
        assert_eq!(
            batch.len(),
            appended.index as usize,
            "a record's index is its place"
        );
        batch.push(number);
        use kafka_producer::engine::queue::Notice;
        if appended.notice != Notice::None {
            self.engine.handle_input(Input::Queued { partition }, now);
        }
    }
}

/// The frame in one piece, without the four bytes of size that links do not carry.
///
/// # Panics
///
/// When the size is wrong.
#[must_use]
pub fn without_size(frame: &Frame) -> Bytes {
    let whole = frame.0.concat();
    let (size, rest) = whole
        .split_first_chunk()
        .expect("a frame starts with its size");
    assert_eq!(
        i32::from_be_bytes(*size) as usize,
        rest.len(),
        "a frame says its size"
    );
    Bytes::copy_from_slice(rest)
}
