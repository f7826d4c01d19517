//! A producer without its shell: the engine, plain queues, and the ends of its links.
//!
//! Batches are compressed at once, and come back as late as a thread would bring them, in any
//! order.
//!
//! *Invariants*
//! 1. Records of one partition are accepted in the order of their sends; those of a topic that is
//!    not known yet wait, as a caller of `send` does.
//! 2. A frame that no byte of has left is kept here, so that a lost connection can say so.
//!
//! 3. Where memory is bounded, who waits for it is served in the order of arrival, and nobody who
//!    comes later passes.
//!
//! *Not here*: choosing a partition, giving up waiting, wake-ups (level 2 has them).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_producer::TopicIndex;
use kafka_producer::TopicPartition;
use kafka_producer::engine::effect::{
    Action, CompressionId, ConnectionId, CorrelationId, Frame, Input, QueueState, Queues, TopicView,
};
use kafka_producer::engine::queue::{
    Appended, HeaderView, NewBatch, NoRoom, Notice, PartitionQueue, QueueLimits, RecordView,
    SealedBatch, single_record_batch_bytes,
};
use kafka_producer::engine::ratio::Ratio;
use kafka_producer::engine::time::Instant;
use kafka_producer::engine::transaction::Doors;
use kafka_producer::engine::{Engine, EngineConfig};
use kafka_producer::wire::batch_buffer::BatchBuffer;
use kafka_producer::wire::compression::{CompressedBatch, Compressor};

use crate::history::{Content, Placed};
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
    /// The partition.
    pub partition: i32,
    /// Who chose it.
    pub placed: Placed,
    /// The record.
    pub content: Content,
}

/// The queues of a producer, without locks.
#[derive(Debug)]
pub struct PlainQueues {
    limits: QueueLimits,
    queues: BTreeMap<TopicPartition, PartitionQueue<BatchNumber>>,
    ratios: BTreeMap<TopicIndex, Ratio>,
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

    fn open_bytes(&mut self, partition: TopicPartition) -> usize {
        self.queue(partition).open_bytes()
    }

    fn seal(&mut self, partition: TopicPartition) {
        self.queue(partition).seal();
    }

    fn take(&mut self, partition: TopicPartition) -> Option<SealedBatch<BatchNumber>> {
        self.queue(partition).take()
    }

    fn expect_ratio(&mut self, topic: TopicIndex, ratio: Ratio) {
        self.ratios.insert(topic, ratio);
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
    compressor: Compressor,
    compressed: BTreeMap<(Instant, CompressionId), CompressedBatch>,
    topics: Vec<Arc<str>>,
    waiting: VecDeque<Outgoing>,
    batches: Vec<Batch>,
    memory: Memory,
    /// Since the last record was accepted.
    drain_requested: bool,
    /// Whether records are accepted; without a transactional id they always are.
    pub doors: Doors,
    life: Life,
}

/// Whether the process still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    Dead,
}

#[derive(Debug, Default)]
struct Batch {
    sends: Vec<SendNumber>,
    memory_bytes: usize,
}

/// The bytes of batches that are not settled.
#[derive(Debug, Default)]
struct Memory {
    bytes_max: Option<usize>,
    used_bytes: usize,
}

impl Memory {
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes_max
            .is_none_or(|max| self.used_bytes + bytes <= max)
    }
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(
        config: EngineConfig,
        batch_bytes: usize,
        memory_bytes: Option<usize>,
        now: Instant,
    ) -> Self {
        Self {
            memory: Memory {
                bytes_max: memory_bytes,
                used_bytes: 0,
            },
            compressor: Compressor::new(config.codec),
            compressed: BTreeMap::new(),
            engine: Engine::new(config, now),
            connections: BTreeMap::new(),
            queues: PlainQueues {
                limits: QueueLimits { batch_bytes },
                queues: BTreeMap::new(),
                ratios: BTreeMap::new(),
            },
            topics: Vec::new(),
            waiting: VecDeque::new(),
            batches: Vec::new(),
            drain_requested: false,
            doors: Doors::Open,
            life: Life::Alive,
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

    /// Appends the next record whose topic is known, under the given number; where there is no
    /// memory for it, asks for what is queued to go.
    pub fn accept_next(&mut self, number: SendNumber, now: Instant) -> Option<Outgoing> {
        if self.doors != Doors::Open {
            return None;
        }
        let known = |record: &Outgoing| {
            let view = self.engine.topic(self.index(&record.topic));
            matches!(view, TopicView::Known { .. })
        };
        let at = self.waiting.iter().position(known)?;
        let record = self.waiting.remove(at)?;
        if !self.append(&record, number, now) {
            self.waiting.insert(at, record);
            if !self.drain_requested {
                self.drain_requested = true;
                self.engine.handle_input(Input::DrainRequested, now);
            }
            return None;
        }
        self.drain_requested = false;
        Some(record)
    }

    /// A batch is settled: returns its sends, in the order of their records, and its memory.
    pub fn settle(&mut self, batch: BatchNumber) -> Vec<SendNumber> {
        let Batch {
            sends,
            memory_bytes,
        } = std::mem::take(&mut self.batches[batch.0]);
        self.memory.used_bytes -= memory_bytes;
        sends
    }

    /// The memory of a batch that is settled is kept all the same.
    pub fn leak(&mut self, bytes: usize) {
        self.memory.used_bytes += bytes;
    }

    /// Bytes of memory that unsettled batches hold.
    #[must_use]
    pub fn memory_used_bytes(&self) -> usize {
        self.memory.used_bytes
    }

    /// How many records wait for their topic to be known.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Lets records in from now on, or none: tells the engine of those that are queued, and gives
    /// back the one that waits.
    pub fn set_doors(&mut self, doors: Doors, now: Instant) -> Option<Outgoing> {
        let shut = doors != Doors::Open;
        self.doors = doors;
        if !shut {
            return None;
        }
        let queues = self.queues.queues.iter();
        let queued = queues.filter(|(_, queue)| queue.state().oldest_opened_at.is_some());
        let queued: Vec<TopicPartition> = queued.map(|(partition, _)| *partition).collect();
        for partition in queued {
            self.engine.handle_input(Input::Queued { partition }, now);
        }
        self.waiting.pop_front()
    }

    /// The process is killed: nothing of it happens any more, and what it held is free.
    pub fn die(&mut self) {
        self.life = Life::Dead;
        self.waiting.clear();
        self.memory.used_bytes = 0;
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.life == Life::Alive
    }

    /// The engine's next action.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action<BatchNumber>> {
        self.want_again(now);
        self.engine.poll_action(&mut self.queues, now)
    }

    /// Compresses a batch; it comes back later than some that are compressed after it.
    pub fn compress(&mut self, id: CompressionId, plain: BatchBuffer, now: Instant) {
        let batch = self.compressor.compress(plain);
        let due = now + Duration::from_micros(id.0 * 7 % 10 * 40);
        self.compressed.insert((due, id), batch);
    }

    /// When the next compressed batch comes back.
    #[must_use]
    pub fn compressed_at(&self) -> Option<Instant> {
        self.compressed.keys().next().map(|(due, _)| *due)
    }

    /// Brings back the batches that are compressed by now.
    pub fn bring_compressed(&mut self, now: Instant) {
        while let Some(entry) = self.compressed.first_entry()
            && entry.key().0 <= now
        {
            let ((_, id), batch) = entry.remove_entry();
            self.engine
                .handle_input(Input::Compressed { id, batch }, now);
        }
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

    /// Asks again for what records wait for and the engine has forgotten.
    fn want_again(&mut self, now: Instant) {
        for at in 0..self.waiting.len() {
            let name = Arc::clone(&self.waiting[at].topic);
            let topic = self.index(&name);
            if matches!(self.engine.topic(topic), TopicView::Forgotten) {
                self.engine
                    .handle_input(Input::TopicWanted { topic, name }, now);
            }
        }
    }

    fn index(&self, topic: &Arc<str>) -> TopicIndex {
        let at = self.topics.iter().position(|known| known == topic);
        let at = at.unwrap_or(self.topics.len());
        TopicIndex(u32::try_from(at).expect("a handful of topics"))
    }

    /// Appends a record if there is memory.
    fn append(&mut self, record: &Outgoing, number: SendNumber, now: Instant) -> bool {
        let partition = TopicPartition {
            topic: self.index(&record.topic),
            partition: record.partition,
        };
        let content = &record.content;
        let headers = content.headers.iter().map(|(key, value)| HeaderView {
            key,
            value: value.as_deref(),
        });
        let headers: Vec<HeaderView<'_>> = headers.collect();
        let view = RecordView {
            timestamp_ms: content.timestamp_ms,
            key: content.key.as_deref(),
            value: Some(&content.value),
            headers: &headers,
        };
        let queue = self.queues.queue(partition);
        let appended = match queue.append(&view) {
            Err(NoRoom::Buffer { bytes }) => {
                drop(queue.exchange(BatchBuffer::with_capacity(bytes)));
                queue.append(&view)
            }
            other => other,
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(_) => match self.append_opening(partition, &view, now) {
                Some(appended) => appended,
                None => return false,
            },
        };
        let sends = &mut self.batches[appended.completion.0].sends;
        let index = appended.index as usize;
        assert_eq!(sends.len(), index, "a record's index is its place");
        sends.push(number);
        if appended.notice != Notice::None {
            self.engine.handle_input(Input::Queued { partition }, now);
        }
        true
    }

    fn append_opening(
        &mut self,
        partition: TopicPartition,
        record: &RecordView<'_>,
        now: Instant,
    ) -> Option<Appended<BatchNumber>> {
        let ratio = self.queues.ratios.get(&partition.topic).copied();
        let ratio = ratio.unwrap_or(Ratio::PLAIN);
        let memory_bytes = self.memory.bytes_max.unwrap_or(usize::MAX);
        let room = ratio.plain(self.queues.limits.batch_bytes);
        let room = room.min(memory_bytes);
        let room = room.max(single_record_batch_bytes(record));
        if !self.memory.has_room(room) {
            return None;
        }
        self.memory.used_bytes += room;
        let completion = BatchNumber(self.batches.len());
        self.batches.push(Batch {
            sends: Vec::new(),
            memory_bytes: room,
        });
        // It grows as records come; what it may grow to is taken at once.
        let first_bytes = single_record_batch_bytes(record);
        let buffer = BatchBuffer::with_capacity(room.min(first_bytes.max(256)));
        let batch = NewBatch {
            ratio,
            buffer,
            buffer_bytes_max: room,
            completion,
            now,
        };
        Some(self.queues.queue(partition).append_opening(record, batch))
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
