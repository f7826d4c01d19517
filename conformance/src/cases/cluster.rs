//! Three brokers of a case's own, to be killed and paused.

use kafka_mockbroker::BrokerId;

use crate::case::{Objection, expect_eq};
use crate::context::{Context, Topic};
use crate::wire::admin::{ElectPreferred, Reassign};
use crate::wire::answer::{Broker, Metadata};
use crate::wire::error_code::ErrorCode;

/// Three brokers beside the target.
pub(super) struct TestCluster {
    /// The same case on them.
    pub(super) context: Context,
    /// The brokers.
    pub(super) brokers: Vec<Broker>,
}

impl TestCluster {
    /// Starts three brokers with `settings`.
    pub(super) async fn start(c: &Context, settings: &[(&str, &str)]) -> Result<Self, Objection> {
        let context = c.beside(3, settings).await?;
        let brokers = context.metadata(&Metadata::of(&[])).await?.brokers;
        Ok(Self { context, brokers })
    }

    /// Whether brokers end and start at once, as those of the mock do. Elsewhere they are
    /// processes, which take seconds: what can be done by few of them is.
    pub(super) fn is_quick(&self) -> bool {
        self.context.target().mock().is_some()
    }

    /// Has another broker lead partition 0; the one that does may stand still. Which one it is.
    pub(super) async fn move_leader(&self, topic: &Topic, leader: i32) -> Result<i32, Objection> {
        let next = self.other_than(&[leader])?;
        if let Some(mock) = self.context.target().mock() {
            let moved = mock.move_leader(&topic.name, 0, BrokerId(next.id));
            moved.map_err(|error| Objection::new("move the leader", "moved", error))?;
            return Ok(next.id);
        }
        let others = self.brokers.iter().map(|broker| broker.id);
        let others = others.filter(|id| *id != next.id);
        let replicas = std::iter::once(next.id).chain(others).collect();
        self.reassign(next, topic, replicas).await?;
        let elect = ElectPreferred {
            topic: topic.name.clone(),
            partition: 0,
        };
        let mut connection = self.context.connect_to(&next.address).await?;
        let version = self.context.version::<ElectPreferred>();
        let elected = connection.ask(&elect, version).await?;
        expect_eq("ElectLeaders", ErrorCode::NONE, elected.error)?;
        await_leader(self, topic, &[leader], |leader| leader == next.id).await?;
        Ok(next.id)
    }

    /// Asks `broker` to give partition 0 these replicas.
    pub(super) async fn reassign(
        &self,
        broker: &Broker,
        topic: &Topic,
        replicas: Vec<i32>,
    ) -> Result<(), Objection> {
        let change = Reassign {
            topic: topic.name.clone(),
            partition: 0,
            replicas,
        };
        let mut connection = self.context.connect_to(&broker.address).await?;
        let version = self.context.version::<Reassign>();
        let changed = connection.ask(&change, version).await?;
        expect_eq(
            "AlterPartitionReassignments",
            ErrorCode::NONE,
            changed.error,
        )
    }

    /// A topic of `partitions` partitions with three replicas.
    pub(super) async fn topic(
        &self,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Topic, Objection> {
        self.context
            .replicated_topic((partitions, 3), configs)
            .await
    }

    /// A topic of one partition with so many replicas.
    pub(super) async fn replicated(
        &self,
        replicas: i16,
        configs: &[(&str, &str)],
    ) -> Result<Topic, Objection> {
        self.context.replicated_topic((1, replicas), configs).await
    }

    /// A broker that is none of `down`.
    pub(super) fn other_than(&self, down: &[i32]) -> Result<&Broker, Objection> {
        let up = self
            .brokers
            .iter()
            .find(|broker| !down.contains(&broker.id));
        up.ok_or_else(|| Objection::new("brokers", "one that is up", format!("{down:?} are not")))
    }

    /// Leader and epoch of partition 0, as a broker that is none of `down` tells them.
    pub(super) async fn leadership(
        &self,
        topic: &Topic,
        down: &[i32],
    ) -> Result<(i32, i32), Objection> {
        self.leadership_by(self.other_than(down)?, topic).await
    }

    /// The same, as `broker` tells them.
    pub(super) async fn leadership_by(
        &self,
        broker: &Broker,
        topic: &Topic,
    ) -> Result<(i32, i32), Objection> {
        let (leader, epoch, _) = self.partition(broker, topic).await?;
        Ok((leader, epoch))
    }

    /// The replicas of partition 0 that are in sync, as `broker` tells them.
    pub(super) async fn in_sync(
        &self,
        broker: &Broker,
        topic: &Topic,
    ) -> Result<Vec<i32>, Objection> {
        let (_, _, in_sync) = self.partition(broker, topic).await?;
        Ok(in_sync)
    }

    async fn partition(
        &self,
        broker: &Broker,
        topic: &Topic,
    ) -> Result<(i32, i32, Vec<i32>), Objection> {
        let mut connection = self.context.connect_to(&broker.address).await?;
        let version = self.context.version::<Metadata>();
        let answer = connection
            .ask(&Metadata::of(&[&topic.name]), version)
            .await?;
        let row = answer.topic(&topic.name);
        let partition = row.and_then(|row| row.partitions.iter().find(|row| row.index == 0));
        let row = partition.cloned();
        let row = row.ok_or_else(|| Objection::new("Metadata", "partition 0", "no row"))?;
        Ok((row.leader, row.leader_epoch, row.in_sync))
    }
}

/// Waits until a broker that is none of `down` tells a leader that `is_wanted`.
pub(super) async fn await_leader(
    cluster: &TestCluster,
    topic: &Topic,
    down: &[i32],
    is_wanted: impl Fn(i32) -> bool,
) -> Result<(i32, i32), Objection> {
    let patience = cluster.context.patience("another leader".to_owned());
    loop {
        let (leader, epoch) = cluster.leadership(topic, down).await?;
        if is_wanted(leader) {
            return Ok((leader, epoch));
        }
        patience.wait(format!("{leader} at epoch {epoch}")).await?;
    }
}
