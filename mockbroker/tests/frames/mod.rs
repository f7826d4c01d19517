//! Requests as bytes, written by hand in versions without tagged fields, and answers read likewise.
//!
//! Kept apart from every codec, so that a misunderstanding there cannot hide here.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(clippy::expect_used, reason = "a failing helper fails its test")]

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a record batch of plain records is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Its records: no key, a value of one byte that counts up.
    pub(crate) count: i32,
    /// The producer's id; -1 for none.
    pub(crate) producer_id: i64,
    /// The producer's epoch.
    pub(crate) epoch: i16,
    /// The first record's sequence.
    pub(crate) sequence: i32,
    /// The timestamp of every record.
    pub(crate) timestamp_ms: i64,
}

impl Batch {
    /// A batch of no idempotent producer.
    pub(crate) const fn plain(count: i32) -> Self {
        Self {
            count,
            producer_id: -1,
            epoch: -1,
            sequence: -1,
            timestamp_ms: 1_000,
        }
    }

    /// A batch of an idempotent producer at epoch 0.
    pub(crate) const fn idempotent(producer_id: i64, sequence: i32, count: i32) -> Self {
        Self {
            count,
            producer_id,
            epoch: 0,
            sequence,
            timestamp_ms: 1_000,
        }
    }

    /// Its bytes, with a right checksum.
    pub(crate) fn encode(&self) -> Bytes {
        let mut checked = BytesMut::new();
        checked.put_i16(0);
        checked.put_i32(self.count - 1);
        checked.put_i64(self.timestamp_ms);
        checked.put_i64(self.timestamp_ms);
        checked.put_i64(self.producer_id);
        checked.put_i16(self.epoch);
        checked.put_i32(self.sequence);
        checked.put_i32(self.count);
        for index in 0..self.count {
            let index = u8::try_from(index).expect("tests send few records");
            assert!(index < 64, "a zigzag varint of one byte");
            // Length, attributes, timestamp delta, offset delta, no key, one byte, no headers.
            checked.put_slice(&[14, 0, 0, index * 2, 1, 2, index, 0]);
        }
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(i32::try_from(9 + checked.len()).expect("a small batch"));
        batch.put_i32(-1);
        batch.put_u8(2);
        batch.put_u32(crc32c::crc32c(&checked));
        batch.put_slice(&checked);
        batch.freeze()
    }
}

/// A request header of version 1: key, API version, correlation id, client id.
pub(crate) fn header(key: i16, version: i16, correlation_id: i32) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    put_text(&mut frame, "test");
    frame
}

/// A header of version 2: with tagged fields, of which there are none.
pub(crate) fn flexible(key: i16, version: i16) -> BytesMut {
    let mut frame = header(key, version, 1);
    frame.put_u8(0);
    frame
}

/// A text with a compact length, of one byte.
pub(crate) fn put_compact(frame: &mut BytesMut, text: &str) {
    frame.put_u8(u8::try_from(text.len() + 1).expect("a short text"));
    frame.put_slice(text.as_bytes());
}

pub(crate) fn put_text(frame: &mut BytesMut, text: &str) {
    frame.put_i16(i16::try_from(text.len()).expect("a short text"));
    frame.put_slice(text.as_bytes());
}

/// Produce, version 7, of one topic; `None` is null records.
pub(crate) fn produce(
    acks: i16,
    timeout_ms: i32,
    topic: &str,
    entries: &[(i32, Option<Bytes>)],
) -> Bytes {
    let mut frame = header(0, 7, 1);
    frame.put_i16(-1);
    frame.put_i16(acks);
    frame.put_i32(timeout_ms);
    frame.put_i32(1);
    put_text(&mut frame, topic);
    frame.put_i32(i32::try_from(entries.len()).expect("few entries"));
    for (partition, records) in entries {
        frame.put_i32(*partition);
        match records {
            None => frame.put_i32(-1),
            Some(records) => {
                frame.put_i32(i32::try_from(records.len()).expect("a small batch"));
                frame.put_slice(records);
            }
        }
    }
    frame.freeze()
}

/// A row of a Produce answer, version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which partition.
    pub(crate) partition: i32,
    /// The error code.
    pub(crate) code: i16,
    /// The first record's offset.
    pub(crate) base_offset: i64,
    /// The time of the append.
    pub(crate) log_append_time_ms: i64,
    /// The log's first offset.
    pub(crate) log_start_offset: i64,
}

/// The rows of a Produce answer, version 7, of one topic.
pub(crate) fn produce_rows(mut answer: Bytes) -> Vec<Row> {
    answer.advance(4);
    assert_eq!(answer.get_i32(), 1, "one topic was sent");
    skip_text(&mut answer);
    let count = answer.get_i32();
    (0..count)
        .map(|_| Row {
            partition: answer.get_i32(),
            code: answer.get_i16(),
            base_offset: answer.get_i64(),
            log_append_time_ms: answer.get_i64(),
            log_start_offset: answer.get_i64(),
        })
        .collect()
}

pub(crate) fn skip_text(answer: &mut Bytes) {
    let bytes = usize::try_from(answer.get_i16()).expect("a text");
    answer.advance(bytes);
}

/// Fetch, version 4, of one partition.
pub(crate) fn fetch(
    topic: &str,
    partition: i32,
    offset: i64,
    (wait_ms, bytes_min): (i32, i32),
) -> Bytes {
    let mut frame = header(1, 4, 2);
    frame.put_i32(-1);
    frame.put_i32(wait_ms);
    frame.put_i32(bytes_min);
    frame.put_i32(1 << 20);
    frame.put_u8(0);
    frame.put_i32(1);
    put_text(&mut frame, topic);
    frame.put_i32(1);
    frame.put_i32(partition);
    frame.put_i64(offset);
    frame.put_i32(1 << 20);
    frame.freeze()
}

/// Fetch, version 9 or 10, of `orders-0` from offset 0, with the leader epoch that a client knows;
/// -1 for none. Answered at once.
pub(crate) fn fetch_in_epoch(version: i16, epoch: i32) -> Bytes {
    let mut frame = header(1, version, 1);
    for number in [-1, 0, 0, 1 << 20] {
        frame.put_i32(number);
    }
    frame.put_u8(0);
    frame.put_i32(0);
    frame.put_i32(-1);
    frame.put_i32(1);
    put_text(&mut frame, "orders");
    frame.put_i32(1);
    frame.put_i32(0);
    frame.put_i32(epoch);
    frame.put_i64(0);
    frame.put_i64(-1);
    frame.put_i32(1 << 20);
    frame.put_i32(0);
    frame.freeze()
}

/// Code, high watermark and record bytes of a Fetch answer, version 4, of one partition.
pub(crate) fn fetched(mut answer: Bytes) -> (i16, i64, Bytes) {
    answer.advance(4 + 4 + 4);
    skip_text(&mut answer);
    answer.advance(4 + 4);
    let (code, high_watermark) = (answer.get_i16(), answer.get_i64());
    answer.advance(8);
    assert_eq!(answer.get_i32(), -1, "no aborted transactions");
    let bytes = usize::try_from(answer.get_i32()).expect("records are not null");
    (code, high_watermark, answer.split_to(bytes))
}

/// ListOffsets, version 1, of one partition.
pub(crate) fn list_offsets(topic: &str, partition: i32, timestamp: i64) -> Bytes {
    let mut frame = header(2, 1, 3);
    frame.put_i32(-1);
    frame.put_i32(1);
    put_text(&mut frame, topic);
    frame.put_i32(1);
    frame.put_i32(partition);
    frame.put_i64(timestamp);
    frame.freeze()
}

/// Code, timestamp and offset of a ListOffsets answer, version 1, of one partition.
pub(crate) fn listed(mut answer: Bytes) -> (i16, i64, i64) {
    answer.advance(4 + 4);
    skip_text(&mut answer);
    answer.advance(4 + 4);
    (answer.get_i16(), answer.get_i64(), answer.get_i64())
}

/// Metadata, version 1, of one topic.
pub(crate) fn metadata(topic: &str) -> Bytes {
    let mut frame = header(3, 1, 4);
    frame.put_i32(1);
    put_text(&mut frame, topic);
    frame.freeze()
}

/// A topic to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTopic {
    /// Its name.
    pub(crate) name: &'static str,
    /// How many partitions.
    pub(crate) partitions: i32,
    /// How many replicas.
    pub(crate) replicas: i16,
    /// One key and value of its configuration.
    pub(crate) config: Option<(&'static str, &'static str)>,
}

impl NewTopic {
    /// A topic without configuration.
    pub(crate) const fn new(name: &'static str, partitions: i32, replicas: i16) -> Self {
        Self {
            name,
            partitions,
            replicas,
            config: None,
        }
    }

    /// With this key of its configuration.
    pub(crate) const fn with(mut self, key: &'static str, value: &'static str) -> Self {
        self.config = Some((key, value));
        self
    }
}

/// CreateTopics, version 4.
pub(crate) fn create_topics(topics: &[NewTopic], validate_only: u8) -> Bytes {
    let mut frame = header(19, 4, 5);
    frame.put_i32(i32::try_from(topics.len()).expect("few topics"));
    for topic in topics {
        put_text(&mut frame, topic.name);
        frame.put_i32(topic.partitions);
        frame.put_i16(topic.replicas);
        frame.put_i32(0);
        frame.put_i32(i32::from(topic.config.is_some()));
        if let Some((key, value)) = topic.config {
            put_text(&mut frame, key);
            put_text(&mut frame, value);
        }
    }
    frame.put_i32(1_000);
    frame.put_u8(validate_only);
    frame.freeze()
}

/// DeleteTopics, version 1.
pub(crate) fn delete_topics(names: &[&str]) -> Bytes {
    let mut frame = header(20, 1, 6);
    frame.put_i32(i32::try_from(names.len()).expect("few topics"));
    for name in names {
        put_text(&mut frame, name);
    }
    frame.put_i32(1_000);
    frame.freeze()
}

/// Codes of a CreateTopics answer, version 4, or of a DeleteTopics answer, version 1.
pub(crate) fn topic_codes(mut answer: Bytes, messages: usize) -> Vec<i16> {
    answer.advance(4 + 4);
    let count = answer.get_i32();
    let row = |answer: &mut Bytes| {
        skip_text(answer);
        let code = answer.get_i16();
        for _ in 0..messages {
            let bytes = usize::try_from(answer.get_i16()).unwrap_or(0);
            answer.advance(bytes);
        }
        code
    };
    (0..count).map(|_| row(&mut answer)).collect()
}
