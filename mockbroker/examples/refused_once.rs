//! A test as one would write it, with a client of eleven lines in place of the client under test.
//!
//! ```sh
//! cargo run -p kafka-mockbroker --example refused_once
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

use kafka_mockbroker::inspect::Event;
use kafka_mockbroker::{Api, MockCluster, Rule, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    // Three brokers on free ports; they end with `cluster`.
    let cluster = MockCluster::builder()
        .brokers(3)
        .topic("orders", 6, 3)
        .set("auto.create.topics.enable", "false")
        .start()?;

    // The first request is closed on, and no other; the rule goes with `refused`.
    let refused = cluster.inject(Rule::on(Api::ApiVersions).then(Verdict::CloseBefore));

    let mut attempts = 1;
    while ask_versions(cluster.bootstrap_servers()).is_err() {
        attempts += 1;
    }

    assert_eq!(attempts, 2, "the client under test tries again");
    assert_eq!(refused.hits(), 1);
    assert!(
        cluster.unfired_rules().is_empty(),
        "everything that was planned happened"
    );
    assert!(
        cluster.diagnostics().is_empty(),
        "the client sent nothing strange"
    );
    for entry in cluster.journal() {
        if let Event::Request { id, verdict, .. } = entry.event {
            tell(format_args!(
                "{:?}: {} v{}: {verdict}",
                entry.broker, id.api, id.version
            ))?;
        }
    }
    Ok(())
}

/// Asks the first broker for its versions.
fn ask_versions(bootstrap_servers: &str) -> std::io::Result<()> {
    let first = bootstrap_servers.split(',').next().unwrap_or_default();
    let mut stream = TcpStream::connect(first)?;
    // Size, API key 18, version 0, correlation id 7, no client id.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255])?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)
}

fn tell(line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
