//! A rule as it is written in YAML and JSON.
//!
//! What is left out is as in [`Rule::on_any`]: every request, once, from the first, passes.
//!
//! *Not here*: the words of verdicts, APIs and codes (with their types).

use core::fmt;
use core::num::NonZeroU64;
use std::sync::Arc;

use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rule::Rule;
use super::verdict::Verdict;
use crate::api::Api;
use crate::engine::effect::{BrokerId, ConnectionId};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<Api>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<i16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broker: Option<BrokerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    producer_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transactional_id: Option<Arc<str>>,
    #[serde(default = "first", skip_serializing_if = "is_first")]
    nth: NonZeroU64,
    #[serde(default, skip_serializing_if = "Count::is_once")]
    count: Count,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probability: Option<Probability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(default = "pass")]
    then: Verdict,
}

const fn pass() -> Verdict {
    Verdict::Pass
}

const fn first() -> NonZeroU64 {
    NonZeroU64::MIN
}

fn is_first(nth: &NonZeroU64) -> bool {
    *nth == first()
}

impl From<RuleForm> for Rule {
    fn from(form: RuleForm) -> Self {
        let mut rule = Self::on_any().nth(form.nth.get()).then(form.then);
        rule.api = form.on;
        rule.version = form.version;
        rule.broker = form.broker;
        rule.connection = form.connection;
        rule.scope.topic = form.topic;
        rule.scope.partition = form.partition;
        rule.producer_id = form.producer_id;
        rule.transactional_id = form.transactional_id;
        rule.count = form.count.0;
        if let Some(Probability(probability)) = form.probability {
            rule = rule.probability(probability);
        }
        match form.seed {
            Some(seed) => rule.seed(seed),
            None => rule,
        }
    }
}

impl From<Rule> for RuleForm {
    fn from(rule: Rule) -> Self {
        let chance = rule.chance;
        Self {
            on: rule.api,
            version: rule.version,
            broker: rule.broker,
            connection: rule.connection,
            topic: rule.scope.topic,
            partition: rule.scope.partition,
            producer_id: rule.producer_id,
            transactional_id: rule.transactional_id,
            nth: NonZeroU64::new(rule.nth).unwrap_or(NonZeroU64::MIN),
            count: Count(rule.count),
            probability: chance.map(|chance| Probability(chance.probability)),
            seed: chance.and_then(|chance| chance.seed),
            then: rule.verdict,
        }
    }
}

/// How often a rule acts: a number, or `always`.
struct Count(Option<u64>);

impl Default for Count {
    fn default() -> Self {
        Self(Some(1))
    }
}

impl Count {
    fn is_once(&self) -> bool {
        self.0 == Some(1)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(count) => serializer.serialize_u64(count),
            None => serializer.serialize_str(ALWAYS),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountForm)
    }
}

struct CountForm;

impl de::Visitor<'_> for CountForm {
    type Value = Count;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a whole number from 0 on, or {ALWAYS}")
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Count, E> {
        Ok(Count(Some(count)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
        if text == ALWAYS {
            Ok(Count(None))
        } else {
            Err(E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

const ALWAYS: &str = "always";

/// A number from 0 to 1.
#[derive(Clone, Copy, Serialize)]
struct Probability(f64);

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let probability = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&probability) {
            Ok(Self(probability))
        } else {
            let found = Unexpected::Float(probability);
            Err(de::Error::invalid_value(found, &"a number from 0 to 1"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::drawn;
    use proptest::prelude::*;
    use rstest::rstest;

    proptest! {
        #[test]
        fn every_rule_is_read_as_it_is_written(rule in drawn::rule()) {
            let text = serde_json::to_string(&rule).unwrap();
            let read: Rule = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, rule, "{}", text);
        }
    }

    #[rstest]
    #[case("{}", Rule::on_any())]
    #[case(r#"{"on": "Produce"}"#, Rule::on(Api::Produce))]
    #[case(r#"{"count": "always"}"#, Rule::on_any().always())]
    #[case(r#"{"then": "swallow"}"#, Rule::on_any().then(Verdict::Swallow))]
    #[case(
        r#"{"probability": 0.23716465106769838}"#,
        Rule::on_any().probability(0.237_164_651_067_698_38)
    )]
    fn what_is_left_out_is_as_in_rust(#[case] text: &str, #[case] rule: Rule) {
        assert_eq!(serde_json::from_str::<Rule>(text).unwrap(), rule);
    }

    #[rstest]
    #[case(r#"{"nth": 0}"#)]
    #[case(r#"{"count": "often"}"#)]
    #[case(r#"{"probability": 1.5}"#)]
    #[case(r#"{"then": {"delay": 200}}"#)]
    #[case(r#"{"after": "pass"}"#)]
    fn what_cannot_be_is_refused(#[case] text: &str) {
        assert!(serde_json::from_str::<Rule>(text).is_err());
    }
}
