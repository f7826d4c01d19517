//! Groups of consumers: what members and admin clients ask, and what is answered.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//! 2. A value holds what the newest version can say; what an older one lacks is left out here.
//! 3. What a member says is copied out of the frame, which it would keep alive.
//!
//! *Source* the schemas of apache/kafka 4.3.1; KIP-62, KIP-345, KIP-394, KIP-518, KIP-559, KIP-814.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::StrBytes;

use super::offsets::Membership;
use super::reply::{Encoded, put, text};
use super::reply_body::RowCode;
use super::request::{Malformed, decoded};
use crate::api::Api;
use crate::error_code::ErrorCode;

/// The body of a request about groups, one variant for each API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// See [`JoinGroup`].
    JoinGroup(JoinGroup),
    /// See [`SyncGroup`].
    SyncGroup(SyncGroup),
    /// Heartbeat: the group and its member.
    Heartbeat(String, Membership),
    /// LeaveGroup: the group, and who leaves by id and instance; exactly one before version 3.
    LeaveGroup(String, Vec<(String, Option<String>)>),
    /// DescribeGroups: the groups, and whether the answer tells what the client may do.
    DescribeGroups(Vec<String>, bool),
    /// ListGroups: states and types; none is all.
    ListGroups(Vec<String>, Vec<String>),
    /// DeleteGroups: the groups.
    DeleteGroups(Vec<String>),
}

/// JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group: String,
    /// After how long of silence the member is none any more.
    pub session_timeout_ms: i32,
    /// How long it may take to join again; the same before version 1.
    pub rebalance_timeout_ms: i32,
    /// The member's id; empty for none.
    pub member: String,
    /// The id that a static member gave itself.
    pub instance: Option<String>,
    /// The type of its protocols.
    pub protocol_type: String,
    /// Names with what it says to the leader.
    pub protocols: Vec<(String, Bytes)>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group: String,
    /// The member.
    pub by: Membership,
    /// The type of protocols that it knows of; from version 5.
    pub protocol_type: Option<String>,
    /// The protocol that it knows of; from version 5.
    pub protocol: Option<String>,
    /// Of the leader: members with what is theirs.
    pub assignments: Vec<(String, Bytes)>,
}

/// The body of a reply about groups, one variant for each API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupReply {
    /// See [`Joined`].
    JoinGroup(Joined),
    /// See [`Synced`].
    SyncGroup(Synced),
    /// Heartbeat: the outcome.
    Heartbeat(ErrorCode),
    /// LeaveGroup: the outcome, and that of each member by id and instance.
    LeaveGroup(ErrorCode, Vec<(String, Option<String>, ErrorCode)>),
    /// DescribeGroups.
    DescribeGroups(Vec<DescribedGroup>),
    /// ListGroups: the outcome and the groups.
    ListGroups(ErrorCode, Vec<ListedGroup>),
    /// DeleteGroups: the groups with their outcomes.
    DeleteGroups(Vec<(String, ErrorCode)>),
}

/// JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The outcome.
    pub error: ErrorCode,
    /// The generation; -1 on errors.
    pub generation: i32,
    /// The type of the group's protocols; from v7.
    pub protocol_type: Option<String>,
    /// The protocol that all know.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: String,
    /// Whether the leader need not; from v9.
    pub skip: bool,
    /// The member's id.
    pub member: String,
    /// For the leader, all members: id, instance from v5, what they say.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The outcome.
    pub error: ErrorCode,
    /// The type of the group's protocols; from v5.
    pub protocol_type: Option<String>,
    /// The protocol that all know; from v5.
    pub protocol: Option<String>,
    /// What is the member's.
    pub assignment: Bytes,
}

/// A group of DescribeGroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong; from v6.
    pub message: Option<String>,
    /// Which.
    pub group: String,
    /// Its state, by Kafka's name.
    pub state: &'static str,
    /// The type of its protocols.
    pub protocol_type: String,
    /// The protocol that all know.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
    /// What the client may do with it; from v3.
    pub operations: i32,
}

/// A member of [`DescribedGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: String,
    /// The id that a static one gave itself; from v4.
    pub instance: Option<String>,
    /// Its client id.
    pub client: String,
    /// Where it is.
    pub host: &'static str,
    /// What it says to the leader.
    pub metadata: Bytes,
    /// What was assigned to it.
    pub assignment: Bytes,
}

/// A group of ListGroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Which.
    pub group: String,
    /// The type of its protocols.
    pub protocol_type: String,
    /// Its state, by Kafka's name; from v4.
    pub state: &'static str,
    /// Its type, by Kafka's name; from v5.
    pub kind: &'static str,
}

/// Reads the body of a request about groups; `None` when `api` is none of these.
///
/// # Errors
///
/// When a field does not follow the schema.
pub(super) fn decode(
    api: Api,
    version: i16,
    body: &mut Bytes,
) -> Result<Option<GroupRequest>, Malformed> {
    Ok(Some(match api {
        Api::JoinGroup => GroupRequest::JoinGroup(join(decoded(body, version)?, version)),
        Api::SyncGroup => GroupRequest::SyncGroup(sync(decoded(body, version)?)),
        Api::Heartbeat => {
            let message: kp::HeartbeatRequest = decoded(body, version)?;
            let by = Membership {
                generation: message.generation_id,
                member: message.member_id.to_string(),
                instance: owned(message.group_instance_id),
            };
            GroupRequest::Heartbeat(message.group_id.to_string(), by)
        }
        Api::LeaveGroup => {
            let message: kp::LeaveGroupRequest = decoded(body, version)?;
            let members = match version {
                ..3 => vec![(message.member_id.to_string(), None)],
                _ => {
                    let members = message.members.into_iter();
                    let members =
                        members.map(|of| (of.member_id.to_string(), owned(of.group_instance_id)));
                    members.collect()
                }
            };
            GroupRequest::LeaveGroup(message.group_id.to_string(), members)
        }
        Api::DescribeGroups => {
            let message: kp::DescribeGroupsRequest = decoded(body, version)?;
            let groups = message.groups.iter().map(|group| group.to_string());
            let operations = message.include_authorized_operations;
            GroupRequest::DescribeGroups(groups.collect(), operations)
        }
        Api::ListGroups => {
            let message: kp::ListGroupsRequest = decoded(body, version)?;
            let texts = |texts: Vec<StrBytes>| texts.iter().map(ToString::to_string).collect();
            GroupRequest::ListGroups(texts(message.states_filter), texts(message.types_filter))
        }
        Api::DeleteGroups => {
            let message: kp::DeleteGroupsRequest = decoded(body, version)?;
            let groups = message.groups_names.iter().map(|group| group.to_string());
            GroupRequest::DeleteGroups(groups.collect())
        }
        _ => return Ok(None),
    }))
}

fn owned(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

fn join(message: kp::JoinGroupRequest, version: i16) -> JoinGroup {
    let protocols = message.protocols.into_iter();
    let protocols = protocols.map(|of| {
        let metadata = Bytes::copy_from_slice(&of.metadata);
        (of.name.to_string(), metadata)
    });
    JoinGroup {
        group: message.group_id.to_string(),
        session_timeout_ms: message.session_timeout_ms,
        rebalance_timeout_ms: match version {
            0 => message.session_timeout_ms,
            _ => message.rebalance_timeout_ms,
        },
        member: message.member_id.to_string(),
        instance: owned(message.group_instance_id),
        protocol_type: message.protocol_type.to_string(),
        protocols: protocols.collect(),
    }
}

fn sync(message: kp::SyncGroupRequest) -> SyncGroup {
    let assignments = message.assignments.into_iter();
    let assignments = assignments.map(|of| {
        let assignment = Bytes::copy_from_slice(&of.assignment);
        (of.member_id.to_string(), assignment)
    });
    SyncGroup {
        group: message.group_id.to_string(),
        by: Membership {
            generation: message.generation_id,
            member: message.member_id.to_string(),
            instance: owned(message.group_instance_id),
        },
        protocol_type: owned(message.protocol_type),
        protocol: owned(message.protocol_name),
        assignments: assignments.collect(),
    }
}

impl GroupReply {
    /// Writes it in `version`.
    ///
    /// # Errors
    ///
    /// What the encoder says of a value that does not fit its field.
    pub(super) fn encode(&self, version: i16, frame: &mut BytesMut) -> Encoded {
        match self {
            Self::JoinGroup(body) => encode_joined(body, version, frame),
            Self::SyncGroup(body) => {
                let mut message = kp::SyncGroupResponse::default()
                    .with_error_code(body.error.0)
                    .with_assignment(body.assignment.clone());
                if version >= 5 {
                    message.protocol_type = body.protocol_type.as_deref().map(text);
                    message.protocol_name = body.protocol.as_deref().map(text);
                }
                put(&message, version, frame)
            }
            Self::Heartbeat(error) => {
                let message = kp::HeartbeatResponse::default().with_error_code(error.0);
                put(&message, version, frame)
            }
            Self::LeaveGroup(error, members) => encode_left(*error, members, version, frame),
            Self::DescribeGroups(groups) => encode_described(groups, version, frame),
            Self::ListGroups(error, groups) => {
                use kp::list_groups_response::ListedGroup;
                let groups = groups.iter().map(|of| {
                    let mut listed = ListedGroup::default()
                        .with_group_id(kp::GroupId(text(&of.group)))
                        .with_protocol_type(text(&of.protocol_type));
                    if version >= 4 {
                        listed.group_state = text(of.state);
                    }
                    if version >= 5 {
                        listed.group_type = text(of.kind);
                    }
                    listed
                });
                let message = kp::ListGroupsResponse::default()
                    .with_error_code(error.0)
                    .with_groups(groups.collect());
                put(&message, version, frame)
            }
            Self::DeleteGroups(groups) => {
                use kp::delete_groups_response::DeletableGroupResult;
                let results = groups.iter().map(|(group, error)| {
                    DeletableGroupResult::default()
                        .with_group_id(kp::GroupId(text(group)))
                        .with_error_code(error.0)
                });
                let message = kp::DeleteGroupsResponse::default().with_results(results.collect());
                put(&message, version, frame)
            }
        }
    }

    /// The code of every row, for the journal.
    #[must_use]
    pub fn codes(&self) -> Vec<RowCode> {
        match self {
            Self::JoinGroup(body) => vec![RowCode::whole(body.error)],
            Self::SyncGroup(body) => vec![RowCode::whole(body.error)],
            Self::Heartbeat(error) | Self::ListGroups(error, _) => vec![RowCode::whole(*error)],
            Self::LeaveGroup(error, members) => {
                let members = members.iter().map(|(_, _, code)| RowCode::whole(*code));
                core::iter::once(RowCode::whole(*error))
                    .chain(members)
                    .collect()
            }
            Self::DescribeGroups(groups) => {
                groups.iter().map(|of| RowCode::whole(of.error)).collect()
            }
            Self::DeleteGroups(groups) => groups.iter().map(|of| RowCode::whole(of.1)).collect(),
        }
    }
}

fn encode_joined(body: &Joined, version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::join_group_response::JoinGroupResponseMember;
    let members = body.members.iter().map(|(id, instance, metadata)| {
        let mut member = JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_metadata(metadata.clone());
        if version >= 5 {
            member.group_instance_id = instance.as_deref().map(text);
        }
        member
    });
    let mut message = kp::JoinGroupResponse::default()
        .with_error_code(body.error.0)
        .with_generation_id(body.generation)
        .with_protocol_name(match (&body.protocol, version) {
            (None, ..7) => Some(text("")),
            (protocol, _) => protocol.as_deref().map(text),
        })
        .with_leader(text(&body.leader))
        .with_member_id(text(&body.member))
        .with_members(members.collect());
    if version >= 7 {
        message.protocol_type = body.protocol_type.as_deref().map(text);
    }
    if version >= 9 {
        message.skip_assignment = body.skip;
    }
    put(&message, version, frame)
}

fn encode_left(
    error: ErrorCode,
    members: &[(String, Option<String>, ErrorCode)],
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::leave_group_response::MemberResponse;
    let mut message = kp::LeaveGroupResponse::default().with_error_code(error.0);
    if version >= 3 {
        let members = members.iter().map(|(id, instance, code)| {
            MemberResponse::default()
                .with_member_id(text(id))
                .with_group_instance_id(instance.as_deref().map(text))
                .with_error_code(code.0)
        });
        message.members = members.collect();
    } else if let Some((_, _, code)) = members.first()
        && error == ErrorCode::NONE
    {
        message.error_code = code.0;
    }
    put(&message, version, frame)
}

fn encode_described(groups: &[DescribedGroup], version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::describe_groups_response::{DescribedGroup as Group, DescribedGroupMember};
    let groups = groups.iter().map(|of| {
        let members = of.members.iter().map(|member| {
            let mut described = DescribedGroupMember::default()
                .with_member_id(text(&member.id))
                .with_client_id(text(&member.client))
                .with_client_host(text(member.host))
                .with_member_metadata(member.metadata.clone())
                .with_member_assignment(member.assignment.clone());
            if version >= 4 {
                described.group_instance_id = member.instance.as_deref().map(text);
            }
            described
        });
        let mut group = Group::default()
            .with_error_code(of.error.0)
            .with_group_id(kp::GroupId(text(&of.group)))
            .with_group_state(text(of.state))
            .with_protocol_type(text(&of.protocol_type))
            .with_protocol_data(text(&of.protocol))
            .with_members(members.collect());
        if version >= 3 {
            group.authorized_operations = of.operations;
        }
        if version >= 6 {
            group.error_message = of.message.as_deref().map(text);
        }
        group
    });
    let message = kp::DescribeGroupsResponse::default().with_groups(groups.collect());
    put(&message, version, frame)
}

/// A reply with every field filled, for tests of this and other files.
#[cfg(test)]
pub(super) fn everything(api: Api, error: ErrorCode) -> Option<GroupReply> {
    let some = |text: &str| Some(text.to_owned());
    let bytes = || Bytes::from_static(&[1, 2]);
    Some(match api {
        Api::JoinGroup => GroupReply::JoinGroup(Joined {
            error,
            generation: 3,
            protocol_type: some("consumer"),
            protocol: some("range"),
            leader: "a".into(),
            skip: true,
            member: "a".into(),
            members: vec![("a".into(), some("i"), bytes())],
        }),
        Api::SyncGroup => GroupReply::SyncGroup(Synced {
            error,
            protocol_type: some("consumer"),
            protocol: some("range"),
            assignment: bytes(),
        }),
        Api::Heartbeat => GroupReply::Heartbeat(error),
        Api::LeaveGroup => GroupReply::LeaveGroup(error, vec![("a".into(), some("i"), error)]),
        Api::DescribeGroups => GroupReply::DescribeGroups(vec![DescribedGroup {
            error,
            message: some("wrong"),
            group: "readers".into(),
            state: "Stable",
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![DescribedMember {
                id: "a".into(),
                instance: some("i"),
                client: "client".into(),
                host: "/127.0.0.1",
                metadata: bytes(),
                assignment: bytes(),
            }],
            operations: 9,
        }]),
        Api::ListGroups => {
            let listed = ListedGroup {
                group: "readers".into(),
                protocol_type: "consumer".into(),
                state: "Stable",
                kind: "classic",
            };
            GroupReply::ListGroups(error, vec![listed])
        }
        Api::DeleteGroups => GroupReply::DeleteGroups(vec![("readers".into(), error)]),
        _ => return None,
    })
}
