//! Frames that went to and came from Apache Kafka 4.3.1, against our codecs; and every decoder
//! against broken frames.

use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;

use super::message::{BrokerEndpoint, PartitionAnswer, Replicas};
use super::produce_request::{self, FrameBudget, PartitionBatch, ProduceHeader};
use super::produce_response::{self, LeaderHint, ProduceRow};
use super::record_batch::{
    BatchHeader, Place, PlacedRecord, ProducerStamp, RecordView, Scope, complete_header,
    reserve_header,
};
use super::{Api, TopicRef, control};
use crate::error::ErrorCode;
use crate::types::{
    Acks, BrokerId, CompressionType, LeaderEpoch, ProducerEpoch, ProducerId, Sequence, TopicId,
};
use crate::wire::frame::RequestHeader;

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// A response without its size prefix.
fn answer(text: &str) -> Bytes {
    Bytes::from(hex(text)).slice(4..)
}

fn header(api: Api, version: i16) -> RequestHeader<'static> {
    RequestHeader {
        api,
        version,
        correlation_id: 1,
        client_id: "probe",
    }
}

/// A batch of the record `k` = `v`, as all captured requests have.
fn batch(timestamp_ms: i64, producer: Option<ProducerStamp>) -> Bytes {
    let record = RecordView {
        timestamp_ms,
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[],
    };
    let mut buffer = Vec::new();
    reserve_header(&mut buffer);
    PlacedRecord::new(&record, Place::FIRST).append_to(&mut buffer);
    let header = BatchHeader {
        compression: CompressionType::None,
        base_timestamp_ms: timestamp_ms,
        max_timestamp_ms: timestamp_ms,
        record_count: 1,
        producer,
    };
    complete_header(&mut buffer, &header);
    buffer.into()
}

const TOPIC_ID: TopicId = TopicId([
    0x11, 0xaf, 0x12, 0xc8, 0xf4, 0xd0, 0x4d, 0x16, 0xaa, 0x09, 0xf4, 0xea, 0x19, 0x18, 0x36, 0xee,
]);

const PRODUCE_7: &str = "000000780000000700000001000570726f6265ffff000100000bb800000001000970333\
    42d66322d763700000001000000000000004600000000000000000000003affffffff023c8c470e0000000000000\
    00001a2003d3290000001a2003d3290ffffffffffffffffffffffffffff0000000110000000026b027600";
const PRODUCE_10: &str = "000000720000000a00000001000570726f62650000000100000bb8020b7033342d6632\
    2d76313002000000004700000000000000000000003affffffff02234b81c1000000000000000001a2003d468300\
    0001a2003d4683ffffffffffffffffffffffffffff0000000110000000026b027600000000";
const PRODUCE_12: &str = "000000720000000c00000001000570726f62650000000100000bb8020b7033342d6632\
    2d76313202000000004700000000000000000000003affffffff02f23ec03c000000000000000001a2003d5a1000\
    0001a2003d5a10ffffffffffffffffffffffffffff0000000110000000026b027600000000";
const PRODUCE_13: &str = "000000770000000d00000001000570726f62650000000100000bb80211af12c8f4d04d\
    16aa09f4ea191836ee02000000004700000000000000000000003affffffff0247626f5d000000000000000001a2\
    003d6dae000001a2003d6daeffffffffffffffffffffffffffff0000000110000000026b027600000000";

#[rstest]
#[case(7, TopicRef::Name("p34-f2-v7"), 0x1a2_003d_3290, PRODUCE_7)]
#[case(10, TopicRef::Name("p34-f2-v10"), 0x1a2_003d_4683, PRODUCE_10)]
#[case(12, TopicRef::Name("p34-f2-v12"), 0x1a2_003d_5a10, PRODUCE_12)]
#[case(13, TopicRef::Id(TOPIC_ID), 0x1a2_003d_6dae, PRODUCE_13)]
fn a_produce_request_has_the_bytes_that_kafka_took(
    #[case] version: i16,
    #[case] topic: TopicRef<'_>,
    #[case] timestamp_ms: i64,
    #[case] captured: &str,
) {
    let request = header(Api::Produce, version);
    let header = ProduceHeader {
        request,
        transactional_id: None,
        acks: Acks::Leader,
        timeout_ms: 3000,
    };
    let records = batch(timestamp_ms, None);
    let batches = [PartitionBatch {
        topic,
        partition: 0,
        records,
    }];
    assert_eq!(
        produce_request::encode(&header, &batches).concat(),
        hex(captured)
    );
}

/// Captured with producer id 9100, epoch 0, sequence 1, acks −1.
#[test]
fn an_idempotent_batch_has_the_bytes_that_kafka_took() {
    let captured = "0000006e0000000c00000001000570726f62650000ffff00000bb8020763336c2d6332020000\
        00004700000000000000000000003affffffff0237e80c42000000000000000001a20036ab52000001a20036ab\
        52000000000000238c0000000000010000000110000000026b027600000000";
    let producer = ProducerStamp {
        id: ProducerId(0x238c),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence::ZERO.plus(1),
        scope: Scope::Alone,
    };
    let request = header(Api::Produce, 12);
    let header = ProduceHeader {
        request,
        transactional_id: None,
        acks: Acks::All,
        timeout_ms: 3000,
    };
    let records = batch(0x1a2_0036_ab52, Some(producer));
    let batches = [PartitionBatch {
        topic: TopicRef::Name("c3l-c2"),
        partition: 0,
        records,
    }];
    assert_eq!(
        produce_request::encode(&header, &batches).concat(),
        hex(captured)
    );
}

#[rstest]
#[case(9, "0000001c0003000900000001000570726f62650002066d642d66330001000000")]
#[case(
    13,
    "0000002b0003000d00000001000570726f6265000200000000000000000000000000000000066d642d663300010000"
)]
fn a_metadata_request_has_the_bytes_that_kafka_took(#[case] version: i16, #[case] captured: &str) {
    let names = ["md-f3".into()];
    let request = control::metadata_request(&header(Api::Metadata, version), names.iter());
    assert_eq!(
        request.expect("one of our versions").to_vec(),
        hex(captured)
    );
}

#[rstest]
#[case(0, "000000150016000000000001000570726f6265ffff7fffffff")]
#[case(2, "000000160016000200000001000570726f626500007fffffff00")]
#[case(
    5,
    "000000200016000500000001000570726f626500007fffffffffffffffffffffffffff00"
)]
fn a_producer_id_is_asked_for_as_kafka_took_it(#[case] version: i16, #[case] captured: &str) {
    let request = control::init_producer_id_request(&header(Api::InitProducerId, version), None);
    assert_eq!(
        request.expect("one of our versions").to_vec(),
        hex(captured)
    );
}

const PRODUCED_7: &str = "00000039000000010000000100097033342d66322d7637000000010000000000000000\
    000000000001ffffffffffffffff000000000000000000000000";
const PRODUCED_12_ERRORS: &str = "000001050000000100020b7033342d66322d76313202000000000020ffff\
    ffffffffffffffffffffffffffff00000000000000000200000000870154696d657374616d702031373935333037\
    353535303033206f66206d6573736167652077697468206f66667365742030206973206f7574206f662072616e67\
    652e205468652074696d657374616d702073686f756c642062652077697468696e205b2d39323233333730323431\
    3535343432303830332c20313739353330333935353030345d00404f6e65206f72206d6f7265207265636f726473\
    2068617665206265656e2072656a65637465642064756520746f20696e76616c69642074696d657374616d700000\
    0000000000";
const PRODUCED_12_HINTS: &str = "000000b4000000010004076333662d633102000000000006fffffffffffffff\
    fffffffffffffffffffffffffffffffff010001000900000001000000000000076333752d633102000000000006f\
    fffffffffffffffffffffffffffffffffffffffffffffff010001000900000001000000000000056e6f706502000\
    000000003ffffffffffffffffffffffffffffffffffffffffffffffff010000000000000001001502000000010a3\
    132372e302e302e31000072750000";
const PRODUCED_12_LEADERLESS: &str = "00000040000000010002076333642d633302000000000006ffffffffff\
    ffffffffffffffffffffffffffffffffffffff0100010009ffffffff0000000200000000000000";
const PRODUCED_12_DUPLICATE: &str = "000000350000000100020763336c2d63320200000000000000000000000\
    00005000001a20036ab520000000000000000010000000000000000";
const PRODUCED_13: &str = "0000003e00000001000211af12c8f4d04d16aa09f4ea191836ee02000000000000000\
    0000000000001ffffffffffffffff0000000000000000010000000000000000";

fn row(topic: TopicRef<'_>, code: i16) -> ProduceRow<'_> {
    ProduceRow {
        topic,
        partition: 0,
        error: ErrorCode(code),
        base_offset: None,
        log_append_time_ms: None,
        log_start_offset: None,
        record_errors: Vec::new(),
        message: None,
        leader: None,
    }
}

#[rstest]
#[case(7, TopicRef::Name("p34-f2-v7"), PRODUCED_7)]
#[case(13, TopicRef::Id(TOPIC_ID), PRODUCED_13)]
fn a_produced_batch_is_read(
    #[case] version: i16,
    #[case] topic: TopicRef<'_>,
    #[case] captured: &str,
) {
    let frame = answer(captured);
    let answer = produce_response::decode(version, &frame).expect("a good answer");
    let expected = ProduceRow {
        base_offset: Some(1),
        log_start_offset: Some(0),
        ..row(topic, 0)
    };
    assert_eq!(answer.rows, [expected]);
    assert_eq!((answer.throttle_ms, answer.endpoints), (0, vec![]));
}

#[test]
fn a_duplicate_is_read_with_its_first_offset() {
    let frame = answer(PRODUCED_12_DUPLICATE);
    let answer = produce_response::decode(12, &frame).expect("a good answer");
    assert_eq!(answer.rows[0].base_offset, Some(5));
    assert_eq!(answer.rows[0].log_append_time_ms, Some(1_795_299_912_530));
}

#[test]
fn refused_records_are_read_one_by_one() {
    let frame = answer(PRODUCED_12_ERRORS);
    let answer = produce_response::decode(12, &frame).expect("a good answer");
    let row = &answer.rows[0];
    assert_eq!(row.error, ErrorCode::INVALID_TIMESTAMP);
    let message = "One or more records have been rejected due to invalid timestamp";
    assert_eq!(row.message, Some(message));
    let [error] = row.record_errors[..] else {
        panic!("{:?}", row.record_errors)
    };
    assert_eq!(error.index, 0);
    assert!(
        error
            .message
            .is_some_and(|words| words.starts_with("Timestamp 1795307555003 of"))
    );
}

#[test]
fn a_refusal_names_the_leader_and_where_it_listens() {
    let frame = answer(PRODUCED_12_HINTS);
    let answer = produce_response::decode(12, &frame).expect("a good answer");
    let leader = Some(LeaderHint {
        leader: BrokerId(1),
        epoch: LeaderEpoch(0),
    });
    let refused = |name| ProduceRow {
        leader,
        ..row(TopicRef::Name(name), 6)
    };
    let unknown = row(TopicRef::Name("nope"), 3);
    assert_eq!(answer.rows, [refused("c3f-c1"), refused("c3u-c1"), unknown]);
    let endpoint = BrokerEndpoint {
        id: BrokerId(1),
        host: "127.0.0.1".into(),
        port: 29301,
    };
    assert_eq!(answer.endpoints, [endpoint]);
}

#[test]
fn a_refusal_without_a_leader_names_none() {
    let frame = answer(PRODUCED_12_LEADERLESS);
    let answer = produce_response::decode(12, &frame).expect("a good answer");
    assert_eq!(answer.rows, [row(TopicRef::Name("c3d-c3"), 6)]);
}

const VERSIONS_35: &str = "000000100000004d002300000001001200000004";
const METADATA_4: &str = "000000410000000100000000000000010000000100093132372e302e302e31000071a4\
    ffff00164d6b55334f4556424e5463774e544a454e444d3251670000000100000000";
const METADATA_9: &str = "0000009c00000001000000000002000000010a3132372e302e302e31000071a4000017\
    4d6b55334f4556424e5463774e544a454e444d32516700000001020000066d642d66330004000000000000000000\
    01000000000200000001020000000101000000000000010000000100000000020000000102000000010100000000\
    000002000000010000000002000000010200000001010080000000008000000000";
const METADATA_13: &str = "000000aa00000001000000000002000000010a3132372e302e302e31000071a400001\
    74d6b55334f4556424e5463774e544a454e444d32516700000001020000066d642d66338f6b5feb275f4390a5bd1\
    dc4b7aa815b000400000000000000000001000000000200000001020000000101000000000000010000000100000\
    00002000000010200000001010000000000000200000001000000000200000001020000000101008000000000000\
    000";
const METADATA_13_LEADERLESS: &str = "0000007f00000001000000000002000000010a3132372e302e302e3100\
    0072750000174d6b55334f4556424e5463774e544a454e444d32516700000001020000076333642d6333611a2144\
    2ba44dacb47841191a6181000002000500000000ffffffff00000002030000000200000003010300000002000000\
    03008000000000000000";
const PRODUCER_ID_0: &str = "000000140000000100000000000000000000000000840000";
const PRODUCER_ID_5: &str = "0000001600000001000000000000000000000000000089000000";

#[test]
fn an_unknown_version_is_answered_in_the_oldest_layout() {
    let answer = control::api_versions_answer(4, &answer(VERSIONS_35)).expect("a good answer");
    assert_eq!(answer.error, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(
        super::highest_common(Api::ApiVersions, &answer.ranges),
        Some(4)
    );
    assert_eq!(answer.ranges.len(), 1);
}

#[rstest]
#[case::v4_no_topics(4, METADATA_4, None, 29092)]
#[case::v9(9, METADATA_9, Some((0, Some(1), Some(0))), 29092)]
#[case::v13(13, METADATA_13, Some((0, Some(1), Some(0))), 29092)]
#[case::v13_leaderless(13, METADATA_13_LEADERLESS, Some((0, None, Some(2))), 29301)]
fn metadata_is_read(
    #[case] version: i16,
    #[case] captured: &str,
    #[case] first: Option<(i32, Option<i32>, Option<i32>)>,
    #[case] port: u16,
) {
    let answer = control::metadata_answer(version, &answer(captured)).expect("a good answer");
    let broker = BrokerEndpoint {
        id: BrokerId(1),
        host: "127.0.0.1".into(),
        port,
    };
    assert_eq!(answer.brokers, [broker]);
    assert!(answer.racks.is_empty(), "the captured broker had none");
    let expected = first.map(|(index, leader, epoch)| PartitionAnswer {
        index,
        leader: leader.map(BrokerId),
        epoch: epoch.map(LeaderEpoch),
        // The partition without a leader had lost both that kept it.
        replicas: match leader {
            Some(only) => Replicas {
                all: vec![BrokerId(only)],
                in_sync: vec![BrokerId(only)],
                offline: Vec::new(),
            },
            None => Replicas {
                all: vec![BrokerId(2), BrokerId(3)],
                in_sync: Vec::new(),
                offline: vec![BrokerId(2), BrokerId(3)],
            },
        },
    });
    let topic = answer.topics.first();
    assert_eq!(
        topic.and_then(|topic| topic.partitions.first().cloned()),
        expected
    );
    let named = topic.is_some_and(|topic| topic.id != TopicId::ZERO);
    assert_eq!(named, version >= 10, "ids come with v10");
}

#[rstest]
#[case(0, PRODUCER_ID_0, 132)]
#[case(5, PRODUCER_ID_5, 137)]
fn a_producer_id_is_read(#[case] version: i16, #[case] captured: &str, #[case] id: i64) {
    let answer =
        control::init_producer_id_answer(version, &answer(captured)).expect("a good answer");
    assert_eq!(
        (answer.id, answer.epoch),
        (ProducerId(id), ProducerEpoch(0))
    );
}

/// The shortest frame that claims 2³²−2 brokers; a reader that trusts it reserves all memory.
#[test]
fn a_count_that_the_frame_cannot_hold_is_refused_before_memory_is_reserved() {
    let frame = Bytes::from_static(b"\0\0\0\x01\0\0\0\0\0\xff\xff\xff\xff\x0f\0\0");
    let error = control::metadata_answer(12, &frame).expect_err("no such frame");
    assert!(
        error
            .to_string()
            .starts_with("array has the impossible length"),
        "{error}"
    );
}

fn decode_all(version: i16, frame: &Bytes) {
    let _ = produce_response::decode(version, frame);
    let _ = control::metadata_answer(version, frame);
    let _ = control::api_versions_answer(version.min(4), frame);
    let _ = control::init_producer_id_answer(version.min(5), frame);
    let _ = super::frame::correlation_id(frame);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        version in 3_i16..=13,
    ) {
        decode_all(version, &Bytes::from(bytes));
    }

    /// Frames that are nearly right reach further into the decoders than noise does.
    #[test]
    fn no_damage_to_a_good_frame_makes_a_decoder_panic(
        which in 0_usize..8,
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        version in 3_i16..=13,
    ) {
        let captured = [
            PRODUCED_7, PRODUCED_12_ERRORS, PRODUCED_12_HINTS, PRODUCED_13,
            METADATA_9, METADATA_13, VERSIONS_35, PRODUCER_ID_5,
        ];
        let mut frame = answer(captured[which]).to_vec();
        let place = place.index(frame.len());
        frame[place] = byte;
        decode_all(version, &Bytes::from(frame.clone()));
        frame.truncate(cut.index(frame.len()));
        decode_all(version, &Bytes::from(frame));
    }

    #[test]
    fn the_budget_of_a_request_covers_its_bytes(
        version in 3_i16..=13,
        names in proptest::collection::vec("[a-z]{1,40}", 1..6),
        partitions in 1_i32..4,
    ) {
        let request = header(Api::Produce, version);
        let header = ProduceHeader {
            request, transactional_id: None, acks: Acks::All, timeout_ms: 1
        };
        let records = batch(0, None);
        let mut budget = FrameBudget::new("probe", None);
        let mut batches = Vec::new();
        for name in &names {
            for partition in 0..partitions {
                let topic = match version {
                    13 => TopicRef::Id(TOPIC_ID),
                    _ => TopicRef::Name(name),
                };
                budget = budget.with(name, records.len());
                batches.push(PartitionBatch { topic, partition, records: records.clone() });
            }
        }
        let frame = produce_request::encode(&header, &batches).concat();
        prop_assert!(budget.bytes() >= frame.len(), "{} < {}", budget.bytes(), frame.len());
        let size = i32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
        prop_assert_eq!(usize::try_from(size).expect("positive") + 4, frame.len());
    }
}
