//! ListGroups (key 16), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 3 | flexible |
//! | 4 | only groups in some states (KIP-518) |
//! | 5 | only groups of some types (KIP-848) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleListGroupsRequest,
//! `group-coordinator/…/group/GroupMetadataManager.java` listGroups.
//!
//! *Deviations* groups are told by name; Kafka's is a hash order.

use super::{Answer, Context};
use crate::engine::Cluster;
use crate::error_code::ErrorCode;
use crate::wire::groups::{GroupReply, ListedGroup};
use crate::wire::reply::Reply;

/// The type of every group here.
const KIND: &str = "classic";

/// Lists the groups that this broker coordinates.
#[must_use]
pub fn handle(
    cluster: &Cluster,
    context: &Context,
    (states, kinds): (&[String], &[String]),
) -> Answer {
    let injection = &context.injection;
    let code = injection.refusal().or_else(|| injection.overwriting());
    let code = code.unwrap_or_default();
    let wanted = |list: &[String], name: &str| {
        list.is_empty() || list.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let groups = cluster.groups().all().filter(|(name, group)| {
        cluster.coordinates(context.broker, name)
            && wanted(states, group.state().name())
            && wanted(kinds, KIND)
    });
    let listed = groups.map(|(name, group)| ListedGroup {
        group: name.as_ref().into(),
        protocol_type: group.protocol_type().unwrap_or_default().into(),
        state: group.state().name(),
        kind: KIND,
    });
    let listed = match code {
        ErrorCode::NONE => listed.collect(),
        _ => Vec::new(),
    };
    Answer::Reply(Reply::Groups(GroupReply::ListGroups(code, listed)))
}
