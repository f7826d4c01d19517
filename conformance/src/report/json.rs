//! The report for programs: one JSON object a line.
//!
//! | `type` | one per | fields |
//! |---|---|---|
//! | `target` | target | `target`, `kind`, `outcome` (`ran`, `unavailable`), `version` or `reason` and `remedy` |
//! | `case` | case and target | `target`, `case`, `level`, `verdict`, `elapsed_ms`, `sentence`, `source`, and what the verdict has |
//! | `summary` | run | `succeeds`, `real_kafka_asked` |

use std::io::{self, Write};

use serde::Serialize;

use super::Report;
use crate::io::transcript::Frame;
use crate::runner::{CaseResult, TargetOutcome, TargetReport};
use crate::target::TargetKind;
use crate::verdict::Verdict;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Target(TargetLine<'a>),
    Case(CaseLine<'a>),
    Summary {
        succeeds: bool,
        real_kafka_asked: bool,
    },
}

#[derive(Serialize)]
struct TargetLine<'a> {
    target: &'a str,
    kind: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

#[derive(Serialize)]
struct CaseLine<'a> {
    target: &'a str,
    case: &'a str,
    level: String,
    verdict: &'static str,
    elapsed_ms: u128,
    sentence: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frames: Vec<FrameLine<'a>>,
}

#[derive(Serialize)]
struct FrameLine<'a> {
    direction: &'static str,
    what: &'a str,
    total_bytes: usize,
    hex: String,
}

/// Writes the report.
///
/// # Errors
///
/// When `out` does.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for target in &report.targets {
        write_line(&Line::Target(target_line(target)), out)?;
        for result in target.results() {
            write_line(&Line::Case(case_line(&target.name, result)), out)?;
        }
    }
    let summary = Line::Summary {
        succeeds: report.succeeds(),
        real_kafka_asked: report.real_not_asked().is_none(),
    };
    write_line(&summary, out)
}

fn write_line(line: &Line<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)
}

fn target_line(target: &TargetReport) -> TargetLine<'_> {
    let kind = match target.kind {
        TargetKind::Mock => "mock",
        TargetKind::Docker => "docker",
        TargetKind::Address => "address",
    };
    let (outcome, version, reason, remedy) = match &target.outcome {
        TargetOutcome::Ran { version, .. } => ("ran", Some(version.to_string()), None, None),
        TargetOutcome::Unavailable(unavailable) => {
            let remedy = Some(unavailable.remedy.as_str());
            (
                "unavailable",
                None,
                Some(unavailable.reason.as_str()),
                remedy,
            )
        }
    };
    TargetLine {
        target: &target.name,
        kind,
        outcome,
        version,
        reason,
        remedy,
    }
}

fn case_line<'a>(target: &'a str, result: &'a CaseResult) -> CaseLine<'a> {
    let (verdict, objection) = match &result.verdict {
        Verdict::Pass => ("pass", None),
        Verdict::Fail(objection) => ("fail", Some(objection)),
        Verdict::Skip { .. } => ("skip", None),
        Verdict::KnownDivergence { objection, .. } => ("known_divergence", Some(objection)),
        Verdict::UnexpectedPass { .. } => ("unexpected_pass", None),
    };
    let (reason, reason_source) = match &result.verdict {
        Verdict::Skip { reason } => (Some(reason.as_str()), None),
        Verdict::KnownDivergence { divergence, .. } | Verdict::UnexpectedPass { divergence } => {
            (Some(divergence.reason), Some(divergence.source))
        }
        Verdict::Pass | Verdict::Fail(_) => (None, None),
    };
    CaseLine {
        target,
        case: result.id,
        level: result.level.to_string(),
        verdict,
        elapsed_ms: result.elapsed.as_millis(),
        sentence: result.sentence,
        source: result.source,
        reason,
        reason_source,
        step: objection.map(|objection| objection.step.as_str()),
        expected: objection.map(|objection| objection.expected.as_str()),
        observed: objection.map(|objection| objection.observed.as_str()),
        frames: result.frames.iter().map(frame_line).collect(),
    }
}

fn frame_line(frame: &Frame) -> FrameLine<'_> {
    FrameLine {
        direction: frame.direction.word(),
        what: &frame.what,
        total_bytes: frame.total_bytes,
        hex: frame
            .head
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealKafka;
    use super::super::samples::{failing, missing};
    use super::*;

    #[test]
    fn json_report_has_a_line_per_target_case_and_run() {
        let report = Report {
            targets: vec![failing(), missing()],
            real: RealKafka::Optional,
        };
        let mut out = Vec::new();
        write(&report, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, include_str!("golden/report.jsonl"));
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
