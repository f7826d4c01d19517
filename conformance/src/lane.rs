//! A lane: one Produce version with a partition of its own, so that a case can be walked through
//! at every version without one walk seeing the other's records.

use bytes::Bytes;

use crate::case::Objection;
use crate::context::{Context, Rows};
use crate::io::connection::Connection;
use crate::topic::Topic;
use crate::wire::batch::BatchSpec;
use crate::wire::produce::Row;

/// A Produce version, a partition for it, and a connection to that partition's leader.
#[derive(Debug)]
pub struct Lane {
    /// The version that this lane writes with.
    pub version: i16,
    /// Its partition.
    pub partition: i32,
    /// The topic that all lanes of a case share.
    pub topic: Topic,
    /// To the partition's leader.
    pub connection: Connection,
    /// −1 unless a case changes it.
    pub acks: i16,
    context: Context,
}

impl Context {
    /// A lane per Produce version that the target offers, on a fresh topic.
    ///
    /// # Errors
    ///
    /// When the topic cannot be created or a leader not be reached.
    ///
    /// # Cancellation
    ///
    /// The topic may have been created.
    pub async fn lanes(&self) -> Result<Vec<Lane>, Objection> {
        self.lanes_with(&[]).await
    }

    /// As [`Self::lanes`], on a topic with the configuration `configs` by Kafka's names.
    ///
    /// # Errors
    ///
    /// As [`Self::lanes`].
    ///
    /// # Cancellation
    ///
    /// The topic may have been created.
    pub async fn lanes_with(&self, configs: &[(&str, &str)]) -> Result<Vec<Lane>, Objection> {
        let versions = self.produce_versions();
        let partitions = i32::try_from(versions.len()).unwrap_or(1);
        let topic = self.topic_with(partitions, configs).await?;
        let mut lanes = Vec::new();
        for (partition, version) in (0..).zip(versions) {
            lanes.push(Lane {
                version,
                partition,
                connection: self.leader(&topic, partition).await?,
                topic: topic.clone(),
                acks: -1,
                context: self.clone(),
            });
        }
        Ok(lanes)
    }
}

impl Lane {
    /// Sends `records` and objects unless the answer is the row expected.
    ///
    /// # Errors
    ///
    /// When the answer is another.
    ///
    /// # Cancellation
    ///
    /// The records may have been written.
    pub async fn expect(
        &mut self,
        step: &str,
        records: Bytes,
        expected: Row,
    ) -> Result<(), Objection> {
        let mut request = self.topic.produce(self.partition, records);
        request.acks = self.acks;
        let asked = (&request, self.version);
        self.context
            .expect_row(&mut self.connection, asked, (step, expected))
            .await
    }

    /// Sends `batch` and objects unless it is written at `base_offset`.
    ///
    /// # Errors
    ///
    /// When it is not.
    ///
    /// # Cancellation
    ///
    /// The batch may have been written.
    pub async fn expect_written(
        &mut self,
        step: &str,
        batch: &BatchSpec,
        base_offset: i64,
    ) -> Result<(), Objection> {
        let row = Row::written(self.partition, base_offset, self.version);
        self.expect(step, batch.encode(), row).await
    }

    /// Sends `records` and objects unless they are refused with `code` before the log is looked at.
    ///
    /// # Errors
    ///
    /// When they are not.
    ///
    /// # Cancellation
    ///
    /// The records may have been written.
    pub async fn expect_refused(
        &mut self,
        step: &str,
        records: Bytes,
        code: i16,
    ) -> Result<(), Objection> {
        let row = Row::refused(self.partition, code, self.version);
        self.expect(step, records, row).await
    }

    /// Sends `records` and objects unless the log refuses them with `code`.
    ///
    /// # Errors
    ///
    /// When it does not.
    ///
    /// # Cancellation
    ///
    /// The records may have been written.
    pub async fn expect_refused_by_log(
        &mut self,
        step: &str,
        records: Bytes,
        code: i16,
    ) -> Result<(), Objection> {
        let row = Row::refused_by_log(self.partition, code, self.version);
        self.expect(step, records, row).await
    }

    /// Sends `records` and returns the one row of the answer, for what cannot be foretold whole.
    ///
    /// # Errors
    ///
    /// When the answer has not exactly one row.
    ///
    /// # Cancellation
    ///
    /// The records may have been written.
    pub async fn row_of(&mut self, step: &str, records: Bytes) -> Result<Row, Objection> {
        let mut request = self.topic.produce(self.partition, records);
        request.acks = self.acks;
        let rows = self
            .context
            .produce(&mut self.connection, &request, self.version)
            .await?;
        match <[Row; 1]>::try_from(rows) {
            Ok([row]) => Ok(row),
            Err(rows) => {
                let step = format!("Produce v{}, {step}", self.version);
                Err(Objection::new(step, "one row", Rows(rows)))
            }
        }
    }

    /// Objects unless the partition's visible values are `expected`, at offsets 0, 1, 2….
    ///
    /// # Errors
    ///
    /// When they are others.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn expect_values<V: AsRef<str>>(&self, expected: &[V]) -> Result<(), Objection> {
        self.context
            .expect_values(&self.topic, self.partition, expected)
            .await
            .map_err(|objection| objection.within(format!("after Produce v{}", self.version)))
    }
}
