//! How brokers go and come back: crash, restart, pause, resume, isolate, heal.
//!
//! *State*
//!
//! ```text
//! sound ─ crash ─────────────▶ gone at once: what it led is led by the next in sync
//!   │                             │ restart: it starts with its logs; what it did not say when it
//!   │                             ▼ stopped may be lost, so that it is no eligible leader any more
//!   │ ◀───────────────────────────┘
//!   ├─ pause: it does nothing ─────────────────┐  broker.session.timeout.ms
//!   ├─ isolate: it serves clients and hears of ├──────────────────────────▶ gone, as above
//!   │  nobody; what it led it goes on to lead  │                               │
//!   │ ◀── resume, heal ────────────────────────┴───────────────────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A broker has a session to end exactly while it is active and not sound.
//! 2. A broker has a view of its own exactly while it is cut off: that of when that began.
//!
//! *Source* apache/kafka `metadata/…/controller/{BrokerHeartbeatManager,
//! ReplicationControlManager}.java`: handleBrokerFenced, handleBrokerUnfenced,
//! handleBrokerUncleanShutdown.
//!
//! *Not here* connections to brokers (`handlers/cluster_engine.rs`).
//!
//! *Deviations* a crash is seen at once, where Kafka waits for the session's end; a broker that
//! starts knows at once what the controller decided; a crash ends an isolation.

use core::time::Duration;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::elections::Change;
use super::moves::MoveError;
use super::time::Instant;
use super::topology::{Broker, Network, PartitionKey, Process, Registration};

impl Cluster {
    pub(super) fn crash(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if self.known_broker(broker)?.process != Process::Crashed {
            self.views.remove(&broker);
            self.sessions.remove(&broker);
            self.fetch_sessions.on_crash(broker);
            self.set_state(broker, Process::Crashed, Network::Connected);
            self.fence(broker, now);
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        if self.known_broker(broker)?.process == Process::Crashed {
            self.producer_ids.on_restart(broker);
            self.momentary.on_restart(broker);
            self.reload_transactions(broker);
            self.set_state(broker, Process::Running, Network::Connected);
            for key in self.hosted_by(broker) {
                self.topology.change(key, &Change::UncleanShutdown(broker));
            }
            self.unfence(broker, now);
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        let Broker {
            process, network, ..
        } = *self.known_broker(broker)?;
        if process == Process::Running {
            self.set_state(broker, Process::Paused, network);
            self.begin_session(broker, now);
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        let Broker {
            process, network, ..
        } = *self.known_broker(broker)?;
        if process == Process::Paused {
            self.set_state(broker, Process::Running, network);
            self.come_back(broker, now);
        }
        Ok(())
    }

    pub(super) fn isolate(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        let known = self.known_broker(broker)?;
        if known.process != Process::Crashed && known.network == Network::Connected {
            let process = known.process;
            self.views.insert(broker, self.topology.clone());
            self.set_state(broker, process, Network::Isolated);
            self.begin_session(broker, now);
        }
        Ok(())
    }

    pub(super) fn heal(&mut self, broker: BrokerId, now: Instant) -> Result<(), MoveError> {
        let known = self.known_broker(broker)?;
        if known.network == Network::Isolated {
            let process = known.process;
            self.views.remove(&broker);
            self.set_state(broker, process, Network::Connected);
            self.come_back(broker, now);
        }
        Ok(())
    }

    /// Fences the brokers whose sessions are over.
    pub(super) fn end_sessions(&mut self, now: Instant) {
        let over = |(broker, end): (&BrokerId, &Instant)| (*end <= now).then_some(*broker);
        let over: Vec<BrokerId> = self.sessions.iter().filter_map(over).collect();
        for broker in over {
            self.sessions.remove(&broker);
            self.fence(broker, now);
        }
    }

    fn begin_session(&mut self, broker: BrokerId, now: Instant) {
        let session_ms = self.config().broker_session_timeout_ms;
        let session = Duration::from_millis(u64::try_from(session_ms).unwrap_or(0));
        let known = self.topology.broker(broker);
        if known.is_some_and(|known| known.registration == Registration::Active) {
            self.sessions.entry(broker).or_insert(now + session);
        }
        self.refresh(broker, now);
    }

    /// A broker may be sound again.
    fn come_back(&mut self, broker: BrokerId, now: Instant) {
        if self.topology.broker(broker).is_some_and(Broker::is_sound) {
            self.sessions.remove(&broker);
            self.unfence(broker, now);
        } else {
            self.refresh(broker, now);
        }
    }

    /// The controller sees a broker go.
    fn fence(&mut self, broker: BrokerId, now: Instant) {
        if let Some(known) = self.topology.broker_mut(broker) {
            known.registration = Registration::Fenced;
        }
        for key in self.hosted_by(broker) {
            self.topology.change(key, &Change::Fenced(broker));
        }
        self.refresh(broker, now);
    }

    /// The controller sees a broker come.
    fn unfence(&mut self, broker: BrokerId, now: Instant) {
        if let Some(known) = self.topology.broker_mut(broker) {
            known.registration = Registration::Active;
        }
        for key in self.hosted_by(broker) {
            if self.leader(key).is_none() {
                self.topology.change(key, &Change::None);
            }
        }
        self.refresh(broker, now);
    }

    fn refresh(&mut self, broker: BrokerId, now: Instant) {
        for key in self.hosted_by(broker) {
            self.on_replicas_changed(key, now);
        }
    }

    fn set_state(&mut self, broker: BrokerId, process: Process, network: Network) {
        if let Some(known) = self.topology.broker_mut(broker) {
            (known.process, known.network) = (process, network);
        }
        for partition in self.partitions.values_mut() {
            partition.replicas_mut().set_state(broker, process, network);
        }
    }

    pub(super) fn known_broker(&self, broker: BrokerId) -> Result<&Broker, MoveError> {
        self.topology.broker(broker).ok_or(MoveError::UnknownBroker)
    }

    fn hosted_by(&self, broker: BrokerId) -> Vec<PartitionKey> {
        let hosted = self.partitions.iter();
        let hosted = hosted.filter(|(_, partition)| partition.replicas().replica(broker).is_some());
        hosted.map(|(key, _)| *key).collect()
    }
}
