//! Hostile bytes: frames, record batches, scenarios. What is valid is made wrong at random.
//!
//! Each test is a smoke run from a fixed seed. `FUZZ_SECONDS` makes it as long, and `FUZZ_SEED`
//! another one; `make fuzz` sets both. A failure prints the seed and the input.
//!
//! *Invariants* that hold whatever the input is:
//! 1. No panic, and the invariants of every machine.
//! 2. A request is answered, or its connection closed, or left without an answer as Kafka does.
//! 3. Memory for one input stays below `INPUT_MEMORY_MAX`.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]
#![expect(
    clippy::print_stdout,
    reason = "a failure is repeated from its seed or its input"
)]

mod mutation;
mod target;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use kafka_mockbroker::CompressionType;
use kafka_mockbroker::wire::compression::compress;
use mutation::mutate;
use peak_alloc::PeakAlloc;
use target::{Frames, take_batch, take_scenario};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The largest that one input may cost: what comes out of a compressed batch, and as much again
/// while it is looked at. The tests of a run share it, so it is theirs together.
const INPUT_MEMORY_MAX: usize = 768 << 20;

/// A cluster takes so many inputs, then comes a fresh one.
const INPUTS_OF_A_CLUSTER: usize = 100;

/// Rounds of a smoke run.
const ROUNDS: usize = 3_000;

/// Gives mutations of the corpus to `take`, which is told how many inputs came before.
fn fuzz(name: &str, corpus: &[Vec<u8>], mut take: impl FnMut(usize, &[u8])) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let limit = number("FUZZ_SECONDS").map(Duration::from_secs);
    let (mut random, begun) = (Rng::with_seed(seed), Instant::now());
    let mut round = 0;
    while limit.map_or(round < ROUNDS, |limit| begun.elapsed() < limit) {
        let input = &corpus[random.usize(..corpus.len())];
        let other = &corpus[random.usize(..corpus.len())];
        let input = match round.checked_sub(corpus.len()) {
            // The corpus itself comes first: it must pass as it is.
            None => corpus[round].clone(),
            Some(_) => mutate(input, other, &mut random),
        };
        let told = Told {
            name,
            seed,
            round,
            input: &input,
        };
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        take(round, &input);
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(
            peak < INPUT_MEMORY_MAX,
            "{peak} bytes of memory for one input"
        );
        drop(told);
        round += 1;
    }
    println!("{name}: {round} inputs from seed {seed}");
}

/// Prints the input when its test panics.
struct Told<'a> {
    name: &'a str,
    seed: u64,
    round: usize,
    input: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex = self.input.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            let Self {
                name, seed, round, ..
            } = self;
            println!("{name}: seed {seed}, round {round}, input {hex}");
        }
    }
}

/// The requests of the goldens.
fn frames() -> Vec<Vec<u8>> {
    let goldens = include_str!("../goldens/kafka-4.3.1.txt");
    let requests = goldens.lines().filter_map(|line| line.strip_prefix("> "));
    let unhex = |text: &str| {
        let digits = text.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.map(|pair| byte(pair).unwrap()).collect()
    };
    requests.map(unhex).collect()
}

/// Batches of a few records in each codec, plain and of an idempotent producer.
fn batches() -> Vec<Vec<u8>> {
    let codecs = [
        CompressionType::Uncompressed,
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];
    let producers = [(-1_i64, -1_i16, -1_i32), (0, 0, 0)];
    let all = (0..)
        .zip(codecs)
        .flat_map(|(id, codec)| producers.map(|of| batch(id, codec, of)));
    all.collect()
}

fn batch(codec_id: i16, codec: CompressionType, producer: (i64, i16, i32)) -> Vec<u8> {
    let mut records = BytesMut::new();
    for index in 0..3 {
        // Length, attributes, timestamp delta, offset delta, key, value, one header.
        records.put_slice(&[
            0x18,
            0,
            0,
            index * 2,
            2,
            b'k',
            2,
            index,
            2,
            2,
            b'h',
            2,
            b'v',
        ]);
    }
    let payload = match codec {
        CompressionType::Uncompressed => records.freeze(),
        codec => compress(codec, &records).unwrap(),
    };
    let mut checked = BytesMut::new();
    checked.put_i16(codec_id);
    checked.put_i32(2);
    checked.put_i64(1_795_300_343_672);
    checked.put_i64(1_795_300_343_672);
    checked.put_i64(producer.0);
    checked.put_i16(producer.1);
    checked.put_i32(producer.2);
    checked.put_i32(3);
    checked.put_slice(&payload);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_u32(u32::try_from(9 + checked.len()).unwrap());
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.put_slice(&checked);
    Bytes::from(batch).to_vec()
}

#[test]
fn no_frame_harms_a_cluster() {
    let mut cluster = Frames::new();
    fuzz("frames", &frames(), |round, input| {
        if round % INPUTS_OF_A_CLUSTER == 0 {
            cluster = Frames::new();
        }
        cluster.take(input);
    });
}

#[test]
fn no_batch_harms_a_cluster() {
    let mut cluster = Frames::new();
    let topics = ["t", "append-time", "compact", "gzip"];
    fuzz("batches", &batches(), |round, input| {
        if round % INPUTS_OF_A_CLUSTER == 0 {
            cluster = Frames::new();
        }
        take_batch(&mut cluster, input, topics[round % topics.len()]);
    });
}

#[test]
fn no_text_harms_the_reader_of_scenarios() {
    let scenarios = [
        "cluster:\n  brokers: 3\n  topics:\n    - {name: orders, partitions: 6, replicas: 3}\n",
        "faults:\n  - {on: Produce, topic: orders, then: apply_then_lose}\n",
        "moves:\n  - {at: 200ms, crash: 2}\n  - {at: 1s, restart: 2}\n",
        "a: &a [1, 2]\nb: [*a, *a]\nc: !tag {x: \"\\u0000\"}\n",
    ];
    let corpus = scenarios.map(|text| text.as_bytes().to_vec());
    fuzz("scenarios", &corpus, |_, input| take_scenario(input));
}
