//! The walk over a request body that makes it safe to hand to the generated decoder.
//!
//! The decoder reserves memory for as many elements as an array's count claims, before it has seen
//! one. This walk follows the schema first and refuses a body whose counts or lengths exceed the
//! bytes that are there, so a count of two thousand million costs a comparison.
//!
//! *Invariants*
//! 1. A body that passes holds every element its counts claim: each was walked over.
//! 2. At most [`ELEMENTS_MAX`] elements pass, so memory is bounded by the frame and by that number.
//! 3. Bytes after the last field pass (observed on 4.3.1: they are ignored).
//!
//! *Source* the request schemas of apache/kafka 4.3.1; KIP-482 for compact lengths and tags.
//!
//! *Not here* nullability and values: the decoder judges those.

mod groups;

use super::versions::Served;
use crate::api::Api;

/// Elements of all arrays in one request; the largest honest requests have some thousands.
pub const ELEMENTS_MAX: usize = 1_000_000;

/// A reader of big-endian integers and lengths over borrowed bytes; every read checks the end.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
}

/// Why a body does not pass, in words for the diagnostic.
pub type Reason = &'static str;

const SHORT: Reason = "the frame ends inside a field";
const TOO_MANY: Reason = "too many array elements";

impl<'a> Cursor<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes not yet read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let (head, rest) = self.bytes.split_at_checked(count).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// The next two bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn int16(&mut self) -> Result<i16, Reason> {
        self.array().map(i16::from_be_bytes)
    }

    /// The next four bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn int32(&mut self) -> Result<i32, Reason> {
        self.array().map(i32::from_be_bytes)
    }

    /// The next eight bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn int64(&mut self) -> Result<i64, Reason> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string of compact length; `None` for null.
    ///
    /// # Errors
    ///
    /// When it is longer than the frame, or not UTF-8.
    pub fn compact_text(&mut self) -> Result<Option<String>, Reason> {
        let Some(bytes) = length(self.varint()?)?.checked_sub(1) else {
            return Ok(None);
        };
        let text = core::str::from_utf8(self.take(bytes)?);
        Ok(Some(text.map_err(|_| "a string is not UTF-8")?.to_owned()))
    }

    /// An array of compact length; `None` for null. Nothing is reserved for what its count claims.
    ///
    /// # Errors
    ///
    /// When an element does not read.
    pub fn compact_items<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Reason>,
    ) -> Result<Option<Vec<T>>, Reason> {
        let Some(count) = length(self.varint()?)?.checked_sub(1) else {
            return Ok(None);
        };
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    /// An unsigned varint of at most five bytes; longer forms of a small number are accepted, as
    /// 4.3.1 does.
    ///
    /// # Errors
    ///
    /// When it does not end within five bytes or within the frame.
    pub fn varint(&mut self) -> Result<u32, Reason> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a varint is longer than five bytes")
    }

    /// Tagged fields; `known` lists tags that the decoder reads itself, with their sizes.
    ///
    /// # Errors
    ///
    /// When a size exceeds the frame, or a known tag has another size than its type.
    pub fn tagged_fields(&mut self, known: &[(u32, usize)]) -> Result<(), Reason> {
        let count = self.varint()?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = length(self.varint()?)?;
            // The decoder ignores the size of a tag it knows, so a wrong one would shift the rest.
            if known.iter().any(|&(id, bytes)| id == tag && bytes != size) {
                return Err("a known tag has a wrong size");
            }
            self.take(size)?;
        }
        Ok(())
    }
}

fn length(value: u32) -> Result<usize, Reason> {
    usize::try_from(value).map_err(|_| SHORT)
}

/// A part of a schema with the versions that have it.
struct Part {
    since: i16,
    until: i16,
    field: Field,
}

enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A nullable or plain string.
    Text,
    /// Nullable bytes.
    Blob,
    /// An array of structs.
    Structs(&'static Schema),
    /// An array of one plain field.
    Items(&'static Field),
    /// A struct, or nothing: a byte before it tells.
    Optional(&'static Schema),
}

/// A struct: its parts in order, then tagged fields in flexible versions.
struct Schema {
    parts: &'static [Part],
    known_tags: &'static [(u32, usize)],
}

const fn part(since: i16, field: Field) -> Part {
    Part {
        since,
        until: i16::MAX,
        field,
    }
}

const fn part_until(until: i16, field: Field) -> Part {
    Part {
        since: 0,
        until,
        field,
    }
}

const fn part_between(since: i16, until: i16, field: Field) -> Part {
    Part {
        since,
        until,
        field,
    }
}

const fn schema(parts: &'static [Part]) -> Schema {
    Schema {
        parts,
        known_tags: &[],
    }
}

/// Checks `body` against the schema of a served API in `version`.
///
/// # Errors
///
/// When a count or a length exceeds the bytes left, or too many elements are claimed.
pub fn check(served: &Served, version: i16, body: &[u8]) -> Result<(), Reason> {
    let mut walk = Walk {
        cursor: Cursor::new(body),
        version,
        flexible: served.is_flexible(version),
        elements_left: ELEMENTS_MAX,
    };
    walk.schema(request_schema(served.api).ok_or("an api without a schema")?)
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &'static Schema) -> Result<(), Reason> {
        for part in schema.parts {
            if part.since <= self.version && self.version <= part.until {
                self.field(&part.field)?;
            }
        }
        if self.flexible {
            self.cursor.tagged_fields(schema.known_tags)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field) -> Result<(), Reason> {
        match field {
            Field::Fixed(bytes) => self.cursor.take(*bytes).map(drop),
            Field::Text => {
                let bytes = if self.flexible {
                    self.compact()?
                } else {
                    self.short()?
                };
                self.cursor.take(bytes).map(drop)
            }
            Field::Blob => {
                let bytes = if self.flexible {
                    self.compact()?
                } else {
                    self.long()?
                };
                self.cursor.take(bytes).map(drop)
            }
            Field::Structs(schema) => {
                for _ in 0..self.count()? {
                    self.schema(schema)?;
                }
                Ok(())
            }
            Field::Optional(schema) => match self.cursor.array()? {
                [0xff] => Ok(()),
                [1] => self.schema(schema),
                // Kafka and the decoder differ in what other values mean.
                _ => Err("a struct is neither there nor absent"),
            },
            Field::Items(item) => {
                for _ in 0..self.count()? {
                    self.field(item)?;
                }
                Ok(())
            }
        }
    }

    fn count(&mut self) -> Result<usize, Reason> {
        let count = if self.flexible {
            self.compact()?
        } else {
            self.long()?
        };
        self.elements_left = self.elements_left.checked_sub(count).ok_or(TOO_MANY)?;
        Ok(count)
    }

    fn compact(&mut self) -> Result<usize, Reason> {
        length(self.cursor.varint()?.saturating_sub(1))
    }

    fn short(&mut self) -> Result<usize, Reason> {
        absent_as_zero(i32::from(self.cursor.int16()?))
    }

    fn long(&mut self) -> Result<usize, Reason> {
        absent_as_zero(self.cursor.int32()?)
    }
}

/// A length of -1 stands for null.
fn absent_as_zero(value: i32) -> Result<usize, Reason> {
    match value {
        -1 => Ok(0),
        _ => usize::try_from(value).map_err(|_| "a length is below -1"),
    }
}

const fn request_schema(api: Api) -> Option<&'static Schema> {
    Some(match api {
        Api::Produce => &PRODUCE,
        Api::Fetch => &FETCH,
        Api::ListOffsets => &LIST_OFFSETS,
        Api::Metadata => &METADATA,
        Api::FindCoordinator => &FIND_COORDINATOR,
        Api::ApiVersions => &API_VERSIONS,
        Api::CreateTopics => &CREATE_TOPICS,
        Api::DeleteTopics => &DELETE_TOPICS,
        Api::DeleteRecords => &DELETE_RECORDS,
        Api::InitProducerId => &INIT_PRODUCER_ID,
        Api::OffsetForLeaderEpoch => &OFFSET_FOR_LEADER_EPOCH,
        Api::AddPartitionsToTxn => &ADD_PARTITIONS_TO_TXN,
        Api::EndTxn => &END_TXN,
        Api::WriteTxnMarkers => &WRITE_TXN_MARKERS,
        Api::OffsetCommit => &groups::OFFSET_COMMIT,
        Api::OffsetFetch => &groups::OFFSET_FETCH,
        Api::AddOffsetsToTxn => &groups::ADD_OFFSETS_TO_TXN,
        Api::TxnOffsetCommit => &groups::TXN_OFFSET_COMMIT,
        Api::ListGroups => &groups::LIST_GROUPS,
        Api::JoinGroup => &groups::JOIN_GROUP,
        Api::SyncGroup => &groups::SYNC_GROUP,
        Api::Heartbeat => &groups::HEARTBEAT,
        Api::LeaveGroup => &groups::LEAVE_GROUP,
        Api::DescribeGroups => &groups::DESCRIBE_GROUPS,
        Api::DeleteGroups => &groups::DELETE_GROUPS,
        Api::OffsetDelete => &groups::OFFSET_DELETE,
        Api::DescribeConfigs => &DESCRIBE_CONFIGS,
        Api::CreatePartitions => &CREATE_PARTITIONS,
        Api::IncrementalAlterConfigs => &INCREMENTAL_ALTER_CONFIGS,
        Api::DescribeClientQuotas => &DESCRIBE_CLIENT_QUOTAS,
        Api::AlterClientQuotas => &ALTER_CLIENT_QUOTAS,
        Api::DescribeCluster => &DESCRIBE_CLUSTER,
        Api::DescribeProducers => &DESCRIBE_PRODUCERS,
        Api::UpdateFeatures => &UPDATE_FEATURES,
        Api::DescribeTransactions => &DESCRIBE_TRANSACTIONS,
        Api::ListTransactions => &LIST_TRANSACTIONS,
        Api::DescribeTopicPartitions => &DESCRIBE_TOPIC_PARTITIONS,
        _ => return None,
    })
}

const INT8: Field = Field::Fixed(1);
const INT16: Field = Field::Fixed(2);
const INT32: Field = Field::Fixed(4);
const INT64: Field = Field::Fixed(8);
const UUID: Field = Field::Fixed(16);

static PRODUCE: Schema = schema(&[
    part(3, Field::Text),
    part(0, INT16),
    part(0, INT32),
    part(0, Field::Structs(&PRODUCE_TOPIC)),
]);
static PRODUCE_TOPIC: Schema = schema(&[
    part_until(12, Field::Text),
    part(13, UUID),
    part(0, Field::Structs(&PRODUCE_PARTITION)),
]);
static PRODUCE_PARTITION: Schema = schema(&[part(0, INT32), part(0, Field::Blob)]);

static FETCH: Schema = schema(&[
    part_until(14, INT32),
    part(0, INT32),
    part(0, INT32),
    part(3, INT32),
    part(4, INT8),
    part(7, INT32),
    part(7, INT32),
    part(0, Field::Structs(&FETCH_TOPIC)),
    part(7, Field::Structs(&FETCH_FORGOTTEN)),
    part(11, Field::Text),
]);
static FETCH_TOPIC: Schema = schema(&[
    part_until(12, Field::Text),
    part(13, UUID),
    part(0, Field::Structs(&FETCH_PARTITION)),
]);
static FETCH_PARTITION: Schema = Schema {
    parts: &[
        part(0, INT32),
        part(9, INT32),
        part(0, INT64),
        part(12, INT32),
        part(5, INT64),
        part(0, INT32),
    ],
    known_tags: &[(0, 16), (1, 8)],
};
static FETCH_FORGOTTEN: Schema = schema(&[
    part_until(12, Field::Text),
    part(13, UUID),
    part(0, Field::Items(&INT32)),
]);

static LIST_OFFSETS: Schema = schema(&[
    part(0, INT32),
    part(2, INT8),
    part(0, Field::Structs(&LIST_OFFSETS_TOPIC)),
    part(10, INT32),
]);
static LIST_OFFSETS_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Structs(&LIST_OFFSETS_PARTITION)),
]);
static LIST_OFFSETS_PARTITION: Schema = schema(&[part(0, INT32), part(4, INT32), part(0, INT64)]);

static METADATA: Schema = schema(&[
    part(0, Field::Structs(&METADATA_TOPIC)),
    part(4, INT8),
    part_between(8, 10, INT8),
    part(8, INT8),
]);
static METADATA_TOPIC: Schema = schema(&[part(10, UUID), part(0, Field::Text)]);

static FIND_COORDINATOR: Schema = schema(&[
    part_until(3, Field::Text),
    part(1, INT8),
    part(4, Field::Items(&Field::Text)),
]);

static API_VERSIONS: Schema = schema(&[part(3, Field::Text), part(3, Field::Text)]);

static CREATE_TOPICS: Schema = schema(&[
    part(0, Field::Structs(&CREATE_TOPIC)),
    part(0, INT32),
    part(1, INT8),
]);
static CREATE_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT32),
    part(0, INT16),
    part(0, Field::Structs(&CREATE_ASSIGNMENT)),
    part(0, Field::Structs(&CREATE_CONFIG)),
]);
static CREATE_ASSIGNMENT: Schema = schema(&[part(0, INT32), part(0, Field::Items(&INT32))]);
static CREATE_CONFIG: Schema = schema(&[part(0, Field::Text), part(0, Field::Text)]);

static DELETE_TOPICS: Schema = schema(&[
    part(6, Field::Structs(&DELETE_TOPIC)),
    part_until(5, Field::Items(&Field::Text)),
    part(0, INT32),
]);
static DELETE_TOPIC: Schema = schema(&[part(0, Field::Text), part(0, UUID)]);

static DELETE_RECORDS: Schema = schema(&[
    part(0, Field::Structs(&DELETE_RECORDS_TOPIC)),
    part(0, INT32),
]);
static DELETE_RECORDS_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Structs(&DELETE_RECORDS_PARTITION)),
]);
static DELETE_RECORDS_PARTITION: Schema = schema(&[part(0, INT32), part(0, INT64)]);

static INIT_PRODUCER_ID: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT32),
    part(3, INT64),
    part(3, INT16),
]);

static OFFSET_FOR_LEADER_EPOCH: Schema = schema(&[
    part(3, INT32),
    part(0, Field::Structs(&OFFSET_FOR_LEADER_EPOCH_TOPIC)),
]);
static OFFSET_FOR_LEADER_EPOCH_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, Field::Structs(&OFFSET_FOR_LEADER_EPOCH_PARTITION)),
]);
static OFFSET_FOR_LEADER_EPOCH_PARTITION: Schema =
    schema(&[part(0, INT32), part(2, INT32), part(0, INT32)]);

static ADD_PARTITIONS_TO_TXN: Schema = schema(&[
    part(4, Field::Structs(&JOINING_TXN)),
    part_until(3, Field::Text),
    part_until(3, INT64),
    part_until(3, INT16),
    part_until(3, Field::Structs(&JOINING_TOPIC)),
]);
static JOINING_TXN: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT64),
    part(0, INT16),
    part(0, INT8),
    part(0, Field::Structs(&JOINING_TOPIC)),
]);
static JOINING_TOPIC: Schema = schema(&[part(0, Field::Text), part(0, Field::Items(&INT32))]);

static END_TXN: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT64),
    part(0, INT16),
    part(0, INT8),
]);

static WRITE_TXN_MARKERS: Schema = schema(&[part(0, Field::Structs(&WRITABLE_MARKER))]);
static WRITABLE_MARKER: Schema = schema(&[
    part(0, INT64),
    part(0, INT16),
    part(0, INT8),
    part(0, Field::Structs(&JOINING_TOPIC)),
    part(0, INT32),
    part(2, INT8),
]);

static DESCRIBE_CONFIGS: Schema = schema(&[
    part(0, Field::Structs(&DESCRIBE_CONFIGS_RESOURCE)),
    part(1, INT8),
    part(3, INT8),
]);
static DESCRIBE_CONFIGS_RESOURCE: Schema = schema(&[
    part(0, INT8),
    part(0, Field::Text),
    part(0, Field::Items(&Field::Text)),
]);

static CREATE_PARTITIONS: Schema = schema(&[
    part(0, Field::Structs(&GROWN_TOPIC)),
    part(0, INT32),
    part(0, INT8),
]);
static GROWN_TOPIC: Schema = schema(&[
    part(0, Field::Text),
    part(0, INT32),
    part(0, Field::Structs(&GROWN_ASSIGNMENT)),
]);
static GROWN_ASSIGNMENT: Schema = schema(&[part(0, Field::Items(&INT32))]);

static INCREMENTAL_ALTER_CONFIGS: Schema =
    schema(&[part(0, Field::Structs(&ALTERED_RESOURCE)), part(0, INT8)]);
static ALTERED_RESOURCE: Schema = schema(&[
    part(0, INT8),
    part(0, Field::Text),
    part(0, Field::Structs(&ALTERED_CONFIG)),
]);
static ALTERED_CONFIG: Schema =
    schema(&[part(0, Field::Text), part(0, INT8), part(0, Field::Text)]);

static DESCRIBE_CLIENT_QUOTAS: Schema =
    schema(&[part(0, Field::Structs(&QUOTA_COMPONENT)), part(0, INT8)]);
static QUOTA_COMPONENT: Schema =
    schema(&[part(0, Field::Text), part(0, INT8), part(0, Field::Text)]);

static ALTER_CLIENT_QUOTAS: Schema =
    schema(&[part(0, Field::Structs(&QUOTA_ENTRY)), part(0, INT8)]);
static QUOTA_ENTRY: Schema = schema(&[
    part(0, Field::Structs(&QUOTA_ENTITY)),
    part(0, Field::Structs(&QUOTA_VALUE)),
]);
static QUOTA_ENTITY: Schema = schema(&[part(0, Field::Text), part(0, Field::Text)]);
static QUOTA_VALUE: Schema = schema(&[part(0, Field::Text), part(0, INT64), part(0, INT8)]);

static DESCRIBE_CLUSTER: Schema = schema(&[part(0, INT8), part(1, INT8), part(2, INT8)]);

static DESCRIBE_PRODUCERS: Schema = schema(&[part(0, Field::Structs(&DESCRIBED_PRODUCERS))]);
static DESCRIBED_PRODUCERS: Schema = schema(&[part(0, Field::Text), part(0, Field::Items(&INT32))]);

static UPDATE_FEATURES: Schema = schema(&[
    part(0, INT32),
    part(0, Field::Structs(&FEATURE_UPDATE)),
    part(1, INT8),
]);
// Which way a level may go is a flag in version 0 and a number later, of one byte each.
static FEATURE_UPDATE: Schema = schema(&[part(0, Field::Text), part(0, INT16), part(0, INT8)]);

static DESCRIBE_TRANSACTIONS: Schema = schema(&[part(0, Field::Items(&Field::Text))]);

static LIST_TRANSACTIONS: Schema = schema(&[
    part(0, Field::Items(&Field::Text)),
    part(0, Field::Items(&INT64)),
    part(1, INT64),
    part(2, Field::Text),
]);

static DESCRIBE_TOPIC_PARTITIONS: Schema = schema(&[
    part(0, Field::Structs(&DESCRIBED_TOPIC)),
    part(0, INT32),
    part(0, Field::Optional(&DESCRIBED_CURSOR)),
]);
static DESCRIBED_TOPIC: Schema = schema(&[part(0, Field::Text)]);
static DESCRIBED_CURSOR: Schema = schema(&[part(0, Field::Text), part(0, INT32)]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::versions;

    fn check(api: Api, version: i16, body: &[u8]) -> Result<(), Reason> {
        super::check(versions::of(api).unwrap(), version, body)
    }

    #[test]
    fn every_served_api_has_a_schema() {
        for served in versions::SERVED {
            assert!(request_schema(served.api).is_some(), "{}", served.api);
        }
    }

    #[test]
    fn a_count_beyond_the_frame_is_refused_before_anything_is_reserved() {
        // Metadata v4: one thousand topics in a frame of five bytes.
        assert_eq!(check(Api::Metadata, 4, &[0, 0, 3, 0xe8, 1]), Err(SHORT));
        // Metadata v12: the largest compact count.
        let largest = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        assert_eq!(check(Api::Metadata, 12, &largest), Err(TOO_MANY));
    }

    #[test]
    fn elements_are_counted_over_all_arrays() {
        // DeleteTopics v1: empty names, two bytes each, then the time-out.
        let names = |count: usize| {
            let claimed = u32::try_from(count).unwrap().to_be_bytes();
            [&claimed[..], &vec![0; 2 * count + 4]].concat()
        };
        assert_eq!(check(Api::DeleteTopics, 1, &names(ELEMENTS_MAX)), Ok(()));
        assert_eq!(
            check(Api::DeleteTopics, 1, &names(ELEMENTS_MAX + 1)),
            Err(TOO_MANY)
        );
    }

    #[test]
    fn bytes_after_the_last_field_pass() {
        assert_eq!(check(Api::Metadata, 12, &[1, 1, 0, 0, 1, 2, 3, 4]), Ok(()));
    }

    #[test]
    fn a_tag_beyond_the_frame_is_refused() {
        assert!(check(Api::Metadata, 12, &[1, 1, 0, 1, 5, 100]).is_err());
        assert_eq!(check(Api::Metadata, 12, &[1, 1, 0, 1, 5, 1, 9]), Ok(()));
    }

    #[test]
    fn an_optional_struct_is_walked_only_when_it_is_there() {
        // DescribeTopicPartitions v0: no topics, a limit, a cursor, no tags.
        let asked = |cursor: &[u8]| [&[1, 0, 0, 0, 9][..], cursor, &[0]].concat();
        let check = |cursor| check(Api::DescribeTopicPartitions, 0, &asked(cursor));
        assert_eq!(check(&[0xff]), Ok(()));
        assert_eq!(check(&[1, 2, b'a', 0, 0, 0, 7, 0]), Ok(()));
        assert_eq!(check(&[1, 9, b'a', 0, 0, 0, 7, 0]), Err(SHORT));
        assert!(check(&[0]).is_err());
    }

    #[test]
    fn a_varint_ends_within_five_bytes() {
        assert_eq!(Cursor::new(&[0x81, 0x00]).varint(), Ok(1));
        assert!(Cursor::new(&[0xff; 6]).varint().is_err());
    }
}
