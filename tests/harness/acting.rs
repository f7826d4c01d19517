//! What a producer wants of its world: connections, requests on their way, sends at their end; and
//! what its caller keeps: which sends were accepted, which flushes returned.
//!
//! *Invariants*
//! 1. A planted defect of a producer is at work here and in the tap, never in the engine.
//!
//! *Not here*: how long a frame travels (`link.rs`), what the cluster wants (`answers.rs`).

use bytes::Bytes;
use kafka_mockbroker::Api;
use kafka_mockbroker::engine::effect as broker;
use kafka_mockbroker::engine::topology::Process;
use kafka_producer::engine::effect::{
    Action, Address, BatchOutcome, ConnectionId, CorrelationId, Frame, Input,
};
use kafka_producer::{Failure, FailureKind, TopicIndex};

use crate::capture;
use crate::client::{BatchNumber, Connection, Outgoing, Outlet, SendNumber, without_size};
use crate::defect::{Defect, as_commit};
use crate::history::{Ending, FlushOp, FlushReturn, Partition, Resolution, SendOp};
use crate::link::{End, LinkId};
use crate::setting::Setting;
use crate::world::{ClientNumber, World};

/// The flushes of a run.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    all: Vec<FlushOp>,
    /// By place in `all`: how many sends it waits for.
    waiting: Vec<(usize, usize)>,
}

impl Flushes {
    pub(crate) fn all(&self) -> Vec<FlushOp> {
        self.all.clone()
    }
}

impl World {
    pub(crate) fn accepted(&mut self, client: ClientNumber, record: Outgoing) {
        let Outgoing {
            topic,
            partition,
            placed,
            content,
        } = record;
        let producer = u32::try_from(client.0).expect("a handful of producers");
        let partition = Partition {
            topic,
            number: partition,
        };
        self.note(format_args!(
            "producer {producer} accepts {:?} for {partition}",
            capture::Short(&content.value)
        ));
        let transaction = self.transaction_of(client);
        self.sends.push(SendOp {
            producer,
            partition,
            placed,
            content,
            transaction,
            at: self.now,
            resolutions: Vec::new(),
        });
        self.open_count += 1;
    }

    pub(crate) fn act(&mut self, client: ClientNumber, action: Action<BatchNumber>) {
        match action {
            Action::Connect {
                connection,
                address,
            } => self.connect(client, connection, &address),
            Action::Send {
                connection,
                correlation_id,
                frame,
            } => {
                self.write(client, (connection, correlation_id), &frame);
            }
            Action::Compress { id, plain } => {
                let (now, bytes) = (self.producer_now(), plain.len());
                self.note(format_args!(
                    "producer {} compresses {bytes} bytes",
                    client.0
                ));
                self.clients[client.0].compress(id, plain, now);
            }
            Action::Disconnect { connection } => {
                let end = self.clients[client.0].connections.remove(&connection);
                let Some(Connection { link, .. }) = end else {
                    // The engine gave it up in the round in which its end was heard of.
                    let late = !self.setting.lateness.max.is_zero();
                    return assert!(late, "{connection:?} is ended twice");
                };
                self.note(format_args!("{} is given up", self.named(link)));
                self.links.close(link, End::Client, self.now);
            }
            Action::Complete {
                completion,
                partition,
                outcome,
            } => {
                let place = (partition.topic, partition.partition);
                self.complete(client, place, (completion, outcome));
            }
            Action::Answered { id, answer } => self.answered(client, id, answer),
            Action::Doors(doors) => self.set_doors(client, doors),
            Action::TopicChanged { .. } | Action::Report(_) => {}
        }
    }

    fn connect(&mut self, client: ClientNumber, connection: ConnectionId, address: &Address) {
        let broker = Setting::broker_at(address);
        let refused = self
            .refusing
            .get(&broker)
            .is_some_and(|until| *until > self.now);
        let known = self
            .cluster
            .cluster()
            .topology()
            .broker(broker::BrokerId(broker));
        let crashed = known.is_some_and(|known| known.process == Process::Crashed);
        let link = if refused || crashed {
            self.links.open_refused(broker, self.now)
        } else {
            self.links.open(broker, self.now)
        };
        let clogged = self.clogged.contains_key(&broker);
        let outlet = if clogged {
            Outlet::Clogged(Default::default())
        } else {
            Outlet::Open
        };
        self.owners.insert(link, client);
        self.clients[client.0]
            .connections
            .insert(connection, Connection { link, outlet });
        self.note(format_args!("{} opens", self.named(link)));
    }

    fn write(
        &mut self,
        client: ClientNumber,
        (connection, correlation_id): (ConnectionId, CorrelationId),
        frame: &Frame,
    ) {
        let Some(link) = self.clients[client.0].link_of(connection) else {
            return;
        };
        let request = without_size(frame);
        let link = match self.setting.defect {
            Some(Defect::OldLeaderFollowed) => self.detour(client, link, &request),
            _ => link,
        };
        let request = match capture::api(&request) {
            Api::EndTxn if self.workshop.stubborn.contains(&client) => as_commit(&request),
            _ => request,
        };
        let answer = self.tap.answered_here(&request);
        let wire = self.wire(client, link);
        let request = self.tap.sent(wire, request, self.setting.acks, self.now);
        if let Some(answer) = answer {
            return self.links.send(link, End::Client, answer, self.now);
        }
        let written = self.clients[client.0].write(connection, correlation_id, request);
        if let Some(bytes) = written {
            self.leave(client, (connection, correlation_id), (link, bytes));
        }
    }

    /// The link to the leader that was known before the newest one, if there is such a link.
    fn detour(&self, client: ClientNumber, link: LinkId, request: &Bytes) -> LinkId {
        let producer = self.wire(client, link).producer;
        let batches = capture::batches(request, &capture::topics(&self.cluster));
        let first = batches.first().map(|found| &found.batch.partition);
        let old = first.and_then(|partition| self.tap.old_leader(producer, partition));
        let mut links = self.clients[client.0].connections.values();
        let there = links.find(|end| Some(self.links.broker(end.link)) == old);
        there.map_or(link, |end| end.link)
    }

    pub(crate) fn leave(
        &mut self,
        client: ClientNumber,
        (connection, correlation_id): (ConnectionId, CorrelationId),
        (link, bytes): (LinkId, Bytes),
    ) {
        let api = capture::api(&bytes);
        self.links.send(link, End::Broker, bytes, self.now);
        self.strand_if_wanted(link, api);
        let now = self.producer_now();
        let written = Input::Written {
            connection,
            correlation_id,
        };
        self.clients[client.0].engine.handle_input(written, now);
    }

    fn complete(
        &mut self,
        client: ClientNumber,
        (topic, partition): (TopicIndex, i32),
        (batch, outcome): (BatchNumber, BatchOutcome),
    ) {
        let used = self.clients[client.0].memory_used_bytes();
        let mut sends = self.clients[client.0].settle(batch);
        let freed = used - self.clients[client.0].memory_used_bytes();
        let outcomes = match self.setting.defect {
            Some(Defect::OffsetOfRetry) => vec![self.as_of_retry(&sends, outcome)],
            Some(Defect::MemoryKept) if !matches!(outcome, BatchOutcome::Written { .. }) => {
                self.clients[client.0].leak(freed);
                vec![outcome]
            }
            Some(defect) => {
                sends.truncate(defect.on_resolved_count(sends.len()));
                defect.on_outcome(outcome)
            }
            None => vec![outcome],
        };
        for outcome in outcomes {
            self.note(format_args!(
                "producer {} completes {} sends of topic {}, partition {partition}: {outcome:?}",
                client.0,
                sends.len(),
                topic.0,
            ));
            if let BatchOutcome::Written {
                base_offset: Some(base),
                ..
            } = &outcome
            {
                self.read_below_acknowledged(sends.first().copied(), *base);
            }
            for (index, number) in (0..).zip(&sends) {
                self.resolve(*number, ending(&outcome, index));
            }
        }
    }

    /// What a producer tells that does not know the offset of the first attempt.
    fn as_of_retry(&self, sends: &[SendNumber], outcome: BatchOutcome) -> BatchOutcome {
        let Some(send) = sends.first().map(|first| &self.sends[first.0]) else {
            return outcome;
        };
        let is_written = matches!(outcome, BatchOutcome::Written { .. });
        if !is_written || !self.tap.left_again(&send.content.value) {
            return outcome;
        }
        let logs = capture::logs(&self.cluster);
        let end = logs.get(&send.partition).map_or(0, Vec::len);
        BatchOutcome::Written {
            base_offset: i64::try_from(end).ok(),
            log_append_time_ms: None,
        }
    }

    pub(crate) fn resolve(&mut self, send: SendNumber, ending: Ending) {
        let resolution = Resolution {
            ending,
            at: self.now,
            order: self.resolved_count,
        };
        self.resolved_count += 1;
        let op = &mut self.sends[send.0];
        op.resolutions.push(resolution);
        if op.resolutions.len() == 1 {
            self.open_count -= 1;
            let producer = op.producer;
            self.flushes_hear(producer, send);
        }
    }

    pub(crate) fn flush_called(&mut self, client: ClientNumber) {
        let producer = u32::try_from(client.0).expect("a handful of producers");
        let own = self.sends.iter().filter(|send| send.producer == producer);
        let open = own.filter(|send| send.resolutions.is_empty()).count();
        let open = match self.setting.defect {
            Some(Defect::FlushReturnsEarly) => 0,
            _ => open,
        };
        self.note(format_args!(
            "producer {producer} is flushed: {open} sends are open"
        ));
        let at = self.flushes.all.len();
        self.flushes.all.push(FlushOp {
            producer,
            accepted_before: self.sends.len(),
            returned: None,
        });
        self.flushes.waiting.push((at, open));
        self.flushes_return();
    }

    /// A send has ended that flushes may wait for.
    fn flushes_hear(&mut self, producer: u32, send: SendNumber) {
        for (at, open) in &mut self.flushes.waiting {
            let flush = &self.flushes.all[*at];
            if flush.producer == producer && send.0 < flush.accepted_before {
                *open = open.saturating_sub(1);
            }
        }
        self.flushes_return();
    }

    fn flushes_return(&mut self) {
        let returned = FlushReturn {
            accepted_before: self.sends.len(),
            resolved_before: self.resolved_count,
        };
        let all = &mut self.flushes.all;
        self.flushes.waiting.retain(|(at, open)| {
            if *open == 0 {
                all[*at].returned = Some(returned);
            }
            *open > 0
        });
    }
}

fn ending(outcome: &BatchOutcome, index: u32) -> Ending {
    let (outcome, index) = outcome.of_record(index);
    let words = |failure: &Failure| match failure.kind {
        FailureKind::Refused(code) => format!("refused with {}", code.0),
        kind => format!("{kind:?}"),
    };
    match outcome {
        BatchOutcome::Written { base_offset, .. } => {
            Ending::Written(base_offset.map(|base| base + i64::from(index)))
        }
        BatchOutcome::NotWritten(failure) => Ending::NotWritten(words(failure)),
        BatchOutcome::Unknown(failure) => Ending::Unknown(words(failure)),
        BatchOutcome::Parts(_) => panic!("a part is not in parts: {outcome:?}"),
    }
}
