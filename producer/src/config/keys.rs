//! Every key that Kafka's producer knows, with default and allowed values, and the keys of our own.
//!
//! *Invariants*
//! 1. A key is in one table only: honoured, our own, or known and fixed at one value.
//! 2. Names, defaults and ranges of honoured keys are Kafka's.
//!
//! *Source*: Kafka's `ProducerConfig`, `SslConfigs`, `SaslConfigs` (4.x).
//!
//! *Not here*: what keys demand of each other (`resolve.rs`).

use std::fmt;

/// A key of Kafka's producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// The value when none is given; empty for "none".
    pub(crate) default: &'static str,
    /// What may be given.
    pub(crate) allowed: Allowed,
}

/// What a key's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// An integer of this range.
    Number { min: i64, max: i64 },
    /// An integer of this range, or another one.
    NumberOr { other: i64, min: i64, max: i64 },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// `HOST:PORT`, several separated by commas.
    Servers,
    /// Nothing but the default: this producer does not have what the key asks for.
    Fixed,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { min, max } => write!(f, "{min} to {max}"),
            Self::NumberOr { other, min, max } => write!(f, "{other}, {min} to {max}"),
            Self::Flag => f.write_str("true, false"),
            Self::Word(words) => f.write_str(&words.join(", ")),
            Self::Text => f.write_str("any text"),
            Self::Servers => f.write_str("HOST:PORT[,HOST:PORT...], no entry twice"),
            Self::Fixed => f.write_str("one value only"),
        }
    }
}

/// All keys, honoured first.
pub(crate) fn all() -> impl Iterator<Item = Key> {
    let honoured = HONOURED.iter().chain(OWN);
    honoured.copied().chain(FIXED.iter().copied().map(fixed))
}

/// The key of this name.
pub(crate) fn find(name: &str) -> Option<Key> {
    all().find(|key| key.name == name)
}

/// The method that takes in code what Kafka's producer makes of a class's name.
pub(crate) fn method_for(name: &str) -> Option<&'static str> {
    match name {
        "partitioner.class" => Some("ProducerBuilder::partitioner"),
        "interceptor.classes" => Some("ProducerBuilder::interceptor"),
        "key.serializer" | "value.serializer" => Some("Topic::typed"),
        _ => None,
    }
}

/// What this producer does, where it does not have what a key asks for.
pub(crate) fn instead(name: &str) -> &'static str {
    match name {
        "bootstrap.resolve.timeout.ms" => "names are looked up when connecting",
        "buffer.memory.allocation.strategy" => "a batch takes memory as it grows",
        "config.providers" => "values are taken as they are",
        "metadata.cluster.check.enable" => "a broker's cluster is not checked",
        "key.serializer" | "value.serializer" | "interceptor.classes" => "given in code",
        "enable.metrics.push" => "metrics are not pushed to brokers",
        "metric.reporters" => "metrics are read with `Producer::metrics`",
        "transaction.two.phase.commit.enable" => "no public API of Kafka's prepares a transaction",
        _ => "connections are neither encrypted nor authenticated",
    }
}

/// The known name that is nearest to a mistyped one.
pub(crate) fn nearest(name: &str) -> &'static str {
    all()
        .map(|key| key.name)
        .min_by_key(|known| strsim::damerau_levenshtein(known, name))
        .unwrap_or("bootstrap.servers")
}

const fn fixed((name, default): (&'static str, &'static str)) -> Key {
    key(name, default, Allowed::Fixed)
}

/// The one class that Kafka brings for `partitioner.class`.
pub(crate) const ROUND_ROBIN: &str = "org.apache.kafka.clients.producer.RoundRobinPartitioner";

/// The values of `client.dns.lookup`.
pub(crate) const USE_ALL_DNS_IPS: &str = "use_all_dns_ips";
pub(crate) const CANONICAL_NAMES: &str = "resolve_canonical_bootstrap_servers_only";

/// The codecs of Kafka's producer.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

const fn number(name: &'static str, default: &'static str, (min, max): (i64, i64)) -> Key {
    let allowed = Allowed::Number { min, max };
    Key {
        name,
        default,
        allowed,
    }
}

const fn key(name: &'static str, default: &'static str, allowed: Allowed) -> Key {
    Key {
        name,
        default,
        allowed,
    }
}

/// The keys that do what Kafka's documentation says of them.
pub(crate) const HONOURED: &[Key] = &[
    key("bootstrap.servers", "", Allowed::Servers),
    key("client.id", "", Allowed::Text),
    key(
        "client.dns.lookup",
        USE_ALL_DNS_IPS,
        Allowed::Word(&[USE_ALL_DNS_IPS, CANONICAL_NAMES]),
    ),
    key("acks", "all", Allowed::Word(&["all", "-1", "0", "1"])),
    key("enable.idempotence", "true", Allowed::Flag),
    number("retries", "2147483647", (0, INT_MAX)),
    number("max.in.flight.requests.per.connection", "5", (1, INT_MAX)),
    number("delivery.timeout.ms", "120000", (0, INT_MAX)),
    number("request.timeout.ms", "30000", (0, INT_MAX)),
    number("linger.ms", "5", (0, LONG_MAX)),
    number("batch.size", "16384", (0, INT_MAX)),
    number("buffer.memory", "33554432", (0, LONG_MAX)),
    number("max.block.ms", "60000", (0, LONG_MAX)),
    number("max.request.size", "1048576", (0, INT_MAX)),
    number("retry.backoff.ms", "100", (0, LONG_MAX)),
    number("retry.backoff.max.ms", "1000", (0, LONG_MAX)),
    number("reconnect.backoff.ms", "50", (0, LONG_MAX)),
    number("reconnect.backoff.max.ms", "1000", (0, LONG_MAX)),
    number("socket.connection.setup.timeout.ms", "10000", (0, LONG_MAX)),
    number(
        "socket.connection.setup.timeout.max.ms",
        "30000",
        (0, LONG_MAX),
    ),
    number("connections.max.idle.ms", "540000", (-1, LONG_MAX)),
    number("send.buffer.bytes", "131072", (-1, INT_MAX)),
    number("receive.buffer.bytes", "32768", (-1, INT_MAX)),
    number("metadata.max.age.ms", "300000", (0, LONG_MAX)),
    number("metadata.max.idle.ms", "300000", (5000, LONG_MAX)),
    key(
        "metadata.recovery.strategy",
        "rebootstrap",
        Allowed::Word(&["none", "rebootstrap"]),
    ),
    number(
        "metadata.recovery.rebootstrap.trigger.ms",
        "300000",
        (0, LONG_MAX),
    ),
    key("client.rack", "", Allowed::Text),
    key("partitioner.class", "", Allowed::Word(&["", ROUND_ROBIN])),
    key("partitioner.ignore.keys", "false", Allowed::Flag),
    key(
        "partitioner.adaptive.partitioning.enable",
        "true",
        Allowed::Flag,
    ),
    number("partitioner.availability.timeout.ms", "0", (0, LONG_MAX)),
    key("partitioner.rack.aware", "false", Allowed::Flag),
    number("metrics.num.samples", "2", (1, INT_MAX)),
    number("metrics.sample.window.ms", "30000", (0, LONG_MAX)),
    key(
        "metrics.recording.level",
        "INFO",
        Allowed::Word(&["INFO", "DEBUG", "TRACE"]),
    ),
    key("transactional.id", "", Allowed::Text),
    number("transaction.timeout.ms", "60000", (1, INT_MAX)),
    key("compression.type", "none", Allowed::Word(&CODECS)),
    key(
        "compression.gzip.level",
        "-1",
        Allowed::NumberOr {
            other: -1,
            min: 1,
            max: 9,
        },
    ),
    number("compression.lz4.level", "9", (1, 17)),
    number("compression.zstd.level", "3", (-131_072, 22)),
];

/// The keys that Kafka does not know. Each turns something on that Kafka's producer does not have.
pub(crate) const OWN: &[Key] = &[number(
    "outcome.resolve.timeout.ms",
    "0",
    (0, RESOLVE_TIMEOUT_MS_MAX),
)];

/// Brokers forget a producer after `producer.id.expiration.ms`, a day by default: what is sent
/// after that is not recognised.
const RESOLVE_TIMEOUT_MS_MAX: i64 = 3_600_000;

/// The keys that Kafka knows and this producer accepts with one value only: the one that says what
/// it does.
///
/// That is Kafka's default for what both leave out, and the value that turns a feature off where
/// Kafka has it and this producer does not: a configuration may not claim what is not done. Keys
/// without such a value stand here with none; they may not be given at all.
const FIXED: &[(&str, &str)] = &[
    ("bootstrap.resolve.timeout.ms", "0"),
    ("buffer.memory.allocation.strategy", "incremental"),
    ("config.providers", ""),
    ("enable.metrics.push", "false"),
    ("interceptor.classes", ""),
    ("key.serializer", ""),
    ("value.serializer", ""),
    ("metadata.cluster.check.enable", "false"),
    ("metric.reporters", ""),
    ("transaction.two.phase.commit.enable", "false"),
    ("security.protocol", "PLAINTEXT"),
    ("security.providers", ""),
    ("ssl.cipher.suites", ""),
    ("ssl.enabled.protocols", "TLSv1.2,TLSv1.3"),
    ("ssl.endpoint.identification.algorithm", "https"),
    ("ssl.engine.factory.class", ""),
    ("ssl.key.password", ""),
    ("ssl.keymanager.algorithm", "SunX509"),
    ("ssl.keystore.certificate.chain", ""),
    ("ssl.keystore.key", ""),
    ("ssl.keystore.location", ""),
    ("ssl.keystore.password", ""),
    ("ssl.keystore.type", "JKS"),
    ("ssl.protocol", "TLSv1.3"),
    ("ssl.provider", ""),
    ("ssl.secure.random.implementation", ""),
    ("ssl.trustmanager.algorithm", "PKIX"),
    ("ssl.truststore.certificates", ""),
    ("ssl.truststore.location", ""),
    ("ssl.truststore.password", ""),
    ("ssl.truststore.type", "JKS"),
    ("sasl.client.callback.handler.class", ""),
    ("sasl.jaas.config", ""),
    ("sasl.kerberos.kinit.cmd", "/usr/bin/kinit"),
    ("sasl.kerberos.min.time.before.relogin", "60000"),
    ("sasl.kerberos.service.name", ""),
    ("sasl.kerberos.ticket.renew.jitter", "0.05"),
    ("sasl.kerberos.ticket.renew.window.factor", "0.8"),
    ("sasl.login.callback.handler.class", ""),
    ("sasl.login.class", ""),
    ("sasl.login.connect.timeout.ms", ""),
    ("sasl.login.read.timeout.ms", ""),
    ("sasl.login.refresh.buffer.seconds", "300"),
    ("sasl.login.refresh.min.period.seconds", "60"),
    ("sasl.login.refresh.window.factor", "0.8"),
    ("sasl.login.refresh.window.jitter", "0.05"),
    ("sasl.login.retry.backoff.max.ms", "10000"),
    ("sasl.login.retry.backoff.ms", "100"),
    ("sasl.mechanism", "GSSAPI"),
    ("sasl.oauthbearer.assertion.algorithm", "RS256"),
    ("sasl.oauthbearer.assertion.claim.aud", ""),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", "300"),
    ("sasl.oauthbearer.assertion.claim.iss", ""),
    ("sasl.oauthbearer.assertion.claim.jti.include", "false"),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", "60"),
    ("sasl.oauthbearer.assertion.claim.sub", ""),
    ("sasl.oauthbearer.assertion.file", ""),
    ("sasl.oauthbearer.assertion.private.key.file", ""),
    ("sasl.oauthbearer.assertion.private.key.passphrase", ""),
    ("sasl.oauthbearer.assertion.template.file", ""),
    ("sasl.oauthbearer.client.credentials.client.id", ""),
    ("sasl.oauthbearer.client.credentials.client.secret", ""),
    ("sasl.oauthbearer.clock.skew.seconds", "30"),
    ("sasl.oauthbearer.expected.audience", ""),
    ("sasl.oauthbearer.expected.issuer", ""),
    ("sasl.oauthbearer.header.urlencode", "false"),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000"),
    (
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        "10000",
    ),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100"),
    ("sasl.oauthbearer.jwks.endpoint.url", ""),
    ("sasl.oauthbearer.scope", ""),
    ("sasl.oauthbearer.scope.claim.name", "scope"),
    ("sasl.oauthbearer.sub.claim.name", "sub"),
    ("sasl.oauthbearer.token.endpoint.url", ""),
    ("sasl.oauthbearer.jwt.retriever.class", ""),
    ("sasl.oauthbearer.jwt.validator.class", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_key_stands_twice() {
        let mut names = BTreeSet::new();
        for Key { name, .. } in all() {
            assert!(names.insert(name), "{name} stands twice");
        }
    }

    /// The catalogue of Apache Kafka 4.3.1: name, type and default, as its `ConfigDef` gives them.
    const KAFKA: &str = include_str!("kafka-4.3.1.tsv");

    /// Keys that came with Kafka 4.4.
    const NEWER: [&str; 5] = [
        "bootstrap.resolve.timeout.ms",
        "buffer.memory.allocation.strategy",
        "client.rack",
        "metadata.cluster.check.enable",
        "partitioner.rack.aware",
    ];

    fn kafkas() -> impl Iterator<Item = (&'static str, &'static str)> {
        KAFKA.lines().map(|line| {
            let mut columns = line.split('\t');
            let name = columns.next().expect("a name");
            (name, columns.nth(1).expect("a default"))
        })
    }

    #[test]
    fn every_key_of_kafkas_producer_is_known_and_no_other_but_our_own() {
        let kafkas = kafkas().map(|(name, _)| name).chain(NEWER);
        let own = OWN.iter().map(|key| key.name);
        let kafkas: BTreeSet<_> = kafkas.chain(own).collect();
        let ours: BTreeSet<_> = all().map(|key| key.name).collect();
        assert_eq!(ours, kafkas);
    }

    #[test]
    fn honoured_keys_have_kafkas_defaults() {
        for (name, default) in kafkas() {
            let key = find(name).expect("known");
            let none = matches!(default, "<none>" | "null");
            if key.allowed != Allowed::Fixed {
                assert_eq!(key.default, if none { "" } else { default }, "{name}");
            }
        }
    }

    /// `PARITY.md` says of each key what is done with it. Its table is made by this test: after a
    /// change, take the one that a failure prints.
    #[test]
    fn the_table_of_keys_is_true() {
        let own = |key: &Key| OWN.iter().any(|one| one.name == key.name);
        let table: String = all()
            .filter(|key| !own(key))
            .map(|key| {
                let default = match key.default {
                    "" => "none".to_owned(),
                    default => format!("`{default}`"),
                };
                match (key.allowed, key.name) {
                    (Allowed::Fixed, name) => {
                        format!("| `{name}` | {default} only | {} |\n", instead(name))
                    }
                    (Allowed::Word(&[only]), name) => {
                        format!("| `{name}` | `{only}` only | {} |\n", instead(name))
                    }
                    (_, name) => format!("| `{name}` | yes, {default} by default | |\n"),
                }
            })
            .collect();
        let parity = include_str!("../../PARITY.md");
        assert!(parity.contains(&table), "the table must be:\n{table}");
    }

    #[test]
    fn the_table_of_our_own_keys_is_true() {
        let parity = include_str!("../../PARITY.md");
        for Key {
            name,
            default,
            allowed,
        } in OWN
        {
            let row = format!("| `{name}` | {allowed}; `{default}` by default | ");
            assert!(parity.contains(&row), "a row must begin with {row}");
        }
    }

    #[test]
    fn a_mistyped_key_finds_its_neighbour() {
        assert_eq!(nearest("linger"), "linger.ms");
        assert_eq!(nearest("bootstrap.server"), "bootstrap.servers");
        assert_eq!(nearest("batch_size"), "batch.size");
    }
}
