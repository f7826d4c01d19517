//! What is wrong with a value of a configuration, in Kafka's words.
//!
//! *Source* apache/kafka `clients/…/common/config/ConfigDef.java`; observed on 4.3.1.

use super::describe_configs::value_type;
use crate::config::{self, ConfigError};
use crate::wire::admin_reply::ConfigType;

/// Why a topic's key cannot be set, in Kafka's words.
pub(super) fn of_topic(error: &ConfigError) -> String {
    match error.allowed() {
        None => format!("Unknown topic config name: {}", error.key()),
        Some(_) => of_value(error.key(), error.value()),
    }
}

/// Why a value is none of this key, in Kafka's words.
pub(super) fn of_value(key: &str, value: &str) -> String {
    let topic_key = config::topic_key(key).unwrap_or(key);
    let because = |value: &str, reason: &str| {
        format!("Invalid value {value} for configuration {key}: {reason}")
    };
    let least = format!("Value must be at least {}", least(topic_key));
    let one_of = |choices: &str| format!("String must be one of: {choices}");
    match value_type(topic_key) {
        ConfigType::Int if value.trim().parse::<i32>().is_err() => {
            because(value, "Not a number of type INT")
        }
        ConfigType::Long if value.trim().parse::<i64>().is_err() => {
            because(value, "Not a number of type LONG")
        }
        ConfigType::Int | ConfigType::Long => because(value, &least),
        ConfigType::Boolean => because(value, "Expected value to be either true or false"),
        ConfigType::String if topic_key == "compression.type" => because(
            value,
            &one_of("uncompressed, zstd, lz4, snappy, gzip, producer"),
        ),
        ConfigType::String => because(value, &one_of("CreateTime, LogAppendTime")),
        ConfigType::List => {
            let mut words = config::listed(value).into_iter();
            match words.find(|word| !matches!(*word, "compact" | "delete")) {
                Some("") | None => format!("Configuration '{key}' values must not be empty."),
                Some(word) => because(word, &one_of("compact, delete")),
            }
        }
    }
}

/// The least value of a number.
fn least(key: &str) -> i64 {
    match key {
        "min.insync.replicas" | "producer.id.expiration.ms" => 1,
        "segment.bytes" => 1_048_576,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, TopicConfig};

    #[test]
    fn the_least_value_is_allowed_and_the_one_below_is_not() {
        let numbers = TopicConfig::KEYS
            .iter()
            .filter(|key| matches!(value_type(key), ConfigType::Int | ConfigType::Long));
        for key in numbers {
            let set = |value: i64| TopicConfig::default().set(key, &value.to_string());
            assert_eq!(set(least(key)), Ok(()), "{key}");
            let below = set(least(key) - 1).unwrap_err();
            let expected = format!("Value must be at least {}", least(key));
            assert!(of_topic(&below).ends_with(&expected), "{key}");
        }
        let key = "producer.id.expiration.ms";
        assert!(BrokerConfig::default().set(key, "1").is_ok());
        assert!(BrokerConfig::default().set(key, "0").is_err());
    }
}
