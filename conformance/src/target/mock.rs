//! The mock cluster of this project, in this process.
//!
//! Three brokers, so that a client that asks the wrong one is found out; no automatic creation of
//! topics, as in the container's profile.

use kafka_mockbroker::MockCluster;

use super::{Capabilities, Capability, Target, TargetKind, Unavailable};

const BROKERS: u16 = 3;

/// A mock cluster that ends with this value.
#[derive(Debug)]
pub struct MockTarget {
    cluster: MockCluster,
}

impl MockTarget {
    /// Starts a mock cluster.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn start() -> Result<Self, Unavailable> {
        let cluster = MockCluster::builder()
            .brokers(BROKERS)
            .set("auto.create.topics.enable", "false")
            .start()
            .map_err(|error| {
                let remedy = "free some TCP ports of 127.0.0.1 and run again";
                Unavailable::new(format!("the mock cluster does not start: {error}"), remedy)
            })?;
        Ok(Self { cluster })
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
        Capabilities::of(&[Capability::Injection, Capability::ThreeNodes])
    }

    fn mock(&self) -> Option<&MockCluster> {
        Some(&self.cluster)
    }
}
