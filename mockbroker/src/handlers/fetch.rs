//! Fetch (key 1), versions 4 to 18.
//!
//! | Version | |
//! |---|---|
//! | 5 | the log's start offset |
//! | 7 | an outcome of the whole request; fetch sessions (KIP-227) |
//! | 9 | the leader epoch that the client knows (KIP-320) |
//! | 10 | records of a topic that keeps them in zstd (KIP-110) |
//! | 12 | flexible |
//! | 13 | topics by id (KIP-516) |
//! | 16 | who leads instead, with codes 6 and 74, and how to reach it (KIP-951) |
//!
//! *State* of a request:
//!
//! ```text
//!         session: none of this id (70), other epoch (71), other naming (106)
//! Asked ─┬─────────────────────────────────────────────────────────────────▶ Refused
//!        │ enough bytes, an error, nothing that exists, no wait asked
//!        ├────────────────────────────────────────────────────────▶ Answered
//!        └─▶ Waits ── enough bytes, an error, or the time is over ──▶ Answered
//! ```
//!
//! *Invariants*
//! 1. Nothing above the high watermark is returned; to readers of what is committed nothing above
//!    the last stable offset.
//! 2. The first batch of a request is returned whatever its size (KIP-74); of what follows as much
//!    as fits, so that the last batch may be cut, but no partition begins with a cut one.
//! 3. An answer holds at most 55 MiB beside its first batch.
//! 4. Topics and partitions that do not exist are told last, and nobody waits for them (observed).
//! 5. A partition named twice has one row, at the first place, for what was said last (observed).
//!
//! *Source* apache/kafka `core/…/server/{KafkaApis,ReplicaManager}.scala`, `DelayedFetch.java`;
//! observed on 4.3.1.
//!
//! *Deviations* no followers outside of the cluster: whoever asks is answered as a consumer, also
//! with an epoch fetched last. Of aborted transactions those are told with records up to the last
//! batch of the answer, where Kafka looks into an index that is coarser than batches.

use core::time::Duration;
use std::collections::BTreeMap;

use super::hosting;
use super::{
    Answer, Context, Pending as AnyPending, Wait, find, hinted_endpoints, label, leader_hint,
};
use crate::config::CompressionType;
use crate::engine::Cluster;
use crate::engine::fetch_sessions::{Naming, Outcome, Records, Request, SessionError, Told};
use crate::engine::log::{FirstBatch, Log, ReadFrom, Reader};
use crate::engine::quotas::QuotaKey;
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, FetchRow, Reply, TopicLabel};
use crate::wire::request::{Fetch, FetchPartition, TopicRef};

/// Bytes of an answer: the broker's default `fetch.max.bytes`.
const ANSWER_BYTES_MAX: i32 = 55 << 20;

/// What is read of a partition.
type Line = (TopicRef, FetchPartition);

/// Answers what is there, at once or when there is enough.
pub fn handle(cluster: &mut Cluster, context: &Context, request: Fetch, now: Instant) -> Answer {
    if request.replica_id >= 0 {
        let note = "a follower fetches over the network, and is answered as a consumer";
        cluster.note(format!("{note}: replica {}", request.replica_id));
    }
    let (lines, session) = match in_session(cluster, context, &request, now) {
        Ok(known) => known,
        Err(error) => return whole(error, 0, Vec::new()),
    };
    let reader = match request.isolation {
        READ_UNCOMMITTED => Reader::OfAll,
        READ_COMMITTED => Reader::OfCommitted,
        _ => return unknown_isolation(cluster, context, &request),
    };
    let bytes_max = request.bytes_max.min(ANSWER_BYTES_MAX);
    let bytes_max = bytes_max.min(burst_bytes(cluster, context));
    let pending = Pending {
        lines,
        session,
        reader,
        bytes_max: i64::from(bytes_max),
        bytes_min: i64::from(request.bytes_min.min(bytes_max)),
        arrived: now,
    };
    let wait_ms = u64::try_from(request.wait_ms_max).unwrap_or(0);
    if wait_ms == 0 || pending.is_complete(cluster, context) {
        return pending.answer(cluster, context);
    }
    let watched = pending.keys(cluster, context);
    let deadline = now + Duration::from_millis(wait_ms);
    Answer::Wait(Wait {
        pending: AnyPending::Fetch(pending),
        watched,
        deadline,
    })
}

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// What becomes of the session when the request is answered.
#[derive(Clone, Copy, Debug)]
enum Session {
    /// There is none.
    None,
    /// It begins.
    Begins,
    /// It goes on; its id, and the epoch of the request.
    GoesOn(i32, i32),
}

/// `FetchMetadata.INITIAL_EPOCH`.
const BEGIN: i32 = 0;
/// `FetchMetadata.FINAL_EPOCH`.
const END: i32 = -1;

/// What is to be read: what the request says, and what its session holds (`FetchManager.
/// newContext`).
fn in_session(
    cluster: &mut Cluster,
    context: &Context,
    request: &Fetch,
    now: Instant,
) -> Result<(Vec<Line>, Session), ErrorCode> {
    let asked = distinct(request);
    let (id, epoch) = (request.session_id, request.session_epoch);
    let sessions = cluster.fetch_sessions_mut();
    if matches!(epoch, BEGIN | END) {
        sessions.end(context.broker, id);
        let session = match epoch {
            BEGIN => Session::Begins,
            _ => Session::None,
        };
        return Ok((asked, session));
    }
    let said = Request {
        naming: naming(context),
        asked: &asked,
        forgotten: &request.forgotten,
    };
    match sessions.go_on(context.broker, (id, epoch), &said, now) {
        Ok(Some(lines)) => Ok((lines, Session::GoesOn(id, epoch))),
        Ok(None) => Ok((asked, Session::None)),
        Err(SessionError::NotFound) => Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        Err(SessionError::WrongEpoch) => Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        Err(SessionError::OtherNames) => Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
    }
}

const fn naming(context: &Context) -> Naming {
    if context.header.version >= 13 {
        Naming::Ids
    } else {
        Naming::Names
    }
}

fn distinct(request: &Fetch) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut places = BTreeMap::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            let place = *places
                .entry((&topic.topic, asked.index))
                .or_insert(lines.len());
            match lines.get_mut(place) {
                Some(line) => line.1 = *asked,
                None => lines.push((topic.topic.clone(), *asked)),
            }
        }
    }
    lines
}

fn whole(error: ErrorCode, session_id: i32, topics: Vec<(TopicLabel, Vec<FetchRow>)>) -> Answer {
    Answer::Reply(Reply::Fetch(reply::Fetch {
        error,
        session_id,
        topics,
        endpoints: Vec::new(),
    }))
}

/// Kafka fails at the request as a whole (observed).
fn unknown_isolation(cluster: &Cluster, context: &Context, request: &Fetch) -> Answer {
    let known = cluster.known_to(context.broker);
    let error = ErrorCode::UNKNOWN_SERVER_ERROR;
    let topics = request
        .topics
        .iter()
        .filter(|_| context.header.version < 13);
    let topics = topics.map(|topic| {
        let rows = topic.partitions.iter();
        let rows = rows.map(|asked| failed(asked.index, &Refused::by_metadata(error)));
        (label(known, &topic.topic), rows.collect())
    });
    whole(error, request.session_id, topics.collect())
}

/// A request that waits for data: `DelayedFetch`.
#[derive(Clone, Debug)]
pub struct Pending {
    lines: Vec<Line>,
    session: Session,
    reader: Reader,
    bytes_max: i64,
    bytes_min: i64,
    arrived: Instant,
}

/// A row in the making.
struct Draft {
    line: Line,
    row: FetchRow,
}

impl Pending {
    fn keys(&self, cluster: &Cluster, context: &Context) -> Vec<PartitionKey> {
        let known = cluster.known_to(context.broker);
        let keys = self.lines.iter().filter_map(|(topic, asked)| {
            let topic = find(known, topic)?.key;
            Some(PartitionKey {
                topic,
                partition: asked.index,
            })
        });
        keys.collect()
    }

    /// Whether there is enough to answer, or an error; what does not exist is not waited for.
    #[must_use]
    pub fn is_complete(&self, cluster: &Cluster, context: &Context) -> bool {
        let mut budget = Budget::of(self.bytes_max);
        let (mut bytes, mut waits) = (0, false);
        for (topic, asked) in &self.lines {
            match check(cluster, context, topic, asked) {
                Ok(log) => {
                    let from = self.from(asked);
                    let Some((bytes_max, first)) = budget.for_line(log, asked, from) else {
                        return true;
                    };
                    let readable = log.readable_within(from, bytes_max, first);
                    budget.spend(readable);
                    bytes += i64::try_from(readable).unwrap_or(i64::MAX);
                    waits = true;
                }
                Err(refused) if refused.stage == Stage::Log => return true,
                Err(_) => {}
            }
        }
        !waits || bytes >= self.bytes_min
    }

    /// The answer with what is there now.
    #[must_use]
    pub fn answer(self, cluster: &mut Cluster, context: &Context) -> Answer {
        let mut rows = self.rows(cluster, context);
        let slots = cluster.config_of(context.broker);
        let slots = slots.max_incremental_fetch_session_cache_slots;
        let slots = usize::try_from(slots).unwrap_or(0);
        let sessions = cluster.fetch_sessions_mut();
        let session_id = match self.session {
            Session::None => 0,
            Session::Begins => {
                let told = rows.iter().map(|told| {
                    let (topic, asked) = told.line.clone();
                    (topic, asked, told.told())
                });
                let kind = (naming(context), slots);
                sessions.begin(context.broker, told, kind, self.arrived)
            }
            Session::GoesOn(id, epoch) => {
                let told = rows.iter().map(|told| {
                    let (topic, asked) = &told.line;
                    (topic.clone(), asked.index, told.told())
                });
                let Some(tell) = sessions.tell(context.broker, (id, epoch), told) else {
                    return whole(ErrorCode::INVALID_FETCH_SESSION_EPOCH, id, Vec::new());
                };
                let mut tell = tell.into_iter();
                rows.retain(|_| tell.next().unwrap_or(true));
                id
            }
        };
        let known = cluster.known_to(context.broker);
        let hints = rows.iter().filter_map(|told| told.row.leader_hint);
        let endpoints = hinted_endpoints(known, hints);
        let mut topics: Vec<(TopicRef, TopicLabel, Vec<FetchRow>)> = Vec::new();
        for Draft { line, row } in rows {
            match topics.last_mut() {
                // Only neighbours share a topic's entry (`FetchResponse.toMessage`).
                Some((topic, _, rows)) if *topic == line.0 => rows.push(row),
                _ => topics.push((line.0.clone(), label(known, &line.0), vec![row])),
            }
        }
        let topics = topics.into_iter().map(|(_, label, rows)| (label, rows));
        Answer::Reply(Reply::Fetch(reply::Fetch {
            error: ErrorCode::NONE,
            session_id,
            topics: topics.collect(),
            endpoints,
        }))
    }

    const fn from(&self, asked: &FetchPartition) -> ReadFrom {
        ReadFrom {
            offset: asked.offset,
            reader: self.reader,
        }
    }

    /// A row for every line, those of what does not exist last.
    fn rows(&self, cluster: &Cluster, context: &Context) -> Vec<Draft> {
        let mut budget = Budget::of(self.bytes_max);
        let (mut rows, mut unknown) = (Vec::new(), Vec::new());
        for (topic, asked) in &self.lines {
            let checked = check(cluster, context, topic, asked);
            let read = checked.and_then(|log| self.read(log, asked, &mut budget));
            let stage = read
                .as_ref()
                .map_or_else(|refused| refused.stage, |_| Stage::Log);
            let mut row = match read {
                Ok(row) if zstd_too_early(cluster, context, topic) => {
                    failed(row.index, &Refused::by_metadata(TOO_EARLY))
                }
                Ok(row) => row,
                Err(refused) => failed(asked.index, &refused),
            };
            let name = label(cluster.known_to(context.broker), topic).name;
            let overwriting = context.injection.partition_overwriting(&name, asked.index);
            row.error = overwriting.unwrap_or(row.error);
            let line = (topic.clone(), *asked);
            match stage {
                Stage::Log => rows.push(Draft { line, row }),
                Stage::Metadata => unknown.push(Draft { line, row }),
            }
        }
        rows.append(&mut unknown);
        rows
    }

    fn read(
        &self,
        log: &Log,
        asked: &FetchPartition,
        budget: &mut Budget,
    ) -> Result<FetchRow, Refused> {
        let from = self.from(asked);
        let (bytes_max, first) = budget
            .for_line(log, asked, from)
            .ok_or(Refused::by_log(ErrorCode::UNKNOWN_SERVER_ERROR))?;
        let records = log.read(from, bytes_max, first);
        budget.spend(records.len());
        let readable = log.readable_bytes(from);
        let aborted = || {
            // What is aborted behind a full answer is told with the next one.
            let end = match records.len() < readable {
                true => log.end_of_read(from, records.len()),
                false => log.end_offset(),
            };
            log.transactions().aborted(asked.offset, end).collect()
        };
        Ok(FetchRow {
            index: asked.index,
            error: ErrorCode::NONE,
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.start_offset(),
            aborted: (self.reader == Reader::OfCommitted).then(aborted),
            records,
            leader_hint: None,
        })
    }
}

impl Draft {
    const fn told(&self) -> Told {
        Told {
            high_watermark: self.row.high_watermark,
            log_start_offset: self.row.log_start_offset,
            outcome: match self.row.error {
                ErrorCode::NONE => Outcome::Good,
                _ => Outcome::Failed,
            },
            records: match self.row.records.is_empty() {
                true => Records::None,
                false => Records::Some,
            },
        }
    }
}

/// More at once would be throttled whatever came before, and would never be sent.
fn burst_bytes(cluster: &Cluster, context: &Context) -> i32 {
    let client_id = context.header.client_id.as_deref().unwrap_or_default();
    let key = QuotaKey::ConsumerByteRate;
    let burst = cluster.quotas().burst_bytes(key, context.broker, client_id);
    burst.unwrap_or(i32::MAX)
}

/// What the answer may still hold.
struct Budget {
    left: i64,
    /// Nothing is in it yet, so that the next batch goes in whatever its size.
    first: FirstBatch,
}

impl Budget {
    const fn of(bytes_max: i64) -> Self {
        Self {
            left: bytes_max,
            first: FirstBatch::WhateverItsSize,
        }
    }

    /// How much of a partition may be read; `None` for less than nothing, where there is something
    /// to read.
    fn for_line(
        &self,
        log: &Log,
        asked: &FetchPartition,
        from: ReadFrom,
    ) -> Option<(usize, FirstBatch)> {
        let bytes_max = self.left.min(i64::from(asked.bytes_max));
        match usize::try_from(bytes_max) {
            Ok(bytes_max) => Some((bytes_max, self.first)),
            Err(_) if log.readable_bytes(from) == 0 => Some((0, self.first)),
            Err(_) => None,
        }
    }

    fn spend(&mut self, bytes: usize) {
        if bytes > 0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.left = self.left.saturating_sub(bytes).max(0);
            self.first = FirstBatch::IfItFits;
        }
    }
}

/// Who refuses a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What the broker knows of the cluster.
    Metadata,
    /// The partition itself.
    Log,
}

struct Refused {
    error: ErrorCode,
    hint: Option<reply::LeaderHint>,
    stage: Stage,
}

impl Refused {
    const fn by_metadata(error: ErrorCode) -> Self {
        Self {
            error,
            hint: None,
            stage: Stage::Metadata,
        }
    }

    const fn by_log(error: ErrorCode) -> Self {
        Self {
            error,
            hint: None,
            stage: Stage::Log,
        }
    }
}

fn failed(index: i32, refused: &Refused) -> FetchRow {
    FetchRow {
        index,
        error: refused.error,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted: match refused.stage {
            Stage::Metadata => Some(Vec::new()),
            Stage::Log => None,
        },
        records: bytes::Bytes::new(),
        leader_hint: refused.hint,
    }
}

const TOO_EARLY: ErrorCode = ErrorCode::UNSUPPORTED_COMPRESSION_TYPE;

/// Readers before version 10 do not know zstd, and are told so by the topic's configuration alone
/// (`KafkaApis.maybeConvertFetchedData`).
fn zstd_too_early(cluster: &Cluster, context: &Context, topic: &TopicRef) -> bool {
    let known = find(cluster.known_to(context.broker), topic);
    context.header.version < 10
        && known.is_some_and(|topic| {
            let config = cluster.topic_config(topic, context.broker);
            config.compression_type == CompressionType::Zstd
        })
}

fn check<'a>(
    cluster: &'a Cluster,
    context: &Context,
    topic: &TopicRef,
    asked: &FetchPartition,
) -> Result<&'a Log, Refused> {
    let known = cluster.known_to(context.broker);
    let Some(found) = find(known, topic) else {
        return Err(Refused::by_metadata(match topic {
            TopicRef::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
            TopicRef::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        }));
    };
    let injection = &context.injection;
    if let Some(code) = injection.partition_refusal(&found.name, asked.index) {
        return Err(Refused::by_log(code));
    }
    let Ok(key) = hosting::key(cluster, context, &found.name, asked.index) else {
        return Err(Refused::by_metadata(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    };
    // Every number below 0 stands for an epoch that is not known.
    let known_epoch = asked.leader_epoch.max(-1);
    let led = hosting::led(cluster, context, key, known_epoch);
    let (log, _) = led.map_err(|error| Refused {
        hint: matches!(
            error,
            ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH
        )
        .then(|| leader_hint(known, key))
        .flatten(),
        ..Refused::by_log(error)
    })?;
    if asked.offset < log.start_offset() || asked.offset > log.end_offset() {
        return Err(Refused::by_log(ErrorCode::OFFSET_OUT_OF_RANGE));
    }
    Ok(log)
}
