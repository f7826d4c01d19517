//! Markers of transactions on their way: one for each partition that is part of one.
//!
//! *State* of a marker:
//!
//! ```text
//!               a leader appends it                  the watermark passes it
//! to be sent ─────────────────────────▶ appended ─────────────────────────────▶ there
//!     ▲  held, no leader, too few        │ another leads: it may be lost          ▲
//!     │  in sync: it stays               │ another coordinates: sent again        │
//!     ├──────────────────────────────────┘                                       │
//!     ├── its topic was deleted ──────────────────────────────────────────────────┘
//!     └▶ refused: the producer, or who coordinates it, has a higher epoch there ─▶ to be sent
//!                                                another coordinates, or starts again
//! ```
//!
//! *Invariants*
//! 1. A transaction is in flight as long as one of its markers is not there, or its coordinator has
//!    not run since.
//! 2. What is held is not sent; what was appended before stays.
//! 3. Whose marker is refused does not complete (observed): its transaction stays as it is.
//!
//! *Source* apache/kafka `core/…/coordinator/transaction/{TransactionMarkerChannelManager,
//! TransactionMarkerRequestCompletionHandler}.scala`: NOT_LEADER, NOT_ENOUGH_REPLICAS and whatever
//! passes are tried again for ever; a partition that is gone is skipped.
//!
//! *Not here* what a marker is made of (`marker.rs`); who sends it (`transactions.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::effect::BrokerId;
use super::open_transactions::Ending;
use super::topology::PartitionKey;
use super::txn_coordinator::Identity;

/// A marker on its way to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has to be sent.
    ToBeSent,
    /// A leader has appended it.
    Appended {
        /// Who.
        leader: BrokerId,
        /// In which leader epoch.
        leader_epoch: i32,
        /// Where.
        offset: i64,
    },
    /// A leader does not take it.
    Refused,
}

/// The markers of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// What they say of the producer.
    pub producer: Identity,
    /// How the transaction ends.
    pub ending: Ending,
    /// Those that are not there yet.
    pub to: BTreeMap<PartitionKey, Delivery>,
}

/// Everything that is on its way.
#[derive(Clone, Debug, Default)]
pub struct TxnMarkers {
    flights: BTreeMap<Arc<str>, Flight>,
    held: BTreeSet<PartitionKey>,
}

impl TxnMarkers {
    /// The markers of a transaction begin their way.
    pub fn send(&mut self, id: &Arc<str>, flight: Flight) {
        self.flights.insert(Arc::clone(id), flight);
    }

    /// Those that a change of a partition may have brought on.
    #[must_use]
    pub fn bound_for(&self, partition: PartitionKey) -> Vec<Arc<str>> {
        let bound = self.flights.iter();
        let bound = bound.filter(|(_, flight)| flight.to.contains_key(&partition));
        bound.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Whose markers are on their way.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.flights.keys()
    }

    /// The markers of a transaction that are not there yet; `None` when all are.
    #[must_use]
    pub fn flight(&self, id: &str) -> Option<&Flight> {
        self.flights.get(id)
    }

    /// What has become of a marker.
    pub fn note(&mut self, id: &str, partition: PartitionKey, delivery: Delivery) {
        if let Some(flight) = self.flights.get_mut(id) {
            flight.to.insert(partition, delivery);
        }
    }

    /// A marker is there, or need not get there.
    pub fn arrive(&mut self, id: &str, partition: PartitionKey) {
        if let Some(flight) = self.flights.get_mut(id) {
            flight.to.remove(&partition);
        }
    }

    /// Takes a transaction out whose markers are all there.
    pub fn land(&mut self, id: &str) -> bool {
        let landed = self
            .flights
            .get(id)
            .is_some_and(|flight| flight.to.is_empty());
        if landed {
            self.flights.remove(id);
        }
        landed
    }

    /// Another coordinates a transaction: it sends again what is not there.
    pub fn send_again(&mut self, id: &str) {
        if let Some(flight) = self.flights.get_mut(id) {
            for delivery in flight.to.values_mut() {
                *delivery = Delivery::ToBeSent;
            }
        }
    }

    /// Who coordinates a transaction has started again: it sends again what was refused.
    pub fn retry_refused(&mut self, id: &str) {
        if let Some(flight) = self.flights.get_mut(id) {
            let refused = flight.to.values_mut();
            let refused = refused.filter(|delivery| **delivery == Delivery::Refused);
            refused.for_each(|delivery| *delivery = Delivery::ToBeSent);
        }
    }

    /// Markers for a partition are not sent from now on.
    pub fn hold(&mut self, partition: PartitionKey) {
        self.held.insert(partition);
    }

    /// They are sent again.
    pub fn release(&mut self, partition: PartitionKey) {
        self.held.remove(&partition);
    }

    /// Whether markers for a partition are held.
    #[must_use]
    pub fn is_held(&self, partition: PartitionKey) -> bool {
        self.held.contains(&partition)
    }

    /// Those in flight of which all markers are there.
    pub fn arrived(&self) -> impl Iterator<Item = &Arc<str>> {
        let arrived = self.flights.iter();
        let arrived = arrived.filter(|(_, flight)| flight.to.is_empty());
        arrived.map(|(id, _)| id)
    }
}
