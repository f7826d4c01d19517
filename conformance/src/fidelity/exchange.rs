//! What happened on a case's connections, as exchanges: a request and what became of it.
//!
//! *Invariants*
//! 1. Exchanges stand in the order of their requests, whichever connection they went over.
//! 2. An answer belongs to the first outstanding request of its connection that carries its
//!    correlation id; the requests it passes over asked for no answer.
//! 3. Nothing is dropped: an answer to no request is an exchange of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::io::transcript::{Event, Happening};
use crate::wire::hex;
use crate::wire::tree;

/// A request, and what became of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Exchange {
    /// Which connection of the case, by the order of their first requests.
    pub connection: usize,
    /// API and version, or what was sent that is no request.
    pub ask: String,
    /// What was asked, by the fields' names.
    pub request: Value,
    /// The answer by the fields' names, or one of the words of [`Ending`].
    pub answer: Value,
}

/// What became of a request that was not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The broker closed the connection.
    Closed,
    /// The judge waited, and nothing came.
    Silent,
    /// A later request was answered, this one was not.
    PassedOver,
    /// The case did not look.
    NotLookedAt,
}

impl Ending {
    fn word(self) -> &'static str {
        match self {
            Self::Closed => "the connection is closed",
            Self::Silent => "silence",
            Self::PassedOver => "no answer",
            Self::NotLookedAt => "not looked at",
        }
    }
}

/// Exchanges of which some are outstanding.
#[derive(Debug, Default)]
struct Pairing {
    exchanges: Vec<Exchange>,
    /// Numbers of connections as exchanges have them.
    connections: BTreeMap<usize, usize>,
    /// Requests without an ending, by connection: index, API, version, correlation id.
    outstanding: BTreeMap<usize, Vec<Outstanding>>,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    index: usize,
    api_key: i16,
    version: i16,
    correlation_id: i32,
}

/// The exchanges of a case, of its events.
pub fn exchanges(events: &[Event]) -> Vec<Exchange> {
    let mut pairing = Pairing::default();
    for event in events {
        let connection = event.connection;
        match &event.what {
            Happening::Asked(frame) => pairing.asked(connection, frame),
            Happening::SentRaw(what) => {
                let index = pairing.add(connection, what.clone(), Value::Null);
                pairing.wait(connection, (index, -1, -1, 0));
            }
            Happening::Answered(frame) => pairing.answered(connection, frame),
            Happening::Closed => pairing.closed(connection),
            Happening::Silent => pairing.silent(connection),
        }
    }
    pairing.exchanges
}

impl Pairing {
    fn add(&mut self, connection: usize, ask: String, request: Value) -> usize {
        let next = self.connections.len() + 1;
        let connection = *self.connections.entry(connection).or_insert(next);
        self.exchanges.push(Exchange {
            connection,
            ask,
            request,
            answer: Ending::NotLookedAt.word().into(),
        });
        self.exchanges.len() - 1
    }

    fn wait(&mut self, connection: usize, (index, api_key, version, id): (usize, i16, i16, i32)) {
        let outstanding = self.outstanding.entry(connection).or_default();
        outstanding.push(Outstanding {
            index,
            api_key,
            version,
            correlation_id: id,
        });
    }

    fn asked(&mut self, connection: usize, frame: &[u8]) {
        match tree::request(frame) {
            Some(asked) => {
                let ask = format!("{} v{}", asked.name(), asked.version);
                let index = self.add(connection, ask, asked.tree);
                let waits = (index, asked.api_key, asked.version, asked.correlation_id);
                self.wait(connection, waits);
            }
            None => {
                let request = json!({ "bytes": hex::digits(frame) });
                let index = self.add(connection, "a frame without a header".into(), request);
                self.wait(connection, (index, -1, -1, 0));
            }
        }
    }

    fn answered(&mut self, connection: usize, frame: &[u8]) {
        let outstanding = self.outstanding.entry(connection).or_default();
        let id = frame.first_chunk().map(|id| i32::from_be_bytes(*id));
        let place = outstanding
            .iter()
            .position(|asked| Some(asked.correlation_id) == id);
        let Some(place) = place else {
            let index = self.add(connection, "nothing".into(), Value::Null);
            self.exchanges[index].answer = json!({ "to no request": hex::digits(frame) });
            return;
        };
        let passed: Vec<Outstanding> = outstanding.drain(..=place).collect();
        for asked in &passed[..place] {
            self.exchanges[asked.index].answer = Ending::PassedOver.word().into();
        }
        let asked = passed[place];
        self.exchanges[asked.index].answer = answer_of(asked, frame);
    }

    /// What happens on a connection on which nothing is outstanding.
    fn unasked(&mut self, connection: usize, ending: Ending) {
        let index = self.add(connection, "nothing".into(), Value::Null);
        self.exchanges[index].answer = ending.word().into();
    }

    fn closed(&mut self, connection: usize) {
        let outstanding = self.outstanding.remove(&connection).unwrap_or_default();
        if outstanding.is_empty() {
            self.unasked(connection, Ending::Closed);
        }
        for (place, asked) in outstanding.iter().enumerate() {
            let ending = match place {
                0 => Ending::Closed,
                _ => Ending::PassedOver,
            };
            self.exchanges[asked.index].answer = ending.word().into();
        }
    }

    fn silent(&mut self, connection: usize) {
        let outstanding = self.outstanding.entry(connection).or_default();
        if outstanding.is_empty() {
            return self.unasked(connection, Ending::Silent);
        }
        for asked in outstanding {
            self.exchanges[asked.index].answer = Ending::Silent.word().into();
        }
    }
}

fn answer_of(asked: Outstanding, frame: &[u8]) -> Value {
    match tree::answer(asked.api_key, asked.version, frame) {
        Some(Ok(tree)) => tree,
        Some(Err(error)) => {
            json!({ "unreadable": error.to_string(), "bytes": hex::digits(frame) })
        }
        None => json!({ "bytes": hex::digits(frame) }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// InitProducerId v1 of a null client id, with that correlation id.
    fn ask(id: u8) -> Happening {
        let head = [0, 22, 0, 1, 0, 0, 0, id, 0xff, 0xff];
        Happening::Asked([&head[..], &[0xff, 0xff, 0, 0, 0, 9]].concat().into())
    }

    fn answer(id: u8) -> Happening {
        let mut frame = vec![0, 0, 0, id, 0, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 5, 0, 0]);
        Happening::Answered(frame.into())
    }

    fn answers(events: &[(usize, Happening)]) -> Vec<(usize, Value)> {
        let events: Vec<Event> = events
            .iter()
            .map(|(connection, what)| Event {
                connection: *connection,
                what: what.clone(),
            })
            .collect();
        let exchanges = exchanges(&events).into_iter();
        exchanges
            .map(|exchange| (exchange.connection, exchange.answer))
            .collect()
    }

    fn five() -> Value {
        json!({"throttle time": 0, "error code": 0, "producer id": 5, "producer epoch": 0})
    }

    #[test]
    fn answers_find_their_requests_and_show_what_they_passed_over() {
        let events = [(7, ask(1)), (7, ask(2)), (9, ask(1)), (7, answer(2))];
        let expected = [
            (1, json!("no answer")),
            (1, five()),
            (2, json!("not looked at")),
        ];
        assert_eq!(answers(&events), expected);
    }

    #[test]
    fn close_and_silence_are_answers_too() {
        let events = [(1, ask(1)), (1, Happening::Silent), (2, ask(1))];
        let more = [(2, Happening::Closed), (3, Happening::Silent)];
        let events = [&events[..], &more].concat();
        let expected = [
            (1, json!("silence")),
            (2, json!("the connection is closed")),
            (3, json!("silence")),
        ];
        assert_eq!(answers(&events), expected);
    }

    #[test]
    fn answer_to_no_request_and_bytes_that_do_not_read_are_shown() {
        let garbage = Happening::Answered(Bytes::from_static(&[0, 0, 0, 1, 9]));
        let found = answers(&[(1, ask(1)), (1, garbage.clone()), (1, garbage)]);
        assert!(found[0].1["unreadable"].is_string(), "{found:?}");
        assert_eq!(found[1].1, json!({"to no request": "0000000109"}));
    }
}
