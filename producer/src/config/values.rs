//! Key/value pairs, each checked on its own against the table of keys.
//!
//! *Invariants*
//! 1. A [`Values`] holds known keys only, each with a value that its key allows.
//!
//! *Source*: Kafka's `ConfigDef.parseType` (values are trimmed; words are compared without case).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::keys::{self, Allowed, Key};
use crate::engine::effect::Address;

/// Checked values by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Checks each pair on its own.
    pub(crate) fn new(pairs: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            let key = keys::find(name)
                .ok_or_else(|| ConfigError::unknown_key(name, value, keys::nearest(name)))?;
            let value = value.trim();
            check(key, value)?;
            values.insert(key.name, value.to_owned());
        }
        Ok(Self(values))
    }

    /// Whether the user gave a value, even if it is the default.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value given, or the default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(value) => value,
            None => keys::find(name).map_or("", |key| key.default),
        }
    }

    /// A number, within the range of its key.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A number of bytes; what does not fit the machine's addresses is as good as its maximum.
    pub(crate) fn bytes(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    /// A number of milliseconds.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// A flag.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }
}

fn check(key: Key, value: &str) -> Result<(), ConfigError> {
    let fits = match key.allowed {
        Allowed::Number { min, max } => value
            .parse::<u64>()
            .is_ok_and(|number| (min..=max).contains(&number)),
        Allowed::Flag => is_one_of(value, &["true", "false"]),
        Allowed::Word(words) => is_one_of(value, words),
        Allowed::Text => true,
        Allowed::Servers => servers(value).is_some(),
        Allowed::DefaultOnly => value.eq_ignore_ascii_case(key.default),
    };
    if fits {
        return Ok(());
    }
    Err(match key.allowed {
        Allowed::DefaultOnly => {
            let allowed = format!("'{}', the default", key.default);
            ConfigError::not_supported(key.name, value, &allowed)
        }
        _ if key.name == COMPRESSION && is_one_of(value, &CODECS) => {
            ConfigError::not_supported(key.name, value, &key.allowed.to_string())
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

const COMPRESSION: &str = "compression.type";
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

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
    #[case("compression.type", "lz4", ConfigErrorKind::NotSupported, "none")]
    #[case("compression.type", "rar", ConfigErrorKind::InvalidValue, "none")]
    #[case("security.protocol", "SSL", ConfigErrorKind::NotSupported, "PLAINTEXT")]
    #[case("transactional.id", "tx", ConfigErrorKind::NotSupported, "''")]
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
    #[case("acks", "ALL")]
    #[case("enable.idempotence", "False")]
    #[case("transactional.id", "")]
    fn a_default_may_be_written_out_in_any_case(#[case] key: &str, #[case] value: &str) {
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
