//! A partition's log as any consumer sees it: its end, its batches, its records.

use std::fmt;

use crate::case::{Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::Connection;
use crate::topic::Topic;
use crate::wire::answer::{LATEST, ListOffsets};
use crate::wire::error_code::ErrorCode;
use crate::wire::records::{Fetch, StoredBatch, StoredRecord, read_batches};

/// Largest Fetch answer asked for.
const FETCH_BYTES_MAX: i32 = 8 * 1024 * 1024;

impl Context {
    /// The offset after the last visible record.
    ///
    /// # Errors
    ///
    /// When the leader does not tell.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn end_offset(&self, topic: &Topic, partition: i32) -> Result<i64, Objection> {
        let mut leader = self.leader(topic, partition).await?;
        let request = ListOffsets {
            topic: topic.name.clone(),
            partitions: vec![partition],
            timestamp: LATEST,
        };
        let rows = leader.ask(&request, self.version::<ListOffsets>()).await?;
        match rows.as_slice() {
            [row] if row.error == ErrorCode::NONE => Ok(row.offset),
            rows => Err(Objection::new(
                "ListOffsets",
                "one row, code 0 NONE",
                format!("{rows:?}"),
            )),
        }
    }

    /// Waits until `partition` holds at least `records` visible records.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn await_records(
        &self,
        topic: &Topic,
        partition: i32,
        records: i64,
    ) -> Result<(), Objection> {
        let patience = self.patience(format!("partition {partition} holds {records} records"));
        loop {
            let end = self.end_offset(topic, partition).await?;
            if end >= records {
                return Ok(());
            }
            patience.wait(format!("it ends at offset {end}")).await?;
        }
    }

    /// All batches of `partition` that are visible now.
    ///
    /// # Errors
    ///
    /// When they cannot be fetched or do not read.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn batches(
        &self,
        topic: &Topic,
        partition: i32,
    ) -> Result<Vec<StoredBatch>, Objection> {
        let end = self.end_offset(topic, partition).await?;
        let mut leader = self.leader(topic, partition).await?;
        read_to(
            &mut leader,
            (&topic.name, partition),
            end,
            self.version::<Fetch>(),
        )
        .await
    }

    /// All records of `partition` that are visible now.
    ///
    /// # Errors
    ///
    /// As [`Self::batches`].
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn records(
        &self,
        topic: &Topic,
        partition: i32,
    ) -> Result<Vec<StoredRecord>, Objection> {
        let batches = self.batches(topic, partition).await?;
        Ok(batches
            .into_iter()
            .flat_map(|batch| batch.records)
            .collect())
    }

    /// Objects unless the visible values of `partition` are `expected`, at offsets 0, 1, 2….
    ///
    /// # Errors
    ///
    /// When they are others.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn expect_values<V: AsRef<str>>(
        &self,
        topic: &Topic,
        partition: i32,
        expected: &[V],
    ) -> Result<(), Objection> {
        let records = self.records(topic, partition).await?;
        let observed = records
            .iter()
            .map(|record| (record.offset, record.value_text()));
        let expected = (0..).zip(expected.iter().map(|value| value.as_ref().to_owned()));
        let step = format!("log of partition {partition}");
        let (expected, observed) = Log::side_by_side(expected.collect(), observed.collect());
        expect_eq(step, expected, observed)
    }
}

/// All batches of a partition before offset `end`, over a connection to its leader.
///
/// # Errors
///
/// When they cannot be fetched or do not read.
///
/// # Cancellation
///
/// The connection must not be used on.
pub async fn read_to(
    leader: &mut Connection,
    (topic, partition): (&str, i32),
    end: i64,
    version: i16,
) -> Result<Vec<StoredBatch>, Objection> {
    let mut batches: Vec<StoredBatch> = Vec::new();
    let mut offset = 0;
    while offset < end {
        let request = Fetch {
            topic: topic.to_owned(),
            partition,
            offset,
            wait_ms_max: 500,
            bytes_max: FETCH_BYTES_MAX,
        };
        let step = format!("Fetch at offset {offset}");
        let answer = leader.ask(&request, version).await?;
        expect_eq(&step, ErrorCode::NONE, answer.error)?;
        let fetched = read_batches(&answer.records)
            .map_err(|error| Objection::new(&step, "sound record batches", error))?;
        // A broker may start an answer with the batch that holds the offset: no earlier ones.
        let next = fetched.last().map_or(offset, StoredBatch::next_offset);
        if next <= offset {
            let observed = format!("{} bytes of records", answer.records.len());
            return Err(Objection::new(step, "the batch at that offset", observed));
        }
        batches.extend(fetched);
        offset = next;
    }
    Ok(batches)
}

/// Offsets and values for comparison and reports; of long logs the place where they part is shown.
#[derive(Clone, Debug, PartialEq)]
struct Log {
    records: Vec<(i64, String)>,
    shown_from: usize,
}

impl Log {
    /// Two logs, each shown from the last record before the first in which they differ.
    fn side_by_side(one: Vec<(i64, String)>, other: Vec<(i64, String)>) -> (Self, Self) {
        let alike = one
            .iter()
            .zip(&other)
            .take_while(|(one, other)| one == other);
        let shown_from = alike.count().saturating_sub(1);
        let shown = |records| Self {
            records,
            shown_from,
        };
        (shown(one), shown(other))
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 12;
        write!(f, "{} records", self.records.len())?;
        let mut before = match self.shown_from {
            0 => ": ",
            _ => ": …, ",
        };
        let rest = self.records.iter().skip(self.shown_from);
        for (offset, value) in rest.take(SHOWN_MAX) {
            let value: String = value.chars().take(40).collect();
            write!(f, "{before}{offset}={value:?}")?;
            before = ", ";
        }
        match self.records.len() > self.shown_from + SHOWN_MAX {
            true => f.write_str(", …"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(values: &[&str]) -> Vec<(i64, String)> {
        (0..)
            .zip(values.iter().map(|value| (*value).to_owned()))
            .collect()
    }

    #[test]
    fn logs_are_shown_from_where_they_part() {
        let many: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut other = many.clone();
        other.remove(251);
        other.truncate(252);
        let (one, other) = Log::side_by_side(log(&many), log(&other));
        assert_ne!(one, other);
        let one = one.to_string();
        assert!(
            one.starts_with("300 records: …, 250=\"250\", 251=\"251\", 252="),
            "{one}"
        );
        assert!(one.ends_with(", 261=\"261\", …"), "{one}");
        assert_eq!(
            other.to_string(),
            "252 records: …, 250=\"250\", 251=\"252\""
        );
    }

    #[test]
    fn logs_that_part_at_once_are_shown_from_their_beginning() {
        let (one, other) = Log::side_by_side(log(&["a"]), log(&[]));
        assert_eq!(one.to_string(), "1 records: 0=\"a\"");
        assert_eq!(other.to_string(), "0 records");
    }
}
