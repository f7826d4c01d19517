//! Idempotence: producer ids, epochs, sequences and the window of five.
//!
//! *Source*: KIP-98, KIP-360; `ProducerStateManager.java`, `ProducerStateEntry.java`,
//! `ProducerAppendInfo.java` of Kafka's storage module.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_producer::Record;

use super::producer_state::{batch, duplicate_of, stamped_lanes};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::wire::answer::{InitProducerId, Metadata};
use crate::wire::batch::{BatchSpec, Stamp};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "IDM-01",
        level: Level::Wire,
        sentence: "100 InitProducerId calls over all brokers give distinct ids with epoch 0",
        source: "KIP-98; ProducerIdManager (blocks of ids per broker)",
        needs: &[],
        run: |c| Box::pin(distinct_ids(c)),
    },
    Case {
        id: "IDM-03",
        level: Level::Wire,
        sentence: "a new producer's sequence 0 is accepted, and so is each one that follows on",
        source: "ProducerAppendInfo.java checkSequence",
        needs: &[],
        run: |c| Box::pin(contiguous_sequences(c)),
    },
    Case {
        id: "IDM-04",
        level: Level::Wire,
        sentence: "an exact repeat of the last batch is answered with its first offset and not \
                   stored again",
        source: "UnifiedLog.java (duplicate batch); ProducerStateEntry.java findDuplicateBatch",
        needs: &[],
        run: |c| Box::pin(exact_repeat(c)),
    },
    Case {
        id: "IDM-06",
        level: Level::Wire,
        sentence: "a repeat of the sixth-oldest batch is refused with 45",
        source: "ProducerStateEntry.java NUM_BATCHES_TO_RETAIN",
        needs: &[],
        run: |c| Box::pin(repeat_beyond_the_window(c)),
    },
    Case {
        id: "IDM-07",
        level: Level::Wire,
        sentence: "a gap of one sequence is refused with 45, nothing is stored",
        source: "ProducerAppendInfo.java checkSequence",
        needs: &[],
        run: |c| Box::pin(gap(c)),
    },
    Case {
        id: "IDM-08",
        level: Level::Wire,
        sentence: "the same first sequence with another number of records is refused with 45",
        source: "ProducerStateEntry.java findDuplicateBatch (both ends must match)",
        needs: &[],
        run: |c| Box::pin(same_start_other_length(c)),
    },
    Case {
        id: "IDM-11",
        level: Level::Wire,
        sentence: "an epoch below the stored one is refused with 47",
        source: "ProducerAppendInfo.java checkProducerEpoch; KIP-588",
        needs: &[],
        run: |c| Box::pin(lower_epoch(c)),
    },
    Case {
        id: "IDM-12",
        level: Level::Wire,
        sentence: "the next epoch starts at sequence 0, and the old epoch is refused from then on",
        source: "ProducerAppendInfo.java checkProducerEpoch, checkSequence; KIP-360",
        needs: &[],
        run: |c| Box::pin(next_epoch(c)),
    },
    Case {
        id: "IDM-13",
        level: Level::Wire,
        sentence: "the next epoch at sequence 5 is refused with 45",
        source: "ProducerAppendInfo.java checkSequence",
        needs: &[],
        run: |c| Box::pin(next_epoch_not_at_zero(c)),
    },
    Case {
        id: "IDM-18",
        level: Level::Wire,
        sentence: "one producer's sequences on two partitions are independent",
        source: "ProducerStateManager.java (one per partition)",
        needs: &[],
        run: |c| Box::pin(partitions_are_independent(c)),
    },
    Case {
        id: "IDM-22",
        level: Level::Client,
        sentence: "a batch whose reply is lost after the append is in the log once, and its \
                   records learn the offsets of that append",
        source: "KIP-98; Sender.java completeBatch, TransactionManager.java (retry keeps sequence)",
        needs: &[],
        run: |c| Box::pin(lost_reply(c)),
    },
];

async fn distinct_ids(c: Context) -> Result<(), Objection> {
    let brokers = c.metadata(&Metadata::of(&[])).await?.brokers;
    c.producer().await?; // waits until the first broker has fetched its block of ids
    let versions = c.version::<InitProducerId>() + 1;
    let mut ids = BTreeSet::new();
    for (call, broker) in (0..100_i16).zip(brokers.iter().cycle()) {
        let mut connection = c.connect_to(&broker.address).await?;
        let version = call % versions;
        let stamp = c.producer_from(&mut connection, version).await?;
        let step = format!(
            "call {call}, InitProducerId v{version} on broker {}",
            broker.id
        );
        expect_eq(&step, 0, stamp.epoch)?;
        if stamp.id < 0 || !ids.insert(stamp.id) {
            return Err(Objection::new(step, "a new id of 0 or more", stamp.id));
        }
    }
    expect_eq("distinct ids", 100, ids.len())
}

async fn contiguous_sequences(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        lane.expect_written("sequence 0", &batch(&c, "a", 1, stamp, 0), 0)
            .await?;
        lane.expect_written("sequence 1 to 3", &batch(&c, "b", 3, stamp, 1), 1)
            .await?;
        lane.expect_written("sequence 4", &batch(&c, "c", 1, stamp, 4), 4)
            .await?;
        lane.expect_values(&["a-0", "b-0", "b-1", "b-2", "c-0"])
            .await?;
        let stored = c.batches(&lane.topic, lane.partition).await?;
        let stamps: Vec<Stamp> = stored.iter().map(|batch| batch.stamp).collect();
        let expected = [0, 1, 4].map(|sequence| Stamp { sequence, ..stamp });
        expect_eq(
            "stamps in the log",
            format!("{expected:?}"),
            format!("{stamps:?}"),
        )?;
    }
    Ok(())
}

async fn exact_repeat(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        lane.expect_written("first batch", &batch(&c, "a", 2, stamp, 0), 0)
            .await?;
        let last = batch(&c, "b", 3, stamp, 2);
        lane.expect_written("second batch", &last, 2).await?;
        for _ in 0..2 {
            let row = duplicate_of(&lane, &last, 2);
            lane.expect("repeat of the second batch", last.encode(), row)
                .await?;
        }
        lane.expect_values(&["a-0", "a-1", "b-0", "b-1", "b-2"])
            .await?;
        // The window did not move: the next sequence is the one after the batch.
        lane.expect_written("third batch", &batch(&c, "c", 1, stamp, 5), 5)
            .await?;
    }
    Ok(())
}

async fn repeat_beyond_the_window(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        let batches: Vec<BatchSpec> = (0..6)
            .map(|sequence| batch(&c, &sequence.to_string(), 1, stamp, sequence))
            .collect();
        for (offset, batch) in (0..).zip(&batches) {
            lane.expect_written("new batch", batch, offset).await?;
        }
        lane.expect_refused_by_log("the sixth-oldest again", batches[0].encode(), 45)
            .await?;
        let row = duplicate_of(&lane, &batches[1], 1);
        lane.expect("the fifth-oldest again", batches[1].encode(), row)
            .await?;
        lane.expect_values(&["0-0", "1-0", "2-0", "3-0", "4-0", "5-0"])
            .await?;
    }
    Ok(())
}

async fn gap(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        lane.expect_written("sequence 0", &batch(&c, "a", 1, stamp, 0), 0)
            .await?;
        let early = batch(&c, "c", 1, stamp, 2);
        lane.expect_refused_by_log("sequence 2", early.encode(), 45)
            .await?;
        lane.expect_values(&["a-0"]).await?;
        // The gap can be closed, and then the refused batch is next.
        lane.expect_written("sequence 1", &batch(&c, "b", 1, stamp, 1), 1)
            .await?;
        lane.expect_written("sequence 2", &early, 2).await?;
    }
    Ok(())
}

async fn same_start_other_length(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        lane.expect_written("sequence 0 to 2", &batch(&c, "a", 3, stamp, 0), 0)
            .await?;
        for count in [1, 2, 4] {
            let other = batch(&c, "b", count, stamp, 0).encode();
            lane.expect_refused_by_log(&format!("sequence 0, {count} records"), other, 45)
                .await?;
        }
        lane.expect_values(&["a-0", "a-1", "a-2"]).await?;
    }
    Ok(())
}

async fn lower_epoch(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        let newer = Stamp { epoch: 5, ..stamp };
        lane.expect_written("epoch 5", &batch(&c, "a", 1, newer, 0), 0)
            .await?;
        for (epoch, sequence) in [(4, 1), (4, 0), (0, 1)] {
            let older = Stamp { epoch, ..stamp };
            let late = batch(&c, "b", 1, older, sequence).encode();
            let step = format!("epoch {epoch}, sequence {sequence}");
            lane.expect_refused_by_log(&step, late, 47).await?;
        }
        lane.expect_values(&["a-0"]).await?;
    }
    Ok(())
}

async fn next_epoch(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        let next = Stamp {
            epoch: stamp.epoch + 1,
            ..stamp
        };
        lane.expect_written("old epoch", &batch(&c, "a", 2, stamp, 0), 0)
            .await?;
        lane.expect_written("next epoch, sequence 0", &batch(&c, "b", 1, next, 0), 2)
            .await?;
        let late = batch(&c, "c", 1, stamp, 2).encode();
        lane.expect_refused_by_log("old epoch, next sequence", late, 47)
            .await?;
        lane.expect_written("next epoch, sequence 1", &batch(&c, "d", 1, next, 1), 3)
            .await?;
        lane.expect_values(&["a-0", "a-1", "b-0", "d-0"]).await?;
    }
    Ok(())
}

async fn next_epoch_not_at_zero(c: Context) -> Result<(), Objection> {
    for (mut lane, stamp) in stamped_lanes(&c).await? {
        let next = Stamp {
            epoch: stamp.epoch + 1,
            ..stamp
        };
        lane.expect_written("old epoch", &batch(&c, "a", 5, stamp, 0), 0)
            .await?;
        // Sequence 5 would be next in the old epoch.
        let wrong = batch(&c, "b", 1, next, 5).encode();
        lane.expect_refused_by_log("next epoch, sequence 5", wrong, 45)
            .await?;
        lane.expect_written("old epoch goes on", &batch(&c, "c", 1, stamp, 5), 5)
            .await?;
    }
    Ok(())
}

async fn partitions_are_independent(c: Context) -> Result<(), Objection> {
    let mut lanes = stamped_lanes(&c).await?;
    // One producer for all lanes: each has its partition.
    let shared = c.producer().await?;
    for (lane, stamp) in &mut lanes {
        *stamp = shared;
        lane.expect_written("sequence 0", &batch(&c, "a", 2, *stamp, 0), 0)
            .await?;
    }
    for (lane, stamp) in &mut lanes {
        let early = batch(&c, "c", 1, *stamp, 9).encode();
        lane.expect_refused_by_log("sequence 9", early, 45).await?;
        lane.expect_written("sequence 2", &batch(&c, "b", 1, *stamp, 2), 2)
            .await?;
    }
    for (lane, _) in &mut lanes {
        lane.expect_values(&["a-0", "a-1", "b-0"]).await?;
    }
    Ok(())
}

async fn lost_reply(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let path = c.lossy_path(&topic).await?;
    // The mock keeps the connection open: there only the time-out tells that the reply is lost.
    let builder = path.client().request_timeout(Duration::from_secs(1));
    let producer = client::build(builder.delivery_timeout(Duration::from_secs(30)))?;
    let values: Vec<String> = (0..5).map(|index| format!("v-{index}")).collect();
    let mut deliveries = Vec::new();
    for value in &values {
        let record = Record::to(topic.name.as_str()).value(value);
        deliveries.push(client::send(&producer, record).await?);
    }
    for (offset, delivery) in (0..).zip(deliveries) {
        client::expect_delivery(&format!("record {offset}"), delivery, Some(offset)).await?;
    }
    expect_eq("replies lost", 1, path.lost())?;
    c.expect_values(&topic, 0, &values).await
}
