//! What is wrong with a configuration, told so that it can be put right: key, value, allowed range.
//!
//! *Invariants*
//! 1. A value that may be a secret is never shown.

use std::fmt;

/// Why a producer could not be built.
///
/// Its text names the key, the value that was given, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    kind: ConfigErrorKind,
    key: String,
    value: String,
    explanation: String,
}

/// The kind of a [`ConfigError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// No key of Kafka's producer has this name.
    UnknownKey,
    /// The value cannot be read, or is out of range.
    InvalidValue,
    /// A key without a default was not given.
    Missing,
    /// Each value is allowed, but not the two together.
    Conflict,
    /// Kafka's own producer has what the key asks for; this one does not.
    NotSupported,
    /// A properties file cannot be read, or is none.
    Unreadable,
    /// The producer was built where it cannot run: outside a tokio runtime, or on one without
    /// timers.
    NoRuntime,
}

impl ConfigError {
    /// What kind of mistake it is.
    #[must_use]
    pub fn kind(&self) -> ConfigErrorKind {
        self.kind
    }

    /// The key, by Kafka's name; empty when no key is at fault.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value that was given; empty when none was, hidden when it may be a secret.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn unknown_key(key: &str, value: &str, nearest: &str) -> Self {
        let explanation = format!("unknown key; the nearest known key is {nearest}");
        Self::new(ConfigErrorKind::UnknownKey, (key, value), explanation)
    }

    pub(crate) fn invalid(key: &str, value: &str, allowed: &str) -> Self {
        let explanation = format!("not allowed; allowed: {allowed}");
        Self::new(ConfigErrorKind::InvalidValue, (key, value), explanation)
    }

    pub(crate) fn missing(key: &str, allowed: &str) -> Self {
        let explanation = format!("must be given; allowed: {allowed}");
        Self::new(ConfigErrorKind::Missing, (key, ""), explanation)
    }

    pub(crate) fn conflict(key: &str, value: &str, explanation: String) -> Self {
        Self::new(ConfigErrorKind::Conflict, (key, value), explanation)
    }

    /// A value that asks for what there is not; `instead` says what is done.
    pub(crate) fn not_supported(key: &str, value: &str, allowed: &str, instead: &str) -> Self {
        let explanation = match allowed {
            "" => format!("not supported by this producer: {instead}; leave it out"),
            _ => format!("not supported by this producer: {instead}; allowed: {allowed}"),
        };
        Self::new(ConfigErrorKind::NotSupported, (key, value), explanation)
    }

    pub(crate) fn given_in_code(key: &str, value: &str, method: &str) -> Self {
        let explanation = format!("there are no classes to load; use {method}");
        Self::new(ConfigErrorKind::NotSupported, (key, value), explanation)
    }

    pub(crate) fn unreadable(explanation: String) -> Self {
        Self::new(ConfigErrorKind::Unreadable, ("", ""), explanation)
    }

    pub(crate) fn no_runtime(explanation: &str) -> Self {
        Self::new(ConfigErrorKind::NoRuntime, ("", ""), explanation.to_owned())
    }

    fn new(kind: ConfigErrorKind, (key, value): (&str, &str), explanation: String) -> Self {
        Self {
            kind,
            key: key.to_owned(),
            value: shown(key, value).to_owned(),
            explanation,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), self.kind) {
            ("", _) => write!(f, "{}", self.explanation),
            (key, ConfigErrorKind::Missing) => write!(f, "{key}: {}", self.explanation),
            (key, _) => write!(f, "{key}={}: {}", self.value, self.explanation),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A value as it may be shown.
pub(crate) fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    match may_be_secret(key) && !value.is_empty() {
        true => HIDDEN,
        false => value,
    }
}

/// Whether a key, known or mistyped, is of Kafka's type `PASSWORD` or close to it.
fn may_be_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| key.contains(part))
}

const HIDDEN: &str = "[hidden]";

const SECRET_PARTS: [&str; 8] = [
    "password",
    "passphrase",
    "secret",
    "jaas",
    "keystore.key",
    "private.key",
    "certificate",
    "token",
];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("sasl.jaas.config")]
    #[case("ssl.key.password")]
    #[case("ssl.key.pasword.password")]
    #[case("SASL.JAAS.CONFIG")]
    #[case("sasl.oauthbearer.client.credentials.client.secret")]
    #[case("ssl.keystore.certificate.chain")]
    #[case("ssl.truststore.certificates")]
    fn a_secret_is_not_shown(#[case] key: &str) {
        let error = ConfigError::not_supported(key, "hunter2", "the default", "nothing");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(error.value(), HIDDEN);
    }

    #[test]
    fn the_text_names_key_value_and_what_is_allowed() {
        let error = ConfigError::invalid("linger.ms", "-1", "0 to 5");
        assert_eq!(
            error.to_string(),
            "linger.ms=-1: not allowed; allowed: 0 to 5"
        );
    }
}
