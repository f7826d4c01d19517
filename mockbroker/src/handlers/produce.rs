//! Produce (key 0), versions 3 to 13; 0 to 2 are advertised and close the connection (KIP-896).
//!
//! | Version | |
//! |---|---|
//! | 5 | the log's start offset in each row |
//! | 7 | zstd allowed |
//! | 8 | record errors and a message in each row (KIP-467) |
//! | 9 | flexible |
//! | 10 | who leads instead, with code 6 (KIP-951) |
//! | 13 | topics by id (KIP-516) |
//!
//! *State* of a partition's entry, in Kafka's order of decisions:
//!
//! ```text
//! whole request: header readable (2) ─ transactional id there (53, 42)
//! each entry:    topic (100) ─ partition (3) ─ one batch of format 2 (87 76 2)
//! transaction:   one producer (49) ─ its coordinator (47 48 49 51 120 19), perhaps after a wait
//! each entry:    acks (21) ─ internal (17) ─ leader (6) ─ append (19 87 10 2 32 -1 18 45 47 48)
//! acks=-1:       Stored ─▶ waits for the watermark ─▶ 0
//!                              │ time-out ─▶ 7        │ leadership lost ─▶ 6, topic gone ─▶ 3
//! ```
//!
//! *Invariants*
//! 1. Nothing is appended before every entry passed its checks before the log.
//! 2. Rows come back in the order in which the request first named them; Kafka's is a hash order.
//! 3. A partition named twice has one row; the last entry is appended, a check that any of its
//!    entries fails shows (observed).
//!
//! *Source* apache/kafka `core/…/server/{KafkaApis,ReplicaManager}.scala`, `server/…/purgatory/
//! DelayedProduce.java`, `clients/…/requests/{ProduceRequest,RequestUtils}.java`; observed on
//! 4.3.1.
//!
//! *Not here* what the coordinator is asked (`produce_verification.rs`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::produce_row::{Outcome, render};
use super::produce_verification::{
    self, ASK_AGAIN_AFTER, ASK_FOR, Unverified, Word, Words, producer_of, transactional, verify,
};
use super::{
    Answer, Context, Pending as AnyPending, Wait, find, hinted_endpoints, label, leader_hint,
};
use crate::config::CompressionType;
use crate::engine::Cluster;
use crate::engine::log::Log;
use crate::engine::partition::{Acks, Appended, Verified};
use crate::engine::producer_state::ProducerBatch;
use crate::engine::time::Instant;
use crate::engine::topology::{PartitionKey, Topology, is_internal};
use crate::wire::batch_view::{BatchView, Malformed, codec};
use crate::wire::reply::{self, Reply, TopicLabel};
use crate::wire::request::{Produce, ProducePartition, TopicRef};

/// A row in the making.
#[derive(Clone, Debug)]
struct Line {
    index: i32,
    /// What passed the checks before the log, of the last entry that did.
    accepted: Option<(PartitionKey, Bytes)>,
    /// What spoke against an entry before the log was asked, or what the log said.
    outcome: Option<Outcome>,
    /// What became of an append that waited; known once and for all, whatever comes afterwards
    /// (`DelayedProduce.tryComplete`).
    settled: Option<Outcome>,
}

impl Line {
    fn key(&self) -> Option<PartitionKey> {
        self.accepted.as_ref().map(|(key, _)| *key)
    }
}

/// The rows of a topic in the making.
#[derive(Clone, Debug)]
struct Topic {
    label: TopicLabel,
    lines: Vec<Line>,
    by_index: BTreeMap<i32, usize>,
}

impl Topic {
    fn line(&mut self, index: i32) -> &mut Line {
        let at = *self.by_index.entry(index).or_insert(self.lines.len());
        if at == self.lines.len() {
            self.lines.push(Line {
                index,
                accepted: None,
                outcome: None,
                settled: None,
            });
        }
        &mut self.lines[at]
    }
}

/// Appends what may be appended, and answers at once or when enough replicas have it.
pub fn handle(cluster: &mut Cluster, context: &Context, request: Produce, now: Instant) -> Answer {
    let known = cluster.known_to(context.broker);
    let topics = match whole_request(&request) {
        Some(outcome) => rows(known, &request, |_, _| Ok(Check::Fails(outcome.clone()))),
        None => rows(known, &request, |topic, entry| {
            check(known, context, topic, entry)
        }),
    };
    let Ok(topics) = topics else {
        cluster.note("records are null: the request is stuck, as on a real broker".into());
        return Answer::Stuck;
    };
    let attempt = Attempt {
        topics,
        acks: request.acks,
        timeout_ms: request.timeout_ms,
        transactional_id: request.transactional_id.unwrap_or_default(),
        ask_until: now + ASK_FOR,
    };
    attempt.answer(cluster, context, now)
}

/// A request whose entries were checked, and of which nothing is appended yet.
#[derive(Clone, Debug)]
pub struct Attempt {
    topics: Vec<Topic>,
    acks: i16,
    timeout_ms: i32,
    transactional_id: String,
    /// As long as the coordinator of its transaction is asked again.
    ask_until: Instant,
}

impl Attempt {
    /// Appends what may be appended; asks the coordinator of its transaction before.
    #[must_use]
    pub fn answer(mut self, cluster: &mut Cluster, context: &Context, now: Instant) -> Answer {
        let batches = self.batches();
        let mut words = Words::new();
        if let Some(producer) = producer_of(&batches) {
            let transaction = (self.transactional_id.as_str(), producer);
            words = verify(cluster, context, transaction, &batches, now);
        } else if !batches.is_empty() {
            self.refuse_all(&Outcome::TwoProducers);
        }
        let busy = words.values().any(|word| *word == Word::AskAgain);
        if busy && now < self.ask_until {
            return Answer::Wait(Wait {
                deadline: self.ask_until.min(now + ASK_AGAIN_AFTER),
                watched: Vec::new(),
                pending: AnyPending::Joining(self),
            });
        }
        let at = At {
            acks: self.acks,
            now,
        };
        for topic in &mut self.topics {
            for line in &mut topic.lines {
                append(cluster, context, (&topic.label, line), &words, &at);
            }
        }
        answer(cluster, context, self, now)
    }

    fn refuse_all(&mut self, outcome: &Outcome) {
        for line in self.topics.iter_mut().flat_map(|topic| &mut topic.lines) {
            line.accepted = None;
            line.outcome = Some(outcome.clone());
        }
    }

    /// The batches of transactions, with their partitions. Without an id none came as far as here
    /// (`whole_request`), and no header need be read again.
    fn batches(&self) -> produce_verification::Batches {
        if self.transactional_id.is_empty() {
            return Vec::new();
        }
        let lines = self.topics.iter().flat_map(|topic| &topic.lines);
        let accepted = lines.filter_map(|line| line.accepted.as_ref());
        let batches = accepted.filter_map(|(key, records)| {
            let header = transactional(records)?;
            Some((*key, ProducerBatch::of(&header)?))
        });
        batches.collect()
    }
}

/// What speaks against the request as a whole, before any entry is looked at.
fn whole_request(request: &Produce) -> Option<Outcome> {
    match (scan(request), request.transactional_id.as_deref()) {
        (Err(malformed), _) => Some(Outcome::UnreadableHeader(malformed)),
        (Ok(Batches::Transactional), None) => Some(Outcome::TransactionalIdMissing),
        (Ok(Batches::Transactional), Some("")) => Some(Outcome::TransactionalIdEmpty),
        (Ok(Batches::Transactional), Some(_)) | (Ok(Batches::Plain), _) => None,
    }
}

enum Batches {
    Plain,
    Transactional,
}

/// Looks at the first batch of every entry, until a transactional one is found
/// (`RequestUtils.hasTransactionalRecords`).
fn scan(request: &Produce) -> Result<Batches, Malformed> {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    for records in partitions.filter_map(|partition| partition.records.as_ref()) {
        if let Some((batch, _)) = BatchView::first(records)?
            && batch.is_transactional()
        {
            return Ok(Batches::Transactional);
        }
    }
    Ok(Batches::Plain)
}

/// Records are null where the broker would look into them.
struct NullRecords;

/// What the checks before the log say of an entry.
enum Check {
    Passes(PartitionKey, Bytes),
    Fails(Outcome),
}

/// A row for every partition that is named; a partition named again adds to its row.
fn rows(
    known: &Topology,
    request: &Produce,
    check: impl Fn((&TopicRef, &TopicLabel), &ProducePartition) -> Result<Check, NullRecords>,
) -> Result<Vec<Topic>, NullRecords> {
    let mut topics: Vec<Topic> = Vec::with_capacity(request.topics.len());
    let mut places = BTreeMap::new();
    for topic in &request.topics {
        let label = label(known, &topic.topic);
        let place = (label.id, Arc::clone(&label.name));
        let place = *places.entry(place).or_insert_with(|| {
            topics.push(Topic {
                label: label.clone(),
                lines: Vec::new(),
                by_index: BTreeMap::new(),
            });
            topics.len() - 1
        });
        let Some(rows) = topics.get_mut(place) else {
            continue;
        };
        for entry in &topic.partitions {
            let line = rows.line(entry.index);
            match check((&topic.topic, &label), entry)? {
                Check::Passes(key, records) => line.accepted = Some((key, records)),
                Check::Fails(outcome) => line.outcome = Some(outcome),
            }
        }
    }
    topics.retain(|topic| !topic.lines.is_empty());
    Ok(topics)
}

/// The checks before the log: KafkaApis.handleProduceRequest, ProduceRequest.validateRecords.
fn check(
    topology: &Topology,
    context: &Context,
    (topic, label): (&TopicRef, &TopicLabel),
    entry: &ProducePartition,
) -> Result<Check, NullRecords> {
    if let Some(code) = context
        .injection
        .partition_refusal(&label.name, entry.index)
    {
        return Ok(Check::Fails(Outcome::Injected(code)));
    }
    let known = find(topology, topic);
    if known.is_none() && matches!(topic, TopicRef::Id(_)) {
        return Ok(Check::Fails(Outcome::UnknownTopicId));
    }
    let Some(known) = known.filter(|topic| topic.placement(entry.index).is_some()) else {
        return Ok(Check::Fails(Outcome::UnknownTopicOrPartition));
    };
    let records = entry.records.as_ref().ok_or(NullRecords)?;
    let key = PartitionKey {
        topic: known.key,
        partition: entry.index,
    };
    Ok(match check_shape(records, context.header.version) {
        Some(outcome) => Check::Fails(outcome),
        None => Check::Passes(key, records.clone()),
    })
}

fn check_shape(records: &Bytes, version: i16) -> Option<Outcome> {
    let Ok(Some((batch, rest))) = BatchView::first(records) else {
        // A malformed beginning was seen before, for the whole request.
        return Some(Outcome::NoBatch);
    };
    if batch.magic() != 2 {
        return Some(Outcome::OldFormat);
    }
    let attributes = batch.split().map_or(0, |(header, _)| header.attributes);
    if version < 7 && codec(attributes) == Some(CompressionType::Zstd) {
        return Some(Outcome::ZstdTooEarly);
    }
    match BatchView::first(rest) {
        Ok(None) => None,
        Ok(Some(_)) => Some(Outcome::TwoBatches),
        Err(_) => Some(Outcome::MalformedTail),
    }
}

/// What all entries of a request share when they are appended.
struct At {
    acks: i16,
    now: Instant,
}

/// The checks of ReplicaManager, then the log's.
fn append(
    cluster: &mut Cluster,
    context: &Context,
    (label, line): (&TopicLabel, &mut Line),
    words: &Words,
    at: &At,
) {
    let Some((key, records)) = &line.accepted else {
        return;
    };
    let verified = match words.get(key) {
        Some(Word::ToTheLog(verified)) => Ok(*verified),
        Some(Word::Refused(unverified)) => Err(*unverified),
        Some(Word::AskAgain) => Err(Unverified::CONCURRENT),
        None => Ok(Verified::No),
    };
    let outcome = match required(at.acks) {
        _ if let Err(unverified) = verified => Outcome::Unverified(unverified),
        None => Outcome::InvalidAcks,
        Some(_) if is_internal(&label.name) && !is_admin(context) => Outcome::InternalTopic,
        Some(_) if !cluster.leads(*key, context.broker) => Outcome::NotLeader {
            hint: leader_hint(cluster.known_to(context.broker), *key),
            base_offset: None,
        },
        Some(acks) => {
            let records = own(records, context);
            let how = (acks, verified.unwrap_or(Verified::No));
            match cluster.append((*key, context.broker), &records, how, at.now) {
                Ok(appended) => Outcome::Appended(appended),
                Err(Some(error)) => Outcome::Refused(error),
                Err(None) => Outcome::UnknownTopicOrPartition,
            }
        }
    };
    // What another entry of this partition failed before the log shows, not this (observed).
    line.outcome.get_or_insert(outcome);
}

/// Records that do not hold a buffer much larger than they are: what came with them would stay as
/// long as the log, uncounted.
fn own(records: &Bytes, context: &Context) -> Bytes {
    if records.len() < COPIED_BYTES_MAX || records.len() < context.frame_bytes / 2 {
        Bytes::copy_from_slice(records)
    } else {
        records.clone()
    }
}

/// Records below this are copied: a connection reads into buffers of this size.
const COPIED_BYTES_MAX: usize = 64 * 1024;

const fn required(acks: i16) -> Option<Acks> {
    match acks {
        0 | 1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    }
}

/// The admin client may write to internal topics (`ReplicaManager.appendToLocalLog`; observed).
fn is_admin(context: &Context) -> bool {
    context.header.client_id.as_deref() == Some("__admin_client")
}

fn answer(cluster: &Cluster, context: &Context, attempt: Attempt, now: Instant) -> Answer {
    let Attempt {
        topics,
        acks,
        timeout_ms,
        ..
    } = attempt;
    let mut pending = Pending { topics };
    match acks {
        0 => pending.answer_without_bytes(context),
        -1 if !pending.settle(cluster, context) => {
            let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
            let watched = pending.lines().filter_map(Line::key).collect();
            Answer::Wait(Wait {
                pending: AnyPending::Produce(pending),
                watched,
                deadline: now + Duration::from_millis(timeout_ms),
            })
        }
        _ => pending.reply(cluster, context, Replication::as_asked(acks)),
    }
}

/// What a finished request says of rows that were appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replication {
    /// Nothing: the leader's append is enough.
    NotAsked,
    /// Whether they are replicated.
    Asked,
}

impl Replication {
    const fn as_asked(acks: i16) -> Self {
        if acks == -1 {
            Self::Asked
        } else {
            Self::NotAsked
        }
    }
}

/// A request that waits for replication: `DelayedProduce`.
#[derive(Clone, Debug)]
pub struct Pending {
    topics: Vec<Topic>,
}

impl Pending {
    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.topics.iter().flat_map(|topic| &topic.lines)
    }

    /// Settles the rows whose outcome can be known now; `true` when that is all of them.
    pub fn settle(&mut self, cluster: &Cluster, context: &Context) -> bool {
        let lines = self.topics.iter_mut().flat_map(|topic| &mut topic.lines);
        let mut all = true;
        for line in lines {
            if let (Some(Outcome::Appended(appended)), None) = (&line.outcome, &line.settled) {
                match replicated(cluster, context, line.key(), appended) {
                    Outcome::TimedOut { .. } => all = false,
                    end => line.settled = Some(end),
                }
            }
        }
        all
    }

    /// The answer: what is replicated, what was refused, and 7 for what is neither.
    #[must_use]
    pub fn answer(self, cluster: &Cluster, context: &Context) -> Answer {
        self.reply(cluster, context, Replication::Asked)
    }

    fn reply(self, cluster: &Cluster, context: &Context, replication: Replication) -> Answer {
        let topics = self.topics.into_iter().map(|topic| {
            let rows = topic.lines.into_iter().map(|line| {
                let key = line.key();
                let outcome = match (line.settled, line.outcome) {
                    (Some(settled), _) => settled,
                    (None, Some(Outcome::Appended(appended)))
                        if replication == Replication::Asked =>
                    {
                        replicated(cluster, context, key, &appended)
                    }
                    (None, Some(outcome)) => outcome,
                    (None, None) => Outcome::UnknownTopicOrPartition,
                };
                let log = key.and_then(|key| cluster.partition(key)?.log_on(context.broker));
                let log_start = log.map_or(0, Log::start_offset);
                let mut row = render(&outcome, (&topic.label.name, line.index), log_start);
                let injection = &context.injection;
                if let Some(code) = injection.partition_overwriting(&topic.label.name, line.index) {
                    row.error = code;
                }
                row
            });
            (topic.label.clone(), rows.collect::<Vec<_>>())
        });
        let topics: Vec<_> = topics.collect();
        let known = cluster.known_to(context.broker);
        let rows = topics.iter().flat_map(|(_, rows)| rows);
        let endpoints = hinted_endpoints(known, rows.filter_map(|row| row.leader_hint));
        Answer::Reply(Reply::Produce(reply::Produce { topics, endpoints }))
    }

    /// acks=0: nothing is answered, but an error closes the connection.
    fn answer_without_bytes(&self, context: &Context) -> Answer {
        let failed = self.topics.iter().find_map(|topic| {
            let failed = topic.lines.iter().find(|line| {
                let name = &topic.label.name;
                let injected = context
                    .injection
                    .partition_overwriting(name, line.index)
                    .is_some();
                injected || !matches!(line.outcome, Some(Outcome::Appended(_)))
            });
            failed.map(|line| format!("acks=0 failed for {}-{}", topic.label.name, line.index))
        });
        failed.map_or(Answer::Silent, |reason| Answer::Close(reason.into()))
    }
}

/// How an appended batch stands (`Partition.checkEnoughReplicasReachOffset`).
pub(super) fn replicated(
    cluster: &Cluster,
    context: &Context,
    key: Option<PartitionKey>,
    appended: &Appended,
) -> Outcome {
    let (base_offset, last_offset) = match appended {
        Appended::Stored {
            base_offset,
            last_offset,
            ..
        }
        | Appended::Duplicate {
            base_offset,
            last_offset,
            ..
        } => (*base_offset, *last_offset),
    };
    let Some(key) = key else {
        return Outcome::Appended(appended.clone());
    };
    let known = cluster.known_to(context.broker);
    let (Some(partition), Some(topic)) = (cluster.partition(key), known.topic(key.topic)) else {
        return Outcome::TopicGone { base_offset };
    };
    let log = partition.log_on(context.broker);
    let (Some(log), true) = (log, cluster.leads(key, context.broker)) else {
        let hint = leader_hint(known, key);
        return Outcome::NotLeader {
            hint,
            base_offset: Some(base_offset),
        };
    };
    if log.high_watermark() <= last_offset {
        Outcome::TimedOut {
            appended: appended.clone(),
        }
    } else if partition.has_enough_replicas(context.broker, &topic.config) {
        Outcome::Appended(appended.clone())
    } else {
        Outcome::TooFewAfterAppend { base_offset }
    }
}
