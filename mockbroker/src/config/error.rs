//! What is wrong with a configuration: which key, which value, what is allowed.

use core::fmt;

use crate::nearest;

/// A configuration that cannot be: which key, which value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    key: String,
    value: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    UnknownKey { nearest: Option<&'static str> },
    BadValue { allowed: String },
}

impl ConfigError {
    /// A value that is outside of what is allowed.
    pub(crate) fn bad_value(
        key: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        let reason = Reason::BadValue {
            allowed: allowed.into(),
        };
        Self {
            key: key.into(),
            value: value.into(),
            reason,
        }
    }

    pub(crate) fn unknown_key(key: &str, value: &str, known: &'static [&'static str]) -> Self {
        let nearest = nearest::name(key, known);
        Self {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: Reason::UnknownKey { nearest },
        }
    }

    /// The same of a key with another name.
    pub(super) fn of_key(self, key: &str) -> Self {
        Self {
            key: key.into(),
            ..self
        }
    }

    /// The same of the whole value of which a part is wrong.
    pub(super) fn of_value(self, value: &str) -> Self {
        Self {
            value: value.into(),
            ..self
        }
    }

    /// The key that is wrong or whose value is.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value as it was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the key allows; `None` when the key itself is unknown.
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        match &self.reason {
            Reason::BadValue { allowed } => Some(allowed),
            Reason::UnknownKey { .. } => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, reason } = self;
        match reason {
            Reason::BadValue { allowed } => {
                write!(out, "{key} cannot be `{value}`: allowed is {allowed}")
            }
            Reason::UnknownKey {
                nearest: Some(nearest),
            } => {
                write!(
                    out,
                    "{key} (set to `{value}`) is no key that the mock models; "
                )?;
                write!(out, "the nearest is {nearest}")
            }
            Reason::UnknownKey { nearest: None } => {
                write!(
                    out,
                    "{key} (set to `{value}`) is no key that the mock models"
                )
            }
        }
    }
}

impl core::error::Error for ConfigError {}
