//! Three brokers of Apache Kafka and their controller, in containers that this run starts and
//! removes: `compose/three-brokers.yml`, by this program.
//!
//! All cases share them, for a start takes longer than most cases: what a case did to a broker is
//! undone before the next one begins ([`Target::settled`]), and "beside" is the same cluster.
//!
//! *State* of a broker, by what is done to it
//!
//! ```text
//!              Kill, Stop               Pause                Isolate
//!   gone  <--------------  there  ------------->  paused   there  ----->  cut off
//!         -------------->         <-------------                 <------
//!              Start                    Resume               Rejoin
//! ```
//!
//! *Invariants*
//! 1. Brokers and controller meet in the network `mesh` alone, which has no way out. Each broker is
//!    published from a network of its own, so one that is cut off is still reached by clients.
//! 2. Containers go first, then the networks they were in, then the claim on both.
//! 3. `Start` and [`Target::settled`] end when brokers answer and are led to, not when they run.
//!
//! *Not here*: how brokers are configured (`compose/three-brokers.env`).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::time::{Instant, sleep, timeout};

use super::image::Reference;
use super::run::{self, Run};
use super::{
    LOG_LINES, PORT_ATTEMPTS, Request, container_log, engine, image_of, is_port_conflict, prepared,
    published, remove, version_in_log, with_profile,
};
use crate::case::Objection;
use crate::io::connection::Connection;
use crate::io::transcript::Transcript;
use crate::target::{
    Action, Capabilities, Capability, Doing, OwnBrokers, Target, TargetKind, TransactionVersion,
    Unavailable,
};
use crate::wire::answer::{InitProducerId, Metadata, MetadataAnswer};
use crate::wire::transactional::{FindCoordinator, InitTransactional};

/// The properties of the nodes, shared with the Compose file.
const PROFILE: &str = include_str!("three-brokers.env");
/// Node ids of the brokers.
const BROKERS: [i32; 3] = [1, 2, 3];
const CONTROLLER: i32 = 100;
/// Longest wait for brokers to answer, or to be in sync.
const WAIT_MAX: Duration = Duration::from_secs(90);
/// Longest wait for one round of questions.
const ROUND_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// Versions that every release has since 2.1.
const METADATA: i16 = 7;
const FIND_COORDINATOR: i16 = 1;
const INIT_PRODUCER_ID: i16 = 1;
/// The transactional id by which the coordinator is tried.
const TRANSACTIONAL_ID: &str = "conformance-readiness";

/// A cluster of three brokers in containers; clones share it, and the last one removes it.
#[derive(Clone, Debug)]
pub(crate) struct ThreeBrokers(Arc<Cluster>);

struct Cluster {
    name: String,
    broker_version: Option<String>,
    docker: Docker,
    mesh: String,
    // Declared in the order in which they go.
    brokers: Vec<Broker>,
    controller: Option<ContainerAsync<GenericImage>>,
    _networks: Networks,
    _run: Run,
}

struct Broker {
    id: i32,
    address: String,
    container: ContainerAsync<GenericImage>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("broker_version", &self.broker_version)
            .finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let brokers = std::mem::take(&mut self.brokers).into_iter();
        let containers: Vec<_> = brokers.map(|broker| broker.container).collect();
        remove((containers, self.controller.take()));
    }
}

/// Networks that end with this value, when nobody is in them any more.
#[derive(Debug)]
struct Networks(Vec<String>);

impl Drop for Networks {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.0);
        let removal = || async move {
            match engine().await {
                Ok(docker) => {
                    for name in &names {
                        run::remove_network(&docker, name).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "networks stay; the next run removes them"),
            }
        };
        // Of its own, since a drop may happen inside of a runtime as well as outside.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            match { runtime }.enable_all().build() {
                Ok(runtime) => runtime.block_on(removal()),
                Err(error) => tracing::warn!(%error, "networks stay; the next run removes them"),
            }
        });
        if removing.join().is_err() {
            tracing::warn!("networks stay; the next run removes them");
        }
    }
}

/// Starts three brokers of `image`, or of the image that is found, and waits until they answer.
pub(crate) async fn start_three(image: Option<&str>) -> Result<ThreeBrokers, Unavailable> {
    let (docker, run, reference) = prepared(image).await?;
    let names = Names(run.id());
    let mut networks = Networks(Vec::new());
    for (name, internal) in names.networks() {
        let network = NetworkCreateRequest {
            name: name.clone(),
            internal: Some(internal),
            labels: Some([(run::LABEL.to_owned(), run.id().to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let made = docker.create_network(network).await;
        made.map_err(|error| {
            let reason = format!("no network {name}: {error}");
            Unavailable::new(reason, "docker network prune")
        })?;
        networks.0.push(name);
    }
    let start = Start {
        docker: &docker,
        reference: &reference,
        run: &run,
    };
    let controller = start.controller().await?;
    let [one, two, three] = BROKERS;
    let brokers = tokio::try_join!(start.broker(one), start.broker(two), start.broker(three));
    let (one, two, three) = brokers?;
    let mut cluster = Cluster {
        name: format!("{}:{reference}", super::super::THREE_BROKERS),
        broker_version: None,
        mesh: names.mesh(),
        docker: docker.clone(),
        brokers: vec![one, two, three],
        controller: Some(controller),
        _networks: networks,
        _run: run,
    };
    cluster.wait_until_ready().await?;
    Ok(ThreeBrokers(Arc::new(cluster)))
}

/// What containers and networks of a run are called; a container's name is its host name for those
/// in its network.
struct Names<'a>(&'a str);

impl Names<'_> {
    fn of(&self, what: impl fmt::Display) -> String {
        format!("kafka-{}-{what}", self.0)
    }

    fn node(&self, id: i32) -> String {
        self.of(id)
    }

    fn mesh(&self) -> String {
        self.of("mesh")
    }

    fn edge(&self, id: i32) -> String {
        self.of(format!("edge-{id}"))
    }

    /// All networks, and whether they have no way out.
    fn networks(&self) -> Vec<(String, bool)> {
        let edges = BROKERS.iter().map(|id| (self.edge(*id), false));
        std::iter::once((self.mesh(), true)).chain(edges).collect()
    }
}

struct Start<'a> {
    docker: &'a Docker,
    reference: &'a Reference,
    run: &'a Run,
}

impl Start<'_> {
    fn names(&self) -> Names<'_> {
        Names(self.run.id())
    }

    /// A node in the mesh, which knows where the controller is.
    fn node(&self, id: i32) -> Request {
        let voters = format!("{CONTROLLER}@{}:9093", self.names().node(CONTROLLER));
        with_profile(image_of(self.reference, self.run), PROFILE)
            .with_container_name(self.names().node(id))
            .with_network(self.names().mesh())
            .with_env_var("KAFKA_NODE_ID", id.to_string())
            .with_env_var("KAFKA_CONTROLLER_QUORUM_VOTERS", voters)
    }

    async fn controller(&self) -> Result<ContainerAsync<GenericImage>, Unavailable> {
        let request = self
            .node(CONTROLLER)
            .with_env_var("KAFKA_PROCESS_ROLES", "controller")
            .with_env_var("KAFKA_LISTENERS", "CONTROLLER://:9093");
        let started = request.start().await;
        started.map_err(|error| self.not_started(&error.to_string()))
    }

    async fn broker(&self, id: i32) -> Result<Broker, Unavailable> {
        let mut last_error = String::new();
        for attempt in 0..PORT_ATTEMPTS {
            let variety = id.unsigned_abs() * PORT_ATTEMPTS + attempt;
            let port = run::free_port(self.run.seed().wrapping_add(variety.into()));
            match self.broker_at(id, port).await {
                Ok(container) => {
                    let address = format!("127.0.0.1:{port}");
                    return Ok(Broker {
                        id,
                        address,
                        container,
                    });
                }
                Err(error) => last_error = error,
            }
            // A start that failed leaves its container behind.
            run::remove_container(self.docker, &self.names().node(id)).await;
            if !is_port_conflict(&last_error) {
                break;
            }
        }
        Err(self.not_started(&last_error))
    }

    /// The port is published when the container joins its edge: the mesh has no way out.
    async fn broker_at(&self, id: i32, port: u16) -> Result<ContainerAsync<GenericImage>, String> {
        let inside = format!("INTERNAL://{}:19092", self.names().node(id));
        let advertised = format!("EXTERNAL://127.0.0.1:{port},{inside}");
        let request = published(self.node(id), port)
            .with_env_var("KAFKA_PROCESS_ROLES", "broker")
            .with_env_var("KAFKA_LISTENERS", "EXTERNAL://:9092,INTERNAL://:19092")
            .with_env_var("KAFKA_ADVERTISED_LISTENERS", advertised);
        let container = request.start().await.map_err(|error| error.to_string())?;
        join(self.docker, &self.names().edge(id), container.id()).await?;
        Ok(container)
    }

    fn not_started(&self, error: &str) -> Unavailable {
        let reference = self.reference;
        Unavailable::new(
            format!("no container of {reference} starts: {error}"),
            format!("docker run --rm {reference}"),
        )
    }
}

async fn join(docker: &Docker, network: &str, container: &str) -> Result<(), String> {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        ..NetworkConnectRequest::default()
    };
    let joined = docker.connect_network(network, request).await;
    joined.map_err(|error| error.to_string())
}

impl Target for ThreeBrokers {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Docker
    }

    fn bootstrap(&self) -> Vec<String> {
        let addresses = self.0.brokers.iter().map(|broker| broker.address.clone());
        addresses.collect()
    }

    fn broker_version(&self) -> Option<String> {
        self.0.broker_version.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of(&[
            Capability::ThreeNodes,
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::Pause,
            Capability::Isolation,
            Capability::LeaderMoves,
            Capability::Reassignment,
        ])
    }

    fn beside<'a>(&'a self, wanted: &'a OwnBrokers<'a>) -> Doing<'a, Arc<dyn Target>> {
        Box::pin(async move {
            let same = wanted.count == 3
                && wanted.settings.is_empty()
                && wanted.transactions == TransactionVersion::Newest;
            if !same {
                let reason = format!("{wanted:?}: this cluster is as it is");
                return Err(Unavailable::new(reason, "use --target mock"));
            }
            self.settled().await?;
            let target: Arc<dyn Target> = Arc::new(self.clone());
            Ok(target)
        })
    }

    fn act(&self, node: i32, action: Action) -> Doing<'_, ()> {
        Box::pin(async move {
            let done = self.0.done(node, action).await;
            done.map_err(|error| {
                let reason = format!("{action:?} of broker {node} of {}: {error}", self.name());
                Unavailable::new(reason, "docker ps -a")
            })
        })
    }

    fn settled(&self) -> Doing<'_, ()> {
        Box::pin(async {
            let cluster = &self.0;
            let undone = async {
                if let [one, two, three] = cluster.brokers.as_slice() {
                    tokio::try_join!(cluster.undo(one), cluster.undo(two), cluster.undo(three))?;
                }
                within(WAIT_MAX, || cluster.in_order()).await
            };
            let undone: Result<(), String> = undone.await;
            undone.map_err(|error| {
                Unavailable::new(format!("{}: {error}", self.name()), "docker ps -a")
            })
        })
    }
}

impl Cluster {
    async fn done(&self, node: i32, action: Action) -> Result<(), String> {
        let broker = self.brokers.iter().find(|broker| broker.id == node);
        let broker = broker.ok_or("there is no such broker")?;
        let (docker, id) = (&self.docker, broker.container.id());
        let done = match action {
            Action::Stop => docker.stop_container(id, None).await,
            Action::Kill => docker.kill_container(id, None).await,
            Action::Start => docker.start_container(id, None).await,
            Action::Pause => docker.pause_container(id).await,
            Action::Resume => docker.unpause_container(id).await,
            Action::Isolate => {
                let request = NetworkDisconnectRequest {
                    container: id.to_owned(),
                    force: None,
                };
                docker.disconnect_network(&self.mesh, request).await
            }
            Action::Rejoin => {
                join(docker, &self.mesh, id).await?;
                return within(WAIT_MAX, || self.agrees(broker)).await;
            }
        };
        done.map_err(|error| error.to_string())?;
        match action {
            Action::Start => within(WAIT_MAX, || broker.is_back()).await,
            _ => Ok(()),
        }
    }

    /// It tells what another broker tells: until then it is led by what it knew when it was cut
    /// off, and tells it.
    async fn agrees(&self, broker: &Broker) -> Result<(), String> {
        broker.is_back().await?;
        let others = self.brokers.iter().filter(|other| other.id != broker.id);
        let mut missing = "no other broker answers".to_owned();
        for other in others {
            let told = match other.leaders().await {
                Ok(told) => told,
                Err(error) => {
                    missing = error;
                    continue;
                }
            };
            return match told == broker.leaders().await? {
                true => Ok(()),
                false => Err(format!("broker {} tells other leaders", broker.id)),
            };
        }
        Err(missing)
    }

    /// Takes back whatever was done to a broker.
    async fn undo(&self, broker: &Broker) -> Result<(), String> {
        let id = broker.container.id();
        let seen = self.docker.inspect_container(id, None).await;
        let seen = seen.map_err(|error| error.to_string())?;
        let state = seen.state.unwrap_or_default();
        let networks = seen.network_settings.unwrap_or_default().networks;
        if state.paused == Some(true) {
            self.done(broker.id, Action::Resume).await?;
        }
        if !networks.unwrap_or_default().contains_key(&self.mesh) {
            self.done(broker.id, Action::Rejoin).await?;
        }
        if state.running != Some(true) {
            self.done(broker.id, Action::Start).await?;
        }
        Ok(())
    }

    /// Every broker knows all of them, the same leaders, and that every partition has its replicas
    /// in sync.
    async fn in_order(&self) -> Result<(), String> {
        let mut first = None;
        for broker in &self.brokers {
            let told = broker.metadata(&Metadata::all()).await?;
            if let Some(missing) = what_is_missing(&told) {
                return Err(format!("broker {} knows {missing}", broker.id));
            }
            let leaders = leaders(told);
            if leaders != *first.get_or_insert_with(|| leaders.clone()) {
                return Err(format!("broker {} tells other leaders", broker.id));
            }
        }
        Ok(())
    }

    /// A producer gets an id from every broker, and a transactional one from its coordinator.
    async fn gives_producer_ids(&self) -> Result<(), String> {
        let mut coordinator = None;
        for broker in &self.brokers {
            let mut connection = broker.connect().await?;
            let answer = connection.ask(&InitProducerId::NEW, INIT_PRODUCER_ID).await;
            let code = answer.map_err(words)?.error;
            if code.0 != 0 {
                return Err(format!("InitProducerId of {}: code {code}", broker.id));
            }
            let find = FindCoordinator {
                id: TRANSACTIONAL_ID.to_owned(),
            };
            let found = connection.ask(&find, FIND_COORDINATOR).await;
            let found = found.map_err(words)?;
            if found.error.0 != 0 {
                return Err(format!("FindCoordinator: code {}", found.error));
            }
            coordinator = Some(found.address);
        }
        let address = coordinator.unwrap_or_default();
        let opened = Connection::open(&address, &Transcript::default()).await;
        let init = InitTransactional::of(TRANSACTIONAL_ID);
        let answer = opened.map_err(words)?.ask(&init, INIT_PRODUCER_ID).await;
        match answer.map_err(words)?.error {
            code if code.0 == 0 => Ok(()),
            code => Err(format!("InitProducerId of the coordinator: code {code}")),
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), Unavailable> {
        let ready = within(WAIT_MAX, || async {
            self.in_order().await?;
            self.gives_producer_ids().await?;
            // The log of transactions is there by now.
            self.in_order().await
        });
        let Some(first) = self.brokers.first() else {
            return Ok(());
        };
        if let Err(reason) = ready.await {
            let log = container_log(&first.container).await;
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
            return Err(Unavailable::new(
                format!(
                    "{}: {reason}; the first broker's last lines:\n  {tail}",
                    self.name
                ),
                "make kafka-image, or set KAFKA_IMAGE to an image of Apache Kafka",
            ));
        }
        let version = version_in_log(&container_log(&first.container).await);
        self.broker_version = version.map(|version| format!("Apache Kafka {version}"));
        Ok(())
    }
}

/// What keeps a cluster that tells this from being whole.
fn what_is_missing(told: &MetadataAnswer) -> Option<String> {
    if told.brokers.len() < BROKERS.len() {
        return Some(format!("{} brokers", told.brokers.len()));
    }
    let partitions = told.topics.iter().flat_map(|topic| {
        let name = topic.name.as_deref().unwrap_or_default();
        topic.partitions.iter().map(move |row| (name, row))
    });
    let mut bad = partitions
        .filter(|(_, row)| row.leader < 0 || row.in_sync.len() < row.replicas.len())
        .map(|(name, row)| {
            let (index, leader, in_sync) = (row.index, row.leader, &row.in_sync);
            format!("{name}-{index} with leader {leader} and {in_sync:?} in sync")
        });
    bad.next()
}

type Leaders = BTreeMap<(String, i32), (i32, i32)>;

/// Leader and epoch of each partition.
fn leaders(told: MetadataAnswer) -> Leaders {
    let topics = told.topics.into_iter();
    let rows = topics.flat_map(|topic| {
        let name = topic.name.unwrap_or_default();
        let rows = topic.partitions.into_iter();
        rows.map(move |row| ((name.clone(), row.index), (row.leader, row.leader_epoch)))
    });
    rows.collect()
}

impl Broker {
    async fn leaders(&self) -> Result<Leaders, String> {
        Ok(leaders(self.metadata(&Metadata::all()).await?))
    }

    async fn connect(&self) -> Result<Connection, String> {
        let opened = Connection::open(&self.address, &Transcript::default()).await;
        opened.map_err(words)
    }

    async fn metadata(&self, request: &Metadata) -> Result<MetadataAnswer, String> {
        let mut connection = self.connect().await?;
        connection.ask(request, METADATA).await.map_err(words)
    }

    /// It answers, and counts itself among the brokers that are led to.
    async fn is_back(&self) -> Result<(), String> {
        let told = self.metadata(&Metadata::of(&[])).await?;
        match told.brokers.iter().any(|broker| broker.id == self.id) {
            true => Ok(()),
            false => Err("it does not count itself among the brokers".to_owned()),
        }
    }
}

fn words(objection: Objection) -> String {
    format!("{}: {}", objection.step, objection.observed)
}

/// Asks again and again until all is well.
async fn within<F, R>(most: Duration, mut well: F) -> Result<(), String>
where
    F: FnMut() -> R,
    R: Future<Output = Result<(), String>>,
{
    let end = Instant::now() + most;
    loop {
        let missing = match timeout(ROUND_WAIT_MAX, well()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(missing)) => missing,
            Err(_) => format!("no answer within {ROUND_WAIT_MAX:?}"),
        };
        if Instant::now() >= end {
            return Err(format!("not within {most:?}: {missing}"));
        }
        sleep(ROUND_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::docker::settings;
    use crate::wire::answer::{self, PartitionMetadata, TopicMetadata};
    use crate::wire::error_code::ErrorCode;

    /// What three brokers tell of one partition.
    fn told(leader: i32, in_sync: &[i32]) -> MetadataAnswer {
        let broker = |id: i32| answer::Broker {
            id,
            address: format!("127.0.0.1:{}", 20_000 + id),
        };
        let partition = PartitionMetadata {
            error: ErrorCode::NONE,
            index: 0,
            leader,
            leader_epoch: -1,
            replicas: BROKERS.to_vec(),
            in_sync: in_sync.to_vec(),
        };
        MetadataAnswer {
            brokers: BROKERS.map(broker).to_vec(),
            topics: vec![TopicMetadata {
                error: ErrorCode::NONE,
                name: Some("t".to_owned()),
                id: [0; 16],
                internal: false,
                partitions: vec![partition],
            }],
        }
    }

    #[test]
    fn cluster_is_whole_when_all_are_there_and_in_sync() {
        assert_eq!(what_is_missing(&told(2, &[3, 1, 2])), None);
        let lagging = what_is_missing(&told(2, &[2, 1])).unwrap();
        assert_eq!(lagging, "t-0 with leader 2 and [2, 1] in sync");
        assert!(what_is_missing(&told(-1, &[1, 2, 3])).is_some());
        let mut one_down = told(2, &[1, 2, 3]);
        one_down.brokers.pop();
        assert_eq!(what_is_missing(&one_down).unwrap(), "2 brokers");
    }

    #[test]
    fn nodes_of_a_run_are_named_for_it_and_the_mesh_alone_has_no_way_out() {
        let names = Names("1764093600-0000abcd");
        assert_eq!(names.node(CONTROLLER), "kafka-1764093600-0000abcd-100");
        let inside: Vec<String> = names
            .networks()
            .into_iter()
            .filter_map(|(name, internal)| internal.then_some(name))
            .collect();
        assert_eq!(inside, [names.mesh()]);
        // A label of a host name.
        assert!(names.node(CONTROLLER).len() <= 63);
    }

    #[test]
    fn profile_leaves_roles_ports_and_the_controller_open() {
        let keys: Vec<&str> = settings(PROFILE).map(|(key, _)| key).collect();
        assert!(keys.contains(&"KAFKA_MIN_INSYNC_REPLICAS"), "{keys:?}");
        for open in [
            "NODE_ID",
            "PROCESS_ROLES",
            "LISTENERS",
            "ADVERTISED_LISTENERS",
        ] {
            assert!(!keys.contains(&format!("KAFKA_{open}").as_str()), "{open}");
        }
    }
}
