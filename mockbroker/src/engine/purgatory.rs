//! Requests that wait: for replication, for data, or for a delay to pass.
//!
//! *State* of a waiting request:
//!
//! ```text
//!       park             touched, and its condition holds ──▶ taken (answered)
//! ─ ─ ────────▶ Parked ─┤
//!                        deadline passed ───────────────────▶ taken (timed out)
//!                        connection closed ─────────────────▶ removed
//! ```
//!
//! *Invariants*
//! 1. A connection has at most one request here: it has at most one in progress.
//! 2. Each entry of the two indexes (by deadline, by partition) names a parked request, and each
//!    parked request is in them.
//! 3. Deadlines expire in their order; equal ones in the order of connection numbers.
//!
//! *Source* apache/kafka `server-common/…/purgatory/DelayedOperationPurgatory.java`.
//!
//! *Not here* the conditions: `W` is whatever the handlers wait with.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::ConnectionId;
use super::time::Instant;
use super::topology::PartitionKey;

/// A waiting request.
#[derive(Clone, Debug)]
pub struct Parked<W> {
    waiting: W,
    deadline: Instant,
    watched: Vec<PartitionKey>,
}

/// The waiting requests, by connection.
#[derive(Clone, Debug)]
pub struct Purgatory<W> {
    parked: BTreeMap<ConnectionId, Parked<W>>,
    by_deadline: BTreeSet<(Instant, ConnectionId)>,
    by_partition: BTreeSet<(PartitionKey, ConnectionId)>,
}

impl<W> Default for Purgatory<W> {
    fn default() -> Self {
        Self {
            parked: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
            by_partition: BTreeSet::new(),
        }
    }
}

impl<W> Purgatory<W> {
    /// Parks the request of `connection` until one of `watched` is touched or `deadline` passes.
    pub fn park(
        &mut self,
        connection: ConnectionId,
        waiting: W,
        watched: Vec<PartitionKey>,
        deadline: Instant,
    ) {
        self.take(connection);
        self.by_deadline.insert((deadline, connection));
        self.by_partition
            .extend(watched.iter().map(|partition| (*partition, connection)));
        self.parked.insert(
            connection,
            Parked {
                waiting,
                deadline,
                watched,
            },
        );
    }

    /// Takes out the request of `connection`.
    pub fn take(&mut self, connection: ConnectionId) -> Option<W> {
        self.lift(connection).map(|parked| parked.waiting)
    }

    /// Takes out the request of `connection` with all that [`restore`](Self::restore) needs.
    pub fn lift(&mut self, connection: ConnectionId) -> Option<Parked<W>> {
        let parked = self.parked.remove(&connection)?;
        self.by_deadline.remove(&(parked.deadline, connection));
        for partition in &parked.watched {
            self.by_partition.remove(&(*partition, connection));
        }
        Some(parked)
    }

    /// Parks again what was lifted; its deadline may have passed.
    pub fn restore(&mut self, connection: ConnectionId, parked: Parked<W>) {
        self.park(connection, parked.waiting, parked.watched, parked.deadline);
    }

    /// What the request of `connection` waits with.
    #[must_use]
    pub fn waiting(&self, connection: ConnectionId) -> Option<&W> {
        self.parked.get(&connection).map(|parked| &parked.waiting)
    }

    /// The same, to note how far it has come.
    pub fn waiting_mut(&mut self, connection: ConnectionId) -> Option<&mut W> {
        let parked = self.parked.get_mut(&connection)?;
        Some(&mut parked.waiting)
    }

    /// The connections whose requests watch `partition`.
    #[must_use]
    pub fn watchers(&self, partition: PartitionKey) -> Vec<ConnectionId> {
        let first = (partition, ConnectionId(0));
        let last = (partition, ConnectionId(u64::MAX));
        self.by_partition
            .range(first..=last)
            .map(|(_, connection)| *connection)
            .collect()
    }

    /// The connection whose deadline passed first, by `now`.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<ConnectionId> {
        let (deadline, connection) = self.by_deadline.first()?;
        (*deadline <= now).then_some(*connection)
    }

    /// The next deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(
            self.parked.len(),
            self.by_deadline.len(),
            "purgatory 2: deadlines"
        );
        let mut entries = 0;
        for (connection, parked) in &self.parked {
            let at = (parked.deadline, *connection);
            assert!(
                self.by_deadline.contains(&at),
                "purgatory 2: {connection:?}"
            );
            let distinct: BTreeSet<_> = parked.watched.iter().collect();
            entries += distinct.len();
            for partition in distinct {
                let entry = (*partition, *connection);
                assert!(
                    self.by_partition.contains(&entry),
                    "purgatory 2: {connection:?}"
                );
            }
        }
        assert_eq!(entries, self.by_partition.len(), "purgatory 2: partitions");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::topology::TopicKey;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn partition(partition: i32) -> PartitionKey {
        PartitionKey {
            topic: TopicKey::for_tests(1),
            partition,
        }
    }

    #[test]
    fn deadlines_pass_in_their_order() {
        let mut purgatory = Purgatory::default();
        purgatory.park(B, "b", vec![], at(5));
        purgatory.park(A, "a", vec![], at(9));
        purgatory.check_invariants();
        assert_eq!(purgatory.next_deadline(), Some(at(5)));
        assert_eq!(purgatory.expired(at(4)), None);
        assert_eq!(purgatory.expired(at(9)), Some(B));
        assert_eq!(purgatory.take(B), Some("b"));
        assert_eq!(purgatory.expired(at(9)), Some(A));
    }

    #[test]
    fn a_partition_names_its_watchers_until_they_are_taken() {
        let mut purgatory = Purgatory::default();
        purgatory.park(A, (), vec![partition(0), partition(1), partition(1)], at(1));
        purgatory.park(B, (), vec![partition(1)], at(1));
        purgatory.check_invariants();
        assert_eq!(purgatory.watchers(partition(1)), [A, B]);
        purgatory.take(A);
        purgatory.check_invariants();
        assert_eq!(purgatory.watchers(partition(0)), []);
        assert_eq!(purgatory.watchers(partition(1)), [B]);
    }

    #[test]
    fn what_was_taken_is_gone() {
        let mut purgatory = Purgatory::default();
        purgatory.park(A, (), vec![partition(0)], at(1));
        assert!(purgatory.take(A).is_some());
        assert!(purgatory.take(A).is_none());
        assert_eq!(purgatory.next_deadline(), None);
    }
}
