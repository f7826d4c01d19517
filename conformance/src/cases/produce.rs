//! Produce: acks, partitions, what is stored and what comes back.

use bytes::Bytes;
use kafka_producer::{Acks, Fault, Idempotence, ProduceErrorKind, Record};

use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::{Context, Rows};
use crate::io::connection::Connection;
use crate::lane::Lane;
use crate::wire::Request;
use crate::wire::answer::{ApiVersions, EARLIEST, LATEST, ListOffsets, Metadata};
use crate::wire::batch::{BatchSpec, RecordSpec};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{Row, TOPIC_ID_FROM};
use crate::wire::records::{FETCH_BY_ID_FROM, Fetch, FetchAnswer, FetchById, read_batches};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "PRD-01",
        level: Level::Wire,
        sentence: "the first record with acks=1 gets base offset 0, append time -1, log start 0",
        source: "ReplicaManager.scala appendRecords; ProduceResponse.json",
        needs: &[],
        run: |c| Box::pin(first_record(c)),
    },
    Case {
        id: "PRD-02",
        level: Level::Wire,
        sentence: "batches of 1, 5 and 3 records get base offsets 0, 1 and 6",
        source: "UnifiedLog.java append",
        needs: &[],
        run: |c| Box::pin(offsets_count_records(c)),
    },
    Case {
        id: "PRD-03",
        level: Level::Wire,
        sentence: "acks=0 is not answered, the next request on the connection is, and the record \
                   is stored",
        source: "KafkaApis.scala handleProduceRequest (sendNoOpResponseExemptThrottle)",
        needs: &[],
        run: |c| Box::pin(no_acks(c)),
    },
    Case {
        id: "PRD-04",
        level: Level::Wire,
        sentence: "acks=0 to an unknown partition closes the connection",
        source: "KafkaApis.scala handleProduceRequest (closeConnection)",
        needs: &[],
        run: |c| Box::pin(no_acks_unknown_partition(c)),
    },
    Case {
        id: "PRD-05",
        level: Level::Wire,
        sentence: "acks of 2, -2 and 100 are refused with 21 on every partition",
        source: "ReplicaManager.scala isValidRequiredAcks",
        needs: &[],
        run: |c| Box::pin(invalid_acks(c)),
    },
    Case {
        id: "PRD-11",
        level: Level::Wire,
        sentence: "a good and an unknown partition in one request are judged each for itself",
        source: "KafkaApis.scala handleProduceRequest",
        needs: &[],
        run: |c| Box::pin(good_and_bad_partition(c)),
    },
    Case {
        id: "PRD-12",
        level: Level::Wire,
        sentence: "an unknown topic is refused with 3 and not created",
        source: "KafkaApis.scala handleProduceRequest",
        needs: &[],
        run: |c| Box::pin(unknown_topic(c)),
    },
    Case {
        id: "PRD-13",
        level: Level::Wire,
        sentence: "an unknown partition of a known topic is refused with 3",
        source: "KafkaApis.scala handleProduceRequest",
        needs: &[],
        run: |c| Box::pin(unknown_partition(c)),
    },
    Case {
        id: "PRD-21",
        level: Level::Wire,
        sentence: "a record acknowledged with acks=all is visible to the next Fetch, and to every \
                   version of Fetch and ListOffsets",
        source: "Partition.scala checkEnoughReplicasReachOffset; KIP-101",
        needs: &[],
        run: |c| Box::pin(visible_once_acknowledged(c)),
    },
    Case {
        id: "PRD-23",
        level: Level::Wire,
        sentence: "null and empty keys and values, headers and repeated header keys come back \
                   as they were sent",
        source: "DefaultRecord.java; KIP-82",
        needs: &[],
        run: |c| Box::pin(content_survives(c)),
    },
    Case {
        id: "PRD-27",
        level: Level::Wire,
        sentence: "the same batch twice without a producer id is stored twice",
        source: "ProducerStateManager.java (only batches with a producer id are tracked)",
        needs: &[],
        run: |c| Box::pin(no_id_no_deduplication(c)),
    },
    Case {
        id: "PRD-29",
        level: Level::Client,
        sentence: "with acks=0 records are written without an answer and their offset is unknown",
        source: "KafkaProducer.java (acks); Sender.java sendProduceRequest (expectResponse)",
        needs: &[],
        run: |c| Box::pin(client_without_acks(c)),
    },
    Case {
        id: "PRD-30",
        level: Level::Client,
        sentence: "a record above max.request.size fails in the client and nothing is sent",
        source: "KafkaProducer.java ensureValidRecordSize",
        needs: &[],
        run: |c| Box::pin(client_with_a_large_record(c)),
    },
];

async fn first_record(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        lane.acks = 1;
        lane.expect_written("acks=1", &BatchSpec::numbered("v", 1, c.now_ms()), 0)
            .await?;
        lane.expect_values(&["v-0"]).await?;
    }
    Ok(())
}

async fn offsets_count_records(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let now = c.now_ms();
        lane.expect_written("1 record", &BatchSpec::numbered("a", 1, now), 0)
            .await?;
        lane.expect_written("5 records", &BatchSpec::numbered("b", 5, now), 1)
            .await?;
        lane.expect_written("3 records", &BatchSpec::numbered("c", 3, now), 6)
            .await?;
        let all = [
            "a-0", "b-0", "b-1", "b-2", "b-3", "b-4", "c-0", "c-1", "c-2",
        ];
        lane.expect_values(&all).await?;
    }
    Ok(())
}

async fn no_acks(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let mut request = lane.topic.produce(lane.partition, batch);
        request.acks = 0;
        lane.connection.send(&request, lane.version).await?;
        // The next frame must be this one's answer: its correlation id is checked.
        lane.connection
            .ask(&Metadata::of(&[]), c.version::<Metadata>())
            .await?;
        c.await_records(&lane.topic, lane.partition, 1).await?;
        lane.expect_values(&["v-0"]).await?;
    }
    Ok(())
}

async fn no_acks_unknown_partition(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let mut bystander = c.leader(&lane.topic, lane.partition).await?;
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let mut request = lane.topic.produce(UNKNOWN_PARTITION, batch);
        request.acks = 0;
        lane.connection.send(&request, lane.version).await?;
        let step = format!("Produce v{}, acks=0, partition 99", lane.version);
        lane.connection.expect_close(&step).await?;
        bystander.ask(&ApiVersions, 0).await?;
    }
    Ok(())
}

async fn invalid_acks(c: Context) -> Result<(), Objection> {
    let mut lanes = c.lanes().await?;
    let partitions: Vec<i32> = lanes.iter().map(|lane| lane.partition).collect();
    for lane in &mut lanes {
        for acks in [2, -2, 100] {
            // Acks are looked at before leadership: partitions led elsewhere answer the same.
            let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
            let all = partitions
                .iter()
                .map(|&partition| (partition, batch.clone()))
                .collect();
            let mut request = lane.topic.produce_all(all);
            request.acks = acks;
            let rows = c
                .produce(&mut lane.connection, &request, lane.version)
                .await?;
            let expected = partitions
                .iter()
                .map(|&index| Row::refused(index, 21, lane.version));
            let step = format!("Produce v{}, acks={acks}", lane.version);
            expect_eq(step, Rows(expected.collect()), Rows(rows))?;
        }
    }
    for lane in &lanes {
        lane.expect_values::<&str>(&[]).await?;
    }
    Ok(())
}

async fn good_and_bad_partition(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let both = vec![(UNKNOWN_PARTITION, batch.clone()), (lane.partition, batch)];
        let request = lane.topic.produce_all(both);
        let rows = c
            .produce(&mut lane.connection, &request, lane.version)
            .await?;
        let expected = vec![
            Row::written(lane.partition, 0, lane.version),
            Row::refused(UNKNOWN_PARTITION, 3, lane.version),
        ];
        expect_eq(
            format!("Produce v{}", lane.version),
            Rows(expected),
            Rows(rows),
        )?;
        lane.expect_values(&["v-0"]).await?;
    }
    Ok(())
}

async fn unknown_topic(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut connection = c.leader(&topic, 0).await?;
    let name = c.topic_name();
    // From v13 a topic is named by its id.
    for version in c
        .produce_versions()
        .into_iter()
        .filter(|&version| version < TOPIC_ID_FROM)
    {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let mut request = topic.produce(0, batch);
        request
            .topics
            .iter_mut()
            .for_each(|data| data.name.clone_from(&name));
        let expected = Row::refused(0, 3, version);
        c.expect_row(
            &mut connection,
            (&request, version),
            ("unknown topic", expected),
        )
        .await?;
    }
    let answer = c.metadata(&Metadata::of(&[&name])).await?;
    let code = answer.topic(&name).map_or(ErrorCode::NONE, |row| row.error);
    expect_eq("Metadata afterwards", ErrorCode(3), code)
}

async fn unknown_partition(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let request = lane.topic.produce(UNKNOWN_PARTITION, batch);
        let expected = Row::refused(UNKNOWN_PARTITION, 3, lane.version);
        let asked = (&request, lane.version);
        c.expect_row(&mut lane.connection, asked, ("partition 99", expected))
            .await?;
    }
    Ok(())
}

async fn visible_once_acknowledged(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let mut reader = c.leader(&lane.topic, lane.partition).await?;
        for offset in 0..5 {
            let value = format!("r{offset}");
            let batch = BatchSpec::numbered(&value, 1, c.now_ms());
            lane.expect_written("acks=all", &batch, offset).await?;
            // No wait: what is not visible by now is not there.
            let request = Fetch {
                topic: lane.topic.name.clone(),
                partition: lane.partition,
                offset,
                wait_ms_max: 0,
                bytes_max: 1_000_000,
            };
            let answer = reader.ask(&request, c.version::<Fetch>()).await?;
            let step = format!("Fetch of offset {offset}");
            let records = read_records(&step, &answer)?;
            let records = records.filter(|(at, _)| *at == offset);
            let expected = [(offset, format!("{value}-0"))];
            let observed: Vec<_> = records.collect();
            expect_eq(step, format!("{expected:?}"), format!("{observed:?}"))?;
        }
        expect_at_every_version(&c, &mut reader, &lane).await?;
    }
    Ok(())
}

/// Every version of Fetch and ListOffsets tells of the five records of a lane.
async fn expect_at_every_version(
    c: &Context,
    reader: &mut Connection,
    lane: &Lane,
) -> Result<(), Objection> {
    let expected: Vec<_> = (0..5)
        .map(|offset| (offset, format!("r{offset}-0")))
        .collect();
    let fetch = Fetch {
        topic: lane.topic.name.clone(),
        partition: lane.partition,
        offset: 0,
        wait_ms_max: 0,
        bytes_max: 1_000_000,
    };
    let oldest = |api_key| c.probe().apis.range(api_key).map_or(0, |range| range.min);
    for version in oldest(Fetch::API_KEY)..=c.version::<FetchById>() {
        let answer = if version >= FETCH_BY_ID_FROM {
            let (id, fetch) = (lane.topic.id, fetch.clone());
            reader.ask(&FetchById { id, fetch }, version).await?
        } else {
            reader.ask(&fetch, version).await?
        };
        let step = format!("Fetch v{version}");
        expect_eq(&step, ErrorCode::NONE, answer.error)?;
        expect_eq(&step, 5, answer.high_watermark)?;
        let observed: Vec<_> = read_records(&step, &answer)?.collect();
        expect_eq(&step, format!("{expected:?}"), format!("{observed:?}"))?;
    }
    for version in oldest(ListOffsets::API_KEY)..=c.version::<ListOffsets>() {
        for (timestamp, offset) in [(EARLIEST, 0), (LATEST, 5)] {
            let request = ListOffsets {
                topic: lane.topic.name.clone(),
                partitions: vec![lane.partition],
                timestamp,
            };
            let rows = reader.ask(&request, version).await?;
            let observed: Vec<_> = rows.iter().map(|row| (row.error.0, row.offset)).collect();
            let step = format!("ListOffsets v{version} of {timestamp}");
            expect_eq(
                step,
                format!("{:?}", [(0, offset)]),
                format!("{observed:?}"),
            )?;
        }
    }
    Ok(())
}

/// Offsets and values of what was fetched.
fn read_records(
    step: &str,
    answer: &FetchAnswer,
) -> Result<impl Iterator<Item = (i64, String)>, Objection> {
    let batches = read_batches(&answer.records)
        .map_err(|error| Objection::new(step, "sound record batches", error))?;
    let records = batches.into_iter().flat_map(|batch| batch.records);
    Ok(records.map(|record| {
        let value = record.content.value.unwrap_or_default();
        (record.offset, String::from_utf8_lossy(&value).into_owned())
    }))
}

async fn content_survives(c: Context) -> Result<(), Objection> {
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let header = |key: &str, value: Option<Bytes>| (key.to_owned(), value);
    let sent = vec![
        RecordSpec {
            key: None,
            value: None,
            headers: Vec::new(),
        },
        RecordSpec {
            key: text(""),
            value: text(""),
            headers: Vec::new(),
        },
        RecordSpec {
            key: None,
            value: text("value"),
            headers: Vec::new(),
        },
        RecordSpec {
            key: text("key"),
            value: None,
            headers: Vec::new(),
        },
        RecordSpec {
            key: text("key"),
            value: text("value"),
            headers: vec![
                header("trace", text("1")),
                header("trace", text("2")),
                header("empty", text("")),
                header("null", None),
                header("", text("header without a name")),
            ],
        },
        RecordSpec::of(vec![0xff; 70_000]),
    ];
    for mut lane in c.lanes().await? {
        let now = c.now_ms();
        lane.expect_written("six records", &BatchSpec::of(sent.clone(), now), 0)
            .await?;
        let stored = c.records(&lane.topic, lane.partition).await?;
        expect_eq(
            format!("records after v{}", lane.version),
            sent.len(),
            stored.len(),
        )?;
        for ((offset, sent), stored) in (0..).zip(&sent).zip(&stored) {
            let step = format!("record {offset} after v{}", lane.version);
            expect_eq(&step, offset, stored.offset)?;
            expect_eq(&step, now, stored.timestamp_ms)?;
            expect_eq(&step, format!("{sent:?}"), format!("{:?}", stored.content))?;
        }
    }
    Ok(())
}

async fn no_id_no_deduplication(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let batch = BatchSpec::numbered("v", 2, c.now_ms());
        lane.expect_written("first time", &batch, 0).await?;
        lane.expect_written("second time", &batch, 2).await?;
        lane.expect_values(&["v-0", "v-1", "v-0", "v-1"]).await?;
    }
    Ok(())
}

async fn client_without_acks(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let builder = c
        .client()
        .acks(Acks::None)
        .idempotence(Idempotence::Disabled);
    let producer = client::build(builder)?;
    let values: Vec<String> = (0..20).map(|index| format!("v-{index}")).collect();
    for value in &values {
        let record = Record::to(topic.name.as_str()).value(value);
        let delivery = client::send(&producer, record).await?;
        client::expect_delivery(value, delivery, None).await?;
    }
    c.await_records(&topic, 0, 20).await?;
    c.expect_values(&topic, 0, &values).await
}

async fn client_with_a_large_record(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let producer = client::build(c.client().max_request_size(10_000))?;
    let large = vec![b'x'; 10_000];
    let expected = "refused by the producer as too large: not written, the caller's fault";
    let observed = match producer
        .deliver(Record::to(topic.name.as_str()).value(&large))
        .await
    {
        Ok(written) => Some(format!("{written:?}")),
        Err(error) => {
            let too_large = matches!(error.kind(), ProduceErrorKind::RecordTooLarge { .. });
            let blamed = error.fault() == Fault::Caller && !error.possibly_written();
            (!too_large || !blamed).then(|| format!("{error} ({error:?})"))
        }
    };
    if let Some(observed) = observed {
        return Err(Objection::new(
            "a record of 10,000 bytes",
            expected,
            observed,
        ));
    }
    expect_eq("end of the log", 0, c.end_offset(&topic, 0).await?)?;
    // The producer is unharmed, and the next record is the first.
    let small = Record::to(topic.name.as_str()).value("small");
    let delivery = client::send(&producer, small).await?;
    client::expect_delivery("a small record", delivery, Some(0)).await?;
    c.expect_values(&topic, 0, &["small"]).await
}

/// No topic of a case has as many partitions.
const UNKNOWN_PARTITION: i32 = 99;
