//! Read, process, write: a program that is killed again and again copies each record once.

use std::collections::VecDeque;
use std::env;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;
use kafka_producer::{Delivery, Record};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::Capability;
use crate::topic::Topic;
use crate::wire::records::StoredRecord;

pub(super) const CASES: &[Case] = &[Case {
    id: "EOS-06",
    level: Level::Client,
    sentence: "a copy job that is killed at 20 random points and started again under its \
               transactional id copies each record once, in order; over lanes too",
    source: "KIP-98, KIP-447; KafkaProducer.java sendOffsetsToTransaction",
    needs: &[Capability::Transactions],
    run: |c| Box::pin(copies_once(c)),
}];

/// Repeats a run: the points at which the program is killed follow from it.
const SEED_VARIABLE: &str = "CONFORMANCE_COPY_SEED";
const RECORDS: u64 = 100_000;
const PARTITIONS: i32 = 3;
const KILLS: usize = 20;
/// Between two kills so many transactions are let through at most, and then as much time.
const COMMITS_MAX: usize = 5;
const DELAY_MAX_US: u64 = 10_000;
/// For anything that the program does.
const IN_TIME: Duration = Duration::from_secs(30);

async fn copies_once(c: Context) -> Result<(), Objection> {
    let seed = match env::var(SEED_VARIABLE) {
        Err(_) => c.now_ms().unsigned_abs(),
        Ok(given) => given
            .parse()
            .map_err(|_| Objection::new(SEED_VARIABLE, "a number", given))?,
    };
    let copied = copy_under_kills(&c, Rng::with_seed(seed)).await;
    copied.map_err(|objection| objection.within(format!("{SEED_VARIABLE}={seed}")))
}

async fn copy_under_kills(c: &Context, mut rng: Rng) -> Result<(), Objection> {
    let from = c.topic(PARTITIONS).await?;
    write_numbers(c, &from).await?;
    for lanes in ["1", "4"] {
        let to = c.topic(PARTITIONS).await?;
        let copied = copy_over(c, (&from, &to, lanes), &mut rng).await;
        copied.map_err(|objection| objection.within(format!("lanes: {lanes}")))?;
    }
    Ok(())
}

async fn copy_over(
    c: &Context,
    what: (&Topic, &Topic, &str),
    rng: &mut Rng,
) -> Result<(), Objection> {
    // At a random point nothing may be open; this one certainly leaves something behind.
    let mut job = Job::start(c, what, &["--park-after", "3"])?;
    job.until(usize::MAX, "parked").await?;
    job.kill().await?;
    for _ in 0..KILLS {
        let wanted = rng.usize(0..=COMMITS_MAX);
        let delay = Duration::from_micros(rng.u64(0..DELAY_MAX_US));
        let mut job = Job::start(c, what, &[])?;
        job.until(wanted, "nothing else").await?;
        sleep(delay).await;
        job.kill().await?;
    }
    let mut job = Job::start(c, what, &[])?;
    job.until(usize::MAX, "ends").await?;
    job.ended().await?;
    judge(c, what.1).await
}

/// The program that copies, running.
struct Job {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Job {
    fn start(
        c: &Context,
        (from, to, lanes): (&Topic, &Topic, &str),
        more: &[&str],
    ) -> Result<Self, Objection> {
        let program = program()?;
        let started = Command::new(&program)
            .args(["copy", "--bootstrap", &c.target().bootstrap().join(",")])
            .args(["--from", &from.name, "--to", &to.name])
            // Named as the topic, so that no other run has them.
            .args(["--group", &to.name, "--transactional-id", &to.name])
            .args(["--lanes", lanes])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let refused = |error: &dyn std::fmt::Display| {
            let step = format!("start {}", program.display());
            Objection::new(step, "it runs", error)
        };
        let mut child = started.map_err(|error| refused(&error))?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| refused(&"it has no output"))?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines })
    }

    /// Reads what it says until so many transactions are committed, or it says this.
    async fn until(&mut self, wanted: usize, said: &str) -> Result<(), Objection> {
        let mut commits = 0;
        while commits < wanted {
            let line = timeout(IN_TIME, self.lines.next_line()).await;
            let line = line.map_err(|_| self.objection("a line in time", "none"))?;
            let line = line.map_err(|error| self.objection("a line", &error.to_string()))?;
            match line.as_deref() {
                Some("begins") => {}
                Some("committed") => commits += 1,
                Some(line) if line == said => return Ok(()),
                _ => return Err(self.died(&format!("{line:?}")).await),
            }
        }
        Ok(())
    }

    /// SIGKILL: nothing of the program runs any more.
    async fn kill(mut self) -> Result<(), Objection> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(self.objection("it runs until it is killed", &status.to_string()));
        }
        let killed = self.child.kill().await;
        killed.map_err(|error| self.objection("killed", &error.to_string()))
    }

    async fn ended(mut self) -> Result<(), Objection> {
        let status = timeout(IN_TIME, self.child.wait()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            status => Err(self.died(&format!("{status:?}")).await),
        }
    }

    /// It ended by itself; with what it said of that.
    async fn died(&mut self, observed: &str) -> Objection {
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Without words the objection still stands.
            let _ = timeout(IN_TIME, stderr.read_to_string(&mut words)).await;
        }
        self.objection("it goes on", &format!("{observed}: {}", words.trim()))
    }

    fn objection(&self, expected: &str, observed: &str) -> Objection {
        Objection::new("the program", expected, observed)
    }
}

/// This very program, or the one beside the test that this is.
fn program() -> Result<PathBuf, Objection> {
    let found = env::current_exe();
    let here = found.map_err(|error| Objection::new("this program", "its path", error))?;
    let name = format!("conformance{}", env::consts::EXE_SUFFIX);
    let folder = here.ancestors().skip(1).find(|at| !at.ends_with("deps"));
    Ok(folder.map_or_else(|| PathBuf::from(&name), |folder| folder.join(&name)))
}

/// Each value is a number; they go to the partitions in turn.
async fn write_numbers(c: &Context, topic: &Topic) -> Result<(), Objection> {
    const WINDOW: usize = 10_000;
    let producer = client::build(c.client())?;
    let mut window: VecDeque<Delivery> = VecDeque::with_capacity(WINDOW);
    for (number, partition) in (0..RECORDS).zip((0..PARTITIONS).cycle()) {
        let value = number.to_string();
        let record = Record::to(topic.name.as_str()).partition(partition);
        if window.len() == WINDOW
            && let Some(delivery) = window.pop_front()
        {
            let written = delivery.await;
            written.map_err(|error| Objection::new("the input", "written", error))?;
        }
        window.push_back(client::send(&producer, record.value(&value)).await?);
    }
    let closed = producer.close().await;
    closed.map_err(|error| Objection::new("the input", "written", error))
}

/// Objects unless the output that counts is the input, in each partition.
async fn judge(c: &Context, to: &Topic) -> Result<(), Objection> {
    let mut aborted = 0;
    for partition in 0..PARTITIONS {
        let step = format!("partition {partition} of the output");
        let found = c.committed(to, partition).await?;
        aborted += found.aborted.len();
        let values: Vec<String> = found.records.iter().map(StoredRecord::value_text).collect();
        let expected = (0..RECORDS).zip((0..PARTITIONS).cycle());
        let expected: Vec<String> = expected
            .filter(|(_, at)| *at == partition)
            .map(|(number, _)| number.to_string())
            .collect();
        if let Some(at) = (0..)
            .zip(values.iter().zip(&expected))
            .find(|(_, (v, e))| v != e)
        {
            let (place, (value, expected)) = at;
            return Err(Objection::new(
                format!("{step}, record {place}"),
                expected,
                value,
            ));
        }
        expect_eq(format!("{step}: records"), expected.len(), values.len())?;
    }
    match aborted {
        // The one that was parked at least.
        0 => Err(Objection::new(
            "transactions that were killed",
            "some",
            "none",
        )),
        _ => Ok(()),
    }
}
