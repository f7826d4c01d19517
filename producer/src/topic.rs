//! A topic's handle: the name looked up once, for callers that send to it often.
//!
//! *Not here*: everything else about sending (`producer.rs`).

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::delivery::{Delivery, Written, callback};
use crate::engine::effect::PartitionView;
use crate::handle::{Destination, ProducerHandle};
use crate::io::blocking::block_on;
use crate::io::topics::TopicEntry;
use crate::produce_error::ProduceError;
use crate::record::Record;
use crate::send_all::{Calls, without_deliveries};
use crate::sending::Sending;
use crate::types::BrokerId;
use crate::wire::message::Replicas;

/// What the brokers told of a partition, as Kafka's `PartitionInfo`.
///
/// It is as old as the producer's metadata: `metadata.max.age.ms` at most, and as fresh as the last
/// refusal that named a new leader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Its number, from 0.
    pub partition: i32,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<BrokerId>,
    /// Who keeps it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Which of those have all that is written.
    pub in_sync_replicas: Vec<BrokerId>,
    /// Which of those are offline.
    pub offline_replicas: Vec<BrokerId>,
}

impl PartitionInfo {
    fn new((partition, told): (i32, &PartitionView)) -> Self {
        let Replicas {
            all,
            in_sync,
            offline,
        } = &*told.replicas;
        Self {
            partition,
            leader: told.leader,
            replicas: all.clone(),
            in_sync_replicas: in_sync.clone(),
            offline_replicas: offline.clone(),
        }
    }
}

/// One topic of a [`Producer`](crate::Producer). Cheap to clone; keeps its producer alive.
#[derive(Clone)]
pub struct Topic {
    handle: Arc<ProducerHandle>,
    entry: Arc<TopicEntry>,
}

impl Topic {
    pub(crate) fn new(handle: Arc<ProducerHandle>, entry: Arc<TopicEntry>) -> Self {
        Self { handle, entry }
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// A record that never gets as far as its bytes.
    pub(crate) fn refuse(&self, error: ProduceError) -> ProduceError {
        self.handle.refuse(error)
    }

    fn destination(&self) -> Destination<'_> {
        Destination::Known(&self.entry)
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.entry.name
    }

    /// How many partitions it has, as last heard.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.entry.heard.load().len()
    }

    /// Who leads each partition, by its number, as last heard; `None` where nobody does.
    #[must_use]
    pub fn partition_leaders(&self) -> Vec<Option<BrokerId>> {
        let heard = self.entry.heard.load();
        heard.iter().map(|partition| partition.leader).collect()
    }

    /// Its partitions, by their numbers, as last heard: see [`PartitionInfo`]. Never waits and
    /// never asks; [`Producer::partitions_for`](crate::Producer::partitions_for) does if it must.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionInfo> {
        let heard = self.entry.heard.load();
        let partitions = (0..).zip(heard.iter());
        partitions.map(PartitionInfo::new).collect()
    }

    /// [`Producer::send`](crate::Producer::send) to this topic.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancellation
    ///
    /// Dropping the future before it is ready leaves the record unsent and holds nothing back.
    #[inline]
    pub fn send<'a>(
        &'a self,
        record: Record<'a>,
    ) -> impl Future<Output = Result<Delivery, ProduceError>> + Send + 'a {
        Sending::new(self, record)
    }

    /// Accepts a record if nothing stands in the way; `None` changes nothing and says nothing.
    #[inline(always)]
    pub(crate) fn accept_now(&self, record: &Record<'_>) -> Option<Delivery> {
        self.handle.accept_now(&self.entry, record)
    }

    /// Accepts a record, whatever stands in the way.
    pub(crate) async fn accept(&self, record: Record<'_>) -> Result<Delivery, ProduceError> {
        self.handle.send(self.destination(), &record, None).await
    }

    /// [`Producer::send_blocking`](crate::Producer::send_blocking) to this topic.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_blocking(&self, record: Record<'_>) -> Result<Delivery, ProduceError> {
        block_on(self.send(record))
    }

    /// [`Producer::send_all`](crate::Producer::send_all) to this topic.
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a>>,
    ) -> Vec<Result<Delivery, ProduceError>> {
        let records: Vec<_> = records.into_iter().collect();
        let to = self.destination();
        self.handle.send_all(to, &records, &Calls::NONE).await
    }

    /// [`Producer::send_all_with`](crate::Producer::send_all_with) to this topic.
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn send_all_with<'a, F>(
        &self,
        records: impl IntoIterator<Item = Record<'a>>,
        on_settled: F,
    ) -> Vec<Result<(), ProduceError>>
    where
        F: Fn(usize, Result<Written, ProduceError>) + Send + Sync + 'static,
    {
        let records: Vec<_> = records.into_iter().collect();
        let calls = Calls::new(on_settled);
        let sent = self.handle.send_all(self.destination(), &records, &calls);
        without_deliveries(sent.await)
    }

    /// [`Producer::deliver`](crate::Producer::deliver) to this topic.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the record unsent if it was not accepted yet; otherwise it is
    /// sent all the same.
    pub async fn deliver(&self, record: Record<'_>) -> Result<Written, ProduceError> {
        self.send(record).await?.await
    }

    /// [`Producer::send_with`](crate::Producer::send_with) to this topic.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancellation
    ///
    /// As [`Topic::send`]: dropped before it is ready, the function is not called.
    pub async fn send_with<F>(&self, record: Record<'_>, on_settled: F) -> Result<(), ProduceError>
    where
        F: FnOnce(Result<Written, ProduceError>) + Send + 'static,
    {
        let call = Some(callback(on_settled));
        let sent = self.handle.send(self.destination(), &record, call);
        sent.await.map(drop)
    }

    /// [`Producer::try_send`](crate::Producer::try_send) to this topic.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&self, record: Record<'_>) -> Result<Delivery, ProduceError> {
        self.handle.try_send(self.destination(), &record)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
