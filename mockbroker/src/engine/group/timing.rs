//! When joins and assignments end, and members that are silent.
//!
//! *State* of a join:
//!
//! ```text
//! prepared ─▶ the group was empty ─▶ others are waited for, again while some come ─▶ complete
//!    │                                                                                  ▲
//!    └──────▶ it had members ─▶ until all have joined, or the longest time-out is over ──┘
//! ```
//!
//! *Invariants*
//! 1. Who has not joined when a join is complete is no member any more, unless it is static.
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupMetadataManager.java`: prepareRebalance,
//! completeClassicGroupJoin, expirePendingSync.
//!
//! *Not here* what a group is (`group.rs`).

use core::time::Duration;

use super::{First, Group, GroupState, Member, Told};
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;

/// What is waited for at least, so that time goes on.
const AT_LEAST: Duration = Duration::from_millis(1);

impl Group {
    /// Members are to join again, or this was the one that all waited for.
    pub(super) fn rebalance(&mut self, (now, delay): (Instant, Duration)) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_if_all_joined(now),
            GroupState::Empty => {
                self.state = GroupState::PreparingRebalance;
                let left = self.longest_rebalance().saturating_sub(delay);
                self.first = Some(First {
                    left,
                    has_grown: false,
                });
                self.join_ends = Some(now + delay);
                if delay.is_zero() {
                    self.complete_join(now);
                }
            }
            GroupState::CompletingRebalance | GroupState::Stable => self.prepare(now),
        }
    }

    /// The same once members have left.
    pub fn rebalance_without(&mut self, now: Instant) {
        match self.state {
            GroupState::Empty => {}
            GroupState::PreparingRebalance => self.complete_if_all_joined(now),
            GroupState::CompletingRebalance | GroupState::Stable => self.prepare(now),
        }
    }

    fn prepare(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                let refused = Told::Synced(Err(ErrorCode::REBALANCE_IN_PROGRESS));
                self.answers.push((ticket, refused));
                member.alive_until = Some(now + member.session);
            }
        }
        self.not_synced.clear();
        self.sync_ends = None;
        self.state = GroupState::PreparingRebalance;
        self.join_ends = Some(now + self.longest_rebalance());
        self.complete_if_all_joined(now);
    }

    fn longest_rebalance(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance);
        timeouts.max().unwrap_or_default().max(AT_LEAST)
    }

    fn complete_if_all_joined(&mut self, now: Instant) {
        let joined = |member: &Member| member.joining.is_some();
        let all = self.members.values().all(joined) && self.pending.is_empty();
        if self.state == GroupState::PreparingRebalance && self.first.is_none() && all {
            self.complete_join(now);
        }
    }

    fn complete_join(&mut self, now: Instant) {
        let late = self.members.iter();
        let late = late.filter(|(_, of)| of.joining.is_none() && of.instance.is_none());
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        for id in late {
            self.remove(&id);
        }
        let joined = |member: &&Member| member.joining.is_some();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.filter(joined).is_none() {
            let mut others = self.members.iter();
            let next = others.find(|(_, member)| joined(member));
            let next = next.map(|(id, _)| id.clone());
            if next.is_none() && !self.members.is_empty() {
                // Static members alone are left, and none of them has come.
                self.join_ends = Some(now + self.longest_rebalance());
                return;
            }
            self.leader = next;
        }
        self.first = None;
        self.join_ends = None;
        self.generation = self.generation.wrapping_add(1).max(0);
        if self.members.is_empty() {
            self.protocol = None;
            self.state = GroupState::Empty;
            return;
        }
        self.protocol = self.select();
        self.state = GroupState::CompletingRebalance;
        self.sync_ends = Some(now + self.longest_rebalance());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let told = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                if let Some(ticket) = member.joining.take() {
                    self.answers.push((ticket, Told::Joined(told)));
                }
                member.alive_until = Some(now + member.session);
                member.is_new = false;
                member.assignment.clear();
            }
            self.not_synced.insert(id);
        }
    }

    /// When [`on_time`](Self::on_time) is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(Member::expires);
        let pending = self.pending.values().copied();
        let ends = self.join_ends.into_iter().chain(self.sync_ends);
        members.chain(pending).chain(ends).min()
    }

    /// Time has come to [`next_deadline`](Self::next_deadline). `delay` is how long others are
    /// waited for in a group that was empty.
    pub fn on_time(&mut self, now: Instant, delay: Duration) {
        let given_out = self.pending.len();
        self.pending.retain(|_, until| *until > now);
        if self.pending.len() < given_out {
            self.complete_if_all_joined(now);
        }
        let silent = self.members.iter();
        let silent = silent.filter(|(_, of)| of.expires().is_some_and(|until| until <= now));
        let silent: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
        for id in &silent {
            self.remove(id);
        }
        if !silent.is_empty() {
            self.rebalance_without(now);
        }
        if self.join_ends.is_some_and(|ends| ends <= now) {
            match &mut self.first {
                Some(first) if first.has_grown && !first.left.is_zero() => {
                    let next = delay.min(first.left);
                    first.has_grown = false;
                    first.left = first.left.saturating_sub(delay);
                    self.join_ends = Some(now + next.max(AT_LEAST));
                }
                _ => self.complete_join(now),
            }
        }
        if self.sync_ends.is_some_and(|ends| ends <= now) {
            self.sync_ends = None;
            let late = core::mem::take(&mut self.not_synced);
            for id in &late {
                self.remove(id);
            }
            if !late.is_empty() {
                self.rebalance_without(now);
            }
        }
    }
}

impl Member {
    /// When it is found to be silent; `None` while it waits for an answer.
    const fn expires(&self) -> Option<Instant> {
        match (self.joining, self.syncing) {
            (None, None) => self.alive_until,
            (Some(_), _) if self.is_new => self.alive_until,
            _ => None,
        }
    }
}
