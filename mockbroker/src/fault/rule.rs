//! A rule: which requests, and what happens to them.
//!
//! *Not here*: counting what it matches (`table.rs`).

use core::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::form::RuleForm;
use super::request::{RequestFacts, Target};
use super::verdict::Verdict;
use crate::api::Api;
use crate::engine::effect::{BrokerId, ConnectionId};

/// Which requests, and what happens to them. Without further words: the first request that
/// matches, once, passes.
///
/// ```
/// use kafka_mockbroker::{Api, Rule, Verdict};
///
/// let rule = Rule::on(Api::Produce).topic("orders").partition(0).nth(2);
/// assert_eq!(
///     rule.then(Verdict::ApplyThenLose).to_string(),
///     "Produce to orders-0, from match 2, 1 time: apply, then lose the reply"
/// );
/// ```
///
/// Serialised, it has the words of a scenario's `faults`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RuleForm", into = "RuleForm")]
pub struct Rule {
    pub(super) api: Option<Api>,
    pub(super) version: Option<i16>,
    pub(super) broker: Option<BrokerId>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) scope: Scope,
    pub(super) producer_id: Option<i64>,
    pub(super) transactional_id: Option<Arc<str>>,
    pub(super) nth: u64,
    pub(super) count: Option<u64>,
    pub(super) chance: Option<Chance>,
    pub(super) verdict: Verdict,
}

impl Rule {
    /// A rule for requests of this API.
    #[must_use]
    pub fn on(api: Api) -> Self {
        Self {
            api: Some(api),
            ..Self::on_any()
        }
    }

    /// A rule for requests of every API.
    #[must_use]
    pub fn on_any() -> Self {
        Self {
            api: None,
            version: None,
            broker: None,
            connection: None,
            scope: Scope {
                topic: None,
                partition: None,
            },
            producer_id: None,
            transactional_id: None,
            nth: 1,
            count: Some(1),
            chance: None,
            verdict: Verdict::Pass,
        }
    }

    /// Only requests of this version.
    #[must_use]
    pub fn version(mut self, version: i16) -> Self {
        self.version = Some(version);
        self
    }

    /// Only requests to this broker.
    #[must_use]
    pub fn broker(mut self, broker: BrokerId) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Only requests on this connection; the journal tells the number of each.
    #[must_use]
    pub fn connection(mut self, connection: ConnectionId) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Only requests that name this topic; the verdict covers its partitions only.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.scope.topic = Some(topic.into());
        self
    }

    /// Only requests that name this partition (of [`topic`](Self::topic), or of any topic); the
    /// verdict covers it only.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.scope.partition = Some(partition);
        self
    }

    /// Only requests that carry this producer id: Produce with a batch of it, InitProducerId that
    /// names it.
    #[must_use]
    pub fn producer_id(mut self, producer_id: i64) -> Self {
        self.producer_id = Some(producer_id);
        self
    }

    /// Only requests that carry this transactional id.
    #[must_use]
    pub fn transactional_id(mut self, transactional_id: impl Into<Arc<str>>) -> Self {
        self.transactional_id = Some(transactional_id.into());
        self
    }

    /// Acts from the nth matching request on, counted from 1 since the rule was installed.
    /// Default 1; 0 means the same.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = if nth == 0 { 1 } else { nth };
        self
    }

    /// Acts on this many requests, then never again. Default 1; with 0 it only counts matches.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Acts on every matching request from the nth on, without an end.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.count = None;
        self
    }

    /// Acts on this share of the requests on which it would act otherwise, by chance; from 0.0,
    /// never, to 1.0, always. What is no number from 0 to 1 is taken for the nearest bound, NaN for
    /// 0. The draws come from [`seed`](Self::seed).
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        let probability = if probability >= 0.0 { probability } else { 0.0 };
        let seed = self.chance.and_then(|chance| chance.seed);
        self.chance = Some(Chance {
            probability: probability.min(1.0),
            seed,
        });
        self
    }

    /// What the chance of [`probability`](Self::probability) is drawn from. Default: made of the
    /// cluster's seed and the number of the rule, and logged when the rule is installed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        let probability = self.chance.map_or(1.0, |chance| chance.probability);
        self.chance = Some(Chance {
            probability,
            seed: Some(seed),
        });
        self
    }

    /// What happens.
    #[must_use]
    pub fn then(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    pub(crate) const fn broker_id(&self) -> Option<BrokerId> {
        self.broker
    }

    /// Whether chance has a part in what it does.
    pub(crate) const fn is_drawn(&self) -> bool {
        self.chance.is_some()
    }

    pub(super) fn matches(&self, facts: &RequestFacts<'_>) -> bool {
        self.api.is_none_or(|api| api == facts.api)
            && self.version.is_none_or(|version| version == facts.version)
            && self.broker.is_none_or(|broker| broker == facts.broker)
            && self
                .connection
                .is_none_or(|connection| connection == facts.connection)
            && self
                .producer_id
                .is_none_or(|producer_id| facts.producer_ids.contains(&producer_id))
            && self
                .transactional_id
                .as_deref()
                .is_none_or(|id| Some(id) == facts.transactional_id)
            && (self.scope == Scope::EVERYTHING
                || facts.targets.iter().any(|target| self.scope.meets(target)))
    }
}

/// A share of requests, drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chance {
    /// From 0.0 to 1.0.
    pub(super) probability: f64,
    pub(super) seed: Option<u64>,
}

/// A probability is never NaN.
impl Eq for Chance {}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.api {
            Some(api) => write!(out, "{api}")?,
            None => out.write_str("any request")?,
        }
        if let Some(version) = self.version {
            write!(out, " v{version}")?;
        }
        match (&self.scope.topic, self.scope.partition) {
            (Some(topic), Some(partition)) => write!(out, " to {topic}-{partition}")?,
            (Some(topic), None) => write!(out, " to {topic}")?,
            (None, Some(partition)) => write!(out, " to partition {partition} of any topic")?,
            (None, None) => {}
        }
        if let Some(BrokerId(broker)) = self.broker {
            write!(out, " at broker {broker}")?;
        }
        if let Some(ConnectionId(connection)) = self.connection {
            write!(out, " on connection {connection}")?;
        }
        if let Some(producer_id) = self.producer_id {
            write!(out, " of producer {producer_id}")?;
        }
        if let Some(transactional_id) = &self.transactional_id {
            write!(out, " of transactional id {transactional_id}")?;
        }
        write!(out, ", from match {}", self.nth)?;
        match self.count {
            Some(1) => out.write_str(", 1 time")?,
            Some(count) => write!(out, ", {count} times")?,
            None => out.write_str(", without end")?,
        }
        if let Some(Chance { probability, seed }) = self.chance {
            write!(out, ", with probability {probability}")?;
            if let Some(seed) = seed {
                write!(out, " (seed {seed})")?;
            }
        }
        write!(out, ": {}", self.verdict)
    }
}

/// What of a request a verdict covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub(super) topic: Option<Arc<str>>,
    pub(super) partition: Option<i32>,
}

impl Scope {
    /// The whole request.
    pub const EVERYTHING: Self = Self {
        topic: None,
        partition: None,
    };

    /// Whether the verdict covers this partition.
    #[must_use]
    pub fn covers(&self, topic: &str, partition: i32) -> bool {
        self.covers_topic(topic) && self.partition.is_none_or(|wanted| wanted == partition)
    }

    /// Whether the verdict covers partitions of this topic.
    #[must_use]
    pub fn covers_topic(&self, topic: &str) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
    }

    /// A request that names a topic but no partition (Metadata) meets a scope with a partition.
    fn meets(&self, target: &Target<'_>) -> bool {
        self.covers_topic(target.topic)
            && match (self.partition, target.partition) {
                (Some(wanted), Some(named)) => wanted == named,
                (None, _) | (_, None) => true,
            }
    }
}
