//! What transactions cost: how many go in a second, by how many records are in each and over how
//! many lanes.
//!
//! `cargo run --release --example transaction_rate -- --bootstrap 127.0.0.1:9092 --topic orders`
//!
//! Values of 100 bytes, records without a key. With one lane it is `Transactions`, where each
//! commit is awaited before the next transaction begins; with more it is `Lanes`. One transaction
//! goes ahead of the clock.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::Parser;
use kafka_producer::{LaneCommit, Lanes, Producer, ProducerBuilder, Record};

/// How many transactions go in a second.
#[derive(Parser)]
struct Arguments {
    /// Where to ask first, HOST:PORT, several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// The name of this producer's transactions.
    #[arg(long, default_value = "transaction-rate")]
    transactional_id: String,
    /// How many records in each; several numbers separated by commas.
    #[arg(long, default_value = "1,10,100", value_delimiter = ',')]
    records: Vec<usize>,
    /// Over how many lanes; several numbers separated by commas.
    #[arg(long, default_value = "1,4,16", value_delimiter = ',')]
    lanes: Vec<usize>,
    /// How long each is measured, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    millis: u64,
}

const VALUE: [u8; 100] = [b'x'; 100];

/// What was measured.
struct Rate {
    transactions: u32,
    took: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    writeln!(out, "lanes  records  transactions/s  records/s  ms each")?;
    for &lanes in &arguments.lanes {
        for &records in &arguments.records {
            let rate = match lanes {
                1 => one_after_the_other(&arguments, records).await?,
                _ => over_lanes(&arguments, lanes, records).await?,
            };
            let per_second = f64::from(rate.transactions) / rate.took.as_secs_f64();
            let records_per_second = per_second * f64::from(u32::try_from(records)?);
            let each = 1000.0 / per_second;
            let counts = format!("{lanes:>5}  {records:>7}");
            let rates = format!("{per_second:>14.0}  {records_per_second:>9.0}  {each:>7.2}");
            writeln!(out, "{counts}  {rates}")?;
        }
    }
    Ok(())
}

fn builder(arguments: &Arguments) -> ProducerBuilder {
    Producer::builder()
        .bootstrap_servers(&arguments.bootstrap)
        .transactional_id(&arguments.transactional_id)
}

fn records(topic: &str, count: usize) -> impl Iterator<Item = Record<'_, &str>> {
    (0..count).map(move |_| Record::to(topic).value(&VALUE))
}

async fn one_after_the_other(arguments: &Arguments, count: usize) -> Result<Rate, Box<dyn Error>> {
    let producer = builder(arguments).build()?;
    let mut transactions = producer.init_transactions().await?;
    let (mut started, mut done) = (Instant::now(), 0);
    while done == 0 || started.elapsed() < Duration::from_millis(arguments.millis) {
        let transaction = transactions.begin().await?;
        transaction
            .send_all(records(&arguments.topic, count))
            .await?;
        transaction.commit().await?;
        done += 1;
        if done == 1 {
            started = Instant::now(); // the first goes ahead of the clock
        }
    }
    let took = started.elapsed();
    producer.close().await?;
    let transactions = done - 1;
    Ok(Rate { transactions, took })
}

async fn over_lanes(
    arguments: &Arguments,
    lanes: usize,
    count: usize,
) -> Result<Rate, Box<dyn Error>> {
    let mut lanes = Lanes::start(&builder(arguments), lanes).await?;
    let mut commits: VecDeque<LaneCommit> = VecDeque::new();
    let (mut started, mut done) = (Instant::now(), 0);
    while done == 0 || started.elapsed() < Duration::from_millis(arguments.millis) {
        let transaction = lanes.begin().await?;
        transaction
            .send_all(records(&arguments.topic, count))
            .await?;
        commits.push_back(transaction.commit());
        let ahead = if done == 0 { 0 } else { lanes.count() };
        while commits.len() > ahead
            && let Some(mut first) = commits.pop_front()
        {
            first.wait().await?;
        }
        done += 1;
        if done == 1 {
            started = Instant::now(); // the first goes ahead of the clock
        }
    }
    for mut commit in commits {
        commit.wait().await?;
    }
    let took = started.elapsed();
    lanes.close().await?;
    let transactions = done - 1;
    Ok(Rate { transactions, took })
}
