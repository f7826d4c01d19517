//! The questions of transactions on the wire: who coordinates, what is part, how it ends.
//!
//! *Invariants*
//! 1. An array's count is backed by bytes before anything is kept for it ([`Reader::count`]).
//!
//! *Source*: Kafka's `FindCoordinatorRequest.json`, `AddPartitionsToTxnRequest.json`,
//! `AddOffsetsToTxnRequest.json`, `TxnOffsetCommitRequest.json`, `EndTxnRequest.json` and their
//! responses.
//!
//! *Not here*: InitProducerId (`control.rs`), when to ask what (`engine/transacting.rs`).

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ErrorCode;
use crate::types::{BrokerId, ProducerEpoch, ProducerId};
use crate::wire::Api;
use crate::wire::error::DecodeError;
use crate::wire::frame::{RequestHeader, complete_size, response_body};
use crate::wire::message::BrokerEndpoint;
use crate::wire::primitives::{Encoding, Reader, put_count, put_no_tags, put_null_text, put_text};

/// Whose transaction a question is about.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// `transactional.id`.
    pub transactional_id: &'a str,
    /// The id given to it.
    pub producer: ProducerId,
    /// The id's epoch.
    pub epoch: ProducerEpoch,
}

/// What somebody coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coordinated {
    /// A consumer group.
    Group,
    /// A transactional id.
    Transaction,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All of it counts.
    Commit,
    /// None of it counts.
    Abort,
}

/// The answer to who coordinates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorAnswer {
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// 0, or why nobody is named.
    pub error: ErrorCode,
    /// The broker's words, if it had any.
    pub message: Option<Arc<str>>,
    /// Who, without an error.
    pub coordinator: Option<BrokerEndpoint>,
}

/// The answer to how a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndAnswer {
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// 0, or why it did not end.
    pub error: ErrorCode,
    /// The id and epoch of the next transaction (v5 and later, KIP-890).
    pub next: Option<(ProducerId, ProducerEpoch)>,
}

/// An answer of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeAnswer {
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// The code.
    pub error: ErrorCode,
}

/// An answer of a code for each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCodes {
    /// How long to send nothing on this connection, in milliseconds.
    pub throttle_ms: u32,
    /// Topic, partition and code.
    pub rows: Vec<(Arc<str>, i32, ErrorCode)>,
}

/// A group that commits offsets with a transaction.
#[derive(Clone, Copy, Debug)]
pub struct GroupMember<'a> {
    /// The group.
    pub group_id: &'a str,
    /// Its generation; −1 for a consumer that assigns itself its partitions.
    pub generation: i32,
    /// The member; empty for such a consumer.
    pub member_id: &'a str,
    /// Its `group.instance.id`, if it has one.
    pub instance_id: Option<&'a str>,
}

/// A partition's offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRow<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader's epoch of the last record that was read; −1 when it is not known.
    pub leader_epoch: i32,
    /// Anything, for whoever reads the offset.
    pub metadata: Option<&'a str>,
}

/// Who coordinates this name?
#[must_use]
pub fn find_coordinator_request(
    header: &RequestHeader<'_>,
    what: Coordinated,
    name: &str,
) -> Bytes {
    let key_type = match what {
        Coordinated::Group => 0,
        Coordinated::Transaction => 1,
    };
    frame(header, |buffer, encoding| {
        if header.version < FIRST_WITH_MANY_KEYS {
            put_text(buffer, encoding, name);
            buffer.put_i8(key_type);
        } else {
            buffer.put_i8(key_type);
            put_count(buffer, encoding, 1);
            put_text(buffer, encoding, name);
        }
    })
}

/// Makes partitions part of the transaction, those of a topic together.
#[must_use]
pub fn add_partitions_request(
    header: &RequestHeader<'_>,
    who: &Who<'_>,
    topics: &[(&str, Vec<i32>)],
) -> Bytes {
    frame(header, |buffer, encoding| {
        put_who(buffer, encoding, who);
        put_count(buffer, encoding, topics.len());
        for (name, partitions) in topics {
            put_text(buffer, encoding, name);
            put_count(buffer, encoding, partitions.len());
            for partition in partitions {
                buffer.put_i32(*partition);
            }
            put_no_tags(buffer, encoding);
        }
    })
}

/// Makes a group's offsets part of the transaction.
#[must_use]
pub fn add_offsets_request(header: &RequestHeader<'_>, who: &Who<'_>, group_id: &str) -> Bytes {
    frame(header, |buffer, encoding| {
        put_who(buffer, encoding, who);
        put_text(buffer, encoding, group_id);
    })
}

/// Commits offsets with the transaction, those of a topic adjacent.
#[must_use]
pub fn offset_commit_request(
    header: &RequestHeader<'_>,
    who: &Who<'_>,
    member: &GroupMember<'_>,
    offsets: &[OffsetRow<'_>],
) -> Bytes {
    let topics: Vec<_> = offsets
        .chunk_by(|one, next| one.topic == next.topic)
        .collect();
    frame(header, |buffer, encoding| {
        put_text(buffer, encoding, who.transactional_id);
        put_text(buffer, encoding, member.group_id);
        buffer.put_i64(who.producer.0);
        buffer.put_i16(who.epoch.0);
        if header.version >= FIRST_WITH_MEMBERS {
            buffer.put_i32(member.generation);
            put_text(buffer, encoding, member.member_id);
            put_nullable(buffer, encoding, member.instance_id);
        }
        put_count(buffer, encoding, topics.len());
        for topic in topics {
            put_text(buffer, encoding, topic[0].topic);
            put_count(buffer, encoding, topic.len());
            for row in topic {
                buffer.put_i32(row.partition);
                buffer.put_i64(row.offset);
                if header.version >= 2 {
                    buffer.put_i32(row.leader_epoch);
                }
                put_nullable(buffer, encoding, row.metadata);
                put_no_tags(buffer, encoding);
            }
            put_no_tags(buffer, encoding);
        }
    })
}

/// Ends the transaction.
#[must_use]
pub fn end_request(header: &RequestHeader<'_>, who: &Who<'_>, decision: Decision) -> Bytes {
    frame(header, |buffer, encoding| {
        put_who(buffer, encoding, who);
        buffer.put_u8(u8::from(decision == Decision::Commit));
    })
}

/// Reads an answer to [`find_coordinator_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn find_coordinator_answer(
    version: i16,
    frame: &[u8],
) -> Result<CoordinatorAnswer, DecodeError> {
    let encoding = Api::FindCoordinator.encoding(version);
    let mut reader = response_body(Api::FindCoordinator, version, frame)?;
    let throttle_ms = throttle(&mut reader)?;
    if version < FIRST_WITH_MANY_KEYS {
        let error = ErrorCode(reader.i16("error code")?);
        let message = reader.text("error message", encoding)?;
        let node = read_node(&mut reader, encoding)?;
        return answered(throttle_ms, error, message, node);
    }
    if reader.count("coordinators", encoding)? != 1 {
        return Err(DecodeError::ImpossibleLength {
            field: "coordinators",
            length: 0,
        });
    }
    reader.text("key", encoding)?;
    let node = read_node(&mut reader, encoding)?;
    let error = ErrorCode(reader.i16("error code")?);
    let message = reader.text("error message", encoding)?;
    answered(throttle_ms, error, message, node)
}

/// Reads an answer to [`add_partitions_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn add_partitions_answer(version: i16, frame: &[u8]) -> Result<PartitionCodes, DecodeError> {
    partition_codes(Api::AddPartitionsToTxn, version, frame)
}

/// Reads an answer to [`offset_commit_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn offset_commit_answer(version: i16, frame: &[u8]) -> Result<PartitionCodes, DecodeError> {
    partition_codes(Api::TxnOffsetCommit, version, frame)
}

/// Reads an answer to [`add_offsets_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn add_offsets_answer(version: i16, frame: &[u8]) -> Result<CodeAnswer, DecodeError> {
    let mut reader = response_body(Api::AddOffsetsToTxn, version, frame)?;
    Ok(CodeAnswer {
        throttle_ms: throttle(&mut reader)?,
        error: ErrorCode(reader.i16("error code")?),
    })
}

/// Reads an answer to [`end_request`].
///
/// # Errors
///
/// The frame is not such an answer.
pub fn end_answer(version: i16, frame: &[u8]) -> Result<EndAnswer, DecodeError> {
    let mut reader = response_body(Api::EndTxn, version, frame)?;
    let throttle_ms = throttle(&mut reader)?;
    let error = ErrorCode(reader.i16("error code")?);
    let next = if version >= FIRST_WITH_NEXT_EPOCH {
        let id = reader.i64("producer id")?;
        let epoch = reader.i16("producer epoch")?;
        (id >= 0 && epoch >= 0).then_some((ProducerId(id), ProducerEpoch(epoch)))
    } else {
        None
    };
    Ok(EndAnswer {
        throttle_ms,
        error,
        next,
    })
}

fn frame(header: &RequestHeader<'_>, body: impl FnOnce(&mut BytesMut, Encoding)) -> Bytes {
    let encoding = header.api.encoding(header.version);
    let mut buffer = BytesMut::new();
    header.put(&mut buffer);
    body(&mut buffer, encoding);
    put_no_tags(&mut buffer, encoding);
    let total = buffer.len();
    complete_size(&mut buffer, total);
    buffer.freeze()
}

fn put_who(buffer: &mut BytesMut, encoding: Encoding, who: &Who<'_>) {
    put_text(buffer, encoding, who.transactional_id);
    buffer.put_i64(who.producer.0);
    buffer.put_i16(who.epoch.0);
}

fn put_nullable(buffer: &mut BytesMut, encoding: Encoding, text: Option<&str>) {
    match text {
        Some(text) => put_text(buffer, encoding, text),
        None => put_null_text(buffer, encoding),
    }
}

fn throttle(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(u32::try_from(reader.i32("throttle time")?).unwrap_or(0))
}

/// Node id, host and port.
type NodeRow<'a> = (i32, Option<&'a str>, i32);

fn read_node<'a>(reader: &mut Reader<'a>, encoding: Encoding) -> Result<NodeRow<'a>, DecodeError> {
    let id = reader.i32("node id")?;
    let host = reader.text("host", encoding)?;
    Ok((id, host, reader.i32("port")?))
}

fn answered(
    throttle_ms: u32,
    error: ErrorCode,
    message: Option<&str>,
    (id, host, port): NodeRow<'_>,
) -> Result<CoordinatorAnswer, DecodeError> {
    let coordinator = match error {
        ErrorCode::NONE => Some(BrokerEndpoint {
            id: BrokerId(id),
            host: Arc::from(host.unwrap_or_default()),
            port: u16::try_from(port).map_err(|_| DecodeError::ImpossibleValue {
                field: "coordinator's port",
                value: i64::from(port),
            })?,
        }),
        _ => None,
    };
    let message = message.filter(|words| !words.is_empty());
    Ok(CoordinatorAnswer {
        throttle_ms,
        error,
        message: message.map(Arc::from),
        coordinator,
    })
}

fn partition_codes(api: Api, version: i16, frame: &[u8]) -> Result<PartitionCodes, DecodeError> {
    let encoding = api.encoding(version);
    let mut reader = response_body(api, version, frame)?;
    let throttle_ms = throttle(&mut reader)?;
    let mut rows = Vec::new();
    for _ in 0..reader.count("topics", encoding)? {
        let topic: Arc<str> = Arc::from(reader.text("topic", encoding)?.unwrap_or_default());
        for _ in 0..reader.count("partitions", encoding)? {
            let partition = reader.i32("partition")?;
            let error = ErrorCode(reader.i16("error code")?);
            rows.push((Arc::clone(&topic), partition, error));
            reader.skip_tags(encoding)?;
        }
        reader.skip_tags(encoding)?;
    }
    Ok(PartitionCodes { throttle_ms, rows })
}

/// FindCoordinator asks for several names at once (KIP-699).
const FIRST_WITH_MANY_KEYS: i16 = 4;
/// TxnOffsetCommit names the member that commits (KIP-447).
const FIRST_WITH_MEMBERS: i16 = 3;
/// EndTxn answers with the next transaction's epoch (KIP-890).
const FIRST_WITH_NEXT_EPOCH: i16 = 5;

/// Frames that went to and came from Apache Kafka 4.3.1.
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// A response without its size prefix.
    fn answer(text: &str) -> Vec<u8> {
        hex(text).split_off(4)
    }

    fn header(api: Api, version: i16) -> RequestHeader<'static> {
        RequestHeader {
            api,
            version,
            correlation_id: 1,
            client_id: "probe",
        }
    }

    fn who(transactional_id: &str, id: i64) -> Who<'_> {
        Who {
            transactional_id,
            producer: ProducerId(id),
            epoch: ProducerEpoch(0),
        }
    }

    #[rstest]
    #[case(
        find_coordinator_request(
            &header(Api::FindCoordinator, 3), Coordinated::Transaction, "Am2",
        ),
        "00000016000a000300000001000570726f62650004416d320100",
    )]
    #[case(
        find_coordinator_request(&header(Api::FindCoordinator, 6), Coordinated::Group, "gm2"),
        "00000017000a000600000001000570726f626500000204676d3200",
    )]
    #[case(
        add_partitions_request(
            &header(Api::AddPartitionsToTxn, 3), &who("Cm2", 0x7b), &[("t3-m2", vec![0, 1])],
        ),
        "000000300018000300000001000570726f62650004436d32000000000000007b000002\
         0674332d6d320300000000000000010000",
    )]
    #[case(
        add_offsets_request(&header(Api::AddOffsetsToTxn, 4), &who("Fm2", 0x7d), "grpm2"),
        "000000250019000400000001000570726f62650004466d32000000000000007d0000066772706d3200",
    )]
    #[case(
        end_request(&header(Api::EndTxn, 5), &who("Bm2", 0x7a), Decision::Commit),
        "00000020001a000500000001000570726f62650004426d32000000000000007a00000100",
    )]
    #[case(
        end_request(&header(Api::EndTxn, 5), &who("Bm2", 0x7a), Decision::Abort),
        "00000020001a000500000001000570726f62650004426d32000000000000007a00000000",
    )]
    fn a_request_has_the_bytes_that_kafka_took(#[case] request: Bytes, #[case] captured: &str) {
        assert_eq!(&request[..], hex(captured));
    }

    #[rstest]
    #[case(3)]
    #[case(5)]
    fn an_offset_commit_has_the_bytes_that_kafka_took(#[case] version: i16) {
        let member = GroupMember {
            group_id: "grpm2",
            generation: -1,
            member_id: "",
            instance_id: None,
        };
        let row = OffsetRow {
            topic: "t5-m2",
            partition: 0,
            offset: 5,
            leader_epoch: -1,
            metadata: Some(""),
        };
        let header = header(Api::TxnOffsetCommit, version);
        let request = offset_commit_request(&header, &who("Fm2", 0x7d), &member, &[row]);
        let captured = "00000046001c000500000001000570726f62650004466d32066772706d320000000000\
             00007d0000ffffffff0100020674352d6d3202000000000000000000000005ffffffff01000000";
        let captured = captured.replacen("001c0005", &format!("001c000{version}"), 1);
        assert_eq!(&request[..], hex(&captured));
    }

    #[rstest]
    #[case(
        3,
        "000000230000000100000000000000054e4f4e45000000010a3132372e302e302e31000071a400"
    )]
    #[case(
        6,
        "000000250000000100000000000204676d32000000010a3132372e302e302e31000071a40000010000"
    )]
    fn a_coordinator_is_read(#[case] version: i16, #[case] captured: &str) {
        let read = find_coordinator_answer(version, &answer(captured)).expect("readable");
        let expected = BrokerEndpoint {
            id: BrokerId(1),
            host: "127.0.0.1".into(),
            port: 29092,
        };
        assert_eq!(
            (read.error, read.coordinator),
            (ErrorCode::NONE, Some(expected))
        );
    }

    /// Whoever is refused is told no address: host "" and port −1.
    #[test]
    fn a_coordinator_that_is_refused_is_none() {
        let captured = "0000003c0000001300000000000035275472616e73616374696f6e616c204964206175\
             74686f72697a6174696f6e206661696c65642effffffff01ffffffff00";
        let read = find_coordinator_answer(3, &answer(captured)).expect("readable");
        assert_eq!((read.error, read.coordinator), (ErrorCode(53), None));
        let words = read.message.expect("words");
        assert_eq!(&*words, "Transactional Id authorization failed.");
    }

    #[test]
    fn codes_of_partitions_are_read() {
        let captured = "0000001a000000010000000000020674332d6d3202000000000031000000";
        let read = add_partitions_answer(3, &answer(captured)).expect("readable");
        assert_eq!(read.rows, [(Arc::from("t3-m2"), 0, ErrorCode(49))]);
        let captured = "0000001a000000010000000000020674352d6d3202000000000019000000";
        let read = offset_commit_answer(5, &answer(captured)).expect("readable");
        assert_eq!(read.rows, [(Arc::from("t5-m2"), 0, ErrorCode(25))]);
        let captured = "0000000c000000010000000000000000";
        let read = add_offsets_answer(4, &answer(captured)).expect("readable");
        assert_eq!(read.error, ErrorCode::NONE);
    }

    #[rstest]
    #[case(5, "000000160000000100000000000000000000000000007a000100", 0, Some((0x7a, 1)))]
    #[case(5, "000000160000000100000000000030ffffffffffffffffffff00", 48, None)]
    #[case(4, "0000000c000000010000000000003000", 48, None)]
    fn an_end_is_read(
        #[case] version: i16,
        #[case] captured: &str,
        #[case] code: i16,
        #[case] next: Option<(i64, i16)>,
    ) {
        let read = end_answer(version, &answer(captured)).expect("readable");
        let next = next.map(|(id, epoch)| (ProducerId(id), ProducerEpoch(epoch)));
        assert_eq!((read.error, read.next), (ErrorCode(code), next));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            version in 0_i16..=6,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = find_coordinator_answer(version.max(1), &bytes);
            let _ = add_partitions_answer(version.min(3), &bytes);
            let _ = add_offsets_answer(version.min(4), &bytes);
            let _ = offset_commit_answer(version.min(5), &bytes);
            let _ = end_answer(version.min(5), &bytes);
        }
    }
}
