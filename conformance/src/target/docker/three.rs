//! Three brokers of Apache Kafka and their controller, in containers that this run starts and
//! removes: `compose/three-brokers.yml`, by this program.
//!
//! All cases share them, for a start takes longer than most cases: what a case did to a broker is
//! undone before the next one begins, its topics are deleted ([`Target::settled`]), and "beside" is
//! the same cluster.
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
//! 1. Containers go first, then the networks they were in, then the claim on both.
//! 2. `Start` and [`Target::settled`] end when brokers answer and are led to, not when they run.
//!
//! *Not here*: the networks, and how a node is started (`start.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use testcontainers::bollard::Docker;
use testcontainers::bollard::models::NetworkDisconnectRequest;
use testcontainers::{ContainerAsync, GenericImage};
use tokio::time::{Instant, sleep, timeout};

use self::start::{Networks, Start, join};
use super::run::Run;
use super::{done_to, not_ready, prepared, remove, version_of};
use crate::case::Objection;
use crate::io::connection::Connection;
use crate::io::transcript::Transcript;
use crate::target::{
    Action, Capabilities, Capability, Doing, OwnBrokers, Target, TargetKind, TransactionVersion,
    Unavailable,
};
use crate::wire::admin::DeleteTopic;
use crate::wire::answer::{InitProducerId, Metadata, MetadataAnswer};
use crate::wire::error_code::ErrorCode;
use crate::wire::transactional::{FindCoordinator, InitTransactional};

mod start;

/// Node ids of the brokers.
const BROKERS: [i32; 3] = [1, 2, 3];
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
const DELETE_TOPICS: i16 = 3;
/// It is gone already.
const UNKNOWN_TOPIC: ErrorCode = ErrorCode(3);
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

/// Starts three brokers of `image`, or of the image that is found, and waits until they answer.
pub(crate) async fn start_three(image: Option<&str>) -> Result<ThreeBrokers, Unavailable> {
    let (docker, run, reference) = prepared(image).await?;
    let networks = Networks::of(&docker, &run).await?;
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
        mesh: start.mesh(),
        docker: docker.clone(),
        brokers: vec![one, two, three],
        controller: Some(controller),
        _networks: networks,
        _run: run,
    };
    cluster.wait_until_ready().await?;
    Ok(ThreeBrokers(Arc::new(cluster)))
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
            self.whole(async || self.0.undo_all().await).await?;
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
        Box::pin(self.whole(async || {
            self.0.undo_all().await?;
            within(WAIT_MAX, || self.0.forget_topics()).await
        }))
    }
}

impl ThreeBrokers {
    /// Whole again, once that is done.
    async fn whole(
        &self,
        done: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<(), Unavailable> {
        let whole = async {
            done().await?;
            within(WAIT_MAX, || self.0.in_order()).await
        };
        let whole: Result<(), String> = whole.await;
        whole.map_err(|error| Unavailable::new(format!("{}: {error}", self.name()), "docker ps -a"))
    }
}

impl Cluster {
    async fn done(&self, node: i32, action: Action) -> Result<(), String> {
        let broker = self.brokers.iter().find(|broker| broker.id == node);
        let broker = broker.ok_or("there is no such broker")?;
        let (docker, id) = (&self.docker, broker.container.id());
        match action {
            Action::Isolate => {
                let request = NetworkDisconnectRequest {
                    container: id.to_owned(),
                    force: None,
                };
                let cut_off = docker.disconnect_network(&self.mesh, request).await;
                cut_off.map_err(|error| error.to_string())
            }
            Action::Rejoin => {
                join(docker, &self.mesh, id).await?;
                within(WAIT_MAX, || self.agrees(broker)).await
            }
            Action::Start => {
                done_to(docker, id, action).await?;
                within(WAIT_MAX, || broker.is_back()).await
            }
            Action::Stop | Action::Kill | Action::Pause | Action::Resume => {
                done_to(docker, id, action).await
            }
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

    /// Takes back whatever was done to brokers.
    async fn undo_all(&self) -> Result<(), String> {
        if let [one, two, three] = self.brokers.as_slice() {
            tokio::try_join!(self.undo(one), self.undo(two), self.undo(three))?;
        }
        Ok(())
    }

    /// Deletes the topics of cases that are over. A partition of theirs may be one that nobody ever
    /// leads again: 4.3.1 goes on to name a replica that was taken away as one that may lead, and
    /// waits for it once the one that is left was killed.
    async fn forget_topics(&self) -> Result<(), String> {
        let Some(broker) = self.brokers.first() else {
            return Ok(());
        };
        let told = broker.metadata(&Metadata::all()).await?;
        let mut connection = broker.connect().await?;
        for topic in told.topics.into_iter().filter(|topic| !topic.internal) {
            let name = topic.name.unwrap_or_default();
            let delete = DeleteTopic { name };
            let deleted = connection.ask(&delete, DELETE_TOPICS).await;
            match deleted.map_err(words)?.error {
                ErrorCode::NONE | UNKNOWN_TOPIC => {}
                code => return Err(format!("DeleteTopics of {}: code {code}", delete.name)),
            }
        }
        Ok(())
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
            let reason = format!("{}: {reason}; the first broker's", self.name);
            return Err(not_ready(&reason, &first.container).await);
        }
        self.broker_version = version_of(&first.container).await;
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
    use crate::wire::answer::{self, PartitionMetadata, TopicMetadata};

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
}
