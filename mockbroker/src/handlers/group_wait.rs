//! JoinGroup and SyncGroup wait for their group.
//!
//! *Invariants*
//! 1. What waits is answered when its group says so, or when its broker coordinates it no more
//!    (16).
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupMetadataManager.java`: the futures of
//! members.

use core::time::Duration;

use super::{Answer, Context, Wait, join_group, sync_group};
use crate::engine::Cluster;
use crate::engine::group::{Joined, Ticket, Told};
use crate::engine::time::Instant;
use crate::engine::topology::PartitionKey;
use crate::error_code::ErrorCode;

/// Longer than any time-out that a request can name: the group itself ends what takes too long.
const AT_MOST: Duration = Duration::from_secs(50 * 86_400);

/// A request that waits for its group.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number.
    pub ticket: Ticket,
    /// The group's partition of the log of offsets.
    pub log: PartitionKey,
    /// What it is.
    pub question: Question,
}

/// Which request waits.
#[derive(Clone, Debug)]
pub enum Question {
    /// JoinGroup.
    Join {
        /// The id that it named.
        member: String,
    },
    /// SyncGroup.
    Sync,
}

/// Answers at once if the group has, or waits.
pub(super) fn wait(
    cluster: &mut Cluster,
    context: &Context,
    pending: Pending,
    now: Instant,
) -> Answer {
    if cluster.has_answered(pending.ticket) {
        return pending.answer(cluster, context);
    }
    Answer::Wait(Wait {
        watched: vec![pending.log],
        pending: super::Pending::Group(pending),
        deadline: now + AT_MOST,
    })
}

impl Pending {
    /// Whether the group has answered, or will not.
    #[must_use]
    pub fn settle(&self, cluster: &Cluster, context: &Context) -> bool {
        cluster.has_answered(self.ticket) || !cluster.leads(self.log, context.broker)
    }

    /// The answer.
    #[must_use]
    pub fn answer(self, cluster: &mut Cluster, context: &Context) -> Answer {
        let gone = ErrorCode::NOT_COORDINATOR;
        match (self.question, cluster.take_answer(self.ticket)) {
            (Question::Join { .. }, Some(Told::Joined(joined))) => {
                join_group::told(context, joined)
            }
            (Question::Join { member }, _) => {
                join_group::told(context, Joined::refused(gone, member))
            }
            (Question::Sync, Some(Told::Synced(synced))) => sync_group::told(context, synced),
            (Question::Sync, _) => sync_group::told(context, Err(gone)),
        }
    }
}
