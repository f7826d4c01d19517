//! One file per API: parse, act, answer; and the engine that serves requests with them.
//!
//! | Key | File |
//! |---|---|
//! | 18 | [`api_versions`] |
//!
//! What each API advertises is the table in `wire/versions.rs`.

pub mod api_versions;
mod cluster_engine;

pub use cluster_engine::ClusterEngine;

use std::sync::Arc;

use crate::engine::Cluster;
use crate::engine::effect::BrokerId;
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;
use crate::fault::{Scope, Verdict};
use crate::wire::reply::Reply;
use crate::wire::request::{RequestBody, RequestHeader};

/// What surrounds a request while it is handled.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its header.
    pub header: RequestHeader,
    /// The broker that was asked.
    pub broker: BrokerId,
    /// The code that a fault rule puts into the answer, if one does.
    pub injection: Injection,
}

/// A code that a fault rule puts into an answer.
#[derive(Clone, Debug)]
pub enum Injection {
    /// None.
    None,
    /// In place of what is covered, which is not applied.
    Refuse(ErrorCode, Scope),
    /// In the answer for what is covered, which is applied.
    Overwrite(ErrorCode, Scope),
}

impl Injection {
    /// What a verdict puts into the answer.
    #[must_use]
    pub fn new(verdict: Verdict, scope: Scope) -> Self {
        match verdict {
            Verdict::Answer(code) => Self::Refuse(code, scope),
            Verdict::ApplyThenAnswer(code) => Self::Overwrite(code, scope),
            _ => Self::None,
        }
    }

    /// The code with which a request about no partition is refused.
    #[must_use]
    pub const fn refusal(&self) -> Option<ErrorCode> {
        match self {
            Self::Refuse(code, _) => Some(*code),
            Self::None | Self::Overwrite(..) => None,
        }
    }

    /// The code that replaces the outcome of an applied request about no partition.
    #[must_use]
    pub const fn replacement(&self) -> Option<ErrorCode> {
        match self {
            Self::Overwrite(code, _) => Some(*code),
            Self::None | Self::Refuse(..) => None,
        }
    }
}

/// How a request ends.
#[derive(Debug)]
pub enum Answer {
    /// With a reply.
    Reply(Reply),
    /// Without one, and the next request of the connection is served (Produce with acks=0).
    Silent,
    /// Never: the connection is muted.
    Stuck,
    /// By closing the connection, for this reason.
    Close(Arc<str>),
    /// Later.
    Wait(Wait),
}

/// A request that waits.
#[derive(Debug)]
pub struct Wait {
    /// What it waits with.
    pub pending: Pending,
    /// The partitions whose changes may end the wait.
    pub watched: Vec<PartitionKey>,
    /// When the wait ends whatever happened.
    pub deadline: Instant,
}

/// What a request waits with, one variant for each API that may wait.
#[derive(Debug)]
pub enum Pending {}

impl Pending {
    /// Whether the wait is over.
    #[must_use]
    pub fn is_complete(&mut self, _cluster: &Cluster) -> bool {
        match *self {}
    }

    /// The answer at the end of the wait, in time or at the deadline.
    pub fn answer(self, _cluster: &mut Cluster, _context: &Context, _now: Instant) -> Answer {
        match self {}
    }
}

/// Serves one request.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    body: RequestBody,
    _now: Instant,
) -> Answer {
    let _ = cluster;
    match body {
        RequestBody::ApiVersions(request) => api_versions::handle(context, &request),
    }
}
