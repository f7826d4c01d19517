//! The rules by which two runs may differ, each with its name and its reason.
//!
//! What a rule covers is replaced by a placeholder, in the recording and in the run that is held
//! against it. A placeholder keeps what can be kept: the second topic's id stays the second's.
//!
//! *Invariants*
//! 1. Nothing is replaced but by a rule, and every use is counted.
//! 2. A producer id, topic id or time gets a number by its first appearance in the case, so that
//!    one id in place of another is still a difference.

use std::collections::BTreeMap;
use std::fmt;

/// A difference that says nothing about a broker.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// The part of names that is the run's.
    RunId,
    /// Ids that brokers give to topics.
    TopicId,
    /// Ids that brokers give to producers.
    ProducerId,
    /// Ids that coordinators give to members of groups.
    MemberId,
    /// Times that the judge wrote.
    SentTime,
    /// Times of the broker's clock.
    BrokerTime,
    /// Times inside error messages.
    TimeInWords,
    /// The cluster's id.
    ClusterId,
    /// The epoch of what a cluster has settled on.
    FeaturesEpoch,
    /// Where brokers listen.
    Address,
    /// Numbers of brokers.
    NodeId,
    /// Rows in another order.
    RowOrder,
    /// Topics of other cases and of the broker itself.
    OtherTopics,
    /// Looks at a broker that was not ready.
    Waiting,
    /// APIs that the mock does not serve.
    ApisNotServed,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 15] = [
        Self::RunId,
        Self::TopicId,
        Self::ProducerId,
        Self::MemberId,
        Self::SentTime,
        Self::BrokerTime,
        Self::TimeInWords,
        Self::ClusterId,
        Self::FeaturesEpoch,
        Self::Address,
        Self::NodeId,
        Self::RowOrder,
        Self::OtherTopics,
        Self::Waiting,
        Self::ApisNotServed,
    ];

    /// How it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::RunId => "run id",
            Self::TopicId => "topic id",
            Self::ProducerId => "producer id",
            Self::MemberId => "member id",
            Self::SentTime => "sent time",
            Self::BrokerTime => "broker time",
            Self::TimeInWords => "time in words",
            Self::ClusterId => "cluster id",
            Self::FeaturesEpoch => "features epoch",
            Self::Address => "address",
            Self::NodeId => "node id",
            Self::RowOrder => "row order",
            Self::OtherTopics => "other topics",
            Self::Waiting => "waiting",
            Self::ApisNotServed => "APIs not served",
        }
    }

    /// Why such a difference is none.
    pub fn reason(self) -> &'static str {
        match self {
            Self::RunId => "topics are named for the run, so that runs do not meet",
            Self::TopicId => "a broker draws them at random (KIP-516)",
            Self::ProducerId => "they come in blocks that a broker asks the controller for",
            Self::MemberId => "a coordinator draws them at random (KIP-394)",
            Self::SentTime => "records carry the time of the run",
            Self::BrokerTime => "it is the clock's: LogAppendTime and its limits",
            Self::TimeInWords => "messages quote times and the limits that follow from the clock",
            Self::ClusterId => "it is the cluster's own",
            Self::FeaturesEpoch => "it is an offset in the log of metadata, which grows (KIP-584)",
            Self::Address => "ports are chosen when a target starts",
            Self::NodeId => "whoever sets a cluster up chooses them",
            Self::RowOrder => "Kafka's is that of a hash table over the names",
            Self::OtherTopics => "a list of all topics shows what ran before",
            Self::Waiting => "how long a broker takes to be ready is no promise",
            Self::ApisNotServed => {
                "the mock lists what it serves (its DESIGN.md); the ranges of \
                                    what it lists are compared"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How often each rule was used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Uses(BTreeMap<Rule, u64>);

impl Uses {
    /// One more use.
    pub fn note(&mut self, rule: Rule) {
        self.note_times(rule, 1);
    }

    /// So many more uses.
    pub fn note_times(&mut self, rule: Rule, times: u64) {
        if times > 0 {
            *self.0.entry(rule).or_default() += times;
        }
    }

    /// How often `rule` was used.
    pub fn of(&self, rule: Rule) -> u64 {
        self.0.get(&rule).copied().unwrap_or(0)
    }

    /// Adds those of another case.
    pub fn add(&mut self, other: &Self) {
        for (&rule, &times) in &other.0 {
            self.note_times(rule, times);
        }
    }
}
