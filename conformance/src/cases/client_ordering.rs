//! Ordering, continued: with faults, keys, callbacks and flushes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_mockbroker::{ErrorCode, Verdict};
use kafka_producer::{Idempotence, ProducerBuilder, Record};

use super::client_idempotence::leader_moves;
use super::driven::{Driven, RECORDS, outlive_with};
use super::split::split;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::Capability;
use crate::wire::admin::GrowTopic;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "ORD-02",
        level: Level::Client,
        sentence: "an idempotent producer with five requests in flight keeps the order \
                   through passing faults of many kinds",
        source: "KIP-98; max.in.flight.requests.per.connection <= 5",
        needs: &[],
        run: |c| Box::pin(faults_of_many_kinds(c)),
    },
    Case {
        id: "ORD-03",
        level: Level::Client,
        sentence: "a producer without idempotence and with one request in flight keeps the \
                   order through retries",
        source: "ProducerConfig.java (max.in.flight.requests.per.connection=1)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(one_in_flight(c)),
    },
    Case {
        id: "ORD-04",
        level: Level::Client,
        sentence: "a producer without idempotence and with five requests in flight may change \
                   the order: a refused batch falls behind",
        source: "ProducerConfig.java (enable.idempotence, retries); the reason for idempotence",
        needs: &[Capability::Injection],
        run: |c| Box::pin(five_in_flight(c)),
    },
    Case {
        id: "ORD-06",
        level: Level::Client,
        sentence: "callbacks of a partition are called in the order of sending",
        source: "Callback.java; KafkaProducer.java send",
        needs: &[],
        run: |c| Box::pin(callbacks(c)),
    },
    Case {
        id: "ORD-07",
        level: Level::Client,
        sentence: "keys go where the hash of Kafka's own producer sends them",
        source: "Utils.java murmur2; BuiltInPartitioner.java partitionForKey",
        needs: &[],
        run: |c| Box::pin(hashes(c)),
    },
    Case {
        id: "ORD-08",
        level: Level::Client,
        sentence: "a key's records are all in one partition, whatever is sent without a key \
                   in between",
        source: "BuiltInPartitioner.java; KIP-794",
        needs: &[],
        run: |c| Box::pin(keys_stay(c)),
    },
    Case {
        id: "ORD-09",
        level: Level::Client,
        sentence: "while a topic grows its records stay in order in each partition, and each key \
                   changes its partition at most once",
        source: "BuiltInPartitioner.java partitionForKey; ProducerMetadata.java",
        needs: &[],
        run: |c| Box::pin(growth(c)),
    },
    Case {
        id: "ORD-11",
        level: Level::Client,
        sentence: "what is sent before a flush stands before what is sent after it",
        source: "KafkaProducer.java flush",
        needs: &[],
        run: |c| Box::pin(flush_is_a_barrier(c)),
    },
    Case {
        id: "ORD-13",
        level: Level::Client,
        sentence: "the records of a batch that is split stay in order, in the log and in their \
                   callbacks",
        source: "RecordAccumulator.java splitAndReenqueue",
        needs: &[],
        run: |c| Box::pin(order_of_parts(c)),
    },
    Case {
        id: "ORD-14",
        level: Level::Client,
        sentence: "a leader that moves again and again with five batches in flight leaves the \
                   order as it is",
        source: "Sender.java; TransactionManager.java (sequence order per partition)",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::LeaderMoves,
            Capability::Pause,
        ],
        run: |c| Box::pin(leader_moves(c, 5)),
    },
];

async fn faults_of_many_kinds(c: Context) -> Result<(), Objection> {
    const MANY: usize = 300;
    let path = c.path(Trouble::None).await?;
    let driven = Driven::behind(&c, &path, |builder| builder).await?;
    path.begin(Trouble::Many {
        percent: 8,
        seed: 2,
    });
    let mut sent = Vec::new();
    for index in 0..MANY {
        let value = format!("v-{index}");
        sent.push((driven.send(&value).await?, value));
    }
    let mut values = Vec::new();
    for (offset, (delivery, value)) in (1..).zip(sent) {
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
    }
    let hits = path.hits();
    expect_eq(format!("{hits} faults are many"), true, hits >= 10)?;
    driven.expect_log(&values).await
}

async fn growth(c: Context) -> Result<(), Objection> {
    const MANY: usize = 4_000;
    const KEYS: usize = 23;
    let (few, many) = (2, 5);
    let topic = c.topic(few).await?;
    let builder = c.client().metadata_max_age(Duration::from_millis(100));
    let producer = client::build(builder.batch_size(300))?;
    let mut sent: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let mut places = vec![Vec::new(); KEYS];
    let mut deliveries = Vec::new();
    for index in 0..MANY {
        if index == MANY / 4 {
            let name = topic.name.clone();
            let grown = GrowTopic {
                name,
                partitions: many,
            };
            c.change(&grown).await?;
        }
        let (key, value) = (format!("key-{}", index % KEYS), format!("v-{index}"));
        let record = Record::to(topic.name.as_str()).key(&key).value(&value);
        let delivery = client::send(&producer, record).await?;
        let partition = delivery.partition();
        sent.entry(partition).or_default().push(value);
        places[index % KEYS].push(partition);
        deliveries.push(delivery);
        if index % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for delivery in deliveries {
        let written = delivery.await;
        written.map_err(|error| Objection::new("a record", "written", error))?;
    }
    expect_eq("partitions that were used", 5, sent.len())?;
    for (key, mut places) in places.into_iter().enumerate() {
        places.dedup();
        expect_eq(
            format!("key-{key} went to {places:?}: changes at most once"),
            true,
            places.len() <= 2,
        )?;
    }
    let topic = c.served(&topic.name, many).await?;
    for (partition, values) in sent {
        c.expect_values(&topic, partition, &values).await?;
    }
    Ok(())
}

async fn order_of_parts(c: Context) -> Result<(), Objection> {
    let split = split(&c).await?;
    expect_eq("a batch was split", true, split.splits >= 1.0)?;
    let expected: Vec<_> = (0..split.values.len()).zip((0..).map(Some)).collect();
    expect_eq(
        "callbacks in their order",
        format!("{expected:?}"),
        format!("{:?}", split.called),
    )?;
    c.expect_values(&split.topic, 0, &split.values).await
}

fn plain(builder: ProducerBuilder, in_flight: u32) -> ProducerBuilder {
    let builder = builder.idempotence(Idempotence::Disabled);
    builder.max_in_flight_requests_per_connection(in_flight)
}

async fn one_in_flight(c: Context) -> Result<(), Objection> {
    let fault = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    let outlived = outlive_with(&c, |builder| plain(builder, 1), (fault, 3)).await?;
    outlived.expect_offsets()
}

async fn five_in_flight(c: Context) -> Result<(), Objection> {
    // The broker looks at nothing behind the first request for a while, and what is held meanwhile
    // goes when one of its records is awaited: those behind the refused one are on their way before
    // its answer.
    let patient = Duration::from_secs(20);
    let lingering = |builder: ProducerBuilder| builder.linger(patient).request_timeout(patient);
    let driven = Driven::start(&c, |builder| plain(lingering(builder), 5)).await?;
    let busy = Verdict::Delay(Duration::from_secs(2));
    let _first = driven.inject(driven.produce().count(1).then(busy))?;
    let fault = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    let guard = driven.inject(driven.produce().count(1).then(fault))?;
    let mut offsets = Vec::new();
    let mut sent = driven.send_many().await?;
    sent.rotate_left(1);
    for (value, delivery) in sent {
        let written = delivery.await;
        let written = written.map_err(|error| Objection::new(&value, "written", error))?;
        offsets.extend(written.offset);
    }
    offsets.rotate_right(1);
    expect_eq("refusals", 1, guard.hits())?;
    expect_eq("offsets told", RECORDS, offsets.len())?;
    let in_order = offsets.is_sorted();
    expect_eq(format!("{offsets:?} are in order"), false, in_order)?;
    let stored = c.records(&driven.topic, 0).await?;
    let values: Vec<String> = stored
        .into_iter()
        .skip(1)
        .map(|record| record.value_text())
        .collect();
    expect_eq(
        format!("{values:?} are in order"),
        false,
        values.is_sorted(),
    )
}

async fn callbacks(c: Context) -> Result<(), Objection> {
    const MANY: usize = 2_000;
    let topic = c.topic(1).await?;
    let producer = client::build(c.client().batch_size(200))?;
    let called = Arc::new(Mutex::new(Vec::new()));
    for index in 0..MANY {
        let value = format!("v-{index}");
        let record = Record::to(topic.name.as_str()).partition(0).value(&value);
        let called = Arc::clone(&called);
        let sent = producer.send_with(record, move |result| {
            let offset = result.ok().and_then(|written| written.offset);
            if let Ok(mut called) = called.lock() {
                called.push((index, offset));
            }
        });
        let sent = sent.await;
        sent.map_err(|error| Objection::new("send", "accepted", error))?;
    }
    let flushed = producer.flush().await;
    flushed.map_err(|error| Objection::new("flush", "done", error))?;
    let called = called
        .lock()
        .map(|called| called.clone())
        .unwrap_or_default();
    let expected: Vec<(usize, Option<i64>)> = (0..MANY)
        .map(Some)
        .zip(0..)
        .map(|(index, offset)| (index.unwrap_or_default(), Some(offset)))
        .collect();
    let first_wrong = expected
        .iter()
        .zip(&called)
        .find(|(one, other)| one != other);
    expect_eq("calls", MANY, called.len())?;
    expect_eq(
        "first that is wrong",
        "None".to_owned(),
        format!("{first_wrong:?}"),
    )
}

/// What Kafka's own producer does with 12 partitions: `Utils.toPositive(murmur2(key)) % 12`, from
/// the hashes of its `UtilsTest`.
pub(super) const PLACES: [(&str, i32); 4] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
];

async fn hashes(c: Context) -> Result<(), Objection> {
    const PARTITIONS: i32 = 12;
    let topic = c.topic(PARTITIONS).await?;
    let producer = client::build(c.client())?;
    for (key, hash) in PLACES {
        let record = Record::to(topic.name.as_str()).key(key).value(key);
        let delivery = client::send(&producer, record).await?;
        let expected = (hash & i32::MAX) % PARTITIONS;
        let written = delivery.await;
        let written = written.map_err(|error| Objection::new(key, "written", error))?;
        expect_eq(format!("partition of {key}"), expected, written.partition)?;
        let stored = c.records(&topic, expected).await?;
        let there = stored.iter().any(|record| record.value_text() == key);
        expect_eq(format!("{key} is in the log there"), true, there)?;
    }
    Ok(())
}

async fn keys_stay(c: Context) -> Result<(), Objection> {
    const KEYS: usize = 5;
    let topic = c.topic(6).await?;
    let producer = client::build(c.client().batch_size(500))?;
    let mut places = vec![BTreeSet::new(); KEYS];
    let mut without_key = BTreeSet::new();
    let mut deliveries = Vec::new();
    for index in 0..600 {
        let record = Record::to(topic.name.as_str()).value("some value of middling length");
        let unkeyed = client::send(&producer, record).await?;
        without_key.insert(unkeyed.partition());
        let key = format!("key-{}", index % KEYS);
        let record = Record::to(topic.name.as_str()).key(&key).value("v");
        let keyed = client::send(&producer, record).await?;
        places[index % KEYS].insert(keyed.partition());
        deliveries.extend([unkeyed, keyed]);
    }
    for delivery in deliveries {
        let written = delivery.await;
        written.map_err(|error| Objection::new("a record", "written", error))?;
    }
    let partitions: Vec<usize> = places.iter().map(BTreeSet::len).collect();
    expect_eq(
        "partitions of each key",
        format!("{:?}", [1; KEYS]),
        format!("{partitions:?}"),
    )?;
    expect_eq("others are spread", true, without_key.len() > 1)?;
    let mut stored = 0;
    for partition in 0..6 {
        stored += c.records(&topic, partition).await?.len();
    }
    expect_eq("records stored", 1_200, stored)
}

async fn flush_is_a_barrier(c: Context) -> Result<(), Objection> {
    let topic = c.topic(2).await?;
    let builder = c.client().linger(Duration::from_secs(20));
    let producer = client::build(builder.delivery_timeout(Duration::from_secs(60)))?;
    for round in 0..5 {
        for index in 0..20 {
            let value = format!("{round} {index}");
            let record = Record::to(topic.name.as_str())
                .partition(index % 2)
                .value(&value);
            drop(client::send(&producer, record).await?);
        }
        let flushed = producer.flush().await;
        flushed.map_err(|error| Objection::new("flush", "done", error))?;
        // All of it is there already: what comes next can only stand behind.
        for partition in 0..2 {
            let stored = c.records(&topic, partition).await?.len();
            expect_eq("records after a flush", (round + 1) * 10, stored)?;
        }
    }
    for partition in 0..2 {
        let in_order = (0..5).flat_map(|round| {
            let own = (0..20).filter(move |index| index % 2 == partition);
            own.map(move |index| format!("{round} {index}"))
        });
        let in_order: Vec<String> = in_order.collect();
        c.expect_values(&topic, partition, &in_order).await?;
    }
    Ok(())
}
