//! The whole suite on the mock, and on a mock that does wrong: the judge passes the one and
//! convicts the other. Loopback TCP and the real clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_conformance::case::{Case, Level};
use kafka_conformance::cases;
use kafka_conformance::runner::{CaseResult, RunOptions, TargetOutcome, run_target};
use kafka_conformance::target::{MockTarget, Target, TransactionVersion};
use kafka_conformance::verdict::Verdict;
use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict as Fault};

fn case(id: &str) -> Case {
    *cases::all()
        .find(|case| case.id == id)
        .unwrap_or_else(|| panic!("no case {id}"))
}

async fn run(target: MockTarget, cases: &[Case]) -> Vec<CaseResult> {
    let options = RunOptions::of_this_run();
    let report = run_target(Arc::new(target), cases, &options, |_, _| {}).await;
    match report.outcome {
        TargetOutcome::Ran { results, .. } => results,
        TargetOutcome::Unavailable(unavailable) => panic!("{unavailable}"),
    }
}

/// Why the mock may skip a case.
const LACKING: [&str; 3] = [
    "the target lacks partitions that can be given other brokers",
    "the target lacks transactions",
    "the target lacks Kafka's own consumer",
];

fn mock() -> MockTarget {
    MockTarget::start().unwrap_or_else(|unavailable| panic!("{unavailable}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn mock_passes_every_case_that_it_can_be_asked() {
    let all: Vec<Case> = cases::all().copied().collect();
    expect_good(mock(), &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mock_at_level_1_passes_every_case_that_depends_on_it() {
    let level = TransactionVersion::One;
    let all: Vec<Case> = cases::all().copied().collect();
    let those = cases::asked_at(level, &all);
    let mock = MockTarget::at_level(level);
    expect_good(mock.unwrap_or_else(|error| panic!("{error}")), &those).await;
}

async fn expect_good(target: MockTarget, all: &[Case]) {
    let results = run(target, all).await;
    assert_eq!(results.len(), all.len());
    let bad: Vec<String> = results
        .iter()
        .filter(|result| match &result.verdict {
            Verdict::Pass => false,
            Verdict::Skip { reason } => !LACKING.contains(&reason.as_str()),
            _ => true,
        })
        .map(|result| format!("{}: {:?}", result.id, result.verdict))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_accepts_a_wrong_checksum_is_convicted_with_the_frames() {
    let target = mock();
    let fault = target.mock().unwrap().inject(
        Rule::on(Api::Produce)
            .always()
            .then(Fault::ApplyThenAnswer(ErrorCode(0))),
    );
    let results = run(target, &[case("RBV-01")]).await;
    let Verdict::Fail(objection) = &results[0].verdict else {
        panic!("{:?}", results[0])
    };
    assert!(
        objection.expected.contains("code 2 CORRUPT_MESSAGE"),
        "{objection:?}"
    );
    assert!(objection.observed.contains("code 0 NONE"), "{objection:?}");
    let sent = results[0]
        .frames
        .iter()
        .rfind(|frame| frame.what.starts_with("Produce v3"));
    assert!(sent.is_some_and(|frame| frame.head.starts_with(&[0, 0, 0, 3])));
    drop(fault);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_answers_without_storing_is_convicted_by_the_log() {
    let target = mock();
    let fault = target.mock().unwrap().inject(
        Rule::on(Api::Produce)
            .always()
            .then(Fault::Answer(ErrorCode(0))),
    );
    let results = run(target, &[case("PRD-02"), case("IDM-03")]).await;
    for result in &results {
        assert!(matches!(result.verdict, Verdict::Fail(_)), "{result:?}");
    }
    drop(fault);
}

/// A case that no wrong broker can fail proves nothing: each one about producing must convict at
/// least one of three. Those that start brokers of their own have theirs in `level3_mutations.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn every_produce_and_idempotence_case_convicts_some_wrong_broker() {
    let chapters = ["PRD-", "RBV-", "IDM-"];
    let judged: Vec<Case> = cases::all()
        .filter(|case| case.level == Level::Wire && case.needs.is_empty())
        .filter(|case| chapters.iter().any(|chapter| case.id.starts_with(chapter)))
        .copied()
        .collect();
    let wrongs = [
        (Api::Produce, Fault::ApplyThenAnswer(ErrorCode(0))),
        (Api::Produce, Fault::Answer(ErrorCode(87))),
        (Api::InitProducerId, Fault::ApplyThenAnswer(ErrorCode(31))),
    ];
    let mut acquitted: BTreeSet<&str> = judged.iter().map(|case| case.id).collect();
    for (api, wrong) in wrongs {
        let target = mock();
        let fault = target
            .mock()
            .unwrap()
            .inject(Rule::on(api).always().then(wrong));
        for result in run(target, &judged).await {
            if let Verdict::Fail(_) = result.verdict {
                acquitted.remove(result.id);
            }
        }
        drop(fault);
    }
    // What PRD-04 wants is a closed connection, and PRD-18 has no row that could be wrong; the
    // next test has a broker that does neither.
    assert_eq!(acquitted, BTreeSet::from(["PRD-04", "PRD-18"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_stays_silent_where_kafka_closes_or_answers_is_convicted() {
    let target = mock();
    let rule = Rule::on(Api::Produce).always().then(Fault::Swallow);
    let fault = target.mock().unwrap().inject(rule);
    let waits = [(case("PRD-04"), 5_000), (case("PRD-18"), 15_000)];
    let results = run(target, &waits.map(|(case, _)| case)).await;
    for (result, (_, wait_ms)) in results.iter().zip(waits) {
        let Verdict::Fail(objection) = &result.verdict else {
            panic!("{result:?}")
        };
        assert_eq!(objection.observed, format!("nothing within {wait_ms} ms"));
    }
    drop(fault);
}
