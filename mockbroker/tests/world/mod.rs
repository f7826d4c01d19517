//! A cluster of three brokers under virtual time, and clients that know frames.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(clippy::expect_used, reason = "a failing helper fails its test")]

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use kafka_mockbroker::BrokerConfig;
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use kafka_mockbroker::engine::time::Instant;
use kafka_mockbroker::engine::topology::{BrokerEndpoint, Placement};
use kafka_mockbroker::engine::{ClusterConfig, Move, TopicSpec};
use kafka_mockbroker::handlers::ClusterEngine;

use crate::frames::{Batch, Row, produce, produce_rows};

pub(crate) const LEADER: BrokerId = BrokerId(1);
pub(crate) const SECOND: BrokerId = BrokerId(2);
pub(crate) const THIRD: BrokerId = BrokerId(3);

/// Three brokers, `orders` with three replicas of two partitions, of which two must be in sync.
/// Partition 0 is led by broker 1.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) engine: ClusterEngine,
    pub(crate) now: Instant,
    connections: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::configured(&[("min.insync.replicas", "2")])
    }

    pub(crate) fn configured(overrides: &[(&str, &str)]) -> Self {
        Self::of_brokers(&[], overrides)
    }

    /// Brokers of this configuration, and `orders` of that one.
    pub(crate) fn of_brokers(settings: &[(&str, &str)], overrides: &[(&str, &str)]) -> Self {
        let mut broker = BrokerConfig::default();
        for (key, value) in settings {
            broker.set(key, value).expect("a legal setting");
        }
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let config = ClusterConfig {
            brokers: [(1, 9091), (2, 9092), (3, 9093)]
                .map(|(id, port)| BrokerEndpoint {
                    id: BrokerId(id),
                    host: "mock".into(),
                    port,
                })
                .to_vec(),
            topics: vec![TopicSpec {
                name: "orders".into(),
                partitions: 2,
                replication_factor: 3,
                overrides: overrides.iter().map(owned).collect(),
            }],
            broker,
            cluster_id: None,
            wall_clock_origin_ms: 1_000,
            seed: 7,
        };
        let engine = ClusterEngine::new(config, Instant::ZERO).expect("a legal cluster");
        Self {
            engine,
            now: Instant::ZERO,
            connections: 0,
        }
    }

    /// Deletes `orders` and makes it again, with one partition and one replica.
    pub(crate) fn recreate_orders(&mut self) {
        self.engine
            .delete_topic("orders", self.now)
            .expect("it is there");
        let again = TopicSpec {
            name: "orders".into(),
            partitions: 1,
            replication_factor: 1,
            overrides: Vec::new(),
        };
        self.engine.create_topic(again).expect("a legal topic");
    }

    pub(crate) fn connect(&mut self, broker: BrokerId) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.engine.handle_connect(broker, connection, self.now);
        connection
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, frame: Bytes) -> Vec<Effect> {
        self.engine.handle_request(connection, frame, self.now);
        self.effects()
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        self.engine.check_invariants();
        std::iter::from_fn(|| self.engine.poll_effect()).collect()
    }

    pub(crate) fn pass(&mut self, duration: Duration) -> Vec<Effect> {
        self.now = self.now + duration;
        self.engine.handle_timeout(self.now);
        self.effects()
    }

    pub(crate) fn make(&mut self, to_make: &Move) -> Vec<Effect> {
        self.engine
            .make_move(to_make, self.now)
            .expect("a move that can be made");
        self.effects()
    }

    pub(crate) fn hold(&mut self, broker: BrokerId) {
        self.make(&Move::HoldFollower {
            topic: "orders".into(),
            partition: 0,
            broker,
        });
    }

    pub(crate) fn release(&mut self, broker: BrokerId) -> Vec<Effect> {
        self.make(&Move::ReleaseFollower {
            topic: "orders".into(),
            partition: 0,
            broker,
        })
    }

    pub(crate) fn pause(&mut self, broker: BrokerId) -> Vec<Effect> {
        self.make(&Move::PauseBroker { broker })
    }

    pub(crate) fn resume(&mut self, broker: BrokerId) -> Vec<Effect> {
        self.make(&Move::ResumeBroker { broker })
    }

    pub(crate) fn shrink(&mut self, broker: BrokerId) -> Vec<Effect> {
        self.make(&Move::ShrinkIsr {
            topic: "orders".into(),
            partition: 0,
            broker,
        })
    }

    /// Sends one batch to partition 0 over a connection of its own.
    pub(crate) fn append(&mut self, acks: i16, batch: Batch) -> Vec<Effect> {
        self.append_at(LEADER, acks, batch)
    }

    /// The same to another broker than the first leader.
    pub(crate) fn append_at(&mut self, broker: BrokerId, acks: i16, batch: Batch) -> Vec<Effect> {
        let connection = self.connect(broker);
        self.send(connection, to_orders(acks, batch))
    }

    /// Moves partition 0 of `orders`.
    pub(crate) fn replica(&mut self, make: impl Fn(Arc<str>, i32) -> Move) -> Vec<Effect> {
        self.make(&make("orders".into(), 0))
    }

    /// Leader and epoch, ISR, and those eligible to lead, of partition 0.
    pub(crate) fn placement(&self) -> Placement {
        let cluster = self.engine.cluster();
        let key = cluster.key("orders", 0).expect("it is there");
        cluster
            .topology()
            .placement(key)
            .expect("it is there")
            .clone()
    }

    /// Where the log of partition 0 ends on each broker.
    pub(crate) fn ends(&self) -> [i64; 3] {
        let cluster = self.engine.cluster();
        let key = cluster.key("orders", 0).expect("it is there");
        let partition = cluster.partition(key).expect("it is there");
        [LEADER, SECOND, THIRD].map(|broker| {
            let log = partition.log_on(broker).expect("it has a replica");
            log.end_offset()
        })
    }

    /// The high watermark as its leader knows it, of partition 0.
    pub(crate) fn watermark(&self) -> i64 {
        let cluster = self.engine.cluster();
        let key = cluster.key("orders", 0).expect("it is there");
        let partition = cluster.partition(key).expect("it is there");
        partition.log().high_watermark()
    }

    pub(crate) fn log_end(&self, partition: i32) -> i64 {
        let key = self
            .engine
            .cluster()
            .key("orders", partition)
            .expect("it is there");
        self.engine
            .cluster()
            .partition(key)
            .expect("it is there")
            .log()
            .end_offset()
    }
}

pub(crate) fn to_orders(acks: i16, batch: Batch) -> Bytes {
    produce(acks, 1_000, "orders", &[(0, Some(batch.encode()))])
}

/// The one answer among the effects.
pub(crate) fn only_answer(effects: Vec<Effect>) -> Bytes {
    match <[Effect; 1]>::try_from(effects) {
        Ok([Effect::Reply { frame, .. }]) => frame,
        other => panic!("not one answer: {other:?}"),
    }
}

pub(crate) fn only_row(effects: Vec<Effect>) -> Row {
    produce_rows(only_answer(effects))[0]
}

/// The answer on this connection.
pub(crate) fn answer_on(effects: &[Effect], wanted: ConnectionId) -> Bytes {
    let answer = effects.iter().find_map(|effect| match effect {
        Effect::Reply { connection, frame } if *connection == wanted => Some(frame.clone()),
        _ => None,
    });
    answer.expect("an answer on the connection")
}

/// Code and base offset.
pub(crate) fn outcome(effects: Vec<Effect>) -> (i16, i64) {
    let row = only_row(effects);
    (row.code, row.base_offset)
}

pub(crate) fn is_closed(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::Close { .. }])
}
