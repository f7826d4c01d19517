//! What keys demand of each other, and the settings that come of it.
//!
//! *Invariants*
//! 1. Settings exist only if every cross check passed.
//! 2. What the user wrote is never changed: it stands, or it is an error. Only defaults give way.
//!
//! *Source*: Kafka's `ProducerConfig.postProcessAndValidateIdempotenceConfigs`,
//! `KafkaProducer.configureDeliveryTimeout`,
//! `CommonClientConfigs.postProcessReconnectBackoffConfigs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::keys;
use crate::config::values::{Values, servers};
use crate::engine::{EngineConfig, Idempotence};
use crate::types::Acks;

/// Whether records with a key go where its hash says (`partitioner.ignore.keys`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyUse {
    /// Records with the same key go to the same partition.
    #[default]
    Hashed,
    /// Keys are carried, and do not decide the partition.
    Ignored,
}

/// Everything a producer is built from, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What the engine must know.
    pub(crate) engine: EngineConfig,
    /// `batch.size` in bytes.
    pub(crate) batch_bytes: usize,
    /// `buffer.memory` in bytes.
    pub(crate) memory_bytes: usize,
    /// `max.block.ms`.
    pub(crate) block_max: Duration,
    /// `partitioner.ignore.keys`.
    pub(crate) key_use: KeyUse,
}

impl Settings {
    /// Checks the values against each other; `seed` is for all jitter and random choice.
    pub(crate) fn resolve(values: &Values, seed: u64) -> Result<Self, ConfigError> {
        let bootstrap = servers(values.text("bootstrap.servers")).ok_or_else(|| {
            let allowed = keys::Allowed::Servers.to_string();
            ConfigError::missing("bootstrap.servers", &allowed)
        })?;
        let in_flight_max = values.bytes("max.in.flight.requests.per.connection");
        let request_bytes_max = values.bytes("max.request.size");
        let engine = EngineConfig {
            client_id: client_id(values.text("client.id")),
            bootstrap,
            acks: acks(values),
            idempotence: idempotence(values)?,
            in_flight_max,
            request_timeout: values.duration("request.timeout.ms"),
            delivery_timeout: delivery_timeout(values)?,
            linger: values.duration("linger.ms"),
            retries_max: u32::try_from(values.number("retries")).unwrap_or(u32::MAX),
            retry_backoff: values.duration("retry.backoff.ms"),
            retry_backoff_max: values.duration("retry.backoff.max.ms"),
            reconnect_backoff: values.duration("reconnect.backoff.ms"),
            reconnect_backoff_max: reconnect_backoff_max(values),
            connection_setup_timeout: values.duration("socket.connection.setup.timeout.ms"),
            request_bytes_max,
            metadata_age_max: values.duration("metadata.max.age.ms"),
            seed,
        };
        Ok(Self {
            engine,
            // A record of more than max.request.size is refused when it opens a batch; batches
            // within that size spare the check for each record that joins one.
            batch_bytes: values.bytes("batch.size").min(request_bytes_max),
            memory_bytes: values.bytes("buffer.memory"),
            block_max: values.duration("max.block.ms"),
            key_use: match values.is_true("partitioner.ignore.keys") {
                true => KeyUse::Ignored,
                false => KeyUse::Hashed,
            },
        })
    }
}

/// The name given, or `producer-<n>`, the n-th of this process, as Kafka's producer.
fn client_id(given: &str) -> Arc<str> {
    static NAMELESS: AtomicU64 = AtomicU64::new(0);
    if given.is_empty() {
        let n = NAMELESS.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::from(format!("producer-{n}"))
    } else {
        Arc::from(given)
    }
}

fn acks(values: &Values) -> Acks {
    match values.text("acks") {
        "0" => Acks::None,
        "1" => Acks::Leader,
        _ => Acks::All,
    }
}

/// Idempotence needs `acks=all`, retries and at most five requests in flight. Asked for by name it
/// is an error to lack the first two; as a default it gives way. The third is always an error.
fn idempotence(values: &Values) -> Result<Idempotence, ConfigError> {
    const KEY: &str = "enable.idempotence";
    const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
    if !values.is_true(KEY) {
        return Ok(Idempotence::Disabled);
    }
    let lacking = if values.number("retries") == 0 {
        Some(("retries", "1 to 2147483647"))
    } else if acks(values) != Acks::All {
        Some(("acks", "all, -1"))
    } else {
        None
    };
    if let Some((key, allowed)) = lacking
        && values.is_given(KEY)
    {
        let explanation = format!("{KEY}=true does not allow it; allowed with it: {allowed}");
        return Err(ConfigError::conflict(key, values.text(key), explanation));
    }
    if values.number(IN_FLIGHT) > 5 {
        let value = values.text(IN_FLIGHT);
        let explanation = format!("{KEY}=true does not allow it; allowed with it: 1 to 5");
        return Err(ConfigError::conflict(IN_FLIGHT, value, explanation));
    }
    match lacking {
        None => Ok(Idempotence::Enabled),
        Some((key, _)) => {
            let value = values.text(key);
            tracing::info!("{KEY} is off because {key}={value}: retries may duplicate records");
            Ok(Idempotence::Disabled)
        }
    }
}

/// The whole time of a record covers lingering and one request; a default is raised to that.
fn delivery_timeout(values: &Values) -> Result<Duration, ConfigError> {
    const KEY: &str = "delivery.timeout.ms";
    let int_max = u64::from(i32::MAX.unsigned_abs());
    let linger_ms = values.number("linger.ms");
    let needed_ms = linger_ms
        .saturating_add(values.number("request.timeout.ms"))
        .min(int_max);
    let given_ms = values.number(KEY);
    if given_ms >= needed_ms {
        return Ok(Duration::from_millis(given_ms));
    }
    if values.is_given(KEY) {
        let explanation = format!(
            "less than linger.ms + request.timeout.ms; allowed with them: {needed_ms} to {int_max}"
        );
        return Err(ConfigError::conflict(KEY, values.text(KEY), explanation));
    }
    tracing::warn!("{KEY} is raised to {needed_ms}, linger.ms + request.timeout.ms");
    Ok(Duration::from_millis(needed_ms))
}

/// A first wait given without a longest one is the only wait.
fn reconnect_backoff_max(values: &Values) -> Duration {
    let first = values.is_given("reconnect.backoff.ms");
    match first && !values.is_given("reconnect.backoff.max.ms") {
        true => values.duration("reconnect.backoff.ms"),
        false => values.duration("reconnect.backoff.max.ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::ConfigErrorKind;
    use rstest::rstest;
    use std::collections::BTreeMap;

    fn resolve(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let mut given = BTreeMap::from([("bootstrap.servers".to_owned(), "a:1".to_owned())]);
        let pairs = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        given.extend(pairs);
        Settings::resolve(&Values::new(&given).expect("each allowed"), 1)
    }

    #[test]
    fn defaults_are_kafkas() {
        let settings = resolve(&[]).expect("defaults");
        assert_eq!(settings.batch_bytes, 16_384);
        assert_eq!(settings.memory_bytes, 32 * 1024 * 1024);
        assert_eq!(settings.block_max, Duration::from_secs(60));
        assert_eq!(settings.key_use, KeyUse::Hashed);
        let engine = settings.engine;
        assert_eq!(engine.acks, Acks::All);
        assert_eq!(engine.idempotence, Idempotence::Enabled);
        assert_eq!(engine.in_flight_max, 5);
        assert_eq!(engine.linger, Duration::from_millis(5));
        assert_eq!(engine.delivery_timeout, Duration::from_secs(120));
        assert_eq!(engine.request_timeout, Duration::from_secs(30));
        assert_eq!(engine.retries_max, 2_147_483_647);
        assert_eq!(engine.retry_backoff, Duration::from_millis(100));
        assert_eq!(engine.retry_backoff_max, Duration::from_secs(1));
        assert_eq!(engine.reconnect_backoff, Duration::from_millis(50));
        assert_eq!(engine.reconnect_backoff_max, Duration::from_secs(1));
        assert_eq!(engine.connection_setup_timeout, Duration::from_secs(10));
        assert_eq!(engine.request_bytes_max, 1_048_576);
        assert_eq!(engine.metadata_age_max, Duration::from_secs(300));
    }

    #[test]
    fn bootstrap_servers_must_be_given() {
        let error = Settings::resolve(&Values::default(), 1).expect_err("missing");
        assert_eq!(error.kind(), ConfigErrorKind::Missing);
        assert_eq!(error.key(), "bootstrap.servers");
    }

    #[rstest]
    #[case(&[("acks", "0")], Idempotence::Disabled)]
    #[case(&[("acks", "1")], Idempotence::Disabled)]
    #[case(&[("retries", "0")], Idempotence::Disabled)]
    #[case(&[("enable.idempotence", "false")], Idempotence::Disabled)]
    #[case(&[("acks", "-1")], Idempotence::Enabled)]
    #[case(&[("enable.idempotence", "true")], Idempotence::Enabled)]
    fn idempotence_as_a_default_gives_way(
        #[case] pairs: &[(&str, &str)],
        #[case] expected: Idempotence,
    ) {
        let settings = resolve(pairs).expect("allowed");
        assert_eq!(settings.engine.idempotence, expected);
    }

    const EXPLICIT: (&str, &str) = ("enable.idempotence", "true");
    const SIX: (&str, &str) = ("max.in.flight.requests.per.connection", "6");

    #[rstest]
    #[case::v2(&[EXPLICIT, ("retries", "0")], "retries", "1 to")]
    #[case::v3_none(&[EXPLICIT, ("acks", "0")], "acks", "all")]
    #[case::v3_leader(&[EXPLICIT, ("acks", "1")], "acks", "all")]
    #[case::v4(&[SIX], SIX.0, "1 to 5")]
    #[case::v4_explicit(&[EXPLICIT, SIX], SIX.0, "1 to 5")]
    #[case::v4_even_if_given_up(&[SIX, ("acks", "1")], SIX.0, "1 to 5")]
    #[case::v7(&[("delivery.timeout.ms", "30004")], "delivery.timeout.ms", "30005 to")]
    fn a_contradiction_names_key_and_what_is_allowed(
        #[case] pairs: &[(&str, &str)],
        #[case] key: &str,
        #[case] told: &str,
    ) {
        let error = resolve(pairs).expect_err("contradiction");
        assert_eq!(error.kind(), ConfigErrorKind::Conflict);
        assert_eq!(error.key(), key);
        assert!(error.to_string().contains(told), "{error}");
    }

    #[test]
    fn more_than_five_in_flight_are_allowed_without_idempotence() {
        let settings = resolve(&[SIX, ("enable.idempotence", "false")]).expect("allowed");
        assert_eq!(settings.engine.in_flight_max, 6);
    }

    #[rstest]
    #[case::covered(&[("delivery.timeout.ms", "30005")], 30_005)]
    #[case::raised(&[("request.timeout.ms", "200000")], 200_005)]
    #[case::raised_at_most_to_int_max(&[("linger.ms", "9223372036854775807")], 2_147_483_647)]
    fn the_delivery_timeout_covers_linger_and_request(
        #[case] pairs: &[(&str, &str)],
        #[case] expected_ms: u64,
    ) {
        let settings = resolve(pairs).expect("allowed");
        let expected = Duration::from_millis(expected_ms);
        assert_eq!(settings.engine.delivery_timeout, expected);
    }

    #[rstest]
    #[case(&[("reconnect.backoff.ms", "2000")], 2000)]
    #[case(&[("reconnect.backoff.ms", "2000"), ("reconnect.backoff.max.ms", "3000")], 3000)]
    #[case(&[], 1000)]
    fn a_lone_reconnect_backoff_is_also_the_longest(
        #[case] pairs: &[(&str, &str)],
        #[case] expected_ms: u64,
    ) {
        let settings = resolve(pairs).expect("allowed");
        let expected = Duration::from_millis(expected_ms);
        assert_eq!(settings.engine.reconnect_backoff_max, expected);
    }

    #[test]
    fn a_producer_without_a_name_gets_a_number() {
        let first = resolve(&[]).expect("defaults").engine.client_id;
        let second = resolve(&[]).expect("defaults").engine.client_id;
        assert!(first.starts_with("producer-"), "{first}");
        assert_ne!(first, second);
        let named = resolve(&[("client.id", "shop")]).expect("allowed");
        assert_eq!(&*named.engine.client_id, "shop");
    }
}
