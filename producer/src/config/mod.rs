//! Configuration: Kafka's keys by Kafka's names, as typed methods or as pairs of strings.
//!
//! | File | Holds |
//! |---|---|
//! | `mod` | the builder |
//! | `keys` | each key with default and allowed values |
//! | `values` | each value checked on its own |
//! | `cross_checks` | the values checked against each other, and what gives way |
//! | `resolve` | the settings that come of it, for each layer |
//! | `configuration` | the values in force, to look at |
//! | `properties` | Java's properties files |
//! | `error` | what is told when a check fails |
//!
//! *Invariants*
//! 1. Typed methods, pairs and files take the same way: a value is checked once, when the producer
//!    is built, by the same code.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Idempotence;
use crate::interceptor::{Chain, Interceptor};
use crate::io::entropy;
use crate::io::names::DnsLookup;
use crate::io::sticky::Weighting;
use crate::io::transport::{Connector, TcpConnector};
use crate::partitioner::Partitioner;
use crate::producer::Producer;
use crate::types::{Acks, CompressionType};

mod configuration;
mod cross_checks;
mod error;
mod keys;
mod properties;
mod resolve;
mod values;

pub use configuration::{ConfigEntry, Configuration};
pub use error::{ConfigError, ConfigErrorKind};
pub(crate) use resolve::Settings;
pub use resolve::{KeyUse, MetadataRecovery};
use values::Values;

/// Sets up a [`Producer`]. Everything but `bootstrap.servers` has Kafka's default.
///
/// Each method stands for the key it names; times are counted in whole milliseconds, rounded up.
/// Values are checked by [`ProducerBuilder::build`].
///
/// ```no_run
/// use std::time::Duration;
/// use kafka_producer::{Acks, Producer};
///
/// # fn main() -> Result<(), kafka_producer::ConfigError> {
/// let producer = Producer::builder()
///     .bootstrap_servers("127.0.0.1:9092")
///     .acks(Acks::All)
///     .linger(Duration::from_millis(20))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    pairs: BTreeMap<String, String>,
    interceptors: Chain,
    partitioner: Option<(&'static str, Arc<dyn Partitioner>)>,
    runtime: Option<tokio::runtime::Handle>,
    /// Over TCP if there is none.
    connector: Option<Arc<dyn Connector>>,
}

impl ProducerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            pairs: BTreeMap::new(),
            interceptors: Chain::default(),
            partitioner: None,
            runtime: None,
            connector: None,
        }
    }

    /// Any key by Kafka's name, as in a properties file. The last value given for a key counts.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        if key == "partitioner.class" {
            self.partitioner = None;
        }
        self.pairs.insert(key, value.into());
        self
    }

    /// Many keys by Kafka's names. The last value given for a key counts.
    pub fn set_all<K, V>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        pairs
            .into_iter()
            .fold(self, |builder, (key, value)| builder.set(key, value))
    }

    /// The keys of a text in the syntax of Java's properties files: comments, escapes, lines
    /// continued with a backslash. The last value given for a key counts, wherever it was given.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] of kind [`ConfigErrorKind::Unreadable`] that names the line of a broken
    /// escape; nothing else can be wrong with the syntax.
    pub fn properties(self, text: &str) -> Result<Self, ConfigError> {
        let pairs = properties::parse(text).map_err(|malformed| {
            let properties::Malformed { line, what } = malformed;
            ConfigError::unreadable(format!("line {line} of the properties: {what}"))
        })?;
        Ok(self.set_all(pairs))
    }

    /// [`ProducerBuilder::properties`] from a file, read as Java does: each byte is one character
    /// of ISO-8859-1; others are written as escapes, as `\u20ac`. The file is read here and now.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), kafka_producer::ConfigError> {
    /// let producer = kafka_producer::Producer::builder()
    ///     .properties_file("producer.properties")?
    ///     .client_id("shop") // overrules the file
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As there; or the file cannot be read.
    pub fn properties_file(self, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let told = |error: &dyn fmt::Display| {
            ConfigError::unreadable(format!("{}: {error}", path.display()))
        };
        let bytes = std::fs::read(path).map_err(|error| told(&error))?;
        self.properties(&properties::latin_1(&bytes))
            .map_err(|error| told(&error))
    }

    /// `bootstrap.servers`: where to ask first, `HOST:PORT`, several separated by commas. Required.
    ///
    /// One that answers is enough; with a single one, a producer cannot start while it is down.
    pub fn bootstrap_servers(self, servers: impl Into<String>) -> Self {
        self.set("bootstrap.servers", servers)
    }

    /// `client.dns.lookup`: what a name of `bootstrap.servers` stands for. Default:
    /// [`DnsLookup::UseAllIps`].
    pub fn dns_lookup(self, lookup: DnsLookup) -> Self {
        self.set("client.dns.lookup", lookup.name())
    }

    /// `client.id`: the name in the broker's logs and quotas. Default: `producer-<n>`.
    pub fn client_id(self, name: impl Into<String>) -> Self {
        self.set("client.id", name)
    }

    /// `acks`: who must have a record before it counts as written. Default: [`Acks::All`].
    ///
    /// Less than all turns idempotence off, unless it was asked for by name: then it is an error.
    pub fn acks(self, acks: Acks) -> Self {
        self.set("acks", acks.wire().to_string())
    }

    /// `enable.idempotence`: whether retries neither duplicate nor reorder. Default: enabled.
    pub fn idempotence(self, idempotence: Idempotence) -> Self {
        let enabled = idempotence == Idempotence::Enabled;
        self.set("enable.idempotence", enabled.to_string())
    }

    /// `retries`: how often a batch is sent again, 0 to 2147483647. Default: 2147483647, so that
    /// only `delivery.timeout.ms` ends the attempts. At 0 the first lost connection loses records.
    pub fn retries(self, count: u32) -> Self {
        self.set("retries", count.to_string())
    }

    /// `max.in.flight.requests.per.connection`: requests sent and not yet answered, from 1; at most
    /// 5 with idempotence. Default: 5. At 1 each request waits a round trip for the one before.
    pub fn max_in_flight_requests_per_connection(self, count: u32) -> Self {
        self.set("max.in.flight.requests.per.connection", count.to_string())
    }

    /// `delivery.timeout.ms`: from a record's acceptance to its end, retries included, 0 to
    /// 2147483647 ms. Default: 120 s. At least `linger.ms` + `request.timeout.ms`.
    ///
    /// No record takes longer. It is counted for a batch from its first record on, and a batch
    /// takes records for a sixteenth of this time at most, or `linger.ms` if that is more: by so
    /// much may a record have less.
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.set("delivery.timeout.ms", millis(timeout))
    }

    /// `outcome.resolve.timeout.ms`: how long to ask what became of a batch that would end as
    /// possibly written, 0 to 3600000 ms. Default: zero, which is not at all. Not one of Kafka's.
    ///
    /// When its time is over (`delivery.timeout.ms`, `retries`), or a broker's answer says nothing
    /// of the log, the same batch is sent again with the same sequence: a broker that has it says
    /// so, one that has not appends it or proves that it is in no log. What would have been unknown
    /// is then [`Written`](crate::Written), perhaps only now, or not written. What no answer
    /// settles in this time stays unknown: give it more than `request.timeout.ms`.
    ///
    /// Meanwhile nothing else goes to that partition, so that order is kept; batches behind it
    /// that never left end at their own time, as not written. [`Producer::flush`] and
    /// [`Producer::close`] wait for the answer, [`Producer::close_timeout`] does not. It needs
    /// idempotence: without sequences, asking could write records twice, and is an error; so it is
    /// with `transactional.id`, where a transaction with such a record is aborted.
    pub fn outcome_resolve_timeout(self, timeout: Duration) -> Self {
        self.set("outcome.resolve.timeout.ms", millis(timeout))
    }

    /// `request.timeout.ms`: how long an answer may take before the connection is given up and the
    /// request sent again, 0 to 2147483647 ms. Default: 30 s.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.set("request.timeout.ms", millis(timeout))
    }

    /// `linger.ms`: how long a batch waits for more records. Default: 5 ms. At 0 a batch goes as
    /// soon as it can; the longer, the larger the batches and the later the records.
    pub fn linger(self, time: Duration) -> Self {
        self.set("linger.ms", millis(time))
    }

    /// `compression.type`; default [`CompressionType::None`]. A codec is built in with the crate's
    /// feature of its name; all are by default.
    pub fn compression_type(self, compression: CompressionType) -> Self {
        self.set("compression.type", compression.name())
    }

    /// `compression.gzip.level`, 1 to 9, or −1 for gzip's own default, which is 6; default −1.
    pub fn compression_gzip_level(self, level: i32) -> Self {
        self.set("compression.gzip.level", level.to_string())
    }

    /// `compression.lz4.level`, 1 to 17; default 9, which is LZ4's fast compressor. All others,
    /// those below it too, are its high one: slower and tighter, and with each level it looks at
    /// twice as many earlier places.
    pub fn compression_lz4_level(self, level: i32) -> Self {
        self.set("compression.lz4.level", level.to_string())
    }

    /// `compression.zstd.level`, −131072 to 22; default 3.
    pub fn compression_zstd_level(self, level: i32) -> Self {
        self.set("compression.zstd.level", level.to_string())
    }

    /// `batch.size`: a batch's largest size in bytes, 0 to 2147483647. Default: 16384. At 0 each
    /// record is a batch; each partition in use holds at least one batch of `buffer.memory`.
    pub fn batch_size(self, bytes: usize) -> Self {
        self.set("batch.size", bytes.to_string())
    }

    /// `buffer.memory`: bytes of records accepted and not yet settled. Default: 33554432. When it
    /// is used up, `send` waits up to `max.block.ms`; at 0 every record is refused as too large.
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.set("buffer.memory", bytes.to_string())
    }

    /// `max.block.ms`: how long one `send` may wait for metadata and memory together. Default:
    /// 60 s. At 0 it fails at once if it would wait.
    pub fn max_block(self, time: Duration) -> Self {
        self.set("max.block.ms", millis(time))
    }

    /// `max.request.size`: the largest request, and so the largest record, in bytes, 0 to
    /// 2147483647. Default: 1048576.
    pub fn max_request_size(self, bytes: usize) -> Self {
        self.set("max.request.size", bytes.to_string())
    }

    /// `retry.backoff.ms`: the first wait before a batch is sent again. Default: 100 ms.
    pub fn retry_backoff(self, time: Duration) -> Self {
        self.set("retry.backoff.ms", millis(time))
    }

    /// `retry.backoff.max.ms`: the longest wait before a batch is sent again. Default: 1 s.
    pub fn retry_backoff_max(self, time: Duration) -> Self {
        self.set("retry.backoff.max.ms", millis(time))
    }

    /// `reconnect.backoff.ms`: the first wait before connecting again. Default: 50 ms. Given alone
    /// it is also the longest wait.
    pub fn reconnect_backoff(self, time: Duration) -> Self {
        self.set("reconnect.backoff.ms", millis(time))
    }

    /// `reconnect.backoff.max.ms`: the longest wait before connecting again. Default: 1 s.
    pub fn reconnect_backoff_max(self, time: Duration) -> Self {
        self.set("reconnect.backoff.max.ms", millis(time))
    }

    /// `socket.connection.setup.timeout.ms`: how long connecting may take at first, give or take a
    /// fifth; it doubles with each failure in a row. Default: 10 s.
    pub fn socket_connection_setup_timeout(self, timeout: Duration) -> Self {
        self.set("socket.connection.setup.timeout.ms", millis(timeout))
    }

    /// `socket.connection.setup.timeout.max.ms`: how long connecting may take at most. Default:
    /// 30 s.
    pub fn socket_connection_setup_timeout_max(self, timeout: Duration) -> Self {
        self.set("socket.connection.setup.timeout.max.ms", millis(timeout))
    }

    /// `connections.max.idle.ms`: how long a connection stays with no request on the way; `None`
    /// stands for ever. Default: 540 s, less than the ten minutes after which brokers end it.
    /// Shorter than the pauses between records, each of those waits for a new connection.
    pub fn connections_max_idle(self, time: Option<Duration>) -> Self {
        self.set(
            "connections.max.idle.ms",
            time.map_or("-1".to_owned(), millis),
        )
    }

    /// `send.buffer.bytes`: what the system holds per connection until the broker has it, in bytes,
    /// up to 2147483647; `None` leaves it to the system. Default: 131072. Too small a buffer keeps
    /// a long, fast connection from being filled.
    pub fn send_buffer(self, bytes: Option<u32>) -> Self {
        self.set("send.buffer.bytes", bytes_or_system(bytes))
    }

    /// `receive.buffer.bytes`: what the system holds per connection until the producer reads it, in
    /// bytes, up to 2147483647; `None` leaves it to the system. Default: 32768.
    pub fn receive_buffer(self, bytes: Option<u32>) -> Self {
        self.set("receive.buffer.bytes", bytes_or_system(bytes))
    }

    /// `metadata.max.age.ms`: how old metadata may grow before it is asked for again. Default:
    /// 300 s.
    pub fn metadata_max_age(self, age: Duration) -> Self {
        self.set("metadata.max.age.ms", millis(age))
    }

    /// `metadata.max.idle.ms`: how long a topic that nobody sends to is asked about, from 5 s.
    /// Default: 300 s. A record after that waits until the topic is known again.
    pub fn metadata_max_idle(self, time: Duration) -> Self {
        self.set("metadata.max.idle.ms", millis(time))
    }

    /// `metadata.recovery.strategy`: what to do when none of the known brokers can be reached, or
    /// answers for long. Default: ask the bootstrap addresses again.
    pub fn metadata_recovery(self, recovery: MetadataRecovery) -> Self {
        let strategy = match recovery {
            MetadataRecovery::None => "none",
            MetadataRecovery::Rebootstrap => "rebootstrap",
        };
        self.set("metadata.recovery.strategy", strategy)
    }

    /// `metadata.recovery.rebootstrap.trigger.ms`: how long metadata is asked for in vain until all
    /// connections are given up for the bootstrap addresses. Default: 300 s. Shorter than a usual
    /// answer takes, it gives up connections that only are slow.
    pub fn metadata_rebootstrap_trigger(self, time: Duration) -> Self {
        self.set("metadata.recovery.rebootstrap.trigger.ms", millis(time))
    }

    /// `transactional.id`: the name under which the producer's transactions are known, the same
    /// before and after a restart, and no other producer's. Default: none, and no transactions.
    /// See [`Producer::init_transactions`].
    pub fn transactional_id(self, id: impl Into<String>) -> Self {
        self.set("transactional.id", id)
    }

    /// The same for one of several lanes, with a `transactional.id` of its own.
    pub(crate) fn lane(self, number: usize) -> Self {
        match (self.pairs.get("transactional.id"), number) {
            (None, _) | (_, 0) => self,
            (Some(id), _) => {
                let id = format!("{id}-lane-{number}");
                self.transactional_id(id)
            }
        }
    }

    /// `transaction.timeout.ms`: how long a transaction may be open before its coordinator aborts
    /// it, from 1 ms; brokers allow up to `transaction.max.timeout.ms`, 15 minutes by default.
    /// Default: 60 s. Until then an abandoned transaction holds up who reads committed records.
    pub fn transaction_timeout(self, timeout: Duration) -> Self {
        self.set("transaction.timeout.ms", millis(timeout))
    }

    /// `metrics.num.samples`: over how many samples averages, maxima and rates are taken, from 1;
    /// no more than 1000 are kept. Default: 2.
    pub fn metrics_num_samples(self, count: u32) -> Self {
        self.set("metrics.num.samples", count.to_string())
    }

    /// `metrics.sample.window.ms`: how long a sample of averages, maxima and rates is. Default:
    /// 30 s. At 0 there is nothing to look back on.
    pub fn metrics_sample_window(self, time: Duration) -> Self {
        self.set("metrics.sample.window.ms", millis(time))
    }

    /// `partitioner.ignore.keys`: whether a key decides the partition. Default: it does.
    pub fn partitioner_keys(self, key_use: KeyUse) -> Self {
        let ignored = key_use == KeyUse::Ignored;
        self.set("partitioner.ignore.keys", ignored.to_string())
    }

    /// `partitioner.class`: who chooses partitions for records that name none. Default: the key's
    /// hash; without a key the built-in choice, see [`partitioner`](crate::partitioner). Turns
    /// `partitioner.adaptive.partitioning.enable` off.
    pub fn partitioner<P: Partitioner>(mut self, partitioner: P) -> Self {
        self.pairs.remove("partitioner.class");
        self.partitioner = Some((type_name::<P>(), Arc::new(partitioner)));
        self
    }

    /// `partitioner.adaptive.partitioning.enable`: whether the built-in choice for records without
    /// a key gives less to partitions whose queues are long. Default: it does.
    pub fn partitioner_weighting(self, weighting: Weighting) -> Self {
        let adaptive = weighting == Weighting::ByLoad;
        self.set(
            "partitioner.adaptive.partitioning.enable",
            adaptive.to_string(),
        )
    }

    /// `partitioner.availability.timeout.ms`: how long a leader may take nothing of what is due for
    /// it until the built-in choice leaves its partitions out. Default: zero, which is for ever.
    /// Shorter than a usual answer takes, it leaves out leaders that are only busy.
    pub fn partitioner_availability_timeout(self, timeout: Duration) -> Self {
        self.set("partitioner.availability.timeout.ms", millis(timeout))
    }

    /// `client.rack` with `partitioner.rack.aware`: the built-in choice takes partitions whose
    /// leader stands in this rack (`broker.rack`), if there are any. Default: racks do not count.
    pub fn partitioner_rack(self, rack: impl Into<String>) -> Self {
        self.set("client.rack", rack)
            .set("partitioner.rack.aware", "true")
    }

    /// `interceptor.classes`: one more interceptor, behind those given before. Default: none.
    ///
    /// Clones of the builder share it: each of their producers calls it, and ends it.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// The tokio runtime on which the producer's task runs. Default: the one `build` is called in.
    ///
    /// A service whose tasks send without a pause may keep all threads of its runtime from the
    /// socket for a while. With a runtime of one thread for the producer, which must live as long
    /// as it does, eight such tasks on two cores send a sixth more records.
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// How connections are made, for tests that join the producer to a broker in memory.
    #[doc(hidden)]
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Checks the configuration and starts the producer's task. Touches no network: whether a
    /// broker can be reached shows with the first record.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names key, value and what is allowed; or one of kind
    /// [`ConfigErrorKind::NoRuntime`] when there is no tokio runtime to run on. The runtime must
    /// have IO and time enabled.
    pub fn build(self) -> Result<Producer, ConfigError> {
        let mut values = Values::new(&self.pairs)?;
        values.give_in_code("interceptor.classes", self.interceptors.names());
        let (name, partitioner) = self.partitioner.unzip();
        values.give_in_code("partitioner.class", name.unwrap_or_default().to_owned());
        let settings = Settings::resolve(values, partitioner, entropy::seed())?;
        let current = || tokio::runtime::Handle::try_current().ok();
        let runtime = self.runtime.or_else(current).ok_or_else(|| {
            ConfigError::no_runtime(
                "no tokio runtime here; build inside one, or give one with `runtime`",
            )
        })?;
        for entry in settings.configuration.iter() {
            if let Some(reason) = entry.adjusted_because() {
                tracing::info!("{} is {}: {reason}", entry.key(), entry.value());
            }
        }
        let over_tcp = || {
            Arc::new(TcpConnector::new(settings.socket_buffers, settings.names()))
                as Arc<dyn Connector>
        };
        let connector = self.connector.unwrap_or_else(over_tcp);
        Producer::start(settings, self.interceptors, connector, runtime)
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys only: values may be secrets.
        let keys: Vec<_> = self.pairs.keys().collect();
        f.debug_struct("ProducerBuilder")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// Whole milliseconds, rounded up, so that a short time does not become none.
fn millis(duration: Duration) -> String {
    duration.as_nanos().div_ceil(1_000_000).to_string()
}

fn bytes_or_system(bytes: Option<u32>) -> String {
    bytes.map_or("-1".to_owned(), |bytes| bytes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn given() -> ProducerBuilder {
        ProducerBuilder::new()
    }

    #[rstest]
    #[case(given().bootstrap_servers("a:1"), "bootstrap.servers", "a:1")]
    #[case(given().client_id("shop"), "client.id", "shop")]
    #[case(
        given().dns_lookup(DnsLookup::CanonicalBootstrapServers),
        "client.dns.lookup",
        "resolve_canonical_bootstrap_servers_only"
    )]
    #[case(given().acks(Acks::All), "acks", "-1")]
    #[case(given().acks(Acks::None), "acks", "0")]
    #[case(given().idempotence(Idempotence::Disabled), "enable.idempotence", "false")]
    #[case(given().retries(3), "retries", "3")]
    #[case(
        given().max_in_flight_requests_per_connection(2),
        "max.in.flight.requests.per.connection",
        "2"
    )]
    #[case(given().delivery_timeout(SECOND), "delivery.timeout.ms", "1000")]
    #[case(
        given().outcome_resolve_timeout(SECOND),
        "outcome.resolve.timeout.ms",
        "1000"
    )]
    #[case(given().request_timeout(SECOND), "request.timeout.ms", "1000")]
    #[case(given().linger(Duration::from_micros(1500)), "linger.ms", "2")]
    #[case(
        given().compression_type(CompressionType::Zstd),
        "compression.type",
        "zstd"
    )]
    #[case(given().compression_gzip_level(7), "compression.gzip.level", "7")]
    #[case(given().compression_lz4_level(17), "compression.lz4.level", "17")]
    #[case(given().compression_zstd_level(-7), "compression.zstd.level", "-7")]
    #[case(given().batch_size(7), "batch.size", "7")]
    #[case(given().buffer_memory(7), "buffer.memory", "7")]
    #[case(given().max_block(Duration::ZERO), "max.block.ms", "0")]
    #[case(given().max_request_size(7), "max.request.size", "7")]
    #[case(given().retry_backoff(SECOND), "retry.backoff.ms", "1000")]
    #[case(given().retry_backoff_max(SECOND), "retry.backoff.max.ms", "1000")]
    #[case(given().reconnect_backoff(SECOND), "reconnect.backoff.ms", "1000")]
    #[case(given().reconnect_backoff_max(SECOND), "reconnect.backoff.max.ms", "1000")]
    #[case(
        given().socket_connection_setup_timeout(SECOND),
        "socket.connection.setup.timeout.ms",
        "1000"
    )]
    #[case(
        given().socket_connection_setup_timeout_max(SECOND),
        "socket.connection.setup.timeout.max.ms",
        "1000"
    )]
    #[case(given().connections_max_idle(Some(SECOND)), "connections.max.idle.ms", "1000")]
    #[case(given().metadata_max_idle(5 * SECOND), "metadata.max.idle.ms", "5000")]
    #[case(given().metadata_recovery(MetadataRecovery::None), "metadata.recovery.strategy", "none")]
    #[case(
        given().metadata_recovery(MetadataRecovery::Rebootstrap),
        "metadata.recovery.strategy",
        "rebootstrap"
    )]
    #[case(
        given().metadata_rebootstrap_trigger(SECOND),
        "metadata.recovery.rebootstrap.trigger.ms",
        "1000"
    )]
    #[case(given().connections_max_idle(None), "connections.max.idle.ms", "-1")]
    #[case(given().send_buffer(Some(7)), "send.buffer.bytes", "7")]
    #[case(given().send_buffer(None), "send.buffer.bytes", "-1")]
    #[case(given().receive_buffer(Some(7)), "receive.buffer.bytes", "7")]
    #[case(given().receive_buffer(None), "receive.buffer.bytes", "-1")]
    #[case(given().metadata_max_age(SECOND), "metadata.max.age.ms", "1000")]
    #[case(given().transactional_id("shop-1"), "transactional.id", "shop-1")]
    #[case(given().transaction_timeout(SECOND), "transaction.timeout.ms", "1000")]
    #[case(given().metrics_num_samples(3), "metrics.num.samples", "3")]
    #[case(given().metrics_sample_window(SECOND), "metrics.sample.window.ms", "1000")]
    #[case(given().partitioner_keys(KeyUse::Ignored), "partitioner.ignore.keys", "true")]
    #[case(
        given().partitioner_weighting(Weighting::Equal),
        "partitioner.adaptive.partitioning.enable",
        "false"
    )]
    #[case(
        given().partitioner_availability_timeout(SECOND),
        "partitioner.availability.timeout.ms",
        "1000"
    )]
    #[case(given().partitioner_rack("west"), "client.rack", "west")]
    #[case(given().partitioner_rack("west"), "partitioner.rack.aware", "true")]
    fn a_typed_method_sets_the_key_it_names(
        #[case] builder: ProducerBuilder,
        #[case] key: &str,
        #[case] value: &str,
    ) {
        assert_eq!(builder.pairs.get(key).map(String::as_str), Some(value));
        Values::new(&builder.pairs).expect("a known key with an allowed value");
    }

    #[test]
    fn building_outside_a_runtime_is_an_error_and_not_a_panic() {
        let builder = ProducerBuilder::new().bootstrap_servers("a:1");
        let error = builder.build().expect_err("no runtime");
        assert_eq!(error.kind(), ConfigErrorKind::NoRuntime);
        assert!(error.to_string().contains("tokio runtime"), "{error}");
    }

    #[test]
    fn building_on_a_runtime_without_timers_is_an_error_and_not_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let builder = given().bootstrap_servers("a:1");
        let error = builder.runtime(runtime.handle().clone()).build();
        let error = error.expect_err("no timers");
        assert_eq!(error.kind(), ConfigErrorKind::NoRuntime);
        assert!(error.to_string().contains("enable_all"), "{error}");
    }

    #[tokio::test]
    async fn pairs_and_methods_build_the_same() {
        let pairs = [("bootstrap.servers", "a:1"), ("acks", "all")];
        Producer::from_pairs(pairs).expect("allowed");
        let error = Producer::from_pairs([("bootstrap.server", "a:1")]).expect_err("mistyped");
        assert_eq!(error.kind(), ConfigErrorKind::UnknownKey);
        assert!(error.to_string().contains("bootstrap.servers"), "{error}");
    }

    #[test]
    fn a_properties_text_and_methods_overrule_each_other_in_order() {
        let text = "acks = 1\nclient.id=caf\\u00e9\nlinger.ms=7";
        let builder = given().client_id("shop").properties(text);
        let builder = builder.expect("well formed").acks(Acks::None);
        let expected = [("acks", "0"), ("client.id", "café"), ("linger.ms", "7")];
        let pairs: Vec<_> = builder.pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_properties_file_that_cannot_be_read_is_told_with_its_path() {
        let error = given().properties_file("/nowhere/producer.properties");
        let error = error.expect_err("no such file");
        assert_eq!(error.kind(), ConfigErrorKind::Unreadable);
        assert!(
            error.to_string().contains("/nowhere/producer.properties"),
            "{error}"
        );
    }

    #[test]
    fn a_broken_properties_text_is_told_with_its_line() {
        let error = given().properties("acks=1\n\na=\\u12").expect_err("broken");
        assert_eq!(error.kind(), ConfigErrorKind::Unreadable);
        assert!(error.to_string().contains("line 3"), "{error}");
    }

    #[tokio::test]
    async fn a_producer_shows_the_configuration_it_runs_with() {
        let pairs = [("bootstrap.servers", "a:1"), ("acks", "1")];
        let producer = Producer::from_pairs(pairs).expect("allowed");
        let config = producer.config();
        assert_eq!(config.value("acks"), Some("1"));
        assert_eq!(config.value("enable.idempotence"), Some("false"));
        assert_eq!(config.value("batch.size"), Some("16384"));
    }

    #[tokio::test]
    async fn the_last_partitioner_given_counts_in_code_or_by_name() {
        let class_of = |builder: ProducerBuilder| {
            let producer = builder.bootstrap_servers("a:1").build().expect("allowed");
            let config = producer.config();
            assert_eq!(
                config.value("partitioner.adaptive.partitioning.enable"),
                Some("false")
            );
            config.value("partitioner.class").map(str::to_owned)
        };
        let in_code = given().partitioner(crate::partitioner::Crc32);
        let name = class_of(in_code.clone()).expect("known");
        assert!(name.ends_with("Crc32"), "{name}");
        let by_name = in_code.set("partitioner.class", keys::ROUND_ROBIN);
        assert_eq!(
            class_of(by_name.clone()).as_deref(),
            Some(keys::ROUND_ROBIN)
        );
        let name = class_of(by_name.partitioner(crate::partitioner::Crc32));
        assert!(name.is_some_and(|name| name.ends_with("Crc32")));
    }

    #[test]
    fn a_debugged_builder_shows_no_values() {
        let builder = ProducerBuilder::new().set("ssl.key.password", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
    }

    const SECOND: Duration = Duration::from_secs(1);
}
