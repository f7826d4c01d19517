//! Values of a document, read into the vocabulary; what is wrong is told with its place.
//!
//! A serde deserializer over the tree that YAML and JSON have in common. Unlike those of the two
//! formats it knows the path of every value, and what was expected there as data. A struct with one
//! field may be written as the value of the field alone: `crash: 2` is `crash: {broker: 2}`.
//!
//! *Not here*: lines and columns (`place.rs`), sentences (`error.rs`).

use core::fmt;
use core::iter::Enumerate;
use core::slice;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_yaml::{Value, mapping};

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the value of a key.
    Key(String),
    /// To an element of a list, counted from 0.
    Index(usize),
}

/// Which part of a document a complaint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key that the last step names.
    Key,
    /// The value.
    Value,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Where; the last step first. `None` while nobody has told.
    pub(crate) path: Option<Vec<Step>>,
    pub(crate) part: Part,
    pub(crate) problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A key that does not exist there.
    UnknownKey {
        found: String,
        known: &'static [&'static str],
    },
    /// A word that is none of those allowed.
    UnknownWord {
        found: String,
        known: &'static [&'static str],
    },
    /// A value of another kind, or out of its range.
    BadValue { found: String, allowed: String },
    /// A key that must be there.
    Missing { key: &'static str },
    /// Anything else, as a sentence.
    Text(String),
}

impl Complaint {
    fn new(problem: Problem) -> Self {
        Self {
            path: None,
            part: Part::Value,
            problem,
        }
    }

    /// What the reader cannot know: a value that contradicts another one.
    pub(crate) fn at(path: Vec<Step>, text: String) -> Self {
        Self {
            path: Some(path.into_iter().rev().collect()),
            ..Self::new(Problem::Text(text))
        }
    }

    fn within(mut self, path: &Path<'_>, part: Part) -> Self {
        if self.path.is_none() {
            self.path = Some(path.steps());
            self.part = part;
        }
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.problem)
    }
}

impl core::error::Error for Complaint {}

impl de::Error for Complaint {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Text(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::BadValue {
            found: found(unexpected),
            allowed: allowed(expected),
        })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let found = variant.to_owned();
        Self::new(Problem::UnknownWord { found, known })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let found = field.to_owned();
        Self::new(Problem::UnknownKey { found, known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Problem::Missing { key })
    }
}

fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a mapping".into(),
        other => other.to_string(),
    }
}

/// serde speaks of Rust's types; people write numbers, words, lists and mappings.
fn allowed(expected: &dyn de::Expected) -> String {
    let expected = expected.to_string();
    let whole = |min: i128, max: u128| format!("a whole number from {min} to {max}");
    match expected.as_str() {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => whole(0, u64::MAX.into()),
        "i16" => whole(i16::MIN.into(), i16::MAX.unsigned_abs().into()),
        "i32" => whole(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
        "i64" => whole(i64::MIN.into(), i64::MAX.unsigned_abs().into()),
        "a nonzero u64" => whole(1, u64::MAX.into()),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        rust if rust.starts_with("struct") || rust.contains("variant") => "a mapping".into(),
        _ => expected,
    }
}

/// Reads a document.
pub(crate) fn read<'de, T: de::Deserialize<'de>>(value: &'de Value) -> Result<T, Complaint> {
    let document = Document {
        value,
        path: &Path::Root,
    };
    T::deserialize(document).map_err(|complaint| complaint.within(&Path::Root, Part::Value))
}

#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// The last first.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut here = self;
        loop {
            match here {
                Self::Root => return steps,
                Self::Key(parent, key) => {
                    steps.push(Step::Key((*key).to_owned()));
                    here = parent;
                }
                Self::Index(parent, index) => {
                    steps.push(Step::Index(*index));
                    here = parent;
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Document<'de, 'p> {
    value: &'de Value,
    path: &'p Path<'p>,
}

impl Document<'_, '_> {
    fn told<T>(&self, read: Result<T, Complaint>) -> Result<T, Complaint> {
        read.map_err(|complaint| complaint.within(self.path, Part::Value))
    }
}

impl<'de> Deserializer<'de> for Document<'de, '_> {
    type Error = Complaint;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        self.told(match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Sequence(elements) => visitor.visit_seq(Elements {
                rest: elements.iter().enumerate(),
                path: self.path,
            }),
            Value::Mapping(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                entry: None,
                path: self.path,
            }),
            Value::Tagged(_) => Err(de::Error::custom("a YAML tag (!…) has no meaning here")),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        self.told(match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        self.told(visitor.visit_newtype_struct(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        match (self.value, fields) {
            (Value::Mapping(_), _) => self.deserialize_any(visitor),
            (_, [field]) => {
                self.told(visitor.visit_map(MapDeserializer::new(core::iter::once((*field, self)))))
            }
            // Not by order: nobody could read it.
            (other, _) => self.told(Err(de::Error::invalid_type(
                unexpected(other),
                &"a mapping",
            ))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        self.told(match self.value {
            Value::String(word) => visitor.visit_enum(Word {
                word,
                holder: None,
                path: self.path,
            }),
            Value::Mapping(entries) if entries.len() == 1 => match entries.iter().next() {
                Some((Value::String(word), value)) => visitor.visit_enum(Word {
                    word,
                    holder: Some(value),
                    path: self.path,
                }),
                _ => Err(de::Error::invalid_type(Unexpected::Map, &ONE_WORD)),
            },
            Value::Mapping(_) => Err(de::Error::invalid_type(
                Unexpected::Other("a mapping with several keys, or none"),
                &ONE_WORD,
            )),
            other => Err(de::Error::invalid_type(unexpected(other), &ONE_WORD)),
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

const ONE_WORD: &str = "a word, or a mapping with one";

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Unexpected::Unsigned(number),
            (None, Some(number)) => Unexpected::Signed(number),
            (None, None) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Sequence(_) => Unexpected::Seq,
        Value::Mapping(_) => Unexpected::Map,
        Value::Tagged(_) => Unexpected::Other("a YAML tag"),
    }
}

impl<'de> IntoDeserializer<'de, Complaint> for Document<'de, '_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The elements of a list.
struct Elements<'de, 'p> {
    rest: Enumerate<slice::Iter<'de, Value>>,
    path: &'p Path<'p>,
}

impl<'de> de::SeqAccess<'de> for Elements<'de, '_> {
    type Error = Complaint;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Complaint> {
        let Some((index, value)) = self.rest.next() else {
            return Ok(None);
        };
        let path = &Path::Index(self.path, index);
        let read = seed.deserialize(Document { value, path });
        read.map(Some)
            .map_err(|complaint| complaint.within(path, Part::Value))
    }
}

/// The entries of a mapping.
struct Entries<'de, 'p> {
    rest: mapping::Iter<'de>,
    entry: Option<(&'de str, &'de Value)>,
    path: &'p Path<'p>,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Complaint;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Complaint> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        let Value::String(key) = key else {
            return Err(de::Error::invalid_type(unexpected(key), &"a word as key"));
        };
        self.entry = Some((key, value));
        let read = seed.deserialize(BorrowedStrDeserializer::new(key));
        read.map(Some)
            .map_err(|complaint: Complaint| complaint.within(&Path::Key(self.path, key), Part::Key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Complaint> {
        let Some((key, value)) = self.entry.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let path = &Path::Key(self.path, key);
        seed.deserialize(Document { value, path })
            .map_err(|complaint| complaint.within(path, Part::Value))
    }
}

/// A word of several that are possible, alone or with what belongs to it.
struct Word<'de, 'p> {
    word: &'de str,
    holder: Option<&'de Value>,
    path: &'p Path<'p>,
}

impl<'de> Word<'de, '_> {
    fn with<T>(
        &self,
        read: impl FnOnce(Document<'de, '_>) -> Result<T, Complaint>,
    ) -> Result<T, Complaint> {
        let path = &Path::Key(self.path, self.word);
        match self.holder {
            Some(value) => {
                read(Document { value, path }).map_err(|fault| fault.within(path, Part::Value))
            }
            None => {
                let allowed = format!("`{}: …`, with its value", self.word);
                let found = format!("`{}` alone", self.word);
                let complaint = Complaint::new(Problem::BadValue { found, allowed });
                Err(complaint.within(self.path, Part::Value))
            }
        }
    }
}

impl<'de> de::EnumAccess<'de> for Word<'de, '_> {
    type Error = Complaint;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Complaint> {
        let named = seed.deserialize(BorrowedStrDeserializer::new(self.word));
        let named = named.map_err(|complaint: Complaint| match self.holder {
            Some(_) => complaint.within(&Path::Key(self.path, self.word), Part::Key),
            None => complaint.within(self.path, Part::Value),
        })?;
        Ok((named, self))
    }
}

impl<'de> de::VariantAccess<'de> for Word<'de, '_> {
    type Error = Complaint;

    fn unit_variant(self) -> Result<(), Complaint> {
        match self.holder {
            None => Ok(()),
            Some(_) => self.with(|document| {
                let allowed = format!("`{}` alone", self.word);
                Err(de::Error::invalid_type(
                    unexpected(document.value),
                    &allowed.as_str(),
                ))
            }),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Complaint> {
        self.with(|document| seed.deserialize(document))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        self.with(|document| document.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        self.with(|document| document.deserialize_struct("", fields, visitor))
    }
}
