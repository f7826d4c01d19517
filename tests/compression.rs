//! Compression end to end: what the producer's codecs write, the mock broker's readers read, and a
//! fetching client gets back.

use bytes::Bytes;

use kafka_mockbroker::wire::compression::{Undecodable, decompress};
use kafka_mockbroker::{CompressionType as Mocks, MockCluster};
use kafka_producer::wire::compression::{Codec, Compressor};
use kafka_producer::wire::record_batch::HEADER_BYTES;
use kafka_producer::{CompressionType, Producer, Record};
use proptest::prelude::*;
use rstest::rstest;

fn mocks(compression: CompressionType) -> Mocks {
    match compression {
        CompressionType::None => Mocks::Uncompressed,
        CompressionType::Gzip => Mocks::Gzip,
        CompressionType::Snappy => Mocks::Snappy,
        CompressionType::Lz4 => Mocks::Lz4,
        CompressionType::Zstd => Mocks::Zstd,
    }
}

/// What the mock reads of a batch that the producer compressed.
fn read_back(codec: Codec, records: &[u8]) -> Result<Vec<u8>, Undecodable> {
    let mut plain = vec![0; HEADER_BYTES];
    plain.extend_from_slice(records);
    let batch = Compressor::new(codec).compress(plain.into());
    let payload = Bytes::copy_from_slice(&batch.buffer[HEADER_BYTES..]);
    Ok(decompress(mocks(batch.compression), &payload)?.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_mock_reads_what_the_producer_compresses(
        records in proptest::collection::vec(0_u8..30, 1..4_000),
        times in 1_usize..50,
        which in 1_usize..5,
        level in 1_i32..10,
    ) {
        let compression = CompressionType::ALL[which];
        let records = records.repeat(times);
        prop_assert_eq!(read_back(Codec { compression, level }, &records), Ok(records));
    }
}

#[rstest]
#[case::lowest(-131_072)]
#[case::below_zero(-5)]
#[case::zero(0)]
#[case::default(3)]
#[case::lazy(7)]
#[case::optimal(16)]
#[case::highest(22)]
fn every_level_of_zstd_is_read(#[case] level: i32) {
    let lines = (0..9_000).map(|n| format!("{n}: {} apples for customer {};", n * 7, n % 50));
    let records = lines.collect::<String>().into_bytes();
    let compression = CompressionType::Zstd;
    let back = read_back(Codec { compression, level }, &records);
    assert_eq!(back, Ok(records));
}

#[rstest]
#[case(CompressionType::None)]
#[case(CompressionType::Gzip)]
#[case(CompressionType::Snappy)]
#[case(CompressionType::Lz4)]
#[case(CompressionType::Zstd)]
#[tokio::test]
async fn compressed_records_are_stored_once_and_in_order(#[case] compression: CompressionType) {
    let cluster = MockCluster::builder()
        .brokers(3)
        .topic("orders", 3, 3)
        .start()
        .expect("a cluster");
    let producer = Producer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .compression_type(compression)
        .build()
        .expect("a producer");
    let value = |number: usize| format!("{number}: three apples and three pears");
    let mut deliveries = Vec::new();
    for number in 0..9_000 {
        let partition = i32::try_from(number % 3).expect("small");
        let text = value(number);
        let record = Record::to("orders").partition(partition).value(&text);
        deliveries.push(producer.send(record).await.expect("accepted"));
    }
    producer.flush().await.expect("all written");
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let written = delivery.await.expect("written");
        assert_eq!(
            written.offset,
            Some(i64::try_from(number / 3).expect("small"))
        );
    }
    for partition in 0..3_usize {
        let number = i32::try_from(partition).expect("small");
        let stored = cluster.records("orders", number);
        let expected = (partition..9_000).step_by(3).map(value);
        let found = stored.iter().map(|record| {
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
        });
        assert!(found.eq(expected), "partition {partition}");
    }
    producer.close().await.expect("closed");
}

#[rstest]
#[case(CompressionType::None)]
#[case(CompressionType::Snappy)]
#[case(CompressionType::Zstd)]
#[tokio::test]
async fn batches_larger_than_the_topic_takes_are_split(#[case] compression: CompressionType) {
    let cluster = MockCluster::builder()
        .set("message.max.bytes", "2000")
        .topic("orders", 1, 1)
        .start()
        .expect("a cluster");
    let producer = Producer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .compression_type(compression)
        .build()
        .expect("a producer");
    let mut random = fastrand::Rng::with_seed(7);
    let mut deliveries = Vec::new();
    for number in 0..300_u32 {
        let noise = std::iter::repeat_with(|| random.alphanumeric()).take(90);
        let text = format!("{number} {}", noise.collect::<String>());
        let record = Record::to("orders").partition(0).value(&text);
        deliveries.push(producer.send(record).await.expect("accepted"));
    }
    for (number, delivery) in (0..).zip(deliveries) {
        assert_eq!(delivery.await.expect("written").offset, Some(number));
    }
    let numbers = cluster.records("orders", 0).into_iter().map(|record| {
        let value = record.value.unwrap_or_default();
        let text = String::from_utf8_lossy(&value).into_owned();
        text.split(' ').next().map(str::to_owned)
    });
    assert!(numbers.eq((0..300).map(|number| Some(number.to_string()))));
    let large = Record::to("orders").partition(0).value(&[b'x'; 3_000][..]);
    let error = producer.deliver(large).await;
    match compression {
        CompressionType::None => {
            let error = error.expect_err("no broker takes it").to_string();
            assert!(error.contains("a batch of 3070 bytes"), "{error}");
        }
        // It is small enough when it is compressed.
        _ => assert!(error.is_ok(), "{error:?}"),
    }
    producer.close().await.expect("closed");
}
