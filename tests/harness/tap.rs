//! A tap on every producer's wire: which batches left, how many requests are unanswered, and the
//! place where a planted defect changes a request.
//!
//! *Invariants*
//! 1. A request is seen when the producer sends it, whether or not the network lets it leave: the
//!    laws about sequences are about the producer.
//!
//! *Not here*: what must hold of it (`oracle.rs`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_mockbroker::Api;
use kafka_producer::Acks;

use crate::capture::{self, TopicName};
use crate::history::WireBatch;
use crate::link::LinkId;
use crate::setting::Setting;

/// What passed.
#[derive(Debug)]
pub struct Tap {
    topics: Vec<TopicName>,
    batches: Vec<WireBatch>,
    /// The requests on each link that wait for an answer, in order.
    unanswered: BTreeMap<LinkId, VecDeque<Api>>,
    in_flight_most: usize,
}

impl Tap {
    /// A tap that has seen nothing, in a cluster with these topics.
    #[must_use]
    pub fn new(topics: Vec<TopicName>) -> Self {
        Self {
            topics,
            batches: Vec::new(),
            unanswered: BTreeMap::new(),
            in_flight_most: 0,
        }
    }

    /// A producer sends a request; returns what the network gets.
    pub fn sent(&mut self, link: LinkId, request: Bytes, setting: &Setting) -> Bytes {
        let request = match setting.defect {
            Some(defect) => defect.on_frame(request, &self.batches, &self.topics),
            None => request,
        };
        let batches = capture::batches(&request, &self.topics).into_iter();
        self.batches.extend(batches.map(|found| found.batch));
        let api = capture::api(&request);
        if api != Api::Produce || setting.acks != Acks::None {
            let unanswered = self.unanswered.entry(link).or_default();
            unanswered.push_back(api);
            let in_flight = unanswered
                .iter()
                .filter(|api| **api == Api::Produce)
                .count();
            self.in_flight_most = self.in_flight_most.max(in_flight);
        }
        request
    }

    /// An answer reached the producer.
    pub fn answered(&mut self, link: LinkId) {
        self.unanswered.entry(link).or_default().pop_front();
    }

    /// Every batch, in the order of sending.
    #[must_use]
    pub fn batches(&self) -> &[WireBatch] {
        &self.batches
    }

    /// The most Produce requests that were unanswered on one connection at one time.
    #[must_use]
    pub fn in_flight_most(&self) -> usize {
        self.in_flight_most
    }
}
