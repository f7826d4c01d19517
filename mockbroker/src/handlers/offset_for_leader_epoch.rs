//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! | Version | |
//! |---|---|
//! | 3 | says whether a follower asks |
//! | 4 | flexible |
//!
//! A reader asks where the epoch ends in which it read last, to see whether what it read was lost
//! (KIP-320). The answer is the largest epoch of the log that is not above the one asked for, and
//! where the next one begins; for the leader's own epoch it is the end of the log.
//!
//! *Source* apache/kafka `core/…/server/ReplicaManager.scala` lastOffsetForLeaderEpoch; observed on
//! 4.3.1.

use super::Context;
use super::hosting;
use crate::engine::Cluster;
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::{AdminReply, EpochEnd};
use crate::wire::admin_request::{EpochAsked, OffsetForLeaderEpoch};

/// Answers with the end of each epoch.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &OffsetForLeaderEpoch) -> AdminReply {
    let topics = request.topics.iter().map(|(topic, asked)| {
        let rows = asked.iter().map(|asked| {
            let (error, (epoch, end_offset)) = match end(cluster, context, topic, asked) {
                Ok(end) => (ErrorCode::NONE, end.unwrap_or((-1, -1))),
                Err(error) => (error, (-1, -1)),
            };
            let overwriting = context.injection.partition_overwriting(topic, asked.index);
            EpochEnd {
                index: asked.index,
                error: overwriting.unwrap_or(error),
                epoch,
                end_offset,
            }
        });
        (topic.clone(), rows.collect())
    });
    AdminReply::OffsetForLeaderEpoch(topics.collect())
}

fn end(
    cluster: &Cluster,
    context: &Context,
    topic: &str,
    asked: &EpochAsked,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    if let Some(code) = context.injection.partition_refusal(topic, asked.index) {
        return Err(code);
    }
    let key = hosting::key(cluster, context, topic, asked.index)?;
    let (log, current) = hosting::led(cluster, context, key, asked.current_epoch)?;
    Ok(log.end_of_epoch(asked.epoch, current))
}
