//! Configuration by Kafka's keys, as a scenario writes it.
//!
//! Keys and values are checked where they stand, so that a complaint has their place.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{self, DeserializeSeed, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{BrokerConfig, ConfigError, TopicConfig};

/// Whose configuration it is.
pub(super) trait Keys: Default {
    const KEYS: &'static [&'static str];

    fn assign(&mut self, key: &str, value: &str) -> Result<(), ConfigError>;
}

impl Keys for BrokerConfig {
    const KEYS: &'static [&'static str] = Self::KEYS;

    fn assign(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        self.set(key, value)
    }
}

impl Keys for TopicConfig {
    const KEYS: &'static [&'static str] = Self::KEYS;

    fn assign(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        self.set(key, value)
    }
}

/// Keys with their values, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings<K> {
    entries: Vec<(String, String)>,
    of: PhantomData<K>,
}

impl<K> Settings<K> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.entries.iter();
        entries.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<K> Default for Settings<K> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            of: PhantomData,
        }
    }
}

impl<K> Serialize for Settings<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, K: Keys> Deserialize<'de> for Settings<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SettingsForm(PhantomData))
    }
}

struct SettingsForm<K>(PhantomData<K>);

impl<'de, K: Keys> Visitor<'de> for SettingsForm<K> {
    type Value = Settings<K>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a mapping of Kafka's keys to their values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings<K>, A::Error> {
        let mut settings = Settings::default();
        while let Some(key) = map.next_key_seed(Key::<K>(PhantomData))? {
            let value = map.next_value_seed(Value::<K>(key, PhantomData))?;
            settings.entries.push((key.to_owned(), value));
        }
        Ok(settings)
    }
}

struct Key<K>(PhantomData<K>);

impl<'de, K: Keys> DeserializeSeed<'de> for Key<K> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<K: Keys> Visitor<'_> for Key<K> {
    type Value = &'static str;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("one of Kafka's keys")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<&'static str, E> {
        let known = K::KEYS.iter().find(|known| **known == key);
        known.copied().ok_or_else(|| E::unknown_field(key, K::KEYS))
    }
}

/// A value of a key: a word, a number, true or false.
struct Value<K>(&'static str, PhantomData<K>);

impl<'de, K: Keys> DeserializeSeed<'de> for Value<K> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<K: Keys> Value<K> {
    fn checked<E: de::Error>(&self, value: String, found: Unexpected<'_>) -> Result<String, E> {
        match K::default().assign(self.0, &value) {
            Ok(()) => Ok(value),
            Err(error) => Err(match error.allowed() {
                Some(allowed) => E::invalid_value(found, &allowed),
                None => E::custom(error),
            }),
        }
    }
}

impl<K: Keys> Visitor<'_> for Value<K> {
    type Value = String;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a word, a number, true or false")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<String, E> {
        self.checked(value.to_string(), Unexpected::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<String, E> {
        self.checked(value.to_string(), Unexpected::Unsigned(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
        self.checked(value.to_string(), Unexpected::Signed(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
        self.checked(value.to_string(), Unexpected::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        self.checked(value.to_owned(), Unexpected::Str(value))
    }
}
