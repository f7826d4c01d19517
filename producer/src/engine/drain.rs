//! Which partitions go now: per broker the ones that are ready, and whose turn it is.
//!
//! *State*
//! ```text
//!                 offer                    choose
//!   not ready ───────────▶ ready at one ───────────▶ not ready
//!       ▲                  broker │
//!       └─────────────────────────┘ withdraw
//! ```
//!
//! *Invariants*
//! 1. A partition is ready at one broker at most.
//! 2. A request takes one batch per partition, and no more bytes than allowed unless its first
//!    batch alone is larger.
//! 3. Turns go round: a partition passed over for lack of room is first next time.
//! 4. Only what is ready is looked at: the cost does not grow with the partitions that are not.
//!
//! *Source*: Kafka's `RecordAccumulator.ready` and `drainBatchesForOneNode`.
//!
//! *Not here*: whether a batch may go (`partition.rs`), when to look again (`delivery.rs`).

use core::ops::Bound;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::engine::effect::QueueState;
use crate::engine::time::Instant;
use crate::types::{BrokerId, TopicPartition};

/// When a queue's oldest batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// There is none.
    Empty,
    /// Now.
    Now,
    /// When its linger ends.
    At(Instant),
}

/// A batch is due when it takes no more records, lingered long enough, or was there when somebody
/// asked for all to go.
pub(crate) fn due(
    queue: QueueState,
    linger: Duration,
    drain_requested_at: Option<Instant>,
    now: Instant,
) -> Due {
    let Some(opened_at) = queue.oldest_opened_at else {
        return Due::Empty;
    };
    let requested = drain_requested_at.is_some_and(|at| opened_at <= at);
    let lingered_at = opened_at + linger;
    if queue.sealed_count > 0 || requested || lingered_at <= now {
        Due::Now
    } else {
        Due::At(lingered_at)
    }
}

/// The ready partitions of all brokers.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    ready: BTreeMap<BrokerId, Turn>,
    places: BTreeMap<TopicPartition, BrokerId>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Each with the size of its next batch in bytes.
    partitions: BTreeMap<TopicPartition, usize>,
    /// Who went last.
    last: Option<TopicPartition>,
}

impl Drain {
    /// A partition has a batch for this broker.
    pub(crate) fn offer(&mut self, broker: BrokerId, partition: TopicPartition, bytes: usize) {
        self.withdraw(partition);
        self.ready
            .entry(broker)
            .or_default()
            .partitions
            .insert(partition, bytes);
        self.places.insert(partition, broker);
    }

    /// A partition has none any more, or for another broker.
    pub(crate) fn withdraw(&mut self, partition: TopicPartition) {
        let Some(broker) = self.places.remove(&partition) else {
            return;
        };
        if let Some(turn) = self.ready.get_mut(&broker) {
            turn.partitions.remove(&partition);
        }
    }

    /// The brokers that something is ready for.
    pub(crate) fn brokers(&self) -> Vec<BrokerId> {
        let ready = self
            .ready
            .iter()
            .filter(|(_, turn)| !turn.partitions.is_empty());
        ready.map(|(broker, _)| *broker).collect()
    }

    /// Takes the partitions whose batches go in one request; `fits` counts them and says whether
    /// one more has room.
    pub(crate) fn choose(
        &mut self,
        broker: BrokerId,
        mut fits: impl FnMut(TopicPartition, usize) -> bool,
    ) -> Vec<TopicPartition> {
        let Some(turn) = self.ready.get_mut(&broker) else {
            return Vec::new();
        };
        let after = turn.last.map_or(Bound::Unbounded, Bound::Excluded);
        let upto = turn.last.map_or(Bound::Excluded(FIRST), Bound::Included);
        let mut chosen = Vec::new();
        let round = turn
            .partitions
            .range((after, Bound::Unbounded))
            .chain(turn.partitions.range((Bound::Unbounded, upto)));
        for (partition, bytes) in round {
            if !fits(*partition, *bytes) && !chosen.is_empty() {
                break;
            }
            chosen.push(*partition);
        }
        turn.last = chosen.last().copied().or(turn.last);
        for partition in &chosen {
            turn.partitions.remove(partition);
            self.places.remove(partition);
        }
        // One topic's partitions must stand together in a request.
        chosen.sort_unstable();
        chosen
    }

    /// Panics if invariant 1 is broken.
    pub(crate) fn check_invariants(&self) {
        let standing: usize = self.ready.values().map(|turn| turn.partitions.len()).sum();
        assert_eq!(standing, self.places.len(), "drain 1: ready at one broker");
        for (partition, broker) in &self.places {
            let there = self
                .ready
                .get(broker)
                .is_some_and(|t| t.partitions.contains_key(partition));
            assert!(
                there,
                "drain 1: {partition:?} is ready where its place says"
            );
        }
    }
}

/// Before every partition there is.
const FIRST: TopicPartition = TopicPartition {
    topic: crate::types::TopicIndex(0),
    partition: i32::MIN,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicIndex;
    use rstest::rstest;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicIndex(0),
            partition: number,
        }
    }

    fn ready(numbers: &[i32]) -> Drain {
        let mut drain = Drain::default();
        for number in numbers {
            drain.offer(BrokerId(1), partition(*number), 10);
        }
        drain
    }

    /// Room for so many batches per request.
    fn choose(drain: &mut Drain, room: usize) -> Vec<i32> {
        let mut taken = 0;
        let fits = |_, _| {
            taken += 1;
            taken <= room
        };
        drain
            .choose(BrokerId(1), fits)
            .into_iter()
            .map(|one| one.partition)
            .collect()
    }

    #[test]
    fn turns_go_round_so_that_no_partition_starves() {
        let mut drain = ready(&[0, 1, 2]);
        assert_eq!(choose(&mut drain, 2), [0, 1]);
        drain.offer(BrokerId(1), partition(0), 10);
        drain.offer(BrokerId(1), partition(1), 10);
        // 2 was passed over: it goes first now, then 0; 1 has to wait.
        assert_eq!(choose(&mut drain, 2), [0, 2]);
        assert_eq!(choose(&mut drain, 2), [1]);
    }

    #[test]
    fn a_batch_larger_than_a_request_goes_alone() {
        let mut drain = ready(&[0, 1]);
        assert_eq!(choose(&mut drain, 0), [0]);
        assert_eq!(choose(&mut drain, 0), [1]);
    }

    #[test]
    fn a_partition_moves_with_its_leader() {
        let mut drain = ready(&[0]);
        drain.offer(BrokerId(2), partition(0), 10);
        drain.check_invariants();
        assert_eq!(drain.brokers(), [BrokerId(2)]);
        drain.withdraw(partition(0));
        assert_eq!(drain.brokers(), []);
    }

    #[rstest]
    #[case::empty(None, 0, None, Due::Empty)]
    #[case::lingering(Some(90), 0, None, Due::At(Instant::from_nanos(140)))]
    #[case::lingered(Some(50), 0, None, Due::Now)]
    #[case::sealed(Some(99), 1, None, Due::Now)]
    #[case::asked_for(Some(90), 0, Some(95), Due::Now)]
    #[case::opened_after_the_asking(Some(96), 0, Some(95), Due::At(Instant::from_nanos(146)))]
    fn a_batch_is_due(
        #[case] opened_at: Option<u64>,
        #[case] sealed_count: usize,
        #[case] requested_at: Option<u64>,
        #[case] expected: Due,
    ) {
        let queue = QueueState {
            oldest_opened_at: opened_at.map(Instant::from_nanos),
            oldest_bytes: 100,
            sealed_count,
        };
        let requested_at = requested_at.map(Instant::from_nanos);
        let now = Instant::from_nanos(100);
        assert_eq!(
            due(queue, Duration::from_nanos(50), requested_at, now),
            expected
        );
    }
}
