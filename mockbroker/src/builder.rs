//! What a cluster is to be, until it starts.
//!
//! *Not here*: what runs afterwards (`cluster.rs`), and whether a topic may be so (the engine).

use core::time::Duration;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::MockCluster;
use crate::config::{BrokerConfig, ConfigError};
use crate::engine::effect::BrokerId;
use crate::engine::moments::Moments;
use crate::engine::quotas::QuotaEntity;
use crate::engine::time::Instant;
use crate::engine::topology::BrokerEndpoint;
use crate::engine::{ClusterConfig, Move, TopicSpec};
use crate::fault::{RULES_MAX, Rule, RuleId};
use crate::handlers::{ClusterEngine, OtherBrokers, Snapshot};
use crate::io::driver::{Clock, Driver};
use crate::io::transport;

/// Describes a cluster and starts it; made by [`MockCluster::builder`].
///
/// Nothing is checked before the start, so that the calls chain; the start names what is wrong.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct MockClusterBuilder {
    brokers: u16,
    listen: String,
    port: Option<u16>,
    advertised_host: Option<Arc<str>>,
    control: Option<String>,
    topics: Vec<TopicPlan>,
    faults: Vec<Rule>,
    moves: Vec<(Duration, Move)>,
    settings: Vec<(String, String)>,
    seed: Option<u64>,
    wall_clock_origin_ms: Option<i64>,
    journal_bytes: usize,
    snapshot: Option<Snapshot>,
    quotas: Vec<(QuotaEntity, String, f64)>,
    bounds: Bounds,
    moments: Moments,
}

/// The bounds that are not the engine's own.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    log_bytes: Option<u64>,
    request_bytes: Option<usize>,
    connections: Option<usize>,
    producers: Option<usize>,
}

impl Bounds {
    fn set(self, engine: &mut ClusterEngine) {
        if let Some(bytes_max) = self.log_bytes {
            engine.bound_log_bytes(bytes_max);
        }
        if let Some(bytes_max) = self.request_bytes {
            engine.bound_request_bytes(bytes_max);
        }
        if let Some(connections_max) = self.connections {
            engine.bound_connections(connections_max);
        }
        if let Some(producers_max) = self.producers {
            engine.bound_producers(producers_max);
        }
    }
}

impl Default for MockClusterBuilder {
    fn default() -> Self {
        Self {
            brokers: 1,
            listen: "127.0.0.1:0".into(),
            port: None,
            advertised_host: None,
            control: None,
            topics: Vec::new(),
            faults: Vec::new(),
            moves: Vec::new(),
            settings: Vec::new(),
            seed: None,
            wall_clock_origin_ms: None,
            journal_bytes: 0,
            snapshot: None,
            quotas: Vec::new(),
            bounds: Bounds::default(),
            moments: Moments::Skipped,
        }
    }
}

impl MockClusterBuilder {
    /// How many brokers, 1 to 1,000; their ids are 1, 2, … Default 1.
    pub fn brokers(mut self, brokers: u16) -> Self {
        self.brokers = brokers;
        self
    }

    /// Where the first broker listens, as `HOST:PORT`; the others on the ports that follow, or with
    /// port 0 all on free ports. Default `127.0.0.1:0`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// The port of the first broker, in place of that of [`listen`](Self::listen).
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The host that Metadata tells clients. Default: the address that is listened on; required if
    /// that is `0.0.0.0` or `::`, to which nobody can connect from elsewhere.
    pub fn advertised_host(mut self, host: impl Into<Arc<str>>) -> Self {
        self.advertised_host = Some(host.into());
        self
    }

    /// Where the cluster is controlled over HTTP, as `HOST:PORT`; port 0 is a free one, which
    /// [`MockCluster::control_address`] tells. Default: nowhere. Whoever reaches the address
    /// controls the cluster. A cluster in memory has no such address, and leaves this aside.
    pub fn control(mut self, address: impl Into<String>) -> Self {
        self.control = Some(address.into());
        self
    }

    /// A topic that is there from the start: 1 to 10,000 partitions, at most as many replicas of
    /// each as there are brokers.
    pub fn topic(self, name: impl Into<Arc<str>>, partitions: i32, replicas: i16) -> Self {
        self.topic_with::<&str>(name, partitions, replicas, &[])
    }

    /// A topic with some configuration of its own, by Kafka's topic keys
    /// ([`TopicConfig::KEYS`](crate::TopicConfig::KEYS)).
    pub fn topic_with<S: AsRef<str>>(
        mut self,
        name: impl Into<Arc<str>>,
        partitions: i32,
        replicas: i16,
        overrides: &[(S, S)],
    ) -> Self {
        let owned = |(key, value): &(S, S)| (key.as_ref().to_owned(), value.as_ref().to_owned());
        self.topics.push(TopicPlan {
            name: name.into(),
            partitions: Some(partitions),
            replicas: Some(replicas),
            overrides: overrides.iter().map(owned).collect(),
        });
        self
    }

    /// A topic of which partitions or replicas may be left to `num.partitions` and
    /// `default.replication.factor`.
    pub fn topic_or_default(
        self,
        name: impl Into<Arc<str>>,
        partitions: Option<i32>,
        replicas: Option<i16>,
    ) -> Self {
        self.planned_topic(TopicPlan {
            name: name.into(),
            partitions,
            replicas,
            overrides: Vec::new(),
        })
    }

    pub(crate) fn planned_topic(mut self, topic: TopicPlan) -> Self {
        self.topics.push(topic);
        self
    }

    /// A fault rule that is installed from the start, for the life of the cluster.
    /// [`MockCluster::inject`] installs one later, with a guard.
    pub fn fault(mut self, rule: Rule) -> Self {
        self.faults.push(rule);
        self
    }

    /// A move that is made this long after the start, by the cluster's clock; with zero before the
    /// first connection. One that the cluster cannot make then leaves a diagnostic. At most 10,000.
    pub fn at(mut self, time: Duration, to_make: Move) -> Self {
        self.moves.push((time, to_make));
        self
    }

    pub(crate) const fn broker_count(&self) -> u16 {
        self.brokers
    }

    /// Configuration of every broker, by Kafka's keys ([`BrokerConfig::KEYS`]); the last value of a
    /// key counts.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// What ids are drawn from. Default: another one at every start; 0 in memory, so that a test
    /// with a paused clock sees the same bytes at every run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What the brokers take for the time of the start, in milliseconds since 1970. Default: the
    /// machine's time.
    pub fn wall_clock_origin_ms(mut self, origin_ms: i64) -> Self {
        self.wall_clock_origin_ms = Some(origin_ms);
        self
    }

    /// How many bytes of requests, as they were received, the journal keeps, the newest ones. When
    /// they exceed it, a diagnostic says so. Default 0: none.
    pub fn journal_bytes(mut self, bytes_max: usize) -> Self {
        self.journal_bytes = bytes_max;
        self
    }

    /// The cluster goes on from a snapshot: its brokers, topics, records, configuration and time of
    /// day, its moves that wait. Addresses, fault rules and the journal's bytes are the builder's.
    pub fn from_snapshot(mut self, snapshot: &Snapshot) -> Self {
        self.brokers = u16::try_from(snapshot.brokers().len()).unwrap_or(u16::MAX);
        self.snapshot = Some(snapshot.clone());
        self
    }

    /// How many bytes the logs hold together: each batch as it was received, and as it is stored
    /// where the topic's codec differs, and 384 bytes for each replica of it. Beyond it Produce is
    /// answered with 56 (KAFKA_STORAGE_ERROR), as by a full disk, and a diagnostic says so. Default
    /// 4 GiB.
    pub fn log_bytes_max(mut self, bytes_max: u64) -> Self {
        self.bounds.log_bytes = Some(bytes_max);
        self
    }

    /// How many bytes of requests the connections hold together, those that have arrived in part
    /// and, counted apart, those that are in progress or wait behind one. Beyond it the connection
    /// of the newest closes, and a diagnostic says so. Default 1 GiB.
    pub fn request_bytes_max(mut self, bytes_max: usize) -> Self {
        self.bounds.request_bytes = Some(bytes_max);
        self
    }

    /// How many connections all brokers have together; beyond it the newest closes, and a
    /// diagnostic says so. Default 50,000.
    pub fn connections_max(mut self, connections_max: usize) -> Self {
        self.bounds.connections = Some(connections_max);
        self
    }

    /// How many producers the partitions know, each partition's counted. Beyond it the batch of a
    /// new one is answered with -1 (UNKNOWN_SERVER_ERROR), and a diagnostic says so. Default
    /// 1,000,000.
    pub fn producers_max(mut self, producers_max: usize) -> Self {
        self.bounds.producers = Some(producers_max);
        self
    }

    /// A client quota that is there from the start, by Kafka's key, such as `producer_byte_rate` in
    /// bytes a second; see [`MockCluster::set_quota`].
    pub fn quota(mut self, entity: QuotaEntity, key: impl Into<String>, value: f64) -> Self {
        self.quotas.push((entity, key.into(), value));
        self
    }

    /// Gives the answers that Kafka gives for a moment only: 14 to the first requests for a
    /// producer id after a start, 15 to the first for a coordinator, 16 and then 14 to the first to
    /// a coordinator of transactions, 3 and then 6 for a topic that a request has just made, 6 for
    /// a new partition. Default: everything is there at once, or as
    /// the snapshot has it.
    pub fn momentary_answers(mut self) -> Self {
        self.moments = Moments::Shown;
        self
    }

    /// Starts the cluster on TCP, with a thread of its own; it ends when the handle is dropped.
    ///
    /// When this returns, every broker accepts connections.
    ///
    /// # Errors
    ///
    /// A configuration that cannot be, an address that cannot be listened on, or a machine that
    /// gives no thread.
    pub fn start(self) -> Result<MockCluster, StartError> {
        let config = self.broker_config()?;
        let first = self.first_address()?;
        let host = self.tcp_host(first.ip())?;
        let listening = transport::bind(first, self.brokers)
            .map_err(|(address, source)| Cause::Listen { address, source })?;
        let ports: io::Result<Vec<u16>> = listening.iter().map(transport::port).collect();
        let ports = ports.map_err(Cause::Runtime)?;
        let control = self.control_listener()?;
        let seed = self
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one(&ports));
        let endpoints = endpoints(&host, &ports);
        let driver = self.driver(config, endpoints.clone(), seed, Clock::machine())?;
        let cluster = MockCluster::on_thread(driver, listening, endpoints, control);
        Ok(cluster.map_err(Cause::Runtime)?)
    }

    /// Starts the cluster in memory, on the tokio runtime that this is called in and by its clock:
    /// a paused clock pauses the brokers too. Connect with [`MockCluster::connect`].
    ///
    /// The brokers' ports are 9092 and the ones that follow, unless given.
    ///
    /// # Errors
    ///
    /// A configuration that cannot be, or no runtime around the call.
    pub fn start_in_memory(self) -> Result<MockCluster, StartError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Cause::NoRuntime)?;
        let config = self.broker_config()?;
        let host = self
            .advertised_host
            .clone()
            .unwrap_or_else(|| "127.0.0.1".into());
        let first = self.port.unwrap_or(PORT_IN_MEMORY);
        let ports: Vec<u16> = (first..=u16::MAX).take(self.brokers.into()).collect();
        if ports.len() < usize::from(self.brokers) {
            let allowed = format!(
                "1 to {} for {} brokers",
                65_536 - u32::from(self.brokers),
                self.brokers
            );
            return Err(ConfigError::bad_value("port", first.to_string(), allowed).into());
        }
        let endpoints = endpoints(&host, &ports);
        let seed = self.seed.unwrap_or(0);
        let driver = self.driver(config, endpoints.clone(), seed, Clock::runtime())?;
        Ok(MockCluster::in_memory(driver, endpoints, runtime))
    }

    fn broker_config(&self) -> Result<BrokerConfig, ConfigError> {
        if !(1..=BROKERS_MAX).contains(&self.brokers) {
            let allowed = format!("1 to {BROKERS_MAX}");
            return Err(ConfigError::bad_value(
                "brokers",
                self.brokers.to_string(),
                allowed,
            ));
        }
        if let Some(snapshot) = &self.snapshot {
            self.check_snapshot()?;
            return Ok(snapshot.config().clone());
        }
        let mut config = BrokerConfig::default();
        for (key, value) in &self.settings {
            config.set(key, value)?;
        }
        Ok(config)
    }

    /// What a snapshot has is not given beside it.
    fn check_snapshot(&self) -> Result<(), ConfigError> {
        let given = [
            ("topic", self.topics.is_empty()),
            ("set", self.settings.is_empty()),
            ("wall_clock_origin_ms", self.wall_clock_origin_ms.is_none()),
        ];
        match given.into_iter().find(|(_, left_out)| !left_out) {
            Some((key, _)) => {
                let allowed = "nothing beside a snapshot, which has its own";
                Err(ConfigError::bad_value(key, "a value", allowed))
            }
            None => Ok(()),
        }
    }

    fn first_address(&self) -> Result<SocketAddr, ConfigError> {
        let mut first = resolve("listen", &self.listen)?;
        if let Some(port) = self.port {
            first.set_port(port);
        }
        Ok(first)
    }

    fn control_listener(&self) -> Result<Option<TcpListener>, StartError> {
        let Some(control) = &self.control else {
            return Ok(None);
        };
        let address = resolve("control", control)?;
        let listener = transport::listen(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        });
        Ok(Some(
            listener.map_err(|source| Cause::Listen { address, source })?,
        ))
    }

    fn tcp_host(&self, listen: IpAddr) -> Result<Arc<str>, ConfigError> {
        match &self.advertised_host {
            Some(host) => Ok(Arc::clone(host)),
            // apache/kafka KafkaConfig: advertised.listeners cannot be the unspecified address.
            None if listen.is_unspecified() => {
                let allowed = "an address that clients can connect to, or an advertised host too";
                Err(ConfigError::bad_value("listen", &self.listen, allowed))
            }
            None => Ok(listen.to_string().into()),
        }
    }

    fn driver(
        self,
        config: BrokerConfig,
        brokers: Vec<BrokerEndpoint>,
        seed: u64,
        clock: Clock,
    ) -> Result<Arc<Driver>, ConfigError> {
        // The configuration is checked: at least 1, at most what an i32 holds.
        let frame_bytes_max = usize::try_from(config.socket_request_max_bytes).unwrap_or(0);
        if self.faults.len() > RULES_MAX {
            let count = self.faults.len().to_string();
            let allowed = format!("at most {RULES_MAX}");
            return Err(ConfigError::bad_value("faults", count, allowed));
        }
        let (mut engine, start) = match &self.snapshot {
            Some(snapshot) => {
                let engine = ClusterEngine::from_snapshot(snapshot, &brokers, seed);
                let bad = |error: OtherBrokers| {
                    let asked = self.brokers.to_string();
                    ConfigError::bad_value("brokers", asked, error.to_string())
                };
                (engine.map_err(bad)?, snapshot.taken_at())
            }
            None => {
                let wall_clock_origin_ms = self.wall_clock_origin_ms;
                let topics = self.topics.into_iter().map(|topic| topic.spec(&config));
                let config = ClusterConfig {
                    brokers,
                    topics: topics.collect(),
                    broker: config,
                    cluster_id: None,
                    wall_clock_origin_ms: wall_clock_origin_ms.unwrap_or_else(wall_clock_ms),
                    seed,
                };
                (ClusterEngine::new(config, Instant::ZERO)?, Instant::ZERO)
            }
        };
        engine.keep_request_bytes(self.journal_bytes);
        self.bounds.set(&mut engine);
        for (entity, key, value) in &self.quotas {
            engine.set_quota(entity, key, Some(*value), start)?;
        }
        if self.moments == Moments::Shown {
            engine.show_moments(self.moments);
        }
        for rule in self.faults {
            install(&mut engine, rule, start);
        }
        for (time, to_make) in self.moves {
            let text = || format!("{to_make:?}");
            let planned = engine.plan_move(to_make.clone(), start + time);
            planned.map_err(|error| ConfigError::bad_value("moves", text(), error.to_string()))?;
        }
        // What is due at the start is done before anybody connects.
        engine.handle_timeout(start);
        let clock = clock.showing(start);
        let driver = Driver::new(engine, frame_bytes_max, clock);
        Ok(Arc::new(match self.bounds.request_bytes {
            Some(bytes_max) => driver.bounding_input(bytes_max),
            None => driver,
        }))
    }
}

fn resolve(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let bad = |allowed: String| ConfigError::bad_value(key, text, allowed);
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| bad(format!("HOST:PORT of this machine ({error})")))?;
    addresses
        .next()
        .ok_or_else(|| bad("a host that has an address".into()))
}

/// Installs a rule, and tells what it draws from, so that the run can be repeated. One too many is
/// not installed, and a diagnostic says so.
pub(crate) fn install(engine: &mut ClusterEngine, rule: Rule, now: Instant) -> RuleId {
    if engine.rules().is_full() {
        let text = format!("{RULES_MAX} fault rules are installed, this one is not: {rule}");
        engine.diagnose_edge(text, now);
    }
    let rules = engine.rules_mut();
    let id = rules.install(rule);
    if let Some(rule) = rules.rule(id).filter(|rule| rule.is_drawn()) {
        tracing::info!(%rule, "a rule acts by chance");
    }
    id
}

/// A topic that is to be, of which the brokers' configuration says what is left out.
#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) name: Arc<str>,
    pub(crate) partitions: Option<i32>,
    pub(crate) replicas: Option<i16>,
    pub(crate) overrides: Vec<(String, String)>,
}

impl TopicPlan {
    pub(crate) fn spec(self, config: &BrokerConfig) -> TopicSpec {
        TopicSpec {
            name: self.name,
            partitions: self.partitions.unwrap_or(config.num_partitions),
            replication_factor: self.replicas.unwrap_or(config.default_replication_factor),
            overrides: self.overrides,
        }
    }
}

pub(crate) fn endpoints(host: &Arc<str>, ports: &[u16]) -> Vec<BrokerEndpoint> {
    (1..)
        .zip(ports)
        .map(|(id, port)| BrokerEndpoint {
            id: BrokerId(id),
            host: Arc::clone(host),
            port: *port,
        })
        .collect()
}

fn wall_clock_ms() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Config(ConfigError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the machine gives no thread, runtime or socket for the cluster")]
    Runtime(#[source] io::Error),
    #[error("a cluster in memory lives on a tokio runtime, and there is none around this call")]
    NoRuntime,
}

/// What a start failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartErrorKind {
    /// The configuration; the caller's to mend.
    Config,
    /// An address that is taken or not of this machine.
    Listen,
    /// The machine or the program around it: no thread, no runtime.
    Runtime,
}

impl StartError {
    /// What it failed at.
    #[must_use]
    pub const fn kind(&self) -> StartErrorKind {
        match self.0 {
            Cause::Config(_) => StartErrorKind::Config,
            Cause::Listen { .. } => StartErrorKind::Listen,
            Cause::Runtime(_) | Cause::NoRuntime => StartErrorKind::Runtime,
        }
    }

    /// The configuration error, if it is one.
    #[must_use]
    pub const fn config(&self) -> Option<&ConfigError> {
        match &self.0 {
            Cause::Config(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self(Cause::Config(error))
    }
}

/// Brokers of one cluster; more than any test needs.
pub(crate) const BROKERS_MAX: u16 = 1_000;

/// Kafka's port.
const PORT_IN_MEMORY: u16 = 9092;
