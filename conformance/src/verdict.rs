//! From a case's end to its verdict.
//!
//! *State*
//!
//! ```text
//!                     divergence listed for this case and kind of target?
//! case ended with     no                    yes
//! ------------------  --------------------  ------------------------------
//! nothing to object   Pass                  UnexpectedPass   (fails a run)
//! an objection        Fail  (fails a run)   KnownDivergence
//! panic, time-out     Fail  (fails a run)   Fail             (fails a run)
//! missing capability  Skip                  Skip
//! ```
//!
//! *Invariants*
//! 1. Nothing that did not run is a pass.
//! 2. A panic or a time-out is never excused by a listed divergence: it is a defect of the case or
//!    a hang, not the divergence that was described.

use crate::case::Objection;
use crate::divergence::Divergence;
use crate::target::Capability;

/// How a case ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It ran through and had nothing to object.
    Satisfied,
    /// It objected.
    Objected(Objection),
    /// It did not end by itself: a panic or the time-out, as an objection to the judge.
    Broke(Objection),
    /// It could not run on this target.
    Missing(Capability),
}

/// What the report says of a case on a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The target does what the case says.
    Pass,
    /// It does not.
    Fail(Objection),
    /// The case did not run.
    Skip {
        /// Why.
        reason: String,
    },
    /// It does not, and that is listed with a reason.
    KnownDivergence {
        /// What was seen.
        objection: Objection,
        /// The entry.
        divergence: Divergence,
    },
    /// It does, although the opposite is listed: the entry must go.
    UnexpectedPass {
        /// The entry.
        divergence: Divergence,
    },
}

/// The verdict on a case that ended so, with the divergence listed for it if there is one.
pub fn judge(ending: Ending, known: Option<&Divergence>) -> Verdict {
    match (ending, known) {
        (Ending::Satisfied, None) => Verdict::Pass,
        (Ending::Satisfied, Some(divergence)) => Verdict::UnexpectedPass {
            divergence: divergence.clone(),
        },
        (Ending::Objected(objection), None) => Verdict::Fail(objection),
        (Ending::Objected(objection), Some(divergence)) => Verdict::KnownDivergence {
            objection,
            divergence: divergence.clone(),
        },
        (Ending::Broke(objection), _) => Verdict::Fail(objection),
        (Ending::Missing(capability), _) => Verdict::Skip {
            reason: format!("the target lacks {capability}"),
        },
    }
}

impl Verdict {
    /// One or two words for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "FAIL",
            Self::Skip { .. } => "skip",
            Self::KnownDivergence { .. } => "diverges",
            Self::UnexpectedPass { .. } => "PASSES?",
        }
    }

    /// Whether a run with this verdict may succeed.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Pass | Self::Skip { .. } | Self::KnownDivergence { .. } => true,
            Self::Fail(_) | Self::UnexpectedPass { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection() -> Objection {
        Objection::new("answer", "0", "45")
    }

    fn divergence() -> Divergence {
        Divergence::new("IDM-04", crate::target::TargetKind::Mock, "why", "where")
    }

    #[test]
    fn satisfied_case_passes_and_shames_a_listed_divergence() {
        assert_eq!(judge(Ending::Satisfied, None), Verdict::Pass);
        let verdict = judge(Ending::Satisfied, Some(&divergence()));
        assert_eq!(
            verdict,
            Verdict::UnexpectedPass {
                divergence: divergence()
            }
        );
        assert!(!verdict.is_good());
    }

    #[test]
    fn objection_fails_unless_the_divergence_is_listed() {
        let verdict = judge(Ending::Objected(objection()), None);
        assert_eq!(verdict, Verdict::Fail(objection()));
        assert!(!verdict.is_good());
        let verdict = judge(Ending::Objected(objection()), Some(&divergence()));
        assert!(matches!(verdict, Verdict::KnownDivergence { .. }));
        assert!(verdict.is_good());
    }

    #[test]
    fn panic_is_never_excused() {
        for known in [None, Some(&divergence())] {
            assert_eq!(
                judge(Ending::Broke(objection()), known),
                Verdict::Fail(objection())
            );
        }
    }

    #[test]
    fn missing_capability_is_a_skip_with_its_reason_and_never_a_pass() {
        for known in [None, Some(&divergence())] {
            let verdict = judge(Ending::Missing(Capability::Injection), known);
            let reason = "the target lacks fault injection".to_owned();
            assert_eq!(verdict, Verdict::Skip { reason });
        }
    }
}
