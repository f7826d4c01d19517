//! A recording: what a broker answered, case by case, as JSON lines.
//!
//! ```text
//! {"recording of":"Apache Kafka 4.3.1","format":1}
//! {"case":"FRM-01","exchanges":1}
//! {"connection":1,"ask":"Metadata v13","request":{…},"answer":{…}}
//! {"case":"MD-07","not recorded":"the target lacks three brokers"}
//! ```
//!
//! A case's exchanges follow its line; an answer that equals an earlier one of the case is written
//! as `{"as in step":1}`. Fields stand in the order of the alphabet and placeholders
//! (`rule.rs`) in place of what differs from run to run, so that two recordings of one release are
//! the same text.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::exchange::Exchange;

/// Of this form.
const FORMAT: u32 = 1;

/// What a broker answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The release that answered.
    pub broker: String,
    /// In the order of the registry.
    pub cases: Vec<RecordedCase>,
}

/// What a broker answered to one case.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedCase {
    /// The case's id.
    pub id: String,
    /// Its exchanges, or why there are none.
    pub exchanges: Result<Vec<Exchange>, String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Head {
    #[serde(rename = "recording of")]
    broker: String,
    format: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct CaseLine {
    case: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanges: Option<usize>,
    #[serde(rename = "not recorded", skip_serializing_if = "Option::is_none")]
    not_recorded: Option<String>,
}

/// A text that is no recording.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RecordingError {
    line: usize,
    reason: String,
}

impl Recording {
    /// The case with that id.
    pub fn case(&self, id: &str) -> Option<&RecordedCase> {
        self.cases.iter().find(|case| case.id == id)
    }

    /// Writes the recording.
    ///
    /// # Errors
    ///
    /// When `out` does.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = Head {
            broker: self.broker.clone(),
            format: FORMAT,
        };
        write_line(&head, out)?;
        for case in &self.cases {
            let exchanges = case.exchanges.as_ref();
            let line = CaseLine {
                case: case.id.clone(),
                exchanges: exchanges.ok().map(Vec::len),
                not_recorded: exchanges.err().cloned(),
            };
            write_line(&line, out)?;
            for exchange in shorter(exchanges.map_or(&[], Vec::as_slice)) {
                write_line(&exchange, out)?;
            }
        }
        Ok(())
    }

    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// When a line is not what it should be, or one is missing.
    pub fn read(text: &str) -> Result<Self, RecordingError> {
        let mut lines = Lines {
            lines: text.lines(),
            line: 0,
        };
        let head: Head = lines
            .next()?
            .ok_or_else(|| lines.error("an empty recording".to_owned()))?;
        if head.format != FORMAT {
            return Err(lines.error(format!("format {}, not {FORMAT}", head.format)));
        }
        let mut cases = Vec::new();
        while let Some(case) = lines.next::<CaseLine>()? {
            let exchanges = match (case.exchanges, case.not_recorded) {
                (Some(count), None) => Ok(lines.exchanges(count)?),
                (None, Some(reason)) => Err(reason),
                _ => return Err(lines.error("either exchanges or a reason".to_owned())),
            };
            cases.push(RecordedCase {
                id: case.case,
                exchanges,
            });
        }
        Ok(Self {
            broker: head.broker,
            cases,
        })
    }
}

struct Lines<'a> {
    lines: std::str::Lines<'a>,
    line: usize,
}

impl Lines<'_> {
    fn error(&self, reason: String) -> RecordingError {
        RecordingError {
            line: self.line,
            reason,
        }
    }

    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, RecordingError> {
        let Some(text) = self.lines.next() else {
            return Ok(None);
        };
        self.line += 1;
        match serde_json::from_str(text) {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(self.error(error.to_string())),
        }
    }

    fn exchanges(&mut self, count: usize) -> Result<Vec<Exchange>, RecordingError> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for _ in 0..count {
            let exchange: Option<Exchange> = self.next()?;
            let missing = || self.error("an exchange is missing".into());
            let mut exchange = exchange.ok_or_else(missing)?;
            if let Some(step) = exchange.answer.get(SAME) {
                let step = step.as_u64().and_then(|step| usize::try_from(step).ok());
                let same = step.and_then(|step| exchanges.get(step.checked_sub(1)?));
                let no_step = || self.error("no such step".into());
                exchange.answer = same.ok_or_else(no_step)?.answer.clone();
            }
            exchanges.push(exchange);
        }
        Ok(exchanges)
    }
}

/// Says which step had the same answer.
const SAME: &str = "as in step";

/// The exchanges with each answer written once: a case often asks the same again.
fn shorter(exchanges: &[Exchange]) -> Vec<Exchange> {
    /// Shorter answers are as easily read themselves.
    const CHARS_MIN: usize = 100;
    let mut first = BTreeMap::new();
    let mut shorter = exchanges.to_vec();
    for (step, exchange) in (1_usize..).zip(&mut shorter) {
        let answer = exchange.answer.to_string();
        if answer.len() < CHARS_MIN {
            continue;
        }
        match first.get(&answer) {
            Some(&step) => exchange.answer = json!({ SAME: step }),
            None => {
                first.insert(answer, step);
            }
        }
    }
    shorter
}

fn write_line(line: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn recording() -> Recording {
        let exchange = Exchange {
            connection: 1,
            ask: "Metadata v13".into(),
            request: json!({"topics": null}),
            answer: json!({"topics": vec!["a"; 50]}),
        };
        let case = |id: &str, exchanges| RecordedCase {
            id: id.into(),
            exchanges,
        };
        Recording {
            broker: "Apache Kafka 4.3.1".into(),
            cases: vec![
                case("FRM-01", Ok(vec![exchange.clone(), exchange])),
                case("MD-07", Err("the target lacks three brokers".into())),
                case("FRM-02", Ok(Vec::new())),
            ],
        }
    }

    fn written() -> String {
        let mut out = Vec::new();
        recording().write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_equal_and_an_answer_is_written_once() {
        assert_eq!(written().matches("as in step").count(), 1);
        assert_eq!(Recording::read(&written()).unwrap(), recording());
        assert!(
            recording()
                .case("MD-07")
                .is_some_and(|case| case.exchanges.is_err())
        );
    }

    #[rstest]
    #[case("", 0, "an empty recording")]
    #[case("{\"recording of\":\"x\",\"format\":9}", 1, "format 9, not 1")]
    #[case("{\"recording of\":\"x\",\"format\":1}\n{}", 2, "missing field `case`")]
    #[case(
        "{\"recording of\":\"x\",\"format\":1}\n{\"case\":\"A\"}",
        2,
        "either exchanges"
    )]
    #[case(
        "{\"recording of\":\"x\",\"format\":1}\n{\"case\":\"A\",\"exchanges\":1}",
        2,
        "missing"
    )]
    fn bad_text_is_refused_with_its_line(
        #[case] text: &str,
        #[case] line: usize,
        #[case] reason: &str,
    ) {
        let error = Recording::read(text).unwrap_err();
        assert_eq!(error.line, line);
        assert!(error.reason.contains(reason), "{error}");
    }
}
