//! Transactions: who coordinates, who may begin, and what joins.
//!
//! *Source*: KIP-98, KIP-360, KIP-890; `TransactionCoordinator.scala`, `KafkaApis.scala`; the codes
//! are those observed on 4.3.1 with `transaction.version` 2.
//!
//! *Not here*: how transactions end, and who sees what of them (`transaction_ends.rs`).

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::topic::Topic;
use crate::transactor::{NEVER_GIVEN, Transactor, expect_codes};
use crate::wire::answer::{InitProducerId, Metadata};
use crate::wire::batch::{BatchSpec, Stamp};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::Row;
use crate::wire::transactional::{
    AddPartitions, Decision, EndTxn, FindCoordinator, InitTransactional,
};

/// From here on a batch joins its transaction by itself (KIP-890).
const JOINS_FROM: i16 = 12;
/// From here on a producer is told that it may abort (KIP-890).
const ABORTABLE_FROM: i16 = 11;
/// From here on a producer names who it was (KIP-360).
const NAMES_ITSELF_FROM: i16 = 3;
/// From here on InitProducerId tells who is fenced by a code of its own (KIP-588).
const FENCED_FROM: i16 = 4;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-01",
        level: Level::Wire,
        sentence: "a transactional id has a coordinator among the brokers, at every version, if \
                   not at once",
        source: "KafkaApis.scala handleFindCoordinatorRequest",
        needs: &[],
        run: |c| Box::pin(coordinators(c)),
    },
    Case {
        id: "TXN-03",
        level: Level::Wire,
        sentence: "an empty transactional id is refused with 42",
        source: "TransactionCoordinator.scala handleInitProducerId",
        needs: &[],
        run: |c| Box::pin(empty_id(c)),
    },
    Case {
        id: "TXN-04",
        level: Level::Wire,
        sentence: "a time-out below 1 or above transaction.max.timeout.ms is refused with 50",
        source: "TransactionStateManager.scala validateTransactionTimeoutMs",
        needs: &[],
        run: |c| Box::pin(time_outs(c)),
    },
    Case {
        id: "TXN-05",
        level: Level::Wire,
        sentence: "a producer that begins again has the same id and the next epoch",
        source: "TransactionMetadata.java prepareIncrementProducerEpoch",
        needs: &[],
        run: |c| Box::pin(begins_again(c)),
    },
    Case {
        id: "TXN-06",
        level: Level::Wire,
        sentence: "a producer that begins again aborts what is open: 51, then an epoch two higher",
        source: "TransactionCoordinator.scala prepareInitProducerIdTransit",
        needs: &[],
        run: |c| Box::pin(begins_while_open(c)),
    },
    Case {
        id: "TXN-07",
        level: Level::Wire,
        sentence: "a producer that names itself has the next epoch, the same answer when it names \
                   the one before, and 90 for any other",
        source: "KIP-360; TransactionMetadata.java prepareIncrementProducerEpoch",
        needs: &[],
        run: |c| Box::pin(names_itself(c)),
    },
    Case {
        id: "TXN-08",
        level: Level::Wire,
        sentence: "InitProducerId 3 is told 47 where later versions are told 90",
        source: "KIP-588; InitProducerIdResponse",
        needs: &[],
        run: |c| Box::pin(stale_at_version_3(c)),
    },
    Case {
        id: "TXN-09",
        level: Level::Wire,
        sentence: "partitions join, and join again",
        source: "TransactionCoordinator.scala handleAddPartitionsToTransaction",
        needs: &[],
        run: |c| Box::pin(joins_twice(c)),
    },
    Case {
        id: "TXN-10",
        level: Level::Wire,
        sentence: "nothing joins by an unknown id (49), another producer (49), or another epoch \
                   (90; 47 before version 2)",
        source: "TransactionCoordinator.scala handleAddPartitionsToTransaction; KIP-588",
        needs: &[],
        run: |c| Box::pin(strangers_join(c)),
    },
    Case {
        id: "TXN-11",
        level: Level::Wire,
        sentence: "with an unknown topic (3) nothing joins: the others are 55",
        source: "KafkaApis.scala handleAddPartitionsToTxnRequest",
        needs: &[],
        run: |c| Box::pin(joins_all_or_none(c)),
    },
    Case {
        id: "TXN-12",
        level: Level::Wire,
        sentence: "from Produce 12 on a batch joins its transaction by itself",
        source: "KIP-890; AddPartitionsToTxnManager.java",
        needs: &[],
        run: |c| Box::pin(joins_by_itself(c)),
    },
    Case {
        id: "TXN-13",
        level: Level::Wire,
        sentence: "before it a partition that has not joined is refused: 120 in version 11, 48 in \
                   older ones",
        source: "KIP-890; AddPartitionsToTxnManager.java",
        needs: &[],
        run: |c| Box::pin(has_not_joined(c)),
    },
    Case {
        id: "TXN-15",
        level: Level::Wire,
        sentence: "a batch of a transaction without a transactional id is refused with 53",
        source: "KafkaApis.scala handleProduceRequest",
        needs: &[],
        run: |c| Box::pin(without_an_id(c)),
    },
    Case {
        id: "TXN-17",
        level: Level::Wire,
        sentence: "a plain batch of whoever has a transaction open on the partition is refused \
                   with 48",
        source: "UnifiedLog.java analyzeAndValidateProducerState",
        needs: &[],
        run: |c| Box::pin(plain_batch_inside(c)),
    },
    Case {
        id: "TXN-18",
        level: Level::Wire,
        sentence: "a producer that was fenced is refused with 47",
        source: "KIP-588; AddPartitionsToTxnManager.java",
        needs: &[],
        run: |c| Box::pin(fenced(c)),
    },
];

fn raised(stamp: Stamp, by: i16) -> (i64, i16) {
    (stamp.id, stamp.epoch.saturating_add(by))
}

async fn coordinators(c: Context) -> Result<(), Objection> {
    let brokers = c.metadata(&Metadata::of(&[])).await?.brokers;
    let request = FindCoordinator { id: c.topic_name() };
    let mut connection = c.connect().await?;
    for version in 1..=c.version::<FindCoordinator>() {
        let patience = c.patience("a coordinator is named".to_owned());
        let answer = loop {
            let answer = connection.ask(&request, version).await?;
            if answer.error.0 != 15 {
                break answer;
            }
            let step = format!("FindCoordinator v{version}, not yet");
            let named = format!("node {} at {}", answer.node, answer.address);
            expect_eq(step, "node -1 at :-1", &named)?;
            patience.wait(format!("code {}", answer.error)).await?;
        };
        expect_eq(
            format!("FindCoordinator v{version}"),
            ErrorCode::NONE,
            answer.error,
        )?;
        let named = brokers.iter().find(|broker| broker.id == answer.node);
        let address = named.map(|broker| broker.address.as_str());
        let step = format!("FindCoordinator v{version}, address");
        expect_eq(step, address.unwrap_or("a broker's"), &answer.address)?;
    }
    Ok(())
}

async fn empty_id(c: Context) -> Result<(), Objection> {
    c.transactor().await?; // waits until there is a coordinator
    let mut connection = c.connect().await?;
    for version in 0..=c.version::<InitProducerId>() {
        let answer = connection.ask(&InitTransactional::of(""), version).await?;
        let step = format!("InitProducerId v{version}");
        expect_eq(step, 42, answer.error.0)?;
    }
    Ok(())
}

async fn time_outs(c: Context) -> Result<(), Objection> {
    let mut transactor = c.transactor().await?;
    for version in 0..=c.version::<InitProducerId>() {
        for (timeout_ms, code) in [(0, 50), (-1, 50), (900_001, 50), (1, 0), (900_000, 0)] {
            let request = InitTransactional {
                timeout_ms,
                ..InitTransactional::of(&transactor.id)
            };
            let answer = transactor.coordinator.ask(&request, version).await?;
            let step = format!("InitProducerId v{version}, time-out {timeout_ms}");
            expect_eq(step, code, answer.error.0)?;
        }
    }
    Ok(())
}

async fn begins_again(c: Context) -> Result<(), Objection> {
    let mut transactor = c.transactor().await?;
    for version in 0..=c.version::<InitProducerId>() {
        let answer = transactor.init(version, InitProducerId::NEW).await?;
        let step = format!("InitProducerId v{version}");
        expect_eq(&step, 0, answer.error.0)?;
        let (id, epoch) = raised(transactor.stamp, version + 1);
        expect_eq(&step, id, answer.producer_id)?;
        expect_eq(&step, epoch, answer.epoch)?;
    }
    Ok(())
}

async fn begins_while_open(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = c.transactor().await?;
    let open = transactor.stamp;
    let codes = transactor.join(3, &topic, &[0]).await?;
    expect_codes("AddPartitionsToTxn v3", &[0], &codes)?;
    let version = c.version::<InitProducerId>();
    let answer = transactor.init(version, InitProducerId::NEW).await?;
    expect_eq("while it is open", 51, answer.error.0)?;
    expect_eq("while it is open, id", -1, answer.producer_id)?;
    let answer = transactor.begin().await?;
    let (id, epoch) = raised(open, 2);
    expect_eq("afterwards, id", id, answer.producer_id)?;
    expect_eq("afterwards, epoch", epoch, answer.epoch)
}

async fn names_itself(c: Context) -> Result<(), Objection> {
    let mut transactor = c.transactor().await?;
    let Stamp { id, epoch, .. } = transactor.stamp;
    let named = |producer_id, epoch| InitProducerId { producer_id, epoch };
    for version in FENCED_FROM..=c.version::<InitProducerId>() {
        let base = epoch + (version - FENCED_FROM) * 2;
        let steps = [
            ("the current one", named(id, base), 0, (id, base + 1)),
            ("the one before, again", named(id, base), 0, (id, base + 1)),
            ("the next one", named(id, base + 1), 0, (id, base + 2)),
            ("an older one", named(id, base), 90, (-1, -1)),
            ("a later one", named(id, base + 9), 90, (-1, -1)),
            ("another id", named(NEVER_GIVEN, base), 90, (-1, -1)),
        ];
        for (what, producer, code, (id, epoch)) in steps {
            let answer = transactor.init(version, producer).await?;
            let step = format!("InitProducerId v{version}, {what}");
            expect_eq(&step, code, answer.error.0)?;
            expect_eq(&step, id, answer.producer_id)?;
            expect_eq(&step, epoch, answer.epoch)?;
        }
    }
    Ok(())
}

async fn stale_at_version_3(c: Context) -> Result<(), Objection> {
    let mut transactor = c.transactor().await?;
    let stale = InitProducerId {
        producer_id: transactor.stamp.id,
        epoch: transactor.stamp.epoch,
    };
    transactor.begin().await?;
    transactor.begin().await?;
    let answer = transactor.init(NAMES_ITSELF_FROM, stale).await?;
    expect_eq("InitProducerId v3", 47, answer.error.0)?;
    let answer = transactor.init(FENCED_FROM, stale).await?;
    expect_eq("InitProducerId v4", 90, answer.error.0)
}

async fn joins_twice(c: Context) -> Result<(), Objection> {
    let topic = c.topic(2).await?;
    for version in 0..=c.version::<AddPartitions>() {
        let mut transactor = c.transactor().await?;
        for time in ["once", "twice"] {
            let codes = transactor.join(version, &topic, &[0, 1]).await?;
            let step = format!("AddPartitionsToTxn v{version}, {time}");
            expect_codes(step, &[0, 0], &codes)?;
        }
        transactor.ended(Decision::Abort).await?;
    }
    Ok(())
}

async fn strangers_join(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = c.transactor().await?;
    transactor.begin().await?;
    for version in 0..=c.version::<AddPartitions>() {
        for (what, stamp, code) in transactor.strangers(version) {
            let codes = transactor.join_as(version, stamp, (&topic, &[0])).await?;
            let step = format!("AddPartitionsToTxn v{version}, {what}");
            expect_codes(step, &[code], &codes)?;
        }
    }
    let id = std::mem::replace(&mut transactor.id, c.topic_name());
    transactor.coordinator = c.coordinator(&transactor.id).await?;
    let codes = transactor.join(3, &topic, &[0]).await?;
    expect_codes(format!("an unknown id, not {id}"), &[49], &codes)
}

async fn joins_all_or_none(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    for version in 0..=c.version::<AddPartitions>() {
        let mut transactor = c.transactor().await?;
        let unknown = c.topic_name();
        let request = AddPartitions {
            id: transactor.id.clone(),
            stamp: transactor.stamp,
            topics: vec![(topic.name.clone(), vec![0]), (unknown.clone(), vec![0])],
        };
        let answer = transactor.coordinator.ask(&request, version).await?;
        let code_of = |name: &str| {
            let mut rows = answer.rows.iter();
            rows.find(|row| row.0 == name).map(|row| row.2.0)
        };
        let codes: Vec<i16> = [&topic.name, &unknown]
            .into_iter()
            .filter_map(|name| code_of(name))
            .collect();
        expect_codes(format!("AddPartitionsToTxn v{version}"), &[55, 3], &codes)?;
        // Nothing has joined: a commit has nothing to commit.
        let ended = transactor
            .end(c.version::<EndTxn>(), Decision::Commit)
            .await?;
        expect_eq("a commit afterwards", 48, ended.error.0)?;
    }
    Ok(())
}

/// A transactor, and a topic of one partition.
async fn alone(c: &Context) -> Result<(Transactor, Topic), Objection> {
    let topic = c.topic(1).await?;
    Ok((c.transactor().await?, topic))
}

async fn joins_by_itself(c: Context) -> Result<(), Objection> {
    for version in c.produce_versions() {
        if version < JOINS_FROM {
            continue;
        }
        let (mut transactor, topic) = alone(&c).await?;
        let batch = transactor.batch("a", 2);
        let row = transactor.write(version, (&topic, 0), &batch).await?;
        expect_eq(
            format!("Produce v{version}"),
            Row::written(0, 0, version),
            row,
        )?;
        transactor.ended(Decision::Commit).await?;
        c.await_records(&topic, 0, 3).await?;
    }
    Ok(())
}

async fn has_not_joined(c: Context) -> Result<(), Objection> {
    for version in c.produce_versions() {
        if version >= JOINS_FROM {
            continue;
        }
        let (mut transactor, topic) = alone(&c).await?;
        let batch = transactor.batch("a", 1);
        let row = transactor.write(version, (&topic, 0), &batch).await?;
        let refused = match version {
            ABORTABLE_FROM.. => Row::refused(0, 120, version),
            _ => Row::refused(0, 48, version)
                .saying("Partition was not added to the transaction", version),
        };
        expect_eq(format!("Produce v{version}"), refused, row)?;
        transactor.join(3, &topic, &[0]).await?;
        let row = transactor.write(version, (&topic, 0), &batch).await?;
        let step = format!("Produce v{version}, once it has joined");
        expect_eq(step, Row::written(0, 0, version), row)?;
        transactor.ended(Decision::Commit).await?;
    }
    Ok(())
}

async fn without_an_id(c: Context) -> Result<(), Objection> {
    for version in c.produce_versions() {
        let (mut transactor, topic) = alone(&c).await?;
        let batch = transactor.batch("a", 1);
        let mut leader = c.leader(&topic, 0).await?;
        let request = topic.produce(0, batch.encode());
        let row = Row::refused(0, 53, version);
        c.expect_row(&mut leader, (&request, version), ("no id", row))
            .await?;
    }
    Ok(())
}

async fn plain_batch_inside(c: Context) -> Result<(), Objection> {
    for version in c.produce_versions() {
        let (mut transactor, topic) = alone(&c).await?;
        transactor.join(3, &topic, &[0]).await?;
        let batch = transactor.batch("a", 1);
        let row = transactor.write(version, (&topic, 0), &batch).await?;
        let step = format!("Produce v{version}, first");
        expect_eq(step, Row::written(0, 0, version), row)?;
        let plain = BatchSpec::numbered("b", 1, c.now_ms()).stamped(transactor.stamp);
        let mut leader = c.leader(&topic, 0).await?;
        let request = topic.produce(0, plain.encode());
        let row = Row::refused_by_log(0, 48, version);
        c.expect_row(&mut leader, (&request, version), ("plain", row))
            .await?;
        transactor.ended(Decision::Commit).await?;
    }
    Ok(())
}

async fn fenced(c: Context) -> Result<(), Objection> {
    for version in c.produce_versions() {
        let (mut transactor, topic) = alone(&c).await?;
        let batch = transactor.batch("a", 1);
        transactor.begin().await?;
        let row = transactor.write(version, (&topic, 0), &batch).await?;
        let step = format!("Produce v{version}");
        expect_eq(step, Row::refused(0, 47, version), row)?;
    }
    Ok(())
}
