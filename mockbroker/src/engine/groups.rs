//! Groups among the brokers: who coordinates which, and what transactions commit for them.
//!
//! *State* of a group's coordinator: whoever leads the group's partition of `__consumer_offsets`.
//!
//! ```text
//!               a request names a group         its leader is elected, as of any topic
//! no topic ────────────────────────────▶ made ───────────────────────────────────────▶ led
//! ```
//!
//! *Invariants*
//! 1. A marker that is in a partition of `__consumer_offsets` has ended what its producer had
//!    pending for the groups of that partition.
//! 2. What groups have takes no more than [`BYTES_MAX`].
//!
//! *Source* apache/kafka `group-coordinator/…/group/{GroupCoordinatorService,
//! GroupMetadataManager}.java`, `core/…/coordinator/group/CoordinatorPartitionWriter.scala`.
//!
//! *Not here* what offsets are (`group_offsets.rs`).
//!
//! *Deviations* the log of offsets holds the markers of transactions alone: what was committed is a
//! value that all brokers share, written at once and known at once to whoever takes over. The topic
//! has as many replicas as there are brokers, three at most, where Kafka would wait for three.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::{Cluster, TopicSpec};
use super::effect::BrokerId;
use super::group::{Group, GroupState, Subscription};
use super::group_offsets::{Commits, GroupOffsets, TopicPartition, bytes_of};
use super::memberships::Waiting;
use super::open_transactions::Ending;
use super::producer_state::EpochBump;
use super::time::Instant;
use super::topology::PartitionKey;
use super::transactions::{Join, hash_of};
use super::txn_coordinator::Identity;
use super::written_markers::WrittenMarker;
use crate::error_code::ErrorCode;

/// Where offsets are logged.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// `offsets.topic.num.partitions`.
const PARTITIONS: i32 = 50;
/// `offsets.topic.replication.factor`.
const REPLICAS: usize = 3;
/// Bytes that groups and their offsets may take.
pub const BYTES_MAX: usize = 256 << 20;
/// Bytes of a group beside its name.
const GROUP_BYTES: usize = 512;

/// What a client says of its membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The generation; below 0 for none.
    pub generation: i32,
    /// The member's id; empty for none.
    pub member: &'a str,
    /// The id that a static member gave itself.
    pub instance: Option<&'a str>,
}

/// What a cluster knows of groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub(super) known: BTreeMap<Arc<str>, Group>,
    pub(super) waiting: Waiting,
    /// Markers in the log of offsets that requests brought, and the watermark has not passed.
    pub(super) written: Vec<WrittenMarker>,
    offsets: GroupOffsets,
    /// What groups take beside their offsets.
    pub(super) bytes: usize,
}

impl Groups {
    /// The offsets of all groups.
    #[must_use]
    pub const fn offsets(&self) -> &GroupOffsets {
        &self.offsets
    }

    /// Whether a group exists: it has members, or committed offsets.
    #[must_use]
    pub fn exists(&self, group: &str) -> bool {
        self.known.contains_key(group)
    }

    /// Whether a client may commit offsets, in a transaction or not.
    ///
    /// # Errors
    ///
    /// 69 for a group that does not exist; 25 for a member that it does not have.
    pub fn check_commit(
        &self,
        group: &str,
        claim: &Claim<'_>,
        kind: CommitKind,
    ) -> Result<(), ErrorCode> {
        match self.known.get(group) {
            Some(group) => group.check_commit(claim, kind),
            None if claim.generation < 0 => Ok(()),
            None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
        }
    }

    /// A group; `None` when it does not exist.
    #[must_use]
    pub fn find(&self, group: &str) -> Option<&Group> {
        self.known.get(group)
    }

    /// Every group, by name.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Group)> {
        self.known.iter()
    }

    /// The name of a group that exists.
    pub(super) fn name(&self, group: &str) -> Option<Arc<str>> {
        let known = self.known.get_key_value(group)?;
        Some(Arc::clone(known.0))
    }

    /// What groups take, with their offsets.
    pub(super) const fn taken(&self) -> usize {
        self.bytes.saturating_add(self.offsets.bytes())
    }

    /// The name of a group, which exists from now on; `None` when there is no room for it and what
    /// it is to have.
    pub(super) fn make_room(&mut self, group: &str, bytes: usize) -> Option<Arc<str>> {
        let known = self.name(group);
        let own = match known {
            Some(_) => 0,
            None => GROUP_BYTES + group.len(),
        };
        if self.taken().saturating_add(own).saturating_add(bytes) > BYTES_MAX {
            return None;
        }
        self.bytes = self.bytes.saturating_add(own);
        let name = known.unwrap_or_else(|| Arc::from(group));
        self.known.entry(Arc::clone(&name)).or_default();
        Some(name)
    }
}

impl Cluster {
    /// What is known of groups.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The topic of offsets, which is made when it is first asked for.
    fn make_offsets_topic(&mut self) {
        if self.topology.topic_by_name(OFFSETS_TOPIC).is_none() {
            let replicas = self.topology.brokers().count().min(REPLICAS);
            let overrides = [
                ("cleanup.policy", "compact"),
                ("compression.type", "producer"),
                ("segment.bytes", "104857600"),
            ];
            let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            let made = self.create_topic(TopicSpec {
                name: OFFSETS_TOPIC.into(),
                partitions: PARTITIONS,
                replication_factor: i16::try_from(replicas).unwrap_or(1),
                overrides: overrides.map(owned).to_vec(),
            });
            if let Err(error) = made {
                self.note(format!("{OFFSETS_TOPIC} is not made: {error}"));
            }
        }
    }

    /// The partition of the log of offsets that a group has; `None` where there is no such log.
    pub fn group_log(&mut self, group: &str) -> Option<PartitionKey> {
        self.make_offsets_topic();
        self.known_group_log(group)
    }

    /// The same while the log of offsets is there.
    pub(super) fn known_group_log(&self, group: &str) -> Option<PartitionKey> {
        let topic = self.topology.topic_by_name(OFFSETS_TOPIC)?;
        let count = i32::try_from(topic.partitions.len()).ok()?;
        Some(PartitionKey {
            topic: topic.key,
            partition: hash_of(group).checked_rem(count)?,
        })
    }

    /// Who coordinates a group; `None` while nobody leads its partition.
    pub fn group_coordinator(&mut self, group: &str) -> Option<BrokerId> {
        let log = self.group_log(group)?;
        self.leader(log)
    }

    /// Whether a broker may answer as the coordinator of a group, and where its log is.
    ///
    /// # Errors
    ///
    /// 16 when another is; 15 when there is none, or this one cannot write to the log of offsets.
    pub fn check_group_coordinator(
        &mut self,
        broker: BrokerId,
        group: &str,
    ) -> Result<PartitionKey, ErrorCode> {
        let log = self.group_log(group);
        let log = log.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        if !self.leads(log, broker) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        if self.is_cut_off(broker) {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        Ok(log)
    }

    /// Whether a broker coordinates a group that exists.
    #[must_use]
    pub fn coordinates(&self, broker: BrokerId, group: &str) -> bool {
        let log = self.known_group_log(group);
        log.is_some_and(|log| self.leads(log, broker))
    }

    /// A group's offsets join a transaction: AddOffsetsToTxn.
    ///
    /// # Errors
    ///
    /// As [`join_transaction`](Self::join_transaction), and 15 where there is no log of offsets.
    pub fn add_offsets_to_transaction(
        &mut self,
        (id, producer): (&str, Identity),
        group: &str,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let log = self.group_log(group);
        let log = log.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let join = Join {
            id,
            producer,
            partitions: &BTreeSet::from([log]),
            client: EpochBump::Never,
        };
        self.join_transaction(&join, now)
    }

    /// Whether a producer may commit offsets in its transaction; `joins` where that lets them join.
    ///
    /// # Errors
    ///
    /// As [`ask_to_join`](Self::ask_to_join) and [`ask_whether_joined`](Self::ask_whether_joined).
    pub fn verify_offsets(
        &mut self,
        (id, producer): (&str, Identity),
        log: PartitionKey,
        joins: OffsetsJoin,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        if self.groups.offsets.is_open(log.partition, producer) {
            return Ok(());
        }
        match joins {
            OffsetsJoin::Now => {
                let join = Join {
                    id,
                    producer,
                    partitions: &BTreeSet::from([log]),
                    client: EpochBump::EachTransaction,
                };
                self.ask_to_join(&join, now)
            }
            OffsetsJoin::Before if self.config.transactions.partition_verification_enable => {
                self.ask_whether_joined(id, producer, log, now)
            }
            OffsetsJoin::Before => Ok(()),
        }
    }

    /// A group commits offsets, which [`Groups::check_commit`] has allowed.
    ///
    /// # Errors
    ///
    /// -1 when there is no room for them.
    pub fn commit_offsets(&mut self, group: &str, commits: Commits) -> Result<(), ErrorCode> {
        let group = self.room_for_offsets(group, &commits)?;
        self.groups.offsets.commit(&group, commits);
        Ok(())
    }

    /// A transaction is to commit offsets for a group, which [`Groups::check_commit`] has allowed;
    /// `log` is the group's.
    ///
    /// # Errors
    ///
    /// -1 when there is no room for them.
    pub fn commit_pending_offsets(
        &mut self,
        group: &str,
        (log, producer): (PartitionKey, Identity),
        commits: Commits,
    ) -> Result<(), ErrorCode> {
        let group = self.room_for_offsets(group, &commits)?;
        let by = (log.partition, producer);
        self.groups.offsets.commit_pending(&group, by, commits);
        Ok(())
    }

    /// A group is deleted with its offsets, also those that transactions would commit.
    ///
    /// # Errors
    ///
    /// 69 for a group that does not exist; 68 for one that has members.
    pub fn delete_group(&mut self, group: &str) -> Result<(), ErrorCode> {
        let known = self.groups.known.get(group);
        let known = known.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        if known.state() != GroupState::Empty {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        let bytes = GROUP_BYTES + group.len() + known.bytes();
        if let Some((name, _)) = self.groups.known.remove_entry(group) {
            self.groups.waiting.forget(&name);
        }
        self.groups.bytes = self.groups.bytes.saturating_sub(bytes);
        self.groups.offsets.forget_group(group);
        Ok(())
    }

    /// Whether offsets of a group may be deleted; the answer tells which topics its members read.
    ///
    /// # Errors
    ///
    /// 69 for a group that does not exist; 68 for one with members that are no consumers.
    pub fn check_offset_delete(&self, group: &str) -> Result<Subscription<'_>, ErrorCode> {
        let known = self.groups.known.get(group);
        let known = known.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        known.subscription().ok_or(ErrorCode::NON_EMPTY_GROUP)
    }

    /// A group forgets what it has committed for a partition, and what transactions would commit.
    pub fn delete_offset(&mut self, group: &str, partition: &TopicPartition) {
        self.groups.offsets.delete(group, partition);
    }

    fn room_for_offsets(&mut self, group: &str, commits: &Commits) -> Result<Arc<str>, ErrorCode> {
        let room = self.groups.make_room(group, bytes_of(commits));
        room.ok_or_else(|| {
            self.note(format!(
                "offsets are refused: groups have {BYTES_MAX} bytes"
            ));
            ErrorCode::UNKNOWN_SERVER_ERROR
        })
    }

    /// The marker of a producer's transaction is in a partition, and replicated: if that is of the
    /// log of offsets, what was pending counts, or is dropped.
    pub fn end_pending_offsets(&mut self, key: PartitionKey, producer_id: i64, ending: Ending) {
        let topic = self.topology.topic(key.topic);
        if topic.is_some_and(|topic| topic.name.as_ref() == OFFSETS_TOPIC) {
            self.groups.offsets.end(key.partition, producer_id, ending);
        }
    }

    /// A topic is gone, and what groups know of it; with the log of offsets all groups are.
    pub(super) fn forget_offsets_of(&mut self, topic: &str) {
        if topic == OFFSETS_TOPIC {
            self.groups = Groups::default();
        } else {
            self.groups.offsets.forget_topic(topic);
        }
    }

    pub(super) fn check_groups(&self) {
        self.groups.offsets.check_invariants();
        self.groups.waiting.check_invariants();
        let mut bytes = 0;
        for (name, group) in &self.groups.known {
            group.check_invariants();
            bytes += GROUP_BYTES + name.len() + group.bytes();
        }
        assert_eq!(bytes, self.groups.bytes, "groups 2");
        let taken = self.groups.taken();
        assert!(taken <= BYTES_MAX, "groups 2: {taken}");
    }
}

/// Whether offsets are committed in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitKind {
    /// They are not.
    Plain,
    /// They are.
    Transactional,
}

/// Whether TxnOffsetCommit lets its group's offsets join the transaction (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetsJoin {
    /// It does.
    Now,
    /// AddOffsetsToTxn has to come before it.
    Before,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_offsets_are_bounded_together() {
        let mut groups = Groups::default();
        assert!(groups.make_room("new", BYTES_MAX).is_none());
        assert!(!groups.exists("new"), "nothing is left of what is refused");
        let own = GROUP_BYTES + "new".len();
        assert!(groups.make_room("new", BYTES_MAX - own).is_some());
        assert!(groups.exists("new"));
        assert!(groups.make_room("new", BYTES_MAX - own).is_some());
        assert!(groups.make_room("new", BYTES_MAX - own + 1).is_none());
        assert!(groups.make_room("other", BYTES_MAX - own).is_none());
    }
}
