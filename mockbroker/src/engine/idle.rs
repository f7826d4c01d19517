//! Which connections were without traffic for too long.
//!
//! *State* of a connection:
//!
//! ```text
//!         traffic: its time is noted, nothing else
//!           ┌────┐
//! open ─▶ Watched ── its alarm, traffic since ──▶ Watched, a later alarm
//!           │  ▲ └── its alarm, none since ─────▶ told by `expired`
//!      hold │  │ release
//!           ▼  │
//!          Held: its broker is paused, which notices nothing
//! ```
//!
//! *Invariants*
//! 1. A watched connection has one alarm, a held one none; without a limit nobody has one.
//! 2. An alarm rings no later than the connection's time is over. So traffic moves no alarm, and a
//!    busy connection costs one look in the time that an idle one is allowed.
//!
//! *Source* apache/kafka `clients/…/common/network/Selector.java` IdleExpiryManager: bytes that are
//! read or written are traffic, what a muted channel has in its socket is none.
//!
//! *Not here* closing.
//!
//! *Deviations* a broker closes one connection a turn, here all whose time is over.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::effect::ConnectionId;
use super::time::Instant;

#[derive(Clone, Copy, Debug)]
struct Watched {
    traffic_at: Instant,
    alarm: Option<Instant>,
}

/// The open connections with the time of their last traffic.
#[derive(Clone, Debug, Default)]
pub struct IdleWatch {
    limit: Option<Duration>,
    watched: BTreeMap<ConnectionId, Watched>,
    alarms: BTreeSet<(Instant, ConnectionId)>,
}

impl IdleWatch {
    /// Nobody is open yet. `None` lets connections be idle for ever.
    #[must_use]
    pub const fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            watched: BTreeMap::new(),
            alarms: BTreeSet::new(),
        }
    }

    /// A connection was opened.
    pub fn open(&mut self, connection: ConnectionId, now: Instant) {
        self.close(connection);
        let fresh = Watched {
            traffic_at: now,
            alarm: None,
        };
        self.watched.insert(connection, fresh);
        self.release(connection);
    }

    /// A connection is gone.
    pub fn close(&mut self, connection: ConnectionId) {
        self.hold(connection);
        self.watched.remove(&connection);
    }

    /// Bytes were read from a connection, or written to it.
    pub fn on_traffic(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(watched) = self.watched.get_mut(&connection) {
            watched.traffic_at = now;
        }
    }

    /// The broker of a connection is paused: the connection does not expire.
    pub fn hold(&mut self, connection: ConnectionId) {
        if let Some(watched) = self.watched.get_mut(&connection)
            && let Some(alarm) = watched.alarm.take()
        {
            self.alarms.remove(&(alarm, connection));
        }
    }

    /// The broker of a connection goes on; the time of the connection may be over.
    pub fn release(&mut self, connection: ConnectionId) {
        self.hold(connection);
        if let (Some(limit), Some(watched)) = (self.limit, self.watched.get_mut(&connection)) {
            let alarm = watched.traffic_at + limit;
            watched.alarm = Some(alarm);
            self.alarms.insert((alarm, connection));
        }
    }

    /// Whether a connection is held; `None` when it is not open.
    #[must_use]
    pub fn is_held(&self, connection: ConnectionId) -> Option<bool> {
        let watched = self.watched.get(&connection)?;
        Some(self.limit.is_some() && watched.alarm.is_none())
    }

    /// A connection whose time is over by `now`; its alarm stays until it is closed.
    pub fn expired(&mut self, now: Instant) -> Option<ConnectionId> {
        let limit = self.limit?;
        loop {
            let (alarm, connection) = *self.alarms.first()?;
            if alarm > now {
                return None;
            }
            let watched = self.watched.get(&connection)?;
            if watched.traffic_at + limit <= now {
                return Some(connection);
            }
            self.release(connection);
        }
    }

    /// When to look again: no connection's time is over before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.alarms.first().map(|(alarm, _)| *alarm)
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        let watched = self.watched.iter();
        let armed = watched.filter_map(|(connection, watched)| Some((watched.alarm?, *connection)));
        assert_eq!(armed.collect::<BTreeSet<_>>(), self.alarms, "idle 1");
        for watched in self.watched.values() {
            let over = self.limit.map(|limit| watched.traffic_at + limit);
            assert!(
                watched.alarm.is_none_or(|alarm| Some(alarm) <= over),
                "idle 2: {watched:?}"
            );
            assert!(self.limit.is_some() || watched.alarm.is_none(), "idle 1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);
    const LIMIT: Duration = Duration::from_nanos(10);

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn opened() -> IdleWatch {
        let mut watch = IdleWatch::new(Some(LIMIT));
        watch.open(A, at(0));
        watch
    }

    /// Everybody whose time is over, closed.
    fn closed_by(watch: &mut IdleWatch, now: Instant) -> Vec<ConnectionId> {
        let mut closed = Vec::new();
        while let Some(connection) = watch.expired(now) {
            watch.close(connection);
            closed.push(connection);
        }
        watch.check_invariants();
        closed
    }

    #[test]
    fn a_connection_without_traffic_expires_when_its_time_is_over() {
        let mut watch = opened();
        watch.open(B, at(3));
        assert_eq!(watch.next_deadline(), Some(at(10)));
        assert_eq!(closed_by(&mut watch, at(9)), []);
        assert_eq!(closed_by(&mut watch, at(10)), [A]);
        assert_eq!(closed_by(&mut watch, at(13)), [B]);
        assert_eq!(watch.next_deadline(), None);
    }

    #[test]
    fn traffic_moves_no_alarm_and_is_found_when_it_rings() {
        let mut watch = opened();
        for nanos in 1..=9 {
            watch.on_traffic(A, at(nanos));
            assert_eq!(watch.next_deadline(), Some(at(10)));
        }
        assert_eq!(closed_by(&mut watch, at(10)), []);
        assert_eq!(watch.next_deadline(), Some(at(19)));
        assert_eq!(closed_by(&mut watch, at(19)), [A]);
    }

    #[test]
    fn a_held_connection_expires_once_released() {
        let mut watch = opened();
        watch.hold(A);
        assert_eq!(watch.next_deadline(), None);
        assert_eq!(closed_by(&mut watch, at(50)), []);
        watch.release(A);
        assert_eq!(closed_by(&mut watch, at(50)), [A]);
    }

    #[test]
    fn without_a_limit_nobody_expires() {
        let mut watch = IdleWatch::new(None);
        watch.open(A, at(0));
        watch.check_invariants();
        assert_eq!(watch.next_deadline(), None);
        assert_eq!(closed_by(&mut watch, at(u64::MAX)), []);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open(u64),
        Close(u64),
        Traffic(u64),
        Hold(u64),
        Release(u64),
    }

    fn step() -> impl Strategy<Value = (Step, u64)> {
        let who = 0..4_u64;
        let step = prop_oneof![
            who.clone().prop_map(Step::Open),
            who.clone().prop_map(Step::Close),
            who.clone().prop_map(Step::Traffic),
            who.clone().prop_map(Step::Hold),
            who.prop_map(Step::Release),
        ];
        (step, 0..8_u64)
    }

    proptest! {
        /// The plain account: who is open, when it last spoke, whether it is held.
        #[test]
        fn exactly_those_without_traffic_for_the_limit_expire(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let (mut watch, mut now) = (IdleWatch::new(Some(LIMIT)), 0);
            let mut plain: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
            for (step, pause) in steps {
                now += pause;
                let over = |(id, (spoke, held)): (&u64, &(u64, bool))| {
                    (!held && spoke + 10 <= now).then_some(ConnectionId(*id))
                };
                let expected: Vec<_> = plain.iter().filter_map(over).collect();
                let mut closed = closed_by(&mut watch, at(now));
                closed.sort();
                prop_assert_eq!(&closed, &expected);
                plain.retain(|id, _| !closed.contains(&ConnectionId(*id)));
                match step {
                    Step::Open(id) => {
                        watch.open(ConnectionId(id), at(now));
                        plain.insert(id, (now, false));
                    }
                    Step::Close(id) => {
                        watch.close(ConnectionId(id));
                        plain.remove(&id);
                    }
                    Step::Traffic(id) => {
                        watch.on_traffic(ConnectionId(id), at(now));
                        plain.entry(id).and_modify(|state| state.0 = now);
                    }
                    Step::Hold(id) => {
                        watch.hold(ConnectionId(id));
                        plain.entry(id).and_modify(|state| state.1 = true);
                    }
                    Step::Release(id) => {
                        watch.release(ConnectionId(id));
                        plain.entry(id).and_modify(|state| state.1 = false);
                    }
                }
                watch.check_invariants();
            }
        }
    }
}
