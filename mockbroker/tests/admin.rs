//! What admin clients ask: configuration, the cluster, topics page by page.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod configs;
mod frames;
mod world;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use configs::{BROKER, Entry, TOPIC, ask_configs, describe_configs, described, put_text, text};
use frames::{Batch, header};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use rstest::rstest;
use world::{LEADER, THIRD, World, only_answer};

#[test]
fn what_a_topic_sets_is_told_before_the_default() {
    let mut world = World::configured(&[
        ("min.insync.replicas", "2"),
        ("segment.bytes", "1073741824"),
    ]);
    let keys = [
        "segment.bytes",
        "min.insync.replicas",
        "cleanup.policy",
        "no.such.key",
    ];
    let (code, entries) = ask_configs(&mut world, TOPIC, "orders", &keys);
    let synonym = |key: &str, value: &str, source| (key.to_owned(), value.to_owned(), source);
    let entry = |key: &str, value: &str, value_type, synonyms: Vec<(String, String, i8)>| Entry {
        key: key.into(),
        value: value.into(),
        read_only: 0,
        source: synonyms[0].2,
        synonyms,
        value_type,
    };
    let gib = "1073741824";
    let expected = [
        entry(
            "cleanup.policy",
            "delete",
            7,
            vec![synonym("log.cleanup.policy", "delete", 5)],
        ),
        entry(
            "min.insync.replicas",
            "2",
            3,
            vec![
                synonym("min.insync.replicas", "2", 1),
                synonym("min.insync.replicas", "1", 3),
                synonym("min.insync.replicas", "1", 5),
            ],
        ),
        // Set to the default's value is set.
        entry(
            "segment.bytes",
            gib,
            3,
            vec![
                synonym("segment.bytes", gib, 1),
                synonym("log.segment.bytes", gib, 5),
            ],
        ),
    ];
    assert_eq!(code, 0);
    assert_eq!(entries, expected);
}

#[test]
fn what_the_broker_was_started_with_is_told_of_it_and_of_its_topics() {
    let settings = [("log.cleanup.policy", "compact"), ("num.partitions", "6")];
    let mut world = World::of_brokers(&settings, &[]);
    let told = |world: &mut World, kind, name, key| {
        let (code, mut entries) = ask_configs(world, kind, name, &[key]);
        assert_eq!((code, entries.len()), (0, 1));
        let entry = entries.remove(0);
        (entry.value, entry.read_only, entry.source, entry.value_type)
    };
    let compact = || "compact".to_owned();
    let of_topic = told(&mut world, TOPIC, "orders", "cleanup.policy");
    assert_eq!(of_topic, (compact(), 0, 4, 7));
    let of_broker = told(&mut world, BROKER, "1", "log.cleanup.policy");
    assert_eq!(of_broker, (compact(), 0, 4, 7));
    let fixed = told(&mut world, BROKER, "1", "num.partitions");
    assert_eq!(fixed, ("6".into(), 1, 4, 3));
    let default = told(&mut world, BROKER, "1", "auto.create.topics.enable");
    assert_eq!(default, ("true".into(), 1, 5, 1));
}

#[rstest]
#[case::unknown_topic(TOPIC, "nope", 3, "")]
#[case::bad_name(TOPIC, "..", 17, "Topic name is invalid: '..' is not allowed")]
#[case::other_broker(
    BROKER,
    "2",
    42,
    "Unexpected broker id, expected 1 or empty string, but received 2"
)]
#[case::no_number(BROKER, "x", 42, "Broker id must be an integer, but it is: x")]
fn a_resource_that_is_not_here_is_told_so(
    #[case] kind: i8,
    #[case] name: &str,
    #[case] code: i16,
    #[case] message: &str,
) {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let answer = only_answer(world.send(connection, describe_configs(kind, name, &[])));
    let (told, text, entries) = described(answer);
    assert_eq!((told, text.as_str(), entries.len()), (code, message, 0));
}

/// A request header with no tags, as flexible versions have it.
fn flexible(key: i16, version: i16) -> BytesMut {
    let mut frame = header(key, version, 1);
    frame.put_u8(0);
    frame
}

#[rstest]
#[case::those_that_run(0, &[1, 2])]
#[case::all(1, &[1, 2, 3])]
fn a_broker_that_is_down_is_told_when_asked_for(#[case] fenced: u8, #[case] expected: &[i32]) {
    let mut world = World::new();
    world.make(&Move::CrashBroker { broker: THIRD });
    let connection = world.connect(LEADER);
    let mut asked = flexible(60, 2);
    asked.put_slice(&[0, 1, fenced, 0]);
    let mut answer = only_answer(world.send(connection, asked.freeze()));
    answer.advance(4 + 1 + 4);
    assert_eq!(
        (answer.get_i16(), answer.get_u8()),
        (0, 0),
        "no error, no message"
    );
    assert_eq!(answer.get_u8(), 1, "a broker was asked");
    let id = usize::from(answer.get_u8()) - 1;
    assert_eq!(id, 22);
    answer.advance(id);
    assert_eq!(answer.get_i32(), 1, "the controller");
    let brokers = (1..answer.get_u8()).map(|_| {
        let id = answer.get_i32();
        let host = usize::from(answer.get_u8()) - 1;
        answer.advance(host + 4);
        assert_eq!(answer.get_u8(), 0, "no rack");
        let is_fenced = answer.get_u8();
        assert_eq!(is_fenced == 1, BrokerId(id) == THIRD);
        answer.advance(1);
        id
    });
    assert_eq!(brokers.collect::<Vec<_>>(), expected);
}

#[rstest]
#[case::controller(2, 114)]
#[case::neither(3, 115)]
fn the_wrong_kind_of_listener_is_told(#[case] endpoint_type: u8, #[case] code: i16) {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let mut asked = flexible(60, 1);
    asked.put_slice(&[0, endpoint_type, 0]);
    let mut answer = only_answer(world.send(connection, asked.freeze()));
    answer.advance(4 + 1 + 4);
    assert_eq!(answer.get_i16(), code);
}

/// DescribeTopicPartitions: topics, a limit, a cursor.
fn describe_topics(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Bytes {
    let mut frame = flexible(75, 0);
    let put = |frame: &mut BytesMut, text: &str| {
        frame.put_u8(u8::try_from(text.len() + 1).unwrap());
        frame.put_slice(text.as_bytes());
    };
    frame.put_u8(u8::try_from(topics.len() + 1).unwrap());
    for topic in topics {
        put(&mut frame, topic);
        frame.put_u8(0);
    }
    frame.put_i32(limit);
    match cursor {
        None => frame.put_i8(-1),
        Some((topic, partition)) => {
            frame.put_i8(1);
            put(&mut frame, topic);
            frame.put_i32(partition);
            frame.put_u8(0);
        }
    }
    frame.put_u8(0);
    frame.freeze()
}

/// Topics with code and partitions, and the next cursor.
type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

fn page(mut answer: Bytes) -> Page {
    fn compact(answer: &mut Bytes) -> String {
        let bytes = usize::from(answer.get_u8()) - 1;
        String::from_utf8(answer.split_to(bytes).to_vec()).unwrap()
    }
    answer.advance(4 + 1 + 4);
    let topics = (1..answer.get_u8()).map(|_| {
        let (code, name) = (answer.get_i16(), compact(&mut answer));
        answer.advance(16 + 1);
        let partitions = (1..answer.get_u8()).map(|_| {
            assert_eq!(answer.get_i16(), 0);
            let index = answer.get_i32();
            answer.advance(4 + 4);
            for _list in ["replicas", "in sync", "eligible", "last known", "offline"] {
                let count = usize::from(answer.get_u8()) - 1;
                answer.advance(4 * count);
            }
            answer.advance(1);
            index
        });
        let partitions = partitions.collect();
        answer.advance(4 + 1);
        (name, code, partitions)
    });
    let topics = topics.collect();
    let cursor = (answer.get_i8() == 1).then(|| {
        let at = (compact(&mut answer), answer.get_i32());
        answer.advance(1);
        at
    });
    answer.advance(1);
    assert!(answer.is_empty());
    (topics, cursor)
}

#[rstest]
#[case::all(&[], 9, None, "more 0 [0], orders 0 [0, 1]", None)]
#[case::named(&["orders", "nope", "a b"], 9, None, "a b 17 [], nope 3 [], orders 0 [0, 1]", None)]
#[case::inside_a_topic(&[], 2, None, "more 0 [0], orders 0 [0]", Some(("orders", 1)))]
#[case::between_topics(&[], 1, None, "more 0 [0]", Some(("orders", 0)))]
#[case::from_the_cursor(&[], 9, Some(("orders", 1)), "orders 0 [1]", None)]
#[case::at_least_one(&[], -5, Some(("orders", 1)), "orders 0 [1]", None)]
#[case::cursor_elsewhere(&["more"], 9, Some(("orders", 1)), "more 42 []", None)]
#[case::cursor_below_0(&["orders"], 9, Some(("orders", -1)), "orders 42 []", None)]
fn topics_are_described_page_by_page(
    #[case] topics: &[&str],
    #[case] limit: i32,
    #[case] cursor: Option<(&str, i32)>,
    #[case] expected: &str,
    #[case] next: Option<(&str, i32)>,
) {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let more = [frames::NewTopic::new("more", 1, 1)];
    only_answer(world.send(connection, frames::create_topics(&more, 0)));
    let asked = describe_topics(topics, limit, cursor);
    let (told, cursor) = page(only_answer(world.send(connection, asked)));
    let told: Vec<String> = told
        .iter()
        .map(|(name, code, partitions)| format!("{name} {code} {partitions:?}"))
        .collect();
    assert_eq!(told.join(", "), expected);
    let cursor = cursor
        .as_ref()
        .map(|(topic, partition)| (topic.as_str(), *partition));
    assert_eq!(cursor, next);
}

#[test]
fn there_are_no_groups() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let asked = header(16, 2, 1).freeze();
    let answer = only_answer(world.send(connection, asked));
    assert_eq!(answer[..], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// A topic, how many partitions it is to have, and the brokers of each new one.
type Growth<'a> = (&'a str, i32, Option<&'a [&'a [i32]]>);

/// CreatePartitions, version 1.
fn create_partitions(topics: &[Growth<'_>], validate_only: u8) -> Bytes {
    let count = |length: usize| i32::try_from(length).unwrap();
    let mut frame = header(37, 1, 1);
    frame.put_i32(count(topics.len()));
    for (topic, partitions, assignments) in topics {
        put_text(&mut frame, topic);
        frame.put_i32(*partitions);
        frame.put_i32(assignments.map_or(-1, |assignments| count(assignments.len())));
        for brokers in assignments.unwrap_or_default() {
            frame.put_i32(count(brokers.len()));
            brokers.iter().for_each(|broker| frame.put_i32(*broker));
        }
    }
    frame.put_i32(1_000);
    frame.put_u8(validate_only);
    frame.freeze()
}

fn grown(world: &mut World, asked: Bytes) -> Vec<(i16, Option<String>)> {
    let connection = world.connect(LEADER);
    let mut answer = only_answer(world.send(connection, asked));
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    let rows = (0..answer.get_i32()).map(|_| {
        let _name = text(&mut answer);
        let code = answer.get_i16();
        let message = answer.starts_with(&[0xff, 0xff]);
        let message = if message {
            answer.advance(2);
            None
        } else {
            Some(text(&mut answer))
        };
        (code, message)
    });
    rows.collect()
}

fn partitions(world: &World) -> usize {
    let topic = world.engine.cluster().topology().topic_by_name("orders");
    topic.unwrap().partitions.len()
}

#[test]
fn a_topic_grows_and_keeps_what_it_has() {
    let mut world = World::new();
    only_answer(world.append(-1, Batch::plain(3)));
    let asked = create_partitions(&[("orders", 4, None)], 1);
    assert_eq!(grown(&mut world, asked), [(0, None)]);
    assert_eq!(partitions(&world), 2, "it was only checked");
    let asked = create_partitions(&[("orders", 4, None)], 0);
    assert_eq!(grown(&mut world, asked), [(0, None)]);
    assert_eq!(partitions(&world), 4);
    assert_eq!(world.log_end(0), 3);
    let connection = world.connect(THIRD);
    let batch = Some(Batch::plain(1).encode());
    let rows = world.send(connection, frames::produce(-1, 0, "orders", &[(2, batch)]));
    assert_eq!(frames::produce_rows(only_answer(rows))[0].code, 0);
}

#[rstest]
#[case::unknown("nope", 4, None, 3, None)]
#[case::as_many("orders", 2, None, 37, Some("Topic already has 2 partition(s)."))]
#[case::fewer(
    "orders",
    1,
    None,
    37,
    Some("The topic orders currently has 2 partition(s); 1 would not be an increase.")
)]
#[case::too_many(
    "orders",
    10_003,
    None,
    44,
    Some("Excessively large number of partitions per request.")
)]
#[case::assigned("orders", 3, Some(&[&[3, 1, 2][..]][..]), 0, None)]
#[case::assignments_missing("orders", 4, Some(&[&[3, 1, 2][..]][..]), 39, Some(
    "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."
))]
#[case::unregistered("orders", 3, Some(&[&[3, 1, 9][..]][..]), 39, Some(
    "The manual partition assignment includes broker 9, but no such broker is registered."
))]
#[case::twice("orders", 3, Some(&[&[3, 1, 1][..]][..]), 39, Some(
    "The manual partition assignment includes the broker 1 more than once."
))]
fn a_topic_grows_or_is_refused_as_by_kafka(
    #[case] topic: &str,
    #[case] count: i32,
    #[case] assignments: Option<&[&[i32]]>,
    #[case] code: i16,
    #[case] message: Option<&str>,
) {
    let mut world = World::new();
    let asked = create_partitions(&[(topic, count, assignments)], 0);
    let expected = (code, message.map(str::to_owned));
    assert_eq!(grown(&mut world, asked), [expected]);
    assert_eq!(partitions(&world), if code == 0 { 3 } else { 2 });
}

#[test]
fn a_topic_named_twice_is_refused_once() {
    let mut world = World::new();
    let twice = [("orders", 3, None), ("orders", 4, None)];
    let refused = (42, Some("Duplicate topic name.".to_owned()));
    assert_eq!(grown(&mut world, create_partitions(&twice, 0)), [refused]);
    assert_eq!(partitions(&world), 2);
}
