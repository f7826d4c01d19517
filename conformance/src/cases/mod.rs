//! The registry: every case, by chapter, in the order of the catalogue.
//!
//! A chapter is a file or several, each with a list of [`Case`]s (data) and one small function per
//! case.

mod api_versions;
mod batch_header;
mod batch_limits;
mod batch_records;
mod batch_round_trip;
mod brokers_elsewhere;
mod client_idempotence;
mod client_metadata;
mod client_ordering;
mod client_produce;
mod client_versions;
mod cluster;
mod copy_job;
mod delivery;
mod driven;
mod eos_cluster;
mod eos_faults;
mod eos_held_end;
mod eos_levels;
mod eos_recorded;
mod eos_requests;
mod eos_transactions;
mod framing;
mod framing_limits;
mod group_deletion;
mod idempotence;
mod leader_changes;
mod leader_faults;
mod metadata;
mod metadata_cluster;
mod ordering;
mod ordering_restart;
mod produce;
mod produce_fields;
mod produce_replicas;
mod producer_restart;
mod producer_state;
mod quotas;
mod record_batch;
mod split;
mod time_outs;
mod time_outs_on_paths;
mod transaction_ends;
mod transactions;
mod txn_busy;
mod txn_client;
mod txn_client_doubt;
mod txn_client_errors;
mod txn_client_hidden;
mod txn_client_waits;
mod txn_described;
mod txn_markers;
mod txn_offsets;
mod txn_stage;
mod txn_states;

use crate::case::Case;
use crate::target::{Capability, TargetSpec, TransactionVersion};

/// The chapters in the order of reports, each of one file or several.
const CHAPTERS: &[&[&[Case]]] = &[
    &[framing::CASES, framing_limits::CASES],
    &[api_versions::CASES, client_versions::CASES],
    &[
        metadata::CASES,
        metadata_cluster::CASES,
        client_metadata::CASES,
        brokers_elsewhere::CASES,
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
    &[
        transactions::CASES,
        transaction_ends::CASES,
        txn_states::CASES,
        txn_busy::CASES,
        txn_offsets::CASES,
        txn_described::CASES,
        txn_client::CASES,
        txn_client_doubt::CASES,
        txn_client_errors::CASES,
        txn_client_hidden::CASES,
        txn_client_waits::CASES,
        txn_markers::CASES,
    ],
    &[group_deletion::CASES],
    &[leader_changes::CASES, leader_faults::CASES],
    &[time_outs::CASES, time_outs_on_paths::CASES],
    &[quotas::CASES],
    &[
        ordering::CASES,
        client_ordering::CASES,
        ordering_restart::CASES,
    ],
    &[
        eos_faults::CASES,
        copy_job::CASES,
        eos_cluster::CASES,
        eos_transactions::CASES,
        eos_held_end::CASES,
        eos_levels::CASES,
        eos_recorded::CASES,
        eos_requests::CASES,
    ],
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

/// Without transactions, the same at any level, or at a level of their own; they take long, too.
const AT_ANY_LEVEL: [&str; 9] = [
    "EOS-01", "EOS-02", "EOS-03", "EOS-04", "EOS-05", "EOS-19", "EOS-23", "TXN-35", "TXN-38",
];

/// Whether what a case sees may depend on the level of `transaction.version`.
pub fn depends_on_transaction_version(case: &Case) -> bool {
    let chapters = ["TXN-", "EOS-"];
    let of_transactions = chapters.iter().any(|chapter| case.id.starts_with(chapter));
    of_transactions && !AT_ANY_LEVEL.contains(&case.id)
}

/// Those that one node can be asked and that say more where three are.
const ON_THREE_TOO: [&str; 3] = ["IDM-01", "PRD-21", "EOS-09"];

/// Whether a case is asked of three real brokers: if it needs them, or says more there.
pub fn asked_of_three(case: &Case) -> bool {
    case.needs.contains(&Capability::ThreeNodes) || ON_THREE_TOO.contains(&case.id)
}

/// Those that three real brokers are asked when they are named: another one shows the same there,
/// and each costs the start of a broker, or the end of a session.
const SHOWN_BY: [(&str, &str); 6] = [
    ("LDR-01", "EOS-02"),
    ("LDR-02", "EOS-07"),
    ("LDR-12", "EOS-03"),
    ("LDR-16", "EOS-13"),
    ("LDR-20", "EOS-05"),
    ("LDR-23", "EOS-02"),
];

/// The client case whose schedules are recorded; those of wire cases are with the rest of them. Its
/// verdicts are the same at any level.
pub const RECORDED_CLIENT: &str = "EOS-20";

/// How cases were chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// Nobody chose: all.
    All,
    /// By filters.
    Named,
}

/// Those that a target is asked, by what its name says.
pub fn asked_of(spec: &TargetSpec, (cases, choice): (&[Case], Choice)) -> Vec<Case> {
    let is_shown = |case: &Case| SHOWN_BY.iter().any(|(id, _)| *id == case.id);
    match spec {
        TargetSpec::ThreeBrokers { .. } => {
            let asked = cases.iter().filter(|case| asked_of_three(case));
            let asked = asked.filter(|case| choice == Choice::Named || !is_shown(case));
            asked.copied().collect()
        }
        other => asked_at(other.transactions(), cases),
    }
}

/// Those that a target with that level is asked: all, but for an older level only where it matters.
pub fn asked_at(level: TransactionVersion, cases: &[Case]) -> Vec<Case> {
    let asked = |case: &&Case| match level {
        TransactionVersion::Newest => true,
        TransactionVersion::One => depends_on_transaction_version(case),
    };
    cases.iter().filter(asked).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::target::Capabilities;

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

    /// A line of the table.
    struct Row {
        id: &'static str,
        level: &'static str,
        places: Vec<&'static str>,
        waits_for: Option<&'static str>,
    }

    /// The table that says which cases there are.
    fn catalogue() -> Vec<Row> {
        let lines = include_str!("catalogue.tsv").lines();
        let lines = lines.filter(|line| !line.starts_with('#')).skip(1);
        let row = |line: &'static str| {
            let mut fields = line.split('\t');
            let mut next = || fields.next();
            Row {
                id: next().unwrap(),
                level: next().unwrap_or_else(|| panic!("{line}: who is judged?")),
                places: next().unwrap_or_default().split(' ').collect(),
                waits_for: next(),
            }
        };
        lines.map(row).collect()
    }

    #[test]
    fn the_program_has_the_cases_of_the_table_and_no_others() {
        let rows = catalogue();
        let count = rows.len();
        let by_id: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.id, row)).collect();
        assert_eq!(by_id.len(), count, "an id stands twice");
        let built: BTreeMap<&str, String> = all()
            .map(|case| (case.id, case.level.to_string()))
            .collect();
        let promised: BTreeMap<&str, String> = rows
            .iter()
            .filter(|row| row.waits_for.is_none())
            .map(|row| (row.id, row.level.to_owned()))
            .collect();
        assert_eq!(built, promised);
    }

    /// Promised on three nodes, where only the mock can do what they need so far: it moves
    /// coordinators, holds markers, answers codes and counts questions, when it is told to.
    const BY_THE_MOCK_ALONE: [&str; 2] = ["LDR-03", "LDR-10"];

    #[test]
    fn what_can_run_on_real_kafka_is_promised_there_and_the_other_way_round() {
        let anywhere = [
            Capability::OwnBrokers,
            Capability::Restart,
            Capability::Pause,
            Capability::Transactions,
        ];
        let one_node = Capabilities::of(&anywhere).with(Capability::OwnConsumer);
        let three = Capabilities::of(&anywhere)
            .with(Capability::ThreeNodes)
            .with(Capability::Isolation)
            .with(Capability::LeaderMoves)
            .with(Capability::Reassignment);
        for row in catalogue() {
            let known = ["mock", "one", "three", "secured"];
            assert!(row.places.iter().all(|at| known.contains(at)), "{}", row.id);
            let Some(case) = all().find(|case| case.id == row.id) else {
                continue;
            };
            let missing = one_node.first_missing(case.needs);
            let promised = row.places.contains(&"one");
            assert_eq!(promised, missing.is_none(), "{}: {missing:?}", row.id);
            let missing = three.first_missing(case.needs);
            let runs = asked_of_three(case) && missing.is_none();
            let promised = row.places.contains(&"three") && !BY_THE_MOCK_ALONE.contains(&row.id);
            assert_eq!(promised, runs, "{} on three: {missing:?}", row.id);
        }
    }

    #[test]
    fn three_brokers_are_asked_what_needs_them_and_little_else() {
        let spec: TargetSpec = "docker-3".parse().unwrap();
        let all: Vec<Case> = all().copied().collect();
        let asked = asked_of(&spec, (&all, Choice::All));
        let others = asked
            .iter()
            .filter(|case| !case.needs.contains(&Capability::ThreeNodes));
        let others: Vec<&str> = others.map(|case| case.id).collect();
        assert_eq!(others, ["PRD-21", "IDM-01", "EOS-09"]);
        let named = asked_of(&spec, (&all, Choice::Named));
        let has = |cases: &[Case], id: &str| cases.iter().any(|case| case.id == id);
        for (shown, by) in SHOWN_BY {
            assert!(has(&named, shown) && !has(&asked, shown), "{shown}");
            assert!(has(&asked, by), "{by}");
        }
        assert_eq!(named.len(), asked.len() + SHOWN_BY.len());
        let one = asked_of(&"docker".parse().unwrap(), (&all, Choice::All));
        assert_eq!(one.len(), all.len());
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
