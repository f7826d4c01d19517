//! Cases played for a recording, or against one.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::compare::{Comparison, Difference, compare};
use super::exchange::{Exchange, exchanges};
use super::normal::{CaseOf, normalise};
use super::recording::{RecordedCase, Recording};
use super::rule::{Rule, Uses};
use crate::case::{Case, Level};
use crate::probe::BrokerVersion;
use crate::runner::{CaseResult, Keep, RunOptions, Schedules, TargetOutcome, run_target};
use crate::target::{Target, TargetKind, Unavailable};
use crate::verdict::Verdict;
use crate::wire::Request;
use crate::wire::answer::ApiVersions;

/// What a target did in every case.
#[derive(Clone, Debug)]
pub struct Played {
    /// As on the command line.
    pub target: String,
    /// Its kind.
    pub kind: TargetKind,
    /// The release that answered.
    pub version: BrokerVersion,
    /// One per case.
    pub cases: Vec<PlayedCase>,
}

/// What a target did in one case.
#[derive(Clone, Debug)]
pub struct PlayedCase {
    /// The case's id.
    pub id: &'static str,
    /// Who was judged.
    pub level: Level,
    /// What the case itself makes of it.
    pub verdict: Verdict,
    /// What went over its connections, with placeholders.
    pub exchanges: Vec<Exchange>,
    /// The rules that put them there.
    pub uses: Uses,
}

/// Runs `cases` on `target` and keeps everything; `progress` hears of each before it starts.
///
/// # Errors
///
/// When the target does not answer.
///
/// # Cancellation
///
/// The case that runs goes on in its task until it ends or its time-out.
pub async fn play(
    target: Arc<dyn Target>,
    (cases, schedules): (&[Case], Schedules),
    progress: impl FnMut(usize, &Case),
) -> Result<Played, Unavailable> {
    let options = RunOptions {
        keep: Keep::Everything,
        schedules,
        ..RunOptions::of_this_run()
    };
    let report = run_target(target, cases, &options, progress).await;
    let (version, results) = match report.outcome {
        TargetOutcome::Ran { version, results } => (version, results),
        TargetOutcome::Unavailable(unavailable) => return Err(unavailable),
    };
    let played = |result| played(result, &options.run_id);
    Ok(Played {
        target: report.name,
        kind: report.kind,
        version,
        cases: results.into_iter().map(played).collect(),
    })
}

fn played(result: CaseResult, run_id: &str) -> PlayedCase {
    let (events, retracted) = result.transcript.events();
    let mut exchanges = exchanges(&events);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let case = CaseOf {
        id: result.id,
        run_id,
        now_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
    };
    let mut uses = normalise(case, &mut exchanges);
    let retracted = u64::try_from(retracted).unwrap_or(u64::MAX);
    uses.note_times(Rule::Waiting, retracted);
    PlayedCase {
        id: result.id,
        level: result.level,
        verdict: result.verdict,
        exchanges,
        uses,
    }
}

/// The recording of what a target did.
///
/// # Errors
///
/// The cases that did not pass, in words: what a broker did in them is no golden.
pub fn recording(played: Played) -> Result<Recording, Vec<String>> {
    let mut cases = Vec::new();
    let mut bad = Vec::new();
    for case in played.cases {
        let exchanges = match case.verdict {
            Verdict::Pass => Ok(case.exchanges),
            Verdict::Skip { reason } => Err(reason),
            other => {
                bad.push(format!("{}: {}", case.id, words(&other)));
                continue;
            }
        };
        if case.level == Level::Client {
            // What this project's producer sends is its own matter; its schedules are written.
            continue;
        }
        cases.push(RecordedCase {
            id: case.id.to_owned(),
            exchanges,
        });
    }
    let broker = played.version.to_string();
    match bad.is_empty() {
        true => Ok(Recording { broker, cases }),
        false => Err(bad),
    }
}

fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Fail(objection) | Verdict::KnownDivergence { objection, .. } => format!(
            "{}: expected {}, observed {}",
            objection.step, objection.expected, objection.observed
        ),
        other => other.word().to_owned(),
    }
}

/// What came of holding one case against its recording.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Both sides are there.
    Compared(Comparison),
    /// The target cannot run the case.
    Skipped(String),
    /// The recording says why it has no exchanges, but the target ran the case.
    NotRecorded(String),
    /// The recording does not know the case.
    Unknown,
}

impl Outcome {
    /// Whether a run with this outcome may succeed.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Compared(comparison) => comparison.differences.is_empty(),
            Self::Skipped(_) | Self::NotRecorded(_) => true,
            Self::Unknown => false,
        }
    }
}

/// Holds what a target did in `case` against `recording`.
pub fn judge(
    case: &PlayedCase,
    recording: &Recording,
    kind: TargetKind,
    uses: &mut Uses,
) -> Outcome {
    if let Verdict::Skip { reason } = &case.verdict {
        return Outcome::Skipped(reason.clone());
    }
    let recorded = match recording.case(case.id).map(|case| &case.exchanges) {
        None => return Outcome::Unknown,
        Some(Err(reason)) => return Outcome::NotRecorded(reason.clone()),
        Some(Ok(exchanges)) => exchanges,
    };
    let mut recorded = recorded.clone();
    if kind == TargetKind::Mock {
        for (recorded, observed) in recorded.iter_mut().zip(&case.exchanges) {
            drop_apis_not_served(recorded, observed, uses);
        }
    }
    let mut comparison = compare(&recorded, &case.exchanges);
    if case.verdict != Verdict::Pass {
        comparison.differences.push(Difference {
            step: case.exchanges.len(),
            ask: "the case".to_owned(),
            field: "verdict".to_owned(),
            recorded: Verdict::Pass.word().to_owned(),
            observed: words(&case.verdict),
        });
    }
    Outcome::Compared(comparison)
}

/// See [`Rule::ApisNotServed`].
fn drop_apis_not_served(recorded: &mut Exchange, observed: &Exchange, uses: &mut Uses) {
    const LIST: &str = "api list";
    if !recorded.ask.starts_with(ApiVersions::NAME) {
        return;
    }
    let served: Vec<i64> = observed.answer[LIST]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|api| api["api key"].as_i64())
        .collect();
    let Some(list) = recorded
        .answer
        .get_mut(LIST)
        .and_then(|list| list.as_array_mut())
    else {
        return;
    };
    let count = list.len();
    list.retain(|api| {
        api["api key"]
            .as_i64()
            .is_some_and(|key| served.contains(&key))
    });
    let dropped = u64::try_from(count - list.len()).unwrap_or(u64::MAX);
    uses.note_times(Rule::ApisNotServed, dropped);
}
