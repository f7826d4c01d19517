//! What can go wrong in a world: rules in the cluster, and the network.
//!
//! *Invariants*
//! 1. A misfortune hits what stands when it comes; only [`World::refuse`] and [`World::clog`] also
//!    hit connections that are opened while they last.
//!
//! *Not here*: which come when (`faults.rs`), what a lost link loses (`link.rs`).

use std::sync::Arc;
use std::time::Duration;

use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::engine::quotas::QuotaEntity;
use kafka_mockbroker::{Api, BrokerId, Rule};

use crate::client::Outlet;
use crate::defect::Defect;
use crate::world::{ClientNumber, Leaders, World};

/// The moves that end what a cluster of so many brokers does wrong: all run and are reached, speak
/// every version, follow at once, and hold nothing back.
pub fn healing(brokers: i32, partitions: impl IntoIterator<Item = (Arc<str>, i32)>) -> Vec<Move> {
    let brokers = || (1..=brokers).map(BrokerId);
    let mut moves = Vec::new();
    for broker in brokers() {
        moves.push(Move::RestartBroker { broker });
        moves.push(Move::ResumeBroker { broker });
        moves.push(Move::HealBroker { broker });
        moves.extend(brokers().map(|to| Move::DelayReplication {
            from: broker,
            to,
            delay: Duration::ZERO,
        }));
    }
    for broker in brokers() {
        for api in [Api::Produce, Api::Metadata, Api::InitProducerId] {
            moves.push(Move::RestrictVersions {
                broker,
                api,
                min: 0,
                max: i16::MAX,
            });
        }
    }
    for (topic, partition) in partitions {
        moves.push(Move::ReleaseMarkers {
            topic: Arc::clone(&topic),
            partition,
        });
        moves.push(Move::ReleaseIsrChanges {
            topic: Arc::clone(&topic),
            partition,
        });
        moves.extend(brokers().map(|broker| Move::ReleaseFollower {
            topic: Arc::clone(&topic),
            partition,
            broker,
        }));
    }
    moves
}

impl World {
    /// Installs a fault rule in the cluster.
    pub fn install(&mut self, rule: Rule) {
        self.note(format_args!("rule: {rule}"));
        let id = self.cluster.rules_mut().install(rule);
        self.rules.push(id);
    }

    /// Moves the cluster; a move that the cluster's state does not allow changes nothing.
    pub fn make_move(&mut self, to_make: Move) {
        if matches!(
            to_make,
            Move::CrashBroker { .. }
                | Move::PauseBroker { .. }
                | Move::IsolateBroker { .. }
                | Move::MoveLeader { .. }
        ) {
            self.leaders = Leaders::Lost;
        }
        let made = self.cluster.make_move(&to_make, self.broker_now());
        match made {
            Ok(()) => self.note(format_args!("{to_make:?}")),
            Err(refused) => self.note(format_args!("{to_make:?}: {refused}")),
        }
        self.drive_cluster();
    }

    /// Ends what the cluster does wrong: rules that wait for their turn are taken out, every
    /// broker runs and is reached, every follower follows at once.
    pub fn heal(&mut self) {
        self.note("the faults are over");
        self.remove_traps();
        self.limit(None);
        let lost = self.setting.defect == Some(Defect::MarkersLost);
        let is_kept = |to_make: &Move| lost && matches!(to_make, Move::ReleaseMarkers { .. });
        let healing = healing(self.setting.brokers, self.setting.partitions());
        for to_make in healing.into_iter().filter(|to_make| !is_kept(to_make)) {
            self.make_move(to_make);
        }
        for rule in std::mem::take(&mut self.rules) {
            self.cluster.rules_mut().remove(rule);
        }
    }

    /// Limits what each producer may send, in bytes a second; nothing ends the limit.
    ///
    /// # Panics
    ///
    /// When the cluster does not take the limit.
    pub fn limit(&mut self, bytes: Option<u32>) {
        self.note(format_args!("bytes a second per producer: {bytes:?}"));
        let everyone = QuotaEntity::default_client_id();
        let (value, now) = (bytes.map(f64::from), self.broker_now());
        let set = self
            .cluster
            .set_quota(&everyone, "producer_byte_rate", value, now);
        set.expect("the limit is allowed");
    }

    /// Ends every link to a broker and loses what is on the way.
    pub fn cut(&mut self, broker: i32) {
        self.note(format_args!("links to broker {broker} are cut"));
        for link in self.links.to_broker(broker) {
            self.links.cut(link, self.now);
        }
    }

    /// Holds back what is on the way to and from a broker.
    pub fn stall(&mut self, broker: i32, duration: Duration) {
        self.note(format_args!(
            "links to broker {broker} stall for {duration:?}"
        ));
        for link in self.links.to_broker(broker) {
            self.links.stall(link, self.now + duration);
        }
    }

    /// Refuses new connections to a broker for a while.
    pub fn refuse(&mut self, broker: i32, duration: Duration) {
        self.note(format_args!(
            "broker {broker} refuses connections for {duration:?}"
        ));
        self.refusing.insert(broker, self.now + duration);
    }

    /// Keeps written bytes from leaving for a broker for a while.
    pub fn clog(&mut self, broker: i32, duration: Duration) {
        self.note(format_args!(
            "no byte leaves for broker {broker} for {duration:?}"
        ));
        self.clogged.insert(broker, self.now + duration);
        for client in &mut self.clients {
            for connection in client.connections.values_mut() {
                if self.links.broker(connection.link) == broker
                    && matches!(connection.outlet, Outlet::Open)
                {
                    connection.outlet = Outlet::Clogged(Default::default());
                }
            }
        }
    }

    /// Lets go what waited for a broker that is not clogged any more.
    pub(crate) fn unclog(&mut self) {
        let now = self.now;
        let over: Vec<i32> = self
            .clogged
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(id, _)| *id)
            .collect();
        for broker in over {
            self.clogged.remove(&broker);
            for client in 0..self.clients.len() {
                self.unclog_client(ClientNumber(client), broker);
            }
        }
    }

    fn unclog_client(&mut self, client: ClientNumber, broker: i32) {
        let mut released = Vec::new();
        for (id, connection) in &mut self.clients[client.0].connections {
            if self.links.broker(connection.link) != broker {
                continue;
            }
            if let Outlet::Clogged(kept) = std::mem::replace(&mut connection.outlet, Outlet::Open) {
                released.extend(kept.into_iter().map(|(correlation_id, bytes)| {
                    ((*id, correlation_id), (connection.link, bytes))
                }));
            }
        }
        for (request, bytes) in released {
            self.leave(client, request, bytes);
        }
    }
}
