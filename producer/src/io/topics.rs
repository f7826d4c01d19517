//! The topics in use: their numbers, what is known of them, their partitions' queues.
//!
//! Appends read all of this without a lock; the driver alone publishes.
//!
//! *Invariants*
//! 1. A topic's number is its place in the list of topics, given at its first use, for good.
//! 2. A partition's slot is made once: whatever metadata says later, its records stay reachable.
//!
//! *Source*: Kafka's `RecordAccumulator.TopicInfo`.
//!
//! *Not here*: what is known and when it is asked for (`engine/metadata.rs`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::engine::effect::PartitionView;
use crate::engine::ratio::Ratio;
use crate::error::Failure;
use crate::io::slot::Slot;
use crate::io::slot_table::SlotTable;
use crate::io::sticky::{Standing, Sticky};
use crate::types::{BrokerId, TopicIndex};

/// All topics in use.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    list: ArcSwap<TopicList>,
    /// Held by whoever adds one.
    adding: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct TopicList {
    by_name: HashMap<Arc<str>, Arc<TopicEntry>>,
    by_index: Vec<Arc<TopicEntry>>,
}

/// One topic in use.
#[derive(Debug)]
pub(crate) struct TopicEntry {
    pub(crate) index: TopicIndex,
    pub(crate) name: Arc<str>,
    /// What is known.
    pub(crate) route: ArcSwap<Route>,
    /// The slots of `route`, for who needs nothing else of it.
    pub(crate) slots: SlotTable,
    /// The partitions as they were when they were last known, by number.
    pub(crate) heard: ArcSwap<Vec<PartitionView>>,
    /// Notified when `route` changes, and when the producer closes.
    pub(crate) changed: Notify,
    pub(crate) sticky: Sticky,
    /// How small its records are expected to become, per mille.
    ratio: AtomicU32,
}

/// What is known of a topic, for appends.
#[derive(Debug)]
pub(crate) enum Route {
    /// Nothing yet, and the last reason why.
    Pending(Option<Failure>),
    /// Where its records go.
    Known(Partitions),
    /// A broker refused; another question may be answered otherwise.
    Refused(Failure, Wanted),
    /// Nothing any more: nobody used it for too long.
    Forgotten(Wanted),
}

/// Whether somebody has asked for a topic to be learnt about again.
#[derive(Debug, Default)]
pub(crate) struct Wanted(AtomicBool);

impl Wanted {
    /// Says whether this is the first time.
    pub(crate) fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// Whether somebody has.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A topic's partitions.
#[derive(Debug)]
pub(crate) struct Partitions {
    /// Their queues, by number.
    pub(crate) slots: Vec<Arc<Slot>>,
    /// Where their leaders are, by number; as long as `slots`.
    pub(crate) sites: Vec<Site>,
}

/// Where a partition's leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Who leads it, if anyone does.
    pub(crate) leader: Option<BrokerId>,
    pub(crate) standing: Standing,
}

impl Topics {
    /// The topic of this name, if it was used before.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<TopicEntry>> {
        self.list.load().by_name.get(name).cloned()
    }

    /// The topic of this number.
    pub(crate) fn at(&self, index: TopicIndex) -> Option<Arc<TopicEntry>> {
        let place = usize::try_from(index.0).ok()?;
        self.list.load().by_index.get(place).cloned()
    }

    /// Adds a topic, unless somebody just did; `on_added` is told of a new one.
    pub(crate) fn add(
        &self,
        name: &str,
        seed: u64,
        on_added: impl FnOnce(&TopicEntry),
    ) -> Arc<TopicEntry> {
        // Nothing is half done while it is held: the list is swapped whole.
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = self.find(name) {
            return entry;
        }
        let mut list = TopicList::clone(&self.list.load());
        let index = u32::try_from(list.by_index.len()).unwrap_or(u32::MAX);
        let entry = Arc::new(TopicEntry {
            index: TopicIndex(index),
            name: Arc::from(name),
            route: ArcSwap::from_pointee(Route::Pending(None)),
            slots: SlotTable::default(),
            heard: ArcSwap::default(),
            changed: Notify::new(),
            sticky: Sticky::new(seed ^ u64::from(index)),
            ratio: AtomicU32::new(Ratio::PLAIN.per_mille()),
        });
        list.by_name
            .insert(Arc::clone(&entry.name), Arc::clone(&entry));
        list.by_index.push(Arc::clone(&entry));
        self.list.store(Arc::new(list));
        on_added(&entry);
        entry
    }

    /// Wakes all who wait for a topic.
    pub(crate) fn notify_all(&self) {
        for entry in &self.list.load().by_index {
            entry.changed.notify_waiters();
        }
    }
}

impl TopicEntry {
    /// The last reason why nothing is known, if there is one.
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        match &**self.route.load() {
            Route::Pending(failure) => failure.clone(),
            Route::Refused(failure, _) => Some(failure.clone()),
            Route::Known(_) | Route::Forgotten(_) => None,
        }
    }

    /// Whether there is something to know of it, good or bad, and nobody has asked for better.
    pub(crate) fn is_told(&self) -> bool {
        match &**self.route.load() {
            Route::Known(_) => true,
            Route::Refused(_, wanted) => !wanted.is_asked(),
            Route::Pending(_) | Route::Forgotten(_) => false,
        }
    }

    /// How small its records are expected to become.
    #[inline]
    pub(crate) fn ratio(&self) -> Ratio {
        Ratio::from_per_mille(self.ratio.load(Ordering::Relaxed))
    }

    /// Lets appends see what is expected from now on.
    pub(crate) fn expect_ratio(&self, ratio: Ratio) {
        self.ratio.store(ratio.per_mille(), Ordering::Relaxed);
    }

    /// Lets appends see what is known now, and wakes who waits for it.
    pub(crate) fn publish(&self, route: Route) {
        if let Route::Known(partitions) = &route {
            self.slots.publish(&partitions.slots);
        } else {
            self.slots.close();
        }
        self.route.store(Arc::new(route));
        self.changed.notify_waiters();
    }
}
