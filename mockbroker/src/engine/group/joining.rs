//! How members join a group.
//!
//! *State* of who asks:
//!
//! ```text
//!             no id, and the client knows of it
//! stranger ─┬───────────────────────────────────▶ 79: an id is given out ─ it comes with it ─┐
//!           └─ otherwise ────────────────────────────────────────────────────────────────────┤
//!                                                                                            ▼
//!          the same as before, no leader: answered at once ◀── it comes again ◀───────── member
//! ```
//!
//! *Invariants*
//! 1. Who joins again as it was changes nothing.
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupMetadataManager.java`: classicGroupJoin,
//! updateStaticMemberThenRebalanceOrCompleteJoin.
//!
//! *Not here* what a group is (`group.rs`); when joins end (`timing.rs`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Group, GroupState, Joined, MEMBER_BYTES, Member, NEW_MEMBER_JOINS_FOR, Ticket, Told,
    bytes_of_protocols,
};
use crate::engine::time::Instant;
use crate::error_code::ErrorCode;

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The member's id; empty for none.
    pub id: String,
    /// The id that it has from now on if it has none.
    pub fresh: String,
    /// The id that a static member gave itself.
    pub instance: Option<String>,
    /// The client id.
    pub client: String,
    /// After how long of silence it is no member any more.
    pub session: Duration,
    /// How long it may take to join again.
    pub rebalance: Duration,
    /// The type of its protocols.
    pub protocol_type: String,
    /// Names with what it says to the leader, the one that it likes best first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether it knows that it has to come with an id (KIP-394).
    pub knows_ids: bool,
    /// Whether it knows that a leader need not assign again (KIP-814).
    pub knows_skipping: bool,
    /// Where the answer goes.
    pub ticket: Ticket,
}

impl Joining {
    /// What the group takes more at most once it has joined: see [`Group::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        let id = self.id.len().max(self.fresh.len());
        let instance = self.instance.as_ref().map_or(0, String::len);
        let named = id + instance + self.client.len();
        MEMBER_BYTES + named + bytes_of_protocols(&self.protocols)
    }
}

/// Why JoinGroup is refused, and which id the answer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: ErrorCode,
    /// The id.
    pub member: String,
}

impl Group {
    /// Somebody joins; the answer comes with the ticket. `delay` is how long others are waited for
    /// when the group was empty.
    ///
    /// # Errors
    ///
    /// 23 for protocols that not all know; 25, 82 for who is no member; 79 with an id.
    pub fn join(
        &mut self,
        joining: Joining,
        (now, delay): (Instant, Duration),
    ) -> Result<(), Refused> {
        let refused = |code, member: &str| Refused {
            code,
            member: member.to_owned(),
        };
        if !self.supports(&joining) {
            let code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            return Err(refused(code, &joining.id));
        }
        if self.pending.remove(&joining.id).is_some() {
            let id = joining.id.clone();
            self.add(id, joining, (now, delay));
            return Ok(());
        }
        if !joining.id.is_empty() {
            let id = joining.id.clone();
            let joined = self.join_again(joining, (now, delay));
            return joined.map_err(|code| refused(code, &id));
        }
        let instance = joining.instance.as_ref();
        if let Some(known) = instance.and_then(|instance| self.instances.get(instance)) {
            let known = known.clone();
            self.replace(&known, joining, (now, delay));
            return Ok(());
        }
        let fresh = joining.fresh.clone();
        if joining.instance.is_none() && joining.knows_ids {
            self.pending.insert(fresh.clone(), now + joining.session);
            return Err(refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh));
        }
        self.add(fresh, joining, (now, delay));
        Ok(())
    }

    /// Whether there is a protocol that all members and this one know.
    fn supports(&self, joining: &Joining) -> bool {
        if self.state == GroupState::Empty {
            return !joining.protocol_type.is_empty() && !joining.protocols.is_empty();
        }
        let mut named = joining.protocols.iter();
        let shared = match self.members.is_empty() {
            true => named.next().is_some(),
            false => {
                let known = self.known_by_all();
                named.any(|(name, _)| known.contains(name.as_str()))
            }
        };
        shared && self.protocol_type() == Some(joining.protocol_type.as_str())
    }

    /// The protocols that all members know, found in one pass: members name hundreds of them.
    fn known_by_all(&self) -> BTreeSet<&str> {
        let named = |member| Member::names(member).collect::<BTreeSet<&str>>();
        let mut members = self.members.values().map(named);
        let first = members.next().unwrap_or_default();
        members.fold(first, |all, of| &all & &of)
    }

    /// The protocol that most like best of those that all know.
    pub(super) fn select(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let known = self.known_by_all();
        for member in self.members.values() {
            if let Some(name) = member.names().find(|name| known.contains(name)) {
                *votes.entry(name).or_insert(0) += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let first = votes.into_iter().find(|(_, count)| *count == most);
        first.map(|(name, _)| name.to_owned())
    }

    fn add(&mut self, id: String, joining: Joining, at: (Instant, Duration)) {
        if let Some(instance) = &joining.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(joining.protocol_type);
        }
        self.leader.get_or_insert_with(|| id.clone());
        if let Some(first) = &mut self.first {
            first.has_grown = true;
        }
        self.members.insert(
            id,
            Member {
                instance: joining.instance,
                client: joining.client,
                assignment: Bytes::new(),
                session: joining.session,
                rebalance: joining.rebalance,
                protocols: joining.protocols,
                is_new: true,
                joining: Some(joining.ticket),
                syncing: None,
                alive_until: Some(at.0 + NEW_MEMBER_JOINS_FOR),
            },
        );
        self.rebalance(at);
    }

    fn update(&mut self, id: &str, joining: Joining) {
        if let Some(member) = self.members.get_mut(id) {
            member.session = joining.session;
            member.rebalance = joining.rebalance;
            member.protocols = joining.protocols;
            member.joining = Some(joining.ticket);
        }
    }

    fn join_again(&mut self, joining: Joining, at: (Instant, Duration)) -> Result<(), ErrorCode> {
        let id = joining.id.clone();
        self.check_member(&id, joining.instance.as_deref())?;
        let known = self.members.get(&id);
        let same = known.is_some_and(|member| member.protocols == joining.protocols);
        let leads = self.leader.as_deref() == Some(id.as_str());
        match self.state {
            GroupState::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::CompletingRebalance if same => {
                let joined = self.joined(&id);
                self.answers.push((joining.ticket, Told::Joined(joined)));
                Ok(())
            }
            GroupState::Stable if same && !leads => {
                let joined = self.joined(&id);
                self.answers.push((joining.ticket, Told::Joined(joined)));
                Ok(())
            }
            _ => {
                self.update(&id, joining);
                self.rebalance(at);
                Ok(())
            }
        }
    }

    /// A static member comes back without its id, and gets another.
    fn replace(&mut self, known: &str, joining: Joining, (now, delay): (Instant, Duration)) {
        let Some(mut member) = self.members.remove(known) else {
            return;
        };
        self.turn_away(&member, known, ErrorCode::FENCED_INSTANCE_ID);
        member.joining = None;
        member.syncing = None;
        member.alive_until = Some(now + joining.session);
        let id = joining.fresh.clone();
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.not_synced.remove(known) {
            self.not_synced.insert(id.clone());
        }
        let led_before = self.leader.clone().unwrap_or_default();
        let leads = led_before == known;
        if leads {
            self.leader = Some(id.clone());
        }
        self.members.insert(id.clone(), member);
        let (ticket, knows_skipping) = (joining.ticket, joining.knows_skipping);
        self.update(&id, joining);
        if self.state != GroupState::Stable || self.select() != self.protocol {
            return self.rebalance((now, delay));
        }
        // What was assigned still holds.
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = None;
        }
        let mut joined = self.joined(&id);
        if knows_skipping {
            joined.skip = leads;
        } else {
            // It would assign if it knew that it leads.
            joined.leader = led_before;
            joined.members.clear();
        }
        self.answers.push((ticket, Told::Joined(joined)));
    }

    /// What a member is told of this generation.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol();
        let members = self.members.iter().filter(|_| leader == id);
        let members = members.map(|(member, of)| {
            let (id, instance) = (member.clone(), of.instance.clone());
            (id, instance, of.metadata(protocol))
        });
        Joined {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            skip: false,
            member: id.to_owned(),
            members: members.collect(),
            leader,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_takes_is_known_before() {
        let mut joining = Joining {
            id: String::new(),
            fresh: "fresh".repeat(100),
            instance: Some("instance".repeat(100)),
            client: "client".repeat(1_000),
            session: Duration::from_secs(10),
            rebalance: Duration::from_secs(10),
            protocol_type: "consumer".into(),
            protocols: (0..100)
                .map(|name| (name.to_string(), Bytes::new()))
                .collect(),
            knows_ids: true,
            knows_skipping: true,
            ticket: 1,
        };
        let mut group = Group::default();
        let told = joining.bytes();
        let at = (Instant::ZERO, Duration::ZERO);
        assert_eq!(group.join(joining.clone(), at), Ok(()));
        assert_eq!(group.bytes(), told);
        joining.instance = None;
        joining.fresh = "other".into();
        let told = joining.bytes();
        let before = group.bytes();
        assert!(group.join(joining, at).is_err(), "an id is given out");
        assert!(group.bytes() - before <= told);
    }
}
