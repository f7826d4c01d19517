//! The mock held against what Apache Kafka answered, field by field; and a mock that answers
//! wrongly, which must be found out. Loopback TCP and the real clock.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::sync::Arc;

use kafka_conformance::case::{Case, Level};
use kafka_conformance::cases;
use kafka_conformance::fidelity::command::{golden, held};
use kafka_conformance::fidelity::recording::Recording;
use kafka_conformance::fidelity::report::{self, FidelityReport};
use kafka_conformance::fidelity::rule::Rule;
use kafka_conformance::fidelity::run::{self, Outcome, play, recording};
use kafka_conformance::runner::Schedules;
use kafka_conformance::target::{MockTarget, Target, TransactionVersion};
use kafka_mockbroker::{Api, ErrorCode, Rule as FaultRule, Verdict};

fn mock() -> MockTarget {
    MockTarget::of_one_broker(TransactionVersion::Newest)
        .unwrap_or_else(|unavailable| panic!("{unavailable}"))
}

fn kafka() -> Recording {
    golden(TransactionVersion::Newest).unwrap_or_else(|error| panic!("{error}"))
}

fn wire_cases(matches: impl Fn(&str) -> bool) -> Vec<Case> {
    cases::all()
        .filter(|case| case.level == Level::Wire && matches(case.id))
        .copied()
        .collect()
}

async fn played(target: MockTarget, cases: &[Case]) -> run::Played {
    play(Arc::new(target), (cases, Schedules::Judged), |_, _| {})
        .await
        .unwrap_or_else(|unavailable| panic!("{unavailable}"))
}

fn printed(report: &FidelityReport) -> String {
    let mut out = Vec::new();
    report::write_console(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mock_answers_every_wire_case_as_kafka_did_field_by_field() {
    let all = wire_cases(|_| true);
    let found = held(&played(mock(), &all).await, &kafka());
    assert!(found.succeeds(), "{}", printed(&found));
    let figures = found.figures();
    assert_eq!((figures.differences, figures.unknown), (0, 0));
    // A recording that no longer reads, or cases that ask nothing, must not pass as no difference.
    assert!(figures.exchanges > 3_000, "{figures:?}");
    assert!(figures.fields > 100_000, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mock_at_level_1_answers_as_kafka_did_field_by_field() {
    let level = TransactionVersion::One;
    let kafka = golden(level).unwrap_or_else(|error| panic!("{error}"));
    let mock = MockTarget::of_one_broker(level).unwrap_or_else(|error| panic!("{error}"));
    let those = cases::asked_at(level, &wire_cases(|_| true));
    let found = held(&played(mock, &those).await, &kafka);
    assert!(found.succeeds(), "{}", printed(&found));
    let figures = found.figures();
    assert_eq!((figures.differences, figures.unknown), (0, 0));
    assert!(figures.exchanges > 800, "{figures:?}");
    assert!(figures.fields > 15_000, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_of_the_mock_is_the_same_twice() {
    let some = wire_cases(|id| ["FRM-02", "MD-01", "PRD-17", "RBV-12", "IDM-19"].contains(&id));
    let mut texts = Vec::new();
    for _ in 0..2 {
        let recording = recording(played(mock(), &some).await).unwrap();
        let mut text = Vec::new();
        recording.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(Recording::read(&text).unwrap(), recording);
        texts.push(text);
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_field_is_found_and_named() {
    let target = mock();
    let rule = FaultRule::on(Api::Produce)
        .nth(1)
        .count(1)
        .then(Verdict::ApplyThenAnswer(ErrorCode(6)));
    let fault = target.mock().unwrap().inject(rule);
    let found = held(
        &played(target, &wire_cases(|id| id == "PRD-25")).await,
        &kafka(),
    );
    drop(fault);
    assert!(!found.succeeds());
    let codes = found.differences().filter(|(id, difference)| {
        *id == "PRD-25" && difference.field.ends_with("].error code") && difference.observed == "6"
    });
    assert_eq!(codes.count(), 500, "{}", printed(&found));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_that_nobody_recorded_fails_and_a_rule_never_used_is_told() {
    let mut kafka = kafka();
    kafka.cases.retain(|case| case.id != "FRM-12");
    let found = held(
        &played(mock(), &wire_cases(|id| id == "FRM-12")).await,
        &kafka,
    );
    assert!(!found.succeeds());
    assert!(matches!(found.cases[..], [("FRM-12", Outcome::Unknown)]));
    let text = printed(&found);
    assert!(text.contains("FRM-12   NO RECORDING"), "{text}");
    assert_eq!(found.uses.of(Rule::BrokerTime), 0);
    assert!(text.contains("broker time         never"), "{text}");
}
