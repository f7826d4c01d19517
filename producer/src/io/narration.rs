//! What happens, as events and spans of `tracing`, with fields.
//!
//! | Level | What |
//! |---|---|
//! | error | what is lost by a bug or a panic of the user's code |
//! | warn | records that failed or may be written; topics and producer ids refused; nobody reached |
//! | info | connections lost, producer ids given, sequences that start anew, outcomes asked for |
//! | debug | connections made, metadata learnt, batches to be sent again, throttling |
//! | trace | each request and each batch on its way |
//!
//! Fields are `topic`, `partition`, `batch` (its first sequence), `records`, `bytes`, `attempt`,
//! `broker` (bootstrap addresses count down from -1), `connection`, `code` (the broker's number),
//! `cause`, `reason`, and times in milliseconds. All stand in the span `producer` with its
//! `client_id`; what happens on a connection also in a span `connection` with its `address`, which
//! lives as long as the connection. A record's key, value and headers are never
//! told, nor is a value of the configuration that may be secret.
//!
//! *Invariants*
//! 1. Nothing is told per record.
//! 2. An event that nobody wants costs one look at its level.
//!
//! *Source*: what Kafka's `NetworkClient`, `Sender` and `TransactionManager` log, at about its
//! levels; a retry is not a warning here, as nothing is lost by it.
//!
//! *Not here*: metrics (`meters`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Span, debug, debug_span, error_span, info, trace, warn};

use crate::engine::effect::{Address, ConnectionId};
use crate::engine::report::{BatchEvent, BatchFacts, ConnectionEvent, NodeKey, Report, Stood};
use crate::error::{Failure, FailureKind};
use crate::io::meters::snapshot::node_id;
use crate::io::topics::{Route, TopicEntry, Topics};
use crate::types::TopicIndex;

/// Tells what happens to one producer.
#[derive(Debug)]
pub(crate) struct Narrator {
    producer: Span,
    /// Of connections wanted and not ended.
    connections: BTreeMap<ConnectionId, Span>,
}

impl Narrator {
    /// For the producer of this `client.id`.
    pub(crate) fn new(client_id: &str) -> Self {
        // At the highest level, so that no event goes without it.
        Self {
            producer: error_span!("producer", client_id),
            connections: BTreeMap::new(),
        }
    }

    /// For a producer that has no name yet.
    pub(crate) fn nameless() -> Self {
        Self {
            producer: Span::none(),
            connections: BTreeMap::new(),
        }
    }

    /// The span of all that happens.
    pub(crate) fn span(&self) -> &Span {
        &self.producer
    }

    /// A connection is wanted.
    pub(crate) fn on_connect(&mut self, connection: ConnectionId, address: &Address) {
        let Address { host, port } = address;
        let span = debug_span!(
            parent: &self.producer,
            "connection",
            connection = connection.0,
            address = format_args!("{host}:{port}"),
        );
        span.in_scope(|| debug!("connecting"));
        self.connections.insert(connection, span);
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, report: &Report, topics: &Topics) {
        match report {
            Report::Connection {
                connection,
                node,
                event,
            } => self.tell_connection(*connection, *node, event),
            Report::Asked { connection, .. } | Report::Answered { connection, .. } => {
                let _entered = self.connections.get(connection).map(Span::enter);
                tell_request(report);
            }
            Report::Batch { batch, event } => tell_batch(batch, event, topics),
            other => tell_rest(other, topics),
        }
    }

    fn tell_connection(
        &mut self,
        connection: ConnectionId,
        node: NodeKey,
        event: &ConnectionEvent,
    ) {
        let span = match event {
            ConnectionEvent::Made | ConnectionEvent::Ready => {
                self.connections.get(&connection).cloned()
            }
            ConnectionEvent::Lost { .. } | ConnectionEvent::Retired => {
                self.connections.remove(&connection)
            }
        };
        let _entered = span.as_ref().map(Span::enter);
        let (connection, broker) = (connection.0, node_id(node));
        match event {
            ConnectionEvent::Made => debug!(connection, broker, "connected"),
            ConnectionEvent::Ready => debug!(connection, broker, "connection ready"),
            ConnectionEvent::Retired => debug!(connection, broker, "connection retired"),
            ConnectionEvent::Lost {
                stood,
                reason,
                back_off,
            } => {
                let (reason, back_off_ms) = (&**reason, millis(*back_off));
                match stood {
                    Stood::Never => {
                        warn!(connection, broker, reason, back_off_ms, "cannot connect");
                    }
                    Stood::Once => {
                        info!(connection, broker, reason, back_off_ms, "connection lost");
                    }
                }
            }
        }
    }
}

/// What is known of a topic changed.
pub(crate) fn tell_topic(topic: &TopicEntry) {
    match &**topic.route.load() {
        Route::Pending(failure) => debug!(
            topic = &*topic.name,
            code = failure.as_ref().and_then(code),
            reason = failure.as_ref().and_then(reason),
            "topic not known yet"
        ),
        Route::Known(partitions) => debug!(
            topic = &*topic.name,
            partitions = partitions.slots.len(),
            "topic known"
        ),
        Route::Forgotten(_) => debug!(topic = &*topic.name, "topic forgotten"),
        Route::Refused(failure, _) => warn!(
            topic = &*topic.name,
            broker = broker(failure),
            code = code(failure),
            reason = reason(failure),
            "topic refused"
        ),
    }
}

fn tell_request(report: &Report) {
    match report {
        Report::Asked {
            connection,
            node,
            api,
            bytes,
            records,
        } => trace!(
            connection = connection.0,
            broker = node_id(*node),
            ?api,
            bytes,
            records,
            "request sent"
        ),
        Report::Answered {
            connection,
            node,
            api,
            bytes,
            after,
        } => trace!(
            connection = connection.0,
            broker = node_id(*node),
            ?api,
            bytes,
            after_ms = millis(*after),
            "request answered"
        ),
        _ => {}
    }
}

fn tell_rest(report: &Report, topics: &Topics) {
    match report {
        Report::Throttled { node, wait } => debug!(
            broker = node_id(*node),
            throttle_ms = millis(*wait),
            "throttled"
        ),
        Report::MetadataLearnt {
            node,
            brokers,
            topics,
        } => debug!(broker = node_id(*node), brokers, topics, "metadata learnt"),
        Report::ProducerIdGiven { node, id, epoch } => info!(
            broker = node_id(*node),
            producer_id = id.0,
            epoch = epoch.0,
            "producer id given"
        ),
        Report::ProducerIdRefused { failure } => warn!(
            broker = broker(failure),
            code = code(failure),
            reason = reason(failure),
            "producer id refused"
        ),
        Report::EpochBumped {
            partition,
            id,
            epoch,
        } => info!(
            topic = name(topics, partition.topic).as_deref(),
            partition = partition.partition,
            producer_id = id.0,
            epoch = epoch.0,
            "sequences start anew"
        ),
        Report::OutcomeAsked {
            partition,
            cause: kind,
            within,
        } => {
            let failure = Failure::new(*kind);
            info!(
                topic = name(topics, partition.topic).as_deref(),
                partition = partition.partition,
                cause = cause(&failure),
                code = code(&failure),
                within_ms = millis(*within),
                "a batch is possibly written; asks what became of it"
            );
        }
        Report::Produced { .. }
        | Report::Connection { .. }
        | Report::Asked { .. }
        | Report::Answered { .. }
        | Report::Batch { .. } => {}
    }
}

/// An event of a batch, with the fields that each has.
macro_rules! batch_event {
    ($level:ident, $topics:ident, $batch:ident, $($field:ident = $value:expr,)* $words:literal) => {
        $level!(
            topic = name($topics, $batch.partition.topic).as_deref(),
            partition = $batch.partition.partition,
            batch = $batch.stamp.map(|stamp| stamp.base_sequence.value()),
            records = $batch.records,
            bytes = $batch.bytes,
            attempt = $batch.attempts,
            broker = $batch.broker.map(|broker| broker.0),
            $($field = $value,)*
            $words
        )
    };
}

fn tell_batch(batch: &BatchFacts, event: &BatchEvent, topics: &Topics) {
    match event {
        BatchEvent::Sent { waited, .. } => {
            batch_event!(
                trace,
                topics,
                batch,
                waited_ms = millis(*waited),
                "batch sent"
            );
        }
        BatchEvent::Written { after } => {
            let after_ms = after.map(millis);
            batch_event!(trace, topics, batch, after_ms = after_ms, "batch written");
        }
        BatchEvent::Retried { failure, back_off } => batch_event!(
            debug,
            topics,
            batch,
            code = code(failure),
            reason = reason(failure),
            back_off_ms = millis(*back_off),
            "batch will be sent again"
        ),
        BatchEvent::Split => batch_event!(
            debug,
            topics,
            batch,
            "batch too large for its broker; its halves will be sent"
        ),
        BatchEvent::Failed { failure } => batch_event!(
            warn,
            topics,
            batch,
            cause = cause(failure),
            code = code(failure),
            reason = reason(failure),
            "batch failed; not written"
        ),
        BatchEvent::Unsettled { failure } => batch_event!(
            warn,
            topics,
            batch,
            cause = cause(failure),
            code = code(failure),
            reason = reason(failure),
            "batch failed; possibly written"
        ),
    }
}

fn name(topics: &Topics, topic: TopicIndex) -> Option<Arc<str>> {
    Some(Arc::clone(&topics.at(topic)?.name))
}

fn broker(failure: &Failure) -> Option<i32> {
    failure.broker.map(|broker| broker.0)
}

fn code(failure: &Failure) -> Option<i16> {
    match failure.kind {
        FailureKind::Refused(code) | FailureKind::RefusedWithBatch(code) => Some(code.0),
        FailureKind::DeliveryTimedOut
        | FailureKind::Disconnected
        | FailureKind::Closed
        | FailureKind::UnsupportedVersion
        | FailureKind::TransactionAborted
        | FailureKind::RecordRefused
        | FailureKind::BadAnswer => None,
    }
}

fn cause(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::Refused(_) => "refused",
        FailureKind::RefusedWithBatch(_) => "refused with its batch",
        FailureKind::DeliveryTimedOut => "delivery timed out",
        FailureKind::Disconnected => "connection lost",
        FailureKind::Closed => "producer closed",
        FailureKind::UnsupportedVersion => "no common version",
        FailureKind::BadAnswer => "unreadable answer",
        FailureKind::TransactionAborted => "transaction aborted",
        FailureKind::RecordRefused => "a record was refused",
    }
}

fn reason(failure: &Failure) -> Option<&str> {
    failure.message.as_deref()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
