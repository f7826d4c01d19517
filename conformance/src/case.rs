//! A case: data, and one small async function over a [`Context`].
//!
//! A function returns `Ok(())` when the target did what the sentence says, and otherwise an
//! [`Objection`]: what was expected and what was observed, in words. It knows nothing of verdicts;
//! whether an objection is a failure or a known divergence is decided in `verdict.rs`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::context::Context;
use crate::target::Capability;

/// One requirement and how it is checked.
#[derive(Clone, Copy)]
pub struct Case {
    /// Chapter and number, such as `IDM-04`.
    pub id: &'static str,
    /// Who is judged.
    pub level: Level,
    /// The promise, in the present tense.
    pub sentence: &'static str,
    /// Where Kafka states or implements it.
    pub source: &'static str,
    /// Without these the case is skipped.
    pub needs: &'static [Capability],
    /// The check.
    pub run: fn(Context) -> CaseFuture,
}

/// A running check.
pub type CaseFuture = Pin<Box<dyn Future<Output = Result<(), Objection>> + Send>>;

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Who is judged by a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Raw frames judge the broker.
    Wire,
    /// The producer of this project is driven, and judged against the broker.
    Client,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wire => "wire",
            Self::Client => "client",
        })
    }
}

/// What a case objects to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Objection {
    /// Which step of the case.
    pub step: String,
    /// What the requirement asks for.
    pub expected: String,
    /// What was seen instead.
    pub observed: String,
}

impl Objection {
    /// In `step`, `observed` was seen instead of `expected`.
    pub fn new(
        step: impl fmt::Display,
        expected: impl fmt::Display,
        observed: impl fmt::Display,
    ) -> Self {
        Self {
            step: step.to_string(),
            expected: expected.to_string(),
            observed: observed.to_string(),
        }
    }

    /// The same objection, with the step that it was met in before its own.
    pub fn within(mut self, step: impl fmt::Display) -> Self {
        self.step = format!("{step}: {}", self.step);
        self
    }
}

/// Objects unless `observed` equals `expected`.
///
/// # Errors
///
/// The objection.
pub fn expect_eq<T: PartialEq + fmt::Display>(
    step: impl fmt::Display,
    expected: T,
    observed: T,
) -> Result<(), Objection> {
    match expected == observed {
        true => Ok(()),
        false => Err(Objection::new(step, expected, observed)),
    }
}
