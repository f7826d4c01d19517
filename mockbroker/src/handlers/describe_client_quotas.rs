//! DescribeClientQuotas (key 48), versions 0 and 1.
//!
//! | Version | |
//! |---|---|
//! | 1 | flexible |
//!
//! *Source* apache/kafka `metadata/…/image/ClientQuotasImage.java` describe; observed on 4.3.1.
//!
//! *Deviations* entities stand in the order of their names; Kafka's is a hash order.

use super::Context;
use crate::engine::Cluster;
use crate::engine::quotas::{CLIENT_ID, IP, QuotaEntity, USER};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::AdminReply;
use crate::wire::quotas::{
    Component, DescribeClientQuotas, DescribedEntity, DescribedQuotas, Strictness,
};

/// Answers with the quotas of the entities that the filter lets through.
#[must_use]
pub fn handle(cluster: &Cluster, context: &Context, request: &DescribeClientQuotas) -> AdminReply {
    let injected = context
        .injection
        .refusal()
        .map(|code| (code, String::new()));
    let found = injected.map_or_else(|| entries(cluster, request), Err);
    let (error, message, entries) = match found {
        Ok(entries) => (ErrorCode::NONE, String::new(), Some(entries)),
        Err((error, message)) => (error, message, None),
    };
    AdminReply::DescribeClientQuotas(DescribedQuotas {
        error: context.injection.overwriting().unwrap_or(error),
        message: Some(message),
        entries,
    })
}

type Refused = (ErrorCode, String);

fn entries(
    cluster: &Cluster,
    request: &DescribeClientQuotas,
) -> Result<Vec<DescribedEntity>, Refused> {
    check_components(&request.components)?;
    let matching = cluster.quotas().entries().filter(|(entity, _)| {
        let exact = entity.parts().count() == request.components.len();
        (exact || request.strictness == Strictness::Loose)
            && request
                .components
                .iter()
                .all(|component| lets_through(component, entity))
    });
    let described = matching.map(|(entity, values)| {
        let parts = entity.parts();
        let parts = parts.map(|(kind, part)| (kind.to_owned(), part.name().map(str::to_owned)));
        DescribedEntity {
            entity: parts.collect(),
            values: values
                .iter()
                .map(|(key, value)| (key.name(), *value))
                .collect(),
        }
    });
    Ok(described.collect())
}

/// `ClientQuotasImage.matches`.
fn lets_through(component: &Component, entity: &QuotaEntity) -> bool {
    let part = entity.parts().find(|(kind, _)| *kind == component.kind);
    part.is_some_and(|(_, part)| {
        component.matching == SPECIFIED || part.name() == component.name.as_deref()
    })
}

fn check_components(components: &[Component]) -> Result<(), Refused> {
    for (index, component) in components.iter().enumerate() {
        check_component(component, &components[..index])?;
    }
    let has = |kind: &str| components.iter().any(|component| component.kind == kind);
    if has(IP) && (has(USER) || has(CLIENT_ID)) {
        let message = "Invalid entity filter component combination. IP filter component should \
                       not be used with user or clientId filter component.";
        return Err((ErrorCode::INVALID_REQUEST, message.to_owned()));
    }
    Ok(())
}

fn check_component(component: &Component, before: &[Component]) -> Result<(), Refused> {
    let Component {
        kind,
        matching,
        name,
    } = component;
    let invalid = |message: String| Err((ErrorCode::INVALID_REQUEST, message));
    if kind.is_empty() {
        return invalid("Invalid empty entity type.".into());
    }
    if before.iter().any(|other| other.kind == *kind) {
        return invalid(format!(
            "Entity type {kind} cannot appear more than once in the filter."
        ));
    }
    if ![CLIENT_ID, USER, IP].contains(&kind.as_str()) {
        let message = format!("Unsupported entity type {kind}");
        return Err((ErrorCode::UNSUPPORTED_VERSION, message));
    }
    let named = |matching| {
        format!("Request specified MATCH_TYPE_{matching}, but also specified a match string.")
    };
    match (*matching, name) {
        (EXACT, None) => {
            invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".into())
        }
        (DEFAULT, Some(_)) => invalid(named("DEFAULT")),
        (SPECIFIED, Some(_)) => invalid(named("SPECIFIED")),
        (EXACT, Some(_)) | (DEFAULT | SPECIFIED, None) => Ok(()),
        (unknown, _) => invalid(format!("Unknown match type {unknown}")),
    }
}

/// `DescribeClientQuotasRequest.MATCH_TYPE_EXACT`.
const EXACT: i8 = 0;

/// `MATCH_TYPE_DEFAULT`.
const DEFAULT: i8 = 1;

/// `MATCH_TYPE_SPECIFIED`: any name, and the default.
const SPECIFIED: i8 = 2;
