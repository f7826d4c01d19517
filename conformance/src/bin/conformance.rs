//! The `conformance` program.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use kafka_conformance::cli::{self, Arguments, Exit};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(log.unwrap_or_else(|_| "warn".into()))
        .with_writer(io::stderr)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let mut out = io::stdout();
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = cli::run(arguments, &mut out) => Some(ended),
            // What the run started ends with its future.
            () = interrupted() => None,
        }
    });
    // A case that blocks its thread must not keep the program from ending.
    runtime.shutdown_background();
    match ended {
        Some(Ok(Exit::Good)) => ExitCode::SUCCESS,
        Some(Ok(Exit::Bad)) => ExitCode::FAILURE,
        Some(Err(error)) => refuse(&error),
        None => ExitCode::from(130),
    }
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    // Nothing is left to be done if standard error is closed.
    let _ = writeln!(io::stderr(), "conformance: {error}");
    ExitCode::from(2)
}

/// Ends on SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
