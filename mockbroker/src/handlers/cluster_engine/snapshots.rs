//! A cluster at one moment, to go back to it or to go on from it twice.
//!
//! *State*
//!
//! ```text
//! engine ─ snapshot ─▶ Snapshot ─┬─ restore: the same engine, its connections closed
//!    ▲                           │            │
//!    └───────────────────────────┼────────────┘
//!                                └─ from_snapshot: another engine, without connections
//! ```
//!
//! *Invariants*
//! 1. A snapshot shares nothing that changes: whoever goes on from it does not see the others.
//! 2. It holds brokers, topics, configuration, logs, producers, ISRs and planned moves, faults of
//!    the network included; no connection, no request and no fetch session, so what waited is not
//!    answered. Fault rules and the journal stay those of the engine.
//! 3. Time is not turned back: what was due meanwhile happens at once.
//! 4. Brokers keep their addresses, not those of the snapshot.
//!
//! *Source* none in Kafka; this is the mock's own.
//!
//! *Not here* forks with their connections: the engine is a value, and its clone is one.

use thiserror::Error;

use super::ClusterEngine;
use crate::config::BrokerConfig;
use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
use crate::engine::plan::Plan;
use crate::engine::time::Instant;
use crate::engine::topology::BrokerEndpoint;

/// A cluster at one moment, without its connections; cheap to clone as far as records go.
#[derive(Clone, Debug)]
pub struct Snapshot {
    cluster: Cluster,
    plan: Plan,
    taken_at: Instant,
}

impl Snapshot {
    /// When it was taken, since the start of its cluster.
    #[must_use]
    pub const fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// The brokers, by id.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerId> {
        ids(&self.cluster)
    }

    /// The configuration of every broker for which nothing else was altered.
    #[must_use]
    pub const fn config(&self) -> &BrokerConfig {
        self.cluster.config()
    }
}

/// A snapshot is of a cluster with other brokers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the snapshot has the brokers {snapshot:?}, the cluster {cluster:?}: they must be the same"
)]
pub struct OtherBrokers {
    /// The ids of the snapshot's brokers.
    pub snapshot: Vec<i32>,
    /// The ids of the cluster's.
    pub cluster: Vec<i32>,
}

impl ClusterEngine {
    /// The cluster as it is now.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot {
            cluster: self.cluster.clone(),
            plan: self.plan.clone(),
            taken_at: now,
        }
    }

    /// Goes back to a snapshot: every connection is closed, as when all brokers start again.
    ///
    /// # Errors
    ///
    /// The snapshot is of other brokers; nothing has changed then.
    pub fn restore(&mut self, snapshot: &Snapshot, now: Instant) -> Result<(), OtherBrokers> {
        let brokers = self.cluster.topology().brokers();
        let endpoints: Vec<BrokerEndpoint> = brokers.map(|known| known.endpoint.clone()).collect();
        let cluster = readdressed(snapshot, &endpoints)?;
        for broker in &endpoints {
            for connection in self.connections.of_broker(broker.id) {
                self.close(connection, "the cluster was restored".into(), now);
            }
        }
        self.cluster = cluster;
        self.plan = snapshot.plan.clone();
        Ok(())
    }

    /// An engine that goes on from a snapshot; its time begins at
    /// [`taken_at`](Snapshot::taken_at). Its fault rules draw from `seed`.
    ///
    /// # Errors
    ///
    /// Other brokers than those of the snapshot.
    pub fn from_snapshot(
        snapshot: &Snapshot,
        brokers: &[BrokerEndpoint],
        seed: u64,
    ) -> Result<Self, OtherBrokers> {
        let cluster = readdressed(snapshot, brokers)?;
        let mut engine = Self::around(cluster, seed);
        engine.plan = snapshot.plan.clone();
        Ok(engine)
    }
}

fn readdressed(snapshot: &Snapshot, brokers: &[BrokerEndpoint]) -> Result<Cluster, OtherBrokers> {
    let mut asked: Vec<BrokerId> = brokers.iter().map(|broker| broker.id).collect();
    asked.sort_unstable();
    if asked != snapshot.brokers() {
        let numbers = |ids: Vec<BrokerId>| ids.into_iter().map(|id| id.0).collect();
        return Err(OtherBrokers {
            snapshot: numbers(snapshot.brokers()),
            cluster: numbers(asked),
        });
    }
    let mut cluster = snapshot.cluster.clone();
    cluster.readdress(brokers);
    for broker in brokers {
        cluster.fetch_sessions_mut().on_crash(broker.id);
    }
    Ok(cluster)
}

fn ids(cluster: &Cluster) -> Vec<BrokerId> {
    let brokers = cluster.topology().brokers();
    brokers.map(|broker| broker.endpoint.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ClusterConfig, Move};

    fn brokers(ports: [u16; 2]) -> Vec<BrokerEndpoint> {
        let brokers = (1..).zip(ports).map(|(id, port)| BrokerEndpoint {
            id: BrokerId(id),
            host: "mock".into(),
            port,
        });
        brokers.collect()
    }

    #[test]
    fn brokers_keep_their_addresses_also_where_one_is_cut_off() {
        let config = ClusterConfig {
            brokers: brokers([1, 2]),
            topics: Vec::new(),
            broker: BrokerConfig::default(),
            cluster_id: None,
            wall_clock_origin_ms: 0,
            seed: 1,
        };
        let mut engine = ClusterEngine::new(config, Instant::ZERO).unwrap();
        let broker = BrokerId(1);
        let isolate = Move::IsolateBroker { broker };
        engine.make_move(&isolate, Instant::ZERO).unwrap();
        let snapshot = engine.snapshot(Instant::ZERO);
        let mut other = ClusterEngine::from_snapshot(&snapshot, &brokers([8, 9]), 1).unwrap();
        for asked in snapshot.brokers() {
            let known = other.cluster().known_to(asked).brokers();
            let ports: Vec<u16> = known.map(|known| known.endpoint.port).collect();
            assert_eq!(ports, [8, 9], "{asked:?}");
        }
        other.restore(&snapshot, Instant::ZERO).unwrap();
        let first = other.cluster().topology().brokers().next().unwrap();
        assert_eq!(first.endpoint.port, 8);
        other.check_invariants();
    }
}
