//! AlterClientQuotas and DescribeClientQuotas as admin clients see them.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use frames::{header, put_text};
use rstest::rstest;
use world::{LEADER, World, only_answer};

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

/// An entity, and its values by key.
type Entry<'a> = (Parts<'a>, &'a [(&'a str, Option<f64>)]);

fn put_nullable(frame: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(frame, text),
        None => frame.put_i16(-1),
    }
}

fn put_count(frame: &mut BytesMut, count: usize) {
    frame.put_i32(i32::try_from(count).unwrap());
}

/// AlterClientQuotas, version 0; no value removes one.
fn alter(entries: &[Entry<'_>], validate_only: u8) -> Bytes {
    let mut frame = header(49, 0, 1);
    put_count(&mut frame, entries.len());
    for (parts, values) in entries {
        put_count(&mut frame, parts.len());
        for (kind, name) in *parts {
            put_text(&mut frame, kind);
            put_nullable(&mut frame, *name);
        }
        put_count(&mut frame, values.len());
        for (key, value) in *values {
            put_text(&mut frame, key);
            frame.put_f64(value.unwrap_or(0.0));
            frame.put_u8(value.is_none().into());
        }
    }
    frame.put_u8(validate_only);
    frame.freeze()
}

fn text(answer: &mut Bytes) -> Option<String> {
    let bytes = usize::try_from(answer.get_i16()).ok()?;
    Some(String::from_utf8(answer.split_to(bytes).to_vec()).unwrap())
}

/// Parts as `kind=name`.
fn parts(answer: &mut Bytes) -> String {
    let parts = (0..answer.get_i32()).map(|_| {
        let (kind, name) = (text(answer).unwrap(), text(answer));
        format!("{kind}={}", name.as_deref().unwrap_or("null"))
    });
    parts.collect::<Vec<_>>().join(",")
}

/// Code, message and entity of each row.
fn altered(mut answer: Bytes) -> Vec<(i16, Option<String>, String)> {
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    let rows = (0..answer.get_i32()).map(|_| {
        let (code, message) = (answer.get_i16(), text(&mut answer));
        (code, message, parts(&mut answer))
    });
    let rows = rows.collect();
    assert!(answer.is_empty());
    rows
}

fn set(world: &mut World, entries: &[Entry<'_>]) -> Vec<(i16, String)> {
    let connection = world.connect(LEADER);
    let rows = altered(only_answer(world.send(connection, alter(entries, 0))));
    let rows = rows.into_iter();
    rows.map(|(code, message, _)| (code, message.unwrap_or_default()))
        .collect()
}

/// Code, message, and each entity with its values.
type Described = (i16, String, Option<Vec<(String, Vec<(String, f64)>)>>);

/// DescribeClientQuotas, version 0: kind, how to match, name.
fn describe(world: &mut World, components: &[(&str, i8, Option<&str>)], strict: u8) -> Described {
    let mut frame = header(48, 0, 1);
    put_count(&mut frame, components.len());
    for (kind, matching, name) in components {
        put_text(&mut frame, kind);
        frame.put_i8(*matching);
        put_nullable(&mut frame, *name);
    }
    frame.put_u8(strict);
    let connection = world.connect(LEADER);
    let mut answer = only_answer(world.send(connection, frame.freeze()));
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    let (code, message) = (answer.get_i16(), text(&mut answer).unwrap());
    let count = answer.get_i32();
    if count == -1 {
        return (code, message, None);
    }
    let entries = (0..count).map(|_| {
        let entity = parts(&mut answer);
        let values = 0..answer.get_i32();
        let values = values
            .map(|_| (text(&mut answer).unwrap(), answer.get_f64()))
            .collect();
        (entity, values)
    });
    let entries = entries.collect();
    (code, message, Some(entries))
}

fn entities(described: &Described) -> Vec<&str> {
    let entries = described.2.iter().flatten();
    entries.map(|(entity, _)| entity.as_str()).collect()
}

/// Observed on 4.3.1.
#[test]
fn alterations_are_answered_in_kafkas_words() {
    let mut world = World::configured(&[]);
    let key = "producer_byte_rate";
    let rows = set(
        &mut world,
        &[
            (&[("client-id", Some("z"))], &[(key, Some(5.0))]),
            (
                &[("client-id", Some("w"))],
                &[("nope", Some(5.0)), (key, Some(1.0))],
            ),
            (&[("nonsense", Some("a"))], &[(key, Some(5.0))]),
            (&[], &[(key, Some(5.0))]),
            (
                &[("client-id", Some("y"))],
                &[(key, Some(5.0)), (key, Some(6.0))],
            ),
            (&[("client-id", Some("v"))], &[("nope", None)]),
        ],
    );
    let duplicate = "Ignoring duplicate entity ClientQuotaEntity(entries={client-id=y})";
    let expected = [
        (0, ""),
        (42, "Invalid configuration key nope"),
        (42, "Unhandled client quota entity type: nonsense"),
        (42, "Invalid empty client quota entity"),
        (42, duplicate),
        (0, ""),
    ];
    assert_eq!(
        rows,
        expected.map(|(code, message)| (code, message.to_owned()))
    );
    let described = describe(&mut world, &[], 0);
    assert_eq!(
        entities(&described),
        ["client-id=z"],
        "bad entities are left as they were"
    );
}

/// Observed on 4.3.1: the first is set, and the row says that it was ignored.
#[test]
fn entity_named_twice_has_one_row() {
    let mut world = World::configured(&[]);
    let entity: Parts<'_> = &[("client-id", Some("y"))];
    let rows = set(
        &mut world,
        &[
            (entity, &[("producer_byte_rate", Some(5.0))]),
            (entity, &[("consumer_byte_rate", Some(5.0))]),
        ],
    );
    let message = "Ignoring duplicate entity ClientQuotaEntity(entries={client-id=y})";
    assert_eq!(rows, [(42, message.to_owned())]);
    let (_, _, entries) = describe(&mut world, &[], 0);
    let values = vec![("producer_byte_rate".to_owned(), 5.0)];
    assert_eq!(entries, Some(vec![("client-id=y".to_owned(), values)]));
}

#[test]
fn validation_alone_sets_nothing() {
    let mut world = World::configured(&[]);
    let entity: Parts<'_> = &[("user", Some("u")), ("client-id", Some("v"))];
    let connection = world.connect(LEADER);
    let frame = alter(&[(entity, &[("producer_byte_rate", Some(5.0))])], 1);
    let rows = altered(only_answer(world.send(connection, frame)));
    assert_eq!(rows, [(0, None, "client-id=v,user=u".to_owned())]);
    assert_eq!(describe(&mut world, &[], 0).2, Some(vec![]));
}

/// Observed on 4.3.1, but for the order of entities.
#[test]
fn filter_lets_through_what_matches() {
    let mut world = World::configured(&[]);
    let value: &[(&str, Option<f64>)] = &[("producer_byte_rate", Some(7.0))];
    let all: [Parts<'_>; 5] = [
        &[("user", Some("u")), ("client-id", Some("v"))],
        &[("user", None), ("client-id", None)],
        &[("user", None)],
        &[("client-id", None)],
        &[("client-id", Some("x"))],
    ];
    set(&mut world, &all.map(|entity| (entity, value)));
    let ip: &[(&str, Option<f64>)] = &[("connection_creation_rate", Some(50.0))];
    set(&mut world, &[(&[("ip", None)], ip)]);
    let pairs = ["client-id=null,user=null", "client-id=v,user=u"];
    let mut found = |components: &[(&str, i8, Option<&str>)], strict| {
        let described = describe(&mut world, components, strict);
        let mut entities: Vec<_> = entities(&described)
            .iter()
            .map(|e| (*e).to_owned())
            .collect();
        entities.sort();
        entities
    };
    assert_eq!(found(&[], 0).len(), 6);
    assert_eq!(found(&[], 1), [""; 0]);
    assert_eq!(found(&[("client-id", 0, Some("x"))], 0), ["client-id=x"]);
    assert_eq!(
        found(&[("client-id", 1, None)], 0),
        ["client-id=null", pairs[0]]
    );
    assert_eq!(
        found(&[("client-id", 2, None)], 1),
        ["client-id=null", "client-id=x"]
    );
    assert_eq!(
        found(&[("user", 2, None), ("client-id", 2, None)], 1),
        pairs
    );
    assert_eq!(found(&[("user", 0, Some("u"))], 0), [pairs[1]]);
    assert_eq!(found(&[("user", 0, Some("u"))], 1), [""; 0]);
    assert_eq!(found(&[("ip", 2, None)], 0), ["ip=null"]);
}

/// Observed on 4.3.1.
#[rstest]
#[case(&[("", 0, Some("u"))], 42, "Invalid empty entity type.")]
#[case(&[("nope", 0, Some("u"))], 35, "Unsupported entity type nope")]
#[case(
    &[("user", 0, None)],
    42,
    "Request specified MATCH_TYPE_EXACT, but set match string to null."
)]
#[case(
    &[("user", 1, Some("u"))],
    42,
    "Request specified MATCH_TYPE_DEFAULT, but also specified a match string."
)]
#[case(
    &[("user", 2, Some("u"))],
    42,
    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string."
)]
#[case(&[("user", 3, None)], 42, "Unknown match type 3")]
#[case(
    &[("user", 0, Some("u")), ("user", 1, None)],
    42,
    "Entity type user cannot appear more than once in the filter."
)]
#[case(
    &[("user", 2, None), ("ip", 2, None)],
    42,
    "Invalid entity filter component combination. IP filter component should not be used with user \
     or clientId filter component."
)]
fn bad_filter_is_refused_in_kafkas_words(
    #[case] components: &[(&str, i8, Option<&str>)],
    #[case] code: i16,
    #[case] message: &str,
) {
    let mut world = World::configured(&[]);
    let described = describe(&mut world, components, 0);
    assert_eq!(described, (code, message.to_owned(), None));
}
