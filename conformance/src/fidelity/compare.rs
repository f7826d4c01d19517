//! One case's exchanges held against the recorded ones, field by field.
//!
//! *Invariants*
//! 1. Every field of request and answer is compared; one that only one side has is a difference.
//! 2. Requests that differ mean that the case has changed since it was recorded. Nothing after the
//!    first such exchange is compared, since one step off everything differs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::exchange::Exchange;

/// One field that the two sides have differently.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Which exchange of the case, from 1.
    pub step: usize,
    /// API and version.
    pub ask: String,
    /// Where in the answer, such as `topics[0].error code`.
    pub field: String,
    /// What the recording says.
    pub recorded: String,
    /// What the target says.
    pub observed: String,
}

/// How often a field was compared, and how often it differed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Times compared.
    pub compared: u64,
    /// Times different.
    pub different: u64,
}

/// What came of comparing a case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Comparison {
    /// Exchanges compared.
    pub exchanges: usize,
    /// By API and field, without indexes, such as (`Produce`, `topics[].error code`).
    pub fields: BTreeMap<(String, String), Tally>,
    /// In order.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Fields compared in all.
    pub fn compared(&self) -> u64 {
        self.fields.values().map(|tally| tally.compared).sum()
    }
}

/// Holds `observed` against `recorded`.
pub fn compare(recorded: &[Exchange], observed: &[Exchange]) -> Comparison {
    let mut comparison = Comparison::default();
    for (index, recorded) in recorded.iter().enumerate() {
        let step = index + 1;
        let Some(observed) = observed.get(index) else {
            let missing = (recorded.ask.clone(), "nothing more".to_owned());
            comparison.changed(step, recorded, missing);
            return comparison;
        };
        if let Some(changed) = change_of(recorded, observed) {
            comparison.changed(step, recorded, changed);
            return comparison;
        }
        let mut walk = Walk {
            step,
            ask: &recorded.ask,
            comparison: &mut comparison,
        };
        walk.values("", &recorded.answer, &observed.answer);
        comparison.exchanges += 1;
    }
    if let Some(more) = observed.get(recorded.len()) {
        let changed = ("nothing more".to_owned(), more.ask.clone());
        comparison.changed(recorded.len() + 1, more, changed);
    }
    comparison
}

/// How the request differs, if it does: recorded and observed.
fn change_of(recorded: &Exchange, observed: &Exchange) -> Option<(String, String)> {
    let asked = |exchange: &Exchange| {
        let Exchange {
            connection, ask, ..
        } = exchange;
        format!("{ask} on connection {connection}: {}", exchange.request)
    };
    let (recorded, observed) = (asked(recorded), asked(observed));
    (recorded != observed).then_some((recorded, observed))
}

impl Comparison {
    fn changed(
        &mut self,
        step: usize,
        exchange: &Exchange,
        (recorded, observed): (String, String),
    ) {
        self.differences.push(Difference {
            step,
            ask: exchange.ask.clone(),
            field: "the request itself (record the case anew)".to_owned(),
            recorded,
            observed,
        });
    }
}

struct Walk<'a> {
    step: usize,
    ask: &'a str,
    comparison: &'a mut Comparison,
}

impl Walk<'_> {
    fn values(&mut self, path: &str, recorded: &Value, observed: &Value) {
        match (recorded, observed) {
            (Value::Object(recorded), Value::Object(observed)) => {
                let mut names: Vec<&String> = recorded.keys().chain(observed.keys()).collect();
                names.sort();
                names.dedup();
                for name in names {
                    let path = match path {
                        "" => name.clone(),
                        path => format!("{path}.{name}"),
                    };
                    self.sides(&path, recorded.get(name), observed.get(name));
                }
            }
            (Value::Array(recorded), Value::Array(observed)) => {
                self.leaf(
                    &format!("{path}.length"),
                    &recorded.len().to_string(),
                    &observed.len().to_string(),
                );
                for (index, (recorded, observed)) in recorded.iter().zip(observed).enumerate() {
                    self.values(&format!("{path}[{index}]"), recorded, observed);
                }
            }
            (recorded, observed) => {
                self.leaf(path, &recorded.to_string(), &observed.to_string());
            }
        }
    }

    fn sides(&mut self, path: &str, recorded: Option<&Value>, observed: Option<&Value>) {
        match (recorded, observed) {
            (Some(recorded), Some(observed)) => self.values(path, recorded, observed),
            (recorded, observed) => {
                let text = |side: Option<&Value>| {
                    side.map_or_else(|| "no such field".to_owned(), Value::to_string)
                };
                self.leaf(path, &text(recorded), &text(observed));
            }
        }
    }

    fn leaf(&mut self, path: &str, recorded: &str, observed: &str) {
        let api = self.ask.split(" v").next().unwrap_or_default().to_owned();
        let field = match path {
            "" => "what became of it".to_owned(),
            path => without_indexes(path),
        };
        let tally = self.comparison.fields.entry((api, field)).or_default();
        tally.compared += 1;
        if recorded == observed {
            return;
        }
        tally.different += 1;
        self.comparison.differences.push(Difference {
            step: self.step,
            ask: self.ask.to_owned(),
            field: path.to_owned(),
            recorded: recorded.to_owned(),
            observed: observed.to_owned(),
        });
    }
}

fn without_indexes(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => {
                out.push_str("[]");
                inside = true;
            }
            ']' => inside = false,
            _ if inside => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exchange(ask: &str, answer: Value) -> Exchange {
        Exchange {
            connection: 1,
            ask: ask.into(),
            request: json!({"acks": 1}),
            answer,
        }
    }

    fn found(recorded: &[Exchange], observed: &[Exchange]) -> Vec<(usize, String)> {
        let differences = compare(recorded, observed).differences.into_iter();
        differences.map(|found| (found.step, found.field)).collect()
    }

    #[test]
    fn every_field_that_differs_is_named_and_every_field_is_counted() {
        let recorded = exchange("Produce v9", json!({"t": [{"code": 0, "x": null}], "n": 1}));
        let observed = exchange("Produce v9", json!({"t": [{"code": 6, "y": 1}], "n": 1}));
        let comparison = compare(std::slice::from_ref(&recorded), &[observed]);
        let fields: Vec<&str> = comparison
            .differences
            .iter()
            .map(|found| found.field.as_str())
            .collect();
        assert_eq!(fields, ["t[0].code", "t[0].x", "t[0].y"]);
        let codes = comparison.fields[&("Produce".to_owned(), "t[].code".to_owned())];
        let (compared, different) = (1, 1);
        assert_eq!(
            codes,
            Tally {
                compared,
                different
            }
        );
        assert_eq!(comparison.compared(), 5);
        let recorded = std::slice::from_ref(&recorded);
        let same = compare(recorded, recorded);
        assert_eq!((same.differences.len(), same.exchanges), (0, 1));
    }

    #[test]
    fn lists_of_other_length_and_other_endings_differ() {
        let recorded = [
            exchange("A v1", json!({"t": [1, 2]})),
            exchange("A v1", json!("silence")),
        ];
        let observed = [
            exchange("A v1", json!({"t": [1]})),
            exchange("A v1", json!({"t": []})),
        ];
        let expected = [(1, "t.length".to_owned()), (2, String::new())];
        assert_eq!(found(&recorded, &observed), expected);
    }

    #[test]
    fn case_that_asks_otherwise_is_compared_no_further() {
        let (one, other) = (exchange("A v1", json!(0)), exchange("A v2", json!(0)));
        let stale = "the request itself (record the case anew)".to_owned();
        let pair = [one.clone(), one.clone()];
        assert_eq!(found(&pair, &[other, one.clone()]), [(1, stale.clone())]);
        assert_eq!(found(&pair, &pair[..1]), [(2, stale.clone())]);
        assert_eq!(found(&pair[..1], &pair), [(2, stale)]);
    }
}
