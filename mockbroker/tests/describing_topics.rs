//! What Metadata tells of topics and brokers, and what it makes by the way.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use bytes::{Buf, BufMut, Bytes};
use frames::{Batch, NewTopic, create_topics, header, produce, produce_rows, put_text};
use kafka_mockbroker::engine::Move;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, only_answer};

/// Metadata of these topics, `None` for all, in a version from 0 to 8.
fn ask(version: i16, topics: Option<&[&str]>, create: u8) -> Bytes {
    let mut frame = header(3, version, 1);
    match topics {
        None => frame.put_i32(-1),
        Some(topics) => {
            frame.put_i32(i32::try_from(topics.len()).expect("few topics"));
            topics.iter().for_each(|topic| put_text(&mut frame, topic));
        }
    }
    if version >= 4 {
        frame.put_u8(create);
    }
    if version >= 8 {
        frame.put_slice(&[1, 1]);
    }
    frame.freeze()
}

fn text(answer: &mut Bytes) -> String {
    let bytes = usize::try_from(answer.get_i16()).unwrap_or(0);
    String::from_utf8_lossy(&answer.split_to(bytes)).into_owned()
}

fn list(answer: &mut Bytes) -> Vec<i32> {
    let count = answer.get_i32();
    (0..count).map(|_| answer.get_i32()).collect()
}

/// A partition: code, index, leader, epoch, replicas, in sync, offline.
type Partition = (i16, i32, i32, i32, Vec<i32>, Vec<i32>, Vec<i32>);

#[derive(Debug, PartialEq)]
struct Topic {
    code: i16,
    name: String,
    internal: u8,
    partitions: Vec<Partition>,
    operations: i32,
}

#[derive(Debug, PartialEq)]
struct Told {
    brokers: Vec<i32>,
    controller: i32,
    topics: Vec<Topic>,
    operations: i32,
}

/// An answer of version 0 or 8.
fn told(version: i16, mut answer: Bytes) -> Told {
    let newest = version == 8;
    answer.advance(if newest { 8 } else { 4 });
    let brokers = (0..answer.get_i32()).map(|_| {
        let id = answer.get_i32();
        let _host = text(&mut answer);
        answer.advance(if newest { 4 + 2 } else { 4 });
        id
    });
    let brokers = brokers.collect();
    if newest {
        let _cluster_id = text(&mut answer);
    }
    let controller = if newest { answer.get_i32() } else { 0 };
    let topics = (0..answer.get_i32()).map(|_| {
        let (code, name) = (answer.get_i16(), text(&mut answer));
        let internal = if newest { answer.get_u8() } else { 0 };
        let partitions = (0..answer.get_i32()).map(|_| {
            let (code, index, leader) = (answer.get_i16(), answer.get_i32(), answer.get_i32());
            let epoch = if newest { answer.get_i32() } else { 0 };
            let (replicas, isr) = (list(&mut answer), list(&mut answer));
            let offline = if newest { list(&mut answer) } else { vec![] };
            (code, index, leader, epoch, replicas, isr, offline)
        });
        let partitions = partitions.collect();
        Topic {
            code,
            name,
            internal,
            partitions,
            operations: if newest { answer.get_i32() } else { 0 },
        }
    });
    let topics = topics.collect();
    let operations = if newest { answer.get_i32() } else { 0 };
    assert!(answer.is_empty());
    Told {
        brokers,
        controller,
        topics,
        operations,
    }
}

fn describe(world: &mut World, version: i16, topics: Option<&[&str]>) -> Told {
    let connection = world.connect(LEADER);
    told(
        version,
        only_answer(world.send(connection, ask(version, topics, 1))),
    )
}

/// Name and code of each topic.
fn codes(told: &Told) -> Vec<(&str, i16)> {
    let topics = told.topics.iter();
    topics
        .map(|topic| (topic.name.as_str(), topic.code))
        .collect()
}

fn with_one_replica(name: &'static str) -> World {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let asked = create_topics(&[NewTopic::new(name, 3, 1)], 0);
    only_answer(world.send(connection, asked));
    world
}

#[test]
fn a_partition_whose_replicas_are_all_down_has_no_leader() {
    let mut world = with_one_replica("single");
    world.make(&Move::CrashBroker { broker: THIRD });
    let all = describe(&mut world, 8, Some(&["single"]));
    assert_eq!((all.brokers, all.topics[0].code), (vec![1, 2], 0));
    let led = (0, 1, 2, 0, vec![2], vec![2], vec![]);
    assert_eq!(all.topics[0].partitions[1], led);
    let down = (5, 2, -1, 1, vec![3], vec![], vec![3]);
    assert_eq!(all.topics[0].partitions[2], down);
    let oldest = describe(&mut world, 0, Some(&["single"]));
    let down = (5, 2, -1, 0, vec![], vec![], vec![]);
    assert_eq!(oldest.topics[0].partitions[2], down);
    world.make(&Move::RestartBroker { broker: THIRD });
    let up = describe(&mut world, 8, Some(&["single"]));
    let led = (0, 2, 3, 2, vec![3], vec![3], vec![]);
    assert_eq!(up.topics[0].partitions[2], led);
}

#[test]
fn a_replica_that_is_down_is_offline_and_out_of_sync() {
    let mut world = World::new();
    world.make(&Move::CrashBroker { broker: LEADER });
    let connection = world.connect(SECOND);
    let asked = ask(8, Some(&["orders"]), 1);
    let told = told(8, only_answer(world.send(connection, asked)));
    let moved = (0, 0, 2, 1, vec![1, 2, 3], vec![2, 3], vec![1]);
    assert_eq!(told.topics[0].partitions[0], moved);
    assert_eq!((told.brokers, told.controller), (vec![2, 3], 2));
}

#[test]
fn what_exists_comes_first_then_the_unknown_then_what_cannot_be() {
    let mut world = World::configured(&[]);
    let asked = ["a b", "nope", "orders", "..", "orders", "__x", "nope"];
    let told = describe(&mut world, 8, Some(&asked));
    let expected = [
        ("orders", 0),
        ("nope", 3),
        ("__x", 3),
        ("a b", 17),
        ("..", 17),
    ];
    assert_eq!(codes(&told), expected);
}

#[test]
fn all_topics_are_those_that_exist() {
    let mut world = with_one_replica("__consumer_offsets");
    let everything = [("orders", 0), ("__consumer_offsets", 0)];
    let told = describe(&mut world, 8, None);
    assert_eq!(codes(&told), everything);
    assert_eq!(
        told.topics.iter().map(|t| t.internal).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(
        codes(&describe(&mut world, 0, Some(&[]))),
        everything,
        "as version 0 says it"
    );
    assert_eq!(codes(&describe(&mut world, 8, Some(&[]))), []);
}

#[test]
fn one_may_do_everything_where_nobody_authorises() {
    let mut world = World::new();
    let told = describe(&mut world, 8, Some(&["orders", "a b"]));
    assert_eq!((told.operations, told.topics[0].operations), (8_096, 3_576));
    assert_eq!(
        told.topics[1].operations,
        i32::MIN,
        "of a topic that is there"
    );
}

#[rstest]
#[case::longest(&"x".repeat(249), 3)]
#[case::too_long(&"x".repeat(250), 17)]
#[case::empty("", 17)]
#[case::dot(".", 17)]
#[case::space("a b", 17)]
#[case::slash("a/b", 17)]
#[case::colon("a:b", 17)]
#[case::letters_beyond_ascii("ä", 17)]
#[case::zero("a\0", 17)]
#[case::dots_and_underscores("a.b_c-d", 3)]
fn names_follow_kafkas_rule(#[case] name: &str, #[case] code: i16) {
    for version in [0, 8] {
        let mut world = World::new();
        let answer = describe(&mut world, version, Some(&[name]));
        let told = (name, code);
        assert_eq!(codes(&answer), [told], "it comes back as it was sent");
    }
}

#[rstest]
#[case::allowed("true", 4, 1, true)]
#[case::always_in_old_versions("true", 3, 0, true)]
#[case::not_by_the_request("true", 4, 0, false)]
#[case::not_by_the_brokers("false", 4, 1, false)]
fn a_topic_is_made_if_request_and_brokers_allow_it(
    #[case] enabled: &str,
    #[case] version: i16,
    #[case] allowed: u8,
    #[case] made: bool,
) {
    let settings = [
        ("auto.create.topics.enable", enabled),
        ("num.partitions", "4"),
        ("default.replication.factor", "3"),
    ];
    let mut world = World::of_brokers(&settings, &[]);
    world.make(&Move::CrashBroker { broker: SECOND });
    let connection = world.connect(LEADER);
    let asked = ask(version, Some(&["fresh"]), allowed);
    only_answer(world.send(connection, asked));
    let told = describe(&mut world, 8, None);
    let fresh = told.topics.iter().find(|topic| topic.name == "fresh");
    assert_eq!(fresh.is_some(), made);
    let partitions = fresh.map_or(4, |topic| topic.partitions.len());
    assert_eq!(partitions, 4);
    if let Some(fresh) = fresh {
        let second = (0, 1, 3, 0, vec![2, 3, 1], vec![3, 1], vec![2]);
        assert_eq!(
            fresh.partitions[1], second,
            "brokers that are down are used too"
        );
    }
}

#[test]
fn an_internal_topic_is_told_to_be_one_though_it_is_not_there() {
    let settings = [("auto.create.topics.enable", "false")];
    let mut world = World::of_brokers(&settings, &[]);
    let told = describe(&mut world, 8, Some(&["__transaction_state", "nope"]));
    let internal: Vec<u8> = told.topics.iter().map(|topic| topic.internal).collect();
    assert_eq!(internal, [1, 0]);
    assert_eq!(codes(&told), [("__transaction_state", 3), ("nope", 3)]);
}

#[test]
fn a_name_that_collides_is_unknown_for_ever() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    let asked = create_topics(&[NewTopic::new("a.b", 1, 1)], 0);
    only_answer(world.send(connection, asked));
    for _ in 0..3 {
        assert_eq!(
            codes(&describe(&mut world, 8, Some(&["a_b"]))),
            [("a_b", 3)]
        );
    }
}

/// Metadata, version 12, of topics by id and name.
fn ask_by_id(topics: &[([u8; 16], Option<&str>)]) -> Bytes {
    let mut frame = header(3, 12, 1);
    frame.put_u8(0);
    frame.put_u8(u8::try_from(topics.len() + 1).expect("few topics"));
    for (id, name) in topics {
        frame.put_slice(id);
        match name {
            None => frame.put_u8(0),
            Some(name) => {
                frame.put_u8(u8::try_from(name.len() + 1).expect("a short name"));
                frame.put_slice(name.as_bytes());
            }
        }
        frame.put_u8(0);
    }
    frame.put_slice(&[1, 0, 0]);
    frame.freeze()
}

/// Code, name and id of each topic of an answer of version 12, none of which has more than nine
/// partitions with three replicas.
fn told_by_id(mut answer: Bytes) -> Vec<(i16, Option<String>, [u8; 16])> {
    let compact = |answer: &mut Bytes| {
        let bytes = usize::from(answer.get_u8());
        let bytes = bytes.checked_sub(1)?;
        Some(String::from_utf8_lossy(&answer.split_to(bytes)).into_owned())
    };
    let skip_list = |answer: &mut Bytes| {
        let count = usize::from(answer.get_u8()) - 1;
        answer.advance(4 * count);
    };
    answer.advance(5 + 4);
    for _ in 1..answer.get_u8() {
        answer.advance(4);
        let _host = compact(&mut answer);
        answer.advance(4 + 1 + 1);
    }
    let _cluster_id = compact(&mut answer);
    answer.advance(4);
    let topics = (1..answer.get_u8()).map(|_| {
        let (code, name) = (answer.get_i16(), compact(&mut answer));
        let mut id = [0; 16];
        answer.copy_to_slice(&mut id);
        answer.advance(1);
        for _ in 1..answer.get_u8() {
            answer.advance(2 + 4 + 4 + 4);
            for _list in ["replicas", "in sync", "offline"] {
                skip_list(&mut answer);
            }
            answer.advance(1);
        }
        answer.advance(4 + 1);
        (code, name, id)
    });
    topics.collect()
}

#[test]
fn topics_are_told_by_id_and_then_by_no_name() {
    let mut world = with_one_replica("other");
    let id_of = |world: &World, name: &str| {
        let topic = world.engine.cluster().topology().topic_by_name(name);
        *topic.expect("it is there").id.as_bytes()
    };
    let (orders, other) = (id_of(&world, "orders"), id_of(&world, "other"));
    let nobody = [7; 16];
    let asked = |world: &mut World, topics: &[([u8; 16], Option<&str>)]| {
        let connection = world.connect(LEADER);
        told_by_id(only_answer(world.send(connection, ask_by_id(topics))))
    };
    let known = |name: &str, id| (0, Some(name.to_owned()), id);
    let by_name = asked(&mut world, &[([0; 16], Some("other"))]);
    assert_eq!(by_name, [known("other", other)]);
    let told = asked(
        &mut world,
        &[
            (nobody, None),
            ([0; 16], Some("other")),
            (orders, Some("other")),
            (orders, None),
        ],
    );
    let expected = [known("orders", orders), (100, None, nobody)];
    assert_eq!(told, expected, "the id counts, a name beside ids does not");
    let connection = world.connect(LEADER);
    only_answer(world.send(connection, frames::delete_topics(&["other"])));
    only_answer(world.send(
        connection,
        create_topics(&[NewTopic::new("other", 1, 1)], 0),
    ));
    assert_ne!(id_of(&world, "other"), other);
    assert_eq!(asked(&mut world, &[(other, None)]), [(100, None, other)]);
    let batch = Batch::plain(1).encode();
    let rows = world.send(connection, produce(1, 0, "other", &[(0, Some(batch))]));
    assert_eq!(
        produce_rows(only_answer(rows))[0].base_offset,
        0,
        "it is empty"
    );
}
