//! OffsetFetch (key 9), versions 1 to 10.
//!
//! | Version | |
//! |---|---|
//! | 1 | a code for each partition only |
//! | 2 | a code for the request; all that a group has |
//! | 5 | the leader epoch of the record before |
//! | 6 | flexible |
//! | 7 | offsets that transactions would change may be kept back with 88 (KIP-447) |
//! | 8 | several groups (KIP-709) |
//! | 9 | the member that asks, which matters to groups of KIP-848 only |
//! | 10 | topics by id |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleOffsetFetchRequest,
//! `group-coordinator/…/group/OffsetMetadataManager.java` fetchOffsets, fetchAllOffsets.
//!
//! *Deviations* all that a group has is told in the order of names; Kafka's is a hash order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer_room::{AnswerRoom, Full, ROW_BYTES};
use super::{Answer, Context, find, label};
use crate::engine::Cluster;
use crate::engine::group_offsets::TopicPartition;
use crate::error_code::ErrorCode;
use crate::wire::offsets::{
    FetchGroup, FetchedGroup, FetchedRow, OffsetFetch, OffsetReply, Stability,
};
use crate::wire::reply::{Reply, TopicLabel};
use crate::wire::request::TopicRef;

/// Tells what groups have committed.
pub fn handle(cluster: &mut Cluster, context: &Context, request: &OffsetFetch) -> Answer {
    let groups = request.groups.iter();
    let mut asking = Asking {
        stability: request.stability,
        room: AnswerRoom::new(),
    };
    let told = groups.map(|asked| group(cluster, context, asked, &mut asking));
    let told: Result<Vec<_>, Full> = told.collect();
    match told {
        Ok(told) => Answer::Reply(Reply::Offsets(OffsetReply::OffsetFetch(told))),
        Err(full) => full.answer(cluster, context),
    }
}

/// What holds for all groups of a request.
struct Asking {
    stability: Stability,
    room: AnswerRoom,
}

/// Rows of a topic.
type Rows = (TopicLabel, Vec<FetchedRow>);

/// Codes that clients know for single partitions; all others are told for the group.
const fn is_of_rows(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::UNSTABLE_OFFSET_COMMIT
            | ErrorCode::UNKNOWN_TOPIC_ID
    )
}

fn group(
    cluster: &mut Cluster,
    context: &Context,
    asked: &FetchGroup,
    asking: &mut Asking,
) -> Result<FetchedGroup, Full> {
    let injection = &context.injection;
    let by_rule = injection.refusal().or_else(|| injection.overwriting());
    let checked = cluster.check_group_coordinator(context.broker, &asked.group);
    let refused = by_rule
        .filter(|code| !is_of_rows(*code))
        .or(checked.err())
        .unwrap_or_default();
    let topics = match (&asked.topics, refused) {
        (None, ErrorCode::NONE) => all(cluster, context, &asked.group, asking)?,
        (Some(topics), ErrorCode::NONE) => {
            let topics = topics.iter();
            let told = topics.map(|of| topic(cluster, context, (&asked.group, of), asking));
            told.collect::<Result<_, Full>>()?
        }
        (Some(topics), code) if context.header.version < 2 => {
            let known = cluster.known_to(context.broker);
            let topics = topics.iter().map(|(named, indexes)| {
                let rows = indexes.iter().map(|index| FetchedRow::none(*index, code));
                (label(known, named), rows.collect())
            });
            topics.collect()
        }
        _ => Vec::new(),
    };
    Ok(FetchedGroup {
        group: asked.group.clone(),
        error: refused,
        topics,
    })
}

fn topic(
    cluster: &Cluster,
    context: &Context,
    (group, (named, indexes)): (&str, &(TopicRef, Vec<i32>)),
    asking: &mut Asking,
) -> Result<Rows, Full> {
    let known = cluster.known_to(context.broker);
    let label = label(known, named);
    let unknown = matches!(named, TopicRef::Id(_)) && find(known, named).is_none();
    let rows = indexes.iter().map(|index| match unknown {
        true => Ok(FetchedRow::none(*index, ErrorCode::UNKNOWN_TOPIC_ID)),
        false => {
            let partition = (Arc::clone(&label.name), *index);
            row(cluster, context, (group, &partition), asking)
        }
    });
    let rows: Result<_, Full> = rows.collect();
    Ok((label, rows?))
}

fn all(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    asking: &mut Asking,
) -> Result<Vec<Rows>, Full> {
    let known = cluster.known_to(context.broker);
    let mut topics: BTreeMap<Arc<str>, Vec<FetchedRow>> = BTreeMap::new();
    for (partition, _) in cluster.groups().offsets().committed(group) {
        let told = row(cluster, context, (group, partition), asking)?;
        let rows = topics.entry(Arc::clone(&partition.0)).or_default();
        if rows.is_empty() {
            asking.room.take(ROW_BYTES + partition.0.len())?;
        }
        rows.push(told);
    }
    let labelled = topics.into_iter().map(|(name, rows)| {
        let id = known.topic_by_name(&name).map(|topic| topic.id);
        let id = id.unwrap_or_default();
        (TopicLabel { name, id }, rows)
    });
    Ok(labelled.collect())
}

fn row(
    cluster: &Cluster,
    context: &Context,
    (group, partition): (&str, &TopicPartition),
    asking: &mut Asking,
) -> Result<FetchedRow, Full> {
    let told = look_up(cluster, context, (group, partition), asking.stability);
    asking.room.take(ROW_BYTES + told.metadata.len())?;
    Ok(told)
}

fn look_up(
    cluster: &Cluster,
    context: &Context,
    (group, partition): (&str, &TopicPartition),
    stability: Stability,
) -> FetchedRow {
    let (topic, index) = (&partition.0, partition.1);
    let injection = &context.injection;
    let by_rule = injection.partition_refusal(topic, index);
    let by_rule = by_rule.or_else(|| injection.partition_overwriting(topic, index));
    let offsets = cluster.groups().offsets();
    if let Some(code) = by_rule {
        return FetchedRow::none(index, code);
    }
    if stability == Stability::Required && offsets.is_unstable(group, partition) {
        return FetchedRow::none(index, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    }
    match offsets.find(group, partition) {
        None => FetchedRow::none(index, ErrorCode::NONE),
        Some(committed) => FetchedRow {
            index,
            error: ErrorCode::NONE,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.as_ref().into(),
        },
    }
}
