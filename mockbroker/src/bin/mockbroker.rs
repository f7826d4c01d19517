//! The `mockbroker` program: a mock Kafka cluster on TCP, until a signal ends it.
//!
//! When every broker accepts connections, one line goes to stdout: `bootstrap.servers=HOST:PORT,…`.
//! With `--control` a second one follows, `control=HOST:PORT`, and nothing else ever does. Logs go
//! to stderr.
//!
//! Exit status: 0 after SIGINT, SIGTERM or the control's `/shutdown`, 1 when the cluster cannot
//! start or run, 2 for arguments or a scenario that cannot be.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use kafka_mockbroker::{
    BrokerConfig, MockCluster, MockClusterBuilder, ScenarioError, StartErrorKind,
};
use tracing_subscriber::EnvFilter;

/// Runs a mock Apache Kafka cluster for tests.
///
/// Any client can talk to it. When every broker accepts connections, prints on stdout
///
///     bootstrap.servers=HOST:PORT,...
///     control=HOST:PORT                  (with --control)
///
/// and then runs until SIGINT or SIGTERM. Everything is kept in memory and is gone at the end, when
/// fault rules that never acted, moves that were not made, and whatever was refused are logged.
#[derive(Debug, Parser)]
#[command(name = "mockbroker", version, after_help = after_help())]
#[command(
    args_override_self = true,
    verbatim_doc_comment,
    next_help_heading = "Cluster"
)]
struct Arguments {
    /// How many brokers; their ids are 1, 2, ... [default: 1]
    #[arg(long, value_name = "N")]
    brokers: Option<u16>,

    /// A topic that is there from the start; may be repeated. Partitions and replicas
    /// are num.partitions and default.replication.factor unless given
    #[arg(
        long = "topic",
        value_name = "NAME[:PARTITIONS[:REPLICAS]]",
        verbatim_doc_comment
    )]
    topics: Vec<TopicArgument>,

    /// Broker configuration by Kafka's keys, which are listed below; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,

    /// What ids and chances are drawn from [default: another one at every start]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// A scenario: cluster, faults and moves in YAML. What is given beside it counts
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,

    /// Gives the answers that Kafka gives for a moment only, such as 14 to the first request
    /// for a producer id, or 3 and 6 for a topic that was just made
    #[arg(long, verbatim_doc_comment)]
    momentary_answers: bool,

    /// Where the first broker listens; the others use the ports that follow, with
    /// port 0 all use free ports [default: 127.0.0.1:9092]
    #[arg(
        long,
        value_name = "HOST:PORT",
        help_heading = "Addresses",
        verbatim_doc_comment
    )]
    listen: Option<String>,

    /// The host that clients are told to connect to [default: the address that is listened on]
    #[arg(long, value_name = "HOST", help_heading = "Addresses")]
    advertised_host: Option<String>,

    /// Where the cluster is controlled over HTTP: state, faults, moves, journal
    /// [default: nowhere]
    #[arg(
        long,
        value_name = "HOST:PORT",
        help_heading = "Addresses",
        verbatim_doc_comment
    )]
    control: Option<String>,

    /// What is logged on stderr: off, error, warn, info, debug (every request and
    /// reply), trace, or a filter such as kafka_mockbroker=debug
    /// [default: $MOCKBROKER_LOG, else info]
    #[arg(
        long,
        value_name = "FILTER",
        help_heading = "Watching",
        verbatim_doc_comment
    )]
    log: Option<String>,

    /// How many bytes of requests the journal keeps, the newest [default: 0]
    #[arg(long, value_name = "BYTES", help_heading = "Watching")]
    journal_bytes: Option<usize>,
}

#[derive(Clone, Debug)]
struct TopicArgument {
    name: String,
    partitions: Option<i32>,
    replicas: Option<i16>,
}

impl FromStr for TopicArgument {
    type Err = String;

    fn from_str(argument: &str) -> Result<Self, Self::Err> {
        let mut parts = argument.split(':');
        let name = parts.next().unwrap_or_default().to_owned();
        let partitions = parts
            .next()
            .map(|part| number(part, "partitions"))
            .transpose()?;
        let replicas = parts
            .next()
            .map(|part| number(part, "replicas"))
            .transpose()?;
        match parts.next() {
            Some(_) => Err("more than NAME:PARTITIONS:REPLICAS".into()),
            None => Ok(Self {
                name,
                partitions,
                replicas,
            }),
        }
    }
}

fn number<N: FromStr>(part: &str, what: &str) -> Result<N, String> {
    part.parse()
        .map_err(|_| format!("`{part}` is no number of {what}"))
}

fn setting(argument: &str) -> Result<(String, String), String> {
    let (key, value) = argument.split_once('=').ok_or("a setting is KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn after_help() -> String {
    format!(
        "\
Examples:
  Three brokers on free ports, a topic with two of three replicas in sync:
    mockbroker --brokers 3 --listen 127.0.0.1:0 --topic orders:6:3 --set min.insync.replicas=2

  Faults and moves from a file, and more of them while it runs:
    mockbroker --scenario orders.yaml --control 127.0.0.1:9099
    curl 127.0.0.1:9099/faults -d '{{\"on\": \"Produce\", \"then\": \"apply_then_lose\"}}'
    curl 127.0.0.1:9099/moves -d '{{\"crash\": 2}}'

  In a container, for clients that know it as mock:
    mockbroker --listen 0.0.0.0:9092 --advertised-host mock

Exit status:
  0  ended by SIGINT, SIGTERM or POST /shutdown
  1  the cluster cannot start or run: an address that is taken, a machine that gives no thread
  2  an argument or a scenario that cannot be; nothing was started

Configuration keys:
  {}",
        BrokerConfig::KEYS.join("\n  ")
    )
}

impl Arguments {
    /// The scenario first, so that what is given beside it counts.
    fn builder(&self) -> Result<MockClusterBuilder, ScenarioError> {
        let mut builder = MockCluster::builder().listen(LISTEN_DEFAULT);
        if let Some(file) = &self.scenario {
            builder = builder.scenario_file(file)?;
        }
        if let Some(brokers) = self.brokers {
            builder = builder.brokers(brokers);
        }
        if let Some(listen) = &self.listen {
            builder = builder.listen(listen);
        }
        if let Some(host) = &self.advertised_host {
            builder = builder.advertised_host(host.as_str());
        }
        if let Some(control) = &self.control {
            builder = builder.control(control);
        }
        if let Some(seed) = self.seed {
            builder = builder.seed(seed);
        }
        if let Some(bytes) = self.journal_bytes {
            builder = builder.journal_bytes(bytes);
        }
        if self.momentary_answers {
            builder = builder.momentary_answers();
        }
        for (key, value) in &self.settings {
            builder = builder.set(key, value);
        }
        for topic in &self.topics {
            let name = topic.name.as_str();
            builder = builder.topic_or_default(name, topic.partitions, topic.replicas);
        }
        Ok(builder)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = log_to_stderr(arguments.log.as_deref()) {
        complain(error.as_ref());
        return ExitCode::from(STATUS_USAGE);
    }
    let builder = match arguments.builder() {
        Ok(builder) => builder,
        Err(error) => {
            complain(&error);
            return ExitCode::from(STATUS_USAGE);
        }
    };
    let cluster = match builder.start() {
        Ok(cluster) => cluster,
        Err(error) => {
            complain(&error);
            return match error.kind() {
                StartErrorKind::Config => ExitCode::from(STATUS_USAGE),
                _ => ExitCode::FAILURE,
            };
        }
    };
    match run(&cluster) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Tells that the cluster is ready, and waits for its end.
fn run(cluster: &MockCluster) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        // Before the line is out: who reads it may signal at once.
        let signal = signal()?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "bootstrap.servers={}", cluster.bootstrap_servers())?;
        if let Some(control) = cluster.control_address() {
            writeln!(stdout, "control={control}")?;
        }
        stdout.flush()?;
        tracing::info!(
            brokers = cluster.bootstrap_servers(),
            control = cluster.control_address().map(tracing::field::display),
            "the cluster is ready"
        );
        // Not inside the macro, which does not evaluate what is not logged.
        let reason = tokio::select! {
            signal = signal => signal,
            () = cluster.shutdown_requested() => "POST /shutdown",
        };
        tracing::info!(reason, "the cluster ends");
        report(cluster);
        Ok(())
    })
}

/// What a user should know of the run; rules that never acted are told by the drop of the cluster.
fn report(cluster: &MockCluster) {
    let diagnostics = cluster.diagnostics();
    for diagnostic in diagnostics.iter().take(DIAGNOSTICS_TOLD) {
        let connection = diagnostic.connection.map(|connection| connection.0);
        tracing::warn!(connection, "{}", diagnostic.text);
    }
    if let Some(more) = diagnostics.len().checked_sub(DIAGNOSTICS_TOLD)
        && more > 0
    {
        tracing::warn!(more, "there are more diagnostics");
    }
}

#[cfg(unix)]
fn signal() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

#[cfg(not(unix))]
fn signal() -> std::io::Result<impl Future<Output = &'static str>> {
    Ok(async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => core::future::pending().await,
        }
    })
}

fn log_to_stderr(argument: Option<&str>) -> Result<(), Box<dyn Error>> {
    let environment = std::env::var("MOCKBROKER_LOG").ok();
    let filter = argument.or(environment.as_deref()).unwrap_or("info");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log cannot be `{filter}`: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// The error with everything that led to it, on stderr.
#[expect(clippy::print_stderr, reason = "a program tells its user why it ends")]
fn complain(error: &dyn Error) {
    let causes = core::iter::successors(error.source(), |cause| (*cause).source());
    let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    eprintln!("error: {text}");
}

/// Kafka's port.
const LISTEN_DEFAULT: &str = "127.0.0.1:9092";

/// Diagnostics that are logged at the end.
const DIAGNOSTICS_TOLD: usize = 20;

/// Arguments that cannot be; the same as clap's.
const STATUS_USAGE: u8 = 2;
