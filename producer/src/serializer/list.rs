//! Lists, in the two layouts of Kafka's `ListSerializer`.
//!
//! *Layout*: integers have four bytes, big endian
//! ```text
//!   ConstantList   0   count of nulls, index of each   count of all   each that is not null
//!   VariableList   1                                   count of all   each: size or -1, bytes
//! ```
//!
//! *Source*: Kafka's `ListSerializer`, `ListSerde.SerializationStrategy` (KIP-466).

use uuid::Uuid;

use super::{BoxError, Serializer, Target};

/// Lists of what always takes the same bytes: numbers and UUIDs, and [`Option`]s of them.
///
/// What Kafka's `ListSerializer` writes around its serializers for `Short`, `Integer`, `Long`,
/// `Float`, `Double` and `UUID`. An element for which the inner serializer gives nothing is null.
///
/// ```
/// use kafka_producer::serializer::{ConstantList, Plain, Serializer};
///
/// let data = vec![Some(7_i16), None];
/// # let target = kafka_producer::serializer::Target::value_of("numbers");
/// # let mut buffer = Vec::new();
/// let bytes = ConstantList(Plain).serialize(&data, target, &mut buffer).expect("written");
/// assert_eq!(bytes, Some(&[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7][..]));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ConstantList<S>(
    /// What writes each element.
    pub S,
);

/// Lists of anything else.
///
/// What Kafka's `ListSerializer` writes around any other serializer; its deserializer reads this
/// layout of numbers too.
///
/// ```
/// use kafka_producer::serializer::{Plain, Serializer, VariableList};
///
/// let data = vec!["apples", "pears"];
/// # let target = kafka_producer::serializer::Target::value_of("fruits");
/// # let mut buffer = Vec::new();
/// let list = VariableList(Plain);
/// let bytes = list.serialize(&data, target, &mut buffer).expect("written");
/// assert_eq!(bytes, Some(&b"\x01\0\0\0\x02\0\0\0\x06apples\0\0\0\x05pears"[..]));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct VariableList<S>(
    /// What writes each element.
    pub S,
);

/// What always takes the same bytes.
pub trait ConstantSize: sealed::Sealed {
    /// How many, as Kafka's serializers write it.
    const BYTES: usize;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! constant_size {
    ($($type:ty: $bytes:literal;)*) => { $(
        impl sealed::Sealed for $type {}

        impl ConstantSize for $type {
            const BYTES: usize = $bytes;
        }
    )* };
}

constant_size! {
    i16: 2;
    i32: 4;
    i64: 8;
    f32: 4;
    f64: 8;
    Uuid: 36;
}

impl<T: ConstantSize> sealed::Sealed for Option<T> {}

impl<T: ConstantSize> ConstantSize for Option<T> {
    const BYTES: usize = T::BYTES;
}

impl<T: ConstantSize, S: Serializer<T>> Serializer<[T]> for ConstantList<S> {
    fn serialize<'a>(
        &self,
        data: &'a [T],
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        let mut nulls = Vec::new();
        let mut elements = Vec::with_capacity(data.len() * T::BYTES);
        let mut scratch = Vec::new();
        for (index, element) in data.iter().enumerate() {
            scratch.clear();
            match self.0.serialize(element, target, &mut scratch)? {
                None => nulls.push(index),
                Some(bytes) if bytes.len() == T::BYTES => elements.extend_from_slice(bytes),
                Some(bytes) => {
                    let (found, expected) = (bytes.len(), T::BYTES);
                    let told = format!("element {index} took {found} bytes, not {expected}");
                    return Err(told.into());
                }
            }
        }
        buffer.push(CONSTANT_SIZE);
        buffer.extend(int(nulls.len())?);
        for index in nulls {
            buffer.extend(int(index)?);
        }
        buffer.extend(int(data.len())?);
        buffer.append(&mut elements);
        Ok(Some(buffer))
    }
}

impl<T, S: Serializer<T>> Serializer<[T]> for VariableList<S> {
    fn serialize<'a>(
        &self,
        data: &'a [T],
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        buffer.push(VARIABLE_SIZE);
        buffer.extend(int(data.len())?);
        let mut scratch = Vec::new();
        for element in data {
            scratch.clear();
            match self.0.serialize(element, target, &mut scratch)? {
                None => buffer.extend(NULL),
                Some(bytes) => {
                    buffer.extend(int(bytes.len())?);
                    buffer.extend_from_slice(bytes);
                }
            }
        }
        Ok(Some(buffer))
    }
}

macro_rules! of_vectors {
    ($($list:ident: $bound:path;)*) => { $(
        impl<T, S: Serializer<T>> Serializer<Vec<T>> for $list<S>
        where
            T: $bound,
        {
            fn serialize<'a>(
                &self,
                data: &'a Vec<T>,
                target: Target<'_>,
                buffer: &'a mut Vec<u8>,
            ) -> Result<Option<&'a [u8]>, BoxError> {
                self.serialize(data.as_slice(), target, buffer)
            }
        }
    )* };
}

of_vectors! {
    ConstantList: ConstantSize;
    VariableList: Sized;
}

fn int(count: usize) -> Result<[u8; 4], BoxError> {
    Ok(i32::try_from(count)?.to_be_bytes())
}

const CONSTANT_SIZE: u8 = 0;
const VARIABLE_SIZE: u8 = 1;
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::Plain;

    fn bytes<T: ?Sized>(list: &impl Serializer<T>, data: &T) -> Vec<u8> {
        let mut buffer = Vec::new();
        let written = list.serialize(data, Target::value_of("lists"), &mut buffer);
        written.expect("can be written").expect("not null").to_vec()
    }

    /// As Kafka's `ListSerializer` with an `IntegerSerializer` writes it.
    #[test]
    fn numbers_stand_side_by_side_behind_the_places_of_nulls() {
        let data = [Some(1), None, Some(-1), None];
        assert_eq!(
            bytes::<[Option<i32>]>(&ConstantList(Plain), &data),
            [
                &[0][..],
                &[0, 0, 0, 2],
                &[0, 0, 0, 1],
                &[0, 0, 0, 3],
                &[0, 0, 0, 4],
                &[0, 0, 0, 1],
                &[255, 255, 255, 255],
            ]
            .concat()
        );
    }

    /// As Kafka's `ListSerializer` with a `StringSerializer` writes it.
    #[test]
    fn texts_have_their_sizes_before_them() {
        let data = vec![Some("a"), None, Some("")];
        assert_eq!(
            bytes(&VariableList(Plain), &data),
            b"\x01\0\0\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0"
        );
    }

    #[test]
    fn an_empty_list_is_not_null() {
        assert_eq!(bytes::<[i64]>(&ConstantList(Plain), &[]), [0; 9]);
        assert_eq!(
            bytes::<[String]>(&VariableList(Plain), &[]),
            [1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn lists_hold_lists() {
        let data = vec![vec![7_i16], vec![]];
        let bytes = bytes(&VariableList(ConstantList(Plain)), &data);
        let inner = [&[0; 5][..], &[0, 0, 0, 1, 0, 7]].concat();
        let expected = [
            &[1, 0, 0, 0, 2, 0, 0, 0, 11][..],
            &inner,
            &[0, 0, 0, 9],
            &[0; 9],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn an_element_of_another_size_is_told() {
        let text = crate::serializer::from_fn(|number: &i32, buffer: &mut Vec<u8>| {
            buffer.extend(number.to_string().bytes());
            Ok::<_, std::convert::Infallible>(())
        });
        let mut buffer = Vec::new();
        let data = [1234, 12];
        let error = ConstantList(text)
            .serialize(&data[..], Target::value_of("lists"), &mut buffer)
            .expect_err("two bytes are not four");
        assert_eq!(error.to_string(), "element 1 took 2 bytes, not 4");
    }
}
