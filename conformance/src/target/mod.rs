//! What is judged: the mock, a Kafka in a container, or any address list.
//!
//! A target is started once per run and shared by all cases. A case reaches it through
//! [`Target::bootstrap`] alone, so that the same case runs everywhere; what differs between kinds
//! (fault injection, a known version) is a [`Capabilities`] entry or an optional accessor.
//!
//! *Not here*: how a case talks to its target (`crate::context`), and which divergences are known
//! for a kind (`crate::divergence`).

mod docker;
mod mock;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use kafka_mockbroker::MockCluster;

pub use docker::DockerTarget;
pub use mock::MockTarget;

/// A running broker or cluster that cases are asked of.
///
/// Dropping it ends whatever it started.
pub trait Target: Send + Sync {
    /// How the target is called in reports: what was given on the command line.
    fn name(&self) -> &str;

    /// What kind of target this is; known divergences are listed by kind.
    fn kind(&self) -> TargetKind;

    /// Addresses (`HOST:PORT`) of at least one broker.
    fn bootstrap(&self) -> Vec<String>;

    /// The broker's release if the target knows it by other means than asking the broker.
    ///
    /// Kafka does not tell its release over the wire; when this is `None`, the report derives a
    /// range from the API versions that the broker offers.
    fn broker_version(&self) -> Option<String>;

    /// The level of `transaction.version` that it was set up with.
    fn transactions(&self) -> TransactionVersion {
        TransactionVersion::Newest
    }

    /// What may be done to this target besides sending requests.
    fn capabilities(&self) -> Capabilities;

    /// The mock cluster behind the target, for faults inside the broker.
    fn mock(&self) -> Option<&MockCluster> {
        None
    }

    /// Starts a target of the same kind beside this one, with settings of its own.
    ///
    /// # Errors
    ///
    /// When this kind cannot ([`Capability::OwnBrokers`]), or it does not start.
    ///
    /// # Cancellation
    ///
    /// Safe: what was started by then ends with the dropped future.
    fn beside<'a>(&'a self, _: &'a OwnBrokers<'a>) -> Doing<'a, Arc<dyn Target>> {
        Box::pin(std::future::ready(Err(cannot("start brokers"))))
    }

    /// What Kafka's own consumer reads of a topic, one line a record: timestamp, partition, offset,
    /// headers, key and value, parted by tabs; bytes as its `Bytes.toString` writes them, null as
    /// [`NULL`].
    ///
    /// # Errors
    ///
    /// When this kind cannot ([`Capability::OwnConsumer`]), or the consumer fails.
    ///
    /// # Cancellation
    ///
    /// The consumer ends by itself.
    fn consumed<'a>(&'a self, _topic: &'a str, _records: usize) -> Doing<'a, String> {
        Box::pin(std::future::ready(Err(cannot("consume"))))
    }

    /// Does something to the broker with that node id.
    ///
    /// # Errors
    ///
    /// When this kind cannot ([`Capability::Restart`], [`Capability::Pause`],
    /// [`Capability::Isolation`]), or it fails.
    ///
    /// # Cancellation
    ///
    /// It may have been done.
    fn act(&self, _node: i32, _action: Action) -> Doing<'_, ()> {
        Box::pin(std::future::ready(Err(cannot("touch its brokers"))))
    }

    /// Undoes what a case did to brokers and did not undo itself, and waits until all of them are
    /// there and in sync. Only brokers that cases share have anything to do here.
    ///
    /// # Errors
    ///
    /// When one does not come back.
    ///
    /// # Cancellation
    ///
    /// Safe: what is not undone yet is undone by the next call.
    fn settled(&self) -> Doing<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// How [`Target::consumed`] writes null: nothing that a test sends.
pub const NULL: &str = "(null)";

fn cannot(what: &str) -> Unavailable {
    Unavailable::new(
        format!("this target cannot {what}"),
        "use --target mock or --target docker",
    )
}

/// Something that is being done to a target.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// Brokers that a case wants for itself.
#[derive(Clone, Copy, Debug)]
pub struct OwnBrokers<'a> {
    /// How many.
    pub count: u16,
    /// Keys of `server.properties` with their values.
    pub settings: &'a [(&'a str, &'a str)],
    /// How transactions are done there.
    pub transactions: TransactionVersion,
}

/// The level of `transaction.version` that brokers are set up with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TransactionVersion {
    /// The newest, which is the default of Kafka: each transaction has an epoch of its own
    /// (KIP-890).
    #[default]
    Newest,
    /// 1: a producer keeps its epoch (KIP-98).
    One,
}

/// The name of three brokers in containers.
const THREE_BROKERS: &str = "docker-3";

/// What a target's name ends with when its level is 1.
const LEVEL_1: &str = "-tv1";

impl TransactionVersion {
    /// What the names of targets have for it.
    fn suffix(self) -> &'static str {
        match self {
            Self::Newest => "",
            Self::One => LEVEL_1,
        }
    }
}

/// What can be done to a broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// It is asked to end, and ends in order.
    Stop,
    /// It ends at once.
    Kill,
    /// It is started again, with its data, and answers when this is done.
    Start,
    /// It stands still.
    Pause,
    /// It goes on.
    Resume,
    /// It reaches no other broker and no controller; clients reach it.
    Isolate,
    /// It reaches them again.
    Rejoin,
}

/// The kinds of target; a known divergence belongs to one kind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TargetKind {
    /// The mock cluster of this project, in this process.
    Mock,
    /// Apache Kafka in containers that this run started.
    Docker,
    /// A broker that somebody else runs.
    Address,
}

impl TargetKind {
    /// Whether a verdict on this kind counts as "real Kafka was asked".
    pub fn is_real(self) -> bool {
        match self {
            Self::Mock => false,
            Self::Docker | Self::Address => true,
        }
    }
}

/// Something a case may need from its target beyond answering requests.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Capability {
    /// Faults can be injected inside the broker.
    Injection,
    /// At least three brokers answer.
    ThreeNodes,
    /// Brokers with other settings can be started beside it.
    OwnBrokers,
    /// Brokers can be stopped, killed and started again.
    Restart,
    /// Brokers can be made to stand still.
    Pause,
    /// Brokers can be cut off from each other.
    Isolation,
    /// Another replica can be made to lead.
    LeaderMoves,
    /// Partitions can be given other brokers.
    Reassignment,
    /// Transactions are served.
    Transactions,
    /// Kafka's own consumer is at hand.
    OwnConsumer,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Injection => "fault injection",
            Self::ThreeNodes => "three brokers",
            Self::OwnBrokers => "brokers with other settings",
            Self::Restart => "brokers that can be stopped and started",
            Self::Pause => "brokers that can be paused",
            Self::Isolation => "brokers that can be cut off from each other",
            Self::LeaderMoves => "leaders that can be moved",
            Self::Reassignment => "partitions that can be given other brokers",
            Self::Transactions => "transactions",
            Self::OwnConsumer => "Kafka's own consumer",
        })
    }
}

/// The capabilities of one target.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capabilities(Vec<Capability>);

impl Capabilities {
    /// The capabilities listed.
    pub fn of(list: &[Capability]) -> Self {
        Self(list.to_vec())
    }

    /// The same with `capability`.
    pub fn with(mut self, capability: Capability) -> Self {
        self.0.push(capability);
        self
    }

    /// The first of `needs` that is missing here.
    pub fn first_missing(&self, needs: &[Capability]) -> Option<Capability> {
        needs.iter().copied().find(|need| !self.0.contains(need))
    }
}

/// Which target to start, as given on the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetSpec {
    /// `mock` or `mock-tv1`
    Mock(TransactionVersion),
    /// `docker` or `docker:IMAGE`, `docker-tv1` or `docker-tv1:IMAGE`
    Docker {
        /// The image to run; `None` lets the target choose.
        image: Option<String>,
        /// How transactions are done.
        transactions: TransactionVersion,
    },
    /// `docker-3` or `docker-3:IMAGE`: three brokers and their controller
    ThreeBrokers {
        /// The image to run; `None` lets the target choose.
        image: Option<String>,
    },
    /// `HOST:PORT[,HOST:PORT…]`
    Addresses(Vec<String>),
}

/// A target argument that names no target.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "target \"{given}\": {reason}; allowed: mock, docker, docker:IMAGE, each with -tv1 before the \
     colon, docker-3, docker-3:IMAGE, HOST:PORT[,HOST:PORT…]"
)]
pub struct TargetSpecError {
    given: String,
    reason: String,
}

impl FromStr for TargetSpec {
    type Err = TargetSpecError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: String| TargetSpecError {
            given: given.to_owned(),
            reason,
        };
        let (kind, image) = match given.split_once(':') {
            Some((kind, image)) => (kind, Some(image.to_owned())),
            None => (given, None),
        };
        let (kind, transactions) = match kind.strip_suffix(LEVEL_1) {
            Some(kind) => (kind, TransactionVersion::One),
            None => (kind, TransactionVersion::Newest),
        };
        match (kind, image) {
            ("mock", None) => return Ok(Self::Mock(transactions)),
            ("docker" | THREE_BROKERS, Some(image)) if image.is_empty() => {
                return Err(refuse("no image after the colon".to_owned()));
            }
            (THREE_BROKERS, image) if transactions == TransactionVersion::Newest => {
                return Ok(Self::ThreeBrokers { image });
            }
            ("docker", image) => {
                return Ok(Self::Docker {
                    image,
                    transactions,
                });
            }
            _ => {}
        }
        let addresses: Vec<String> = given.split(',').map(str::to_owned).collect();
        for address in &addresses {
            let port = match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() => port,
                _ => return Err(refuse(format!("\"{address}\" is not HOST:PORT"))),
            };
            if !matches!(port.parse::<u16>(), Ok(1..)) {
                return Err(refuse(format!("\"{port}\" is not a port (1 to 65535)")));
            }
        }
        Ok(Self::Addresses(addresses))
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mock(level) => write!(f, "mock{}", level.suffix()),
            Self::Docker {
                image,
                transactions,
            } => {
                write!(f, "docker{}", transactions.suffix())?;
                image.iter().try_for_each(|image| write!(f, ":{image}"))
            }
            Self::ThreeBrokers { image } => {
                f.write_str(THREE_BROKERS)?;
                image.iter().try_for_each(|image| write!(f, ":{image}"))
            }
            Self::Addresses(addresses) => f.write_str(&addresses.join(",")),
        }
    }
}

impl TargetSpec {
    /// How transactions are done there, as far as the name says.
    pub fn transactions(&self) -> TransactionVersion {
        match self {
            Self::Mock(transactions) | Self::Docker { transactions, .. } => *transactions,
            Self::ThreeBrokers { .. } | Self::Addresses(_) => TransactionVersion::Newest,
        }
    }

    /// The kind of target this starts.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Mock(_) => TargetKind::Mock,
            Self::Docker { .. } | Self::ThreeBrokers { .. } => TargetKind::Docker,
            Self::Addresses(_) => TargetKind::Address,
        }
    }
}

/// Why a target could not be started, and what mends it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// What is missing, in one line.
    pub reason: String,
    /// The command that mends it.
    pub remedy: String,
}

impl Unavailable {
    /// `reason` in one line and the command that mends it.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// Starts what `spec` names and waits until it answers.
///
/// # Errors
///
/// [`Unavailable`] when it cannot be started or does not answer in time.
///
/// # Cancellation
///
/// Safe: what was started by then ends with the dropped future.
pub async fn start(spec: &TargetSpec) -> Result<Box<dyn Target>, Unavailable> {
    match spec {
        TargetSpec::Mock(level) => Ok(Box::new(MockTarget::at_level(*level)?)),
        TargetSpec::Docker {
            image,
            transactions,
        } => {
            let started = docker::start(image.as_deref(), *transactions);
            Ok(Box::new(started.await?))
        }
        TargetSpec::ThreeBrokers { image } => {
            Ok(Box::new(docker::start_three(image.as_deref()).await?))
        }
        TargetSpec::Addresses(addresses) => Ok(Box::new(AddressTarget {
            name: addresses.join(","),
            bootstrap: addresses.clone(),
        })),
    }
}

/// A broker that somebody else runs.
#[derive(Debug)]
struct AddressTarget {
    name: String,
    bootstrap: Vec<String>,
}

impl Target for AddressTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Address
    }

    fn bootstrap(&self) -> Vec<String> {
        self.bootstrap.clone()
    }

    fn broker_version(&self) -> Option<String> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        match self.bootstrap.len() {
            // Whoever lists three brokers has them.
            3.. => Capabilities::of(&[Capability::ThreeNodes]),
            _ => Capabilities::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mock", TargetSpec::Mock(TransactionVersion::Newest))]
    #[case("mock-tv1", TargetSpec::Mock(TransactionVersion::One))]
    #[case("docker", docker(None, TransactionVersion::Newest))]
    #[case("docker-tv1", docker(None, TransactionVersion::One))]
    #[case(
        "docker:own/kafka:4.3.1",
        docker(Some("own/kafka:4.3.1"), TransactionVersion::Newest)
    )]
    #[case(
        "docker-tv1:own/kafka",
        docker(Some("own/kafka"), TransactionVersion::One)
    )]
    #[case("docker-3", TargetSpec::ThreeBrokers { image: None })]
    #[case("docker-3:own/kafka", TargetSpec::ThreeBrokers { image: Some("own/kafka".into()) })]
    #[case("127.0.0.1:9092", TargetSpec::Addresses(vec!["127.0.0.1:9092".into()]))]
    #[case("a:1,b:2", TargetSpec::Addresses(vec!["a:1".into(), "b:2".into()]))]
    fn target_argument_survives_parse_and_print(#[case] given: &str, #[case] spec: TargetSpec) {
        assert_eq!(given.parse(), Ok(spec.clone()));
        assert_eq!(spec.to_string(), given);
    }

    fn docker(image: Option<&str>, transactions: TransactionVersion) -> TargetSpec {
        let image = image.map(str::to_owned);
        TargetSpec::Docker {
            image,
            transactions,
        }
    }

    #[rstest]
    #[case("docker:", "no image after the colon")]
    #[case("docker-tv1:", "no image after the colon")]
    #[case("docker-3:", "no image after the colon")]
    #[case("docker-3-tv1", "\"docker-3-tv1\" is not HOST:PORT")]
    #[case("docker-tv0", "\"docker-tv0\" is not HOST:PORT")]
    #[case("kafka", "\"kafka\" is not HOST:PORT")]
    #[case(":9092", "\":9092\" is not HOST:PORT")]
    #[case("a:1,b", "\"b\" is not HOST:PORT")]
    #[case("a:0", "\"0\" is not a port (1 to 65535)")]
    #[case("a:70000", "\"70000\" is not a port (1 to 65535)")]
    fn bad_target_argument_is_refused_with_the_allowed_forms(
        #[case] given: &str,
        #[case] reason: &str,
    ) {
        let error = given.parse::<TargetSpec>().unwrap_err().to_string();
        assert!(error.contains(given) && error.contains(reason), "{error}");
        assert!(error.contains("allowed: mock, docker"), "{error}");
    }

    #[test]
    fn missing_capability_is_named() {
        let some = Capabilities::of(&[Capability::Injection]);
        assert_eq!(some.first_missing(&[Capability::Injection]), None);
        let needs = [Capability::Injection, Capability::ThreeNodes];
        assert_eq!(some.first_missing(&needs), Some(Capability::ThreeNodes));
    }
}
