//! Transactions, continued: markers that WriteTxnMarkers brings, as a broker does for those that it
//! coordinates, and an admin client for what hangs.
//!
//! *Source*: KIP-98, KIP-664, KIP-1228; `KafkaApis.scala` handleWriteTxnMarkersRequest,
//! `ProducerAppendInfo.java`; the codes are those observed on 4.3.1.

use std::slice::from_ref;
use std::time::Duration;

use super::transaction_ends::{committed, written};
use super::txn_offsets::{Committer, OFFSET};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::topic::Topic;
use crate::transactor::NEVER_GIVEN;
use crate::wire::answer::InitProducerId;
use crate::wire::batch::Stamp;
use crate::wire::described::DescribeTransactions;
use crate::wire::groups::Claim;
use crate::wire::records::{StoredBatch, read_batches};
use crate::wire::transactional::{Decision, EndTxn};
use crate::wire::txn_markers::{TxnMarker, WriteTxnMarkers};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-61",
        level: Level::Wire,
        sentence: "WriteTxnMarkers ends what is open in a partition, as its marker says and for \
                   all readers; the coordinator does not hear of it",
        source: "KafkaApis.scala handleWriteTxnMarkersRequest; UnifiedLog.java",
        needs: &[],
        run: |c| Box::pin(ends_in_the_log(c)),
    },
    Case {
        id: "TXN-62",
        level: Level::Wire,
        sentence: "a marker is refused for a partition that is not there (3), from an older \
                   coordinator (52), and of an older epoch (47); nothing is stored then",
        source: "ProducerAppendInfo.java checkProducerEpoch, checkCoordinatorEpoch",
        needs: &[],
        run: |c| Box::pin(refused(c)),
    },
    Case {
        id: "TXN-63",
        level: Level::Wire,
        sentence: "a marker of a transaction of version 2 needs a higher epoch than what it ends \
                   (47); one that comes again is stored again",
        source: "KIP-1228, KAFKA-19999; ProducerAppendInfo.java checkProducerEpoch",
        needs: &[],
        run: |c| Box::pin(by_the_rules_of_version_2(c)),
    },
    Case {
        id: "TXN-64",
        level: Level::Wire,
        sentence: "one request writes several markers into several partitions; one that ends \
                   nothing is stored, and no reader is told of an abort",
        source: "KafkaApis.scala handleWriteTxnMarkersRequest; ProducerAppendInfo.java",
        needs: &[],
        run: |c| Box::pin(several(c)),
    },
    Case {
        id: "TXN-65",
        level: Level::Wire,
        sentence: "a marker of nobody fails its whole request (-1), though not what is before it; \
                   one that names a partition twice is written once and never answered",
        source: "WriteTxnMarkersRequest.java getErrorResponse; KafkaApis.scala",
        needs: &[],
        run: |c| Box::pin(what_a_broker_fails_on(c)),
    },
    Case {
        id: "TXN-66",
        level: Level::Wire,
        sentence: "who commits where a marker of a later epoch lies is answered 0, and then the \
                   transaction never completes: 51 to whoever comes after",
        source: "TransactionMarkerRequestCompletionHandler.scala (INVALID_PRODUCER_EPOCH)",
        needs: &[],
        run: |c| Box::pin(never_completes(c)),
    },
    Case {
        id: "TXN-67",
        level: Level::Wire,
        sentence: "a marker in the log of offsets decides what becomes of those that are pending",
        source: "GroupCoordinatorService.java completeTransaction",
        needs: &[],
        run: |c| Box::pin(decides_on_offsets(c)),
    },
];

/// The version of a request that can tell that of the transaction.
const NEWEST: i16 = 2;
/// Each transaction has its own epoch.
const SECOND: i8 = 2;
/// How long silence is watched.
const QUIET: Duration = Duration::from_millis(500);

/// A marker for some partitions of one topic, of a transaction of version 0.
fn marker(stamp: Stamp, decision: Decision, (topic, partitions): (&str, &[i32])) -> TxnMarker {
    TxnMarker {
        stamp,
        decision,
        topics: vec![(topic.to_owned(), partitions.to_vec())],
        coordinator_epoch: 0,
        transaction_version: 0,
    }
}

/// A later epoch of the same producer.
fn later(stamp: Stamp, by: i16) -> Stamp {
    Stamp {
        epoch: stamp.epoch + by,
        ..stamp
    }
}

/// Somebody whom no broker knows. Numbers are chosen so that a hash table over the ids, whose order
/// answers have, keeps that of requests.
fn stranger(number: i64) -> Stamp {
    Stamp {
        id: NEVER_GIVEN + number,
        epoch: 0,
        sequence: 0,
    }
}

/// The codes of an answer, by producer, topic and partition.
async fn write(
    c: &Context,
    topic: &Topic,
    version: i16,
    markers: &[TxnMarker],
) -> Result<Vec<i16>, Objection> {
    let markers = markers.to_vec();
    let request = WriteTxnMarkers { markers };
    let mut leader = c.leader(topic, 0).await?;
    let mut rows = leader.ask(&request, version).await?;
    rows.sort();
    Ok(rows.into_iter().map(|(_, _, _, error)| error.0).collect())
}

fn expect_written(
    step: impl std::fmt::Display,
    expected: &[i16],
    observed: &[i16],
) -> Result<(), Objection> {
    let codes = |codes: &[i16]| format!("codes {codes:?}");
    expect_eq(step, codes(expected), codes(observed))
}

/// Epoch, commit or abort, and the coordinator's epoch of a marker.
fn content(batch: &StoredBatch) -> (i16, Option<u8>, Option<i32>) {
    let record = batch.records.first().map(|record| &record.content);
    let key = record.and_then(|record| record.key.as_deref());
    let value = record.and_then(|record| record.value.as_deref());
    let epoch = value.and_then(|value| value.get(2..)?.try_into().ok());
    (
        batch.stamp.epoch,
        key.and_then(|key| key.get(3).copied()),
        epoch.map(i32::from_be_bytes),
    )
}

async fn ends_in_the_log(c: Context) -> Result<(), Objection> {
    for (version, raised, transaction_version) in [(1, 0, 0), (NEWEST, 1, SECOND)] {
        for decision in [Decision::Commit, Decision::Abort] {
            let (mut transactor, topic) = written(&c, 2).await?;
            let stamp = transactor.stamp;
            committed(&c, (&topic, 0), 0).await?;
            let ends = TxnMarker {
                coordinator_epoch: 3,
                transaction_version,
                ..marker(later(stamp, raised), decision, (&topic.name, &[0]))
            };
            let codes = write(&c, &topic, version, &[ends]).await?;
            expect_written(format!("WriteTxnMarkers v{version}"), &[0], &codes)?;
            let read = committed(&c, (&topic, 0), 3).await?;
            let step = format!("{decision:?} by v{version}");
            let aborted = match decision {
                Decision::Commit => vec![],
                Decision::Abort => vec![(stamp.id, 0)],
            };
            let aborted = format!("aborted {aborted:?}");
            expect_eq(&step, aborted, format!("aborted {:?}", read.aborted))?;
            let batches = read_batches(&read.records)
                .map_err(|error| Objection::new("Fetch", "sound batches", error))?;
            let stored = batches.iter().filter(|batch| batch.is_control());
            let stored: Vec<_> = stored.map(content).collect();
            let kind = u8::from(decision == Decision::Commit);
            let expected = [(stamp.epoch + raised, Some(kind), Some(3))];
            expect_eq(&step, format!("{expected:?}"), format!("{stored:?}"))?;

            let ids = vec![transactor.id.clone()];
            let ask = DescribeTransactions { ids };
            let known = transactor.coordinator.ask(&ask, 0).await?;
            let states: Vec<&str> = known.iter().map(|row| row.state.as_str()).collect();
            expect_eq(step, "[\"Ongoing\"]", format!("{states:?}").as_str())?;
        }
    }
    Ok(())
}

async fn refused(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let name = topic.name.as_str();
    let (one, other) = (stranger(0), c.topic_name());
    for version in 1..=NEWEST {
        let unknown = [
            marker(one, Decision::Commit, (&other, &[0])),
            marker(one, Decision::Commit, (name, &[1, 7])),
        ];
        let codes = write(&c, &topic, version, &unknown).await?;
        expect_written(format!("unknown, v{version}"), &[3, 3, 3], &codes)?;
    }
    expect_eq("the end of the log", 0, c.end_offset(&topic, 0).await?)?;
    let first = TxnMarker {
        coordinator_epoch: 5,
        ..marker(later(one, 4), Decision::Commit, (name, &[0]))
    };
    let codes = write(&c, &topic, NEWEST, from_ref(&first)).await?;
    expect_written("the first", &[0], &codes)?;
    let of_epoch = |epoch, coordinator_epoch| TxnMarker {
        stamp: Stamp { epoch, ..one },
        coordinator_epoch,
        ..first.clone()
    };
    for version in 1..=NEWEST {
        for (what, late, code) in [
            ("an older coordinator", of_epoch(4, 4), 52),
            ("an older epoch", of_epoch(3, 5), 47),
            ("both", of_epoch(3, 4), 47),
            ("an older coordinator, a later epoch", of_epoch(5, 4), 52),
        ] {
            let codes = write(&c, &topic, version, &[late]).await?;
            expect_written(format!("{what}, v{version}"), &[code], &codes)?;
        }
    }
    expect_eq("the end of the log", 1, c.end_offset(&topic, 0).await?)
}

async fn by_the_rules_of_version_2(c: Context) -> Result<(), Objection> {
    let (transactor, topic) = written(&c, 1).await?;
    let name = topic.name.as_str();
    let stamp = transactor.stamp;
    let of_second = |by, decision| TxnMarker {
        transaction_version: SECOND,
        ..marker(later(stamp, by), decision, (name, &[0]))
    };
    let same = of_second(0, Decision::Commit);
    let codes = write(&c, &topic, NEWEST, from_ref(&same)).await?;
    expect_written("the epoch of what is open", &[47], &codes)?;
    committed(&c, (&topic, 0), 0).await?;
    let next = of_second(1, Decision::Commit);
    let codes = write(&c, &topic, NEWEST, from_ref(&next)).await?;
    expect_written("the next epoch", &[0], &codes)?;
    committed(&c, (&topic, 0), 2).await?;
    let codes = write(&c, &topic, NEWEST, &[next]).await?;
    expect_written("again", &[0], &codes)?;
    let answer = committed(&c, (&topic, 0), 3).await?;
    expect_eq("aborted", 0, answer.aborted.len())?;
    let codes = write(&c, &topic, NEWEST, &[same]).await?;
    expect_written("the epoch before", &[47], &codes)?;

    // What a version that is not told is judged by.
    let (transactor, topic) = written(&c, 1).await?;
    let same = marker(transactor.stamp, Decision::Abort, (&topic.name, &[0]));
    let codes = write(&c, &topic, NEWEST, &[same]).await?;
    expect_written("version 0, the epoch of what is open", &[0], &codes)?;
    let answer = committed(&c, (&topic, 0), 2).await?;
    let aborted = [(transactor.stamp.id, 0)];
    expect_eq(
        "aborted",
        format!("{aborted:?}"),
        format!("{:?}", answer.aborted),
    )
}

async fn several(c: Context) -> Result<(), Objection> {
    let topic = c.topic(6).await?;
    let name = topic.name.as_str();
    // Another partition with the same leader: one broker is asked.
    let other = (1..6).find(|index| topic.leader_of(*index) == topic.leader_of(0));
    let other = other.ok_or_else(|| Objection::new("leaders", "one leads two", "none does"))?;
    for version in 1..=NEWEST {
        let codes = write(&c, &topic, version, &[]).await?;
        expect_written(format!("none, v{version}"), &[], &codes)?;
        let nowhere = [
            marker(stranger(9), Decision::Commit, (name, &[])),
            TxnMarker {
                topics: vec![],
                ..marker(stranger(9), Decision::Commit, (name, &[]))
            },
        ];
        let codes = write(&c, &topic, version, &nowhere).await?;
        expect_written(format!("for no partition, v{version}"), &[], &codes)?;
        let markers = [
            marker(stranger(1), Decision::Abort, (name, &[0, other])),
            marker(stranger(2), Decision::Commit, (name, &[other, 9])),
            marker(stranger(1), Decision::Abort, (name, &[0])),
        ];
        let codes = write(&c, &topic, version, &markers).await?;
        // Two rows of the first producer, though it has three markers, and two of the second.
        let step = format!("several, v{version}");
        expect_written(step, &[0, 0, 0, 3], &codes)?;
        let stored = i64::from(version) * 2;
        for partition in [0, other] {
            let answer = committed(&c, (&topic, partition), stored).await?;
            expect_eq("aborted", 0, answer.aborted.len())?;
        }
    }
    Ok(())
}

async fn what_a_broker_fails_on(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let name = topic.name.as_str();
    let nobody = Stamp {
        id: -1,
        ..stranger(0)
    };
    let without_epoch = Stamp {
        epoch: -1,
        ..stranger(1)
    };
    let mut end = 0;
    for version in 1..=NEWEST {
        for failing in [nobody, without_epoch] {
            let markers = [
                marker(stranger(4), Decision::Commit, (name, &[0])),
                marker(failing, Decision::Commit, (name, &[0])),
                marker(stranger(3), Decision::Commit, (name, &[0, 9])),
            ];
            let codes = write(&c, &topic, version, &markers).await?;
            let step = format!("{failing:?}, v{version}");
            expect_written(&step, &[-1, -1, -1, -1], &codes)?;
            end += 1;
            expect_eq(step, end, c.end_offset(&topic, 0).await?)?;
        }
        let twice = vec![marker(stranger(6), Decision::Commit, (name, &[0, 0]))];
        let request = WriteTxnMarkers { markers: twice };
        let mut leader = c.leader(&topic, 0).await?;
        leader.send(&request, version).await?;
        let step = format!("a partition twice, v{version}");
        leader.expect_silence(&step, QUIET).await?;
        end += 1;
        expect_eq(step, end, c.end_offset(&topic, 0).await?)?;
    }
    let unsaid = TxnMarker {
        transaction_version: -1,
        ..marker(stranger(5), Decision::Commit, (name, &[0]))
    };
    let codes = write(&c, &topic, NEWEST, &[unsaid]).await?;
    expect_written("a transaction of version -1", &[-1], &codes)?;
    expect_eq("the end of the log", end, c.end_offset(&topic, 0).await?)
}

async fn never_completes(c: Context) -> Result<(), Objection> {
    let (mut transactor, topic) = written(&c, 1).await?;
    let far = marker(
        later(transactor.stamp, 5),
        Decision::Abort,
        (&topic.name, &[0]),
    );
    let codes = write(&c, &topic, NEWEST, &[far]).await?;
    expect_written("a marker of a later epoch", &[0], &codes)?;
    let version = c.version::<EndTxn>();
    let answer = transactor.end(version, Decision::Commit).await?;
    expect_eq("EndTxn", 0, answer.error.0)?;
    for _ in 0..3 {
        tokio::time::sleep(QUIET).await;
        let begun = transactor
            .init(c.version::<InitProducerId>(), InitProducerId::NEW)
            .await?;
        expect_eq("InitProducerId", 51, begun.error.0)?;
    }
    let ids = vec![transactor.id.clone()];
    let known = transactor
        .coordinator
        .ask(&DescribeTransactions { ids }, 0)
        .await?;
    let states: Vec<&str> = known.iter().map(|row| row.state.as_str()).collect();
    expect_eq(
        "its state",
        "[\"PrepareCommit\"]",
        format!("{states:?}").as_str(),
    )?;
    committed(&c, (&topic, 0), 2).await?;
    Ok(())
}

/// A group whose offsets are in partition 0 of their log, be there two partitions or fifty.
const IN_THE_FIRST_LOG: &str = "conformance-marked-34";
const LOG_OF_OFFSETS: &str = "__consumer_offsets";

async fn decides_on_offsets(c: Context) -> Result<(), Objection> {
    for decision in [Decision::Abort, Decision::Commit] {
        let topic = c.topic(1).await?;
        let mut committer = Committer::of(&c, topic, IN_THE_FIRST_LOG.to_owned()).await?;
        committer.join(3).await?;
        let code = committer.commit(3, Claim::none()).await?;
        expect_eq("TxnOffsetCommit", 0, code)?;
        let stamp = committer.transactor.stamp;
        let in_log = |stamp, coordinator_epoch, transaction_version| TxnMarker {
            coordinator_epoch,
            transaction_version,
            ..marker(stamp, decision, (LOG_OF_OFFSETS, &[0]))
        };
        let request = |marker| WriteTxnMarkers {
            markers: vec![marker],
        };
        let coordinator = &mut committer.coordinator;
        let mut code = async |marker: TxnMarker| {
            let rows = coordinator.ask(&request(marker), NEWEST).await?;
            Ok::<Vec<i16>, Objection>(rows.into_iter().map(|row| row.3.0).collect())
        };
        let late = code(in_log(stamp, 0, SECOND)).await?;
        expect_written("the epoch of what is pending", &[47], &late)?;
        let codes = code(in_log(stamp, 7, 0)).await?;
        expect_written("version 0", &[0], &codes)?;
        let older = code(in_log(stamp, 6, 0)).await?;
        expect_written("an older coordinator", &[52], &older)?;
        let offset = match decision {
            Decision::Commit => OFFSET,
            Decision::Abort => -1,
        };
        let seen = committer.fetch(7, true).await?;
        expect_eq("OffsetFetch", 0, seen.error.0)?;
        expect_eq("its offset", offset, seen.offset)?;
    }
    Ok(())
}
