//! What coordinators of transactions tell the leaders of partitions: how a transaction ends.
//!
//! *Source*: Kafka's `WriteTxnMarkersRequest.json`; KIP-98, KIP-1228.

use bytes::{BufMut, Bytes, BytesMut};

use super::Request;
use super::batch::Stamp;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::request::EncodeError;
use super::transactional::{Decision, read_rows};

/// Writes markers into partitions.
#[derive(Clone, Debug, Default)]
pub struct WriteTxnMarkers {
    /// The markers, each for some partitions.
    pub markers: Vec<TxnMarker>,
}

/// A marker of [`WriteTxnMarkers`].
#[derive(Clone, Debug)]
pub struct TxnMarker {
    /// Whose transaction ends; the sequence is not sent.
    pub stamp: Stamp,
    /// How.
    pub decision: Decision,
    /// Topics and their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
    /// The epoch of who decided it.
    pub coordinator_epoch: i32,
    /// The version of the transaction, sent from version 2.
    pub transaction_version: i8,
}

/// A row of the answer: producer, topic, partition.
pub type MarkedRow = (i64, String, i32, ErrorCode);

/// The first version that tells the version of the transaction.
const VERSIONED_FROM: i16 = 2;

impl Request for WriteTxnMarkers {
    /// In the broker's order.
    type Answer = Vec<MarkedRow>;
    const API_KEY: i16 = 27;
    const NAME: &'static str = "WriteTxnMarkers";
    const VERSION_MAX: i16 = 2;
    const FLEXIBLE_FROM: i16 = 1;

    /// `kafka_protocol` knows no version 2, so all are laid out here.
    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut body = BytesMut::new();
        put_count(&mut body, self.markers.len());
        for marker in &self.markers {
            body.put_i64(marker.stamp.id);
            body.put_i16(marker.stamp.epoch);
            body.put_u8(u8::from(marker.decision == Decision::Commit));
            put_count(&mut body, marker.topics.len());
            for (topic, partitions) in &marker.topics {
                put_count(&mut body, topic.len());
                body.put_slice(topic.as_bytes());
                put_count(&mut body, partitions.len());
                partitions.iter().for_each(|index| body.put_i32(*index));
                body.put_u8(NO_TAGS);
            }
            body.put_i32(marker.coordinator_epoch);
            if version >= VERSIONED_FROM {
                body.put_i8(marker.transaction_version);
            }
            body.put_u8(NO_TAGS);
        }
        body.put_u8(NO_TAGS);
        Ok(body.freeze())
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        let markers = reader.list("markers", |reader| {
            let id = reader.i64("producer id")?;
            let rows = read_rows(reader)?.into_iter();
            reader.tags("marker tags")?;
            Ok(rows.map(move |(topic, index, error)| (id, topic, index, error)))
        })?;
        reader.tags("body tags")?;
        Ok(markers.into_iter().flatten().collect())
    }
}

const NO_TAGS: u8 = 0;

/// A compact length: one more, as an unsigned varint.
fn put_count(body: &mut BytesMut, count: usize) {
    let mut left = count.saturating_add(1);
    loop {
        let low = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        if left == 0 {
            return body.put_u8(low);
        }
        body.put_u8(low | 0x80);
    }
}

/// The fields of the request by their names, for recordings.
pub(super) fn walk(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    reader.list("markers", |reader| {
        reader.i64("producer id")?;
        reader.i16("producer epoch")?;
        reader.i8("committed")?;
        reader.list("topics", |reader| {
            reader.string("topic name")?;
            reader.list("partitions", |reader| reader.i32("partition index"))?;
            reader.tags("topic tags")
        })?;
        reader.i32("coordinator epoch")?;
        if version >= VERSIONED_FROM {
            reader.i8("transaction version")?;
        }
        reader.tags("marker tags")
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reader::Layout;

    #[test]
    fn what_is_written_reads_to_its_end() {
        let topics = vec![("t".repeat(200), vec![0, 1]), ("u".into(), vec![])];
        let marker = TxnMarker {
            stamp: Stamp {
                id: 7,
                epoch: 3,
                sequence: 0,
            },
            decision: Decision::Commit,
            topics,
            coordinator_epoch: 5,
            transaction_version: 2,
        };
        let request = WriteTxnMarkers {
            markers: vec![marker],
        };
        for version in 1..=2 {
            let body = request.body(version).unwrap();
            let mut reader = Reader::traced(&body, Layout::Flexible);
            walk(&mut reader, version).unwrap();
            reader.tags("body tags").unwrap();
            reader.finish().unwrap();
            let marker = &reader.into_tree()["markers"][0];
            assert_eq!(marker["coordinator epoch"], 5);
            assert_eq!(marker["committed"], 1);
            let told = &marker["transaction version"];
            assert_eq!(told.as_i64(), (version == 2).then_some(2));
        }
    }
}
