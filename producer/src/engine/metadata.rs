//! What is known of topics and their leaders, when it was learnt, and what is being asked.
//!
//! *State* of the question
//! ```text
//!            want, request_refresh            on_asked
//!   Settled ───────────────────────▶ Wanted ───────────▶ Asked
//!      ▲  │        age                 ▲                   │
//!      │  └────────────────────────────┤                   │
//!      │                               │ lost, or something is still missing
//!      └───────────────────────────────┴───────────────────┘
//! ```
//! *State* of a topic
//! ```text
//!            answer 0              answer 17, 29, …
//!   Pending ─────────▶ Known        Pending, Known ─────────▶ Refused
//!     │  ▲               │             ▲                         │
//!     └──┘ 3, 5, …       └─ leaders    └──────── wanted again ───┘
//!
//!   any ── not used for so long ──▶ forgotten ── wanted, or a batch after all ──▶ Pending
//! ```
//!
//! *Invariants*
//! 1. At most one question is on its way.
//! 2. A leader epoch never goes back for the same topic id: an answer with an older one is ignored.
//! 3. A refresh that was asked for while a question is on its way leads to another question.
//! 4. A topic with a batch that is not settled is not forgotten.
//!
//! *Source*: Kafka's `Metadata`, `ProducerMetadata`; KIP-516 (topic ids), KIP-526 (topics that are
//! not used), KIP-951 (leader hints).
//!
//! *Not here*: brokers' addresses (`brokers.rs`), who is asked (`asking.rs`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::effect::{PartitionView, TopicView};
use crate::engine::time::Instant;
use crate::error::{ErrorCode, Failure, FailureKind};
use crate::types::{BrokerId, LeaderEpoch, TopicId, TopicIndex, TopicPartition};
use crate::wire::TopicRef;
use crate::wire::message::{MetadataAnswer, PartitionAnswer, Replicas, TopicAnswer};

/// Topics, leaders, and the question about them.
#[derive(Debug)]
pub(crate) struct Metadata {
    topics: BTreeMap<TopicIndex, Topic>,
    /// What topics that are not asked for any more were called.
    forgotten: BTreeMap<TopicIndex, TopicNames>,
    by_name: BTreeMap<Arc<str>, TopicIndex>,
    /// Where brokers stand, as far as they say.
    racks: BTreeMap<BrokerId, Arc<str>>,
    question: Question,
    /// Answers in a row that left something missing, and questions in a row that were lost.
    failures: u32,
    /// Since when an answer has been due.
    unanswered_since: Option<Instant>,
}

/// Who leads a partition, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) epoch: Option<LeaderEpoch>,
}

/// What a topic is called on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicNames {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
}

impl TopicNames {
    /// The topic as a Produce message of this version names it.
    pub(crate) fn reference(&self, version: i16) -> TopicRef<'_> {
        if version >= FIRST_PRODUCE_WITH_IDS {
            TopicRef::Id(self.id)
        } else {
            TopicRef::Name(&self.name)
        }
    }
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Topics whose view changed.
    pub(crate) topics: Vec<TopicIndex>,
    /// Topics that were deleted and created anew: what was written to them is gone.
    pub(crate) made_anew: Vec<TopicIndex>,
}

impl Metadata {
    pub(crate) fn new() -> Self {
        Self {
            topics: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            by_name: BTreeMap::new(),
            racks: BTreeMap::new(),
            question: Question::NONE,
            failures: 0,
            unanswered_since: None,
        }
    }

    /// Somebody wants a topic; a topic refused or forgotten before is asked for again. Says whether
    /// its view changed.
    pub(crate) fn want(&mut self, topic: TopicIndex, name: Arc<str>, now: Instant) -> bool {
        self.by_name.entry(Arc::clone(&name)).or_insert(topic);
        let forgotten = self.forgotten.remove(&topic);
        let was_forgotten = forgotten.is_some();
        let id = TopicId::ZERO;
        let fresh = || Topic {
            names: forgotten.unwrap_or(TopicNames { name, id }),
            state: TopicState::Pending { last_failure: None },
            replicas: Vec::new(),
            used_at: now,
        };
        let known = self.topics.entry(topic).or_insert_with(fresh);
        known.used_at = now;
        match &known.state {
            TopicState::Refused(failure) => {
                // Whoever sends without pause must not ask without pause.
                self.question.want_again();
                let last_failure = Some(failure.clone());
                known.state = TopicState::Pending { last_failure };
                true
            }
            TopicState::Pending { .. } => {
                self.question.want_at(now);
                was_forgotten
            }
            TopicState::Known(_) => was_forgotten,
        }
    }

    /// A topic has a new batch: it is kept, or wanted again. Says whether its view changed.
    pub(crate) fn on_used(&mut self, topic: TopicIndex, now: Instant) -> bool {
        if let Some(known) = self.topics.get_mut(&topic) {
            known.used_at = now;
            return false;
        }
        // Its batch was opened while it was being forgotten.
        match self.forgotten.get(&topic) {
            Some(names) => self.want(topic, Arc::clone(&names.name), now),
            None => false,
        }
    }

    /// Forgets the topics that were not used for `idle_max`, unless they are `in_use` all the same;
    /// says which (KIP-526).
    pub(crate) fn forget_unused(
        &mut self,
        idle_max: Duration,
        in_use: impl Fn(TopicIndex) -> bool,
        now: Instant,
    ) -> Vec<TopicIndex> {
        let unused = |(index, topic): (&TopicIndex, &Topic)| {
            (topic.used_at + idle_max <= now && !in_use(*index)).then_some(*index)
        };
        let unused: Vec<TopicIndex> = self.topics.iter().filter_map(unused).collect();
        for index in &unused {
            if let Some(topic) = self.topics.remove(index) {
                self.forgotten.insert(*index, topic.names);
            }
        }
        if self.topics.is_empty() {
            self.question = Question::NONE;
            self.unanswered_since = None;
        }
        unused
    }

    /// A leader is missing or wrong: ask as soon as the last question's back-off allows.
    pub(crate) fn request_refresh(&mut self) {
        if !self.topics.is_empty() {
            self.question.want_again();
        }
    }

    /// Whether to ask now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// Since when an answer has been due; from now on if it is due now. `None` when it is not due.
    pub(crate) fn unanswered_since(&mut self, now: Instant) -> Option<Instant> {
        if self.unanswered_since.is_none() && self.is_due(now) {
            self.unanswered_since = Some(now);
        }
        self.unanswered_since
    }

    /// Whoever was asked is not asked any more: the time for an answer starts again.
    pub(crate) fn on_rebootstrap(&mut self, now: Instant) {
        self.unanswered_since = Some(now);
    }

    /// When to ask next, unless a question is on its way.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.question {
            Question::Settled { asked_again_at, .. } => asked_again_at,
            Question::Wanted { at } => Some(at),
            Question::Asked { .. } => None,
        }
    }

    /// The names to ask for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.values().map(|topic| &topic.names.name)
    }

    pub(crate) fn on_asked(&mut self) {
        let asked: Vec<_> = self.topics.keys().copied().collect();
        self.question = Question::Asked {
            topics: asked.len(),
            again: Again::No,
        };
    }

    /// How many failures a back-off after the present question counts.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The question got no answer: ask again at `retry_at`.
    pub(crate) fn on_lost(&mut self, retry_at: Instant) {
        if matches!(self.question, Question::Asked { .. }) {
            self.failures = self.failures.saturating_add(1);
            self.question = Question::Wanted { at: retry_at };
        }
    }

    /// Nobody could be asked, for this reason: whoever waits for a topic may see it.
    pub(crate) fn on_unreachable(&mut self, failure: &Failure) -> Vec<TopicIndex> {
        let mut changed = Vec::new();
        for (index, topic) in &mut self.topics {
            if let TopicState::Pending { last_failure } = &mut topic.state
                && last_failure.as_ref() != Some(failure)
            {
                *last_failure = Some(failure.clone());
                changed.push(*index);
            }
        }
        changed
    }

    /// Takes in an answer. `retry_at` is when to ask again for what is still missing, `aged_at`
    /// when to ask again otherwise.
    pub(crate) fn on_answer(
        &mut self,
        answer: &MetadataAnswer,
        from: Option<BrokerId>,
        retry_at: Instant,
        aged_at: Instant,
    ) -> Changes {
        let mut changes = Changes::default();
        if self.learn_racks(&answer.racks) {
            // Each view names racks.
            changes.topics.extend(self.topics.keys());
        }
        for row in &answer.topics {
            let index = row.name.as_ref().and_then(|name| self.by_name.get(name));
            let Some((index, topic)) = index.and_then(|i| Some((*i, self.topics.get_mut(i)?)))
            else {
                continue; // a topic that was not asked for
            };
            if topic.is_made_anew(row) {
                changes.made_anew.push(index);
            }
            if topic.learn(row, from) && !changes.topics.contains(&index) {
                changes.topics.push(index);
            }
        }
        self.unanswered_since = None;
        self.settle(retry_at, aged_at);
        changes
    }

    /// Takes in a leader named by a refusal; says whether it is news (KIP-951).
    pub(crate) fn on_hint(&mut self, partition: TopicPartition, hint: Leadership) -> bool {
        let Some(known) = self.leadership_mut(partition) else {
            return false;
        };
        // Only a newer epoch is news: the refusing broker may be the one that lags behind.
        let newer = hint.epoch > known.epoch;
        if newer {
            *known = hint;
        }
        newer
    }

    /// Who leads; `None` when nobody is known to.
    pub(crate) fn leadership(&self, partition: TopicPartition) -> Leadership {
        let TopicState::Known(partitions) = &self
            .topics
            .get(&partition.topic)
            .map_or(&TopicState::Pending { last_failure: None }, |topic| {
                &topic.state
            })
        else {
            return Leadership::default();
        };
        let index = usize::try_from(partition.partition).ok();
        index
            .and_then(|index| partitions.get(index))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn names_of(&self, topic: TopicIndex) -> Option<&TopicNames> {
        self.topics.get(&topic).map(|topic| &topic.names)
    }

    /// Why a topic can never be sent to, if a broker said so.
    pub(crate) fn refusal(&self, topic: TopicIndex) -> Option<&Failure> {
        match &self.topics.get(&topic)?.state {
            TopicState::Refused(failure) => Some(failure),
            TopicState::Pending { .. } | TopicState::Known(_) => None,
        }
    }

    pub(crate) fn view(&self, topic: TopicIndex) -> TopicView {
        let Some(topic) = self.topics.get(&topic) else {
            return TopicView::Forgotten;
        };
        match &topic.state {
            TopicState::Pending { last_failure } => TopicView::Pending {
                last_failure: last_failure.clone(),
            },
            TopicState::Known(partitions) => {
                let told = partitions.iter().zip(&topic.replicas);
                let partitions = told.map(|(known, replicas)| self.partition(*known, replicas));
                TopicView::Known {
                    partitions: partitions.collect(),
                }
            }
            TopicState::Refused(failure) => TopicView::Refused(failure.clone()),
        }
    }

    fn partition(&self, known: Leadership, replicas: &Arc<Replicas>) -> PartitionView {
        let rack = known.leader.and_then(|leader| self.racks.get(&leader));
        PartitionView {
            leader: known.leader,
            leader_rack: rack.cloned(),
            replicas: Arc::clone(replicas),
        }
    }

    /// Takes in where brokers stand; says whether it is news.
    fn learn_racks(&mut self, racks: &BTreeMap<BrokerId, Arc<str>>) -> bool {
        let news = self.racks != *racks;
        if news {
            self.racks.clone_from(racks);
        }
        news
    }

    fn settle(&mut self, retry_at: Instant, aged_at: Instant) {
        let missing = self.topics.values().any(|topic| !topic.is_settled());
        let Question::Asked { topics, again } = self.question else {
            return;
        };
        let unasked = self.topics.len() > topics;
        self.failures = if missing {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.question = if unasked {
            Question::Wanted { at: Instant::ZERO }
        } else if missing || again == Again::Yes {
            Question::Wanted { at: retry_at }
        } else {
            Question::Settled {
                asked_again_at: Some(aged_at),
                not_before: retry_at,
            }
        };
    }

    fn leadership_mut(&mut self, partition: TopicPartition) -> Option<&mut Leadership> {
        let TopicState::Known(partitions) = &mut self.topics.get_mut(&partition.topic)?.state
        else {
            return None;
        };
        partitions.get_mut(usize::try_from(partition.partition).ok()?)
    }
}

#[derive(Debug)]
struct Topic {
    names: TopicNames,
    state: TopicState,
    /// Who keeps each partition, by number, as last told.
    replicas: Vec<Arc<Replicas>>,
    /// When it was last wanted, or a batch of it opened.
    used_at: Instant,
}

#[derive(Debug)]
enum TopicState {
    Pending { last_failure: Option<Failure> },
    Known(Vec<Leadership>),
    Refused(Failure),
}

impl Topic {
    /// Whether the row tells of another topic by the same name.
    fn is_made_anew(&self, row: &TopicAnswer) -> bool {
        row.error == ErrorCode::NONE && self.names.id != TopicId::ZERO && !self.is_same(row)
    }

    /// Whether the row tells of the topic that is known: versions before 10 tell no id, and the
    /// first that is told is that of the topic which was known without.
    fn is_same(&self, row: &TopicAnswer) -> bool {
        let either = [row.id, self.names.id];
        either.contains(&TopicId::ZERO) || row.id == self.names.id
    }

    /// Takes in a row; says whether the view changed.
    fn learn(&mut self, row: &TopicAnswer, from: Option<BrokerId>) -> bool {
        let failure = || Failure {
            broker: from,
            ..Failure::new(FailureKind::Refused(row.error))
        };
        match row.error {
            ErrorCode::NONE => self.learn_partitions(row),
            ErrorCode::INVALID_TOPIC | ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                self.become_state(TopicState::Refused(failure()))
            }
            // Everything else may pass: a topic being created answers 3 or 5.
            _ => match &mut self.state {
                TopicState::Known(partitions) => {
                    let led = partitions.iter().any(|one| one.leader.is_some());
                    for one in partitions {
                        one.leader = None;
                    }
                    led
                }
                TopicState::Pending { .. } | TopicState::Refused(_) => {
                    self.become_state(TopicState::Pending {
                        last_failure: Some(failure()),
                    })
                }
            },
        }
    }

    fn learn_partitions(&mut self, row: &TopicAnswer) -> bool {
        let mut partitions = vec![Leadership::default(); row.partitions.len()];
        let mut replicas = vec![Arc::default(); row.partitions.len()];
        let same_topic = self.is_same(row);
        if row.id != TopicId::ZERO {
            self.names.id = row.id;
        }
        for answer in &row.partitions {
            // Partitions count from 0 without gaps; any other row cannot be addressed.
            let index = usize::try_from(answer.index).ok();
            let Some((index, slot)) = index.and_then(|i| Some((i, partitions.get_mut(i)?))) else {
                continue;
            };
            let (known, kept_by) = (self.known(index), self.replicas.get(index));
            (*slot, replicas[index]) = match (known, kept_by) {
                (Some(known), Some(kept_by)) if same_topic && is_older(answer, known) => {
                    (known, Arc::clone(kept_by))
                }
                (_, kept_by) => (
                    Leadership {
                        leader: answer.leader,
                        epoch: answer.epoch,
                    },
                    match kept_by {
                        Some(kept_by) if **kept_by == answer.replicas => Arc::clone(kept_by),
                        _ => Arc::new(answer.replicas.clone()),
                    },
                ),
            };
        }
        let moved = self.replicas != replicas;
        self.replicas = replicas;
        self.become_state(TopicState::Known(partitions)) || moved
    }

    fn known(&self, index: usize) -> Option<Leadership> {
        match &self.state {
            TopicState::Known(partitions) => partitions.get(index).copied(),
            TopicState::Pending { .. } | TopicState::Refused(_) => None,
        }
    }

    fn become_state(&mut self, state: TopicState) -> bool {
        let changed = match (&self.state, &state) {
            (TopicState::Known(old), TopicState::Known(new)) => old != new,
            (
                TopicState::Pending { last_failure: old },
                TopicState::Pending { last_failure: new },
            ) => old != new,
            (TopicState::Refused(old), TopicState::Refused(new)) => old != new,
            _ => true,
        };
        self.state = state;
        changed
    }

    fn is_settled(&self) -> bool {
        match &self.state {
            TopicState::Pending { .. } => false,
            TopicState::Refused(_) => true,
            TopicState::Known(partitions) => partitions.iter().all(|one| one.leader.is_some()),
        }
    }
}

/// Brokers learn of elections at different times; a lagging one must not take us back.
fn is_older(answer: &PartitionAnswer, known: Leadership) -> bool {
    matches!((answer.epoch, known.epoch), (Some(told), Some(known)) if told < known)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Answered; asked again for its age, and on request not before the back-off is over.
    Settled {
        asked_again_at: Option<Instant>,
        not_before: Instant,
    },
    /// To be asked at this time.
    Wanted { at: Instant },
    /// On its way, for so many topics.
    Asked { topics: usize, again: Again },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

impl Question {
    /// There is nothing to ask for.
    const NONE: Self = Self::Settled {
        asked_again_at: None,
        not_before: Instant::ZERO,
    };

    /// Something was never asked for: ask at this time.
    fn want_at(&mut self, wished_at: Instant) {
        match self {
            Self::Settled { .. } => *self = Self::Wanted { at: wished_at },
            Self::Wanted { at } => *at = wished_at.min(*at),
            Self::Asked { again, .. } => *again = Again::Yes,
        }
    }

    /// Something known is wrong: ask when the back-off since the last answer is over.
    fn want_again(&mut self) {
        match self {
            Self::Settled { not_before, .. } => *self = Self::Wanted { at: *not_before },
            Self::Wanted { .. } => {}
            Self::Asked { again, .. } => *again = Again::Yes,
        }
    }
}

/// Produce names topics by id from this version on.
pub(crate) const FIRST_PRODUCE_WITH_IDS: i16 = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TOPIC: TopicIndex = TopicIndex(0);
    const NOW: Instant = Instant::from_nanos(10);
    const RETRY: Instant = Instant::from_nanos(100);
    const AGED: Instant = Instant::from_nanos(9000);

    fn row(error: i16, id: u8, partitions: &[(i32, i32)]) -> TopicAnswer {
        let partitions = (0..)
            .zip(partitions)
            .map(|(index, (leader, epoch))| PartitionAnswer {
                index,
                leader: (*leader >= 0).then_some(BrokerId(*leader)),
                epoch: (*epoch >= 0).then_some(LeaderEpoch(*epoch)),
                replicas: Replicas::default(),
            });
        TopicAnswer {
            error: ErrorCode(error),
            name: Some("orders".into()),
            id: TopicId([id; 16]),
            partitions: partitions.collect(),
        }
    }

    fn answer(topics: Vec<TopicAnswer>) -> MetadataAnswer {
        MetadataAnswer {
            throttle_ms: 0,
            error: ErrorCode::NONE,
            brokers: Vec::new(),
            racks: BTreeMap::new(),
            topics,
        }
    }

    fn wanting() -> Metadata {
        let mut metadata = Metadata::new();
        metadata.want(TOPIC, "orders".into(), NOW);
        metadata
    }

    fn learn(metadata: &mut Metadata, row: TopicAnswer) -> Vec<TopicIndex> {
        metadata.on_asked();
        metadata
            .on_answer(&answer(vec![row]), None, RETRY, AGED)
            .topics
    }

    fn leader(metadata: &Metadata) -> (Option<i32>, Option<i32>) {
        let known = metadata.leadership(TopicPartition {
            topic: TOPIC,
            partition: 0,
        });
        (known.leader.map(|one| one.0), known.epoch.map(|one| one.0))
    }

    #[test]
    fn nothing_is_asked_before_a_topic_is_wanted() {
        let mut metadata = Metadata::new();
        metadata.request_refresh();
        assert_eq!(metadata.deadline(), None);
        metadata.want(TOPIC, "orders".into(), NOW);
        assert!(metadata.is_due(NOW));
    }

    #[test]
    fn one_question_is_on_its_way() {
        let mut metadata = wanting();
        metadata.on_asked();
        metadata.request_refresh();
        assert_eq!(metadata.deadline(), None);
    }

    #[test]
    fn a_refresh_wished_while_asking_leads_to_another_question() {
        let mut metadata = wanting();
        metadata.on_asked();
        metadata.request_refresh();
        metadata.on_answer(&answer(vec![row(0, 1, &[(1, 0)])]), None, RETRY, AGED);
        assert_eq!(metadata.deadline(), Some(RETRY));
    }

    #[test]
    fn a_topic_wanted_while_asking_is_asked_for_at_once() {
        let mut metadata = wanting();
        metadata.on_asked();
        metadata.want(TopicIndex(1), "other".into(), NOW);
        metadata.on_answer(&answer(vec![row(0, 1, &[(1, 0)])]), None, RETRY, AGED);
        assert!(metadata.is_due(NOW));
    }

    #[rstest]
    #[case::known(row(0, 1, &[(1, 0)]), AGED, 0)]
    #[case::leaderless(row(0, 1, &[(-1, 0)]), RETRY, 1)]
    #[case::being_created(row(3, 0, &[]), RETRY, 1)]
    #[case::refused(row(29, 0, &[]), AGED, 0)]
    fn what_is_missing_is_asked_again_soon(
        #[case] row: TopicAnswer,
        #[case] next: Instant,
        #[case] failures: u32,
    ) {
        let mut metadata = wanting();
        learn(&mut metadata, row);
        assert_eq!(
            (metadata.deadline(), metadata.failures()),
            (Some(next), failures)
        );
    }

    #[test]
    fn a_refresh_waits_for_the_back_off_since_the_last_answer() {
        let mut metadata = wanting();
        learn(&mut metadata, row(0, 1, &[(1, 0)]));
        metadata.request_refresh();
        assert_eq!(metadata.deadline(), Some(RETRY));
    }

    #[rstest]
    #[case::newer(1, (2, 6), (Some(2), Some(6)))]
    #[case::same(1, (2, 5), (Some(2), Some(5)))]
    #[case::older(1, (2, 4), (Some(1), Some(5)))]
    #[case::older_of_a_recreated_topic(2, (2, 0), (Some(2), Some(0)))]
    #[case::older_without_an_id(0, (2, 4), (Some(1), Some(5)))]
    #[case::newer_without_an_id(0, (2, 6), (Some(2), Some(6)))]
    #[case::without_epoch(1, (2, -1), (Some(2), None))]
    fn a_leader_epoch_never_goes_back(
        #[case] id: u8,
        #[case] told: (i32, i32),
        #[case] known: (Option<i32>, Option<i32>),
    ) {
        let mut metadata = wanting();
        learn(&mut metadata, row(0, 1, &[(1, 5)]));
        learn(&mut metadata, row(0, id, &[told]));
        assert_eq!(leader(&metadata), known);
    }

    /// A broker that tells ids may lag behind one that is too old for them.
    #[test]
    fn the_first_id_told_is_that_of_the_topic_known_without() {
        let mut metadata = wanting();
        learn(&mut metadata, row(0, 0, &[(1, 5)]));
        learn(&mut metadata, row(0, 1, &[(2, 4)]));
        assert_eq!(leader(&metadata), (Some(1), Some(5)));
        learn(&mut metadata, row(0, 2, &[(2, 0)]));
        assert_eq!(leader(&metadata), (Some(2), Some(0)), "another topic");
    }

    #[rstest]
    #[case::newer(6, true)]
    #[case::same(5, false)]
    #[case::older(4, false)]
    fn a_hint_counts_with_a_newer_epoch_alone(#[case] epoch: i32, #[case] news: bool) {
        let mut metadata = wanting();
        learn(&mut metadata, row(0, 1, &[(1, 5)]));
        let hint = Leadership {
            leader: Some(BrokerId(2)),
            epoch: Some(LeaderEpoch(epoch)),
        };
        let partition = TopicPartition {
            topic: TOPIC,
            partition: 0,
        };
        assert_eq!(metadata.on_hint(partition, hint), news);
        assert_eq!(leader(&metadata).0, Some(if news { 2 } else { 1 }));
    }

    #[test]
    fn a_view_that_stays_the_same_is_no_change() {
        let mut metadata = wanting();
        assert_eq!(learn(&mut metadata, row(0, 1, &[(1, 0)])), [TOPIC]);
        assert_eq!(learn(&mut metadata, row(0, 1, &[(1, 0)])), []);
        assert_eq!(learn(&mut metadata, row(0, 1, &[(2, 1)])), [TOPIC]);
    }

    #[test]
    fn a_rack_told_later_changes_the_view() {
        let mut metadata = wanting();
        learn(&mut metadata, row(0, 1, &[(1, 0), (-1, 0)]));
        let mut told = answer(vec![row(0, 1, &[(1, 0), (-1, 0)])]);
        told.racks.insert(BrokerId(1), "west".into());
        for news in [&[TOPIC][..], &[]] {
            metadata.on_asked();
            let changes = metadata.on_answer(&told, None, RETRY, AGED);
            assert_eq!(changes.topics, news);
        }
        let led = PartitionView {
            leader: Some(BrokerId(1)),
            leader_rack: Some("west".into()),
            replicas: Arc::default(),
        };
        let expected = TopicView::Known {
            partitions: vec![led, PartitionView::default()],
        };
        assert_eq!(metadata.view(TOPIC), expected);
    }

    #[test]
    fn a_deleted_topic_keeps_its_partitions_without_leaders() {
        let mut metadata = wanting();
        learn(&mut metadata, row(0, 1, &[(1, 0), (1, 0)]));
        assert_eq!(learn(&mut metadata, row(3, 0, &[])), [TOPIC]);
        let expected = TopicView::Known {
            partitions: vec![PartitionView::default(); 2],
        };
        assert_eq!(metadata.view(TOPIC), expected);
    }

    #[test]
    fn who_keeps_a_partition_is_told_as_the_answer_of_its_epoch_has_it() {
        let mut metadata = wanting();
        let with = |epoch, in_sync: &[i32]| {
            let mut row = row(0, 1, &[(1, epoch)]);
            let in_sync = in_sync.iter().map(|id| BrokerId(*id)).collect();
            row.partitions[0].replicas.in_sync = in_sync;
            row
        };
        let in_sync = |metadata: &Metadata| match metadata.view(TOPIC) {
            TopicView::Known { partitions } => partitions[0].replicas.in_sync.clone(),
            other => panic!("{other:?}"),
        };
        learn(&mut metadata, with(5, &[1, 2, 3]));
        assert_eq!(learn(&mut metadata, with(5, &[1, 2])), [TOPIC], "news");
        assert_eq!(learn(&mut metadata, with(5, &[1, 2])), []);
        assert_eq!(
            learn(&mut metadata, with(4, &[1])),
            [],
            "a broker that lags"
        );
        assert_eq!(in_sync(&metadata), [BrokerId(1), BrokerId(2)]);
    }

    /// A hostile or garbled answer must not make the table as large as its largest index.
    #[test]
    fn a_partition_beyond_the_count_is_not_kept() {
        let mut metadata = wanting();
        let mut bad = row(0, 1, &[(1, 0)]);
        bad.partitions[0].index = i32::MAX;
        learn(&mut metadata, bad);
        assert_eq!(
            metadata.view(TOPIC),
            TopicView::Known {
                partitions: vec![PartitionView::default()]
            }
        );
    }

    #[test]
    fn an_answer_about_another_topic_changes_nothing() {
        let mut metadata = wanting();
        let mut other = row(0, 1, &[(1, 0)]);
        other.name = Some("other".into());
        assert_eq!(learn(&mut metadata, other), []);
        assert_eq!(
            metadata.view(TOPIC),
            TopicView::Pending { last_failure: None }
        );
    }

    #[test]
    fn a_lost_question_is_asked_again() {
        let mut metadata = wanting();
        metadata.on_asked();
        metadata.on_lost(RETRY);
        assert_eq!((metadata.deadline(), metadata.failures()), (Some(RETRY), 1));
    }
}
