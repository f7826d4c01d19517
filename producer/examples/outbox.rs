//! Relays an outbox: rows that a service wrote with its own data are sent exactly once, in order.
//!
//! `cargo run --example outbox -- --bootstrap 127.0.0.1:9092 --rows outbox.txt`
//!
//! A service that changes its database and tells Kafka may die between the two. So it writes what
//! it has to tell into a table, the outbox, with the change itself, in one transaction of the
//! database. This program sends what stands there. How far it has come it does not write into the
//! database, for it could die between sending and writing: the number of the next row is committed
//! as an offset of a consumer group, in the very transaction that sends the rows. Started again it
//! asks for that number.
//!
//! Here a file stands for the table, and a line for a row: `KEY VALUE`.

mod reading {
    pub(crate) mod offsets;
}

use std::error::Error;
use std::io::Write;

use clap::Parser;
use kafka_producer::{CommitError, ConsumedOffset, ConsumerGroup, Producer, Record, Transactions};

/// Sends the rows of an outbox exactly once.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// The file whose lines are the rows; more may be appended at any time.
    #[arg(long)]
    rows: std::path::PathBuf,
    /// The name of this outbox, the same after a restart and no other's.
    #[arg(long, default_value = "outbox-1")]
    name: String,
    /// How many rows are sent in one transaction.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    together: u32,
}

/// The partition under which the number of the next row is kept. It has to exist; nobody reads it
/// in this group.
const KEPT_AT: i32 = 0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let producer = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .transactional_id(&arguments.name)
        .build()?;
    // Before the number is asked for: from here on no older relay commits any.
    let mut transactions = producer.init_transactions().await?;
    let place = (arguments.name.as_str(), arguments.topic.as_str());
    let next = reading::offsets::next_offsets(&arguments.bootstrap, place, &[KEPT_AT]).await?;
    let first = next.get(&KEPT_AT).copied().unwrap_or(0);
    // `SELECT … WHERE number >= first ORDER BY number`
    let table = std::fs::read_to_string(&arguments.rows)?;
    let rows: Vec<&str> = table.lines().skip(first.try_into()?).collect();
    let mut number = first;
    for rows in rows.chunks(arguments.together.try_into()?) {
        number += i64::try_from(rows.len())?;
        relay(&mut transactions, rows, number, &arguments).await?;
    }
    // What was sent may be deleted from the table now, at any time, or never.
    producer.close().await?;
    writeln!(std::io::stdout(), "sent rows {first} to {number}")?;
    Ok(())
}

/// One transaction: rows, and which is the next.
async fn relay(
    transactions: &mut Transactions,
    rows: &[&str],
    next: i64,
    arguments: &Arguments,
) -> Result<(), Box<dyn Error>> {
    let transaction = transactions.begin().await?;
    let records = rows.iter().map(|row| {
        let (key, value) = row.split_once(' ').unwrap_or((row, ""));
        Record::to(arguments.topic.as_str()).key(key).value(value)
    });
    transaction.send_all(records).await?;
    let reached = ConsumedOffset::next(arguments.topic.as_str(), KEPT_AT, next);
    let group = ConsumerGroup::new(arguments.name.as_str());
    transaction.send_offsets([reached], &group).await?;
    let mut committed = transaction.commit().await;
    while let Err(CommitError::Unanswered(commit)) = committed {
        committed = commit.resume().await;
    }
    Ok(committed?)
}
