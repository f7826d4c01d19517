//! The states of a transaction, and which may precede which, as data.
//!
//! *State*
//!
//! ```text
//!            ┌──────────────── InitProducerId ────────────────────────────────┐
//!            ▼                                                                │
//!  new ─▶ Empty ──── a partition joins ───▶ Ongoing ─── EndTxn: commit ──▶ PrepareCommit
//!            │ ▲                            │  ▲  │                           │ markers are there
//!            │ └──── InitProducerId ──┐     │  │  └─ EndTxn: abort ─┐         ▼
//!            │                        │     │  └───── joins ────────┼── CompleteCommit ─┐
//!            │                        │     │                       ▼         │         │
//!            │                        │     │ time-out, or   PrepareAbort ◀───┘         │
//!            │                        │     │ another producer ▲  │  abort of nothing   │
//!            │                        │     ▼                  │  ▼                     │
//!            │                        │  PrepareEpochFence ────┘ CompleteAbort          │
//!            │                        └───────────────────────────┘ │                   │
//!            └──── abort of nothing (version 2) ──▶ PrepareAbort    │                   │
//!  Empty, CompleteCommit, CompleteAbort ─ idle for too long ─▶ Dead ◀───────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A state follows only one of its [`predecessors`](TxnState::predecessors).
//!
//! *Source* apache/kafka `transaction-coordinator/…/TransactionState.java`; KIP-98, KIP-890.
//!
//! *Not here* who may ask for which step (`txn_coordinator.rs`).

use super::open_transactions::Ending;

/// The state of a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxnState {
    /// It has a producer id, and nothing is open.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// It is to be committed: markers are on their way.
    PrepareCommit,
    /// It is to be aborted: markers are on their way.
    PrepareAbort,
    /// It was committed.
    CompleteCommit,
    /// It was aborted.
    CompleteAbort,
    /// It was idle for too long, and is being forgotten.
    Dead,
    /// Its producer is being fenced; never written down.
    PrepareEpochFence,
}

use TxnState::{
    CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit,
    PrepareEpochFence,
};

impl TxnState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Empty,
        Ongoing,
        PrepareCommit,
        PrepareAbort,
        CompleteCommit,
        CompleteAbort,
        Dead,
        PrepareEpochFence,
    ];

    /// The states that it may follow.
    #[must_use]
    pub const fn predecessors(self) -> &'static [Self] {
        match self {
            Empty => &[Empty, CompleteCommit, CompleteAbort],
            Ongoing => &[Ongoing, Empty, CompleteCommit, CompleteAbort],
            PrepareCommit => &[Ongoing],
            PrepareAbort => &[
                Ongoing,
                PrepareEpochFence,
                // An abort of nothing, in transactions of version 2.
                Empty,
                CompleteCommit,
                CompleteAbort,
            ],
            CompleteCommit => &[PrepareCommit],
            CompleteAbort => &[PrepareAbort],
            Dead => &[Empty, CompleteCommit, CompleteAbort],
            PrepareEpochFence => &[Ongoing],
        }
    }

    /// Whether it may follow another.
    #[must_use]
    pub fn may_follow(self, before: Self) -> bool {
        self.predecessors().contains(&before)
    }

    /// Kafka's name, as ListTransactions and DescribeTransactions tell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Empty => "Empty",
            Ongoing => "Ongoing",
            PrepareCommit => "PrepareCommit",
            PrepareAbort => "PrepareAbort",
            CompleteCommit => "CompleteCommit",
            CompleteAbort => "CompleteAbort",
            Dead => "Dead",
            PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state in which markers for this ending are on their way.
    #[must_use]
    pub const fn prepare(ending: Ending) -> Self {
        match ending {
            Ending::Commit => PrepareCommit,
            Ending::Abort => PrepareAbort,
        }
    }

    /// How the transaction ends whose markers are on their way.
    #[must_use]
    pub const fn preparing(self) -> Option<Ending> {
        match self {
            PrepareCommit => Some(Ending::Commit),
            PrepareAbort => Some(Ending::Abort),
            _ => None,
        }
    }

    /// The state once all markers are there; `None` where none are on their way.
    #[must_use]
    pub const fn completed(self) -> Option<Self> {
        match self {
            PrepareCommit => Some(CompleteCommit),
            PrepareAbort => Some(CompleteAbort),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Empty, "Empty CompleteCommit CompleteAbort")]
    #[case(Ongoing, "Empty Ongoing CompleteCommit CompleteAbort")]
    #[case(PrepareCommit, "Ongoing")]
    #[case(
        PrepareAbort,
        "Empty Ongoing CompleteCommit CompleteAbort PrepareEpochFence"
    )]
    #[case(CompleteCommit, "PrepareCommit")]
    #[case(CompleteAbort, "PrepareAbort")]
    #[case(Dead, "Empty CompleteCommit CompleteAbort")]
    #[case(PrepareEpochFence, "Ongoing")]
    fn each_state_follows_these_and_no_other(#[case] state: TxnState, #[case] expected: &str) {
        let legal = TxnState::ALL
            .into_iter()
            .filter(|before| state.may_follow(*before));
        let legal: Vec<&str> = legal.map(TxnState::name).collect();
        assert_eq!(legal.join(" "), expected);
    }

    #[test]
    fn what_is_prepared_completes_in_its_own_way() {
        for ending in [Ending::Commit, Ending::Abort] {
            let prepared = TxnState::prepare(ending);
            assert_eq!(prepared.preparing(), Some(ending));
            let completed = prepared.completed().unwrap();
            assert!(completed.may_follow(prepared));
            assert_eq!(completed.completed(), None);
        }
    }
}
