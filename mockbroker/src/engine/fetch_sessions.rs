//! Fetch sessions: what a reader asked for last, so that it need not say it again (KIP-227).
//!
//! *State* of a session:
//!
//! ```text
//!          full request, room              request with the next epoch, partitions left
//! nobody's ──────────────────▶ Kept(epoch 1) ───────────────────────────────────▶ Kept(+1)
//!    ▲                              │
//!    └──────────────────────────────┘ full request of its reader, no partition left, broker stops,
//!                                     displaced by a new one
//! ```
//!
//! *Invariants*
//! 1. A broker keeps at most as many sessions as `max.incremental.fetch.session.cache.slots` says,
//!    all of them together at most [`PARTITIONS_MAX`] partitions.
//! 2. A partition is once in a session; the order is that of the requests, but what was answered
//!    with records goes to the end, so that no partition starves.
//! 3. An id is positive, and no other session of its broker has it.
//!
//! *Source* apache/kafka `core/…/server/FetchSession.scala`; observed on 4.3.1.
//!
//! *Not here* what a partition is answered (`handlers/fetch.rs`).
//!
//! *Deviations* one cache a broker, where Kafka divides it into eight. Followers are answered as
//! consumers, so no session is privileged. A session is displaced by one with more partitions only
//! when two minutes old, as in Kafka, or when unused for so long.

use core::time::Duration;
use std::collections::BTreeMap;

use super::effect::BrokerId;
use super::time::Instant;
use crate::wire::request::{FetchPartition, TopicRef};

/// Partitions of all sessions of a broker; Kafka has no such bound.
pub const PARTITIONS_MAX: usize = 200_000;

/// How long a session must be unused, or old, to be displaced.
const DISPLACEABLE_AFTER: Duration = Duration::from_secs(120);

/// What an answer tells of a partition, as far as the next answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The high watermark; -1 on errors.
    pub high_watermark: i64,
    /// The first offset; -1 on errors.
    pub log_start_offset: i64,
    /// Whether there is an error.
    pub outcome: Outcome,
    /// Whether there are records.
    pub records: Records,
}

/// Whether a partition is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not.
    Good,
    /// It is.
    Failed,
}

/// Whether a partition is answered with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// None.
    None,
    /// Some.
    Some,
}

/// Why a request of a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// No session of this id.
    NotFound,
    /// Another epoch is due.
    WrongEpoch,
    /// The session names topics by id and the request by name, or the other way round.
    OtherNames,
}

/// How the requests of a session name topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By name, before version 13.
    Names,
    /// By id.
    Ids,
}

type Place = (TopicRef, i32);

#[derive(Clone, Debug)]
struct Cached {
    topic: TopicRef,
    asked: FetchPartition,
    high_watermark: i64,
    log_start_offset: i64,
}

#[derive(Clone, Debug)]
struct Session {
    naming: Naming,
    epoch: i32,
    made_at: Instant,
    used_at: Instant,
    next_turn: u64,
    by_turn: BTreeMap<u64, Cached>,
    turns: BTreeMap<Place, u64>,
}

impl Session {
    fn put(&mut self, cached: Cached) {
        let place = (cached.topic.clone(), cached.asked.index);
        self.turns.insert(place, self.next_turn);
        self.by_turn.insert(self.next_turn, cached);
        self.next_turn += 1;
    }

    fn take(&mut self, place: &Place) -> Option<Cached> {
        let turn = self.turns.remove(place)?;
        self.by_turn.remove(&turn)
    }

    fn ask(&mut self, topic: &TopicRef, asked: FetchPartition) {
        let place = (topic.clone(), asked.index);
        let turn = self.turns.get(&place);
        match turn.and_then(|turn| self.by_turn.get_mut(turn)) {
            Some(cached) => cached.asked = asked,
            None => self.put(Cached {
                topic: place.0,
                asked,
                high_watermark: -1,
                log_start_offset: -1,
            }),
        }
    }

    /// Whether the answer is to tell of a partition; remembers what it tells.
    fn tell(&mut self, place: &Place, told: Told) -> bool {
        let turn = self.turns.get(place);
        let Some(cached) = turn.and_then(|turn| self.by_turn.get_mut(turn)) else {
            return true;
        };
        let moved = cached.high_watermark != told.high_watermark
            || cached.log_start_offset != told.log_start_offset;
        let failed = told.outcome == Outcome::Failed;
        // What was wrong is told again when it is right.
        cached.high_watermark = if failed { -1 } else { told.high_watermark };
        cached.log_start_offset = told.log_start_offset;
        let has_records = told.records == Records::Some;
        if has_records && let Some(cached) = self.take(place) {
            self.put(cached);
        }
        has_records || moved || failed
    }
}

/// The epoch after another one.
const fn next_epoch(epoch: i32) -> i32 {
    match epoch.checked_add(1) {
        Some(next) => next,
        None => 1,
    }
}

/// The sessions of all brokers.
#[derive(Clone, Debug)]
pub struct FetchSessions {
    of_broker: BTreeMap<BrokerId, BTreeMap<i32, Session>>,
    random: fastrand::Rng,
}

impl FetchSessions {
    /// No sessions; ids are drawn from this seed.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self {
            of_broker: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Keeps what a full request asked and what it was told; the session's id, or 0 when there is
    /// no room among `slots`.
    pub fn begin(
        &mut self,
        broker: BrokerId,
        told: impl ExactSizeIterator<Item = (TopicRef, FetchPartition, Told)>,
        (naming, slots): (Naming, usize),
        now: Instant,
    ) -> i32 {
        if !self.make_room(broker, told.len(), slots, now) {
            return 0;
        }
        let mut session = Session {
            naming,
            epoch: 1,
            made_at: now,
            used_at: now,
            next_turn: 0,
            by_turn: BTreeMap::new(),
            turns: BTreeMap::new(),
        };
        for (topic, asked, told) in told {
            session.put(Cached {
                topic,
                asked,
                high_watermark: told.high_watermark,
                log_start_offset: told.log_start_offset,
            });
        }
        let sessions = self.of_broker.entry(broker).or_default();
        let drawn = core::iter::repeat_with(|| self.random.i32(1..));
        let mut free = drawn.filter(|id| !sessions.contains_key(id));
        let id = free.next().unwrap_or(0);
        sessions.insert(id, session);
        id
    }

    /// `FetchSessionCacheShard.tryEvict`.
    fn make_room(
        &mut self,
        broker: BrokerId,
        partitions: usize,
        slots: usize,
        now: Instant,
    ) -> bool {
        let sessions = self.of_broker.entry(broker).or_default();
        let kept: usize = sessions.values().map(|session| session.turns.len()).sum();
        if slots == 0 || kept.saturating_add(partitions) > PARTITIONS_MAX {
            return false;
        }
        if sessions.len() < slots {
            return true;
        }
        let unused = sessions
            .iter()
            .min_by_key(|(id, session)| (session.used_at, **id));
        let unused = unused.filter(|(_, session)| session.used_at + DISPLACEABLE_AFTER < now);
        let smallest = || {
            let old = sessions
                .iter()
                .filter(|(_, session)| session.made_at + DISPLACEABLE_AFTER < now);
            let smallest = old.min_by_key(|(id, session)| (session.turns.len(), **id));
            smallest.filter(|(_, session)| session.turns.len() < partitions)
        };
        match unused.or_else(smallest).map(|(id, _)| *id) {
            Some(id) => sessions.remove(&id).is_some(),
            None => false,
        }
    }

    /// A reader goes on: what it asks is added, what it forgets is dropped. Answers with all that
    /// the session holds now, in the order in which it is to be read; `None` when nothing is left,
    /// and the session with it.
    ///
    /// # Errors
    ///
    /// No such session, another epoch or another naming: nothing has changed then. A session that
    /// would hold too much ends, and there is no such session.
    pub fn go_on(
        &mut self,
        broker: BrokerId,
        (id, epoch): (i32, i32),
        request: &Request<'_>,
        now: Instant,
    ) -> Result<Option<Vec<(TopicRef, FetchPartition)>>, SessionError> {
        let sessions = self.of_broker.entry(broker).or_default();
        let kept: usize = sessions.values().map(|session| session.turns.len()).sum();
        let session = sessions.get_mut(&id).ok_or(SessionError::NotFound)?;
        if session.epoch != epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.naming != request.naming {
            return Err(SessionError::OtherNames);
        }
        if kept.saturating_add(request.asked.len()) > PARTITIONS_MAX {
            sessions.remove(&id);
            return Err(SessionError::NotFound);
        }
        for (topic, asked) in request.asked {
            session.ask(topic, *asked);
        }
        for (topic, partitions) in request.forgotten {
            for partition in partitions {
                session.take(&(topic.clone(), *partition));
            }
        }
        if session.turns.is_empty() {
            sessions.remove(&id);
            return Ok(None);
        }
        session.epoch = next_epoch(epoch);
        session.used_at = now;
        let held = session.by_turn.values();
        Ok(Some(
            held.map(|cached| (cached.topic.clone(), cached.asked))
                .collect(),
        ))
    }

    /// Which partitions the answer is to tell of: those with records or an error, and those whose
    /// offsets changed since they were told last; all when the session has ended meanwhile. `None`
    /// when a request with another epoch came between.
    pub fn tell(
        &mut self,
        broker: BrokerId,
        (id, epoch): (i32, i32),
        told: impl Iterator<Item = (TopicRef, i32, Told)>,
    ) -> Option<Vec<bool>> {
        let sessions = self.of_broker.entry(broker).or_default();
        let Some(session) = sessions.get_mut(&id) else {
            return Some(told.map(|_| true).collect());
        };
        if session.epoch != next_epoch(epoch) {
            return None;
        }
        let tell = told.map(|(topic, partition, told)| session.tell(&(topic, partition), told));
        Some(tell.collect())
    }

    /// A reader ends its session, if it has one.
    pub fn end(&mut self, broker: BrokerId, id: i32) {
        if let Some(sessions) = self.of_broker.get_mut(&broker) {
            sessions.remove(&id);
        }
    }

    /// A broker stops: its sessions are gone.
    pub fn on_crash(&mut self, broker: BrokerId) {
        self.of_broker.remove(&broker);
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        for sessions in self.of_broker.values() {
            let kept: usize = sessions.values().map(|session| session.turns.len()).sum();
            assert!(kept <= PARTITIONS_MAX, "fetch sessions 1");
            assert!(sessions.keys().all(|id| *id > 0), "fetch sessions 3");
            for session in sessions.values() {
                assert_eq!(
                    session.turns.len(),
                    session.by_turn.len(),
                    "fetch sessions 2"
                );
            }
        }
    }
}

/// What a request of a session says.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How it names topics.
    pub naming: Naming,
    /// What it asks anew or otherwise.
    pub asked: &'a [(TopicRef, FetchPartition)],
    /// What it no longer asks.
    pub forgotten: &'a [(TopicRef, Vec<i32>)],
}
