//! `conformance record` and `conformance fidelity`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::recording::{Recording, RecordingError};
use super::report::{self, FidelityReport};
use super::rule::Uses;
use super::run::{Played, judge, play, recording};
use crate::case::{Case, Level};
use crate::cases::{self, Choice};
use crate::filter::Pattern;
use crate::progress::Progress;
use crate::runner::Schedules;
use crate::target::{self, MockTarget, Target, TargetSpec, TransactionVersion, Unavailable};

/// The recordings that the crate carries, of Kafka with the newest transactions and with level 1.
const GOLDEN: &str = include_str!("../../goldens/kafka-4.3.1.jsonl");
const GOLDEN_LEVEL_1: &str = include_str!("../../goldens/kafka-4.3.1-tv1.jsonl");

/// Records what a broker answers, and beside it what schedules led to.
#[derive(Debug, Args)]
pub struct RecordArguments {
    /// docker, docker:IMAGE, or HOST:PORT[,HOST:PORT…]
    #[arg(long, value_name = "TARGET", default_value = "docker")]
    pub target: TargetSpec,
    /// Where the recording goes; what schedules led to goes into files beside it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Only cases whose id matches are recorded anew, the others stay; may be repeated
    #[arg(long = "filter", value_name = "PATTERN")]
    pub filters: Vec<Pattern>,
}

/// Holds a target against a recording.
#[derive(Debug, Args)]
pub struct FidelityArguments {
    /// mock, docker, docker:IMAGE, or HOST:PORT[,HOST:PORT…]
    #[arg(long, value_name = "TARGET", default_value = "mock")]
    pub target: TargetSpec,
    /// A recording made by conformance record; the one of this program unless given
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
    /// Only cases whose id matches, such as 'IDM-*'; may be repeated
    #[arg(long = "filter", value_name = "PATTERN")]
    pub filters: Vec<Pattern>,
    /// Write the report as JSON lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What keeps these commands from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FidelityError {
    /// No case that speaks to a broker by itself matches.
    #[error("no wire case matches the filters; conformance list shows what there is")]
    NoCase,
    /// The target is not there.
    #[error("{0}; try: {remedy}", remedy = .0.remedy)]
    Target(#[from] Unavailable),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file is no recording.
    #[error("{path} is no recording: {source}")]
    Recording {
        /// Which.
        path: String,
        /// Where it is not.
        source: RecordingError,
    },
    /// Some cases did not pass.
    #[error("nothing is recorded, since these cases did not pass:\n{}", .0.join("\n"))]
    NotPassed(Vec<String>),
    /// The file holds another release's answers.
    #[error("the file holds what {there} answered, the target is {here}; record every case anew")]
    OtherRelease {
        /// In the file.
        there: String,
        /// What was asked.
        here: String,
    },
}

/// Records what a target answers to the wire cases, and beside that what schedules led to.
///
/// # Errors
///
/// See [`FidelityError`]; then the answers are not written.
///
/// # Cancellation
///
/// The target ends with the dropped future; the answers are not written.
pub async fn record(
    arguments: &RecordArguments,
    out: &mut (dyn Write + Send),
) -> Result<(), FidelityError> {
    let path = &arguments.out;
    let at_newest = arguments.target.transactions() == TransactionVersion::Newest;
    let recorded =
        |case: &Case| case.level == Level::Wire || at_newest && case.id == cases::RECORDED_CLIENT;
    let cases = selected(&arguments.filters, recorded)?;
    let schedules = Schedules::Recorded(path.as_path().into());
    let played = played(&arguments.target, (&cases, schedules)).await?;
    let mut recorded = recording(played).map_err(FidelityError::NotPassed)?;
    if !arguments.filters.is_empty() && path.exists() {
        recorded = merged(read(path)?, recorded)?;
    }
    let mut text = Vec::new();
    let written = recorded
        .write(&mut text)
        .and_then(|()| std::fs::write(path, text));
    written.map_err(|source| on_file(path, source))?;
    let exchanges: usize = recorded
        .cases
        .iter()
        .map(|case| case.exchanges.as_ref().map_or(0, Vec::len))
        .sum();
    let (cases, broker) = (recorded.cases.len(), &recorded.broker);
    let path = path.display();
    writeln!(
        out,
        "{path}: {cases} cases, {exchanges} exchanges of {broker}"
    )
    .map_err(|source| on_file(Path::new("standard output"), source))
}

/// Holds a target against a recording, and says whether everything is explained.
///
/// # Errors
///
/// See [`FidelityError`].
///
/// # Cancellation
///
/// The target ends with the dropped future.
pub async fn fidelity(
    arguments: &FidelityArguments,
    out: &mut (dyn Write + Send),
) -> Result<bool, FidelityError> {
    let cases = selected(&arguments.filters, |case| case.level == Level::Wire)?;
    let recording = match &arguments.recording {
        Some(path) => read(path)?,
        None => golden(arguments.target.transactions())?,
    };
    let played = played(&arguments.target, (&cases, Schedules::Judged)).await?;
    let found = held(&played, &recording);
    if let Some(path) = &arguments.json {
        let mut text = Vec::new();
        let written =
            report::write_json(&found, &mut text).and_then(|()| std::fs::write(path, text));
        written.map_err(|source| on_file(path, source))?;
    }
    report::write_console(&found, out)
        .map_err(|source| on_file(Path::new("standard output"), source))?;
    Ok(found.succeeds())
}

/// The recording that the crate carries of Kafka with these transactions.
///
/// # Errors
///
/// When it is none.
pub fn golden(transactions: TransactionVersion) -> Result<Recording, FidelityError> {
    let text = match transactions {
        TransactionVersion::Newest => GOLDEN,
        TransactionVersion::One => GOLDEN_LEVEL_1,
    };
    Recording::read(text).map_err(|source| FidelityError::Recording {
        path: "the recording of this program".to_owned(),
        source,
    })
}

/// What a target did, held against a recording.
pub fn held(played: &Played, recording: &Recording) -> FidelityReport {
    let mut uses = Uses::default();
    let mut cases = Vec::new();
    for case in &played.cases {
        uses.add(&case.uses);
        cases.push((case.id, judge(case, recording, played.kind, &mut uses)));
    }
    FidelityReport {
        target: played.target.clone(),
        recording_of: recording.broker.clone(),
        cases,
        uses,
    }
}

/// Those of some cases that match.
fn selected(filters: &[Pattern], of: impl Fn(&Case) -> bool) -> Result<Vec<Case>, FidelityError> {
    let matches =
        |case: &&Case| filters.is_empty() || filters.iter().any(|filter| filter.matches(case.id));
    let some = cases::all().filter(|case| of(case));
    let cases: Vec<Case> = some.filter(matches).copied().collect();
    match cases.is_empty() {
        true => Err(FidelityError::NoCase),
        false => Ok(cases),
    }
}

async fn played(
    spec: &TargetSpec,
    (cases, schedules): (&[Case], Schedules),
) -> Result<Played, FidelityError> {
    let cases = cases::asked_of(spec, (cases, Choice::Named));
    let mut progress = Progress::on_stderr();
    let name = spec.to_string();
    progress.starting(&name);
    let target: Arc<dyn Target> = match spec {
        // As many brokers as the recording has.
        TargetSpec::Mock(level) => Arc::new(MockTarget::of_one_broker(*level)?),
        other => Arc::from(target::start(other).await?),
    };
    let told = |index, case: &Case| {
        progress.case(&name, (index, cases.len()), case, Instant::now());
    };
    let played = play(target, (&cases, schedules), told).await?;
    progress.finish();
    Ok(played)
}

fn read(path: &Path) -> Result<Recording, FidelityError> {
    let text = std::fs::read_to_string(path).map_err(|source| on_file(path, source))?;
    Recording::read(&text).map_err(|source| FidelityError::Recording {
        path: path.display().to_string(),
        source,
    })
}

/// `there` with the cases of `here` in place of its own.
fn merged(there: Recording, here: Recording) -> Result<Recording, FidelityError> {
    if there.broker != here.broker {
        return Err(FidelityError::OtherRelease {
            there: there.broker,
            here: here.broker,
        });
    }
    let case = |id: &str| here.case(id).or_else(|| there.case(id)).cloned();
    Ok(Recording {
        cases: cases::all().filter_map(|known| case(known.id)).collect(),
        broker: here.broker.clone(),
    })
}

fn on_file(path: &Path, source: io::Error) -> FidelityError {
    FidelityError::File {
        path: path.display().to_string(),
        source,
    }
}
