//! Idempotence, continued: what a broker knows of a producer, and what it takes from strangers.
//!
//! *Source*: KIP-98, KIP-360; `ProducerStateManager.java`, `ProducerAppendInfo.java`; the answers
//! are those observed on 4.3.1.

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::lane::Lane;
use crate::wire::answer::{InitProducerId, Metadata};
use crate::wire::batch::{BatchSpec, Stamp};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::Row;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "IDM-02",
        level: Level::Wire,
        sentence: "InitProducerId with a producer id or an epoch, but not both, is refused with 42",
        source: "InitProducerIdRequest.java; KafkaApis.scala handleInitProducerIdRequest; KIP-360",
        needs: &[],
        run: |c| Box::pin(half_a_producer(c)),
    },
    Case {
        id: "IDM-09",
        level: Level::Wire,
        sentence: "a producer that the partition does not know may begin at sequence 41, and then \
                   goes on from there",
        source: "ProducerAppendInfo.java checkSequence (no state: any first sequence)",
        needs: &[],
        run: |c| Box::pin(stranger_at_any_sequence(c)),
    },
    Case {
        id: "IDM-19",
        level: Level::Wire,
        sentence: "two producers interleaved on one partition are both accepted, each with its \
                   own window",
        source: "ProducerStateManager.java (one entry per producer id)",
        needs: &[],
        run: |c| Box::pin(two_producers(c)),
    },
    Case {
        id: "IDM-20",
        level: Level::Wire,
        sentence: "with acks=1 and acks=0 a repeated batch is not stored again either",
        source: "UnifiedLog.java analyzeAndValidateProducerState (acks do not matter)",
        needs: &[],
        run: |c| Box::pin(repeats_with_fewer_acks(c)),
    },
];

async fn half_a_producer(c: Context) -> Result<(), Objection> {
    // The fields exist from version 3.
    const FROM: i16 = 3;
    c.producer().await?; // waits until the broker has fetched its block of ids
    let mut connection = c.connect().await?;
    for version in FROM..=c.version::<InitProducerId>() {
        for (producer_id, epoch) in [(5, -1), (-1, 5)] {
            let request = InitProducerId { producer_id, epoch };
            let answer = connection.ask(&request, version).await?;
            let step = format!("InitProducerId v{version}, id {producer_id}, epoch {epoch}");
            expect_eq(&step, ErrorCode(42), answer.error)?;
            expect_eq(&step, -1, answer.producer_id)?;
            expect_eq(&step, -1, answer.epoch)?;
        }
    }
    Ok(())
}

async fn stranger_at_any_sequence(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        lane.expect_written("sequence 41", &batch(&c, "a", 1, stamp, 41), 0)
            .await?;
        let early = batch(&c, "b", 1, stamp, 0).encode();
        lane.expect_refused_by_log("then sequence 0", early, 45)
            .await?;
        lane.expect_written("then sequence 42", &batch(&c, "c", 1, stamp, 42), 1)
            .await?;
        lane.expect_values(&["a-0", "c-0"]).await?;
    }
    Ok(())
}

async fn two_producers(c: Context) -> Result<(), Objection> {
    for (mut lane, one) in stamped_lanes(&c).await? {
        let other = c.producer().await?;
        let mut offset = 0;
        let mut values = Vec::new();
        let mut first = Vec::new();
        // Six batches: one window for both would have lost the first by now.
        for round in 0..3 {
            for (name, stamp) in [("one", one), ("other", other)] {
                let prefix = format!("{name}-{round}");
                let batch = batch(&c, &prefix, 2, stamp, 2 * round);
                lane.expect_written(&prefix, &batch, offset).await?;
                values.extend([format!("{prefix}-0"), format!("{prefix}-1")]);
                if round == 0 {
                    first.push((batch, offset));
                }
                offset += 2;
            }
        }
        for (batch, base_offset) in first {
            let row = duplicate_of(&lane, &batch, base_offset);
            lane.expect("first batch again", batch.encode(), row)
                .await?;
        }
        lane.expect_values(&values).await?;
    }
    Ok(())
}

async fn repeats_with_fewer_acks(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        lane.acks = 1;
        let first = batch(&c, "a", 2, stamp, 0);
        lane.expect_written("acks=1", &first, 0).await?;
        let row = duplicate_of(&lane, &first, 0);
        lane.expect("acks=1 again", first.encode(), row).await?;
        let second = batch(&c, "b", 1, stamp, 2);
        for sent in [&second, &second, &first] {
            let mut request = lane.topic.produce(lane.partition, sent.encode());
            request.acks = 0;
            lane.connection.send(&request, lane.version).await?;
            // Nothing comes in between: the next frame is this one's answer.
            lane.connection
                .ask(&Metadata::of(&[]), c.version::<Metadata>())
                .await?;
        }
        // Requests of one connection are handled in turn, so all three have been.
        lane.expect_values(&["a-0", "a-1", "b-0"]).await?;
        lane.expect_written("acks=1 goes on", &batch(&c, "c", 1, stamp, 3), 3)
            .await?;
    }
    Ok(())
}

/// A lane per version, each with a new producer.
pub(super) async fn stamped_lanes(c: &Context) -> Result<Vec<(Lane, Stamp)>, Objection> {
    let mut stamped = Vec::new();
    for lane in c.lanes().await? {
        stamped.push((lane, c.producer().await?));
    }
    Ok(stamped)
}

pub(super) fn batch(
    c: &Context,
    prefix: &str,
    count: usize,
    stamp: Stamp,
    sequence: i32,
) -> BatchSpec {
    BatchSpec::numbered(prefix, count, c.now_ms()).stamped(Stamp { sequence, ..stamp })
}

/// The row of a repeat: the first append's offset, and the batch's greatest timestamp as append
/// time although the topic keeps the producer's timestamps (observed on 4.3.1).
pub(super) fn duplicate_of(lane: &Lane, batch: &BatchSpec, base_offset: i64) -> Row {
    Row {
        append_time_ms: batch.timestamp_ms,
        ..Row::written(lane.partition, base_offset, lane.version)
    }
}
