//! The sticky choice: records that leave their partition open stay with one for about a batch, so
//! that batches fill.
//!
//! *Invariants*
//! 1. The choice moves between two batches, or in the middle of one that began the turn.
//! 2. A partition without a leader is chosen only while none has one.
//! 3. The more batches wait for a partition, the less likely it is (weighting by load): with `q`
//!    batches, where the longest queue has `m`, its weight is `m + 1 - q`.
//! 4. A leader that takes nothing is left out (availability time-out), unless all are so.
//! 5. Partitions led in the producer's own rack go before others (rack awareness), if there are
//!    any.
//!
//! *Source*: Kafka's `BuiltInPartitioner`, `RecordAccumulator.partitionReady` (KIP-794), KIP-1123.
//!
//! *Not here*: counting a partition's bytes, which happens under its lock (`accumulator.rs`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::time::Instant;
use crate::io::clock::Clock;
use crate::io::load::Load;
use crate::io::topics::Partitions;
use crate::types::BrokerId;

/// How likely the sticky choice makes a partition (`partitioner.adaptive.partitioning.enable`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weighting {
    /// The less the shorter the queue of batches that wait for it: a slow broker gets less.
    #[default]
    ByLoad,
    /// Each as likely as every other.
    Equal,
}

/// How the sticky choice is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spreading {
    pub(crate) weighting: Weighting,
    /// How long a leader may take nothing that is due (`partitioner.availability.timeout.ms`);
    /// `None` is for ever.
    pub(crate) availability_timeout: Option<Duration>,
    /// When a batch that nobody fills is due (`linger.ms`).
    pub(crate) linger: Duration,
    /// The rack to prefer (`client.rack` with `partitioner.rack.aware`).
    pub(crate) rack: Option<Arc<str>>,
}

/// What a choice is made of.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) partitions: &'a Partitions,
    pub(crate) spreading: &'a Spreading,
    pub(crate) clock: &'a Clock,
}

/// A topic's sticky partition.
///
/// Read with each record, so an atomic; the lock is taken only to move.
#[derive(Debug)]
pub(crate) struct Sticky {
    current: AtomicUsize,
    choosing: Mutex<Choosing>,
}

#[derive(Debug)]
struct Choosing {
    rng: fastrand::Rng,
    /// Kept for its room.
    offers: Vec<Offer>,
}

/// A partition that may be chosen.
#[derive(Clone, Copy, Debug)]
struct Offer {
    partition: usize,
    leader: BrokerId,
    standing: Standing,
    batches: u32,
}

/// Where a partition's leader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the rack to prefer.
    Near,
    /// Elsewhere, or nothing is preferred.
    Anywhere,
}

impl Sticky {
    /// No choice yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            current: AtomicUsize::new(UNCHOSEN),
            choosing: Mutex::new(Choosing {
                rng: fastrand::Rng::with_seed(seed),
                offers: Vec::new(),
            }),
        }
    }

    /// The choice among these partitions; `None` when there are none.
    #[inline]
    pub(crate) fn current(&self, circumstances: Circumstances<'_>) -> Option<usize> {
        let count = circumstances.partitions.slots.len();
        self.chosen_before(count).or_else(|| {
            self.move_on(self.current.load(Ordering::Relaxed), circumstances);
            self.chosen_before(count)
        })
    }

    /// The choice, if there is one among so many partitions.
    #[inline]
    pub(crate) fn chosen_before(&self, count: usize) -> Option<usize> {
        let current = self.current.load(Ordering::Relaxed);
        (current < count).then_some(current)
    }

    /// Whether the choice is still this partition.
    #[inline]
    pub(crate) fn is(&self, partition: usize) -> bool {
        self.current.load(Ordering::Relaxed) == partition
    }

    /// Chooses again, unless somebody already moved on from this partition.
    pub(crate) fn move_on(&self, from: usize, circumstances: Circumstances<'_>) {
        // Valid whatever panicked while it was held: the offers are made anew each time.
        let mut choosing = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.current.load(Ordering::Relaxed) == from {
            let next = choosing.choose(circumstances).unwrap_or(UNCHOSEN);
            self.current.store(next, Ordering::Relaxed);
        }
    }
}

impl Choosing {
    fn choose(&mut self, circumstances: Circumstances<'_>) -> Option<usize> {
        let Circumstances {
            partitions,
            spreading,
            clock,
        } = circumstances;
        let count = partitions.slots.len();
        if count == 0 {
            return None;
        }
        self.offers.clear();
        self.offers.extend(offers(partitions));
        if let Some(timeout) = spreading.availability_timeout {
            let due_after = spreading.linger;
            let brokers = leaders(partitions, timeout, due_after, clock.now());
            self.prefer(|offer| brokers.get(&offer.leader) != Some(&Availability::TakesNothing));
        }
        self.prefer(|offer| offer.standing == Standing::Near);
        if self.offers.is_empty() {
            return Some(self.rng.usize(..count));
        }
        weighted(&self.offers, spreading.weighting, &mut self.rng)
    }

    /// Keeps the offers that are as wished, if there are any.
    fn prefer(&mut self, wished: impl Fn(&Offer) -> bool) {
        if self.offers.iter().any(&wished) {
            self.offers.retain(wished);
        }
    }
}

fn offers(partitions: &Partitions) -> impl Iterator<Item = Offer> {
    let sites = partitions.sites.iter().zip(&partitions.slots).enumerate();
    sites.filter_map(|(partition, (site, slot))| {
        Some(Offer {
            partition,
            leader: site.leader?,
            standing: site.standing,
            batches: slot.load.batches(),
        })
    })
}

/// Whether a leader takes the batches that are due for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Availability {
    /// It does, or nothing is due.
    Takes,
    /// Something has been due for longer than the time-out, and it took nothing for as long.
    TakesNothing,
}

/// What the topic's partitions tell of their leaders. A partition that waits while its leader takes
/// the batches of others has a trouble of its own; its queue grows, and its weight falls.
fn leaders(
    partitions: &Partitions,
    timeout: Duration,
    due_after: Duration,
    now: Instant,
) -> BTreeMap<BrokerId, Availability> {
    let by_leader = partitions.sites.iter().zip(&partitions.slots);
    let by_leader = by_leader.filter_map(|(site, slot)| Some((site.leader?, &slot.load)));
    let overdue = |load: &Load| {
        let opened = load.oldest_opened();
        opened.is_some_and(|opened| now.since(opened) > due_after.saturating_add(timeout))
    };
    let mut leaders = BTreeMap::new();
    for (leader, _) in by_leader.clone().filter(|(_, load)| overdue(load)) {
        leaders.insert(leader, Availability::TakesNothing);
    }
    for (leader, load) in by_leader {
        if load
            .last_taken()
            .is_some_and(|taken| now.since(taken) <= timeout)
        {
            leaders.insert(leader, Availability::Takes);
        }
    }
    leaders
}

/// One of the offers, by its weight.
fn weighted(offers: &[Offer], weighting: Weighting, rng: &mut fastrand::Rng) -> Option<usize> {
    let most = offers.iter().map(|offer| offer.batches).max()?;
    let weight = |offer: &Offer| match weighting {
        Weighting::ByLoad => u64::from(most - offer.batches) + 1,
        Weighting::Equal => 1,
    };
    let total: u64 = offers.iter().map(weight).sum();
    let mut left = rng.u64(..total);
    let chosen = offers.iter().find(|offer| {
        let weight = weight(offer);
        let is_here = left < weight;
        left = left.saturating_sub(weight);
        is_here
    });
    chosen.map(|offer| offer.partition)
}

/// How far the sticky partition's current batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// It may take more records.
    Open,
    /// It takes no more.
    Full,
}

/// Whether the sticky choice moves on after `bytes` went to its partition: at `batch.size` between
/// two batches, at twice that in any case.
///
/// Moving in the middle of a batch would leave a small one behind with each move.
pub(crate) fn moves_on(bytes: usize, batch_bytes: usize, batch: Batch) -> bool {
    // Kafka counts `batch.size=0` as 1.
    let batch_bytes = batch_bytes.max(1);
    match batch {
        Batch::Full => bytes >= batch_bytes,
        Batch::Open => bytes >= batch_bytes.saturating_mul(2),
    }
}

const UNCHOSEN: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::QueueLimits;
    use crate::io::topics::{Gate, Site, Slot};
    use crate::types::{TopicIndex, TopicPartition};
    use rstest::rstest;

    const MS: Duration = Duration::from_millis(1);

    /// Partitions with these leaders (negative for none) and so many batches each.
    fn partitions(leaders: &[i32], batches: &[u32]) -> Partitions {
        let slot = |(partition, batches): (i32, &u32)| {
            let topic = TopicIndex(0);
            let limits = QueueLimits { batch_bytes: 100 };
            let slot = Slot::new(TopicPartition { topic, partition }, limits, Gate::Open);
            (0..*batches).for_each(|_| slot.load.on_opened(Instant::ZERO));
            Arc::new(slot)
        };
        let sites = leaders.iter().map(|&leader| Site {
            leader: (leader >= 0).then_some(BrokerId(leader)),
            standing: Standing::Anywhere,
        });
        Partitions {
            slots: (0..).zip(batches).map(slot).collect(),
            sites: sites.collect(),
        }
    }

    /// How often each partition is chosen in 8,000 choices.
    fn chosen(partitions: &Partitions, spreading: &Spreading, clock: &Clock) -> Vec<u32> {
        let mut choosing = Choosing {
            rng: fastrand::Rng::with_seed(7),
            offers: Vec::new(),
        };
        let mut counts = vec![0; partitions.slots.len()];
        for _ in 0..8_000 {
            let circumstances = Circumstances {
                partitions,
                spreading,
                clock,
            };
            counts[choosing.choose(circumstances).expect("one of them")] += 1;
        }
        counts
    }

    #[track_caller]
    fn assert_about(counts: &[u32], expected: &[u32]) {
        let close = |(count, expected): (&u32, &u32)| count.abs_diff(*expected) <= 200;
        let all = counts.len() == expected.len() && counts.iter().zip(expected).all(close);
        assert!(all, "{counts:?} and not about {expected:?}");
        let never = counts
            .iter()
            .zip(expected)
            .find(|(count, e)| **e == 0 && **count > 0);
        assert_eq!(never, None, "{counts:?}");
    }

    #[rstest]
    // Kafka's own example: 0, 3, 1 wait; the weights are 4, 1, 3.
    #[case::by_load(Weighting::ByLoad, &[1, 1, 1], &[0, 3, 1], &[4_000, 1_000, 3_000])]
    #[case::all_equal(Weighting::ByLoad, &[1, 1, 1, 1], &[2, 2, 2, 2], &[2_000; 4])]
    #[case::not_by_load(Weighting::Equal, &[1, 1], &[0, 9], &[4_000, 4_000])]
    #[case::leaderless(Weighting::ByLoad, &[1, -1, 1, -1], &[0, 0, 0, 9], &[4_000, 0, 4_000, 0])]
    #[case::all_leaderless(Weighting::ByLoad, &[-1, -1], &[0, 9], &[4_000, 4_000])]
    #[case::alone(Weighting::ByLoad, &[1], &[5], &[8_000])]
    fn a_partition_is_chosen_by_its_weight(
        #[case] weighting: Weighting,
        #[case] leaders: &[i32],
        #[case] batches: &[u32],
        #[case] expected: &[u32],
    ) {
        let spreading = Spreading {
            weighting,
            ..Spreading::default()
        };
        let counts = chosen(&partitions(leaders, batches), &spreading, &Clock::start());
        assert_about(&counts, expected);
    }

    #[rstest]
    #[case::one_near(&[1], &[0, 8_000, 0, 0])]
    #[case::two_near(&[1, 3], &[0, 4_000, 0, 4_000])]
    #[case::near_without_leader(&[2], &[2_667, 2_667, 0, 2_667])]
    #[case::none_near(&[], &[2_667, 2_667, 0, 2_667])]
    fn partitions_in_the_own_rack_go_first(#[case] near: &[usize], #[case] expected: &[u32]) {
        let mut partitions = partitions(&[1, 2, -1, 3], &[0; 4]);
        for &partition in near {
            partitions.sites[partition].standing = Standing::Near;
        }
        let counts = chosen(&partitions, &Spreading::default(), &Clock::start());
        assert_about(&counts, expected);
    }

    /// Broker 1 leads partitions 0 and 1, broker 2 leads 2 and 3. Batches wait for 0 since the
    /// start; `taken` says of which other partition one was taken just now.
    #[rstest]
    #[case::in_time(None, 110 * MS, &[1_143, 2_286, 2_286, 2_286])]
    #[case::takes_nothing(None, 120 * MS, &[0, 0, 4_000, 4_000])]
    #[case::takes_another(Some(1), 120 * MS, &[1_143, 2_286, 2_286, 2_286])]
    #[case::other_broker_takes(Some(2), 120 * MS, &[0, 0, 4_000, 4_000])]
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_takes_nothing_is_left_out(
        #[case] taken: Option<usize>,
        #[case] passed: Duration,
        #[case] expected: &[u32],
    ) {
        let clock = Clock::start();
        let partitions = partitions(&[1, 1, 2, 2], &[0; 4]);
        partitions.slots[0].load.on_opened(Instant::ZERO);
        tokio::time::advance(passed).await;
        if let Some(taken) = taken {
            let load = &partitions.slots[taken].load;
            load.on_opened(clock.now());
            load.on_taken(None, Some(clock.now()));
        }
        let spreading = Spreading {
            availability_timeout: Some(100 * MS),
            linger: 15 * MS,
            ..Spreading::default()
        };
        let counts = chosen(&partitions, &spreading, &clock);
        assert_about(&counts, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn when_no_leader_takes_anything_all_are_as_good() {
        let clock = Clock::start();
        let partitions = partitions(&[1, 2], &[1, 1]);
        tokio::time::advance(1_000 * MS).await;
        let spreading = Spreading {
            availability_timeout: Some(100 * MS),
            ..Spreading::default()
        };
        assert_about(&chosen(&partitions, &spreading, &clock), &[4_000, 4_000]);
    }

    #[rstest]
    #[case(99, Batch::Full, false)]
    #[case(100, Batch::Full, true)]
    #[case(199, Batch::Open, false)]
    #[case(200, Batch::Open, true)]
    fn the_sticky_choice_moves_between_batches_or_at_twice_the_size(
        #[case] bytes: usize,
        #[case] batch: Batch,
        #[case] expected: bool,
    ) {
        assert_eq!(moves_on(bytes, 100, batch), expected);
    }

    #[test]
    fn who_moves_on_late_does_not_move_twice() {
        let sticky = Sticky::new(3);
        let (partitions, spreading, clock) = (
            partitions(&[1; 64], &[0; 64]),
            Spreading::default(),
            Clock::start(),
        );
        let circumstances = Circumstances {
            partitions: &partitions,
            spreading: &spreading,
            clock: &clock,
        };
        let first = sticky.current(circumstances).expect("chosen");
        sticky.move_on(first, circumstances);
        let second = sticky.current(circumstances).expect("chosen");
        sticky.move_on(first, circumstances);
        assert_eq!(sticky.current(circumstances), Some(second));
    }

    #[test]
    fn a_choice_beyond_the_partitions_is_made_anew() {
        let sticky = Sticky::new(3);
        let (spreading, clock) = (Spreading::default(), Clock::start());
        let among = |leaders: &[i32]| {
            let partitions = partitions(leaders, &vec![0; leaders.len()]);
            sticky.current(Circumstances {
                partitions: &partitions,
                spreading: &spreading,
                clock: &clock,
            })
        };
        assert_eq!(among(&[]), None);
        assert_eq!(among(&[-1, -1, 1]), Some(2));
        assert_eq!(among(&[1]), Some(0));
    }
}
