//! The configuration that a producer runs with, to look at.
//!
//! *Invariants*
//! 1. What is shown is what is in force: it is made from the values that the settings are read of.
//! 2. A value that may be a secret is never shown.

use std::fmt;
use std::sync::Arc;

use crate::config::error::shown;
use crate::config::values::Values;
use crate::config::{keys, properties};

/// The configuration that a producer runs with: every known key with the value in force, which were
/// adjusted, and why.
///
/// Its text is a properties file of the keys that were given or adjusted.
///
/// ```no_run
/// # fn example(producer: kafka_producer::Producer) {
/// let config = producer.config();
/// println!("a batch lingers for {:?} ms", config.value("linger.ms"));
/// for entry in config.iter() {
///     if let Some(reason) = entry.adjusted_because() {
///         println!("{} is {}: {reason}", entry.key(), entry.value());
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Configuration(Arc<[ConfigEntry]>);

/// One key of a [`Configuration`].
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    key: &'static str,
    value: String,
    given: Option<String>,
    adjusted_because: Option<String>,
}

impl Configuration {
    pub(crate) fn new(values: &Values) -> Self {
        let entries = keys::all().map(|key| ConfigEntry {
            key: key.name,
            value: shown(key.name, values.text(key.name)).to_owned(),
            given: values
                .given(key.name)
                .map(|given| shown(key.name, given).to_owned()),
            adjusted_because: values.adjusted(key.name).map(|one| one.reason.clone()),
        });
        Self(entries.collect())
    }

    /// The value in force; `None` for a name that Kafka's producer does not know.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entry(key).map(ConfigEntry::value)
    }

    /// A key's entry; `None` for a name that Kafka's producer does not know.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&ConfigEntry> {
        self.iter().find(|entry| entry.key == key)
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigEntry> {
        self.0.iter()
    }
}

impl ConfigEntry {
    /// The key, by Kafka's name.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The value in force; `[hidden]` if it may be a secret, empty if there is none.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The value that was given, by method, pair or file.
    #[must_use]
    pub fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    /// Why the value in force is neither the one given nor the default.
    #[must_use]
    pub fn adjusted_because(&self) -> Option<&str> {
        self.adjusted_because.as_deref()
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.iter() {
            if let Some(reason) = &entry.adjusted_because {
                write!(f, "# {}", entry.key)?;
                if let Some(given) = &entry.given {
                    write!(f, " was given as {given}")?;
                }
                writeln!(f, ": {reason}")?;
            }
            if entry.given.is_some() || entry.adjusted_because.is_some() {
                writeln!(f, "{}={}", entry.key, properties::escaped(&entry.value))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|entry| (entry.key, &entry.value));
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cross_checks::cross_check;
    use std::collections::BTreeMap;

    fn configuration(pairs: &[(&str, &str)]) -> Configuration {
        let owned = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        let mut values = Values::new(&owned.collect()).expect("each allowed");
        cross_check(&mut values).expect("together allowed");
        Configuration::new(&values)
    }

    #[test]
    fn what_is_in_force_is_shown_and_why() {
        let config = configuration(&[("client.id", "shop"), ("retry.backoff.ms", "5000")]);
        assert_eq!(config.value("client.id"), Some("shop"));
        assert_eq!(config.value("linger.ms"), Some("5"));
        assert_eq!(config.value("linger"), None);
        let entry = config.entry("retry.backoff.ms").expect("known");
        assert_eq!((entry.value(), entry.given()), ("1000", Some("5000")));
        let reason = entry.adjusted_because().expect("adjusted");
        assert!(reason.contains("retry.backoff.max.ms"), "{reason}");
        let adjusted: Vec<_> = config
            .iter()
            .filter(|entry| entry.adjusted_because().is_some())
            .map(ConfigEntry::key)
            .collect();
        assert_eq!(adjusted, ["retry.backoff.ms"]);
    }

    #[test]
    fn its_text_is_a_properties_file_of_what_was_given_or_adjusted() {
        let config = configuration(&[("client.id", "café\\b"), ("acks", "1")]);
        let read = properties::parse(&config.to_string()).expect("well formed");
        let read: BTreeMap<_, _> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("acks", "1"),
            ("client.id", "café\\b"),
            ("enable.idempotence", "false"),
        ];
        assert_eq!(read, BTreeMap::from(expected));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", configuration(&[]));
        let values = Values::unchecked(&[("ssl.key.password", "hunter2")]);
        let config = Configuration::new(&values);
        assert_eq!(config.value("ssl.key.password"), Some("[hidden]"));
        for text in [
            shown,
            format!("{config:?}{config}"),
            format!("{:?}", config.entry("ssl.key.password")),
        ] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
