//! Requests as rules see them, and as they show them.
//!
//! *Not here*: how such facts are read from a frame (`handlers/targets.rs`).

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::Api;
use crate::engine::effect::{BrokerId, ConnectionId};

/// A topic, or a partition of it, that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition; `None` in requests about whole topics.
    pub partition: Option<i32>,
}

/// What a rule can see of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// The broker that was asked.
    pub broker: BrokerId,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The client's number for it.
    pub correlation_id: i32,
    /// The client's name, if it gave one.
    pub client_id: Option<&'a str>,
    /// The topics and partitions it names.
    pub targets: &'a [Target<'a>],
    /// The producer ids it carries.
    pub producer_ids: &'a [i64],
    /// The transactional id it carries, if any.
    pub transactional_id: Option<&'a str>,
    /// Its frame as received, without the four bytes of size.
    pub frame: &'a [u8],
}

/// A request that a rule has acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// The API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// The client's number for it.
    pub correlation_id: i32,
    /// The client's name, if it gave one.
    pub client_id: Option<Arc<str>>,
    /// The broker that was asked.
    pub broker: BrokerId,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The topics it names, each with a partition in requests about partitions.
    pub targets: Vec<(Arc<str>, Option<i32>)>,
    /// The producer ids it carries.
    pub producer_ids: Vec<i64>,
    /// The transactional id it carries, if any.
    pub transactional_id: Option<Arc<str>>,
    /// The frame as received, without the four bytes of size; `None` when the frames that the rule
    /// keeps would exceed 16 MiB with it.
    pub frame: Option<Bytes>,
}

impl SeenRequest {
    pub(super) fn new(facts: &RequestFacts<'_>, frame_bytes_max: usize) -> Self {
        let targets = facts.targets.iter();
        let fits = facts.frame.len() <= frame_bytes_max;
        Self {
            api: facts.api,
            version: facts.version,
            correlation_id: facts.correlation_id,
            client_id: facts.client_id.map(Arc::from),
            broker: facts.broker,
            connection: facts.connection,
            targets: targets
                .map(|target| (Arc::from(target.topic), target.partition))
                .collect(),
            producer_ids: facts.producer_ids.to_vec(),
            transactional_id: facts.transactional_id.map(Arc::from),
            // A copy: a slice would keep alive whatever was read together with it.
            frame: fits.then(|| Bytes::copy_from_slice(facts.frame)),
        }
    }

    pub(super) fn frame_bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, Bytes::len)
    }
}

impl fmt::Display for SeenRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (BrokerId(broker), ConnectionId(connection)) = (self.broker, self.connection);
        write!(out, "{} v{}", self.api, self.version)?;
        for (index, (topic, partition)) in self.targets.iter().enumerate() {
            out.write_str(if index == 0 { " to " } else { ", " })?;
            match partition {
                Some(partition) => write!(out, "{topic}-{partition}")?,
                None => out.write_str(topic)?,
            }
        }
        for producer_id in &self.producer_ids {
            write!(out, " of producer {producer_id}")?;
        }
        if let Some(transactional_id) = &self.transactional_id {
            write!(out, " of transactional id {transactional_id}")?;
        }
        write!(out, " at broker {broker} on connection {connection}")
    }
}
