//! DeleteTopics (key 20), versions 1 to 6.
//!
//! | Version | |
//! |---|---|
//! | 4 | flexible |
//! | 5 | a message |
//! | 6 | topics by id (KIP-516) |
//!
//! *Source* apache/kafka `core/…/server/ControllerApis.scala` deleteTopics.
//!
//! *Deviations* a topic is gone at once; topics are deleted by whichever broker is asked; a topic
//! that is named twice is deleted and then unknown, where Kafka refuses both.

use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Context, find};
use crate::engine::Cluster;
use crate::error_code::ErrorCode;
use crate::wire::reply::{self, DeletedTopic, Reply};
use crate::wire::request::{DeleteTopics, TopicRef};

/// Deletes the topics that are there.
pub fn handle(cluster: &mut Cluster, context: &Context, request: &DeleteTopics) -> Answer {
    let topics = request.topics.iter().map(|asked| {
        let mut row = delete(cluster, context, asked);
        let name = row.name.as_deref().unwrap_or_default();
        row.error = context
            .injection
            .topic_overwriting(name)
            .unwrap_or(row.error);
        row
    });
    let topics = topics.collect();
    Answer::Reply(Reply::DeleteTopics(reply::DeleteTopics { topics }))
}

fn delete(cluster: &mut Cluster, context: &Context, asked: &TopicRef) -> DeletedTopic {
    let row = |name: Option<Arc<str>>, id, error, message: Option<&str>| DeletedTopic {
        name,
        id,
        error,
        message: message.map(str::to_owned),
    };
    let Some(topic) = find(cluster.topology(), asked) else {
        return match asked {
            TopicRef::Name(name) => row(
                Some(name.as_str().into()),
                Uuid::nil(),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some("This server does not host this topic-partition."),
            ),
            TopicRef::Id(id) => row(
                None,
                *id,
                ErrorCode::UNKNOWN_TOPIC_ID,
                Some("This server does not host this topic ID."),
            ),
        };
    };
    let (key, name, id) = (topic.key, Arc::clone(&topic.name), topic.id);
    if let Some(code) = context.injection.topic_refusal(&name) {
        return row(Some(name), Uuid::nil(), code, None);
    }
    cluster.delete_topic(key);
    row(Some(name), id, ErrorCode::NONE, None)
}
