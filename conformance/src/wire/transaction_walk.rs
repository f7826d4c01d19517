//! The fields of requests about transactions and groups by their names, for recordings.
//!
//! *Not here*: InitProducerId (`tree.rs`).

use super::reader::{DecodeError, Reader};

pub(super) fn find_coordinator(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    if version < 4 {
        reader.string("key")?;
    }
    if version >= 1 {
        reader.i8("key type")?;
    }
    if version >= 4 {
        reader.list("keys", |reader| reader.string("key"))?;
    }
    Ok(())
}

pub(super) fn add_partitions(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    if version < 4 {
        return transaction(reader, version);
    }
    reader.list("transactions", |reader| {
        transaction(reader, version)?;
        reader.tags("transaction tags")
    })?;
    Ok(())
}

/// Whose transaction it is.
fn transactor(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.string("transactional id")?;
    reader.i64("producer id")?;
    reader.i16("producer epoch")?;
    Ok(())
}

fn transaction(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    transactor(reader)?;
    if version >= 4 {
        reader.i8("verify only")?;
    }
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        reader.list("partitions", |reader| reader.i32("partition index"))?;
        reader.tags("topic tags")
    })?;
    Ok(())
}

pub(super) fn end_txn(reader: &mut Reader<'_>, _: i16) -> Result<(), DecodeError> {
    transactor(reader)?;
    reader.i8("committed")?;
    Ok(())
}

pub(super) fn join_group(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.string("group id")?;
    reader.i32("session timeout")?;
    if version >= 1 {
        reader.i32("rebalance timeout")?;
    }
    reader.string("member id")?;
    if version >= 5 {
        reader.nullable_string("instance id")?;
    }
    reader.string("protocol type")?;
    reader.list("protocols", |reader| {
        reader.string("protocol")?;
        reader.nullable_bytes("metadata").map(drop)
    })?;
    Ok(())
}

pub(super) fn add_offsets(reader: &mut Reader<'_>, _: i16) -> Result<(), DecodeError> {
    transactor(reader)?;
    reader.string("group id")?;
    Ok(())
}

pub(super) fn txn_offset_commit(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.string("transactional id")?;
    reader.string("group id")?;
    reader.i64("producer id")?;
    reader.i16("producer epoch")?;
    if version >= 3 {
        reader.i32("generation")?;
        reader.string("member id")?;
        reader.nullable_string("instance id")?;
    }
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        reader.list("partitions", |reader| {
            reader.i32("partition index")?;
            reader.i64("committed offset")?;
            if version >= 2 {
                reader.i32("committed leader epoch")?;
            }
            reader.nullable_string("metadata")?;
            reader.tags("partition tags")
        })?;
        reader.tags("topic tags")
    })?;
    Ok(())
}

pub(super) fn offset_fetch(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    if version < 8 {
        reader.string("group id")?;
        fetched_topics(reader)?;
    } else {
        reader.list("groups", |reader| {
            reader.string("group id")?;
            if version >= 9 {
                reader.nullable_string("member id")?;
                reader.i32("member epoch")?;
            }
            fetched_topics(reader)?;
            reader.tags("group tags")
        })?;
    }
    if version >= 7 {
        reader.i8("require stable")?;
    }
    Ok(())
}

fn fetched_topics(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.nullable_list("topics", |reader| {
        reader.string("topic name")?;
        reader.list("partitions", |reader| reader.i32("partition index"))?;
        reader.tags("topic tags")
    })?;
    Ok(())
}

pub(super) fn describe_transactions(reader: &mut Reader<'_>, _: i16) -> Result<(), DecodeError> {
    reader.list("transactional ids", |reader| {
        reader.string("transactional id")
    })?;
    Ok(())
}

pub(super) fn list_transactions(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.list("states", |reader| reader.string("state"))?;
    reader.list("producers", |reader| reader.i64("producer id"))?;
    if version >= 1 {
        reader.i64("duration filter")?;
    }
    if version >= 2 {
        reader.nullable_string("transactional id pattern")?;
    }
    Ok(())
}

pub(super) fn describe_producers(reader: &mut Reader<'_>, _: i16) -> Result<(), DecodeError> {
    reader.list("topics", |reader| {
        reader.string("topic name")?;
        reader.list("partitions", |reader| reader.i32("partition index"))?;
        reader.tags("topic tags")
    })?;
    Ok(())
}
