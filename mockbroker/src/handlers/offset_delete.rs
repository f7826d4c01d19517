//! OffsetDelete (key 47), version 0 (KIP-496).
//!
//! *State* of a row:
//!
//! ```text
//!          the group: 24 16 15 69 68, for all        unknown: 3
//! asked ─┬────────────────────────────────▶ no rows  ┌─────────▶ told first
//!        └───────────────────────────────────────────┼─────────▶ somebody reads its topic: 86
//!                                                    └─────────▶ deleted, or not there before: 0
//! ```
//!
//! *Invariants*
//! 1. What speaks against the group leaves no rows, not even of unknown partitions (observed).
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleOffsetDeleteRequest,
//! `group-coordinator/…/group/OffsetMetadataManager.java` deleteOffsets,
//! `clients/…/requests/OffsetDeleteResponse.java` Builder.merge; observed on 4.3.1.

use std::collections::BTreeMap;

use super::{Answer, Context, hosting};
use crate::engine::Cluster;
use crate::error_code::ErrorCode;
use crate::wire::offsets::{DeletedTopic, OffsetReply};
use crate::wire::reply::Reply;

/// Deletes offsets of a group.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    (group, topics): (&str, &[(String, Vec<i32>)]),
) -> Answer {
    let (code, rows) = match delete(cluster, context, (group, topics)) {
        Ok(rows) => (ErrorCode::NONE, rows),
        Err(code) => (code, Vec::new()),
    };
    Answer::Reply(Reply::Offsets(OffsetReply::OffsetDelete(code, rows)))
}

fn delete(
    cluster: &mut Cluster,
    context: &Context,
    (group, topics): (&str, &[(String, Vec<i32>)]),
) -> Result<Vec<DeletedTopic>, ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    cluster.check_group_coordinator(context.broker, group)?;
    let subscription = cluster.check_offset_delete(group)?;
    let (mut refused, mut good) = (Rows::default(), Vec::new());
    for (topic, indexes) in topics {
        let of_reader = match subscription.covers(topic) {
            true => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            false => ErrorCode::NONE,
        };
        let (mut unknown, mut known) = (Vec::new(), Vec::new());
        for &index in indexes {
            let refusal = context.injection.partition_refusal(topic, index);
            match (refusal, hosting::key(cluster, context, topic, index)) {
                (Some(code), _) | (None, Err(code)) => unknown.push((index, code)),
                (None, Ok(_)) => known.push((index, of_reader)),
            }
        }
        if !unknown.is_empty() {
            refused.add(topic, unknown);
        }
        if !known.is_empty() {
            good.push((topic.clone(), known));
        }
    }
    for (topic, rows) in &good {
        let deleted = rows.iter().filter(|(_, code)| *code == ErrorCode::NONE);
        for (index, _) in deleted {
            cluster.delete_offset(group, &(topic.as_str().into(), *index));
        }
    }
    Ok(told(context, refused, good))
}

/// Rows of which those of one topic stand together.
#[derive(Default)]
struct Rows {
    topics: Vec<DeletedTopic>,
    places: BTreeMap<String, usize>,
}

impl Rows {
    fn add(&mut self, topic: &str, rows: Vec<(i32, ErrorCode)>) {
        let next = self.topics.len();
        let place = *self.places.entry(topic.to_owned()).or_insert(next);
        match self.topics.get_mut(place) {
            Some((_, before)) => before.extend(rows),
            None => self.topics.push((topic.to_owned(), rows)),
        }
    }
}

/// Unknown rows first, with the others of their topics (`Builder.merge`).
fn told(context: &Context, refused: Rows, good: Vec<DeletedTopic>) -> Vec<DeletedTopic> {
    let mut topics = if refused.topics.is_empty() {
        good
    } else {
        let mut told = refused;
        for (topic, rows) in good {
            told.add(&topic, rows);
        }
        told.topics
    };
    for (topic, rows) in &mut topics {
        for (index, code) in rows {
            let overwriting = context.injection.partition_overwriting(topic, *index);
            *code = overwriting.unwrap_or(*code);
        }
    }
    topics
}
