//! A producer of transactions that knows frames: one transactional id, its coordinator, its epoch.
//!
//! *Invariants*
//! 1. Codes that Kafka gives while a coordinator is made or loads (14, 15, 16), and 51 of a
//!    transaction whose markers are on their way, are asked again; they are objected to only when
//!    they do not end in time.
//! 2. An answer that names another id or epoch changes who the transactor is only where a case
//!    says so.

use std::fmt;

use crate::case::{Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::Connection;
use crate::topic::Topic;
use crate::wire::answer::{InitProducerId, InitProducerIdAnswer};
use crate::wire::batch::{BatchSpec, Stamp, TRANSACTIONAL_BIT};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::Row;
use crate::wire::transactional::{
    AddPartitions, Decision, EndTxn, EndTxnAnswer, FindCoordinator, InitTransactional,
};

/// From this level of transactions on each has an epoch of its own.
pub const OWN_EPOCHS: i16 = 2;
/// The newest EndTxn before which a transaction keeps its epoch.
pub const END: i16 = 4;
/// A producer id that no broker comes to.
pub const NEVER_GIVEN: i64 = 1 << 60;

const CONCURRENT_TRANSACTIONS: i16 = 51;
const AGE_MS: i64 = 60_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Transactor {
    /// The transactional id.
    pub id: String,
    /// Who it is now; the sequence is of the next batch.
    pub stamp: Stamp,
    /// To its coordinator.
    pub coordinator: Connection,
    context: Context,
}

/// Objects unless partitions have these codes.
///
/// # Errors
///
/// When they have others.
pub fn expect_codes(
    step: impl fmt::Display,
    expected: &[i16],
    observed: &[i16],
) -> Result<(), Objection> {
    let codes = |codes: &[i16]| format!("codes {codes:?}");
    expect_eq(step, codes(expected), codes(observed))
}

impl Context {
    /// A connection to whoever coordinates `id`.
    ///
    /// # Errors
    ///
    /// When nobody does in time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn coordinator(&self, id: &str) -> Result<Connection, Objection> {
        let request = FindCoordinator { id: id.to_owned() };
        let patience = self.patience(format!("{id} has a coordinator"));
        loop {
            let mut connection = self.connect().await?;
            let version = self.version::<FindCoordinator>();
            let answer = connection.ask(&request, version).await?;
            if answer.error == ErrorCode::NONE {
                return self.connect_to(&answer.address).await;
            }
            patience.wait(format!("code {}", answer.error)).await?;
        }
    }

    /// A transactor with an id of its own, at its first epoch.
    ///
    /// # Errors
    ///
    /// When no coordinator gives it a producer id in time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn transactor(&self) -> Result<Transactor, Objection> {
        // An id is as unique as a topic's name.
        let id = self.topic_name();
        let coordinator = self.coordinator(&id).await?;
        let mut transactor = Transactor {
            id,
            stamp: Stamp::NONE,
            coordinator,
            context: self.clone(),
        };
        let answer = transactor.begin().await?;
        expect_eq("the first epoch", 0, answer.epoch)?;
        Ok(transactor)
    }
}

impl Transactor {
    /// Asks InitProducerId once, at `version`.
    ///
    /// # Errors
    ///
    /// When there is no answer that reads.
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn init(
        &mut self,
        version: i16,
        producer: InitProducerId,
    ) -> Result<InitProducerIdAnswer, Objection> {
        let request = InitTransactional {
            producer,
            ..InitTransactional::of(&self.id)
        };
        self.coordinator.ask(&request, version).await
    }

    /// Begins as a producer does, and is that producer from then on.
    ///
    /// # Errors
    ///
    /// When it is refused, or not answered well in time.
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn begin(&mut self) -> Result<InitProducerIdAnswer, Objection> {
        let answer = self.settled_init(InitProducerId::NEW).await?;
        if answer.error.0 != 0 {
            let observed = format!("code {}", answer.error);
            return Err(Objection::new("InitProducerId", "code 0 NONE", observed));
        }
        self.go_on_as((answer.producer_id, answer.epoch));
        Ok(answer)
    }

    /// Asks InitProducerId as a producer does: again while its coordinator is not there, or busy
    /// with the transaction before.
    ///
    /// # Errors
    ///
    /// When there is no other answer in time, or none that reads.
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn settled_init(
        &mut self,
        producer: InitProducerId,
    ) -> Result<InitProducerIdAnswer, Objection> {
        let version = self.context.version::<InitProducerId>();
        let patience = self.context.patience("InitProducerId answers".to_owned());
        loop {
            let answer = self.init(version, producer).await?;
            if !matches!(answer.error.0, 14..=16 | CONCURRENT_TRANSACTIONS) {
                return Ok(answer);
            }
            patience.wait(format!("code {}", answer.error)).await?;
        }
    }

    /// An end of the transaction that is open, in the name of `stamp`.
    pub fn end_txn(&self, stamp: Stamp, decision: Decision) -> EndTxn {
        EndTxn {
            id: self.id.clone(),
            stamp,
            decision,
        }
    }

    /// Is this producer from now on, with its first sequence.
    pub fn go_on_as(&mut self, (id, epoch): (i64, i16)) {
        self.stamp = Stamp {
            id,
            epoch,
            sequence: 0,
        };
    }

    /// Producers that this is not, and the code with which each is refused at `version` by a
    /// request that has two numbers for a fenced one (KIP-588: 47 before version 2).
    pub fn strangers(&self, version: i16) -> [(&'static str, Stamp, i16); 3] {
        let known = self.stamp;
        let fenced = if version < 2 { 47 } else { 90 };
        let at = |by: i16| Stamp {
            epoch: known.epoch + by,
            ..known
        };
        let other = Stamp {
            id: NEVER_GIVEN,
            ..known
        };
        [
            ("another producer", other, 49),
            ("an older epoch", at(-1), fenced),
            ("a later epoch", at(1), fenced),
        ]
    }

    /// The codes of AddPartitionsToTxn for one topic, by partition.
    ///
    /// # Errors
    ///
    /// When there is no answer that reads, or it refuses as a whole.
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn join(
        &mut self,
        version: i16,
        topic: &Topic,
        partitions: &[i32],
    ) -> Result<Vec<i16>, Objection> {
        let stamp = self.stamp;
        self.join_as(version, stamp, (topic, partitions)).await
    }

    /// The same as another producer.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    ///
    /// # Cancellation
    ///
    /// As [`Self::join`].
    pub async fn join_as(
        &mut self,
        version: i16,
        stamp: Stamp,
        (topic, partitions): (&Topic, &[i32]),
    ) -> Result<Vec<i16>, Objection> {
        let request = AddPartitions {
            id: self.id.clone(),
            stamp,
            topics: vec![(topic.name.clone(), partitions.to_vec())],
        };
        let patience = self.context.patience("partitions join".to_owned());
        loop {
            let answer = self.coordinator.ask(&request, version).await?;
            expect_eq("AddPartitionsToTxn as a whole", 0, answer.error.0)?;
            let mut rows = answer.rows;
            rows.sort_by_key(|(_, index, _)| *index);
            let codes: Vec<i16> = rows.iter().map(|(_, _, error)| error.0).collect();
            if !codes.contains(&CONCURRENT_TRANSACTIONS) {
                return Ok(codes);
            }
            patience.wait(format!("codes {codes:?}")).await?;
        }
    }

    /// Ends the transaction at `version`; waits for the one before, but is nobody else afterwards.
    ///
    /// # Errors
    ///
    /// When there is no answer that reads.
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn end(
        &mut self,
        version: i16,
        decision: Decision,
    ) -> Result<EndTxnAnswer, Objection> {
        let stamp = self.stamp;
        self.end_as(version, stamp, decision).await
    }

    /// The same as another producer.
    ///
    /// # Errors
    ///
    /// As [`Self::end`].
    ///
    /// # Cancellation
    ///
    /// As [`Self::end`].
    pub async fn end_as(
        &mut self,
        version: i16,
        stamp: Stamp,
        decision: Decision,
    ) -> Result<EndTxnAnswer, Objection> {
        let request = self.end_txn(stamp, decision);
        let patience = self.context.patience("EndTxn is decided".to_owned());
        loop {
            let answer = self.coordinator.ask(&request, version).await?;
            if answer.error.0 != CONCURRENT_TRANSACTIONS {
                return Ok(answer);
            }
            patience.wait(format!("code {}", answer.error)).await?;
        }
    }

    /// Ends the transaction as a client of the newest version does, and goes on as the answer says.
    ///
    /// # Errors
    ///
    /// When it is refused.
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn ended(&mut self, decision: Decision) -> Result<(), Objection> {
        let version = self.context.version::<EndTxn>();
        let answer = self.end(version, decision).await?;
        expect_eq(format!("{decision:?}"), 0, answer.error.0)?;
        if let Some(next) = answer.next {
            self.go_on_as(next);
        }
        Ok(())
    }

    /// A batch of `count` records of the transaction that is open; the next goes on behind it. Its
    /// records are a minute old, so that a marker, which has the broker's time, has another.
    pub fn batch(&mut self, prefix: &str, count: usize) -> BatchSpec {
        let sent_ms = self.context.now_ms() - AGE_MS;
        let batch = BatchSpec::numbered(prefix, count, sent_ms);
        let batch = BatchSpec {
            attributes: batch.attributes | TRANSACTIONAL_BIT,
            ..batch.stamped(self.stamp)
        };
        self.stamp.sequence += i32::try_from(count).unwrap_or_default();
        batch
    }

    /// Writes `batch` to a partition in the name of the transaction, and returns its row. What is
    /// refused because markers are on their way (51; 19 before version 12) is sent again.
    ///
    /// # Errors
    ///
    /// When there is not exactly one row.
    ///
    /// # Cancellation
    ///
    /// The batch may have been written.
    pub async fn write(
        &self,
        version: i16,
        (topic, partition): (&Topic, i32),
        batch: &BatchSpec,
    ) -> Result<Row, Objection> {
        let mut request = topic.produce(partition, batch.encode());
        request.transactional_id = Some(self.id.clone());
        let mut leader = self.context.leader(topic, partition).await?;
        let patience = self.context.patience("a batch is judged".to_owned());
        loop {
            let rows = self.context.produce(&mut leader, &request, version).await?;
            let Ok([row]) = <[Row; 1]>::try_from(rows) else {
                let step = format!("Produce v{version}");
                return Err(Objection::new(step, "one row", "another number of rows"));
            };
            if !matches!(row.code.0, 19 | CONCURRENT_TRANSACTIONS) {
                return Ok(row);
            }
            patience.wait(row.to_string()).await?;
        }
    }
}
