//! The same deeds on any target and on a recorded run of real Kafka: what the client is told of
//! each, and what counts in the end.
//!
//! A seed draws what is done, and which answers are lost. It is done one after the other; what goes
//! wrong goes wrong in a proxy and is waited for, so that no timing has a say in a verdict. The
//! recording is what Apache Kafka 4.3.1 made of it.
//!
//! *Source*: the classes of Jepsen's histories: what happened, what did not, what nobody knows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_producer::{
    CommitError, Outcome, ProduceError, Producer, ProducerBuilder, Transaction, Transactions,
};

use super::txn_stage::{IN_TIME, Stage, done, initialised};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::runner::Schedules;
use crate::target::Capability;
use crate::wire::Request;
use crate::wire::produce::Produce;
use crate::wire::transactional::EndTxn;

pub(super) const CASES: &[Case] = &[Case {
    id: "EOS-20",
    level: Level::Client,
    sentence: "what the client is told of records, commits and aborts, of answers that are lost, \
               of what is refused, fenced or in doubt, is what it was told on a recorded run of \
               real Kafka, and so is what counts in the end",
    source: "recorded from Apache Kafka 4.3.1",
    needs: &[Capability::Transactions],
    run: |c| Box::pin(as_recorded(c)),
}];

/// What was recorded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recorded {
    Verdicts,
    Requests,
    RequestsOfLevelOne,
}

impl Recorded {
    const fn text(self) -> &'static str {
        match self {
            Self::Verdicts => include_str!("../../goldens/verdicts-4.3.1.txt"),
            Self::Requests => include_str!("../../goldens/requests-4.3.1.txt"),
            Self::RequestsOfLevelOne => include_str!("../../goldens/requests-4.3.1-tv1.txt"),
        }
    }

    /// What it is called beside a recording of exchanges.
    const fn name(self) -> &'static str {
        match self {
            Self::Verdicts => "verdicts",
            Self::Requests | Self::RequestsOfLevelOne => "requests",
        }
    }
}

const SEEDS: [u64; 3] = [1, 2, 3];
const DEEDS: usize = 30;

/// An answer that is lost once.
#[derive(Clone, Copy, Debug)]
enum Lost {
    None,
    OfProduce,
    OfEndTxn,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A record of no transaction.
    Record(Lost),
    /// One that the topic does not take.
    TooLarge,
    /// One that nobody answers before its producer is closed.
    RecordInDoubt,
    /// A transaction of so many records.
    Commit(usize, Lost),
    Abort(usize, Lost),
    /// The commit of a transaction of which a record was refused.
    CommitOfRefused,
    /// The commit of a process that another has fenced.
    CommitOfFenced,
    /// A commit that nobody answers before its producer is closed.
    CommitInDoubt,
}

impl Deed {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let size = random.usize(1..=3);
        let lost = match random.u8(..4) {
            0 => Lost::OfProduce,
            1 => Lost::OfEndTxn,
            _ => Lost::None,
        };
        match random.u8(..14) {
            0..3 => Self::Record(match lost {
                Lost::OfEndTxn => Lost::None,
                lost => lost,
            }),
            3 => Self::TooLarge,
            4 => Self::RecordInDoubt,
            5..9 => Self::Commit(size, lost),
            9..11 => Self::Abort(size, lost),
            11 => Self::CommitOfRefused,
            12 => Self::CommitOfFenced,
            _ => Self::CommitInDoubt,
        }
    }

    /// Its class: deeds without their numbers.
    const fn class(self) -> &'static str {
        match self {
            Self::Record(_) => "record",
            Self::TooLarge => "too large",
            Self::RecordInDoubt => "record in doubt",
            Self::Commit(..) => "commit",
            Self::Abort(..) => "abort",
            Self::CommitOfRefused => "commit of what was refused",
            Self::CommitOfFenced => "commit of a fenced process",
            Self::CommitInDoubt => "commit in doubt",
        }
    }
}

/// What the client is told.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Verdict {
    Ok,
    Fail,
    Info,
}

impl Verdict {
    fn of_record<T>(told: Result<T, ProduceError>) -> Self {
        match told {
            Ok(_) => Self::Ok,
            Err(error) if error.possibly_written() => Self::Info,
            Err(_) => Self::Fail,
        }
    }

    fn of_commit(told: &Result<(), CommitError>) -> Self {
        match told {
            Ok(()) => Self::Ok,
            Err(CommitError::NotCommitted(_)) => Self::Fail,
            Err(_) => Self::Info,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        })
    }
}

/// A process with a way to the brokers of its own.
struct Process<T> {
    path: Proxy,
    producer: Producer,
    transactions: T,
}

/// Who does what is to be done.
struct Player {
    /// Of the transactions.
    stage: Stage,
    /// Of records of no transaction.
    plain: Stage,
    sender: Option<Process<()>>,
    newest: Option<Process<Transactions>>,
    /// Of the next value.
    number: usize,
}

impl Player {
    async fn start(c: &Context) -> Result<Self, Objection> {
        Ok(Self {
            stage: stage(c).await?,
            plain: stage(c).await?,
            sender: None,
            newest: None,
            number: 0,
        })
    }

    fn value(&mut self) -> String {
        self.number += 1;
        format!("v-{:03}", self.number)
    }

    async fn sender(&mut self) -> Result<Process<()>, Objection> {
        if let Some(sender) = self.sender.take() {
            return Ok(sender);
        }
        let path = self.plain.context.path(Trouble::None).await?;
        let producer = client::build(patient(path.client()))?;
        Ok(Process {
            path,
            producer,
            transactions: (),
        })
    }

    async fn newest(&mut self) -> Result<Process<Transactions>, Objection> {
        match self.newest.take() {
            Some(newest) => Ok(newest),
            None => self.process().await,
        }
    }

    /// Another process, which fences the one before.
    async fn process(&self) -> Result<Process<Transactions>, Objection> {
        let path = self.stage.context.path(Trouble::None).await?;
        let builder = patient(self.stage.builder_on(path.client()));
        let builder = builder.transaction_timeout(IN_TIME);
        let (producer, transactions) = initialised(client::build(builder)?).await?;
        Ok(Process {
            path,
            producer,
            transactions,
        })
    }

    async fn play(&mut self, deed: Deed) -> Result<Verdict, Objection> {
        match deed {
            Deed::Record(lost) => self.record(lost, "").await,
            Deed::TooLarge => self.record(Lost::None, TOO_LARGE).await,
            Deed::RecordInDoubt => self.record_in_doubt().await,
            Deed::Commit(size, lost) => self.transact(size, lost, "commit").await,
            Deed::Abort(size, lost) => self.transact(size, lost, "abort").await,
            Deed::CommitOfRefused => self.commit_of_refused().await,
            Deed::CommitOfFenced => self.commit_of_fenced().await,
            Deed::CommitInDoubt => self.commit_in_doubt().await,
        }
    }

    async fn record(&mut self, lost: Lost, padding: &str) -> Result<Verdict, Objection> {
        let sender = self.sender().await?;
        let value = format!("{}{padding}", self.value());
        lost.begin(&sender.path);
        let told = sender.producer.deliver(self.plain.record(0, &value)).await;
        lost.expect(&sender.path)?;
        self.sender = Some(sender);
        Ok(Verdict::of_record(told))
    }

    async fn record_in_doubt(&mut self) -> Result<Verdict, Objection> {
        let Process { path, producer, .. } = self.sender().await?;
        let value = self.value();
        path.begin(Trouble::Held(Produce::API_KEY));
        let delivery = client::send(&producer, self.plain.record(0, &value)).await?;
        let closing = closed_once_held(&self.plain.context, &path, &producer);
        let (outcome, closed) = tokio::join!(delivery.outcome(), closing);
        closed?;
        arrived::<Produce>(&self.plain.context, &path).await?;
        Ok(match outcome {
            Outcome::Written(_) => Verdict::Ok,
            Outcome::NotWritten(_) => Verdict::Fail,
            Outcome::Unknown(_) => Verdict::Info,
        })
    }

    /// Writes `size` records, each to one of the partitions.
    async fn write(&mut self, to: &Transaction<'_>, size: usize) -> Result<(), Objection> {
        for at in 0..size {
            let (value, partition) = (self.value(), i32::from(at % 2 == 1));
            let written = to.deliver(self.stage.record(partition, &value)).await;
            done("a record of it", written)?;
        }
        Ok(())
    }

    async fn transact(&mut self, size: usize, lost: Lost, end: &str) -> Result<Verdict, Objection> {
        let mut newest = self.newest().await?;
        let transaction = done("begin", newest.transactions.begin().await)?;
        lost.begin(&newest.path);
        self.write(&transaction, size).await?;
        let verdict = match end {
            "commit" => Verdict::of_commit(&transaction.commit().await),
            _ => match transaction.abort().await {
                Ok(()) => Verdict::Ok,
                Err(_) => Verdict::Info,
            },
        };
        lost.expect(&newest.path)?;
        self.newest = Some(newest);
        Ok(verdict)
    }

    async fn commit_of_refused(&mut self) -> Result<Verdict, Objection> {
        let mut newest = self.newest().await?;
        let transaction = done("begin", newest.transactions.begin().await)?;
        self.write(&transaction, 1).await?;
        let value = format!("{}{TOO_LARGE}", self.value());
        let refused = transaction.deliver(self.stage.record(1, &value)).await;
        expect_eq(
            "the large record",
            Verdict::Fail,
            Verdict::of_record(refused),
        )?;
        let verdict = Verdict::of_commit(&transaction.commit().await);
        self.newest = Some(newest);
        Ok(verdict)
    }

    async fn commit_of_fenced(&mut self) -> Result<Verdict, Objection> {
        let mut older = self.newest().await?;
        let transaction = done("begin", older.transactions.begin().await)?;
        self.write(&transaction, 1).await?;
        self.newest = Some(self.process().await?);
        Ok(Verdict::of_commit(&transaction.commit().await))
    }

    async fn commit_in_doubt(&mut self) -> Result<Verdict, Objection> {
        let mut newest = self.newest().await?;
        let transaction = done("begin", newest.transactions.begin().await)?;
        self.write(&transaction, 1).await?;
        newest.path.begin(Trouble::Held(EndTxn::API_KEY));
        let closing = closed_once_held(&self.stage.context, &newest.path, &newest.producer);
        let (told, closed) = tokio::join!(transaction.commit(), closing);
        closed?;
        let verdict = Verdict::of_commit(&told);
        arrived::<EndTxn>(&self.stage.context, &newest.path).await?;
        Ok(verdict)
    }

    /// What counts in the end, by partition.
    async fn counts(&self) -> Result<Vec<String>, Objection> {
        let records = self.plain.context.records(&self.plain.topic, 0).await?;
        let values: Vec<String> = records.iter().map(|record| record.value_text()).collect();
        let mut lines = vec![format!("records: {}", values.join(" "))];
        for partition in 0..2 {
            let values = self.stage.committed(partition).await?;
            lines.push(format!("partition {partition}: {}", values.join(" ")));
        }
        Ok(lines)
    }
}

/// Half of the deeds are answered by a retry, which need not wait for long; no time-out is to
/// decide what the client is told, however busy the machine.
fn patient(builder: ProducerBuilder) -> ProducerBuilder {
    let soon = Duration::from_millis(10);
    let builder = builder.retry_backoff(soon).reconnect_backoff(soon);
    builder.max_block(IN_TIME)
}

/// More than a topic takes.
const TOO_LARGE: &str = const {
    match str::from_utf8(&[b'x'; 4_000]) {
        Ok(text) => text,
        Err(_) => "",
    }
};

async fn stage(c: &Context) -> Result<Stage, Objection> {
    let topic = c.topic_with(2, &[("max.message.bytes", "2000")]).await?;
    let context = c.clone();
    Ok(Stage { context, topic })
}

impl Lost {
    fn begin(self, path: &Proxy) {
        path.begin(match self {
            Self::None => Trouble::None,
            Self::OfProduce => Trouble::ReplyLost(Produce::API_KEY),
            Self::OfEndTxn => Trouble::ReplyLost(EndTxn::API_KEY),
        });
    }

    /// Objects unless it was.
    fn expect(self, path: &Proxy) -> Result<(), Objection> {
        let wanted = u64::from(!matches!(self, Self::None));
        expect_eq("answers lost", wanted, path.hits())
    }
}

/// Closes a producer at once when its request is held.
async fn closed_once_held(c: &Context, path: &Proxy, producer: &Producer) -> Result<(), Objection> {
    let patience = c.patience("the request is held".to_owned());
    while path.hits() == 0 {
        patience.wait("it has not come by".to_owned()).await?;
    }
    // What it says of the rest is not asked here.
    let _ = producer.close_timeout(Duration::ZERO).await;
    Ok(())
}

/// Lets go of what is held, and waits until it was answered.
async fn arrived<R: Request>(c: &Context, path: &Proxy) -> Result<(), Objection> {
    path.release();
    let patience = c.patience("what was held is answered".to_owned());
    while path.late_answer::<R>().is_none() {
        patience.wait("it is not".to_owned()).await?;
    }
    Ok(())
}

/// Everything that a seed draws, line by line.
async fn play(c: &Context, seed: u64) -> Result<Vec<String>, Objection> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut player = Player::start(c).await?;
    let mut lines = vec![format!("seed {seed}")];
    let mut classes: BTreeMap<(&str, Verdict), usize> = BTreeMap::new();
    for number in 0..DEEDS {
        let deed = Deed::draw(&mut random);
        let played = player.play(deed).await;
        let verdict = played.map_err(|objection| {
            objection.within(format!("seed {seed}, deed {number}, {deed:?}"))
        })?;
        lines.push(format!("{number:02} {deed:?}: {verdict}"));
        *classes.entry((deed.class(), verdict)).or_default() += 1;
    }
    let classes = classes.iter();
    lines.extend(classes.map(|((class, verdict), count)| format!("{class}: {count} {verdict}")));
    lines.extend(player.counts().await?);
    Ok(lines)
}

async fn as_recorded(c: Context) -> Result<(), Objection> {
    let mut lines = Vec::new();
    for seed in SEEDS {
        lines.extend(play(&c, seed).await?);
    }
    expect_recorded(&c, &lines, Recorded::Verdicts)
}

/// Objects unless these lines were recorded; or records them.
pub(super) fn expect_recorded(
    c: &Context,
    lines: &[String],
    recorded: Recorded,
) -> Result<(), Objection> {
    if let Schedules::Recorded(beside) = c.schedules() {
        let file = file_beside(beside, recorded.name());
        let written = std::fs::write(&file, lines.join("\n") + "\n");
        return done(&file.display().to_string(), written);
    }
    let mut recorded = recorded.text().lines();
    for (number, line) in (1..).zip(lines) {
        let step = format!("line {number}");
        expect_eq(step, recorded.next().unwrap_or("nothing"), line.as_str())?;
    }
    let rest = recorded.next().unwrap_or("nothing");
    expect_eq("after the last line", "nothing", rest)
}

/// `requests-4.3.1.txt` beside `kafka-4.3.1.jsonl`.
fn file_beside(recording: &Path, name: &str) -> PathBuf {
    let of = recording.file_stem().unwrap_or_default().to_string_lossy();
    let of = of.strip_prefix("kafka-").unwrap_or(&of);
    recording.with_file_name(format!("{name}-{of}.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_schedules_led_to_is_named_after_the_recording_beside() {
        let recording = Path::new("goldens/kafka-4.3.1-tv1.jsonl");
        let file = file_beside(recording, Recorded::RequestsOfLevelOne.name());
        assert_eq!(file, Path::new("goldens/requests-4.3.1-tv1.txt"));
        let file = file_beside(Path::new("other"), Recorded::Verdicts.name());
        assert_eq!(file, Path::new("verdicts-other.txt"));
    }
}
