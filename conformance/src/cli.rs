//! The `conformance` program: arguments in, exit status out.
//!
//! | Status | Meaning |
//! |---|---|
//! | 0 | every case that ran got a good verdict; every difference is explained |
//! | 1 | a bad verdict, nothing ran, real Kafka was required and not asked, or a difference that no rule explains |
//! | 2 | arguments that make no sense, a recording that cannot be made or read, or a report that cannot be written |

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use tokio::task::JoinSet;

use crate::case::{Case, Objection};
use crate::cases::{self, Choice};
use crate::copy::{self, CopyArguments};
use crate::fidelity::command::{self, FidelityArguments, FidelityError, RecordArguments};
use crate::filter::Pattern;
use crate::progress::Progress;
use crate::read::{self, ReadArguments};
use crate::report::{RealKafka, Report, console, json, junit};
use crate::runner::{RunOptions, TargetOutcome, TargetReport, run_target};
use crate::target::{self, Target, TargetSpec, Unavailable};

/// Set to 1, it is the same as `--require-real`.
pub const REQUIRE_REAL_VARIABLE: &str = "CONFORMANCE_REQUIRE_REAL";

/// Judges Kafka brokers, and the producer of this project against them.
#[derive(Debug, Parser)]
#[command(name = "conformance", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run cases on targets and report
    Run(RunArguments),
    /// Record what a real broker answers to the wire cases
    Record(RecordArguments),
    /// Hold a target against a recording, field by field
    Fidelity(FidelityArguments),
    /// List the cases
    List(ListArguments),
    /// Read a topic to its end, count, and check the order of numbered values
    Read(ReadArguments),
    /// Copy a topic in transactions, as EOS-06 has it done
    Copy(CopyArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// mock, docker, docker:IMAGE, or HOST:PORT[,HOST:PORT…]; may be repeated. With -tv1 behind
    /// mock or docker it has level 1 of transaction.version, and only cases that depend on it run;
    /// docker-3 is three brokers, and only cases that need them run
    #[arg(long = "target", value_name = "TARGET", default_values = ["mock", "docker"])]
    targets: Vec<TargetSpec>,
    /// Only cases whose id matches, such as 'IDM-*'; may be repeated
    #[arg(long = "filter", value_name = "PATTERN")]
    filters: Vec<Pattern>,
    /// Write the report as JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail unless real Kafka was asked; also CONFORMANCE_REQUIRE_REAL=1
    #[arg(long)]
    require_real: bool,
}

#[derive(Debug, Args)]
struct ListArguments {
    /// Only cases whose id matches, such as 'IDM-*'; may be repeated
    #[arg(long = "filter", value_name = "PATTERN")]
    filters: Vec<Pattern>,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Status 0.
    Good,
    /// Status 1.
    Bad,
}

/// What makes the program end with status 2.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No case matches the filters.
    #[error("no case matches the filters; conformance list shows what there is")]
    NoCase,
    /// The variable has a value that says nothing.
    #[error("{REQUIRE_REAL_VARIABLE}=\"{0}\": allowed: 1, 0, or nothing")]
    RequireReal(String),
    /// A recording cannot be made or held against anything.
    #[error(transparent)]
    Fidelity(#[from] FidelityError),
    /// A copy did not come to its end.
    #[error("{}: expected {}, observed {}", .0.step, .0.expected, .0.observed)]
    Copy(Objection),
    /// A report cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Where to.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// Does what `arguments` ask for; reports go to `out`.
///
/// # Errors
///
/// See [`CliError`].
///
/// # Cancellation
///
/// Targets that were started end with the dropped future.
pub async fn run(arguments: Arguments, out: &mut (dyn Write + Send)) -> Result<Exit, CliError> {
    match arguments.command {
        Command::List(list) => {
            write_list(&selected(&list.filters)?, out).map_err(on_stdout)?;
            Ok(Exit::Good)
        }
        Command::Run(run) => run_cases(&run, out).await,
        Command::Record(arguments) => {
            command::record(&arguments, out).await?;
            Ok(Exit::Good)
        }
        Command::Fidelity(arguments) => match command::fidelity(&arguments, out).await? {
            true => Ok(Exit::Good),
            false => Ok(Exit::Bad),
        },
        Command::Copy(arguments) => match copy::copy(&arguments, out).await {
            Ok(()) => Ok(Exit::Good),
            Err(objection) => Err(CliError::Copy(objection)),
        },
        Command::Read(arguments) => {
            let verdict = read::read(&arguments).await;
            writeln!(out, "{verdict}").map_err(on_stdout)?;
            Ok(if verdict.is_good() {
                Exit::Good
            } else {
                Exit::Bad
            })
        }
    }
}

fn on_stdout(source: io::Error) -> CliError {
    CliError::Write {
        path: "standard output".to_owned(),
        source,
    }
}

fn selected(filters: &[Pattern]) -> Result<Vec<Case>, CliError> {
    let wanted =
        |case: &&Case| filters.is_empty() || filters.iter().any(|filter| filter.matches(case.id));
    let cases: Vec<Case> = cases::all().filter(wanted).copied().collect();
    match cases.is_empty() {
        true => Err(CliError::NoCase),
        false => Ok(cases),
    }
}

fn write_list(cases: &[Case], out: &mut dyn Write) -> io::Result<()> {
    for case in cases {
        writeln!(out, "{:<7}  {:<6}  {}", case.id, case.level, case.sentence)?;
    }
    Ok(())
}

async fn run_cases(
    arguments: &RunArguments,
    out: &mut (dyn Write + Send),
) -> Result<Exit, CliError> {
    let cases = selected(&arguments.filters)?;
    let choice = match arguments.filters.is_empty() {
        true => Choice::All,
        false => Choice::Named,
    };
    let real = real_kafka(arguments)?;
    let options = RunOptions::of_this_run();
    let mut progress = Progress::on_stderr();
    let mut targets = Vec::new();
    let mut starting = Starting::default();
    for (index, spec) in arguments.targets.iter().enumerate() {
        progress.starting(&spec.to_string());
        let started = starting.target(index, &arguments.targets).await;
        let asked = cases::asked_of(spec, (&cases, choice));
        targets.push(run_one((spec, started), &asked, &options, &mut progress).await);
    }
    progress.finish();
    let report = Report { targets, real };
    if let Some(path) = &arguments.json {
        write_file(path, |file| json::write(&report, file))?;
    }
    if let Some(path) = &arguments.junit {
        write_file(path, |file| junit::write(&report, file))?;
    }
    console::write(&report, out).map_err(on_stdout)?;
    Ok(if report.succeeds() {
        Exit::Good
    } else {
        Exit::Bad
    })
}

type Started = Result<Box<dyn Target>, Unavailable>;

/// Targets that start. Containers start beside each other, when the first one's turn has come: most
/// of that time is waited. Three brokers start when it is their turn: no other case is to feel it.
#[derive(Default)]
struct Starting {
    running: JoinSet<(usize, Started)>,
    started: BTreeMap<usize, Started>,
}

impl Starting {
    /// The target at `index`, started.
    async fn target(&mut self, index: usize, specs: &[TargetSpec]) -> Started {
        let Some(spec) = specs.get(index) else {
            return Err(Unavailable::new("no such target", "name one"));
        };
        let is_container = |spec: &TargetSpec| matches!(spec, TargetSpec::Docker { .. });
        if !is_container(spec) {
            return target::start(spec).await;
        }
        let before = specs.iter().take(index);
        if before.filter(|spec| is_container(spec)).count() == 0 {
            let containers = specs.iter().cloned().enumerate();
            for (index, spec) in containers.filter(|(_, spec)| is_container(spec)) {
                let start = async move { (index, target::start(&spec).await) };
                self.running.spawn(start);
            }
        }
        loop {
            if let Some(started) = self.started.remove(&index) {
                return started;
            }
            match self.running.join_next().await {
                Some(Ok((index, started))) => drop(self.started.insert(index, started)),
                Some(Err(error)) => tracing::warn!(%error, "the start of a container ended"),
                None => {
                    let reason = "the start of the container ended without an outcome";
                    return Err(Unavailable::new(reason, "docker ps -a"));
                }
            }
        }
    }
}

async fn run_one(
    (spec, started): (&TargetSpec, Started),
    cases: &[Case],
    options: &RunOptions<'_>,
    progress: &mut Progress<io::Stderr>,
) -> TargetReport {
    let name = spec.to_string();
    match started {
        Ok(target) => {
            let target: Arc<dyn Target> = Arc::from(target);
            let told = |index, case: &Case| {
                progress.case(&name, (index, cases.len()), case, Instant::now());
            };
            run_target(target, cases, options, told).await
        }
        Err(unavailable) => TargetReport {
            kind: spec.kind(),
            outcome: TargetOutcome::Unavailable(unavailable),
            name,
        },
    }
}

fn real_kafka(arguments: &RunArguments) -> Result<RealKafka, CliError> {
    let variable = std::env::var(REQUIRE_REAL_VARIABLE).unwrap_or_default();
    match (arguments.require_real, variable.as_str()) {
        (_, "1") | (true, "" | "0") => Ok(RealKafka::Required),
        (false, "" | "0") => Ok(RealKafka::Optional),
        (_, other) => Err(CliError::RequireReal(other.to_owned())),
    }
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let written = || {
        let mut file = BufWriter::new(File::create(path)?);
        write(&mut file)?;
        file.flush()
    };
    written().map_err(|source| CliError::Write {
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["conformance"], arguments].concat())
    }

    async fn printed(arguments: &[&str]) -> (Result<Exit, CliError>, String) {
        let mut out = Vec::new();
        let exit = run(parsed(arguments).unwrap(), &mut out).await;
        (exit, String::from_utf8(out).unwrap())
    }

    #[test]
    fn targets_default_to_the_mock_and_docker() {
        let Command::Run(run) = parsed(&["run"]).unwrap().command else {
            panic!("not run")
        };
        assert_eq!(
            run.targets,
            ["mock", "docker"].map(|name| name.parse().unwrap())
        );
        let Command::Run(run) = parsed(&["run", "--target", "a:1"]).unwrap().command else {
            panic!("not run")
        };
        assert_eq!(run.targets, [TargetSpec::Addresses(vec!["a:1".to_owned()])]);
    }

    #[rstest]
    #[case(&["run", "--target", "kafka"], "allowed: mock, docker")]
    #[case(&["run", "--filter", "?"], "such as IDM-*")]
    fn bad_argument_is_refused_with_what_is_allowed(
        #[case] arguments: &[&str],
        #[case] words: &str,
    ) {
        let error = parsed(arguments).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[tokio::test]
    async fn list_prints_a_line_per_case_that_matches() {
        let (exit, text) = printed(&["list", "--filter", "frm-0*", "--filter", "MD-04"]).await;
        assert_eq!(exit.unwrap(), Exit::Good);
        let ids: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let expected = [
            "FRM-01", "FRM-02", "FRM-04", "FRM-05", "FRM-06", "FRM-08", "FRM-09", "MD-04",
        ];
        assert_eq!(ids, expected);
        let last = "MD-04    wire    a name that no topic can have is answered with 17";
        assert_eq!(text.lines().last(), Some(last));
        let (_, all) = printed(&["list"]).await;
        assert_eq!(all.lines().count(), cases::all().count());
    }

    #[tokio::test]
    async fn filter_without_a_case_is_an_error() {
        let (exit, _) = printed(&["run", "--target", "mock", "--filter", "ZZZ-*"]).await;
        assert!(matches!(exit, Err(CliError::NoCase)));
    }

    #[tokio::test]
    async fn target_that_does_not_answer_is_said_with_its_address_and_fails_the_run() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (exit, text) = printed(&["run", "--target", &port.to_string()]).await;
        assert_eq!(exit.unwrap(), Exit::Bad);
        assert!(
            text.contains(&format!("connect to {port}: Connection refused")),
            "{text}"
        );
        assert!(text.contains("!!! REAL KAFKA WAS NOT ASKED"), "{text}");
    }
}
