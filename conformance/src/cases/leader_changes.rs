//! Leaders that change, refuse and fall silent, and what the producer makes of it.
//!
//! *Source*: `Sender.java`, `Metadata.java`, `NetworkClient.java` of Kafka's clients; KIP-951.

use std::time::{Duration, Instant};

use kafka_mockbroker::{Api, ErrorCode, Verdict};
use kafka_producer::Idempotence;

use super::cluster::{SAFE, TestCluster, await_leader};
use super::driven::{Certainty, Driven, expect_within, failure, mock, outlive, requests};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::{Action, Capability};
use crate::topic::Topic;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "LDR-01",
        level: Level::Client,
        sentence: "a leader that is killed under load costs no record that was acknowledged, \
                   and none is there twice",
        source: "KIP-98; min.insync.replicas with acks=all",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Restart,
        ],
        run: |c| Box::pin(leader_ends(c, Action::Kill)),
    },
    Case {
        id: "LDR-02",
        level: Level::Client,
        sentence: "a leader that is stopped in order under load costs no record and no error",
        source: "KafkaServer controlled shutdown; Sender.java canRetry",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Restart,
        ],
        run: |c| Box::pin(leader_ends(c, Action::Stop)),
    },
    Case {
        id: "LDR-03",
        level: Level::Client,
        sentence: "after 6 that names the new leader the batch goes there at once, without a \
                   question about metadata",
        source: "KIP-951; Sender.java handleProduceResponse",
        needs: &[
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(hinted_leader(c)),
    },
    Case {
        id: "LDR-05",
        level: Level::Client,
        sentence: "6 that names nobody is followed by a question about metadata and a retry",
        source: "Sender.java completeBatch (InvalidMetadataException)",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(refused_by_no_leader(c)),
    },
    Case {
        id: "LDR-07",
        level: Level::Client,
        sentence: "56 is retried, and with too few retries the record fails with it",
        source: "Sender.java canRetry; ProducerConfig retries",
        needs: &[Capability::Injection],
        run: |c| Box::pin(storage_error(c)),
    },
    Case {
        id: "LDR-08",
        level: Level::Client,
        sentence: "-1 is not retried, and whether the record was written is unknown",
        source: "Errors.java UNKNOWN_SERVER_ERROR; Sender.java canRetry",
        needs: &[Capability::Injection],
        run: |c| Box::pin(unknown_server_error(c)),
    },
    Case {
        id: "LDR-09",
        level: Level::Client,
        sentence: "2 on a sound batch is retried and the batch is stored once",
        source: "Errors.java CORRUPT_MESSAGE (retriable)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(passing(c, (2, 1))),
    },
    Case {
        id: "LDR-10",
        level: Level::Client,
        sentence: "19 for a while is retried until the replicas are back, in order",
        source: "Errors.java NOT_ENOUGH_REPLICAS (retriable)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(passing(c, (19, 8))),
    },
    Case {
        id: "LDR-11",
        level: Level::Client,
        sentence: "a partition that is given another broker under load loses no record and has \
                   none twice",
        source: "KIP-455; Sender.java canRetry (NOT_LEADER_OR_FOLLOWER)",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Reassignment,
        ],
        run: |c| Box::pin(given_another_broker(c)),
    },
    Case {
        id: "LDR-12",
        level: Level::Client,
        sentence: "a leader that stands still is outlived by its successor, and no record is \
                   there twice",
        source: "Sender.java handleTimeout; broker.session.timeout.ms",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Pause,
        ],
        run: |c| Box::pin(leader_pauses(c)),
    },
    Case {
        id: "LDR-16",
        level: Level::Client,
        sentence: "three brokers are restarted one after the other under load, and every \
                   record is written once",
        source: "KIP-98; rolling restart",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Restart,
        ],
        run: |c| Box::pin(rolling_restart(c)),
    },
    Case {
        id: "LDR-17",
        level: Level::Client,
        sentence: "while no replica in sync is there records wait, and go on when one returns",
        source: "unclean.leader.election.enable=false; Sender.java guaranteeMessageOrder",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Restart,
        ],
        run: |c| Box::pin(no_leader_for_a_while(c)),
    },
    Case {
        id: "LDR-18",
        level: Level::Client,
        sentence: "a leader that moves five times a second is followed: records are written, \
                   and requests stay few",
        source: "Metadata.java (refresh back-off); KIP-951",
        needs: &[
            Capability::Injection,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(flapping_leader(c)),
    },
    Case {
        id: "LDR-20",
        level: Level::Client,
        sentence: "a leader that is cut off from its followers acknowledges nothing that is \
                   lost",
        source: "min.insync.replicas; ReplicaManager.scala",
        needs: &[
            Capability::Isolation,
            Capability::OwnBrokers,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(isolated_leader(c)),
    },
    Case {
        id: "LDR-22",
        level: Level::Client,
        sentence: "without retries and idempotence the first passing error is the record's",
        source: "ProducerConfig retries; Sender.java canRetry",
        needs: &[Capability::Injection],
        run: |c| Box::pin(no_retries(c)),
    },
    Case {
        id: "LDR-23",
        level: Level::Client,
        sentence: "batches for a broker that is gone for good go to its successor",
        source: "NetworkClient.java; Metadata.java",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::Restart,
        ],
        run: |c| Box::pin(leader_is_gone(c)),
    },
];

pub(super) async fn passing(c: Context, (code, count): (i16, u64)) -> Result<(), Objection> {
    let fault = Verdict::Answer(ErrorCode(code));
    outlive(&c, fault, count).await?.expect_offsets()
}

async fn refused_by_no_leader(c: Context) -> Result<(), Objection> {
    // Brokers of its own: no other producer is counted.
    let c = c.beside(1, &[]).await?;
    let before = requests(&c, Api::Metadata)?.len();
    let outlived = outlive(&c, Verdict::Answer(ErrorCode(6)), 1).await?;
    outlived.expect_offsets()?;
    // One for the topic that was made, one for its first record. The next waits for a back-off of
    // its own, perhaps longer than the retry's: the producer must still be there.
    let patience = c.patience("a question after the refusal".to_owned());
    while requests(&c, Api::Metadata)?.len() - before <= 2 {
        patience.wait("only those before it".to_owned()).await?;
    }
    drop(outlived);
    Ok(())
}

async fn storage_error(c: Context) -> Result<(), Objection> {
    passing(c.clone(), (56, 1)).await?;
    let driven = Driven::start(&c, |builder| builder.retries(2)).await?;
    let fault = Verdict::Answer(ErrorCode(56));
    let guard = driven.inject(driven.produce().always().then(fault))?;
    // A disk may fail behind the append: nothing is said of the log.
    let (_, error) = failure("v-0", driven.send("v-0").await?).await?;
    let code = error.broker_code().map(|code| code.0);
    expect_eq("code", "Some(56)".to_owned(), format!("{code:?}"))?;
    expect_eq("attempts", 3, guard.hits())
}

async fn unknown_server_error(c: Context) -> Result<(), Objection> {
    let driven = Driven::start(&c, |builder| builder).await?;
    let fault = Verdict::Answer(ErrorCode(-1));
    let guard = driven.inject(driven.produce().always().then(fault))?;
    let (certainty, error) = failure("v-0", driven.send("v-0").await?).await?;
    expect_eq(
        "whether it was written is unknown",
        true,
        certainty == Certainty::Unknown,
    )?;
    expect_eq("possibly written", true, error.possibly_written())?;
    expect_eq("attempts", 1, guard.hits())
}

async fn no_retries(c: Context) -> Result<(), Objection> {
    let configure = |builder: kafka_producer::ProducerBuilder| {
        builder.idempotence(Idempotence::Disabled).retries(0)
    };
    let driven = Driven::start(&c, configure).await?;
    let fault = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    let guard = driven.inject(driven.produce().count(1).then(fault))?;
    let (certainty, error) = failure("v-0", driven.send("v-0").await?).await?;
    expect_eq("it is in no log", true, certainty == Certainty::NotWritten)?;
    let code = error.broker_code().map(|code| code.0);
    expect_eq("code", "Some(19)".to_owned(), format!("{code:?}"))?;
    expect_eq("attempts", 1, guard.hits())?;
    driven.expect_log::<&str>(&[]).await
}

/// Two hundred records, one every five milliseconds, in the course of which something happens; all
/// are written once and in order.
async fn under_load(
    cluster: &TestCluster,
    topic: &Topic,
    happens: impl Future<Output = Result<(), Objection>>,
) -> Result<(), Objection> {
    let values = written_under_load(cluster, topic, happens).await?;
    expect_all(&cluster.context, topic, &values).await
}

/// Sends them and awaits their end; returns their values.
async fn written_under_load(
    cluster: &TestCluster,
    topic: &Topic,
    happens: impl Future<Output = Result<(), Objection>>,
) -> Result<Vec<String>, Objection> {
    const MANY: usize = 200;
    let c = &cluster.context;
    let configure = |builder: kafka_producer::ProducerBuilder| {
        builder.delivery_timeout(Duration::from_secs(60))
    };
    let driven = Driven::on(c, topic.clone(), configure).await?;
    let sending = async {
        let mut values = Vec::new();
        let mut deliveries = Vec::new();
        for index in 0..MANY {
            values.push(format!("v-{index}"));
            deliveries.push(driven.send(&values[index]).await?);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Objection>((values, deliveries))
    };
    let (sent, happened) = tokio::join!(sending, happens);
    happened?;
    let (values, deliveries) = sent?;
    for (offset, delivery) in (1..).zip(deliveries) {
        client::expect_delivery("a record under load", delivery, Some(offset)).await?;
    }
    Ok(values)
}

/// The log holds `known` and then exactly these.
async fn expect_all(c: &Context, topic: &Topic, values: &[String]) -> Result<(), Objection> {
    let topic = c.led_now(topic).await?;
    c.await_served(&topic).await?;
    let all: Vec<&str> = std::iter::once("known")
        .chain(values.iter().map(String::as_str))
        .collect();
    c.expect_values(&topic, 0, &all).await
}

async fn leader_ends(c: Context, action: Action) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let happens = async {
        another_leads(&cluster, &topic, (leader, action)).await?;
        cluster.context.act(leader, Action::Start).await
    };
    under_load(&cluster, &topic, happens).await
}

/// After a moment of load something is done to the leader; waits until another leads.
async fn another_leads(
    cluster: &TestCluster,
    topic: &Topic,
    (leader, action): (i32, Action),
) -> Result<(), Objection> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.context.act(leader, action).await?;
    let is_another = |other| other >= 0 && other != leader;
    await_leader(cluster, topic, &[leader], is_another).await?;
    Ok(())
}

async fn leader_is_gone(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let happens = another_leads(&cluster, &topic, (leader, Action::Kill));
    let values = written_under_load(&cluster, &topic, happens).await?;
    // It is gone for the producer; whoever reads may ask it again.
    cluster.context.act(leader, Action::Start).await?;
    expect_all(&cluster.context, &topic, &values).await
}

async fn leader_pauses(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let happens = async {
        another_leads(&cluster, &topic, (leader, Action::Pause)).await?;
        cluster.context.act(leader, Action::Resume).await
    };
    under_load(&cluster, &topic, happens).await
}

async fn given_another_broker(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.replicated(1, &[]).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let happens = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let other = cluster.other_than(&[leader])?;
        let partition = (topic.name.as_str(), 0);
        cluster.reassign(other, partition, vec![other.id]).await?;
        let patience = cluster.context.patience("it has the other".to_owned());
        loop {
            let (now, _) = cluster.leadership_by(other, &topic).await?;
            let in_sync = cluster.in_sync(other, &topic).await?;
            if now == other.id && in_sync == [other.id] {
                return Ok(());
            }
            patience.wait(format!("{now} leads {in_sync:?}")).await?;
        }
    };
    under_load(&cluster, &topic, happens).await
}

async fn rolling_restart(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let happens = async {
        for broker in &cluster.brokers {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cluster.context.act(broker.id, Action::Stop).await?;
            await_leader(&cluster, &topic, &[broker.id], |it| {
                it >= 0 && it != broker.id
            })
            .await?;
            cluster.context.act(broker.id, Action::Start).await?;
        }
        Ok(())
    };
    under_load(&cluster, &topic, happens).await
}

async fn no_leader_for_a_while(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.replicated(1, &[]).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let happens = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.context.act(leader, Action::Kill).await?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        cluster.context.act(leader, Action::Start).await
    };
    under_load(&cluster, &topic, happens).await
}

/// The mock's leader of partition 0.
fn leader_of(c: &Context, topic: &Topic) -> Result<kafka_mockbroker::BrokerId, Objection> {
    let partition = mock(c)?.partition(&topic.name, 0);
    let leader = partition.and_then(|partition| partition.leader);
    leader.ok_or_else(|| Objection::new("partition 0", "a leader", "none"))
}

/// Moves the leader of partition 0 to another broker.
pub(super) fn move_leader(
    c: &Context,
    topic: &Topic,
) -> Result<kafka_mockbroker::BrokerId, Objection> {
    let leader = leader_of(c, topic)?;
    let mut others = mock(c)?.brokers().filter(|broker| *broker != leader);
    let next = others
        .next()
        .ok_or_else(|| Objection::new("brokers", "another", "none"))?;
    let moved = mock(c)?.move_leader(&topic.name, 0, next);
    moved.map_err(|error| Objection::new("move the leader", "moved", error))?;
    Ok(next)
}

async fn hinted_leader(c: Context) -> Result<(), Objection> {
    let own = c.beside(3, &[]).await?;
    let topic = own.replicated_topic((1, 3), &[]).await?;
    let back_off = Duration::from_secs(5);
    let configure = |builder: kafka_producer::ProducerBuilder| {
        let builder = builder.retry_backoff(back_off);
        builder.retry_backoff_max(back_off)
    };
    let driven = Driven::on(&own, topic, configure).await?;
    let next = move_leader(&own, &driven.topic)?;
    let asked = requests(&own, Api::Metadata)?.len();
    let started = Instant::now();
    client::expect_delivery("moved", driven.send("moved").await?, Some(1)).await?;
    let at_most = back_off / 2;
    expect_within(
        "without a back-off",
        started.elapsed(),
        (Duration::ZERO, at_most),
    )?;
    let sent = requests(&own, Api::Produce)?;
    let last = sent.last().map(|(_, broker, _)| *broker);
    expect_eq(
        "where it went",
        format!("{:?}", Some(next.0)),
        format!("{last:?}"),
    )?;
    expect_eq(
        "questions about metadata",
        asked,
        requests(&own, Api::Metadata)?.len(),
    )
}

async fn flapping_leader(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &[]).await?;
    let happens = async {
        for _ in 0..8 {
            move_leader(&cluster.context, &topic)?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    };
    under_load(&cluster, &topic, happens).await?;
    // A batch for each of 201 records, and a second attempt of at most five in flight at each move.
    let sent = requests(&cluster.context, Api::Produce)?.len();
    expect_eq(
        format!("{sent} Produce requests are few"),
        true,
        sent <= 201 + 8 * 2 * 5,
    )
}

async fn isolated_leader(c: Context) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &SAFE).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let happens = async {
        another_leads(&cluster, &topic, (leader, Action::Isolate)).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.context.act(leader, Action::Rejoin).await
    };
    under_load(&cluster, &topic, happens).await
}
