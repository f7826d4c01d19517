//! Several transactional ids behind one handle: a transaction is written while those before it are
//! still being committed.
//!
//! *State* of a transaction
//! ```text
//!                             all before it
//!  open ──▶ writing ──▶ written ───────────▶ EndTxn ──▶ committed
//!   │  commit  │           │  are committed    │
//!   │ dropped, │ failed    │ one is not        │ refused, or lost for good
//!   ▼ aborted  ▼           ▼                   ▼
//!  left out   not committed, nor is any behind it
//! ```
//!
//! *Invariants*
//! 1. The coordinator is asked to commit a transaction only when all that were begun before it, and
//!    not aborted by their holder, are known to be committed: what counts is always a beginning of
//!    what was committed.
//! 2. No record of a transaction is taken before all records of the one before it are written: in
//!    each partition they stand in the order of the transactions.
//! 3. After one that was not committed, none is, until [`Lanes::go_on`] is called: whoever commits
//!    has to know that there is a gap, or it would be closed over.
//! 4. Once [`Lanes::start`] has returned, nothing of an older handle of the same name is committed
//!    any more, however many lanes that had.
//!
//! *Not here*: transactions on their own (`transactions.rs`).

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{ConfigError, ProducerBuilder};
use crate::io::waiting::Patience;
use crate::produce_error::ProduceError;
use crate::producer::Producer;
use crate::transaction_error::{AbortError, CommitError, TransactionError};
use crate::transactions::{Transaction, Transactions};

/// How many there may be.
const LANES_MAX: usize = 16;

/// Transactions of several ids, committed in the order in which they were begun; from
/// [`Lanes::start`].
///
/// With [`Transactions`] each transaction waits until the one before has been
/// ended by its coordinator, and its first record may wait for that one's markers. Here the next
/// one is written meanwhile. What is promised:
///
/// - *Each is atomic*, as any transaction.
/// - *In order.* In each partition the records of one stand before those of the next.
/// - *No gaps.* One is committed only when all before it are. If one is not, because a record
///   failed, it was fenced, or nobody will ever know, then none behind it is: their commits say
///   [`EarlierNotCommitted`](crate::TransactionErrorKind::EarlierNotCommitted). Nothing begins
///   until [`Lanes::go_on`] is called, and the work of all of them is to be done again, beginning
///   with the first. (Of one that is unknown it has to be found out first.)
/// - *Aborting is not failing.* One that its holder aborts or drops is left out, and the others
///   go on.
/// - *One program at a time.* Once `start` has returned, nothing of older lanes with the same
///   `transactional.id` is committed any more.
///
/// Each lane is a producer with connections and `buffer.memory` of its own. A transaction is open
/// until those before it are committed, and `transaction.timeout.ms` counts until then.
///
/// ```no_run
/// use kafka_producer::{Lanes, Producer, Record};
/// # async fn work() -> Option<String> { None }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = Producer::builder()
///     .bootstrap_servers("127.0.0.1:9092")
///     .transactional_id("transfers-1");
/// let mut lanes = Lanes::start(&builder, 4).await?;
/// let mut commits = std::collections::VecDeque::new();
/// while let Some(value) = work().await {
///     let transaction = lanes.begin().await?; // while those before are being committed
///     transaction.send(Record::to("accounts").value(&value)).await?;
///     commits.push_back(transaction.commit()); // in the background
///     while commits.len() > 4 {
///         // In order: if this one is not committed, none behind it is.
///         commits.pop_front().expect("there are more than four").wait().await?;
///     }
/// }
/// for mut commit in commits {
///     commit.wait().await?;
/// }
/// lanes.close().await?;
/// # Ok(()) }
/// ```
pub struct Lanes {
    lanes: Vec<Lane>,
    /// Of the next transaction.
    next: usize,
    /// How it stands with the last one whose commit was asked for.
    last: watch::Receiver<Progress>,
}

struct Lane {
    producer: Producer,
    transactions: Transactions,
    /// How it stands with this lane's last commit.
    last: watch::Receiver<Progress>,
}

/// How far a commit has come.
#[derive(Clone, Debug)]
enum Progress {
    /// Its records are being written.
    Writing,
    /// They are.
    Written,
    /// It counts, and so do all before it.
    Committed,
    /// It does not, or never will be known to; nor does any behind it.
    Failed(LaneCommitError),
}

impl Progress {
    fn is_writing(&self) -> bool {
        matches!(self, Self::Writing)
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Committed | Self::Failed(_))
    }
}

/// Why a transaction of [`Lanes`] was not committed, or may not have been.
#[derive(Clone, Debug)]
pub enum LaneCommitError {
    /// It was not, and none behind it is.
    NotCommitted(TransactionError),
    /// Nobody will know from this producer; none behind it is committed.
    Unknown(TransactionError),
    /// No answer yet, of it or of one before it; [`LaneCommit::wait`] may be called again.
    Unanswered {
        /// How long it was waited for, `max.block.ms`.
        waited: Duration,
    },
}

/// Why [`Lanes`] were not started.
#[derive(Debug)]
pub enum LanesError {
    /// The count is not 1 to 16.
    Count(usize),
    /// The configuration is refused.
    Config(ConfigError),
    /// A lane was not initialised.
    Transaction(TransactionError),
}

impl Lanes {
    /// Builds `count` producers, 1 to 16, with the ids `ID`, `ID-lane-1`, `ID-lane-2`, …, and
    /// initialises their transactions. All sixteen ids are taken from whoever had them, so the
    /// count may be another one after a restart. A program that wants no lanes any more starts one:
    /// without lanes a producer takes the first id only.
    ///
    /// # Errors
    ///
    /// [`LanesError`]: the count, the configuration (it must have a `transactional.id`), or why a
    /// lane was not initialised.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends what was started.
    pub async fn start(builder: &ProducerBuilder, count: usize) -> Result<Self, LanesError> {
        if !(1..=LANES_MAX).contains(&count) {
            return Err(LanesError::Count(count));
        }
        let mut lanes = Vec::new();
        for number in 0..LANES_MAX {
            let producer = builder.clone().lane(number).build();
            let producer = producer.map_err(LanesError::Config)?;
            let transactions = producer.init_transactions().await;
            let transactions = transactions.map_err(LanesError::Transaction)?;
            // Those beyond the count are only fenced.
            if number < count {
                lanes.push(Lane {
                    producer,
                    transactions,
                    last: nothing_before(),
                });
            }
        }
        Ok(Self {
            lanes,
            next: 0,
            last: nothing_before(),
        })
    }

    /// Begins a transaction, once the records of the one before are written, and its own lane is
    /// free; waits at most `max.block.ms` for each.
    ///
    /// # Errors
    ///
    /// One before was not committed, and [`Lanes::go_on`] is to be called; no end of the wait, and
    /// this is to be called again; or the lane's producer can do nothing more.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves no transaction open.
    pub async fn begin(&mut self) -> Result<LaneTransaction<'_>, TransactionError> {
        let at = self.next % self.lanes.len();
        let Some(lane) = self.lanes.get_mut(at) else {
            return Err(TransactionError::closed());
        };
        let mut patience = lane.producer.handle().patience();
        let written = self.last.wait_for(|progress| !progress.is_writing());
        may_go_on(patience.wait(written).await, &patience)?;
        let free = lane.last.wait_for(Progress::is_over);
        may_go_on(patience.wait(free).await, &patience)?;
        let transaction = lane.transactions.begin().await?;
        Ok(LaneTransaction {
            producer: lane.producer.clone(),
            transaction,
            next: &mut self.next,
            last: [&mut self.last, &mut lane.last],
        })
    }

    /// Begins anew after a transaction was not committed: what was behind it is aborted. To be
    /// called by whoever knows which transactions those were, and will do their work again. Where
    /// nothing failed it waits until all is committed.
    ///
    /// # Errors
    ///
    /// A commit is not over within `max.block.ms`, and this is to be called again; or a lane's
    /// producer can do nothing more, and others have to be started.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn go_on(&mut self) -> Result<(), TransactionError> {
        let Some(lane) = self.lanes.first() else {
            return Err(TransactionError::closed());
        };
        let mut patience = lane.producer.handle().patience();
        match patience.wait(self.last.wait_for(Progress::is_over)).await {
            None => return Err(TransactionError::timed_out(patience.allowed())),
            Some(Err(_)) => return Err(TransactionError::closed()),
            Some(Ok(_)) => {}
        }
        for lane in &mut self.lanes {
            // Begins when what was before has ended, and is nothing by itself.
            let empty = lane.transactions.begin().await?;
            if let Err(AbortError::Failed(error)) = empty.abort().await {
                return Err(error);
            }
            lane.last = nothing_before();
        }
        self.last = nothing_before();
        Ok(())
    }

    /// How many lanes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Waits until all commits are over, at most `max.block.ms`, and closes the producers.
    ///
    /// # Errors
    ///
    /// The first record that failed among those that were waited for, as [`Producer::close`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops what is left: commits that were asked for go on.
    pub async fn close(mut self) -> Result<(), ProduceError> {
        if let Some(lane) = self.lanes.first() {
            let mut patience = lane.producer.handle().patience();
            // What is not over by then goes the way of an open transaction.
            let _over = patience.wait(self.last.wait_for(Progress::is_over)).await;
        }
        let mut closed = Ok(());
        for lane in &self.lanes {
            closed = closed.and(lane.producer.close().await);
        }
        closed
    }
}

/// As behind a transaction that is committed.
fn nothing_before() -> watch::Receiver<Progress> {
    watch::channel(Progress::Committed).1
}

/// Whether a transaction may begin behind one that has come so far, within so much patience.
fn may_go_on(
    come: Option<Result<watch::Ref<'_, Progress>, watch::error::RecvError>>,
    patience: &Patience,
) -> Result<(), TransactionError> {
    match come {
        None => Err(TransactionError::timed_out(patience.allowed())),
        Some(Err(_)) => Err(TransactionError::closed()),
        Some(Ok(progress)) => match &*progress {
            Progress::Failed(_) => Err(TransactionError::earlier()),
            Progress::Writing | Progress::Written | Progress::Committed => Ok(()),
        },
    }
}

/// An open transaction of [`Lanes`]: what a [`Transaction`] is, but for its end.
///
/// Dropping it aborts, and the others go on.
#[must_use = "a transaction that is dropped is aborted"]
pub struct LaneTransaction<'l> {
    producer: Producer,
    transaction: Transaction<'l>,
    next: &'l mut usize,
    /// Of all, and of its lane.
    last: [&'l mut watch::Receiver<Progress>; 2],
}

impl<'l> Deref for LaneTransaction<'l> {
    type Target = Transaction<'l>;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl LaneTransaction<'_> {
    /// Has it committed, when all before it are; goes on in the background, and the next one may
    /// begin. [`LaneCommit::wait`] tells what came of it.
    pub fn commit(self) -> LaneCommit {
        let Self {
            producer,
            transaction,
            next,
            last: [of_all, of_lane],
        } = self;
        let (progress, seen) = watch::channel(Progress::Writing);
        let before = std::mem::replace(of_all, seen.clone());
        *of_lane = seen.clone();
        *next += 1;
        let handle = producer.handle();
        let commit = LaneCommit {
            block_max: handle.block_max,
            runtime: handle.runtime.clone(),
            progress: seen,
        };
        let runtime = handle.runtime.clone();
        let ending = Ending {
            transaction: transaction.held(),
            before,
            progress,
        };
        runtime.spawn(ending.run(producer));
        commit
    }

    /// Has none of it count; the others go on.
    ///
    /// # Errors
    ///
    /// As [`Transaction::abort`].
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn abort(self) -> Result<(), AbortError> {
        self.transaction.abort().await
    }
}

/// A commit in the background.
struct Ending {
    transaction: Transaction<'static>,
    before: watch::Receiver<Progress>,
    progress: watch::Sender<Progress>,
}

impl Ending {
    async fn run(mut self, producer: Producer) {
        // Whether all were written the commit finds out again, and says why.
        let _written = producer.flush().await;
        self.progress.send_replace(Progress::Written);
        let may_be = matches!(
            self.before.wait_for(Progress::is_over).await.as_deref(),
            Ok(Progress::Committed)
        );
        let outcome = match may_be {
            true => committed(self.transaction.commit().await).await,
            false => {
                // None of it counts, whatever is answered.
                let _aborted = self.transaction.abort().await;
                Err(LaneCommitError::NotCommitted(TransactionError::earlier()))
            }
        };
        self.progress.send_replace(match outcome {
            Ok(()) => Progress::Committed,
            Err(error) => Progress::Failed(error),
        });
    }
}

/// Waits until a commit is answered, however long that is.
async fn committed(mut answer: Result<(), CommitError>) -> Result<(), LaneCommitError> {
    while let Err(CommitError::Unanswered(commit)) = answer {
        answer = commit.resume().await;
    }
    answer.map_err(|error| match error {
        CommitError::NotCommitted(error) => LaneCommitError::NotCommitted(error),
        CommitError::Unknown(error) => LaneCommitError::Unknown(error),
        CommitError::Unanswered(commit) => LaneCommitError::Unanswered {
            waited: commit.waited(),
        },
    })
}

/// What came of a commit, in the end; dropping it changes nothing.
#[derive(Clone)]
#[must_use = "whether it was committed is known only by waiting"]
pub struct LaneCommit {
    block_max: Duration,
    runtime: tokio::runtime::Handle,
    progress: watch::Receiver<Progress>,
}

impl LaneCommit {
    /// Waits until it is committed, or not; at most `max.block.ms`, and may be called again.
    ///
    /// # Errors
    ///
    /// [`LaneCommitError`] says which.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn wait(&mut self) -> Result<(), LaneCommitError> {
        let mut patience = Patience::start(&self.runtime, self.block_max);
        let unheard = || LaneCommitError::Unknown(TransactionError::closed());
        match patience
            .wait(self.progress.wait_for(Progress::is_over))
            .await
        {
            None => Err(LaneCommitError::Unanswered {
                waited: self.block_max,
            }),
            Some(Err(_)) => Err(unheard()),
            Some(Ok(progress)) => match &*progress {
                Progress::Failed(error) => Err(error.clone()),
                _ => Ok(()),
            },
        }
    }
}

impl fmt::Display for LaneCommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCommitted(error) => write!(f, "not committed: {error}"),
            Self::Unknown(error) => write!(f, "possibly committed: {error}"),
            Self::Unanswered { waited } => write!(
                f,
                "possibly committed: no answer within {waited:?} (max.block.ms); wait again"
            ),
        }
    }
}

impl std::error::Error for LaneCommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotCommitted(error) | Self::Unknown(error) => Some(error),
            Self::Unanswered { .. } => None,
        }
    }
}

impl fmt::Display for LanesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count} lanes: allowed are 1 to {LANES_MAX}"),
            Self::Config(error) => write!(f, "{error}"),
            Self::Transaction(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LanesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Count(_) => None,
            Self::Config(error) => Some(error),
            Self::Transaction(error) => Some(error),
        }
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.lanes.len();
        f.debug_struct("Lanes")
            .field("count", &count)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LaneTransaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transaction = &self.transaction;
        f.debug_tuple("LaneTransaction").field(transaction).finish()
    }
}

impl fmt::Debug for LaneCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneCommit").finish_non_exhaustive()
    }
}
