//! The registry: every case, by chapter, in the order of the catalogue.
//!
//! A chapter is a file with a list of [`Case`]s (data) and one small function per case.

mod api_versions;
mod framing;
mod idempotence;
mod metadata;
mod produce;
mod record_batch;

use crate::case::Case;

/// The chapters in the order of reports.
const CHAPTERS: &[&[Case]] = &[
    framing::CASES,
    api_versions::CASES,
    metadata::CASES,
    produce::CASES,
    record_batch::CASES,
    idempotence::CASES,
];

/// All cases.
pub fn all() -> impl Iterator<Item = &'static Case> {
    CHAPTERS.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sorted_within_their_chapter() {
        for chapter in CHAPTERS {
            // Client cases stand in their chapter too: one order per prefix.
            assert!(chapter.is_sorted_by(|a, b| a.id < b.id), "{chapter:?}");
        }
        let mut ids: Vec<&str> = all().map(|case| case.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn every_case_states_its_promise_and_its_source() {
        for case in all() {
            assert!(
                case.sentence.len() > 20 && !case.sentence.ends_with('.'),
                "{}",
                case.id
            );
            assert!(!case.source.is_empty(), "{}", case.id);
        }
    }
}
