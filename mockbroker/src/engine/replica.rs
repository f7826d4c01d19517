//! One replica: its own log, what producers wrote into it, and how its broker is.
//!
//! *State* of its link to the leader:
//!
//! ```text
//!   leader elected, link held, broker away
//!  ┌───────────────────────────────────────┐
//!  ▼              what was sent arrives    │
//! Silent ────────────────────────────▶ In contact: its log is a prefix of the leader's
//! ```
//!
//! *Invariants*
//! 1. Its producers are those of its log, as much as a broker knows that started when the log ended
//!    at `started_at`.
//! 2. What is on the way was sent in the order of its ends.
//! 3. When it comes into contact it drops what the leader's log does not have, from the first batch
//!    on in which the two differ, and only then takes what it lacks.
//!
//! *Source* apache/kafka `server/…/AbstractFetcherThread.scala` truncateOnFetchResponse and
//! KIP-101: a replica truncates to the end of the last epoch that it shares with the leader.
//!
//! *Not here* who leads and who is in sync (`replication.rs`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::effect::BrokerId;
use super::log::{Log, StoredBatch};
use super::marker::Marker;
use super::producer_state::{EpochBump, Expiry, ProducerBatch, ProducerStates};
use super::time::Instant;
use super::topology::{Network, Process};
use crate::wire::batch_view::TRANSACTIONAL;

/// Whether a replica would fetch from its leader, if both brokers ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It does.
    Following,
    /// It stands still, though its broker runs.
    Held,
}

/// Whether a follower has heard from its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// Not since there is another leader, or since it was away.
    Silent,
    /// What it has is a prefix of the leader's log.
    Made,
}

/// Records between a leader and a follower.
#[derive(Clone, Copy, Debug)]
struct OnTheWay {
    sent: Instant,
    /// The end of the leader's log then.
    end: i64,
}

/// A replica of a partition.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its broker.
    pub broker: BrokerId,
    /// Whether it fetches.
    pub link: Link,
    /// Whether its broker runs.
    pub process: Process,
    /// Whether its broker reaches the others.
    pub network: Network,
    log: Log,
    producers: ProducerStates,
    /// Its log's end when its broker started last.
    started_at: i64,
    /// How long records take to it from a leader that they do not reach at once.
    delays: BTreeMap<BrokerId, Duration>,
    on_the_way: VecDeque<OnTheWay>,
    contact: Contact,
    /// As far as the leader knows that it got.
    known_end: i64,
    /// Since when it lacks something that the leader has.
    lagging_since: Option<Instant>,
}

impl Replica {
    /// An empty replica.
    #[must_use]
    pub fn new(broker: BrokerId, process: Process, network: Network) -> Self {
        Self {
            broker,
            link: Link::Following,
            process,
            network,
            log: Log::default(),
            producers: ProducerStates::default(),
            started_at: 0,
            delays: BTreeMap::new(),
            on_the_way: VecDeque::new(),
            contact: Contact::Silent,
            known_end: 0,
            lagging_since: None,
        }
    }

    /// Its log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Its log, for what its leader does to it.
    pub(super) const fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// What producers wrote into its log.
    #[must_use]
    pub const fn producers(&self) -> &ProducerStates {
        &self.producers
    }

    /// Forgets what a producer wrote; `false` when nothing is known of it.
    pub(super) fn forget_producer(&mut self, producer_id: i64) -> bool {
        self.producers.forget(producer_id)
    }

    /// Forgets the producers that a sweep has found idle.
    pub(super) fn forget_expired(&mut self, expiry: Expiry, now_ms: i64) {
        let transactions = self.log.transactions();
        self.producers.forget_expired(transactions, expiry, now_ms);
    }

    /// A coordinator is asked whether a batch is of a transaction.
    pub(super) fn on_asked(&mut self, batch: &ProducerBatch, bump: EpochBump) {
        self.producers.on_asked(batch, bump);
    }

    /// As far as the leader knows that it got.
    #[must_use]
    pub const fn known_end(&self) -> i64 {
        self.known_end
    }

    /// Whether it has lacked something for this long.
    #[must_use]
    pub fn has_lagged(&self, lag_max: Duration, now: Instant) -> bool {
        let since = self.lagging_since;
        since.is_some_and(|since| since + lag_max <= now)
    }

    /// Since when it lacks something that the leader has.
    #[must_use]
    pub const fn lagging_since(&self) -> Option<Instant> {
        self.lagging_since
    }

    /// Whether its broker runs and reaches the others.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process == Process::Running && self.network == Network::Connected
    }

    /// Whether it would take what a leader that runs has.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.link == Link::Following && self.runs()
    }

    /// Whether what it has is a prefix of the leader's log.
    #[must_use]
    pub fn is_in_contact(&self) -> bool {
        self.contact == Contact::Made
    }

    /// How long records take to it from this leader.
    #[must_use]
    pub fn delay_from(&self, leader: BrokerId) -> Duration {
        self.delays.get(&leader).copied().unwrap_or_default()
    }

    /// From now on records take this long to it from this leader.
    pub(super) fn set_delay(&mut self, leader: BrokerId, delay: Duration) {
        self.delays.insert(leader, delay);
    }

    /// Appends a batch behind its end.
    pub(super) fn append(&mut self, batch: StoredBatch) {
        commit(&mut self.producers, &batch);
        self.log.append(batch);
    }

    /// Its broker has started: of what it has, it knows the producers from a snapshot.
    pub(super) fn on_start(&mut self) {
        self.link = Link::Following;
        self.started_at = self.log.end_offset();
        self.producers.reload();
    }

    /// What the leader had sent is lost, and it has to ask again.
    pub(super) fn lose_contact(&mut self) {
        self.on_the_way.clear();
        self.contact = Contact::Silent;
    }

    /// Another leader, whose watermark is all that it knows of this one's log.
    pub(super) fn on_election(&mut self, watermark: i64, now: Instant) {
        self.lose_contact();
        self.known_end = watermark;
        self.lagging_since = Some(now);
    }

    /// It leads now.
    pub(super) fn on_elected(&mut self) {
        self.lose_contact();
        self.lagging_since = None;
    }

    /// It stands still while the leader's log ends here.
    pub(super) fn miss(&mut self, end: i64, now: Instant) {
        if self.known_end < end {
            self.lagging_since.get_or_insert(now);
        }
    }

    /// What the leader has up to `end` leaves for it now.
    pub(super) fn expect(&mut self, end: i64, now: Instant) {
        self.miss(end, now);
        let asks = self.contact == Contact::Silent || self.known_end < end;
        if asks && self.on_the_way.back().is_none_or(|last| last.end < end) {
            self.on_the_way.push_back(OnTheWay { sent: now, end });
        }
    }

    /// When what is on the way from `leader` arrives.
    #[must_use]
    pub fn next_arrival(&self, leader: BrokerId) -> Option<Instant> {
        let first = self.on_the_way.front()?;
        Some(first.sent + self.delay_from(leader))
    }

    /// Takes what has arrived from `leader`.
    pub(super) fn receive(&mut self, leader: BrokerId, log: &Log, now: Instant) {
        while self.next_arrival(leader).is_some_and(|at| at <= now)
            && let Some(arrived) = self.on_the_way.pop_front()
        {
            self.adopt(log, arrived.end);
        }
    }

    /// Takes over what the leader has up to `end`.
    pub(super) fn adopt(&mut self, leader: &Log, end: i64) {
        if self.contact == Contact::Silent {
            let common = self.log.common_end(leader);
            if common < self.log.end_offset() {
                self.truncate(common);
            }
            self.contact = Contact::Made;
        }
        let lacking = leader.batches().get(self.log.batches().len()..);
        for batch in lacking.unwrap_or_default() {
            if batch.header.last_offset() >= end {
                break;
            }
            self.append(batch.clone());
        }
        self.log.raise_high_watermark(leader.high_watermark());
        self.log.raise_start_offset(leader.start_offset());
        self.known_end = self.log.end_offset();
        self.on_the_way.retain(|sent| sent.end > self.known_end);
        self.lagging_since = match self.known_end < leader.end_offset() {
            true => self.on_the_way.front().map(|sent| sent.sent),
            false => None,
        };
    }

    fn truncate(&mut self, end: i64) {
        self.log.truncate(end);
        self.started_at = self.started_at.min(self.log.end_offset());
        let before = core::mem::take(&mut self.producers);
        let batches = self.log.batches();
        let loaded = batches.partition_point(|batch| batch.header.last_offset() < self.started_at);
        let (loaded, followed) = batches.split_at(loaded);
        loaded
            .iter()
            .for_each(|batch| commit(&mut self.producers, batch));
        self.producers.reload();
        followed
            .iter()
            .for_each(|batch| commit(&mut self.producers, batch));
        self.producers.retain_known_to(&before);
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        let end = self.log.end_offset();
        assert!(self.started_at <= end, "replica 1: {:?}", self.broker);
        self.producers.check_invariants(self.started_at);
        let ends: Vec<i64> = self.on_the_way.iter().map(|sent| sent.end).collect();
        assert!(ends.is_sorted(), "replica 2: {:?}", self.broker);
    }
}

fn commit(producers: &mut ProducerStates, stored: &StoredBatch) {
    if let Some(marker) = Marker::of(stored) {
        return producers.commit_marker(&marker, stored.appended_at_ms);
    }
    if let Some(batch) = ProducerBatch::of(&stored.header) {
        let header = &stored.header;
        let offsets = (header.base_offset, header.last_offset());
        producers.commit(&batch, offsets.0, offsets.1, stored.appended_at_ms);
        if header.has(TRANSACTIONAL) {
            producers.on_transaction_moved(batch.producer_id);
        }
    }
}
