//! Produce, continued: what the fields of request, batch and row mean.
//!
//! *Source*: `KafkaApis.scala` handleProduceRequest, `ReplicaManager.scala`, `LogValidator.java`;
//! the answers are those observed on 4.3.1.

use bytes::Bytes;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::{Context, Rows};
use crate::wire::answer::Metadata;
use crate::wire::batch::{BatchSpec, HEADER_BYTES, flip_bit};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{Produce, Row, TIMEOUT_MS, TOPIC_ID_FROM, TopicData};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "PRD-14",
        level: Level::Wire,
        sentence: "from v13 an unknown or zero topic id is refused with 100, a known one with an \
                   unknown partition with 3",
        source: "KIP-516; KafkaApis.scala handleProduceRequest",
        needs: &[],
        run: |c| Box::pin(unknown_topic_id(c)),
    },
    Case {
        id: "PRD-15",
        level: Level::Wire,
        sentence: "from v13 two topics are written and answered by their ids alone",
        source: "KIP-516; ProduceResponse.json",
        needs: &[],
        run: |c| Box::pin(topics_by_id(c)),
    },
    Case {
        id: "PRD-16",
        level: Level::Wire,
        sentence: "a client may not write to Kafka's own topics: 17, or 3 while they do not exist",
        source: "ReplicaManager.scala appendRecords (internalTopicsAllowed)",
        needs: &[],
        run: |c| Box::pin(internal_topic(c)),
    },
    Case {
        id: "PRD-17",
        level: Level::Wire,
        sentence: "with LogAppendTime the row and the records have the time of the append",
        source: "KIP-32; LogValidator.java (sets max timestamp and type)",
        needs: &[],
        run: |c| Box::pin(append_time(c)),
    },
    Case {
        id: "PRD-18",
        level: Level::Wire,
        sentence: "a request without topics is answered with no row",
        source: "KafkaApis.scala handleProduceRequest (sendResponseCallback of nothing)",
        needs: &[],
        run: |c| Box::pin(no_topics(c)),
    },
    Case {
        id: "PRD-24",
        level: Level::Wire,
        sentence: "whatever leader epoch a batch carries, the leader's own is stored",
        source: "UnifiedLog.java append (setPartitionLeaderEpoch); KIP-101",
        needs: &[],
        run: |c| Box::pin(leader_epoch_of_the_leader(c)),
    },
    Case {
        id: "PRD-25",
        level: Level::Wire,
        sentence: "500 partitions in one request get 500 rows",
        source: "ReplicaManager.scala appendRecords",
        needs: &[],
        run: |c| Box::pin(many_partitions(c)),
    },
    Case {
        id: "PRD-26",
        level: Level::Wire,
        sentence: "a transactional id in the request does not matter to a plain batch",
        source: "KafkaApis.scala handleProduceRequest; observed on 4.3.1",
        needs: &[],
        run: |c| Box::pin(transactional_id_with_plain_batch(c)),
    },
];

async fn unknown_topic_id(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut connection = c.leader(&topic, 0).await?;
    let versions = TOPIC_ID_FROM..=c.version::<Produce>();
    for version in versions {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        for (what, id) in [("zero id", [0; 16]), ("unknown id", [0xab; 16])] {
            let mut request = topic.produce(0, batch.clone());
            request.topics.iter_mut().for_each(|data| data.id = id);
            let row = Row::refused(0, 100, version);
            c.expect_row(&mut connection, (&request, version), (what, row))
                .await?;
        }
        let request = topic.produce(9, batch);
        let row = Row::refused(9, 3, version);
        let asked = (&request, version);
        c.expect_row(&mut connection, asked, ("known id, partition 9", row))
            .await?;
    }
    c.expect_values::<&str>(&topic, 0, &[]).await
}

async fn topics_by_id(c: Context) -> Result<(), Objection> {
    // Enough partitions that one broker leads some of both.
    const PARTITIONS: i32 = 8;
    let (one, other) = (c.topic(PARTITIONS).await?, c.topic(PARTITIONS).await?);
    let mut connection = c.leader(&one, 0).await?;
    let same = (0..PARTITIONS).find(|&index| other.leader_of(index) == one.leader_of(0));
    let same = same.ok_or_else(|| {
        let expected = "a partition led by the broker that leads the first topic's partition 0";
        Objection::new(
            "leaders of the second topic",
            expected,
            format!("{other:?}"),
        )
    })?;
    for version in TOPIC_ID_FROM..=c.version::<Produce>() {
        let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
        let mut request = one.produce(0, batch.clone());
        request.topics.extend(other.produce(same, batch).topics);
        let answer = connection.ask(&request, version).await?;
        let mut observed: Vec<String> = answer
            .topics
            .iter()
            .map(|topic| format!("{:?}: {}", topic.id, Rows(topic.rows.clone())))
            .collect();
        observed.sort();
        let mut expected = [(&one, 0), (&other, same)].map(|(topic, partition)| {
            let row = Row::written(partition, 0, version);
            format!("{:?}: {}", topic.id, Rows(vec![row]))
        });
        expected.sort();
        let step = format!("Produce v{version}, two topics");
        expect_eq(step, expected.join("\n"), observed.join("\n"))?;
        c.expect_values(&one, 0, &["v-0"]).await?;
        c.expect_values(&other, same, &["v-0"]).await?;
    }
    Ok(())
}

async fn internal_topic(c: Context) -> Result<(), Objection> {
    let names = ["__consumer_offsets", "__transaction_state"];
    let answer = c.metadata(&Metadata::of(&names)).await?;
    for name in names {
        let row = answer.topic(name);
        let exists = row.is_some_and(|row| row.error == ErrorCode::NONE);
        let id = row.map_or([0; 16], |row| row.id);
        let leader = row.and_then(|row| row.partitions.iter().find(|row| row.index == 0));
        let address = leader.and_then(|row| answer.address(row.leader));
        let mut connection = match address {
            Some(address) => c.connect_to(address).await?,
            None => c.connect().await?,
        };
        for version in c.produce_versions() {
            // The topic is looked at before the batch's checksum.
            let broken = flip_bit(&valid(&c), HEADER_BYTES, 0);
            for (partition, records) in [(0, broken), (999, valid(&c))] {
                let request = Produce {
                    transactional_id: None,
                    acks: -1,
                    timeout_ms: TIMEOUT_MS,
                    topics: vec![TopicData {
                        name: name.to_owned(),
                        id,
                        partitions: vec![(partition, Some(records))],
                    }],
                };
                let code = match (exists, partition) {
                    (true, 0) => 17,
                    (false, _) if version >= TOPIC_ID_FROM => 100,
                    _ => 3,
                };
                let row = Row::refused(partition, code, version);
                let step = format!("{name}, partition {partition}");
                c.expect_row(&mut connection, (&request, version), (&step, row))
                    .await?;
            }
        }
    }
    Ok(())
}

fn valid(c: &Context) -> Bytes {
    BatchSpec::numbered("v", 1, c.now_ms()).encode()
}

async fn append_time(c: Context) -> Result<(), Objection> {
    const OLD_MS: i64 = 86_400_000;
    /// What the clocks of broker and judge may differ by.
    const CLOCKS_DIFFER_BY_MAX_MS: i64 = 5_000;
    let stamping = [("message.timestamp.type", "LogAppendTime")];
    for mut lane in c.lanes_with(&stamping).await? {
        let asked = c.now_ms();
        let batch = BatchSpec::numbered("v", 2, asked - OLD_MS).encode();
        let observed = lane.row_of("old records", batch).await?;
        let stamped = observed.append_time_ms;
        let step = format!("Produce v{}, append time", lane.version);
        let within = asked - CLOCKS_DIFFER_BY_MAX_MS..=c.now_ms() + CLOCKS_DIFFER_BY_MAX_MS;
        if !within.contains(&stamped) {
            return Err(Objection::new(step, format!("{within:?}"), stamped));
        }
        let expected = Row {
            append_time_ms: stamped,
            ..Row::written(lane.partition, 0, lane.version)
        };
        expect_eq(&step, expected, observed)?;
        let stored = c.batches(&lane.topic, lane.partition).await?;
        let attributes: Vec<i16> = stored.iter().map(|batch| batch.attributes).collect();
        expect_eq(&step, "[8]".to_owned(), format!("{attributes:?}"))?;
        let times: Vec<i64> = stored
            .iter()
            .flat_map(|batch| &batch.records)
            .map(|record| record.timestamp_ms)
            .collect();
        let expected = [stamped, stamped];
        expect_eq(&step, format!("{expected:?}"), format!("{times:?}"))?;
    }
    Ok(())
}

async fn no_topics(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    for version in c.produce_versions() {
        for acks in [-1, 1] {
            let request = Produce {
                transactional_id: None,
                acks,
                timeout_ms: TIMEOUT_MS,
                topics: Vec::new(),
            };
            let answer = connection.ask(&request, version).await?;
            let step = format!("Produce v{version} of nothing, acks={acks}");
            expect_eq(step, "[]".to_owned(), format!("{:?}", answer.topics))?;
        }
    }
    Ok(())
}

async fn leader_epoch_of_the_leader(c: Context) -> Result<(), Objection> {
    /// Where a batch holds it; the checksum does not cover it.
    const LEADER_EPOCH_AT: std::ops::Range<usize> = 12..16;
    for mut lane in c.lanes().await? {
        let mut batch = valid(&c).to_vec();
        batch[LEADER_EPOCH_AT].copy_from_slice(&777_i32.to_be_bytes());
        let row = Row::written(lane.partition, 0, lane.version);
        lane.expect("leader epoch 777", batch.into(), row).await?;
        let answer = c.metadata(&Metadata::of(&[&lane.topic.name])).await?;
        let partitions = answer.topic(&lane.topic.name).map(|row| &row.partitions);
        let partition = partitions
            .and_then(|rows| rows.iter().find(|row| row.index == lane.partition))
            .ok_or_else(|| Objection::new("Metadata", "the partition", "no row"))?;
        let stored = c.batches(&lane.topic, lane.partition).await?;
        let epochs: Vec<i32> = stored.iter().map(|batch| batch.leader_epoch).collect();
        let step = format!("leader epoch in the log after v{}", lane.version);
        let expected = [partition.leader_epoch];
        expect_eq(step, format!("{expected:?}"), format!("{epochs:?}"))?;
    }
    Ok(())
}

async fn many_partitions(c: Context) -> Result<(), Objection> {
    const PARTITIONS: i32 = 500;
    let topic = c.topic(PARTITIONS).await?;
    let mut connection = c.leader(&topic, 0).await?;
    let led = |index| topic.leader_of(index) == topic.leader_of(0);
    // By which the layout of request and rows differs most: 500 rows are long.
    let versions = [3, 9, 12, 13].into_iter();
    let versions = versions.filter(|&version| version <= c.version::<Produce>());
    let mut written = Vec::new();
    for (offset, version) in (0..).zip(versions) {
        let batch = |index: i32| BatchSpec::numbered(&format!("{index}-v{version}"), 1, c.now_ms());
        let all = (0..PARTITIONS).map(|index| (index, batch(index).encode()));
        let request = topic.produce_all(all.collect());
        let rows = c.produce(&mut connection, &request, version).await?;
        let step = format!("Produce v{version}, rows");
        expect_eq(&step, 500, rows.len())?;
        for (index, row) in (0..PARTITIONS).zip(rows) {
            if led(index) {
                expect_eq(&step, Row::written(index, offset, version), row)?;
            } else {
                expect_eq(&step, ErrorCode(6), row.code)?;
            }
        }
        written.push(version);
    }
    for index in [0, PARTITIONS - 1] {
        if led(index) {
            let values = written
                .iter()
                .map(|version| format!("{index}-v{version}-0"));
            c.expect_values(&topic, index, &values.collect::<Vec<_>>())
                .await?;
        }
    }
    Ok(())
}

async fn transactional_id_with_plain_batch(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        for (offset, id) in [(0, "nobody-knows-it"), (1, "")] {
            let mut request = lane.topic.produce(lane.partition, valid(&c));
            request.transactional_id = Some(id.to_owned());
            let row = Row::written(lane.partition, offset, lane.version);
            let step = format!("plain batch, transactional id {id:?}");
            c.expect_row(&mut lane.connection, (&request, lane.version), (&step, row))
                .await?;
        }
        let stamped = BatchSpec::numbered("v", 1, c.now_ms()).stamped(c.producer().await?);
        let mut request = lane.topic.produce(lane.partition, stamped.encode());
        request.transactional_id = Some("nobody-knows-it".to_owned());
        let row = Row::written(lane.partition, 2, lane.version);
        let asked = (&request, lane.version);
        c.expect_row(&mut lane.connection, asked, ("idempotent batch", row))
            .await?;
        lane.expect_values(&["v-0", "v-0", "v-0"]).await?;
    }
    Ok(())
}
