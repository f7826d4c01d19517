//! A tap on every producer's wire: which batches left, which requests and answers passed, how many
//! requests are unanswered, and the place where a planted defect changes what passes.
//!
//! *Invariants*
//! 1. A request is seen when the producer sends it, whether or not the network lets it leave: the
//!    laws about sequences are about the producer.
//! 2. An answer is seen as the broker gave it, whatever a planted defect makes of it.
//!
//! *Not here*: what must hold of it (`oracle/wire.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::Api;
use kafka_producer::Acks;

use crate::answer;
use crate::capture::{self, TopicName};
use crate::defect::Planted;
use crate::epochs::EpochsGiven;
use crate::history::{LeaderTold, Partition, Passed, Told, WireBatch, WireEvent};
use crate::link::LinkId;
use crate::setting::Setting;

/// An end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// Whose.
    pub producer: u32,
    /// The link below.
    pub link: LinkId,
    /// The broker at its other end.
    pub broker: i32,
}

impl Wire {
    fn event(self, what: Passed, at: Duration) -> WireEvent {
        WireEvent {
            at,
            producer: self.producer,
            connection: self.link.0,
            broker: self.broker,
            what,
        }
    }
}

/// What passed.
#[derive(Debug)]
pub struct Tap {
    topics: Vec<TopicName>,
    planted: Option<Planted>,
    batches: Vec<WireBatch>,
    events: Vec<WireEvent>,
    /// The requests on each link that wait for an answer, in order.
    unanswered: BTreeMap<LinkId, VecDeque<(Api, i16)>>,
    in_flight_most: usize,
    muted_until: Duration,
    epochs: EpochsGiven,
}

impl Tap {
    /// A tap that has seen nothing, in a cluster with these topics.
    #[must_use]
    pub fn new(topics: Vec<TopicName>, setting: &Setting) -> Self {
        Self {
            topics,
            planted: setting.defect.map(Planted::new),
            batches: Vec::new(),
            events: Vec::new(),
            unanswered: BTreeMap::new(),
            in_flight_most: 0,
            muted_until: Duration::ZERO,
            epochs: EpochsGiven::default(),
        }
    }

    /// A producer sends a request; returns what the network gets.
    pub fn sent(&mut self, wire: Wire, request: Bytes, acks: Acks, at: Duration) -> Bytes {
        let request = match &mut self.planted {
            Some(planted) => planted.on_frame(request, &self.batches, &self.topics),
            None => request,
        };
        let batches = capture::batches(&request, &self.topics);
        let (api, version) = (capture::api(&request), capture::version(&request));
        let partitions = batches.iter().map(|found| found.batch.partition.clone());
        let what = Passed::Sent {
            api: api.key(),
            version,
            partitions: partitions.collect(),
        };
        self.events.push(wire.event(what, at));
        let batches = batches.into_iter().map(|found| WireBatch {
            producer: wire.producer,
            ..found.batch
        });
        self.batches.extend(batches);
        if api != Api::Produce || acks != Acks::None {
            let unanswered = self.unanswered.entry(wire.link).or_default();
            unanswered.push_back((api, version));
            let produce = unanswered.iter().filter(|(api, _)| *api == Api::Produce);
            self.in_flight_most = self.in_flight_most.max(produce.count());
        }
        request
    }

    /// What answers a request in place of its broker, which never gets it: a planted defect.
    pub fn answered_here(&mut self, request: &Bytes) -> Option<Bytes> {
        self.planted.as_mut()?.on_question(request)
    }

    /// An answer reached the producer; returns what the producer gets.
    pub fn answered(&mut self, wire: Wire, frame: Bytes, at: Duration) -> Bytes {
        let request = self.unanswered.entry(wire.link).or_default().pop_front();
        let Some((api, version)) = request else {
            return frame;
        };
        self.epochs.on_answer(wire.producer, (api, version), &frame);
        let answer = answer::read(api, version, &frame, &self.topics);
        self.muted_until = self.muted_until.max(at + answer.told.throttle);
        let given = match &mut self.planted {
            Some(planted) => planted.on_answer((wire.link, api), frame, &answer),
            None => frame,
        };
        if answer.told != Told::default() {
            self.events.push(wire.event(Passed::Told(answer.told), at));
        }
        given
    }

    /// The leader that a producer knew before the newest one.
    #[must_use]
    pub fn old_leader(&self, producer: u32, partition: &Partition) -> Option<i32> {
        let of_producer = |event: &&WireEvent| event.producer == producer;
        let told = self.events.iter().filter(of_producer).flat_map(leaders);
        let mut told: Vec<_> = told.filter(|one| one.partition == *partition).collect();
        told.sort_by_key(|one| one.epoch);
        let newest = told.last()?.epoch;
        let older = told.iter().rfind(|one| one.epoch < newest)?;
        older.leader
    }

    /// Whether a batch with this value left more than once.
    #[must_use]
    pub fn left_again(&self, value: &[u8]) -> bool {
        let holds = |batch: &&WireBatch| batch.bytes.windows(value.len()).any(|part| part == value);
        self.batches.iter().filter(holds).count() > 1
    }

    /// Every batch, in the order of sending.
    #[must_use]
    pub fn batches(&self) -> &[WireBatch] {
        &self.batches
    }

    /// Everything, in order.
    #[must_use]
    pub fn events(&self) -> &[WireEvent] {
        &self.events
    }

    /// The most Produce requests that were unanswered on one connection at one time.
    #[must_use]
    pub fn in_flight_most(&self) -> usize {
        self.in_flight_most
    }

    /// Whether two processes were given one epoch.
    #[must_use]
    pub fn epoch_is_shared(&self) -> bool {
        self.epochs.shared()
    }

    /// When the last throttle ends that was told.
    #[must_use]
    pub fn muted_until(&self) -> Duration {
        self.muted_until
    }
}

fn leaders(event: &WireEvent) -> &[LeaderTold] {
    match &event.what {
        Passed::Told(told) => &told.leaders,
        Passed::Sent { .. } => &[],
    }
}
