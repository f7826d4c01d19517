//! Level 2: the whole producer and a cluster in memory, on tokio's paused clock.
//!
//! *Invariants*
//! 1. No socket and no real time: a test takes as long as its work, however long it waits.
//! 2. The cluster ends with the [`Shell`], whatever producers still hold.
//!
//! *Not here*: TCP (`level3.rs`), the engines without their shell (`world.rs`).

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kafka_mockbroker::{MockCluster, MockClusterBuilder};
use kafka_producer::io::transport::{Connecting, Connector, Transport};
use kafka_producer::{Producer, ProducerBuilder};
use tokio::time::Instant;

/// A cluster in memory.
#[derive(Debug)]
pub struct Shell {
    /// The cluster.
    pub cluster: Arc<MockCluster>,
}

impl Shell {
    /// Three brokers, the topic `orders` with three partitions on all of them.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(|builder| builder.brokers(3).topic("orders", 3, 3))
    }

    /// A cluster as described.
    ///
    /// # Panics
    ///
    /// When the description cannot be.
    #[must_use]
    pub fn start_with(describe: impl FnOnce(MockClusterBuilder) -> MockClusterBuilder) -> Self {
        let builder = describe(MockCluster::builder());
        let cluster = builder
            .start_in_memory()
            .expect("the cluster can be as described");
        Self {
            cluster: Arc::new(cluster),
        }
    }

    /// A producer's builder that connects here.
    pub fn producer(&self) -> ProducerBuilder {
        Producer::builder()
            .bootstrap_servers(self.cluster.bootstrap_servers())
            .connector(connector(Arc::downgrade(&self.cluster)))
    }

    /// The values in a partition's log.
    #[must_use]
    pub fn log(&self, topic: &str, partition: i32) -> Vec<String> {
        let records = self.cluster.records(topic, partition);
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        records
            .iter()
            .map(|record| record.value.as_deref().map_or("null".into(), text))
            .collect()
    }
}

fn connector(cluster: Weak<MockCluster>) -> impl Connector {
    move |address: kafka_producer::engine::effect::Address| -> Connecting {
        let connected = match cluster.upgrade() {
            Some(cluster) => cluster.connect(address.port),
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the cluster is gone",
            )),
        };
        Box::pin(async move { Ok(Box::new(connected?) as Box<dyn Transport>) })
    }
}

/// How much (paused) time something takes.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let done = work.await;
    (done, started.elapsed())
}
