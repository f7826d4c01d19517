//! What a coordinator knows of its transactional ids, and which step it allows: decide, log, apply.
//!
//! *State* of a step:
//!
//! ```text
//!           refused: a code                       the state may not follow: a defect of this crate
//! asked ─┬──────────────────▶ nothing changes
//!        │ known: the answer of before              ┌─▶ panics in a debug build
//!        ├──────────────────▶ nothing changes       │
//!        └─▶ decided: a new record ─▶ logged ─▶ applied ─▶ Prepare*: markers fly, 51 meanwhile
//!                                                            └─ all are there ─▶ Complete*, logged
//! ```
//!
//! *Invariants*
//! 1. A decision changes nothing; [`apply`](TxnCoordinator::apply) alone does, with a whole record,
//!    as the log of transactions has it. Whoever takes over has the same records.
//! 2. A state follows only what may precede it (`txn_state.rs`).
//! 3. While markers are on their way (Prepare*) every step is refused with 51, but what is fenced
//!    in transactions of version 0 and 1.
//! 4. A transaction of version 2 has an epoch of its own: its end raises it (KIP-890).
//! 5. What is open has its time-out in `timeouts`, and nothing else has.
//! 6. An epoch is never raised beyond 32,767: the producer gets another id before.
//!
//! *Source* apache/kafka `core/…/coordinator/transaction/TransactionCoordinator.scala`,
//! `transaction-coordinator/…/TransactionMetadata.java`; codes and their order observed on 4.3.1.
//!
//! *Not here* which broker coordinates (`transactions.rs`), how markers travel (`txn_markers.rs`).
//!
//! *Deviations* ids that are idle for `transactional.id.expiration.ms` are found when they are next
//! heard of, as the sweep would have; the log of transactions is the set of its newest records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::open_transactions::Ending;
use super::producer_state::{EpochBump, Expiry};
use super::topology::PartitionKey;
use super::txn_state::TxnState;
use crate::error_code::ErrorCode;

/// What a transactional id is, whole, as its newest record in the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its state.
    pub state: TxnState,
    /// The producer's id.
    pub producer_id: i64,
    /// The id before it, whose epochs were used up; -1 for none.
    pub previous_producer_id: i64,
    /// The id that it has once its markers are there; -1 for the same.
    pub next_producer_id: i64,
    /// The producer's epoch; -1 before the first.
    pub epoch: i16,
    /// The epoch before it, as far as a producer may still name it; -1 for none.
    pub last_epoch: i16,
    /// How long a transaction may be open.
    pub timeout_ms: i32,
    /// The partitions that are part of it.
    pub partitions: BTreeSet<PartitionKey>,
    /// When it was opened, in milliseconds since 1970; -1 when it was not.
    pub started_at_ms: i64,
    /// When this record was decided.
    pub updated_at_ms: i64,
}

/// A producer's id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

const NONE: i64 = -1;
const NO_EPOCH: i16 = -1;
/// From here on there is no epoch left for a producer: the next is for fencing it.
const EXHAUSTED: i16 = i16::MAX - 1;

/// A step that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was made before: this is what it has come to.
    Known(Identity),
    /// This is to be logged and applied.
    Log(Transaction),
}

/// What InitProducerId asks for.
#[derive(Clone, Copy, Debug)]
pub struct Init {
    /// The time-out of the transactions to come.
    pub timeout_ms: i32,
    /// The id and epoch that the producer has, if it names them (KIP-360).
    pub expected: Option<Identity>,
}

/// What InitProducerId comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitStep {
    /// This is to be logged, and its identity answered.
    Log(Transaction),
    /// A transaction is open: this aborts it, and the answer is 51.
    Fence(Transaction),
}

/// What EndTxn asks for.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Who asks.
    pub producer: Identity,
    /// How the transaction is to end.
    pub ending: Ending,
    /// Whether the client knows that each transaction has its own epoch.
    pub bump: EpochBump,
}

impl Transaction {
    fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            state: TxnState::Empty,
            producer_id,
            previous_producer_id: NONE,
            next_producer_id: NONE,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms,
            partitions: BTreeSet::new(),
            started_at_ms: -1,
            updated_at_ms: now_ms,
        }
    }

    /// Its producer.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        Identity {
            id: self.producer_id,
            epoch: self.epoch,
        }
    }

    const fn is_exhausted(&self) -> bool {
        self.epoch >= EXHAUSTED
    }

    /// Whether a producer may be this one, or the one of before its ids ran out.
    const fn may_be(&self, expected: Identity) -> bool {
        self.epoch == NO_EPOCH
            || expected.id == self.producer_id
            || (expected.id == self.previous_producer_id && expected.epoch >= EXHAUSTED)
    }

    /// When it is found to be open for too long; `None` when it is not open.
    fn times_out_at_ms(&self) -> Option<i64> {
        let open = self.state == TxnState::Ongoing;
        open.then(|| {
            self.started_at_ms
                .saturating_add(i64::from(self.timeout_ms))
        })
    }

    /// `prepareIncrementProducerEpoch`, `prepareProducerIdRotation`.
    fn initialised(
        &self,
        init: &Init,
        now_ms: i64,
        fresh: impl FnOnce() -> i64,
    ) -> Result<Self, ErrorCode> {
        let expected = init.expected.map(|expected| expected.epoch);
        let mut next = Self {
            state: TxnState::Empty,
            timeout_ms: init.timeout_ms,
            partitions: BTreeSet::new(),
            next_producer_id: NONE,
            started_at_ms: -1,
            updated_at_ms: now_ms,
            ..self.clone()
        };
        if self.is_exhausted() && expected.is_none_or(|epoch| epoch == self.epoch) {
            next.previous_producer_id = self.producer_id;
            next.producer_id = fresh();
            next.epoch = 0;
            next.last_epoch = expected.unwrap_or(NO_EPOCH);
            return Ok(next);
        }
        match expected {
            _ if self.is_exhausted() => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            None => (next.epoch, next.last_epoch) = (self.epoch + 1, NO_EPOCH),
            Some(epoch) if self.epoch == NO_EPOCH || epoch == self.epoch => {
                (next.epoch, next.last_epoch) = (self.epoch + 1, self.epoch);
            }
            // The answer to the same question was lost.
            Some(epoch) if epoch == self.last_epoch => {}
            Some(_) => return Err(ErrorCode::PRODUCER_FENCED),
        }
        Ok(next)
    }

    /// Fences the producer of an open transaction by aborting it with a higher epoch. In those of
    /// version 2 the producer may still name its epoch to InitProducerId (KAFKA-19367; observed).
    fn fenced(&self, bump: EpochBump, now_ms: i64) -> Self {
        let last_epoch = match bump {
            EpochBump::EachTransaction => self.epoch,
            EpochBump::Never => NO_EPOCH,
        };
        Self {
            state: TxnState::PrepareAbort,
            epoch: self.epoch.saturating_add(1),
            last_epoch,
            updated_at_ms: now_ms,
            ..self.clone()
        }
    }

    /// `prepareAbortOrCommit`.
    fn prepared(&self, end: &End, now_ms: i64, fresh: impl FnOnce() -> i64) -> Self {
        let mut next = Self {
            state: TxnState::prepare(end.ending),
            updated_at_ms: now_ms,
            ..self.clone()
        };
        if next.started_at_ms < 0 {
            next.started_at_ms = now_ms;
        }
        if end.bump == EpochBump::EachTransaction {
            next.last_epoch = self.epoch;
            next.epoch = self.epoch.saturating_add(1);
            if self.is_exhausted() {
                next.next_producer_id = fresh();
            }
        }
        next
    }

    /// What it is once all markers are there: `prepareComplete`.
    fn completed(&self, now_ms: i64) -> Option<Self> {
        let mut next = Self {
            state: self.state.completed()?,
            partitions: BTreeSet::new(),
            updated_at_ms: now_ms,
            ..self.clone()
        };
        if self.next_producer_id != NONE {
            next.previous_producer_id = self.producer_id;
            next.producer_id = self.next_producer_id;
            next.next_producer_id = NONE;
            next.epoch = 0;
        }
        Some(next)
    }

    /// Who may go on once all markers are there; its own producer where none are on their way.
    #[must_use]
    pub fn successor(&self) -> Identity {
        let completed = self.completed(0);
        completed.as_ref().unwrap_or(self).identity()
    }

    /// What an end asks for that knows of epochs for each transaction (`endTransaction`).
    fn end_with_bump(&self, end: &End) -> Result<EndVerdict, ErrorCode> {
        use TxnState::{CompleteAbort, CompleteCommit, Empty, Ongoing};
        let Identity { id, epoch } = end.producer;
        let again_overflowed =
            self.previous_producer_id == id && epoch == EXHAUSTED && self.epoch == 0;
        let again_raised = self.epoch == epoch.saturating_add(1);
        if self.state.preparing().is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if self.producer_id != id && !again_overflowed {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let again = again_raised || again_overflowed;
        let complete = matches!(self.state, CompleteCommit | CompleteAbort);
        if epoch != self.epoch && !(complete && again) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match (self.state, end.ending) {
            (Ongoing, _) => Ok(EndVerdict::Ends),
            (CompleteCommit, Ending::Commit) | (CompleteAbort, Ending::Abort) if again => {
                Ok(EndVerdict::HasEnded)
            }
            (CompleteCommit | CompleteAbort, _) if again => Err(ErrorCode::INVALID_TXN_STATE),
            // Nothing was written, and an abort says that nothing will be.
            (Empty | CompleteCommit | CompleteAbort, Ending::Abort) => Ok(EndVerdict::Ends),
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// What an end of an older client asks for (`endTransactionWithTV1`).
    fn end_without_bump(&self, end: &End) -> Result<EndVerdict, ErrorCode> {
        use TxnState::{CompleteAbort, CompleteCommit, Ongoing};
        if self.producer_id != end.producer.id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.epoch != end.producer.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if self.state.preparing().is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        match (self.state, end.ending) {
            (Ongoing, _) => Ok(EndVerdict::Ends),
            (CompleteCommit, Ending::Commit) | (CompleteAbort, Ending::Abort) => {
                Ok(EndVerdict::HasEnded)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }
}

/// What is to be made of an end.
enum EndVerdict {
    /// The transaction ends.
    Ends,
    /// It has ended in this way before.
    HasEnded,
}

/// The transactional ids of a cluster.
#[derive(Clone, Debug, Default)]
pub struct TxnCoordinator {
    transactions: BTreeMap<Arc<str>, Transaction>,
    timeouts: BTreeSet<(i64, Arc<str>)>,
}

impl TxnCoordinator {
    /// What is known of an id; `None` of one that is new, or was idle for too long.
    #[must_use]
    pub fn find(&self, id: &str, expiry: Expiry, now_ms: i64) -> Option<&Transaction> {
        let known = self.transactions.get(id)?;
        let idle =
            TxnState::Dead.may_follow(known.state) && expiry.has_swept(known.updated_at_ms, now_ms);
        (!idle).then_some(known)
    }

    /// What becomes of an id whose producer begins; `now` is the time and the cluster's level.
    ///
    /// # Errors
    ///
    /// 51 while markers are on their way; 90 for a producer that is another's by now.
    pub fn decide_init(
        known: Option<&Transaction>,
        init: &Init,
        now: (i64, EpochBump),
        mut fresh: impl FnMut() -> i64,
    ) -> Result<InitStep, ErrorCode> {
        let (now_ms, bump) = now;
        let new;
        let transaction = match known {
            Some(transaction) => transaction,
            None => {
                new = Transaction::new(fresh(), init.timeout_ms, now_ms);
                &new
            }
        };
        let preparing = transaction.state.preparing().is_some();
        if preparing {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if init
            .expected
            .is_some_and(|expected| !transaction.may_be(expected))
        {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if transaction.state == TxnState::Ongoing {
            return Ok(InitStep::Fence(transaction.fenced(bump, now_ms)));
        }
        let next = transaction.initialised(init, now_ms, fresh)?;
        Ok(InitStep::Log(next))
    }

    /// What becomes of a transaction that partitions join.
    ///
    /// # Errors
    ///
    /// 49 for an id that is unknown or another's, 90 for another epoch, 51 while markers are on
    /// their way.
    pub fn decide_join(
        known: Option<&Transaction>,
        producer: Identity,
        partitions: &BTreeSet<PartitionKey>,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        let transaction = known.ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        if transaction.state.preparing().is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        transaction.check(producer)?;
        let open = transaction.state == TxnState::Ongoing;
        if open && partitions.is_subset(&transaction.partitions) {
            return Ok(Step::Known(producer));
        }
        let mut next = Transaction {
            state: TxnState::Ongoing,
            updated_at_ms: now_ms,
            ..transaction.clone()
        };
        next.partitions.extend(partitions);
        if !open {
            next.started_at_ms = now_ms;
        }
        Ok(Step::Log(next))
    }

    /// Whether a partition is part of a producer's transaction.
    ///
    /// # Errors
    ///
    /// As [`decide_join`](Self::decide_join), and 120 where it is not.
    pub fn verify(
        known: Option<&Transaction>,
        producer: Identity,
        partition: PartitionKey,
    ) -> Result<(), ErrorCode> {
        let transaction = known.ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        transaction.check(producer)?;
        if transaction.state.preparing().is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if transaction.partitions.contains(&partition) {
            Ok(())
        } else {
            Err(ErrorCode::TRANSACTION_ABORTABLE)
        }
    }

    /// What becomes of a transaction that its producer ends.
    ///
    /// # Errors
    ///
    /// 49 for an id that is unknown or another's, 90 for another epoch, 51 while markers are on
    /// their way, 48 where nothing is open or it has ended the other way.
    pub fn decide_end(
        known: Option<&Transaction>,
        end: &End,
        now_ms: i64,
        fresh: impl FnOnce() -> i64,
    ) -> Result<Step, ErrorCode> {
        let transaction = known.ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        let verdict = match end.bump {
            EpochBump::EachTransaction => transaction.end_with_bump(end)?,
            EpochBump::Never => transaction.end_without_bump(end)?,
        };
        Ok(match verdict {
            EndVerdict::HasEnded => Step::Known(transaction.identity()),
            EndVerdict::Ends => Step::Log(transaction.prepared(end, now_ms, fresh)),
        })
    }

    /// What fences the producers of transactions that are open for too long.
    #[must_use]
    pub fn decide_timeouts(&self, now_ms: i64, bump: EpochBump) -> Vec<(Arc<str>, Transaction)> {
        let late = self
            .timeouts
            .iter()
            .take_while(|(due_ms, _)| *due_ms < now_ms);
        let fenced = late.filter_map(|(_, id)| {
            let transaction = self.transactions.get(id)?;
            Some((Arc::clone(id), transaction.fenced(bump, now_ms)))
        });
        fenced.collect()
    }

    /// What an id is once all its markers are there; `None` where none are on their way.
    #[must_use]
    pub fn decide_completion(&self, id: &str, now_ms: i64) -> Option<Transaction> {
        self.transactions.get(id)?.completed(now_ms)
    }

    /// A record is in the log of transactions: it counts from now on.
    pub fn apply(&mut self, id: &Arc<str>, record: Transaction) {
        let before = self.transactions.get(id);
        debug_assert!(
            before.is_none_or(|before| record.state.may_follow(before.state)),
            "txn coordinator 2: {before:?} {record:?}"
        );
        if let Some(due_ms) = before.and_then(Transaction::times_out_at_ms) {
            self.timeouts.remove(&(due_ms, Arc::clone(id)));
        }
        if let Some(due_ms) = record.times_out_at_ms() {
            self.timeouts.insert((due_ms, Arc::clone(id)));
        }
        self.transactions.insert(Arc::clone(id), record);
    }

    /// When the first open transaction will have been open for too long.
    #[must_use]
    pub fn next_timeout_ms(&self) -> Option<i64> {
        self.timeouts.first().map(|(due_ms, _)| *due_ms)
    }

    /// All ids, in their order, those included that are idle for too long.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction)> {
        self.transactions.iter()
    }

    /// How many ids there are, those included that are idle for too long.
    #[must_use]
    pub fn count(&self) -> usize {
        self.transactions.len()
    }

    /// Forgets the ids that are idle for too long.
    pub fn forget_expired(&mut self, expiry: Expiry, now_ms: i64) {
        self.transactions.retain(|_, known| {
            !TxnState::Dead.may_follow(known.state)
                || !expiry.has_swept(known.updated_at_ms, now_ms)
        });
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        let open = self.transactions.iter().filter_map(|(id, known)| {
            let due_ms = known.times_out_at_ms()?;
            Some((due_ms, Arc::clone(id)))
        });
        assert_eq!(
            open.collect::<BTreeSet<_>>(),
            self.timeouts,
            "txn coordinator 5"
        );
        for (id, known) in &self.transactions {
            let open = known.state == TxnState::Ongoing || known.state.preparing().is_some();
            assert!(open || known.partitions.is_empty(), "txn coordinator: {id}");
            assert_ne!(
                known.state,
                TxnState::PrepareEpochFence,
                "txn coordinator 1: {id}"
            );
        }
    }
}

impl Transaction {
    /// Whether it is this producer's.
    fn check(&self, producer: Identity) -> Result<(), ErrorCode> {
        if self.producer_id != producer.id {
            Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        } else if self.epoch != producer.epoch {
            Err(ErrorCode::PRODUCER_FENCED)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000;
    const FRESH: i64 = 7_000;

    fn transaction(state: TxnState, epoch: i16) -> Transaction {
        Transaction {
            state,
            epoch,
            ..Transaction::new(4_000, 60_000, 0)
        }
    }

    fn end(producer: Identity) -> End {
        End {
            producer,
            ending: Ending::Commit,
            bump: EpochBump::EachTransaction,
        }
    }

    fn init(expected: Option<Identity>) -> Init {
        Init {
            timeout_ms: 60_000,
            expected,
        }
    }

    fn initialised(known: &Transaction, expected: Option<Identity>) -> Result<Identity, ErrorCode> {
        let now = (NOW_MS, EpochBump::EachTransaction);
        let step = TxnCoordinator::decide_init(Some(known), &init(expected), now, || FRESH)?;
        match step {
            InitStep::Log(record) => Ok(record.identity()),
            InitStep::Fence(_) => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
        }
    }

    /// The last epoch of a producer is for fencing it; what it was asked last is answered again.
    #[test]
    fn an_end_with_the_last_epoch_gives_another_id() {
        let open = transaction(TxnState::Ongoing, EXHAUSTED);
        let before = open.identity();
        let fresh = Identity {
            id: FRESH,
            epoch: 0,
        };
        let step = TxnCoordinator::decide_end(Some(&open), &end(before), NOW_MS, || FRESH);
        let Ok(Step::Log(prepared)) = step else {
            panic!("{step:?}");
        };
        assert_eq!(prepared.identity().epoch, i16::MAX, "in its markers");
        assert_eq!(prepared.successor(), fresh);
        let completed = prepared.completed(NOW_MS).unwrap();
        let again = TxnCoordinator::decide_end(Some(&completed), &end(before), NOW_MS, || 0);
        assert_eq!(again, Ok(Step::Known(fresh)));
        assert_eq!(initialised(&completed, Some(before)), Ok(fresh));
        let raised = Identity { epoch: 1, ..fresh };
        assert_eq!(initialised(&completed, Some(fresh)), Ok(raised));
    }

    #[test]
    fn a_beginning_with_the_last_epoch_gives_another_id() {
        let done = transaction(TxnState::CompleteCommit, EXHAUSTED);
        let fresh = Identity {
            id: FRESH,
            epoch: 0,
        };
        assert_eq!(initialised(&done, None), Ok(fresh));
        assert_eq!(initialised(&done, Some(done.identity())), Ok(fresh));
    }

    #[test]
    fn fencing_before_version_2_lets_nobody_name_its_epoch() {
        let open = transaction(TxnState::Ongoing, 3);
        let fenced = open.fenced(EpochBump::Never, NOW_MS);
        assert_eq!((fenced.epoch, fenced.last_epoch), (4, NO_EPOCH));
        let completed = fenced.completed(NOW_MS).unwrap();
        let named = initialised(&completed, Some(open.identity()));
        assert_eq!(named, Err(ErrorCode::PRODUCER_FENCED));
        let fenced = open.fenced(EpochBump::EachTransaction, NOW_MS);
        assert_eq!((fenced.epoch, fenced.last_epoch), (4, 3));
    }
}
