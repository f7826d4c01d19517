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
//! 6. There is one choice, unless threads stand in each other's way at its partition: then there
//!    are more of them, in lanes that threads share out, and fewer again when nobody is in the way.
//!
//! *Source*: Kafka's `BuiltInPartitioner`, `RecordAccumulator.partitionReady` (KIP-794), KIP-1123;
//! lanes are ours.
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

/// A topic's sticky partitions.
///
/// Read with each record, so atomics; the lock is taken only to move.
#[derive(Debug)]
pub(crate) struct Sticky {
    /// How many lanes there are, less one; they are a power of two.
    lane_mask: AtomicUsize,
    lanes: [Lane; LANES_MAX],
    choosing: Mutex<Choosing>,
}

/// The partition of the threads of one lane.
#[derive(Debug)]
#[repr(align(64))]
struct Lane(AtomicUsize);

/// A lane's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) partition: usize,
    lane: usize,
}

/// On cache lines of its own: the rest is read with each record.
#[derive(Debug)]
#[repr(align(64))]
struct Choosing {
    rng: fastrand::Rng,
    /// Kept for its room.
    offers: Vec<Offer>,
    /// How many turns in a row ended without a collision.
    quiet_turns: u32,
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
            lane_mask: AtomicUsize::new(0),
            lanes: std::array::from_fn(|_| Lane(AtomicUsize::new(UNCHOSEN))),
            choosing: Mutex::new(Choosing {
                rng: fastrand::Rng::with_seed(seed),
                offers: Vec::new(),
                quiet_turns: 0,
            }),
        }
    }

    /// The choice among these partitions; `None` when there are none.
    #[inline]
    pub(crate) fn current(&self, circumstances: Circumstances<'_>) -> Option<Chosen> {
        let count = circumstances.partitions.slots.len();
        let before = self.chosen();
        if before.partition >= count {
            self.move_on(before, 0, circumstances);
        }
        let chosen = self.of_lane(before.lane);
        (chosen.partition < count).then_some(chosen)
    }

    /// The choice, if there is one among so many partitions.
    #[inline]
    pub(crate) fn chosen_before(&self, count: usize) -> Option<Chosen> {
        Some(self.chosen()).filter(|chosen| chosen.partition < count)
    }

    /// Whether the lane's choice is still this.
    #[inline]
    pub(crate) fn is(&self, chosen: Chosen) -> bool {
        self.of_lane(chosen.lane) == chosen
    }

    /// Chooses again, unless somebody already moved on from there, where threads collided so often
    /// during this turn.
    pub(crate) fn move_on(&self, from: Chosen, collisions: u32, circumstances: Circumstances<'_>) {
        // Valid whatever panicked while it was held: the offers are made anew each time.
        let mut choosing = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is(from) {
            return;
        }
        let lane_mask = self.lane_mask.load(Ordering::Relaxed);
        let count = circumstances.partitions.slots.len();
        let lane_mask = choosing.lane_mask(lane_mask, collisions, count);
        self.lane_mask.store(lane_mask, Ordering::Relaxed);
        let others = (0..=lane_mask).filter(|lane| *lane != from.lane);
        let taken: Vec<_> = others.map(|lane| self.of_lane(lane).partition).collect();
        let next = choosing.choose(circumstances, &taken).unwrap_or(UNCHOSEN);
        self.lanes[from.lane].0.store(next, Ordering::Relaxed);
    }

    #[inline]
    fn chosen(&self) -> Chosen {
        let lane_mask = self.lane_mask.load(Ordering::Relaxed);
        let lane = match lane_mask {
            0 => 0,
            mask => thread_number() & mask,
        };
        self.of_lane(lane)
    }

    #[inline]
    fn of_lane(&self, lane: usize) -> Chosen {
        let lane = lane % LANES_MAX;
        let partition = self.lanes[lane].0.load(Ordering::Relaxed);
        Chosen { partition, lane }
    }
}

/// A number of its own for each thread, from 0.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl Choosing {
    /// How many lanes there are after a turn with so many collisions: twice as many after many,
    /// half as many now and then when there were none. More lanes than partitions are of no use.
    fn lane_mask(&mut self, mask: usize, collisions: u32, partition_count: usize) -> usize {
        self.quiet_turns = match collisions {
            0 => self.quiet_turns + 1,
            _ => 0,
        };
        let lanes_max = partition_count.clamp(1, LANES_MAX);
        let mask_max = (1 << lanes_max.ilog2()) - 1;
        if collisions >= COLLISIONS_MANY {
            return (mask << 1 | 1).min(mask_max);
        }
        if self.quiet_turns < QUIET_TURNS {
            return mask.min(mask_max);
        }
        self.quiet_turns = 0;
        (mask >> 1).min(mask_max)
    }

    /// One of the partitions that are not taken by other lanes, or of all if there is no such one.
    fn choose(&mut self, circumstances: Circumstances<'_>, taken: &[usize]) -> Option<usize> {
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
        if !taken.is_empty() {
            self.prefer(|offer| !taken.contains(&offer.partition));
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
            batches: slot.load().batches(),
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
    let by_leader = by_leader.filter_map(|(site, slot)| Some((site.leader?, slot.load())));
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

/// As many threads as these do not all send at once, and each lane keeps a batch open.
const LANES_MAX: usize = 8;

/// During one turn, of maybe a hundred records; one or two are chance.
const COLLISIONS_MANY: u32 = 4;

/// After so many, threads are tried with fewer lanes: a collision costs little, once.
const QUIET_TURNS: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::QueueLimits;
    use crate::io::slot::{Gate, Slot};
    use crate::io::topics::Site;
    use crate::types::{TopicIndex, TopicPartition};
    use rstest::rstest;

    const MS: Duration = Duration::from_millis(1);

    /// Partitions with these leaders (negative for none) and so many batches each.
    fn partitions(leaders: &[i32], batches: &[u32]) -> Partitions {
        let slot = |(partition, batches): (i32, &u32)| {
            let topic = TopicIndex(0);
            let limits = QueueLimits { batch_bytes: 100 };
            let slot = Slot::new(TopicPartition { topic, partition }, limits, Gate::Open);
            let opened_at = (*batches > 0).then_some(Instant::ZERO);
            slot.load().set(*batches as usize, opened_at);
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
            quiet_turns: 0,
        };
        let mut counts = vec![0; partitions.slots.len()];
        for _ in 0..8_000 {
            let circumstances = Circumstances {
                partitions,
                spreading,
                clock,
            };
            counts[choosing.choose(circumstances, &[]).expect("one of them")] += 1;
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
        partitions.slots[0].load().set(1, Some(Instant::ZERO));
        tokio::time::advance(passed).await;
        if let Some(taken) = taken {
            let load = partitions.slots[taken].load();
            load.set(0, None);
            load.on_taken(clock.now());
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
        sticky.move_on(first, 0, circumstances);
        let second = sticky.current(circumstances).expect("chosen");
        sticky.move_on(first, 0, circumstances);
        assert_eq!(sticky.current(circumstances), Some(second));
    }

    #[rstest]
    #[case::nobody_in_the_way(&[(0, 3_000)], 100, 1)]
    #[case::now_and_then(&[(3, 3_000)], 100, 1)]
    #[case::twice_as_many_each_time(&[(4, 2)], 100, 4)]
    #[case::a_lane_keeps_a_batch_open(&[(4, 20)], 100, 8)]
    #[case::as_many_as_partitions(&[(4, 20)], 5, 4)]
    #[case::one_partition(&[(4, 20)], 1, 1)]
    #[case::still_in_use(&[(4, 20), (0, 1_023)], 100, 8)]
    #[case::out_of_use(&[(4, 20), (0, 1_024)], 100, 4)]
    #[case::long_out_of_use(&[(4, 20), (0, 9_000)], 100, 1)]
    fn lanes_are_as_many_as_threads_collide(
        #[case] turns: &[(u32, usize)],
        #[case] partition_count: usize,
        #[case] lanes: usize,
    ) {
        let sticky = Sticky::new(3);
        let (spreading, clock) = (Spreading::default(), Clock::start());
        let partitions = partitions(&vec![1; partition_count], &vec![0; partition_count]);
        let circumstances = Circumstances {
            partitions: &partitions,
            spreading: &spreading,
            clock: &clock,
        };
        for (collisions, times) in turns {
            for _ in 0..*times {
                let chosen = sticky.current(circumstances).expect("some");
                sticky.move_on(chosen, *collisions, circumstances);
            }
        }
        assert_eq!(sticky.lane_mask.load(Ordering::Relaxed) + 1, lanes);
    }

    #[test]
    fn lanes_choose_apart_while_there_are_partitions_for_all() {
        let sticky = Sticky::new(3);
        let (spreading, clock) = (Spreading::default(), Clock::start());
        let partitions = partitions(&[1; 8], &[0; 8]);
        let circumstances = Circumstances {
            partitions: &partitions,
            spreading: &spreading,
            clock: &clock,
        };
        for turn in 0..800 {
            let collisions = if turn < 10 { COLLISIONS_MANY } else { 0 };
            sticky.move_on(sticky.of_lane(turn % 8), collisions, circumstances);
        }
        let chosen: std::collections::BTreeSet<_> =
            (0..8).map(|lane| sticky.of_lane(lane).partition).collect();
        assert_eq!(chosen.len(), 8);
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
        assert_eq!(among(&[-1, -1, 1]).map(|one| one.partition), Some(2));
        assert_eq!(among(&[1]).map(|one| one.partition), Some(0));
    }
}
