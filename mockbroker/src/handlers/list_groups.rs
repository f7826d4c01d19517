//! ListGroups (key 16), versions 0 to 5.
//!
//! | Version | |
//! |---|---|
//! | 3 | flexible |
//! | 4 | only groups in some states (KIP-518) |
//! | 5 | only groups of some types (KIP-848) |
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala` handleListGroupsRequest.
//!
//! *Deviations* no groups are modelled, so there is none to list, whatever is asked.

use super::Context;
use crate::wire::admin_reply::AdminReply;

/// Answers that there is no group.
#[must_use]
pub fn handle(context: &Context) -> AdminReply {
    let injection = &context.injection;
    let code = injection.refusal().or_else(|| injection.overwriting());
    AdminReply::ListGroups(code.unwrap_or_default())
}
