//! What a world did, line by line, so that two runs can be compared and one can be read.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// The lines of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<String>,
}

impl Trace {
    /// Adds a line.
    pub fn note(&mut self, says: impl fmt::Display, at: Duration) {
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
