//! A process that works in transactions, as a value: what it is about to do, and what it waits for.
//!
//! *State*
//! ```text
//!              answered                        work is there, its time has come
//! Initialising ────────▶ Idle ─────────────────────────────────────────▶ Beginning
//!   ▲    │ refused        ▲ ▲                                                │ answered
//!   └────┘ asks again     │ │ told how it ended, or dropped                  ▼
//!                         │ └─────────── Ending ◀── SendingOffsets ◀── Sending: a record at a time
//!                         └────────────────────────────(dropped)──────────────┘
//! each ──▶ Dead: fenced, or told that nothing more can be done
//!      ──▶ Gone: killed; nobody hears of it again
//! ```
//!
//! *Invariants*
//! 1. It does what the public API lets one do: one transaction at a time, a record after the other
//!    is accepted, an end asked for once and waited for.
//!
//! *Not here*: its steps in a world (`working.rs`), what a job is about (`jobs.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_producer::engine::transaction::AskId;
use kafka_producer::wire::transactional::Decision;

use crate::client::Outgoing;
use crate::faults::PlannedSend;
use crate::history::Partition;
use crate::history::transactions::{Copying, GroupOffset};

/// What works in transactions in a world.
#[derive(Clone, Debug)]
pub struct Bracketing {
    /// The transactional ids and what is done under each, one process at a time but for zombies.
    pub jobs: Vec<(&'static str, Job)>,
    /// `transaction.timeout.ms`.
    pub timeout: Duration,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub scan_interval: Duration,
    /// `transaction.version` at the start.
    pub level: i16,
    /// Whether the level is raised on the way.
    pub upgrade: Upgrade,
    /// `max.block.ms`, after which an end counts as not answered yet.
    pub block_max: Duration,
}

/// Whether the level of transactions is raised in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// It stays.
    Never,
    /// It becomes 2 at this time.
    At(Duration),
}

/// What is done under a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// The transactions that are planned.
    Planned,
    /// Reading, and writing what was read.
    Copy(Copying),
    /// Moving money between so many accounts.
    Bank(usize),
}

/// A transaction that is planned.
#[derive(Clone, Debug)]
pub struct PlannedTransaction {
    /// Under which of the setting's ids.
    pub id: usize,
    /// What it has.
    pub work: Work,
    /// Between its steps.
    pub pause: Duration,
    /// How it is to end.
    pub wish: Wish,
}

/// What a planned transaction has.
#[derive(Clone, Debug)]
pub enum Work {
    /// These records, and in the place of one a record that is refused before it is accepted.
    Records(Vec<PlannedSend>, Option<usize>),
    /// Money that goes from one account to another.
    Transfer {
        /// The account that has less then.
        from: usize,
        /// The account that has more.
        to: usize,
        /// How much.
        amount: i64,
    },
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is committed.
    Commit,
    /// It is aborted.
    Abort,
    /// Nobody holds it any more.
    Drop,
}

/// What becomes of a process when another is started in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// It is killed before.
    Killed,
    /// It goes on, and does the same work.
    Zombie,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its place among the setting's ids.
    pub(crate) id: usize,
    pub(crate) state: State,
    pub(crate) to_do: VecDeque<PlannedTransaction>,
    /// Whether it looks for work by itself.
    pub(crate) polls: bool,
    /// It does nothing before.
    pub(crate) wakes_at: Duration,
    /// By place in the history: the open transaction.
    pub(crate) transaction: Option<usize>,
    pub(crate) task: Task,
    pub(crate) memory: Memory,
}

/// What a transaction is to have, made ready.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) begun_by: Option<AskId>,
    pub(crate) records: VecDeque<Item>,
    pub(crate) reads: Vec<Bytes>,
    pub(crate) offsets: Vec<GroupOffset>,
    pub(crate) pause: Duration,
    pub(crate) wish: Wish,
    /// What is known if it is committed: balances of accounts with the values that say so.
    pub(crate) balances: BTreeMap<usize, (i64, Bytes)>,
}

/// A record of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Record(Outgoing),
    /// It is too large, and refused at once.
    TooLarge(Bytes),
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has to ask for its producer id.
    New,
    Initialising(AskId),
    Idle,
    Beginning(AskId),
    /// Whether a record waits to be accepted.
    Sending(InHand),
    SendingOffsets(AskId),
    Ending(AskId, Decision, Duration),
    Dead,
    Gone,
}

/// Whether a record waits to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InHand {
    Nothing,
    Record,
}

/// What a process remembers from one transaction to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// By partition of the input: what is read next.
    pub(crate) positions: BTreeMap<Partition, i64>,
    /// By account.
    pub(crate) balances: Option<BTreeMap<usize, (i64, Bytes)>>,
}

impl Worker {
    pub(crate) fn new(id: usize, job: &Job, to_do: VecDeque<PlannedTransaction>) -> Self {
        Self {
            id,
            state: State::New,
            to_do,
            polls: matches!(job, Job::Copy(_)),
            wakes_at: Duration::ZERO,
            transaction: None,
            task: Task::default(),
            memory: Memory::default(),
        }
    }

    /// Whether it may still do something.
    pub(crate) fn lives(&self) -> bool {
        !matches!(self.state, State::Dead | State::Gone)
    }

    /// Whether it has something to do that was planned, or waits for something.
    pub(crate) fn is_busy(&self) -> bool {
        self.lives() && (self.state != State::Idle || !self.to_do.is_empty())
    }

    /// When it does something by itself, if it will.
    pub(crate) fn acts_at(&self) -> Option<Duration> {
        let acts = match self.state {
            State::New | State::Sending(InHand::Nothing) => true,
            State::Idle => self.polls || !self.to_do.is_empty(),
            _ => false,
        };
        acts.then_some(self.wakes_at)
    }
}

impl Default for Task {
    fn default() -> Self {
        Self {
            begun_by: None,
            records: VecDeque::new(),
            reads: Vec::new(),
            offsets: Vec::new(),
            pause: Duration::ZERO,
            wish: Wish::Drop,
            balances: BTreeMap::new(),
        }
    }
}

impl Bracketing {
    /// The id at a place.
    pub(crate) fn name(&self, id: usize) -> Arc<str> {
        Arc::from(self.jobs[id].0)
    }
}
