//! An engine whose partition 0 flows, joined to a scripted broker: between two clock reads one
//! batch leaves, or is answered for.
//!
//! *Not here*: what is measured (`record_path.rs`).

use std::time::Duration;

use bytes::Bytes;
use kafka_producer::engine::effect::{
    Action, Address, BatchOutcome, ConnectionId, Frame, Input, QueueState, Queues,
};
use kafka_producer::engine::queue::{
    NewBatch, PartitionQueue, QueueLimits, RecordView, SealedBatch,
};
use kafka_producer::engine::ratio::Ratio;
use kafka_producer::engine::time::Instant;
use kafka_producer::engine::{Engine, EngineConfig, Idempotence};
use kafka_producer::wire::compression::Codec;
use kafka_producer::{Acks, TopicIndex, TopicPartition};

use crate::peer::Peer;
use crate::{Shape, fresh};

const PARTITION: TopicPartition = TopicPartition {
    topic: TopicIndex(0),
    partition: 0,
};

/// The engine, its only queue, and its broker.
pub(crate) struct Flowing {
    engine: Engine<()>,
    queue: OneQueue,
    peer: Peer,
    now: Instant,
    shape: Shape,
}

/// A request on its way.
pub(crate) struct Sent {
    connection: ConnectionId,
    frame: Frame,
}

impl Flowing {
    /// One that sends batches of this shape, and has sent one.
    pub(crate) fn new(shape: Shape) -> Self {
        let mut flowing = Self {
            engine: Engine::new(config(), Instant::ZERO),
            queue: OneQueue(PartitionQueue::new(QueueLimits {
                batch_bytes: shape.1,
            })),
            peer: Peer::new(&[("orders", 1)]),
            now: Instant::ZERO,
            shape,
        };
        flowing.engine.handle_input(
            Input::TopicWanted {
                topic: PARTITION.topic,
                name: "orders".into(),
            },
            flowing.now,
        );
        flowing.fill(&super::RECORD);
        let first = flowing.dispatch();
        let answer = flowing.answer_to(&first);
        assert!(flowing.take_answer(answer), "the first is written");
        flowing
    }

    /// Appends a batch of which the engine hears nothing yet.
    pub(crate) fn fill(&mut self, record: &RecordView<'_>) {
        let (_, batch_bytes, records) = self.shape;
        self.now = self.now + Duration::from_millis(1);
        let batch = NewBatch {
            now: self.now,
            ..fresh(batch_bytes)
        };
        self.queue.0.append_opening(record, batch);
        for _ in 1..records {
            assert!(self.queue.0.append(record).is_ok(), "it fits");
        }
    }

    /// What the engine does of a batch until its request is ready to be written.
    pub(crate) fn dispatch(&mut self) -> Sent {
        let partition = PARTITION;
        self.engine.handle_timeout(self.now);
        self.engine
            .handle_input(Input::Queued { partition }, self.now);
        loop {
            let action = self.engine.poll_action(&mut self.queue, self.now);
            match action.expect("a batch goes at once") {
                Action::Connect { connection, .. } => {
                    self.engine
                        .handle_input(Input::Connected { connection }, self.now);
                }
                Action::Send {
                    connection, frame, ..
                } => {
                    let sent = Sent { connection, frame };
                    // The requests before are few and small.
                    if sent.frame.0.len() > 1 {
                        return sent;
                    }
                    let answer = self.reply(&sent);
                    self.engine.handle_input(answer, self.now);
                }
                _ => {}
            }
        }
    }

    /// The broker's answer, ready to be taken; all that went before is done.
    pub(crate) fn answer_to(&mut self, sent: &Sent) -> Input {
        while self.poll().is_some() {}
        self.reply(sent)
    }

    fn reply(&self, sent: &Sent) -> Input {
        let request = sent.frame.0.concat();
        let answer = self.peer.answer_to(&request[4..]);
        Input::Received {
            connection: sent.connection,
            frame: Bytes::from(answer.expect("it is answered")).slice(4..),
        }
    }

    /// What the engine does of an answer until its batch is at its end: whether it is written.
    pub(crate) fn take_answer(&mut self, answer: Input) -> bool {
        self.engine.handle_input(answer, self.now);
        let mut written = false;
        while let Some(action) = self.poll() {
            if let Action::Complete { outcome, .. } = action {
                written = matches!(outcome, BatchOutcome::Written { .. });
            }
        }
        written
    }

    fn poll(&mut self) -> Option<Action<()>> {
        self.engine.poll_action(&mut self.queue, self.now)
    }
}

struct OneQueue(PartitionQueue<()>);

impl Queues for OneQueue {
    type Completion = ();

    fn state(&mut self, _: TopicPartition) -> QueueState {
        self.0.state()
    }

    fn open_bytes(&mut self, _: TopicPartition) -> usize {
        self.0.open_bytes()
    }

    fn seal(&mut self, _: TopicPartition) {
        self.0.seal();
    }

    fn take(&mut self, _: TopicPartition) -> Option<SealedBatch<()>> {
        self.0.take()
    }

    fn expect_ratio(&mut self, _: TopicIndex, _: Ratio) {}
}

/// As the producer's defaults are, where that matters here.
fn config() -> EngineConfig {
    let second = Duration::from_secs(1);
    EngineConfig {
        client_id: "bench".into(),
        bootstrap: vec![Address {
            host: "broker".into(),
            port: 9092,
        }],
        acks: Acks::All,
        idempotence: Idempotence::Enabled,
        in_flight_max: 5,
        request_timeout: 30 * second,
        delivery_timeout: 120 * second,
        resolve_within: None,
        codec: Codec::NONE,
        linger: Duration::ZERO,
        hold_bytes: 0,
        retries_max: u32::MAX,
        retry_backoff: second / 10,
        retry_backoff_max: second,
        reconnect_backoff: second / 20,
        reconnect_backoff_max: second,
        connection_setup_timeout: 10 * second,
        connection_setup_timeout_max: 30 * second,
        connections_idle_max: None,
        request_bytes_max: 2 << 20,
        metadata_age_max: Duration::MAX,
        rebootstrap_after: None,
        metadata_idle_max: Duration::MAX,
        transactions: None,
        seed: 1,
    }
}
