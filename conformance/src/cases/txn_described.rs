//! Transactions, continued: what brokers tell of them, and the end of a producer's epochs.
//!
//! *Source*: KIP-664, KIP-890; `TransactionCoordinator.scala`, `TransactionMetadata.java`; observed
//! on 4.3.1.

use super::transaction_ends::committed;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::Connection;
use crate::io::transcript::Transcript;
use crate::topic::Topic;
use crate::transactor::Transactor;
use crate::wire::answer::InitProducerId;
use crate::wire::described::{DescribeProducers, DescribeTransactions, ListTransactions};
use crate::wire::produce::Row;
use crate::wire::read_response;
use crate::wire::transactional::{Decision, EndTxn, InitTransactional};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-35",
        level: Level::Wire,
        sentence: "a producer whose epochs are used up goes on with another id at epoch 0, and \
                   whoever asks again as the one before has the same answer",
        source: "KIP-890; TransactionMetadata.java prepareProducerIdRotation, prepareAbortOrCommit",
        needs: &[],
        run: |c| Box::pin(used_up_epochs(c)),
    },
    Case {
        id: "TXN-41",
        level: Level::Wire,
        sentence: "DescribeTransactions, ListTransactions and DescribeProducers agree with what is \
                   in the log, from before the first transaction to after an abort",
        source: "KIP-664; TransactionCoordinator.scala handleDescribeTransactions",
        needs: &[],
        run: |c| Box::pin(told_as_it_is(c)),
    },
];

/// From here on a batch joins its transaction by itself.
const PRODUCE: i16 = 12;

/// What brokers tell of a transactor and its partition.
async fn expect_told(
    c: &Context,
    transactor: &mut Transactor,
    topic: &Topic,
    expected: &Told,
) -> Result<(), Objection> {
    let state = expected.state;
    let ids = vec![transactor.id.clone()];
    let ask = DescribeTransactions { ids };
    let patience = c.patience(format!("the transaction is in state {state}"));
    let row = loop {
        let mut rows = transactor.coordinator.ask(&ask, 0).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) if row.state == state && row.error.0 == 0 => break row,
            // Markers are on their way.
            (Some(row), true) if row.state.starts_with("Prepare") => {
                patience.wait(row.state).await?;
            }
            (row, _) => {
                return Err(Objection::new(
                    "DescribeTransactions",
                    state,
                    format!("{row:?}"),
                ));
            }
        }
    };
    let stamp = transactor.stamp;
    let producer = format!("{:?}", row.producer);
    let step = format!("DescribeTransactions, {state}");
    expect_eq(&step, format!("{:?}", (stamp.id, stamp.epoch)), producer)?;
    let partitions = match expected.open_since {
        Some(_) => format!("{:?}", [(topic.name.as_str(), [0])]),
        None => "[]".to_owned(),
    };
    expect_eq(step, partitions, format!("{:?}", row.partitions))?;

    for version in 0..=c.version::<ListTransactions>() {
        let list = ListTransactions {
            states: vec![state.to_owned(), "Nonsense".to_owned()],
            producers: vec![stamp.id],
        };
        let listed = transactor.coordinator.ask(&list, version).await?;
        let step = format!("ListTransactions v{version}, {state}");
        let unknown = format!("{:?}", listed.unknown_states);
        expect_eq(&step, "[\"Nonsense\"]", &unknown)?;
        let wanted = [(transactor.id.as_str(), stamp.id, state)];
        let listed = format!("{:?}", listed.transactions);
        expect_eq(step, format!("{wanted:?}"), listed)?;
    }

    let mut leader = c.leader(topic, 0).await?;
    let ask = DescribeProducers {
        topic: topic.name.clone(),
        partition: 0,
    };
    let described = leader.ask(&ask, 0).await?;
    let producers = described.producers.iter();
    let seen = producers.map(|one| (one.id, one.last_sequence, one.open_since));
    let expected: Vec<_> = expected
        .last_sequence
        .map(|last| (stamp.id, last, expected.open_since.unwrap_or(-1)))
        .into_iter()
        .collect();
    let step = format!("DescribeProducers, {state}");
    let seen = format!("{:?}", seen.collect::<Vec<_>>());
    expect_eq(step, format!("{expected:?}"), seen)
}

/// What is to be told.
struct Told {
    state: &'static str,
    /// The first offset of the open transaction.
    open_since: Option<i64>,
    /// What the partition has last of the producer; a marker is −1.
    last_sequence: Option<i32>,
}

async fn told_as_it_is(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = c.transactor().await?;
    let told = |state, open_since, last_sequence| Told {
        state,
        open_since,
        last_sequence,
    };
    let empty = told("Empty", None, None);
    expect_told(&c, &mut transactor, &topic, &empty).await?;
    let mut base = 0;
    for (decision, state) in [
        (Decision::Commit, "CompleteCommit"),
        (Decision::Abort, "CompleteAbort"),
    ] {
        let batch = transactor.batch("a", 3);
        let row = transactor.write(PRODUCE, (&topic, 0), &batch).await?;
        let step = format!("Produce v{PRODUCE}");
        expect_eq(step, Row::written(0, base, PRODUCE), row)?;
        let last = transactor.stamp.sequence - 1;
        let ongoing = told("Ongoing", Some(base), Some(last));
        expect_told(&c, &mut transactor, &topic, &ongoing).await?;
        transactor.ended(decision).await?;
        base += 4;
        committed(&c, (&topic, 0), base).await?;
        let ended = told(state, None, Some(-1));
        expect_told(&c, &mut transactor, &topic, &ended).await?;
    }
    Ok(())
}

/// The last epoch that a producer has.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// Requests that are written before an answer is read.
const BURST: usize = 200;

/// Begins until the transactor has the last epoch. That takes 32,766 requests, which nobody wants
/// to read in a recording.
async fn use_up(c: &Context, transactor: &mut Transactor) -> Result<(), Objection> {
    let address = transactor.coordinator.peer().to_owned();
    let mut connection = Connection::open(&address, &Transcript::default()).await?;
    let version = c.version::<InitProducerId>();
    let request = InitTransactional::of(&transactor.id);
    while transactor.stamp.epoch < LAST_EPOCH {
        let left = usize::try_from(LAST_EPOCH - transactor.stamp.epoch).unwrap_or_default();
        let burst = left.min(BURST);
        for _ in 0..burst {
            connection.send(&request, version).await?;
        }
        for _ in 0..burst {
            let frame = connection.frame("InitProducerId").await?;
            let (_, answer) = read_response::<InitTransactional>(&frame, version)
                .map_err(|error| Objection::new("InitProducerId", "an answer", error))?;
            // One that the one before is not written down yet is refused, and repeated.
            if answer.error.0 == 0 {
                transactor.go_on_as((answer.producer_id, answer.epoch));
            } else {
                expect_eq("InitProducerId, many times", 51, answer.error.0)?;
            }
        }
    }
    Ok(())
}

async fn used_up_epochs(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = c.transactor().await?;
    use_up(&c, &mut transactor).await?;
    let before = transactor.stamp;
    expect_eq("the last epoch", LAST_EPOCH, before.epoch)?;
    let named = InitProducerId {
        producer_id: before.id,
        epoch: before.epoch,
    };
    let version = c.version::<InitProducerId>();
    let batch = transactor.batch("a", 1);
    let row = transactor.write(PRODUCE, (&topic, 0), &batch).await?;
    expect_eq("a batch", Row::written(0, 0, PRODUCE), row)?;
    let end_version = c.version::<EndTxn>();
    let first = transactor.end(end_version, Decision::Commit).await?;
    expect_eq("EndTxn", 0, first.error.0)?;
    let next = first.next.unwrap_or((-1, -1));
    expect_eq("another id", true, next.0 != before.id && next.0 >= 0)?;
    expect_eq("its epoch", 0, next.1)?;
    committed(&c, (&topic, 0), 2).await?;
    let marker = c.batches(&topic, 0).await?;
    let epochs: Vec<i16> = marker.iter().map(|batch| batch.stamp.epoch).collect();
    let expected = format!("{:?}", [LAST_EPOCH, i16::MAX]);
    expect_eq("epochs in the log", expected, format!("{epochs:?}"))?;
    let again = transactor.end(end_version, Decision::Commit).await?;
    expect_eq("EndTxn again", format!("{first:?}"), format!("{again:?}"))?;
    let late = transactor.batch("late", 1);
    let row = transactor.write(PRODUCE, (&topic, 0), &late).await?;
    expect_eq("the id before", Row::refused(0, 47, PRODUCE), row)?;
    let begun = transactor.init(version, named).await?;
    expect_eq("InitProducerId as before", 0, begun.error.0)?;
    let seen = format!("{:?}", (begun.producer_id, begun.epoch));
    expect_eq("the same answer", format!("{next:?}"), seen)
}
