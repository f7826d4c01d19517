//! Where in a text the value of a path stands.
//!
//! The tree that a document is read from has lost its lines. So the text is parsed once more, along
//! the path, and refused at its end: the parser's error carries the place.
//!
//! *Not here*: reading (`document.rs`).

use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::{Part, Step};

/// A place in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The place of a path in a YAML text; its last step comes first.
pub(crate) fn in_yaml(text: &str, path: &[Step], part: Part) -> Option<Place> {
    let walk = Walk { path, part };
    let error = walk.deserialize(serde_yaml::Deserializer::from_str(text));
    of_yaml(&error.err()?)
}

/// Where YAML's parser gave up.
pub(crate) fn of_yaml(error: &serde_yaml::Error) -> Option<Place> {
    let location = error.location()?;
    Some(Place {
        line: location.line(),
        column: location.column(),
    })
}

/// The place of a path in a JSON text; its last step comes first.
pub(crate) fn in_json(text: &[u8], path: &[Step], part: Part) -> Option<Place> {
    let walk = Walk { path, part };
    let error = walk.deserialize(&mut serde_json::Deserializer::from_slice(text));
    of_json(&error.err()?)
}

/// Where JSON's parser gave up: behind what it read last.
pub(crate) fn of_json(error: &serde_json::Error) -> Option<Place> {
    let (line, column) = (error.line(), error.column());
    (line > 0).then_some(Place { line, column })
}

/// Walks down a path and fails at its end.
#[derive(Clone, Copy)]
struct Walk<'p> {
    path: &'p [Step],
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What is not overridden fails by itself, here as everywhere: no such value is expected.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the end of the path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), path)) = self.path.split_last() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            elements.next_element::<IgnoredAny>()?;
        }
        elements.next_element_seed(Walk { path, ..self })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), path)) = self.path.split_last() else {
            return Err(A::Error::custom("here"));
        };
        let refuses = path.is_empty() && self.part == Part::Key;
        while let Some(is_wanted) = entries.next_key_seed(Key { wanted, refuses })? {
            if is_wanted {
                return entries.next_value_seed(Walk { path, ..self });
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Says whether a key is the wanted one, or fails at it.
struct Key<'p> {
    wanted: &'p str,
    refuses: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.refuses {
            return Err(E::custom("here"));
        }
        Ok(key == self.wanted)
    }
}
