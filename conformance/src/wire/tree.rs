//! Requests and answers as trees of named fields, for recordings.
//!
//! Answers are read by the same code that judges them ([`response_tree`]); requests, which the
//! judge writes and nobody here reads otherwise, by the walks below. What a broker was sent on
//! purpose may be no request at all: then the tree tells its size.
//!
//! *Source*: Kafka's message definitions (`clients/src/main/resources/common/message`).

use serde_json::{Map, Value, json};

use super::answer::{ApiVersions, CreateTopic, InitProducerId, ListOffsets, Metadata};
use super::batch::{CRC_COVERS_FROM, HEADER_BYTES};
use super::described::{DescribeProducers, DescribeTransactions, ListTransactions};
use super::group_deletion::{DeleteGroups, OffsetDelete};
use super::groups::{AddOffsets, JoinGroup, OffsetFetch, TxnOffsetCommit};
use super::produce::{Produce, TOPIC_ID_FROM};
use super::reader::{DecodeError, Layout, Reader};
use super::records::{FETCH_BY_ID_FROM, Fetch, FetchById, StoredRecord, read_batches};
use super::transactional::{AddPartitions, EndTxn, FindCoordinator};
use super::txn_markers::WriteTxnMarkers;
use super::{Request, group_deletion, hex, response_tree, transaction_walk, txn_markers};

/// A request frame, as far as its header reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The API's number.
    pub api_key: i16,
    /// The version asked in.
    pub version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
    /// Client id and body.
    pub tree: Value,
}

impl Asked {
    /// The API's name, or its number.
    pub fn name(&self) -> String {
        let name = match self.api_key {
            Produce::API_KEY => Produce::NAME,
            Fetch::API_KEY => Fetch::NAME,
            ListOffsets::API_KEY => ListOffsets::NAME,
            Metadata::API_KEY => Metadata::NAME,
            ApiVersions::API_KEY => ApiVersions::NAME,
            CreateTopic::API_KEY => CreateTopic::NAME,
            InitProducerId::API_KEY => InitProducerId::NAME,
            FindCoordinator::API_KEY => FindCoordinator::NAME,
            AddPartitions::API_KEY => AddPartitions::NAME,
            EndTxn::API_KEY => EndTxn::NAME,
            JoinGroup::API_KEY => JoinGroup::NAME,
            AddOffsets::API_KEY => AddOffsets::NAME,
            TxnOffsetCommit::API_KEY => TxnOffsetCommit::NAME,
            OffsetFetch::API_KEY => OffsetFetch::NAME,
            DescribeTransactions::API_KEY => DescribeTransactions::NAME,
            ListTransactions::API_KEY => ListTransactions::NAME,
            DescribeProducers::API_KEY => DescribeProducers::NAME,
            WriteTxnMarkers::API_KEY => WriteTxnMarkers::NAME,
            DeleteGroups::API_KEY => DeleteGroups::NAME,
            OffsetDelete::API_KEY => OffsetDelete::NAME,
            other => return format!("API {other}"),
        };
        name.to_owned()
    }
}

/// Reads a request frame; `None` when it is too short for a header.
pub fn request(frame: &[u8]) -> Option<Asked> {
    let (&[k0, k1, v0, v1, c0, c1, c2, c3], rest) = frame.split_first_chunk()?;
    let asked = Asked {
        api_key: i16::from_be_bytes([k0, k1]),
        version: i16::from_be_bytes([v0, v1]),
        correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        tree: Value::Null,
    };
    let tree = body(asked.api_key, asked.version, rest);
    let tree = tree.unwrap_or_else(|_| unread(rest));
    Some(Asked { tree, ..asked })
}

type Walk = fn(&mut Reader<'_>, i16) -> Result<(), DecodeError>;

/// The layout and the walk of requests about groups and of what is known of transactions.
fn group_walk(api_key: i16, version: i16) -> Option<(Layout, Walk)> {
    Some(match api_key {
        JoinGroup::API_KEY => (JoinGroup::layout(version), transaction_walk::join_group),
        AddOffsets::API_KEY => (AddOffsets::layout(version), transaction_walk::add_offsets),
        TxnOffsetCommit::API_KEY => (
            TxnOffsetCommit::layout(version),
            transaction_walk::txn_offset_commit,
        ),
        OffsetFetch::API_KEY => (OffsetFetch::layout(version), transaction_walk::offset_fetch),
        DescribeTransactions::API_KEY => (
            DescribeTransactions::layout(version),
            transaction_walk::describe_transactions,
        ),
        ListTransactions::API_KEY => (
            ListTransactions::layout(version),
            transaction_walk::list_transactions,
        ),
        DescribeProducers::API_KEY => (
            DescribeProducers::layout(version),
            transaction_walk::describe_producers,
        ),
        WriteTxnMarkers::API_KEY => (WriteTxnMarkers::layout(version), txn_markers::walk),
        DeleteGroups::API_KEY => (DeleteGroups::layout(version), group_deletion::walk_groups),
        OffsetDelete::API_KEY => (OffsetDelete::layout(version), group_deletion::walk_offsets),
        _ => return None,
    })
}

/// Client id, header tags and body. Bytes after the last field are kept too.
fn body(api_key: i16, version: i16, rest: &[u8]) -> Result<Value, DecodeError> {
    let (layout, walk): (Layout, Walk) = match api_key {
        Produce::API_KEY => (Produce::layout(version), produce),
        Fetch::API_KEY => (Fetch::layout(version), fetch),
        ListOffsets::API_KEY => (ListOffsets::layout(version), list_offsets),
        Metadata::API_KEY => (Metadata::layout(version), metadata),
        ApiVersions::API_KEY => (ApiVersions::layout(version), api_versions),
        CreateTopic::API_KEY => (CreateTopic::layout(version), create_topics),
        InitProducerId::API_KEY => (InitProducerId::layout(version), init_producer_id),
        FindCoordinator::API_KEY => (
            FindCoordinator::layout(version),
            transaction_walk::find_coordinator,
        ),
        AddPartitions::API_KEY => (
            AddPartitions::layout(version),
            transaction_walk::add_partitions,
        ),
        EndTxn::API_KEY => (EndTxn::layout(version), transaction_walk::end_txn),
        _ => match group_walk(api_key, version) {
            Some(walk) => walk,
            None => return Ok(unread(rest)),
        },
    };
    let mut reader = Reader::traced(rest, Layout::Plain);
    // The client id keeps its two-byte length in flexible headers too (KIP-482).
    reader.nullable_string("client id")?;
    reader.switch_layout(layout);
    reader.tags("header tags")?;
    walk(&mut reader, version)?;
    reader.tags("body tags")?;
    let left = reader.take(reader.left(), "bytes after the last field")?;
    let mut tree = reader.into_tree();
    if !left.is_empty() {
        tree["bytes after the last field"] = shortened(left);
    }
    batches_in(&mut tree, Inside::Header);
    Ok(tree)
}

fn produce(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.nullable_string("transactional id")?;
    reader.i16("acks")?;
    reader.i32("timeout")?;
    reader.list("topics", |reader| {
        if version >= TOPIC_ID_FROM {
            reader.uuid("topic id")?;
        } else {
            reader.string("topic name")?;
        }
        reader.list("partitions", |reader| {
            reader.i32("partition index")?;
            reader.nullable_bytes(RECORDS)?;
            reader.tags("partition tags")
        })?;
        reader.tags("topic tags")
    })?;
    Ok(())
}

fn fetch(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    let topic = |reader: &mut Reader<'_>| match version >= FETCH_BY_ID_FROM {
        true => reader.uuid("topic id").map(drop),
        false => reader.string("topic name").map(drop),
    };
    if version <= 14 {
        reader.i32("replica id")?;
    }
    reader.i32("max wait")?;
    reader.i32("min bytes")?;
    reader.i32("max bytes")?;
    reader.i8("isolation level")?;
    if version >= 7 {
        reader.i32("session id")?;
        reader.i32("session epoch")?;
    }
    reader.list("topics", |reader| {
        topic(reader)?;
        reader.list("partitions", |reader| {
            reader.i32("partition index")?;
            if version >= 9 {
                reader.i32("current leader epoch")?;
            }
            reader.i64("fetch offset")?;
            if version >= 12 {
                reader.i32("last fetched epoch")?;
            }
            if version >= 5 {
                reader.i64("log start offset")?;
            }
            reader.i32("partition max bytes")?;
            reader.tags("partition tags")
        })?;
        reader.tags("topic tags")
    })?;
    if version >= 7 {
        reader.list("forgotten topics", |reader| {
            topic(reader)?;
            reader.list("partitions", |reader| reader.i32("partition index"))?;
            reader.tags("topic tags")
        })?;
    }
    if version >= 11 {
        reader.string("rack id")?;
    }
    Ok(())
}

fn list_offsets(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.i32("replica id")?;
    if version >= 2 {
        reader.i8("isolation level")?;
    }
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        reader.list("partitions", |reader| {
            reader.i32("partition index")?;
            if version >= 4 {
                reader.i32("current leader epoch")?;
            }
            reader.i64("timestamp")?;
            reader.tags("partition tags")
        })?;
        reader.tags("topic tags")
    })?;
    if version >= 10 {
        reader.i32("timeout")?;
    }
    Ok(())
}

fn metadata(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.nullable_list("topics", |reader| {
        if version >= 10 {
            reader.uuid("topic id")?;
        }
        reader.nullable_string("topic name")?;
        reader.tags("topic tags")
    })?;
    if version >= 4 {
        reader.i8("allow auto topic creation")?;
    }
    if (8..=10).contains(&version) {
        reader.i8("include cluster authorized operations")?;
    }
    if version >= 8 {
        reader.i8("include topic authorized operations")?;
    }
    Ok(())
}

fn api_versions(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    if version >= 3 {
        reader.string("client software name")?;
        reader.string("client software version")?;
    }
    Ok(())
}

fn create_topics(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        reader.i32("partition count")?;
        reader.i16("replication factor")?;
        reader.list("assignments", |reader| {
            reader.i32("partition index")?;
            reader.list("replicas", |reader| reader.i32("replica"))?;
            reader.tags("assignment tags")
        })?;
        reader.list("configs", |reader| {
            reader.string("config name")?;
            reader.nullable_string("config value")?;
            reader.tags("config tags")
        })?;
        reader.tags("topic tags")
    })?;
    reader.i32("timeout")?;
    if version >= 1 {
        reader.i8("validate only")?;
    }
    Ok(())
}

fn init_producer_id(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.nullable_string("transactional id")?;
    reader.i32("transaction timeout")?;
    if version >= 3 {
        reader.i64("producer id")?;
        reader.i16("producer epoch")?;
    }
    Ok(())
}

/// Reads the answer to a request of that API and version; `None` for an API that is not read here.
pub fn answer(api_key: i16, version: i16, frame: &[u8]) -> Option<Result<Value, DecodeError>> {
    let tree = match api_key {
        Produce::API_KEY => response_tree::<Produce>(frame, version),
        Fetch::API_KEY => response_tree::<FetchById>(frame, version),
        ListOffsets::API_KEY => response_tree::<ListOffsets>(frame, version),
        Metadata::API_KEY => response_tree::<Metadata>(frame, version),
        ApiVersions::API_KEY => {
            // A version that a broker does not know is answered in the oldest layout (KIP-511).
            let known = (0..=ApiVersions::VERSION_MAX).contains(&version);
            response_tree::<ApiVersions>(frame, if known { version } else { 0 })
        }
        CreateTopic::API_KEY => response_tree::<CreateTopic>(frame, version),
        InitProducerId::API_KEY => response_tree::<InitProducerId>(frame, version),
        FindCoordinator::API_KEY => response_tree::<FindCoordinator>(frame, version),
        AddPartitions::API_KEY => response_tree::<AddPartitions>(frame, version),
        EndTxn::API_KEY => response_tree::<EndTxn>(frame, version),
        JoinGroup::API_KEY => response_tree::<JoinGroup>(frame, version),
        AddOffsets::API_KEY => response_tree::<AddOffsets>(frame, version),
        TxnOffsetCommit::API_KEY => response_tree::<TxnOffsetCommit>(frame, version),
        OffsetFetch::API_KEY => response_tree::<OffsetFetch>(frame, version),
        DescribeTransactions::API_KEY => response_tree::<DescribeTransactions>(frame, version),
        ListTransactions::API_KEY => response_tree::<ListTransactions>(frame, version),
        DescribeProducers::API_KEY => response_tree::<DescribeProducers>(frame, version),
        WriteTxnMarkers::API_KEY => response_tree::<WriteTxnMarkers>(frame, version),
        DeleteGroups::API_KEY => response_tree::<DeleteGroups>(frame, version),
        OffsetDelete::API_KEY => response_tree::<OffsetDelete>(frame, version),
        _ => return None,
    };
    Some(tree.map(|mut tree| {
        batches_in(&mut tree, Inside::Records);
        tree
    }))
}

/// The field that holds record batches.
const RECORDS: &str = "records";

/// How far a batch is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    /// Its header: what the judge sends may be broken on purpose, and its records are its own.
    Header,
    /// Its records too: what a broker holds must be sound.
    Records,
}

/// Puts batches in place of the bytes of every field that holds some.
fn batches_in(tree: &mut Value, inside: Inside) {
    match tree {
        Value::Array(list) => list.iter_mut().for_each(|item| batches_in(item, inside)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(digits) if name == RECORDS => {
                        let bytes = undigits(digits);
                        *value = batches(&bytes, inside);
                    }
                    _ => batches_in(value, inside),
                }
            }
        }
        _ => {}
    }
}

fn undigits(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    text.as_bytes().chunks(2).filter_map(byte).collect()
}

fn batches(mut bytes: &[u8], inside: Inside) -> Value {
    let mut list = Vec::new();
    while let Some((mut tree, length)) = header(bytes) {
        // Of a batch whose length lies, everything that is there is taken for its own.
        let honest = (HEADER_BYTES..=bytes.len()).contains(&length);
        let (batch, rest) = bytes.split_at(if honest { length } else { bytes.len() });
        let covered = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
        let right = tree.remove("checksum") == Some(covered.into());
        tree.insert("checksum is right".into(), right.into());
        match (inside, read_batches(batch)) {
            (Inside::Records, Ok(read)) => {
                let records = read.first().map(|batch| records(&batch.records));
                tree.insert("content".into(), records.unwrap_or_default());
            }
            (Inside::Records, Err(error)) => {
                tree.insert("unreadable".into(), error.to_string().into());
            }
            (Inside::Header, _) => {
                tree.insert("content".into(), shortened(&batch[HEADER_BYTES..]));
            }
        }
        list.push(Value::Object(tree));
        bytes = rest;
    }
    if !bytes.is_empty() {
        list.push(size_of(bytes));
    }
    Value::Array(list)
}

/// The fields of a batch's header, and how long the batch is by them.
fn header(bytes: &[u8]) -> Option<(Map<String, Value>, usize)> {
    let mut reader = Reader::traced(bytes, Layout::Plain);
    let length = read_header(&mut reader).ok()?;
    let length = usize::try_from(length).ok()?.checked_add(LENGTH_END)?;
    match reader.into_tree() {
        Value::Object(fields) => Some((fields, length)),
        _ => None,
    }
}

/// Where the bytes begin that a batch's length counts.
const LENGTH_END: usize = 12;

fn read_header(reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
    reader.i64("base offset")?;
    let length = reader.i32("batch length")?;
    reader.i32("partition leader epoch")?;
    reader.i8("magic")?;
    reader.u32("checksum")?;
    reader.i16("attributes")?;
    reader.i32("last offset delta")?;
    reader.i64("base timestamp")?;
    reader.i64("max timestamp")?;
    reader.i64("producer id")?;
    reader.i16("producer epoch")?;
    reader.i32("base sequence")?;
    reader.i32("record count")?;
    Ok(length)
}

/// Records shown one by one; of those after them there is a checksum.
const RECORDS_SHOWN_MAX: usize = 8;

fn records(records: &[StoredRecord]) -> Value {
    let (shown, rest) = records.split_at(records.len().min(RECORDS_SHOWN_MAX));
    let mut list: Vec<Value> = shown.iter().map(record).collect();
    if !rest.is_empty() {
        let text: String = rest
            .iter()
            .map(|record| format!("{} {:?}\n", record.offset, record.content))
            .collect();
        let checksum = crc32c::crc32c(text.as_bytes());
        list.push(format!("{} more, checksum {checksum:08x}", rest.len()).into());
    }
    Value::Array(list)
}

fn record(record: &StoredRecord) -> Value {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, text);
    let headers = record.content.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(key, value)| json!([key, bytes(value.as_deref())]))
        .collect();
    json!({
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": bytes(record.content.key.as_deref()),
        "value": bytes(record.content.value.as_deref()),
        "headers": headers,
    })
}

/// Text as it is, other bytes as digits.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= BYTES_SHOWN_MAX && !text.contains('\0') => text.into(),
        _ => shortened(bytes),
    }
}

/// A request that does not read: of its bytes, which hold names and times, the size is shown.
fn unread(bytes: &[u8]) -> Value {
    json!({ "unreadable": size_of(bytes) })
}

fn size_of(bytes: &[u8]) -> Value {
    format!("{} bytes", bytes.len()).into()
}

/// Bytes shown as they are; of longer ones there is the head, the size and a checksum.
const BYTES_SHOWN_MAX: usize = 96;

fn shortened(bytes: &[u8]) -> Value {
    if bytes.len() <= BYTES_SHOWN_MAX {
        return hex::digits(bytes).into();
    }
    let (head, size) = (hex::digits(&bytes[..8]), bytes.len());
    format!(
        "{head}… {size} bytes, checksum {:08x}",
        crc32c::crc32c(bytes)
    )
    .into()
}
