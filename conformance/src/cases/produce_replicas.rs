//! Produce with three replicas: acks, in-sync replicas, and who leads.
//!
//! *Source*: `Partition.scala` appendRecordsToLeader, `ReplicaManager.scala`, `DelayedProduce`;
//! KIP-951; the answers are those observed on 4.3.1 with paused followers.

use std::time::Duration;

use super::cluster::TestCluster;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::{Context, Rows};
use crate::io::connection::Connection;
use crate::target::{Action, Capability};
use crate::topic::Topic;
use crate::wire::answer::{Broker, Metadata};
use crate::wire::batch::BatchSpec;
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{Produce, Row};
use crate::wire::records::Fetch;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "PRD-06",
        level: Level::Wire,
        sentence: "acks=all below min.insync.replicas is refused with 19, nothing is stored",
        source: "Partition.scala appendRecordsToLeader (NotEnoughReplicasException)",
        needs: &PAUSED_FOLLOWERS,
        run: |c| Box::pin(too_few_in_sync(c)),
    },
    Case {
        id: "PRD-07",
        level: Level::Wire,
        sentence: "with both followers paused acks=all gives 7 and then 19, acks=1 is accepted and \
                   unseen by consumers, and seen once a follower is back",
        source: "KAFKA-15583 (the watermark stands still below min ISR); Partition.scala",
        needs: &PAUSED_FOLLOWERS,
        run: |c| Box::pin(accepted_and_unseen(c)),
    },
    Case {
        id: "PRD-08",
        level: Level::Wire,
        sentence: "acks=all that waits for paused followers gives 7 with the base offset, and the \
                   record is in the log",
        source: "DelayedProduce.java onExpiration",
        needs: &PAUSED_FOLLOWERS,
        run: |c| Box::pin(time_out(c)),
    },
    Case {
        id: "PRD-20",
        level: Level::Wire,
        sentence: "a follower refuses with 6, from v10 with the leader's id, epoch and address, \
                   and closes the connection with acks=0",
        source: "KIP-951; KafkaApis.scala handleProduceRequest (currentLeader, nodeEndpoints)",
        needs: &[Capability::ThreeNodes],
        run: |c| Box::pin(sent_to_a_follower(c)),
    },
];

const PAUSED_FOLLOWERS: [Capability; 3] = [
    Capability::ThreeNodes,
    Capability::OwnBrokers,
    Capability::Pause,
];
/// First version that tells who leads.
const LEADER_FROM: i16 = 10;
/// A broker tells of a change by Metadata before its partitions act on it (observed).
const SETTLES_WITHIN: Duration = Duration::from_millis(300);
/// How long acks=all may take, milliseconds.
const SHORT_MS: i32 = 200;

/// A partition of three replicas, two to be in sync, and its leader.
struct Replicated {
    cluster: TestCluster,
    topic: Topic,
    leader: Broker,
    connection: Connection,
}

impl Replicated {
    /// Its followers are paused; they leave the ISR after seconds.
    async fn with_paused_followers(c: &Context) -> Result<Self, Objection> {
        let cluster = TestCluster::start(c, &[]).await?;
        let topic = cluster.topic(1, &[("min.insync.replicas", "2")]).await?;
        let (id, _) = cluster.leadership(&topic, &[]).await?;
        let leader = cluster
            .brokers
            .iter()
            .find(|broker| broker.id == id)
            .cloned();
        let leader = leader.ok_or_else(|| Objection::new("leader", "a broker", id))?;
        let connection = cluster.context.connect_to(&leader.address).await?;
        let replicated = Self {
            cluster,
            topic,
            leader,
            connection,
        };
        for follower in replicated.followers() {
            let context = &replicated.cluster.context;
            context.act(follower, Action::Pause).await?;
        }
        Ok(replicated)
    }

    fn followers(&self) -> Vec<i32> {
        let ids = self.cluster.brokers.iter().map(|broker| broker.id);
        ids.filter(|&id| id != self.leader.id).collect()
    }

    /// A batch of one record that holds `value`, with these acks.
    fn batch(&self, value: &str, acks: i16) -> Produce {
        let now = self.cluster.context.now_ms();
        let batch = BatchSpec::numbered(value, 1, now).encode();
        Produce {
            acks,
            timeout_ms: SHORT_MS,
            ..self.topic.produce(0, batch)
        }
    }

    async fn expect(
        &mut self,
        (value, acks): (&str, i16),
        version: i16,
        row: Row,
    ) -> Result<(), Objection> {
        let request = self.batch(value, acks);
        let step = format!("acks={acks}");
        let context = &self.cluster.context;
        let asked = (&request, version);
        context
            .expect_row(&mut self.connection, asked, (&step, row))
            .await
    }

    /// Waits until so many replicas are in sync, as the leader tells.
    async fn await_in_sync(&self, count: usize) -> Result<(), Objection> {
        let context = &self.cluster.context;
        let patience = context.patience(format!("{count} replicas in sync"));
        loop {
            let in_sync = self.cluster.in_sync(&self.leader, &self.topic).await?;
            if in_sync.len() == count {
                tokio::time::sleep(SETTLES_WITHIN).await;
                return Ok(());
            }
            patience.wait(format!("{in_sync:?}")).await?;
        }
    }

    /// Objects unless consumers see no more than `end` records, by ListOffsets and by Fetch.
    async fn expect_end(&self, step: &str, end: i64) -> Result<(), Objection> {
        let context = &self.cluster.context;
        expect_eq(step, end, context.end_offset(&self.topic, 0).await?)?;
        let request = Fetch {
            topic: self.topic.name.clone(),
            partition: 0,
            offset: end,
            wait_ms_max: 0,
            bytes_max: 1_000_000,
        };
        let mut consumer = context.connect_to(&self.leader.address).await?;
        let answer = consumer.ask(&request, context.version::<Fetch>()).await?;
        expect_eq(step, ErrorCode::NONE, answer.error)?;
        expect_eq(step, end, answer.high_watermark)?;
        expect_eq(step, 0, answer.records.len())
    }

    async fn resume_one(&self) -> Result<(), Objection> {
        match self.followers().first() {
            Some(&follower) => self.cluster.context.act(follower, Action::Resume).await,
            None => Ok(()),
        }
    }
}

async fn too_few_in_sync(c: Context) -> Result<(), Objection> {
    let mut replicated = Replicated::with_paused_followers(&c).await?;
    // A follower lags once there is something that it lacks.
    let first = Row::written(0, 0, 9);
    replicated.expect(("lags", 1), 9, first).await?;
    replicated.await_in_sync(1).await?;
    for version in c.produce_versions() {
        let row = Row::refused_by_log(0, 19, version);
        replicated.expect(("refused", -1), version, row).await?;
    }
    replicated.resume_one().await?;
    let context = &replicated.cluster.context;
    context.await_records(&replicated.topic, 0, 1).await?;
    context
        .expect_values(&replicated.topic, 0, &["lags-0"])
        .await
}

async fn accepted_and_unseen(c: Context) -> Result<(), Objection> {
    let mut replicated = Replicated::with_paused_followers(&c).await?;
    let newest = c.version::<Produce>();
    let timed_out = Row {
        code: ErrorCode(7),
        ..Row::written(0, 0, newest)
    };
    replicated.expect(("first", -1), newest, timed_out).await?;
    replicated.expect_end("after 7", 0).await?;
    replicated.await_in_sync(1).await?;
    let refused = Row::refused_by_log(0, 19, newest);
    replicated.expect(("second", -1), newest, refused).await?;
    let mut values = vec!["first-0".to_owned()];
    for version in c.produce_versions() {
        let offset = i64::try_from(values.len()).unwrap_or(i64::MAX);
        let value = format!("v{version}");
        let row = Row::written(0, offset, version);
        replicated.expect((&value, 1), version, row).await?;
        replicated.expect_end("after acks=1", 0).await?;
        values.push(format!("{value}-0"));
    }
    replicated.resume_one().await?;
    let all = i64::try_from(values.len()).unwrap_or(i64::MAX);
    let context = &replicated.cluster.context;
    context.await_records(&replicated.topic, 0, all).await?;
    context.expect_values(&replicated.topic, 0, &values).await
}

async fn time_out(c: Context) -> Result<(), Objection> {
    let mut replicated = Replicated::with_paused_followers(&c).await?;
    let mut values = Vec::new();
    for version in c.produce_versions() {
        let offset = i64::try_from(values.len()).unwrap_or(i64::MAX);
        let value = format!("v{version}");
        let row = Row {
            code: ErrorCode(7),
            ..Row::written(0, offset, version)
        };
        replicated.expect((&value, -1), version, row).await?;
        values.push(format!("{value}-0"));
    }
    replicated.expect_end("after 7", 0).await?;
    for follower in replicated.followers() {
        let context = &replicated.cluster.context;
        context.act(follower, Action::Resume).await?;
    }
    let all = i64::try_from(values.len()).unwrap_or(i64::MAX);
    let context = &replicated.cluster.context;
    context.await_records(&replicated.topic, 0, all).await?;
    context.expect_values(&replicated.topic, 0, &values).await
}

async fn sent_to_a_follower(c: Context) -> Result<(), Objection> {
    let topic = c.replicated_topic((1, 3), &[]).await?;
    let answer = c.metadata(&Metadata::of(&[&topic.name])).await?;
    let row = answer
        .topic(&topic.name)
        .and_then(|row| row.partitions.first());
    let row = row.ok_or_else(|| Objection::new("Metadata", "partition 0", "no row"))?;
    let (leader, epoch) = (row.leader, row.leader_epoch);
    for broker in answer.brokers.iter().filter(|broker| broker.id != leader) {
        let mut connection = c.connect_to(&broker.address).await?;
        for version in c.produce_versions() {
            let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
            let request = topic.produce(0, batch);
            let refused = connection.ask(&request, version).await?;
            let step = format!("Produce v{version} to broker {}", broker.id);
            let told = version >= LEADER_FROM;
            let expected = Row {
                leader: told.then_some((leader, epoch)),
                ..Row::refused(0, 6, version)
            };
            let rows = refused.topics.into_iter().flat_map(|topic| topic.rows);
            expect_eq(&step, Rows(vec![expected]), Rows(rows.collect()))?;
            let nodes = answer.brokers.iter().filter(|broker| broker.id == leader);
            let nodes: Vec<&Broker> = nodes.filter(|_| told).collect();
            expect_eq(&step, format!("{nodes:?}"), format!("{:?}", refused.nodes))?;
        }
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let mut silent = topic.produce(0, batch);
        silent.acks = 0;
        connection.send(&silent, c.version::<Produce>()).await?;
        connection.expect_close("acks=0 to a follower").await?;
    }
    c.expect_values::<&str>(&topic, 0, &[]).await
}
