//! What `conformance fidelity` found, for people and for programs.

use std::io::{self, Write};

use serde_json::json;

use super::compare::Difference;
use super::rule::{Rule, Uses};
use super::run::Outcome;

/// What holding a target against a recording found.
#[derive(Clone, Debug)]
pub struct FidelityReport {
    /// The target, as on the command line.
    pub target: String,
    /// Whose answers were recorded.
    pub recording_of: String,
    /// Every case with what came of it.
    pub cases: Vec<(&'static str, Outcome)>,
    /// How often each rule was used on the target's side.
    pub uses: Uses,
}

/// The figures of a report.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Cases compared.
    pub compared: usize,
    /// Cases that the target cannot run.
    pub skipped: usize,
    /// Cases that have no exchanges in the recording, for a reason that it states.
    pub not_recorded: usize,
    /// Cases that the recording does not know.
    pub unknown: usize,
    /// Exchanges compared.
    pub exchanges: usize,
    /// Fields compared.
    pub fields: u64,
    /// Differences that no rule explains.
    pub differences: usize,
}

impl FidelityReport {
    /// The figures.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for (_, outcome) in &self.cases {
            match outcome {
                Outcome::Compared(comparison) => {
                    figures.compared += 1;
                    figures.exchanges += comparison.exchanges;
                    figures.fields += comparison.compared();
                    figures.differences += comparison.differences.len();
                }
                Outcome::Skipped(_) => figures.skipped += 1,
                Outcome::NotRecorded(_) => figures.not_recorded += 1,
                Outcome::Unknown => figures.unknown += 1,
            }
        }
        figures
    }

    /// Whether something was compared and everything is explained.
    pub fn succeeds(&self) -> bool {
        self.figures().compared > 0 && self.cases.iter().all(|(_, outcome)| outcome.is_good())
    }

    /// Every difference, with its case.
    pub fn differences(&self) -> impl Iterator<Item = (&'static str, &Difference)> {
        self.cases.iter().flat_map(|(id, outcome)| {
            let differences = match outcome {
                Outcome::Compared(comparison) => comparison.differences.as_slice(),
                _ => &[],
            };
            differences.iter().map(|difference| (*id, difference))
        })
    }
}

/// Differences shown of one case; the rest is counted, and all are in the JSON.
const SHOWN_MAX: usize = 10;

/// Writes the report for people.
///
/// # Errors
///
/// When `out` does.
pub fn write_console(report: &FidelityReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "case     exchanges   fields  differences")?;
    for (id, outcome) in &report.cases {
        match outcome {
            Outcome::Compared(comparison) => {
                let (exchanges, fields) = (comparison.exchanges, comparison.compared());
                let differences = comparison.differences.len();
                writeln!(
                    out,
                    "{id:<7}  {exchanges:>9}  {fields:>7}  {differences:>11}"
                )?;
            }
            Outcome::Skipped(reason) => writeln!(out, "{id:<7}  skip: {reason}")?,
            Outcome::NotRecorded(reason) => writeln!(out, "{id:<7}  not recorded: {reason}")?,
            Outcome::Unknown => writeln!(out, "{id:<7}  NO RECORDING")?,
        }
    }
    for (id, outcome) in &report.cases {
        if let Outcome::Compared(comparison) = outcome {
            write_differences(id, &comparison.differences, out)?;
        }
    }
    writeln!(out, "\nrule                 used  reason")?;
    for rule in Rule::ALL {
        let used = match report.uses.of(rule) {
            0 => "never".to_owned(),
            times => times.to_string(),
        };
        writeln!(out, "{rule:<15}  {used:>8}  {}", rule.reason())?;
    }
    write_figures(report, out)
}

fn write_differences(id: &str, differences: &[Difference], out: &mut dyn Write) -> io::Result<()> {
    for difference in differences.iter().take(SHOWN_MAX) {
        let Difference {
            step,
            ask,
            field,
            recorded,
            observed,
        } = difference;
        writeln!(out, "\nDIFFERENCE {id} step {step}, {ask}: {field}")?;
        writeln!(out, "  recorded  {}", cut(recorded))?;
        writeln!(out, "  observed  {}", cut(observed))?;
    }
    match differences.len().saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(out, "\n{id}: {more} more differences"),
    }
}

/// The beginning of a long text.
fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

fn write_figures(report: &FidelityReport, out: &mut dyn Write) -> io::Result<()> {
    let Figures {
        compared,
        skipped,
        not_recorded,
        unknown,
        exchanges,
        fields,
        differences,
    } = report.figures();
    let (target, recorded) = (&report.target, &report.recording_of);
    writeln!(out, "\n{target} against {recorded}:")?;
    writeln!(
        out,
        "  {compared} cases, {exchanges} exchanges, {fields} fields compared"
    )?;
    writeln!(out, "  {differences} unexplained differences")?;
    writeln!(
        out,
        "  {skipped} cases skipped, {not_recorded} not recorded, {unknown} unknown to the recording"
    )
}

/// Writes the report for programs, one JSON object a line: `case`, `field` (case × field with how
/// often it was compared and differed), `difference`, `rule`, `summary`.
///
/// # Errors
///
/// When `out` does.
pub fn write_json(report: &FidelityReport, out: &mut dyn Write) -> io::Result<()> {
    for (id, outcome) in &report.cases {
        let (word, reason) = match outcome {
            Outcome::Compared(_) => ("compared", None),
            Outcome::Skipped(reason) => ("skipped", Some(reason)),
            Outcome::NotRecorded(reason) => ("not recorded", Some(reason)),
            Outcome::Unknown => ("no recording", None),
        };
        let line = json!({ "type": "case", "case": id, "outcome": word, "reason": reason });
        writeln!(out, "{line}")?;
        let Outcome::Compared(comparison) = outcome else {
            continue;
        };
        for ((api, field), tally) in &comparison.fields {
            let line = json!({
                "type": "field", "case": id, "api": api, "field": field,
                "compared": tally.compared, "different": tally.different,
            });
            writeln!(out, "{line}")?;
        }
    }
    for (id, difference) in report.differences() {
        let Difference {
            step,
            ask,
            field,
            recorded,
            observed,
        } = difference;
        let line = json!({
            "type": "difference", "case": id, "step": step, "ask": ask, "field": field,
            "recorded": recorded, "observed": observed,
        });
        writeln!(out, "{line}")?;
    }
    for rule in Rule::ALL {
        let (name, used, reason) = (rule.name(), report.uses.of(rule), rule.reason());
        let line = json!({ "type": "rule", "rule": name, "used": used, "reason": reason });
        writeln!(out, "{line}")?;
    }
    let figures = report.figures();
    let line = json!({
        "type": "summary", "succeeds": report.succeeds(), "target": report.target,
        "recording_of": report.recording_of, "cases": figures.compared,
        "exchanges": figures.exchanges, "fields": figures.fields,
        "differences": figures.differences, "skipped": figures.skipped,
        "not_recorded": figures.not_recorded, "no_recording": figures.unknown,
    });
    writeln!(out, "{line}")
}
