//! The bytes that stand before a message whose schema a registry holds.
//!
//! *Layout*
//! ```text
//!   0   schema id (4 bytes, big endian)   [Protobuf: message indexes]   message
//! ```
//! Message indexes say which message of a Protobuf schema it is: for each level of nesting the
//! place among its siblings. They are zigzag varints behind their count; the first message of a
//! schema, whose indexes are `[0]`, is a single 0.
//!
//! *Source*: the wire format of Confluent's schema registry.

use crate::schema_registry::SchemaId;
use crate::scratch::Scratch;
use crate::serializer::{BoxError, Serializer, Target};

/// Puts a schema's id before what another serializer writes. Null stays null.
///
/// ```
/// use kafka_producer::schema_registry::{Framed, SchemaId};
/// use kafka_producer::serializer::{Plain, Serializer, Target};
///
/// let framed = Framed::new(SchemaId(258), Plain);
/// let mut buffer = Vec::new();
/// let bytes = framed.serialize("{}", Target::value_of("orders"), &mut buffer).expect("written");
/// assert_eq!(bytes, Some(&b"\0\0\0\x01\x02{}"[..]));
/// ```
#[derive(Clone, Debug)]
pub struct Framed<S> {
    prefix: Vec<u8>,
    inner: S,
}

impl<S> Framed<S> {
    /// For Avro, JSON Schema, and whatever has nothing between the id and the message.
    pub fn new(id: SchemaId, inner: S) -> Self {
        let mut prefix = vec![MAGIC];
        prefix.extend(id.0.to_be_bytes());
        Self { prefix, inner }
    }

    /// For Protobuf: `indexes` are the message's places, from the outermost level on; `[0]` is the
    /// first message of the schema.
    pub fn protobuf(id: SchemaId, indexes: &[u32], inner: S) -> Self {
        let mut framed = Self::new(id, inner);
        if *indexes == [0] {
            framed.prefix.push(0);
        } else {
            let count = u64::try_from(indexes.len()).unwrap_or(u64::MAX);
            varint(&mut framed.prefix, count << 1);
            for index in indexes {
                varint(&mut framed.prefix, u64::from(*index) << 1);
            }
        }
        framed
    }
}

impl<T: ?Sized, S: Serializer<T>> Serializer<T> for Framed<S> {
    fn serialize<'a>(
        &self,
        data: &'a T,
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        let mut scratch = Scratch::take();
        let Some(message) = self.inner.serialize(data, target, scratch.buffer())? else {
            return Ok(None);
        };
        buffer.extend_from_slice(&self.prefix);
        buffer.extend_from_slice(message);
        Ok(Some(buffer))
    }
}

/// A number that is not negative, doubled as zigzag has it, seven bits at a time.
fn varint(bytes: &mut Vec<u8>, mut zigzag: u64) {
    while zigzag >= 0x80 {
        let [low, ..] = zigzag.to_le_bytes();
        bytes.push(low | 0x80);
        zigzag >>= 7;
    }
    let [low, ..] = zigzag.to_le_bytes();
    bytes.push(low);
}

const MAGIC: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::Plain;
    use rstest::rstest;

    #[rstest]
    #[case::first(&[0], &[0])]
    #[case::second(&[1], &[2, 2])]
    #[case::nested(&[1, 0], &[4, 2, 0])]
    #[case::far(&[64], &[2, 0x80, 1])]
    fn message_indexes_are_zigzag_varints_behind_their_count(
        #[case] indexes: &[u32],
        #[case] expected: &[u8],
    ) {
        let framed = Framed::protobuf(SchemaId(7), indexes, Plain);
        let mut buffer = Vec::new();
        let bytes = framed.serialize("m", Target::value_of("t"), &mut buffer);
        let bytes = bytes.expect("written").expect("not null");
        assert_eq!(bytes, [&[0, 0, 0, 0, 7], expected, b"m"].concat());
    }

    #[test]
    fn null_stays_null() {
        let framed = Framed::new(SchemaId(7), Plain);
        let mut buffer = Vec::new();
        let bytes = framed.serialize(&None::<i32>, Target::value_of("t"), &mut buffer);
        assert_eq!(bytes.expect("written"), None);
    }
}
