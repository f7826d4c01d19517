//! Transactions: records of several partitions that count together, or not at all.
//!
//! *State* of what a program holds
//! ```text
//!  Producer ── init_transactions ──▶ Transactions ── begin ──▶ Transaction ── commit ──▶ done
//!                                         ▲                     │   │           └─▶ PendingCommit
//!                                         │        dropped:     │   └── abort ────▶ done
//!                                         └──────── aborted ────┘               └─▶ PendingAbort
//! ```
//!
//! *Invariants*
//! 1. One transaction is open at a time: a [`Transaction`] borrows the [`Transactions`] it is of.
//! 2. A transaction that nobody holds any more is aborted, unless its commit was asked for.
//! 3. An end that got no answer can be waited for again, and nothing else.
//!
//! *Source*: KIP-98; Kafka's `KafkaProducer.initTransactions` and its like.
//!
//! *Not here*: what is asked when (`engine/transaction.rs`, `engine/transacting.rs`).

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::delivery::Written;
use crate::engine::transaction::{Ask, AskId, Certainty, Denied, Misuse};
use crate::error::{Failure, FailureKind};
use crate::group_offsets::{ConsumedOffset, ConsumerGroup, GroupOffsets};
use crate::handle::{Destination, ProducerHandle};
use crate::io::desk::{Desk, Order, Reply};
use crate::io::meters::waits::Wait;
use crate::produce_error::ProduceError;
use crate::producer::Producer;
use crate::record::Record;
use crate::send_all::Calls;
use crate::transaction_error::{AbortError, CommitError, Remedy, TransactionError};
use crate::wire::transactional::Decision;

/// What a producer with a `transactional.id` has besides.
#[derive(Debug)]
pub(crate) struct Transactional {
    pub(crate) desk: Arc<Desk>,
    /// What was asked by name and not by value, until its answer was told.
    pending: Mutex<Option<(Pending, Arc<Reply>)>>,
}

/// What may have to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Initialise,
    End(Decision),
}

impl Transactional {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            pending: Mutex::new(None),
        }
    }
}

impl ProducerHandle {
    fn transactional(&self) -> Result<&Transactional, TransactionError> {
        let misuse = || TransactionError::misuse(Misuse::NotTransactional);
        self.transactional.as_ref().ok_or_else(misuse)
    }

    /// Posts an ask whose answer is waited for.
    fn post_ask(&self, id: AskId, ask: Ask) -> Arc<Reply> {
        let reply = Arc::new(Reply::default());
        let order = Order::Ask(id, ask, Some(Arc::clone(&reply)));
        self.accumulator.inbox.post_order(order);
        reply
    }

    /// Waits for an answer, at most `max.block.ms`.
    async fn answer(&self, reply: &Reply) -> Option<Result<(), Denied>> {
        let mut patience = self.patience();
        let answered = async {
            tokio::select! {
                biased;
                answer = reply.wait() => answer,
                () = self.accumulator.phase.ended() => {
                    // Who ends answers first what it has heard of.
                    let closed = Failure::new(FailureKind::Closed);
                    let unheard = Denied::Fatal(closed, Certainty::NotCommitted);
                    reply.peek().unwrap_or(Err(unheard))
                }
            }
        };
        patience.wait(answered).await
    }

    /// Asks, or waits again for what was asked before and has not been told.
    async fn ask_or_resume(&self, what: Pending) -> Result<(), TransactionError> {
        let transactional = self.transactional()?;
        let reply = {
            let mut pending = transactional.lock();
            match &*pending {
                Some((before, reply)) if *before == what => Arc::clone(reply),
                Some((before, _)) => return Err(TransactionError::misuse(before.is_pending())),
                None => {
                    let ask = match what {
                        Pending::Initialise => Ask::Initialise,
                        Pending::End(decision) => Ask::End {
                            decision,
                            begun_by: None,
                        },
                    };
                    let reply = self.post_ask(transactional.desk.number(), ask);
                    *pending = Some((what, Arc::clone(&reply)));
                    reply
                }
            }
        };
        let _measured = self.measured(what.wait());
        let Some(answer) = self.answer(&reply).await else {
            return Err(TransactionError::timed_out(self.block_max));
        };
        transactional.told(&reply);
        answer.map_err(|denied| TransactionError::denied(denied, Remedy::Abort))
    }

    async fn commit_offsets(
        &self,
        offsets: GroupOffsets,
        begun_by: Option<AskId>,
    ) -> Result<(), TransactionError> {
        let transactional = self.transactional()?;
        if let Some((pending, _)) = &*transactional.lock() {
            return Err(TransactionError::misuse(pending.is_pending()));
        }
        if offsets.offsets.is_empty() {
            return Ok(());
        }
        let ask = Ask::CommitOffsets {
            offsets: Arc::new(offsets),
            begun_by,
        };
        let reply = self.post_ask(transactional.desk.number(), ask);
        let _measured = self.measured(Wait::TxnSendOffsets);
        match self.answer(&reply).await {
            None => Err(TransactionError::timed_out(self.block_max)),
            Some(answer) => {
                answer.map_err(|denied| TransactionError::denied(denied, Remedy::Abort))
            }
        }
    }

    /// Begins, by whichever name it is asked for.
    async fn begin(self: &Arc<Self>) -> Result<Open, TransactionError> {
        let transactional = self.transactional()?;
        let begun_by = transactional.desk.number();
        let reply = self.post_ask(begun_by, Ask::Begin);
        // Given up from here on, it is withdrawn, or aborted.
        let open = Open {
            handle: Arc::clone(self),
            begun_by,
            when_dropped: WhenDropped::Release,
        };
        let _measured = self.measured(Wait::TxnBegin);
        match self.answer(&reply).await {
            None => Err(TransactionError::timed_out(self.block_max)),
            Some(Ok(())) => Ok(open),
            Some(Err(denied)) => Err(TransactionError::denied(denied, Remedy::Abort)),
        }
    }
}

impl Transactional {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Pending, Arc<Reply>)>> {
        // One assignment each: a panic elsewhere leaves it whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer was told to somebody.
    fn told(&self, reply: &Arc<Reply>) {
        let mut pending = self.lock();
        if pending
            .as_ref()
            .is_some_and(|(_, one)| Arc::ptr_eq(one, reply))
        {
            *pending = None;
        }
    }
}

impl Pending {
    /// As what waiting for it is measured.
    fn wait(self) -> Wait {
        match self {
            Self::Initialise => Wait::TxnInit,
            Self::End(Decision::Commit) => Wait::TxnCommit,
            Self::End(Decision::Abort) => Wait::TxnAbort,
        }
    }

    /// Why nothing else can be asked meanwhile.
    fn is_pending(self) -> Misuse {
        match self {
            Self::Initialise => Misuse::NotInitialised,
            Self::End(Decision::Commit) => Misuse::Committing,
            Self::End(Decision::Abort) => Misuse::Aborting,
        }
    }
}

impl Producer {
    /// Makes the producer the only one with its `transactional.id`: whoever had it before is
    /// fenced, and what it left open is aborted. To be called once, before the first transaction;
    /// waits at most `max.block.ms`.
    ///
    /// ```no_run
    /// use kafka_producer::{CommitError, Producer, Record};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let producer = Producer::builder()
    ///     .bootstrap_servers("127.0.0.1:9092")
    ///     .transactional_id("transfers-1") // the same after a restart, and nobody else's
    ///     .build()?;
    /// let mut transactions = producer.init_transactions().await?;
    ///
    /// let transfer = transactions.begin().await?;
    /// transfer.send(Record::to("accounts").key("alice").value("-10")).await?;
    /// transfer.send(Record::to("accounts").key("bob").value("+10")).await?; // `?` drops: aborts
    /// match transfer.commit().await {
    ///     Ok(()) => println!("both count"),
    ///     Err(CommitError::NotCommitted(error)) => println!("none counts: {error}"),
    ///     Err(CommitError::Unanswered(commit)) => commit.resume().await?, // no other way is left
    ///     Err(CommitError::Unknown(error)) => println!("both count, or none: {error}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The producer has no `transactional.id`; it was called before; the coordinator refused; or no
    /// answer came in time, and the same call goes on where it stands.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up waiting; the next call goes on where it stands.
    pub async fn init_transactions(&self) -> Result<Transactions, TransactionError> {
        let handle = self.handle();
        handle.ask_or_resume(Pending::Initialise).await?;
        Ok(Transactions {
            handle: Arc::clone(handle),
        })
    }

    /// Kafka's `beginTransaction`, for code that is ported: records sent by any means of this
    /// producer are part of the transaction until it is committed or aborted. New code is safer
    /// with [`Transactions::begin`].
    ///
    /// # Errors
    ///
    /// A call out of turn; the one before failed and was not aborted; the producer can do nothing
    /// more.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves no transaction open.
    pub async fn begin_transaction(&self) -> Result<(), TransactionError> {
        let handle = self.handle();
        if let Some((pending, _)) = &*handle.transactional()?.lock() {
            return Err(TransactionError::misuse(pending.is_pending()));
        }
        handle.begin().await.map(Open::leave)
    }

    /// Kafka's `sendOffsetsToTransaction`; new code is safer with [`Transaction::send_offsets`].
    ///
    /// # Errors
    ///
    /// As there; a call out of turn.
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: impl IntoIterator<Item = ConsumedOffset>,
        group: &ConsumerGroup,
    ) -> Result<(), TransactionError> {
        let offsets = GroupOffsets::new(group.clone(), offsets.into_iter().collect());
        self.handle().commit_offsets(offsets, None).await
    }

    /// Kafka's `commitTransaction`: sends what is queued, waits until it is written, and commits.
    /// Waits at most `max.block.ms`; new code is safer with [`Transaction::commit`].
    ///
    /// # Errors
    ///
    /// A call out of turn; a record failed, and only [`Producer::abort_transaction`] is left; no
    /// answer in time: then whether it was committed is unknown, and only the same call again is
    /// left.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up waiting; the next call goes on where it stands.
    pub async fn commit_transaction(&self) -> Result<(), TransactionError> {
        let commit = Pending::End(Decision::Commit);
        self.handle().ask_or_resume(commit).await
    }

    /// Kafka's `abortTransaction`: fails what is queued, waits for what is on its way, and aborts.
    /// Waits at most `max.block.ms`; new code is safer with [`Transaction::abort`].
    ///
    /// # Errors
    ///
    /// A call out of turn; no answer in time: then only the same call again is left.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up waiting; the next call goes on where it stands.
    pub async fn abort_transaction(&self) -> Result<(), TransactionError> {
        let abort = Pending::End(Decision::Abort);
        self.handle().ask_or_resume(abort).await
    }
}

/// The transactions of a [`Producer`], one after the other; from [`Producer::init_transactions`].
pub struct Transactions {
    handle: Arc<ProducerHandle>,
}

impl Transactions {
    /// Begins a transaction, once the one before has ended: one that was dropped is aborted first.
    /// Asks no broker.
    ///
    /// # Errors
    ///
    /// The producer was fenced, closed, or can do nothing more; or the transaction before has not
    /// ended within `max.block.ms`.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves no transaction open.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        Ok(Transaction {
            open: self.handle.begin().await?,
            one_at_a_time: PhantomData,
        })
    }
}

/// An open transaction: what is sent counts when it is committed, for whoever reads with
/// `isolation.level=read_committed`.
///
/// Dropping it aborts in the background; the next [`Transactions::begin`] waits for that. Records
/// sent by other means of the same producer while it is open are part of it too.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'t> {
    open: Open,
    one_at_a_time: PhantomData<&'t mut Transactions>,
}

impl Transaction<'_> {
    /// The same, kept apart from the [`Transactions`] it is of: whoever does so has none begun
    /// there before it has ended.
    pub(crate) fn held(self) -> Transaction<'static> {
        Transaction {
            open: self.open,
            one_at_a_time: PhantomData,
        }
    }

    /// Hands a record over, as [`Producer::send`] does, as part of the transaction. What becomes of
    /// it is what becomes of the transaction: [`Transaction::commit`] waits until it is written,
    /// and fails if it is not. Who wants its delivery sends it with the producer while the
    /// transaction is open.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]; or something of the transaction failed before. After any of them the
    /// transaction cannot be committed.
    ///
    /// # Cancellation
    ///
    /// As [`Producer::send`].
    pub async fn send(&self, record: Record<'_, &str>) -> Result<(), ProduceError> {
        let (topic, record) = record.split();
        let to = Destination::Named(topic);
        self.open.handle.send(to, &record, None).await.map(drop)
    }

    /// [`Transaction::send`] for many records, with less to do for each, as [`Producer::send_all`].
    ///
    /// # Errors
    ///
    /// The first refusal among them, as [`Transaction::send`].
    ///
    /// # Cancellation
    ///
    /// As [`Producer::send_all`].
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a, &'a str>>,
    ) -> Result<(), ProduceError> {
        let records = records.into_iter().collect();
        let sent = self.open.handle.send_all_named(records, &Calls::NONE).await;
        sent.into_iter().try_for_each(|sent| sent.map(drop))
    }

    /// [`Producer::deliver`], as part of the transaction: waits until the record is written, which
    /// it counts as only when the transaction is committed.
    ///
    /// # Errors
    ///
    /// As [`Transaction::send`], or why the record was not written, or may not have been.
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn deliver(&self, record: Record<'_, &str>) -> Result<Written, ProduceError> {
        let (topic, record) = record.split();
        let to = Destination::Named(topic);
        self.open.handle.send(to, &record, None).await?.await
    }

    /// Commits how far a consumer group has read together with the transaction: committed, both
    /// what was read and what was written of it count; aborted, the group reads it again. Waits at
    /// most `max.block.ms`, until the group's coordinator has the offsets.
    ///
    /// The consumer must read committed records only, and must not commit by itself.
    ///
    /// ```no_run
    /// use kafka_producer::{ConsumedOffset, ConsumerGroup, Transactions};
    ///
    /// # use std::error::Error;
    /// # async fn example(mut transactions: Transactions) -> Result<(), Box<dyn Error>> {
    /// let group = ConsumerGroup::new("copiers").member("consumer-1-5f0e", 3);
    /// let copy = transactions.begin().await?;
    /// // … records made of what was read from `orders`, partition 0, up to offset 41
    /// copy.send_offsets([ConsumedOffset::next("orders", 0, 42)], &group).await?;
    /// copy.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The member has lost its partitions, or is refused: the transaction can only be aborted. Or
    /// no answer came in time; then this may be called again.
    ///
    /// # Cancellation
    ///
    /// Dropping the future takes nothing back; the commit waits for the offsets.
    pub async fn send_offsets(
        &self,
        offsets: impl IntoIterator<Item = ConsumedOffset>,
        group: &ConsumerGroup,
    ) -> Result<(), TransactionError> {
        let offsets = GroupOffsets::new(group.clone(), offsets.into_iter().collect());
        let begun_by = Some(self.open.begun_by);
        self.open.handle.commit_offsets(offsets, begun_by).await
    }

    /// Sends what is queued, waits until all of it is written, and has it count, together. Waits at
    /// most `max.block.ms`. A transaction in which nothing was sent asks no broker.
    ///
    /// # Errors
    ///
    /// [`CommitError`] says which: not committed; not answered yet; or never to be known.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not take the commit back: it goes on in the background, and the
    /// next [`Transactions::begin`] waits for it.
    pub async fn commit(self) -> Result<(), CommitError> {
        let Self { open, .. } = self;
        let reply = open.ask_end(Decision::Commit);
        PendingCommit { open, reply }.resume().await
    }

    /// Has none of it count. What is queued fails, what is on its way is waited for; at most
    /// `max.block.ms`.
    ///
    /// # Errors
    ///
    /// [`AbortError`]: not answered yet, or the producer can do nothing more.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: it is aborted in the background.
    pub async fn abort(self) -> Result<(), AbortError> {
        let Self { open, .. } = self;
        let reply = open.ask_end(Decision::Abort);
        PendingAbort { open, reply }.resume().await
    }
}

/// A commit that got no answer yet. The producer goes on asking for it, also when this is dropped;
/// the next [`Transactions::begin`] waits for the answer.
#[must_use = "whether it was committed is known only by resuming"]
pub struct PendingCommit {
    open: Open,
    reply: Arc<Reply>,
}

impl PendingCommit {
    /// Waits on, again at most `max.block.ms`.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn resume(self) -> Result<(), CommitError> {
        match self.open.answer(&self.reply, Wait::TxnCommit).await {
            None => Err(CommitError::Unanswered(self)),
            Some(Ok(())) => Ok(()),
            Some(Err(denied)) => Err(CommitError::denied(denied)),
        }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.open.handle.block_max
    }
}

/// An abort that got no answer yet. The producer goes on asking for it, also when this is dropped.
#[must_use = "that it was aborted is known only by resuming"]
pub struct PendingAbort {
    open: Open,
    reply: Arc<Reply>,
}

impl PendingAbort {
    /// Waits on, again at most `max.block.ms`.
    ///
    /// # Errors
    ///
    /// As [`Transaction::abort`].
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn resume(self) -> Result<(), AbortError> {
        match self.open.answer(&self.reply, Wait::TxnAbort).await {
            None => Err(AbortError::Unanswered(self)),
            Some(Ok(())) => Ok(()),
            Some(Err(denied)) => {
                let error = TransactionError::denied(denied, Remedy::NewProducer);
                Err(AbortError::Failed(error))
            }
        }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.open.handle.block_max
    }
}

/// A transaction that somebody holds; one that nobody does is aborted, or its end awaited.
struct Open {
    handle: Arc<ProducerHandle>,
    begun_by: AskId,
    when_dropped: WhenDropped,
}

/// What is done when nobody holds a transaction any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenDropped {
    Release,
    Nothing,
}

impl Open {
    fn ask_end(&self, decision: Decision) -> Arc<Reply> {
        let ask = Ask::End {
            decision,
            begun_by: Some(self.begun_by),
        };
        // The number is only for the driver to find the reply by.
        match &self.handle.transactional {
            Some(transactional) => self.handle.post_ask(transactional.desk.number(), ask),
            None => Arc::default(),
        }
    }

    async fn answer(&self, reply: &Reply, wait: Wait) -> Option<Result<(), Denied>> {
        let _measured = self.handle.measured(wait);
        self.handle.answer(reply).await
    }

    /// Leaves it open with nobody to hold it: it is ended by name.
    fn leave(mut self) {
        self.when_dropped = WhenDropped::Nothing;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.when_dropped == WhenDropped::Release
            && let Some(transactional) = &self.handle.transactional
        {
            let ask = Ask::Release {
                begun_by: self.begun_by,
            };
            let order = Order::Ask(transactional.desk.number(), ask, None);
            self.handle.accumulator.inbox.post_order(order);
        }
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").finish_non_exhaustive()
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open.debug("Transaction", f)
    }
}

impl fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open.debug("PendingCommit", f)
    }
}

impl fmt::Debug for PendingAbort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open.debug("PendingAbort", f)
    }
}

impl Open {
    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("begun_by", &self.begun_by)
            .finish_non_exhaustive()
    }
}
