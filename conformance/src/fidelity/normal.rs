//! Exchanges made comparable: what a [`Rule`] covers becomes a placeholder.

use std::collections::BTreeSet;

use serde_json::Value;

use super::exchange::Exchange;
use super::rule::{Rule, Uses};
use crate::wire::Request;
use crate::wire::answer::Metadata;

/// What a placeholder needs to know of a case and its run.
#[derive(Clone, Copy, Debug)]
pub struct CaseOf<'a> {
    /// The case's id.
    pub id: &'a str,
    /// The run's part of topic names.
    pub run_id: &'a str,
    /// The wall clock when the case ran, milliseconds since 1970.
    pub now_ms: i64,
}

/// Replaces what rules cover, and says how often each was used.
pub fn normalise(case: CaseOf<'_>, exchanges: &mut [Exchange]) -> Uses {
    let mut normaliser = Normaliser {
        case,
        topic_ids: Vec::new(),
        own_topic_ids: BTreeSet::new(),
        producer_ids: Vec::new(),
        member_ids: Vec::new(),
        times: Vec::new(),
        nodes: Vec::new(),
        uses: Uses::default(),
    };
    for exchange in exchanges {
        normaliser.value(Side::Request, "", &mut exchange.request);
        shorten(&mut exchange.request);
        normaliser.answer(exchange);
    }
    normaliser.uses
}

/// Elements of a request's list that are shown; of those after them there is a checksum. What is
/// answered is compared row by row, what was asked only has to be the same.
const ASKED_SHOWN_MAX: usize = 8;

fn shorten(request: &mut Value) {
    match request {
        Value::Array(list) => {
            if list.len() > ASKED_SHOWN_MAX {
                let rest = list.split_off(ASKED_SHOWN_MAX);
                let count = rest.len();
                let checksum = crc32c::crc32c(Value::Array(rest).to_string().as_bytes());
                list.push(format!("{count} more, checksum {checksum:08x}").into());
            }
            list.iter_mut().for_each(shorten);
        }
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| shorten(value)),
        _ => {}
    }
}

struct Normaliser<'a> {
    case: CaseOf<'a>,
    /// Given by the broker, in the order of their appearance.
    topic_ids: Vec<String>,
    /// Made up by the case: they appeared in a request first.
    own_topic_ids: BTreeSet<String>,
    producer_ids: Vec<i64>,
    member_ids: Vec<String>,
    times: Vec<i64>,
    nodes: Vec<i64>,
    uses: Uses,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Request,
    Answer,
}

const ERROR_CODE: &str = "error code";
const PRODUCER_ID: &str = "producer id";
/// What stands in place of the run's id.
const RUN: &str = "RUN";
const NO_ID: &str = "00000000000000000000000000000000";
/// Times further from the run than this are the case's own numbers.
const TIME_WITHIN_MS: i64 = 400 * 86_400_000;

impl Normaliser<'_> {
    fn answer(&mut self, exchange: &mut Exchange) {
        let is_metadata = exchange.ask.starts_with(Metadata::NAME);
        if is_metadata {
            self.learn_nodes(&exchange.answer);
            if exchange.request["topics"].is_null() {
                self.drop_other_topics(&mut exchange.answer);
            }
        }
        self.value(Side::Answer, "", &mut exchange.answer);
    }

    /// Nodes are numbered by their ids, not by the order of an answer.
    fn learn_nodes(&mut self, answer: &Value) {
        let brokers = answer["brokers"].as_array().into_iter().flatten();
        let mut ids: Vec<i64> = brokers
            .filter_map(|broker| broker["broker id"].as_i64())
            .collect();
        ids.sort_unstable();
        for id in ids {
            if !self.nodes.contains(&id) {
                self.nodes.push(id);
            }
        }
    }

    fn drop_other_topics(&mut self, answer: &mut Value) {
        let Some(topics) = answer.get_mut("topics").and_then(Value::as_array_mut) else {
            return;
        };
        let CaseOf { id, run_id, .. } = self.case;
        let own = format!("conformance-{run_id}-{}-", id.to_ascii_lowercase());
        let count = topics.len();
        topics.retain(|topic| {
            let name = topic["topic name"].as_str();
            name.is_some_and(|name| name.starts_with(&own))
        });
        let dropped = count - topics.len();
        let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
        self.uses.note_times(Rule::OtherTopics, dropped);
    }

    fn value(&mut self, side: Side, field: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // Where there is no transaction, Kafka tells 0 of it, which is an id too.
                let refused = fields.get(ERROR_CODE).is_some_and(|code| *code != 0);
                for (name, value) in fields {
                    if !(refused && name == PRODUCER_ID && *value == 0) {
                        self.value(side, name, value);
                    }
                }
            }
            Value::Array(list) => {
                list.iter_mut()
                    .for_each(|item| self.value(side, field, item));
                if matches!(field, "topics" | "partitions") {
                    self.order(list);
                }
            }
            Value::String(text) => {
                if let Some(other) = self.text(side, field, text) {
                    *text = other;
                }
            }
            Value::Number(number) => {
                let number = number.as_i64();
                if let Some(other) = number.and_then(|number| self.number(side, field, number)) {
                    *value = other.into();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn order(&mut self, list: &mut [Value]) {
        if !list.is_sorted_by_key(ToString::to_string) {
            list.sort_by_cached_key(ToString::to_string);
            self.uses.note(Rule::RowOrder);
        }
    }

    fn text(&mut self, side: Side, field: &str, text: &str) -> Option<String> {
        match field {
            "topic id" => return self.topic_id(side, text),
            "member id" | "leader member id" => return self.member_id(side, text),
            "cluster id" => return Some(self.placeholder(Rule::ClusterId, "cluster id")),
            "broker host" => return Some(self.placeholder(Rule::Address, "host")),
            _ => {}
        }
        let mut changed = text.replace(self.case.run_id, RUN);
        if changed != text {
            self.uses.note(Rule::RunId);
        }
        if field.ends_with("message") {
            let without_times = without_times(&changed);
            if without_times != changed {
                self.uses.note(Rule::TimeInWords);
                changed = without_times;
            }
        }
        (changed != text).then_some(changed)
    }

    fn number(&mut self, side: Side, field: &str, number: i64) -> Option<String> {
        match field {
            PRODUCER_ID | "producers" => self.producer_id(side, number),
            "finalized features epoch" if number >= 0 => {
                Some(self.placeholder(Rule::FeaturesEpoch, "features epoch"))
            }
            "broker port" => Some(self.placeholder(Rule::Address, "port")),
            "broker id" | "controller id" | "leader id" | "replica" | "replicas"
            | "in-sync replicas" | "offline replicas" => {
                let place = self.nodes.iter().position(|&known| known == number)?;
                Some(self.placeholder(Rule::NodeId, &format!("node {}", place + 1)))
            }
            "base timestamp" | "max timestamp" | "timestamp" | "log append time" | "start time"
            | "last timestamp" => self.time(side, number),
            _ => None,
        }
    }

    fn placeholder(&mut self, rule: Rule, text: &str) -> String {
        self.uses.note(rule);
        format!("<{text}>")
    }

    fn topic_id(&mut self, side: Side, id: &str) -> Option<String> {
        if id == NO_ID {
            return None;
        }
        let place = match self.topic_ids.iter().position(|known| known == id) {
            Some(place) => place,
            None if side == Side::Request || self.own_topic_ids.contains(id) => {
                self.own_topic_ids.insert(id.to_owned());
                return None;
            }
            None => {
                self.topic_ids.push(id.to_owned());
                self.topic_ids.len() - 1
            }
        };
        Some(self.placeholder(Rule::TopicId, &format!("topic id {}", place + 1)))
    }

    fn producer_id(&mut self, side: Side, id: i64) -> Option<String> {
        let known = self.producer_ids.iter().position(|&known| known == id);
        let place = match (known, side) {
            (Some(place), _) => place,
            (None, Side::Answer) if id >= 0 => {
                self.producer_ids.push(id);
                self.producer_ids.len() - 1
            }
            (None, _) => return None,
        };
        Some(self.placeholder(Rule::ProducerId, &format!("producer {}", place + 1)))
    }

    /// A name that a case made up appears in a request first, and stays.
    fn member_id(&mut self, side: Side, id: &str) -> Option<String> {
        let known = self.member_ids.iter().position(|known| known == id);
        let place = match (known, side) {
            (Some(place), _) => place,
            (None, Side::Answer) if !id.is_empty() => {
                self.member_ids.push(id.to_owned());
                self.member_ids.len() - 1
            }
            (None, _) => return None,
        };
        Some(self.placeholder(Rule::MemberId, &format!("member {}", place + 1)))
    }

    fn time(&mut self, side: Side, time: i64) -> Option<String> {
        if time.abs_diff(self.case.now_ms) > TIME_WITHIN_MS.unsigned_abs() {
            return None;
        }
        let known = self.times.iter().position(|&known| known == time);
        let place = match (known, side) {
            (Some(place), _) => place,
            (None, Side::Request) => {
                self.times.push(time);
                self.times.len() - 1
            }
            (None, Side::Answer) => {
                return Some(self.placeholder(Rule::BrokerTime, "broker time"));
            }
        };
        Some(self.placeholder(Rule::SentTime, &format!("time {}", place + 1)))
    }
}

/// Digits of a time: milliseconds since 1970 have 13, what is computed from the largest limit 19.
const TIME_DIGITS_MIN: usize = 13;

/// `text` with a placeholder for every number that long.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    // A last character that is no digit ends the last number.
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        match digits.len() < TIME_DIGITS_MIN {
            true => out.push_str(&digits),
            false => out.push_str("<time>"),
        }
        digits.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn normal(request: Value, answer: Value) -> (Value, Value, Uses) {
        let mut exchanges = [Exchange {
            connection: 1,
            ask: "Metadata v12".into(),
            request,
            answer,
        }];
        let case = CaseOf {
            id: "MD-01",
            run_id: "019-7",
            now_ms: NOW_MS,
        };
        let uses = normalise(case, &mut exchanges);
        let [exchange] = exchanges;
        (exchange.request, exchange.answer, uses)
    }

    #[test]
    fn one_id_in_place_of_another_stays_a_difference() {
        let id = |digit: &str| digit.repeat(32);
        let answer = json!({"a": {"topic id": id("a"), "producer id": 7},
                            "b": {"topic id": id("b"), "producer id": 9},
                            "c": {"topic id": id("a"), "producer id": 9},
                            "d": {"topic id": id("0"), "producer id": -1}});
        let (_, answer, uses) = normal(json!({"topics": []}), answer);
        let expected = json!({"a": {"topic id": "<topic id 1>", "producer id": "<producer 1>"},
                              "b": {"topic id": "<topic id 2>", "producer id": "<producer 2>"},
                              "c": {"topic id": "<topic id 1>", "producer id": "<producer 2>"},
                              "d": {"topic id": id("0"), "producer id": -1}});
        assert_eq!(answer, expected);
        assert_eq!((uses.of(Rule::TopicId), uses.of(Rule::ProducerId)), (3, 3));
    }

    #[test]
    fn one_member_in_place_of_another_stays_a_difference() {
        let answer = json!({"a": {"member id": "m-7", "leader member id": "m-9"},
                            "b": {"member id": "m-9"}, "c": {"member id": ""}});
        let (request, answer, uses) = normal(json!({"member id": "stranger"}), answer);
        assert_eq!(request, json!({"member id": "stranger"}));
        let expected = json!({"a": {"member id": "<member 2>", "leader member id": "<member 1>"},
                              "b": {"member id": "<member 1>"}, "c": {"member id": ""}});
        assert_eq!((answer, uses.of(Rule::MemberId)), (expected, 3));
    }

    #[test]
    fn what_a_refusal_tells_of_no_transaction_is_no_id() {
        let answer = json!({"a": {"error code": 105, "producer id": 0},
                            "b": {"error code": 0, "producer id": 0}});
        let (_, answer, _) = normal(json!({}), answer);
        let expected = json!({"a": {"error code": 105, "producer id": 0},
                              "b": {"error code": 0, "producer id": "<producer 1>"}});
        assert_eq!(answer, expected);
    }

    #[test]
    fn ids_that_the_case_made_up_are_compared_as_they_are() {
        let id = json!({"topic id": "ab".repeat(16), "producer id": 5});
        let (request, answer, _) = normal(id.clone(), json!({"topic id": "ab".repeat(16)}));
        assert_eq!(
            (request, answer),
            (id, json!({"topic id": "ab".repeat(16)}))
        );
    }

    #[test]
    fn times_that_were_sent_are_told_from_the_brokers_and_from_other_numbers() {
        let request = json!({"batch": {"base timestamp": NOW_MS, "max timestamp": NOW_MS + 5}});
        let row = |time: i64| json!({"log append time": time});
        let answer = json!({"r": [row(NOW_MS + 5), row(NOW_MS + 6), row(-1), row(500)]});
        let (_, answer, _) = normal(request, answer);
        let expected = json!({"r": [{"log append time": "<time 2>"},
            {"log append time": "<broker time>"}, {"log append time": -1},
            {"log append time": 500}]});
        assert_eq!(answer, expected);
    }

    #[test]
    fn rows_are_sorted_and_the_topics_of_others_are_left_out_of_a_list_of_all() {
        let topic = |name: &str| json!({"topic name": name, "partitions": [2, 1]});
        let names = [
            "__own",
            "conformance-019-7-md-01-1",
            "conformance-019-7-md-01-0",
        ];
        let answer = json!({"topics": names.map(topic)});
        let (_, all, uses) = normal(json!({"topics": null}), answer.clone());
        let sorted = |name: &str| json!({"topic name": name, "partitions": [1, 2]});
        let own = ["conformance-RUN-md-01-0", "conformance-RUN-md-01-1"];
        assert_eq!(all["topics"], json!(own.map(sorted)));
        assert_eq!(
            (uses.of(Rule::OtherTopics), uses.of(Rule::RowOrder)),
            (1, 3)
        );
        let (_, asked, _) = normal(json!({"topics": ["x"]}), answer);
        assert_eq!(asked["topics"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn long_list_of_a_request_is_cut_and_still_tells_what_it_was() {
        let asked = |last: i64| json!({"rows": [0, 1, 2, 3, 4, 5, 6, 7, 8, last]});
        let (cut, answer, _) = normal(asked(9), asked(9));
        assert_eq!(answer, asked(9), "an answer is not cut");
        let rows = cut["rows"].as_array().map(Vec::len);
        assert_eq!(rows, Some(ASKED_SHOWN_MAX + 1));
        assert_ne!(cut, normal(asked(10), Value::Null).0);
    }

    #[test]
    fn nodes_and_addresses_keep_who_is_who() {
        let broker = |id| json!({"broker id": id, "broker host": "h", "broker port": id});
        let answer = json!({"brokers": [broker(3), broker(2)], "controller id": 3,
                            "p": {"leader id": -1, "replicas": [2, 3, 9]}});
        let (_, answer, _) = normal(json!({"topics": []}), answer);
        assert_eq!(answer["controller id"], "<node 2>");
        assert_eq!(
            answer["p"],
            json!({"leader id": -1, "replicas": ["<node 1>", "<node 2>", 9]})
        );
        assert_eq!(answer["brokers"][0]["broker port"], "<port>");
    }

    #[test]
    fn numbers_in_words_are_times_if_they_are_long() {
        let text = "Timestamp 1795300343672 of message with offset 12 within [-922337203685477";
        let expected = "Timestamp <time> of message with offset 12 within [-<time>";
        assert_eq!(without_times(text), expected);
        assert_eq!(without_times("179530034367"), "179530034367");
    }
}
