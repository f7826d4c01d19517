//! What a world did, line by line, so that two runs can be compared and one can be read.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// Whether the lines of a run are kept: most of a run's time would go into writing them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Yes.
    #[default]
    Kept,
    /// No: the trace stays empty.
    Dropped,
}

/// The lines of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<String>,
    tracing: Tracing,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(tracing: Tracing) -> Self {
        Self {
            lines: Vec::new(),
            tracing,
        }
    }

    /// Adds a line.
    pub fn note(&mut self, says: impl fmt::Display, at: Duration) {
        if self.tracing == Tracing::Dropped {
            return;
        }
        self.lines
            .push(format!("{:>12.3} ms  {says}", at.as_secs_f64() * 1_000.0));
    }

    /// One number for the whole run: equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        // Keyed with constants, so the same in every process.
        let mut hasher = DefaultHasher::new();
        for line in &self.lines {
            hasher.write(line.as_bytes());
            hasher.write_u8(b'\n');
        }
        hasher.finish()
    }

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
