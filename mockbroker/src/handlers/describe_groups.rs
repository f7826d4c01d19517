//! DescribeGroups (key 15), versions 0 to 6.
//!
//! | Version | |
//! |---|---|
//! | 3 | what the client may do with the group |
//! | 4 | static members (KIP-345) |
//! | 5 | flexible |
//! | 6 | a group that is unknown is told with 69, before as one in the state Dead |
//!
//! *Source* apache/kafka `group-coordinator/…/group/GroupMetadataManager.java` describeGroups.
//!
//! *Deviations* every member is told to be at 127.0.0.1.

use super::answer_room::{AnswerRoom, Full, ROW_BYTES};
use super::{Answer, Context};
use crate::engine::Cluster;
use crate::engine::group::{Group, GroupState};
use crate::error_code::ErrorCode;
use crate::wire::groups::{DescribedGroup, DescribedMember, GroupReply};
use crate::wire::reply::Reply;

/// Every operation on a group: READ, DELETE, DESCRIBE, and those of configurations.
const OPERATIONS: i32 = 0b1101_0100_1000;

/// Describes groups.
pub fn handle(
    cluster: &mut Cluster,
    context: &Context,
    groups: &[String],
    tells_operations: bool,
) -> Answer {
    let mut room = AnswerRoom::new();
    let described = groups.iter().map(|group| {
        let injection = &context.injection;
        let by_rule = injection.refusal().or_else(|| injection.overwriting());
        let checked = cluster.check_group_coordinator(context.broker, group);
        let mut described = match (by_rule, checked) {
            (Some(code), _) | (None, Err(code)) => dead(group, code, ""),
            (None, Ok(_)) => match cluster.groups().find(group) {
                Some(known) => describe(group, known),
                None if context.header.version < 6 => dead(group, ErrorCode::NONE, ""),
                None => {
                    let message = format!("Group {group} not found.");
                    dead(group, ErrorCode::GROUP_ID_NOT_FOUND, &message)
                }
            },
        };
        if tells_operations && described.error == ErrorCode::NONE {
            described.operations = OPERATIONS;
        }
        let members = described.members.iter();
        room.take(members.map(bytes_of).fold(0, usize::saturating_add))?;
        Ok(described)
    });
    let described: Result<Vec<_>, Full> = described.collect();
    match described {
        Ok(described) => Answer::Reply(Reply::Groups(GroupReply::DescribeGroups(described))),
        Err(full) => full.answer(cluster, context),
    }
}

fn bytes_of(member: &DescribedMember) -> usize {
    let instance = member.instance.as_ref().map_or(0, String::len);
    let named = member.id.len() + instance + member.client.len();
    ROW_BYTES + named + member.metadata.len() + member.assignment.len()
}

fn dead(group: &str, error: ErrorCode, message: &str) -> DescribedGroup {
    DescribedGroup {
        error,
        message: (!message.is_empty()).then(|| message.to_owned()),
        group: group.to_owned(),
        state: match error {
            ErrorCode::NONE | ErrorCode::GROUP_ID_NOT_FOUND => "Dead",
            _ => "",
        },
        protocol_type: String::new(),
        protocol: String::new(),
        members: Vec::new(),
        operations: i32::MIN,
    }
}

fn describe(name: &str, group: &Group) -> DescribedGroup {
    let stable = group.state() == GroupState::Stable;
    let members = group
        .members()
        .map(|(id, member, metadata)| DescribedMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            host: "/127.0.0.1",
            metadata: if stable { metadata } else { Default::default() },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Default::default()
            },
        });
    let protocol = group.protocol().filter(|_| stable);
    DescribedGroup {
        error: ErrorCode::NONE,
        message: None,
        group: name.to_owned(),
        state: group.state().name(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
        protocol: protocol.unwrap_or_default().to_owned(),
        members: members.collect(),
        operations: i32::MIN,
    }
}
