//! AlterClientQuotas and DescribeClientQuotas: what they ask and say, over the generated messages.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//! 2. Rows leave in the order in which the handler gave them.
//!
//! *Source* the schemas of apache/kafka 4.3.1; KIP-546.

use bytes::BytesMut;
use kafka_protocol::messages as kp;

use super::reply::{Encoded, put, text};
use super::request::CreateMode;
use crate::error_code::ErrorCode;

/// An entity by kinds and names; no name is the default.
pub type EntityParts = Vec<(String, Option<String>)>;

/// AlterClientQuotas.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterClientQuotas {
    /// Whose quotas, and how.
    pub entries: Vec<AlteredEntity>,
    /// Whether to set them, or only to check.
    pub mode: CreateMode,
}

/// An entity of [`AlterClientQuotas`].
#[derive(Clone, Debug, PartialEq)]
pub struct AlteredEntity {
    /// Which.
    pub entity: EntityParts,
    /// Values by key; `None` removes one.
    pub values: Vec<(String, Option<f64>)>,
}

/// DescribeClientQuotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeClientQuotas {
    /// What entities must have.
    pub components: Vec<Component>,
    /// Whether they may have more.
    pub strictness: Strictness,
}

/// Whether [`DescribeClientQuotas`] lists entities with parts that the filter does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// It does not.
    Strict,
    /// It does.
    Loose,
}

/// A part of the filter of [`DescribeClientQuotas`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What kind of part.
    pub kind: String,
    /// 0 this name, 1 the default, 2 any; others are refused.
    pub matching: i8,
    /// The name.
    pub name: Option<String>,
}

/// An entity of AlterClientQuotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredRow {
    /// Which.
    pub entity: EntityParts,
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
}

/// The answer to DescribeClientQuotas.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedQuotas {
    /// The outcome.
    pub error: ErrorCode,
    /// What is wrong; empty in good answers.
    pub message: Option<String>,
    /// Entities with their values; `None` in bad answers.
    pub entries: Option<Vec<DescribedEntity>>,
}

/// An entity of [`DescribedQuotas`].
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedEntity {
    /// Which.
    pub entity: EntityParts,
    /// Its values by key.
    pub values: Vec<(&'static str, f64)>,
}

pub(super) fn alter(message: kp::AlterClientQuotasRequest) -> AlterClientQuotas {
    let entries = message.entries.into_iter().map(|entry| {
        let parts = entry.entity.into_iter().map(|part| {
            let name = part.entity_name.map(|name| name.to_string());
            (part.entity_type.to_string(), name)
        });
        let values = entry.ops.into_iter().map(|op| {
            let value = (!op.remove).then_some(op.value);
            (op.key.to_string(), value)
        });
        AlteredEntity {
            entity: parts.collect(),
            values: values.collect(),
        }
    });
    AlterClientQuotas {
        entries: entries.collect(),
        mode: if message.validate_only {
            CreateMode::ValidateOnly
        } else {
            CreateMode::Create
        },
    }
}

pub(super) fn describe(message: kp::DescribeClientQuotasRequest) -> DescribeClientQuotas {
    let components = message.components.into_iter().map(|component| Component {
        kind: component.entity_type.to_string(),
        matching: component.match_type,
        name: component._match.map(|name| name.to_string()),
    });
    DescribeClientQuotas {
        components: components.collect(),
        strictness: if message.strict {
            Strictness::Strict
        } else {
            Strictness::Loose
        },
    }
}

pub(super) fn encode_altered(rows: &[AlteredRow], version: i16, frame: &mut BytesMut) -> Encoded {
    use kp::alter_client_quotas_response::{EntityData, EntryData};
    let entries = rows.iter().map(|row| {
        let parts = row.entity.iter().map(|(kind, name)| {
            EntityData::default()
                .with_entity_type(text(kind))
                .with_entity_name(name.as_deref().map(text))
        });
        EntryData::default()
            .with_error_code(row.error.0)
            .with_error_message(row.message.as_deref().map(text))
            .with_entity(parts.collect())
    });
    let message = kp::AlterClientQuotasResponse::default().with_entries(entries.collect());
    put(&message, version, frame)
}

pub(super) fn encode_described(
    body: &DescribedQuotas,
    version: i16,
    frame: &mut BytesMut,
) -> Encoded {
    use kp::describe_client_quotas_response::{EntityData, EntryData, ValueData};
    let entry = |entry: &DescribedEntity| {
        let parts = entry.entity.iter().map(|(kind, name)| {
            EntityData::default()
                .with_entity_type(text(kind))
                .with_entity_name(name.as_deref().map(text))
        });
        let values = entry
            .values
            .iter()
            .map(|(key, value)| ValueData::default().with_key(text(key)).with_value(*value));
        EntryData::default()
            .with_entity(parts.collect())
            .with_values(values.collect())
    };
    let entries = body.entries.as_ref();
    let message = kp::DescribeClientQuotasResponse::default()
        .with_error_code(body.error.0)
        .with_error_message(body.message.as_deref().map(text))
        .with_entries(entries.map(|entries| entries.iter().map(entry).collect()));
    put(&message, version, frame)
}
