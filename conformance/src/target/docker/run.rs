//! What belongs to one run: its id, its claim on its containers and networks, a port.
//!
//! Containers and networks carry the run's id as a label. As long as the run lives it holds a lock
//! on a file of that name, and the operating system lets go of the lock however the run ends. So a
//! later run can tell an orphan (whose lock is free) from the container of a run beside it.
//!
//! *Not here*: removal at the ordinary end, which is the drop of containers and networks.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testcontainers::bollard::Docker;
use testcontainers::bollard::models::ContainerSummary;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};

/// The label that holds the id of the run a container belongs to.
pub(super) const LABEL: &str = "org.kafka-conformance.run";
/// Without its lock file (another machine, an emptied folder) a container is an orphan after this.
const ORPHAN_AGE: Duration = Duration::from_secs(60 * 60);
/// Where ports are chosen: below the range that the system gives to outgoing connections, one of
/// which could take the port at any moment.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One run, as long as it lives.
#[derive(Debug)]
pub(super) struct Run {
    id: String,
    seed: u64,
    path: PathBuf,
    /// Locked; closing it lets go.
    _claim: File,
}

impl Run {
    /// Claims a new id.
    pub(super) fn claim() -> io::Result<Self> {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seed = u64::from(std::process::id()) << 32 ^ u64::from(since_epoch.subsec_nanos());
        let id = format!("{}-{seed:016x}", since_epoch.as_secs());
        Self::claim_in(&std::env::temp_dir(), id, seed)
    }

    fn claim_in(folder: &Path, id: String, seed: u64) -> io::Result<Self> {
        let path = claim_path(folder, &id);
        let claim = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        claim.lock()?;
        Ok(Self {
            id,
            seed,
            path,
            _claim: claim,
        })
    }

    /// The value of [`LABEL`].
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A number that differs from run to run.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A file that stays is unlocked all the same.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn claim_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("kafka-conformance-{id}.lock"))
}

/// Whether a run still holds its claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Claim {
    /// The run lives.
    Held,
    /// The run ended without removing its containers.
    Free,
    /// There is no file: nothing can be said.
    Unknown,
}

fn claim_of(folder: &Path, id: &str) -> Claim {
    let Ok(file) = File::open(claim_path(folder, id)) else {
        return Claim::Unknown;
    };
    match file.try_lock() {
        Ok(()) => Claim::Free,
        Err(TryLockError::WouldBlock) => Claim::Held,
        Err(TryLockError::Error(_)) => Claim::Unknown,
    }
}

fn is_orphan(claim: Claim, age: Duration) -> bool {
    match claim {
        Claim::Held => false,
        Claim::Free => true,
        Claim::Unknown => age > ORPHAN_AGE,
    }
}

/// Removes the containers of runs that ended without doing so.
pub(super) async fn sweep(docker: &Docker) {
    let folder = std::env::temp_dir();
    for container in containers(docker, LABEL).await {
        let labels = container.labels.as_ref();
        let id = labels.and_then(|labels| labels.get(LABEL));
        let Some(id) = id.filter(|id| is_plain(id)) else {
            continue;
        };
        let claim = claim_of(&folder, id);
        if is_orphan(claim, age(&container)) {
            tracing::info!(run = %id, "removing the container of a run that was killed");
            remove(docker, &container).await;
            let _ = std::fs::remove_file(claim_path(&folder, id));
        }
    }
    sweep_networks(docker, &folder).await;
}

/// The same for networks, which go after the containers in them.
async fn sweep_networks(docker: &Docker, folder: &Path) {
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let networks = match docker.list_networks(Some(options)).await {
        Ok(networks) => networks,
        Err(error) => {
            tracing::warn!(%error, "networks of earlier runs cannot be listed");
            return;
        }
    };
    for network in networks {
        let labels = network.labels.as_ref();
        let id = labels.and_then(|labels| labels.get(LABEL));
        let (Some(id), Some(name)) = (id.filter(|id| is_plain(id)), network.name.as_ref()) else {
            continue;
        };
        if is_orphan(claim_of(folder, id), age_of(id)) {
            remove_network(docker, name).await;
        }
    }
}

/// Removes a network that nobody is in.
pub(super) async fn remove_network(docker: &Docker, name: &str) {
    if let Err(error) = docker.remove_network(name).await {
        tracing::warn!(%error, network = name, "cannot be removed");
    }
}

/// How long ago a run of that id began.
fn age_of(id: &str) -> Duration {
    let began = id.split('-').next().and_then(|began| began.parse().ok());
    let began = UNIX_EPOCH + Duration::from_secs(began.unwrap_or_default());
    SystemTime::now().duration_since(began).unwrap_or_default()
}

/// Removes the containers of `run`.
pub(super) async fn remove_own(docker: &Docker, run: &Run) {
    for container in containers(docker, &format!("{LABEL}={}", run.id())).await {
        remove(docker, &container).await;
    }
}

/// An id that is a file name and nothing more; a label can be written by anybody.
fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn age(container: &ContainerSummary) -> Duration {
    let created = container
        .created
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    created
        .and_then(|created| SystemTime::now().duration_since(created).ok())
        .unwrap_or_default()
}

async fn containers(docker: &Docker, label: &str) -> Vec<ContainerSummary> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    match docker.list_containers(Some(options)).await {
        Ok(containers) => containers,
        Err(error) => {
            tracing::warn!(%error, "containers of earlier runs cannot be listed");
            Vec::new()
        }
    }
}

async fn remove(docker: &Docker, container: &ContainerSummary) {
    if let Some(id) = container.id.as_deref() {
        remove_container(docker, id).await;
    }
}

/// Removes a container, whatever it does, by its id or name.
pub(super) async fn remove_container(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    if let Err(error) = docker.remove_container(id, Some(options)).await {
        tracing::warn!(%error, container = id, "cannot be removed");
    }
}

/// A port on 127.0.0.1 that nobody uses at this moment.
pub(super) fn free_port(seed: u64) -> u16 {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        let port = random.u16(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn claim_is_held_while_the_run_lives_and_gone_after_it() {
        let folder = std::env::temp_dir();
        let id = format!("test-{}", std::process::id());
        let run = Run::claim_in(&folder, id.clone(), 7).unwrap();
        assert_eq!(claim_of(&folder, &id), Claim::Held);
        drop(run);
        assert_eq!(claim_of(&folder, &id), Claim::Unknown);
    }

    #[test]
    fn claim_of_a_killed_run_is_free() {
        let folder = std::env::temp_dir();
        let id = format!("test-killed-{}", std::process::id());
        // What a killed run leaves: the file, and nobody who holds its lock.
        File::create(claim_path(&folder, &id)).unwrap();
        let claim = claim_of(&folder, &id);
        std::fs::remove_file(claim_path(&folder, &id)).unwrap();
        assert_eq!(claim, Claim::Free);
    }

    #[rstest]
    #[case(Claim::Held, ORPHAN_AGE * 2, false)]
    #[case(Claim::Free, Duration::ZERO, true)]
    #[case(Claim::Unknown, ORPHAN_AGE, false)]
    #[case(Claim::Unknown, ORPHAN_AGE * 2, true)]
    fn container_is_an_orphan_when_its_run_is_dead_or_long_out_of_sight(
        #[case] claim: Claim,
        #[case] age: Duration,
        #[case] orphan: bool,
    ) {
        assert_eq!(is_orphan(claim, age), orphan);
    }

    #[test]
    fn run_tells_by_its_id_how_old_it_is() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = age_of(&format!("{}-00ab", now.as_secs() - 100)).as_secs();
        assert!((100..200).contains(&age), "{age}");
        // What is no id of ours is as old as can be.
        assert!(age_of("mine") > ORPHAN_AGE);
    }

    #[rstest]
    #[case("1764093600-0000abcd", true)]
    #[case("", false)]
    #[case("../etc/passwd", false)]
    fn label_that_is_no_file_name_is_not_followed(#[case] id: &str, #[case] plain: bool) {
        assert_eq!(is_plain(id), plain);
    }

    #[test]
    fn port_is_below_the_range_of_outgoing_connections_and_free() {
        for seed in 0..20 {
            let port = free_port(seed);
            assert!(PORTS.contains(&port) && port < 32_768, "{port}");
        }
    }

    #[test]
    fn taken_port_is_passed_over() {
        // Between a port's being found and bound another test may try it.
        let held = (20..).find_map(|seed| {
            let port = free_port(seed);
            let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            Some((seed, port, holder))
        });
        let (seed, taken, _holder) = held.unwrap();
        assert_ne!(free_port(seed), taken);
    }
}
