//! The registry: every case, by chapter, in the order of the catalogue.
//!
//! A chapter is a file or several, each with a list of [`Case`]s (data) and one small function per
//! case.

mod api_versions;
mod batch_header;
mod batch_limits;
mod batch_records;
mod batch_round_trip;
mod client_idempotence;
mod client_metadata;
mod client_ordering;
mod client_produce;
mod client_versions;
mod cluster;
mod delivery;
mod driven;
mod framing;
mod framing_limits;
mod idempotence;
mod leader_changes;
mod metadata;
mod metadata_cluster;
mod ordering;
mod produce;
mod produce_fields;
mod produce_replicas;
mod producer_restart;
mod producer_state;
mod quotas;
mod record_batch;
mod time_outs;

use crate::case::Case;

/// The chapters in the order of reports, each of one file or several.
const CHAPTERS: &[&[&[Case]]] = &[
    &[framing::CASES, framing_limits::CASES],
    &[api_versions::CASES, client_versions::CASES],
    &[
        metadata::CASES,
        metadata_cluster::CASES,
        client_metadata::CASES,
    ],
    &[
        produce::CASES,
        produce_fields::CASES,
        produce_replicas::CASES,
        client_produce::CASES,
    ],
    &[
        record_batch::CASES,
        batch_header::CASES,
        batch_limits::CASES,
        batch_records::CASES,
        batch_round_trip::CASES,
    ],
    &[
        idempotence::CASES,
        producer_state::CASES,
        producer_restart::CASES,
        client_idempotence::CASES,
    ],
    &[leader_changes::CASES],
    &[time_outs::CASES],
    &[quotas::CASES],
    &[ordering::CASES, client_ordering::CASES],
    &[delivery::CASES],
];

/// All cases, by chapter and within it by id.
pub fn all() -> impl Iterator<Item = &'static Case> {
    CHAPTERS.iter().flat_map(|files| {
        let mut cases: Vec<&Case> = files.iter().copied().flatten().collect();
        cases.sort_by_key(|case| case.id);
        cases
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sorted_within_their_file() {
        for file in CHAPTERS.iter().copied().flatten() {
            assert!(file.is_sorted_by(|a, b| a.id < b.id), "{file:?}");
        }
        let mut ids: Vec<&str> = all().map(|case| case.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    /// The first issue of cases; more may be added, none may go.
    const PROMISED: &str = "FRM-01 FRM-02 FRM-04 FRM-09 FRM-10 FRM-12 APV-01 APV-02 APV-03 APV-05 \
        MD-01 MD-02 MD-04 PRD-01 PRD-02 PRD-03 PRD-04 PRD-05 PRD-11 PRD-12 PRD-13 PRD-21 PRD-23 \
        PRD-27 PRD-29 PRD-30 RBV-01 RBV-03 RBV-04 RBV-06 RBV-07 RBV-09 RBV-19 IDM-01 IDM-03 IDM-04 \
        IDM-06 IDM-07 IDM-08 IDM-11 IDM-12 IDM-13 IDM-18 IDM-22 ORD-01";

    #[test]
    fn every_case_that_was_promised_exists_and_runs_on_any_target() {
        for id in PROMISED.split_whitespace() {
            let case = all().find(|case| case.id == id);
            let case = case.unwrap_or_else(|| panic!("{id} is missing"));
            assert!(case.needs.is_empty(), "{id} would be skipped somewhere");
        }
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
