//! How keys and values become bytes, for a [`TypedTopic`](crate::TypedTopic).
//!
//! [`Plain`] writes what Kafka's own serializers write, so that any client's deserializers read it:
//!
//! | Rust | Bytes | Kafka's serializer |
//! |---|---|---|
//! | `[u8]`, `Vec<u8>`, `[u8; N]`, `Bytes` | as they are | `ByteArray`, `Bytes` |
//! | `str`, `String` | UTF-8 | `String` |
//! | `i16`, `i32`, `i64` | big endian, two's complement | `Short`, `Integer`, `Long` |
//! | `f32`, `f64` | big endian, IEEE 754 | `Float`, `Double` |
//! | `bool` | one byte, 0 or 1 | `Boolean` |
//! | `Uuid` | text of 36 characters | `UUID` |
//! | `()` | null | `Void` |
//! | `Option<T>` | null, or as `T` | |
//! | `&T` | as `T` | |
//!
//! [`ConstantList`] and [`VariableList`] write lists as Kafka's `ListSerializer` does.
//!
//! Anything else takes a [`Serializer`] of your own: a type, or a function with [`from_fn`].
//!
//! ```
//! use kafka_producer::serializer::{BoxError, Serializer, Target};
//!
//! struct Celsius(f64);
//!
//! /// Temperatures as text with one decimal.
//! struct OneDecimal;
//!
//! impl Serializer<Celsius> for OneDecimal {
//!     fn serialize<'a>(
//!         &self,
//!         data: &'a Celsius,
//!         _target: Target<'_>,
//!         buffer: &'a mut Vec<u8>,
//!     ) -> Result<Option<&'a [u8]>, BoxError> {
//!         use std::io::Write;
//!         write!(buffer, "{:.1}", data.0)?;
//!         Ok(Some(buffer))
//!     }
//! }
//! # let mut buffer = Vec::new();
//! # let target = Target::value_of("temperatures");
//! # let bytes = OneDecimal.serialize(&Celsius(21.54), target, &mut buffer);
//! # assert_eq!(bytes.expect("written"), Some(&b"21.5"[..]));
//! ```
//!
//! *Invariants*
//! 1. A serializer that lends bytes copies nothing; one that writes allocates nothing once its
//!    buffer has grown to the size of its records.
//!
//! *Source*: Kafka's `org.apache.kafka.common.serialization`.
//!
//! *Not here*: who calls them (`typed_topic.rs`), where buffers come from (`scratch.rs`).

mod list;

use std::marker::PhantomData;

use bytes::Bytes;
use uuid::Uuid;

pub use list::{ConstantList, ConstantSize, VariableList};

/// Any error, as a serializer gives it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns data into the bytes of a record's key or value.
///
/// One serializer may serve many types. It is shared by all tasks that send.
pub trait Serializer<T: ?Sized>: Send + Sync {
    /// The bytes of `data`; `None` for null.
    ///
    /// They are lent by `data` if it holds them, or written into `buffer`, which comes empty and
    /// keeps its room from record to record.
    ///
    /// # Errors
    ///
    /// Whatever keeps the data from being written; the record is refused with it as
    /// [`source`](std::error::Error::source).
    fn serialize<'a>(
        &self,
        data: &'a T,
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError>;
}

/// What is being serialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target<'a> {
    /// The topic that the record goes to.
    pub topic: &'a str,
    /// Which part of the record.
    pub part: Part,
}

/// A part of a record that is serialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl<'a> Target<'a> {
    /// The key of a record for this topic.
    #[must_use]
    pub const fn key_of(topic: &'a str) -> Self {
        let part = Part::Key;
        Self { topic, part }
    }

    /// The value of a record for this topic.
    #[must_use]
    pub const fn value_of(topic: &'a str) -> Self {
        let part = Part::Value;
        Self { topic, part }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

/// What Kafka's own serializers write; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

/// A serializer made of a function that writes into the buffer.
///
/// ```
/// use kafka_producer::serializer::{self, Serializer};
///
/// let hex = serializer::from_fn(|number: &u32, buffer: &mut Vec<u8>| {
///     buffer.extend_from_slice(format!("{number:x}").as_bytes());
///     Ok::<_, std::convert::Infallible>(())
/// });
/// # let target = kafka_producer::serializer::Target::value_of("numbers");
/// # let mut buffer = Vec::new();
/// # assert_eq!(hex.serialize(&255, target, &mut buffer).expect("written"), Some(&b"ff"[..]));
/// ```
pub fn from_fn<T, E, F>(write: F) -> FromFn<T, F>
where
    T: ?Sized,
    F: Fn(&T, &mut Vec<u8>) -> Result<(), E> + Send + Sync,
    E: Into<BoxError>,
{
    FromFn {
        write,
        of: PhantomData,
    }
}

/// The serializer of [`from_fn`].
pub struct FromFn<T: ?Sized, F> {
    write: F,
    of: PhantomData<fn(&T)>,
}

impl<T: ?Sized, F> std::fmt::Debug for FromFn<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

impl<T, E, F> Serializer<T> for FromFn<T, F>
where
    T: ?Sized,
    F: Fn(&T, &mut Vec<u8>) -> Result<(), E> + Send + Sync,
    E: Into<BoxError>,
{
    fn serialize<'a>(
        &self,
        data: &'a T,
        _target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        (self.write)(data, buffer).map_err(Into::into)?;
        Ok(Some(buffer))
    }
}

/// Types whose bytes are lent.
macro_rules! lent {
    ($([$($generics:tt)*] $type:ty: $bytes:expr;)*) => { $(
        impl<$($generics)*> Serializer<$type> for Plain {
            fn serialize<'a>(
                &self,
                data: &'a $type,
                _target: Target<'_>,
                _buffer: &'a mut Vec<u8>,
            ) -> Result<Option<&'a [u8]>, BoxError> {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                Ok(Some(bytes(data)))
            }
        }
    )* };
}

lent! {
    [] [u8]: |data| data;
    [] Vec<u8>: |data| data;
    [const N: usize] [u8; N]: |data| data;
    [] Bytes: |data| data;
    [] str: str::as_bytes;
    [] String: |data| data.as_bytes();
}

/// Types whose bytes are an array.
macro_rules! written {
    ($($type:ty: $bytes:expr;)*) => { $(
        impl Serializer<$type> for Plain {
            fn serialize<'a>(
                &self,
                data: &'a $type,
                _target: Target<'_>,
                buffer: &'a mut Vec<u8>,
            ) -> Result<Option<&'a [u8]>, BoxError> {
                let bytes: fn($type) -> [u8; _] = $bytes;
                buffer.extend_from_slice(&bytes(*data));
                Ok(Some(buffer))
            }
        }
    )* };
}

written! {
    i16: i16::to_be_bytes;
    i32: i32::to_be_bytes;
    i64: i64::to_be_bytes;
    f32: f32::to_be_bytes;
    f64: double;
    bool: |data| [u8::from(data)];
    Uuid: uuid_text;
}

/// Java's `doubleToLongBits`: there is one NaN. (`FloatSerializer` keeps the bits of each.)
fn double(data: f64) -> [u8; 8] {
    const NAN: u64 = 0x7ff8_0000_0000_0000;
    let bits = if data.is_nan() { NAN } else { data.to_bits() };
    bits.to_be_bytes()
}

fn uuid_text(uuid: Uuid) -> [u8; 36] {
    let mut text = [0; 36];
    uuid.hyphenated().encode_lower(&mut text);
    text
}

impl Serializer<()> for Plain {
    fn serialize<'a>(
        &self,
        (): &'a (),
        _target: Target<'_>,
        _buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        Ok(None)
    }
}

impl<T: ?Sized> Serializer<&T> for Plain
where
    Self: Serializer<T>,
{
    fn serialize<'a>(
        &self,
        data: &'a &T,
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        Serializer::<T>::serialize(self, data, target, buffer)
    }
}

impl<T> Serializer<Option<T>> for Plain
where
    Self: Serializer<T>,
{
    fn serialize<'a>(
        &self,
        data: &'a Option<T>,
        target: Target<'_>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, BoxError> {
        match data {
            Some(data) => self.serialize(data, target, buffer),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn plain<T: ?Sized>(data: &T) -> Option<Vec<u8>>
    where
        Plain: Serializer<T>,
    {
        let mut buffer = Vec::new();
        let bytes = Plain.serialize(data, Target::value_of("t"), &mut buffer);
        bytes.expect("Plain never fails").map(<[u8]>::to_vec)
    }

    /// What the serializers of Kafka 4.3.1 made of the same data.
    #[rstest]
    #[case::double(plain(&1.5_f64), "3ff8000000000000")]
    #[case::double_negative_zero(plain(&-0.0_f64), "8000000000000000")]
    #[case::double_infinity(plain(&f64::INFINITY), "7ff0000000000000")]
    #[case::double_any_nan(plain(&f64::from_bits(0xfff8_0000_0000_0001)), "7ff8000000000000")]
    #[case::float(plain(&1.5_f32), "3fc00000")]
    #[case::float_nan_as_it_is(plain(&f32::from_bits(0xffc0_0001)), "ffc00001")]
    #[case::integer(plain(&1_i32), "00000001")]
    #[case::integer_negative(plain(&-2_i32), "fffffffe")]
    #[case::integer_largest(plain(&i32::MAX), "7fffffff")]
    #[case::long(plain(&1_i64), "0000000000000001")]
    #[case::long_negative(plain(&-2_i64), "fffffffffffffffe")]
    #[case::short(plain(&-2_i16), "fffe")]
    #[case::boolean_true(plain(&true), "01")]
    #[case::boolean_false(plain(&false), "00")]
    #[case::string(plain("café😀"), "636166c3a9f09f9880")]
    #[case::string_owned(plain(&String::from("café😀")), "636166c3a9f09f9880")]
    #[case::uuid(
        plain(&Uuid::from_u128(0xf81d4fae_7dec_11d0_a765_00a0c91e6bf6)),
        "66383164346661652d376465632d313164302d613736352d303061306339316536626636"
    )]
    fn bytes_are_those_of_kafkas_serializers(
        #[case] bytes: Option<Vec<u8>>,
        #[case] expected: &str,
    ) {
        let bytes = bytes.expect("not null");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn bytes_are_lent_and_not_copied() {
        let data = vec![1_u8, 2, 3];
        let mut buffer = Vec::new();
        let target = Target::key_of("t");
        let lent = Plain.serialize(&data, target, &mut buffer).expect("lent");
        assert!(lent.is_some_and(|lent| std::ptr::eq(lent, &*data)));
        assert_eq!(plain(&[1_u8, 2]), Some(vec![1, 2]));
        assert_eq!(plain(&Bytes::from_static(b"ab")), Some(b"ab".to_vec()));
        assert_eq!(plain(&b"ab"[..]), Some(b"ab".to_vec()));
    }

    #[test]
    fn unit_and_none_are_null_and_empty_is_not() {
        assert_eq!(plain(&()), None);
        assert_eq!(plain(&None::<i32>), None);
        assert_eq!(plain(&Some(1_i16)), Some(vec![0, 1]));
        assert_eq!(plain(""), Some(Vec::new()));
    }
}
