//! The judge sees what it should: each planted defect is found, by the law that it breaks.
//!
//! The number beside each is how many seeds were needed, doubled: more means that the workloads or
//! the laws have become blind.

use std::time::Duration;

use kafka_mockbroker::Api;
use kafka_producer::Acks;
use kafka_producer::engine::Idempotence;
use promises::defect::Defect;
use promises::draw::Workload;
use promises::faults::{Fault, Step, run};
use promises::oracle::Law;
use rstest::rstest;

#[rstest]
#[case(Defect::RetryRenumbered, Law::D3SingleCopy, 8)]
#[case(Defect::RetryInNewEpoch, Law::D3SingleCopy, 8)]
#[case(Defect::PartRenumbered, Law::Q2SequenceContinuous, 4)]
#[case(Defect::SequencesReused, Law::Q1SequenceUnique, 12)]
#[case(Defect::RetryOvertaken, Law::O1SendOrder, 40)]
#[case(Defect::RetryForgotten, Law::D3SingleCopy, 8)]
#[case(Defect::TimeOutIsFailure, Law::D5FailureAbsent, 12)]
#[case(Defect::DuplicateIsFailure, Law::D5FailureAbsent, 30)]
#[case(Defect::OffsetOffByOne, Law::D2OffsetTruth, 4)]
#[case(Defect::OffsetOfRetry, Law::D2OffsetTruth, 4)]
#[case(Defect::AnswerOfAnother, Law::D2OffsetTruth, 4)]
#[case(Defect::RecordForgotten, Law::P1SingleResolution, 4)]
#[case(Defect::BatchResolvedTwice, Law::P1SingleResolution, 4)]
#[case(Defect::FlushReturnsEarly, Law::P3FlushComplete, 28)]
#[case(Defect::OldLeaderFollowed, Law::Q5Routing, 4)]
#[case(Defect::ThrottleIgnored, Law::Q6Mute, 98)]
#[case(Defect::VersionsIgnored, Law::Q7VersionLegal, 108)]
#[case(Defect::KeyHashSigned, Law::O6KeyPlacement, 4)]
#[case(Defect::MemoryKept, Law::P4CloseComplete, 106)]
#[case(Defect::LogForgets, Law::D1AckedDurable, 4)]
#[case(Defect::ReplicasNotAwaited, Law::D1AckedDurable, 64)]
#[case(Defect::ReplicasNotAwaited, Law::D9PrefixDurable, 100)]
#[case(Defect::MinIsrIgnored, Law::D10VisibleHeld, 100)]
#[case(Defect::LogRewritten, Law::D7StableLog, 4)]
#[case(Defect::LogRewritten, Law::D9PrefixDurable, 4)]
#[case(Defect::RecordChanged, Law::D4NoPhantom, 4)]
#[case(Defect::RefusalNotTold, Law::T2CommittedVisible, 6)]
#[case(Defect::CommitAfterFailure, Law::T2CommittedVisible, 6)]
#[case(Defect::UnansweredIsFailure, Law::T1AbortedInvisible, 8)]
#[case(Defect::EpochNotRaised, Law::T3Atomic, 4)]
#[case(Defect::EpochNotRaised, Law::T1AbortedInvisible, 4)]
#[case(Defect::NobodyIsFenced, Law::T6Fenced, 74)]
#[case(Defect::StableOffsetIgnored, Law::T4NotBeforeCommit, 4)]
#[case(Defect::MarkersLost, Law::T9NothingHangs, 6)]
fn a_planted_defect_is_found_by_its_law(
    #[case] defect: Defect,
    #[case] law: Law,
    #[case] seeds: u64,
) {
    let workload = match defect {
        Defect::RetryOvertaken => Workload::Idempotent,
        Defect::PartRenumbered => Workload::Compression,
        Defect::MemoryKept => Workload::SmallMemory,
        Defect::EpochNotRaised => Workload::TransactionsOfVersionOne,
        Defect::RefusalNotTold
        | Defect::CommitAfterFailure
        | Defect::UnansweredIsFailure
        | Defect::NobodyIsFenced
        | Defect::StableOffsetIgnored
        | Defect::MarkersLost => Workload::Transactions,
        _ => Workload::Mixed,
    };
    let draw = |seed: u64| {
        let mut plan = workload.draw(seed);
        plan.setting.defect = Some(defect);
        if defect == Defect::RetryOvertaken {
            // Whose order depends on it: one request at a time, and nothing else.
            plan.setting.idempotence = Idempotence::Disabled;
            plan.setting.acks = Acks::All;
            plan.setting.in_flight_max = 1;
            plan.setting.batch_bytes = 0;
        }
        if defect == Defect::EpochNotRaised {
            // What it is about: ends that arrive long after their senders gave them up.
            let strand = |second| {
                let fault = Fault::Strand(Api::EndTxn, Duration::from_secs(4));
                (Duration::from_secs(second), Step::Fault(fault))
            };
            plan.steps.extend((1..20).map(strand));
            plan.steps.sort_by_key(|(at, _)| *at);
        }
        plan
    };
    let found_by = (0..seeds).find(|seed| run(&draw(*seed)).broken.contains(&law));
    println!("{defect:?} breaks {law:?} in seed {found_by:?} of {workload}");
    let Some(seed) = found_by else {
        panic!("{law:?} did not notice {defect:?} in {seeds} seeds");
    };
    let mut honest = draw(seed);
    honest.setting.defect = None;
    let complaint = run(&honest).complaint;
    assert_eq!(complaint, None, "and without the defect");
}
