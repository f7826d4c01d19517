//! Faults by rule: which requests, and what happens to them instead.
//!
//! A [`Rule`] names requests (API, version, broker, connection, topic, partition, producer id,
//! transactional id, the nth of them, how many, which share of them) and a [`Verdict`]. [`Rules`]
//! is the table of those installed; the cluster asks it once per request.
//!
//! *State* of a rule, from what it has counted:
//!
//! ```text
//!         matches ≥ nth       hits = count
//! waiting ───────────────▶ due ────────────▶ spent
//! ```
//!
//! *Invariants*
//! 1. Every installed rule counts every request that matches it, whoever decides that request; so
//!    `nth` means the nth such request since the rule was installed.
//! 2. Rules are asked in the order of their installation. The first that is due and whose verdict
//!    is not [`Verdict::Pass`] decides; the due ones behind it keep their hits for the next match,
//!    so two rules installed one after the other act one after the other.
//! 3. A request counts once per rule, however many of its partitions the rule covers.
//! 4. The same rules, seed and requests give the same judgements: no clock, and chance only from
//!    the seed. A rule with a probability draws once per match, whoever decides the request, so no
//!    rule changes what another one draws.
//! 5. A rule shows the first requests it acted on, at most 100 of them and 16 MiB of their bytes.
//! 6. A rule that was removed without a hit is remembered as unfired.
//!
//! *Source*: none in Kafka; this is the mock's own vocabulary.
//!
//! *Not here*: carrying a verdict out (the handlers), and the guard that uninstalls (the handle).

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::Api;
use crate::engine::effect::{BrokerId, ConnectionId};
use crate::error_code::ErrorCode;

/// What happens to a request.
///
/// | | silence | connection ended | answered with a code | answered as it is |
/// |---|---|---|---|---|
/// | not applied | `Swallow` | `CloseBefore`, `ResetBefore` | `Answer` | |
/// | applied | `ApplyThenLose` | `CloseAfter`, `ResetAfter`, `CutAfter` | `ApplyThenAnswer` | `Pass`, `Delay`, `Drip` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// As without the rule. A rule with this verdict only counts, and the next rule is asked.
    Pass,
    /// Refused with this code and not applied, in the partitions that the rule covers; the other
    /// partitions of the request are handled as without the rule.
    Answer(ErrorCode),
    /// Applied, then answered with this code in the partitions that the rule covers.
    ApplyThenAnswer(ErrorCode),
    /// Applied; the reply never leaves. The connection stays open and answers nothing more, as a
    /// broker whose request never ends: a later answer would carry the wrong correlation id. The
    /// client has to give up by its own request time-out.
    ApplyThenLose,
    /// Not applied and never answered; the connection stays open and answers nothing more, as with
    /// [`ApplyThenLose`](Self::ApplyThenLose).
    Swallow,
    /// Applied on arrival, the reply held back for this long, and with it the requests behind it on
    /// the same connection.
    Delay(Duration),
    /// Not applied; the connection is closed.
    CloseBefore,
    /// Applied; the connection is closed in place of the reply.
    CloseAfter,
    /// Not applied; the connection is reset: on TCP the peer gets RST instead of FIN, in memory the
    /// pipe ends as with [`CloseBefore`](Self::CloseBefore).
    ResetBefore,
    /// Applied; the connection is reset in place of the reply, as with
    /// [`ResetBefore`](Self::ResetBefore).
    ResetAfter,
    /// Applied; the reply is cut after this many bytes, the four of its size included, and the
    /// connection closed. A reply that is no longer leaves whole.
    CutAfter(usize),
    /// Applied on arrival; the reply leaves in pieces, the first at once and the others after a
    /// pause each. The requests behind it on the connection wait for the last one.
    Drip {
        /// Bytes of a piece, the four of the reply's size included in the first; 0 means 1.
        piece_bytes: usize,
        /// Between two pieces.
        pause: Duration,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => out.write_str("pass"),
            Self::Answer(code) => write!(out, "answer {code}"),
            Self::ApplyThenAnswer(code) => write!(out, "apply, then answer {code}"),
            Self::ApplyThenLose => out.write_str("apply, then lose the reply"),
            Self::Swallow => out.write_str("swallow"),
            Self::Delay(duration) => write!(out, "delay the reply by {duration:?}"),
            Self::CloseBefore => out.write_str("close before applying"),
            Self::CloseAfter => out.write_str("apply, then close"),
            Self::ResetBefore => out.write_str("reset before applying"),
            Self::ResetAfter => out.write_str("apply, then reset"),
            Self::CutAfter(bytes) => write!(out, "cut the reply after {bytes} bytes"),
            Self::Drip { piece_bytes, pause } => {
                write!(out, "drip the reply, {piece_bytes} bytes every {pause:?}")
            }
        }
    }
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    api: Option<Api>,
    version: Option<i16>,
    broker: Option<BrokerId>,
    connection: Option<ConnectionId>,
    scope: Scope,
    producer_id: Option<i64>,
    transactional_id: Option<Arc<str>>,
    nth: u64,
    count: Option<u64>,
    chance: Option<Chance>,
    verdict: Verdict,
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

    /// Whether chance has a part in what it does.
    pub(crate) const fn is_drawn(&self) -> bool {
        self.chance.is_some()
    }

    fn matches(&self, facts: &RequestFacts<'_>) -> bool {
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
struct Chance {
    /// From 0.0 to 1.0.
    probability: f64,
    seed: Option<u64>,
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
    topic: Option<Arc<str>>,
    partition: Option<i32>,
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

/// A topic, or a partition of it, that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition; `None` in requests about whole topics.
    pub partition: Option<i32>,
}

/// What a rule can see of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// The broker that was asked.
    pub broker: BrokerId,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The client's number for it.
    pub correlation_id: i32,
    /// The client's name, if it gave one.
    pub client_id: Option<&'a str>,
    /// The topics and partitions it names.
    pub targets: &'a [Target<'a>],
    /// The producer ids it carries.
    pub producer_ids: &'a [i64],
    /// The transactional id it carries, if any.
    pub transactional_id: Option<&'a str>,
    /// Its frame as received, without the four bytes of size.
    pub frame: &'a [u8],
}

/// A request that a rule has acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// The client's number for it.
    pub correlation_id: i32,
    /// The client's name, if it gave one.
    pub client_id: Option<Arc<str>>,
    /// The broker that was asked.
    pub broker: BrokerId,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The topics it names, each with a partition in requests about partitions.
    pub targets: Vec<(Arc<str>, Option<i32>)>,
    /// The producer ids it carries.
    pub producer_ids: Vec<i64>,
    /// The transactional id it carries, if any.
    pub transactional_id: Option<Arc<str>>,
    /// The frame as received, without the four bytes of size; `None` when the frames that the rule
    /// keeps would exceed 16 MiB with it.
    pub frame: Option<Bytes>,
}

impl SeenRequest {
    fn new(facts: &RequestFacts<'_>, frame_bytes_max: usize) -> Self {
        let targets = facts.targets.iter();
        let fits = facts.frame.len() <= frame_bytes_max;
        Self {
            api: facts.api,
            version: facts.version,
            correlation_id: facts.correlation_id,
            client_id: facts.client_id.map(Arc::from),
            broker: facts.broker,
            connection: facts.connection,
            targets: targets
                .map(|target| (Arc::from(target.topic), target.partition))
                .collect(),
            producer_ids: facts.producer_ids.to_vec(),
            transactional_id: facts.transactional_id.map(Arc::from),
            // A copy: a slice would keep alive whatever was read together with it.
            frame: fits.then(|| Bytes::copy_from_slice(facts.frame)),
        }
    }

    fn frame_bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, Bytes::len)
    }
}

impl fmt::Display for SeenRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (BrokerId(broker), ConnectionId(connection)) = (self.broker, self.connection);
        write!(out, "{} v{}", self.api, self.version)?;
        for (index, (topic, partition)) in self.targets.iter().enumerate() {
            out.write_str(if index == 0 { " to " } else { ", " })?;
            match partition {
                Some(partition) => write!(out, "{topic}-{partition}")?,
                None => out.write_str(topic)?,
            }
        }
        for producer_id in &self.producer_ids {
            write!(out, " of producer {producer_id}")?;
        }
        if let Some(transactional_id) = &self.transactional_id {
            write!(out, " of transactional id {transactional_id}")?;
        }
        write!(out, " at broker {broker} on connection {connection}")
    }
}

/// What the rules say of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What happens to it.
    pub verdict: Verdict,
    /// Which of its partitions the verdict covers, where it is about partitions.
    pub scope: Scope,
    /// The rule that decided; `None` when none did.
    pub rule: Option<RuleId>,
}

impl Judgement {
    const PASS: Self = Self {
        verdict: Verdict::Pass,
        scope: Scope::EVERYTHING,
        rule: None,
    };
}

/// An installed rule's number; never used twice within a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// The installed rules, in the order of their installation.
#[derive(Debug, Default)]
pub struct Rules {
    installed: Vec<Installed>,
    removed_unfired: Vec<Rule>,
    next_id: u64,
    hits_total: u64,
    seed: u64,
}

#[derive(Debug)]
struct Installed {
    id: RuleId,
    rule: Rule,
    random: fastrand::Rng,
    matches: u64,
    hits: u64,
    seen: Vec<SeenRequest>,
}

impl Installed {
    fn hit(&mut self, facts: &RequestFacts<'_>) {
        self.hits += 1;
        if self.seen.len() < SEEN_MAX {
            let held: usize = self.seen.iter().map(SeenRequest::frame_bytes).sum();
            let request = SeenRequest::new(facts, SEEN_BYTES_MAX.saturating_sub(held));
            self.seen.push(request);
        }
    }

    /// Draws, if the rule has a probability.
    fn is_lucky(&mut self) -> bool {
        self.rule
            .chance
            .is_none_or(|chance| self.random.f64() < chance.probability)
    }

    fn is_due(&self) -> bool {
        self.matches >= self.rule.nth && self.rule.count.is_none_or(|count| self.hits < count)
    }
}

impl Rules {
    /// No rules; the chance of those to come is drawn from `seed`, unless they have their own.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Installs a rule behind those that are there.
    pub fn install(&mut self, mut rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        let drawn = fastrand::Rng::with_seed(self.seed.wrapping_add(id.0)).u64(..);
        let seed = match &mut rule.chance {
            Some(chance) => *chance.seed.get_or_insert(drawn),
            None => drawn,
        };
        self.installed.push(Installed {
            id,
            rule,
            random: fastrand::Rng::with_seed(seed),
            matches: 0,
            hits: 0,
            seen: Vec::new(),
        });
        id
    }

    /// Uninstalls a rule; one that never acted goes to [`unfired`](Self::unfired).
    pub fn remove(&mut self, id: RuleId) {
        let Some(index) = self
            .installed
            .iter()
            .position(|installed| installed.id == id)
        else {
            return;
        };
        let removed = self.installed.remove(index);
        if removed.hits == 0 && self.removed_unfired.len() < REMOVED_UNFIRED_MAX {
            self.removed_unfired.push(removed.rule);
        }
    }

    /// Whether no rule is installed, so that there is nothing to judge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.installed.is_empty()
    }

    /// Counts this request and says what happens to it.
    pub fn judge(&mut self, facts: &RequestFacts<'_>) -> Judgement {
        let mut judgement = Judgement::PASS;
        for installed in &mut self.installed {
            if !installed.rule.matches(facts) {
                continue;
            }
            installed.matches += 1;
            let lucky = installed.is_lucky();
            if judgement.rule.is_some() || !installed.is_due() || !lucky {
                continue;
            }
            installed.hit(facts);
            self.hits_total += 1;
            if installed.rule.verdict != Verdict::Pass {
                judgement = Judgement {
                    verdict: installed.rule.verdict,
                    scope: installed.rule.scope.clone(),
                    rule: Some(installed.id),
                };
            }
        }
        judgement
    }

    /// A rule as it is installed, with the seed that it draws from.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.find(id).map(|installed| &installed.rule)
    }

    /// How often a rule has acted; 0 for one that is not installed.
    #[must_use]
    pub fn hits(&self, id: RuleId) -> u64 {
        self.find(id).map_or(0, |installed| installed.hits)
    }

    /// The first 100 requests that a rule has acted on; empty for one that is not installed.
    #[must_use]
    pub fn seen(&self, id: RuleId) -> &[SeenRequest] {
        self.find(id).map_or(&[], |installed| &installed.seen)
    }

    /// How often any rule has acted, ever; it only grows, so a change of it is news.
    #[must_use]
    pub const fn hits_total(&self) -> u64 {
        self.hits_total
    }

    /// The rules that never acted: those removed (at most 1,000 are kept), then those installed.
    #[must_use]
    pub fn unfired(&self) -> Vec<Rule> {
        let waiting = self
            .installed
            .iter()
            .filter(|installed| installed.hits == 0);
        let waiting = waiting.map(|installed| installed.rule.clone());
        self.removed_unfired
            .iter()
            .cloned()
            .chain(waiting)
            .collect()
    }

    fn find(&self, id: RuleId) -> Option<&Installed> {
        self.installed.iter().find(|installed| installed.id == id)
    }
}

/// Bound of the memory of removed rules that never acted.
const REMOVED_UNFIRED_MAX: usize = 1_000;

/// Requests that a rule shows; the hits behind them are counted only.
const SEEN_MAX: usize = 100;

/// Bytes of frames that a rule holds for showing them.
const SEEN_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const LOSE: Verdict = Verdict::ApplyThenLose;

    fn produce<'a>(targets: &'a [Target<'a>]) -> RequestFacts<'a> {
        RequestFacts {
            api: Api::Produce,
            version: 12,
            broker: BrokerId(1),
            connection: ConnectionId(7),
            targets,
            producer_ids: &[4_000],
            transactional_id: Some("payments"),
            correlation_id: 5,
            client_id: Some("tester"),
            frame: b"as received",
        }
    }

    const ORDERS: &[Target<'static>] = &[
        Target {
            topic: "orders",
            partition: Some(0),
        },
        Target {
            topic: "orders",
            partition: Some(1),
        },
    ];

    /// The verdicts that five equal requests meet, as one letter each.
    fn five(rules: &mut Rules) -> String {
        (0..5)
            .map(|_| match rules.judge(&produce(ORDERS)).verdict {
                Verdict::Pass => '.',
                Verdict::ApplyThenLose => 'L',
                Verdict::Swallow => 'S',
                other => panic!("no letter for {other}"),
            })
            .collect()
    }

    #[rstest]
    #[case::first_by_default(Rule::on(Api::Produce), "L....")]
    #[case::third(Rule::on(Api::Produce).nth(3), "..L..")]
    #[case::two_from_the_second(Rule::on(Api::Produce).nth(2).count(2), ".LL..")]
    #[case::always(Rule::on(Api::Produce).always(), "LLLLL")]
    #[case::from_the_fourth(Rule::on(Api::Produce).nth(4).always(), "...LL")]
    #[case::nth_zero_is_one(Rule::on(Api::Produce).nth(0), "L....")]
    #[case::count_zero_never(Rule::on(Api::Produce).count(0), ".....")]
    #[case::any_api(Rule::on_any().count(2), "LL...")]
    #[case::topic(Rule::on(Api::Produce).topic("orders"), "L....")]
    #[case::other_topic(Rule::on(Api::Produce).topic("payments"), ".....")]
    #[case::partition(Rule::on(Api::Produce).topic("orders").partition(1), "L....")]
    #[case::other_partition(Rule::on(Api::Produce).topic("orders").partition(2), ".....")]
    #[case::partition_of_any_topic(Rule::on(Api::Produce).partition(1), "L....")]
    #[case::other_api(Rule::on(Api::Metadata).always(), ".....")]
    #[case::version(Rule::on(Api::Produce).version(12), "L....")]
    #[case::other_version(Rule::on(Api::Produce).version(11), ".....")]
    #[case::broker(Rule::on(Api::Produce).broker(BrokerId(1)), "L....")]
    #[case::other_broker(Rule::on(Api::Produce).broker(BrokerId(2)), ".....")]
    #[case::connection(Rule::on(Api::Produce).connection(ConnectionId(7)), "L....")]
    #[case::other_connection(Rule::on(Api::Produce).connection(ConnectionId(8)), ".....")]
    #[case::producer(Rule::on(Api::Produce).producer_id(4_000), "L....")]
    #[case::other_producer(Rule::on(Api::Produce).producer_id(4_001), ".....")]
    #[case::transaction(Rule::on(Api::Produce).transactional_id("payments"), "L....")]
    #[case::other_transaction(Rule::on(Api::Produce).transactional_id("refunds"), ".....")]
    #[case::never_by_chance(Rule::on(Api::Produce).always().probability(0.0), ".....")]
    #[case::always_by_chance(Rule::on(Api::Produce).always().probability(1.0), "LLLLL")]
    #[case::no_number_is_never(Rule::on(Api::Produce).always().probability(f64::NAN), ".....")]
    #[case::more_than_always(Rule::on(Api::Produce).always().probability(7.0), "LLLLL")]
    #[case::a_seed_alone_changes_nothing(Rule::on(Api::Produce).seed(3), "L....")]
    fn rule_acts_on_the_requests_it_names(#[case] rule: Rule, #[case] expected: &str) {
        let mut rules = Rules::default();
        rules.install(rule.then(LOSE));
        assert_eq!(five(&mut rules), expected);
    }

    #[test]
    fn first_rule_that_does_not_pass_wins() {
        let mut rules = Rules::default();
        let spy = rules.install(Rule::on(Api::Produce).always());
        rules.install(Rule::on(Api::Produce).nth(2).then(Verdict::Swallow));
        rules.install(Rule::on(Api::Produce).always().then(LOSE));
        assert_eq!(five(&mut rules), "LSLLL");
        assert_eq!(
            rules.hits(spy),
            5,
            "a rule that passes counts and lets the next be asked"
        );
    }

    #[test]
    fn rules_due_at_once_act_one_after_the_other() {
        let mut rules = Rules::default();
        rules.install(Rule::on(Api::Produce).then(LOSE));
        rules.install(Rule::on(Api::Produce).then(Verdict::Swallow));
        assert_eq!(five(&mut rules), "LS...");
    }

    #[test]
    fn request_counts_once_however_many_partitions_match() {
        let mut rules = Rules::default();
        let id = rules.install(Rule::on(Api::Produce).topic("orders").always().then(LOSE));
        rules.judge(&produce(ORDERS));
        assert_eq!(rules.hits(id), 1);
        assert_eq!(rules.hits_total(), 1);
    }

    #[test]
    fn judgement_covers_what_the_rule_names() {
        let mut rules = Rules::default();
        let answer = Verdict::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        rules.install(
            Rule::on(Api::Produce)
                .topic("orders")
                .partition(1)
                .then(answer),
        );
        let judgement = rules.judge(&produce(ORDERS));
        assert_eq!(judgement.verdict, answer);
        assert!(judgement.scope.covers("orders", 1));
        assert!(!judgement.scope.covers("orders", 0));
        assert!(!judgement.scope.covers("payments", 1));
    }

    #[test]
    fn request_about_a_whole_topic_meets_a_rule_about_its_partition() {
        let mut rules = Rules::default();
        rules.install(
            Rule::on(Api::Metadata)
                .topic("orders")
                .partition(1)
                .then(LOSE),
        );
        let targets = [Target {
            topic: "orders",
            partition: None,
        }];
        let facts = RequestFacts {
            api: Api::Metadata,
            ..produce(&targets)
        };
        assert_eq!(rules.judge(&facts).verdict, LOSE);
    }

    #[test]
    fn unfired_rules_are_those_without_a_hit_even_when_removed() {
        let mut rules = Rules::default();
        let lost = Rule::on(Api::Produce).then(LOSE);
        let never = Rule::on(Api::Fetch).then(Verdict::Swallow);
        let removed = Rule::on(Api::InitProducerId).then(Verdict::CloseBefore);
        let fired = rules.install(lost);
        rules.install(never.clone());
        let gone = rules.install(removed.clone());
        rules.judge(&produce(ORDERS));
        rules.remove(gone);
        rules.remove(fired);
        assert_eq!(rules.unfired(), [removed, never]);
    }

    fn hits_of(rules: &mut Rules, rule: Rule, requests: u64) -> Vec<u64> {
        let id = rules.install(rule.always().then(LOSE));
        let mut hits = Vec::new();
        for request in 0..requests {
            let before = rules.hits(id);
            rules.judge(&produce(ORDERS));
            if rules.hits(id) > before {
                hits.push(request);
            }
        }
        hits
    }

    #[test]
    fn probability_hits_about_its_share() {
        let rule = Rule::on(Api::Produce).probability(0.25).seed(1);
        let hits = hits_of(&mut Rules::default(), rule, 10_000).len();
        assert!((2_300..2_700).contains(&hits), "{hits} of 10,000");
    }

    #[test]
    fn same_seed_draws_the_same_whatever_other_rules_do() {
        let rule = || Rule::on(Api::Produce).probability(0.5);
        let alone = hits_of(&mut Rules::default(), rule().seed(9), 200);
        let mut rules = Rules::with_seed(77);
        rules.install(rule().always().then(Verdict::Pass));
        rules.install(Rule::on(Api::Fetch).then(LOSE));
        assert_eq!(hits_of(&mut rules, rule().seed(9), 200), alone);
        assert_ne!(hits_of(&mut Rules::default(), rule().seed(10), 200), alone);
    }

    #[test]
    fn a_drawn_seed_follows_from_the_clusters_and_is_told() {
        let rule = || Rule::on(Api::Produce).probability(0.5);
        let from = |seed| hits_of(&mut Rules::with_seed(seed), rule(), 200);
        assert_eq!(from(5), from(5));
        assert_ne!(from(5), from(6));

        let mut rules = Rules::with_seed(5);
        let id = rules.install(rule());
        let told = rules.rule(id).unwrap().to_string();
        let (_, seed) = told.split_once("with probability 0.5 (seed ").unwrap();
        let seed = seed.split_once(')').unwrap().0.parse().unwrap();
        let again = hits_of(&mut Rules::with_seed(0), rule().seed(seed), 200);
        assert_eq!(again, from(5), "the told seed repeats the draws");
    }

    #[test]
    fn rule_shows_the_requests_it_acted_on() {
        let mut rules = Rules::default();
        let id = rules.install(Rule::on(Api::Produce).nth(2).then(LOSE));
        rules.judge(&produce(ORDERS));
        assert_eq!(rules.seen(id), []);
        rules.judge(&RequestFacts {
            correlation_id: 6,
            ..produce(ORDERS)
        });
        rules.judge(&produce(ORDERS));
        let [seen] = rules.seen(id) else {
            panic!("one hit: {:?}", rules.seen(id))
        };
        assert_eq!(seen.correlation_id, 6);
        assert_eq!(seen.client_id.as_deref(), Some("tester"));
        assert_eq!(seen.frame.as_deref(), Some(&b"as received"[..]));
        assert_eq!(
            seen.to_string(),
            "Produce v12 to orders-0, orders-1 of producer 4000 of transactional id payments at \
             broker 1 on connection 7"
        );
    }

    #[test]
    fn what_a_rule_shows_is_bounded_and_hits_count_on() {
        let mut rules = Rules::default();
        let id = rules.install(Rule::on(Api::Produce).always().then(LOSE));
        let frame = vec![0; SEEN_BYTES_MAX / 4];
        for _ in 0..SEEN_MAX + 5 {
            rules.judge(&RequestFacts {
                frame: &frame,
                ..produce(ORDERS)
            });
        }
        assert_eq!(rules.hits(id), 105);
        assert_eq!(rules.seen(id).len(), SEEN_MAX);
        let framed = |seen: &&SeenRequest| seen.frame.is_some();
        assert_eq!(rules.seen(id).iter().filter(framed).count(), 4);
    }

    #[test]
    fn removed_rule_acts_no_more() {
        let mut rules = Rules::default();
        let id = rules.install(Rule::on(Api::Produce).always().then(LOSE));
        rules.judge(&produce(ORDERS));
        rules.remove(id);
        assert!(rules.is_empty());
        assert_eq!(five(&mut rules), ".....");
    }
}
