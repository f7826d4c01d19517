//! The handle: a running cluster, its fault rules, its end.
//!
//! *State*
//!
//! ```text
//! start ──▶ running ── drop ──▶ every task, connection and port is gone
//! ```
//!
//! *Invariants*
//! 1. When the drop of a handle on TCP returns, its ports are free and its thread has ended.
//! 2. In memory, the drop aborts every task; the runtime ends them when it runs next.
//! 3. A fault guard outlives the handle without harm.
//!
//! *Not here*: what can be read of a cluster (`inspect.rs`), what can be done to it (`moves.rs`).

use core::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::Socket;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::builder::{MockClusterBuilder, install};
use crate::control::{self, Control};
use crate::engine::effect::BrokerId;
use crate::engine::plan::Outcome;
use crate::engine::time::Instant;
use crate::engine::topology::{BrokerEndpoint, Process};
use crate::fault::{Installed, Rule, RuleId};
use crate::guard::FaultGuard;
use crate::io::driver::Driver;
use crate::io::ports::Ports;
use crate::io::{connection, listener, transport};

/// A running cluster of brokers; it ends when this is dropped.
///
/// The handle may be shared between threads. Its methods are short and never wait for a client.
pub struct MockCluster {
    driver: Arc<Driver>,
    endpoints: Vec<BrokerEndpoint>,
    bootstrap_servers: String,
    running: Running,
    control: Arc<Control>,
    control_address: Option<SocketAddr>,
}

enum Running {
    Thread {
        stop: Option<oneshot::Sender<()>>,
        thread: Option<JoinHandle<()>>,
    },
    Memory {
        tasks: Mutex<JoinSet<()>>,
        runtime: Handle,
    },
}

impl MockCluster {
    /// Describes a cluster: one broker on a free port of 127.0.0.1, no topics, Kafka's defaults.
    pub fn builder() -> MockClusterBuilder {
        MockClusterBuilder::default()
    }

    pub(crate) fn on_thread(
        driver: Arc<Driver>,
        listening: Vec<Socket>,
        endpoints: Vec<BrokerEndpoint>,
        control: Option<StdListener>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let control_address = control.as_ref().map(StdListener::local_addr).transpose()?;
        let control = {
            let _inside = runtime.enter();
            control.map(TcpListener::from_std).transpose()?
        };
        let brokers = endpoints.iter().map(|endpoint| endpoint.id);
        let ports = Ports::new(brokers.zip(listening), runtime.handle().clone());
        driver.listen_at(ports);
        let (stop, stopped) = oneshot::channel();
        let running = Running::Thread {
            stop: Some(stop),
            thread: None,
        };
        let mut cluster = Self::new(driver, endpoints, running);
        cluster.control_address = control_address;
        let serving = Serving {
            driver: Arc::clone(&cluster.driver),
            control: control.map(|listener| (listener, Arc::clone(&cluster.control))),
        };
        let spawned = thread::Builder::new()
            .name("mock-cluster".into())
            .spawn(move || runtime.block_on(serving.run(stopped)))?;
        if let Running::Thread { thread, .. } = &mut cluster.running {
            *thread = Some(spawned);
        }
        Ok(cluster)
    }

    pub(crate) fn in_memory(
        driver: Arc<Driver>,
        endpoints: Vec<BrokerEndpoint>,
        runtime: Handle,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let deadlines = Arc::clone(&driver);
        tasks.spawn_on(async move { deadlines.run_deadlines().await }, &runtime);
        Self::new(
            driver,
            endpoints,
            Running::Memory {
                tasks: Mutex::new(tasks),
                runtime,
            },
        )
    }

    fn new(driver: Arc<Driver>, endpoints: Vec<BrokerEndpoint>, running: Running) -> Self {
        let addresses: Vec<String> = endpoints.iter().map(address).collect();
        let bootstrap_servers = addresses.join(",");
        let control = Control::new(Arc::clone(&driver), bootstrap_servers.clone());
        Self {
            driver,
            endpoints,
            bootstrap_servers,
            running,
            control: Arc::new(control),
            control_address: None,
        }
    }

    /// `HOST:PORT` of every broker, with commas between: a client's `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Where the cluster is controlled over HTTP, if
    /// [`control`](MockClusterBuilder::control) says so.
    #[must_use]
    pub const fn control_address(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// Waits until somebody asks for the end over HTTP. The cluster goes on until it is dropped.
    ///
    /// # Cancellation
    ///
    /// Safe: it only looks.
    pub async fn shutdown_requested(&self) {
        self.control.shutdown_requested().await;
    }

    /// The brokers' ids, ascending.
    pub fn brokers(&self) -> impl Iterator<Item = BrokerId> {
        self.endpoints.iter().map(|endpoint| endpoint.id)
    }

    /// `HOST:PORT` of a broker; `None` if there is none of this id.
    #[must_use]
    pub fn address(&self, broker: BrokerId) -> Option<String> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.id == broker)
            .map(address)
    }

    /// Connects to the broker with this port, without a network; only a cluster that was started
    /// in memory can be reached so.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when no broker has the port, or the one that has it has crashed;
    /// `Unsupported` for a cluster on TCP.
    pub fn connect(&self, port: u16) -> io::Result<DuplexStream> {
        let Running::Memory { tasks, runtime } = &self.running else {
            let reason = "a cluster on TCP is reached by its addresses";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        };
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "no broker has the port");
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.port == port);
        let broker = endpoint.ok_or_else(refused)?.id;
        if self
            .broker(broker)
            .is_some_and(|broker| broker.process == Process::Crashed)
        {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the broker with the port has crashed",
            ));
        }
        let (near, far) = transport::pipe();
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(
            connection::serve(far, broker, Arc::clone(&self.driver)),
            runtime,
        );
        Ok(near)
    }

    /// Installs a fault rule behind those that are there; it goes when the guard is dropped.
    #[must_use = "a guard that is dropped uninstalls its rule"]
    pub fn inject(&self, rule: Rule) -> FaultGuard {
        let id = self.driver.with(|engine, now| install(engine, rule, now));
        FaultGuard::new(Arc::clone(&self.driver), id)
    }

    /// The rules that are installed, in the order in which they are asked, with what they did;
    /// those from the start and those installed over HTTP too.
    #[must_use]
    pub fn faults(&self) -> Vec<Installed> {
        self.driver
            .with(|engine, _| engine.rules().installed().cloned().collect())
    }

    /// A guard for a rule that is installed already, to wait for it; its drop uninstalls nothing.
    /// `None` if there is no such rule.
    #[must_use]
    pub fn fault(&self, id: RuleId) -> Option<FaultGuard> {
        let known = self
            .driver
            .with(|engine, _| engine.rules().find(id).is_some());
        known.then(|| FaultGuard::lasting(Arc::clone(&self.driver), id))
    }

    /// The rules that never acted, those already uninstalled included: a test that meant to
    /// provoke something and did not.
    #[must_use]
    pub fn unfired_rules(&self) -> Vec<Rule> {
        self.driver.with(|engine, _| engine.rules().unfired())
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }
}

/// What the thread of a cluster on TCP serves.
struct Serving {
    driver: Arc<Driver>,
    control: Option<(TcpListener, Arc<Control>)>,
}

impl Serving {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let mut tasks = JoinSet::new();
        self.driver.serve_ports();
        for (broker, door) in self.driver.ports().map(Ports::doors).unwrap_or_default() {
            tasks.spawn(listener::accept(door, broker, Arc::clone(&self.driver)));
        }
        if let Some((listener, control)) = self.control {
            tasks.spawn(control::serve(listener, control));
        }
        tokio::select! {
            _ = stopped => {}
            () = self.driver.run_deadlines() => {}
        }
    }
}

fn address(endpoint: &BrokerEndpoint) -> String {
    let BrokerEndpoint { host, port, .. } = endpoint;
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        for rule in self.unfired_rules() {
            tracing::warn!(%rule, "a fault rule never acted");
        }
        for planned in self.planned_moves() {
            if planned.outcome == Outcome::Waiting {
                let (at, to_make) = (planned.at.since(Instant::ZERO), planned.to_make);
                tracing::warn!(?at, ?to_make, "the cluster ends before a planned move");
            }
        }
        match &mut self.running {
            Running::Thread { stop, thread } => {
                drop(stop.take());
                // The thread may end by a panic of the engine: told on stderr already.
                if let Some(Err(_)) = thread.take().map(JoinHandle::join) {
                    tracing::error!("the thread of the cluster panicked");
                }
                self.driver.close_ports();
            }
            Running::Memory { tasks, .. } => {
                tasks
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner)
                    .abort_all();
            }
        }
    }
}

impl fmt::Debug for MockCluster {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bootstrap_servers = &self.bootstrap_servers;
        out.debug_struct("MockCluster")
            .field("bootstrap_servers", bootstrap_servers)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StartErrorKind;

    #[test]
    fn host_with_colons_stands_in_brackets() {
        let endpoint = |host: &str| BrokerEndpoint {
            id: BrokerId(1),
            host: host.into(),
            port: 9092,
        };
        assert_eq!(address(&endpoint("::1")), "[::1]:9092");
        assert_eq!(address(&endpoint("broker.test")), "broker.test:9092");
    }

    #[test]
    fn cluster_in_memory_needs_a_runtime() {
        let error = MockCluster::builder().start_in_memory().unwrap_err();
        assert_eq!(error.kind(), StartErrorKind::Runtime);
    }
}
