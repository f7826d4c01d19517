//! Which partitions go now: per broker the ones that are ready, and whose turn it is.
//!
//! *State*
//! ```text
//!                 set: now                  choose
//!   not ready ─────────────▶ ready at one ───────────▶ not ready
//!       │ ▲                    broker │       ▲
//!       │ └───────────────────────────┘       │ choose: with those that are ready,
//!       │ ▲             set: none             │ or with enough that are held
//!       │ └─────────────────────────────┐     │
//!       └──────────────────────────▶ held at one
//!                 set: held            broker
//! ```
//!
//! *Invariants*
//! 1. A partition is ready at one broker at most.
//! 2. A request takes one batch per partition, and no more bytes than allowed unless its first
//!    batch alone is larger.
//! 3. Turns go round: a partition passed over for lack of room is first next time.
//! 4. Only what is ready is looked at: the cost does not grow with the partitions that are not.
//! 5. What is held goes when nothing is on its way to its broker, when its linger ends, when
//!    somebody asks for it, or when `hold_bytes` are held: what could not arrive sooner anyway
//!    fills requests rather than hurry.
//!
//! *Source*: Kafka's `RecordAccumulator.ready` and `drainBatchesForOneNode`; holding is ours.
//!
//! *Not here*: whether a batch may go (`partition.rs`), when to look again (`delivery.rs`).

use core::time::Duration;
use std::collections::BTreeMap;

use crate::engine::effect::QueueState;
use crate::engine::partition_map::{PartitionMap, PartitionSet};
use crate::engine::time::Instant;
use crate::types::{BrokerId, TopicPartition};

/// When a queue's oldest batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// There is none.
    Empty,
    /// Now.
    Now,
    /// It takes no more records, and goes in company, or when its linger ends.
    Held(Instant),
    /// When its linger ends.
    At(Instant),
}

/// What makes batches go before their time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Urging {
    /// When somebody last asked for all to go.
    pub(crate) drain_requested_at: Option<Instant>,
    /// When somebody last awaited a record.
    pub(crate) awaited_at: Option<Instant>,
}

/// A batch is due when it lingered long enough, was there when somebody asked for all to go, or
/// takes no more records and is awaited.
pub(crate) fn due(queue: QueueState, linger: Duration, urging: Urging, now: Instant) -> Due {
    let Some(opened_at) = queue.oldest_opened_at else {
        return Due::Empty;
    };
    let there_at = |moment: Option<Instant>| moment.is_some_and(|at| opened_at <= at);
    let lingered_at = opened_at + linger;
    let full = queue.sealed_bytes > 0;
    if lingered_at <= now
        || there_at(urging.drain_requested_at)
        || (full && there_at(urging.awaited_at))
    {
        Due::Now
    } else if full {
        Due::Held(lingered_at)
    } else {
        Due::At(lingered_at)
    }
}

/// The ready partitions of all brokers.
#[derive(Debug)]
pub(crate) struct Drain {
    hold_bytes: usize,
    ready: BTreeMap<BrokerId, Turn>,
    offers: PartitionMap<(BrokerId, Offer)>,
}

#[derive(Debug, Default)]
struct Turn {
    partitions: PartitionSet,
    /// Who went last.
    last: Option<TopicPartition>,
    /// What is held, in bytes.
    held_bytes: usize,
    /// How many are not held.
    hurried: usize,
}

/// What a partition has for its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The size of its next batch.
    pub(crate) bytes: usize,
    pub(crate) hurry: Hurry,
}

/// Whether a batch goes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// It does, and takes with it whatever is held for its broker.
    Now,
    /// It may wait for company; all that could go with and after it has this size.
    Held { bytes: usize },
}

impl Turn {
    fn insert(&mut self, partition: TopicPartition, offer: Offer) {
        match offer.hurry {
            Hurry::Now => self.hurried += 1,
            Hurry::Held { bytes } => self.held_bytes += bytes,
        }
        self.partitions.insert(partition);
    }

    fn remove(&mut self, partition: TopicPartition, offer: Offer) {
        match offer.hurry {
            Hurry::Now => self.hurried -= 1,
            Hurry::Held { bytes } => self.held_bytes -= bytes,
        }
        self.partitions.remove(&partition);
    }
}

impl Drain {
    /// Nothing is ready; what may wait does until so many bytes are held for a broker.
    pub(crate) fn new(hold_bytes: usize) -> Self {
        Self {
            hold_bytes,
            ready: BTreeMap::new(),
            offers: PartitionMap::default(),
        }
    }

    /// A partition has a batch for this broker, or none for any.
    pub(crate) fn set(&mut self, partition: TopicPartition, offered: Option<(BrokerId, Offer)>) {
        let before = match offered {
            Some(offered) => self.offers.insert(partition, offered),
            None => self.offers.remove(&partition),
        };
        if before == offered {
            return;
        }
        if let Some((broker, offer)) = before
            && let Some(turn) = self.ready.get_mut(&broker)
        {
            turn.remove(partition, offer);
        }
        if let Some((broker, offer)) = offered {
            let turn = self.ready.entry(broker).or_default();
            turn.insert(partition, offer);
        }
    }

    /// The brokers that something goes to now; to those that are `busy` something is on its way.
    pub(crate) fn brokers(&self, busy: impl Fn(BrokerId) -> bool) -> Vec<BrokerId> {
        let ready = self.ready.iter().filter(|(broker, turn)| {
            let enough = |bytes: usize| bytes >= self.hold_bytes || !busy(**broker);
            turn.hurried > 0 || (turn.held_bytes > 0 && enough(turn.held_bytes))
        });
        ready.map(|(broker, _)| *broker).collect()
    }

    /// How many more bytes make something go while all brokers are busy: at the one that lacks
    /// least of those with room for a request, and no number of them if none has room.
    pub(crate) fn lacking_bytes(&self, has_room: impl Fn(BrokerId) -> bool) -> usize {
        if self.ready.is_empty() {
            return self.hold_bytes;
        }
        let with_room = self.ready.iter().filter(|(broker, _)| has_room(**broker));
        let held = with_room.map(|(_, turn)| turn.held_bytes).max();
        held.map_or(usize::MAX, |held| self.hold_bytes.saturating_sub(held))
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
        let last = turn.last;
        let after = turn.partitions.iter_from(last.unwrap_or(FIRST));
        let after = after.filter(|one| last != Some(*one));
        let upto = turn.partitions.iter();
        let upto = upto.take_while(|one| last.is_some_and(|last| *one <= last));
        let mut chosen = Vec::new();
        for partition in after.chain(upto) {
            let offer = self.offers.get(&partition);
            let bytes = offer.map_or(0, |(_, offer)| offer.bytes);
            if !fits(partition, bytes) && !chosen.is_empty() {
                break;
            }
            chosen.push(partition);
        }
        turn.last = chosen.last().copied().or(last);
        for partition in &chosen {
            if let Some((_, offer)) = self.offers.remove(partition) {
                turn.remove(*partition, offer);
            }
        }
        // One topic's partitions must stand together in a request.
        chosen.sort_unstable();
        chosen
    }

    /// Panics if invariant 1 is broken.
    pub(crate) fn check_invariants(&self) {
        let standing = self.ready.values().flat_map(|turn| turn.partitions.iter());
        let count = self.offers.len();
        assert_eq!(standing.count(), count, "drain 1: ready at one broker");
        for (broker, turn) in &self.ready {
            let offers = turn.partitions.iter().map(|partition| {
                let offer = self.offers.get(&partition);
                let offer = offer.filter(|(at, _)| at == broker);
                let Some((_, offer)) = offer else {
                    panic!("drain 1: {partition:?} is ready where its offer says");
                };
                offer
            });
            let counted = offers.fold((0, 0), |(held, hurried), offer| match offer.hurry {
                Hurry::Now => (held, hurried + 1),
                Hurry::Held { bytes } => (held + bytes, hurried),
            });
            let kept = (turn.held_bytes, turn.hurried);
            assert_eq!(kept, counted, "drain 5: what is held at {broker:?}");
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

    const NOW: Offer = Offer {
        bytes: 10,
        hurry: Hurry::Now,
    };

    /// Full batches of so many bytes in all, the first of them of 10.
    fn held(bytes: usize) -> Offer {
        Offer {
            bytes: 10,
            hurry: Hurry::Held { bytes },
        }
    }

    fn ready(numbers: &[i32]) -> Drain {
        let mut drain = Drain::new(100);
        for number in numbers {
            drain.set(partition(*number), Some((BrokerId(1), NOW)));
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
        drain.set(partition(0), Some((BrokerId(1), NOW)));
        drain.set(partition(1), Some((BrokerId(1), NOW)));
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
        drain.set(partition(0), Some((BrokerId(2), NOW)));
        drain.check_invariants();
        assert_eq!(drain.brokers(|_| true), [BrokerId(2)]);
        drain.set(partition(0), None);
        assert_eq!(drain.brokers(|_| true), []);
    }

    #[test]
    fn full_batches_are_held_until_enough_of_them_fill_a_request() {
        let mut drain = ready(&[]);
        drain.set(partition(0), Some((BrokerId(1), held(60))));
        drain.set(partition(5), Some((BrokerId(2), held(30))));
        assert_eq!(
            (drain.brokers(|_| true), drain.lacking_bytes(|_| true)),
            (vec![], 40)
        );
        drain.set(partition(1), Some((BrokerId(1), held(40))));
        drain.check_invariants();
        assert_eq!(drain.brokers(|_| true), [BrokerId(1)]);
        assert_eq!(choose(&mut drain, 2), [0, 1]);
        drain.check_invariants();
        assert_eq!(
            (drain.brokers(|_| true), drain.lacking_bytes(|_| true)),
            (vec![], 70)
        );
    }

    #[test]
    fn only_a_broker_that_has_room_lacks_bytes() {
        let mut drain = ready(&[]);
        assert_eq!(drain.lacking_bytes(|_| false), 100, "none is known yet");
        drain.set(partition(0), Some((BrokerId(1), held(60))));
        drain.set(partition(5), Some((BrokerId(2), held(30))));
        assert_eq!(drain.lacking_bytes(|broker| broker == BrokerId(2)), 70);
        assert_eq!(drain.lacking_bytes(|_| false), usize::MAX);
    }

    #[test]
    fn nothing_is_held_for_a_broker_that_nothing_is_on_its_way_to() {
        let mut drain = ready(&[]);
        drain.set(partition(0), Some((BrokerId(1), held(60))));
        drain.set(partition(5), Some((BrokerId(2), held(30))));
        assert_eq!(drain.brokers(|broker| broker == BrokerId(1)), [BrokerId(2)]);
    }

    #[test]
    fn what_is_held_goes_with_what_goes_now() {
        let mut drain = ready(&[1]);
        drain.set(partition(0), Some((BrokerId(1), held(20))));
        assert_eq!(choose(&mut drain, 2), [0, 1]);
    }

    #[test]
    fn without_a_wish_to_hold_nothing_is_held() {
        let mut drain = Drain::new(0);
        drain.set(partition(0), Some((BrokerId(1), held(1))));
        assert_eq!(drain.brokers(|_| true), [BrokerId(1)]);
    }

    const LINGERING: Due = Due::At(Instant::from_nanos(140));
    const HELD: Due = Due::Held(Instant::from_nanos(140));

    #[rstest]
    #[case::empty(None, 0, (None, None), Due::Empty)]
    #[case::lingering(Some(90), 0, (None, None), LINGERING)]
    #[case::lingered(Some(50), 0, (None, None), Due::Now)]
    #[case::full(Some(90), 100, (None, None), HELD)]
    #[case::full_and_lingered(Some(50), 100, (None, None), Due::Now)]
    #[case::asked_for(Some(90), 0, (Some(95), None), Due::Now)]
    #[case::opened_after_the_asking(Some(90), 0, (Some(89), None), LINGERING)]
    #[case::awaited(Some(90), 0, (None, Some(95)), LINGERING)]
    #[case::full_and_awaited(Some(90), 100, (None, Some(95)), Due::Now)]
    #[case::full_and_opened_after_the_awaiting(Some(90), 100, (None, Some(89)), HELD)]
    fn a_batch_is_due(
        #[case] opened_at: Option<u64>,
        #[case] sealed_bytes: usize,
        #[case] (requested_at, awaited_at): (Option<u64>, Option<u64>),
        #[case] expected: Due,
    ) {
        let queue = QueueState {
            oldest_opened_at: opened_at.map(Instant::from_nanos),
            open_since: None,
            oldest_bytes: 100,
            sealed_bytes,
        };
        let urging = Urging {
            drain_requested_at: requested_at.map(Instant::from_nanos),
            awaited_at: awaited_at.map(Instant::from_nanos),
        };
        let now = Instant::from_nanos(100);
        assert_eq!(due(queue, Duration::from_nanos(50), urging, now), expected);
    }
}
