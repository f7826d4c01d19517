//! The settings that come of checked values: what each layer must know, read once.
//!
//! *Invariants*
//! 1. Settings exist only if every check passed.
//!
//! *Not here*: what keys demand of each other (`cross_checks.rs`).

use std::sync::Arc;
use std::time::Duration;

use crate::config::configuration::Configuration;
use crate::config::cross_checks::cross_check;
use crate::config::error::ConfigError;
use crate::config::keys;
use crate::config::values::{Values, compression, servers};
use crate::engine::{EngineConfig, Idempotence, TransactionsConfig};
use crate::handle::Placing;
use crate::io::meters::meter::Windows;
use crate::io::names::{DnsLookup, Names, SystemResolver};
use crate::io::sticky::{Spreading, Weighting};
use crate::io::transport::SocketBuffers;
use crate::partitioner::{Partitioner, RoundRobin};
use crate::types::{Acks, CompressionType};
use crate::wire::compression::Codec;

/// Whether records with a key go where its hash says (`partitioner.ignore.keys`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyUse {
    /// Records with the same key go to the same partition.
    #[default]
    Hashed,
    /// Keys are carried, and do not decide the partition.
    Ignored,
}

/// What to do when none of the known brokers can be reached, or answers for long
/// (`metadata.recovery.strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataRecovery {
    /// Go on trying them.
    None,
    /// Ask the bootstrap addresses again (KIP-899, KIP-1102).
    #[default]
    Rebootstrap,
}

/// Everything a producer is built from, checked.
#[derive(Clone)]
pub(crate) struct Settings {
    /// What the engine must know.
    pub(crate) engine: EngineConfig,
    /// `batch.size` in bytes.
    pub(crate) batch_bytes: usize,
    /// `buffer.memory` in bytes.
    pub(crate) memory_bytes: usize,
    /// `max.block.ms`.
    pub(crate) block_max: Duration,
    /// `partitioner.class`, `partitioner.ignore.keys`.
    pub(crate) placing: Placing,
    /// The other keys of the partitioner.
    pub(crate) spreading: Spreading,
    /// `send.buffer.bytes` and `receive.buffer.bytes`.
    pub(crate) socket_buffers: SocketBuffers,
    /// `client.dns.lookup`.
    pub(crate) dns_lookup: DnsLookup,
    /// `metrics.num.samples` and `metrics.sample.window.ms`.
    pub(crate) windows: Windows,
    /// All of it, to look at.
    pub(crate) configuration: Configuration,
}

impl Settings {
    /// Checks the values against each other; `own` is a partitioner given in code, `seed` is for
    /// all jitter and random choice.
    pub(crate) fn resolve(
        mut values: Values,
        own: Option<Arc<dyn Partitioner>>,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        cross_check(&mut values)?;
        let values = values;
        Ok(Self {
            engine: engine(&values, seed)?,
            batch_bytes: values.bytes("batch.size"),
            memory_bytes: values.bytes("buffer.memory"),
            block_max: values.duration("max.block.ms"),
            placing: placing(&values, own),
            spreading: spreading(&values),
            socket_buffers: SocketBuffers {
                send_bytes: values.small_number("send.buffer.bytes"),
                receive_bytes: values.small_number("receive.buffer.bytes"),
            },
            dns_lookup: match values.text("client.dns.lookup") {
                canonical if canonical.eq_ignore_ascii_case(keys::CANONICAL_NAMES) => {
                    DnsLookup::CanonicalBootstrapServers
                }
                _ => DnsLookup::UseAllIps,
            },
            windows: Windows::new(
                values.bytes("metrics.num.samples"),
                values.duration("metrics.sample.window.ms"),
            ),
            configuration: Configuration::new(&values),
        })
    }

    /// What the names of brokers stand for.
    pub(crate) fn names(&self) -> Names {
        let resolver = Arc::new(SystemResolver);
        Names::new(self.dns_lookup, &self.engine.bootstrap, resolver)
    }
}

fn placing(values: &Values, own: Option<Arc<dyn Partitioner>>) -> Placing {
    match own {
        Some(own) => Placing::Own(own),
        None if !values.text("partitioner.class").is_empty() => {
            Placing::Own(Arc::new(RoundRobin::default()))
        }
        None => Placing::BuiltIn(match values.is_true("partitioner.ignore.keys") {
            true => KeyUse::Ignored,
            false => KeyUse::Hashed,
        }),
    }
}

fn spreading(values: &Values) -> Spreading {
    let timeout = values.duration("partitioner.availability.timeout.ms");
    let rack_aware = values.is_true("partitioner.rack.aware");
    Spreading {
        weighting: match values.is_true("partitioner.adaptive.partitioning.enable") {
            true => Weighting::ByLoad,
            false => Weighting::Equal,
        },
        availability_timeout: (!timeout.is_zero()).then_some(timeout),
        linger: values.duration("linger.ms"),
        rack: rack_aware.then(|| Arc::from(values.text("client.rack"))),
    }
}

fn engine(values: &Values, seed: u64) -> Result<EngineConfig, ConfigError> {
    let bootstrap = servers(values.text("bootstrap.servers")).ok_or_else(|| {
        let allowed = keys::Allowed::Servers.to_string();
        ConfigError::missing("bootstrap.servers", &allowed)
    })?;
    let codec = codec(values);
    Ok(EngineConfig {
        client_id: Arc::from(values.text("client.id")),
        bootstrap,
        acks: match values.text("acks") {
            "0" => Acks::None,
            "1" => Acks::Leader,
            _ => Acks::All,
        },
        idempotence: match values.is_true("enable.idempotence") {
            true => Idempotence::Enabled,
            false => Idempotence::Disabled,
        },
        in_flight_max: values.bytes("max.in.flight.requests.per.connection"),
        request_timeout: values.duration("request.timeout.ms"),
        delivery_timeout: values.duration("delivery.timeout.ms"),
        resolve_within: Some(values.duration("outcome.resolve.timeout.ms"))
            .filter(|within| !within.is_zero()),
        codec,
        linger: values.duration("linger.ms"),
        // What is to be compressed had better be so at once.
        hold_bytes: match codec.compression {
            CompressionType::None => HOLD_BYTES,
            _ => 0,
        },
        retries_max: values.small_number("retries").unwrap_or_default(),
        retry_backoff: values.duration("retry.backoff.ms"),
        retry_backoff_max: values.duration("retry.backoff.max.ms"),
        reconnect_backoff: values.duration("reconnect.backoff.ms"),
        reconnect_backoff_max: values.duration("reconnect.backoff.max.ms"),
        connection_setup_timeout: values.duration("socket.connection.setup.timeout.ms"),
        connection_setup_timeout_max: values.duration("socket.connection.setup.timeout.max.ms"),
        connections_idle_max: values.bounded_duration("connections.max.idle.ms"),
        request_bytes_max: values.bytes("max.request.size"),
        metadata_age_max: values.duration("metadata.max.age.ms"),
        rebootstrap_after: match values.text("metadata.recovery.strategy") {
            none if none.eq_ignore_ascii_case("none") => None,
            _ => Some(values.duration("metadata.recovery.rebootstrap.trigger.ms")),
        },
        metadata_idle_max: values.duration("metadata.max.idle.ms"),
        transactions: transactions(values),
        seed,
    })
}

fn transactions(values: &Values) -> Option<TransactionsConfig> {
    let id = values.text("transactional.id");
    (!id.is_empty()).then(|| TransactionsConfig {
        id: Arc::from(id),
        timeout_ms: i32::try_from(values.number("transaction.timeout.ms")).unwrap_or(i32::MAX),
    })
}

fn codec(values: &Values) -> Codec {
    let compression = compression(values.text("compression.type")).unwrap_or_default();
    let level = match compression {
        CompressionType::Gzip => values.signed_number("compression.gzip.level"),
        CompressionType::Lz4 => values.signed_number("compression.lz4.level"),
        CompressionType::Zstd => values.signed_number("compression.zstd.level"),
        CompressionType::None | CompressionType::Snappy => 0,
    };
    Codec { compression, level }
}

/// What full batches that may linger wait for: less makes requests so small that most of the time
/// goes into system calls and switches of tasks.
const HOLD_BYTES: usize = 64 * 1024;

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
        Settings::resolve(Values::new(&given).expect("each allowed"), None, 1)
    }

    #[test]
    fn defaults_are_kafkas() {
        let settings = resolve(&[]).expect("defaults");
        assert_eq!(settings.batch_bytes, 16_384);
        assert_eq!(settings.memory_bytes, 32 * 1024 * 1024);
        assert_eq!(settings.block_max, Duration::from_secs(60));
        assert!(matches!(settings.placing, Placing::BuiltIn(KeyUse::Hashed)));
        assert_eq!(settings.spreading.weighting, Weighting::ByLoad);
        assert_eq!(settings.spreading.availability_timeout, None);
        assert_eq!(settings.spreading.rack, None);
        assert_eq!(settings.dns_lookup, DnsLookup::UseAllIps);
        let engine = settings.engine;
        assert_eq!(engine.acks, Acks::All);
        assert_eq!(engine.idempotence, Idempotence::Enabled);
        assert_eq!(engine.in_flight_max, 5);
        assert_eq!(engine.codec, Codec::NONE);
        assert_eq!(engine.linger, Duration::from_millis(5));
        assert_eq!(engine.delivery_timeout, Duration::from_secs(120));
        assert_eq!(engine.request_timeout, Duration::from_secs(30));
        assert_eq!(engine.retries_max, 2_147_483_647);
        assert_eq!(engine.retry_backoff, Duration::from_millis(100));
        assert_eq!(engine.retry_backoff_max, Duration::from_secs(1));
        assert_eq!(engine.reconnect_backoff, Duration::from_millis(50));
        assert_eq!(engine.reconnect_backoff_max, Duration::from_secs(1));
        assert_eq!(engine.connection_setup_timeout, Duration::from_secs(10));
        assert_eq!(engine.connection_setup_timeout_max, Duration::from_secs(30));
        assert_eq!(engine.request_bytes_max, 1_048_576);
        assert_eq!(engine.metadata_age_max, Duration::from_secs(300));
    }

    #[test]
    fn bootstrap_servers_must_be_given() {
        let error = Settings::resolve(Values::default(), None, 1)
            .err()
            .expect("missing");
        assert_eq!(error.kind(), ConfigErrorKind::Missing);
        assert_eq!(error.key(), "bootstrap.servers");
    }

    #[test]
    fn adjusted_values_are_the_ones_in_force() {
        let pairs = [
            ("acks", "1"),
            ("request.timeout.ms", "200000"),
            ("reconnect.backoff.ms", "2000"),
            ("batch.size", "9999999"),
        ];
        let settings = resolve(&pairs).expect("allowed");
        assert_eq!(settings.engine.acks, Acks::Leader);
        assert_eq!(settings.engine.idempotence, Idempotence::Disabled);
        assert_eq!(
            settings.engine.delivery_timeout,
            Duration::from_millis(200_005)
        );
        assert_eq!(
            settings.engine.reconnect_backoff_max,
            Duration::from_secs(2)
        );
        assert_eq!(settings.batch_bytes, 1_048_576);
        assert_eq!(
            settings.configuration.value("delivery.timeout.ms"),
            Some("200005")
        );
    }

    #[test]
    fn the_partitioners_keys_reach_it() {
        let pairs = [
            ("partitioner.availability.timeout.ms", "70"),
            ("partitioner.rack.aware", "true"),
            ("client.rack", "west"),
            ("partitioner.ignore.keys", "true"),
            ("linger.ms", "9"),
        ];
        let settings = resolve(&pairs).expect("allowed");
        assert!(matches!(
            settings.placing,
            Placing::BuiltIn(KeyUse::Ignored)
        ));
        let Spreading {
            weighting,
            availability_timeout,
            linger,
            rack,
        } = settings.spreading;
        assert_eq!(weighting, Weighting::ByLoad);
        assert_eq!(availability_timeout, Some(Duration::from_millis(70)));
        assert_eq!(linger, Duration::from_millis(9));
        assert_eq!(rack.as_deref(), Some("west"));

        let unaware = resolve(&[("client.rack", "west")]).expect("allowed");
        assert_eq!(unaware.spreading.rack, None);
        let even = resolve(&[("partitioner.adaptive.partitioning.enable", "false")]);
        assert_eq!(even.expect("allowed").spreading.weighting, Weighting::Equal);
        let round_robin = resolve(&[("partitioner.class", keys::ROUND_ROBIN)]);
        let round_robin = round_robin.expect("allowed");
        assert!(matches!(round_robin.placing, Placing::Own(_)));
    }

    #[test]
    fn the_lookup_of_names_is_read_by_any_case() {
        let settings = resolve(&[(
            "client.dns.lookup",
            "RESOLVE_CANONICAL_BOOTSTRAP_SERVERS_ONLY",
        )]);
        let lookup = settings.expect("allowed").dns_lookup;
        assert_eq!(lookup, DnsLookup::CanonicalBootstrapServers);
    }

    #[rstest]
    #[case("gzip", 4)]
    #[case("lz4", 12)]
    #[case("zstd", -7)]
    fn the_level_of_a_codec_reaches_it(#[case] codec: &str, #[case] level: i32) {
        let key = format!("compression.{codec}.level");
        let pairs = [("compression.type", codec), (&*key, &*level.to_string())];
        let used = resolve(&pairs).expect("allowed").engine.codec;
        assert_eq!((used.compression.name(), used.level), (codec, level));
    }

    #[test]
    fn a_socket_buffer_may_be_left_to_the_system() {
        let settings = resolve(&[("send.buffer.bytes", "-1")]).expect("allowed");
        let expected = SocketBuffers {
            send_bytes: None,
            receive_bytes: Some(32_768),
        };
        assert_eq!(settings.socket_buffers, expected);
    }
}
