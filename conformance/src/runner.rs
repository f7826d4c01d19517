//! Runs cases on a target, one after the other, each in a task of its own.
//!
//! *Invariants*
//! 1. A case that panics or hangs fails itself and no other: its task is given up after the
//!    time-out, and the next case starts.
//! 2. Every case that was asked for has exactly one result, in the order of the registry.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::case::{Case, Level, Objection};
use crate::context::Context;
use crate::divergence::{self, Divergence};
use crate::io::transcript::{Frame, Transcript};
use crate::probe::{BrokerVersion, Probe, probe};
use crate::target::{Capabilities, Capability, Target, TargetKind, Unavailable};
use crate::verdict::{Ending, Verdict, judge};

/// Longest run of one case unless [`RunOptions`] says otherwise.
pub const CASE_TIME_OUT: Duration = Duration::from_secs(90);

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions<'a> {
    /// Longest run of one case.
    pub case_time_out: Duration,
    /// Divergences to expect.
    pub known: &'a [Divergence],
    /// Part of every topic's name, so that runs against one cluster do not meet.
    pub run_id: Arc<str>,
    /// What is kept of a case.
    pub keep: Keep,
    /// What becomes of a seed's schedule, once it is done.
    pub schedules: Schedules,
}

/// How much of what a case sends and gets is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// The last frames, for the report of a failure.
    LastFrames,
    /// Everything, for a recording.
    Everything,
}

/// What becomes of what a seed's schedule led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Schedules {
    /// It is held against the one that was recorded.
    Judged,
    /// It is written into a file beside this one, which holds exchanges.
    Recorded(Arc<Path>),
}

impl RunOptions<'static> {
    /// The usual time-out and divergences, with a run id of this moment and process.
    pub fn of_this_run() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        Self {
            case_time_out: CASE_TIME_OUT,
            known: divergence::KNOWN,
            // Of one length in every run: the size of a frame must not depend on the day.
            run_id: format!("{millis:011x}-{:08x}", std::process::id()).into(),
            keep: Keep::LastFrames,
            schedules: Schedules::Judged,
        }
    }
}

/// What happened to one target.
#[derive(Clone, Debug)]
pub struct TargetReport {
    /// As on the command line.
    pub name: String,
    /// Its kind.
    pub kind: TargetKind,
    /// Whether it was asked.
    pub outcome: TargetOutcome,
}

/// Whether a target was asked, and what came of it.
#[derive(Clone, Debug)]
pub enum TargetOutcome {
    /// It answered.
    Ran {
        /// The release that answered.
        version: BrokerVersion,
        /// One per case.
        results: Vec<CaseResult>,
    },
    /// It was not there.
    Unavailable(Unavailable),
}

impl TargetReport {
    /// The results; none if the target was not there.
    pub fn results(&self) -> &[CaseResult] {
        match &self.outcome {
            TargetOutcome::Ran { results, .. } => results,
            TargetOutcome::Unavailable(_) => &[],
        }
    }
}

/// What came of one case on one target.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The case.
    pub id: &'static str,
    /// Its promise.
    pub sentence: &'static str,
    /// Where Kafka states it.
    pub source: &'static str,
    /// Who was judged.
    pub level: Level,
    /// The verdict.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed: Duration,
    /// The last frames; empty unless the case objected.
    pub frames: Vec<Frame>,
    /// Everything that happened, if the run keeps it.
    pub transcript: Transcript,
}

/// Runs `cases` on `target`; `progress` hears of each case before it starts, with its index.
///
/// # Cancellation
///
/// The case that runs goes on in its task until it ends or its time-out.
pub async fn run_target(
    target: Arc<dyn Target>,
    cases: &[Case],
    options: &RunOptions<'_>,
    mut progress: impl FnMut(usize, &Case),
) -> TargetReport {
    let (name, kind) = (target.name().to_owned(), target.kind());
    let outcome = match probe(target.as_ref()).await {
        Err(unavailable) => TargetOutcome::Unavailable(unavailable),
        Ok(probe) => {
            let mut results = Vec::new();
            for (index, case) in cases.iter().enumerate() {
                progress(index, case);
                results.push(run_case(&target, &probe, case, options).await);
            }
            TargetOutcome::Ran {
                version: probe.version,
                results,
            }
        }
    };
    TargetReport {
        name,
        kind,
        outcome,
    }
}

async fn run_case(
    target: &Arc<dyn Target>,
    probe: &Probe,
    case: &Case,
    options: &RunOptions<'_>,
) -> CaseResult {
    let start = Instant::now();
    let transcript = match options.keep {
        Keep::LastFrames => Transcript::default(),
        Keep::Everything => Transcript::whole(),
    };
    let context = Context::new(
        Arc::clone(target),
        probe.clone(),
        case.id,
        (options, transcript.clone()),
    );
    let ending = match capabilities(target.as_ref(), probe).first_missing(case.needs) {
        Some(missing) => Ending::Missing(missing),
        None => match target.settled().await {
            Ok(()) => end_of(case, context, options.case_time_out).await,
            Err(unavailable) => {
                let observed = unavailable.to_string();
                Ending::Broke(Objection::new("before the case", "all brokers", observed))
            }
        },
    };
    let frames = match ending {
        Ending::Objected(_) | Ending::Broke(_) => transcript.frames(),
        Ending::Satisfied | Ending::Missing(_) => Vec::new(),
    };
    let known = divergence::find(options.known, case.id, target.kind());
    CaseResult {
        id: case.id,
        sentence: case.sentence,
        source: case.source,
        level: case.level,
        verdict: judge(ending, known),
        elapsed: start.elapsed(),
        frames,
        transcript,
    }
}

/// What the target says it can, and what its table of APIs says.
fn capabilities(target: &dyn Target, probe: &Probe) -> Capabilities {
    const END_TXN: i16 = 26;
    let capabilities = target.capabilities();
    match probe.apis.range(END_TXN) {
        Some(_) => capabilities.with(Capability::Transactions),
        None => capabilities,
    }
}

async fn end_of(case: &Case, context: Context, time_out: Duration) -> Ending {
    let broke = |observed: String| {
        Ending::Broke(Objection::new(
            "the case itself",
            "it ends by itself",
            observed,
        ))
    };
    // The function is called inside the task: a panic before its first await counts too.
    let run = case.run;
    let mut task = tokio::spawn(async move { run(context).await });
    match timeout(time_out, &mut task).await {
        Err(_) => {
            task.abort();
            broke(format!("still running after {} ms", time_out.as_millis()))
        }
        Ok(Err(error)) if error.is_panic() => broke(format!(
            "panicked: {}",
            panic_words(error.into_panic().as_ref())
        )),
        Ok(Err(error)) => broke(error.to_string()),
        Ok(Ok(Err(objection))) => Ending::Objected(objection),
        Ok(Ok(Ok(()))) => Ending::Satisfied,
    }
}

fn panic_words(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "?".to_owned())
}
