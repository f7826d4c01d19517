//! The fields of requests about transactions by their names, for recordings.
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

fn transaction(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.string("transactional id")?;
    reader.i64("producer id")?;
    reader.i16("producer epoch")?;
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
    reader.string("transactional id")?;
    reader.i64("producer id")?;
    reader.i16("producer epoch")?;
    reader.i8("committed")?;
    Ok(())
}
