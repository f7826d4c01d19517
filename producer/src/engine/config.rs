//! What the engine must know of the producer's configuration, already checked.
//!
//! *Not here*: names, defaults and allowed ranges of the keys (`config/` at the crate's root).

use core::time::Duration;
use std::sync::Arc;

use crate::engine::effect::Address;
use crate::types::Acks;
use crate::wire::compression::Codec;

/// Whether batches carry producer id and sequence (`enable.idempotence`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotence {
    /// Retries neither duplicate nor reorder.
    #[default]
    Enabled,
    /// Retries may duplicate, and reorder when more than one request is in flight.
    Disabled,
}

/// The engine's settings; each field stands for the configuration key in brackets.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The name in every request header (`client.id`).
    pub client_id: Arc<str>,
    /// Where to ask first (`bootstrap.servers`); must not be empty.
    pub bootstrap: Vec<Address>,
    /// Who must have a record before the answer (`acks`).
    pub acks: Acks,
    /// `enable.idempotence`.
    pub idempotence: Idempotence,
    /// Produce requests on the way per connection (`max.in.flight.requests.per.connection`), ≥ 1.
    pub in_flight_max: usize,
    /// How long an answer may take before the connection is given up (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// How long a batch may take from its opening to its end (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// How long the outcome of a batch that would end as unknown is asked for
    /// (`outcome.resolve.timeout.ms`); `None`: it is not.
    pub resolve_within: Option<Duration>,
    /// How batches are compressed (`compression.type` and its level).
    pub codec: Codec,
    /// How long an open batch waits for more records (`linger.ms`).
    pub linger: Duration,
    /// How many bytes of full batches make a request while they may linger and another one is on
    /// its way; 0 for any.
    pub hold_bytes: usize,
    /// How often a batch is sent again after its first time (`retries`).
    pub retries_max: u32,
    /// The first wait before a retry (`retry.backoff.ms`).
    pub retry_backoff: Duration,
    /// The longest wait before a retry (`retry.backoff.max.ms`).
    pub retry_backoff_max: Duration,
    /// The first wait before connecting again (`reconnect.backoff.ms`).
    pub reconnect_backoff: Duration,
    /// The longest wait before connecting again (`reconnect.backoff.max.ms`).
    pub reconnect_backoff_max: Duration,
    /// How long connecting may take at first (`socket.connection.setup.timeout.ms`).
    pub connection_setup_timeout: Duration,
    /// How long connecting may take at most (`socket.connection.setup.timeout.max.ms`).
    pub connection_setup_timeout_max: Duration,
    /// How long a connection stays with nothing on the way (`connections.max.idle.ms`); `None` for
    /// ever.
    pub connections_idle_max: Option<Duration>,
    /// The largest request in bytes, unless one batch alone is larger (`max.request.size`).
    pub request_bytes_max: usize,
    /// How old metadata may grow before it is asked again (`metadata.max.age.ms`).
    pub metadata_age_max: Duration,
    /// How long metadata is asked for in vain until the known brokers are given up for the
    /// bootstrap addresses (`metadata.recovery.rebootstrap.trigger.ms`); `None`: they never are,
    /// nor when none of them can be reached (`metadata.recovery.strategy=none`).
    pub rebootstrap_after: Option<Duration>,
    /// How long a topic is asked for after its last use (`metadata.max.idle.ms`).
    pub metadata_idle_max: Duration,
    /// `transactional.id`, if there is one, and what belongs to it.
    pub transactions: Option<TransactionsConfig>,
    /// The seed of all jitter.
    pub seed: u64,
}

/// The settings of transactions.
#[derive(Clone, Debug)]
pub struct TransactionsConfig {
    /// `transactional.id`; not empty.
    pub id: Arc<str>,
    /// How long a transaction may be open before its coordinator aborts it
    /// (`transaction.timeout.ms`), in milliseconds.
    pub timeout_ms: i32,
}
