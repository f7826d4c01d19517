//! The judge sees what it should: each planted defect is found, by the law that it breaks.

use promises::defect::Defect;
use promises::faults::{Plan, broken_laws, run};
use promises::oracle::Law;
use rstest::rstest;

/// Seeds in which a defect must show itself.
const SEEDS: u64 = 60;

#[rstest]
#[case(Defect::RetryRenumbered, Law::D3SingleCopy)]
#[case(Defect::RetryForgotten, Law::D3SingleCopy)]
#[case(Defect::TimeOutIsFailure, Law::D5FailureAbsent)]
#[case(Defect::OffsetOffByOne, Law::D2OffsetTruth)]
#[case(Defect::RecordForgotten, Law::P1SingleResolution)]
#[case(Defect::BatchResolvedTwice, Law::P1SingleResolution)]
#[case(Defect::LogForgets, Law::D1AckedDurable)]
#[case(Defect::RecordChanged, Law::D4NoPhantom)]
fn a_planted_defect_is_found_by_its_law(#[case] defect: Defect, #[case] law: Law) {
    let finds = |seed: &u64| {
        let mut plan = Plan::draw(*seed);
        plan.setting.defect = Some(defect);
        broken_laws(&run(&plan)).contains(&law)
    };
    let found_by = (0..SEEDS).find(finds);
    println!("{defect:?} is found by seed {found_by:?}");
    assert!(
        found_by.is_some(),
        "{law:?} did not notice {defect:?} in {SEEDS} seeds"
    );
}
