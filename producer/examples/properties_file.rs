//! Builds a producer from a Java properties file and shows the configuration it runs with.
//!
//! `cargo run --example properties_file -- producer.properties --set linger.ms=20`

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use kafka_producer::Producer;

/// Builds a producer from a Java properties file and shows the configuration it runs with.
#[derive(Parser)]
struct Arguments {
    /// The file, in the syntax of Java's properties.
    file: PathBuf,
    /// A pair that overrules the file, KEY=VALUE; may be given often.
    #[arg(long)]
    set: Vec<String>,
    /// A topic to send one record to.
    #[arg(long)]
    topic: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { file, set, topic } = Arguments::parse();
    let pairs = set
        .iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let producer = Producer::builder()
        .properties_file(file)?
        .set_all(pairs)
        .build()?;
    let mut out = std::io::stdout();
    write!(out, "{}", producer.config())?;
    if let Some(topic) = topic {
        let record = kafka_producer::Record::to(&topic).value("3 apples");
        writeln!(out, "# {:?}", producer.deliver(record).await?)?;
    }
    producer.close().await?;
    Ok(())
}
