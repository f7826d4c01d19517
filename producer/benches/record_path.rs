//! What a record and a batch cost on their way from the caller to the socket, and back.
//!
//! ```sh
//! make bench          # figures, as a table
//! make bench-smoke    # each once, to see that it works
//! ```
//!
//! Records have values of 100 bytes and no key. `append` is the encoding into the open batch, with
//! the opening of batches as often as they fill; `seal` is header and checksum; `frame` the request
//! around one batch; `answer` its reading. `dispatch` is what the engine does of a batch from the
//! word that it is there to the request that is to be written, with `seal` and `frame` in it;
//! `verdict` from the answer to the batch's end, with `answer` in it. What a record costs is the
//! time by `records`.
//!
//! *Not here*: locks, tasks and sockets; they are in the way of a whole record, which the crate of
//! promises measures. That a record allocates nothing is a test, since it is a count.

#![expect(missing_docs, reason = "what the macros of criterion make has none")]
#![expect(clippy::expect_used, reason = "a benchmark that fails ends")]

mod flowing;
#[path = "../tests/edge/peer.rs"]
#[expect(dead_code, reason = "it is called without a connection here")]
mod peer;
/// The reader of batches that the peer has.
#[path = "../src/wire/read_back.rs"]
mod read_back;

use std::hint::black_box;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flowing::Flowing;
use kafka_producer::engine::queue::{NewBatch, PartitionQueue, QueueLimits, RecordView};
use kafka_producer::engine::ratio::Ratio;
use kafka_producer::engine::time::Instant;
use kafka_producer::wire::batch_buffer::BatchBuffer;
use kafka_producer::wire::frame::RequestHeader;
use kafka_producer::wire::produce_request::{self, PartitionBatch, ProduceHeader};
use kafka_producer::wire::produce_response;
use kafka_producer::wire::record_batch::{
    BatchHeader, Place, PlacedRecord, ProducerStamp, Scope, complete_header, reserve_header,
};
use kafka_producer::wire::{Api, TopicRef};
use kafka_producer::{Acks, CompressionType, ProducerEpoch, ProducerId, Sequence, TopicId};

/// A size of batches: its name, bytes, and records in one.
type Shape = (&'static str, usize, u32);

const SHAPES: [Shape; 2] = [("16KiB", 16_384, 148), ("1MiB", 1_048_576, 9_400)];
const VALUE: [u8; 100] = [b'x'; 100];
const VERSION: i16 = 13;

const RECORD: RecordView<'static> = RecordView {
    timestamp_ms: 1_700_000_000_000,
    key: None,
    value: Some(&VALUE),
    headers: &[],
};

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, batch_bytes, records) in SHAPES {
        group.throughput(Throughput::Elements(u64::from(records)));
        group.bench_function(name, |bencher| {
            let queue = || PartitionQueue::new(QueueLimits { batch_bytes });
            let fill = |mut queue: PartitionQueue<()>| {
                for _ in 0..records {
                    if queue.append(black_box(&RECORD)).is_err() {
                        queue.append_opening(&RECORD, fresh(batch_bytes));
                    }
                }
                let batches = std::iter::from_fn(|| queue.take());
                let appended: u32 = batches.map(|batch| batch.record_count()).sum();
                assert_eq!(appended, records);
                queue
            };
            bencher.iter_batched(queue, fill, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn fresh(batch_bytes: usize) -> NewBatch<()> {
    NewBatch {
        buffer: BatchBuffer::with_capacity(batch_bytes),
        buffer_bytes_max: batch_bytes,
        ratio: Ratio::PLAIN,
        completion: (),
        now: Instant::ZERO,
    }
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for shape in SHAPES {
        let (name, _, records) = shape;
        let (mut batch, header) = filled(shape);
        group.throughput(Throughput::Elements(u64::from(records)));
        group.bench_function(name, |bencher| {
            bencher.iter(|| complete_header(black_box(&mut batch), &header));
        });
    }
    group.finish();
}

fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for shape in SHAPES {
        let (name, _, records) = shape;
        let (mut batch, header) = filled(shape);
        complete_header(&mut batch, &header);
        let batches = [PartitionBatch {
            topic: TopicRef::Id(TopicId([7; 16])),
            partition: 0,
            records: batch.into(),
        }];
        let request = ProduceHeader {
            request: RequestHeader {
                api: Api::Produce,
                version: VERSION,
                correlation_id: 7,
                client_id: "bench",
            },
            transactional_id: None,
            acks: Acks::All,
            timeout_ms: 30_000,
        };
        group.throughput(Throughput::Elements(u64::from(records)));
        group.bench_function(name, |bencher| {
            bencher.iter(|| produce_request::encode(black_box(&request), black_box(&batches)));
        });
    }
    group.finish();
}

fn answer(criterion: &mut Criterion) {
    let answer = acknowledged();
    let read = produce_response::decode(VERSION, &answer).expect("an answer");
    assert_eq!(read.rows[0].base_offset, Some(40));
    let mut group = criterion.benchmark_group("answer");
    group.bench_function("one_row", |bencher| {
        bencher.iter(|| produce_response::decode(VERSION, black_box(&answer)).map(drop));
    });
}

fn dispatch(criterion: &mut Criterion) {
    flow(criterion, "dispatch", |flowing| {
        let started = std::time::Instant::now();
        let sent = flowing.dispatch();
        let elapsed = started.elapsed();
        let answer = flowing.answer_to(&sent);
        assert!(flowing.take_answer(answer), "it is written");
        elapsed
    });
}

fn verdict(criterion: &mut Criterion) {
    flow(criterion, "verdict", |flowing| {
        let sent = flowing.dispatch();
        let answer = flowing.answer_to(&sent);
        let started = std::time::Instant::now();
        assert!(flowing.take_answer(answer), "it is written");
        started.elapsed()
    });
}

/// Has a batch of each shape flow as often as asked; `timed` says how long its part of that took.
fn flow(criterion: &mut Criterion, name: &str, timed: impl Fn(&mut Flowing) -> Duration) {
    let mut group = criterion.benchmark_group(name);
    for shape in SHAPES {
        group.throughput(Throughput::Elements(u64::from(shape.2)));
        group.bench_function(shape.0, |bencher| {
            let mut flowing = Flowing::new(shape);
            let mut one = |_| {
                flowing.fill(&RECORD);
                timed(&mut flowing)
            };
            bencher.iter_custom(|iterations| (0..iterations).map(&mut one).sum::<Duration>());
        });
    }
    group.finish();
}

/// A batch of the shape without its header, and that.
fn filled((_, batch_bytes, records): Shape) -> (Vec<u8>, BatchHeader) {
    let mut buffer = Vec::with_capacity(batch_bytes);
    reserve_header(&mut buffer);
    for offset_delta in 0..records {
        let place = Place {
            timestamp_delta_ms: 0,
            offset_delta,
        };
        PlacedRecord::new(&RECORD, place).append_to(&mut buffer);
    }
    assert!(buffer.len() <= batch_bytes, "it fits");
    let header = BatchHeader {
        base_timestamp_ms: RECORD.timestamp_ms,
        max_timestamp_ms: RECORD.timestamp_ms,
        record_count: records,
        compression: CompressionType::None,
        producer: Some(ProducerStamp {
            id: ProducerId(4_000),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence::ZERO,
            scope: Scope::Alone,
        }),
    };
    (buffer, header)
}

/// An answer of version 13 with one row: no error, base offset 40.
fn acknowledged() -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(7);
    frame.put_u8(0);
    frame.put_u8(2);
    frame.put_bytes(7, 16);
    frame.put_u8(2);
    frame.put_i32(0);
    frame.put_i16(0);
    // Base offset, time of append, start of the log.
    [40, -1, 0]
        .into_iter()
        .for_each(|value| frame.put_i64(value));
    // No refused records, no words, no tags; of the topic none; the throttle time, and none.
    frame.put_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame.freeze()
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = append, seal, frame, answer, dispatch, verdict
}
criterion_main!(benches);
