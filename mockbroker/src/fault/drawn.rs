//! Rules drawn from the whole vocabulary, for properties.

use core::time::Duration;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::rule::Rule;
use super::verdict::Verdict;
use crate::api::Api;
use crate::engine::effect::{BrokerId, ConnectionId};
use crate::error_code::ErrorCode;

/// Any rule that the builder methods can make.
pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    (on(), vec(word(), 0..12), verdict()).prop_map(|(on, words, verdict)| {
        let rule = on.map_or_else(Rule::on_any, Rule::on);
        let rule = words.into_iter().fold(rule, |rule, word| word.say(rule));
        rule.then(verdict)
    })
}

fn on() -> impl Strategy<Value = Option<Api>> {
    of(prop_oneof![0..80_i16, any::<i16>()].prop_map(Api::from_key))
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u32>(), 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| Duration::new(seconds.into(), nanos))
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let code = || any::<i16>().prop_map(ErrorCode);
    let drip = (any::<u32>(), duration()).prop_map(|(piece_bytes, pause)| Verdict::Drip {
        piece_bytes: usize::try_from(piece_bytes).unwrap(),
        pause,
    });
    prop_oneof![
        Just(Verdict::Pass),
        code().prop_map(Verdict::Answer),
        code().prop_map(Verdict::ApplyThenAnswer),
        Just(Verdict::ApplyThenLose),
        Just(Verdict::Swallow),
        duration().prop_map(Verdict::Delay),
        Just(Verdict::CloseBefore),
        Just(Verdict::CloseAfter),
        Just(Verdict::ResetBefore),
        Just(Verdict::ResetAfter),
        (0..usize::MAX).prop_map(Verdict::CutAfter),
        drip,
    ]
}

#[derive(Clone, Debug)]
enum Word {
    Version(i16),
    Broker(i32),
    Connection(u64),
    Topic(String),
    Partition(i32),
    ProducerId(i64),
    TransactionalId(String),
    Nth(u64),
    Count(u64),
    Always,
    Probability(f64),
    Seed(u64),
}

impl Word {
    fn say(self, rule: Rule) -> Rule {
        match self {
            Self::Version(version) => rule.version(version),
            Self::Broker(broker) => rule.broker(BrokerId(broker)),
            Self::Connection(connection) => rule.connection(ConnectionId(connection)),
            Self::Topic(topic) => rule.topic(topic),
            Self::Partition(partition) => rule.partition(partition),
            Self::ProducerId(producer_id) => rule.producer_id(producer_id),
            Self::TransactionalId(id) => rule.transactional_id(id),
            Self::Nth(nth) => rule.nth(nth),
            Self::Count(count) => rule.count(count),
            Self::Always => rule.always(),
            Self::Probability(probability) => rule.probability(probability),
            Self::Seed(seed) => rule.seed(seed),
        }
    }
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        any::<i16>().prop_map(Word::Version),
        any::<i32>().prop_map(Word::Broker),
        any::<u64>().prop_map(Word::Connection),
        any::<String>().prop_map(Word::Topic),
        any::<i32>().prop_map(Word::Partition),
        any::<i64>().prop_map(Word::ProducerId),
        any::<String>().prop_map(Word::TransactionalId),
        any::<u64>().prop_map(Word::Nth),
        any::<u64>().prop_map(Word::Count),
        Just(Word::Always),
        (0.0..=1.0).prop_map(Word::Probability),
        any::<u64>().prop_map(Word::Seed),
    ]
}
