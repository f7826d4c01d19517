//! Connections to brokers: one request in progress each, the ones behind it wait.
//!
//! *State* of a connection:
//!
//! ```text
//!        offer                finish, nothing waits
//! Idle ────────▶ Busy ─────────────────────────────▶ Idle
//!                │  ▲
//!                │  └─ finish, a frame waits
//!                │ mute
//!                ▼
//!              Muted ── whatever arrives is dropped ──▶ Muted
//!
//! close, from any state: the connection is gone, and what arrives for it is ignored
//! ```
//!
//! *Invariants*
//! 1. A frame is started only when the one before it is finished, so answers keep the order of
//!    their requests.
//! 2. An idle connection has nothing waiting.
//! 3. A connection holds at most [`WAITING_BYTES_MAX`] of waiting frames.
//! 4. What is counted of a host at a broker are its open connections to that broker.
//! 5. All connections together hold the frames in progress and those that wait, and no more bytes
//!    of them than the bound.
//!
//! *Source* apache/kafka `core/…/network/SocketServer.scala`: a channel is muted from the receipt
//! of a request until its response is handed back.
//!
//! *Not here* sockets. Kafka stops reading while a channel is muted; a driver that does not would
//! run into the bound of 3.

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::effect::{BrokerId, ConnectionId};

/// Bytes of frames that may wait on one connection: Kafka's default bound of one request, twice.
pub const WAITING_BYTES_MAX: usize = 2 * 104_857_600;

/// Bytes of frames in progress or waiting on all connections, unless another bound is set.
const HELD_BYTES_MAX: usize = 1 << 30;

/// Connections of a cluster that may be open, unless another bound is set.
const OPEN_MAX: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Busy,
    Muted,
}

#[derive(Clone, Debug)]
struct Connection {
    broker: BrokerId,
    peer: IpAddr,
    phase: Phase,
    /// Of the frame in progress.
    busy_bytes: usize,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
}

/// What to do with a frame that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Serve it now.
    Start(Bytes),
    /// It waits behind the request in progress.
    Waits,
    /// The connection is muted: it is dropped.
    Dropped,
    /// Too much waits already: the connection must be closed.
    Full,
    /// All connections together hold as much as they may: this one must be closed.
    FullInAll,
    /// No such connection (any more): ignore it.
    Unknown,
}

/// The open connections.
#[derive(Clone, Debug)]
pub struct Connections {
    open: BTreeMap<ConnectionId, Connection>,
    of_peers: BTreeMap<(BrokerId, IpAddr), usize>,
    open_max: usize,
    held_bytes: usize,
    held_bytes_max: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            of_peers: BTreeMap::new(),
            open_max: OPEN_MAX,
            held_bytes: 0,
            held_bytes_max: HELD_BYTES_MAX,
        }
    }
}

impl Connections {
    /// Adds an idle connection from a host to `broker`.
    pub fn open(&mut self, connection: ConnectionId, broker: BrokerId, peer: IpAddr) {
        let fresh = Connection {
            broker,
            peer,
            phase: Phase::Idle,
            busy_bytes: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        };
        self.close(connection);
        self.open.insert(connection, fresh);
        *self.of_peers.entry((broker, peer)).or_default() += 1;
    }

    /// Bounds the connections to all brokers together.
    pub const fn bound(&mut self, open_max: usize) {
        self.open_max = open_max;
    }

    /// Bounds the bytes of frames in progress or waiting on all connections together.
    pub const fn bound_held_bytes(&mut self, bytes_max: usize) {
        self.held_bytes_max = bytes_max;
    }

    /// That bound.
    #[must_use]
    pub const fn held_bytes_max(&self) -> usize {
        self.held_bytes_max
    }

    /// The bound, if more are open: whoever came last must be closed.
    #[must_use]
    pub fn exceeded(&self) -> Option<usize> {
        (self.open.len() > self.open_max).then_some(self.open_max)
    }

    /// Removes a connection; `false` when there was none.
    pub fn close(&mut self, connection: ConnectionId) -> bool {
        let Some(gone) = self.open.remove(&connection) else {
            return false;
        };
        self.held_bytes -= gone.busy_bytes + gone.waiting_bytes;
        let of_peer = (gone.broker, gone.peer);
        match self.of_peers.get_mut(&of_peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.of_peers.remove(&of_peer);
            }
        }
        true
    }

    /// How many connections a host has to `broker`.
    #[must_use]
    pub fn count_of(&self, broker: BrokerId, peer: IpAddr) -> usize {
        self.of_peers.get(&(broker, peer)).copied().unwrap_or(0)
    }

    /// Takes in a frame.
    pub fn offer(&mut self, connection: ConnectionId, frame: Bytes) -> Offer {
        let Some(state) = self.open.get_mut(&connection) else {
            return Offer::Unknown;
        };
        let held_bytes = self.held_bytes.saturating_add(frame.len());
        match state.phase {
            Phase::Idle | Phase::Busy if held_bytes > self.held_bytes_max => Offer::FullInAll,
            Phase::Idle => {
                state.phase = Phase::Busy;
                state.busy_bytes = frame.len();
                self.held_bytes = held_bytes;
                Offer::Start(frame)
            }
            Phase::Busy => {
                let bytes = state.waiting_bytes.saturating_add(frame.len());
                if bytes > WAITING_BYTES_MAX {
                    return Offer::Full;
                }
                state.waiting_bytes = bytes;
                self.held_bytes = held_bytes;
                state.waiting.push_back(frame);
                Offer::Waits
            }
            Phase::Muted => Offer::Dropped,
        }
    }

    /// Ends the request in progress; the frame that waited longest, if any, is to be served now.
    pub fn finish(&mut self, connection: ConnectionId) -> Option<Bytes> {
        let state = self.open.get_mut(&connection)?;
        if state.phase != Phase::Busy {
            return None;
        }
        self.held_bytes -= state.busy_bytes;
        state.busy_bytes = 0;
        let Some(next) = state.waiting.pop_front() else {
            state.phase = Phase::Idle;
            return None;
        };
        state.waiting_bytes -= next.len();
        state.busy_bytes = next.len();
        Some(next)
    }

    /// Leaves the request in progress without an end: nothing is answered any more.
    pub fn mute(&mut self, connection: ConnectionId) {
        if let Some(state) = self.open.get_mut(&connection) {
            state.phase = Phase::Muted;
            self.held_bytes -= state.busy_bytes + state.waiting_bytes;
            state.busy_bytes = 0;
            state.waiting = VecDeque::new();
            state.waiting_bytes = 0;
        }
    }

    /// The broker that a connection leads to.
    #[must_use]
    pub fn broker(&self, connection: ConnectionId) -> Option<BrokerId> {
        self.open.get(&connection).map(|state| state.broker)
    }

    /// Whether a frame would be served at once; a driver reads on only then.
    #[must_use]
    pub fn is_idle(&self, connection: ConnectionId) -> bool {
        self.open
            .get(&connection)
            .is_some_and(|state| state.phase == Phase::Idle)
    }

    /// The connections to a broker, in the order of their numbers.
    #[must_use]
    pub fn of_broker(&self, broker: BrokerId) -> Vec<ConnectionId> {
        let of_broker = self.open.iter().filter(|(_, state)| state.broker == broker);
        of_broker.map(|(connection, _)| *connection).collect()
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        let mut of_peers = BTreeMap::new();
        for state in self.open.values() {
            *of_peers.entry((state.broker, state.peer)).or_default() += 1;
        }
        assert_eq!(of_peers, self.of_peers, "connections 4");
        let states = self.open.values();
        let held: usize = states
            .map(|state| state.busy_bytes + state.waiting_bytes)
            .sum();
        assert_eq!(held, self.held_bytes, "connections 5");
        assert!(held <= self.held_bytes_max, "connections 5");
        for (connection, state) in &self.open {
            let bytes: usize = state.waiting.iter().map(Bytes::len).sum();
            assert_eq!(bytes, state.waiting_bytes, "connections 3: {connection:?}");
            assert!(bytes <= WAITING_BYTES_MAX, "connections 3: {connection:?}");
            if state.phase == Phase::Idle {
                assert!(state.waiting.is_empty(), "connections 2: {connection:?}");
                assert_eq!(state.busy_bytes, 0, "connections 5: {connection:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ConnectionId = ConnectionId(1);
    const PEER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

    fn opened() -> Connections {
        let mut connections = Connections::default();
        connections.open(HERE, BrokerId(1), PEER);
        connections
    }

    fn frame(byte: u8) -> Bytes {
        Bytes::copy_from_slice(&[byte])
    }

    #[test]
    fn requests_of_a_connection_are_served_one_after_the_other() {
        let mut connections = opened();
        assert_eq!(connections.offer(HERE, frame(1)), Offer::Start(frame(1)));
        assert_eq!(connections.offer(HERE, frame(2)), Offer::Waits);
        assert_eq!(connections.offer(HERE, frame(3)), Offer::Waits);
        connections.check_invariants();
        assert_eq!(connections.finish(HERE), Some(frame(2)));
        assert_eq!(connections.finish(HERE), Some(frame(3)));
        assert_eq!(connections.finish(HERE), None);
        assert!(connections.is_idle(HERE));
    }

    #[test]
    fn a_muted_connection_answers_nothing_more() {
        let mut connections = opened();
        connections.offer(HERE, frame(1));
        connections.offer(HERE, frame(2));
        connections.mute(HERE);
        assert_eq!(
            connections.finish(HERE),
            None,
            "no transition leads out of muted"
        );
        assert_eq!(connections.offer(HERE, frame(3)), Offer::Dropped);
        connections.check_invariants();
    }

    #[test]
    fn a_closed_connection_is_unknown() {
        let mut connections = opened();
        connections.offer(HERE, frame(1));
        assert!(connections.close(HERE));
        assert!(!connections.close(HERE), "it closes once");
        assert_eq!(connections.offer(HERE, frame(2)), Offer::Unknown);
        assert_eq!(connections.finish(HERE), None);
    }

    #[test]
    fn connections_are_counted_by_host_and_broker() {
        let mut connections = opened();
        let other = "10.0.0.1".parse().unwrap();
        connections.open(ConnectionId(2), BrokerId(1), PEER);
        connections.open(ConnectionId(3), BrokerId(1), other);
        connections.open(ConnectionId(4), BrokerId(2), PEER);
        connections.check_invariants();
        let count = |connections: &Connections| connections.count_of(BrokerId(1), PEER);
        assert_eq!(count(&connections), 2);
        for (closed, left) in [(4, 2), (HERE.0, 1), (2, 0)] {
            connections.close(ConnectionId(closed));
            connections.check_invariants();
            assert_eq!(count(&connections), left);
        }
    }

    #[test]
    fn waiting_frames_are_bounded() {
        let mut connections = opened();
        connections.offer(HERE, frame(1));
        let large = Bytes::from(vec![0; WAITING_BYTES_MAX]);
        assert_eq!(connections.offer(HERE, large), Offer::Waits);
        assert_eq!(connections.offer(HERE, frame(2)), Offer::Full);
        connections.check_invariants();
    }
}
