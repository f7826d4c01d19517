//! What a transactional producer sees through without a word: coordinators that move, are not there
//! or are busy, leaders that moved, topics that brokers do not know yet, lost connections.
//!
//! On real brokers all of it is real: who coordinates and who leads moves while a request is held
//! in a proxy, markers wait for a broker that stands still. Three things can only be injected, in
//! the mock: 14, which is told for the milliseconds that a coordinator takes to load; 7, for which
//! a leader waits exactly as long as the producer does; and 51 as the answer to an end, which
//! nobody gets who waits for the answer to the first.
//!
//! *Source*: `TransactionManager.java`, `Sender.java`; KIP-98, KIP-890.

use std::future::ready;
use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use kafka_producer::{ConsumedOffset, ConsumerGroup, Producer, Record, Transaction, Transactions};

use super::cluster::{ALL_IN_SYNC, TestCluster};
use super::driven::mock;
use super::txn_offsets::await_offset;
use super::txn_stage::{IN_TIME, Stage, done, expect_same, initialised};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::topic::Topic;
use crate::wire::Request;
use crate::wire::groups::TxnOffsetCommit;
use crate::wire::produce::{Produce, ProduceAnswer};
use crate::wire::transactional::{AddPartitions, EndTxn, FindCoordinator, InitTransactional};

pub(super) const CASES: &[Case] = &[Case {
    id: "TXN-49",
    level: Level::Client,
    sentence: "coordinators that load, move or are busy, leaders that are not there, and lost \
               connections are not told of: all of it is written once",
    source: "TransactionManager.java (reenqueue, lookupCoordinator)",
    needs: &[
        Capability::Transactions,
        Capability::OwnBrokers,
        Capability::LeaderMoves,
        Capability::Pause,
        Capability::Restart,
        Capability::ThreeNodes,
    ],
    run: |c| Box::pin(hidden(c)),
}];

/// The first level at which partitions join by what is written to them.
const JOINS_BY_WRITING: i16 = 2;

async fn hidden(c: Context) -> Result<(), Objection> {
    if c.target().mock().is_some() {
        by_injection(&c).await?;
    }
    let cluster = TestCluster::alike(&c).await?;
    let within = |step: &'static str| move |objection: Objection| objection.within(step);
    let lost = answers_are_lost(&cluster).await;
    lost.map_err(within("answers are lost"))?;
    let moved = all_move(&cluster).await;
    moved.map_err(within("all move"))?;
    let unknown = topic_is_unknown(&cluster).await;
    unknown.map_err(within("a topic is unknown"))?;
    let busy = coordinator_is_busy(&cluster).await;
    busy.map_err(within("the coordinator is busy"))?;
    if cluster.is_quick() {
        // The mock's log of transactions has no replicas to wait for.
        return Ok(());
    }
    let alone = coordinator_is_alone(&cluster).await;
    alone.map_err(within("the coordinator is alone"))
}

async fn by_injection(c: &Context) -> Result<(), Objection> {
    let codes = |api, codes: &'static [i16]| {
        let verdicts = codes.iter().map(|code| Verdict::Answer(ErrorCode(*code)));
        verdicts.map(move |verdict| (api, verdict))
    };
    let mut faults: Vec<(Api, Verdict)> = Vec::new();
    faults.extend(codes(Api::FindCoordinator, &[15]));
    faults.extend(codes(Api::InitProducerId, &[14, 15, 16, 51]));
    faults.extend(codes(Api::Produce, &[3, 6, 7, 51]));
    faults.extend(codes(Api::TxnOffsetCommit, &[14, 15, 16, 7]));
    faults.extend(codes(Api::EndTxn, &[14, 15, 16, 51]));
    for api in [
        Api::FindCoordinator,
        Api::InitProducerId,
        Api::Produce,
        Api::TxnOffsetCommit,
        Api::EndTxn,
    ] {
        faults.push((api, Verdict::CloseBefore));
        faults.push((api, Verdict::CloseAfter));
    }
    for (api, verdict) in faults {
        let what = format!("{api:?}: {verdict}");
        let met = mock(c)?.inject(Rule::on(api).count(1).then(verdict));
        let hidden = outlived(c).await;
        hidden.map_err(|objection| objection.within(&what))?;
        expect_eq(format!("{what} was met"), 1, met.hits())?;
    }
    Ok(())
}

/// A producer's first transaction, with offsets.
async fn outlived(c: &Context) -> Result<(), Objection> {
    let stage = Stage::set(c).await?;
    let (_producer, mut transactions) = stage.start().await?;
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "once").await?;
    let (read, group) = (offset_of(&stage.topic.name), group_of(&stage));
    let sent = transaction.send_offsets([read], &group).await;
    done("send_offsets", sent)?;
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["once"]).await
}

fn group_of(stage: &Stage) -> ConsumerGroup {
    ConsumerGroup::new(stage.topic.name.as_str())
}

fn offset_of(topic: &str) -> ConsumedOffset {
    ConsumedOffset::next(topic, 0, OFFSET)
}

const OFFSET: i64 = 5;

/// Two transactions in which one answer of each kind is lost, and its connection.
async fn answers_are_lost(cluster: &TestCluster) -> Result<(), Objection> {
    let own = &cluster.context;
    let stage = stage(cluster).await?;
    let path = own.path(Trouble::None).await?;
    let lose = |api_key| path.begin(Trouble::ReplyLost(api_key));
    let lost = |what: &str| expect_eq(format!("answers to {what} lost"), 1, path.hits());
    lose(InitTransactional::API_KEY);
    let producer = client::build(stage.builder_on(path.client()))?;
    let (_producer, mut transactions) = initialised(producer).await?;
    lost("InitProducerId")?;
    for (value, of_offsets, name) in [
        ("first", FindCoordinator::API_KEY, "FindCoordinator"),
        ("second", TxnOffsetCommit::API_KEY, "TxnOffsetCommit"),
    ] {
        let transaction = done("begin", transactions.begin().await)?;
        lose(Produce::API_KEY);
        stage.write(&transaction, value).await?;
        lost("Produce")?;
        lose(of_offsets);
        let (read, group) = (offset_of(&stage.topic.name), group_of(&stage));
        let sent = transaction.send_offsets([read], &group).await;
        done("send_offsets", sent)?;
        lost(name)?;
        lose(EndTxn::API_KEY);
        done("commit", transaction.commit().await)?;
        lost("EndTxn")?;
    }
    path.end_trouble();
    stage.expect_committed(&["first", "second"]).await?;
    await_offset(own, (&stage.topic.name, &stage.topic), OFFSET).await
}

/// A stage on a topic of two partitions of which every broker has a replica.
async fn stage(cluster: &TestCluster) -> Result<Stage, Objection> {
    let topic = cluster.topic(2, &[]).await?;
    let context = cluster.context.clone();
    Ok(Stage { context, topic })
}

/// The first request of an API is held; what is to happen happens, and then it is let go: its
/// answer.
async fn answer_after<R: Request>(
    (c, path): (&Context, &Proxy),
    happens: impl Future<Output = Result<(), Objection>>,
) -> Result<R::Answer, Objection> {
    path.begin(Trouble::Held(R::API_KEY));
    let patience = c.patience(format!("a request of {} is held", R::NAME));
    while path.hits() == 0 {
        patience.wait("none has come by".to_owned()).await?;
    }
    happens.await?;
    path.release();
    let patience = c.patience("what was held is answered".to_owned());
    loop {
        if let Some(answer) = path.late_answer::<R>() {
            return Ok(answer);
        }
        patience.wait("it is not".to_owned()).await?;
    }
}

/// The code of the one partition that was written to.
fn code_of(answer: &ProduceAnswer) -> Option<i16> {
    let rows = answer.topics.iter().flat_map(|topic| &topic.rows);
    rows.map(|row| row.code.0).next()
}

/// Coordinators and a leader move away from each request of a transaction.
async fn all_move(cluster: &TestCluster) -> Result<(), Objection> {
    let own = &cluster.context;
    let stage = stage(cluster).await?;
    let id = stage.topic.name.as_str();
    let path = own.path(Trouble::None).await?;
    let producer = client::build(stage.builder_on(path.client()))?;
    let answer = answer_after::<InitTransactional>((own, &path), cluster.move_coordinator(id));
    let (answer, started) = tokio::join!(answer, initialised(producer));
    expect_eq("InitProducerId", 16, answer?.error.0)?;
    let (_producer, mut transactions) = started?;
    let transaction = done("begin", transactions.begin().await)?;
    let (leader, _) = cluster.leadership(&stage.topic, &[]).await?;
    let moves = cluster.move_leader(&stage.topic, leader);
    let answer = answer_after::<Produce>((own, &path), moves);
    let written = transaction.deliver(stage.record(0, "once"));
    let (answer, written) = tokio::join!(answer, written);
    expect_same("Produce", Some(6), code_of(&answer?))?;
    done("a record", written)?;
    let sent = [offset_of(id)];
    let group = group_of(&stage);
    let sent = transaction.send_offsets(sent, &group);
    if cluster.is_quick() {
        // The mock's groups stay where they are.
        done("send_offsets", sent.await)?;
    } else {
        let answer = answer_after::<TxnOffsetCommit>((own, &path), cluster.move_group(id));
        let (answer, sent) = tokio::join!(answer, sent);
        expect_eq("TxnOffsetCommit", 16, answer?.0)?;
        done("send_offsets", sent)?;
    }
    let answer = answer_after::<EndTxn>((own, &path), cluster.move_coordinator(id));
    let (answer, ended) = tokio::join!(answer, transaction.commit());
    expect_eq("EndTxn", 16, answer?.error.0)?;
    done("commit", ended)?;
    let topic = own.led_now(&stage.topic).await?;
    let stage = Stage { topic, ..stage };
    stage.expect_committed_of(0, &["once"]).await?;
    await_offset(own, (&stage.topic.name, &stage.topic), OFFSET).await
}

/// The offsets of a topic that is there only when they were refused once.
async fn topic_is_unknown(cluster: &TestCluster) -> Result<(), Objection> {
    let own = &cluster.context;
    let stage = stage(cluster).await?;
    let path = own.path(Trouble::None).await?;
    let producer = client::build(stage.builder_on(path.client()))?;
    let (_producer, mut transactions) = initialised(producer).await?;
    let transaction = done("begin", transactions.begin().await)?;
    stage.write(&transaction, "once").await?;
    let read = own.topic_name();
    let group = group_of(&stage);
    let sent = transaction.send_offsets([offset_of(&read)], &group);
    let meanwhile = async {
        let answer = answer_after::<TxnOffsetCommit>((own, &path), ready(Ok(()))).await?;
        expect_eq("TxnOffsetCommit", 3, answer.0)?;
        own.create(&read, 2).await
    };
    let (meanwhile, sent) = tokio::join!(meanwhile, sent);
    meanwhile?;
    done("send_offsets", sent)?;
    done("commit", transaction.commit().await)?;
    stage.expect_committed(&["once"]).await?;
    let read = own.served(&read, 2).await?;
    await_offset(own, (&stage.topic.name, &read), OFFSET).await
}

/// A producer with an id of its own, on a path of its own.
struct Process {
    path: Proxy,
    transactions: Transactions,
    _producer: Producer,
}

impl Process {
    /// One whose id is coordinated by that broker.
    async fn start(cluster: &TestCluster, id: &str, broker: i32) -> Result<Self, Objection> {
        cluster.coordinate(id, broker).await?;
        let path = cluster.context.path(Trouble::None).await?;
        let (_producer, transactions) = initialised(built(&path, id)?).await?;
        Ok(Self {
            path,
            transactions,
            _producer,
        })
    }
}

/// A transaction with a record in partition 0.
async fn written<'a>(
    transactions: &'a mut Transactions,
    topic: &Topic,
    value: &str,
) -> Result<Transaction<'a>, Objection> {
    let transaction = done("begin", transactions.begin().await)?;
    let record = Record::to(topic.name.as_str()).partition(0).value(value);
    done("a record", transaction.deliver(record).await)?;
    Ok(transaction)
}

/// A producer that soon gives a broker up that stands still.
fn built(path: &Proxy, id: &str) -> Result<Producer, Objection> {
    let builder = path.client().transactional_id(id).max_block(IN_TIME);
    client::build(builder.request_timeout(Duration::from_secs(2)))
}

/// While the markers of two transactions cannot be written, the producer of one begins its next,
/// and the other's id is given to another producer.
async fn coordinator_is_busy(cluster: &TestCluster) -> Result<(), Objection> {
    let own = &cluster.context;
    let held = cluster.topic(1, &ALL_IN_SYNC).await?;
    let free = cluster.topic(1, &[("min.insync.replicas", "1")]).await?;
    let (leader, _) = cluster.leadership(&held, &[]).await?;
    cluster.lead_by(&free, leader).await?;
    let ids = ["goes-on", "replaced"].map(|role| format!("{}-{role}", held.name));
    let mut goes_on = Process::start(cluster, &ids[0], leader).await?;
    let mut replaced = Process::start(cluster, &ids[1], leader).await?;
    let one = written(&mut goes_on.transactions, &held, "one").await?;
    let two = written(&mut replaced.transactions, &held, "two").await?;
    let newer = own.path(Trouble::None).await?;
    let away = cluster.without(1, &held, &ids[0]).await?;
    done("commit", one.commit().await)?;
    done("commit", two.commit().await)?;
    let meanwhile = async {
        let joins = first_to_join(own, &goes_on.path);
        let begins = answer_after::<InitTransactional>((own, &newer), ready(Ok(())));
        let (joined, begun) = tokio::join!(joins, begins);
        expect_same("what is to join", Some(51), joined?)?;
        expect_eq("InitProducerId", 51, begun?.error.0)?;
        cluster.with(&held, away).await
    };
    let next = async {
        let transaction = written(&mut goes_on.transactions, &free, "next").await?;
        done("commit", transaction.commit().await)
    };
    let begins = async { initialised(built(&newer, &ids[1])?).await };
    let (meanwhile, next, begun) = tokio::join!(meanwhile, next, begins);
    meanwhile?;
    next?;
    begun?;
    for (topic, expected) in [(held, &["one", "two"][..]), (free, &["next"])] {
        let context = own.clone();
        let topic = own.led_now(&topic).await?;
        Stage { context, topic }
            .expect_committed_of(0, expected)
            .await?;
    }
    Ok(())
}

/// The code of the first partition that is to join a transaction.
async fn first_to_join(c: &Context, path: &Proxy) -> Result<Option<i16>, Objection> {
    match c.transaction_version() {
        JOINS_BY_WRITING.. => {
            let answer = answer_after::<Produce>((c, path), ready(Ok(()))).await?;
            Ok(code_of(&answer))
        }
        _ => {
            let answer = answer_after::<AddPartitions>((c, path), ready(Ok(()))).await?;
            Ok(answer.rows.first().map(|row| row.2.0))
        }
    }
}

/// A transaction is ended while its coordinator, alone, may not write its log.
async fn coordinator_is_alone(cluster: &TestCluster) -> Result<(), Objection> {
    let own = &cluster.context;
    let topic = cluster.topic(1, &[("min.insync.replicas", "1")]).await?;
    let (leader, _) = cluster.leadership(&topic, &[]).await?;
    let id = topic.name.as_str();
    let mut process = Process::start(cluster, id, leader).await?;
    let transaction = written(&mut process.transactions, &topic, "once").await?;
    let away = cluster.without(2, &topic, id).await?;
    let meanwhile = async {
        let answer = answer_after::<EndTxn>((own, &process.path), ready(Ok(()))).await?;
        expect_eq("EndTxn", 15, answer.error.0)?;
        cluster.with(&topic, away).await
    };
    let (meanwhile, ended) = tokio::join!(meanwhile, transaction.commit());
    meanwhile?;
    done("commit", ended)?;
    let context = own.clone();
    let topic = own.led_now(&topic).await?;
    Stage { context, topic }
        .expect_committed_of(0, &["once"])
        .await
}
