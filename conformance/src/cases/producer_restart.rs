//! Idempotence, continued: what a partition still knows of a producer after its leader changed or
//! started again, after the producer was idle, and inside a transaction.
//!
//! *Source*: `ProducerStateManager.java` (snapshots, expiry), `ProducerAppendInfo.java`; KIP-890;
//! the answers are those observed on 4.3.1.

use super::cluster::{TestCluster, await_leader};
use super::producer_state::{batch, duplicate_of, stamped_lanes};
use crate::case::{Case, Level, Objection};
use crate::context::Context;
use crate::lane::Lane;
use crate::target::{Action, Capability};
use crate::wire::batch::{BatchSpec, TRANSACTIONAL_BIT};
use crate::wire::produce::Row;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "IDM-10",
        level: Level::Wire,
        sentence: "the first batch of a transaction on a partition that does not know its producer \
                   must begin at 0: 41 is refused with 45",
        source: "KIP-890; ProducerAppendInfo.java checkSequence; ProducerStateManager.java",
        needs: &[Capability::Transactions],
        run: |c| Box::pin(transaction_from_the_middle(c)),
    },
    Case {
        id: "IDM-15",
        level: Level::Wire,
        sentence: "a new leader knows the last five batches of a producer, and the next sequence",
        source: "ProducerStateManager.java (followers build it from the log)",
        needs: &[
            Capability::ThreeNodes,
            Capability::OwnBrokers,
            Capability::Restart,
        ],
        run: |c| Box::pin(known_by_the_new_leader(c)),
    },
    Case {
        id: "IDM-16",
        level: Level::Wire,
        sentence: "a broker that was stopped or killed and started again knows the last batch of a \
                   producer, refuses the one before with 45, and goes on",
        source: "ProducerStateManager.java takeSnapshot (the last batch alone); observed on 4.3.1",
        needs: &[Capability::OwnBrokers, Capability::Restart],
        run: |c| Box::pin(known_after_a_restart(c)),
    },
    Case {
        id: "IDM-17",
        level: Level::Wire,
        sentence: "a producer that was idle for producer.id.expiration.ms is forgotten: its last \
                   batch is stored again, and it may begin at any sequence",
        source: "ProducerStateManager.java removeExpiredProducers; observed on 4.3.1",
        needs: &[Capability::OwnBrokers],
        run: |c| Box::pin(forgotten_when_idle(c)),
    },
];

async fn transaction_from_the_middle(c: Context) -> Result<(), Objection> {
    /// First version by which a partition joins a transaction with its first batch.
    const IMPLICIT_FROM: i16 = 12;
    for mut lane in c.lanes().await? {
        if lane.version < IMPLICIT_FROM {
            continue;
        }
        let transactor = c.transactor().await?;
        for (sequence, code) in [(41, 45), (0, 0)] {
            let of_transaction = BatchSpec {
                attributes: TRANSACTIONAL_BIT,
                ..batch(&c, "t", 1, transactor.stamp, sequence)
            };
            let mut request = lane.topic.produce(lane.partition, of_transaction.encode());
            request.transactional_id = Some(transactor.id.clone());
            let row = match code {
                0 => Row::written(lane.partition, 0, lane.version),
                code => Row::refused_by_log(lane.partition, code, lane.version),
            };
            let step = format!("sequence {sequence}");
            let asked = (&request, lane.version);
            c.expect_row(&mut lane.connection, asked, (&step, row))
                .await?;
        }
    }
    Ok(())
}

async fn known_by_the_new_leader(c: Context) -> Result<(), Objection> {
    const SENT: i32 = 6;
    let cluster = TestCluster::start(&c, &[]).await?;
    let topic = cluster.topic(1, &[]).await?;
    let c = &cluster.context;
    let mut leader = c.leader(&topic, 0).await?;
    let mut sent = Vec::new();
    let mut offset = 0;
    for version in c.produce_versions() {
        let stamp = c.producer().await?;
        let mut of_producer = Vec::new();
        for sequence in 0..SENT {
            let batch = batch(c, &format!("v{version}-{sequence}"), 1, stamp, sequence);
            let request = topic.produce(0, batch.encode());
            let row = Row::written(0, offset, version);
            c.expect_row(&mut leader, (&request, version), ("new", row))
                .await?;
            of_producer.push((batch, offset));
            offset += 1;
        }
        sent.push((version, stamp, of_producer));
    }
    let (old, _) = cluster.leadership(&topic, &[]).await?;
    c.act(old, Action::Kill).await?;
    let (new, _) = await_leader(&cluster, &topic, &[old], |id| id != old && id != -1).await?;
    let new = cluster.brokers.iter().find(|broker| broker.id == new);
    let new = new.ok_or_else(|| Objection::new("the new leader", "a broker", "unknown"))?;
    // A broker tells who leads before it acts on it.
    c.await_served(&c.led_now(&topic).await?).await?;
    let mut leader = c.connect_to(&new.address).await?;
    for (version, stamp, of_producer) in sent {
        for (index, (batch, offset)) in of_producer.iter().enumerate() {
            let row = match index {
                0 => Row::refused_by_log(0, 45, version),
                _ => Row {
                    append_time_ms: batch.timestamp_ms,
                    ..Row::written(0, *offset, version)
                },
            };
            let request = topic.produce(0, batch.encode());
            let step = format!("batch {index} again");
            c.expect_row(&mut leader, (&request, version), (&step, row))
                .await?;
        }
        let next = batch(c, "next", 1, stamp, SENT);
        let request = topic.produce(0, next.encode());
        let row = Row::written(0, offset, version);
        c.expect_row(&mut leader, (&request, version), ("next", row))
            .await?;
        offset += 1;
    }
    Ok(())
}

async fn known_after_a_restart(c: Context) -> Result<(), Objection> {
    let c = c.beside(1, &[]).await?;
    let node = only_node(&c).await?;
    for end in [Action::Stop, Action::Kill] {
        let mut lanes = stamped_lanes(&c).await?;
        let mut sent = Vec::new();
        for (lane, stamp) in &mut lanes {
            let (first, last) = (batch(&c, "a", 2, *stamp, 0), batch(&c, "b", 3, *stamp, 2));
            lane.expect_written("first", &first, 0).await?;
            lane.expect_written("last", &last, 2).await?;
            sent.push((first, last));
        }
        c.act(node, end).await?;
        c.act(node, Action::Start).await?;
        let topic = lanes.first().map(|(lane, _)| lane.topic.clone());
        if let Some(topic) = topic {
            c.await_served(&topic).await?;
        }
        for ((mut lane, stamp), (first, last)) in lanes.into_iter().zip(sent) {
            lane.connection = c.leader(&lane.topic, lane.partition).await?;
            let step = |what: &str| format!("after {end:?}: {what}");
            let row = duplicate_of(&lane, &last, 2);
            lane.expect(&step("last batch again"), last.encode(), row)
                .await?;
            lane.expect_refused_by_log(&step("first batch again"), first.encode(), 45)
                .await?;
            let next = batch(&c, "c", 1, stamp, 5);
            lane.expect_written(&step("next"), &next, 5).await?;
            lane.expect_values(&["a-0", "a-1", "b-0", "b-1", "b-2", "c-0"])
                .await?;
        }
    }
    Ok(())
}

async fn only_node(c: &Context) -> Result<i32, Objection> {
    use crate::wire::answer::Metadata;
    let brokers = c.metadata(&Metadata::of(&[])).await?.brokers;
    match brokers.as_slice() {
        [only] => Ok(only.id),
        other => Err(Objection::new("brokers", "one", format!("{other:?}"))),
    }
}

async fn forgotten_when_idle(c: Context) -> Result<(), Objection> {
    let settings = [
        ("producer.id.expiration.ms", "1500"),
        ("producer.id.expiration.check.interval.ms", "300"),
    ];
    let c = c.beside(1, &settings).await?;
    let mut lanes = stamped_lanes(&c).await?;
    let mut sent = Vec::new();
    for (lane, stamp) in &mut lanes {
        let only = batch(&c, "a", 2, *stamp, 0);
        lane.expect_written("first time", &only, 0).await?;
        let row = duplicate_of(lane, &only, 0);
        lane.expect("again at once", only.encode(), row).await?;
        sent.push(only);
    }
    for ((lane, stamp), only) in lanes.iter_mut().zip(&sent) {
        let stored = Row::written(lane.partition, 2, lane.version);
        let known = duplicate_of(lane, only, 0);
        expect_once_idle(&c, lane, only, (known, stored)).await?;
        let gap = batch(&c, "b", 1, *stamp, 41);
        // The batch is as old as it was: the sweep finds the producer idle again.
        let known = Row::refused_by_log(lane.partition, 45, lane.version);
        let stored = Row::written(lane.partition, 4, lane.version);
        expect_once_idle(&c, lane, &gap, (known, stored)).await?;
        lane.expect_values(&["a-0", "a-1", "a-0", "a-1", "b-0"])
            .await?;
    }
    Ok(())
}

/// Sends `batch` until its row is no longer `known`, and objects unless it is `stored` then.
async fn expect_once_idle(
    c: &Context,
    lane: &mut Lane,
    batch: &BatchSpec,
    (known, stored): (Row, Row),
) -> Result<(), Objection> {
    let patience = c.patience("the producer is forgotten".to_owned());
    loop {
        let row = lane.row_of("once idle", batch.encode()).await?;
        if row != known {
            let step = format!("Produce v{}, once idle", lane.version);
            return crate::case::expect_eq(step, stored, row);
        }
        patience.wait(row.to_string()).await?;
    }
}
