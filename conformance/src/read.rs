//! `conformance read`: a reader that is independent of every writer.
//!
//! It reads every partition of a topic to its end and counts. The first eight bytes of a value,
//! big-endian, are the record's number, as the producer's `send_many` example writes them: within
//! a partition numbers must grow strictly, and over all partitions they must be 0, 1, 2… without
//! one missing or twice.

use std::cmp::Ordering;
use std::fmt;

use clap::Args;

use crate::case::{Objection, expect_eq};
use crate::io::connection::Connection;
use crate::io::transcript::Transcript;
use crate::log::read_to;
use crate::wire::Request;
use crate::wire::answer::{
    ApiVersions, ApiVersionsAnswer, EARLIEST, LATEST, ListOffsets, Metadata,
};
use crate::wire::error_code::ErrorCode;
use crate::wire::records::Fetch;

/// What to read.
#[derive(Clone, Debug, Args)]
pub struct ReadArguments {
    /// HOST:PORT of a broker
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// Fail unless there are exactly so many records
    #[arg(long, value_name = "N")]
    pub expect_records: Option<u64>,
}

/// What the reader found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadVerdict {
    /// Nothing to object.
    Good {
        /// How many records.
        records: u64,
        /// In how many partitions.
        partitions: usize,
    },
    /// Something is wrong.
    Bad(Objection),
}

impl ReadVerdict {
    /// Whether there is nothing to object.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }
}

impl fmt::Display for ReadVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good {
                records,
                partitions,
            } => {
                write!(f, "good: {records} records in {partitions} partitions, ")?;
                write!(f, "in order in each, none missing, none twice")
            }
            Self::Bad(Objection {
                step,
                expected,
                observed,
            }) => {
                write!(f, "BAD: {step}: expected {expected}, observed {observed}")
            }
        }
    }
}

/// Reads the topic and judges it.
///
/// # Cancellation
///
/// Safe.
pub async fn read(arguments: &ReadArguments) -> ReadVerdict {
    match read_topic(arguments).await {
        Ok((records, partitions)) => ReadVerdict::Good {
            records,
            partitions,
        },
        Err(objection) => ReadVerdict::Bad(objection),
    }
}

async fn read_topic(arguments: &ReadArguments) -> Result<(u64, usize), Objection> {
    let topic = &arguments.topic;
    let transcript = Transcript::default();
    let mut connection = Connection::open(&arguments.bootstrap, &transcript).await?;
    let apis = connection.ask(&ApiVersions, 0).await?;
    let metadata = connection
        .ask(&Metadata::of(&[topic]), version::<Metadata>(&apis))
        .await?;
    let row = metadata.topic(topic);
    let row = row.ok_or_else(|| Objection::new("Metadata", format!("topic {topic}"), "no row"))?;
    expect_eq(format!("Metadata of {topic}"), ErrorCode::NONE, row.error)?;
    let mut tally = Tally::default();
    for partition in &row.partitions {
        let step = format!("partition {}", partition.index);
        let address = metadata
            .address(partition.leader)
            .ok_or_else(|| Objection::new(&step, "a leader", partition.leader))?;
        let mut leader = Connection::open(address, &transcript).await?;
        let numbers = read_numbers(&mut leader, topic, partition.index, &apis)
            .await
            .map_err(|objection| objection.within(&step))?;
        tally.add(&step, numbers)?;
    }
    let records = tally.finish(arguments.expect_records)?;
    Ok((records, row.partitions.len()))
}

fn version<R: Request>(apis: &ApiVersionsAnswer) -> i16 {
    apis.range(R::API_KEY)
        .map_or(R::VERSION_MAX, |range| range.max.min(R::VERSION_MAX))
}

async fn read_numbers(
    leader: &mut Connection,
    topic: &str,
    partition: i32,
    apis: &ApiVersionsAnswer,
) -> Result<Vec<u64>, Objection> {
    let mut bounds = [0; 2];
    for (bound, timestamp) in bounds.iter_mut().zip([EARLIEST, LATEST]) {
        let partitions = vec![partition];
        let request = ListOffsets {
            topic: topic.to_owned(),
            partitions,
            timestamp,
        };
        let rows = leader.ask(&request, version::<ListOffsets>(apis)).await?;
        *bound = match rows.as_slice() {
            [row] if row.error == ErrorCode::NONE => row.offset,
            rows => {
                return Err(Objection::new(
                    "ListOffsets",
                    "one offset",
                    format!("{rows:?}"),
                ));
            }
        };
    }
    let [first, end] = bounds;
    expect_eq("first offset", 0, first)?;
    let batches = read_to(leader, (topic, partition), end, version::<Fetch>(apis)).await?;
    let mut numbers = Vec::new();
    for batch in batches.iter().filter(|batch| !batch.is_control()) {
        for record in &batch.records {
            let value = record.content.value.as_deref().unwrap_or_default();
            let number = value.first_chunk().ok_or_else(|| {
                let step = format!("offset {}", record.offset);
                Objection::new(
                    step,
                    "a value of 8 bytes or more",
                    format!("{} bytes", value.len()),
                )
            })?;
            numbers.push(u64::from_be_bytes(*number));
        }
    }
    Ok(numbers)
}

/// The numbers seen so far.
#[derive(Debug, Default)]
struct Tally {
    numbers: Vec<u64>,
}

impl Tally {
    /// Adds the numbers of one partition, in the order of its log.
    fn add(&mut self, partition: &str, numbers: Vec<u64>) -> Result<(), Objection> {
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
            let expected = format!("a number above {}", pair[0]);
            return Err(Objection::new(
                format!("{partition}: order"),
                expected,
                pair[1],
            ));
        }
        self.numbers.extend(numbers);
        Ok(())
    }

    /// How many there are, if they are 0, 1, 2… without gap or repeat.
    fn finish(mut self, expected: Option<u64>) -> Result<u64, Objection> {
        self.numbers.sort_unstable();
        for (place, &number) in (0..).zip(&self.numbers) {
            match number.cmp(&place) {
                Ordering::Equal => {}
                Ordering::Less => {
                    return Err(Objection::new("all partitions", "each number once", number));
                }
                Ordering::Greater => {
                    let missing = format!("none of {place} to {}", number - 1);
                    return Err(Objection::new(
                        "all partitions",
                        "no number missing",
                        missing,
                    ));
                }
            }
        }
        let count = u64::try_from(self.numbers.len()).unwrap_or(u64::MAX);
        match expected {
            Some(expected) => expect_eq("count", expected, count).map(|()| count),
            None => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallied(partitions: &[&[u64]], expected: Option<u64>) -> Result<u64, String> {
        let mut tally = Tally::default();
        for (index, numbers) in partitions.iter().enumerate() {
            let step = format!("partition {index}");
            tally
                .add(&step, numbers.to_vec())
                .map_err(|objection| objection.step)?;
        }
        tally
            .finish(expected)
            .map_err(|objection| objection.expected)
    }

    #[test]
    fn numbers_in_order_without_gap_or_repeat_are_counted() {
        assert_eq!(tallied(&[&[0, 3, 4], &[1, 2], &[]], Some(5)), Ok(5));
        assert_eq!(tallied(&[&[0, 1]], None), Ok(2));
        assert_eq!(tallied(&[], Some(0)), Ok(0));
    }

    #[test]
    fn disorder_repeat_gap_and_wrong_count_are_each_named() {
        assert_eq!(
            tallied(&[&[0, 2, 1]], None),
            Err("partition 0: order".into())
        );
        assert_eq!(
            tallied(&[&[0, 1, 1]], None),
            Err("partition 0: order".into())
        );
        assert_eq!(
            tallied(&[&[0, 1], &[1, 2]], None),
            Err("each number once".into())
        );
        assert_eq!(
            tallied(&[&[0, 1], &[3]], None),
            Err("no number missing".into())
        );
        assert_eq!(tallied(&[&[1, 2]], None), Err("no number missing".into()));
        assert_eq!(tallied(&[&[0, 1]], Some(3)), Err("3".into()));
    }
}
