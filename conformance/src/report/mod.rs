//! What a run found, and what follows from it.
//!
//! *Invariants*
//! 1. A run in which no case ran never succeeds.
//! 2. Whether real Kafka was asked is always said; when it was not, the last lines say so, why,
//!    and what mends it, and [`RealKafka::Required`] makes the run fail.

pub mod console;
pub mod json;
pub mod junit;

use std::fmt;

use crate::runner::{CaseResult, TargetOutcome, TargetReport};
use crate::verdict::Verdict;

/// Whether a run may succeed without real Kafka.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RealKafka {
    /// It may, with a loud notice.
    Optional,
    /// It may not.
    Required,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of the command line.
    pub targets: Vec<TargetReport>,
    /// What the run was asked for.
    pub real: RealKafka,
}

/// How many cases got which verdict.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Did not run.
    pub skip: usize,
    /// Failed as listed.
    pub known_divergence: usize,
    /// Passed although listed.
    pub unexpected_pass: usize,
}

impl Totals {
    /// The totals of `results`.
    pub fn of(results: &[CaseResult]) -> Self {
        let mut totals = Self::default();
        for result in results {
            *match result.verdict {
                Verdict::Pass => &mut totals.pass,
                Verdict::Fail(_) => &mut totals.fail,
                Verdict::Skip { .. } => &mut totals.skip,
                Verdict::KnownDivergence { .. } => &mut totals.known_divergence,
                Verdict::UnexpectedPass { .. } => &mut totals.unexpected_pass,
            } += 1;
        }
        totals
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pass,
            fail,
            skip,
            known_divergence,
            unexpected_pass,
        } = self;
        write!(f, "{pass} pass, {fail} fail, {skip} skip, ")?;
        write!(
            f,
            "{known_divergence} known divergence, {unexpected_pass} unexpected pass"
        )
    }
}

impl Report {
    /// Whether the run succeeds.
    pub fn succeeds(&self) -> bool {
        let results = || self.targets.iter().flat_map(TargetReport::results);
        let ran = results().any(|result| !matches!(result.verdict, Verdict::Skip { .. }));
        let good = results().all(|result| result.verdict.is_good());
        let mock_there = self.targets.iter().all(|target| {
            target.kind.is_real() || matches!(target.outcome, TargetOutcome::Ran { .. })
        });
        let real_enough = self.real == RealKafka::Optional || self.real_not_asked().is_none();
        ran && good && mock_there && real_enough
    }

    /// Why real Kafka was not asked, target by target, as (target, why, remedy); `None` when it
    /// was and nothing that was named is missing.
    pub fn real_not_asked(&self) -> Option<Vec<(String, String, String)>> {
        let real = || self.targets.iter().filter(|target| target.kind.is_real());
        let missing: Vec<_> = real()
            .filter_map(|target| match &target.outcome {
                TargetOutcome::Ran { .. } => None,
                TargetOutcome::Unavailable(unavailable) => Some((
                    target.name.clone(),
                    unavailable.reason.clone(),
                    unavailable.remedy.clone(),
                )),
            })
            .collect();
        if real().next().is_none() {
            let why = "no target of this run is a real Kafka".to_owned();
            let remedy =
                "make conformance, which names both: --target mock --target docker".to_owned();
            return Some(vec![("real Kafka".to_owned(), why, remedy)]);
        }
        (!missing.is_empty()).then_some(missing)
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! A run to print: every verdict once.

    use std::time::Duration;

    use super::*;
    use crate::case::{Level, Objection};
    use crate::divergence::Divergence;
    use crate::io::transcript::{Direction, Frame, Transcript};
    use crate::probe::BrokerVersion;
    use crate::target::{TargetKind, Unavailable};

    fn result(id: &'static str, verdict: Verdict) -> CaseResult {
        CaseResult {
            id,
            sentence: "the promise of the case",
            source: "Some.java",
            level: Level::Wire,
            verdict,
            elapsed: Duration::from_millis(1_250),
            frames: Vec::new(),
            transcript: Transcript::default(),
        }
    }

    fn objection() -> Objection {
        Objection::new(
            "Produce v12, repeat",
            "code 0 NONE\nbase offset 0",
            "code 45",
        )
    }

    fn divergence() -> Divergence {
        Divergence::new("APV-01", TargetKind::Mock, "not modelled", "DESIGN.md")
    }

    pub(crate) fn passing(name: &str, kind: TargetKind) -> TargetReport {
        TargetReport {
            name: name.to_owned(),
            kind,
            outcome: TargetOutcome::Ran {
                version: BrokerVersion::Told("Apache Kafka 4.3.1".to_owned()),
                results: vec![
                    result("IDM-03", Verdict::Pass),
                    result("IDM-04", Verdict::Pass),
                ],
            },
        }
    }

    pub(crate) fn failing() -> TargetReport {
        let mut failed = result("IDM-04", Verdict::Fail(objection()));
        failed.frames = vec![Frame {
            direction: Direction::Sent,
            what: "Produce v12 to 127.0.0.1:9092".to_owned(),
            total_bytes: 600,
            head: bytes::Bytes::from_static(b"\x00\x00\x00\x0crecords"),
        }];
        let version = BrokerVersion::AtLeast {
            release: "4.2",
            api: "ListOffsets",
            max: 11,
        };
        let skip = Verdict::Skip {
            reason: "the target lacks three brokers".to_owned(),
        };
        let known = Verdict::KnownDivergence {
            objection: objection(),
            divergence: divergence(),
        };
        let unexpected = Verdict::UnexpectedPass {
            divergence: divergence(),
        };
        let results = vec![
            result("IDM-03", skip),
            failed,
            result("APV-01", known),
            result("APV-02", unexpected),
        ];
        let outcome = TargetOutcome::Ran { version, results };
        TargetReport {
            name: "mock".to_owned(),
            kind: TargetKind::Mock,
            outcome,
        }
    }

    pub(crate) fn missing() -> TargetReport {
        TargetReport {
            name: "docker".to_owned(),
            kind: TargetKind::Docker,
            outcome: TargetOutcome::Unavailable(Unavailable::new(
                "no Docker engine answers",
                "systemctl start docker",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::samples::{failing, missing, passing};
    use super::*;
    use crate::target::TargetKind;

    fn mock() -> TargetReport {
        passing("mock", TargetKind::Mock)
    }

    fn kafka() -> TargetReport {
        passing("docker", TargetKind::Docker)
    }

    #[rstest]
    #[case(vec![mock(), kafka()], RealKafka::Required, true)]
    #[case(vec![mock(), missing()], RealKafka::Optional, true)]
    #[case(vec![mock(), missing()], RealKafka::Required, false)]
    #[case(vec![mock()], RealKafka::Optional, true)]
    #[case(vec![mock()], RealKafka::Required, false)]
    #[case(vec![mock(), kafka(), missing()], RealKafka::Required, false)]
    #[case(vec![failing(), kafka()], RealKafka::Optional, false)]
    #[case(vec![missing()], RealKafka::Optional, false)]
    #[case(vec![], RealKafka::Optional, false)]
    fn run_succeeds_only_when_something_ran_well_and_what_is_required_was_asked(
        #[case] targets: Vec<TargetReport>,
        #[case] real: RealKafka,
        #[case] succeeds: bool,
    ) {
        assert_eq!(Report { targets, real }.succeeds(), succeeds);
    }

    #[test]
    fn skips_alone_are_no_success() {
        let mut target = failing();
        if let TargetOutcome::Ran { results, .. } = &mut target.outcome {
            results.truncate(1);
        }
        assert!(
            !Report {
                targets: vec![target],
                real: RealKafka::Optional
            }
            .succeeds()
        );
    }

    #[test]
    fn mock_that_does_not_start_fails_the_run() {
        let mut mock = missing();
        mock.kind = TargetKind::Mock;
        let report = Report {
            targets: vec![mock, kafka()],
            real: RealKafka::Optional,
        };
        assert!(!report.succeeds());
    }
}
