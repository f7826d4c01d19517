//! The producer: takes records, and says of each what became of it.
//!
//! *Invariants*
//! 1. Sending waits for two things only, within one `max.block.ms`: to know the topic, and for room
//!    in `buffer.memory`; and for a moment where a queue is deep (`io/pause.rs`).
//! 2. A record is accepted whole or refused whole; a refused one is certainly not written.
//! 3. When the last handle is gone, what was accepted is still settled.
//!
//! *Source*: Kafka's `KafkaProducer.doSend`.
//!
//! *Not here*: appending (`io/accumulator.rs`), sending (`engine/`, `io/driver.rs`).

use std::fmt;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::config::{ConfigError, Configuration, ProducerBuilder, Settings};
use crate::delivery::{Delivery, Written, callback};
use crate::engine::Engine;
use crate::handle::{Destination, ProducerHandle};
use crate::interceptor::Chain;
use crate::io::accumulator::{Accumulator, Limits};
use crate::io::blocking::block_on;
use crate::io::codec_room::CodecRoom;
use crate::io::desk::Desk;
use crate::io::driver::Driver;
use crate::io::inbox::End;
use crate::io::meters::Meters;
use crate::io::meters::snapshot::Metrics;
use crate::io::shared_driver::SharedDriver;
use crate::io::transport::Connector;
use crate::io::waiting::Patience;
use crate::produce_error::ProduceError;
#[cfg(doc)]
use crate::produce_error::ProduceErrorKind;
use crate::record::Record;
use crate::send_all::{Calls, without_deliveries};
use crate::topic::{PartitionInfo, Topic};
use crate::transactions::Transactional;

/// Sends records to a Kafka cluster.
///
/// Cheap to clone; all clones are one producer. Dropping the last one (and the last [`Topic`])
/// lets the records already accepted be sent in the background, as long as the runtime lives;
/// [`Producer::close`] waits for them.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<ProducerHandle>,
}

impl Producer {
    /// Starts to set up a producer.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::new()
    }

    /// A producer from pairs of Kafka's keys and values, as a properties file holds them.
    ///
    /// # Errors
    ///
    /// As [`ProducerBuilder::build`].
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        Self::builder().set_all(pairs).build()
    }

    pub(crate) fn handle(&self) -> &Arc<ProducerHandle> {
        &self.handle
    }

    pub(crate) fn start(
        settings: Settings,
        chain: Chain,
        connector: Arc<dyn Connector>,
        runtime: Handle,
    ) -> Result<Self, ConfigError> {
        let entered = runtime.enter();
        // tokio has no way to ask whether a runtime has timers but to make one.
        let timer = catch_unwind(|| tokio::time::sleep(Duration::ZERO)).map_err(|_| {
            ConfigError::no_runtime("the tokio runtime has no timers; build it with `enable_all`")
        })?;
        let (batch_bytes, memory_bytes) = (settings.batch_bytes, settings.memory_bytes);
        let codecs = CodecRoom::within(memory_bytes, settings.engine.codec, batch_bytes);
        let limits = Limits {
            batch_bytes,
            request_bytes: settings.engine.request_bytes_max,
            memory_bytes,
            codec_bytes: codecs.bytes_within(memory_bytes),
            plain_bytes_max: codecs.plain_bytes_max,
        };
        let meters = Meters::new(settings.windows, &settings.engine.client_id);
        let accumulator = Arc::new(Accumulator::new(
            limits,
            settings.spreading,
            meters,
            settings.engine.seed,
        ));
        let client_id = Arc::clone(&settings.engine.client_id);
        let desk = settings
            .engine
            .transactions
            .is_some()
            .then(|| Arc::new(Desk::new()));
        let engine = Engine::new(settings.engine, accumulator.clock.now());
        let interceptors = chain.start();
        let mut driver = Driver::new(Arc::clone(&accumulator), engine, codecs, connector, timer);
        driver.tell_as(&client_id);
        if let Some(desk) = &desk {
            driver.serve_transactions(Arc::clone(desk));
        }
        if let Some(chain) = interceptors.clone() {
            driver.call_at_end(Box::new(move || chain.close()));
        }
        let (shared, task) = SharedDriver::new(driver, runtime.clone());
        accumulator.inbox.lend(&shared);
        runtime.spawn(task);
        drop(entered);
        let handle = ProducerHandle {
            accumulator,
            runtime,
            block_max: settings.block_max,
            placing: settings.placing,
            configuration: settings.configuration,
            interceptors,
            transactional: desk.map(Transactional::new),
        };
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// The configuration it runs with: the values in force, which were adjusted, and why.
    #[must_use]
    pub fn config(&self) -> Configuration {
        self.handle.configuration.clone()
    }

    /// What was measured up to now: Kafka's metrics by Kafka's names, and how long batches take.
    ///
    /// What a record's batch brought is in it once the record's [`Delivery`] is ready. Takes a few
    /// microseconds, for which the producer's own task may have to wait.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.handle.accumulator.metrics()
    }

    /// Hands a record over. Waits only until its topic is known and there is room in
    /// `buffer.memory`, together at most `max.block.ms`; not for any broker's answer to the record:
    /// that is what the [`Delivery`] is for. Who sends faster than the producer can write also
    /// waits for a moment, a millisecond or two, where a partition has much unsent.
    ///
    /// Records of one partition are written in the order in which they were accepted: a task that
    /// awaits each `send` before the next keeps its order.
    ///
    /// # Errors
    ///
    /// The record was refused: too large, unknown partition, topic refused or unknown, no room in
    /// time, producer closed. It is certainly not written.
    ///
    /// # Cancellation
    ///
    /// Dropping the future before it is ready leaves the record unsent and holds nothing back.
    pub async fn send(&self, record: Record<'_, &str>) -> Result<Delivery, ProduceError> {
        let (topic, record) = record.split();
        self.handle
            .send(Destination::Named(topic), &record, None)
            .await
    }

    /// [`Producer::send`] for many records, with less to do for each: those of one partition go
    /// into its batch together.
    ///
    /// Gives one result for each, in their order. Records of one partition keep their order, and so
    /// do those that leave their partition open; it waits for room as often as it must, each time
    /// at most `max.block.ms`. Once one is refused for a reason that is not its own, all behind it
    /// in its topic are refused with it, so that none overtakes it.
    ///
    /// ```no_run
    /// # use kafka_producer::{ProduceError, Producer, Record};
    /// # async fn example(producer: Producer, lines: Vec<String>) -> Result<(), ProduceError> {
    /// let records = lines.iter().map(|line| Record::to("lines").value(line));
    /// for sent in producer.send_all(records).await {
    ///     sent?.await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves unsent what was not accepted yet; the others go all the same.
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a, &'a str>>,
    ) -> Vec<Result<Delivery, ProduceError>> {
        self.handle
            .send_all_named(records.into_iter().collect(), &Calls::NONE)
            .await
    }

    /// [`Producer::send_all`], with a function to call in place of deliveries.
    ///
    /// It is called once for each record that was accepted, with the record's place among those
    /// given, from 0; in the order of the records in each partition, on the producer's own task,
    /// as with [`Producer::send_with`]. Gives for each record whether it was accepted; for one that
    /// was not, the function is not called.
    ///
    /// ```no_run
    /// # use kafka_producer::{Producer, Record};
    /// # async fn example(producer: Producer, lines: Vec<String>) {
    /// let records = lines.iter().map(|line| Record::to("lines").value(line));
    /// let sent = producer
    ///     .send_all_with(records, |place, outcome| match outcome {
    ///         Ok(written) => println!("line {place}: {written:?}"),
    ///         Err(error) => eprintln!("line {place}: {error}"),
    ///     })
    ///     .await;
    /// let refused = sent.iter().filter(|accepted| accepted.is_err()).count();
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// As [`Producer::send_all`]; for what was not accepted the function is not called.
    pub async fn send_all_with<'a, F>(
        &self,
        records: impl IntoIterator<Item = Record<'a, &'a str>>,
        on_settled: F,
    ) -> Vec<Result<(), ProduceError>>
    where
        F: Fn(usize, Result<Written, ProduceError>) + Send + Sync + 'static,
    {
        let calls = Calls::new(on_settled);
        let records = records.into_iter().collect();
        without_deliveries(self.handle.send_all_named(records, &calls).await)
    }

    /// [`Producer::send`], and waits for what becomes of the record.
    ///
    /// Awaiting each record before the next costs a round trip per record; to send many, collect
    /// deliveries and await them later.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`], or why the record was not written, or may not have been.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the record unsent if it was not accepted yet; otherwise it is
    /// sent all the same.
    pub async fn deliver(&self, record: Record<'_, &str>) -> Result<Written, ProduceError> {
        self.send(record).await?.await
    }

    /// [`Producer::send`], with a function to call in place of a [`Delivery`].
    ///
    /// Functions of one partition are called in the order of its records, on the producer's own
    /// task: a slow or blocking one holds up all sending. A panic in one is caught and logged.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]; then the function is not called.
    ///
    /// # Cancellation
    ///
    /// As [`Producer::send`]: dropped before it is ready, the function is not called.
    pub async fn send_with<F>(
        &self,
        record: Record<'_, &str>,
        on_settled: F,
    ) -> Result<(), ProduceError>
    where
        F: FnOnce(Result<Written, ProduceError>) + Send + 'static,
    {
        let (topic, record) = record.split();
        let call = Some(callback(on_settled));
        let sent = self.handle.send(Destination::Named(topic), &record, call);
        sent.await.map(drop)
    }

    /// Hands a record over if that takes no waiting.
    ///
    /// The first record of a topic is always refused with
    /// [`ProduceErrorKind::TopicNotReady`]: [`Producer::topic`] waits until it is known.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]; [`ProduceErrorKind::TopicNotReady`] or
    /// [`ProduceErrorKind::MemoryFull`] when it would have to wait.
    pub fn try_send(&self, record: Record<'_, &str>) -> Result<Delivery, ProduceError> {
        let (topic, record) = record.split();
        self.handle.try_send(Destination::Named(topic), &record)
    }

    /// [`Producer::send`] for a thread that runs no async code: blocks it while `send` would wait.
    ///
    /// In an async task it would hold up the runtime's thread, and with it maybe the producer.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    pub fn send_blocking(&self, record: Record<'_, &str>) -> Result<Delivery, ProduceError> {
        block_on(self.send(record))
    }

    /// A handle for one topic, which spares looking it up with each record. Waits until the topic
    /// is known, at most `max.block.ms`.
    ///
    /// # Errors
    ///
    /// The topic was refused, did not become known in time, or the producer is closed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing; the producer goes on learning about the topic.
    pub async fn topic(&self, name: &str) -> Result<Topic, ProduceError> {
        let entry = self.handle.known_topic(name).await?;
        Ok(Topic::new(Arc::clone(&self.handle), entry))
    }

    /// What the brokers told of a topic's partitions, by their numbers: who leads each, who keeps
    /// it, and who of those is in sync. Waits until the topic is known, at most `max.block.ms`;
    /// where it is, nothing is asked.
    ///
    /// # Errors
    ///
    /// As [`Producer::topic`].
    ///
    /// # Cancellation
    ///
    /// As [`Producer::topic`].
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<PartitionInfo>, ProduceError> {
        Ok(self.topic(topic).await?.partitions())
    }

    /// [`Producer::partitions_for`] for a thread that runs no async code, as
    /// [`Producer::send_blocking`].
    ///
    /// # Errors
    ///
    /// As [`Producer::topic`].
    pub fn partitions_for_blocking(&self, topic: &str) -> Result<Vec<PartitionInfo>, ProduceError> {
        block_on(self.partitions_for(topic))
    }

    /// [`Producer::topic`] for a thread that runs no async code, as [`Producer::send_blocking`].
    ///
    /// # Errors
    ///
    /// As [`Producer::topic`].
    pub fn topic_blocking(&self, name: &str) -> Result<Topic, ProduceError> {
        block_on(self.topic(name))
    }

    /// Sends all that was accepted, due or not, and waits until it is settled.
    ///
    /// # Errors
    ///
    /// The first failure among the records it waited for, each of which was settled; what failed
    /// before the call is not told again.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up waiting; the records go all the same.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        self.handle.flush().await
    }

    /// [`Producer::flush`] for a thread that runs no async code, as [`Producer::send_blocking`].
    ///
    /// # Errors
    ///
    /// As [`Producer::flush`].
    pub fn flush_blocking(&self) -> Result<(), ProduceError> {
        block_on(self.flush())
    }

    /// Refuses further records, sends all that was accepted, waits until it is settled, and ends
    /// the producer. Takes at most `delivery.timeout.ms` and `outcome.resolve.timeout.ms`. All
    /// clones are closed.
    ///
    /// # Errors
    ///
    /// As [`Producer::flush`]; the producer is closed all the same.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up waiting; closing goes on in the background.
    pub async fn close(&self) -> Result<(), ProduceError> {
        self.handle.start_to_end(End::WhenSettled);
        let flushed = self.handle.flush().await;
        self.handle.accumulator.phase.ended().await;
        flushed
    }

    /// [`Producer::close`] for a thread that runs no async code, as [`Producer::send_blocking`].
    ///
    /// # Errors
    ///
    /// As [`Producer::close`].
    pub fn close_blocking(&self) -> Result<(), ProduceError> {
        block_on(self.close())
    }

    /// [`Producer::close`] with a bound: what is not settled when `timeout` has passed is given up,
    /// and resolves as not written if it never left, as unknown otherwise. At zero it is given up
    /// at once.
    ///
    /// # Errors
    ///
    /// As [`Producer::close`]; given up records count as failed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future before `timeout` makes it a [`Producer::close`] in the background.
    pub async fn close_timeout(&self, timeout: Duration) -> Result<(), ProduceError> {
        self.handle.start_to_end(End::WhenSettled);
        // An open transaction is aborted behind the records, which may take long too.
        let mut ended = std::pin::pin!(async {
            let flushed = self.handle.flush().await;
            self.handle.accumulator.phase.ended().await;
            flushed
        });
        let mut patience = Patience::start(&self.handle.runtime, timeout);
        match patience.wait(ended.as_mut()).await {
            Some(flushed) => flushed,
            None => {
                self.handle.start_to_end(End::Now);
                ended.await
            }
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
