//! Apache Kafka in a container that this run starts and removes; three brokers: [`three`].
//!
//! One node, broker and controller at once, with transactions possible (`compose/one-node.env`),
//! published on 127.0.0.1 alone. It is ready when it answers ([`ready`]); an open port would prove
//! nothing. Containers of runs that were killed are removed by the next run ([`run`]).
//!
//! *Not here*: which image is run ([`image`]).

mod consumer;
mod image;
mod ready;
mod run;
mod three;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use testcontainers::bollard::Docker;
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::IntoContainerPort;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::image::Reference;
use self::run::Run;
pub(super) use self::three::start_three;
use super::{
    Action, Capabilities, Capability, Doing, OwnBrokers, Target, TargetKind, TransactionVersion,
    Unavailable,
};

/// Longest wait for the engine to say that it is there.
const ENGINE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a container to be created and started; Kafka inside it is waited for apart.
const START_WAIT_MAX: Duration = Duration::from_secs(60);
/// How many ports are tried before giving up: one may be taken between choice and use.
const PORT_ATTEMPTS: u32 = 8;
/// The port of the listener EXTERNAL inside the container.
const CONTAINER_PORT: u16 = 9092;
/// How many of the container's last lines an error shows.
const LOG_LINES: usize = 12;
/// Only one start makes the image where it is missing.
static OBTAINING: Mutex<()> = Mutex::const_new(());
/// Formats the data folder with the older transactions, then does what the image does.
const FORMATTED_AT_LEVEL_1: &str = include_str!("docker/format-level-1.sh");
/// The properties of the node, shared with the Compose file.
const PROFILE: &str = include_str!("docker/one-node.env");

/// A Kafka broker in a container.
///
/// Dropping it removes the container.
pub struct DockerTarget {
    name: String,
    image: String,
    transactions: TransactionVersion,
    address: String,
    broker_version: Option<String>,
    // Declared before `run`: the container goes first, then the claim on it.
    container: Option<ContainerAsync<GenericImage>>,
    _run: Run,
}

impl fmt::Debug for DockerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerTarget")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("broker_version", &self.broker_version)
            .finish_non_exhaustive()
    }
}

impl Target for DockerTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Docker
    }

    fn bootstrap(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    fn broker_version(&self) -> Option<String> {
        self.broker_version.clone()
    }

    fn transactions(&self) -> TransactionVersion {
        self.transactions
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of(&[
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::Pause,
            Capability::OwnConsumer,
        ])
    }

    fn beside<'a>(&'a self, wanted: &'a OwnBrokers<'a>) -> Doing<'a, Arc<dyn Target>> {
        Box::pin(async {
            if wanted.count != 1 {
                let reason = format!("{} brokers asked for, a container is one", wanted.count);
                return Err(Unavailable::new(reason, "use --target mock"));
            }
            let target: Arc<dyn Target> = Arc::new(start_with(Some(&self.image), wanted).await?);
            Ok(target)
        })
    }

    fn consumed<'a>(&'a self, topic: &'a str, records: usize) -> Doing<'a, String> {
        Box::pin(async move {
            let Some(container) = self.container.as_ref() else {
                return Ok(String::new());
            };
            consumer::read(container, topic, records)
                .await
                .map_err(|error| {
                    let reason = format!("kafka-console-consumer.sh in {}: {error}", self.name);
                    Unavailable::new(reason, "docker ps -a")
                })
        })
    }

    fn act(&self, _node: i32, action: Action) -> Doing<'_, ()> {
        Box::pin(self.done(action))
    }
}

impl Drop for DockerTarget {
    fn drop(&mut self) {
        remove(self.container.take());
    }
}

/// Drops containers, which removes them.
fn remove<T>(containers: T) {
    // A container's own drop needs a runtime; outside of one it would panic.
    if tokio::runtime::Handle::try_current().is_ok() {
        drop(containers);
        return;
    }
    match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => {
            let _entered = runtime.enter();
            drop(containers);
        }
        Err(error) => {
            tracing::warn!(%error, "container not removed; the next run removes it");
            std::mem::forget(containers);
        }
    }
}

/// Starts a node of `image`, or of the image that [`image::obtain`] finds, and waits until it
/// answers.
pub(super) async fn start(
    image: Option<&str>,
    transactions: TransactionVersion,
) -> Result<DockerTarget, Unavailable> {
    let wanted = OwnBrokers {
        count: 1,
        settings: &[],
        transactions,
    };
    start_with(image, &wanted).await
}

/// The same as it is wanted.
async fn start_with(
    image: Option<&str>,
    wanted: &OwnBrokers<'_>,
) -> Result<DockerTarget, Unavailable> {
    let (docker, run, reference) = prepared(image).await?;
    let (container, port) = start_container(&docker, &reference, (&run, wanted)).await?;
    let mut target = DockerTarget {
        name: format!("docker{}:{reference}", wanted.transactions.suffix()),
        image: reference.to_string(),
        transactions: wanted.transactions,
        address: format!("127.0.0.1:{port}"),
        broker_version: None,
        container: Some(container),
        _run: run,
    };
    target.wait_until_ready().await?;
    Ok(target)
}

/// The engine, a claim on what will be started, and the image.
async fn prepared(image: Option<&str>) -> Result<(Docker, Run, Reference), Unavailable> {
    let docker = engine().await?;
    let run = Run::claim().map_err(|error| {
        Unavailable::new(
            format!("no lock file for this run in the temporary folder: {error}"),
            "make the temporary folder writable, or set TMPDIR",
        )
    })?;
    run::sweep(&docker).await;

    let asked = image.map(str::to_owned).or_else(|| variable("KAFKA_IMAGE"));
    let reference = {
        let _others_wait = OBTAINING.lock().await;
        image::obtain(&docker, asked.as_deref()).await?
    };
    Ok((docker, run, reference))
}

/// An environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn engine() -> Result<Docker, Unavailable> {
    let answer = timeout(ENGINE_WAIT_MAX, async {
        let docker = docker_client_instance()
            .await
            .map_err(|error| error.to_string())?;
        docker.ping().await.map_err(|error| error.to_string())?;
        Ok::<Docker, String>(docker)
    });
    let reason = match answer.await {
        Ok(Ok(docker)) => return Ok(docker),
        Ok(Err(error)) => format!("no Docker engine answers: {error}"),
        Err(_) => format!("no Docker engine answers within {ENGINE_WAIT_MAX:?}"),
    };
    let remedy = match variable("DOCKER_HOST") {
        Some(host) => format!("start the engine at DOCKER_HOST={host}, or unset DOCKER_HOST"),
        None => "make engine".to_owned(),
    };
    Err(Unavailable::new(reason, remedy))
}

async fn start_container(
    docker: &Docker,
    reference: &Reference,
    (run, wanted): (&Run, &OwnBrokers<'_>),
) -> Result<(ContainerAsync<GenericImage>, u16), Unavailable> {
    let mut last_error = String::new();
    for attempt in 0..PORT_ATTEMPTS {
        let port = run::free_port(run.seed().wrapping_add(u64::from(attempt)));
        let mut request = request(reference, run, port);
        for (key, value) in wanted.settings {
            request = request.with_env_var(variable_of(key), *value);
        }
        if wanted.transactions == TransactionVersion::One {
            request = request.with_cmd(["bash", "-c", FORMATTED_AT_LEVEL_1]);
        }
        match request.start().await {
            Ok(container) => return Ok((container, port)),
            Err(error) => last_error = error.to_string(),
        }
        // A start that failed leaves its container behind.
        run::remove_own(docker, run).await;
        if !is_port_conflict(&last_error) {
            break;
        }
    }
    Err(not_started(reference, &last_error))
}

fn not_started(reference: &Reference, error: &str) -> Unavailable {
    Unavailable::new(
        format!("no container of {reference} starts: {error}"),
        format!("docker run --rm {reference}"),
    )
}

fn is_port_conflict(error: &str) -> bool {
    error.contains("already allocated") || error.contains("already in use")
}

fn request(reference: &Reference, run: &Run, port: u16) -> Request {
    let advertised = format!("EXTERNAL://127.0.0.1:{port},INTERNAL://localhost:19092");
    let request = published(image_of(reference, run), port)
        .with_env_var("KAFKA_ADVERTISED_LISTENERS", advertised);
    with_profile(request, PROFILE)
}

type Request = testcontainers::ContainerRequest<GenericImage>;

/// A container of the image that belongs to the run.
fn image_of(reference: &Reference, run: &Run) -> Request {
    GenericImage::new(reference.name(), reference.tag())
        .with_label(run::LABEL, run.id())
        .with_startup_timeout(START_WAIT_MAX)
}

/// Its listener EXTERNAL at a port of 127.0.0.1.
fn published(request: Request, port: u16) -> Request {
    request
        .with_mapped_port(port, CONTAINER_PORT.tcp())
        // A mapped port alone would be published on every interface.
        .with_host_config_modifier(move |host| {
            let binding = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                host_port: Some(port.to_string()),
            };
            host.port_bindings = Some(HashMap::from([(
                format!("{CONTAINER_PORT}/tcp"),
                Some(vec![binding]),
            )]));
        })
}

fn with_profile(request: Request, profile: &'static str) -> Request {
    let add = |request: Request, (key, value)| request.with_env_var(key, value);
    settings(profile).fold(request, add)
}

/// The image's name for a key of `server.properties`.
fn variable_of(key: &str) -> String {
    let key = key
        .replace('-', "__")
        .replace('.', "_")
        .to_ascii_uppercase();
    format!("KAFKA_{key}")
}

/// The settings of a profile.
fn settings(profile: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    profile
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
}

impl DockerTarget {
    async fn done(&self, action: Action) -> Result<(), Unavailable> {
        let Some(container) = self.container.as_ref() else {
            return Ok(());
        };
        let failed = |error: String| {
            Unavailable::new(
                format!("{action:?} of {}: {error}", self.name),
                "docker ps -a",
            )
        };
        let done = done_to(&engine().await?, container.id(), action).await;
        done.map_err(failed)?;
        if action == Action::Start {
            let running = || async { container.is_running().await.unwrap_or(false) };
            ready::wait(&self.address, running).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<(), Unavailable> {
        let Some(container) = self.container.as_ref() else {
            return Ok(());
        };
        let running = || async { container.is_running().await.unwrap_or(false) };
        if let Err(reason) = ready::wait(&self.address, running).await {
            let reason = format!("{}: {reason}; its", self.name);
            return Err(not_ready(&reason, container).await);
        }
        self.broker_version = version_of(container).await;
        Ok(())
    }
}

/// Does to a container what can be done to one that is alone.
async fn done_to(docker: &Docker, id: &str, action: Action) -> Result<(), String> {
    let done = match action {
        Action::Stop => docker.stop_container(id, None).await,
        Action::Kill => docker.kill_container(id, None).await,
        Action::Start => docker.start_container(id, None).await,
        Action::Pause => docker.pause_container(id).await,
        Action::Resume => docker.unpause_container(id).await,
        Action::Isolate | Action::Rejoin => return Err("it is alone".to_owned()),
    };
    done.map_err(|error| error.to_string())
}

/// A broker does not get ready; `reason` ends where the last lines of its log follow.
async fn not_ready(reason: &str, container: &ContainerAsync<GenericImage>) -> Unavailable {
    let log = container_log(container).await;
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    Unavailable::new(
        format!("{reason} last lines:\n  {tail}"),
        "make kafka-image, or set KAFKA_IMAGE to an image of Apache Kafka",
    )
}

/// What a broker that is ready calls itself.
async fn version_of(container: &ContainerAsync<GenericImage>) -> Option<String> {
    let version = version_in_log(&container_log(container).await)?;
    Some(format!("Apache Kafka {version}"))
}

async fn container_log(container: &ContainerAsync<GenericImage>) -> String {
    let mut log = container.stderr_to_vec().await.unwrap_or_default();
    log.extend(container.stdout_to_vec().await.unwrap_or_default());
    String::from_utf8_lossy(&log).into_owned()
}

/// What the broker says of itself when it starts: `Kafka version: 4.3.1 (…AppInfoParser)`.
fn version_in_log(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("Kafka version: ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn broker_version_is_what_the_broker_says_of_itself() {
        let log = "INFO starting\nINFO Kafka version: 4.3.1 (o.a.k.AppInfoParser)\nINFO Kafka \
                   commitId: 77 (o.a.k.AppInfoParser)\n";
        assert_eq!(version_in_log(log).as_deref(), Some("4.3.1"));
        assert_eq!(version_in_log("INFO starting\n"), None);
    }

    #[test]
    fn profile_allows_transactions_on_one_node_and_leaves_the_port_open() {
        let profile: BTreeMap<_, _> = settings(PROFILE).collect();
        assert_eq!(
            profile["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"],
            "1"
        );
        assert_eq!(profile["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"], "1");
        assert!(profile["KAFKA_LISTENERS"].contains("EXTERNAL://:9092,"));
        assert!(!profile.contains_key("KAFKA_ADVERTISED_LISTENERS"));
        for (key, value) in profile {
            assert!(!key.contains(' ') && !value.is_empty(), "{key}={value}");
        }
    }

    #[test]
    fn key_of_the_broker_has_its_variable() {
        assert_eq!(
            variable_of("connections.max.idle.ms"),
            "KAFKA_CONNECTIONS_MAX_IDLE_MS"
        );
    }

    #[test]
    fn port_conflict_is_told_from_other_failures() {
        assert!(is_port_conflict(
            "Bind for 127.0.0.1:21092 failed: port is already allocated"
        ));
        assert!(is_port_conflict(
            "listen tcp4 127.0.0.1:21092: bind: address already in use"
        ));
        assert!(!is_port_conflict("no such image"));
    }
}
