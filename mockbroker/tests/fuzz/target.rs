//! What a fuzzed input is given to, and what must hold afterwards whatever it is.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use kafka_mockbroker::engine::time::Instant;
use kafka_mockbroker::engine::topology::BrokerEndpoint;
use kafka_mockbroker::engine::{ClusterConfig, TopicSpec};
use kafka_mockbroker::handlers::ClusterEngine;
use kafka_mockbroker::{BrokerConfig, MockCluster};

const HERE: BrokerId = BrokerId(1);

/// Two brokers and the topics that the goldens name.
fn cluster() -> ClusterEngine {
    let topic = |name: &str, overrides: &[(&str, &str)]| TopicSpec {
        name: name.into(),
        partitions: 2,
        replication_factor: 2,
        overrides: overrides
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let config = ClusterConfig {
        brokers: [1, 2]
            .map(|id| BrokerEndpoint {
                id: BrokerId(id),
                host: "mock".into(),
                port: 9092,
            })
            .to_vec(),
        topics: vec![
            topic("t", &[]),
            topic("orders", &[]),
            topic(
                "append-time",
                &[("message.timestamp.type", "LogAppendTime")],
            ),
            topic("compact", &[("cleanup.policy", "compact")]),
            topic("gzip", &[("compression.type", "gzip")]),
        ],
        broker: BrokerConfig::default(),
        cluster_id: None,
        wall_clock_origin_ms: 1_795_300_343_672,
        seed: 1,
    };
    ClusterEngine::new(config, Instant::ZERO).unwrap()
}

/// A cluster that is sent frames, each on a connection of its own.
pub(crate) struct Frames {
    engine: ClusterEngine,
    connections: u64,
    now: Instant,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            engine: cluster(),
            connections: 0,
            now: Instant::ZERO,
        }
    }

    /// Any bytes as a frame, and a request behind them: at most one answer each, in order, unless
    /// the connection is closed; and every machine is as it should be.
    pub(crate) fn take(&mut self, frame: &[u8]) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.engine.handle_connect(HERE, connection, self.now);
        for frame in [frame, API_VERSIONS] {
            let frame = Bytes::copy_from_slice(frame);
            self.engine.handle_request(connection, frame, self.now);
        }
        self.engine.check_invariants();
        // What waits ends with its time; nothing waits for ever.
        for _ in 0..4 {
            match self.engine.next_deadline() {
                Some(deadline) if deadline.since(self.now).as_secs() < 60 => {
                    self.now = deadline.max(self.now);
                    self.engine.handle_timeout(self.now);
                }
                _ => break,
            }
        }
        let (mut answers, mut ended) = (0, false);
        while let Some(effect) = self.engine.poll_effect() {
            assert!(!ended, "{effect:?} after the end");
            match effect {
                Effect::Reply { .. } => answers += 1,
                Effect::Close { .. } => ended = true,
                Effect::ReadOn { .. } => {}
                other => panic!("without a rule there is no {other:?}"),
            }
        }
        assert!(answers <= 2, "{answers} answers to two requests");
        self.engine.handle_disconnect(connection, self.now);
        self.engine.check_invariants();
    }
}

/// Any bytes as a record batch: through a Produce whose frame is right, with the checksum as it is
/// and with a right one, since otherwise little gets past it; to each kind of topic.
pub(crate) fn take_batch(cluster: &mut Frames, batch: &[u8], topic: &str) {
    cluster.take(&produce(topic, batch));
    let mut mended = batch.to_vec();
    if mended.len() > CHECKED_FROM {
        let crc = crc32c::crc32c(&mended[CHECKED_FROM..]);
        mended[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
        let length = u32::try_from(mended.len() - 12).unwrap();
        mended[8..12].copy_from_slice(&length.to_be_bytes());
        cluster.take(&produce(topic, &mended));
    }
}

/// What the checksum of a batch covers begins here, right behind it.
const CHECKED_FROM: usize = 21;

/// A Produce, version 7, with acks=all that waits for nothing.
fn produce(topic: &str, batch: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_slice(&[0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    frame.put_i32(0);
    frame.put_i32(1);
    frame.put_u16(u16::try_from(topic.len()).unwrap());
    frame.put_slice(topic.as_bytes());
    frame.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    frame.put_u32(u32::try_from(batch.len()).unwrap());
    frame.put_slice(batch);
    frame.to_vec()
}

/// Any text as a scenario: taken or refused.
pub(crate) fn take_scenario(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let taken = MockCluster::builder().brokers(3).scenario_str(&text);
    if let Err(error) = taken {
        assert!(!error.to_string().is_empty());
    }
}

/// ApiVersions, version 0.
const API_VERSIONS: &[u8] = &[0, 18, 0, 0, 0, 0, 0, 2, 0xff, 0xff];
