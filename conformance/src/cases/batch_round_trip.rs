//! Record batches, the client's side: what our producer writes, read and built by others.

use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::Verdict;
use kafka_producer::{CompressionType, Record};

use super::driven::Driven;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::{Capability, NULL};
use crate::topic::Topic;
use crate::wire::batch::{BatchSpec, RecordSpec};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "RBV-29",
        level: Level::Client,
        sentence: "records of any shape are read back by another decoder as they were sent",
        source: "DefaultRecordBatch.java, DefaultRecord.java",
        needs: &[],
        run: |c| Box::pin(any_shape(c)),
    },
    Case {
        id: "RBV-30",
        level: Level::Client,
        sentence: "the records of a batch are byte for byte those of another encoder",
        source: "DefaultRecord.java writeTo",
        needs: &[Capability::Injection],
        run: |c| Box::pin(same_bytes(c)),
    },
    Case {
        id: "RBV-31",
        level: Level::Client,
        sentence: "Kafka's own consumer reads records of any shape in any codec as they were sent: \
                   timestamp, headers, key and value",
        source: "DefaultRecordBatch.java; ConsoleConsumer.java",
        needs: &[Capability::OwnConsumer],
        run: |c| Box::pin(read_by_kafka(c)),
    },
];

/// A shape drawn from a seed: nulls, empty ones, headers that repeat, all sizes.
fn draw(random: &mut fastrand::Rng) -> RecordSpec {
    let mut bytes = |most: usize| match random.u8(..4) {
        0 => None,
        1 => Some(Bytes::new()),
        _ => {
            let length = random.usize(1..most);
            Some((0..length).map(|_| random.u8(..)).collect::<Bytes>())
        }
    };
    let (key, value) = (bytes(40), bytes(2_000));
    let headers = (0..3).map(|_| bytes(30)).collect::<Vec<_>>();
    let names = ["a", "", "a", "ä"];
    let headers = headers.into_iter().enumerate();
    let headers = headers
        .map(|(at, value)| (names[at].to_owned(), value))
        .collect();
    RecordSpec {
        key,
        value,
        headers,
    }
}

fn record<'a>(topic: &'a str, spec: &'a RecordSpec, timestamp_ms: i64) -> Record<'a, &'a str> {
    let mut record = Record::to(topic).partition(0).timestamp_ms(timestamp_ms);
    if let Some(key) = &spec.key {
        record = record.key(key);
    }
    if let Some(value) = &spec.value {
        record = record.value(value);
    }
    for (name, value) in &spec.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.nullable_header(name, None),
        };
    }
    record
}

async fn any_shape(c: Context) -> Result<(), Objection> {
    const MANY: usize = 300;
    let topic = c.topic(1).await?;
    let producer = client::build(c.client())?;
    let mut random = fastrand::Rng::with_seed(29);
    let specs: Vec<RecordSpec> = (0..MANY).map(|_| draw(&mut random)).collect();
    let started = c.now_ms();
    let mut deliveries = Vec::new();
    for (spec, at) in specs.iter().zip(started..) {
        let sent = client::send(&producer, record(&topic.name, spec, at)).await?;
        deliveries.push(sent);
    }
    for (offset, delivery) in (0..).zip(deliveries) {
        client::expect_delivery("a record", delivery, Some(offset)).await?;
    }
    let stored = c.records(&topic, 0).await?;
    expect_eq("records", MANY, stored.len())?;
    for ((spec, at), stored) in specs.iter().zip(started..).zip(stored) {
        let sent = format!("{at} {spec:?}");
        let found = stored.content;
        expect_eq(
            "a record",
            sent,
            format!("{} {found:?}", stored.timestamp_ms),
        )?;
    }
    Ok(())
}

async fn same_bytes(c: Context) -> Result<(), Objection> {
    const MANY: usize = 20;
    let configure = |builder: kafka_producer::ProducerBuilder| {
        builder.batch_size(1 << 20).linger(Duration::from_secs(20))
    };
    let configure = |builder| configure(builder).delivery_timeout(Duration::from_secs(60));
    let driven = Driven::start(&c, configure).await?;
    let same = Verdict::Delay(Duration::ZERO);
    let guard = driven.inject(driven.produce().count(1).then(same))?;
    let mut random = fastrand::Rng::with_seed(30);
    let specs: Vec<RecordSpec> = (0..MANY).map(|_| draw(&mut random)).collect();
    let at = c.now_ms();
    for spec in &specs {
        drop(client::send(&driven.producer, record(&driven.topic.name, spec, at)).await?);
    }
    let flushed = driven.producer.flush().await;
    flushed.map_err(|error| Objection::new("flush", "done", error))?;
    let stored = driven.stored().await?;
    let stamp = match stored.as_slice() {
        [batch] => batch.stamp,
        other => return Err(Objection::new("batches", 1, other.len())),
    };
    let sent = guard
        .requests()
        .into_iter()
        .find_map(|request| request.frame);
    let sent = sent.map(|frame| frame.to_vec()).unwrap_or_default();
    let expected = BatchSpec::of(specs, at).stamped(stamp).encode();
    let found = sent.windows(expected.len()).any(|part| part == expected);
    expect_eq("the request holds the other encoder's batch", true, found)
}

const CODECS: [CompressionType; 5] = [
    CompressionType::None,
    CompressionType::Gzip,
    CompressionType::Snappy,
    CompressionType::Lz4,
    CompressionType::Zstd,
];

/// Sends `specs` to a partition as one batch in a codec, and returns the lines in which Kafka's own
/// consumer has to tell of them.
async fn sent_in(
    c: &Context,
    (topic, partition): (&Topic, i32),
    codec: CompressionType,
) -> Result<Vec<String>, Objection> {
    const MANY: usize = 60;
    let builder = c.client().compression_type(codec).batch_size(1 << 20);
    let builder = builder.linger(Duration::from_secs(20));
    let producer = client::build(builder.delivery_timeout(Duration::from_secs(60)))?;
    let mut random = fastrand::Rng::with_seed(31 + u64::from(partition.unsigned_abs()));
    let mut lines = Vec::new();
    let started = c.now_ms();
    for (offset, at) in (0..MANY).zip(started..) {
        let mut spec = draw(&mut random);
        if offset == 0 {
            spec.headers.clear();
        }
        // Noise alone would be sent as it is, since packing it gains nothing.
        if let Some(value) = spec.value.as_mut().filter(|value| !value.is_empty()) {
            *value = [value.as_ref(), &[b'x'; 2_000]].concat().into();
        }
        let record = record(&topic.name, &spec, at).partition(partition);
        drop(client::send(&producer, record).await?);
        lines.push(line_of(&spec, (at, partition, offset)));
    }
    let flushed = producer.flush().await;
    flushed.map_err(|error| Objection::new("flush", "written", error))?;
    let batches = c.batches(topic, partition).await?;
    let codecs: Vec<i16> = batches.iter().map(|batch| batch.attributes & 7).collect();
    let expected = i16::try_from(partition).unwrap_or(-1);
    let all = codecs.iter().all(|bits| *bits == expected) && !codecs.is_empty();
    expect_eq(format!("codec bits of {codec:?}: {codecs:?}"), true, all)?;
    Ok(lines)
}

/// As `DefaultMessageFormatter` writes a record.
fn line_of(spec: &RecordSpec, (at, partition, offset): (i64, i32, usize)) -> String {
    let headers = spec.headers.iter();
    let headers = headers.map(|(name, value)| format!("{name}:{}", text_of(value.as_ref())));
    let headers = match spec.headers.is_empty() {
        true => "NO_HEADERS".to_owned(),
        false => headers.collect::<Vec<_>>().join(","),
    };
    let (key, value) = (text_of(spec.key.as_ref()), text_of(spec.value.as_ref()));
    format!("CreateTime:{at}\tPartition:{partition}\tOffset:{offset}\t{headers}\t{key}\t{value}")
}

/// As `Bytes.toString` writes them.
fn text_of(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else {
        return NULL.to_owned();
    };
    let written = bytes.iter().map(|byte| match byte {
        b' '..=b'~' if *byte != b'\\' => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02X}"),
    });
    written.collect()
}

async fn read_by_kafka(c: Context) -> Result<(), Objection> {
    // The codec's bits are the partition's number.
    let topic = c.topic(5).await?;
    let mut expected = Vec::new();
    for (partition, codec) in (0..).zip(CODECS) {
        expected.extend(sent_in(&c, (&topic, partition), codec).await?);
    }
    let consumed = c.target().consumed(&topic.name, expected.len()).await;
    let consumed = consumed.map_err(|error| Objection::new("consume", "done", error))?;
    let mut consumed: Vec<&str> = consumed.lines().collect();
    expect_eq("records", expected.len(), consumed.len())?;
    consumed.sort_unstable();
    expected.sort_unstable();
    for (expected, consumed) in expected.iter().zip(consumed) {
        expect_eq("a record", expected.as_str(), consumed)?;
    }
    Ok(())
}
