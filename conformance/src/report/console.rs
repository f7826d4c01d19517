//! The report for people: a table of cases and targets, the failures, the totals with a line for
//! each failure (whoever sees only the end of a long log learns what failed), and last of all
//! whether real Kafka was asked.

use std::io::{self, Write};

use super::{RealKafka, Report, Totals};
use crate::io::transcript::{FRAME_BYTES_MAX, Frame};
use crate::runner::{CaseResult, TargetOutcome, TargetReport};
use crate::verdict::Verdict;
use crate::wire::hex;

/// Writes the report.
///
/// # Errors
///
/// When `out` does.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write_table(report, out)?;
    for target in &report.targets {
        for result in target.results() {
            write_detail(&target.name, result, out)?;
        }
    }
    writeln!(out)?;
    for target in &report.targets {
        write_totals(target, out)?;
    }
    write_notice(report, out)
}

fn write_table(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let ran: Vec<&TargetReport> = report
        .targets
        .iter()
        .filter(|target| !target.results().is_empty())
        .collect();
    // A target of an older level is asked fewer cases.
    let longest = ran.iter().rev().max_by_key(|target| target.results().len());
    let Some(longest) = longest else {
        return Ok(());
    };
    write!(out, "{:<ID_WIDTH$}", "case")?;
    for target in &ran {
        write!(
            out,
            "  {:<width$}",
            target.name,
            width = column_width(target)
        )?;
    }
    writeln!(out, "  promise")?;
    for row in longest.results() {
        write!(out, "{:<ID_WIDTH$}", row.id)?;
        for target in &ran {
            let mut results = target.results().iter();
            let result = results.find(|result| result.id == row.id);
            let word = result.map_or("", |result| result.verdict.word());
            write!(out, "  {word:<width$}", width = column_width(target))?;
        }
        writeln!(out, "  {}", row.sentence)?;
    }
    Ok(())
}

const ID_WIDTH: usize = 7;
const NOT_ASKED: &str = "REAL KAFKA WAS NOT ASKED";

fn column_width(target: &TargetReport) -> usize {
    const WORD_WIDTH: usize = 8;
    target.name.chars().count().max(WORD_WIDTH)
}

fn write_detail(target: &str, result: &CaseResult, out: &mut dyn Write) -> io::Result<()> {
    let CaseResult {
        id,
        sentence,
        source,
        ..
    } = result;
    let mut head = |word: &str| {
        writeln!(out, "\n{word} {id} on {target}: {sentence}")?;
        writeln!(out, "  source    {source}")
    };
    match &result.verdict {
        Verdict::Pass => return Ok(()),
        Verdict::Skip { reason } => return writeln!(out, "\nskip {id} on {target}: {reason}"),
        Verdict::UnexpectedPass { divergence } => {
            head("PASSES?")?;
            writeln!(
                out,
                "  listed    {} ({})",
                divergence.reason, divergence.source
            )?;
            return writeln!(out, "  but it passes: take the entry out of the list");
        }
        Verdict::KnownDivergence { divergence, .. } => {
            head("diverges")?;
            writeln!(
                out,
                "  listed    {} ({})",
                divergence.reason, divergence.source
            )?;
        }
        Verdict::Fail(_) => head("FAIL")?,
    }
    if let Verdict::Fail(objection) | Verdict::KnownDivergence { objection, .. } = &result.verdict {
        writeln!(out, "  step      {}", objection.step)?;
        write_block("expected", &objection.expected, out)?;
        write_block("observed", &objection.observed, out)?;
    }
    result
        .frames
        .iter()
        .try_for_each(|frame| write_frame(frame, out))
}

fn write_block(word: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    for (index, line) in text.lines().enumerate() {
        let word = if index == 0 { word } else { "" };
        writeln!(out, "  {word:<8}  {line}")?;
    }
    Ok(())
}

fn write_frame(frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    let Frame {
        direction,
        what,
        total_bytes,
        head,
    } = frame;
    writeln!(
        out,
        "  {:<8}  {what} ({total_bytes} bytes)",
        direction.word()
    )?;
    for line in hex::dump(head, FRAME_BYTES_MAX).lines() {
        writeln!(out, "            {line}")?;
    }
    match total_bytes - head.len() {
        0 => Ok(()),
        more => writeln!(out, "            … {more} bytes more"),
    }
}

fn write_totals(target: &TargetReport, out: &mut dyn Write) -> io::Result<()> {
    let name = &target.name;
    match &target.outcome {
        TargetOutcome::Unavailable(unavailable) => {
            writeln!(out, "{name}: not asked: {}", unavailable.reason)
        }
        TargetOutcome::Ran { version, results } => {
            let seconds: f64 = results
                .iter()
                .map(|result| result.elapsed.as_secs_f64())
                .sum();
            let totals = Totals::of(results);
            writeln!(
                out,
                "{name}: {totals} in {seconds:.1} s; answered by {version}"
            )?;
            results
                .iter()
                .filter(|result| !result.verdict.is_good())
                .try_for_each(|result| write_failure(result, out))
        }
    }
}

/// A failure in a line.
fn write_failure(result: &CaseResult, out: &mut dyn Write) -> io::Result<()> {
    let word = result.verdict.word();
    let seconds = result.elapsed.as_secs_f64();
    write!(out, "  {word} {} after {seconds:.1} s", result.id)?;
    match &result.verdict {
        Verdict::Fail(objection) => {
            let step = beginning(&objection.step);
            let expected = beginning(&objection.expected);
            let observed = beginning(&objection.observed);
            writeln!(out, ": {step}: expected {expected}; observed {observed}")
        }
        _ => writeln!(out),
    }
}

/// The beginning of a text's first line, `…` where there is more.
fn beginning(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let line = text.lines().next().unwrap_or_default();
    let mut cut: String = line.chars().take(CHARS_MAX).collect();
    if cut.len() < text.trim_end().len() {
        cut.push('…');
    }
    cut
}

fn write_notice(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(missing) = report.real_not_asked() else {
        return Ok(());
    };
    let some = report
        .targets
        .iter()
        .any(|target| target.kind.is_real() && matches!(target.outcome, TargetOutcome::Ran { .. }));
    let head = if some {
        "NOT EVERY KAFKA THAT WAS NAMED WAS ASKED"
    } else {
        NOT_ASKED
    };
    writeln!(out, "\n!!! {head}")?;
    for (target, why, remedy) in missing {
        writeln!(out, "!!! {target}: {why}")?;
        writeln!(out, "!!! to mend it: {remedy}")?;
    }
    match report.real {
        RealKafka::Required => writeln!(out, "!!! real Kafka is required: this run fails"),
        RealKafka::Optional => {
            writeln!(
                out,
                "!!! a run with --require-real or CONFORMANCE_REQUIRE_REAL=1 would fail"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{failing, missing, passing};
    use super::*;
    use crate::target::TargetKind;

    fn printed(targets: Vec<TargetReport>, real: RealKafka) -> String {
        let mut out = Vec::new();
        write(&Report { targets, real }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn console_report_shows_every_verdict_with_expected_observed_and_hex() {
        let kafka = passing("docker", TargetKind::Docker);
        let text = printed(vec![failing(), kafka], RealKafka::Required);
        assert_eq!(text, include_str!("golden/console.txt"));
    }

    #[test]
    fn verdict_stands_in_the_row_of_its_case() {
        let mut fewer = failing();
        if let TargetOutcome::Ran { results, .. } = &mut fewer.outcome {
            results.remove(0);
        }
        let text = printed(vec![fewer, failing()], RealKafka::Optional);
        let words = |row: usize| -> Vec<&str> {
            let line = text.lines().nth(row).unwrap_or_default();
            line.split_whitespace().skip(1).take(2).collect()
        };
        assert_ne!(
            words(1)[0],
            words(1)[1],
            "the first has no such case: {text}"
        );
        assert_eq!(words(2)[0], words(2)[1], "{text}");
    }

    #[test]
    fn last_lines_say_that_real_kafka_was_not_asked_why_and_what_mends_it() {
        for real in [RealKafka::Optional, RealKafka::Required] {
            let text = printed(vec![passing("mock", TargetKind::Mock), missing()], real);
            let tail = text.split("\n!!! ").skip(1).collect::<Vec<_>>();
            assert_eq!(tail[0], "REAL KAFKA WAS NOT ASKED");
            assert_eq!(tail[1], "docker: no Docker engine answers");
            assert_eq!(tail[2], "to mend it: systemctl start docker");
            assert_eq!(
                tail[3].contains("this run fails"),
                real == RealKafka::Required
            );
            assert_eq!(tail.len(), 4, "nothing comes after the notice");
        }
    }

    #[test]
    fn failures_are_told_again_in_a_line_each_at_the_end() {
        let there = passing("docker", TargetKind::Docker);
        let text = printed(vec![failing(), there], RealKafka::Required);
        let (_, end) = text.split_once("\nmock: ").unwrap();
        let told: Vec<&str> = end.lines().filter(|line| line.starts_with("  ")).collect();
        let failure = "FAIL IDM-04 after 1.2 s: Produce v12, repeat: expected code 0 NONE…; \
                       observed code 45";
        assert_eq!(
            told.len(),
            2,
            "no line for what passes or is skipped: {end}"
        );
        assert_eq!(told[0].trim_start(), failure);
        assert_eq!(told[1].trim_start(), "PASSES? APV-02 after 1.2 s");
    }

    #[test]
    fn line_of_a_failure_is_short() {
        let long = "é".repeat(1_000);
        let cut = beginning(&long);
        assert_eq!(cut.chars().count(), 121, "{cut}");
        assert_eq!(beginning("all of it\n"), "all of it");
        assert_eq!(beginning(""), "");
    }

    #[test]
    fn notice_tells_one_missing_kafka_from_none_at_all() {
        let there = passing("127.0.0.1:9092", TargetKind::Address);
        let text = printed(vec![there, missing()], RealKafka::Optional);
        assert!(
            text.contains("\n!!! NOT EVERY KAFKA THAT WAS NAMED WAS ASKED\n"),
            "{text}"
        );
        assert!(!text.contains(NOT_ASKED), "{text}");
    }

    #[test]
    fn run_that_asked_real_kafka_has_no_notice() {
        let text = printed(
            vec![passing("docker", TargetKind::Docker)],
            RealKafka::Required,
        );
        assert!(!text.contains("!!!"), "{text}");
        assert!(text.ends_with("answered by Apache Kafka 4.3.1\n"), "{text}");
    }
}
