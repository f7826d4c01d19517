//! Divergences that are known, by kind of target: each with its reason and its source.
//!
//! An entry is a debt, not an excuse: a case that passes although it is listed fails the run, so
//! that the list cannot outlive what it describes.

use crate::target::TargetKind;

/// One case that a kind of target is known not to satisfy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Divergence {
    /// The case.
    pub case: &'static str,
    /// The kind of target.
    pub target: TargetKind,
    /// Why it is accepted for now.
    pub reason: &'static str,
    /// Where that is stated or was observed.
    pub source: &'static str,
}

impl Divergence {
    /// An entry.
    pub const fn new(
        case: &'static str,
        target: TargetKind,
        reason: &'static str,
        source: &'static str,
    ) -> Self {
        Self {
            case,
            target,
            reason,
            source,
        }
    }
}

/// Every divergence that is known today.
pub const KNOWN: &[Divergence] = &[Divergence::new(
    "TXN-39",
    TargetKind::Docker,
    "4.3.1 takes a partition that nobody leads for one that was deleted: its marker is dropped, \
     the transaction ends without it, and readers of what is committed wait there until an \
     administrator ends it",
    "KAFKA-20734; KRaftMetadataCache.java getPartitionLeaderEndpoint; observed on 4.3.1",
)];

/// The entry of `known` for `case` on a target of that kind.
pub fn find<'a>(known: &'a [Divergence], case: &str, target: TargetKind) -> Option<&'a Divergence> {
    known
        .iter()
        .find(|entry| entry.case == case && entry.target == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_counts_for_its_case_and_kind_only() {
        let known = [Divergence::new("APV-05", TargetKind::Mock, "why", "where")];
        assert_eq!(find(&known, "APV-05", TargetKind::Mock), Some(&known[0]));
        assert_eq!(find(&known, "APV-05", TargetKind::Docker), None);
        assert_eq!(find(&known, "APV-03", TargetKind::Mock), None);
    }

    #[test]
    fn every_entry_names_a_case_a_reason_and_a_source() {
        for entry in KNOWN {
            assert!(
                crate::cases::all().any(|case| case.id == entry.case),
                "{}",
                entry.case
            );
            assert!(
                !entry.reason.is_empty() && !entry.source.is_empty(),
                "{}",
                entry.case
            );
        }
    }
}
