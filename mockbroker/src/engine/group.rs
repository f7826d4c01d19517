//! A group of consumers in the classic protocol: who is a member, and what each of them reads.
//!
//! *State*
//!
//! ```text
//!        somebody joins             all joined, or time is over        the leader syncs
//! Empty ─────────────▶ Preparing ─────────────────────────▶ Completing ─────────────▶ Stable
//!   ▲                   │    ▲                                  │                       │
//!   └── nobody is left ─┘    └─ somebody joins, leaves, is late ┴───────────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A generation begins when a join is complete; whoever names another is refused (22).
//! 2. A member that waits for its answer does not expire, unless it is new.
//! 3. A static member has one id at a time; who comes with an older one is fenced (82).
//! 4. The leader is a member.
//!
//! *Source* apache/kafka `group-coordinator/…/group/{GroupMetadataManager,classic/ClassicGroup}.
//! java`; KIP-62, KIP-345, KIP-394, KIP-814.
//!
//! *Not here* what groups commit (`group_offsets.rs`); who coordinates (`groups.rs`).
//!
//! *Deviations* where members vote for several protocols alike, the first by name is taken; Kafka
//! takes one by its hash. While members join again, what they read is what they say now, of the
//! protocol before.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::groups::{Claim, CommitKind};
use super::time::Instant;
use crate::error_code::ErrorCode;
use crate::wire::subscription;

mod joining;
mod timing;

pub use joining::{Joining, Refused};

/// For how long a new member may wait for its first answer.
const NEW_MEMBER_JOINS_FOR: Duration = Duration::from_secs(300);

/// Numbers a request that waits.
pub type Ticket = u64;

/// The state of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    #[default]
    Empty,
    /// Its members are to join again.
    PreparingRebalance,
    /// They have, and wait for what their leader assigns.
    CompletingRebalance,
    /// All know what is theirs.
    Stable,
}

impl GroupState {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    /// The id that a static member gave itself.
    pub instance: Option<String>,
    /// The client id that it joined with.
    pub client: String,
    /// What the leader has assigned to it.
    pub assignment: Bytes,
    session: Duration,
    rebalance: Duration,
    /// Names with what it says to the leader, the one that it likes best first.
    protocols: Vec<(String, Bytes)>,
    is_new: bool,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    alive_until: Option<Instant>,
}

impl Member {
    fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.said_of(protocol).cloned().unwrap_or_default()
    }

    fn said_of(&self, protocol: Option<&str>) -> Option<&Bytes> {
        let named = |(name, _): &&(String, Bytes)| Some(name.as_str()) == protocol;
        let known = self.protocols.iter().find(named);
        known.map(|(_, metadata)| metadata)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(|(name, _)| name.as_str())
    }

    fn bytes(&self) -> usize {
        let protocols = bytes_of_protocols(&self.protocols);
        let instance = self.instance.as_ref().map_or(0, String::len);
        MEMBER_BYTES + instance + self.client.len() + self.assignment.len() + protocols
    }
}

fn bytes_of_protocols(protocols: &[(String, Bytes)]) -> usize {
    let bytes = |(name, metadata): &(String, Bytes)| name.len() + metadata.len() + 64;
    protocols.iter().map(bytes).fold(0, usize::saturating_add)
}

/// The type of protocols whose members are consumers (`ConsumerProtocol.PROTOCOL_TYPE`).
const CONSUMERS: &str = "consumer";

/// Which topics the members of a group read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription<'a> {
    /// These.
    To(BTreeSet<&'a str>),
    /// It is not known which, so it may be any.
    ToAny,
}

impl Subscription<'_> {
    /// Whether a topic may be read.
    #[must_use]
    pub fn covers(&self, topic: &str) -> bool {
        match self {
            Self::To(topics) => topics.contains(topic),
            Self::ToAny => true,
        }
    }
}

/// Bytes of a member beside what it says.
pub(super) const MEMBER_BYTES: usize = 1_024;

/// A group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    state: GroupState,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    instances: BTreeMap<String, String>,
    /// Ids that were given out to who has not joined with them yet.
    pending: BTreeMap<String, Instant>,
    not_synced: BTreeSet<String>,
    first: Option<First>,
    join_ends: Option<Instant>,
    sync_ends: Option<Instant>,
    answers: Vec<(Ticket, Told)>,
}

/// The first join of an empty group: others are waited for.
#[derive(Clone, Copy, Debug)]
struct First {
    left: Duration,
    has_grown: bool,
}

/// What a request that waited is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// JoinGroup.
    Joined(Joined),
    /// SyncGroup.
    Synced(Result<Synced, ErrorCode>),
}

/// What JoinGroup comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The outcome.
    pub error: ErrorCode,
    /// The generation; -1 on errors.
    pub generation: i32,
    /// The type of its protocols.
    pub protocol_type: Option<String>,
    /// The protocol that all know.
    pub protocol: Option<String>,
    /// Who assigns; empty on errors.
    pub leader: String,
    /// Whether the leader need not assign again (KIP-814).
    pub skip: bool,
    /// The member's id.
    pub member: String,
    /// For the leader, all members: id, instance, what they say.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    /// A refusal.
    #[must_use]
    pub const fn refused(error: ErrorCode, member: String) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip: false,
            member,
            members: Vec::new(),
        }
    }
}

/// What SyncGroup comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The type of the group's protocols.
    pub protocol_type: Option<String>,
    /// The protocol that all know.
    pub protocol: Option<String>,
    /// What is the member's.
    pub assignment: Bytes,
}

/// SyncGroup, of a member.
#[derive(Clone, Debug)]
pub struct Syncing {
    /// The type of protocols that it knows of.
    pub protocol_type: Option<String>,
    /// The protocol that it knows of.
    pub protocol: Option<String>,
    /// Of the leader: what is whose.
    pub assignments: BTreeMap<String, Bytes>,
    /// Where the answer goes.
    pub ticket: Ticket,
}

impl Group {
    /// Its state.
    #[must_use]
    pub const fn state(&self) -> GroupState {
        self.state
    }

    /// The generation.
    #[must_use]
    pub const fn generation(&self) -> i32 {
        self.generation
    }

    /// The type of its protocols; `None` while nobody has joined.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The protocol that all know, once that was found.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Its members by their ids, with what they say of the protocol.
    pub fn members(&self) -> impl Iterator<Item = (&String, &Member, Bytes)> {
        let members = self.members.iter();
        members.map(|(id, member)| (id, member, member.metadata(self.protocol())))
    }

    /// Which topics its members read; `None` where they are no consumers, of whom that is known
    /// (`ClassicGroup.validateOffsetDelete`, `computeSubscribedTopics`).
    #[must_use]
    pub fn subscription(&self) -> Option<Subscription<'_>> {
        if self.state == GroupState::Empty {
            return Some(Subscription::To(BTreeSet::new()));
        }
        if self.protocol_type() != Some(CONSUMERS) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            match subscription::topics(member.said_of(self.protocol()).map_or(&[], |said| said)) {
                Ok(named) => topics.extend(named),
                Err(_) => return Some(Subscription::ToAny),
            }
        }
        Some(Subscription::To(topics))
    }

    /// How many members it has, and ids that were given out.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len().saturating_add(self.pending.len())
    }

    /// Whether an id is a member's, or was given out.
    #[must_use]
    pub fn knows(&self, member: &str) -> bool {
        self.members.contains_key(member) || self.pending.contains_key(member)
    }

    /// What it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let members = self.members.iter();
        let members = members.map(|(id, member)| id.len() + member.bytes());
        let pending = self.pending.keys().map(|id| id.len() + MEMBER_BYTES);
        members.chain(pending).fold(0, usize::saturating_add)
    }

    /// What requests that waited are told.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Told)> {
        core::mem::take(&mut self.answers)
    }

    /// Whether a client may commit offsets, in a transaction or not.
    ///
    /// # Errors
    ///
    /// 25, 82 for who is no member, 22 for another generation, 27 while assignments are awaited.
    pub fn check_commit(&self, claim: &Claim<'_>, kind: CommitKind) -> Result<(), ErrorCode> {
        let plain = kind == CommitKind::Plain;
        let names_itself =
            claim.generation >= 0 || !claim.member.is_empty() || claim.instance.is_some();
        if claim.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if names_itself {
            self.check_generation(claim)?;
        } else if plain && self.state != GroupState::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if plain && self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(known) if known != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn check_generation(&self, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        self.check_member(claim.member, claim.instance)?;
        match claim.generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    /// A member shows that it lives.
    ///
    /// # Errors
    ///
    /// 22, 25, 82 for who is none; 27 while members are to join again.
    pub fn heartbeat(&mut self, claim: &Claim<'_>, now: Instant) -> Result<(), ErrorCode> {
        self.check_generation(claim)?;
        if self.state == GroupState::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.keep(claim.member, now);
        match self.state {
            GroupState::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// A member commits offsets, which shows that it lives.
    pub fn on_commit(&mut self, member: &str, now: Instant) {
        if matches!(
            self.state,
            GroupState::Stable | GroupState::PreparingRebalance
        ) {
            self.keep(member, now);
        }
    }

    fn keep(&mut self, member: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(member) {
            member.alive_until = Some(now + member.session);
        }
    }

    /// A member asks what is its own, or the leader says what is whose; the answer comes with the
    /// ticket.
    ///
    /// # Errors
    ///
    /// 22, 25, 82 for who is no member; 23 for another protocol; 27 while members join again.
    pub fn sync(
        &mut self,
        claim: &Claim<'_>,
        mut syncing: Syncing,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        self.check_generation(claim)?;
        let differs = |told: &Option<String>, known: Option<&str>| {
            told.as_deref().is_some_and(|told| Some(told) != known)
        };
        if differs(&syncing.protocol_type, self.protocol_type())
            || differs(&syncing.protocol, self.protocol())
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            GroupState::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            GroupState::CompletingRebalance | GroupState::Stable => {}
        }
        if let Some(member) = self.members.get_mut(claim.member) {
            member.syncing = Some(syncing.ticket);
        }
        self.not_synced.remove(claim.member);
        let leads = self.leader.as_deref() == Some(claim.member);
        if self.state == GroupState::CompletingRebalance && leads {
            for (id, member) in &mut self.members {
                member.assignment = syncing.assignments.remove(id).unwrap_or_default();
            }
            self.state = GroupState::Stable;
        }
        if self.state == GroupState::Stable {
            self.tell_assignments(now);
        }
        if self.not_synced.is_empty() {
            self.sync_ends = None;
        }
        Ok(())
    }

    fn tell_assignments(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                let synced = Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                self.answers.push((ticket, Told::Synced(Ok(synced))));
                member.alive_until = Some(now + member.session);
            }
        }
    }

    /// A member leaves; [`rebalance_without`](Self::rebalance_without) follows once all have left
    /// that do.
    ///
    /// # Errors
    ///
    /// 25, 82 for who is no member.
    pub fn leave(&mut self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if id.is_empty() {
            let known = instance.and_then(|instance| self.instances.get(instance));
            let known = known.cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            self.remove(&known);
            return Ok(());
        }
        if self.pending.remove(id).is_some() {
            return Ok(());
        }
        self.check_member(id, instance)?;
        self.remove(id);
        Ok(())
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        self.turn_away(&member, id, ErrorCode::UNKNOWN_MEMBER_ID);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        self.not_synced.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Whatever a member waits for, it does not get.
    fn turn_away(&mut self, member: &Member, id: &str, code: ErrorCode) {
        if let Some(ticket) = member.joining {
            let refused = Joined::refused(code, id.to_owned());
            self.answers.push((ticket, Told::Joined(refused)));
        }
        if let Some(ticket) = member.syncing {
            self.answers.push((ticket, Told::Synced(Err(code))));
        }
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        let leads = |leader: &String| self.members.contains_key(leader);
        assert!(self.leader.as_ref().is_none_or(leads), "group 4");
        for (instance, id) in &self.instances {
            let member = self.members.get(id).and_then(|of| of.instance.as_ref());
            assert_eq!(member, Some(instance), "group 3");
        }
        let waits = self.state == GroupState::PreparingRebalance;
        assert_eq!(self.join_ends.is_some(), waits, "group: a join ends");
        assert!(self.answers.is_empty(), "group: answers wait for nobody");
        if self.state == GroupState::Empty {
            assert!(self.members.is_empty(), "group: nobody is in it");
        }
    }
}
