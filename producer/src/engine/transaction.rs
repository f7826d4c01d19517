//! The transactions of one transactional id, one after the other, as their producer sees them.
//!
//! *State*
//! ```text
//!                  init                 an id is given             begin
//!  Uninitialised ───────▶ Initialising ───────────────▶ Ready ────────────▶ InTransaction
//!        ▲                  │       ▲                     ▲                   │ │ │
//!        │  refused; may be │       │ its epoch has       │ ended             │ │ │ failed
//!        │  asked again     ▼       │ to be raised        │                   │ │ ▼
//!        └──────── AbortableError   └───── Committing ────┘◀──────────────────┘ │ AbortableError
//!                                   └───── Aborting ──────┘◀────────────────────┘   │
//!                                             ▲──────────────────── abort ──────────┘
//!  Committing ──▶ AbortableError: what was to be committed failed
//!  each ──▶ FatalError: fenced, refused for good, or the producer ended
//! ```
//!
//! *Invariants*
//! 1. A state is entered only from those that may precede it; a step of ours that would break this
//!    is a bug, and leaves the producer in `FatalError`: it must not commit by mistake.
//! 2. What a caller asks out of turn is refused by name, and changes nothing.
//! 3. Once the end was asked for, the other one cannot be: while an answer is missing, a commit may
//!    have been done.
//! 4. A commit is asked of the coordinator only if nothing of the transaction failed.
//! 5. Each ask is answered once, but for one that is withdrawn before.
//!
//! *Source*: Kafka's `TransactionManager.State` and its table of predecessors; KAFKA-14831 for 1.
//!
//! *Not here*: requests (`transacting.rs`), what codes mean (`transaction_codes.rs`), who is part
//! (`participants.rs`). There is no `PREPARED_TRANSACTION`: two-phase commit is not offered.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Failure, FailureKind};
pub use crate::group_offsets::GroupOffsets;
use crate::wire::transactional::Decision;

/// Where the transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No producer id was asked for.
    Uninitialised,
    /// A producer id, or a higher epoch of it, is asked for.
    Initialising,
    /// No transaction is open.
    Ready,
    /// One is open.
    InTransaction,
    /// It is to be committed.
    Committing,
    /// It is to be aborted.
    Aborting,
    /// It failed, and can only be aborted.
    AbortableError,
    /// The producer can do nothing more.
    FatalError,
}

impl State {
    /// Whether a state may follow this one.
    pub(crate) fn precedes(self, next: Self) -> bool {
        use State::{
            AbortableError, Aborting, Committing, FatalError, InTransaction, Initialising, Ready,
            Uninitialised,
        };
        match next {
            Uninitialised => matches!(self, Ready | AbortableError),
            Initialising => matches!(self, Uninitialised | Committing | Aborting),
            Ready => matches!(self, Initialising | Committing | Aborting),
            InTransaction => self == Ready,
            Committing => self == InTransaction,
            Aborting => matches!(self, InTransaction | AbortableError),
            AbortableError => matches!(
                self,
                InTransaction | Committing | AbortableError | Initialising
            ),
            FatalError => true,
        }
    }
}

/// The number of something that was asked, which its answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A producer id for the transactional id, which fences whoever had one before.
    Initialise,
    /// A new transaction, once the one before has ended.
    Begin,
    /// Offsets of a group, to be committed with the open transaction.
    CommitOffsets {
        /// Which.
        offsets: Arc<GroupOffsets>,
        /// As with an end.
        begun_by: Option<AskId>,
    },
    /// An end of the open transaction.
    End {
        /// Which.
        decision: Decision,
        /// By which ask it was begun; `None` for whichever is open.
        begun_by: Option<AskId>,
    },
    /// Nobody holds the transaction that was begun by this ask any more: it is aborted, unless it
    /// is being ended already. Has no answer.
    Release {
        /// The ask.
        begun_by: AskId,
    },
}

/// A call out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// The producer has no `transactional.id`.
    NotTransactional,
    /// Transactions were not initialised yet.
    NotInitialised,
    /// Transactions were initialised before; once is enough.
    AlreadyInitialised,
    /// No transaction is open.
    NotInTransaction,
    /// A transaction is open.
    AlreadyInTransaction,
    /// The transaction is being committed; that cannot be taken back.
    Committing,
    /// The transaction is being aborted; that cannot be taken back.
    Aborting,
}

/// Why something asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It was out of turn.
    Misuse(Misuse),
    /// The transaction failed, and can only be aborted.
    Abortable(Failure),
    /// A producer id, or a higher epoch, was refused; the same may be asked for again.
    NotYet(Failure),
    /// The producer can do nothing more.
    Fatal(Failure, Certainty),
}

/// What is certain of a transaction that was to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It was not.
    NotCommitted,
    /// It may have been: some attempt got no answer.
    Unknown,
}

/// Whether records are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doors {
    /// A transaction is open.
    Open,
    /// None is, or the open one failed, with the reason.
    Shut(Option<Failure>),
}

/// What follows from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// To somebody who asked.
    Answer(AskId, Result<(), Denied>),
    /// To those who send.
    Doors(Doors),
    /// To be committed with the transaction.
    Offsets(AskId, Arc<GroupOffsets>),
}

/// How bad a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The transaction has to be aborted.
    Abortable,
    /// The producer can do nothing more.
    Fatal,
}

/// Whether the epoch has to be raised by asking, before the next transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raise {
    /// It does.
    Needed,
    /// It does not.
    NotNeeded,
}

/// Whether a coordinator has to be told of a transaction's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traces {
    /// Nothing left for any broker.
    None,
    /// Something is to join, for the first time, and its coordinator has not said whether it did.
    Asked,
    /// Something did.
    Some,
}

/// The transactions of one id.
#[derive(Debug)]
pub(crate) struct Transaction {
    state: State,
    /// The ask by which the last one was begun.
    begun_by: Option<AskId>,
    traces: Traces,
    /// Requests to end it that got no answer, none yet, or one that leaves open what was done.
    ends_unanswered: u32,
    /// Why it failed.
    failure: Option<Failure>,
    /// What was certain of it when it failed for good.
    certainty: Certainty,
    waiting: Vec<(AskId, Ask)>,
    /// The producer is: nothing begins any more.
    closing: bool,
    /// Nobody holds it: aborted if its commit fails.
    released: Option<AskId>,
    outputs: VecDeque<Output>,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Uninitialised,
            begun_by: None,
            traces: Traces::None,
            ends_unanswered: 0,
            failure: None,
            certainty: Certainty::NotCommitted,
            waiting: Vec::new(),
            closing: false,
            released: None,
            outputs: VecDeque::from([Output::Doors(Doors::Shut(None))]),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether batches may go.
    pub(crate) fn lets_batches_go(&self) -> bool {
        matches!(self.state, State::InTransaction | State::Committing)
    }

    /// How it is to end, if it is.
    pub(crate) fn decision(&self) -> Option<Decision> {
        match self.state {
            State::Committing => Some(Decision::Commit),
            State::Aborting => Some(Decision::Abort),
            _ => None,
        }
    }

    /// Requests to end it that may still arrive, or may have been done unnoticed.
    pub(crate) fn ends_unanswered(&self) -> u32 {
        self.ends_unanswered
    }

    /// Whether the coordinator has to be asked to end it.
    pub(crate) fn left_traces(&self) -> bool {
        self.traces != Traces::None
    }

    /// Whether nothing is open, and nothing is to be done.
    pub(crate) fn is_settled(&self) -> bool {
        match self.state {
            State::Uninitialised | State::Ready | State::FatalError => true,
            State::Initialising
            | State::InTransaction
            | State::Committing
            | State::Aborting
            | State::AbortableError => false,
        }
    }

    /// What follows next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes in what a caller asks.
    pub(crate) fn handle_ask(&mut self, id: AskId, ask: Ask) {
        if self.state == State::FatalError {
            if !matches!(ask, Ask::Release { .. }) {
                let denied = self.fatal();
                self.answer(id, Err(denied));
            }
            return;
        }
        match ask {
            Ask::Initialise => self.initialise(id),
            Ask::Begin => self.begin_or_wait(id),
            Ask::CommitOffsets { offsets, begun_by } => self.commit_offsets(id, offsets, begun_by),
            Ask::End { decision, begun_by } => self.end(id, decision, begun_by),
            Ask::Release { begun_by } => self.release(begun_by),
        }
    }

    /// A producer id was given.
    pub(crate) fn on_initialised(&mut self) {
        if self.state == State::Initialising {
            self.become_ready();
        }
    }

    /// None was given, but may be later.
    pub(crate) fn on_not_initialised(&mut self, failure: &Failure) {
        if self.state != State::Initialising {
            return;
        }
        self.go(State::AbortableError);
        self.go(State::Uninitialised);
        self.deny(&Denied::NotYet(failure.clone()), |_| true);
    }

    /// The coordinator is asked to let something join.
    pub(crate) fn on_joining(&mut self) {
        if self.traces == Traces::None {
            self.traces = Traces::Asked;
        }
    }

    /// It let nothing join. Of what nothing joined, below `transaction.version` 2, it knows no
    /// transaction: the end that is asked of it would be refused for good.
    pub(crate) fn on_not_joined(&mut self) {
        if self.traces == Traces::Asked {
            self.traces = Traces::None;
        }
    }

    /// Something of the transaction left for a broker.
    pub(crate) fn on_traces(&mut self) {
        self.traces = Traces::Some;
    }

    /// Something of it failed.
    pub(crate) fn on_failed(&mut self, failure: &Failure, severity: Severity) {
        // An end that got no answer may have been done: the other one cannot follow.
        let in_doubt = self.state == State::Committing && self.ends_unanswered > 0;
        if severity == Severity::Fatal || in_doubt {
            return self.fail_for_good(failure);
        }
        match self.state {
            State::InTransaction | State::Committing => {
                self.failure = Some(failure.clone());
                self.go(State::AbortableError);
                self.shut();
                self.deny(&Denied::Abortable(failure.clone()), |ask| {
                    matches!(ask, Ask::End { .. } | Ask::CommitOffsets { .. })
                });
                if self.begun_by.is_some() && self.released.take() == self.begun_by {
                    return self.go(State::Aborting);
                }
                self.deny(&Denied::Abortable(failure.clone()), |_| true);
            }
            // Its first failure counts; what is aborted may fail.
            State::Uninitialised
            | State::Initialising
            | State::Ready
            | State::Aborting
            | State::AbortableError
            | State::FatalError => {}
        }
    }

    /// The group's coordinator has offsets that were asked for.
    pub(crate) fn on_offsets_committed(&mut self, id: AskId) {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if self.waiting.len() < before {
            self.answer(id, Ok(()));
        }
    }

    /// The coordinator is asked to end it.
    pub(crate) fn on_end_asked(&mut self) {
        self.ends_unanswered = self.ends_unanswered.saturating_add(1);
    }

    /// It answered what leaves no doubt: that attempt is settled. One without such an answer never
    /// is.
    pub(crate) fn on_end_answered(&mut self) {
        self.ends_unanswered = self.ends_unanswered.saturating_sub(1);
    }

    /// It has ended as decided.
    pub(crate) fn on_ended(&mut self, raise: Raise) {
        if self.decision().is_none() {
            return;
        }
        for (id, ask) in core::mem::take(&mut self.waiting) {
            match ask {
                Ask::End { .. } => self.answer(id, Ok(())),
                _ => self.waiting.push((id, ask)),
            }
        }
        self.traces = Traces::None;
        self.ends_unanswered = 0;
        self.failure = None;
        self.released = None;
        match raise {
            Raise::Needed => self.go(State::Initialising),
            Raise::NotNeeded => self.become_ready(),
        }
    }

    /// The producer is closing: what is open is aborted, and nothing begins.
    pub(crate) fn on_closing(&mut self) {
        self.closing = true;
        self.deny(&closed(), |ask| *ask == Ask::Begin);
        match self.state {
            State::InTransaction | State::AbortableError => self.abort(),
            State::Committing => self.released = self.begun_by,
            _ => {}
        }
    }

    /// The producer ended: nobody will hear any more of what is missing.
    pub(crate) fn on_given_up(&mut self) {
        self.fail_for_good(&Failure::new(FailureKind::Closed));
    }

    fn initialise(&mut self, id: AskId) {
        match self.state {
            State::Uninitialised => {
                self.waiting.push((id, Ask::Initialise));
                self.go(State::Initialising);
            }
            State::Initialising if self.begun_by.is_none() => {
                self.waiting.push((id, Ask::Initialise));
            }
            _ => self.refuse(id, Misuse::AlreadyInitialised),
        }
    }

    fn begin_or_wait(&mut self, id: AskId) {
        if self.closing {
            return self.answer(id, Err(closed()));
        }
        match self.state {
            State::Uninitialised | State::Initialising if self.begun_by.is_none() => {
                self.refuse(id, Misuse::NotInitialised);
            }
            // Its epoch was not raised when that was asked for last.
            State::Uninitialised => {
                self.waiting.push((id, Ask::Begin));
                self.go(State::Initialising);
            }
            State::Initialising | State::Committing | State::Aborting => {
                self.waiting.push((id, Ask::Begin));
            }
            State::Ready => self.begin(id),
            State::InTransaction => self.refuse(id, Misuse::AlreadyInTransaction),
            State::AbortableError => {
                let denied = self.abortable();
                self.answer(id, Err(denied));
            }
            State::FatalError => {}
        }
    }

    fn begin(&mut self, id: AskId) {
        self.begun_by = Some(id);
        self.go(State::InTransaction);
        self.outputs.push_back(Output::Doors(Doors::Open));
        self.answer(id, Ok(()));
    }

    fn commit_offsets(&mut self, id: AskId, offsets: Arc<GroupOffsets>, begun_by: Option<AskId>) {
        if begun_by.is_some() && begun_by != self.begun_by {
            return self.refuse(id, Misuse::NotInTransaction);
        }
        match self.state {
            State::InTransaction => {
                let ask = Ask::CommitOffsets {
                    offsets: Arc::clone(&offsets),
                    begun_by,
                };
                self.waiting.push((id, ask));
                self.outputs.push_back(Output::Offsets(id, offsets));
            }
            State::AbortableError => {
                let denied = self.abortable();
                self.answer(id, Err(denied));
            }
            State::Committing => self.refuse(id, Misuse::Committing),
            State::Aborting => self.refuse(id, Misuse::Aborting),
            State::Uninitialised | State::Initialising if self.begun_by.is_none() => {
                self.refuse(id, Misuse::NotInitialised);
            }
            State::Uninitialised | State::Initialising | State::Ready => {
                self.refuse(id, Misuse::NotInTransaction);
            }
            State::FatalError => {}
        }
    }

    fn end(&mut self, id: AskId, decision: Decision, begun_by: Option<AskId>) {
        if begun_by.is_some() && begun_by != self.begun_by {
            return self.refuse(id, Misuse::NotInTransaction);
        }
        let ask = Ask::End { decision, begun_by };
        match (self.state, decision) {
            (State::InTransaction, Decision::Commit) => {
                self.waiting.push((id, ask));
                self.go(State::Committing);
                self.shut();
            }
            (State::InTransaction | State::AbortableError, Decision::Abort) => {
                self.waiting.push((id, ask));
                self.abort();
            }
            (State::AbortableError, Decision::Commit) => {
                let denied = self.abortable();
                self.answer(id, Err(denied));
            }
            (State::Committing, Decision::Commit) | (State::Aborting, Decision::Abort) => {
                self.waiting.push((id, ask));
            }
            (State::Committing, Decision::Abort) => self.refuse(id, Misuse::Committing),
            (State::Aborting, Decision::Commit) => self.refuse(id, Misuse::Aborting),
            (State::Uninitialised | State::Initialising, _) if self.begun_by.is_none() => {
                self.refuse(id, Misuse::NotInitialised);
            }
            (State::Uninitialised | State::Initialising | State::Ready, _) => {
                self.refuse(id, Misuse::NotInTransaction);
            }
            (State::FatalError, _) => {}
        }
    }

    fn release(&mut self, begun_by: AskId) {
        // It had not begun yet.
        self.waiting.retain(|(id, _)| *id != begun_by);
        if self.begun_by != Some(begun_by) {
            return;
        }
        match self.state {
            State::InTransaction | State::AbortableError => self.abort(),
            State::Committing => self.released = Some(begun_by),
            _ => {}
        }
    }

    fn abort(&mut self) {
        self.deny(&Denied::Misuse(Misuse::Aborting), |ask| {
            matches!(ask, Ask::CommitOffsets { .. })
        });
        self.go(State::Aborting);
        self.shut();
    }

    fn become_ready(&mut self) {
        self.go(State::Ready);
        self.outputs.push_back(Output::Doors(Doors::Shut(None)));
        for (id, ask) in core::mem::take(&mut self.waiting) {
            match ask {
                Ask::Begin => self.begin_or_wait(id),
                _ => self.answer(id, Ok(())),
            }
        }
    }

    fn fail_for_good(&mut self, failure: &Failure) {
        if self.state == State::FatalError {
            return;
        }
        self.certainty = match (self.state, self.ends_unanswered) {
            (State::Committing, 1..) => Certainty::Unknown,
            _ => Certainty::NotCommitted,
        };
        self.failure = Some(failure.clone());
        self.go(State::FatalError);
        self.shut();
        let denied = self.fatal();
        self.deny(&denied, |_| true);
    }

    /// Answers those of whom it is so.
    fn deny(&mut self, denied: &Denied, of: impl Fn(&Ask) -> bool) {
        let waiting = core::mem::take(&mut self.waiting);
        for (id, ask) in waiting {
            match of(&ask) {
                true => self.answer(id, Err(denied.clone())),
                false => self.waiting.push((id, ask)),
            }
        }
    }

    fn shut(&mut self) {
        let doors = Doors::Shut(self.failure.clone());
        self.outputs.push_back(Output::Doors(doors));
    }

    fn abortable(&self) -> Denied {
        Denied::Abortable(self.reason())
    }

    fn fatal(&self) -> Denied {
        Denied::Fatal(self.reason(), self.certainty)
    }

    fn reason(&self) -> Failure {
        let unnamed = || Failure::new(FailureKind::Closed);
        self.failure.clone().unwrap_or_else(unnamed)
    }

    fn refuse(&mut self, id: AskId, misuse: Misuse) {
        self.answer(id, Err(Denied::Misuse(misuse)));
    }

    fn answer(&mut self, id: AskId, answer: Result<(), Denied>) {
        self.outputs.push_back(Output::Answer(id, answer));
    }

    fn go(&mut self, next: State) {
        let legal = self.state.precedes(next);
        debug_assert!(legal, "transaction 1: {next:?} after {:?}", self.state);
        self.state = if legal { next } else { State::FatalError };
    }
}

/// Too late to begin.
fn closed() -> Denied {
    Denied::Fatal(Failure::new(FailureKind::Closed), Certainty::NotCommitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::group_offsets::ConsumerGroup;
    use State::{
        AbortableError, Aborting, Committing, FatalError, InTransaction, Initialising, Ready,
        Uninitialised,
    };
    use rstest::rstest;

    const STATES: [State; 8] = [
        Uninitialised,
        Initialising,
        Ready,
        InTransaction,
        Committing,
        Aborting,
        AbortableError,
        FatalError,
    ];

    const BEGIN: AskId = AskId(2);
    const ASK: AskId = AskId(9);

    fn failure() -> Failure {
        Failure::new(FailureKind::Refused(ErrorCode(87)))
    }

    fn ask_end(decision: Decision) -> Ask {
        Ask::End {
            decision,
            begun_by: None,
        }
    }

    fn outputs(machine: &mut Transaction) -> Vec<Output> {
        core::iter::from_fn(|| machine.poll_output()).collect()
    }

    /// A machine that came to this state as drawn, its outputs taken.
    fn in_state(state: State) -> Transaction {
        let mut machine = Transaction::new();
        if state == FatalError {
            machine.on_failed(&failure(), Severity::Fatal);
        } else if state != Uninitialised {
            machine.handle_ask(AskId(1), Ask::Initialise);
        }
        if !matches!(state, Uninitialised | Initialising | FatalError) {
            machine.on_initialised();
        }
        if matches!(
            state,
            InTransaction | Committing | Aborting | AbortableError
        ) {
            machine.handle_ask(BEGIN, Ask::Begin);
            machine.on_traces();
        }
        match state {
            Committing => machine.handle_ask(AskId(3), ask_end(Decision::Commit)),
            Aborting => machine.handle_ask(AskId(3), ask_end(Decision::Abort)),
            AbortableError => machine.on_failed(&failure(), Severity::Abortable),
            _ => {}
        }
        outputs(&mut machine);
        assert_eq!(machine.state(), state);
        machine
    }

    /// Kafka's table: the states from which one may be entered.
    #[rstest]
    #[case(Uninitialised, &[Ready, AbortableError])]
    #[case(Initialising, &[Uninitialised, Committing, Aborting])]
    #[case(Ready, &[Initialising, Committing, Aborting])]
    #[case(InTransaction, &[Ready])]
    #[case(Committing, &[InTransaction])]
    #[case(Aborting, &[InTransaction, AbortableError])]
    #[case(AbortableError, &[InTransaction, Committing, AbortableError, Initialising])]
    #[case(FatalError, &STATES)]
    fn a_state_follows_those_and_no_others(#[case] next: State, #[case] before: &[State]) {
        for state in STATES {
            let expected = before.contains(&state);
            assert_eq!(state.precedes(next), expected, "{next:?} after {state:?}");
        }
    }

    /// What an ask leads to: the state, and what it is answered at once.
    #[derive(Debug, PartialEq, Eq)]
    enum Now {
        Done,
        Waits,
        Misuse(Misuse),
        Abortable,
        Fatal,
    }

    fn asked(state: State, ask: Ask) -> (State, Now) {
        let mut machine = in_state(state);
        machine.handle_ask(ASK, ask);
        let answers = outputs(&mut machine).into_iter();
        let answer = answers.filter_map(|output| match output {
            Output::Answer(ASK, answer) => Some(answer),
            _ => None,
        });
        let now = match answer.last() {
            None => Now::Waits,
            Some(Ok(())) => Now::Done,
            Some(Err(Denied::Misuse(misuse))) => Now::Misuse(misuse),
            Some(Err(Denied::Abortable(_) | Denied::NotYet(_))) => Now::Abortable,
            Some(Err(Denied::Fatal(..))) => Now::Fatal,
        };
        (machine.state(), now)
    }

    /// Each ask in each state: initialise, begin, commit, abort, offsets.
    #[rstest]
    #[case::uninitialised(Uninitialised, [
        (Initialising, Now::Waits),
        (Uninitialised, Now::Misuse(Misuse::NotInitialised)),
        (Uninitialised, Now::Misuse(Misuse::NotInitialised)),
        (Uninitialised, Now::Misuse(Misuse::NotInitialised)),
        (Uninitialised, Now::Misuse(Misuse::NotInitialised)),
    ])]
    #[case::initialising(Initialising, [
        (Initialising, Now::Waits),
        (Initialising, Now::Misuse(Misuse::NotInitialised)),
        (Initialising, Now::Misuse(Misuse::NotInitialised)),
        (Initialising, Now::Misuse(Misuse::NotInitialised)),
        (Initialising, Now::Misuse(Misuse::NotInitialised)),
    ])]
    #[case::ready(Ready, [
        (Ready, Now::Misuse(Misuse::AlreadyInitialised)),
        (InTransaction, Now::Done),
        (Ready, Now::Misuse(Misuse::NotInTransaction)),
        (Ready, Now::Misuse(Misuse::NotInTransaction)),
        (Ready, Now::Misuse(Misuse::NotInTransaction)),
    ])]
    #[case::in_transaction(InTransaction, [
        (InTransaction, Now::Misuse(Misuse::AlreadyInitialised)),
        (InTransaction, Now::Misuse(Misuse::AlreadyInTransaction)),
        (Committing, Now::Waits),
        (Aborting, Now::Waits),
        (InTransaction, Now::Waits),
    ])]
    #[case::committing(Committing, [
        (Committing, Now::Misuse(Misuse::AlreadyInitialised)),
        (Committing, Now::Waits),
        (Committing, Now::Waits),
        (Committing, Now::Misuse(Misuse::Committing)),
        (Committing, Now::Misuse(Misuse::Committing)),
    ])]
    #[case::aborting(Aborting, [
        (Aborting, Now::Misuse(Misuse::AlreadyInitialised)),
        (Aborting, Now::Waits),
        (Aborting, Now::Misuse(Misuse::Aborting)),
        (Aborting, Now::Waits),
        (Aborting, Now::Misuse(Misuse::Aborting)),
    ])]
    #[case::abortable(AbortableError, [
        (AbortableError, Now::Misuse(Misuse::AlreadyInitialised)),
        (AbortableError, Now::Abortable),
        (AbortableError, Now::Abortable),
        (Aborting, Now::Waits),
        (AbortableError, Now::Abortable),
    ])]
    #[case::fatal(FatalError, [
        (FatalError, Now::Fatal),
        (FatalError, Now::Fatal),
        (FatalError, Now::Fatal),
        (FatalError, Now::Fatal),
        (FatalError, Now::Fatal),
    ])]
    fn an_ask_does(#[case] state: State, #[case] expected: [(State, Now); 5]) {
        let asks = [
            Ask::Initialise,
            Ask::Begin,
            ask_end(Decision::Commit),
            ask_end(Decision::Abort),
            Ask::CommitOffsets {
                offsets: Arc::new(GroupOffsets::new(ConsumerGroup::new("copiers"), Vec::new())),
                begun_by: None,
            },
        ];
        for (ask, expected) in asks.into_iter().zip(expected) {
            assert_eq!(asked(state, ask.clone()), expected, "{ask:?} in {state:?}");
        }
    }

    /// Each event in each state: failed, failed for good, ended, closing.
    #[rstest]
    #[case(Uninitialised, [Uninitialised, FatalError, Uninitialised, Uninitialised])]
    #[case(Initialising, [Initialising, FatalError, Initialising, Initialising])]
    #[case(Ready, [Ready, FatalError, Ready, Ready])]
    #[case(InTransaction, [AbortableError, FatalError, InTransaction, Aborting])]
    #[case(Committing, [AbortableError, FatalError, Ready, Committing])]
    #[case(Aborting, [Aborting, FatalError, Ready, Aborting])]
    #[case(AbortableError, [AbortableError, FatalError, AbortableError, Aborting])]
    #[case(FatalError, [FatalError, FatalError, FatalError, FatalError])]
    fn an_event_does(#[case] state: State, #[case] ends: [State; 4]) {
        let events: [fn(&mut Transaction); 4] = [
            |one| one.on_failed(&failure(), Severity::Abortable),
            |one| one.on_failed(&failure(), Severity::Fatal),
            |one| one.on_ended(Raise::NotNeeded),
            Transaction::on_closing,
        ];
        for (event, end) in events.into_iter().zip(ends) {
            let mut machine = in_state(state);
            event(&mut machine);
            assert_eq!(machine.state(), end, "from {state:?}");
        }
    }

    #[test]
    fn an_epoch_is_raised_before_the_next_transaction_where_it_has_to_be() {
        let mut machine = in_state(Committing);
        machine.on_ended(Raise::Needed);
        assert_eq!(machine.state(), Initialising);
        machine.handle_ask(ASK, Ask::Begin);
        machine.on_initialised();
        assert_eq!(machine.state(), InTransaction);
    }

    #[test]
    fn doors_are_open_while_a_transaction_is_and_nothing_failed() {
        let mut machine = in_state(Ready);
        machine.handle_ask(ASK, Ask::Begin);
        assert_eq!(outputs(&mut machine)[0], Output::Doors(Doors::Open));
        machine.on_failed(&failure(), Severity::Abortable);
        let shut = Output::Doors(Doors::Shut(Some(failure())));
        assert_eq!(outputs(&mut machine), [shut]);
    }

    #[test]
    fn a_commit_whose_batches_fail_is_denied_and_can_be_aborted() {
        let mut machine = in_state(Committing);
        machine.on_failed(&failure(), Severity::Abortable);
        let denied = Err(Denied::Abortable(failure()));
        assert!(outputs(&mut machine).contains(&Output::Answer(AskId(3), denied)));
        assert_eq!(machine.state(), AbortableError);
    }

    /// Once an end has got no answer, nobody may say that it was not done.
    #[rstest]
    #[case::not_asked(0, 0, Certainty::NotCommitted)]
    #[case::answered(2, 2, Certainty::NotCommitted)]
    #[case::on_its_way(1, 0, Certainty::Unknown)]
    #[case::one_lost(2, 1, Certainty::Unknown)]
    fn what_is_certain_of_a_commit_that_fails_for_good(
        #[case] asked: u32,
        #[case] answered: u32,
        #[case] certainty: Certainty,
    ) {
        let mut machine = in_state(Committing);
        for _ in 0..asked {
            machine.on_end_asked();
        }
        for _ in 0..answered {
            machine.on_end_answered();
        }
        machine.on_failed(&failure(), Severity::Fatal);
        let denied = Err(Denied::Fatal(failure(), certainty));
        assert!(outputs(&mut machine).contains(&Output::Answer(AskId(3), denied.clone())));
        machine.handle_ask(ASK, ask_end(Decision::Commit));
        assert_eq!(
            outputs(&mut machine),
            [Output::Answer(ASK, denied)],
            "also later"
        );
    }

    #[test]
    fn a_commit_in_doubt_is_not_followed_by_an_abort() {
        let mut machine = in_state(Committing);
        machine.on_end_asked();
        machine.on_end_asked();
        machine.on_end_answered();
        machine.on_failed(&failure(), Severity::Abortable);
        assert_eq!(machine.state(), FatalError);
    }

    #[test]
    fn what_nobody_holds_is_aborted_also_when_its_commit_fails() {
        for state in [InTransaction, AbortableError] {
            let mut machine = in_state(state);
            machine.handle_ask(ASK, Ask::Release { begun_by: BEGIN });
            assert_eq!(machine.state(), Aborting);
        }
        let mut machine = in_state(Committing);
        machine.handle_ask(ASK, Ask::Release { begun_by: BEGIN });
        assert_eq!(machine.state(), Committing, "it may still be done");
        machine.on_failed(&failure(), Severity::Abortable);
        assert_eq!(machine.state(), Aborting);
    }

    #[test]
    fn what_is_released_late_is_not_another_transaction() {
        let mut machine = in_state(InTransaction);
        machine.handle_ask(ASK, Ask::Release { begun_by: AskId(1) });
        assert_eq!(machine.state(), InTransaction);
        let others = Ask::End {
            decision: Decision::Commit,
            begun_by: Some(AskId(1)),
        };
        machine.handle_ask(ASK, others);
        assert_eq!(machine.state(), InTransaction);
    }

    #[test]
    fn a_begin_that_was_given_up_begins_nothing() {
        let mut machine = in_state(Committing);
        machine.handle_ask(ASK, Ask::Begin);
        machine.handle_ask(AskId(10), Ask::Release { begun_by: ASK });
        machine.on_ended(Raise::NotNeeded);
        assert_eq!(machine.state(), Ready);
    }

    #[rstest]
    #[case::ready(Ready)]
    #[case::in_transaction(InTransaction)]
    #[case::committing(Committing)]
    #[case::aborting(Aborting)]
    fn nothing_begins_while_the_producer_closes(#[case] state: State) {
        let mut machine = in_state(state);
        let waits = matches!(state, Committing | Aborting);
        if waits {
            machine.handle_ask(ASK, Ask::Begin);
        }
        machine.on_closing();
        if !waits {
            machine.handle_ask(ASK, Ask::Begin);
        }
        machine.on_ended(Raise::NotNeeded);
        let closed = Failure::new(FailureKind::Closed);
        let denied = Err(Denied::Fatal(closed, Certainty::NotCommitted));
        assert!(outputs(&mut machine).contains(&Output::Answer(ASK, denied)));
        assert_eq!(machine.state(), Ready);
    }

    #[test]
    fn an_initialisation_that_is_refused_may_be_asked_for_again() {
        let mut machine = in_state(Initialising);
        machine.on_not_initialised(&failure());
        assert_eq!(machine.state(), Uninitialised);
        let denied = Err(Denied::NotYet(failure()));
        assert_eq!(outputs(&mut machine), [Output::Answer(AskId(1), denied)]);
        machine.handle_ask(ASK, Ask::Initialise);
        machine.on_initialised();
        assert_eq!(machine.state(), Ready);
    }

    #[test]
    fn an_epoch_whose_raise_is_refused_is_asked_for_again_by_the_next_begin() {
        let mut machine = in_state(Committing);
        machine.on_ended(Raise::Needed);
        machine.handle_ask(ASK, Ask::Begin);
        machine.on_not_initialised(&failure());
        let denied = Output::Answer(ASK, Err(Denied::NotYet(failure())));
        assert!(outputs(&mut machine).contains(&denied));
        let late = AskId(10);
        machine.handle_ask(late, ask_end(Decision::Commit));
        let misuse = Denied::Misuse(Misuse::NotInTransaction);
        assert_eq!(outputs(&mut machine), [Output::Answer(late, Err(misuse))]);
        machine.handle_ask(AskId(11), Ask::Begin);
        assert_eq!(machine.state(), Initialising);
        machine.on_initialised();
        assert_eq!(machine.state(), InTransaction);
    }
}
