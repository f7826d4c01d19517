//! How fast a cluster is there, takes records and gives them back.
//!
//! ```sh
//! make bench          # figures, as a table
//! make bench-smoke    # each once, to see that it works
//! ```
//!
//! Records have values of 100 bytes and no key, batches are of an idempotent producer and not
//! compressed, and are encoded before the clock runs. What is appended is validated in full: the
//! checksum, each record, the sequence. An iteration has a cluster of its own, whose start and end
//! are not counted, because a log keeps everything.
//!
//! *Not here*: clients. `engine` calls the cluster as a simulation does; `tcp` is a thread with a
//! blocking socket and at most five requests in flight.

#![expect(missing_docs, reason = "what the macros of criterion make has none")]
#![expect(clippy::expect_used, reason = "a benchmark that fails ends")]

#[path = "../tests/frames/mod.rs"]
mod frames;
#[path = "../tests/world/mod.rs"]
mod world;

use std::hint::black_box;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use frames::{fetch, fetched, produce, produce_rows};
use kafka_mockbroker::engine::effect::Effect;
use kafka_mockbroker::{BrokerId, MockCluster};
use socket2::SockRef;
use world::{LEADER, World, answer_on};

/// A size of batches: its name, records in one, and batches in an iteration.
type Shape = (&'static str, i32, usize);

/// What fits into Java's default `batch.size`, and nearly what a broker takes at most.
const SHAPES: [Shape; 2] = [("16KiB", 150, 1_000), ("1MiB", 9_500, 16)];
const VALUE: [u8; 100] = [b'x'; 100];
const IN_FLIGHT_MAX: usize = 5;

/// A sample is a start or two, so that the median is that of single starts: one that a neighbour
/// interrupts takes many times as long, and would be in every average.
fn start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start");
    group.sampling_mode(SamplingMode::Flat);
    group.sample_size(1_000);
    group.measurement_time(Duration::from_millis(500));
    group.bench_function("three_brokers", |bencher| {
        bencher.iter_batched(|| (), |()| cluster(), BatchSize::PerIteration);
    });
    let frame = sized(&produce_frame(0, 1));
    group.bench_function("first_ack", |bencher| {
        let acknowledged = |()| {
            let cluster = cluster();
            let mut stream = connect(&cluster);
            stream.write_all(&frame).expect("it is listened to");
            let answer = answer(&mut stream);
            assert_eq!(produce_rows(answer)[0].code, 0, "it is acknowledged");
            // In this order: the client's end goes first.
            (stream, cluster)
        };
        bencher.iter_batched(|| (), acknowledged, BatchSize::PerIteration);
    });
    group.finish();
}

fn produce_engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce/engine");
    for shape in SHAPES {
        let (name, _, count) = shape;
        let requests = requests(shape);
        group.throughput(Throughput::Elements(records(shape)));
        group.bench_function(name, |bencher| {
            let appended = |mut world: World| {
                let connection = world.connect(LEADER);
                for request in &requests {
                    world
                        .engine
                        .handle_request(connection, request.clone(), world.now);
                    let Some(Effect::Reply { frame, .. }) = world.engine.poll_effect() else {
                        panic!("an append is answered at once");
                    };
                    black_box(frame);
                }
                world
            };
            assert_eq!(
                appended(World::new()).log_end(0),
                end(shape),
                "{count} batches"
            );
            bencher.iter_batched(World::new, appended, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn produce_tcp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce/tcp");
    for shape in SHAPES {
        let requests: Vec<Bytes> = requests(shape).iter().map(sized).collect();
        group.throughput(Throughput::Elements(records(shape)));
        group.bench_function(shape.0, |bencher| {
            bencher.iter_custom(|iterations| {
                let one = |_| {
                    let cluster = cluster();
                    let mut stream = connect(&cluster);
                    let started = Instant::now();
                    exchange(&mut stream, requests.iter());
                    let elapsed = started.elapsed();
                    let end_offset = cluster.partition("orders", 0).map(|p| p.log_end_offset);
                    assert_eq!(end_offset, Some(end(shape)));
                    elapsed
                };
                (0..iterations).map(one).sum::<Duration>()
            });
        });
    }
    group.finish();
}

fn fetch_engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch/engine");
    for shape in SHAPES {
        let mut world = World::new();
        let connection = world.connect(LEADER);
        for request in requests(shape) {
            world.engine.handle_request(connection, request, world.now);
        }
        world.effects();
        let asked = fetch("orders", 0, 0, (0, 1));
        world
            .engine
            .handle_request(connection, asked.clone(), world.now);
        let (_, _, got) = fetched(answer_on(&world.effects(), connection));
        group.throughput(Throughput::Elements(whole_records(shape, &got)));
        group.bench_function(shape.0, |bencher| {
            bencher.iter(|| {
                world
                    .engine
                    .handle_request(connection, asked.clone(), world.now);
                world.engine.poll_effect()
            });
        });
    }
    group.finish();
}

fn fetch_tcp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch/tcp");
    for shape in SHAPES {
        let cluster = cluster();
        let mut stream = connect(&cluster);
        let requests: Vec<Bytes> = requests(shape).iter().map(sized).collect();
        exchange(&mut stream, requests.iter());
        let asked = sized(&fetch("orders", 0, 0, (0, 1)));
        stream.write_all(&asked).expect("it is listened to");
        let (_, _, got) = fetched(answer(&mut stream));
        group.throughput(Throughput::Elements(whole_records(shape, &got)));
        group.bench_function(shape.0, |bencher| {
            bencher.iter(|| {
                stream.write_all(&asked).expect("it is listened to");
                answer(&mut stream)
            });
        });
    }
    group.finish();
}

/// Three brokers, and `orders` of six partitions with three replicas; broker 1 leads partition 0.
fn cluster() -> MockCluster {
    let builder = MockCluster::builder().brokers(3).topic("orders", 6, 3);
    builder.start().expect("there are free ports")
}

/// A connection that is reset by its end, and so leaves no socket in TIME-WAIT: with thousands of
/// them the kernel's search for a free port is all that a start measures.
fn connect(cluster: &MockCluster) -> TcpStream {
    let address = cluster.address(BrokerId(1)).expect("it is there");
    let stream = TcpStream::connect(address).expect("it is listened to");
    stream.set_nodelay(true).expect("a socket of TCP");
    let reset = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    reset.expect("a socket of TCP");
    stream
}

/// Sends the requests and reads their answers, with at most five in flight.
fn exchange<'a>(stream: &mut TcpStream, requests: impl ExactSizeIterator<Item = &'a Bytes>) {
    let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
    let mut in_flight = 0;
    for request in requests {
        if in_flight == IN_FLIGHT_MAX {
            black_box(answer(&mut answers));
            in_flight -= 1;
        }
        stream.write_all(request).expect("it is listened to");
        in_flight += 1;
    }
    for _ in 0..in_flight {
        black_box(answer(&mut answers));
    }
}

fn answer(stream: &mut impl Read) -> Bytes {
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("it is answered");
    let bytes = usize::try_from(u32::from_be_bytes(size)).expect("an answer fits into memory");
    let mut frame = vec![0; bytes];
    stream.read_exact(&mut frame).expect("it is answered");
    frame.into()
}

/// A frame with its size before it.
fn sized(frame: &Bytes) -> Bytes {
    let size = u32::try_from(frame.len()).expect("a request fits into a frame");
    [&size.to_be_bytes(), &frame[..]].concat().into()
}

/// Produce requests with acks=all, to partition 0; a batch each, in the producer's sequence.
fn requests((_, records, batches): Shape) -> Vec<Bytes> {
    let sequences = (0..).step_by(usize::try_from(records).expect("a count"));
    sequences
        .take(batches)
        .map(|sequence| produce_frame(sequence, records))
        .collect()
}

fn produce_frame(sequence: i32, records: i32) -> Bytes {
    produce(-1, 30_000, "orders", &[(0, Some(batch(sequence, records)))])
}

/// Records of an iteration.
fn records((_, records, batches): Shape) -> u64 {
    u64::try_from(records).expect("a count") * u64::try_from(batches).expect("a count")
}

fn end(shape: Shape) -> i64 {
    i64::try_from(records(shape)).expect("an offset")
}

/// How many records are in the whole batches of a Fetch answer.
fn whole_records((_, records, _): Shape, got: &Bytes) -> u64 {
    let batch_bytes = batch(0, records).len();
    assert!(got.len() >= batch_bytes, "a batch at least");
    u64::try_from(got.len() / batch_bytes).expect("a count") * u64::try_from(records).expect("one")
}

/// A batch of this many records, by its layout of version 2.
fn batch(sequence: i32, records: i32) -> Bytes {
    let mut checked = BytesMut::new();
    checked.put_i16(0);
    checked.put_i32(records - 1);
    checked.put_i64(1_000);
    checked.put_i64(1_000);
    checked.put_i64(7);
    checked.put_i16(0);
    checked.put_i32(sequence);
    checked.put_i32(records);
    let mut body = BytesMut::new();
    for offset in 0..records {
        body.clear();
        // Attributes, timestamp delta; then offset delta, no key, the value, no headers.
        body.put_slice(&[0, 0]);
        put_varint(&mut body, offset);
        put_varint(&mut body, -1);
        put_varint(
            &mut body,
            i32::try_from(VALUE.len()).expect("a short value"),
        );
        body.put_slice(&VALUE);
        put_varint(&mut body, 0);
        put_varint(
            &mut checked,
            i32::try_from(body.len()).expect("a short record"),
        );
        checked.put_slice(&body);
    }
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(i32::try_from(9 + checked.len()).expect("a batch of at most 1 MiB"));
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.put_slice(&checked);
    batch.freeze()
}

/// Zigzag, then seven bits a byte, the lowest first.
fn put_varint(out: &mut BytesMut, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)).cast_unsigned();
    while rest > 0x7f {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        out.put_u8(low | 0x80);
        rest >>= 7;
    }
    out.put_u8(u8::try_from(rest).expect("seven bits"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = start, produce_engine, produce_tcp, fetch_engine, fetch_tcp
}
criterion_main!(benches);
