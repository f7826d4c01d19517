//! Transactions, continued: how they end, and who sees what of them.
//!
//! *Source*: KIP-98, KIP-890; `TransactionCoordinator.scala` endTransaction; the codes are those
//! observed on 4.3.1 with `transaction.version` 2.

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::topic::Topic;
use crate::transactor::{Transactor, expect_codes};
use crate::wire::answer::InitProducerId;
use crate::wire::produce::Row;
use crate::wire::records::{Fetch, FetchAnswer, FetchCommitted, read_batches};
use crate::wire::transactional::{AddPartitions, Decision, EndTxn};

/// From here on each transaction has its own epoch (KIP-890).
const EPOCH_FROM: i16 = 5;
/// The newest Produce before which partitions must have joined.
const PRODUCE: i16 = 11;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-19",
        level: Level::Wire,
        sentence: "a commit writes a marker in every partition, and readers of what is committed \
                   see the records",
        source: "TransactionMarkerChannelManager.scala; UnifiedLog.java",
        needs: &[],
        run: |c| Box::pin(commit_is_seen(c)),
    },
    Case {
        id: "TXN-20",
        level: Level::Wire,
        sentence: "what is aborted is told to readers of what is committed, and others read it",
        source: "UnifiedLog.java collectAbortedTransactions",
        needs: &[],
        run: |c| Box::pin(abort_is_told(c)),
    },
    Case {
        id: "TXN-21",
        level: Level::Wire,
        sentence: "EndTxn 5 tells the next epoch, the one before is refused with 47, and the next \
                   begins at sequence 0",
        source: "KIP-890; TransactionMetadata.java prepareAbortOrCommit",
        needs: &[],
        run: |c| Box::pin(next_epoch(c)),
    },
    Case {
        id: "TXN-23",
        level: Level::Wire,
        sentence: "EndTxn 5 that is repeated has the same answer; the other decision is 48",
        source: "KIP-890; TransactionCoordinator.scala endTransaction",
        needs: &[],
        run: |c| Box::pin(repeated_end(c, EPOCH_FROM)),
    },
    Case {
        id: "TXN-24",
        level: Level::Wire,
        sentence: "EndTxn 4 that is repeated is 0, and the other decision is 48; the epoch stays",
        source: "TransactionCoordinator.scala endTransactionWithTV1",
        needs: &[],
        run: |c| Box::pin(repeated_end(c, EPOCH_FROM - 1)),
    },
    Case {
        id: "TXN-25",
        level: Level::Wire,
        sentence: "nothing cannot be committed (48); EndTxn 5 may abort it, and has another epoch",
        source: "KIP-890; TransactionCoordinator.scala endTransaction",
        needs: &[],
        run: |c| Box::pin(end_of_nothing(c)),
    },
    Case {
        id: "TXN-26",
        level: Level::Wire,
        sentence: "nothing is ended by an unknown id (49), another producer (49), or another epoch \
                   (90; 47 before version 2)",
        source: "TransactionCoordinator.scala endTransaction; KIP-588",
        needs: &[],
        run: |c| Box::pin(strangers_end(c)),
    },
    Case {
        id: "TXN-29",
        level: Level::Wire,
        sentence: "readers of what is committed stop at the first open transaction, whatever lies \
                   behind it",
        source: "UnifiedLog.java lastStableOffset",
        needs: &[],
        run: |c| Box::pin(open_hides_what_follows(c)),
    },
    Case {
        id: "TXN-42",
        level: Level::Wire,
        sentence: "a partition that joined and has no records gets a marker too",
        source: "TransactionCoordinator.scala endTransaction",
        needs: &[],
        run: |c| Box::pin(marker_without_records(c)),
    },
];

/// A transactor that has written `values` records to partition 0 of a topic of two.
pub(super) async fn written(c: &Context, values: usize) -> Result<(Transactor, Topic), Objection> {
    let topic = c.topic(2).await?;
    let mut transactor = c.transactor().await?;
    open(&mut transactor, &topic, ("a", values)).await?;
    Ok((transactor, topic))
}

/// Begins a transaction with a batch in partition 0.
pub(super) async fn open(
    transactor: &mut Transactor,
    topic: &Topic,
    (prefix, values): (&str, usize),
) -> Result<(), Objection> {
    let codes = transactor.join(3, topic, &[0]).await?;
    expect_codes("AddPartitionsToTxn v3", &[0], &codes)?;
    let batch = transactor.batch(prefix, values);
    let row = transactor.write(PRODUCE, (topic, 0), &batch).await?;
    expect_eq("a batch of it", 0, row.code.0)
}

/// Waits until readers of what is committed may read up to `last_stable`, and returns what one is
/// told that reads from the beginning.
pub(super) async fn committed(
    c: &Context,
    (topic, partition): (&Topic, i32),
    last_stable: i64,
) -> Result<FetchAnswer, Objection> {
    let request = FetchCommitted(Fetch {
        topic: topic.name.clone(),
        partition,
        offset: 0,
        wait_ms_max: 0,
        bytes_max: 1 << 20,
    });
    let mut leader = c.leader(topic, partition).await?;
    let patience = c.patience(format!(
        "partition {partition} is stable up to {last_stable}"
    ));
    loop {
        let answer = leader.ask(&request, c.version::<FetchCommitted>()).await?;
        expect_eq("Fetch", 0, answer.error.0)?;
        if answer.last_stable == last_stable {
            return Ok(answer);
        }
        let seen = format!("last stable offset {}", answer.last_stable);
        patience.wait(seen).await?;
    }
}

/// Values, and the offsets of markers, in what was fetched.
fn told(answer: &FetchAnswer) -> Result<(Vec<String>, Vec<i64>), Objection> {
    let batches = read_batches(&answer.records)
        .map_err(|error| Objection::new("Fetch", "sound batches", error))?;
    let (mut values, mut markers) = (Vec::new(), Vec::new());
    for batch in batches {
        match batch.is_control() {
            true => markers.push(batch.base_offset),
            false => values.extend(batch.records.iter().map(|record| record.value_text())),
        }
    }
    Ok((values, markers))
}

fn expect_told(
    step: &str,
    answer: &FetchAnswer,
    (values, markers): (&[&str], &[i64]),
) -> Result<(), Objection> {
    let (seen, ended) = told(answer)?;
    let expected = format!("values {values:?}, markers at {markers:?}");
    let observed = format!("values {seen:?}, markers at {ended:?}");
    expect_eq(step, expected, observed)
}

async fn commit_is_seen(c: Context) -> Result<(), Objection> {
    let (mut transactor, topic) = written(&c, 2).await?;
    transactor.join(3, &topic, &[1]).await?;
    let batch = transactor.batch("b", 1);
    let other = transactor.stamp.sequence;
    // Sequences are counted for each partition.
    transactor.stamp.sequence = 0;
    let batch = batch.stamped(transactor.stamp);
    transactor.stamp.sequence = other;
    let row = transactor.write(PRODUCE, (&topic, 1), &batch).await?;
    expect_eq("partition 1", 0, row.code.0)?;
    let before = committed(&c, (&topic, 0), 0).await?;
    expect_told("while it is open", &before, (&[], &[]))?;
    expect_eq("while it is open, high watermark", 2, before.high_watermark)?;
    transactor.ended(Decision::Commit).await?;
    let first = committed(&c, (&topic, 0), 3).await?;
    expect_told("partition 0", &first, (&["a-0", "a-1"], &[2]))?;
    let second = committed(&c, (&topic, 1), 2).await?;
    expect_told("partition 1", &second, (&["b-0"], &[1]))
}

async fn abort_is_told(c: Context) -> Result<(), Objection> {
    let (mut transactor, topic) = written(&c, 2).await?;
    let producer = transactor.stamp.id;
    transactor.ended(Decision::Abort).await?;
    let answer = committed(&c, (&topic, 0), 3).await?;
    expect_told("what is sent", &answer, (&["a-0", "a-1"], &[2]))?;
    let aborted = format!("{:?}", answer.aborted);
    expect_eq("aborted", format!("{:?}", [(producer, 0)]), aborted)?;
    let all = c.records(&topic, 0).await?;
    let values: Vec<String> = all.iter().map(|record| record.value_text()).collect();
    let seen = values.iter().take(2).map(String::as_str);
    expect_eq(
        "others read",
        "a-0 a-1",
        &seen.collect::<Vec<_>>().join(" "),
    )
}

async fn next_epoch(c: Context) -> Result<(), Objection> {
    for decision in [Decision::Commit, Decision::Abort] {
        let (mut transactor, topic) = written(&c, 1).await?;
        let before = transactor.stamp;
        let answer = transactor.end(EPOCH_FROM, decision).await?;
        expect_eq("EndTxn v5", 0, answer.error.0)?;
        let next = (before.id, before.epoch + 1);
        let observed = format!("{:?}", answer.next);
        expect_eq("EndTxn v5, next", format!("{:?}", Some(next)), observed)?;
        // Until its marker is there, the partition takes what is late as part of it.
        committed(&c, (&topic, 0), 2).await?;
        let late = transactor.batch("late", 1);
        let row = transactor.write(12, (&topic, 0), &late).await?;
        expect_eq("the epoch before", 47, row.code.0)?;
        transactor.go_on_as(next);
        let batch = transactor.batch("next", 1);
        let row = transactor.write(12, (&topic, 0), &batch).await?;
        let step = format!("the next epoch, after {decision:?}");
        expect_eq(step, Row::written(0, 2, 12), row)?;
        transactor.ended(decision).await?;
    }
    Ok(())
}

async fn repeated_end(c: Context, version: i16) -> Result<(), Objection> {
    for decision in [Decision::Commit, Decision::Abort] {
        let (mut transactor, _) = written(&c, 1).await?;
        let first = transactor.end(version, decision).await?;
        expect_eq(format!("{decision:?}"), 0, first.error.0)?;
        let again = transactor.end(version, decision).await?;
        let step = format!("{decision:?} again");
        expect_eq(step, format!("{first:?}"), format!("{again:?}"))?;
        let other = match decision {
            Decision::Commit => Decision::Abort,
            Decision::Abort => Decision::Commit,
        };
        let refused = transactor.end(version, other).await?;
        expect_eq(format!("{other:?} after it"), 48, refused.error.0)?;
    }
    Ok(())
}

async fn end_of_nothing(c: Context) -> Result<(), Objection> {
    for version in 0..=c.version::<EndTxn>() {
        let mut transactor = c.transactor().await?;
        let before = transactor.stamp;
        let commit = transactor.end(version, Decision::Commit).await?;
        expect_eq(format!("EndTxn v{version}, commit"), 48, commit.error.0)?;
        let abort = transactor.end(version, Decision::Abort).await?;
        let step = format!("EndTxn v{version}, abort");
        match version {
            EPOCH_FROM.. => {
                expect_eq(&step, 0, abort.error.0)?;
                let next = format!("{:?}", Some((before.id, before.epoch + 1)));
                expect_eq(&step, next, format!("{:?}", abort.next))?;
            }
            _ => expect_eq(&step, 48, abort.error.0)?,
        }
    }
    Ok(())
}

async fn strangers_end(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = c.transactor().await?;
    transactor.begin().await?;
    let codes = transactor
        .join(c.version::<AddPartitions>(), &topic, &[0])
        .await?;
    expect_codes("AddPartitionsToTxn", &[0], &codes)?;
    for version in 0..=c.version::<EndTxn>() {
        for (what, stamp, code) in transactor.strangers(version) {
            for decision in [Decision::Commit, Decision::Abort] {
                let answer = transactor.end_as(version, stamp, decision).await?;
                let step = format!("EndTxn v{version}, {what}, {decision:?}");
                expect_eq(step, code, answer.error.0)?;
            }
        }
    }
    let unknown = EndTxn {
        id: c.topic_name(),
        stamp: transactor.stamp,
        decision: Decision::Commit,
    };
    let mut coordinator = c.coordinator(&unknown.id).await?;
    let answer = coordinator.ask(&unknown, c.version::<EndTxn>()).await?;
    expect_eq("an unknown id", 49, answer.error.0)?;
    transactor.ended(Decision::Abort).await
}

async fn open_hides_what_follows(c: Context) -> Result<(), Objection> {
    let (mut first, topic) = written(&c, 1).await?;
    let mut second = c.transactor().await?;
    open(&mut second, &topic, ("b", 2)).await?;
    second.ended(Decision::Commit).await?;
    // The commit of the second has been written once its marker is there: offset 3.
    c.await_records(&topic, 0, 4).await?;
    let hidden = committed(&c, (&topic, 0), 0).await?;
    expect_told("while the first is open", &hidden, (&[], &[]))?;
    expect_eq("high watermark", 4, hidden.high_watermark)?;
    first.ended(Decision::Commit).await?;
    let seen = committed(&c, (&topic, 0), 5).await?;
    expect_told("afterwards", &seen, (&["a-0", "b-0", "b-1"], &[3, 4]))
}

async fn marker_without_records(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = c.transactor().await?;
    transactor.join(3, &topic, &[0]).await?;
    transactor.ended(Decision::Commit).await?;
    let answer = committed(&c, (&topic, 0), 1).await?;
    expect_told("a marker alone", &answer, (&[], &[0]))?;
    let next = InitProducerId {
        producer_id: transactor.stamp.id,
        epoch: transactor.stamp.epoch,
    };
    // The marker is there a moment before its coordinator knows of it.
    let begun = transactor.settled_init(next).await?;
    expect_eq("the producer goes on", 0, begun.error.0)
}
