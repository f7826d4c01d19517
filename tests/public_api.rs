//! Whatever a program does with a producer, and whatever goes wrong meanwhile: what was accepted is
//! settled, what is told of it is true, and an idempotent producer's records are there once, in
//! the order of their sends.
//!
//! Several hands work with one producer at the same time, each by a list of deeds that a seed
//! gives. `SEED=17` runs that one, `SEEDS=1000` as many from 0 on. A seed that fails is shrunk.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken premise ends the test"
)]

mod deeds;
mod mishaps;
mod seeded;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_mockbroker::FaultGuard;
use kafka_producer::{Delivery, Idempotence, Outcome, ProduceErrorKind, Producer, Record};
use promises::shell::Shell;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::sync::oneshot;

use deeds::{Deed, Work, work};
use mishaps::{PARTITIONS, heal, strike};
use seeded::{Met, Reach};

/// Seeds that `make test` runs.
const SEEDS: u64 = 150;
/// Told by a call, when it comes.
type Called = oneshot::Receiver<Fate>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Written(Option<i64>),
    NotWritten,
    Unknown,
}

/// How the fate of an accepted record is learnt.
enum Told {
    ByDelivery(Delivery),
    ByCall(Called),
    Already(Fate),
    ToNobody,
}

struct Accepted {
    partition: i32,
    value: String,
    told: Told,
}

/// One who works with the producer, and what came of it.
struct Hand {
    number: usize,
    shell: Arc<Shell>,
    /// Until its list is done.
    producer: Option<Producer>,
    count: usize,
    accepted: Vec<Accepted>,
    refused: Vec<String>,
    faults: Vec<FaultGuard>,
}

impl Hand {
    fn producer(&self) -> &Producer {
        self.producer.as_ref().expect("its list is not done")
    }

    /// Different for every record; the number counts up in each hand.
    fn value(&mut self, bytes: usize) -> String {
        self.count += 1;
        format!("{} {:04} {}", self.number, self.count, "x".repeat(bytes))
    }

    fn accept(&mut self, partition: i32, value: String, told: Told) {
        self.accepted.push(Accepted {
            partition,
            value,
            told,
        });
    }

    async fn send(&mut self, partition: i32, bytes: usize) -> Option<(String, Delivery)> {
        let value = self.value(bytes);
        let record = Record::to("orders").partition(partition).value(&value);
        match self.producer().send(record).await {
            Ok(delivery) => Some((value, delivery)),
            Err(error) => {
                assert!(
                    !error.possibly_written(),
                    "a send that was refused: {error}"
                );
                self.refused.push(value);
                None
            }
        }
    }

    async fn does(&mut self, deed: Deed) {
        match deed {
            Deed::Send { partition, bytes } => {
                if let Some((value, delivery)) = self.send(partition, bytes).await {
                    self.accept(partition, value, Told::ByDelivery(delivery));
                }
            }
            Deed::SendAndForget { partition, bytes } => {
                if let Some((value, delivery)) = self.send(partition, bytes).await {
                    drop(delivery);
                    self.accept(partition, value, Told::ToNobody);
                }
            }
            Deed::SendWith { partition, bytes } => self.send_with(partition, bytes).await,
            Deed::TrySend { partition, bytes } => {
                let value = self.value(bytes);
                let record = Record::to("orders").partition(partition).value(&value);
                match self.producer().try_send(record) {
                    Ok(delivery) => self.accept(partition, value, Told::ByDelivery(delivery)),
                    Err(_) => self.refused.push(value),
                }
            }
            Deed::SendFor { partition, within } => {
                let value = self.value(40);
                let record = Record::to("orders").partition(partition).value(&value);
                let sent = tokio::time::timeout(within, self.producer().send(record)).await;
                match sent {
                    Ok(Ok(delivery)) => self.accept(partition, value, Told::ByDelivery(delivery)),
                    // Given up before it was ready, or refused.
                    Err(_) | Ok(Err(_)) => self.refused.push(value),
                }
            }
            Deed::Deliver { partition } => {
                if let Some((value, delivery)) = self.send(partition, 10).await {
                    let told = Told::Already(fate(delivery.outcome().await));
                    self.accept(partition, value, told);
                }
            }
            Deed::Flush => drop(self.producer().flush().await),
            Deed::FlushFor(within) => {
                let _ = tokio::time::timeout(within, self.producer().flush()).await;
            }
            Deed::Rest(time) => {
                let nothing = std::future::pending::<()>();
                let _ = tokio::time::timeout(time, nothing).await;
            }
            Deed::Fault(fault) => self.faults.extend(strike(&self.shell.cluster, &fault)),
            Deed::Close(within) => {
                let _ = self.producer().close_timeout(within).await;
                let record = Record::to("orders").partition(0).value("late");
                let late = self.producer().try_send(record).err();
                let kind = late.expect("a closed producer takes nothing").kind();
                assert_eq!(kind, ProduceErrorKind::Closed);
            }
        }
    }

    async fn send_with(&mut self, partition: i32, bytes: usize) {
        let value = self.value(bytes);
        let (tell, mut called) = oneshot::channel();
        let record = Record::to("orders").partition(partition).value(&value);
        let sent = self.producer().send_with(record, move |result| {
            let fate = match result {
                Ok(written) => Fate::Written(written.offset),
                Err(error) if error.possibly_written() => Fate::Unknown,
                Err(_) => Fate::NotWritten,
            };
            let _ = tell.send(fate);
        });
        match sent.await {
            Ok(()) => self.accept(partition, value, Told::ByCall(called)),
            Err(_) => {
                assert!(called.try_recv().is_err(), "refused and called");
                self.refused.push(value);
            }
        }
    }
}

fn fate(outcome: Outcome) -> Fate {
    match outcome {
        Outcome::Written(written) => Fate::Written(written.offset),
        Outcome::NotWritten(_) => Fate::NotWritten,
        Outcome::Unknown(_) => Fate::Unknown,
    }
}

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

fn producer(shell: &Shell, work: &Work) -> Producer {
    let idempotence = match work.idempotent {
        true => Idempotence::Enabled,
        false => Idempotence::Disabled,
    };
    let builder = shell.producer().idempotence(idempotence);
    let builder = builder.linger(Duration::from_millis(work.linger_ms));
    let builder = builder.batch_size(work.batch_bytes as usize);
    let builder = builder.buffer_memory(work.memory_bytes as usize);
    let builder = builder.max_in_flight_requests_per_connection(work.in_flight);
    let builder = builder.request_timeout(Duration::from_millis(work.request_timeout_ms));
    let builder = builder.max_block(Duration::from_secs(5));
    builder.delivery_timeout(DELIVERY_TIMEOUT).build().unwrap()
}

/// Lets the work be done, and judges it.
async fn carry_out(work: Work, met: &Met) -> Result<(), TestCaseError> {
    let shell = Arc::new(Shell::start());
    let producer = producer(&shell, &work);
    let mut working = tokio::task::JoinSet::new();
    for (number, deeds) in work.hands.iter().cloned().enumerate() {
        let mut hand = Hand {
            number,
            shell: Arc::clone(&shell),
            producer: Some(producer.clone()),
            count: 0,
            accepted: Vec::new(),
            refused: Vec::new(),
            faults: Vec::new(),
        };
        working.spawn(async move {
            for deed in deeds {
                hand.does(deed).await;
            }
            // A handle that stays would keep the producer from ending.
            hand.producer = None;
            hand.faults.clear();
            hand
        });
    }
    let hands = working.join_all().await;
    heal(&shell.cluster);
    if work.is_dropped {
        drop(producer);
    } else {
        let closing = tokio::time::timeout(DELIVERY_TIMEOUT * 2, producer.close());
        let closed = closing.await;
        prop_assert!(closed.is_ok(), "a close that does not return");
    }
    let ends = Ends::learn(hands).await?;
    let logs: Vec<_> = (0..PARTITIONS).map(|it| shell.log("orders", it)).collect();
    ends.note(&logs, met);
    for (partition, log) in (0..).zip(&logs) {
        ends.judge(&work, (partition, log))?;
    }
    Ok(())
}

/// What became of all records.
#[derive(Default)]
struct Ends {
    /// By value: the partition and what was told; nothing where nobody asked.
    fates: BTreeMap<String, (i32, Option<Fate>)>,
    /// By hand and partition: what was accepted, in that order.
    lines: BTreeMap<(usize, i32), Vec<String>>,
    /// What was not accepted.
    refused: BTreeSet<String>,
}

impl Ends {
    /// Awaits the end of everything.
    async fn learn(hands: Vec<Hand>) -> Result<Self, TestCaseError> {
        let mut ends = Self::default();
        for hand in hands {
            ends.refused.extend(hand.refused);
            for one in hand.accepted {
                let fate = learn(&one.value, one.told).await?;
                let line = ends.lines.entry((hand.number, one.partition)).or_default();
                line.push(one.value.clone());
                ends.fates.insert(one.value, (one.partition, fate));
            }
        }
        Ok(ends)
    }

    /// What is told of a partition's records is true of its log.
    fn judge(&self, work: &Work, (partition, log): (i32, &[String])) -> Result<(), TestCaseError> {
        for value in log {
            let sent = self.fates.get(value).map(|(partition, _)| *partition);
            let known = sent == Some(partition);
            prop_assert!(known, "{value:?} stands in {partition}, sent to {sent:?}");
        }
        let is_quiet = work.is_quiet();
        for (value, (at, fate)) in &self.fates {
            if *at != partition {
                continue;
            }
            let count = log.iter().filter(|other| *other == value).count();
            let is_true = match fate {
                Some(Fate::Written(Some(offset))) => {
                    let there = usize::try_from(*offset).ok().and_then(|it| log.get(it));
                    there == Some(value)
                }
                Some(Fate::Written(None)) => count > 0,
                Some(Fate::NotWritten) => count == 0 && !is_quiet,
                Some(Fate::Unknown) => !is_quiet,
                None => true,
            };
            prop_assert!(
                is_true,
                "{value:?} ended as {fate:?}, there are {count}: {log:?}"
            );
            let single = !work.idempotent || count <= 1;
            prop_assert!(single, "{value:?} is there {count} times: {log:?}");
        }
        let here = |(_, at): &(usize, i32)| work.idempotent && *at == partition;
        for (hand, line) in self.lines.iter().filter(|(hand, _)| here(hand)) {
            let own = log.iter().filter(|value| line.contains(value));
            prop_assert!(
                own.is_sorted(),
                "records of {hand:?} changed places: {log:?}"
            );
        }
        Ok(())
    }

    fn note(&self, logs: &[Vec<String>], met: &Met) {
        let mut met = met.lock().unwrap();
        if !self.refused.is_empty() {
            met.insert("a record that was refused or given up");
        }
        for (value, (_, fate)) in &self.fates {
            let is_there = logs.iter().flatten().any(|other| other == value);
            met.insert(match (fate, is_there) {
                (Some(Fate::Written(_)), _) => "a record that was written",
                (Some(Fate::NotWritten), _) => "a record that was not written",
                (Some(Fate::Unknown), false) => "an unknown one that was not written",
                (Some(Fate::Unknown), true) => "an unknown one that was written",
                (None, false) => "a forgotten one that was not written",
                (None, true) => "a forgotten one that was written",
            });
        }
    }
}

/// The fate of a record, which has to be known in time; of one that nobody asked for, none.
async fn learn(value: &str, told: Told) -> Result<Option<Fate>, TestCaseError> {
    let patience = DELIVERY_TIMEOUT + Duration::from_secs(5);
    match told {
        Told::ToNobody => Ok(None),
        Told::Already(fate) => Ok(Some(fate)),
        Told::ByDelivery(delivery) => {
            let outcome = tokio::time::timeout(patience, delivery.outcome()).await;
            let outcome = outcome.map_err(|_| TestCaseError::fail(format!("{value:?} has no end")));
            Ok(Some(fate(outcome?)))
        }
        Told::ByCall(called) => {
            let fate = tokio::time::timeout(patience, called).await;
            let fate = fate.ok().and_then(Result::ok);
            let fate = fate.ok_or_else(|| TestCaseError::fail(format!("{value:?}: no call")));
            Ok(Some(fate?))
        }
    }
}

#[test]
fn whatever_is_done_and_befalls_every_promise_is_kept() {
    let reach = Reach {
        seeds: SEEDS,
        things: 7,
    };
    println!("{}", seeded::run(reach, work, carry_out));
}
