//! The judge itself is judged: what it makes of cases that break and of brokers that talk nonsense.
//! Loopback TCP and the real clock.

use std::sync::Arc;
use std::time::Duration;

use kafka_conformance::case::{Case, Level, Objection};
use kafka_conformance::cases;
use kafka_conformance::divergence::Divergence;
use kafka_conformance::runner::{CaseResult, RunOptions, TargetOutcome, TargetReport, run_target};
use kafka_conformance::target::{Capabilities, Capability, MockTarget, Target, TargetKind};
use kafka_conformance::verdict::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A case that is no requirement, to see what the runner does with it.
fn stand_in(id: &'static str, run: fn(kafka_conformance::context::Context) -> CaseRun) -> Case {
    Case {
        id,
        level: Level::Wire,
        sentence: "stands in for a case",
        source: "-",
        needs: &[],
        run,
    }
}

type CaseRun = kafka_conformance::case::CaseFuture;

async fn run(target: Arc<dyn Target>, cases: &[Case]) -> Vec<CaseResult> {
    results(run_target(target, cases, &RunOptions::of_this_run(), |_, _| {}).await)
}

fn results(report: TargetReport) -> Vec<CaseResult> {
    match report.outcome {
        TargetOutcome::Ran { results, .. } => results,
        TargetOutcome::Unavailable(unavailable) => panic!("{unavailable}"),
    }
}

fn mock() -> MockTarget {
    MockTarget::start().unwrap_or_else(|unavailable| panic!("{unavailable}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_and_hang_fail_their_own_case_and_the_next_one_runs() {
    let cases = [
        stand_in("X-01", |_| Box::pin(async { panic!("boom {}", 1) })),
        stand_in("X-02", |_| panic!("before the first await")),
        stand_in("X-03", |_| Box::pin(std::future::pending())),
        stand_in("X-04", |_| Box::pin(async { Ok(()) })),
    ];
    let options = RunOptions {
        // Long enough for a panic to print its backtrace on a busy machine.
        case_time_out: Duration::from_secs(3),
        ..RunOptions::of_this_run()
    };
    let results = results(run_target(Arc::new(mock()), &cases, &options, |_, _| {}).await);
    let observed: Vec<&str> = results
        .iter()
        .map(|result| match &result.verdict {
            Verdict::Fail(objection) => objection.observed.as_str(),
            other => other.word(),
        })
        .collect();
    let expected = [
        "panicked: boom 1",
        "panicked: before the first await",
        "still running after 3000 ms",
        "pass",
    ];
    assert_eq!(observed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_divergence_is_excused_while_it_lasts_and_no_longer() {
    let known = [
        Divergence::new("X-01", TargetKind::Mock, "not modelled", "DESIGN.md"),
        Divergence::new("X-02", TargetKind::Mock, "not modelled", "DESIGN.md"),
    ];
    let cases = [
        stand_in("X-01", |_| {
            Box::pin(async { Err(Objection::new("step", 0, 1)) })
        }),
        stand_in("X-02", |_| Box::pin(async { Ok(()) })),
    ];
    let options = RunOptions {
        known: &known,
        ..RunOptions::of_this_run()
    };
    let results = results(run_target(Arc::new(mock()), &cases, &options, |_, _| {}).await);
    let words: Vec<&str> = results.iter().map(|result| result.verdict.word()).collect();
    assert_eq!(words, ["diverges", "PASSES?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_whose_need_is_not_met_is_skipped_with_the_reason() {
    let mut needy = stand_in("X-01", |_| Box::pin(async { Ok(()) }));
    needy.needs = &[Capability::Injection];
    let target = Bare {
        address: mock_address(),
    };
    let results = run(Arc::new(target), &[needy]).await;
    let reason = "the target lacks fault injection".to_owned();
    assert_eq!(results[0].verdict, Verdict::Skip { reason });
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_talks_nonsense_fails_every_case_and_breaks_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        // The first connection is the probe's: it is answered; all others get noise.
        let (mut probe, _) = listener.accept().await.unwrap();
        let _ = probe.read(&mut [0; 256]).await;
        let answer = [0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        probe.write_all(&answer).await.unwrap();
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                while matches!(client.read(&mut [0; 4096]).await, Ok(1..)) {
                    // A frame whose body claims two thousand million entries.
                    let noise = [0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff, 9];
                    // As many as a case can ask for in one write.
                    if client.write_all(&noise.repeat(50)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    // What nothing is known of can do nothing beyond answering.
    let wire: Vec<Case> = cases::all()
        .filter(|case| case.level == Level::Wire && case.needs.is_empty())
        .copied()
        .collect();
    let results = run(Arc::new(Bare { address }), &wire).await;
    for result in results {
        let Verdict::Fail(objection) = result.verdict else {
            panic!("{} passed", result.id)
        };
        assert_ne!(
            objection.step, "the case itself",
            "{}: {}",
            result.id, objection.observed
        );
    }
}

/// A broker at an address, of which nothing more is known.
#[derive(Debug)]
struct Bare {
    address: String,
}

impl Target for Bare {
    fn name(&self) -> &str {
        &self.address
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Address
    }

    fn bootstrap(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    fn broker_version(&self) -> Option<String> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

/// The address of a mock that lives as long as the test program.
fn mock_address() -> String {
    let mock = Box::leak(Box::new(mock()));
    mock.bootstrap().remove(0)
}
