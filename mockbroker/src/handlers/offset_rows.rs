//! Rows of requests that commit offsets: which partitions there are, and what is told of each.
//!
//! *State* of a row:
//!
//! ```text
//!       unknown: 3, 100              the coordinator: one code for all     too much metadata: 12
//! row ─┬────────────────▶ told first  ┌───────────────────────────▶ told   ┌───────────────▶ told
//!      └─▶ good ──────────────────────┴────────────────────────────────────┴─▶ committed: 0
//! ```
//!
//! *Invariants*
//! 1. The coordinator is asked only if there is a good row.
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleOffsetCommitRequest,
//! handleTxnOffsetCommitRequest; `clients/…/requests/OffsetCommitResponse.java` Builder.merge.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Context, find, label};
use crate::engine::Cluster;
use crate::engine::group_offsets::{Commits, Committed};
use crate::engine::groups::Claim;
use crate::error_code::ErrorCode;
use crate::wire::offsets::{CommitRow, CommitTopic, CommittedTopic, Membership};
use crate::wire::reply::TopicLabel;
use crate::wire::request::TopicRef;

/// `offset.metadata.max.bytes`, which is compared with UTF-16 units.
const METADATA_MAX: usize = 4_096;

/// The rows of a request.
pub(super) struct Rows<'a> {
    refused: Vec<CommittedTopic>,
    good: Vec<(TopicLabel, Vec<&'a CommitRow>)>,
}

/// What a client says of its membership, as the engine takes it.
pub(super) fn claim(by: &Membership) -> Claim<'_> {
    Claim {
        generation: by.generation,
        member: &by.member,
        instance: by.instance.as_deref(),
    }
}

/// The rows of the answer to a request that commits, by `commit`, what there is.
pub(super) fn committed(
    cluster: &mut Cluster,
    context: &Context,
    topics: &[CommitTopic],
    commit: impl FnOnce(&mut Cluster, &Rows<'_>) -> Result<(), ErrorCode>,
) -> Vec<CommittedTopic> {
    let rows = Rows::of(cluster, context, topics);
    let outcome = match rows.good.is_empty() {
        true => Ok(()),
        false => commit(cluster, &rows),
    };
    rows.told(context, outcome)
}

impl<'a> Rows<'a> {
    /// Divides them into what there is and what there is not.
    fn of(cluster: &Cluster, context: &Context, topics: &'a [CommitTopic]) -> Self {
        let known = cluster.known_to(context.broker);
        let mut rows = Self {
            refused: Vec::new(),
            good: Vec::new(),
        };
        for (named, asked) in topics {
            let label = label(known, named);
            let topic = find(known, named);
            let (mut refused, mut good) = (Vec::new(), Vec::new());
            for row in asked {
                let there = topic.is_some_and(|topic| topic.placement(row.index).is_some());
                let rule = context.injection.partition_refusal(&label.name, row.index);
                match (rule, named, topic) {
                    (Some(code), _, _) => refused.push((row.index, code)),
                    _ if there => good.push(row),
                    (None, TopicRef::Id(_), None) => {
                        refused.push((row.index, ErrorCode::UNKNOWN_TOPIC_ID));
                    }
                    _ => refused.push((row.index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
                }
            }
            if !refused.is_empty() {
                rows.refused.push((label.clone(), refused));
            }
            if !good.is_empty() {
                rows.good.push((label, good));
            }
        }
        rows
    }

    /// What is to be committed: good rows without too much metadata. The last one counts where a
    /// partition is named twice.
    pub(super) fn commits(&self) -> Commits {
        let rows = self.good.iter().flat_map(|(label, rows)| {
            let name: &Arc<str> = &label.name;
            let fitting = rows.iter().filter(|row| !has_too_much(row));
            fitting.map(move |row| ((Arc::clone(name), row.index), stored(row)))
        });
        rows.collect()
    }

    /// The rows of the answer, once the coordinator has said yes or no.
    fn told(self, context: &Context, outcome: Result<(), ErrorCode>) -> Vec<CommittedTopic> {
        let code = |row: &CommitRow| match outcome {
            Err(code) => code,
            Ok(()) if has_too_much(row) => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Ok(()) => ErrorCode::NONE,
        };
        let mut told = self.refused;
        let key = |label: &TopicLabel| (Arc::clone(&label.name), label.id);
        let mut places = BTreeMap::new();
        for (place, (label, _)) in told.iter().enumerate() {
            places.entry(key(label)).or_insert(place);
        }
        for (label, rows) in self.good {
            let rows = rows.iter().map(|row| {
                let injection = &context.injection;
                let overwriting = injection.partition_overwriting(&label.name, row.index);
                (row.index, overwriting.unwrap_or_else(|| code(row)))
            });
            let place = *places.entry(key(&label)).or_insert(told.len());
            match told.get_mut(place) {
                Some((_, before)) => before.extend(rows),
                None => told.push((label.clone(), rows.collect())),
            }
        }
        told
    }
}

fn has_too_much(row: &CommitRow) -> bool {
    let metadata = row.metadata.as_deref().unwrap_or_default();
    metadata.len() > METADATA_MAX && metadata.encode_utf16().count() > METADATA_MAX
}

fn stored(row: &CommitRow) -> Committed {
    Committed {
        offset: row.offset,
        leader_epoch: row.leader_epoch.max(-1),
        metadata: row.metadata.as_deref().unwrap_or_default().into(),
    }
}
