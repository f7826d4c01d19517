//! Groups of consumers as their coordinators drive them: members, time, and who is answered.
//!
//! *State* of a request that waits for its group:
//!
//! ```text
//!            its group goes on                      the request is looked at
//! waits ─┬─────────────────────▶ its answer is here ────────────────────────▶ answered
//!        └─ another coordinates ────────────────────────────────────────────▶ 16
//! ```
//!
//! *Invariants*
//! 1. Whatever a group has to say is said in the same call: its partition of `__consumer_offsets`
//!    is touched, so that who waits is looked at. What is left of it by the next request, or the
//!    next time that comes, nobody waits for.
//! 2. Time passes for a group only while its coordinator runs.
//! 3. The deadlines by time are those by group.
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupCoordinatorService.java`.
//!
//! *Not here* what a group is (`group.rs`).
//!
//! *Deviations* whoever takes over a group knows its members at once, their time-outs too, and goes
//! on with it, also where members were to join again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::group::{Group, Joining, Refused, Syncing, Ticket, Told};
use super::groups::{BYTES_MAX, Claim};
use super::time::Instant;
use super::topology::PartitionKey;
use crate::error_code::ErrorCode;

/// Protocols that a member may name. All are compared with those of all members.
pub const PROTOCOLS_MAX: usize = 256;
/// Members of a group, and ids that were given out for it.
pub const MEMBERS_MAX: usize = 2_000;

/// Requests that wait for groups, and when groups go on by themselves.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    tickets: Ticket,
    answers: BTreeMap<Ticket, Told>,
    deadlines: Deadlines,
}

/// When groups go on by themselves, by group and by time.
#[derive(Clone, Debug, Default)]
struct Deadlines {
    by_group: BTreeMap<Arc<str>, Instant>,
    by_time: BTreeSet<(Instant, Arc<str>)>,
}

impl Deadlines {
    /// A group goes on at another time, or not by itself.
    fn set(&mut self, group: &Arc<str>, deadline: Option<Instant>) {
        let before = match deadline {
            Some(deadline) => {
                self.by_time.insert((deadline, Arc::clone(group)));
                self.by_group.insert(Arc::clone(group), deadline)
            }
            None => self.by_group.remove(group),
        };
        if let Some(before) = before.filter(|before| Some(*before) != deadline) {
            self.by_time.remove(&(before, Arc::clone(group)));
        }
    }

    /// Those whose time has come, the earliest first.
    fn due(&self, now: Instant) -> Vec<Arc<str>> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, group)| Arc::clone(group)).collect()
    }

    fn check_invariants(&self) {
        let by_group = self.by_group.iter();
        let by_time: BTreeSet<_> = by_group
            .map(|(group, at)| (*at, Arc::clone(group)))
            .collect();
        assert_eq!(by_time, self.by_time, "memberships 3");
    }
}

impl Waiting {
    /// A group is no more, and so does not go on.
    pub(super) fn forget(&mut self, group: &Arc<str>) {
        self.deadlines.set(group, None);
    }

    /// Panics when an invariant of this file does not hold.
    pub(super) fn check_invariants(&self) {
        self.deadlines.check_invariants();
    }
}

impl Cluster {
    /// A number for a request that may wait, and an id for a member that has none.
    pub fn next_ticket(&mut self) -> Ticket {
        self.groups.waiting.tickets = self.groups.waiting.tickets.saturating_add(1);
        self.groups.waiting.tickets
    }

    /// Whoever waited has been looked at since, so nobody takes what is left. Once a call and not
    /// once a group: several groups may go on at one instant.
    fn forget_answers(&mut self) {
        self.groups.waiting.answers.clear();
    }

    /// Whether a group has answered.
    #[must_use]
    pub fn has_answered(&self, ticket: Ticket) -> bool {
        self.groups.waiting.answers.contains_key(&ticket)
    }

    /// What a group has answered, once.
    pub fn take_answer(&mut self, ticket: Ticket) -> Option<Told> {
        self.groups.waiting.answers.remove(&ticket)
    }

    /// Somebody joins a group, which is made if nobody has named it before.
    ///
    /// # Errors
    ///
    /// See [`Group::join`]; 81 when it is full.
    pub fn join_group(
        &mut self,
        log: PartitionKey,
        group: &str,
        joining: Joining,
        now: Instant,
    ) -> Result<(), Refused> {
        self.forget_answers();
        let refused = |code, member: &str| Refused {
            code,
            member: member.to_owned(),
        };
        let known = self.groups.find(group);
        if known.is_none() && !joining.id.is_empty() {
            return Err(refused(ErrorCode::UNKNOWN_MEMBER_ID, &joining.id));
        }
        let joins = !known.is_some_and(|known| known.knows(&joining.id));
        let full = known.is_some_and(|known| known.size() >= MEMBERS_MAX);
        let name = match joins && full {
            true => None,
            false => self.groups.make_room(group, joining.bytes()),
        };
        let Some(name) = name else {
            self.note(format!(
                "a member is refused: {group} or all groups are full"
            ));
            return Err(refused(ErrorCode::GROUP_MAX_SIZE_REACHED, &joining.id));
        };
        let delay = self.first_join_delay();
        self.change_group(&name, log, |group| group.join(joining, (now, delay)))
    }

    /// A member asks for its assignment, or the leader assigns.
    ///
    /// # Errors
    ///
    /// See [`Group::sync`]; -1 where there is no room for the assignments.
    pub fn sync_group(
        &mut self,
        (log, group): (PartitionKey, &str),
        claim: &Claim<'_>,
        syncing: Syncing,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        self.forget_answers();
        let assignments = syncing.assignments.values();
        let bytes = assignments.fold(0_usize, |bytes, of| bytes.saturating_add(of.len()));
        if self.groups.taken().saturating_add(bytes) > BYTES_MAX {
            self.note(format!(
                "assignments are refused: groups have {BYTES_MAX} bytes"
            ));
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        let name = self.groups.name(group);
        let name = name.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        self.change_group(&name, log, |group| group.sync(claim, syncing, now))
    }

    /// A member shows that it lives.
    ///
    /// # Errors
    ///
    /// See [`Group::heartbeat`].
    pub fn heartbeat(
        &mut self,
        (log, group): (PartitionKey, &str),
        claim: &Claim<'_>,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        self.forget_answers();
        let name = self.groups.name(group);
        let name = name.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        self.change_group(&name, log, |group| group.heartbeat(claim, now))
    }

    /// Members leave; one outcome for each.
    pub fn leave_group(
        &mut self,
        (log, group): (PartitionKey, &str),
        members: &[(&str, Option<&str>)],
        now: Instant,
    ) -> Vec<Result<(), ErrorCode>> {
        self.forget_answers();
        let Some(name) = self.groups.name(group) else {
            return members
                .iter()
                .map(|_| Err(ErrorCode::UNKNOWN_MEMBER_ID))
                .collect();
        };
        self.change_group(&name, log, |group| {
            let leave = |(id, instance): &(&str, Option<&str>)| group.leave(id, *instance);
            let left: Vec<_> = members.iter().map(leave).collect();
            if left.iter().any(Result::is_ok) {
                group.rebalance_without(now);
            }
            left
        })
    }

    /// A member that commits offsets shows that it lives.
    pub fn on_member_commits(
        &mut self,
        log: PartitionKey,
        group: &str,
        member: &str,
        now: Instant,
    ) {
        self.forget_answers();
        if let Some(name) = self.groups.name(group).filter(|_| !member.is_empty()) {
            self.change_group(&name, log, |group| group.on_commit(member, now));
        }
    }

    /// Changes a group, and says what it has to say.
    fn change_group<T>(
        &mut self,
        name: &Arc<str>,
        log: PartitionKey,
        change: impl FnOnce(&mut Group) -> T,
    ) -> T {
        let waiting = &mut self.groups.waiting;
        let group = self.groups.known.entry(Arc::clone(name)).or_default();
        let before = group.bytes();
        let changed = change(group);
        let answers = group.take_answers();
        let after = group.bytes();
        waiting.deadlines.set(name, group.next_deadline());
        if !answers.is_empty() {
            waiting.answers.extend(answers);
            self.touched.push(log);
        }
        let taken = self.groups.bytes.saturating_add(after);
        self.groups.bytes = taken.saturating_sub(before);
        changed
    }

    fn first_join_delay(&self) -> Duration {
        let delay_ms = self.config.groups.initial_rebalance_delay_ms;
        Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0))
    }

    /// Time has come for groups whose coordinators run.
    pub(super) fn advance_groups(&mut self, now: Instant) {
        self.forget_answers();
        let delay = self.first_join_delay();
        for name in self.groups.waiting.deadlines.due(now) {
            if let Some((log, _)) = self.running_group_coordinator(&name) {
                self.change_group(&name, log, |group| group.on_time(now, delay));
            }
        }
    }

    /// When a group goes on by itself next, of those whose coordinators run.
    pub(super) fn next_group_deadline(&self) -> Option<Instant> {
        let mut deadlines = self.groups.waiting.deadlines.by_time.iter();
        let first = deadlines.find(|(_, name)| self.running_group_coordinator(name).is_some());
        first.map(|(deadline, _)| *deadline)
    }

    fn running_group_coordinator(&self, group: &str) -> Option<(PartitionKey, BrokerId)> {
        let log = self.known_group_log(group)?;
        let leader = self.leader(log).filter(|leader| self.runs(*leader))?;
        Some((log, leader))
    }
}
