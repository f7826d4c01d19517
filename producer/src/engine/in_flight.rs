//! What is on which connection, in which order, since when.
//!
//! *State* of a connection's pipeline
//! ```text
//!            push                         answer: the oldest that expects one
//!   (empty) ──────▶ request, request, … ─────────────────────────────────────▶ handed back
//!                                          written: a request that expects none
//!                                          close: all, in order
//! ```
//!
//! *Invariants*
//! 1. Correlation ids of one connection count up from 0.
//! 2. Brokers answer a connection's requests in order: an answer belongs to the oldest request that
//!    expects one, or the connection is broken.
//! 3. A batch is in at most one request; taken back early (delivery time-out), its place stays, so
//!    that the answer finds nobody, and tells of the leader alone.
//!
//! *Source*: Kafka's `InFlightRequests`; `SocketServer` handles one request of a connection at a
//! time.
//!
//! *Not here*: how many may be on the way (`drain.rs`), what an answer means (`verdict.rs`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::engine::effect::{ConnectionId, CorrelationId};
use crate::engine::metadata::TopicNames;
use crate::engine::partition::Tracked;
use crate::engine::time::Instant;
use crate::engine::transaction_codes::Question;
use crate::types::TopicPartition;
use crate::wire::Api;

/// All pipelines.
#[derive(Debug)]
pub(crate) struct InFlight<C> {
    pipelines: BTreeMap<ConnectionId, Pipeline<C>>,
}

#[derive(Debug)]
struct Pipeline<C> {
    next_correlation: i32,
    requests: VecDeque<Request<C>>,
    /// When a request was last answered, or left if it expects no answer.
    active_at: Instant,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request<C> {
    pub(crate) correlation_id: CorrelationId,
    pub(crate) sent_at: Instant,
    pub(crate) version: i16,
    pub(crate) content: Content<C>,
}

/// What a request asks.
#[derive(Debug)]
pub(crate) enum Content<C> {
    ApiVersions,
    Metadata,
    InitProducerId,
    /// A question of transactions.
    Transactional(Question),
    /// Batches that will be answered.
    Produce(Vec<Entry<C>>),
    /// Batches that will not be answered (`acks=0`).
    ProduceUnanswered(Vec<Entry<C>>),
}

/// One partition's place in a Produce request.
#[derive(Debug)]
pub(crate) struct Entry<C> {
    pub(crate) partition: TopicPartition,
    pub(crate) names: TopicNames,
    /// `None` once the batch was taken back early.
    pub(crate) batch: Option<Tracked<C>>,
}

/// An answer that no request expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected {
    pub(crate) expected: Option<CorrelationId>,
}

impl<C> Content<C> {
    /// What is asked.
    pub(crate) fn api(&self) -> Api {
        match self {
            Self::ApiVersions => Api::ApiVersions,
            Self::Metadata => Api::Metadata,
            Self::InitProducerId => Api::InitProducerId,
            Self::Transactional(question) => question.api(),
            Self::Produce(_) | Self::ProduceUnanswered(_) => Api::Produce,
        }
    }

    /// How many records travel with it.
    pub(crate) fn record_count(&self) -> u32 {
        match self {
            Self::Produce(entries) | Self::ProduceUnanswered(entries) => {
                let batches = entries.iter().filter_map(|entry| entry.batch.as_ref());
                batches.map(|tracked| tracked.batch.record_count()).sum()
            }
            Self::ApiVersions | Self::Metadata | Self::InitProducerId | Self::Transactional(_) => 0,
        }
    }

    fn expects_answer(&self) -> bool {
        match self {
            Self::ProduceUnanswered(_) => false,
            Self::ApiVersions
            | Self::Metadata
            | Self::InitProducerId
            | Self::Transactional(_)
            | Self::Produce(_) => true,
        }
    }

    fn entries_mut(&mut self) -> &mut [Entry<C>] {
        match self {
            Self::Produce(entries) | Self::ProduceUnanswered(entries) => entries,
            Self::ApiVersions | Self::Metadata | Self::InitProducerId | Self::Transactional(_) => {
                &mut []
            }
        }
    }
}

impl<C> InFlight<C> {
    pub(crate) fn new() -> Self {
        Self {
            pipelines: BTreeMap::new(),
        }
    }

    /// The number that the next request on this connection gets.
    pub(crate) fn next_correlation(&self, connection: ConnectionId) -> CorrelationId {
        CorrelationId(
            self.pipelines
                .get(&connection)
                .map_or(0, |one| one.next_correlation),
        )
    }

    /// Registers a request under [`InFlight::next_correlation`].
    pub(crate) fn push(
        &mut self,
        connection: ConnectionId,
        content: Content<C>,
        version: i16,
        now: Instant,
    ) -> CorrelationId {
        let pipeline = self
            .pipelines
            .entry(connection)
            .or_insert_with(|| Pipeline {
                next_correlation: 0,
                requests: VecDeque::new(),
                active_at: now,
            });
        let correlation_id = CorrelationId(pipeline.next_correlation);
        pipeline.next_correlation = pipeline.next_correlation.wrapping_add(1);
        pipeline.requests.push_back(Request {
            correlation_id,
            sent_at: now,
            version,
            content,
        });
        correlation_id
    }

    /// Takes the request that this answer belongs to.
    pub(crate) fn on_answer(
        &mut self,
        connection: ConnectionId,
        correlation_id: CorrelationId,
        now: Instant,
    ) -> Result<Request<C>, Unexpected> {
        let Some(pipeline) = self.pipelines.get_mut(&connection) else {
            return Err(Unexpected { expected: None });
        };
        pipeline.active_at = now;
        let oldest = pipeline
            .requests
            .iter()
            .position(|one| one.content.expects_answer());
        let expected = oldest.map(|index| pipeline.requests[index].correlation_id);
        match oldest {
            Some(index) if expected == Some(correlation_id) => pipeline
                .requests
                .remove(index)
                .ok_or(Unexpected { expected }),
            _ => Err(Unexpected { expected }),
        }
    }

    /// Takes the request if it ends with its last byte.
    pub(crate) fn on_written(
        &mut self,
        connection: ConnectionId,
        correlation_id: CorrelationId,
        now: Instant,
    ) -> Option<Request<C>> {
        let pipeline = self.pipelines.get_mut(&connection)?;
        pipeline.active_at = now;
        let requests = &mut pipeline.requests;
        let index = requests
            .iter()
            .position(|one| one.correlation_id == correlation_id)?;
        if requests[index].content.expects_answer() {
            return None;
        }
        requests.remove(index)
    }

    /// The connection is gone: all its requests, in order.
    pub(crate) fn close(&mut self, connection: ConnectionId) -> VecDeque<Request<C>> {
        self.pipelines
            .remove(&connection)
            .map(|one| one.requests)
            .unwrap_or_default()
    }

    /// Takes a batch back before its request is answered.
    pub(crate) fn take_back(
        &mut self,
        connection: ConnectionId,
        correlation_id: CorrelationId,
        partition: TopicPartition,
    ) -> Option<Tracked<C>> {
        let requests = &mut self.pipelines.get_mut(&connection)?.requests;
        let request = requests
            .iter_mut()
            .find(|one| one.correlation_id == correlation_id)?;
        let entries = request.content.entries_mut();
        entries
            .iter_mut()
            .find(|one| one.partition == partition)?
            .batch
            .take()
    }

    /// How many requests are on the way.
    pub(crate) fn count(&self, connection: ConnectionId) -> usize {
        self.pipelines
            .get(&connection)
            .map_or(0, |one| one.requests.len())
    }

    /// Since when nothing has been on the way; `None` while something is.
    pub(crate) fn idle_since(&self, connection: ConnectionId) -> Option<Instant> {
        let pipeline = self.pipelines.get(&connection)?;
        pipeline.requests.is_empty().then_some(pipeline.active_at)
    }

    /// How many requests are on the way, on all connections.
    pub(crate) fn total(&self) -> usize {
        self.pipelines.values().map(|one| one.requests.len()).sum()
    }

    /// When the oldest request becomes too old.
    pub(crate) fn deadline(
        &self,
        connection: ConnectionId,
        request_timeout: Duration,
    ) -> Option<Instant> {
        let oldest = self.pipelines.get(&connection)?.requests.front()?;
        Some(oldest.sent_at + request_timeout)
    }

    /// All batches on the way, for checks.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (ConnectionId, &Entry<C>)> {
        self.pipelines.iter().flat_map(|(connection, pipeline)| {
            pipeline.requests.iter().flat_map(move |request| {
                let entries: &[Entry<C>] = match &request.content {
                    Content::Produce(entries) | Content::ProduceUnanswered(entries) => entries,
                    Content::ApiVersions
                    | Content::Metadata
                    | Content::InitProducerId
                    | Content::Transactional(_) => &[],
                };
                entries.iter().map(move |entry| (*connection, entry))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ONE: ConnectionId = ConnectionId(1);
    const NOW: Instant = Instant::from_nanos(10);

    /// A question, a batch that nobody answers, a question.
    fn pipeline() -> InFlight<()> {
        let mut in_flight = InFlight::new();
        for content in [
            Content::ApiVersions,
            Content::ProduceUnanswered(Vec::new()),
            Content::Metadata,
        ] {
            in_flight.push(ONE, content, 0, Instant::from_nanos(5));
        }
        in_flight
    }

    #[test]
    fn correlation_ids_count_up_per_connection() {
        let mut in_flight = pipeline();
        assert_eq!(in_flight.next_correlation(ONE), CorrelationId(3));
        let other = in_flight.push(ConnectionId(2), Content::Metadata, 0, Instant::ZERO);
        assert_eq!(other, CorrelationId(0));
    }

    #[test]
    fn answers_come_in_order_past_what_expects_none() {
        let mut in_flight = pipeline();
        assert!(in_flight.on_answer(ONE, CorrelationId(0), NOW).is_ok());
        let third = in_flight
            .on_answer(ONE, CorrelationId(2), NOW)
            .expect("the next that expects");
        assert!(matches!(third.content, Content::Metadata));
        assert_eq!(in_flight.count(ONE), 1);
    }

    #[rstest]
    #[case::too_early(2, Some(CorrelationId(0)))]
    #[case::never_sent(9, Some(CorrelationId(0)))]
    #[case::expects_none(1, Some(CorrelationId(0)))]
    fn an_answer_out_of_turn_is_refused(
        #[case] number: i32,
        #[case] expected: Option<CorrelationId>,
    ) {
        let mut in_flight = pipeline();
        let refused = in_flight
            .on_answer(ONE, CorrelationId(number), NOW)
            .map(|_| ());
        assert_eq!(refused, Err(Unexpected { expected }));
        assert_eq!(in_flight.count(ONE), 3, "nothing is taken");
    }

    #[test]
    fn an_answer_on_a_connection_without_requests_is_refused() {
        let refused = pipeline()
            .on_answer(ConnectionId(2), CorrelationId(0), NOW)
            .map(|_| ());
        assert_eq!(refused, Err(Unexpected { expected: None }));
    }

    #[rstest]
    #[case::expects_an_answer(0, 3)]
    #[case::expects_none(1, 2)]
    #[case::never_sent(7, 3)]
    fn only_what_expects_no_answer_ends_when_written(#[case] number: i32, #[case] left: usize) {
        let mut in_flight = pipeline();
        in_flight.on_written(ONE, CorrelationId(number), NOW);
        assert_eq!(in_flight.count(ONE), left);
    }

    #[test]
    fn a_closed_connection_gives_back_all_in_order() {
        let mut in_flight = pipeline();
        let numbers: Vec<_> = in_flight
            .close(ONE)
            .iter()
            .map(|one| one.correlation_id.0)
            .collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(in_flight.count(ONE), 0);
    }

    #[test]
    fn the_oldest_request_sets_the_deadline() {
        let timeout = Duration::from_nanos(100);
        assert_eq!(
            pipeline().deadline(ONE, timeout),
            Some(Instant::from_nanos(105))
        );
        assert_eq!(InFlight::<()>::new().deadline(ONE, timeout), None);
    }
}
