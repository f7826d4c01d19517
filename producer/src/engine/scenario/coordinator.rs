//! The scripted coordinator's side of the wire: what a transactional id and a group are asked.
//!
//! It says yes to everything, with epochs that rise as a coordinator's do, unless codes are given.
//!
//! *Not here*: any rule of a coordinator.

use std::collections::{BTreeMap, VecDeque};

use super::peer::{Input, Output, Request};

/// What the coordinator answers.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    /// `transaction.version`, and the epoch of that agreement; `None` where brokers do not tell.
    pub(super) features: Option<(i64, i16)>,
    /// Codes for the next questions of an API; 0 when used up.
    pub(super) codes: BTreeMap<i16, VecDeque<i16>>,
    /// Which broker coordinates, and its port.
    pub(super) broker: (i32, u16),
    /// APIs that are not answered.
    pub(super) silent: Vec<i16>,
    id: i64,
    epoch: i16,
    /// What was said: one line for each question.
    pub(super) heard: Vec<String>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self {
            features: None,
            codes: BTreeMap::new(),
            broker: (2, 9002),
            silent: Vec::new(),
            id: 7,
            epoch: -1,
            heard: Vec::new(),
        }
    }

    /// Answers the next question of this API with these codes.
    pub(super) fn refuse(&mut self, api_key: i16, codes: &[i16]) {
        self.codes.entry(api_key).or_default().extend(codes);
    }

    /// The id's epochs are used up: the next answer gives another one.
    pub(super) fn exhaust(&mut self) {
        self.id += 1;
        self.epoch = -1;
    }

    /// Takes what was said.
    pub(super) fn take_heard(&mut self) -> Vec<String> {
        core::mem::take(&mut self.heard)
    }

    pub(super) fn answer(&mut self, request: &Request) -> Option<Vec<u8>> {
        let mut input = Input(&request.body);
        let codes = self.codes.get_mut(&request.api_key);
        let code = codes.and_then(VecDeque::pop_front).unwrap_or(0);
        let mut output = Output::answer_to(request);
        output.u8(0);
        let version = request.version;
        match request.api_key {
            10 => {
                let kind = ["group", "id"][usize::from(input.u8())];
                assert_eq!(input.varint(), 2, "one name");
                let name = input.text();
                self.heard.push(format!("find {kind} {name}"));
                let (id, port) = self.broker;
                output.i32(0).varint(2).text(&name).i32(id).text("broker");
                output.i32(i32::from(port)).i16(code).u8(0).u8(0).u8(0);
            }
            22 => {
                let (name, timeout_ms) = (input.text(), input.i32());
                let (held, epoch) = (input.i64(), input.i16());
                let line = format!("init {name} {timeout_ms} {held}/{epoch}");
                self.heard.push(line);
                self.epoch += i16::from(code == 0);
                output.i32(0).i16(code).i64(self.id).i16(self.epoch).u8(0);
            }
            24 => {
                let who = self.who(&mut input);
                let topics = read_topics(&mut input, |input| (input.i32(), String::new()));
                self.heard.push(format!("add {who} {topics:?}"));
                put_rows(output.i32(0), &topics, code);
            }
            25 => {
                let (who, group) = (self.who(&mut input), input.text());
                self.heard.push(format!("add {who} group {group}"));
                output.i32(0).i16(code).u8(0);
            }
            26 => {
                let who = self.who(&mut input);
                let decision = ["abort", "commit"][usize::from(input.u8())];
                self.heard.push(format!("{decision} v{version} {who}"));
                output.i32(0).i16(code);
                if version >= 5 {
                    self.epoch += i16::from(code == 0);
                    output.i64(self.id).i16(self.epoch);
                }
                output.u8(0);
            }
            28 => {
                let (name, group) = (input.text(), input.text());
                let epoch = (input.i64(), input.i16());
                let member = (input.i32(), input.text(), input.varint());
                assert_eq!(member.2, 0, "no instance id");
                let topics = read_topics(&mut input, |input| {
                    let partition = input.i32();
                    let offset = input.i64();
                    let _leader_epoch = input.i32();
                    assert_eq!(input.varint(), 0, "no metadata");
                    assert_eq!(input.u8(), 0, "no tags");
                    (partition, format!("={offset}"))
                });
                let line = format!("offsets v{version} {name} {group} {epoch:?} {topics:?}");
                self.heard.push(line);
                put_rows(output.i32(0), &topics, code);
            }
            other => panic!("the coordinator does not know api {other}"),
        }
        (!self.silent.contains(&request.api_key)).then_some(output.0)
    }

    fn who(&self, input: &mut Input<'_>) -> String {
        let name = input.text();
        format!("{name} {}/{}", input.i64(), input.i16())
    }
}

/// A topic with its partitions, each with what else was said of it.
type Topic = (String, Vec<(i32, String)>);

fn read_topics(
    input: &mut Input<'_>,
    read: impl Fn(&mut Input<'_>) -> (i32, String),
) -> Vec<Topic> {
    let topics = (1..input.varint()).map(|_| {
        let name = input.text();
        let partitions = (1..input.varint()).map(|_| read(input)).collect();
        assert_eq!(input.u8(), 0, "no tags behind a topic");
        (name, partitions)
    });
    topics.collect()
}

fn put_rows(output: &mut Output, topics: &[Topic], code: i16) {
    output.varint(topics.len() as u32 + 1);
    for (name, partitions) in topics {
        output.text(name).varint(partitions.len() as u32 + 1);
        for (partition, _) in partitions {
            output.i32(*partition).i16(code).u8(0);
        }
        output.u8(0);
    }
    output.u8(0);
}
