//! Whatever programs do in transactions, and whatever goes wrong meanwhile: a transaction counts
//! whole or not at all, as its program was told, never before its commit was asked for, and none
//! stays open.
//!
//! Several programs work at the same time, some under one transactional id, each with one producer
//! after the other, by lists of deeds that a seed gives. `SEED=17` runs that one, `SEEDS=1000` as
//! many from 0 on. A seed that fails is shrunk.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends the test"
)]

mod mishaps;
mod seeded;
mod transaction_deeds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_mockbroker::FaultGuard;
use kafka_producer::{CommitError, ConsumedOffset, ConsumerGroup, Producer, Remedy, Transactions};
use promises::shell::Shell;
use promises::transactional::{committed, pass, to};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use mishaps::{PARTITIONS, heal, strike};
use seeded::{Met, Reach};
use transaction_deeds::{Deed, End, Farewell, IDS, Plan, Program, Work, work};

/// Seeds that `make test` runs.
const SEEDS: u64 = 60;

/// What a program was told of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Committed,
    NotCommitted,
    Nothing,
}

/// A transaction that had begun.
#[derive(Debug)]
struct Done {
    program: usize,
    /// In the order of sending: partition and value.
    accepted: Vec<(i32, String)>,
    /// Whether a record of it was refused.
    refused: bool,
    offset: Option<i64>,
    told: Told,
}

/// What all programs share.
struct Scene {
    shell: Shell,
    work: Work,
    done: Mutex<Vec<Done>>,
    /// Values of transactions whose commit was asked for.
    asked: Mutex<BTreeSet<String>>,
    faults: Mutex<Vec<FaultGuard>>,
    /// Producers that nobody uses any more.
    staying: Mutex<Vec<(Producer, Transactions)>>,
}

/// How long a program waits for one thing, all in all.
const PATIENCE: Duration = Duration::from_secs(120);

impl Scene {
    fn producer(&self, id: usize) -> Producer {
        let request_timeout = Duration::from_millis(self.work.request_timeout_ms);
        let builder = self.shell.producer().transactional_id(IDS[id]);
        let builder = builder.linger(Duration::from_millis(self.work.linger_ms));
        let builder = builder.transaction_timeout(Duration::from_millis(self.work.timeout_ms));
        let builder = builder.request_timeout(request_timeout);
        let builder = builder.delivery_timeout(Duration::from_secs(10));
        builder.max_block(Duration::from_secs(3)).build().unwrap()
    }

    async fn play(&self, number: usize, program: &Program) {
        pass(program.begins_after).await;
        for (life, (deeds, farewell)) in program.lives.iter().enumerate() {
            let producer = self.producer(program.id);
            if let Some(mut transactions) = self.initialise(&producer).await {
                self.live((number, life), deeds, &mut transactions).await;
                match farewell {
                    Farewell::Stay => {
                        let staying = (producer, transactions);
                        self.staying.lock().unwrap().push(staying);
                        continue;
                    }
                    Farewell::Drop => continue,
                    Farewell::Close => drop(transactions),
                }
            }
            let closing = tokio::time::timeout(PATIENCE, producer.close()).await;
            assert!(closing.is_ok(), "a close that does not return");
        }
    }

    async fn initialise(&self, producer: &Producer) -> Option<Transactions> {
        for _ in 0..40 {
            match producer.init_transactions().await {
                Ok(transactions) => return Some(transactions),
                Err(error) if error.remedy() == Remedy::CallAgain => {}
                Err(_) => return None,
            }
        }
        None
    }

    async fn live(
        &self,
        (program, life): (usize, usize),
        deeds: &[Deed],
        transactions: &mut Transactions,
    ) {
        for (at, deed) in deeds.iter().enumerate() {
            match deed {
                Deed::Transact(plan) => {
                    let name = format!("{program}.{life}.{at:02}");
                    // Offsets of a program grow.
                    let offset = i64::try_from(life * 100 + at + 1).unwrap();
                    self.transact((program, &name, offset), plan, transactions)
                        .await;
                }
                Deed::Rest(time) => pass(*time).await,
                Deed::Look => self.look(),
                Deed::Fault(fault) => {
                    let fault = strike(&self.shell.cluster, fault);
                    self.faults.lock().unwrap().extend(fault);
                }
            }
        }
    }

    async fn transact(
        &self,
        (program, name, offset): (usize, &str, i64),
        plan: &Plan,
        transactions: &mut Transactions,
    ) {
        // One that is fenced, or whose transaction before hangs, begins none.
        let Ok(transaction) = transactions.begin().await else {
            return;
        };
        let mut done = Done {
            program,
            accepted: Vec::new(),
            refused: false,
            offset: None,
            told: Told::Nothing,
        };
        for (at, (partition, rest)) in plan.sends.iter().enumerate() {
            pass(*rest).await;
            let value = format!("{name} {at}");
            match transaction.send(to(*partition, &value)).await {
                Ok(()) => done.accepted.push((*partition, value)),
                Err(error) => {
                    assert!(!error.possibly_written(), "refused: {error}");
                    done.refused = true;
                }
            }
        }
        if plan.offset {
            let read = [ConsumedOffset::next("orders", 0, offset)];
            let group = ConsumerGroup::new(group(program));
            let sent = transaction.send_offsets(read, &group).await;
            // Without an answer they may be part of it all the same, and the commit waits for them.
            let out = sent
                .as_ref()
                .is_err_and(|error| error.remedy() != Remedy::CallAgain);
            done.offset = (!out).then_some(offset);
            done.refused |= out;
        }
        if matches!(plan.end, End::Commit | End::CommitFor(_)) {
            let values = done.accepted.iter().map(|(_, value)| value.clone());
            self.asked.lock().unwrap().extend(values);
        }
        done.told = match plan.end {
            End::Commit => told(transaction.commit().await).await,
            End::CommitFor(time) => {
                let commit = tokio::time::timeout(time, transaction.commit()).await;
                match commit {
                    Ok(ended) => told(ended).await,
                    Err(_) => Told::Nothing,
                }
            }
            End::Abort => {
                let _ = transaction.abort().await;
                Told::NotCommitted
            }
            End::Drop => {
                drop(transaction);
                Told::NotCommitted
            }
        };
        self.done.lock().unwrap().push(done);
    }

    /// Nothing counts before its commit was asked for.
    fn look(&self) {
        let asked = self.asked.lock().unwrap();
        for partition in 0..PARTITIONS {
            for value in committed(&self.shell.cluster, partition) {
                assert!(asked.contains(&value), "{value} counts too early");
            }
        }
    }

    fn heal(&self) {
        self.faults.lock().unwrap().clear();
        heal(&self.shell.cluster);
    }
}

fn group(program: usize) -> String {
    format!("readers-{program}")
}

/// What a commit comes to; one that is not answered is resumed, for a while.
async fn told(mut ended: Result<(), CommitError>) -> Told {
    for _ in 0..40 {
        match ended {
            Ok(()) => return Told::Committed,
            Err(CommitError::NotCommitted(_)) => return Told::NotCommitted,
            Err(CommitError::Unanswered(commit)) => ended = commit.resume().await,
            Err(_) => return Told::Nothing,
        }
    }
    Told::Nothing
}

/// Lets the work be done, and judges it.
async fn carry_out(work: Work, met: &Met) -> Result<(), TestCaseError> {
    let shell = Shell::start();
    shell.cluster.set_transaction_version(work.level).unwrap();
    let scene = Arc::new(Scene {
        shell,
        work,
        done: Mutex::default(),
        asked: Mutex::default(),
        faults: Mutex::default(),
        staying: Mutex::default(),
    });
    let mut playing = tokio::task::JoinSet::new();
    for (number, program) in scene.work.programs.iter().cloned().enumerate() {
        let scene = Arc::clone(&scene);
        playing.spawn(async move { scene.play(number, &program).await });
    }
    let healer = Arc::clone(&scene);
    playing.spawn(async move {
        pass(FAULTS_END).await;
        healer.heal();
    });
    playing.join_all().await;
    scene.heal();
    // What nobody ends times out, and is found by the coordinators' next look.
    pass(Duration::from_millis(scene.work.timeout_ms) + Duration::from_secs(30)).await;
    scene.look();
    judge(&scene, met)
}

/// After which nothing goes wrong any more that lasts.
const FAULTS_END: Duration = Duration::from_secs(30);

fn judge(scene: &Scene, met: &Met) -> Result<(), TestCaseError> {
    let cluster = &scene.shell.cluster;
    let logs: Vec<_> = (0..PARTITIONS).map(|at| committed(cluster, at)).collect();
    for partition in 0..PARTITIONS {
        let view = cluster.partition("orders", partition).unwrap();
        prop_assert_eq!(view.last_stable_offset, view.high_watermark, "it hangs");
    }
    let done = scene.done.lock().unwrap();
    let all = done.iter().flat_map(|one| &one.accepted);
    let all: BTreeMap<&String, i32> = all.map(|(at, value)| (value, *at)).collect();
    for (partition, log) in (0..).zip(&logs) {
        for value in log {
            let sent = all.get(value).copied();
            prop_assert_eq!(sent, Some(partition), "{} was not sent there", value);
        }
        let different: BTreeSet<&String> = log.iter().collect();
        prop_assert_eq!(different.len(), log.len(), "twice: {:?}", log);
    }
    for one in &*done {
        let counting = count(one, &logs);
        let whole = counting == one.accepted.len();
        let is_right = match one.told {
            Told::Committed => whole && !one.refused,
            Told::NotCommitted => counting == 0,
            Told::Nothing => whole || counting == 0,
        };
        prop_assert!(is_right, "{counting} records count of {one:?}: {logs:?}");
        for log in &logs {
            let own = |value: &&String| one.accepted.iter().any(|(_, sent)| sent == *value);
            prop_assert!(log.iter().filter(own).is_sorted(), "{log:?}");
        }
        met.lock().unwrap().insert(match (one.told, counting) {
            (Told::Committed, _) => "committed",
            (Told::NotCommitted, _) if one.refused => "refused, and not committed",
            (Told::NotCommitted, _) => "not committed",
            (Told::Nothing, 0) => "nobody was told, and none counts",
            (Told::Nothing, _) => "nobody was told, and all count",
        });
    }
    for program in 0..scene.work.programs.len() {
        judge_offset(scene, program, (&done, &logs))?;
    }
    Ok(())
}

fn count(one: &Done, logs: &[Vec<String>]) -> usize {
    let counts = |(partition, value): &&(i32, String)| {
        let log = usize::try_from(*partition).ok().and_then(|at| logs.get(at));
        log.is_some_and(|log| log.contains(value))
    };
    one.accepted.iter().filter(counts).count()
}

/// A program's offsets grow: in the end the newest counts that was sent with what counts.
fn judge_offset(
    scene: &Scene,
    program: usize,
    (done, logs): (&[Done], &[Vec<String>]),
) -> Result<(), TestCaseError> {
    let views = scene.shell.cluster.group_offsets(&group(program));
    let views = views.unwrap_or_default();
    prop_assert!(views.iter().all(|view| !view.unstable), "{views:?}");
    let found = views.iter().filter_map(|view| view.offset).max();
    let own = done.iter().filter(|one| one.program == program);
    let own: Vec<&Done> = own.filter(|one| one.offset.is_some()).collect();
    let counts = |one: &&&Done| one.told == Told::Committed || count(one, logs) > 0;
    let sure = own.iter().filter(counts).filter_map(|one| one.offset).max();
    // Of one without records nobody can say, if its program was not told.
    let unsure = |one: &&&Done| one.told == Told::Nothing && one.accepted.is_empty();
    let unsure = own.iter().filter(unsure).filter_map(|one| one.offset);
    let is_right = found == sure || unsure.clone().any(|offset| Some(offset) == found);
    prop_assert!(
        is_right && found >= sure,
        "the group stands at {found:?}, not {sure:?}"
    );
    Ok(())
}

#[test]
fn whatever_is_done_and_befalls_transactions_count_whole_or_not_at_all() {
    let reach = Reach {
        seeds: SEEDS,
        things: 5,
    };
    println!("{}", seeded::run(reach, work, carry_out));
}
