//! Record batches, continued: what a topic's configuration refuses.
//!
//! *Source*: `LogValidator.java`, `TopicConfig.java`; the answers are those observed on 4.3.1.

use bytes::Bytes;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::lane::Lane;
use crate::topic::Topic;
use crate::wire::batch::{BatchSpec, RecordSpec};
use crate::wire::codec::Codec;
use crate::wire::produce::{RECORD_ERRORS_FROM, Row};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "RBV-11",
        level: Level::Wire,
        sentence: "the LogAppendTime bit from a sender is refused with 32 where the topic stamps, \
                   and taken out where it does not",
        source: "LogValidator.java validateTimestamp; DefaultRecordBatch.java",
        needs: &[],
        run: |c| Box::pin(append_time_bit(c)),
    },
    Case {
        id: "RBV-12",
        level: Level::Wire,
        sentence: "records further ahead than message.timestamp.after.max.ms are refused with 32, \
                   and from v8 each is named",
        source: "LogValidator.java validateTimestamp; KIP-467, KIP-937",
        needs: &[],
        run: |c| Box::pin(records_from_the_future(c)),
    },
    Case {
        id: "RBV-13",
        level: Level::Wire,
        sentence: "a record older than message.timestamp.before.max.ms is refused with 32",
        source: "LogValidator.java validateTimestamp; KIP-937",
        needs: &[],
        run: |c| Box::pin(record_from_the_past(c)),
    },
    Case {
        id: "RBV-14",
        level: Level::Wire,
        sentence: "a record without key on a compacted topic is refused with 87 and named from v8",
        source: "LogValidator.java validateKey; KIP-467",
        needs: &[],
        run: |c| Box::pin(no_key_where_compacted(c)),
    },
    Case {
        id: "RBV-15",
        level: Level::Wire,
        sentence: "one bad record of 100 keeps all 100 out of the log",
        source: "LogValidator.java processRecordErrors; KIP-467",
        needs: &[],
        run: |c| Box::pin(one_bad_record_of_many(c)),
    },
    Case {
        id: "RBV-16",
        level: Level::Wire,
        sentence: "a batch of max.message.bytes is stored, one byte more is refused with 10",
        source: "UnifiedLog.java analyzeAndValidateRecords",
        needs: &[],
        run: |c| Box::pin(largest_batch(c)),
    },
    Case {
        id: "RBV-18",
        level: Level::Wire,
        sentence: "zstd is refused with 76 before Produce v7, even when the batch is broken, and \
                   stored from v7",
        source: "KIP-110; ProduceRequest.java validateRecords",
        needs: &[],
        run: |c| Box::pin(zstd_by_version(c)),
    },
];

const HOUR_MS: i64 = 3_600_000;
const APPEND_TIME_BIT: i16 = 0x08;

async fn append_time_bit(c: Context) -> Result<(), Objection> {
    let marked = |timestamp_ms: i64| {
        let record = RecordSpec {
            key: Some(Bytes::from_static(b"k")),
            ..RecordSpec::of("v")
        };
        BatchSpec {
            attributes: APPEND_TIME_BIT,
            ..BatchSpec::of(vec![record], timestamp_ms)
        }
    };
    let stamping = [("message.timestamp.type", "LogAppendTime")];
    for mut lane in c.lanes_with(&stamping).await? {
        let now = c.now_ms();
        let row = refused_for(&lane, 32, &[(0, invalid_type(now))]);
        lane.expect("the topic stamps", marked(now).encode(), row)
            .await?;
        lane.expect_values::<&str>(&[]).await?;
    }
    for mut lane in c.lanes().await? {
        let row = refused_for(&lane, 32, &[(0, invalid_type(-1))]);
        lane.expect("the sender stamps, no time", marked(-1).encode(), row)
            .await?;
        lane.expect_values::<&str>(&[]).await?;
        lane.expect_written("the sender stamps", &marked(c.now_ms()), 0)
            .await?;
        let stored = c.batches(&lane.topic, lane.partition).await?;
        let attributes: Vec<i16> = stored.iter().map(|batch| batch.attributes).collect();
        expect_eq(
            "attributes in the log",
            "[0]".to_owned(),
            format!("{attributes:?}"),
        )?;
    }
    Ok(())
}

fn invalid_type(timestamp_ms: i64) -> String {
    format!(
        "Invalid timestamp type in message DefaultRecord(offset=0, timestamp={timestamp_ms}, \
         key=1 bytes, value=1 bytes). Producer should not set timestamp type to LogAppendTime."
    )
}

async fn records_from_the_future(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let now = c.now_ms();
        let ahead = 2 * HOUR_MS;
        let batch = BatchSpec {
            timestamp_deltas: vec![ahead, 0, ahead],
            ..BatchSpec::numbered("v", 3, now)
        };
        let late = [(0, now + ahead), (2, now + ahead)];
        let allowed = (-i64::MAX, HOUR_MS);
        expect_out_of_range(&c, &mut lane, (&batch, &late), allowed).await?;
        lane.expect_values::<&str>(&[]).await?;
        // Less than an hour ahead is as good as now.
        let batch = BatchSpec {
            timestamp_deltas: vec![HOUR_MS - 60_000],
            ..BatchSpec::numbered("v", 1, now)
        };
        lane.expect_written("59 minutes ahead", &batch, 0).await?;
    }
    Ok(())
}

async fn record_from_the_past(c: Context) -> Result<(), Objection> {
    let configs = [("message.timestamp.before.max.ms", "60000")];
    for mut lane in c.lanes_with(&configs).await? {
        let old = c.now_ms() - 120_000;
        let batch = BatchSpec::numbered("v", 1, old);
        expect_out_of_range(&c, &mut lane, (&batch, &[(0, old)]), (-60_000, HOUR_MS)).await?;
        lane.expect_values::<&str>(&[]).await?;
        let batch = BatchSpec::numbered("now", 1, c.now_ms());
        lane.expect_written("now", &batch, 0).await?;
        // No timestamp is not an old one.
        let batch = BatchSpec::numbered("timeless", 1, -1);
        lane.expect_written("no timestamp", &batch, 1).await?;
    }
    Ok(())
}

/// Objects unless `batch` is refused because of `records` (index and timestamp), with a range that
/// ends `allowed` from the broker's clock.
async fn expect_out_of_range(
    c: &Context,
    lane: &mut Lane,
    (batch, records): (&BatchSpec, &[(i32, i64)]),
    allowed: (i64, i64),
) -> Result<(), Objection> {
    let asked = c.now_ms();
    let observed = lane.row_of("out of range", batch.encode()).await?;
    // The broker's clock stands in its words: it must lie between question and answer, less
    // what the clocks of two machines may differ by.
    let step = format!("Produce v{}, end of the allowed range", lane.version);
    let clock = match observed.record_errors.first() {
        None => asked,
        Some(error) => end_of_range(error.message.as_deref().unwrap_or_default())
            .map(|end| end - allowed.1)
            .ok_or_else(|| Objection::new(&step, "a range", format!("{error:?}")))?,
    };
    const CLOCKS_DIFFER_BY_MAX_MS: i64 = 5_000;
    if (clock - asked).abs() > CLOCKS_DIFFER_BY_MAX_MS + (c.now_ms() - asked) {
        return Err(Objection::new(step, asked, clock));
    }
    let (lower, upper) = (clock.wrapping_add(allowed.0), clock + allowed.1);
    let named: Vec<(i32, String)> = records
        .iter()
        .map(|&(index, timestamp)| {
            let words = format!(
                "Timestamp {timestamp} of message with offset {index} is out of range. The \
                 timestamp should be within [{lower}, {upper}]"
            );
            (index, words)
        })
        .collect();
    let step = format!("Produce v{}, out of range", lane.version);
    expect_eq(step, refused_for(lane, 32, &named), observed)
}

/// The last number in `words`: "… within [FROM, TO]".
fn end_of_range(words: &str) -> Option<i64> {
    let (_, end) = words.strip_suffix(']')?.rsplit_once(", ")?;
    end.parse().ok()
}

async fn no_key_where_compacted(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes_with(&[("cleanup.policy", "compact")]).await? {
        for codec in [Codec::None, Codec::Gzip] {
            let one = BatchSpec {
                codec,
                ..keyed(3, &[1], c.now_ms())
            };
            let row = refused_for(&lane, 87, &[(1, no_key(&lane))]);
            lane.expect(&format!("{codec:?}, record 1"), one.encode(), row)
                .await?;
            let most = BatchSpec {
                codec,
                ..keyed(6, &[0, 2, 3, 4, 5], c.now_ms())
            };
            let named: Vec<(i32, String)> =
                [0, 2, 3, 4, 5].map(|index| (index, no_key(&lane))).into();
            let row = refused_for(&lane, 87, &named);
            lane.expect(&format!("{codec:?}, all but record 1"), most.encode(), row)
                .await?;
        }
        lane.expect_values::<&str>(&[]).await?;
        lane.expect_written("all with a key", &keyed(3, &[], c.now_ms()), 0)
            .await?;
    }
    Ok(())
}

async fn one_bad_record_of_many(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes_with(&[("cleanup.policy", "compact")]).await? {
        let row = refused_for(&lane, 87, &[(57, no_key(&lane))]);
        let batch = keyed(100, &[57], c.now_ms()).encode();
        lane.expect("record 57 of 100", batch, row).await?;
        let end = c.end_offset(&lane.topic, lane.partition).await?;
        expect_eq("end of the log", 0, end)?;
        lane.expect_written("all are good", &keyed(100, &[], c.now_ms()), 0)
            .await?;
    }
    Ok(())
}

/// `count` records, all with a key but those at `bare`.
fn keyed(count: usize, bare: &[usize], timestamp_ms: i64) -> BatchSpec {
    let mut batch = BatchSpec::numbered("v", count, timestamp_ms);
    for (index, record) in batch.records.iter_mut().enumerate() {
        if !bare.contains(&index) {
            record.key = Some(format!("k-{index}").into());
        }
    }
    batch
}

fn no_key(lane: &Lane) -> String {
    let Topic { name, .. } = &lane.topic;
    let partition = lane.partition;
    format!(
        "Compacted topic cannot accept message without key in topic partition {name}-{partition}"
    )
}

fn refused_for(lane: &Lane, code: i16, records: &[(i32, String)]) -> Row {
    Row::refused_by_log(lane.partition, code, lane.version).because_of(records, lane.version)
}

async fn largest_batch(c: Context) -> Result<(), Objection> {
    const LIMIT: usize = 1_000;
    for mut lane in c.lanes_with(&[("max.message.bytes", "1000")]).await? {
        let now = c.now_ms();
        let of_bytes = |bytes: usize| {
            (0..bytes)
                .map(|value| BatchSpec::of(vec![RecordSpec::of(vec![b'x'; value])], now))
                .find(|batch| batch.encode().len() == bytes)
                .ok_or_else(|| Objection::new("a batch to send", bytes, "no value fits"))
        };
        let above = of_bytes(LIMIT + 1)?.encode();
        lane.expect_refused("1,001 bytes", above, 10).await?;
        lane.expect_values::<&str>(&[]).await?;
        lane.expect_written("1,000 bytes", &of_bytes(LIMIT)?, 0)
            .await?;
    }
    Ok(())
}

async fn zstd_by_version(c: Context) -> Result<(), Objection> {
    const ZSTD_FROM: i16 = 7;
    let topic = c.topic(1).await?;
    let mut connection = c.leader(&topic, 0).await?;
    let batch = BatchSpec {
        codec: Codec::Zstd,
        ..BatchSpec::numbered("v", 2, c.now_ms())
    };
    let two = [batch.encode(), batch.encode()].concat();
    for version in 3..ZSTD_FROM {
        for records in [batch.encode(), two.clone().into()] {
            let request = topic.produce(0, records);
            let row = Row::refused(0, 76, version);
            c.expect_row(&mut connection, (&request, version), ("zstd", row))
                .await?;
        }
    }
    c.expect_values::<&str>(&topic, 0, &[]).await?;
    for (offset, version) in [(0, ZSTD_FROM), (2, RECORD_ERRORS_FROM)] {
        let request = topic.produce(0, batch.encode());
        let row = Row::written(0, offset, version);
        c.expect_row(&mut connection, (&request, version), ("zstd", row))
            .await?;
    }
    c.expect_values(&topic, 0, &["v-0", "v-1", "v-0", "v-1"])
        .await
}
