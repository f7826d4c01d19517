//! DescribeConfigs by hand: the request, and what an answer says.

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
