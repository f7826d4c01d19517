//! Why a registry gave no id.

use std::fmt;
use std::time::Duration;

/// Why a registry gave no id: where it was asked, for what, and what it said.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryError {
    kind: RegistryErrorKind,
    asked: String,
    message: String,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// The URL is none that can be asked; nothing was.
    InvalidUrl,
    /// Nobody could be connected to, or the connection was lost.
    Unreachable,
    /// No answer came within this time.
    TimedOut(Duration),
    /// The registry refused.
    Refused {
        /// HTTP's status.
        status: u16,
        /// The registry's own code, if it gave one: 40401 for a subject it does not know, 409 for a
        /// schema that is not compatible, 42201 for one that is invalid.
        code: Option<u32>,
    },
    /// The answer could not be read.
    BadAnswer,
}

impl RegistryError {
    pub(super) fn new(
        kind: RegistryErrorKind,
        asked: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            asked: asked.into(),
            message: message.into(),
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> RegistryErrorKind {
        self.kind
    }

    /// Whether asking again may help: nobody answered, or the registry is at fault or overloaded.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self.kind {
            RegistryErrorKind::Unreachable | RegistryErrorKind::TimedOut(_) => true,
            RegistryErrorKind::Refused { status, .. } => status >= 500 || status == 429,
            RegistryErrorKind::InvalidUrl | RegistryErrorKind::BadAnswer => false,
        }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.asked)?;
        match self.kind {
            RegistryErrorKind::InvalidUrl => f.write_str("not a URL of a registry")?,
            RegistryErrorKind::Unreachable => f.write_str("unreachable")?,
            RegistryErrorKind::TimedOut(after) => write!(f, "no answer within {after:?}")?,
            RegistryErrorKind::Refused { status, code } => {
                write!(f, "refused with status {status}")?;
                if let Some(code) = code {
                    write!(f, ", code {code}")?;
                }
            }
            RegistryErrorKind::BadAnswer => f.write_str("unreadable answer")?,
        }
        match &*self.message {
            "" => Ok(()),
            message => write!(f, ": {message}"),
        }
    }
}

/// The same words as [`fmt::Display`]: what a `main` that returns the error prints.
impl fmt::Debug for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryError({self})")
    }
}

impl std::error::Error for RegistryError {}
