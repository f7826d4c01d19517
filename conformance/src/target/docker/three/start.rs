//! How the nodes of a cluster of three brokers are started, what they are called, and the networks
//! they meet in.
//!
//! *Invariants*
//! 1. Brokers and controller meet in the network `mesh` alone, which has no way out. Each broker is
//!    published from a network of its own, so one that is cut off is still reached by clients.
//! 2. Networks are removed once nobody is in them; what a process that died left is removed by the
//!    next run, which knows it by its label.
//!
//! *Not here*: how brokers are configured (`compose/three-brokers.env`), when they are ready.

use std::fmt;

use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{NetworkConnectRequest, NetworkCreateRequest};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::{BROKERS, Broker};
use crate::target::Unavailable;
use crate::target::docker::image::Reference;
use crate::target::docker::run::{self, Run};
use crate::target::docker::{
    PORT_ATTEMPTS, Request, engine, image_of, is_port_conflict, not_started, published,
    with_profile,
};

/// The properties of the nodes, shared with the Compose file.
const PROFILE: &str = include_str!("../three-brokers.env");
const CONTROLLER: i32 = 100;
/// Networks that end with this value, when nobody is in them any more.
#[derive(Debug)]
pub(super) struct Networks(Vec<String>);

impl Networks {
    /// Those that the nodes of `run` meet in.
    pub(super) async fn of(docker: &Docker, run: &Run) -> Result<Self, Unavailable> {
        let mut networks = Self(Vec::new());
        for (name, internal) in Names(run.id()).networks() {
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
        Ok(networks)
    }
}

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

/// What it takes to start a node.
pub(super) struct Start<'a> {
    pub(super) docker: &'a Docker,
    pub(super) reference: &'a Reference,
    pub(super) run: &'a Run,
}

impl Start<'_> {
    fn names(&self) -> Names<'_> {
        Names(self.run.id())
    }

    pub(super) fn mesh(&self) -> String {
        self.names().mesh()
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

    pub(super) async fn controller(&self) -> Result<ContainerAsync<GenericImage>, Unavailable> {
        let request = self
            .node(CONTROLLER)
            .with_env_var("KAFKA_PROCESS_ROLES", "controller")
            .with_env_var("KAFKA_LISTENERS", "CONTROLLER://:9093");
        let started = request.start().await;
        started.map_err(|error| not_started(self.reference, &error.to_string()))
    }

    pub(super) async fn broker(&self, id: i32) -> Result<Broker, Unavailable> {
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
        Err(not_started(self.reference, &last_error))
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
}

/// Lets a container into a network.
pub(super) async fn join(docker: &Docker, network: &str, container: &str) -> Result<(), String> {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        ..NetworkConnectRequest::default()
    };
    let joined = docker.connect_network(network, request).await;
    joined.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::docker::settings;

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
