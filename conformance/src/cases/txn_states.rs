//! Transactions, continued: what their coordinators do when time passes, and when brokers go.
//!
//! *Source*: KIP-98, KIP-890; `TransactionCoordinator.scala`, `TransactionStateManager.scala`; the
//! codes are those observed on 4.3.1.

use std::time::Duration;

use super::cluster::{ALL_IN_SYNC, SAFE, coordinator_of};
use super::transaction_ends::{committed, open};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::committed::committed_records;
use crate::context::Context;
use crate::io::connection::Connection;
use crate::target::{Action, Capability};
use crate::topic::Topic;
use crate::transactor::{END, NEVER_GIVEN, OWN_EPOCHS, Transactor, expect_codes};
use crate::wire::answer::{Broker, InitProducerId, Metadata};
use crate::wire::batch::{BatchSpec, Stamp, TRANSACTIONAL_BIT};
use crate::wire::described::DescribeTransactions;
use crate::wire::produce::Row;
use crate::wire::records::{Fetch, FetchCommitted, read_batches};
use crate::wire::transactional::{
    AddPartitions, Decision, EndTxn, FindCoordinator, InitTransactional,
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-02",
        level: Level::Wire,
        sentence: "a broker that does not coordinate a transactional id answers 16 to whoever \
                   begins, lets join or ends",
        source: "TransactionStateManager.scala getTransactionState (NOT_COORDINATOR)",
        needs: &[Capability::ThreeNodes],
        run: |c| Box::pin(not_the_coordinator(c)),
    },
    Case {
        id: "TXN-16",
        level: Level::Wire,
        sentence: "batches of two producers in one transactional request are refused with 49, \
                   every one",
        source: "ReplicaManager.scala handleProduceAppend",
        needs: &[],
        run: |c| Box::pin(two_producers(c)),
    },
    Case {
        id: "TXN-28",
        level: Level::Wire,
        sentence: "a transaction that is open for longer than its time-out is aborted, and its \
                   producer fenced: 47 to what it writes, 90 to what is to join and to older ends",
        source: "TransactionCoordinator.scala abortTimedOutTransactions; KAFKA-19367",
        needs: &[],
        run: |c| Box::pin(timed_out(c)),
    },
    Case {
        id: "TXN-36",
        level: Level::Wire,
        sentence: "whoever takes over from a coordinator that was killed between decision and \
                   markers writes them",
        source: "TransactionCoordinator.scala onElection; TransactionStateManager.scala \
                 loadTransactionsForTxnTopicPartition",
        needs: &[
            Capability::OwnBrokers,
            Capability::Pause,
            Capability::Restart,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(coordinator_killed(c)),
    },
    Case {
        id: "TXN-37",
        level: Level::Wire,
        sentence: "a partition whose leader is down at the commit gets its marker once there is \
                   one, and readers of what is committed go on",
        source: "TransactionMarkerChannelManager.scala addTxnMarkersToBrokerQueue",
        needs: &[
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(leader_down(c)),
    },
    Case {
        id: "TXN-38",
        level: Level::Wire,
        sentence: "a transactional id that is idle for longer than transactional.id.expiration.ms \
                   is forgotten: 105, and 49 to what is to join",
        source: "TransactionStateManager.scala removeExpiredTransactionalIds",
        needs: &[Capability::OwnBrokers],
        run: |c| Box::pin(idle_id(c)),
    },
    Case {
        id: "TXN-39",
        level: Level::Wire,
        sentence: "a partition that nobody leads at the commit gets its marker once somebody does, \
                   and until then 51 is the answer to whoever begins",
        source: "TransactionMarkerChannelManager.scala addTxnMarkersToBrokerQueue \
                 (markersQueueForUnknownBroker)",
        needs: &[
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::ThreeNodes,
        ],
        run: |c| Box::pin(nobody_leads(c)),
    },
];

/// The newest Produce before which partitions must have joined.
const PRODUCE: i16 = 11;

async fn not_the_coordinator(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let transactor = c.transactor().await?;
    let request = FindCoordinator {
        id: transactor.id.clone(),
    };
    let mut connection = c.connect().await?;
    let found = connection
        .ask(&request, c.version::<FindCoordinator>())
        .await?;
    let brokers = c.metadata(&Metadata::of(&[])).await?.brokers;
    let mut others = brokers.iter().filter(|broker| broker.id != found.node);
    let other = others.next();
    let other = other.ok_or_else(|| Objection::new("brokers", "another one", "none"))?;
    let mut connection = c.connect_to(&other.address).await?;
    for version in 0..=c.version::<InitProducerId>() {
        let request = InitTransactional::of(&transactor.id);
        let answer = connection.ask(&request, version).await?;
        let step = format!("InitProducerId v{version}");
        expect_eq(step, 16, answer.error.0)?;
    }
    for version in 0..=c.version::<AddPartitions>() {
        let request = AddPartitions {
            id: transactor.id.clone(),
            stamp: transactor.stamp,
            topics: vec![(topic.name.clone(), vec![0])],
        };
        let answer = connection.ask(&request, version).await?;
        let codes: Vec<i16> = answer.rows.iter().map(|row| row.2.0).collect();
        expect_codes(format!("AddPartitionsToTxn v{version}"), &[16], &codes)?;
    }
    for version in 0..=c.version::<EndTxn>() {
        let request = transactor.end_txn(transactor.stamp, Decision::Commit);
        let answer = connection.ask(&request, version).await?;
        expect_eq(format!("EndTxn v{version}"), 16, answer.error.0)?;
    }
    Ok(())
}

async fn two_producers(c: Context) -> Result<(), Objection> {
    const WORDS: &str = "Transactional records contained more than one producer ID";
    for version in c.produce_versions() {
        // Some two of four have one leader, however many brokers there are.
        let topic = c.topic(4).await?;
        let leader = topic.leader_of(0);
        let second = (1..4).find(|index| topic.leader_of(*index) == leader);
        let second = second.ok_or_else(|| Objection::new("leaders", "one of two", "others"))?;
        let mut transactor = c.transactor().await?;
        transactor.join(3, &topic, &[0, second]).await?;
        let ours = transactor.batch("a", 1);
        let stamp = Stamp {
            id: NEVER_GIVEN,
            ..transactor.stamp
        };
        let theirs = BatchSpec::numbered("b", 1, c.now_ms()).stamped(stamp);
        let theirs = BatchSpec {
            attributes: theirs.attributes | TRANSACTIONAL_BIT,
            ..theirs
        };
        let batches = vec![(0, ours.encode()), (second, theirs.encode())];
        let mut request = topic.produce_all(batches);
        request.transactional_id = Some(transactor.id.clone());
        let mut connection = c.leader(&topic, 0).await?;
        let rows = c.produce(&mut connection, &request, version).await?;
        let expected = [0, second].map(|index| {
            let row = Row::refused(index, 49, version);
            row.saying(WORDS, version)
        });
        let step = format!("Produce v{version}");
        expect_eq(step, format!("{expected:?}"), format!("{rows:?}"))?;
        for index in [0, second] {
            let step = format!("end of partition {index} after Produce v{version}");
            expect_eq(step, 0, c.end_offset(&topic, index).await?)?;
        }
    }
    Ok(())
}

/// A transactor whose transactions may be open for half a second.
async fn hasty(c: &Context) -> Result<Transactor, Objection> {
    let mut transactor = c.transactor().await?;
    let request = InitTransactional {
        timeout_ms: 500,
        ..InitTransactional::of(&transactor.id)
    };
    let version = c.version::<InitProducerId>();
    let answer = transactor.coordinator.ask(&request, version).await?;
    expect_eq("InitProducerId, half a second", 0, answer.error.0)?;
    transactor.go_on_as((answer.producer_id, answer.epoch));
    Ok(transactor)
}

async fn timed_out(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut transactor = hasty(&c).await?;
    open(&mut transactor, &topic, ("a", 1)).await?;
    let answer = committed(&c, (&topic, 0), 2).await?;
    let aborted = format!("{:?}", [(transactor.stamp.id, 0)]);
    expect_eq("aborted", aborted, format!("{:?}", answer.aborted))?;
    let late = transactor.batch("late", 1);
    for version in c.produce_versions() {
        let row = transactor.write(version, (&topic, 0), &late).await?;
        let step = format!("Produce v{version}");
        expect_eq(step, Row::refused(0, 47, version), row)?;
    }
    for version in 0..=c.version::<AddPartitions>() {
        let code = if version < 2 { 47 } else { 90 };
        let codes = transactor.join(version, &topic, &[0]).await?;
        expect_codes(format!("AddPartitionsToTxn v{version}"), &[code], &codes)?;
    }
    for version in 0..=END {
        let code = if version < 2 { 47 } else { 90 };
        for decision in [Decision::Commit, Decision::Abort] {
            let answer = transactor.end(version, decision).await?;
            let step = format!("EndTxn v{version}, {decision:?}");
            expect_eq(step, code, answer.error.0)?;
        }
    }
    let named = InitProducerId {
        producer_id: transactor.stamp.id,
        epoch: transactor.stamp.epoch,
    };
    if c.transaction_version() < OWN_EPOCHS {
        let begun = transactor
            .init(c.version::<InitProducerId>(), named)
            .await?;
        return expect_eq("InitProducerId, naming itself", 90, begun.error.0);
    }
    let commit = transactor.end(END + 1, Decision::Commit).await?;
    expect_eq("EndTxn v5, commit", 48, commit.error.0)?;
    let abort = transactor.end(END + 1, Decision::Abort).await?;
    expect_eq("EndTxn v5, abort", 0, abort.error.0)?;
    let next = format!("{:?}", Some((named.producer_id, named.epoch + 1)));
    expect_eq("EndTxn v5, next", next, format!("{:?}", abort.next))?;
    let begun = transactor
        .init(c.version::<InitProducerId>(), named)
        .await?;
    expect_eq("InitProducerId, naming itself", 0, begun.error.0)
}

/// How often a partition is looked at once its transaction has ended: it is stable by then, but for
/// a watermark that a new leader has yet to hear of.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Three brokers, a topic there, and a transactor that has written to a partition which another
/// broker than its coordinator leads.
struct Apart {
    context: Context,
    topic: Topic,
    partition: i32,
    transactor: Transactor,
    coordinator: Broker,
    leader: Broker,
    third: Broker,
}

impl Apart {
    async fn start(
        c: &Context,
        (replicas, settings): (i16, &[(&str, &str)]),
    ) -> Result<Self, Objection> {
        let context = c.beside(3, &[]).await?;
        let topic = context.replicated_topic((3, replicas), settings).await?;
        let mut transactor = context.transactor().await?;
        let brokers = context.metadata(&Metadata::of(&[])).await?.brokers;
        let one = |what: &str, is: &dyn Fn(&Broker) -> bool| {
            let found = brokers.iter().find(|broker| is(broker)).cloned();
            found.ok_or_else(|| Objection::new("brokers", what, format!("{brokers:?}")))
        };
        let mut connection = context.connect().await?;
        let id = coordinator_of(&mut connection, &context, &transactor.id).await?;
        let coordinator = one("the coordinator", &|broker| broker.id == id)?;
        let address = Some(coordinator.address.as_str());
        let partition = (0..3).find(|index| topic.leader_of(*index) != address);
        let partition = partition.ok_or_else(|| Objection::new("leaders", "three", "one"))?;
        let address = topic.leader_of(partition);
        let leader = one("the leader", &|broker| {
            Some(broker.address.as_str()) == address
        })?;
        let third = one("a third", &|broker| ![id, leader.id].contains(&broker.id))?;
        let codes = transactor.join(3, &topic, &[partition]).await?;
        expect_codes("AddPartitionsToTxn v3", &[0], &codes)?;
        let batch = transactor.batch("a", 1);
        let to = (&topic, partition);
        let row = transactor.write(PRODUCE, to, &batch).await?;
        expect_eq("a batch of it", 0, row.code.0)?;
        Ok(Self {
            context,
            topic,
            partition,
            transactor,
            coordinator,
            leader,
            third,
        })
    }

    async fn commit(&mut self) -> Result<(), Objection> {
        let version = self.context.version::<EndTxn>();
        let answer = self.transactor.end(version, Decision::Commit).await?;
        expect_eq("EndTxn", 0, answer.error.0)
    }

    /// Waits until the third broker tells a leader of the partition that is wanted.
    async fn await_leader(&self, is_wanted: impl Fn(i32) -> bool) -> Result<(), Objection> {
        let own = &self.context;
        let mut third = own.connect_to(&self.third.address).await?;
        let patience = own.patience("another leads, or nobody".to_owned());
        let asked = Metadata::of(&[&self.topic.name]);
        loop {
            let told = third.ask(&asked, own.version::<Metadata>()).await?;
            let rows = told.topic(&self.topic.name).map(|topic| &topic.partitions);
            let mut rows = rows.into_iter().flatten();
            let row = rows.find(|row| row.index == self.partition);
            let leader = row.map(|row| row.leader);
            if leader.is_some_and(&is_wanted) {
                return Ok(());
            }
            patience.wait(format!("leader {leader:?}")).await?;
        }
    }

    /// Objects unless whoever begins is told that markers are on their way.
    async fn expect_on_their_way(&self, connection: &mut Connection) -> Result<(), Objection> {
        let request = InitTransactional::of(&self.transactor.id);
        let version = self.context.version::<InitProducerId>();
        let patience = self.context.patience("the id is coordinated".to_owned());
        loop {
            let answer = connection.ask(&request, version).await?;
            match answer.error.0 {
                14..=16 => patience.wait(format!("code {}", answer.error)).await?,
                code => return expect_eq("InitProducerId meanwhile", 51, code),
            }
        }
    }

    /// Objects unless the transaction ends, with its marker where its record is.
    async fn expect_end(mut self) -> Result<(), Objection> {
        let coordinator = self.context.coordinator(&self.transactor.id);
        self.transactor.coordinator = coordinator.await?;
        self.transactor.begin().await?;
        let topic = self.context.led_now(&self.topic).await?;
        self.context.await_served(&topic).await?;
        let request = FetchCommitted(Fetch {
            topic: topic.name.clone(),
            partition: self.partition,
            offset: 0,
            wait_ms_max: 0,
            bytes_max: 1 << 20,
        });
        let mut leader = self.context.leader(&topic, self.partition).await?;
        let version = self.context.version::<FetchCommitted>();
        let mut seen = String::new();
        for _ in 0..LOOKS {
            let answer = leader.ask(&request, version).await?;
            // Two coordinators may both have written it.
            if answer.last_stable >= 2 && answer.last_stable == answer.high_watermark {
                let batches = read_batches(&answer.records);
                let batches = batches.map_err(|error| Objection::new("Fetch", "batches", error))?;
                let counts = committed_records(batches, &answer.aborted).len();
                return expect_eq("records that count", 1, counts);
            }
            seen = format!("{} of {}", answer.last_stable, answer.high_watermark);
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let step = "the transaction has ended";
        Err(Objection::new(step, "its partition is stable", seen))
    }
}

async fn coordinator_killed(c: Context) -> Result<(), Objection> {
    // A replica that stands still keeps markers from being written, and the partition is led
    // throughout: one that nobody leads when the coordinator changes may never get its marker
    // (KAFKA-20734).
    let mut apart = Apart::start(&c, (3, &ALL_IN_SYNC)).await?;
    let own = apart.context.clone();
    own.act(apart.third.id, Action::Pause).await?;
    apart.commit().await?;
    own.act(apart.coordinator.id, Action::Kill).await?;
    let mut leader = own.connect_to(&apart.leader.address).await?;
    let patience = own.patience("another broker coordinates".to_owned());
    while coordinator_of(&mut leader, &own, &apart.transactor.id).await? != apart.leader.id {
        patience.wait("another than the leader".to_owned()).await?;
    }
    apart.expect_on_their_way(&mut leader).await?;
    own.act(apart.third.id, Action::Resume).await?;
    own.act(apart.coordinator.id, Action::Start).await?;
    apart.expect_end().await
}

async fn leader_down(c: Context) -> Result<(), Objection> {
    let mut apart = Apart::start(&c, (3, &SAFE)).await?;
    let own = apart.context.clone();
    own.act(apart.leader.id, Action::Kill).await?;
    apart.commit().await?;
    let down = Some(apart.leader.id);
    let another = apart.await_leader(|leader| leader >= 0 && Some(leader) != down);
    let (another, back) = tokio::join!(another, own.act(apart.leader.id, Action::Start));
    another.and(back)?;
    apart.expect_end().await
}

async fn nobody_leads(c: Context) -> Result<(), Objection> {
    let mut apart = Apart::start(&c, (1, &SAFE)).await?;
    let own = apart.context.clone();
    own.act(apart.leader.id, Action::Kill).await?;
    apart.await_leader(|leader| leader == -1).await?;
    apart.commit().await?;
    let mut coordinator = own.connect_to(&apart.coordinator.address).await?;
    apart.expect_on_their_way(&mut coordinator).await?;
    own.act(apart.leader.id, Action::Start).await?;
    apart.expect_end().await
}

async fn idle_id(c: Context) -> Result<(), Objection> {
    let settings = [
        ("transactional.id.expiration.ms", "1000"),
        (
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "200",
        ),
    ];
    let own = c.beside(1, &settings).await?;
    let topic = own.topic(1).await?;
    let mut transactor = own.transactor().await?;
    let ids = vec![transactor.id.clone()];
    let describe = DescribeTransactions { ids };
    let patience = own.patience("the id is forgotten".to_owned());
    loop {
        let rows = transactor.coordinator.ask(&describe, 0).await?;
        let codes: Vec<i16> = rows.iter().map(|row| row.error.0).collect();
        if codes == [105] {
            break;
        }
        patience.wait(format!("codes {codes:?}")).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let codes = transactor.join(3, &topic, &[0]).await?;
    expect_codes("AddPartitionsToTxn", &[49], &codes)
}
