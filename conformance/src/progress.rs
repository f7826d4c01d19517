//! The progress line on standard error.
//!
//! On a terminal one line is rewritten; elsewhere a plain line comes at the start of a target and
//! every few seconds, so that a log shows that a long run is alive and stays short.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::case::Case;

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where progress is told.
#[derive(Debug)]
pub struct Progress<W> {
    out: W,
    style: Style,
    told: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Rewritten,
    Plain,
}

impl Progress<std::io::Stderr> {
    /// On standard error, in the style that fits it.
    pub fn on_stderr() -> Self {
        let out = std::io::stderr();
        let style = if out.is_terminal() {
            Style::Rewritten
        } else {
            Style::Plain
        };
        Self {
            out,
            style,
            told: None,
        }
    }
}

impl<W: Write> Progress<W> {
    /// Tells that `target` is being started.
    pub fn starting(&mut self, target: &str) {
        self.told = None;
        self.line(&format!("{target}: starting"));
    }

    /// Tells that case `index` of `count` starts at `now`.
    pub fn case(
        &mut self,
        target: &str,
        (index, count): (usize, usize),
        case: &Case,
        now: Instant,
    ) {
        let due = self
            .told
            .is_none_or(|told| now.duration_since(told) >= PLAIN_EVERY);
        if self.style == Style::Rewritten || due {
            self.told = Some(now);
            self.line(&format!("{target}: {} of {count}, {}", index + 1, case.id));
        }
    }

    /// Clears the line: a report follows.
    pub fn finish(&mut self) {
        if self.style == Style::Rewritten {
            self.line("");
        }
    }

    fn line(&mut self, text: &str) {
        // Progress is a courtesy: a closed standard error must not fail the run.
        let _ = match self.style {
            Style::Rewritten => write!(self.out, "\r\x1b[K{text}"),
            Style::Plain => writeln!(self.out, "{text}"),
        };
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_progress_tells_the_start_and_then_every_few_seconds() {
        let mut progress = Progress {
            out: Vec::new(),
            style: Style::Plain,
            told: None,
        };
        let case = crate::cases::all().next().unwrap();
        let start = Instant::now();
        progress.starting("mock");
        for second in 0..11 {
            let now = start + Duration::from_secs(second);
            let index = usize::try_from(second).unwrap();
            progress.case("mock", (index, 40), case, now);
        }
        progress.finish();
        let text = String::from_utf8(progress.out).unwrap();
        let expected = "mock: starting\nmock: 1 of 40, FRM-01\nmock: 6 of 40, FRM-01\n\
                        mock: 11 of 40, FRM-01\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn terminal_progress_rewrites_one_line_and_clears_it() {
        let mut progress = Progress {
            out: Vec::new(),
            style: Style::Rewritten,
            told: None,
        };
        progress.starting("mock");
        progress.finish();
        let text = String::from_utf8(progress.out).unwrap();
        assert_eq!(text, "\r\x1b[Kmock: starting\r\x1b[K");
    }
}
