//! WriteTxnMarkers: what coordinators of transactions tell the leaders of partitions.
//!
//! *Invariants*
//! 1. A body comes here after [`super::guard`] has walked it.
//!
//! *Source* `WriteTxnMarkersRequest.json` of apache/kafka 4.3.1; KIP-98, KIP-1228.
//!
//! *Not here* the answer (`transactions.rs`), whose layout is one in all versions.

use bytes::Bytes;

use super::guard::{Cursor, Reason};
use super::transactions::Decision;

/// WriteTxnMarkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteTxnMarkers {
    /// The markers.
    pub markers: Vec<WritableMarker>,
}

/// A marker of [`WriteTxnMarkers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableMarker {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// How its transaction ends.
    pub decision: Decision,
    /// Topics by name, with the partitions that are to have it.
    pub topics: Vec<(String, Vec<i32>)>,
    /// The epoch of who decided that.
    pub coordinator_epoch: i32,
    /// The version of the transaction; 0 before version 2, which cannot say.
    pub transaction_version: i8,
}

const NULL: Reason = "null where there is no null";

/// The first version that tells the version of the transaction.
const VERSIONED_SINCE: i16 = 2;

/// Reads a body; the schemas that decode other messages end at version 1.
///
/// # Errors
///
/// When a field does not follow the schema.
pub(super) fn decode(version: i16, body: &Bytes) -> Result<WriteTxnMarkers, Reason> {
    let mut cursor = Cursor::new(body);
    let markers = cursor.compact_items(|cursor| marker(cursor, version))?;
    Ok(WriteTxnMarkers {
        markers: markers.ok_or(NULL)?,
    })
}

fn marker(cursor: &mut Cursor<'_>, version: i16) -> Result<WritableMarker, Reason> {
    let producer_id = cursor.int64()?;
    let producer_epoch = cursor.int16()?;
    let decision = match cursor.take(1)? {
        [0] => Decision::Abort,
        _ => Decision::Commit,
    };
    let topics = cursor.compact_items(|cursor| {
        let topic = cursor.compact_text()?.ok_or(NULL)?;
        let indexes = cursor.compact_items(Cursor::int32)?;
        cursor.tagged_fields(&[])?;
        Ok((topic, indexes.ok_or(NULL)?))
    })?;
    let coordinator_epoch = cursor.int32()?;
    let transaction_version = match version {
        ..VERSIONED_SINCE => 0,
        _ => match cursor.take(1)? {
            [byte] => i8::from_be_bytes([*byte]),
            _ => 0,
        },
    };
    cursor.tagged_fields(&[])?;
    Ok(WritableMarker {
        producer_id,
        producer_epoch,
        decision,
        topics: topics.ok_or(NULL)?,
        coordinator_epoch,
        transaction_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: [u8; 33] = [
        2, // one marker
        0, 0, 0, 0, 0, 0, 15, 160, // producer id
        0, 7, // its epoch
        1, // commit
        2, 7, b'o', b'r', b'd', b'e', b'r', b's', // one topic
        3, 0, 0, 0, 3, 0, 0, 0, 4, 0, // two partitions, no tags
        0, 0, 0, // the first bytes of the coordinator's epoch
    ];

    fn read(version: i16, rest: &[u8]) -> Vec<WritableMarker> {
        let body: Vec<u8> = [&MARKER, rest].concat();
        decode(version, &body.into()).unwrap().markers
    }

    #[test]
    fn version_2_tells_the_version_of_the_transaction() {
        let first = WritableMarker {
            producer_id: 4_000,
            producer_epoch: 7,
            decision: Decision::Commit,
            topics: vec![("orders".into(), vec![3, 4])],
            coordinator_epoch: 9,
            transaction_version: 0,
        };
        let second = WritableMarker {
            transaction_version: 2,
            ..first.clone()
        };
        assert_eq!(read(1, &[9, 0, 0]), [first]);
        assert_eq!(read(2, &[9, 2, 0, 0]), [second]);
    }
}
