//! The `mockbroker` program: a mock Kafka cluster on TCP, until a signal ends it.
//!
//! When every broker accepts connections, one line goes to stdout, and nothing else ever does:
//! `bootstrap.servers=HOST:PORT,…`. Logs go to stderr.
//!
//! Exit status: 0 after SIGINT or SIGTERM, 1 when the cluster cannot start or run, 2 for arguments
//! that cannot be.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use kafka_mockbroker::{BrokerConfig, MockCluster, MockClusterBuilder, StartError, StartErrorKind};
use tracing_subscriber::EnvFilter;

/// Runs a mock Apache Kafka cluster for tests.
///
/// When every broker accepts connections, prints one line on stdout:
///
///     bootstrap.servers=HOST:PORT,...
///
/// and then runs until SIGINT or SIGTERM. Everything is kept in memory and is gone at the end.
#[derive(Debug, Parser)]
#[command(name = "mockbroker", version, after_help = after_help())]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Arguments {
    /// How many brokers; their ids are 1, 2, ...
    #[arg(long, value_name = "N", default_value_t = 1)]
    brokers: u16,

    /// Where the first broker listens; the others use the ports that follow, with port 0 all use
    /// free ports
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: String,

    /// The host that clients are told to connect to [default: the address that is listened on]
    #[arg(long, value_name = "HOST")]
    advertised_host: Option<String>,

    /// A topic that is there from the start; may be repeated. Partitions and replicas are
    /// num.partitions and default.replication.factor unless given
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS[:REPLICAS]]")]
    topics: Vec<TopicArgument>,

    /// Broker configuration by Kafka's keys; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,

    /// What is logged on stderr: off, error, warn, info, debug (every request and reply), trace, or
    /// a filter such as kafka_mockbroker=debug [default: $MOCKBROKER_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
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
        "Configuration keys:\n  {}\n\nExample:\n  \
         mockbroker --brokers 3 --listen 127.0.0.1:0 --topic orders:6:3 \
         --set min.insync.replicas=2",
        BrokerConfig::KEYS.join("\n  ")
    )
}

impl Arguments {
    fn builder(&self) -> Result<MockClusterBuilder, StartError> {
        let mut builder = MockCluster::builder()
            .brokers(self.brokers)
            .listen(&self.listen);
        if let Some(host) = &self.advertised_host {
            builder = builder.advertised_host(host.as_str());
        }
        let mut defaults = BrokerConfig::default();
        for (key, value) in &self.settings {
            defaults.set(key, value)?;
            builder = builder.set(key, value);
        }
        for topic in &self.topics {
            let partitions = topic.partitions.unwrap_or(defaults.num_partitions);
            let replicas = topic
                .replicas
                .unwrap_or(defaults.default_replication_factor);
            builder = builder.topic(topic.name.as_str(), partitions, replicas);
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
    let started = arguments.builder().and_then(MockClusterBuilder::start);
    let cluster = match started {
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

/// Tells that the cluster is ready, and waits for a signal.
fn run(cluster: &MockCluster) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        // Before the line is out: who reads it may signal at once.
        let signal = signal()?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "bootstrap.servers={}", cluster.bootstrap_servers())?;
        stdout.flush()?;
        tracing::info!(
            brokers = cluster.bootstrap_servers(),
            "the cluster is ready"
        );
        // Not inside the macro, which does not evaluate what is not logged.
        let signal = signal.await;
        tracing::info!(signal, "the cluster ends");
        Ok(())
    })
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

/// Arguments that cannot be; the same as clap's.
const STATUS_USAGE: u8 = 2;
