//! How connections come and go.
//!
//! *State* of a connection:
//!
//! ```text
//!        broker down, too many of one host or in all
//! asked ─┬───────────────────────────────────▶ closed
//!        │                                        ▲
//!        ▼     without traffic for too long       │
//!       open ─────────────────────────────────────┤
//!        │     no frame arrived                   │
//!        ├────────────────────────────────────────┘
//!        └─ the peer, or the network ─▶ gone
//! ```
//!
//! *Invariants*
//! 1. Whoever is open is watched for traffic; held exactly while its broker is paused.
//!
//! *Source* apache/kafka `core/…/network/SocketServer.scala` ConnectionQuotas; `clients/…/common/
//! network/Selector.java` for idle connections; observed on 4.3.1: a connection that never sent
//! anything expires like any other, and so does one that is muted for ever.
//!
//! *Not here* who breaks a connection off in the midst of a request (`answering.rs`).

use core::net::{IpAddr, Ipv4Addr};

use super::ClusterEngine;
use crate::engine::effect::{BrokerId, ConnectionId};
use crate::engine::journal::Event;
use crate::engine::time::Instant;
use crate::engine::topology::Process;

impl ClusterEngine {
    /// A client of this machine connected to a broker: see
    /// [`handle_connect_from`](Self::handle_connect_from).
    pub fn handle_connect(&mut self, broker: BrokerId, connection: ConnectionId, now: Instant) {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle_connect_from(here, broker, connection, now);
    }

    /// A client connected to a broker. A broker that is down closes the connection at once, and so
    /// does one to which the host of the client has `max.connections.per.ip` already, and any if
    /// the cluster holds as many as it may; a paused one leaves it open, as its kernel would.
    pub fn handle_connect_from(
        &mut self,
        peer: IpAddr,
        broker: BrokerId,
        connection: ConnectionId,
        now: Instant,
    ) {
        let others = self.connections.count_of(broker, peer);
        self.connections.open(connection, broker, peer);
        self.idle.open(connection, now);
        self.record(broker, connection, Event::Connected, now);
        if let Some(open_max) = self.connections.exceeded() {
            let reason = format!("{open_max} connections are open, more are not allowed");
            self.diagnose(connection, reason.clone(), now);
            self.close(connection, reason.into(), now);
            return;
        }
        let others_max = self.cluster.config_of(broker).max_connections_per_ip;
        let known = self.cluster.topology().broker(broker);
        match known.map(|broker| broker.process) {
            None | Some(Process::Crashed) => {
                self.close(connection, "the broker is down".into(), now);
            }
            Some(Process::Paused) => self.idle.hold(connection),
            // No number of connections is too large for what the key allows.
            Some(Process::Running)
                if usize::try_from(others_max).is_ok_and(|max| others >= max) =>
            {
                self.close(connection, "max.connections.per.ip".into(), now);
            }
            Some(Process::Running) => {}
        }
    }

    /// Bounds the connections to all brokers together; beyond it the newest is closed.
    pub const fn bound_connections(&mut self, open_max: usize) {
        self.connections.bound(open_max);
    }

    /// Bounds the bytes of requests in progress or waiting on all connections together; the
    /// connection of one beyond it is closed.
    pub const fn bound_request_bytes(&mut self, bytes_max: usize) {
        self.connections.bound_held_bytes(bytes_max);
    }

    /// The client, or the network, ended a connection.
    pub fn handle_disconnect(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(broker) = self.connections.broker(connection) {
            self.forget(connection);
            self.record(broker, connection, Event::Disconnected, now);
        }
    }

    /// Bytes arrived that are no whole frame yet. A driver that holds back what arrives behind a
    /// request in progress, tells of it when it lets go.
    pub fn handle_bytes(&mut self, connection: ConnectionId, now: Instant) {
        self.idle.on_traffic(connection, now);
    }

    /// Bytes arrived that are no frame: why is told, and the connection closed.
    pub fn handle_bad_frame(&mut self, connection: ConnectionId, reason: String, now: Instant) {
        self.diagnose(connection, reason.clone(), now);
        self.close(connection, reason.into(), now);
    }

    /// What the driver cannot do for the cluster is told.
    pub fn diagnose_edge(&mut self, text: String, now: Instant) {
        self.journal.diagnose(text, None, now);
    }

    pub(super) fn close_idle(&mut self, now: Instant) {
        while let Some(connection) = self.idle.expired(now) {
            self.close(connection, "connections.max.idle.ms".into(), now);
        }
    }

    pub(super) fn check_idle(&self) {
        self.idle.check_invariants();
        let limited = self.cluster.config().connections_max_idle().is_some();
        let topology = self.cluster.topology();
        for broker in topology.brokers() {
            for connection in self.connections.of_broker(broker.endpoint.id) {
                let held = limited && topology.is_paused(broker.endpoint.id);
                assert_eq!(self.idle.is_held(connection), Some(held), "connecting 1");
            }
        }
    }
}
