//! Fetch (key 1), versions 4 to 18.
//!
//! | Version | |
//! |---|---|
//! | 7 | an outcome of the whole request; fetch sessions (KIP-227) |
//! | 9 | the leader epoch that the client knows (KIP-320) |
//! | 12 | flexible; who leads instead, with code 6 |
//! | 13 | topics by id (KIP-516) |
//! | 16 | how to reach who leads instead (KIP-951) |
//!
//! *State* of a request:
//!
//! ```text
//!          enough bytes, an error, no wait asked
//! Asked ─┬──────────────────────────────────────▶ Answered
//!        └─▶ Waits ── enough bytes, an error, or the time is over ──▶ Answered
//! ```
//!
//! *Invariants*
//! 1. Nothing above the high watermark is returned.
//! 2. Whole batches only; the first of a request is returned whatever its size (KIP-74).
//! 3. An answer holds at most 55 MiB beside its first batch.
//!
//! *Source* apache/kafka `core/…/server/{KafkaApis,ReplicaManager}.scala`, `DelayedFetch.java`.
//!
//! *Deviations* no fetch sessions: session id 0 is answered, which every client takes as "none".
//! No followers outside of the cluster: whoever asks is answered as a consumer. A batch that does
//! not fit is left out, where Kafka sends the part that fits.

use core::time::Duration;

use super::hosting;
use super::{
    Answer, Context, Pending as AnyPending, Wait, find, hinted_endpoints, label, leader_hint,
};
use crate::engine::Cluster;
use crate::engine::log::{FirstBatch, Log};
use crate::engine::time::Instant;
use crate::engine::topology::{PartitionKey, Topology};
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, FetchRow, Reply};
use crate::wire::request::{Fetch, FetchPartition, TopicRef};

/// Bytes of an answer: the broker's default `fetch.max.bytes`.
const ANSWER_BYTES_MAX: usize = 55 << 20;

/// Answers what is there, at once or when there is enough.
pub fn handle(cluster: &mut Cluster, context: &Context, request: Fetch, now: Instant) -> Answer {
    if request.replica_id >= 0 {
        let note = "a follower fetches over the network, and is answered as a consumer";
        cluster.note(format!("{note}: replica {}", request.replica_id));
    }
    let wait_ms = u64::try_from(request.wait_ms_max).unwrap_or(0);
    let pending = Pending { request };
    if wait_ms == 0 || pending.is_complete(cluster, context) {
        return pending.answer(cluster, context);
    }
    let watched = pending.keys(cluster.known_to(context.broker));
    let deadline = now + Duration::from_millis(wait_ms);
    Answer::Wait(Wait {
        pending: AnyPending::Fetch(pending),
        watched,
        deadline,
    })
}

/// A request that waits for data: `DelayedFetch`.
#[derive(Debug)]
pub struct Pending {
    request: Fetch,
}

impl Pending {
    fn keys(&self, known: &Topology) -> Vec<PartitionKey> {
        let keys = self.request.topics.iter().flat_map(|topic| {
            let known = find(known, &topic.topic).map(|topic| topic.key);
            topic.partitions.iter().filter_map(move |partition| {
                known.map(|topic| PartitionKey {
                    topic,
                    partition: partition.index,
                })
            })
        });
        keys.collect()
    }

    /// Whether there is enough to answer, or an error.
    #[must_use]
    pub fn is_complete(&self, cluster: &Cluster, context: &Context) -> bool {
        let bytes_min = usize::try_from(self.request.bytes_min).unwrap_or(0);
        if self.request.session_id != 0 || self.request.topics.is_empty() {
            return true;
        }
        let mut bytes = 0;
        for topic in &self.request.topics {
            for asked in &topic.partitions {
                match check(cluster, context, &topic.topic, asked) {
                    Ok(log) => bytes += log.readable_bytes(asked.offset),
                    Err(_) => return true,
                }
            }
        }
        bytes >= bytes_min
    }

    /// The answer with what is there now.
    #[must_use]
    pub fn answer(self, cluster: &Cluster, context: &Context) -> Answer {
        let whole = |error| {
            let reply = reply::Fetch {
                error,
                topics: Vec::new(),
                endpoints: Vec::new(),
            };
            Answer::Reply(Reply::Fetch(reply))
        };
        if self.request.session_id != 0 {
            return whole(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        let asked_max = usize::try_from(self.request.bytes_max).unwrap_or(0);
        let mut budget = Budget {
            left: asked_max.min(ANSWER_BYTES_MAX),
            first: true,
        };
        let known = cluster.known_to(context.broker);
        let topics = self.request.topics.iter().map(|topic| {
            let label = label(known, &topic.topic);
            let rows = topic.partitions.iter().map(|asked| {
                let mut row = row(cluster, context, &topic.topic, asked, &mut budget);
                let overwriting = context
                    .injection
                    .partition_overwriting(&label.name, asked.index);
                row.error = overwriting.unwrap_or(row.error);
                row
            });
            let rows = rows.collect::<Vec<_>>();
            (label, rows)
        });
        let topics: Vec<_> = topics.collect();
        let rows = topics.iter().flat_map(|(_, rows)| rows);
        let endpoints = hinted_endpoints(known, rows.filter_map(|row| row.leader_hint));
        Answer::Reply(Reply::Fetch(reply::Fetch {
            error: ErrorCode::NONE,
            topics,
            endpoints,
        }))
    }
}

/// What the answer may still hold.
struct Budget {
    left: usize,
    /// Nothing is in it yet, so that the next batch goes in whatever its size.
    first: bool,
}

fn row(
    cluster: &Cluster,
    context: &Context,
    topic: &TopicRef,
    asked: &FetchPartition,
    budget: &mut Budget,
) -> FetchRow {
    match check(cluster, context, topic, asked) {
        Ok(log) => {
            let bytes_max = usize::try_from(asked.bytes_max)
                .unwrap_or(0)
                .min(budget.left);
            let first = if budget.first {
                FirstBatch::WhateverItsSize
            } else {
                FirstBatch::IfItFits
            };
            let records = log.read(asked.offset, bytes_max, first);
            budget.left = budget.left.saturating_sub(records.len());
            budget.first &= records.is_empty();
            FetchRow {
                index: asked.index,
                error: ErrorCode::NONE,
                high_watermark: log.high_watermark(),
                log_start_offset: log.start_offset(),
                records,
                leader_hint: None,
            }
        }
        Err(refused) => FetchRow {
            index: asked.index,
            error: refused.error,
            high_watermark: -1,
            log_start_offset: -1,
            records: bytes::Bytes::new(),
            leader_hint: refused.hint,
        },
    }
}

struct Refused {
    error: ErrorCode,
    hint: Option<reply::LeaderHint>,
}

fn check<'a>(
    cluster: &'a Cluster,
    context: &Context,
    topic: &TopicRef,
    asked: &FetchPartition,
) -> Result<&'a Log, Refused> {
    let refused = |error| Refused { error, hint: None };
    let topology = cluster.known_to(context.broker);
    let Some(known) = find(topology, topic) else {
        return Err(refused(match topic {
            TopicRef::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
            TopicRef::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        }));
    };
    if let Some(code) = context
        .injection
        .partition_refusal(&known.name, asked.index)
    {
        return Err(refused(code));
    }
    let key = PartitionKey {
        topic: known.key,
        partition: asked.index,
    };
    let (log, _) =
        hosting::led(cluster, context, key, asked.leader_epoch).map_err(|error| Refused {
            error,
            hint: (error == ErrorCode::NOT_LEADER_OR_FOLLOWER)
                .then(|| leader_hint(topology, key))
                .flatten(),
        })?;
    if asked.offset < log.start_offset() || asked.offset > log.end_offset() {
        return Err(refused(ErrorCode::OFFSET_OUT_OF_RANGE));
    }
    Ok(log)
}
