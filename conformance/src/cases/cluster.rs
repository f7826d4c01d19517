//! Three brokers of a case's own, to be killed and paused.

use kafka_mockbroker::BrokerId;

use crate::case::{Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::Connection;
use crate::target::{Action, OwnBrokers};
use crate::topic::Topic;
use crate::wire::admin::{ElectPreferred, Reassign};
use crate::wire::answer::{Broker, Metadata, PartitionMetadata};
use crate::wire::error_code::ErrorCode;
use crate::wire::transactional::FindCoordinator;

/// Where coordinators keep what they know.
const TRANSACTIONS: &str = "__transaction_state";
const GROUPS: &str = "__consumer_offsets";
/// With three replicas, one may be away.
pub(super) const SAFE: [(&str, &str); 1] = [("min.insync.replicas", "2")];
/// No replica may be away.
pub(super) const ALL_IN_SYNC: [(&str, &str); 1] = [("min.insync.replicas", "3")];
/// It leads already.
const NO_ELECTION_NEEDED: ErrorCode = ErrorCode(84);
/// The preferred leader cannot lead yet: a broker that stood still has to catch up first.
const PREFERRED_LEADER_NOT_AVAILABLE: ErrorCode = ErrorCode(80);

/// Three brokers beside the target.
pub(super) struct TestCluster {
    /// The same case on them.
    pub(super) context: Context,
    /// The brokers.
    pub(super) brokers: Vec<Broker>,
}

/// Brokers that are away.
#[must_use]
pub(super) struct Away {
    brokers: Vec<i32>,
    back: Action,
}

impl TestCluster {
    /// Starts three brokers with `settings`.
    pub(super) async fn start(c: &Context, settings: &[(&str, &str)]) -> Result<Self, Objection> {
        let context = c.beside(3, settings).await?;
        Self::of(context).await
    }

    /// Starts three brokers whose transactions are as the target's.
    pub(super) async fn alike(c: &Context) -> Result<Self, Objection> {
        let wanted = OwnBrokers {
            count: 3,
            settings: &[],
            transactions: c.target().transactions(),
        };
        Self::of(c.beside_as(&wanted).await?).await
    }

    /// The target's own, which are three.
    pub(super) async fn of(context: Context) -> Result<Self, Objection> {
        let brokers = context.metadata(&Metadata::of(&[])).await?.brokers;
        Ok(Self { context, brokers })
    }

    /// Whether brokers end and start at once, as those of the mock do. Elsewhere they are
    /// processes, which take seconds: what can be done by few of them is.
    pub(super) fn is_quick(&self) -> bool {
        self.context.target().mock().is_some()
    }

    /// Has another broker lead partition 0; the one that does may stand still.
    pub(super) async fn move_leader(&self, topic: &Topic, leader: i32) -> Result<(), Objection> {
        self.lead((&topic.name, 0), self.other_than(&[leader])?)
            .await
    }

    /// Has `broker` lead partition 0.
    pub(super) async fn lead_by(&self, topic: &Topic, broker: i32) -> Result<(), Objection> {
        self.lead((&topic.name, 0), self.broker(broker)?).await
    }

    /// Has another broker coordinate a transactional id.
    pub(super) async fn move_coordinator(&self, id: &str) -> Result<(), Objection> {
        let coordinator = self.coordinator(self.other_than(&[])?, id).await?;
        let next = self.other_than(&[coordinator])?;
        self.coordinate(id, next.id).await
    }

    /// Has `broker` coordinate a transactional id.
    pub(super) async fn coordinate(&self, id: &str, broker: i32) -> Result<(), Objection> {
        let next = self.broker(broker)?;
        if let Some(mock) = self.context.target().mock() {
            let moved = mock.move_coordinator(id, BrokerId(broker));
            return moved.map_err(|error| Objection::new("move", "moved", error));
        }
        let (shard, leader) = self.shard(TRANSACTIONS, id).await?;
        let coordinator = self.coordinator(next, id).await?;
        expect_eq("who coordinates", leader, coordinator)?;
        self.lead((TRANSACTIONS, shard), next).await?;
        let patience = self.context.patience(format!("{broker} coordinates"));
        loop {
            let told = self.coordinator(next, id).await?;
            if told == broker {
                return Ok(());
            }
            patience.wait(told.to_string()).await?;
        }
    }

    /// Has another broker coordinate a group.
    pub(super) async fn move_group(&self, group: &str) -> Result<(), Objection> {
        let (shard, leader) = self.shard(GROUPS, group).await?;
        self.lead((GROUPS, shard), self.other_than(&[leader])?)
            .await
    }

    /// The partition of a log whose leader coordinates `key`, and its leader.
    async fn shard(&self, log: &str, key: &str) -> Result<(i32, i32), Objection> {
        let rows = self.partitions(self.other_than(&[])?, log).await?;
        let shard = shard_of(key, rows.len())?;
        let row = rows.iter().find(|row| row.index == shard);
        let row = row.ok_or_else(|| Objection::new(log, format!("partition {shard}"), "no row"))?;
        Ok((shard, row.leader))
    }

    fn broker(&self, id: i32) -> Result<&Broker, Objection> {
        let broker = self.brokers.iter().find(|broker| broker.id == id);
        broker.ok_or_else(|| Objection::new("brokers", id, "none with that id"))
    }

    /// Takes so many brokers away that neither lead partition 0 nor coordinate the id, and waits
    /// until the partition has the others in sync.
    pub(super) async fn without(
        &self,
        count: usize,
        topic: &Topic,
        id: &str,
    ) -> Result<Away, Objection> {
        let (leader, _) = self.leadership(topic, &[]).await?;
        let needed = [leader, self.coordinator(self.other_than(&[])?, id).await?];
        let ids = self.brokers.iter().map(|broker| broker.id);
        let others = ids.filter(|id| !needed.contains(id));
        let brokers: Vec<i32> = others.take(count).collect();
        expect_eq("brokers to take away", count, brokers.len())?;
        // Those that are processes are away and back soonest when they stand still.
        let (away, back) = match self.is_quick() {
            true => (Action::Kill, Action::Start),
            false => (Action::Pause, Action::Resume),
        };
        for broker in &brokers {
            self.context.act(*broker, away).await?;
        }
        let left = self.brokers.len() - count;
        self.await_in_sync(topic, &brokers, left).await?;
        Ok(Away { brokers, back })
    }

    /// Brings them back, and waits until all replicas are in sync.
    pub(super) async fn with(&self, topic: &Topic, away: Away) -> Result<(), Objection> {
        for broker in &away.brokers {
            self.context.act(*broker, away.back).await?;
        }
        self.await_agreed(topic).await?;
        Ok(())
    }

    /// Waits until all brokers tell the same leaders of a topic, with all replicas in sync; who
    /// leads partition 0. One alone may be wrong: whoever stood still or was cut off takes what was
    /// before for what is, until it hears what happened meanwhile.
    pub(super) async fn await_agreed(&self, topic: &Topic) -> Result<i32, Objection> {
        let patience = self.context.patience("all brokers agree".to_owned());
        loop {
            let told = self.told_by_all(topic).await;
            if let Ok(told) = &told
                && let Some(leader) = self.agreed(told)
            {
                return Ok(leader);
            }
            patience.wait(format!("{told:?}")).await?;
        }
    }

    /// Who leads partition 0, if all tell the same, with all replicas in sync.
    fn agreed(&self, told: &[Vec<(i32, i32, usize)>]) -> Option<i32> {
        let first = told.first()?;
        let is_agreed = told.iter().all(|other| other == first);
        let mut counts = first.iter().map(|(_, _, in_sync)| *in_sync);
        let are_in_sync = counts.all(|count| count == self.brokers.len());
        let (leader, ..) = first.first()?;
        (is_agreed && are_in_sync).then_some(*leader)
    }

    /// Leader, epoch and how many are in sync, by partition, as each broker tells them.
    async fn told_by_all(&self, topic: &Topic) -> Result<Vec<Vec<(i32, i32, usize)>>, Objection> {
        let mut told = Vec::new();
        for broker in &self.brokers {
            let mut rows = self.partitions(broker, &topic.name).await?;
            rows.sort_by_key(|row| row.index);
            let rows = rows.iter();
            let rows = rows.map(|row| (row.leader, row.leader_epoch, row.in_sync.len()));
            told.push(rows.collect());
        }
        Ok(told)
    }

    /// Waits until a broker that is none of `down` tells so many replicas of partition 0 in sync.
    async fn await_in_sync(
        &self,
        topic: &Topic,
        down: &[i32],
        count: usize,
    ) -> Result<(), Objection> {
        let patience = self.context.patience(format!("{count} are in sync"));
        loop {
            let in_sync = self.in_sync(self.other_than(down)?, topic).await?;
            if in_sync.len() == count {
                return Ok(());
            }
            patience.wait(format!("{in_sync:?}")).await?;
        }
    }

    /// Who coordinates a transactional id, as `broker` tells.
    async fn coordinator(&self, broker: &Broker, id: &str) -> Result<i32, Objection> {
        let mut connection = self.context.connect_to(&broker.address).await?;
        coordinator_of(&mut connection, &self.context, id).await
    }

    /// Has `broker` lead a partition of which every broker has a replica; whoever leads it may
    /// stand still.
    async fn lead(&self, (topic, index): (&str, i32), broker: &Broker) -> Result<(), Objection> {
        if let Some(mock) = self.context.target().mock() {
            let moved = mock.move_leader(topic, index, BrokerId(broker.id));
            return moved.map_err(|error| Objection::new("move the leader", "moved", error));
        }
        let others = self.brokers.iter().map(|broker| broker.id);
        let others = others.filter(|id| *id != broker.id);
        let replicas = std::iter::once(broker.id).chain(others).collect();
        self.reassign(broker, (topic, index), replicas).await?;
        let elect = ElectPreferred {
            topic: topic.to_owned(),
            partition: index,
        };
        let mut connection = self.context.connect_to(&broker.address).await?;
        let version = self.context.version::<ElectPreferred>();
        let patience = self.context.patience(format!("{} is elected", broker.id));
        loop {
            let elected = connection.ask(&elect, version).await?;
            match elected.error {
                ErrorCode::NONE | NO_ELECTION_NEEDED => break,
                PREFERRED_LEADER_NOT_AVAILABLE => patience.wait(elected.error.to_string()).await?,
                refused => expect_eq("ElectLeaders", ErrorCode::NONE, refused)?,
            }
        }
        let patience = self.context.patience(format!("{} leads", broker.id));
        loop {
            let rows = self.partitions(broker, topic).await?;
            let row = rows.iter().find(|row| row.index == index);
            let leader = row.map(|row| row.leader);
            if leader == Some(broker.id) {
                return Ok(());
            }
            patience.wait(format!("leader {leader:?}")).await?;
        }
    }

    /// Asks `broker` to give a partition these replicas.
    pub(super) async fn reassign(
        &self,
        broker: &Broker,
        (topic, index): (&str, i32),
        replicas: Vec<i32>,
    ) -> Result<(), Objection> {
        let change = Reassign {
            topic: topic.to_owned(),
            partition: index,
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
        let rows = self.partitions(broker, &topic.name).await?;
        let row = rows.into_iter().find(|row| row.index == 0);
        let row = row.ok_or_else(|| Objection::new("Metadata", "partition 0", "no row"))?;
        Ok((row.leader, row.leader_epoch, row.in_sync))
    }

    /// The partitions of a topic, as `broker` tells them.
    async fn partitions(
        &self,
        broker: &Broker,
        topic: &str,
    ) -> Result<Vec<PartitionMetadata>, Objection> {
        let mut connection = self.context.connect_to(&broker.address).await?;
        let version = self.context.version::<Metadata>();
        let answer = connection.ask(&Metadata::of(&[topic]), version).await?;
        let row = answer.topic(topic);
        Ok(row.map(|row| row.partitions.clone()).unwrap_or_default())
    }
}

/// Who coordinates a transactional id, as the broker behind the connection tells.
pub(super) async fn coordinator_of(
    connection: &mut Connection,
    c: &Context,
    id: &str,
) -> Result<i32, Objection> {
    let request = FindCoordinator { id: id.to_owned() };
    let version = c.version::<FindCoordinator>();
    Ok(connection.ask(&request, version).await?.node)
}

/// The partition of a log whose leader coordinates a key: its hash, as Java has it, by their number
/// (`TransactionStateManager.scala`, `GroupCoordinatorService.java` partitionFor).
fn shard_of(key: &str, partitions: usize) -> Result<i32, Objection> {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = key.encode_utf16().fold(0, step);
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    let shard = hash.checked_abs().unwrap_or(0).checked_rem(partitions);
    shard.ok_or_else(|| Objection::new("the log of coordinators", "partitions", "none"))
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
