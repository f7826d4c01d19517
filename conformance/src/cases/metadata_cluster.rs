//! Metadata, continued: what a broker tells while topics appear, leaders move and brokers die.
//!
//! *Source*: `KafkaApis.scala` handleTopicMetadataRequest, `KRaftMetadataCache.java`; the answers
//! are those observed on 4.3.1.

use super::cluster::{TestCluster, await_leader};
use super::metadata::versions;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::target::{Action, Capability};
use crate::wire::answer::{ApiVersions, Metadata, TopicMetadata};
use crate::wire::error_code::ErrorCode;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "MD-03",
        level: Level::Wire,
        sentence: "an unknown topic that may be created is answered with 3 and then served, one \
                   that the request does not allow stays unknown",
        source: "AutoTopicCreationManager; auto.create.topics.enable; KIP-361",
        needs: &[Capability::OwnBrokers],
        run: |c| Box::pin(automatic_creation(c)),
    },
    Case {
        id: "MD-07",
        level: Level::Wire,
        sentence: "a leader that moves twice has an epoch that is higher by 2 or more, and no \
                   broker tells a lower one again",
        source: "KIP-101; PartitionRegistration.java (leaderEpoch)",
        needs: &[
            Capability::ThreeNodes,
            Capability::OwnBrokers,
            Capability::Restart,
        ],
        run: |c| Box::pin(epochs_grow(c)),
    },
    Case {
        id: "MD-08",
        level: Level::Wire,
        sentence: "a partition whose replicas are all down is told with leader -1 and code 5, its \
                   topic with 0, and only brokers that live are listed",
        source: "KRaftMetadataCache.java getPartitionMetadata (LEADER_NOT_AVAILABLE)",
        needs: &[
            Capability::ThreeNodes,
            Capability::OwnBrokers,
            Capability::Restart,
        ],
        run: |c| Box::pin(nobody_leads(c)),
    },
    Case {
        id: "MD-10",
        level: Level::Wire,
        sentence: "asked over any broker's listener, Metadata names every broker once, at an \
                   address at which it answers",
        source: "KafkaApis.scala handleTopicMetadataRequest (the listener of the request)",
        needs: &[Capability::ThreeNodes],
        run: |c| Box::pin(addresses_of_the_listener(c)),
    },
];

async fn automatic_creation(c: Context) -> Result<(), Objection> {
    let c = c
        .beside(1, &[("auto.create.topics.enable", "true")])
        .await?;
    let mut connection = c.connect().await?;
    for version in versions(&c, 1) {
        let name = c.topic_name();
        let request = Metadata::of(&[&name]);
        if version >= ALLOWED_FROM {
            for _ in 0..2 {
                let answer = connection.ask(&request, version).await?;
                expect_unknown(&format!("Metadata v{version}, not allowed"), &answer.topics)?;
            }
        }
        let request = request.creating();
        let answer = connection.ask(&request, version).await?;
        expect_unknown(&format!("Metadata v{version}, allowed"), &answer.topics)?;
        let patience = c.patience(format!("topic {name} is created"));
        loop {
            let answer = connection.ask(&request, version).await?;
            let row = answer.topic(&name);
            let codes = row.map(|row| (row.error.0, row.partitions.len()));
            let leader = row.and_then(|row| row.partitions.first());
            match codes {
                Some((0, 1)) if leader.is_some_and(|row| row.error == ErrorCode::NONE) => break,
                Some((0 | 3 | 5, _)) => patience.wait(format!("{codes:?}")).await?,
                other => {
                    let expected = "one partition, or 3 or 5 before it is there";
                    let step = format!("Metadata v{version}");
                    return Err(Objection::new(step, expected, format!("{other:?}")));
                }
            }
        }
    }
    let impossible = Metadata::of(&["a b"]).creating();
    let answer = connection.ask(&impossible, c.version::<Metadata>()).await?;
    let codes: Vec<i16> = answer.topics.iter().map(|row| row.error.0).collect();
    expect_eq("a name that cannot be", "[17]".into(), format!("{codes:?}"))
}

/// First version that says whether topics may be created.
const ALLOWED_FROM: i16 = 4;

fn expect_unknown(step: &str, rows: &[TopicMetadata]) -> Result<(), Objection> {
    let rows: Vec<(i16, usize)> = rows
        .iter()
        .map(|row| (row.error.0, row.partitions.len()))
        .collect();
    expect_eq(step, "[(3, 0)]".to_owned(), format!("{rows:?}"))
}

async fn epochs_grow(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &[]).await?;
    let (first, start) = cluster.leadership(&topic, &[]).await?;
    let mut told = start;
    let mut leader = first;
    for _ in 0..2 {
        cluster.context.act(leader, Action::Kill).await?;
        let down = [leader];
        let another = await_leader(&cluster, &topic, &down, |next| next != leader);
        // Where that takes long another leads by the time it is back.
        let (another, back) = tokio::join!(another, cluster.context.act(leader, Action::Start));
        let (next, epoch) = another?;
        back?;
        if epoch <= told {
            let expected = format!("an epoch above {told}");
            return Err(Objection::new(
                "after the leader was killed",
                expected,
                epoch,
            ));
        }
        (leader, told) = (next, epoch);
    }
    if told < start + 2 {
        let expected = format!("{} or more", start + 2);
        return Err(Objection::new("epoch after two moves", expected, told));
    }
    for broker in &cluster.brokers {
        let patience = c.patience(format!("broker {} tells epoch {told}", broker.id));
        loop {
            let seen = cluster.leadership_by(broker, &topic).await?;
            if seen == (leader, told) {
                break;
            }
            patience.wait(format!("{seen:?}")).await?;
        }
    }
    Ok(())
}

async fn nobody_leads(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.replicated(2, &[]).await?;
    let (leader, start) = cluster.leadership(&topic, &[]).await?;
    cluster.context.act(leader, Action::Kill).await?;
    let (next, _) = await_leader(&cluster, &topic, &[leader], |next| next != leader).await?;
    cluster.context.act(next, Action::Kill).await?;
    let down = [leader, next];
    await_leader(&cluster, &topic, &down, |last| last == -1).await?;
    let witness = cluster.other_than(&down)?;
    let mut connection = cluster.context.connect_to(&witness.address).await?;
    for version in versions(&c, 0) {
        let request = Metadata::of(&[&topic.name]);
        let answer = connection.ask(&request, version).await?;
        let step = format!("Metadata v{version}");
        let alive: Vec<i32> = answer.brokers.iter().map(|broker| broker.id).collect();
        expect_eq(&step, format!("{:?}", [witness.id]), format!("{alive:?}"))?;
        let row = answer.topic(&topic.name);
        let partition = row.and_then(|row| row.partitions.first());
        let observed = row.zip(partition).map(|(row, partition)| {
            let (topic, code) = (row.error.0, partition.error.0);
            let (leader, in_sync) = (partition.leader, &partition.in_sync);
            format!("topic {topic}, partition {code}, leader {leader}, in sync {in_sync:?}")
        });
        let expected = "topic 0, partition 5, leader -1, in sync []".to_owned();
        let observed = observed.unwrap_or_else(|| "no row".to_owned());
        expect_eq(&step, expected, observed)?;
    }
    let (_, epoch) = cluster.leadership(&topic, &down).await?;
    match epoch > start {
        true => Ok(()),
        false => Err(Objection::new(
            "leader epoch",
            format!("above {start}"),
            epoch,
        )),
    }
}

async fn addresses_of_the_listener(c: Context) -> Result<(), Objection> {
    let known = c.metadata(&Metadata::of(&[])).await?.brokers;
    for broker in &known {
        let mut connection = c.connect_to(&broker.address).await?;
        for version in versions(&c, 1) {
            let answer = connection.ask(&Metadata::of(&[]), version).await?;
            let mut observed = answer.brokers;
            observed.sort_by_key(|broker| broker.id);
            let step = format!("Metadata v{version} over {}", broker.address);
            let mut expected = known.clone();
            expected.sort_by_key(|broker| broker.id);
            expect_eq(&step, format!("{expected:?}"), format!("{observed:?}"))?;
            let addresses: std::collections::BTreeSet<&str> = observed
                .iter()
                .map(|broker| broker.address.as_str())
                .collect();
            expect_eq(&step, observed.len(), addresses.len())?;
        }
        connection.ask(&ApiVersions, 0).await?;
    }
    let bootstrap = c.target().bootstrap();
    match bootstrap
        .iter()
        .find(|given| !known.iter().any(|broker| broker.address == **given))
    {
        None => Ok(()),
        Some(given) => Err(Objection::new(
            "addresses that were given",
            "each is a broker's",
            given,
        )),
    }
}
