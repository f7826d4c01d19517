//! Moves money between accounts: of each transfer both records count, or none does.
//!
//! `cargo run --example transfer -- --bootstrap 127.0.0.1:9092 --topic orders --transfers 10`
//!
//! Every third transfer is called off after its records were written. Who reads with
//! `isolation.level=read_committed` sees the others only, each whole.

use std::error::Error;
use std::time::Instant;

use clap::Parser;
use kafka_producer::{CommitError, Producer, Record, Transactions};

/// Moves money between accounts, in transactions.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// The name of this producer's transactions, the same after a restart and nobody else's.
    #[arg(long, default_value = "transfers-1")]
    transactional_id: String,
    /// How many transfers.
    #[arg(long, default_value_t = 10)]
    transfers: u32,
}

/// How a transfer ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    CalledOff,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let producer = Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .transactional_id(&arguments.transactional_id)
        .build()?;
    // From here on an older producer of the same id can do nothing more.
    let mut transactions = producer.init_transactions().await?;
    let started = Instant::now();
    let mut done = 0;
    for number in 1..=arguments.transfers {
        let ended = transfer(&mut transactions, &arguments.topic, number).await?;
        done += u32::from(ended == Ended::Done);
    }
    let took = started.elapsed();
    producer.close().await?;
    let all = arguments.transfers;
    tell(&format!("{done} of {all} transfers done in {took:?}"))
}

async fn transfer(
    transactions: &mut Transactions,
    topic: &str,
    number: u32,
) -> Result<Ended, Box<dyn Error>> {
    let (taken, given) = (format!("-{number}"), format!("+{number}"));
    // Whatever returns early from here on drops the transaction, and that aborts it.
    let transaction = transactions.begin().await?;
    let debit = Record::to(topic).key("alice").value(&taken);
    let credit = Record::to(topic).key("bob").value(&given);
    if number.is_multiple_of(3) {
        transaction.deliver(debit).await?; // in the log, where it does not count
        transaction.deliver(credit).await?;
        transaction.abort().await?;
        return Ok(Ended::CalledOff);
    }
    transaction.send_all([debit, credit]).await?;
    // Waits until both are written, and fails if one is not.
    let mut committed = transaction.commit().await;
    // Whether it counts is not known yet; no other way is left than to wait on.
    while let Err(CommitError::Unanswered(commit)) = committed {
        committed = commit.resume().await;
    }
    committed?;
    Ok(Ended::Done)
}

/// Says it on standard output; a closed one is an error, not a panic.
fn tell(words: &str) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{words}")?;
    Ok(())
}
