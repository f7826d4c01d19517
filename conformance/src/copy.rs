//! `conformance copy`: reads a topic, writes each record to another one, and commits what was
//! written and how far was read together. EOS-06 kills it at random points and starts it again.
//!
//! Partition goes to partition. It ends where the topic ended when it was started, and says a line
//! for each transaction that is committed.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use kafka_producer::{
    CommitError, ConsumedOffset, ConsumerGroup, LaneCommit, Lanes, Producer, ProducerBuilder,
    Record, Transaction,
};
use tokio::time::sleep;

use crate::case::{Objection, expect_eq};
use crate::client;
use crate::committed::committed_records;
use crate::io::connection::Connection;
use crate::io::transcript::Transcript;
use crate::wire::Request;
use crate::wire::answer::{ApiVersions, ApiVersionsAnswer, LATEST, ListOffsets, Metadata};
use crate::wire::error_code::ErrorCode;
use crate::wire::group_offsets::{FindGroupCoordinator, StableOffsets};
use crate::wire::records::{Fetch, FetchCommitted, StoredBatch, StoredRecord, read_batches};

/// What to copy.
#[derive(Clone, Debug, Args)]
pub struct CopyArguments {
    /// Where to ask first, HOST:PORT, several separated by commas
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// The topic to read
    #[arg(long)]
    pub from: String,
    /// The topic to write, with as many partitions
    #[arg(long)]
    pub to: String,
    /// The group whose offsets say how far the first was read
    #[arg(long)]
    pub group: String,
    /// The name of the transactions, the same after a restart
    #[arg(long)]
    pub transactional_id: String,
    /// Records of a partition in one transaction, at most
    #[arg(long, default_value_t = 100)]
    pub records: usize,
    /// Over how many lanes; with one each commit is awaited before the next transaction begins
    #[arg(long, default_value_t = 1)]
    pub lanes: usize,
    /// Stops for ever within the transaction behind so many, with a record written that must not
    /// count: for whoever kills it
    #[arg(long, value_name = "TRANSACTIONS")]
    pub park_after: Option<usize>,
}

/// Copies until the end, and says so on `out`.
///
/// # Errors
///
/// Why it cannot go on.
///
/// # Cancellation
///
/// The transaction that is open is aborted.
pub async fn copy(
    arguments: &CopyArguments,
    out: &mut (dyn Write + Send),
) -> Result<(), Objection> {
    let builder = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .transactional_id(&arguments.transactional_id);
    match arguments.lanes {
        1 => one_after_the_other(arguments, builder, out).await?,
        _ => over_lanes(arguments, &builder, out).await?,
    }
    say(out, "ends")
}

async fn one_after_the_other(
    arguments: &CopyArguments,
    builder: ProducerBuilder,
    out: &mut (dyn Write + Send),
) -> Result<(), Objection> {
    let producer = client::build(builder)?;
    // First: whoever of this id was before commits nothing from here on, so the offsets stand.
    let transactions = producer.init_transactions().await;
    let mut transactions = transactions.map_err(|error| failed("init_transactions", error))?;
    let mut sources = sources(arguments).await?;
    say(out, "begins")?;
    for done in 0.. {
        let transaction = transactions.begin().await;
        let transaction = transaction.map_err(|error| failed("begin", error))?;
        if arguments.park_after == Some(done) {
            park(&transaction, arguments, out).await?;
        }
        if fill(&transaction, &mut sources, arguments).await? == 0 {
            break;
        }
        let mut committed = transaction.commit().await;
        while let Err(CommitError::Unanswered(commit)) = committed {
            committed = commit.resume().await;
        }
        committed.map_err(|error| failed("commit", error))?;
        say(out, "committed")?;
    }
    Ok(())
}

async fn over_lanes(
    arguments: &CopyArguments,
    builder: &ProducerBuilder,
    out: &mut (dyn Write + Send),
) -> Result<(), Objection> {
    let lanes = Lanes::start(builder, arguments.lanes).await;
    let mut lanes = lanes.map_err(|error| failed("start lanes", error))?;
    let mut sources = sources(arguments).await?;
    say(out, "begins")?;
    let mut commits: VecDeque<LaneCommit> = VecDeque::new();
    let (mut more, mut begun) = (true, 0);
    while more || !commits.is_empty() {
        if more {
            let transaction = lanes.begin().await;
            let transaction = transaction.map_err(|error| failed("begin", error))?;
            if arguments.park_after == Some(begun) {
                park(&transaction, arguments, out).await?;
            }
            begun += 1;
            more = fill(&transaction, &mut sources, arguments).await? > 0;
            if more {
                commits.push_back(transaction.commit());
            }
        }
        if (!more || commits.len() == arguments.lanes)
            && let Some(mut first) = commits.pop_front()
        {
            let committed = first.wait().await;
            committed.map_err(|error| failed("commit", error))?;
            say(out, "committed")?;
        }
    }
    Ok(())
}

async fn park(
    transaction: &Transaction<'_>,
    arguments: &CopyArguments,
    out: &mut (dyn Write + Send),
) -> Result<(), Objection> {
    let record = Record::to(arguments.to.as_str()).partition(0);
    let written = transaction.deliver(record.value("must not count")).await;
    written.map_err(|error| failed("send", error))?;
    say(out, "parked")?;
    std::future::pending().await
}

fn say(out: &mut (dyn Write + Send), words: &str) -> Result<(), Objection> {
    let said = writeln!(out, "{words}").and_then(|()| out.flush());
    said.map_err(|error| failed("standard output", error))
}

fn failed(step: &str, error: impl std::fmt::Display) -> Objection {
    Objection::new(step, "done", error)
}

/// Puts records and how far they were read into a transaction; how many, none if all is copied.
async fn fill(
    transaction: &Transaction<'_>,
    sources: &mut [Source],
    arguments: &CopyArguments,
) -> Result<usize, Objection> {
    let group = ConsumerGroup::new(arguments.group.as_str());
    let (mut count, mut offsets) = (0, Vec::new());
    for source in sources.iter_mut() {
        let records = source.next(arguments.records).await?;
        let copies = records.iter().map(|record| {
            let copy = Record::to(arguments.to.as_str()).partition(source.partition);
            match record.content.value.as_deref() {
                Some(value) => copy.value(value),
                None => copy,
            }
        });
        let sent = transaction.send_all(copies).await;
        sent.map_err(|error| failed("send", error))?;
        if let Some(last) = records.last() {
            let from = arguments.from.as_str();
            offsets.push(ConsumedOffset::next(
                from,
                source.partition,
                last.offset + 1,
            ));
        }
        count += records.len();
    }
    let sent = transaction.send_offsets(offsets, &group).await;
    sent.map_err(|error| failed("send_offsets", error))?;
    Ok(count)
}

/// A partition that is read.
struct Source {
    topic: String,
    partition: i32,
    leader: Connection,
    fetch_version: i16,
    /// The next offset to fetch, and where to end.
    offset: i64,
    end: i64,
    fetched: VecDeque<StoredRecord>,
}

/// Largest Fetch answer asked for: some transactions' worth.
const FETCH_BYTES_MAX: i32 = 64 * 1024;

impl Source {
    /// At most so many records; none at the end.
    async fn next(&mut self, count_max: usize) -> Result<Vec<StoredRecord>, Objection> {
        while self.fetched.is_empty() && self.offset < self.end {
            self.fetch().await?;
        }
        let count = count_max.min(self.fetched.len());
        Ok(self.fetched.drain(..count).collect())
    }

    async fn fetch(&mut self) -> Result<(), Objection> {
        let (topic, offset) = (self.topic.clone(), self.offset);
        let request = FetchCommitted(Fetch {
            topic,
            partition: self.partition,
            offset,
            wait_ms_max: 500,
            bytes_max: FETCH_BYTES_MAX,
        });
        let step = format!("Fetch of {} at offset {offset}", self.partition);
        let answer = self.leader.ask(&request, self.fetch_version).await?;
        expect_eq(&step, ErrorCode::NONE, answer.error)?;
        let batches = read_batches(&answer.records).map_err(|error| failed(&step, error))?;
        self.offset = batches.last().map_or(offset, StoredBatch::next_offset);
        let records = committed_records(batches, &answer.aborted).into_iter();
        // The first batch may begin before the offset.
        self.fetched
            .extend(records.filter(|record| (offset..self.end).contains(&record.offset)));
        Ok(())
    }
}

async fn sources(arguments: &CopyArguments) -> Result<Vec<Source>, Objection> {
    let transcript = Transcript::default();
    let bootstrap = arguments.bootstrap.split(',').next().unwrap_or_default();
    let mut connection = Connection::open(bootstrap, &transcript).await?;
    let apis = connection.ask(&ApiVersions, 0).await?;
    let topic = arguments.from.as_str();
    let question = Metadata::of(&[topic]);
    let metadata = connection.ask(&question, newest::<Metadata>(&apis)).await?;
    let row = metadata.topic(topic);
    let row = row.ok_or_else(|| Objection::new("Metadata", format!("topic {topic}"), "no row"))?;
    let partitions: Vec<i32> = row.partitions.iter().map(|p| p.index).collect();
    let begins = stable_offsets(arguments, (&mut connection, &apis), &partitions).await?;
    let mut sources = Vec::new();
    for (partition, begin) in row.partitions.iter().zip(begins) {
        let leader = metadata.address(partition.leader);
        let leader = leader.ok_or_else(|| failed("Metadata", "a partition has no leader"))?;
        let mut leader = Connection::open(leader, &transcript).await?;
        let request = ListOffsets {
            topic: topic.to_owned(),
            partitions: vec![partition.index],
            timestamp: LATEST,
        };
        let rows = leader.ask(&request, newest::<ListOffsets>(&apis)).await?;
        let [end] = rows.as_slice() else {
            return Err(failed("ListOffsets", "not one row"));
        };
        expect_eq("ListOffsets", ErrorCode::NONE, end.error)?;
        sources.push(Source {
            topic: topic.to_owned(),
            partition: partition.index,
            leader,
            fetch_version: newest::<FetchCommitted>(&apis),
            offset: begin,
            end: end.offset,
            fetched: VecDeque::new(),
        });
    }
    Ok(sources)
}

/// Where the group goes on in each of the partitions; at 0 where it has never been.
async fn stable_offsets(
    arguments: &CopyArguments,
    (connection, apis): (&mut Connection, &ApiVersionsAnswer),
    partitions: &[i32],
) -> Result<Vec<i64>, Objection> {
    const ASKED_MAX: u32 = 600;
    const BETWEEN: Duration = Duration::from_millis(20);
    let group = arguments.group.clone();
    let find = FindGroupCoordinator { group };
    let request = StableOffsets {
        group: arguments.group.clone(),
        topic: arguments.from.clone(),
        partitions: partitions.to_vec(),
    };
    let transcript = Transcript::default();
    let mut observed = String::new();
    for _ in 0..ASKED_MAX {
        let version = newest::<FindGroupCoordinator>(apis);
        let found = connection.ask(&find, version).await?;
        if found.error == ErrorCode::NONE {
            let mut coordinator = Connection::open(&found.address, &transcript).await?;
            let version = newest::<StableOffsets>(apis);
            let (error, rows) = coordinator.ask(&request, version).await?;
            let known = rows.iter().all(|row| row.error == ErrorCode::NONE);
            if error == ErrorCode::NONE && known && rows.len() == partitions.len() {
                let offset_of = |partition: &i32| {
                    let row = rows.iter().find(|row| row.partition == *partition);
                    row.map_or(0, |row| row.offset.max(0))
                };
                return Ok(partitions.iter().map(offset_of).collect());
            }
            observed = format!("code {error}, {rows:?}");
        } else {
            observed = format!("the coordinator: code {}", found.error);
        }
        sleep(BETWEEN).await;
    }
    Err(Objection::new("OffsetFetch", "stable offsets", observed))
}

fn newest<R: Request>(apis: &ApiVersionsAnswer) -> i16 {
    let offered = apis.range(R::API_KEY);
    offered.map_or(R::VERSION_MAX, |range| range.max.min(R::VERSION_MAX))
}
