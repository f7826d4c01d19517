//! Key/value pairs, each checked on its own against the table of keys, and what cross checks made
//! of them.
//!
//! *Invariants*
//! 1. A [`Values`] holds known keys only, each with a value that its key allows.
//! 2. What is read is the value in force: the adjusted one, else the given one, else the default.
//!
//! *Source*: Kafka's `ConfigDef.parseType` (values are trimmed; words are compared without case).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::keys::{self, Allowed, Key};
use crate::engine::effect::Address;
use crate::types::CompressionType;
use crate::wire::compression::Codec;

/// Checked values by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    given: BTreeMap<&'static str, String>,
    adjusted: BTreeMap<&'static str, Adjusted>,
}

/// A value that a cross check put in place of the one given, or of the default.
#[derive(Clone, Debug)]
pub(crate) struct Adjusted {
    pub(crate) value: String,
    pub(crate) reason: String,
}

impl Values {
    /// Checks each pair on its own.
    pub(crate) fn new(pairs: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut given = BTreeMap::new();
        for (name, value) in pairs {
            let key = keys::find(name)
                .ok_or_else(|| ConfigError::unknown_key(name, value, keys::nearest(name)))?;
            let value = value.trim();
            check(key, value)?;
            given.insert(key.name, value.to_owned());
        }
        Ok(Self {
            given,
            adjusted: BTreeMap::new(),
        })
    }

    /// Takes the name of what was given in code, where Kafka has the name of a class.
    pub(crate) fn give_in_code(&mut self, name: &'static str, what: String) {
        if !what.is_empty() {
            self.given.insert(name, what);
        }
    }

    /// Whether the user gave a value, even if it is the default.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value the user gave.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// What a cross check made of it.
    pub(crate) fn adjusted(&self, name: &str) -> Option<&Adjusted> {
        self.adjusted.get(name)
    }

    /// Puts another value in force, and remembers why.
    pub(crate) fn adjust(&mut self, name: &'static str, value: impl ToString, reason: String) {
        let value = value.to_string();
        self.adjusted.insert(name, Adjusted { value, reason });
    }

    /// The value in force.
    pub(crate) fn text(&self, name: &str) -> &str {
        match (self.adjusted.get(name), self.given.get(name)) {
            (Some(adjusted), _) => &adjusted.value,
            (None, Some(given)) => given,
            (None, None) => keys::find(name).map_or("", |key| key.default),
        }
    }

    /// A number, within the range of its key; 0 for a negative one.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A number of 32 bits with its sign; 0 if it is none.
    pub(crate) fn signed_number(&self, name: &str) -> i32 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A number of 32 bits; `None` for a negative one.
    pub(crate) fn small_number(&self, name: &str) -> Option<u32> {
        self.text(name).parse().ok()
    }

    /// A number of bytes; what does not fit the machine's addresses is as good as its maximum.
    pub(crate) fn bytes(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    /// A number of milliseconds.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// A number of milliseconds; `None` for a negative one, which stands for ever.
    pub(crate) fn bounded_duration(&self, name: &str) -> Option<Duration> {
        self.text(name).parse().ok().map(Duration::from_millis)
    }

    /// A flag.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }
}

fn check(key: Key, value: &str) -> Result<(), ConfigError> {
    let fits = match key.allowed {
        Allowed::Number { min, max } => value
            .parse::<i64>()
            .is_ok_and(|number| (min..=max).contains(&number)),
        Allowed::NumberOr { other, min, max } => value
            .parse::<i64>()
            .is_ok_and(|number| number == other || (min..=max).contains(&number)),
        Allowed::Flag => is_one_of(value, &["true", "false"]),
        Allowed::Word(words) => is_one_of(value, words),
        Allowed::Text => true,
        Allowed::Servers => servers(value).is_some(),
        Allowed::Fixed => value.eq_ignore_ascii_case(key.default),
    };
    if fits && (key.name != COMPRESSION || is_built(value)) {
        return Ok(());
    }
    if let Some(method) = keys::method_for(key.name) {
        return Err(ConfigError::given_in_code(key.name, value, method));
    }
    let not_supported = |allowed: &str| {
        ConfigError::not_supported(key.name, value, allowed, keys::instead(key.name))
    };
    Err(match key.allowed {
        Allowed::Fixed => not_supported(key.default),
        _ if fits => {
            let built = CompressionType::ALL.map(CompressionType::name);
            let built: Vec<_> = built.into_iter().filter(|name| is_built(name)).collect();
            let why = "the crate was built without the feature of this name";
            ConfigError::not_supported(key.name, value, &built.join(", "), why)
        }
        allowed => ConfigError::invalid(key.name, value, &allowed.to_string()),
    })
}

fn is_one_of(value: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

/// Reads `bootstrap.servers`; `None` when it is empty, malformed, or names a server twice.
pub(crate) fn servers(list: &str) -> Option<Vec<Address>> {
    let mut addresses = Vec::new();
    for entry in list.split(',') {
        let address = server(entry.trim())?;
        if addresses.contains(&address) {
            return None;
        }
        addresses.push(address);
    }
    Some(addresses)
}

fn server(entry: &str) -> Option<Address> {
    let (host, port) = entry.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let host = match bare {
        Some(inner) => inner,
        None if host.contains([':', '[', ']']) => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|&port| port != 0)?;
    let spaced = host.contains(|c: char| c.is_whitespace() || c == '/');
    (!host.is_empty() && !spaced).then(|| Address {
        host: Arc::from(host),
        port,
    })
}

/// The codec of this name, in any case.
pub(crate) fn compression(name: &str) -> Option<CompressionType> {
    let mut all = CompressionType::ALL.into_iter();
    all.find(|one| one.name().eq_ignore_ascii_case(name))
}

fn is_built(codec: &str) -> bool {
    compression(codec).is_some_and(Codec::is_built)
}

const COMPRESSION: &str = "compression.type";

#[cfg(test)]
impl Values {
    /// The keys that cross checks adjusted.
    pub(crate) fn adjusted_keys(&self) -> Vec<&'static str> {
        self.adjusted.keys().copied().collect()
    }

    /// Values that no table allows.
    pub(crate) fn unchecked(pairs: &[(&'static str, &str)]) -> Self {
        Self {
            given: pairs
                .iter()
                .map(|&(key, value)| (key, value.to_owned()))
                .collect(),
            adjusted: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::ConfigErrorKind;
    use rstest::rstest;

    fn values(key: &str, value: &str) -> Result<Values, ConfigError> {
        Values::new(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[rstest]
    #[case("retries", "0", "2147483647")]
    #[case("max.in.flight.requests.per.connection", "1", "2147483647")]
    #[case("delivery.timeout.ms", "0", "2147483647")]
    #[case("request.timeout.ms", "0", "2147483647")]
    #[case("linger.ms", "0", "9223372036854775807")]
    #[case("batch.size", "0", "2147483647")]
    #[case("buffer.memory", "0", "9223372036854775807")]
    #[case("max.block.ms", "0", "9223372036854775807")]
    #[case("max.request.size", "0", "2147483647")]
    #[case("retry.backoff.ms", "0", "9223372036854775807")]
    #[case("retry.backoff.max.ms", "0", "9223372036854775807")]
    #[case("reconnect.backoff.ms", "0", "9223372036854775807")]
    #[case("reconnect.backoff.max.ms", "0", "9223372036854775807")]
    #[case("socket.connection.setup.timeout.ms", "0", "9223372036854775807")]
    #[case("metadata.max.age.ms", "0", "9223372036854775807")]
    #[case("metadata.max.idle.ms", "5000", "9223372036854775807")]
    #[case("metadata.recovery.rebootstrap.trigger.ms", "0", "9223372036854775807")]
    #[case("connections.max.idle.ms", "-1", "9223372036854775807")]
    #[case("socket.connection.setup.timeout.max.ms", "0", "9223372036854775807")]
    #[case("send.buffer.bytes", "-1", "2147483647")]
    #[case("receive.buffer.bytes", "-1", "2147483647")]
    #[case("partitioner.availability.timeout.ms", "0", "9223372036854775807")]
    fn a_number_is_taken_within_its_range_and_refused_outside(
        #[case] key: &str,
        #[case] min: &str,
        #[case] max: &str,
    ) {
        assert_eq!(values(key, min).expect("minimum").text(key), min);
        assert_eq!(values(key, max).expect("maximum").text(key), max);
        let below = (min.parse::<i64>().expect("a number") - 1).to_string();
        let above = (max.parse::<u64>().expect("a number") + 1).to_string();
        for outside in [below.as_str(), above.as_str(), "five", "", "1.5"] {
            let error = values(key, outside).expect_err(outside);
            assert_eq!(error.kind(), ConfigErrorKind::InvalidValue);
            assert_eq!((error.key(), error.value()), (key, outside));
            let allowed = format!("{min} to {max}");
            assert!(error.to_string().contains(&allowed), "{error}");
        }
    }

    #[rstest]
    #[case("acks", "2", ConfigErrorKind::InvalidValue, "all, -1, 0, 1")]
    #[case(
        "enable.idempotence",
        "yes",
        ConfigErrorKind::InvalidValue,
        "true, false"
    )]
    #[case("compression.type", "rar", ConfigErrorKind::InvalidValue, "none")]
    #[case("security.protocol", "SSL", ConfigErrorKind::NotSupported, "PLAINTEXT")]
    #[case(
        "transaction.two.phase.commit.enable",
        "true",
        ConfigErrorKind::NotSupported,
        "false"
    )]
    #[case("transaction.timeout.ms", "0", ConfigErrorKind::InvalidValue, "1 to")]
    #[case("ssl.protocol", "TLSv1.2", ConfigErrorKind::NotSupported, "TLSv1.3")]
    #[case(
        "interceptor.classes",
        "com.shop.Tracing",
        ConfigErrorKind::NotSupported,
        "ProducerBuilder::interceptor"
    )]
    #[case(
        "key.serializer",
        "com.shop.Key",
        ConfigErrorKind::NotSupported,
        "Topic::typed"
    )]
    #[case(
        "partitioner.class",
        "com.shop.Partitioner",
        ConfigErrorKind::NotSupported,
        "ProducerBuilder::partitioner"
    )]
    #[case("enable.metrics.push", "true", ConfigErrorKind::NotSupported, "false")]
    #[case("metrics.num.samples", "0", ConfigErrorKind::InvalidValue, "1 to")]
    #[case(
        "metric.reporters",
        "com.shop.Reporter",
        ConfigErrorKind::NotSupported,
        "leave it out"
    )]
    #[case("compression.gzip.level", "0", ConfigErrorKind::InvalidValue, "1 to 9")]
    #[case("compression.gzip.level", "-2", ConfigErrorKind::InvalidValue, "-1")]
    #[case("lingerms", "5", ConfigErrorKind::UnknownKey, "linger.ms")]
    fn a_bad_value_is_told_with_what_is_allowed(
        #[case] key: &str,
        #[case] value: &str,
        #[case] kind: ConfigErrorKind,
        #[case] told: &str,
    ) {
        let error = values(key, value).expect_err("must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!((error.key(), error.value()), (key, value));
        assert!(error.to_string().contains(told), "{error}");
    }

    #[rstest]
    #[case("security.protocol", "plaintext")]
    #[case("compression.type", " NONE ")]
    #[case("compression.type", "Zstd")]
    #[case("compression.gzip.level", "-1")]
    #[case("compression.gzip.level", "9")]
    #[case("acks", "ALL")]
    #[case("enable.idempotence", "False")]
    #[case("transactional.id", "")]
    #[case("connections.max.idle.ms", "-1")]
    #[case("enable.metrics.push", "FALSE")]
    #[case("metrics.recording.level", "debug")]
    fn an_allowed_word_may_be_written_in_any_case(#[case] key: &str, #[case] value: &str) {
        values(key, value).expect("allowed");
    }

    #[rstest]
    #[case("a:1", &[("a", 1)])]
    #[case("a:1,b:65535", &[("a", 1), ("b", 65_535)])]
    #[case(" a:1 , [::1]:9092 ", &[("a", 1), ("::1", 9092)])]
    fn servers_are_read(#[case] list: &str, #[case] expected: &[(&str, u16)]) {
        let read = servers(list).expect("well formed");
        let read: Vec<_> = read.iter().map(|a| (&*a.host, a.port)).collect();
        assert_eq!(read, expected);
    }

    #[rstest]
    #[case("")]
    #[case("a")]
    #[case("a:")]
    #[case(":1")]
    #[case("a:0")]
    #[case("a:65536")]
    #[case("a:1,")]
    #[case("a:1,a:1")]
    #[case("::1:9092")]
    #[case("http://a:1")]
    #[case("a b:1")]
    fn malformed_servers_are_refused(#[case] list: &str) {
        assert_eq!(servers(list), None);
        let error = values("bootstrap.servers", list).expect_err("malformed");
        assert!(error.to_string().contains("HOST:PORT"), "{error}");
    }
}
