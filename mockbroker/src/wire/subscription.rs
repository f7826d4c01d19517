//! What a consumer tells the leader of its group in the protocol type `consumer`: the topics that
//! it wants.
//!
//! *Source* apache/kafka `ConsumerProtocolSubscription.json`; every version begins as version 0
//! does, which is all that a coordinator reads (`ClassicGroup.java` computeSubscribedTopics).

use super::guard::{Cursor, Reason};

const NULL: Reason = "null where there is no null";

/// The topics of a subscription.
///
/// # Errors
///
/// Where the bytes are none.
pub fn topics(bytes: &[u8]) -> Result<Vec<&str>, Reason> {
    let mut cursor = Cursor::new(bytes);
    if cursor.int16()? < 0 {
        return Err("a version below 0");
    }
    let count = usize::try_from(cursor.int32()?).map_err(|_| NULL)?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(cursor.int16()?).map_err(|_| NULL)?;
        let name = core::str::from_utf8(cursor.take(length)?);
        topics.push(name.map_err(|_| "a string is not UTF-8")?);
    }
    match cursor.int32()? {
        -1 => {}
        length => {
            let length = usize::try_from(length).map_err(|_| "a length is below -1")?;
            cursor.take(length)?;
        }
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TWO: &[u8] = &[0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c'];

    #[rstest]
    #[case::no_user_data(&[0xff; 4])]
    #[case::user_data(&[0, 0, 0, 1, 7])]
    #[case::later_fields(&[0, 0, 0, 0, 1, 2, 3])]
    fn topics_come_before_what_later_versions_add(#[case] rest: &[u8]) {
        assert_eq!(topics(&[TWO, rest].concat()).unwrap(), ["a", "bc"]);
    }

    #[rstest]
    #[case::nothing(&[])]
    #[case::one_byte(b"m")]
    #[case::a_version_below_zero(&[0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])]
    #[case::null(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]
    #[case::more_than_there_are(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0])]
    #[case::without_user_data(TWO)]
    #[case::too_little_user_data(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 7])]
    fn other_bytes_are_none(#[case] bytes: &[u8]) {
        assert!(topics(bytes).is_err());
    }
}
