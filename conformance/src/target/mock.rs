//! The mock cluster of this project, in this process.
//!
//! Three brokers, so that a client that asks the wrong one is found out; no automatic creation of
//! topics, as in the container's profile.

use std::sync::Arc;

use kafka_mockbroker::MockCluster;
use kafka_mockbroker::engine::effect::BrokerId;

use super::{Action, Capabilities, Capability, Doing, OwnBrokers, Target, TargetKind, Unavailable};

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
        Self::of(BROKERS, &[])
    }

    /// Starts a mock cluster of one broker, as the container is one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn of_one_broker() -> Result<Self, Unavailable> {
        Self::of(1, &[])
    }

    fn of(brokers: u16, settings: &[(&str, &str)]) -> Result<Self, Unavailable> {
        let mut builder = MockCluster::builder()
            .brokers(brokers)
            .set("auto.create.topics.enable", "false")
            .topic(TRANSACTIONS.0, TRANSACTIONS.1, 1);
        for &(key, value) in settings {
            builder = builder.set(key, value);
        }
        let cluster = builder.start().map_err(|error| {
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
        let mut list = vec![
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::Pause,
        ];
        if self.brokers >= BROKERS {
            list.push(Capability::ThreeNodes);
        }
        Capabilities::of(&list)
    }

    fn mock(&self) -> Option<&MockCluster> {
        Some(&self.cluster)
    }

    fn beside<'a>(&'a self, wanted: &'a OwnBrokers<'a>) -> Doing<'a, Arc<dyn Target>> {
        Box::pin(async {
            let target: Arc<dyn Target> = Arc::new(Self::of(wanted.count, wanted.settings)?);
            Ok(target)
        })
    }

    fn act(&self, node: i32, action: Action) -> Doing<'_, ()> {
        let broker = BrokerId(node);
        let done = match action {
            // Its records are kept either way.
            Action::Stop | Action::Kill => self.cluster.crash_broker(broker),
            Action::Start => self.cluster.restart_broker(broker),
            Action::Pause => self.cluster.pause_broker(broker),
            Action::Resume => self.cluster.resume_broker(broker),
        };
        let done = done.map_err(|error| {
            Unavailable::new(format!("{action:?} of broker {node}: {error}"), "-")
        });
        Box::pin(std::future::ready(done))
    }
}
