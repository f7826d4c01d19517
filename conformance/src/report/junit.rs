//! The report for CI systems: JUnit XML, one test suite per target.
//!
//! A known divergence is a skip with its reason, as JUnit has no word for it; a target that was
//! not there is a suite with one test, skipped or, when real Kafka is required, an error.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{RealKafka, Report};
use crate::io::transcript::{FRAME_BYTES_MAX, Frame};
use crate::runner::{CaseResult, TargetOutcome, TargetReport};
use crate::target::Unavailable;
use crate::verdict::Verdict;
use crate::wire::hex;

/// Writes the report.
///
/// # Errors
///
/// When `out` does.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut junit = quick_junit::Report::new("kafka-conformance");
    let mut total = Duration::ZERO;
    for target in &report.targets {
        let elapsed: Duration = target.results().iter().map(|result| result.elapsed).sum();
        total += elapsed;
        junit.add_test_suite(suite(target, report.real, elapsed));
    }
    junit.set_time(total);
    junit.serialize(out).map_err(io::Error::other)
}

fn suite(target: &TargetReport, real: RealKafka, elapsed: Duration) -> TestSuite {
    let mut suite = TestSuite::new(target.name.as_str());
    suite.set_time(elapsed);
    match &target.outcome {
        TargetOutcome::Ran { version, results } => {
            suite.add_property(("broker.version", version.to_string().as_str()));
            suite.add_test_cases(results.iter().map(|result| test_case(&target.name, result)));
        }
        TargetOutcome::Unavailable(unavailable) => {
            suite.add_test_case(absent(&target.name, unavailable, real));
        }
    }
    suite
}

fn absent(target: &str, unavailable: &Unavailable, real: RealKafka) -> TestCase {
    let mut status = match real {
        RealKafka::Required => TestCaseStatus::non_success(NonSuccessKind::Error),
        RealKafka::Optional => TestCaseStatus::skipped(),
    };
    let Unavailable { reason, remedy } = unavailable;
    status.set_message(format!(
        "{target} was not asked: {reason}; to mend it: {remedy}"
    ));
    let mut case = TestCase::new("target answers", status);
    case.set_classname(target);
    case
}

fn test_case(target: &str, result: &CaseResult) -> TestCase {
    let mut case = TestCase::new(format!("{} {}", result.id, result.sentence), status(result));
    case.set_classname(format!("{target}.{}", result.level));
    case.set_time(result.elapsed);
    case
}

fn status(result: &CaseResult) -> TestCaseStatus {
    match &result.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Skip { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason.as_str());
            status
        }
        Verdict::KnownDivergence { divergence, .. } => {
            let mut status = TestCaseStatus::skipped();
            let (reason, source) = (divergence.reason, divergence.source);
            status.set_message(format!("known divergence: {reason} ({source})"));
            status
        }
        Verdict::UnexpectedPass { divergence } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let reason = divergence.reason;
            status.set_message(format!("passes, although listed as a divergence: {reason}"));
            status
        }
        Verdict::Fail(objection) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("{}: not as expected", objection.step));
            let frames: String = result.frames.iter().map(dump).collect();
            let (expected, observed) = (&objection.expected, &objection.observed);
            status.set_description(format!(
                "source: {}\nexpected:\n{expected}\nobserved:\n{observed}\n{frames}",
                result.source
            ));
            status
        }
    }
}

fn dump(frame: &Frame) -> String {
    let Frame {
        direction,
        what,
        total_bytes,
        head,
    } = frame;
    let hex = hex::dump(head, FRAME_BYTES_MAX);
    format!("{} {what} ({total_bytes} bytes)\n{hex}", direction.word())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{failing, missing};
    use super::*;

    fn printed(real: RealKafka) -> String {
        let report = Report {
            targets: vec![failing(), missing()],
            real,
        };
        let mut out = Vec::new();
        write(&report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn junit_report_has_a_suite_per_target_and_a_test_per_case() {
        assert_eq!(
            printed(RealKafka::Optional),
            include_str!("golden/junit.xml")
        );
    }

    #[test]
    fn missing_target_is_an_error_when_real_kafka_is_required() {
        let text = printed(RealKafka::Required);
        assert!(
            text.contains("<error message=\"docker was not asked: no Docker engine"),
            "{text}"
        );
    }
}
