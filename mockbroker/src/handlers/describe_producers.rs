//! DescribeProducers (key 61), version 0 (KIP-664).
//!
//! *Invariants*
//! 1. Any broker with a replica answers, not the leader alone.
//! 2. A producer that a sweep has found idle is not told.
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleDescribeProducersRequest,
//! `core/…/cluster/Partition.scala` activeProducerState; observed on 4.3.1.
//!
//! *Deviations* producers come by id, where Kafka has a hash order.

use super::answer_room::{AnswerRoom, Full, ROW_BYTES};
use super::{Answer, Context, hosting};
use crate::engine::Cluster;
use crate::engine::time::Instant;
use crate::engine::topology::name_fault;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{AdminReply, DescribedProducer, DescribedProducers};
use crate::wire::admin_request::DescribeProducers;
use crate::wire::reply::Reply;

/// Answers with what is known of producers.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    request: &DescribeProducers,
    now: Instant,
) -> Answer {
    let mut room = AnswerRoom::new();
    let mut topics = Vec::new();
    for (topic, indexes) in &request.topics {
        let rows = indexes.iter().map(|index| {
            let row = row(cluster, context, (topic, *index), now);
            let producers = size_of_val(row.producers.as_slice());
            room.take(ROW_BYTES.saturating_add(producers)).map(|()| row)
        });
        match rows.collect::<Result<Vec<_>, Full>>() {
            Ok(rows) => topics.push((topic.clone(), rows)),
            Err(full) => return full.answer(cluster, context),
        }
    }
    Answer::Reply(Reply::Admin(AdminReply::DescribeProducers(topics)))
}

fn row(
    cluster: &Cluster,
    context: &Context,
    (topic, index): (&str, i32),
    now: Instant,
) -> DescribedProducers {
    let told = producers(cluster, context, (topic, index), now);
    let (error, message, producers) = match told {
        Ok(producers) => (ErrorCode::NONE, None, producers),
        Err((error, message)) => (error, message, Vec::new()),
    };
    let overwriting = context.injection.partition_overwriting(topic, index);
    DescribedProducers {
        index,
        error: overwriting.unwrap_or(error),
        message,
        producers,
    }
}

type Refused = (ErrorCode, Option<String>);

fn producers(
    cluster: &Cluster,
    context: &Context,
    (topic, index): (&str, i32),
    now: Instant,
) -> Result<Vec<DescribedProducer>, Refused> {
    if let Some(code) = context.injection.partition_refusal(topic, index) {
        return Err((code, None));
    }
    if let Some(fault) = name_fault(topic) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, Some(fault)));
    }
    if cluster
        .known_to(context.broker)
        .topic_by_name(topic)
        .is_none()
    {
        let message = "This server does not host this topic-partition.";
        return Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(message.into())));
    }
    let hosted = hosting::key(cluster, context, topic, index)
        .and_then(|key| hosting::hosted(cluster, context, key));
    let partition = hosted.map_err(|code| (code, None))?;
    let now_ms = cluster.wall_clock_ms(now);
    let active = partition.active_producers(context.broker, cluster.expiry(context.broker), now_ms);
    let log = partition.log_on(context.broker);
    let told = active.map(|producer| DescribedProducer {
        id: producer.id,
        epoch: producer.epoch,
        last_sequence: producer.last_sequence,
        last_timestamp_ms: producer.last_timestamp_ms,
        coordinator_epoch: producer.coordinator_epoch,
        transaction_start: log.and_then(|log| log.transactions().open_since(producer.id)),
    });
    Ok(told.collect())
}
