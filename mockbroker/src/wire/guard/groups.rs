//! Schemas of requests about groups and their offsets.

use super::{
    Field, INT8, INT16, INT32, INT64, Schema, UUID, part, part_between, part_until, schema,
};

pub(super) static OFFSET_COMMIT: Schema = schema(&[
    part(0, Field::Text),
    part(1, INT32),
    part(1, Field::Text),
    part(7, Field::Text),
    part_between(2, 4, INT64),
    part(0, Field::Structs(&COMMITTED_TOPIC)),
]);
static COMMITTED_TOPIC: Schema = schema(&[
    part_until(9, Field::Text),
    part(10, UUID),
    part(0, Field::Structs(&COMMITTED_PARTITION)),
]);
static COMMITTED_PARTITION: Schema = schema(&[
    part(0, INT32),
    part(0, INT64),
    part(6, INT32),
    part(0, Field::Text),
]);

pub(super) static OFFSET_FETCH: Schema = schema(&[
    part_until(7, Field::Text),
    part_until(7, Field::Structs(&FETCHED_TOPIC)),
    part(8, Field::Structs(&FETCHED_GROUP)),
    part(7, INT8),
]);
static FETCHED_GROUP: Schema = schema(&[
    part(8, Field::Text),
    part(9, Field::Text),
    part(9, INT32),
    part(8, Field::Structs(&FETCHED_TOPIC)),
]);
static FETCHED_TOPIC: Schema = schema(&[
    part_until(9, Field::Text),
    part(10, UUID),
    part(0, Field::Items(&INT32)),
]);

pub(super) static ADD_OFFSETS_TO_TXN: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT64),
    part(0, INT16),
    part(0, Field::Text),
]);

pub(super) static TXN_OFFSET_COMMIT: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Text),
    part(0, INT64),
    part(0, INT16),
    part(3, INT32),
    part(3, Field::Text),
    part(3, Field::Text),
    part(0, Field::Structs(&TXN_COMMITTED_TOPIC)),
]);
static TXN_COMMITTED_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Structs(&TXN_COMMITTED_PARTITION)),
]);
static TXN_COMMITTED_PARTITION: Schema = schema(&[
    part(0, INT32),
    part(0, INT64),
    part(2, INT32),
    part(0, Field::Text),
]);

pub(super) static LIST_GROUPS: Schema = schema(&[
    part(4, Field::Items(&Field::Text)),
    part(5, Field::Items(&Field::Text)),
]);

pub(super) static JOIN_GROUP: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT32),
    part(1, INT32),
    part(0, Field::Text),
    part(5, Field::Text),
    part(0, Field::Text),
    part(0, Field::Structs(&JOINED_PROTOCOL)),
    part(8, Field::Text),
]);
static JOINED_PROTOCOL: Schema = schema(&[part(0, Field::Text), part(0, Field::Blob)]);

pub(super) static SYNC_GROUP: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT32),
    part(0, Field::Text),
    part(3, Field::Text),
    part(5, Field::Text),
    part(5, Field::Text),
    part(0, Field::Structs(&ASSIGNMENT)),
]);
static ASSIGNMENT: Schema = schema(&[part(0, Field::Text), part(0, Field::Blob)]);

pub(super) static HEARTBEAT: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT32),
    part(0, Field::Text),
    part(3, Field::Text),
]);

pub(super) static LEAVE_GROUP: Schema = schema(&[
    part(0, Field::Text),
    part_until(2, Field::Text),
    part(3, Field::Structs(&LEAVING)),
]);
static LEAVING: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Text),
    part(5, Field::Text),
]);

pub(super) static DESCRIBE_GROUPS: Schema =
    schema(&[part(0, Field::Items(&Field::Text)), part(3, INT8)]);

pub(super) static DELETE_GROUPS: Schema = schema(&[part(0, Field::Items(&Field::Text))]);

pub(super) static OFFSET_DELETE: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Structs(&DELETED_OFFSETS_TOPIC)),
]);
static DELETED_OFFSETS_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Structs(&DELETED_OFFSETS_PARTITION)),
]);
static DELETED_OFFSETS_PARTITION: Schema = schema(&[part(0, INT32)]);
