//! What Apache Kafka 4.3.1 answered, byte for byte, and what the cluster must answer too.
//!
//! `goldens/kafka-4.3.1.txt` holds requests and answers read from a real broker's socket; its head
//! tells the form. Nothing is masked: what depends on the day of the recording (time, topic ids,
//! producer ids, cluster id) is set up to be the same.
//!
//! *Not here* answers that list what the mock does not serve (ApiVersions in full), and rows of
//! several topics, which Kafka sends in a hash order.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

use std::fmt::Write as _;

use bytes::Bytes;
use kafka_mockbroker::BrokerConfig;
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use kafka_mockbroker::engine::time::Instant;
use kafka_mockbroker::engine::topology::BrokerEndpoint;
use kafka_mockbroker::engine::{ClusterConfig, TopicSpec};
use kafka_mockbroker::handlers::ClusterEngine;

const GOLDENS: &str = include_str!("goldens/kafka-4.3.1.txt");
const HERE: ConnectionId = ConnectionId(1);

#[derive(Default)]
struct Case<'a> {
    title: &'a str,
    topics: Vec<(&'a str, i32)>,
    topic_id: Option<(Vec<u8>, &'a str)>,
    now_ms: i64,
    ids: usize,
    first: Vec<Vec<u8>>,
    repeat: usize,
    request: Vec<u8>,
    answer: &'a str,
}

fn cases() -> Vec<Case<'static>> {
    let blocks = GOLDENS
        .split("\n\n")
        .filter(|block| block.starts_with("case "));
    blocks.map(case).collect()
}

fn case(block: &'static str) -> Case<'static> {
    // The recording was made at this time of the broker's clock; most cases do not depend on it.
    let mut case = Case {
        now_ms: 1_795_300_343_672,
        repeat: 1,
        ..Case::default()
    };
    for line in block.lines() {
        let (word, rest) = line.split_once(' ').expect("a word and what it says");
        let words: Vec<&str> = rest.split(' ').collect();
        match word {
            "case" => case.title = rest,
            "topic" => case
                .topics
                .push((words[0], words[1].parse().expect("partitions"))),
            "topic-id" => {
                case.topics
                    .push((words[1], words[2].parse().expect("partitions")));
                case.topic_id = Some((unhex(words[0]), words[1]));
            }
            "now" => case.now_ms = rest.parse().expect("milliseconds"),
            "ids" => case.ids = rest.parse().expect("a number"),
            "first" => case.first.push(unhex(rest)),
            "repeat" => case.repeat = rest.parse().expect("a number"),
            ">" => case.request = unhex(rest),
            "<" => case.answer = rest,
            other => panic!("{}: no word {other}", case.title),
        }
    }
    case
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    if let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

fn cluster(case: &Case<'_>) -> ClusterEngine {
    let topic = |(name, partitions): &(&str, i32)| TopicSpec {
        name: (*name).into(),
        partitions: *partitions,
        replication_factor: 1,
        overrides: Vec::new(),
    };
    let config = ClusterConfig {
        brokers: vec![BrokerEndpoint {
            id: BrokerId(1),
            host: "127.0.0.1".into(),
            port: 29092,
        }],
        topics: case.topics.iter().map(topic).collect(),
        broker: BrokerConfig::default(),
        cluster_id: Some("MkU3OEVBNTcwNTJENDM2Qg".into()),
        wall_clock_origin_ms: case.now_ms,
        seed: 1,
    };
    let mut engine =
        ClusterEngine::new(config, Instant::ZERO).expect("the case's topics are legal");
    engine.handle_connect(BrokerId(1), HERE, Instant::ZERO);
    let init_producer_id = unhex("0016000000000001ffffffff0000ea60");
    for _ in 0..case.ids {
        ask(&mut engine, init_producer_id.clone());
    }
    engine
}

/// The answer in hex, or `close`, or `silent`.
fn ask(engine: &mut ClusterEngine, request: Vec<u8>) -> String {
    engine.handle_request(HERE, Bytes::from(request), Instant::ZERO);
    engine.check_invariants();
    let answer = match engine.poll_effect() {
        Some(Effect::Reply { frame, .. }) => hex(&frame),
        Some(Effect::Close { .. }) => "close".into(),
        Some(effect) => panic!("without a rule there is no {effect:?}"),
        None => "silent".into(),
    };
    assert_eq!(engine.poll_effect(), None, "one request has one effect");
    answer
}

fn answer(case: &Case<'_>) -> String {
    let mut engine = cluster(case);
    let mut request = case.request.clone();
    let id = case.topic_id.as_ref().map(|(recorded, name)| {
        let topic = engine
            .cluster()
            .topology()
            .topic_by_name(name)
            .expect("it is there");
        (recorded.clone(), topic.id.as_bytes().to_vec())
    });
    if let Some((recorded, ours)) = &id {
        replace(&mut request, recorded, ours);
    }
    for first in &case.first {
        ask(&mut engine, first.clone());
    }
    let answers: Vec<String> = (0..case.repeat)
        .map(|_| ask(&mut engine, request.clone()))
        .collect();
    let last = answers.last().expect("a case is asked at least once");
    match &id {
        Some((recorded, ours)) => last.replace(&hex(ours), &hex(recorded)),
        None => last.clone(),
    }
}

#[test]
fn the_cluster_answers_as_kafka_did() {
    let mut differences = String::new();
    for case in cases() {
        let ours = answer(&case);
        if ours != case.answer {
            let Case { title, answer, .. } = case;
            write!(differences, "\n{title}\n  kafka {answer}\n  ours  {ours}").expect("a string");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn the_recording_is_read_whole() {
    // A form that no longer parses must not pass as "no difference".
    let cases = cases();
    assert_eq!(cases.len(), GOLDENS.matches("\ncase ").count());
    assert!(cases.len() >= 60, "{}", cases.len());
    assert!(
        cases
            .iter()
            .all(|case| !case.request.is_empty() && !case.answer.is_empty())
    );
}
