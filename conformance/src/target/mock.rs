//! The mock cluster of this project, in this process.
//!
//! Three brokers, so that a client that asks the wrong one is found out; no automatic creation of
//! topics, as in the container's profile.

use kafka_mockbroker::MockCluster;

use super::{Capabilities, Capability, Target, TargetKind, Unavailable};

const BROKERS: u16 = 3;
/// The log of transactions and its partitions: a container has it by the time it is ready.
const TRANSACTIONS: (&str, i32) = ("__transaction_state", 2);

/// A mock cluster that ends with this value.
#[derive(Debug)]
pub struct MockTarget {
    cluster: MockCluster,
    brokers: u16,
}

impl MockTarget {
    /// Starts a mock cluster.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn start() -> Result<Self, Unavailable> {
        Self::of(BROKERS)
    }

    /// Starts a mock cluster of one broker, as the container is one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn of_one_broker() -> Result<Self, Unavailable> {
        Self::of(1)
    }

    fn of(brokers: u16) -> Result<Self, Unavailable> {
        let cluster = MockCluster::builder()
            .brokers(brokers)
            .set("auto.create.topics.enable", "false")
            .topic(TRANSACTIONS.0, TRANSACTIONS.1, 1)
            .start()
            .map_err(|error| {
                let remedy = "free some TCP ports of 127.0.0.1 and run again";
                Unavailable::new(format!("the mock cluster does not start: {error}"), remedy)
            })?;
        Ok(Self { cluster, brokers })
    }
}

impl Target for MockTarget {
    fn name(&self) -> &str {
        "mock"
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Mock
    }

    fn bootstrap(&self) -> Vec<String> {
        self.cluster
            .bootstrap_servers()
            .split(',')
            .map(str::to_owned)
            .collect()
    }

    fn broker_version(&self) -> Option<String> {
        Some(format!("kafka-mockbroker {}", env!("CARGO_PKG_VERSION")))
    }

    fn capabilities(&self) -> Capabilities {
        let mut list = vec![Capability::Injection];
        if self.brokers >= BROKERS {
            list.push(Capability::ThreeNodes);
        }
        Capabilities::of(&list)
    }

    fn mock(&self) -> Option<&MockCluster> {
        Some(&self.cluster)
    }
}
