//! Transactions for threads that run no async code: each method waits as its async form does, and
//! must not be called within a task.
//!
//! *Not here*: what is promised (`transactions.rs`).

use crate::group_offsets::{ConsumedOffset, ConsumerGroup};
use crate::io::blocking::block_on;
use crate::produce_error::ProduceError;
use crate::producer::Producer;
use crate::record::Record;
use crate::transaction_error::{AbortError, CommitError, TransactionError};
use crate::transactions::{PendingAbort, PendingCommit, Transaction, Transactions};

impl Producer {
    /// [`Producer::init_transactions`] for a thread that runs no async code, as
    /// [`Producer::send_blocking`]; what it returns has blocking forms too.
    ///
    /// ```no_run
    /// # use kafka_producer::{CommitError, Producer, Record};
    /// # fn example(producer: Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transactions = producer.init_transactions_blocking()?;
    /// let transfer = transactions.begin_blocking()?;
    /// transfer.send_blocking(Record::to("accounts").key("alice").value("-10"))?;
    /// transfer.send_blocking(Record::to("accounts").key("bob").value("+10"))?;
    /// let mut committed = transfer.commit_blocking();
    /// while let Err(CommitError::Unanswered(commit)) = committed {
    ///     committed = commit.resume_blocking();
    /// }
    /// committed?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Producer::init_transactions`].
    pub fn init_transactions_blocking(&self) -> Result<Transactions, TransactionError> {
        block_on(self.init_transactions())
    }

    /// [`Producer::begin_transaction`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn begin_transaction_blocking(&self) -> Result<(), TransactionError> {
        block_on(self.begin_transaction())
    }

    /// [`Producer::send_offsets_to_transaction`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_offsets_to_transaction_blocking(
        &self,
        offsets: impl IntoIterator<Item = ConsumedOffset>,
        group: &ConsumerGroup,
    ) -> Result<(), TransactionError> {
        block_on(self.send_offsets_to_transaction(offsets, group))
    }

    /// [`Producer::commit_transaction`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit_transaction_blocking(&self) -> Result<(), TransactionError> {
        block_on(self.commit_transaction())
    }

    /// [`Producer::abort_transaction`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn abort_transaction_blocking(&self) -> Result<(), TransactionError> {
        block_on(self.abort_transaction())
    }
}

impl Transactions {
    /// [`Transactions::begin`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn begin_blocking(&mut self) -> Result<Transaction<'_>, TransactionError> {
        block_on(self.begin())
    }
}

impl Transaction<'_> {
    /// [`Transaction::send`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_blocking(&self, record: Record<'_, &str>) -> Result<(), ProduceError> {
        block_on(self.send(record))
    }

    /// [`Transaction::send_offsets`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_offsets_blocking(
        &self,
        offsets: impl IntoIterator<Item = ConsumedOffset>,
        group: &ConsumerGroup,
    ) -> Result<(), TransactionError> {
        block_on(self.send_offsets(offsets, group))
    }

    /// [`Transaction::commit`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit_blocking(self) -> Result<(), CommitError> {
        block_on(self.commit())
    }

    /// [`Transaction::abort`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn abort_blocking(self) -> Result<(), AbortError> {
        block_on(self.abort())
    }
}

impl PendingCommit {
    /// [`PendingCommit::resume`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resume_blocking(self) -> Result<(), CommitError> {
        block_on(self.resume())
    }
}

impl PendingAbort {
    /// [`PendingAbort::resume`], blocking.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resume_blocking(self) -> Result<(), AbortError> {
        block_on(self.resume())
    }
}
