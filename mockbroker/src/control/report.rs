//! What a request can read, as JSON.
//!
//! Times are nanoseconds since the start of the cluster, as everywhere in the engine.

use core::fmt::Debug;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Control;
use crate::engine::effect::{BrokerId, ConnectionId};
use crate::engine::plan::{Outcome, Planned};
use crate::engine::time::Instant;
use crate::fault::{Installed, RuleId, SeenRequest};
use crate::handlers::ClusterEngine;
use crate::inspect::{
    self, Entry, Event, PartitionView, ProducerView, RequestId, Silence, TransactionView,
};
use crate::io::driver::Driver;
use crate::scenario::TimedMove;

/// Brokers, topics and partitions.
pub(super) fn state(control: &Control) -> Value {
    let (now, brokers, topics, transactions) = control.driver.with(|engine, now| {
        let brokers = engine.cluster().topology().brokers();
        let word = |state: &dyn Debug| format!("{state:?}").to_lowercase();
        let brokers: Vec<Value> = brokers
            .map(|broker| {
                json!({
                    "id": broker.endpoint.id,
                    "host": broker.endpoint.host,
                    "port": broker.endpoint.port,
                    "process": word(&broker.process),
                    "network": word(&broker.network),
                    "registration": word(&broker.registration),
                })
            })
            .collect();
        let topics: Vec<Value> = inspect::topic_views(engine.cluster())
            .iter()
            .map(|topic| {
                let partitions = (0..).zip(&topic.partitions);
                let partitions = partitions.map(|(index, partition)| {
                    partition_json(engine, &topic.name, (index, partition))
                });
                json!({
                    "name": topic.name,
                    "id": uuid::Uuid::from_bytes(topic.id).to_string(),
                    "partitions": partitions.collect::<Vec<_>>(),
                })
            })
            .collect();
        let transactions = inspect::transaction_views(engine.cluster());
        let transactions = transactions.iter().map(transaction_json);
        let transactions: Vec<Value> = transactions.collect();
        (now, brokers, topics, transactions)
    });
    json!({
        "bootstrap_servers": control.bootstrap_servers,
        "now_ns": now.as_nanos(),
        "brokers": brokers,
        "topics": topics,
        "transactions": transactions,
    })
}

fn transaction_json(transaction: &TransactionView) -> Value {
    let named = |partitions: &[(Arc<str>, i32)]| -> Vec<Value> {
        let named = partitions.iter();
        named
            .map(|(topic, partition)| json!({"topic": topic, "partition": partition}))
            .collect()
    };
    json!({
        "id": transaction.id,
        "state": transaction.state,
        "producer_id": transaction.producer_id,
        "epoch": transaction.epoch,
        "timeout_ms": transaction.timeout_ms,
        "started_at_ms": transaction.started_at_ms,
        "partitions": named(&transaction.partitions),
        "without_marker": named(&transaction.without_marker),
    })
}

fn partition_json(
    engine: &ClusterEngine,
    topic: &str,
    (index, partition): (i32, &PartitionView),
) -> Value {
    let producers = inspect::producers_of(engine.cluster(), topic, index);
    let producers: Vec<Value> = producers.iter().map(producer_json).collect();
    let logs: Vec<Value> = partition
        .logs
        .iter()
        .map(|log| {
            json!({
                "broker": log.broker,
                "log_start_offset": log.log_start_offset,
                "high_watermark": log.high_watermark,
                "log_end_offset": log.log_end_offset,
            })
        })
        .collect();
    json!({
        "partition": index,
        "leader": partition.leader,
        "leader_epoch": partition.leader_epoch,
        "replicas": partition.replicas,
        "isr": partition.isr,
        "eligible_leaders": partition.eligible_leaders,
        "last_known_leader": partition.last_known_leader,
        "log_start_offset": partition.log_start_offset,
        "high_watermark": partition.high_watermark,
        "last_stable_offset": partition.last_stable_offset,
        "log_end_offset": partition.log_end_offset,
        "logs": logs,
        "producers": producers,
    })
}

fn producer_json(producer: &ProducerView) -> Value {
    let window: Vec<Value> = producer
        .window
        .iter()
        .map(|batch| {
            json!({
                "first_sequence": batch.first_sequence,
                "last_sequence": batch.last_sequence,
                "base_offset": batch.base_offset,
                "last_offset": batch.last_offset,
            })
        })
        .collect();
    json!({
        "id": producer.id,
        "epoch": producer.epoch,
        "last_sequence": producer.last_sequence,
        "last_timestamp_ms": producer.last_timestamp_ms,
        "window": window,
    })
}

/// Every rule that is installed, and those that never acted.
pub(super) fn faults(control: &Control) -> Value {
    control.driver.with(|engine, _| {
        let rules = engine.rules();
        let faults: Vec<Value> = rules.installed().map(fault_json).collect();
        let unfired = rules.unfired();
        let unfired: Vec<String> = unfired.iter().map(ToString::to_string).collect();
        json!({"faults": faults, "unfired": unfired})
    })
}

/// One rule that is installed.
pub(super) fn fault(control: &Control, id: RuleId) -> Option<Value> {
    control
        .driver
        .with(|engine, _| engine.rules().find(id).map(fault_json))
}

fn fault_json(installed: &Installed) -> Value {
    let requests: Vec<Value> = installed.seen().iter().map(seen_json).collect();
    json!({
        "id": installed.id(),
        "rule": installed.rule(),
        "text": installed.rule().to_string(),
        "matches": installed.matches(),
        "hits": installed.hits(),
        "requests": requests,
    })
}

fn seen_json(seen: &SeenRequest) -> Value {
    let targets: Vec<Value> = seen
        .targets
        .iter()
        .map(|(topic, partition)| json!({"topic": topic, "partition": partition}))
        .collect();
    json!({
        "api": seen.api,
        "version": seen.version,
        "correlation_id": seen.correlation_id,
        "client_id": seen.client_id,
        "broker": seen.broker,
        "connection": seen.connection,
        "targets": targets,
        "producer_ids": seen.producer_ids,
        "transactional_id": seen.transactional_id,
    })
}

/// The moves that have their times.
pub(super) fn moves(control: &Control) -> Value {
    let moves = control
        .driver
        .with(|engine, _| engine.plan().moves().to_vec());
    let moves: Vec<Value> = moves.into_iter().map(planned_json).collect();
    json!({"moves": moves})
}

fn planned_json(planned: Planned) -> Value {
    let (outcome, why) = match planned.outcome {
        Outcome::Waiting => ("waiting", None),
        Outcome::Made => ("made", None),
        Outcome::Refused(error) => ("refused", Some(error.to_string())),
    };
    let timed = TimedMove {
        at: Some(planned.at.since(Instant::ZERO)),
        to_make: planned.to_make,
    };
    json!({"move": timed, "outcome": outcome, "why": why})
}

/// Everything refused or not modelled.
pub(super) fn diagnostics(control: &Control) -> Value {
    control.driver.with(|engine, _| {
        let journal = engine.journal();
        let diagnostics: Vec<Value> = journal
            .diagnostics()
            .iter()
            .map(|diagnostic| {
                json!({
                    "at_ns": diagnostic.at.as_nanos(),
                    "connection": diagnostic.connection,
                    "text": diagnostic.text,
                })
            })
            .collect();
        json!({"diagnostics": diagnostics, "not_kept": journal.diagnostics_dropped()})
    })
}

/// A part of the journal.
pub(super) struct JournalSlice {
    /// The number of the first entry, counted from the first ever.
    pub(super) first: u64,
    /// The number behind the last.
    pub(super) next: u64,
    pub(super) entries: Vec<Value>,
}

/// At most this many entries from this number on, or from the first that is kept.
pub(super) fn journal_slice(driver: &Driver, from: u64, entries_max: usize) -> JournalSlice {
    let (first, entries): (u64, Vec<Entry>) = driver.with(|engine, _| {
        let journal = engine.journal();
        let first = from.max(journal.entries_dropped());
        let skipped = usize::try_from(first - journal.entries_dropped()).unwrap_or(usize::MAX);
        let entries = journal.entries().skip(skipped).take(entries_max);
        (first, entries.cloned().collect())
    });
    let numbered = (first..).zip(&entries);
    let entries: Vec<Value> = numbered
        .map(|(number, entry)| entry_json(number, entry))
        .collect();
    let next = first + u64::try_from(entries.len()).unwrap_or(u64::MAX);
    JournalSlice {
        first,
        next,
        entries,
    }
}

fn entry_json(number: u64, entry: &Entry) -> Value {
    let (BrokerId(broker), ConnectionId(connection)) = (entry.broker, entry.connection);
    let mut json = event_json(&entry.event);
    if let Value::Object(fields) = &mut json {
        fields.insert("number".into(), number.into());
        fields.insert("at_ns".into(), entry.at.as_nanos().into());
        fields.insert("broker".into(), broker.into());
        fields.insert("connection".into(), connection.into());
    }
    json
}

fn event_json(event: &Event) -> Value {
    match event {
        Event::Connected => json!({"event": "connected"}),
        Event::Disconnected => json!({"event": "disconnected"}),
        Event::Closed { reason } => json!({"event": "closed", "reason": reason}),
        Event::Request {
            id,
            client_id,
            bytes,
            verdict,
            rule,
            frame,
        } => with_request(
            id,
            json!({
                "event": "request",
                "client_id": client_id,
                "bytes": bytes,
                "verdict": verdict,
                "rule": rule,
                "frame": frame.as_ref().map(|frame| hex(frame)),
            }),
        ),
        Event::Reply { id, bytes, codes } => {
            let codes: Vec<Value> = codes
                .iter()
                .map(|row| {
                    let (topic, partition) = (&row.topic, row.partition);
                    json!({"topic": topic, "partition": partition, "code": row.code})
                })
                .collect();
            with_request(
                id,
                json!({"event": "reply", "bytes": bytes, "codes": codes}),
            )
        }
        Event::Throttled { id, throttle } => with_request(
            id,
            json!({
                "event": "throttled",
                "throttle_ms": u64::try_from(throttle.as_millis()).unwrap_or(u64::MAX),
            }),
        ),
        Event::NoReply { id, reason } => {
            with_request(id, json!({"event": "no_reply", "reason": silence(*reason)}))
        }
    }
}

fn with_request(id: &RequestId, mut json: Value) -> Value {
    if let Value::Object(fields) = &mut json {
        fields.insert("api".into(), id.api.to_string().into());
        fields.insert("version".into(), id.version.into());
        fields.insert("correlation_id".into(), id.correlation_id.into());
    }
    json
}

const fn silence(reason: Silence) -> &'static str {
    match reason {
        Silence::NotAsked => "not_asked",
        Silence::Swallowed => "swallowed",
        Silence::Lost => "lost",
        Silence::Cut => "cut",
        Silence::Stuck => "stuck",
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
    digits.collect()
}
