//! The mock cluster of this project, in this process.
//!
//! Three brokers, so that a client that asks the wrong one is found out; else as the container.

use std::sync::Arc;

use kafka_mockbroker::MockCluster;
use kafka_mockbroker::engine::effect::BrokerId;

use super::{
    Action, Capabilities, Capability, Doing, OwnBrokers, Target, TargetKind, TransactionVersion,
    Unavailable,
};

const BROKERS: u16 = 3;
/// What containers have too (`compose/one-node.env`, `compose/three-brokers.env`).
const PROFILE: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "100"),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "200",
    ),
    ("broker.session.timeout.ms", "3000"),
    ("replica.lag.time.max.ms", "5000"),
];
/// The log of transactions and its partitions: a container has it by the time it is ready.
const TRANSACTIONS: (&str, i32) = ("__transaction_state", 2);

/// A mock cluster that ends with this value.
#[derive(Debug)]
pub struct MockTarget {
    cluster: MockCluster,
    brokers: u16,
    transactions: TransactionVersion,
}

impl MockTarget {
    /// Starts a mock cluster.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn start() -> Result<Self, Unavailable> {
        Self::at_level(TransactionVersion::Newest)
    }

    /// The same at a level of `transaction.version`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn at_level(transactions: TransactionVersion) -> Result<Self, Unavailable> {
        Self::of(&OwnBrokers {
            count: BROKERS,
            settings: &[],
            transactions,
        })
    }

    /// Starts a mock cluster of one broker, as the container is one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it cannot listen.
    pub fn of_one_broker(transactions: TransactionVersion) -> Result<Self, Unavailable> {
        Self::of(&OwnBrokers {
            count: 1,
            settings: &[],
            transactions,
        })
    }

    fn of(wanted: &OwnBrokers<'_>) -> Result<Self, Unavailable> {
        let mut builder =
            MockCluster::builder()
                .brokers(wanted.count)
                .topic(TRANSACTIONS.0, TRANSACTIONS.1, 1);
        for (key, value) in PROFILE.iter().chain(wanted.settings) {
            builder = builder.set(*key, *value);
        }
        let refused = |error: String| {
            let remedy = "free some TCP ports of 127.0.0.1 and run again";
            Unavailable::new(format!("the mock cluster does not start: {error}"), remedy)
        };
        let cluster = builder.start();
        let cluster = cluster.map_err(|error| refused(error.to_string()))?;
        if wanted.transactions == TransactionVersion::One {
            let set = cluster.set_transaction_version(1);
            set.map_err(|error| refused(error.to_string()))?;
        }
        Ok(Self {
            cluster,
            brokers: wanted.count,
            transactions: wanted.transactions,
        })
    }
}

impl Target for MockTarget {
    fn name(&self) -> &str {
        match self.transactions {
            TransactionVersion::Newest => "mock",
            TransactionVersion::One => "mock-tv1",
        }
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

    fn transactions(&self) -> TransactionVersion {
        self.transactions
    }

    fn capabilities(&self) -> Capabilities {
        let mut list = vec![
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::Pause,
            Capability::Isolation,
            Capability::LeaderMoves,
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
            let target: Arc<dyn Target> = Arc::new(Self::of(wanted)?);
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
            Action::Isolate => self.cluster.isolate_broker(broker),
            Action::Rejoin => self.cluster.heal_broker(broker),
        };
        let done = done.map_err(|error| {
            Unavailable::new(format!("{action:?} of broker {node}: {error}"), "-")
        });
        Box::pin(std::future::ready(done))
    }
}
