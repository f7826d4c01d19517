//! Reads a topic, makes a record of each record, and writes it to another topic: exactly once.
//!
//! `cargo run --example copy -- --bootstrap 127.0.0.1:9092 --from orders --to shouted`
//!
//! What was written and how far was read are committed together. So whatever ends the program,
//! at whatever point, it can be started again: it goes on behind the last transaction that was
//! committed, and what was left open is aborted. Who reads the output has to read committed records
//! only (`isolation.level=read_committed`).

mod reading {
    pub(crate) mod offsets;
    pub(crate) mod reader;
}

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::Parser;
use kafka_producer::{CommitError, ConsumedOffset, ConsumerGroup, Producer, Record, Transactions};
use reading::reader::{Message, Reader};

/// Copies a topic in capital letters, exactly once.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic to read.
    #[arg(long)]
    from: String,
    /// The topic to write.
    #[arg(long)]
    to: String,
    /// The consumer group: how far was read is kept under its name.
    #[arg(long, default_value = "copiers")]
    group: String,
    /// The name of this program's transactions, the same after a restart and nobody else's.
    #[arg(long, default_value = "copier-1")]
    transactional_id: String,
    /// Ends when nothing has come for so many seconds; 0 goes on for ever.
    #[arg(long, default_value_t = 0)]
    idle: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let producer = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .transactional_id(&arguments.transactional_id)
        .build()?;
    // Before the offsets are asked for: from here on nobody else of this name commits any.
    let mut transactions = producer.init_transactions().await?;
    // Your consumer: it reads committed records only, and does not commit by itself.
    let mut reader = Reader::open(&arguments.bootstrap, &arguments.from, &arguments.group).await?;
    let (mut copied, mut last) = (0, Instant::now());
    while arguments.idle == 0 || last.elapsed() < Duration::from_secs(arguments.idle) {
        let messages = reader.poll().await?;
        if !messages.is_empty() {
            // Any error ends the program. The transaction is aborted then, and started again it
            // reads these messages anew.
            copy(&mut transactions, &messages, &arguments).await?;
            copied += messages.len();
            last = Instant::now();
        }
    }
    producer.close().await?;
    writeln!(std::io::stdout(), "copied {copied} records")?;
    Ok(())
}

/// One transaction: what is made of the messages, and that they were read.
async fn copy(
    transactions: &mut Transactions,
    messages: &[Message],
    arguments: &Arguments,
) -> Result<(), Box<dyn Error>> {
    let transaction = transactions.begin().await?;
    let mut read = BTreeMap::new();
    for message in messages {
        let value = message.value.as_deref().unwrap_or_default();
        let shouted = value.to_ascii_uppercase();
        let mut record = Record::to(arguments.to.as_str()).value(&shouted);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        transaction.send(record).await?;
        read.insert(message.partition, message.offset + 1);
    }
    // With `member` a consumer says who it is in its group: one that has lost its partitions
    // cannot commit. This program reads all of them alone.
    let group = ConsumerGroup::new(arguments.group.as_str());
    let from = arguments.from.as_str();
    let offsets = read.into_iter();
    let offsets = offsets.map(|(partition, next)| ConsumedOffset::next(from, partition, next));
    transaction.send_offsets(offsets, &group).await?;
    let mut committed = transaction.commit().await;
    while let Err(CommitError::Unanswered(commit)) = committed {
        committed = commit.resume().await;
    }
    Ok(committed?)
}
