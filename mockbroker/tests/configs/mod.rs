//! DescribeConfigs and IncrementalAlterConfigs by hand: requests, and what answers say.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frames::header;
use crate::world::{LEADER, World, only_answer};

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;

pub(crate) fn put_text(frame: &mut BytesMut, text: &str) {
    frame.put_i16(i16::try_from(text.len()).unwrap());
    frame.put_slice(text.as_bytes());
}

pub(crate) fn text(answer: &mut Bytes) -> String {
    let bytes = usize::try_from(answer.get_i16()).unwrap_or(0);
    String::from_utf8(answer.split_to(bytes).to_vec()).unwrap()
}

/// DescribeConfigs, version 3, with synonyms; no keys is all of them.
pub(crate) fn describe_configs(kind: i8, name: &str, keys: &[&str]) -> Bytes {
    let mut frame = header(32, 3, 1);
    frame.put_i32(1);
    frame.put_i8(kind);
    put_text(&mut frame, name);
    frame.put_i32(i32::try_from(keys.len()).unwrap());
    keys.iter().for_each(|key| put_text(&mut frame, key));
    frame.put_slice(&[1, 0]);
    frame.freeze()
}

/// A key as DescribeConfigs tells it.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) read_only: u8,
    pub(crate) source: i8,
    pub(crate) synonyms: Vec<(String, String, i8)>,
    pub(crate) value_type: i8,
}

/// The code, the message and the keys of the one resource of an answer.
pub(crate) fn described(mut answer: Bytes) -> (i16, String, Vec<Entry>) {
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    assert_eq!(answer.get_i32(), 1, "one resource");
    let (code, message) = (answer.get_i16(), text(&mut answer));
    let _kind = answer.get_i8();
    let _name = text(&mut answer);
    let mut entries = Vec::new();
    for _ in 0..answer.get_i32() {
        let (key, value) = (text(&mut answer), text(&mut answer));
        let (read_only, source) = (answer.get_u8(), answer.get_i8());
        assert_eq!(answer.get_u8(), 0, "nothing is secret");
        let synonyms = (0..answer.get_i32()).map(|_| {
            let (key, value) = (text(&mut answer), text(&mut answer));
            (key, value, answer.get_i8())
        });
        let synonyms = synonyms.collect();
        let value_type = answer.get_i8();
        assert_eq!(answer.get_i16(), -1, "no documentation");
        entries.push(Entry {
            key,
            value,
            read_only,
            source,
            synonyms,
            value_type,
        });
    }
    assert!(answer.is_empty());
    (code, message, entries)
}

pub(crate) fn ask_configs(
    world: &mut World,
    kind: i8,
    name: &str,
    keys: &[&str],
) -> (i16, Vec<Entry>) {
    let connection = world.connect(LEADER);
    let asked = describe_configs(kind, name, keys);
    let (code, _, entries) = described(only_answer(world.send(connection, asked)));
    (code, entries)
}

pub(crate) const SET: i8 = 0;
pub(crate) const DELETE: i8 = 1;
pub(crate) const APPEND: i8 = 2;
pub(crate) const SUBTRACT: i8 = 3;

pub(crate) type Change<'a> = (&'a str, i8, Option<&'a str>);
pub(crate) type Resource<'a> = (i8, &'a str, &'a [Change<'a>]);

/// IncrementalAlterConfigs, version 0.
pub(crate) fn alter(resources: &[Resource<'_>], validate_only: u8) -> Bytes {
    let count = |length: usize| i32::try_from(length).unwrap();
    let mut frame = header(44, 0, 1);
    frame.put_i32(count(resources.len()));
    for (kind, name, changes) in resources {
        frame.put_i8(*kind);
        put_text(&mut frame, name);
        frame.put_i32(count(changes.len()));
        for (key, operation, value) in *changes {
            put_text(&mut frame, key);
            frame.put_i8(*operation);
            match value {
                Some(value) => put_text(&mut frame, value),
                None => frame.put_i16(-1),
            }
        }
    }
    frame.put_u8(validate_only);
    frame.freeze()
}

/// Code and message of each resource.
pub(crate) fn altered(mut answer: Bytes) -> Vec<(i16, Option<String>)> {
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    let rows = (0..answer.get_i32()).map(|_| {
        let code = answer.get_i16();
        let message = if answer.starts_with(&[0xff, 0xff]) {
            answer.advance(2);
            None
        } else {
            Some(text(&mut answer))
        };
        answer.advance(1);
        let _name = text(&mut answer);
        (code, message)
    });
    let rows = rows.collect();
    assert!(answer.is_empty());
    rows
}

/// Asks broker 1.
pub(crate) fn ask(world: &mut World, resources: &[Resource<'_>]) -> Vec<(i16, Option<String>)> {
    let connection = world.connect(LEADER);
    altered(only_answer(world.send(connection, alter(resources, 0))))
}

pub(crate) fn set(world: &mut World, (kind, name): (i8, &str), key: &str, value: &str) {
    let changes = [(key, SET, Some(value))];
    assert_eq!(ask(world, &[(kind, name, &changes)]), [(0, None)]);
}

pub(crate) const ORDERS: (i8, &str) = (TOPIC, "orders");
pub(crate) const ALL_BROKERS: (i8, &str) = (BROKER, "");
pub(crate) const FIRST_BROKER: (i8, &str) = (BROKER, "1");

/// Value and source of a key.
pub(crate) fn told(world: &mut World, (kind, name): (i8, &str), key: &str) -> (String, i8) {
    let (code, mut entries) = ask_configs(world, kind, name, &[key]);
    assert_eq!((code, entries.len()), (0, 1));
    let entry = entries.remove(0);
    (entry.value, entry.source)
}
