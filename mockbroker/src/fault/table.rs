//! The table of the rules that are installed.
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
//! *Not here*: what a rule names (`rule.rs`), carrying a verdict out (the handlers), and the guard
//! that uninstalls (the handle).

use serde::{Deserialize, Serialize};

use super::request::{RequestFacts, SeenRequest};
use super::rule::{Rule, Scope};
use super::verdict::Verdict;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u64);

/// The installed rules, in the order of their installation.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    installed: Vec<Installed>,
    removed_unfired: Vec<Rule>,
    next_id: u64,
    hits_total: u64,
    seed: u64,
}

/// A rule that is installed, with what it did.
#[derive(Clone, Debug)]
pub struct Installed {
    id: RuleId,
    rule: Rule,
    random: fastrand::Rng,
    matches: u64,
    hits: u64,
    seen: Vec<SeenRequest>,
}

impl Installed {
    /// The rule's number.
    #[must_use]
    pub const fn id(&self) -> RuleId {
        self.id
    }

    /// The rule, with the seed that it draws from.
    #[must_use]
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// How many requests it matched.
    #[must_use]
    pub const fn matches(&self) -> u64 {
        self.matches
    }

    /// How many requests it acted on.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// The first 100 requests that it acted on.
    #[must_use]
    pub fn seen(&self) -> &[SeenRequest] {
        &self.seen
    }

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

    /// Whether no more rules can be installed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.installed.len() >= RULES_MAX
    }

    /// Installs a rule behind those that are there. When [`RULES_MAX`] are, it is not installed,
    /// and is one that never acted.
    pub fn install(&mut self, mut rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        if self.is_full() {
            if self.removed_unfired.len() < REMOVED_UNFIRED_MAX {
                self.removed_unfired.push(rule);
            }
            return id;
        }
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

    /// The rules that are installed, in the order in which they are asked.
    pub fn installed(&self) -> impl ExactSizeIterator<Item = &Installed> {
        self.installed.iter()
    }

    /// A rule that is installed.
    #[must_use]
    pub fn find(&self, id: RuleId) -> Option<&Installed> {
        self.installed.iter().find(|installed| installed.id == id)
    }
}

/// Bound of the memory of removed rules that never acted.
const REMOVED_UNFIRED_MAX: usize = 1_000;

/// Rules that are installed at a time.
pub(crate) const RULES_MAX: usize = 10_000;

/// Requests that a rule shows; the hits behind them are counted only.
const SEEN_MAX: usize = 100;

/// Bytes of frames that a rule holds for showing them.
const SEEN_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Api;
    use crate::engine::effect::{BrokerId, ConnectionId};
    use crate::error_code::ErrorCode;
    use crate::fault::Target;
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
