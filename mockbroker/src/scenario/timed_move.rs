//! A move with its time, as a scenario writes it: `{at: 200ms, crash: 2}`.
//!
//! The move's word is a key beside `at`; so the move is read from a mapping that is not its own.

use core::fmt;
use core::time::Duration;
use std::sync::LazyLock;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, VariantAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer, forward_to_deserialize_any};

use crate::duration_form;
use crate::engine::Move;

/// A move and when it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimedMove {
    /// Since the start of the cluster; `None` is at once.
    pub(crate) at: Option<Duration>,
    pub(crate) to_make: Move,
}

/// `at`, and every move's word.
pub(super) static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut keys = vec![AT];
    keys.extend(names::<Move>());
    keys
});

const AT: &str = "at";

impl Serialize for TimedMove {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(at) = &self.at {
            map.serialize_entry(AT, &duration_form::text(at))?;
        }
        match serde_json::to_value(&self.to_make) {
            Ok(serde_json::Value::Object(words)) => {
                for (word, value) in words {
                    map.serialize_entry(&word, &value)?;
                }
            }
            Ok(_) => return Err(S::Error::custom("a move without arguments")),
            Err(error) => return Err(S::Error::custom(error)),
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for TimedMove {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TimedMoveForm)
    }
}

struct TimedMoveForm;

impl<'de> Visitor<'de> for TimedMoveForm {
    type Value = TimedMove;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a mapping of a move, such as {at: 200ms, crash: 2}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TimedMove, A::Error> {
        let (mut at, mut to_make) = (None, None);
        while let Some(key) = map.next_key_seed(Key)? {
            if key == AT {
                at = Some(map.next_value_seed(Time)?);
            } else if to_make.is_some() {
                let text = "a second move; each is an element of its own";
                return Err(de::Error::custom(text));
            } else {
                to_make = Some(map.next_value_seed(MoveOf(key))?);
            }
        }
        match to_make {
            Some(to_make) => Ok(TimedMove { at, to_make }),
            None => {
                let moves = KEYS.get(1..).unwrap_or_default().join(" | ");
                Err(de::Error::custom(format!(
                    "no move; allowed is one of: {moves}"
                )))
            }
        }
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = &'static str;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("at, or a move")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<&'static str, E> {
        let known = KEYS.iter().find(|known| **known == key);
        known.copied().ok_or_else(|| E::unknown_field(key, &KEYS))
    }
}

struct Time;

impl<'de> DeserializeSeed<'de> for Time {
    type Value = Duration;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Duration, D::Error> {
        duration_form::deserialize(deserializer)
    }
}

/// Reads the move of this word from the value that belongs to it.
struct MoveOf(&'static str);

impl<'de> DeserializeSeed<'de> for MoveOf {
    type Value = Move;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Move, D::Error> {
        Move::deserialize(Named {
            word: self.0,
            value: deserializer,
        })
    }
}

/// A variant whose word stands elsewhere.
struct Named<D> {
    word: &'static str,
    value: D,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Named<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, D::Error> {
        Err(de::Error::custom("a move is one of several"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for Named<D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), D::Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.word))?, self))
    }
}

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Named<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        <()>::deserialize(self.value)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.value.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.value.deserialize_struct("", fields, visitor)
    }
}

/// The words of an enum or the keys of a struct, as serde knows them.
pub(super) fn names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It fails as soon as it has them.
    let _ = T::deserialize(Names(&mut names));
    names
}

struct Names<'n>(&'n mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("it has no names"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = variants;
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}
