//! Record batches: what a broker checks before it stores one.
//!
//! Each refusal is followed by a look at the log: nothing of a refused batch may be stored.

use bytes::{Bytes, BytesMut};

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::wire::batch::{BatchSpec, CONTROL_BIT, CRC_COVERS_FROM, HEADER_BYTES, flip_bit};
use crate::wire::codec::Codec;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "RBV-01",
        level: Level::Wire,
        sentence: "a bit that turned under the checksum is refused with 2, nothing is stored",
        source: "DefaultRecordBatch.java ensureValid; UnifiedLog.java analyzeAndValidateRecords",
        needs: &[],
        run: |c| Box::pin(turned_bit(c)),
    },
    Case {
        id: "RBV-03",
        level: Level::Wire,
        sentence: "two batches for one partition are refused with 87",
        source: "ProduceRequest.java validateRecords",
        needs: &[],
        run: |c| Box::pin(two_batches(c)),
    },
    Case {
        id: "RBV-04",
        level: Level::Wire,
        sentence: "records of zero length are refused with 87",
        source: "ProduceRequest.java validateRecords",
        needs: &[],
        run: |c| Box::pin(no_bytes(c)),
    },
    Case {
        id: "RBV-06",
        level: Level::Wire,
        sentence: "a batch whose base offset is 7 is refused with 87",
        source: "UnifiedLog.java analyzeAndValidateRecords",
        needs: &[],
        run: |c| Box::pin(base_offset_of_seven(c)),
    },
    Case {
        id: "RBV-07",
        level: Level::Wire,
        sentence: "a record count that is not the last offset delta plus one, or not the number \
                   of records, is refused with 87",
        source: "LogValidator.java validateBatch; DefaultRecordBatch.java",
        needs: &[],
        run: |c| Box::pin(count_that_lies(c)),
    },
    Case {
        id: "RBV-09",
        level: Level::Wire,
        sentence: "a control batch from a client is refused with 87",
        source: "LogValidator.java validateBatch",
        needs: &[],
        run: |c| Box::pin(control_batch(c)),
    },
    Case {
        id: "RBV-19",
        level: Level::Wire,
        sentence: "1 and 1,000 records come back equal through every codec",
        source: "CompressionType.java; KIP-110 (zstd from Produce v7)",
        needs: &[],
        run: |c| Box::pin(every_codec(c)),
    },
];

async fn turned_bit(c: Context) -> Result<(), Objection> {
    // In the timestamps, in the producer's stamp, in the first record, and the last byte of all.
    let places = [
        CRC_COVERS_FROM + 10,
        CRC_COVERS_FROM + 26,
        HEADER_BYTES + 5,
        usize::MAX,
    ];
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 2, c.now_ms()).encode();
        for place in places {
            let place = place.min(batch.len() - 1);
            let step = format!("bit turned in byte {place}");
            lane.expect_refused(&step, flip_bit(&batch, place, 0), 2)
                .await?;
        }
        lane.expect_values::<&str>(&[]).await?;
        // The same batch unharmed: it was the bit that was refused.
        lane.expect(
            "unharmed",
            batch,
            crate::wire::produce::Row::written(lane.partition, 0, lane.version),
        )
        .await?;
    }
    Ok(())
}

async fn two_batches(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let mut two = BytesMut::from(&batch[..]);
        two.extend_from_slice(&batch);
        lane.expect_refused("two batches", two.freeze(), 87).await?;
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn no_bytes(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        lane.expect_refused("no bytes", Bytes::new(), 87).await?;
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn base_offset_of_seven(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec {
            base_offset: 7,
            ..BatchSpec::numbered("v", 1, c.now_ms())
        };
        lane.expect_refused_by_log("base offset 7", batch.encode(), 87)
            .await?;
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn count_that_lies(c: Context) -> Result<(), Objection> {
    refuses_counts(c, &[(2, 2, 5), (2, 3, 1), (1, 3, 2), (3, 1, 0), (1, 0, -1)]).await
}

/// Batches with these records written, count and last offset delta are refused with 87.
pub(super) async fn refuses_counts(
    c: Context,
    counts: &[(usize, i32, i32)],
) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        for &(records, count, last_offset_delta) in counts {
            let batch = BatchSpec {
                count: Some(count),
                last_offset_delta: Some(last_offset_delta),
                ..BatchSpec::numbered("v", records, c.now_ms())
            };
            let step = format!("{records} records, count {count}, last delta {last_offset_delta}");
            lane.expect_refused_by_log(&step, batch.encode(), 87)
                .await?;
        }
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn control_batch(c: Context) -> Result<(), Objection> {
    let stamp = c.producer().await?;
    for mut lane in c.lanes().await? {
        let plain = BatchSpec {
            attributes: CONTROL_BIT,
            ..BatchSpec::numbered("v", 1, c.now_ms())
        };
        lane.expect_refused_by_log("without producer id", plain.encode(), 87)
            .await?;
        let stamped = plain.stamped(stamp);
        lane.expect_refused_by_log("with producer id", stamped.encode(), 87)
            .await?;
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn every_codec(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let mut expected: Vec<String> = Vec::new();
        for codec in Codec::ALL {
            if codec == Codec::Zstd && lane.version < ZSTD_FROM {
                let batch = BatchSpec {
                    codec,
                    ..BatchSpec::numbered("v", 1, c.now_ms())
                };
                lane.expect_refused("zstd before v7", batch.encode(), 76)
                    .await?;
                continue;
            }
            for count in [1, 1_000] {
                let prefix = format!("{codec:?}-of-{count}");
                let batch = BatchSpec {
                    codec,
                    ..BatchSpec::numbered(&prefix, count, c.now_ms())
                };
                let base = i64::try_from(expected.len()).unwrap_or(i64::MAX);
                lane.expect_written(&prefix, &batch, base).await?;
                expected.extend((0..count).map(|index| format!("{prefix}-{index}")));
            }
        }
        lane.expect_values(&expected).await?;
        expect_stored_codecs(&c, &lane).await?;
    }
    Ok(())
}

/// The log keeps the producer's codec (`compression.type=producer`).
async fn expect_stored_codecs(c: &Context, lane: &crate::lane::Lane) -> Result<(), Objection> {
    let batches = c.batches(&lane.topic, lane.partition).await?;
    let stored: Vec<Option<Codec>> = batches
        .iter()
        .map(|batch| Codec::of_attributes(batch.attributes))
        .collect();
    let sent: Vec<Option<Codec>> = Codec::ALL
        .into_iter()
        .filter(|&codec| codec != Codec::Zstd || lane.version >= ZSTD_FROM)
        .flat_map(|codec| [Some(codec); 2])
        .collect();
    let step = format!("codecs in the log after v{}", lane.version);
    expect_eq(step, format!("{sent:?}"), format!("{stored:?}"))
}

const ZSTD_FROM: i16 = 7;
