//! Record batches, continued: what the fields of a header may say.
//!
//! *Source*: `DefaultRecordBatch.java`, `MemoryRecords.java`; the answers are those observed on
//! 4.3.1.

use std::time::Duration;

use bytes::Bytes;

use super::record_batch::refuses_counts;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::wire::answer::{ApiVersions, Metadata};
use crate::wire::batch::{BatchSpec, Stamp, lengthened, sealed_to_its_length};
use crate::wire::produce::Row;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "RBV-02",
        level: Level::Wire,
        sentence: "magic 0 and 1 are refused with 87, a magic of no format with 2",
        source: "ProduceRequest.java validateRecords; ByteBufferLogInputStream.java",
        needs: &[],
        run: |c| Box::pin(other_magic(c)),
    },
    Case {
        id: "RBV-05",
        level: Level::Wire,
        sentence: "null records are never answered and mute their connection, nothing is stored",
        source: "observed on 4.3.1: handleProduceRequest throws, the channel stays muted",
        needs: &[],
        run: |c| Box::pin(null_records(c)),
    },
    Case {
        id: "RBV-08",
        level: Level::Wire,
        sentence: "a record count of 0 or -1 is refused with 87",
        source: "LogValidator.java validateBatch",
        needs: &[],
        run: |c| Box::pin(count_below_one(c)),
    },
    Case {
        id: "RBV-10",
        level: Level::Wire,
        sentence: "a producer id with a base sequence below 0 is refused with 87",
        source: "LogValidator.java validateBatch",
        needs: &[],
        run: |c| Box::pin(id_without_sequence(c)),
    },
    Case {
        id: "RBV-20",
        level: Level::Wire,
        sentence: "the codec numbers 5, 6 and 7, which no codec has, are refused with -1",
        source: "CompressionType.java forId; observed on 4.3.1",
        needs: &[],
        run: |c| Box::pin(codec_of_no_name(c)),
    },
    Case {
        id: "RBV-22",
        level: Level::Wire,
        sentence: "a batch longer or shorter than its length field is refused with 87 or 2, and \
                   stray bytes that begin no batch are dropped",
        source: "ByteBufferLogInputStream.java nextBatchSize; observed on 4.3.1",
        needs: &[],
        run: |c| Box::pin(length_that_lies(c)),
    },
];

async fn other_magic(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        for magic in [0, 1] {
            let batch = of_magic(&c, magic);
            lane.expect_refused(&format!("magic {magic}"), batch, 87)
                .await?;
        }
        for magic in [3, -1] {
            let words = format!("Invalid magic found in record: {magic}");
            let row = Row::refused(lane.partition, 2, lane.version).saying(&words, lane.version);
            lane.expect(&format!("magic {magic}"), of_magic(&c, magic), row)
                .await?;
        }
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

fn of_magic(c: &Context, magic: i8) -> Bytes {
    let batch = BatchSpec {
        magic,
        ..BatchSpec::numbered("v", 1, c.now_ms())
    };
    batch.encode()
}

/// How long a connection is watched that must stay silent; Kafka answers within milliseconds.
const QUIET: Duration = Duration::from_millis(400);

async fn null_records(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let mut bystander = c.leader(&lane.topic, lane.partition).await?;
        let mut request = lane.topic.produce(lane.partition, Bytes::new());
        for data in &mut request.topics {
            data.partitions = vec![(lane.partition, None)];
        }
        lane.connection.send(&request, lane.version).await?;
        lane.connection
            .send(&Metadata::of(&[]), c.version::<Metadata>())
            .await?;
        let step = format!("Produce v{} of null, then Metadata", lane.version);
        lane.connection.expect_silence(&step, QUIET).await?;
        bystander.ask(&ApiVersions, 0).await?;
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn count_below_one(c: Context) -> Result<(), Objection> {
    refuses_counts(
        c,
        &[(1, 0, 0), (1, 0, -1), (0, 0, -1), (1, -1, 0), (1, -1, -2)],
    )
    .await
}

async fn id_without_sequence(c: Context) -> Result<(), Objection> {
    let stamp = c.producer().await?;
    for mut lane in c.lanes().await? {
        for sequence in [-1, -2] {
            let batch = BatchSpec::numbered("v", 1, c.now_ms());
            let batch = batch.stamped(Stamp { sequence, ..stamp });
            let step = format!("producer id with sequence {sequence}");
            lane.expect_refused_by_log(&step, batch.encode(), 87)
                .await?;
        }
        lane.expect_values::<&str>(&[]).await?;
        let batch = BatchSpec::numbered("v", 1, c.now_ms());
        lane.expect_written("sequence 0", &batch.stamped(stamp), 0)
            .await?;
    }
    Ok(())
}

async fn codec_of_no_name(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        for attributes in [5, 6, 7] {
            let batch = BatchSpec {
                attributes,
                ..BatchSpec::numbered("v", 1, c.now_ms())
            };
            lane.expect_refused_by_log(&format!("codec {attributes}"), batch.encode(), -1)
                .await?;
        }
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn length_that_lies(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        for change in [1, 10, 1_000] {
            let step = format!("length {change} more than there is");
            lane.expect_refused(&step, lengthened(&batch, change), 87)
                .await?;
        }
        for change in [-1, -5] {
            let shorter = lengthened(&batch, change);
            let step = format!("length {change}");
            lane.expect_refused(&step, shorter.clone(), 2).await?;
            let step = format!("length {change}, checksum of what is claimed");
            lane.expect_refused_by_log(&step, sealed_to_its_length(&shorter), 87)
                .await?;
        }
        let length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
        let words = "Record size 10 is less than the minimum record overhead (14)";
        let row = Row::refused(lane.partition, 2, lane.version).saying(words, lane.version);
        lane.expect("length 10", lengthened(&batch, 10 - length), row)
            .await?;
        lane.expect_values::<&str>(&[]).await?;

        let followed_by = |stray: &[u8]| -> Bytes { [&batch[..], stray].concat().into() };
        let zeros = followed_by(&[0; 20]);
        lane.expect_refused("20 zero bytes behind the batch", zeros, 2)
            .await?;
        lane.expect_values::<&str>(&[]).await?;
        for (offset, stray) in [&[0xff; 10], &batch[..40]].into_iter().enumerate() {
            let step = format!("{} stray bytes behind the batch", stray.len());
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            let row = Row::written(lane.partition, offset, lane.version);
            lane.expect(&step, followed_by(stray), row).await?;
        }
        let stored = c.batches(&lane.topic, lane.partition).await?;
        expect_eq("batches in the log", 2, stored.len())?;
        lane.expect_values(&["v-0", "v-0"]).await?;
    }
    Ok(())
}
