//! Scenarios: a cluster, its faults and its moves in one YAML file.
//!
//! The words of rules and moves are those of their serialised form, here and where a cluster is
//! controlled over HTTP. What a file says is what the builder's methods say; so the same scenario
//! in Rust and in YAML gives the same run. The format is written down in `SCENARIO.md`.
//!
//! *Not here*: what becomes of it (`builder.rs`).

mod document;
mod error;
mod place;
mod settings;
mod timed_move;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::builder::{BROKERS_MAX, MockClusterBuilder, TopicPlan, endpoints};
use crate::config::{BrokerConfig, TopicConfig};
use crate::engine::effect::BrokerId;
use crate::engine::time::Instant;
use crate::engine::{Cluster, ClusterConfig, MoveError};
use crate::fault::Rule;
use document::{Complaint, Step};
pub use error::ScenarioError;
use settings::Settings;
pub(crate) use timed_move::TimedMove;

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Scenario {
    cluster: ClusterForm,
    faults: Vec<Rule>,
    moves: Vec<TimedMove>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClusterForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    brokers: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertised_host: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_clock_origin_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_bytes_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producers_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    momentary_answers: Option<bool>,
    config: Settings<BrokerConfig>,
    topics: Vec<TopicForm>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicForm {
    name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partitions: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicas: Option<i16>,
    #[serde(default)]
    config: Settings<TopicConfig>,
}

/// Reads a value of the vocabulary from YAML.
pub(crate) fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, ScenarioError> {
    let value = parse(text)?;
    document::read(&value).map_err(|complaint| located(complaint, text))
}

/// Reads a value of the vocabulary from JSON.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, ScenarioError> {
    let value: serde_yaml::Value = serde_json::from_slice(text).map_err(|error| {
        let place = place::of_json(&error);
        let mut message = error.to_string();
        let suffix = format!(" at line {} column {}", error.line(), error.column());
        message = message.replace(&suffix, "");
        ScenarioError::syntax(message, place)
    })?;
    document::read(&value).map_err(|complaint| {
        let path = complaint.path.as_deref().unwrap_or_default();
        let place = place::in_json(text, path, complaint.part);
        ScenarioError::new(complaint, place)
    })
}

fn parse(text: &str) -> Result<serde_yaml::Value, ScenarioError> {
    serde_yaml::from_str(text).map_err(|error| {
        let place = place::of_yaml(&error);
        let mut message = error.to_string();
        if let Some(place) = place {
            // The place is told apart from the sentence.
            let suffix = format!(" at line {} column {}", place.line, place.column);
            message = message.replace(&suffix, "");
        }
        ScenarioError::syntax(message, place)
    })
}

fn located(complaint: Complaint, text: &str) -> ScenarioError {
    let path = complaint.path.as_deref().unwrap_or_default();
    let place = place::in_yaml(text, path, complaint.part);
    ScenarioError::new(complaint, place)
}

impl Scenario {
    /// What one value alone cannot tell: it is tried out on a cluster of its own.
    fn check(&self, brokers: u16) -> Result<(), Complaint> {
        let key = |name: &str| Step::Key(name.to_owned());
        let brokers = self.cluster.brokers.unwrap_or(brokers);
        if !(1..=BROKERS_MAX).contains(&brokers) {
            let text = format!("found `{brokers}`; allowed is 1 to {BROKERS_MAX}");
            return Err(Complaint::at(vec![key("cluster"), key("brokers")], text));
        }
        let whole = |error: &dyn core::fmt::Display| Complaint::at(Vec::new(), error.to_string());
        let mut broker = BrokerConfig::default();
        for (name, value) in self.cluster.config.iter() {
            broker.set(name, value).map_err(|error| whole(&error))?;
        }
        let ports: Vec<u16> = (1..=brokers).collect();
        let config = ClusterConfig {
            brokers: endpoints(&"scenario".into(), &ports),
            topics: Vec::new(),
            broker: broker.clone(),
            cluster_id: None,
            wall_clock_origin_ms: 0,
            seed: 0,
        };
        let mut cluster = Cluster::new(config, Instant::ZERO).map_err(|error| whole(&error))?;
        for (index, topic) in self.cluster.topics.iter().enumerate() {
            let path = vec![key("cluster"), key("topics"), Step::Index(index)];
            let made = cluster.create_topic(topic.plan().spec(&broker));
            made.map_err(|error| Complaint::at(path, error.to_string()))?;
        }
        let nobody = |broker| format!("there is no broker {broker}; allowed is 1 to {brokers}");
        for (index, timed) in self.moves.iter().enumerate() {
            // Whether the rest of it can be made is known when its time comes.
            let made = cluster.make_move(&timed.to_make, Instant::ZERO);
            if made == Err(MoveError::UnknownBroker) {
                let text = format!("a broker of this id does not exist; allowed is 1 to {brokers}");
                return Err(Complaint::at(vec![key("moves"), Step::Index(index)], text));
            }
            if let Err(error @ MoveError::BadQuota) = made {
                let path = vec![key("moves"), Step::Index(index)];
                return Err(Complaint::at(path, error.to_string()));
            }
        }
        for (index, rule) in self.faults.iter().enumerate() {
            if let Some(BrokerId(id)) = rule.broker_id()
                && !(1..=i32::from(brokers)).contains(&id)
            {
                let path = vec![key("faults"), Step::Index(index), key("broker")];
                return Err(Complaint::at(path, nobody(id)));
            }
        }
        Ok(())
    }

    fn tell(self, mut builder: MockClusterBuilder) -> MockClusterBuilder {
        let Self {
            cluster,
            faults,
            moves,
        } = self;
        builder = cluster.tell_bounds(builder);
        if let Some(brokers) = cluster.brokers {
            builder = builder.brokers(brokers);
        }
        if let Some(listen) = cluster.listen {
            builder = builder.listen(listen);
        }
        if let Some(port) = cluster.port {
            builder = builder.port(port);
        }
        if let Some(host) = cluster.advertised_host {
            builder = builder.advertised_host(host);
        }
        if let Some(control) = cluster.control {
            builder = builder.control(control);
        }
        if let Some(seed) = cluster.seed {
            builder = builder.seed(seed);
        }
        if let Some(origin_ms) = cluster.wall_clock_origin_ms {
            builder = builder.wall_clock_origin_ms(origin_ms);
        }
        if let Some(bytes) = cluster.journal_bytes {
            builder = builder.journal_bytes(bytes);
        }
        if cluster.momentary_answers == Some(true) {
            builder = builder.momentary_answers();
        }
        for (key, value) in cluster.config.iter() {
            builder = builder.set(key, value);
        }
        for topic in &cluster.topics {
            builder = builder.planned_topic(topic.plan());
        }
        let builder = faults.into_iter().fold(builder, MockClusterBuilder::fault);
        let at = |builder: MockClusterBuilder, timed: TimedMove| {
            builder.at(timed.at.unwrap_or_default(), timed.to_make)
        };
        moves.into_iter().fold(builder, at)
    }
}

impl ClusterForm {
    fn tell_bounds(&self, mut builder: MockClusterBuilder) -> MockClusterBuilder {
        if let Some(bytes_max) = self.log_bytes_max {
            builder = builder.log_bytes_max(bytes_max);
        }
        if let Some(bytes_max) = self.request_bytes_max {
            builder = builder.request_bytes_max(bytes_max);
        }
        if let Some(connections_max) = self.connections_max {
            builder = builder.connections_max(connections_max);
        }
        if let Some(producers_max) = self.producers_max {
            builder = builder.producers_max(producers_max);
        }
        builder
    }
}

impl TopicForm {
    fn plan(&self) -> TopicPlan {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        TopicPlan {
            name: Arc::clone(&self.name),
            partitions: self.partitions,
            replicas: self.replicas,
            overrides: self.config.iter().map(owned).collect(),
        }
    }
}

impl MockClusterBuilder {
    /// What a scenario in YAML says, as if its cluster, faults and moves were told to the builder
    /// one after the other; `SCENARIO.md` describes the format.
    ///
    /// ```
    /// use kafka_mockbroker::MockCluster;
    ///
    /// let scenario = "
    /// cluster:
    ///   brokers: 3
    ///   topics:
    ///     - {name: orders, partitions: 6, replicas: 3}
    /// faults:
    ///   - {on: Produce, topic: orders, then: apply_then_lose}
    /// moves:
    ///   - {at: 200ms, crash: 2}
    /// ";
    /// let cluster = MockCluster::builder().scenario_str(scenario)?.start()?;
    /// assert_eq!(cluster.topic("orders").unwrap().partitions.len(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong with the text: where, what was found, what is allowed.
    pub fn scenario_str(self, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Scenario = from_yaml(text)?;
        let checked = scenario.check(self.broker_count());
        checked.map_err(|complaint| located(complaint, text))?;
        Ok(scenario.tell(self))
    }

    /// [`scenario_str`](Self::scenario_str) from a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read; what is wrong with its text.
    pub fn scenario_file(self, path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| {
            ScenarioError::syntax(format!("cannot be read: {error}"), None).in_file(path)
        })?;
        self.scenario_str(&text)
            .map_err(|error| error.in_file(path))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::timed_move::{KEYS, names};
    use super::*;
    use crate::MockCluster;
    use crate::fault::{Verdict, drawn};
    use proptest::prelude::*;
    use serde_yaml::Value;

    /// YAML as a person would write it: words of enums are keys, not tags.
    fn written<T: Serialize>(value: &T) -> String {
        let mut yaml = serde_yaml::Serializer::new(Vec::new());
        serde_yaml::with::singleton_map_recursive::serialize(value, &mut yaml).unwrap();
        String::from_utf8(yaml.into_inner().unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn every_rule_is_read_from_the_yaml_that_it_is_written_as(rule in drawn::rule()) {
            let text = written(&rule);
            prop_assert_eq!(from_yaml::<Rule>(&text).unwrap(), rule, "{}", text);
        }
    }

    /// The YAML blocks of the document.
    fn examples() -> Vec<&'static str> {
        let document = include_str!("../SCENARIO.md");
        let blocks = document.split("```yaml\n").skip(1);
        blocks
            .map(|block| block.split("```").next().unwrap())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_example_of_the_document_starts() {
        assert_eq!(examples().len(), 5);
        for example in examples() {
            let builder = MockCluster::builder().brokers(3).scenario_str(example);
            let cluster = builder.unwrap_or_else(|error| panic!("{error}\n{example}"));
            cluster.start_in_memory().unwrap();
        }
    }

    #[test]
    fn every_example_is_read_as_it_is_written() {
        for example in examples() {
            let scenario: Scenario = from_yaml(example).unwrap();
            let text = written(&scenario);
            assert_eq!(from_yaml::<Scenario>(&text).unwrap(), scenario, "{text}");
        }
    }

    /// What control over HTTP is asked in JSON is what a file says in YAML.
    #[test]
    fn every_move_and_rule_is_the_same_in_json() {
        for example in examples() {
            let scenario: Scenario = from_yaml(example).unwrap();
            for timed in &scenario.moves {
                let json = serde_json::to_vec(timed).unwrap();
                assert_eq!(from_json::<TimedMove>(&json).unwrap(), *timed);
            }
            for rule in &scenario.faults {
                let json = serde_json::to_vec(rule).unwrap();
                assert_eq!(from_json::<Rule>(&json).unwrap(), *rule);
            }
        }
    }

    fn words(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(word) => {
                into.insert(word.clone());
            }
            Value::Sequence(elements) => elements.iter().for_each(|value| words(value, into)),
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    words(key, into);
                    words(value, into);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn the_examples_use_the_whole_vocabulary() {
        let mut used = BTreeSet::new();
        for example in examples() {
            words(&serde_yaml::from_str(example).unwrap(), &mut used);
        }
        let vocabulary = [
            names::<Scenario>(),
            names::<ClusterForm>(),
            names::<TopicForm>(),
            names::<Rule>(),
            names::<Verdict>(),
            &KEYS,
        ];
        for word in vocabulary.concat() {
            // It would contradict `listen` in the same example.
            assert!(used.contains(word) || word == "port", "{word}");
        }
    }
}
