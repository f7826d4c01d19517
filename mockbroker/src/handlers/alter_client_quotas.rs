//! AlterClientQuotas (key 49), versions 0 and 1.
//!
//! | Version | |
//! |---|---|
//! | 1 | flexible |
//!
//! *Invariants*
//! 1. An entity whose values are not all good keeps what it had; others are not concerned.
//! 2. An entity that is named twice has one row, which says so; the first is set (observed).
//! 3. A value that limits nothing here leaves a diagnostic.
//!
//! *Source* apache/kafka `metadata/…/controller/ClientQuotaControlManager.java`; observed on 4.3.1.
//!
//! *Deviations* rows stand in the order of the request; Kafka's is a hash order. At most
//! [`ENTITIES_MAX`](crate::engine::quotas::ENTITIES_MAX) entities, else 44.

use std::collections::BTreeMap;

use super::Context;
use crate::engine::Cluster;
use crate::engine::quotas::{
    CLIENT_ID, EntityName, IP, QuotaEntity, QuotaFault, QuotaKey, USER, check_entity, check_value,
};
use crate::error_code::ErrorCode;
use crate::wire::admin_reply::AdminReply;
use crate::wire::quotas::{AlterClientQuotas, AlteredEntity, AlteredRow, EntityParts};
use crate::wire::request::CreateMode;

/// Sets and removes quotas.
#[must_use]
pub fn handle(cluster: &mut Cluster, context: &Context, request: &AlterClientQuotas) -> AdminReply {
    let mut rows: Vec<AlteredRow> = Vec::new();
    let mut places = BTreeMap::new();
    for entry in &request.entries {
        let parts = in_kafkas_order(&entry.entity);
        if let Some(place) = places.get(&parts) {
            let row: Option<&mut AlteredRow> = rows.get_mut(*place);
            if let Some(row) = row {
                (row.error, row.message) = twice(&parts);
            }
            continue;
        }
        let outcome = match context.injection.refusal() {
            Some(code) => (code, None),
            None => alter(cluster, &parts, entry, request.mode),
        };
        let overwriting = context.injection.overwriting();
        places.insert(parts.clone(), rows.len());
        rows.push(AlteredRow {
            entity: parts,
            error: overwriting.unwrap_or(outcome.0),
            message: outcome.1,
        });
    }
    AdminReply::AlterClientQuotas(rows)
}

type Outcome = (ErrorCode, Option<String>);

/// The last of each kind, as a map holds them, in the order in which Kafka's lists them.
fn in_kafkas_order(parts: &EntityParts) -> EntityParts {
    let place = |kind: &str| {
        [CLIENT_ID, USER, IP]
            .iter()
            .position(|known| *known == kind)
    };
    let by_kind: BTreeMap<_, _> = parts
        .iter()
        .map(|(kind, name)| {
            (
                (place(kind).unwrap_or(usize::MAX), kind.clone()),
                name.clone(),
            )
        })
        .collect();
    by_kind
        .into_iter()
        .map(|((_, kind), name)| (kind, name))
        .collect()
}

/// Kafka says the same of a key that an entity has twice.
fn twice(parts: &EntityParts) -> Outcome {
    let parts = parts.iter().map(|(kind, name)| {
        let name = name.as_deref().unwrap_or("null");
        format!("{kind}={name}")
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    let message = format!("Ignoring duplicate entity ClientQuotaEntity(entries={{{parts}}})");
    (ErrorCode::INVALID_REQUEST, Some(message))
}

fn alter(
    cluster: &mut Cluster,
    parts: &EntityParts,
    entry: &AlteredEntity,
    mode: CreateMode,
) -> Outcome {
    let mut keys: Vec<&str> = entry.values.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return twice(parts);
    }
    let checked = entity(parts).and_then(|entity| {
        let values = check_values(&entity, entry)?;
        Ok((entity, values))
    });
    let (entity, values) = match checked {
        Ok(checked) => checked,
        Err(fault) => return (ErrorCode::INVALID_REQUEST, Some(fault.to_string())),
    };
    if mode == CreateMode::Create {
        for (key, value) in values {
            if let Err(fault) = cluster.set_quota(&entity, key, value) {
                cluster.note(format!("a quota is not set: {fault}"));
                return (ErrorCode::POLICY_VIOLATION, Some(fault.to_string()));
            }
        }
    }
    (ErrorCode::NONE, None)
}

fn entity(parts: &EntityParts) -> Result<QuotaEntity, QuotaFault> {
    let mut entity = QuotaEntity::default();
    for (kind, name) in parts {
        let part = match kind.as_str() {
            CLIENT_ID => &mut entity.client_id,
            USER => &mut entity.user,
            IP => &mut entity.ip,
            _ => return Err(QuotaFault::UnknownKind(kind.clone())),
        };
        let name = name.as_deref();
        *part = Some(name.map_or(EntityName::Default, |name| EntityName::Named(name.into())));
    }
    check_entity(&entity)?;
    Ok(entity)
}

/// What is removed need not exist, not even as a key (observed).
fn check_values(
    entity: &QuotaEntity,
    entry: &AlteredEntity,
) -> Result<Vec<(QuotaKey, Option<f64>)>, QuotaFault> {
    let mut values = Vec::new();
    for (key, value) in &entry.values {
        match value {
            Some(value) => values.push((check_value(entity, key, *value)?, Some(*value))),
            None => values.extend(QuotaKey::of(key).map(|key| (key, None))),
        }
    }
    Ok(values)
}
